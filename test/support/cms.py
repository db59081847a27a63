# RFC 8418 by other people's readers and algorithms: asn1crypto, and cryptography (OpenSSL underneath). A JSON list of
# requests comes in a file, a list of answers goes to stdout; bytes are hexadecimal:
#   {"do": "open", "cms": "...", "secret": "..."}  -> the content; "secret" is an X25519 key
#   {"do": "seal", "certificate": "...", "content": "..."}  -> EnvelopedData for an X25519 certificate
import json, os, sys
from asn1crypto import cms, core, x509
from cryptography.hazmat.primitives import hashes, keywrap, padding
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

HKDF_SHA256 = "1.2.840.113549.1.9.16.3.19"
WRAP_AES256 = "2.16.840.1.101.3.4.1.45"
X25519 = "1.3.101.110"


class Algorithm(core.Sequence):
    _fields = [("algorithm", core.ObjectIdentifier), ("parameters", core.Any, {"optional": True})]


class SharedInfo(core.Sequence):
    _fields = [
        ("key_info", Algorithm),
        ("ukm", core.OctetString, {"explicit": 0, "optional": True}),
        ("bits", core.OctetString, {"explicit": 2}),
    ]


class OtherKey(core.Sequence):
    _fields = [("algorithm", Algorithm), ("public_key", core.OctetBitString)]


def wrapping_key(agreed):
    info = SharedInfo({"key_info": {"algorithm": WRAP_AES256}, "bits": (256).to_bytes(4, "big")})
    return HKDF(hashes.SHA256(), 32, None, info.dump()).derive(agreed)


def opened(request):
    content = cms.ContentInfo.load(bytes.fromhex(request["cms"]), strict=True)
    assert content["content_type"].native == "enveloped_data"
    data = content["content"]
    recipient = data["recipient_infos"][0].chosen
    assert isinstance(recipient, cms.KeyAgreeRecipientInfo)
    scheme = Algorithm.load(recipient["key_encryption_algorithm"].dump())
    assert scheme["algorithm"].dotted == HKDF_SHA256
    assert Algorithm.load(scheme["parameters"].dump())["algorithm"].dotted == WRAP_AES256
    originator = recipient["originator"].chosen
    key = OtherKey.load(originator.untag().dump())
    assert key["algorithm"]["algorithm"].dotted == X25519
    assert key["algorithm"]["parameters"].native is None
    peer = X25519PublicKey.from_public_bytes(key["public_key"].native)
    agreed = X25519PrivateKey.from_private_bytes(bytes.fromhex(request["secret"])).exchange(peer)
    wrapped = recipient["recipient_encrypted_keys"][0]["encrypted_key"].native
    cek = keywrap.aes_key_unwrap(wrapping_key(agreed), wrapped)
    inside = data["encrypted_content_info"]
    algorithm = inside["content_encryption_algorithm"]
    assert algorithm["algorithm"].native == "aes256_cbc"
    decryptor = Cipher(algorithms.AES(cek), modes.CBC(algorithm["parameters"].native)).decryptor()
    text = decryptor.update(inside["encrypted_content"].native) + decryptor.finalize()
    unpadder = padding.PKCS7(128).unpadder()
    return (unpadder.update(text) + unpadder.finalize()).hex()


def sealed(request):
    certificate = x509.Certificate.load(bytes.fromhex(request["certificate"]))
    info = OtherKey.load(certificate["tbs_certificate"]["subject_public_key_info"].dump())
    own = X25519PrivateKey.generate()
    agreed = own.exchange(X25519PublicKey.from_public_bytes(info["public_key"].native))
    cek, iv = os.urandom(32), os.urandom(16)
    padder = padding.PKCS7(128).padder()
    text = padder.update(bytes.fromhex(request["content"])) + padder.finalize()
    encryptor = Cipher(algorithms.AES(cek), modes.CBC(iv)).encryptor()
    encrypted = encryptor.update(text) + encryptor.finalize()
    public = own.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    originator = der(0xA1, Algorithm({"algorithm": X25519}).dump() + der(3, b"\0" + public))
    scheme = Algorithm({"algorithm": HKDF_SHA256, "parameters": Algorithm({"algorithm": WRAP_AES256})})
    tbs = certificate["tbs_certificate"]
    whose = cms.IssuerAndSerialNumber({"issuer": tbs["issuer"], "serial_number": tbs["serial_number"]})
    wrapped = core.OctetString(keywrap.aes_key_wrap(wrapping_key(agreed), cek))
    keys_ = der(0x30, der(0x30, whose.dump() + wrapped.dump()))
    recipient = der(0xA1, core.Integer(3).dump() + der(0xA0, originator) + scheme.dump() + keys_)
    inside = cms.EncryptedContentInfo(
        {
            "content_type": "data",
            "content_encryption_algorithm": {"algorithm": "aes256_cbc", "parameters": iv},
            "encrypted_content": encrypted,
        }
    )
    data = der(0x30, core.Integer(2).dump() + der(0x31, recipient) + inside.dump())
    return der(0x30, core.ObjectIdentifier("1.2.840.113549.1.7.3").dump() + der(0xA0, data)).hex()



def der(tag, content):
    length = len(content)
    if length < 128:
        return bytes([tag, length]) + content
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 + len(octets)]) + octets + content


verbs = {"open": opened, "seal": sealed}
json.dump([verbs[request["do"]](request) for request in json.load(open(sys.argv[1]))], sys.stdout)
