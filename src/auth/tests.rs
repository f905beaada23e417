use http::HeaderValue;

use super::*;
use crate::auth::care_units::VisibleUnits;
use crate::auth::scope::Scopes;

fn headers(actor: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in actor {
        let name: http::HeaderName = name.parse().expect("a name");
        headers.append(name, HeaderValue::from_str(value).expect("a value"));
    }
    headers
}

const NURSE: [(&str, &str); 2] = [(ACTOR_TYPE, "STAFF"), (ACTOR_ID, "SE2321000131-E1")];

#[tokio::test]
async fn without_authentication_everybody_may_do_everything_and_name_an_actor() {
    let open = Authenticator::open();
    for (given, name) in [(&[][..], "anonymous"), (&NURSE, "STAFF:SE2321000131-E1")] {
        let headers = headers(given);
        let caller = open.authenticate(&headers, None).await.expect("open");
        let actor = open.actor(&caller, &headers).expect("named as it must be");
        let caller = caller.on_behalf_of(actor);
        assert_eq!(
            (caller.subject(), caller.name().as_str()),
            ("anonymous", name)
        );
        assert!(Scope::ALL.into_iter().all(|it| caller.has(it)));
    }
    let half = headers(&NURSE[..1]);
    let caller = open.authenticate(&half, None).await.expect("open");
    assert!(matches!(open.actor(&caller, &half), Err(Refusal::Actor(_))));
}

#[tokio::test]
async fn an_actor_is_named_by_those_who_act_for_others_and_by_nobody_else() {
    let rights = |scope: &str| Rights {
        scopes: Scopes::parse(scope),
        care_units: VisibleUnits::All,
        ..Rights::anonymous()
    };
    let twice = [NURSE[0], NURSE[1], NURSE[1]];
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), r#"{"clients": []}"#).expect("written");
    let clients = Clients::open(file.path().to_owned()).expect("good settings");
    let closed = Authenticator::by_certificates(clients);
    for (scope, given, good) in [
        ("booking.read", &[][..], true),
        ("booking.read", &NURSE, false),
        ("booking.read", &NURSE[1..], false),
        ("booking.read actor", &NURSE, true),
        ("actor", &[], false),
        ("actor", &NURSE[..1], false),
        ("actor", &twice, false),
    ] {
        let caller = Caller::new(Arc::new(rights(scope)), None, Validity::Unlimited);
        let actor = closed.actor(&caller, &headers(given));
        assert_eq!(actor.is_ok(), good, "{scope} {given:?}");
    }
}
