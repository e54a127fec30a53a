//! `stockade bench`: what a start of a program costs, in the sandbox that the options describe.

mod measure;
mod stages;
mod svg;

use std::fmt::Write as _;
use std::fs::File;
use std::io::Write as _;
use std::time::Duration;

use clap::ArgMatches;

use crate::failure::Failure;
use crate::{attack, descriptor, options, sandbox};
use measure::{Bench, Measured, Quartiles, Way};

/// Measures and prints; the exit code is described by `--help`.
pub(crate) fn bench(options: &options::Bench, matches: &ArgMatches) -> Result<u8, Failure> {
    if options.setup.program.tty {
        let reason = "'--tty' is not measured: the programs have no streams";
        return Err(Failure::Usage(reason.to_owned()));
    }
    descriptor::keep_children().map_err(|error| Failure::Io("signal", error))?;
    let made = sandbox::sandbox(&options.setup, matches)?;
    let Some(words) = options.command.split_first() else {
        return Err(Failure::Usage("no program".to_owned()));
    };
    let bench = Bench::new(made, &options.setup.program, words)?;
    // Before anything is measured: a wrong path must not cost the time.
    let failed = |error| Failure::Io("write --svg", error);
    let picture = options.svg.as_ref().map(File::create).transpose().map_err(failed)?;
    let measured = bench.run(options.rounds)?;
    let words: Vec<_> = options.command.iter().map(|word| word.to_string_lossy()).collect();
    let title = format!("{}, {} rounds", words.join(" "), options.rounds);
    attack::print(&format!(
        "{title}; times in µs\n\n{}\n{}",
        ways(&measured),
        by_stage(&measured)
    ))?;
    if let Some(mut file) = picture {
        file.write_all(svg::picture(&title, &measured).as_bytes()).map_err(failed)?;
    }
    Ok(0)
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn cell(time: Option<Duration>) -> String {
    time.map_or_else(|| "-".to_owned(), |time| format!("{:.0}", micros(time)))
}

/// How many times as long as the first.
fn ratio(base: Option<Quartiles>, times: Option<Quartiles>) -> Option<f64> {
    let base = micros(base?.median);
    times.filter(|_| base > 0.0).map(|times| micros(times.median) / base)
}

/// A table of the ways, the baseline first.
fn ways(measured: &[Measured]) -> String {
    let mut table =
        format!("{:10}{:>36}{:>36}\n{:10}", "", "until the exec", "until all has ended", "way");
    for _ in 0..2 {
        let _ = write!(table, "{:>9}{:>9}{:>9}{:>9}", "quartile", "median", "quartile", "ratio");
    }
    table.push('\n');
    let plain = measured.iter().find(|one| one.way == Way::Plain);
    for one in measured {
        let _ = write!(table, "{:10}", one.way.name());
        if let Some(reason) = &one.missing {
            let _ = writeln!(table, "  not measured: {reason}");
            continue;
        }
        for times in [
            |one: &Measured| Quartiles::of(&one.started),
            |one: &Measured| Quartiles::of(&one.ended),
        ] {
            let own = times(one);
            let ratio = ratio(plain.and_then(times), own);
            let ratio = ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
            let [first, median, third] =
                [own.map(|it| it.first), own.map(|it| it.median), own.map(|it| it.third)].map(cell);
            let _ = write!(table, "{first:>9}{median:>9}{third:>9}{ratio:>9}");
        }
        let _ = writeln!(table, "  {}", one.way.meaning());
    }
    table
}

/// A table of the stages of a start, of the ways that have any.
fn by_stage(measured: &[Measured]) -> String {
    let inside: Vec<_> = measured.iter().filter(|one| one.way != Way::Plain).collect();
    let columns: Vec<_> = inside.iter().map(|one| one.by_stage()).collect();
    let mut table = format!("{:34}", "medians by stage, until the exec");
    for one in &inside {
        let _ = write!(table, "{:>10}", one.way.name());
    }
    table.push('\n');
    for (at, name) in stages::names().enumerate() {
        let _ = write!(table, "{name:34}");
        for column in &columns {
            let _ = write!(table, "{:>10}", cell(column.get(at).copied().flatten()));
        }
        table.push('\n');
    }
    table
}
