//! The results as a table, and as JSON.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::Write;

use serde_json::json;

use super::finding::{Finding, Verdict};
use super::table::Attempt;
use crate::failure::Failure;

/// The results of a run.
#[derive(Debug)]
pub(crate) struct Report {
    rows: Vec<(&'static Attempt, Finding)>,
    /// Each attempt was made where it has to work.
    of_controls: bool,
}

impl Report {
    pub(crate) fn new(of_controls: bool) -> Self {
        Report { rows: Vec::new(), of_controls }
    }

    pub(crate) fn add(&mut self, attempt: &'static Attempt, finding: Finding) {
        self.rows.push((attempt, finding));
    }

    pub(crate) fn count(&self, verdict: Verdict) -> usize {
        self.rows.iter().filter(|(_, finding)| finding.verdict == verdict).count()
    }

    /// What no attempt may be; of controls, what none may be.
    pub(crate) fn wrong(&self) -> Verdict {
        if self.of_controls { Verdict::Held } else { Verdict::Open }
    }

    /// One JSON array, a line.
    pub(crate) fn write(&self, mut file: File) -> Result<(), Failure> {
        let rows = self.rows.iter().map(|(attempt, finding)| {
            json!({
                "number": attempt.number,
                "name": attempt.name(),
                "family": attempt.family,
                "severity": attempt.severity.name(),
                "tried": attempt.tried,
                "control": attempt.control.to_string(),
                "result": finding.verdict.name(),
                "why": finding.why,
            })
        });
        let line = format!("{}\n", serde_json::Value::from_iter(rows));
        file.write_all(line.as_bytes()).map_err(|error| Failure::Io("write --json", error))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.rows.iter().map(|(attempt, _)| attempt.name().len()).max().unwrap_or(0);
        for (attempt, finding) in &self.rows {
            let (number, severity) = (attempt.number, attempt.severity.name());
            let (name, verdict) = (attempt.name(), finding.verdict.name());
            writeln!(f, "{number:>3} {name:width$}  {severity:8}  {verdict:14}  {}", finding.why)?;
        }
        let of = if self.of_controls { "controls" } else { "attempts" };
        write!(f, "{} {of}", self.rows.len())?;
        for verdict in [Verdict::Held, Verdict::Open, Verdict::NotApplicable, Verdict::Broken] {
            write!(f, ", {} {}", self.count(verdict), verdict.name())?;
        }
        writeln!(f)
    }
}

/// What `--list` shows.
pub(crate) fn list(attempts: &[&Attempt]) -> String {
    let width = attempts.iter().map(|attempt| attempt.name().len()).max().unwrap_or(0);
    let mut text = String::new();
    for attempt in attempts {
        let (number, name, severity) = (attempt.number, attempt.name(), attempt.severity.name());
        // Writing to a string does not fail.
        let _ = writeln!(text, "{number:>3} {name:width$}  {severity:8}  {}", attempt.tried);
        let _ = writeln!(text, "    {:width$}  {:8}  control: {}", "", "", attempt.control);
    }
    text
}
