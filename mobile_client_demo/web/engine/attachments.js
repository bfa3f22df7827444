// The files of messages as a page sees them: fetched, kept, and under an address while somebody looks.
import { ChatError } from "./errors.js";
import { harmless } from "./wire.js";

export class Files {
  #db;
  #shelf;
  #transfers;
  #outbox;
  #changed;
  #urls = new Map();

  /**
   * @param {{db: import("./database.js").Database, shelf: import("./shelf.js").Shelf,
   *   transfers: import("./transfers.js").Transfers, outbox: import("./outbox.js").Outbox, changed: () => void}} uses
   */
  constructor({ db, shelf, transfers, outbox, changed }) {
    this.#db = db;
    this.#shelf = shelf;
    this.#transfers = transfers;
    this.#outbox = outbox;
    this.#changed = changed;
  }

  clear() {
    for (const url of this.#urls.values()) URL.revokeObjectURL(url);
    this.#urls.clear();
  }

  async #row(key) {
    const row = await this.#db.read((work) => work.get("rows", key));
    if (row === undefined) throw new ChatError("gone", "This message is not here any more.");
    return row;
  }

  /** @param {string} peer @param {File} file */
  async send(peer, file) {
    this.#address(await this.#outbox.file(peer, file), file);
  }

  async download(key) {
    const row = await this.#row(key);
    if (row.file === null) throw new ChatError("no-file", "This message has no file.");
    let fields = { local: true, gone: false };
    let failure = null;
    try {
      const blob = (await this.#transfers.kept(key)) ?? (await this.#transfers.download(row));
      if (blob === null) return;
      this.#address(key, blob);
    } catch (error) {
      if (error.code !== "unknown-file") throw error;
      [fields, failure] = [{ local: false, gone: true }, error];
    }
    await this.#shelf.change([row.peer], async (draft) => {
      const known = await draft.row(key);
      if (known !== undefined) await draft.keep({ ...known, file: { ...known.file, ...fields } });
    });
    if (failure !== null) throw failure;
  }

  /** Addresses for the files of a conversation that are here. */
  async addresses(peer) {
    for (const { key, file } of this.#shelf.get(peer)?.rows ?? []) {
      if (!file?.local || this.#urls.has(key)) continue;
      const blob = await this.#transfers.kept(key);
      if (this.#shelf.open !== peer) return;
      if (blob !== undefined) this.#address(key, blob);
      else await this.#lost(peer, key);
    }
  }

  async #lost(peer, key) {
    await this.#shelf.change([peer], async (draft) => {
      const known = await draft.row(key);
      if (known?.mid) await draft.keep({ ...known, file: { ...known.file, local: false } });
    });
  }

  #address(key, blob) {
    if (this.#urls.has(key)) return;
    // whatever it calls itself: under an address of this page nothing may run
    const type = harmless(blob.type);
    this.#urls.set(key, URL.createObjectURL(blob.type === type ? blob : new Blob([blob], { type })));
    this.#changed();
  }

  /** Gives back what was for the screen. */
  leave(peer) {
    for (const { key } of this.#shelf.get(peer)?.rows ?? []) {
      const url = this.#urls.get(key);
      if (url !== undefined) URL.revokeObjectURL(url);
      this.#urls.delete(key);
    }
  }

  urlOf = (key) => this.#urls.get(key) ?? null;
}
