"""The letter: its text by kind, addressee, language and format, and its page."""

import json
import os
import pathlib
import unicodedata
from datetime import date
from zoneinfo import ZoneInfo

from fpdf import FPDF
from fpdf.errors import FPDFUnicodeEncodingException

from careinvitation.v1 import booking_request_pb2 as requests
from careinvitation.v1 import care_invitation_pb2 as invitations
from careinvitation.v1.notification_service_pb2 import DueNotification

# The folder of the texts, a file for each language: those of the project until a region has its own.
FOLDER = pathlib.Path(os.environ.get("CARE_INVITATION_TEXTS", pathlib.Path(__file__).parent / "texts"))
TEXTS = {it.stem: json.loads(it.read_text(encoding="utf-8")) for it in sorted(FOLDER.glob("*.json"))}
# A patient whose language has no texts gets these.
DEFAULT = "sv"
SWEDEN = ZoneInfo("Europe/Stockholm")
# By format: points of the text. A format that is not here cannot be produced.
POINTS = {
    requests.LETTER_FORMAT_UNSPECIFIED: 12,
    requests.LETTER_FORMAT_STANDARD: 12,
    requests.LETTER_FORMAT_LARGE_PRINT: 20,
    requests.LETTER_FORMAT_EASY_READ: 14,
}
ADDRESSEES = {
    requests.ADDRESSEE_UNSPECIFIED: "PATIENT",
    requests.ADDRESSEE_PATIENT: "PATIENT",
    requests.ADDRESSEE_GUARDIANS: "GUARDIANS",
    requests.ADDRESSEE_PROXY: "PROXY",
}


class CannotBeProduced(Exception):
    """The letter has a kind, an addressee, a format or a character that this adapter does not know, or lacks what its text needs.
    Staff decide."""


def look_up(due: DueNotification) -> dict[str, str]:
    """Returns what the text needs and the service does not know. This belongs here and differs from region to region: the name and
    telephone number of the care unit, and the name of the patient, by `personal_id`. The number is one that is kept for fiction."""
    return {"care_unit": due.care_unit.removeprefix("careUnits/"), "phone": "08-465 004 00", "name": "patienten"}


def _key(due: DueNotification) -> str:
    """Returns what the letter says, as the texts name it."""
    notification = due.notification
    is_invited = notification.kind in (invitations.NOTIFICATION_KIND_INVITATION, invitations.NOTIFICATION_KIND_REMINDER)
    if is_invited and notification.channel_reason == invitations.CHANNEL_REASON_UNREAD:
        return "FOLLOW_UP"
    if notification.kind == invitations.NOTIFICATION_KIND_INVITATION:
        return "INVITATION"
    if notification.kind == invitations.NOTIFICATION_KIND_REMINDER:
        return "REMINDER_1" if notification.sequence <= 1 else "REMINDER_2"
    if notification.kind == invitations.NOTIFICATION_KIND_WITHDRAWAL:
        return "WITHDRAWAL"
    raise CannotBeProduced(f"no text for kind {notification.kind}")


def _date(of: date, texts: dict) -> str:
    return f"{of.day} {texts['months'][of.month - 1]} {of.year}"


def text(due: DueNotification, channel: str = "LETTER") -> tuple[str, list[str]]:
    """Returns heading and paragraphs. A language without texts of its own gets the Swedish ones."""
    texts = TEXTS.get(due.language.split("-")[0].lower(), TEXTS[DEFAULT])
    key, form = _key(due), "EASY_READ" if due.letter_format == requests.LETTER_FORMAT_EASY_READ else "STANDARD"
    if due.addressee not in ADDRESSEES:
        raise CannotBeProduced(f"no text for addressee {due.addressee}")
    opening = texts["openings"][key][ADDRESSEES[due.addressee]][form]
    closing = texts["closings"]["WITHDRAWAL" if key == "WITHDRAWAL" else "CHOOSE"][channel][form]
    values = look_up(due)
    period = due.requested_period
    for name, day in (("start", period.start_date), ("end", period.end_date)):
        if day:
            values[name] = _date(date.fromisoformat(day), texts)
    if due.HasField("previous_send_time"):
        values["previous"] = _date(due.previous_send_time.ToDatetime(tzinfo=SWEDEN).date(), texts)
    try:
        return opening["heading"].format(**values), [line.format(**values) for line in opening["text"] + closing]
    except KeyError as missing:
        raise CannotBeProduced(f"the text needs {missing}") from None


def page(due: DueNotification) -> bytes:
    """Returns the letter as a PDF. Who it is to, and where they live, is looked up by `personal_id` and `addressee`: that
    belongs here too."""
    if due.letter_format not in POINTS:
        raise CannotBeProduced(f"format {requests.LetterFormat.Name(due.letter_format)} is not produced here")
    heading, paragraphs = text(due)
    points = POINTS[due.letter_format]
    pdf = FPDF()
    # That of the built-in fonts, which have the letters of western Europe.
    pdf.core_fonts_encoding = "cp1252"
    pdf.add_page()
    for style, size, line in [("B", points + 4, heading)] + [("", points, it) for it in [*paragraphs, due.patient_instructions.supplementary]]:
        pdf.set_font("Helvetica", style, size)
        try:
            pdf.multi_cell(0, size * 0.6, unicodedata.normalize("NFC", line), new_x="LMARGIN", new_y="NEXT")
        except FPDFUnicodeEncodingException as missing:
            raise CannotBeProduced(f"the font has no U+{ord(missing.character):04X}") from None
        pdf.ln(4)
    return bytes(pdf.output())
