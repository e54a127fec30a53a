#![doc = include_str!("../README.md")]

#[cfg(not(target_os = "linux"))]
compile_error!("stockade runs programs in Linux sandboxes: it builds for Linux only");
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "riscv64")))]
compile_error!("stockade knows the system calls of x86-64, aarch64 and riscv64 only");

mod abi;
mod audit;
mod capability;
mod cgroup;
mod changes;
mod child;
mod command;
mod control;
#[cfg(feature = "systemd")]
mod dbus;
mod error;
mod executable;
mod export;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod given;
mod hint;
mod kept;
mod landlock;
mod launch;
mod learn;
mod lower;
mod lsm;
mod namespace;
mod networks;
mod outcome;
mod output;
mod plan;
mod policy;
mod pool;
mod prepared;
mod private;
mod process;
mod program;
mod pty;
#[allow(dead_code, reason = "init uses the rest")]
mod raw;
mod rlimit;
mod rootfs;
mod sandbox;
mod seccomp;
mod secret;
mod session;
mod sources;
mod spawn;
mod support;
mod sys;
mod template;
mod tier;
mod warden;
#[allow(dead_code, reason = "the reading half is init's")]
mod wire;

pub use audit::{Audit, Finding, Leak, Severity};
pub use capability::{Capabilities, Capability, CapabilitySet, CapabilitySetIter};
pub use cgroup::{
    BlockDevice, CgroupParent, CgroupVersion, Controller, ControllerSupport, Cpu, CpuStats, Cpuset,
    DeviceKind, DeviceRule, Devices, Event, Events, Freezer, Hugetlb, Io, IoLimit, IoStats, Limits,
    Memory, MemoryStats, Misc, NetCls, NetPrio, Partition, PerfEvent, Pids, PidsStats, Pressure,
    Rdma, Stats,
};
pub use changes::{Change, ChangeKind, Changes, FileKind};
#[cfg(feature = "tokio")]
pub use child::AsyncChild;
pub use child::Child;
pub use command::{Command, Stdio};
pub use error::{Error, Failed, Feature, Result, Stage, UnknownName};
pub use hint::Hint;
pub use landlock::Landlock;
pub use learn::{Access, Denial, Denials, Denied};
#[cfg(feature = "footprint")]
pub use learn::{Footprint, Gap, Read, ReadKind};
pub use namespace::idmap::IdMap;
pub use namespace::net::Network;
pub use namespace::time::TimeOffsets;
pub use namespace::{Existing, Namespaces};
pub use outcome::{DiskFull, Left, Outcome, Output, Status, Usage};
pub use plan::Plan;
pub use pool::{Pool, PoolMetrics, WhenEmpty};
pub use prepared::Prepared;
pub use private::PrivateTmp;
pub use pty::Pty;
pub use rlimit::{Limit, Max, Resource, Rlimits};
pub use rootfs::{Bind, Content, Data, Overlay, Proc, Rootfs, Tmpfs, View};
pub use sandbox::Sandbox;
pub use seccomp::{Action, Condition, Rule, Seccomp};
pub use session::Session;
pub use support::{Ability, Need, Support};
