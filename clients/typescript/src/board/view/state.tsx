/** The state of a request, and what holds it. */

import type { BookingRequest } from "../../../careinvitation/v1/booking_request_pb.js";
import { BookingRequest_State } from "../../../careinvitation/v1/booking_request_pb.js";
import { HoldReason } from "../../../careinvitation/v1/care_invitation_pb.js";
import { day } from "../model/format.js";
import { texts } from "../text/language.js";
import { nameOf } from "../text/names.js";

export function State({ request }: { request: BookingRequest }) {
  const { names, locale, request: said } = texts.value;
  const invitation = request.careInvitation;
  const hold = invitation?.holdReason ?? HoldReason.UNSPECIFIED;
  return (
    <>
      <span class={`state ${(BookingRequest_State[request.state] ?? "").toLowerCase()}`}>
        {nameOf(names.state, request.state)}
      </span>
      {hold !== HoldReason.UNSPECIFIED && (
        <span class="minor hold">
          {nameOf(names.hold, hold)}
          {invitation?.waitUntilDate && ` ${said.waitUntil(day(invitation.waitUntilDate, locale))}`}
        </span>
      )}
    </>
  );
}
