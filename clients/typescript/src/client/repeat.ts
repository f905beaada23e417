/** Repeats of calls whose outcome is not known. A write keeps its `request_id`, so that it is done once. */

import { Code, type Interceptor } from "@connectrpc/connect";
import { type Problem, problemOf } from "./problem.js";

const FIRST_PAUSE_MS = 500;
const PAUSE_MAX_MS = 30_000;

/** Returns the pause before an attempt, counted from 0: doubling, and half of it random so that clients spread. */
export function backOff(attempt: number, random: () => number = Math.random): number {
  const pause = Math.min(FIRST_PAUSE_MS * 2 ** attempt, PAUSE_MAX_MS);
  return pause / 2 + (random() * pause) / 2;
}

/** Says that a failed call may have been carried out, or will be when it is repeated later. */
export function mayRepeat({ code, reason }: Problem): boolean {
  switch (code) {
    case Code.Unavailable:
    case Code.DeadlineExceeded:
    case Code.ResourceExhausted:
      return true;
    // The network's own failures have no reason of the service.
    case Code.Unknown:
    case Code.Internal:
    case Code.DataLoss:
      return reason === "";
    default:
      return false;
  }
}

/** Waits, and rejects when the signal is aborted meanwhile. */
export function pause(milliseconds: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, milliseconds);
    signal?.addEventListener("abort", stop, { once: true });
  });
}

export interface Patience {
  /** How often the call is made at most. */
  attempts?: number;
  signal?: AbortSignal;
  /** Is told before each repeat. */
  onRepeat?: (problem: Problem) => void;
}

/** Makes a call, and repeats the same call while its outcome is not known. */
export async function repeat<T>(call: () => Promise<T>, patience: Patience = {}): Promise<T> {
  const { attempts = 5, signal, onRepeat } = patience;
  for (let attempt = 0; ; attempt += 1) {
    try {
      return await call();
    } catch (error) {
      const problem = problemOf(error);
      if (!mayRepeat(problem) || attempt + 1 >= attempts || signal?.aborted) throw error;
      onRepeat?.(problem);
      await pause(Math.max(problem.retryAfter ?? 0, backOff(attempt)), signal);
    }
  }
}

/** Repeats calls, for a transport. A stream is opened again by its reader, who knows where to go on. */
export const repeating: Interceptor = (next) => (call) =>
  call.stream ? next(call) : repeat(() => next(call), { signal: call.signal });
