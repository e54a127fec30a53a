//! Keeps a machine busy with sandboxes of all kinds, ends them and their makers in all manners, and looks
//! whether the host is then as it was.
//!
//! `cargo run --features cli --example soak -- [SECONDS] [SEED]`; `.ci/soak` runs it as root and as a user.
//!
//! This process makes no sandbox. It starts *embedders*, copies of itself with eight threads, each
//! of which makes sandboxes of random settings in a random way (its own, prepared, a session, a pool) and has them
//! end by themselves, by a signal, by their time, with their handle, or by the death of init. Most embedders are
//! killed in the middle of it. Whatever one of them leaves becomes a child of this process, as
//! orphans do that have a subreaper, so that nothing can hide.

#[path = "soak/embedder.rs"]
mod embedder;
#[path = "soak/host.rs"]
mod host;
#[path = "soak/random.rs"]
mod random;

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use host::Host;
use random::Random;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// How long an embedder may take to end when it is told to, and the kernel to end what a dead one has left.
const PATIENCE: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--embedder", seed] => seed.parse().map_err(Into::into).and_then(embedder::run),
        ["--embedder", ..] => Err("--embedder is for its own use".into()),
        [] => soak(30, None),
        [seconds] => seconds.parse().map_err(Into::into).and_then(|seconds| soak(seconds, None)),
        [seconds, seed] => match (seconds.parse(), seed.parse()) {
            (Ok(seconds), Ok(seed)) => soak(seconds, Some(seed)),
            _ => Err("the seconds or the seed is no number".into()),
        },
        _ => Err("soak [SECONDS] [SEED]".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What has been done.
#[derive(Default)]
struct Sum {
    embedders: u64,
    killed: u64,
    /// By way and end.
    ends: BTreeMap<String, u64>,
}

fn soak(seconds: u64, seed: Option<u64>) -> Result<()> {
    let mut random = Random::new(seed);
    println!("soak for {seconds} s, with the seed {}", random.seed());
    nix::sys::prctl::set_child_subreaper(true)?;
    let scratch = tempfile::tempdir()?;
    // Once beforehand: what is made for the first sandbox of all and kept is no leak.
    let mut sum = Sum::default();
    turn(&mut random, Duration::from_secs(1), false, scratch.path(), &mut sum)?;
    let before = Host::look(scratch.path())?;
    let until = Instant::now() + Duration::from_secs(seconds);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        let time = Duration::from_millis(random.below(8000) + 50).min(left);
        let kills = !random.one_in(4);
        turn(&mut random, time, kills, scratch.path(), &mut sum)?;
    }
    for (name, count) in &sum.ends {
        println!("{count:>8} {name}");
    }
    let sandboxes = sum.ends.values().sum();
    println!(
        "{sandboxes} ends told by {} embedders, of which {} were killed",
        sum.embedders, sum.killed
    );
    before.compare(scratch.path(), sandboxes, PATIENCE)
}

/// One embedder, which is killed after a while or told to end.
fn turn(
    random: &mut Random,
    time: Duration,
    kills: bool,
    scratch: &std::path::Path,
    sum: &mut Sum,
) -> Result<()> {
    let seed = random.below(u64::MAX).to_string();
    let mut child = Command::new(std::env::current_exe()?)
        .args(["--embedder", &seed])
        .env("TMPDIR", scratch)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = child.stdout.take().ok_or("standard output is piped")?;
    let told = std::thread::spawn(move || {
        let mut ends: BTreeMap<String, u64> = BTreeMap::new();
        // The last line of a killed one may be a part.
        for line in BufReader::new(output).lines().map_while(std::result::Result::ok) {
            *ends.entry(line).or_default() += 1;
        }
        ends
    });
    std::thread::sleep(time);
    let status = if kills {
        child.kill()?;
        child.wait()?
    } else {
        drop(child.stdin.take());
        wait(&mut child)?
    };
    sum.embedders += 1;
    sum.killed += u64::from(kills);
    if !kills && !status.success() {
        return Err(format!("the embedder with the seed {seed} ended with {status}").into());
    }
    if kills && status.code().is_some() {
        return Err(format!("the embedder with the seed {seed} ended by itself: {status}").into());
    }
    host::await_no_child(PATIENCE).map_err(|left| format!("seed {seed}: {left}"))?;
    // Nobody holds the pipe any more.
    for (name, count) in told.join().map_err(|_| "the reading thread panicked")? {
        *sum.ends.entry(name).or_default() += count;
    }
    Ok(())
}

fn wait(child: &mut Child) -> Result<std::process::ExitStatus> {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill()?;
    Err(format!("the embedder does not end: {}", child.wait()?).into())
}
