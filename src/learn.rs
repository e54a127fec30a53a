//! What a program was refused, or did not find because it was not in the sandbox: the notes of
//! [`Sandbox::learn`](crate::Sandbox::learn).

mod acl;
mod book;
mod calls;
#[cfg(feature = "footprint")]
mod files;
#[cfg(feature = "footprint")]
mod footprint;
#[cfg(fuzzing)]
pub(crate) mod fuzz;
mod journal;
mod judge;

mod look;
mod memory;
mod note;
mod readlog;
mod record;
mod remedy;

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;

use crate::capability::Capability;
use crate::landlock::Landlock;
use crate::outcome::{Outcome, Status};
use crate::policy::Policy;
use crate::rlimit::{Max, Resource};
#[cfg(feature = "footprint")]
pub(crate) use footprint::Declared;
#[cfg(feature = "footprint")]
pub use footprint::{Footprint, Gap, Read, ReadKind};
pub(crate) use journal::Journal;
pub(crate) use readlog::is_readable as reads_audit_log;
use remedy::Remedy;

/// Whether a journal is asked about a call even where it is allowed.
pub(crate) fn is_watched(number: u32) -> bool {
    calls::watched(number).is_some()
}

/// The argument of a call that is watched only if this is not 0.
pub(crate) fn needed_argument(number: u32) -> Option<u8> {
    calls::needed(number)
}

/// What a program wants of a file
/// ([open(2)](https://man7.org/linux/man-pages/man2/open.2.html)).
///
/// # Examples
///
/// ```
/// assert!(stockade::Access::Look < stockade::Access::Write);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Access {
    /// To see whether it is there, and what it is.
    Look,
    /// To read it, or to go into it.
    Read,
    /// To write it, to change what is known of it, or to make or remove its name.
    Write,
    /// To execute it.
    Execute,
}

/// What was refused
/// ([seccomp_unotify(2)](https://man7.org/linux/man-pages/man2/seccomp_unotify.2.html)).
///
/// # Examples
///
/// ```
/// use stockade::{Access, Denied};
/// let denied = Denied::Path { path: "/opt/data".into(), access: Access::Read };
/// assert_eq!(denied.to_string(), "\"/opt/data\" (read)");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Denied {
    /// A file that the host has and the sandbox has not, or that may not be used so.
    Path {
        /// From the root inside, without links that are on the way.
        path: PathBuf,
        /// What it was wanted for.
        access: Access,
    },
    /// A device that the host has and the sandbox has not.
    Device {
        /// From the root inside.
        path: PathBuf,
        /// What it was wanted for.
        access: Access,
    },
    /// A system call that the [profile](crate::Seccomp) refuses.
    SystemCall {
        /// As [syscalls(2)](https://man7.org/linux/man-pages/man2/syscalls.2.html) names it.
        name: String,
        /// Its number on this machine.
        number: u32,
        /// Its six arguments the first time, addresses among them.
        args: [u64; 6],
    },
    /// A capability that the program has not.
    Capability(Capability),
    /// Where a socket was to lead, or what it was to be bound to: an address and a port, or after an @ the abstract
    /// name of one of the host's.
    Address(String),
    /// A signal to a process that is not in the sandbox.
    Signal {
        /// Its number in the first pid namespace.
        pid: u32,
        /// Its name, as it chose it (up to 15 bytes).
        name: String,
    },
    /// A limit of this name that was reached.
    Limit(&'static str),
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = |access: &Access| match access {
            Access::Look => "look",
            Access::Read => "read",
            Access::Write => "write",
            Access::Execute => "execute",
        };
        match self {
            Denied::Path { path, access } => write!(f, "{path:?} ({})", verb(access)),
            Denied::Device { path, access } => write!(f, "the device {path:?} ({})", verb(access)),
            Denied::SystemCall { name, args, .. } => {
                let at = remedy::decisive(name);
                match at.and_then(|at| args.get(at)) {
                    Some(value) => write!(f, "{name} ({value:#x})"),
                    None => f.write_str(name),
                }
            }
            Denied::Capability(one) => one.fmt(f),
            Denied::Address(address) => f.write_str(address),
            Denied::Signal { pid, name } => write!(f, "a signal to {name:?} ({pid})"),
            Denied::Limit(name) => write!(f, "the limit of {name}"),
        }
    }
}

/// One thing that a program was refused, and what would allow it
/// ([errno(3)](https://man7.org/linux/man-pages/man3/errno.3.html)).
///
/// # Examples
///
/// ```
/// use stockade::Sandbox;
/// let script = "mount -t tmpfs x /tmp; true";
/// let mut child = Sandbox::new().learn().command("sh").args(["-c", script]).spawn()?;
/// child.wait()?;
/// let denials = child.denials();
/// let denial = denials.iter().find(|one| one.call == "mount" || one.call == "fsopen");
/// let line = denial.and_then(|one| one.line.as_deref()).ok_or("there is one")?;
/// assert_eq!(line, ".capabilities(Capabilities::keep([Capability::SYS_ADMIN]))");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Denial {
    /// What was refused.
    pub what: Denied,
    /// The error that the program got, `ENOENT` for example; 0 where a limit ended it.
    pub errno: i32,
    /// The name of the system call that asked for it first; empty for a limit, and for what Landlock says that it refused.
    pub call: String,
    /// The name of the process that made it, as it chose it (up to 15 bytes; `comm` of
    /// [proc(5)](https://man7.org/linux/man-pages/man5/proc.5.html)); empty where `call` is.
    pub program: String,
    /// How often it came up; 1 for limits.
    pub count: u64,
    /// The builder line that would allow it; `None` where none does, and then [`note`](Self::note) says why.
    pub line: Option<String>,
    /// What is to be known before it is allowed.
    pub note: Option<String>,
    change: Change,
}

/// How lines that are for one setter come together.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Change {
    Line,
    Rule(String),
    Capability(Capability),
    Wall(Wall),
}

/// What of [`Landlock`] is in the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wall {
    All,
    Bind(u16),
    Connect(u16),
}

/// What [`Child::denials`](crate::Child::denials) found, each thing once, in the order of its first occurrence
/// ([seccomp_unotify(2)](https://man7.org/linux/man-pages/man2/seccomp_unotify.2.html)).
///
/// Printed, it is the part of a builder that would allow all of it, with the reasons as comments. Read
/// it before you use it: it says what the program asked for, not what it should have.
///
/// # Examples
///
/// ```
/// use stockade::Sandbox;
/// let mut child = Sandbox::new().learn().command("cat").arg("/proc/meminfo").spawn()?;
/// child.wait()?;
/// let printed = child.denials().to_string();
/// assert!(printed.contains("\n    .proc(Proc::Compat)\n"), "{printed}");
/// # Ok::<(), stockade::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Denials {
    entries: Vec<Denial>,
    dropped: u64,
    unread: u64,
    settings: Settings,
}

/// What the setters that take all at once have already.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Settings {
    kept: Vec<Capability>,
    profile: &'static str,
    landlock: Landlock,
}

impl Denials {
    /// In the order of their first occurrence, as far as that is known of what Landlock refused; limits last.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(stockade::Denials::default().iter().count(), 0);
    /// ```
    pub fn iter(&self) -> std::slice::Iter<'_, Denial> {
        self.entries.iter()
    }

    /// Whether nothing was refused.
    ///
    /// # Examples
    ///
    /// ```
    /// assert!(stockade::Denials::default().is_empty());
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// How often something was refused that is not here: 4096 different things are noted.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(stockade::Denials::default().dropped(), 0);
    /// ```
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// How many calls could not be looked at: the process had ended, or it took longer than a second. Also how often
    /// the kernel's audit log had more than could be taken, or something of Landlock's that is not known.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(stockade::Denials::default().unread(), 0);
    /// ```
    #[must_use]
    pub fn unread(&self) -> u64 {
        self.unread
    }

    /// Adds what the end of the sandbox tells of its limits.
    pub(crate) fn add_limits(&mut self, status: &Status, policy: &Policy, wall: Option<Duration>) {
        let twice = |max: Option<Max>| match max {
            Some(Max::At(limit)) => Some(limit.saturating_mul(2)),
            _ => None,
        };
        let hits =
            status.usage.as_ref().map_or(0, |usage| usage.stats.pids.limit_hits.unwrap_or(0));
        if hits > 0 {
            let line = twice(policy.limits.pids.as_ref().and_then(|pids| pids.max))
                .map(|count| format!(".pids_limit({count})"));
            self.limit("processes", Errno::EAGAIN as i32, line);
        }
        match status.outcome {
            Outcome::OutOfMemory { limit, .. } => {
                let line = limit.map(|limit| format!(".memory_limit({})", limit.saturating_mul(2)));
                self.limit("memory", 0, line);
            }
            Outcome::TimedOut => {
                let line = wall.map(|wall| {
                    format!(".wall_time(Duration::from_secs({}))", (wall * 2).as_secs().max(1))
                });
                self.limit("wall time", 0, line);
            }
            Outcome::CpuTime => self.limit("CPU time", 0, None),
            _ => {}
        }
        for full in &status.disk_full {
            let default = full.mount == std::path::Path::new("/tmp");
            if full.bytes {
                let size = policy.tree.budget(None).saturating_mul(2);
                let line = default.then(|| format!(".tmp_size({size})"));
                self.limit("bytes in a file system in memory", Errno::ENOSPC as i32, line);
            }
            if full.inodes {
                let count = policy.tree.inodes.saturating_mul(2);
                let line = default.then(|| format!(".tmp_inodes({count})"));
                self.limit("files in a file system in memory", Errno::ENOSPC as i32, line);
            }
        }
    }

    fn limit(&mut self, name: &'static str, errno: i32, line: Option<String>) {
        let note = line.is_none().then(|| "raise it where it was set".to_owned());
        let (call, program, what) = (String::new(), String::new(), Denied::Limit(name));
        let change = Change::Line;
        self.entries.push(Denial { what, errno, call, program, count: 1, line, note, change });
    }

    pub(crate) fn with_settings(mut self, policy: &Policy) -> Self {
        self.settings = Settings {
            kept: policy.capabilities.bounding().iter().collect(),
            profile: policy.seccomp.expression(),
            landlock: policy.landlock.clone(),
        };
        self
    }
}

impl<'a> IntoIterator for &'a Denials {
    type Item = &'a Denial;
    type IntoIter = std::slice::Iter<'a, Denial>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// For the limit of open files, which is a process's own.
fn open_files(policy: &Policy) -> Remedy {
    let line = match policy.rlimits.limit(Resource::OpenFiles).soft {
        Max::At(limit) => {
            Some(format!(".rlimit(Resource::OpenFiles, {})", limit.saturating_mul(2)))
        }
        Max::Unlimited => None,
    };
    Remedy { line, note: None }
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Denial { what, errno, call, program, count, note, .. } = self;
        write!(f, "{what}")?;
        if *errno != 0 {
            write!(f, ": {:?}", Errno::from_raw(*errno))?;
        }
        if !call.is_empty() {
            write!(f, ", {call} of {program:?}")?;
        }
        if *count > 1 {
            write!(f, ", {count} times")?;
        }
        note.as_ref().map_or(Ok(()), |note| write!(f, "; {note}"))
    }
}

impl fmt::Display for Denials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.entries.is_empty() {
            f.write_str("// nothing was refused\n")?;
        } else {
            f.write_str("sandbox\n")?;
        }
        let (mut printed, mut rules, mut kept) = (BTreeSet::new(), String::new(), Vec::new());
        let mut walls = Vec::new();
        for denial in &self.entries {
            writeln!(f, "    // {denial}")?;
            match (&denial.change, &denial.line) {
                (Change::Rule(rule), _) => rules.push_str(rule),
                (Change::Capability(one), _) => kept.push(*one),
                (Change::Wall(one), _) => walls.push(*one),
                (Change::Line, Some(line)) if printed.insert(line) => writeln!(f, "    {line}")?,
                (Change::Line, _) => {}
            }
        }
        // Of these setters the last one holds, so all that is for them is in one.
        if !rules.is_empty() {
            writeln!(f, "    .seccomp({}{rules})", self.settings.profile)?;
        }
        if !kept.is_empty() {
            let all = self.settings.kept.iter().copied().chain(kept);
            writeln!(f, "    {}", remedy::capabilities(all))?;
        }
        if !walls.is_empty() {
            writeln!(f, "    {}", remedy::landlock(&self.settings.landlock, walls))?;
        }
        for (count, what) in [
            (self.dropped, "refusals more were not noted"),
            (self.unread, "calls could not be looked at"),
        ] {
            if count > 0 {
                writeln!(f, "// {count} {what}")?;
            }
        }
        Ok(())
    }
}
