/** One watch of a care unit's worklists, which is opened again whenever it ends. Nothing here knows of the page. */

import { Code } from "@connectrpc/connect";
import type { WatchWorklistResponse } from "../../careinvitation/v1/worklist_service_pb.js";
import { type Problem, problemOf } from "../client/problem.js";
import { backOff, pause } from "../client/repeat.js";
import { after, type Row, type Rows } from "./model/rows.js";

/** Heartbeats come every 15 seconds, unless the operator has set another time. */
const SILENT_AFTER_MS = 45_000;
/** The contract says: when nothing has come for so long, connect again. */
const DEAD_AFTER_MS = 90_000;
const LOOK_EVERY_MS = 1_000;

export type Connection =
  | { kind: "connecting" }
  | { kind: "live" }
  /** Nothing has come for a while: the stream may be dead. */
  | { kind: "silent" }
  /** The stream has ended; it is opened again by itself. */
  | { kind: "waiting" }
  /** The service refuses: somebody has to do something first. */
  | { kind: "refused"; problem: Problem };

export interface Watched {
  onConnection(connection: Connection): void;
  /** Is given all rows: once for the list as it stands, and then at each change. */
  onRows(rows: Rows): void;
  /** Is told when the service was heard. */
  onHeard(at: Date): void;
}

/** Opens the watch; the signal ends it. */
export type Open = (signal: AbortSignal) => AsyncIterable<WatchWorklistResponse>;

/**
 * Keeps a watch open until the signal ends it or the service refuses. `hints` fires "wake" when it is worth while to
 * connect at once, and "lost" when the network is gone.
 */
export async function keepWatching(
  open: Open,
  watched: Watched,
  hints: EventTarget,
  signal: AbortSignal,
): Promise<void> {
  let attempt = 0;
  const onComplete = () => {
    attempt = 0;
  };
  while (!signal.aborted) {
    watched.onConnection({ kind: "connecting" });
    const problem = await watchOnce(open, watched, onComplete, hints, signal);
    if (signal.aborted) return;
    if (problem && needsSomebody(problem)) return watched.onConnection({ kind: "refused", problem });
    watched.onConnection({ kind: "waiting" });
    await pauseOrWake(Math.max(problem?.retryAfter ?? 0, backOff(attempt)), hints, signal);
    attempt += 1;
  }
}

/** Watches until the stream ends; returns why, if it did not end by itself. */
async function watchOnce(
  open: Open,
  watched: Watched,
  onComplete: () => void,
  hints: EventTarget,
  signal: AbortSignal,
): Promise<Problem | undefined> {
  const dead = new AbortController();
  const ear = listen(watched, hints, dead);
  let rows: Rows = new Map();
  // Filled in place until the snapshot is complete: the old rows stay on the page so long.
  const snapshot = new Map<string, Row>();
  let isComplete = false;
  try {
    for await (const response of open(AbortSignal.any([signal, dead.signal]))) {
      ear.heard(isComplete || response.event.case === "snapshotComplete");
      if (isComplete) {
        const changed = after(rows, response);
        if (changed !== rows) watched.onRows(changed);
        rows = changed;
      } else if (response.event.case === "upserted") {
        snapshot.set(response.event.value.name, { request: response.event.value, lists: response.worklists });
      } else if (response.event.case === "snapshotComplete") {
        isComplete = true;
        rows = snapshot;
        watched.onRows(rows);
        onComplete();
      }
    }
    return undefined;
  } catch (error) {
    return problemOf(error);
  } finally {
    ear.close();
  }
}

/** Says that the stream is live when something comes, silent when nothing does, and ends it when it is dead. */
function listen(watched: Watched, hints: EventTarget, dead: AbortController) {
  let last = Date.now();
  let said: "" | "live" | "silent" = "";
  const say = (kind: "live" | "silent") => {
    if (said !== kind) watched.onConnection({ kind });
    said = kind;
  };
  const look = setInterval(() => {
    const silence = Date.now() - last;
    if (silence > DEAD_AFTER_MS) dead.abort();
    else if (silence > SILENT_AFTER_MS && said === "live") say("silent");
  }, LOOK_EVERY_MS);
  const hinted = { signal: dead.signal };
  hints.addEventListener("lost", () => dead.abort(), hinted);
  hints.addEventListener("wake", () => said === "silent" && dead.abort(), hinted);
  return {
    heard(isLive: boolean) {
      last = Date.now();
      if (!isLive) return;
      watched.onHeard(new Date(last));
      say("live");
    },
    close() {
      clearInterval(look);
      dead.abort();
    },
  };
}

function needsSomebody({ code }: Problem): boolean {
  switch (code) {
    case Code.Unauthenticated:
    case Code.PermissionDenied:
    case Code.InvalidArgument:
    case Code.NotFound:
    case Code.Unimplemented:
      return true;
    default:
      return false;
  }
}

async function pauseOrWake(milliseconds: number, hints: EventTarget, signal: AbortSignal): Promise<void> {
  const woken = new AbortController();
  const onWake = () => woken.abort();
  hints.addEventListener("wake", onWake, { once: true });
  await pause(milliseconds, AbortSignal.any([signal, woken.signal])).catch(() => undefined);
  hints.removeEventListener("wake", onWake);
}
