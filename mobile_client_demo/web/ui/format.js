/** Times, sizes and names as people read them. Everything here is pure. */

const DAY = 86_400_000;
/** The words of this page are English, so the days are; their order is that of the reader where English has several. */
const ENGLISH = (navigator.language || "").startsWith("en") ? navigator.language : "en-GB";
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const weekday = new Intl.DateTimeFormat(ENGLISH, { weekday: "long" });
const date = new Intl.DateTimeFormat(ENGLISH, { day: "numeric", month: "long" });
const dateWithYear = new Intl.DateTimeFormat(ENGLISH, { day: "numeric", month: "long", year: "numeric" });
const short = new Intl.DateTimeFormat(ENGLISH, { day: "numeric", month: "short" });
const shortWithYear = new Intl.DateTimeFormat(ENGLISH, { day: "numeric", month: "short", year: "2-digit" });
const exact = new Intl.DateTimeFormat(ENGLISH, { dateStyle: "full", timeStyle: "short" });

/** Days since the epoch where the reader is. */
export function dayOf(ms) {
  return Math.floor((ms - new Date(ms).getTimezoneOffset() * 60_000) / DAY);
}

export const time = (ms) => clock.format(ms);
export const fullTime = (ms) => exact.format(ms);

/** The label between the messages of two days. */
export function dayLabel(ms, now) {
  const ago = dayOf(now) - dayOf(ms);
  if (ago === 0) return "Today";
  if (ago === 1) return "Yesterday";
  if (ago > 1 && ago < 7) return weekday.format(ms);
  return new Date(ms).getFullYear() === new Date(now).getFullYear() ? date.format(ms) : dateWithYear.format(ms);
}

/** Beside a conversation in the list: the time today, else the day. */
export function listTime(ms, now) {
  const ago = dayOf(now) - dayOf(ms);
  if (ago <= 0) return time(ms);
  if (ago === 1) return "Yesterday";
  if (ago < 7) return weekday.format(ms);
  return new Date(ms).getFullYear() === new Date(now).getFullYear() ? short.format(ms) : shortWithYear.format(ms);
}

/** "5 min ago", "yesterday at 18:02", "on 3 May". */
export function ago(ms, now) {
  const minutes = Math.floor((now - ms) / 60_000);
  if (minutes < 1) return "just now";
  if (minutes < 60) return `${minutes} min ago`;
  const days = dayOf(now) - dayOf(ms);
  if (days <= 0) return `today at ${time(ms)}`;
  if (days === 1) return `yesterday at ${time(ms)}`;
  if (days < 7) return `on ${weekday.format(ms)}`;
  return `on ${new Date(ms).getFullYear() === new Date(now).getFullYear() ? date.format(ms) : dateWithYear.format(ms)}`;
}

/** Under a contact's name; null where nothing is known. */
export function presence(contact, now) {
  if (contact.state === "blocked") return "Blocked";
  if (contact.state === "deleted") return "Account deleted";
  if (contact.typing) return "typing …";
  if (contact.online) return "Online";
  return contact.lastSeen ? `Last seen ${ago(contact.lastSeen, now)}` : null;
}

/** Bytes for people. */
export function size(bytes) {
  if (bytes < 1000) return `${bytes} bytes`;
  const units = ["kB", "MB", "GB"];
  let value = bytes / 1000;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${value < 9.95 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

/** One or two letters for somebody's picture. */
export function initials(name) {
  const words = name.split(/[\s._-]+/).filter(Boolean);
  const first = (word) => Array.from(word)[0] || "";
  const one = first(words[0] || name);
  // Letters that join, and scripts without capitals: one says enough.
  if (one.toLowerCase() === one.toUpperCase()) return one;
  const letters = words.length > 1 ? one + first(words[words.length - 1]) : one;
  return letters.toLocaleUpperCase();
}

/** One of eight colours, the same for a user everywhere. */
export function hue(user) {
  let sum = 7;
  for (const letter of user) sum = (sum * 31 + letter.codePointAt(0)) >>> 0;
  return sum % 8;
}

/**
 * A name that somebody else gave, without the marks that turn the direction of writing: `photo‮gpj.exe` must not read as a picture.
 */
export const plainName = (name) => name.replace(/[\u0000-\u001f\u007f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, "");

export const count = (number, one, many) => `${number} ${number === 1 ? one : many}`;

/** On a badge. */
export const badge = (number) => (number > 99 ? "99+" : String(number));
