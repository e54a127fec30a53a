//! The network; [network_namespaces(7)](https://man7.org/linux/man-pages/man7/network_namespaces.7.html).

use super::Namespaces;
use crate::capability::Capability;
use crate::lower::Lower;
use crate::policy::Policy;
use crate::wire::Op;

/// Which network a sandbox has;
/// [network_namespaces(7)](https://man7.org/linux/man-pages/man7/network_namespaces.7.html).
///
/// # Examples
///
/// ```
/// use stockade::{Network, Sandbox};
/// let outside = std::fs::read_link("/proc/self/ns/net")?;
/// let sandbox = Sandbox::new().network(Network::Host);
/// let output = sandbox.command("readlink").args(["-n", "/proc/self/ns/net"]).output()?;
/// assert_eq!(output.stdout, outside.as_os_str().as_encoded_bytes());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Network {
    /// A namespace of its own in which not even the loopback interface is up.
    None,
    /// A namespace of its own with `lo` up, 127.0.0.1 and ::1: the default.
    #[default]
    Loopback,
    /// The caller's own network, abstract Unix sockets included: a widening.
    Host,
}

impl Network {
    /// The namespace that it needs or does without.
    pub(crate) fn decide(self, new: Namespaces) -> Namespaces {
        if self == Network::Host { new - Namespaces::NET } else { new | Namespaces::NET }
    }
}

/// Power over a network namespace.
const OVER_NETWORKS: [Capability; 4] = [
    Capability::NET_ADMIN,
    Capability::NET_RAW,
    Capability::NET_BIND_SERVICE,
    Capability::NET_BROADCAST,
];

pub(crate) fn problems(policy: &Policy, problems: &mut Vec<String>) {
    let asked_for = policy.new.is_some_and(|new| new.contains(Namespaces::NET));
    if policy.network == Some(Network::Host) && asked_for {
        problems.push("the host's network is no new network namespace".to_owned());
    }
    let kept = policy.capabilities.bounding();
    let over = OVER_NETWORKS.into_iter().find(|capability| kept.contains(*capability));
    if let (true, Some(capability)) = (policy.recycle_network, over) {
        problems.push(format!(
            "a network that is used again is nobody's to change, so {capability} cannot be kept"
        ));
    }
    if policy.network.is_some() && policy.joined_namespaces().contains(Namespaces::NET) {
        problems.push("the network is joined, so network(..) is not ours to choose".to_owned());
    }
}

/// Whether another process makes the namespace while init makes the tree. A sysfs shows the network of
/// who mounts it, so for that it must be there before. Without init that process would be one more than
/// a limit of processes allows.
pub(crate) fn is_made_beside(policy: &Policy) -> bool {
    let room = policy.init || policy.limits.pids.is_none();
    policy.new_namespaces().contains(Namespaces::NET) && !policy.tree.has_sysfs() && room
}

pub(crate) fn lower(policy: &Policy, plan: &mut Lower) {
    let new = policy.new_namespaces().contains(Namespaces::NET);
    if new && policy.network.unwrap_or_default() == Network::Loopback {
        plan.step(Op::Loopback {}, "a new network namespace has it down");
    }
}
