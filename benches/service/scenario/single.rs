//! One caller who creates one invitation after the other: what a commit costs when nobody shares
//! it.

use std::sync::Arc;

use super::create::{floor, written};
use crate::callers::Callers;
use crate::database::{Database, Kind};
use crate::make::{Period, UNITS};
use crate::raw::create::How;
use crate::report::{Line, Report};
use crate::sample::Latencies;
use crate::server::{Clock, Server};
use crate::{Bench, Outcome, load};

/// Measures it on every database.
pub async fn run(bench: &Bench, report: &mut Report) -> Outcome<()> {
    for kind in bench.kinds() {
        let written = Arc::new(written(bench, kind).await?);
        let (mut service, mut raw) = (Vec::new(), Vec::new());
        for _ in 0..bench.settings.runs {
            service.push(one_run(bench, kind).await?);
            let how = How {
                batch: 1,
                connections: 1,
                seconds: bench.settings.seconds,
            };
            raw.push(floor(bench, kind, &written, how).await?.latencies);
        }
        for (name, percent) in [("p50", 50.0), ("p99", 99.0)] {
            let at = |all: &[Latencies]| all.iter().map(|it| it.at(percent)).collect::<Vec<_>>();
            let line = Line::new(
                format!("create, one caller, {name}"),
                kind,
                "ms",
                at(&service),
            );
            let line = line.beside(format!("raw, one commit, {name}"), at(&raw));
            report.say(line.target("single"));
        }
    }
    Ok(())
}

async fn one_run(bench: &Bench, kind: Kind) -> Outcome<Latencies> {
    let database = Database::empty(kind, bench.postgres.as_ref()).await?;
    let server = Server::start(&bench.settings, &database.url(), Clock::Real).await?;
    let create = Callers::connect(&server, 1)
        .await?
        .create(UNITS, Period::later());
    let sample = load::closed(1, bench.settings.seconds, create).await?;
    server.kill().await?;
    Ok(sample.latencies)
}
