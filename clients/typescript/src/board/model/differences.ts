/** The differences between a request as somebody saw it and as it is now, for a conflict. */

import { type BookingRequest, Protection } from "../../../careinvitation/v1/booking_request_pb.js";
import { Notification_State } from "../../../careinvitation/v1/care_invitation_pb.js";
import { nameOf } from "../text/names.js";
import type { Texts } from "../text/sv.js";
import { moment, period } from "./format.js";

export interface Difference {
  label: string;
  before: string;
  now: string;
}

export function differences(before: BookingRequest, now: BookingRequest, texts: Texts): Difference[] {
  const [old, present] = [shown(before, texts), shown(now, texts)];
  const keys = Object.keys(old) as (keyof typeof old)[];
  return keys
    .filter((key) => old[key] !== present[key])
    .map((key) => ({ label: texts.difference[key], before: old[key], now: present[key] }));
}

function shown(request: BookingRequest, texts: Texts): { [K in keyof Texts["difference"]]: string } {
  const { names, locale } = texts;
  const invitation = request.careInvitation;
  const sent = invitation?.notifications.filter(({ state }) => state === Notification_State.SENT) ?? [];
  const isProtected = request.patient !== undefined && request.patient.protection !== Protection.UNSPECIFIED;
  return {
    state: nameOf(names.state, request.state),
    hold: nameOf(names.hold, invitation?.holdReason ?? 0),
    period: period(request.constraints?.requestedPeriod, locale),
    booking: moment(request.booking?.startTime, locale),
    visit: [nameOf(names.visitKind, request.visitKind), request.visitType?.displayName || request.visitType?.code].join(
      ", ",
    ),
    purpose: request.purpose,
    priority: nameOf(names.priority, request.priority),
    comment: request.internalComment,
    round: invitation ? String(invitation.round) : "",
    messages: String(sent.length),
    contact: nameOf(names.outcome, request.lastContact?.outcome ?? 0),
    protection: isProtected ? texts.yes : texts.no,
  };
}
