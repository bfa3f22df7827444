/** One row of a conversation: a day, the line before what is new, a notice, or a bubble. */
import { Bubble } from "./bubble.js";
import { dayLabel, dayOf } from "./format.js";
import { html, memo, sameData } from "./html.js";
import { Icon } from "./icons.js";

export const Row = memo(
  ({ row, item, first, last, title, now }) => {
    if (row.kind === "day") return html`<li class="day" data-key=${row.key}><span>${dayLabel(row.ts, now)}</span></li>`;
    if (row.kind === "new") return html`<li class="new-line" data-key=${row.key}><span>New messages</span></li>`;
    if (item.kind === "notice") return html`<li class="event" data-key=${row.key}><span><bdi>${item.text}</bdi></span></li>`;
    return html`<${Bubble} item=${item} first=${first} last=${last} title=${title} />`;
  },
  (a, b) => sameData(a.item, b.item) && a.first === b.first && a.last === b.last && a.title === b.title && a.row.key === b.row.key &&
    (a.row.kind !== "day" || dayOf(a.now) === dayOf(b.now)),
);

const BONES = ["theirs w52", "theirs w38", "mine w44", "theirs w62", "mine w30", "mine w48"];

/** Above the first message: what is still to come, or that this is the beginning. */
export function Waiting({ conversation, first, kind, title, online, onRetry }) {
  const { items, more, loading, error } = conversation;
  if (error) {
    return html`<li class="top-row"><p>${error}</p><button class="button quiet" onClick=${onRetry}>Try again</button></li>`;
  }
  if (loading && !items.length) {
    return html`<li class="bones"
      aria-label="Loading messages">${BONES.map((bone) => html`<span class=${`bone skeleton ${bone}`} key=${bone}></span>`)}</li>`;
  }
  if (!first || loading || (more && items.length)) {
    return html`<li class="top-row">${!first ? null : loading ? html`<span class="spinner" role="img" aria-label="Loading older messages"></span>` : !online && html`<p>Older messages come when there is a connection.</p>`}</li>`;
  }
  if (kind === "server") return html`<li class="top-row beginning"><p>What those who run this server tell everybody.</p></li>`;
  if (kind === "self") {
    return html`<li class="top-row beginning"><${Icon}
      name="note" /><p><strong>Notes to yourself</strong></p><p>Whatever you write or drop here is on all your devices.</p></li>`;
  }
  return html`<li class="top-row beginning"><${Icon} name="lock" />
    <p>This is the beginning. What you and <bdi>${title}</bdi> write is encrypted with a key of the two of you.</p></li>`;
}
