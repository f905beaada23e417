//! Preflight of PostgreSQL: one plain connection before there are pools, so that an obstacle is reported in the server's
//! own words and in good time.

use std::time::Duration;

use sea_orm::sqlx::postgres::{PgConnectOptions, PgRow};
use sea_orm::sqlx::{self, ConnectOptions, Connection, PgConnection, Row};

use crate::store::database::spread::{Spread, detect_spread};
use crate::store::error::OpenError;

/// Time that the server may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Expression that is true on a server that takes no writes: a standby, or one that is read-only by its settings or those
/// of the user.
pub const IS_READ_ONLY: &str = "current_setting('transaction_read_only')::boolean";

/// Expression that is true on a server that writes the parameters of statements into its own log.
const LOGS_PARAMETERS: &str = "coalesce( \
     current_setting('log_parameter_max_length_on_error', true) <> '0' \
     OR current_setting('log_parameter_max_length', true) <> '0' \
     AND (current_setting('log_min_duration_statement', true) <> '-1' \
     OR current_setting('log_min_duration_sample', true) <> '-1' \
     OR current_setting('log_statement', true) IN ('mod', 'all')), false)";

/// Settings of a server that was reached and takes writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerSettings {
    /// True when its own log may come to hold patients' data.
    pub logs_parameters: bool,
    /// Place where the rows lie, as far as there are tables.
    pub spread: Spread,
}

/// Refuses a server that cannot be reached, does not let us in, or takes no writes.
///
/// # Errors
///
/// [`OpenError`]; the content of the address is in none of them.
pub async fn preflight(url: &str) -> Result<ServerSettings, OpenError> {
    let options: PgConnectOptions = url
        .parse()
        .map_err(|_| OpenError::Address("is not one that PostgreSQL understands"))?;
    let options = options
        .disable_statement_logging()
        .application_name("care-invitation");
    let answer = tokio::time::timeout(ANSWER_MAX, probe(&options)).await;
    let answer = answer.map_err(|_| OpenError::NoAnswer(ANSWER_MAX.as_secs()))?;
    let answer = answer.map_err(|error| OpenError::Unreachable(root_message(&error)))?;
    answer.ok_or(OpenError::ReadOnly)
}

/// Returns the settings of a server; none of one that takes no writes.
async fn probe(options: &PgConnectOptions) -> Result<Option<ServerSettings>, sqlx::Error> {
    let mut connection = PgConnection::connect_with(options).await?;
    let question = sqlx::AssertSqlSafe(format!("SELECT {IS_READ_ONLY}, {LOGS_PARAMETERS}"));
    let row: PgRow = sqlx::raw_sql(question).fetch_one(&mut connection).await?;
    let settings = ServerSettings {
        logs_parameters: row.try_get(1)?,
        spread: detect_spread(&mut connection).await?,
    };
    connection.close().await?;
    let is_read_only: bool = row.try_get(0)?;
    Ok((!is_read_only).then_some(settings))
}

/// Returns the message of the root cause.
fn root_message(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => error.message().to_owned(),
        sqlx::Error::Io(error) => error.to_string(),
        error => error.to_string(),
    }
}
