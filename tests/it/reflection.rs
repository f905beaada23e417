//! The service describes itself: files with all that they import, the messages of error details, and an answer to
//! every question.

use std::collections::BTreeSet;

use care_invitation::clock::Clock;
use care_invitation::grpc::middleware::Limits;
use prost::Message;
use prost_types::FileDescriptorProto;
use tonic::Code;
use tonic::transport::Channel;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse as ReflectionAnswer;
use tonic_reflection::pb::v1::{
    ExtensionRequest, ServerReflectionRequest, ServerReflectionResponse,
};

use crate::boundary::{SANDBOX, SERVICES};
use crate::harness::{Harness, within};
use crate::make;

const NOW: &str = "2026-03-02T09:00:00Z";

/// Asks the questions on one stream of reflection, v1 or v1alpha, whose messages are alike; gives the answers.
async fn ask_all(
    channel: Channel,
    alpha: bool,
    questions: Vec<MessageRequest>,
) -> Vec<ReflectionAnswer> {
    let count = questions.len();
    let questions: Vec<_> = questions
        .into_iter()
        .map(|it| ServerReflectionRequest {
            host: "example".to_owned(),
            message_request: Some(it),
        })
        .collect();
    let mut answers = Vec::new();
    macro_rules! read {
        ($client:expr, $questions:expr) => {{
            let mut client = $client;
            let read = within(client.server_reflection_info(tokio_stream::iter($questions))).await;
            let mut read = read.expect("reflection").into_inner();
            while let Some(answer) = within(read.message()).await.expect("an answer") {
                answers.push(
                    ServerReflectionResponse::decode(&*answer.encode_to_vec())
                        .expect("they are alike"),
                );
            }
        }};
    }
    if alpha {
        use tonic_reflection::pb::v1alpha;
        let of = |it: &ServerReflectionRequest| {
            v1alpha::ServerReflectionRequest::decode(&*it.encode_to_vec()).expect("they are alike")
        };
        let alphas: Vec<_> = questions.iter().map(of).collect();
        read!(
            v1alpha::server_reflection_client::ServerReflectionClient::new(channel),
            alphas
        );
    } else {
        read!(ServerReflectionClient::new(channel), questions.clone());
    }
    assert_eq!(answers.len(), count, "an answer to every question");
    let asked = answers
        .iter()
        .map(|it| it.original_request.clone().expect("the question"));
    assert_eq!(asked.collect::<Vec<_>>(), questions);
    answers
        .into_iter()
        .map(|it| it.message_response.expect("an answer"))
        .collect()
}

async fn ask(channel: &Channel, question: MessageRequest) -> ReflectionAnswer {
    let mut answers = ask_all(channel.clone(), false, vec![question.clone()]).await;
    let answer = answers.remove(0);
    let alpha = ask_all(channel.clone(), true, vec![question]).await;
    assert_eq!(alpha.first(), Some(&answer));
    answer
}

fn symbol(name: &str) -> MessageRequest {
    MessageRequest::FileContainingSymbol(name.to_owned())
}

/// Returns the files of an answer.
fn files(answer: ReflectionAnswer) -> Vec<FileDescriptorProto> {
    let ReflectionAnswer::FileDescriptorResponse(found) = answer else {
        panic!("files, not {answer:?}");
    };
    let decoded = found
        .file_descriptor_proto
        .iter()
        .map(|it| FileDescriptorProto::decode(&**it).expect("a descriptor"));
    decoded.collect()
}

/// Returns the error code of an answer.
fn error(answer: ReflectionAnswer) -> Code {
    let ReflectionAnswer::ErrorResponse(error) = answer else {
        panic!("an error, not {answer:?}");
    };
    Code::from(error.error_code)
}

async fn listed(channel: &Channel) -> BTreeSet<String> {
    match ask(channel, MessageRequest::ListServices(String::new())).await {
        ReflectionAnswer::ListServicesResponse(list) => {
            list.service.into_iter().map(|it| it.name).collect()
        }
        other => panic!("a list, not {other:?}"),
    }
}

#[tokio::test]
async fn reflection_lists_the_services_in_both_versions() {
    for (clock, sandbox) in [
        (Clock::real(), None),
        (Clock::sandbox(make::at(NOW)), Some(SANDBOX)),
    ] {
        let harness = Harness::on(clock, Limits::default()).await;
        let listed = listed(&harness.channel).await;
        let expected = SERVICES.into_iter().chain(sandbox).chain([
            "grpc.health.v1.Health",
            "grpc.reflection.v1.ServerReflection",
            "grpc.reflection.v1alpha.ServerReflection",
        ]);
        assert_eq!(listed, expected.map(str::to_owned).collect());
    }
}

#[tokio::test]
async fn reflection_keeps_the_comments() {
    let harness = Harness::on(Clock::real(), Limits::default()).await;
    for name in SERVICES.into_iter().chain([
        "careinvitation.v1.BookingRequest",
        "careinvitation.v1.ErrorReason",
        "careinvitation.v1.ERROR_REASON_FIELD_INVALID",
        "careinvitation.v1.BookingRequest.state",
        "careinvitation.v1.BookingRequestService.CreateBookingRequest",
    ]) {
        let files = files(ask(&harness.channel, symbol(name)).await);
        let info = files[0].source_code_info.as_ref().expect("comments");
        let commented = info.location.iter().filter(|it| {
            let comment = it.leading_comments.as_deref();
            comment.is_some_and(|it| !it.trim().is_empty())
        });
        assert!(commented.count() > 5, "{name}");
    }
}

#[tokio::test]
async fn a_file_comes_with_all_that_it_imports() {
    let harness = Harness::on(Clock::sandbox(make::at(NOW)), Limits::default()).await;
    let services = listed(&harness.channel).await;
    let details = [
        "google.rpc.ErrorInfo",
        "google.rpc.BadRequest",
        "google.rpc.Status",
    ];
    for name in services.iter().map(String::as_str).chain(details) {
        let found = files(ask(&harness.channel, symbol(name)).await);
        let names: Vec<_> = found.iter().map(|it| it.name().to_owned()).collect();
        let unique: BTreeSet<_> = names.iter().collect();
        assert_eq!(unique.len(), names.len(), "{name}: each file once");
        let first = &found[0];
        let package = name.rsplit_once('.').expect("a full name").0;
        assert_eq!(
            first.package(),
            package,
            "{name}: its own file is the first"
        );
        for file in &found {
            for import in &file.dependency {
                assert!(names.contains(import), "{name}: {import} is missing");
                let alone = ask(
                    &harness.channel,
                    MessageRequest::FileByFilename(import.clone()),
                )
                .await;
                assert_eq!(files(alone)[0].name(), import);
            }
        }
    }
}

#[tokio::test]
async fn the_file_of_a_service_imports_the_messages_of_error_details() {
    let harness = Harness::on(Clock::sandbox(make::at(NOW)), Limits::default()).await;
    for service in SERVICES.into_iter().chain([SANDBOX]) {
        let found = files(ask(&harness.channel, symbol(service)).await);
        let has_details = |it: &FileDescriptorProto| {
            it.package() == "google.rpc"
                && it.message_type.iter().any(|it| it.name() == "ErrorInfo")
        };
        let details = found.iter().find(|it| has_details(it));
        let details = details.unwrap_or_else(|| panic!("{service} has them"));
        let imported = found[0].dependency.iter().any(|it| it == details.name());
        assert!(imported, "{service}");
    }
}

#[tokio::test]
async fn what_there_is_not_is_an_error_in_the_answer_and_the_stream_goes_on() {
    let harness = Harness::on(Clock::real(), Limits::default()).await;
    let extension = |containing_type: &str, extension_number| {
        MessageRequest::FileContainingExtension(ExtensionRequest {
            containing_type: containing_type.to_owned(),
            extension_number,
        })
    };
    let questions = vec![
        symbol("careinvitation.v1.Nothing"),
        symbol(SANDBOX),
        MessageRequest::FileByFilename("careinvitation/sandbox/v1/clock_service.proto".to_owned()),
        MessageRequest::FileByFilename(String::new()),
        extension("google.protobuf.MethodOptions", 1),
        extension("careinvitation.v1.Nothing", 50_000),
        MessageRequest::AllExtensionNumbersOfType("careinvitation.v1.Nothing".to_owned()),
        symbol("careinvitation.v1.Patient"),
    ];
    for alpha in [false, true] {
        let channel = harness.channel.clone();
        let mut answers = ask_all(channel, alpha, questions.clone()).await;
        let last = answers.pop().expect("an answer");
        assert_eq!(files(last)[0].package(), "careinvitation.v1");
        let codes: Vec<_> = answers.into_iter().map(error).collect();
        assert_eq!(codes, [Code::NotFound; 7], "v1alpha: {alpha}");
    }
}

#[tokio::test]
async fn extensions_are_found_by_what_they_extend() {
    let harness = Harness::on(Clock::real(), Limits::default()).await;
    let options = "google.protobuf.MethodOptions".to_owned();
    let numbers = ask(
        &harness.channel,
        MessageRequest::AllExtensionNumbersOfType(options.clone()),
    )
    .await;
    let ReflectionAnswer::AllExtensionNumbersResponse(numbers) = numbers else {
        panic!("numbers, not {numbers:?}");
    };
    assert_eq!(numbers.base_type_name, options);
    let [number] = *numbers.extension_number else {
        panic!("one, not {numbers:?}");
    };
    let question = MessageRequest::FileContainingExtension(ExtensionRequest {
        containing_type: options,
        extension_number: number,
    });
    let found = files(ask(&harness.channel, question).await);
    assert!(
        found[0]
            .extension
            .iter()
            .any(|it| it.name() == "required_scope")
    );
    let none = MessageRequest::AllExtensionNumbersOfType("careinvitation.v1.Patient".to_owned());
    let none = ask(&harness.channel, none).await;
    let ReflectionAnswer::AllExtensionNumbersResponse(none) = none else {
        panic!("numbers, not {none:?}");
    };
    assert!(none.extension_number.is_empty());
}
