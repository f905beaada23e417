//! The public keys of an issuer: any bytes.
#![no_main]

use care_invitation::auth::jwks::KeySet;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if let Ok(keys) = KeySet::parse(input) {
        assert!(keys.count() > 0, "a set without keys is refused");
    }
});
