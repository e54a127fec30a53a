//! A sandbox that another program makes.
//!
//! It is started with the words that are to run inside, and told by variables what has to be there, each
//! at the path that it has outside.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::finding::Finding;
use super::stage::Stage;
use super::table::{Attempt, Plant};

/// How long an attempt may take.
const TIME: Duration = Duration::from_secs(20);
/// How long the program has to clean up then.
const GRACE: Duration = Duration::from_secs(2);
/// What is found if the environment outside is.
const VARIABLE: &str = "STOCKADE_ATTACK_SECRET";

/// The program that is to start the attacking one, with what the attempt needs.
pub(crate) fn command(peer: &Path, stage: &Stage, attempt: &Attempt) -> Command {
    let mut command = Command::new(peer);
    // What it may change for its own purposes is gone with its group.
    command.process_group(0);
    command.env(VARIABLE, "of the environment").env("ATTACK_PROGRAM", stage.path("program"));
    for (plant, name, path) in [
        (Plant::Writable, "ATTACK_WRITABLE", "writable"),
        (Plant::ReadOnly, "ATTACK_READ_ONLY", "readonly"),
    ] {
        if attempt.needs(plant) {
            command.env(name, stage.path(path));
        }
    }
    if attempt.needs(Plant::Starts) {
        command.env("ATTACK_OTHERS", "1");
    }
    command.arg(stage.path("program"));
    command
}

/// Makes an attempt; the program inside reports to its standard output.
pub(crate) fn attack(
    mut command: Command,
    attempt: &Attempt,
    facts: &[String],
    input: Option<File>,
    report: OwnedFd,
) -> io::Result<Finding> {
    command.arg(attempt.function).args(facts).args(["report=1", "shared_tree=1"]);
    command.arg(format!("planted_variable={VARIABLE}"));
    command.stdin(input.map_or_else(Stdio::null, Stdio::from)).stdout(report);
    let mut child = command.stderr(Stdio::null()).spawn()?;
    drop(command);
    Ok(match end(&mut child, TIME)? {
        Some(status) => of_status(status),
        None => Finding::cut(format!(
            "it had not ended after {} s, and was killed from outside",
            TIME.as_secs()
        )),
    })
}

fn of_status(status: ExitStatus) -> Finding {
    const BY_SHELL: i32 = 128 + libc::SIGSYS;
    if status.signal() == Some(libc::SIGSYS) || status.code() == Some(BY_SHELL) {
        return Finding::held("the program was ended by SIGSYS");
    }
    Finding::broken(format!("the program ended without a word: {status}"))
}

/// Waits for its end for that long, and kills its process group then.
pub(crate) fn end(child: &mut Child, time: Duration) -> io::Result<Option<ExitStatus>> {
    if let Some(status) = wait(child, time)? {
        return Ok(Some(status));
    }
    let group = Pid::from_raw(child.id().try_into().map_err(io::Error::other)?);
    killpg(group, Signal::SIGTERM)?;
    if wait(child, GRACE)?.is_none() {
        killpg(group, Signal::SIGKILL)?;
        child.wait()?;
    }
    Ok(None)
}

fn wait(child: &mut Child, time: Duration) -> io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + time;
    loop {
        let status = child.try_wait()?;
        if status.is_some() || Instant::now() > deadline {
            return Ok(status);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The process that was started with these words, by its number outside.
pub(crate) fn find(words: &[&str]) -> io::Result<Option<u32>> {
    for entry in std::fs::read_dir("/proc")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // It may have ended.
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let found: Vec<_> = line.split(|&byte| byte == 0).collect();
        if found.len() > words.len() && words.iter().zip(&found).all(|(a, b)| a.as_bytes() == *b) {
            return Ok(Some(pid));
        }
    }
    Ok(None)
}
