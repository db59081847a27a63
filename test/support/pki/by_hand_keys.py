"""Requests whose key, algorithm or signature is what is wrong, or the text around them."""

import base64

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from answers import FORGED, MALFORMED, UNKNOWN, accepted, either, refused
from by_hand import GOOD, WITH_NAME, certificate_of_it, indefinite, nonminimal
from der import *

BAD_KEY = refused("invalid_argument", "unsupported")
EC, RSA, P256 = "1.2.840.10045.2.1", "1.2.840.113549.1.1.1", oid("1.2.840.10045.3.1.7")


def key_info(algorithm, key):
    return sequence(sequence(*algorithm), key)


def rsa_info(n, e):
    return key_info([oid(RSA), NULL], bits(sequence(n if isinstance(n, bytes) else integer(n), integer(e))))


def point():
    return (
        KEYS["p256"]
        .public_key()
        .public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    )


# P-256 written out (SEC 1, C.2), as `openssl ecparam -param_enc explicit` does.
P = 0xFFFFFFFF00000001000000000000000000000000FFFFFFFFFFFFFFFFFFFFFFFF
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
B = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
BASE = bytes.fromhex(
    "046b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"
    "4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"
)
EXPLICIT = sequence(
    integer(1),
    sequence(oid("1.2.840.10045.1.1"), integer(P)),
    sequence(octets((P - 3).to_bytes(32, "big")), octets(B.to_bytes(32, "big"))),
    octets(BASE),
    integer(ORDER),
    integer(1),
)


def keys():
    n = KEYS["rsa"].public_key().public_numbers().n
    xy = point()
    compressed = bytes([2 + (xy[64] & 1)]) + xy[1:33]
    for text, der in [
        ("is a SET", b"\x31" + public_info(KEYS["p256"])[1:]),
        ("has no bits", key_info([oid(EC), P256], b"")),
        ("has an OCTET STRING", key_info([oid(EC), P256], octets(xy))),
        ("has a third field", sequence(sequence(oid(EC), P256), bits(xy), NULL)),
        ("has no algorithm", sequence(bits(xy))),
        ("has unused bits", key_info([oid(EC), P256], bits(xy, 1))),
        ("has a length that is not minimal", nonminimal(public_info(KEYS["p256"]))),
        ("has a point that is cut", key_info([oid(EC), P256], bits(xy[:-1]))),
        ("has a point that is too long", key_info([oid(EC), P256], bits(xy + b"\0"))),
        ("has a point beside the curve", key_info([oid(EC), P256], bits(xy[:-1] + bytes([xy[-1] ^ 1])))),
        ("has the point at infinity", key_info([oid(EC), P256], bits(b"\0"))),
        ("has no point", key_info([oid(EC), P256], bits(b""))),
        ("has a point above the prime", key_info([oid(EC), P256], bits(b"\4" + b"\xff" * 64))),
        ("has a hybrid point", key_info([oid(EC), P256], bits(bytes([6 + (xy[64] & 1)]) + xy[1:]))),
        ("has an unknown curve", key_info([oid(EC), oid("1.2.3.4")], bits(xy))),
        ("has no curve", key_info([oid(EC)], bits(xy))),
        ("has NULL for a curve", key_info([oid(EC), NULL], bits(xy))),
        ("has a curve written out", key_info([oid(EC), EXPLICIT], bits(xy))),
        ("has an unknown algorithm", key_info([oid("1.2.3.4"), NULL], bits(xy))),
        ("of RSA with exponent 1", rsa_info(n, 1)),
        ("of RSA with exponent 0", rsa_info(n, 0)),
        ("of RSA with exponent -3", rsa_info(n, -3)),
        ("of RSA with exponent 2", rsa_info(n, 2)),
        ("of RSA with an even modulus", rsa_info(n - 1, 65537)),
        ("of RSA with a negative modulus", rsa_info(-n, 65537)),
        ("of RSA with modulus 0", rsa_info(0, 3)),
        ("of RSA with zeros in front", rsa_info(value(2, b"\0\0" + n.to_bytes(256, "big")), 65537)),
        (
            "of RSA with a third number",
            key_info([oid(RSA), NULL], bits(sequence(integer(n), integer(65537), integer(1)))),
        ),
        ("of RSA with a byte behind", key_info([oid(RSA), NULL], bits(sequence(integer(n), integer(65537)) + b"\0"))),
        (
            "of RSA with parameters of another kind",
            key_info([oid(RSA), integer(1)], bits(sequence(integer(n), integer(65537)))),
        ),
        ("of RSA of 512 bits", rsa_info(n >> 1536 | 1 << 511 | 1, 65537)),
        ("of RSA of 64000 bits", rsa_info(1 << 63999 | 1, 65537)),
        ("of RSA with an exponent as large as its modulus", rsa_info(n, n - 2)),
    ]:
        yield f"key {text}", BAD_KEY, request("rsa" if "RSA" in text else "p256", key=der)
    raw = public_info(KEYS["ed25519"])[-32:]
    for text, der in [
        ("of 31 bytes", key_info([oid("1.3.101.112")], bits(raw[:-1]))),
        ("of 33 bytes", key_info([oid("1.3.101.112")], bits(raw + b"\0"))),
        ("with NULL", key_info([oid("1.3.101.112"), NULL], bits(raw))),
        ("that is the neutral point", key_info([oid("1.3.101.112")], bits(b"\1" + bytes(31)))),
        ("of order 2", key_info([oid("1.3.101.112")], bits(b"\xec" + b"\xff" * 30 + b"\x7f"))),
        ("for agreement", key_info([oid("1.3.101.110")], bits(raw))),
    ]:
        yield f"key of Ed25519 {text}", BAD_KEY, request("ed25519", key=der)
    yield "key of Ed448 of 56 bytes", BAD_KEY, request(
        "ed448", key=key_info([oid("1.3.101.113")], bits(public_info(KEYS["ed448"])[-57:-1]))
    )
    yield "key with a compressed point", either(accepted(), BAD_KEY), request(
        key=key_info([oid(EC), P256], bits(compressed))
    )
    for kind in ["rsa", "ed25519", "ed448"]:
        yield f"key of {kind}", accepted(), request(kind)
    dsa = sequence(integer(1 << 1023 | 1), integer(1 << 159 | 1), integer(4))
    yield "key of DSA", refused("unsupported", "invalid_argument"), request(
        key=key_info([oid("1.2.840.10040.4.1"), dsa], bits(integer(8)))
    )


def pss_algorithm(*fields, digest=NULL):
    sha256 = sequence(oid("2.16.840.1.101.3.4.2.1"), digest)
    mgf = sequence(oid("1.2.840.113549.1.1.8"), sha256)
    return sequence(oid("1.2.840.113549.1.1.10"), sequence(value(0xA0, sha256), value(0xA1, mgf), *fields))


def signatures():
    data = info()
    good = sign(KEYS["p256"], data)
    r, s = decode_dss_signature(good)
    for text, answer, signature in [
        ("of something else", FORGED, bits(sign(KEYS["p256"], data + b"\0"))),
        ("by another key", FORGED, bits(sign(ec.generate_private_key(ec.SECP256R1()), data))),
        ("of zeros", FORGED, bits(sequence(integer(0), integer(0)))),
        ("that is empty", FORGED, bits(b"")),
        ("as two numbers side by side", FORGED, bits(r.to_bytes(32, "big") + s.to_bytes(32, "big"))),
        ("with a byte behind", FORGED, bits(good + b"\0")),
        ("with zeros in front", FORGED, bits(sequence(value(2, b"\0\0" + r.to_bytes(32, "big")), integer(s)))),
        ("of an OCTET STRING", MALFORMED, octets(good)),
        ("with unused bits", MALFORMED, bits(good, 1)),
        ("with a length that is not minimal", MALFORMED, nonminimal(bits(good))),
        ("without its first byte", MALFORMED, value(3)),
        ("with 9 unused bits", MALFORMED, bits(good, 9)),
    ]:
        yield f"signature {text}", answer, signed(data, signature=signature)
    yield "signature of the least order", FORGED, signed(
        info(key=public_info(KEYS["ed25519"])), "ed25519", signature=bits(b"\1" + bytes(63))
    )
    for text, answer, algorithm in [
        ("is a SET", MALFORMED, b"\x31" + ECDSA_SHA256[1:]),
        ("is empty", MALFORMED, sequence()),
        ("has no identifier", MALFORMED, sequence(NULL)),
        ("has three fields", MALFORMED, ECDSA_SHA256[:1] + bytes([14]) + ECDSA_SHA256[2:] + NULL + NULL),
        ("is unknown", UNKNOWN, sequence(oid("1.2.3.4"))),
        ("is that of RSA for a key of ECDSA", refused("unsupported", "signature_invalid"), RSA_SHA256),
        ("is that of Ed25519 for a key of ECDSA", refused("unsupported", "signature_invalid"), ED25519),
        ("is with another hash", FORGED, sequence(oid("1.2.840.10045.4.3.3"))),
        ("is with SHA-1", UNKNOWN, sequence(oid("1.2.840.10045.4.1"))),
        ("is cut", MALFORMED, ECDSA_SHA256[:-2]),
        ("has a length that is not minimal", MALFORMED, nonminimal(ECDSA_SHA256, 1)),
        ("of ECDSA has NULL", either(accepted(), MALFORMED, UNKNOWN), sequence(oid("1.2.840.10045.4.3.2"), NULL)),
    ]:
        yield f"algorithm {text}", answer, signed(data, algorithm=algorithm)
    yield "algorithm of RSA without NULL", accepted(), request("rsa", sequence(oid("1.2.840.113549.1.1.11")))
    yield "algorithm of RSA with a number", refused("invalid_argument", "unsupported"), request(
        "rsa", sequence(oid("1.2.840.113549.1.1.11"), integer(0))
    )
    yield "algorithm of RSA with MD5", UNKNOWN, request("rsa", sequence(oid("1.2.840.113549.1.1.4"), NULL))
    salt = lambda number: value(0xA2, integer(number))
    trailer = lambda number: value(0xA3, integer(number))
    bad = refused("invalid_argument", "unsupported")
    for text, answer, algorithm, pss in [
        ("a salt of 32", accepted(), pss_algorithm(salt(32)), 32),
        ("the salt that goes without saying", accepted(), pss_algorithm(), 20),
        ("that salt, said", accepted(), pss_algorithm(salt(20)), 20),
        ("a salt of 0", accepted(), pss_algorithm(salt(0)), 0),
        ("the trailer, said", accepted(), pss_algorithm(salt(32), trailer(1)), 32),
        ("hashes without NULL", accepted(), pss_algorithm(salt(32), digest=b""), 32),
        ("another salt than it says", FORGED, pss_algorithm(salt(32)), 20),
        ("another trailer", bad, pss_algorithm(salt(32), trailer(2)), 32),
        ("a negative salt", bad, pss_algorithm(salt(-1)), 32),
        (
            "a salt longer than its key",
            refused("invalid_argument", "unsupported", "signature_invalid"),
            pss_algorithm(salt(1 << 64)),
            32,
        ),
        ("a salt twice", bad, pss_algorithm(salt(32), salt(32)), 32),
        ("no parameters", bad, sequence(oid("1.2.840.113549.1.1.10")), 32),
        ("NULL", bad, sequence(oid("1.2.840.113549.1.1.10"), NULL), 32),
        ("the defaults, SHA-1", bad, sequence(oid("1.2.840.113549.1.1.10"), sequence()), 20),
        ("a field that there is not", bad, pss_algorithm(salt(32), value(0xA4, NULL)), 32),
        ("fields in the wrong order", bad, pss_algorithm(trailer(1), salt(32)), 32),
    ]:
        yield f"PSS with {text}", answer, request("rsa", algorithm, pss)


def pem(der, label="CERTIFICATE REQUEST", width=64, newline="\n", last="\n"):
    text = base64.b64encode(der).decode()
    lines = [text[at : at + width] for at in range(0, len(text), width)]
    return (newline.join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----"]) + last).encode()


def texts():
    good, whole = pem(GOOD), pem(GOOD).decode()
    key = KEYS["p256"]
    kinds = serialization.PrivateFormat
    private = key.private_bytes(serialization.Encoding.PEM, kinds.PKCS8, serialization.NoEncryption())
    encrypted = key.private_bytes(
        serialization.Encoding.PEM, kinds.PKCS8, serialization.BestAvailableEncryption(b"secret")
    )
    traditional = key.private_bytes(
        serialization.Encoding.PEM, kinds.TraditionalOpenSSL, serialization.BestAvailableEncryption(b"secret")
    )
    certificate = pem(certificate_of_it(), "CERTIFICATE")
    body = base64.b64encode(GOOD).decode()
    for text, bytes_ in [
        ("as it is", good),
        ("NEW", pem(GOOD, "NEW CERTIFICATE REQUEST")),
        ("CRLF", pem(GOOD, newline="\r\n", last="\r\n")),
        ("CR", pem(GOOD, newline="\r", last="\r")),
        ("no line feed at the end", pem(GOOD, last="")),
        ("lines of 76", pem(GOOD, width=76)),
        ("lines of 4", pem(GOOD, width=4)),
        ("one line", pem(GOOD, width=10_000)),
        ("a mark of the order of bytes", b"\xef\xbb\xbf" + good),
        ("two bytes a character, as `certreq -unicode` writes", whole.encode("utf-16")),
        ("blanks in front", b" \r\n\t\n" + good),
        ("blanks behind", good + b" \n\n \t"),
        ("blanks at the ends of lines", good.replace(b"\n", b" \t\n")),
        ("a text in front", b"Certificate Request:\n    Data:\n        Version: 1 (0x0)\n" + good),
        ("a text behind", good + b"\nyours, the server\n"),
        ("Latin-1 in front", b"von M\xfcller\n" + good),
        ("an encrypted key in front", encrypted + good),
        ("an encrypted key of old in front", traditional + good),
        ("a key in front", private + good),
        ("a key behind", good + private),
        ("a certificate in front", certificate + good),
        ("parameters in front", pem(P256, "EC PARAMETERS") + good),
        ("an empty line in front of the base64", whole.replace("REQUEST-----\n", "REQUEST-----\n\n", 1).encode()),
    ]:
        yield f"text: {text}", WITH_NAME, bytes_
    for text, bytes_ in [
        ("cut in the middle", good[: len(good) // 2]),
        ("without its last line", good.rsplit(b"-----END", 1)[0]),
        ("without its first line", good.split(b"\n", 1)[1]),
        ("another last line", good.replace(b"END CERTIFICATE REQUEST", b"END CERTIFICATE")),
        ("base64 that is cut", pem(GOOD).replace(body[64:67].encode(), b"", 1)),
        ("a sign that is none of base64", whole.replace(body[70], "!", 1).encode()),
        ("padding in the middle", whole.replace(body[64:68], "AA==", 1).encode()),
        ("no base64", pem(b"")),
        ("base64 of something else", pem(b"this is no request")),
        ("base64 of a certificate", pem(certificate_of_it())),
        ("a certificate alone", certificate),
        ("a key alone", private),
        ("an encrypted key alone", encrypted),
        ("an encrypted key of old alone", traditional),
        ("a certificate's label", pem(GOOD, "CERTIFICATE")),
        ("small letters", whole.lower().encode()),
        ("four dashes", whole.replace("-----", "----").encode()),
        ("first lines alone", b"-----BEGIN CERTIFICATE REQUEST-----\n" * 1000),
        ("a first line and NULs", b"-----BEGIN CERTIFICATE REQUEST-----" + bytes(1000)),
        ("dashes", b"-" * 100_000),
        (
            "an encrypted request",
            whole.replace(
                "REQUEST-----\n",
                "REQUEST-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00000000000000000000000000000000\n\n",
                1,
            ).encode(),
        ),
    ]:
        yield f"text: {text}", MALFORMED, bytes_
    yield "text: without padding", either(WITH_NAME, MALFORMED), good.replace(b"=", b"")
    yield "text: two requests", either(WITH_NAME, MALFORMED), good + pem(request())
    yield "text: base64 alone", either(WITH_NAME, MALFORMED), base64.encodebytes(GOOD)
