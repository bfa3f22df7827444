// The web chat without a page: what a user interface may see and do.
import { Account } from "./account.js";
import { newId } from "./bytes.js";
import { Database, Elsewhere } from "./database.js";
import { ChatError, elsewhere } from "./errors.js";
import { SEALED_SENDING } from "./keyring.js";
import { findPlace } from "./place.js";
import { platform } from "./platform.js";
import { Rest, escaped } from "./rest.js";
import { Session, SignedOut } from "./session.js";
import { Snapshots } from "./snapshots.js";
import { Tabs } from "./tabs.js";
import { SERVER, ownDevice } from "./view.js";

export { ChatError } from "./errors.js";

/** @typedef {import("./snapshots.js").ChatState} ChatState */

/** Fires "change" when `state` or a conversation was replaced, and "message" (detail: user, name, text, key). */
export class Chat extends EventTarget {
  #base;
  #db = null;
  #session = null;
  #rest = null;
  #tabs = null;
  /** @type {Account|null} */
  #account = null;
  #phase = "starting";
  #reason = null;
  #visible = true;
  #seen = new Snapshots(() => this.#all(), () => this.dispatchEvent(new Event("change")));

  /** @param {{base?: string}} [how] `base`: the origin of the REST API, the page's own unless given */
  constructor({ base = location.origin } = {}) {
    super();
    this.#base = base;
  }

  #all() {
    const login = this.#account && this.#session.login;
    return { phase: this.#phase, reason: this.#reason, account: login ? this.#account : null, login };
  }

  /** Reads what this browser knows; the phase is another one afterwards. */
  async open() {
    const unusable = ({ message }) =>
      this.#become("unusable", `This browser keeps no data for this page, and without it no message is safe: ${message}`);
    try {
      this.#db = await Database.open();
    } catch (error) {
      return unusable(error);
    }
    this.#db.onlost = () => this.#become("unusable", "The browser has taken this page's data away. Load the page again.");
    this.#session = new Session(this.#db);
    this.#rest = new Rest(this.#base, this.#session);
    this.#session.use(this.#rest);
    this.#session.onend = (reason) => this.#signedOut(reason);
    this.#tabs = new Tabs(newId());
    this.#tabs.onleave = () => this.#left();
    this.#db.onelsewhere = () => void this.#tabs.leave();
    addEventListener("online", () => this.#account?.link.now());
    addEventListener("offline", () => this.#account?.link.check());
    if (await this.#tabs.claim()) await this.#enter().catch(unusable);
    else this.#become("elsewhere", null);
  }

  /** Brings the chat from another tab to this one. */
  async takeOver() {
    if (this.#phase !== "elsewhere") return;
    await this.#tabs.take();
    await this.#enter();
  }

  async #enter() {
    await this.#db.hold(newId());
    if ((await this.#session.load()) === null) this.#become("signed-out", null);
    else await this.#begin();
  }

  async #begin({ fresh = false } = {}) {
    this.#account?.stop();
    const account = new Account({
      db: this.#db, rest: this.#rest, session: this.#session, place: () => findPlace(this.#db, this.#base),
      changed: () => this.#seen.changed(), message: (detail) => this.dispatchEvent(new CustomEvent("message", { detail })),
    });
    this.#account = account;
    await account.start();
    if (fresh) await account.refresh(); // somebody who has just come in sees friends, not an empty list
    await account.visible(this.#visible);
    if (this.#account === account) this.#become("ready", null); // else the login is over, or another tab has the chat
  }

  async #left() {
    this.#account?.stop();
    this.#account = null;
    this.#become("elsewhere", null);
  }

  #signedOut(reason) {
    this.#account?.stop();
    this.#account = null;
    this.#become("signed-out", reason);
  }

  #become(phase, reason) {
    this.#phase = phase;
    this.#reason = reason;
    this.#seen.now();
  }

  /** @returns {ChatState} */
  get state() {
    return this.#seen.state;
  }

  /** @param {string} user @returns {import("./view.js").ConversationView} */
  conversation = (user) => this.#seen.conversation(user);

  // The login

  /** @param {{user: string, password: string, name?: string}} who */
  async register({ user, password, name }) {
    const body = { user_id: user, password, ...(name ? { name } : {}) };
    // once, however often the answer is lost and the same is asked again
    const headers = { "Idempotency-Key": newId() };
    await this.#rest.call("POST", "/v1/users", body, { open: true, headers });
    await this.login({ user, password });
  }

  /** @param {{user: string, password: string}} who */
  async login(who) {
    this.#account?.stop();
    this.#account = null;
    await this.#own(() => this.#session.start(who));
    await this.#begin({ fresh: true });
    this.#session.describe(platform(navigator.userAgent)).then(() => this.#seen.changed(), () => {}); // only names
  }

  /** Ends the login and forgets everything that this browser has of it. */
  async logout() {
    await this.#ending(() => this.#rest.call("POST", "/v1/logout", undefined, { patience: 5_000 }).catch(unlessPassing));
  }

  async logoutEverywhere() {
    await this.#ending(() => this.#rest.call("POST", "/v1/account/logout"));
  }

  async deleteAccount(password) {
    await this.#ending(() => this.#rest.call("POST", "/v1/account/deletion", { password }));
  }

  async #ending(call) {
    this.#in();
    try {
      await call();
    } catch (error) {
      if (!(error instanceof SignedOut)) throw error;
    }
    this.#account?.stop();
    this.#account = null;
    this.#become("starting", null); // nobody is shown a chat of nobody while it is being wiped
    await this.#own(() => this.#session.wipe());
    this.#become("signed-out", null);
  }

  async changePassword(old, password) {
    this.#in();
    await this.#rest.call("PUT", "/v1/account/password", { old_password: old, password });
  }

  #in() {
    if (this.#account !== null) return this.#account;
    if (this.#phase === "elsewhere") throw elsewhere();
    throw new ChatError("signed-out", "Log in first.");
  }

  // When an action is over, its effect is in the state. What another tab has taken is no fault of anybody's.
  async #own(what) {
    try {
      return await what();
    } catch (error) {
      if (!(error instanceof Elsewhere)) throw error;
      await this.#left();
      throw elsewhere();
    } finally {
      this.#seen.flush();
    }
  }

  // The conversation

  openConversation = (user) => this.#own(async () => (user === null ? this.#account?.look(null) : this.#in().look(user)));
  loadOlder = (user) => this.#own(async () => (user === SERVER ? this.#deepen(user) : this.#in().history.older(user)));
  typing = async (user) => this.#in().typing(user);

  #deepen = async (user) => {
    if (this.#in().shelf.get(user)?.deeper) await this.#in().shelf.deepen(user, 100);
  };

  /** Whether somebody can see this page. @param {boolean} is */
  async visible(is) {
    this.#visible = is;
    await this.#own(async () => this.#account?.visible(is));
  }

  /** "Try now". */
  async tryNow() {
    this.#in().link.now();
  }

  #writable(user) {
    const { me, people, keyring } = this.#in();
    if (user === me) return;
    if (user === SERVER) throw new ChatError("read-only", "Nobody reads answers to announcements.");
    const state = people.find(user)?.state;
    if (state === "blocked") throw new ChatError("blocked", "You have blocked this person.");
    if (state === "deleted") throw new ChatError("deleted", "This account was deleted.");
    if (!people.isFriend(user)) throw new ChatError("not-friends", "You are not friends.");
    if (keyring.sealed(user)) throw new ChatError("sealed", SEALED_SENDING);
  }

  async sendText(user, text) {
    this.#writable(user);
    if (text.trim() === "") throw new ChatError("empty", "There is nothing to send.");
    await this.#own(() => this.#in().outbox.text(user, text));
  }

  /** @param {string} user @param {File} file */
  async sendFile(user, file) {
    this.#writable(user);
    await this.#own(() => this.#in().files.send(user, file));
  }

  retry = (key) => this.#own(async () => this.#in().outbox.retry(key));
  discard = (key) => this.#own(async () => this.#in().outbox.discard(key));
  download = (key) => this.#own(async () => this.#in().files.download(key));
  cancelTransfer = async (key) => this.#in().transfers.cancel(key);

  mute = (user, is) => this.#own(async () =>
    this.#in().shelf.change([], async (draft) => draft.set(user, { ...draft.get(user), muted: Boolean(is) })));

  // People

  requestFriend = (user) => this.#own(async () => this.#in().people.request(user));
  accept = (user) => this.#own(async () => this.#in().people.accept(user));
  decline = (user) => this.#own(async () => this.#in().people.decline(user));
  unfriend = (user) => this.#own(async () => this.#in().people.unfriend(user));
  block = (user) => this.#own(async () => this.#in().people.block(user));
  unblock = (user) => this.#own(async () => this.#in().people.unblock(user));
  rotateKey = (user) => this.#own(async () => this.#in().people.rotate(user));

  // Devices

  /** @returns {Promise<import("./view.js").OwnDevice[]>} */
  async devices() {
    this.#in();
    return (await this.#rest.list("/v1/devices")).map(ownDevice);
  }

  async renameDevice(device, name) {
    this.#in();
    await this.#rest.call("PATCH", `/v1/devices/${escaped(device)}`, { name });
  }

  /** Ends what this device may do. If it is this one, the login is over. */
  async removeDevice(device) {
    const own = device === this.#session.login?.device;
    const call = () => this.#rest.call("DELETE", `/v1/devices/${escaped(device)}`);
    if (own) await this.#ending(call);
    else await call();
  }
}

const unlessPassing = (error) => {
  if (!(error instanceof ChatError)) throw error;
};
