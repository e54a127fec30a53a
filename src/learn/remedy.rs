//! The builder line that would allow what was refused.

use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::stat::SFlag;

use super::{Access, Wall};
use crate::capability::Capability;
use crate::landlock::Landlock;
use crate::policy::Policy;
use crate::rootfs::{Bind, Entry, Proc};

/// A line, if there is one, and what is to be known of it.
#[derive(Debug, Default)]
pub(super) struct Remedy {
    pub(super) line: Option<String>,
    pub(super) note: Option<String>,
}

impl Remedy {
    fn line(line: String) -> Self {
        Remedy { line: Some(line), note: None }
    }

    fn note(note: impl Into<String>) -> Self {
        Remedy { line: None, note: Some(note.into()) }
    }

    fn with(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }
}

/// A path as Rust writes it, if it is text.
fn quoted(path: &Path) -> Option<String> {
    path.to_str().map(|text| format!("{text:?}"))
}

fn for_path(path: &Path, line: impl FnOnce(&str) -> String) -> Remedy {
    match quoted(path) {
        Some(path) => Remedy::line(line(&path)),
        None => Remedy::note("the path is not UTF-8: give it as an OsStr"),
    }
}

/// What /proc shows a program that has [`Proc::Compat`].
const COMPAT: [&str; 9] =
    ["cpuinfo", "filesystems", "loadavg", "meminfo", "mounts", "net", "stat", "sys", "uptime"];

/// For something that the host has at this path and the sandbox has not.
pub(super) fn absent(policy: &Policy, path: &Path, access: Access, kind: SFlag) -> Remedy {
    if let Ok(rest) = path.strip_prefix("/proc") {
        let first = rest.components().next().and_then(|first| first.as_os_str().to_str());
        let compat = first.is_none_or(|first| COMPAT.contains(&first));
        let proc = match policy.tree.proc {
            Proc::None if first.is_none() => "Processes",
            Proc::Processes | Proc::None if compat => "Compat",
            _ => "Full",
        };
        return Remedy::line(format!(".proc(Proc::{proc})")).with("tells of the host");
    }
    if path.starts_with("/sys") {
        return Remedy::line(".sysfs()".to_owned()).with("tells of the host's hardware");
    }
    if path.starts_with("/dev/mqueue") {
        return Remedy::line(".mqueue()".to_owned());
    }
    match kind {
        SFlag::S_IFCHR | SFlag::S_IFBLK => {
            let line =
                |path: &str| format!(".bind(Bind::read_write({path}, {path}).with_devices())");
            for_path(path, line).with("a device of the host's")
        }
        SFlag::S_IFSOCK => for_path(path, |path| format!(".bind_ro({path}, {path})"))
            .with("whoever listens there is outside"),
        _ if access == Access::Write => {
            for_path(path, |path| format!(".bind_rw({path}, {path})")).with("what is written stays")
        }
        _ => for_path(path, |path| format!(".bind_ro({path}, {path})")),
    }
}

/// For a write where nothing may be written. `is_outside` asks for a directory of the host's.
pub(super) fn read_only(
    policy: &Policy,
    path: &Path,
    is_outside: impl Fn(&Path) -> Option<SFlag>,
) -> Remedy {
    let binds = policy.tree.entries.iter().filter_map(|entry| match entry {
        Entry::Bind(bind) if path.starts_with(bind.target()) => Some(bind),
        _ => None,
    });
    if let Some(bind) = binds.max_by_key(|bind| bind.target().components().count()) {
        return writable(bind, path, is_outside);
    }
    let Some(directory) = path.parent() else { return Remedy::default() };
    if directory == Path::new("/") {
        let line = |path: &str| format!(".tmpfs({path})");
        return for_path(path, line).with("a directory of the sandbox's own");
    }
    let line = match is_outside(directory) {
        Some(SFlag::S_IFDIR) => |path: &str| format!(".overlay({path}, Overlay::new([{path}]))"),
        _ => |path: &str| format!(".tmpfs({path})"),
    };
    for_path(directory, line).with("what is written there is thrown away")
}

/// The smallest part of a bind that has to be writable: the file, or the directory of a new one.
fn writable(bind: &Bind, path: &Path, is_outside: impl Fn(&Path) -> Option<SFlag>) -> Remedy {
    let rest = path.strip_prefix(bind.target()).unwrap_or(Path::new(""));
    let source = |rest: &Path| match rest.as_os_str().is_empty() {
        true => bind.source().to_owned(),
        false => bind.source().join(rest),
    };
    let part: PathBuf = match is_outside(&source(rest)) {
        Some(SFlag::S_IFREG) => rest.to_owned(),
        _ => rest.parent().map_or_else(|| rest.to_owned(), Path::to_owned),
    };
    let target = match part.as_os_str().is_empty() {
        true => bind.target().to_owned(),
        false => bind.target().join(&part),
    };
    match (quoted(&source(&part)), quoted(&target)) {
        (Some(from), Some(to)) => Remedy::line(format!(".bind_rw({from}, {to})"))
            .with("what is written changes the host's"),
        _ => Remedy::note("the path is not UTF-8: give it as an OsStr"),
    }
}

/// For what a mode or a mount flag refuses.
pub(super) fn refused(path: &Path, access: Access, kind: Option<SFlag>) -> Remedy {
    match (access, kind) {
        (Access::Read, Some(SFlag::S_IFREG)) => for_path(path, |path| {
            format!(".file({path}, std::fs::read({path})?)")
        })
        .with(
            "a copy, for a file whose mode or owner refuses; the caller has to be able to read it",
        ),
        (Access::Execute, _) => {
            Remedy::note("its mode, its owner or its mount (no_exec) forbids to execute it")
        }
        _ => Remedy::note("its mode or owner refuses: see host_ids(..) and id_map(..)"),
    }
}

pub(super) fn capability(policy: &Policy, wanted: Capability) -> Remedy {
    Remedy::line(capabilities(policy.capabilities.bounding().iter().chain([wanted])))
}

/// The line that keeps these.
pub(super) fn capabilities(wanted: impl IntoIterator<Item = Capability>) -> String {
    let mut all: Vec<Capability> = wanted.into_iter().collect();
    all.sort();
    all.dedup();
    let name = |one: Capability| {
        let name = one.to_string();
        format!("Capability::{}", name.strip_prefix("CAP_").unwrap_or(&name))
    };
    let names: Vec<_> = all.into_iter().map(name).collect();
    format!(".capabilities(Capabilities::keep([{}]))", names.join(", "))
}

/// The line of a Landlock without these walls.
pub(super) fn landlock(given: &Landlock, walls: impl IntoIterator<Item = Wall>) -> String {
    let without = walls.into_iter().fold(given.clone(), |landlock, wall| match wall {
        Wall::All => landlock.without_walls(),
        Wall::Bind(port) => landlock.bind_tcp([port]),
        Wall::Connect(port) => landlock.connect_tcp([port]),
    });
    format!(".landlock({})", without.expression())
}

/// What has to be changed for a system call.
#[derive(Debug)]
pub(super) enum Call {
    Rule(String),
    Capability(Capability),
    Other(Remedy),
}

/// The argument that a profile decides by.
pub(super) fn decisive(name: &str) -> Option<usize> {
    match name {
        "socket" | "socketpair" | "personality" | "clone" | "unshare" | "prctl" => Some(0),
        "ioctl" => Some(1),
        _ => None,
    }
}

/// For a system call that the filter refuses.
pub(super) fn call(policy: &Policy, name: &str, args: [u64; 6], errno: Errno) -> Call {
    const NEW_USER: u64 = 0x1000_0000;
    const SETUID: u64 = 0o4000;
    let nests = match name {
        "setns" | "clone3" => true,
        "clone" | "unshare" => args[0] & NEW_USER != 0,
        _ => false,
    };
    if name == "clone3" {
        return Call::Other(Remedy::note("libc uses clone instead: nothing to do"));
    }
    if nests && !policy.nesting {
        return Call::Other(Remedy::line(".allow_nesting()".to_owned()));
    }
    let traces = ["ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd"].contains(&name);
    if traces && !policy.debugging && policy.seccomp.expression() != "profile" {
        return Call::Other(Remedy::line(".allow_debugging()".to_owned()));
    }
    let mode = match name {
        "chmod" | "fchmod" => args[1],
        "fchmodat" | "fchmodat2" => args[2],
        _ => 0,
    };
    if mode & SETUID != 0 {
        let note =
            "a file made setuid would stay on the host; without a writable bind it is allowed";
        return Call::Other(Remedy::note(note));
    }
    let on_init = match name {
        "prlimit64" | "sched_setaffinity" | "sched_setattr" | "sched_setparam"
        | "sched_setscheduler" => args[0] == 1,
        "setpriority" | "ioprio_set" => true,
        _ => false,
    };
    if on_init && policy.init {
        return Call::Other(Remedy::note("it would change init, or all of its user's processes"));
    }
    if let Some(capability) = policy.seccomp.capability_for(name) {
        return Call::Capability(capability);
    }
    if errno == Errno::ENOSYS && name.starts_with("io_uring") {
        return Call::Other(Remedy::note("programs do without it; a ring would not be watched"));
    }
    let when = decisive(name).map_or_else(String::new, |at| {
        let value = args[at] & u64::from(u32::MAX);
        format!(".when(Condition::equal({at}, {value}).low())")
    });
    Call::Rule(format!(".rule(Rule::new({name:?}){when})"))
}

/// The line of a profile with these rules before it.
pub(super) fn profile(policy: &Policy, rules: &str) -> String {
    format!(".seccomp({}{rules})", policy.seccomp.expression())
}
