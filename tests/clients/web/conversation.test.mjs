// What events make of a conversation: the same in the end, whatever order they come in and however often.
import assert from "node:assert/strict";
import { test } from "node:test";

import {
  compare, drop, empty, failed, isUnread, keyOf, last, merge, newestOfPeer, put, receipt, record, replace, row, seen, sent, status,
  trimmed, unread,
} from "../../../mobile_client_demo/web/engine/conversation.js";
import { chance } from "./chance.mjs";

const PEER = "bob";
const ids = (number) => number.toString(16).padStart(32, "0");

// A conversation as it took place: messages of both sides by mid; `own` were composed on this device.
function story(luck) {
  const messages = [];
  let mid = 100;
  for (let count = 1 + luck.below(12); count > 0; count -= 1) {
    mid += 1 + luck.below(3);
    const mine = luck.next() < 0.5;
    const web = luck.next() < 0.7; // another kind of client has ids of another kind
    messages.push({ mid, ts: mid * 10, mine, own: mine && luck.next() < 0.6, id: web ? ids(mid) : `p-${mid}`, text: `text ${mid}` });
  }
  for (const one of messages) if (one.own) one.id = ids(one.mid);
  return messages;
}

const told = (one, more) =>
  row({ key: keyOf(one.mine, one.id, one.mid), peer: PEER, mid: one.mid, id: one.id, mine: one.mine, ts: one.ts, text: one.text, ...more });

const composed = (messages) =>
  messages.filter(({ own }) => own).map((one, order) =>
    row({ key: keyOf(true, one.id, null), peer: PEER, id: one.id, mine: true, ts: one.ts - 3, text: one.text, step: "waiting", order: order + 1 }));

// Everything that may be told of it. A message that is read only after its key has come is told unreadable first.
function events(messages, luck) {
  const all = [];
  for (const one of messages) {
    const sealed = { kind: "unreadable", text: "", reason: "later", raw: { enc: 1 } };
    // the answer may have been lost with the page: then the history tells it; and what was composed is told again
    if (one.own) all.push({ type: "row", row: told(one) }, { type: "row", row: composed(messages).find(({ id }) => id === one.id) });
    if (one.own && luck.next() < 0.7) all.push({ type: "sent", one });
    if (one.mine && !one.own) all.push({ type: "row", row: told(one, { device: "phone", inbox: true }) }, { type: "row", row: told(one) });
    if (!one.mine) all.push({ type: "row", row: told(one, { inbox: true }) }, { type: "row", row: told(one) });
    if (!one.own && luck.next() < 0.3) all.push({ type: "row", row: told(one, { ...sealed, inbox: luck.next() < 0.5 }) });
    if (luck.next() < 0.4) all.push({ type: "delivered", up_to: one.mid });
    if (luck.next() < 0.3) all.push({ type: "read", up_to: one.mid });
    if (luck.next() < 0.3) all.push({ type: "marker", up_to: one.mid });
  }
  return all;
}

function after(now, event) {
  if (event.type === "row") return put(now, [event.row]);
  if (event.type === "marker") return seen(now, event.up_to);
  if (event.type !== "sent") return receipt(now, event);
  const known = now.rows.find((one) => one.id === event.one.id);
  return replace(now, [sent(known, event.one)]);
}

const visible = (now) => ({
  rows: now.rows.map((one) => [one.key, one.mid, one.ts, one.text, one.kind, one.reason, one.step, status(now, one), isUnread(now, one)]),
  unread: unread(now), last: last(now), read: now.read, delivered: now.delivered, upTo: now.upTo,
});

test("any order and repetition leads to the same state", () => {
  for (let seed = 0; seed < 400; seed += 1) {
    const luck = chance(seed);
    const messages = story(luck);
    const all = events(messages, luck);
    const start = { ...replace(empty(PEER), composed(messages)), loaded: true };
    const straight = visible(all.reduce(after, start));
    for (let round = 0; round < 5; round += 1) {
      const repeated = luck.shuffled([...all, ...all.filter(() => luck.next() < 0.5)]);
      assert.deepEqual(visible(repeated.reduce(after, start)), straight, `seed ${seed}`);
    }
    assert.ok(straight.rows.every(([, mid, , , , , step]) => mid !== null && step === null), `all stored, seed ${seed}`);
    assert.deepEqual(straight.rows.map(([, mid]) => mid), messages.map(({ mid }) => mid), `order, seed ${seed}`);
    assert.deepEqual(straight.rows.map(([, , , text]) => text), messages.map(({ text }) => text), `texts, seed ${seed}`);
  }
});

test("nothing that is known changes what was known before", () => {
  for (let seed = 0; seed < 50; seed += 1) {
    const luck = chance(seed);
    const messages = story(luck);
    let now = { ...replace(empty(PEER), composed(messages)), loaded: true };
    for (const event of luck.shuffled(events(messages, luck))) {
      const before = structuredClone(now);
      const next = after(now, event);
      assert.deepEqual(now, before, `seed ${seed}: a state was changed instead of replaced`);
      now = next;
    }
  }
});

test("ticks never go back", () => {
  const order = ["waiting", "sending", "sent", "delivered", "read"];
  for (let seed = 0; seed < 200; seed += 1) {
    const luck = chance(seed);
    const messages = story(luck);
    let now = { ...replace(empty(PEER), composed(messages)), loaded: true };
    let ticks = new Map();
    for (const event of luck.shuffled(events(messages, luck))) {
      now = after(now, event);
      const next = new Map(now.rows.filter(({ mine }) => mine).map((one) => [one.key, order.indexOf(status(now, one))]));
      for (const [key, tick] of ticks) assert.ok(next.get(key) >= tick, `seed ${seed}`);
      ticks = next;
    }
  }
});

const mine = (order, more) => row({ key: `o:${order}`, peer: PEER, mine: true, step: "waiting", order, ...more });
const theirs = (mid, more) => row({ key: `m:${mid}`, peer: PEER, mid, ts: mid, inbox: true, text: `t${mid}`, ...more });
const holding = (...rows) => ({ ...replace(empty(PEER), rows), loaded: true });

test("what waits stands last, in the order of composing; what has failed stays where it was written", () => {
  const now = holding(mine(2), theirs(7), mine(1, { base: 5, step: "failed" }), theirs(5), mine(3), theirs(9));
  assert.deepEqual(now.rows.map(({ key }) => key), ["m:5", "o:1", "m:7", "m:9", "o:2", "o:3"]);
  assert.equal(compare(now.rows[0], now.rows[0]), 0);
});

test("a rejected message is failed until it is sent after all", () => {
  const waiting = mine(1);
  const no = failed(waiting, "not friends");
  assert.deepEqual([no.step, no.reason, status(empty(PEER), no)], ["failed", "not friends", "failed"]);
  const yes = sent({ ...no, step: "waiting" }, { mid: 5, ts: 50 });
  assert.deepEqual([yes.mid, yes.ts, yes.step, yes.reason], [5, 50, null, null]);
  assert.equal(failed(yes, "a repeat of the first answer"), yes);
  assert.equal(sent(yes, { mid: 6, ts: 60 }).mid, 6, "the later place is the right one");
});

test("the tick of a message follows from how far the peer has come", () => {
  const one = mine(1, { mid: 10, step: null });
  const tick = (more, sending) => status({ ...empty(PEER), ...more }, one, sending);
  assert.equal(tick({}), "sent");
  assert.equal(tick({ delivered: 9 }), "sent");
  assert.equal(tick({ delivered: 10 }), "delivered");
  assert.equal(tick({ read: 10 }), "read", "read without delivered, from a peer that acknowledges nothing");
  assert.equal(status(empty(PEER), mine(2), new Set(["o:2"])), "sending");
  assert.equal(status(empty(PEER), mine(2), new Set()), "waiting");
  assert.equal(status(empty(PEER), theirs(3)), null);
});

test("receipts of no meaning change nothing", () => {
  const now = receipt(empty(PEER), { type: "read", up_to: 5 });
  for (const told of [{ type: "read", up_to: 4 }, { type: "read", up_to: "9" }, { type: "read" }, { type: "rows", up_to: 9 },
    { type: "delivered", up_to: 1.5 }, { type: "peer", up_to: 7 }]) assert.equal(receipt(now, told), now);
  assert.equal(seen(seen(now, 7), 6).upTo, 7);
  assert.equal(seen(now, NaN), now);
});

test("what counts as unread", () => {
  const now = holding(theirs(1), theirs(2, { inbox: false }), theirs(3, { kind: "notice" }), theirs(4, { kind: "unreadable" }), mine(1));
  assert.equal(unread(now), 2, "the history is no news where nobody has ever said what is read");
  assert.equal(unread(seen(now, 1)), 2, "but from there on it is");
  assert.equal(unread(seen(now, 4)), 0);
  assert.equal(newestOfPeer(now), 4);
});

test("what is stored of a conversation says the same while its rows are not in memory", () => {
  const now = seen(holding(theirs(1), theirs(2), theirs(3), mine(1, { text: "mine" })), 1);
  const stored = { ...empty(PEER), ...record(now) };
  assert.deepEqual([unread(stored), last(stored)], [unread(now), last(now)]);
  assert.equal(last(stored).text, "mine");
  assert.deepEqual(last(holding(theirs(1), theirs(2, { kind: "notice" }))).mid, 1, "a notice is no message");
  assert.deepEqual(last(holding(theirs(2, { kind: "notice" }))).mid, 2);
  assert.equal(last(holding()), null);
});

test("memory is bounded, and what is not on the server stays in it", () => {
  const now = trimmed(holding(...Array.from({ length: 50 }, (_, place) => theirs(place + 1)), mine(1), mine(2, { step: "failed", base: 3 })), 10);
  assert.deepEqual(now.rows.map(({ key }) => key), ["o:2", ...Array.from({ length: 10 }, (_, place) => `m:${place + 41}`), "o:1"]);
  assert.ok(now.deeper);
  assert.equal(trimmed(now, 10), now);
});

test("a file that is here stays here when it is told again", () => {
  const file = { fileId: "f", name: "a", local: true };
  const known = mine(1, { mid: 3, step: null, kind: "file", file });
  const again = merge(known, row({ ...known, file: { fileId: "f", name: "a", key: "k" } }));
  assert.deepEqual(again.file, { fileId: "f", name: "a", key: "k", local: true });
  assert.deepEqual(drop(holding(known), known.key).rows, []);
});

test("rows are known by random ids or by mid", () => {
  assert.equal(keyOf(true, ids(5), null), `o:${ids(5)}`);
  assert.equal(keyOf(true, "p-1", 7), "m:7", "another client may use its ids on each of its devices");
  assert.equal(keyOf(false, ids(5), 7), "m:7", "somebody else's id says nothing");
});
