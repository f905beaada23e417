//! Schedules that a seed draws: replicas, callers and consumers take their steps one after another, answers are lost,
//! consumers die, and time passes by hand. Then the checker of `crash` compares what they were told with what is there.
//!
//! A step is one call, from the service's handler to the commit, and the next begins when it has ended. So a seed gives the
//! same schedule again, step by step, alone or beside others.
//!
//! `CARE_INVITATION_SCHEDULES` sets the number of schedules, `CARE_INVITATION_SEED` the first seed. A failure prints its seed and
//! the steps.

mod consumers;
mod log;
mod region;
mod schedule;
mod truth;

use std::collections::HashMap;
use std::sync::Arc;

use tokio::task::{Id, JoinSet};

use crate::backend::Kind;
use crate::crash::setting;
use region::Region;
use schedule::{Run, run};

/// Default number of schedules, on SQLite and on PostgreSQL, where each has three replicas.
const SCHEDULES: u64 = 200;
const SCHEDULES_OF_REPLICAS: u64 = 40;
/// Schedules at a time, over one database.
const AT_ONCE: usize = 4;
/// Schedules that are looked at twice.
const REPLAYED: u64 = 8;
/// Violations that a failure prints.
const PRINTED_MAX: usize = 20;

/// Runs schedules beside each other. Returns those that ran, by their seeds.
async fn run_all(region: &Arc<Region>, mut seeds: impl Iterator<Item = u64>) -> HashMap<u64, Run> {
    let (mut running, mut seed_of) = (JoinSet::new(), HashMap::<Id, u64>::new());
    let mut done = HashMap::new();
    loop {
        while running.len() < AT_ONCE
            && let Some(seed) = seeds.next()
        {
            let id = running.spawn(run(region.clone(), seed)).id();
            seed_of.insert(id, seed);
        }
        match running.join_next_with_id().await {
            Some(Ok((id, run))) => done.insert(seed_of[&id], run),
            Some(Err(panicked)) => panic!("seed {}: {panicked}", seed_of[&panicked.id()]),
            None => return done,
        };
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_promises_are_kept_in_every_schedule() {
    let first = setting("CARE_INVITATION_SEED", 0);
    let count = match Kind::of_this_run() {
        Kind::Sqlite => SCHEDULES,
        Kind::Postgres => SCHEDULES_OF_REPLICAS,
    };
    let count = setting("CARE_INVITATION_SCHEDULES", count);
    let region = Arc::new(Region::start().await);
    let (mut steps, mut leases, mut hand_overs) = (0, 0, 0);
    let ran = run_all(&region, first..first + count).await;
    for seed in first..first + count {
        let run = &ran[&seed];
        let violations = &run.violations;
        assert!(
            violations.is_empty(),
            "CARE_INVITATION_SEED={seed} CARE_INVITATION_SCHEDULES=1: {} violations, {:#?}\n{}",
            violations.len(),
            &violations[..violations.len().min(PRINTED_MAX)],
            run.steps.join("\n")
        );
        steps += run.steps.len();
        leases += run.history.leases.len();
        hand_overs += run.history.hand_overs.len();
    }
    println!("{count} schedules, {steps} steps, {leases} leases, {hand_overs} hand-overs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schedule_goes_the_same_way_alone_and_among_others() {
    let region = Arc::new(Region::start().await);
    let among_others = run_all(&region, 0..REPLAYED).await;
    for seed in 0..REPLAYED {
        let alone = run(region.clone(), seed).await;
        assert_eq!(alone.steps, among_others[&seed].steps, "seed {seed}");
    }
}
