/** How far an own message has come. */
import { html, memo } from "./html.js";

export const STATUS = {
  waiting: "Waiting for a connection",
  sending: "Sending",
  sent: "Sent: safe on the server",
  delivered: "Delivered",
  read: "Read",
  failed: "Not sent",
};

const CLOCK = "M8 2.2a5.8 5.8 0 1 0 0 11.6A5.8 5.8 0 0 0 8 2.2ZM8 4.8V8l2.2 1.5";
const TWO = "M1 8.6l3.2 3.2L11 4.6M8.1 11.2l.6.6L15.5 4.6";
const SHAPES = {
  waiting: CLOCK,
  sending: CLOCK,
  sent: "M3 8.6l3.2 3.2L13 4.6",
  delivered: TWO,
  read: TWO,
  failed: "M8 2.5v7M8 13v.2",
};

/** @param {{ status: keyof typeof STATUS }} props */
export const Ticks = memo(({ status }) =>
  SHAPES[status]
    ? html`<span class=${`ticks ${status}`} role="img" aria-label=${STATUS[status]} title=${STATUS[status]}>
        <svg viewBox="0 0 16 16" aria-hidden="true" focusable="false"><path d=${SHAPES[status]} /></svg>
      </span>`
    : null,
);
