import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { PatientSchema, PersonalIdType } from "../../careinvitation/v1/booking_request_pb.js";
import { DateIntervalSchema } from "../../careinvitation/v1/calendar_pb.js";
import { day, identity, instantOf, localParts, period } from "../../src/board/model/format.js";

test.each([
  ["2026-03-02", "09:00", "2026-03-02T08:00:00.000Z"],
  ["2026-03-29", "01:59", "2026-03-29T00:59:00.000Z"],
  // The clocks skip this hour.
  ["2026-03-29", "02:30", "2026-03-29T01:30:00.000Z"],
  ["2026-03-29", "03:00", "2026-03-29T01:00:00.000Z"],
  ["2026-07-01", "00:30", "2026-06-30T22:30:00.000Z"],
  ["2026-10-25", "03:00", "2026-10-25T02:00:00.000Z"],
])("%s %s in Sweden is the instant %s", (date, clock, instant) => {
  expect(instantOf(date, clock).toISOString()).toBe(instant);
});

test("an instant is shown in forms as the date and clock in Sweden", () => {
  expect(localParts(timestampFromDate(new Date("2026-06-30T22:30:00Z")))).toEqual({
    date: "2026-07-01",
    clock: "00:30",
  });
});

test("dates are written as in the language of the page", () => {
  expect(day("2026-03-02", "sv-SE")).toBe("2 mars 2026");
  expect(day("2026-03-02", "en-GB")).toBe("2 Mar 2026");
  expect(day("", "sv-SE")).toBe("");
  const interval = create(DateIntervalSchema, { startDate: "2026-05-18", endDate: "2026-06-12" });
  expect(period(interval, "en-GB")).toMatch(/^18 May\s–\s12 Jun 2026$/);
});

test.each([
  [PersonalIdType.PERSONNUMMER, "198003012385", "19800301-2385"],
  [PersonalIdType.LOCAL_RESERVE_NUMBER, "ABCDEF123456", "ABCDEF123456"],
  [PersonalIdType.LOCAL_RESERVE_NUMBER, "7", "7"],
])("a number of type %d is written as people read it", (personalIdType, personalId, written) => {
  expect(identity(create(PatientSchema, { personalId, personalIdType }))).toBe(written);
});
