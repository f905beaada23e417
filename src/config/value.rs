//! The values of settings, parsed from text: each is taken, or refused with a text that says what it
//! must be.

use std::net::SocketAddr;
use std::time::Duration;

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use tracing::level_filters::LevelFilter;

use super::{DatabaseUrl, KnownHead, LogFormat};

/// Longest care guarantee that can be set, in days, as in the settings of a care unit.
const GUARANTEE_DAYS_MAX: u32 = 365;
/// Longest silence of a stream that can be set, in seconds: as long as one is open that nobody reads.
const HEARTBEAT_MAX: u64 = 300;
/// Maximum days for which changes are kept: a purge may delete what was last changed before that.
const CHANGES_DAYS_MAX: u32 = 35;
/// Highest speed of a sandbox clock: a day a second.
const SANDBOX_SPEED_MAX: u32 = 86_400;
/// Longest time before a replica drains, in seconds.
const DRAIN_DELAY_MAX: u64 = 300;

/// Parses an address and a port.
pub fn listen(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("must be an IP address and a port, such as 127.0.0.1:50051; it is {text:?}")
    })
}

/// Parses a place in the access log with its hash, as the log shows heads of chains.
pub fn known_head(text: &str) -> Result<KnownHead, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let parsed = match parts[..] {
        [chain, sequence, hash] => digits(&chain.replace('-', ""), 32)
            .zip(sequence.parse().ok().filter(|it: &i64| *it > 0))
            .zip(digits(hash, 64)),
        _ => None,
    };
    let form = || format!("must be CHAIN:SEQUENCE:HASH, as the log shows it; it is {text:?}");
    let ((chain, sequence), hash) = parsed.ok_or_else(form)?;
    Ok(KnownHead {
        chain: u128::from_be_bytes(*chain.first_chunk().ok_or_else(form)?),
        sequence,
        hash: *hash.first_chunk().ok_or_else(form)?,
    })
}

/// Parses so many hexadecimal digits.
fn digits(text: &str, count: usize) -> Option<Vec<u8>> {
    if text.len() != count || !text.bytes().all(|it| it.is_ascii_hexdigit()) {
        return None;
    }
    let pair = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
    (0..count).step_by(2).map(pair).collect()
}

/// Parameters that may stand behind the question mark of a PostgreSQL's address, beside `options[...]`
/// with anything within its brackets. The library would skip any other.
const PARAMETERS: [&str; 18] = [
    "application_name",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "password",
    "port",
    "ssl-ca",
    "ssl-cert",
    "ssl-key",
    "ssl-mode",
    "ssl-root-cert",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "statement-cache-capacity",
    "user",
];

/// Parses the address of a database. The error does not quote it, for it may hold a password.
pub fn database_url(text: &str) -> Result<DatabaseUrl, String> {
    let schemes = ["sqlite:", "postgres://", "postgresql://"];
    if !schemes.iter().any(|scheme| text.starts_with(scheme)) {
        return Err(
            "must begin with sqlite: or postgres://, as in sqlite://care-invitation.db or \
             postgres://user@host/database"
                .to_owned(),
        );
    }
    match text.split_once('?') {
        Some((_, query)) if !text.starts_with("sqlite:") => known_parameters(query)?,
        _ => {}
    }
    Ok(DatabaseUrl(text.to_owned()))
}

/// Refuses a parameter that the PostgreSQL library does not know, by its name alone.
fn known_parameters(query: &str) -> Result<(), String> {
    for (name, _) in form_urlencoded::parse(query.as_bytes()) {
        let is_option = name.starts_with("options[") && name.ends_with(']');
        if !is_option && !PARAMETERS.contains(&&*name) {
            return Err(unknown_parameter(&name, query));
        }
    }
    Ok(())
}

/// Returns the error text for an unknown parameter. An address with an @ behind the question mark has that
/// question mark in its password, of which the text quotes nothing.
fn unknown_parameter(name: &str, query: &str) -> String {
    let is_plain = |it: char| it.is_ascii_alphanumeric() || "-_.[]".contains(it);
    if query.contains('@') || !name.chars().all(is_plain) {
        return "has something behind a question mark that is no parameter; in a user or a \
             password a question mark is written %3F"
            .to_owned();
    }
    format!(
        "has a parameter that is not known: {name}; known are {}",
        PARAMETERS.join(", ")
    )
}

/// Parses a date.
pub fn civil_date(text: &str) -> Result<NaiveDate, String> {
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok();
    date.filter(|_| text.len() == "YYYY-MM-DD".len())
        .ok_or_else(|| format!("must be a date such as 2025-01-31; it is {text:?}"))
}

/// Parses an instant, not before 1970.
pub fn instant(text: &str) -> Result<DateTime<Utc>, String> {
    let at = DateTime::parse_from_rfc3339(text).map_err(|_| {
        format!("must be an instant of RFC 3339, such as 2026-03-02T09:00:00Z; it is {text:?}")
    })?;
    if at < DateTime::UNIX_EPOCH {
        return Err(format!("must not be before 1970; it is {text:?}"));
    }
    Ok(at.to_utc())
}

/// Parses a time of day, from 06:00 to 22:00.
pub fn send_clock(text: &str) -> Result<NaiveTime, String> {
    let clock = NaiveTime::parse_from_str(text, "%H:%M").ok();
    clock
        .filter(|clock| text.len() == "HH:MM".len() && is_by_day(*clock))
        .ok_or_else(|| format!("must be HH:MM, from 06:00 to 22:00; it is {text:?}"))
}

fn is_by_day(clock: NaiveTime) -> bool {
    let first = NaiveTime::from_hms_opt(6, 0, 0).expect("06:00 is a time of day");
    let last = NaiveTime::from_hms_opt(22, 0, 0).expect("22:00 is a time of day");
    (first..=last).contains(&clock)
}

/// Parses a number of days, from 1.
pub fn guarantee_days(text: &str) -> Result<u32, String> {
    let days = text.parse().ok();
    days.filter(|days| (1..=GUARANTEE_DAYS_MAX).contains(days))
        .ok_or_else(|| format!("must be a number from 1 to {GUARANTEE_DAYS_MAX}; it is {text:?}"))
}

/// Parses the time before a replica drains.
pub fn drain_delay(text: &str) -> Result<Duration, String> {
    let seconds: Option<u64> = text.parse().ok();
    let seconds = seconds.filter(|it| *it <= DRAIN_DELAY_MAX);
    seconds
        .map(Duration::from_secs)
        .ok_or_else(|| format!("must be a number from 0 to {DRAIN_DELAY_MAX}; it is {text:?}"))
}

/// Parses the longest silence of a stream.
pub fn heartbeat(text: &str) -> Result<Duration, String> {
    let seconds: Option<u64> = text.parse().ok();
    let seconds = seconds.filter(|it| (1..=HEARTBEAT_MAX).contains(it));
    seconds
        .map(Duration::from_secs)
        .ok_or_else(|| format!("must be a number from 1 to {HEARTBEAT_MAX}; it is {text:?}"))
}

/// Parses the days for which changes are kept.
pub fn changes_days(text: &str) -> Result<u32, String> {
    let days = text.parse().ok();
    days.filter(|it| (1..=CHANGES_DAYS_MAX).contains(it))
        .ok_or_else(|| format!("must be a number from 1 to {CHANGES_DAYS_MAX}; it is {text:?}"))
}

/// Parses the speed of a sandbox clock, in seconds a second.
pub fn sandbox_speed(text: &str, is_sandbox: bool) -> Result<u32, String> {
    let speed = text.parse().ok();
    let speed = speed.filter(|it| (1..=SANDBOX_SPEED_MAX).contains(it));
    let speed = speed
        .ok_or_else(|| format!("must be a number from 1 to {SANDBOX_SPEED_MAX}; it is {text:?}"))?;
    match is_sandbox {
        true => Ok(speed),
        false => Err("must be given with --sandbox-clock".to_owned()),
    }
}

/// Parses the format of log lines.
pub fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!("must be text or json; it is {text:?}")),
    }
}

/// Parses the least important level to log.
pub fn log_level(text: &str) -> Result<LevelFilter, String> {
    match text {
        "off" => Ok(LevelFilter::OFF),
        "error" => Ok(LevelFilter::ERROR),
        "warn" => Ok(LevelFilter::WARN),
        "info" => Ok(LevelFilter::INFO),
        "debug" => Ok(LevelFilter::DEBUG),
        "trace" => Ok(LevelFilter::TRACE),
        _ => Err(format!(
            "must be off, error, warn, info, debug or trace; it is {text:?}"
        )),
    }
}
