"""A booking request as an Appointment of FHIR R4, by the tables in docs/mapping.md."""

from careinvitation.v1 import booking_request_pb2 as requests

STATE = requests.BookingRequest.State
# Status of the appointment, and of the patient's participation.
STATUS = {
    "REQUESTED": ("proposed", "needs-action"),
    "INVITED": ("proposed", "needs-action"),
    "NO_RESPONSE": ("proposed", "needs-action"),
    "EXPIRED": ("proposed", "needs-action"),
    "BOOKED": ("booked", "accepted"),
    "DECLINED": ("cancelled", "declined"),
    "CANCELLED": ("cancelled", "needs-action"),
}
NAMES = "urn:x-care-invitation:booking-request"
BOOKINGS = "urn:x-care-invitation:booking"
HSA = "urn:oid:1.2.752.129.2.1.4.1"
PERSONNUMMER = "urn:oid:1.2.752.129.2.1.3.1"
SAMORDNINGSNUMMER = "urn:oid:1.2.752.129.2.1.3.3"


def of(request: requests.BookingRequest) -> dict:
    """Returns the resource of a request. Its id is that of the request."""
    status, participation = STATUS[STATE.Name(request.state).removeprefix("STATE_")]
    resource = {
        "resourceType": "Appointment",
        "id": request.name.rsplit("/", 1)[1],
        "identifier": [{"system": NAMES, "value": request.name}],
        "status": status,
        "serviceType": [{"coding": [_coding(request.visit_type)]}],
        "created": request.create_time.ToJsonString(),
        "participant": [
            {"actor": _patient(request.patient), "status": participation},
            {"actor": _hsa(request.name.split("/")[1]), "status": "accepted"},
        ],
    }
    if request.purpose:
        resource["description"] = request.purpose
    if request.referral.referral_id:
        resource["basedOn"] = [{"type": "ServiceRequest", "identifier": {"value": request.referral.referral_id}}]
    if request.HasField("constraints"):
        period = request.constraints.requested_period
        resource["requestedPeriod"] = [{"start": period.start_date, "end": period.end_date}]
        if request.constraints.duration_minutes:
            resource["minutesDuration"] = request.constraints.duration_minutes
    if status == "booked":
        resource["identifier"].append({"system": BOOKINGS, "value": request.booking.booking_id})
        resource["start"] = request.booking.start_time.ToJsonString()
        resource["end"] = request.booking.end_time.ToJsonString()
        if request.booking.performer_id:
            resource["participant"].append({"actor": _hsa(request.booking.performer_id), "status": "accepted"})
    return resource


def _coding(visit_type: requests.VisitType) -> dict:
    coding = {"code": visit_type.code}
    return {**coding, "display": visit_type.display_name} if visit_type.display_name else coding


def _patient(patient: requests.Patient) -> dict:
    """A reference by identity number. That of a patient with protected identity is empty to who may not see it."""
    if not patient.personal_id:
        return {"type": "Patient", "display": "protected identity"}
    systems = {
        requests.PERSONAL_ID_TYPE_PERSONNUMMER: PERSONNUMMER,
        requests.PERSONAL_ID_TYPE_SAMORDNINGSNUMMER: SAMORDNINGSNUMMER,
    }
    system = systems.get(patient.personal_id_type) or (f"urn:oid:{patient.issuer}" if patient.issuer else None)
    identifier = {"value": patient.personal_id}
    return {"type": "Patient", "identifier": {**identifier, "system": system} if system else identifier}


def _hsa(value: str) -> dict:
    return {"identifier": {"system": HSA, "value": value}}
