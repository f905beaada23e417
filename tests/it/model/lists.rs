//! Worklists as the model has them: which lists a request is on, what a query means, and a board of every list.

use std::collections::BTreeMap;
use std::time::Duration;

use care_invitation::contract::v1;
use care_invitation::contract::v1::booking_request::{Origin, State};
use care_invitation::contract::v1::watch_worklist_response::Event;
use care_invitation::contract::v1::worklist_query::OrderBy;
use care_invitation::contract::v1::{BookingRequestView, Priority, Worklist};
use tonic::Streaming;

use super::calendar::Instant;
use super::call;
use super::caller::Caller;
use super::compare::{holds, same};
use super::request::{Request, period};
use super::rng::Rng;
use super::service;
use super::world::World;
use crate::harness::{Harness, within};
use crate::worklist_user::LISTS;

/// Longest wait for the board.
const WAIT: Duration = Duration::from_secs(20);
/// Longest wait for a message that has been sent.
const PAUSE: Duration = Duration::from_millis(100);

impl Request {
    /// Returns whether it is on a list.
    fn is_on(&self, list: Worklist, now: Instant) -> bool {
        let expired = |invitation| self.has_expired(now) && self.form.invitation == invitation;
        match list {
            Worklist::Unspecified => false,
            Worklist::All => true,
            Worklist::GuaranteeAtRisk => self.is_at_risk(now),
            Worklist::AllInvitations => match self.shown(now) {
                State::Invited | State::NoResponse => true,
                State::Expired => expired(true),
                _ => false,
            },
            Worklist::AllBookingRequests => match self.shown(now) {
                State::Requested => true,
                State::Expired => expired(false),
                _ => false,
            },
            one_of_the_first_six => self.list(now) == Some(one_of_the_first_six),
        }
    }

    /// Returns those of a query's lists that it is on; none when a filter leaves it out.
    fn lists_of(&self, query: &v1::WorklistQuery, now: Instant) -> Vec<i32> {
        let mut lists: Vec<_> = match self.passes(query, now) {
            true => query
                .worklists()
                .filter(|it| self.is_on(*it, now))
                .collect(),
            false => vec![],
        };
        lists.sort();
        lists.dedup();
        lists.into_iter().map(Into::into).collect()
    }

    /// Returns whether every filter lets it through, going by what callers see.
    fn passes(&self, query: &v1::WorklistQuery, now: Instant) -> bool {
        let shown = self.show(now);
        let patient = shown.patient.as_ref().expect("every request has one");
        let of_patient = query.personal_id.is_empty()
            || (query.personal_id == patient.personal_id
                && query.personal_id_type == patient.personal_id_type
                && query.issuer == patient.issuer);
        let (referral, visit) = match &shown.origin {
            Some(Origin::Referral(it)) => (&*it.referral_id, ""),
            Some(Origin::PreviousVisit(it)) => (&*it.referral_id, &*it.visit_id),
            None => ("", ""),
        };
        let booking = shown.booking.as_ref().map_or("", |it| &it.booking_id);
        let hold = shown
            .care_invitation
            .as_ref()
            .map_or(0, |it| it.hold_reason);
        let code = &shown.visit_type.as_ref().expect("given").code;
        let is = |wanted: &str, id: &str| wanted.is_empty() || wanted == id;
        let wanted = query.requested_period.clone().map(|interval| {
            let constraints = v1::BookingConstraints {
                requested_period: Some(interval),
                ..Default::default()
            };
            period(&constraints).expect("dates")
        });
        let shares_a_day = |(first, last)| {
            let own = self.period();
            own.is_some_and(|(own_first, own_last)| own_first <= last && first <= own_last)
        };
        let priority = |it: i32| it.max(Priority::Routine.into());
        (query.care_units == ["careUnits/-"] || query.care_units.contains(&self.unit))
            && of_patient
            && is(&query.referral_id, referral)
            && is(&query.visit_id, visit)
            && is(&query.booking_id, booking)
            && (query.visit_kind == 0 || query.visit_kind == shown.visit_kind)
            && (query.visit_type_codes.is_empty() || query.visit_type_codes.contains(code))
            && wanted.is_none_or(shares_a_day)
            && priority(query.minimum_priority) <= priority(shown.priority)
            && (query.hold_reasons.is_empty() || query.hold_reasons.contains(&hold))
            && (query.states.is_empty() || query.states.contains(&shown.state))
            && is(&query.interpreter_language, &patient.interpreter_language)
            && (query.letter_formats.is_empty()
                || query.letter_formats.contains(&patient.letter_format))
    }
}

impl World {
    /// Returns the requests that a query means, in order of start date.
    pub fn list(&self, query: &v1::WorklistQuery) -> Vec<usize> {
        let requests = self.requests.iter().enumerate();
        let requests = requests.filter(|(_, it)| self.meets(query, it));
        let listed = requests.filter(|(_, it)| !it.lists_of(query, self.now).is_empty());
        let mut listed: Vec<_> = listed
            .map(|(at, it)| {
                let first = it.period().map(|(first, _)| first);
                (first.is_none(), first, it.form.name.clone(), at)
            })
            .collect();
        listed.sort();
        listed.into_iter().map(|(_, _, _, at)| at).collect()
    }

    /// Returns whether a query of the caller meets a request at all.
    fn meets(&self, query: &v1::WorklistQuery, request: &Request) -> bool {
        let by_number = !query.personal_id.is_empty();
        match by_number {
            true => self.caller.finds(request),
            false => self.caller.sees(&request.unit),
        }
    }

    /// Returns how many requests are on each of a query's lists, in a unit or in all.
    fn counts(&self, query: &v1::WorklistQuery, unit: Option<&str>) -> Vec<(Worklist, i64)> {
        let mut lists: Vec<_> = query.worklists().collect();
        lists.sort();
        lists.dedup();
        let count = |list: Worklist| {
            let requests = self.requests.iter().filter(|it| self.meets(query, it));
            let on = requests.filter(|it| unit.is_none_or(|unit| it.unit == unit));
            let on = on.filter(|it| it.lists_of(query, self.now).contains(&list.into()));
            i64::try_from(on.count()).expect("a few")
        };
        lists.into_iter().map(|list| (list, count(list))).collect()
    }
}

/// Draws a query that is mostly about what there is.
fn random_query(rng: &mut Rng, world: &World) -> v1::WorklistQuery {
    let shown: Vec<_> = world.requests.iter().map(|it| it.show(world.now)).collect();
    let mut query = v1::WorklistQuery {
        care_units: call::units(),
        order_by: rng.pick(&[0, 1, 2, 3, 4, 5]),
        ..Default::default()
    };
    let named = !shown.is_empty() && rng.chance(40) && name_subject(rng, &shown, &mut query);
    let manual_handling = [Worklist::ManualHandling.into()];
    query.worklists = match rng.below(10) {
        0..=2 if named => vec![Worklist::All.into()],
        3 => manual_handling.to_vec(),
        _ => (0..=rng.below(7))
            .map(|_| rng.pick(&LISTS).into())
            .collect(),
    };
    if (named || query.worklists == manual_handling) && rng.chance(50) {
        query.care_units = vec!["careUnits/-".into()];
    } else if rng.chance(30) {
        query.care_units.truncate(1);
    }
    if !shown.is_empty() {
        filter(rng, &shown, &mut query);
    }
    query
}

/// Names the patient, the referral, the visit or the booking of some request; false when it has none.
fn name_subject(
    rng: &mut Rng,
    shown: &[v1::BookingRequest],
    query: &mut v1::WorklistQuery,
) -> bool {
    let request = rng.pick(shown);
    match (rng.below(4), request.origin, request.booking) {
        (0, Some(Origin::Referral(it)), _) => query.referral_id = it.referral_id,
        (0, Some(Origin::PreviousVisit(it)), _) => query.visit_id = it.visit_id,
        (1, _, Some(booking)) => query.booking_id = booking.booking_id,
        (2.., _, _) => {
            let patient = request.patient.expect("every request has one");
            query.personal_id = patient.personal_id;
            query.personal_id_type = patient.personal_id_type;
            query.issuer = patient.issuer;
        }
        _ => return false,
    }
    true
}

/// Adds filters, each now and then.
fn filter(rng: &mut Rng, shown: &[v1::BookingRequest], query: &mut v1::WorklistQuery) {
    let request = rng.pick(shown);
    if rng.chance(20) {
        let hold = request
            .care_invitation
            .as_ref()
            .map_or(0, |it| it.hold_reason);
        query.hold_reasons = vec![hold.max(1), rng.pick(&[1, 2, 3, 4, 5, 6, 7])];
    }
    if rng.chance(25) {
        query.states = vec![request.state, rng.pick(&[1, 2, 3, 4, 5, 6, 7])];
    }
    let patient = request.patient.expect("every request has one");
    if rng.chance(10) {
        query.interpreter_language = patient.interpreter_language;
    }
    if rng.chance(10) {
        query.letter_formats = vec![patient.letter_format.max(1), rng.pick(&[1, 2, 3, 4, 5])];
    }
    if rng.chance(10) {
        query.visit_kind = rng.pick(&[1, 2]);
    }
    if rng.chance(10) {
        query.minimum_priority = rng.pick(&[1, 2, 3]);
    }
    if rng.chance(10) {
        let code = request.visit_type.expect("given").code;
        query.visit_type_codes = vec!["ELSE".into(), code];
    }
    if rng.chance(10) {
        query.requested_period = request.constraints.and_then(|it| it.requested_period);
    }
}

/// Checks what the service lists, totals and counts for a query drawn at random.
pub async fn check_query(harness: &Harness, world: &World, rng: &mut Rng) -> Result<(), String> {
    let query = random_query(rng, world);
    let told = |failure: String| format!("{}: {failure}", words(&query));
    let view = rng.pick(&[BookingRequestView::Basic, BookingRequestView::Full]);
    let (listed, total) = service::worklist(harness, world, query.clone(), view).await?;
    let mut names: Vec<_> = listed.iter().map(|it| it.name.clone()).collect();
    let expected = world.list(&query).into_iter();
    let mut expected: Vec<_> = expected
        .map(|it| world.requests[it].form.name.clone())
        .collect();
    if query.order_by > OrderBy::StartDate.into() {
        names.sort();
        expected.sort();
    }
    same("the list", &expected, &names).map_err(told)?;
    let length = i64::try_from(names.len()).expect("a few");
    same("the total", &Some(length), &total).map_err(told)?;
    for request in &listed {
        let known = &world.requests[world.find(&request.name).expect("listed")];
        world
            .caller
            .unmasked(known, request.clone())
            .map_err(told)?;
        let messages = request
            .care_invitation
            .as_ref()
            .map_or(0, |it| it.notifications.len());
        let bare =
            messages == 0 && request.purpose.is_empty() && request.internal_comment.is_empty();
        holds(bare == (view == BookingRequestView::Basic), || {
            told(format!("{view:?} of {}", request.name))
        })?;
    }
    let counted = service::counts(harness, world, query.clone()).await?;
    let shown = |counts: &[v1::WorklistCount]| -> Vec<_> {
        counts.iter().map(|it| (it.worklist(), it.count)).collect()
    };
    same(
        "the counts",
        &world.counts(&query, None),
        &shown(&counted.counts),
    )
    .map_err(told)?;
    let by_unit = counted.care_units.iter();
    let by_unit: BTreeMap<_, _> = by_unit
        .map(|it| (it.care_unit.clone(), shown(&it.counts)))
        .collect();
    let mut expected = BTreeMap::new();
    for unit in call::units() {
        let counts = world.counts(&query, Some(&unit));
        let is_named = query.care_units.contains(&unit);
        let is_every = query.care_units == ["careUnits/-"];
        if is_named || is_every && counts.iter().any(|(_, count)| *count != 0) {
            expected.insert(unit, counts);
        }
    }
    same("the counts by care unit", &expected, &by_unit).map_err(told)
}

/// A query in words; its own type prints its name only.
fn words(query: &v1::WorklistQuery) -> String {
    let lists: Vec<_> = query.worklists().map(|it| it.as_str_name()).collect();
    let v1::WorklistQuery {
        care_units,
        personal_id,
        referral_id,
        visit_id,
        booking_id,
        hold_reasons,
        states,
        visit_kind,
        visit_type_codes,
        minimum_priority,
        requested_period,
        interpreter_language,
        letter_formats,
        order_by,
        ..
    } = query;
    format!(
        "{lists:?} of {care_units:?}, patient {personal_id:?}, referral {referral_id:?}, visit {visit_id:?}, \
         booking {booking_id:?}, held {hold_reasons:?}, states {states:?}, kind {visit_kind}, \
         interpreter {interpreter_language:?}, letters {letter_formats:?}, types {visit_type_codes:?}, priority {minimum_priority}, period {requested_period:?}, by {order_by}"
    )
}

/// Every list in one stream, as one who watches them sees them.
pub struct Board {
    /// Who watches.
    caller: Caller,
    events: Streaming<v1::WatchWorklistResponse>,
    /// Lists and state of each request that is on one, and whether its patient is masked.
    seen: BTreeMap<String, (Vec<i32>, i32, bool)>,
}

impl Board {
    pub async fn open(harness: &Harness, caller: Caller) -> Self {
        let call = v1::WatchWorklistRequest {
            query: Some(every_list()),
            view: BookingRequestView::Basic.into(),
        };
        let answer = within(harness.worklists().watch_worklist(call)).await;
        Self {
            caller,
            events: answer.expect("a stream").into_inner(),
            seen: BTreeMap::new(),
        }
    }

    /// Reads on until the board is as the model has it; a failure after the longest wait of a test.
    pub async fn comes_to(&mut self, world: &World) -> Result<(), String> {
        let query = every_list();
        let requests = world.requests.iter();
        let seen = requests.filter(|it| self.caller.sees(&it.unit));
        let expected = seen.map(|it| {
            let lists = it.lists_of(&query, world.now);
            let masked = !self.caller.knows(it);
            let shown = (lists, it.shown(world.now).into(), masked);
            (it.form.name.clone(), shown)
        });
        let expected = expected
            .filter(|(_, (lists, _, _))| !lists.is_empty())
            .collect();
        let reading = async {
            while self.seen != expected {
                match self.events.message().await {
                    Ok(Some(event)) => self.see(event, world)?,
                    other => return Err(format!("the board has ended: {other:?}")),
                }
            }
            Ok(())
        };
        match tokio::time::timeout(WAIT, reading).await {
            Ok(read) => read,
            Err(_) => same("the board", &expected, &self.seen),
        }
    }

    /// Reads what it has been sent already.
    pub async fn reads_on(&mut self, world: &World) -> Result<(), String> {
        let event = tokio::time::timeout(PAUSE, self.events.message()).await;
        match event {
            Ok(Ok(Some(event))) => self.see(event, world),
            Ok(other) => Err(format!("the board has ended: {other:?}")),
            Err(_) => Ok(()),
        }
    }

    fn see(&mut self, event: v1::WatchWorklistResponse, world: &World) -> Result<(), String> {
        world.accesses.watched(self.caller, &event);
        match event.event {
            Some(Event::Upserted(request)) => {
                holds(!event.worklists.is_empty(), || "upserted to no list".into())?;
                let patient = request.patient.unwrap_or_default();
                let masked = patient.personal_id_masked;
                holds(masked == patient.personal_id.is_empty(), || {
                    format!("{} is masked by half", request.name)
                })?;
                let shown = (event.worklists, request.state, masked);
                self.seen.insert(request.name, shown);
            }
            Some(Event::Removed(name)) => {
                let known = self.seen.remove(&name).is_some();
                holds(known && event.worklists.is_empty(), || {
                    format!("{name} is removed and was not there")
                })?;
            }
            Some(Event::SnapshotComplete(_) | Event::Heartbeat(_)) | None => {}
        }
        Ok(())
    }
}

fn every_list() -> v1::WorklistQuery {
    v1::WorklistQuery {
        worklists: LISTS.map(Into::into).to_vec(),
        care_units: call::units(),
        ..Default::default()
    }
}
