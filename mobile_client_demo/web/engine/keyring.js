// The keys of my relations: the newest to write with, and any version to read with.
import { unbase64 } from "./bytes.js";
import { CannotDecrypt, openText, sealText } from "./crypto.js";
import { ChatError } from "./errors.js";
import { escaped } from "./rest.js";

const PATIENCE = 4_000;
const NOT_AGAIN = 15_000;

export const SEALED = "This message is sealed for your apps. A browser takes no part in that: the server delivers this page.";
const NO_KEY = "The key of this message is not there any more.";
const LATER = "The key of this message could not be fetched yet.";
const DAMAGED = "This message does not open: it was changed, or comes from somebody else.";

/** @typedef {{state: "open", text: string} | {state: "closed", reason: string, again: boolean}} Opened */

export class Keyring {
  #db;
  #rest;
  /** @type {Map<string, Map<number, Uint8Array|null>>} null: sealed, and not for us */
  #keys = new Map();
  #failed = new Map();
  /** Versions that were asked for here. */
  #wanted = new Set();

  /** @param {import("./database.js").Database} db @param {import("./rest.js").Rest} rest */
  constructor(db, rest) {
    this.#db = db;
    this.#rest = rest;
  }

  async load() {
    this.clear();
    for (const one of await this.#db.read((work) => work.all("keys"))) this.#set(one);
  }

  clear() {
    this.#keys = new Map();
    this.#failed = new Map();
  }

  #set({ peer, version, key, wanted }) {
    if (wanted) this.#wanted.add(`${version} ${peer}`);
    if (!this.#keys.has(peer)) this.#keys.set(peer, new Map());
    this.#keys.get(peer).set(version, key);
  }

  /** The newest version that was ever seen; 0 for none. */
  version(peer) {
    return Math.max(0, ...(this.#keys.get(peer)?.keys() ?? []));
  }

  /** Whether the newest version is one that only apps have. */
  sealed(peer) {
    const version = this.version(peer);
    return version > 0 && this.#keys.get(peer).get(version) === null;
  }

  /** The server makes the keys again, of a relation that was sealed: nobody here has agreed to that. */
  unsealed(peer) {
    const versions = [...(this.#keys.get(peer)?.values() ?? [])];
    return versions.includes(null) && !this.sealed(peer) && !this.#wanted.has(`${this.version(peer)} ${peer}`);
  }

  /**
   * Keys as the server tells them: `key` null where it is sealed. @param {{peer: string, version: number, key: string|null}[]} told */
  async learn(told) {
    const news = [];
    for (const { peer, version, key, wanted = false } of told) {
      const known = this.#keys.get(peer)?.get(version);
      if (!Number.isSafeInteger(version) || version < 1) continue;
      // the notice of a new version may come before the answer to who has asked for it
      if (known !== undefined && !(wanted && !this.#wanted.has(`${version} ${peer}`))) continue;
      news.push({ peer, version, key: key === null ? null : unbase64(key), wanted });
    }
    if (news.length === 0) return false;
    await this.#db.write(async (work) => {
      for (const one of news) await work.put("keys", one);
    });
    for (const one of news) this.#set(one);
    return true;
  }

  /** Asks for versions; all, or one. */
  async fetch(peer, version) {
    const query = version === undefined ? "" : `?version=${version}`;
    const got = await this.#rest.call("GET", `/v1/relations/${escaped(peer)}/keys${query}`, undefined, { patience: PATIENCE });
    await this.learn(got.keys.map((one) => ({ peer, version: one.version, key: one.kind === "sealed" ? null : one.key })));
  }

  async #key(peer, version) {
    const known = () => this.#keys.get(peer)?.get(version);
    const asked = `${version} ${peer}`;
    if (known() === undefined && (this.#failed.get(asked)?.until ?? 0) < Date.now()) {
      try {
        await this.fetch(peer, version);
        this.#failed.delete(asked);
      } catch (error) {
        if (!(error instanceof ChatError)) throw error;
        const gone = error.code === "unknown-version" || error.code === "not-friends" || error.code === "unknown-user";
        this.#failed.set(asked, { until: Date.now() + NOT_AGAIN, gone });
      }
    }
    return known();
  }

  /**
   * The body of a message. What does not open now, but may later, has `again`.
   * @param {{me: string, peer: string, mine: boolean, message: any}} what @returns {Promise<Opened>}
   */
  async open({ me, peer, mine, message: { enc, body } }) {
    if (!Number.isSafeInteger(enc?.v)) return { state: "closed", reason: DAMAGED, again: false };
    const key = await this.#key(peer, enc.v);
    if (key === null) return { state: "closed", reason: SEALED, again: false };
    if (key === undefined) {
      const gone = this.#failed.get(`${enc.v} ${peer}`)?.gone;
      return { state: "closed", reason: gone ? NO_KEY : LATER, again: true };
    }
    try {
      const [sender, recipient] = mine ? [me, peer] : [peer, me];
      return { state: "open", text: await openText({ version: enc.v, key }, { sender, recipient, enc, body }) };
    } catch (error) {
      if (error instanceof CannotDecrypt) return { state: "closed", reason: DAMAGED, again: false };
      throw error;
    }
  }

  /** `enc` and `body` for a friend. Rejects where the newest key is sealed, or there is none: nothing goes out in plain. */
  async seal(me, peer, text) {
    const version = this.version(peer);
    if (this.sealed(peer)) throw new ChatError("sealed", SEALED_SENDING);
    const key = this.#keys.get(peer)?.get(version);
    if (this.unsealed(peer)) throw new ChatError("was-sealed", UNSEALED_SENDING);
    if (key === undefined) throw new ChatError("no-key", "There is no key for this person yet.");
    return sealText({ version, key }, { sender: me, recipient: peer, text });
  }
}

const UNSEALED_SENDING =
  "This conversation was sealed, and now the server makes its keys again. If you agree to that, renew the key.";
export const SEALED_SENDING = "This conversation is sealed. Write from an app of yours: this page cannot.";

