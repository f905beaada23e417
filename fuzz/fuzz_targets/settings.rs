//! Command lines: any words, one a line.
#![no_main]

use care_invitation::config::Config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &str| {
    let words = std::iter::once("care-invitation").chain(input.lines());
    let _ = Config::read(words);
});
