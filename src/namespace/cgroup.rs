//! The view of control groups; [cgroup_namespaces(7)](https://man7.org/linux/man-pages/man7/cgroup_namespaces.7.html).

use super::Namespaces;
use crate::lower::Lower;
use crate::policy::Policy;
use crate::wire::Op;

pub(crate) fn lower(policy: &Policy, plan: &mut Lower) {
    if policy.new_namespaces().contains(Namespaces::CGROUP) {
        let op = Op::Unshare { flags: Namespaces::CGROUP.bits(), optional: 0 };
        plan.step(op, "its root is the group that init is in at this moment");
    }
}
