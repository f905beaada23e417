//! What the system tells about a process.

use std::fs;
use std::path::Path;

use crate::Outcome;

/// Ticks of the system's clock in a second, as `/proc` counts them.
const TICKS: f64 = 100.0;

/// For how long it has used a core so far, in seconds.
pub fn cpu_seconds(proc: &Path) -> Outcome<f64> {
    let stat = fs::read_to_string(proc.join("stat"))?;
    // The name, in brackets, may hold blanks.
    let (_, fields) = stat.rsplit_once(')').ok_or("a process has a name")?;
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let ticks = |place: usize| -> Outcome<f64> {
        Ok(fields.get(place).ok_or("a field is missing")?.parse()?)
    };
    Ok((ticks(11)? + ticks(12)?) / TICKS)
}

/// Its memory in MB: `VmRSS` now, `VmHWM` at the most so far.
pub fn memory(proc: &Path, which: &str) -> Outcome<f64> {
    let status = fs::read_to_string(proc.join("status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(which));
    let line = line.ok_or("the system tells no such memory")?;
    let kib: f64 = line.trim_matches([':', ' ', '\t', 'k', 'B']).parse()?;
    Ok(kib * 1.024 / 1_000.0)
}
