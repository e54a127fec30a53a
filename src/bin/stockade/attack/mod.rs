//! `stockade attack`: attempts to get out of a sandbox of the given configuration, each in a fresh one,
//! judged from inside and from outside.

mod configuration;
mod finding;
mod peer;
mod report;
mod sibling;
mod source;
mod stage;
mod table;
mod tenant;
mod trial;

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;

use clap::ArgMatches;
use nix::unistd::{getegid, geteuid};

use crate::descriptor;
use crate::failure::{Failure, SET_UP};
use crate::options::Attack;
use configuration::Configuration;
use finding::{Finding, Verdict};
use report::Report;
use stage::Stage;
use table::{Attempt, Way};
use trial::Trial;

/// The program that runs inside; empty if it could not be built.
const PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/stockade-attack"));

/// An attempt was open, or a control was not.
const WRONG: u8 = 1;

/// The same from the arguments alone.
#[allow(dead_code, reason = "for the example `escape`, which is nothing else")]
pub(crate) fn main(args: impl Iterator<Item = OsString>) -> Result<u8, Failure> {
    let (options, matches) = configuration::parse(args)?;
    attack(&options, &matches)
}

/// Makes the attempts and prints what came of them; the exit code is described by `--help`.
pub(crate) fn attack(options: &Attack, matches: &ArgMatches) -> Result<u8, Failure> {
    let json = options.json.map(descriptor::of_json).transpose()?;
    let chosen = table::chosen(&options.only)?;
    if options.list {
        return print(&report::list(&chosen)).map(|()| 0);
    }
    if PROGRAM.is_empty() {
        let reason = option_env!("STOCKADE_ATTACK_MISSING").unwrap_or("no reason known");
        return Err(Failure::Usage(format!(
            "'stockade' was built without the program that attacks: {reason}"
        )));
    }
    let report = match &options.under {
        Some(peer) => under(peer, &chosen)?,
        None => of_sandbox(options, matches, &chosen)?,
    };
    print(&report.to_string())?;
    if let Some(json) = json {
        report.write(json.into())?;
    }
    Ok(match (report.count(report.wrong()), report.count(Verdict::Broken)) {
        (0, 0) => 0,
        (0, _) => SET_UP,
        _ => WRONG,
    })
}

/// The attempts in a sandbox of the given configuration, or where they have to work.
fn of_sandbox(
    options: &Attack,
    matches: &ArgMatches,
    chosen: &[&'static Attempt],
) -> Result<Report, Failure> {
    let given = Configuration::new(options, matches)?;
    let stage = Stage::new(given.host_ids())?;
    let mut report = Report::new(options.controls);
    if !options.controls {
        let trial = Trial::new(&stage, &given)?;
        for attempt in chosen {
            report.add(attempt, trial.make(attempt)?);
        }
    } else {
        for attempt in chosen {
            report.add(attempt, control(&stage, attempt)?);
        }
    }
    stage.remove()?;
    Ok(report)
}

/// The attempts in sandboxes that another program makes.
fn under(peer: &Path, chosen: &[&'static Attempt]) -> Result<Report, Failure> {
    let stage = Stage::new((geteuid().as_raw(), getegid().as_raw()))?;
    let mut report = Report::new(false);
    let trial = Trial::under(&stage, peer);
    for attempt in chosen {
        report.add(attempt, trial.make(attempt)?);
    }
    stage.remove()?;
    Ok(report)
}

/// An attempt where it has to work.
fn control(stage: &Stage, attempt: &Attempt) -> Result<Finding, Failure> {
    if attempt.control.root && !geteuid().is_root() {
        return Ok(Finding::not_applicable("the control needs root"));
    }
    let found = match attempt.control.way {
        Way::Options(words) => {
            let configuration = Configuration::of_control(words)?;
            match Trial::new(stage, &configuration) {
                Ok(trial) => trial.make(attempt)?,
                Err(Failure::Sandbox(error)) => {
                    return Ok(Finding::not_applicable(format!("it cannot be made here: {error}")));
                }
                Err(failure) => return Err(failure),
            }
        }
        way => Trial::outside(stage, way).make(attempt)?,
    };
    Ok(match found {
        Finding { absent: true, why, .. } => {
            Finding::not_applicable(format!("this kernel does not have it: {why}"))
        }
        Finding { verdict: Verdict::Held, why, .. } if attempt.control.root && is_limited() => {
            Finding::not_applicable(format!("this root has not every capability: {why}"))
        }
        other => other,
    })
}

/// Whether this process lacks a capability that the kernel has.
fn is_limited() -> bool {
    let last = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap");
    let last = last.ok().and_then(|text| text.trim().parse::<u32>().ok());
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    effective.is_none_or(|set| u64::from(set.count_ones()) < u64::from(last.unwrap_or(0)) + 1)
}

pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| Failure::Io("write standard output", error))
}
