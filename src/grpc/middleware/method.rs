//! The properties of a method that are known before anything of the call has been read. They come from
//! the descriptors that reflection serves, so that a new method need not be named here.

use std::collections::HashMap;
use std::sync::Arc;

use prost::{DecodeError, Message};

use crate::auth::scope::{Scope, Scopes};

use super::rows::Rows;

/// Prefix of the packages of our services.
const OURS: &str = "careinvitation.";
/// Package of the health checks, which are answered to everybody.
const HEALTH: &str = "grpc.health.v1";

/// A method, as far as the middleware needs to know it.
#[derive(Debug, PartialEq, Eq)]
pub struct Method {
    /// Path, as in `/careinvitation.v1.WorklistService/ListWorklist`; for logs.
    pub path: String,
    /// The same without the slash at its beginning, for metrics.
    pub name: Arc<str>,
    /// False for health and reflection, whose errors are not the contract's.
    pub is_ours: bool,
    /// True if the response is a stream.
    pub streams: bool,
    /// Callers to whom the call is answered.
    pub admits: Admits,
}

/// The callers to whom a method is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admits {
    /// Everybody, authenticated or not.
    Everybody,
    /// Everybody who is authenticated.
    Authenticated,
    /// Holders of one of these scopes.
    Holders(Scopes),
}

/// Reason for which descriptors cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bytes are no descriptor set.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    /// A method of ours does not say who may call it.
    #[error("{0} has no required_scope")]
    NoScope(String),
    /// A method of ours needs a scope that does not exist.
    #[error("{0} has a required_scope that is not known")]
    UnknownScope(String),
}

/// The parts of a `FileDescriptorSet` that are looked at. prost's own descriptors drop options that they do not
/// know.
mod descriptor {
    #[derive(prost::Message)]
    pub struct Set {
        #[prost(message, repeated, tag = "1")]
        pub files: Vec<File>,
    }

    #[derive(prost::Message)]
    pub struct File {
        #[prost(string, tag = "2")]
        pub package: String,
        #[prost(message, repeated, tag = "6")]
        pub services: Vec<Service>,
    }

    #[derive(prost::Message)]
    pub struct Service {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(message, repeated, tag = "2")]
        pub methods: Vec<Method>,
    }

    #[derive(prost::Message)]
    pub struct Method {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(message, optional, tag = "4")]
        pub options: Option<Options>,
        #[prost(bool, tag = "6")]
        pub server_streaming: bool,
    }

    #[derive(prost::Message)]
    pub struct Options {
        /// The option of `options.proto`, under its number there.
        #[prost(string, repeated, tag = "50117")]
        pub required_scope: Vec<String>,
    }
}

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
    /// The bytes are no descriptor set, or a method of ours does not say which scopes it needs.
    pub fn of<'a>(sets: impl IntoIterator<Item = &'a [u8]>) -> Result<Self, Error> {
        let mut by_path = HashMap::new();
        let mut rows = HashMap::new();
        for set in sets {
            let found = Rows::of(set)?.into_iter();
            rows.extend(found.map(|(path, it)| (path, Arc::new(it))));
            for file in descriptor::Set::decode(set)?.files {
                let package = &*file.package;
                for service in file.services {
                    for method in service.methods {
                        let path = format!("/{package}.{}/{}", service.name, method.name);
                        let method = Method {
                            path: path.clone(),
                            name: path.trim_start_matches('/').into(),
                            is_ours: package.starts_with(OURS),
                            streams: method.server_streaming,
                            admits: admits(package, &path, method.options)?,
                        };
                        by_path.insert(path, Arc::new(method));
                    }
                }
            }
        }
        // A path that is not served is the caller's own text, and is kept out of the log.
        let unknown = Arc::new(Method {
            path: "unknown".to_owned(),
            name: "unknown".into(),
            is_ours: true,
            streams: false,
            admits: Admits::Authenticated,
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

    /// Returns our methods with the scopes of which each needs one, in the order of their paths.
    pub fn required_scopes(&self) -> Vec<(&str, Scopes)> {
        let ours = self.by_path.values().filter_map(|it| match it.admits {
            Admits::Holders(scopes) => Some((&*it.path, scopes)),
            Admits::Everybody | Admits::Authenticated => None,
        });
        let mut ours: Vec<_> = ours.collect();
        ours.sort_by_key(|(path, _)| *path);
        ours
    }
}

/// Returns the callers to whom a method is answered.
fn admits(
    package: &str,
    path: &str,
    options: Option<descriptor::Options>,
) -> Result<Admits, Error> {
    if package == HEALTH {
        return Ok(Admits::Everybody);
    }
    if !package.starts_with(OURS) {
        return Ok(Admits::Authenticated);
    }
    let names = options.map(|it| it.required_scope).unwrap_or_default();
    if names.is_empty() {
        return Err(Error::NoScope(path.to_owned()));
    }
    let scopes = names.iter().map(|name| Scope::of_name(name));
    let scopes: Option<Scopes> = scopes.collect();
    let scopes = scopes.ok_or_else(|| Error::UnknownScope(path.to_owned()))?;
    Ok(Admits::Holders(scopes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::DESCRIPTOR_SET;

    #[test]
    fn methods_are_known_by_their_descriptors() {
        let health = tonic_health::pb::FILE_DESCRIPTOR_SET;
        let methods = Methods::of([DESCRIPTOR_SET, health]).expect("descriptors");
        let scopes = |names| Admits::Holders(Scopes::parse(names));
        let ours = "/careinvitation.v1.";
        for (path, streams, admits) in [
            (
                format!("{ours}BookingRequestService/GetBookingRequest"),
                false,
                scopes("booking.read"),
            ),
            (
                format!("{ours}BookingRequestService/RecordBooking"),
                false,
                scopes("booking.write patient.self"),
            ),
            (
                format!("{ours}NotificationService/StreamDueNotifications"),
                true,
                scopes("notification.deliver"),
            ),
            (
                format!("{ours}WorklistService/WatchWorklist"),
                true,
                scopes("worklist.read"),
            ),
            (
                "/careinvitation.sandbox.v1.ClockService/GetTime".to_owned(),
                false,
                scopes("settings.write"),
            ),
            (
                "/grpc.health.v1.Health/Check".to_owned(),
                false,
                Admits::Everybody,
            ),
            (
                "/grpc.health.v1.Health/Watch".to_owned(),
                true,
                Admits::Everybody,
            ),
        ] {
            let expected = Method {
                is_ours: admits != Admits::Everybody,
                streams,
                admits,
                path: path.clone(),
                name: path[1..].into(),
            };
            assert_eq!(*methods.find(&path), expected);
        }
        assert_eq!(methods.find("/198003012385/X").path, "unknown");
        assert!(Methods::of([&[0xff][..]]).is_err());
    }
    /// Returns a set with one method, which needs these scopes.
    fn set_with(package: &str, required_scope: Option<&[&str]>) -> Vec<u8> {
        let options = required_scope.map(|names| descriptor::Options {
            required_scope: names.iter().map(ToString::to_string).collect(),
        });
        let method = descriptor::Method {
            name: "Do".to_owned(),
            options,
            server_streaming: false,
        };
        let service = descriptor::Service {
            name: "S".to_owned(),
            methods: vec![method],
        };
        let file = descriptor::File {
            package: package.to_owned(),
            services: vec![service],
        };
        descriptor::Set { files: vec![file] }.encode_to_vec()
    }

    #[test]
    fn a_method_of_ours_without_a_scope_is_not_served() {
        let ours = "careinvitation.v9";
        for (package, scopes, expected) in [
            (
                ours,
                None,
                Some("/careinvitation.v9.S/Do has no required_scope"),
            ),
            (
                ours,
                Some(&[][..]),
                Some("/careinvitation.v9.S/Do has no required_scope"),
            ),
            (
                ours,
                Some(&["booking.read", "booking.reed"]),
                Some("/careinvitation.v9.S/Do has a required_scope that is not known"),
            ),
            (ours, Some(&["booking.read"]), None),
            ("grpc.reflection.v1", None, None),
        ] {
            let set = set_with(package, scopes);
            let error = Methods::of([&*set]).err().map(|it| it.to_string());
            assert_eq!(error.as_deref(), expected, "{package} {scopes:?}");
        }
    }
}
