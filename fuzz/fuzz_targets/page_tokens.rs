//! Page tokens of every list, in a call that is good but for it: any text, or any cursor with the check value that belongs to
//! it, which everybody can compute. The first byte says which.
#![no_main]

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use care_invitation::contract::worklist::care_units;
use care_invitation::contract::{
    access_log, change_stream, history, notification, patient_request, v1, worklist,
};
use care_invitation::domain::hsa_id::HSA_ID_MAX;
use libfuzzer_sys::fuzz_target;
use prost::Message;
use sha2::{Digest, Sha256};

const CARE_UNIT: &str = "careUnits/SE2321000131-P000000123457";
const REQUEST: &str =
    "careUnits/SE2321000131-P000000123457/bookingRequests/0196f0a5-0000-7000-8000-000000000001";
/// Bytes of a request's key in a cursor.
const KEY_BYTES: usize = 16 + HSA_ID_MAX;

/// Returns the token of an input in a list, whose cursors have so many bytes.
fn token(input: &[u8], list: &str, query: &impl Message, cursor_bytes: usize) -> String {
    let (first, bytes) = input.split_first().unwrap_or((&0, &[]));
    if first % 2 == 0 {
        return String::from_utf8_lossy(bytes).into_owned();
    }
    let mut cursor = bytes.to_vec();
    cursor.resize(cursor_bytes, 0);
    let query = query.encode_to_vec();
    let digest = Sha256::new()
        .chain_update(list)
        .chain_update([0])
        .chain_update((query.len() as u64).to_be_bytes())
        .chain_update(query)
        .chain_update(&cursor)
        .finalize();
    URL_SAFE_NO_PAD.encode([&[1], &cursor[..], &digest[..16]].concat())
}

fuzz_target!(|input: &[u8]| {
    let mut call = v1::ListWorklistRequest {
        query: Some(v1::WorklistQuery {
            worklists: vec![v1::Worklist::CareInvitations.into()],
            care_units: vec![CARE_UNIT.into()],
            minimum_priority: v1::Priority::Routine.into(),
            order_by: v1::worklist_query::OrderBy::StartDate.into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let query = call.query.clone().unwrap_or_default();
    call.page_token = token(input, "ListWorklist", &query, 16 + KEY_BYTES);
    let _ = worklist::parse_list(call);

    let mut call = v1::ListHistoryRequest {
        name: REQUEST.into(),
        ..Default::default()
    };
    call.page_token = token(input, "ListHistory", &call, 4);
    let taken = history::parse_list_history(call);
    // Any number is a cursor there, so that the check value of all of them is seen to be right.
    assert!(taken.is_ok() || input.first().is_none_or(|it| it % 2 == 0));

    let mut call = v1::ListNotificationsRequest {
        care_units: vec![CARE_UNIT.into()],
        ..Default::default()
    };
    call.page_token = token(input, "ListNotifications", &call, 8 + KEY_BYTES + 16);
    let _ = notification::list::parse_list(call);

    let identity = Some(v1::PatientIdentity {
        personal_id: "198003012385".into(),
        personal_id_type: v1::PersonalIdType::Personnummer.into(),
        ..Default::default()
    });
    let mut call = v1::ListPatientRequestsRequest {
        identity: identity.clone(),
        ..Default::default()
    };
    call.page_token = token(input, "ListPatientRequests", &call, KEY_BYTES);
    let _ = patient_request::parse_list(call);

    let mut call = v1::ListAccessLogRequest {
        identity,
        ..Default::default()
    };
    call.page_token = token(input, "ListAccessLog", &call, 8 + 16 + 8);
    let _ = access_log::parse_list(call);

    let mut call = v1::ListCareUnitsRequest::default();
    call.page_token = token(input, "ListCareUnits", &call, HSA_ID_MAX);
    let _ = care_units::parse_list(call);

    let mut call = v1::StreamChangesRequest::default();
    call.after_cursor = token(input, "StreamChanges", &call, 8 + 16 + 4 + 8);
    let _ = change_stream::parse_stream(call);
});
