//! Batches of a walk: items of one kind in one call, each as its single call would be.

use std::collections::BTreeSet;
use std::mem::discriminant;

use care_invitation::contract::v1;
use tonic::{Code, Status};

use super::call::{self, Call};
use super::op::Op;
use super::rules::Refusal;
use super::service::Answer;
use super::world::{World, key};
use crate::harness::{Harness, within};

/// Returns the batch of those steps that are of the kind of the first, if there are any.
pub fn call(ops: &[Op], world: &World) -> Option<Call> {
    let calls = ops.iter().filter_map(|op| call::call(op, world));
    let mut calls: Vec<_> = calls.filter(is_item).collect();
    let kind = discriminant(calls.first()?);
    let mut request_ids = BTreeSet::new();
    calls.retain(|it| discriminant(it) == kind && request_ids.insert(key(it).1));
    Some(Call::Batch(calls))
}

fn is_item(call: &Call) -> bool {
    matches!(
        call,
        Call::Create(_) | Call::Invite(_) | Call::Cancel(_) | Call::Release(_)
    )
}

/// Makes the call; returns what came of each item.
pub async fn send(
    harness: &Harness,
    calls: &[Call],
) -> Result<Vec<Result<Answer, Refusal>>, Status> {
    let mut api = harness.requests();
    macro_rules! results {
        ($kind:ident, $method:ident, $message:ident) => {{
            let item = |it: &Call| match it {
                Call::$kind(it) => it.clone(),
                other => unreachable!("{other:?} is of another kind"),
            };
            let requests = calls.iter().map(item).collect();
            within(api.$method(v1::$message { requests }))
                .await?
                .into_inner()
                .results
        }};
    }
    let results = match calls[0] {
        Call::Create(_) => results!(
            Create,
            batch_create_booking_requests,
            BatchCreateBookingRequestsRequest
        ),
        Call::Invite(_) => results!(
            Invite,
            batch_change_to_invitation,
            BatchChangeToInvitationRequest
        ),
        Call::Cancel(_) => results!(
            Cancel,
            batch_cancel_booking_requests,
            BatchCancelBookingRequestsRequest
        ),
        Call::Release(_) => results!(Release, batch_release_hold, BatchReleaseHoldRequest),
        ref other => unreachable!("{other:?} has no batch"),
    };
    Ok(results.into_iter().enumerate().map(answer).collect())
}

fn answer((place, result): (usize, v1::BookingRequestResult)) -> Result<Answer, Refusal> {
    if let Some(error) = result.error {
        return Err(refusal(&error, &format!("requests[{place}].")));
    }
    let request = result.booking_request.expect("a request");
    Ok(Answer::Request(Box::new(request)).repeated(result.replayed))
}

/// Returns the error of an element in the model's terms, as its single call would have failed.
pub fn refusal(error: &v1::ElementError, path: &str) -> Refusal {
    let reason = error.reason().as_str_name();
    let reason = reason.trim_start_matches("ERROR_REASON_");
    let mut refusal = Refusal::new(Code::from(error.code), reason);
    let fields = error.field_violations.iter();
    let fields = fields.map(|it| {
        it.field
            .strip_prefix(path)
            .unwrap_or("elsewhere")
            .to_owned()
    });
    refusal.details.extend(fields);
    for (key, value) in &error.metadata {
        match key.as_str() {
            "name" => refusal.names.0 = Some(value.clone()),
            _ => refusal = refusal.with(key, value),
        }
    }
    refusal
}
