//! The booking request: its form, its state, and the actions that are allowed on it.
//!
//! States change only through the verbs in this folder, one a file. The changes that time alone
//! makes are derived on reading, in [`BookingRequest::effective_state`].

pub mod cancel;
pub mod change;
pub mod change_to_invitation;
pub mod create;
pub mod create_all;
pub mod elapsed;
pub mod field;
pub mod form;
pub mod notifications;
pub mod prior_messages;
pub mod record_booking;
pub mod record_booking_cancellation;
pub mod record_patient_contact;
pub mod release_hold;
pub mod replace_personal_id;
pub mod revoke_invitation;
pub mod series;
pub mod state;
pub mod update_patient;
pub mod visit_edit;

use chrono::{NaiveDate, TimeDelta};

use super::calendar::{Instant, end_of};
use super::care_invitation::{CareInvitation, Hold};
use super::history::{Event, HistoryEntry};
use super::notification::DisplayedNotification;
use super::request_key::RequestKey;
use super::{Change, Context, Refusal};
use field::changed_fields;
use form::{DuplicateKey, Form};
use record_booking_cancellation::Cancellations;
use record_patient_contact::PatientContact;
use series::Series;
use state::{Action, CancelReason, EffectiveState, State, Warning};

/// Maximum time by which the clocks of two replicas may be apart, and more: each is 2 seconds at most from the database's.
const CLOCKS_APART_MAX: TimeDelta = TimeDelta::seconds(5);
/// Obstacle to what is possible until the patient has been told of the present round.
const TOLD: &str = "a notification of the round was handed over or is being handed over";

/// A booking request with all that belongs to it.
#[derive(Clone, Debug, PartialEq)]
pub struct BookingRequest {
    /// Key of the request.
    pub key: RequestKey,
    /// Form that was registered.
    pub form: Form,
    /// Stored state.
    pub state: State,
    /// Invitation, from the time that the patient was first invited.
    pub care_invitation: Option<CareInvitation>,
    /// Reason for closing it.
    pub cancel_reason: Option<CancelReason>,
    /// Number of its bookings that were cancelled.
    pub cancellations: Cancellations,
    /// Time at which it was declined or cancelled first since it was last open or booked; `None` unless it is now.
    pub closed_at: Option<Instant>,
    /// Contact with the patient that was recorded last.
    pub last_contact: Option<PatientContact>,
    /// Last day of the care guarantee.
    pub care_guarantee_date: Option<NaiveDate>,
    /// True if it was created in the knowledge of a duplicate.
    pub allow_duplicate: bool,
    /// True while it is open although another open request may have its duplicate key: its booking was
    /// cancelled, without a look for duplicates, or the other is of its series.
    pub may_have_duplicate: bool,
    /// Place in the series that it is a member of, if it is one.
    pub series: Option<Series>,
    /// Number that grows by one at every change that callers see.
    pub revision: i64,
    /// Number of history entries that have been written.
    pub history_count: i32,
    /// Time of its creation.
    pub created_at: Instant,
    /// Time of its last change.
    pub updated_at: Instant,
}

impl BookingRequest {
    /// Returns midnight after the last day of the period; `None` if there is no period.
    pub fn expires_at(&self) -> Option<Instant> {
        let constraints = self.form.constraints.as_ref()?;
        Some(end_of(constraints.period.last))
    }

    /// Returns whether the period has passed at `now`.
    pub fn period_has_passed(&self, now: Instant) -> bool {
        self.expires_at()
            .is_some_and(|expires_at| expires_at <= now)
    }

    /// Returns the effective state at `now`: the stored state with the passing of time counted in.
    pub fn effective_state(&self, now: Instant) -> EffectiveState {
        match self.state {
            State::Requested | State::Invited if self.period_has_passed(now) => {
                EffectiveState::Expired
            }
            State::Requested => EffectiveState::Requested,
            State::Invited if self.is_unanswered(now) => EffectiveState::NoResponse,
            State::Invited => EffectiveState::Invited,
            State::Booked => EffectiveState::Booked,
            State::Declined => EffectiveState::Declined,
            State::Cancelled => EffectiveState::Cancelled,
        }
    }

    fn is_unanswered(&self, now: Instant) -> bool {
        self.care_invitation
            .as_ref()
            .and_then(|invitation| invitation.no_response_at)
            .is_some_and(|no_response_at| no_response_at <= now)
    }

    /// Returns whether it is open: not booked, declined or cancelled, even if it has expired.
    pub fn is_open(&self) -> bool {
        match self.state {
            State::Requested | State::Invited => true,
            State::Booked | State::Declined | State::Cancelled => false,
        }
    }

    /// Returns the present hold, if any.
    pub fn hold(&self) -> Option<Hold> {
        self.care_invitation.as_ref()?.hold
    }

    /// Returns the instant since which the patient may book in the present round, if they may or might until
    /// the invitation ended.
    pub fn bookable_since(&self) -> Option<Instant> {
        match self.state {
            State::Requested => None,
            State::Invited | State::Booked | State::Declined | State::Cancelled => {
                self.care_invitation.as_ref()?.bookable_since()
            }
        }
    }

    /// Returns the actions that are allowed at `now`.
    pub fn allowed_actions(&self, now: Instant) -> Vec<Action> {
        use Action::{
            Cancel, Change, ChangeToInvitation, RecordBooking, RecordBookingCancellation,
            RecordPatientContact, ReleaseHold,
        };
        match (self.state, self.effective_state(now)) {
            (State::Requested, _) => vec![Change, ChangeToInvitation, RecordBooking, Cancel],
            (State::Invited, EffectiveState::Invited) => {
                let mut actions = vec![Change, RecordBooking, RecordPatientContact, Cancel];
                if let Some(hold) = self.hold() {
                    actions.push(ReleaseHold);
                    if hold.is_patient_initiated() {
                        actions.insert(1, ChangeToInvitation);
                    }
                }
                actions.extend(self.revocation());
                actions
            }
            (State::Invited, _) => {
                let mut actions = vec![
                    ChangeToInvitation,
                    RecordBooking,
                    RecordPatientContact,
                    Cancel,
                ];
                actions.extend(self.revocation());
                actions
            }
            (State::Booked, _) => vec![
                ChangeToInvitation,
                RecordBooking,
                Cancel,
                RecordBookingCancellation,
            ],
            (State::Declined, _) => vec![ChangeToInvitation, RecordBooking, Cancel],
            (State::Cancelled, _) if self.has_parked_withdrawal() => vec![ReleaseHold],
            (State::Cancelled, _) => vec![],
        }
    }

    /// Returns the action of revoking the invitation, while the patient has not been told of it: no
    /// notification of the present round is sent or dispatching.
    fn revocation(&self) -> Option<Action> {
        let invitation = self.care_invitation.as_ref()?;
        (!invitation.is_told()).then_some(Action::RevokeInvitation)
    }

    /// Returns the warnings for staff, given the notifications as they are displayed.
    pub fn warnings(&self, displayed: &[DisplayedNotification]) -> Vec<Warning> {
        let mut warnings = Vec::new();
        let start = self.form.constraints.as_ref().map(|it| it.period.first);
        if self.is_open()
            && start
                .zip(self.care_guarantee_date)
                .is_some_and(|(s, g)| s > g)
        {
            warnings.push(Warning::CareGuaranteeExceeded);
        }
        if self.skips_a_reminder(displayed) {
            warnings.push(Warning::RemindersSkipped);
        }
        let unreleased = match self.state {
            State::Requested => true,
            State::Invited => self.hold() == Some(Hold::ProtectedIdentity),
            State::Booked | State::Declined | State::Cancelled => false,
        };
        if self.form.patient.protection.is_some() && unreleased {
            warnings.push(Warning::ProtectedIdentity);
        }
        warnings
    }

    /// Returns the etag of the present revision.
    pub fn etag(&self) -> String {
        format!("r{}", self.revision)
    }

    /// Returns the key that another open request must not share.
    pub fn duplicate_key(&self) -> DuplicateKey {
        DuplicateKey::of(&self.key.care_unit, &self.form)
    }

    /// Returns the keys by which it is found as a duplicate while it is open: its own, and that of any patient with
    /// protected identity if its patient has one.
    pub fn found_by(&self) -> Vec<DuplicateKey> {
        let own = self.duplicate_key();
        let protected = self.form.patient.is_protected();
        let shared = protected.then(|| own.clone().of_any_protected());
        std::iter::once(own).chain(shared).collect()
    }

    /// Returns whether it is open, or may be opened, in spite of a duplicate.
    pub fn is_exempt_from_duplicates(&self) -> bool {
        self.allow_duplicate || self.may_have_duplicate
    }

    fn check_etag(&self, etag: &str) -> Result<(), Refusal> {
        if etag.is_empty() || etag == self.etag() {
            Ok(())
        } else {
            Err(Refusal::EtagMismatch)
        }
    }

    fn check_allowed(&self, action: Action, now: Instant) -> Result<(), Refusal> {
        let allowed = self.allowed_actions(now);
        if allowed.contains(&action) {
            Ok(())
        } else {
            Err(self.conflict(now, self.obstacle(action)))
        }
    }

    /// Returns what is in the way of an action that the state alone would allow.
    fn obstacle(&self, action: Action) -> Option<&'static str> {
        match (action, self.state) {
            (Action::RevokeInvitation, State::Invited) => Some(TOLD),
            (Action::ReleaseHold, State::Invited) if self.hold().is_none() => {
                Some("nothing holds it")
            }
            (Action::ReleaseHold, State::Cancelled) => Some("no withdrawal of it is parked"),
            (
                Action::Change
                | Action::ChangeToInvitation
                | Action::RecordBooking
                | Action::RecordPatientContact
                | Action::Cancel
                | Action::ReleaseHold
                | Action::RevokeInvitation
                | Action::RecordBookingCancellation,
                State::Requested
                | State::Invited
                | State::Booked
                | State::Declined
                | State::Cancelled,
            ) => None,
        }
    }

    /// Returns the refusal of a verb at `now`: the state does not allow it, or `why` something else does not.
    fn conflict(&self, now: Instant, why: Option<&'static str>) -> Refusal {
        Refusal::StateConflict {
            state: self.effective_state(now),
            allowed: self.allowed_actions(now),
            why,
        }
    }

    /// Returns an entry for the history, with the present effective state.
    pub(in crate::domain) fn history_entry(&self, event: Event, context: &Context) -> HistoryEntry {
        HistoryEntry {
            at: context.now,
            actor: context.actor.clone(),
            event,
            revision: self.revision,
            state_before: None,
            state: self.effective_state(context.now),
            elapsed: Vec::new(),
            next_transition_at: None,
            change_reason: None,
            cancel_reason: None,
            comment: String::new(),
            notification: None,
            constraints: None,
            booking: None,
            contact: None,
            cause: None,
            changed_fields: Vec::new(),
        }
    }

    /// Finishes a verb that changed something: counts up the revision, recomputes derived fields, and completes the
    /// history entries: revision and effective state in all, and in the first, the verb's own, the fields in which the
    /// request differs from `before` and what time alone had changed since then. A request that is created has no state
    /// before. Dates within a request never run backwards because clocks of replicas differ.
    pub(in crate::domain) fn finish_change(
        mut self,
        before: Option<&Self>,
        mut history: Vec<HistoryEntry>,
        context: &Context,
    ) -> Change {
        let changed_at = before.map(|it| it.updated_at);
        let changed_at = changed_at.filter(|at| *at - context.now <= CLOCKS_APART_MAX);
        let at = changed_at.map_or(context.now, |at| at.max(context.now));
        self.revision += 1;
        self.may_have_duplicate &= self.is_open();
        self.closed_at = match self.state {
            State::Declined | State::Cancelled => self.closed_at.or(Some(context.now)),
            State::Requested | State::Invited | State::Booked => None,
        };
        self.updated_at = at;
        self.recompute_derived(context);
        let state = self.effective_state(at);
        let next_transition_at = self.next_transition_at(at);
        for entry in &mut history {
            entry.at = at;
            entry.revision = self.revision;
            entry.state_before = Some(state);
            entry.state = state;
            entry.next_transition_at = next_transition_at;
        }
        if let Some(own) = history.first_mut() {
            own.state_before = before.map(|it| it.effective_state(at));
        }
        if let (Some(before), Some(own)) = (before, history.first_mut()) {
            own.changed_fields = changed_fields(&before.form, &self.form);
            own.elapsed = before.elapsed(at);
        }
        self.history_count += i32::try_from(history.len()).expect("a verb writes a few entries");
        Change {
            record: self,
            history,
        }
    }
}
