//! What is measured, a scenario a file.

mod access_log;
mod create;
mod dashboards;
mod deliver;
mod due;
mod fair;
mod growth;
mod nine;
mod overload;
mod page;
mod replicas;
mod single;
mod streams;

use crate::report::Report;
use crate::settings::{Scenario, Settings};
use crate::{Bench, Outcome};

/// Measures a scenario.
pub async fn run(scenario: Scenario, bench: &Bench, report: &mut Report) -> Outcome<()> {
    match scenario {
        Scenario::Create => create::run(bench, report).await,
        Scenario::Single => single::run(bench, report).await,
        Scenario::Deliver => deliver::run(bench, report).await,
        Scenario::Streams => streams::run(bench, report).await,
        Scenario::Fair => fair::run(bench, report).await,
        Scenario::Replicas => replicas::run(bench, report).await,
        Scenario::Nine => nine::run(bench, report).await,
        Scenario::Due => due::run(bench, report).await,
        Scenario::Overload => overload::run(bench, report).await,
        Scenario::Page => page::run(bench, report).await,
        Scenario::Dashboards => dashboards::run(bench, report).await,
        Scenario::Growth => growth::run(bench, report).await,
        Scenario::AccessLog => access_log::run(bench, report).await,
    }
}

/// The settings that a scenario goes by, for its report.
pub fn settings(scenario: Scenario, settings: &Settings) -> Vec<(String, String)> {
    let seconds = ("seconds", settings.seconds.to_string());
    let runs = ("runs", settings.runs.to_string());
    let own = match scenario {
        Scenario::Create | Scenario::Overload => {
            vec![seconds, ("callers", settings.callers.to_string())]
        }
        Scenario::Deliver | Scenario::Streams => vec![("backlog", settings.backlog.to_string())],
        Scenario::Fair => vec![seconds, ("backlog", settings.backlog.to_string())],
        Scenario::Replicas => vec![
            seconds,
            ("callers", settings.callers.to_string()),
            ("backlog", settings.backlog.to_string()),
        ],
        Scenario::Nine => vec![seconds, ("messages", settings.at_nine.to_string())],
        Scenario::Dashboards | Scenario::Growth => {
            vec![seconds, ("sizes", format!("{:?}", settings.sizes))]
        }
        Scenario::Single | Scenario::Due | Scenario::Page | Scenario::AccessLog => vec![seconds],
    };
    let named = |(name, value): (&str, String)| (name.to_owned(), value);
    [runs].into_iter().chain(own).map(named).collect()
}
