//! Files by which a kernel is told what to do, or tells of itself. They are opened, and nothing is written.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::UnixDatagram;

use crate::facts::Facts;
use crate::verdict::Verdict::{self, Held, NotApplicable};
use crate::verdict::{any, worked};

/// Open if one of the files can be opened for writing; where no sandbox is, one has to be there.
fn writable(facts: &Facts, paths: &[&str]) -> Verdict {
    let null = std::fs::metadata("/dev/null").ok().map(|null| null.rdev());
    each(facts, paths, |path| {
        let file = File::options().write(true).open(path)?;
        // What masks a file takes everything, and does nothing.
        match file.metadata()?.rdev() {
            device if device != 0 && Some(device) == null => Err(io::Error::other("it is masked")),
            _ => Ok(file),
        }
    })
}

/// Open if something can be read of one.
fn readable(facts: &Facts, paths: &[&str]) -> Verdict {
    each(facts, paths, |path| {
        let mut file = File::open(path)?;
        match file.read(&mut [0; 16])? {
            0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
            _ => Ok(file),
        }
    })
}

fn each(facts: &Facts, paths: &[&str], open: impl Fn(&str) -> io::Result<File>) -> Verdict {
    let there = paths.iter().any(|path| std::path::Path::new(path).exists());
    if facts.has("bare") && !there {
        return NotApplicable("this host does not have it".to_owned());
    }
    any(paths.iter().map(|path| (*path, open(path))), "")
}

pub(crate) fn core_pattern(facts: &Facts) -> Verdict {
    writable(facts, &["/proc/sys/kernel/core_pattern"])
}

pub(crate) fn modprobe(facts: &Facts) -> Verdict {
    writable(facts, &["/proc/sys/kernel/modprobe", "/proc/sys/kernel/poweroff_cmd"])
}

pub(crate) fn uevent_helper(facts: &Facts) -> Verdict {
    writable(facts, &["/sys/kernel/uevent_helper", "/proc/sys/kernel/hotplug"])
}

pub(crate) fn binfmt_misc(facts: &Facts) -> Verdict {
    writable(facts, &["/proc/sys/fs/binfmt_misc/register"])
}

pub(crate) fn sysrq(facts: &Facts) -> Verdict {
    writable(facts, &["/proc/sysrq-trigger", "/proc/sys/kernel/sysrq"])
}

pub(crate) fn sysctl(facts: &Facts) -> Verdict {
    writable(
        facts,
        &[
            "/proc/sys/kernel/randomize_va_space",
            "/proc/sys/vm/overcommit_memory",
            "/proc/sys/vm/drop_caches",
            "/proc/sys/fs/suid_dumpable",
            "/proc/sys/kernel/ns_last_pid",
            "/proc/sys/kernel/domainname",
            "/proc/sys/net/ipv4/ip_forward",
        ],
    )
}

const CONTROLLERS: [&str; 13] = [
    "memory",
    "cpu",
    "cpuset",
    "devices",
    "freezer",
    "pids",
    "blkio",
    "rdma",
    "systemd",
    "unified",
    "cpu,cpuacct",
    "net_cls",
    "perf_event",
];

pub(crate) fn release_agent(facts: &Facts) -> Verdict {
    let paths: Vec<_> =
        CONTROLLERS.iter().map(|name| format!("/sys/fs/cgroup/{name}/release_agent")).collect();
    writable(facts, &paths.iter().map(String::as_str).collect::<Vec<_>>())
}

pub(crate) fn control_groups(facts: &Facts) -> Verdict {
    let below = CONTROLLERS.iter().map(|name| format!("/sys/fs/cgroup/{name}/cgroup.procs"));
    let paths: Vec<_> = below.chain(["/sys/fs/cgroup/cgroup.procs".to_owned()]).collect();
    writable(facts, &paths.iter().map(String::as_str).collect::<Vec<_>>())
}

pub(crate) fn sysfs(facts: &Facts) -> Verdict {
    writable(
        facts,
        &[
            "/sys/power/state",
            "/sys/kernel/mm/transparent_hugepage/enabled",
            "/sys/kernel/mm/ksm/run",
            "/sys/kernel/profiling",
            "/sys/kernel/rcu_expedited",
        ],
    )
}

pub(crate) fn kernel_memory(facts: &Facts) -> Verdict {
    readable(facts, &["/proc/kcore", "/dev/mem", "/dev/kmem", "/dev/port"])
}

pub(crate) fn kernel_log(facts: &Facts) -> Verdict {
    each(facts, &["/proc/kmsg", "/dev/kmsg"], |path| {
        const O_NONBLOCK: i32 = 0o4000;
        let mut file = File::options().read(true).custom_flags(O_NONBLOCK).open(path)?;
        match file.read(&mut [0; 8192]) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            // Nothing new, for somebody who may read it.
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(file),
        }
    })
}

pub(crate) fn write_kernel_log(facts: &Facts) -> Verdict {
    writable(facts, &["/dev/kmsg"])
}

pub(crate) fn kernel_addresses(facts: &Facts) -> Verdict {
    let text = std::fs::read_to_string("/proc/kallsyms").unwrap_or_default();
    let address = |line: &str| u64::from_str_radix(line.split(' ').next()?, 16).ok();
    if facts.has("bare") && text.is_empty() {
        return NotApplicable("this kernel does not tell its symbols".to_owned());
    }
    match text.lines().take(64).filter_map(address).find(|&address| address != 0) {
        Some(address) => Verdict::Open(format!("an address of the kernel's, {address:#x}")),
        None => Held("no address of the kernel's".to_owned()),
    }
}

/// What most of the host's /proc tells, and what the leak of sound cards was.
pub(crate) fn host_state(facts: &Facts) -> Verdict {
    readable(
        facts,
        &[
            "/proc/keys",
            "/proc/key-users",
            "/proc/timer_list",
            "/proc/sched_debug",
            "/proc/asound/cards",
            "/proc/acpi/wakeup",
            "/proc/scsi/scsi",
            "/proc/interrupts",
            "/proc/iomem",
            "/proc/ioports",
            "/proc/modules",
            "/proc/slabinfo",
            "/proc/kpagecount",
            "/sys/firmware/acpi/tables/DSDT",
        ],
    )
}

/// Whether /etc/ld.so.preload could be made is asked by a file without a name.
pub(crate) fn preload(_: &Facts) -> Verdict {
    const O_TMPFILE: i32 = 0o20_200_000;
    let file = File::options().write(true).custom_flags(O_TMPFILE).open("/etc");
    worked("a file in /etc", file)
}

pub(crate) fn fuse(facts: &Facts) -> Verdict {
    writable(facts, &["/dev/fuse"])
}

pub(crate) fn system_log(facts: &Facts) -> Verdict {
    let paths = ["/dev/log", "/run/systemd/journal/socket"];
    if facts.has("bare") && !paths.iter().any(|path| std::path::Path::new(path).exists()) {
        return NotApplicable("this host does not have it".to_owned());
    }
    let connect = |path| UnixDatagram::unbound().and_then(|socket| socket.connect(path));
    any(paths.map(|path| (path, connect(path))), "")
}
