//! The alerts and the dashboard: Prometheus' own tool tests the rules, each alert has its section in the documents, and what they
//! ask for are metrics that there are.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Beginnings of the names of metrics.
const PREFIXES: [&str; 3] = [
    "care_invitation_",
    "rpc_server_call_",
    "db_client_connection",
];
/// Ends of the names of a histogram's series.
const OF_HISTOGRAMS: [&str; 3] = ["_bucket", "_sum", "_count"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).expect("it is there")
}

/// Whether a program is installed. Says so when it is not, and fails where everything has to run.
pub fn is_installed(program: &str, argument: &str) -> bool {
    let found = Command::new(program).arg(argument).output().is_ok();
    if !found {
        assert!(env::var_os("CI").is_none(), "{program} is not installed");
        eprintln!("not run: {program} is not installed");
    }
    found
}

/// The values of a key in a YAML file, a line each.
fn values(text: &str, key: &str) -> Vec<String> {
    let key = format!("{key}: ");
    let lines = text.lines().map(|it| it.trim().trim_start_matches("- "));
    lines
        .filter_map(|it| Some(it.strip_prefix(&key)?.to_owned()))
        .collect()
}

/// The metrics that a text asks for, those of histograms by their common name.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let is_word = |it: char| it.is_ascii_alphanumeric() || it == '_';
    let words = text.split(|it: char| !is_word(it));
    let named = words.filter(|it| PREFIXES.iter().any(|prefix| it.starts_with(prefix)));
    // Labels begin like the metrics of connections.
    let named = named.filter(|it| !it.ends_with("_pool_name") && !it.ends_with("_state"));
    let common = |name: &str| {
        let ends = OF_HISTOGRAMS.iter();
        let mut common = ends.filter_map(|end| name.strip_suffix(end));
        common.next().unwrap_or(name).to_owned()
    };
    named.map(common).collect()
}

#[test]
fn promtool_accepts_the_rules_and_each_alert_fires_when_it_should() {
    if !is_installed("promtool", "--version") {
        return;
    }
    for arguments in [
        &["check", "config", "prometheus.yml"][..],
        &["check", "rules", "alerts.yml"],
        &["test", "rules", "alerts.test.yml"],
    ] {
        let judged = Command::new("promtool")
            .args(arguments)
            .current_dir(root().join("deploy/prometheus"))
            .output()
            .expect("it runs");
        let said = String::from_utf8_lossy(&judged.stderr).into_owned();
        let more = String::from_utf8_lossy(&judged.stdout);
        assert!(judged.status.success(), "{arguments:?}: {said}{more}");
    }
}

#[test]
fn each_alert_is_tested_and_has_a_section_that_names_it() {
    let (rules, tests) = (
        read("deploy/prometheus/alerts.yml"),
        read("deploy/prometheus/alerts.test.yml"),
    );
    let (alerts, books) = (values(&rules, "alert"), values(&rules, "runbook"));
    assert!(alerts.len() > 10, "the alerts are found");
    assert_eq!(alerts.len(), books.len(), "each has its section");
    let tested = values(&tests, "alertname");
    let page = read("docs/operations.md");
    let sections: Vec<(String, &str)> = page
        .split("\n### ")
        .skip(1)
        .map(|section| {
            let (heading, text) = section.split_once('\n').expect("a heading");
            (heading.to_lowercase().replace(' ', "-"), text)
        })
        .collect();
    for (alert, book) in alerts.iter().zip(&books) {
        // Once silent and once firing.
        let times = tested.iter().filter(|it| *it == alert).count();
        assert_eq!(times, 2, "{alert}");
        let anchor = book.strip_prefix("docs/operations.md#").expect("a section");
        let section = sections.iter().find(|(it, _)| it == anchor);
        let (_, text) = section.unwrap_or_else(|| panic!("no section {anchor} of {alert}"));
        assert!(
            text.contains(&format!("`{alert}`")),
            "{anchor} names {alert}"
        );
    }
    let known = |(heading, text): &&(String, &str)| {
        books.iter().any(|it| it.ends_with(&format!("#{heading}")))
            || !text.contains("`CareInvitation")
    };
    assert!(
        sections.iter().all(|it| known(&it)),
        "each section has its alert"
    );
}

#[test]
fn alerts_and_dashboard_ask_for_metrics_that_there_are() {
    let page = read("docs/operations.md");
    let (_, section) = page.split_once("\n## Metrics\n").expect("a section");
    let (section, _) = section.split_once("\n## ").expect("another section");
    let rows = section.lines().filter_map(|row| row.strip_prefix("| `"));
    let served: BTreeSet<String> = rows
        .filter_map(|row| Some(row.split_once('`')?.0.to_owned()))
        .collect();
    let dashboard = read("deploy/grafana/dashboard.json");
    let parsed: serde_json::Value = serde_json::from_str(&dashboard).expect("JSON");
    assert_eq!(parsed["title"], "Care invitations");
    for text in [&read("deploy/prometheus/alerts.yml"), &dashboard] {
        let asked = metrics_in(text);
        let unknown: Vec<_> = asked.difference(&served).collect();
        assert!(asked.len() > 10 && unknown.is_empty(), "{unknown:?}");
    }
    let shown = metrics_in(&dashboard);
    let hidden: Vec<_> = served.difference(&shown).collect();
    assert!(hidden.is_empty(), "the dashboard shows all but {hidden:?}");
}
