/** The real service for tests, on a database of its own and a sandbox clock. */

import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import type { MessageInitShape } from "@bufbuild/protobuf";
import { timestampFromMs, timestampMs } from "@bufbuild/protobuf/wkt";
import { createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { ClockService } from "../careinvitation/sandbox/v1/clock_service_pb.js";
import {
  type BookingRequest,
  type BookingRequestSchema,
  PersonalIdType,
  VisitKind,
} from "../careinvitation/v1/booking_request_pb.js";
import { BookingRequestService } from "../careinvitation/v1/booking_request_service_pb.js";
import { Acknowledgement_Outcome, NotificationService } from "../careinvitation/v1/notification_service_pb.js";
import { WorklistService } from "../careinvitation/v1/worklist_service_pb.js";

const PROGRAM = process.env.CARE_INVITATION_PROGRAM ?? "../../target/debug/care-invitation";

export const HSA_ID = "SE2321000131-P000000123457";
export const UNIT = `careUnits/${HSA_ID}`;

/** Numbers that the Swedish Tax Agency keeps for tests. */
export const PATIENTS = ["198003012385", "191212121212", "189001019802"] as const;

/** Fields of a request. */
export type Given = Exclude<MessageInitShape<typeof BookingRequestSchema>, BookingRequest>;

export interface Options {
  origin?: string;
  now?: string;
  arguments?: string[];
  token?: string;
}

/** The call that creates the smallest valid request for a referral, but for what is given. */
export function creation(referralId: string, given: Given = {}) {
  return {
    parent: UNIT,
    requestId: crypto.randomUUID(),
    bookingRequest: {
      patient: { personalId: PATIENTS[0], personalIdType: PersonalIdType.PERSONNUMMER },
      origin: { case: "referral" as const, value: { referralId } },
      visitKind: VisitKind.NEW_VISIT,
      visitType: { code: "ONH-NY", displayName: "ÖNH läkare nybesök" },
      purpose: "Öron",
      constraints: { requestedPeriod: { startDate: "2026-03-16", endDate: "2026-06-12" } },
      ...given,
    },
  };
}

export class Service {
  #process: ChildProcess | undefined;
  #address = "127.0.0.1:0";
  #now: string;
  #count = 0;

  private constructor(
    readonly folder: string,
    readonly options: Options,
  ) {
    this.#now = options.now ?? "2026-03-02T09:00:00Z";
  }

  static async start(options: Options = {}): Promise<Service> {
    const service = new Service(await mkdtemp(join(tmpdir(), "board-")), options);
    await service.run();
    return service;
  }

  get url(): string {
    return `http://${this.#address}`;
  }

  /** Starts the program, at the address that it had before. */
  async run(): Promise<void> {
    const line = ["--listen", this.#address, "--sandbox-clock", this.#now];
    line.push("--database-url", `sqlite://${join(this.folder, "service.db")}`);
    line.push("--cors-origin", this.options.origin ?? "http://127.0.0.1:1", ...(this.options.arguments ?? []));
    const environment = { ...process.env, CARE_INVITATION_LOG_LEVEL: "error" };
    const started = spawn(PROGRAM, line, { env: environment, stdio: ["ignore", "pipe", "inherit"] });
    this.#process = started;
    for await (const said of createInterface({ input: started.stdout })) {
      this.#address = said.replace("listening on http://", "").trim();
      return;
    }
    throw new Error("the service did not start");
  }

  /** Ends the program as a crash does. */
  async kill(): Promise<void> {
    const { serverTime } = await this.clock.getTime({}).catch(() => ({ serverTime: undefined }));
    if (serverTime) this.#now = new Date(timestampMs(serverTime)).toISOString();
    const ended = this.#process;
    if (!ended || ended.exitCode !== null || ended.signalCode !== null) return;
    ended.kill("SIGKILL");
    await once(ended, "exit");
  }

  async end(): Promise<void> {
    await this.kill();
    await rm(this.folder, { recursive: true });
  }

  get #transport() {
    const { token } = this.options;
    const authorize: Interceptor = (next) => (call) => {
      if (token) call.header.set("authorization", `Bearer ${token}`);
      return next(call);
    };
    return createGrpcWebTransport({ baseUrl: this.url, interceptors: [authorize] });
  }

  get requests() {
    return createClient(BookingRequestService, this.#transport);
  }

  get worklists() {
    return createClient(WorklistService, this.#transport);
  }

  get clock() {
    return createClient(ClockService, this.#transport);
  }

  /** Moves the clock. */
  async advance(days: number): Promise<void> {
    const { serverTime } = await this.clock.getTime({});
    if (!serverTime) throw new Error("no sandbox");
    await this.clock.advanceTime({ serverTime: timestampFromMs(timestampMs(serverTime) + days * 86_400_000) });
  }

  /** Creates the smallest valid request, but for what is given. */
  async create(given: Given = {}): Promise<BookingRequest> {
    this.#count += 1;
    const { bookingRequest } = await this.requests.createBookingRequest(creation(`R-${this.#count}`, given));
    if (!bookingRequest) throw new Error("not created");
    return bookingRequest;
  }

  invite(given: Given = {}): Promise<BookingRequest> {
    return this.create({ summons: true, invitation: true, ...given });
  }

  async get(name: string): Promise<BookingRequest> {
    const { bookingRequest } = await this.requests.getBookingRequest({ name });
    if (!bookingRequest) throw new Error("no such request");
    return bookingRequest;
  }

  /** Hands over what is due, as an adapter does. */
  async deliver(outcome = Acknowledgement_Outcome.SENT): Promise<void> {
    const notifications = createClient(NotificationService, this.#transport);
    for await (const { event } of notifications.streamDueNotifications({ careUnits: [UNIT], untilIdle: true })) {
      if (event.case !== "due") continue;
      const lease = { name: event.value.notification?.name ?? "", leaseToken: event.value.leaseToken };
      await notifications.acknowledgeNotifications({ acknowledgements: [{ lease, outcome }] });
    }
  }
}
