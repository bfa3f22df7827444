/** The first screen: what this is, and coming in. */
import { useAction, useChat } from "./chat_context.js";
import { html, useRef, useState } from "./html.js";
import { Icon, Logo } from "./icons.js";
import { PasswordField, Trouble } from "./password_field.js";
import { Scene } from "./scene.js";

const USER_ID = /^[A-Za-z0-9_.-]{1,64}$/;

function checked({ user, password }, isNew) {
  const wrong = {};
  if (!user) wrong.user = isNew ? "Choose a user id." : "Type your user id.";
  else if (!USER_ID.test(user) || user === "." || user === "..") wrong.user = "Letters, digits, dots, hyphens and underscores only, no spaces.";
  if (!password) wrong.password = isNew ? "Choose a password." : "Type your password.";
  else if (isNew && password.length < 8) wrong.password = "At least 8 characters. A few words together make a good one.";
  return wrong;
}

export function Door({ state }) {
  const [isNew, setNew] = useState(false);
  return html`<main class="door">
    <div class="door-picture"><${Scene} /></div>
    <div class="door-side">
      <div class="door-card">
        <h1 class="door-brand"><${Logo} /><span>Aldis</span></h1>
        <p class="door-word">Messages on a server of your own: every one arrives, and you see when.</p>
        ${!state.secure && html`<p class="door-warning"><${Icon} name="open" class="inline" /><span><strong>This connection is not private.</strong> Fine for trying out; for anything else open the page by HTTPS.</span></p>`}
        ${state.reason && html`<p class="door-reason" role="status">${state.reason}</p>`}
        <div class="segments two" role="group" aria-label="Log in or create an account">
          <button type="button" aria-pressed=${isNew ? "false" : "true"} onClick=${() => setNew(false)}>Log in</button>
          <button type="button" aria-pressed=${isNew ? "true" : "false"} onClick=${() => setNew(true)}>Create account</button>
        </div>
        <${DoorForm} key=${isNew ? "new" : "old"} isNew=${isNew} />
      </div>
    </div>
  </main>`;
}

/** What was typed stays when one changes between logging in and registering. */
const typed = { user: "", name: "" };

function DoorForm({ isNew }) {
  const chat = useChat();
  const form = useRef(null);
  const [run, busy, error] = useAction();
  const [user, setUser] = useState(typed.user);
  const [name, setName] = useState(typed.name);
  const [password, setPassword] = useState("");
  const [wrong, setWrong] = useState({});

  const onSubmit = async (event) => {
    event.preventDefault();
    const given = { user: user.trim(), password };
    const found = checked(given, isNew);
    setWrong(found);
    if (found.user || found.password) {
      form.current.querySelector(found.user ? "#user" : "#password").focus();
      return;
    }
    await run(() => (isNew ? chat.register({ ...given, name: name.trim() }) : chat.login(given)));
  };

  return html`<form class="form" ref=${form} onSubmit=${onSubmit} novalidate>
    <div class="field-group">
      <label class="field-label" for="user">User id</label>
      <input id="user" name="username" class="field" value=${user}
        onInput=${(event) => ((typed.user = event.target.value), setUser(event.target.value))} autocomplete="username" autocapitalize="none"
        autocorrect="off" spellcheck=${false} maxlength="64" required aria-invalid=${wrong.user ? "true" : null} aria-describedby=${wrong.user ? "user-error" : isNew ? "user-note" : null} />
      ${wrong.user ? html`<p class="error" id="user-error">${wrong.user}</p>` : isNew && html`<p class="hint" id="user-note">Friends find you by it. It cannot be changed later.</p>`}
    </div>
    ${isNew &&
    html`<div class="field-group">
      <label class="field-label" for="name">Name <span class="optional">– as friends see it, if you like</span></label>
      <input id="name" name="name" class="field" value=${name}
        onInput=${(event) => ((typed.name = event.target.value), setName(event.target.value))} autocomplete="name" maxlength="128" />
    </div>`}
    <${PasswordField} id="password" label="Password" value=${password} onInput=${setPassword}
      autocomplete=${isNew ? "new-password" : "current-password"}
      note=${isNew ? "At least 8 characters. Nobody can look it up for you." : null} error=${wrong.password} />
    <${Trouble} error=${error} />
    <button class="button primary wide tall" disabled=${busy}
      aria-busy=${busy ? "true" : "false"}>${busy ? html`<span class="spinner" aria-hidden="true"></span>` : null}${isNew ? (busy ? "Creating …" : "Create account") : busy ? "Logging in …" : "Log in"}</button>
  </form>`;
}
