// Topics and payloads, the order of sending, and the other small pure parts of the web chat's engine.
import assert from "node:assert/strict";
import { test } from "node:test";

import { afresh } from "../../../mobile_client_demo/web/engine/afresh.js";
import { FIRST, LONGEST, delay } from "../../../mobile_client_demo/web/engine/backoff.js";
import { row } from "../../../mobile_client_demo/web/engine/conversation.js";
import { passing, problemError } from "../../../mobile_client_demo/web/engine/errors.js";
import { departing } from "../../../mobile_client_demo/web/engine/departing.js";
import { mqttUrl } from "../../../mobile_client_demo/web/engine/place.js";
import { platform } from "../../../mobile_client_demo/web/engine/platform.js";
import { nextPage } from "../../../mobile_client_demo/web/engine/rest.js";
import { content, fileBody, fileOf, harmless, isImage, notice, received, remembered, topics } from "../../../mobile_client_demo/web/engine/wire.js";

const json = JSON.stringify;

test("what the server publishes to me", () => {
  const chat = received("me", "inbox/me/chat/bob", json({ n: 1, mid: 2, ts: 3, id: "x", body: "hi" }));
  assert.deepEqual(chat, { type: "chat", n: 1, mid: 2, ts: 3, peer: "bob", device: null, mine: false, message: { id: "x", body: "hi" } });
  assert.equal(received("me", "inbox/me/chat/me", json({ n: 1, mid: 2, ts: 3 })).mine, true, "a note");
  const sync = received("me", "inbox/me/sync/me", json({ n: 4, mid: 5, ts: 6, to: "bob", device: "phone", message: { body: "yo" } }));
  assert.deepEqual([sync.peer, sync.device, sync.mine, sync.message], ["bob", "phone", true, { body: "yo" }]);
  assert.deepEqual(received("me", "inbox/me/receipt/bob", json({ type: "read", up_to: 5 })).receipt, { type: "read", up_to: 5 });
  assert.deepEqual(received("me", "inbox/me/typing/bob", "{}"), { type: "typing", peer: "bob" });
  assert.deepEqual(received("me", "inbox/me/presence/bob", json({ online: true, last_seen: 9 })), { type: "presence", peer: "bob", online: true, lastSeen: 9 });
  assert.deepEqual(received("me", topics.marker("me", "bob"), json({ up_to: 9 })), { type: "marker", peer: "bob", upTo: 9 });
  const system = received("me", "inbox/me/system/$server", json({ n: 1, mid: 2, ts: 3, type: "friend_accepted", user_id: "bob" }));
  assert.deepEqual([system.type, system.message], ["system", { type: "friend_accepted", user_id: "bob" }]);
});

test("what is not for me, or not of this client, is nothing", () => {
  const item = json({ n: 1, mid: 2, ts: 3, body: "hi" });
  for (const [topic, payload] of [
    ["inbox/you/chat/bob", item], ["inbox/me/chat", item], ["inbox/me/chat/bob/more", item], ["devices/me/lamp/on", item],
    ["devices/me/chat/read/bob", json({ up_to: "9" })], ["devices/me/chat/read/bob/x", json({ up_to: 9 })], ["inbox/me/chat/bob", "no json"],
    ["inbox/me/chat/bob", json([1])], ["inbox/me/chat/bob", "null"], ["inbox/me/chat/bob", json({ mid: 2, ts: 3 })],
    ["inbox/me/chat/bob", json({ n: "1", mid: 2, ts: 3 })], ["inbox/me/system/bob", item], ["inbox/me/poll/bob", item], ["x", item],
  ]) assert.equal(received("me", topic, payload), null, `${topic} ${payload}`);
});

test("contents of messages", () => {
  assert.deepEqual(content("text", "hi"), { kind: "text", text: "hi", file: null, reason: null });
  assert.equal(content(undefined, "").text, "");
  assert.equal(content("poll", "which?").kind, "text");
  assert.equal(content("text", { a: 1 }).text, '{"a":1}');
  assert.equal(content("text", undefined).kind, "unreadable");
  for (const body of ["{}", "no json", 5, undefined, json({ file_id: "f", stored: 1 })]) assert.equal(content("file", body).kind, "unreadable");
});

const FILE = { fileId: "f", name: "a.png", mime: "image/png", size: 3, stored: 19, sha256: "a".repeat(64), key: "a2V5" };

test("a file there and back", () => {
  assert.deepEqual(fileOf(JSON.parse(fileBody(FILE))), FILE);
  assert.deepEqual(fileOf(JSON.parse(fileBody({ ...FILE, key: null }))), { ...FILE, key: null });
});

test("a name is data, and a type only what it looks like", () => {
  const told = (more) => fileOf({ ...JSON.parse(fileBody(FILE)), ...more });
  assert.equal(told({ name: "../../etc/passwd" }).name, "passwd");
  assert.equal(told({ name: "C:\\x\\y.exe" }).name, "y.exe");
  assert.equal(told({ name: "a\u0000\nb" }).name, "ab");
  assert.equal(told({ name: "" }).name, "file");
  assert.equal(told({ mime: "text/html; charset=x" }).mime, "application/octet-stream");
  assert.equal(told({ format: "A256GCM-1M" }), null);
  assert.equal(told({ key: undefined }), null, "a format without a key");
  assert.equal(told({ sha256: "A".repeat(64) }), null);
  assert.ok(isImage("image/png") && !isImage("image/svg+xml"));
  assert.deepEqual(["image/png", "video/mp4", "text/html", "image/svg+xml", "application/pdf"].map(harmless),
    ["image/png", "video/mp4", ...Array(3).fill("application/octet-stream")]);
});

test("the history tells a message as the inbox does", () => {
  const found = remembered("me", "bob", { mid: 2, ts: 3, from: "me", to: "bob", message: { id: "x", body: "hi" } });
  assert.deepEqual([found.type, found.mine, found.peer, found.message.body], ["chat", true, "bob", "hi"]);
});

test("notices in words", () => {
  const name = () => "Bob";
  assert.deepEqual(notice({ type: "broadcast", text: "tonight" }, name), { peer: "$server", kind: "text", text: "tonight" });
  assert.equal(notice({ type: "key_rotated", user_id: "bob", version: 3 }, name).text.includes("version 3"), true);
  assert.equal(notice({ type: "friend_request", from: "bob" }, name), null);
  assert.equal(notice({ type: "something_new", user_id: "bob" }, name), null);
});

test("what may leave: texts in order, files when they are uploaded, as much as the window lets", () => {
  const text = (order) => row({ key: `o:${order}`, order, mine: true, step: "waiting" });
  const file = (order, fileId) => row({ ...text(order), kind: "file", file: { fileId } });
  const keys = (rows, sending = [], window = 20) => departing(rows, new Set(sending), window).map(({ order }) => order);
  assert.deepEqual(keys([text(3), text(1), file(2, null), file(4, "f")]), [1, 3, 4]);
  assert.deepEqual(keys([text(1), text(2), text(3)], ["o:1"]), [2, 3]);
  assert.deepEqual(keys([text(1), text(2), text(3), text(4)], ["o:1"], 3), [2, 3]);
  assert.deepEqual(keys([text(1), text(2)], ["o:1"], 1), []);
});

test("attempts to connect", () => {
  for (const luck of [0, 0.5, 0.999]) {
    for (let failures = 1; failures < 100; failures += 1) {
      const wait = delay(failures, luck);
      assert.ok(wait >= FIRST / 2 && wait <= LONGEST, `${failures} ${luck} ${wait}`);
    }
  }
  assert.ok(delay(1, 0.999) <= FIRST);
  assert.ok(delay(10, 0) >= LONGEST / 2);
});

test("where the server is", () => {
  const place = { mqtt: null, mqtt_port: 8083, mqtt_path: "/mqtt" };
  assert.equal(mqttUrl(place, { protocol: "http:", hostname: "192.168.1.4" }), "ws://192.168.1.4:8083/mqtt");
  assert.equal(mqttUrl(place, { protocol: "https:", hostname: "chat.example" }), "wss://chat.example:8083/mqtt");
  assert.equal(mqttUrl({ ...place, mqtt: "wss://mqtt.example/" }, { protocol: "https:", hostname: "x" }), "wss://mqtt.example/");
  assert.equal(mqttUrl({ ...place, mqtt_port: null }, { protocol: "https:", hostname: "x" }), null);
});

test("problems in words, and which of them pass", () => {
  const problem = (type, status, retry = null) => problemError(status, { type: `urn:aldis:problem:${type}`, detail: "d" }, retry);
  assert.deepEqual([problem("wrong-login", 401).code, problem("too-many-attempts", 429, "30").retryAfter], ["wrong-login", 30]);
  assert.match(problem("too-many-attempts", 429, "30").message, /30 s/);
  assert.match(problem("too-many-attempts", 429, "600").message, /10 minutes/);
  assert.equal(problemError(502, null, null).code, "status-502");
  const passes = [problem("unavailable", 503), problem("too-many-transfers", 429), problem("timeout", 408), problem("still-running", 409)];
  assert.deepEqual(passes.map(passing), [true, true, true, true]);
  assert.deepEqual([problem("storage-full", 507), problem("not-friends", 404), new Error("x")].map(passing), [false, false, false]);
});

test("the next page", () => {
  const link = (value) => nextPage(new Headers(value === null ? {} : { Link: value }));
  assert.equal(link('</v1/relations?after=bob&limit=500>; rel="next"'), "/v1/relations?after=bob&limit=500");
  assert.equal(link('<http://elsewhere/v1/x?a=1>; rel="next"'), "/v1/x?a=1", "never another host");
  assert.equal(link('</a>; rel="prev", </b>; rel="next"'), "/b");
  assert.equal(link('</a>; rel="prev"'), null);
  assert.equal(link(null), null);
});

test("names of browsers", () => {
  assert.equal(platform("Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36"), "Chrome on Linux");
  assert.equal(platform("Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605 Version/18.0 Mobile/15E148 Safari/604.1"), "Safari on iPhone");
  assert.equal(platform("curl"), "Browser");
});

// A reader whose answers come when the test says so: `runs` are the ones begun.
function readerOf(runs) {
  return afresh(() => new Promise((resolve, reject) => runs.push({ resolve, reject })));
}

test("an answer was asked for after the call that gets it", async () => {
  const runs = [];
  const read = readerOf(runs);
  const first = read();
  const [second, third] = [read(), read()];
  assert.equal(runs.length, 1, "one at a time");
  runs[0].resolve("old");
  assert.equal(await first, "old");
  await new Promise(setImmediate);
  assert.equal(runs.length, 2, "one more for both who have asked meanwhile");
  runs[1].resolve("new");
  assert.deepEqual(await Promise.all([second, third]), ["new", "new"]);
  const later = read();
  runs[2].resolve("newest");
  assert.equal(await later, "newest");
  assert.equal(runs.length, 3);
});

test("a reading that fails is the answer of those who wait for it alone", async () => {
  const runs = [];
  const read = readerOf(runs);
  const [first, second] = [read(), read()];
  runs[0].reject(new Error("away"));
  await assert.rejects(first, /away/);
  await new Promise(setImmediate);
  runs[1].resolve("new");
  assert.equal(await second, "new");
});
