//! Scalar resources;
//! [misc.rst](https://docs.kernel.org/admin-guide/cgroup-v1/misc.html).

use std::collections::BTreeMap;

use super::{CgroupVersion, Write, Writes, or_max};
use crate::rlimit::Max;

/// How much of the host's scalar resources, such as `sev` for encrypted virtual machines, a sandbox
/// may use (Linux 5.13; [misc.rst](https://docs.kernel.org/admin-guide/cgroup-v1/misc.html)). Which
/// there are is in `misc.capacity` of the root group.
///
/// # Examples
///
/// ```
/// use stockade::{Limits, Misc, Sandbox};
/// let sandbox = Sandbox::new().limits(Limits::new().misc(Misc::new().max("sev", 1)));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use = "it limits nothing until it is given to a sandbox"]
pub struct Misc {
    maxima: BTreeMap<String, Max>,
}

impl Misc {
    /// No limit.
    ///
    /// # Examples
    ///
    /// ```
    /// let misc = stockade::Misc::new();
    /// ```
    pub fn new() -> Self {
        Misc::default()
    }

    /// The most of one resource, in its own unit.
    ///
    /// # Examples
    ///
    /// ```
    /// let misc = stockade::Misc::new().max("sev_es", 0);
    /// ```
    #[doc(alias = "misc.max")]
    pub fn max(mut self, resource: impl Into<String>, max: impl Into<Max>) -> Self {
        self.maxima.insert(resource.into(), max.into());
        self
    }

    pub(crate) fn problems(&self, problems: &mut Vec<String>) {
        super::limits::check_names("misc resource", self.maxima.keys(), problems);
    }

    #[allow(clippy::unnecessary_wraps, reason = "as for every controller")]
    pub(crate) fn writes(&self, _: CgroupVersion) -> Writes {
        let line = |(name, max): (&String, &Max)| format!("{name} {}", or_max(*max));
        Ok(self.maxima.iter().map(line).map(|line| Write::new("misc.max", line)).collect())
    }
}
