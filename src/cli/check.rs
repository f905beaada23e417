//! The check of what the service would start with: files, database, clock. It changes nothing, and says what to do.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use tokio::net::TcpListener;

use super::door;
use crate::client::print::{Tone, print_json, print_table, table, toned};
use crate::clock::Clock;
use crate::config::client::Output;
use crate::config::door::Door;
use crate::config::{self, Serve, unknown_variables};
use crate::server::tls::{TlsFiles, valid_for};
use crate::store::check::{Looked, look, may_be_created};
use crate::store::error::OpenError;
use crate::store::skew::CLOCK_SKEW_MAX;
use crate::telemetry::traces;

/// Days before the end of a certificate from which it is to be replaced.
const CERTIFICATE_DAYS_LEFT: u64 = 30;

/// Something would keep the service from working.
#[derive(Debug, thiserror::Error)]
#[error("{0} of what the service needs cannot be used; what to do stands above")]
pub struct Faulty(usize);

/// A fact that was found.
#[derive(Debug, Serialize)]
struct Finding {
    what: &'static str,
    verdict: Verdict,
    text: String,
}

/// Meaning of a finding for a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// It is as it should be.
    Good,
    /// The service works, and somebody should look.
    Look,
    /// The service would not start, or would not work.
    Bad,
}

/// Checks what the service would start with, and prints each finding.
///
/// # Errors
///
/// [`Faulty`]; or the findings cannot be printed.
pub async fn check(
    url: &str,
    settings: &Serve,
    output: Output,
    clock: &Clock,
) -> Result<(), Box<dyn Error>> {
    let mut findings = vec![of_settings(settings)];
    findings.extend(of_variables());
    findings.extend(addresses(settings.listen, settings.metrics_listen).await);
    findings.extend(guarded(&settings.door, clock).await);
    findings.extend(database(url, settings, clock).await);
    findings.extend(collector(settings).await);
    print(output, &findings)?;
    let bad = findings.iter().filter(|it| it.verdict == Verdict::Bad);
    match bad.count() {
        0 => Ok(()),
        count => Err(Faulty(count).into()),
    }
}

fn print(output: Output, findings: &[Finding]) -> io::Result<()> {
    if output.json {
        return findings.iter().try_for_each(print_json);
    }
    let mut rows = table(output, &[]);
    for finding in findings {
        let (word, tone) = match finding.verdict {
            Verdict::Good => ("good", Tone::Good),
            Verdict::Look => ("look", Tone::Warning),
            Verdict::Bad => ("BAD", Tone::Warning),
        };
        rows.add_row([
            toned(word.to_owned(), tone),
            toned(finding.what.to_owned(), Tone::Plain),
            toned(finding.text.clone(), Tone::Plain),
        ]);
    }
    print_table(&mut rows)
}

fn finding(what: &'static str, verdict: Verdict, text: impl Into<String>) -> Finding {
    let text = text.into();
    Finding {
        what,
        verdict,
        text,
    }
}

/// Returns what is found about the values of settings, which were read before.
fn of_settings(settings: &Serve) -> Finding {
    match settings.sandbox {
        Some(_) => finding(
            "settings",
            Verdict::Look,
            "can be used, with a sandbox clock: never for patients",
        ),
        None => finding("settings", Verdict::Good, "can be used"),
    }
}

/// Returns what is found about variables that no setting has, if there are any.
fn of_variables() -> Option<Finding> {
    let unknown = Vec::from_iter(unknown_variables()).join(", ");
    (!unknown.is_empty()).then(|| {
        let text =
            format!("no setting has this name: {unknown}. `care-invitation --help` has them all");
        finding("variables", Verdict::Look, text)
    })
}

/// Returns what is found about the addresses to listen on. The first is held until the second is bound, as the service
/// holds it.
async fn addresses(listen: SocketAddr, metrics_listen: Option<SocketAddr>) -> Vec<Finding> {
    let held = TcpListener::bind(listen).await;
    let mut findings = vec![address("address", "--listen", listen, &held)];
    let Some(at) = metrics_listen else {
        return findings;
    };
    let bound = TcpListener::bind(at).await;
    let was_free = held.is_ok();
    drop(held);
    let is_in_use = matches!(&bound, Err(error) if error.kind() == ErrorKind::AddrInUse);
    // In use, and free without the first: the first has it.
    let is_of_both = is_in_use && (at == listen || was_free && TcpListener::bind(at).await.is_ok());
    findings.push(match is_of_both {
        true => finding(
            "metrics",
            Verdict::Bad,
            format!(
                "cannot listen on {at}: --listen {listen} has it. Choose another --metrics-listen"
            ),
        ),
        false => address("metrics", "--metrics-listen", at, &bound),
    });
    findings
}

/// Returns what is found about an address to listen on, which a flag names, by an attempt to listen there.
fn address(
    what: &'static str,
    flag: &str,
    at: SocketAddr,
    bound: &io::Result<TcpListener>,
) -> Finding {
    match bound {
        Ok(_) => finding(what, Verdict::Good, format!("{at} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => finding(
            what,
            Verdict::Look,
            format!(
                "{at} is in use: by the service, if it runs, which `care-invitation health` asks"
            ),
        ),
        Err(error) => finding(
            what,
            Verdict::Bad,
            format!("cannot listen on {at}: {error}. Choose another {flag}"),
        ),
    }
}

/// Returns what is found about TLS and authentication.
async fn guarded(settings: &Door, clock: &Clock) -> Vec<Finding> {
    let mut findings = Vec::new();
    match door::open(settings, clock).await {
        Ok((authenticator, _)) if !authenticator.has_keys() => {
            let why = authenticator.keys_failure().unwrap_or_default();
            let text = format!("--auth-jwks {why}. Until there are keys every call is refused");
            findings.push(finding("access", Verdict::Bad, text));
        }
        Ok(_) if settings.is_insecure => findings.push(finding(
            "access",
            Verdict::Look,
            "others reach the service without TLS or authentication, as --insecure allows",
        )),
        Ok(_) => findings.push(finding(
            "access",
            Verdict::Good,
            "files and keys can be used",
        )),
        Err(config::Error::Settings(bad)) => {
            let bad = bad
                .iter()
                .map(|it| finding("access", Verdict::Bad, it.to_string()));
            findings.extend(bad);
        }
        Err(config::Error::Usage(error)) => {
            findings.push(finding("access", Verdict::Bad, error.to_string()));
        }
    }
    let left = settings.tls.as_ref().and_then(|tls| {
        let names = TlsFiles {
            certificate: tls.certificate.clone(),
            key: tls.key.clone(),
            client_ca: None,
        };
        valid_for(&names, clock.machine_now())
    });
    findings.extend(left.map(certificate));
    findings
}

fn certificate(left: Duration) -> Finding {
    let days = left.as_secs() / (24 * 3_600);
    let (verdict, text) = match days {
        _ if left.is_zero() => (
            Verdict::Bad,
            "the server's certificate is not valid any more: replace the file of --tls-cert, which is read again by itself"
                .to_owned(),
        ),
        days if days < CERTIFICATE_DAYS_LEFT => (
            Verdict::Look,
            format!("the server's certificate ends in {days} days: replace it"),
        ),
        days => (Verdict::Good, format!("is valid for {days} days")),
    };
    finding("certificate", verdict, text)
}

/// Returns what is found about the database, and about its clock.
async fn database(url: &str, settings: &Serve, clock: &Clock) -> Vec<Finding> {
    match look(url, || clock.machine_now()).await {
        Ok(found) => of_database(found, settings),
        Err(OpenError::NoFile(path)) => vec![no_file(&path)],
        Err(OpenError::Locked(path)) => vec![finding(
            "database",
            Verdict::Look,
            format!(
                "{path} is in use: by the service, if it runs, which `care-invitation health` asks"
            ),
        )],
        Err(error @ OpenError::Damaged(..)) => vec![finding(
            "database",
            Verdict::Bad,
            format!("{error}\nPut a backup in its place with `care-invitation restore`"),
        )],
        Err(error) => vec![finding("database", Verdict::Bad, with_cause(&error))],
    }
}

/// Returns the text of an error of the database with that of its cause.
fn with_cause(error: &OpenError) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// Returns what is found about a file that is not there yet.
fn no_file(path: &str) -> Finding {
    match may_be_created(Path::new(path)) {
        Ok(()) => finding(
            "database",
            Verdict::Look,
            format!("there is no file {path} yet: the service creates it at its start"),
        ),
        Err(error) => finding(
            "database",
            Verdict::Bad,
            format!(
                "cannot create {path}: {error}. Make its folder, and let the user of the service write there"
            ),
        ),
    }
}

/// Returns what is found about the collector of traces, if there is to be one. The service works without it.
async fn collector(settings: &Serve) -> Option<Finding> {
    let traces = settings.traces.as_ref()?;
    Some(match traces::reach(traces).await {
        Ok(()) => finding(
            "traces",
            Verdict::Good,
            format!("{} can be reached", traces.endpoint),
        ),
        Err(why) => finding(
            "traces",
            Verdict::Look,
            format!(
                "{} cannot be reached: {why}. Spans are lost until it can be; calls are served all the same",
                traces.endpoint
            ),
        ),
    })
}

fn of_database(found: Looked, settings: &Serve) -> Vec<Finding> {
    let kind = found.kind;
    let mut findings = vec![match found.schema {
        Ok(()) => finding(
            "database",
            Verdict::Good,
            format!("{kind}, with the schema of this version"),
        ),
        Err(OpenError::SchemaOlder(missing)) if kind == "SQLite" || settings.migrate => finding(
            "database",
            Verdict::Look,
            format!(
                "{kind}, with an older schema, which lacks {missing}: the service brings it up to date at its start"
            ),
        ),
        Err(error) => finding("database", Verdict::Bad, with_cause(&error)),
    }];
    if found.logs_parameters {
        findings.push(finding(
            "database",
            Verdict::Look,
            "logs the parameters of statements, identity numbers too: set log_parameter_max_length and \
             log_parameter_max_length_on_error to 0",
        ));
    }
    if let Some(apart) = found.apart {
        let shown = format!("{}.{:03} s", apart.num_seconds(), apart.subsec_millis());
        findings.push(match apart <= CLOCK_SKEW_MAX || settings.sandbox.is_some() {
            true => finding("clock", Verdict::Good, format!("agrees with the database's, within {shown}")),
            false => finding(
                "clock",
                Verdict::Bad,
                format!("this machine's and the database's are {shown} apart: nothing is sent until they agree. Set them by NTP"),
            ),
        });
    }
    findings
}
