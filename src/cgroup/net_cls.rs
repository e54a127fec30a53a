//! A class on packets;
//! [net_cls.rst](https://docs.kernel.org/admin-guide/cgroup-v1/net_cls.html).

use super::bpf::Program;
use super::{CgroupVersion, Write, Writes};

/// The class of a sandbox's packets, for
/// [tc(8)](https://man7.org/linux/man-pages/man8/tc.8.html) and packet filters.
///
/// On v2 it is the mark (`SO_MARK` of
/// [socket(7)](https://man7.org/linux/man-pages/man7/socket.7.html)) of each IPv4 and IPv6 socket
/// that the sandbox makes, set by a BPF program, which needs CAP_BPF and CAP_NET_ADMIN (Linux 5.8;
/// CAP_SYS_ADMIN before). Outside of the sandbox's network namespace neither is seen.
///
/// # Examples
///
/// ```
/// use stockade::{Limits, NetCls, Sandbox};
/// let sandbox = Sandbox::new().limits(Limits::new().net_cls(NetCls::new(0x10, 1)));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[must_use = "it marks nothing until it is given to a sandbox"]
pub struct NetCls {
    /// What v1 writes and v2 sets as the mark of each socket.
    pub(crate) class: u32,
}

impl NetCls {
    /// The class `major:minor` as tc(8) writes it.
    ///
    /// # Examples
    ///
    /// ```
    /// let class = stockade::NetCls::new(0x10, 1);
    /// ```
    #[doc(alias = "net_cls.classid")]
    pub fn new(major: u16, minor: u16) -> Self {
        NetCls { class: u32::from(major) << 16 | u32::from(minor) }
    }

    pub(crate) fn writes(self, version: CgroupVersion) -> Writes {
        match version {
            CgroupVersion::V1 => Ok(vec![Write::new("net_cls.classid", self.class)]),
            CgroupVersion::V2 => Ok(Vec::new()),
        }
    }

    /// What does it on v2.
    pub(crate) fn program(self) -> Program {
        Program::mark(self.class)
    }
}
