//! The replicas of a schedule, over a database that all schedules share: each has a care unit and clocks of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use care_invitation::auth::caller::{Caller, Validity};
use care_invitation::auth::rights::Rights;
use care_invitation::clock::Clock;
use care_invitation::contract::v1;
use care_invitation::contract::v1::booking_request_service_server::BookingRequestService;
use care_invitation::dispatch::Dispatch;
use care_invitation::domain::RegionPolicy;
use care_invitation::domain::calendar::Instant;
use care_invitation::grpc::Service;
use chrono::TimeDelta;
use sea_orm::{ConnectionTrait, DatabaseConnection, Statement};
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Status};

use crate::backend::{Backend, Kind, connect};
use crate::crash::clients::Call;

/// Replicas over one PostgreSQL. A SQLite file has one.
const REPLICAS: usize = 3;

/// The database, with a store for each replica.
pub struct Region {
    backends: Vec<Backend>,
    /// Counts rows.
    counting: DatabaseConnection,
    care_units: AtomicU64,
}

impl Region {
    pub async fn start() -> Self {
        let first = Backend::empty().await;
        let counting = connect(&first.url()).await;
        let mut backends = vec![first];
        while Kind::of_this_run() == Kind::Postgres && backends.len() < REPLICAS {
            backends.push(backends[0].again().await);
        }
        Self {
            backends,
            counting,
            care_units: AtomicU64::default(),
        }
    }

    /// The name of a care unit that nobody has yet.
    pub fn care_unit(&self) -> String {
        let number = self.care_units.fetch_add(1, Ordering::Relaxed);
        format!("careUnits/SE2321000131-S{number:012}")
    }

    /// A replica on each store, their clocks apart from `now` by so much.
    pub fn replicas(&self, now: Instant, mut ahead: impl FnMut() -> TimeDelta) -> Vec<Replica> {
        let backends = self.backends.iter();
        backends
            .map(|it| Replica::start(it, now + ahead()))
            .collect()
    }

    /// How many requests a care unit has.
    pub async fn rows(&self, care_unit: &str) -> usize {
        let (_, id) = care_unit.split_once('/').expect("a name");
        let sql = format!("SELECT count(*) AS count FROM booking_request WHERE care_unit = '{id}'");
        let statement = Statement::from_string(self.counting.get_database_backend(), sql);
        let row = self.counting.query_one_raw(statement).await;
        let row = row.expect("it answers").expect("one row");
        let count: i64 = row.try_get("", "count").expect("a number");
        usize::try_from(count).expect("not negative")
    }
}

/// One replica of a schedule.
pub struct Replica {
    pub service: Service,
    _trusts_clock: watch::Sender<bool>,
    _stop: DropGuard,
}

impl Replica {
    fn start(backend: &Backend, now: Instant) -> Self {
        let (store, clock) = (backend.store.clone(), Clock::sandbox(now));
        let (trusts_clock, trusted) = watch::channel(true);
        let (policy, heartbeat) = (RegionPolicy::default(), Duration::from_secs(60));
        let stop = CancellationToken::new();
        let service = Service {
            dispatch: Dispatch::start(
                store.clone(),
                clock.clone(),
                policy,
                heartbeat,
                trusted,
                stop.clone(),
            ),
            store,
            clock,
            policy,
            changes_days: 35,
        };
        Self {
            service,
            _trusts_clock: trusts_clock,
            _stop: stop.drop_guard(),
        }
    }

    /// Lets time pass.
    pub fn advance(&self, by: TimeDelta) {
        let clock = &self.service.clock;
        clock.advance(clock.now() + by).expect("forward");
    }

    /// Makes a write. Returns the name of its request.
    pub async fn write(&self, call: &Call) -> Result<String, Status> {
        let by = &self.service;
        let request = match call.clone() {
            Call::Create(call) => {
                let answer = by.create_booking_request(asked(call)).await?;
                answer.into_inner().booking_request
            }
            Call::Invite(call) => {
                let answer = by.change_to_invitation(asked(call)).await?;
                answer.into_inner().booking_request
            }
            Call::Change(call) => {
                let answer = by.change_booking_request(asked(call)).await?;
                answer.into_inner().booking_request
            }
            Call::Book(call) => {
                let answer = by.record_booking(asked(call)).await?;
                answer.into_inner().booking_request
            }
            Call::Decline(call) => {
                let answer = by.record_patient_contact(asked(call)).await?;
                answer.into_inner().booking_request
            }
            Call::Cancel(call) => {
                let answer = by.cancel_booking_request(asked(call)).await?;
                answer.into_inner().booking_request
            }
            Call::Release(call) => {
                let answer = by.release_hold(asked(call)).await?;
                answer.into_inner().booking_request
            }
        };
        Ok(request.expect("the request").name)
    }
}

/// A call of somebody from whom nothing is hidden.
pub fn asked<T>(call: T) -> Request<T> {
    let rights = Arc::new(Rights::anonymous());
    let mut request = Request::new(call);
    let caller = Arc::new(Caller::new(rights, None, Validity::Unlimited));
    request.extensions_mut().insert(caller);
    request
}

/// The query for a list of a care unit.
pub fn query(care_unit: &str, list: v1::Worklist) -> v1::WorklistQuery {
    v1::WorklistQuery {
        worklists: vec![list.into()],
        care_units: vec![care_unit.into()],
        ..Default::default()
    }
}
