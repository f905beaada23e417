//! Subjects of client certificates, and their rights: a settings file, which is read again when it changes.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::Instant as Moment;
use tokio_rustls::rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::care_units::{Malformed, Names};
use super::files;
use super::rights::{Rights, is_subject};
use super::scope::{Scope, Scopes};
use crate::domain::calendar::Instant;

/// Longest time for which a certificate is taken to be valid: longer than any connection lasts.
const VALIDITY_SECONDS_MAX: i64 = 366 * 24 * 3_600;

/// A certificate that a client has proved to be its own, and that was trusted.
#[derive(Clone)]
pub struct Certificate {
    /// Subject, if it names one.
    pub subject: Option<String>,
    /// Instant from which it is not valid any more, nor is what the client has done with it before.
    pub expires_at: Moment,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Certificate")
    }
}

impl Certificate {
    /// Reads what a client gave: its certificate and those between it and its CA, which all must be valid. None if there
    /// is nothing that can be read.
    pub fn of(chain: &[CertificateDer<'_>], now: Instant) -> Option<Self> {
        let seconds = end_of(chain)?.saturating_sub(now.timestamp());
        let left = Duration::from_secs(seconds.clamp(0, VALIDITY_SECONDS_MAX).unsigned_abs());
        Some(Self {
            subject: subject(chain.first()?),
            expires_at: Moment::now() + left,
        })
    }
}

/// Returns the end of the first of these certificates that ends, in seconds since 1970. None if there is nothing that can be
/// read.
pub fn end_of(chain: &[CertificateDer<'_>]) -> Option<i64> {
    let ends = chain.iter().map(|it| {
        let (_, certificate) = X509Certificate::from_der(it).ok()?;
        Some(certificate.validity().not_after.timestamp())
    });
    let ends: Option<Vec<i64>> = ends.collect();
    ends?.into_iter().min()
}

/// Returns the subject of a certificate: the first URI among its subject alternative names, or else the
/// first DNS name. None if it has neither, or one that is no subject.
fn subject(certificate: &CertificateDer<'_>) -> Option<String> {
    let certificate = EndEntityCert::try_from(certificate).ok()?;
    let mut names = certificate
        .valid_uri_names()
        .chain(certificate.valid_dns_names());
    let first = names.next()?;
    is_subject(first).then(|| first.to_owned())
}

/// The rights of the subjects of certificates, as of now. Clones are the same.
#[derive(Clone)]
pub struct Clients(watch::Receiver<Listed>);

type Listed = Arc<HashMap<String, Arc<Rights>>>;

impl fmt::Debug for Clients {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Clients")
    }
}

/// Reason for which a settings file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It is not of its form.
    #[error("is not as it must be: {0}")]
    Form(#[from] serde_json::Error),
    /// A subject is named twice, or cannot be one.
    #[error("clients[{0}].subject must be 1 to 255 printable ASCII characters, and named once")]
    Subject(usize),
    /// There is no such scope.
    #[error("clients[{0}].scope must name scopes with spaces between them")]
    Scope(usize),
    /// Something is no care unit.
    #[error(
        "clients[{0}].care_units must name HSA-ids, organisations such as SE2321000131-*, or *"
    )]
    CareUnits(usize),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    clients: Vec<Client>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Client {
    subject: String,
    scope: String,
    #[serde(default)]
    care_units: Option<Names>,
}

impl Clients {
    /// Reads the settings, and again whenever the file changes. Settings that cannot be used are logged, and
    /// those before stay in force.
    ///
    /// # Errors
    ///
    /// The file cannot be used at all.
    pub fn open(path: PathBuf) -> Result<Self, Error> {
        let read = {
            let path = path.clone();
            move || parse(&files::read(&path)?)
        };
        files::keep_read("rights of clients", [path], read).map(Self)
    }

    /// Returns the rights of a subject; none if it has none.
    pub fn rights_of(&self, subject: &str) -> Option<Arc<Rights>> {
        self.0.borrow().get(subject).cloned()
    }

    /// Waits until a subject has other rights than these.
    pub async fn changed(mut self, rights: &Arc<Rights>) {
        let differ = |listed: &Listed| listed.get(&rights.subject) != Some(rights);
        if self.0.wait_for(differ).await.is_err() {
            std::future::pending().await
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Listed, Error> {
    let written: Written = serde_json::from_slice(bytes)?;
    let mut listed = HashMap::new();
    for (place, client) in written.clients.into_iter().enumerate() {
        let subject = client.subject;
        if !is_subject(&subject) || listed.contains_key(&subject) {
            return Err(Error::Subject(place));
        }
        let mut names = client.scope.split_ascii_whitespace();
        if names.any(|name| Scope::of_name(name).is_none()) {
            return Err(Error::Scope(place));
        }
        let units = client.care_units.unwrap_or(Names::Listed(Vec::new()));
        let care_units = units.parse().map_err(|Malformed| Error::CareUnits(place))?;
        let rights = Rights {
            subject: subject.clone(),
            scopes: Scopes::parse(&client.scope),
            care_units,
            patient: None,
        };
        listed.insert(subject, Arc::new(rights));
    }
    Ok(Arc::new(listed))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, Issuer, KeyPair, SanType, date_time_ymd};
    use serde_json::json;

    use super::*;
    use crate::domain::hsa_id::HsaId;

    fn certificate(names: Vec<SanType>) -> CertificateDer<'static> {
        certificate_until(names, 2100)
    }

    fn certificate_until(names: Vec<SanType>, year: i32) -> CertificateDer<'static> {
        let mut parameters = CertificateParams::default();
        parameters.subject_alt_names = names;
        parameters.not_after = date_time_ymd(year, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let issuer = Issuer::from_params(&parameters, &key);
        let signed = parameters.signed_by(&key, &issuer);
        signed.expect("a certificate").der().clone()
    }

    #[test]
    fn the_subject_is_the_first_uri_or_else_the_first_dns_name() {
        let uri = |it: &str| SanType::URI(it.try_into().expect("ASCII"));
        let dns = |it: &str| SanType::DnsName(it.try_into().expect("ASCII"));
        for (names, expected) in [
            (vec![], None),
            (
                vec![dns("inbox.example"), dns("b.example")],
                Some("inbox.example"),
            ),
            (
                vec![dns("inbox.example"), uri("spiffe://region/inbox")],
                Some("spiffe://region/inbox"),
            ),
            (vec![uri("urn:a\nb")], None),
            (vec![SanType::IpAddress([127, 0, 0, 1].into())], None),
        ] {
            assert_eq!(subject(&certificate(names)).as_deref(), expected);
        }
        assert_eq!(subject(&CertificateDer::from(vec![0x30, 0])), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_certificate_ends_with_the_first_of_those_that_lead_to_its_ca() {
        let chain = [2030, 2027, 2040].map(|year| certificate_until(Vec::new(), year));
        for (now, days) in [
            ("2026-12-31T00:00:00Z", 1),
            ("2026-12-01T00:00:00Z", 31),
            ("2027-01-02T00:00:00Z", 0),
            ("2020-01-01T00:00:00Z", 366),
        ] {
            let read = Certificate::of(&chain, now.parse().expect("an instant"));
            let expires_at = read.expect("certificates").expires_at;
            assert_eq!((expires_at - Moment::now()).as_secs(), days * 24 * 3_600);
        }
        let broken = [chain[0].clone(), CertificateDer::from(vec![0x30, 0])];
        let now = "2026-12-31T00:00:00Z".parse().expect("an instant");
        assert!(Certificate::of(&broken, now).is_none());
        assert!(Certificate::of(&[], now).is_none());
    }

    #[test]
    fn a_subject_has_the_rights_that_are_written_for_it() {
        let written = json!({"clients": [
            {"subject": "inbox.example", "scope": "notification.deliver", "care_units": "*"},
            {"subject": "portal", "scope": "booking.read actor", "care_units": ["SE2321000131-*"]},
            {"subject": "probe", "scope": ""},
        ]});
        let listed = parse(written.to_string().as_bytes()).expect("good settings");
        let unit = HsaId::parse("SE2321000131-P1").expect("an HSA-id");
        for (subject, scope, seen) in [
            ("inbox.example", Some(Scope::NotificationDeliver), true),
            ("portal", Some(Scope::Actor), true),
            ("probe", None, false),
        ] {
            let rights = &listed[subject];
            let has_any = Scope::ALL.iter().any(|it| rights.scopes.contains(*it));
            assert_eq!(scope.is_some(), has_any, "{subject}");
            assert!(scope.is_none_or(|it| rights.scopes.contains(it)));
            assert_eq!(rights.care_units.contains(&unit), seen, "{subject}");
        }
    }

    #[test]
    fn settings_of_another_form_are_refused() {
        let client = |name: &str, value| {
            let mut client = json!({"subject": "a", "scope": "actor", "care_units": "*"});
            client[name] = value;
            client
        };
        for (written, expected) in [
            (json!({}), "is not as"),
            (
                json!({"clients": [client("scopes", json!("actor"))]}),
                "is not as",
            ),
            (
                json!({"clients": [client("subject", json!(""))]}),
                "clients[0].subject",
            ),
            (
                json!({"clients": [client("scope", json!("booking.reed"))]}),
                "clients[0].scope",
            ),
            (
                json!({"clients": [client("care_units", json!(["SE*"]))]}),
                "clients[0].care_units",
            ),
            (
                json!({"clients": [client("care_units", json!(7))]}),
                "is not as",
            ),
            (
                json!({"clients": [client("scope", json!("")), client("scope", json!(""))]}),
                "clients[1].subject",
            ),
        ] {
            let error = parse(written.to_string().as_bytes()).expect_err("bad settings");
            let text = error.to_string();
            assert!(text.starts_with(expected), "{text} of {written}");
        }
    }
}
