//! Names of callers, as log lines may show them. A name is chosen elsewhere, and may be an identity number.

use uuid::Uuid;

use super::hsa_id::HsaId;

/// Fewest digits in a name that may be an identity number.
const NUMBER_DIGITS: usize = 10;
/// Text in a log line in place of a name that may be an identity number.
const WITHHELD: &str = "(a name that may be an identity number)";

/// Returns a name for a log line: as it is if it is an HSA-id or a UUID, or has too few digits for an identity
/// number.
pub fn for_log(name: &str) -> &str {
    let digits = name.bytes().filter(u8::is_ascii_digit).count();
    let is_id = HsaId::parse(name).is_some() || Uuid::parse_str(name).is_ok();
    match digits < NUMBER_DIGITS || is_id {
        true => name,
        false => WITHHELD,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_shown_unless_it_may_be_an_identity_number() {
        for (name, shown) in [
            ("anonymous", true),
            ("spiffe://region.example/booking-2", true),
            ("SE2321000131-P000000123457", true),
            ("0f9b1f0e-2b83-4c55-9f6a-7c1d2e3f4a5b", true),
            ("198003012385", false),
            ("19800301-2385", false),
            ("800301+2385", false),
            ("urn:pnr:19800301 2385", false),
            ("196408233235", false),
        ] {
            assert_eq!(for_log(name) == name, shown, "{name}");
            assert!(shown || !for_log(name).contains("2385"));
        }
    }
}
