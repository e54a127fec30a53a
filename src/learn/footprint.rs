//! What a run read and wrote, against what was declared: for tools that build.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

/// What a program did with a file that it did not write
/// ([open(2)](https://man7.org/linux/man-pages/man2/open.2.html)).
///
/// # Examples
///
/// ```
/// assert_ne!(stockade::ReadKind::Absent, stockade::ReadKind::Content);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ReadKind {
    /// It looked for it, and it was not there.
    Absent,
    /// It asked what it is: its kind, permissions and size, or only whether it is there.
    Metadata,
    /// It read where a link leads.
    Link,
    /// It opened a directory, and with that may have read the names in it.
    Names,
    /// It opened it for reading, or it was executed, or it is the interpreter or loader of what was.
    Content,
}

/// Something that a program read
/// ([open(2)](https://man7.org/linux/man-pages/man2/open.2.html)).
///
/// # Examples
///
/// ```
/// use stockade::{ReadKind, Sandbox};
/// let mut child = Sandbox::new().declare_inputs(["/usr"]).command("true").spawn()?;
/// child.wait()?;
/// let footprint = child.footprint().ok_or("asked for")?;
/// assert!(footprint.reads.iter().any(|read| read.kind == ReadKind::Content));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct Read {
    /// From the root inside, without links on the way.
    pub path: PathBuf,
    /// What it read of it.
    pub kind: ReadKind,
}

/// Why a [`Footprint`] may lack something
/// ([seccomp_unotify(2)](https://man7.org/linux/man-pages/man2/seccomp_unotify.2.html)).
///
/// # Examples
///
/// ```
/// assert_eq!(stockade::Gap::IoUring.to_string(), "the profile allows io_uring, which is not watched");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Gap {
    /// Standard input or a descriptor was passed in; what is read from it is not known.
    Descriptors,
    /// The profile allows io_uring.
    IoUring,
    /// The network is not the sandbox's own: what came from there is not known.
    Network,
    /// A call could not be looked at: this many.
    Unread(u64),
    /// More than 65536 different things were read or written: this many more.
    Dropped(u64),
    /// The content of this file or the names in this directory are not in the digest: it is larger than 256 MiB
    /// (65536 names), it changed, or the caller may not read it.
    NotDigested(PathBuf),
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Gap::Descriptors => f.write_str("descriptors were passed in"),
            Gap::IoUring => f.write_str("the profile allows io_uring, which is not watched"),
            Gap::Network => f.write_str("the network is not the sandbox's own"),
            Gap::Unread(count) => write!(f, "{count} calls could not be looked at"),
            Gap::Dropped(count) => write!(f, "{count} files more were not noted"),
            Gap::NotDigested(path) => write!(f, "{path:?} is not in the digest"),
        }
    }
}

/// What a run read and wrote, and how that differs from what was
/// [declared](crate::Sandbox::declare_inputs); [`Child::footprint`](crate::Child::footprint) gives it
/// ([seccomp_unotify(2)](https://man7.org/linux/man-pages/man2/seccomp_unotify.2.html)).
///
/// What the program wrote first and then read is no input. What is in a file system in memory of the sandbox's
/// own (/tmp, the home directory) is neither input nor output, as it begins empty and is gone at
/// the end, unless it was declared or put there. Processes of /proc are left out.
///
/// # Examples
///
/// ```
/// use stockade::Sandbox;
/// let sandbox = Sandbox::new().file("/in", "data").file("/other", "more").declare_inputs(["/in", "/usr", "/etc"]);
/// let mut child = sandbox.command("cat").args(["/in", "/other"]).spawn()?;
/// child.wait()?;
/// let footprint = child.footprint().ok_or("asked for")?;
/// assert!(footprint.undeclared_reads.iter().any(|read| read.path.ends_with("other")), "{footprint}");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Footprint {
    /// All that was read, in the order of paths.
    pub reads: Vec<Read>,
    /// All that was written, made, removed, renamed or changed, in the order of paths.
    pub writes: Vec<PathBuf>,
    /// What was read and is not at or below a declared input or output. Whether a directory is there that leads
    /// to a declared one is not counted.
    pub undeclared_reads: Vec<Read>,
    /// Declared inputs of which nothing was read.
    pub unread_inputs: Vec<PathBuf>,
    /// What was written and is not at or below a declared output.
    pub undeclared_writes: Vec<PathBuf>,
    /// SHA-256 of all that was read: paths, what was read of them, and contents as they were then; no
    /// times, inode numbers or owners. Equal digests of two runs mean equal inputs, as far as [`gaps`](Self::gaps) is empty.
    pub digest: [u8; 32],
    /// Why something may be missing.
    pub gaps: Vec<Gap>,
}

impl fmt::Display for Footprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Read { path, kind } in &self.undeclared_reads {
            let what = match kind {
                ReadKind::Absent => "looked for and not found",
                ReadKind::Metadata => "asked for",
                ReadKind::Link | ReadKind::Content => "read",
                ReadKind::Names => "listed",
            };
            writeln!(f, "{what}, and not declared: {path:?}")?;
        }
        for path in &self.unread_inputs {
            writeln!(f, "declared, and not read: {path:?}")?;
        }
        for path in &self.undeclared_writes {
            writeln!(f, "written, and not declared: {path:?}")?;
        }
        for gap in &self.gaps {
            writeln!(f, "may be incomplete: {gap}")?;
        }
        f.write_str("digest of what was read: ")?;
        self.digest.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("\n")
    }
}

/// What was declared: paths from the root inside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Declared {
    pub(crate) inputs: BTreeSet<PathBuf>,
    pub(crate) outputs: BTreeSet<PathBuf>,
}

impl Declared {
    pub(crate) fn problems(&self, problems: &mut Vec<String>) {
        for path in self.inputs.iter().chain(&self.outputs) {
            if !path.is_absolute() {
                problems.push(format!("the declared path {path:?} is not absolute"));
            }
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &PathBuf> {
        self.inputs.iter().chain(&self.outputs)
    }

    pub(super) fn covers(&self, path: &Path) -> bool {
        self.all().any(|declared| path.starts_with(declared))
    }

    /// Whether a declared path lies below this one.
    pub(super) fn leads_to(&self, path: &Path) -> bool {
        self.all().any(|declared| declared.starts_with(path))
    }
}
