//! The operations of a session, one row each, and what is made of the rows: [`super::operation`] the type, how it is
//! read, and its class in recovery; [`super::words`] the names; [`crate::calls::run`] the calls. The wire form is
//! derived with the type.
//!
//! A row: its name and arguments in the order in which they are given, whether it looks, works, makes objects or is a
//! step of an operation that a call before has begun, the functions of the standard, and what is called with them.

/// Hands the rows to a macro.
macro_rules! operations {
    ($with:ident) => {
        $with! {
            // Signing, verifying, encrypting, decrypting, digesting (sections 5.8 to 5.16).
            sign(mechanism: Mechanism, key: Key, data: Data, login: Login) works [C_SignInit C_Sign]
                |at| crypto::single(at, &Crypto { kind: Kind::Sign, mechanism, key, login }, data);
            verify(mechanism: Mechanism, key: Key, data: Data, signature: Data, login: Login) works [C_VerifyInit C_Verify]
                |at| crypto::verify(at, &Crypto { kind: Kind::Verify, mechanism, key, login }, data, signature);
            encrypt(mechanism: Mechanism, key: Key, data: Data, login: Login) works [C_EncryptInit C_Encrypt]
                |at| crypto::single(at, &Crypto { kind: Kind::Encrypt, mechanism, key, login }, data);
            decrypt(mechanism: Mechanism, key: Key, data: Data, login: Login) works [C_DecryptInit C_Decrypt]
                |at| crypto::single(at, &Crypto { kind: Kind::Decrypt, mechanism, key, login }, data);
            digest(mechanism: Mechanism, data: Data) works [C_DigestInit C_Digest]
                |at| crypto::single(at, &Crypto { kind: Kind::Digest, mechanism, key: &None, login: &Login::Without }, data);
            random(length: usize) works [C_GenerateRandom]
                |at| at.call(|functions, session| functions.random(session, *length)).map(|bytes| Answer::Bytes(bytes.into()));
            seed_random(seed: Data) works [C_SeedRandom]
                |at| at.done(|functions, session| functions.seed_random(session, seed));
            sign_recover(mechanism: Mechanism, key: Key, data: Data, login: Login) works [C_SignRecoverInit C_SignRecover]
                |at| crypto::single(at, &Crypto { kind: Kind::SignRecover, mechanism, key, login }, data);
            verify_recover(mechanism: Mechanism, key: Key, data: Data, login: Login) works [C_VerifyRecoverInit C_VerifyRecover]
                |at| crypto::single(at, &Crypto { kind: Kind::VerifyRecover, mechanism, key, login }, data);
            sign_otp(mechanism: Mechanism, key: Key, data: Data, login: Login) works [C_SignInit C_Sign]
                |at| crypto::sign_otp(at, &Crypto { kind: Kind::Sign, mechanism, key, login }, data);
            verify_signature(mechanism: Mechanism, key: Key, data: Data, signature: Data, login: Login) works
                [C_VerifySignatureInit C_VerifySignature]
                |at| crypto::verify_signature(at, &Crypto { kind: Kind::VerifySignature, mechanism, key, login }, data, signature);
            verify_signature_init(begun: Begun, mechanism: Mechanism, key: Key, signature: Data, login: Login) works
                [C_VerifySignatureInit]
                |at| crypto::init(at, *begun, &Crypto { kind: begun.kind, mechanism, key, login }, Some(signature));
            init(begun: Begun, mechanism: Mechanism, key: Key, login: Login) works
                [C_SignInit C_VerifyInit C_EncryptInit C_DecryptInit C_DigestInit
                 C_MessageSignInit C_MessageVerifyInit C_MessageEncryptInit C_MessageDecryptInit]
                |at| crypto::init(at, *begun, &Crypto { kind: begun.kind, mechanism, key, login }, None);
            update(begun: Begun, data: Data) step
                [C_SignUpdate C_VerifyUpdate C_EncryptUpdate C_DecryptUpdate C_DigestUpdate C_VerifySignatureUpdate]
                |at| crypto::update(at, *begun, data);
            digest_key(begun: Begun, key: Handle) step [C_DigestKey]
                |at| at.step(&[*begun], |functions, session| functions.digest_key(session, key.number)).map(|()| Answer::Done);
            dual_update(dual: Dual, first: Begun, second: Begun, data: Data) step
                [C_DigestEncryptUpdate C_DecryptDigestUpdate C_SignEncryptUpdate C_DecryptVerifyUpdate]
                |at| crypto::dual_update(at, *dual, [*first, *second], data);
            final_(begun: Begun, signature: Option<Data>) step
                [C_SignFinal C_VerifyFinal C_EncryptFinal C_DecryptFinal C_DigestFinal C_VerifySignatureFinal]
                |at| crypto::finish(at, *begun, signature.as_deref());
            cancel(begun: Begun) works [C_SessionCancel]
                |at| crypto::cancel(at, *begun);
            save_state(begun: Begun) step [C_GetOperationState]
                |at| crypto::save_state(at, *begun);
            restore_state(begun: Begun, state: Data, encryption: Key, authentication: Key) works [C_SetOperationState]
                |at| crypto::restore_state(at, *begun, state, *encryption, *authentication);

            // Messages (sections 5.9, 5.11, 5.14 and 5.16).
            // `extra` is the associated data of a cipher, or the signature to verify.
            message(begun: Begun, parameter: Parameter, extra: Data, data: Data) step
                [C_SignMessage C_VerifyMessage C_EncryptMessage C_DecryptMessage]
                |at| messages::message(at, *begun, parameter, extra, data);
            message_begin(begun: Begun, parameter: Parameter, associated: Data) step
                [C_SignMessageBegin C_VerifyMessageBegin C_EncryptMessageBegin C_DecryptMessageBegin]
                |at| messages::begin(at, *begun, parameter, associated);
            // The signature to verify comes with the last part.
            message_next(begun: Begun, parameter: Parameter, data: Data, last: bool, signature: Data) step
                [C_SignMessageNext C_VerifyMessageNext C_EncryptMessageNext C_DecryptMessageNext]
                |at| messages::next(at, *begun, parameter, data, last.then_some(signature));
            message_final(begun: Begun) step
                [C_MessageSignFinal C_MessageVerifyFinal C_MessageEncryptFinal C_MessageDecryptFinal]
                |at| messages::finish(at, *begun);

            // Keys (section 5.18).
            generate_key(mechanism: Mechanism, template: Template) makes [C_GenerateKey]
                |at| at.makes(template, |functions, session| functions.generate_key(session, mechanism, template));
            generate_beside(mechanism: Mechanism, template: Template) makes [C_GenerateKey]
                |at| keys::generate_beside(at, mechanism, template);
            generate_key_pair(mechanism: Mechanism, public: Template, private: Template) makes [C_GenerateKeyPair]
                |at| keys::generate_pair(at, mechanism, public, private);
            wrap_key(mechanism: Mechanism, wrapping: Handle, key: Handle) works [C_WrapKey]
                |at| keys::wrap(at, mechanism, *wrapping, *key, None);
            unwrap_key(mechanism: Mechanism, unwrapping: Handle, wrapped: Data, template: Template) makes [C_UnwrapKey]
                |at| at.makes(template, |functions, session| functions.unwrap_key(session, mechanism, unwrapping.number, wrapped, None, template));
            wrap_key_authenticated(mechanism: Mechanism, wrapping: Handle, key: Handle, associated: Data) works
                [C_WrapKeyAuthenticated]
                |at| keys::wrap(at, mechanism, *wrapping, *key, Some(associated));
            unwrap_key_authenticated(mechanism: Mechanism, unwrapping: Handle, wrapped: Data, associated: Data, template: Template)
                makes [C_UnwrapKeyAuthenticated]
                |at| at.makes(template, |functions, session| {
                    functions.unwrap_key(session, mechanism, unwrapping.number, wrapped, Some(associated), template)
                });
            derive_key(mechanism: Mechanism, base: Handle, template: Template) makes [C_DeriveKey]
                |at| at.makes(template, |functions, session| functions.derive_key(session, mechanism, base.number, template));
            derive_beside(mechanism: Mechanism, base: Handle, template: Template) makes [C_DeriveKey]
                |at| keys::derive_beside(at, mechanism, *base, template);
            encapsulate_key(mechanism: Mechanism, public: Handle, template: Template) makes [C_EncapsulateKey]
                |at| keys::encapsulate(at, mechanism, *public, template);
            decapsulate_key(mechanism: Mechanism, private: Handle, ciphertext: Data, template: Template) makes
                [C_DecapsulateKey]
                |at| at.makes(template, |functions, session| functions.decapsulate_key(session, mechanism, private.number, ciphertext, template));

            // Objects, and the session itself (sections 5.6 and 5.7).
            find(template: Template, limit: usize) looks [C_FindObjectsInit C_FindObjects C_FindObjectsFinal]
                |at| objects::find(at, template, *limit);
            attributes(object: Handle, kinds: Vec<CK_ULONG>) looks [C_GetAttributeValue]
                |at| at.call(|functions, session| functions.attributes(session, object.number, kinds)).map(Answer::Attributes);
            attributes_of(objects: Vec<Handle>, kinds: Vec<CK_ULONG>) looks [C_GetAttributeValue]
                |at| objects::attributes_of(at, objects, kinds);
            set_attributes(object: Handle, template: Template) works [C_SetAttributeValue]
                |at| at.done(|functions, session| functions.set_attributes(session, object.number, template));
            create(template: Template) makes [C_CreateObject]
                |at| at.makes(template, |functions, session| functions.create(session, template));
            copy(object: Handle, template: Template) makes [C_CopyObject]
                |at| objects::copy(at, *object, template);
            destroy(object: Handle) works [C_DestroyObject]
                |at| at.session.destroy_object(*object).map(|()| Answer::Done);
            object_size(object: Handle) looks [C_GetObjectSize]
                |at| objects::size(at, *object);
            session_info() looks [C_GetSessionInfo]
                |at| at.call(info::session).map(Answer::Session);
            validation_flags(kind: CK_ULONG) looks [C_GetSessionValidationFlags]
                |at| at.call(|functions, session| functions.validation_flags(session, *kind)).map(Answer::Number);
        }
    };
}
pub(crate) use operations;
