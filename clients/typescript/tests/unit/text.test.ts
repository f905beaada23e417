import { create } from "@bufbuild/protobuf";
import { expect, test } from "vitest";
import { BookingRequestSchema, BookingRequest_State as State } from "../../careinvitation/v1/booking_request_pb.js";
import { Worklist } from "../../careinvitation/v1/worklist_service_pb.js";
import { differences } from "../../src/board/model/differences.js";
import { hashOf, requestRoute, routeOf } from "../../src/board/model/route.js";
import { en } from "../../src/board/text/en.js";
import { nameOf } from "../../src/board/text/names.js";
import { preferred } from "../../src/board/text/preferred.js";
import { sv } from "../../src/board/text/sv.js";

test.each([
  [null, ["en-US", "sv"], en],
  [null, ["fi", "sv-FI"], sv],
  [null, ["de"], sv],
  ["en", ["sv"], en],
  ["xx", ["en"], en],
])("remembered %s and asked for %s", (remembered, asked, language) => {
  expect(preferred(remembered, asked)).toBe(language);
});

test("a value of a later version is shown by its number", () => {
  expect(nameOf(sv.names.state, State.BOOKED)).toBe("Bokad");
  expect(nameOf(sv.names.state, 99)).toBe("(99)");
  expect(nameOf(sv.names.state, 0)).toBe("");
});

test("a place is read from the address as it was written there", () => {
  const careUnit = "careUnits/SE2321000131-P000000123457";
  const list = { at: "list", careUnit, list: Worklist.FOLLOW_UP } as const;
  expect(hashOf(list)).toBe("#/SE2321000131-P000000123457/follow-up");
  expect(routeOf(hashOf(list))).toEqual(list);
  const request = requestRoute(`${careUnit}/bookingRequests/01a206ad-7fe0-72cb-8621-358341146611`);
  expect(routeOf(hashOf(request))).toEqual(request);
  expect(routeOf("#/<script>/x")).toEqual({ at: "units" });
});

test("differences are what people see, and nothing else", () => {
  const seen = create(BookingRequestSchema, { state: State.INVITED, purpose: "Öron", etag: "1" });
  const now = create(BookingRequestSchema, { state: State.BOOKED, purpose: "Öron", etag: "2" });
  expect(differences(seen, now, en)).toEqual([{ label: "State", before: "Invited", now: "Booked" }]);
  expect(differences(seen, { ...seen, etag: "3" }, en)).toEqual([]);
});
