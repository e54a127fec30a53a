//! A test harness that runs each of 2,000 small tests in a sandbox of its own, taken from a pool, and the same
//! tests without.
//!
//! `cargo run --release --example harness -- [TESTS]`
//!
//! The tests are ill-behaved, as tests are: each leaves a file where the others look for it, and a process that
//! goes on. Without sandboxes they see each other; a pooled sandbox is used once, so that inside no test ever
//! does.

use std::error::Error;
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use stockade::{Pool, Sandbox};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Tests that run side by side.
const THREADS: usize = 4;
const TURNS: usize = 4;
/// `$1` is the test's number, `$2` where all tests may write. Says if it sees another one.
const TEST: &str = r#"
    set -e
    test ! -e "$2/left" || echo "sees another one"
    echo "$1" >state
    : >"$2/left"
    sleep 1 >/dev/null 2>&1 &
    read -r number <state
    test "$number" = "$1"
"#;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("harness: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let tests = std::env::args().nth(1).map_or(Ok(2000), |text| text.parse())?;
    let sandbox = Sandbox::new().wall_time(Duration::from_secs(10));
    let pool = sandbox.prepare()?.pool(2 * THREADS)?;
    let (mut bare, mut inside) = (Sum::default(), Sum::default());
    // By turns, so that what else the machine does falls on both.
    for turn in 0..TURNS {
        let range = turn * tests / TURNS..(turn + 1) * tests / TURNS;
        all("without", range.clone(), &mut bare, without)?;
        all("in sandboxes", range, &mut inside, |number, _| in_sandbox(&pool, number))?;
    }
    let metrics = pool.metrics();
    println!("{tests} tests in {THREADS} threads");
    for (name, sum) in [("without sandboxes", &bare), ("in sandboxes", &inside)] {
        println!(
            "{name:18} {:4} passed, {:4} saw another one, {:.2} s, {:.2} ms for each",
            sum.passed,
            sum.disturbed,
            sum.time.as_secs_f64(),
            each(sum, tests)
        );
    }
    println!(
        "a sandbox costs {:.2} ms, {:.2} times the test; {} were ready, {} had to be made",
        each(&inside, tests) - each(&bare, tests),
        each(&inside, tests) / each(&bare, tests),
        metrics.hits,
        metrics.misses
    );
    if inside.passed == tests && inside.disturbed == 0 {
        return Ok(());
    }
    Err("not all passed, or one saw another".into())
}

/// Milliseconds.
fn each(sum: &Sum, tests: usize) -> f64 {
    sum.time.as_secs_f64() * 1e3 / tests.max(1) as f64
}

/// What came of all tests.
#[derive(Default)]
struct Sum {
    passed: usize,
    disturbed: usize,
    time: Duration,
}

/// How one ended: whether it passed, and whether it saw another.
type Ended = (bool, bool);

/// Runs the tests in threads, with a bar that shows how far they are.
fn all(
    name: &'static str,
    tests: Range<usize>,
    sum: &mut Sum,
    test: impl Fn(usize, &Path) -> Result<Ended> + Sync,
) -> Result<()> {
    let scratch = tempfile::tempdir()?;
    let style = ProgressStyle::with_template("{msg:14} {wide_bar} {pos}/{len} {per_sec}")?;
    let bar = ProgressBar::new(tests.len() as u64).with_style(style).with_message(name);
    let next = AtomicUsize::new(tests.start);
    let (passed, disturbed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || -> Result<()> {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= tests.end {
                return Ok(());
            }
            let (well, saw) = test(number, scratch.path())?;
            passed.fetch_add(usize::from(well), Ordering::Relaxed);
            disturbed.fetch_add(usize::from(saw), Ordering::Relaxed);
            bar.inc(1);
        }
    };
    let began = Instant::now();
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| match worker.join() {
            Ok(done) => done,
            Err(_) => Err("a thread panicked".into()),
        })
    })?;
    sum.time += began.elapsed();
    sum.passed += passed.into_inner();
    sum.disturbed += disturbed.into_inner();
    bar.finish_and_clear();
    Ok(())
}

/// In a fresh directory, which is what can be done without a sandbox.
fn without(number: usize, scratch: &Path) -> Result<Ended> {
    let directory = scratch.join(number.to_string());
    fs::create_dir(&directory)?;
    let output = Command::new("/bin/sh")
        .args(["-c", TEST, "test", &number.to_string()])
        .arg(scratch)
        .current_dir(&directory)
        .stdin(Stdio::null())
        .output()?;
    fs::remove_dir_all(&directory)?;
    Ok((output.status.success(), !output.stdout.is_empty()))
}

fn in_sandbox(pool: &Pool, number: usize) -> Result<Ended> {
    let command = pool.command("/bin/sh").args(["-c", TEST, "test", &number.to_string(), "/tmp"]);
    let output = command.output()?;
    Ok((output.outcome.is_success(), !output.stdout.is_empty()))
}
