//! Calls: the request messages that a step sends to the service, given the state of the model.

use care_invitation::contract::v1;
use care_invitation::contract::v1::booking_request::Origin;
use care_invitation::contract::v1::delivery_receipt::Receipt;
use care_invitation::contract::v1::{
    Action, BookingSource, CancelReason, ChangeReason, DeliveryChannel, PersonalIdType, VisitKind,
};
use chrono::{NaiveDate, TimeDelta};
use uuid::Uuid;

use super::batch;
use super::calendar::{Instant, instant, local_date, timestamp};
use super::op::{
    Aim, Creation, Etag, Form, From, Jump, Learned, Op, Own, Referral, Setting, Slot, Span, What,
    Which, Words,
};
use super::request::Request;
use super::verbs::slot_of;
use super::world::{World, nth_of};

const UNITS: [&str; 2] = [
    "careUnits/SE2321000131-P000000123457",
    "careUnits/TSTNMT2321000131-P.1_A",
];
/// Number, kind and issuer of each.
const PATIENTS: [(&str, PersonalIdType, &str); 9] = [
    ("198003012385", PersonalIdType::Personnummer, ""),
    ("191212121212", PersonalIdType::Personnummer, ""),
    ("197302889931", PersonalIdType::Samordningsnummer, ""),
    ("1980R0A1B2C3", PersonalIdType::NationalReserveNumber, ""),
    // Born in 1915, nobody knows in which month.
    ("191500882392", PersonalIdType::Samordningsnummer, ""),
    // Two issuers gave the same number.
    ("R-1", PersonalIdType::LocalReserveNumber, "1.2.752.1"),
    ("R-1", PersonalIdType::LocalReserveNumber, "1.2.752.2"),
    // Their thirteenth birthdays are on 10 March and on 20 October 2026.
    ("201303102386", PersonalIdType::Personnummer, ""),
    ("201310802382", PersonalIdType::Samordningsnummer, ""),
];

/// One of the characters that no identifier holds.
pub const ZERO_WIDTH_SPACE: char = '\u{200b}';

/// A call, or a move of the clock.
#[derive(Clone, Debug, PartialEq)]
pub enum Call {
    Create(v1::CreateBookingRequestRequest),
    Get(v1::GetBookingRequestRequest),
    Invite(v1::ChangeToInvitationRequest),
    Change(v1::ChangeBookingRequestRequest),
    Book(v1::RecordBookingRequest),
    Contact(v1::RecordPatientContactRequest),
    Cancel(v1::CancelBookingRequestRequest),
    Release(v1::ReleaseHoldRequest),
    Unbook(v1::RecordBookingCancellationRequest),
    Revoke(v1::RevokeInvitationRequest),
    Patient(v1::UpdatePatientRequest),
    Replace(v1::ReplacePersonalIdRequest),
    Settings(v1::UpdateCareUnitSettingsRequest),
    Lease(v1::StreamDueNotificationsRequest),
    Authorize(v1::AuthorizeDispatchRequest),
    Acknowledge(v1::AcknowledgeNotificationsRequest),
    Report(v1::ReportDeliveryRequest),
    /// Items of one kind.
    Batch(Vec<Call>),
    Advance(Instant),
}

pub fn units() -> Vec<String> {
    UNITS.map(Into::into).to_vec()
}

/// Returns everybody whom requests are about.
pub fn patients() -> Vec<v1::PatientIdentity> {
    let identity = |(number, kind, issuer): (&str, PersonalIdType, &str)| v1::PatientIdentity {
        personal_id: number.into(),
        personal_id_type: kind.into(),
        issuer: issuer.into(),
    };
    PATIENTS.map(identity).to_vec()
}

fn new_id() -> String {
    Uuid::new_v4().to_string()
}

/// Returns the call that a step means now, if it means any.
pub fn call(op: &Op, world: &World) -> Option<Call> {
    Some(match op {
        Op::Create(creation) => Call::Create(create(creation, world.now)),
        Op::Settings { unit, what, etag } => settings(UNITS[*unit], what, *etag, world)?,
        Op::Repeat { nth, twisted } => repeat(world, *nth, *twisted)?,
        Op::Clerk(op) => call(op, world)?,
        Op::Batch(ops) => batch::call(ops, world)?,
        Op::Advance(jump) => Call::Advance(moved(*jump, world)?),
        Op::Stranger => Call::Get(v1::GetBookingRequestRequest {
            name: format!("{}/bookingRequests/{}", UNITS[0], Uuid::now_v7()),
        }),
        Op::LeaseAll if !world.has_due() => return None,
        Op::LeaseAll => lease(world, 1_000, 60, DeliveryChannel::Unspecified, false),
        Op::Lease {
            most,
            seconds,
            channel,
            promises,
        } => lease(world, *most, *seconds, *channel, *promises),
        Op::Authorize { which } => authorize(vec![pick(world, *which)?]),
        Op::AuthorizeAll => authorize(some(world.out())?),
        Op::AcknowledgeAll { outcome } => {
            let leases = some(world.out())?.into_iter();
            acknowledge(leases.map(|lease| v1::Acknowledgement {
                lease: Some(lease),
                outcome: (*outcome).into(),
                ..Default::default()
            }))
        }
        Op::Acknowledge {
            which,
            outcome,
            seconds_ago,
            delay,
            words,
            may_have_left,
        } => {
            let sent = *outcome == v1::acknowledgement::Outcome::Sent;
            let retry = *outcome == v1::acknowledgement::Outcome::Retry;
            let at = world.now - TimeDelta::seconds(*seconds_ago);
            acknowledge([v1::Acknowledgement {
                lease: Some(pick(world, *which)?),
                outcome: (*outcome).into(),
                send_time: (sent && *seconds_ago != 0).then(|| timestamp(at)),
                retry_delay: delay
                    .filter(|_| retry)
                    .map(|seconds| prost_types::Duration { seconds, nanos: 0 }),
                cause: match words {
                    Words::Nothing => String::new(),
                    Words::OneLine => "the adapter says so".into(),
                    Words::Lines => "the adapter\r\nsays\tso\0".into(),
                    Words::Long => "å".repeat(501),
                },
                may_have_been_sent: *may_have_left,
            }])
        }
        Op::Report(receipts) => {
            let receipt = |(at, receipt, seconds_ago): &(Aim, Receipt, i64)| {
                let event_at = world.now - TimeDelta::seconds(*seconds_ago);
                Some(v1::DeliveryReceipt {
                    name: world.message_name(*at)?,
                    receipt: (*receipt).into(),
                    event_time: (*seconds_ago != 0).then(|| timestamp(event_at)),
                })
            };
            let receipts = receipts.iter().filter_map(receipt).collect();
            Call::Report(v1::ReportDeliveryRequest {
                receipts: some(receipts)?,
            })
        }
        Op::Invite { .. }
        | Op::Change { .. }
        | Op::Book { .. }
        | Op::Contact { .. }
        | Op::Cancel { .. }
        | Op::Release { .. }
        | Op::Unbook { .. }
        | Op::Revoke { .. }
        | Op::Patient { .. }
        | Op::Replace { .. } => verb(op, world)?,
    })
}

fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

/// Returns the request that a step is about.
fn target<'a>(op: &Op, world: &'a World) -> Option<&'a Request> {
    let (at, action) = match op {
        Op::Invite { at, .. } => (at, Action::ChangeToInvitation),
        Op::Change { at, .. } => (at, Action::Change),
        Op::Book { at, .. } => (at, Action::RecordBooking),
        Op::Contact { at, .. } => (at, Action::RecordPatientContact),
        Op::Cancel { at, .. } | Op::Patient { at, .. } | Op::Replace { at, .. } => {
            (at, Action::Cancel)
        }
        Op::Release { at, .. } => (at, Action::ReleaseHold),
        Op::Unbook { at, .. } => (at, Action::RecordBookingCancellation),
        Op::Revoke { at, .. } => (at, Action::RevokeInvitation),
        other => unreachable!("{other:?} is not about one request"),
    };
    world.request(*at, action)
}

/// Returns the call of a step on one request.
fn verb(op: &Op, world: &World) -> Option<Call> {
    let request = target(op, world)?;
    let name = request.form.name.clone();
    Some(match op {
        Op::Invite {
            span,
            referral,
            etag,
            ..
        } => {
            let etag = seen(request, *etag)?;
            let named = request.referral_id();
            Call::Invite(v1::ChangeToInvitationRequest {
                name,
                request_id: new_id(),
                etag,
                constraints: span.map(|it| constraints(&it, world.now)),
                referral_id: match referral {
                    Referral::Unsaid => String::new(),
                    Referral::Right if named.is_empty() => "R-9".into(),
                    Referral::Right => named.into(),
                    Referral::Wrong => "R-8".into(),
                },
                comment: "invite".into(),
            })
        }
        Op::Change {
            what,
            on_change,
            etag,
            ..
        } => {
            let etag = seen(request, *etag)?;
            let (form, paths) = change(request, *what, world.now)?;
            Call::Change(v1::ChangeBookingRequestRequest {
                booking_request: Some(v1::BookingRequest { name, ..form }),
                update_mask: Some(prost_types::FieldMask { paths }),
                request_id: new_id(),
                etag,
                reason: ChangeReason::UnitRequest.into(),
                comment: "change".into(),
                on_change: (*on_change).into(),
            })
        }
        Op::Book {
            by,
            slot,
            id,
            replaces,
            reason,
            etag,
            ..
        } => {
            let etag = seen(request, *etag)?;
            let staff = *by == BookingSource::Staff;
            let mut booking = booking(slot, *id, first_day(request, world.now), world.now);
            booking.source = (*by).into();
            booking.override_reason = if *reason && staff { "by phone" } else { "" }.into();
            Call::Book(v1::RecordBookingRequest {
                name,
                request_id: new_id(),
                etag,
                booking: Some(booking),
                replaces_booking_id: replaces.map(|id| format!("B-{id}")).unwrap_or_default(),
            })
        }
        Op::Contact {
            outcome,
            wait,
            seconds_ago,
            medium,
            etag,
            ..
        } => {
            let etag = seen(request, *etag)?;
            let wait = wait.map(|days| day(world.now, days).to_string());
            Call::Contact(v1::RecordPatientContactRequest {
                name,
                request_id: new_id(),
                etag,
                outcome: (*outcome).into(),
                wait_until_date: wait.unwrap_or_default(),
                comment: "contact".into(),
                contact_time: seconds_ago
                    .map(|seconds| timestamp(world.now - TimeDelta::seconds(seconds))),
                medium: (*medium).into(),
            })
        }
        Op::Cancel { reason, etag, .. } => {
            let etag = seen(request, *etag)?;
            cancel(name, etag, *reason)
        }
        Op::Release { channel, etag, .. } => {
            let etag = seen(request, *etag)?;
            Call::Release(v1::ReleaseHoldRequest {
                name,
                request_id: new_id(),
                etag,
                channel: (*channel).into(),
                comment: "release".into(),
            })
        }
        Op::Unbook {
            by,
            next,
            id,
            span,
            etag,
            ..
        } => Call::Unbook(v1::RecordBookingCancellationRequest {
            name,
            request_id: new_id(),
            etag: seen(request, *etag)?,
            booking_id: format!("B-{id}"),
            reason: (*by).into(),
            next: (*next).into(),
            constraints: span.map(|it| constraints(&it, world.now)),
            comment: "unbook".into(),
        }),
        Op::Revoke { etag, .. } => Call::Revoke(v1::RevokeInvitationRequest {
            name,
            request_id: new_id(),
            etag: seen(request, *etag)?,
            comment: "revoke".into(),
        }),
        Op::Patient {
            everywhere, what, ..
        } => update_patient(request, *everywhere, *what),
        Op::Replace { to, .. } => Call::Replace(v1::ReplacePersonalIdRequest {
            old_identity: Some(request.identity()),
            new_identity: Some(patients()[*to].clone()),
            request_id: new_id(),
        }),
        other => unreachable!("{other:?} is not about one request"),
    })
}

fn cancel(name: String, etag: String, reason: CancelReason) -> Call {
    Call::Cancel(v1::CancelBookingRequestRequest {
        name,
        request_id: new_id(),
        etag,
        reason: reason.into(),
        comment: "cancel".into(),
    })
}

fn update_patient(request: &Request, everywhere: bool, what: Learned) -> Call {
    let mut patient = v1::Patient {
        personal_id: request.patient().personal_id.clone(),
        personal_id_type: request.patient().personal_id_type,
        issuer: request.patient().issuer.clone(),
        ..Default::default()
    };
    let path = match what {
        Learned::Protection(protection) => {
            patient.set_protection(protection);
            Some("protection")
        }
        Learned::Reach(reach) => {
            patient.set_inbox_reach(reach);
            Some("inbox_reach")
        }
        Learned::Language(language) => {
            patient.preferred_language = language.into();
            Some("preferred_language")
        }
        Learned::Addressee(addressee) => {
            patient.set_addressee(addressee);
            Some("addressee")
        }
        Learned::Interpreter(language) => {
            patient.interpreter_language = language.into();
            Some("interpreter_language")
        }
        Learned::Format(format) => {
            patient.set_letter_format(format);
            Some("letter_format")
        }
        Learned::Death => None,
    };
    Call::Patient(v1::UpdatePatientRequest {
        parent: if everywhere {
            "careUnits/-".into()
        } else {
            request.unit.clone()
        },
        patient: Some(patient),
        update_mask: path.map(|it| prost_types::FieldMask {
            paths: vec![it.into()],
        }),
        deceased: path.is_none(),
        request_id: new_id(),
    })
}

fn settings(unit: &str, what: &[Setting], etag: Etag, world: &World) -> Option<Call> {
    let seen = world.settings_etags(unit);
    let etag = match etag {
        Etag::Unsaid => String::new(),
        Etag::Present => seen.last()?.clone(),
        Etag::Earlier => seen.first()?.clone(),
    };
    let mut settings = v1::CareUnitSettings {
        name: format!("{unit}/settings"),
        ..Default::default()
    };
    let mut paths = vec![];
    for setting in what {
        paths.push(fill_in(&mut settings, setting, world.now).to_owned());
    }
    Some(Call::Settings(v1::UpdateCareUnitSettingsRequest {
        care_unit_settings: Some(settings),
        update_mask: Some(prost_types::FieldMask { paths }),
        request_id: new_id(),
        etag,
    }))
}

/// Fills in one setting; returns its path.
fn fill_in(settings: &mut v1::CareUnitSettings, setting: &Setting, now: Instant) -> &'static str {
    let own = |it: &Own| v1::VisitTypeSettings {
        visit_type_code: visit_type(it.visit_type).code,
        lead_days: it.lead_days,
        reminder_count: it.reminder_count,
        reminder_gap_days: it.gap_days,
        no_response_days: it.no_response_days,
        guarantee_days: it.guarantee_days,
        effective: None,
    };
    match setting {
        Setting::LeadDays(it) => {
            settings.lead_days = *it;
            "lead_days"
        }
        Setting::ReminderCount(it) => {
            settings.reminder_count = *it;
            "reminder_count"
        }
        Setting::GapDays(it) => {
            settings.reminder_gap_days = *it;
            "reminder_gap_days"
        }
        Setting::NoResponseDays(it) => {
            settings.no_response_days = *it;
            "no_response_days"
        }
        Setting::GuaranteeDays(it) => {
            settings.guarantee_days = *it;
            "guarantee_days"
        }
        Setting::SendClock(it) => {
            settings.send_clock = it.map(str::to_owned);
            "send_clock"
        }
        Setting::LetterAge(it) => {
            settings.letter_until_age = *it;
            "letter_until_age"
        }
        Setting::GuardianAge(it) => {
            settings.guardian_until_age = *it;
            "guardian_until_age"
        }
        Setting::MoveHours(it) => {
            settings.move_deadline_hours = *it;
            "move_deadline_hours"
        }
        Setting::PausedFor(it) => {
            let until = it.map(|seconds| timestamp(now + TimeDelta::seconds(seconds)));
            settings.paused_until = until;
            "paused_until"
        }
        Setting::VisitTypes(it) => {
            settings.visit_types = it.iter().map(own).collect();
            "visit_types"
        }
    }
}

fn seen(request: &Request, etag: Etag) -> Option<String> {
    Some(match etag {
        Etag::Unsaid => String::new(),
        Etag::Present => request.etags.last()?.clone(),
        Etag::Earlier => request.etags.first()?.clone(),
    })
}

fn create(creation: &Creation, now: Instant) -> v1::CreateBookingRequestRequest {
    let (personal_id, kind, issuer) = PATIENTS[creation.patient];
    let (summons, invitation, booked) = match creation.form {
        Form::Invitation => (true, true, false),
        Form::Summons => (true, false, false),
        Form::Plain => (false, false, false),
        Form::Booked => (false, false, true),
        Form::InvitationWithoutSummons => (false, true, false),
        Form::InvitationBooked => (true, true, true),
    };
    let slot = Slot {
        from_period: false,
        day: 3,
        hour: 10,
        minutes: 30,
    };
    let visit_kind = if creation.return_visit {
        VisitKind::ReturnVisit
    } else {
        VisitKind::NewVisit
    };
    let form = v1::BookingRequest {
        patient: Some(v1::Patient {
            personal_id: personal_id.into(),
            personal_id_type: kind.into(),
            protection: creation.protection.into(),
            inbox_reach: creation.reach.into(),
            preferred_language: "sv".into(),
            issuer: issuer.into(),
            addressee: creation.addressee.into(),
            interpreter_language: creation.interpreter.into(),
            letter_format: creation.format.into(),
            personal_id_masked: false,
        }),
        origin: origin(creation, now),
        visit_kind: visit_kind.into(),
        visit_type: Some(visit_type(creation.visit_type)),
        purpose: "Öron".into(),
        patient_instructions: Some(v1::PatientInstructions {
            visit_length: "Besöket tar en halvtimme.".into(),
            ..Default::default()
        }),
        summons,
        invitation,
        constraints: (!booked).then(|| constraints(&creation.span, now)),
        booking: booked.then(|| booking(&slot, 1, local_date(now), now)),
        priority: creation.priority.into(),
        ..Default::default()
    };
    v1::CreateBookingRequestRequest {
        parent: UNITS[creation.unit].into(),
        booking_request: Some(form),
        request_id: new_id(),
        allow_duplicate: creation.allow_duplicate,
        repeat: creation.repeat.map(|(interval_days, count)| v1::Repeat {
            interval_days,
            count,
        }),
        prior_messages: prior_messages(creation.prior, now),
    }
}

/// Returns one of the unit's visit types; the first two are one under two names.
fn visit_type(nth: usize) -> v1::VisitType {
    let types = [
        ("ONH-NY", "ÖNH LÄK SÄSB nybesök"),
        ("ONH-NY", "nybesök"),
        ("ONH-ÅB", "återbesök"),
        ("ONH-3", ""),
    ];
    let (code, display_name) = types[nth];
    v1::VisitType {
        code: code.into(),
        display_name: display_name.into(),
    }
}

fn prior_messages(prior: &[(DeliveryChannel, i64)], now: Instant) -> Vec<v1::PriorMessage> {
    let message = |(sequence, (channel, days)): (i32, &(DeliveryChannel, i64))| v1::PriorMessage {
        kind: match sequence {
            0 => v1::NotificationKind::Invitation.into(),
            _ => v1::NotificationKind::Reminder.into(),
        },
        sequence,
        channel: (*channel).into(),
        send_time: Some(timestamp(now - TimeDelta::days(*days))),
    };
    (0..).zip(prior).map(message).collect()
}

fn origin(creation: &Creation, now: Instant) -> Option<Origin> {
    let named = |referral_id, decision_date| {
        Origin::Referral(v1::Referral {
            referral_id,
            decision_date,
        })
    };
    let referral = |decision_date| named(format!("R-{}", creation.matter), decision_date);
    let decided_visit = |referral_id, decision_date| {
        Origin::PreviousVisit(v1::PreviousVisit {
            visit_id: format!("V-{}", creation.matter),
            referral_id,
            decision_date,
        })
    };
    let visit = |referral_id| decided_visit(referral_id, String::new());
    Some(match creation.origin {
        From::Referral => referral(String::new()),
        From::DisguisedReferral => {
            let referral_id = format!("R-{}{ZERO_WIDTH_SPACE}", creation.matter);
            named(referral_id, String::new())
        }
        From::DecidedReferral(days) => referral(day(now, -days.cast_signed()).to_string()),
        From::VisitWithReferral => visit("R-7".into()),
        From::Visit => visit(String::new()),
        From::DecidedVisit(days) => {
            let decided = day(now, -days.cast_signed());
            decided_visit(String::new(), decided.to_string())
        }
        From::Nothing => return None,
    })
}

fn constraints(span: &Span, now: Instant) -> v1::BookingConstraints {
    // They touch, and so are one: most slots go from one into the next.
    let windows = [("08:15", "09:15"), ("09:15", "12:00"), ("08:00", "08:15")];
    let windows = windows.map(|(start, end)| v1::TimeWindow {
        start_clock: start.into(),
        end_clock: end.into(),
    });
    let first = day(now, span.start);
    v1::BookingConstraints {
        requested_period: Some(interval(first, first + TimeDelta::days(span.days))),
        weekdays: span.weekdays.to_vec(),
        time_windows: if span.mornings {
            windows.to_vec()
        } else {
            vec![]
        },
        duration_minutes: span.minutes,
        performer_ids: vec![],
    }
}

fn interval(first: NaiveDate, last: NaiveDate) -> v1::DateInterval {
    v1::DateInterval {
        start_date: first.to_string(),
        end_date: last.to_string(),
    }
}

fn change(
    request: &Request,
    what: What,
    now: Instant,
) -> Option<(v1::BookingRequest, Vec<String>)> {
    let mut form = v1::BookingRequest::default();
    let has_constraints = request.form.constraints.is_some();
    let path = match what {
        What::Constraints(span) => {
            form.constraints = Some(constraints(&span, now));
            "constraints"
        }
        What::NoConstraints => "constraints",
        What::Comment(nth) => {
            // As a web form ends its lines.
            form.internal_comment = format!("comment\r\n{nth}");
            "internal_comment"
        }
        What::VisitType(nth) => {
            form.visit_type = Some(visit_type(nth));
            "visit_type"
        }
        What::ReturnVisit(is_return) => {
            let kind = match is_return {
                true => VisitKind::ReturnVisit,
                false => VisitKind::NewVisit,
            };
            form.set_visit_kind(kind);
            "visit_kind"
        }
        What::Decision { of_referral, days } => {
            let decision_date = days.map(|days| day(now, -days).to_string());
            let decision_date = decision_date.unwrap_or_default();
            let (origin, path) = match of_referral {
                true => (
                    Origin::Referral(v1::Referral {
                        decision_date,
                        ..Default::default()
                    }),
                    "referral.decision_date",
                ),
                false => (
                    Origin::PreviousVisit(v1::PreviousVisit {
                        decision_date,
                        ..Default::default()
                    }),
                    "previous_visit.decision_date",
                ),
            };
            form.origin = Some(origin);
            path
        }
        // A field of constraints that are missing cannot be changed.
        _ if !has_constraints => return None,
        What::Period(span) => {
            form.constraints = Some(constraints(&span, now));
            "constraints.requested_period"
        }
        What::Stretch(start, end) => {
            let (first, last) = request.period()?;
            let (start, end) = (TimeDelta::days(start), TimeDelta::days(end));
            form.constraints = Some(v1::BookingConstraints {
                requested_period: Some(interval(first + start, last + end)),
                ..Default::default()
            });
            "constraints.requested_period"
        }
        What::Weekdays(weekdays) => {
            form.constraints = Some(v1::BookingConstraints {
                weekdays: weekdays.to_vec(),
                ..Default::default()
            });
            "constraints.weekdays"
        }
    };
    Some((form, vec![path.into()]))
}

fn day(now: Instant, days: i64) -> NaiveDate {
    local_date(now) + TimeDelta::days(days)
}

/// Returns the period's first day, today at the earliest.
fn first_day(request: &Request, now: Instant) -> Option<NaiveDate> {
    let (first, _) = request.period()?;
    Some(first.max(local_date(now)))
}

fn booking(slot: &Slot, id: u8, first: impl Into<Option<NaiveDate>>, now: Instant) -> v1::Booking {
    let first = first.into().filter(|_| slot.from_period);
    let day = first.unwrap_or(local_date(now)) + TimeDelta::days(slot.day);
    let clock = chrono::NaiveTime::from_hms_opt(slot.hour, 0, 0).expect("an hour");
    let start_at = instant(day, clock);
    v1::Booking {
        booking_id: format!("B-{id}"),
        start_time: Some(timestamp(start_at)),
        end_time: Some(timestamp(start_at + TimeDelta::minutes(slot.minutes))),
        source: BookingSource::Staff.into(),
        ..Default::default()
    }
}

/// Returns slots around the edges of a request's constraints, of now and of the visit that is booked.
pub fn slots(request: &Request, now: Instant) -> Vec<v1::Slot> {
    let mut slots = vec![];
    for (from_period, day, hour) in [
        (false, -1, 9),
        (false, 0, 11),
        (true, 0, 9),
        (true, 1, 8),
        (true, 3, 14),
        (true, 40, 9),
    ] {
        for minutes in [20, 60] {
            let slot = Slot {
                from_period,
                day,
                hour,
                minutes,
            };
            slots.push(slot_of(&booking(&slot, 1, first_day(request, now), now)));
        }
    }
    slots.extend(request.form.booking.as_ref().map(slot_of));
    slots
}

fn lease(
    world: &World,
    most: i32,
    seconds: i64,
    channel: DeliveryChannel,
    always_authorizes: bool,
) -> Call {
    // The notifications that the service parks depend on the number that it claims.
    let repairs = world.has_to_park() || world.has_other_channel();
    let most = if repairs { 1_000 } else { most };
    // A notification whose channel has changed while it was leased is found under the old one first.
    let channel = match world.has_other_channel() {
        true => DeliveryChannel::Unspecified,
        false => channel,
    };
    Call::Lease(v1::StreamDueNotificationsRequest {
        channels: match channel {
            DeliveryChannel::Unspecified => vec![],
            one => vec![one.into()],
        },
        care_units: vec![],
        max_outstanding: most,
        lease_duration: Some(prost_types::Duration { seconds, nanos: 0 }),
        until_idle: true,
        always_authorizes,
    })
}

fn authorize(leases: Vec<v1::Lease>) -> Call {
    Call::Authorize(v1::AuthorizeDispatchRequest { leases })
}

fn acknowledge(answers: impl IntoIterator<Item = v1::Acknowledgement>) -> Call {
    Call::Acknowledge(v1::AcknowledgeNotificationsRequest {
        acknowledgements: answers.into_iter().collect(),
    })
}

fn pick(world: &World, which: Which) -> Option<v1::Lease> {
    let nth = |leases: Vec<v1::Lease>, nth: usize| nth_of(&leases, nth).cloned();
    match which {
        Which::Out(at) => nth(world.out(), at),
        Which::Any(at) => nth(world.leased_once(), at),
        Which::Stale(at) => nth(world.stale(), at),
    }
}

/// Returns an earlier write as a replay, or under the same request id with another comment.
fn repeat(world: &World, nth: usize, twisted: bool) -> Option<Call> {
    let mut call = nth_of(&world.writes, nth)?.clone();
    if !twisted {
        return Some(call);
    }
    if let Call::Replace(it) = &mut call {
        std::mem::swap(&mut it.old_identity, &mut it.new_identity);
        return Some(call);
    }
    let (field, text) = match &mut call {
        Call::Create(it) => (
            &mut it.booking_request.as_mut()?.internal_comment,
            "twisted",
        ),
        Call::Invite(it) => (&mut it.comment, "twisted"),
        Call::Change(it) => (&mut it.comment, "twisted"),
        Call::Book(it) => (&mut it.booking.as_mut()?.performer_id, "SE2321000131-P1"),
        Call::Contact(it) => (&mut it.comment, "twisted"),
        Call::Cancel(it) => (&mut it.comment, "twisted"),
        Call::Release(it) => (&mut it.comment, "twisted"),
        Call::Unbook(it) => (&mut it.comment, "twisted"),
        Call::Revoke(it) => (&mut it.comment, "twisted"),
        Call::Settings(it) => {
            let paths = vec!["send_clock".into()];
            it.update_mask = Some(prost_types::FieldMask { paths });
            let settings = it.care_unit_settings.as_mut()?;
            (settings.send_clock.get_or_insert_default(), "11:11")
        }
        Call::Patient(it) => {
            let paths = vec!["preferred_language".into()];
            it.update_mask = Some(prost_types::FieldMask { paths });
            it.deceased = false;
            (&mut it.patient.as_mut()?.preferred_language, "fi")
        }
        other => unreachable!("{other:?} is no write"),
    };
    *field = text.into();
    Some(call)
}

fn moved(jump: Jump, world: &World) -> Option<Instant> {
    let at = match jump {
        Jump::Next(nth, micros) => *world.instants().get(nth)? + TimeDelta::microseconds(micros),
        Jump::Lapse => world.next_lapse()?,
        Jump::Seconds(seconds) => world.now + TimeDelta::seconds(seconds),
        Jump::Days(days) => world.now + TimeDelta::days(days),
    };
    (at >= world.now).then_some(at)
}
