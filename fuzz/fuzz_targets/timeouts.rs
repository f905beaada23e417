//! The header `grpc-timeout`: any bytes.
#![no_main]

use care_invitation::grpc::middleware::timeout;
use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Ok(value) = HeaderValue::from_bytes(input) {
        let _ = timeout(&HeaderMap::from_iter([(
            http::HeaderName::from_static("grpc-timeout"),
            value,
        )]));
    }
});
