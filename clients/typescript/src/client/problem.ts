/** Why a call failed. */

import { fromBinary } from "@bufbuild/protobuf";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { DurationSchema } from "@bufbuild/protobuf/wkt";
import { type Code, ConnectError } from "@connectrpc/connect";

export interface Problem {
  code: Code;
  /** A name of ErrorReason without its prefix; empty when the failure does not come from the service. */
  reason: string;
  /** Details of the reason, by the keys that ErrorReason names. */
  metadata: Record<string, string>;
  /** For people, in English: never personal data. */
  message: string;
  /** Faults of fields, by their paths. */
  fields: Record<string, string>;
  /** Milliseconds after which the call may be tried again, if the service said so. */
  retryAfter: number | undefined;
}

/** Returns why a call failed. */
export function problemOf(error: unknown): Problem {
  const { code, details, rawMessage: message } = ConnectError.from(error);
  const problem: Problem = { code, reason: "", metadata: {}, message, fields: {}, retryAfter: undefined };
  for (const detail of details) {
    if (!("type" in detail)) continue;
    const of = parts(detail.value);
    if (detail.type === "google.rpc.ErrorInfo") {
      problem.reason = text(of(1));
      problem.metadata = Object.fromEntries(of(3).map(pair));
    } else if (detail.type === "google.rpc.BadRequest") {
      problem.fields = Object.fromEntries(of(1).map(pair));
    } else if (detail.type === "google.rpc.RetryInfo" && of(1)[0]) {
      const delay = fromBinary(DurationSchema, of(1)[0] ?? new Uint8Array());
      problem.retryAfter = Number(delay.seconds) * 1000 + delay.nanos / 1e6;
    }
  }
  return problem;
}

/** Returns a reader of a message's parts by field number. The messages of error details hold texts and messages alone. */
function parts(message: Uint8Array): (field: number) => Uint8Array[] {
  const found: [number, Uint8Array][] = [];
  const reader = new BinaryReader(message);
  while (reader.pos < reader.len) {
    const [field, type] = reader.tag();
    if (type === WireType.LengthDelimited) found.push([field, reader.bytes()]);
    else reader.skip(type, field);
  }
  return (field) => found.filter(([it]) => it === field).map(([, bytes]) => bytes);
}

function text(bytes: Uint8Array[]): string {
  return new TextDecoder().decode(bytes.at(-1));
}

/** Reads an entry of a map, or a field violation: two texts, 1 and 2. */
function pair(message: Uint8Array): [string, string] {
  const of = parts(message);
  return [text(of(1)), text(of(2))];
}
