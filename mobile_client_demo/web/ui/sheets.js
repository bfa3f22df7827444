/** Which sheet lies over the panes. */
import { AddFriend } from "./add_friend.js";
import { ContactSheet } from "./contact_sheet.js";
import { Help } from "./help.js";
import { html } from "./html.js";
import { Lightbox } from "./lightbox.js";
import { Settings } from "./settings.js";

export function Sheets({ state, place, contact }) {
  const [name, page] = place.sheet;
  if (name === "add") return html`<${AddFriend} state=${state} />`;
  if (name === "settings") return html`<${Settings} state=${state} page=${page} />`;
  if (name === "help") return html`<${Help} />`;
  if (name === "info" && contact) return html`<${ContactSheet} contact=${contact} state=${state} />`;
  if (name === "image" && contact && page) return html`<${Lightbox} user=${contact.user} itemKey=${page} />`;
  return null;
}
