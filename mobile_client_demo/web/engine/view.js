// What a page is shown: frozen snapshots of what the engine knows. Pure.
import { last, status, unread } from "./conversation.js";
import { isImage } from "./wire.js";

export const SERVER = "$server";
const NOTES = "Notes to myself";
const ANNOUNCEMENTS = "Announcements";

/**
 * @typedef {object} Contact
 * @property {string} user @property {string} name @property {"friends"|"blocked"|"deleted"} state
 * @property {boolean} online @property {number|null} lastSeen @property {boolean} typing @property {number} unread
 * @property {{text: string, ts: number, mine: boolean, status: string|null, kind: string}|null} last
 * @property {number} keyVersion @property {boolean} sealed @property {boolean} muted
 *
 * @typedef {object} FileView
 * @property {string} name @property {number} size @property {string} mime @property {boolean} isImage
 * @property {"none"|"uploading"|"downloading"|"ready"|"failed"|"gone"} state
 * @property {number} progress 0 to 1 @property {string|null} url of a Blob
 *
 * @typedef {object} Item
 * @property {string} key @property {number|null} mid @property {string|null} id @property {boolean} mine
 * @property {string|null} device @property {number} ts @property {"text"|"file"|"notice"|"unreadable"} kind
 * @property {string} text @property {string|null} reason
 * @property {null|"waiting"|"sending"|"sent"|"delivered"|"read"|"failed"} status @property {FileView|null} file
 *
 * @typedef {object} OwnDevice
 * @property {string} device @property {string} name @property {number|null} created @property {number|null} lastSeen
 * @property {boolean} loggedIn @property {boolean} current
 *
 * @typedef {object} ConversationView
 * @property {string} user @property {ReadonlyArray<Item>} items oldest first
 * @property {boolean} more @property {boolean} loading @property {string|null} error
 */

/** @returns {ReadonlyArray<Contact>} the newest conversation first */
export function contacts({ me, people, shelf, keyring, outbox }) {
  const list = people.relations.map((one) => contact(one.user, one, { people, shelf, keyring, outbox }));
  list.push(contact(me, { name: NOTES, state: "friends", keyVersion: 0 }, { people, shelf, keyring, outbox }));
  if (shelf.get(SERVER) !== undefined && last(shelf.get(SERVER)) !== null) {
    list.push(contact(SERVER, { name: ANNOUNCEMENTS, state: "friends", keyVersion: 0 }, { people, shelf, keyring, outbox }));
  }
  const newest = (one) => one.last?.ts ?? 0;
  return Object.freeze(list.sort((one, other) => newest(other) - newest(one) || (one.name < other.name ? -1 : 1)));
}

function contact(user, { name, state, keyVersion }, { people, shelf, keyring, outbox }) {
  const now = shelf.get(user);
  const newest = now === undefined ? null : last(now);
  const told = state === "friends" ? people.presence.get(user) : undefined; // of others nothing is told any more
  return Object.freeze({
    user, name, state, online: told?.online ?? false, lastSeen: told?.lastSeen ?? null, typing: people.isTyping(user),
    unread: now === undefined ? 0 : unread(now),
    last: newest && Object.freeze({
      text: newest.text, ts: newest.ts, mine: newest.mine, kind: newest.kind, status: status(now, newest, outbox.sending) }),
    keyVersion: keyring.version(user) || keyVersion, sealed: keyring.sealed(user) || keyring.unsealed(user),
    muted: now?.muted ?? false,
  });
}

/**
 * @param {import("./conversation.js").Conversation} now
 * @param {{sending: ReadonlySet<string>, transferOf: (key: string) => any, urlOf: (key: string) => string|null}} overlay
 *   what is so only at the moment
 * @returns {ReadonlyArray<Item>}
 */
export const items = (now, overlay) => Object.freeze(now.rows.map((row) => item(now, row, overlay)));

function item(now, row, { sending, transferOf, urlOf }) {
  const { key, mid, id, mine, device, ts, kind, text, reason } = row;
  const file = row.file === null ? null : fileView(row, transferOf(key), urlOf(key));
  let stand = status(now, row, sending);
  if (stand === "waiting" && file?.state === "uploading") stand = "sending";
  return Object.freeze({ key, mid, id, mine, device, ts, kind, text, reason, status: stand, file });
}

function fileView({ file, mid, step }, transfer, url) {
  const { name, size, mime } = file;
  let state = file.gone ? "gone" : file.local ? "ready" : "none";
  if (transfer !== undefined) state = transfer.state;
  else if (mid === null && step === "failed") state = "failed";
  return Object.freeze({ name, size, mime, isImage: isImage(mime), state, progress: transfer?.progress ?? (state === "ready" ? 1 : 0), url });
}

/** What a file or a message is called where there is room for a line, as in a notification. */
export const line = (row) => (row.kind === "unreadable" ? "A message that this browser cannot read" : row.text);

/** @returns {OwnDevice} */
export const ownDevice = (told) => ({
  device: told.device_id, name: told.name, created: told.created ?? null, lastSeen: told.last_seen, loggedIn: told.logged_in,
  current: told.current,
});
