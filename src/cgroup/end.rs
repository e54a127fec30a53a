//! Ending all that is in a sandbox's groups, where no pid namespace ends with its PID 1.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use super::freezer::Pausable;
use super::group::{Groups, all_members};
use super::{CgroupVersion, Write};
use crate::error::Result;
use crate::{process, sys};

/// How often processes that were forked meanwhile are looked for.
const ROUNDS: u32 = 10_000;
const PAUSE: Duration = Duration::from_micros(100);

impl Groups {
    /// Kills everything in them, what is forked meanwhile included: at once by `cgroup.kill` (v2, Linux
    /// 5.14); else frozen, where the caller may freeze, so that it forks no more, and one after the
    /// other until nothing is left. `freezer` makes what `first` and the others are frozen in.
    pub(crate) fn kill(&self, first: u32, freezer: impl FnOnce() -> Result<Option<Pausable>>) {
        let Some(group) = self.v2_group().or(self.groups.first()) else { return };
        if group.version() == CgroupVersion::V2
            && group.write(&Write::new("cgroup.kill", 1)).is_ok()
        {
            return;
        }
        let dir = group.dir.as_fd();
        let mut found = all_members(dir);
        if found == Ok(Vec::new()) {
            return;
        }
        let said = |error| log::debug!("cgroup: {:?} is not frozen: {error}", group.path());
        let freezer = freezer().map_err(said).ok().flatten();
        if let Some(Err(error)) = freezer.as_ref().map(|it| it.freeze(Some(self), first, false)) {
            said(error);
        }
        for _ in 0..ROUNDS {
            found = all_members(dir);
            match &found {
                Ok(found) if found.is_empty() => return,
                Ok(found) => kill_members(dir, found),
                // Of descriptors or memory there is too little for the moment.
                Err(_) => {}
            }
            // What is frozen on v1 does not end.
            if let Some(Err(error)) = freezer.as_ref().map(Pausable::thaw) {
                log::debug!("cgroup: {:?} is not thawed: {error}", group.path());
            }
            std::thread::sleep(PAUSE);
        }
        log::error!("control group {:?} does not become empty: {found:?}", group.path());
    }
}

/// Kills these of a group's processes.
fn kill_members(dir: BorrowedFd<'_>, found: &[u32]) {
    let opened: Vec<_> =
        found.iter().filter_map(|pid| Some((pid, sys::pidfd(*pid).ok()?))).collect();
    // A number that is in it still is the opened process's, or that one is dead: no other one is
    // killed, whoever has the number by now.
    let Ok(still) = all_members(dir) else { return };
    for (_, pidfd) in opened.iter().filter(|(pid, _)| still.contains(pid)) {
        process::kill(pidfd.as_fd());
    }
}
