//! Compiles `proto/` without protoc: the encoded descriptor set, comments kept, for reflection,
//! and the Rust code of messages, clients and servers.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

const FILES: &[&str] = &[
    "careinvitation/v1/audit_service.proto",
    "careinvitation/v1/booking_request_service.proto",
    "careinvitation/v1/care_unit_settings_service.proto",
    "careinvitation/v1/error_reason.proto",
    "careinvitation/v1/notification_service.proto",
    "careinvitation/v1/patient_service.proto",
    "careinvitation/v1/worklist_service.proto",
    "careinvitation/sandbox/v1/clock_service.proto",
];

/// Packages with services.
const PACKAGES: [&str; 2] = ["careinvitation.v1", "careinvitation.sandbox.v1"];
/// Codec of the generated code.
const PLAIN_CODEC: &str = "tonic_prost::ProstCodec";
/// Codec that takes its place.
const RECORDING_CODEC: &str = "crate::grpc::codec::RecordingCodec";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_source_info(true).include_imports(true);
    compiler.open_files(FILES)?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    // The encoded form keeps what the prost form drops: options and comments.
    fs::write(
        out.join("descriptors.bin"),
        compiler.encode_file_descriptor_set(),
    )?;
    let mut set = compiler.file_descriptor_set();
    // The contract's comments are not written for rustdoc, which would read them as its markup.
    for file in &mut set.file {
        file.source_code_info = None;
    }
    tonic_prost_build::configure()
        .skip_debug([
            "careinvitation.v1.BookingRequest",
            "careinvitation.v1.Patient",
            "careinvitation.v1.PatientIdentity",
            "careinvitation.v1.PatientRequest",
            "careinvitation.v1.UpdatePatientRequest",
            "careinvitation.v1.WorklistQuery",
            "careinvitation.v1.DueNotification",
            "careinvitation.v1.ListAccessLogRequest",
            "careinvitation.v1.AccessedPatient",
        ])
        .compile_fds(set)?;
    for package in PACKAGES {
        record_messages(&out.join(format!("{package}.rs")))?;
    }
    Ok(())
}

/// Puts the codec that records what messages are about in the place of the plain one, for which the
/// generator has no setting.
fn record_messages(generated: &Path) -> Result<(), Box<dyn Error>> {
    let code = fs::read_to_string(generated)?;
    let recording = code.replace(PLAIN_CODEC, RECORDING_CODEC);
    if recording == code {
        return Err(format!("{PLAIN_CODEC} is not in {}", generated.display()).into());
    }
    fs::write(generated, recording)?;
    Ok(())
}
