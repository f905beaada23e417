//! The plain model of the whole service: its clock, its requests, its idempotency keys.
//!
//! Written from the comments of the contract; it never uses the code of the domain.

use care_invitation::contract::v1::HistoryEvent;
use std::collections::{BTreeSet, HashMap};

use care_invitation::contract::v1;
use care_invitation::contract::v1::booking_request::{Origin, State};
use care_invitation::contract::v1::record_booking_cancellation_request::Next;
use care_invitation::contract::v1::{Action, CancelReason, DeliveryChannel, DispatchRefusal};
use chrono::{NaiveDate, TimeDelta};
use tonic::Code;

use super::accesses::Accesses;
use super::calendar::{Instant, end_of, from_timestamp, local_date};
use super::call::{Call, ZERO_WIDTH_SPACE};
use super::caller::Caller;
use super::message::Message;
use super::op::Aim;
use super::request::{Request, period, same_person};
use super::rules::{Refusal, check_shape, check_today, has_day};
use super::settings::{InForce, Settings, check_ranges};
use super::show::due_notification;

pub struct World {
    pub now: Instant,
    /// Who makes the present call.
    pub caller: Caller,
    pub requests: Vec<Request>,
    /// What the access log must hold.
    pub accesses: Accesses,
    /// Settings of the care units that have set some.
    settings: HashMap<String, Settings>,
    /// Writes so far, for replays.
    pub writes: Vec<Call>,
    /// Writes and their replies by care unit and request id.
    remembered: HashMap<(String, String), (Call, Reply)>,
}

/// Reply to a call, in the model's terms.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    Nothing,
    /// Index of the request, as it stands.
    Request(usize),
    /// Settings of a care unit, as they stand.
    Settings(String),
    /// Indices of the requests whose names are returned.
    Requests(BTreeSet<usize>),
    /// Indices of the requests that have moved, and of those of them that have an open duplicate.
    Moved(BTreeSet<usize>, BTreeSet<usize>),
    Authorized {
        results: Vec<(String, DispatchRefusal)>,
        expires_at: Option<Instant>,
    },
    Acknowledged(Vec<(String, DispatchRefusal)>),
    /// What follows from each receipt.
    Reported(Vec<Result<Option<(usize, usize)>, Refusal>>),
    /// The reply to a repeat.
    Again(Box<Reply>),
    /// What comes of each item.
    Batch(Vec<Result<Reply, Refusal>>),
}

impl World {
    pub fn new(now: Instant) -> Self {
        Self {
            now,
            caller: Caller::Staff,
            requests: vec![],
            accesses: Accesses::default(),
            settings: HashMap::new(),
            writes: vec![],
            remembered: HashMap::new(),
        }
    }

    /// Applies a call. Leases are copied from the service's response: see [`Self::take_leases`].
    pub fn apply(&mut self, call: &Call) -> Result<Reply, Refusal> {
        self.remember();
        let reply = self.answer(call);
        self.choose_channels();
        self.remember();
        reply
    }

    fn choose_channels(&mut self) {
        let now = self.now;
        self.requests
            .iter_mut()
            .for_each(|it| it.choose_channels(now));
    }

    fn remember(&mut self) {
        let now = self.now;
        self.requests.iter_mut().for_each(|it| it.remember(now));
    }

    /// Returns what a patient is shown, the newest request first.
    pub fn patient_requests(&self, patient: &v1::PatientIdentity) -> Vec<v1::PatientRequest> {
        let theirs = self.requests.iter();
        let theirs = theirs.filter(|it| it.identity() == *patient && self.caller.finds(it));
        let mut shown: Vec<_> = theirs.filter_map(|it| it.for_patient(self.now)).collect();
        let id = |it: &v1::PatientRequest| it.name.rsplit('/').next().map(str::to_owned);
        shown.sort_by_key(|it| std::cmp::Reverse(id(it)));
        shown
    }

    fn answer(&mut self, call: &Call) -> Result<Reply, Refusal> {
        match call {
            Call::Advance(to) => {
                self.now = *to;
                Ok(Reply::Nothing)
            }
            Call::Get(call) => self.find_seen(&call.name).map(Reply::Request),
            Call::Authorize(call) => Ok(self.authorize(call)),
            Call::Acknowledge(call) => Ok(self.acknowledge(call)),
            Call::Report(call) => Ok(self.report(call)),
            Call::Lease(_) => Ok(Reply::Nothing),
            Call::Batch(calls) => Ok(Reply::Batch(
                calls.iter().map(|it| self.apply(it)).collect(),
            )),
            write => self.write(write),
        }
    }

    /// Applies a write, whose request id is kept if it succeeds.
    fn write(&mut self, call: &Call) -> Result<Reply, Refusal> {
        call_shape(call)?;
        let key = key(call);
        if key.0 != "careUnits/-" && !self.caller.sees(&key.0) {
            return Err(Refusal::not_found());
        }
        if let Some((earlier, reply)) = self.remembered.get(&key) {
            return if earlier == call {
                Ok(Reply::Again(Box::new(self.seen(reply.clone()))))
            } else {
                let code = Code::InvalidArgument;
                Err(Refusal::new(code, "REQUEST_ID_REUSED"))
            };
        }
        let reply = match call {
            Call::Create(call) => self.create(call),
            Call::Patient(call) => Ok(self.update_patient(call)),
            Call::Replace(call) => Ok(self.replace_personal_id(call)),
            Call::Settings(call) => self.update_settings(call),
            _ => self.change_one(call),
        }?;
        self.remembered.insert(key, (call.clone(), reply.clone()));
        Ok(reply)
    }

    /// Returns a reply with those of the names that the caller may see.
    fn seen(&self, reply: Reply) -> Reply {
        let seen = |names: BTreeSet<usize>| {
            let names = names.into_iter();
            names
                .filter(|it| self.caller.sees(&self.requests[*it].unit))
                .collect()
        };
        match reply {
            Reply::Requests(names) => Reply::Requests(seen(names)),
            Reply::Moved(moved, duplicates) => Reply::Moved(seen(moved), seen(duplicates)),
            other => other,
        }
    }

    fn create(&mut self, call: &v1::CreateBookingRequestRequest) -> Result<Reply, Refusal> {
        self.check_creation(call)?;
        let form = call.booking_request.clone().expect("given");
        let booked = form.booking.is_some();
        let guarantee_days = self.in_force(call).guarantee_days;
        let request = Request {
            unit: call.parent.clone(),
            guarantee_days,
            settings: self.settings.get(&call.parent).cloned().unwrap_or_default(),
            touched: false,
            state: if booked {
                State::Booked
            } else {
                State::Requested
            },
            exempt: call.allow_duplicate,
            series: None,
            invitation: None,
            cancel_reason: CancelReason::Unspecified,
            last_contact: None,
            cancellations: [0; 3],
            once_open: false,
            closed_at: None,
            to_withdraw: false,
            created_at: self.now,
            changed_at: self.now,
            version: 0,
            seen_version: 0,
            etags: vec![],
            history: vec![],
            noted: v1::BookingRequest::default(),
            form,
        };
        if request.form.invitation && request.referral_id().is_empty() {
            return Err(Refusal::precondition("REFERRAL_REQUIRED"));
        }
        self.check_duplicate(&request)?;
        let first = self.requests.len();
        for place in 0..call.repeat.map_or(1, |it| it.count) {
            let mut member = request.clone();
            if let Some(repeat) = &call.repeat {
                member.series = Some(v1::Series {
                    position: place + 1,
                    ..Default::default()
                });
                member.form.constraints =
                    later(&request.form.constraints, place * repeat.interval_days);
            }
            if member.form.invitation {
                match call.prior_messages.as_slice() {
                    [] => drop(member.begin_round(self.now)),
                    prior => member.import(prior, self.now),
                }
            }
            member.note(HistoryEvent::CreateBookingRequest, self.now);
            self.requests.push(member);
        }
        Ok(Reply::Request(first))
    }

    /// Returns what is in force for a request that is created now.
    fn in_force(&self, call: &v1::CreateBookingRequestRequest) -> InForce {
        let form = call.booking_request.as_ref().expect("given");
        let code = &form.visit_type.as_ref().expect("given").code;
        let settings = self.settings.get(&call.parent).cloned();
        settings.unwrap_or_default().in_force(code)
    }

    /// Changes settings; a pause takes back what is leased.
    fn update_settings(
        &mut self,
        call: &v1::UpdateCareUnitSettingsRequest,
    ) -> Result<Reply, Refusal> {
        let name = &call.care_unit_settings.as_ref().expect("given").name;
        let unit = name.trim_end_matches("/settings").to_owned();
        let settings = self.settings.entry(unit.clone()).or_default();
        settings.update(call, self.now)?;
        for request in self.requests.iter_mut().filter(|it| it.unit == unit) {
            request.settings = settings.clone();
            if request.in_force().is_paused(self.now) {
                request.take_back_leased();
            }
        }
        Ok(Reply::Settings(unit))
    }

    /// Returns the settings of a care unit.
    pub fn settings(&mut self, unit: &str) -> &mut Settings {
        self.settings.entry(unit.to_owned()).or_default()
    }

    /// Returns the etags of the settings of a care unit that were seen.
    pub fn settings_etags(&self, unit: &str) -> &[String] {
        self.settings.get(unit).map_or(&[], |it| &it.etags)
    }

    /// Checks what needs today's date: the first period, and the weekdays of the later ones.
    fn check_creation(&self, call: &v1::CreateBookingRequestRequest) -> Result<(), Refusal> {
        let form = call.booking_request.as_ref().expect("given");
        let Some(constraints) = &form.constraints else {
            return Ok(());
        };
        let at = "booking_request.constraints";
        let first = period(constraints).map(|(first, _)| first);
        let kept = first.filter(|_| !call.prior_messages.is_empty());
        let today = check_today(constraints, kept, local_date(self.now), at);
        let mut faults: Vec<_> = today.err().into_iter().flat_map(|it| it.details).collect();
        if let Some(repeat) = &call.repeat {
            let misses = |place| {
                let moved = later(&form.constraints, place * repeat.interval_days);
                !has_day(&moved.expect("seen above"))
            };
            if (1..repeat.count).any(misses) {
                faults.push("repeat.interval_days".to_owned());
            }
        }
        let sent_at = |it: &v1::PriorMessage| from_timestamp(it.send_time.as_ref().expect("given"));
        for (nth, message) in call.prior_messages.iter().enumerate() {
            if sent_at(message) > self.now {
                faults.push(format!("prior_messages[{nth}].send_time"));
            }
        }
        let reminders = self.in_force(call).schedule.reminders;
        if call.prior_messages.len() > 1 + usize::try_from(reminders).expect("a few") {
            faults.push("prior_messages".to_owned());
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(Refusal::fields(faults))
        }
    }

    /// Learns the names of requests that were created together, which are the last ones.
    pub fn learn_names(&mut self, first: usize, created: &v1::BookingRequest) {
        let names = match &created.series {
            Some(series) => series.members.clone(),
            None => vec![created.name.clone()],
        };
        let id = created.name.rsplit('/').next().unwrap_or_default();
        for (request, name) in self.requests[first..].iter_mut().zip(&names) {
            request.form.name.clone_from(name);
            if let Some(series) = &mut request.series {
                series.id = id.to_owned();
                series.members.clone_from(&names);
            }
        }
    }

    fn check_duplicate(&self, request: &Request) -> Result<(), Refusal> {
        let other = |it: &&Request| {
            // Those that the same batch has created have no names yet.
            let itself = !request.form.name.is_empty() && it.form.name == request.form.name;
            // Whom the caller does not know is anybody.
            let alike = it.is_like(request)
                || !self.caller.knows(it) && it.is_like_but_for_patient(request);
            it.is_open() && alike && !itself && !it.is_fellow_of(request)
        };
        if request.exempt || !request.is_open() || !self.requests.iter().any(|it| other(&it)) {
            return Ok(());
        }
        Err(Refusal::new(Code::AlreadyExists, "DUPLICATE_REQUEST"))
    }

    fn change_one(&mut self, call: &Call) -> Result<Reply, Refusal> {
        let (name, etag) = address(call);
        let index = self.find(name)?;
        let mut request = self.requests[index].clone();
        // What an earlier item of the same batch has changed has an etag that nobody has seen.
        let is_latest = |it: &String| it == etag && !request.is_unseen();
        let current = etag.is_empty() || request.etags.last().is_some_and(is_latest);
        let was_open = request.is_open();
        let now = self.now;
        match call {
            Call::Invite(call) => request.change_to_invitation(call, now, current),
            Call::Change(call) => request.change(call, now, current),
            Call::Book(call) => request.record_booking(call, now, current),
            Call::Contact(call) => request.record_contact(call, now, current),
            Call::Cancel(call) => request.cancel(call, now, current),
            Call::Release(call) => request.release_hold(call, now, current),
            Call::Unbook(call) => request.record_booking_cancellation(call, now, current),
            Call::Revoke(_) => request.revoke_invitation(now, current),
            other => unreachable!("{other:?} is not about one request"),
        }?;
        // A visit that is off opens its request whatever else is open.
        let unchecked = matches!(call, Call::Unbook(call) if call.next() == Next::Requested);
        let is_retyped = !request.is_like(&self.requests[index]);
        if is_retyped || (!was_open && !unchecked) {
            self.check_duplicate(&request)?;
        }
        self.requests[index] = request;
        Ok(Reply::Request(index))
    }

    fn update_patient(&mut self, call: &v1::UpdatePatientRequest) -> Reply {
        let patient = call.patient.as_ref().expect("given");
        let everywhere = call.parent == "careUnits/-";
        let mut changed = BTreeSet::new();
        let caller = self.caller;
        for (index, request) in self.requests.iter_mut().enumerate() {
            let here = everywhere || request.unit == call.parent;
            let theirs = here && same_person(request.patient(), patient) && caller.finds(request);
            if theirs && request.update_patient(call, self.now) {
                changed.insert(index);
            }
        }
        Reply::Requests(changed)
    }

    fn replace_personal_id(&mut self, call: &v1::ReplacePersonalIdRequest) -> Reply {
        let old = call.old_identity.as_ref().expect("given");
        let new = call.new_identity.as_ref().expect("given");
        let of = |identity: &v1::PatientIdentity| {
            let requests = self.requests.iter().enumerate();
            let theirs = requests.filter(|(_, it)| it.identity() == *identity);
            let theirs = theirs.filter(|(_, it)| self.caller.sees(&it.unit));
            theirs.map(|(index, _)| index).collect::<BTreeSet<_>>()
        };
        let all: Vec<usize> = of(old).union(&of(new)).copied().collect();
        let known = |it: &usize| self.caller.knows(&self.requests[*it]);
        let moved: BTreeSet<_> = of(old).into_iter().filter(known).collect();
        let known: BTreeSet<_> = all.iter().copied().filter(known).collect();
        if moved.is_empty() {
            return Reply::Moved(moved, BTreeSet::new());
        }
        let protections = all.iter().map(|it| self.requests[*it].patient().protection);
        let strictest = protections.max().unwrap_or_default();
        for index in known.iter().copied() {
            let to = moved.contains(&index).then_some(new);
            self.requests[index].replace_personal_id(to, strictest, self.now);
        }
        let has_duplicate = |index: &usize| {
            let request = &self.requests[*index];
            let mut others = self.requests.iter().enumerate();
            request.is_open()
                && others.any(|(other, it)| {
                    let stranger =
                        known.contains(&other) && other != *index && !it.is_fellow_of(request);
                    stranger && it.is_open() && it.is_like(request)
                })
        };
        let duplicates = moved.iter().copied().filter(|it| has_duplicate(it));
        let duplicates = duplicates.collect();
        Reply::Moved(moved, duplicates)
    }

    pub fn find(&self, name: &str) -> Result<usize, Refusal> {
        let found = self.requests.iter().position(|it| it.form.name == name);
        found.ok_or_else(Refusal::not_found)
    }

    fn find_seen(&self, name: &str) -> Result<usize, Refusal> {
        let found = self.find(name)?;
        match self.caller.sees(&self.requests[found].unit) {
            true => Ok(found),
            false => Err(Refusal::not_found()),
        }
    }

    /// Returns the request that a step means.
    pub fn request(&self, at: Aim, action: Action) -> Option<&Request> {
        let fits = |it: &&Request| it.allows(action, self.now);
        let fit = || self.requests.iter().filter(fits).collect::<Vec<_>>();
        match at {
            Aim::Fit(nth) => nth_of(&fit(), nth).copied(),
            Aim::Any(nth) => nth_of(&self.requests, nth),
        }
    }

    fn find_message(&self, name: &str) -> Option<(usize, usize)> {
        let named = |it: &Message| it.name.as_deref() == Some(name);
        self.requests.iter().enumerate().find_map(|(at, request)| {
            let message = request.messages().iter().position(named);
            message.map(|message| (at, message))
        })
    }

    fn each_message(&self) -> impl Iterator<Item = (&Request, &Message)> {
        let requests = self.requests.iter();
        requests.flat_map(|it| it.messages().iter().map(move |message| (it, message)))
    }

    /// Returns the notification that a step means: one that was sent, or any.
    pub fn message_name(&self, at: Aim) -> Option<String> {
        let named = |(_, message): (&Request, &Message)| message.name.clone();
        let sent = self.each_message().filter(|(_, it)| it.sent_at.is_some());
        match at {
            Aim::Fit(nth) => nth_of(&sent.filter_map(named).collect::<Vec<_>>(), nth).cloned(),
            Aim::Any(nth) => {
                let names: Vec<_> = self.each_message().filter_map(named).collect();
                nth_of(&names, nth).cloned()
            }
        }
    }

    /// Returns the time at which the first unacknowledged notification may be leased again.
    pub fn next_lapse(&self) -> Option<Instant> {
        let out = self.each_message().filter(|(_, it)| it.is_out());
        out.map(|(_, it)| it.claimable_at)
            .min()
            .filter(|at| *at >= self.now)
    }

    fn leases(&self, of: impl Fn(&Message) -> Option<String>) -> Vec<v1::Lease> {
        let lease = |(_, message): (&Request, &Message)| {
            Some(v1::Lease {
                name: message.name.clone()?,
                lease_token: of(message)?,
            })
        };
        self.each_message().filter_map(lease).collect()
    }

    /// Returns the newest leases of the notifications that are leased.
    pub fn out(&self) -> Vec<v1::Lease> {
        self.leases(|it| it.tokens.last().filter(|_| it.is_out()).cloned())
    }

    pub fn leased_once(&self) -> Vec<v1::Lease> {
        self.leases(|it| it.tokens.last().cloned())
    }

    pub fn stale(&self) -> Vec<v1::Lease> {
        self.leases(|it| it.tokens.first().filter(|_| it.tokens.len() > 1).cloned())
    }

    fn claimable(&self, channels: &[i32]) -> Vec<(usize, usize)> {
        let mut claimable = vec![];
        let requests = self.requests.iter().enumerate();
        for (at, request) in requests.filter(|(_, it)| self.caller.finds(it)) {
            for (nth, message) in request.messages().iter().enumerate() {
                let channel = i32::from(request.channel_for(message, self.now).0);
                let served = channels.is_empty() || channels.contains(&channel);
                if served && request.may_lease(message, self.now) {
                    claimable.push((at, nth));
                }
            }
        }
        claimable
    }

    /// Returns whether another channel would be chosen now for some notification that is leased or waits, which is
    /// found under its old one first.
    pub fn has_other_channel(&self) -> bool {
        let moves = |(it, message): (&Request, &Message)| {
            let alive = message.is_out() || message.is_waiting();
            alive && it.channel_for(message, self.now).0 != message.channel
        };
        self.each_message().any(moves)
    }

    /// Returns whether a claim now would lease anything.
    pub fn has_due(&self) -> bool {
        !self.claimable(&[]).is_empty()
    }

    /// Returns the next time at which a notification falls due, or the period of one that waits ends.
    pub fn next_due(&self) -> Option<Instant> {
        let waits = |(request, message): &(&Request, &Message)| {
            message.is_out() || (message.is_waiting() && request.wants(message, self.now))
        };
        let waiting = self.each_message().filter(waits);
        let ends = waiting.flat_map(|(request, message)| {
            [
                Some(message.claimable_at),
                request.expires_at(),
                request.in_force().paused_until,
            ]
        });
        ends.flatten().filter(|at| *at > self.now).min()
    }

    /// Returns whether a claim now would park or cancel a notification.
    pub fn has_to_park(&self) -> bool {
        let parks = |(at, nth): &(usize, usize)| {
            let request = &self.requests[*at];
            request.leaves_at_claim(request.message(*nth))
        };
        self.claimable(&[]).iter().any(parks)
    }

    /// Copies the leases that the service granted, if it might grant them.
    pub fn take_leases(
        &mut self,
        call: &v1::StreamDueNotificationsRequest,
        due: &[v1::DueNotification],
    ) -> Result<(), String> {
        for (at, nth) in self.claimable(&call.channels) {
            let request = &mut self.requests[at];
            if request.leaves_at_claim(request.message(nth)) {
                request.leave_at_claim(nth, self.now);
            }
        }
        let claimable = self.claimable(&call.channels);
        let most = usize::try_from(call.max_outstanding).expect("a small number");
        if due.len() != claimable.len().min(most) {
            return Err(format!(
                "leased {} of {} due, {most} at most",
                due.len(),
                claimable.len()
            ));
        }
        let seconds = call.lease_duration.expect("given").seconds;
        for actual in due {
            let name = &actual.notification.as_ref().expect("a message").name;
            let found = self.find_message(name).filter(|it| claimable.contains(it));
            let (at, nth) = found.ok_or_else(|| format!("{name} is not due"))?;
            let request = &mut self.requests[at];
            if !request.may_lease(request.message(nth), self.now) {
                return Err(format!("{name} was leased twice"));
            }
            let duration = TimeDelta::seconds(seconds);
            let promised = call.always_authorizes;
            request.lease(nth, &actual.lease_token, promised, duration, self.now);
            let expected = due_notification(request, nth, self.now);
            super::compare::same_due("the leased message", &expected, actual)?;
        }
        self.choose_channels();
        Ok(())
    }

    fn authorize(&mut self, call: &v1::AuthorizeDispatchRequest) -> Reply {
        let mut results = vec![];
        let mut ends = vec![];
        for lease in &call.leases {
            let found = self.find_message(&lease.name);
            let seen = found.filter(|(at, _)| self.caller.sees(&self.requests[*at].unit));
            let authorized = match seen {
                Some((at, nth)) => {
                    let before = self.requests[at].clone();
                    let request = &mut self.requests[at];
                    let authorized = request.authorize(nth, &lease.lease_token, self.now);
                    match authorized {
                        Ok(_) if !self.caller.knows(&before) => {
                            *request = before;
                            Err(DispatchRefusal::Lost)
                        }
                        other => other,
                    }
                }
                None => Err(DispatchRefusal::Lost),
            };
            ends.extend(authorized.ok());
            let refusal = authorized.err().unwrap_or_default();
            results.push((lease.name.clone(), refusal));
        }
        let expires_at = ends.into_iter().min();
        Reply::Authorized {
            results,
            expires_at,
        }
    }

    fn acknowledge(&mut self, call: &v1::AcknowledgeNotificationsRequest) -> Reply {
        let mut results = vec![];
        for answer in &call.acknowledgements {
            let name = &answer.lease.as_ref().expect("given").name;
            let refusal = match self.find_message(name) {
                Some((at, nth)) => self.requests[at].acknowledge(nth, answer, self.now),
                None => Some(DispatchRefusal::Lost),
            };
            results.push((name.clone(), refusal.unwrap_or_default()));
        }
        Reply::Acknowledged(results)
    }

    fn report(&mut self, call: &v1::ReportDeliveryRequest) -> Reply {
        let results = call.receipts.iter().map(|receipt| {
            let found = self.find_message(&receipt.name);
            let seen = found.filter(|(at, _)| self.caller.sees(&self.requests[*at].unit));
            let (at, nth) = seen.ok_or_else(Refusal::not_found)?;
            let follow_up = self.requests[at].report(nth, receipt, self.now)?;
            // The next receipt may end what waits, by the channel that it has by then.
            self.requests[at].choose_channels(self.now);
            Ok(follow_up.map(|it| (at, it)))
        });
        Reply::Reported(results.collect())
    }

    /// Returns the instants after now at which something happens by itself, the nearest first.
    pub fn instants(&self) -> Vec<Instant> {
        let mut instants = BTreeSet::new();
        for request in &self.requests {
            instants.extend(request.expires_at());
            instants.extend(request.no_response_at(self.now));
            instants.extend(request.wait_until().map(end_of));
            instants.extend(request.hidden_at(self.now));
            instants.extend(request.in_force().paused_until);
            for message in request.messages() {
                if message.is_waiting() || message.is_out() {
                    instants.extend([message.due_at, message.claimable_at]);
                    instants.extend(message.lease_ends_at());
                }
            }
        }
        instants.into_iter().filter(|it| *it > self.now).collect()
    }

    /// Returns the notifications that wait or are leased, as ListNotifications shows them.
    pub fn unsettled(&self, channel: DeliveryChannel) -> Vec<v1::Notification> {
        use v1::notification::State;
        let wanted = [
            State::Scheduled,
            State::Leased,
            State::Dispatching,
            State::Parked,
        ];
        let seen = self
            .each_message()
            .filter(|(it, _)| self.caller.sees(&it.unit));
        let shown = seen.map(|(it, message)| it.show_message(message, self.now));
        shown
            .filter(|it| wanted.contains(&it.state()))
            .filter(|it| channel == DeliveryChannel::Unspecified || it.channel() == channel)
            .collect()
    }
}

/// Returns constraints whose period is so many days later.
fn later(
    constraints: &Option<v1::BookingConstraints>,
    days: i32,
) -> Option<v1::BookingConstraints> {
    let mut constraints = constraints.clone()?;
    let (first, last) = period(&constraints)?;
    let moved = |day: NaiveDate| (day + TimeDelta::days(days.into())).to_string();
    constraints.requested_period = Some(v1::DateInterval {
        start_date: moved(first),
        end_date: moved(last),
    });
    Some(constraints)
}

pub fn nth_of<T>(list: &[T], nth: usize) -> Option<&T> {
    list.get(nth % list.len().max(1))
}

/// Checks a call for faults that need neither today's date nor a stored request.
fn call_shape(call: &Call) -> Result<(), Refusal> {
    match call {
        Call::Create(call) => create_shape(call),
        Call::Invite(call) => {
            let constraints = call.constraints.as_ref();
            constraints.map_or(Ok(()), |it| check_shape(it, "constraints"))
        }
        Call::Unbook(call) => {
            let constraints = call.constraints.as_ref();
            constraints.map_or(Ok(()), |it| check_shape(it, "constraints"))
        }
        Call::Change(call) => change_shape(call),
        Call::Replace(call) if call.old_identity == call.new_identity => {
            Err(Refusal::field("new_identity"))
        }
        Call::Settings(call) => check_ranges(call),
        _ => Ok(()),
    }
}

fn create_shape(call: &v1::CreateBookingRequestRequest) -> Result<(), Refusal> {
    let form = call.booking_request.as_ref().expect("given");
    let mut faults = vec![];
    match &form.origin {
        None => faults.push("booking_request.origin".to_owned()),
        Some(Origin::Referral(it)) if it.referral_id.contains(ZERO_WIDTH_SPACE) => {
            faults.push("booking_request.referral.referral_id".to_owned());
        }
        Some(Origin::Referral(_) | Origin::PreviousVisit(_)) => {}
    }
    if form.invitation && (!form.summons || form.booking.is_some()) {
        faults.push("booking_request.invitation".to_owned());
    }
    if let Some(constraints) = &form.constraints {
        let checked = check_shape(constraints, "booking_request.constraints");
        faults.extend(checked.err().into_iter().flat_map(|it| it.details));
    }
    let prior = &call.prior_messages;
    if !prior.is_empty() && !form.invitation {
        faults.push("prior_messages".to_owned());
    }
    let sent_at = |it: &v1::PriorMessage| from_timestamp(it.send_time.as_ref().expect("given"));
    for (nth, pair) in prior.windows(2).enumerate() {
        if sent_at(&pair[1]) <= sent_at(&pair[0]) {
            faults.push(format!("prior_messages[{}].send_time", nth + 1));
        }
    }
    if let Some(repeat) = &call.repeat {
        let broken = [
            (form.booking.is_some() || !prior.is_empty(), "repeat"),
            (
                !(7..=400).contains(&repeat.interval_days),
                "repeat.interval_days",
            ),
            (!(2..=12).contains(&repeat.count), "repeat.count"),
        ];
        let broken = broken.into_iter().filter(|(broken, _)| *broken);
        faults.extend(broken.map(|(_, field)| field.to_owned()));
    }
    if faults.is_empty() {
        Ok(())
    } else {
        Err(Refusal::fields(faults))
    }
}

fn change_shape(call: &v1::ChangeBookingRequestRequest) -> Result<(), Refusal> {
    let mask = call.update_mask.as_ref().expect("given");
    let at = "booking_request.constraints";
    let constraints = call
        .booking_request
        .as_ref()
        .and_then(|it| it.constraints.as_ref());
    let names = |path: &str| mask.paths.iter().any(|it| it == path);
    match constraints {
        Some(it) if names("constraints") || names("constraints.requested_period") => {
            check_shape(it, at)
        }
        None if names("constraints") => Err(Refusal::field(at)),
        _ => Ok(()),
    }
}

/// Returns the care unit and the request id under which a write is kept.
pub fn key(call: &Call) -> (String, String) {
    let (scope, id) = match call {
        Call::Replace(it) => return ("careUnits/-".into(), it.request_id.clone()),
        Call::Create(it) => (&it.parent, &it.request_id),
        Call::Patient(it) => (&it.parent, &it.request_id),
        Call::Settings(it) => (
            &it.care_unit_settings.as_ref().expect("given").name,
            &it.request_id,
        ),
        Call::Invite(it) => (&it.name, &it.request_id),
        Call::Change(it) => (
            &it.booking_request.as_ref().expect("given").name,
            &it.request_id,
        ),
        Call::Book(it) => (&it.name, &it.request_id),
        Call::Contact(it) => (&it.name, &it.request_id),
        Call::Cancel(it) => (&it.name, &it.request_id),
        Call::Release(it) => (&it.name, &it.request_id),
        Call::Unbook(it) => (&it.name, &it.request_id),
        Call::Revoke(it) => (&it.name, &it.request_id),
        other => unreachable!("{other:?} has no request id"),
    };
    let unit: Vec<&str> = scope.split('/').take(2).collect();
    (unit.join("/"), id.clone())
}

/// Returns the name and the etag of a call on one request.
fn address(call: &Call) -> (&str, &str) {
    match call {
        Call::Invite(it) => (&it.name, &it.etag),
        Call::Change(it) => (&it.booking_request.as_ref().expect("given").name, &it.etag),
        Call::Book(it) => (&it.name, &it.etag),
        Call::Contact(it) => (&it.name, &it.etag),
        Call::Cancel(it) => (&it.name, &it.etag),
        Call::Release(it) => (&it.name, &it.etag),
        Call::Unbook(it) => (&it.name, &it.etag),
        Call::Revoke(it) => (&it.name, &it.etag),
        other => unreachable!("{other:?} is not about one request"),
    }
}
