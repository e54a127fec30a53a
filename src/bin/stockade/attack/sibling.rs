//! Another sandbox of the same configuration, with a sentinel in it.

use std::io::{self, BufRead, BufReader, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use stockade::{Child, Sandbox};

use super::configuration::Configuration;

/// It ends with the handle.
#[derive(Debug)]
pub(crate) struct Sibling {
    child: Child,
    /// Its standard input and output.
    streams: BufReader<UnixStream>,
    pub(crate) facts: Vec<String>,
}

impl Sibling {
    /// Starts it, and waits until it stands.
    pub(crate) fn new(
        given: &Configuration,
        sandbox: &Sandbox,
        program: &Path,
    ) -> Result<Self, String> {
        let text = |error: io::Error| error.to_string();
        let (ours, theirs) = UnixStream::pair().map_err(text)?;
        let input = theirs.try_clone().map_err(text)?;
        let name = format!("name=stockade-attack-{}-sibling", std::process::id());
        let command =
            given.command_on_pipes(sandbox, program).args(["sentinel", "stage=/tmp", &name]);
        let command = command.stdin(OwnedFd::from(input)).stdout(OwnedFd::from(theirs));
        let child = command.stderr(stockade::Stdio::null()).spawn();
        let child = child.map_err(|error| error.to_string())?;
        let mut sibling = Sibling { child, streams: BufReader::new(ours), facts: Vec::new() };
        sibling.facts = sibling.read("ready=1").map_err(text)?;
        // Its own number is that of its namespace, which is another process here.
        let pid = sibling.child.program_id().unwrap_or(0);
        sibling.facts.push(format!("sentinel={pid}"));
        Ok(sibling)
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
        // Who has ended already has shut it.
        let _ = self.streams.get_ref().shutdown(Shutdown::Write);
        if let Err(error) = self.child.wait() {
            touched.push(format!("another sandbox: {error}"));
        }
        touched
    }
}
