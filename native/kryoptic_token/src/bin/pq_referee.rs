//! ML-DSA, SLH-DSA and ML-KEM without a line of the token's code, to judge what the token does.
//!
//! All arguments but the first two are files:
//!
//! ```text
//! pq_referee ml-dsa-65          keygen SEED PUBLIC PRIVATE
//! pq_referee ml-dsa-65          sign SEED MESSAGE SIGNATURE       deterministic
//! pq_referee slh-dsa-sha2-128f  sign PRIVATE MESSAGE SIGNATURE    deterministic
//! pq_referee ml-dsa-65          verify PUBLIC MESSAGE SIGNATURE   status 0 or 1
//! pq_referee ml-kem-768         keygen SEED PUBLIC PRIVATE
//! pq_referee ml-kem-768         encapsulate PUBLIC CIPHERTEXT SECRET
//! pq_referee ml-kem-768         decapsulate SEED CIPHERTEXT SECRET
//! ```
//!
//! MESSAGE is M' of FIPS 204 and FIPS 205: with the context, and the hash if there is one, in front.

use ml_dsa::{EncodedVerifyingKey, MlDsaParams};
use ml_kem::kem::{Decapsulate, Encapsulate, KeyExport, TryKeyInit};
use std::{env, fs, process::ExitCode};

// The bounds of a generic function would be private types of the crate.
macro_rules! ml_kem {
    ($set:ident, $command:expr, $files:expr) => {{
        let [first, second, third] = $files;
        let first = fs::read(first)?;
        match $command {
            "keygen" => {
                let key = ml_kem::$set::DecapsulationKey::from_seed(first.as_slice().try_into()?);
                fs::write(second, key.encapsulation_key().to_bytes())?;
                #[allow(deprecated)]
                let private = ml_kem::ExpandedKeyEncoding::to_expanded_bytes(&key);
                fs::write(third, private)?;
            }
            "encapsulate" => {
                let key = ml_kem::$set::EncapsulationKey::new_from_slice(&first)?;
                let (ciphertext, secret) = key.encapsulate();
                fs::write(second, ciphertext)?;
                fs::write(third, secret)?;
            }
            "decapsulate" => {
                let key = ml_kem::$set::DecapsulationKey::from_seed(first.as_slice().try_into()?);
                let secret = key.decapsulate(fs::read(second)?.as_slice().try_into()?);
                fs::write(third, secret)?;
            }
            _ => return Err("keygen, encapsulate or decapsulate".into()),
        }
        Ok(true)
    }};
}

type Outcome = Result<bool, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [set, command, files @ ..] = arguments.as_slice() else {
        eprintln!("pq_referee SET COMMAND FILE...");
        return ExitCode::from(2);
    };
    match run(set, command, files) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("pq_referee {set} {command}: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(set: &str, command: &str, files: &[String]) -> Outcome {
    let [first, second, third] = files else {
        return Err("three files, please".into());
    };
    let files = [first.as_str(), second, third];
    match set {
        "ml-dsa-44" => ml_dsa::<ml_dsa::MlDsa44>(command, files),
        "ml-dsa-65" => ml_dsa::<ml_dsa::MlDsa65>(command, files),
        "ml-dsa-87" => ml_dsa::<ml_dsa::MlDsa87>(command, files),
        "ml-kem-512" => ml_kem!(ml_kem_512, command, files),
        "ml-kem-768" => ml_kem!(ml_kem_768, command, files),
        "ml-kem-1024" => ml_kem!(ml_kem_1024, command, files),
        "slh-dsa-sha2-128s" => slh_dsa::<slh_dsa::Sha2_128s>(command, files),
        "slh-dsa-sha2-128f" => slh_dsa::<slh_dsa::Sha2_128f>(command, files),
        "slh-dsa-sha2-192s" => slh_dsa::<slh_dsa::Sha2_192s>(command, files),
        "slh-dsa-sha2-192f" => slh_dsa::<slh_dsa::Sha2_192f>(command, files),
        "slh-dsa-sha2-256s" => slh_dsa::<slh_dsa::Sha2_256s>(command, files),
        "slh-dsa-sha2-256f" => slh_dsa::<slh_dsa::Sha2_256f>(command, files),
        "slh-dsa-shake-128s" => slh_dsa::<slh_dsa::Shake128s>(command, files),
        "slh-dsa-shake-128f" => slh_dsa::<slh_dsa::Shake128f>(command, files),
        "slh-dsa-shake-192s" => slh_dsa::<slh_dsa::Shake192s>(command, files),
        "slh-dsa-shake-192f" => slh_dsa::<slh_dsa::Shake192f>(command, files),
        "slh-dsa-shake-256s" => slh_dsa::<slh_dsa::Shake256s>(command, files),
        "slh-dsa-shake-256f" => slh_dsa::<slh_dsa::Shake256f>(command, files),
        _ => Err("no such parameter set".into()),
    }
}

fn ml_dsa<P: MlDsaParams>(command: &str, [first, second, third]: [&str; 3]) -> Outcome {
    let first = fs::read(first)?;
    match command {
        "keygen" => {
            let key = ml_dsa::SigningKey::<P>::from_seed(&first.as_slice().try_into()?);
            let public = key.expanded_key().verifying_key().encode();
            #[allow(deprecated)]
            let private = key.expanded_key().to_expanded();
            fs::write(second, &public[..])?;
            fs::write(third, &private[..])?;
            Ok(true)
        }
        "sign" => {
            let key = ml_dsa::SigningKey::<P>::from_seed(&first.as_slice().try_into()?);
            let message = fs::read(second)?;
            let signature = key
                .expanded_key()
                .sign_internal(&[&message], &[0; 32].into());
            fs::write(third, &signature.encode()[..])?;
            Ok(true)
        }
        "verify" => {
            let encoded: EncodedVerifyingKey<P> = first.as_slice().try_into()?;
            let key = ml_dsa::VerifyingKey::<P>::decode(&encoded);
            let message = fs::read(second)?;
            let Ok(signature) = ml_dsa::Signature::<P>::try_from(fs::read(third)?.as_slice())
            else {
                return Ok(false);
            };
            Ok(key.verify_internal(&message, &signature))
        }
        _ => Err("keygen, sign or verify".into()),
    }
}

fn slh_dsa<P: slh_dsa::ParameterSet>(command: &str, [first, second, third]: [&str; 3]) -> Outcome {
    let first = fs::read(first)?;
    let message = fs::read(second)?;
    match command {
        "sign" => {
            let key = slh_dsa::SigningKey::<P>::try_from(first.as_slice())?;
            let signature = key.slh_sign_internal(&[&message], None);
            fs::write(third, signature.to_vec())?;
            Ok(true)
        }
        "verify" => {
            let key = slh_dsa::VerifyingKey::<P>::try_from(first.as_slice())?;
            let Ok(signature) = slh_dsa::Signature::<P>::try_from(fs::read(third)?.as_slice())
            else {
                return Ok(false);
            };
            Ok(key.slh_verify_internal(&[&message], &signature).is_ok())
        }
        _ => Err("sign or verify".into()),
    }
}
