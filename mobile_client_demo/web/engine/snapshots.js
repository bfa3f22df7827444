// What a page sees: frozen, replaced when something has changed, and told of at most once a frame.
import { empty } from "./conversation.js";
import { SERVER, contacts, items } from "./view.js";

const FRAME = 16;
const NOTHING = Object.freeze([]);
const NO_REQUESTS = Object.freeze({ incoming: NOTHING, outgoing: NOTHING });
const OFF = Object.freeze({ state: "offline", since: 0, retryAt: null, reason: null });

/**
 * @typedef {object} ChatState a frozen snapshot
 * @property {"starting"|"signed-out"|"ready"|"elsewhere"|"unusable"} phase
 * @property {string|null} reason for people
 * @property {boolean} secure
 * @property {{user: string, name: string, device: string}|null} me
 * @property {import("./link.js").LinkState} link
 * @property {ReadonlyArray<import("./view.js").Contact>} contacts
 * @property {{incoming: ReadonlyArray<object>, outgoing: ReadonlyArray<object>}} requests
 * @property {number} waiting messages in the outbox
 * @property {number} unread in all conversations that are not muted
 */

export class Snapshots {
  #read;
  #tell;
  #due = null;
  #views = new Map();
  /** @type {ChatState} */
  state;

  /**
   * @param {() => {phase: string, reason: string|null, account: import("./account.js").Account|null, login: any}} read
   * @param {() => void} tell
   */
  constructor(read, tell) {
    this.#read = read;
    this.#tell = tell;
    this.state = this.#snapshot({ phase: "starting", reason: null, account: null, login: null });
  }

  /** Something is another way by now; a timer, because a page in the background has no frames. */
  changed() {
    this.#due ??= setTimeout(() => this.now(), FRAME);
  }

  /** What was changed is told at once. */
  flush() {
    if (this.#due !== null) this.now();
  }

  now() {
    clearTimeout(this.#due);
    this.#due = null;
    this.#views.clear();
    this.state = this.#snapshot(this.#read());
    this.#tell();
  }

  #snapshot({ phase, reason, account, login }) {
    const list = account ? contacts(account) : NOTHING;
    return Object.freeze({
      phase, reason, secure: globalThis.isSecureContext === true,
      me: account && Object.freeze({ user: login.user, name: login.name, device: login.device }),
      link: account ? Object.freeze({ ...account.link.state }) : OFF,
      contacts: list,
      requests: account ? frozen(account.people.requests) : NO_REQUESTS,
      waiting: account?.outbox.size ?? 0,
      unread: list.reduce((sum, one) => sum + (one.muted ? 0 : one.unread), 0),
    });
  }

  /** @param {string} user @returns {import("./view.js").ConversationView} */
  conversation(user) {
    if (!this.#views.has(user)) this.#views.set(user, this.#view(user, this.#read().account));
    return this.#views.get(user);
  }

  #view(user, account) {
    if (account === null) return Object.freeze({ user, items: NOTHING, more: false, loading: false, error: null });
    const { shelf, outbox, transfers, files, history } = account;
    const now = shelf.get(user) ?? empty(user);
    if (!now.loaded) void shelf.touch(user).catch(() => {}); // only to show it; whoever writes is told
    const overlay = { sending: outbox.sending, transferOf: (key) => transfers.of(key), urlOf: files.urlOf };
    return Object.freeze({
      user, items: items(now, overlay), more: now.deeper || (!now.complete && user !== SERVER),
      loading: !now.loaded || history.isLoading(user), error: history.errors.get(user) ?? null,
    });
  }
}

const frozen = ({ incoming, outgoing }) =>
  Object.freeze({ incoming: Object.freeze([...incoming]), outgoing: Object.freeze([...outgoing]) });
