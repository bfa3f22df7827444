// What is written here and not yet on the server: stored before it is shown, published in order after each connect, with the
// same id until the server has answered.
import { base64, newId, utf8, wellFormed } from "./bytes.js";
import { keyOf, newestMid, row } from "./conversation.js";
import { Elsewhere } from "./database.js";
import { departing } from "./departing.js";
import { ChatError, passing, rejected } from "./errors.js";
import { newFileKey, storedSize } from "./files.js";
import { MOST_BYTES, fileBody, topics } from "./wire.js";

const MOST_WAITING = 1_000;
/** Of a text in UTF-8: as base64, with what stands beside it, it still is a message that the server takes. */
export const MOST_TEXT = 45_000;

/**
 * @typedef {object} OutboxUses
 * @property {string} me
 * @property {import("./database.js").Database} db
 * @property {import("./shelf.js").Shelf} shelf @property {import("./keyring.js").Keyring} keyring
 * @property {import("./people.js").People} people @property {import("./link.js").Link} link
 * @property {import("./transfers.js").Transfers} transfers @property {() => void} changed
 */

export class Outbox {
  #uses;
  /** @type {Map<string, import("./conversation.js").Row>} */
  #rows = new Map();
  /** Published on this connection and not acknowledged. */
  sending = new Set();
  /** How often the server has acknowledged it without a word, or refused it for its rate, on this connection. */
  #asked = new Map();
  #pumping = null;
  #again = false;
  #open = false;
  #stopped = false;
  /** The timer after which uploads are tried again. */
  #uploading = null;

  /** @param {OutboxUses} uses */
  constructor(uses) {
    this.#uses = uses;
  }

  get size() {
    return this.#rows.size;
  }

  async load() {
    const pending = await this.#uses.db.read((work) => work.pending());
    this.#rows = new Map(pending.filter((one) => one.step === "waiting").map((one) => [one.key, one]));
  }

  /** Nothing leaves from here any more; what waits, waits in the database. */
  stop() {
    clearTimeout(this.#uploading);
    this.#stopped = true;
    this.#rows.clear();
    this.close();
  }

  // Composing

  async text(peer, text) {
    const said = wellFormed(text);
    if (utf8(said).length > MOST_TEXT) throw new ChatError("too-long", "This is too long for one message.");
    await this.#add(peer, { kind: "text", text: said }, null);
  }

  /** @param {string} peer @param {File} file @returns {Promise<string>} the key of its row */
  async file(peer, file) {
    const key = peer === this.#uses.me ? null : base64(newFileKey());
    const stored = key === null ? file.size : storedSize(file.size);
    const [name, mime] = [wellFormed(file.name) || "file", file.type || "application/octet-stream"];
    const told = { fileId: null, name, mime, size: file.size, stored, sha256: null, key, local: true };
    return this.#add(peer, { kind: "file", text: name, file: told }, file);
  }

  async #add(peer, fields, blob) {
    if (this.#rows.size >= MOST_WAITING) throw new ChatError("outbox-full", "Too many messages are waiting to be sent.");
    const id = newId();
    const made = await this.#uses.shelf.change([peer], async (draft) => {
      const order = ((await draft.work.get("meta", "order")) ?? 0) + 1;
      await draft.work.put("meta", order, "order");
      const base = newestMid(draft.get(peer));
      const one = row({ key: keyOf(true, id, null), id, peer, mine: true, ts: Date.now(), step: "waiting", order, base, ...fields });
      if (blob !== null) await draft.work.put("blobs", { key: one.key, blob, size: blob.size, at: Date.now() });
      await draft.keep(one);
      return one;
    });
    this.#rows.set(made.key, made);
    this.#uses.changed();
    this.pump();
    return made.key;
  }

  /** A message that has failed goes to the end of the queue, as the same message. */
  async retry(key) {
    const again = await this.#change(key, async (draft, known) => {
      if (known.mid !== null || known.step !== "failed") return null;
      const order = ((await draft.work.get("meta", "order")) ?? 0) + 1;
      await draft.work.put("meta", order, "order");
      const next = { ...known, step: "waiting", reason: null, order, ts: Date.now() };
      await draft.keep(next);
      return next;
    });
    if (again === null) return;
    this.#rows.set(key, again);
    this.pump();
  }

  /** Forgets a message that is not on the server; what is on its way may get there all the same. */
  async discard(key) {
    this.#uses.transfers.cancel(key);
    const gone = await this.#change(key, async (draft, known) => {
      if (known.mid !== null) throw new ChatError("sent", "This message is sent already.");
      await draft.forget(known);
      return known;
    });
    if (gone !== null) this.#rows.delete(key);
    this.#uses.changed();
  }

  async fail(key, reason) {
    this.#rows.delete(key);
    await this.#change(key, async (draft, known) => {
      if (known.mid === null) await draft.keep({ ...known, step: "failed", reason });
    });
    this.#uses.changed();
  }

  async #change(key, what) {
    const found = await this.#uses.db.read((work) => work.get("rows", key));
    if (found === undefined) return null;
    return this.#uses.shelf.change([found.peer], async (draft) => {
      const known = await draft.row(key);
      return known === undefined ? null : what(draft, known);
    });
  }

  // Sending

  /** The connection is there, and what can be known of keys is known. */
  open() {
    clearTimeout(this.#uploading);
    this.#uploading = null;
    this.#open = true;
    this.pump();
  }

  /** The connection is gone: whatever was not answered leaves again. */
  close() {
    this.#open = false;
    this.sending.clear();
    this.#asked = new Map();
  }

  /** Lets leave what may. */
  pump() {
    if (this.#stopped) return;
    this.#upload();
    if (!this.#open) return;
    this.#again = true;
    this.#pumping ??= this.#pump().catch(stopped("sending")).finally(() => {
      this.#pumping = null;
      if (this.#again && this.#open) this.pump();
    });
  }

  // One after the other: sealing takes its time, and must not change the order.
  async #pump() {
    while (this.#again) {
      this.#again = false;
      for (const one of departing(this.#rows.values(), this.sending)) {
        const payload = await this.#payload(one);
        if (!this.#open || !this.#rows.has(one.key)) continue;
        if (payload !== null) this.#publish(one, payload);
      }
    }
  }

  async #payload(one) {
    const { me, people, keyring } = this.#uses;
    const body = one.file === null ? one.text : fileBody(one.file);
    const message = { id: one.id, type: one.kind };
    try {
      const sealed = one.peer === me ? { body } : await keyring.seal(me, one.peer, body);
      const payload = JSON.stringify({ ...message, ...sealed });
      if (utf8(payload).length > MOST_BYTES) throw new ChatError("too-long", rejected("too_large"));
      return payload;
    } catch (error) {
      if (!(error instanceof ChatError)) throw error;
      await this.fail(one.key, people.isFriend(one.peer) || one.peer === me ? error.message : rejected("not_friend"));
      return null;
    }
  }

  #publish(one, payload) {
    const { me, link, changed } = this.#uses;
    this.sending.add(one.key);
    changed();
    link.publish(topics.chat(me, one.peer), payload).then(
      () => this.#acknowledged(one),
      (error) => {
        if (!(error instanceof ChatError)) console.error("a message could not be published", error);
      });
  }

  // `sent` comes before the acknowledgement. If it got lost, the same message again brings it again: at once, then slower.
  async #acknowledged(one) {
    await this.#uses.link.handled;
    const times = this.#asked.get(one.key) ?? 0;
    const asked = this.#asked;
    asked.set(one.key, times + 1);
    if (times > 0 && this.#rows.has(one.key)) await pause(Math.min(60_000, 1_000 * 2 ** times));
    if (asked === this.#asked && this.sending.delete(one.key)) this.pump();
  }

  /** What the server has said of one of ours, stored already. */
  settled({ id, type, reason, row: stored }) {
    const key = keyOf(true, id, null);
    const known = this.#rows.get(key);
    if (type === "failed" && reason === "rate") {
      // its acknowledgement follows, which is no reason to repeat it at once
      if (known !== undefined) this.#asked.set(key, Math.max(1, this.#asked.get(key) ?? 0));
      return;
    }
    this.#rows.delete(key);
    this.sending.delete(key);
    this.#asked.delete(key);
    if (stored !== null || known !== undefined) this.#uses.changed();
    this.pump();
  }

  // Files

  #upload() {
    if (this.#uploading !== null) return;
    for (const one of this.#rows.values()) {
      if (one.file !== null && one.file.fileId === null) void this.#uploaded(one);
    }
  }

  async #uploaded(one) {
    const { transfers, people, me } = this.#uses;
    try {
      const told = await transfers.upload(one, one.peer === me || people.isFriend(one.peer));
      if (told === null) return; // under way already, or not now
      const next = await this.#change(one.key, async (draft, known) => {
        const after = { ...known, file: { ...known.file, ...told } };
        await draft.keep(after);
        return after;
      });
      if (next !== null && this.#rows.has(one.key)) this.#rows.set(one.key, next);
      this.pump();
    } catch (error) {
      if (this.#stopped) return;
      if (passing(error)) this.#uploadLater(error.retryAfter ?? 5);
      else if (error instanceof ChatError) await this.fail(one.key, error.message).catch(stopped("an upload"));
      else stopped("an upload")(error);
    }
  }

  // However many attempts have failed, and whatever is written meanwhile: the next one is one for all.
  #uploadLater(seconds) {
    this.#uploading ??= setTimeout(() => {
      this.#uploading = null;
      this.#upload();
    }, 1_000 * seconds);
  }
}

const stopped = (what) => (error) => {
  if (!(error instanceof Elsewhere)) console.error(`${what} has stopped`, error);
};

const pause = (wait) => new Promise((resolve) => setTimeout(resolve, wait));
