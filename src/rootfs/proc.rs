//! The /proc inside; [proc(5)](https://man7.org/linux/man-pages/man5/proc.5.html).

use std::ffi::OsString;
use std::fs::DirEntry;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;

use super::bytes;
use super::machine::{self, Machine};
use crate::abi::*;
use crate::error::{Error, Result, Stage};
use crate::executable;
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
    /// Its own processes, and a short list of what programs ask for that reads the same for everybody
    /// on the host: a widening. `cpuinfo`, `filesystems`, `loadavg`, `meminfo`, `stat` and `uptime`, the
    /// links `mounts` and `net`, and of `sys` the files named in docs/defaults.md, as copies that cannot be
    /// changed. The rest is listed and cannot be opened, nor can it be uncovered. ps, free and top work
    /// with it, and node counts the processors. It tells the host's load, memory, processors and
    /// boot time. As for [`Full`](Self::Full), the caller's own /proc may not be masked.
    Compat,
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

/// Shown in a reduced one; of sys the files below.
const COMPAT: &[&str] = &["cpuinfo", "filesystems", "loadavg", "meminfo", "stat", "sys", "uptime"];
/// What of /proc/sys is copied into it.
const COMPAT_SYS: &[&str] = &[
    "fs/file-max",
    "fs/nr_open",
    "fs/pipe-max-size",
    "kernel/cap_last_cap",
    "kernel/ngroups_max",
    "kernel/osrelease",
    "kernel/ostype",
    "kernel/overflowgid",
    "kernel/overflowuid",
    "kernel/pid_max",
    "kernel/threads-max",
    "kernel/version",
    "net/core/somaxconn",
    "vm/max_map_count",
    "vm/overcommit_memory",
];
/// This one is another each time that it is read.
const COMPAT_UUID: &str = "/proc/sys/kernel/random/uuid";

impl Proc {
    pub(crate) fn lower(
        self,
        plan: &mut Lower,
        own_pids: bool,
        machine: Option<&Machine>,
    ) -> Result<()> {
        if !own_pids || self == Proc::None {
            return Ok(());
        }
        let options = match self {
            Proc::Processes => "subset=pid,hidepid=invisible",
            _ => "hidepid=invisible",
        };
        let flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
        let (kind, to) = (b"proc".to_vec(), b"/proc".to_vec());
        let reason = match machine {
            Some(_) => "view(..) implies Proc::Compat",
            None => "an instance of the sandbox's own",
        };
        plan.step(Op::Mount { kind, to, flags, options: options.into() }, reason);
        if self == Proc::Compat {
            lower_compat(plan, machine)?;
        }
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
        Ok(())
    }
}

/// All is covered but a list: nothing can be added to a procfs of processes only.
fn lower_compat(plan: &mut Lower, machine: Option<&Machine>) -> Result<()> {
    for (name, is_directory) in covered()? {
        let path = Path::new("/proc").join(name);
        if is_directory {
            plan.mask(&path);
            continue;
        }
        // A node where nodes do not work: nobody opens it.
        let attributes =
            MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
        let (from, to) = (b"/dev/null".to_vec(), bytes(&path));
        let op = Op::Bind { from, fd: -1, to, flags: 0, attributes };
        plan.step(op, "only what is the same for everybody on the host is shown");
    }
    if machine.is_some() {
        machine::lower_covers(plan);
    }
    lower_compat_sys(plan, machine);
    Ok(())
}

/// What a whole procfs has besides processes, links and what is shown, and whether it is a directory.
/// What a module adds later is not known.
fn covered() -> Result<Vec<(OsString, bool)>> {
    let failed = |errno| Error::new(Stage::Prepare, "list", "\"/proc\"", errno);
    let entries = std::fs::read_dir("/proc")
        .and_then(Iterator::collect::<std::io::Result<Vec<_>>>)
        .map_err(|error| failed(executable::errno_of(&error)))?;
    let names: Vec<_> = entries.iter().map(DirEntry::file_name).collect();
    // Else this procfs is a reduced one itself, and does not tell what a whole one has.
    if let Some(missing) = COMPAT.iter().find(|&&shown| !names.iter().any(|name| name == shown)) {
        let object = format!("{missing:?} in \"/proc\"");
        return Err(Error::new(Stage::Prepare, "find", object, Errno::ENOENT));
    }
    let mut covered = Vec::new();
    for (entry, name) in entries.iter().zip(names) {
        let process = name.as_bytes().first().is_some_and(u8::is_ascii_digit);
        if process || COMPAT.iter().any(|&shown| name == shown) {
            continue;
        }
        let kind = entry.file_type().map_err(|error| failed(executable::errno_of(&error)))?;
        if !kind.is_symlink() {
            covered.push((name, kind.is_dir()));
        }
    }
    covered.sort();
    Ok(covered)
}

/// What is left of /proc/sys: a file system in memory, with copies.
fn lower_compat_sys(plan: &mut Lower, machine: Option<&Machine>) {
    let sys = Path::new("/proc/sys");
    let flags = MS_NOSUID | MS_NODEV | MS_NOEXEC;
    plan.mount("tmpfs", sys, flags, "size=256k,nr_inodes=64,mode=0755");
    for name in COMPAT_SYS {
        let path = sys.join(name);
        // What this kernel does not have is not there inside.
        let Ok(data) = std::fs::read(&path) else { continue };
        let op = Op::File { path: bytes(&path), mode: 0o444, data };
        plan.step(op, "programs ask for it");
    }
    if let Some(machine) = machine {
        let path = sys.join("kernel/random/boot_id");
        let op = Op::File { path: bytes(&path), mode: 0o444, data: machine.boot_id() };
        plan.step(op, "the machine that is shown is the sandbox's own");
    }
    let uuid = Path::new(COMPAT_UUID);
    if uuid.exists() {
        let op = Op::File { path: bytes(uuid), mode: 0o444, data: Vec::new() };
        plan.step(op, "to mount on");
    }
    let attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    let op = Op::Again { path: bytes(sys), attributes };
    plan.step(op, "kernel settings are not the program's to change");
    if uuid.exists() {
        let (from, to) = (bytes(uuid), bytes(uuid));
        let op = Op::Bind { from, fd: -1, to, flags: 0, attributes };
        plan.step(op, "it is another each time");
    }
}
