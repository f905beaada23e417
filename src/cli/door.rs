//! TLS and authentication, from their settings to the parts that do them.

use std::error::Error;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::interval;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use crate::auth::Authenticator;
use crate::auth::certificate::Clients;
use crate::auth::fetch::Page;
use crate::auth::keys::{Keys, Source};
use crate::auth::token::Tokens;
use crate::clock::Clock;
use crate::config::door::{self, Authentication, Door};
use crate::config::{self, BadSetting};
use crate::server::tls::{Protocols, Tls, TlsFiles};

/// Time between two warnings that the service is open to others.
const WARNING_INTERVAL: Duration = Duration::from_secs(3_600);

/// Makes what the settings ask for.
///
/// # Errors
///
/// Files that cannot be used, all of them named.
pub async fn open(
    door: &Door,
    clock: &Clock,
) -> Result<(Authenticator, Option<Tls>), config::Error> {
    let mut bad = Vec::new();
    let tls = door.tls.clone().map(|files| {
        let files = TlsFiles {
            certificate: files.certificate,
            key: files.key,
            client_ca: files.client_ca,
        };
        let protocols = match door.web_origins.is_empty() {
            true => Protocols::Http2,
            false => Protocols::Web,
        };
        Tls::open(files, protocols)
    });
    let tls = tls.transpose().unwrap_or_else(|error| {
        let flag = error.file.flag();
        let why = error.why;
        bad.push(BadSetting { flag, why });
        None
    });
    let authenticator = authenticator(&door.authentication, clock).await;
    match authenticator {
        Ok(authenticator) if bad.is_empty() => Ok((authenticator, tls)),
        Ok(_) => Err(config::Error::Settings(bad)),
        Err(fault) => {
            bad.push(fault);
            Err(config::Error::Settings(bad))
        }
    }
}

async fn authenticator(
    settings: &Authentication,
    clock: &Clock,
) -> Result<Authenticator, BadSetting> {
    match settings {
        Authentication::Open => Ok(Authenticator::open()),
        Authentication::Tokens {
            issuer,
            audience,
            keys,
        } => {
            let source = match keys {
                door::Keys::File(path) => Source::File(path.clone()),
                door::Keys::Page(url, ca) => {
                    let flag = if ca.is_some() {
                        "auth-jwks-ca"
                    } else {
                        "auth-jwks"
                    };
                    let page = Page::new(url.clone(), ca.as_deref());
                    Source::Page(Box::new(page.map_err(|error| bad(flag, &error))?))
                }
            };
            let keys = Keys::open(source).await;
            let keys = keys.map_err(|error| bad("auth-jwks", &error))?;
            info!(issuer, audience, "calls are authenticated by tokens");
            let tokens = Tokens::new(issuer.clone(), audience.clone(), keys, clock.clone());
            Ok(Authenticator::by_tokens(tokens))
        }
        Authentication::Certificates(path) => {
            let clients = Clients::open(path.clone());
            let clients = clients.map_err(|error| bad("auth-clients", &error))?;
            info!("calls are authenticated by the certificates of clients");
            Ok(Authenticator::by_certificates(clients))
        }
    }
}

fn bad(flag: &'static str, error: &dyn Error) -> BadSetting {
    let why = error.to_string();
    BadSetting { flag, why }
}

/// Warns now and every hour, until it is dropped, that others can reach the service.
pub fn warn_hourly(address: SocketAddr) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        let mut hours = interval(WARNING_INTERVAL);
        loop {
            hours.tick().await;
            warn!(%address, "INSECURE: others reach this service without TLS or authentication");
        }
    }))
}
