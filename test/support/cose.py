# Other people's COSE for the tests: pycose and cwt, each on its own. A JSON list of requests comes in a file, a list of answers
# goes to stdout; bytes are hexadecimal:
#   {"do": "verify", "jwk": {...}, "message": "...", "external": "...", "payload": "..."}  -> ["...", "..."], what each says
#   {"do": "sign", "jwk": {...}, "alg": "...", "payload": "...", "external": "...", "detached": true}  -> ["...", "..."]
#   {"do": "encode", "value": ...}  -> "...", what cbor2 writes of JSON, keys by length first (RFC 7049)
#   {"do": "to_be_signed", "message": "...", "external": "..."}  -> "...", by cbor2 alone
import json, sys
import cbor2
import pycose.algorithms
import pycose.headers
import pycose.keys.curves as curves
from pycose.keys import EC2Key, OKPKey, RSAKey
from pycose.messages import Sign1Message
from cwt import COSE, COSEKey
from cryptography.hazmat.primitives.asymmetric import rsa
import base64

NAMES = {"ES256": "Es256", "ES384": "Es384", "ES512": "Es512", "EdDSA": "EdDSA", "PS256": "Ps256", "PS384": "Ps384",
         "PS512": "Ps512"}
CURVES = {"P-256": curves.P256, "P-384": curves.P384, "P-521": curves.P521, "Ed25519": curves.Ed25519,
          "Ed448": curves.Ed448}


def member(jwk, name):
    return base64.urlsafe_b64decode(jwk[name] + "=" * (-len(jwk[name]) % 4)) if name in jwk else b""


def pycose_key(jwk):
    if jwk["kty"] == "RSA":
        parts = {name: member(jwk, name) for name in ("n", "e", "d", "p", "q", "dp", "dq", "qi") if name in jwk}
        names = {"dp": "dp", "dq": "dq", "qi": "qinv"}
        return RSAKey(**{names.get(name, name): value for name, value in parts.items()})
    curve = CURVES[jwk["crv"]]
    if jwk["kty"] == "EC":
        return EC2Key(crv=curve, x=member(jwk, "x"), y=member(jwk, "y"), d=member(jwk, "d"))
    return OKPKey(crv=curve, x=member(jwk, "x"), d=member(jwk, "d"))


def by_pycose(request):
    message = Sign1Message.decode(bytes.fromhex(request["message"]))
    message.key = pycose_key(request["jwk"])
    message.external_aad = bytes.fromhex(request["external"])
    detached = request.get("payload")
    if not message.verify_signature(detached_payload=bytes.fromhex(detached) if detached else None):
        return "pycose: refused"
    return "ok"


def by_cwt(request):
    key = COSEKey.from_jwk({"alg": request["alg"], "kid": "11", **request["jwk"]})
    detached = request.get("payload")
    COSE.new().decode(bytes.fromhex(request["message"]), key, external_aad=bytes.fromhex(request["external"]),
                      detached_payload=bytes.fromhex(detached) if detached else None)
    return "ok"


def verify(request):
    return [said(by_pycose, request), said(by_cwt, request)]


def sign_by_pycose(request):
    alg = getattr(pycose.algorithms, NAMES[request["alg"]])
    payload = bytes.fromhex(request["payload"])
    detached = request.get("detached", False)
    message = Sign1Message(phdr={pycose.headers.Algorithm: alg}, uhdr={pycose.headers.KID: b"11"},
                           payload=None if detached else payload, external_aad=bytes.fromhex(request["external"]))
    message.key = pycose_key(request["jwk"])
    return message.encode(detached_payload=payload if detached else None).hex()


def sign_by_cwt(request):
    key = COSEKey.from_jwk({"alg": request["alg"], "kid": "11", **request["jwk"]})
    cose = COSE.new(alg_auto_inclusion=True, kid_auto_inclusion=True)
    return cose.encode_and_sign(bytes.fromhex(request["payload"]), key, external_aad=bytes.fromhex(request["external"])).hex()


def sign(request):
    return [said(sign_by_pycose, request), said(sign_by_cwt, request)]


def encode(request):
    return cbor2.dumps(value(request["value"]), canonical=True).hex()


# JSON has no bytes and no other keys than strings: [["key", "value"], ...] under "map", and hexadecimal under "bytes".
def value(term):
    if isinstance(term, list):
        return [value(one) for one in term]
    if isinstance(term, dict):
        if "bytes" in term:
            return bytes.fromhex(term["bytes"])
        if "map" in term:
            return {value(key): value(one) for key, one in term["map"]}
        return cbor2.CBORTag(term["tag"], value(term["value"]))
    return term


def to_be_signed(request):
    message = cbor2.loads(bytes.fromhex(request["message"]))
    protected, _unprotected, payload, signature = message.value if isinstance(message, cbor2.CBORTag) else message
    return [cbor2.dumps(["Signature1", protected, bytes.fromhex(request["external"]), payload]).hex(), signature.hex()]


def said(ask, request):
    try:
        return ask(request)
    except Exception as error:
        return "%s: %s" % (type(error).__name__, error)


ASK = {"verify": verify, "sign": sign, "encode": encode, "to_be_signed": to_be_signed}
json.dump([said(ASK[request["do"]], request) for request in json.load(open(sys.argv[1]))], sys.stdout)
