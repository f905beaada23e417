//! TLS of the listener: 1.2 and 1.3, HTTP/2 alone unless web pages call, and certificates of clients where they are asked for.
//! Its files are read again when they change. Open connections go on, but those whose certificate the CAs of clients
//! do not vouch for any more.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;
use tracing::warn;

use crate::auth::certificate::end_of;
use crate::auth::files;
use crate::domain::calendar::Instant;

/// Protocols that are agreed on within TLS, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocols {
    /// HTTP/2 alone.
    Http2,
    /// HTTP/1.1 too, for web pages behind a proxy that speaks no other.
    Web,
}

impl Protocols {
    /// Returns their names in the handshake.
    fn names(self) -> Vec<Vec<u8>> {
        match self {
            Self::Http2 => vec![b"h2".to_vec()],
            Self::Web => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        }
    }
}

/// PEM files of the server.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// Certificate of the server, and those between it and its CA.
    pub certificate: PathBuf,
    /// Private key of the certificate.
    pub key: PathBuf,
    /// CAs that issue the certificates of clients; none if clients need no certificate.
    pub client_ca: Option<PathBuf>,
}

/// File that is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum File {
    /// The certificate of the server.
    Certificate,
    /// Its private key.
    Key,
    /// The CAs of clients.
    ClientCa,
}

impl File {
    /// Returns the flag that names the file.
    pub fn flag(self) -> &'static str {
        match self {
            Self::Certificate => "tls-cert",
            Self::Key => "tls-key",
            Self::ClientCa => "tls-client-ca",
        }
    }
}

/// Fault of one of the files.
#[derive(Debug, thiserror::Error)]
#[error("--{} {why}", file.flag())]
pub struct Error {
    /// File that is at fault.
    pub file: File,
    /// Description of the fault, without anything of the key.
    pub why: String,
}

/// TLS of the listener, as of now. Clones are the same.
#[derive(Clone, Debug)]
pub struct Tls(watch::Receiver<Read>);

/// Content of the files.
#[derive(Clone, Debug)]
struct Read {
    config: Arc<ServerConfig>,
    /// End of the server's certificate or of one beside it, in seconds since 1970; none when it cannot be read.
    end: Option<i64>,
    /// Verifier of the certificates of clients; none if they need none.
    clients: Option<Arc<dyn ClientCertVerifier>>,
}

impl Read {
    /// Returns true if this chain of a client would be trusted in a handshake.
    fn trusts(&self, chain: &[CertificateDer<'_>]) -> bool {
        let (Some(clients), Some((own, between))) = (&self.clients, chain.split_first()) else {
            return true;
        };
        let verified = clients.verify_client_cert(own, between, UnixTime::now());
        verified.is_ok()
    }
}

impl Tls {
    /// Reads the files, and again whenever one of them changes. Files that cannot be used are logged, and
    /// those before stay in force.
    ///
    /// # Errors
    ///
    /// One of them cannot be used.
    pub fn open(names: TlsFiles, protocols: Protocols) -> Result<Self, Error> {
        let TlsFiles {
            certificate,
            key,
            client_ca,
        } = names.clone();
        let paths = [certificate, key].into_iter().chain(client_ca);
        let read = move || read(&names, protocols);
        files::keep_read("files of TLS", paths, read).map(Self)
    }

    /// Does the handshake of a connection.
    ///
    /// # Errors
    ///
    /// The peer does not speak TLS, or gives no certificate that is trusted where one is asked for.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let config = self.0.borrow().config.clone();
        TlsAcceptor::from(config).accept(stream).await
    }

    /// Returns the end of the server's certificate, or of one beside it that ends before, in seconds since 1970. None when it
    /// cannot be read.
    pub fn certificate_end(&self) -> Option<i64> {
        self.0.borrow().end
    }

    /// Waits until the certificates that a client gave are not trusted any more.
    pub async fn distrusts(mut self, chain: Vec<CertificateDer<'static>>) {
        if self.0.wait_for(|read| !read.trusts(&chain)).await.is_err() {
            std::future::pending().await
        }
    }
}

/// Returns for how long the server's certificate and those beside it are valid; zero when one is not any more. None when
/// they cannot be read.
pub fn valid_for(names: &TlsFiles, now: Instant) -> Option<Duration> {
    let chain = certificates(&names.certificate, File::Certificate).ok()?;
    let seconds = end_of(&chain)?.saturating_sub(now.timestamp());
    Some(Duration::from_secs(seconds.max(0).unsigned_abs()))
}

fn read(names: &TlsFiles, protocols: Protocols) -> Result<Read, Error> {
    let certificates = certificates(&names.certificate, File::Certificate)?;
    let end = end_of(&certificates);
    let key = PrivateKeyDer::from_pem_slice(&bytes(&names.key, File::Key)?);
    let key = key.map_err(|error| fault(File::Key, &pem_text(&error)))?;
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13, &TLS12])
        .expect("ring has the cipher suites of these versions");
    let clients = names.client_ca.as_deref().map(|path| {
        let roots = Arc::new(roots(path)?);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
        verifier.map_err(|error| fault(File::ClientCa, &error))
    });
    let clients = clients.transpose()?;
    let builder = match clients.clone() {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(verifier),
    };
    let config = builder.with_single_cert(certificates, key);
    let mut config = config.map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            fault(File::Key, &"is not the key of the certificate")
        }
        rustls::Error::InvalidCertificate(_) => fault(File::Certificate, &error),
        error => fault(File::Key, &error),
    })?;
    config.alpn_protocols = protocols.names();
    let config = Arc::new(config);
    if end.is_some_and(|end| end.saturating_sub_unsigned(UnixTime::now().as_secs()) <= 0) {
        warn!(
            "the server's certificate is not valid any more: clients refuse it until its file is replaced"
        );
    }
    Ok(Read {
        config,
        end,
        clients,
    })
}

fn roots(path: &Path) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path, File::ClientCa)? {
        let added = roots.add(certificate);
        added.map_err(|error| fault(File::ClientCa, &error))?;
    }
    Ok(roots)
}

fn certificates(path: &Path, file: File) -> Result<Vec<CertificateDer<'static>>, Error> {
    let bytes = bytes(path, file)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
    let found = found.map_err(|error| fault(file, &pem_text(&error)))?;
    match found.is_empty() {
        true => Err(fault(file, &"holds no certificate in PEM")),
        false => Ok(found),
    }
}

fn bytes(path: &Path, file: File) -> Result<Vec<u8>, Error> {
    let read = files::read(path);
    read.map_err(|error| fault(file, &format!("cannot be read: {error}")))
}

fn fault(file: File, why: &dyn std::fmt::Display) -> Error {
    let why = why.to_string();
    Error { file, why }
}

/// Returns a description of a fault in a PEM file. Those of the library quote the file.
fn pem_text(error: &pem::Error) -> &'static str {
    match error {
        pem::Error::NoItemsFound => "holds nothing of this kind in PEM",
        _ => "is not PEM",
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{CertifiedKey, generate_simple_self_signed};
    use tempfile::TempDir;

    use super::*;

    fn pair() -> (String, String) {
        let made = generate_simple_self_signed(vec!["localhost".to_owned()]);
        let CertifiedKey { cert, signing_key } = made.expect("a certificate");
        (cert.pem(), signing_key.serialize_pem())
    }

    #[test]
    fn files_that_cannot_be_used_are_named_and_nothing_of_the_key_is_quoted() {
        let folder = TempDir::new().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let ((certificate, key), (_, other)) = (pair(), pair());
        let torn = key.replace("-----END", "");
        for (name, content) in [
            ("certificate", certificate.as_str()),
            ("key", &key),
            ("other", &other),
            ("torn", &torn),
            ("empty", ""),
        ] {
            fs::write(path(name), content).expect("written");
        }
        let read = |certificate: &str, key: &str, ca: Option<&str>| {
            let files = TlsFiles {
                certificate: path(certificate),
                key: path(key),
                client_ca: ca.map(path),
            };
            read(&files, Protocols::Http2)
        };
        assert!(read("certificate", "key", None).is_ok());
        assert!(read("certificate", "key", Some("certificate")).is_ok());
        for (certificate, key, ca, at_fault) in [
            ("missing", "key", None, File::Certificate),
            ("empty", "key", None, File::Certificate),
            ("key", "key", None, File::Certificate),
            ("certificate", "missing", None, File::Key),
            ("certificate", "certificate", None, File::Key),
            ("certificate", "torn", None, File::Key),
            ("certificate", "other", None, File::Key),
            ("certificate", "key", Some("empty"), File::ClientCa),
        ] {
            let error = read(certificate, key, ca).expect_err("not good");
            assert_eq!(error.file, at_fault, "{certificate} {key} {ca:?}: {error}");
            let secret = &torn[60..90];
            assert!(!error.to_string().contains(secret) && !format!("{error:?}").contains(secret));
        }
    }
}
