/**
 * Lets the browser keep the page itself (`service-worker.js`), so that it opens without a network, and takes up the
 * files of a newer server.
 */

const policy = window.trustedTypes
  ? window.trustedTypes.createPolicy("aldis-worker", { createScriptURL: (name) => name })
  : { createScriptURL: (name) => name };

/**
 * Does nothing where the browser has no service workers for this page: without HTTPS, or in private windows of some.
 * @param {EventTarget & { state: { link: { state: string } } }} chat
 * @returns {Promise<boolean>} whether the page is kept
 */
export async function keepPage(chat) {
  const workers = navigator.serviceWorker;
  if (!workers) return false;
  let kept = Boolean(workers.controller);
  let newer = false;
  workers.addEventListener("controllerchange", () => {
    if (kept && !newer) reloadUnnoticed(chat);
    newer = kept; // the first worker of all has brought no newer files
    kept = true;
  });
  try {
    const registration = await workers.register(policy.createScriptURL("service-worker.js"));
    whenOnlineAgain(chat, () => registration.update().catch(() => {}));
  } catch (problem) {
    console.info("The browser takes no service worker here, so this page needs a network to open:", problem.message);
    return false;
  }
  return true;
}

/** A server that was away may be a newer one. */
function whenOnlineAgain(chat, look) {
  let before = chat.state.link.state;
  chat.addEventListener("change", () => {
    const now = chat.state.link.state;
    if (now === "online" && before !== "online") look();
    before = now;
  });
}

/** As soon as nobody looks, or the page cannot reach the server as it is; never over something half written. */
function reloadUnnoticed(chat) {
  const due = () => {
    const unseen = document.visibilityState === "hidden" || chat.state.link.state !== "online";
    if (unseen && !halfWritten()) location.reload();
  };
  document.addEventListener("visibilitychange", due);
  chat.addEventListener("change", due);
  due();
}

const halfWritten = () => [...document.querySelectorAll("input, textarea")].some((field) => field.value !== "");
