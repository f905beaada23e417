//! Which calls a scope opens: the contract's own word for each method, the document's table, and the calls.

use std::collections::BTreeMap;
use std::fs;

use care_invitation::auth::scope::Scope;
use care_invitation::clock::Clock;
use serde_json::json;
use tonic::Code;
use tonic_types::StatusExt;

use super::issuer::{Signer, claims_with};
use super::tokens::trusting;
use crate::harness::{refusal, served_with};
use crate::make;
use crate::wire::{Wire, frame};

const DOCUMENT: &str = "docs/security.md";
const BEGIN: &str =
    "from here to the end mark, tests/it/door/scopes.rs compares with the descriptors -->\n";
const END: &str = "<!-- scopes: end -->";

/// Each method's path with the names of its scopes, the sandbox's included.
pub fn required() -> Vec<(String, Vec<&'static str>)> {
    let methods = served_with(&Clock::sandbox(make::at(super::NOW))).methods();
    let required = methods.required_scopes().into_iter();
    required
        .map(|(path, scopes)| (path.to_owned(), scopes.names()))
        .collect()
}

/// The table of the document, a row for the methods of a service that need the same scopes.
fn table() -> String {
    let mut rows: BTreeMap<(String, Vec<&str>), Vec<String>> = BTreeMap::new();
    for (path, scopes) in required() {
        let (service, method) = path.rsplit_once('/').expect("a path");
        let service = service.rsplit('.').next().expect("a service").to_owned();
        let methods = rows.entry((service, scopes)).or_default();
        methods.push(method.to_owned());
    }
    let mut table = "\n| service | calls | scope |\n| --- | --- | --- |\n".to_owned();
    for ((service, scopes), methods) in rows {
        let scopes: Vec<_> = scopes.iter().map(|it| format!("`{it}`")).collect();
        let row = format!(
            "| {service} | {} | {} |\n",
            methods.join(", "),
            scopes.join(" or ")
        );
        table.push_str(&row);
    }
    table.push('\n');
    table
}

#[test]
fn the_document_has_the_scopes_of_the_contract() {
    let document = fs::read_to_string(DOCUMENT).expect("the document");
    let (_, rest) = document.split_once(BEGIN).expect("a table begins");
    let (written, _) = rest.split_once(END).expect("a table ends");
    let table = table();
    assert_eq!(written, table, "{DOCUMENT} must have this table:\n{table}");
}

#[tokio::test]
async fn a_call_without_its_scope_is_refused_before_it_is_looked_at() {
    let signer = Signer::ed("a");
    let service = trusting(&[&signer]).await;
    let wire = Wire::connect(service.address).await;
    for (path, needed) in required() {
        for scope in Scope::ALL {
            let mut claims = claims_with("scope", Some(json!(scope.name())));
            claims["personal_id"] = json!("198003012385");
            claims["personal_id_type"] = json!("PERSONNUMMER");
            let token = format!("Bearer {}", signer.token(&claims));
            let mut metadata = vec![("authorization", token.as_str())];
            if scope == Scope::Actor {
                metadata.extend([("actor-type", "STAFF"), ("actor-id", "e-1")]);
            }
            // Bytes that are no message: whoever reads them says so.
            let status = wire.call(&path, &metadata, frame(0, &[0xff; 64])).await;
            let expected = match needed.contains(&scope.name()) {
                true => (Code::InvalidArgument, "MESSAGE_MALFORMED".to_owned()),
                false => (Code::PermissionDenied, "SCOPE_MISSING".to_owned()),
            };
            assert_eq!(refusal(&status), expected, "{path} with {}", scope.name());
            if expected.0 == Code::PermissionDenied {
                let details = status.get_error_details();
                let info = details.error_info().expect("a reason");
                assert_eq!(info.metadata["scope"], needed.join(" "));
            }
        }
    }
}
