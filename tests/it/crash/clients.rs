//! What staff and booking systems do: writes, each repeated under its `request_id` until it is answered.

use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use care_invitation::contract::v1;
use care_invitation::contract::v1::booking_request_service_client::BookingRequestServiceClient;
use prost_types::FieldMask;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::history::{Action, Answer, Recorder, Span, Write};
use super::servers::Servers;
use crate::make;
use crate::model::rng::Rng;

/// How long a client waits before it comes again.
const PAUSE: Duration = Duration::from_millis(20);
/// How long a client waits for an answer before it asks another server.
pub const ANSWER_MAX: Duration = Duration::from_secs(2);
/// Tries of a write without an answer, before it is given up. A server starts again in a second.
const TRIES_MAX: usize = 2_000;
/// Requests that clients still know of, at most.
const KNOWN_MAX: usize = 64;
/// When the visits begin that are booked.
const VISIT: &str = "2026-03-20T09:00:00Z";

/// A call, as it is made again.
#[derive(Clone)]
pub enum Call {
    Create(v1::CreateBookingRequestRequest),
    Invite(v1::ChangeToInvitationRequest),
    Change(v1::ChangeBookingRequestRequest),
    Book(v1::RecordBookingRequest),
    Decline(v1::RecordPatientContactRequest),
    Cancel(v1::CancelBookingRequestRequest),
    Release(v1::ReleaseHoldRequest),
}

impl Call {
    pub fn action(&self) -> Action {
        match self {
            Self::Create(_) => Action::Create,
            Self::Invite(_) => Action::Invite,
            Self::Change(_) => Action::Change,
            Self::Book(_) => Action::Book,
            Self::Decline(_) => Action::Decline,
            Self::Cancel(_) => Action::Cancel,
            Self::Release(_) => Action::Release,
        }
    }

    pub fn request_id(&self) -> &str {
        match self {
            Self::Create(call) => &call.request_id,
            Self::Invite(call) => &call.request_id,
            Self::Change(call) => &call.request_id,
            Self::Book(call) => &call.request_id,
            Self::Decline(call) => &call.request_id,
            Self::Cancel(call) => &call.request_id,
            Self::Release(call) => &call.request_id,
        }
    }

    async fn send(&self, channel: Channel) -> Result<String, Status> {
        let mut client = BookingRequestServiceClient::new(channel);
        let request = match self.clone() {
            Self::Create(call) => {
                client
                    .create_booking_request(call)
                    .await?
                    .into_inner()
                    .booking_request
            }
            Self::Invite(call) => {
                client
                    .change_to_invitation(call)
                    .await?
                    .into_inner()
                    .booking_request
            }
            Self::Change(call) => {
                client
                    .change_booking_request(call)
                    .await?
                    .into_inner()
                    .booking_request
            }
            Self::Book(call) => {
                client
                    .record_booking(call)
                    .await?
                    .into_inner()
                    .booking_request
            }
            Self::Decline(call) => {
                client
                    .record_patient_contact(call)
                    .await?
                    .into_inner()
                    .booking_request
            }
            Self::Cancel(call) => {
                client
                    .cancel_booking_request(call)
                    .await?
                    .into_inner()
                    .booking_request
            }
            Self::Release(call) => {
                client
                    .release_hold(call)
                    .await?
                    .into_inner()
                    .booking_request
            }
        };
        Ok(request.expect("the request").name)
    }
}

/// Who writes, and what they know.
pub struct Clients {
    servers: Arc<Servers>,
    recorder: Arc<Recorder>,
    /// Names of requests that were created last.
    known: Mutex<Vec<String>>,
    /// Every call that was answered, in the order of the history's writes.
    calls: Mutex<Vec<Call>>,
}

impl Clients {
    pub fn new(servers: Arc<Servers>, recorder: Arc<Recorder>) -> Self {
        Self {
            servers,
            recorder,
            known: Mutex::default(),
            calls: Mutex::default(),
        }
    }

    /// Writes until it is told to stop, and until its last write is answered.
    pub async fn write(&self, mut rng: Rng, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let is_protected = rng.chance(15);
            let call = create(&mut rng, is_protected);
            let about = call.request_id.clone();
            let created = self
                .answered(Call::Create(call), about, is_protected, &mut rng)
                .await;
            let Some(mut name) = created else {
                continue;
            };
            self.learn(&name);
            for _ in 0..rng.below(4) {
                if rng.chance(30) {
                    name = rng.pick(&self.known.lock().expect("no test panics in here"));
                }
                let call = next(&mut rng, &name, VISIT);
                self.answered(call, name.clone(), false, &mut rng).await;
            }
        }
    }

    fn learn(&self, name: &str) {
        let mut known = self.known.lock().expect("no test panics in here");
        if known.len() == KNOWN_MAX {
            known.remove(0);
        }
        known.push(name.to_owned());
    }

    /// Makes a call until it is answered, and writes the answer down. Returns the name if it was done.
    async fn answered(
        &self,
        call: Call,
        about: String,
        protects: bool,
        rng: &mut Rng,
    ) -> Option<String> {
        let began = self.recorder.now();
        let answer = self.answer(&call, rng.below(16)).await;
        let done = match &answer {
            Answer::Done(name) => Some(name.clone()),
            Answer::Refused(_) | Answer::Faulty(_) => None,
        };
        let span = Span {
            began,
            ended: self.recorder.now(),
        };
        let write = Write {
            request_id: call.request_id().to_owned(),
            action: call.action(),
            about,
            protects,
            span,
            clock: self.servers.now().timestamp(),
            answers: vec![answer],
        };
        let mut calls = self.calls.lock().expect("no test panics in here");
        calls.push(call);
        self.recorder.add(|history| history.writes.push(write));
        done
    }

    /// The answer of a call, which is made again until it has one, by any server.
    async fn answer(&self, call: &Call, first: u64) -> Answer {
        let first = usize::try_from(first).expect("a small number");
        for server in first..first + TRIES_MAX {
            let sent = call.send(self.servers.channel(server).await);
            match timeout(ANSWER_MAX, sent).await {
                Err(_elapsed) => continue,
                Ok(Ok(name)) => return Answer::Done(name),
                Ok(Err(status)) => {
                    if let Some(answer) = judged(&status) {
                        return answer;
                    }
                }
            }
            sleep(PAUSE).await;
        }
        Answer::Faulty(format!("nothing, {TRIES_MAX} times"))
    }

    /// Makes every call once more that was done, and writes the answers down.
    pub async fn repeat(&self, quarter: usize, of: usize) {
        let calls = self.calls.lock().expect("no test panics in here").clone();
        for (at, call) in calls.iter().enumerate().skip(quarter).step_by(of) {
            let is_done = self
                .recorder
                .read(|history| history.writes[at].done().is_some());
            if is_done {
                let answer = self.answer(call, at as u64).await;
                self.recorder
                    .add(|history| history.writes[at].answers.push(answer));
            }
        }
    }
}

/// What a failure says; none when the call may be made again.
pub fn judged(status: &Status) -> Option<Answer> {
    let details = status.get_error_details();
    // A connection that broke has no reason.
    let reason = &details.error_info()?.reason;
    match status.code() {
        Code::Unavailable | Code::Aborted | Code::ResourceExhausted | Code::DeadlineExceeded => {
            None
        }
        Code::FailedPrecondition | Code::AlreadyExists => Some(Answer::Refused(reason.clone())),
        other => Some(Answer::Faulty(format!(
            "{other:?} {reason} {}",
            status.message()
        ))),
    }
}

/// A creation of a request, or of an invitation whose first message is due at once, under a referral of its own.
fn create(rng: &mut Rng, is_protected: bool) -> v1::CreateBookingRequestRequest {
    let start = 3 + rng.below(26);
    let end = [
        format!("2026-03-{:02}", start + 1),
        "2026-04-02".into(),
        "2026-04-20".into(),
        "2026-06-12".into(),
    ];
    let mut form = make::wire_form(&format!("2026-03-{start:02}"), &rng.pick(&end));
    let call_id = make::request_id();
    form.origin = Some(make::wire_referral(&call_id));
    if rng.chance(25) && !is_protected {
        form.invitation = false;
    }
    if is_protected {
        let patient = form.patient.as_mut().expect("a patient");
        patient.set_protection(v1::Protection::ConfidentialityMarked);
    }
    v1::CreateBookingRequestRequest {
        request_id: call_id,
        ..make::wire_create(form)
    }
}

/// What happens to a request next; the visit that is booked begins then.
pub fn next(rng: &mut Rng, name: &str, visit: &str) -> Call {
    let of = [
        (30, Action::Book),
        (15, Action::Cancel),
        (10, Action::Decline),
        (20, Action::Invite),
        (15, Action::Change),
        (15, Action::Release),
    ];
    match rng.weighted(&of) {
        Action::Book => {
            let mut call = make::wire_booking(name, visit);
            let booking = call.booking.as_mut().expect("a booking");
            booking.booking_id.clone_from(&call.request_id);
            Call::Book(call)
        }
        Action::Cancel => Call::Cancel(make::wire_cancel(name)),
        Action::Decline => Call::Decline(v1::RecordPatientContactRequest {
            name: name.into(),
            request_id: make::request_id(),
            outcome: v1::ContactOutcome::Declined.into(),
            ..Default::default()
        }),
        Action::Invite => Call::Invite(make::wire_invite(name)),
        Action::Release => Call::Release(v1::ReleaseHoldRequest {
            name: name.into(),
            request_id: make::request_id(),
            comment: "the patient was called".into(),
            ..Default::default()
        }),
        Action::Change | Action::Create => {
            let request_id = make::request_id();
            Call::Change(v1::ChangeBookingRequestRequest {
                booking_request: Some(v1::BookingRequest {
                    name: name.into(),
                    purpose: request_id.clone(),
                    ..Default::default()
                }),
                update_mask: Some(FieldMask {
                    paths: vec!["purpose".into()],
                }),
                request_id,
                reason: v1::ChangeReason::UnitRequest.into(),
                ..Default::default()
            })
        }
    }
}
