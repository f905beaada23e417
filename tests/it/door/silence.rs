//! Identity numbers reach no text: every RPC is driven with them, in each of its strings, in its metadata and in
//! its token, while every library says all that it can. Libraries print what they are given at their lower
//! levels, which are never logged; what is logged, the errors and the panics hold no number.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::env;
use std::fmt::Write;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::panic::{catch_unwind, take_hook};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};

use care_invitation::auth::Authenticator;
use care_invitation::auth::keys::Source;
use care_invitation::contract::{DESCRIPTOR_SET, v1};
use care_invitation::grpc::middleware::method::Methods;
use care_invitation::grpc::middleware::{Limits, MiddlewareLayer};
use care_invitation::telemetry;
use care_invitation::telemetry::traces::Traces;
use http::Response;
use prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, Kind, MessageDescriptor, ReflectMessage, Value,
};
use serde_json::json;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::{ServiceExt, service_fn};
use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::prelude::*;

use super::calls::{self, Calls};
use super::host::{Ca, dns, uri};
use super::issuer::{Signer, claims, key_set};
use super::tls::Secured;
use super::{Guarded, ask, by_tokens, is_admitted};
use crate::backend::Kind as Database;
use crate::collector::Collector;
use crate::make;
use crate::postgres;
use crate::wire::{Wire, frame};

/// An identity number that is one.
const GOOD: &str = "198003012385";
/// Identity numbers: two that are ones, one with a wrong check digit, one with a hyphen.
const NUMBERS: [&str; 4] = [GOOD, "191212121212", "196408233235", "19721086-9924"];
/// Span of a caller that samples.
const CALLER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// Says, when it is set, that this process drives the service and listens to all of it.
const DRIVES: &str = "TEST_DRIVES_ALL";
/// How deep messages within messages are filled.
const DEPTH_MAX: usize = 4;

/// A form whose texts hold an identity number, which they may.
fn form() -> v1::BookingRequest {
    let mut form = make::wire_form("2026-04-06", "2026-06-12");
    form.patient.get_or_insert_default().personal_id = GOOD.into();
    form.origin = Some(make::wire_referral(&make::request_id()));
    form.purpose = format!("for {GOOD}");
    form.internal_comment = format!("of {GOOD}");
    form
}

/// The number that a text gives away, by its digits without the century.
fn found_in(text: &str) -> Option<&'static str> {
    NUMBERS.into_iter().find(|it| text.contains(&it[2..]))
}

/// Everything that is logged in this process, by whomever. Clones share it.
#[derive(Clone, Default)]
struct Ear(Arc<Mutex<Heard>>);

#[derive(Default)]
struct Heard {
    /// Where lines come from, and how many.
    targets: BTreeMap<String, usize>,
    /// Lines that hold a number, and where they come from.
    leaks: Vec<(String, Level, String)>,
}

/// One line while it is written.
struct Line {
    ear: Ear,
    from: (String, Level),
    text: Vec<u8>,
}

impl<'a> MakeWriter<'a> for Ear {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        self.line("", Level::ERROR)
    }

    fn make_writer_for(&'a self, from: &Metadata<'_>) -> Line {
        self.line(from.target(), *from.level())
    }
}

impl Ear {
    fn line(&self, target: &str, level: Level) -> Line {
        Line {
            ear: self.clone(),
            from: (target.to_owned(), level),
            text: Vec::new(),
        }
    }

    fn heard<T>(&self, with: impl FnOnce(&mut Heard) -> T) -> T {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl io::Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let text = String::from_utf8_lossy(&self.text);
        // What the log says of its own target, when it comes from the crate log.
        let target = self.from.0.clone();
        self.ear.heard(|heard| {
            *heard.targets.entry(target.clone()).or_default() += 1;
            if found_in(&text).is_some() {
                heard.leaks.push((target, self.from.1, text.into_owned()));
            }
        });
    }
}

/// A place in a message: the numbers of the fields on the way to a string.
type Path = Vec<u32>;

/// The places of all strings in a kind of message, in those that a message has and in those that it could have.
fn strings(message: &MessageDescriptor, depth: usize) -> Vec<Path> {
    let fields = message.fields();
    let below = fields.flat_map(|field| match field.kind() {
        Kind::String => vec![vec![field.number()]],
        Kind::Message(inner) if depth < DEPTH_MAX && !field.is_map() => {
            let inner = strings(&inner, depth + 1).into_iter();
            inner
                .map(|rest| [&[field.number()], &*rest].concat())
                .collect()
        }
        _ => Vec::new(),
    });
    below.collect()
}

/// Puts a text at a place of a message, and adds what is missing on the way.
fn put(message: &mut DynamicMessage, path: &[u32], text: &str) {
    let (number, rest) = path.split_first().expect("a field");
    let field = message.descriptor().get_field(*number).expect("a field");
    let mut value = message.get_field(&field).into_owned();
    let put_in = |value: &mut Value| match rest {
        [] => *value = Value::String(text.to_owned()),
        rest => put(value.as_message_mut().expect("a message"), rest, text),
    };
    match &mut value {
        Value::List(list) => {
            if list.is_empty() {
                list.push(match field.kind() {
                    Kind::Message(inner) => Value::Message(DynamicMessage::new(inner)),
                    _ => Value::String(String::new()),
                });
            }
            put_in(&mut list[0]);
        }
        single => put_in(single),
    }
    message.set_field(&field, value);
}

/// Puts new ids for idempotency everywhere, so that no call is a repeat.
fn renew_ids(message: &mut DynamicMessage) {
    let descriptor = message.descriptor();
    for field in descriptor.fields() {
        if field.name() == "request_id" {
            message.set_field(&field, Value::String(make::request_id()));
        } else if message.has_field(&field) {
            match message.get_field_mut(&field) {
                Value::Message(inner) => renew_ids(inner),
                Value::List(list) => {
                    for inner in list.iter_mut().filter_map(Value::as_message_mut) {
                        renew_ids(inner);
                    }
                }
                _ => {}
            }
        }
    }
}

/// The errors of elements in an answer, as text.
fn element_errors(message: &DynamicMessage, errors: &mut String) {
    if message.descriptor().full_name() == "careinvitation.v1.ElementError" {
        write!(errors, "{message:?}").expect("room");
    }
    for (_, value) in message.fields() {
        match value {
            Value::Message(inner) => element_errors(inner, errors),
            Value::List(list) => {
                for inner in list.iter().filter_map(Value::as_message) {
                    element_errors(inner, errors);
                }
            }
            _ => {}
        }
    }
}

/// All that a failure says, its details included.
fn said(status: &Status) -> String {
    let details = String::from_utf8_lossy(status.details());
    format!("{} {details} {status:?}", status.message())
}

/// A method, and a connection to call it on.
struct Driver<'a> {
    wire: &'a Wire,
    path: String,
    streams: bool,
    answer: MessageDescriptor,
    metadata: &'a [(&'static str, String)],
}

impl Driver<'_> {
    /// Calls the method. Nothing that it says of a failure may hold a number.
    async fn call(&self, bytes: &[u8], more: &[(&str, &str)]) -> Code {
        let headers = self.metadata.iter().map(|(name, value)| (*name, &**value));
        let named = |name: &str| more.iter().any(|(other, _)| *other == name);
        let mut headers: Vec<_> = headers.filter(|(name, _)| !named(name)).collect();
        headers.extend(more);
        // Streams may wait for ever.
        let timeout = if self.streams { "100m" } else { "20S" };
        headers.push(("grpc-timeout", timeout));
        let begun = self.wire.begin(&self.path, &headers).await;
        let (mut read, status) = begun.answer(frame(0, bytes)).await;
        // A stream with much to say is cut off at its deadline.
        let cut_off = || Status::deadline_exceeded("cut off");
        assert!(status.is_some() || self.streams, "{} ends", self.path);
        let status = status.unwrap_or_else(cut_off);
        let mut texts = said(&status);
        while let Some([_, length @ ..]) = read.first_chunk::<5>().copied() {
            let length = u32::from_be_bytes(length) as usize;
            if read.len() < 5 + length {
                break;
            }
            let rest = read.split_off(5 + length);
            let answer = DynamicMessage::decode(self.answer.clone(), &read[5..]);
            element_errors(&answer.expect("an answer"), &mut texts);
            read = rest;
        }
        assert!(found_in(&texts).is_none(), "{}: {texts}", self.path);
        status.code()
    }
}

/// Drives every RPC with every number in each of its strings.
async fn drive() {
    let signer = Signer::ed("a");
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("keys.json");
    fs::write(&path, key_set(&[&signer])).expect("written");
    let collector = Collector::start().await;
    let (traces, limits) = (collector.traces(), Limits::default());
    let authenticator = by_tokens(Source::File(path)).await;
    let service = Guarded::traced(authenticator, None, limits, traces.clone()).await;
    let mut claims = claims();
    claims["sub"] = json!(GOOD);
    claims["scope"] = json!(
        "booking.read booking.write worklist.read notification.deliver settings.write audit.read \
         patient.protected actor"
    );
    let metadata = [
        ("authorization", format!("Bearer {}", signer.token(&claims))),
        ("actor-type", "PATIENT".to_owned()),
        ("actor-id", GOOD.to_owned()),
    ];
    drive_secured(&signer, &metadata).await;
    let calls = Calls {
        channel: service.channel().await,
        metadata: metadata.to_vec(),
        form: form(),
    };
    let wire = Wire::connect(service.address).await;
    let pool = DescriptorPool::decode(DESCRIPTOR_SET).expect("descriptors");
    let methods: Vec<_> = pool
        .services()
        .flat_map(|it| it.methods().collect::<Vec<_>>())
        .collect();
    for method in &methods {
        let driver = Driver {
            wire: &wire,
            path: format!("/{}/{}", method.parent_service().full_name(), method.name()),
            streams: method.is_server_streaming(),
            answer: method.output(),
            metadata: &metadata,
        };
        let good = calls.good(method.name()).await;
        let code = driver.call(&good, &[]).await;
        let reached = [Code::Ok, Code::FailedPrecondition, Code::DeadlineExceeded];
        assert!(reached.contains(&code), "{} is good: {code:?}", driver.path);
        for number in NUMBERS {
            for (name, value) in [
                ("actor-id", number),
                ("actor-type", number),
                ("authorization", number),
                ("authorization", &format!("Bearer {number}")),
                (
                    "authorization",
                    &format!("Bearer {number}.{number}.{number}"),
                ),
                ("x-patient", number),
                ("user-agent", number),
                ("traceparent", &format!("00-{number}-00f067aa0ba902b7-01")),
                ("traceparent", number),
            ] {
                driver.call(&good, &[(name, value)]).await;
            }
            let state = format!("kept=1,pnr={number},{number}=1");
            let traced = [("traceparent", CALLER), ("tracestate", &state)];
            driver.call(&good, &traced).await;
            for place in strings(&method.input(), 0) {
                let good = match calls::is_used_up(method.name()) {
                    true => calls.good(method.name()).await,
                    false => good.clone(),
                };
                let mut message = DynamicMessage::decode(method.input(), &*good).expect("a call");
                renew_ids(&mut message);
                put(&mut message, &place, number);
                driver.call(&message.encode_to_vec(), &[]).await;
            }
            let mut full = DynamicMessage::new(method.input());
            for place in strings(&method.input(), 0) {
                put(&mut full, &place, number);
            }
            driver.call(&full.encode_to_vec(), &[]).await;
            driver.call(number.as_bytes(), &[]).await;
        }
    }
    for number in NUMBERS {
        let said = wire
            .call(
                &format!("/{number}/{number}"),
                &[],
                frame(0, number.as_bytes()),
            )
            .await;
        assert!(found_in(&self::said(&said)).is_none());
    }
    traces.end().await;
    let exported = collector.text();
    for method in &methods {
        let name = format!("{}/{}", method.parent_service().full_name(), method.name());
        assert!(exported.contains(&name), "{name} has a span");
    }
    assert!(exported.contains("kept=1"), "states of traces are exported");
    assert!(found_in(&exported).is_none(), "no span holds a number");
}

/// Connects with TLS and a certificate that names a number, and calls with another.
async fn drive_secured(signer: &Signer, metadata: &[(&'static str, String)]) {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("keys.json");
    fs::write(&path, key_set(&[signer])).expect("written");
    let authenticator = by_tokens(Source::File(path)).await;
    let metadata: Vec<_> = metadata.iter().map(|(name, it)| (*name, &**it)).collect();
    let clients = Ca::new();
    let secured = Secured::with(authenticator, Some(&clients), Limits::default()).await;
    for number in NUMBERS {
        let named = vec![
            uri(&format!("urn:pnr:{number}")),
            dns(&format!("p{number}.example")),
        ];
        let channel = secured.channel(Some(&clients.issue(named))).await;
        let said = ask(&channel.expect("connected"), &metadata).await;
        assert!(is_admitted(&said) && found_in(&self::said(&said)).is_none());
        let stranger = Ca::new().issue(vec![uri(&format!("urn:pnr:{number}"))]);
        if let Ok(channel) = secured.channel(Some(&stranger)).await {
            let said = ask(&channel, &metadata).await;
            assert!(found_in(&self::said(&said)).is_none());
        }
    }
}

/// Makes calls whose handlers panic over numbers; what they are answered.
async fn panic_in_handlers() -> Vec<String> {
    let methods = Methods::of([DESCRIPTOR_SET]).expect("descriptors");
    let (open, draining) = (Authenticator::open(), CancellationToken::new());
    let (limits, traces) = (Limits::default(), Traces::default());
    let layer = MiddlewareLayer::new(methods.into(), limits, open, None, traces, draining);
    let panic = |number: &'static str| async move {
        if number == GOOD {
            panic!("the patient is {number}");
        }
        // As code does that cuts a text where no character begins.
        let text = format!("{number}\u{e5}");
        Ok::<_, Infallible>(Response::new(Body::new(
            text[..number.len() + 1].to_owned(),
        )))
    };
    let mut answers = Vec::new();
    for number in NUMBERS {
        let handler = service_fn(move |_: http::Request<Body>| panic(number));
        let service = layer.connect(IpAddr::V4(Ipv4Addr::LOCALHOST), handler);
        let call = http::Request::post("/careinvitation.v1.PatientService/ListPatientRequests");
        let call = call.body(Body::empty()).expect("a call");
        let Ok(answer) = service.expect("room").oneshot(call).await;
        let status = Status::from_header_map(answer.headers()).expect("a failure");
        assert_eq!(status.code(), Code::Internal);
        answers.push(said(&status));
    }
    answers
}

/// Drives all of it, and listens. In a process of its own: other tests log too, and carry numbers.
fn drive_and_listen() {
    let ear = Ear::default();
    let all = tracing_subscriber::fmt::layer()
        .with_ansi(false)
        .with_span_events(FmtSpan::NEW)
        .with_writer(ear.clone());
    tracing_subscriber::registry().with(all).init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(drive());
    telemetry::log_panics();
    let panicked = catch_unwind(|| runtime.block_on(panic_in_handlers()));
    // What fails below says why.
    drop(take_hook());
    let answers = panicked.expect("handlers alone panic");
    assert!(found_in(&answers.concat()).is_none(), "{answers:?}");
    let logged = telemetry::filter(LevelFilter::TRACE);
    ear.heard(|heard| {
        let talkative = |target: &str| heard.targets.keys().any(|it| it.starts_with(target));
        for target in ["care_invitation", "h2", "sea_orm", "tower"] {
            assert!(
                talkative(target),
                "nothing of {target}: {:?}",
                heard.targets
            );
        }
        // Statements are not even made into lines; rustls and hyper are built without any.
        for target in ["sqlx::query", "rustls", "hyper::"] {
            assert!(!talkative(target), "{target} logs now");
        }
        let is_logged =
            |(target, level, _): &&(String, Level, String)| logged.would_enable(target, level);
        let leaks: Vec<_> = heard.leaks.iter().filter(is_logged).take(5).collect();
        assert!(leaks.is_empty(), "{leaks:#?}");
        let libraries: BTreeSet<_> = heard.leaks.iter().map(|it| (&it.0, it.1)).collect();
        println!("below what is logged: {libraries:?}");
    });
}

#[test]
fn no_identity_number_stands_in_a_line_an_error_or_a_panic() {
    if env::var_os(DRIVES).is_some() {
        return drive_and_listen();
    }
    let (_, module) = module_path!().split_once("::").expect("within the tests");
    let name = format!("{module}::no_identity_number_stands_in_a_line_an_error_or_a_panic");
    let mut itself = Command::new(env::current_exe().expect("a path"));
    itself
        .args(["--exact", &name, "--nocapture"])
        .env(DRIVES, "1");
    if Database::of_this_run() == Database::Postgres {
        itself.env(
            postgres::URL,
            postgres::server().expect("this run has a server"),
        );
    }
    let ended = itself.output().expect("it runs");
    let (out, err) = (
        String::from_utf8_lossy(&ended.stdout),
        String::from_utf8_lossy(&ended.stderr),
    );
    assert!(ended.status.success(), "{out}\n{err}");
    assert!(out.contains("1 passed"), "{out}");
    assert!(found_in(&out).or(found_in(&err)).is_none(), "{out}\n{err}");
}

#[test]
fn messages_that_hold_an_identity_number_print_their_name() {
    let pool = DescriptorPool::decode(DESCRIPTOR_SET).expect("descriptors");
    let holds = |it: &MessageDescriptor| {
        it.fields()
            .any(|field| field.name() == "personal_id" && field.kind() == Kind::String)
    };
    for message in pool.all_messages().filter(holds) {
        let mut filled = DynamicMessage::new(message.clone());
        for place in strings(&message, 0) {
            put(&mut filled, &place, GOOD);
        }
        let bytes = &*filled.encode_to_vec();
        let printed = match message.name() {
            "Patient" => format!("{:?}", v1::Patient::decode(bytes)),
            "PatientIdentity" => format!("{:?}", v1::PatientIdentity::decode(bytes)),
            "DueNotification" => format!("{:?}", v1::DueNotification::decode(bytes)),
            "WorklistQuery" => format!("{:?}", v1::WorklistQuery::decode(bytes)),
            other => panic!("{other} holds an identity number: print it here"),
        };
        assert_eq!(printed, format!("Ok({})", message.name()));
    }
}
