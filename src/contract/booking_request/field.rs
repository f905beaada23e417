//! The paths of the fields of a request, as update masks and the history name them.

use crate::domain::booking_request::field::Field;

/// Returns the path of a field from the top of the request.
pub(in crate::contract) fn path(field: Field) -> &'static str {
    match field {
        Field::PersonalId => "patient.personal_id",
        Field::PersonalIdType => "patient.personal_id_type",
        Field::Issuer => "patient.issuer",
        Field::Protection => "patient.protection",
        Field::InboxReach => "patient.inbox_reach",
        Field::PreferredLanguage => "patient.preferred_language",
        Field::Addressee => "patient.addressee",
        Field::InterpreterLanguage => "patient.interpreter_language",
        Field::LetterFormat => "patient.letter_format",
        Field::ReferralDecision => "referral.decision_date",
        Field::VisitReferral => "previous_visit.referral_id",
        Field::VisitDecision => "previous_visit.decision_date",
        Field::VisitKind => "visit_kind",
        Field::VisitType => "visit_type",
        Field::Purpose => "purpose",
        Field::PatientInstructions => "patient_instructions",
        Field::InternalComment => "internal_comment",
        Field::Summons => "summons",
        Field::Invitation => "invitation",
        Field::Period => "constraints.requested_period",
        Field::Weekdays => "constraints.weekdays",
        Field::TimeWindows => "constraints.time_windows",
        Field::DurationMinutes => "constraints.duration_minutes",
        Field::PerformerIds => "constraints.performer_ids",
        Field::Booking => "booking",
        Field::Priority => "priority",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use prost::Message;
    use prost_types::{DescriptorProto, FileDescriptorSet};

    use super::*;
    use crate::contract::DESCRIPTOR_SET;

    /// Returns the name of the message that `field` of `message` holds, empty if it holds none; `None` if there is no such
    /// field.
    fn type_of<'a>(message: &'a DescriptorProto, field: &str) -> Option<&'a str> {
        let field = message.field.iter().find(|it| it.name() == field)?;
        Some(field.type_name().rsplit('.').next().unwrap_or_default())
    }

    #[test]
    fn every_path_leads_to_a_field_of_a_request_and_no_two_to_the_same() {
        let set = FileDescriptorSet::decode(DESCRIPTOR_SET).unwrap();
        let messages = set.file.iter().flat_map(|it| &it.message_type);
        let messages: HashMap<_, _> = messages.map(|it| (it.name(), it)).collect();
        let mut paths: Vec<_> = Field::ALL.iter().map(|it| path(*it)).collect();
        for path in &paths {
            let mut message = "BookingRequest";
            for field in path.split('.') {
                message = type_of(messages[message], field).expect(path);
            }
        }
        paths.sort_unstable();
        paths.dedup();
        assert_eq!(paths.len(), Field::ALL.len());
    }
}
