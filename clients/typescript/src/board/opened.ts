/** The request whose page is open: read anew whenever the watch, an action or a person says so. */

import { computed, effect, signal } from "@preact/signals";
import type { BookingRequest } from "../../careinvitation/v1/booking_request_pb.js";
import type { HistoryEntry } from "../../careinvitation/v1/history_pb.js";
import { type Problem, problemOf } from "../client/problem.js";
import type { Board } from "./board.js";

const PAGE_SIZE = 500;
/** Longer histories are cut off, at their latest end. */
const PAGES_MAX = 10;

export interface Read {
  request: BookingRequest;
  history: readonly HistoryEntry[];
  at: Date;
}

export class Opened {
  readonly read = signal<Read | undefined>(undefined);
  readonly problem = signal<Problem | undefined>(undefined);
  /** True of a request that is on no list: the watch does not tell of its changes. */
  readonly isSettled = computed(() => this.board.rows.value?.has(this.name) === false);
  readonly #end = new AbortController();
  #running: Promise<void> | undefined;
  #isAgain = false;
  readonly #stop: () => void;

  constructor(
    readonly board: Board,
    readonly name: string,
  ) {
    const row = computed(() => board.rows.value?.get(name));
    this.#stop = effect(() => {
      row.value;
      void this.refresh();
    });
  }

  close(): void {
    this.#stop();
    this.#end.abort();
  }

  /** Reads the request again; once more after that, if it was asked for meanwhile. */
  refresh(): Promise<void> {
    if (this.#running) {
      this.#isAgain = true;
      return this.#running;
    }
    this.#running = this.#refresh().finally(() => {
      this.#running = undefined;
    });
    return this.#running;
  }

  async #refresh(): Promise<void> {
    const { signal } = this.#end;
    try {
      do {
        this.#isAgain = false;
        const { requests } = this.board.clients;
        const [answer, history] = await Promise.all([
          this.board.ask((options) => requests.getBookingRequest({ name: this.name }, options), signal),
          this.#history(),
        ]);
        if (signal.aborted || !answer.bookingRequest) return;
        this.read.value = { request: answer.bookingRequest, history, at: new Date() };
        this.problem.value = undefined;
      } while (this.#isAgain);
    } catch (error) {
      if (!signal.aborted) this.problem.value = problemOf(error);
    }
  }

  async #history(): Promise<HistoryEntry[]> {
    const found: HistoryEntry[] = [];
    let pageToken = "";
    for (let page = 0; page < PAGES_MAX; page += 1) {
      const query = { name: this.name, pageSize: PAGE_SIZE, pageToken };
      const { requests } = this.board.clients;
      const answer = await this.board.ask((options) => requests.listHistory(query, options), this.#end.signal);
      found.push(...answer.entries);
      pageToken = answer.nextPageToken;
      if (!pageToken) break;
    }
    return found;
  }
}
