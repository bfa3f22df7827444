/** Password, logging out, and deleting the account. */
import { useAction, useChat } from "./chat_context.js";
import { count } from "./format.js";
import { html, useState } from "./html.js";
import { PasswordField, Trouble } from "./password_field.js";
import { back } from "./router.js";

export function Password({ state }) {
  const chat = useChat();
  const [run, busy, error] = useAction();
  const [old, setOld] = useState("");
  const [next, setNext] = useState("");
  const [wrong, setWrong] = useState(null);
  const [done, setDone] = useState(false);
  const onSubmit = async (event) => {
    event.preventDefault();
    setDone(false);
    if (next.length < 8) return setWrong("The new password needs at least 8 characters.");
    setWrong(null);
    if (await run(() => chat.changePassword(old, next))) {
      setDone(true);
      setOld("");
      setNext("");
    }
    return undefined;
  };
  return html`<form class="form" onSubmit=${onSubmit} novalidate>
    <input type="text" name="username" autocomplete="username" value=${state.me.user} hidden readonly />
    <${PasswordField} id="old" label="Password until now" value=${old} onInput=${setOld} autocomplete="current-password" autofocus />
    <${PasswordField} id="next" label="New password" value=${next} onInput=${(value) => (setNext(value), setWrong(null))}
      autocomplete="new-password" note="At least 8 characters." error=${wrong} />
    <${Trouble} error=${error} />
    ${done && html`<p class="good" role="status">The password is changed. Your other devices have been logged out.</p>`}
    <button class="button primary wide" disabled=${busy || !old || !next}>Change password</button>
    <p class="hint">All your other devices are logged out by this.</p>
  </form>`;
}

function Leaving({ text, waiting, action, danger, onYes }) {
  const [run, busy, error] = useAction();
  return html`<div class="form">
    <p>${text}</p>
    ${waiting > 0 && html`<p class="error">${count(waiting, "message has", "messages have")} not been sent yet and will be lost.</p>`}
    <${Trouble} error=${error} />
    <button class=${`button wide ${danger ? "danger" : "primary"}`} disabled=${busy} data-autofocus
      onClick=${() => run(onYes)}>${action}</button>
    <button class="button quiet wide" disabled=${busy} onClick=${back}>Cancel</button>
  </div>`;
}

export function LogOut({ state }) {
  const chat = useChat();
  return html`<${Leaving}
    text="Messages and keys are wiped from this browser. They stay on the server and on your other devices, and come back when you log in." waiting=${state.waiting} action="Log out" onYes=${() => chat.logout()} />`;
}

export function LogOutEverywhere({ state }) {
  const chat = useChat();
  return html`<${Leaving}
    text="Every device is logged out, this one too. Bots and things with a device token of their own stay connected." waiting=${state.waiting} action="Log out everywhere" danger onYes=${() => chat.logoutEverywhere()} />`;
}

export function DeleteAccount({ state }) {
  const chat = useChat();
  const [run, busy, error] = useAction();
  const [password, setPassword] = useState("");
  const [typed, setTyped] = useState("");
  const sure = typed.trim() === state.me.user && password.length > 0;
  const onSubmit = (event) => {
    event.preventDefault();
    if (sure) run(() => chat.deleteAccount(password));
  };
  return html`<form class="form" onSubmit=${onSubmit} novalidate>
    <p>The account <strong
      class="id"><bdi>${state.me.user}</bdi></strong> goes for good: friends, devices, and the user id, which nobody can have again. What you wrote stays with those you wrote to.</p>
    <div class="field-group"><label class="field-label" for="typed">Type your user id to confirm</label>
    <input id="typed" class="field" data-autofocus value=${typed} onInput=${(event) => setTyped(event.target.value)} autocomplete="off"
      autocapitalize="none" spellcheck=${false} /></div>
    <${PasswordField} id="password" label="Password" value=${password} onInput=${setPassword} autocomplete="current-password" />
    <${Trouble} error=${error} />
    <button class="button danger wide" disabled=${busy || !sure}>Delete my account</button>
    <button type="button" class="button quiet wide" disabled=${busy} onClick=${back}>Cancel</button>
  </form>`;
}
