//! Between the wire and the domain: every request message is parsed once into a command, and every
//! response is rendered from a record.
//!
//! Parsing collects every fault of shape, each with its path from the top of the message; faults that
//! need today's date or the stored request are left to the domain. Rendering is its mirror: parsing a
//! rendered command returns the same command. Nothing here waits, reads a clock or touches a store,
//! and no text made here quotes the caller's input.
//!
//! | file | contents |
//! | --- | --- |
//! | `mod` | faults, idempotent commands, resource names, page sizes |
//! | `access_log`, `concerns` | the access log, and whom messages are about |
//! | `text`, `calendar`, `enums`, `update_mask` | single fields |
//! | `booking_request`, `patient` | the form and the RPCs on one request |
//! | `care_invitation`, `history` | a request's invitation and history |
//! | `care_unit_settings` | the settings of a care unit |
//! | `change_stream` | what changes, and the cursors of its stream |
//! | `notification` | due notifications, leases and their acknowledgements, receipts, lists |
//! | `patient_request` | what a patient is shown of their requests |
//! | `slot` | free times and whether they are offered |
//! | `worklist`, `page_token`, `view` | worklists, their pages, and how much of a request they show |
//! | `clock` | time in the sandbox |

pub mod access_log;
pub mod batch;
pub mod booking_request;
pub mod calendar;
pub mod care_invitation;
pub mod care_unit_settings;
pub mod change_stream;
pub mod clock;
pub mod concerns;
mod enums;
pub mod history;
pub mod notification;
mod page_token;
pub mod patient;
pub mod patient_request;
pub mod slot;
mod text;
mod update_mask;
pub mod view;
pub mod worklist;

use std::collections::BTreeSet;
use std::fmt::{Display, Write as _};

use prost::Message;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::domain::Violation;
use crate::domain::care_units::CareUnits;
use crate::domain::hsa_id::HsaId;
use crate::domain::request_key::RequestKey;

#[allow(missing_docs, clippy::all)]
pub mod v1 {
    tonic::include_proto!("careinvitation.v1");
}
#[allow(missing_docs, clippy::all)]
pub mod sandbox_v1 {
    tonic::include_proto!("careinvitation.sandbox.v1");
}

/// The contract as an encoded `FileDescriptorSet`, with comments, for reflection.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Makes messages that hold an identity number print their name only.
macro_rules! print_name_only {
    ($($message:ident)+) => {
        $(impl std::fmt::Debug for v1::$message {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(stringify!($message))
            }
        })+
    };
}
print_name_only!(BookingRequest Patient PatientIdentity PatientRequest UpdatePatientRequest WorklistQuery DueNotification ListAccessLogRequest AccessedPatient);

/// Maximum faults reported for one call. They travel in the trailers of the response, of which common
/// clients accept 8 KiB.
const VIOLATIONS_MAX: usize = 50;
/// Name of every care unit that the caller may see.
const CARE_UNITS_EVERY: &str = "careUnits/-";
/// Maximum care units in one list.
const LISTED_UNITS_MAX: usize = 50;
/// Default number of items in a page.
const PAGE_SIZE_DEFAULT: u32 = 50;
/// Maximum items in a page.
const PAGE_SIZE_MAX: u32 = 500;

/// Reason why a request message was not accepted.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Fields that cannot be accepted.
    #[error(transparent)]
    Invalid(#[from] Violations),
    /// The page token, or the cursor, is not one of ours, or belongs to another query.
    #[error("the page token or cursor is not one of ours, or belongs to another query")]
    PageToken,
}

/// The faults of shape in a message, in the order of its fields; the first 50 of them.
#[derive(Debug, Default, thiserror::Error)]
#[error("fields are not valid")]
pub struct Violations {
    found: Vec<Violation>,
    /// Path of the message being parsed: empty, or ending in a full stop.
    path: String,
}

impl Violations {
    /// Returns the faults; never empty.
    pub fn into_vec(self) -> Vec<Violation> {
        self.found
    }

    /// Runs a parser over a whole message. Its result is discarded if it added a fault, so it may put
    /// anything in the place of a bad field and read on. If it returns `None` it must have added a fault.
    fn collect<T>(parse: impl FnOnce(&mut Self) -> Option<T>) -> Result<T, Self> {
        let mut violations = Self::default();
        match parse(&mut violations) {
            Some(parsed) if violations.found.is_empty() => Ok(parsed),
            Some(_) | None => {
                debug_assert!(!violations.found.is_empty(), "a field is missing silently");
                Err(violations)
            }
        }
    }

    /// Returns the faults of a message that is in `field` of another.
    fn inside(mut self, field: &str) -> Self {
        for violation in &mut self.found {
            violation.field = format!("{field}.{}", violation.field);
        }
        self
    }

    /// Runs a parser over the message in `field`.
    fn within<T>(&mut self, field: impl Display, parse: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        write!(self.path, "{field}.").expect("a String takes all that is written");
        let parsed = parse(self);
        self.path.truncate(length);
        parsed
    }

    /// Adds a fault of a field of the message being parsed.
    fn add(&mut self, field: impl Display, description: impl Into<String>) {
        if self.found.len() < VIOLATIONS_MAX {
            let field = format!("{}{field}", self.path);
            self.found.push(Violation::new(field, description));
        }
    }

    /// Adds the fault that a field is missing. Returns `None`, for the parser to return in turn.
    fn require<T>(&mut self, field: impl Display) -> Option<T> {
        self.add(field, "is required");
        None
    }
}

/// A command that changes something, with the parts of its idempotency key that the message determines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotentCommand<C> {
    /// Id made by the caller; the same in a replay.
    pub request_id: Uuid,
    /// SHA-256 of the RPC's name and of the parsed content: independent of the caller's spelling and of
    /// output-only fields, and without the request id.
    pub content_hash: [u8; 32],
    /// Command of the caller.
    pub command: C,
}

impl<C> IdempotentCommand<C> {
    /// Makes the command from `content`, the message with `command` rendered back into it and without its
    /// request id.
    ///
    /// The hash is kept for 30 days, so a new field in the contract must not change the encoding of messages
    /// without it; protobuf ensures that, and fixes the order of the fields.
    fn new(request_id: Uuid, rpc: &str, content: &impl Message, command: C) -> Self {
        let content_hash = Sha256::new()
            .chain_update(rpc)
            .chain_update([0])
            .chain_update(content.encode_to_vec())
            .finalize()
            .into();
        Self {
            request_id,
            content_hash,
            command,
        }
    }
}

/// Returns `careUnits/{HSA-id}`.
pub fn care_unit_name(care_unit: &HsaId) -> String {
    format!("careUnits/{}", care_unit.as_str())
}

/// Returns `careUnits/{HSA-id}/settings`.
pub fn settings_name(care_unit: &HsaId) -> String {
    format!("{}/settings", care_unit_name(care_unit))
}

/// Returns `careUnits/{HSA-id}/bookingRequests/{uuid}`.
pub fn request_name(key: &RequestKey) -> String {
    format!(
        "{}/bookingRequests/{}",
        care_unit_name(&key.care_unit),
        key.id
    )
}

/// Returns `careUnits/{HSA-id}/bookingRequests/{uuid}/notifications/{uuid}`.
pub fn notification_name(key: &RequestKey, notification: Uuid) -> String {
    format!("{}/notifications/{notification}", request_name(key))
}

fn parse_care_unit_name(name: &str, field: &str, violations: &mut Violations) -> Option<HsaId> {
    let parsed = match segments(name)[..] {
        ["careUnits", care_unit] => HsaId::parse(care_unit),
        _ => None,
    };
    expect_parsed(
        parsed,
        name,
        "must be careUnits/{HSA-id}",
        field,
        violations,
    )
}

fn parse_settings_name(name: &str, field: &str, violations: &mut Violations) -> Option<HsaId> {
    let parsed = match segments(name)[..] {
        ["careUnits", care_unit, "settings"] => HsaId::parse(care_unit),
        _ => None,
    };
    let form = "must be careUnits/{HSA-id}/settings";
    expect_parsed(parsed, name, form, field, violations)
}

fn parse_request_name(name: &str, field: &str, violations: &mut Violations) -> Option<RequestKey> {
    let parsed = match segments(name)[..] {
        ["careUnits", care_unit, "bookingRequests", id] => request_key(care_unit, id),
        _ => None,
    };
    let form = "must be careUnits/{HSA-id}/bookingRequests/{uuid}";
    expect_parsed(parsed, name, form, field, violations)
}

fn parse_notification_name(
    name: &str,
    field: &str,
    violations: &mut Violations,
) -> Option<(RequestKey, Uuid)> {
    let parsed = match segments(name)[..] {
        [
            "careUnits",
            care_unit,
            "bookingRequests",
            id,
            "notifications",
            notification,
        ] => request_key(care_unit, id).zip(uuid(notification)),
        _ => None,
    };
    let form = "must be careUnits/{HSA-id}/bookingRequests/{uuid}/notifications/{uuid}";
    expect_parsed(parsed, name, form, field, violations)
}

/// Splits a name into segments, at most seven, the last of which holds the rest. No name has seven.
fn segments(name: &str) -> Vec<&str> {
    name.splitn(7, '/').collect()
}

fn request_key(care_unit: &str, id: &str) -> Option<RequestKey> {
    Some(RequestKey {
        care_unit: HsaId::parse(care_unit)?,
        id: uuid(id)?,
    })
}

/// Parses a UUID with its hyphens, in any case. Of the forms that the crate reads, it alone has 36 bytes.
fn uuid(text: &str) -> Option<Uuid> {
    Uuid::try_parse(text).ok().filter(|_| text.len() == 36)
}

fn expect_parsed<T>(
    parsed: Option<T>,
    name: &str,
    form: &str,
    field: &str,
    violations: &mut Violations,
) -> Option<T> {
    if name.is_empty() {
        return violations.require(field);
    }
    if parsed.is_none() {
        violations.add(field, form);
    }
    parsed
}

/// Parses the field `care_units`: at most `max` names, sorted and each once.
fn parse_care_units(names: &[String], max: usize, violations: &mut Violations) -> Vec<HsaId> {
    if names.len() > max {
        violations.add("care_units", format!("must be at most {max}"));
        return Vec::new();
    }
    let parsed: BTreeSet<_> = names
        .iter()
        .enumerate()
        .filter_map(|(i, name)| parse_care_unit_name(name, &format!("care_units[{i}]"), violations))
        .collect();
    parsed.into_iter().collect()
}

/// Parses the field `care_units` of a list: 1 to 50 names, sorted and each once.
fn parse_listed_units(names: &[String], violations: &mut Violations) -> Vec<HsaId> {
    if names.is_empty() {
        violations.add("care_units", format!("must be 1 to {LISTED_UNITS_MAX}"));
    }
    parse_care_units(names, LISTED_UNITS_MAX, violations)
}

/// Parses the field `care_units`: 1 to 50 names, sorted and each once, or the name of all of them alone.
fn parse_units_or_every(names: &[String], violations: &mut Violations) -> CareUnits {
    if names == [CARE_UNITS_EVERY] {
        return CareUnits::Every;
    }
    if names.iter().any(|name| name == CARE_UNITS_EVERY) {
        violations.add("care_units", format!("{CARE_UNITS_EVERY} must stand alone"));
        return CareUnits::These(Vec::new());
    }
    CareUnits::These(parse_listed_units(names, violations))
}

fn parse_request_id(text: &str, violations: &mut Violations) -> Option<Uuid> {
    expect_parsed(
        uuid(text),
        text,
        "must be a UUID with hyphens",
        "request_id",
        violations,
    )
}

fn parse_page_size(page_size: i32, violations: &mut Violations) -> u32 {
    match u32::try_from(page_size) {
        Ok(0) => PAGE_SIZE_DEFAULT,
        Ok(size) => size.min(PAGE_SIZE_MAX),
        Err(_) => {
            violations.add("page_size", "must not be negative");
            PAGE_SIZE_DEFAULT
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "018f3a5e-7a1b-7c3d-8e9f-0123456789ab";

    /// Runs a parser of one field; returns its result and the fields with faults.
    pub(super) fn outcome<T>(parse: impl FnOnce(&mut Violations) -> T) -> (T, Vec<String>) {
        let mut violations = Violations::default();
        let parsed = parse(&mut violations);
        (parsed, fields(violations))
    }

    /// Returns the fields with faults, in order.
    pub(super) fn fields(violations: Violations) -> Vec<String> {
        let found = violations.into_vec().into_iter();
        found.map(|violation| violation.field).collect()
    }

    #[test]
    fn a_name_that_was_rendered_is_parsed_back() {
        let key = request_key("SE2321000131-P1", ID).unwrap();
        let notification = Uuid::from_u128(7);
        let unit = care_unit_name(&key.care_unit);
        assert_eq!(unit, "careUnits/SE2321000131-P1");
        let (parsed, faults) = outcome(|v| parse_care_unit_name(&unit, "parent", v));
        assert_eq!((parsed.as_ref(), faults.len()), (Some(&key.care_unit), 0));
        let (parsed, _) = outcome(|v| parse_request_name(&request_name(&key), "name", v));
        assert_eq!(parsed.as_ref(), Some(&key));
        let name = notification_name(&key, notification);
        let (parsed, _) = outcome(|v| parse_notification_name(&name, "name", v));
        assert_eq!(parsed, Some((key, notification)));
    }

    #[test]
    fn a_request_is_named_in_any_case_of_its_ids_and_in_one_form() {
        let good = format!(
            "careUnits/se2321000131-p1/bookingRequests/{}",
            ID.to_uppercase()
        );
        let (parsed, faults) = outcome(|v| parse_request_name(&good, "name", v));
        assert_eq!(
            (parsed, faults.len()),
            (request_key("SE2321000131-P1", ID), 0)
        );
        let simple = ID.replace('-', "");
        for bad in [
            String::new(),
            "careUnits/SE2321000131-P1".into(),
            format!("careunits/SE2321000131-P1/bookingRequests/{ID}"),
            format!("careUnits/SE232100013-P1/bookingRequests/{ID}"),
            format!("careUnits/SE2321000131-P1/bookingRequests/{simple}"),
            format!("careUnits/SE2321000131-P1/bookingRequests/{{{ID}}}"),
            format!("careUnits/SE2321000131-P1/bookingRequests/{ID}/"),
            format!("/careUnits/SE2321000131-P1/bookingRequests/{ID}"),
            format!("careUnits/SE2321000131-P1/bookingRequests/{ID}/notifications/{ID}"),
            format!("careUnits/-/bookingRequests/{ID}"),
        ] {
            let (parsed, faults) = outcome(|v| parse_request_name(&bad, "name", v));
            assert_eq!((parsed, faults), (None, vec!["name".into()]), "{bad}");
        }
    }

    #[test]
    fn a_replay_is_of_the_same_call_with_the_same_content() {
        let content = |name: &str| v1::GetBookingRequestRequest { name: name.into() };
        let hash =
            |rpc, name| IdempotentCommand::new(Uuid::nil(), rpc, &content(name), ()).content_hash;
        assert_eq!(hash("Cancel", "a"), hash("Cancel", "a"));
        assert_ne!(hash("Cancel", "a"), hash("Change", "a"));
        assert_ne!(hash("Cancel", "a"), hash("Cancel", "b"));
    }

    #[test]
    fn a_page_size_has_a_default_and_a_maximum() {
        for (given, taken) in [(0, 50), (1, 1), (500, 500), (501, 500), (i32::MAX, 500)] {
            assert_eq!(outcome(|v| parse_page_size(given, v)), (taken, vec![]));
        }
        assert_eq!(outcome(|v| parse_page_size(-1, v)).1, ["page_size"]);
    }

    #[test]
    fn care_units_come_in_order_and_each_once() {
        let names = ["SE2321000131-P2", "SE2321000131-p1", "se2321000131-P2"];
        let names = names.map(|id| format!("careUnits/{id}"));
        let (parsed, faults) = outcome(|v| parse_care_units(&names, 3, v));
        let parsed: Vec<_> = parsed.iter().map(HsaId::as_str).collect();
        assert_eq!(parsed, ["SE2321000131-P1", "SE2321000131-P2"]);
        assert!(faults.is_empty());
        assert_eq!(
            outcome(|v| parse_care_units(&names, 2, v)).1,
            ["care_units"]
        );
    }

    #[test]
    fn no_more_faults_are_named_than_an_answer_can_carry() {
        let (_, faults) = outcome(|v| (0..100).for_each(|i| v.add(format!("f[{i}]"), "is bad")));
        assert_eq!(faults.len(), VIOLATIONS_MAX);
    }
}
