/**
 * Where one is, kept in the address after `#`, so that the phone's back button and a notification's click work:
 *
 *     #/                     the list                #/c/bob                a conversation
 *     #/add                  a sheet over the list   #/c/bob/info           a sheet over a conversation
 *     #/settings/devices     a page of a sheet       #/c/bob/image/<key>    a picture
 *
 * @typedef {{ user: string | null, sheet: string[] }} Place
 */
import { useEffect, useState } from "./html.js";

/** @returns {Place} */
export function parse(hash) {
  let parts;
  try {
    parts = hash.replace(/^#?\/?/, "").split("/").filter(Boolean).map(decodeURIComponent);
  } catch {
    parts = [];
  }
  return parts[0] === "c" && parts[1] ? { user: parts[1], sheet: parts.slice(2) } : { user: null, sheet: parts };
}

/** @param {Place} place */
export function format({ user, sheet = [] }) {
  return "#/" + [...(user ? ["c", user] : []), ...sheet].map(encodeURIComponent).join("/");
}

const depth = () => (history.state && history.state.depth) || 0;
const told = new Set();
const tell = () => told.forEach((listener) => listener());

/** @param {Place} place */
export function go(place, { replace = false } = {}) {
  const hash = format(place);
  if (hash === format(here())) return;
  const how = replace ? "replaceState" : "pushState";
  history[how]({ depth: depth() + (replace ? 0 : 1) }, "", hash);
  tell();
}

/** @returns {Place} */
export const here = () => parse(location.hash);

/** To another conversation: from the list one step further, beside one another no step, so that back leads to the list. */
export function openConversation(user) {
  const now = here();
  go({ user, sheet: [] }, { replace: Boolean(now.user) && now.sheet.length === 0 });
}

/** What the back button does; also where one came in from outside and there is nothing to go back to. */
export function back() {
  if (depth() > 0) return history.back();
  const { user, sheet } = here();
  go(sheet.length ? { user, sheet: sheet.slice(0, -1) } : { user: null, sheet: [] }, { replace: true });
}

/** Closes whatever lies over the panes, in one step. */
export function closeSheet() {
  const { user, sheet } = here();
  if (!sheet.length) return;
  if (sheet.length === 1) return back();
  if (depth() >= sheet.length) return history.go(-sheet.length);
  go({ user, sheet: [] }, { replace: true });
}

/** One who arrives in the middle gets the places above it as a way back. */
export function arrive() {
  if (history.state && history.state.depth !== undefined) return;
  const place = here();
  history.replaceState({ depth: 0 }, "", "#/");
  if (place.user) go({ user: place.user, sheet: [] });
  for (let count = 1; count <= place.sheet.length; count += 1) go({ user: place.user, sheet: place.sheet.slice(0, count) });
}

/** @returns {Place} */
export function usePlace() {
  const [hash, setHash] = useState(location.hash);
  useEffect(() => {
    const read = () => setHash(location.hash);
    told.add(read);
    addEventListener("popstate", read);
    addEventListener("hashchange", read);
    read();
    return () => {
      told.delete(read);
      removeEventListener("popstate", read);
      removeEventListener("hashchange", read);
    };
  }, []);
  return parse(hash);
}
