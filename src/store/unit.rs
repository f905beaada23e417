//! A unit of work: what it needs to know, and what it decides.

use std::sync::Arc;

use tokio::sync::oneshot;
use uuid::Uuid;

use super::Call;
use super::batch::Records;
use super::error::Error;
use super::row::notification::Due;
use crate::domain::booking_request::{DuplicateKey, RequestKey};
use crate::domain::calendar::Instant;
use crate::domain::hsa_id::HsaId;
use crate::domain::patient::PersonalId;

/// What a unit needs to have loaded before it can decide.
#[derive(Default)]
pub struct Needs {
    /// The call that it carries out, and where the call's id counts.
    pub call: Option<(HsaId, Call)>,
    /// The requests that it reads or changes.
    pub requests: Vec<RequestKey>,
    /// Whether it answers for messages that were leased, whose requests have most likely not changed
    /// since.
    pub answers: bool,
    /// Whether it is carried out by a clock that cannot be trusted too: what it writes is no more
    /// than what has come about, and is dated by the database if this replica's clock is wrong.
    pub at_all_times: bool,
    /// What would make another request a duplicate of the one that it creates.
    pub creates: Option<DuplicateKey>,
    /// The due messages that it would like to have.
    pub claim: Option<Claim>,
    /// The patient whose requests it changes.
    pub patient: Option<PatientScope>,
}

impl Needs {
    /// How many rows it is meant to touch, about.
    pub fn weight(&self) -> usize {
        let claimed = self.claim.as_ref().map_or(0, |claim| claim.limit);
        1 + self.requests.len() + claimed
    }
}

/// Whose requests are changed, where, and by which call.
pub struct PatientScope {
    /// The patient.
    pub personal_id: PersonalId,
    /// The care unit; none means all of them.
    pub care_unit: Option<HsaId>,
    /// The call.
    pub call: Call,
}

impl PatientScope {
    /// The care unit as the caller named it; a dash means all of them.
    pub fn named(&self) -> HsaId {
        let all = || HsaId::trusted("-".to_owned());
        self.care_unit.clone().unwrap_or_else(all)
    }
}

/// What a unit's needs have turned up.
#[derive(Default)]
pub struct Found {
    /// Due messages, the earliest first. More than the unit asked for, since other units of the
    /// batch may take some.
    pub messages: Vec<(RequestKey, Uuid)>,
    /// The requests of the patient.
    pub requests: Vec<RequestKey>,
}

/// Which due messages a unit would like to have, and how many.
pub struct Claim {
    /// Which.
    pub due: Due,
    /// Due at this instant.
    pub now: Instant,
    /// How many at most.
    pub limit: usize,
}

/// A piece of work that is done wholly or not at all.
pub trait Unit: Send {
    /// What it needs.
    fn needs(&self) -> Arc<Needs>;
    /// Decides over the records. May be called again, with other records.
    fn decide(&mut self, records: &mut Records, found: &Found);
    /// Whether anybody waits for the answer.
    fn is_awaited(&self) -> bool;
    /// Answers whoever waits, after the commit or the failure.
    fn answer(self: Box<Self>, committed: Result<(), Error>);
}

/// A unit whose decision yields a `T`.
struct Work<T, D> {
    needs: Arc<Needs>,
    decide: D,
    decided: Option<Result<T, Error>>,
    reply: oneshot::Sender<Result<T, Error>>,
}

/// A unit, and where its answer comes.
pub fn unit<T, D>(needs: Needs, decide: D) -> (Box<dyn Unit>, oneshot::Receiver<Result<T, Error>>)
where
    T: Send + 'static,
    D: FnMut(&mut Records, &Found) -> Result<T, Error> + Send + 'static,
{
    let (reply, answer) = oneshot::channel();
    let unit = Work {
        needs: Arc::new(needs),
        decide,
        decided: None,
        reply,
    };
    (Box::new(unit), answer)
}

impl<T, D> Unit for Work<T, D>
where
    T: Send,
    D: FnMut(&mut Records, &Found) -> Result<T, Error> + Send,
{
    fn needs(&self) -> Arc<Needs> {
        Arc::clone(&self.needs)
    }

    fn decide(&mut self, records: &mut Records, found: &Found) {
        self.decided = Some(match records.date().fault() {
            Some(fault) if !self.needs.at_all_times => Err(fault.into()),
            Some(_) | None => (self.decide)(records, found),
        });
    }

    fn is_awaited(&self) -> bool {
        !self.reply.is_closed()
    }

    fn answer(self: Box<Self>, committed: Result<(), Error>) {
        let answer = match (committed, self.decided) {
            (Ok(()), Some(decided)) => decided,
            (Ok(()), None) => Err(Error::broken("a unit was committed undecided")),
            (Err(error), _) => Err(error),
        };
        // Whoever asked may have gone; what was decided stands all the same.
        let _ = self.reply.send(answer);
    }
}
