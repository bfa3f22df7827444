// One conversation as data, and what every event makes of it. Pure: no clock, no storage, no network. Whatever order
// events come in, and however often, the same things are known in the end.

/**
 * A message as it is kept. One message is one row for ever, whichever way it has come: composed here, by the inbox, as a
 * copy from another own device, from the history.
 * @typedef {object} Row
 * @property {string} key of the row, stable
 * @property {string} peer
 * @property {number|null} mid null until the server has told it
 * @property {string|null} id the sender's
 * @property {string|null} device of mine that sent it, where that is known
 * @property {boolean} mine
 * @property {number} ts milliseconds
 * @property {"text"|"file"|"notice"|"unreadable"} kind
 * @property {string} text
 * @property {string|null} reason why it is unreadable or has failed
 * @property {boolean} inbox it came by the inbox, so it counts until it is read
 * @property {null|"waiting"|"failed"} step of an own message that the server has not stored (yet)
 * @property {number} order of composing, 0 for what was not composed here
 * @property {number} base of one composed here: the newest mid at that time
 * @property {object|null} file
 * @property {object|null} raw what could not be read, to try again
 *
 * @typedef {object} Conversation
 * @property {string} peer
 * @property {ReadonlyArray<Row>} rows those in memory, oldest first
 * @property {number} delivered up to which mid a device of the peer has acknowledged what I wrote
 * @property {number} read up to which mid the peer has seen it
 * @property {number|null} upTo up to which mid I have seen what the peer wrote; null: nobody has ever said
 * @property {number} told the value of `upTo` that the server has
 * @property {number|null} floor the history is fetched down to this mid; null: not at all yet
 * @property {boolean} complete there is nothing before the oldest row on the server
 * @property {boolean} deeper there are older rows in the database than in memory
 * @property {boolean} loaded the newest rows are in memory
 * @property {boolean} muted
 * @property {{unread: number, last: ReturnType<typeof last>}} summary as it was stored, for when nothing is in memory
 */

/** @returns {Conversation} */
export const empty = (peer) => ({
  peer, rows: [], delivered: 0, read: 0, upTo: null, told: 0, floor: null, complete: false, deeper: false,
  loaded: false, muted: false, summary: { unread: 0, last: null },
});

const RANDOM_ID = /^[0-9a-f]{32}$/;

/**
 * The key of a row. An own message is known by its id, if that is one of this client's, which are random: so what is still
 * to be sent, its copy and the history meet. Everything else is known by its mid.
 */
export const keyOf = (mine, id, mid) => (mine && typeof id === "string" && RANDOM_ID.test(id) ? `o:${id}` : `m:${mid}`);

/** @param {Partial<Row>} fields @returns {Row} */
export const row = (fields) => ({
  mid: null, id: null, device: null, mine: false, ts: 0, kind: "text", text: "", reason: null, inbox: false,
  step: null, order: 0, base: 0, file: null, raw: null, ...fields,
});

const UNREAD_KINDS = new Set(["text", "file", "unreadable"]);

/** @param {Row} one @param {Row} other */
export function compare(one, other) {
  const waiting = (it) => (it.mid === null && it.step === "waiting" ? 1 : 0);
  const place = (it) => it.mid ?? (it.step === "failed" ? it.base : 0);
  return waiting(one) - waiting(other) || place(one) - place(other) || one.order * (one.mid === null) -
    other.order * (other.mid === null) || (one.key < other.key ? -1 : one.key > other.key ? 1 : 0);
}

/**
 * What is known of one message from two tellings. The key of the row that was there stays.
 * @param {Row} old @param {Row} told @returns {Row}
 */
export function merge(old, told) {
  const mid = old.mid ?? told.mid;
  const stored = old.mid !== null ? old : told;
  const content = old.kind === "unreadable" && told.kind !== "unreadable" ? told : old;
  const { kind, text, raw } = content;
  const reason = mid !== null && kind !== "unreadable" ? null : content.reason;
  const file = content.file === null ? null : { ...told.file, ...content.file };
  return {
    ...old, mid, ts: mid === null ? old.ts : stored.ts, kind, text, raw, reason, file,
    id: old.id ?? told.id, device: old.device ?? told.device, inbox: old.inbox || told.inbox,
    step: mid === null ? old.step : null,
  };
}

const sorted = (rows) => [...rows].sort(compare);

/** @param {Conversation} now @param {ReadonlyArray<Row>} told @returns {Conversation} */
export function put(now, told) {
  if (told.length === 0) return now;
  const rows = [...now.rows];
  for (const next of told) {
    const found = rows.findIndex((known) => known.key === next.key);
    if (found < 0) rows.push(next);
    else rows[found] = merge(rows[found], next);
  }
  return { ...now, rows: sorted(rows) };
}

/** Rows as they are, whatever was known of them before. @param {Conversation} now @param {ReadonlyArray<Row>} told */
export function replace(now, told) {
  const keys = new Set(told.map((one) => one.key));
  return { ...now, rows: sorted([...now.rows.filter((known) => !keys.has(known.key)), ...told]) };
}

/** @param {Conversation} now @param {string} key */
export const drop = (now, key) => ({ ...now, rows: now.rows.filter((known) => known.key !== key) });

/**
 * `sent`: the server has it. Should it be told again with another mid, the later is right.
 * @param {Row} known @param {{mid: number, ts: number}} told @returns {Row}
 */
export const sent = (known, { mid, ts }) => ({ ...known, mid, ts, step: null, reason: null });

/** `failed`: the server will not store it; without effect on what is stored. @param {Row} known @param {string} reason */
export const failed = (known, reason) => (known.mid !== null ? known : { ...known, step: "failed", reason });

/** A receipt of the peer: cumulative, never falling. @param {Conversation} now @param {{type: string, up_to: number}} told */
export function receipt(now, { type, up_to: upTo }) {
  if (!Number.isSafeInteger(upTo) || (type !== "delivered" && type !== "read") || upTo <= now[type]) return now;
  return { ...now, [type]: upTo };
}

/** I have seen everything up to `mid`, here or on another device. @param {Conversation} now @param {number} mid */
export const seen = (now, mid) =>
  !Number.isSafeInteger(mid) || mid <= (now.upTo ?? -1) ? now : { ...now, upTo: mid };

/** @param {Conversation} now @param {Row} one */
export const isUnread = (now, one) =>
  !one.mine && one.mid !== null && UNREAD_KINDS.has(one.kind) && one.mid > (now.upTo ?? -1) &&
  (one.inbox || now.upTo !== null);

/** @param {Conversation} now */
export const unread = (now) =>
  now.loaded ? now.rows.reduce((count, one) => count + (isUnread(now, one) ? 1 : 0), 0) : now.summary.unread;

/** The newest mid that the peer wrote, of what is in memory; 0 for none. @param {Conversation} now */
export const newestOfPeer = (now) =>
  now.rows.reduce((newest, one) => (one.mine || one.kind === "notice" ? newest : Math.max(newest, one.mid ?? 0)), 0);

/** @param {Conversation} now */
export const newestMid = (now) => now.rows.reduce((newest, one) => Math.max(newest, one.mid ?? 0), 0);

/** @param {Conversation} now */
export const oldestMid = (now) => now.rows.find((one) => one.mid !== null)?.mid ?? null;

/**
 * The tick of a message; null for somebody else's. `sending` are the keys that are on their way at the moment.
 * @param {{delivered: number, read: number}} now @param {Pick<Row, "mine"|"mid"|"step"|"key"|"kind">} one
 * @param {ReadonlySet<string>} [sending]
 * @returns {null|"waiting"|"sending"|"sent"|"delivered"|"read"|"failed"}
 */
export function status(now, one, sending) {
  if (!one.mine || one.kind === "notice") return null;
  if (one.mid === null) return one.step === "failed" ? "failed" : sending?.has(one.key) ? "sending" : "waiting";
  if (one.mid <= now.read) return "read";
  return one.mid <= now.delivered ? "delivered" : "sent";
}

/** What stands in the list of conversations: the newest message, or else the newest notice. @param {Conversation} now */
export function last(now) {
  if (!now.loaded) return now.summary.last;
  const newest = now.rows.findLast((one) => one.kind !== "notice") ?? now.rows.at(-1);
  if (newest === undefined) return null;
  const { key, mid, text, ts, mine, kind, step } = newest;
  return { key, mid, text, ts, mine, kind, step };
}

/**
 * The same with at most `limit` stored rows in memory, the newest; what waits or has failed stays.
 * @param {Conversation} now @param {number} limit
 */
export function trimmed(now, limit) {
  const stored = now.rows.filter((one) => one.mid !== null);
  if (stored.length <= limit) return now;
  const least = stored[stored.length - limit].mid;
  return { ...now, deeper: true, rows: now.rows.filter((one) => one.mid === null || one.mid >= least) };
}

/** What is stored of it beside its rows. @param {Conversation} now */
export function record(now) {
  const { peer, delivered, read, upTo, told, floor, complete, muted } = now;
  return { peer, delivered, read, upTo, told, floor, complete, muted, summary: { unread: unread(now), last: last(now) } };
}
