//! Stopping and continuing a group;
//! [freezer-subsystem.rst](https://docs.kernel.org/admin-guide/cgroup-v1/freezer-subsystem.html).

use super::{CgroupVersion, Write, Writes};

/// Whether a group is stopped. A sandbox is stopped by [`Child::pause`](crate::Child::pause).
///
/// # Examples
///
/// ```
/// assert_ne!(stockade::Freezer::Frozen, stockade::Freezer::Thawed);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Freezer {
    /// No process of it runs.
    Frozen,
    /// All of them run.
    Thawed,
}

impl Freezer {
    #[allow(clippy::unnecessary_wraps, reason = "as for every controller")]
    pub(crate) fn writes(self, version: CgroupVersion) -> Writes {
        Ok(vec![match (version, self) {
            (CgroupVersion::V1, Freezer::Frozen) => Write::new("freezer.state", "FROZEN"),
            (CgroupVersion::V1, Freezer::Thawed) => Write::new("freezer.state", "THAWED"),
            (CgroupVersion::V2, Freezer::Frozen) => Write::new("cgroup.freeze", 1),
            (CgroupVersion::V2, Freezer::Thawed) => Write::new("cgroup.freeze", 0),
        }])
    }
}
