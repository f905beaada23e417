"""Takes the letters that are due, hands each over once, and acknowledges it, as docs/consumers.md asks.

Handing over is renaming the PDF in a folder, whence the printer fetches it. It is written whole under another name before that
is begun, so that after a crash the folder says what was done: where that name is gone, the letter was handed over.
"""

import hashlib
import logging
import os
import pathlib
import sqlite3
import tempfile
import time
import traceback

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from care_invitation_letters import connect, letter
from care_invitation_letters.journal import Journal
from careinvitation.v1 import care_invitation_pb2 as invitations
from careinvitation.v1 import notification_service_pb2 as messages
from careinvitation.v1.notification_service_pb2_grpc import NotificationServiceStub

log = logging.getLogger(__name__)
# Seconds for a call, and how often it is made before the run gives up: cron makes another one.
CALL_MAX = 10
ATTEMPTS_MAX = 5
# Letters that are leased at a time.
OUTSTANDING_MAX = 20
# Seconds without another letter after which all that were leased have come.
QUIET = 1
# Bytes that the folder must have room for before a letter is leased: those of some letters.
ROOM = 64 * 1024
# What the folder, the journal or the look-up of a region fails with: not the fault of one letter.
FAILURES = (OSError, sqlite3.Error)
OUTCOME = messages.Acknowledgement
PASSING = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
)


class _HandedOver(OSError):
    """A letter was handed over, and that could not be made durable."""


def run(channel: grpc.Channel, journal: Journal, folder: pathlib.Path) -> int:
    """Hands over all letters that are due, and returns how many. When the folder or the journal fails, gives back all that it
    has leased: leases that run out park the letters after some runs."""
    _try(folder)
    service = NotificationServiceStub(channel)
    stream = service.StreamDueNotifications(
        messages.StreamDueNotificationsRequest(
            channels=[invitations.DELIVERY_CHANNEL_LETTER], until_idle=True, always_authorizes=True, max_outstanding=OUTSTANDING_MAX
        )
    )
    count = 0
    for event in connect.messages(stream):
        if event.WhichOneof("event") == "due":
            try:
                answer = _take(service, journal, folder, event.due)
            except FAILURES as why:
                _give_back(service, stream, event.due, why)
                raise
            if answer:
                _acknowledge(service, [(event.due, answer)])
                count += answer.outcome == OUTCOME.OUTCOME_SENT
    return count


def _give_back(service, stream: grpc.Call, due: messages.DueNotification, why: Exception) -> None:
    """Gives back the letter that has failed, and all that were leased after it."""
    cause = getattr(why.__cause__ or why, "strerror", None) or "the journal or the look-up of the adapter has failed"
    held = [(due, _retry(cause, may_have_been_sent=isinstance(why, _HandedOver)))]
    held += [(other, _retry(cause)) for other in _rest(stream)]
    try:
        _acknowledge(service, held)
    except grpc.RpcError as failure:
        log.warning("%s letters come again when their leases have run out: %s", len(held), failure.code().name)


def _rest(stream: grpc.Call) -> list[messages.DueNotification]:
    """Returns the letters that are on their way, and ends the stream. There are no more of them, as long as none is acknowledged."""
    rest = []
    try:
        for event in connect.messages(stream, QUIET):
            if event.WhichOneof("event") == "heartbeat":
                break
            if event.WhichOneof("event") == "due":
                rest.append(event.due)
    except (connect.Silent, grpc.RpcError):
        pass
    stream.cancel()
    return rest


def _take(service, journal: Journal, folder: pathlib.Path, due: messages.DueNotification) -> messages.Acknowledgement | None:
    """Takes a letter through its steps, and returns what is to be said of it; nothing when it is not wanted any more."""
    name, place = due.notification.name, _place(folder, due)
    new = place.with_suffix(".new")
    entry = journal.look(name)
    if entry and entry.is_sent:
        return _sent(entry.at)
    if entry and not new.exists():
        # A run ended after it had renamed the letter; the printer may have fetched it since.
        return _handed_over(journal, folder, name, entry.at)
    may_be_missing = due.possible_repeat and due.notification.due_time.ToSeconds() < journal.since
    if may_be_missing and not entry and not due.released_by_staff:
        return _park("it may have been handed over at a time of which the journal knows nothing")
    try:
        page = letter.page(due)
    except letter.CannotBeProduced as why:
        return _park(str(why))
    except FAILURES:
        raise
    except Exception as why:
        # Without its text, which may have something of the patient.
        line = traceback.extract_tb(why.__traceback__)[-1]
        return _park(f"{type(why).__name__} in {pathlib.Path(line.filename).name}, line {line.lineno}")
    try:
        _write(new, page)
    except OSError:
        _remove(journal, name, new)
        raise
    lease = messages.Lease(name=name, lease_token=due.lease_token)
    allowed = _repeat(service.AuthorizeDispatch, messages.AuthorizeDispatchRequest(leases=[lease])).results[0]
    if not allowed.authorized:
        log.info("%s is not wanted any more: %s", name, messages.DispatchRefusal.Name(allowed.refusal))
        _remove(journal, name, new)
        return None
    journal.begin(name)
    new.rename(place)
    return _handed_over(journal, folder, name, time.time())


def _handed_over(journal: Journal, folder: pathlib.Path, name: str, at: float) -> messages.Acknowledgement:
    """Makes durable that a letter was handed over, and returns what is to be said of it."""
    try:
        _sync(folder)
        journal.sent(name, at)
    except FAILURES as why:
        raise _HandedOver(f"a letter was handed over, and that could not be written: {why}") from why
    return _sent(at)


def _remove(journal: Journal, name: str, new: pathlib.Path) -> None:
    """Removes a letter that is not handed over now."""
    # First: a letter that was begun and has no file counts as handed over.
    journal.forget(name)
    new.unlink(missing_ok=True)


def _place(folder: pathlib.Path, due: messages.DueNotification) -> pathlib.Path:
    return folder / f"{hashlib.sha256(due.notification.name.encode()).hexdigest()}.pdf"


def _try(folder: pathlib.Path) -> None:
    """Writes a file in the folder and removes it: a folder that takes none is to be known before a letter is leased."""
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        file.write(bytes(ROOM))
        file.flush()
        os.fsync(file.fileno())


def _write(place: pathlib.Path, page: bytes) -> None:
    """Writes a file that this user alone may read. Durable when it returns."""
    with open(place, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
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


def _retry(cause: str, may_have_been_sent: bool = False) -> messages.Acknowledgement:
    return messages.Acknowledgement(outcome=OUTCOME.OUTCOME_RETRY, cause=cause, may_have_been_sent=may_have_been_sent)


def _acknowledge(service, answers: list[tuple[messages.DueNotification, messages.Acknowledgement]]) -> None:
    for due, said in answers:
        said.lease.name, said.lease.lease_token = due.notification.name, due.lease_token
    call = messages.AcknowledgeNotificationsRequest(acknowledgements=[said for _, said in answers])
    for said, result in zip(call.acknowledgements, _repeat(service.AcknowledgeNotifications, call).results):
        if not result.recorded:
            log.warning("%s: not recorded: %s", said.lease.name, result)


def _repeat(call, request):
    """Makes a call again while it may succeed: all calls of a consumer are safe to repeat."""
    for attempt in range(1, ATTEMPTS_MAX + 1):
        try:
            return call(request, timeout=CALL_MAX)
        except grpc.RpcError as failure:
            if failure.code() not in PASSING or attempt == ATTEMPTS_MAX:
                raise
            time.sleep(min(2**attempt, 20))
