/** Somebody's picture: the letters of the name on one of eight colours, and whether they are there. */
import { hue, initials, plainName } from "./format.js";
import { cx, html, memo } from "./html.js";
import { Icon } from "./icons.js";

export const Avatar = memo(({ user, name, online, kind, large }) => {
  const label = plainName(name || user);
  const mark = kind === "self" ? html`<${Icon} name="note" />` : kind === "server" ? html`<${Icon} name="horn" />` : initials(label);
  const colour = kind === "self" || kind === "server" ? "house" : `hue-${hue(user)}`;
  return html`<span class=${cx("avatar", colour, large && "large")} aria-hidden="true">
    ${mark}${online && html`<span class="presence-dot"></span>`}
  </span>`;
});

/** "self" for notes to oneself, "server" for announcements, else "person". */
export const kindOf = (user, me) => (user === "$server" ? "server" : me && user === me.user ? "self" : "person");

/** Nobody to write to yet: only oneself, and what the server says. */
export const isAlone = ({ contacts, me }) => contacts.every(({ user }) => kindOf(user, me) !== "person");

/** How a conversation is called. */
export function titleOf(contact, me) {
  const kind = kindOf(contact.user, me);
  if (kind === "self") return "Notes to myself";
  if (kind === "server") return "Announcements";
  return plainName(contact.name || "").trim() || contact.user;
}
