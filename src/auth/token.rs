//! Bearer tokens: JSON Web Tokens of RFC 9068, signed by an issuer that is trusted.

use std::fmt;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, decode, decode_header};
use lru::LruCache;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use super::Refusal;
use super::care_units::{Malformed, Names, VisibleUnits};
use super::keys::Keys;
use super::rights::{Rights, is_subject};
use super::scope::{Scope, Scopes};
use super::signature;
use crate::clock::Clock;
use crate::domain::patient::{PersonalId, PersonalIdType};

/// Maximum bytes of a token.
const TOKEN_BYTES_MAX: usize = 8 * 1_024;
/// Seconds by which the issuer's clock and this one may differ.
const LEEWAY_SECONDS: i64 = 60;
/// Longest time for which a token is taken to be valid: of use for streams alone.
const VALIDITY_SECONDS_MAX: i64 = 366 * 24 * 3_600;
/// Maximum tokens that are known to be valid.
const KNOWN_TOKENS_MAX: NonZeroUsize = NonZeroUsize::new(4_096).expect("not zero");
/// Kinds of token that are taken, in any case and without `application/` before them.
const TYPES: [&str; 2] = ["at+jwt", "jwt"];

const NO_TOKEN: Refusal = Refusal::TokenInvalid("it is not a signed JSON Web Token");
const CLAIMS: Refusal =
    Refusal::TokenInvalid("a claim is missing or of the wrong type: exp, iss, aud and sub, or nbf");

/// The tokens of one issuer for one audience.
pub struct Tokens {
    issuer: String,
    audience: String,
    keys: Keys,
    clock: Clock,
    /// Tokens that have been verified, by their hashes: signatures cost more than all the rest of many calls.
    known: Mutex<LruCache<[u8; 32], Verified>>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Tokens")
    }
}

/// A token whose signature and claims were found right.
#[derive(Clone)]
struct Verified {
    rights: Arc<Rights>,
    period: Validity,
    /// Changes of the keys when its signature was verified.
    key_changes: u64,
}

/// The period in which a token is valid, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Validity {
    from: i64,
    until: i64,
}

impl Validity {
    /// Returns the seconds for which a token is still valid, the leeway included.
    ///
    /// # Errors
    ///
    /// It is not valid yet, or no more.
    fn left(self, now: i64) -> Result<i64, Refusal> {
        if now < self.from.saturating_sub(LEEWAY_SECONDS) {
            return Err(Refusal::TokenInvalid("it is not valid yet"));
        }
        let left = self
            .until
            .saturating_add(LEEWAY_SECONDS)
            .saturating_sub(now);
        match left > 0 {
            true => Ok(left.min(VALIDITY_SECONDS_MAX)),
            false => Err(Refusal::TokenExpired),
        }
    }
}

/// The claims that are looked at. Those of RFC 9068 that are not here are left to the issuer.
#[derive(Deserialize)]
struct Claims {
    #[serde(rename = "iss")]
    _issuer: String,
    sub: String,
    exp: f64,
    /// Time before which the token is not valid. RFC 9068 does not ask for it, and Keycloak leaves it out.
    #[serde(default)]
    nbf: Option<f64>,
    #[serde(default)]
    scope: String,
    #[serde(default)]
    care_units: Option<Names>,
    #[serde(default)]
    personal_id: Option<String>,
    #[serde(default)]
    personal_id_type: Option<String>,
}

impl Tokens {
    /// Makes a verifier of the tokens of an issuer for an audience, by its keys.
    pub fn new(issuer: String, audience: String, keys: Keys, clock: Clock) -> Self {
        signature::install();
        Self {
            issuer,
            audience,
            keys,
            clock,
            known: Mutex::new(LruCache::new(KNOWN_TOKENS_MAX)),
        }
    }

    /// Verifies a token. Returns the rights that it gives, and the instant at which they end.
    ///
    /// # Errors
    ///
    /// It does not give any.
    pub async fn verify(&self, token: &str) -> Result<(Arc<Rights>, Instant), Refusal> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Refusal::TokenInvalid("it is longer than 8 KiB"));
        }
        let verified = self.verified(token).await?;
        let left = verified.period.left(self.clock.machine_now().timestamp())?;
        let left = Duration::from_secs(left.unsigned_abs());
        Ok((verified.rights, Instant::now() + left))
    }

    /// Returns what a token says, from memory if its signature was verified with the same keys.
    async fn verified(&self, token: &str) -> Result<Verified, Refusal> {
        let hash: [u8; 32] = Sha256::digest(token).into();
        let changes = self.keys.current().changes;
        let known = self.with_known(|known| known.get(&hash).cloned());
        if let Some(verified) = known.filter(|it| it.key_changes == changes) {
            return Ok(verified);
        }
        let header = header(token)?;
        if !self.has_key_of(&header) {
            self.keys.refresh().await;
        }
        let keys = self.keys.current();
        let key = keys.set.find(header.kid.as_deref(), header.alg);
        let key = key.ok_or(Refusal::TokenInvalid(
            "it is signed with a key that the issuer does not publish",
        ))?;
        let (rights, period) = self.decode(token, header.alg, key)?;
        let verified = Verified {
            rights: Arc::new(rights),
            period,
            key_changes: keys.changes,
        };
        // A token that has expired is not kept: it is refused anew each time.
        period.left(self.clock.machine_now().timestamp())?;
        self.with_known(|known| known.put(hash, verified.clone()));
        Ok(verified)
    }

    /// Returns whether keys of the issuer have ever been read.
    pub fn has_keys(&self) -> bool {
        self.keys.current().changes > 0
    }

    /// Returns the reason for which they could not be read at the last attempt; none if they could.
    pub fn keys_failure(&self) -> Option<String> {
        self.keys.current().failure
    }

    fn with_known<T>(&self, with: impl FnOnce(&mut LruCache<[u8; 32], Verified>) -> T) -> T {
        with(&mut self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn has_key_of(&self, header: &Header) -> bool {
        let keys = self.keys.current().set;
        keys.find(header.kid.as_deref(), header.alg).is_some()
    }

    fn decode(
        &self,
        token: &str,
        algorithm: Algorithm,
        key: &DecodingKey,
    ) -> Result<(Rights, Validity), Refusal> {
        let mut validation = Validation::new(algorithm);
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // Times are compared with the clock that the service goes by.
        validation.validate_exp = false;
        let decoded = decode::<Claims>(token, key, &validation);
        let claims = decoded.map_err(|error| refusal(error.kind()))?.claims;
        rights(claims)
    }
}

/// Returns the header of a token that may be one of ours.
fn header(token: &str) -> Result<Header, Refusal> {
    let header = decode_header(token).map_err(|_| NO_TOKEN)?;
    if matches!(
        header.alg,
        Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512
    ) {
        return Err(Refusal::TokenInvalid("it is signed with a shared secret"));
    }
    let kind = header
        .typ
        .as_deref()
        .unwrap_or_default()
        .to_ascii_lowercase();
    let kind = kind.strip_prefix("application/").unwrap_or(&kind);
    if !TYPES.contains(&kind) {
        return Err(Refusal::TokenInvalid("its typ is neither at+jwt nor JWT"));
    }
    // Extensions that must be understood are not: there are none here.
    match header.crit {
        Some(_) => Err(Refusal::TokenInvalid("its header has a crit")),
        None => Ok(header),
    }
}

/// Returns the refusal for an error of the library, without anything of the token.
fn refusal(kind: &ErrorKind) -> Refusal {
    match kind {
        ErrorKind::InvalidSignature => Refusal::TokenInvalid("its signature is wrong"),
        ErrorKind::InvalidIssuer => Refusal::TokenInvalid("it is of another issuer"),
        ErrorKind::InvalidAudience => Refusal::TokenInvalid("it is for another audience"),
        ErrorKind::MissingRequiredClaim(_)
        | ErrorKind::InvalidClaimFormat(_)
        | ErrorKind::Json(_) => CLAIMS,
        _ => NO_TOKEN,
    }
}

/// Returns the rights that claims give, and the period in which they do.
fn rights(claims: Claims) -> Result<(Rights, Validity), Refusal> {
    if !is_subject(&claims.sub) {
        return Err(Refusal::TokenInvalid(
            "its sub is not 1 to 255 printable ASCII characters",
        ));
    }
    let scopes = Scopes::parse(&claims.scope);
    let names = claims.care_units.as_ref();
    let care_units = names.map_or(VisibleUnits::parse([]), Names::parse);
    let care_units = care_units.map_err(|Malformed| {
        let text = "its care_units are not HSA-ids, organisations such as SE2321000131-*, or *";
        Refusal::TokenInvalid(text)
    })?;
    let patient = match scopes.contains(Scope::PatientSelf) {
        true => Some(patient(&claims).ok_or(Refusal::TokenInvalid(
            "its personal_id and personal_id_type name no patient, as patient.self needs",
        ))?),
        false => None,
    };
    let rights = Rights {
        subject: claims.sub,
        scopes,
        care_units,
        patient,
    };
    Ok((rights, period(claims.nbf, claims.exp)))
}

/// Returns a period between two times of a token, which may have fractions; always from before, if the first is not
/// said.
fn period(from: Option<f64>, until: f64) -> Validity {
    // Conversions of numbers that are too large give the largest that there is.
    Validity {
        from: from.map_or(i64::MIN, |from| from as i64),
        until: until as i64,
    }
}

/// Returns the patient that claims name.
fn patient(claims: &Claims) -> Option<PersonalId> {
    let kind = match claims.personal_id_type.as_deref()? {
        "PERSONNUMMER" => PersonalIdType::Personnummer,
        "SAMORDNINGSNUMMER" => PersonalIdType::Samordningsnummer,
        "NATIONAL_RESERVE_NUMBER" => PersonalIdType::NationalReserveNumber,
        _ => return None,
    };
    PersonalId::parse(kind, "", claims.personal_id.as_deref()?).ok()
}

#[cfg(test)]
mod tests;
