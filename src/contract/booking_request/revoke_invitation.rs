//! RevokeInvitation: the comment.

use crate::contract::text::{COMMENT_MAX, parse_lines};
use crate::contract::{
    IdempotentCommand, Violations, parse_request_id, parse_request_name, request_name, v1,
};
use crate::domain::booking_request::revoke_invitation::RevokeInvitation;
use crate::domain::request_key::RequestKey;

/// Parses RevokeInvitation.
///
/// # Errors
///
/// Every fault of shape.
pub fn parse_revoke(
    message: v1::RevokeInvitationRequest,
) -> Result<IdempotentCommand<(RequestKey, RevokeInvitation)>, Violations> {
    Violations::collect(|violations| {
        let key = parse_request_name(&message.name, "name", violations);
        let request_id = parse_request_id(&message.request_id, violations);
        let comment = parse_lines(&message.comment, COMMENT_MAX, "comment", violations);
        let key = key?;
        let command = RevokeInvitation {
            etag: message.etag,
            comment,
        };
        let content = v1::RevokeInvitationRequest {
            name: request_name(&key),
            request_id: String::new(),
            etag: command.etag.clone(),
            comment: command.comment.clone(),
        };
        Some(IdempotentCommand::new(
            request_id?,
            "RevokeInvitation",
            &content,
            (key, command),
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::booking_request::samples::key;
    use crate::contract::tests::fields;
    use uuid::Uuid;

    fn revoke(comment: &str) -> v1::RevokeInvitationRequest {
        v1::RevokeInvitationRequest {
            name: request_name(&key()),
            request_id: Uuid::from_u128(5).to_string(),
            comment: comment.into(),
            ..Default::default()
        }
    }

    #[test]
    fn each_fault_of_a_revocation_names_its_field() {
        let bare = v1::RevokeInvitationRequest {
            comment: "\0".into(),
            ..Default::default()
        };
        for (message, faults) in [
            (revoke(""), vec![]),
            (revoke("fel patient\nkallad"), vec![]),
            (revoke(&"x".repeat(2_001)), vec!["comment"]),
            (bare, vec!["name", "request_id", "comment"]),
        ] {
            let found = parse_revoke(message).err().map(fields).unwrap_or_default();
            assert_eq!(found, faults);
        }
    }

    #[test]
    fn the_comment_is_part_of_what_a_call_says() {
        let hash = |comment| parse_revoke(revoke(comment)).unwrap().content_hash;
        assert_eq!(hash("a"), hash("a"));
        assert_ne!(hash("a"), hash("b"));
    }
}
