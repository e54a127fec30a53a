//! The search of everything that was read for everything that is known.

use memchr::memmem::Finder;

use super::facts::{Fact, Facts};
use super::leak::Leak;
use super::told::{Item, is_path};
use super::{Audit, Finding};
use crate::namespace::Namespaces;
use crate::plan::Plan;
use crate::policy::Policy;
use crate::rootfs::{Entry, Proc};
use crate::sandbox::Sandbox;

/// Places that a finding names.
const PLACES_MAX: usize = 5;
/// Bytes of what is shown that a finding has.
const SHOWN_MAX: usize = 120;

/// Findings while they are being made.
#[derive(Debug)]
pub(crate) struct Search {
    pub(super) facts: Facts,
    finders: Vec<Finder<'static>>,
    sandbox: Sandbox,
    findings: Vec<Finding>,
    entries: u64,
    bytes: u64,
}

impl Search {
    pub(crate) fn new(facts: Facts, sandbox: &Sandbox) -> Self {
        let finder = |fact: &Fact| Finder::new(&fact.text).into_owned();
        let finders = facts.texts.iter().map(finder).collect();
        let (findings, sandbox) = (Vec::new(), sandbox.clone());
        Search { facts, finders, sandbox, findings, entries: 0, bytes: 0 }
    }

    /// What is shared by name needs no search.
    pub(crate) fn declared(&mut self, plan: &Plan) {
        let new = plan.namespaces();
        for (kind, leak) in [
            (Namespaces::NET, Leak::Network),
            (Namespaces::PID, Leak::Process),
            (Namespaces::IPC, Leak::Ipc),
            (Namespaces::MOUNT, Leak::Files),
        ] {
            let joined = self.sandbox.policy().joined_namespaces().contains(kind);
            if !new.contains(kind) && !joined {
                let place = format!("namespace {kind}");
                self.add(leak, "shared with the caller", &place);
            }
        }
    }

    /// Whether there is no user namespace of its own.
    pub(super) fn shares_users(&self) -> bool {
        !self.sandbox.policy().new_namespaces().contains(Namespaces::USER)
    }

    /// Looks at one thing.
    pub(crate) fn examine(&mut self, item: &Item) {
        // The probe itself, where it is executed by a descriptor.
        let own = item.descriptor == Some(super::REPORT + 1);
        if own && item.data.starts_with(b"/memfd:stockade-probe") {
            return;
        }
        if is_path(&item.name) {
            self.entries += 1;
        }
        self.bytes += item.data.len() as u64;
        for index in 0..self.finders.len() {
            let (Some(finder), Some(fact)) = (self.finders.get(index), self.facts.texts.get(index))
            else {
                continue;
            };
            if is_in(finder, &item.data) || is_in(finder, &item.name) {
                let (leak, shown) = (fact.leak, fact.shown.clone());
                self.add(leak, &shown, &item.place());
            }
        }
        self.structured(item);
    }

    pub(super) fn add(&mut self, leak: Leak, shown: &str, place: &str) {
        let shown: String = shown.chars().flat_map(char::escape_debug).take(SHOWN_MAX).collect();
        let same = |finding: &&mut Finding| finding.leak == leak && finding.shown == shown;
        if let Some(finding) = self.findings.iter_mut().find(same) {
            let known = finding.places.iter().any(|other| other == place);
            if finding.places.len() < PLACES_MAX && !known {
                finding.places.push(place.to_owned());
            }
            return;
        }
        let closed_by = closed_by(leak, place, self.sandbox.policy());
        self.findings.push(Finding { leak, shown, places: vec![place.to_owned()], closed_by });
    }

    pub(crate) fn result(mut self, incomplete: Option<String>) -> Audit {
        let order = |finding: &Finding| (std::cmp::Reverse(finding.severity()), finding.leak);
        self.findings.sort_by_key(order);
        let Search { findings, entries, bytes, .. } = self;
        Audit { findings, entries, bytes, incomplete }
    }
}

/// Whether it is there, and not only as a part of a longer word or number.
fn is_in(finder: &Finder<'_>, text: &[u8]) -> bool {
    let part = |at: Option<usize>| {
        at.and_then(|at| text.get(at)).is_some_and(|byte| byte.is_ascii_alphanumeric())
    };
    let length = finder.needle().len();
    finder.find_iter(text).any(|at| !part(at.checked_sub(1)) && !part(Some(at + length)))
}

/// The line of the builder that closes it.
fn closed_by(leak: Leak, place: &str, policy: &Policy) -> String {
    if place.starts_with("/sys/") {
        return "not calling .sysfs()".to_owned();
    }
    if let Some(line) = policy.tree.entries.iter().rev().find_map(|entry| of_entry(entry, place)) {
        return line;
    }
    let of_proc = place.starts_with("/proc/") && policy.tree.proc() != Proc::Processes;
    let of_machine = ["/proc/stat", "/proc/meminfo", "/proc/loadavg"].contains(&place);
    match leak {
        _ if of_machine => ".view(..)",
        Leak::Kernel | Leak::Processor => "nothing here: a virtual machine has its own",
        Leak::BootTime => ".time_offsets(..)",
        Leak::Processors => ".cpus(..)",
        Leak::Memory | Leak::Load => "nothing here: every program may ask the kernel",
        Leak::HostIds => ".own_host_id(), which has ids that are nobody's",
        Leak::FileSystem | Leak::Device => {
            ".rootfs(Rootfs::directory(..)) with a file system of its own"
        }
        Leak::HostName => ".hostname(..)",
        Leak::Cgroup => ".namespaces(..) with Namespaces::CGROUP",
        Leak::Ipc => ".namespaces(..) with Namespaces::IPC",
        Leak::Process => ".namespaces(..) with Namespaces::PID",
        Leak::Files => ".namespaces(..) with Namespaces::MOUNT",
        Leak::Network | Leak::Address | Leak::Socket => ".network(Network::Loopback)",
        Leak::Key => ".seccomp(Seccomp::default())",
        Leak::Descriptor => "not calling .fd(..)",
        Leak::MachineId | Leak::User if place.starts_with("/etc/") => {
            ".rootfs(..) with generated_etc(true)"
        }
        _ if of_proc => ".proc(Proc::Processes)",
        Leak::Path if place.ends_with("/mountinfo") || place.ends_with("/mounts") => {
            ".hide_host_paths(true)"
        }
        Leak::Path if place.starts_with("descriptor") => "a pipe, or a file in memory",
        Leak::Environment => "not calling .env(..) with it",
        _ => "not giving what it is in",
    }
    .to_owned()
}

/// The entry of the tree that a place is in.
fn of_entry(entry: &Entry, place: &str) -> Option<String> {
    let (call, target) = match entry {
        Entry::Bind(bind) => ("bind", bind.target()),
        Entry::Overlay(path, _) => ("overlay", path.as_path()),
        Entry::Data(data) => ("data", data.path()),
        _ => return None,
    };
    let is_in = std::path::Path::new(place).starts_with(target);
    is_in.then(|| format!("not calling .{call}(..) for {target:?}"))
}
