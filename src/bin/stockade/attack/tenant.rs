//! A program that was in another sandbox of the same configuration before, and what it has left.

use std::io::{self, BufRead, BufReader};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use super::configuration::Configuration;
use super::peer;
use super::source::Source;
use super::stage::Stage;
use super::table::Attempt;
use super::trial::REPORT;

/// How long it may take.
const TIME: Duration = Duration::from_secs(20);

/// It is over; a process that it has left goes on as long as this is there, where nobody ends it.
#[derive(Debug)]
pub(crate) struct Tenant {
    _lifeline: BufReader<UnixStream>,
    /// A sandbox that has others goes on as well.
    _source: Option<Source>,
    pub(crate) facts: Vec<String>,
}

/// What it and its successor are told, with a place for a mount.
fn words(attempt: &Attempt, room: &Path) -> Vec<String> {
    /// The kernel's numbers of processes are below that.
    const KEY: u32 = 0x5700_0000;
    let pid = std::process::id();
    vec![
        format!("what={}", attempt.function),
        format!("mark=stockade-attack-{pid}-left"),
        format!("comm=left-{pid}"),
        format!("ipc_key={}", KEY | pid),
        format!("room={}", room.display()),
    ]
}

impl Tenant {
    /// In another sandbox than the next one.
    pub(crate) fn in_sandbox(
        given: &Configuration,
        beside: &Source,
        program: &Path,
        attempt: &Attempt,
    ) -> Result<Self, String> {
        let text = |error: stockade::Error| error.to_string();
        let source = beside.another(program).map_err(text)?;
        let (ours, theirs) = UnixStream::pair().map_err(|error| error.to_string())?;
        let words = words(attempt, Path::new("/tmp"));
        let mut command = given.command(source.command(program).map_err(text)?);
        command = command.arg("leave").args(&words).arg(format!("report={REPORT}"));
        if !given.has_terminal() {
            command = command.stdin(stockade::Stdio::null()).stdout(stockade::Stdio::null());
            command = command.stderr(stockade::Stdio::null());
        }
        let ended = command.fd(REPORT, OwnedFd::from(theirs)).status().map_err(text)?;
        log::debug!("the tenant before: {ended:?}");
        Self::heard(ours, words, Some(source)).map_err(|error| error.to_string())
    }

    /// Where there is no sandbox.
    pub(crate) fn outside(stage: &Stage, attempt: &Attempt) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        fcntl(&theirs, FcntlArg::F_SETFD(FdFlag::empty()))?;
        let words = words(attempt, &stage.path("writable"));
        let mut command = Command::new(stage.path("program"));
        command.process_group(0);
        command.arg("leave").args(&words).arg(format!("report={}", theirs.as_raw_fd()));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        drop(theirs);
        peer::end(&mut child, TIME)?;
        Self::heard(ours, words, None)
    }

    /// In a sandbox that another program makes.
    pub(crate) fn of_peer(mut command: Command, attempt: &Attempt) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let words = words(attempt, Path::new("/tmp"));
        command.arg("leave").args(&words).arg("report=1");
        command.stdin(Stdio::null()).stdout(OwnedFd::from(theirs)).stderr(Stdio::null());
        let mut child = command.spawn()?;
        drop(command);
        peer::end(&mut child, TIME)?;
        Self::heard(ours, words, None)
    }

    fn heard(ours: UnixStream, mut facts: Vec<String>, source: Option<Source>) -> io::Result<Self> {
        ours.set_read_timeout(Some(TIME))?;
        let mut lifeline = BufReader::new(ours);
        loop {
            let mut line = String::new();
            if lifeline.read_line(&mut line)? == 0 {
                return Err(io::Error::other("the program before ended without a word"));
            }
            if line == "left=1\n" {
                return Ok(Tenant { _lifeline: lifeline, _source: source, facts });
            }
            facts.push(line.trim_end().to_owned());
        }
    }
}
