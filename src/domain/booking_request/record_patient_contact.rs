//! RecordPatientContact: the patient has been in touch in another way than by booking.

use chrono::NaiveDate;

use crate::domain::booking_request::BookingRequest;
use crate::domain::booking_request::state::Action;
use crate::domain::booking_request::state::State;
use crate::domain::calendar::{Instant, add_days, civil_date};
use crate::domain::care_invitation::Hold;
use crate::domain::history::{Contact, Event, HistoryEntry};
use crate::domain::notification::Cause;
use crate::domain::{Change, Context, Refusal, Violation, stored_enum};

/// Default number of days to wait for a patient who will book.
pub const WAIT_DAYS: u32 = 14;

/// Outcome of the contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The patient will book, by this day or within [`WAIT_DAYS`].
    WillBook(Option<NaiveDate>),
    /// The patient declines the visit.
    Declined,
    /// No offered time suits.
    NoSuitableTime,
    /// The patient wants to be called.
    CallBack,
    /// The patient was in touch, and nothing is decided.
    Other,
}

impl Outcome {
    /// Returns the outcome without the day.
    fn kind(self) -> Contact {
        match self {
            Self::WillBook(_) => Contact::WillBook,
            Self::Declined => Contact::Declined,
            Self::NoSuitableTime => Contact::NoSuitableTime,
            Self::CallBack => Contact::CallBack,
            Self::Other => Contact::Other,
        }
    }
}

stored_enum! {
    /// Medium of a contact.
    pub enum ContactMedium {
        /// By telephone.
        Phone = 1,
        /// By a message in a portal.
        Portal = 2,
        /// By a letter on paper.
        Letter = 3,
        /// By e-mail.
        Email = 4,
        /// By a text message.
        TextMessage = 5,
        /// Face to face.
        Visit = 6,
        /// In another way.
        Other = 7,
    }
}

/// A contact with the patient, as the request shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatientContact {
    /// Outcome, without a day.
    pub outcome: Contact,
    /// Time at which the patient was in touch.
    pub at: Instant,
    /// Medium, if it is known.
    pub medium: Option<ContactMedium>,
}

/// Command of the caller.
#[derive(Clone, Debug)]
pub struct RecordPatientContact {
    /// Etag that the caller saw; empty if none.
    pub etag: String,
    /// Outcome of the contact.
    pub outcome: Outcome,
    /// Time of the contact; `None` means now.
    pub contact_at: Option<Instant>,
    /// Medium of the contact, if it is given.
    pub medium: Option<ContactMedium>,
    /// Comment for the history; may be empty.
    pub comment: String,
}

/// Records a contact: the patient has declined, or the invitation is held.
///
/// # Errors
///
/// [`Refusal::Invalid`] for a day to wait until that has passed and for a contact in the future, then
/// [`Refusal::EtagMismatch`], then [`Refusal::StateConflict`].
pub fn record_patient_contact(
    stored: Option<&BookingRequest>,
    command: &RecordPatientContact,
    context: &Context,
) -> Result<Change, Refusal> {
    let today = civil_date(context.now);
    let violations = violations(command, context.now);
    if !violations.is_empty() {
        return Err(Refusal::Invalid(violations));
    }
    let record = stored.ok_or(Refusal::NotFound)?;
    record.check_etag(&command.etag)?;
    record.check_allowed(Action::RecordPatientContact, context.now)?;

    let has_expired = record.period_has_passed(context.now);
    let mut record = record.clone();
    if let (Outcome::WillBook(_), false, Some(invitation)) =
        (command.outcome, has_expired, &mut record.care_invitation)
    {
        invitation.will_book_at.get_or_insert(context.now);
    }
    record.last_contact = Some(PatientContact {
        outcome: command.outcome.kind(),
        at: command.contact_at.unwrap_or(context.now),
        medium: command.medium,
    });
    let hold = match command.outcome {
        Outcome::Declined => None,
        Outcome::WillBook(until) => Some(Hold::WillBook {
            until: until.unwrap_or_else(|| add_days(today, WAIT_DAYS)),
        }),
        Outcome::NoSuitableTime => Some(Hold::NoSuitableTime),
        Outcome::CallBack => Some(Hold::CallBack),
        Outcome::Other => Some(Hold::Contacted),
    };
    let cancelled = match hold {
        Some(hold) => {
            record.place_on_hold(hold);
            Vec::new()
        }
        None => {
            record.state = State::Declined;
            record.cancel_pending(Cause::Declined)
        }
    };
    let mut history = vec![HistoryEntry {
        contact: Some(command.outcome.kind()),
        comment: command.comment.clone(),
        ..record.history_entry(Event::RecordPatientContact, context)
    }];
    history.extend(record.cancelled_entries(&cancelled, context));
    Ok(record.finish_change(stored, history, context))
}

fn violations(command: &RecordPatientContact, now: Instant) -> Vec<Violation> {
    let mut violations = Vec::new();
    if let Outcome::WillBook(Some(until)) = command.outcome
        && until < civil_date(now)
    {
        violations.push(Violation::new("wait_until_date", "must be today or later"));
    }
    if command.contact_at.is_some_and(|at| now < at) {
        violations.push(Violation::new("contact_time", "must not be in the future"));
    }
    violations
}
