/**
 * A double of the engine: it plays what the contract says, without a server. The page gets it in place of `engine/chat.js`;
 * `?scene=` in the address chooses what is there (scenes.js), and `window.double` lets a test move things.
 */
import { sceneNamed } from "./scenes.js";

export class ChatError extends Error {
  constructor(code, message, retryAfter) {
    super(message);
    this.code = code;
    if (retryAfter) this.retryAfter = retryAfter;
  }
}

const wait = (ms) => new Promise((done) => setTimeout(done, ms));
const QUICK = 60;

export class Chat extends EventTarget {
  #scene;
  #conversations = new Map();
  #onScreen = null;
  #visible = true;
  #made = 0;
  #told = 0;

  constructor() {
    super();
    this.calls = [];
    this.state = Object.freeze({
      phase: "starting",
      reason: null,
      secure: true,
      me: null,
      link: { state: "connecting", since: Date.now(), retryAt: null, reason: null },
      contacts: [],
      requests: { incoming: [], outgoing: [] },
      waiting: 0,
      unread: 0,
    });
    window.double = this;
  }

  async open() {
    this.#scene = await sceneNamed(new URLSearchParams(location.search).get("scene") || "everyday");
    if (this.#scene.hold) return;
    for (const [user, conversation] of Object.entries(this.#scene.conversations || {})) {
      this.#conversations.set(user, { user, items: [], more: false, loading: false, error: null, older: [], ...conversation });
    }
    this.set(this.#scene.state);
  }

  /** Changes the state, as the engine would: a new frozen object and one event. */
  set(changes) {
    const next = { ...this.state, ...changes };
    next.unread = next.contacts.reduce((sum, { unread }) => sum + unread, 0);
    this.state = Object.freeze(next);
    this.tell();
  }

  tell() {
    if (this.#told) return;
    this.#told = setTimeout(() => {
      this.#told = 0;
      this.dispatchEvent(new Event("change"));
    }, 8);
  }

  contact(user, changes) {
    this.set({ contacts: this.state.contacts.map((contact) => (contact.user === user ? { ...contact, ...changes } : contact)) });
  }

  conversation(user) {
    if (!this.#conversations.has(user)) this.#conversations.set(user, { user, items: [], more: false, loading: false, error: null, older: [] });
    return this.#conversations.get(user);
  }

  #put(user, changes) {
    this.#conversations.set(user, Object.freeze({ ...this.conversation(user), ...changes }));
    this.tell();
  }

  change(user, key, changes) {
    this.#put(user, { items: this.conversation(user).items.map((item) => (item.key === key ? Object.freeze({ ...item, ...changes }) : item)) });
    const item = this.conversation(user).items.at(-1);
    if (item && item.key === key) this.contact(user, { last: { text: item.text, ts: item.ts, mine: item.mine, status: item.status, kind: item.kind } });
  }

  add(user, item) {
    const made = Object.freeze({ key: `d${(this.#made += 1)}`, mid: null, id: null, mine: false, device: null, ts: Date.now(), kind: "text", text: "", reason: null, status: null, file: null, ...item });
    this.#put(user, { items: [...this.conversation(user).items, made] });
    const seen = made.mine || (this.#onScreen === user && this.#visible);
    const [mine, others] = [this.state.contacts.filter((contact) => contact.user === user), this.state.contacts.filter((contact) => contact.user !== user)];
    const last = { text: made.text || made.file?.name || "", ts: made.ts, mine: made.mine, status: made.status, kind: made.kind };
    this.set({ contacts: [...mine.map((contact) => ({ ...contact, last, unread: contact.unread + (seen ? 0 : 1) })), ...others] });
    return made;
  }

  /** Somebody writes. */
  receive(user, text, more = {}) {
    const made = this.add(user, { text, ...more });
    if (this.#onScreen === user && this.#visible) return;
    const { name, muted } = this.state.contacts.find((contact) => contact.user === user) || {};
    if (!muted) this.dispatchEvent(new CustomEvent("message", { detail: { user, name, text, key: made.key } }));
  }

  async #do(name, ...given) {
    this.calls.push([name, ...given]);
    await wait(QUICK);
    const refused = this.#scene.refuse && this.#scene.refuse[name];
    if (refused) throw new ChatError(...refused);
  }

  async register(given) {
    await this.#do("register", given);
    await this.#enter(given.user, given.name);
  }
  async login(given) {
    await this.#do("login", given);
    await this.#enter(given.user, "");
  }
  async #enter(user, name) {
    const scene = await sceneNamed("empty");
    this.set({ ...scene.state, me: { user, name: name || "", device: "this-browser" } });
  }
  async logout() {
    await this.#do("logout");
    this.set({ phase: "signed-out", me: null, contacts: [], waiting: 0 });
  }
  logoutEverywhere() {
    return this.logout();
  }
  async deleteAccount(password) {
    await this.#do("deleteAccount", password);
    this.set({ phase: "signed-out", me: null, contacts: [], waiting: 0, reason: "The account is deleted." });
  }
  async takeOver() {
    await this.#do("takeOver");
    this.set((await sceneNamed("everyday")).state);
  }
  async changePassword(...given) {
    await this.#do("changePassword", ...given);
  }

  async openConversation(user) {
    this.calls.push(["openConversation", user]);
    this.#onScreen = user;
    if (user && this.#visible && this.state.contacts.some((contact) => contact.user === user && contact.unread)) this.contact(user, { unread: 0 });
  }
  visible(now) {
    this.#visible = now;
  }
  async loadOlder(user) {
    this.calls.push(["loadOlder", user]);
    const conversation = this.conversation(user);
    if (conversation.loading || !conversation.more) return;
    this.#put(user, { loading: true, error: null });
    await wait(QUICK * 3);
    const { older, items } = this.conversation(user);
    const page = older.slice(-50);
    this.#put(user, { loading: false, items: [...page, ...items], older: older.slice(0, -50), more: older.length > 50 });
  }

  async sendText(user, text) {
    this.calls.push(["sendText", user, text]);
    const online = this.state.link.state === "online";
    const item = this.add(user, { mine: true, text, status: "waiting" });
    if (!online) return this.set({ waiting: this.state.waiting + 1 });
    this.#travel(user, item.key);
    return undefined;
  }
  async #travel(user, key) {
    if (this.#scene.still) return;
    for (const status of ["sending", "sent", "delivered", "read"]) {
      await wait(QUICK);
      this.change(user, key, { status });
    }
  }
  async sendFile(user, file) {
    this.calls.push(["sendFile", user, file.name]);
    const isImage = /^image\//.test(file.type);
    const shown = { name: file.name, size: file.size, mime: file.type, isImage, state: "uploading", progress: 0, url: isImage ? URL.createObjectURL(file) : null };
    const item = this.add(user, { mine: true, kind: "file", status: "waiting", file: shown });
    for (let part = 1; part <= 4 && !this.#scene.still; part += 1) {
      await wait(QUICK);
      this.change(user, item.key, { file: { ...shown, progress: part / 4, state: part === 4 ? "ready" : "uploading" } });
    }
    this.#travel(user, item.key);
  }
  async retry(key) {
    await this.#do("retry", key);
    const user = this.#onScreen;
    this.change(user, key, { status: "waiting", reason: null });
    this.#travel(user, key);
  }
  async discard(key) {
    await this.#do("discard", key);
    this.#put(this.#onScreen, { items: this.conversation(this.#onScreen).items.filter((item) => item.key !== key) });
  }
  async typing(user) {
    this.calls.push(["typing", user]);
  }
  async download(key) {
    this.calls.push(["download", key]);
    const item = this.conversation(this.#onScreen).items.find((one) => one.key === key);
    if (!item || this.#scene.still) return;
    for (let part = 1; part <= 4; part += 1) {
      this.change(this.#onScreen, key, { file: { ...item.file, state: "downloading", progress: part / 4 } });
      await wait(QUICK);
    }
    this.change(this.#onScreen, key, { file: { ...item.file, state: "ready", progress: 1, url: URL.createObjectURL(new Blob(["what the file has"])) } });
  }
  async cancelTransfer(key) {
    await this.#do("cancelTransfer", key);
    const item = this.conversation(this.#onScreen).items.find((one) => one.key === key);
    if (item.mine) this.#put(this.#onScreen, { items: this.conversation(this.#onScreen).items.filter((one) => one.key !== key) });
    else this.change(this.#onScreen, key, { file: { ...item.file, state: "none", progress: 0 } });
  }

  async requestFriend(user) {
    await this.#do("requestFriend", user);
    if (user === "nobody") throw new ChatError("unknown-user", "Nobody here has the user id nobody.");
    this.set({ requests: { ...this.state.requests, outgoing: [...this.state.requests.outgoing, { user, name: "", created: Date.now() }] } });
  }
  async accept(user) {
    await this.#do("accept", user);
    const { incoming } = this.state.requests;
    const { name } = incoming.find((request) => request.user === user);
    const contact = { user, name, state: "friends", online: false, lastSeen: null, typing: false, unread: 0, last: null, keyVersion: 1, sealed: false, muted: false };
    this.set({ contacts: [contact, ...this.state.contacts], requests: { ...this.state.requests, incoming: incoming.filter((request) => request.user !== user) } });
  }
  async decline(user) {
    await this.#do("decline", user);
    this.set({ requests: { ...this.state.requests, incoming: this.state.requests.incoming.filter((request) => request.user !== user) } });
  }
  async unfriend(user) {
    await this.#do("unfriend", user);
    this.set({ contacts: this.state.contacts.filter((contact) => contact.user !== user) });
  }
  async block(user) {
    await this.#do("block", user);
    this.contact(user, { state: "blocked", online: false });
  }
  async unblock(user) {
    await this.#do("unblock", user);
    this.contact(user, { state: "friends" });
  }
  async rotateKey(user) {
    await this.#do("rotateKey", user);
    const { keyVersion } = this.state.contacts.find((contact) => contact.user === user);
    this.contact(user, { keyVersion: keyVersion + 1 });
  }
  async mute(user, muted) {
    await this.#do("mute", user, muted);
    this.contact(user, { muted });
  }
  async devices() {
    await this.#do("devices");
    return this.#scene.devices || [];
  }
  async renameDevice(device, name) {
    await this.#do("renameDevice", device, name);
    this.#scene.devices = this.#scene.devices.map((one) => (one.device === device ? { ...one, name } : one));
  }
  async removeDevice(device) {
    await this.#do("removeDevice", device);
    this.#scene.devices = this.#scene.devices.filter((one) => one.device !== device);
  }
  tryNow() {
    this.calls.push(["tryNow"]);
  }
}
