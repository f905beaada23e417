//! Comparisons of the service's responses with those that the model expects.

use std::fmt::Debug;

use care_invitation::contract::v1;
use care_invitation::contract::v1::PreviousVisit;
use care_invitation::contract::v1::booking_request::Origin;

/// Fails with the lines that differ.
pub fn same<T: Debug + PartialEq>(what: &str, expected: &T, actual: &T) -> Result<(), String> {
    if expected == actual {
        return Ok(());
    }
    let lines = |it: &T| {
        format!("{it:#?}")
            .lines()
            .map(Into::into)
            .collect::<Vec<_>>()
    };
    Err(difference(what, &lines(expected), &lines(actual)))
}

/// Compares two requests field by field, since they print their name only.
pub fn same_request(
    what: &str,
    expected: &v1::BookingRequest,
    actual: &v1::BookingRequest,
) -> Result<(), String> {
    if expected == actual {
        return Ok(());
    }
    Err(difference(what, &request(expected), &request(actual)))
}

/// Compares two due notifications in the same way.
pub fn same_due(
    what: &str,
    expected: &v1::DueNotification,
    actual: &v1::DueNotification,
) -> Result<(), String> {
    if expected == actual {
        return Ok(());
    }
    Err(difference(what, &due(expected), &due(actual)))
}

/// Fails with `text` unless `fact`.
pub fn holds(fact: bool, text: impl FnOnce() -> String) -> Result<(), String> {
    if fact { Ok(()) } else { Err(text()) }
}

fn difference(what: &str, expected: &[String], actual: &[String]) -> String {
    let mut text = vec![format!("{what} differs")];
    for at in 0..expected.len().max(actual.len()) {
        let show = |lines: &[String]| lines.get(at).cloned().unwrap_or_default();
        let (expected, actual) = (show(expected), show(actual));
        if expected == actual {
            text.push(format!("    both    {}", actual.trim()));
        } else {
            text.push(format!("  ! model   {}", expected.trim()));
            text.push(format!("  ! service {}", actual.trim()));
        }
    }
    text.join("\n")
}

/// Returns the fields of a request, one a line.
pub fn request(of: &v1::BookingRequest) -> Vec<String> {
    let mut lines = vec![
        format!("name {}", of.name),
        format!(
            "patient {}",
            of.patient.as_ref().map(patient).unwrap_or_default()
        ),
        format!(
            "origin {}",
            of.origin.as_ref().map(origin).unwrap_or_default()
        ),
        format!(
            "visit {:?} {:?} {:?}",
            of.visit_kind(),
            of.visit_type,
            of.purpose
        ),
        format!(
            "texts {:?} {:?}",
            of.patient_instructions, of.internal_comment
        ),
        format!(
            "summons {} invitation {} {:?}",
            of.summons,
            of.invitation,
            of.priority()
        ),
        format!("constraints {:?}", of.constraints),
        format!("booking {:?}", of.booking),
        format!("state {:?} {:?}", of.state(), of.cancel_reason()),
        format!(
            "cancellations {} {} {}",
            of.patient_cancellations, of.unit_cancellations, of.no_shows
        ),
        format!("last contact {:?}", of.last_contact),
        format!("series {:?}", of.series),
        format!("allowed {:?}", of.allowed_actions().collect::<Vec<_>>()),
        format!("warnings {:?}", of.warnings().collect::<Vec<_>>()),
        format!("guarantee {} etag {:?}", of.care_guarantee_date, of.etag),
        format!(
            "created {} changed {}",
            instant(of.create_time),
            instant(of.update_time)
        ),
    ];
    if let Some(it) = &of.care_invitation {
        lines.push(format!(
            "round {} since {} hold {:?} until {:?} no response {} expires {} bookable {}",
            it.round,
            instant(it.invite_time),
            it.hold_reason(),
            it.wait_until_date,
            instant(it.no_response_time),
            instant(it.expire_time),
            instant(it.bookable_since),
        ));
        lines.extend(it.notifications.iter().map(message));
    }
    lines
}

fn origin(of: &Origin) -> String {
    match of {
        Origin::Referral(it) => format!("referral {} of {:?}", it.referral_id, it.decision_date),
        Origin::PreviousVisit(it) => {
            let PreviousVisit {
                visit_id,
                referral_id,
                decision_date,
            } = it;
            format!("visit {visit_id} of {referral_id:?} {decision_date:?}")
        }
    }
}

fn patient(of: &v1::Patient) -> String {
    let number = (&of.personal_id, of.personal_id_type(), &of.issuer);
    let reach = (of.protection(), of.inbox_reach());
    let needs = (
        of.addressee(),
        &of.preferred_language,
        &of.interpreter_language,
        of.letter_format(),
    );
    format!("{number:?} {reach:?} {needs:?}")
}

fn message(of: &v1::Notification) -> String {
    format!(
        "{} round {} {:?} {} {:?} by {:?} {:?} due {} sent {} read {} posted {} not produced {} attempts {} cause {:?} {:?} sent_after_change {}",
        of.name.rsplit('/').next().unwrap_or_default(),
        of.round,
        of.kind(),
        of.sequence,
        of.state(),
        of.channel(),
        of.channel_reason(),
        instant(of.due_time),
        instant(of.send_time),
        instant(of.read_time),
        instant(of.dispatch_time),
        instant(of.not_produced_time),
        of.delivery_attempt,
        of.cause(),
        of.cause_detail,
        of.sent_after_change,
    )
}

fn due(of: &v1::DueNotification) -> Vec<String> {
    vec![
        of.notification.as_ref().map(message).unwrap_or_default(),
        format!(
            "token {} until {}",
            of.lease_token,
            instant(of.lease_expire_time)
        ),
        format!(
            "possible repeat {} released {}",
            of.possible_repeat, of.released_by_staff
        ),
        format!("request {} unit {}", of.booking_request, of.care_unit),
        format!(
            "patient {} {:?} {}",
            of.personal_id,
            of.personal_id_type(),
            of.issuer
        ),
        format!("{:?} language {}", of.protection(), of.language),
        format!(
            "to {:?} interpreter {} {:?}",
            of.addressee(),
            of.interpreter_language,
            of.letter_format()
        ),
        format!(
            "visit {:?} {:?} {:?}",
            of.visit_kind(),
            of.visit_type,
            of.purpose
        ),
        format!(
            "period {:?} until {}",
            of.requested_period,
            instant(of.expire_time)
        ),
        format!(
            "times {:?} {:?} {}",
            of.weekdays, of.time_windows, of.duration_minutes
        ),
        format!("earlier {}", instant(of.previous_send_time)),
        format!("texts {:?}", of.patient_instructions),
        format!("cancelled {:?}", of.cancel_reason()),
    ]
}

fn instant(of: Option<prost_types::Timestamp>) -> String {
    of.map(|it| it.to_string()).unwrap_or("-".into())
}
