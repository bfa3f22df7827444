/** What a screen reader is told without being asked: new messages, and when the connection goes and comes. */
import { html, useEffect, useRef, useState } from "./html.js";
import { plainName } from "./format.js";
import { here } from "./router.js";

const CLEAR_AFTER = 6_000;
const LINK_SETTLES = 1_500;

export function Announcer({ chat, state }) {
  const [lines, setLines] = useState([]);
  const number = useRef(0);
  const link = useRef(true);
  const newest = useRef(null);

  const say = (text) => {
    const line = { key: (number.current += 1), text };
    setLines((before) => [...before.slice(-4), line]);
    setTimeout(() => setLines((before) => before.filter((other) => other !== line)), CLEAR_AFTER);
  };

  // Off the screen the engine tells; what appears on the screen is found here.
  useEffect(() => {
    const onMessage = ({ detail }) => say(`New message from ${plainName(detail.name)}: ${detail.text}`);
    const onChange = () => {
      const { user } = here();
      if (!user || chat.state.phase !== "ready") return;
      const { items } = chat.conversation(user);
      const last = items[items.length - 1];
      const known = newest.current;
      newest.current = { user, key: last && last.key, ts: last ? last.ts : 0 };
      if (!last || last.mine || !known || known.user !== user || known.key === last.key || last.ts < known.ts) return;
      say(last.kind === "file" && last.file ? `File: ${plainName(last.file.name)}` : last.text || last.reason || "");
    };
    chat.addEventListener("message", onMessage);
    chat.addEventListener("change", onChange);
    return () => {
      chat.removeEventListener("message", onMessage);
      chat.removeEventListener("change", onChange);
    };
  }, [chat]);

  const ready = state.phase === "ready";
  const online = state.link.state === "online";
  useEffect(() => {
    if (!ready) return undefined;
    const timer = setTimeout(() => {
      if (link.current !== online) {
        say(online ? "Connected." : "No connection. Messages wait and will be sent.");
      }
      link.current = online;
    }, LINK_SETTLES);
    return () => clearTimeout(timer);
  }, [ready, online]);

  return html`<div class="unseen" role="status" aria-live="polite" id="announcer">
    ${lines.map((line) => html`<p key=${line.key}>${line.text}</p>`)}
  </div>`;
}
