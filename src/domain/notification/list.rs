//! Lists of notifications: the filter, and the cursor of a page.

use uuid::Uuid;

use super::{DeliveryChannel, DisplayState};
use crate::domain::calendar::Instant;
use crate::domain::hsa_id::HsaId;
use crate::domain::request_key::RequestKey;

/// Filter of a list of notifications. Every part is given. Only planned notifications are listed, never
/// projected ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotificationFilter {
    /// Care units, 1 to 50.
    pub care_units: Vec<HsaId>,
    /// States, as displayed, without `Projected`.
    pub states: Vec<DisplayState>,
    /// Channels.
    pub channels: Vec<DeliveryChannel>,
    /// End of the due times, not included.
    pub due_before: Option<Instant>,
}

/// Position in a list of notifications, the earliest due first, as held by a page token.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NotificationCursor {
    /// Due time of the notification.
    pub due_at: Instant,
    /// Request, which breaks ties.
    pub request: RequestKey,
    /// Notification, which breaks ties within a request.
    pub notification: Uuid,
}
