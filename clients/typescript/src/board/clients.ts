/** The service's calls, over its own gRPC-Web. */

import { type Client, createClient, type Interceptor } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";
import { BookingRequestService } from "../../careinvitation/v1/booking_request_service_pb.js";
import { WorklistService } from "../../careinvitation/v1/worklist_service_pb.js";

export interface Clients {
  requests: Client<typeof BookingRequestService>;
  worklists: Client<typeof WorklistService>;
}

/** Time for one call. A stream has none: it is watched for silence instead. */
export const DEADLINE = { timeoutMs: 10_000 };

/** Makes clients of a server. The token goes into a header of each call, and nowhere else. */
export function clientsOf(server: string, token: () => string): Clients {
  const authorize: Interceptor = (next) => (call) => {
    if (token()) call.header.set("authorization", `Bearer ${token()}`);
    return next(call);
  };
  const transport = createGrpcWebTransport({
    baseUrl: server,
    interceptors: [authorize],
    fetch: (input, init) => fetch(input, { ...init, credentials: "omit", cache: "no-store" }),
  });
  return {
    requests: createClient(BookingRequestService, transport),
    worklists: createClient(WorklistService, transport),
  };
}
