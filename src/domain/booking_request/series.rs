//! Series: requests that are created together, at an interval ("upprepa").

use uuid::Uuid;

use crate::domain::calendar::{Period, add_days};

/// Place of a request among those that were created together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series {
    /// Place among the members, from 1.
    pub position: i32,
    /// Ids of all members in their order, in the same care unit.
    pub members: Vec<Uuid>,
}

impl Series {
    /// Returns the id of the series, which is that of its first member.
    pub fn id(&self) -> Uuid {
        self.members.first().copied().unwrap_or_default()
    }

    /// Returns whether it is the first member.
    pub fn is_first(&self) -> bool {
        self.position == 1
    }
}

/// Repetition of a request that is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeat {
    /// Days from one period to the next.
    pub interval_days: u32,
    /// Number of requests, the first included.
    pub count: usize,
}

/// Returns the period, so many days later.
pub fn moved(period: Period, days: u32) -> Period {
    Period {
        first: add_days(period.first, days),
        last: add_days(period.last, days),
    }
}
