/**
 * From items to what stands below each other: days, the line before what is new, groups of bubbles.
 *
 * @typedef {{ kind: "day", key: string, ts: number }
 *   | { kind: "new", key: string, count: number }
 *   | { kind: "item", key: string, item: object, first: boolean, last: boolean }} Row
 */
import { dayOf } from "./format.js";

const GROUP_GAP = 5 * 60_000;

const together = (a, b) =>
  Boolean(a && b) && a.mine === b.mine && a.kind !== "notice" && b.kind !== "notice" && b.ts - a.ts < GROUP_GAP && dayOf(a.ts) === dayOf(b.ts);

/**
 * @param {readonly object[]} items the oldest first
 * @param {string | null} newKey the first item that was unread when the conversation was opened
 * @returns {Row[]}
 */
export function rowsOf(items, newKey) {
  const rows = [];
  let day = null;
  for (let index = 0; index < items.length; index += 1) {
    const item = items[index];
    const before = items[index - 1];
    const itsDay = dayOf(item.ts);
    if (itsDay !== day) rows.push({ kind: "day", key: `day ${itsDay} ${item.ts < (before ? before.ts : 0) ? item.key : ""}`, ts: item.ts });
    day = itsDay;
    const isNew = item.key === newKey;
    if (isNew) rows.push({ kind: "new", key: "new" });
    const next = items[index + 1];
    rows.push({
      kind: "item",
      key: item.key,
      item,
      first: isNew || !together(before, item),
      last: !together(item, next) || (next && next.key === newKey),
    });
  }
  return rows;
}

/** The key of the first of the `unread` newest items of the others; the oldest that is here where they are not all. */
export function firstUnread(items, unread) {
  let left = unread;
  let found = null;
  for (let index = items.length - 1; index >= 0 && left > 0; index -= 1) {
    const item = items[index];
    if (item.mine || item.kind === "notice") continue;
    left -= 1;
    found = item.key;
  }
  return found;
}

/** How many of the others' items stand behind the one with this key. */
export function countAfter(items, key) {
  let number = 0;
  for (let index = items.length - 1; index >= 0 && items[index].key !== key; index -= 1) {
    if (!items[index].mine && items[index].kind !== "notice") number += 1;
  }
  return number;
}
