/** The right side while no conversation is open. */
import { isAlone } from "./avatar.js";
import { html } from "./html.js";
import { Logo } from "./icons.js";
import { go } from "./router.js";

export function Empty({ state, missing }) {
  const alone = isAlone(state);
  return html`<section class="pane empty" aria-label="No conversation is open">
    <div class="empty-card">
      <${Logo} />
      ${missing && missing !== "$server"
        ? html`<h2>Not among your conversations</h2><p><bdi>${missing}</bdi> is not a friend of yours, or not any more.</p>`
        : alone
          ? html`<h2>Welcome<bdi>${state.me.name ? `, ${state.me.name}` : ""}</bdi></h2><p>Add a friend by their user id. Yours is <strong class="id"><bdi>${state.me.user}</bdi></strong>.</p>`
          : html`<h2>Choose a conversation</h2><p>Or press <kbd>Ctrl</kbd> <kbd>K</kbd> and type a name.</p>`}
      ${alone && html`<button class="button primary" onClick=${() => go({ user: null, sheet: ["add"] })}>Add a friend</button>`}
    </div>
  </section>`;
}
