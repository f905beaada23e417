//! Slots, and verdicts on whether the patient may be offered them.

use super::calendar::parse_instant;
use super::text::{parse_optional_hsa_id, parse_optional_identifier};
use super::{Violations, enums, parse_request_name, v1};
use crate::domain::booking_request::form::BookingSource;
use crate::domain::request_key::RequestKey;
use crate::domain::slot::{Slot, Verdict};

/// Maximum slots in one call.
const SLOTS_MAX: usize = 1_000;

/// A call of EvaluateSlots.
#[derive(Debug)]
pub struct EvaluateSlots {
    /// Request whose slots are judged.
    pub request: RequestKey,
    /// Source of the booking that the slots are for.
    pub source: BookingSource,
    /// The caller's identifier and the time of each slot, in the order of the message.
    pub slots: Vec<(String, Slot)>,
}

/// Parses EvaluateSlots.
///
/// # Errors
///
/// Every fault of shape.
pub fn parse_slots(message: v1::EvaluateSlotsRequest) -> Result<EvaluateSlots, Violations> {
    Violations::collect(|violations| {
        let request = parse_request_name(&message.name, "name", violations);
        let source = enums::parse_optional(message.source, "source", violations);
        if !(1..=SLOTS_MAX).contains(&message.slots.len()) {
            violations.add("slots", format!("must be 1 to {SLOTS_MAX}"));
            return None;
        }
        let slots = message
            .slots
            .into_iter()
            .enumerate()
            .filter_map(|(i, slot)| {
                violations.within(format!("slots[{i}]"), |violations| parse(slot, violations))
            });
        let slots = slots.collect();
        Some(EvaluateSlots {
            request: request?,
            source: source.unwrap_or(BookingSource::Patient),
            slots,
        })
    })
}

/// Parses a slot and its identifier, which is the caller's own and answered as it was given.
fn parse(message: v1::Slot, violations: &mut Violations) -> Option<(String, Slot)> {
    parse_optional_identifier(&message.slot_id, "slot_id", violations);
    let start_at = parse_instant(message.start_time.as_ref(), "start_time", violations);
    let end_at = parse_instant(message.end_time.as_ref(), "end_time", violations);
    if start_at
        .zip(end_at)
        .is_some_and(|(start, end)| end <= start)
    {
        violations.add("end_time", "must be after start_time");
    }
    let performer_id = parse_optional_hsa_id(&message.performer_id, "performer_id", violations);
    let slot = Slot {
        start_at: start_at?,
        end_at: end_at?,
        performer_id,
    };
    Some((message.slot_id, slot))
}

/// Renders the response of EvaluateSlots: identifier and verdict of each slot, in the order of the call.
pub fn render_verdicts(
    verdicts: impl IntoIterator<Item = (String, Verdict)>,
) -> v1::EvaluateSlotsResponse {
    let slots = verdicts
        .into_iter()
        .map(|(slot_id, verdict)| v1::EvaluatedSlot {
            slot_id,
            verdict: enums::render(verdict),
        });
    v1::EvaluateSlotsResponse {
        slots: slots.collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::request_name;
    use super::super::tests::fields;
    use super::*;
    use crate::contract::booking_request::samples::key;
    use prost_types::Timestamp;

    fn at(seconds: i64) -> Option<Timestamp> {
        Some(Timestamp { seconds, nanos: 0 })
    }

    fn slot() -> v1::Slot {
        v1::Slot {
            start_time: at(1_779_100_000),
            end_time: at(1_779_101_800),
            ..Default::default()
        }
    }

    fn parsed(slots: Vec<v1::Slot>) -> Result<Vec<Slot>, Vec<String>> {
        let name = request_name(&key());
        let parsed = parse_slots(v1::EvaluateSlotsRequest {
            name,
            slots,
            source: 0,
        });
        let slots = |call: EvaluateSlots| call.slots.into_iter().map(|(_, slot)| slot).collect();
        parsed.map(slots).map_err(fields)
    }

    #[test]
    fn each_fault_of_a_slot_names_its_field() {
        for (given, faults) in [
            (slot(), vec![]),
            (
                v1::Slot {
                    slot_id: "å".repeat(64),
                    performer_id: "se2321000131-p1".into(),
                    ..slot()
                },
                vec![],
            ),
            (v1::Slot::default(), vec!["start_time", "end_time"]),
            (
                v1::Slot {
                    slot_id: "S\u{200b}1".into(),
                    ..slot()
                },
                vec!["slot_id"],
            ),
            (
                v1::Slot {
                    end_time: at(1_779_100_000),
                    ..slot()
                },
                vec!["end_time"],
            ),
            (
                v1::Slot {
                    slot_id: "x".repeat(65),
                    performer_id: "Anna".into(),
                    ..slot()
                },
                vec!["slot_id", "performer_id"],
            ),
        ] {
            let faults: Vec<_> = faults.iter().map(|it| format!("slots[1].{it}")).collect();
            let found = parsed(vec![slot(), given]).map_or_else(|found| found, |_| vec![]);
            assert_eq!(found, faults);
        }
    }

    #[test]
    fn a_call_holds_1_to_1000_slots() {
        for (count, good) in [(0, false), (1, true), (1_000, true), (1_001, false)] {
            let found = parsed(vec![slot(); count]);
            let expected = good.then_some(count).ok_or(vec!["slots".to_owned()]);
            assert_eq!(found.map(|slots| slots.len()), expected);
        }
        let nameless = parse_slots(v1::EvaluateSlotsRequest::default());
        assert_eq!(fields(nameless.unwrap_err()), ["name", "slots"]);
    }

    #[test]
    fn a_performer_is_compared_in_capitals() {
        let mut given = slot();
        given.performer_id = "se2321000131-p1".into();
        let slots = parsed(vec![given]).unwrap();
        assert_eq!(slots[0].performer_id.as_deref(), Some("SE2321000131-P1"));
    }

    #[test]
    fn a_verdict_is_answered_under_the_identifier_of_its_slot() {
        let given = |slot_id: &str| v1::Slot {
            slot_id: slot_id.into(),
            ..slot()
        };
        let call = parse_slots(v1::EvaluateSlotsRequest {
            name: request_name(&key()),
            slots: vec![given("å-1"), given("")],
            source: 0,
        });
        let ids = call.unwrap().slots.into_iter().map(|(id, _)| id);
        let answer = render_verdicts(ids.zip([Verdict::Offered, Verdict::Performer]));
        let answered: Vec<_> = answer
            .slots
            .iter()
            .map(|it| (&*it.slot_id, it.verdict))
            .collect();
        assert_eq!(answered, [("å-1", 1), ("", 11)]);
    }

    #[test]
    fn the_patient_would_book_unless_the_call_says_otherwise() {
        for (given, expected) in [
            (0, Ok(BookingSource::Patient)),
            (1, Ok(BookingSource::Patient)),
            (2, Ok(BookingSource::Staff)),
            (3, Err(vec!["source".to_owned()])),
        ] {
            let parsed = parse_slots(v1::EvaluateSlotsRequest {
                name: request_name(&key()),
                slots: vec![slot()],
                source: given,
            });
            assert_eq!(parsed.map(|call| call.source).map_err(fields), expected);
        }
    }
}
