// Bytes and texts: what every other module needs and no browser gives in one call.

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true });

/** @param {string} text */
export const utf8 = (text) => encoder.encode(text);

/** Throws `TypeError` where the bytes are no UTF-8. @param {BufferSource} bytes */
export const textOf = (bytes) => decoder.decode(bytes);

/** @param {number} count */
export const randomBytes = (count) => crypto.getRandomValues(new Uint8Array(count));

/** @param {Uint8Array} bytes */
export const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

/** The id of a message or a device: never made twice. */
export const newId = () => hex(randomBytes(16));

/** @param {Uint8Array} bytes */
export function base64(bytes) {
  let binary = "";
  for (let start = 0; start < bytes.length; start += 0x8000) {
    binary += String.fromCharCode(...bytes.subarray(start, start + 0x8000));
  }
  return btoa(binary);
}

/** Throws where the text is not base64 with padding. @param {string} text */
export function unbase64(text) {
  if (typeof text !== "string" || text.length % 4 !== 0) throw new TypeError("not base64");
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

/** The text with half an emoji replaced: the server takes none. @param {string} text */
export const wellFormed = (text) =>
  text.replace(/[\ud800-\udbff][\udc00-\udfff]|[\ud800-\udfff]/g, (found) => (found.length === 2 ? found : "\ufffd"));

/** @param {...Uint8Array} parts */
export function joined(...parts) {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let place = 0;
  for (const part of parts) {
    whole.set(part, place);
    place += part.length;
  }
  return whole;
}
