//! ReplacePersonalId: the requests of a patient whose identity number is another from now on.

use std::collections::HashMap;

use crate::domain::booking_request::BookingRequest;
use crate::domain::booking_request::form::DuplicateKey;
use crate::domain::booking_request::update_patient::check_patient;
use crate::domain::calendar::Instant;
use crate::domain::history::Event;
use crate::domain::patient::{PersonalId, Protection};
use crate::domain::request_key::RequestKey;
use crate::domain::visible::Visible;
use crate::domain::{Change, Context, Refusal};

/// Command of the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplacePersonalId {
    /// Number that the patient had.
    pub old: PersonalId,
    /// Number that the patient has instead.
    pub new: PersonalId,
}

impl ReplacePersonalId {
    /// Checks that both numbers can be a patient's at `now`.
    ///
    /// # Errors
    ///
    /// [`Refusal::Invalid`] if one holds a date in the future.
    pub fn check(&self, now: Instant) -> Result<(), Refusal> {
        check_patient("old_identity.personal_id", &self.old, now)?;
        check_patient("new_identity.personal_id", &self.new, now)
    }
}

/// The decision about the requests of both numbers.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Replacement {
    /// Changes of requests that move, and of those that take protection from them.
    pub changes: Vec<Change>,
    /// Keys of the requests that move, those that moved before included.
    pub moved: Vec<RequestKey>,
    /// Keys of those of them that are open and have an open duplicate.
    pub duplicates: Vec<RequestKey>,
}

/// Moves requests from the old number to the new one. `records` are those of both numbers, `moved_before` those that an
/// earlier attempt of the same call has moved.
///
/// If any of them has protection, all that new facts reach take the strictest. A request that moves beside a duplicate is
/// kept open all the same. Those that are hidden from the caller stay as they are and are no duplicates to the caller, but
/// their protection counts: nothing may be sent to the patient because of who asks. Nothing happens when no request that
/// the caller finds has, or had, the old number.
pub fn replace_personal_id(
    records: &[&BookingRequest],
    moved_before: &[RequestKey],
    command: &ReplacePersonalId,
    visible: &Visible,
    context: &Context,
) -> Replacement {
    let moves =
        |it: &BookingRequest| it.form.patient.personal_id == command.old && !visible.hides(it);
    let strictest = records.iter().map(|it| it.form.patient.protection).max();
    let after = records.iter().map(|it| match moves(it) {
        true => renumbered(it, command),
        false => (*it).clone(),
    });
    let after: Vec<BookingRequest> = after.collect();
    let mut open: HashMap<DuplicateKey, Vec<&BookingRequest>> = HashMap::new();
    for record in after.iter().filter(|it| it.is_open()) {
        open.entry(record.duplicate_key()).or_default().push(record);
    }
    let mut replacement = Replacement::default();
    for (before, record) in records.iter().zip(&after) {
        let moves = moves(before);
        let is_moved = moves || moved_before.contains(&record.key);
        if visible.hides(before) && !is_moved {
            continue;
        }
        let same = open.get(&record.duplicate_key()).into_iter().flatten();
        let mut same = same.filter(|it| record.is_open() && record.is_duplicate_of(it));
        let shown = same.clone().any(|it| !visible.hides(it));
        if is_moved {
            replacement.moved.push(record.key.clone());
        }
        if is_moved && shown {
            replacement.duplicates.push(record.key.clone());
        }
        let record = BookingRequest {
            may_have_duplicate: record.may_have_duplicate || (moves && same.next().is_some()),
            ..record.clone()
        };
        let changed = change(before, record, moves, strictest.flatten(), context);
        replacement.changes.extend(changed);
    }
    match replacement.moved.is_empty() {
        true => Replacement::default(),
        false => replacement,
    }
}

/// Returns the record with the new number in place of the old one.
fn renumbered(record: &BookingRequest, command: &ReplacePersonalId) -> BookingRequest {
    let mut record = record.clone();
    record.form.patient.personal_id.clone_from(&command.new);
    record
}

/// Returns the change of a request, `before` with its new number, if it `moves` or takes protection.
fn change(
    before: &BookingRequest,
    mut record: BookingRequest,
    moves: bool,
    strictest: Option<Protection>,
    context: &Context,
) -> Option<Change> {
    let is_marked = record.accepts_updates() && record.form.patient.protection < strictest;
    let event = match (moves, is_marked) {
        (true, _) => Event::PersonalIdReplaced,
        (false, true) => Event::UpdatePatient,
        (false, false) => return None,
    };
    if moves {
        record.revoke_leased();
    }
    let parked = match is_marked {
        true => {
            record.form.patient.protection = strictest;
            record.protect()
        }
        false => Vec::new(),
    };
    let mut history = vec![record.history_entry(event, context)];
    history.extend(record.withheld_entries(&parked, context));
    Some(record.finish_change(Some(before), history, context))
}

impl BookingRequest {
    /// Returns whether an open request with the same duplicate key is a duplicate: not itself, nor one of its series.
    fn is_duplicate_of(&self, other: &Self) -> bool {
        let series = self.series.as_ref();
        let is_fellow = series.is_some_and(|it| it.members.contains(&other.key.id));
        self.key != other.key && !is_fellow
    }
}
