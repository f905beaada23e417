//! The steps of a schedule as text, with names that are the same in every run.

use std::collections::HashMap;
use std::fmt::Display;

use care_invitation::contract::v1;

use crate::consumer::{message, name};
use crate::crash::history::request_of;

/// The steps so far.
#[derive(Default)]
pub struct Log {
    pub steps: Vec<String>,
    labels: HashMap<String, String>,
}

impl Log {
    pub fn add(&mut self, what: impl Display) {
        self.steps.push(what.to_string());
    }

    /// A name for a request that does not depend on its id.
    pub fn request(&mut self, name: &str) -> String {
        let label = format!("R{}", self.labels.len() + 1);
        let label = self.labels.entry(name.to_owned()).or_insert(label);
        label.clone()
    }

    /// A name for a message: its request, round, kind, and which of them it is.
    pub fn message(&mut self, due: &v1::DueNotification) -> String {
        let request = self.request(request_of(&name(due)));
        let message = message(due);
        let (round, kind) = (message.round, message.kind().as_str_name());
        let kind = kind.trim_start_matches("NOTIFICATION_KIND_");
        let (sequence, attempt) = (message.sequence, message.delivery_attempt);
        let channel = message.channel().as_str_name();
        let channel = channel.trim_start_matches("DELIVERY_CHANNEL_");
        format!("{request}/{round}/{kind}{sequence} by {channel}, attempt {attempt}")
    }
}
