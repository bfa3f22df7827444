// The test vectors of docs/encryption.md with WebCrypto alone, as a browser has it. Argument: the document.
// Prints "ok" and how many values it compared, or what differs, with exit code 1.
import { readFileSync } from "node:fs";

const { subtle } = globalThis.crypto;
const rows = {};
for (const [, name, value] of readFileSync(process.argv[2], "utf8").matchAll(/^\| ([^|]+?) \| `([^`]+)` \|$/gm)) {
  rows[name] = value;
}
const row = (name) => {
  if (!(name in rows)) throw new Error(`the document has no row "${name}"`);
  return rows[name];
};
const bytes = (text) => Uint8Array.from(Buffer.from(text, "base64"));
const binary = (name) => bytes(row(`${name} (base64)`));
const base64 = (data) => Buffer.from(data).toString("base64");
const utf8 = (text) => new TextEncoder().encode(text);
const joined = (...parts) => Uint8Array.from(Buffer.concat(parts.map((part) => Buffer.from(part))));

let compared = 0;
function same(name, found, wanted = row(name)) {
  compared += 1;
  if (found !== wanted) {
    console.log(`${name}: ${found}, but the document says ${wanted}`);
    process.exit(1);
  }
}

async function refused(name, work) {
  compared += 1;
  try {
    await work();
  } catch {
    return;
  }
  console.log(`${name}: was not refused`);
  process.exit(1);
}

const gcm = (key, usages) => subtle.importKey("raw", key, "AES-GCM", false, usages);

async function message() {
  const key = await gcm(binary("key"), ["encrypt", "decrypt"]);
  const lines = ["aldis A256GCM", row("sender"), row("recipient"), row("key version")];
  const additionalData = utf8(lines.join("\n"));
  same("associated data (base64)", base64(additionalData));
  const parameters = { name: "AES-GCM", iv: binary("nonce"), additionalData };
  same("body (base64)", base64(await subtle.encrypt(parameters, key, utf8(row("text")))));
  same("text", new TextDecoder().decode(await subtle.decrypt(parameters, key, binary("body"))));
  for (const place of [1, 2, 3]) {
    const changed = [...lines];
    changed[place] += "1";
    const other = { ...parameters, additionalData: utf8(changed.join("\n")) };
    await refused(`another line ${place}`, () => subtle.decrypt(other, key, binary("body")));
  }
}

const PKCS8 = Buffer.from("302e020100300506032b656e04220420", "hex");
const privateKey = (name) => subtle.importKey("pkcs8", joined(PKCS8, binary(`${name} private`)), "X25519", true, ["deriveBits"]);
const publicKey = (raw) => subtle.importKey("raw", raw, "X25519", true, []);
const exchange = async (own, raw) =>
  new Uint8Array(await subtle.deriveBits({ name: "X25519", public: await publicKey(raw) }, own, 256));

async function cipherOf(shared, once, by, to) {
  const material = await subtle.importKey("raw", shared, "HKDF", false, ["deriveBits"]);
  const info = joined(utf8("aldis sealed wrap 1"), once, by, to);
  const hkdf = { name: "HKDF", hash: "SHA-256", salt: new Uint8Array(), info };
  return new Uint8Array(await subtle.deriveBits(hkdf, material, 44 * 8));
}

async function sealed() {
  const [s, r, e] = await Promise.all(["S", "R", "E"].map(privateKey));
  const [sPublic, rPublic, ePublic] = ["S", "R", "E"].map((name) => binary(`${name} public`));
  for (const [name, key, raw] of [["S", s, sPublic], ["R", r, rPublic], ["E", e, ePublic]]) {
    const { x } = await subtle.exportKey("jwk", key);
    same(`${name} public (base64)`, base64(Buffer.from(x, "base64url")), base64(raw));
  }
  const shared = joined(await exchange(e, rPublic), await exchange(s, rPublic));
  same("shared (base64)", base64(shared));
  const derived = await cipherOf(shared, ePublic, sPublic, rPublic);
  same("derived key and nonce (base64)", base64(derived));
  const users = [row("from user"), row("for user")].sort();
  const lines = ["aldis sealed wrap 1", ...users, row("sealed version"), row("from user"), row("from device"),
    row("for user"), row("for device")];
  const additionalData = utf8(lines.join("\n"));
  same("sealed associated data (base64)", base64(additionalData));
  const key = await gcm(derived.slice(0, 32), ["encrypt", "decrypt"]);
  const parameters = { name: "AES-GCM", iv: derived.slice(32), additionalData };
  const cipher = await subtle.encrypt(parameters, key, binary("relation key"));
  same("blob (base64)", base64(joined([1], ePublic, new Uint8Array(cipher))));

  // the other side: what the device with R does
  const blob = binary("blob");
  const again = joined(await exchange(r, blob.slice(1, 33)), await exchange(r, sPublic));
  const theirs = await cipherOf(again, blob.slice(1, 33), sPublic, rPublic);
  const opening = await gcm(theirs.slice(0, 32), ["decrypt"]);
  const opened = await subtle.decrypt({ ...parameters, iv: theirs.slice(32) }, opening, blob.slice(33));
  same("relation key (base64)", base64(opened));
  for (let place = 1; place < lines.length; place += 1) {
    const changed = [...lines];
    changed[place] += "1";
    const other = { ...parameters, additionalData: utf8(changed.join("\n")) };
    await refused(`another line ${place}`, () => subtle.decrypt(other, opening, blob.slice(33)));
  }

  const mac = await subtle.importKey("raw", opened, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  const checked = ["aldis sealed check 1", ...users, row("sealed version")].join("\n");
  same("check (base64)", base64(await subtle.sign("HMAC", mac, utf8(checked))));

  const from = { [row("from device")]: sPublic, [row("second device of from user")]: ePublic };
  const digits = { [row("from user")]: await fingerprint(row("from user"), from),
    [row("for user")]: await fingerprint(row("for user"), { [row("for device")]: rPublic }) };
  same("safety number", users.map((user) => digits[user]).join("").match(/\d{5}/g).join(" "));
}

async function fingerprint(user, devices) {
  const ids = Object.keys(devices).sort((one, other) => Buffer.compare(Buffer.from(one), Buffer.from(other)));
  const listed = ids.map((id) => `\n${id}\n${Buffer.from(devices[id]).toString("hex")}`).join("");
  const digest = Buffer.from(await subtle.digest("SHA-512", utf8(`aldis safety number 1\n${user}${listed}`)));
  return [0, 1, 2, 3, 4, 5].map((group) => String(digest.readUIntBE(5 * group, 5) % 100_000).padStart(5, "0")).join("");
}

// A file in chunks: number as nonce, number and "last" in the associated data.
const CHUNK = 65_536;
const TAG = 16;
const place = (number, last) => {
  const iv = new Uint8Array(12);
  new DataView(iv.buffer).setUint32(8, number);
  return { name: "AES-GCM", iv, additionalData: utf8(`aldis file A256GCM-64K\n${number}\n${last ? "last" : "more"}`) };
};

async function sealedFile(key, data) {
  const count = Math.max(1, Math.ceil(data.length / CHUNK));
  const chunks = [];
  for (let number = 0; number < count; number += 1) {
    const chunk = data.slice(number * CHUNK, (number + 1) * CHUNK);
    chunks.push(new Uint8Array(await subtle.encrypt(place(number, number === count - 1), key, chunk)));
  }
  return joined(...chunks);
}

async function openedFile(key, data) {
  const count = Math.ceil(data.length / (CHUNK + TAG));
  const chunks = [];
  for (let number = 0; number < count; number += 1) {
    const chunk = data.slice(number * (CHUNK + TAG), (number + 1) * (CHUNK + TAG));
    chunks.push(new Uint8Array(await subtle.decrypt(place(number, number === count - 1), key, chunk)));
  }
  return joined(...chunks);
}

async function file() {
  const key = await gcm(binary("file key"), ["encrypt", "decrypt"]);
  same("file nonce (base64)", base64(place(0, true).iv));
  same("file associated data (base64)", base64(place(0, true).additionalData));
  same("file bytes (base64)", base64(await sealedFile(key, utf8(row("file text")))));
  same("file text", new TextDecoder().decode(await openedFile(key, binary("file bytes"))));
  const long = Uint8Array.from({ length: Number(row("long file size")) }, (_, index) => (7 * index) % 251);
  const stored = await sealedFile(key, long);
  same("long file sha256", Buffer.from(await subtle.digest("SHA-256", stored)).toString("hex"));
  same("long file", base64(await openedFile(key, stored)), base64(long));
  await refused("a file cut off at a chunk", () => openedFile(key, stored.slice(0, CHUNK + TAG)));
  const turned = joined(stored.slice(CHUNK + TAG), stored.slice(0, CHUNK + TAG));
  await refused("chunks in another order", () => openedFile(key, turned));
}

await message();
await sealed();
await file();
console.log(`ok ${compared}`);
