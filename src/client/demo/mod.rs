//! A clinic's year of invented patients, in a sandbox: requests come in, messages are handed over, patients answer or do not,
//! day by day. Nothing of it is true, and no server but a sandbox takes it.

mod invented;

use std::collections::BTreeMap;
use std::io::{Write, stdout};

use chrono::{DateTime, NaiveTime, TimeDelta, Utc};
use prost_types::Timestamp;
use serde::Serialize;
use tonic::Status;

use super::care_units::name;
use super::connect::{Connection, connect};
use super::failure::{Failure, is_not_served, is_refusal};
use super::print::{local_instant, print_json, timestamp};
use crate::config::client::{Demo, Output, Server};
use crate::contract::sandbox_v1;
use crate::contract::sandbox_v1::clock_service_client::ClockServiceClient;
use crate::contract::v1;
use crate::contract::v1::booking_request_service_client::BookingRequestServiceClient;
use crate::contract::v1::notification_service_client::NotificationServiceClient;
use crate::domain::calendar::{Instant, add_days, at_clock, civil_date};
use crate::telemetry::Progress;
use invented::{Answer, Draws, request};

/// Time of day, in Sweden, up to which a day is played.
const NOON: NaiveTime = NaiveTime::from_hms_opt(12, 0, 0).expect("a time of day");

/// Counts of what has happened.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Played {
    requests: u64,
    handed_over: u64,
    not_delivered: u64,
    booked: u64,
    contacts: u64,
    now: String,
}

/// Fills a sandbox, and lets time pass in it.
///
/// # Errors
///
/// The server is no sandbox, or a call fails.
pub async fn demo(server: &Server, output: Output, asked: &Demo) -> Result<(), Failure> {
    let connection = connect(server).await?;
    let mut clock = ClockServiceClient::new(connection.clone());
    let now = clock.get_time(sandbox_v1::GetTimeRequest {}).await;
    let now = now.map_err(no_sandbox)?.into_inner().server_time;
    let start = instant(now);
    let mut year = Year {
        requests: BookingRequestServiceClient::new(connection.clone()),
        notifications: NotificationServiceClient::new(connection),
        clock,
        draws: Draws::new(start.timestamp().unsigned_abs()),
        care_unit: name(&asked.care_unit),
        now: start,
        answers: BTreeMap::new(),
        played: Played::default(),
    };
    let mut progress = Progress::default();
    let days = u64::from(asked.days);
    let mut outcome = Ok(());
    for day in 0..days {
        let due = |day: u64| day * u64::from(asked.requests) / days;
        outcome = year.play(due(day + 1) - due(day)).await;
        if outcome.is_err() {
            break;
        }
        progress.show("days", day + 1, Some(days));
    }
    progress.end();
    outcome?;
    let played = &mut year.played;
    played.now = local_instant(year.now);
    match output.json {
        true => print_json(played)?,
        false => writeln!(
            stdout(),
            "created {} requests in careUnits/{}, handed over {} messages, could not deliver {}; patients booked {} visits and \
             were in touch {} times; it is {} in the sandbox",
            played.requests,
            asked.care_unit,
            played.handed_over,
            played.not_delivered,
            played.booked,
            played.contacts,
            played.now
        )?,
    }
    Ok(())
}

/// Returns why there is no sandbox.
fn no_sandbox(status: Status) -> Failure {
    match is_not_served(&status) {
        true => Failure::NoSandbox,
        false => status.into(),
    }
}

/// A year that is played.
struct Year {
    requests: BookingRequestServiceClient<Connection>,
    notifications: NotificationServiceClient<Connection>,
    clock: ClockServiceClient<Connection>,
    draws: Draws,
    care_unit: String,
    now: Instant,
    /// Answers of patients to messages, by the names of their requests.
    answers: BTreeMap<String, Answer>,
    played: Played,
}

impl Year {
    /// Plays a day: patients answer the messages of the day before, requests come in, messages go out.
    async fn play(&mut self, requests: u64) -> Result<(), Failure> {
        for (name, answer) in std::mem::take(&mut self.answers) {
            self.answer(name, answer).await?;
        }
        for _ in 0..requests {
            self.create().await?;
        }
        self.deliver().await?;
        self.advance().await
    }

    async fn create(&mut self) -> Result<(), Failure> {
        let call = v1::CreateBookingRequestRequest {
            parent: self.care_unit.clone(),
            booking_request: Some(request(&mut self.draws, civil_date(self.now))),
            request_id: self.draws.id(),
            allow_duplicate: true,
            repeat: None,
            prior_messages: Vec::new(),
        };
        self.requests.create_booking_request(call).await?;
        self.played.requests += 1;
        Ok(())
    }

    /// Hands over what is due, as an adapter does.
    async fn deliver(&mut self) -> Result<(), Failure> {
        let call = v1::StreamDueNotificationsRequest {
            care_units: vec![self.care_unit.clone()],
            max_outstanding: 500,
            until_idle: true,
            ..v1::StreamDueNotificationsRequest::default()
        };
        let mut stream = self
            .notifications
            .stream_due_notifications(call)
            .await?
            .into_inner();
        while let Some(message) = stream.message().await? {
            let Some(v1::stream_due_notifications_response::Event::Due(due)) = message.event else {
                continue;
            };
            self.hand_over(due).await?;
        }
        Ok(())
    }

    async fn hand_over(&mut self, due: v1::DueNotification) -> Result<(), Failure> {
        let message = due.notification.unwrap_or_default();
        let is_inbox = message.channel() == v1::DeliveryChannel::Inbox;
        let outcome = match self.draws.below(100) {
            0..4 if is_inbox => v1::acknowledgement::Outcome::Unreachable,
            0..2 => v1::acknowledgement::Outcome::Park,
            _ => v1::acknowledgement::Outcome::Sent,
        };
        let is_sent = outcome == v1::acknowledgement::Outcome::Sent;
        let acknowledgement = v1::Acknowledgement {
            lease: Some(v1::Lease {
                name: message.name,
                lease_token: due.lease_token,
            }),
            outcome: outcome.into(),
            cause: match is_sent {
                true => String::new(),
                false => "invented by the demonstration".to_owned(),
            },
            ..v1::Acknowledgement::default()
        };
        let call = v1::AcknowledgeNotificationsRequest {
            acknowledgements: vec![acknowledgement],
        };
        self.notifications.acknowledge_notifications(call).await?;
        match is_sent {
            true => self.played.handed_over += 1,
            false => self.played.not_delivered += 1,
        }
        let answer = Answer::drawn(&mut self.draws);
        if let (true, Some(answer)) = (is_sent, answer) {
            self.answers.insert(due.booking_request, answer);
        }
        Ok(())
    }

    /// Does what a patient has decided. A call that the request's state does not allow any more is none.
    async fn answer(&mut self, name: String, answer: Answer) -> Result<(), Failure> {
        let done = match answer {
            Answer::Book => self.book(name).await,
            Answer::Contact(outcome) => {
                let call = v1::RecordPatientContactRequest {
                    name,
                    request_id: self.draws.id(),
                    outcome: outcome.into(),
                    medium: v1::ContactMedium::Phone.into(),
                    ..v1::RecordPatientContactRequest::default()
                };
                let done = self.requests.record_patient_contact(call).await;
                done.map(|_| self.played.contacts += 1)
            }
        };
        match done {
            Err(status) if !is_refusal(&status) => Err(status.into()),
            Err(_) | Ok(()) => Ok(()),
        }
    }

    /// Books the first day of the period that is left, at a full hour.
    async fn book(&mut self, name: String) -> Result<(), Status> {
        let call = v1::GetBookingRequestRequest { name: name.clone() };
        let answer = self.requests.get_booking_request(call).await?.into_inner();
        let request = answer.booking_request.unwrap_or_default();
        let period = request.constraints.and_then(|it| it.requested_period);
        let first = period.and_then(|it| it.start_date.parse().ok());
        let tomorrow = add_days(civil_date(self.now), 1);
        let date = first.unwrap_or(tomorrow).max(tomorrow);
        let hour = 8 + u32::try_from(self.draws.below(8)).unwrap_or(0);
        let clock = NaiveTime::from_hms_opt(hour, 0, 0).unwrap_or(NOON);
        let begin = at_clock(date, clock);
        let call = v1::RecordBookingRequest {
            name,
            request_id: self.draws.id(),
            booking: Some(v1::Booking {
                booking_id: self.draws.id(),
                start_time: Some(timestamp(begin)),
                end_time: Some(timestamp(begin + TimeDelta::minutes(30))),
                source: v1::BookingSource::Patient.into(),
                ..v1::Booking::default()
            }),
            ..v1::RecordBookingRequest::default()
        };
        self.requests.record_booking(call).await?;
        self.played.booked += 1;
        Ok(())
    }

    /// Moves the clock to the noon of the next day, unless it runs by itself and is there.
    async fn advance(&mut self) -> Result<(), Failure> {
        let next = at_clock(add_days(civil_date(self.now), 1), NOON);
        let call = sandbox_v1::AdvanceTimeRequest {
            server_time: Some(timestamp(next)),
        };
        let moved = match self.clock.advance_time(call).await {
            Ok(moved) => moved.into_inner().server_time,
            Err(status) if is_refusal(&status) => {
                let call = sandbox_v1::GetTimeRequest {};
                self.clock.get_time(call).await?.into_inner().server_time
            }
            Err(status) => return Err(status.into()),
        };
        self.now = instant(moved);
        Ok(())
    }
}

fn instant(at: Option<Timestamp>) -> Instant {
    let at = at.unwrap_or_default();
    DateTime::<Utc>::from_timestamp(at.seconds, 0).unwrap_or_default()
}
