/** One intention of a person, from the form to the service's answer. */

import { Code } from "@connectrpc/connect";
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

/** An action on a request as somebody saw it. However often the same is sent, it has one `request_id` and is done once; other
 * content has another one. */
export class Intention {
  #requestId = crypto.randomUUID();
  /** What was sent with the `request_id`. */
  #content: string | undefined;
  /** True when an attempt may have been done and no later answer has said whether it was. */
  #mayBeDone = false;

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
    const write = { name, etag, requestId: this.#requestIdOf(values) };
    const options = { ...DEADLINE, signal };
    const call = () => form.send(requests, write, this.seen, values, options);
    const note = () => {
      this.#mayBeDone = true;
      onRepeat();
    };
    try {
      const answer = await repeat(call, { signal, onRepeat: note });
      return { is: "done", request: answer.bookingRequest ?? this.seen };
    } catch (error) {
      const problem = problemOf(error);
      // Who is not let in is not told what came of an earlier attempt.
      this.#mayBeDone = mayRepeat(problem) || (this.#mayBeDone && isNotLetIn(problem));
      if (problem.reason === "ETAG_MISMATCH") return { is: "conflict" };
      return { is: this.#mayBeDone ? "unknown" : "refused", problem };
    }
  }

  #requestIdOf(values: Values): string {
    const content = JSON.stringify(Object.entries(values).sort());
    if (this.#content !== undefined && this.#content !== content) this.#requestId = crypto.randomUUID();
    this.#content = content;
    return this.#requestId;
  }
}

function isNotLetIn({ code }: Problem): boolean {
  return code === Code.Unauthenticated || code === Code.PermissionDenied;
}
