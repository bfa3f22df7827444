/** About a conversation: who it is, the key, silence, and parting. */
import { Avatar, kindOf, titleOf } from "./avatar.js";
import { useAction, useChat, useNow } from "./chat_context.js";
import { Confirm, Dialog } from "./dialog.js";
import { presence } from "./format.js";
import { html, useState } from "./html.js";
import { Icon } from "./icons.js";
import { closeSheet } from "./router.js";

export function ContactSheet({ contact, state }) {
  const now = useNow(30);
  const kind = kindOf(contact.user, state.me);
  const title = titleOf(contact, state.me);
  if (kind !== "person") {
    return html`<${Dialog} title=${title} onClose=${closeSheet}>
      <div class="portrait"><${Avatar} user=${contact.user} name=${contact.name} kind=${kind} large=${true} /></div>
      <p class="hint centred">${kind === "self" ? "Whatever you write here reaches all your devices, and nobody else." : "What those who run this server tell everybody. Nobody can answer here."}</p>
      <${Mute} contact=${contact} />
    <//>`;
  }
  const line = presence(contact, now);
  return html`<${Dialog} title="Contact" onClose=${closeSheet}>
    <div class="portrait">
      <${Avatar} user=${contact.user} name=${contact.name} kind=${kind} online=${contact.online} large=${true} />
      <p class="portrait-name"><bdi>${title}</bdi></p>
      <p class="portrait-line"><span class="id"><bdi>${contact.user}</bdi></span>${line ? ` · ${line}` : ""}</p>
    </div>
    <${Mute} contact=${contact} />
    <${Key} contact=${contact} title=${title} />
    <${Parting} contact=${contact} title=${title} />
  <//>`;
}

function Mute({ contact }) {
  const chat = useChat();
  const [run, busy, error] = useAction();
  return html`<ul class="options"><li>
    <button class="option" role="switch" aria-checked=${contact.muted ? "true" : "false"} disabled=${busy}
      onClick=${() => run(() => chat.mute(contact.user, !contact.muted))}>
      <${Icon} name=${contact.muted ? "mute" : "bell"} />
      <span class="option-text"><span>Mute</span><span class="option-note">No notifications from this conversation</span></span>
      <span class="switch" aria-hidden="true"></span>
    </button>
    ${error && html`<p class="error" role="alert">${error.message}</p>`}
  </li></ul>`;
}

function Key({ contact, title }) {
  const chat = useChat();
  const [run, busy, error] = useAction();
  const [asking, setAsking] = useState(false);
  const [done, setDone] = useState(false);
  const rotate = async () => {
    setDone(await run(() => chat.rotateKey(contact.user)));
    setAsking(false);
  };
  return html`<section class="card" aria-labelledby="key-title">
    <h3 id="key-title"><${Icon}
      name="key" />Encryption${contact.keyVersion > 0 && html`<span class="version">Key ${contact.keyVersion}</span>`}</h3>
    ${contact.sealed
      ? html`<p>This conversation is sealed: its keys are made by your devices and never come to a page that a server delivers. Here its messages cannot be read or written.</p>`
      : html`<p>Messages and files between you and <bdi>${title}</bdi> are encrypted with a key that only the two of you are given. The server makes and keeps it, so whoever runs the server could read them; nobody else can.</p>`}
    ${!contact.sealed && contact.state === "friends" && (asking
      ? html`<${Confirm} text="From then on both of you encrypt with the new key. What was written before stays readable. Good after a device was lost." action="Make a new key" busy=${busy} onYes=${rotate} onNo=${() => setAsking(false)} />`
      : html`<button class="button quiet" onClick=${() => (setAsking(true), setDone(false))}><${Icon} name="retry" />New key</button>`)}
    ${done && html`<p class="good" role="status"><${Icon} name="check" class="inline" />The new key is in use.</p>`}
    ${error && html`<p class="error" role="alert">${error.message}</p>`}
  </section>`;
}

function Parting({ contact, title }) {
  const chat = useChat();
  const [run, busy, error] = useAction();
  const [asking, setAsking] = useState(null);
  const act = async (action) => {
    if (await run(action)) setAsking(null);
  };
  const remove = async () => {
    if (await run(() => chat.unfriend(contact.user))) closeSheet();
  };
  return html`<ul class="options">
    ${contact.state !== "deleted" && html`<li>${contact.state === "blocked"
      ? html`<button class="option" disabled=${busy} onClick=${() => act(() => chat.unblock(contact.user))}><${Icon}
        name="block" /><span class="option-text"><span>Unblock</span><span
        class="option-note">You can write to each other again</span></span></button>`
      : asking === "block"
        ? html`<${Confirm} danger
          text=${`Neither of you can write to the other until you unblock ${title}. They are not told.`} action="Block" busy=${busy} onYes=${() => act(() => chat.block(contact.user))} onNo=${() => setAsking(null)} />`
        : html`<button class="option danger" onClick=${() => setAsking("block")}><${Icon} name="block" /><span
          class="option-text"><span>Block</span></span></button>`}</li>`}
    <li>${asking === "remove"
      ? html`<${Confirm} danger
        text=${`Your friendship with ${title} ends, and its keys are destroyed. To write again one of you asks anew.`} action="Remove friend" busy=${busy} onYes=${remove} onNo=${() => setAsking(null)} />`
      : html`<button class="option danger" onClick=${() => setAsking("remove")}><${Icon} name="remove" /><span
        class="option-text"><span>Remove friend</span></span></button>`}</li>
    ${error && html`<li><p class="error" role="alert">${error.message}</p></li>`}
  </ul>`;
}
