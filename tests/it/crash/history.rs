//! What clients and consumers have been told, with the times at which they asked and were answered: all that a
//! checker may know beside what the service answers in the end.

use std::sync::Mutex;
use std::time::Instant;

use care_invitation::contract::v1;
use prost_types::Timestamp;

use crate::consumer::sent;

/// Microseconds since the run began, on the machine on which every client and consumer runs.
pub type Micros = u64;

/// Seconds of the service's clock, since 1970.
pub type Seconds = i64;

/// When a call was made, and when its answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub began: Micros,
    pub ended: Micros,
}

/// What a write does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    Create,
    Invite,
    Change,
    Book,
    Decline,
    Cancel,
    Release,
}

impl Action {
    pub const ALL: [Self; 7] = [
        Self::Create,
        Self::Invite,
        Self::Change,
        Self::Book,
        Self::Decline,
        Self::Cancel,
        Self::Release,
    ];

    /// Whether nothing but a withdrawal leaves after it.
    pub fn settles(self) -> bool {
        match self {
            Self::Book | Self::Decline | Self::Cancel => true,
            Self::Create | Self::Invite | Self::Change | Self::Release => false,
        }
    }

    /// Whether it takes back what is leased, so that it may be leased again.
    pub fn revokes(self) -> bool {
        match self {
            Self::Change | Self::Invite => true,
            Self::Create | Self::Book | Self::Decline | Self::Cancel | Self::Release => false,
        }
    }
}

/// Answer to one try of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Done, on the request of this name.
    Done(String),
    /// Refused for this reason; nothing was done.
    Refused(String),
    /// An answer that no client may ever be given.
    Faulty(String),
}

/// A write, until it was answered. A try without an answer is followed by another with the same `request_id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    pub request_id: String,
    pub action: Action,
    /// The referral of a creation, the name of the request otherwise.
    pub about: String,
    /// Whether it creates a request of a patient with protected identity.
    pub protects: bool,
    /// From the first try to the first answer.
    pub span: Span,
    /// What the service's clock showed at the answer.
    pub clock: Seconds,
    /// The answers of all tries that were answered, the first one first.
    pub answers: Vec<Answer>,
}

impl Write {
    /// Returns the name of the request, if the write is done.
    pub fn done(&self) -> Option<&str> {
        match self.answers.first() {
            Some(Answer::Done(name)) => Some(name),
            Some(Answer::Refused(_) | Answer::Faulty(_)) | None => None,
        }
    }
}

/// A lease, as it came to a consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub message: String,
    pub token: String,
    pub received: Micros,
    pub begins: Seconds,
    pub ends: Seconds,
    pub is_withdrawal: bool,
    pub possible_repeat: bool,
    /// Whether the patient has protected identity.
    pub is_protected: bool,
}

/// A call that asks to hand a message over now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorization {
    pub message: String,
    pub token: String,
    pub is_withdrawal: bool,
    pub span: Span,
    /// When the permission ends; none when it was refused.
    pub until: Option<Seconds>,
}

/// What a consumer says of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Sent,
    Retry,
    Unreachable,
}

impl Outcome {
    /// The acknowledgement that says it. `send_time` is when it was handed over, of one that was.
    pub fn acknowledgement(
        self,
        due: &v1::DueNotification,
        send_time: impl FnOnce() -> Option<Timestamp>,
    ) -> v1::Acknowledgement {
        let mut acknowledgement = sent(due);
        match self {
            Self::Sent => acknowledgement.send_time = send_time(),
            Self::Retry => {
                acknowledgement.set_outcome(v1::acknowledgement::Outcome::Retry);
                acknowledgement.retry_delay = Some(prost_types::Duration {
                    seconds: 1,
                    nanos: 0,
                });
            }
            Self::Unreachable => {
                acknowledgement.set_outcome(v1::acknowledgement::Outcome::Unreachable);
            }
        }
        acknowledgement
    }
}

/// An acknowledgement. While it has no answer its span ends with [`Micros::MAX`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    pub message: String,
    pub token: String,
    pub outcome: Outcome,
    pub span: Span,
    pub is_recorded: bool,
}

/// The hand-over of a message to the patient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandOver {
    pub message: String,
    pub at: Micros,
    /// What the service's clock showed.
    pub clock: Seconds,
}

/// All that was seen from outside.
#[derive(Clone, Debug, Default)]
pub struct History {
    pub writes: Vec<Write>,
    pub leases: Vec<Lease>,
    pub authorizations: Vec<Authorization>,
    pub acknowledgements: Vec<Acknowledgement>,
    pub hand_overs: Vec<HandOver>,
}

impl History {
    /// All that was seen of what a text names, by its beginning.
    pub fn about(&self, text: &str) -> Vec<String> {
        let message = |name: &str| text.contains(name);
        let mut seen: Vec<(Micros, String)> = Vec::new();
        let writes = self
            .writes
            .iter()
            .filter(|it| text.contains(it.done().unwrap_or(&it.about)));
        seen.extend(writes.map(|it| (it.span.began, format!("{it:?}"))));
        let leases = self.leases.iter().filter(|it| message(&it.message));
        seen.extend(leases.map(|it| (it.received, format!("{it:?}"))));
        let permissions = self.authorizations.iter().filter(|it| message(&it.message));
        seen.extend(permissions.map(|it| (it.span.began, format!("{it:?}"))));
        let answers = self
            .acknowledgements
            .iter()
            .filter(|it| message(&it.message));
        seen.extend(answers.map(|it| (it.span.began, format!("{it:?}"))));
        let hand_overs = self.hand_overs.iter().filter(|it| message(&it.message));
        seen.extend(hand_overs.map(|it| (it.at, format!("{it:?}"))));
        seen.sort();
        seen.into_iter().map(|(_, it)| it).collect()
    }

    /// How much has been seen.
    pub fn len(&self) -> usize {
        self.writes.len()
            + self.leases.len()
            + self.authorizations.len()
            + self.acknowledgements.len()
            + self.hand_overs.len()
    }
}

/// Writes down what everybody sees, by one clock.
pub struct Recorder {
    began: Instant,
    history: Mutex<History>,
}

impl Recorder {
    pub fn start() -> Self {
        Self {
            began: Instant::now(),
            history: Mutex::default(),
        }
    }

    pub fn now(&self) -> Micros {
        u64::try_from(self.began.elapsed().as_micros()).expect("a run is short")
    }

    pub fn add<T>(&self, add: impl FnOnce(&mut History) -> T) -> T {
        add(&mut self.history.lock().expect("no test panics in here"))
    }

    /// What has been seen by now.
    pub fn read<T>(&self, read: impl FnOnce(&History) -> T) -> T {
        read(&self.history.lock().expect("no test panics in here"))
    }
}

/// The name of the request that a message is of.
pub fn request_of(message: &str) -> &str {
    let (request, _) = message
        .split_once("/notifications/")
        .expect("a message's name");
    request
}
