"""The connection, and streams on which nothing comes."""

import os
import signal
import subprocess
import sys
import time
import unittest
from concurrent import futures
from unittest import mock

import grpc

from care_invitation_letters import connect
from careinvitation.v1 import notification_service_pb2 as messages
from careinvitation.v1.notification_service_pb2_grpc import NotificationServiceStub
from service import ServiceTest


class Mute(grpc.GenericRpcHandler):
    """A server whose streams bring nothing. It answers pings."""

    def service(self, handler_call_details):
        def answer(request, context):
            time.sleep(20)
            return iter(())

        return grpc.unary_stream_rpc_method_handler(answer)


class Connection(ServiceTest):
    def open(self, address):
        with mock.patch.dict(os.environ, {"CARE_INVITATION_ADDRESS": address}):
            channel = connect.channel()
        self.addCleanup(channel.close)
        stub = NotificationServiceStub(channel)
        return stub.StreamDueNotifications(messages.StreamDueNotificationsRequest(), timeout=15)

    def test_a_stream_that_is_silent_is_cancelled(self):
        server = grpc.server(futures.ThreadPoolExecutor(1), handlers=[Mute()])
        address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        self.addCleanup(server.stop, None)
        with mock.patch.object(connect, "SILENCE_MAX", 2), self.assertRaisesRegex(connect.Silent, "for 2 seconds"):
            list(connect.messages(self.open(address)))

    def test_a_connection_whose_other_end_is_gone_ends(self):
        short = [(name, 500 if name.endswith("_ms") else value) for name, value in connect.KEEPALIVE]
        with mock.patch.object(connect, "KEEPALIVE", short):
            stream = self.open(self.address)
        # Its headers: the stream is open.
        stream.initial_metadata()
        self.program.send_signal(signal.SIGSTOP)
        with self.assertRaises(grpc.RpcError) as gone:
            next(stream)
        self.assertEqual(gone.exception.code(), grpc.StatusCode.UNAVAILABLE)

    def test_without_an_address_the_programs_say_so_in_one_line(self):
        environment = {key: value for key, value in os.environ.items() if key != "CARE_INVITATION_ADDRESS"}
        for name in ("care_invitation_letters", "care_invitation_fhir"):
            line = [sys.executable, "-m", name, str(self.place / "kept"), str(self.place)]
            run = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=60)
            self.assertEqual(run.returncode, 1)
            self.assertEqual(run.stderr, "CARE_INVITATION_ADDRESS is not set: host:port of the service\n")


if __name__ == "__main__":
    unittest.main()
