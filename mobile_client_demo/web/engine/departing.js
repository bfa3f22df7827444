// Which messages may leave next. Pure.

const WINDOW = 20;

/**
 * Those that may leave now, in this order. A text leaves after those composed before it; a file when it is uploaded, for
 * texts do not wait for it.
 * @param {Iterable<import("./conversation.js").Row>} rows @param {ReadonlySet<string>} sending keys
 */
export function departing(rows, sending, window = WINDOW) {
  const ready = [...rows].filter((one) => !sending.has(one.key) && (one.file === null || one.file.fileId !== null));
  return ready.sort((one, other) => one.order - other.order).slice(0, Math.max(0, window - sending.size));
}
