//! What the service is to reach. Measurements are held against it in the tables, and no more: a
//! run does not fail by being slow.

use crate::number::plain;

/// How a number is held against its target.
#[derive(Clone, Copy, Debug)]
pub enum Bound {
    /// At least so many times what stands beside it.
    TimesAtLeast(f64),
    /// At most so many times what stands beside it.
    TimesAtMost(f64),
    /// At most so much more than what stands beside it.
    PlusAtMost(f64),
    /// At least so much.
    Least(f64),
    /// At most so much.
    Most(f64),
}

/// Every target, by the name under which the scenarios refer to it.
const TARGETS: [(&str, Bound); 24] = [
    ("create, of raw", Bound::TimesAtLeast(0.6)),
    (
        "create, of a transaction per call",
        Bound::TimesAtLeast(4.0),
    ),
    ("create in batches, of single", Bound::TimesAtLeast(3.0)),
    ("single", Bound::PlusAtMost(0.3)),
    ("deliver, of raw", Bound::TimesAtLeast(0.6)),
    ("deliver, on PostgreSQL", Bound::Least(26_900.0)),
    ("streams, idle", Bound::TimesAtLeast(0.9)),
    ("streams, at work", Bound::TimesAtLeast(0.8)),
    ("fair", Bound::PlusAtMost(50.0)),
    ("dashboards", Bound::TimesAtMost(2.0)),
    ("nine, leased", Bound::Most(15.0)),
    ("nine, meanwhile", Bound::TimesAtMost(2.0)),
    ("due", Bound::Most(20.0)),
    ("due, other replica", Bound::Most(1_000.0)),
    ("overload, rate", Bound::TimesAtLeast(0.8)),
    ("overload, back", Bound::Most(2.0)),
    ("page, rate", Bound::Least(4_000.0)),
    ("page over several, rate", Bound::TimesAtLeast(0.7)),
    ("page, p99", Bound::Most(20.0)),
    ("count, p99", Bound::Most(10.0)),
    ("growth", Bound::TimesAtMost(1.3)),
    ("memory", Bound::Most(150.0)),
    ("idle", Bound::Most(1.0)),
    ("start", Bound::Most(1_000.0)),
];

impl Bound {
    /// The target of this name.
    pub fn of(name: &str) -> Self {
        let found = TARGETS.iter().find(|(other, _)| *other == name);
        found
            .unwrap_or_else(|| panic!("there is a target {name}"))
            .1
    }

    /// In words.
    pub fn text(self, unit: &str) -> String {
        match self {
            Self::TimesAtLeast(times) => format!("≥ {times} of it"),
            Self::TimesAtMost(times) => format!("≤ {times} of it"),
            Self::PlusAtMost(more) => format!("≤ it + {more} {unit}"),
            Self::Least(least) => format!("≥ {} {unit}", plain(least)),
            Self::Most(most) => format!("≤ {} {unit}", plain(most)),
        }
    }

    /// Whether a number reaches it; none when it needs another beside it that is not there.
    pub fn is_met(self, number: f64, beside: Option<f64>, ratio: Option<f64>) -> Option<bool> {
        match self {
            Self::TimesAtLeast(times) => ratio.map(|ratio| ratio >= times),
            Self::TimesAtMost(times) => ratio.map(|ratio| ratio <= times),
            Self::PlusAtMost(more) => beside.map(|beside| number <= beside + more),
            Self::Least(least) => Some(number >= least),
            Self::Most(most) => Some(number <= most),
        }
    }
}
