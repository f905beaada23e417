//! The connection to a server: TLS, the token of each call, time limits.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status};

use super::failure::{Failure, root};
use crate::config::client::Server;

/// Time that a connection may take.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Time that a call may take.
const CALL_MAX: Duration = Duration::from_secs(60);

/// A connection that sends the caller's token with each call.
pub type Connection = InterceptedService<Channel, Bearer>;

/// The caller's token; none when there is none.
#[derive(Clone)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            let metadata = request.metadata_mut();
            metadata.insert("authorization", token.clone());
        }
        Ok(request)
    }
}

/// Connects to a server.
///
/// # Errors
///
/// A file cannot be used, or the server cannot be reached.
pub async fn connect(server: &Server) -> Result<Connection, Failure> {
    let bearer = Bearer(server.token_file.as_deref().map(token).transpose()?);
    let endpoint = Endpoint::from(server.uri.clone());
    let mut endpoint = endpoint.connect_timeout(CONNECT_MAX).timeout(CALL_MAX);
    if server.uri.scheme_str() == Some("https") {
        let configured = endpoint.tls_config(tls(server)?);
        endpoint = configured.map_err(|error| Failure::Input(root(&error)))?;
    }
    let channel = endpoint.connect().await;
    let unreachable =
        |error| Failure::Unreachable(format!("{}: {}", server.uri, why_unreachable(&error)));
    let channel = channel.map_err(unreachable)?;
    Ok(InterceptedService::new(channel, bearer))
}

/// Returns the last cause for which there is no connection; of a certificate that is not trusted in words for those who made
/// it. The library of TLS is known here by its texts alone.
fn why_unreachable(error: &(dyn Error + 'static)) -> String {
    let cause = root(error);
    match cause.strip_prefix("invalid peer certificate: ") {
        Some(why) if why.contains("CaUsedAsEndEntity") => {
            "the server shows the certificate of a CA: it needs one with CA:FALSE".to_owned()
        }
        // The latter is of another CA with the name of one that is trusted.
        Some(why) if why.contains("UnknownIssuer") || why.contains("BadSignature") => {
            "the server shows a certificate of a CA that --tls-ca does not name".to_owned()
        }
        _ => cause,
    }
}

/// Reads a token, and never quotes it.
fn token(path: &Path) -> Result<MetadataValue<Ascii>, Failure> {
    let bytes = read(path)?;
    let text = String::from_utf8(bytes).ok();
    let value = text.and_then(|it| format!("Bearer {}", it.trim()).parse().ok());
    let mut value: MetadataValue<Ascii> = value.ok_or_else(|| Failure::File {
        path: path.to_owned(),
        why: "it holds no token".to_owned(),
    })?;
    value.set_sensitive(true);
    Ok(value)
}

fn tls(server: &Server) -> Result<ClientTlsConfig, Failure> {
    let mut tls = ClientTlsConfig::new();
    tls = match &server.ca {
        Some(ca) => tls.ca_certificate(Certificate::from_pem(read(ca)?)),
        None => tls.with_native_roots(),
    };
    if let Some(name) = &server.name {
        tls = tls.domain_name(name);
    }
    if let Some((certificate, key)) = &server.pair {
        tls = tls.identity(Identity::from_pem(read(certificate)?, read(key)?));
    }
    Ok(tls)
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| Failure::File {
        path: path.to_owned(),
        why: error.to_string(),
    })
}
