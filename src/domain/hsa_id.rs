//! HSA-ids: the identifiers of care units, people and systems in Swedish health care.

/// Prefixes of HSA-ids; the second is for tests.
const PREFIXES: [&str; 2] = ["SE", "TSTNMT"];
/// Maximum characters in an HSA-id.
pub const HSA_ID_MAX: usize = 31;

/// An HSA-id in capitals, of at most 31 characters: `SE` or `TSTNMT`, 10 digits or 12 that begin with 16,
/// `-`, and one or more of A–Z, 0–9, `.` and `_`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HsaId(String);

impl HsaId {
    /// Parses an HSA-id in any case, since case does not count; `None` if the text is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.to_ascii_uppercase();
        let (head, local) = text.split_once('-')?;
        let number = PREFIXES.iter().find_map(|it| head.strip_prefix(it))?;
        let is_number = number.bytes().all(|byte| byte.is_ascii_digit())
            && (number.len() == 10 || (number.len() == 12 && number.starts_with("16")));
        let is_local = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_');
        let shaped = is_number
            && !local.is_empty()
            && local.bytes().all(is_local)
            && text.len() <= HSA_ID_MAX;
        shaped.then_some(Self(text))
    }

    /// Wraps an HSA-id that [`HsaId::parse`] accepted before it was stored.
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// Returns the identifier, in capitals.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_hsa_id_is_taken_in_any_case_and_kept_in_capitals() {
        for (text, parsed) in [
            (
                "SE2321000131-P000000123457",
                Some("SE2321000131-P000000123457"),
            ),
            ("se2321000131-p00a", Some("SE2321000131-P00A")),
            (
                "SE2321000131-123456789012345678",
                Some("SE2321000131-123456789012345678"),
            ),
            ("SE2321000131-1234567890123456789", None),
            ("SE165565594230-1000", Some("SE165565594230-1000")),
            ("tstnmt2321000156-1003", Some("TSTNMT2321000156-1003")),
            ("SE2321000131-a.b_c", Some("SE2321000131-A.B_C")),
            (
                "SE165565594230-1234567890123456",
                Some("SE165565594230-1234567890123456"),
            ),
            ("SE165565594230-12345678901234567", None),
            (
                "TSTNMT2321000156-12345678901234",
                Some("TSTNMT2321000156-12345678901234"),
            ),
            ("TSTNMT2321000156-123456789012345", None),
            ("SE175565594230-1000", None),
            ("SE16556559423-1000", None),
            ("SE1655655942301-1000", None),
            ("TST2321000131-P1", None),
            ("SETSTNMT2321000131-P1", None),
            ("SE2321000131-P-1", None),
            ("SE2321000131-P 1", None),
            ("SE2321000131-Å1", None),
            ("SE2321000131-P1\u{200b}", None),
            (" SE2321000131-P1", None),
            ("SE232100013１-P1", None),
            ("SE2321000131-", None),
            ("SE2321000131", None),
            ("SE232100013-P1", None),
            ("NO2321000131-P1", None),
            ("S", None),
            ("Sé2321000131-P1", None),
        ] {
            assert_eq!(
                HsaId::parse(text).as_ref().map(HsaId::as_str),
                parsed,
                "{text}"
            );
        }
    }
}
