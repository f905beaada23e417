/** Failures in words for the people at the board. */

import { Code } from "@connectrpc/connect";
import { BookingRequest_State } from "../../../careinvitation/v1/booking_request_pb.js";
import type { Problem } from "../../client/problem.js";
import { nameOf } from "../text/names.js";
import type { Texts } from "../text/sv.js";

/** Returns what a failure means. A reason of a later version is told in the service's own words. */
export function explain(problem: Problem, texts: Texts): string {
  const { metadata } = problem;
  const said = texts.problem;
  switch (problem.reason) {
    case "STATE_CONFLICT": {
      const state = BookingRequest_State[metadata.state as keyof typeof BookingRequest_State];
      return said.state(nameOf(texts.names.state, state ?? 0));
    }
    case "ALREADY_BOOKED":
    case "BOOKING_MISMATCH":
      return said.bookedAlready;
    case "OUTSIDE_CONSTRAINTS":
      return said.outside;
    case "PERIOD_PASSED":
      return said.periodPassed;
    case "REFERRAL_REQUIRED":
      return said.referral;
    case "DUPLICATE_REQUEST":
      return said.duplicate;
    case "REQUEST_ID_REUSED":
      return said.reused;
    case "SCOPE_MISSING":
      return said.scope(metadata.scope ?? "");
    case "RESOURCE_NOT_FOUND":
      return texts.request.missing;
    case "OVERLOADED":
    case "RATE_LIMITED":
      return said.busy;
    case "TOKEN_EXPIRED":
      return texts.door.expired;
    case "":
      return problem.code === Code.Unauthenticated ? texts.door.why : said.unreachable;
    default:
      return said.other(problem.message);
  }
}
