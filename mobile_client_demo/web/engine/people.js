// Friends, requests, who is there and who is typing.
import { afresh } from "./afresh.js";
import { ChatError } from "./errors.js";
import { escaped } from "./rest.js";

const TYPING = 6_000;

export class People {
  #db;
  #rest;
  #keyring;
  #onchange;
  /** @type {{user: string, name: string, state: "friends"|"blocked"|"deleted", keyVersion: number}[]} */
  relations = [];
  /** @type {{incoming: {user: string, name: string, created: number}[], outgoing: {user: string, name: string, created: number}[]}} */
  requests = { incoming: [], outgoing: [] };
  /** @type {Map<string, {online: boolean, lastSeen: number|null}>} */
  presence = new Map();
  #typing = new Map();

  constructor(db, rest, keyring, onchange) {
    this.#db = db;
    this.#rest = rest;
    this.#keyring = keyring;
    this.#onchange = onchange;
  }

  async load() {
    const [relations, requests] = await this.#db.read(async (work) => [
      await work.get("meta", "relations"), await work.get("meta", "requests")]);
    this.relations = relations ?? [];
    this.requests = requests ?? { incoming: [], outgoing: [] };
  }

  clear() {
    this.relations = [];
    this.requests = { incoming: [], outgoing: [] };
    this.away();
  }

  /** Nobody is there as far as we know: the connection is gone. */
  away() {
    for (const [user, told] of this.presence) this.presence.set(user, { ...told, online: false });
    for (const timer of this.#typing.values()) clearTimeout(timer);
    this.#typing.clear();
  }

  find(user) {
    return this.relations.find((one) => one.user === user);
  }

  isFriend(user) {
    return this.find(user)?.state === "friends";
  }

  nameOf(user) {
    const asked = [...this.requests.incoming, ...this.requests.outgoing].find((one) => one.user === user);
    return this.find(user)?.name || asked?.name || user;
  }

  isTyping(user) {
    return this.#typing.has(user);
  }

  /** Reads both lists anew; keys come with the friends. */
  refresh = afresh(() => this.#read());

  async #read() {
    const told = await this.#rest.list("/v1/relations");
    const keys = told.filter((one) => one.key_version > 0);
    await this.#keyring.learn(
      keys.map((one) => ({ peer: one.user_id, version: one.key_version, key: one.key?.key ?? null })));
    this.relations = told.map((one) => ({
      user: one.user_id, name: one.name || one.user_id, state: one.deleted ? "deleted" : one.state, keyVersion: one.key_version }));
    this.requests = await this.#askRequests();
    await this.#db.write(async (work) => {
      await work.put("meta", this.relations, "relations");
      await work.put("meta", this.requests, "requests");
    });
    this.#onchange();
  }

  // Two lists in one document: both go on where the same link leads.
  async #askRequests() {
    const all = { incoming: [], outgoing: [] };
    for await (const page of this.#rest.pages("/v1/friend-requests")) {
      const entry = (user, one) => ({ user, name: one.name || user, created: one.created });
      all.incoming.push(...page.incoming.map((one) => entry(one.from, one)));
      all.outgoing.push(...page.outgoing.map((one) => entry(one.to, one)));
    }
    return all;
  }

  present({ peer, online, lastSeen }) {
    this.presence.set(peer, { online, lastSeen });
    this.#onchange();
  }

  typing(peer) {
    clearTimeout(this.#typing.get(peer));
    this.#typing.set(peer, setTimeout(() => this.stopped(peer), TYPING));
    this.#onchange();
  }

  /** Not typing any more: what was typed has come. */
  stopped(peer) {
    clearTimeout(this.#typing.get(peer));
    if (this.#typing.delete(peer)) this.#onchange();
  }

  // What one may do. Each is done again without harm; the lists are read anew after it.

  async request(user) {
    if (!/^[A-Za-z0-9_.-]{1,64}$/.test(user)) throw new ChatError("unknown-user", "There is nobody of this name.");
    await this.#do("POST", "/v1/friend-requests", { to: user });
  }

  accept = (user) => this.#do("POST", `/v1/friend-requests/${escaped(user)}/accept`);
  decline = (user) => this.#do("POST", `/v1/friend-requests/${escaped(user)}/decline`);
  unfriend = (user) => this.#do("DELETE", `/v1/friends/${escaped(user)}`);
  block = (user) => this.#do("PUT", `/v1/blocks/${escaped(user)}`);
  unblock = (user) => this.#do("DELETE", `/v1/blocks/${escaped(user)}`);

  async rotate(user) {
    const after = this.#keyring.version(user);
    const path = `/v1/relations/${escaped(user)}/rotate-key${after > 0 ? `?after=${after}` : ""}`;
    const got = await this.#rest.call("POST", path);
    await this.#keyring.learn(
      got.keys.map((one) => ({ peer: user, version: one.version, key: one.kind === "sealed" ? null : one.key, wanted: true })));
    this.#onchange();
  }

  async #do(method, path, body) {
    await this.#rest.call(method, path, body);
    await this.refresh();
  }
}
