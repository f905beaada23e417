use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::*;
use crate::domain::hsa_id::HsaId;

fn claims() -> Value {
    json!({
        "iss": "https://idp.example",
        "sub": "portal",
        "aud": "care-invitation",
        "exp": 2_000,
        "nbf": 1_000,
        "scope": "openid booking.read",
        "care_units": ["SE2321000131-*"],
    })
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().expect("an object").remove(name);
    claims
}

fn read(claims: &Value) -> Result<(Rights, Validity), Refusal> {
    let claims = serde_json::from_value(claims.clone()).map_err(|_| CLAIMS)?;
    rights(claims)
}

fn token_with(header: &Value) -> String {
    let part = |it: &Value| URL_SAFE_NO_PAD.encode(it.to_string());
    format!("{}.{}.c2ln", part(header), part(&claims()))
}

#[test]
fn claims_give_rights_for_a_period() {
    let (rights, period) = read(&claims()).expect("rights");
    assert_eq!(rights.subject, "portal");
    assert_eq!(rights.scopes, [Scope::BookingRead].into_iter().collect());
    let unit = HsaId::parse("SE2321000131-P1").expect("an HSA-id");
    assert!(rights.care_units.contains(&unit));
    assert_eq!(rights.patient, None);
    let (from, until) = (1_000, 2_000);
    assert_eq!(period, Validity { from, until });
    let (_, period) = read(&without("nbf")).expect("rights");
    let from = i64::MIN;
    assert_eq!(period, Validity { from, until });
    let (rights, _) = read(&without("care_units")).expect("rights");
    assert!(!rights.care_units.contains(&unit), "none are named");
    let (rights, _) = read(&without("scope")).expect("rights");
    assert_eq!(rights.scopes, Scopes::default());
}

#[test]
fn claims_that_are_missing_or_of_another_type_give_none() {
    for name in ["iss", "sub", "exp"] {
        assert_eq!(read(&without(name)), Err(CLAIMS), "{name}");
        let wrong = [
            json!("7"),
            json!(7),
            json!(null),
            json!([]),
            json!({}),
            json!(true),
        ];
        for value in wrong {
            let is_right = match name {
                "iss" | "sub" => value.is_string(),
                _ => value.is_number(),
            };
            if !is_right {
                assert_eq!(
                    read(&with(name, value.clone())),
                    Err(CLAIMS),
                    "{name} {value}"
                );
            }
        }
    }
    for (name, value) in [
        ("nbf", json!("7")),
        ("nbf", json!([])),
        ("sub", json!("")),
        ("sub", json!("a\nb")),
        ("sub", json!("x".repeat(256))),
        ("scope", json!(["booking.read"])),
        ("care_units", json!("SE*")),
        ("care_units", json!(["SE2321000131-*", ""])),
        ("care_units", json!(7)),
    ] {
        let refused = read(&with(name, value.clone()));
        assert!(
            matches!(refused, Err(Refusal::TokenInvalid(_))),
            "{name} {value}"
        );
    }
}

#[test]
fn a_patient_is_named_where_the_token_is_theirs() {
    for (scope, number, kind, named) in [
        (
            "patient.self",
            json!("198003012385"),
            json!("PERSONNUMMER"),
            Some(true),
        ),
        (
            "patient.self",
            json!("19800301-2385"),
            json!("PERSONNUMMER"),
            None,
        ),
        (
            "patient.self",
            json!("198003012385"),
            json!("LOCAL_RESERVE_NUMBER"),
            None,
        ),
        ("patient.self", json!("198003012385"), json!(null), None),
        ("patient.self", json!(null), json!("PERSONNUMMER"), None),
        (
            "booking.read",
            json!("198003012385"),
            json!("PERSONNUMMER"),
            Some(false),
        ),
        ("booking.read", json!("nobody"), json!(null), Some(false)),
    ] {
        let mut claims = with("scope", json!(scope));
        claims["personal_id"] = number;
        claims["personal_id_type"] = kind;
        let read = read(&claims)
            .ok()
            .map(|(rights, _)| rights.patient.is_some());
        assert_eq!(read, named, "{scope}");
    }
}

#[test]
fn a_token_is_valid_within_its_period_and_a_minute_around_it() {
    let not_yet = Err(Refusal::TokenInvalid("it is not valid yet"));
    let expired = Err(Refusal::TokenExpired);
    for (from, until, now, expected) in [
        (1_000, 2_000, 939, not_yet.clone()),
        (1_000, 2_000, 940, Ok(1_120)),
        (1_000, 2_000, 2_059, Ok(1)),
        (1_000, 2_000, 2_060, expired.clone()),
        (0, i64::MAX, 1_000, Ok(VALIDITY_SECONDS_MAX)),
        (i64::MIN, i64::MIN, 1_000, expired),
        (i64::MAX, i64::MAX, 1_000, not_yet),
    ] {
        let period = Validity { from, until };
        assert_eq!(period.left(now), expected, "{period:?} at {now}");
    }
    let far = period(Some(-1.5), 1e300);
    assert_eq!((far.from, far.until), (-1, i64::MAX));
}

#[test]
fn a_header_is_that_of_an_access_token() {
    for (header_json, good) in [
        (json!({"alg": "RS256", "typ": "at+jwt", "kid": "a"}), true),
        (json!({"alg": "ES256", "typ": "application/at+JWT"}), true),
        (
            json!({"alg": "EdDSA", "typ": "JWT", "jku": "https://evil.example"}),
            true,
        ),
        (json!({"alg": "RS256", "typ": "id+jwt"}), false),
        (json!({"alg": "RS256"}), false),
        (json!({"alg": "none", "typ": "JWT"}), false),
        (json!({"alg": "HS256", "typ": "JWT"}), false),
        (json!({"alg": "HS512", "typ": "at+jwt"}), false),
        (json!({"alg": "ES256K", "typ": "JWT"}), false),
        (json!({"alg": 7, "typ": "JWT"}), false),
        (json!({"alg": "RS256", "typ": "JWT", "kid": 7}), false),
        (
            json!({"alg": "RS256", "typ": "JWT", "crit": ["b64"]}),
            false,
        ),
        (json!({"typ": "JWT"}), false),
        (json!([]), false),
    ] {
        assert_eq!(
            header(&token_with(&header_json)).is_ok(),
            good,
            "{header_json}"
        );
    }
    for token in [
        "",
        ".",
        "..",
        "...",
        "a.b",
        "a.b.c",
        "a.b.c.d",
        "\u{e5}.b.c",
    ] {
        assert_eq!(header(token).unwrap_err(), NO_TOKEN, "{token}");
    }
}
