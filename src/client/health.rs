//! The command that asks a server whether it is ready: for the health checks of containers, and for scripts that wait for it.

use std::io::{Write, stdout};

use serde::Serialize;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::connect::connect;
use super::failure::Failure;
use super::print::print_json;
use crate::config::client::{Output, Server};

/// The answer, as it is printed in JSON.
#[derive(Serialize)]
struct Health {
    status: &'static str,
}

/// Asks for the health of the whole server.
///
/// # Errors
///
/// It cannot be reached, or serves nothing now.
pub async fn health(server: &Server, output: Output) -> Result<(), Failure> {
    let connection = connect(server).await.map_err(not_serving)?;
    let call = HealthCheckRequest::default();
    let answer = HealthClient::new(connection).check(call).await;
    let answer = answer.map_err(|status| not_serving(status.into()))?;
    let status = answer.into_inner().status();
    if output.json {
        let status = status.as_str_name();
        print_json(&Health { status })?;
    }
    match status {
        ServingStatus::Serving if output.json => Ok(()),
        ServingStatus::Serving => Ok(writeln!(stdout(), "serving")?),
        ServingStatus::NotServing | ServingStatus::Unknown | ServingStatus::ServiceUnknown => {
            Err(Failure::NotServing(status.as_str_name().to_owned()))
        }
    }
}

/// Returns any failure as that of a server that is not ready: health checks of containers know one exit code.
fn not_serving(failure: Failure) -> Failure {
    match failure {
        Failure::Unreachable(_) | Failure::Call(_) => Failure::NotServing(failure.to_string()),
        Failure::File { .. }
        | Failure::Input(_)
        | Failure::NotServing(_)
        | Failure::NoSandbox
        | Failure::RefusedLines { .. }
        | Failure::Output(_) => failure,
    }
}
