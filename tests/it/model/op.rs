//! The steps of a walk, in terms that mean something anywhere in it: "the third request", "the next
//! instant at which something happens". So a walk can be shrunk and kept.

use care_invitation::contract::v1::BookingCancellationReason;
use care_invitation::contract::v1::ContactOutcome as Contact;
use care_invitation::contract::v1::acknowledgement::Outcome as Answer;
use care_invitation::contract::v1::change_booking_request_request::OnChange;
use care_invitation::contract::v1::delivery_receipt::Receipt;
use care_invitation::contract::v1::record_booking_cancellation_request::Next;
use care_invitation::contract::v1::{
    Addressee, BookingSource, CancelReason, ContactMedium, DeliveryChannel, InboxReach,
    LetterFormat, Priority, Protection,
};

/// Times at which a walk may begin.
pub const STARTS: [&str; 5] = [
    "2026-03-02T09:00:00Z",
    "2026-03-28T22:59:59.5Z",
    "2026-10-09T06:30:00Z",
    "2026-02-15T07:59:59.999999Z",
    "2026-12-30T23:30:00Z",
];

#[derive(Clone, Debug)]
pub enum Op {
    Create(Creation),
    Invite {
        at: Aim,
        span: Option<Span>,
        referral: Referral,
        etag: Etag,
    },
    Change {
        at: Aim,
        what: What,
        on_change: OnChange,
        etag: Etag,
    },
    Book {
        at: Aim,
        by: BookingSource,
        slot: Slot,
        id: u8,
        /// Number of the booking whose place it takes.
        replaces: Option<u8>,
        reason: bool,
        etag: Etag,
    },
    Contact {
        at: Aim,
        outcome: Contact,
        wait: Option<i64>,
        /// Negative for a time in the future.
        seconds_ago: Option<i64>,
        medium: ContactMedium,
        etag: Etag,
    },
    Cancel {
        at: Aim,
        reason: CancelReason,
        etag: Etag,
    },
    Release {
        at: Aim,
        channel: DeliveryChannel,
        etag: Etag,
    },
    Unbook {
        at: Aim,
        by: BookingCancellationReason,
        next: Next,
        id: u8,
        span: Option<Span>,
        etag: Etag,
    },
    Revoke {
        at: Aim,
        etag: Etag,
    },
    Patient {
        at: Aim,
        everywhere: bool,
        what: Learned,
    },
    /// Replaces the identity number of a request's patient by that of the nth patient.
    Replace {
        at: Aim,
        to: usize,
    },
    /// Changes settings of a care unit.
    Settings {
        unit: usize,
        what: Vec<Setting>,
        etag: Etag,
    },
    /// Leases everything that is due, if anything is.
    LeaseAll,
    Lease {
        most: i32,
        seconds: i64,
        channel: DeliveryChannel,
        /// True if the consumer promises to ask before it hands over.
        promises: bool,
    },
    Authorize {
        which: Which,
    },
    AuthorizeAll,
    Acknowledge {
        which: Which,
        outcome: Answer,
        /// Negative for a time in the future.
        seconds_ago: i64,
        delay: Option<i64>,
        words: Words,
        /// True if a RETRY says that it may have been sent.
        may_have_left: bool,
    },
    AcknowledgeAll {
        outcome: Answer,
    },
    /// Receipts in one call: for which notification, and how long ago; negative for a time in the future.
    Report(Vec<(Aim, Receipt, i64)>),
    /// Sends an earlier write again, word for word or with another comment.
    Repeat {
        nth: usize,
        twisted: bool,
    },
    /// Takes a step as the clerk does.
    Clerk(Box<Op>),
    /// Takes those steps that are of the kind of the first, in one call.
    Batch(Vec<Op>),
    Advance(Jump),
    /// Calls with the name of a request that does not exist.
    Stranger,
}

/// Choice of the nth request, or notification, of those that allow the action; or of all.
#[derive(Clone, Copy, Debug)]
pub enum Aim {
    Fit(usize),
    Any(usize),
}

/// A request to create.
#[derive(Clone, Debug)]
pub struct Creation {
    pub unit: usize,
    pub patient: usize,
    pub matter: u8,
    pub origin: From,
    pub form: Form,
    pub span: Span,
    pub protection: Protection,
    pub reach: InboxReach,
    pub addressee: Addressee,
    /// Language of the interpreter; may be empty.
    pub interpreter: &'static str,
    pub format: LetterFormat,
    pub priority: Priority,
    pub return_visit: bool,
    /// Which of the unit's visit types.
    pub visit_type: usize,
    pub allow_duplicate: bool,
    /// Days from one period to the next, and number of requests.
    pub repeat: Option<(i32, i32)>,
    /// Channels of messages that an older system handed over, and the days since each.
    pub prior: &'static [(DeliveryChannel, i64)],
}

#[derive(Clone, Copy, Debug)]
pub enum From {
    Referral,
    /// Referral whose identifier looks like that of another and holds a character that cannot be seen.
    DisguisedReferral,
    /// Referral that was decided on so many days ago.
    DecidedReferral(u64),
    VisitWithReferral,
    /// Visit without a referral, after which the next one was decided so many days ago.
    DecidedVisit(u64),
    Visit,
    Nothing,
}

#[derive(Clone, Copy, Debug)]
pub enum Form {
    Invitation,
    Summons,
    Plain,
    Booked,
    InvitationWithoutSummons,
    InvitationBooked,
}

/// Dates, weekdays and times of day, counted from today.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    pub start: i64,
    pub days: i64,
    pub weekdays: &'static [i32],
    pub mornings: bool,
    pub minutes: i32,
}

#[derive(Clone, Copy, Debug)]
pub enum Referral {
    Unsaid,
    Right,
    Wrong,
}

#[derive(Clone, Copy, Debug)]
pub enum Etag {
    Unsaid,
    Present,
    Earlier,
}

#[derive(Clone, Copy, Debug)]
pub enum What {
    Constraints(Span),
    Period(Span),
    /// Present period, moved by so many days at each end.
    Stretch(i64, i64),
    Weekdays(&'static [i32]),
    Comment(u8),
    /// One of the unit's visit types.
    VisitType(usize),
    ReturnVisit(bool),
    /// Decision so many days ago, if any, on the referral, or else on the visit.
    Decision {
        of_referral: bool,
        days: Option<i64>,
    },
    NoConstraints,
}

/// A visit so many days from today, or from the period's first day.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    pub from_period: bool,
    pub day: i64,
    pub hour: u32,
    pub minutes: i64,
}

#[derive(Clone, Copy, Debug)]
pub enum Learned {
    Protection(Protection),
    Reach(InboxReach),
    Language(&'static str),
    Addressee(Addressee),
    Interpreter(&'static str),
    Format(LetterFormat),
    Death,
}

/// A setting of a care unit; none to inherit it again.
#[derive(Clone, Debug)]
pub enum Setting {
    LeadDays(Option<i32>),
    ReminderCount(Option<i32>),
    GapDays(Option<i32>),
    NoResponseDays(Option<i32>),
    GuaranteeDays(Option<i32>),
    SendClock(Option<&'static str>),
    LetterAge(Option<i32>),
    GuardianAge(Option<i32>),
    MoveHours(Option<i32>),
    /// Pause for so many seconds from now.
    PausedFor(Option<i64>),
    VisitTypes(Vec<Own>),
}

/// Settings of a visit type.
#[derive(Clone, Copy, Debug)]
pub struct Own {
    pub visit_type: usize,
    pub lead_days: Option<i32>,
    pub reminder_count: Option<i32>,
    pub gap_days: Option<i32>,
    pub no_response_days: Option<i32>,
    pub guarantee_days: Option<i32>,
}

/// Cause that a consumer gives.
#[derive(Clone, Copy, Debug)]
pub enum Words {
    Nothing,
    OneLine,
    /// Text with control characters.
    Lines,
    /// Text longer than is kept.
    Long,
}

/// Choice of a notification among those that are leased, or among all that ever were.
#[derive(Clone, Copy, Debug)]
pub enum Which {
    Out(usize),
    Any(usize),
    /// Token that is not its newest, if it has one.
    Stale(usize),
}

#[derive(Clone, Copy, Debug)]
pub enum Jump {
    /// Move to the nth instant from now at which something happens, give or take some microseconds.
    Next(usize, i64),
    /// Move to the instant at which the first unacknowledged lease makes its notification due again.
    Lapse,
    Seconds(i64),
    Days(i64),
}
