/** A sheet over the page: from below on a phone, in the middle of a desktop. The browser's dialog holds the focus in it. */
import { cx, html, useEffect, useLayoutEffect, useRef } from "./html.js";
import { Icon } from "./icons.js";

/**
 * @param {{ title: string, onClose: () => void, onBack?: () => void, kind?: string, toRead?: boolean, children: any, foot?: any }} props
 *   `toRead`: nothing in it takes the focus, so that the keys that scroll need it itself
 */
export function Dialog({ title, onClose, onBack, kind, toRead, children, foot }) {
  const box = useRef(null);
  const heading = useRef(null);
  const close = useRef(onClose);
  close.current = onClose;

  useLayoutEffect(() => {
    const dialog = box.current;
    const cameFrom = document.activeElement;
    dialog.showModal();
    const first = dialog.querySelector("[data-autofocus]") || heading.current;
    if (first) first.focus({ preventScroll: true });
    return () => {
      dialog.close();
      if (cameFrom && cameFrom.isConnected) cameFrom.focus({ preventScroll: true });
    };
  }, []);

  // Another page of the same sheet: read its title.
  const shown = useRef(title);
  useEffect(() => {
    if (shown.current === title) return;
    shown.current = title;
    const first = box.current.querySelector("[data-autofocus]") || heading.current;
    if (first) first.focus({ preventScroll: true });
  }, [title]);

  const onCancel = (event) => {
    event.preventDefault();
    close.current();
  };
  // Chromium lets a second Esc through although the first was held: so the key itself is taken.
  const onKeyDown = (event) => {
    if (event.key !== "Escape" || event.defaultPrevented) return;
    event.preventDefault();
    event.stopPropagation();
    close.current();
  };
  return html`<dialog ref=${box} class=${cx("sheet", kind)} aria-labelledby="sheet-title" onCancel=${onCancel} onKeyDown=${onKeyDown}
    onMouseDown=${(event) => event.target === box.current && close.current()}>
    <div class="sheet-body">
      <header class="sheet-head">
        ${onBack && html`<button class="icon-button" aria-label="Back" onClick=${onBack}><${Icon} name="back" class="flip" /></button>`}
        <h2 id="sheet-title" ref=${heading} tabindex="-1">${title}</h2>
        <button class="icon-button" aria-label="Close" onClick=${() => close.current()}><${Icon} name="close" /></button>
      </header>
      <div class="sheet-scroll" ...${toRead ? { tabindex: 0, role: "region", "aria-labelledby": "sheet-title" } : null}>${children}</div>
      ${foot && html`<footer class="sheet-foot">${foot}</footer>`}
    </div>
  </dialog>`;
}

/** The focus goes to what this names when it appears, and to the sheet's title when it goes and nothing else has it. */
export function useFocus() {
  const element = useRef(null);
  useLayoutEffect(() => {
    element.current.focus();
    return () =>
      setTimeout(() => {
        const heading = document.getElementById("sheet-title");
        if (heading && document.activeElement === document.body) heading.focus();
      });
  }, []);
  return element;
}

/** A question before something that cannot be taken back. It takes the place of the button that asked. */
export function Confirm({ text, action, danger, busy, onYes, onNo }) {
  const yes = useFocus();
  return html`<div class="confirm" role="group" aria-label="Please confirm">
    <p>${text}</p>
    <div class="confirm-buttons">
      <button class=${cx("button", danger ? "danger" : "primary")} ref=${yes} disabled=${busy} onClick=${onYes}>${action}</button>
      <button class="button quiet" disabled=${busy} onClick=${onNo}>Cancel</button>
    </div>
  </div>`;
}
