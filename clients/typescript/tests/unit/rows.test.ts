import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { BookingRequestSchema, Priority } from "../../careinvitation/v1/booking_request_pb.js";
import { WatchWorklistResponseSchema, Worklist } from "../../careinvitation/v1/worklist_service_pb.js";
import { after, counts, type ORDERS, type Rows, rowsOf } from "../../src/board/model/rows.js";

const NONE: Rows = new Map();

function upserted(name: string, worklists: Worklist[], startDate = "2026-05-18", priority = Priority.ROUTINE) {
  const value = create(BookingRequestSchema, { name, priority, constraints: { requestedPeriod: { startDate } } });
  return create(WatchWorklistResponseSchema, { event: { case: "upserted", value }, worklists });
}

function removed(value: string) {
  return create(WatchWorklistResponseSchema, { event: { case: "removed", value } });
}

test("a request is counted on each of its lists, and moves between them in one event", () => {
  const invited = after(NONE, upserted("a", [Worklist.CARE_INVITATIONS, Worklist.ALL_INVITATIONS]));
  expect(counts(invited).get(Worklist.CARE_INVITATIONS)).toBe(1);
  expect(counts(invited).get(Worklist.ALL_INVITATIONS)).toBe(1);
  expect(counts(invited).get(Worklist.DECLINED)).toBe(0);
  const moved = after(invited, upserted("a", [Worklist.DECLINED]));
  expect(counts(moved).get(Worklist.CARE_INVITATIONS)).toBe(0);
  expect(counts(moved).get(Worklist.DECLINED)).toBe(1);
  expect(after(moved, removed("a")).size).toBe(0);
  expect(invited.size, "rows that were shown stay as they were").toBe(1);
});

test("an event of a later version, and a heartbeat, change nothing", () => {
  const rows = after(NONE, upserted("a", [Worklist.DECLINED]));
  expect(after(rows, create(WatchWorklistResponseSchema, {}))).toBe(rows);
  expect(after(rows, create(WatchWorklistResponseSchema, { event: { case: "heartbeat", value: {} } }))).toBe(rows);
  expect(counts(after(rows, upserted("b", [99 as Worklist]))).get(Worklist.DECLINED)).toBe(1);
});

test("rows have the order of the service, and names break ties", () => {
  const list = Worklist.BOOKING_REQUESTS;
  const events = [
    upserted("c", [list], "2026-05-18"),
    upserted("b", [list], "2026-05-18", Priority.EMERGENCY),
    upserted("a", [list], "2026-06-01", Priority.URGENT),
    upserted("x", [Worklist.DECLINED], "2026-01-01"),
  ];
  const rows = events.reduce(after, NONE);
  const names = (order: (typeof ORDERS)[number]) => rowsOf(rows, list, order).map(({ request }) => request.name);
  expect(names("start")).toEqual(["b", "c", "a"]);
  expect(names("priority")).toEqual(["b", "a", "c"]);
  expect(names("created")).toEqual(["a", "b", "c"]);
});
