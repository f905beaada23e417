/** What a screen reader is told without being asked: little, and nothing twice. */

import { signal } from "@preact/signals";

/** The least time between two remarks on the length of a list. */
const QUIET_MS = 30_000;
/** Time in which something more may come that belongs to a remark, and in which what was said before is heard. */
const SETTLE_MS = 3_000;

export class Announcer {
  /** The text of the page's only live region. */
  readonly said = signal("");
  #waiting: ReturnType<typeof setTimeout> | undefined;
  #freeAt = 0;

  /** Says something at once, such as the outcome of an action. */
  say(text: string): void {
    // The same text again would be no change, and not be heard.
    this.said.value = this.said.value === text ? `${text}\u00a0` : text;
    this.#freeAt = Math.max(this.#freeAt, Date.now() + SETTLE_MS);
  }

  /** Says something that can wait. The latest remark takes the place of those before. */
  remark(text: string): void {
    clearTimeout(this.#waiting);
    const wait = Math.max(SETTLE_MS, this.#freeAt - Date.now());
    this.#waiting = setTimeout(() => {
      this.say(text);
      this.#freeAt = Date.now() + QUIET_MS;
    }, wait);
  }

  /** Forgets a remark that has not been said. */
  hush(): void {
    clearTimeout(this.#waiting);
  }
}
