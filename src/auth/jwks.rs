//! The public keys of an issuer, as RFC 7517 writes them. Keys that are of no use here are skipped: issuers
//! publish those for encryption beside those for signatures.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{
    AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse,
};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

/// Maximum keys in a set.
const KEYS_MAX: usize = 100;
/// Least bytes in the modulus of an RSA key: 2048 bits.
const MODULUS_BYTES_MIN: usize = 256;

/// The public keys of an issuer.
#[derive(Debug, Default)]
pub struct KeySet(Vec<Key>);

/// A public key for signatures.
#[derive(Debug)]
struct Key {
    id: Option<String>,
    /// Algorithms of the signatures that it verifies.
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

/// Reason for which a set cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes are no such set.
    #[error("not a JSON Web Key Set")]
    Malformed,
    /// There are too many keys.
    #[error("more than {KEYS_MAX} keys")]
    TooMany,
    /// There is none that verifies signatures.
    #[error("no public key for signatures")]
    NoKeys,
}

/// The set as it is written; each key is read by itself, so that one of another kind does no harm.
#[derive(Deserialize)]
struct Written {
    keys: Vec<Value>,
}

impl KeySet {
    /// Parses a key set.
    ///
    /// # Errors
    ///
    /// It is no key set, or has no key that can be used.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let written: Written = serde_json::from_slice(bytes).map_err(|_| Error::Malformed)?;
        if written.keys.len() > KEYS_MAX {
            return Err(Error::TooMany);
        }
        let jwks = written.keys.into_iter().map(serde_json::from_value::<Jwk>);
        let keys: Vec<_> = jwks.filter_map(|jwk| usable(&jwk.ok()?)).collect();
        match keys.is_empty() {
            true => Err(Error::NoKeys),
            false => Ok(Self(keys)),
        }
    }

    /// Returns the key with which a token of this header was signed. A token that names none was signed with
    /// the only key for its algorithm.
    pub fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<&DecodingKey> {
        let mut fitting = self
            .0
            .iter()
            .filter(|it| it.algorithms.contains(&algorithm));
        if let Some(id) = id {
            return fitting
                .find(|it| it.id.as_deref() == Some(id))
                .map(|it| &it.key);
        }
        match (fitting.next(), fitting.next()) {
            (Some(only), None) => Some(&only.key),
            (None, _) | (Some(_), Some(_)) => None,
        }
    }

    /// Returns the number of keys.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

/// Returns a key that verifies signatures; none for any other.
fn usable(jwk: &Jwk) -> Option<Key> {
    let common = &jwk.common;
    let for_signatures = match &common.public_key_use {
        None | Some(PublicKeyUse::Signature) => true,
        Some(PublicKeyUse::Encryption | PublicKeyUse::Other(_)) => false,
    };
    let verifies = |it: &Vec<KeyOperations>| it.contains(&KeyOperations::Verify);
    if !for_signatures || !common.key_operations.as_ref().is_none_or(verifies) {
        return None;
    }
    let mut algorithms = algorithms(&jwk.algorithm);
    if let Some(only) = common.key_algorithm {
        algorithms.retain(|it| KeyAlgorithm::from(*it) == only);
    }
    let key = || DecodingKey::from_jwk(jwk).ok();
    let key = (!algorithms.is_empty()).then(key)??;
    Some(Key {
        id: common.key_id.clone(),
        algorithms,
        key,
    })
}

/// Returns the algorithms of the signatures that a key of this kind may verify: asymmetric ones, and only
/// with a key that is long enough.
fn algorithms(parameters: &AlgorithmParameters) -> Vec<Algorithm> {
    match parameters {
        AlgorithmParameters::RSA(rsa) => {
            let modulus = URL_SAFE_NO_PAD.decode(&rsa.n).unwrap_or_default();
            // ring wants numbers without zeros before them, which RFC 7518 rules out too.
            let is_long = MODULUS_BYTES_MIN <= modulus.len() && modulus[0] != 0;
            match is_long {
                true => vec![
                    Algorithm::RS256,
                    Algorithm::RS384,
                    Algorithm::RS512,
                    Algorithm::PS256,
                    Algorithm::PS384,
                    Algorithm::PS512,
                ],
                false => Vec::new(),
            }
        }
        AlgorithmParameters::EllipticCurve(ec) => match ec.curve {
            EllipticCurve::P256 => vec![Algorithm::ES256],
            EllipticCurve::P384 => vec![Algorithm::ES384],
            _ => Vec::new(),
        },
        AlgorithmParameters::OctetKeyPair(pair) => match pair.curve {
            EllipticCurve::Ed25519 => vec![Algorithm::EdDSA],
            _ => Vec::new(),
        },
        // Symmetric keys, and kinds that are not known.
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ed(id: Option<&str>) -> Value {
        let x = URL_SAFE_NO_PAD.encode([7; 32]);
        json!({"kty": "OKP", "crv": "Ed25519", "x": x, "kid": id})
    }

    fn with(mut key: Value, name: &str, value: Value) -> Value {
        key[name] = value;
        key
    }

    fn parse(keys: &[Value]) -> Result<KeySet, Error> {
        KeySet::parse(json!({"keys": keys}).to_string().as_bytes())
    }

    #[test]
    fn a_key_is_found_by_its_id_and_algorithm() {
        let set = parse(&[ed(Some("a")), ed(Some("b"))]).expect("keys");
        assert_eq!(set.count(), 2);
        for (id, algorithm, found) in [
            (Some("a"), Algorithm::EdDSA, true),
            (Some("b"), Algorithm::EdDSA, true),
            (Some("c"), Algorithm::EdDSA, false),
            (Some("../../etc/passwd"), Algorithm::EdDSA, false),
            (Some("a"), Algorithm::RS256, false),
            (Some("a"), Algorithm::HS256, false),
            (None, Algorithm::EdDSA, false),
        ] {
            assert_eq!(set.find(id, algorithm).is_some(), found, "{id:?}");
        }
        let only = parse(&[ed(Some("a"))]).expect("a key");
        assert!(only.find(None, Algorithm::EdDSA).is_some());
        let nameless = parse(&[ed(None)]).expect("a key");
        assert!(nameless.find(None, Algorithm::EdDSA).is_some());
        assert!(nameless.find(Some("a"), Algorithm::EdDSA).is_none());
    }

    #[test]
    fn keys_of_no_use_are_skipped() {
        let short = URL_SAFE_NO_PAD.encode([0xff; 128]);
        let padded = URL_SAFE_NO_PAD.encode([&[0][..], &[0xff; 256]].concat());
        for key in [
            json!({"kty": "oct", "k": "c2VjcmV0", "kid": "a"}),
            json!({"kty": "RSA", "n": short, "e": "AQAB", "kid": "a"}),
            json!({"kty": "RSA", "n": padded, "e": "AQAB", "kid": "a"}),
            json!({"kty": "EC", "crv": "P-521", "x": "AA", "y": "AA"}),
            json!({"kty": "OKP", "crv": "X25519", "x": "AA"}),
            json!({"kty": "new"}),
            json!(7),
            with(ed(None), "use", json!("enc")),
            with(ed(None), "key_ops", json!(["encrypt"])),
            with(ed(None), "alg", json!("RSA-OAEP")),
            with(ed(None), "x", json!("not base64 !")),
        ] {
            assert_eq!(
                parse(std::slice::from_ref(&key)).unwrap_err(),
                Error::NoKeys,
                "{key}"
            );
            let beside = parse(&[key, ed(Some("b"))]).expect("one key");
            assert_eq!(beside.count(), 1);
        }
    }

    #[test]
    fn what_is_no_key_set_is_refused() {
        for bytes in [&b""[..], b"{}", b"[]", b"null", b"<html>", b"{\"keys\": 7}"] {
            assert_eq!(KeySet::parse(bytes).unwrap_err(), Error::Malformed);
        }
        assert_eq!(parse(&[]).unwrap_err(), Error::NoKeys);
        let many: Vec<_> = (0..=KEYS_MAX).map(|_| ed(None)).collect();
        assert_eq!(parse(&many).unwrap_err(), Error::TooMany);
        let deep = "[".repeat(100_000);
        assert_eq!(
            KeySet::parse(deep.as_bytes()).unwrap_err(),
            Error::Malformed
        );
    }
}
