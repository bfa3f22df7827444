// What was said before: from the server, page by page, put together with what the inbox has brought.
import { oldestMid } from "./conversation.js";
import { expected } from "./errors.js";

const PAGE = 50;
const FIRST = 20;
const OLDER = 100;
const AT_ONCE = 2;
/** Conversations that get their newest messages without being opened. */
const PRIMED = 200;

export class History {
  #uses;
  #loading = new Map();
  #priming = null;
  /** @type {Map<string, string>} why the last attempt has failed */
  errors = new Map();

  /**
   * @param {{rest: import("./rest.js").Rest, shelf: import("./shelf.js").Shelf, inbox: import("./inbox.js").Inbox,
   *   changed: () => void}} uses
   */
  constructor(uses) {
    this.#uses = uses;
  }

  isLoading(peer) {
    return this.#loading.has(peer);
  }

  /** Brings older messages into memory: from the database, else from the server. One at a time for each conversation. */
  older(peer) {
    const running = this.#loading.get(peer);
    if (running !== undefined) return running;
    const { changed } = this.#uses;
    const done = this.#older(peer).then(
      () => void this.errors.delete(peer),
      (error) => {
        this.errors.set(peer, error.message);
        throw error;
      },
    ).finally(() => {
      this.#loading.delete(peer);
      changed();
    });
    this.#loading.set(peer, done);
    changed();
    return done;
  }

  async #older(peer) {
    const { shelf } = this.#uses;
    await shelf.touch(peer);
    if (shelf.get(peer).deeper) return void (await shelf.deepen(peer, OLDER));
    const oldest = oldestMid(shelf.get(peer)) ?? Infinity;
    // what the inbox has brought already is no news
    while (!shelf.get(peer).complete && (oldestMid(shelf.get(peer)) ?? Infinity) >= oldest) {
      await this.#page(peer, PAGE);
    }
  }

  /** The newest messages, where nothing was ever asked for; quietly. */
  async #first(peer, limit) {
    await this.#uses.shelf.touch(peer);
    if (this.#uses.shelf.get(peer).floor === null) await this.#page(peer, limit);
  }

  async #page(peer, limit) {
    const { rest, shelf, inbox } = this.#uses;
    const { floor } = shelf.get(peer);
    const before = floor === null ? "" : `&before=${floor}`;
    const page = await rest.call("GET", `/v1/messages?peer=${encodeURIComponent(peer)}&limit=${limit}${before}`);
    const rows = await inbox.rows(peer, page.messages);
    await shelf.change([peer], async (draft) => {
      for (const row of rows) await draft.tell(row);
      const least = rows.reduce((least, row) => Math.min(least, row.mid), floor ?? Infinity);
      const complete = page.next === null;
      draft.set(peer, { ...draft.get(peer), floor: Number.isFinite(least) ? least : 0, complete });
    });
    return rows.length;
  }

  /** Gives conversations that have none their newest messages, a few at a time; goes on another time where it cannot. */
  prime(peers) {
    const { shelf } = this.#uses;
    this.#priming ??= (async () => {
      const wanted = peers().filter((peer) => (shelf.get(peer)?.floor ?? null) === null).slice(0, PRIMED);
      const work = async () => {
        for (let peer = wanted.shift(); peer !== undefined; peer = wanted.shift()) await this.#first(peer, FIRST);
      };
      await Promise.all(Array.from({ length: AT_ONCE }, work));
    })().catch((error) => {
      if (!expected(error)) console.error("the newest messages could not be read", error);
    }).finally(() => {
      this.#priming = null;
    });
    return this.#priming;
  }

  clear() {
    this.errors.clear();
  }
}


