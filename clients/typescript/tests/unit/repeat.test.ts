import { Code, ConnectError } from "@connectrpc/connect";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { problemOf } from "../../src/client/problem.js";
import { backOff, mayRepeat, repeat } from "../../src/client/repeat.js";

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

test("pauses double up to half a minute, and are partly random", () => {
  expect([0, 1, 2, 20].map((attempt) => backOff(attempt, () => 1))).toEqual([500, 1000, 2000, 30_000]);
  expect(backOff(1, () => 0)).toBe(500);
});

test("a call is repeated while nobody knows what came of it", async () => {
  const call = vi.fn<() => Promise<string>>();
  call.mockRejectedValueOnce(new ConnectError("failed to fetch", Code.Unknown));
  call.mockRejectedValueOnce(new ConnectError("away", Code.Unavailable));
  call.mockResolvedValue("done");
  const answer = repeat(call);
  await vi.advanceTimersByTimeAsync(10_000);
  expect(await answer).toBe("done");
  expect(call).toHaveBeenCalledTimes(3);
});

test("a refusal is not repeated, and repeats have an end", async () => {
  const refused = vi.fn(() => Promise.reject(new ConnectError("no", Code.FailedPrecondition)));
  await expect(repeat(refused)).rejects.toThrow("no");
  expect(refused).toHaveBeenCalledTimes(1);
  const away = vi.fn(() => Promise.reject(new ConnectError("away", Code.Unavailable)));
  const failing = expect(repeat(away, { attempts: 3 })).rejects.toThrow("away");
  await vi.advanceTimersByTimeAsync(60_000);
  await failing;
  expect(away).toHaveBeenCalledTimes(3);
});

test("a fault of the service itself is not repeated as one of the network is", () => {
  const problem = problemOf(new ConnectError("a fault", Code.Internal));
  expect(mayRepeat(problem)).toBe(true);
  expect(mayRepeat({ ...problem, reason: "INTERNAL" })).toBe(false);
});
