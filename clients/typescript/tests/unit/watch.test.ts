import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { BookingRequestSchema } from "../../careinvitation/v1/booking_request_pb.js";
import {
  type WatchWorklistResponse,
  WatchWorklistResponseSchema,
} from "../../careinvitation/v1/worklist_service_pb.js";
import { keepWatching } from "../../src/board/watch.js";

const COMPLETE = create(WatchWorklistResponseSchema, { event: { case: "snapshotComplete", value: {} } });
const HEARTBEAT = create(WatchWorklistResponseSchema, { event: { case: "heartbeat", value: {} } });

function row(name: string): WatchWorklistResponse {
  const value = create(BookingRequestSchema, { name });
  return create(WatchWorklistResponseSchema, { event: { case: "upserted", value } });
}

/** A service of which each watch is a list of what it sends: a response, a failure, or nothing more. */
class Fake {
  opened = 0;
  send: (response: WatchWorklistResponse | Error) => void = () => undefined;
  readonly kinds: string[] = [];
  rows: string[] = [];
  readonly hints = new EventTarget();
  readonly #end = new AbortController();

  constructor() {
    const watched = {
      onConnection: ({ kind }: { kind: string }) => this.kinds.push(kind),
      onRows: (rows: ReadonlyMap<string, unknown>) => {
        this.rows = [...rows.keys()];
      },
      onHeard: () => undefined,
    };
    void keepWatching((signal) => this.#open(signal), watched, this.hints, this.#end.signal);
  }

  end(): void {
    this.#end.abort();
  }

  async *#open(signal: AbortSignal) {
    this.opened += 1;
    const waiting: (WatchWorklistResponse | Error)[] = [];
    let wake = () => {};
    this.send = (response) => {
      waiting.push(response);
      wake();
    };
    signal.addEventListener("abort", () => this.send(new ConnectError("gone", Code.Canceled)));
    for (;;) {
      const next = waiting.shift();
      if (next instanceof Error) throw next;
      if (next) yield next;
      else await new Promise<void>((resolve) => (wake = resolve));
    }
  }
}

let fake: Fake;

beforeEach(() => {
  vi.useFakeTimers();
  fake = new Fake();
});

afterEach(() => {
  fake.end();
  vi.useRealTimers();
});

const settle = () => vi.advanceTimersByTimeAsync(0);

test("nothing is live before the list as it stands is complete", async () => {
  fake.send(row("a"));
  await settle();
  expect(fake.kinds).toEqual(["connecting"]);
  expect(fake.rows).toEqual([]);
  fake.send(COMPLETE);
  fake.send(row("b"));
  await settle();
  expect(fake.kinds).toEqual(["connecting", "live"]);
  expect(fake.rows).toEqual(["a", "b"]);
});

test("an ended stream is opened again, and its rows stay until the new ones are complete", async () => {
  fake.send(row("a"));
  fake.send(COMPLETE);
  await settle();
  fake.send(new ConnectError("the server stops", Code.Unavailable));
  await settle();
  expect(fake.kinds.at(-1)).toBe("waiting");
  await vi.advanceTimersByTimeAsync(600);
  expect(fake.opened).toBe(2);
  fake.send(row("b"));
  await settle();
  expect(fake.rows).toEqual(["a"]);
  fake.send(COMPLETE);
  await settle();
  expect(fake.rows).toEqual(["b"]);
  expect(fake.kinds.at(-1)).toBe("live");
});

test("a stream that is silent is said to be so, and then opened again", async () => {
  fake.send(COMPLETE);
  await vi.advanceTimersByTimeAsync(44_000);
  expect(fake.kinds.at(-1)).toBe("live");
  await vi.advanceTimersByTimeAsync(3_000);
  expect(fake.kinds.at(-1)).toBe("silent");
  fake.send(HEARTBEAT);
  await settle();
  expect(fake.kinds.at(-1)).toBe("live");
  await vi.advanceTimersByTimeAsync(92_000);
  expect(fake.opened).toBe(2);
});

test("pauses grow while the service is away, and a hint ends one", async () => {
  const fail = async () => {
    fake.send(new ConnectError("away", Code.Unknown));
    await settle();
  };
  for (let times = 0; times < 8; times += 1) {
    await fail();
    await vi.advanceTimersByTimeAsync(30_001);
  }
  expect(fake.opened).toBe(9);
  await fail();
  await vi.advanceTimersByTimeAsync(10_000);
  expect(fake.opened, "the pause is 15 seconds at least").toBe(9);
  fake.hints.dispatchEvent(new Event("wake"));
  await settle();
  expect(fake.opened).toBe(10);
});

test("a lost network ends what is live at once", async () => {
  fake.send(COMPLETE);
  await settle();
  fake.hints.dispatchEvent(new Event("lost"));
  await settle();
  expect(fake.kinds.at(-1)).toBe("waiting");
});

test.each([Code.Unauthenticated, Code.PermissionDenied])(
  "what somebody has to mend is not tried again: %d",
  async (code) => {
    fake.send(new ConnectError("no", code));
    await settle();
    expect(fake.kinds.at(-1)).toBe("refused");
    await vi.advanceTimersByTimeAsync(120_000);
    expect(fake.opened).toBe(1);
  },
);
