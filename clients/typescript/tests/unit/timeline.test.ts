import { create } from "@bufbuild/protobuf";
import { timestampFromDate } from "@bufbuild/protobuf/wkt";
import { expect, test } from "vitest";
import { BookingRequestSchema, BookingRequest_State as State } from "../../careinvitation/v1/booking_request_pb.js";
import { Notification_State as Message, NotificationKind } from "../../careinvitation/v1/care_invitation_pb.js";
import { HistoryEntrySchema, HistoryEvent } from "../../careinvitation/v1/history_pb.js";
import { ahead, past } from "../../src/board/model/timeline.js";
import type { Given } from "../service.js";

const at = (time: string) => timestampFromDate(new Date(time));

const FIELDS: Given = {
  state: State.INVITED,
  careGuaranteeDate: "2026-04-20",
  careInvitation: {
    round: 1,
    expireTime: at("2026-06-12T22:00:00Z"),
    notifications: [
      {
        name: "n/1",
        round: 1,
        kind: NotificationKind.INVITATION,
        state: Message.SENT,
        sendTime: at("2026-04-06T07:00:00Z"),
      },
      {
        name: "n/2",
        round: 1,
        kind: NotificationKind.REMINDER,
        state: Message.SCHEDULED,
        dueTime: at("2026-04-20T07:00:00Z"),
      },
      { round: 1, kind: NotificationKind.REMINDER, state: Message.PROJECTED, dueTime: at("2026-05-04T07:00:00Z") },
    ],
  },
};
const INVITED = create(BookingRequestSchema, FIELDS);

test("what is to come is in the order of time", () => {
  const kinds = ahead(INVITED).map((it) => (it.what === "message" ? it.message.state : it.what));
  expect(kinds).toEqual([Message.SCHEDULED, "guarantee", Message.PROJECTED, "expires"]);
});

test("nothing of an invitation is to come once the visit is booked", () => {
  const booked = create(BookingRequestSchema, {
    ...FIELDS,
    state: State.BOOKED,
    booking: { bookingId: "B", startTime: at("2026-05-18T07:00:00Z") },
    careInvitation: { round: 1, notifications: [{ name: "n/1", state: Message.CANCELLED, round: 1 }] },
  });
  expect(ahead(booked).map(({ what }) => what)).toEqual(["visit"]);
});

test("what has happened is told latest first, with its message, and imported messages too", () => {
  const created = create(HistoryEntrySchema, {
    event: HistoryEvent.CREATE_BOOKING_REQUEST,
    eventTime: at("2026-03-02T09:00:00Z"),
  });
  const sent = create(HistoryEntrySchema, {
    event: HistoryEvent.NOTIFICATION_SENT,
    eventTime: at("2026-04-06T07:00:00Z"),
    notification: "n/1",
  });
  const [latest, first] = past(INVITED, [created, sent]);
  expect(latest?.entry).toBe(sent);
  expect(latest?.message?.kind).toBe(NotificationKind.INVITATION);
  expect(first?.entry).toBe(created);
  const imported = past(INVITED, [created]);
  expect(imported.map(({ entry, message }) => entry?.event ?? message?.name)).toEqual([
    "n/1",
    HistoryEvent.CREATE_BOOKING_REQUEST,
  ]);
});

test("entries of one call stay in the order in which they were recorded", () => {
  const events = [HistoryEvent.RECORD_BOOKING, HistoryEvent.NOTIFICATION_CANCELLED];
  const history = events.map((event) => create(HistoryEntrySchema, { event, eventTime: at("2026-04-07T07:00:00Z") }));
  const told = past(create(BookingRequestSchema, {}), history).map(({ entry }) => entry?.event);
  expect(told).toEqual([HistoryEvent.NOTIFICATION_CANCELLED, HistoryEvent.RECORD_BOOKING]);
});
