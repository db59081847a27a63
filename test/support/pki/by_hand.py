"""Requests that no program makes, one for each thing that can be wrong: each is signed as it stands."""

import base64

from cryptography.hazmat.primitives import hashes

from answers import FORGED, MALFORMED, UNKNOWN, accepted, either, refused
from der import *

GOOD = request(extra=[alt_names(dns("a.test"))])
WITH_NAME = accepted("/CN=www", ("dns", "a.test"))


def nonminimal(der, length_of_length=4):
    """The same value, its length in more bytes than it needs."""
    skip = 1 if der[1] < 128 else 1 + (der[1] & 127)
    rest = der[1 + skip :]
    return der[:1] + bytes([128 + length_of_length]) + len(rest).to_bytes(length_of_length, "big") + rest


def indefinite(der):
    skip = 1 if der[1] < 128 else 1 + (der[1] & 127)
    return der[:1] + b"\x80" + der[1 + skip :] + b"\0\0"


def cut_and_framed():
    for at in [0, 1, 2, 3, 4, 6, 7, 9, 20, 40, 80, 110, 140, len(GOOD) - 72, len(GOOD) - 5, len(GOOD) - 1]:
        yield f"cut after {at} bytes", MALFORMED, GOOD[:at]
    yield "good", WITH_NAME, GOOD
    yield "a byte behind", MALFORMED, GOOD + b"\0"
    yield "a value behind", MALFORMED, GOOD + NULL
    yield "itself behind", MALFORMED, GOOD + GOOD
    yield "empty sequence", MALFORMED, b"\x30\0"
    yield "a text", MALFORMED, b"this is no request"
    yield "zeros", MALFORMED, bytes(300)
    yield "a length of 4 GB", MALFORMED, b"\x30\x84\xff\xff\xff\xff" + GOOD
    yield "a length of 127 bytes", MALFORMED, b"\x30\xff" + b"\xff" * 127 + GOOD
    yield "deep", MALFORMED, b"\x30\x80" * 100_000
    yield "deep, with lengths", MALFORMED, nested(20_000)
    yield "outer tag of a SET", MALFORMED, b"\x31" + GOOD[1:]
    yield "outer tag of class application", MALFORMED, b"\x70" + GOOD[1:]
    yield "outer length not minimal", MALFORMED, nonminimal(GOOD)
    yield "outer length indefinite", MALFORMED, indefinite(GOOD)
    inner = info()
    yield "info's length not minimal", MALFORMED, signed(nonminimal(inner))
    yield "info's length indefinite", MALFORMED, signed(indefinite(inner))
    yield "info is a SET", MALFORMED, signed(b"\x31" + inner[1:])
    yield "a fourth field", MALFORMED, signed(inner, last=NULL)
    yield "a fifth field in info", MALFORMED, signed(info(last=NULL))
    yield "no signature", MALFORMED, sequence(inner, ECDSA_SHA256)
    yield "no algorithm", MALFORMED, sequence(inner, bits(sign(KEYS["p256"], inner)))
    yield "a certificate in place of it", MALFORMED, certificate_of_it()


def nested(depth):
    der = b""
    for _ in range(depth):
        der = value(0x30, der)
    return der


def certificate_of_it():
    from datetime import datetime, timedelta
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    nobody = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "www")])
    now = datetime(2026, 1, 1)
    built = x509.CertificateBuilder(nobody, nobody, KEYS["p256"].public_key(), 1, now, now + timedelta(9))
    return built.sign(KEYS["p256"], hashes.SHA256()).public_bytes(Encoding.DER)


def versions():
    for text, der in [
        ("of two bytes", value(2, b"\0\0")),
        ("of none", value(2)),
        ("a BOOLEAN", boolean(False)),
        ("not there", b""),
        ("twice", integer(0) * 2),
        ("explicit", value(0xA0, integer(0))),
        ("not minimal", b"\x02\x81\x01\0"),
    ]:
        yield f"version {text}", MALFORMED, request(version=der)
    for number in [1, 2, -1]:
        yield f"version {number}", refused("invalid_argument", "unsupported"), request(version=integer(number))


# Others read 63 bytes at most, and numbers of 128 bits.
LONG = "1.2" + ".3" * 63
LARGE = f"1.2.{2**128}"


def subjects():
    good = attribute(CN, "www")
    for text, der in [
        ("is a SET", value(0x31, set_of(good))),
        ("has no SET", sequence(good)),
        ("has an empty SET", sequence(value(0x31))),
        ("has a value that is no SEQUENCE", sequence(set_of(value(0x31, good[2:])))),
        ("has no value", name(sequence(oid(CN)))),
        ("has two values", name(sequence(oid(CN), value(UTF8, b"a"), value(UTF8, b"b")))),
        ("has no type", name(sequence(value(UTF8, b"www")))),
        ("has an empty type", name(sequence(value(6), value(UTF8, b"www")))),
        ("has a type that is cut", name(sequence(value(6, b"\x55\x84"), value(UTF8, b"www")))),
        ("has a type with zeros in front", name(sequence(value(6, b"\x55\x80\x04\x03"), value(UTF8, b"www")))),
        ("is cut", sequence(b"\x31\x40" + good)),
        ("has a length that is not minimal", nonminimal(common_name("www"))),
        ("has a length that is not minimal, inside", sequence(nonminimal(set_of(good), 1))),
        ("has a type of 64 bytes", name(attribute(LONG, "x"), good)),
        ("has a type with a number of 129 bits", name(attribute(LARGE, "x"), good)),
        ("has an INTEGER", common_name(b"\x05", 2)),
        ("has an OCTET STRING", common_name("www", 4)),
        ("has a SEQUENCE", common_name(value(UTF8, b"www"), 0x30)),
        ("has UTF-8 that is cut", common_name(b"M\xc3")),
        ("has Latin-1 as UTF-8", common_name(b"M\xfcller")),
        ("has UTF-8 that is overlong", common_name(b"www\xc0\xaf")),
        ("has a surrogate in UTF-8", common_name(b"\xed\xa0\x80")),
        ("has UTF-8 above Unicode", common_name(b"\xf4\x90\x80\x80")),
        ("has a NUL", common_name("www\0.bad.test")),
        ("has a line feed", common_name("www\nroot")),
        ("has DEL", common_name("www\x7f")),
        ("has an escape", common_name("www\x1b[2J")),
        ("has a NUL in PrintableString", common_name(b"www\0", PRINTABLE)),
        ("has a NUL in BMPString", common_name("w\0".encode("utf-16-be"), BMP)),
        ("is empty text", common_name("")),
        ("is too long", common_name("x" * 65)),
        ("has umlauts in PrintableString", common_name("Müller", PRINTABLE)),
        ("has half a character in BMPString", common_name(b"\0w\0", BMP)),
        ("has half a pair in BMPString", common_name(b"\xd8\x00", BMP)),
        ("has 3 bytes in UniversalString", common_name(b"\0\0w", UNIVERSAL)),
        ("has no character in UniversalString", common_name(b"\0\x11\0\0", UNIVERSAL)),
        (
            "has umlauts in IA5String",
            name(attribute("0.9.2342.19200300.100.1.25", "m\xfcller".encode("latin-1"), IA5)),
        ),
        ("has a country of three letters", name(attribute(C, "DEU", PRINTABLE))),
        ("has a country of digits", name(attribute(C, "12", PRINTABLE))),
        ("is a whole GeneralName", value(0xA4, common_name("www"))),
        ("has a type twice in a part", name([attribute(CN, "a"), attribute(CN, "b")])),
    ]:
        yield f"subject {text}", MALFORMED, request(subject=der)
    # That it names nobody is for `issue` to say, which may be given a name.
    yield "nobody", accepted(""), request(subject=name())
    yield "parts in the wrong order", MALFORMED, request(subject=sequence(value(0x31, attribute(O, "Acme"), good)))
    for text, answer, der in [
        ("in BMPString", accepted("/CN=Müller 東京"), common_name("Müller 東京".encode("utf-16-be"), BMP)),
        ("in UniversalString", accepted("/CN=Müller 🗝"), common_name("Müller 🗝".encode("utf-32-be"), UNIVERSAL)),
        ("in T61String", accepted("/CN=Müller"), common_name("Müller".encode("latin-1"), T61)),
        ("with two types in a part", accepted("/CN=www+O=Acme"), name([attribute(CN, "www"), attribute(O, "Acme")])),
        ("with a type by number", accepted("/1.2.3.4=x/CN=www"), name(attribute("1.2.3.4", "x"), good)),
        ("with slashes", accepted("/CN=a\\/b\\\\c"), common_name("a/b\\c")),
        (
            "with BEGIN in its name",
            accepted("/CN=-----BEGIN CERTIFICATE REQUEST-----"),
            common_name("-----BEGIN CERTIFICATE REQUEST-----"),
        ),
        (
            "with every kind",
            accepted("/C=DE/ST=a/L=b/street=c/O=d/OU=e/serialNumber=1/DC=test/DC=acme/UID=g/emailAddress=a@b.test/CN=x"),
            name(
                attribute(C, "DE", PRINTABLE),
                attribute("2.5.4.8", "a"),
                attribute("2.5.4.7", "b"),
                attribute("2.5.4.9", "c"),
                attribute(O, "d"),
                attribute("2.5.4.11", "e"),
                attribute("2.5.4.5", "1", PRINTABLE),
                attribute("0.9.2342.19200300.100.1.25", "test", IA5),
                attribute("0.9.2342.19200300.100.1.25", "acme", IA5),
                attribute("0.9.2342.19200300.100.1.1", "g"),
                attribute("1.2.840.113549.1.9.1", "a@b.test", IA5),
                attribute(CN, "x"),
            ),
        ),
    ]:
        yield f"subject {text}", answer, request(subject=der)
    yield "nobody, with an alternative name", accepted("", ("dns", "a.test")), request(
        subject=name(), extra=[alt_names(dns("a.test"))]
    )


def asking():
    """Attributes and extensions as such."""
    a, b = alt_names(dns("a.test")), alt_names(dns("b.test"))
    password = sequence(oid("1.2.840.113549.1.9.7"), set_of(value(UTF8, b"secret")))
    yield "no attributes", accepted(), request(extra=attributes())
    yield "attributes not there, as some old programs have it", accepted(), request(extra=b"")
    yield "a challenge password", WITH_NAME, request(extra=attributes(password, asked(a)))
    yield "an unknown attribute", WITH_NAME, request(extra=attributes(sequence(oid("1.2.3"), set_of(NULL)), asked(a)))
    yield "Microsoft's extension request", WITH_NAME, request(extra=attributes(asked(a, kind=MICROSOFT)))
    yield "two extension requests", either(
        MALFORMED, accepted("/CN=www", ("dns", "a.test"), ("dns", "b.test"))
    ), request(extra=attributes(asked(a), asked(b)))
    yield "ours and Microsoft's", either(
        MALFORMED, accepted("/CN=www", ("dns", "a.test"), ("dns", "b.test"))
    ), request(extra=attributes(asked(a), asked(b, kind=MICROSOFT)))
    yield "ours without names and Microsoft's", either(MALFORMED, WITH_NAME), request(
        extra=attributes(asked(extension("2.5.29.15", b"\x03\x02\x07\x80")), asked(a, kind=MICROSOFT))
    )
    for text, der in [
        ("attributes under [1]", value(0xA1, asked(a))),
        ("attributes as a SET", set_of(asked(a))),
        ("attributes twice", attributes(asked(a)) * 2),
        ("an attribute that is no SEQUENCE", attributes(oid("1.2.3"))),
        ("an attribute without values", attributes(sequence(oid(ASKED)))),
        ("an attribute with no value", attributes(sequence(oid(ASKED), value(0x31)))),
        ("an attribute's values in a SEQUENCE", attributes(sequence(oid(ASKED), sequence(sequence(a))))),
        ("an extension request with two values", attributes(sequence(oid(ASKED), set_of(sequence(a), sequence(b))))),
        ("an extension request that is a SET", attributes(sequence(oid(ASKED), set_of(set_of(a))))),
        ("a byte behind the attributes", attributes(asked(a)) + b"\0"),
    ]:
        yield text, MALFORMED, request(extra=der)
    for text, extensions in [
        ("an extension twice", [a, b]),
        ("an extension twice, the same", [a, a]),
        ("an extension without a value", [sequence(oid(SAN))]),
        ("an extension without a type", [sequence(octets(a))]),
        ("an extension in a UTF8String", [sequence(oid(SAN), value(UTF8, b"a"))]),
        ("an extension with four fields", [sequence(oid(SAN), boolean(), octets(sequence(dns("a.test"))), NULL)]),
        ("an extension whose flag is a number", [sequence(oid(SAN), integer(1), octets(sequence(dns("a.test"))))]),
        (
            "an extension whose flag has two bytes",
            [sequence(oid(SAN), value(1, b"\xff\xff"), octets(sequence(dns("a.test"))))],
        ),
        ("an extension that is a SET", [b"\x31" + a[1:]]),
        ("an extension that is cut", [a[:-3]]),
        ("a key usage that is no BIT STRING", [extension("2.5.29.15", b"\x04\x01\x80")]),
        ("constraints that are none", [extension("2.5.29.19", b"\x02\x01\x01")]),
        ("purposes that are none", [extension("2.5.29.37", b"\x30\x03\x02\x01\x01")]),
    ]:
        yield text, MALFORMED, request(extra=extensions)
    # BER's "true" and a default that is written: both are read by all.
    yield "critical", WITH_NAME, request(extra=[alt_names(dns("a.test"), critical=boolean())])
    yield "critical in BER", either(WITH_NAME, MALFORMED), request(
        extra=[alt_names(dns("a.test"), critical=value(1, b"\x01"))]
    )
    yield "not critical, said", either(WITH_NAME, MALFORMED), request(
        extra=[alt_names(dns("a.test"), critical=boolean(False))]
    )


def names():
    """In the extension of alternative names."""
    for text, der in [
        ("none at all", b""),
        ("no host", dns("")),
        ("a NUL", dns("good.test\0.bad.test")),
        ("a line feed", dns("a.test\n")),
        ("a blank", dns("a b.test")),
        ("a blank in front", dns(" a.test")),
        ("umlauts", dns("bücher.test")),
        ("Latin-1", dns(b"b\xfccher.test")),
        ("a label of 64", dns("x" * 64 + ".test")),
        ("a host of 254", dns(("x" * 49 + ".") * 5 + "test")),
        ("a dot in front", dns(".a.test")),
        ("two dots", dns("a..test")),
        ("a star alone", dns("*")),
        ("a star in the middle", dns("a.*.test")),
        ("two stars", dns("*.*.test")),
        ("a URI as host", dns("https://a.test/")),
        ("a port", dns("a.test:443")),
        ("a host in a SEQUENCE", value(0xA2, b"a.test")),
        ("an address of 3 bytes", value(0x87, b"\1\2\3")),
        ("an address of none", value(0x87)),
        ("an address of 5 bytes", value(0x87, b"\1\2\3\4\5")),
        ("an address with its mask", value(0x87, b"\1\2\3\4\xff\xff\xff\0")),
        ("an address as text", value(0x87, b"192.0.2.1")),
        ("no e-mail address", value(0x81, b"a.test")),
        ("an empty e-mail address", value(0x81)),
        ("a NUL in an e-mail address", value(0x81, b"a@a.test\0")),
        ("an e-mail address with a line feed", value(0x81, b"a@a.test\r\nBcc: b@b.test")),
        ("no URI", value(0x86, b"a.test/x")),
        ("an empty URI", value(0x86)),
        ("a URI with a blank", value(0x86, b"https://a.test/a b")),
        ("a URI with a NUL", value(0x86, b"https://a.test/\0")),
        ("an identifier that is cut", value(0x88, b"\x2a\x83")),
        ("an empty identifier", value(0x88)),
        ("another name without a value", value(0xA0, oid("1.2.3"))),
        ("another name without a type", value(0xA0, value(0xA0, NULL))),
        (
            "a principal with a NUL",
            value(0xA0, oid("1.3.6.1.4.1.311.20.2.3"), value(0xA0, value(UTF8, b"a\0@a.test"))),
        ),
        ("a directory's name with a NUL", value(0xA4, common_name("a\0b"))),
        ("a directory's name without SEQUENCE", value(0xA4)),
        ("a tag that there is not", value(0x89, b"a")),
        ("a UTF8String", value(UTF8, b"a.test")),
    ]:
        yield f"alternative names with {text}", MALFORMED, request(extra=[alt_names(der)])
    for text, der in [
        ("no SEQUENCE", set_of(dns("a.test"))),
        ("a byte behind", sequence(dns("a.test")) + b"\0"),
        ("nothing", b""),
        ("a value that is cut", sequence(dns("a.test"))[:-2]),
        ("a length that is not minimal", nonminimal(sequence(dns("a.test")))),
        ("an indefinite length", indefinite(sequence(dns("a.test")))),
    ]:
        yield f"alternative names: {text}", MALFORMED, request(extra=[extension(SAN, der)])
    principal = value(0xA0, oid("1.3.6.1.4.1.311.20.2.3"), value(0xA0, value(UTF8, b"a@acme.test")))
    service = value(0xA0, oid("1.3.6.1.5.5.7.8.7"), value(0xA0, value(IA5, b"_ldap.acme.test")))
    for text, wanted, der in [
        ("a star in front", ("dns", "*.a.test"), dns("*.a.test")),
        ("an underscore", ("dns", "_dmarc.a.test"), dns("_dmarc.a.test")),
        ("a host of an island", ("dns", "xn--bcher-kva.test"), dns("xn--bcher-kva.test")),
        ("IPv4", ("ip", "192.0.2.1"), value(0x87, b"\xc0\0\2\1")),
        ("IPv6", ("ip", "2001:db8::1"), value(0x87, bytes.fromhex("20010db8000000000000000000000001"))),
        ("e-mail", ("email", "a@a.test"), value(0x81, b"a@a.test")),
        ("a URI", ("uri", "https://a.test/x?y#z"), value(0x86, b"https://a.test/x?y#z")),
        ("a URN", ("uri", "urn:uuid:0"), value(0x86, b"urn:uuid:0")),
        ("a principal", ("upn", "a@acme.test"), principal),
        ("a registered identifier", ("rid", (1, 2, 3, 4)), value(0x88, b"\x2a\x03\x04")),
        ("a directory's name", ("dir_name", "/CN=x"), value(0xA4, common_name("x"))),
        ("another name", ("other_name", (1, 3, 6, 1, 5, 5, 7, 8, 7), value(IA5, b"_ldap.acme.test")), service),
    ]:
        yield f"alternative name: {text}", accepted("/CN=www", wanted), request(extra=[alt_names(der)])
    many = [f"h{n}.test" for n in range(500)]
    yield "five hundred names", accepted("/CN=www", *(("dns", host) for host in many)), request(
        extra=[alt_names(*map(dns, many))]
    )
