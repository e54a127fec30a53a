//! What can go wrong, and how it is told.

use std::fmt;
use std::path::PathBuf;

use nix::errno::Errno;

use crate::hint::Hint;

/// Why a sandbox could not be made, run or asked.
///
/// A failure after the validation means that everything done so far was undone: no process, mount
/// or descriptor of it is left.
///
/// # Examples
///
/// ```
/// let error = stockade::Sandbox::new().command("/no/such/program").spawn().unwrap_err();
/// assert_eq!(error.raw_os_error(), Some(2)); // ENOENT
/// assert_eq!(error.stage(), Some(stockade::Stage::Start));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The description contradicts itself; nothing was tried. All contradictions are listed, one
    /// sentence for each.
    #[error("invalid sandbox: {}", .0.join("; "))]
    Invalid(Vec<String>),
    /// This system cannot give something that was asked for.
    #[error("this system lacks {feature}: {reason}")]
    Unsupported {
        /// What is missing.
        feature: Feature,
        /// Why, and what to do about it.
        reason: String,
    },
    /// A step failed.
    #[error(transparent)]
    Failed(#[from] Box<Failed>),
}

/// A step that failed: where, what, on what, with which answer of the kernel's.
///
/// `Display` shows all of it in one line: operation, object, error and hint.
///
/// # Examples
///
/// ```
/// use stockade::{Sandbox, Stage};
/// let error = Sandbox::new().command("true").current_dir("/nowhere").spawn().unwrap_err();
/// let failed = error.failed().unwrap();
/// assert_eq!(failed.stage, Stage::Start);
/// assert_eq!(failed.object, r#""/nowhere""#);
/// assert_eq!(failed.raw_os_error(), 2); // ENOENT
/// println!("{failed}");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Failed {
    /// The part of a sandbox's life.
    pub stage: Stage,
    /// The system call, or what a group of them does.
    pub operation: &'static str,
    /// What it was done to: a path, a namespace, a limit; empty where there is no such thing.
    pub object: String,
    /// The kernel's answer.
    pub(crate) errno: Errno,
    /// What to do about it, where that is known.
    pub hint: Option<Hint>,
}

impl Failed {
    /// The kernel's answer, a number of
    /// [errno(3)](https://man7.org/linux/man-pages/man3/errno.3.html).
    ///
    /// # Examples
    ///
    /// ```
    /// let error = stockade::Sandbox::new().command("/usr").spawn().unwrap_err();
    /// let failed = error.failed().unwrap();
    /// let kind = std::io::Error::from_raw_os_error(failed.raw_os_error()).kind();
    /// assert_eq!(kind, std::io::ErrorKind::PermissionDenied);
    /// ```
    #[must_use]
    pub fn raw_os_error(&self) -> i32 {
        self.errno as i32
    }
}

impl std::error::Error for Failed {}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.operation)?;
        if !self.object.is_empty() {
            write!(f, " {}", self.object)?;
        }
        let text = std::io::Error::from(self.errno).to_string();
        let mut letters = text.chars();
        let first = letters.next().map(|letter| letter.to_ascii_lowercase());
        let text: String = first.into_iter().chain(letters).collect();
        write!(f, ": {text}")?;
        match &self.hint {
            Some(hint) => write!(f, "; hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// The part of a sandbox's life in which something failed.
///
/// # Examples
///
/// ```
/// use stockade::{Sandbox, Stage};
/// let error = Sandbox::new().command("/no/such/program").spawn().unwrap_err();
/// assert_eq!(error.stage(), Some(Stage::Start));
/// assert_eq!(Stage::Start.to_string(), "start");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// Making descriptors, detached mounts and the plan, in the caller's process.
    Prepare,
    /// Cloning, and executing the init program.
    Launch,
    /// Making control groups, and putting the sandbox into them.
    Cgroup,
    /// Joining existing namespaces.
    Join,
    /// Writing the user and group maps.
    Identity,
    /// Carrying out the plan, inside.
    Setup,
    /// Executing the program.
    Start,
    /// Waiting, signalling, reading output.
    Run,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Prepare => "prepare",
            Stage::Launch => "launch",
            Stage::Cgroup => "cgroup",
            Stage::Join => "join",
            Stage::Identity => "identity",
            Stage::Setup => "setup",
            Stage::Start => "start",
            Stage::Run => "run",
        })
    }
}

/// A protection that a system may be unable to give.
///
/// [`Sandbox::best_effort`](crate::Sandbox::best_effort) lets a sandbox run without one,
/// [`Sandbox::require`](crate::Sandbox::require) insists on one that is best effort by default, and
/// [`Child::missing`](crate::Child::missing) lists what a running sandbox lacks.
///
/// # Examples
///
/// ```
/// use stockade::{Feature, Sandbox};
/// let sandbox = Sandbox::new().best_effort(Feature::SessionKeyring);
/// let child = sandbox.command("true").spawn()?;
/// for feature in child.missing() {
///     println!("this system lacks {feature}");
/// }
/// # Ok::<(), stockade::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Feature {
    /// The caller's supplementary groups are dropped. Best effort by default: an unprivileged
    /// caller cannot drop its groups in a namespace in which `setgroups` is denied
    /// ([user_namespaces(7)](https://man7.org/linux/man-pages/man7/user_namespaces.7.html)).
    SupplementaryGroups,
    /// `user.max_user_namespaces` is 0 inside, besides the filter that forbids nested user
    /// namespaces. Best effort by default: some systems mount /proc/sys read-only.
    NestedUserNamespaceCount,
    /// `user.max_inotify_instances` is 32 inside and `user.max_inotify_watches` 8192: both count for who made
    /// the user namespace, on the host too. Best effort by default: some systems mount /proc/sys read-only,
    /// and without a user namespace the limits are the caller's
    /// ([inotify(7)](https://man7.org/linux/man-pages/man7/inotify.7.html)).
    InotifyLimits,
    /// A session keyring of its own
    /// ([keyrings(7)](https://man7.org/linux/man-pages/man7/keyrings.7.html)). Required by default.
    SessionKeyring,
    /// A time namespace of its own (Linux 5.6,
    /// [time_namespaces(7)](https://man7.org/linux/man-pages/man7/time_namespaces.7.html)). Required
    /// by default.
    TimeNamespace,
    /// A raised `oom_score_adj`
    /// ([proc_pid_oom_score_adj(5)](https://man7.org/linux/man-pages/man5/proc_pid_oom_score_adj.5.html)).
    /// Required if asked for.
    OomScoreAdj,
    /// Binds of a root caller show the caller's files as the program's own (Linux 5.12,
    /// `MOUNT_ATTR_IDMAP` of
    /// [mount_setattr(2)](https://man7.org/linux/man-pages/man2/mount_setattr.2.html)). Required by
    /// default where it applies.
    IdMappedMounts,
    /// Quota, weight and the like of CPU time, by control groups
    /// ([cgroups(7)](https://man7.org/linux/man-pages/man7/cgroups.7.html)).
    /// Required if asked for.
    CpuLimits,
    /// A limit of all CPU time together, by control groups
    /// ([cgroups(7)](https://man7.org/linux/man-pages/man7/cgroups.7.html)).
    /// Required if asked for.
    CpuTimeLimit,
    /// Certain CPUs and memory nodes, by control groups
    /// ([cgroups(7)](https://man7.org/linux/man-pages/man7/cgroups.7.html)).
    /// Required if asked for.
    CpusetLimits,
    /// Limits of memory and swap, by control groups
    /// ([cgroups(7)](https://man7.org/linux/man-pages/man7/cgroups.7.html)).
    /// Required if asked for.
    MemoryLimits,
    /// Limits and weights of block devices, by control groups
    /// ([cgroups(7)](https://man7.org/linux/man-pages/man7/cgroups.7.html)).
    /// Required if asked for.
    IoLimits,
    /// Rules of devices, by control groups
    /// ([cgroups(7)](https://man7.org/linux/man-pages/man7/cgroups.7.html)).
    /// Required if asked for.
    DeviceRules,
    /// A group that can be frozen, by control groups
    /// ([cgroups(7)](https://man7.org/linux/man-pages/man7/cgroups.7.html)).
    /// Required if asked for.
    Freezer,
    /// A class on packets, by control groups
    /// ([cgroups(7)](https://man7.org/linux/man-pages/man7/cgroups.7.html)).
    /// Required if asked for.
    NetworkClass,
    /// A priority on packets, by control groups
    /// ([cgroups(7)](https://man7.org/linux/man-pages/man7/cgroups.7.html)).
    /// Required if asked for.
    NetworkPriority,
    /// A group for performance events, by control groups
    /// ([cgroups(7)](https://man7.org/linux/man-pages/man7/cgroups.7.html)).
    /// Required if asked for.
    PerfEventGroup,
    /// Limits of huge pages, by control groups
    /// ([cgroups(7)](https://man7.org/linux/man-pages/man7/cgroups.7.html)).
    /// Required if asked for.
    HugetlbLimits,
    /// A limit of processes, by control groups
    /// ([cgroups(7)](https://man7.org/linux/man-pages/man7/cgroups.7.html)).
    /// Required if asked for.
    PidsLimit,
    /// Limits of RDMA devices, by control groups
    /// ([cgroups(7)](https://man7.org/linux/man-pages/man7/cgroups.7.html)).
    /// Required if asked for.
    RdmaLimits,
    /// Limits of scalar resources, by control groups
    /// ([cgroups(7)](https://man7.org/linux/man-pages/man7/cgroups.7.html)).
    /// Required if asked for.
    MiscLimits,
    /// Writing only where a mount is writable, by Landlock (Linux 5.19,
    /// [landlock(7)](https://man7.org/linux/man-pages/man7/landlock.7.html)). Best effort by default:
    /// the mounts say the same.
    Landlock,
    /// No abstract sockets and signals to the outside, by Landlock (Linux 6.12,
    /// [landlock(7)](https://man7.org/linux/man-pages/man7/landlock.7.html)). Best effort by default:
    /// the namespaces say the same.
    LandlockScopes,
    /// Only certain TCP ports, by Landlock (Linux 6.7,
    /// [landlock(7)](https://man7.org/linux/man-pages/man7/landlock.7.html)). Required if asked for.
    LandlockPorts,
    /// Which refusals of Landlock's are logged (Linux 6.15,
    /// [landlock(7)](https://man7.org/linux/man-pages/man7/landlock.7.html)). Required if asked for.
    LandlockLog,
    /// A user namespace of its own: ids and keys that are not the host's. A sandbox
    /// [without namespaces](crate::Sandbox::without_namespaces) cannot give this one and the next nine;
    /// required there as far as the namespace is asked for
    /// ([user_namespaces(7)](https://man7.org/linux/man-pages/man7/user_namespaces.7.html)).
    UserNamespace,
    /// A file tree of its own, with /proc, /tmp and HOME; nosuid and nodev on what is bound; no file of
    /// the host's can be found, even its name and attributes
    /// ([mount_namespaces(7)](https://man7.org/linux/man-pages/man7/mount_namespaces.7.html)). Required
    /// [there](Self::UserNamespace).
    MountNamespace,
    /// Other processes do not exist for it
    /// ([pid_namespaces(7)](https://man7.org/linux/man-pages/man7/pid_namespaces.7.html)). Required
    /// [there](Self::UserNamespace).
    PidNamespace,
    /// All of its processes end at once, whatever becomes of init
    /// ([pid_namespaces(7)](https://man7.org/linux/man-pages/man7/pid_namespaces.7.html)). Required
    /// [there](Self::UserNamespace); [`without_atomic_end`](crate::Sandbox::without_atomic_end) accepts
    /// it as well.
    AtomicEnd,
    /// A network of its own, with a loopback interface
    /// ([network_namespaces(7)](https://man7.org/linux/man-pages/man7/network_namespaces.7.html)). Required
    /// [there](Self::UserNamespace), where no sockets come in its place.
    NetworkNamespace,
    /// System V objects and message queues of its own
    /// ([ipc_namespaces(7)](https://man7.org/linux/man-pages/man7/ipc_namespaces.7.html)). Required
    /// [there](Self::UserNamespace), where none come in its place.
    IpcNamespace,
    /// A host name of its own
    /// ([uts_namespaces(7)](https://man7.org/linux/man-pages/man7/uts_namespaces.7.html)). Required
    /// [there](Self::UserNamespace).
    UtsNamespace,
    /// The path of its control group does not show
    /// ([cgroup_namespaces(7)](https://man7.org/linux/man-pages/man7/cgroup_namespaces.7.html)). Required
    /// [there](Self::UserNamespace).
    CgroupNamespace,
    /// Modes, owners, times and extended attributes change only of files that may be written. A sandbox
    /// [without namespaces](crate::Sandbox::without_namespaces) refuses all changes of them, as neither
    /// Landlock nor a filter can tell the files apart; if this is best effort, it allows them for all that
    /// the program owns on the host
    /// ([landlock(7)](https://man7.org/linux/man-pages/man7/landlock.7.html)).
    FileAttributes,
    /// No user namespace is made inside, and nothing mounted. Missing with
    /// [`allow_nesting`](crate::Sandbox::allow_nesting)
    /// ([user_namespaces(7)](https://man7.org/linux/man-pages/man7/user_namespaces.7.html)).
    NestingForbidden,
    /// No process is traced, and addresses are random. Missing with
    /// [`allow_debugging`](crate::Sandbox::allow_debugging)
    /// ([ptrace(2)](https://man7.org/linux/man-pages/man2/ptrace.2.html)).
    DebuggingForbidden,
    /// A label of AppArmor's or SELinux's for the program, see
    /// [`exec_label`](crate::Sandbox::exec_label): missing where no such module is active
    /// ([proc_pid_attr(5)](https://man7.org/linux/man-pages/man5/proc_pid_attr.5.html)). Required if
    /// asked for; one that is there and refuses the label is an error in any case.
    ExecLabel,
}

impl Feature {
    /// All of them.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Feature;
    /// assert!(Feature::ALL.contains(&Feature::SessionKeyring));
    /// ```
    pub const ALL: [Feature; 37] = [
        Feature::SupplementaryGroups,
        Feature::NestedUserNamespaceCount,
        Feature::InotifyLimits,
        Feature::SessionKeyring,
        Feature::TimeNamespace,
        Feature::OomScoreAdj,
        Feature::IdMappedMounts,
        Feature::CpuLimits,
        Feature::CpuTimeLimit,
        Feature::CpusetLimits,
        Feature::MemoryLimits,
        Feature::IoLimits,
        Feature::DeviceRules,
        Feature::Freezer,
        Feature::NetworkClass,
        Feature::NetworkPriority,
        Feature::PerfEventGroup,
        Feature::HugetlbLimits,
        Feature::PidsLimit,
        Feature::RdmaLimits,
        Feature::MiscLimits,
        Feature::Landlock,
        Feature::LandlockScopes,
        Feature::LandlockPorts,
        Feature::LandlockLog,
        Feature::UserNamespace,
        Feature::MountNamespace,
        Feature::PidNamespace,
        Feature::AtomicEnd,
        Feature::NetworkNamespace,
        Feature::IpcNamespace,
        Feature::UtsNamespace,
        Feature::CgroupNamespace,
        Feature::FileAttributes,
        Feature::NestingForbidden,
        Feature::DebuggingForbidden,
        Feature::ExecLabel,
    ];

    /// Whether a sandbox runs without it unless [`Sandbox::require`](crate::Sandbox::require) says
    /// otherwise.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Feature;
    /// assert!(Feature::SupplementaryGroups.is_best_effort_by_default());
    /// assert!(!Feature::SessionKeyring.is_best_effort_by_default());
    /// ```
    #[must_use]
    pub fn is_best_effort_by_default(self) -> bool {
        matches!(
            self,
            Feature::SupplementaryGroups
                | Feature::NestedUserNamespaceCount
                | Feature::InotifyLimits
                | Feature::Landlock
                | Feature::LandlockScopes
                | Feature::NestingForbidden
                | Feature::DebuggingForbidden
        )
    }

    /// The number that stands for it on the wire; 0 stands for "required".
    pub(crate) fn bit(self) -> u32 {
        self as u32 + 1
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Feature::SupplementaryGroups => "dropping supplementary groups",
            Feature::NestedUserNamespaceCount => "a limit of nested user namespaces",
            Feature::InotifyLimits => "limits of inotify",
            Feature::SessionKeyring => "a session keyring of its own",
            Feature::TimeNamespace => "a time namespace",
            Feature::OomScoreAdj => "a raised oom_score_adj",
            Feature::IdMappedMounts => "id-mapped mounts",
            Feature::CpuLimits => "limits of CPU time",
            Feature::CpuTimeLimit => "a limit of all CPU time",
            Feature::CpusetLimits => "limits of CPUs and memory nodes",
            Feature::MemoryLimits => "limits of memory",
            Feature::IoLimits => "limits of block devices",
            Feature::DeviceRules => "rules of devices",
            Feature::Freezer => "a freezer",
            Feature::NetworkClass => "a class of packets",
            Feature::NetworkPriority => "a priority of packets",
            Feature::PerfEventGroup => "a group for performance events",
            Feature::HugetlbLimits => "limits of huge pages",
            Feature::PidsLimit => "a limit of processes",
            Feature::RdmaLimits => "limits of RDMA devices",
            Feature::MiscLimits => "limits of scalar resources",
            Feature::Landlock => "restricting writing by Landlock",
            Feature::LandlockScopes => "restricting sockets and signals by Landlock",
            Feature::LandlockPorts => "restricting TCP ports by Landlock",
            Feature::LandlockLog => "choosing what Landlock logs",
            Feature::UserNamespace => "a user namespace",
            Feature::MountNamespace => "a mount namespace",
            Feature::PidNamespace => "a pid namespace",
            Feature::AtomicEnd => "an atomic end",
            Feature::NetworkNamespace => "a network namespace",
            Feature::IpcNamespace => "an ipc namespace",
            Feature::UtsNamespace => "a host name of its own",
            Feature::CgroupNamespace => "a cgroup namespace",
            Feature::FileAttributes => "keeping modes, owners, times and attributes of files",
            Feature::NestingForbidden => "forbidding namespaces inside",
            Feature::DebuggingForbidden => "forbidding to trace",
            Feature::ExecLabel => "a label of a security module for the program",
        })
    }
}

impl Error {
    /// The kernel's error number, if the kernel refused something
    /// ([errno(3)](https://man7.org/linux/man-pages/man3/errno.3.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// let error = stockade::Sandbox::new().command("/usr").spawn().unwrap_err();
    /// assert_eq!(error.raw_os_error(), Some(13)); // EACCES
    /// ```
    #[must_use]
    pub fn raw_os_error(&self) -> Option<i32> {
        self.failed().map(Failed::raw_os_error)
    }

    /// What to do about it, where that is known.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Hint, Sandbox};
    /// let error = Sandbox::new().file("/usr/new", "").command("true").spawn().unwrap_err();
    /// assert_eq!(error.hint(), Some(&Hint::InTheHosts));
    /// ```
    #[must_use]
    pub fn hint(&self) -> Option<&Hint> {
        self.failed().and_then(|failed| failed.hint.as_ref())
    }

    /// The part of the sandbox's life that failed; `None` if nothing was tried.
    ///
    /// # Examples
    ///
    /// ```
    /// let error = stockade::Sandbox::new().hostname("").plan().unwrap_err();
    /// assert_eq!(error.stage(), None);
    /// ```
    #[must_use]
    pub fn stage(&self) -> Option<Stage> {
        self.failed().map(|failed| failed.stage)
    }

    /// The failed step, if one failed.
    ///
    /// # Examples
    ///
    /// ```
    /// let error = stockade::Sandbox::new().command("/no/such/program").spawn().unwrap_err();
    /// assert_eq!(error.failed().map(|failed| failed.operation), Some("exec"));
    /// ```
    #[must_use]
    pub fn failed(&self) -> Option<&Failed> {
        match self {
            Error::Failed(failed) => Some(failed),
            Error::Invalid(_) | Error::Unsupported { .. } => None,
        }
    }

    /// Whether this system cannot do what was asked for, whatever the caller does.
    ///
    /// # Examples
    ///
    /// ```
    /// let error = stockade::Sandbox::new().hostname("").plan().unwrap_err();
    /// assert!(!error.is_unsupported());
    /// ```
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        matches!(self, Error::Unsupported { .. })
    }

    /// A failed step without a hint.
    pub(crate) fn new(
        stage: Stage,
        operation: &'static str,
        object: impl Into<String>,
        errno: Errno,
    ) -> Self {
        let (object, hint) = (object.into(), None);
        Error::Failed(Box::new(Failed { stage, operation, object, errno, hint }))
    }

    /// The same with the hint that the failure itself suggests.
    pub(crate) fn explained(self) -> Self {
        let found = self.failed().and_then(|failed| {
            crate::hint::for_operation(failed.operation, &failed.object, failed.errno)
        });
        self.with_hint(found)
    }

    /// Without its hint, and the hint: for who shows them apart.
    pub(crate) fn told(&self) -> (String, Option<String>) {
        match self {
            Error::Failed(failed) => {
                let step = Failed { hint: None, ..(**failed).clone() };
                (step.to_string(), failed.hint.as_ref().map(ToString::to_string))
            }
            Error::Unsupported { reason, .. } => (reason.clone(), None),
            other => (other.to_string(), None),
        }
    }

    /// The same with this hint, if it is a failed step.
    pub(crate) fn with_other_hint(mut self, hint: Hint) -> Self {
        if let Error::Failed(failed) = &mut self {
            failed.hint = Some(hint);
        }
        self
    }

    /// The same with a hint, if it is a failed step without one.
    pub(crate) fn with_hint(mut self, hint: Option<Hint>) -> Self {
        if let Error::Failed(failed) = &mut self {
            failed.hint = failed.hint.take().or(hint);
        }
        self
    }
}

impl From<Error> for std::io::Error {
    fn from(error: Error) -> Self {
        let kind = match error.raw_os_error() {
            Some(errno) => std::io::Error::from_raw_os_error(errno).kind(),
            None if error.is_unsupported() => std::io::ErrorKind::Unsupported,
            None => std::io::ErrorKind::InvalidInput,
        };
        std::io::Error::new(kind, error)
    }
}

/// The result of this crate's fallible functions.
///
/// # Examples
///
/// ```
/// fn run() -> stockade::Result<()> {
///     stockade::Sandbox::new().command("true").status().map(drop)
/// }
/// # run().unwrap();
/// ```
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// A text that names nothing this crate knows.
///
/// # Examples
///
/// ```
/// let error = "CAP_NONSENSE".parse::<stockade::Capability>().unwrap_err();
/// assert_eq!(error.to_string(), r#"unknown capability: "CAP_NONSENSE""#);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what}: {name:?}")]
#[non_exhaustive]
pub struct UnknownName {
    /// What was looked for: "capability", "resource", "limit" or "namespace".
    pub what: &'static str,
    /// The text as it was given.
    pub name: String,
}

/// Shows a path in an error: quoted, with what is not UTF-8 escaped.
pub(crate) fn quoted(path: impl Into<PathBuf>) -> String {
    format!("{:?}", path.into())
}
