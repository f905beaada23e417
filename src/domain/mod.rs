//! The rules of booking requests and care invitations, pure.
//!
//! A verb is a plain function from the record, a command and a [`Context`] to a [`Change`] or a
//! [`Refusal`]. Nothing here reads a clock, waits, logs or draws a random number: `now` and the ids
//! of requests are handed in, so a decision may be made twice with the same result.
//!
//! | file | decides |
//! | --- | --- |
//! | `access` | whom a call has concerned, for the access log |
//! | `addressee` | whom a notification is addressed to, by age or as the record says |
//! | `care_units` | which care units a query or a change is about |
//! | `calendar` | dates in Stockholm, time of day, periods, weekdays, windows |
//! | `caller_name` | the name of a caller, as a log line may show it |
//! | `change_stream` | what is told of changes, in which order, and where it goes on |
//! | `hsa_id` | the shape of HSA-ids, of care units and of people |
//! | `patient` | identity numbers, protection, reach by the inbox |
//! | `patient_request` | what a patient is shown of a request, and until when |
//! | `request_key` | the key of a request |
//! | `booking_request` | the record, its states, and a verb per file in its folder |
//! | `care_unit_settings` | what a care unit has set and what is in force in it |
//! | `care_invitation` | rounds, holds, which notification comes next, projections |
//! | `notification` | one notification: channel, lease, acknowledgement, receipts |
//! | `history` | the entries in the history of a request |
//! | `slot` | whether a time may be offered |
//! | `withdrawal` | telling a patient that an invitation is cancelled |
//! | `worklist` | which list a request is in, and when time moves it |

pub mod access;
pub mod addressee;
pub mod booking_request;
pub mod calendar;
pub mod caller_name;
pub mod care_invitation;
pub mod care_unit_settings;
pub mod care_units;
pub mod change_stream;
pub mod history;
pub mod hsa_id;
pub mod notification;
pub mod patient;
pub mod patient_request;
pub mod request_key;
pub mod slot;
pub mod visible;
pub mod withdrawal;
pub mod worklist;

use chrono::NaiveTime;

use addressee::AgeLimits;
use booking_request::BookingRequest;
use booking_request::state::Action;
use booking_request::state::EffectiveState;
use calendar::Instant;
use care_unit_settings::Policy;
use history::HistoryEntry;
use request_key::RequestKey;
use slot::Verdict;

/// Declares an enum whose values have stored numbers, which must never be reused or renumbered.
macro_rules! stored_enum {
    ($(#[$meta:meta])* pub enum $name:ident { $($(#[$doc:meta])* $variant:ident = $code:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(i16)]
        pub enum $name { $($(#[$doc])* $variant = $code,)+ }

        impl $name {
            /// Every value, in the order of their numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Returns the number under which the value is stored.
            pub fn code(self) -> i16 {
                self as i16
            }

            /// Returns the value that is stored under `code`, if there is one.
            pub fn from_code(code: i16) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.code() == code)
            }
        }
    };
}
pub(crate) use stored_enum;

/// Settings that a region decides for itself, and that its care units inherit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionPolicy {
    /// Local time of day at which planned notifications fall due, 06:00 to 22:00.
    pub send_time: NaiveTime,
    /// Days from the decision on a referral to the end of the care guarantee.
    pub guarantee_days: u32,
    /// Ages below which guardians are addressed, or letters sent.
    pub ages: AgeLimits,
}

impl RegionPolicy {
    /// Returns whether notifications may fall due at a time of day: from 06:00 to 22:00.
    pub fn may_send_at(time: NaiveTime) -> bool {
        let first = NaiveTime::from_hms_opt(6, 0, 0).expect("06:00 is a time of day");
        let last = NaiveTime::from_hms_opt(22, 0, 0).expect("22:00 is a time of day");
        (first..=last).contains(&time)
    }
}

impl Default for RegionPolicy {
    fn default() -> Self {
        Self {
            send_time: NaiveTime::from_hms_opt(9, 0, 0).expect("09:00 is a time of day"),
            guarantee_days: 90,
            ages: AgeLimits::default(),
        }
    }
}

/// Everything that a decision may use beside the record and the command.
#[derive(Clone, Debug)]
pub struct Context {
    /// Present instant, in whole microseconds.
    pub now: Instant,
    /// Subject of the caller, for the history.
    pub actor: String,
    /// Settings of the care units.
    pub policy: Policy,
}

/// The decision of a verb: the new record and the entries for its history.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// Record after the verb; equal to the one before if nothing happened.
    pub record: BookingRequest,
    /// Entries for the history, in order; empty if nothing happened.
    pub history: Vec<HistoryEntry>,
}

/// A field that cannot be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Path from the top of the call, as in `booking_request.constraints.time_windows[0].end_clock`.
    pub field: String,
    /// Description of the fault: lower case, no full stop, never the value of a personal field.
    pub description: String,
}

impl Violation {
    /// Makes a violation from a field path and a description of the fault.
    pub fn new(field: impl Into<String>, description: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            description: description.into(),
        }
    }
}

/// Returns a text after a colon, or nothing.
fn after_colon(text: Option<&str>) -> String {
    text.map_or_else(String::new, |text| format!(": {text}"))
}

/// Reason why a verb was refused. Never holds personal data.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Fields that are not valid given today's date or the stored request.
    #[error("fields are not valid")]
    Invalid(Vec<Violation>),
    /// There is no such request, or no such notification.
    #[error("no such booking request or notification in this care unit")]
    NotFound,
    /// The caller saw an older revision of the request.
    #[error("the request has changed since it was read")]
    EtagMismatch,
    /// The caller saw an older revision of the settings of the care unit.
    #[error("the settings have changed since they were read")]
    SettingsEtagMismatch,
    /// The request is an invitation already, and no hold follows from the patient's own contact.
    #[error("the request is an invitation already")]
    AlreadyInvitation,
    /// An invitation needs a referral.
    #[error("an invitation needs a referral")]
    ReferralRequired,
    /// The requested period has passed and no new one was given.
    #[error("the requested period has passed")]
    PeriodPassed,
    /// The verb is not possible in the effective state.
    #[error("not possible in the state {}{}", state.name(), after_colon(*why))]
    StateConflict {
        /// Effective state of the request.
        state: EffectiveState,
        /// Actions that are allowed instead.
        allowed: Vec<Action>,
        /// Reason why it is not possible now, where the state alone would allow it.
        why: Option<&'static str>,
    },
    /// Nobody books, or the patient does not, in the effective state.
    #[error("not open for booking: {}", verdict.name())]
    NotBookable {
        /// Verdict on every slot: REQUEST_CLOSED, NOT_INVITED or NOT_OPEN_YET.
        verdict: Verdict,
        /// Effective state of the request.
        state: EffectiveState,
        /// Actions that are allowed instead.
        allowed: Vec<Action>,
    },
    /// The same, as it is said to a patient: state and actions are for staff.
    #[error("not open for booking: {}", .0.name())]
    NotOpen(Verdict),
    /// It is too late for the patient to move the visit.
    #[error("too late for the patient to move the visit")]
    TooLate,
    /// The notification is not in a state that allows the report.
    #[error("the notification has not been sent")]
    NotSent,
    /// The notification is SENT, but not by a consumer of this service.
    #[error(
        "the notification was imported: an earlier system handed it over and takes its receipts"
    )]
    Imported,
    /// The booking breaks the constraints, and nothing overrides them.
    #[error("the booking lies outside the constraints: {}", .0.name())]
    OutsideConstraints(Verdict),
    /// Another visit is booked already.
    #[error("another visit is booked already")]
    AlreadyBooked {
        /// Identifier of the visit that is booked.
        booking_id: String,
    },
    /// Another visit is booked than the one that is to be cancelled or replaced, or none.
    #[error("not the visit that is booked")]
    BookingMismatch {
        /// Identifier of the visit that is booked, if one is.
        booking_id: Option<String>,
    },
    /// The cursor of a stream of changes is older than what is kept, or from later than now.
    #[error("the cursor is not from the last {kept_days} days, for which changes are kept")]
    CursorExpired {
        /// Days for which changes are kept.
        kept_days: u32,
    },
    /// An open request with the same duplicate key exists.
    #[error("the patient has an open request like it")]
    Duplicate(RequestKey),
}
