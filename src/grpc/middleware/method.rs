//! The properties of a method that are known before anything of the call has been read. They come from
//! the descriptors that reflection serves, so that a new method need not be named here.

use std::collections::HashMap;
use std::sync::Arc;

use prost::{DecodeError, Message};
use prost_types::FileDescriptorSet;

use super::rows::Rows;

/// Prefix of the packages of our services.
const OURS: &str = "careinvitation.";

/// A method, as far as the middleware needs to know it.
#[derive(Debug, PartialEq, Eq)]
pub struct Method {
    /// Path, as in `/careinvitation.v1.WorklistService/ListWorklist`; for logs.
    pub path: String,
    /// False for health and reflection, whose errors are not the contract's.
    pub is_ours: bool,
    /// True if the response is a stream.
    pub streams: bool,
    /// True if the call is answered to everybody.
    pub is_open: bool,
}

/// Package of the health checks, which are answered to everybody.
const HEALTH: &str = "grpc.health.v1";

/// The methods that are served.
#[derive(Debug)]
pub struct Methods {
    by_path: HashMap<String, Arc<Method>>,
    unknown: Arc<Method>,
    /// Rows of the answers of our methods, by path.
    rows: HashMap<String, Arc<Rows>>,
}

impl Methods {
    /// Returns the methods of all services in encoded `FileDescriptorSet`s.
    ///
    /// # Errors
    ///
    /// The bytes are no descriptor set.
    pub fn of<'a>(sets: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, DecodeError> {
        let mut by_path = HashMap::new();
        let mut rows = HashMap::new();
        for set in sets {
            let found = Rows::of(set)?.into_iter();
            rows.extend(found.map(|(path, it)| (path, Arc::new(it))));
            for file in FileDescriptorSet::decode(set)?.file {
                let package = file.package();
                for service in &file.service {
                    for method in &service.method {
                        let path = format!("/{package}.{}/{}", service.name(), method.name());
                        let method = Method {
                            path: path.clone(),
                            is_ours: package.starts_with(OURS),
                            streams: method.server_streaming(),
                            is_open: package == HEALTH,
                        };
                        by_path.insert(path, Arc::new(method));
                    }
                }
            }
        }
        // A path that is not served is the caller's own text, and is kept out of the log.
        let unknown = Arc::new(Method {
            path: "unknown".to_owned(),
            is_ours: true,
            streams: false,
            is_open: false,
        });
        Ok(Self {
            by_path,
            unknown,
            rows,
        })
    }

    /// Returns the rows of what a method answers.
    pub fn rows(&self, method: &Method) -> Arc<Rows> {
        self.rows.get(&method.path).cloned().unwrap_or_default()
    }

    /// Returns the method at `path`, or one that stands for all unknown methods.
    pub fn find(&self, path: &str) -> Arc<Method> {
        self.by_path.get(path).unwrap_or(&self.unknown).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::DESCRIPTOR_SET;

    #[test]
    fn methods_are_known_by_their_descriptors() {
        let health = tonic_health::pb::FILE_DESCRIPTOR_SET;
        let methods = Methods::of([DESCRIPTOR_SET, health]).expect("descriptors");
        for (path, is_ours, streams) in [
            (
                "/careinvitation.v1.BookingRequestService/GetBookingRequest",
                true,
                false,
            ),
            (
                "/careinvitation.v1.NotificationService/StreamDueNotifications",
                true,
                true,
            ),
            (
                "/careinvitation.v1.WorklistService/WatchWorklist",
                true,
                true,
            ),
            (
                "/careinvitation.sandbox.v1.ClockService/GetTime",
                true,
                false,
            ),
            ("/grpc.health.v1.Health/Check", false, false),
            ("/grpc.health.v1.Health/Watch", false, true),
        ] {
            let expected = Method {
                path: path.to_owned(),
                is_ours,
                streams,
                is_open: !is_ours,
            };
            assert_eq!(*methods.find(path), expected);
        }
        assert_eq!(methods.find("/198003012385/X").path, "unknown");
        assert!(Methods::of([&[0xff][..]]).is_err());
    }
}
