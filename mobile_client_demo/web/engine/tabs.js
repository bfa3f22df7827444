// One tab of this browser has the chat: two would share a device and drive each other out.

const NAME = "aldis-chat";
const ANSWER = 300;
const LEAVE = 2_500;

export class Tabs {
  #id;
  #channel;
  #has = false;
  #release = null;
  /** Another tab wants the chat: ends what this one does with it. @type {() => Promise<void>} */
  onleave = async () => {};

  /** @param {string} id of this tab */
  constructor(id) {
    this.#id = id;
    this.#channel = globalThis.BroadcastChannel ? new BroadcastChannel(NAME) : null;
    if (this.#channel) this.#channel.onmessage = ({ data }) => void this.#heard(data);
  }

  /** Whether this tab has the chat from now on: where no other one has it. */
  async claim() {
    this.#has = navigator.locks ? await this.#lock({ ifAvailable: true }) : false;
    if (this.#has || (await this.#ask("who", ANSWER))) return this.#has;
    // nobody says so: without locks nobody has it, and with them one that is just being closed
    this.#has = navigator.locks ? await this.#lock({ signal: AbortSignal.timeout(ANSWER) }) : true;
    return this.#has;
  }

  /** Brings the chat here. The other tab is asked to let go; one that does not answer is not waited for. */
  async take() {
    const left = await this.#ask("leave", LEAVE);
    if (navigator.locks) {
      const has = left && (await this.#lock({ signal: AbortSignal.timeout(ANSWER) }));
      if (!has) await this.#lock({ steal: true });
    }
    this.#has = true;
  }

  /** Resolves when the lock is held, or not to be had. */
  #lock(how) {
    return new Promise((resolve) => {
      const held = navigator.locks.request(NAME, how, (lock) => {
        resolve(lock !== null);
        return lock && new Promise((release) => (this.#release = release));
      });
      held.catch(() => {
        resolve(false);
        void this.leave(); // another tab has taken it, if it was ours
      });
    });
  }

  /** @returns {Promise<boolean>} whether a tab has answered in time */
  #ask(what, patience) {
    if (this.#channel === null) return Promise.resolve(false);
    return new Promise((resolve) => {
      const timer = setTimeout(() => resolve(false), patience);
      this.answered = () => {
        clearTimeout(timer);
        resolve(true);
      };
      this.#channel.postMessage({ what, from: this.#id });
    });
  }

  async #heard({ what, from, to }) {
    if (what === "answer" && to === this.#id) this.answered?.();
    if (!this.#has || (what !== "who" && what !== "leave")) return;
    if (what === "leave") await this.leave();
    this.#channel.postMessage({ what: "answer", to: from });
  }

  /** Lets go of the chat: another tab has it. */
  async leave() {
    if (!this.#has) return;
    this.#has = false;
    await this.onleave();
    this.#release?.();
    this.#release = null;
  }
}
