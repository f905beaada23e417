//! Operations on the history of a request: pages.

use sea_orm::DatabaseTransaction;

use crate::domain::Refusal;
use crate::domain::history::HistoryEntry;
use crate::domain::request_key::RequestKey;
use crate::store::Store;
use crate::store::database::connection::RowLock;
use crate::store::entity::{booking_request, history as row};
use crate::store::error::Error;

impl Store {
    /// Returns the history of a request after entry number `after`, at most `limit` entries with their numbers; none in
    /// place of an entry that cannot be decoded.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotFound`] when there is no such request.
    pub async fn history(
        &self,
        key: &RequestKey,
        after: i32,
        limit: u32,
    ) -> Result<Vec<(i32, Option<HistoryEntry>)>, Error> {
        let key = key.clone();
        self.read(move |snapshot| Box::pin(async move { page(snapshot, &key, after, limit).await }))
            .await
    }
}

/// Returns a page of the history from one snapshot.
async fn page(
    snapshot: &DatabaseTransaction,
    key: &RequestKey,
    after: i32,
    limit: u32,
) -> Result<Vec<(i32, Option<HistoryEntry>)>, Error> {
    let known =
        booking_request::lock_existing(snapshot, std::slice::from_ref(key), RowLock::None).await?;
    if known.is_empty() {
        return Err(Refusal::NotFound.into());
    }
    row::list(snapshot, key, after, limit).await
}
