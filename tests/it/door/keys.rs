//! The keys of an issuer: fetched in time, kept when the source is away, and never for a call.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use care_invitation::auth::keys::{Keys, Source};
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::sleep;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::host::{Answer, Host};
use super::issuer::{Signer, claims, key_set};
use super::{Guarded, ask_with, by_tokens, is_admitted, unauthenticated};
use crate::harness::{refusal, within};
use crate::logged::Log;

#[tokio::test]
async fn keys_rotate_under_load_and_no_call_fails() {
    let (old, new) = (Signer::ec("2026-02"), Signer::ed("2026-03"));
    let host = Host::start(Answer::Keys(key_set(&[&old]))).await;
    let service = Guarded::start(by_tokens(host.source()).await).await;
    let (token, used) = watch::channel(old.token(&claims()));
    let (calls, failures) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut load = Vec::new();
    for _ in 0..4 {
        let (channel, used) = (service.channel().await, used.clone());
        let (calls, failures) = (calls.clone(), failures.clone());
        load.push(tokio::spawn(async move {
            while used.has_changed().is_ok() {
                let token = used.borrow().clone();
                let said = ask_with(&channel, &token).await;
                failures.fetch_add(usize::from(!is_admitted(&said)), Ordering::SeqCst);
                calls.fetch_add(1, Ordering::SeqCst);
            }
        }));
    }
    let more = |than: usize| {
        let calls = &calls;
        within(async move {
            while calls.load(Ordering::SeqCst) < than {
                sleep(Duration::from_millis(5)).await;
            }
        })
    };
    more(50).await;
    assert_eq!(host.asked(), 1, "once for all calls");
    host.answer(Answer::Keys(key_set(&[&old, &new])));
    token.send_replace(new.token(&claims()));
    more(calls.load(Ordering::SeqCst) + 100).await;
    assert_eq!(host.asked(), 2, "once for the new key");
    drop(token);
    for task in load {
        within(task).await.expect("no panic");
    }
    assert_eq!(failures.load(Ordering::SeqCst), 0, "of {calls:?}");
}

#[tokio::test]
async fn keys_stay_when_their_host_is_away_and_unknown_ones_ask_once_a_minute() {
    let log = Log::default();
    let listening = log.listen();
    let signer = Signer::ec("a");
    let host = Host::start(Answer::Keys(key_set(&[&signer]))).await;
    let service = Guarded::start(by_tokens(host.source()).await).await;
    let channel = service.channel().await;
    host.answer(Answer::Nothing);
    let good = signer.token(&claims());
    let unknown = Signer::ec("b").token(&claims());
    for _ in 0..3 {
        let began = Instant::now();
        let said = ask_with(&channel, &unknown).await;
        assert_eq!(refusal(&said), unauthenticated("TOKEN_INVALID"));
        assert!(
            began.elapsed() < Duration::from_secs(3),
            "{:?}",
            began.elapsed()
        );
        assert!(is_admitted(&ask_with(&channel, &good).await));
    }
    assert_eq!(host.asked(), 2);
    let line = "the issuer's keys cannot be read: those before stay in force";
    let logged = async {
        while log.lines(line).is_empty() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    within(logged).await;
    assert!(log.lines(line)[0].contains("not fetched within 5 seconds"));
    assert!(is_admitted(&ask_with(&channel, &good).await));
    drop(listening);
}

#[tokio::test]
async fn a_host_that_gives_no_keys_lets_nobody_in_and_is_named_in_the_log() {
    let log = Log::default();
    let listening = log.listen();
    let signer = Signer::ed("a");
    let keys = key_set(&[&signer]);
    let large = [&keys[..], &vec![b' '; 10 * 1_024 * 1_024]].concat();
    let elsewhere = Host::start(Answer::Keys(keys.clone())).await;
    for (answer, why) in [
        (Answer::Keys(large), "no body of 262144 bytes or less"),
        (
            Answer::Keys(b"{\"keys\": []}".to_vec()),
            "no public key for signatures",
        ),
        (
            Answer::Keys(b"<html>\x1b[31m".to_vec()),
            "not a JSON Web Key Set",
        ),
        (Answer::Keys(Vec::new()), "not a JSON Web Key Set"),
        (Answer::Status(503), "the answer is 503"),
        (Answer::Redirect(elsewhere.url.clone()), "the answer is 302"),
        (Answer::Nothing, "not fetched within 5 seconds"),
    ] {
        let host = Host::start(answer).await;
        let service = Guarded::start(by_tokens(host.source()).await).await;
        assert!(!log.lines(why).is_empty(), "{why}");
        let channel = service.channel().await;
        let said = ask_with(&channel, &signer.token(&claims())).await;
        assert_eq!(refusal(&said), unauthenticated("TOKEN_INVALID"), "{why}");
    }
    assert_eq!(elsewhere.asked(), 0, "redirects are not followed");
    assert!(log.lines("\u{1b}").is_empty());
    let host = Host::start(Answer::Keys(keys)).await;
    let _service = Guarded::start(by_tokens(host.distrusted()).await).await;
    assert!(!log.lines("no connection").is_empty());
    assert_eq!(host.asked(), 0, "a host that is not trusted is not asked");
    drop(listening);
}

#[tokio::test]
async fn a_service_is_ready_once_it_has_keys() {
    let log = Log::default();
    let listening = log.listen();
    let signer = Signer::ed("a");
    let host = Host::start(Answer::Status(503)).await;
    let service = Guarded::start(by_tokens(host.source()).await).await;
    let channel = service.channel().await;
    let health = async || {
        let mut client = HealthClient::new(channel.clone());
        let checked = within(client.check(HealthCheckRequest::default())).await;
        checked.expect("open to everybody").into_inner().status()
    };
    assert_eq!(health().await, ServingStatus::NotServing);
    let line = "not ready: no keys of the issuer yet, every call is refused";
    assert_eq!(log.lines(line).len(), 1);
    assert!(
        log.lines("those before stay in force").is_empty(),
        "there are none"
    );
    host.answer(Answer::Keys(key_set(&[&signer])));
    let ready = async {
        while health().await != ServingStatus::Serving {
            sleep(Duration::from_millis(20)).await;
        }
    };
    within(ready).await;
    let said = ask_with(&channel, &signer.token(&claims())).await;
    assert!(is_admitted(&said));
    host.answer(Answer::Status(503));
    assert_eq!(health().await, ServingStatus::Serving, "they stay");
    drop(listening);
}

#[tokio::test]
async fn keys_in_a_file_are_read_again_when_it_changes() {
    let log = Log::default();
    let listening = log.listen();
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("keys.json");
    let (old, new) = (Signer::ec("a"), Signer::ed("b"));
    fs::write(&path, key_set(&[&old])).expect("written");
    let service = Guarded::start(by_tokens(Source::File(path.clone())).await).await;
    let channel = service.channel().await;
    assert!(is_admitted(
        &ask_with(&channel, &old.token(&claims())).await
    ));
    fs::write(&path, json!({"keys": []}).to_string()).expect("written");
    let logged = async {
        while log.lines("no public key for signatures").is_empty() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    within(logged).await;
    let token = old.token(&claims());
    assert!(
        is_admitted(&ask_with(&channel, &token).await),
        "the keys before stay"
    );
    fs::write(&path, key_set(&[&new])).expect("written");
    let rotated = async {
        while is_admitted(&ask_with(&channel, &token).await) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    within(rotated).await;
    assert!(is_admitted(
        &ask_with(&channel, &new.token(&claims())).await
    ));
    drop(listening);
}

#[tokio::test]
async fn a_file_without_keys_is_refused_at_the_start() {
    let folder = TempDir::new().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    fs::write(path("empty"), "").expect("written");
    fs::write(path("none"), "{\"keys\": []}").expect("written");
    fs::write(path("large"), vec![b' '; 2 * 1_024 * 1_024]).expect("written");
    for name in ["missing", "empty", "none", "large"] {
        let opened = within(Keys::open(Source::File(path(name)))).await;
        assert!(opened.is_err(), "{name}");
    }
}
