/** What is there when the chat is not: while it starts, while another tab has it, where it cannot run. */
import { useAction, useChat } from "./chat_context.js";
import { html, useEffect, useState } from "./html.js";
import { Logo } from "./icons.js";

const SKELETON_AFTER = 250;

/** Rows of grey where the conversations will be, only if it takes long enough to be noticed. */
export function Starting() {
  const [late, setLate] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setLate(true), SKELETON_AFTER);
    return () => clearTimeout(timer);
  }, []);
  return html`<main class="shell" aria-busy="true" data-pane="list">
    <h1 class="unseen">Aldis is opening</h1>
    <div class="rail"><header class="rail-head"><p
      class="brand"><${Logo} /><span>Aldis</span></p></header>${late && html`<${ListSkeleton} />`}</div>
    <div class="pane"></div>
  </main>`;
}

export function ListSkeleton() {
  return html`<div class="skeleton-list" aria-hidden="true">
    ${[62, 44, 70, 52, 38, 58, 48].map(
      (width, index) => html`<div class="skeleton-row" key=${index}>
        <span class="skeleton round"></span>
        <span class="skeleton-lines"><span class=${`skeleton w${width}`}></span><span class="skeleton thin"></span></span>
      </div>`,
    )}
  </div>`;
}

function Notice({ title, children }) {
  return html`<main class="notice-screen"><div class="notice-card"><${Logo} /><h1>${title}</h1>${children}</div></main>`;
}

export function Elsewhere() {
  const chat = useChat();
  const [run, busy, error] = useAction();
  return html`<${Notice} title="Aldis is open in another tab">
    <p>One tab at a time holds the connection, so that no message is handled twice. Nothing is lost: bring it here whenever you like.</p>
    <button class="button primary" disabled=${busy} onClick=${() => run(() => chat.takeOver())}>Use it here</button>
    ${error && html`<p class="error" role="alert">${error.message}</p>`}
  <//>`;
}

export function Unusable({ reason }) {
  return html`<${Notice} title="This browser cannot keep messages">
    <p>${reason || "The chat needs a place in the browser (IndexedDB) where messages are safe until they are sent. Private windows often have none."}</p>
    <button class="button primary" onClick=${() => location.reload()}>Try again</button>
  <//>`;
}
