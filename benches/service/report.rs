//! Results: lines of a table on standard output while it goes, and files for people, programs and
//! pictures.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::Outcome;
use crate::database::Kind;
use crate::machine::Machine;
use crate::number::number;
use crate::targets::Bound;

/// A number that was measured, once in each run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Line {
    /// What was done.
    pub work: String,
    /// On which database; empty where none is involved.
    pub database: String,
    /// In what it is counted.
    pub unit: String,
    /// The number in each run.
    pub runs: Vec<f64>,
    /// What it is compared with.
    pub beside: Option<Beside>,
    /// What it is to reach, in words.
    pub target: Option<String>,
    /// Whether it does.
    pub met: Option<bool>,
}

/// What a number is compared with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Beside {
    /// What it is.
    pub what: String,
    /// The number in each run.
    pub runs: Vec<f64>,
}

impl Line {
    /// A line about a database.
    pub fn new(work: impl Into<String>, kind: Kind, unit: &str, runs: Vec<f64>) -> Self {
        Self {
            work: work.into(),
            database: kind.title().into(),
            unit: unit.into(),
            runs,
            beside: None,
            target: None,
            met: None,
        }
    }

    /// Compared with this.
    pub fn beside(mut self, what: impl Into<String>, runs: Vec<f64>) -> Self {
        let what = what.into();
        self.beside = Some(Beside { what, runs });
        self
    }

    /// Held against a target.
    pub fn target(mut self, name: &str) -> Self {
        let bound = Bound::of(name);
        let beside = self.beside.as_ref().map(|it| median(&it.runs));
        self.target = Some(bound.text(&self.unit));
        self.met = bound.is_met(median(&self.runs), beside, self.ratio());
        self
    }

    /// How many times what stands beside it: the median of the runs' ratios, since what slows a
    /// machine down slows both.
    fn ratio(&self) -> Option<f64> {
        let beside = self.beside.as_ref()?;
        if beside.runs.len() != self.runs.len() {
            return Some(median(&self.runs) / median(&beside.runs));
        }
        let pairs = self.runs.iter().zip(&beside.runs);
        let ratios: Vec<f64> = pairs.map(|(number, beside)| number / beside).collect();
        Some(median(&ratios))
    }

    fn row(&self) -> String {
        let spread = |runs: &[f64]| {
            let (least, most) = bounds(runs);
            let range = format!(" ({}–{})", number(least), number(most));
            let range = if runs.len() > 1 { range } else { String::new() };
            format!("{} {}{range}", number(median(runs)), self.unit)
        };
        let beside = self.beside.as_ref();
        let beside = beside.map(|it| format!("{}: {}", it.what, spread(&it.runs)));
        let ratio = self.ratio().map(|it| format!("{it:.2}"));
        let met = self.met.map(|met| if met { "yes" } else { "**no**" });
        format!(
            "| {} | {} | {} | {} | {} | {} | {} |",
            self.work,
            self.database,
            spread(&self.runs),
            beside.unwrap_or_default(),
            ratio.unwrap_or_default(),
            self.target.as_deref().unwrap_or_default(),
            met.unwrap_or_default(),
        )
    }
}

const HEAD: &str = "| work | database | measured | beside it | ratio | target | met |\n\
     | --- | --- | ---: | ---: | ---: | --- | --- |";

/// A line in a picture.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Curve {
    /// In which picture.
    pub picture: String,
    /// What the line is about.
    pub name: String,
    /// Whether it is what others are compared with.
    pub is_floor: bool,
    /// The points.
    pub points: Vec<(f64, f64)>,
}

/// What one scenario has yielded.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// The scenario.
    pub scenario: String,
    /// When it was begun.
    pub date: String,
    /// The machine, and what ran on it.
    pub machine: Machine,
    /// How it was measured.
    pub settings: Vec<(String, String)>,
    /// What was measured.
    pub lines: Vec<Line>,
    /// What is drawn.
    pub curves: Vec<Curve>,
}

impl Report {
    /// A report to be filled.
    pub fn begin(scenario: String, machine: &Machine, settings: Vec<(String, String)>) -> Self {
        println!("\n## {scenario}\n\n{HEAD}");
        Self {
            scenario,
            date: chrono::Utc::now().format("%Y-%m-%dT%H:%MZ").to_string(),
            machine: machine.clone(),
            settings,
            lines: Vec::new(),
            curves: Vec::new(),
        }
    }

    /// Takes a line in, and shows it.
    pub fn say(&mut self, line: Line) {
        println!("{}", line.row());
        self.lines.push(line);
    }

    /// Takes a curve in.
    pub fn draw(&mut self, picture: &str, name: String, is_floor: bool, points: Vec<(f64, f64)>) {
        self.curves.push(Curve {
            picture: picture.into(),
            name,
            is_floor,
            points,
        });
    }

    /// Writes it as JSON.
    pub fn write(&self, folder: &Path) -> Outcome<()> {
        fs::create_dir_all(folder)?;
        let text = serde_json::to_string_pretty(self)? + "\n";
        Ok(fs::write(
            folder.join(format!("{}.json", self.scenario)),
            text,
        )?)
    }
}

/// The reports that a folder holds, by these names.
pub fn read(folder: &Path, scenarios: &[String]) -> Outcome<Vec<Report>> {
    let mut reports = Vec::new();
    for scenario in scenarios {
        match fs::read(folder.join(format!("{scenario}.json"))) {
            Ok(text) => reports.push(serde_json::from_slice(&text)?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(reports)
}

/// Writes all reports as one page.
pub fn write_page(folder: &Path, reports: &[Report]) -> Outcome<()> {
    let mut page = String::from(
        "# Results\n\nWritten by `cargo bench`; `../README.md` says what each line means. Medians of \
         the runs, with the least and the most. A ratio is the median of the runs' ratios.\n",
    );
    for report in reports {
        page += &format!("\n## {}\n\n{HEAD}\n", report.scenario);
        for line in &report.lines {
            page += &(line.row() + "\n");
        }
        page += &format!("\n{}; {}", report.date, report.machine);
        for (name, value) in &report.settings {
            page += &format!("; {name} {value}");
        }
        page += ".\n";
    }
    Ok(fs::write(folder.join("README.md"), page)?)
}

/// The middle one.
pub fn median(runs: &[f64]) -> f64 {
    let mut sorted = runs.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => f64::NAN,
        even if even % 2 == 0 => (sorted[middle - 1] + sorted[middle]) / 2.0,
        _ => sorted[middle],
    }
}

fn bounds(runs: &[f64]) -> (f64, f64) {
    let least = runs.iter().copied().fold(f64::INFINITY, f64::min);
    let most = runs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    (least, most)
}
