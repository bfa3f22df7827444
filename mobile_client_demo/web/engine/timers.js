// Timers that run in the background too, where the browser gives a worker; else the page's own.

/** @typedef {{set: (what: () => void, every: number) => any, clear: (timer: any) => void}} Timers as mqtt.js takes them */

let made = null;

/** The same for everybody. @returns {Timers} */
export function timers() {
  made ??= make();
  return made;
}

function make() {
  try {
    return workerTimers(new Worker(address("ticker.js")));
  } catch {
    return { set: (what, every) => setInterval(what, every), clear: (timer) => clearInterval(timer) };
  }
}

/** Of a script of this folder, also where the page asks for trusted types. */
function address(name) {
  const url = String(new URL(name, import.meta.url));
  if (!globalThis.trustedTypes) return url;
  return trustedTypes.createPolicy("aldis-engine", { createScriptURL: () => url }).createScriptURL(url);
}

function workerTimers(worker) {
  const running = new Map();
  let count = 0;
  let native = false;
  worker.onmessage = ({ data: id }) => running.get(id)?.what();
  // it could not be loaded: what runs already goes on by the page's timers
  worker.onerror = () => {
    native = true;
    for (const timer of running.values()) timer.own = setInterval(timer.what, timer.every);
  };
  return {
    set(what, every) {
      count += 1;
      const timer = { what, every, own: native ? setInterval(what, every) : null };
      running.set(count, timer);
      if (!native) worker.postMessage({ id: count, every });
      return count;
    },
    clear(id) {
      const timer = running.get(id);
      running.delete(id);
      if (timer?.own) clearInterval(timer.own);
      else worker.postMessage({ id, every: null });
    },
  };
}
