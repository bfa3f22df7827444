// The connection: mqtt.js over WebSocket. It connects, and connects again; what comes is acknowledged when it is handled.
import mqtt from "../vendor/mqtt.esm.js";
import { delay } from "./backoff.js";
import { ChatError } from "./errors.js";
import { timers } from "./timers.js";

const KEEP_ALIVE = 30;
const PATIENCE = 15_000;
const TOGETHER = 100;
const LATER = new Error("acknowledged when it is stored");
const FLUSHED = "Connection closed"; // what mqtt.js says to whoever waits for an acknowledgement, before it tells anybody else
const decoder = new TextDecoder();
const REFUSED = { 3: "The server has trouble at the moment.", 5: "The server did not accept this login." };

/**
 * @typedef {object} LinkState
 * @property {"online"|"connecting"|"offline"|"refused"} state
 * @property {number} since @property {number|null} retryAt @property {string|null} reason
 *
 * @typedef {object} LinkUses what the chat gives to its connection
 * @property {() => Promise<{url: string, user: string, device: string, token: string}>} access for the next attempt
 * @property {(token: string) => Promise<void>} refused the token was not accepted: find a new one, or reject
 * @property {(packets: {topic: string, payload: string}[]) => Promise<void>} handle in order, one call at a time; resolves
 *   when they are stored and may be acknowledged
 * @property {(user: string) => Record<string, {qos: 0|1}>} filters
 * @property {() => void} online subscribed @property {(state: LinkState) => void} changed
 */

export class Link {
  #uses;
  #timers = timers();
  #client = null;
  #retry = null;
  #failures = 0;
  #refusals = 0;
  #running = false;
  #attempt = 0;
  #handling = Promise.resolve();
  /** @type {LinkState} */
  state = { state: "offline", since: Date.now(), retryAt: null, reason: null };

  /** @param {LinkUses} uses */
  constructor(uses) {
    this.#uses = uses;
  }

  start() {
    if (this.#running) return;
    this.#running = true;
    this.#failures = this.#refusals = 0;
    void this.#connect();
  }

  stop() {
    this.#running = false;
    this.#attempt += 1;
    this.#forget();
    this.#drop();
    this.#say("offline", null, null);
  }

  /** At once instead of when it is time; an open connection is asked whether it is still there. */
  now() {
    if (!this.#running) return;
    if (this.#client === null) void this.#connect();
    else this.check();
  }

  /** The browser doubts that there is a network: an open connection has five seconds to show that it is alive. */
  check() {
    if (this.state.state === "online") this.#probe();
  }

  get online() {
    return this.state.state === "online";
  }

  /** Resolves with the acknowledgement of the server; rejects when the connection ends before. */
  publish(topic, payload, { qos = 1, retain = false } = {}) {
    const client = this.#client;
    if (client === null || !this.online) return Promise.reject(new ChatError("offline", "There is no connection."));
    return new Promise((resolve, reject) => {
      const lost = () => reject(new ChatError("offline", "The connection broke off."));
      client.once("gone", lost);
      client.publish(topic, payload, { qos, retain }, (error) => {
        client.off("gone", lost);
        if (!error) resolve();
        else if (error.message === FLUSHED) lost();
        else reject(error);
      });
    });
  }

  /** Resolves when everything that has come is handled. */
  get handled() {
    return this.#handling;
  }

  async #connect() {
    this.#forget();
    this.#drop();
    const attempt = (this.#attempt += 1);
    this.#say("connecting", null, this.state.reason);
    let access;
    try {
      access = await this.#uses.access();
    } catch (error) {
      if (attempt === this.#attempt) this.#later(error instanceof ChatError ? error.message : String(error));
      return;
    }
    if (attempt !== this.#attempt) return;
    try {
      this.#dial(access);
    } catch (error) {
      this.#later(`This browser does not connect to the server: ${error.message}`); // ws:// from a page with HTTPS, say
    }
  }

  #dial({ url, user, device, token }) {
    const client = mqtt.connect(url, {
      protocolVersion: 4, clientId: device, username: user, password: token, clean: true, keepalive: KEEP_ALIVE,
      reconnectPeriod: 0, connectTimeout: PATIENCE, resubscribe: false, timerVariant: this.#timers,
    });
    client.setMaxListeners(0);
    this.#client = client;
    const lost = (reason, state) => {
      if (this.#client === client) this.#later(reason, state);
    };
    const arrived = this.#arrivals(client, lost);
    // mqtt.js acknowledges where this calls back without an error. It would take nothing else until then, and go on by
    // a timer, of which a page in the background has one a second: so it is told to go on, and `#arrivals` acknowledges.
    client.handleMessage = (packet, done) => {
      arrived(packet);
      done(LATER);
    };
    client.on("connect", () => this.#subscribe(client, this.#uses.filters(user), lost));
    client.on("error", (error) => {
      if (error.code === 5 && this.#client === client) void this.#refused(token);
      else lost(REFUSED[error.code] ?? null, error.code in REFUSED ? "refused" : "offline");
    });
    client.on("close", () => lost(null));
  }

  /** Takes what comes in order, together what has come together, and acknowledges what is stored. */
  #arrivals(client, lost) {
    let waiting = [];
    let busy = false;
    const work = async () => {
      busy = true;
      while (waiting.length > 0 && this.#client === client) {
        const packets = waiting.slice(0, TOGETHER);
        waiting = waiting.slice(TOGETHER);
        await this.#uses.handle(packets.map(({ topic, payload }) => ({ topic, payload: decoder.decode(payload) })));
        for (const { qos, messageId } of packets) {
          if (qos === 1 && this.#client === client) client._sendPacket({ cmd: "puback", messageId });
        }
      }
      busy = false;
    };
    return (packet) => {
      waiting.push(packet);
      if (busy) return;
      this.#handling = work().catch((error) => lost(`What came could not be stored: ${error.message}`));
    };
  }

  #subscribe(client, filters, lost) {
    const late = setTimeout(() => lost("The server did not answer."), PATIENCE);
    client.once("gone", () => clearTimeout(late));
    client.subscribe(filters, (error, granted) => {
      clearTimeout(late);
      if (this.#client !== client) return;
      if (error || granted.some(({ qos }) => qos > 2)) return lost("The server did not let this device listen.");
      this.#failures = this.#refusals = 0;
      this.#say("online", null, null);
      this.#uses.online();
    });
  }

  // CONNACK 5: the token may be over; a new one helps once.
  async #refused(token) {
    const attempt = (this.#attempt += 1);
    this.#drop();
    this.#refusals += 1;
    try {
      if (this.#refusals > 1) throw new ChatError("refused", REFUSED[5]);
      await this.#uses.refused(token);
      if (attempt === this.#attempt) void this.#connect();
    } catch (error) {
      if (attempt === this.#attempt) this.#later(error.message, "refused");
    }
  }

  #later(reason, state = "offline") {
    this.#attempt += 1;
    this.#drop();
    if (!this.#running) return;
    this.#failures += 1;
    const wait = delay(this.#failures, Math.random());
    this.#forget();
    this.#retry = this.#timers.set(() => void this.#connect(), wait);
    this.#say(state, Date.now() + wait, reason);
  }

  #probe() {
    const client = this.#client;
    const dead = setTimeout(() => this.#client === client && this.#later(null), PATIENCE / 3);
    const alive = () => {
      clearTimeout(dead);
      client.off("packetreceive", alive);
    };
    client.on("packetreceive", alive);
    client.once("gone", alive);
    client.sendPing();
  }

  #forget() {
    if (this.#retry !== null) this.#timers.clear(this.#retry);
    this.#retry = null;
  }

  #drop() {
    const client = this.#client;
    this.#client = null;
    if (client === null) return;
    client.emit("gone");
    client.end(true);
  }

  #say(state, retryAt, reason) {
    const since = state === this.state.state ? this.state.since : Date.now();
    this.state = { state, since, retryAt, reason };
    this.#uses.changed(this.state);
  }
}
