//! The stream of changes: what it tells of requests, in which order, and where it goes on.

use chrono::TimeDelta;
use uuid::Uuid;

use super::Refusal;
use super::booking_request::state::EffectiveState;
use super::calendar::Instant;
use super::history::{Elapsed, Event, HistoryEntry};
use super::request_key::RequestKey;

/// Something that has happened to a request, without personal data and without texts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestChange {
    /// Request.
    pub request: RequestKey,
    /// Revision of the request after it.
    pub revision: i64,
    /// Event.
    pub event: Event,
    /// Effective state before; none when it created the request.
    pub before: Option<EffectiveState>,
    /// Effective state after.
    pub after: EffectiveState,
    /// Notification concerned, if any.
    pub notification: Option<Uuid>,
    /// Identifier of the booking that it recorded or ended, if any.
    pub booking_id: Option<String>,
    /// Instant at which it happened.
    pub at: Instant,
}

impl RequestChange {
    /// Returns the change that an entry of a history records.
    pub fn of_entry(request: &RequestKey, entry: &HistoryEntry) -> Self {
        Self {
            request: request.clone(),
            revision: entry.revision,
            event: entry.event,
            before: entry.state_before,
            after: entry.state,
            notification: entry.notification,
            booking_id: entry.booking.as_ref().map(|it| it.booking_id.clone()),
            at: entry.at,
        }
    }

    /// Returns a change that time alone has made in this revision of a request.
    pub fn of_elapsed(request: &RequestKey, revision: i64, elapsed: &Elapsed) -> Self {
        Self {
            request: request.clone(),
            revision,
            event: elapsed.event,
            before: Some(elapsed.before),
            after: elapsed.after,
            notification: None,
            booking_id: None,
            at: elapsed.at,
        }
    }
}

/// A place in the order of changes: by instant, then by request, then by number among the entries of its history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Instant.
    pub at: Instant,
    /// Id of the request.
    pub request: Uuid,
    /// Number of the history entry; the highest of all for what time alone changes.
    pub ordinal: i32,
}

impl Place {
    /// Returns the place before everything that happens at an instant.
    pub fn before(at: Instant) -> Self {
        Self {
            at,
            request: Uuid::nil(),
            ordinal: 0,
        }
    }

    /// Returns the place after everything that happens at an instant.
    pub fn after(at: Instant) -> Self {
        Self::of_elapsed(at, Uuid::max())
    }

    /// Returns the place of what time alone changes in a request.
    pub fn of_elapsed(at: Instant, request: Uuid) -> Self {
        Self {
            at,
            request,
            ordinal: i32::MAX,
        }
    }
}

/// A history entry of a request, in its place.
#[derive(Clone, Debug)]
pub struct PlacedEntry {
    /// Request.
    pub request: RequestKey,
    /// Place in the order of changes.
    pub place: Place,
    /// Entry; none in place of one that cannot be decoded.
    pub entry: Option<HistoryEntry>,
}

/// Items in the order of changes, and where they end.
#[derive(Clone, Debug)]
pub struct Page<T> {
    /// Items.
    pub items: Vec<T>,
    /// Place after which there may be more; none when there are none.
    pub end: Option<Place>,
}

/// A place up to which everything has been told. What is told again after it comes in order again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Place up to which every history entry has been told that there is or may still be.
    pub after: Place,
    /// Instant up to which all that time alone has changed was told. What it changes later, but before the place, has been
    /// told as far as the request has not been changed since; the rest stands in a later entry.
    pub told_until: Instant,
}

impl Cursor {
    /// Returns the cursor of a stream that begins at an instant.
    pub fn at(at: Instant) -> Self {
        Self {
            after: Place::before(at),
            told_until: at,
        }
    }

    /// Returns true for a cursor that says of something later than an instant that it was told.
    fn is_after(&self, at: Instant) -> bool {
        at < self.after.at || at < self.told_until
    }
}

/// The place at which a stream is to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// Now.
    Now,
    /// With the oldest that is kept.
    Oldest,
    /// After a cursor.
    After(Cursor),
}

impl Beginning {
    /// Returns the cursor to begin after; none to begin now.
    ///
    /// # Errors
    ///
    /// [`Refusal::CursorExpired`] when it is from before the days that are kept, or from later than now by more than
    /// `ahead_max`.
    pub fn cursor(
        self,
        now: Instant,
        ahead_max: TimeDelta,
        kept_days: u32,
    ) -> Result<Option<Cursor>, Refusal> {
        let oldest = now - TimeDelta::days(kept_days.into());
        let latest = now + ahead_max;
        match self {
            Self::Now => Ok(None),
            Self::Oldest => Ok(Some(Cursor::at(oldest))),
            Self::After(cursor) if cursor.after.at < oldest || cursor.is_after(latest) => {
                Err(Refusal::CursorExpired { kept_days })
            }
            Self::After(cursor) => Ok(Some(cursor)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_good_for_as_long_as_what_follows_it_is_kept() {
        let now: Instant = "2026-03-02T09:00:00Z".parse().expect("a test instant");
        let oldest = now - TimeDelta::days(35);
        let ahead_max = TimeDelta::seconds(4);
        let after = |at| Beginning::After(Cursor::at(at)).cursor(now, ahead_max, 35);
        assert_eq!(after(oldest), Ok(Some(Cursor::at(oldest))));
        let expired = Refusal::CursorExpired { kept_days: 35 };
        let moment = TimeDelta::microseconds(1);
        assert_eq!(after(oldest - moment), Err(expired.clone()));
        let latest = now + ahead_max;
        assert_eq!(after(latest), Ok(Some(Cursor::at(latest))));
        assert_eq!(after(latest + moment), Err(expired.clone()));
        let of_time = Cursor {
            told_until: latest + moment,
            ..Cursor::at(now)
        };
        let of_time = Beginning::After(of_time).cursor(now, ahead_max, 35);
        assert_eq!(of_time, Err(expired));
        assert_eq!(Beginning::Now.cursor(now, ahead_max, 35), Ok(None));
        let begun = Beginning::Oldest.cursor(now, ahead_max, 35);
        assert_eq!(begun, Ok(Some(Cursor::at(oldest))));
    }

    #[test]
    fn what_time_alone_changes_comes_after_what_was_done_at_the_same_instant() {
        let at: Instant = "2026-03-02T09:00:00Z".parse().expect("a test instant");
        let entry = Place {
            ordinal: 7,
            ..Place::of_elapsed(at, Uuid::from_u128(1))
        };
        let mut places = [
            Place::after(at),
            Place::of_elapsed(at, Uuid::from_u128(1)),
            entry,
            Place::before(at),
        ];
        places.reverse();
        assert!(places.is_sorted());
    }
}
