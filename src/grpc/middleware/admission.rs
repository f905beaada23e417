//! Admission of calls: each but health checks is authenticated before its handler runs, its caller must have
//! a scope that the contract asks for, and travels along with it.

use std::sync::Arc;
use std::time::Duration;

use http::Extensions;
use http::HeaderMap;
use http::header::AUTHORIZATION;
use tonic::Status;
use tracing::info;

use super::method::{Admits, Method};
use crate::auth::caller::Caller;
use crate::auth::certificate::Certificate;
use crate::auth::{Authenticator, Refusal};
use crate::grpc::status;
use crate::telemetry::seldom::Seldom;

/// Shortest interval between two log lines about calls that are not authenticated.
const REFUSALS_LOG_INTERVAL: Duration = Duration::from_secs(60);

/// Admits calls.
#[derive(Debug)]
pub struct Admission {
    authenticator: Authenticator,
    refusals: Seldom,
}

impl Admission {
    /// Makes one that asks this authenticator.
    pub fn new(authenticator: Authenticator) -> Self {
        Self {
            authenticator,
            refusals: Seldom::new(REFUSALS_LOG_INTERVAL),
        }
    }

    /// Authenticates a call by its subject alone, and takes its token away. Nothing else of the call is looked at. Health checks are
    /// answered to everybody: who balances the load has no token.
    ///
    /// # Errors
    ///
    /// The status that the call is refused with.
    pub async fn authenticate(
        &self,
        method: &Method,
        headers: &mut HeaderMap,
        certificate: Option<&Certificate>,
    ) -> Result<Option<Arc<Caller>>, Status> {
        if method.admits == Admits::Everybody {
            return Ok(None);
        }
        let authenticated = self.authenticator.authenticate(headers, certificate);
        let caller = authenticated
            .await
            .map_err(|refusal| self.refuse(refusal))?;
        headers.remove(AUTHORIZATION);
        Ok(Some(Arc::new(caller)))
    }

    /// Returns the caller of a call on behalf of the actor that its headers name.
    ///
    /// # Errors
    ///
    /// The status that the call is refused with.
    pub fn with_actor(
        &self,
        caller: Option<Arc<Caller>>,
        headers: &HeaderMap,
    ) -> Result<Option<Arc<Caller>>, Status> {
        let Some(caller) = caller else {
            return Ok(None);
        };
        let actor = self.authenticator.actor(&caller, headers);
        Ok(match actor.map_err(|refusal| self.refuse(refusal))? {
            Some(actor) => Some(Arc::new(Caller::clone(&caller).on_behalf_of(Some(actor)))),
            None => Some(caller),
        })
    }

    /// Logs a refusal, for many of them together, without anything that the caller gave.
    fn refuse(&self, refusal: Refusal) -> Status {
        if let Some(count) = self.refusals.count() {
            let latest = refusal.to_string();
            info!(
                count,
                latest, "calls that are not authenticated are refused"
            );
        }
        refusal.into()
    }
}

/// Hands the caller of a call to its handler. The caller must have one of the scopes that the method needs.
///
/// # Errors
///
/// The status that the call is refused with.
pub fn authorize(
    method: &Method,
    caller: Option<&Arc<Caller>>,
    extensions: &mut Extensions,
) -> Result<(), Status> {
    let Some(caller) = caller else {
        return Ok(());
    };
    if let Admits::Holders(needed) = method.admits
        && !caller.may(needed)
    {
        return Err(status::scope_missing(needed));
    }
    extensions.insert(caller.clone());
    Ok(())
}
