//! What other processes have written to the same database.
//!
//! Nobody tells: it is asked for, by one task a process, and passed on as if it had been committed
//! here. Rows carry the time at which they were written by the database's clock; since they appear
//! only when their writer commits, each question reaches back a while, and what was seen is left
//! out.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::error::Error;
use super::row::booking_request::{Touched, database_now, touched_since};
use super::{Committed, Store};
use crate::domain::booking_request::RequestKey;

/// How often it is asked.
const POLL: Duration = Duration::from_millis(500);
/// Within this time of a commit here it is announced here.
const ANNOUNCED: Duration = Duration::from_millis(200);
/// How far each question reaches back, in microseconds: as long as a batch may take.
const REACH: i64 = 12_000_000;

impl Store {
    /// Whether other processes may write to the same database.
    pub fn is_shared(&self) -> bool {
        self.inner.is_shared
    }

    /// Passes on what others write, for as long as the future is polled. Returns at once where
    /// there are no others.
    pub async fn follow_others(&self) {
        if !self.is_shared() {
            return;
        }
        let mut seen = Seen::default();
        let mut commits = self.commits();
        loop {
            tokio::time::sleep(POLL).await;
            let touched = self.touched(seen.since).await;
            // What was committed here a moment ago is announced a moment later.
            tokio::time::sleep(ANNOUNCED).await;
            // What is lost by falling behind is passed on once more.
            while let Ok(committed) = commits.try_recv() {
                seen.note(&committed.requests);
            }
            match touched {
                Ok(touched) => self.pass_on(seen.news(touched)),
                // The next time reaches back to where this one would have.
                Err(error) => tracing::debug!(%error, "other writers could not be followed"),
            }
        }
    }

    /// What was written since; from now on at first.
    async fn touched(&self, since: Option<i64>) -> Result<(i64, Vec<Touched>), Error> {
        self.read(move |snapshot| {
            Box::pin(async move {
                let now = database_now(snapshot).await?;
                let since = since.unwrap_or(now);
                Ok((now, touched_since(snapshot, since - REACH).await?))
            })
        })
        .await
    }

    fn pass_on(&self, requests: Vec<(RequestKey, i64)>) {
        if requests.is_empty() {
            return;
        }
        let committed = Committed {
            requests,
            by_others: true,
            ..Committed::default()
        };
        // Nobody may be listening.
        let _ = self.inner.commits.send(Arc::new(committed));
    }
}

/// What was seen lately, so that it is passed on once.
#[derive(Default)]
struct Seen {
    since: Option<i64>,
    revisions: HashMap<RequestKey, (i64, i64)>,
}

impl Seen {
    /// Takes note of what was committed here.
    fn note(&mut self, requests: &[(RequestKey, i64)]) {
        let now = self.since.unwrap_or_default();
        for (key, revision) in requests {
            self.revisions.insert(key.clone(), (*revision, now));
        }
    }

    /// Takes an answer in and gives what is new in it.
    fn news(&mut self, (now, touched): (i64, Vec<Touched>)) -> Vec<(RequestKey, i64)> {
        let mut news = Vec::new();
        for (key, revision, at) in touched {
            let known = self.revisions.get(&key);
            if known.is_none_or(|(known, _)| *known < revision) {
                self.revisions.insert(key.clone(), (revision, at));
                news.push((key, revision));
            }
        }
        self.since = Some(now);
        self.revisions.retain(|_, (_, at)| now - 2 * REACH < *at);
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::hsa_id::HsaId;

    fn key(id: u128) -> RequestKey {
        RequestKey {
            care_unit: HsaId::trusted("SE2321000131-P1".into()),
            id: uuid::Uuid::from_u128(id),
        }
    }

    #[test]
    fn each_revision_is_passed_on_once() {
        let mut seen = Seen::default();
        let first = vec![(key(1), 1, 10), (key(2), 1, 11)];
        assert_eq!(seen.news((20, first.clone())), [(key(1), 1), (key(2), 1)]);
        assert_eq!(seen.news((30, first)), []);
        let second = vec![(key(1), 2, 35), (key(2), 1, 11)];
        assert_eq!(seen.news((40, second)), [(key(1), 2)]);
        assert_eq!(seen.since, Some(40));
    }

    #[test]
    fn what_was_committed_here_is_not_passed_on() {
        let mut seen = Seen::default();
        seen.news((20, vec![]));
        seen.note(&[(key(1), 3)]);
        assert_eq!(seen.news((30, vec![(key(1), 3, 25)])), []);
        let later = vec![(key(1), 4, 35)];
        assert_eq!(seen.news((40, later)), [(key(1), 4)]);
    }

    #[test]
    fn what_no_question_reaches_any_more_is_forgotten() {
        let mut seen = Seen::default();
        seen.news((20, vec![(key(1), 1, 10)]));
        seen.news((10 + 2 * REACH, vec![]));
        assert!(seen.revisions.is_empty());
    }
}
