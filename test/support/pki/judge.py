"""pkilint and `cryptography` as judges, for as long as there is input. A line asks, in base64 and without blanks:

    certificate DER [ISSUER]       pkilint: what is there, and beside its issuer
    crl DER ISSUER                 pkilint, and cryptography's opinion of the signature
    chain HOST ROOT LEAF [BETWEEN ...]    cryptography: the chain as that of a server, HOST may be "-"

The answer is a line for each finding, "severity code: where", and a line with a dot.
"""

import base64
import datetime
import sys

from cryptography import x509
from cryptography.x509 import verification
from pkilint import loader, pkix
from pkilint.bin import lint_pkix_signer_signee_cert_chain as pair
from pkilint.pkix import certificate, crl, extension, name

CERTIFICATE = certificate.create_pkix_certificate_validator_container(
    certificate.create_decoding_validators(name.ATTRIBUTE_TYPE_MAPPINGS, extension.EXTENSION_MAPPINGS),
    [
        certificate.create_issuer_validator_container([]),
        certificate.create_validity_validator_container(),
        certificate.create_subject_validator_container([]),
        certificate.create_extensions_validator_container([]),
        certificate.create_spki_validator_container([]),
    ],
)
CRL = crl.create_pkix_crl_validator_container(
    [
        pkix.create_attribute_decoder(name.ATTRIBUTE_TYPE_MAPPINGS),
        pkix.create_extension_decoder(extension.EXTENSION_MAPPINGS),
    ],
    [
        crl.create_issuer_validator_container([]),
        crl.create_validity_validator_container([]),
        crl.create_extensions_validator_container([]),
    ],
)
DECODED = pair.create_decoder_validation_container()
BESIDE = [
    (pair.create_issuer_validation_container(), "issuer"),
    (pair.create_subject_validation_container(), "subject"),
]


def findings(results):
    for result in results:
        for description in result.finding_descriptions:
            finding = description.finding
            yield f"{finding.severity.name} {finding.code}: {result.node.path} {description.message or ''}"


def of_certificate(der, issuer=None):
    load = loader.RFC5280CertificateDocumentLoader().load_der_document
    yield from findings(CERTIFICATE.validate(load(der, "certificate").root))
    if issuer is not None:
        both = {}
        both["issuer"] = load(issuer, "issuer", "issuer", both)
        both["subject"] = load(der, "subject", "subject", both)
        for document in both.values():
            DECODED.validate(document.root)
        for validator, which in BESIDE:
            yield from findings(validator.validate(both[which].root))
    x509.load_der_x509_certificate(der).extensions


def of_crl(der, issuer):
    yield from findings(
        CRL.validate(loader.RFC5280CertificateListDocumentLoader().load_der_document(der, "crl").root)
    )
    key = x509.load_der_x509_certificate(issuer).public_key()
    if not x509.load_der_x509_crl(der).is_signature_valid(key):
        yield "cryptography: the list is not signed by its issuer"


def of_chain(host, root, leaf, *between):
    root, leaf, *between = map(x509.load_der_x509_certificate, (root, leaf, *between))
    now = leaf.not_valid_before_utc + (leaf.not_valid_after_utc - leaf.not_valid_before_utc) / 2
    policy = verification.PolicyBuilder().store(verification.Store([root])).time(now)
    try:
        if host == "-":
            policy.build_client_verifier().verify(leaf, between)
        else:
            policy.build_server_verifier(x509.DNSName(host)).verify(leaf, between)
    except verification.VerificationError as error:
        yield f"cryptography: {error}"


KINDS = {"certificate": of_certificate, "crl": of_crl, "chain": of_chain}

for line in sys.stdin:
    kind, *words = line.split()
    host = [words.pop(0)] if kind == "chain" else []
    try:
        for finding in KINDS[kind](*host, *map(base64.b64decode, words)):
            print(" ".join(finding.split()))
    except Exception as error:
        print(f"cannot be read: {type(error).__name__} {' '.join(str(error).split())}")
    print(".", flush=True)
