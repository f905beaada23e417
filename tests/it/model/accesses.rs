//! The access log as the model has it: an entry for each care unit and outcome of a call, with the patients and, of
//! each, the requests that the call named or was shown.
//!
//! Written from the page on the access log, of what the walk has sent and received.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;

use care_invitation::contract::v1;
use care_invitation::contract::v1::watch_worklist_response::Event;
use prost_types::Timestamp;

use super::calendar::{Instant, from_timestamp};
use super::call::Call;
use super::caller::Caller;
use super::compare::same;
use super::rng::Rng;
use super::rules::Refusal;
use super::service::Answer;
use super::world::World;
use crate::harness::{Harness, within};

/// RPC of the boards, whose messages come when they come.
const WATCH: &str = "WorklistService/WatchWorklist";
/// RPC that takes due notifications.
const STREAM: &str = "NotificationService/StreamDueNotifications";
/// RPC that tells what has changed.
pub const CHANGES: &str = "BookingRequestService/StreamChanges";
/// RPC that reads the access log.
const LIST: &str = "AuditService/ListAccessLog";
/// Status code OK.
const OK: i32 = 0;
/// Maximum readings of the log until the boards have been read to the end.
const READS_MAX: usize = 100;

/// Number, kind and issuer of a patient, by which entries are compared.
type Who = (String, i32, String);
/// The requests of each patient, and those whose patient nobody knows.
type Patients = BTreeMap<Option<Who>, BTreeSet<String>>;

/// An entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Time; none of a message of a board.
    at: Option<Instant>,
    method: String,
    actor: String,
    /// Care unit; may be empty.
    unit: String,
    code: i32,
    patients: Patients,
}

/// One thing that a call has named or was shown.
#[derive(Clone, Default)]
pub struct Fact {
    /// Name of the care unit; may be empty.
    unit: String,
    patient: Option<Who>,
    request: Option<String>,
    /// Status code of the element of a batch; otherwise that of the call.
    code: i32,
}

/// What the access log must hold.
#[derive(Default)]
pub struct Accesses {
    /// Who calls.
    caller: Mutex<Caller>,
    entries: Mutex<Vec<Entry>>,
    /// Requests, with each number that their patients have had.
    numbers: BTreeSet<(String, Who)>,
    /// The number that the patient of each request has now.
    present: BTreeMap<String, Who>,
    /// Numbers, each with one that took its place.
    replaced: BTreeSet<(Who, Who)>,
    /// Numbers that have or had protected identity.
    protected: BTreeSet<Who>,
}

impl Fact {
    /// Returns a request by its name, or by that of something in it.
    pub fn request(name: &str) -> Self {
        let parts: Vec<&str> = name.split('/').take(4).collect();
        Self {
            unit: parts[..2].join("/"),
            request: Some(parts.join("/")),
            ..Self::default()
        }
    }

    /// Returns a patient, in a care unit unless it means all of them.
    pub fn patient(unit: &str, patient: Option<Who>) -> Self {
        let unit = if unit == "careUnits/-" { "" } else { unit };
        Self {
            unit: unit.to_owned(),
            patient,
            ..Self::default()
        }
    }

    /// Returns the same of a patient.
    pub fn of(self, patient: Option<Who>) -> Self {
        Self { patient, ..self }
    }

    /// Returns the same with the outcome of an element.
    fn ended(self, code: i32) -> Self {
        Self { code, ..self }
    }

    /// Returns a request that was shown, with its patient unless that is masked.
    pub fn shown(request: &v1::BookingRequest) -> Self {
        let patient = request.patient.as_ref().map(who_of);
        Self::request(&request.name).of(patient.filter(|it| !it.0.is_empty()))
    }
}

fn who_of(patient: &v1::Patient) -> Who {
    let issuer = patient.issuer.clone();
    (
        patient.personal_id.clone(),
        patient.personal_id_type,
        issuer,
    )
}

pub fn who(identity: &v1::PatientIdentity) -> Who {
    let issuer = identity.issuer.clone();
    (
        identity.personal_id.clone(),
        identity.personal_id_type,
        issuer,
    )
}

/// Returns the patient that a query of worklists names.
pub fn named_in(query: &v1::WorklistQuery) -> Vec<Fact> {
    if query.personal_id.is_empty() {
        return vec![];
    }
    let issuer = query.issuer.clone();
    let patient = (query.personal_id.clone(), query.personal_id_type, issuer);
    vec![Fact::patient("", Some(patient))]
}

impl Accesses {
    /// Lets the calls that follow be those of a caller.
    pub fn call_as(&self, caller: Caller) {
        *self.caller.lock().expect("whole") = caller;
    }

    fn add(&self, entries: impl IntoIterator<Item = Entry>) {
        self.entries.lock().expect("whole").extend(entries);
    }

    /// Adds a message of a board.
    pub fn watched(&self, caller: Caller, event: &v1::WatchWorklistResponse) {
        let fact = match &event.event {
            Some(Event::Upserted(request)) => Fact::shown(request),
            Some(Event::Removed(name)) => Fact::request(name),
            Some(Event::SnapshotComplete(_) | Event::Heartbeat(_)) | None => return,
        };
        self.add(entries(None, WATCH, caller, [fact]));
    }
}

/// Groups what a call was about by care unit and outcome.
fn entries(
    at: Option<Instant>,
    method: &str,
    caller: Caller,
    facts: impl IntoIterator<Item = Fact>,
) -> Vec<Entry> {
    let mut groups: BTreeMap<(String, i32), Patients> = BTreeMap::new();
    for fact in facts {
        let group = groups.entry((fact.unit, fact.code)).or_default();
        group.entry(fact.patient).or_default().extend(fact.request);
    }
    let groups = groups.into_iter();
    groups
        .map(|((unit, code), patients)| Entry {
            at,
            method: method.to_owned(),
            actor: caller.actor().to_owned(),
            unit,
            code,
            patients,
        })
        .collect()
}

impl World {
    /// Adds the entries of a call that has named and was shown this. A patient who was named alone has no entry beside
    /// those of the requests that were found. A request without its patient is that of the only one named, or else its
    /// patient is looked up.
    pub fn log(&self, method: &str, named: Vec<Fact>, shown: Vec<Fact>, code: i32) {
        let of_named: BTreeSet<_> = named.iter().filter_map(|it| it.patient.clone()).collect();
        let only = match of_named.len() {
            1 => of_named.first().cloned(),
            _ => None,
        };
        let found: BTreeSet<_> = shown
            .iter()
            .filter_map(|it| it.patient.clone().or(only.clone()))
            .collect();
        let is_found = |it: &Fact| {
            let alone = it.unit.is_empty() && it.request.is_none();
            alone && it.patient.as_ref().is_some_and(|it| found.contains(it))
        };
        let mut facts: Vec<Fact> = named;
        facts.retain(|it| !is_found(it));
        facts.extend(shown.into_iter().map(|it| match it.patient {
            Some(_) => it,
            None => it.of(only.clone()),
        }));
        for fact in &mut facts {
            if code != OK {
                fact.code = code;
            }
            if fact.patient.is_none()
                && let Some(request) = &fact.request
            {
                fact.patient = self.patient_of(request);
            }
        }
        let caller = *self.accesses.caller.lock().expect("whole");
        self.accesses
            .add(entries(Some(self.now), method, caller, facts));
    }

    /// Keeps the numbers that the patients of requests have now, and who of them has protected identity.
    pub fn keep_numbers(&mut self) {
        let accesses = &mut self.accesses;
        for request in &self.requests {
            let (name, number) = (&request.form.name, who(&request.identity()));
            if request.is_protected() {
                accesses.protected.insert(number.clone());
            }
            let before = accesses.present.insert(name.clone(), number.clone());
            let moved = before.filter(|it| *it != number);
            let moved = moved.map(|before| (before, number.clone()));
            accesses.replaced.extend(moved);
            accesses.numbers.insert((name.clone(), number));
        }
    }

    fn patient_of(&self, name: &str) -> Option<Who> {
        let index = self.find(name).ok()?;
        Some(who(&self.requests[index].identity()))
    }

    /// Adds the entries of a step that the service has answered.
    pub fn log_step(&self, call: &Call, answer: &Result<Answer, Refusal>) {
        let Some(method) = method(call) else { return };
        let code = answer.as_ref().err().map_or(OK, |it| it.code.into());
        let shown = match (call, answer) {
            (_, Err(refusal)) => {
                let named = [named_by(call), duplicate(refusal)].concat();
                return self.log(method, named, vec![], code);
            }
            (Call::Lease(_), Ok(Answer::Due(due))) => {
                for message in due {
                    let issuer = message.issuer.clone();
                    let patient = (
                        message.personal_id.clone(),
                        message.personal_id_type,
                        issuer,
                    );
                    let fact = Fact::request(&message.booking_request).of(Some(patient));
                    self.log(method, vec![], vec![fact], OK);
                }
                return;
            }
            (Call::Batch(calls), Ok(Answer::Batch(answers))) => {
                let mut named = vec![];
                let mut shown = vec![];
                for (call, answer) in calls.iter().zip(answers) {
                    let code = answer.as_ref().err().map_or(OK, |it| it.code.into());
                    let duplicate = answer.as_ref().err().map(duplicate).unwrap_or_default();
                    let facts = [named_by(call), duplicate].concat().into_iter();
                    named.extend(facts.map(|it| it.ended(code)));
                    shown.extend(answer.iter().flat_map(|it| shown_in(call, it)));
                }
                return self.log(method, named, shown, OK);
            }
            (Call::Report(call), Ok(Answer::Reported(results))) => {
                let codes = results
                    .iter()
                    .map(|it| it.error.as_ref().map_or(OK, |it| it.code));
                let named = call.receipts.iter().zip(codes);
                let named = named.map(|(it, code)| Fact::request(&it.name).ended(code));
                return self.log(method, named.collect(), vec![], OK);
            }
            (_, Ok(answer)) => shown_in(call, answer),
        };
        self.log(method, named_by(call), shown, code);
    }

    /// Checks that the access log holds what it must, and nothing else, for an auditor who sees everything; and then for
    /// one patient, and for one who sees a care unit and no protected identities.
    pub async fn check_access_log(
        &self,
        harness: &Harness,
        boards: &mut [super::lists::Board],
        rng: &mut Rng,
        tokens: &super::caller::Tokens,
    ) -> Result<(), String> {
        tokens.audit(harness, true);
        let everything = v1::ListAccessLogRequest::default();
        let mut actual = listed(harness, &everything).await?;
        for _ in 0..READS_MAX {
            let expected = self.accesses.entries.lock().expect("whole").clone();
            let watched = |entries: Vec<Entry>| {
                let entries = self.comparable(entries).into_iter();
                entries.filter(|it| it.method == WATCH).collect::<Vec<_>>()
            };
            if without(&watched(actual.clone()), &watched(expected)).is_empty() {
                break;
            }
            // What a board has been sent and nobody has read yet.
            for board in &mut *boards {
                board.reads_on(self).await?;
            }
            actual = listed(harness, &everything).await?;
        }
        let expected = self.accesses.entries.lock().expect("whole").clone();
        self.compare("the access log", expected.clone(), actual)?;

        let patient = rng.pick(&super::call::patients());
        let query = v1::ListAccessLogRequest {
            identity: Some(patient.clone()),
            ..Default::default()
        };
        let mut actual = listed(harness, &query).await?;
        let patient = Some(who(&patient));
        let mut of_patient = expected.clone();
        of_patient.retain_mut(|it| {
            it.patients.retain(|who, _| *who == patient);
            !it.patients.is_empty()
        });
        // Whose they are is not known for sure.
        of_patient.retain(|it| it.method != WATCH);
        actual.retain(|it| it.method != WATCH);
        self.compare("the access log of a patient", of_patient, actual)?;

        tokens.audit(harness, false);
        let actual = listed(harness, &everything).await?;
        self.check_masked(expected, actual)
    }

    /// Checks what one is shown who sees a care unit and no protected identities.
    fn check_masked(&self, mut expected: Vec<Entry>, actual: Vec<Entry>) -> Result<(), String> {
        expected.retain(|it| Caller::Clerk.sees(&it.unit));
        let hidden = self.hidden();
        // Of a board, an entry of the model may have another number of the patient than that of the service.
        let bare = actual.iter().flat_map(|it| it.patients.keys().flatten());
        let bare: Vec<&Who> = bare.filter(|it| hidden.contains(it)).collect();
        same("the masked identities", &vec![], &bare)?;
        for entry in &mut expected {
            let mut masked = Patients::new();
            for (who, names) in std::mem::take(&mut entry.patients) {
                let shown = who.filter(|it| !hidden.contains(it));
                masked.entry(shown).or_default().extend(names);
            }
            entry.patients = masked;
        }
        self.compare("the access log of a care unit", expected, actual)
    }

    /// Returns the numbers that have or had protected identity, or of which one that took its place has or had it.
    fn hidden(&self) -> BTreeSet<Who> {
        let mut hidden = self.accesses.protected.clone();
        loop {
            let replaced = self.accesses.replaced.iter();
            let more = replaced
                .filter(|(before, after)| hidden.contains(after) && !hidden.contains(before));
            let more: Vec<Who> = more.map(|(before, _)| before.clone()).collect();
            if more.is_empty() {
                return hidden;
            }
            hidden.extend(more);
        }
    }

    /// Compares entries in whatever order.
    fn compare(&self, what: &str, expected: Vec<Entry>, actual: Vec<Entry>) -> Result<(), String> {
        let (expected, actual) = (self.comparable(expected), self.comparable(actual));
        let missing = without(&expected, &actual);
        let surplus = without(&actual, &expected);
        same(what, &missing, &surplus)
    }

    /// Returns entries in a form in which they can be compared. What streams send together may be one entry, and is made
    /// one for each request. A message of a board is dated when it was sent, which may be later than the step that it
    /// tells of, and names its patient by any number that they have had.
    fn comparable(&self, entries: Vec<Entry>) -> Vec<Entry> {
        let mut comparable = vec![];
        let mut streamed = BTreeSet::new();
        for entry in entries {
            match entry.method.as_str() {
                LIST => {}
                WATCH | STREAM | CHANGES => streamed.extend(self.single(entry)),
                _ => comparable.push(entry),
            }
        }
        comparable.extend(streamed);
        comparable.sort();
        comparable
    }

    /// Returns an entry of a stream as one for each request.
    fn single(&self, entry: Entry) -> Vec<Entry> {
        let watches = entry.method == WATCH;
        let mut single = vec![];
        for (patient, names) in &entry.patients {
            for name in names {
                let numbers = &self.accesses.numbers;
                let is_theirs = |it: &Who| numbers.contains(&(name.clone(), it.clone()));
                let patient = patient.clone().filter(|it| !watches || !is_theirs(it));
                single.push(Entry {
                    at: entry.at.filter(|_| !watches),
                    patients: [(patient, [name.clone()].into())].into(),
                    ..entry.clone()
                });
            }
        }
        single
    }
}

/// Returns the entries that the others lack, of each as many.
fn without(entries: &[Entry], others: &[Entry]) -> Vec<Entry> {
    let mut left: BTreeMap<&Entry, usize> = BTreeMap::new();
    for other in others {
        *left.entry(other).or_default() += 1;
    }
    let mut lacking = vec![];
    for entry in entries {
        match left.get_mut(entry) {
            Some(count) if *count > 0 => *count -= 1,
            _ => lacking.push(entry.clone()),
        }
    }
    lacking
}

/// Lists the access log, page by page.
async fn listed(harness: &Harness, query: &v1::ListAccessLogRequest) -> Result<Vec<Entry>, String> {
    let mut call = v1::ListAccessLogRequest {
        page_size: 500,
        ..query.clone()
    };
    let mut entries = vec![];
    loop {
        let answer = within(harness.audit().list_access_log(call.clone())).await;
        let page = answer.map_err(|it| it.to_string())?.into_inner();
        entries.extend(page.entries.into_iter().map(entry));
        if page.next_page_token.is_empty() {
            return Ok(entries);
        }
        call.page_token = page.next_page_token;
    }
}

fn entry(of: v1::AccessLogEntry) -> Entry {
    let at = |it: Timestamp| from_timestamp(&it);
    let mut patients = Patients::new();
    for patient in of.patients {
        let requests = patients.entry(patient.identity.as_ref().map(who));
        requests.or_default().extend(patient.booking_requests);
    }
    assert_eq!(of.subject, super::caller::SUBJECT);
    Entry {
        at: of.event_time.map(at),
        method: of.method,
        actor: of.actor,
        unit: of.care_unit,
        code: of.code,
        patients,
    }
}

/// Returns the service and the RPC of a step, unless it shows and changes no patient's data.
fn method(call: &Call) -> Option<&'static str> {
    Some(match call {
        Call::Create(_) => "BookingRequestService/CreateBookingRequest",
        Call::Get(_) => "BookingRequestService/GetBookingRequest",
        Call::Invite(_) => "BookingRequestService/ChangeToInvitation",
        Call::Change(_) => "BookingRequestService/ChangeBookingRequest",
        Call::Book(_) => "BookingRequestService/RecordBooking",
        Call::Contact(_) => "BookingRequestService/RecordPatientContact",
        Call::Cancel(_) => "BookingRequestService/CancelBookingRequest",
        Call::Release(_) => "BookingRequestService/ReleaseHold",
        Call::Unbook(_) => "BookingRequestService/RecordBookingCancellation",
        Call::Revoke(_) => "BookingRequestService/RevokeInvitation",
        Call::Patient(_) => "BookingRequestService/UpdatePatient",
        Call::Replace(_) => "BookingRequestService/ReplacePersonalId",
        Call::Lease(_) => STREAM,
        Call::Authorize(_) => "NotificationService/AuthorizeDispatch",
        Call::Acknowledge(_) => "NotificationService/AcknowledgeNotifications",
        Call::Report(_) => "NotificationService/ReportDelivery",
        Call::Batch(calls) => match calls[0] {
            Call::Create(_) => "BookingRequestService/BatchCreateBookingRequests",
            Call::Invite(_) => "BookingRequestService/BatchChangeToInvitation",
            Call::Cancel(_) => "BookingRequestService/BatchCancelBookingRequests",
            Call::Release(_) => "BookingRequestService/BatchReleaseHold",
            ref other => unreachable!("{other:?} has no batch"),
        },
        Call::Settings(_) | Call::Advance(_) => return None,
    })
}

/// Returns the request that a refusal names.
fn duplicate(refusal: &Refusal) -> Vec<Fact> {
    let name = refusal.names.0.iter();
    name.map(|it| Fact::request(it)).collect()
}

/// Returns what a step names.
fn named_by(call: &Call) -> Vec<Fact> {
    let request = |name: &str| vec![Fact::request(name)];
    match call {
        Call::Create(call) => {
            let form = call.booking_request.as_ref().expect("given");
            vec![Fact::patient(
                &call.parent,
                form.patient.as_ref().map(who_of),
            )]
        }
        Call::Get(call) => request(&call.name),
        Call::Invite(call) => request(&call.name),
        Call::Change(call) => request(&call.booking_request.as_ref().expect("given").name),
        Call::Book(call) => request(&call.name),
        Call::Contact(call) => request(&call.name),
        Call::Cancel(call) => request(&call.name),
        Call::Release(call) => request(&call.name),
        Call::Unbook(call) => request(&call.name),
        Call::Revoke(call) => request(&call.name),
        Call::Patient(call) => {
            let patient = call.patient.as_ref().map(who_of);
            vec![Fact::patient(&call.parent, patient)]
        }
        Call::Replace(call) => {
            let both = [&call.old_identity, &call.new_identity].into_iter();
            both.map(|it| Fact::patient("", it.as_ref().map(who)))
                .collect()
        }
        Call::Authorize(call) => {
            let leases = call.leases.iter();
            leases.map(|it| Fact::request(&it.name)).collect()
        }
        Call::Acknowledge(call) => {
            let leases = call
                .acknowledgements
                .iter()
                .filter_map(|it| it.lease.as_ref());
            leases.map(|it| Fact::request(&it.name)).collect()
        }
        Call::Report(call) => {
            let receipts = call.receipts.iter();
            receipts.map(|it| Fact::request(&it.name)).collect()
        }
        Call::Lease(_) | Call::Settings(_) | Call::Advance(_) | Call::Batch(_) => vec![],
    }
}

/// Returns what an answer shows. A series is shown as a whole by the call that creates it.
fn shown_in(call: &Call, answer: &Answer) -> Vec<Fact> {
    let names = |names: &[String]| names.iter().map(|it| Fact::request(it)).collect();
    match answer {
        Answer::Request(request) => {
            let shown = Fact::shown(request);
            let series = request.series.as_ref().map_or(&[][..], |it| &it.members);
            let created = series.iter().filter(|_| matches!(call, Call::Create(_)));
            let created = created.map(|name| Fact::request(name).of(shown.patient.clone()));
            let created: Vec<_> = created.collect();
            [vec![shown], created].concat()
        }
        Answer::Names(shown) => names(shown),
        Answer::Moved(moved) => names(&moved.booking_requests),
        Answer::Again(answer) => shown_in(call, answer),
        Answer::Nothing
        | Answer::Settings(_)
        | Answer::Due(_)
        | Answer::Authorized(_)
        | Answer::Acknowledged(_)
        | Answer::Reported(_)
        | Answer::Batch(_) => vec![],
    }
}
