//! What a host has that sandboxes could leave behind.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::Result;

/// Objects of the kernel's that a namespace, a mount, a group or a process has.
const SLABS: [&str; 8] = [
    "mnt_cache",
    "net_namespace",
    "pid_namespace",
    "user_namespace",
    "nsproxy",
    "cred_jar",
    "task_struct",
    "proc_inode_cache",
];
/// Objects that stay in the kernel's own caches, or belong to what else the machine does.
const SLACK: u64 = 2000;

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Host {
    descriptors: usize,
    mounts: Vec<String>,
    groups: Vec<String>,
    files: Vec<String>,
    /// `None` for who may not read it.
    slabs: Option<BTreeMap<String, u64>>,
}

impl Host {
    pub(crate) fn look(scratch: &Path) -> Result<Self> {
        let mut groups = Vec::new();
        groups_below(Path::new("/sys/fs/cgroup"), &mut groups);
        let mounts = fs::read_to_string("/proc/self/mountinfo")?;
        let slabs = fs::read_to_string("/proc/slabinfo").ok();
        let mut files = names(Path::new("/tmp"))?;
        // Others put files there, too.
        files.retain(|name| name.contains("stockade"));
        files.extend(names(scratch)?);
        Ok(Host {
            descriptors: names(Path::new("/proc/self/fd"))?.len(),
            mounts: mounts.lines().map(str::to_owned).collect(),
            groups,
            files,
            slabs: slabs.map(|text| objects(&text)),
        })
    }

    /// What is more now than it was before so many sandboxes; the kernel takes namespaces apart when it
    /// has time for it.
    pub(crate) fn compare(&self, scratch: &Path, sandboxes: u64, patience: Duration) -> Result<()> {
        let until = Instant::now() + patience;
        loop {
            let now = Host::look(scratch)?;
            let more = self.more(&now, sandboxes);
            if more.is_empty() || Instant::now() > until {
                self.print(&now);
                return if more.is_empty() { Ok(()) } else { Err(more.join("\n").into()) };
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    fn more(&self, now: &Self, sandboxes: u64) -> Vec<String> {
        let mut problems = Vec::new();
        if now.descriptors > self.descriptors {
            problems.push("there are more descriptors".to_owned());
        }
        for (kind, before, now) in [
            ("mount", &self.mounts, &now.mounts),
            ("group", &self.groups, &now.groups),
            ("file", &self.files, &now.files),
        ] {
            let new = now.iter().filter(|one| !before.contains(one));
            problems.extend(new.map(|one| format!("{kind} left: {one}")));
        }
        if let (Some(before), Some(now)) = (&self.slabs, &now.slabs) {
            problems.extend(grown(before, now, sandboxes));
        }
        problems
    }

    fn print(&self, now: &Self) {
        for (kind, before, now) in [
            ("descriptors", self.descriptors, now.descriptors),
            ("mounts", self.mounts.len(), now.mounts.len()),
            ("groups of sandboxes", self.groups.len(), now.groups.len()),
            ("files", self.files.len(), now.files.len()),
        ] {
            println!("{kind}: {before} before, {now} now");
        }
        let (Some(before), Some(now)) = (&self.slabs, &now.slabs) else {
            return println!("slabs: not looked at, as this user may not");
        };
        for name in SLABS {
            if let (Some(before), Some(now)) = (before.get(name), now.get(name)) {
                println!("slab {name}: {before} objects before, {now} now");
            }
        }
    }
}

/// The slabs that have grown by more than an object for each hundred sandboxes.
fn grown(
    before: &BTreeMap<String, u64>,
    now: &BTreeMap<String, u64>,
    sandboxes: u64,
) -> Vec<String> {
    let mut problems = Vec::new();
    for name in SLABS {
        let (Some(before), Some(now)) = (before.get(name), now.get(name)) else { continue };
        if now.saturating_sub(*before) > sandboxes / 100 + SLACK {
            problems.push(format!("slab {name} has grown from {before} to {now}"));
        }
    }
    problems
}

/// How many objects of each slab are in use.
fn objects(text: &str) -> BTreeMap<String, u64> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

fn names(directory: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(directory)?;
    let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let mut names: Vec<_> = names.collect::<Result<_>>()?;
    names.sort();
    Ok(names)
}

/// Control groups of sandboxes, of this or of any other program; those that go meanwhile do not count.
fn groups_below(directory: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if entry.file_name().to_string_lossy().starts_with("stockade-") {
                found.push(path.display().to_string());
            }
            groups_below(&path, found);
        }
    }
}

/// Waits until this process has no child left, which for a subreaper is a proof; the error names those that
/// stay.
pub(crate) fn await_no_child(patience: Duration) -> std::result::Result<(), String> {
    let until = Instant::now() + patience;
    loop {
        match waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL)) {
            Err(Errno::ECHILD) => return Ok(()),
            Ok(WaitStatus::StillAlive) | Err(_) => std::thread::sleep(Duration::from_millis(1)),
            Ok(_) => {}
        }
        if Instant::now() > until {
            return Err(format!("still there: {}", children().join(", ")));
        }
    }
}

/// Pid and name of each child of this process.
pub(crate) fn children() -> Vec<String> {
    let me = std::process::id().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let Some((before, after)) = stat.rsplit_once(')') else { continue };
        if after.split_whitespace().nth(1) == Some(me.as_str()) {
            found.push(format!("{before})"));
        }
    }
    found
}
