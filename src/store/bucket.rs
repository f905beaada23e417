//! The bucket that a care unit's rows are in: the first column of every key, by which a database that is spread over several
//! servers places rows. The care units of a bucket are always together, and so is all that one transaction changes for one
//! of them.

use sha2::{Digest, Sha256};

use crate::domain::hsa_id::HsaId;

/// Number of buckets. Those of the care units that are stored depend on it.
pub const BUCKETS: u8 = 64;

/// Returns the bucket of a care unit: the first byte of the SHA-256 hash of its HSA-id, modulo [`BUCKETS`]. It is stored,
/// and so never made in another way.
pub fn bucket(care_unit: &HsaId) -> i16 {
    let hash = Sha256::digest(care_unit.as_str());
    i16::from(hash[0] % BUCKETS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_care_unit_stays_in_its_bucket_in_every_version() {
        for (care_unit, expected) in [
            ("SE2321000131-P1", 31),
            ("SE2321000131-P000000123457", 3),
            ("TSTNMT2321000156-1003", 40),
            ("-", 57),
        ] {
            let care_unit = HsaId::from_stored(care_unit.to_owned());
            assert_eq!(bucket(&care_unit), expected, "{care_unit:?}");
        }
    }

    #[test]
    fn every_bucket_has_its_part_of_the_care_units() {
        let mut counts = [0; BUCKETS as usize];
        for number in 0..6_400 {
            let care_unit = HsaId::from_stored(format!("SE2321000131-P{number:012}"));
            counts[usize::try_from(bucket(&care_unit)).expect("a number of a bucket")] += 1;
        }
        assert!(
            counts.iter().all(|count| (60..150).contains(count)),
            "{counts:?}"
        );
    }
}
