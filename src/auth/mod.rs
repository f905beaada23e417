//! Authentication of calls: the caller and its rights. It decides nothing about a call but whose it is.
//!
//! | file | does |
//! | --- | --- |
//! | `caller` | the caller of a call, as handlers see it |
//! | `rights`, `scope`, `care_units` | what a subject may do, and where |
//! | `actor` | the one on whose behalf a subject calls |
//! | `credentials` | what a call brings with it |
//! | `token`, `signature`, `jwks` | bearer tokens, their signatures, the keys for them |
//! | `keys`, `fetch` | the keys of an issuer, kept at hand, from a file or over HTTPS |
//! | `certificate` | subjects of client certificates, and their rights |
//! | `files` | files that are read again when they change |
//!
//! Nothing of a token is ever logged or quoted.

pub mod actor;
pub mod caller;
pub mod care_units;
pub mod certificate;
mod credentials;
pub mod fetch;
pub mod files;
pub mod jwks;
pub mod keys;
pub mod rights;
pub mod scope;
mod signature;
pub mod token;

use std::sync::Arc;

use http::HeaderMap;
use tokio::time::Instant;

use crate::domain::Violation;
use actor::{ACTOR_ID, ACTOR_TYPE, Actor, Given};
use caller::{Caller, Validity};
use certificate::{Certificate, Clients};
use rights::Rights;
use scope::Scope;
use token::Tokens;

/// Reason for which a call is not authenticated. Holds nothing of what the caller gave.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no token.
    #[error("a bearer token is needed")]
    TokenMissing,
    /// There is a token that gives no rights.
    #[error("the token is not valid: {0}")]
    TokenInvalid(&'static str),
    /// The token gave rights once.
    #[error("the token has expired")]
    TokenExpired,
    /// The subject of the certificate has no rights.
    #[error("the certificate of the client names no subject that has rights here")]
    CertificateUnknown,
    /// The certificate gave rights once.
    #[error("the certificate of the client has expired")]
    CertificateExpired,
    /// The actor is missing, or may not be named.
    #[error("the actor is not valid")]
    Actor(Vec<Violation>),
}

/// Authenticates calls. Clones are the same.
#[derive(Clone, Debug)]
pub struct Authenticator(Arc<Mode>);

#[derive(Debug)]
enum Mode {
    Open(Arc<Rights>),
    Tokens(Tokens),
    Certificates(Clients),
}

impl Authenticator {
    /// Returns one that takes every call, with all rights.
    pub fn open() -> Self {
        Self(Arc::new(Mode::Open(Arc::new(Rights::anonymous()))))
    }

    /// Returns one that takes calls with a valid token.
    pub fn by_tokens(tokens: Tokens) -> Self {
        Self(Arc::new(Mode::Tokens(tokens)))
    }

    /// Returns one that takes calls over connections whose certificate is that of a known client.
    pub fn by_certificates(clients: Clients) -> Self {
        Self(Arc::new(Mode::Certificates(clients)))
    }

    /// Authenticates a call by its headers, or by the certificate of its connection, which must not have
    /// expired in any case. Its caller has no actor yet.
    ///
    /// # Errors
    ///
    /// The call brings nothing that gives it rights.
    pub async fn authenticate(
        &self,
        headers: &HeaderMap,
        certificate: Option<&Certificate>,
    ) -> Result<Caller, Refusal> {
        let certified_until = certificate.map(|it| it.expires_at);
        if certified_until.is_some_and(|it| it <= Instant::now()) {
            return Err(Refusal::CertificateExpired);
        }
        let (rights, validity) = match &*self.0 {
            Mode::Open(rights) => (rights.clone(), Validity::Unlimited),
            Mode::Tokens(tokens) => {
                let (rights, until) = tokens.verify(credentials::bearer(headers)?).await?;
                (rights, Validity::Until(until))
            }
            Mode::Certificates(clients) => {
                let subject = certificate.and_then(|it| it.subject.as_deref());
                let rights = subject.and_then(|subject| clients.rights_of(subject));
                let rights = rights.ok_or(Refusal::CertificateUnknown)?;
                (rights, Validity::WhileListed(clients.clone()))
            }
        };
        Ok(Caller::new(rights, None, validity).certified_until(certified_until))
    }

    /// Returns whether calls can be authenticated: false until there are keys for their tokens.
    pub fn has_keys(&self) -> bool {
        match &*self.0 {
            Mode::Open(_) | Mode::Certificates(_) => true,
            Mode::Tokens(tokens) => tokens.has_keys(),
        }
    }

    /// Returns the reason for which the keys for tokens could not be read at the last attempt; none if they could.
    pub fn keys_failure(&self) -> Option<String> {
        match &*self.0 {
            Mode::Open(_) | Mode::Certificates(_) => None,
            Mode::Tokens(tokens) => tokens.keys_failure(),
        }
    }

    /// Returns the actor of a caller's call, which a subject that may act for others must name, and no other may.
    ///
    /// # Errors
    ///
    /// The headers name it in another way than they must.
    pub fn actor(&self, caller: &Caller, headers: &HeaderMap) -> Result<Option<Actor>, Refusal> {
        let actor = self.parse_actor(caller, headers);
        actor.map_err(Refusal::Actor)
    }

    fn parse_actor(
        &self,
        caller: &Caller,
        headers: &HeaderMap,
    ) -> Result<Option<Actor>, Vec<Violation>> {
        let kind = credentials::given(headers, ACTOR_TYPE);
        let id = credentials::given(headers, ACTOR_ID);
        let is_given = (kind, id) != (Given::Nothing, Given::Nothing);
        let is_open = matches!(*self.0, Mode::Open(_));
        match (caller.has(Scope::Actor), is_given) {
            (false, false) => Ok(None),
            (false, true) => Err(Actor::refused()),
            (true, false) if !is_open => Err(Actor::required()),
            (true, _) => Actor::parse(kind, id),
        }
    }
}

#[cfg(test)]
mod tests;
