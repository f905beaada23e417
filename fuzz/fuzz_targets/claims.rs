//! Headers and claims of access tokens: two lines of any text, signed by the issuer.
#![no_main]

mod issuer;

use issuer::Issuer;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &str| {
    let (header, claims) = input.split_once('\n').unwrap_or((input, ""));
    let _ = Issuer::verify(&Issuer::sign(header, claims));
});
