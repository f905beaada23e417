//! HSA-ids: the identifiers of care units, people and systems in Swedish health care.

/// An HSA-id in capitals: `SE`, 10 digits, `-`, and 1 to 18 of A–Z and 0–9.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HsaId(String);

impl HsaId {
    /// Parses an HSA-id in any case, since case does not count; `None` if the text is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let (head, tail) = text.split_once('-')?;
        let (country, digits) = head.split_at_checked(2)?;
        let shaped = country.eq_ignore_ascii_case("SE")
            && digits.len() == 10
            && digits.bytes().all(|byte| byte.is_ascii_digit())
            && (1..=18).contains(&tail.len())
            && tail.bytes().all(|byte| byte.is_ascii_alphanumeric());
        shaped.then(|| Self(text.to_ascii_uppercase()))
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
            ("SE2321000131-", None),
            ("SE2321000131", None),
            ("SE232100013-P1", None),
            ("NO2321000131-P1", None),
            ("SE2321000131-P_1", None),
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
