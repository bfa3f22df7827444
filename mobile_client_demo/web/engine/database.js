// IndexedDB with promises. Whoever writes must still be the tab that has the chat: each transaction looks.

const VERSION = 1;
const STORES = {
  meta: {},
  rows: { keyPath: "key" },
  conversations: { keyPath: "peer" },
  keys: { keyPath: ["peer", "version"] },
  blobs: { keyPath: "key" },
};

/** Another tab has the chat: nothing was written. */
export class Elsewhere extends Error {}

/** @template T @param {IDBRequest<T>} request @returns {Promise<T>} */
const done = (request) =>
  new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });

/** What may be done in one transaction. Nothing but these may be awaited in it: a browser ends one that stands still. */
export class Work {
  #tx;

  constructor(tx) {
    this.#tx = tx;
  }

  get(store, key) {
    return done(this.#tx.objectStore(store).get(key));
  }

  all(store, range) {
    return done(this.#tx.objectStore(store).getAll(range));
  }

  put(store, value, key) {
    return done(this.#tx.objectStore(store).put(value, key));
  }

  remove(store, key) {
    return done(this.#tx.objectStore(store).delete(key));
  }

  clear(store) {
    return done(this.#tx.objectStore(store).clear());
  }

  /** The rows of a conversation with `from` <= mid < `before`, the newest `limit` of them, oldest first. */
  async rows(peer, { from = 0, before = Infinity, limit }) {
    const range = IDBKeyRange.bound([peer, from], [peer, before], false, true);
    const request = this.#tx.objectStore("rows").index("place").openCursor(range, "prev");
    const found = [];
    return new Promise((resolve, reject) => {
      request.onerror = () => reject(request.error);
      request.onsuccess = () => {
        const cursor = request.result;
        if (cursor === null || found.length >= limit) return resolve(found.reverse());
        found.push(cursor.value);
        cursor.continue();
      };
    });
  }

  count(peer) {
    return done(this.#tx.objectStore("rows").index("place").count(IDBKeyRange.bound([peer, 0], [peer, Infinity])));
  }

  /** Own messages that the server has not stored. */
  pending() {
    return done(this.#tx.objectStore("rows").index("step").getAll());
  }
}

export class Database {
  #db;
  /** Says in `meta` which tab has the chat. */
  holder = null;
  /** Called where a write finds that another tab has the chat. */
  onelsewhere = () => {};
  onlost = () => {};

  constructor(db) {
    this.#db = db;
    db.onversionchange = () => db.close();
    db.onclose = () => this.onlost();
  }

  /** Rejects where the browser keeps nothing for this page. */
  static open(name = "aldis") {
    return new Promise((resolve, reject) => {
      if (!globalThis.indexedDB) return reject(new Error("this browser has no database"));
      const request = indexedDB.open(name, VERSION);
      request.onerror = () => reject(request.error);
      request.onblocked = () => reject(new Error("another tab holds an older version of this page open"));
      request.onsuccess = () => resolve(new Database(request.result));
      request.onupgradeneeded = () => {
        for (const [store, options] of Object.entries(STORES)) {
          const made = request.result.createObjectStore(store, options);
          if (store === "rows") {
            // rows without a mid, and those without a step, are in no index: null is no key
            made.createIndex("place", ["peer", "mid"]);
            made.createIndex("step", "step");
          }
        }
      };
    });
  }

  /** @template T @param {(work: Work) => Promise<T>} what @returns {Promise<T>} */
  read(what) {
    return this.#run("readonly", what);
  }

  /** All of it or nothing; resolves when it is stored. @template T @param {(work: Work) => Promise<T>} what @returns {Promise<T>} */
  write(what) {
    const { holder } = this;
    return this.#run("readwrite", async (work) => {
      if ((await work.get("meta", "holder")) !== holder) {
        if (holder === this.holder) this.onelsewhere(); // else it is from before this tab took the chat anew
        throw new Elsewhere("another tab has the chat");
      }
      return what(work);
    });
  }

  /** The same without the look at who has the chat: for what must not be lost in any case. */
  writeAlways(what) {
    return this.#run("readwrite", what);
  }

  /** Makes this tab the one that may write. */
  hold(holder) {
    this.holder = holder;
    return this.#run("readwrite", (work) => work.put("meta", holder, "holder"));
  }

  async #run(mode, what) {
    // strict: what is acknowledged to the server must outlive a power cut, not only this page
    const tx = this.#db.transaction(Object.keys(STORES), mode, { durability: "strict" });
    const ended = new Promise((resolve, reject) => {
      tx.oncomplete = resolve;
      tx.onabort = () => reject(tx.error ?? new Error("the browser has given up a transaction"));
    });
    let result;
    try {
      result = await what(new Work(tx));
    } catch (error) {
      ended.catch(() => {});
      try {
        tx.abort();
      } catch {
        throw tx.error ?? error; // it has ended by itself: no room, for example
      }
      throw error;
    }
    await ended;
    return result;
  }

  close() {
    this.#db.close();
  }
}
