// The login of this browser: its tokens, refreshed in one place, and what a new login keeps of what was there.
import { hex, newId, randomBytes } from "./bytes.js";
import { ChatError, passing } from "./errors.js";
import { escaped } from "./rest.js";

/** Refreshed so long before its end, or in the last quarter of a shorter life. */
const MARGIN = 5 * 60_000;
const DEVICE = "aldis-device";

/** The login is over and only a new one helps. `message` is for people. */
export class SignedOut extends ChatError {
  constructor(message) {
    super("signed-out", message);
  }
}

/**
 * @typedef {object} Login
 * @property {string} user @property {string} name @property {string} device
 * @property {string} access @property {string} refresh @property {number} until milliseconds @property {number} life of the access token, milliseconds
 * @property {string|null} [renewal] the key of a refresh that was not answered
 */

export class Session {
  #db;
  #rest = null;
  #renewing = null;
  /** @type {Login|null} */
  login = null;
  /** Called with a sentence when the login is over. */
  onend = () => {};

  /** @param {import("./database.js").Database} db */
  constructor(db) {
    this.#db = db;
  }

  /** @param {import("./rest.js").Rest} rest */
  use(rest) {
    this.#rest = rest;
  }

  async load() {
    this.login = (await this.#db.read((work) => work.get("meta", "session"))) ?? null;
    return this.login;
  }

  /** @param {{user: string, password: string}} who @returns {Promise<Login>} */
  async start({ user, password }) {
    const device = browserDevice();
    const body = { user_id: user, password, device_id: device };
    const got = await this.#rest.call("POST", "/v1/login", body, { open: true });
    const login = { user, name: user, device, ...tokens(got) };
    this.#renewing = null;
    await this.#db.write((work) => begin(work, login));
    this.login = login;
    return login;
  }

  /** What the server says of the person: the name for people. */
  async describe(platform) {
    const { name } = await this.#rest.call("GET", "/v1/account");
    await this.#change({ name: name || this.login.user });
    const devices = await this.#rest.list("/v1/devices");
    if (devices.find((one) => one.current)?.name === "") {
      await this.#rest.call("PATCH", `/v1/devices/${escaped(this.login.device)}`, { name: platform });
    }
  }

  async #change(fields) {
    if (this.login === null) throw new SignedOut("You have logged out.");
    // of what is stored by then, and of what is known by then: tokens may be renewed meanwhile
    await this.#db.write(async (work) => {
      const stored = await work.get("meta", "session");
      if (stored) await work.put("meta", { ...stored, ...fields }, "session");
    });
    if (this.login !== null) this.login = { ...this.login, ...fields };
  }

  // Access

  async token() {
    if (this.login === null) throw new SignedOut("Log in first.");
    const { until, life } = this.login;
    if (until - Math.min(MARGIN, life / 4) > Date.now()) return this.login.access;
    try {
      return await this.renew(this.login.access);
    } catch (error) {
      // it may do for a while still
      if (passing(error) && this.login !== null && this.login.until > Date.now()) return this.login.access;
      throw error;
    }
  }

  /** One at a time: a refresh token is good once. @param {string} used */
  async renew(used) {
    if (this.login === null) throw new SignedOut("Log in first.");
    if (this.login.access !== used) return this.login.access;
    this.#renewing ??= this.#renew().finally(() => {
      this.#renewing = null;
    });
    return this.#renewing;
  }

  // Another tab that has just taken over must neither use the same refresh token nor miss the new one: so one at a time
  // in the whole browser, and what is stored counts.
  #renew() {
    return alone(async () => {
      const stored = (await this.#db.read((work) => work.get("meta", "session"))) ?? null;
      if (stored === null || this.login === null) throw new SignedOut("You have logged out.");
      if (stored.refresh !== this.login.refresh) {
        this.login = stored;
        return stored.access;
      }
      const got = await this.#refreshed(stored);
      if (this.login === null) throw new SignedOut("You have logged out.");
      const news = { ...tokens(got), renewal: null };
      const login = { ...this.login, ...news };
      await this.#db.writeAlways((work) => work.put("meta", login, "session"));
      if (this.login !== null) this.login = { ...this.login, ...news };
      return login.access;
    });
  }

  // A refresh token is good once. The key, stored before, is why one whose answer got lost may be asked for again.
  async #refreshed(stored) {
    const renewal = stored.renewal ?? newId();
    this.login = { ...stored, renewal };
    await this.#db.write((work) => work.put("meta", this.login, "session"));
    try {
      const headers = { "Idempotency-Key": renewal };
      const body = { refresh_token: stored.refresh };
      return await this.#rest.call("POST", "/v1/token/refresh", body, { open: true, headers });
    } catch (error) {
      if (!(error instanceof ChatError) || error.status !== 401) throw error;
      const said = "This login has ended: the device was removed, or logged out from elsewhere. Log in again.";
      await this.#end(said);
      throw new SignedOut(said);
    }
  }

  /** The tokens are forgotten; what was read and what waits stay. */
  async #end(reason) {
    await this.#db.write((work) => work.remove("meta", "session"));
    if (this.login === null) return; // wiped meanwhile
    // in one step: a page drawn in between would be a chat of nobody
    this.login = null;
    this.onend(reason);
  }

  /** Nothing is left in this browser but its name. */
  async wipe() {
    this.login = null;
    await this.#db.write(async (work) => {
      for (const store of ["rows", "conversations", "keys", "blobs"]) await work.clear(store);
      for (const name of ["session", "owner", "n", "relations", "requests"]) await work.remove("meta", name);
    });
  }
}

const tokens = (got) => ({
  access: got.access_token,
  refresh: got.refresh_token,
  until: Date.now() + got.expires_in * 1000,
  life: got.expires_in * 1000,
});

/** A login begins with an empty memory, since the server may be another one by now; what waits to be sent is kept for the same person. */
async function begin(work, login) {
  const same = (await work.get("meta", "owner")) === login.user;
  const waiting = same ? await work.pending() : [];
  const blobs = [];
  for (const { key } of waiting) blobs.push(await work.get("blobs", key));
  const muted = same ? (await work.all("conversations")).filter((one) => one.muted).map((one) => one.peer) : [];
  for (const store of ["rows", "conversations", "keys", "blobs"]) await work.clear(store);
  for (const name of ["n", "relations", "requests"]) await work.remove("meta", name);
  // an upload to a server that has lost it would be a message about nothing
  for (const one of waiting) {
    await work.put("rows", one.file === null ? one : { ...one, file: { ...one.file, fileId: null } });
  }
  for (const blob of blobs) if (blob !== undefined) await work.put("blobs", blob);
  for (const peer of muted) await work.put("conversations", { peer, muted: true });
  await work.put("meta", login.user, "owner");
  await work.put("meta", login, "session");
}

const alone = (what) => (navigator.locks ? navigator.locks.request("aldis-refresh", what) : what());

/** This browser as a device: made once, the same for whoever logs in here. It says nothing about anybody. */
function browserDevice() {
  let device = null;
  try {
    device = localStorage.getItem(DEVICE);
    if (device === null) localStorage.setItem(DEVICE, (device = `web-${hex(randomBytes(6))}`));
  } catch {
    // a browser without a memory for this: a new device each time
  }
  return device ?? `web-${hex(randomBytes(6))}`;
}
