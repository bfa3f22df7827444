/** What the ticks mean, and the keys. */
import { Dialog } from "./dialog.js";
import { html } from "./html.js";
import { closeSheet } from "./router.js";
import { Ticks } from "./ticks.js";

const MAC = /Mac|iPhone|iPad/.test(navigator.platform);
const COMMAND = MAC ? "⌘" : "Ctrl";
const ALT = MAC ? "⌥" : "Alt";

const KEYS = [
  [["Enter"], "Send"],
  [["Shift", "Enter"], "New line"],
  [["Esc"], "Back, close"],
  [[COMMAND, "K"], "Search people"],
  [[ALT, "↑"], "Conversation above"],
  [[ALT, "↓"], "Conversation below"],
  [["↑", "↓"], "Walk through the list"],
  [[COMMAND, "/"], "This help"],
];

const TICKS = [
  ["waiting", "Waits on this device, goes out when there is a connection"],
  ["sent", "Safe on the server's disk"],
  ["delivered", "Has reached a device of your friend"],
  ["read", "Was shown to your friend"],
  ["failed", "Was refused; you can try again or discard it"],
];

export function Help() {
  return html`<${Dialog} title="Help" onClose=${closeSheet} toRead>
    <h3 class="sheet-part first">What the ticks say</h3>
    <dl class="legend">${TICKS.map(([status, text]) => html`<div key=${status}><dt><${Ticks} status=${status} /></dt><dd>${text}</dd></div>`)}</dl>
    <h3 class="sheet-part">Keys</h3>
    <dl class="keys">${KEYS.map(([keys, text]) => html`<div key=${text}><dt>${text}</dt><dd>${keys.map((key) => html`<kbd key=${key}>${key}</kbd>`)}</dd></div>`)}</dl>
    <p class="hint">Images and files can also be pasted, or dropped on a conversation.</p>
  <//>`;
}
