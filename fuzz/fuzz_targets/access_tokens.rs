//! Access tokens: any text, which nobody has signed.
#![no_main]

mod issuer;

use issuer::Issuer;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|token: &str| {
    let verified = Issuer::verify(token);
    assert!(verified.is_err(), "nobody has signed it");
});
