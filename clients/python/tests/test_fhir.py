"""Appointments, against the real service and a FHIR server that keeps what it is given."""

import fcntl
import http.server
import json
import os
import subprocess
import sys
import threading
import unittest

from careinvitation.v1 import booking_request_pb2 as requests
from careinvitation.v1 import booking_request_service_pb2 as booking
from careinvitation.v1.booking_request_service_pb2_grpc import BookingRequestServiceStub
from service import ServiceTest

ID = "3f0c8a52-6d1e-4b7a-9c36-{:012}"


class Fhir(http.server.BaseHTTPRequestHandler):
    """A FHIR server that knows PUT alone, and fails as often as it is told to."""

    def do_PUT(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        failing = self.server.failing > 0
        self.server.failing -= 1
        if not failing:
            self.server.stored[self.path] = json.loads(body)
        self.send_response(503 if failing else 200)
        self.end_headers()

    def log_message(self, *_):
        pass


class Appointments(ServiceTest):
    def setUp(self):
        super().setUp()
        self.fhir = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Fhir)
        self.fhir.stored, self.fhir.failing = {}, 0
        threading.Thread(target=self.fhir.serve_forever, daemon=True).start()
        self.addCleanup(self.fhir.server_close)
        self.addCleanup(self.fhir.shutdown)

    def start(self):
        base = f"http://127.0.0.1:{self.fhir.server_port}/fhir"
        line = [sys.executable, "-m", "care_invitation_fhir", str(self.place / "cursor"), base]
        environment = {**os.environ, "CARE_INVITATION_ADDRESS": self.address}
        return subprocess.Popen(line, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def run_once(self):
        return self.start().wait(timeout=60)

    def stored(self, name):
        return self.fhir.stored["/fhir/Appointment/" + name.rsplit("/", 1)[1]]

    def book(self, name):
        start = requests.Booking(booking_id="B-1", source=requests.BOOKING_SOURCE_STAFF, override_reason="by telephone")
        for field, hours in ((start.start_time, 24 * 20), (start.end_time, 24 * 20 + 1)):
            field.GetCurrentTime()
            field.seconds += 3600 * hours
        call = booking.RecordBookingRequest(name=name, request_id=ID.format(1), booking=start)
        BookingRequestServiceStub(self.channel).RecordBooking(call)

    def test_each_request_is_an_appointment_as_it_is_now(self):
        names = self.create([self.invite(number) for number in range(3)])
        self.assertEqual(self.run_once(), 0)
        self.assertEqual([self.stored(it)["status"] for it in names], ["proposed"] * 3)
        self.assertNotIn("start", self.stored(names[0]))
        self.assertEqual(self.stored(names[0])["basedOn"][0]["identifier"]["value"], "R-0")
        self.book(names[0])
        cancel = booking.CancelBookingRequestRequest(
            name=names[1], request_id=ID.format(2), reason=requests.CANCEL_REASON_UNIT_REQUEST
        )
        BookingRequestServiceStub(self.channel).CancelBookingRequest(cancel)
        self.assertEqual(self.run_once(), 0)
        self.assertEqual([self.stored(it)["status"] for it in names], ["booked", "cancelled", "proposed"])
        booked = self.stored(names[0])
        self.assertLess(booked["start"], booked["end"])
        self.assertIn("B-1", [it["value"] for it in booked["identifier"]])
        self.assertEqual([it["status"] for it in booked["participant"]], ["accepted", "accepted"])

    def test_what_failed_is_done_by_the_next_run(self):
        names = self.create([self.invite(number) for number in range(5)])
        self.fhir.failing = 1
        self.assertNotEqual(self.run_once(), 0)
        self.assertFalse((self.place / "cursor").exists())
        self.assertEqual(self.run_once(), 0)
        self.assertEqual(len(self.fhir.stored), len(names))
        self.advance(60)
        self.fhir.stored.clear()
        self.assertEqual(self.run_once(), 0)
        self.assertEqual(self.run_once(), 0)
        self.fhir.stored.clear()
        self.assertEqual(self.run_once(), 0)
        self.assertEqual(self.fhir.stored, {})

    def test_a_second_run_waits_for_the_first(self):
        self.create([self.invite(1)])
        with (self.place / "cursor.lock").open("w") as first:
            fcntl.flock(first, fcntl.LOCK_EX)
            second = self.start()
            with self.assertRaises(subprocess.TimeoutExpired):
                second.wait(timeout=4)
            self.assertEqual(self.fhir.stored, {})
        self.assertEqual(second.wait(timeout=60), 0)
        self.assertEqual(len(self.fhir.stored), 1)


if __name__ == "__main__":
    unittest.main()
