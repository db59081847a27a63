"""As much of DER as requests are made of, with every mistake that one may want to make in it."""

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa

UTF8, PRINTABLE, T61, IA5, UNIVERSAL, BMP = 0x0C, 0x13, 0x14, 0x16, 0x1C, 0x1E


def size(count):
    if count < 128:
        return bytes([count])
    digits = count.to_bytes((count.bit_length() + 7) // 8, "big")
    return bytes([128 + len(digits)]) + digits


def value(tag, *contents):
    joined = b"".join(contents)
    return bytes([tag]) + size(len(joined)) + joined


def sequence(*values):
    return value(0x30, *values)


def set_of(*values):
    return value(0x31, *sorted(values))


def integer(number):
    return value(2, number.to_bytes(number.bit_length() // 8 + 1, "big", signed=True))


def octets(data):
    return value(4, data)


def bits(data, unused=0):
    return value(3, bytes([unused]), data)


def boolean(true=True):
    return value(1, b"\xff" if true else b"\x00")


NULL = b"\x05\x00"


def oid(text):
    first, second, *rest = map(int, text.split("."))
    out = b""
    for number in [40 * first + second, *rest]:
        digits = [number & 127]
        while number := number >> 7:
            digits.insert(0, 128 | number & 127)
        out += bytes(digits)
    return value(6, out)


def attribute(kind, text, tag=UTF8):
    return sequence(oid(kind), value(tag, text if isinstance(text, bytes) else text.encode()))


CN, C, O = "2.5.4.3", "2.5.4.6", "2.5.4.10"


def name(*parts):
    """Each part is an attribute, or a list of these for one with several."""
    return sequence(*(set_of(*(part if isinstance(part, list) else [part])) for part in parts))


def common_name(text, tag=UTF8):
    return name(attribute(CN, text, tag))


def extension(kind, der, critical=b""):
    return sequence(oid(kind), critical, octets(der))


SAN = "2.5.29.17"
ASKED = "1.2.840.113549.1.9.14"
MICROSOFT = "1.3.6.1.4.1.311.2.1.14"


def alt_names(*names, critical=b""):
    return extension(SAN, sequence(*names), critical)


def dns(text):
    return value(0x82, text if isinstance(text, bytes) else text.encode())


def asked(*extensions, kind=ASKED):
    return sequence(oid(kind), set_of(sequence(*extensions)))


KEYS = {
    "p256": ec.generate_private_key(ec.SECP256R1()),
    "rsa": rsa.generate_private_key(65537, 2048),
    "ed25519": ed25519.Ed25519PrivateKey.generate(),
    "ed448": ed448.Ed448PrivateKey.generate(),
}


def public_info(key):
    return key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


ECDSA_SHA256 = sequence(oid("1.2.840.10045.4.3.2"))
RSA_SHA256 = sequence(oid("1.2.840.113549.1.1.11"), NULL)
ED25519 = sequence(oid("1.3.101.112"))
ED448 = sequence(oid("1.3.101.113"))
ALGORITHMS = {"p256": ECDSA_SHA256, "rsa": RSA_SHA256, "ed25519": ED25519, "ed448": ED448}


def sign(key, data, pss=None):
    """With SHA-256; `pss` is the salt's length, or (salt's length, hash of MGF1)."""
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.sign(data, ec.ECDSA(hashes.SHA256()))
    if isinstance(key, rsa.RSAPrivateKey):
        if pss is None:
            return key.sign(data, padding.PKCS1v15(), hashes.SHA256())
        salt, mgf = pss if isinstance(pss, tuple) else (pss, hashes.SHA256())
        return key.sign(data, padding.PSS(padding.MGF1(mgf), salt), hashes.SHA256())
    return key.sign(data)


def attributes(*values):
    return value(0xA0, *sorted(values))


def info(subject=None, key=None, extra=None, version=integer(0), last=b""):
    """What is signed. `extra` are its attributes, as bytes or as extensions that are asked for."""
    subject = common_name("www") if subject is None else subject
    key = public_info(KEYS["p256"]) if key is None else key
    if extra is None:
        extra = attributes()
    elif isinstance(extra, list):
        extra = attributes(asked(*extra))
    return sequence(version, subject, key, extra, last)


def signed(data, kind="p256", algorithm=None, signature=None, pss=None, last=b""):
    """The request around what is signed, its signature good unless another one is given."""
    signature = bits(sign(KEYS[kind], data, pss)) if signature is None else signature
    return sequence(data, ALGORITHMS[kind] if algorithm is None else algorithm, signature, last)


def request(kind="p256", algorithm=None, pss=None, **fields):
    fields.setdefault("key", public_info(KEYS[kind]))
    return signed(info(**fields), kind, algorithm, pss=pss)
