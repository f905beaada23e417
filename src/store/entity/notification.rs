//! Notifications as rows.

use sea_orm::entity::prelude::*;

use crate::domain::calendar::{Instant, micros};
use crate::domain::notification::Cause;
use crate::domain::notification::ChannelReason;
use crate::domain::notification::DeliveryChannel;
use crate::domain::notification::Kind;
use crate::domain::notification::Lease;
use crate::domain::notification::Notification;
use crate::domain::notification::Outcome;
use crate::domain::notification::State;
use crate::domain::patient::Addressee;
use crate::domain::request_key::RequestKey;
use crate::domain::stored_enum;
use crate::store::bucket::bucket;
use crate::store::bulk::write::VersionedEntity;
use crate::store::entity::document::{code, instant, optional};
use crate::store::entity::row_reader::Decoded;
use crate::store::entity::{booking_request, debug_without_content, positional_model};
use crate::store::error::Error;

positional_model! {
    /// A row of `notification`. A new column also gets its place in `VersionedEntity`, and in the conversions.
    #[derive(Clone, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "notification")]
    pub struct Model
    owner {
        #[sea_orm(primary_key, auto_increment = false)]
        pub bucket: i16,
        #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
        pub care_unit: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub booking_request: Uuid,
    }
    {
        /// Number among those of its request, in the order in which they were planned.
        #[sea_orm(primary_key, auto_increment = false)]
        pub ordinal: i16,
        /// Number that grows by one each time the row is written.
        pub version: i32,
        pub state: i16,
        pub channel: i16,
        pub channel_reason: i16,
        pub due_at: i64,
        pub retry_at: Option<i64>,
        pub claimable_at: Option<i64>,
        pub lease_token: Option<Uuid>,
        pub lease_expires_at: Option<i64>,
        pub lease_first_at: Option<i64>,
        pub lease_addressee: Option<i16>,
        pub lease_answer: Option<i16>,
        pub lease_always_authorizes: bool,
        pub lease_released: bool,
        pub attempt_count: i32,
        pub expired_lease_count: i32,
        pub retry_count: i32,
        pub possible_repeat: bool,
        pub changed_since_lease: bool,
        pub sent_at: Option<i64>,
        pub cause: Option<i16>,
        #[sea_orm(column_type = "Text", nullable)]
        pub cause_detail: Option<String>,
        pub sent_after_change: bool,
        pub read_at: Option<i64>,
        pub unread_at: Option<i64>,
        pub returned_at: Option<i64>,
        pub dispatched_at: Option<i64>,
        pub not_produced_at: Option<i64>,
        pub released_at: Option<i64>,
        pub id: Uuid,
        pub round: i32,
        pub kind: i16,
        pub sequence: i16,
        pub channel_fixed: bool,
        pub follows_unread: bool,
        pub replaces: Option<Uuid>,
    }
}

debug_without_content!(Model);

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {
    #[sea_orm(
        belongs_to = "booking_request::Entity",
        from = "(Column::Bucket, Column::CareUnit, Column::BookingRequest)",
        to = "(booking_request::Column::Bucket, booking_request::Column::CareUnit, booking_request::Column::Id)"
    )]
    BookingRequest,
}

impl Related<booking_request::Entity> for Entity {
    fn to() -> RelationDef {
        Relation::BookingRequest.def()
    }
}

/// A request has many notifications.
impl Related<Entity> for booking_request::Entity {
    fn to() -> RelationDef {
        Relation::BookingRequest.def().rev()
    }
}

impl ActiveModelBehavior for ActiveModel {}

impl VersionedEntity for Entity {
    const VERSION: Column = Column::Version;
    const FIXED: &'static [Column] = &[
        Column::Id,
        Column::Round,
        Column::Kind,
        Column::Sequence,
        Column::ChannelFixed,
        Column::FollowsUnread,
        Column::Replaces,
    ];
    /// Columns that a lease or a hand-over changes.
    const HOT: &'static [Column] = &[
        Column::Version,
        Column::State,
        Column::RetryAt,
        Column::ClaimableAt,
        Column::LeaseToken,
        Column::LeaseExpiresAt,
        Column::LeaseFirstAt,
        Column::LeaseAddressee,
        Column::LeaseAnswer,
        Column::LeaseAlwaysAuthorizes,
        Column::LeaseReleased,
        Column::AttemptCount,
        Column::SentAt,
    ];
}

stored_enum! {
    /// [`Kind`] as it is stored. The number of a reminder has a column of its own.
    pub enum StoredKind {
        /// [`Kind::Invitation`].
        Invitation = 1,
        /// [`Kind::Reminder`].
        Reminder = 2,
        /// [`Kind::Withdrawal`].
        Withdrawal = 3,
    }
}

impl StoredKind {
    fn of(kind: Kind) -> Self {
        match kind {
            Kind::Invitation => Self::Invitation,
            Kind::Reminder { .. } => Self::Reminder,
            Kind::Withdrawal => Self::Withdrawal,
        }
    }
}

/// A notification as it is stored.
pub struct StoredNotification {
    /// Number among those of its request.
    pub ordinal: i16,
    /// Version of the row.
    pub version: i32,
    /// The notification.
    pub notification: Notification,
}

impl Model {
    /// Returns the row of the notification that was planned as number `ordinal` of its request.
    pub fn of(
        request: &RequestKey,
        ordinal: usize,
        version: i32,
        notification: &Notification,
    ) -> Self {
        let lease = notification.lease.as_ref();
        Self {
            bucket: bucket(&request.care_unit),
            care_unit: request.care_unit.as_str().to_owned(),
            booking_request: request.id,
            ordinal: i16::try_from(ordinal).expect("a request has a few notifications"),
            version,
            state: notification.state.code(),
            channel: notification.channel.code(),
            channel_reason: notification.channel_reason.code(),
            due_at: micros(notification.due_at),
            retry_at: notification.retry_at.map(micros),
            claimable_at: notification.claimable_at.map(micros),
            lease_token: lease.map(|it| it.token),
            lease_expires_at: lease.map(|it| micros(it.expires_at)),
            lease_first_at: lease.map(|it| micros(it.first_at)),
            lease_addressee: lease.map(|it| it.addressee.code()),
            lease_answer: lease.and_then(|it| it.answer).map(|it| it.code()),
            lease_always_authorizes: lease.is_some_and(|it| it.always_authorizes),
            lease_released: lease.is_some_and(|it| it.released),
            attempt_count: notification.attempt_count,
            expired_lease_count: notification.expired_lease_count,
            retry_count: notification.retry_count,
            possible_repeat: notification.possible_repeat,
            changed_since_lease: notification.changed_since_lease,
            sent_at: notification.sent_at.map(micros),
            cause: notification.cause.map(|it| it.code()),
            cause_detail: Some(&notification.cause_detail)
                .filter(|it| !it.is_empty())
                .cloned(),
            sent_after_change: notification.sent_after_change,
            read_at: notification.read_at.map(micros),
            unread_at: notification.unread_at.map(micros),
            returned_at: notification.returned_at.map(micros),
            dispatched_at: notification.dispatched_at.map(micros),
            not_produced_at: notification.not_produced_at.map(micros),
            released_at: notification.released_at.map(micros),
            id: notification.id,
            round: notification.round,
            kind: StoredKind::of(notification.kind).code(),
            sequence: notification.kind.sequence(),
            channel_fixed: notification.channel_fixed,
            follows_unread: notification.follows_unread,
            replaces: notification.replaces,
        }
    }

    /// Returns the notification that the row holds.
    pub fn into_domain(self) -> Result<StoredNotification, Error> {
        let optional_instant =
            |column, at: Option<i64>| at.map(instant).transpose().of_column(column);
        let lease = self.lease()?;
        let channel_reason = code(ChannelReason::from_code, self.channel_reason);
        let notification = Notification {
            id: self.id,
            round: self.round,
            kind: self.kind()?,
            state: code(State::from_code, self.state).of_column(Column::State)?,
            channel: code(DeliveryChannel::from_code, self.channel).of_column(Column::Channel)?,
            channel_reason: channel_reason.of_column(Column::ChannelReason)?,
            channel_fixed: self.channel_fixed,
            follows_unread: self.follows_unread,
            replaces: self.replaces,
            due_at: instant(self.due_at).of_column(Column::DueAt)?,
            retry_at: optional_instant(Column::RetryAt, self.retry_at)?,
            claimable_at: optional_instant(Column::ClaimableAt, self.claimable_at)?,
            lease,
            attempt_count: self.attempt_count,
            expired_lease_count: self.expired_lease_count,
            retry_count: self.retry_count,
            possible_repeat: self.possible_repeat,
            released_at: optional_instant(Column::ReleasedAt, self.released_at)?,
            changed_since_lease: self.changed_since_lease,
            sent_at: optional_instant(Column::SentAt, self.sent_at)?,
            cause: optional(Cause::from_code, self.cause).of_column(Column::Cause)?,
            cause_detail: self.cause_detail.unwrap_or_default(),
            sent_after_change: self.sent_after_change,
            read_at: optional_instant(Column::ReadAt, self.read_at)?,
            unread_at: optional_instant(Column::UnreadAt, self.unread_at)?,
            returned_at: optional_instant(Column::ReturnedAt, self.returned_at)?,
            dispatched_at: optional_instant(Column::DispatchedAt, self.dispatched_at)?,
            not_produced_at: optional_instant(Column::NotProducedAt, self.not_produced_at)?,
        };
        Ok(StoredNotification {
            ordinal: self.ordinal,
            version: self.version,
            notification,
        })
    }

    fn kind(&self) -> Result<Kind, Error> {
        let kind = code(StoredKind::from_code, self.kind).of_column(Column::Kind)?;
        Ok(match kind {
            StoredKind::Invitation => Kind::Invitation,
            StoredKind::Reminder => Kind::Reminder {
                sequence: self.sequence,
            },
            StoredKind::Withdrawal => Kind::Withdrawal,
        })
    }

    fn lease(&self) -> Result<Option<Lease>, Error> {
        let answer = optional(Outcome::from_code, self.lease_answer);
        let answer = answer.of_column(Column::LeaseAnswer)?;
        let at = |column, at: i64| -> Result<Instant, Error> { instant(at).of_column(column) };
        let addressee = optional(Addressee::from_code, self.lease_addressee);
        let addressee = addressee.of_column(Column::LeaseAddressee)?;
        let times = self.lease_expires_at.zip(self.lease_first_at);
        let (Some(token), Some((expires_at, first_at)), Some(addressee)) =
            (self.lease_token, times, addressee)
        else {
            return Ok(None);
        };
        Ok(Some(Lease {
            token,
            expires_at: at(Column::LeaseExpiresAt, expires_at)?,
            first_at: at(Column::LeaseFirstAt, first_at)?,
            addressee,
            answer,
            always_authorizes: self.lease_always_authorizes,
            released: self.lease_released,
        }))
    }
}
