//! What changes, as a stream tells it: every entry of the histories, and between them what time alone has changed, so that
//! each change begins with the state in which the one before left the request.

use care_invitation::contract::v1;
use care_invitation::contract::v1::HistoryEvent;

use super::accesses::{CHANGES, Fact};
use super::calendar::from_timestamp;
use super::compare::{holds, same};
use super::service;
use super::world::World;
use crate::harness::{Harness, within};

/// Days of changes that are kept.
const KEPT_DAYS: i64 = 35;

impl World {
    /// Checks the changes of the days that are kept against the histories of the requests and the states that they show.
    pub async fn check_changes(&self, harness: &Harness) -> Result<(), String> {
        let changes = self.changes(harness).await?;
        let since = self.now - chrono::Duration::days(KEPT_DAYS);
        for request in &self.requests {
            let name = &request.form.name;
            let told = changes.iter().filter(|it| it.booking_request == *name);
            let told: Vec<_> = told.collect();
            let recorded = told.iter().filter(|it| !is_by_time(it));
            let recorded: Vec<_> = recorded
                .map(|it| (it.event(), it.state(), &it.notification, it.event_time))
                .collect();
            let history = service::history(harness, self, name).await?;
            let at = |it: &v1::HistoryEntry| it.event_time.as_ref().map(from_timestamp);
            let kept = history.iter().filter(|it| Some(since) <= at(it));
            let kept: Vec<_> = kept
                .map(|it| (it.event(), it.state(), &it.notification, it.event_time))
                .collect();
            same("what was told of the history", &kept, &recorded)?;
            for pair in told.windows(2) {
                holds(pair[0].state() == pair[1].previous_state(), || {
                    format!("between them something was not told: {pair:#?}")
                })?;
            }
            let shown = request.show(self.now);
            if let Some(last) = told.last() {
                holds(last.state() == shown.state(), || {
                    format!("{:?} after {last:#?}", shown.state())
                })?;
            }
        }
        Ok(())
    }

    async fn changes(&self, harness: &Harness) -> Result<Vec<v1::Change>, String> {
        let call = v1::StreamChangesRequest {
            care_units: vec!["careUnits/-".into()],
            after_cursor: "0".into(),
            until_idle: true,
        };
        let answer = within(harness.requests().stream_changes(call)).await;
        let mut messages = answer.map_err(|it| it.to_string())?.into_inner();
        let mut changes = vec![];
        loop {
            let message = within(messages.message()).await;
            let Some(message) = message.map_err(|it| it.to_string())? else {
                return Ok(changes);
            };
            let shown = message.changes.iter();
            let shown = shown.map(|it| Fact::request(&it.booking_request)).collect();
            self.log(CHANGES, vec![], shown, 0);
            changes.extend(message.changes);
        }
    }
}

fn is_by_time(change: &v1::Change) -> bool {
    matches!(
        change.event(),
        HistoryEvent::Expired | HistoryEvent::NoResponse | HistoryEvent::WillBookOver
    )
}
