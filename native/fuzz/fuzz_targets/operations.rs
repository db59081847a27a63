//! Operations and jobs are read from terms of any shape: into what can be laid out for C, or not at all.
#![no_main]

use arbitrary::Arbitrary;
use cryptoki_engine::control::jobs::Job;
use cryptoki_engine::operation::operation::Operation;
use cryptoki_engine::operation::read::Term;
use cryptoki_engine::operation::words::Word;
use cryptoki_ffi::layout::{MechanismMemory, TemplateMemory};
use cryptoki_ffi::values::Data;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Any {
    Word(u8),
    Number(u64),
    Data(Vec<u8>),
    Tuple(Vec<Any>),
    List(Vec<Any>),
}

impl Term for &Any {
    fn word(self) -> Option<Word> {
        let Any::Word(number) = self else { return None };
        Word::ALL.get(usize::from(*number)).copied()
    }

    fn number(self) -> Option<u64> {
        let Any::Number(number) = self else { return None };
        Some(*number)
    }

    fn data(self) -> Option<Data> {
        let Any::Data(bytes) = self else { return None };
        Some(Data::copied(bytes))
    }

    fn elements(self) -> Option<Vec<Self>> {
        let Any::Tuple(elements) = self else { return None };
        Some(elements.iter().collect())
    }

    fn items(self) -> Option<Vec<Self>> {
        let Any::List(items) = self else { return None };
        Some(items.iter().collect())
    }
}

fuzz_target!(|term: Any| {
    drop(Job::read(&term));
    let Some(operation) = Operation::read(&term) else {
        return;
    };
    let handles = operation.handles();
    match &operation {
        Operation::sign { mechanism, key, .. } => {
            assert!(MechanismMemory::new(mechanism).is_ok());
            assert!(key.is_none_or(|key| handles.contains(&key)));
        }
        Operation::create { template } => assert!(TemplateMemory::new(template).is_ok()),
        _ => {}
    }
});
