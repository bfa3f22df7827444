/** Where the page is not looked at: the number in the title and on the app's icon, and notifications. */
import { useEffect } from "./html.js";
import { plainName } from "./format.js";
import { go } from "./router.js";

export function useTitle(unread) {
  useEffect(() => {
    document.title = unread ? `(${unread}) Aldis` : "Aldis";
    if (navigator.setAppBadge) {
      const shown = unread ? navigator.setAppBadge(unread) : navigator.clearAppBadge();
      shown.catch(() => {}); // Only an installed app has an icon to put it on.
    }
  }, [unread]);
}

/** @returns {"granted" | "denied" | "default" | "missing"} */
export function permission() {
  return "Notification" in window && window.isSecureContext ? Notification.permission : "missing";
}

/** Asks once; browsers want a click before. */
export const askPermission = () => Notification.requestPermission();

async function show({ user, name, text }) {
  const options = {
    body: text.length > 200 ? `${text.slice(0, 200)} …` : text,
    tag: `aldis:${user}`,
    renotify: true,
    icon: "icons/aldis-192.png",
    badge: "icons/aldis-192.png",
    data: { user },
  };
  const title = plainName(name) || user;
  const registration = navigator.serviceWorker && (await navigator.serviceWorker.getRegistration());
  if (registration && registration.active) return registration.showNotification(title, options);
  const notification = new Notification(title, options);
  notification.onclick = () => {
    window.focus();
    go({ user, sheet: [] });
    notification.close();
  };
  return undefined;
}

export function useNotifications(chat, ready) {
  useEffect(() => {
    if (!ready) return undefined;
    const onMessage = ({ detail }) => {
      if (permission() !== "granted" || (document.visibilityState === "visible" && document.hasFocus())) return;
      show(detail).catch((problem) => console.info("The browser shows no notification:", problem.message));
    };
    const onWorker = ({ data }) => {
      if (data && data.type === "open" && typeof data.user === "string") go({ user: data.user, sheet: [] });
    };
    chat.addEventListener("message", onMessage);
    if (navigator.serviceWorker) navigator.serviceWorker.addEventListener("message", onWorker);
    return () => {
      chat.removeEventListener("message", onMessage);
      if (navigator.serviceWorker) navigator.serviceWorker.removeEventListener("message", onWorker);
    };
  }, [chat, ready]);
}
