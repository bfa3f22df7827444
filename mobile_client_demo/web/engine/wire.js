// docs/protocol.md as functions: topics and payloads to facts, and back. Pure.

const SERVER = "$server";
const MARKER = "chat/read";

export const topics = {
  inbox: (me) => `inbox/${me}/#`,
  markers: (me) => `devices/${me}/${MARKER}/+`,
  marker: (me, peer) => `devices/${me}/${MARKER}/${peer}`,
  chat: (me, peer) => `inbox/${peer}/chat/${me}`,
  receipt: (me, peer) => `inbox/${peer}/receipt/${me}`,
  typing: (me, peer) => `inbox/${peer}/typing/${me}`,
};

/** The server takes no larger message. */
export const MOST_BYTES = 65_536;

/**
 * What a publish to us says. `chat` is somebody's message or a note of mine, `sync` one of another device of mine; both,
 * and `system`, have `n`, `mid`, `ts`. null: nothing that this client knows.
 * @param {string} me @param {string} topic @param {string} payload
 * @returns {null | {type: "chat"|"sync", n: number, mid: number, ts: number, peer: string, device: string|null,
 *     mine: boolean, message: object} | {type: "system", n: number, mid: number, ts: number, message: object}
 *   | {type: "receipt", peer: string, receipt: any} | {type: "typing", peer: string}
 *   | {type: "presence", peer: string, online: boolean, lastSeen: number|null} | {type: "marker", peer: string, upTo: number}}
 */
export function received(me, topic, payload) {
  const [room, owner, what, from, ...rest] = topic.split("/");
  if (owner !== me || from === undefined) return null;
  if (room === "inbox" && what === "typing") return { type: "typing", peer: from };
  const told = object(payload);
  if (told === null) return null;
  if (room === "devices") {
    const [peer] = rest;
    const isMarker = `${what}/${from}` === MARKER && rest.length === 1 && Number.isSafeInteger(told.up_to);
    return isMarker ? { type: "marker", peer, upTo: told.up_to } : null;
  }
  if (room !== "inbox" || rest.length > 0) return null;
  if (what === "receipt") return { type: "receipt", peer: from, receipt: told };
  if (what === "presence") {
    const lastSeen = Number.isSafeInteger(told.last_seen) ? told.last_seen : null;
    return { type: "presence", peer: from, online: told.online === true, lastSeen };
  }
  const { n, mid, ts, ...message } = told;
  if (![n, mid, ts].every(Number.isSafeInteger)) return null;
  if (what === "chat") return { type: "chat", n, mid, ts, peer: from, device: null, mine: from === me, message };
  if (what === "system" && from === SERVER) return { type: "system", n, mid, ts, message };
  if (what !== "sync") return null;
  const { to, device, message: said } = message;
  return { type: "sync", n, mid, ts, peer: String(to), device: device ?? null, mine: true, message: said ?? {} };
}

function object(payload) {
  try {
    const told = JSON.parse(payload);
    return told !== null && typeof told === "object" && !Array.isArray(told) ? told : null;
  } catch {
    return null;
  }
}

/**
 * A decrypted body as content of a row.
 * @param {any} type of the message @param {any} body
 * @returns {{kind: "text"|"file"|"unreadable", text: string, file: object|null, reason: string|null}}
 */
export function content(type, body) {
  if (type === "file") {
    const file = typeof body === "string" ? fileOf(object(body)) : null;
    if (file !== null) return { kind: "file", text: file.name, file, reason: null };
    return { kind: "unreadable", text: "", file: null, reason: "A file was sent in a way that this app does not know." };
  }
  if (typeof body === "string" && (type === undefined || type === null || type === "text" || body !== "")) {
    return { kind: "text", text: body, file: null, reason: null };
  }
  if (body !== undefined && body !== null && typeof body !== "string") {
    return { kind: "text", text: JSON.stringify(body), file: null, reason: null };
  }
  return { kind: "unreadable", text: "", file: null, reason: "This was sent in a way that this app does not know." };
}

/** What a message of type `file` says, checked; null where it is no file. @param {any} told */
export function fileOf(told) {
  if (told === null || typeof told.file_id !== "string" || !Number.isSafeInteger(told.stored) || told.stored < 0) return null;
  if (typeof told.sha256 !== "string" || !/^[0-9a-f]{64}$/.test(told.sha256)) return null;
  const encrypted = told.format !== undefined || told.key !== undefined;
  if (encrypted && (told.format !== "A256GCM-64K" || typeof told.key !== "string")) return null;
  const name = String(told.name ?? "file").replace(/[\u0000-\u001f\u007f]/g, "").split(/[/\\]/).pop().slice(0, 255) || "file";
  const mime = typeof told.mime === "string" && /^[\w.+-]+\/[\w.+-]+$/.test(told.mime) ? told.mime : "application/octet-stream";
  const size = Number.isSafeInteger(told.size) && told.size >= 0 ? told.size : told.stored;
  const { file_id: fileId, stored, sha256 } = told;
  return { fileId, name, mime, size, stored, sha256, key: encrypted ? told.key : null };
}

/** The body of a message that tells where a file is. @param {any} file a row's, uploaded */
export function fileBody(file) {
  const { fileId, name, mime, size, stored, sha256, key } = file;
  const told = { file_id: fileId, name, mime, size, stored, sha256 };
  return JSON.stringify(key === null ? told : { ...told, format: "A256GCM-64K", key });
}

/**
 * A message in the history, as an item of the inbox would tell it.
 * @param {string} me @param {string} peer @param {any} told one of `messages` of GET /v1/messages
 */
export function remembered(me, peer, told) {
  const { mid, ts, from, message } = told;
  return { type: "chat", n: 0, mid, ts, peer, device: null, mine: from === me, message: message ?? {} };
}

/**
 * A notice as a row in words, with whose conversation it belongs to; null for what is not shown in one.
 * @param {any} message of a `system` item @param {(user: string) => string} nameOf
 * @returns {null | {peer: string, kind: "notice"|"text", text: string}}
 */
export function notice(message, nameOf) {
  const user = typeof message.user_id === "string" ? message.user_id : null;
  if (message.type === "broadcast") return { peer: SERVER, kind: "text", text: String(message.text ?? "") };
  if (user === null) return null;
  const name = nameOf(user);
  const words = {
    friend_accepted: () => `You and ${name} are friends now.`,
    friend_removed: () => `${name} has ended the friendship.`,
    account_deleted: () => `${name} has deleted the account.`,
    key_rotated: () => `The key of this conversation was renewed (version ${message.version}).`,
    seal_changed: () => "Who may make the keys of this conversation has changed.",
  }[message.type];
  return words === undefined ? null : { peer: user, kind: "notice", text: words() };
}

/** The image types that are shown; nothing that could run. */
export const isImage = (mime) => /^image\/(jpeg|png|gif|webp|avif|bmp)$/.test(mime);

/** The type under which a received file gets an address of this page: only what a browser merely shows or plays. */
export const harmless = (mime) => (isImage(mime) || /^(audio|video)\/[\w.+-]+$/.test(mime) ? mime : "application/octet-stream");
