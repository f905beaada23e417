//! The program: settings, log, and the command that was given.

use std::error::Error;
use std::process::ExitCode;

use care_invitation::cli;
use care_invitation::config::{self, Command, Config};
use care_invitation::telemetry;
use mimalloc::MiMalloc;
use tokio::runtime::Runtime;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    use_small_pages();
    let config = Config::read(std::env::args_os()).unwrap_or_else(|error| error.exit());
    let log = telemetry::start(config.log_format, config.log_level);
    let runtime = Runtime::new().expect("the system gives threads to a new process");
    let outcome = runtime.block_on(run(config));
    // Tasks that have not ended by themselves are left behind.
    runtime.shutdown_background();
    log.end();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let error = match error.downcast::<config::Error>() {
                Ok(bad) => bad.exit(),
                Err(error) => error,
            };
            let causes = std::iter::successors(Some(&*error as &dyn Error), |&it| it.source());
            let mut causes: Vec<_> = causes.map(ToString::to_string).collect();
            // Some errors quote their cause in their own text.
            causes.dedup_by(|cause, error| error.ends_with(cause.as_str()));
            let line = format!("care-invitation: {}", causes.join(": "));
            // A caller that has closed standard error does not want to see it.
            let _ = telemetry::report(std::io::stderr(), line);
            ExitCode::FAILURE
        }
    }
}

/// Turns huge pages off for the process. The allocator asks for them and spreads its allocations over
/// many: they took nearly twice the memory and made nothing faster.
fn use_small_pages() {
    #[cfg(target_os = "linux")]
    // A refusal costs nothing but memory.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

async fn run(config: Config) -> Result<(), Box<dyn Error>> {
    let url = config.database_url.expose();
    match config.command {
        Command::Serve(serve) => cli::serve(url, *serve).await,
        Command::Migrate => cli::migrate(url).await,
        Command::Purge(purge) => cli::purge(url, purge).await,
        Command::AfterRestore(lost) => cli::after_restore(url, lost).await,
    }
}
