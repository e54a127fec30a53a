//! What a sandbox was prepared from, and whether the host still has it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use crate::error::{Error, Result, Stage, quoted};
use crate::plan::Plan;
use crate::rootfs::Tree;
use crate::sys;
use crate::wire::Op;

/// The sources of a plan as they were when it was made.
#[derive(Debug)]
pub(crate) struct Sources {
    files: Vec<Source>,
    /// One for each mount that may be unmounted.
    mounts: Vec<Mounted>,
}

#[derive(Debug)]
struct Source {
    path: PathBuf,
    /// It is the link itself, if it is one.
    is_link: bool,
    found: Option<Identity>,
}

/// What tells one file from another at the same path.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    /// The number of a file that is gone is given to another.
    born: Option<SystemTime>,
    mount: Option<u64>,
}

impl Identity {
    fn of(path: &Path, is_link: bool) -> Option<Self> {
        // By the path, so that what is mounted when it is looked at is.
        let found = if is_link { path.symlink_metadata() } else { path.metadata() }.ok()?;
        let born = found.created().ok();
        Some(Identity {
            device: found.dev(),
            inode: found.ino(),
            born,
            mount: mount(path, is_link),
        })
    }
}

/// The number of the mount that a path is on, where the kernel tells it.
fn mount(path: &Path, is_link: bool) -> Option<u64> {
    let follow = if is_link { OFlag::O_NOFOLLOW } else { OFlag::empty() };
    let opened = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC | follow, Mode::empty()).ok()?;
    sys::mount_number(opened.as_fd()).ok()
}

/// A source that is on another mount than the caller's root.
#[derive(Debug)]
struct Mounted {
    path: PathBuf,
    number: u64,
    /// The mounts below it, one of which shows when it is gone.
    below: Vec<u64>,
}

impl Mounted {
    fn of(path: &Path, number: u64) -> Self {
        let resolved = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        let above = resolved.ancestors().skip(1).filter_map(|path| mount(path, false));
        let below = above.filter(|other| *other != number).collect();
        Mounted { path: path.to_owned(), number, below }
    }

    fn is_gone(&self) -> bool {
        let shows = |number| number != self.number && self.below.contains(&number);
        // What is mounted only while it is used is mounted by this.
        let used = || self.path.metadata().ok().and_then(|_| mount(&self.path, false));
        mount(&self.path, false).is_some_and(shows) && used().is_some_and(shows)
    }
}

impl Sources {
    /// Looks at all that a plan takes from the host's tree.
    pub(crate) fn of(plan: &Plan, tree: &Tree) -> Self {
        let mut paths: BTreeSet<_> =
            tree.system_links().iter().map(|path| (PathBuf::from(path), true)).collect();
        paths.extend(plan.operations().filter_map(|op| match op {
            // What is not named from the root on is laid ready by the plan itself.
            Op::Bind { from, .. } | Op::RootDirectory { from, .. } if from.starts_with(b"/") => {
                Some((PathBuf::from(OsStr::from_bytes(from)), false))
            }
            _ => None,
        }));
        let look = |(path, is_link): (PathBuf, bool)| {
            let found = Identity::of(&path, is_link);
            Source { path, is_link, found }
        };
        let files: Vec<_> = paths.into_iter().map(look).collect();
        let (root, mut mounts) = (mount(Path::new("/"), false), Vec::<Mounted>::new());
        for source in files.iter().filter(|source| !source.is_link) {
            let number = source.found.as_ref().and_then(|found| found.mount);
            let Some(number) = number.filter(|_| number != root) else { continue };
            if mounts.iter().all(|seen| seen.number != number) {
                mounts.push(Mounted::of(&source.path, number));
            }
        }
        Sources { files, mounts }
    }

    /// That nothing was unmounted: an empty directory would be shown in its place.
    pub(crate) fn check(&self) -> Result<()> {
        let Some(gone) = self.mounts.iter().find(|mounted| mounted.is_gone()) else {
            return Ok(());
        };
        let object = format!("{} (it was unmounted since it was prepared)", quoted(&gone.path));
        Err(Error::new(Stage::Prepare, "bind", object, Errno::ESTALE))
    }

    /// Those that are not what they were.
    pub(crate) fn changed(&self) -> impl Iterator<Item = &Path> {
        let changed = |source: &&Source| Identity::of(&source.path, source.is_link) != source.found;
        self.files.iter().filter(changed).map(|source| source.path.as_path())
    }
}
