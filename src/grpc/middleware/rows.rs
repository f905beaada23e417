//! The rows of an answer: the messages that it holds, such as requests, notifications, entries of a history
//! and results. Which fields have them comes from the descriptors, so that a new method need not say so.

use std::collections::HashMap;

use prost::encoding::{DecodeContext, decode_key, skip_field};
use prost::{DecodeError, Message};
use prost_types::field_descriptor_proto::Label;
use prost_types::{DescriptorProto, FileDescriptorProto, FileDescriptorSet};

/// Beginning of the full names of our messages.
const OURS: &str = ".careinvitation.";

/// The rows of the answers of one method.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    /// Numbers of the fields whose messages are rows.
    fields: Vec<u32>,
    /// True if the answer is a page of a list, or a stream: as long as its caller wishes.
    pub is_list: bool,
    /// True if one message may hold many rows.
    pub are_many: bool,
}

impl Rows {
    /// Returns the rows of our methods in an encoded `FileDescriptorSet`, by the paths of the methods.
    ///
    /// # Errors
    ///
    /// The bytes are no descriptor set.
    pub fn of(set: &[u8]) -> Result<HashMap<String, Self>, DecodeError> {
        let files = FileDescriptorSet::decode(set)?.file;
        let mut messages = HashMap::new();
        for file in &files {
            collect(
                &format!(".{}", file.package()),
                &file.message_type,
                &mut messages,
            );
        }
        Ok(files
            .iter()
            .flat_map(|file| methods(file, &messages))
            .collect())
    }

    /// Counts the rows in an encoded message of an answer.
    pub fn count(&self, message: &[u8]) -> usize {
        // What was encoded here can be read.
        self.count_in(message).unwrap_or_default()
    }

    fn count_in(&self, mut message: &[u8]) -> Result<usize, DecodeError> {
        let mut count = 0;
        while !message.is_empty() {
            let (field, wire_type) = decode_key(&mut message)?;
            count += usize::from(self.fields.contains(&field));
            skip_field(wire_type, field, &mut message, DecodeContext::default())?;
        }
        Ok(count)
    }
}

type Messages<'a> = HashMap<String, &'a DescriptorProto>;

/// Collects messages, those within others included, by their full names.
fn collect<'a>(within: &str, found: &'a [DescriptorProto], messages: &mut Messages<'a>) {
    for message in found {
        let name = format!("{within}.{}", message.name());
        collect(&name, &message.nested_type, messages);
        messages.insert(name, message);
    }
}

/// Returns the paths of the methods of ours in a file, with their rows.
fn methods<'a>(
    file: &'a FileDescriptorProto,
    messages: &'a Messages,
) -> impl Iterator<Item = (String, Rows)> + 'a {
    file.service.iter().flat_map(move |service| {
        service.method.iter().filter_map(move |method| {
            let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
            let answer = messages.get(method.output_type())?;
            let is_ours = method.output_type().starts_with(OURS);
            let is_page = answer.field.iter().any(|it| it.name() == "next_page_token");
            let fields = fields(answer, messages);
            let are_many = answer.field.iter().any(|it| {
                let is_row = u32::try_from(it.number()).is_ok_and(|it| fields.contains(&it));
                is_row && it.label() == Label::Repeated
            });
            let rows = Rows {
                fields,
                is_list: is_page || method.server_streaming(),
                are_many,
            };
            is_ours.then_some((path, rows))
        })
    })
}

/// Returns the fields of an answer whose messages are rows: ours, unless they say nothing but that they are
/// there, such as a heartbeat.
fn fields(answer: &DescriptorProto, messages: &Messages) -> Vec<u32> {
    let is_row = |name: &str| {
        let says = |it: &&DescriptorProto| !it.field.is_empty();
        name.starts_with(OURS) && messages.get(name).is_some_and(says)
    };
    let fields = answer.field.iter().filter(|it| is_row(it.type_name()));
    fields
        .filter_map(|it| u32::try_from(it.number()).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::DESCRIPTOR_SET;
    use crate::contract::v1::stream_due_notifications_response::Event;
    use crate::contract::v1::*;

    fn rows(method: &str) -> Rows {
        let mut all = Rows::of(DESCRIPTOR_SET).expect("descriptors");
        let found = all.remove(&format!("/careinvitation.v1.{method}"));
        found.expect("a method")
    }

    #[test]
    fn each_message_of_an_answer_is_a_row() {
        let list = rows("WorklistService/ListWorklist");
        let page = |count| ListWorklistResponse {
            booking_requests: vec![BookingRequest::default(); count],
            next_page_token: "more".to_owned(),
            total_size: Some(7),
        };
        assert_eq!(list.count(&page(0).encode_to_vec()), 0);
        assert_eq!(list.count(&page(3).encode_to_vec()), 3);
        let get = rows("BookingRequestService/GetBookingRequest");
        let answer = GetBookingRequestResponse {
            booking_request: Some(BookingRequest::default()),
        };
        assert_eq!(get.count(&answer.encode_to_vec()), 1);
    }

    #[test]
    fn a_heartbeat_is_no_row_and_a_notification_is() {
        let stream = rows("NotificationService/StreamDueNotifications");
        let event = |event| StreamDueNotificationsResponse {
            event: Some(event),
            server_time: Some(prost_types::Timestamp::default()),
        };
        for (sent, count) in [
            (Event::Due(DueNotification::default()), 1),
            (Event::Revoked("a name".to_owned()), 0),
            (Event::Heartbeat(Heartbeat {}), 0),
        ] {
            assert_eq!(stream.count(&event(sent).encode_to_vec()), count);
        }
    }

    #[test]
    fn pages_and_streams_are_lists() {
        for (method, is_list, are_many) in [
            ("WorklistService/ListWorklist", true, true),
            ("WorklistService/WatchWorklist", true, false),
            ("BookingRequestService/ListHistory", true, true),
            ("BookingRequestService/GetBookingRequest", false, false),
            ("NotificationService/AcknowledgeNotifications", false, true),
        ] {
            let rows = rows(method);
            assert_eq!(
                (rows.is_list, rows.are_many),
                (is_list, are_many),
                "{method}"
            );
        }
    }
}
