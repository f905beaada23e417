"""Stands between a client and the service, for a test: fails some calls, and passes the others on."""

from concurrent import futures

import grpc


class Faults(grpc.GenericRpcHandler):
    """A server that fails the calls of a method with the statuses that `failures` still has for it, and passes the others on.
    `calls` has the seconds that each call of a method came with."""

    def __init__(self, service):
        self.failures, self.calls = {}, {}
        self.service_channel = service
        self.server = grpc.server(futures.ThreadPoolExecutor(8), handlers=[self])
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def service(self, handler_call_details):
        method = handler_call_details.method.rsplit("/", 1)[1]

        def answer(request, context):
            self.calls.setdefault(method, []).append(context.time_remaining())
            if self.failures.get(method):
                context.abort(self.failures[method].pop(0), "a fault")
            # As of bytes, which is what they are on the wire.
            return self.service_channel.unary_unary(handler_call_details.method)(request)

        return grpc.unary_unary_rpc_method_handler(answer)
