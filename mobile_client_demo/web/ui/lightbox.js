/** A picture as large as the window. */
import { useConversation } from "./chat_context.js";
import { save } from "./file_body.js";
import { fullTime, plainName } from "./format.js";
import { html, useEffect, useLayoutEffect, useRef } from "./html.js";
import { Icon } from "./icons.js";
import { back, go } from "./router.js";

export function Lightbox({ user, itemKey }) {
  const { items } = useConversation(user);
  const box = useRef(null);
  const pictures = items.filter(({ kind, file }) => kind === "file" && file && file.isImage && file.url);
  const at = pictures.findIndex(({ key }) => key === itemKey);
  const item = pictures[at];
  const missing = !item && items.length > 0;

  useLayoutEffect(() => {
    const dialog = box.current;
    if (!dialog) return undefined;
    dialog.showModal();
    return () => dialog.close();
  }, [Boolean(item)]);
  useEffect(() => {
    if (missing) back();
  }, [missing]);
  if (!item) return null;

  const name = plainName(item.file.name) || "picture";
  const to = (index) => pictures[index] && go({ user, sheet: ["image", pictures[index].key] }, { replace: true });
  const rtl = document.documentElement.dir === "rtl" ? -1 : 1;
  const onKeyDown = (event) => {
    if (event.key === "Escape") {
      event.preventDefault();
      event.stopPropagation();
      back();
    } else if (event.key === "ArrowLeft") to(at - rtl);
    else if (event.key === "ArrowRight") to(at + rtl);
  };
  const onCancel = (event) => {
    event.preventDefault();
    back();
  };
  return html`<dialog ref=${box} class="lightbox" aria-label=${`Picture: ${name}`} onKeyDown=${onKeyDown} onCancel=${onCancel}>
    <header class="lightbox-head">
      <p><span class="file-name"><bdi>${name}</bdi></span><span class="file-size">${fullTime(item.ts)}</span></p>
      <button class="icon-button" aria-label="Save the picture" title="Save" onClick=${() => save(item.file)}><${Icon}
        name="download" /></button>
      <button class="icon-button" aria-label="Close" onClick=${back}><${Icon} name="close" /></button>
    </header>
    <div class="lightbox-stage" onClick=${(event) => event.target === event.currentTarget && back()}><img src=${item.file.url}
      alt=${name} /></div>
    ${at > 0 && html`<button class="icon-button before" aria-label="The picture before" onClick=${() => to(at - 1)}><${Icon} name="back" class="flip" /></button>`}
    ${at < pictures.length - 1 && html`<button class="icon-button after" aria-label="The next picture" onClick=${() => to(at + 1)}><${Icon} name="forward" class="flip" /></button>`}
  </dialog>`;
}
