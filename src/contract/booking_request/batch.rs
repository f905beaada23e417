//! The batches: items that are the single calls' own messages, and one result for each.

use std::collections::HashMap;

use prost::Message as _;

use crate::contract::batch::{Batch, add_count_fault};
use crate::contract::{IdempotentCommand, Violations, uuid, v1};

/// Maximum items of a batch.
const ITEMS_MAX: usize = 500;
/// Field that holds the items.
const FIELD: &str = "requests";
/// Maximum bytes of whole requests in an answer, which keep it under the 4 MB that clients accept by default.
const WHOLE_BYTES_MAX: usize = 3 * 1_000 * 1_000;

/// Parses the items of a batch, each by itself and as its single call is parsed.
///
/// # Errors
///
/// A number of items that is not accepted, or the same request id twice.
pub fn parse_batch<M, C>(
    items: Vec<M>,
    request_id: impl Fn(&M) -> &str,
    parse: impl Fn(M) -> Result<IdempotentCommand<C>, Violations>,
) -> Result<Batch<IdempotentCommand<C>>, Violations> {
    let repeated = repeated_ids(items.iter().map(request_id));
    Violations::collect(|violations| {
        // First, since of many faults the last are not named.
        add_count_fault(items.len(), FIELD, ITEMS_MAX, violations);
        for (place, first) in repeated {
            let description = format!("is that of {FIELD}[{first}]");
            violations.add(format!("{FIELD}[{place}].request_id"), description);
        }
        Some(())
    })?;
    Batch::of(items, FIELD, ITEMS_MAX, parse)
}

/// Returns the places of request ids that have come before, each with the place where they came first.
fn repeated_ids<'a>(request_ids: impl Iterator<Item = &'a str>) -> Vec<(usize, usize)> {
    let mut first_places = HashMap::new();
    let mut repeated = Vec::new();
    for (place, request_id) in request_ids.enumerate() {
        let Some(request_id) = uuid(request_id) else {
            continue;
        };
        let first = *first_places.entry(request_id).or_insert(place);
        if first != place {
            repeated.push((place, first));
        }
    }
    repeated
}

/// Renders the results of a batch. Requests beyond 3 MB are named only.
pub fn render_results(
    results: impl IntoIterator<Item = Result<(v1::BookingRequest, bool), v1::ElementError>>,
) -> Vec<v1::BookingRequestResult> {
    let mut bytes = 0;
    let result = |result| match result {
        Ok((booking_request, replayed)) => {
            let whole: v1::BookingRequest = booking_request;
            bytes += whole.encoded_len();
            let shown = match bytes <= WHOLE_BYTES_MAX {
                true => whole,
                false => v1::BookingRequest {
                    name: whole.name,
                    state: whole.state,
                    etag: whole.etag,
                    ..Default::default()
                },
            };
            v1::BookingRequestResult {
                booking_request: Some(shown),
                replayed,
                error: None,
            }
        }
        Err(error) => v1::BookingRequestResult {
            booking_request: None,
            replayed: false,
            error: Some(error),
        },
    };
    results.into_iter().map(result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::booking_request::parse_cancel;
    use crate::contract::booking_request::samples::key;
    use crate::contract::request_name;
    use crate::contract::tests::fields;
    use ::uuid::Uuid;

    fn cancel(request_id: u128) -> v1::CancelBookingRequestRequest {
        v1::CancelBookingRequestRequest {
            name: request_name(&key()),
            request_id: Uuid::from_u128(request_id).to_string(),
            reason: v1::CancelReason::UnitRequest.into(),
            ..Default::default()
        }
    }

    fn parse(items: Vec<v1::CancelBookingRequestRequest>) -> Result<Vec<usize>, Vec<String>> {
        let batch = parse_batch(items, |it| &it.request_id, parse_cancel).map_err(fields)?;
        let (parsed, batch) = batch.split();
        let joined = batch.join(parsed);
        let lengths = joined
            .into_iter()
            .map(|(_, it)| it.map_or_else(|it| fields(it).len(), |_| 0));
        Ok(lengths.collect())
    }

    #[test]
    fn a_batch_has_one_to_five_hundred_items_each_with_its_own_request_id() {
        assert_eq!(parse(vec![]), Err(vec!["requests".into()]));
        assert_eq!(parse((0..500).map(cancel).collect()), Ok(vec![0; 500]));
        let many = (0..501).map(cancel).collect();
        assert_eq!(parse(many), Err(vec!["requests".into()]));
        let many = parse(vec![cancel(1); 501]).unwrap_err();
        assert_eq!(many[..2], ["requests", "requests[1].request_id"]);
        let mut same = vec![cancel(1), cancel(2), cancel(1)];
        same[2].request_id = same[2].request_id.to_uppercase();
        assert_eq!(
            parse(same),
            Err(vec!["requests[2].request_id".into()]),
            "in any case"
        );
        // What is no id is a fault of its item alone.
        let mut malformed = vec![cancel(1), cancel(2), cancel(3)];
        malformed[0].request_id.clear();
        malformed[2].request_id.clear();
        assert_eq!(parse(malformed), Ok(vec![1, 0, 1]));
    }

    #[test]
    fn faults_of_an_item_have_its_place_in_their_path() {
        let items = vec![cancel(1), v1::CancelBookingRequestRequest::default()];
        let batch = parse_batch(items, |it| &it.request_id, parse_cancel).unwrap();
        let (parsed, batch) = batch.split();
        assert_eq!(parsed.len(), 1);
        let mut joined = batch.join(vec![()]);
        let (_, second) = joined.remove(1);
        assert_eq!(
            fields(second.unwrap_err()),
            [
                "requests[1].name",
                "requests[1].request_id",
                "requests[1].reason"
            ]
        );
    }

    #[test]
    fn requests_beyond_three_megabytes_are_named_only() {
        let request = |bytes: usize| v1::BookingRequest {
            name: "n".into(),
            etag: "e".into(),
            purpose: "x".repeat(bytes),
            ..Default::default()
        };
        let lengths = [1_600_000, 1_300_000, 200_000, 1];
        let results = render_results(lengths.map(|bytes| Ok((request(bytes), false))));
        let shown = results.iter().filter_map(|it| it.booking_request.as_ref());
        let purposes: Vec<_> = shown.clone().map(|it| it.purpose.len()).collect();
        assert_eq!(purposes, [1_600_000, 1_300_000, 0, 0]);
        assert!(shown.into_iter().all(|it| it.etag == "e"));
    }
}
