/**
 * Keeps the files of the page, so that it opens without a network, and opens the conversation of a notification that
 * is clicked. It never keeps what the server answers: calls under /v1 and chat.json go past it.
 *
 * The files of one version lie together in one cache and are used together: a page never gets old modules beside new
 * ones. `shell.js`, which the server makes, names them and their version; when a browser finds it changed, it installs
 * this worker anew beside the old one, which serves until all files are here. Then the new one takes over at once, and
 * the page loads it when nobody notices (`keep.js`).
 */
const policy = self.trustedTypes
  ? trustedTypes.createPolicy("aldis-worker", { createScriptURL: (name) => name })
  : { createScriptURL: (name) => name };
importScripts(policy.createScriptURL("shell.js"));

const PREFIX = "aldis-page-";
const CACHE = PREFIX + self.SHELL.version;
const KEPT = new Set(self.SHELL.files);

self.addEventListener("install", (event) => {
  event.waitUntil(install());
});

self.addEventListener("activate", (event) => {
  event.waitUntil(takeOver());
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const url = new URL(request.url);
  if (request.method !== "GET" || url.origin !== self.location.origin || !KEPT.has(url.pathname)) return;
  event.respondWith(answer(request, url.pathname));
});

self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  event.waitUntil(open(event.notification.data && event.notification.data.user));
});

/** All files or none. They are asked for past the HTTP cache's own judgement, so that all are of one version. */
async function install() {
  const cache = await caches.open(CACHE);
  await cache.addAll(self.SHELL.files.map((path) => new Request(path, { cache: "no-cache" })));
  await self.skipWaiting();
}

async function takeOver() {
  const others = (await caches.keys()).filter((name) => name.startsWith(PREFIX) && name !== CACHE);
  await Promise.all(others.map((name) => caches.delete(name)));
  await self.clients.claim();
}

async function answer(request, path) {
  const kept = await caches.match(path, { cacheName: CACHE });
  return kept || fetch(request);
}

/** A window that is there comes to the front, else one is opened. */
async function open(user) {
  const place = new URL(user ? `/#/c/${encodeURIComponent(user)}` : "/", self.location.origin);
  const windows = await self.clients.matchAll({ type: "window", includeUncontrolled: true });
  const ours = windows.filter((one) => new URL(one.url).pathname === "/");
  const chosen = ours.find((one) => one.focused) || ours[0];
  if (!chosen) return self.clients.openWindow(place);
  if (user) chosen.postMessage({ type: "open", user });
  return chosen.focus();
}
