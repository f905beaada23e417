//! The descriptors of the services that are served: the source of reflection, of the service names in
//! health, and of the methods that the middleware knows.

use std::sync::Arc;

use prost::Message;
use prost_types::{FileDescriptorProto, FileDescriptorSet};
use tonic_health::pb::FILE_DESCRIPTOR_SET as HEALTH;
use tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET as REFLECTION;
use tonic_reflection::pb::v1::server_reflection_server::ServerReflectionServer;
use tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET as REFLECTION_ALPHA;
use tonic_reflection::pb::v1alpha::server_reflection_server::ServerReflectionServer as ServerReflectionServerAlpha;
use tonic_types::pb::FILE_DESCRIPTOR_SET as ERROR_DETAILS;

use super::middleware::method::{Error, Methods};
use super::reflection::Reflection;
use crate::clock::Clock;
use crate::contract::DESCRIPTOR_SET;

/// Package that is served with a sandbox clock only.
const SANDBOX_PACKAGE: &str = "careinvitation.sandbox.v1";

/// The part of the contract that is served: an encoded `FileDescriptorSet`, comments kept.
#[derive(Clone, Debug)]
pub struct Descriptors {
    encoded: Vec<u8>,
    methods: Arc<Methods>,
}

/// A `FileDescriptorSet` whose files are left as they were written, options and comments included.
#[derive(prost::Message)]
struct Files {
    #[prost(bytes = "vec", repeated, tag = "1")]
    file: Vec<Vec<u8>>,
}

impl Descriptors {
    /// Returns the descriptors of a server with this clock.
    ///
    /// # Errors
    ///
    /// A method of ours does not say which scopes it needs, or names one that there is not: there are no descriptors,
    /// and no service without them.
    pub fn served_with(clock: &Clock) -> Result<Self, Error> {
        Self::of(served(clock))
    }

    fn of(encoded: Vec<u8>) -> Result<Self, Error> {
        let methods = Methods::of([&*encoded, HEALTH, REFLECTION, REFLECTION_ALPHA])?;
        Ok(Self {
            encoded,
            methods: Arc::new(methods),
        })
    }

    /// Returns every method, those of health and reflection included.
    pub fn methods(&self) -> Arc<Methods> {
        self.methods.clone()
    }

    /// Returns the full names of our services.
    pub fn services(&self) -> Vec<String> {
        let set = FileDescriptorSet::decode(&*self.encoded).expect("it was encoded here");
        let named = set.file.iter().flat_map(|file| {
            let services = file.service.iter();
            services.map(|service| format!("{}.{}", file.package(), service.name()))
        });
        named.collect()
    }

    /// Returns the reflection service of version v1, for newer clients.
    pub fn reflection(&self) -> ServerReflectionServer<Reflection> {
        ServerReflectionServer::new(self.described())
    }

    /// Returns the reflection service of version v1alpha, for older clients.
    pub fn reflection_alpha(&self) -> ServerReflectionServerAlpha<Reflection> {
        ServerReflectionServerAlpha::new(self.described())
    }

    /// Returns what describes all that is served, and the messages of error details, so that clients can print them.
    pub fn described(&self) -> Reflection {
        Reflection::of([
            &*self.encoded,
            ERROR_DETAILS,
            HEALTH,
            REFLECTION,
            REFLECTION_ALPHA,
        ])
    }
}

/// Returns the encoded part of the contract that is served with this clock.
fn served(clock: &Clock) -> Vec<u8> {
    let mut files = Files::decode(DESCRIPTOR_SET).expect("build.rs wrote a descriptor set");
    files.file.retain(|file| {
        let file = FileDescriptorProto::decode(&**file).expect("build.rs wrote descriptors");
        clock.is_sandbox() || file.package() != SANDBOX_PACKAGE
    });
    files.encode_to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALWAYS: [&str; 6] = [
        "careinvitation.v1.AuditService",
        "careinvitation.v1.BookingRequestService",
        "careinvitation.v1.CareUnitSettingsService",
        "careinvitation.v1.NotificationService",
        "careinvitation.v1.PatientService",
        "careinvitation.v1.WorklistService",
    ];

    fn descriptors(clock: &Clock) -> Descriptors {
        Descriptors::served_with(clock).expect("every method has its scopes")
    }

    #[test]
    fn the_clock_service_exists_with_a_sandbox_clock_only() {
        let mut services = descriptors(&Clock::real()).services();
        services.sort();
        assert_eq!(services, ALWAYS);
        let start = "2026-03-02T09:00:00Z".parse().expect("a test instant");
        let mut services = descriptors(&Clock::sandbox(start)).services();
        services.sort();
        assert_eq!(services[0], "careinvitation.sandbox.v1.ClockService");
        assert_eq!(services[1..], ALWAYS);
    }

    #[test]
    fn a_contract_with_a_scope_that_there_is_not_is_not_served() {
        let scope = b"settings.write";
        let mut bytes = served(&Clock::real());
        let mut windows = bytes.windows(scope.len());
        let at = windows.rposition(|it| it == scope).expect("a scope");
        bytes[at..at + scope.len()].copy_from_slice(b"settings.wrote");
        let error = Descriptors::of(bytes).expect_err("refused");
        let text = error.to_string();
        assert!(
            text.ends_with("has a required_scope that is not known"),
            "{text}"
        );
    }

    #[test]
    fn comments_are_kept() {
        let bytes = served(&Clock::real());
        let set = FileDescriptorSet::decode(&*bytes).expect("it was encoded here");
        let commented = set
            .file
            .iter()
            .filter(|file| file.package() == "careinvitation.v1");
        for file in commented {
            let info = file.source_code_info.as_ref().expect("comments are kept");
            assert!(info.location.iter().any(|it| it.leading_comments.is_some()));
        }
    }
}
