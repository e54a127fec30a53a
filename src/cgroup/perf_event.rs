//! Performance events by group;
//! [perf_event_open(2)](https://man7.org/linux/man-pages/man2/perf_event_open.2.html).

use super::{CgroupVersion, Writes};

/// A group of the sandbox's own in the `perf_event` hierarchy, so that `perf stat --for-each-cgroup`
/// and `PERF_FLAG_PID_CGROUP` can count it
/// ([perf_event_open(2)](https://man7.org/linux/man-pages/man2/perf_event_open.2.html)). It limits
/// nothing.
///
/// # Examples
///
/// ```
/// use stockade::{Limits, PerfEvent, Sandbox};
/// let sandbox = Sandbox::new().limits(Limits::new().perf_event(PerfEvent));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct PerfEvent;

impl PerfEvent {
    #[allow(clippy::unnecessary_wraps, reason = "as for every controller")]
    pub(crate) fn writes(self, _: CgroupVersion) -> Writes {
        Ok(Vec::new())
    }
}
