"""The service config that the service publishes, as grpcio takes it."""

import pathlib
import signal
import time

import grpc

from careinvitation.v1 import booking_request_service_pb2 as booking
from careinvitation.v1 import notification_service_pb2 as messages
from careinvitation.v1 import worklist_service_pb2 as worklists
from careinvitation.v1.booking_request_service_pb2_grpc import BookingRequestServiceStub
from careinvitation.v1.notification_service_pb2_grpc import NotificationServiceStub
from careinvitation.v1.worklist_service_pb2_grpc import WorklistServiceStub
from faults import Faults
from service import UNIT, ServiceTest

CONFIG = pathlib.Path(__file__, "../../../../proto/service-config.json").resolve().read_text()
INVITATIONS = {"worklists": [worklists.WORKLIST_ALL_INVITATIONS], "care_units": [UNIT]}
AWAY, BUSY = grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED


class ServiceConfig(ServiceTest):
    def configured(self, address):
        channel = grpc.insecure_channel(address, options=[("grpc.service_config", CONFIG)])
        self.addCleanup(channel.close)
        return channel

    def faults(self):
        faults = Faults(self.channel)
        self.addCleanup(faults.server.stop, None)
        return faults, self.configured(faults.address)

    def requests(self):
        list_all = worklists.ListWorklistRequest(query=INVITATIONS)
        found = WorklistServiceStub(self.channel).ListWorklist(list_all, wait_for_ready=True)
        return [it.name for it in found.booking_requests]

    def test_a_call_is_made_up_to_five_times_while_the_service_is_unavailable(self):
        faults, channel = self.faults()
        faults.failures = {
            "CreateBookingRequest": [AWAY] * 4,
            "GetBookingRequest": [AWAY] * 9,
            "ListHistory": [AWAY, BUSY],
        }
        service, begun = BookingRequestServiceStub(channel), time.monotonic()
        name = f"{UNIT}/bookingRequests/01a206ad-7fe0-72cb-8621-358341146611"
        never = service.GetBookingRequest.future(booking.GetBookingRequestRequest(name=name))
        refused = service.ListHistory.future(booking.ListHistoryRequest(name=name), timeout=8)
        created = service.CreateBookingRequest(self.invite(1)).booking_request
        # Half a second, one, two and three, each a fifth more or less.
        self.assertTrue(5 < time.monotonic() - begun < 9, time.monotonic() - begun)
        self.assertEqual(self.requests(), [created.name])
        self.assertEqual((never.code(), refused.code()), (AWAY, BUSY))
        counts = {method: len(calls) for method, calls in faults.calls.items()}
        self.assertEqual(counts, {"CreateBookingRequest": 5, "GetBookingRequest": 5, "ListHistory": 2})
        # The service knows the time that a call brings, not that of the service config.
        self.assertTrue(all(left < 9 for left in faults.calls["ListHistory"]), faults.calls)
        self.assertTrue(all(left > 86400 for left in faults.calls["GetBookingRequest"]), faults.calls)

    def test_a_call_ends_when_the_service_is_silent_and_a_stream_does_not(self):
        channel = self.configured(self.address)
        streams = [
            BookingRequestServiceStub(channel).StreamChanges(booking.StreamChangesRequest(care_units=["careUnits/-"])),
            NotificationServiceStub(channel).StreamDueNotifications(messages.StreamDueNotificationsRequest()),
            WorklistServiceStub(channel).WatchWorklist(worklists.WatchWorklistRequest(query=INVITATIONS)),
        ]
        next(streams[0])
        self.program.send_signal(signal.SIGSTOP)
        begun = time.monotonic()
        with self.assertRaises(grpc.RpcError) as silent:
            WorklistServiceStub(channel).ListCareUnits(worklists.ListCareUnitsRequest())
        self.assertEqual(silent.exception.code(), grpc.StatusCode.DEADLINE_EXCEEDED)
        took = time.monotonic() - begun
        # grpcio counts from up to two seconds before the call.
        self.assertTrue(7.5 < took < 12, took)
        time.sleep(max(0, 12 - took))
        self.assertEqual([it.code() for it in streams if not it.is_active()], [])
        self.program.send_signal(signal.SIGCONT)
        self.assertEqual(self.requests(), [])

    def test_a_call_outlasts_a_restart(self):
        service = BookingRequestServiceStub(self.configured(self.address))
        first = service.CreateBookingRequest(self.invite(1)).booking_request.name
        self.kill()
        second = service.CreateBookingRequest.future(self.invite(2))
        time.sleep(1)
        self.assertFalse(second.done())
        self.start_service()
        second = second.result().booking_request.name
        self.assertEqual(sorted(self.requests()), sorted([first, second]))
