//! The program: settings, log, store, clock, listener, server.

use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use care_invitation::clock::Clock;
use care_invitation::config::Config;
use care_invitation::domain::Rules;
use care_invitation::grpc::boundary::Limits;
use care_invitation::server::{self, Parts};
use care_invitation::store::Store;
use care_invitation::telemetry;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

fn main() -> ExitCode {
    let config = Config::read(std::env::args_os()).unwrap_or_else(|error| error.exit());
    telemetry::start(config.log_format, config.log_level);
    let runtime = Runtime::new().expect("the system gives threads to a new process");
    let outcome = runtime.block_on(serve(config));
    // What has not ended by itself is left behind.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let causes = std::iter::successors(Some(&*error as &dyn Error), |&it| it.source());
            let causes: Vec<_> = causes.map(ToString::to_string).collect();
            eprintln!("care-invitation: {}", causes.join(": "));
            ExitCode::FAILURE
        }
    }
}

async fn serve(config: Config) -> Result<(), Box<dyn Error>> {
    let store = Store::open(config.database_url.reveal()).await?;
    let clock = config
        .sandbox_clock
        .map_or_else(Clock::real, Clock::sandbox);
    if clock.is_sandbox() {
        tracing::warn!(now = %clock.now(), "SANDBOX CLOCK: time stands still; never for patients");
    }
    let listener = TcpListener::bind(config.listen).await;
    let listener = listener.map_err(|why| format!("cannot listen on {}: {why}", config.listen))?;
    let shutdown = server::stop_on_signals()?;
    let address = listener.local_addr()?;
    writeln!(std::io::stdout(), "listening on http://{address}")?;
    let parts = Parts {
        store,
        clock,
        rules: Rules {
            send_clock: config.send_clock,
            guarantee_days: config.guarantee_days,
        },
        limits: Limits::default(),
    };
    Ok(server::run(listener, parts, shutdown).await?)
}
