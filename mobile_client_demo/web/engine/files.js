// The file format A256GCM-64K of docs/encryption.md: chunks that open by themselves. Never more than a chunk in memory.
import { randomBytes, utf8 } from "./bytes.js";
import { CannotDecrypt, TAG, cipher, hasher } from "./crypto.js";

export const FORMAT = "A256GCM-64K";
export const CHUNK = 65_536;
export const STORED_CHUNK = CHUNK + TAG;

/** A key for one file, and never for another. */
export const newFileKey = () => randomBytes(32);

/** How many bytes a file of this size has when it is encrypted. @param {number} size */
export const storedSize = (size) => size + TAG * Math.max(1, Math.ceil(size / CHUNK));

/** How many bytes an encrypted file had before; null where no file comes to that. @param {number} stored */
export function plainSize(stored) {
  const chunks = Math.max(1, Math.ceil(stored / STORED_CHUNK));
  const size = stored - TAG * chunks;
  return size >= 0 && storedSize(size) === stored ? size : null;
}

/** The number of the chunk, the highest byte first. @param {number} number */
export function nonce(number) {
  const bytes = new Uint8Array(12);
  new DataView(bytes.buffer).setBigUint64(4, BigInt(number));
  return bytes;
}

/** @param {number} number @param {boolean} last */
export const chunkData = (number, last) => utf8(`aldis file ${FORMAT}\n${number}\n${last ? "last" : "more"}`);

/**
 * The encrypted file and its hash. The same key and bytes give the same file: an upload may be repeated.
 * @param {Uint8Array} key
 * @param {Blob} blob
 * @param {{subtle?: SubtleCrypto|null, signal?: AbortSignal}} [how]
 * @returns {Promise<{blob: Blob, sha256: string}>}
 */
export async function sealFile(key, blob, how = {}) {
  const made = await cipher(key, how.subtle);
  const hash = hasher();
  const count = Math.max(1, Math.ceil(blob.size / CHUNK));
  const parts = [];
  for (let number = 0; number < count; number += 1) {
    how.signal?.throwIfAborted();
    const chunk = new Uint8Array(await blob.slice(number * CHUNK, (number + 1) * CHUNK).arrayBuffer());
    const sealed = await made.seal(nonce(number), chunk, chunkData(number, number === count - 1));
    hash.update(sealed);
    parts.push(new Blob([sealed]));
  }
  return { blob: new Blob(parts), sha256: hash.hex() };
}

/** The hash of a file as it is. @param {Blob} blob @param {{signal?: AbortSignal}} [how] */
export async function hashFile(blob, how = {}) {
  const hash = hasher();
  for (let start = 0; start < blob.size; start += CHUNK) {
    how.signal?.throwIfAborted();
    hash.update(new Uint8Array(await blob.slice(start, start + CHUNK).arrayBuffer()));
  }
  return hash.hex();
}

/**
 * Takes the stored bytes in order, in pieces of any size, and gives the file. `taken` is from where a download that broke
 * off has to go on: only whole chunks are taken.
 */
export class FileOpener {
  #cipher;
  #stored;
  #held = new Uint8Array(0);
  #hash = hasher();
  #parts = [];
  taken = 0;

  /** @param {Uint8Array|null} key null: the file is plain @param {number} stored @param {{subtle?: SubtleCrypto|null}} [how] */
  constructor(key, stored, how = {}) {
    if (key !== null && plainSize(stored) === null) throw new CannotDecrypt("the file is cut off");
    this.#stored = stored;
    this.#cipher = key === null ? null : cipher(key, how.subtle);
  }

  /** After a broken connection: what was held of an unfinished chunk comes again. */
  goOn() {
    this.#held = new Uint8Array(0);
  }

  /** @param {Uint8Array} bytes */
  async add(bytes) {
    const whole = new Uint8Array(this.#held.length + bytes.length);
    whole.set(this.#held);
    whole.set(bytes, this.#held.length);
    if (this.taken + whole.length > this.#stored) throw new CannotDecrypt("more bytes than the message says");
    let place = 0;
    for (;;) {
      const size = Math.min(STORED_CHUNK, this.#stored - this.taken);
      if (size === 0 || whole.length - place < size) break;
      await this.#take(whole.slice(place, place + size));
      place += size;
    }
    this.#held = whole.slice(place);
  }

  async #take(chunk) {
    const number = this.taken / STORED_CHUNK;
    const last = this.taken + chunk.length === this.#stored;
    let part = chunk;
    if (this.#cipher !== null) {
      part = await (await this.#cipher).open(nonce(number), chunk, chunkData(number, last));
    }
    this.#hash.update(chunk);
    this.#parts.push(new Blob([part]));
    this.taken += chunk.length;
  }

  /** The whole file. Throws `CannotDecrypt` where bytes are missing or the hash is another. @param {string} sha256 @param {string} type */
  end(sha256, type) {
    if (this.taken !== this.#stored) throw new CannotDecrypt("the file is cut off");
    if (this.#hash.hex() !== sha256) throw new CannotDecrypt("the file is not the one that was sent");
    return new Blob(this.#parts, { type });
  }
}
