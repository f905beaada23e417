//! What a measurement yields: how often, and how long each took.

use std::time::Duration;

use hdrhistogram::Histogram;

/// The longest latency that is told apart, in nanoseconds; what takes longer counts as this.
const LONGEST: u64 = 600_000_000_000;

/// How long each of many calls took, to three digits.
#[derive(Clone, Debug)]
pub struct Latencies(Histogram<u64>);

impl Default for Latencies {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1_000, LONGEST, 3).expect("the bounds are in order"))
    }
}

impl Latencies {
    /// Takes one more in.
    pub fn record(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(LONGEST);
        self.0.saturating_record(nanos);
    }

    /// Takes all of another in.
    pub fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("the bounds are the same");
    }

    /// The latency, in milliseconds, that so many of a hundred do not exceed.
    pub fn at(&self, percent: f64) -> f64 {
        self.0.value_at_percentile(percent) as f64 / 1e6
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.len()
    }
}

/// What was done in a time.
#[derive(Clone, Debug, Default)]
pub struct Sample {
    /// For how long was measured, in seconds.
    pub seconds: f64,
    /// How many were done, when more than one was done in a call.
    pub done: u64,
    /// How long each call took.
    pub latencies: Latencies,
}

impl Sample {
    /// How many were done in a second.
    pub fn rate(&self) -> f64 {
        self.done as f64 / self.seconds
    }
}
