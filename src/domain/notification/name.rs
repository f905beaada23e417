//! The id of a notification, derived from what it is: a notification that is planned anew after the database was
//! restored from a backup has the name that it had, so that a consumer's journal recognises it.

use sha2::{Digest, Sha256};
use uuid::{Builder, Uuid};

use super::Kind;
use crate::domain::request_key::RequestKey;

/// Returns the id of the notification of this kind and round that is planned as number `count` of them, from 1: a
/// UUID of version 8, by the SHA-256 of what it is.
pub fn derived_id(request: &RequestKey, round: i32, kind: Kind, count: usize) -> Uuid {
    // Consumers keep names for years, so these texts are never changed.
    let said = match kind {
        Kind::Invitation => "invitation",
        Kind::Reminder { .. } => "reminder",
        Kind::Withdrawal => "withdrawal",
    };
    let sequence = kind.sequence();
    let text = format!("{round}/{said}/{sequence}/{count}");
    let digest = Sha256::new()
        .chain_update(request.id)
        .chain_update(text)
        .finalize();
    let (id, _) = digest
        .split_first_chunk()
        .expect("32 bytes are more than 16");
    Builder::from_custom_bytes(*id).into_uuid()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::domain::hsa_id::HsaId;

    fn request(id: u128) -> RequestKey {
        RequestKey {
            care_unit: HsaId::parse("SE2321000131-P1").expect("an HSA-id"),
            id: Uuid::from_u128(id),
        }
    }

    #[test]
    fn names_are_what_they_were() {
        for (kind, count, id) in [
            (Kind::Invitation, 1, "be2290c7-f70f-8bda-944e-3318e4411534"),
            (
                Kind::Reminder { sequence: 2 },
                3,
                "8c8bf776-39c4-86fb-9e28-543e74e3b140",
            ),
        ] {
            assert_eq!(derived_id(&request(7), 1, kind, count).to_string(), id);
        }
    }

    #[test]
    fn whatever_differs_makes_another_name() {
        let kinds = [Kind::Invitation, Kind::Withdrawal];
        let reminders = (1..=5).map(|sequence| Kind::Reminder { sequence });
        let kinds: Vec<Kind> = kinds.into_iter().chain(reminders).collect();
        let mut names = HashSet::new();
        for id in [7, 8] {
            for round in 1..=12 {
                for kind in &kinds {
                    for count in 1..=12 {
                        assert!(names.insert(derived_id(&request(id), round, *kind, count)));
                    }
                }
            }
        }
    }
}
