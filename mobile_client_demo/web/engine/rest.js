// Calls of the REST API (docs/api.md): JSON, problems as `ChatError`, a fresh token where the old one is over.
import { ChatError, offline, problemError } from "./errors.js";

const PATIENCE = 20_000;

/**
 * @typedef {object} Access where tokens come from
 * @property {() => Promise<string>} token the access token, refreshed before it ends
 * @property {(used: string) => Promise<string>} renew a new one after this one was refused; rejects where the login is over
 */

export class Rest {
  #base;
  #access;

  /** @param {string} base of the server, without a slash behind @param {Access} access */
  constructor(base, access) {
    this.#base = base;
    this.#access = access;
  }

  url(path) {
    return this.#base + path;
  }

  /**
   * One call; the document of the answer, or null where there is none.
   * @param {string} method @param {string} path
   * @param {any} [body]
   * @param {{open?: boolean, headers?: Record<string, string>, patience?: number}} [how] `open`: without a token
   */
  async call(method, path, body, how = {}) {
    return (await this.answer(method, path, body, how)).document;
  }

  /** The same with the answer's headers. */
  async answer(method, path, body, how = {}) {
    const headers = { Accept: "application/json", ...how.headers };
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const request = { method, headers, body: body === undefined ? undefined : JSON.stringify(body) };
    const response = how.open
      ? await this.#fetch(path, request, how.patience)
      : await this.authorised((token) =>
          this.#fetch(path, { ...request, headers: { ...headers, Authorization: `Bearer ${token}` } }, how.patience));
    return { document: await read(response), headers: response.headers };
  }

  /**
   * What `attempt(token)` answers; once more with a new token where the first was refused.
   * @param {(token: string) => Promise<Response>} attempt
   */
  async authorised(attempt) {
    const token = await this.#access.token();
    const response = await attempt(token);
    if (!(await refusedToken(response))) return response;
    return attempt(await this.#access.renew(token));
  }

  /** All pages of a list that is a bare document. @returns {Promise<any[]>} */
  async list(path) {
    const all = [];
    for await (const page of this.pages(path)) all.push(...page);
    return all;
  }

  /** The documents of all pages, of which `Link: <…>; rel="next"` names the next. */
  async *pages(path) {
    for (let next = path; next !== null; ) {
      const { document, headers } = await this.answer("GET", next);
      yield document;
      next = nextPage(headers);
    }
  }

  async #fetch(path, request, patience = PATIENCE) {
    try {
      const signal = AbortSignal.timeout(patience);
      return await fetch(this.url(path), { ...request, signal, cache: "no-store", credentials: "omit" });
    } catch {
      throw offline();
    }
  }
}

/** The path of the next page; null for none. @param {Headers} headers */
export function nextPage(headers) {
  const link = /<([^>]*)>\s*;[^,]*\brel="?next"?/.exec(headers.get("Link") ?? "");
  if (link === null) return null;
  const url = new URL(link[1], "http://any");
  return url.pathname + url.search;
}

/** Whether it was the token: a wrong password in a body has the same status. @param {Response} response */
async function refusedToken(response) {
  if (response.status !== 401) return false;
  const code = String((await document(response.clone()))?.type ?? "");
  return code.endsWith(":invalid-token") || code.endsWith(":session-ended") || code === "";
}

async function document(response) {
  try {
    return await response.json();
  } catch {
    return null;
  }
}

/** @param {Response} response */
export async function read(response) {
  if (response.ok) {
    if (response.status === 204) return null;
    const found = await document(response);
    if (found === null) throw new ChatError("offline", "The server's answer broke off.");
    return found;
  }
  throw problemError(response.status, await document(response), response.headers.get("Retry-After"));
}

/** A user or device id in a path. @param {string} id */
export const escaped = (id) => encodeURIComponent(id);
