//! The wire and the domain: every message is parsed once into a command, and every answer is
//! rendered from a record.

#[allow(missing_docs, clippy::all)]
pub mod v1 {
    tonic::include_proto!("careinvitation.v1");
}
#[allow(missing_docs, clippy::all)]
pub mod sandbox_v1 {
    tonic::include_proto!("careinvitation.sandbox.v1");
}

/// The contract as an encoded `FileDescriptorSet`, comments kept, for reflection.
pub const DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Messages that hold an identity number print their name only.
macro_rules! print_name_only {
    ($($message:ident)+) => {
        $(impl std::fmt::Debug for v1::$message {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(stringify!($message))
            }
        })+
    };
}
print_name_only!(BookingRequest Patient UpdatePatientRequest WorklistQuery DueNotification);
