/** Names of the contract's values, one table for each enum. */

import type {
  Action,
  BookingCancellationReason,
  BookingRequest_State,
  BookingSource,
  CancelReason,
  ChangeReason,
  ContactMedium,
  ContactOutcome,
  LetterFormat,
  Priority,
  VisitKind,
  Warning,
} from "../../../careinvitation/v1/booking_request_pb.js";
import type { RecordBookingCancellationRequest_Next } from "../../../careinvitation/v1/booking_request_service_pb.js";
import type { DayOfWeek } from "../../../careinvitation/v1/calendar_pb.js";
import type {
  DeliveryChannel,
  HoldReason,
  Notification_State,
  NotificationCause,
  NotificationKind,
} from "../../../careinvitation/v1/care_invitation_pb.js";
import type { HistoryEvent } from "../../../careinvitation/v1/history_pb.js";
import type { Worklist } from "../../../careinvitation/v1/worklist_service_pb.js";

/** A text for each value but UNSPECIFIED, so that a new value does not compile without one. */
type Table<E extends number> = { readonly [V in E as `${V}` extends "0" ? never : V]: string };

export interface Names {
  action: Table<Action>;
  cancelReason: Table<CancelReason>;
  cancellation: Table<BookingCancellationReason>;
  cause: Table<NotificationCause>;
  changeReason: Table<ChangeReason>;
  channel: Table<DeliveryChannel>;
  day: Table<DayOfWeek>;
  event: Table<HistoryEvent>;
  hold: Table<HoldReason>;
  kind: Table<NotificationKind>;
  letterFormat: Table<LetterFormat>;
  list: Table<Exclude<Worklist, Worklist.ALL>>;
  medium: Table<ContactMedium>;
  messageState: Table<Notification_State>;
  next: Table<RecordBookingCancellationRequest_Next>;
  outcome: Table<ContactOutcome>;
  priority: Table<Priority>;
  source: Table<BookingSource>;
  state: Table<BookingRequest_State>;
  visitKind: Table<VisitKind>;
  warning: Table<Warning>;
}

/** Returns the name of a value; the number of one that a later version of the service has added. */
export function nameOf(table: Readonly<Record<number, string>>, value: number): string {
  return value === 0 ? "" : (table[value] ?? `(${value})`);
}
