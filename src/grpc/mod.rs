//! The gRPC services. A handler parses, calls the store once, and renders; decisions are the domain's.
//!
//! | file | does |
//! | --- | --- |
//! | `middleware` | deadlines, limits, spans and transport failures of every call |
//! | `status` | errors of the contract; the only file with status codes |
//! | `caller` | the caller of a call, as the middleware has authenticated it |
//! | `codec` | whom each message is about, recorded on its way |
//! | `descriptors` | the services that are served, for reflection, health and the middleware |
//! | `reflection` | what is served, described to tools |
//! | `element` | the answers and errors of a batch, element by element |
//! | `write` | writes of requests and their answers, alone or in batches |
//! | `…_service` | a service each |

mod audit_service;
mod booking_request_service;
mod caller;
mod care_unit_settings_service;
mod clock_service;
pub mod codec;
pub mod descriptors;
mod element;
pub mod middleware;
mod notification_service;
mod patient_service;
pub mod reflection;
pub mod status;
mod worklist_service;
mod write;

use std::sync::Arc;

use prost::Message;
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;

use crate::auth::caller::Caller;
use crate::clock::Clock;
use crate::contract::sandbox_v1::clock_service_server::ClockServiceServer;
use crate::contract::v1::audit_service_server::AuditServiceServer;
use crate::contract::v1::booking_request_service_server::BookingRequestServiceServer;
use crate::contract::v1::care_unit_settings_service_server::CareUnitSettingsServiceServer;
use crate::contract::v1::notification_service_server::NotificationServiceServer;
use crate::contract::v1::patient_service_server::PatientServiceServer;
use crate::contract::v1::worklist_service_server::WorklistServiceServer;
use crate::dispatch::Dispatch;
use crate::domain::care_unit_settings::Policy;
use crate::domain::{Context, RegionPolicy};
use crate::store::Store;

/// Maximum bytes of a message that is received, once it is decompressed.
const MESSAGE_BYTES_MAX: usize = 4 * 1_024 * 1_024;
/// Maximum bytes of a page, which keep it under the 4 MB that clients accept by default.
const PAGE_BYTES_MAX: usize = 3 * 1_000 * 1_000;

/// Returns a service with its limit on messages, and compressed both ways, in the way that the caller prefers.
macro_rules! served {
    ($service:expr) => {
        $service
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .accept_compressed(CompressionEncoding::Gzip)
            .accept_compressed(CompressionEncoding::Zstd)
            .send_compressed(CompressionEncoding::Gzip)
            .send_compressed(CompressionEncoding::Zstd)
    };
}

/// The dependencies of all services; it implements the trait of each.
#[derive(Clone)]
pub struct Service {
    /// Store of the requests.
    pub store: Store,
    /// Clock of the service.
    pub clock: Clock,
    /// Settings of the region.
    pub policy: RegionPolicy,
    /// Source of due notifications and of changes.
    pub dispatch: Dispatch,
    /// Days for which changes are kept for streams that are resumed.
    pub changes_days: u32,
}

impl Service {
    /// Returns the routes of all services; ClockService is among them with a sandbox clock only.
    pub fn routes(&self) -> Routes {
        let service = Arc::new(self.clone());
        let requests = BookingRequestServiceServer::from_arc(service.clone());
        let worklists = WorklistServiceServer::from_arc(service.clone());
        let notifications = NotificationServiceServer::from_arc(service.clone());
        let settings = CareUnitSettingsServiceServer::from_arc(service.clone());
        let patients = PatientServiceServer::from_arc(service.clone());
        let audit = AuditServiceServer::from_arc(service.clone());
        let routes = Routes::new(served!(requests))
            .add_service(served!(audit))
            .add_service(served!(worklists))
            .add_service(served!(notifications))
            .add_service(served!(patients))
            .add_service(served!(settings));
        if !self.clock.is_sandbox() {
            return routes;
        }
        let clock = ClockServiceServer::from_arc(service);
        routes.add_service(served!(clock))
    }

    /// Returns what the region and its care units have set.
    fn policy(&self) -> Policy {
        Policy {
            region: self.policy,
            units: self.store.settings(),
        }
    }

    /// Returns the context of a decision for this caller, as of now.
    fn context(&self, caller: &Caller) -> Context {
        Context {
            now: self.clock.now(),
            actor: caller.name(),
            policy: self.policy(),
        }
    }
}

/// Fills a page with up to `size` of the found items, fewer when it would pass 3 MB, but one at least.
/// Returns it, with the cursor at its end when there is more. An item that cannot be rendered takes a
/// place and leaves it empty.
fn fill_page<P, M: Message>(
    found: impl IntoIterator<Item = (P, Option<M>)>,
    size: u32,
) -> (Vec<M>, Option<P>) {
    let mut page = Vec::new();
    let mut last = None;
    let mut bytes = 0;
    let mut places = size;
    for (cursor, message) in found {
        bytes += message.as_ref().map_or(0, Message::encoded_len);
        let fits = places > 0 && bytes <= PAGE_BYTES_MAX;
        if !fits && last.is_some() {
            return (page, last);
        }
        places = places.saturating_sub(1);
        page.extend(message);
        last = Some(cursor);
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
