//! Clock offsets; [time_namespaces(7)](https://man7.org/linux/man-pages/man7/time_namespaces.7.html).

use crate::lower::Lower;
use crate::wire::Op;

/// Offsets that are added to the host's clocks inside, in seconds; they may be negative as long as
/// the clock inside does not become so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TimeOffsets {
    /// Added to `CLOCK_MONOTONIC`.
    pub monotonic: i64,
    /// Added to `CLOCK_BOOTTIME`, which /proc/uptime shows.
    pub boottime: i64,
}

impl TimeOffsets {
    pub(crate) fn lower(self, plan: &mut Lower, optional: u32) {
        if self == TimeOffsets::default() {
            return;
        }
        let data = format!("monotonic {} 0\nboottime {} 0\n", self.monotonic, self.boottime);
        let op = Op::WriteFile {
            path: b"/proc/self/timens_offsets".to_vec(),
            data: data.into_bytes(),
            optional,
        };
        let object = format!("monotonic {:+} s, boottime {:+} s", self.monotonic, self.boottime);
        plan.step(op, object, "the kernel closes the offsets once something runs there");
    }
}
