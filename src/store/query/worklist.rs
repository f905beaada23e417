//! Queries of worklists: the conditions of what is asked for, which pages, counts and transitions share.
//!
//! The domain has stored the group of each request and the instant at which the passing of time moves it to FOLLOW_UP.

pub mod count;
mod merge;
pub mod page;
pub mod transition;
mod walk;

use sea_orm::sea_query::{Condition, Expr, ExprTrait, SimpleExpr};
use sea_orm::{ColumnTrait, EntityName, EntityTrait, QueryFilter, QuerySelect, Select};

use crate::domain::booking_request::form::Priority;
use crate::domain::booking_request::state::{EffectiveState, State};
use crate::domain::calendar::{Instant, civil_date, micros};
use crate::domain::care_units::CareUnits;
use crate::domain::worklist::query::Query;
use crate::domain::worklist::{Group, Worklist, guarantee_at_risk_until};
use crate::store::bulk::in_buckets;
use crate::store::entity::booking_request::{Column, Entity};
use crate::store::entity::document::day;
use crate::store::placement::Shards;
use crate::store::query::care_units::in_units;
use crate::store::query::request_keys::is_patient;

/// The requests of a group that a query's lists have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    group: Group,
    /// True for those that time has moved to FOLLOW_UP.
    moved: bool,
    /// True for the others.
    unmoved: bool,
}

impl Part {
    /// Returns the condition of its requests at `now`.
    fn condition(self, now: Instant) -> Condition {
        let of_group = Condition::all().add(is_in([self.group]));
        match (self.moved, self.unmoved) {
            (true, false) => of_group.add(has_moved(now)),
            (false, true) if self.group.is_moved_by_time() => of_group.add(has_not_moved(now)),
            (false | true, _) => of_group,
        }
    }

    /// Returns whether it has every request of a group of open requests.
    fn is_all_open(self) -> bool {
        self.moved && self.unmoved && self.group.is_moved_by_time()
    }
}

/// Returns the parts of the groups that a query's lists are made of.
fn parts(query: &Query) -> Vec<Part> {
    let lists = |group: Group, moved| query.worklists.iter().any(|it| group.is_on(*it, moved));
    let parts = Group::ALL.iter().map(|group| Part {
        group: *group,
        moved: group.is_moved_by_time() && lists(*group, true),
        unmoved: lists(*group, false),
    });
    parts.filter(|it| it.moved || it.unmoved).collect()
}

/// Returns whether these parts have every open request, so that those at risk are among them.
fn have_all_open(parts: &[Part]) -> bool {
    let open = Group::ALL.iter().filter(|group| group.is_moved_by_time());
    parts.iter().filter(|it| it.is_all_open()).count() == open.count()
}

/// Returns the condition that a request is in one of these groups. Their numbers stand in the statement, so that the
/// database knows which index has them.
fn is_in(groups: impl IntoIterator<Item = Group>) -> SimpleExpr {
    let numbers = groups
        .into_iter()
        .map(|it| Expr::Constant(it.code().into()));
    let numbers: Vec<_> = numbers.collect();
    let group = Expr::col(Column::WorklistGroup);
    match <[_; 1]>::try_from(numbers) {
        Ok([number]) => group.eq(number),
        Err(numbers) => group.is_in(numbers),
    }
}

fn has_moved(now: Instant) -> SimpleExpr {
    Column::FollowUpAt.lte(micros(now))
}

fn has_not_moved(now: Instant) -> Condition {
    Condition::any()
        .add(Column::FollowUpAt.is_null())
        .add(Column::FollowUpAt.gt(micros(now)))
}

/// Returns the condition of the care units of a query, and of the patient, referral, visit or booking that it names. Over all
/// care units these have indexes of their own, and so has the list that may be asked for without them. Where there are several
/// shards it names the buckets of the care units.
fn scope(query: &Query, shards: &Shards) -> Condition {
    let of_subject = Condition::all()
        .add_option(in_units(Column::CareUnit.into_expr(), &query.care_units))
        .add_option(in_these(query, shards))
        .add_option(query.personal_id.as_ref().map(is_patient))
        .add_option(hides_protected(query))
        .add_option(
            query
                .referral_id
                .as_ref()
                .map(|it| Column::ReferralId.eq(it)),
        )
        .add_option(query.visit_id.as_ref().map(|it| Column::VisitId.eq(it)))
        .add_option(query.booking_id.as_ref().map(|it| Column::BookingId.eq(it)));
    match &query.care_units {
        CareUnits::Every | CareUnits::Within(_) if !query.names_its_subject() => {
            of_subject.add(is_in([Group::ManualHandling, Group::ParkedWithdrawals]))
        }
        CareUnits::Every | CareUnits::Within(_) | CareUnits::These(_) => of_subject,
    }
}

/// Returns the condition that no identity number finds a patient with protected identity.
fn hides_protected(query: &Query) -> Option<SimpleExpr> {
    let hides = query.personal_id.is_some() && query.hides_protected;
    hides.then(|| Column::IsProtected.eq(false))
}

/// Returns the condition that requests are in the buckets of a query's care units; none when it names no buckets.
fn in_these(query: &Query, shards: &Shards) -> Option<Expr> {
    let buckets = shards.named(&query.care_units);
    buckets.map(|buckets| in_buckets(Entity.table_name(), buckets))
}

/// Returns the query for the requests of a query's care units and subject that are in a group.
fn in_any_group(query: &Query, shards: &Shards) -> Select<Entity> {
    Entity::find()
        .select_only()
        .filter(scope(query, shards))
        .filter(Column::WorklistGroup.is_not_null())
}

/// Returns the condition that a request is on one of a query's lists at `now`.
fn in_worklists(query: &Query, now: Instant) -> Condition {
    if query.worklists.contains(&Worklist::All) {
        return Condition::all();
    }
    let parts = parts(query);
    let at_risk = query.worklists.contains(&Worklist::GuaranteeAtRisk) && !have_all_open(&parts);
    let mut any = Condition::any();
    for part in &parts {
        any = any.add(part.condition(now));
    }
    if at_risk {
        any = any.add(is_at_risk(now));
    }
    match parts.is_empty() {
        true => any,
        // Says which index has them. An open request is in a group, at risk or not.
        false => Condition::all()
            .add(Column::WorklistGroup.is_not_null())
            .add(any),
    }
}

fn is_at_risk(now: Instant) -> Condition {
    let until = guarantee_at_risk_until(civil_date(now));
    Condition::all()
        .add(Column::CareGuaranteeDay.lte(day(until)))
        .add(is_open())
}

fn is_open() -> SimpleExpr {
    Column::State.is_in([State::Requested.code(), State::Invited.code()])
}

/// Returns the condition of the filters that are not of [`scope`].
fn filters(query: &Query, now: Instant) -> Condition {
    let mut condition = Condition::all();
    if let Some(kind) = query.visit_kind {
        condition = condition.add(Column::VisitKind.eq(kind.code()));
    }
    if !query.visit_type_codes.is_empty() {
        condition = condition.add(Column::VisitTypeCode.is_in(&query.visit_type_codes));
    }
    if let Some(period) = query.period {
        condition = condition
            .add(Column::StartDay.lte(day(period.last)))
            .add(Column::EndDay.gte(day(period.first)));
    }
    // Every request has at least the lowest priority, and the indexes on lists do not have the column.
    if query.minimum_priority > Priority::Routine {
        condition = condition.add(Column::Priority.gte(query.minimum_priority.code()));
    }
    if !query.hold_reasons.is_empty() {
        let reasons = query.hold_reasons.iter().map(|it| it.code());
        condition = condition.add(Column::Hold.is_in(reasons));
    }
    if let Some(language) = &query.interpreter_language {
        condition = condition.add(Column::InterpreterLanguage.eq(language));
    }
    if !query.letter_formats.is_empty() {
        let formats = query.letter_formats.iter().map(|it| it.code());
        condition = condition.add(Column::LetterFormat.is_in(formats));
    }
    if !query.states.is_empty() {
        let states = query.states.iter().map(|it| is_shown_as(*it, now));
        condition = condition.add(states.fold(Condition::any(), Condition::add));
    }
    condition
}

/// Returns the condition that a request is shown in a state at `now`.
fn is_shown_as(state: EffectiveState, now: Instant) -> Condition {
    let stored = |state: State| Condition::all().add(Column::State.eq(state.code()));
    let expired = Column::ExpiresAt.lte(micros(now));
    let not_expired = Condition::any()
        .add(Column::ExpiresAt.is_null())
        .add(Column::ExpiresAt.gt(micros(now)));
    match state {
        EffectiveState::Requested => stored(State::Requested).add(not_expired),
        EffectiveState::Expired => Condition::all().add(is_open()).add(expired),
        EffectiveState::Invited => stored(State::Invited).add(not_expired).add(
            Condition::any()
                .add(Column::Hold.is_not_null())
                .add(has_not_moved(now)),
        ),
        // What nothing holds and is not over is moved by silence alone.
        EffectiveState::NoResponse => stored(State::Invited)
            .add(not_expired)
            .add(Column::Hold.is_null())
            .add(has_moved(now)),
        EffectiveState::Booked => stored(State::Booked),
        EffectiveState::Declined => stored(State::Declined),
        EffectiveState::Cancelled => stored(State::Cancelled),
    }
}
