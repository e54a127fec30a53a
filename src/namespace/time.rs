//! Clock offsets; [time_namespaces(7)](https://man7.org/linux/man-pages/man7/time_namespaces.7.html).

use super::Namespaces;
use crate::error::{Feature, Result};
use crate::lower::Lower;
use crate::policy::Policy;
use crate::wire::Op;

/// Offsets that are added to the host's clocks inside, in seconds; they may be negative as long as
/// the clock inside does not become so. The default is 0 for both.
///
/// They are those of
/// [time_namespaces(7)](https://man7.org/linux/man-pages/man7/time_namespaces.7.html), Linux 5.6. A
/// clock that would become negative, or greater than half of what the kernel can count (146 years),
/// is refused with ERANGE. The time of day has no namespace.
///
/// # Examples
///
/// ```
/// use stockade::{Sandbox, TimeOffsets};
/// let day = TimeOffsets { boottime: 86400, ..TimeOffsets::default() };
/// let script = "grep -q 'boottime *86400' /proc/self/timens_offsets";
/// let status = Sandbox::new().time_offsets(day).command("sh").args(["-c", script]).status()?;
/// assert!(status.outcome.is_success());
/// # Ok::<(), stockade::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TimeOffsets {
    /// Added to `CLOCK_MONOTONIC`, in seconds.
    pub monotonic: i64,
    /// Added to `CLOCK_BOOTTIME`, which /proc/uptime shows, in seconds.
    pub boottime: i64,
}

/// The namespace and its clocks.
pub(crate) fn lower(policy: &Policy, plan: &mut Lower) -> Result<()> {
    if !policy.new_namespaces().contains(Namespaces::TIME) {
        return Ok(());
    }
    let optional = policy.optional(Feature::TimeNamespace);
    let op = Op::Unshare { flags: Namespaces::TIME.bits(), optional };
    plan.step(op, "for the program, which is yet to be started");
    match &policy.tree.view {
        Some(view) => view.offsets()?.lower(plan, optional),
        None => policy.time.lower(plan, optional),
    }
    if !policy.init {
        // Where init becomes the program, nobody is started in it.
        plan.step(Op::EnterTime { optional }, "the program is no child of init's");
    }
    Ok(())
}

impl TimeOffsets {
    fn lower(self, plan: &mut Lower, optional: u32) {
        if self == TimeOffsets::default() {
            return;
        }
        let data = format!("monotonic {} 0\nboottime {} 0\n", self.monotonic, self.boottime);
        let op = Op::WriteFile {
            path: b"self/timens_offsets".to_vec(),
            data: data.into_bytes(),
            optional,
        };
        plan.step(op, "the kernel closes the offsets once something runs there");
    }
}
