// What becomes of tokens: renewed once for all who wait, never lost, and never brought back.
import assert from "node:assert/strict";
import { test } from "node:test";

import { ChatError, offline } from "../../../mobile_client_demo/web/engine/errors.js";
import { Session } from "../../../mobile_client_demo/web/engine/session.js";

globalThis.navigator ??= {}; // a page without HTTPS has no locks there

/** A database of one store, whose transactions run one after the other. */
class Database {
  meta = new Map();
  #last = Promise.resolve();

  read = (what) => what(this.work);
  write = (what) => (this.#last = this.#last.then(() => what(this.work)));
  writeAlways = this.write;
  work = {
    get: async (_, key) => this.meta.get(key),
    put: async (_, value, key) => void this.meta.set(key, value),
    remove: async (_, key) => void this.meta.delete(key),
  };
}

const LOGIN = { user: "me", name: "me", device: "web-1", access: "a1", refresh: "r1", until: 0, life: 1, renewal: null };
const NEW = { access_token: "a2", refresh_token: "r2", expires_in: 3_600 };

/** A login that was stored before; `refresh` answers who asks for new tokens. */
async function session(refresh = async () => NEW) {
  const db = new Database();
  db.meta.set("session", LOGIN);
  const asked = [];
  const answers = { "/v1/token/refresh": refresh, "/v1/account": async () => ({ name: "Mine" }) };
  const call = async (_, path, body, how) => {
    asked.push([path, body?.refresh_token, how?.headers["Idempotency-Key"]]);
    return answers[path]();
  };
  const made = new Session(db);
  made.use({ call, list: async () => [] });
  await made.load();
  return { made, db, asked, stored: () => db.meta.get("session") };
}

test("whoever waits for a token gets the same one, asked for once", async () => {
  const { made, asked, stored } = await session();
  assert.deepEqual(await Promise.all([made.token(), made.token(), made.renew("a1")]), ["a2", "a2", "a2"]);
  assert.equal(asked.length, 1);
  assert.deepEqual([stored().refresh, stored().renewal], ["r2", null]);
  assert.equal(await made.renew("a1"), "a2", "refused although it is replaced by now: no reason to ask again");
  assert.equal(asked.length, 1);
});

test("a refresh that was not answered is asked for again as the same", async () => {
  let lost = true;
  const { made, asked, stored } = await session(async () => {
    if (lost) throw offline();
    return NEW;
  });
  await assert.rejects(made.token(), { code: "offline" });
  assert.equal(stored().refresh, "r1");
  lost = false;
  assert.equal(await made.token(), "a2");
  const [[, first, key], [, second, same]] = asked;
  assert.deepEqual([first, second, same], ["r1", "r1", key]);
  assert.match(key, /^[0-9a-f]{32}$/);
});

test("tokens that another tab has stored are taken as they are", async () => {
  const { made, db, asked } = await session();
  db.meta.set("session", { ...LOGIN, access: "b2", refresh: "s2", until: Date.now() + 1_000_000 });
  assert.equal(await made.renew("a1"), "b2");
  assert.deepEqual([made.login.refresh, asked], ["s2", []]);
});

test("a login that the server has ended is forgotten and told", async () => {
  const { made, db, stored } = await session(async () => {
    throw new ChatError("session-ended", "over", { status: 401 });
  });
  const told = [];
  made.onend = (reason) => told.push(reason);
  let drawn;
  const write = db.write;
  db.write = async (what) => {
    const written = await write(what);
    drawn = stored() === undefined ? made.login?.user : drawn;
    return written;
  };
  await assert.rejects(made.token(), { code: "signed-out" });
  assert.deepEqual([made.login, stored(), told.length], [null, undefined, 1]);
  assert.equal(drawn, "me", "a page that is drawn before it is told shows a chat of somebody");
  assert.match(told[0], /Log in again/);
});

test("a name that is told while tokens are renewed does not bring the old ones back", async () => {
  const { made, db, stored } = await session();
  // the new tokens are on their way into the database when the name is to follow them
  let described;
  const put = db.writeAlways;
  db.writeAlways = (what) => {
    const stored = put(what);
    described = made.describe("Browser");
    return new Promise((resolve) => setTimeout(() => resolve(stored), 20));
  };
  assert.equal(await made.renew("a1"), "a2");
  await described;
  assert.deepEqual([stored().refresh, made.login.refresh], ["r2", "r2"], "a refresh token is good once");
  assert.deepEqual([stored().name, made.login.name], ["Mine", "Mine"]);
});

test("who logs out while the server ends the login is told nothing", async () => {
  const { made, db, stored } = await session(async () => {
    throw new ChatError("session-ended", "over", { status: 401 });
  });
  const told = [];
  made.onend = (reason) => told.push(reason);
  db.work.clear = async () => {};
  const remove = db.work.remove;
  let wiped;
  db.work.remove = async (...what) => {
    wiped ??= made.wipe();
    return remove(...what);
  };
  await assert.rejects(made.token(), { code: "signed-out" });
  await wiped;
  assert.deepEqual([made.login, stored(), told], [null, undefined, []]);
});
