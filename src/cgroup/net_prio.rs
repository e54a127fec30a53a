//! A priority on packets;
//! [net_prio.rst](https://docs.kernel.org/admin-guide/cgroup-v1/net_prio.html).

use std::collections::BTreeMap;

use nix::errno::Errno;

use super::bpf::Program;
use super::{CgroupVersion, Write, Writes};

/// The priority of a sandbox's packets, by interface of the caller's network namespace, which it
/// must have: [`Network::Host`](crate::Network::Host)
/// (`SO_PRIORITY` of [socket(7)](https://man7.org/linux/man-pages/man7/socket.7.html)).
///
/// On v2 a BPF program sets it on IPv4 and IPv6 packets, which needs CAP_BPF and CAP_NET_ADMIN
/// (Linux 5.8; CAP_SYS_ADMIN before). On v1 a program that sets the priority of its own socket, up
/// to 6, has that.
///
/// # Examples
///
/// ```
/// use stockade::{Limits, NetPrio, Network, Sandbox};
/// let limits = Limits::new().net_prio(NetPrio::new().priority("eth0", 5));
/// let sandbox = Sandbox::new().network(Network::Host).limits(limits);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use = "it marks nothing until it is given to a sandbox"]
pub struct NetPrio {
    pub(crate) priorities: BTreeMap<String, u32>,
}

impl NetPrio {
    /// No priority.
    ///
    /// # Examples
    ///
    /// ```
    /// let priorities = stockade::NetPrio::new();
    /// ```
    pub fn new() -> Self {
        NetPrio::default()
    }

    /// The priority on one interface.
    ///
    /// # Examples
    ///
    /// ```
    /// let priorities = stockade::NetPrio::new().priority("lo", 2);
    /// ```
    #[doc(alias = "net_prio.ifpriomap")]
    pub fn priority(mut self, interface: impl Into<String>, priority: u32) -> Self {
        self.priorities.insert(interface.into(), priority);
        self
    }

    pub(crate) fn problems(&self, problems: &mut Vec<String>) {
        super::limits::check_names("network interface", self.priorities.keys(), problems);
    }

    pub(crate) fn writes(&self, version: CgroupVersion) -> Writes {
        let line = |(name, priority): (&String, &u32)| {
            Write::new("net_prio.ifpriomap", format!("{name} {priority}"))
        };
        match version {
            CgroupVersion::V1 => Ok(self.priorities.iter().map(line).collect()),
            CgroupVersion::V2 => Ok(Vec::new()),
        }
    }

    /// What does it on v2; an error is about an interface.
    pub(crate) fn program(&self) -> Result<Program, (String, Errno)> {
        let indices = self.priorities.iter().map(|(name, priority)| {
            let index = nix::net::if_::if_nametoindex(name.as_str());
            index.map(|index| (index, *priority)).map_err(|errno| (name.clone(), errno))
        });
        Ok(Program::priorities(&indices.collect::<Result<Vec<_>, _>>()?))
    }
}
