/** Where one writes. What is typed lives here alone, so that a letter draws nothing but this. */
import { useChat } from "./chat_context.js";
import { html, memo, useCallback, useEffect, useLayoutEffect, useRef, useState } from "./html.js";
import { Icon } from "./icons.js";
import { draftOf, setDraft } from "./preferences.js";

/** A message is at most 64 KiB on its way, encrypted and in base64: this many bytes of text fit in any case. */
const MOST_BYTES = 45_000;
const TYPING_EVERY = 2_500;
const HIGHEST = 168;

const bytesOf = (text) => (text.length > MOST_BYTES / 4 ? new TextEncoder().encode(text).length : 0);

export const Composer = memo(
  ({ me, user, title, wide, onFiles, onSent }) => {
    const chat = useChat();
    const [text, setText] = useState(() => draftOf(me, user));
    const [error, setError] = useState(null);
    const field = useRef(null);
    const picker = useRef(null);
    const typed = useRef(0);
    const tooLong = bytesOf(text) > MOST_BYTES;

    useLayoutEffect(() => {
      const area = field.current;
      area.style.setProperty("height", "auto");
      area.style.setProperty("height", `${Math.min(area.scrollHeight, HIGHEST)}px`);
      area.classList.toggle("scrolls", area.scrollHeight > HIGHEST);
    }, [text]);

    useEffect(() => {
      if (wide) field.current.focus();
      return () => setDraft(me, user, draftOf(me, user), { tell: true });
    }, []);

    const onInput = (event) => {
      const value = event.target.value;
      setText(value);
      setDraft(me, user, value);
      if (value.trim() && Date.now() - typed.current > TYPING_EVERY) {
        typed.current = Date.now();
        Promise.resolve(chat.typing(user)).catch(() => {}); // A hint that may get lost.
      }
    };

    const send = useCallback(async () => {
      const value = field.current.value.trim();
      if (!value || tooLong) return;
      setText("");
      setDraft(me, user, "");
      setError(null);
      typed.current = 0;
      field.current.focus();
      try {
        await chat.sendText(user, value);
        onSent();
      } catch (problem) {
        setError(problem.message);
        setText((now) => now || value);
        setDraft(me, user, value);
      }
    }, [user, tooLong]);

    const onKeyDown = (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
      event.preventDefault();
      send();
    };
    const onPaste = (event) => {
      const files = Array.from(event.clipboardData ? event.clipboardData.files : []);
      if (!files.length || event.clipboardData.getData("text/plain")) return;
      event.preventDefault();
      onFiles(files);
    };
    const onPick = (event) => {
      const files = Array.from(event.target.files);
      event.target.value = "";
      if (files.length) onFiles(files);
    };

    const trouble = tooLong ? "This is too long for one message. Send it in parts, or as a file." : error;
    return html`<form class="composer" onSubmit=${(event) => (event.preventDefault(), send())} aria-label=${`Write to ${title}`}>
      ${trouble && html`<p class="error composer-error" role="alert" id="composer-error">${trouble}</p>`}
      <div class="composer-line">
        <button type="button" class="icon-button" aria-label="Send a file" title="Send a file"
          onClick=${() => picker.current.click()}><${Icon} name="attach" /></button>
        <input ref=${picker} type="file" multiple hidden tabindex="-1" aria-hidden="true" onChange=${onPick} />
        <textarea ref=${field} rows="1" dir="auto" value=${text} onInput=${onInput} onKeyDown=${onKeyDown} onPaste=${onPaste}
          placeholder="Message"
          aria-label=${`Message to ${title}`} aria-invalid=${trouble ? "true" : null} aria-describedby=${trouble ? "composer-error" : null} enterkeyhint="send" autocomplete="off"></textarea>
        <button type="submit" class="send" aria-label="Send" title="Send (Enter)" disabled=${!text.trim() || tooLong}><${Icon}
          name="send" class="flip" /></button>
      </div>
    </form>`;
  },
  (a, b) => a.user === b.user && a.me === b.me && a.title === b.title && a.wide === b.wide,
);
