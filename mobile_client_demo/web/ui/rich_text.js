/** Text of others: nothing in it becomes markup. Only addresses of the web become links, and they say where they lead. */
import { html, memo } from "./html.js";

const ADDRESS = /\bhttps?:\/\/[^\s<>"“”«»‹›]+/giu;
const TRAILING = /[.,;:!?'’)\]}…]+$/u;
const EMOJI =
  /^(?:(?:\p{RI}{2}|[0-9#*]\uFE0F?\u20E3|\p{Extended_Pictographic}(?:\p{EMod}|\uFE0F)?(?:\u200D\p{Extended_Pictographic}(?:\p{EMod}|\uFE0F)?)*)\s?){1,6}$/u;

export const isOnlyEmoji = (text) => text.length < 80 && EMOJI.test(text.trim());

/** The address without the mark of the sentence around it; a closing bracket stays where one was opened. */
function trimmed(found) {
  let address = found;
  for (;;) {
    const tail = TRAILING.exec(address);
    if (!tail) return address;
    const shorter = address.slice(0, -1);
    if (address.endsWith(")") && (shorter.match(/\(/g) || []).length > (shorter.match(/\)/g) || []).length) return address;
    address = shorter;
  }
}

/** Only http and https, and without a user name, which can make an address read like another. */
function safe(address) {
  try {
    const url = new URL(address);
    return (url.protocol === "http:" || url.protocol === "https:") && !url.username && !url.password && url.hostname ? url.href : null;
  } catch {
    return null;
  }
}

/** @returns {(string | { href: string, text: string })[]} */
export function split(text) {
  const parts = [];
  let done = 0;
  for (const match of text.matchAll(ADDRESS)) {
    const address = trimmed(match[0]);
    const href = safe(address);
    if (!href) continue;
    if (match.index > done) parts.push(text.slice(done, match.index));
    parts.push({ href, text: address });
    done = match.index + address.length;
  }
  if (done < text.length) parts.push(text.slice(done));
  return parts;
}

export const RichText = memo(({ text }) =>
  split(text).map((part, index) =>
    typeof part === "string" ? part : html`<a key=${index} href=${part.href} target="_blank" rel="noopener noreferrer nofollow"
      dir="ltr">${part.text}</a>`,
  ),
);
