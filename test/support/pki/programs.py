"""Requests that programs make, each in its own ways. A maker gets a folder of its own, and whether all are wanted."""

import os
import subprocess

from answers import UNKNOWN, accepted, either, refused

WEAK = refused("invalid_argument", "unsupported")


def run(*command, input=None, cwd=None):
    done = subprocess.run(list(map(str, command)), input=input, cwd=cwd, capture_output=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}: {done.stdout.decode()}{done.stderr.decode()}")
    return done.stdout


def openssl(folder, everything):
    def key(name, *arguments):
        file = folder / f"{name}.key"
        if not file.exists():
            run("openssl", "genpkey", "-out", file, *arguments)
        return file

    def curve(name, encoding="named_curve"):
        return key(
            f"{name}-{encoding}",
            "-algorithm",
            "EC",
            "-pkeyopt",
            f"ec_paramgen_curve:{name}",
            "-pkeyopt",
            f"ec_param_enc:{encoding}",
        )

    def rsa(bits, kind="RSA"):
        return key(f"{kind}{bits}", "-algorithm", kind, "-pkeyopt", f"rsa_keygen_bits:{bits}")

    p256 = curve("P-256")
    config = folder / "req.cnf"

    def make(subject="/CN=www", extensions=(), key=p256, mask=None, more=(), der=False):
        settings = f"string_mask = {mask}\n" if mask else ""
        lines = "".join(f"{line}\n" for line in extensions)
        asked = "req_extensions = asked\n" if extensions else ""
        config.write_text(
            f"[req]\n{settings}{asked}distinguished_name = dn\n[dn]\n[asked]\n{lines}[dir]\nC = DE\nCN = x\n[policy]\npolicyIdentifier = 1.2.3.4\nCPS.1 = https://acme.test/cps\n"
        )
        form = ["-outform", "DER"] if der else []
        return run("openssl", "req", "-new", "-config", config, "-key", key, "-subj", subject, "-utf8", *form, *more)

    plain = "/C=DE/ST=Bavaria/O=Acme & Co/CN=www.acme.test"
    letters = "/O=Müller/CN=www"
    for mask in [
        "utf8only",
        "nombstr",
        "pkix",
        "default",
        "MASK:0x2",
        "MASK:0x4",
        "MASK:0x800",
        "MASK:0x2000",
        "MASK:0x2806",
    ]:
        # & is no sign of PrintableString.
        if mask != "MASK:0x2":
            yield f"{mask}, ASCII", accepted(plain), make(plain, mask=mask)
            yield f"{mask}, umlauts", accepted(letters), make(letters, mask=mask)
        if mask in ("utf8only", "pkix", "default", "MASK:0x800"):
            yield f"{mask}, 東京", accepted("/CN=東京"), make("/CN=東京", mask=mask)
    yield "MASK:0x2, letters", accepted("/O=Acme/CN=www"), make("/O=Acme/CN=www", mask="MASK:0x2")
    yield "in DER", accepted(), make(der=True)
    yield "with its text", accepted(), make(more=["-text"])
    yield "NEW", accepted(), make(more=["-newhdr"])
    yield "two values in a part", accepted("/OU=web+O=Acme/CN=www"), make("/O=Acme+OU=web/CN=www")
    yield "an e-mail address", accepted("/CN=www/emailAddress=a@acme.test"), make("/CN=www/emailAddress=a@acme.test")
    yield "domain components", accepted("/DC=test/DC=acme/CN=www"), make("/DC=test/DC=acme/CN=www")
    ev = "/businessCategory=Private Organization/jurisdictionC=DE/serialNumber=HRB 1/postalCode=80331/C=DE/O=Acme/CN=www"
    yield "extended validation", accepted(ev), make(ev)
    yield "nobody", accepted("", ("dns", "a.test")), make("/", ["subjectAltName = DNS:a.test"])

    for text, line, names in [
        ("host", "DNS:www.acme.test,DNS:*.acme.test", [("dns", "www.acme.test"), ("dns", "*.acme.test")]),
        ("addresses", "IP:192.0.2.1,IP:2001:db8::1", [("ip", "192.0.2.1"), ("ip", "2001:db8::1")]),
        ("e-mail", "email:a@acme.test", [("email", "a@acme.test")]),
        ("URI", "URI:https://acme.test/x", [("uri", "https://acme.test/x")]),
        ("principal", "otherName:msUPN;UTF8:a@acme.test", [("upn", "a@acme.test")]),
        ("identifier", "RID:1.2.3.4", [("rid", (1, 2, 3, 4))]),
        ("directory", "dirName:dir", [("dir_name", "/C=DE/CN=x")]),
        ("other", "otherName:1.2.3.4;UTF8:x", [("other_name", (1, 2, 3, 4), b"\x0c\x01x")]),
        ("critical", "critical,DNS:a.test", [("dns", "a.test")]),
    ]:
        yield f"names: {text}", accepted("/CN=www", *names), make(extensions=[f"subjectAltName = {line}"])
    for line in [
        "basicConstraints = critical,CA:TRUE,pathlen:1",
        "basicConstraints = CA:FALSE",
        "keyUsage = critical,digitalSignature,keyEncipherment",
        "extendedKeyUsage = serverAuth,clientAuth",
        "extendedKeyUsage = 1.2.3.4",
        "certificatePolicies = 1.2.3.4,@policy",
        "tlsfeature = status_request",
        "nameConstraints = permitted;DNS:acme.test",
        "crlDistributionPoints = URI:http://acme.test/crl",
        "authorityInfoAccess = OCSP;URI:http://acme.test/ocsp",
        "subjectKeyIdentifier = hash",
        "1.2.3.4 = DER:0500",
        "1.2.3.4 = critical,ASN1:UTF8String:x",
        "nsComment = old",
        "nsCertType = server",
        "noCheck = ignored",
        "issuerAltName = DNS:a.test",
    ]:
        yield f"asks for {line}", accepted(), make(extensions=[line])
    yield "asks for all of it", accepted("/CN=www", ("dns", "a.test")), make(
        extensions=[
            "basicConstraints = CA:FALSE",
            "keyUsage = digitalSignature",
            "extendedKeyUsage = serverAuth",
            "subjectAltName = DNS:a.test",
        ]
    )
    yield "a challenge password", accepted(), run(
        "openssl", "req", "-new", "-key", p256, "-config", challenge(folder)
    )

    for bits in [2048, 3072, 4096] if everything else [2048]:
        yield f"RSA {bits}", accepted(), make(key=rsa(bits))
    big = rsa(2048)
    for digest in ["sha384", "sha512"]:
        yield f"RSA with {digest}", accepted(), make(key=big, more=[f"-{digest}"])
        yield f"P-256 with {digest}", accepted(), make(more=[f"-{digest}"])
    for digest in ["sha1", "md5"]:
        yield f"RSA with {digest}", UNKNOWN, make(key=big, more=[f"-{digest}"])
    for digest in ["sha224", "sha3-256"]:
        yield f"RSA with {digest}", accepted(), make(key=big, more=[f"-{digest}"])
    for text, options in [
        ("salt of the hash", ["rsa_padding_mode:pss"]),
        ("salt of 20", ["rsa_padding_mode:pss", "rsa_pss_saltlen:20"]),
        ("no salt", ["rsa_padding_mode:pss", "rsa_pss_saltlen:0"]),
        ("the longest salt", ["rsa_padding_mode:pss", "rsa_pss_saltlen:max"]),
    ]:
        yield f"RSA and PSS, {text}", accepted(), make(
            key=big, more=[argument for option in options for argument in ("-sigopt", option)]
        )
    yield "RSA and PSS with another MGF1", either(accepted(), UNKNOWN), make(
        key=big, more=["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_mgf1_md:sha384"]
    )
    yield "RSA-PSS", either(accepted(), UNKNOWN), make(key=rsa(2048, "RSA-PSS"))
    for size in [512, 768]:
        yield f"RSA {size}", WEAK, make(key=rsa(size))
    for name in ["P-384", "P-521", "secp256k1", "brainpoolP256r1", "brainpoolP384r1", "brainpoolP512r1"]:
        yield name, accepted(), make(key=curve(name))
    for name in ["P-256", "secp256k1"]:
        yield f"{name}, written out", WEAK, make(key=curve(name, "explicit"))
    for name in ["secp112r1", "sect163k1", "prime192v1"]:
        yield name, WEAK, make(key=curve(name))
    yield "SM2", WEAK, make(key=key("sm2", "-algorithm", "SM2"))
    for name in ["ED25519", "ED448"]:
        yield name, accepted(), make(key=key(name, "-algorithm", name))
    run(
        "openssl",
        "genpkey",
        "-genparam",
        "-algorithm",
        "DSA",
        "-pkeyopt",
        "dsa_paramgen_bits:1024",
        "-out",
        folder / "dsa.parameters",
    )
    yield "DSA", WEAK, make(key=key("dsa", "-paramfile", folder / "dsa.parameters"))


def challenge(folder):
    file = folder / "challenge.cnf"
    file.write_text(
        "[req]\nprompt = no\nattributes = asked\ndistinguished_name = dn\n[dn]\nCN = www\n[asked]\nchallengePassword = secret\nunstructuredName = Acme\n"
    )
    return file


def certtool(folder, everything):
    template = folder / "template"

    def make(lines, kind=("--key-type=ecdsa", "--curve=secp256r1"), more=()):
        key = folder / ("".join(kind).replace("=", "") + ".key")
        if not key.exists():
            run("certtool", "--generate-privkey", *kind, "--no-text", "--outfile", key)
        template.write_text("\n".join(lines) + "\n")
        return run(
            "certtool", "--generate-request", "--load-privkey", key, "--template", template, "--no-text", *more
        )

    name = ['cn = "www"']
    yield "plain", accepted(), make(name)
    yield "with its text", accepted(), run(
        "certtool",
        "--generate-request",
        "--load-privkey",
        folder / "--key-typeecdsa--curvesecp256r1.key",
        "--template",
        template,
        "--text",
    )
    yield "a whole subject", accepted("/C=DE/ST=Bavaria/L=Munich/O=Acme/OU=web/CN=Müller"), make(
        [
            'country = "DE"',
            'state = "Bavaria"',
            'locality = "Munich"',
            'organization = "Acme"',
            'unit = "web"',
            'cn = "Müller"',
        ]
    )
    yield "a name as in RFC 4514", accepted("/C=DE/O=Acme/CN=www"), make(['dn = "CN=www,O=Acme,C=DE"'])
    yield "hosts and addresses", accepted(
        "/CN=www",
        ("dns", "a.test"),
        ("dns", "b.test"),
        ("uri", "https://a.test/"),
        ("ip", "192.0.2.1"),
        ("email", "a@a.test"),
    ), make(
        name
        + [
            'dns_name = "a.test"',
            'dns_name = "b.test"',
            'ip_address = "192.0.2.1"',
            'uri = "https://a.test/"',
            'email = "a@a.test"',
        ]
    )
    yield "another name", accepted("/CN=www", ("other_name", (1, 3, 6, 1, 5, 5, 7, 8, 5), b"\x0c\x01x")), make(
        name + ['other_name_utf8 = "1.3.6.1.5.5.7.8.5 x"']
    )
    yield "usages", accepted(), make(name + ["signing_key", "encryption_key", "tls_www_server", "tls_www_client"])
    yield "an authority", accepted(), make(name + ["ca", "cert_signing_key", "path_len = 1"])
    yield "a challenge password", accepted(), make(name + ['challenge_password = "secret"'])
    for text, kind in [
        ("Ed25519", ["--key-type=ed25519"]),
        ("Ed448", ["--key-type=ed448"]),
        ("P-384", ["--key-type=ecdsa", "--curve=secp384r1"]),
        ("P-521", ["--key-type=ecdsa", "--curve=secp521r1"]),
        ("RSA", ["--key-type=rsa", "--bits=2048"]),
    ]:
        yield text, accepted(), make(name, tuple(kind))
    yield "RSA-PSS", either(accepted(), UNKNOWN), make(name, ("--key-type=rsa-pss", "--bits=2048"))
    yield "RSA with SHA-512", accepted(), make(name, ("--key-type=rsa", "--bits=2048"), ["--hash=SHA512"])
    yield "RSA with SHA-1", UNKNOWN, make(name, ("--key-type=rsa", "--bits=2048"), ["--hash=SHA1"])


def certutil(folder, everything):
    run("certutil", "-N", "-d", folder, "--empty-password")
    noise = folder / "noise"
    noise.write_bytes(os.urandom(100))

    def make(kind=("-k", "ec", "-q", "nistp256"), subject="CN=www,O=Acme,C=DE", more=()):
        return run("certutil", "-R", "-d", folder, "-z", noise, "-s", subject, *kind, *more)

    name = "/C=DE/O=Acme/CN=www"
    yield "plain", accepted(name), make()
    yield "text", accepted(name), make(more=["-a"])
    yield "umlauts", accepted("/O=Müller/CN=www"), make(subject="CN=www,O=Müller", more=["-a"])
    yield "a host", accepted(name, ("dns", "a.test")), make(more=["-8", "a.test"])
    yield "names", accepted(name, ("dns", "a.test"), ("ip", "192.0.2.1"), ("uri", "https://a.test/")), make(
        more=["--extSAN", "dns:a.test,ip:192.0.2.1,uri:https://a.test/"]
    )
    yield "usages", accepted(name), make(
        more=["--keyUsage", "digitalSignature,critical", "--extKeyUsage", "serverAuth"]
    )
    for curve in ["nistp384", "nistp521"]:
        yield curve, accepted(name), make(("-k", "ec", "-q", curve))
    yield "RSA", accepted(name), make(("-k", "rsa", "-g", "2048"))
    yield "RSA with SHA-512", accepted(name), make(("-k", "rsa", "-g", "2048", "-Z", "SHA512"))
    if everything:
        yield "RSA-PSS", either(accepted(name), UNKNOWN), make(("-k", "rsa", "-g", "2048", "--pss"))
        yield "DSA", WEAK, make(("-k", "dsa", "-g", "1024"))


def keytool(folder, everything):
    store = ["-keystore", folder / "store", "-storepass", "secret7", "-storetype", "PKCS12"]

    def make(alias, kind, subject="CN=www, O=Acme, C=DE", extensions=()):
        run("keytool", "-genkeypair", "-alias", alias, "-keypass", "secret7", "-dname", subject, *kind, *store)
        asked = [argument for line in extensions for argument in ("-ext", line)]
        return run("keytool", "-certreq", "-alias", alias, *store, *asked)

    name = "/C=DE/O=Acme/CN=www"
    p256 = ("-keyalg", "EC", "-groupname", "secp256r1")
    yield "P-256", accepted(name), make("p256", p256)
    yield "RSA", accepted(name, ("dns", "a.test"), ("ip", "192.0.2.1")), make(
        "rsa",
        ("-keyalg", "RSA", "-keysize", "2048"),
        extensions=["san=dns:a.test,ip:192.0.2.1", "ku=digitalSignature", "eku=serverAuth"],
    )
    if everything:
        yield "umlauts", accepted("/C=DE/O=Müller/CN=東京"), make("text", p256, "CN=東京, O=Müller, C=DE")
        yield "P-384", accepted(name), make("p384", ("-keyalg", "EC", "-groupname", "secp384r1"))
        yield "P-521", accepted(name), make("p521", ("-keyalg", "EC", "-groupname", "secp521r1"))
        yield "Ed25519", accepted(name), make("ed25519", ("-keyalg", "Ed25519"))
        yield "Ed448", accepted(name), make("ed448", ("-keyalg", "Ed448"))
        yield "RSA and PSS", accepted(name), make(
            "pss", ("-keyalg", "RSA", "-keysize", "2048", "-sigalg", "RSASSA-PSS")
        )
        yield "RSA-PSS", either(accepted(name), UNKNOWN), make(
            "rsapss", ("-keyalg", "RSASSA-PSS", "-keysize", "2048")
        )
        yield "DSA", WEAK, make("dsa", ("-keyalg", "DSA", "-keysize", "2048"))
