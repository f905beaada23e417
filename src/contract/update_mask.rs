//! The masks of updates: which of the fields that can be changed a call names.

use prost_types::FieldMask;

use super::Violations;

/// The paths that the field `update_mask` of a call names.
#[derive(Default)]
pub(super) struct UpdateMask {
    named: Vec<&'static str>,
    faults: Vec<(String, String)>,
}

impl UpdateMask {
    /// Parses a mask, which must name some of the `known` paths and nothing else. The faults are kept for
    /// [`UpdateMask::check`], because the field stands after those that the mask is needed for.
    ///
    /// A bad path is named by its place and not quoted; the first says what could have been named.
    pub(super) fn parse(mask: Option<&FieldMask>, known: &[&'static str]) -> Self {
        let paths = mask.map_or(&[][..], |mask| &mask.paths);
        let mut parsed = Self::default();
        if paths.is_empty() {
            parsed.add_fault("update_mask", "is required");
        }
        for (i, path) in paths.iter().enumerate() {
            match known.iter().find(|known| *known == path) {
                Some(known) => parsed.named.push(known),
                None => {
                    let description = match parsed.faults.is_empty() {
                        true => format!("must be one of {}", known.join(", ")),
                        false => "must be one of those".to_owned(),
                    };
                    parsed.add_fault(format!("update_mask.paths[{i}]"), description);
                }
            }
        }
        parsed
    }

    /// Returns whether a path is named.
    pub(super) fn names(&self, path: &str) -> bool {
        self.named.contains(&path)
    }

    /// Keeps one more fault of the mask.
    pub(super) fn add_fault(&mut self, field: impl Into<String>, description: impl Into<String>) {
        self.faults.push((field.into(), description.into()));
    }

    /// Adds the faults of the mask to those of the call.
    pub(super) fn check(self, violations: &mut Violations) {
        for (field, description) in self.faults {
            violations.add(field, description);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::tests::outcome;

    fn parse(paths: &[&str]) -> UpdateMask {
        let mask = FieldMask {
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        };
        UpdateMask::parse(Some(&mask), &["purpose", "priority"])
    }

    #[test]
    fn a_mask_names_known_paths_and_one_at_least() {
        let mask = parse(&["priority", "priority"]);
        assert!(mask.names("priority"));
        assert!(!mask.names("purpose"));
        assert_eq!(outcome(|v| mask.check(v)).1, [""; 0]);
        for mask in [parse(&[]), UpdateMask::parse(None, &["purpose"])] {
            assert_eq!(outcome(|v| mask.check(v)).1, ["update_mask"]);
        }
    }

    #[test]
    fn each_bad_path_is_named_by_its_place_and_not_quoted() {
        let mask = parse(&["purpose", "198003012385", "priority", "*"]);
        assert!(mask.names("purpose") && mask.names("priority"));
        let mut violations = Violations::default();
        mask.check(&mut violations);
        let found = violations.into_vec().into_iter();
        let found: Vec<_> = found.map(|it| (it.field, it.description)).collect();
        let expected = [
            ("update_mask.paths[1]", "must be one of purpose, priority"),
            ("update_mask.paths[3]", "must be one of those"),
        ];
        assert_eq!(found, expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    }
}
