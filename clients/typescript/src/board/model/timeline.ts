/** A request's messages and history as one timeline: what is to come, and what has happened. */

import type { Timestamp } from "@bufbuild/protobuf/wkt";
import { type BookingRequest, BookingRequest_State as State } from "../../../careinvitation/v1/booking_request_pb.js";
import { Notification_State as Message, type Notification } from "../../../careinvitation/v1/care_invitation_pb.js";
import { type HistoryEntry, HistoryEvent } from "../../../careinvitation/v1/history_pb.js";

/** Something that is to come, at an instant or on a day. */
export type Ahead =
  | { what: "message"; time: Timestamp | undefined; message: Notification }
  | { what: "visit" | "noResponse" | "expires"; time: Timestamp }
  | { what: "guarantee"; day: string };

/** Something that has happened. An imported message has no entry of its own in the history. */
export interface Past {
  time: Timestamp | undefined;
  entry: HistoryEntry | undefined;
  message: Notification | undefined;
}

const STILL_TO_COME: readonly Message[] = [
  Message.PROJECTED,
  Message.SCHEDULED,
  Message.LEASED,
  Message.DISPATCHING,
  Message.PARKED,
];

/** Returns what is to come, soonest first. */
export function ahead(request: BookingRequest): Ahead[] {
  const { careInvitation: invitation, state, booking, careGuaranteeDate } = request;
  const isOpen = state !== State.BOOKED && state !== State.CANCELLED && state !== State.DECLINED;
  const found: Ahead[] = [];
  for (const message of invitation?.notifications ?? []) {
    const isSkippedNow = message.state === Message.SKIPPED && message.round === invitation?.round && isOpen;
    if (STILL_TO_COME.includes(message.state) || isSkippedNow) {
      found.push({ what: "message", time: message.dueTime, message });
    }
  }
  if (state === State.BOOKED && booking?.startTime) found.push({ what: "visit", time: booking.startTime });
  if (state === State.INVITED && invitation?.noResponseTime) {
    found.push({ what: "noResponse", time: invitation.noResponseTime });
  }
  if ((state === State.INVITED || state === State.NO_RESPONSE) && invitation?.expireTime) {
    found.push({ what: "expires", time: invitation.expireTime });
  }
  if (isOpen && careGuaranteeDate) found.push({ what: "guarantee", day: careGuaranteeDate });
  return found.sort((a, b) => secondsOf(a) - secondsOf(b));
}

/** Returns what has happened, latest first. */
export function past(request: BookingRequest, history: readonly HistoryEntry[]): Past[] {
  const messages = request.careInvitation?.notifications ?? [];
  const found: Past[] = history.map((entry) => ({
    time: entry.eventTime,
    entry,
    message: entry.notification ? messages.find(({ name }) => name === entry.notification) : undefined,
  }));
  const told = new Set(
    history.filter(({ event }) => event === HistoryEvent.NOTIFICATION_SENT).map(({ notification }) => notification),
  );
  for (const message of messages) {
    if (message.sendTime && !told.has(message.name)) found.push({ time: message.sendTime, entry: undefined, message });
  }
  // The history is in order. Entries of one call have one time, and stay in the order in which they were recorded.
  return found
    .map((it, at) => ({ it, at }))
    .sort((a, b) => seconds(b.it.time) - seconds(a.it.time) || b.at - a.at)
    .map(({ it }) => it);
}

function secondsOf(it: Ahead): number {
  return it.what === "guarantee" ? Date.parse(`${it.day}T22:00:00Z`) / 1000 : seconds(it.time);
}

function seconds(time: Timestamp | undefined): number {
  return time ? Number(time.seconds) + time.nanos / 1e9 : 0;
}
