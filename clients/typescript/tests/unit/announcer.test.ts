import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Announcer } from "../../src/board/announcer.js";

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

test("what people did is told at once, and a remark does not talk over it", () => {
  const announcer = new Announcer();
  announcer.remark("now 2");
  announcer.say("done");
  expect(announcer.said.value).toBe("done");
  vi.advanceTimersByTime(2_900);
  expect(announcer.said.value).toBe("done");
  vi.advanceTimersByTime(200);
  expect(announcer.said.value).toBe("now 2");
});

test("many changes are one remark, and the next comes half a minute later", () => {
  const announcer = new Announcer();
  for (const count of [1, 2, 3]) announcer.remark(`now ${count}`);
  vi.advanceTimersByTime(3_000);
  expect(announcer.said.value).toBe("now 3");
  announcer.remark("now 4");
  vi.advanceTimersByTime(29_000);
  expect(announcer.said.value).toBe("now 3");
  vi.advanceTimersByTime(1_000);
  expect(announcer.said.value).toBe("now 4");
});

test("the same is said again when it is done again", () => {
  const announcer = new Announcer();
  announcer.say("done");
  const first = announcer.said.value;
  announcer.say("done");
  expect(announcer.said.value).not.toBe(first);
  expect(announcer.said.value.trim()).toBe("done");
});
