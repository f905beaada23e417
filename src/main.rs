//! The program: settings, log, and the command that was given.

use std::error::Error;
use std::process::ExitCode;

use care_invitation::config::{self, Config};
use care_invitation::{cli, telemetry};
use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    set_up_memory();
    let config = Config::read(std::env::args_os()).unwrap_or_else(|error| error.exit());
    let log = telemetry::start(config.log_format, config.log_level);
    let runtime = tokio::runtime::Runtime::new().expect("the system gives a process threads");
    let outcome = runtime.block_on(cli::run(config));
    // Tasks that have not ended by themselves are left behind.
    runtime.shutdown_background();
    log.end();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let bad = error.downcast::<config::Error>();
            let error = bad.map_or_else(|error| error, |bad| bad.exit());
            let causes = std::iter::successors(Some(&*error as &dyn Error), |&it| it.source());
            let mut causes: Vec<_> = causes.map(ToString::to_string).collect();
            // Some errors quote their cause in their own text.
            causes.dedup_by(|cause, error| error.ends_with(cause.as_str()));
            let line = format!("care-invitation: {}", causes.join(": "));
            // A caller that has closed standard error does not want to see it.
            let _ = telemetry::report(std::io::stderr(), line);
            ExitCode::from(cli::exit_code(&*error))
        }
    }
}

/// Turns off huge pages, which took nearly twice the memory, and dumps of patients' data at a crash.
fn set_up_memory() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{DumpableBehavior, set_dumpable_behavior};
        let _ = rustix::thread::disable_transparent_huge_pages(true);
        let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    }
}
