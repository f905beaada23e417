import { create } from "@bufbuild/protobuf";
import { Code, ConnectError } from "@connectrpc/connect";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { Action, BookingRequestSchema, ContactOutcome } from "../../careinvitation/v1/booking_request_pb.js";
import { Intention } from "../../src/board/action/intention.js";
import type { Clients } from "../../src/board/clients.js";

const SEEN = create(BookingRequestSchema, { name: "careUnits/U/bookingRequests/1", etag: "r1" });
const CALL_BACK = { outcome: String(ContactOutcome.CALL_BACK), comment: "" };
const DECLINED = { outcome: String(ContactOutcome.DECLINED), comment: "" };

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

/** A person's intention at a service that answers with these failures, and then does what is asked. */
function begun(...failures: Code[]) {
  const ids: string[] = [];
  const call = vi.fn(async ({ requestId }: { requestId: string }) => {
    ids.push(requestId);
    const failure = failures.shift();
    if (failure !== undefined) throw new ConnectError("no", failure);
    return { bookingRequest: SEEN };
  });
  const requests = new Proxy({}, { get: () => call }) as Clients["requests"];
  const intention = new Intention(Action.RECORD_PATIENT_CONTACT, SEEN);
  const send = async (values: typeof DECLINED) => {
    const outcome = intention.send(requests, values, () => undefined, new AbortController().signal);
    await vi.advanceTimersByTimeAsync(60_000);
    return (await outcome).is;
  };
  return { ids, send };
}

test("a request_id belongs to one content", async () => {
  const { ids, send } = begun(Code.Unauthenticated, Code.InvalidArgument, Code.Unauthenticated);
  for (const values of [CALL_BACK, CALL_BACK, DECLINED]) expect(await send(values)).toBe("refused");
  expect(await send({ ...DECLINED })).toBe("done");
  const [first, again, other, last] = ids;
  expect(again).toBe(first);
  expect(other).not.toBe(first);
  expect(last).toBe(other);
});

test("what may have been done stays unknown when the same is not let in", async () => {
  const { ids, send } = begun(
    Code.Unavailable,
    Code.Unauthenticated,
    Code.PermissionDenied,
    Code.FailedPrecondition,
    Code.PermissionDenied,
  );
  // Tried twice, the second time with a token that has expired.
  expect(await send(CALL_BACK)).toBe("unknown");
  expect(await send(CALL_BACK)).toBe("unknown");
  // The service has looked at it: it was not done.
  expect(await send(CALL_BACK)).toBe("refused");
  expect(await send(CALL_BACK)).toBe("refused");
  expect(await send(CALL_BACK)).toBe("done");
  expect(new Set(ids).size).toBe(1);
});
