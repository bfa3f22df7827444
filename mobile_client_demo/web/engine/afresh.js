// Reading what others change: an answer is good for those who asked before it was asked for.

/**
 * Makes of `read` a function that answers every call with a run that has begun after the call: one at a time, and one more for all who ask while
 * it runs. Whoever has just heard of a change is not content with what was on its way already.
 * @template T
 * @param {() => Promise<T>} read
 * @returns {() => Promise<T>}
 */
export function afresh(read) {
  /** @type {Promise<T>|null} */
  let running = null;
  /** @type {Promise<T>|null} */
  let next = null;
  const begin = () => {
    running = read().finally(() => {
      running = null;
    });
    return running;
  };
  const follow = () => {
    next = null;
    return ask();
  };
  const ask = () => (running === null ? begin() : (next ??= running.then(follow, follow)));
  return ask;
}
