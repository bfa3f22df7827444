// Everything that lives as long as one login: the connection and all who use it.
import { Files } from "./attachments.js";
import { newestOfPeer, seen } from "./conversation.js";
import { ChatError, expected } from "./errors.js";
import { History } from "./history.js";
import { Inbox } from "./inbox.js";
import { Keyring } from "./keyring.js";
import { Link } from "./link.js";
import { Outbox } from "./outbox.js";
import { People } from "./people.js";
import { mqttUrl } from "./place.js";
import { Shelf } from "./shelf.js";
import { Transfers } from "./transfers.js";
import { SERVER, line } from "./view.js";
import { topics } from "./wire.js";

const TYPING_EVERY = 3_000;
const SOON = 4_000;
const AGAIN = 5_000;

export class Account {
  #uses;
  #running = true;
  #visible = false;
  #typed = new Map();
  #again = null;

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
      online: () => this.#connected(),
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
    this.files = new Files({ db, shelf, transfers, outbox: this.outbox, changed });
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
    this.outbox.stop(); // before the transfers: what is cut off is not cancelled
    this.transfers.clear();
    this.people.away();
    this.files.clear();
  }

  #trouble(error) {
    if (this.#running && !expected(error)) console.error(error);
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

  #connected() {
    clearTimeout(this.#again);
    this.#online().catch((error) => this.#trouble(error));
  }

  // What waits leaves with the newest keys, if they can be had soon.
  async #online() {
    const fresh = await Promise.race([this.refresh(), pause(SOON).then(() => false)]);
    if (!this.link.online || !this.#running) return;
    this.outbox.open();
    this.#tellRead().catch((error) => this.#trouble(error));
    if (!fresh) {
      this.#later();
      return;
    }
    const { me, people, history, shelf } = this;
    if (shelf.open !== null) this.#look(shelf.open);
    for (const { peer, rows } of shelf.all()) if (rows.some((row) => row.raw)) await this.reread(peer);
    await history.prime(() => [...people.relations.map((one) => one.user), me]);
  }

  /** Reads the lists of people anew; whether they could be had. */
  async refresh() {
    try {
      await this.people.refresh();
      return true;
    } catch (error) {
      this.#trouble(error);
      return false;
    }
  }

  // Something has changed among the people, with `user` or in general. What cannot be read now is not forgotten.
  async #changed(user) {
    if (!(await this.refresh())) this.#later();
    else if (user) await this.reread(user);
  }

  #later() {
    clearTimeout(this.#again);
    this.#again = setTimeout(() => this.#running && this.link.online && this.#connected(), AGAIN);
  }

  // What comes

  #news(row) {
    const { peer, key } = row;
    this.people.stopped(peer);
    if (this.people.find(peer) === undefined && peer !== SERVER) this.#changed(peer).catch((error) => this.#trouble(error));
    if (this.#looksAt(peer)) return void this.markRead(peer).catch((error) => this.#trouble(error));
    if (this.shelf.get(peer)?.muted) return;
    const name = peer === SERVER ? "Announcement" : this.people.nameOf(peer);
    this.#uses.message({ user: peer, name, text: line(row), key });
  }

  #system({ type, user_id: user }) {
    if (type === "broadcast") return;
    if (type === "key_wrapped" || type === "device_keys_changed") return;
    this.#changed(user).catch((error) => this.#trouble(error));
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
      this.files.leave(before);
      await shelf.leave(before);
    }
    if (peer === null) return;
    await shelf.touch(peer);
    this.#look(peer);
    await this.reread(peer);
    await this.markRead(peer);
    await this.files.addresses(peer);
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
}

const pause = (wait) => new Promise((resolve) => setTimeout(resolve, wait));
