//! The /proc inside; [proc(5)](https://man7.org/linux/man-pages/man5/proc.5.html).

use std::path::Path;

use super::bytes;
use crate::abi::*;
use crate::lower::Lower;
use crate::wire::Op;

/// How much of /proc a program sees; [proc(5)](https://man7.org/linux/man-pages/man5/proc.5.html).
///
/// Without a pid namespace of its own a sandbox has no /proc: the kernel would show the others'
/// processes.
///
/// # Examples
///
/// ```
/// use stockade::{Proc, Sandbox};
/// let sandbox = Sandbox::new().proc(Proc::None);
/// let script = "test ! -e /proc/self";
/// assert!(sandbox.command("sh").args(["-c", script]).status()?.outcome.is_success());
/// # Ok::<(), stockade::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Proc {
    /// Its own processes only (`subset=pid,hidepid=invisible`, Linux 5.8): the default. Programs
    /// that ask for cpuinfo, meminfo or sys do not find them.
    #[default]
    Processes,
    /// Everything that procfs has, with what tells of the host or changes it masked or read-only:
    /// a widening. The kernel refuses it where the caller's own /proc is masked, as in a container.
    Full,
    /// No /proc at all.
    None,
}

/// Hidden in a full /proc: what Docker hides, the kernel's memory, logs and keys, and /proc/asound,
/// which tells whether the host plays sound and which monitor it has.
const MASKED: &[&str] = &[
    "acpi",
    "asound",
    "bus",
    "config.gz",
    "fs",
    "interrupts",
    "iomem",
    "ioports",
    "irq",
    "kallsyms",
    "kcore",
    "key-users",
    "keys",
    "kmsg",
    "kpagecgroup",
    "kpagecount",
    "kpageflags",
    "latency_stats",
    "modules",
    "sched_debug",
    "scsi",
    "slabinfo",
    "sysrq-trigger",
    "timer_list",
    "timer_stats",
];

impl Proc {
    pub(crate) fn lower(self, plan: &mut Lower, own_pids: bool) {
        if !own_pids || self == Proc::None {
            return;
        }
        let options = match self {
            Proc::Processes => "subset=pid,hidepid=invisible",
            _ => "hidepid=invisible",
        };
        let flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
        plan.mount("proc", Path::new("/proc"), flags, options);
        if self == Proc::Full {
            for name in MASKED {
                plan.mask(&Path::new("/proc").join(name));
            }
            let sys = Path::new("/proc/sys");
            let attributes =
                MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
            let op = Op::Again { path: bytes(sys), attributes };
            plan.step(op, "kernel settings are not the program's to change");
        }
    }
}
