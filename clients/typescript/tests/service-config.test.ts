/** The service config that the service publishes: as grpc-js takes it, and what stands in its place in Connect. */

import { readFile } from "node:fs/promises";
import {
  create,
  type DescMessage,
  type DescMethodStreaming,
  type DescMethodUnary,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";
import { Code, createClient } from "@connectrpc/connect";
import { createGrpcTransport } from "@connectrpc/connect-node";
import { Client, credentials, status } from "@grpc/grpc-js";
import { afterEach, beforeEach, expect, test } from "vitest";
import { BookingRequestService } from "../careinvitation/v1/booking_request_service_pb.js";
import { NotificationService } from "../careinvitation/v1/notification_service_pb.js";
import { WorklistService } from "../careinvitation/v1/worklist_service_pb.js";
import { problemOf } from "../src/client/problem.js";
import { repeating } from "../src/client/repeat.js";
import { Faults } from "./faults.js";
import { creation, Service } from "./service.js";

const CONFIG = await readFile(new URL("../../../proto/service-config.json", import.meta.url), "utf8");
const { createBookingRequest, getBookingRequest, listHistory } = BookingRequestService.method;
const { UNAVAILABLE, RESOURCE_EXHAUSTED, NOT_FOUND } = status;
const NAME = "careUnits/SE2321000131-P1/bookingRequests/01a206ad-7fe0-72cb-8621-358341146611";

let service: Service;
let faults: Faults;

beforeEach(async () => {
  service = await Service.start();
  faults = await Faults.before(service.url);
});
afterEach(async () => {
  faults.end();
  await service.end();
});

/** A client of grpc-js with the service config. */
function clientOf(address: string): Client {
  return new Client(address, credentials.createInsecure(), { "grpc.service_config": CONFIG });
}

function write(type: DescMessage): (message: MessageShape<DescMessage>) => Buffer {
  return (message) => Buffer.from(toBinary(type, message));
}

function pathOf(method: DescMethodUnary | DescMethodStreaming): string {
  return `/${method.parent.typeName}/${method.name}`;
}

/** Makes a call. */
function call<I extends DescMessage, O extends DescMessage>(
  client: Client,
  method: DescMethodUnary<I, O>,
  given: MessageInitShape<I>,
): Promise<MessageShape<O>> {
  const read = (bytes: Buffer) => fromBinary(method.output, bytes);
  const request = create(method.input, given);
  return new Promise((resolve, reject) => {
    client.makeUnaryRequest(pathOf(method), write(method.input), read, request, (error, answer) =>
      answer ? resolve(answer) : reject(error),
    );
  });
}

test("grpc-js makes a call up to five times while the service is unavailable", async () => {
  faults.failures.CreateBookingRequest = Array(4).fill(UNAVAILABLE);
  faults.failures.GetBookingRequest = Array(9).fill(UNAVAILABLE);
  faults.failures.ListHistory = [UNAVAILABLE, RESOURCE_EXHAUSTED];
  const client = clientOf(faults.address);
  const begun = performance.now();
  const never = expect(call(client, getBookingRequest, { name: NAME })).rejects.toMatchObject({ code: UNAVAILABLE });
  const refused = call(client, listHistory, { name: NAME });
  const busy = expect(refused).rejects.toMatchObject({ code: RESOURCE_EXHAUSTED });
  const { bookingRequest } = await call(client, createBookingRequest, creation("R-1"));
  // Half a second, one, two and three, each a fifth more or less.
  const took = performance.now() - begun;
  expect(took).toBeGreaterThan(5000);
  expect(took).toBeLessThan(9000);
  await Promise.all([never, busy]);
  expect(await service.get(bookingRequest?.name ?? "")).toMatchObject({ name: bookingRequest?.name });
  const counts = Object.entries(faults.calls).map(([method, calls]) => [method, calls.length]);
  expect(Object.fromEntries(counts)).toEqual({ CreateBookingRequest: 5, GetBookingRequest: 5, ListHistory: 2 });
  client.close();
});

test("grpc-js gives each method its deadline, and streams none", async () => {
  const client = clientOf(faults.address);
  const { batchCreateBookingRequests, streamChanges } = BookingRequestService.method;
  for (const [method, seconds] of [
    [getBookingRequest, 10],
    [NotificationService.method.listNotifications, 10],
    [batchCreateBookingRequests, 30],
  ] as [DescMethodUnary, number][]) {
    faults.failures[method.name] = [NOT_FOUND];
    await expect(call(client, method, {})).rejects.toMatchObject({ code: NOT_FOUND });
    const left = faults.calls[method.name]?.[0];
    expect(left, method.name).toBeGreaterThan((seconds - 5) * 1000);
    expect(left, method.name).toBeLessThanOrEqual(seconds * 1000);
  }
  const streams: DescMethodStreaming[] = [
    streamChanges,
    NotificationService.method.streamDueNotifications,
    WorklistService.method.watchWorklist,
  ];
  for (const method of streams) {
    faults.failures[method.name] = [NOT_FOUND];
    const empty = create(method.input);
    const stream = client.makeServerStreamRequest(pathOf(method), write(method.input), () => undefined, empty);
    await new Promise((resolve) => stream.on("error", resolve).resume());
    expect(faults.calls[method.name]).toEqual([undefined]);
  }
  client.close();
});

test("with grpc-js a call outlasts a restart", async () => {
  const client = clientOf(service.url.replace("http://", ""));
  const first = await call(client, createBookingRequest, creation("R-2"));
  await service.kill();
  const second = call(client, createBookingRequest, creation("R-3"));
  await new Promise((resolve) => setTimeout(resolve, 1000));
  await service.run();
  const names = [first, await second].map(({ bookingRequest }) => bookingRequest?.name ?? "");
  for (const name of names) expect(await service.get(name)).toMatchObject({ name });
  client.close();
});

test("Connect repeats with an interceptor, within the time that a call is given", async () => {
  faults.failures.CreateBookingRequest = Array(4).fill(UNAVAILABLE);
  faults.failures.GetBookingRequest = Array(9).fill(UNAVAILABLE);
  faults.failures.StreamChanges = [UNAVAILABLE];
  const transport = createGrpcTransport({ baseUrl: `http://${faults.address}`, interceptors: [repeating] });
  const requests = createClient(BookingRequestService, transport);
  const late = requests.getBookingRequest({ name: NAME }, { timeoutMs: 1000 }).catch(problemOf);
  const { bookingRequest } = await requests.createBookingRequest(creation("R-4"), { timeoutMs: 10_000 });
  expect(await service.get(bookingRequest?.name ?? "")).toMatchObject({ name: bookingRequest?.name });
  expect(await late).toMatchObject({ code: Code.DeadlineExceeded });
  expect(faults.calls.CreateBookingRequest).toHaveLength(5);
  expect(faults.calls.GetBookingRequest?.length).toBeLessThan(4);
  const opened = (given: typeof requests) =>
    given
      .streamChanges({ careUnits: ["careUnits/-"] })
      [Symbol.asyncIterator]()
      .next()
      .catch(problemOf);
  expect(await opened(requests)).toMatchObject({ code: Code.Unavailable });
  // A time for all calls would be one for streams too.
  faults.failures.StreamChanges = [UNAVAILABLE];
  const timed = createGrpcTransport({ baseUrl: `http://${faults.address}`, defaultTimeoutMs: 10_000 });
  await opened(createClient(BookingRequestService, timed));
  expect(faults.calls.StreamChanges).toEqual([undefined, 10_000]);
});
