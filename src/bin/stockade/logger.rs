//! Log records on standard error, or kept for who measures.

use std::cell::RefCell;
use std::sync::OnceLock;

use log::{LevelFilter, Log, Metadata, Record};

#[derive(Debug)]
struct Stderr;

/// What is shown.
static SHOWN: OnceLock<LevelFilter> = OnceLock::new();

thread_local! {
    /// What this thread has logged, while it is kept.
    static KEPT: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

fn shown() -> LevelFilter {
    SHOWN.get().copied().unwrap_or(LevelFilter::Off)
}

impl Log for Stderr {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        KEPT.with_borrow_mut(|kept| kept.as_mut().map(|kept| kept.push(record.args().to_string())));
        if record.level() <= shown() {
            let level = record.level().as_str().to_ascii_lowercase();
            eprintln!("stockade: {level}: {}: {}", record.target(), record.args());
        }
    }

    fn flush(&self) {}
}

/// From now on: warnings, with `-v` each stage of a spawn, with `-vv` everything.
pub(crate) fn install(verbose: u8) {
    let level = match verbose {
        0 => LevelFilter::Warn,
        1 => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    };
    log::set_max_level(*SHOWN.get_or_init(|| level));
    // Fails only if there is one already, and nothing else here installs one.
    let _ = log::set_logger(&Stderr);
}

/// What this thread logs of the stages of a spawn while it does this.
pub(crate) fn keep<T>(work: impl FnOnce() -> T) -> (T, Vec<String>) {
    KEPT.set(Some(Vec::new()));
    log::set_max_level(shown().max(LevelFilter::Debug));
    let result = work();
    log::set_max_level(shown());
    (result, KEPT.take().unwrap_or_default())
}
