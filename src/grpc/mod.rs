//! The services, as gRPC has them. A handler parses, asks the store once, and renders; what there
//! is to decide is the domain's.
//!
//! | file | does |
//! | --- | --- |
//! | `boundary` | what holds for every call: deadlines, limits, spans, failures below the handlers |
//! | `status` | failures in the contract's words; the only file with status codes |
//! | `auth` | who calls |
//! | `descriptors` | what is served, for reflection, health and the boundary |
//! | `…_service` | a service each |

pub mod auth;
mod booking_request_service;
mod clock_service;
pub mod descriptors;
pub mod middleware;
mod notification_service;
pub mod status;
mod worklist_service;

use std::sync::Arc;

use prost::Message;
use tonic::service::Routes;

use crate::clock::Clock;
use crate::contract::sandbox_v1::clock_service_server::ClockServiceServer;
use crate::contract::v1::booking_request_service_server::BookingRequestServiceServer;
use crate::contract::v1::notification_service_server::NotificationServiceServer;
use crate::contract::v1::worklist_service_server::WorklistServiceServer;
use crate::dispatch::Dispatch;
use crate::domain::{Context, RegionPolicy};
use crate::store::Store;
use auth::Caller;

/// The largest message that is taken.
const MESSAGE_BYTES_MAX: usize = 4 * 1_024 * 1_024;
/// The most that a page holds, so that it stays under the 4 MB that clients take by default.
const PAGE_BYTES_MAX: usize = 3 * 1_000 * 1_000;

/// What all services work with; each is a trait that it has.
#[derive(Clone)]
pub struct Service {
    /// Where requests are kept.
    pub store: Store,
    /// What time it is.
    pub clock: Clock,
    /// What the region has settled.
    pub policy: RegionPolicy,
    /// Where due messages come from.
    pub dispatch: Dispatch,
}

impl Service {
    /// Returns the services, each under its name; the clock's only when it can be moved.
    pub fn routes(&self) -> Routes {
        let service = Arc::new(self.clone());
        let requests = BookingRequestServiceServer::from_arc(service.clone());
        let worklists = WorklistServiceServer::from_arc(service.clone());
        let notifications = NotificationServiceServer::from_arc(service.clone());
        let routes = Routes::new(requests.max_decoding_message_size(MESSAGE_BYTES_MAX))
            .add_service(worklists.max_decoding_message_size(MESSAGE_BYTES_MAX))
            .add_service(notifications.max_decoding_message_size(MESSAGE_BYTES_MAX));
        if !self.clock.is_sandbox() {
            return routes;
        }
        let clock = ClockServiceServer::from_arc(service);
        routes.add_service(clock.max_decoding_message_size(MESSAGE_BYTES_MAX))
    }

    /// Returns what a decision of this caller may know, as of now.
    fn context(&self, caller: &Caller) -> Context {
        Context {
            now: self.clock.now(),
            actor: caller.subject.clone(),
            policy: self.policy,
            new_id: self.clock.new_id(),
        }
    }
}

/// Fills a page with up to `size` of what was found, fewer when it would pass 3 MB, but one at
/// least; and says where it ends when there is more. What cannot be shown takes its place and leaves
/// it empty.
fn fill_page<P, M: Message>(
    found: impl IntoIterator<Item = (P, Option<M>)>,
    size: u32,
) -> (Vec<M>, Option<P>) {
    let mut page = Vec::new();
    let mut last = None;
    let mut bytes = 0;
    let mut places = size;
    for (position, message) in found {
        bytes += message.as_ref().map_or(0, Message::encoded_len);
        let room = places > 0 && bytes <= PAGE_BYTES_MAX;
        if !room && last.is_some() {
            return (page, last);
        }
        places = places.saturating_sub(1);
        page.extend(message);
        last = Some(position);
    }
    (page, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_ends_at_its_size_or_at_three_megabytes_but_is_not_empty() {
        for (lengths, size, kept, last) in [
            (vec![], 2, 0, None),
            (vec![9, 9], 2, 2, None),
            (vec![9, 9, 9], 2, 2, Some(1)),
            (vec![1_600_000, 1_300_000, 200_000], 9, 2, Some(1)),
            (vec![1_600_000, 1_600_000, 9], 9, 1, Some(0)),
            (vec![4_000_000, 9], 9, 1, Some(0)),
            (vec![4_000_000], 9, 1, None),
        ] {
            let found = lengths.iter().map(|length| Some("x".repeat(*length)));
            let (page, end) = fill_page(found.enumerate(), size);
            assert_eq!((page.len(), end), (kept, last), "{lengths:?}");
        }
    }

    #[test]
    fn what_cannot_be_shown_takes_a_place_on_the_page() {
        let found = |shown: &[bool]| -> Vec<(usize, Option<String>)> {
            let found = shown.iter().map(|it| it.then(|| "x".to_owned()));
            found.enumerate().collect()
        };
        for (shown, kept, last) in [
            (&[false, false, true][..], 0, Some(1)),
            (&[true, false, true], 1, Some(1)),
            (&[false, true], 1, None),
        ] {
            let (page, end) = fill_page(found(shown), 2);
            assert_eq!((page.len(), end), (kept, last), "{shown:?}");
        }
    }
}
