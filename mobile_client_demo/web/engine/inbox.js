// What the connection brings, stored before it is acknowledged: a killed page loses nothing, and nothing comes twice.
import { failed, keyOf, receipt, row, seen, sent } from "./conversation.js";
import { rejected } from "./errors.js";
import { content, notice, received, remembered } from "./wire.js";

/**
 * @typedef {object} InboxUses
 * @property {string} me
 * @property {import("./shelf.js").Shelf} shelf @property {import("./keyring.js").Keyring} keyring
 * @property {import("./people.js").People} people
 * @property {(row: import("./conversation.js").Row) => void} news something for me that was not here
 * @property {(told: {id: string, type: "sent"|"failed", reason?: string, row: object|null}) => void} settled an answer to what was sent from here
 * @property {(message: any) => void} system a notice of the server, stored
 */

export class Inbox {
  #uses;

  /** @param {InboxUses} uses */
  constructor(uses) {
    this.#uses = uses;
  }

  /** Handles what has come together. Resolves when it is stored. @param {{topic: string, payload: string}[]} packets */
  async handle(packets) {
    const { me, people } = this.#uses;
    const told = [];
    for (const { topic, payload } of packets) {
      const fact = received(me, topic, payload);
      if (fact === null) continue;
      if (fact.type === "typing") people.typing(fact.peer);
      else if (fact.type === "presence") people.present(fact);
      else told.push(fact);
    }
    const steps = [];
    for (const fact of told) steps.push(await this.#step(fact));
    if (steps.length > 0) await this.#store(steps);
  }

  /** Rows of the history, for `peer`. @param {any[]} messages as GET /v1/messages gives them */
  async rows(peer, messages) {
    const rows = [];
    for (const told of messages) rows.push(await this.#row(remembered(this.#uses.me, peer, told), false));
    return rows;
  }

  // What a fact means, as far as it can be said outside of the transaction: opening is not of the database.
  async #step(fact) {
    const { people } = this.#uses;
    if (fact.type === "chat" || fact.type === "sync") {
      return { fact, peers: [fact.peer], row: await this.#row(fact, true) };
    }
    if (fact.type === "system") {
      const said = notice(fact.message, (user) => people.nameOf(user));
      if (said === null) return { fact, peers: [], row: null };
      const { mid, ts } = fact;
      const made = row({ ...said, key: keyOf(false, null, mid), mid, ts, inbox: true });
      return { fact, peers: [said.peer], row: made };
    }
    return { fact, peers: [fact.peer], row: null };
  }

  /** @returns {Promise<import("./conversation.js").Row>} */
  async #row(fact, inbox) {
    const { mid, ts, peer, device, mine, message } = fact;
    const id = message.id === undefined || message.id === null ? null : message.id;
    const about = { key: keyOf(mine, id, mid), peer, mid, id: id === null ? null : String(id), device, mine, ts, inbox };
    return row({ ...about, ...(await this.opened(peer, mine, message)) });
  }

  /** The content of a message: opened, or why not, and then with what it takes to try again. */
  async opened(peer, mine, message) {
    if (message.enc === undefined || message.enc === null) return { ...content(message.type, message.body), raw: null };
    const got = await this.#uses.keyring.open({ me: this.#uses.me, peer, mine, message });
    if (got.state === "open") return { ...content(message.type, got.text), raw: null };
    const { type, enc, body } = message;
    return { kind: "unreadable", text: "", file: null, reason: got.reason, raw: got.again ? { type, enc, body } : null };
  }

  async #store(steps) {
    const { shelf, news, settled, system } = this.#uses;
    // the others concern no rows: a conversation need not come into memory for them, of which there are many at each start
    const concerned = (fact) =>
      fact.type === "marker" ? fact.upTo > (shelf.get(fact.peer)?.upTo ?? -1) : !isReceipt(fact) || isAnswer(fact);
    const peers = steps.filter(({ fact }) => concerned(fact)).flatMap((step) => step.peers);
    const after = await shelf.change(peers, async (draft) => {
      const after = [];
      const known = (await draft.work.get("meta", "n")) ?? null;
      let n = known; // not without gaps: what this device has sent has numbers too, and comes to the others only
      for (const { fact, row: told } of steps) {
        if (fact.n === undefined) {
          after.push(await this.#state(draft, fact));
          continue;
        }
        if (n !== null && fact.n <= n) continue;
        n = fact.n;
        const fresh = told !== null && (await draft.tell(told));
        if (fact.type === "system") after.push(() => system(fact.message));
        else if (fresh && !told.mine) after.push(() => news(told));
        if (fresh && told !== null && fact.type === "system" && told.kind === "text") after.push(() => news(told));
      }
      if (n !== known) await draft.work.put("meta", n, "n");
      return after;
    });
    for (const tell of after) tell?.(settled);
  }

  // Receipts and markers: what is so, however often it is told.
  async #state(draft, fact) {
    const now = draft.get(fact.peer);
    if (fact.type === "marker") {
      const next = seen(now, fact.upTo);
      draft.set(fact.peer, next === now ? now : { ...next, told: Math.max(next.told, fact.upTo) });
      return null;
    }
    const { type, id, reason, ...told } = fact.receipt;
    if (!isAnswer(fact)) {
      draft.set(fact.peer, receipt(now, fact.receipt));
      return null;
    }
    const known = typeof id === "string" ? await draft.row(keyOf(true, id, null)) : undefined;
    if (known === undefined || known.peer !== fact.peer) return (settled) => settled({ id, type, reason, row: null });
    const next = type === "sent" ? sent(known, told) : failed(known, rejected(String(reason)));
    // "rate": later it will do; the outbox keeps it
    if (reason !== "rate") await draft.keep(next);
    return (settled) => settled({ id, type, reason, row: next });
  }
}

const isReceipt = (fact) => fact.type === "receipt";
const isAnswer = (fact) => isReceipt(fact) && (fact.receipt.type === "sent" || fact.receipt.type === "failed");

