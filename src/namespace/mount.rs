//! The mounts and the power over them; [mount_namespaces(7)](https://man7.org/linux/man-pages/man7/mount_namespaces.7.html).

use super::Namespaces;
use super::user::Ids;
use crate::capability::Capability;
use crate::lower::Lower;
use crate::policy::Policy;
use crate::wire::Op;

/// Whether the program could undo the mounts that it is given: it has CAP_SYS_ADMIN over the user
/// namespace that they are made in.
pub(crate) fn must_be_locked(policy: &Policy) -> bool {
    let (new, joined) = (policy.new_namespaces(), policy.joined_namespaces());
    policy.capabilities.bounding().contains(Capability::SYS_ADMIN)
        && new.contains(Namespaces::MOUNT)
        && (new | joined).contains(Namespaces::USER)
}

pub(crate) fn problems(policy: &Policy, problems: &mut Vec<String>) {
    if !policy.wanted_namespaces().contains(Namespaces::MOUNT) && !policy.tree.is_default() {
        problems.push("the file tree needs a mount namespace of its own".to_owned());
    }
    if policy.tree.hide_paths && policy.nesting {
        problems.push(
            "hide_host_paths(true) leaves the program a root that is no namespace's, and to such a one the \
             kernel gives no user namespaces"
                .to_owned(),
        );
    }
    if policy.tree.hide_paths && policy.capabilities.bounding().contains(Capability::SYS_ADMIN) {
        problems.push("with CAP_SYS_ADMIN a program undoes hide_host_paths(true)".to_owned());
    }
}

/// One more namespace, in which the mounts of the first are locked.
pub(crate) fn lower_lock(ids: Ids, plan: &mut Lower) {
    let (uid, gid) = ids.inside;
    let flags = (Namespaces::USER | Namespaces::MOUNT).bits();
    plan.step(
        Op::Unshare { flags, optional: 0 },
        "mounts of another one are locked: CAP_SYS_ADMIN is kept",
    );
    plan.step(Op::SameIds { uid, gid }, "the same ids are there");
}
