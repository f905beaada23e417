/** Stands between a client and the service: fails some calls, and passes the others on. */

import { once } from "node:events";
import * as http2 from "node:http2";
import type { AddressInfo } from "node:net";

/** Milliseconds of the units of a `grpc-timeout`. */
const UNITS: Record<string, number> = { H: 3_600_000, M: 60_000, S: 1000, m: 1, u: 1e-3, n: 1e-6 };

export class Faults {
  /** Statuses with which the next calls of a method fail. */
  readonly failures: Record<string, number[]> = {};
  /** Milliseconds that each call of a method came with; none without a deadline. */
  readonly calls: Record<string, (number | undefined)[]> = {};
  readonly #server = http2.createServer();
  readonly #service: http2.ClientHttp2Session;

  private constructor(service: string) {
    this.#service = http2.connect(service);
    this.#server.on("stream", (call, headers) => this.#answer(call, headers));
  }

  static async before(service: string): Promise<Faults> {
    const faults = new Faults(service);
    faults.#server.listen(0, "127.0.0.1");
    await once(faults.#server, "listening");
    return faults;
  }

  get address(): string {
    return `127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  end(): void {
    this.#service.destroy();
    this.#server.close();
  }

  #answer(call: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders): void {
    const method = headers[":path"]?.split("/").pop() ?? "";
    this.calls[method] = [...(this.calls[method] ?? []), timeoutOf(headers)];
    // A client that goes away resets its call.
    call.on("error", () => {});
    const failure = this.failures[method]?.shift();
    if (failure === undefined) {
      this.#pass(call, headers);
      return;
    }
    const status = { ":status": 200, "content-type": "application/grpc", "grpc-status": String(failure) };
    call.respond(status, { endStream: true });
  }

  #pass(call: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders): void {
    const passed = this.#service.request(headers);
    passed.on("error", () => call.close(http2.constants.NGHTTP2_INTERNAL_ERROR));
    passed.on("response", (answer, flags) => {
      const endStream = (flags & http2.constants.NGHTTP2_FLAG_END_STREAM) !== 0;
      call.respond(answer, { endStream, waitForTrailers: !endStream });
    });
    const trailers = once(passed, "trailers");
    call.on("wantTrailers", async () => call.sendTrailers((await trailers)[0]));
    call.pipe(passed).pipe(call);
  }
}

/** Milliseconds that a call comes with. */
function timeoutOf(headers: http2.IncomingHttpHeaders): number | undefined {
  const [, amount, unit] = /^(\d+)([HMSmun])$/.exec(String(headers["grpc-timeout"])) ?? [];
  return unit ? Number(amount) * (UNITS[unit] ?? Number.NaN) : undefined;
}
