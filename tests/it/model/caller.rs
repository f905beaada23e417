//! The callers of a walk: one who may see and know everything, and a clerk of one care unit who has not the scope
//! `patient.protected`. Both are of one subject, so that each may repeat what the other has done.

use std::fs;

use care_invitation::auth::Authenticator;
use care_invitation::auth::keys::Source;
use care_invitation::contract::v1;
use serde_json::json;
use tempfile::TempDir;

use super::call;
use super::compare::same;
use super::request::Request;
use crate::door::by_tokens;
use crate::door::issuer::{Signer, claims, key_set, seconds};
use crate::harness::Harness;

/// Who makes a call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Caller {
    #[default]
    Staff,
    Clerk,
}

pub const CALLERS: [Caller; 2] = [Caller::Staff, Caller::Clerk];

/// The subject of every token.
pub const SUBJECT: &str = "booking-system";
/// On whose behalf the caller calls who may see everything.
const ACTOR_ID: &str = "SE2321000131-E000000000001";

impl Caller {
    /// Returns on whose behalf the caller calls; empty for the subject by itself.
    pub fn actor(self) -> &'static str {
        match self {
            Self::Staff => "STAFF:SE2321000131-E000000000001",
            Self::Clerk => "",
        }
    }

    /// Returns whether the caller may see a care unit.
    pub fn sees(self, unit: &str) -> bool {
        match self {
            Self::Staff => true,
            Self::Clerk => unit == call::units()[0],
        }
    }

    /// Returns whether the caller knows the patient of a request by number.
    pub fn knows(self, request: &Request) -> bool {
        match self {
            Self::Staff => true,
            Self::Clerk => !request.is_protected(),
        }
    }

    /// Returns whether the patient's number finds a request for the caller.
    pub fn finds(self, request: &Request) -> bool {
        self.sees(&request.unit) && self.knows(request)
    }

    /// Returns a request that the caller was shown as others see it, if its number is shown or masked as it must be.
    pub fn unmasked(
        self,
        request: &Request,
        mut shown: v1::BookingRequest,
    ) -> Result<v1::BookingRequest, String> {
        let patient = shown.patient.get_or_insert_default();
        let masked = !self.knows(request);
        let (number, kept) = (&request.patient().personal_id, &patient.personal_id);
        let expected = match masked {
            true => (true, ""),
            false => (false, &**number),
        };
        let actual = (patient.personal_id_masked, &**kept);
        same("what is shown of the patient", &expected, &actual)?;
        patient.personal_id.clone_from(number);
        patient.personal_id_masked = false;
        Ok(shown)
    }
}

/// Tokens of the callers.
pub struct Tokens {
    staff: String,
    clerk: String,
    auditor: String,
    /// One who sees what the clerk does.
    auditing_clerk: String,
}

impl Tokens {
    /// Issues them, for a service that trusts their issuer.
    pub async fn issue() -> (Self, Authenticator) {
        let signer = Signer::ed("walk");
        let folder = TempDir::new().expect("a folder");
        let path = folder.path().join("keys.json");
        fs::write(&path, key_set(&[&signer])).expect("written");
        let token = |scope: &str, units: String| {
            let mut claims = claims();
            claims["exp"] = json!(seconds() + 3_600);
            claims["scope"] = json!(scope);
            claims["care_units"] = json!(units);
            signer.token(&claims)
        };
        let scopes = "booking.read booking.write worklist.read notification.deliver settings.write";
        let unit = call::units()[0].replace("careUnits/", "");
        let tokens = Self {
            staff: token(&format!("{scopes} patient.protected actor"), "*".into()),
            clerk: token(scopes, unit.clone()),
            auditor: token("audit.read patient.protected", "*".into()),
            auditing_clerk: token("audit.read", unit),
        };
        (tokens, by_tokens(Source::File(path)).await)
    }

    /// Lets the calls that follow be those of a caller.
    pub fn call_as(&self, caller: Caller, harness: &Harness) {
        match caller {
            Caller::Staff => harness.call_with(&self.staff, Some(ACTOR_ID)),
            Caller::Clerk => harness.call_with(&self.clerk, None),
        }
    }

    /// Lets the calls that follow be those of an auditor, who sees everything or what the clerk does.
    pub fn audit(&self, harness: &Harness, sees_everything: bool) {
        let token = match sees_everything {
            true => &self.auditor,
            false => &self.auditing_clerk,
        };
        harness.call_with(token, None);
    }
}
