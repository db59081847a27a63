"""Lists of revoked certificates by python's cryptography: `lists.py DIRECTORY`, signed by keys of each kind."""

import datetime
import pathlib
import sys

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

directory = pathlib.Path(sys.argv[1])
AT = datetime.datetime(2026, 1, 2, 3, 4, 5)
NEXT = datetime.datetime(2055, 1, 1)
NAME = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "lists")])
REASONS = [reason for reason in x509.ReasonFlags if reason.name != "remove_from_crl"]


def build(reasons, base=None):
    builder = x509.CertificateRevocationListBuilder(NAME, AT, NEXT)
    builder = builder.add_extension(x509.CRLNumber(2**159 - 1), critical=False)
    if base is not None:
        builder = builder.add_extension(x509.DeltaCRLIndicator(base), critical=True)
    for serial, reason in enumerate(reasons, 1):
        entry = x509.RevokedCertificateBuilder(serial, AT)
        entry = entry.add_extension(x509.CRLReason(reason), critical=False)
        entry = entry.add_extension(x509.InvalidityDate(AT), critical=False)
        builder = builder.add_revoked_certificate(entry.build())
    return builder


def write(name, list_):
    (directory / name).write_bytes(list_.public_bytes(serialization.Encoding.DER))


RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PSS = padding.PSS(mgf=padding.MGF1(hashes.SHA384()), salt_length=48)
write("sha256_rsa_pkcs", build(REASONS).sign(RSA, hashes.SHA256()))
write("sha384_rsa_pkcs_pss", build(REASONS).sign(RSA, hashes.SHA384(), rsa_padding=PSS))
write("ecdsa_sha512", build(REASONS).sign(ec.generate_private_key(ec.SECP521R1()), hashes.SHA512()))
write("eddsa", build(REASONS).sign(ed25519.Ed25519PrivateKey.generate(), None))
removed = build([x509.ReasonFlags.remove_from_crl], base=5)
write("delta", removed.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256()))
