// node's jose for the tests, as jose.py: a list of {jwk, jws, alg, payload} on stdin, answers go out; {jwk, alg, enc,
// plaintext} is encrypted.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const require = createRequire(process.argv[2] + "/");
const jose = await import(pathToFileURL(require.resolve("jose")));

let text = "";
for await (const chunk of process.stdin) text += chunk;

const answers = [];
for (const { jwk, jws, alg, payload, enc, plaintext } of JSON.parse(text)) {
  try {
    const key = await jose.importJWK(jwk, alg);
    if (plaintext !== undefined) {
      const sealed = new jose.CompactEncrypt(Buffer.from(plaintext)).setProtectedHeader({ alg, enc });
      answers.push({ jwe: await sealed.encrypt(key) });
      continue;
    }
    const options = { algorithms: [alg] };
    if (payload === undefined) {
      await jose.compactVerify(jws, key, options);
    } else {
      const [header, , signature] = jws.split(".");
      const raw = JSON.parse(Buffer.from(header, "base64url")).b64 === false;
      const signed = raw ? payload : Buffer.from(payload).toString("base64url");
      await jose.flattenedVerify({ protected: header, payload: signed, signature }, key, options);
    }
    answers.push(true);
  } catch (error) {
    answers.push(`${error.name}: ${error.message}`);
  }
}
process.stdout.write(JSON.stringify(answers));
