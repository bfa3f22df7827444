// One kind of error leaves the engine: a word for programs, a sentence for people.
import { Elsewhere } from "./database.js";

export class ChatError extends Error {
  /**
   * @param {string} code the last word of the server's problem type, or one of ours: "offline", "too-long" …
   * @param {string} message for people
   * @param {{retryAfter?: number, status?: number}} [more] `retryAfter` in seconds
   */
  constructor(code, message, more = {}) {
    super(message);
    this.name = "ChatError";
    this.code = code;
    this.retryAfter = more.retryAfter;
    this.status = more.status;
  }
}

const WORDS = {
  "wrong-login": "The user name or the password is wrong.",
  "user-taken": "This user name is taken.",
  "unknown-user": "There is nobody of this name.",
  "not-with-oneself": "That is you.",
  "blocked-by-you": "You have blocked this person. Unblock first.",
  "not-friends": "You are not friends.",
  "relation-sealed": "This conversation is sealed: only the apps of the two of you make its keys.",
  "storage-full": "There is no room left for files on the server.",
  "too-large": "This is too large for the server.",
  "type-refused": "The server takes no files of this type.",
  "unknown-file": "This file is not on the server any more.",
  "hash-mismatch": "The file was changed on its way.",
  "limit-reached": "The server allows no more of these.",
  "too-many-attempts": "Too many attempts.",
  "too-many-transfers": "Too many transfers at once.",
  "invalid-request": "The server did not accept this.",
  "no-such-request": "This request is not there any more.",
  "unknown-device": "This device is not there any more.",
};

const REASONS = {
  not_friend: "Not delivered: this person does not take messages from you.",
  too_large: "Too long for one message.",
  bad_payload: "The server did not accept this message.",
  forbidden: "You may not write here.",
  rate: "Too many messages at once.",
};

/** Why a message was rejected, for people. @param {string} reason of a `failed` receipt */
export const rejected = (reason) => REASONS[reason] ?? `The server rejected this message (${reason}).`;

/**
 * @param {number} status
 * @param {any} problem the document of RFC 9457, or null
 * @param {string|null} retryAfter the header
 */
export function problemError(status, problem, retryAfter) {
  const code = String(problem?.type ?? "").split(":").pop() || `status-${status}`;
  const seconds = retryAfter === null ? undefined : Math.max(0, Number(retryAfter)) || undefined;
  let message = WORDS[code] ?? (status >= 500 ? "The server has trouble at the moment." : problem?.detail);
  message ??= `The server answered ${status}.`;
  // what it objects to in detail is worth telling where a person typed it
  if (code === "invalid-request" && problem?.detail) message = String(problem.detail);
  if (seconds) message += seconds > 90 ? ` Try again in ${Math.ceil(seconds / 60)} minutes.` : ` Try again in ${seconds} s.`;
  return new ChatError(code, message, { retryAfter: seconds, status });
}

export const elsewhere = () => new ChatError("elsewhere", "The chat is open in another tab.");
export const offline = () => new ChatError("offline", "The server cannot be reached.");

/** Passing: it may go better later without anybody doing anything. @param {unknown} error */
export const passing = (error) =>
  error instanceof ChatError &&
  (error.code === "offline" || error.code === "still-running" || error.status === 429 || error.status === 408 || ((error.status ?? 0) >= 500 && error.status !== 507));

/** No defect of this page: what passes, a login that is over, a chat that another tab has. @param {unknown} error */
export const expected = (error) => passing(error) || error.code === "signed-out" || error instanceof Elsewhere;
