//! Operation that moves the requests of a patient to another identity number.

use std::collections::HashSet;

use crate::domain::booking_request::BookingRequest;
use crate::domain::booking_request::replace_personal_id::{ReplacePersonalId, Replacement};
use crate::domain::request_key::RequestKey;
use crate::domain::visible::Visible;
use crate::store::Store;
use crate::store::booking_request::{leaves_out, replayed_requests, skips_undecodable};
use crate::store::commit::read_set::{PatientScope, ReadSet, Resolved};
use crate::store::commit::unit_of_work::UnitOfWork;
use crate::store::error::Error;
use crate::store::idempotency::{IdempotentCall, StoredAnswer};

/// Result of a replacement.
#[derive(Clone, Debug)]
pub struct PersonalIdReplaced {
    /// Requests that moved, and those of them that had an open duplicate, by this call or by the one that it repeats.
    pub answer: StoredAnswer,
    /// True if the call was a replay and changed nothing.
    pub replayed: bool,
}

impl Store {
    /// Changes the requests of both identity numbers, in the care units that the caller may see, as `decide` says of all of
    /// them at once, hidden ones included, and of those that an earlier attempt has moved. A replay of `call` returns the
    /// same keys.
    ///
    /// Changes the others when a request cannot be decoded, and fails. A repeat of the call goes on where it stopped.
    ///
    /// # Errors
    ///
    /// [`Error::RequestIdReused`], [`Error::Internal`] when a request cannot be decoded, and errors of the database.
    pub async fn replace_personal_id(
        &self,
        call: IdempotentCall,
        command: &ReplacePersonalId,
        visible: Visible,
        mut decide: impl FnMut(&[&BookingRequest], &[RequestKey]) -> Replacement + Send + 'static,
    ) -> Result<PersonalIdReplaced, Error> {
        let personal_ids = vec![command.old.clone(), command.new.clone()];
        let scope = PatientScope {
            personal_ids: personal_ids.clone(),
            care_unit: None,
            visible: visible.care_units.clone(),
            call: call.clone(),
        };
        let idempotency_scope = scope.idempotency_scope();
        let read_set = ReadSet {
            patient: Some(scope),
            ..ReadSet::default()
        };
        let old = command.old.clone();
        let has_old = move |it: &BookingRequest| it.form.patient.personal_id == old;
        let replace = move |work: &mut UnitOfWork, resolved: &Resolved| {
            if let Some(answer) = work.replayed_answer(&idempotency_scope, &call)? {
                let replayed = true;
                return Ok((PersonalIdReplaced { answer, replayed }, true));
            }
            let is_complete = !skips_undecodable(work, &resolved.requests);
            let (moved_before, is_done) = replayed_requests(work, &call, &resolved.requests)?;
            if is_done {
                // The answer has been purged.
                let answer = StoredAnswer {
                    changed: moved_before,
                    duplicates: Vec::new(),
                };
                let replayed = true;
                return Ok((PersonalIdReplaced { answer, replayed }, true));
            }
            // Those that operations before have created are among them, and those that another replica has moved are not.
            let is_visible = |it: &&BookingRequest| visible.care_units.contains(&it.key.care_unit);
            let records = work.of_patient(&personal_ids).filter(is_visible);
            let records: Vec<&BookingRequest> = records.collect();
            for record in records.iter().filter(|it| has_old(it)) {
                leaves_out(&visible, record);
            }
            let replacement = decide(&records, &moved_before);
            let answer = StoredAnswer {
                changed: replacement.moved,
                duplicates: replacement.duplicates,
            };
            let mut complete_in = HashSet::new();
            for mut change in replacement.changes {
                let key = change.record.key.clone();
                // The caller's own id says that the replacement is complete.
                let moves = answer.changed.contains(&key);
                // A duplicate that cannot be decoded was not decided about, and holds nothing up.
                change.record.may_have_duplicate |=
                    moves && work.has_open_duplicate(&change.record);
                let is_first = moves && is_complete && complete_in.insert(key.care_unit.clone());
                let recorded = match is_first {
                    true => call.clone(),
                    false => call.on(&key),
                };
                work.apply(change, moves.then_some(&recorded))?;
            }
            if is_complete {
                work.record_answer(&idempotency_scope, &call, &answer);
            }
            let replayed = false;
            Ok((PersonalIdReplaced { answer, replayed }, is_complete))
        };
        let (replaced, is_complete) = self.call_queue()?.submit(read_set, replace).await?;
        match is_complete {
            true => Ok(replaced),
            false => Err(Error::undecodable()),
        }
    }
}
