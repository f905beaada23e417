"""The letter: its text by kind, language and format, and its page."""

from fpdf import FPDF

from careinvitation.v1 import booking_request_pb2 as requests
from careinvitation.v1 import care_invitation_pb2 as invitations
from careinvitation.v1.notification_service_pb2 import DueNotification

INVITATION = invitations.NOTIFICATION_KIND_INVITATION
REMINDER = invitations.NOTIFICATION_KIND_REMINDER
WITHDRAWAL = invitations.NOTIFICATION_KIND_WITHDRAWAL

# By language, whether it is easy to read, and kind: a heading and a text.
TEXTS = {
    ("sv", False): {
        INVITATION: ("Välj en tid", "Du är välkommen på besök hos oss mellan {start} och {end}. Ring oss och välj en tid."),
        REMINDER: ("Påminnelse: välj en tid", "Du har ännu inte valt en tid för ditt besök mellan {start} och {end}. Ring oss och välj en tid."),
        WITHDRAWAL: ("Din inbjudan gäller inte längre", "Du behöver inte välja någon tid. Ring oss om du har frågor."),
    },
    ("sv", True): {
        INVITATION: ("Välj en tid", "Du ska komma till oss.\nDu kan komma från {start} till {end}.\nRing oss. Välj en tid."),
        REMINDER: ("Välj en tid", "Du har inte valt en tid.\nDu kan komma från {start} till {end}.\nRing oss. Välj en tid."),
        WITHDRAWAL: ("Du ska inte komma", "Du ska inte välja en tid.\nRing oss om du undrar något."),
    },
    ("en", False): {
        INVITATION: ("Choose a time", "You are welcome to visit us between {start} and {end}. Call us to choose a time."),
        REMINDER: ("Reminder: choose a time", "You have not chosen a time for your visit between {start} and {end} yet. Call us to choose a time."),
        WITHDRAWAL: ("Your invitation is withdrawn", "You need not choose a time. Call us if you have any questions."),
    },
    ("en", True): {
        INVITATION: ("Choose a time", "We want to see you.\nYou can come from {start} to {end}.\nCall us. Choose a time."),
        REMINDER: ("Choose a time", "You have not chosen a time.\nYou can come from {start} to {end}.\nCall us. Choose a time."),
        WITHDRAWAL: ("You need not come", "You need not choose a time.\nCall us if you have questions."),
    },
}
# By format: points of the text. A format that is not here cannot be produced.
POINTS = {
    requests.LETTER_FORMAT_UNSPECIFIED: 12,
    requests.LETTER_FORMAT_STANDARD: 12,
    requests.LETTER_FORMAT_LARGE_PRINT: 20,
    requests.LETTER_FORMAT_EASY_READ: 14,
}


class CannotBeProduced(Exception):
    """The letter has a kind or a format that this adapter does not know. Staff decide."""


def text(due: DueNotification) -> tuple[str, str]:
    """Returns heading and text. A language without texts of its own gets the Swedish ones."""
    is_easy = due.letter_format == requests.LETTER_FORMAT_EASY_READ
    language = due.language.split("-")[0].lower()
    texts = TEXTS.get((language, is_easy)) or TEXTS["sv", is_easy]
    if due.notification.kind not in texts:
        raise CannotBeProduced(f"no text for kind {due.notification.kind}")
    heading, body = texts[due.notification.kind]
    period = due.requested_period
    return heading, body.format(start=period.start_date, end=period.end_date)


def page(due: DueNotification) -> bytes:
    """Returns the letter as a PDF. Who it is to, and where they live, is looked up by `personal_id` and `addressee`: that
    belongs here, and differs from region to region."""
    if due.letter_format not in POINTS:
        raise CannotBeProduced(f"format {requests.LetterFormat.Name(due.letter_format)} is not produced here")
    heading, body = text(due)
    points = POINTS[due.letter_format]
    pdf = FPDF()
    pdf.add_page()
    for style, size, line in (("B", points + 4, heading), ("", points, body), ("", points, due.patient_instructions.supplementary)):
        pdf.set_font("Helvetica", style, size)
        # The built-in fonts have the letters of western Europe.
        pdf.multi_cell(0, size * 0.6, line.encode("cp1252", "replace").decode("cp1252"), new_x="LMARGIN", new_y="NEXT")
        pdf.ln(4)
    return bytes(pdf.output())
