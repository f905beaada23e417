"""Reads what has changed since the last run, and puts each request that has into a FHIR server, as docs/changes.md says.

A request is read as it is now, so a change that comes twice does no harm, and of several changes one resource is made.
"""

import fcntl
import json
import os
import pathlib
import urllib.request

import grpc

from care_invitation_fhir import appointment
from care_invitation_letters import connect
from careinvitation.v1 import booking_request_service_pb2 as booking
from careinvitation.v1.booking_request_service_pb2_grpc import BookingRequestServiceStub

# Seconds for a call of either server.
CALL_MAX = 10


def run(channel: grpc.Channel, cursor: pathlib.Path, base: str) -> int:
    """Puts all requests that have changed since the cursor, and returns how many times. The first run begins with the oldest
    changes that are kept. What fails is done by the next run: the cursor stands at what is done. A second run waits for the
    first, or it could put what the first one has read since."""
    # Beside the cursor, which is another file after each step.
    with cursor.with_name(cursor.name + ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return _run(channel, cursor, base)


def _run(channel: grpc.Channel, cursor: pathlib.Path, base: str) -> int:
    service = BookingRequestServiceStub(channel)
    place = cursor.read_text() if cursor.exists() else "0"
    call = booking.StreamChangesRequest(care_units=["careUnits/-"], after_cursor=place, until_idle=True)
    count = 0
    for message in connect.messages(service.StreamChanges(call)):
        # A dict keeps their order.
        for name in dict.fromkeys(it.booking_request for it in message.changes):
            count += _put(service, name, base)
        _replace(cursor, message.cursor)
    return count


def _put(service, name: str, base: str) -> bool:
    """Puts a request as it is now; false when there is none any more."""
    try:
        answer = service.GetBookingRequest(booking.GetBookingRequestRequest(name=name), timeout=CALL_MAX)
    except grpc.RpcError as failure:
        if failure.code() == grpc.StatusCode.NOT_FOUND:
            return False
        raise
    resource = appointment.of(answer.booking_request)
    put = urllib.request.Request(
        f"{base}/Appointment/{resource['id']}",
        method="PUT",
        data=json.dumps(resource).encode(),
        headers={"Content-Type": "application/fhir+json"},
    )
    # Anything but success is an error.
    urllib.request.urlopen(put, timeout=CALL_MAX).close()
    return True


def _replace(path: pathlib.Path, text: str) -> None:
    """Writes a file whole or not at all. Durable when it returns."""
    new = path.with_name(path.name + ".new")
    with new.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
