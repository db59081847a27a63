"""python-pkcs11 in a loop: python.py LIBRARY LABEL PIN, then lines "CASE THREADS MILLISECONDS SIZE" as limit.c answers them.

In one thread: two, each with its session, get CKR_GENERAL_ERROR from SoftHSM."""

import sys
import time

import pkcs11
from pkcs11 import KeyType, Mechanism, ObjectClass

library, label, pin = sys.argv[1:4]
session = pkcs11.lib(library).get_token(token_label=label).open(user_pin=pin, rw=True)


def private(name, key_type):
    return session.get_key(object_class=ObjectClass.PRIVATE_KEY, key_type=key_type, label=name)


ec = private("bench ec", KeyType.EC)
rsa = private("bench rsa", KeyType.RSA)
hmac = session.get_key(object_class=ObjectClass.SECRET_KEY, label="bench hmac")
data = bytes([7]) + bytes(31)
cases = {
    "ecdsa": lambda: ec.sign(data, mechanism=Mechanism.ECDSA),
    "rsa": lambda: rsa.sign(data, mechanism=Mechanism.SHA256_RSA_PKCS),
    "hmac": lambda: hmac.sign(data, mechanism=Mechanism.SHA256_HMAC),
    "random": lambda: session.generate_random(256),
}

for line in sys.stdin:
    case, _threads, milliseconds, _size = line.split()
    call, count = cases[case], 0
    begun = time.monotonic_ns()
    until = begun + int(milliseconds) * 1_000_000
    while time.monotonic_ns() < until:
        call()
        count += 1
    print(count, time.monotonic_ns() - begun, flush=True)
