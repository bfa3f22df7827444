// The vectors of docs/encryption.md through the engine of the web chat: with WebCrypto and without it.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";

import { base64, joined, newId, unbase64, utf8, wellFormed } from "../../../mobile_client_demo/web/engine/bytes.js";
import { CannotDecrypt, associatedData, cipher, hasher, openText, sealText } from "../../../mobile_client_demo/web/engine/crypto.js";
import {
  CHUNK, FileOpener, STORED_CHUNK, chunkData, hashFile, nonce, plainSize, sealFile, storedSize,
} from "../../../mobile_client_demo/web/engine/files.js";
import { chance } from "./chance.mjs";

const document = readFileSync(new URL("../../../docs/encryption.md", import.meta.url), "utf8");
const rows = Object.fromEntries([...document.matchAll(/^\| ([^|]+?) \| `([^`]+)` \|$/gm)].map(([, name, value]) => [name, value]));
const row = (name) => {
  assert.ok(name in rows, `the document has no row "${name}"`);
  return rows[name];
};
const binary = (name) => unbase64(row(`${name} (base64)`));
const WAYS = { WebCrypto: globalThis.crypto.subtle, noble: null };

const message = () => ({
  key: { version: Number(row("key version")), key: binary("key") },
  what: { sender: row("sender"), recipient: row("recipient") },
});

for (const [way, subtle] of Object.entries(WAYS)) {
  test(`the documented message, ${way}`, async () => {
    const { key, what } = message();
    assert.equal(base64(associatedData(what.sender, what.recipient, key.version)), row("associated data (base64)"));
    const sealed = await sealText(key, { ...what, text: row("text") }, { nonce: binary("nonce"), subtle });
    assert.deepEqual(sealed, { enc: { alg: "A256GCM", v: key.version, nonce: row("nonce (base64)") }, body: row("body (base64)") });
    assert.equal(await openText(key, { ...what, ...sealed }, { subtle }), row("text"));
  });

  test(`what was changed does not open, ${way}`, async () => {
    const { key, what } = message();
    const sealed = await sealText(key, { ...what, text: "hi" }, { subtle });
    const flipped = unbase64(sealed.body);
    flipped[0] ^= 1;
    const other = [
      [key, { ...what, sender: what.recipient, recipient: what.sender, ...sealed }],
      [key, { ...what, sender: "mallory", ...sealed }],
      [{ ...key, version: key.version + 1 }, { ...what, enc: { ...sealed.enc, v: key.version + 1 }, body: sealed.body }],
      [{ ...key, version: key.version + 1 }, { ...what, ...sealed }],
      [{ ...key, key: binary("file key") }, { ...what, ...sealed }],
      [key, { ...what, enc: sealed.enc, body: base64(flipped) }],
      [key, { ...what, enc: sealed.enc, body: "AAAA" }],
      [key, { ...what, enc: sealed.enc, body: "no base64!" }],
      [key, { ...what, enc: sealed.enc, body: 7 }],
      [key, { ...what, enc: { ...sealed.enc, nonce: "AAAA" }, body: sealed.body }],
      [key, { ...what, enc: { ...sealed.enc, alg: "none" }, body: sealed.body }],
      [key, { ...what, enc: undefined, body: sealed.body }],
    ];
    for (const [with_, told] of other) await assert.rejects(openText(with_, told, { subtle }), CannotDecrypt);
  });

  test(`every message has a nonce of its own, ${way}`, async () => {
    const { key, what } = message();
    const nonces = new Set();
    for (let count = 0; count < 50; count += 1) nonces.add((await sealText(key, { ...what, text: "" }, { subtle })).enc.nonce);
    assert.equal(nonces.size, 50);
  });

  test(`the documented files, ${way}`, async () => {
    const key = binary("file key");
    assert.equal(base64(nonce(0)), row("file nonce (base64)"));
    assert.equal(base64(chunkData(0, true)), row("file associated data (base64)"));
    const small = await sealFile(key, new Blob([row("file text")]), { subtle });
    assert.equal(base64(await bytes(small.blob)), row("file bytes (base64)"));
    assert.equal(small.sha256, await hashFile(small.blob));
    const size = Number(row("long file size"));
    const long = await sealFile(key, new Blob([pattern(size)]), { subtle });
    assert.equal(long.sha256, row("long file sha256"));
    assert.equal(long.blob.size, storedSize(size));
    const opener = new FileOpener(key, long.blob.size, { subtle });
    await opener.add(await bytes(long.blob));
    assert.equal(base64(await bytes(opener.end(long.sha256, ""))), base64(pattern(size)));
  });

  test(`a file comes back whatever the pieces, and wherever it broke off, ${way}`, async () => {
    const key = binary("file key");
    for (const [seed, size] of [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 200_000].entries()) {
      const luck = chance(seed);
      const sealed = await sealFile(key, new Blob([pattern(size)]), { subtle });
      const stored = await bytes(sealed.blob);
      const opener = new FileOpener(key, stored.length, { subtle });
      let place = 0;
      while (opener.taken < stored.length) {
        const piece = stored.slice(place, place + 1 + luck.below(50_000));
        await opener.add(piece);
        place += piece.length;
        if (luck.next() < 0.2) {
          opener.goOn(); // the connection broke: from the last whole chunk on
          place = opener.taken;
        }
      }
      const type = "image/png";
      const back = opener.end(sealed.sha256, type);
      assert.equal(back.type, type);
      assert.deepEqual(await bytes(back), pattern(size), `size ${size}`);
    }
  });

  test(`a file that is not the one that was sent, ${way}`, async () => {
    const key = binary("file key");
    const sealed = await sealFile(key, new Blob([pattern(3 * CHUNK)]), { subtle });
    const stored = await bytes(sealed.blob);
    const whole = async (data, length = data.length, sha256 = sealed.sha256) => {
      const opener = new FileOpener(key, length, { subtle });
      await opener.add(data);
      return opener.end(sha256, "");
    };
    const [first, second] = [stored.slice(0, STORED_CHUNK), stored.slice(STORED_CHUNK, 2 * STORED_CHUNK)];
    const rest = stored.slice(2 * STORED_CHUNK);
    await assert.rejects(whole(stored.slice(0, 2 * STORED_CHUNK)), CannotDecrypt, "cut off at a chunk");
    await assert.rejects(whole(stored.slice(0, -1), stored.length), CannotDecrypt, "a byte is missing");
    await assert.rejects(whole(joined(stored, new Uint8Array(1)), stored.length), CannotDecrypt, "a byte too many");
    await assert.rejects(whole(joined(second, first, rest)), CannotDecrypt, "another order");
    await assert.rejects(whole(joined(first, first, rest)), CannotDecrypt, "one twice");
    await assert.rejects(whole(stored, stored.length, "0".repeat(64)), CannotDecrypt, "another hash");
    await assert.rejects(async () => new FileOpener(key, 15, { subtle }), CannotDecrypt, "shorter than a tag");
    await assert.rejects(async () => new FileOpener(key, STORED_CHUNK + 16, { subtle }), CannotDecrypt, "an empty last chunk");
  });
}

test("both ways understand each other", async () => {
  const { key, what } = message();
  for (const [one, other] of [[WAYS.WebCrypto, null], [null, WAYS.WebCrypto]]) {
    const sealed = await sealText(key, { ...what, text: "Grüße 💡" }, { subtle: one });
    assert.equal(await openText(key, { ...what, ...sealed }, { subtle: other }), "Grüße 💡");
  }
});

test("a plain file is checked by its hash", async () => {
  const data = pattern(100_000);
  const opener = new FileOpener(null, data.length);
  await opener.add(data.slice(0, 70_000));
  opener.goOn();
  await opener.add(data.slice(opener.taken));
  assert.deepEqual(await bytes(opener.end(await hashFile(new Blob([data])), "")), data);
  const empty = new FileOpener(null, 0);
  assert.equal(empty.end(hasher().hex(), "").size, 0);
});

test("sizes of files, there and back", () => {
  for (const size of [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 10 * CHUNK, 10 * CHUNK + 5]) {
    assert.equal(plainSize(storedSize(size)), size);
  }
  assert.deepEqual([0, 15, STORED_CHUNK + 16, STORED_CHUNK + 3].map(plainSize), [null, null, null, null]);
});

test("a key of the wrong length is none", async () => {
  for (const subtle of Object.values(WAYS)) await assert.rejects(cipher(new Uint8Array(16), subtle), CannotDecrypt);
});

test("texts and bytes", () => {
  const all = Uint8Array.from({ length: 70_000 }, (_, place) => place % 256);
  assert.deepEqual(unbase64(base64(all)), all);
  assert.throws(() => unbase64("AAA"));
  assert.equal(wellFormed("a\ud83d b💡\udca1"), "a\ufffd b💡\ufffd");
  assert.equal(wellFormed("\ud83d\ud83d\udca1"), "\ufffd💡");
  assert.equal(new TextDecoder().decode(utf8("ü")), "ü");
  assert.match(newId(), /^[0-9a-f]{32}$/);
});

const pattern = (size) => Uint8Array.from({ length: size }, (_, place) => (7 * place) % 251);
const bytes = async (blob) => new Uint8Array(await blob.arrayBuffer());
