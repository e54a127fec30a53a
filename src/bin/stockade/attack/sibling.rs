//! Another sandbox of the same configuration, with a sentinel in it.

use std::io::{self, BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{self, Stdio};
use std::time::Duration;

use stockade::Child;

use super::configuration::Configuration;
use super::peer;
use super::source::Source;

/// How long another program may take to end.
const TIME: Duration = Duration::from_secs(5);

/// Whoever holds it.
#[derive(Debug)]
enum Holder {
    Sandbox(Box<Child>, #[allow(dead_code, reason = "a session lives as long")] Source),
    Peer(process::Child),
}

/// It ends with the handle.
#[derive(Debug)]
pub(crate) struct Sibling {
    child: Holder,
    /// Its standard input and output.
    streams: BufReader<UnixStream>,
    pub(crate) facts: Vec<String>,
}

impl Sibling {
    /// Starts it, and waits until it stands.
    pub(crate) fn new(
        given: &Configuration,
        beside: &Source,
        program: &Path,
    ) -> Result<Self, String> {
        let text = |error: io::Error| error.to_string();
        let failed = |error: stockade::Error| error.to_string();
        let source = beside.another(program).map_err(failed)?;
        let command = source.command(program).map_err(failed)?;
        let (ours, theirs) = UnixStream::pair().map_err(text)?;
        let input = theirs.try_clone().map_err(text)?;
        let name = format!("name=stockade-attack-{}-sibling", std::process::id());
        let command = given.command_on_pipes(command).args(["sentinel", "stage=/tmp", &name]);
        let command = command.stdin(OwnedFd::from(input)).stdout(OwnedFd::from(theirs));
        let child = command.stderr(stockade::Stdio::null()).spawn();
        let child = child.map_err(failed)?;
        let pid = child.program_id().unwrap_or(0);
        let mut sibling =
            Self::heard(Holder::Sandbox(Box::new(child), source), ours).map_err(text)?;
        // Its own number is that of its namespace, which is another process here.
        sibling.facts.push(format!("sentinel={pid}"));
        Ok(sibling)
    }

    /// The same in a sandbox that another program makes.
    pub(crate) fn of_peer(mut command: process::Command) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        let name = format!("name=stockade-attack-{}-sibling", process::id());
        let words = ["sentinel", "stage=/tmp", &name];
        command.args(words).stdin(OwnedFd::from(theirs.try_clone()?)).stdout(OwnedFd::from(theirs));
        let child = command.stderr(Stdio::null()).spawn()?;
        let program = command.get_args().next().unwrap_or_default().to_string_lossy().into_owned();
        drop(command);
        let mut sibling = Self::heard(Holder::Peer(child), ours)?;
        let pid = peer::find(&[&program, words[0], words[1], words[2]])?;
        let pid = pid.ok_or_else(|| io::Error::other("its process is not to be found"))?;
        sibling.facts.push(format!("sentinel={pid}"));
        Ok(sibling)
    }

    fn heard(child: Holder, streams: UnixStream) -> io::Result<Self> {
        let mut sibling = Sibling { child, streams: BufReader::new(streams), facts: Vec::new() };
        match sibling.read("ready=1") {
            Ok(facts) => sibling.facts = facts,
            Err(error) => {
                sibling.end()?;
                return Err(error);
            }
        }
        Ok(sibling)
    }

    fn end(&mut self) -> io::Result<()> {
        // Who has ended already has shut it.
        let _ = self.streams.get_ref().shutdown(Shutdown::Write);
        match &mut self.child {
            Holder::Sandbox(child, _) => child.wait().map(drop).map_err(io::Error::other),
            Holder::Peer(child) => peer::end(child, TIME).map(drop),
        }
    }

    fn read(&mut self, until: &str) -> io::Result<Vec<String>> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if self.streams.read_line(&mut line)? == 0 {
                return Err(io::Error::other("the other sandbox has ended"));
            }
            match line.trim_end() {
                line if line == until => return Ok(lines),
                line => lines.push(line.to_owned()),
            }
        }
    }

    /// What has happened to it; it ends then.
    pub(crate) fn touched(mut self) -> Vec<String> {
        let asked = self.streams.get_mut().write_all(b"\n").and_then(|()| self.read("pong=1"));
        let lines = asked.unwrap_or_else(|error| vec![format!("touched={error}")]);
        let told = lines.iter().filter_map(|line| line.strip_prefix("touched="));
        let mut touched: Vec<_> = told.map(|what| format!("in another sandbox: {what}")).collect();
        if let Err(error) = self.end() {
            touched.push(format!("another sandbox: {error}"));
        }
        touched
    }
}
