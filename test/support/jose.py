# Other people's JOSE for the tests: jwcrypto (all of it) and PyJWT (compact ones it knows).
# A JSON list of requests comes on stdin, a list of answers goes out:
#   {"do": "verify", "jwk": {...}, "jws": "...", "payload": "...", "alg": "..."}  -> true, or what was wrong
#   {"do": "sign", "kty": "...", "alg": "...", ...}  -> {"jwk": {...}, "private": {...}, "jws": "..."}
#   {"do": "thumbprint", "jwk": {...}}  -> "..."
#   {"do": "encrypt", "jwk": {...}, "header": {...}, "plaintext": "..."}  -> "..."; with "form": "json" in JSON, with "jwks"
#     and "headers" for several
#   {"do": "decrypt", "jwk": {...}, "jwe": "..."}  -> "..."
#   {"do": "generate", "key": {...}}  -> {...}, a private key
#   {"do": "key", "key": {...}}  -> {"jwk": {...}, "pem": "...", "public": {...}, "public_pem": "..."}
import base64, json, sys
import jwt
from jwcrypto import jwe, jwk, jws

ALL = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "ES256K",
       "EdDSA", "HS256", "HS384", "HS512"]


def verify(request):
    key = jwk.JWK(**request["jwk"])
    header, payload, signature = request["jws"].split(".", 2)
    unencoded = not json.loads(decode(header)).get("b64", True)
    if unencoded:
        payload, signature = request["jws"].split(".", 1)[1].rsplit(".", 1)
    if "payload" in request:
        payload = request["payload"] if unencoded else encode(request["payload"])

    token = jws.JWS()
    token.allowed_algs = ALL
    # jwcrypto takes payloads that are detached or unencoded in the JSON form only.
    token.deserialize(json.dumps({"protected": header, "payload": payload, "signature": signature}))
    token.verify(key)
    if "payload" not in request and not unencoded:
        token = jws.JWS()
        token.allowed_algs = ALL
        token.deserialize(request["jws"], key)
        if request["alg"] != "ES256K":
            jwt.decode(request["jws"], jwt.PyJWK(request["jwk"], request["alg"]).key,
                       algorithms=[request["alg"]])
    return True


def decode(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def encode(text):
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def sign(request):
    key = jwk.JWK.generate(**request["key"])
    token = jws.JWS(request["payload"].encode())
    token.allowed_algs = ALL
    token.add_signature(key, None, json.dumps({"alg": request["alg"]}), None)
    public = None if request["key"]["kty"] == "oct" else key.export_public(as_dict=True)
    return {"jwk": public, "private": key.export(as_dict=True), "jws": token.serialize(compact=True)}


def thumbprint(request):
    return jwk.JWK(**request["jwk"]).thumbprint()


def key(request):
    made = jwk.JWK.generate(**request["key"])
    return {"jwk": made.export(as_dict=True), "public": made.export_public(as_dict=True),
            "pem": made.export_to_pem(private_key=True, password=None).decode(),
            "public_pem": made.export_to_pem().decode()}


def encrypt(request):
    token = jwe.JWE(request["plaintext"].encode(), json.dumps(request["header"]), **request.get("more", {}))
    recipients = zip(request["jwks"], request["headers"]) if "jwks" in request else [(request["jwk"], None)]
    for key, header in recipients:
        token.add_recipient(jwk.JWK(**key), header and json.dumps(header))
    return token.serialize(compact=request.get("form") != "json")


def decrypt(request):
    token = jwe.JWE()
    token.deserialize(request["jwe"], jwk.JWK(**request["jwk"]))
    return token.payload.decode()


def generate(request):
    return jwk.JWK.generate(**request["key"]).export(as_dict=True)


DO = {"verify": verify, "sign": sign, "thumbprint": thumbprint, "key": key,
      "encrypt": encrypt, "decrypt": decrypt, "generate": generate}


def answer(request):
    try:
        return DO[request["do"]](request)
    except Exception as error:
        return "%s: %s" % (type(error).__name__, error)


json.dump([answer(request) for request in json.load(sys.stdin)], sys.stdout)
