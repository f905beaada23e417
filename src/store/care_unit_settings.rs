//! Operations on the settings of care units, and the copy of them that each process keeps.
//!
//! The rules are decided over the copy, so that no call reads the table. A change of this process is in the copy before it
//! is answered; changes of other replicas come with the change feed. Whoever learns of a pause revokes what is leased in
//! the care unit, by its own queue of claims: what this process has leased by an older copy is then committed, and what it
//! leases later is decided by the newer one.

use std::sync::Arc;

use backon::Retryable;
use sea_orm::{ConnectionTrait, DbErr, EntityName};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};

use crate::domain::Context;
use crate::domain::Refusal;
use crate::domain::caller_name::for_log;
use crate::domain::care_unit_settings::{CareUnitSettings, Field, UnitSettings};
use crate::domain::hsa_id::HsaId;
use crate::domain::notification::pause::revoke_leased;
use crate::store::Store;
use crate::store::change_event::ChangeEvent;
use crate::store::commit::read_set::{LeasedIn, ReadSet, Resolved};
use crate::store::commit::unit_of_work::UnitOfWork;
use crate::store::entity::care_unit_settings::Entity;
use crate::store::error::Error;
use crate::store::idempotency::IdempotentCall;
use crate::store::quarantine::RowKey;
use crate::store::query::care_unit_settings::of_units;
use crate::store::retry;

/// Maximum requests whose leases one operation revokes, so that none occupies the committer for long.
const REVOKED_MAX: usize = 256;

/// The copy of all settings in this process.
pub struct SettingsCopy(watch::Sender<UnitSettings>);

impl SettingsCopy {
    /// Loads all settings.
    pub async fn load(connection: &impl ConnectionTrait) -> Result<Self, DbErr> {
        let copy = Self(watch::channel(UnitSettings::default()).0);
        copy.take(load(connection, None).await?.into_iter().flatten());
        Ok(copy)
    }

    /// Takes settings that were read, unless the copy has newer ones. A database that has lost a commit gives its revision
    /// to another change, which is later. Returns the care units whose pause is another than
    /// before.
    pub fn take(&self, read: impl IntoIterator<Item = CareUnitSettings>) -> Vec<HsaId> {
        let mut paused = Vec::new();
        self.0.send_if_modified(|known| {
            let mut is_changed = false;
            for read in read {
                let before = known.0.get(&read.care_unit);
                let is_known = |it: &CareUnitSettings| {
                    read.revision <= it.revision && read.updated_at <= it.updated_at
                };
                if before.is_some_and(is_known) {
                    continue;
                }
                let until = before.and_then(|it| it.settings.paused_until);
                let is_paused = read.settings.paused_until.is_some();
                if is_paused && read.settings.paused_until != until {
                    paused.push(read.care_unit.clone());
                }
                Arc::make_mut(&mut known.0).insert(read.care_unit.clone(), read);
                is_changed = true;
            }
            is_changed
        });
        paused
    }
}

/// Settings before and after a write.
#[derive(Clone, Debug)]
pub struct SettingsWritten {
    /// Settings before.
    pub before: CareUnitSettings,
    /// Settings as the write left them or, after a replay, as they stand.
    pub after: CareUnitSettings,
    /// True if the call was a replay and changed nothing.
    pub replayed: bool,
}

impl Store {
    /// Returns the settings of all care units, as this process knows them.
    pub fn settings(&self) -> UnitSettings {
        self.inner.settings.0.borrow().clone()
    }

    /// Returns a receiver that is told of every change of the copy.
    pub fn settings_changes(&self) -> watch::Receiver<UnitSettings> {
        self.inner.settings.0.subscribe()
    }

    /// Reads the settings of a care unit from the database.
    pub async fn read_settings(&self, care_unit: &HsaId) -> Result<CareUnitSettings, Error> {
        let wanted = vec![care_unit.clone()];
        let mut found = self.load_settings(Some(wanted)).await?;
        match found.pop() {
            None => Ok(CareUnitSettings::none(care_unit.clone())),
            Some(decoded) => decoded.ok_or_else(Error::undecodable),
        }
    }

    /// Changes the settings of a care unit as `decide` says. A replay of `call` returns them as they stand. When the care
    /// unit is paused after that, what is leased in it is revoked before this returns; `context` is for that decision.
    ///
    /// The work goes on when its caller has gone.
    ///
    /// # Errors
    ///
    /// Refusals of `decide`, [`Error::RequestIdReused`], [`Error::Internal`] when the settings cannot be decoded, and
    /// errors of the database. The settings may have been changed when the error is [`Error::Unavailable`], as when something
    /// cannot be revoked yet because another writer has locked it.
    pub async fn update_settings(
        &self,
        call: IdempotentCall,
        care_unit: HsaId,
        decide: impl FnMut(&CareUnitSettings) -> Result<CareUnitSettings, Refusal> + Send + 'static,
        context: impl Fn() -> Context + Clone + Send + Sync + 'static,
    ) -> Result<SettingsWritten, Error> {
        let store = self.clone();
        let task = tokio::spawn(async move {
            let actor = call.caller.clone();
            let mut written = store
                .commit_settings(call, care_unit.clone(), decide)
                .await?;
            if written.replayed {
                // The first try may have been committed after the batch had read the settings.
                let standing = store.read_settings(&care_unit).await?;
                written.before = standing.clone();
                written.after = standing;
            }
            let SettingsWritten { before, after, .. } = &written;
            log_change(&actor, before, after);
            store.inner.settings.take([after.clone()]);
            if after.settings.is_paused(context().now) {
                let revoked = store.revoke_leased_in(&after.care_unit, context.clone());
                if let Err(error) = revoked.await {
                    // The pause is in force, and nobody else may learn of it: the revocation goes on without the caller.
                    let (store, care_unit) = (store.clone(), after.care_unit.clone());
                    tokio::spawn(async move { store.follow_pause(care_unit, context).await });
                    return Err(match error {
                        Error::Contention | Error::Overloaded => Error::timed_out(),
                        error => error,
                    });
                }
            }
            Ok(written)
        });
        task.await
            .map_err(|_| Error::internal("an update of settings has panicked"))?
    }

    /// Commits a change of settings.
    async fn commit_settings(
        &self,
        call: IdempotentCall,
        care_unit: HsaId,
        mut decide: impl FnMut(&CareUnitSettings) -> Result<CareUnitSettings, Refusal> + Send + 'static,
    ) -> Result<SettingsWritten, Error> {
        let read_set = ReadSet {
            calls: vec![(care_unit.clone(), call.clone())],
            settings: Some(care_unit.clone()),
            ..ReadSet::default()
        };
        let update = move |work: &mut UnitOfWork, _: &Resolved| {
            let before = work.settings.get(&care_unit)?.clone();
            if work.is_replay(&care_unit, &call)? {
                return Ok(SettingsWritten {
                    before: before.clone(),
                    after: before,
                    replayed: true,
                });
            }
            let after = decide(&before)?;
            work.settings.apply(after.clone());
            work.record_key_without_history(&care_unit, &call, None);
            Ok(SettingsWritten {
                before,
                after,
                replayed: false,
            })
        };
        self.call_queue()?.submit(read_set, update).await
    }

    /// Revokes what is leased in a care unit that is paused, until nothing more is found. Requests that other writers have
    /// locked are waited for while nothing else is left.
    async fn revoke_leased_in(
        &self,
        care_unit: &HsaId,
        context: impl Fn() -> Context + Clone + Send + Sync + 'static,
    ) -> Result<(), Error> {
        let revoke = || self.revoke_some_in(care_unit, context.clone());
        while revoke
            .retry(retry::WHILE_LOCKED)
            .when(|error| matches!(error, Error::Contention))
            .await?
        {}
        Ok(())
    }

    /// Revokes some of what is leased in a care unit, while it is paused. Returns true if there may be more.
    ///
    /// # Errors
    ///
    /// [`Error::Contention`] when other writers have locked all that there is.
    async fn revoke_some_in(
        &self,
        care_unit: &HsaId,
        context: impl Fn() -> Context + Send + 'static,
    ) -> Result<bool, Error> {
        let read_set = ReadSet {
            leased_in: Some(LeasedIn {
                care_unit: care_unit.clone(),
                now: context().now,
                limit: REVOKED_MAX,
            }),
            ..ReadSet::default()
        };
        let paused = care_unit.clone();
        let revoke = move |work: &mut UnitOfWork, resolved: &Resolved| {
            let context = context();
            if !context.policy.of(&paused).is_paused(context.now) {
                return Ok(false);
            }
            let mut has_read = false;
            for key in &resolved.requests {
                let record = work.get(key);
                has_read |= record.is_some();
                if let Some(change) = record.and_then(|it| revoke_leased(it, &context)) {
                    work.apply(change, None)?;
                }
            }
            match (has_read, resolved.has_locked) {
                (false, true) => Err(Error::Contention),
                // What was found may have been answered since, so that less was revoked than there is.
                _ => Ok(has_read && (resolved.is_cut || resolved.has_locked)),
            }
        };
        self.claim_queue()?.submit(read_set, revoke).await
    }

    /// Keeps the copy of the settings like the database, for as long as the future is polled. What is leased in a care unit
    /// that has been paused is revoked; `context` is for these decisions.
    pub async fn follow_settings(
        &self,
        context: impl Fn() -> Context + Clone + Send + Sync + 'static,
    ) {
        let mut commits = self.commits();
        let mut wanted = None;
        loop {
            let read = || self.load_settings(wanted.clone());
            let read = retry::until_answered("settings of care units", read).await;
            for care_unit in self.inner.settings.take(read.into_iter().flatten()) {
                let (store, context) = (self.clone(), context.clone());
                tokio::spawn(async move { store.follow_pause(care_unit, context).await });
            }
            match next_change(&mut commits).await {
                Some(Changed::These(care_units)) => wanted = Some(care_units),
                Some(Changed::Any) => wanted = None,
                None => return,
            }
        }
    }

    /// Revokes what this process has leased in a care unit until it learned of a pause.
    async fn follow_pause(
        &self,
        care_unit: HsaId,
        context: impl Fn() -> Context + Clone + Send + Sync + 'static,
    ) {
        let revoke = || self.revoke_leased_in(&care_unit, context.clone());
        let revoked = revoke.retry(retry::WHILE_LEASED).when(Error::is_temporary);
        if let Err(error) = revoked.await {
            let care_unit = care_unit.as_str();
            tracing::warn!(%error, care_unit, "revoking the leases of a paused care unit failed");
        }
    }

    /// Loads the settings of these care units, or of all, that are set; none in place of those that cannot be decoded.
    async fn load_settings(
        &self,
        care_units: Option<Vec<HsaId>>,
    ) -> Result<Vec<Option<CareUnitSettings>>, Error> {
        self.read_statement(move |readers| {
            Box::pin(async move { Ok(load(readers, care_units.as_deref()).await?) })
        })
        .await
    }
}

/// Loads the settings of these care units, or of all, that are set; none in place of those that cannot be decoded.
async fn load(
    connection: &impl ConnectionTrait,
    care_units: Option<&[HsaId]>,
) -> Result<Vec<Option<CareUnitSettings>>, DbErr> {
    let found = of_units(connection, care_units).await?;
    let accept =
        |(care_unit, decoded)| RowKey::of_unit(Entity.table_name(), &care_unit).accept(decoded);
    Ok(found.into_iter().map(accept).collect())
}

/// The settings that have changed.
enum Changed {
    /// Settings of these care units.
    These(Vec<HsaId>),
    /// Settings of any care unit.
    Any,
}

/// Waits for a commit that has changed settings; `None` when the store is closed.
async fn next_change(commits: &mut broadcast::Receiver<Arc<ChangeEvent>>) -> Option<Changed> {
    loop {
        match commits.recv().await {
            Ok(event) if event.resync => return Some(Changed::Any),
            Ok(event) if event.settings.is_empty() => {}
            Ok(event) => return Some(Changed::These(event.settings.clone())),
            Err(RecvError::Lagged(_)) => return Some(Changed::Any),
            Err(RecvError::Closed) => return None,
        }
    }
}

/// Logs a change of settings: who changed which.
fn log_change(actor: &str, before: &CareUnitSettings, after: &CareUnitSettings) {
    let fields = after.settings.changed_since(&before.settings);
    if fields.is_empty() {
        return;
    }
    let fields: Vec<_> = fields.into_iter().map(Field::name).collect();
    let (fields, care_unit) = (fields.join(","), after.care_unit.as_str());
    let (revision, actor) = (after.revision, for_log(actor));
    tracing::info!(
        actor,
        care_unit,
        revision,
        fields,
        "settings of the care unit changed"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::calendar::Instant;

    #[test]
    fn the_copy_is_replaced_by_a_later_revision_and_by_a_later_change_under_its_number() {
        let set = |revision: i64, second: i64, paused: bool| {
            let mut set = CareUnitSettings::none(HsaId::from_stored("SE2321000131-P1".into()));
            let at = Instant::UNIX_EPOCH + chrono::Duration::seconds(second);
            set.revision = revision;
            set.updated_at = Some(at);
            set.settings.paused_until = paused.then_some(at);
            set
        };
        let copy = SettingsCopy(watch::channel(UnitSettings::default()).0);
        let lost = set(3, 30, false);
        assert!(copy.take([set(2, 20, false), lost.clone()]).is_empty());
        // What is read late is older.
        assert!(copy.take([set(2, 20, true), lost.clone()]).is_empty());
        let unit = lost.care_unit.clone();
        assert_eq!(copy.0.borrow().0[&unit], lost);
        // The database has lost the third revision, and has another now.
        let other = set(3, 40, true);
        assert_eq!(copy.take([other.clone()]).len(), 1);
        assert_eq!(copy.0.borrow().0[&unit], other);
    }
}
