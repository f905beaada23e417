//! Callers: as many as are told, each as fast as it is answered; or calls on a fixed schedule,
//! whether or not those before have been answered.
//!
//! On a schedule a call's latency counts from the instant at which it was to be made. When the
//! server stalls, the calls that should have been made meanwhile show it, instead of being left
//! out.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::Outcome;
use crate::sample::{Latencies, Sample};

/// How long is warmed up before a measurement.
const WARM_UP: Duration = Duration::from_secs(1);
/// How many scheduled calls are under way at once at the most, unless more are asked for; those beyond wait, and their
/// waiting counts. Below what the service turns away.
const UNDER_WAY_MAX: usize = 1_024;
/// The shortest sleep between two scheduled calls: waking up more often would itself be load.
const NAP_MIN: Duration = Duration::from_micros(200);
/// How long before the first scheduled call everything is made ready for it.
const LEAD: Duration = Duration::from_millis(5);
/// What is to be stopped must be within this time.
const STOPPED_WITHIN: Duration = Duration::from_secs(600);

/// Has so many callers make one call after the other for a time. Each call is handed its caller's
/// number.
///
/// # Errors
///
/// The first call that fails.
pub async fn closed<F>(
    callers: usize,
    seconds: f64,
    call: impl Fn(usize) -> F + Clone + Send + 'static,
) -> Outcome<Sample>
where
    F: Future<Output = Outcome<()>> + Send,
{
    let begin = Instant::now() + WARM_UP.min(Duration::from_secs_f64(seconds));
    let end = begin + Duration::from_secs_f64(seconds);
    let mut tasks = JoinSet::new();
    for caller in 0..callers {
        let call = call.clone();
        tasks.spawn(async move {
            let mut latencies = Latencies::default();
            loop {
                let started = Instant::now();
                if started >= end {
                    return Ok(latencies);
                }
                call(caller).await?;
                let ended = Instant::now();
                if begin <= started && ended <= end {
                    latencies.record(ended - started);
                }
            }
        });
    }
    let mut latencies = Latencies::default();
    while let Some(ended) = tasks.join_next().await {
        let of_one: Outcome<Latencies> = ended?;
        latencies.add(&of_one?);
    }
    Ok(Sample {
        seconds,
        done: latencies.count(),
        latencies,
    })
}

/// When calls are made that do not wait for each other.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// How many a second.
    pub rate: f64,
    /// How long before they count.
    pub warm_up: Duration,
    /// How long they count, in seconds, unless they are stopped before.
    pub seconds: f64,
    /// How many are under way at once at the most.
    pub under_way_max: usize,
    /// Stops them.
    pub stop: CancellationToken,
}

impl Schedule {
    /// At this rate for a time, after warming up.
    pub fn new(rate: f64, seconds: f64) -> Self {
        Self {
            rate,
            warm_up: WARM_UP.min(Duration::from_secs_f64(seconds)),
            seconds,
            under_way_max: UNDER_WAY_MAX,
            stop: CancellationToken::new(),
        }
    }

    /// At this rate until it is stopped, counted from the first on.
    pub fn until(rate: f64, stop: CancellationToken) -> Self {
        Self {
            rate,
            warm_up: Duration::ZERO,
            seconds: STOPPED_WITHIN.as_secs_f64(),
            under_way_max: UNDER_WAY_MAX,
            stop,
        }
    }
}

/// Makes calls on a schedule. Each is handed its number and the instant that it counts from.
///
/// # Errors
///
/// The first call that fails.
pub async fn scheduled<F>(
    schedule: Schedule,
    call: impl Fn(usize, Instant) -> F + Clone + Send + 'static,
) -> Outcome<Sample>
where
    F: Future<Output = Outcome<()>> + Send + 'static,
{
    let begin = Instant::now() + LEAD;
    let measured_from = begin + schedule.warm_up;
    let taken = Arc::new(Mutex::new(Latencies::default()));
    let places = Arc::new(Semaphore::new(schedule.under_way_max));
    let first_failure = Arc::new(Mutex::new(None));
    let mut arrivals = pace(begin, schedule);
    let mut tasks = JoinSet::new();
    while let Some((number, at)) = arrivals.recv().await {
        let (call, places) = (call.clone(), Arc::clone(&places));
        let (taken, first_failure) = (Arc::clone(&taken), Arc::clone(&first_failure));
        tasks.spawn(async move {
            let _place = places.acquire().await;
            let answer = call(number, at).await;
            let latency = at.elapsed();
            match answer {
                Ok(()) if at >= measured_from => lock(&taken).record(latency),
                Ok(()) => {}
                Err(error) => {
                    lock(&first_failure).get_or_insert(error);
                }
            }
        });
        while tasks.try_join_next().is_some() {}
    }
    let seconds = measured_from.elapsed().as_secs_f64();
    tasks.join_all().await;
    if let Some(error) = lock(&first_failure).take() {
        return Err(error);
    }
    let latencies = lock(&taken).clone();
    Ok(Sample {
        seconds,
        done: latencies.count(),
        latencies,
    })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Says when each call is to be made, as it is to be made. From a thread of its own, because the
/// runtime's timers count in whole milliseconds.
fn pace(begin: Instant, schedule: Schedule) -> mpsc::UnboundedReceiver<(usize, Instant)> {
    let (arrivals, arrived) = mpsc::unbounded_channel();
    let until = begin + schedule.warm_up + Duration::from_secs_f64(schedule.seconds);
    std::thread::spawn(move || {
        for number in 0.. {
            let at = begin + Duration::from_secs_f64(number as f64 / schedule.rate);
            if at >= until || schedule.stop.is_cancelled() {
                return;
            }
            let left = at.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                std::thread::sleep(left.max(NAP_MIN));
            }
            if arrivals.send((number, at)).is_err() {
                return;
            }
        }
    });
    arrived
}

/// Makes so many calls with so many callers, and waits for all. Each call is handed its number.
///
/// # Errors
///
/// The first call that fails.
pub async fn each<F>(
    count: usize,
    callers: usize,
    call: impl Fn(usize) -> F + Clone + Send + 'static,
) -> Outcome<Sample>
where
    F: Future<Output = Outcome<()>> + Send,
{
    let next = Arc::new(AtomicUsize::new(0));
    let begin = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let (next, call) = (Arc::clone(&next), call.clone());
        tasks.spawn(async move {
            let mut latencies = Latencies::default();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return Ok(latencies);
                }
                let started = Instant::now();
                call(number).await?;
                latencies.record(started.elapsed());
            }
        });
    }
    let mut latencies = Latencies::default();
    while let Some(ended) = tasks.join_next().await {
        let of_one: Outcome<Latencies> = ended?;
        latencies.add(&of_one?);
    }
    Ok(Sample {
        seconds: begin.elapsed().as_secs_f64(),
        done: latencies.count(),
        latencies,
    })
}
