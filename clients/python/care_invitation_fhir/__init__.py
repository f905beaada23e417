"""Booking requests as FHIR Appointment resources: an example of how the stream of changes is used."""
