/** Files that are dragged over a conversation. */
import { html, useEffect, useRef, useState } from "./html.js";
import { Icon } from "./icons.js";

const carriesFiles = (event) => event.dataTransfer && Array.from(event.dataTransfer.types).includes("Files");

/** @param {(files: File[]) => void} onFiles */
export function useFileDrop(onFiles) {
  const [over, setOver] = useState(false);
  const depth = useRef(0);
  const leave = () => {
    depth.current = 0;
    setOver(false);
  };
  const handlers = {
    onDragEnter: (event) => {
      if (!carriesFiles(event)) return;
      event.preventDefault();
      depth.current += 1;
      setOver(true);
    },
    onDragOver: (event) => carriesFiles(event) && event.preventDefault(),
    onDragLeave: (event) => {
      if (!carriesFiles(event)) return;
      depth.current -= 1;
      if (depth.current <= 0) leave();
    },
    onDrop: (event) => {
      if (!carriesFiles(event)) return;
      event.preventDefault();
      leave();
      const files = Array.from(event.dataTransfer.files);
      if (files.length) onFiles(files);
    },
  };
  return { over, handlers };
}

/** Dropped anywhere else a file changes nothing: the browser would leave the page for it. */
export function useNoDropElsewhere() {
  useEffect(() => {
    const refuse = (event) => {
      if (event.defaultPrevented || !carriesFiles(event)) return;
      event.preventDefault();
      event.dataTransfer.dropEffect = "none";
    };
    const names = ["dragover", "drop"];
    for (const name of names) document.addEventListener(name, refuse);
    return () => names.forEach((name) => document.removeEventListener(name, refuse));
  }, []);
}

export function Dropping({ title }) {
  return html`<div class="dropping" aria-hidden="true"><div><${Icon}
    name="attach" /><p>Drop here to send to <bdi>${title}</bdi></p></div></div>`;
}
