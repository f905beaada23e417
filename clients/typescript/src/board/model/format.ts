/** Dates, times and numbers as people in Sweden write them. Times are Swedish local time, wherever the browser is. */

import { type Timestamp, timestampDate } from "@bufbuild/protobuf/wkt";
import { type Patient, PersonalIdType } from "../../../careinvitation/v1/booking_request_pb.js";
import type { DateInterval } from "../../../careinvitation/v1/calendar_pb.js";

const ZONE = "Europe/Stockholm";

/** Returns a civil date: `2 mars 2026`, `2 March 2026`. */
export function day(date: string, locale: string): string {
  if (!date) return "";
  const options = { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" } as const;
  return new Intl.DateTimeFormat(locale, options).format(new Date(`${date}T00:00:00Z`));
}

/** Returns both ends of a period, without saying twice what they share. */
export function period(interval: DateInterval | undefined, locale: string): string {
  if (!interval) return "";
  const options = { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" } as const;
  const [start, end] = [interval.startDate, interval.endDate].map((it) => new Date(`${it}T00:00:00Z`));
  return start && end ? new Intl.DateTimeFormat(locale, options).formatRange(start, end) : "";
}

/** Returns an instant with its time of day. */
export function moment(time: Timestamp | undefined, locale: string): string {
  if (!time) return "";
  const options = { dateStyle: "medium", timeStyle: "short", timeZone: ZONE } as const;
  return new Intl.DateTimeFormat(locale, options).format(timestampDate(time));
}

/** Returns the time of day of an instant, to the second. */
export function clock(date: Date, locale: string): string {
  return new Intl.DateTimeFormat(locale, { timeStyle: "medium", timeZone: ZONE }).format(date);
}

/** Returns the civil date and the time of day of an instant, as forms have them. */
export function localParts(time: Timestamp): { date: string; clock: string } {
  const [date = "", clock = ""] = inSweden(timestampDate(time)).split(" ");
  return { date, clock };
}

/** Returns the instant of a local date and time of day. One that the clocks skip is taken an hour later. */
export function instantOf(date: string, clock: string): Date {
  const wanted = Date.parse(`${date}T${clock}:00Z`);
  const offsetAt = (at: number) => Date.parse(`${inSweden(new Date(at)).replace(" ", "T")}:00Z`) - at;
  const guess = wanted - offsetAt(wanted);
  return new Date(wanted - offsetAt(guess));
}

function inSweden(date: Date): string {
  const options = { dateStyle: "short", timeStyle: "short", timeZone: ZONE } as const;
  return new Intl.DateTimeFormat("sv-SE", options).format(date);
}

/** Returns an identity number with the hyphen that people read it with. */
export function identity({ personalId, personalIdType }: Patient): string {
  const hasHyphen = personalIdType === PersonalIdType.LOCAL_RESERVE_NUMBER;
  return hasHyphen || personalId.length !== 12 ? personalId : `${personalId.slice(0, 8)}-${personalId.slice(8)}`;
}

/** Returns the HSA-id in the name of a care unit. */
export function hsaId(careUnit: string): string {
  return careUnit.replace(/^careUnits\//, "");
}
