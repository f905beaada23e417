//! The care units that a command is about.

use super::connect::Connection;
use super::failure::Failure;
use crate::contract::v1;
use crate::contract::v1::worklist_service_client::WorklistServiceClient;

/// Most care units that one call may name.
const NAMED_MAX: usize = 50;

/// Returns the names of these care units, or of all that the caller may see when none is given.
///
/// # Errors
///
/// The call fails, or there are more than one call may name.
pub async fn care_units(connection: &Connection, given: &[String]) -> Result<Vec<String>, Failure> {
    if !given.is_empty() {
        return Ok(given.iter().map(|it| name(it)).collect());
    }
    let mut client = WorklistServiceClient::new(connection.clone());
    let call = v1::ListCareUnitsRequest {
        page_size: i32::try_from(NAMED_MAX).expect("it is small"),
        page_token: String::new(),
    };
    let answer = client.list_care_units(call).await?.into_inner();
    match answer.next_page_token.is_empty() {
        true => Ok(answer.care_units),
        false => Err(Failure::Input(format!(
            "there are more than {NAMED_MAX} care units: name those that are meant with --care-unit"
        ))),
    }
}

/// Returns the name of a care unit that is given with or without the name of its collection.
pub fn name(given: &str) -> String {
    match given.starts_with("careUnits/") {
        true => given.to_owned(),
        false => format!("careUnits/{given}"),
    }
}
