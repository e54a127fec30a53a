//! System V objects and message queues; [ipc_namespaces(7)](https://man7.org/linux/man-pages/man7/ipc_namespaces.7.html).

use std::path::Path;

use super::Namespaces;
use crate::abi::*;
use crate::lower::Lower;
use crate::policy::Policy;
use crate::rootfs::Entry;

pub(crate) fn problems(policy: &Policy, problems: &mut Vec<String>) {
    let shown = policy.tree.entries.iter().any(|entry| matches!(entry, Entry::Mqueue { .. }));
    if shown && !policy.new_namespaces().contains(Namespaces::IPC) {
        problems.push("mqueue() needs an ipc namespace of its own".to_owned());
    }
}

/// The namespace's message queues as files.
pub(crate) fn lower_queues(path: &Path, plan: &mut Lower) {
    plan.mount("mqueue", path, MS_NOSUID | MS_NODEV | MS_NOEXEC, "");
}
