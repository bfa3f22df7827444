/** One conversation in the list. */
import { Avatar, kindOf, titleOf } from "./avatar.js";
import { badge, count, dayOf, listTime } from "./format.js";
import { cx, html, memo, sameData } from "./html.js";
import { Icon } from "./icons.js";
import { format, openConversation } from "./router.js";
import { Ticks } from "./ticks.js";

function preview(last) {
  if (last.kind === "file") return last.text || "File";
  if (last.kind === "unreadable") return "Cannot be read here";
  return last.text.length > 160 ? `${last.text.slice(0, 160)}…` : last.text;
}

function Line({ contact, kind, draft }) {
  const { last } = contact;
  if (contact.typing) return html`<span class="typing-word">typing …</span>`;
  if (draft) return html`<span class="draft">Draft:</span> <bdi>${draft.slice(0, 160)}</bdi>`;
  if (contact.state === "blocked") return html`<span class="muted">Blocked</span>`;
  if (contact.state === "deleted") return html`<span class="muted">Account deleted</span>`;
  if (!last) return html`<span class="muted">${kind === "self" ? "Whatever you want on all your devices" : "Say hello"}</span>`;
  return html`${last.mine && last.status && html`<${Ticks} status=${last.status} />`}${last.kind === "file" && html`<${Icon} name="attach" class="inline" />`}<bdi>${preview(last)}</bdi>`;
}

/** Read aloud as one sentence; what is only seen (picture, ticks) is said in words. */
export const ContactRow = memo(
  ({ contact, me, open, draft, tabbable, now, onFocus }) => {
    const title = titleOf(contact, me);
    const kind = kindOf(contact.user, me);
    const onClick = (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      openConversation(contact.user);
    };
    return html`<li>
      <a class=${cx("contact", open && "open", contact.unread > 0 && "unread")} href=${format({ user: contact.user })}
        tabindex=${tabbable ? 0 : -1}
        aria-current=${open ? "page" : null} onClick=${onClick} onFocus=${() => onFocus(contact.user)}>
        <${Avatar} user=${contact.user} name=${contact.name} kind=${kind} online=${contact.online && kind === "person"} />
        <span class="contact-top"><span
          class="contact-name"><bdi>${title}</bdi>${contact.online && kind === "person" && html`<span class="unseen">, online</span>`}</span>
        <span class="contact-time">${contact.last ? listTime(contact.last.ts, now) : ""}</span></span>
        <span class="contact-bottom"><span class="contact-line"><${Line} contact=${contact} kind=${kind} draft=${draft} /></span>
        <span class="contact-marks">
          ${contact.muted && html`<span role="img" aria-label="muted"><${Icon} name="mute" class="inline" /></span>`}
          ${contact.unread > 0 &&
          html`<span class=${cx("badge", contact.muted && "quiet")}><span aria-hidden="true">${badge(contact.unread)}</span>
            <span class="unseen">${count(contact.unread, "unread message", "unread messages")}</span></span>`}
        </span></span>
      </a>
    </li>`;
  },
  (a, b) =>
    a.open === b.open &&
    a.draft === b.draft &&
    a.tabbable === b.tabbable &&
    a.me === b.me &&
    sameData(a.contact, b.contact) &&
    dayOf(a.now) === dayOf(b.now),
);
