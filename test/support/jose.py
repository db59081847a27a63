# Other people's JOSE for the tests: jwcrypto (all of it) and PyJWT (compact ones it knows).
# A JSON list of requests comes on stdin, a list of answers goes out:
#   {"do": "verify", "jwk": {...}, "jws": "...", "payload": "...", "alg": "..."}  -> true, or what was wrong
#   {"do": "sign", "kty": "...", "alg": "...", ...}  -> {"jwk": {...}, "private": {...}, "jws": "..."}
#   {"do": "thumbprint", "jwk": {...}}  -> "..."
import base64, json, sys
import jwt
from jwcrypto import jwk, jws

ALL = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "ES256K",
       "EdDSA", "HS256", "HS384", "HS512"]


def verify(request):
    key = jwk.JWK(**request["jwk"])
    token = jws.JWS()
    token.allowed_algs = ALL
    token.deserialize(request["jws"])
    if "payload" in request:
        token.verify(key, detached_payload=request["payload"].encode())
    else:
        token.verify(key)
        if request["alg"] in jwt.algorithms.get_default_algorithms() and token.jose_header.get("b64", True):
            loaded = jwt.PyJWK(request["jwk"], request["alg"]).key
            jwt.decode(request["jws"], loaded, algorithms=[request["alg"]], options={"verify_exp": False})
    return True


def sign(request):
    key = jwk.JWK.generate(**request["key"])
    token = jws.JWS(request["payload"].encode())
    token.allowed_algs = ALL
    token.add_signature(key, None, json.dumps({"alg": request["alg"]}), None)
    public = None if request["key"]["kty"] == "oct" else key.export_public(as_dict=True)
    return {"jwk": public, "private": key.export(as_dict=True), "jws": token.serialize(compact=True)}


def thumbprint(request):
    return jwk.JWK(**request["jwk"]).thumbprint()


def answer(request):
    try:
        return {"verify": verify, "sign": sign, "thumbprint": thumbprint}[request["do"]](request)
    except Exception as error:
        return "%s: %s" % (type(error).__name__, error)


json.dump([answer(request) for request in json.load(sys.stdin)], sys.stdout)
