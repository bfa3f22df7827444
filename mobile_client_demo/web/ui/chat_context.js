/** What the components know of the engine: the chat itself, its newest snapshot, and one conversation of it. */
import { createContext, useCallback, useContext, useEffect, useState } from "./html.js";

export const ChatContext = createContext(null);

/** @returns {import("../engine/chat.js").Chat} */
export const useChat = () => useContext(ChatContext);

/** The engine's state, drawn again when it changes. */
export function useChatState(chat) {
  const [state, setState] = useState(chat.state);
  useEffect(() => {
    const read = () => setState(chat.state);
    read();
    chat.addEventListener("change", read);
    return () => chat.removeEventListener("change", read);
  }, [chat]);
  return state;
}

/** One conversation, drawn again when it changes. */
export function useConversation(user) {
  const chat = useChat();
  const [conversation, setConversation] = useState(() => chat.conversation(user));
  useEffect(() => {
    const read = () => setConversation(chat.conversation(user));
    read();
    chat.addEventListener("change", read);
    return () => chat.removeEventListener("change", read);
  }, [chat, user]);
  return conversation && conversation.user === user ? conversation : chat.conversation(user);
}

/**
 * Runs an action of the engine for a button: `busy` while it runs, `error` (for people) when it was refused.
 * @returns {[(action: () => Promise<any>) => Promise<boolean>, boolean, {message: string, until: number | null} | null, () => void]}
 */
export function useAction() {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState(null);
  const run = useCallback(async (action) => {
    setBusy(true);
    setError(null);
    try {
      await action();
      return true;
    } catch (problem) {
      const until = problem.retryAfter ? Date.now() + problem.retryAfter * 1000 : null;
      setError({ message: problem.message || "That did not work. Please try again.", code: problem.code, until });
      return false;
    } finally {
      setBusy(false);
    }
  }, []);
  return [run, busy, error, () => setError(null)];
}

/** The time now, told again every `seconds`. */
export function useNow(seconds) {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now()), seconds * 1000);
    return () => clearInterval(timer);
  }, [seconds]);
  return now;
}

/** Whether the window is as wide as two panes. */
export function useMedia(query) {
  const [matches, setMatches] = useState(() => matchMedia(query).matches);
  useEffect(() => {
    const list = matchMedia(query);
    const read = () => setMatches(list.matches);
    read();
    list.addEventListener("change", read);
    return () => list.removeEventListener("change", read);
  }, [query]);
  return matches;
}

export const WIDE = "(min-width: 52rem)";
