/** The whole page: which screen for which phase of the engine. */
import { ChatContext, useChatState } from "./chat_context.js";
import { Door } from "./door.js";
import { useNoDropElsewhere } from "./drop.js";
import { html, useEffect, useRef } from "./html.js";
import { Announcer } from "./announcer.js";
import { useNotifications, useTitle } from "./notify.js";
import { forgetDrafts, leaveDrafts } from "./preferences.js";
import { arrive, go } from "./router.js";
import { Elsewhere, Starting, Unusable } from "./screens.js";
import { Shell } from "./shell.js";

/** @param {{ chat: import("../engine/chat.js").Chat }} props */
export function App({ chat }) {
  const state = useChatState(chat);
  const phase = useRef(null);
  useTitle(state.phase === "ready" ? state.unread : 0);
  useNotifications(chat, state.phase === "ready");
  useNoDropElsewhere();

  useEffect(() => {
    const tell = () => Promise.resolve(chat.visible(document.visibilityState === "visible")).catch(() => {});
    tell();
    document.addEventListener("visibilitychange", tell);
    return () => document.removeEventListener("visibilitychange", tell);
  }, [chat]);

  useEffect(() => {
    if (state.phase === "ready" && phase.current !== "ready") arrive();
    if (state.phase === "signed-out" && phase.current === "ready") {
      forgetDrafts();
      go({ user: null, sheet: [] }, { replace: true });
    }
    if (state.phase === "elsewhere") leaveDrafts();
    if (state.phase !== "starting") phase.current = state.phase;
  }, [state.phase]);

  return html`<${ChatContext.Provider} value=${chat}>
    <${Screen} state=${state} />
    <${Announcer} chat=${chat} state=${state} />
  <//>`;
}

function Screen({ state }) {
  switch (state.phase) {
    case "ready":
      return html`<${Shell} state=${state} />`;
    case "signed-out":
      return html`<${Door} state=${state} />`;
    case "elsewhere":
      return html`<${Elsewhere} />`;
    case "unusable":
      return html`<${Unusable} reason=${state.reason} />`;
    default:
      return html`<${Starting} />`;
  }
}
