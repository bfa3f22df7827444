/** A file in a bubble: its picture or its card, how far it has come, and what can be done with it. */
import { useAction, useChat } from "./chat_context.js";
import { plainName, size } from "./format.js";
import { html, useEffect, useRef, useState } from "./html.js";
import { Icon } from "./icons.js";
import { go, here } from "./router.js";

/** Hands a file that is here to the browser as a download; it is never opened, whatever it says that it is. */
export function save(file) {
  const anchor = document.createElement("a");
  anchor.href = file.url;
  anchor.download = plainName(file.name) || "file";
  anchor.click();
}

/** How far it has come, as a ring; a click stops it. */
function Ring({ progress, onCancel, label }) {
  const circle = useRef(null);
  const percent = Math.round((progress || 0) * 100);
  useEffect(() => {
    circle.current.style.setProperty("--part", String(progress || 0));
  }, [progress]);
  return html`<button class="ring" onClick=${onCancel} aria-label=${`Cancel ${label}, ${percent} per cent done`} title="Cancel">
    <svg viewBox="0 0 44 44" aria-hidden="true" focusable="false">
      <circle class="ring-ground" cx="22" cy="22" r="19" /><circle class="ring-part" ref=${circle} cx="22" cy="22" r="19" pathLength="1" />
    </svg>
    <${Icon} name="close" />
  </button>`;
}

function Action({ item, file, name }) {
  const chat = useChat();
  const [run, busy, error] = useAction();
  const cancel = () => run(() => chat.cancelTransfer(item.key));
  if (file.state === "uploading") return html`<${Ring} progress=${file.progress} label=${`sending ${name}`} onCancel=${cancel} />`;
  if (file.state === "downloading") return html`<${Ring} progress=${file.progress} label=${`fetching ${name}`} onCancel=${cancel} />`;
  if (file.state === "gone") return html`<span class="round-mark"><${Icon} name="file" /></span>`;
  if (file.state === "ready" && file.url) {
    return html`<button class="round-button" aria-label=${`Save ${name}`} title="Save" onClick=${() => save(file)}><${Icon}
      name="download" /></button>`;
  }
  if (item.mine && item.status === "failed") return html`<span class="round-mark"><${Icon} name="file" /></span>`;
  const again = file.state === "failed" || error;
  return html`<button class="round-button" disabled=${busy}
    aria-label=${`${again ? "Try again to fetch" : "Fetch"} ${name}`} title=${again ? "Try again" : "Fetch"}
    onClick=${() => run(() => chat.download(item.key))}><${Icon} name=${again ? "retry" : "download"} /></button>`;
}

function note(item, file) {
  const whole = size(file.size);
  if (file.state === "gone") return "No longer on the server";
  if (file.state === "failed" && item.status !== "failed") return `${whole} · ${item.reason || "could not be fetched"}`;
  if (file.state === "uploading" || file.state === "downloading") return `${size(Math.round(file.size * file.progress))} of ${whole}`;
  return whole;
}

export function FileBody({ item }) {
  const { file } = item;
  const name = plainName(file.name) || "file";
  const [broken, setBroken] = useState(false);
  if (file.isImage && file.state !== "gone" && !broken) {
    return html`<${Picture} item=${item} file=${file} name=${name} onBroken=${() => setBroken(true)} />`;
  }
  return html`<div class="file-card">
    <${Action} item=${item} file=${file} name=${name} />
    <span class="file-text"><span class="file-name" title=${name}><bdi>${name}</bdi></span><span
      class="file-size">${note(item, file)}</span></span>
  </div>`;
}

/** Pictures up to this size are fetched by themselves when they come into the page. */
const SMALL = 4_000_000;

function Picture({ item, file, name, onBroken }) {
  const chat = useChat();
  useEffect(() => {
    if (!file.url && (file.state === "none" || file.state === "ready") && file.size <= SMALL) chat.download(item.key).catch(() => {}); // The bubble shows it: `failed`.
  }, [item.key]);
  const moving = file.state === "uploading" || file.state === "downloading";
  const open = () => go({ user: here().user, sheet: ["image", item.key] });
  return html`<div class="picture-box">
    ${file.url
      ? html`<button class="picture-open" onClick=${open} aria-label=${`Open the picture ${name}`}><img src=${file.url} alt=${name}
        decoding="async" draggable=${false} onError=${onBroken} /></button>`
      : html`<span class="picture-blank busy"><${Icon} name="image" /></span>`}
    ${(moving || !file.url) && html`<span class="picture-action"><${Action} item=${item} file=${file} name=${name} /><span class="picture-note">${note(item, file)}</span></span>`}
  </div>`;
}
