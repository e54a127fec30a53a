//! The eight kinds of namespaces, and where a sandbox gets each from.

use std::fmt;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use crate::abi;
use crate::error::UnknownName;

pub(crate) mod cgroup;
mod idhelper;
pub(crate) mod idmap;
pub(crate) mod ipc;
pub(crate) mod mount;
pub(crate) mod net;
pub(crate) mod pid;
pub(crate) mod time;
pub(crate) mod user;
pub(crate) mod uts;

bitflags::bitflags! {
    /// A set of namespace kinds; [namespaces(7)](https://man7.org/linux/man-pages/man7/namespaces.7.html).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Namespaces;
    /// let isolated = Namespaces::all() - Namespaces::NET;
    /// assert!(isolated.contains(Namespaces::PID));
    /// ```
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Namespaces: u32 {
        /// Time: offsets of the monotonic and boot-time clocks (Linux 5.6;
        /// [time_namespaces(7)](https://man7.org/linux/man-pages/man7/time_namespaces.7.html)).
        #[doc(alias = "CLONE_NEWTIME")]
        const TIME = 0x80;
        /// Mounts: the file tree
        /// ([mount_namespaces(7)](https://man7.org/linux/man-pages/man7/mount_namespaces.7.html)).
        #[doc(alias = "CLONE_NEWNS")]
        const MOUNT = 0x0002_0000;
        /// Control groups: the root of /proc/self/cgroup (Linux 4.6;
        /// [cgroup_namespaces(7)](https://man7.org/linux/man-pages/man7/cgroup_namespaces.7.html)).
        #[doc(alias = "CLONE_NEWCGROUP")]
        const CGROUP = 0x0200_0000;
        /// Host name and NIS domain name
        /// ([uts_namespaces(7)](https://man7.org/linux/man-pages/man7/uts_namespaces.7.html)).
        #[doc(alias = "CLONE_NEWUTS")]
        const UTS = 0x0400_0000;
        /// System V IPC and POSIX message queues
        /// ([ipc_namespaces(7)](https://man7.org/linux/man-pages/man7/ipc_namespaces.7.html)).
        #[doc(alias = "CLONE_NEWIPC")]
        const IPC = 0x0800_0000;
        /// User and group ids, capabilities, keyrings (Linux 3.8;
        /// [user_namespaces(7)](https://man7.org/linux/man-pages/man7/user_namespaces.7.html)).
        #[doc(alias = "CLONE_NEWUSER")]
        const USER = 0x1000_0000;
        /// Process ids
        /// ([pid_namespaces(7)](https://man7.org/linux/man-pages/man7/pid_namespaces.7.html)).
        #[doc(alias = "CLONE_NEWPID")]
        const PID = 0x2000_0000;
        /// Network devices, addresses, ports, abstract Unix sockets
        /// ([network_namespaces(7)](https://man7.org/linux/man-pages/man7/network_namespaces.7.html)).
        #[doc(alias = "CLONE_NEWNET")]
        const NET = 0x4000_0000;
    }
}

impl Namespaces {
    /// The name under which the documentation knows a single kind.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Namespaces::TIME => "time",
            Namespaces::MOUNT => "mount",
            Namespaces::CGROUP => "cgroup",
            Namespaces::UTS => "uts",
            Namespaces::IPC => "ipc",
            Namespaces::USER => "user",
            Namespaces::PID => "pid",
            Namespaces::NET => "network",
            _ => "several",
        }
    }

    /// The name of a single kind's file in /proc/PID/ns.
    pub(crate) fn file(self) -> &'static str {
        match self {
            Namespaces::MOUNT => "mnt",
            Namespaces::NET => "net",
            other => other.name(),
        }
    }

    /// As `CLONE_NEW…` flags.
    pub(crate) fn flags(self) -> usize {
        self.bits() as usize
    }
}

impl fmt::Display for Namespaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.iter().map(Namespaces::name).collect();
        f.write_str(&names.join(", "))
    }
}

impl FromStr for Namespaces {
    type Err = UnknownName;

    /// Reads the name of one kind: `time`, `mount` or `mnt`, `cgroup`, `uts`, `ipc`, `user`, `pid`,
    /// `network` or `net`.
    ///
    /// # Errors
    ///
    /// [`UnknownName`] for everything else.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Namespaces;
    /// assert_eq!("net".parse(), Ok(Namespaces::NET));
    /// assert_eq!(Namespaces::NET.to_string(), "network");
    /// ```
    fn from_str(text: &str) -> Result<Self, UnknownName> {
        let short = match text {
            "net" => "network",
            "mnt" => "mount",
            other => other,
        };
        let found = Namespaces::all().iter().find(|kind| kind.name() == short);
        found.ok_or_else(|| UnknownName { what: "namespace", name: text.to_owned() })
    }
}

/// An existing namespace to join: a path such as `/run/netns/blue` or `/proc/42/ns/net`, or a
/// descriptor of one; [namespaces(7)](https://man7.org/linux/man-pages/man7/namespaces.7.html).
///
/// What it is is found out when it is joined: another kind is an error of
/// [`Stage::Join`](crate::Stage::Join).
///
/// # Examples
///
/// ```
/// use stockade::{Existing, Namespaces, Sandbox};
/// let own = std::fs::File::open("/proc/self/ns/net")?;
/// let by_descriptor = Sandbox::new().join(Namespaces::NET, own);
/// let by_path = Sandbox::new().join(Namespaces::NET, Existing::from("/proc/self/ns/net"));
/// assert!(!by_path.plan()?.namespaces().contains(Namespaces::NET));
/// # let _ = by_descriptor;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Existing(pub(crate) Source);

#[derive(Debug, Clone)]
pub(crate) enum Source {
    Path(PathBuf),
    Fd(Arc<OwnedFd>),
}

impl From<&Path> for Existing {
    fn from(path: &Path) -> Self {
        Existing(Source::Path(path.to_owned()))
    }
}

impl From<&str> for Existing {
    fn from(path: &str) -> Self {
        Existing(Source::Path(path.into()))
    }
}

impl From<PathBuf> for Existing {
    fn from(path: PathBuf) -> Self {
        Existing(Source::Path(path))
    }
}

impl From<OwnedFd> for Existing {
    fn from(fd: OwnedFd) -> Self {
        Existing(Source::Fd(Arc::new(fd)))
    }
}

impl From<File> for Existing {
    fn from(file: File) -> Self {
        OwnedFd::from(file).into()
    }
}

const _: () = assert!(Namespaces::USER.bits() as usize == abi::CLONE_NEWUSER);
