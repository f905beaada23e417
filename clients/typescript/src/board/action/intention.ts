/** One intention of a person, from the form to the service's answer. */

import type { BookingRequest } from "../../../careinvitation/v1/booking_request_pb.js";
import { type Problem, problemOf } from "../../client/problem.js";
import { mayRepeat, repeat } from "../../client/repeat.js";
import { type Clients, DEADLINE } from "../clients.js";
import type { Values } from "./field.js";
import { FORMS, type Form } from "./forms.js";

export type Outcome =
  | { is: "done"; request: BookingRequest }
  /** Nothing would have changed, so no call was made. */
  | { is: "nothing" }
  /** Somebody has changed the request since it was read. */
  | { is: "conflict" }
  /** Nobody knows: only the same again can tell. */
  | { is: "unknown"; problem: Problem }
  | { is: "refused"; problem: Problem };

/** An action on a request as somebody saw it. Its `request_id` stays, so that however often it is sent, it is done once. */
export class Intention {
  readonly requestId = crypto.randomUUID();

  constructor(
    readonly action: keyof typeof FORMS,
    readonly seen: BookingRequest,
  ) {}

  /** Sends it, and the same again while there is no answer. */
  async send(
    requests: Clients["requests"],
    values: Values,
    onRepeat: () => void,
    signal: AbortSignal,
  ): Promise<Outcome> {
    const { name, etag } = this.seen;
    const form: Form = FORMS[this.action];
    if (form.isIdle?.(this.seen, values)) return { is: "nothing" };
    const write = { name, etag, requestId: this.requestId };
    const options = { ...DEADLINE, signal };
    try {
      const call = () => form.send(requests, write, this.seen, values, options);
      const answer = await repeat(call, { signal, onRepeat });
      return { is: "done", request: answer.bookingRequest ?? this.seen };
    } catch (error) {
      const problem = problemOf(error);
      if (problem.reason === "ETAG_MISMATCH") return { is: "conflict" };
      return { is: mayRepeat(problem) ? "unknown" : "refused", problem };
    }
  }
}
