/** The little this face of the chat remembers by itself: the theme, what was seen once, and unsent words. Messages are the engine's. */
import { useEffect, useState } from "./html.js";

const DRAFTS = "aldis.drafts";

function read(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

function write(name, value) {
  try {
    if (value === null) localStorage.removeItem(name);
    else localStorage.setItem(name, value);
  } catch {
    // A browser that keeps nothing: it is forgotten with the page.
  }
}

/** @returns {["auto" | "light" | "dark", (theme: string) => void]} */
export function useTheme() {
  const [theme, setTheme] = useState(read("aldis.theme") || "auto");
  return [
    theme,
    (next) => {
      write("aldis.theme", next === "auto" ? null : next);
      setTheme(next);
      dispatchEvent(new Event("aldis-theme"));
    },
  ];
}

/** A notice that is shown until it was dismissed. @returns {[boolean, () => void]} */
export function useDismissed(name) {
  const [dismissed, setDismissed] = useState(() => read(`aldis.dismissed.${name}`) === "1");
  return [
    dismissed,
    () => {
      write(`aldis.dismissed.${name}`, "1");
      setDismissed(true);
    },
  ];
}

let drafts = null;
let owner = null;
let timer = 0;
const listeners = new Set();

function load(user) {
  if (drafts && owner === user) return;
  let kept = {};
  try {
    kept = JSON.parse(read(DRAFTS)) || {};
  } catch {
    kept = {};
  }
  owner = user;
  drafts = new Map(kept.owner === user ? kept.drafts : []);
}

function keep() {
  clearTimeout(timer);
  timer = 0;
  if (drafts) write(DRAFTS, drafts.size ? JSON.stringify({ owner, drafts: [...drafts] }) : null);
}
addEventListener("pagehide", () => timer && keep());

/** What was begun to one person. */
export function draftOf(me, user) {
  load(me);
  return drafts.get(user) || "";
}

/** Kept a moment later, and in the list at once when `tell`. */
export function setDraft(me, user, text, { tell = false } = {}) {
  load(me);
  if (text.trim()) drafts.set(user, text.slice(0, 20_000));
  else drafts.delete(user);
  if (!timer) timer = setTimeout(keep, 400);
  if (tell) listeners.forEach((listener) => listener());
}

/** Another tab has the chat: what it writes counts from now on. */
export function leaveDrafts() {
  if (timer) keep();
  drafts = owner = null;
}

/** After the end of a login nobody finds them here. */
export function forgetDrafts() {
  clearTimeout(timer);
  timer = 0;
  drafts = owner = null;
  write(DRAFTS, null);
}

/** A copy of all drafts, drawn again when somebody leaves a conversation. */
export function useDrafts(me) {
  const [all, setAll] = useState(() => (load(me), new Map(drafts)));
  useEffect(() => {
    const listener = () => (load(me), setAll(new Map(drafts)));
    listeners.add(listener);
    return () => listeners.delete(listener);
  }, [me]);
  return all;
}
