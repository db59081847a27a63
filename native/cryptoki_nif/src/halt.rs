//! Tells us of a halt of the VM, on OTP 26 and newer.

use cryptoki_ffi::exit::{PATIENCE, close_all_for_exit};
use std::ffi::{c_int, c_void};

/// `ERL_NIF_OPT_ON_HALT` of OTP 26 and newer.
const ON_HALT: c_int = 2;

type OnHalt = extern "C" fn(*mut c_void);
type SetOption = unsafe extern "C" fn(*mut c_void, c_int, ...) -> c_int;

extern "C" fn on_halt(_private: *mut c_void) {
    close_all_for_exit(PATIENCE);
}

/// Asks the VM to tell us of a halt, where it can.
pub fn hook(env: rustler::Env) {
    // SAFETY: looks a name up among what is loaded.
    let symbol = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"enif_set_option".as_ptr()) };
    if symbol.is_null() {
        return;
    }
    // SAFETY: the VM exports the function with this type since OTP 26.
    let set_option = unsafe { std::mem::transmute::<*mut c_void, SetOption>(symbol) };
    // SAFETY: called while the library loads, with its environment and a function that stays.
    unsafe { set_option(env.as_c_arg().cast(), ON_HALT, on_halt as OnHalt) };
}
