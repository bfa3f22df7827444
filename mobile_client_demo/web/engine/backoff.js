// How long to wait before the next attempt to connect. Pure.

export const FIRST = 1_000;
export const LONGEST = 30_000;

/**
 * Milliseconds until the next attempt: doubled with each failure, half of it by chance, so that the clients of a server
 * that has come back do not come all at once.
 * @param {number} failures in a row, at least 1
 * @param {number} chance in [0, 1)
 */
export function delay(failures, chance) {
  const whole = Math.min(LONGEST, FIRST * 2 ** Math.min(failures - 1, 10));
  return Math.max(FIRST / 2, Math.round(whole / 2 + (whole / 2) * chance));
}
