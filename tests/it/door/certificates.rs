//! Clients that are known by their certificates, and the rights that the settings give them.

use std::fs;
use std::path::Path;
use std::time::Duration;

use care_invitation::auth::Authenticator;
use care_invitation::auth::certificate::Clients;
use care_invitation::auth::keys::Source;
use care_invitation::contract::v1;
use care_invitation::contract::v1::booking_request_service_client::BookingRequestServiceClient;
use care_invitation::contract::v1::notification_service_client::NotificationServiceClient;
use care_invitation::grpc::middleware::Limits;
use serde_json::json;
use tempfile::TempDir;
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use super::host::{Ca, dns, uri};
use super::issuer::{Signer, claims, key_set, seconds};
use super::tls::Secured;
use super::{ask, by_tokens, is_admitted, unauthenticated, with};
use crate::harness::{refusal, within};
use crate::logged::Log;
use crate::make;

const INBOX: &str = "spiffe://region.example/inbox";

fn allow(path: &Path, scope: &str) {
    let clients = json!({"clients": [
        {"subject": INBOX, "scope": scope, "care_units": "*"},
        {"subject": "letters.example", "scope": "booking.read", "care_units": "*"},
    ]});
    fs::write(path, clients.to_string()).expect("written");
}

#[tokio::test]
async fn the_certificate_is_the_subject_and_the_settings_its_rights() {
    let log = Log::default();
    let listening = log.listen();
    let (clients_ca, folder) = (Ca::new(), TempDir::new().expect("a folder"));
    let path = folder.path().join("clients.json");
    allow(&path, "booking.read booking.write notification.deliver");
    let clients = Clients::open(path.clone()).expect("good settings");
    let authenticator = Authenticator::by_certificates(clients);
    let secured = Secured::with(authenticator, Some(&clients_ca), Limits::default()).await;

    let inbox = clients_ca.issue(vec![dns("other.example"), uri(INBOX)]);
    let channel = secured.channel(Some(&inbox)).await.expect("connected");
    assert!(is_admitted(&ask(&channel, &[]).await));
    let letters = clients_ca.issue(vec![dns("letters.example")]);
    let letters = secured.channel(Some(&letters)).await.expect("connected");
    assert!(is_admitted(&ask(&letters, &[]).await));

    let mut requests = BookingRequestServiceClient::new(channel.clone());
    let call = make::wire_create(make::wire_form("2026-05-18", "2026-06-12"));
    let created = within(requests.create_booking_request(call)).await;
    let name = created
        .expect("created")
        .into_inner()
        .booking_request
        .expect("it")
        .name;
    let call = v1::ListHistoryRequest {
        name,
        ..Default::default()
    };
    let history = within(requests.list_history(call))
        .await
        .expect("the history");
    assert_eq!(history.into_inner().entries[0].actor, INBOX);

    for names in [
        vec![],
        vec![dns("nobody.example")],
        vec![uri("urn:nobody"), dns("letters.example")],
    ] {
        let unknown = clients_ca.issue(names);
        let unknown = secured.channel(Some(&unknown)).await.expect("connected");
        let said = ask(&unknown, &[]).await;
        assert_eq!(refusal(&said), unauthenticated("UNAUTHENTICATED"));
    }

    let due = opened(&channel, &[]).await;
    fs::write(&path, "{}").expect("written");
    let logged = async {
        while log
            .lines("changed rights of clients cannot be used")
            .is_empty()
        {
            sleep(Duration::from_millis(20)).await;
        }
    };
    within(logged).await;
    assert!(
        is_admitted(&ask(&channel, &[]).await),
        "the rights before stay"
    );
    allow(&path, "actor");
    let end = end_of(due).await;
    assert_eq!(refusal(&end), unauthenticated("UNAUTHENTICATED"));
    let said = ask(&channel, &[]).await;
    assert_eq!(
        said.code(),
        Code::InvalidArgument,
        "the actor is missing now"
    );
    assert!(
        is_admitted(&ask(&letters, &[]).await),
        "another's rights are as they were"
    );
    drop(listening);
}

/// A stream of a client.
async fn opened(
    channel: &Channel,
    metadata: &[(&str, &str)],
) -> Streaming<v1::StreamDueNotificationsResponse> {
    let mut client = NotificationServiceClient::new(channel.clone());
    let call = with(v1::StreamDueNotificationsRequest::default(), metadata);
    let stream = within(client.stream_due_notifications(call)).await;
    stream.expect("a stream").into_inner()
}

/// How a stream ends.
async fn end_of(mut stream: Streaming<v1::StreamDueNotificationsResponse>) -> Status {
    let end = async {
        while stream.message().await?.is_some() {}
        Ok(())
    };
    within(end).await.expect_err("it ends")
}

#[tokio::test]
async fn a_connection_is_worth_nothing_once_its_certificate_has_expired() {
    let (clients_ca, folder) = (Ca::new(), TempDir::new().expect("a folder"));
    let path = |name: &str| folder.path().join(name);
    allow(&path("clients.json"), "booking.read notification.deliver");
    let clients = Clients::open(path("clients.json")).expect("good settings");
    let signer = Signer::ed("a");
    fs::write(path("keys.json"), key_set(&[&signer])).expect("written");
    let authorization = format!("Bearer {}", signer.token(&claims()));
    let with_token = [("authorization", authorization.as_str())];
    let certificates = Authenticator::by_certificates(clients);
    let tokens = by_tokens(Source::File(path("keys.json"))).await;
    for (authenticator, metadata) in [(certificates, &[][..]), (tokens, &with_token)] {
        let secured = Secured::with(authenticator, Some(&clients_ca), Limits::default()).await;
        let lasting = clients_ca.issue(vec![uri(INBOX)]);
        let lasting = secured.channel(Some(&lasting)).await.expect("connected");
        let ending = clients_ca.issue_until(vec![uri(INBOX)], seconds() + 4);
        let ending = secured.channel(Some(&ending)).await.expect("connected");
        assert!(is_admitted(&ask(&ending, metadata).await));
        let stream = opened(&ending, metadata).await;
        let expired = unauthenticated("CERTIFICATE_EXPIRED");
        assert_eq!(refusal(&end_of(stream).await), expired);
        assert_eq!(refusal(&ask(&ending, metadata).await), expired);
        assert!(is_admitted(&ask(&lasting, metadata).await));
    }
}

#[tokio::test]
async fn connections_end_when_the_ca_of_their_clients_is_removed() {
    let log = Log::default();
    let listening = log.listen();
    let (staying, leaving) = (Ca::new(), Ca::new());
    let secured = Secured::with(Authenticator::open(), Some(&leaving), Limits::default()).await;
    let both = format!("{}{}", leaving.pem(), staying.pem());
    secured.replace("clients.pem", &both);
    let read_again = async |times| {
        let again = "the files of TLS have been read again";
        let logged = async {
            while log.lines(again).len() < times {
                sleep(Duration::from_millis(20)).await;
            }
        };
        within(logged).await;
    };
    read_again(1).await;
    let connected = async |ca: &Ca| {
        let pair = ca.issue(vec![uri(INBOX)]);
        let channel = secured.channel(Some(&pair)).await.expect("connected");
        assert!(is_admitted(&ask(&channel, &[]).await));
        let stream = opened(&channel, &[]).await;
        (channel, stream)
    };
    let (stays, mut goes_on) = connected(&staying).await;
    let (leaves, ends) = connected(&leaving).await;
    secured.replace("clients.pem", &staying.pem());
    read_again(2).await;
    let end = end_of(ends).await;
    assert_eq!(end.details(), b"", "the connection ended: {end:?}");
    let said = ask(&leaves, &[]).await;
    assert_eq!(said.details(), b"", "there is no other: {said:?}");
    assert!(is_admitted(&ask(&stays, &[]).await));
    let ended = timeout(Duration::from_millis(200), goes_on.message()).await;
    assert!(ended.is_err(), "the stream of the other goes on");
    drop(listening);
}

#[tokio::test]
async fn a_client_without_a_certificate_that_is_trusted_does_not_get_in() {
    let (clients_ca, folder) = (Ca::new(), TempDir::new().expect("a folder"));
    let path = folder.path().join("clients.json");
    allow(&path, "booking.read");
    let clients = Clients::open(path).expect("good settings");
    let authenticator = Authenticator::by_certificates(clients);
    let secured = Secured::with(authenticator, Some(&clients_ca), Limits::default()).await;
    let stranger = Ca::new().issue(vec![uri(INBOX)]);
    let of_the_server = secured.ca.issue(vec![uri(INBOX)]);
    for pair in [None, Some(&stranger), Some(&of_the_server)] {
        // TLS 1.3 tells the client only when it reads.
        if let Ok(channel) = secured.channel(pair).await {
            let said = ask(&channel, &[]).await;
            assert_ne!(said.code(), Code::NotFound, "it did not get in: {said:?}");
        }
    }
    let known = clients_ca.issue(vec![uri(INBOX)]);
    let channel = secured.channel(Some(&known)).await.expect("connected");
    assert!(is_admitted(&ask(&channel, &[]).await));
}
