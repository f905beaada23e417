import { create } from "@bufbuild/protobuf";
import { timestampDate, timestampFromDate } from "@bufbuild/protobuf/wkt";
import { expect, test, vi } from "vitest";
import {
  Action,
  BookingRequestSchema,
  CancelReason,
  ChangeReason,
  ContactOutcome,
  BookingRequest_State as State,
} from "../../careinvitation/v1/booking_request_pb.js";
import { DayOfWeek } from "../../careinvitation/v1/calendar_pb.js";
import { initial, missing, type Values } from "../../src/board/action/field.js";
import { FORMS, hasForm } from "../../src/board/action/forms.js";
import type { Clients } from "../../src/board/clients.js";
import { sv } from "../../src/board/text/sv.js";
import type { Given } from "../service.js";

const FIELDS: Given = {
  name: "careUnits/U/bookingRequests/1",
  state: State.INVITED,
  purpose: "Öron",
  origin: { case: "referral", value: { referralId: "R-1" } },
  constraints: {
    requestedPeriod: { startDate: "2026-05-18", endDate: "2026-06-12" },
    weekdays: [DayOfWeek.MONDAY],
    timeWindows: [{ startClock: "08:00", endClock: "12:00" }],
    durationMinutes: 30,
  },
};
const REQUEST = create(BookingRequestSchema, FIELDS);
const WRITE = { name: REQUEST.name, requestId: "id", etag: "seen" };

type Offered = keyof typeof FORMS;

/** Fills a form in, and returns the call that it makes. */
function sent(action: Offered, filled: Values, request = REQUEST) {
  const values = { ...initial(FORMS[action].fields(request, filled, sv)), ...filled };
  const call = vi.fn().mockResolvedValue({});
  const requests = new Proxy({}, { get: () => call }) as Clients["requests"];
  void FORMS[action].send(requests, WRITE, request, values, {});
  return call.mock.calls[0]?.[0];
}

function needed(action: Offered, values: Values, request = REQUEST): string[] {
  return missing(FORMS[action].fields(request, values, sv), values);
}

test("every action of the contract has a form, and says which request, how often, and if unchanged", () => {
  const actions = Object.values(Action).filter((it) => typeof it === "number" && it !== Action.UNSPECIFIED) as Action[];
  expect(actions.length).toBe(8);
  for (const action of actions) {
    if (!hasForm(action)) throw new Error(`no form for ${action}`);
    const filled = { "booking.start_time": "2026-05-18", clock: "09:00" };
    const call = sent(action, filled);
    expect(call).toMatchObject({ requestId: "id", etag: "seen" });
    expect(call.name ?? call.bookingRequest.name).toBe(REQUEST.name);
  }
  expect(hasForm(99 as Action)).toBe(false);
});

test("a change names the fields that are others, and no more", () => {
  const values = { "booking_request.purpose": "Näsa", reason: String(ChangeReason.MEDICAL) };
  const call = sent(Action.CHANGE, values);
  expect(call.updateMask.paths).toEqual(["purpose"]);
  expect(call.bookingRequest.purpose).toBe("Näsa");
  const begun = initial(FORMS[Action.CHANGE].fields(REQUEST, {}, sv));
  expect(FORMS[Action.CHANGE].isIdle?.(REQUEST, begun)).toBe(true);
  const period = { ...begun, "booking_request.constraints.requested_period.end_date": "2026-06-30" };
  expect(sent(Action.CHANGE, period).updateMask.paths).toEqual(["constraints.requested_period"]);
});

test("a new period of an invitation keeps the days, hours and length", () => {
  expect(sent(Action.CHANGE_TO_INVITATION, {}).constraints, "the same period is not sent").toBeUndefined();
  const call = sent(Action.CHANGE_TO_INVITATION, { "constraints.requested_period.end_date": "2026-06-30" });
  expect(call.constraints).toMatchObject({
    requestedPeriod: { startDate: "2026-05-18", endDate: "2026-06-30" },
    weekdays: [DayOfWeek.MONDAY],
    durationMinutes: 30,
  });
});

test("an invitation asks for a referral only when the request has none", () => {
  const visit = (referralId: string) =>
    create(BookingRequestSchema, {
      ...FIELDS,
      origin: { case: "previousVisit", value: { visitId: "V", referralId } },
    });
  const filled = initial(FORMS[Action.CHANGE_TO_INVITATION].fields(REQUEST, {}, sv));
  expect(needed(Action.CHANGE_TO_INVITATION, filled, visit(""))).toEqual(["referral_id"]);
  expect(needed(Action.CHANGE_TO_INVITATION, filled, visit("R-1"))).toEqual([]);
  expect(needed(Action.CHANGE_TO_INVITATION, filled)).toEqual([]);
});

test("a booking is of staff, in Swedish time, and names the one that it replaces", () => {
  const booked = create(BookingRequestSchema, {
    ...FIELDS,
    state: State.BOOKED,
    booking: {
      bookingId: "B-1",
      startTime: timestampFromDate(new Date("2026-05-18T07:00:00Z")),
      endTime: timestampFromDate(new Date("2026-05-18T07:45:00Z")),
    },
  });
  const moved = sent(Action.RECORD_BOOKING, { "booking.start_time": "2026-05-25" }, booked);
  expect(timestampDate(moved.booking.startTime).toISOString()).toBe("2026-05-25T07:00:00.000Z");
  expect(timestampDate(moved.booking.endTime).toISOString()).toBe("2026-05-25T07:45:00.000Z");
  expect([moved.booking.bookingId, moved.replacesBookingId]).toEqual(["B-1", ""]);
  const replaced = sent(Action.RECORD_BOOKING, { "booking.booking_id": "B-2" }, booked);
  expect([replaced.booking.bookingId, replaced.replacesBookingId]).toEqual(["B-2", "B-1"]);
});

test("a comment is required with the reasons that need one", () => {
  const comment = (action: Offered, reason: number) => needed(action, { reason: String(reason) }).includes("comment");
  expect(comment(Action.CANCEL, CancelReason.OTHER)).toBe(true);
  expect(comment(Action.CANCEL, CancelReason.ENTERED_IN_ERROR)).toBe(true);
  expect(comment(Action.CANCEL, CancelReason.PATIENT_MOVED)).toBe(false);
  expect(comment(Action.CHANGE, ChangeReason.OTHER)).toBe(true);
  expect(comment(Action.CHANGE, ChangeReason.MEDICAL)).toBe(false);
  expect(needed(Action.RELEASE_HOLD, {})).toEqual(["comment"]);
});

test("a day to wait until belongs to patients who will book", () => {
  const paths = (outcome: ContactOutcome) =>
    FORMS[Action.RECORD_PATIENT_CONTACT].fields(REQUEST, { outcome: String(outcome) }, sv).map(({ path }) => path);
  expect(paths(ContactOutcome.WILL_BOOK)).toContain("wait_until_date");
  expect(paths(ContactOutcome.CALL_BACK)).not.toContain("wait_until_date");
  const call = sent(Action.RECORD_PATIENT_CONTACT, { outcome: "4", wait_until_date: "2026-05-01" });
  expect(call.waitUntilDate, "the service refuses it with any other outcome").toBe("");
});

test("no answer is a reason only where the patient has not answered", () => {
  const reasons = (state: State, invitation: boolean) => {
    const request = create(BookingRequestSchema, { ...FIELDS, state, invitation });
    return FORMS[Action.CANCEL].fields(request, {}, sv)[0]?.choices?.map(([value]) => Number(value));
  };
  expect(reasons(State.NO_RESPONSE, true)).toContain(CancelReason.NO_RESPONSE);
  expect(reasons(State.EXPIRED, true)).toContain(CancelReason.NO_RESPONSE);
  expect(reasons(State.EXPIRED, false)).not.toContain(CancelReason.NO_RESPONSE);
  expect(reasons(State.INVITED, true)).not.toContain(CancelReason.NO_RESPONSE);
});
