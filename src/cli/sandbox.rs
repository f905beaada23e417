//! The clock of a sandbox: it stands still, or runs faster than the machine's.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::task::AbortOnDropHandle;
use tracing::warn;

use crate::clock::Clock;

/// Time between two moves of a clock that runs.
const TICK: Duration = Duration::from_millis(100);

/// Warns of a sandbox clock, and lets it run so many seconds a second until it is dropped, if it is to run.
pub fn start(clock: &Clock, speed: Option<u32>) -> Option<AbortOnDropHandle<()>> {
    let now = clock.now();
    if !clock.is_sandbox() {
        return None;
    }
    let Some(speed) = speed else {
        warn!(%now, "SANDBOX CLOCK: time stands still; never for patients");
        return None;
    };
    warn!(%now, speed, "SANDBOX CLOCK: time runs faster; never for patients");
    let clock = clock.clone();
    Some(AbortOnDropHandle::new(tokio::spawn(async move {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        // The first is at once.
        ticks.tick().await;
        loop {
            ticks.tick().await;
            // Somebody may have moved it further meanwhile.
            let _ = clock.advance(clock.now() + TICK * speed);
        }
    })))
}
