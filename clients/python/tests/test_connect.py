"""The connection, and streams on which nothing comes."""

import os
import pathlib
import signal
import subprocess
import sys
import tempfile
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


class Door(grpc.GenericRpcHandler):
    """A server behind TLS that answers each call with the token that it came with."""

    def __init__(self, folder: pathlib.Path):
        self.ca, key = folder / "server.pem", folder / "server.key"
        line = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=care"]
        line += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", self.ca]
        subprocess.run(line, check=True, capture_output=True)
        self.server = grpc.server(futures.ThreadPoolExecutor(1), handlers=[self])
        credentials = grpc.ssl_server_credentials([(key.read_bytes(), self.ca.read_bytes())])
        self.address = f"127.0.0.1:{self.server.add_secure_port('127.0.0.1:0', credentials)}"
        self.server.start()

    def service(self, handler_call_details):
        token = dict(handler_call_details.invocation_metadata).get("authorization", "")
        return grpc.unary_unary_rpc_method_handler(lambda request, context: token.encode())


class Token(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.door = Door(pathlib.Path(folder.name))
        self.addCleanup(self.door.server.stop, None)
        self.file = pathlib.Path(folder.name, "token")
        environment = {"CARE_INVITATION_ADDRESS": self.door.address, "CARE_INVITATION_TOKEN_FILE": str(self.file)}
        patch = mock.patch.dict(os.environ, environment)
        patch.start()
        self.addCleanup(patch.stop)

    def test_a_token_is_read_anew_at_each_call(self):
        self.file.write_text("first\n")
        with mock.patch.dict(os.environ, {"CARE_INVITATION_CA": str(self.door.ca)}):
            channel = connect.channel()
        self.addCleanup(channel.close)
        call = channel.unary_unary("/a/method")
        self.assertEqual(call(b"", timeout=10), b"Bearer first")
        self.file.write_text("second\n")
        self.assertEqual(call(b"", timeout=10), b"Bearer second")
        self.file.unlink()
        with self.assertRaises(grpc.RpcError) as gone:
            call(b"", timeout=10)
        self.assertEqual(gone.exception.code(), grpc.StatusCode.UNAVAILABLE)
        self.file.write_text("third")
        self.assertEqual(call(b"", timeout=10), b"Bearer third")

    def test_a_token_that_is_missing_at_the_start_is_named(self):
        with mock.patch.dict(os.environ, {"CARE_INVITATION_CA": str(self.door.ca)}):
            with self.assertRaisesRegex(OSError, str(self.file)):
                connect.channel()

    def test_a_token_is_not_sent_in_plain_text(self):
        self.file.write_text("secret")
        with mock.patch.dict(os.environ):
            os.environ.pop("CARE_INVITATION_CA", None)
            with self.assertRaisesRegex(SystemExit, "CARE_INVITATION_TOKEN_FILE needs CARE_INVITATION_CA"):
                connect.channel()


if __name__ == "__main__":
    unittest.main()
