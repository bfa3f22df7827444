/** Asking somebody, and answering who has asked. */
import { Avatar } from "./avatar.js";
import { useAction, useChat, useNow } from "./chat_context.js";
import { Dialog } from "./dialog.js";
import { ago, plainName } from "./format.js";
import { html, useState } from "./html.js";
import { Icon } from "./icons.js";
import { closeSheet, go } from "./router.js";

const USER_ID = /^[A-Za-z0-9_.-]{1,64}$/;

export function AddFriend({ state }) {
  const { incoming, outgoing } = state.requests;
  return html`<${Dialog} title="Friends" onClose=${closeSheet}>
    <${Ask} me=${state.me.user} contacts=${state.contacts} />
    ${incoming.length > 0 &&
    html`<h3 class="sheet-part">Want to write to you</h3>
      <ul class="people">${incoming.map((request) => html`<${Incoming} key=${request.user} request=${request} />`)}</ul>`}
    ${outgoing.length > 0 &&
    html`<h3 class="sheet-part">Not answered yet</h3>
      <ul class="people">${outgoing.map((request) => html`<${Person} key=${request.user} request=${request} />`)}</ul>`}
  <//>`;
}

function Ask({ me, contacts }) {
  const chat = useChat();
  const [run, busy, refused] = useAction();
  const [user, setUser] = useState("");
  const [wrong, setWrong] = useState(null);
  const [asked, setAsked] = useState(null);
  const [copied, setCopied] = useState(false);
  const trouble = wrong || (refused && refused.message);

  const onSubmit = async (event) => {
    event.preventDefault();
    const wanted = user.trim().replace(/^@/, "");
    setAsked(null);
    if (!wanted) return setWrong("Type the user id of your friend.");
    if (!USER_ID.test(wanted)) return setWrong("A user id has letters, digits, dots, hyphens and underscores only, no spaces.");
    if (wanted === me) return setWrong("That is you. Notes to yourself are in the list once you have written one.");
    if (contacts.some((contact) => contact.user === wanted && contact.state === "friends")) {
      return go({ user: wanted, sheet: [] }, { replace: true });
    }
    setWrong(null);
    if (await run(() => chat.requestFriend(wanted))) {
      setAsked(wanted);
      setUser("");
    }
    return undefined;
  };
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(me);
      setCopied(true);
    } catch {
      setCopied(false);
    }
  };

  return html`<form class="form" onSubmit=${onSubmit} novalidate>
    <div class="field-group"><label class="field-label" for="friend">User id of your friend</label>
    <div class="field-line">
      <input id="friend" class="field" data-autofocus value=${user} onInput=${(event) => (setUser(event.target.value), setWrong(null))}
        maxlength="65"
        autocomplete="off" autocapitalize="none" autocorrect="off" spellcheck=${false} aria-invalid=${trouble ? "true" : null} aria-describedby="friend-note" />
      <button class="button primary" disabled=${busy}>Ask</button>
    </div></div>
    <div id="friend-note" class=${trouble || asked ? null : "unseen"}>
      ${trouble && html`<p class="error" role="alert">${trouble}</p>`}
      ${asked && html`<p class="good" role="status"><${Icon} name="check" class="inline" />Asked <bdi>${asked}</bdi>. You can write to each other once they accept.</p>`}
    </div>
    <p class="own-id">Your own user id is <strong class="id"><bdi>${me}</bdi></strong>
      ${window.isSecureContext && html`<button type="button" class="button small quiet" onClick=${copy}>${copied ? "Copied" : "Copy"}</button>`}</p>
  </form>`;
}

function Person({ request, children }) {
  const now = useNow(60);
  const name = plainName(request.name || "").trim();
  return html`<li class="person">
    <${Avatar} user=${request.user} name=${request.name} />
    <span class="person-text"><strong><bdi>${name || request.user}</bdi></strong><span>${name && name !== request.user ? html`<bdi>${request.user}</bdi> · ` : ""}${ago(request.created, now)}</span></span>
    ${children}
  </li>`;
}

function Incoming({ request }) {
  const chat = useChat();
  const [run, busy, error] = useAction();
  const name = plainName(request.name || "") || request.user;
  return html`<${Person} request=${request}>
    <span class="person-buttons">
      <button class="button small primary" disabled=${busy} aria-label=${`Accept ${name}`}
        onClick=${() => run(() => chat.accept(request.user))}>Accept</button>
      <button class="button small quiet" disabled=${busy} aria-label=${`Decline ${name}`}
        onClick=${() => run(() => chat.decline(request.user))}>Decline</button>
    </span>
    ${error && html`<p class="error" role="alert">${error.message}</p>`}
  <//>`;
}
