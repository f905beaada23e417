//! The care units that a subject may see.

use std::sync::Arc;

use serde::Deserialize;

use crate::domain::care_units::{CareUnits, Units};
use crate::domain::hsa_id::HsaId;

/// The care units that a subject may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VisibleUnits {
    /// Every care unit.
    All,
    /// Some care units, or none.
    Only(Arc<Units>),
}

/// A text that names no care units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Care units as tokens and settings name them: in one text with spaces between them, or in many.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Names {
    /// Names with spaces between them.
    Spaced(String),
    /// A name a text.
    Listed(Vec<String>),
}

impl Names {
    /// Parses the names.
    ///
    /// # Errors
    ///
    /// One of them names no care units.
    pub fn parse(&self) -> Result<VisibleUnits, Malformed> {
        match self {
            Self::Spaced(text) => VisibleUnits::parse(text.split_ascii_whitespace()),
            Self::Listed(texts) => VisibleUnits::parse(texts.iter().map(String::as_str)),
        }
    }
}

impl VisibleUnits {
    /// Parses the names of care units: an HSA-id, `SE2321000131-*` for all of an organisation, or `*` for
    /// every one. No name is no care unit.
    ///
    /// # Errors
    ///
    /// One of them is none of these.
    pub fn parse<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, Malformed> {
        let mut units = Units::default();
        let mut all = false;
        for name in names {
            match name.strip_suffix('*') {
                Some("") => all = true,
                Some(organisation) => {
                    let organisation = organisation.to_ascii_uppercase();
                    // Complete with any local part, it must be an HSA-id.
                    let ends_before_it = organisation.ends_with('-');
                    HsaId::parse(&format!("{organisation}0"))
                        .filter(|_| ends_before_it)
                        .ok_or(Malformed)?;
                    units.organisations.insert(organisation);
                }
                None => {
                    units.named.insert(HsaId::parse(name).ok_or(Malformed)?);
                }
            }
        }
        Ok(if all {
            Self::All
        } else {
            Self::Only(Arc::new(units))
        })
    }

    /// Returns whether a care unit is among them.
    pub fn contains(&self, care_unit: &HsaId) -> bool {
        match self {
            Self::All => true,
            Self::Only(units) => units.contain(care_unit),
        }
    }

    /// Returns those of some care units that are among them.
    pub fn among(&self, care_units: CareUnits) -> CareUnits {
        match (self, care_units) {
            (Self::All, care_units) => care_units,
            // A set of care units is that of the same caller: nobody names another's.
            (Self::Only(units), CareUnits::Every | CareUnits::Within(_)) => {
                CareUnits::Within(units.clone())
            }
            (Self::Only(units), CareUnits::These(mut care_units)) => {
                care_units.retain(|it| units.contain(it));
                CareUnits::These(care_units)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(text: &str) -> HsaId {
        HsaId::parse(text).expect("an HSA-id")
    }

    fn parse(names: &[&str]) -> Result<VisibleUnits, Malformed> {
        VisibleUnits::parse(names.iter().copied())
    }

    #[test]
    fn care_units_are_named_one_by_one_or_by_their_organisation() {
        let other = "SE2321000016-P1";
        for (names, mine, others) in [
            (&[][..], false, false),
            (&["*"], true, true),
            (&["SE2321000131-P1"], true, false),
            (&["se2321000131-p1", other], true, true),
            (&["SE2321000131-*"], true, false),
            (&["se2321000131-*", "*"], true, true),
            (&["SE2321000131-P2", "SE2321000131-P"], false, false),
        ] {
            let seen = parse(names).expect("care units");
            assert_eq!(seen.contains(&unit("SE2321000131-P1")), mine, "{names:?}");
            assert_eq!(seen.contains(&unit(other)), others, "{names:?}");
        }
    }

    #[test]
    fn what_names_no_care_unit_is_refused() {
        for name in [
            "",
            "SE*",
            "SE2321000131*",
            "SE232100013-*",
            "SE2321000131-P*",
            "SE2321000131-*-*",
            "**",
            "-*",
            "SE2321000131-P1 ",
            "S\u{c5}2321000131-P1",
        ] {
            assert_eq!(parse(&["SE2321000131-P1", name]), Err(Malformed), "{name}");
        }
    }

    #[test]
    fn a_list_holds_those_that_are_seen() {
        let (mine, other) = (unit("SE2321000131-P1"), unit("SE2321000016-P1"));
        let both = CareUnits::These(vec![mine.clone(), other.clone()]);
        let all = parse(&["*"]).expect("care units");
        assert_eq!(all.among(CareUnits::Every), CareUnits::Every);
        assert_eq!(all.among(both.clone()), both);
        for names in [&["SE2321000131-P1"][..], &["SE2321000131-*"]] {
            let seen = parse(names).expect("care units");
            let only_mine = CareUnits::These(vec![mine.clone()]);
            assert_eq!(seen.among(both.clone()), only_mine, "{names:?}");
        }
        for names in [&["SE2321000131-P1"][..], &["SE2321000131-*"]] {
            let seen = parse(names).expect("care units").among(CareUnits::Every);
            assert!(seen.contains(&mine) && !seen.contains(&other), "{names:?}");
        }
    }
}
