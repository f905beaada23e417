//! HSA-ids and identity numbers: any text, and the issuer of the number in a second line. What is taken is taken again as it is
//! kept.
#![no_main]

use care_invitation::domain::hsa_id::HsaId;
use care_invitation::domain::patient::{PersonalId, PersonalIdType};
use chrono::NaiveDate;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &str| {
    let (text, issuer) = input.split_once('\n').unwrap_or((input, ""));
    if let Some(id) = HsaId::parse(text) {
        assert_eq!(HsaId::parse(id.as_str()), Some(id));
    }
    for kind in PersonalIdType::ALL {
        let Ok(id) = PersonalId::parse(*kind, issuer, text) else {
            continue;
        };
        let again = PersonalId::parse(*kind, id.issuer().unwrap_or_default(), id.number());
        assert!(again.is_ok_and(|again| again == id));
        let today = NaiveDate::from_ymd_opt(2026, 3, 2).expect("a date");
        let _ = (id.violation("patient.personal_id", today), id.birth_date());
    }
});
