// Files over REST: up with progress, down and on where it broke off. Their bytes lie in the database.
import { unbase64 } from "./bytes.js";
import { CannotDecrypt } from "./crypto.js";
import { ChatError, offline, passing } from "./errors.js";
import { FileOpener, hashFile, sealFile } from "./files.js";
import { escaped, read } from "./rest.js";
import { harmless } from "./wire.js";

const AT_ONCE = 3;
const ATTEMPTS = 8;
const STANDSTILL = 30_000;
/** Of files kept here; the oldest go, and can be fetched again. */
const MOST_KEPT = 300 * 1024 * 1024;

/** @typedef {{state: "uploading"|"downloading"|"failed", progress: number, abort: AbortController}} Transfer */

export class Transfers {
  #rest;
  #db;
  #onchange;
  /** @type {Map<string, Transfer>} */
  #running = new Map();
  #waiting = [];
  #busy = 0;

  constructor(rest, db, onchange) {
    this.#rest = rest;
    this.#db = db;
    this.#onchange = onchange;
  }

  /** How it stands with the file of a row; undefined where nothing is under way. */
  of(key) {
    return this.#running.get(key);
  }

  cancel(key) {
    this.#running.get(key)?.abort.abort(new ChatError("cancelled", "Cancelled."));
  }

  clear() {
    for (const key of this.#running.keys()) this.cancel(key);
    this.#running.clear();
  }

  /**
   * Sends the file of a row; what the message has to say of it. null where it is under way already. Rejects with
   * `ChatError`, which is passing if it is worth another attempt.
   * @param {import("./conversation.js").Row} row
   */
  async upload({ key, peer, file }) {
    if (this.#running.get(key)?.state === "uploading") return null;
    return this.#run(key, "uploading", async (transfer) => {
      const { signal } = transfer.abort;
      const kept = await this.#db.read((work) => work.get("blobs", key));
      if (kept === undefined) throw new ChatError("gone", "The file is not in this browser any more.");
      const { blob, sha256 } = await prepared(kept.blob, file, signal);
      const form = new FormData();
      form.append("sha256", sha256);
      form.append("file", blob, file.key === null ? file.name : "file");
      const answer = await this.#rest.authorised((token) => this.#post(`/v1/files?to=${escaped(peer)}`, form, token, transfer));
      const { file_id: fileId } = await read(answer);
      return { fileId, sha256, stored: blob.size };
    });
  }

  /**
   * The file of a row, opened and whole, as it lies in the database from then on. null where it is under way already.
   * @param {import("./conversation.js").Row} row @returns {Promise<Blob|null>}
   */
  async download({ key, file }) {
    if (this.#running.get(key)?.state === "downloading") return null;
    return this.#run(key, "downloading", async (transfer) => {
      try {
        const opener = new FileOpener(file.key === null ? null : unbase64(file.key), file.stored);
        await this.#fetched(file, opener, transfer);
        const blob = opener.end(file.sha256, harmless(file.mime));
        await this.#keep(key, blob);
        return blob;
      } catch (error) {
        if (!(error instanceof CannotDecrypt)) throw error;
        throw new ChatError("damaged", "The file did not arrive as it was sent.");
      }
    });
  }

  async #run(key, state, what) {
    const transfer = { state, progress: 0, abort: new AbortController() };
    this.#running.set(key, transfer);
    this.#onchange();
    let begun = false;
    try {
      await this.#turn(transfer.abort.signal);
      begun = true;
      transfer.abort.signal.throwIfAborted();
      const done = await what(transfer);
      this.#running.delete(key);
      return done;
    } catch (error) {
      const cancelled = transfer.abort.signal.aborted;
      const failed = cancelled ? transfer.abort.signal.reason : error;
      if (cancelled || passing(failed) || failed.code === "unknown-file") this.#running.delete(key);
      else transfer.state = "failed";
      throw failed;
    } finally {
      if (begun) this.#next();
      this.#onchange();
    }
  }

  /** Resolves when there is room for one more; rejects at once where it is cancelled before. */
  #turn(signal) {
    if (this.#busy < AT_ONCE) {
      this.#busy += 1;
      return Promise.resolve();
    }
    return new Promise((resolve, reject) => {
      const cancelled = () => {
        this.#waiting = this.#waiting.filter((one) => one !== turn);
        reject(signal.reason);
      };
      const turn = () => {
        signal.removeEventListener("abort", cancelled);
        resolve();
      };
      signal.addEventListener("abort", cancelled);
      this.#waiting.push(turn);
    });
  }

  // The room of one that is over goes to whoever waits longest.
  #next() {
    const turn = this.#waiting.shift();
    if (turn === undefined) this.#busy -= 1;
    else turn();
  }

  #said(transfer, done, whole) {
    transfer.progress = whole > 0 ? Math.min(1, done / whole) : 0;
    this.#onchange();
  }

  /** `fetch` cannot tell how far an upload is. */
  #post(path, form, token, transfer) {
    return new Promise((resolve, reject) => {
      const call = new XMLHttpRequest();
      const { signal } = transfer.abort;
      const abort = () => call.abort();
      signal.addEventListener("abort", abort);
      let moved = Date.now();
      const watch = setInterval(() => Date.now() - moved > STANDSTILL && call.abort(), 1_000);
      call.upload.onprogress = ({ loaded, total }) => {
        moved = Date.now();
        this.#said(transfer, loaded, total);
      };
      call.onload = () => {
        const told = call.getResponseHeader("Retry-After");
        const headers = told === null ? {} : { "Retry-After": told };
        resolve(new Response(call.status === 204 ? null : call.response, { status: call.status, headers }));
      };
      call.onerror = call.onabort = () => reject(offline());
      call.onloadend = () => {
        clearInterval(watch);
        signal.removeEventListener("abort", abort);
      };
      call.open("POST", this.#rest.url(path));
      call.setRequestHeader("Authorization", `Bearer ${token}`);
      call.send(form);
    });
  }

  // A connection that breaks off costs an attempt only where it has brought nothing.
  async #fetched(file, opener, transfer) {
    for (let failures = 0; opener.taken < file.stored || (file.stored === 0 && failures === 0); ) {
      const before = opener.taken;
      try {
        await this.#part(file, opener, transfer);
        if (file.stored === 0) return;
        if (opener.taken === before) throw offline();
      } catch (error) {
        if (transfer.abort.signal.aborted || !passing(error)) throw error;
        failures = opener.taken > before ? 1 : failures + 1;
        if (failures >= ATTEMPTS) throw error;
        await pause(1_000 * (error.retryAfter ?? Math.min(8, 0.25 * 2 ** failures)), transfer.abort.signal);
      }
    }
  }

  async #part(file, opener, transfer) {
    const { signal } = transfer.abort;
    opener.goOn();
    const headers = { "If-Range": `"${file.sha256}"` };
    if (opener.taken > 0) headers.Range = `bytes=${opener.taken}-`;
    const still = new AbortController();
    const stop = () => still.abort();
    signal.addEventListener("abort", stop);
    let timer = setTimeout(stop, STANDSTILL);
    try {
      const answer = await this.#rest.authorised((token) =>
        fetch(this.#rest.url(`/v1/files/${escaped(file.fileId)}`), {
          headers: { ...headers, Authorization: `Bearer ${token}` }, signal: still.signal, cache: "no-store", credentials: "omit",
        }));
      if (!answer.ok) await read(answer);
      if (opener.taken > 0 && !goesOn(answer, opener.taken)) throw new CannotDecrypt("another file by now");
      const reader = answer.body.getReader();
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return;
        clearTimeout(timer);
        timer = setTimeout(stop, STANDSTILL);
        await opener.add(value);
        this.#said(transfer, opener.taken, file.stored);
      }
    } catch (error) {
      if (error instanceof ChatError || error instanceof CannotDecrypt) throw error;
      throw offline();
    } finally {
      clearTimeout(timer);
      still.abort();
      signal.removeEventListener("abort", stop);
    }
  }

  async #keep(key, blob) {
    await this.#db.write(async (work) => {
      await work.put("blobs", { key, blob, size: blob.size, at: Date.now() });
      const kept = (await work.all("blobs")).sort((one, other) => other.at - one.at);
      const waiting = new Set((await work.pending()).map((one) => one.key));
      let room = MOST_KEPT;
      for (const one of kept) {
        room -= one.size;
        if (room < 0 && one.key !== key && !waiting.has(one.key)) await work.remove("blobs", one.key);
      }
    });
  }

  /** The bytes of a file that is here; undefined where they are not (any more). */
  async kept(key) {
    return (await this.#db.read((work) => work.get("blobs", key)))?.blob;
  }
}

const goesOn = (answer, taken) =>
  answer.status === 206 && (answer.headers.get("Content-Range") ?? "").startsWith(`bytes ${taken}-`);

async function prepared(blob, file, signal) {
  try {
    if (file.key !== null) return await sealFile(unbase64(file.key), blob, { signal });
    return { blob, sha256: await hashFile(blob, { signal }) };
  } catch (error) {
    if (error instanceof ChatError) throw error;
    throw new ChatError("gone", "The file cannot be read any more.");
  }
}

const pause = (wait, signal) =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, wait);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(signal.reason);
    }, { once: true });
  });
