"""Requests that Python's `cryptography` makes."""

import ipaddress

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from answers import accepted, refused
from der import KEYS


def requests(everything):
    weak = refused("invalid_argument", "unsupported")
    plain = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "www")])

    def make(key=KEYS["p256"], subject=plain, extensions=(), attributes=(), hash=hashes.SHA256(), **options):
        builder = x509.CertificateSigningRequestBuilder(subject)
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        for kind, text in attributes:
            builder = builder.add_attribute(kind, text)
        return builder.sign(key, hash, **options).public_bytes(serialization.Encoding.PEM)

    yield "plain", accepted(), make()
    whole = [(NameOID.COUNTRY_NAME, "DE"), (NameOID.ORGANIZATION_NAME, "Müller"), (NameOID.COMMON_NAME, "東京")]
    yield "umlauts", accepted("/C=DE/O=Müller/CN=東京"), make(
        subject=x509.Name([x509.NameAttribute(*pair) for pair in whole])
    )
    parts = x509.Name(
        [
            x509.RelativeDistinguishedName(
                [
                    x509.NameAttribute(*pair)
                    for pair in [(NameOID.COMMON_NAME, "www"), (NameOID.ORGANIZATIONAL_UNIT_NAME, "web")]
                ]
            )
        ]
    )
    yield "two values in a part", accepted("/CN=www+OU=web"), make(subject=parts)
    other = x509.OtherName(ObjectIdentifier("1.3.6.1.4.1.311.20.2.3"), b"\x0c\x0ba@acme.test")
    names = [
        x509.DNSName("a.test"),
        x509.IPAddress(ipaddress.ip_address("192.0.2.1")),
        x509.RFC822Name("a@a.test"),
        x509.UniformResourceIdentifier("https://a.test/"),
        x509.RegisteredID(ObjectIdentifier("1.2.3.4")),
        x509.DirectoryName(plain),
        other,
    ]
    yield "every kind of name", accepted(
        "/CN=www",
        ("dns", "a.test"),
        ("ip", "192.0.2.1"),
        ("email", "a@a.test"),
        ("uri", "https://a.test/"),
        ("rid", (1, 2, 3, 4)),
        ("dir_name", "/CN=www"),
        ("upn", "a@acme.test"),
    ), make(extensions=[x509.SubjectAlternativeName(names)])
    yield "nobody", accepted("", ("dns", "a.test")), make(
        subject=x509.Name([]), extensions=[x509.SubjectAlternativeName(names[:1])]
    )
    yield "usages", accepted(), make(
        extensions=[
            x509.BasicConstraints(True, 1),
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]),
            x509.OCSPNoCheck(),
            x509.TLSFeature([x509.TLSFeatureType.status_request]),
        ]
    )
    yield "a challenge password", accepted(), make(attributes=[(x509.oid.AttributeOID.CHALLENGE_PASSWORD, b"secret")])
    yield "network in place of an address", refused(), make(
        extensions=[x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_network("192.0.2.0/24"))])]
    )
    yield "a host with a NUL", refused(), make(
        extensions=[x509.SubjectAlternativeName([x509.DNSName("a.test\0b.test")])]
    )
    for kind in ["rsa", "ed25519", "ed448"]:
        yield kind, accepted(), make(KEYS[kind], hash=None if kind.startswith("ed") else hashes.SHA256())
    for salt in [padding.PSS.MAX_LENGTH, padding.PSS.DIGEST_LENGTH]:
        yield f"RSA and PSS, {salt.__class__.__name__} {salt}"[:40], accepted(), make(
            KEYS["rsa"], rsa_padding=padding.PSS(padding.MGF1(hashes.SHA256()), salt)
        )
    for curve in [
        ec.SECP384R1(),
        ec.SECP521R1(),
        ec.SECP256K1(),
        ec.BrainpoolP256R1(),
        ec.BrainpoolP384R1(),
        ec.BrainpoolP512R1(),
    ]:
        yield curve.name, accepted(), make(ec.generate_private_key(curve))
    yield "P-256 with SHA-224", accepted(), make(hash=hashes.SHA224())
    yield "P-256 with SHA3-256", accepted(), make(hash=hashes.SHA3_256())
    yield "DSA", weak, make(dsa.generate_private_key(1024))
    if everything:
        for bits in [1024, 3072, 4096]:
            yield f"RSA {bits}", accepted() if bits > 1024 else refused("invalid_argument", "unsupported"), make(
                rsa.generate_private_key(65537, bits)
            )
        yield "RSA with exponent 3", accepted(), make(rsa.generate_private_key(3, 2048))
