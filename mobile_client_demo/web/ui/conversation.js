/** One conversation: who it is with, what was said, and the place to write. */
import { Avatar, kindOf, titleOf } from "./avatar.js";
import { Banners } from "./banners.js";
import { useAction, useChat, useConversation, useNow } from "./chat_context.js";
import { Composer } from "./composer.js";
import { Dropping, useFileDrop } from "./drop.js";
import { presence } from "./format.js";
import { cx, html, useRef, useState } from "./html.js";
import { Icon } from "./icons.js";
import { Messages } from "./messages.js";
import { Preview } from "./preview.js";
import { back, go } from "./router.js";

export function Conversation({ contact, state, wide }) {
  const chat = useChat();
  const conversation = useConversation(contact.user);
  const [files, setFiles] = useState([]);
  const unreadAtOpening = useRef(contact.unread);
  const messages = useRef(null);
  const dropping = useFileDrop((dropped) => canWrite && setFiles(dropped));
  const kind = kindOf(contact.user, state.me);
  const title = titleOf(contact, state.me);
  const canWrite = kind !== "server" && contact.state === "friends" && !contact.sealed;

  return html`<section class="pane conversation" aria-label=${`Conversation: ${title}`} ...${dropping.handlers}>
    <${Head} contact=${contact} kind=${kind} title=${title} wide=${wide} />
    ${!wide && html`<${Banners} state=${state} />`}
    <${Messages} ref=${messages} key=${contact.user} conversation=${conversation} title=${title} kind=${kind}
      unread=${unreadAtOpening.current}
      typing=${contact.typing} online=${state.link.state === "online"} />
    ${canWrite
      ? html`<${Composer} key=${contact.user} me=${state.me.user} user=${contact.user} title=${title} wide=${wide} onFiles=${setFiles}
          onSent=${() => messages.current.toEnd()} />`
      : html`<${CannotWrite} contact=${contact} kind=${kind} title=${title} />`}
    ${dropping.over && canWrite && html`<${Dropping} title=${title} />`}
    ${files.length > 0 &&
    html`<${Preview} files=${files} title=${title} onChange=${setFiles} onSend=${async (chosen) => {
        for (const file of chosen) await chat.sendFile(contact.user, file);
        messages.current.toEnd();
      }} />`}
  </section>`;
}

function Head({ contact, kind, title, wide }) {
  const now = useNow(30);
  const line = kind === "person" ? presence(contact, now) : kind === "self" ? "On all your devices" : "From this server";
  const info = () => go({ user: contact.user, sheet: ["info"] });
  return html`<header class="pane-head">
    ${!wide && html`<button class="icon-button" aria-label="Back to the list" onClick=${back}><${Icon} name="back" class="flip" /></button>`}
    <h2 class="who-head"><button class="who" onClick=${info} disabled=${kind === "server"}>
      <${Avatar} user=${contact.user} name=${contact.name} kind=${kind} online=${contact.online && kind === "person"} />
      <span class="who-text">
        <span class="who-name"><bdi>${title}</bdi></span>
        ${line && html`<span class=${cx("who-line", contact.typing && "lit")}>${line}</span>`}
      </span>
      ${kind !== "server" && html`<span class="unseen">. About this conversation</span>`}
    </button></h2>
    ${contact.muted && html`<span class="head-mark" role="img" aria-label="Muted"><${Icon} name="mute" /></span>`}
    ${wide && html`<button class="icon-button" aria-label="Help and shortcuts" title="Help and shortcuts (Ctrl /)" onClick=${() => go({ user: contact.user, sheet: ["help"] })}><${Icon} name="help" /></button>`}
  </header>`;
}

function CannotWrite({ contact, kind, title }) {
  const chat = useChat();
  const [run, busy, error] = useAction();
  if (kind === "server") return html`<p class="cannot-write">Only this server writes here.</p>`;
  if (contact.state === "blocked") {
    return html`<div class="cannot-write">
      <p>You have blocked <bdi>${title}</bdi>. Neither of you can write to the other.</p>
      <button class="button quiet" disabled=${busy} onClick=${() => run(() => chat.unblock(contact.user))}>Unblock</button>
      ${error && html`<p class="error" role="alert">${error.message}</p>`}
    </div>`;
  }
  if (contact.state === "deleted") {
    return html`<div class="cannot-write">
      <p><bdi>${title}</bdi> has deleted the account. What you have written to each other stays here.</p>
    </div>`;
  }
  return html`<div class="cannot-write">
    <p><${Icon} name="lock"
      class="inline" /> This conversation is sealed: its keys live on your other devices and never come to a page that a server delivers. Write from one of those.</p>
  </div>`;
}
