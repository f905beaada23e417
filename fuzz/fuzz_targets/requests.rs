//! Requests: any message of a create call that is taken, created at one time, and shown then and at another. The first
//! eight bytes say when, in seconds since 1970, each four.
#![no_main]

use std::cell::Cell;

use care_invitation::contract::booking_request::{parse_create, render, render_preview};
use care_invitation::contract::v1;
use care_invitation::domain::Context;
use care_invitation::domain::booking_request::create_all::create_all;
use care_invitation::domain::care_unit_settings::Policy;
use chrono::{DateTime, Utc};
use libfuzzer_sys::fuzz_target;
use prost::Message;
use uuid::Uuid;

/// Returns an instant from 1970 to 2106.
fn instant(seconds: [u8; 4]) -> DateTime<Utc> {
    DateTime::from_timestamp(u32::from_le_bytes(seconds).into(), 0).expect("an instant")
}

fuzz_target!(|input: &[u8]| {
    let Some((created_at, rest)) = input.split_first_chunk::<4>() else {
        return;
    };
    let Some((shown_at, bytes)) = rest.split_first_chunk::<4>() else {
        return;
    };
    let [created_at, shown_at] = [*created_at, *shown_at].map(instant);
    let Ok(call) = v1::CreateBookingRequestRequest::decode(bytes) else {
        return;
    };
    let Ok(call) = parse_create(call) else {
        return;
    };
    let ids = Cell::new(0);
    let command = call.command.into_command(|| {
        ids.set(ids.get() + 1);
        Uuid::from_u128(ids.get())
    });
    let context = Context {
        now: created_at,
        actor: "portal".into(),
        policy: Policy::default(),
    };
    let Ok(created) = create_all(&command, &context) else {
        return;
    };
    assert_eq!(created.len(), command.count());
    for change in created {
        for at in [created_at, shown_at] {
            let _ = render(&change.record, at, &context.policy);
            let _ = render_preview(&change.record, at, &context.policy);
        }
    }
});
