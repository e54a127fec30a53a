//! Ending all that is in a sandbox's groups, where no pid namespace ends with its PID 1.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use super::freezer::PAUSED;
use super::group::{Groups, members};
use super::{CgroupVersion, Write};
use crate::{process, sys};

/// How often processes that were forked meanwhile are looked for.
const ROUNDS: u32 = 10_000;
const PAUSE: Duration = Duration::from_micros(100);

impl Groups {
    /// Kills everything in them, what is forked meanwhile included: at once by `cgroup.kill` (v2, Linux
    /// 5.14), else one after the other until nothing is left.
    pub(crate) fn kill(&self) {
        let Some(group) = self.v2_group().or(self.groups.first()) else { return };
        if group.version() == CgroupVersion::V2
            && group.write(&Write::new("cgroup.kill", 1)).is_ok()
        {
            return;
        }
        for _ in 0..ROUNDS {
            if !kill_members(group.dir.as_fd()) {
                return;
            }
            std::thread::sleep(PAUSE);
        }
        log::error!("control group {:?} does not become empty", group.path());
    }
}

/// Kills what is in a group now; whether there was something.
fn kill_members(dir: BorrowedFd<'_>) -> bool {
    let all = || [members(dir, ""), members(dir, PAUSED)].concat();
    let found = all();
    let opened: Vec<_> =
        found.iter().filter_map(|pid| Some((pid, sys::pidfd(*pid).ok()?))).collect();
    // A number that is in it still is the opened process's, or that one is dead: no other one is
    // killed, whoever has the number by now.
    let still = all();
    for (_, pidfd) in opened.iter().filter(|(pid, _)| still.contains(pid)) {
        process::kill(pidfd.as_fd());
    }
    !found.is_empty()
}
