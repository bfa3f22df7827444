// Everything that lives as long as one login: the connection and all who use it.
import { newestOfPeer, seen } from "./conversation.js";
import { ChatError, passing } from "./errors.js";
import { History } from "./history.js";
import { Inbox } from "./inbox.js";
import { Keyring } from "./keyring.js";
import { Link } from "./link.js";
import { Outbox } from "./outbox.js";
import { People } from "./people.js";
import { Shelf } from "./shelf.js";
import { Transfers } from "./transfers.js";
import { SERVER, line } from "./view.js";
import { mqttUrl } from "./place.js";
import { harmless, topics } from "./wire.js";

const TYPING_EVERY = 3_000;
const AGAIN = 5_000;

export class Account {
  #uses;
  #running = true;
  #visible = false;
  #typed = new Map();
  #urls = new Map();
  #refreshing = null;

  /**
   * @param {{db: import("./database.js").Database, rest: import("./rest.js").Rest, session: import("./session.js").Session,
   *   place: () => Promise<import("./place.js").Place>, changed: () => void, message: (detail: object) => void}} uses
   */
  constructor(uses) {
    this.#uses = uses;
    const { db, rest, session, changed } = uses;
    const me = (this.me = session.login.user);
    this.keyring = new Keyring(db, rest);
    this.people = new People(db, rest, this.keyring, changed);
    this.shelf = new Shelf(db, changed);
    this.transfers = new Transfers(rest, db, changed);
    this.link = new Link({
      access: () => this.#access(),
      refused: (token) => session.renew(token),
      handle: (packets) => this.inbox.handle(packets),
      filters: () => ({ [topics.inbox(me)]: { qos: 1 }, [topics.markers(me)]: { qos: 1 } }),
      online: () => void this.#online(),
      changed: (state) => this.#linked(state),
    });
    const { keyring, people, shelf, transfers, link } = this;
    this.outbox = new Outbox({ me, db, shelf, keyring, people, link, transfers, changed });
    this.inbox = new Inbox({
      me, shelf, keyring, people,
      news: (row) => this.#news(row),
      settled: (told) => this.outbox.settled(told),
      system: (message) => this.#system(message),
    });
    this.history = new History({ rest, shelf, inbox: this.inbox, changed });
  }

  async start() {
    await Promise.all([this.keyring.load(), this.people.load(), this.shelf.load(), this.outbox.load()]);
    this.link.start();
    this.outbox.pump();
    this.shelf.tidy().catch((error) => this.#trouble(error));
  }

  stop() {
    this.#running = false;
    this.link.stop();
    this.outbox.close();
    this.transfers.clear();
    this.people.away();
    for (const url of this.#urls.values()) URL.revokeObjectURL(url);
    this.#urls.clear();
  }

  #trouble(error) {
    if (this.#running && !passing(error) && error.name !== "SignedOut" && error.name !== "Elsewhere" && error.code !== "signed-out") {
      console.error(error);
    }
  }

  // The connection

  async #access() {
    const { session, place } = this.#uses;
    const [token, found] = [await session.token(), await place()];
    const url = mqttUrl(found, location);
    if (url === null) throw new ChatError("no-mqtt", "This server offers browsers no connection for messages.");
    return { url, token, user: this.me, device: session.login.device };
  }

  #linked(state) {
    if (state.state !== "online") {
      this.outbox?.close();
      this.people.away();
    }
    this.#uses.changed();
  }

  // What waits leaves with the newest keys, if they can be had.
  async #online() {
    const fresh = await this.refresh();
    if (!this.link.online || !this.#running) return;
    this.outbox.open();
    this.#tellRead().catch((error) => this.#trouble(error));
    if (!fresh) return void setTimeout(() => this.#running && this.link.online && this.#online(), AGAIN);
    const { me, people, history, shelf } = this;
    if (shelf.open !== null) this.#look(shelf.open);
    for (const { peer, rows } of shelf.all()) if (rows.some((row) => row.raw)) await this.reread(peer);
    await history.prime(() => [...people.relations.map((one) => one.user), me]);
  }

  /** Reads the lists of people anew; whether they could be had. */
  refresh() {
    this.#refreshing ??= (async () => {
      try {
        await this.people.refresh();
        return true;
      } catch (error) {
        this.#trouble(error);
        return false;
      }
    })().finally(() => {
      this.#refreshing = null;
    });
    return this.#refreshing;
  }

  // What comes

  #news(row) {
    const { peer, key } = row;
    this.people.stopped(peer);
    if (this.people.find(peer) === undefined && peer !== SERVER) void this.refresh();
    if (this.#looksAt(peer)) return void this.markRead(peer).catch((error) => this.#trouble(error));
    if (this.shelf.get(peer)?.muted) return;
    const name = peer === SERVER ? "Announcement" : this.people.nameOf(peer);
    this.#uses.message({ user: peer, name, text: line(row), key });
  }

  #system({ type, user_id: user }) {
    if (type === "broadcast") return;
    if (type === "key_wrapped" || type === "device_keys_changed") return;
    void this.refresh().then(() => user && this.reread(user)).catch((error) => this.#trouble(error));
  }

  /** Tries again to open what did not open for want of a key. */
  async reread(peer) {
    const news = [];
    for (const row of this.shelf.get(peer)?.rows ?? []) {
      if (row.raw) news.push({ ...row, ...(await this.inbox.opened(peer, row.mine, row.raw)) });
    }
    if (news.length === 0) return;
    await this.shelf.change([peer], async (draft) => {
      for (const row of news) if ((await draft.row(row.key)) !== undefined) await draft.keep(row);
    });
  }

  // What is on screen

  #looksAt(peer) {
    return this.#visible && this.shelf.open === peer;
  }

  /** @param {string|null} peer */
  async look(peer) {
    const { shelf } = this;
    const before = shelf.open;
    if (before === peer) return;
    shelf.open = peer;
    if (before !== null) {
      this.#revoke(before);
      await shelf.leave(before);
    }
    if (peer === null) return;
    await shelf.touch(peer);
    this.#look(peer);
    await this.reread(peer);
    await this.markRead(peer);
    await this.addresses(peer);
  }

  #look(peer) {
    const now = this.shelf.get(peer);
    if (peer === SERVER || (now?.floor ?? null) !== null || !this.link.online) return;
    this.history.older(peer).catch((error) => this.#trouble(error));
  }

  async visible(is) {
    this.#visible = is;
    if (is) this.link.now();
    if (is && this.shelf.open !== null) await this.markRead(this.shelf.open);
  }

  /** What the person sees is read, everywhere. */
  async markRead(peer) {
    if (!this.#looksAt(peer)) return;
    const newest = newestOfPeer(this.shelf.get(peer));
    if (newest === 0 || newest <= (this.shelf.get(peer).upTo ?? -1)) return;
    await this.shelf.change([peer], async (draft) => draft.set(peer, seen(draft.get(peer), newest)));
    await this.#tellRead();
  }

  // To the peer, and to my other devices by a retained marker. Told again until both are acknowledged.
  async #tellRead() {
    for (const { peer, upTo, told } of [...this.shelf.all()]) {
      if (!upTo || upTo <= told || !this.link.online) continue;
      const payload = JSON.stringify({ up_to: upTo });
      const all = [this.link.publish(topics.marker(this.me, peer), payload, { retain: true })];
      if (this.people.isFriend(peer)) {
        all.push(this.link.publish(topics.receipt(this.me, peer), JSON.stringify({ type: "read", up_to: upTo })));
      }
      await Promise.all(all);
      await this.shelf.change([], async (draft) => {
        const now = draft.get(peer);
        draft.set(peer, { ...now, told: Math.max(now.told, upTo) });
      });
    }
  }

  typing(peer) {
    if (!this.link.online || !this.people.isFriend(peer) || Date.now() - (this.#typed.get(peer) ?? 0) < TYPING_EVERY) return;
    this.#typed.set(peer, Date.now());
    this.link.publish(topics.typing(this.me, peer), "{}", { qos: 0 }).catch(() => {}); // it was only a hint
  }

  // Files

  async #row(key) {
    const row = await this.#uses.db.read((work) => work.get("rows", key));
    if (row === undefined) throw new ChatError("gone", "This message is not here any more.");
    return row;
  }

  /** @param {string} peer @param {File} file */
  async sendFile(peer, file) {
    this.#address(await this.outbox.file(peer, file), file);
  }

  async download(key) {
    const row = await this.#row(key);
    if (row.file === null) throw new ChatError("no-file", "This message has no file.");
    let fields = { local: true, gone: false };
    let failure = null;
    try {
      const blob = (await this.transfers.kept(key)) ?? (await this.transfers.download(row));
      if (blob === null) return;
      this.#address(key, blob);
    } catch (error) {
      if (error.code !== "unknown-file") throw error;
      [fields, failure] = [{ local: false, gone: true }, error];
    }
    await this.shelf.change([row.peer], async (draft) => {
      const known = await draft.row(key);
      if (known !== undefined) await draft.keep({ ...known, file: { ...known.file, ...fields } });
    });
    if (failure !== null) throw failure;
  }

  /** Addresses for the files of a conversation that are here. */
  async addresses(peer) {
    for (const { key, file } of this.shelf.get(peer)?.rows ?? []) {
      if (!file?.local || this.#urls.has(key)) continue;
      const blob = await this.transfers.kept(key);
      if (this.shelf.open !== peer) return;
      if (blob !== undefined) this.#address(key, blob);
      else await this.#lost(peer, key);
    }
  }

  async #lost(peer, key) {
    await this.shelf.change([peer], async (draft) => {
      const known = await draft.row(key);
      if (known?.mid) await draft.keep({ ...known, file: { ...known.file, local: false } });
    });
  }

  #address(key, blob) {
    if (this.#urls.has(key)) return;
    // whatever it calls itself: under an address of this page nothing may run
    const type = harmless(blob.type);
    this.#urls.set(key, URL.createObjectURL(blob.type === type ? blob : new Blob([blob], { type })));
    this.#uses.changed();
  }

  #revoke(peer) {
    for (const { key } of this.shelf.get(peer)?.rows ?? []) {
      const url = this.#urls.get(key);
      if (url !== undefined) URL.revokeObjectURL(url);
      this.#urls.delete(key);
    }
  }

  urlOf = (key) => this.#urls.get(key) ?? null;
}
