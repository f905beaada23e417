//! Any bytes as the message of any call: never a panic, never INTERNAL, never a connection that is stuck, and the same
//! answer on both databases.
//!
//! `CARE_INVITATION_MESSAGES` sets how many messages each method gets.

use std::time::Duration;

use care_invitation::clock::Clock;
use care_invitation::contract::{DESCRIPTOR_SET, v1};
use care_invitation::grpc::middleware::Limits;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MethodDescriptor, ReflectMessage, Value,
};
use tokio::time::timeout;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use crate::backend::Backend;
use crate::crash::setting;
use crate::door::calls::Calls;
use crate::door::raw::begun;
use crate::harness::{Harness, within};
use crate::make::{self, at};
use crate::model::rng::Rng;

const NOW: &str = "2026-03-02T09:00:00Z";
/// Messages of each kind that each method gets by default.
const MESSAGES: u64 = 8;
/// Changes of one message, at most.
const CHANGES_MAX: u64 = 3;
/// Bytes of a message that is made of nothing else, at most.
const RANDOM_BYTES_MAX: u64 = 300;
/// Messages within messages that are filled, at most.
const DEPTH_MAX: u32 = 6;
/// Good messages after which another database is begun with: a call is not about all that others have left behind.
const DATABASE_MESSAGES_MAX: i64 = 500;
/// How long a stream that has begun is listened to.
const LISTENED: Duration = Duration::from_millis(50);

/// Texts that are hard to store, to compare or to show.
const TEXTS: [&str; 14] = [
    "",
    " ",
    "\0",
    "a\0b",
    "\u{202e}desrever",
    "e\u{301}",
    "\u{fb01}\u{1d54f}\u{1f469}\u{200d}\u{2695}\u{fe0f}",
    "\u{10ffff}",
    "\r\n\t\u{1b}[31m",
    "'; DROP TABLE booking_request; --",
    "careUnits/-",
    "careUnits/SE2321000131-P000000123457/bookingRequests/00000000-0000-0000-0000-000000000000",
    "2026-02-30",
    "9999999999999999999999999999999999999999",
];

/// Numbers at the edges of their kinds.
const NUMBERS: [i64; 12] = [
    0,
    1,
    -1,
    2,
    500,
    501,
    i32::MAX as i64,
    i32::MIN as i64,
    253_402_300_799,
    253_402_300_800,
    i64::MAX,
    i64::MIN,
];

fn methods() -> Vec<MethodDescriptor> {
    let pool = DescriptorPool::decode(DESCRIPTOR_SET).expect("descriptors");
    let services: Vec<_> = pool.services().collect();
    let methods = services
        .iter()
        .flat_map(|it| it.methods().collect::<Vec<_>>());
    methods.collect()
}

/// A service, and good calls of it to begin with.
struct Target {
    harness: Harness,
    calls: Calls,
    patients: i64,
}

impl Target {
    async fn over(backend: Backend) -> Self {
        let clock = Clock::sandbox(at(NOW));
        let harness = Harness::over(backend, clock, Limits::default()).await;
        let calls = Calls {
            channel: harness.channel.clone(),
            metadata: Vec::new(),
            form: form(0),
        };
        Self {
            harness,
            calls,
            patients: 0,
        }
    }

    /// Returns true if the method is to be called on another database: on this there is much already, or its clock has
    /// been moved.
    fn is_worn(&self, method: &MethodDescriptor) -> bool {
        let moves_clock = method.parent_service().name() == "ClockService";
        self.patients > DATABASE_MESSAGES_MAX || (moves_clock && self.patients > 0)
    }

    /// A good message of a method, about a request of its own, of a patient of their own.
    async fn good(&mut self, method: &MethodDescriptor) -> DynamicMessage {
        self.patients += 1;
        self.calls.form = form(self.patients);
        let bytes = self.calls.good(method.name()).await;
        DynamicMessage::decode(method.input(), &*bytes).expect("a good message")
    }

    /// How a call with this message ends: its code and the reason.
    async fn ends(
        &self,
        method: &MethodDescriptor,
        message: Vec<u8>,
        said: &str,
    ) -> (Code, String) {
        let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
        let answer = async {
            let request = Request::new(message);
            let (_, mut messages) = begun(&self.harness.channel, &path, request).await?;
            let first = messages.message();
            match method.is_server_streaming() {
                true => timeout(LISTENED, first).await.unwrap_or(Ok(None)),
                false => within(first).await,
            }
        };
        let answer = answer.await;
        match answer {
            Ok(message) => {
                let shown = message.map(|it| DynamicMessage::decode(method.output(), &*it));
                let shown = shown.transpose().expect("an answer of the contract");
                let text = shown.map(|it| it.to_string()).unwrap_or_default();
                assert!(!text.contains("REASON_INTERNAL"), "{said}: {text}");
                (Code::Ok, String::new())
            }
            Err(status) => {
                assert_is_clear(&status, said);
                let reason = status.get_error_details();
                let reason = reason.error_info().expect(said).reason.clone();
                (status.code(), reason)
            }
        }
    }
}

/// A request of the patient with this number.
fn form(patient: i64) -> v1::BookingRequest {
    let mut form = make::wire_form("2026-04-06", "2026-06-12");
    form.origin = Some(make::wire_referral(&make::request_id()));
    let born = make::date("1920-01-01") + chrono::Days::new(patient.unsigned_abs());
    let digits = born.format("%Y%m%d238").to_string();
    let sum: u32 = digits[2..]
        .chars()
        .zip([2, 1].into_iter().cycle())
        .map(|(digit, weight)| {
            let product = digit.to_digit(10).expect("a digit") * weight;
            product / 10 + product % 10
        })
        .sum();
    let check = (10 - sum % 10) % 10;
    form.patient.get_or_insert_default().personal_id = format!("{digits}{check}");
    form
}

/// A failure that the caller can do something about, in the service's own words.
fn assert_is_clear(status: &Status, said: &str) {
    let unclear = [
        Code::Internal,
        Code::Unknown,
        Code::DataLoss,
        Code::Unavailable,
        Code::DeadlineExceeded,
        Code::Cancelled,
    ];
    assert!(!unclear.contains(&status.code()), "{said}: {status:?}");
}

/// Gives a field another value of its kind, anywhere in the message. What is chosen depends on the kind of the message
/// and on the numbers alone.
fn change(message: &mut DynamicMessage, rng: &mut Rng, depth: u32) {
    let fields: Vec<FieldDescriptor> = message.descriptor().fields().collect();
    if fields.is_empty() {
        return;
    }
    let field = rng.pick(&fields);
    if rng.chance(10) {
        message.clear_field(&field);
        return;
    }
    let value = match field.is_list() {
        false if field.is_map() => return,
        false => {
            let value = message.get_field(&field).into_owned();
            changed(value, &field, rng, depth)
        }
        true => {
            let mut list = match message.get_field(&field).into_owned() {
                Value::List(list) => list,
                other => panic!("a list, not {other:?}"),
            };
            let empty = match field.kind() {
                Kind::Message(inner) => Value::Message(DynamicMessage::new(inner)),
                _ => Value::I32(0),
            };
            match rng.below(3) {
                0 => list.push(changed(empty, &field, rng, depth)),
                1 => {
                    let one = changed(empty, &field, rng, depth);
                    list.resize(usize::try_from(rng.below(600)).expect("few"), one);
                }
                _ => {
                    let first = list.first().cloned().unwrap_or(empty);
                    list.push(changed(first, &field, rng, depth));
                    list.swap_remove(0);
                }
            }
            Value::List(list)
        }
    };
    message.set_field(&field, value);
}

/// Another value of the kind of a field.
fn changed(value: Value, field: &FieldDescriptor, rng: &mut Rng, depth: u32) -> Value {
    let number = rng.pick(&NUMBERS);
    match field.kind() {
        Kind::Message(_) => {
            let mut value = value;
            if depth < DEPTH_MAX {
                change(value.as_message_mut().expect("a message"), rng, depth + 1);
            }
            value
        }
        Kind::String => match rng.below(8) {
            0 => Value::String("x".repeat(usize::try_from(rng.below(5_000)).expect("few"))),
            _ => Value::String(rng.pick(&TEXTS).to_owned()),
        },
        Kind::Bool => Value::Bool(rng.chance(50)),
        Kind::Enum(_) => Value::EnumNumber(match rng.chance(70) {
            true => i32::try_from(rng.below(12)).expect("few"),
            false => truncated(number),
        }),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(truncated(number)),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(number),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(truncated(number).unsigned_abs()),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(number.unsigned_abs()),
        Kind::Double => Value::F64(f64::NAN),
        Kind::Float => Value::F32(f32::NAN),
        Kind::Bytes => Value::Bytes(vec![0xff; 40].into()),
    }
}

/// The number, or the edge of its kind that is next to it.
fn truncated(number: i64) -> i32 {
    let within = number.clamp(i32::MIN.into(), i32::MAX.into());
    i32::try_from(within).expect("within")
}

/// The bytes of a message with some of them changed, cut off or added.
fn torn(mut bytes: Vec<u8>, rng: &mut Rng) -> Vec<u8> {
    for _ in 0..=rng.below(CHANGES_MAX) {
        let place = usize::try_from(rng.below(bytes.len() as u64 + 1)).expect("short");
        let byte = u8::try_from(rng.below(256)).expect("a byte");
        match rng.below(4) {
            0 => bytes.truncate(place),
            1 => bytes.insert(place, byte),
            2 => bytes
                .splice(place..place, bytes[..place].to_vec())
                .for_each(drop),
            _ => {
                if let Some(it) = bytes.get_mut(place) {
                    *it = byte;
                }
            }
        }
    }
    bytes
}

fn random(rng: &mut Rng) -> Vec<u8> {
    let length = rng.below(RANDOM_BYTES_MAX);
    let bytes = (0..length).map(|_| u8::try_from(rng.below(256)).expect("a byte"));
    bytes.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_bytes_a_call_brings_it_has_a_clear_answer() {
    let seed = setting("CARE_INVITATION_SEED", u64::from(std::process::id()));
    let messages = setting("CARE_INVITATION_MESSAGES", MESSAGES);
    let mut rng = Rng::new(seed);
    let mut target = Target::over(Backend::empty().await).await;
    for method in methods() {
        let name = method.name().to_owned();
        for number in 0..messages {
            if target.is_worn(&method) {
                target = Target::over(Backend::empty().await).await;
            }
            let said = format!("seed {seed}, {name}, message {number}");
            let good = target.good(&method).await;
            let bytes = torn(prost::Message::encode_to_vec(&good), &mut rng);
            target.ends(&method, bytes, &said).await;
            target.ends(&method, random(&mut rng), &said).await;
        }
        let said = format!("seed {seed}, after {name}");
        let list = v1::ListPatientRequestsRequest::default();
        let list = within(target.harness.patients().list_patient_requests(list)).await;
        let refused = list.expect_err("nobody is named");
        assert_eq!(
            refused.code(),
            Code::InvalidArgument,
            "{said}: the connection goes on"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_values_of_the_fields_have_the_same_answer_on_both_databases() {
    let Some(postgres) = Backend::postgres().await else {
        return;
    };
    let seed = setting("CARE_INVITATION_SEED", u64::from(std::process::id()));
    let messages = setting("CARE_INVITATION_MESSAGES", MESSAGES);
    let mut rng = Rng::new(seed);
    let mut one = Target::over(Backend::sqlite().await).await;
    let mut other = Target::over(postgres).await;
    let mut accepted = 0;
    for method in methods() {
        for number in 0..messages {
            if one.is_worn(&method) {
                one = Target::over(Backend::sqlite().await).await;
                let postgres = Backend::postgres().await;
                other = Target::over(postgres.expect("it was there")).await;
            }
            let said = format!("seed {seed}, {}, message {number}", method.name());
            let shared = rng.next();
            let changes = 1 + rng.below(CHANGES_MAX);
            let mut ends = Vec::new();
            for target in [&mut one, &mut other] {
                let mut message = target.good(&method).await;
                let mut rng = Rng::new(shared);
                for _ in 0..changes {
                    change(&mut message, &mut rng, 0);
                }
                let said = format!("{said}: {message}");
                let bytes = prost::Message::encode_to_vec(&message);
                ends.push((within(target.ends(&method, bytes, &said)).await, said));
            }
            let ((on_sqlite, said), (on_postgres, _)) = (ends.remove(0), ends.remove(0));
            assert_eq!(on_sqlite, on_postgres, "{said}");
            accepted += u64::from(on_sqlite.0 == Code::Ok);
        }
    }
    println!(
        "accepted: {accepted} of {}",
        messages * methods().len() as u64
    );
    assert!(accepted > 0, "some are good");
}
