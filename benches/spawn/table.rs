//! Times in, tables out.

use std::time::Duration;

/// The times of one contender.
#[derive(Clone, Debug, Default)]
pub(crate) struct Times(Vec<Duration>);

impl Times {
    pub(crate) fn add(&mut self, times: Vec<Duration>) {
        self.0.extend(times);
        self.0.sort_unstable();
    }

    /// In microseconds; `None` without a measurement.
    pub(crate) fn at(&self, share: f64) -> Option<f64> {
        let last = self.0.len().checked_sub(1)?;
        let time = self.0.get((last as f64 * share).round() as usize)?;
        Some(time.as_secs_f64() * 1e6)
    }

    pub(crate) fn median(&self) -> Option<f64> {
        self.at(0.5)
    }

    pub(crate) fn least(&self) -> Option<f64> {
        self.at(0.0)
    }

    /// The distance of the quartiles, as a share of the median: how noisy it was.
    pub(crate) fn spread(&self) -> Option<f64> {
        Some((self.at(0.75)? - self.at(0.25)?) / self.median()?)
    }
}

/// `one / other` as "1.23", or a dash.
pub(crate) fn ratio(one: Option<f64>, other: Option<f64>) -> String {
    one.zip(other).map_or_else(dash, |(one, other)| format!("{:.2}", one / other))
}

/// Microseconds, or a dash.
pub(crate) fn micros(time: Option<f64>) -> String {
    time.map_or_else(dash, |time| format!("{time:.0}"))
}

/// A share as "12%", or a dash.
pub(crate) fn percent(share: Option<f64>) -> String {
    share.map_or_else(dash, |share| format!("{:.0}%", share * 100.0))
}

fn dash() -> String {
    "-".to_owned()
}

/// A goal that is reached from this on.
#[derive(Clone, Copy, Debug)]
pub(crate) enum At {
    Most(f64),
    Least(f64),
}

pub(crate) fn quotient(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    one.zip(other).map(|(one, other)| one / other)
}

/// Prints what is to be reached, and what is.
pub(crate) fn goal(what: &str, goal: At, reached: Option<f64>) {
    let (words, holds): (_, fn(f64, f64) -> bool) = match goal {
        At::Most(_) => ("at most", |reached, goal| reached <= goal),
        At::Least(_) => ("at least", |reached, goal| reached >= goal),
    };
    let (At::Most(goal) | At::Least(goal)) = goal;
    let result = match reached {
        None => "not measured".to_owned(),
        Some(reached) if holds(reached, goal) => format!("{reached:.2}, reached"),
        Some(reached) => format!("{reached:.2}, not reached"),
    };
    println!("goal: {what}: {words} {goal}: {result}");
}

/// Prints rows below a header, the first column to the left, the others to the right.
pub(crate) fn print(header: &[&str], rows: &[Vec<String>]) {
    let header: Vec<String> = header.iter().map(ToString::to_string).collect();
    let all = || std::iter::once(&header).chain(rows);
    let cell = |row: &Vec<String>, column: usize| row.get(column).map_or(0, |cell| cell.len());
    let widths: Vec<usize> = (0..header.len())
        .map(|column| all().map(|row| cell(row, column)).max().unwrap_or(0))
        .collect();
    for row in all() {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            line += &match column {
                0 => format!("{cell:<width$}"),
                _ => format!("  {cell:>width$}"),
            };
        }
        println!("{}", line.trim_end());
    }
}
