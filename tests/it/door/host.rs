//! CAs, certificates, and a host that publishes keys over HTTPS.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use care_invitation::auth::fetch::Page;
use care_invitation::auth::keys::Source;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType,
    date_time_ymd,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_util::task::AbortOnDropHandle;

/// A CA of a test's own.
pub struct Ca(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

impl Ca {
    pub fn new() -> Self {
        let mut parameters = CertificateParams::default();
        // Another name than those of what it issues: OpenSSL takes a certificate for its own issuer by that.
        let name = &mut parameters.distinguished_name;
        name.push(DnType::CommonName, "a CA of a test");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(parameters, key).expect("a CA"))
    }

    /// Its certificate, in PEM.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// The certificate of a CA for this machine, and its key: one that no server may show.
    pub fn of_itself() -> Pair {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.subject_alt_names = local_names();
        let key = KeyPair::generate().expect("a key");
        let signed = parameters.self_signed(&key).expect("a certificate");
        Pair {
            certificate: signed.pem(),
            key: key.serialize_pem(),
        }
    }

    /// A certificate for these names.
    pub fn issue(&self, names: Vec<SanType>) -> Pair {
        self.issue_by(CertificateParams::default(), names)
    }

    /// A certificate for these names that is valid until a number of seconds since 1970.
    pub fn issue_until(&self, names: Vec<SanType>, seconds: i64) -> Pair {
        let mut parameters = CertificateParams::default();
        let seconds = Duration::from_secs(seconds.unsigned_abs());
        parameters.not_after = date_time_ymd(1970, 1, 1) + seconds;
        self.issue_by(parameters, names)
    }

    fn issue_by(&self, mut parameters: CertificateParams, names: Vec<SanType>) -> Pair {
        parameters.subject_alt_names = names;
        let key = KeyPair::generate().expect("a key");
        let signed = parameters.signed_by(&key, &self.0).expect("a certificate");
        Pair {
            certificate: signed.pem(),
            key: key.serialize_pem(),
        }
    }

    /// A certificate for this machine.
    pub fn local(&self) -> Pair {
        self.issue(local_names())
    }
}

/// The names of this machine.
pub fn local_names() -> Vec<SanType> {
    let address = SanType::IpAddress([127, 0, 0, 1].into());
    vec![dns("localhost"), address]
}

pub fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().expect("ASCII"))
}

pub fn uri(name: &str) -> SanType {
    SanType::URI(name.try_into().expect("ASCII"))
}

impl Pair {
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        let found = CertificateDer::pem_slice_iter(self.certificate.as_bytes());
        found.collect::<Result<_, _>>().expect("PEM")
    }

    pub fn private(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("PEM")
    }
}

/// What a host answers.
#[derive(Clone)]
pub enum Answer {
    Keys(Vec<u8>),
    Status(u16),
    Redirect(String),
    Nothing,
}

/// A host that publishes keys.
pub struct Host {
    pub url: String,
    folder: TempDir,
    answer: Arc<Mutex<Answer>>,
    asked: Arc<AtomicUsize>,
    _serving: AbortOnDropHandle<()>,
}

impl Host {
    pub async fn start(answer: Answer) -> Self {
        let ca = Ca::new();
        let folder = TempDir::new().expect("a folder");
        std::fs::write(folder.path().join("ca.pem"), ca.pem()).expect("written");
        let pair = ca.local();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(pair.chain(), pair.private())
            .expect("a pair");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("https://{}/keys", listener.local_addr().expect("bound"));
        let (answer, asked) = (Arc::new(Mutex::new(answer)), Arc::new(AtomicUsize::new(0)));
        let (said, counted) = (answer.clone(), asked.clone());
        let serving = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("accepted");
                let (acceptor, said, counted) = (acceptor.clone(), said.clone(), counted.clone());
                tokio::spawn(async move {
                    let mut stream = acceptor.accept(stream).await?;
                    let mut request = vec![0; 4_096];
                    let read = stream.read(&mut request).await?;
                    assert!(request[..read].starts_with(b"GET /keys HTTP/1.1\r\n"));
                    counted.fetch_add(1, Ordering::SeqCst);
                    let answer = said.lock().expect("no panic").clone();
                    let (head, body) = match answer {
                        Answer::Keys(body) => ("200 OK".to_owned(), body),
                        Answer::Status(code) => (format!("{code} No"), Vec::new()),
                        Answer::Redirect(to) => {
                            (format!("302 Found\r\nLocation: {to}"), Vec::new())
                        }
                        Answer::Nothing => std::future::pending().await,
                    };
                    let head = format!("HTTP/1.1 {head}\r\nContent-Length: {}\r\n\r\n", body.len());
                    stream.write_all(head.as_bytes()).await?;
                    stream.write_all(&body).await?;
                    stream.shutdown().await
                });
            }
        });
        Self {
            url,
            folder,
            answer,
            asked,
            _serving: AbortOnDropHandle::new(serving),
        }
    }

    /// Says something else from now on.
    pub fn answer(&self, answer: Answer) {
        *self.answer.lock().expect("no panic") = answer;
    }

    /// How often it was asked.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// The host as a source of keys, trusted by its own CA.
    pub fn source(&self) -> Source {
        let url = self.url.parse().expect("a URL");
        let ca = self.folder.path().join("ca.pem");
        Source::Page(Box::new(Page::new(url, Some(&ca)).expect("a page")))
    }

    /// The same, trusted by another CA.
    pub fn distrusted(&self) -> Source {
        let url = self.url.parse().expect("a URL");
        let ca = self.folder.path().join("other.pem");
        std::fs::write(&ca, Ca::new().pem()).expect("written");
        Source::Page(Box::new(Page::new(url, Some(&ca)).expect("a page")))
    }
}
