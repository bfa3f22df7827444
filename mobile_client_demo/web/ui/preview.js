/** What is about to be sent as a file, before it is. */
import { useAction } from "./chat_context.js";
import { Dialog } from "./dialog.js";
import { count, plainName, size } from "./format.js";
import { html, useEffect, useMemo } from "./html.js";
import { Icon } from "./icons.js";

const MOST = 100 * 1024 * 1024;
const PICTURES = /^image\/(png|jpeg|gif|webp|avif|bmp)$/;

function Thumb({ file }) {
  const url = useMemo(() => (PICTURES.test(file.type) ? URL.createObjectURL(file) : null), [file]);
  useEffect(() => () => url && URL.revokeObjectURL(url), [url]);
  return url ? html`<img class="thumb" src=${url} alt="" />` : html`<span class="thumb"><${Icon} name="file" /></span>`;
}

export function Preview({ files, title, onChange, onSend }) {
  const [run, busy, error] = useAction();
  const tooLarge = files.filter((file) => file.size > MOST);
  const close = () => !busy && onChange([]);
  const send = async () => (await run(() => onSend(files))) && onChange([]);
  const alone = files.length === 1 && PICTURES.test(files[0].type);
  return html`<${Dialog} title=${files.length === 1 ? "Send this file?" : `Send ${files.length} files?`} onClose=${close} kind="preview"
    foot=${html`<button class="button quiet" disabled=${busy} onClick=${close}>Cancel</button>
      <button class="button primary" data-autofocus disabled=${busy || tooLarge.length > 0} onClick=${send}><span
        class="cut">Send to <bdi>${title}</bdi></span></button>`}>
    <ul class=${alone ? "chosen alone" : "chosen"}>
      ${files.map(
        (file) => html`<li key=${`${file.name} ${file.size} ${file.lastModified}`}>
          <${Thumb} file=${file} />
          <span class="chosen-text"><span class="file-name"><bdi>${plainName(file.name) || "file"}</bdi></span>
            <span class="file-size">${size(file.size)}${file.size > MOST ? " – too large" : ""}</span></span>
          ${files.length > 1 &&
          html`<button class="icon-button"
            aria-label=${`Leave out ${plainName(file.name)}`} onClick=${() => onChange(files.filter((other) => other !== file))}><${Icon} name="close" /></button>`}
        </li>`,
      )}
    </ul>
    ${tooLarge.length > 0 && html`<p class="error" role="alert">${count(tooLarge.length, "file is", "files are")} larger than ${size(MOST)}. That is the most that can be sent.</p>`}
    ${error && html`<p class="error" role="alert">${error.message}</p>`}
    <p class="hint">Files are encrypted before they leave this device.</p>
  <//>`;
}
