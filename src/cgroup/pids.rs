//! The number of processes and threads;
//! [pids.rst](https://docs.kernel.org/admin-guide/cgroup-v1/pids.html).

use super::{CgroupVersion, Write, Writes, or_max};
use crate::rlimit::Max;

/// How many processes and threads a sandbox may have at a time, its init not counted (Linux 4.3).
/// One more is `EAGAIN` from [fork(2)](https://man7.org/linux/man-pages/man2/fork.2.html).
///
/// # Examples
///
/// ```
/// use stockade::{Limits, Pids, Sandbox};
/// let sandbox = Sandbox::new().limits(Limits::new().pids(Pids::new().max(64)));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use = "it limits nothing until it is given to a sandbox"]
pub struct Pids {
    pub(crate) max: Option<Max>,
}

impl Pids {
    /// No limit.
    ///
    /// # Examples
    ///
    /// ```
    /// let pids = stockade::Pids::new();
    /// ```
    pub fn new() -> Self {
        Pids::default()
    }

    /// The most processes and threads, at least 1 and at most 4194303.
    ///
    /// # Examples
    ///
    /// ```
    /// let pids = stockade::Pids::new().max(64);
    /// ```
    #[doc(alias = "pids.max")]
    pub fn max(self, count: impl Into<Max>) -> Self {
        Pids { max: Some(count.into()) }
    }

    pub(crate) fn problems(&self, problems: &mut Vec<String>) {
        match self.max {
            Some(Max::At(0)) => {
                problems.push("a pids limit of 0 leaves no room for the program".to_owned());
            }
            // The kernel takes one more, which is init's.
            Some(Max::At(count)) if count > 4_194_303 => {
                problems.push("a pids limit above 4194303 is none".to_owned());
            }
            _ => {}
        }
    }

    /// `besides` is how many processes of the sandbox's own do not count.
    pub(crate) fn writes(&self, _: CgroupVersion, besides: u64) -> Writes {
        let max = self.max.map(|max| match max {
            Max::At(count) => Max::At(count.saturating_add(besides)),
            unlimited => unlimited,
        });
        Ok(max.map(|max| Write::new("pids.max", or_max(max))).into_iter().collect())
    }
}
