import { Code, ConnectError } from "@connectrpc/connect";
import { afterAll, beforeAll, expect, test } from "vitest";
import { problemOf } from "../src/client/problem.js";
import { Service, UNIT } from "./service.js";

let service: Service;

beforeAll(async () => {
  service = await Service.start();
});
afterAll(() => service.end());

test("reasons and fields are read", async () => {
  const failure = await service.requests.createBookingRequest({ parent: "careUnits/x" }).catch(problemOf);
  expect(failure).toMatchObject({ code: Code.InvalidArgument, reason: "FIELD_INVALID" });
  expect(failure).toHaveProperty("fields.parent");
  expect(failure).toHaveProperty("fields.request_id");
});

test("details of a reason are read", async () => {
  const { name } = await service.create();
  const requestId = crypto.randomUUID();
  const failure = await service.requests.revokeInvitation({ name, requestId }).catch(problemOf);
  expect(failure).toMatchObject({ reason: "STATE_CONFLICT", metadata: { state: "REQUESTED" } });
});

test("the time after which to try again is read", async () => {
  const limited = await Service.start({ arguments: ["--subject-calls-per-second", "1"] });
  try {
    const calls = Array.from({ length: 30 }, () => limited.worklists.countWorklists({ query: { careUnits: [UNIT] } }));
    const failures = (await Promise.allSettled(calls)).filter((it) => it.status === "rejected");
    const problem = problemOf(failures[0]?.reason);
    expect(problem).toMatchObject({ code: Code.ResourceExhausted, reason: "RATE_LIMITED" });
    expect(problem.retryAfter).toBeGreaterThan(0);
  } finally {
    await limited.end();
  }
});

test("a failure from elsewhere has no reason", () => {
  expect(problemOf(new TypeError("failed to fetch"))).toMatchObject({ code: Code.Unknown, reason: "", fields: {} });
  expect(problemOf(new ConnectError("from elsewhere", Code.Unavailable))).toMatchObject({ reason: "", metadata: {} });
});
