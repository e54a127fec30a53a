//! What a program in a sandbox can find out about the host, found by looking.

use std::fmt;
use std::os::fd::RawFd;
use std::path::Path;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use crate::command::Command;
use crate::error::{Error, Result, Stage};
use crate::executable::{PROBE, errno_of};
use crate::namespace::Namespaces;
use crate::outcome::Outcome;
use crate::rootfs::Data;
use crate::sandbox::Sandbox;

mod facts;
mod format;
mod leak;
mod search;
mod structured;
mod told;

pub use leak::{Leak, Severity};

use facts::Facts;
use search::Search;

/// How long a look may take, where the sandbox has no limit of its own.
const TIME: Duration = Duration::from_secs(120);
/// Where the probe tells what it reads: a number that a caller's own descriptors hardly have.
const REPORT: RawFd = 250;

/// What a program in a sandbox can find out about the host: the result of
/// [`Sandbox::audit_view`](crate::Sandbox::audit_view), whose page says how it is found.
///
/// `Display` is a table, the most severe first.
///
/// # Examples
///
/// ```
/// use stockade::{Leak, Sandbox, Severity};
/// let audit = Sandbox::new().audit_view()?;
/// println!("{audit}");
/// assert!(audit.findings.iter().any(|finding| finding.leak == Leak::Kernel));
/// assert_eq!(audit.incomplete, None);
/// # Ok::<(), stockade::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Audit {
    /// What was found, the most severe first.
    pub findings: Vec<Finding>,
    /// How many files, directories and other things were looked at.
    pub entries: u64,
    /// How many bytes were read of them.
    pub bytes: u64,
    /// Why something may be missing, if so.
    pub incomplete: Option<String>,
}

impl Audit {
    /// What is more severe than this.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Leak, Network, Sandbox, Severity};
    /// let open = Sandbox::new().network(Network::Host).audit_view()?;
    /// assert!(open.above(Severity::Low).any(|finding| finding.leak == Leak::Network));
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn above(&self, severity: Severity) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(move |finding| finding.severity() > severity)
    }
}

impl fmt::Display for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.findings.iter().map(|finding| finding.leak.name().len());
        let width = names.max().unwrap_or(0);
        for finding in &self.findings {
            let (severity, leak) = (finding.severity().name(), finding.leak.name());
            let places = finding.places.join(", ");
            writeln!(f, "{severity:6}  {leak:width$}  {}", finding.shown)?;
            writeln!(f, "        {:width$}  in {places}", "")?;
            writeln!(f, "        {:width$}  closed by: {}", "", finding.closed_by)?;
        }
        let (count, entries, bytes) = (self.findings.len(), self.entries, self.bytes);
        writeln!(f, "{count} findings in {entries} entries and {bytes} bytes")?;
        match &self.incomplete {
            Some(reason) => writeln!(f, "incomplete: {reason}"),
            None => Ok(()),
        }
    }
}

/// One thing that tells something about the host, part of an [`Audit`].
///
/// # Examples
///
/// ```
/// use stockade::{Leak, Sandbox};
/// let audit = Sandbox::new().audit_view()?;
/// let kernel = audit.findings.iter().find(|finding| finding.leak == Leak::Kernel).ok_or("it shows")?;
/// assert!(kernel.places.contains(&"uname(2)".to_owned()));
/// println!("{}, closed by {}", kernel.shown, kernel.closed_by);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// What kind of thing it is.
    pub leak: Leak,
    /// What is shown, escaped and cut; of environment variables the name alone.
    pub shown: String,
    /// Where it was found: paths inside and system calls, the first five.
    pub places: Vec<String>,
    /// What to change in the builder, so that it does not show.
    pub closed_by: String,
}

impl Finding {
    /// How much it tells.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Sandbox, Severity};
    /// let audit = Sandbox::new().hide_host_paths(true).audit_view()?;
    /// assert!(audit.findings.iter().all(|finding| finding.severity() == Severity::Low));
    /// # Ok::<(), stockade::Error>(())
    /// ```
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.leak.severity()
    }
}

/// What the rest of the crate has of a command for it.
pub(crate) fn audit(sandbox: &Sandbox, command: Command) -> Result<Audit> {
    let plan = command.plan()?;
    let own_tree = plan.namespaces().contains(Namespaces::MOUNT);
    let failed = |operation| {
        move |error: std::io::Error| {
            Error::new(Stage::Prepare, operation, "for the probe", errno_of(&error))
        }
    };
    let (reading, writing) =
        pipe2(OFlag::O_CLOEXEC).map_err(|errno| failed("pipe")(errno.into()))?;
    let place = std::str::from_utf8(format::PLACE).unwrap_or_default();
    let mut probing = sandbox.clone();
    if sandbox.policy().wall.is_none() {
        probing = probing.wall_time(TIME);
    }
    let mut command = command;
    if own_tree {
        probing = probing.data(Data::file(place, PROBE.bytes()).mode(0o555));
        command = command.instead(probing, Path::new(place));
    } else {
        // Of the host's tree nothing is changed: it is executed where it is, in memory.
        let program = PROBE.open(sandbox.policy().init_file.as_deref())?;
        let number = REPORT + 1;
        command = command.instead(probing, Path::new(&format!("/proc/self/fd/{number}")));
        command = command.fd(number, program);
    }
    let facts = Facts::of_host(&plan, &command.variables());
    let mut search = Search::new(facts, sandbox);
    search.declared(&plan);
    let mut child = command.args(["p", &REPORT.to_string()]).fd(REPORT, writing).spawn()?;
    let mut reader = std::io::BufReader::with_capacity(1 << 16, std::fs::File::from(reading));
    let told = told::each(&mut reader, |item| search.examine(&item));
    // Should it still write, it is not waited for.
    drop(reader);
    let status = child.wait()?;
    let incomplete = match (told, status.outcome) {
        (Err(reason), _) => Some(reason.to_owned()),
        (Ok(()), Outcome::Exited(0)) => None,
        (Ok(()), outcome) => Some(format!("the probe was ended: {outcome}")),
    };
    Ok(search.result(incomplete))
}

/// Looks for nothing in what comes.
#[cfg(fuzzing)]
pub(crate) fn examine(told: &mut impl std::io::Read) {
    let mut search = Search::new(Facts::default(), &Sandbox::new());
    let told = told::each(told, |item| search.examine(&item));
    let audit = search.result(told.err().map(str::to_owned));
    assert!(!audit.to_string().is_empty());
}
