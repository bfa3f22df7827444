/** What stands above the list and the conversation while something is not as it should be. */
import { useChat, useNow } from "./chat_context.js";
import { count } from "./format.js";
import { cx, html, useEffect, useState } from "./html.js";
import { Icon } from "./icons.js";
import { useDismissed } from "./preferences.js";

/** A short hole in the network is nobody's business. */
const QUIET_FOR = 1_200;

export function Banners({ state }) {
  return html`<${LinkBanner} link=${state.link} waiting=${state.waiting} />${!state.secure && html`<${NotPrivate} />`}`;
}

/** @param {{ link: object, waiting: number }} props */
export function LinkBanner({ link, waiting }) {
  const chat = useChat();
  const [shown, setShown] = useState(false);
  const bad = link.state !== "online";
  useEffect(() => {
    if (!bad) {
      setShown(false);
      return undefined;
    }
    const timer = setTimeout(() => setShown(true), Math.max(0, QUIET_FOR - (Date.now() - link.since)));
    return () => clearTimeout(timer);
  }, [bad]);
  if (!bad || !shown) return null;

  const held = waiting ? `${count(waiting, "message waits", "messages wait")} and will be sent.` : "";
  if (link.state === "refused") {
    return html`<div class="banner bad"><${Icon}
      name="alert" /><p>${link.reason || "The server does not let this device in."} ${held}</p></div>`;
  }
  const connecting = link.state === "connecting";
  return html`<div class=${cx("banner", connecting && "soft")} data-link=${link.state}>
    <span class="lamp-search" aria-hidden="true"></span>
    <p>${connecting ? "Connecting … " : "No connection. "}${held}${!connecting && html`<${NextTry} at=${link.retryAt} />`}</p>
    ${!connecting && html`<button class="banner-button" onClick=${() => chat.tryNow && chat.tryNow()}>Try now</button>`}
  </div>`;
}

function NextTry({ at }) {
  const now = useNow(1);
  const seconds = at ? Math.ceil((at - now) / 1000) : 0;
  return seconds > 1 ? html` <span class="next-try">Next try in ${seconds} s.</span>` : null;
}

function NotPrivate() {
  const [dismissed, dismiss] = useDismissed("not-private");
  if (dismissed) return null;
  return html`<div class="banner warn">
    <${Icon} name="open" />
    <p><strong>This connection is not private.</strong> Others on the network could read along. Use HTTPS for anything but trying out.</p>
    <button class="icon-button small" aria-label="Understood, hide this notice" title="Understood" onClick=${dismiss}><${Icon}
      name="close" /></button>
  </div>`;
}
