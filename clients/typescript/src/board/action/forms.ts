/** What each action needs, and the call that it makes. */

import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import type { CallOptions } from "@connectrpc/connect";
import {
  Action,
  type BookingConstraints,
  type BookingConstraintsSchema,
  type BookingRequest,
  type BookingRequestSchema,
  BookingSource,
  CancelReason,
  ChangeReason,
  ContactOutcome,
  Priority,
  BookingRequest_State as State,
} from "../../../careinvitation/v1/booking_request_pb.js";
import { RecordBookingCancellationRequest_Next as Next } from "../../../careinvitation/v1/booking_request_service_pb.js";
import type { Clients } from "../clients.js";
import { instantOf, localParts } from "../model/format.js";
import type { Texts } from "../text/sv.js";
import { choicesOf, commentField, type Field, orNone, type Values } from "./field.js";

/** What every write has: which request, once for each intention, and only if nobody has changed it since. */
export interface Write {
  name: string;
  requestId: string;
  etag: string;
}

export interface Form {
  /** The fields for this request, which may follow from what has been filled in. */
  fields(request: BookingRequest, values: Values, texts: Texts): Field[];
  /** Says that the call would change nothing. */
  isIdle?(request: BookingRequest, values: Values): boolean;
  /** Makes the call. */
  send(
    requests: Clients["requests"],
    write: Write,
    request: BookingRequest,
    values: Values,
    options: CallOptions,
  ): Promise<{ bookingRequest?: BookingRequest | undefined }>;
}

const START = "constraints.requested_period.start_date";
const END = "constraints.requested_period.end_date";

export const FORMS: Readonly<Record<Exclude<Action, Action.UNSPECIFIED>, Form>> = {
  [Action.CHANGE]: {
    fields: (request, values, texts) => [
      ...periodFields(request, texts, "booking_request.", true),
      {
        path: "booking_request.purpose",
        label: texts.field.purpose,
        kind: "text",
        isRequired: true,
        initial: request.purpose,
      },
      {
        path: "booking_request.priority",
        label: texts.field.priority,
        kind: "select",
        choices: choicesOf(texts.names.priority),
        initial: String(request.priority || Priority.ROUTINE),
      },
      {
        path: "booking_request.internal_comment",
        label: texts.field.internal,
        kind: "area",
        initial: request.internalComment,
      },
      {
        path: "reason",
        label: texts.field.reason,
        kind: "select",
        choices: orNone(choicesOf(texts.names.changeReason, [ChangeReason.TO_CARE_INVITATION]), ""),
        isRequired: true,
      },
      commentField(texts, values.reason === String(ChangeReason.OTHER)),
    ],
    isIdle: (request, values) => changes(request, values).paths.length === 0,
    send(requests, { name, requestId, etag }, request, values, options) {
      const { paths, changed } = changes(request, values);
      const call = {
        bookingRequest: { ...changed, name },
        updateMask: { paths },
        requestId,
        etag,
        reason: Number(values.reason),
        comment: values.comment ?? "",
      };
      return requests.changeBookingRequest(call, options);
    },
  },
  [Action.CHANGE_TO_INVITATION]: {
    fields: (request, _, texts) => [
      ...periodFields(request, texts, "", isPeriodNeeded(request)),
      ...(hasReferral(request)
        ? []
        : [{ path: "referral_id", label: texts.field.referral, kind: "text", isRequired: true } as const]),
      commentField(texts),
    ],
    send: (requests, write, request, values, options) =>
      requests.changeToInvitation(
        {
          ...write,
          ...newPeriod(request, values),
          referralId: values.referral_id ?? "",
          comment: values.comment ?? "",
        },
        options,
      ),
  },
  [Action.RECORD_BOOKING]: {
    fields(request, _, texts) {
      const { booking } = request;
      const start = booking?.startTime && localParts(booking.startTime);
      const { field } = texts;
      return [
        {
          path: "booking.booking_id",
          label: field.bookingId,
          kind: "text",
          isRequired: true,
          hint: field.bookingHint,
          initial: booking?.bookingId ?? "",
        },
        { path: "booking.start_time", label: field.date, kind: "date", isRequired: true, initial: start?.date ?? "" },
        { path: "clock", label: field.time, kind: "time", isRequired: true, initial: start?.clock ?? "" },
        {
          path: "booking.end_time",
          label: field.length,
          kind: "number",
          isRequired: true,
          initial: minutesOf(request),
        },
        { path: "booking.performer_id", label: field.performer, kind: "text", initial: booking?.performerId ?? "" },
        { path: "booking.override_reason", label: field.override, kind: "area", hint: field.overrideHint },
      ];
    },
    send(requests, write, request, values, options) {
      const start = instantOf(values["booking.start_time"] ?? "", values.clock ?? "");
      const end = new Date(start.getTime() + Number(values["booking.end_time"]) * 60_000);
      const bookingId = values["booking.booking_id"]?.trim() ?? "";
      const earlier = request.booking?.bookingId ?? "";
      const booking = {
        bookingId,
        startTime: timestampFromDate(start),
        endTime: timestampFromDate(end),
        source: BookingSource.STAFF,
        performerId: values["booking.performer_id"]?.trim() ?? "",
        overrideReason: values["booking.override_reason"] ?? "",
      };
      // A booking system may give a visit another id when it moves.
      const replacesBookingId = earlier && earlier !== bookingId ? earlier : "";
      return requests.recordBooking({ ...write, booking, replacesBookingId }, options);
    },
  },
  [Action.RECORD_BOOKING_CANCELLATION]: {
    fields: (request, values, texts) => [
      {
        path: "reason",
        label: texts.field.reason,
        kind: "radio",
        choices: choicesOf(texts.names.cancellation),
        isRequired: true,
      },
      { path: "next", label: texts.field.next, kind: "radio", choices: choicesOf(texts.names.next), isRequired: true },
      ...(values.next === String(Next.INVITED) ? periodFields(request, texts, "", isPeriodNeeded(request)) : []),
      commentField(texts),
    ],
    send: (requests, write, request, values, options) =>
      requests.recordBookingCancellation(
        {
          ...write,
          bookingId: request.booking?.bookingId ?? "",
          reason: Number(values.reason),
          next: Number(values.next),
          ...(Number(values.next) === Next.INVITED ? newPeriod(request, values) : {}),
          comment: values.comment ?? "",
        },
        options,
      ),
  },
  [Action.RECORD_PATIENT_CONTACT]: {
    fields: (_, values, texts) => [
      {
        path: "outcome",
        label: texts.field.outcome,
        kind: "radio",
        choices: choicesOf(texts.names.outcome),
        isRequired: true,
      },
      ...(values.outcome === String(ContactOutcome.WILL_BOOK)
        ? [
            {
              path: "wait_until_date",
              label: texts.field.waitUntil,
              kind: "date",
              hint: texts.field.waitUntilHint,
            } as const,
          ]
        : []),
      {
        path: "medium",
        label: texts.field.medium,
        kind: "select",
        choices: orNone(choicesOf(texts.names.medium), texts.field.notSaid),
      },
      commentField(texts),
    ],
    send: (requests, write, _, values, options) =>
      requests.recordPatientContact(
        {
          ...write,
          outcome: Number(values.outcome),
          waitUntilDate: Number(values.outcome) === ContactOutcome.WILL_BOOK ? (values.wait_until_date ?? "") : "",
          medium: Number(values.medium),
          comment: values.comment ?? "",
        },
        options,
      ),
  },
  [Action.CANCEL]: {
    fields: (request, values, texts) => [
      {
        path: "reason",
        label: texts.field.reason,
        kind: "select",
        choices: orNone(
          choicesOf(texts.names.cancelReason, canBeUnanswered(request) ? [] : [CancelReason.NO_RESPONSE]),
          "",
        ),
        isRequired: true,
      },
      commentField(texts, [CancelReason.ENTERED_IN_ERROR, CancelReason.OTHER].includes(Number(values.reason))),
    ],
    send: (requests, write, _, values, options) =>
      requests.cancelBookingRequest(
        { ...write, reason: Number(values.reason), comment: values.comment ?? "" },
        options,
      ),
  },
  [Action.RELEASE_HOLD]: {
    fields: (_, __, texts) => [
      { path: "comment", label: texts.field.why, kind: "area", isRequired: true },
      {
        path: "channel",
        label: texts.field.channel,
        kind: "select",
        choices: orNone(choicesOf(texts.names.channel), texts.field.channelAuto),
      },
    ],
    send: (requests, write, _, values, options) =>
      requests.releaseHold({ ...write, comment: values.comment ?? "", channel: Number(values.channel) }, options),
  },
  [Action.REVOKE_INVITATION]: {
    fields: (_, __, texts) => [commentField(texts)],
    send: (requests, write, _, values, options) =>
      requests.revokeInvitation({ ...write, comment: values.comment ?? "" }, options),
  },
};

/** Says that this version of the board has a form for an action. */
export function hasForm(action: Action): action is keyof typeof FORMS {
  return action in FORMS;
}

function periodFields(request: BookingRequest, { field }: Texts, prefix: string, isRequired: boolean): Field[] {
  const period = request.constraints?.requestedPeriod;
  return [
    { path: prefix + START, label: field.start, kind: "date", isRequired, initial: period?.startDate ?? "" },
    { path: prefix + END, label: field.end, kind: "date", isRequired, initial: period?.endDate ?? "" },
  ];
}

/** The service keeps the constraints when none are given, if there are some and their period has not passed. */
function isPeriodNeeded({ state, constraints }: BookingRequest): boolean {
  return state === State.EXPIRED || constraints?.requestedPeriod === undefined;
}

function hasReferral({ origin }: BookingRequest): boolean {
  return origin.case === "referral" || Boolean(origin.case === "previousVisit" && origin.value.referralId);
}

function canBeUnanswered({ state, invitation }: BookingRequest): boolean {
  return state === State.NO_RESPONSE || (state === State.EXPIRED && invitation);
}

/** Returns new constraints when the period is another one. They replace all the present ones, so those are kept beside it. */
function newPeriod(
  request: BookingRequest,
  values: Values,
): { constraints?: MessageInitShape<typeof BookingConstraintsSchema> } {
  const { constraints } = request;
  const startDate = values[START] ?? "";
  const endDate = values[END] ?? "";
  const present = constraints?.requestedPeriod;
  const isSame = startDate === (present?.startDate ?? "") && endDate === (present?.endDate ?? "");
  return isSame ? {} : { constraints: withPeriod(constraints, startDate, endDate) };
}

function withPeriod(
  constraints: BookingConstraints | undefined,
  startDate: string,
  endDate: string,
): MessageInitShape<typeof BookingConstraintsSchema> {
  const { weekdays = [], timeWindows = [], durationMinutes = 0, performerIds = [] } = constraints ?? {};
  return { weekdays, timeWindows, durationMinutes, performerIds, requestedPeriod: { startDate, endDate } };
}

/** Returns what ChangeBookingRequest is to change: the fields whose values are others. */
function changes(
  request: BookingRequest,
  values: Values,
): { paths: string[]; changed: MessageInitShape<typeof BookingRequestSchema> } {
  const of = (path: string) => values[`booking_request.${path}`] ?? "";
  const [startDate, endDate] = [of(START), of(END)];
  const present = request.constraints?.requestedPeriod;
  const changed = {
    constraints: { requestedPeriod: { startDate, endDate } },
    purpose: of("purpose"),
    internalComment: of("internal_comment"),
    priority: Number(of("priority")),
  };
  const isOther = {
    "constraints.requested_period": startDate !== present?.startDate || endDate !== present.endDate,
    purpose: changed.purpose !== request.purpose,
    internal_comment: changed.internalComment !== request.internalComment,
    priority: changed.priority !== (request.priority || Priority.ROUTINE),
  };
  const paths = Object.entries(isOther)
    .filter(([, it]) => it)
    .map(([path]) => path);
  return { paths, changed };
}

function minutesOf({ booking, constraints }: BookingRequest): string {
  const { startTime, endTime } = booking ?? {};
  if (startTime && endTime) return String(Number(endTime.seconds - startTime.seconds) / 60);
  return constraints?.durationMinutes ? String(constraints.durationMinutes) : "";
}
