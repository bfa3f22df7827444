/** One message. */
import { useAction, useChat } from "./chat_context.js";
import { FileBody } from "./file_body.js";
import { fullTime, time } from "./format.js";
import { cx, html, useState } from "./html.js";
import { Icon } from "./icons.js";
import { RichText, isOnlyEmoji } from "./rich_text.js";
import { Ticks } from "./ticks.js";

/** A text longer than this, in characters or lines, is cut until one asks for all of it. */
const LONG = 1_800;
const LINES = 30;

function beginning(text) {
  const lines = text.length > LINES ? text.split("\n", LINES + 1) : [];
  const cut = lines.length > LINES ? lines.slice(0, LINES).join("\n") : text;
  return cut.length > LONG ? cut.slice(0, LONG) : cut;
}

export function Bubble({ item, first, last, title }) {
  const emoji = item.kind === "text" && isOnlyEmoji(item.text);
  const image = item.kind === "file" && item.file && item.file.isImage;
  const failed = item.status === "failed";
  return html`<li class=${cx("row", item.mine ? "mine" : "theirs", first && "first", last && "last")} data-key=${item.key}>
    <div class=${cx("bubble", emoji && "emoji", image && "picture", item.kind === "unreadable" && "unreadable", failed && "failed")}>
      <span class="unseen">${item.mine ? "You" : title}: </span>
      <div dir=${item.kind === "text" ? "auto" : null}><${Body} item=${item} emoji=${emoji} /><span class="meta">
        <time datetime=${new Date(item.ts).toISOString()} title=${fullTime(item.ts)}>${time(item.ts)}</time>
        ${item.mine && item.status && html`<${Ticks} status=${item.status} />`}
      </span></div>
    </div>
    ${failed && html`<${Failed} item=${item} />`}
  </li>`;
}

function Body({ item, emoji }) {
  const [all, setAll] = useState(false);
  if (item.kind === "unreadable") {
    return html`<p class="text"><${Icon} name="lock" class="inline" /> ${item.reason || "This message cannot be read on this device."}</p>`;
  }
  if (item.kind === "file" && item.file) return html`<${FileBody} item=${item} />`;
  if (emoji) return html`<p class="text">${item.text.trim()}</p>`;
  const shown = all ? item.text : beginning(item.text);
  const long = shown.length < item.text.length;
  return html`<p class="text"><${RichText} text=${shown} />${long && " …"}</p>
    ${long && html`<button class="more" onClick=${() => setAll(true)}>Show all</button>`}`;
}

function Failed({ item }) {
  const chat = useChat();
  const [run, busy, error] = useAction();
  return html`<div class="failed-line">
    <span class="failed-why"><${Icon} name="alert" class="inline" />${(error && error.message) || item.reason || "Not sent."}</span>
    <button class="button small" disabled=${busy} onClick=${() => run(() => chat.retry(item.key))}>Retry</button>
    <button class="button small quiet" disabled=${busy} onClick=${() => run(() => chat.discard(item.key))}>Discard</button>
  </div>`;
}
