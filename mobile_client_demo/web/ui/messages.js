/**
 * What was said. Of a long conversation only a window of rows is in the page; it moves with the scrolling, and the row that
 * one looks at stays where it is, whatever comes above or below it (`snapshot` and `componentDidUpdate`).
 */
import { ChatContext } from "./chat_context.js";
import { Component, cx, html } from "./html.js";
import { Icon } from "./icons.js";
import { countAfter, firstUnread, rowsOf } from "./rows.js";
import { Row, Waiting } from "./message_row.js";
import { badge, count } from "./format.js";

const WINDOW = 140;
const STEP = 70;
const MOST = 280;
const NEAR = 700;
const AT_END = 48;

export class Messages extends Component {
  static contextType = ChatContext;

  constructor(props) {
    super(props);
    // The keys of the first and the last row of the window; null: as many as it takes, and the newest.
    this.state = { from: null, to: null, away: false, seen: null };
    this.newKey = undefined;
    this.stick = true;
    this.asking = false;
    this.pinned = 0;
    this.onScroll = this.onScroll.bind(this);
    this.toEnd = this.toEnd.bind(this);
    this.load = this.load.bind(this);
  }

  /** All rows, made anew only when the items are others. */
  rows() {
    const { items, loading } = this.props.conversation;
    if (this.newKey === undefined && items.length && !loading) {
      this.newKey = this.props.unread ? firstUnread(items, this.props.unread) : null;
      this.made = null;
    }
    if (!this.made || this.made.items !== items) this.made = { items, rows: rowsOf(items, this.newKey) };
    return this.made.rows;
  }

  window(rows) {
    const place = (wanted) => (wanted === null ? -1 : rows.findIndex(({ key }) => key === wanted));
    const end = place(this.state.to) + 1 || rows.length;
    const start = place(this.state.from);
    return [start < 0 || start >= end ? Math.max(0, end - WINDOW) : start, end];
  }

  componentDidMount() {
    // A keyboard comes up, a font arrives, the window is turned.
    this.resize = new ResizeObserver(() => this.hold(this.anchor));
    this.resize.observe(this.box);
    this.resize.observe(this.inner);
    this.place();
  }

  componentWillUnmount() {
    this.resize.disconnect();
  }

  getSnapshotBeforeUpdate() {
    // Scrolled up since, and the browser has not told it yet.
    if (this.stick && this.box.scrollTop < this.pinned - AT_END) this.stick = false;
    return this.look();
  }

  /** The row that one looks at, and where it stands. */
  look() {
    if (this.stick) return null;
    const top = this.box.getBoundingClientRect().top;
    for (const row of this.inner.children) {
      const { bottom, top: at } = row.getBoundingClientRect();
      // a day moves up to where it begins now
      if (bottom > top && row.dataset.key && !row.classList.contains("day")) return { key: row.dataset.key, at };
    }
    return null;
  }

  componentDidUpdate(before, _state, snapshot) {
    this.hold(snapshot);
    const { items, loading } = this.props.conversation;
    const others = items !== before.conversation.items && items.length !== before.conversation.items.length;
    // What has come above is not in the window yet, or is not enough to scroll back to it.
    if (items.length && (others || loading !== before.conversation.loading) && this.box.scrollTop < NEAR) this.onScroll();
  }

  /** What one looks at stays where it is. */
  hold(snapshot) {
    if (!this.placed) this.place();
    else if (this.stick) this.pin();
    else if (snapshot) {
      const row = this.inner.querySelector(`[data-key="${CSS.escape(snapshot.key)}"]`);
      if (row) {
        const moved = row.getBoundingClientRect().top - snapshot.at;
        if (moved) this.box.scrollTop += moved;
      }
    }
    this.anchor = this.look();
    this.at = this.box.scrollTop;
  }

  /** Where one begins: at the line before what is new, else at the end. */
  place() {
    if (!this.props.conversation.items.length) return;
    this.placed = true;
    this.stick = true;
    const line = this.inner.querySelector(".new-line");
    this.pin();
    if (line && this.box.scrollHeight - line.offsetTop > this.box.clientHeight) {
      this.box.scrollTop = line.offsetTop - 24;
      this.onScroll();
    }
  }

  pin() {
    this.box.scrollTop = this.box.scrollHeight;
    this.pinned = this.box.scrollTop;
  }

  /** Also for whoever has just sent something. */
  toEnd() {
    this.stick = true;
    this.setState({ from: null, to: null, away: false, seen: null }, () => this.pin());
  }

  load() {
    const { user, more, loading } = this.props.conversation;
    if (!more || loading || this.asking) return;
    this.asking = true;
    const done = () => (this.asking = false);
    this.context.loadOlder(user).then(done, done); // What is wrong the conversation says: `error`.
  }

  onScroll() {
    if (!this.box) return; // told a moment after the conversation was closed
    const { scrollTop, scrollHeight, clientHeight } = this.box;
    const rows = this.rows();
    const [from, end] = this.window(rows);
    const below = scrollHeight - clientHeight - scrollTop;
    const atEnd = end === rows.length && below < AT_END;
    this.stick = atEnd;
    // If it is our own scrolling that is told, the rows may have moved since, and are to be put back.
    if (scrollTop !== this.at) this.anchor = this.look();
    this.at = scrollTop;
    if (atEnd === this.state.away) {
      const { items } = this.props.conversation;
      if (atEnd) this.setState({ from: null, to: null, away: false, seen: null });
      else this.setState({ from: rows[from].key, away: true, seen: items[items.length - 1].key });
    }
    if (scrollTop < NEAR && from > 0) this.move(rows, Math.max(0, from - STEP), end);
    else if (scrollTop < NEAR && !this.props.conversation.error) this.load();
    else if (below < NEAR && end < rows.length) this.move(rows, from, Math.min(rows.length, end + STEP));
  }

  /** Another window; of one that is too long the far end goes. */
  move(rows, from, end) {
    const [before] = this.window(rows);
    if (end - from > MOST) {
      if (from < before) end = from + MOST;
      else from = end - MOST;
    }
    this.setState({ from: rows[from].key, to: end === rows.length ? null : rows[end - 1].key });
  }

  render({ conversation, title, kind, typing, online }, { away, seen }) {
    const rows = this.rows();
    const [start, end] = this.window(rows);
    const now = Date.now();
    const fresh = away && seen ? countAfter(conversation.items, seen) : 0;
    return html`<div class="messages-frame">
      <div class="messages" ref=${(box) => (this.box = box)} onScroll=${this.onScroll} tabindex="0" role="region"
        aria-label=${`Messages: ${title}`}>
        <ol class="rows" ref=${(inner) => (this.inner = inner)} aria-busy=${conversation.loading ? "true" : "false"}>
          <${Waiting} conversation=${conversation} first=${start === 0} kind=${kind} title=${title} online=${online} onRetry=${this.load} />
          ${rows.slice(start, end).map((row) => html`<${Row} key=${row.key} row=${row} item=${row.item} first=${row.first} last=${row.last} title=${title} now=${now} />`)}
          ${typing && html`<li class="row theirs first" key="typing"><span class="typing" role="img" aria-label=${`${title} is typing`}><i></i><i></i><i></i></span></li>`}
        </ol>
      </div>
      <button class=${cx("to-end", away && "shown")} onClick=${this.toEnd} tabindex=${away ? 0 : -1} aria-hidden=${away ? null : "true"}
        aria-label=${fresh ? `To the newest message, ${count(fresh, "new message", "new messages")}` : "To the newest message"}>
        <${Icon} name="down" />${fresh > 0 && html`<span class="badge" aria-hidden="true">${badge(fresh)}</span>`}
      </button>
    </div>`;
  }
}
