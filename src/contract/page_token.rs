//! Page tokens: a cursor in a list, bound to the query of the list.
//!
//! A token is base64url, without padding, of a version, a payload of fixed width, and the first 16
//! bytes of SHA-256 over the list, the query and the payload. The check value detects tokens that
//! were altered or belong to another query; it is not a signature, since a forged token shows nothing
//! that its bearer may not list anyway. A query may hold an identity number, of which the check
//! value is a trace, so tokens are never logged.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use prost::Message;
use sha2::{Digest, Sha256};

use uuid::Uuid;

use super::Fault;
use crate::domain::hsa_id::{HSA_ID_MAX, HsaId};
use crate::domain::request_key::RequestKey;

/// Bytes of a request key in a payload: its id, and its care unit padded with zeros to the length of the
/// longest HSA-id.
pub(super) const KEY_BYTES: usize = 16 + HSA_ID_MAX;
const VERSION: u8 = 1;
const CHECK_BYTES: usize = 16;
/// Maximum characters in a token; ours have fewer.
const TOKEN_MAX: usize = 128;

/// Renders the token of a cursor in the `list` of `query`, which must be in its normalised form.
pub(super) fn render(list: &str, query: &impl Message, payload: &[u8]) -> String {
    let check = check(list, query, payload);
    URL_SAFE_NO_PAD.encode([&[VERSION], payload, &check[..]].concat())
}

/// Parses a token into its payload; `None` if the token is empty, as it is for the first page.
///
/// # Errors
///
/// [`Fault::PageToken`] if it was not rendered for this list and query.
pub(super) fn parse<const N: usize>(
    list: &str,
    query: &impl Message,
    token: &str,
) -> Result<Option<[u8; N]>, Fault> {
    if token.is_empty() {
        return Ok(None);
    }
    if token.len() > TOKEN_MAX {
        return Err(Fault::PageToken);
    }
    let bytes = URL_SAFE_NO_PAD
        .decode(token)
        .map_err(|_| Fault::PageToken)?;
    let payload = bytes
        .split_first()
        .filter(|(version, _)| **version == VERSION)
        .and_then(|(_, rest)| rest.split_first_chunk::<N>())
        .filter(|(payload, rest)| *rest == check(list, query, *payload))
        .map(|(payload, _)| *payload);
    payload.map(Some).ok_or(Fault::PageToken)
}

fn check(list: &str, query: &impl Message, payload: &[u8]) -> [u8; CHECK_BYTES] {
    let query = query.encode_to_vec();
    let digest = Sha256::new()
        .chain_update(list)
        .chain_update([0])
        .chain_update((query.len() as u64).to_be_bytes())
        .chain_update(query)
        .chain_update(payload)
        .finalize();
    *digest.first_chunk().expect("SHA-256 has 32 bytes")
}

/// Encodes a request key for a payload.
pub(super) fn key_bytes(key: &RequestKey) -> [u8; KEY_BYTES] {
    let mut bytes = [0; KEY_BYTES];
    bytes[..16].copy_from_slice(key.id.as_bytes());
    bytes[16..].copy_from_slice(&care_unit_bytes(&key.care_unit));
    bytes
}

/// Decodes a request key that [`key_bytes`] encoded.
pub(super) fn key_of(bytes: &[u8; KEY_BYTES]) -> Option<RequestKey> {
    let (id, care_unit) = bytes.split_first_chunk()?;
    Some(RequestKey {
        care_unit: care_unit_of(care_unit)?,
        id: Uuid::from_bytes(*id),
    })
}

/// Encodes a care unit for a payload.
pub(super) fn care_unit_bytes(care_unit: &HsaId) -> [u8; HSA_ID_MAX] {
    let care_unit = care_unit.as_str().as_bytes();
    let mut bytes = [0; HSA_ID_MAX];
    bytes[..care_unit.len()].copy_from_slice(care_unit);
    bytes
}

/// Decodes a care unit that [`care_unit_bytes`] encoded.
pub(super) fn care_unit_of(bytes: &[u8]) -> Option<HsaId> {
    let care_unit = std::str::from_utf8(bytes).ok()?;
    HsaId::parse(care_unit.trim_end_matches('\0'))
}

#[cfg(test)]
mod tests {
    use super::super::v1;
    use super::*;

    fn query(name: &str) -> v1::ListHistoryRequest {
        v1::ListHistoryRequest {
            name: name.into(),
            ..Default::default()
        }
    }

    #[test]
    fn a_token_belongs_to_its_list_and_its_query() {
        let token = render("ListHistory", &query("a"), &[1, 2, 3, 4]);
        let parsed = |list, name, token: &str| parse::<4>(list, &query(name), token).ok();
        assert_eq!(parsed("ListHistory", "a", &token), Some(Some([1, 2, 3, 4])));
        assert_eq!(parsed("ListHistory", "a", ""), Some(None));
        assert_eq!(parsed("ListHistory", "b", &token), None);
        assert_eq!(parsed("ListWorklist", "a", &token), None);
        assert!(parse::<3>("ListHistory", &query("a"), &token).is_err());
    }

    #[test]
    fn a_token_that_was_altered_is_refused() {
        let token = render("ListHistory", &query("a"), &[1, 2, 3, 4]);
        for i in 0..token.len() {
            let mut altered = token.clone().into_bytes();
            altered[i] = if altered[i] == b'A' { b'B' } else { b'A' };
            let altered = String::from_utf8(altered).unwrap();
            assert!(
                parse::<4>("ListHistory", &query("a"), &altered).is_err(),
                "{i}"
            );
        }
        for bad in [
            &token[1..],
            "=",
            "å",
            &token.repeat(100),
            &format!("{token}A"),
        ] {
            assert!(parse::<4>("ListHistory", &query("a"), bad).is_err());
        }
    }
}
