/** What a request says. */

import type { ComponentChildren } from "preact";
import {
  type BookingRequest,
  CancelReason,
  LetterFormat,
  Priority,
} from "../../../careinvitation/v1/booking_request_pb.js";
import { day, moment, period } from "../model/format.js";
import { texts } from "../text/language.js";
import { nameOf } from "../text/names.js";

export function Facts({ request }: { request: BookingRequest }) {
  const { names, patient: who, request: said, lists, locale } = texts.value;
  const { constraints, booking, lastContact, origin, patient, series } = request;
  const contact = lastContact && [
    nameOf(names.outcome, lastContact.outcome),
    nameOf(names.medium, lastContact.medium),
    moment(lastContact.contactTime, locale),
  ];
  return (
    <section>
      <h2>{said.facts}</h2>
      <dl class="facts">
        <Fact name={lists.visit}>{nameOf(names.visitKind, request.visitKind)}</Fact>
        <Fact name={said.purpose}>{request.purpose}</Fact>
        <Fact name={said.booking}>
          {booking && `${moment(booking.startTime, locale)}, ${said.bookedBy(nameOf(names.source, booking.source))}`}
        </Fact>
        <Fact name={lists.period}>{period(constraints?.requestedPeriod, locale)}</Fact>
        <Fact name={said.days}>{constraints?.weekdays.map((it) => nameOf(names.day, it)).join(", ")}</Fact>
        <Fact name={said.hours}>
          {constraints?.timeWindows.map((it) => `${it.startClock}–${it.endClock}`).join(", ")}
        </Fact>
        <Fact name={said.duration}>
          {constraints?.durationMinutes ? said.minutes(constraints.durationMinutes) : undefined}
        </Fact>
        <Fact name={lists.guarantee}>{day(request.careGuaranteeDate, locale)}</Fact>
        <Fact name={said.priority}>{nameOf(names.priority, request.priority || Priority.ROUTINE)}</Fact>
        <Fact name={said.origin}>
          {origin.case === "referral" ? origin.value.referralId : origin.value?.referralId}
        </Fact>
        <Fact name={said.previousVisit}>{origin.case === "previousVisit" ? origin.value.visitId : ""}</Fact>
        <Fact name={said.contact}>{contact?.filter(Boolean).join(", ")}</Fact>
        <Fact name={said.letter}>{letterFormat(request)}</Fact>
        <Fact name={said.seriesLabel}>{series && said.series(series.position, series.members.length)}</Fact>
        <Fact name={said.cancelled}>
          {request.cancelReason !== CancelReason.UNSPECIFIED && nameOf(names.cancelReason, request.cancelReason)}
        </Fact>
        <Fact name={said.comment}>{request.internalComment}</Fact>
      </dl>
      {patient?.interpreterLanguage && <p class="note">{who.interpreter(languageName(patient.interpreterLanguage))}</p>}
    </section>
  );

  function letterFormat({ patient }: BookingRequest) {
    const format = patient?.letterFormat ?? LetterFormat.STANDARD;
    return format > LetterFormat.STANDARD && nameOf(names.letterFormat, format);
  }

  function languageName(tag: string): string {
    return new Intl.DisplayNames(locale, { type: "language", fallback: "code" }).of(tag) ?? tag;
  }
}

/** A fact with its name; nothing when there is none. */
function Fact({ name, children }: { name: string; children?: ComponentChildren }) {
  if (!children) return null;
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}
