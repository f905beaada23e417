//! ReplacePersonalId: the identity that a patient had and the one that they have instead.

use crate::contract::patient::{parse_identity_of, render_identity};
use crate::contract::{IdempotentCommand, Violations, parse_request_id, request_name, v1};
use crate::domain::booking_request::replace_personal_id::ReplacePersonalId;
use crate::domain::request_key::RequestKey;

/// Parses ReplacePersonalId.
///
/// # Errors
///
/// Every fault of shape; two identities that are the same are one of `new_identity`.
pub fn parse_replace_personal_id(
    message: v1::ReplacePersonalIdRequest,
) -> Result<IdempotentCommand<ReplacePersonalId>, Violations> {
    Violations::collect(|violations| {
        let old = parse_identity_of(message.old_identity.as_ref(), "old_identity", violations);
        let new = parse_identity_of(message.new_identity.as_ref(), "new_identity", violations);
        if old.is_some() && old == new {
            violations.add("new_identity", "must be another than the old one");
        }
        let request_id = parse_request_id(&message.request_id, violations);
        let command = ReplacePersonalId {
            old: old?,
            new: new?,
        };
        let content = v1::ReplacePersonalIdRequest {
            old_identity: Some(render_identity(&command.old)),
            new_identity: Some(render_identity(&command.new)),
            request_id: String::new(),
        };
        Some(IdempotentCommand::new(
            request_id?,
            "ReplacePersonalId",
            &content,
            command,
        ))
    })
}

/// Renders the response of ReplacePersonalId with the requests that moved, and those of them that have an open duplicate.
pub fn render_replaced(
    moved: &[RequestKey],
    duplicates: &[RequestKey],
) -> v1::ReplacePersonalIdResponse {
    v1::ReplacePersonalIdResponse {
        booking_requests: moved.iter().map(request_name).collect(),
        with_open_duplicate: duplicates.iter().map(request_name).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::tests::fields;
    use uuid::Uuid;

    fn identity(number: &str) -> Option<v1::PatientIdentity> {
        Some(v1::PatientIdentity {
            personal_id: number.into(),
            personal_id_type: v1::PersonalIdType::Personnummer.into(),
            issuer: String::new(),
        })
    }

    fn call(old: &str, new: &str) -> v1::ReplacePersonalIdRequest {
        v1::ReplacePersonalIdRequest {
            old_identity: identity(old),
            new_identity: identity(new),
            request_id: Uuid::from_u128(5).to_string(),
        }
    }

    #[test]
    fn each_fault_of_a_replacement_names_its_field() {
        let (one, other) = ("198003012385", "191212121212");
        for (message, faults) in [
            (call(one, other), vec![]),
            (call(one, one), vec!["new_identity"]),
            (
                call("196408233235", "201509160006"),
                vec!["old_identity.personal_id", "new_identity.personal_id"],
            ),
            (
                v1::ReplacePersonalIdRequest::default(),
                vec!["old_identity", "new_identity", "request_id"],
            ),
        ] {
            assert!(!format!("{message:?}").contains("19"));
            let parsed = parse_replace_personal_id(message);
            assert_eq!(parsed.map_or_else(fields, |_| vec![]), faults);
        }
    }

    #[test]
    fn both_identities_are_content() {
        let hash = |old, new| {
            let parsed = parse_replace_personal_id(call(old, new)).unwrap();
            parsed.content_hash
        };
        let (one, other) = ("198003012385", "191212121212");
        assert_ne!(hash(one, other), hash(other, one));
    }
}
