//! Log records on standard error.

use log::{LevelFilter, Log, Metadata, Record};

#[derive(Debug)]
struct Stderr;

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            let level = record.level().as_str().to_ascii_lowercase();
            eprintln!("stockade: {level}: {}: {}", record.target(), record.args());
        }
    }

    fn flush(&self) {}
}

/// From now on: warnings, with `-v` each stage of a spawn, with `-vv` everything.
pub(crate) fn install(verbose: u8) {
    log::set_max_level(match verbose {
        0 => LevelFilter::Warn,
        1 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    });
    // Fails only if there is one already, and nothing else here installs one.
    let _ = log::set_logger(&Stderr);
}
