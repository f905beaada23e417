//! The requests that the identity number of a patient finds for a caller.

use super::booking_request::BookingRequest;
use super::care_units::CareUnits;

/// The requests that an identity number finds for a caller.
#[derive(Clone, Debug)]
pub struct Visible {
    /// Care units that the caller may see.
    pub care_units: CareUnits,
    /// True if patients with protected identity are hidden from the caller.
    pub hides_protected: bool,
}

impl Visible {
    /// Returns whether a request is hidden because its patient has protected identity.
    pub fn hides(&self, record: &BookingRequest) -> bool {
        self.hides_protected && record.form.patient.is_protected()
    }
}
