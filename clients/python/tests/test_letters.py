"""The adapter for letters, against the real service."""

import errno
import os
import pathlib
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import time
import unittest
from unittest import mock

import grpc

from care_invitation_letters import adapter, letter, problem
from care_invitation_letters.journal import Journal
from careinvitation.v1 import booking_request_pb2 as requests
from careinvitation.v1 import booking_request_service_pb2 as booking
from careinvitation.v1 import care_invitation_pb2 as invitations
from careinvitation.v1 import notification_service_pb2 as messages
from careinvitation.v1.booking_request_service_pb2_grpc import BookingRequestServiceStub
from careinvitation.v1.notification_service_pb2_grpc import NotificationServiceStub
from service import UNIT, ServiceTest

FORMATS = (requests.LETTER_FORMAT_STANDARD, requests.LETTER_FORMAT_LARGE_PRINT, requests.LETTER_FORMAT_EASY_READ)


class Ended(Exception):
    """The end of a run between two steps."""


class Letters(ServiceTest):
    def setUp(self):
        super().setUp()
        self.out = self.place / "out"
        self.out.mkdir()
        # Before anything is due: of what was handed over earlier a journal knows nothing.
        Journal(str(self.place / "journal.db")).close()
        self.advance(60)

    def start(self, stderr=subprocess.DEVNULL):
        line = [sys.executable, "-m", "care_invitation_letters", str(self.place / "journal.db"), str(self.out)]
        environment = {**os.environ, "CARE_INVITATION_ADDRESS": self.address}
        return subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True)

    def run_once(self):
        said, _ = self.start().communicate(timeout=60)
        return int(said.split()[0])

    def messages(self, state):
        request = messages.ListNotificationsRequest(
            care_units=[UNIT], states=[state], page_size=500, channels=[invitations.DELIVERY_CHANNEL_LETTER]
        )
        found = NotificationServiceStub(self.channel).ListNotifications(request).notifications
        return [it for it in found if it.kind == invitations.NOTIFICATION_KIND_INVITATION]

    def letters(self):
        return sorted(self.out.glob("*.pdf"))

    def test_each_letter_that_is_due_is_handed_over_once(self):
        self.create([self.invite(number, preferred_language="en", letter_format=FORMATS[number % 3]) for number in range(12)])
        self.assertEqual(self.run_once(), 12)
        self.assertEqual(len(self.letters()), 12)
        self.assertTrue(all(it.read_bytes().startswith(b"%PDF") for it in self.letters()))
        self.assertEqual(len(self.messages(invitations.Notification.STATE_SENT)), 12)
        self.assertEqual(self.run_once(), 0)

    def test_what_cannot_be_produced_is_parked(self):
        self.create([self.invite(1, letter_format=requests.LETTER_FORMAT_BRAILLE), self.invite(2)])
        self.assertEqual(self.run_once(), 1)
        (parked,) = self.messages(invitations.Notification.STATE_PARKED)
        self.assertIn("LETTER_FORMAT_BRAILLE", parked.cause_detail)

    def test_kills_hand_nothing_over_twice_and_say_nothing_that_is_not(self):
        self.create([self.invite(number) for number in range(60)])
        fetched = []

        def fetch():
            # The printer, which takes letters out of the folder.
            for it in self.letters():
                fetched.append(it.name)
                it.unlink()

        for _ in range(6):
            run = self.start()
            until = time.time() + 0.7 + random.random() / 2
            while time.time() < until:
                fetch()
            run.kill()
            run.communicate()
            self.advance(65)
        for _ in range(20):
            self.run_once()
            fetch()
            self.advance(65)
            if len(self.messages(invitations.Notification.STATE_SENT)) == 60:
                break
        fetch()
        self.assertEqual(len(fetched), len(set(fetched)), "handed over twice")
        self.assertEqual(len(fetched), 60)
        self.assertEqual(len(self.messages(invitations.Notification.STATE_SENT)), 60)

    def test_an_end_between_any_two_steps_neither_loses_a_letter_nor_repeats_it(self):
        steps = [(Journal, "begin"), (pathlib.Path, "rename"), (adapter, "_sync"), (Journal, "sent"), (adapter, "_acknowledge")]
        ends = [(owner, step, after) for owner, step in steps for after in (False, True)]
        fetched = []
        for number, (owner, step, after) in enumerate(ends):
            self.create([self.invite(number)])
            original = getattr(owner, step)

            def ending(*arguments):
                if after:
                    original(*arguments)
                raise Ended

            with mock.patch.object(owner, step, ending), self.assertRaises(Ended):
                self.run_here()
            for _ in range(2):
                # The printer takes what there is, and the lease expires.
                for it in self.letters():
                    fetched.append(it.name)
                    it.unlink()
                self.advance(65)
                self.run_here()
            self.assertEqual(len(fetched), number + 1, f"{step}, after it: {after}")
        self.assertEqual(len(set(fetched)), len(ends))
        self.assertEqual(len(self.messages(invitations.Notification.STATE_SENT)), len(ends))

    def test_a_folder_that_is_missing_is_known_before_anything_is_leased(self):
        self.create([self.invite(1)])
        shutil.rmtree(self.out)
        run = self.start(stderr=subprocess.PIPE)
        _, said = run.communicate(timeout=60)
        self.assertEqual(run.returncode, 1)
        self.assertEqual(len(said.splitlines()), 1, said)
        self.assertIn("No such file or directory", said)
        self.assertEqual(len(self.messages(invitations.Notification.STATE_SCHEDULED)), 1)
        self.out.mkdir()
        self.assertEqual(self.run_once(), 1)

    def test_a_full_disk_parks_no_letter_however_often_the_run_is_made(self):
        self.create([self.invite(number) for number in range(30)])
        full = OSError(errno.ENOSPC, "No space left on device")
        for owner, step, failure in ((adapter, "_write", full), (Journal, "begin", sqlite3.OperationalError("database or disk is full"))):
            for _ in range(9):
                with mock.patch.object(owner, step, side_effect=failure), self.assertRaises(type(failure)):
                    self.run_here()
                # No lease is left that could run out.
                self.assertEqual(self.messages(invitations.Notification.STATE_LEASED), [])
                self.advance(3700)
        self.assertEqual(self.messages(invitations.Notification.STATE_PARKED), [])
        self.assertEqual(self.run_here(), 30)
        self.assertEqual(list(self.out.glob("*.new")), [])

    def test_a_letter_that_was_handed_over_and_not_written_down_is_not_handed_over_again(self):
        self.create([self.invite(1)])
        failure = OSError(errno.EIO, "Input/output error")
        with mock.patch.object(Journal, "sent", side_effect=failure), self.assertRaises(OSError):
            self.run_here()
        (letter_,) = self.letters()
        letter_.unlink()
        (again,) = self.messages(invitations.Notification.STATE_SCHEDULED)
        self.assertEqual(again.cause_detail, "Input/output error")
        self.advance(65)
        self.assertEqual(self.run_here(), 1)
        self.assertEqual(self.letters(), [])

    def test_a_fault_in_one_letter_parks_it_and_the_others_are_handed_over(self):
        self.create([self.invite(number) for number in range(3)])
        page, calls = letter.page, []

        def fails_once(due):
            calls.append(due)
            if len(calls) == 2:
                raise ValueError(due.personal_id)
            return page(due)

        with mock.patch.object(letter, "page", fails_once):
            self.assertEqual(self.run_here(), 2)
        (parked,) = self.messages(invitations.Notification.STATE_PARKED)
        self.assertIn("ValueError in test_letters.py", parked.cause_detail)
        self.assertNotIn("198003012385", parked.cause_detail)

    def test_a_letter_that_is_not_wanted_any_more_leaves_nothing_and_the_others_are_for_their_reader_alone(self):
        names = self.create([self.invite(1), self.invite(2)])
        page = letter.page

        def cancelling(due):
            made = page(due)
            if due.notification.name.startswith(names[0]):
                cancel = booking.CancelBookingRequestRequest(
                    name=names[0], request_id="3f0c8a52-6d1e-4b7a-9c37-000000000001", reason=requests.CANCEL_REASON_UNIT_REQUEST
                )
                BookingRequestServiceStub(self.channel).CancelBookingRequest(cancel)
            return made

        with mock.patch.object(letter, "page", cancelling):
            self.assertEqual(self.run_here(), 1)
        self.assertEqual([it.suffix for it in self.out.iterdir()], [".pdf"])
        self.assertEqual(self.letters()[0].stat().st_mode & 0o777, 0o600)

    def run_here(self):
        journal = Journal(str(self.place / "journal.db"))
        try:
            with grpc.insecure_channel(self.address) as channel:
                return adapter.run(channel, journal, self.out)
        finally:
            journal.close()

    def test_reasons_and_fields_are_read(self):
        stub = BookingRequestServiceStub(self.channel)
        with self.assertRaises(grpc.RpcError) as caught:
            stub.CreateBookingRequest(booking.CreateBookingRequestRequest(parent="careUnits/x"))
        reason, fields = problem.of(caught.exception)
        self.assertEqual(reason, "FIELD_INVALID")
        self.assertIn("parent", fields)
        self.assertIn("request_id", fields)


class Texts(unittest.TestCase):
    PLACEHOLDERS = {"care_unit", "end", "name", "phone", "previous", "start"}

    def due(self, kind, **more):
        due = messages.DueNotification(
            care_unit=UNIT, requested_period={"start_date": "2026-05-18", "end_date": "2026-06-12"}, **more
        )
        due.notification.kind = kind
        # 4 May in Sweden.
        due.previous_send_time.FromJsonString("2026-05-03T22:30:00Z")
        return due

    def test_there_is_one_for_every_kind_addressee_language_channel_and_format(self):
        invitation, reminder, withdrawal = (
            invitations.NOTIFICATION_KIND_INVITATION,
            invitations.NOTIFICATION_KIND_REMINDER,
            invitations.NOTIFICATION_KIND_WITHDRAWAL,
        )
        default, unread = invitations.CHANNEL_REASON_DEFAULT, invitations.CHANNEL_REASON_UNREAD
        kinds = [(invitation, 0, default), (reminder, 1, default), (reminder, 2, default), (withdrawal, 0, default)]
        letters = kinds + [(invitation, 0, unread)]
        for channel, of_channel in (("LETTER", letters), ("INBOX", kinds)):
            seen = set()
            for kind, sequence, reason in of_channel:
                for addressee in (requests.ADDRESSEE_PATIENT, requests.ADDRESSEE_GUARDIANS, requests.ADDRESSEE_PROXY):
                    for language in ("sv", "en"):
                        for form in FORMATS:
                            due = self.due(kind, language=language, letter_format=form, addressee=addressee)
                            due.notification.sequence, due.notification.channel_reason = sequence, reason
                            heading, paragraphs = letter.text(due, channel)
                            whole = "\n".join([heading, *paragraphs])
                            seen.add(whole)
                            self.assertIsNone(re.search("[{}]", whole))
                            self.assertEqual(whole, whole.encode("cp1252").decode("cp1252"))
                            self.assertTrue(letter.page(due).startswith(b"%PDF"))
            # Large print is the standard text in larger letters.
            self.assertEqual(len(seen), len(of_channel) * 3 * 2 * 2)

    def test_the_files_have_the_same_texts_in_each_language_and_no_unknown_placeholder(self):
        def places(it, path=()):
            if isinstance(it, dict):
                return {place for key, value in it.items() for place in places(value, path + (key,))}
            return {path}

        def strings(it):
            values = it.values() if isinstance(it, dict) else it
            return [it] if isinstance(it, str) else [text for value in values for text in strings(value)]

        self.assertEqual(set(letter.TEXTS), {"sv", "en"})
        sv, en = letter.TEXTS["sv"], letter.TEXTS["en"]
        self.assertEqual(places(sv), places(en))
        for texts in (sv, en):
            used = {name for line in strings(texts) for name in re.findall(r"{(\w+)}", line)}
            self.assertEqual(used, self.PLACEHOLDERS)

    def test_a_day_is_written_as_people_write_it(self):
        due = self.due(invitations.NOTIFICATION_KIND_REMINDER, language="sv-SE")
        _, paragraphs = letter.text(due)
        self.assertIn("den 4 maj 2026", paragraphs[0])
        self.assertIn("från den 18 maj 2026 till den 12 juni 2026", paragraphs[1])

    def test_a_language_without_texts_gets_the_swedish_ones_and_what_lacks_a_day_is_not_produced(self):
        arabic = self.due(invitations.NOTIFICATION_KIND_INVITATION, language="ar")
        self.assertEqual(letter.text(arabic)[0], "Välj en tid för ditt besök")
        reminder = self.due(invitations.NOTIFICATION_KIND_REMINDER)
        reminder.ClearField("previous_send_time")
        with self.assertRaises(letter.CannotBeProduced):
            letter.text(reminder)
        withdrawal = messages.DueNotification()
        withdrawal.notification.kind = invitations.NOTIFICATION_KIND_WITHDRAWAL
        self.assertIn("gäller inte längre", letter.text(withdrawal)[0])

    def test_characters_are_composed_and_one_that_the_font_lacks_is_not_produced(self):
        due = self.due(invitations.NOTIFICATION_KIND_INVITATION)
        due.patient_instructions.supplementary = "Torka o\u0308rat \u2013 10 \u20ac"
        self.assertTrue(letter.page(due).startswith(b"%PDF"))
        due.patient_instructions.supplementary = "Fråga efter Łukasz"
        with self.assertRaisesRegex(letter.CannotBeProduced, re.escape("U+0141")):
            letter.page(due)


if __name__ == "__main__":
    unittest.main()
