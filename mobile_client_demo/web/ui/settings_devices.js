/** Where one is logged in: names, last seen, and sending one away. */
import { useAction, useChat, useNow } from "./chat_context.js";
import { Confirm, useFocus } from "./dialog.js";
import { ago, plainName } from "./format.js";
import { html, useEffect, useState } from "./html.js";
import { Icon } from "./icons.js";

export function Devices() {
  const chat = useChat();
  const [run, , error] = useAction();
  const [devices, setDevices] = useState(null);
  const load = () => run(async () => setDevices(await chat.devices()));
  useEffect(() => void load(), []);
  if (!devices) {
    return error
      ? html`<p class="error" role="alert">${error.message}</p><button class="button quiet" onClick=${load}>Try again</button>`
      : html`<div class="skeleton-list"
        aria-label="Loading devices">${[1, 2, 3].map((row) => html`<div class="skeleton-row" key=${row}><span class="skeleton round"></span><span class="skeleton-lines"><span class="skeleton w52"></span><span class="skeleton thin"></span></span></div>`)}</div>`;
  }
  const sorted = [...devices].sort((a, b) => Number(b.current) - Number(a.current) || (b.lastSeen || 0) - (a.lastSeen || 0));
  return html`<p class="hint">A device that you remove is logged out at once and gets nothing any more.</p>
    ${error && html`<p class="error" role="alert">${error.message}</p>`}
    <ul class="devices">${sorted.map((device) => html`<${Device} key=${device.device} device=${device} onChanged=${load} />`)}</ul>`;
}

function Device({ device, onChanged }) {
  const chat = useChat();
  const now = useNow(60);
  const [run, busy, error] = useAction();
  const [doing, setDoing] = useState(null);
  const name = plainName(device.name || "").trim() || device.device;
  const seen = device.current ? "This device" : device.lastSeen ? `Last seen ${ago(device.lastSeen, now)}` : "Never connected";

  const act = async (action) => {
    if (!(await run(action))) return;
    setDoing(null);
    onChanged();
  };
  return html`<li class="device">
    <span class="device-icon"><${Icon} name="devices" /></span>
    <div class="device-text">
      ${doing === "name"
        ? html`<${Rename} device=${device} name=${name} busy=${busy}
          onSave=${(next) => act(() => chat.renameDevice(device.device, next))} onCancel=${() => setDoing(null)} />`
        : html`<strong><bdi>${name}</bdi></strong><span
          class=${device.current ? "device-note lit" : "device-note"}>${seen}${device.loggedIn || device.current ? "" : " · logged out"}</span>`}
    </div>
    ${!doing && html`<button class="icon-button" aria-label=${`Rename ${name}`} title="Rename" onClick=${() => setDoing("name")}><${Icon} name="pen" /></button>`}
    ${!doing && !device.current && html`<button class="icon-button" aria-label=${`Remove ${name}`} title="Remove" onClick=${() => setDoing("remove")}><${Icon} name="trash" /></button>`}
    ${doing === "remove" && html`<${Confirm} danger text=${`${name} is logged out at once, and what has not reached it yet never will.`} action="Remove device" busy=${busy}
      onYes=${() => act(() => chat.removeDevice(device.device))} onNo=${() => setDoing(null)} />`}
    ${error && html`<p class="error" role="alert">${error.message}</p>`}
  </li>`;
}

function Rename({ device, name, busy, onSave, onCancel }) {
  const field = useFocus();
  const [text, setText] = useState(device.name || "");
  const onSubmit = (event) => {
    event.preventDefault();
    onSave(text.trim());
  };
  return html`<form class="field-line" onSubmit=${onSubmit}>
    <input class="field" ref=${field} value=${text} onInput=${(event) => setText(event.target.value)} maxlength="128" autocomplete="off"
      aria-label=${`Name of ${name}`} />
    <button class="button small primary" disabled=${busy}>Save</button>
    <button type="button" class="button small quiet" onClick=${onCancel}>Cancel</button>
  </form>`;
}
