//! Crashes: the program is killed with SIGKILL at random moments, and started again, while clients write and
//! consumers deliver at full speed; then a checker compares what they were told with what is there.
//!
//! `CARE_INVITATION_KILLS` sets the number of kills, `CARE_INVITATION_SEED` the seed, which a failure prints. The seed
//! repeats what clients and consumers mean to do and when the kills come, not how the machine runs them.

mod bad_histories;
pub mod checker;
pub mod clients;
mod consumers;
pub mod history;
mod postgresql;
mod servers;
pub mod truth;

use std::env;
use std::sync::Arc;
use std::time::Duration;

use care_invitation::store::access_log::verify::verify;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::backend::{Backend, Kind};
use crate::make::at;
use crate::model::rng::Rng;
use checker::check;
use clients::Clients;
use consumers::{Consumers, Habits};
use history::Recorder;
use servers::Servers;

const NOW: &str = "2026-03-02T09:00:00Z";
/// Default number of kills.
const KILLS: u64 = 3;
/// Clients that write at once.
const CLIENTS: usize = 4;
/// Consumers that deliver at once.
const CONSUMERS: usize = 3;
/// Milliseconds from a start to the kill after it: at least, and at most so many more.
const LIFE_MIN: u64 = 150;
const LIFE_MORE: u64 = 750;
/// How often the clock goes one second forward under load: a lease of ten seconds lasts half of one.
const TICK: Duration = Duration::from_millis(50);
/// How long nothing may happen before leases that nobody works on are let run out.
const QUIET: Duration = Duration::from_millis(250);
/// Longer than any back-off.
const LEASE_OVER: chrono::Duration = chrono::Duration::minutes(61);
/// Times that leases are let run out before what still waits is a fault.
const ROUNDS_MAX: usize = 12;
/// Days from one look at what has fallen due to the next, and looks: reminders, and the end of every period.
const DAYS: i64 = 15;
const LOOKS: usize = 8;

/// Of a hundred consumers so many die at each step of a delivery.
const DEATHS_PERCENT: u64 = 4;
/// How long all may take to become quiet.
const QUIET_MAX: Duration = Duration::from_secs(120);
/// Violations for which a failure prints what was seen.
const EXPLAINED_MAX: usize = 3;
/// Violations that a failure prints.
const PRINTED_MAX: usize = 20;

/// A number from the environment.
pub fn setting(name: &str, or: u64) -> u64 {
    env::var(name).map_or(or, |it| it.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_and_nothing_wrong_when_the_program_is_killed() {
    let (seed, kills) = settings();
    let backend = backend().await;
    let url = backend.as_ref().map(Backend::url);
    let run = Run::start(1, url, seed, 0).await;
    let mut rng = Rng::new(seed);
    for _ in 0..kills {
        life(&mut rng).await;
        run.servers.kill(0).await;
        run.servers.start_again(0).await;
    }
    run.end(LOOKS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_and_nothing_wrong_when_consumers_die_at_any_step() {
    let (seed, kills) = settings();
    let backend = backend().await;
    let run = Run::start(1, backend.as_ref().map(Backend::url), seed, DEATHS_PERCENT).await;
    let dying = async {
        while (run.consumers.deaths() as u64) < kills {
            sleep(TICK).await;
        }
    };
    let died = timeout(QUIET_MAX, dying).await;
    assert!(died.is_ok(), "seed {seed}: consumers die");
    run.end(0).await;
}

/// The seed and the number of kills.
fn settings() -> (u64, u64) {
    let seed = setting("CARE_INVITATION_SEED", u64::from(std::process::id()));
    (seed, setting("CARE_INVITATION_KILLS", KILLS))
}

/// A database on PostgreSQL, when the run is about that; it goes when dropped.
async fn backend() -> Option<Backend> {
    match Kind::of_this_run() {
        Kind::Sqlite => None,
        Kind::Postgres => Backend::postgres().await,
    }
}

/// Waits for as long as a process is to live.
async fn life(rng: &mut Rng) {
    sleep(Duration::from_millis(LIFE_MIN + rng.below(LIFE_MORE))).await;
}

/// A load on servers, and who makes it.
struct Run {
    seed: u64,
    servers: Arc<Servers>,
    recorder: Arc<Recorder>,
    clients: Arc<Clients>,
    consumers: Arc<Consumers>,
    writing: JoinSet<()>,
    consuming: JoinSet<()>,
    ticking: AbortOnDropHandle<()>,
    stop: CancellationToken,
}

impl Run {
    /// Starts so many servers over a database, and the load, whose consumers die so often at each step.
    async fn start(count: usize, url: Option<String>, seed: u64, deaths_percent: u64) -> Self {
        let mut rng = Rng::new(!seed);
        let servers = Arc::new(Servers::start(count, url, at(NOW)).await);
        let recorder = Arc::new(Recorder::start());
        let clients = Arc::new(Clients::new(servers.clone(), recorder.clone()));
        let consumers = Arc::new(Consumers::new(servers.clone(), recorder.clone()));
        let stop = CancellationToken::new();
        let (mut writing, mut consuming) = (JoinSet::new(), JoinSet::new());
        for _ in 0..CLIENTS {
            let (clients, stop, rng) = (clients.clone(), stop.clone(), Rng::new(rng.next()));
            writing.spawn(async move { clients.write(rng, stop).await });
        }
        for number in 0..CONSUMERS {
            let habits = Habits {
                server: number,
                lease_seconds: 10 + i64::try_from(number).expect("a small number") * 20,
                always_authorizes: number % 2 == 0,
                deaths_percent,
            };
            consuming.spawn(consumers.clone().consume(habits, Rng::new(rng.next())));
        }
        let ticked = servers.clone();
        let ticking = AbortOnDropHandle::new(tokio::spawn(async move {
            loop {
                ticked.advance(chrono::Duration::seconds(1)).await;
                sleep(TICK).await;
            }
        }));
        Self {
            seed,
            servers,
            recorder,
            clients,
            consumers,
            writing,
            consuming,
            ticking,
            stop,
        }
    }

    /// Ends the load, lets everything that is due be delivered, and checks all promises; and, if it is to look so
    /// often at what falls due later, once more after that.
    async fn end(mut self, looks: usize) {
        self.stop.cancel();
        self.writing.join_all().await;
        drop(self.ticking);
        let run = Ended {
            seed: self.seed,
            servers: self.servers,
            recorder: self.recorder,
            clients: self.clients,
        };
        run.settle().await;
        run.repeat().await;
        run.check("after the load").await;
        for look in 0..looks {
            run.servers.advance(chrono::Duration::days(DAYS)).await;
            run.settle().await;
            if look + 1 == looks {
                run.check("in the end").await;
            }
        }
        self.consuming.abort_all();
        while let Some(ended) = self.consuming.join_next().await {
            assert!(
                ended.is_err_and(|it| it.is_cancelled()),
                "a consumer has ended"
            );
        }
        let seen = run
            .recorder
            .read(|it| (it.writes.len(), it.leases.len(), it.hand_overs.len()));
        println!(
            "seed {}: {} writes, {} leases, {} hand-overs",
            run.seed, seen.0, seen.1, seen.2
        );
    }
}

/// A load that has ended.
struct Ended {
    seed: u64,
    servers: Arc<Servers>,
    recorder: Arc<Recorder>,
    clients: Arc<Clients>,
}

impl Ended {
    /// Waits until nothing is due any more. Leases that nobody works on run out meanwhile.
    async fn settle(&self) {
        for _ in 0..ROUNDS_MAX {
            self.quiet().await;
            if !truth::waits(&self.servers).await {
                return;
            }
            self.servers.advance(LEASE_OVER).await;
        }
    }

    /// Waits until nothing has happened for a while.
    async fn quiet(&self) {
        let quiet = async {
            let mut before = usize::MAX;
            loop {
                let now = self.recorder.read(history::History::len);
                if now == before {
                    return;
                }
                before = now;
                sleep(QUIET).await;
            }
        };
        assert!(
            timeout(QUIET_MAX, quiet).await.is_ok(),
            "seed {}: it never ends",
            self.seed
        );
    }

    /// Makes every call once more that was answered.
    async fn repeat(&self) {
        let mut repeating = JoinSet::new();
        for part in 0..CLIENTS {
            let clients = self.clients.clone();
            repeating.spawn(async move { clients.repeat(part, CLIENTS).await });
        }
        repeating.join_all().await;
    }

    async fn check(&self, when: &str) {
        let history = self.recorder.read(Clone::clone);
        let done = history.writes.iter().filter_map(|it| it.done());
        let mut names: Vec<_> = done.map(str::to_owned).collect();
        names.sort_unstable();
        names.dedup();
        let truth = truth::read(&self.servers, names).await;
        let violations = check(&history, &truth);
        let seed = self.seed;
        for violation in violations.iter().take(EXPLAINED_MAX) {
            println!("{violation:?}\n{:#?}", history.about(&violation.what));
        }
        assert!(
            violations.is_empty(),
            "seed {seed}, {when}: {} violations, {:#?}",
            violations.len(),
            &violations[..violations.len().min(PRINTED_MAX)]
        );
        assert_eq!(self.servers.faults(), [""; 0], "seed {seed}: the log");
        // A file that is served cannot be verified.
        if self.servers.url().starts_with("postgres") {
            let log = verify(self.servers.url(), &[], &mut |_, _, _| ()).await;
            let findings = log.expect("read").findings;
            assert_eq!(findings, [], "seed {seed}, {when}: the access log");
        }
    }
}
