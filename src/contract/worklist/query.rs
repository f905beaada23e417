//! Queries of worklists: which requests, of which care units.

use super::super::calendar::{parse_period, render_period};
use super::super::enums::WireEnum;
use super::super::patient::{parse_identity, parse_interpreter, render_issuer};
use super::super::text::{parse_identifier, parse_optional_identifier};
use super::super::{CARE_UNITS_EVERY, Violations, care_unit_name, enums, parse_units_or_every, v1};
use crate::domain::booking_request::form::Priority;
use crate::domain::calendar::Period;
use crate::domain::care_units::CareUnits;
use crate::domain::patient::PersonalId;
use crate::domain::worklist::Worklist;
use crate::domain::worklist::query::{OrderBy, Query};

/// Maximum values in each of the lists of a query.
const VALUES_MAX: usize = 50;

/// Parses the field `query`. A query without lists is of the lists in `by_default`; it is refused when these are
/// none.
pub(super) fn parse(
    message: Option<&v1::WorklistQuery>,
    by_default: &[Worklist],
    violations: &mut Violations,
) -> Option<Query> {
    let Some(message) = message else {
        return violations.require("query");
    };
    violations.within("query", |violations| {
        let query = parse_filters(message, by_default, violations)?;
        check_breadth(&query, names_a_subject(message), violations);
        Some(query)
    })
}

fn parse_filters(
    message: &v1::WorklistQuery,
    by_default: &[Worklist],
    violations: &mut Violations,
) -> Option<Query> {
    let mut worklists = parse_values(&message.worklists, "worklists", violations);
    if message.worklists.is_empty() {
        worklists = by_default.to_vec();
        if worklists.is_empty() {
            violations.add("worklists", format!("must be 1 to {VALUES_MAX}"));
        }
    }
    let care_units = parse_units_or_every(&message.care_units, violations);
    let visit_kind = enums::parse_optional(message.visit_kind, "visit_kind", violations);
    let visit_type_codes = parse_codes(&message.visit_type_codes, violations);
    let personal_id = parse_patient(message, violations);
    let period = parse_filter_period(message.requested_period.as_ref(), violations);
    let priority = enums::parse_optional(message.minimum_priority, "minimum_priority", violations);
    let order_by = enums::parse_optional(message.order_by, "order_by", violations);
    let mut identifier = |id: &str, field| parse_optional_identifier(id, field, violations);
    Some(Query {
        worklists,
        care_units,
        visit_kind,
        visit_type_codes,
        personal_id,
        referral_id: identifier(&message.referral_id, "referral_id"),
        booking_id: identifier(&message.booking_id, "booking_id"),
        visit_id: identifier(&message.visit_id, "visit_id"),
        period,
        minimum_priority: priority.unwrap_or(Priority::Routine),
        hold_reasons: parse_values(&message.hold_reasons, "hold_reasons", violations),
        states: parse_values(&message.states, "states", violations),
        interpreter_language: parse_interpreter(&message.interpreter_language, violations),
        letter_formats: parse_values(&message.letter_formats, "letter_formats", violations),
        hides_protected: false,
        order_by: order_by.unwrap_or(OrderBy::StartDate),
    })
}

/// Returns whether a patient, a referral, a visit or a booking is named, well or badly.
fn names_a_subject(message: &v1::WorklistQuery) -> bool {
    let v1::WorklistQuery {
        personal_id,
        referral_id,
        visit_id,
        booking_id,
        ..
    } = message;
    let ids = [personal_id, referral_id, visit_id, booking_id];
    ids.iter().any(|id| !id.is_empty())
}

/// Checks that a query is not of more requests than one may ask for.
fn check_breadth(query: &Query, is_narrow: bool, violations: &mut Violations) {
    let subjects = "personal_id, referral_id, visit_id or booking_id";
    if query.worklists.contains(&Worklist::All) {
        if query.worklists.len() > 1 {
            violations.add("worklists", "WORKLIST_ALL must stand alone");
        } else if !is_narrow {
            let description = format!("needs {subjects} to list every request");
            violations.add("worklists", description);
        }
    }
    let is_manual_handling = query.worklists == [Worklist::ManualHandling];
    if query.care_units == CareUnits::Every && !is_narrow && !is_manual_handling {
        let description = format!("every care unit needs {subjects}, or MANUAL_HANDLING alone");
        violations.add("care_units", description);
    }
}

/// Parses values of an enum, sorted and each once.
fn parse_values<E: WireEnum + Ord>(
    numbers: &[i32],
    field: &str,
    violations: &mut Violations,
) -> Vec<E> {
    let value = |i, number: &i32, violations: &mut Violations| {
        enums::parse(*number, &format!("{field}[{i}]"), violations)
    };
    parse_each(numbers, field, violations, value)
}

/// Parses the codes of visit types, sorted and each once.
fn parse_codes(codes: &[String], violations: &mut Violations) -> Vec<String> {
    let code = |i, code: &String, violations: &mut Violations| {
        parse_identifier(code, &format!("visit_type_codes[{i}]"), violations)
    };
    parse_each(codes, "visit_type_codes", violations, code)
}

/// Parses at most 50 values, sorted and each once.
fn parse_each<G, T: Ord>(
    given: &[G],
    field: &str,
    violations: &mut Violations,
    parse: impl Fn(usize, &G, &mut Violations) -> Option<T>,
) -> Vec<T> {
    if given.len() > VALUES_MAX {
        violations.add(field, format!("must be at most {VALUES_MAX}"));
        return Vec::new();
    }
    let given = given.iter().enumerate();
    let mut parsed: Vec<T> = given
        .filter_map(|(i, value)| parse(i, value, violations))
        .collect();
    parsed.sort();
    parsed.dedup();
    parsed
}

/// Parses the identity of one patient, which may be left out, but not in part.
fn parse_patient(message: &v1::WorklistQuery, violations: &mut Violations) -> Option<PersonalId> {
    let v1::WorklistQuery {
        personal_id,
        personal_id_type,
        issuer,
        ..
    } = message;
    if personal_id.is_empty() && *personal_id_type == 0 && issuer.is_empty() {
        return None;
    }
    parse_identity(personal_id, *personal_id_type, issuer, violations)
}

fn parse_filter_period(
    interval: Option<&v1::DateInterval>,
    violations: &mut Violations,
) -> Option<Period> {
    interval?;
    parse_period(interval, "requested_period", violations)
}

/// Renders the query in its normalised form, to which page tokens are bound.
pub(super) fn render(query: &Query) -> v1::WorklistQuery {
    let personal_id = query.personal_id.as_ref();
    let text = |id: &Option<String>| id.clone().unwrap_or_default();
    v1::WorklistQuery {
        worklists: render_values(&query.worklists),
        care_units: match &query.care_units {
            CareUnits::Every | CareUnits::Within(_) => vec![CARE_UNITS_EVERY.to_owned()],
            CareUnits::These(units) => units.iter().map(care_unit_name).collect(),
        },
        visit_kind: enums::render_optional(query.visit_kind),
        visit_type_codes: query.visit_type_codes.clone(),
        personal_id: personal_id.map_or_else(String::new, |it| it.number().to_owned()),
        personal_id_type: enums::render_optional(personal_id.map(PersonalId::kind)),
        issuer: personal_id.map_or_else(String::new, render_issuer),
        requested_period: query.period.map(render_period),
        minimum_priority: enums::render(query.minimum_priority),
        order_by: enums::render(query.order_by),
        referral_id: text(&query.referral_id),
        hold_reasons: render_values(&query.hold_reasons),
        states: render_values(&query.states),
        booking_id: text(&query.booking_id),
        visit_id: text(&query.visit_id),
        interpreter_language: text(&query.interpreter_language),
        letter_formats: render_values(&query.letter_formats),
    }
}

fn render_values<E: WireEnum>(values: &[E]) -> Vec<i32> {
    values.iter().copied().map(enums::render).collect()
}
