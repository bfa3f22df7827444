// The conversations of this browser: what is stored, and what of it is in memory. Every change goes through `change`, one at
// a time, in one transaction; memory follows when it is stored.
import { empty, merge, record, replace, trimmed } from "./conversation.js";

const AT_FIRST = 100;
/** Rows of one conversation in memory, unless the person has scrolled back. */
export const IN_MEMORY = 500;
/** Rows of one conversation in the database; older ones come from the history again. */
export const STORED = 2_000;

/** One change under way. What it sets is seen by everybody once it is stored. */
class Draft {
  /** @param {import("./database.js").Work} work */
  constructor(work, conversations) {
    this.work = work;
    this.known = conversations;
    this.changed = new Map();
    this.fresh = [];
  }

  /** @returns {import("./conversation.js").Conversation} */
  get(peer) {
    return this.changed.get(peer) ?? this.known.get(peer) ?? empty(peer);
  }

  set(peer, conversation) {
    if (conversation !== this.get(peer)) this.changed.set(peer, conversation);
  }

  /** @returns {Promise<import("./conversation.js").Row|undefined>} */
  row(key) {
    return this.work.get("rows", key);
  }

  /** A row as it is now, new or not. */
  async keep(row) {
    await this.work.put("rows", row);
    const now = this.get(row.peer);
    const oldest = now.rows.find((one) => one.mid !== null)?.mid ?? Infinity;
    const below = row.mid !== null && row.mid < oldest && now.deeper;
    if (now.loaded && !below) this.changed.set(row.peer, replace(now, [row]));
  }

  /** What is told of a message, put together with what is known of it. Returns whether it was not known at all. */
  async tell(row) {
    const known = await this.row(row.key);
    await this.keep(known === undefined ? row : merge(known, row));
    return known === undefined;
  }

  async forget(row) {
    await this.work.remove("rows", row.key);
    await this.work.remove("blobs", row.key);
    const now = this.get(row.peer);
    this.changed.set(row.peer, { ...now, rows: now.rows.filter((one) => one.key !== row.key) });
  }
}

export class Shelf {
  #db;
  #conversations = new Map();
  #last = Promise.resolve();
  #onchange;
  /** The conversation that the person looks at, which may be longer in memory. */
  open = null;

  /** @param {import("./database.js").Database} db @param {() => void} onchange */
  constructor(db, onchange) {
    this.#db = db;
    this.#onchange = onchange;
  }

  /** What is stored of all conversations, without their rows. */
  async load() {
    const records = await this.#db.read((work) => work.all("conversations"));
    this.#conversations = new Map(records.map((one) => [one.peer, { ...empty(one.peer), ...one }]));
    this.#onchange();
  }

  clear() {
    this.#conversations = new Map();
    this.open = null;
    this.#onchange();
  }

  /** @returns {import("./conversation.js").Conversation|undefined} */
  get(peer) {
    return this.#conversations.get(peer);
  }

  all() {
    return this.#conversations.values();
  }

  /**
   * @template T
   * @param {Iterable<string>} peers whose rows it may change
   * @param {(draft: Draft) => Promise<T>} what awaits nothing but the draft and its `work`
   * @returns {Promise<T>} when it is stored
   */
  change(peers, what) {
    const run = async () => {
      const result = await this.#db.write(async (work) => {
        const conversations = new Map(this.#conversations);
        for (const peer of new Set(peers)) conversations.set(peer, await loaded(work, conversations.get(peer) ?? empty(peer)));
        const draft = new Draft(work, conversations);
        const made = await what(draft);
        for (const [peer, next] of draft.changed) {
          const bounded = peer === this.open ? next : trimmed(next, IN_MEMORY);
          conversations.set(peer, bounded);
          await work.put("conversations", record(bounded));
        }
        return { conversations, made };
      });
      this.#conversations = result.conversations;
      this.#onchange();
      return result.made;
    };
    const done = this.#last.then(run);
    this.#last = done.catch(() => {});
    return done;
  }

  /** Brings the newest rows into memory. */
  touch(peer) {
    return this.get(peer)?.loaded ? Promise.resolve() : this.change([peer], async () => {});
  }

  /** Takes up to `limit` older rows from the database; how many there were. */
  deepen(peer, limit) {
    return this.change([peer], async (draft) => {
      const now = draft.get(peer);
      const before = now.rows.find((one) => one.mid !== null)?.mid ?? Infinity;
      const found = await draft.work.rows(peer, { before, limit: limit + 1 });
      const older = found.slice(-limit);
      draft.set(peer, { ...replace(now, older), deeper: found.length > limit });
      return older.length;
    });
  }

  /** Lets go in memory of what is not looked at any more. */
  leave(peer) {
    return this.change([peer], async (draft) => draft.set(peer, trimmed(draft.get(peer), AT_FIRST)));
  }

  /** Lets go of what is too old to be stored. */
  async tidy() {
    for (const peer of [...this.#conversations.keys()]) {
      if ((await this.#db.read((work) => work.count(peer))) <= STORED * 1.1) continue;
      await this.change([peer], async (draft) => {
        const kept = await draft.work.rows(peer, { limit: STORED });
        const floor = kept[0].mid;
        for (const old of await draft.work.rows(peer, { before: floor, limit: Infinity })) await draft.forget(old);
        const now = draft.get(peer);
        draft.set(peer, { ...now, floor: Math.max(floor, now.floor ?? 0), complete: false });
      });
    }
  }
}

async function loaded(work, now) {
  if (now.loaded) return now;
  const { peer } = now;
  let found = await work.rows(peer, { limit: AT_FIRST + 1 });
  const deeper = found.length > AT_FIRST;
  found = found.slice(-AT_FIRST);
  if (deeper && now.summary.unread >= AT_FIRST) {
    found = await work.rows(peer, { from: (now.upTo ?? -1) + 1, limit: IN_MEMORY });
  }
  const pending = (await work.pending()).filter((row) => row.peer === peer);
  return { ...replace(now, [...found, ...pending]), deeper, loaded: true };
}
