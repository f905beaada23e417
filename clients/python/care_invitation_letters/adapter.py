"""Takes the letters that are due, hands each over once, and acknowledges it, as docs/consumers.md asks.

Handing over is renaming the PDF in a folder, whence the printer fetches it. It is written whole under another name before that
is begun, so that after a crash the folder says what was done: where that name is gone, the letter was handed over.
"""

import hashlib
import logging
import os
import pathlib
import time

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from care_invitation_letters import letter
from care_invitation_letters.journal import Journal
from careinvitation.v1 import care_invitation_pb2 as invitations
from careinvitation.v1 import notification_service_pb2 as messages
from careinvitation.v1.notification_service_pb2_grpc import NotificationServiceStub

log = logging.getLogger(__name__)
# Seconds for a call, and how often it is made before the run gives up: cron makes another one.
CALL_MAX = 10
ATTEMPTS_MAX = 5
OUTCOME = messages.Acknowledgement
PASSING = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)


def run(channel: grpc.Channel, journal: Journal, folder: pathlib.Path) -> int:
    """Hands over all letters that are due, and returns how many."""
    service = NotificationServiceStub(channel)
    stream = service.StreamDueNotifications(
        messages.StreamDueNotificationsRequest(
            channels=[invitations.DELIVERY_CHANNEL_LETTER], until_idle=True, always_authorizes=True, max_outstanding=20
        )
    )
    count = 0
    for event in stream:
        if event.WhichOneof("event") == "due":
            answer = _take(service, journal, folder, event.due)
            if answer:
                _acknowledge(service, event.due, answer)
                count += answer.outcome == OUTCOME.OUTCOME_SENT
    return count


def _take(service, journal: Journal, folder: pathlib.Path, due: messages.DueNotification) -> messages.Acknowledgement | None:
    """Takes a letter through its steps, and returns what is to be said of it; nothing when it is not wanted any more."""
    name, place = due.notification.name, _place(folder, due)
    new = place.with_suffix(".new")
    entry = journal.look(name)
    if entry and entry.is_sent:
        return _sent(entry.at)
    if entry and not new.exists():
        # A run ended after it had renamed the letter; the printer may have fetched it since.
        journal.sent(name, entry.at)
        return _sent(entry.at)
    may_be_missing = due.possible_repeat and due.notification.due_time.ToSeconds() < journal.since
    if may_be_missing and not entry and not due.released_by_staff:
        return _park("it may have been handed over at a time of which the journal knows nothing")
    try:
        _write(new, letter.page(due))
    except letter.CannotBeProduced as why:
        return _park(str(why))
    lease = messages.Lease(name=name, lease_token=due.lease_token)
    allowed = _repeat(service.AuthorizeDispatch, messages.AuthorizeDispatchRequest(leases=[lease])).results[0]
    if not allowed.authorized:
        log.info("%s is not wanted any more: %s", name, messages.DispatchRefusal.Name(allowed.refusal))
        return None
    journal.begin(name)
    new.rename(place)
    _sync(folder)
    now = time.time()
    journal.sent(name, now)
    return _sent(now)


def _place(folder: pathlib.Path, due: messages.DueNotification) -> pathlib.Path:
    return folder / f"{hashlib.sha256(due.notification.name.encode()).hexdigest()}.pdf"


def _write(place: pathlib.Path, page: bytes) -> None:
    """Writes a file. Durable when it returns."""
    with place.open("wb") as file:
        file.write(page)
        file.flush()
        os.fsync(file.fileno())
    _sync(place.parent)


def _sync(folder: pathlib.Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


def _sent(at: float) -> messages.Acknowledgement:
    said = messages.Acknowledgement(outcome=OUTCOME.OUTCOME_SENT, send_time=Timestamp())
    said.send_time.FromNanoseconds(int(at * 1e9))
    return said


def _park(cause: str) -> messages.Acknowledgement:
    return messages.Acknowledgement(outcome=OUTCOME.OUTCOME_PARK, cause=cause)


def _acknowledge(service, due: messages.DueNotification, said: messages.Acknowledgement) -> None:
    said.lease.name, said.lease.lease_token = due.notification.name, due.lease_token
    answer = _repeat(service.AcknowledgeNotifications, messages.AcknowledgeNotificationsRequest(acknowledgements=[said]))
    if not answer.results[0].recorded:
        log.warning("%s: not recorded: %s", said.lease.name, answer.results[0])


def _repeat(call, request):
    """Makes a call again while it may succeed: all calls of a consumer are safe to repeat."""
    for attempt in range(1, ATTEMPTS_MAX + 1):
        try:
            return call(request, timeout=CALL_MAX)
        except grpc.RpcError as failure:
            if failure.code() not in PASSING or attempt == ATTEMPTS_MAX:
                raise
            time.sleep(min(2**attempt, 20))
