//! A GET over HTTPS, for the keys of an issuer: one connection, no redirects, a limit on time and bytes.
//! A client such as reqwest follows redirects, pools connections and asks the environment for proxies.

use std::error::Error as StdError;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, HOST, USER_AGENT};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_util::task::AbortOnDropHandle;

use super::files;

/// Longest time for a fetch, from the name of the host to the last byte.
const FETCH_TIME_MAX: Duration = Duration::from_secs(5);
/// Maximum bytes that are fetched.
const FETCHED_BYTES_MAX: usize = 256 * 1_024;
/// Port of HTTPS.
const HTTPS: u16 = 443;

/// Reason for which nothing was fetched.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The host did not answer in time.
    #[error("not fetched within {} seconds", FETCH_TIME_MAX.as_secs())]
    TimedOut,
    /// The connection could not be made, or the certificate is not trusted.
    #[error("no connection: {0}")]
    Connection(io::Error),
    /// The host did not answer in HTTP.
    #[error("no answer: {0}")]
    Http(#[from] hyper::Error),
    /// The answer is another one than 200.
    #[error("the answer is {0}")]
    Status(StatusCode),
    /// The body did not come whole, or was larger than allowed.
    #[error("no body of {FETCHED_BYTES_MAX} bytes or less: {0}")]
    Body(Box<dyn StdError + Send + Sync>),
}

/// A page to fetch, and the CAs that its host is trusted by.
#[derive(Clone)]
pub struct Page {
    url: Uri,
    host: String,
    name: ServerName<'static>,
    tls: TlsConnector,
}

impl Page {
    /// Makes a page of an https URL. The host is trusted by the CAs in a PEM file, or by those of the system.
    ///
    /// # Errors
    ///
    /// The URL has no host, or there are no such CAs.
    pub fn new(url: Uri, ca: Option<&Path>) -> io::Result<Self> {
        let host = url.host().unwrap_or_default();
        let host = host.trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(host.clone());
        let name = name.map_err(|_| io::Error::other("the URL has no host"))?;
        let roots = match ca {
            Some(path) => roots_of(path)?,
            None => system_roots()?,
        };
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("ring has the cipher suites of these versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            url,
            host,
            name,
            tls: TlsConnector::from(Arc::new(config)),
        })
    }

    /// Fetches the page.
    ///
    /// # Errors
    ///
    /// It is not there whole in time.
    pub async fn fetch(&self) -> Result<Bytes, Error> {
        let fetched = timeout(FETCH_TIME_MAX, self.get()).await;
        fetched.unwrap_or(Err(Error::TimedOut))
    }

    async fn get(&self) -> Result<Bytes, Error> {
        let address = (self.host.as_str(), self.url.port_u16().unwrap_or(HTTPS));
        let stream = TcpStream::connect(address).await;
        let stream = stream.map_err(Error::Connection)?;
        let stream = self.tls.connect(self.name.clone(), stream).await;
        let stream = TokioIo::new(stream.map_err(Error::Connection)?);
        let (mut requests, connection) = http1::handshake(stream).await?;
        let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
        let path = self.url.path_and_query().map_or("/", |it| it.as_str());
        let authority = self.url.authority().map_or("", |it| it.as_str());
        let request = Request::get(path)
            .header(HOST, authority)
            .header(ACCEPT, "application/json")
            .header(USER_AGENT, "care-invitation")
            .body(Empty::<Bytes>::new())
            .expect("a URL has a path and an authority");
        let response = requests.send_request(request).await?;
        if response.status() != StatusCode::OK {
            return Err(Error::Status(response.status()));
        }
        let body = Limited::new(response.into_body(), FETCHED_BYTES_MAX);
        let whole = body.collect().await.map_err(Error::Body)?;
        Ok(whole.to_bytes())
    }
}

/// Returns the CAs in a PEM file.
fn roots_of(path: &Path) -> io::Result<RootCertStore> {
    let bytes = files::read(path)?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        let certificate = certificate.map_err(io::Error::other)?;
        roots.add(certificate).map_err(io::Error::other)?;
    }
    match roots.is_empty() {
        true => Err(io::Error::other("holds no certificate")),
        false => Ok(roots),
    }
}

/// Returns the CAs of the system.
fn system_roots() -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    match roots.is_empty() {
        true => Err(io::Error::other("the system has no CAs to trust")),
        false => Ok(roots),
    }
}
