//! Control groups: what a sandbox may use, as plain values, one for each controller of the kernel's;
//! [cgroups(7)](https://man7.org/linux/man-pages/man7/cgroups.7.html).
//!
//! Each value has one pure function, from the version of the hierarchy to the files that are
//! written, in order. Where the groups are is [`hierarchy`]'s, making and ending them [`group`]'s.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::error::Feature;

pub(crate) mod bpf;
pub(crate) mod cpu;
pub(crate) mod cpuset;
pub(crate) mod delegation;
pub(crate) mod devices;
pub(crate) mod end;
pub(crate) mod events;
pub(crate) mod freezer;
pub(crate) mod group;
pub(crate) mod hierarchy;
pub(crate) mod hugetlb;
pub(crate) mod io;
pub(crate) mod known;
pub(crate) mod limits;
pub(crate) mod memory;
pub(crate) mod misc;
pub(crate) mod net_cls;
pub(crate) mod net_prio;
pub(crate) mod perf_event;
pub(crate) mod pids;
pub(crate) mod place;
pub(crate) mod probe;
#[cfg(test)]
mod properties;
pub(crate) mod raw;
pub(crate) mod rdma;
#[cfg(feature = "systemd")]
pub(crate) mod scope;
pub(crate) mod stats;
mod wanted;

pub use cpu::Cpu;
pub use cpuset::{Cpuset, Partition};
pub use devices::{DeviceKind, DeviceRule, Devices};
pub use events::{Event, Events};
pub use freezer::Freezer;
pub use hugetlb::Hugetlb;
pub use io::{BlockDevice, Io, IoLimit};
pub use limits::Limits;
pub use memory::Memory;
pub use misc::Misc;
pub use net_cls::NetCls;
pub use net_prio::NetPrio;
pub use perf_event::PerfEvent;
pub use pids::Pids;
pub use probe::ControllerSupport;
pub use rdma::Rdma;
pub use stats::{CpuStats, IoStats, MemoryStats, PidsStats, Pressure, Stats};

/// Which of the kernel's two interfaces a hierarchy has
/// ([cgroups(7)](https://man7.org/linux/man-pages/man7/cgroups.7.html)).
///
/// # Examples
///
/// ```
/// assert_eq!(stockade::CgroupVersion::V1.to_string(), "v1");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CgroupVersion {
    /// A hierarchy for each controller, or for a few together
    /// ([cgroups(7)](https://man7.org/linux/man-pages/man7/cgroups.7.html)).
    V1,
    /// The unified hierarchy (Linux 4.5).
    V2,
}

impl fmt::Display for CgroupVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CgroupVersion::V1 => "v1",
            CgroupVersion::V2 => "v2",
        })
    }
}

/// A controller of the kernel's control groups
/// ([cgroups(7)](https://man7.org/linux/man-pages/man7/cgroups.7.html)).
///
/// # Examples
///
/// ```
/// use stockade::{CgroupVersion, Controller};
/// assert_eq!(Controller::Io.name(CgroupVersion::V1), "blkio");
/// assert_eq!(Controller::Io.name(CgroupVersion::V2), "io");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Controller {
    /// CPU time, by quota and weight.
    Cpu,
    /// Accounting of CPU time; on v2 each group has it.
    Cpuacct,
    /// Which CPUs and memory nodes.
    Cpuset,
    /// Memory and swap.
    Memory,
    /// Block devices: `blkio` on v1.
    Io,
    /// Which device files; on v2 BPF programs do it.
    Devices,
    /// Stopping and continuing; on v2 each group can.
    Freezer,
    /// A class on packets; on v2 BPF programs do it.
    NetCls,
    /// A priority on packets; on v2 BPF programs do it.
    NetPrio,
    /// Performance events by group; on v2 each group can.
    PerfEvent,
    /// Huge pages.
    Hugetlb,
    /// The number of processes and threads.
    Pids,
    /// Handles and objects of RDMA devices (Linux 4.11).
    Rdma,
    /// Scalar resources (Linux 5.13).
    Misc,
}

impl Controller {
    /// All of them.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Controller;
    /// assert!(Controller::ALL.contains(&Controller::Memory));
    /// ```
    pub const ALL: [Controller; 14] = [
        Controller::Cpu,
        Controller::Cpuacct,
        Controller::Cpuset,
        Controller::Memory,
        Controller::Io,
        Controller::Devices,
        Controller::Freezer,
        Controller::NetCls,
        Controller::NetPrio,
        Controller::PerfEvent,
        Controller::Hugetlb,
        Controller::Pids,
        Controller::Rdma,
        Controller::Misc,
    ];

    /// The kernel's name for it in a hierarchy of this version.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{CgroupVersion, Controller};
    /// assert_eq!(Controller::NetCls.name(CgroupVersion::V1), "net_cls");
    /// ```
    #[must_use]
    pub fn name(self, version: CgroupVersion) -> &'static str {
        match self {
            Controller::Cpu => "cpu",
            Controller::Cpuacct => "cpuacct",
            Controller::Cpuset => "cpuset",
            Controller::Memory => "memory",
            Controller::Io if version == CgroupVersion::V1 => "blkio",
            Controller::Io => "io",
            Controller::Devices => "devices",
            Controller::Freezer => "freezer",
            Controller::NetCls => "net_cls",
            Controller::NetPrio => "net_prio",
            Controller::PerfEvent => "perf_event",
            Controller::Hugetlb => "hugetlb",
            Controller::Pids => "pids",
            Controller::Rdma => "rdma",
            Controller::Misc => "misc",
        }
    }

    /// Whether a v2 group does this without a controller of that name.
    pub(crate) fn is_in_every_v2_group(self) -> bool {
        matches!(self, Controller::Cpuacct | Controller::Freezer | Controller::PerfEvent)
    }

    /// Whether a v2 group does this by BPF programs.
    pub(crate) fn is_bpf_on_v2(self) -> bool {
        matches!(self, Controller::Devices | Controller::NetCls | Controller::NetPrio)
    }

    /// What is missing where it is.
    pub(crate) fn feature(self) -> Feature {
        match self {
            Controller::Cpu => Feature::CpuLimits,
            Controller::Cpuacct => Feature::CpuTimeLimit,
            Controller::Cpuset => Feature::CpusetLimits,
            Controller::Memory => Feature::MemoryLimits,
            Controller::Io => Feature::IoLimits,
            Controller::Devices => Feature::DeviceRules,
            Controller::Freezer => Feature::Freezer,
            Controller::NetCls => Feature::NetworkClass,
            Controller::NetPrio => Feature::NetworkPriority,
            Controller::PerfEvent => Feature::PerfEventGroup,
            Controller::Hugetlb => Feature::HugetlbLimits,
            Controller::Pids => Feature::PidsLimit,
            Controller::Rdma => Feature::RdmaLimits,
            Controller::Misc => Feature::MiscLimits,
        }
    }
}

impl fmt::Display for Controller {
    /// The name on v2.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name(CgroupVersion::V2))
    }
}

/// Below which group a sandbox's groups are made
/// ([cgroups(7)](https://man7.org/linux/man-pages/man7/cgroups.7.html)).
///
/// # Examples
///
/// ```
/// use stockade::{CgroupParent, Sandbox};
/// let sandbox = Sandbox::new().cgroup_parent(CgroupParent::Path("/delegated".into()));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum CgroupParent {
    /// On v1 the caller's own group, or the nearest one above it that the caller may write to. On
    /// v2 the group above the caller's, or the nearest such: the kernel allows no children with
    /// controllers to a group with processes.
    #[default]
    Auto,
    /// This group in each hierarchy that is needed. It must exist, and on v2 have no processes. A
    /// path that begins with `/` starts at the root of the hierarchy as it is mounted, another one
    /// at the caller's own group; `..` is not allowed.
    Path(PathBuf),
    /// A scope unit that systemd is asked for over D-Bus with the first sandbox that needs a group,
    /// one for the process
    /// ([systemd.scope(5)](https://man7.org/linux/man-pages/man5/systemd.scope.5.html), systemd 238).
    /// Root asks the system's manager, others their own, which has to run. The scope is delegated
    /// (`Delegate=yes`), called `app-stockade-PROGRAM-PID_….scope`, and ends with the process or its
    /// last sandbox. The caller stays where it is, so that what limits it does not limit its
    /// sandboxes. Only with the feature `systemd`.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{CgroupParent, Sandbox};
    /// let sandbox = Sandbox::new().pids_limit(64).cgroup_parent(CgroupParent::SystemdScope);
    /// if let Err(error) = sandbox.command("true").status() {
    ///     // No systemd, no manager of the user's, or what it does not delegate.
    ///     eprintln!("{error}");
    /// }
    /// ```
    #[cfg(feature = "systemd")]
    SystemdScope,
}

/// One write to a file of a group. Two are equal if they write the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Write {
    pub(crate) file: String,
    pub(crate) data: String,
    /// The file that takes its place where the kernel does not have it.
    pub(crate) otherwise: Option<&'static str>,
    /// Where the kernel has no such file nothing is lost.
    pub(crate) dispensable: bool,
    /// Where there is no swap, none need be limited.
    pub(crate) of_swap: bool,
    /// What a new group has already.
    pub(crate) default: bool,
}

impl Write {
    pub(crate) fn new(file: impl Into<String>, data: impl fmt::Display) -> Self {
        let (file, data) = (file.into(), data.to_string());
        Write { file, data, otherwise: None, dispensable: false, of_swap: false, default: false }
    }

    pub(crate) fn or(self, other: &'static str) -> Self {
        Write { otherwise: Some(other), ..self }
    }

    pub(crate) fn dispensable(self, dispensable: bool) -> Self {
        Write { dispensable, ..self }
    }

    pub(crate) fn of_swap(self, of_swap: bool) -> Self {
        Write { of_swap, ..self }
    }

    pub(crate) fn default(self, default: bool) -> Self {
        Write { default, ..self }
    }
}

/// A limit that one version of the hierarchies does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unsupported {
    /// The limit, as the builder's method is called.
    pub(crate) what: &'static str,
    pub(crate) version: CgroupVersion,
    /// What to do instead.
    pub(crate) instead: &'static str,
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Unsupported { what, version, instead } = self;
        write!(f, "{what} does not exist on cgroup {version}")?;
        if instead.is_empty() { Ok(()) } else { write!(f, "; {instead}") }
    }
}

/// The writes of one controller, in order.
pub(crate) type Writes = Result<Vec<Write>, Unsupported>;

/// How a maximum is written on v2.
pub(crate) fn or_max(max: crate::rlimit::Max) -> String {
    match max {
        crate::rlimit::Max::At(number) => number.to_string(),
        crate::rlimit::Max::Unlimited => "max".to_owned(),
    }
}

/// How a maximum is written where -1 stands for none.
pub(crate) fn or_minus_one(max: crate::rlimit::Max) -> String {
    match max {
        crate::rlimit::Max::At(number) => number.to_string(),
        crate::rlimit::Max::Unlimited => "-1".to_owned(),
    }
}

/// Whole microseconds, as the kernel counts times here.
pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
