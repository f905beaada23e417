/** The rows of a board: the requests of a care unit, each with the lists that it is on. */

import { type BookingRequest, Priority } from "../../../careinvitation/v1/booking_request_pb.js";
import { type WatchWorklistResponse, Worklist } from "../../../careinvitation/v1/worklist_service_pb.js";

/** Lists of which each open request is on exactly one. */
export const OWN_LISTS = [
  Worklist.BOOKING_REQUESTS,
  Worklist.CARE_INVITATIONS,
  Worklist.FOLLOW_UP,
  Worklist.SLOT_ISSUES,
  Worklist.MANUAL_HANDLING,
  Worklist.DECLINED,
] as const;

/** Lists that a request may be on as well. */
export const OTHER_LISTS = [
  Worklist.GUARANTEE_AT_RISK,
  Worklist.ALL_INVITATIONS,
  Worklist.ALL_BOOKING_REQUESTS,
] as const;

export const LISTS = [...OWN_LISTS, ...OTHER_LISTS] as const;

export type List = (typeof LISTS)[number];

export interface Row {
  request: BookingRequest;
  lists: readonly Worklist[];
}

/** Rows by the names of their requests. */
export type Rows = ReadonlyMap<string, Row>;

/** Returns the rows after an event. Those that go in are left as they are. */
export function after(rows: Rows, { event, worklists }: WatchWorklistResponse): Rows {
  switch (event.case) {
    case "upserted":
      return new Map(rows).set(event.value.name, { request: event.value, lists: worklists });
    case "removed": {
      const left = new Map(rows);
      left.delete(event.value);
      return left;
    }
    default:
      return rows;
  }
}

/** Counts the rows of each list. */
export function counts(rows: Rows): ReadonlyMap<Worklist, number> {
  const counted = new Map<Worklist, number>(LISTS.map((it) => [it, 0]));
  for (const { lists } of rows.values()) {
    for (const list of lists) counted.set(list, (counted.get(list) ?? 0) + 1);
  }
  return counted;
}

export const ORDERS = ["start", "created", "priority", "guarantee"] as const;

export type Order = (typeof ORDERS)[number];

/** Returns the rows of a list in an order, as the service has them: ties are broken by name. */
export function rowsOf(rows: Rows, list: List, order: Order): Row[] {
  const found = [...rows.values()].filter(({ lists }) => lists.includes(list));
  const keyed = found.map((row) => ({ row, key: [...keyOf(row.request, order), row.request.name].join(" ") }));
  return keyed.sort((a, b) => (a.key < b.key ? -1 : 1)).map(({ row }) => row);
}

/** Returns texts whose order is that of the requests. */
function keyOf(request: BookingRequest, order: Order): string[] {
  const created = String(request.createTime?.seconds ?? 0).padStart(12, "0");
  switch (order) {
    case "start":
      return [request.constraints?.requestedPeriod?.startDate || "9999"];
    case "created":
      return [created];
    case "priority":
      return [String(Priority.EMERGENCY - request.priority), created];
    case "guarantee":
      return [request.careGuaranteeDate || "9999"];
  }
}
