//! Keys that are made, wrapped, unwrapped, derived and encapsulated (section 5.18).

use super::{Reader, Run, run};
use rustler::{Encoder, Term};

pub(super) fn decode(operation: &str, arguments: &[Term], read: &mut Reader) -> Option<Run> {
    match (operation, arguments) {
        ("generate_key", &[m, template]) => {
            let (mechanism, template) = (read.mechanism(m)?, read.template(template)?);
            run(move |at| {
                at.call(|functions, session| functions.generate_key(session, &mechanism, &template))
                    .map(|key| at.made(key, &template))
            })
        }
        ("generate_beside", &[m, template]) => {
            let (mechanism, template) = (read.mechanism(m)?, read.template(template)?);
            run(move |at| {
                let made = at.call(|functions, session| {
                    functions.generate_beside(session, &mechanism, &template)
                })?;
                Ok(at.made_beside(made, &template))
            })
        }
        ("generate_key_pair", &[m, public, private]) => {
            let mechanism = read.mechanism(m)?;
            let (public, private) = (read.template(public)?, read.template(private)?);
            run(move |at| {
                let (public_key, private_key) = at.call(|functions, session| {
                    functions.generate_key_pair(session, &mechanism, &public, &private)
                })?;
                Ok((at.made(public_key, &public), at.made(private_key, &private)).encode(at.env))
            })
        }
        ("wrap_key", &[m, wrapping, key]) => {
            let mechanism = read.mechanism(m)?;
            let (wrapping, key) = (read.object(wrapping)?, read.object(key)?);
            run(move |at| {
                let (wrapped, own_iv) = at.call(|functions, session| {
                    functions.wrap_key(session, &mechanism, wrapping, key)
                })?;
                Ok(at.wrapped(&wrapped, own_iv))
            })
        }
        ("unwrap_key", &[m, unwrapping, wrapped, template]) => {
            let (mechanism, unwrapping) = (read.mechanism(m)?, read.object(unwrapping)?);
            let (wrapped, template) = (read.input(wrapped)?, read.template(template)?);
            run(move |at| {
                let wrapped = wrapped.bytes(at)?;
                at.call(|functions, session| {
                    functions.unwrap_key(session, &mechanism, unwrapping, &wrapped, &template)
                })
                .map(|key| at.made(key, &template))
            })
        }
        ("wrap_key_authenticated", &[m, wrapping, key, associated]) => {
            let (mechanism, associated) = (read.mechanism(m)?, read.input(associated)?);
            let (wrapping, key) = (read.object(wrapping)?, read.object(key)?);
            run(move |at| {
                let associated = associated.bytes(at)?;
                let (wrapped, own_iv) = at.call(|functions, session| {
                    functions.wrap_key_authenticated(
                        session,
                        &mechanism,
                        wrapping,
                        key,
                        &associated,
                    )
                })?;
                Ok(at.wrapped(&wrapped, own_iv))
            })
        }
        ("unwrap_key_authenticated", &[m, unwrapping, wrapped, associated, template]) => {
            let (mechanism, unwrapping) = (read.mechanism(m)?, read.object(unwrapping)?);
            let (wrapped, associated) = (read.input(wrapped)?, read.input(associated)?);
            let template = read.template(template)?;
            run(move |at| {
                let (wrapped, associated) = (wrapped.bytes(at)?, associated.bytes(at)?);
                at.call(|functions, session| {
                    functions.unwrap_key_authenticated(
                        session,
                        &mechanism,
                        unwrapping,
                        &wrapped,
                        &associated,
                        &template,
                    )
                })
                .map(|key| at.made(key, &template))
            })
        }
        ("derive_beside", &[m, base, template]) => {
            let (mechanism, base) = (read.mechanism(m)?, read.object(base)?);
            let template = read.template(template)?;
            run(move |at| {
                let made = at.call(|functions, session| {
                    functions.derive_beside(session, &mechanism, base, &template)
                })?;
                Ok(at.made_beside(made, &template))
            })
        }
        ("derive_key", &[m, base, template]) => {
            let (mechanism, base) = (read.mechanism(m)?, read.object(base)?);
            let template = read.template(template)?;
            run(move |at| {
                at.call(|functions, session| {
                    functions.derive_key(session, &mechanism, base, &template)
                })
                .map(|key| at.made(key, &template))
            })
        }
        ("encapsulate_key", &[m, public, template]) => {
            let (mechanism, public) = (read.mechanism(m)?, read.object(public)?);
            let template = read.template(template)?;
            run(move |at| {
                let (ciphertext, key) = at.call(|functions, session| {
                    functions.encapsulate_key(session, &mechanism, public, &template)
                })?;
                Ok((at.binary(&ciphertext), at.made(key, &template)).encode(at.env))
            })
        }
        ("decapsulate_key", &[m, private, ciphertext, template]) => {
            let (mechanism, private) = (read.mechanism(m)?, read.object(private)?);
            let (ciphertext, template) = (read.input(ciphertext)?, read.template(template)?);
            run(move |at| {
                let ciphertext = ciphertext.bytes(at)?;
                at.call(|functions, session| {
                    functions.decapsulate_key(session, &mechanism, private, &ciphertext, &template)
                })
                .map(|key| at.made(key, &template))
            })
        }
        _ => None,
    }
}
