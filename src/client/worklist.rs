//! Worklists: their requests, or how many each has.

use std::io::{self, Write, stderr, stdin};

use comfy_table::Table;

use super::care_units::care_units;
use super::connect::{Connection, connect};
use super::failure::Failure;
use super::print::{Tone, break_names, json, print_json, print_table, short, table, toned, words};
use crate::config::client::{List, Output, PatientNumber, Server, Worklist};
use crate::contract::v1;
use crate::contract::v1::worklist_service_client::WorklistServiceClient;

/// Requests of a page.
const PAGE_SIZE: usize = 200;
/// Every care unit that the caller may see.
const EVERY_UNIT: &str = "careUnits/-";

/// Prints the requests of worklists, or how many each has when none is named.
///
/// # Errors
///
/// A call fails.
pub async fn worklist(server: &Server, output: Output, asked: &Worklist) -> Result<(), Failure> {
    let mut query = v1::WorklistQuery {
        worklists: asked.lists.iter().map(|it| number(*it)).collect(),
        referral_id: asked.referral.clone(),
        ..v1::WorklistQuery::default()
    };
    if let Some(patient) = &asked.patient {
        query.personal_id = number_from_input()?;
        query.personal_id_type = kind(patient.kind).into();
        query.issuer.clone_from(&patient.issuer);
    }
    let connection = connect(server).await?;
    let may_ask_everywhere = !query.referral_id.is_empty() || asked.patient.is_some();
    query.care_units = match asked.care_units.is_empty() && may_ask_everywhere {
        true => vec![EVERY_UNIT.to_owned()],
        false => care_units(&connection, &asked.care_units).await?,
    };
    if query.care_units.is_empty() {
        return Ok(writeln!(
            stderr(),
            "there are no requests that you may see"
        )?);
    }
    match query.worklists.is_empty() {
        true => count(connection, output, query).await,
        false => list(connection, output, query, asked.limit).await,
    }
}

/// Reads an identity number from the first line of standard input.
fn number_from_input() -> Result<String, Failure> {
    let line = stdin().lines().next().transpose()?.unwrap_or_default();
    match line.trim() {
        "" => Err(Failure::Input(
            "the identity number is read from standard input, which is empty".to_owned(),
        )),
        number => Ok(number.to_owned()),
    }
}

async fn count(
    connection: Connection,
    output: Output,
    query: v1::WorklistQuery,
) -> Result<(), Failure> {
    let call = v1::CountWorklistsRequest {
        query: Some(query),
        by_care_unit: true,
    };
    let answer = WorklistServiceClient::new(connection)
        .count_worklists(call)
        .await?;
    let answer = answer.into_inner();
    if output.json {
        print_json(&json("careinvitation.v1.CountWorklistsResponse", &answer))?;
        return Ok(());
    }
    let mut headings = vec!["WORKLIST", "ALL"];
    let units: Vec<String> = answer
        .care_units
        .iter()
        .map(|it| unit_id(&it.care_unit))
        .collect();
    if units.len() > 1 {
        headings.extend(units.iter().map(String::as_str));
    }
    let mut table = table(output, &headings);
    for (at, list) in answer.counts.iter().enumerate() {
        let name = words(list.worklist().as_str_name(), "WORKLIST_").replace(' ', "-");
        let by_unit = answer.care_units.iter().filter(|_| units.len() > 1);
        let by_unit = by_unit.map(|it| it.counts.get(at).map_or(0, |it| it.count));
        let counts = std::iter::once(list.count).chain(by_unit);
        let row = std::iter::once(name).chain(counts.map(|it| it.to_string()));
        table.add_row(row);
    }
    Ok(print_table(&mut table)?)
}

/// Returns the HSA-id of a care unit.
fn unit_id(unit: &str) -> String {
    unit.strip_prefix("careUnits/").unwrap_or(unit).to_owned()
}

async fn list(
    connection: Connection,
    output: Output,
    query: v1::WorklistQuery,
    limit: usize,
) -> Result<(), Failure> {
    let mut client = WorklistServiceClient::new(connection);
    let view = match output.personal_data {
        true => v1::BookingRequestView::Full,
        false => v1::BookingRequestView::Basic,
    };
    let (mut page_token, mut left) = (String::new(), limit);
    let mut rows = request_table(output);
    loop {
        let call = v1::ListWorklistRequest {
            query: Some(query.clone()),
            page_size: i32::try_from(left.clamp(1, PAGE_SIZE)).expect("it is small"),
            page_token,
            view: view.into(),
            include_total_size: false,
        };
        let page = client.list_worklist(call).await?.into_inner();
        for request in page.booking_requests.into_iter().take(left) {
            left -= 1;
            match output.json {
                true => print_request(output, request)?,
                false => add_row(&mut rows, output, &request),
            }
        }
        page_token = page.next_page_token;
        if left == 0 || page_token.is_empty() {
            break;
        }
    }
    if !output.json {
        print_table(&mut rows)?;
    }
    if !page_token.is_empty() {
        writeln!(stderr(), "there are more: --limit prints more than {limit}")?;
    }
    Ok(())
}

fn request_table(output: Output) -> Table {
    let mut headings = vec!["REQUEST", "STATE", "HOLD", "VISIT", "PERIOD", "GUARANTEE"];
    if output.personal_data {
        headings.extend(["PATIENT", "PURPOSE"]);
    }
    let mut table = table(output, &headings);
    break_names(&mut table, 0);
    table
}

fn add_row(table: &mut Table, output: Output, request: &v1::BookingRequest) {
    let state = words(request.state().as_str_name(), "STATE_");
    let invitation = request.care_invitation.as_ref();
    let hold = invitation.map(|it| words(it.hold_reason().as_str_name(), "HOLD_REASON_"));
    let visit = request
        .visit_type
        .as_ref()
        .map(|it| match it.display_name.is_empty() {
            true => it.code.clone(),
            false => it.display_name.clone(),
        });
    let period = request
        .constraints
        .as_ref()
        .and_then(|it| it.requested_period.as_ref());
    let period = period.map(|it| format!("{} to {}", it.start_date, it.end_date));
    let guarantee = match request.care_guarantee_date.is_empty() {
        true => String::new(),
        false => request.care_guarantee_date.clone(),
    };
    let mut row = vec![
        toned(short(&request.name), Tone::Plain),
        toned(state, Tone::Plain),
        toned(hold.unwrap_or_default(), Tone::Warning),
        toned(visit.unwrap_or_default(), Tone::Plain),
        toned(period.unwrap_or_default(), Tone::Plain),
        toned(guarantee, Tone::Plain),
    ];
    if output.personal_data {
        let patient = request.patient.as_ref().map(|it| it.personal_id.clone());
        row.push(toned(patient.unwrap_or_default(), Tone::Plain));
        row.push(toned(request.purpose.clone(), Tone::Plain));
    }
    table.add_row(row);
}

/// Prints a request as JSON, without identity number and texts unless they were asked for.
fn print_request(output: Output, mut request: v1::BookingRequest) -> io::Result<()> {
    if !output.personal_data {
        strip(&mut request);
    }
    print_json(&json("careinvitation.v1.BookingRequest", &request))
}

/// Takes identity number and texts out of a request.
pub fn strip(request: &mut v1::BookingRequest) {
    if let Some(patient) = &mut request.patient {
        patient.personal_id.clear();
    }
    if let Some(booking) = &mut request.booking {
        booking.override_reason.clear();
    }
    request.purpose.clear();
    request.internal_comment.clear();
    request.patient_instructions = None;
}

fn number(list: List) -> i32 {
    let list = match list {
        List::BookingRequests => v1::Worklist::BookingRequests,
        List::CareInvitations => v1::Worklist::CareInvitations,
        List::FollowUp => v1::Worklist::FollowUp,
        List::ManualHandling => v1::Worklist::ManualHandling,
        List::SlotIssues => v1::Worklist::SlotIssues,
        List::Declined => v1::Worklist::Declined,
        List::GuaranteeAtRisk => v1::Worklist::GuaranteeAtRisk,
        List::All => v1::Worklist::All,
        List::AllInvitations => v1::Worklist::AllInvitations,
        List::AllBookingRequests => v1::Worklist::AllBookingRequests,
    };
    list.into()
}

fn kind(kind: PatientNumber) -> v1::PersonalIdType {
    match kind {
        PatientNumber::Personnummer => v1::PersonalIdType::Personnummer,
        PatientNumber::Samordningsnummer => v1::PersonalIdType::Samordningsnummer,
        PatientNumber::LocalReserveNumber => v1::PersonalIdType::LocalReserveNumber,
        PatientNumber::NationalReserveNumber => v1::PersonalIdType::NationalReserveNumber,
    }
}
