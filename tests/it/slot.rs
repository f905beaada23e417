//! Slots and bookings: RecordBooking is taken exactly when EvaluateSlots says OFFERED, for every state,
//! hold, state of a notification and source.

use care_invitation::domain::Refusal;
use care_invitation::domain::booking_request::BookingRequest;
use care_invitation::domain::booking_request::form::Booking;
use care_invitation::domain::booking_request::form::BookingSource;
use care_invitation::domain::booking_request::record_booking::{RecordBooking, record_booking};
use care_invitation::domain::booking_request::state::State;
use care_invitation::domain::calendar::{Instant, Weekdays};
use care_invitation::domain::care_invitation::Hold;
use care_invitation::domain::notification;
use care_invitation::domain::slot::{Verdict, evaluate_for};
use chrono::Weekday;

use crate::make;
use crate::make::at;

const INVITED: &str = "2026-03-02T09:00:00Z";
/// Start of the visit that is booked in BOOKED, 24 hours before it, and the instant before that.
const BOOKED: &str = "2026-05-19T08:00:00Z";
const DEADLINE: &str = "2026-05-18T08:00:00Z";
const BEFORE_DEADLINE: &str = "2026-05-18T07:59:59.999999Z";
/// Midnight after the last day of the period.
const EXPIRED: &str = "2026-06-12T22:00:00Z";
/// A Tuesday of the period, a Wednesday of it, and a Tuesday after it.
const GOOD: &str = "2026-06-09T08:00:00Z";
const WEDNESDAY: &str = "2026-06-10T08:00:00Z";
const OUTSIDE: &str = "2026-06-16T08:00:00Z";

/// State of the present round, and true when that opens booking.
#[derive(Clone, Copy, Debug)]
enum Told {
    /// The notification stands in this state, and has or has not been leased.
    By(notification::State, bool),
    /// Its only lease was released before any consumer saw it.
    ReleasedUnseen,
    /// It was leased in the round before.
    RoundBefore,
    /// Nothing was leased, but the patient has said that they will book.
    WillBook,
}

impl Told {
    fn all() -> Vec<Self> {
        let states = notification::State::ALL.iter();
        let mut all: Vec<_> = states
            .flat_map(|state| [false, true].map(|leased| Self::By(*state, leased)))
            .filter(|told| told.is_possible())
            .collect();
        all.extend([Self::ReleasedUnseen, Self::RoundBefore, Self::WillBook]);
        all
    }

    fn is_possible(self) -> bool {
        use notification::State::{Cancelled, Dispatching, Leased, Parked, Scheduled, Sent};
        match self {
            Self::By(Leased | Dispatching | Sent, leased) => leased,
            Self::By(Scheduled | Cancelled | Parked, _)
            | Self::ReleasedUnseen
            | Self::RoundBefore
            | Self::WillBook => true,
        }
    }

    fn opens(self) -> bool {
        match self {
            Self::By(_, leased) => leased,
            Self::ReleasedUnseen | Self::RoundBefore => false,
            Self::WillBook => true,
        }
    }
}

/// A request whose stored fields are as the table says; those that no verb brings about are tried too.
fn request(
    state: State,
    told: Told,
    hold: Option<Hold>,
    constrained: bool,
    silent: bool,
) -> BookingRequest {
    let now = at(INVITED);
    let mut form = make::form("2026-04-13", "2026-06-12");
    let constraints = form.constraints.as_mut().expect("constraints");
    constraints.weekdays = Weekdays::of([Weekday::Mon, Weekday::Tue]);
    let planned = make::created(form, now);
    let mut record = match told {
        Told::By(_, false) | Told::WillBook => planned,
        Told::By(_, true) | Told::ReleasedUnseen | Told::RoundBefore => {
            make::leased(&planned, now).0
        }
    };
    let invitation = record.care_invitation.as_mut().expect("invited");
    let message = &mut invitation.notifications[0];
    match told {
        Told::By(to, _) => {
            message.state = to;
            message.sent_at = (to == notification::State::Sent).then_some(now);
        }
        Told::ReleasedUnseen => {
            message.state = notification::State::Scheduled;
            message.attempt_count = 0;
        }
        Told::RoundBefore => invitation.round += 1,
        Told::WillBook => invitation.will_book_at = Some(now),
    }
    invitation.hold = hold;
    invitation.no_response_at = silent.then_some(now);
    record.state = state;
    if state == State::Requested {
        record.care_invitation = None;
    }
    if state == State::Booked {
        record.form.booking = Some(visit("B-1", BOOKED, BookingSource::Staff, false));
    }
    if !constrained {
        record.form.constraints = None;
    }
    record
}

fn visit(booking_id: &str, start: &str, source: BookingSource, overrides: bool) -> Booking {
    Booking {
        booking_id: booking_id.into(),
        start_at: at(start),
        end_at: at(start) + chrono::Duration::minutes(30),
        source,
        performer_id: None,
        override_reason: if overrides { "by phone" } else { "" }.into(),
    }
}

/// The verdict that the rules give, as they are written.
fn expected(
    record: &BookingRequest,
    open: bool,
    source: BookingSource,
    start: &str,
    now: Instant,
) -> &'static str {
    let constrained = record.form.constraints.is_some();
    let expired = constrained && at(EXPIRED) <= now;
    let of_slot = match start {
        _ if !constrained => "OFFERED",
        start if at(start) < now => "PAST",
        OUTSIDE => "OUTSIDE_PERIOD",
        WEDNESDAY => "WEEKDAY",
        _ => "OFFERED",
    };
    match (source, record.state) {
        (_, State::Cancelled) => "REQUEST_CLOSED",
        (BookingSource::Staff, _) => of_slot,
        (BookingSource::Patient, State::Declined) => "REQUEST_CLOSED",
        (BookingSource::Patient, State::Requested | State::Invited) if expired => "REQUEST_CLOSED",
        (BookingSource::Patient, State::Requested) => "NOT_INVITED",
        (BookingSource::Patient, State::Booked) if !constrained => "NOT_INVITED",
        (BookingSource::Patient, State::Invited) if !open => "NOT_OPEN_YET",
        (BookingSource::Patient, State::Booked) if at(DEADLINE) <= now => "TOO_LATE",
        (BookingSource::Patient, State::Invited | State::Booked) => of_slot,
    }
}

/// Checks one row: the verdict, and that RecordBooking agrees with it.
fn check(record: &BookingRequest, open: bool, command: &RecordBooking, now: Instant, row: &str) {
    let booking = &command.booking;
    let verdict = evaluate_for(record, booking.source, &booking.slot(), &make::context(now));
    let start = booking.start_at.format("%FT%TZ").to_string();
    let due = expected(record, open, booking.source, &start, now);
    assert_eq!(verdict.name(), due, "{row}");

    let answer = record_booking(Some(record), command, &make::context(now));
    let booked = record.form.booking.as_ref();
    let booked = booked.filter(|_| record.state == State::Booked);
    let present = booked.map(|it| it.booking_id.as_str());
    let replaces = command.replaces_booking_id.as_deref();
    let state_refuses = matches!(
        verdict,
        Verdict::RequestClosed | Verdict::NotInvited | Verdict::NotOpenYet
    );
    let overridden = booking.source == BookingSource::Staff && !booking.override_reason.is_empty();
    if booked == Some(booking) {
        let change = answer.expect(row);
        assert_eq!(&change.record, record, "{row}: a repeat changes nothing");
        return;
    }
    match (answer, verdict) {
        (Ok(change), _) => {
            let aside = overridden && verdict != Verdict::RequestClosed;
            assert!(verdict == Verdict::Offered || aside, "{row}: {verdict:?}");
            assert_eq!(change.record.form.booking.as_ref(), Some(booking), "{row}");
            let its_own = present.is_none_or(|it| it == booking.booking_id);
            let fits = replaces.map_or(its_own, |it| present == Some(it));
            assert!(fits, "{row}: it takes the place of another booking");
        }
        (Err(Refusal::AlreadyBooked { booking_id }), _) => {
            assert_eq!((present, replaces), (Some(&*booking_id), None), "{row}");
            assert_ne!(booking_id, booking.booking_id, "{row}");
            assert!(!state_refuses, "{row}");
        }
        (Err(Refusal::BookingMismatch { booking_id }), _) => {
            assert_eq!(booking_id.as_deref(), present, "{row}");
            assert!(replaces.is_some() && replaces != present, "{row}");
            assert!(!state_refuses, "{row}");
        }
        (
            Err(Refusal::NotBookable { verdict: said, .. }),
            Verdict::RequestClosed | Verdict::NotInvited | Verdict::NotOpenYet,
        ) => assert_eq!(said, verdict, "{row}"),
        (Err(Refusal::TooLate), Verdict::TooLate) => {}
        (
            Err(Refusal::OutsideConstraints(said)),
            Verdict::Past | Verdict::OutsidePeriod | Verdict::Weekday,
        ) => {
            assert_eq!(said, verdict, "{row}");
            assert!(!overridden, "{row}");
        }
        (Err(refusal), _) => panic!("{row}: {verdict:?}, but {refusal:?}"),
    }
}

#[test]
fn a_booking_is_taken_exactly_when_its_slot_is_offered() {
    let holds = [
        None,
        Some(Hold::ProtectedIdentity),
        Some(Hold::Undeliverable),
        Some(Hold::Parked),
        Some(Hold::NoSuitableTime),
        Some(Hold::CallBack),
        Some(Hold::WillBook {
            until: make::date("2026-03-09"),
        }),
    ];
    let mut bookings = Vec::new();
    for source in [BookingSource::Patient, BookingSource::Staff] {
        for overrides in [false, true] {
            for id in ["B-1", "B-2"] {
                for replaces in [None, Some("B-1"), Some("B-3")] {
                    let starts = [BOOKED, GOOD, WEDNESDAY, OUTSIDE];
                    bookings.extend(starts.map(|start| RecordBooking {
                        etag: String::new(),
                        booking: visit(id, start, source, overrides),
                        replaces_booking_id: replaces.map(str::to_owned),
                    }));
                }
            }
        }
    }
    let nows = [INVITED, BEFORE_DEADLINE, DEADLINE, GOOD, EXPIRED];
    for state in State::ALL {
        for told in Told::all() {
            for hold in holds {
                for (constrained, silent) in [(true, false), (true, true), (false, false)] {
                    // A request has constraints for as long as it is open.
                    let open = matches!(state, State::Requested | State::Invited);
                    if open && !constrained {
                        continue;
                    }
                    let record = request(*state, told, hold, constrained, silent);
                    for (booking, now) in bookings.iter().flat_map(|it| nows.map(|now| (it, now))) {
                        let row = format!("{state:?} {told:?} {hold:?} {now} {booking:?}");
                        check(&record, told.opens(), booking, at(now), &row);
                    }
                }
            }
        }
    }
}
