// What the inbox stores and tells, over a database that is a Map.
import assert from "node:assert/strict";
import { test } from "node:test";

import { empty, keyOf, merge, replace, row } from "../../../mobile_client_demo/web/engine/conversation.js";
import { Inbox } from "../../../mobile_client_demo/web/engine/inbox.js";
import { chance } from "./chance.mjs";

// The shelf of a browser, without one: a change is stored whole or not at all.
class Shelf {
  meta = new Map();
  rows = new Map();
  conversations = new Map();
  changes = 0;

  get = (peer) => this.conversations.get(peer);

  async change(peers, what) {
    this.changes += 1;
    const [meta, rows, conversations] = [new Map(this.meta), new Map(this.rows), new Map(this.conversations)];
    const get = (peer) => conversations.get(peer) ?? { ...empty(peer), loaded: true };
    const keep = async (one) => {
      rows.set(one.key, one);
      conversations.set(one.peer, replace(get(one.peer), [one]));
    };
    const result = await what({
      get, keep, set: (peer, next) => conversations.set(peer, next), row: async (key) => rows.get(key),
      tell: async (one) => {
        const known = rows.get(one.key);
        await keep(known === undefined ? one : merge(known, one));
        return known === undefined;
      },
      work: { get: async (_, key) => meta.get(key), put: async (_, value, key) => void meta.set(key, value) },
    });
    [this.meta, this.rows, this.conversations] = [meta, rows, conversations];
    return result;
  }
}

function inbox(shelf = new Shelf()) {
  const told = { news: [], settled: [], system: [], present: [], typing: [] };
  const people = {
    nameOf: (user) => user.toUpperCase(), typing: (peer) => told.typing.push(peer), present: (fact) => told.present.push(fact.peer),
  };
  const made = new Inbox({
    me: "me", shelf, people, keyring: { open: async () => ({ state: "closed", reason: "no key", again: true }) },
    news: (one) => told.news.push(one.text), settled: (one) => told.settled.push([one.type, one.id]), system: (one) => told.system.push(one.type),
  });
  return { made, shelf, told, texts: (peer) => (shelf.get(peer)?.rows ?? []).map(({ text }) => text) };
}

const chat = (n, text, more = {}) =>
  ({ topic: "inbox/me/chat/bob", payload: JSON.stringify({ n, mid: 100 + n, ts: n, body: text, ...more }) });
const packet = (topic, payload) => ({ topic, payload: JSON.stringify(payload) });

test("items at or below the highest n are dropped, whatever they say", async () => {
  const { made, shelf, told, texts } = inbox();
  await made.handle([chat(1, "one"), chat(3, "three")]);
  await made.handle([chat(3, "three"), chat(2, "an older one"), chat(1, "one"), chat(4, "four"), chat(4, "four, forged", { mid: 900 })]);
  assert.deepEqual(texts("bob"), ["one", "three", "four"]);
  assert.deepEqual(told.news, ["one", "three", "four"]);
  assert.equal(shelf.meta.get("n"), 4);
});

test("a stop at any place, and what was not acknowledged again, is the same in the end", async () => {
  for (let seed = 0; seed < 60; seed += 1) {
    const luck = chance(seed);
    const whole = Array.from({ length: 30 }, (_, place) => chat(place + 1, `text ${place}`));
    let { made, shelf, texts } = inbox();
    const news = [];
    for (let acknowledged = 0; acknowledged < whole.length; ) {
      const batch = whole.slice(acknowledged, acknowledged + 1 + luck.below(8));
      const one = inbox(shelf);
      ({ made, texts } = one);
      await made.handle(batch); // the page may be killed here: stored, and not acknowledged
      news.push(...one.told.news);
      if (luck.next() < 0.6) acknowledged += batch.length;
      else acknowledged += luck.below(batch.length);
    }
    assert.deepEqual(texts("bob"), whole.map((_, place) => `text ${place}`), `seed ${seed}`);
    assert.deepEqual(news, texts("bob"), `told once, seed ${seed}`);
  }
});

test("what has come together is stored together", async () => {
  const { made, shelf } = inbox();
  await made.handle([chat(1, "a"), chat(2, "b"), packet("inbox/me/receipt/bob", { type: "read", up_to: 7 })]);
  assert.equal(shelf.changes, 1);
  assert.equal(shelf.get("bob").read, 7);
  await made.handle([packet("inbox/me/typing/bob", {}), { topic: "inbox/me/chat/bob", payload: "no json" }]);
  assert.equal(shelf.changes, 1, "nothing to store");
});

test("an answer finds its message, and only that of its recipient", async () => {
  const { made, shelf, told } = inbox();
  const id = "ab".repeat(16);
  const waiting = row({ key: keyOf(true, id, null), id, peer: "bob", mine: true, step: "waiting", order: 1, text: "hi" });
  await shelf.change([], (draft) => draft.keep(waiting));
  await made.handle([packet("inbox/me/receipt/eve", { type: "sent", id, mid: 5, ts: 6 })]);
  assert.equal(shelf.rows.get(waiting.key).mid, null);
  await made.handle([packet("inbox/me/receipt/bob", { type: "failed", id, reason: "rate" })]);
  assert.equal(shelf.rows.get(waiting.key).step, "waiting", "too much at once: it goes on waiting");
  await made.handle([packet("inbox/me/receipt/bob", { type: "failed", id, reason: "not_friend" })]);
  assert.equal(shelf.rows.get(waiting.key).step, "failed");
  await made.handle([packet("inbox/me/receipt/bob", { type: "sent", id, mid: 5, ts: 6 })]);
  assert.deepEqual([shelf.rows.get(waiting.key).mid, shelf.rows.get(waiting.key).step], [5, null]);
  assert.deepEqual(told.settled.map(([type]) => type), ["sent", "failed", "failed", "sent"]);
});

test("what does not open is kept with what it takes to try again", async () => {
  const { made, shelf } = inbox();
  const enc = { alg: "A256GCM", v: 1, nonce: "" };
  await made.handle([chat(1, "AAAA", { enc, type: "text" })]);
  const [one] = shelf.get("bob").rows;
  assert.deepEqual([one.kind, one.text, one.reason, one.raw], ["unreadable", "", "no key", { type: "text", enc, body: "AAAA" }]);
});

test("notices are told once, and stand in their conversation", async () => {
  const { made, told, texts } = inbox();
  const accepted = packet("inbox/me/system/$server", { n: 1, mid: 1, ts: 1, type: "friend_accepted", user_id: "bob" });
  const request = packet("inbox/me/system/$server", { n: 2, mid: 2, ts: 1, type: "friend_request", from: "eve" });
  const broadcast = packet("inbox/me/system/$server", { n: 3, mid: 3, ts: 1, type: "broadcast", text: "tonight" });
  await made.handle([accepted, request, broadcast]);
  await made.handle([accepted, request, broadcast]);
  assert.deepEqual(told.system, ["friend_accepted", "friend_request", "broadcast"]);
  assert.deepEqual([texts("bob"), texts("$server")], [["You and BOB are friends now."], ["tonight"]]);
  assert.deepEqual(told.news, ["tonight"]);
});
