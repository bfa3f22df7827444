// AES-256-GCM and SHA-256, and the message of docs/encryption.md. WebCrypto where the page has it, @noble elsewhere:
// a page that came without HTTPS has none.
import { gcm } from "../vendor/noble-ciphers/aes.js";
import { sha256 } from "../vendor/noble-hashes/sha2.js";
import { base64, hex, randomBytes, textOf, unbase64, utf8 } from "./bytes.js";

export const ALGORITHM = "A256GCM";
export const TAG = 16;
const KEY_BYTES = 32;
const NONCE_BYTES = 12;

/** The text does not open: another key, another sender, or changed on the way. */
export class CannotDecrypt extends Error {}

/**
 * @typedef {object} Cipher
 * @property {(nonce: Uint8Array, data: Uint8Array, associated: Uint8Array) => Promise<Uint8Array>} seal
 * @property {(nonce: Uint8Array, data: Uint8Array, associated: Uint8Array) => Promise<Uint8Array>} open throws `CannotDecrypt`
 */

/** @returns {Promise<Cipher>} */
async function webCipher(subtle, raw) {
  const key = await subtle.importKey("raw", raw, "AES-GCM", false, ["encrypt", "decrypt"]);
  const how = (iv, additionalData) => ({ name: "AES-GCM", iv, additionalData });
  return {
    seal: async (nonce, data, associated) => new Uint8Array(await subtle.encrypt(how(nonce, associated), key, data)),
    open: async (nonce, data, associated) => {
      try {
        return new Uint8Array(await subtle.decrypt(how(nonce, associated), key, data));
      } catch {
        throw new CannotDecrypt("it does not open with this key");
      }
    },
  };
}

/** @returns {Cipher} */
function nobleCipher(raw) {
  return {
    seal: async (nonce, data, associated) => gcm(raw, nonce, associated).encrypt(data),
    open: async (nonce, data, associated) => {
      try {
        return gcm(raw, nonce, associated).decrypt(data);
      } catch {
        throw new CannotDecrypt("it does not open with this key");
      }
    },
  };
}

/**
 * @param {Uint8Array} raw 32 bytes
 * @param {SubtleCrypto|null} [subtle] null: without WebCrypto
 * @returns {Promise<Cipher>}
 */
export async function cipher(raw, subtle = globalThis.crypto?.subtle ?? null) {
  if (raw.length !== KEY_BYTES) throw new CannotDecrypt(`a key has ${KEY_BYTES} bytes, not ${raw.length}`);
  return subtle ? webCipher(subtle, raw) : nobleCipher(Uint8Array.from(raw));
}

/** A hash that is fed piece by piece, which WebCrypto cannot do. `update(bytes)`, then `hex()`. */
export function hasher() {
  const state = sha256.create();
  return { update: (bytes) => void state.update(bytes), hex: () => hex(state.digest()) };
}

/** The four lines that the tag protects beside the text. */
export const associatedData = (sender, recipient, version) =>
  utf8(`aldis ${ALGORITHM}\n${sender}\n${recipient}\n${version}`);

/**
 * @typedef {{version: number, key: Uint8Array}} RelationKey
 * @typedef {{enc: {alg: string, v: number, nonce: string}, body: string}} Sealed
 */

/**
 * The fields `enc` and `body` of a message.
 * @param {RelationKey} key
 * @param {{sender: string, recipient: string, text: string}} what
 * @param {{nonce?: Uint8Array, subtle?: SubtleCrypto|null}} [how] for tests
 * @returns {Promise<Sealed>}
 */
export async function sealText(key, { sender, recipient, text }, how = {}) {
  const nonce = how.nonce ?? randomBytes(NONCE_BYTES);
  const made = await cipher(key.key, how.subtle);
  const data = await made.seal(nonce, utf8(text), associatedData(sender, recipient, key.version));
  return { enc: { alg: ALGORITHM, v: key.version, nonce: base64(nonce) }, body: base64(data) };
}

/**
 * The text of a sealed message. Throws `CannotDecrypt`.
 * @param {RelationKey} key of the version that `enc.v` names
 * @param {{sender: string, recipient: string, enc: any, body: any}} what
 * @param {{subtle?: SubtleCrypto|null}} [how]
 */
export async function openText(key, { sender, recipient, enc, body }, how = {}) {
  if (enc?.alg !== ALGORITHM || enc.v !== key.version) throw new CannotDecrypt("not sealed in a way known here");
  let nonce, data;
  try {
    [nonce, data] = [unbase64(enc.nonce), unbase64(body)];
  } catch {
    throw new CannotDecrypt("not base64");
  }
  if (nonce.length !== NONCE_BYTES || data.length < TAG) throw new CannotDecrypt("too short");
  const made = await cipher(key.key, how.subtle);
  const opened = await made.open(nonce, data, associatedData(sender, recipient, key.version));
  try {
    return textOf(opened);
  } catch {
    throw new CannotDecrypt("not a text");
  }
}
