// A worker that counts time: a page in the background is given its own timers once a minute at best, and would be
// disconnected for its silence.
const running = new Map();

self.onmessage = ({ data: { id, every } }) => {
  clearInterval(running.get(id));
  if (every === null) running.delete(id);
  else running.set(id, setInterval(() => self.postMessage(id), every));
};
