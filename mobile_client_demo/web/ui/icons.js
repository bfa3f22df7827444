/** Drawn for Aldis on a grid of 24, with a line of 1.75. They say nothing to screen readers: what carries them has a label. */
import { html } from "./html.js";

const PATHS = {
  back: "M14.5 5.5 8 12l6.5 6.5",
  forward: "M9.5 5.5 16 12l-6.5 6.5",
  close: "M6 6l12 12M18 6 6 18",
  search: "M10.5 17a6.5 6.5 0 1 0 0-13 6.5 6.5 0 0 0 0 13Zm4.7-1.8L20 20",
  add: "M10 11.5a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7ZM3.5 19.5c.6-3.4 3.2-5.5 6.5-5.5s5.9 2.1 6.5 5.5M18.5 7v6M15.5 10h6",
  settings: "M4 7h9M17 7h3M4 17h3M11 17h9M15 9.2a2.2 2.2 0 1 0 0-4.4 2.2 2.2 0 0 0 0 4.4ZM9 19.2a2.2 2.2 0 1 0 0-4.4 2.2 2.2 0 0 0 0 4.4Z",
  send: "M4.5 12h14M12.5 5.5 19 12l-6.5 6.5",
  attach: "M19 11.5 12.3 18.2a4.3 4.3 0 0 1-6.1-6.1l7-7a2.9 2.9 0 0 1 4.1 4.1l-7 7a1.45 1.45 0 0 1-2.05-2.05L14.7 8",
  down: "M12 5v13M6 12.5l6 6 6-6",
  download: "M12 4v10.5M7.5 10.5l4.5 4.5 4.5-4.5M5 19.5h14",
  file: "M6.5 3.5h7l4.5 4.5v12.5h-11.5ZM13.5 3.5V8H18",
  image: "M4 5h16v14H4ZM4 16l4.5-4.5 4 4 2.5-2.5 5 5M15.5 9.5h.01",
  retry: "M19 12a7 7 0 1 1-2.2-5.1M19.5 4v4.2h-4.2",
  trash: "M5 7h14M10 7V4.5h4V7M7 7l.8 12.5h8.4L17 7M10.3 10.5v5.5M13.7 10.5v5.5",
  key: "M14.5 13.5a4.5 4.5 0 1 0-4.2-2.9L4 17v3h3l1-1v-1.5h1.5V16H11l1.3-1.3c.7.5 1.4-1.2 2.2-1.2ZM16 8.5h.01",
  mute: "M7 16.5V11a5 5 0 0 1 8.5-3.5M17 10v6.5M5.5 16.5h11M10 19.5h4M4.5 4l15 16",
  bell: "M7 16.5V11a5 5 0 0 1 10 0v5.5M5.5 16.5h13M10 19.5h4",
  block: "M12 20a8 8 0 1 0 0-16 8 8 0 0 0 0 16ZM6.5 6.5l11 11",
  remove: "M10 11.5a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7ZM3.5 19.5c.6-3.4 3.2-5.5 6.5-5.5s5.9 2.1 6.5 5.5M15.5 10h6",
  devices: "M3.5 6h12v9.5h-12ZM2.5 18.5h9M15 10.5h5.5v9H15Z",
  lock: "M6.5 11h11v8.5h-11ZM8.5 11V8a3.5 3.5 0 0 1 7 0v3",
  open: "M6.5 11h11v8.5h-11ZM8.5 11V8a3.5 3.5 0 0 1 6.8-1.2",
  eye: "M2.5 12S6 6 12 6s9.5 6 9.5 6-3.5 6-9.5 6-9.5-6-9.5-6ZM12 14.6a2.6 2.6 0 1 0 0-5.2 2.6 2.6 0 0 0 0 5.2Z",
  hide: "M4 4l16 16M9.8 6.3A9 9 0 0 1 12 6c6 0 9.5 6 9.5 6a15 15 0 0 1-3 3.5M6 8.2A15 15 0 0 0 2.5 12S6 18 12 18a9 9 0 0 0 3.6-.8",
  help: "M12 20a8 8 0 1 0 0-16 8 8 0 0 0 0 16ZM9.8 9.8A2.3 2.3 0 0 1 12 8c1.3 0 2.3.9 2.3 2.1 0 1.7-2.3 1.8-2.3 3.4M12 16.2h.01",
  out: "M10 4.5H5v15h5M14.5 8l4 4-4 4M18 12H9.5",
  theme: "M19.5 14.2A8 8 0 1 1 9.8 4.5a6.3 6.3 0 0 0 9.7 9.7Z",
  note: "M5 4h14v11l-5 5H5ZM14 20v-5h5M8.5 8.5h7M8.5 12h5",
  horn: "M4 10v4.5h3l8 4V6l-8 4ZM18 9.5a4 4 0 0 1 0 5.5M8 14.5l1 5h2.5l-1-4",
  check: "M5 12.5 10 17.5 19.5 7",
  pen: "M4.5 19.5v-3.5L15.5 5l3.5 3.5L8 19.5Z",
  alert: "M12 4.5 21 19.5H3ZM12 10v4.5M12 17h.01",
};

/** @param {{ name: keyof typeof PATHS, class?: string }} props */
export function Icon({ name, class: extra }) {
  return html`<svg class=${extra ? `icon ${extra}` : "icon"} viewBox="0 0 24 24" aria-hidden="true" focusable="false"><path
    d=${PATHS[name]} /></svg>`;
}

/** A bubble that is a lamp that has a shutter: three lines of text. */
export function Logo({ class: extra }) {
  return html`<svg class=${extra ? `logo ${extra}` : "logo"} viewBox="0 0 64 64" aria-hidden="true" focusable="false">
    <path class="logo-lamp" d="M32 6a25 25 0 1 1-11.6 47.2L8.5 56.5l3.3-11.4A25 25 0 0 1 32 6Z" />
    <path class="logo-lines" d="M20 23h24M17 32h30M20 41h15" />
  </svg>`;
}
