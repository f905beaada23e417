//! Effects of each call on one request, in the order of its checks: today, etag, state, rules.

use care_invitation::contract::v1;
use care_invitation::contract::v1::BookingCancellationReason;
use care_invitation::contract::v1::ContactOutcome as Outcome;
use care_invitation::contract::v1::HistoryEvent;
use care_invitation::contract::v1::NotificationCause;
use care_invitation::contract::v1::booking_request::{Origin, State};
use care_invitation::contract::v1::change_booking_request_request::OnChange;
use care_invitation::contract::v1::notification::State as MessageState;
use care_invitation::contract::v1::record_booking_cancellation_request::Next;
use care_invitation::contract::v1::{
    Action, BookingSource, CancelReason, ChannelReason, DeliveryChannel, HoldReason,
    NotificationKind, SlotVerdict,
};
use tonic::Code;

use super::calendar::{Instant, date, from_timestamp, local_date, plus, timestamp};
use super::fields::changed_fields;
use super::message::{Invitation, Message, Step};
use super::request::{Entry, Request};
use super::rules::{Refusal, check_today, verdict};

type Decision = Result<(), Refusal>;

/// Default number of days to wait for a patient who will book.
const WAIT_DAYS: u64 = 14;

impl Request {
    pub fn change_to_invitation(
        &mut self,
        call: &v1::ChangeToInvitationRequest,
        now: Instant,
        current: bool,
    ) -> Decision {
        self.check_invitable_today(call, now)?;
        check_etag(current)?;
        let contact = self
            .invitation
            .as_ref()
            .is_some_and(Invitation::held_by_contact);
        match self.shown(now) {
            State::Cancelled | State::Unspecified => return Err(Refusal::state(self, now)),
            State::Invited if !contact => return Err(Refusal::precondition("ALREADY_INVITATION")),
            State::Invited
            | State::Requested
            | State::Booked
            | State::Declined
            | State::NoResponse
            | State::Expired => {}
        }
        if self.referral_id().is_empty() && call.referral_id.is_empty() {
            return Err(Refusal::precondition("REFERRAL_REQUIRED"));
        }
        if call.constraints.is_none() && self.has_expired(now) {
            return Err(Refusal::precondition("PERIOD_PASSED"));
        }
        if let Some(Origin::PreviousVisit(visit)) = &mut self.form.origin
            && visit.referral_id.is_empty()
        {
            visit.referral_id.clone_from(&call.referral_id);
        }
        if call.constraints.is_some() {
            self.form.constraints.clone_from(&call.constraints);
        }
        let ended = self.begin_round(now);
        self.note_ending(HistoryEvent::ChangeToInvitation, &ended, now);
        Ok(())
    }

    fn check_invitable_today(
        &self,
        call: &v1::ChangeToInvitationRequest,
        now: Instant,
    ) -> Decision {
        let mut faults = vec![];
        let named = self.referral_id();
        if !call.referral_id.is_empty() && !named.is_empty() && call.referral_id != named {
            faults.push("referral_id".to_owned());
        }
        match &call.constraints {
            Some(constraints) => {
                let kept = self.period().map(|(first, _)| first);
                let checked = check_today(constraints, kept, local_date(now), "constraints");
                faults.extend(checked.err().into_iter().flat_map(|it| it.details));
            }
            None if self.form.constraints.is_none() => faults.push("constraints".to_owned()),
            None => {}
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(Refusal::fields(faults))
        }
    }

    /// Cancels pending notifications and plans a first one. Returns the indices of those it cancelled.
    pub fn begin_round(&mut self, now: Instant) -> Vec<usize> {
        self.state = State::Invited;
        self.form.summons = true;
        self.form.invitation = true;
        self.form.booking = None;
        let schedule = self.in_force().schedule;
        let (starts_on, _) = self.period().expect("an invitation has a period");
        let due_at = schedule.first_due_at(starts_on, now);
        let protected = self.is_protected();
        let invitation = self.invitation.get_or_insert_with(|| Invitation {
            round: 0,
            schedule,
            invited_at: now,
            messages: vec![],
            hold: HoldReason::Unspecified,
            wait_until: None,
            fixed: None,
            inbox_failed: false,
            bookable_since: None,
        });
        let held = protected || invitation.hold == HoldReason::ProtectedIdentity;
        let ended = invitation.end(NotificationCause::NewRound);
        invitation.round += 1;
        invitation.invited_at = now;
        invitation.schedule = schedule;
        invitation.fixed = None;
        invitation.inbox_failed = false;
        invitation.bookable_since = None;
        if held {
            invitation.hold = HoldReason::ProtectedIdentity;
        }
        let first = Message::planned(invitation.round, (NotificationKind::Invitation, 0), due_at);
        invitation.messages.push(first);
        ended
    }

    /// Begins the first round with messages that an older system handed over: the reminder after them is all
    /// that is planned.
    pub fn import(&mut self, prior: &[v1::PriorMessage], now: Instant) {
        self.begin_round(now);
        let invitation = self.invitation.as_mut().expect("just begun");
        invitation.messages.clear();
        for given in prior {
            let sent_at = from_timestamp(given.send_time.as_ref().expect("given"));
            let step = (given.kind(), given.sequence);
            let mut message = Message::planned(1, step, sent_at);
            message.settle(MessageState::Sent, NotificationCause::Imported, "");
            message.imported = true;
            message.sent_at = Some(sent_at);
            let invitation = self.invitation.as_mut().expect("just begun");
            invitation.bookable_since.get_or_insert(sent_at);
            let (channel, reason) = self.channel_for(&message, now);
            message.channel = given.channel();
            message.channel_reason = match given.channel() {
                given if given == channel => reason,
                DeliveryChannel::Letter => ChannelReason::Staff,
                _ => ChannelReason::Default,
            };
            let invitation = self.invitation.as_mut().expect("just begun");
            invitation.messages.push(message);
        }
        self.plan_next();
    }

    pub fn change(
        &mut self,
        call: &v1::ChangeBookingRequestRequest,
        now: Instant,
        current: bool,
    ) -> Decision {
        let mut changed = self.form.clone();
        let paths = &call.update_mask.as_ref().expect("given").paths;
        for path in paths {
            overwrite(
                &mut changed,
                call.booking_request.as_ref().expect("given"),
                path,
            );
        }
        let other_origin = match &self.form.origin {
            Some(Origin::Referral(_)) => "previous_visit.decision_date",
            _ => "referral.decision_date",
        };
        if paths.iter().any(|it| it == other_origin) {
            return Err(Refusal::field(&format!("booking_request.{other_origin}")));
        }
        if paths.iter().any(|it| it.starts_with("constraints")) {
            let at = "booking_request.constraints";
            let kept = self.period().map(|(first, _)| first);
            let Some(constraints) = &changed.constraints else {
                return Err(Refusal::field(at));
            };
            check_today(constraints, kept, local_date(now), at)?;
        }
        check_etag(current)?;
        if !self.allows(Action::Change, now) {
            return Err(Refusal::state(self, now));
        }
        let visit = |it: &v1::BookingRequest| {
            let v1::BookingRequest {
                visit_kind,
                visit_type,
                origin,
                ..
            } = it.clone();
            (visit_kind, visit_type, origin)
        };
        let is_told = self.invitation.as_ref().is_some_and(Invitation::is_told);
        if visit(&changed) != visit(&self.form) && self.state == State::Invited && is_told {
            return Err(Refusal::state(self, now));
        }
        let code = |it: &v1::BookingRequest| it.visit_type.clone().map(|it| it.code);
        let is_new_type = code(&changed) != code(&self.form);
        let before = self.period();
        let is_new_visit = visit(&changed) != visit(&self.form);
        self.form = changed;
        if is_new_visit {
            self.guarantee_days = self.in_force().guarantee_days;
        }
        let schedule = self.in_force().schedule;
        let invitation = self.invitation.as_mut();
        if let Some(invitation) = invitation.filter(|_| is_new_type && self.state == State::Invited)
        {
            invitation.schedule = schedule;
        }
        let mut ended = vec![];
        if self.state == State::Invited {
            ended = self.replan(before, is_new_type, call.on_change(), now);
        }
        self.note_ending(HistoryEvent::ChangeBookingRequest, &ended, now);
        Ok(())
    }

    fn replan(
        &mut self,
        before: Option<(chrono::NaiveDate, chrono::NaiveDate)>,
        is_new_type: bool,
        on_change: OnChange,
        now: Instant,
    ) -> Vec<usize> {
        let (old, new) = (before.expect("invited"), self.period().expect("invited"));
        let invitation = self.invitation.as_mut().expect("invited");
        let first_due_at = invitation.schedule.first_due_at(new.0, now);
        for message in &mut invitation.messages {
            message.outdated |= !message.tokens.is_empty();
            message.take_back();
        }
        if old == new && !is_new_type {
            return vec![];
        }
        let share = old.0 <= new.1 && new.0 <= old.1;
        let restart = match on_change {
            OnChange::Unspecified => !share,
            OnChange::Keep => false,
            OnChange::Restart => true,
        };
        if invitation.is_told() {
            return if restart {
                self.begin_round(now)
            } else {
                vec![]
            };
        }
        let round = invitation.round;
        let waiting = invitation.messages.iter_mut();
        for first in waiting.filter(|it| it.round == round && it.is_waiting()) {
            first.due_at = first_due_at;
            first.claimable_at = first_due_at;
        }
        vec![]
    }

    /// Plans the notification after the last hand-over of the round.
    pub fn plan_next(&mut self) {
        let Some(invitation) = &self.invitation else {
            return;
        };
        let steps = invitation.steps();
        // One that is being handed over beside another of its kind keeps nothing waiting.
        let awaited = |step: &Step| {
            invitation.pending(*step).is_some() && invitation.hand_over(*step).is_none()
        };
        if self.state != State::Invited || steps.iter().any(awaited) {
            return;
        }
        let hand_over = |step| (step, invitation.hand_over(step));
        let hand_overs: Vec<_> = steps.into_iter().map(hand_over).collect();
        let next = hand_overs.windows(2).find_map(|step| match step {
            [(_, Some(handed_over_at)), (next, None)] => Some((*next, *handed_over_at)),
            _ => None,
        });
        let Some((step, handed_over_at)) = next else {
            return;
        };
        let due_at = invitation.schedule.reminder_due_at(handed_over_at);
        let message = Message::planned(invitation.round, step, due_at);
        let invitation = self.invitation.as_mut().expect("seen above");
        invitation.messages.push(message);
    }

    pub fn record_booking(
        &mut self,
        call: &v1::RecordBookingRequest,
        now: Instant,
        current: bool,
    ) -> Decision {
        let booking = call.booking.as_ref().expect("given");
        check_etag(current)?;
        let booked = self.form.booking.as_ref();
        let booked = booked.filter(|_| self.state == State::Booked);
        if booked == Some(booking) {
            return Ok(());
        }
        let verdict = verdict(self, booking.source(), &slot_of(booking), now);
        let name = verdict.as_str_name().trim_start_matches("SLOT_VERDICT_");
        let present = booked.map(|it| it.booking_id.as_str()).unwrap_or_default();
        let replaced = call.replaces_booking_id.as_str();
        let by_staff = booking.source() == BookingSource::Staff;
        // Nothing that is booked has an empty id.
        let conflict = match replaced {
            "" if present.is_empty() || present == booking.booking_id => None,
            "" => Some(
                Refusal::new(Code::AlreadyExists, "ALREADY_BOOKED").with("booking_id", present),
            ),
            replaced if replaced == present => None,
            _ if present.is_empty() => Some(Refusal::precondition("BOOKING_MISMATCH")),
            _ => Some(Refusal::precondition("BOOKING_MISMATCH").with("booking_id", present)),
        };
        match (verdict, conflict) {
            (SlotVerdict::RequestClosed | SlotVerdict::NotInvited | SlotVerdict::NotOpenYet, _) => {
                return Err(Refusal::state(self, now).with("verdict", name));
            }
            (_, Some(refusal)) => return Err(refusal),
            (SlotVerdict::Offered, None) => {}
            (SlotVerdict::TooLate, None) => return Err(Refusal::precondition("TOO_LATE")),
            (_, None) if by_staff && !booking.override_reason.is_empty() => {}
            (_, None) => {
                return Err(Refusal::precondition("OUTSIDE_CONSTRAINTS").with("verdict", name));
            }
        }
        self.state = State::Booked;
        self.form.booking = Some(booking.clone());
        let ended = self.end_invitation(NotificationCause::Booked);
        self.note_ending(HistoryEvent::RecordBooking, &ended, now);
        Ok(())
    }

    pub fn record_contact(
        &mut self,
        call: &v1::RecordPatientContactRequest,
        now: Instant,
        current: bool,
    ) -> Decision {
        let today = local_date(now);
        let given = (!call.wait_until_date.is_empty()).then(|| date(&call.wait_until_date));
        let contact_at = call.contact_time.as_ref().map_or(now, from_timestamp);
        let faults = [
            (contact_at > now, "contact_time"),
            (given.is_some_and(|day| day < today), "wait_until_date"),
        ];
        let faults = faults.into_iter().filter(|(bad, _)| *bad);
        let faults: Vec<_> = faults.map(|(_, field)| field.to_owned()).collect();
        if !faults.is_empty() {
            return Err(Refusal::fields(faults));
        }
        check_etag(current)?;
        if !self.allows(Action::RecordPatientContact, now) {
            return Err(Refusal::state(self, now));
        }
        let expired = self.has_expired(now);
        let invitation = self.invitation.as_mut().expect("invited");
        let mut ended = vec![];
        match call.outcome() {
            Outcome::Declined => {
                self.state = State::Declined;
                ended = self.end_invitation(NotificationCause::Declined);
            }
            Outcome::WillBook => {
                if !expired {
                    invitation.bookable_since.get_or_insert(now);
                }
                invitation.hold(HoldReason::WillBook);
                if invitation.hold == HoldReason::WillBook {
                    invitation.wait_until = Some(given.unwrap_or(plus(today, WAIT_DAYS)));
                }
            }
            Outcome::NoSuitableTime => invitation.hold(HoldReason::NoSuitableTime),
            Outcome::CallBack => invitation.hold(HoldReason::CallBack),
            Outcome::Other => invitation.hold(HoldReason::Contacted),
            Outcome::Unspecified => unreachable!("the walk gives an outcome"),
        }
        self.last_contact = Some(v1::PatientContact {
            outcome: call.outcome,
            contact_time: Some(timestamp(contact_at)),
            medium: call.medium,
        });
        self.note_ending(HistoryEvent::RecordPatientContact, &ended, now);
        Ok(())
    }

    pub fn cancel(
        &mut self,
        call: &v1::CancelBookingRequestRequest,
        now: Instant,
        current: bool,
    ) -> Decision {
        check_etag(current)?;
        let died = call.reason() == CancelReason::PatientDeceased;
        if self.state == State::Cancelled && !died {
            return Err(Refusal::state(self, now));
        }
        let unanswered = match self.shown(now) {
            State::NoResponse => true,
            State::Expired => self.state == State::Invited,
            _ => false,
        };
        if call.reason() == CancelReason::NoResponse && !unanswered {
            return Err(Refusal::state(self, now));
        }
        let ended = self.close(call.reason(), NotificationCause::Cancelled, now);
        self.note_ending(HistoryEvent::CancelBookingRequest, &ended, now);
        self.withdraw(now);
        Ok(())
    }

    /// Cancels the request, and decides whether a withdrawal is due.
    pub fn close(
        &mut self,
        reason: CancelReason,
        cause: NotificationCause,
        now: Instant,
    ) -> Vec<usize> {
        let silent = [CancelReason::PatientRequest, CancelReason::PatientDeceased];
        let invited = matches!(self.shown(now), State::Invited | State::NoResponse);
        self.to_withdraw = invited && !silent.contains(&reason);
        self.state = State::Cancelled;
        self.cancel_reason = reason;
        self.end_invitation(cause)
    }

    /// Plans the withdrawal, once, through the channel last used; for a patient with protection it waits
    /// for staff.
    pub fn withdraw(&mut self, now: Instant) {
        let Some(invitation) = &mut self.invitation else {
            return;
        };
        let mut withdrawals = invitation.messages.iter().filter(|it| it.is_withdrawal());
        let has_one = withdrawals.any(|it| it.state != MessageState::Cancelled);
        let Some(last) = invitation
            .last_used()
            .filter(|_| self.to_withdraw && !has_one)
        else {
            return;
        };
        let mut message =
            Message::planned(invitation.round, (NotificationKind::Withdrawal, 0), now);
        message.pinned = true;
        message.channel = last.channel;
        message.channel_reason = last.channel_reason;
        invitation.messages.push(message);
        if self.is_protected() {
            self.withhold_withdrawal(now);
        }
    }

    /// Parks the withdrawal until staff release it.
    fn withhold_withdrawal(&mut self, now: Instant) {
        let mut parked = vec![];
        let invitation = self.invitation.as_mut().expect("it was one");
        let messages = invitation.messages.iter_mut().enumerate();
        for (nth, message) in messages.filter(|(_, it)| it.is_withdrawal()) {
            if message.is_waiting() || message.is_out() {
                invitation.hold = HoldReason::ProtectedIdentity;
            }
            message.take_back();
            if message.state == MessageState::Scheduled {
                message.settle(
                    MessageState::Parked,
                    NotificationCause::ProtectedIdentity,
                    "",
                );
                parked.push(nth);
            }
        }
        for nth in parked {
            self.note_message(HistoryEvent::NotificationParked, Some(nth), now);
        }
    }

    fn end_invitation(&mut self, cause: NotificationCause) -> Vec<usize> {
        let invitation = self.invitation.as_mut();
        invitation.map(|it| it.end(cause)).unwrap_or_default()
    }

    pub fn release_hold(
        &mut self,
        call: &v1::ReleaseHoldRequest,
        now: Instant,
        current: bool,
    ) -> Decision {
        check_etag(current)?;
        if !self.allows(Action::ReleaseHold, now) {
            return Err(Refusal::state(self, now));
        }
        let invitation = self.invitation.as_mut().expect("held");
        invitation.lift();
        if call.channel() != DeliveryChannel::Unspecified {
            invitation.fixed = Some(call.channel());
        }
        for message in &mut invitation.messages {
            message.release(now);
            if message.is_waiting() {
                message.state = MessageState::Scheduled;
                message.claimable_at = message.due_at;
                message.lapses = 0;
                message.explain(NotificationCause::Unspecified, "");
                if call.channel() != DeliveryChannel::Unspecified && message.pinned {
                    message.channel = call.channel();
                    message.channel_reason = ChannelReason::Staff;
                }
            }
        }
        self.note(HistoryEvent::ReleaseHold, now);
        Ok(())
    }

    pub fn record_booking_cancellation(
        &mut self,
        call: &v1::RecordBookingCancellationRequest,
        now: Instant,
        current: bool,
    ) -> Decision {
        match &call.constraints {
            Some(constraints) => {
                let kept = self.period().map(|(first, _)| first);
                check_today(constraints, kept, local_date(now), "constraints")?;
            }
            None if self.form.constraints.is_none() => return Err(Refusal::field("constraints")),
            None => {}
        }
        check_etag(current)?;
        let Some(booking) = self
            .form
            .booking
            .as_ref()
            .filter(|_| self.state == State::Booked)
        else {
            return Err(Refusal::state(self, now));
        };
        if booking.booking_id != call.booking_id {
            let refusal = Refusal::precondition("BOOKING_MISMATCH");
            return Err(refusal.with("booking_id", &booking.booking_id));
        }
        let start_at = from_timestamp(booking.start_time.as_ref().expect("given"));
        if call.reason() == BookingCancellationReason::NoShow && now < start_at {
            return Err(Refusal::state(self, now));
        }
        let invites = call.next() == Next::Invited;
        if invites && self.referral_id().is_empty() {
            return Err(Refusal::precondition("REFERRAL_REQUIRED"));
        }
        if invites && call.constraints.is_none() && self.has_expired(now) {
            return Err(Refusal::precondition("PERIOD_PASSED"));
        }
        match call.reason() {
            BookingCancellationReason::Patient => self.cancellations[0] += 1,
            BookingCancellationReason::CareUnit => self.cancellations[1] += 1,
            BookingCancellationReason::NoShow => self.cancellations[2] += 1,
            BookingCancellationReason::Unspecified => unreachable!("the walk gives a reason"),
        }
        if call.constraints.is_some() {
            self.form.constraints.clone_from(&call.constraints);
        }
        let mut ended = vec![];
        if invites {
            ended = self.begin_round(now);
        } else {
            self.state = State::Requested;
            self.form.booking = None;
            self.form.invitation = false;
        }
        self.note_ending(HistoryEvent::RecordBookingCancellation, &ended, now);
        Ok(())
    }

    pub fn revoke_invitation(&mut self, now: Instant, current: bool) -> Decision {
        check_etag(current)?;
        if !self.allows(Action::RevokeInvitation, now) {
            return Err(Refusal::state(self, now));
        }
        self.state = State::Requested;
        self.form.invitation = false;
        let ended = self.end_invitation(NotificationCause::Revoked);
        self.note_ending(HistoryEvent::RevokeInvitation, &ended, now);
        Ok(())
    }

    /// Applies an update of the patient. Returns whether anything changed.
    pub fn update_patient(&mut self, call: &v1::UpdatePatientRequest, now: Instant) -> bool {
        if call.deceased {
            return self.stop_for_death(now);
        }
        if self.state == State::Cancelled && !self.may_yet_withdraw() {
            return false;
        }
        let given = call.patient.as_ref().expect("given");
        let before = self.patient().clone();
        let patient = self.form.patient.as_mut().expect("every request has one");
        for path in call.update_mask.iter().flat_map(|it| &it.paths) {
            match path.as_str() {
                "protection" => patient.protection = given.protection,
                "inbox_reach" => patient.inbox_reach = given.inbox_reach,
                "preferred_language" => {
                    patient
                        .preferred_language
                        .clone_from(&given.preferred_language);
                }
                "addressee" => patient.addressee = given.addressee,
                "interpreter_language" => {
                    patient
                        .interpreter_language
                        .clone_from(&given.interpreter_language);
                }
                "letter_format" => patient.letter_format = given.letter_format,
                other => unreachable!("the walk names no {other}"),
            }
        }
        let newly = patient.protection != before.protection && self.is_protected();
        let invited = self.state == State::Invited;
        if let Some(invitation) = self.invitation.as_mut().filter(|_| newly && invited) {
            invitation.hold(HoldReason::ProtectedIdentity);
        }
        let changed = *self.patient() != before;
        if changed {
            self.note(HistoryEvent::UpdatePatient, now);
        }
        if newly && self.state == State::Cancelled && self.invitation.is_some() {
            self.withhold_withdrawal(now);
        }
        changed
    }

    /// Gives the request a new identity number, if one is given, and the protection that the patient has by another
    /// request.
    pub fn replace_personal_id(
        &mut self,
        to: Option<&v1::PatientIdentity>,
        strictest: i32,
        now: Instant,
    ) {
        let learns = self.state != State::Cancelled || self.may_yet_withdraw();
        let newly = learns && self.patient().protection < strictest;
        let patient = self.form.patient.as_mut().expect("every request has one");
        if newly {
            patient.protection = strictest;
        }
        if let Some(identity) = to {
            patient.personal_id.clone_from(&identity.personal_id);
            patient.personal_id_type = identity.personal_id_type;
            patient.issuer.clone_from(&identity.issuer);
            let messages = self.invitation.iter_mut().flat_map(|it| &mut it.messages);
            for message in messages {
                message.outdated |= !message.tokens.is_empty();
                message.take_back();
            }
        }
        let invited = self.state == State::Invited;
        if let Some(invitation) = self.invitation.as_mut().filter(|_| newly && invited) {
            invitation.hold(HoldReason::ProtectedIdentity);
        }
        match (to, newly) {
            (Some(_), _) => self.note(HistoryEvent::PersonalIdReplaced, now),
            (None, true) => self.note(HistoryEvent::UpdatePatient, now),
            (None, false) => return,
        }
        if newly && self.state == State::Cancelled && self.invitation.is_some() {
            self.withhold_withdrawal(now);
        }
    }

    /// Cancels a request that is not cancelled, and stops the withdrawal of one that is.
    fn stop_for_death(&mut self, now: Instant) -> bool {
        if self.state == State::Cancelled && !self.may_yet_withdraw() {
            return false;
        }
        let ended = self.close(
            CancelReason::PatientDeceased,
            NotificationCause::PatientDeceased,
            now,
        );
        self.note_ending(HistoryEvent::UpdatePatient, &ended, now);
        true
    }

    /// Returns whether a withdrawal waits, or would be sent if a notification turned out to have been handed
    /// over.
    fn may_yet_withdraw(&self) -> bool {
        let mut withdrawals = self.messages().iter().filter(|it| it.is_withdrawal());
        let planned = withdrawals
            .clone()
            .any(|it| it.state != MessageState::Cancelled);
        let round = self.invitation.as_ref().map(|it| it.round);
        let leased = |it: &Message| Some(it.round) == round && !it.tokens.is_empty();
        let to_come = self.to_withdraw && !planned && self.messages().iter().any(leased);
        let waits = withdrawals.any(|it| it.is_waiting() || it.is_out());
        self.state == State::Cancelled && !self.has_died() && (to_come || waits)
    }

    /// Records an event that gives a new etag.
    pub fn note(&mut self, event: HistoryEvent, now: Instant) {
        self.note_message(event, None, now);
    }

    /// Records an event that gives a new etag and has cancelled these notifications.
    fn note_ending(&mut self, event: HistoryEvent, ended: &[usize], now: Instant) {
        self.note(event, now);
        for message in ended {
            self.note_message(HistoryEvent::NotificationCancelled, Some(*message), now);
        }
    }

    pub fn note_message(&mut self, event: HistoryEvent, message: Option<usize>, now: Instant) {
        self.version += 1;
        self.touched = true;
        self.changed_at = now;
        let explained = matches!(
            event,
            HistoryEvent::NotificationCancelled
                | HistoryEvent::NotificationParked
                | HistoryEvent::NotificationUnreachable
        );
        let explained = message.filter(|_| explained).map(|it| self.message(it));
        let (cause, words) = explained
            .map(|it| (it.cause, it.words.clone()))
            .unwrap_or_default();
        let changed = match self.history.is_empty() {
            true => vec![],
            false => changed_fields(&self.noted, &self.form),
        };
        self.noted = self.form.clone();
        self.history.push(Entry {
            event,
            cause,
            words,
            message,
            state: self.shown(now),
            changed,
        });
    }
}

fn check_etag(current: bool) -> Decision {
    if current {
        Ok(())
    } else {
        Err(Refusal::new(Code::Aborted, "ETAG_MISMATCH"))
    }
}

/// Overwrites a field that the mask names.
fn overwrite(form: &mut v1::BookingRequest, given: &v1::BookingRequest, path: &str) {
    let new = given.constraints.clone().unwrap_or_default();
    match (path, &mut form.constraints) {
        ("constraints", _) => form.constraints.clone_from(&given.constraints),
        ("purpose", _) => form.purpose.clone_from(&given.purpose),
        ("internal_comment", _) => {
            form.internal_comment = given.internal_comment.replace("\r\n", "\n");
        }
        ("priority", _) => form.priority = given.priority,
        ("visit_kind", _) => form.visit_kind = given.visit_kind,
        ("visit_type", _) => form.visit_type.clone_from(&given.visit_type),
        ("referral.decision_date" | "previous_visit.decision_date", _) => {
            match (&mut form.origin, &given.origin) {
                (Some(Origin::Referral(it)), Some(Origin::Referral(given))) => {
                    it.decision_date.clone_from(&given.decision_date);
                }
                (Some(Origin::PreviousVisit(it)), Some(Origin::PreviousVisit(given))) => {
                    it.decision_date.clone_from(&given.decision_date);
                }
                // Refused below.
                _ => {}
            }
        }
        ("constraints.requested_period", Some(it)) => it.requested_period = new.requested_period,
        ("constraints.weekdays", Some(it)) => it.weekdays = new.weekdays,
        (other, _) => unreachable!("the walk names no {other}"),
    }
}

/// Returns the time that a booking takes.
pub fn slot_of(booking: &v1::Booking) -> v1::Slot {
    v1::Slot {
        slot_id: booking.booking_id.clone(),
        start_time: booking.start_time,
        end_time: booking.end_time,
        performer_id: booking.performer_id.clone(),
    }
}
