//! Tokens: whom they let in, for how long, and in whose name.

use std::fs;
use std::time::{Duration, Instant};

use care_invitation::auth::keys::Source;
use care_invitation::contract::v1;
use care_invitation::contract::v1::booking_request_service_client::BookingRequestServiceClient;
use care_invitation::contract::v1::notification_service_client::NotificationServiceClient;
use care_invitation::contract::v1::worklist_service_client::WorklistServiceClient;
use prost::Message;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;

use super::issuer::{Signer, base64, claims, claims_with, key_set, seconds};
use super::{
    Guarded, admitted, ask, ask_with, bearing, by_tokens, is_admitted, unauthenticated, with,
};
use crate::harness::{bad_fields, refusal, within};
use crate::logged::Log;
use crate::make;
use crate::wire::{Wire, frame};

const GET: &str = "/careinvitation.v1.BookingRequestService/GetBookingRequest";

/// A service that takes the tokens of these signers.
pub async fn trusting(signers: &[&Signer]) -> Guarded {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("keys.json");
    fs::write(&path, key_set(signers)).expect("written");
    Guarded::start(by_tokens(Source::File(path)).await).await
}

#[tokio::test]
async fn tokens_of_every_asymmetric_algorithm_let_in() {
    let algorithms = [
        ("a", "RS256"),
        ("b", "RS384"),
        ("c", "RS512"),
        ("d", "PS256"),
        ("e", "PS384"),
        ("f", "PS512"),
    ];
    let mut signers: Vec<_> = algorithms.map(|(id, it)| Signer::rsa(id, it)).into();
    signers.extend([Signer::ec("g"), Signer::ec384("h"), Signer::ed("i")]);
    let service = trusting(&signers.iter().collect::<Vec<_>>()).await;
    let channel = service.channel().await;
    for signer in &signers {
        for typ in ["at+jwt", "JWT"] {
            let mut header = signer.header();
            header["typ"] = json!(typ);
            let said = ask_with(&channel, &signer.sign(&header, &claims())).await;
            assert_eq!(refusal(&said), admitted(), "{} {typ}", signer.algorithm);
        }
    }
}

/// Tokens that must not let in, each with its reason.
fn bad_tokens(rsa: &Signer, ec: &Signer) -> Vec<(&'static str, String, &'static str)> {
    let with = |name, value| rsa.token(&claims_with(name, value));
    let header = |name: &str, value: Value| {
        let mut header = rsa.header();
        header[name] = value;
        rsa.sign(&header, &claims())
    };
    let now = seconds();
    let good = rsa.token(&claims());
    let parts: Vec<_> = good.split('.').collect();
    let forged = base64(claims_with("sub", Some(json!("admin"))).to_string());
    let none = base64(json!({"alg": "none", "typ": "JWT"}).to_string());
    // The public key as a secret, which anybody has.
    let by_public_key = {
        let header = json!({"alg": "HS256", "typ": "JWT", "kid": rsa.id});
        let message = [header, claims()]
            .map(|it| base64(it.to_string()))
            .join(".");
        let secret = rsa.jwk()["n"].to_string();
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
        let signature = ring::hmac::sign(&key, message.as_bytes());
        format!("{message}.{}", base64(signature))
    };
    let mut bad = vec![
        (
            "expired",
            with("exp", Some(json!(now - 61))),
            "TOKEN_EXPIRED",
        ),
        (
            "future",
            with("nbf", Some(json!(now + 90))),
            "TOKEN_INVALID",
        ),
        (
            "nbf as text",
            with("nbf", Some(json!("1000000000"))),
            "TOKEN_INVALID",
        ),
        (
            "exp as text",
            with("exp", Some(json!("2100000000"))),
            "TOKEN_INVALID",
        ),
        (
            "exp as nothing",
            with("exp", Some(json!(null))),
            "TOKEN_INVALID",
        ),
        (
            "exp before time",
            with("exp", Some(json!(-1e300))),
            "TOKEN_INVALID",
        ),
        (
            "another audience",
            with("aud", Some(json!("others"))),
            "TOKEN_INVALID",
        ),
        (
            "no audience of several",
            with("aud", Some(json!([]))),
            "TOKEN_INVALID",
        ),
        (
            "audience as number",
            with("aud", Some(json!(7))),
            "TOKEN_INVALID",
        ),
        (
            "another issuer",
            with("iss", Some(json!("https://evil.example"))),
            "TOKEN_INVALID",
        ),
        (
            "several issuers",
            with("iss", Some(json!([super::issuer::ISSUER]))),
            "TOKEN_INVALID",
        ),
        (
            "subject as number",
            with("sub", Some(json!(7))),
            "TOKEN_INVALID",
        ),
        (
            "ANSI as subject",
            with("sub", Some(json!("\u{1b}[31mred\n"))),
            "TOKEN_INVALID",
        ),
        (
            "bad units",
            with("care_units", Some(json!("SE*"))),
            "TOKEN_INVALID",
        ),
        (
            "a path as kid",
            header("kid", json!("../../etc/passwd")),
            "TOKEN_INVALID",
        ),
        (
            "a URL as kid",
            header("kid", json!("https://evil.example/k")),
            "TOKEN_INVALID",
        ),
        (
            "ANSI as kid",
            header("kid", json!("\u{1b}[31mred\nline")),
            "TOKEN_INVALID",
        ),
        (
            "another key's kid",
            header("kid", json!(ec.id)),
            "TOKEN_INVALID",
        ),
        ("an id token", header("typ", json!("ID")), "TOKEN_INVALID"),
        ("no alg", header("alg", json!(null)), "TOKEN_INVALID"),
        (
            "another alg",
            header("alg", json!("RS512")),
            "TOKEN_INVALID",
        ),
        (
            "an extension",
            header("crit", json!(["exp"])),
            "TOKEN_INVALID",
        ),
        ("alg none", format!("{none}.{}.", parts[1]), "TOKEN_INVALID"),
        ("HS256 with the public key", by_public_key, "TOKEN_INVALID"),
        (
            "a forged subject",
            format!("{}.{forged}.{}", parts[0], parts[2]),
            "TOKEN_INVALID",
        ),
        (
            "no signature",
            format!("{}.{}.", parts[0], parts[1]),
            "TOKEN_INVALID",
        ),
        (
            "a key of its own",
            Signer::ec(ec.id).token(&claims()),
            "TOKEN_INVALID",
        ),
        ("noise", "x".repeat(64), "TOKEN_INVALID"),
        ("dots", ".".repeat(64), "TOKEN_INVALID"),
        ("nothing", String::new(), "TOKEN_INVALID"),
        (
            "nine kilobytes",
            format!("{good}{}", "A".repeat(9_000)),
            "TOKEN_INVALID",
        ),
    ];
    for claim in ["exp", "iss", "aud", "sub"] {
        bad.push((claim, with(claim, None), "TOKEN_INVALID"));
    }
    bad
}

#[tokio::test]
async fn tokens_that_are_not_good_are_refused_at_once_and_leave_nothing_in_the_log() {
    let log = Log::default();
    let listening = log.listen();
    let (rsa, ec) = (Signer::rsa("a", "RS256"), Signer::ec("b"));
    let service = trusting(&[&rsa, &ec]).await;
    let channel = service.channel().await;
    let mut slowest = Duration::ZERO;
    for (what, token, reason) in bad_tokens(&rsa, &ec) {
        let began = Instant::now();
        let said = ask_with(&channel, &token).await;
        slowest = slowest.max(began.elapsed());
        assert_eq!(
            refusal(&said),
            unauthenticated(reason),
            "{what}: {}",
            said.message()
        );
        if let Some(part) = token.split('.').nth(1).filter(|it| it.len() > 9) {
            assert!(!said.message().contains(&part[..9]), "{what}");
            assert!(log.lines(&part[..9]).is_empty(), "{what}");
        }
    }
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    let lines = log.lines("calls that are not authenticated are refused");
    assert_eq!(lines.len(), 1, "{lines:?}");
    for piece in ["\u{1b}", "[31m", "passwd", "evil"] {
        assert!(log.lines(piece).is_empty(), "{piece}");
    }
    let said = ask_with(&channel, &rsa.token(&claims())).await;
    assert!(is_admitted(&said), "a good one lets in: {said:?}");
    drop(listening);
}

#[tokio::test]
async fn a_token_need_not_say_from_when_it_is_valid() {
    let signer = Signer::rsa("a", "RS256");
    let service = trusting(&[&signer]).await;
    let token = signer.token(&claims_with("nbf", None));
    let said = ask_with(&service.channel().await, &token).await;
    assert!(is_admitted(&said), "{said:?}");
}

#[tokio::test]
async fn a_call_has_one_authorization_that_bears_a_token() {
    let signer = Signer::ed("a");
    let service = trusting(&[&signer]).await;
    let channel = service.channel().await;
    let token = signer.token(&claims());
    let (bearer, two) = (
        format!("Bearer {token}"),
        format!("Bearer {token}, Bearer {token}"),
    );
    for (values, reason) in [
        (&[][..], "TOKEN_MISSING"),
        (&[bearer.as_str(), &bearer], "TOKEN_INVALID"),
        (&[&two], "TOKEN_INVALID"),
        (&["Basic YTpi"], "TOKEN_INVALID"),
        (&[&token], "TOKEN_INVALID"),
        (&["Bearer"], "TOKEN_INVALID"),
    ] {
        let metadata: Vec<_> = values.iter().map(|it| ("authorization", *it)).collect();
        let said = ask(&channel, &metadata).await;
        assert_eq!(refusal(&said), unauthenticated(reason), "{}", values.len());
    }
    let said = ask(&channel, &[("authorization", &format!("bearer {token}"))]).await;
    assert!(is_admitted(&said));
}

/// How a call with so many bytes in place of a token ends, which must be soon.
async fn ask_with_bytes(channel: &Channel, bytes: usize) -> Status {
    let began = Instant::now();
    let said = ask_with(channel, &"A".repeat(bytes)).await;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(2), "{bytes} took {took:?}");
    said
}

#[tokio::test]
async fn a_token_that_is_too_large_ends_its_call_and_a_megabyte_of_it_its_connection() {
    let signer = Signer::ed("a");
    let service = trusting(&[&signer]).await;
    let (channel, other) = (service.channel().await, service.channel().await);
    let good = signer.token(&claims());
    let mut streams = Vec::new();
    for channel in [&channel, &other] {
        let call = v1::StreamDueNotificationsRequest::default();
        let mut notifications = NotificationServiceClient::new(channel.clone());
        let stream = within(notifications.stream_due_notifications(bearing(call, &good))).await;
        streams.push(stream.expect("a stream").into_inner());
    }
    let goes_on = async |stream: &mut Streaming<_>| {
        let next = async { while let Ok(Some(_)) = stream.message().await {} };
        let ended = tokio::time::timeout(Duration::from_millis(200), next).await;
        ended.is_err()
    };
    let said = ask_with_bytes(&channel, 31 * 1_024).await;
    assert_eq!(refusal(&said), unauthenticated("TOKEN_INVALID"));
    let said = ask_with_bytes(&channel, 40 * 1_024).await;
    assert!(said.message().contains("431"), "{said:?}");
    assert!(goes_on(&mut streams[0]).await && goes_on(&mut streams[1]).await);
    let said = ask_with_bytes(&channel, 1_024 * 1_024).await;
    assert_ne!(said.code(), Code::Ok);
    assert!(!goes_on(&mut streams[0]).await, "its connection is closed");
    assert!(goes_on(&mut streams[1]).await, "and no other is");
    assert!(is_admitted(&ask_with(&other, &good).await));
    assert!(
        is_admitted(&ask_with(&channel, &good).await),
        "it connects again"
    );
}

#[tokio::test]
async fn what_is_not_served_is_told_to_those_who_are_let_in_alone() {
    let signer = Signer::ed("a");
    let service = trusting(&[&signer]).await;
    let wire = Wire::connect(service.address).await;
    let authorization = format!("Bearer {}", signer.token(&claims()));
    for path in ["/careinvitation.v1.NoSuchService/X", "/x", GET] {
        let said = wire.call(path, &[], frame(0, &[0xff; 64])).await;
        assert_eq!(refusal(&said), unauthenticated("TOKEN_MISSING"), "{path}");
        let headers = [("authorization", authorization.as_str())];
        let said = wire.call(path, &headers, frame(0, &[0xff; 64])).await;
        assert_ne!(said.code(), Code::Unauthenticated, "{path}");
    }
}

#[tokio::test]
async fn health_is_open_and_reflection_is_not() {
    let signer = Signer::ed("a");
    let service = trusting(&[&signer]).await;
    let channel = service.channel().await;
    let check = HealthCheckRequest::default();
    let checked = within(HealthClient::new(channel.clone()).check(check)).await;
    checked.expect("open to everybody");
    let list = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let reflect = |request| async {
        let mut client = ServerReflectionClient::new(channel.clone());
        let mut answers = within(client.server_reflection_info(request))
            .await?
            .into_inner();
        within(answers.message()).await
    };
    let stream = tokio_stream::once(list.clone());
    let refused = reflect(tonic::Request::new(stream))
        .await
        .expect_err("closed");
    assert_eq!(refused.code(), Code::Unauthenticated);
    let mut request = tonic::Request::new(tokio_stream::once(list));
    let token = format!("Bearer {}", signer.token(&claims()));
    let token = token.parse().expect("a value");
    request.metadata_mut().insert("authorization", token);
    let answer = reflect(request).await.expect("let in");
    assert!(answer.is_some());
}

#[tokio::test]
async fn a_stream_ends_with_its_token() {
    let signer = Signer::ec("a");
    let service = trusting(&[&signer]).await;
    let channel = service.channel().await;
    // The leeway of a minute is nearly over.
    let last = signer.token(&claims_with("exp", Some(json!(seconds() - 57))));
    let call = v1::StreamDueNotificationsRequest::default();
    let mut notifications = NotificationServiceClient::new(channel.clone());
    let due = notifications.stream_due_notifications(bearing(call, &last));
    let mut due = within(due).await.expect("a stream").into_inner();
    let call = v1::WatchWorklistRequest {
        query: Some(v1::WorklistQuery {
            care_units: vec![make::wire_unit()],
            worklists: vec![v1::Worklist::AllBookingRequests.into()],
            ..Default::default()
        }),
        ..Default::default()
    };
    let mut worklists = WorklistServiceClient::new(channel.clone());
    let watched = within(worklists.watch_worklist(bearing(call.clone(), &last))).await;
    let mut watched = watched.expect("a stream").into_inner();
    let lasting = signer.token(&claims());
    let kept = within(worklists.watch_worklist(bearing(call, &lasting))).await;
    let mut kept = kept.expect("a stream").into_inner();
    let expired = unauthenticated("TOKEN_EXPIRED");
    let end = async {
        while due.message().await?.is_some() {}
        Ok(())
    };
    assert_eq!(refusal(&within(end).await.expect_err("it ends")), expired);
    let end = async {
        while watched.message().await?.is_some() {}
        Ok(())
    };
    assert_eq!(refusal(&within(end).await.expect_err("it ends")), expired);
    let next = tokio::time::timeout(Duration::from_millis(200), async {
        loop {
            kept.message().await.expect("it goes on").expect("no end");
        }
    });
    assert!(next.await.is_err(), "another token's stream goes on");
    let said = ask_with(&channel, &last).await;
    assert_eq!(refusal(&said), expired);
}

/// Streams of due messages and of a worklist, as calls.
fn streams() -> [(&'static str, Vec<u8>); 2] {
    let due = v1::StreamDueNotificationsRequest {
        max_outstanding: 500,
        ..Default::default()
    };
    let watch = v1::WatchWorklistRequest {
        query: Some(v1::WorklistQuery {
            care_units: vec![make::wire_unit()],
            worklists: vec![v1::Worklist::AllInvitations.into()],
            ..Default::default()
        }),
        ..Default::default()
    };
    [
        (
            "/careinvitation.v1.NotificationService/StreamDueNotifications",
            due.encode_to_vec(),
        ),
        (
            "/careinvitation.v1.WorklistService/WatchWorklist",
            watch.encode_to_vec(),
        ),
    ]
}

#[tokio::test]
async fn a_stream_with_always_more_to_send_ends_with_its_token_and_so_does_one_that_is_not_read() {
    let signer = Signer::ed("a");
    let service = trusting(&[&signer]).await;
    let channel = service.channel().await;
    let lasting = signer.token(&claims());
    let create = |number: usize| {
        let mut form = make::wire_form("2026-04-06", "2026-06-12");
        form.origin = Some(make::wire_referral(&format!("R-{number}")));
        make::wire_create(form)
    };
    let batch = v1::BatchCreateBookingRequestsRequest {
        requests: (0..450).map(create).collect(),
    };
    let mut client = BookingRequestServiceClient::new(channel.clone());
    let created = within(client.batch_create_booking_requests(bearing(batch, &lasting))).await;
    created.expect("created");
    // The leeway of a minute is nearly over.
    let last = signer.token(&claims_with("exp", Some(json!(seconds() - 57))));
    let authorization = [("authorization", &*format!("Bearer {last}"))];
    let slow = Wire::stalled(service.address, 1_024).await;
    let (mut ends, mut unread) = (JoinSet::new(), JoinSet::new());
    for (path, call) in streams() {
        let begun = slow.begin(path, &authorization).await;
        ends.spawn(begun.read_slowly(frame(0, &call), Duration::from_millis(20)));
        let mut begun = slow.begin(path, &authorization).await;
        begun.send_last(frame(0, &call));
        unread.spawn(begun.reset());
    }
    for end in within(ends.join_all()).await {
        let end = end.expect("a status");
        assert_eq!(refusal(&end), unauthenticated("TOKEN_EXPIRED"));
    }
    within(unread.join_all()).await;
}

/// Creates a request for this referral.
async fn created(
    channel: &Channel,
    referral: &str,
    token: &str,
    actor: &[(&str, &str)],
) -> v1::BookingRequest {
    let authorization = format!("Bearer {token}");
    let metadata = [&[("authorization", authorization.as_str())], actor].concat();
    let mut form = make::wire_form("2026-05-18", "2026-06-12");
    form.origin = Some(make::wire_referral(referral));
    let call = with(make::wire_create(form), &metadata);
    let mut client = BookingRequestServiceClient::new(channel.clone());
    let answer = within(client.create_booking_request(call)).await;
    let answer = answer.expect("created").into_inner();
    answer.booking_request.expect("the request")
}

async fn actors(channel: &Channel, token: &str, name: String) -> Vec<String> {
    let call = v1::ListHistoryRequest {
        name,
        ..Default::default()
    };
    let mut client = BookingRequestServiceClient::new(channel.clone());
    let answer = within(client.list_history(bearing(call, token))).await;
    let entries = answer.expect("the history").into_inner().entries;
    entries.into_iter().map(|it| it.actor).collect()
}

#[tokio::test]
async fn the_history_names_whoever_did_it() {
    let signer = Signer::ec("a");
    let service = trusting(&[&signer]).await;
    let channel = service.channel().await;
    let system = signer.token(&claims());
    let request = created(&channel, "R-1", &system, &[]).await;
    let seen = actors(&channel, &system, request.name).await;
    assert_eq!(seen, ["booking-system"]);
    let acting = signer.token(&claims_with("scope", Some(json!("booking.write actor"))));
    let nurse = [("actor-type", "STAFF"), ("actor-id", "SE2321000131-E1")];
    let request = created(&channel, "R-2", &acting, &nurse).await;
    let seen = actors(&channel, &system, request.name).await;
    assert_eq!(seen, ["STAFF:SE2321000131-E1"]);
}

#[tokio::test]
async fn an_actor_is_named_by_those_who_act_for_others_and_by_nobody_else() {
    let signer = Signer::ed("a");
    let service = trusting(&[&signer]).await;
    let channel = service.channel().await;
    let alone = format!("Bearer {}", signer.token(&claims()));
    let acting = claims_with("scope", Some(json!("booking.read actor")));
    let acting = format!("Bearer {}", signer.token(&acting));
    let (staff, id) = (("actor-type", "STAFF"), ("actor-id", "SE2321000131-E1"));
    for (token, actor, fields) in [
        (&alone, &[][..], None),
        (&alone, &[staff, id], Some(&["actor-type", "actor-id"][..])),
        (&alone, &[id], Some(&["actor-type", "actor-id"])),
        (&acting, &[staff, id], None),
        (&acting, &[], Some(&["actor-type", "actor-id"])),
        (&acting, &[staff], Some(&["actor-id"])),
        (
            &acting,
            &[("actor-type", "NURSE"), id],
            Some(&["actor-type"]),
        ),
        (&acting, &[staff, id, id], Some(&["actor-id"])),
        (&acting, &[staff, ("actor-id", "a b")], Some(&["actor-id"])),
    ] {
        let metadata = [&[("authorization", token.as_str())], actor].concat();
        let said = ask(&channel, &metadata).await;
        match fields {
            None => assert_eq!(refusal(&said), admitted(), "{actor:?}"),
            Some(fields) => {
                let invalid = (Code::InvalidArgument, "FIELD_INVALID".to_owned());
                assert_eq!(refusal(&said), invalid, "{actor:?}");
                assert_eq!(bad_fields(&said), fields, "{actor:?}");
            }
        }
    }
}

#[tokio::test]
async fn request_ids_are_those_of_a_subject() {
    let signer = Signer::ed("a");
    let service = trusting(&[&signer]).await;
    let channel = service.channel().await;
    let call = make::wire_create(make::wire_form("2026-05-18", "2026-06-12"));
    let create = |subject: &'static str| {
        let token = signer.token(&claims_with("sub", Some(json!(subject))));
        let mut client = BookingRequestServiceClient::new(channel.clone());
        let call = bearing(call.clone(), &token);
        async move { within(client.create_booking_request(call)).await }
    };
    let first = create("a").await.expect("created").into_inner();
    let again = create("a").await.expect("a repeat").into_inner();
    assert_eq!(first, again);
    let other = create("b").await.expect_err("a duplicate of another's");
    assert_eq!(other.code(), Code::AlreadyExists);
}

#[tokio::test]
async fn a_repeat_is_recognised_on_whosesoever_behalf_it_is_made() {
    let signer = Signer::ec("a");
    let service = trusting(&[&signer]).await;
    let channel = service.channel().await;
    let scope = json!("booking.read booking.write actor");
    let token = signer.token(&claims_with("scope", Some(scope)));
    let authorization = format!("Bearer {token}");
    let call = make::wire_create(make::wire_form("2026-05-18", "2026-06-12"));
    let mut client = BookingRequestServiceClient::new(channel.clone());
    let mut names = Vec::new();
    for id in ["SE2321000131-E1", "SE2321000131-E1", "SE2321000131-E2"] {
        let metadata = [
            ("authorization", authorization.as_str()),
            ("actor-type", "STAFF"),
            ("actor-id", id),
        ];
        let answer = client.create_booking_request(with(call.clone(), &metadata));
        let answer = within(answer).await.expect("created, or repeated");
        let is_repeat = answer.metadata().contains_key("idempotent-replay");
        assert_eq!(is_repeat, !names.is_empty(), "{id}");
        names.push(answer.into_inner().booking_request.expect("it").name);
    }
    assert!(names.iter().all(|it| *it == names[0]));
    let system = signer.token(&claims());
    let seen = actors(&channel, &system, names.remove(0)).await;
    assert_eq!(seen, ["STAFF:SE2321000131-E1"]);
}
