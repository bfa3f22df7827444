/** The list and the conversation, side by side or one at a time, and the sheets over them. */
import { WIDE, useChat, useMedia } from "./chat_context.js";
import { Conversation } from "./conversation.js";
import { Empty } from "./empty.js";
import { html, useEffect, useLayoutEffect } from "./html.js";
import { List } from "./list.js";
import { back, go, here, openConversation, usePlace } from "./router.js";
import { Sheets } from "./sheets.js";

export function Shell({ state }) {
  const chat = useChat();
  const place = usePlace();
  const wide = useMedia(WIDE);
  const contact = place.user ? state.contacts.find(({ user }) => user === place.user) : null;
  const open = contact ? contact.user : null;

  useEffect(() => {
    // Refused only when the login has ended or another tab has the chat: then another screen is on its way.
    Promise.resolve(chat.openConversation(open)).catch(() => {});
  }, [chat, open]);
  useEffect(() => () => void Promise.resolve(chat.openConversation(null)).catch(() => {}), [chat]);

  useShortcuts(state.contacts);

  return html`<main class="shell" data-pane=${open ? "conversation" : "list"}>
    <h1 class="unseen">Aldis</h1>
    ${(wide || !open) && html`<${List} state=${state} open=${open} wide=${wide} />`}
    ${contact
      ? html`<${Conversation} key=${open} contact=${contact} state=${state} wide=${wide} />`
      : wide && html`<${Empty} state=${state} missing=${place.user} />`}
    <${Sheets} state=${state} place=${place} contact=${contact} />
  </main>`;
}

/** Keys that work everywhere. All with Ctrl, ⌘ or Alt: letters alone belong to what people write. */
function useShortcuts(contacts) {
  // with the drawing, not after it: what is on the screen answers to its keys
  useLayoutEffect(() => {
    const onKey = (event) => {
      const command = event.ctrlKey || event.metaKey;
      if (event.isComposing) return;
      const place = here(); // not the one last drawn: a key may be faster than the next drawing
      if (command && !event.altKey && event.key.toLowerCase() === "k") {
        event.preventDefault();
        if (place.sheet.length) return;
        const field = document.getElementById("search");
        if (field) field.focus();
        else back();
      } else if (command && event.key === "/") {
        event.preventDefault();
        if (!place.sheet.length) go({ user: place.user, sheet: ["help"] });
      } else if (event.altKey && !command && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
        if (place.sheet.length || !contacts.length) return;
        event.preventDefault();
        const index = contacts.findIndex(({ user }) => user === place.user);
        const step = event.key === "ArrowDown" ? 1 : -1;
        const next = contacts[index < 0 ? 0 : index + step];
        if (next) openConversation(next.user);
      } else if (event.key === "Escape" && !event.defaultPrevented && !place.sheet.length && place.user) {
        event.preventDefault();
        back();
      }
    };
    addEventListener("keydown", onKey);
    return () => removeEventListener("keydown", onKey);
  }, [contacts]);
}
