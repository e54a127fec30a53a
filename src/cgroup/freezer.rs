//! Stopping and continuing a group;
//! [freezer-subsystem.rst](https://docs.kernel.org/admin-guide/cgroup-v1/freezer-subsystem.html).

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, mkdirat};

use super::group::{self, Group, Groups};
use super::known;
use super::place::{self, Place};
use super::{CgroupParent, CgroupVersion, Controller, Write, Writes};
use crate::error::{Error, Result, Stage, quoted};

/// The name of the inner group, which holds everything but init.
const PAUSED: &str = "paused";
/// How often processes that were forked meanwhile are looked for.
const ROUNDS: u32 = 10_000;
/// How long the kernel has to stop everything: it waits for the end of some system calls.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether a group is stopped
/// ([freezer-subsystem.rst](https://docs.kernel.org/admin-guide/cgroup-v1/freezer-subsystem.html),
/// [cgroup-v2.rst](https://docs.kernel.org/admin-guide/cgroup-v2.html#core-interface-files)). A
/// sandbox is stopped by [`Child::pause`](crate::Child::pause).
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

/// The group into which a sandbox's processes are moved to be stopped. Made with the first pause,
/// as most sandboxes never are: init must go on, and so cannot be in the same one.
#[derive(Debug)]
pub(crate) struct Pausable {
    /// What has to be removed with it, unless that is one of the sandbox's own groups.
    outer: Option<Groups>,
    dir: OwnedFd,
    path: PathBuf,
    version: CgroupVersion,
    /// The list of processes of the group that they were in, if the caller may write to it.
    home: Option<OwnedFd>,
}

impl Pausable {
    /// Makes it; `None` where no hierarchy can freeze, or, if they are to `go_back` to where they were,
    /// the caller may not put them there. `told` is called before anything is made.
    pub(crate) fn make(
        parent: &CgroupParent,
        groups: Option<&Groups>,
        first: u32,
        go_back: bool,
        told: impl FnOnce(Arc<Place>) -> Result<()>,
    ) -> Result<Option<Self>> {
        let hierarchies = known::hierarchies()?;
        let Ok(hierarchy) = hierarchies.of(Controller::Freezer) else { return Ok(None) };
        let existing = groups.and_then(Groups::v2_group);
        let existing = existing.filter(|_| hierarchy.version == CgroupVersion::V2);
        let home = match existing {
            Some(group) => Some(group.path()),
            None => known::group_of(first, hierarchy),
        };
        let home = home.and_then(open_procs);
        if go_back && home.is_none() {
            return Ok(None);
        }
        let outer = match existing {
            Some(_) => None,
            None => {
                let place = known::place(parent, hierarchy, &[Controller::Freezer]);
                let Ok(place) = place else { return Ok(None) };
                told(Arc::clone(&place))?;
                let group = Group::make(&place, &place::new_name(), vec![Controller::Freezer])?;
                Some(Groups::of_one(group))
            }
        };
        let within = match (&outer, existing) {
            (Some(outer), _) => &outer.groups[0],
            (None, Some(group)) => group,
            (None, None) => return Ok(None),
        };
        let path = within.path().join(PAUSED);
        let failed = |operation| {
            let object = quoted(&path);
            move |errno| Error::new(Stage::Run, operation, object, errno).explained()
        };
        mkdirat(&within.dir, PAUSED, Mode::from_bits_truncate(0o755))
            .map_err(failed("make control group"))?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let dir = openat(&within.dir, PAUSED, flags, Mode::empty()).map_err(failed("open"))?;
        Ok(Some(Pausable { outer, dir, path, version: hierarchy.version, home }))
    }

    /// Stops everything, what is forked meanwhile included, but `init`.
    pub(crate) fn freeze(&self, groups: Option<&Groups>, first: u32, init: bool) -> Result<()> {
        let frozen = self.set(Freezer::Frozen).and_then(|()| {
            self.take_in(groups, first, init)?;
            self.await_frozen()
        });
        if frozen.is_err() {
            let _as_it_was = self.thaw();
        }
        frozen
    }

    /// Lets everything run on: first where it was, as the name of this group would be seen inside. What
    /// leaves it is not frozen any more.
    pub(crate) fn thaw(&self) -> Result<()> {
        if let Some(home) = &self.home {
            for pid in group::members(self.dir.as_fd()).unwrap_or_default() {
                let _runs_on_here = nix::unistd::write(home, pid.to_string().as_bytes());
            }
        }
        self.set(Freezer::Thawed)
    }

    fn set(&self, state: Freezer) -> Result<()> {
        // Both versions have one write.
        let writes = state.writes(self.version).unwrap_or_default();
        writes.iter().try_for_each(|write| {
            self.write(&write.file, &write.data).map_err(|errno| {
                let object = format!("{:?} to {:?}", write.data, self.path.join(&write.file));
                Error::new(Stage::Run, "write", object, errno)
            })
        })
    }

    fn write(&self, file: &str, data: &str) -> Result<(), Errno> {
        let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let open = openat(&self.dir, file, flags, Mode::empty())?;
        nix::unistd::write(&open, data.as_bytes()).map(drop)
    }

    /// Moves in what is not in it, out of groups that others have made in the sandbox's as well: it goes
    /// on in the sandbox's own. What comes in is frozen, and forks no more.
    fn take_in(&self, groups: Option<&Groups>, first: u32, init: bool) -> Result<()> {
        let unread = |errno| {
            let object = quoted(self.path.join("cgroup.procs"));
            Error::new(Stage::Run, "read", object, errno)
        };
        for _ in 0..ROUNDS {
            let inside = group::members(self.dir.as_fd()).map_err(unread)?;
            let all = match groups.and_then(|groups| groups.groups.first()) {
                Some(group) => group::all_members(group.dir.as_fd()).map_err(unread)?,
                None => descendants(first),
            };
            let is_out = |pid: &u32| !(inside.contains(pid) || init && *pid == first);
            let outside: Vec<_> = all.into_iter().filter(is_out).collect();
            if outside.is_empty() {
                return Ok(());
            }
            for pid in outside {
                match self.write("cgroup.procs", &pid.to_string()) {
                    Ok(()) | Err(Errno::ESRCH) => {}
                    Err(errno) => {
                        let object = format!("process {pid} to {:?}", self.path);
                        return Err(Error::new(Stage::Run, "move", object, errno).explained());
                    }
                }
            }
        }
        let object = "everything, as more is forked all the time";
        Err(Error::new(Stage::Run, "pause", object, Errno::EAGAIN))
    }

    fn await_frozen(&self) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            let (file, wanted) = match self.version {
                CgroupVersion::V1 => ("freezer.state", "FROZEN"),
                CgroupVersion::V2 => ("cgroup.events", "frozen 1"),
            };
            let state = group::read_at(self.dir.as_fd(), file).unwrap_or_default();
            if state.contains(wanted) {
                return Ok(());
            }
            if Instant::now() > until {
                let object = "(a process is in a system call that cannot be interrupted)";
                return Err(Error::new(Stage::Run, "pause", object, Errno::ETIMEDOUT));
            }
            std::thread::sleep(Duration::from_micros(200));
            if self.version == CgroupVersion::V1 {
                // The kernel looks again at what it could not stop.
                self.set(Freezer::Frozen)?;
            }
        }
    }
}

impl Drop for Pausable {
    fn drop(&mut self) {
        // An outer group is removed with all that is in it.
        if self.outer.is_none() {
            let _with_the_sandboxs = self.thaw();
        }
    }
}

/// The list of a group's processes, to put some there.
fn open_procs(group: PathBuf) -> Option<OwnedFd> {
    let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    open(&group.join("cgroup.procs"), flags, Mode::empty()).ok()
}

/// A process and all that descends from it, as /proc lists them; without the dead.
fn descendants(first: u32) -> Vec<u32> {
    let mut found = vec![first];
    let mut at = 0;
    while let Some(pid) = found.get(at).copied() {
        at += 1;
        let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
        for thread in threads.flatten() {
            let list = fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            found.extend(list.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        }
    }
    let lives = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        state.is_some_and(|state| state != 'Z' && state != 'X')
    };
    found.retain(lives);
    found
}
