//! The commands that call a server over gRPC, as everybody else does: nothing here knows the store. They show what the
//! caller may see, and identity numbers and texts only when they are asked for.
//!
//! | file | contents |
//! | --- | --- |
//! | `connect` | the connection: TLS, token, time limits |
//! | `failure` | what went wrong, and the exit codes |
//! | `print` | tables, JSON, times and names as people read them |
//! | `care_units` | the care units that are meant |
//! | `health`, `worklist`, `show`, `due`, `import`, `demo` | a command each |

mod care_units;
mod connect;
mod demo;
mod due;
pub mod failure;
mod health;
pub mod import;
pub mod print;
mod show;
mod worklist;

use crate::config::client::{Action, Client};
use failure::Failure;

/// Runs a command, and prints what it finds.
///
/// # Errors
///
/// [`Failure`], which has the exit code.
pub async fn run(settings: &Client) -> Result<(), Failure> {
    let Client {
        server,
        output,
        action,
    } = settings;
    let outcome = match action {
        Action::Health => health::health(server, *output).await,
        Action::Worklist(query) => worklist::worklist(server, *output, query).await,
        Action::Show(name) => show::show(server, *output, name).await,
        Action::Due(query) => due::due(server, *output, query).await,
        Action::Import(file) => import::import(server, *output, file).await,
        Action::Demo(year) => demo::demo(server, *output, year).await,
    };
    match outcome {
        // Whoever reads the output has seen enough, as `head` does.
        Err(Failure::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome,
    }
}
