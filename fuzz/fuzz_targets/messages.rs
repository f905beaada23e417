//! The messages of every method: any bytes, decoded and parsed. The first byte says which.
#![no_main]

use care_invitation::contract::booking_request::batch::parse_batch;
use care_invitation::contract::booking_request::change::parse_change;
use care_invitation::contract::booking_request::record_booking_cancellation::parse_record_booking_cancellation;
use care_invitation::contract::booking_request::record_patient_contact::parse_contact;
use care_invitation::contract::booking_request::release_hold::parse_release;
use care_invitation::contract::booking_request::replace_personal_id::parse_replace_personal_id;
use care_invitation::contract::booking_request::revoke_invitation::parse_revoke;
use care_invitation::contract::booking_request::update_patient::parse_update_patient;
use care_invitation::contract::notification::report_delivery::parse_reports;
use care_invitation::contract::{
    access_log, booking_request, care_unit_settings, change_stream, clock, history, notification,
    patient_request, slot, v1, worklist,
};
use libfuzzer_sys::fuzz_target;
use prost::Message;

/// Decodes a message, and parses it.
fn parse<M: Message + Default, T>(bytes: &[u8], parse: impl FnOnce(M) -> T) {
    if let Ok(message) = M::decode(bytes) {
        parse(message);
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((which, bytes)) = input.split_first() else {
        return;
    };
    match which % 31 {
        0 => parse(bytes, booking_request::parse_create),
        1 => parse(bytes, booking_request::parse_get),
        2 => parse(bytes, booking_request::parse_change_to_invitation),
        3 => parse(bytes, booking_request::parse_record_booking),
        4 => parse(bytes, booking_request::parse_cancel),
        5 => parse(bytes, booking_request::parse_preview),
        6 => parse(bytes, parse_change),
        7 => parse(bytes, parse_contact),
        8 => parse(bytes, parse_release),
        9 => parse(bytes, parse_revoke),
        10 => parse(bytes, parse_update_patient),
        11 => parse(bytes, parse_replace_personal_id),
        12 => parse(bytes, parse_record_booking_cancellation),
        13 => parse(bytes, |call: v1::BatchCreateBookingRequestsRequest| {
            parse_batch(
                call.requests,
                |it| &it.request_id,
                booking_request::parse_create,
            )
        }),
        14 => parse(bytes, history::parse_list_history),
        15 => parse(bytes, slot::parse_slots),
        16 => parse(bytes, notification::parse_stream),
        17 => parse(bytes, |call| notification::parse_authorize(&call)),
        18 => parse(bytes, |call| notification::parse_acknowledge(&call)),
        19 => parse(bytes, |call| parse_reports(&call)),
        20 => parse(bytes, notification::list::parse_list),
        21 => parse(bytes, worklist::parse_list),
        22 => parse(bytes, worklist::parse_count),
        23 => parse(bytes, patient_request::parse_list),
        24 => parse(bytes, access_log::parse_list),
        25 => parse(bytes, care_unit_settings::parse_update),
        26 => parse(bytes, |call| care_unit_settings::parse_get(&call)),
        27 => parse(bytes, worklist::parse_watch),
        28 => parse(bytes, worklist::care_units::parse_list),
        29 => parse(bytes, change_stream::parse_stream),
        _ => parse(bytes, clock::parse_advance),
    };
});
