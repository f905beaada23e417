//! Random walks through every call and through time, on the service and on a plain model of it,
//! compared after each step.
//!
//! `CARE_INVITATION_WALKS` sets the number of walks, `CARE_INVITATION_SEED` the first seed. A failure
//! prints the shortest failing walk found, as Rust: put it into `seeds.rs`, so that it is run ever
//! after.

mod accesses;
mod batch;
mod calendar;
mod call;
mod caller;
mod changes;
mod compare;
mod delivery;
mod fields;
mod invariants;
mod lists;
mod message;
mod op;
mod op_generators;
mod patient_side;
mod request;
pub mod rng;
mod rules;
mod seeds;
mod service;
mod settings;
mod show;
mod verbs;
mod walk;
mod world;

use std::env;

use op::Op;
use rng::Rng;
use tokio::task::JoinSet;
use walk::Answers;

/// Default number of walks, and steps in each.
const WALKS: u64 = 60;
const STEPS: usize = 60;
/// Concurrent walks.
const WALKERS: usize = 2;

fn setting(name: &str, or: u64) -> u64 {
    env::var(name).map_or(or, |it| it.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_does_what_the_model_does() {
    let first = setting("CARE_INVITATION_SEED", 0);
    let walks = setting("CARE_INVITATION_WALKS", WALKS);
    let mut seeds = first..first + walks;
    let mut running = JoinSet::new();
    let mut answers = Answers::new();
    loop {
        while running.len() < WALKERS
            && let Some(seed) = seeds.next()
        {
            running.spawn(random(seed));
        }
        let Some(walked) = running.join_next().await else {
            break;
        };
        match walked.expect("walked") {
            Ok(of_walk) => {
                for (answer, count) in of_walk {
                    *answers.entry(answer).or_default() += count;
                }
            }
            Err((seed, failure)) => fail(seed, failure).await,
        }
    }
    let steps: usize = answers.values().sum();
    println!("{walks} walks, {steps} steps: {answers:#?}");
}

#[tokio::test]
async fn walks_that_have_failed_once_fail_no_more() {
    for (number, (start, ops)) in seeds::walks().iter().enumerate() {
        if let Err(failure) = walk::walk(*start, ops).await {
            panic!("walk {number}: {failure}");
        }
    }
}

async fn random(seed: u64) -> Result<Answers, (u64, String)> {
    let (start, ops) = ops(seed);
    walk::walk(start, &ops)
        .await
        .map_err(|failure| (seed, failure))
}

fn ops(seed: u64) -> (usize, Vec<Op>) {
    let mut rng = Rng::new(seed);
    let start = usize::try_from(rng.below(8)).expect("a small number");
    (start, op_generators::walk(&mut rng, STEPS))
}

/// Shrinks the walk to the steps that it needs to fail, and panics.
async fn fail(seed: u64, mut failure: String) {
    let (start, mut ops) = ops(seed);
    let mut cut = ops.len() / 2;
    while cut > 0 {
        let mut at = 0;
        while at < ops.len() {
            let mut fewer = ops.clone();
            fewer.drain(at..(at + cut).min(ops.len()));
            match walk::walk(start, &fewer).await {
                Ok(_) => at += cut,
                Err(found) => {
                    ops = fewer;
                    failure = found;
                }
            }
        }
        cut /= 2;
    }
    let ops: Vec<String> = ops.iter().map(|op| format!("    {op:?},")).collect();
    let ops = ops.join("\n");
    panic!("seed {seed}, cut down: ({start}, vec![\n{ops}\n])\n\n{failure}");
}
