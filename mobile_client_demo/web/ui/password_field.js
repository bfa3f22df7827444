/** A password that can be looked at, and what a form says when it was refused. */
import { useNow } from "./chat_context.js";
import { html, useState } from "./html.js";
import { Icon } from "./icons.js";

export function PasswordField({ id, label, value, onInput, autocomplete, note, error, autofocus }) {
  const [open, setOpen] = useState(false);
  const described = error ? `${id}-error` : note ? `${id}-note` : null;
  return html`<div class="field-group">
    <label class="field-label" for=${id}>${label}</label>
    <div class="field-with">
      <input id=${id} name=${id} class="field" type=${open ? "text" : "password"} value=${value}
        onInput=${(event) => onInput(event.target.value)} autocomplete=${autocomplete}
        autocapitalize="none" autocorrect="off" spellcheck=${false} maxlength="256" required aria-invalid=${error ? "true" : null} aria-describedby=${described} data-autofocus=${autofocus ? "1" : null} />
      <button type="button" class="icon-button" aria-label="Show the password" aria-pressed=${open ? "true" : "false"}
        onClick=${() => setOpen(!open)}><${Icon} name=${open ? "hide" : "eye"} /></button>
    </div>
    ${error ? html`<p class="error" id=${`${id}-error`}>${error}</p>` : note && html`<p class="hint" id=${`${id}-note`}>${note}</p>`}
  </div>`;
}

/** The refusal of the server, with the seconds that are left where it asks to wait. */
export function Trouble({ error }) {
  const now = useNow(1);
  if (!error) return null;
  const left = error.until ? Math.ceil((error.until - now) / 1000) : 0;
  return html`<div class="trouble" role="alert"><${Icon} name="alert"
    class="inline" /><p>${error.message}${left > 0 && html` <span aria-hidden="true">Again in ${left} s.</span>`}</p></div>`;
}
