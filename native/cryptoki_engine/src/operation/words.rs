//! The words that a term is read by: the names of operations, and what stands in their arguments. Whoever has terms
//! compares them with its own form of a word, an atom, and never with text.

use crate::operation::table::operations;

macro_rules! words {
    ($($name:ident ( $($rest:tt)* ) $class:ident [ $($function:ident)* ] |$at:ident| $call:expr;)*) => {
        enumerate! {
            $($name)*
            // Kinds of operations that are no names of operations themselves.
            message_sign message_verify message_encrypt message_decrypt
            // Members of structures, and values of attributes.
            ulong byte bool bytes inout inline struct_ nested array handle new_handle template ulongs
            // Two operations at once.
            digest_encrypt decrypt_digest sign_encrypt decrypt_verify
            nil true_ false_ protected
            // Jobs of a library's control thread.
            library_info slots token_info mechanisms mechanism_info init_token init_pin set_pin poll events reinitialize
            // States of an instance.
            absent locked ready shutdown
        }
    };
}

macro_rules! enumerate {
    ($($name:ident)*) => {
        /// A word. What Rust keeps for itself ends with an underscore, which is no part of the word.
        #[allow(non_camel_case_types, missing_docs)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Word { $($name),* }

        impl Word {
            /// All of them, in the order of their numbers.
            pub const ALL: &[Word] = &[$(Word::$name),*];

            /// Its text.
            pub fn text(self) -> &'static str {
                let text = match self { $(Word::$name => stringify!($name)),* };
                text.trim_end_matches('_')
            }
        }
    };
}

operations!(words);
