"""The real service, for a test."""

import os
import pathlib
import subprocess
import tempfile
import unittest
from datetime import date, datetime, timedelta, timezone

import grpc

from careinvitation.sandbox.v1 import clock_service_pb2 as clock
from careinvitation.sandbox.v1.clock_service_pb2_grpc import ClockServiceStub
from careinvitation.v1 import booking_request_pb2 as requests
from careinvitation.v1 import booking_request_service_pb2 as booking
from careinvitation.v1.booking_request_service_pb2_grpc import BookingRequestServiceStub

UNIT = "careUnits/SE2321000131-P000000123457"
PROGRAM = os.environ.get("CARE_INVITATION_PROGRAM", "../../target/debug/care-invitation")


class ServiceTest(unittest.TestCase):
    """A test with a service of its own, on a sandbox clock."""

    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.place = pathlib.Path(self.folder.name)
        self.address = "127.0.0.1:0"
        self.start_service()
        self.channel = grpc.insecure_channel(self.address)
        self.addCleanup(self.channel.close)

    def start_service(self):
        """Starts the program; at the address and on the database that it had before it was killed."""
        now = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        line = [PROGRAM, "--listen", self.address, "--sandbox-clock", now, "--log-level", "error"]
        line += ["--database-url", f"sqlite://{self.place}/service.db"]
        self.program = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)
        self.addCleanup(self.kill)
        self.address = self.program.stdout.readline().strip().removeprefix("listening on http://")

    def kill(self):
        self.program.kill()
        self.program.wait()
        self.program.stdout.close()

    def advance(self, seconds):
        stub = ClockServiceStub(self.channel)
        then = stub.GetTime(clock.GetTimeRequest()).server_time
        then.FromSeconds(then.ToSeconds() + seconds)
        stub.AdvanceTime(clock.AdvanceTimeRequest(server_time=then))

    def invite(self, number, **patient):
        start, end = (str(date.today() + timedelta(days=days)) for days in (14, 90))
        return booking.CreateBookingRequestRequest(
            parent=UNIT,
            request_id=f"3f0c8a52-6d1e-4b7a-9c35-{number:012}",
            booking_request=requests.BookingRequest(
                patient=requests.Patient(
                    personal_id="198003012385",
                    personal_id_type=requests.PERSONAL_ID_TYPE_PERSONNUMMER,
                    inbox_reach=requests.INBOX_REACH_NONE,
                    **patient,
                ),
                referral=requests.Referral(referral_id=f"R-{number}"),
                visit_kind=requests.VISIT_KIND_NEW_VISIT,
                visit_type=requests.VisitType(code="ONH-NY"),
                purpose="Öron",
                summons=True,
                invitation=True,
                constraints={"requested_period": {"start_date": start, "end_date": end}},
            ),
        )

    def create(self, calls):
        stub = BookingRequestServiceStub(self.channel)
        answer = stub.BatchCreateBookingRequests(booking.BatchCreateBookingRequestsRequest(requests=calls))
        for result in answer.results:
            self.assertTrue(result.HasField("booking_request"), result)
        return [result.booking_request.name for result in answer.results]
