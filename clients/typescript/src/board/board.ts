/** What the page shows, and where it comes from. */

import { Code } from "@connectrpc/connect";
import { batch, computed, effect, signal } from "@preact/signals";
import { BookingRequestView, type Worklist } from "../../careinvitation/v1/worklist_service_pb.js";
import { type Problem, problemOf } from "../client/problem.js";
import { repeat } from "../client/repeat.js";
import { Announcer } from "./announcer.js";
import { type Clients, clientsOf, DEADLINE } from "./clients.js";
import { clock } from "./model/format.js";
import { hashOf, type Route, routeOf } from "./model/route.js";
import { counts, LISTS, type List, type Order, type Rows } from "./model/rows.js";
import { leave, token } from "./session.js";
import { texts } from "./text/language.js";
import { type Connection, keepWatching } from "./watch.js";

/** An interruption that ends sooner is not spoken of. */
const SPOKEN_AFTER_MS = 3_000;

export class Board {
  readonly clients: Clients;
  readonly announcer = new Announcer();
  readonly route = signal<Route>(routeOf(location.hash));
  /** Absent until the first list has come. */
  readonly rows = signal<Rows | undefined>(undefined);
  readonly connection = signal<Connection>({ kind: "connecting" });
  /** When the service was heard last. */
  readonly heardAt = signal<Date | undefined>(undefined);
  readonly order = signal<Order>("start");
  /** Why a token is needed before anything else. */
  readonly door = signal<Problem | undefined>(undefined);
  readonly careUnit = computed(() => (this.route.value.at === "units" ? "" : this.route.value.careUnit));
  readonly counts = computed<ReadonlyMap<Worklist, number>>(() => counts(this.rows.value ?? new Map()));
  /** True as long as what is shown is what the service says. */
  readonly isLive = computed(() => this.connection.value.kind === "live");
  /** The request that was opened last, to which the focus goes back in its list. */
  lastOpened = "";
  /** The list that was looked at last, to which a request's page leads back. */
  lastList: List | undefined = undefined;
  readonly #hints = new EventTarget();
  readonly #retries = signal(0);
  #wasTold = false;

  constructor(server: string) {
    this.clients = clientsOf(server, () => token.value);
    addEventListener("hashchange", () => {
      this.route.value = routeOf(location.hash);
    });
    addEventListener("online", () => this.wake());
    addEventListener("offline", () => this.#hints.dispatchEvent(new Event("lost")));
    document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && this.wake());
    effect(() => this.#watch(this.careUnit.value, token.value, this.#retries.value));
    effect(() => this.#tellOfInterruption());
  }

  go(route: Route): void {
    location.hash = hashOf(route);
  }

  /** Connects at once, if it is not connected. */
  wake(): void {
    this.#hints.dispatchEvent(new Event("wake"));
  }

  /** Tries again what the service has refused, or connects at once. */
  retry(): void {
    if (this.connection.value.kind === "refused") this.#retries.value += 1;
    else this.wake();
  }

  signOut(): void {
    batch(() => {
      this.rows.value = undefined;
      leave();
    });
  }

  /** Makes a call that only reads, again while there is no answer. When it needs another token, the page asks for one. */
  async ask<T>(
    call: (options: { timeoutMs: number; signal: AbortSignal }) => Promise<T>,
    signal: AbortSignal,
  ): Promise<T> {
    try {
      return await repeat(() => call({ ...DEADLINE, signal }), { signal, attempts: Number.POSITIVE_INFINITY });
    } catch (error) {
      if (!signal.aborted) this.knock(problemOf(error));
      throw error;
    }
  }

  /** Asks for a token when that is what a failure is about. */
  knock(problem: Problem): void {
    if (problem.code === Code.Unauthenticated) this.door.value = problem;
  }

  /** Watches a care unit, until it or the token is another one, or somebody wants to try again. */
  #watch(careUnit: string, _token: string, _retry: number): (() => void) | undefined {
    batch(() => {
      this.rows.value = undefined;
      this.heardAt.value = undefined;
      this.door.value = undefined;
      this.connection.value = { kind: "connecting" };
    });
    if (!careUnit) return undefined;
    const end = new AbortController();
    const query = { worklists: [...LISTS], careUnits: [careUnit] };
    void keepWatching(
      (signal) => this.clients.worklists.watchWorklist({ query, view: BookingRequestView.BASIC }, { signal }),
      {
        onConnection: (connection) => {
          this.connection.value = connection;
          if (connection.kind === "refused") this.knock(connection.problem);
        },
        onRows: (rows) => {
          this.rows.value = rows;
        },
        onHeard: (at) => {
          this.heardAt.value = at;
        },
      },
      this.#hints,
      end.signal,
    );
    return () => end.abort();
  }

  #tellOfInterruption(): (() => void) | undefined {
    const isInterrupted = !this.isLive.value && this.rows.value !== undefined;
    if (!isInterrupted) {
      if (this.#wasTold && this.isLive.value) this.announcer.say(texts.peek().connection.back);
      this.#wasTold = this.#wasTold && !this.isLive.value;
      return undefined;
    }
    const timer = setTimeout(() => {
      this.#wasTold = true;
      const { connection, locale } = texts.peek();
      const since = this.heardAt.peek();
      this.announcer.say(since ? connection.waitingLong(clock(since, locale)) : connection.waitingFirst);
    }, SPOKEN_AFTER_MS);
    return () => clearTimeout(timer);
  }
}
