//! Lists of notifications: the filter, and the cursor of a page.

use uuid::Uuid;

use super::{Channel, DisplayState};
use crate::domain::calendar::Instant;
use crate::domain::hsa_id::HsaId;
use crate::domain::request_key::RequestKey;

/// Which messages are to be listed. Each part is given; what is planned is listed, never what is
/// only projected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotificationFilter {
    /// Of these care units, 1 to 50.
    pub care_units: Vec<HsaId>,
    /// Shown in one of these states, of which `Projected` is none.
    pub states: Vec<DisplayState>,
    /// Through one of these channels.
    pub channels: Vec<Channel>,
    /// Due before this.
    pub due_before: Option<Instant>,
}

/// A place in a list of messages, the earliest due first: what a page token holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NotificationCursor {
    /// When the message is due.
    pub due_at: Instant,
    /// The request, which breaks ties.
    pub request: RequestKey,
    /// The message, which breaks ties within a request.
    pub notification: Uuid,
}
