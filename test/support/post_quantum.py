# Other people's ML-DSA for the tests: certificates, requests and lists by cryptography, tokens of the web by jwcrypto. A JSON
# list of requests comes in a file, a list of answers goes to stdout; bytes are hexadecimal:
#   {"do": "issued", "der": "...", "issuer": "..."}  -> "ok", or what was wrong; likewise "request" and "list"
#   {"do": "verify", "jwk": {...}, "jws": "..."}  -> the payload
#   {"do": "sign", "alg": "ML-DSA-44", "payload": "..."}  -> {"jwk": {...}, "jws": "..."}
#   {"do": "thumbprint", "jwk": {...}}  -> "..."
import json, sys
from cryptography import x509
from jwcrypto import jwk, jws

ALL = ["ML-DSA-44", "ML-DSA-65", "ML-DSA-87"]


def certificate(hexadecimal):
    return x509.load_der_x509_certificate(bytes.fromhex(hexadecimal))


def issued(request):
    certificate(request["der"]).verify_directly_issued_by(certificate(request["issuer"]))
    return "ok"


def request(request):
    read = x509.load_der_x509_csr(bytes.fromhex(request["der"]))
    return "ok" if read.is_signature_valid else "refused"


def revocation_list(request):
    read = x509.load_der_x509_crl(bytes.fromhex(request["der"]))
    return "ok" if read.is_signature_valid(certificate(request["issuer"]).public_key()) else "refused"


def verify(request):
    token = jws.JWS()
    token.allowed_algs = ALL
    token.deserialize(request["jws"], jwk.JWK(**request["jwk"]))
    return token.payload.decode()


def sign(request):
    key = jwk.JWK.generate(kty="AKP", alg=request["alg"])
    token = jws.JWS(request["payload"].encode())
    token.allowed_algs = ALL
    token.add_signature(key, None, json.dumps({"alg": request["alg"]}), None)
    return {"jwk": key.export_public(as_dict=True), "jws": token.serialize(compact=True)}


def thumbprint(request):
    return jwk.JWK(**request["jwk"]).thumbprint()


ASK = {"issued": issued, "request": request, "list": revocation_list, "verify": verify, "sign": sign,
       "thumbprint": thumbprint}


def said(request):
    try:
        return ASK[request["do"]](request)
    except Exception as error:
        return "%s: %s" % (type(error).__name__, error)


json.dump([said(one) for one in json.load(open(sys.argv[1]))], sys.stdout)
