//! Signing, verifying, encrypting, decrypting, digesting, random numbers (sections 5.8 to 5.16, 5.19).

use super::{At, Crypto, Reader, Run, raw_rsa, run};
use crate::decode::{begun, is_nil, kind, name};
use cryptoki_ffi::combined::Dual;
use cryptoki_ffi::crypto::Kind;
use cryptoki_ffi::failure::Result;
use cryptoki_ffi::layout::MechanismMemory;
use cryptoki_ffi::otp;
use rustler::{Encoder, Term};

mod atoms {
    rustler::atoms! { own_iv }
}

pub(super) fn decode(operation: &str, arguments: &[Term], read: &mut Reader) -> Option<Run> {
    match (operation, arguments) {
        (
            "sign" | "encrypt" | "decrypt" | "sign_recover" | "verify_recover",
            &[m, key, data, pin],
        ) => {
            let (crypto, data) = (
                read.crypto(kind(operation)?, m, key, pin)?,
                read.input(data)?,
            );
            run(move |at| {
                let data = data.bytes(at)?;
                raw_rsa::check(at, &crypto, data.len())?;
                let mechanism = begin(at, &crypto)?;
                let bytes = at.call(|functions, session| {
                    functions.single(crypto.kind, crypto.mechanism.kind, session, &data)
                })?;
                let result = at.result(crypto.kind, bytes);
                Ok(at.with_own_iv(crypto.kind, result, Some(mechanism)))
            })
        }
        // What comes back is a structure with pointers, and is read where it lies.
        ("sign_otp", &[m, key, data, pin]) => {
            let (crypto, data) = (read.crypto(Kind::Sign, m, key, pin)?, read.input(data)?);
            run(move |at| {
                let data = data.bytes(at)?;
                let _until_over = begin(at, &crypto)?;
                let parameters = at.call(|functions, session| {
                    let answer =
                        functions.single(crypto.kind, crypto.mechanism.kind, session, &data)?;
                    otp::parameters(&answer)
                })?;
                let parameters: Vec<_> = parameters
                    .iter()
                    .map(|(kind, bytes)| (*kind, at.binary(bytes)))
                    .collect();
                Ok(parameters.encode(at.env))
            })
        }
        ("digest", &[m, data]) => {
            let (mechanism, data) = (read.mechanism(m)?, read.input(data)?);
            let crypto = Crypto {
                kind: Kind::Digest,
                mechanism,
                key: 0,
                login: None,
            };
            run(move |at| {
                let data = data.bytes(at)?;
                let _until_over = begin(at, &crypto)?;
                at.call(|functions, session| {
                    functions.single(crypto.kind, crypto.mechanism.kind, session, &data)
                })
                .map(|bytes| at.binary(&bytes))
            })
        }
        ("verify", &[m, key, data, signature, pin]) => {
            let crypto = read.crypto(Kind::Verify, m, key, pin)?;
            let (data, signature) = (read.input(data)?, read.input(signature)?);
            run(move |at| {
                let (data, signature) = (data.bytes(at)?, signature.bytes(at)?);
                raw_rsa::check(at, &crypto, data.len())?;
                let _until_over = begin(at, &crypto)?;
                at.call(|functions, session| functions.verify(session, &data, &signature))?;
                Ok(at.ok())
            })
        }
        // C_VerifySignature (3.2): the signature comes first, the data after it.
        ("verify_signature", &[m, key, data, signature, pin]) => {
            let crypto = read.crypto(Kind::VerifySignature, m, key, pin)?;
            let (data, signature) = (read.input(data)?, read.input(signature)?);
            run(move |at| {
                let (data, signature) = (data.bytes(at)?, signature.bytes(at)?);
                raw_rsa::check(at, &crypto, data.len())?;
                let _until_over = begin_with_signature(at, &crypto, &signature)?;
                at.call(|functions, session| functions.verify_signature(session, &data))?;
                Ok(at.ok())
            })
        }
        ("verify_signature_init", &[of, m, key, signature, pin]) => {
            let begun = begun(of)?;
            let crypto = read.crypto(begun.kind, m, key, pin)?;
            let signature = read.input(signature)?;
            run(move |at| {
                let signature = signature.bytes(at)?;
                let limit = raw_rsa::limit(at, &crypto)?;
                let mechanism = begin_with_signature(at, &crypto, &signature)?;
                at.session.active.began(begun, crypto.mechanism.kind);
                at.session.active.keep(crypto.kind, mechanism);
                at.session.active.limit(crypto.kind, limit);
                Ok(at.ok())
            })
        }
        ("init", &[of, m, key, pin]) => {
            let begun = begun(of)?;
            let crypto = read.crypto(begun.kind, m, key, pin)?;
            run(move |at| {
                let limit = raw_rsa::limit(at, &crypto)?;
                let mechanism = begin(at, &crypto)?;
                let own_iv = crypto.kind == Kind::Encrypt && mechanism.rewritten().is_some();
                at.session.active.began(begun, crypto.mechanism.kind);
                at.session.active.keep(crypto.kind, mechanism);
                at.session.active.limit(crypto.kind, limit);
                Ok(if own_iv {
                    atoms::own_iv().encode(at.env)
                } else {
                    at.ok()
                })
            })
        }
        ("update", &[of, data]) => {
            let (begun, data) = (begun(of)?, read.input(data)?);
            let kind = begun.kind;
            run(move |at| {
                let data = data.bytes(at)?;
                raw_rsa::part(at, &[begun], data.len())?;
                match at.step(&[begun], |functions, session| {
                    functions.update(kind, session, &data)
                })? {
                    None => Ok(at.ok()),
                    Some(bytes) => {
                        at.session.active.passed(data.len(), bytes.len());
                        Ok(at.result(kind, bytes))
                    }
                }
            })
        }
        ("digest_key", &[of, key]) => {
            let (begun, key) = (begun(of)?, read.object(key)?);
            run(move |at| {
                at.step(&[begun], |functions, session| {
                    functions.digest_key(session, key)
                })?;
                Ok(at.ok())
            })
        }
        ("dual_update", &[of, first, second, data]) => {
            let (dual, data) = (dual(&name(of)?)?, read.input(data)?);
            let (steps, kinds) = ([begun(first)?, begun(second)?], dual.kinds());
            run(move |at| {
                let data = data.bytes(at)?;
                raw_rsa::part(at, &steps, data.len())?;
                let bytes = at.step(&steps, |functions, session| {
                    functions.dual_update(dual, session, &data)
                })?;
                at.session.active.passed(data.len(), bytes.len());
                Ok(at.result(kinds[0], bytes))
            })
        }
        ("final", &[of, signature]) => {
            let (begun, signature) = (begun(of)?, read.optional_input(signature)?);
            let kind = begun.kind;
            run(move |at| {
                let held = at.session.active.end(begun)?;
                let until_over = at.session.active.mechanism(kind);
                match &signature {
                    None if kind == Kind::VerifySignature => {
                        at.call(|functions, session| functions.verify_signature_final(session))?;
                        Ok(at.ok())
                    }
                    Some(signature) => {
                        let signature = signature.bytes(at)?;
                        at.call(|functions, session| functions.verify_final(session, &signature))?;
                        Ok(at.ok())
                    }
                    None => {
                        let mechanism = at.session.active.signs_with();
                        let bytes = at.call(|functions, session| {
                            functions.finish(kind, mechanism, session, held)
                        })?;
                        let result = at.result(kind, bytes);
                        Ok(at.with_own_iv(kind, result, until_over))
                    }
                }
            })
        }
        ("cancel", &[of]) => {
            let begun = begun(of)?;
            run(move |at| {
                at.session.active.expect(begun)?;
                at.session.leave(begun);
                Ok(at.ok())
            })
        }
        ("save_state", &[of]) => {
            let begun = begun(of)?;
            run(move |at| {
                at.session.active.expect(begun)?;
                let state = at.call(|functions, session| functions.operation_state(session))?;
                Ok(at.secret(state))
            })
        }
        ("restore_state", &[of, state, encryption, authentication]) => {
            let (begun, state) = (begun(of)?, read.input(state)?);
            let keys = (
                read.optional_object(encryption)?,
                read.optional_object(authentication)?,
            );
            run(move |at| {
                let state = state.bytes(at)?;
                at.call(|functions, session| {
                    functions.set_operation_state(session, &state, keys.0, keys.1)
                })?;
                at.session.active.began(begun, 0);
                Ok(at.ok())
            })
        }
        ("random", &[length]) => {
            let length = length.decode().ok()?;
            run(move |at| {
                at.call(|functions, session| functions.random(session, length))
                    .map(|bytes| at.binary(&bytes))
            })
        }
        ("seed_random", &[seed]) if !is_nil(seed) => {
            let seed = read.input(seed)?;
            run(move |at| {
                let seed = seed.bytes(at)?;
                at.call(|functions, session| functions.seed_random(session, &seed))?;
                Ok(at.ok())
            })
        }
        _ => None,
    }
}

/// Init, and the login that some keys want for every single use. The mechanism is kept until the operation is over.
fn begin(at: &mut At, crypto: &Crypto) -> Result<MechanismMemory> {
    let mechanism = at.call(|functions, session| {
        functions.init(crypto.kind, session, &crypto.mechanism, crypto.key)
    })?;
    at.log_in_for_use(crypto)?;
    Ok(mechanism)
}

/// The same for a verification that knows the signature beforehand.
fn begin_with_signature(at: &mut At, crypto: &Crypto, signature: &[u8]) -> Result<MechanismMemory> {
    let mechanism = at.call(|functions, session| {
        functions.verify_signature_init(session, &crypto.mechanism, crypto.key, signature)
    })?;
    at.log_in_for_use(crypto)?;
    Ok(mechanism)
}

fn dual(name: &str) -> Option<Dual> {
    Some(match name {
        "digest_encrypt" => Dual::DigestEncrypt,
        "decrypt_digest" => Dual::DecryptDigest,
        "sign_encrypt" => Dual::SignEncrypt,
        "decrypt_verify" => Dual::DecryptVerify,
        _ => return None,
    })
}
