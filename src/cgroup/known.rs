//! What this process has seen of the host's control groups, for as long as it still holds.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;

use super::hierarchy::{Hierarchies, Hierarchy};
use super::place::Place;
use super::{CgroupParent, Controller};
use crate::error::{Error, Result, Stage};
use crate::executable::Kept;

/// What was seen last.
static SEEN: Mutex<Option<Seen>> = Mutex::new(None);

#[derive(Debug)]
struct Seen {
    surroundings: Surroundings,
    /// The kernel marks this file with each mount and unmount since it was looked at last.
    mounts: Kept,
    hierarchies: Arc<Hierarchies>,
}

/// What else tells which groups the caller sees: its mount namespace, its root, and its groups. A
/// forked copy looks for itself, as the mark is taken by who looks first.
#[derive(Debug, PartialEq, Eq)]
struct Surroundings {
    pid: u32,
    namespace: (u64, u64),
    root: (u64, u64),
    memberships: Vec<u8>,
}

impl Surroundings {
    fn now() -> Result<Self, Errno> {
        let of = |path| {
            let found = fs::metadata(path).map_err(|error| crate::executable::errno_of(&error))?;
            Ok((found.dev(), found.ino()))
        };
        let memberships = read_path("/proc/self/cgroup")?;
        let (namespace, root) = (of("/proc/self/ns/mnt")?, of("/")?);
        Ok(Surroundings { pid: std::process::id(), namespace, root, memberships })
    }
}

impl Seen {
    fn now(surroundings: Surroundings) -> Result<Self, Errno> {
        let file = open("/proc/self/mountinfo", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
        let hierarchies = Hierarchies::of_texts(&read(&file)?, &surroundings.memberships);
        let mounts = Kept::new(file).ok_or(Errno::EBADF)?;
        Ok(Seen { surroundings, mounts, hierarchies: Arc::new(hierarchies) })
    }

    /// Whether nothing was mounted since. Takes the mark.
    fn holds(&self) -> bool {
        let Some(file) = self.mounts.duplicate() else { return false };
        let mut set = [PollFd::new(file.as_fd(), PollFlags::POLLPRI)];
        poll(&mut set, PollTimeout::ZERO) == Ok(0)
    }
}

/// What is mounted, and where the caller is in it. The caller may have mounted something or have
/// been moved since the last time.
pub(crate) fn hierarchies() -> Result<Arc<Hierarchies>> {
    // Nobody waits here: in a forked copy a lock may be held for ever.
    let Ok(mut seen) = SEEN.try_lock() else { return look().map(Arc::new) };
    let surroundings = Surroundings::now().map_err(unreadable)?;
    if let Some(seen) = seen.as_ref().filter(|seen| seen.surroundings == surroundings) {
        if seen.holds() {
            return Ok(Arc::clone(&seen.hierarchies));
        }
    }
    if let Some(seen) = seen.take() {
        seen.mounts.close();
    }
    let now = Seen::now(surroundings).map_err(unreadable)?;
    let hierarchies = Arc::clone(&now.hierarchies);
    *seen = Some(now);
    Ok(hierarchies)
}

/// The same, whatever was seen before.
pub(crate) fn look() -> Result<Hierarchies> {
    let text = |path| read_path(path).map_err(unreadable);
    Ok(Hierarchies::of_texts(&text("/proc/self/mountinfo")?, &text("/proc/self/cgroup")?))
}

/// The group that another process is in, in one hierarchy.
pub(crate) fn group_of(pid: u32, hierarchy: &Hierarchy) -> Option<PathBuf> {
    let text = |path: &str| read_path(path).ok();
    let (mounts, own) = (text("/proc/self/mountinfo")?, text(&format!("/proc/{pid}/cgroup"))?);
    let all = Hierarchies::of_texts(&mounts, &own).all;
    all.into_iter().find(|one| one.point == hierarchy.point)?.own
}

fn unreadable(errno: Errno) -> Error {
    Error::new(Stage::Cgroup, "read", "where control groups are mounted", errno)
}

fn read_path(path: &str) -> Result<Vec<u8>, Errno> {
    read(&open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?)
}

/// All of a file of the kernel's, which has no size: most fit into one piece.
pub(crate) fn read(file: impl AsFd) -> Result<Vec<u8>, Errno> {
    let (mut bytes, mut length) = (vec![0; 4096], 0);
    loop {
        match nix::unistd::read(file.as_fd(), &mut bytes[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
        if length == bytes.len() {
            bytes.resize(4 * length, 0);
        }
    }
    bytes.truncate(length);
    Ok(bytes)
}

/// Places that this process has used, and in which it has collected what others left.
static PLACES: Mutex<Vec<Known>> = Mutex::new(Vec::new());

#[derive(Debug)]
struct Known {
    parent: CgroupParent,
    controllers: Vec<Controller>,
    place: Arc<Place>,
}

pub(crate) fn place(
    parent: &CgroupParent,
    hierarchy: &Hierarchy,
    controllers: &[Controller],
) -> Result<Arc<Place>> {
    let same = |known: &&Known| {
        known.parent == *parent
            && known.place.hierarchy == *hierarchy
            && known.controllers == controllers
            && known.place.is_there()
    };
    if let Ok(places) = PLACES.try_lock() {
        if let Some(known) = places.iter().find(same) {
            return Ok(Arc::clone(&known.place));
        }
    }
    let place = Place::find(parent, hierarchy, controllers)?;
    place.collect();
    if let Ok(mut places) = PLACES.try_lock() {
        // Another thread has found it meanwhile, or had the lock before.
        if let Some(known) = places.iter().find(same) {
            return Ok(Arc::clone(&known.place));
        }
        if places.len() >= 64 {
            places.remove(0);
        }
        let (parent, controllers) = (parent.clone(), controllers.to_vec());
        places.push(Known { parent, controllers, place: Arc::clone(&place) });
    }
    Ok(place)
}
