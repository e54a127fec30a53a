//! A directory on the host for one program: made, and taken away with all that is in it, whatever that is.

use std::ffi::{OsStr, OsString};
use std::fs::Permissions;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{FileStat, Mode, fstat, fstatat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};

use crate::error::{Error, Result, Stage, quoted};
use crate::executable::errno_of;
use crate::policy::Policy;
use crate::sys;

/// What the names of all of them begin with.
const PREFIX: &str = "stockade-tmp-";
/// How many names are read at a time.
const BATCH: usize = 4096;
/// How many names are looked at before somebody is thought to make them faster than they go.
const MOST: u32 = 1 << 24;

/// A directory on the host for one program to write to, removed with all that is in it when this is
/// dropped; made by [`Sandbox::private_tmp`](crate::Sandbox::private_tmp).
///
/// Drop it after the [`Child`](crate::Child). After a SIGKILL of this process it stays, until another
/// one of the same user is made beside it
/// ([flock(2)](https://man7.org/linux/man-pages/man2/flock.2.html) tells whose maker lives).
///
/// # Examples
///
/// ```
/// let sandbox = stockade::Sandbox::new();
/// let tmp = sandbox.private_tmp(std::env::temp_dir())?;
/// let sandbox = sandbox.bind_rw(tmp.path(), tmp.path());
/// let command = sandbox.command("mktemp").env("TMPDIR", tmp.path());
/// assert!(command.status()?.outcome.is_success());
/// assert_eq!(std::fs::read_dir(tmp.path())?.count(), 1);
/// tmp.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct PrivateTmp {
    path: PathBuf,
    parent: OwnedFd,
    name: OsString,
    /// Locked as long as this lives.
    directory: OwnedFd,
    /// It is this process's, and not a forked copy's.
    owner: u32,
}

impl PrivateTmp {
    /// Makes one below `parent`, for the program of a sandbox, and takes away what dead processes have left.
    pub(crate) fn new(policy: &Policy, parent: &Path) -> Result<Self> {
        let path =
            parent.canonicalize().map_err(|error| failed("resolve", parent)(errno_of(&error)));
        let parent_path = path?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let parent = nix::fcntl::open(&parent_path, flags, Mode::empty())
            .map_err(failed("open", &parent_path))?;
        let ids = policy.user.ids(false)?.0;
        // With a user namespace binds show what is the caller's as the program's.
        let owner = if policy.without_namespaces { ids.host } else { ids.caller };
        sweep(parent.as_fd(), &parent_path, [owner.0, ids.caller.0]);
        loop {
            let name = OsString::from(format!("{PREFIX}{:016x}", sys::random()));
            let path = parent_path.join(&name);
            match mkdirat(&parent, &*name, Mode::S_IRWXU) {
                Err(Errno::EEXIST) => continue,
                other => other.map_err(failed("create directory", &path))?,
            }
            let Some(directory) = claim(parent.as_fd(), &name, &path)? else { continue };
            if owner != ids.caller {
                let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
                fchown(&directory, Some(uid), Some(gid)).map_err(failed("change owner", &path))?;
            }
            return Ok(PrivateTmp { path, parent, name, directory, owner: std::process::id() });
        }
    }

    /// Where it is, by which the program has to be shown it:
    /// [`bind_rw`](crate::Sandbox::bind_rw)`(path, path)`.
    ///
    /// # Examples
    ///
    /// ```
    /// let tmp = stockade::Sandbox::new().private_tmp("/tmp")?;
    /// assert!(tmp.path().starts_with("/tmp") && tmp.path().is_dir());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it; dropping it only logs what fails.
    ///
    /// # Errors
    ///
    /// What cannot be removed: most often that a program still writes to it.
    ///
    /// # Examples
    ///
    /// ```
    /// let tmp = stockade::Sandbox::new().private_tmp("/tmp")?;
    /// let path = tmp.path().to_owned();
    /// tmp.close()?;
    /// assert!(!path.exists());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn close(self) -> Result<()> {
        ManuallyDrop::new(self).remove()
    }

    fn remove(&self) -> Result<()> {
        if self.owner != std::process::id() {
            return Ok(());
        }
        remove(self.parent.as_fd(), &self.name, self.directory.as_fd())
            .map_err(failed("remove directory", &self.path))
    }
}

impl Drop for PrivateTmp {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            log::warn!("{error}");
        }
    }
}

fn failed(operation: &'static str, path: &Path) -> impl Fn(Errno) -> Error {
    move |errno| Error::new(Stage::Prepare, operation, quoted(path), errno)
}

/// Locks a directory that was just made; none if somebody has taken it for one that was left.
fn claim(parent: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<Option<OwnedFd>> {
    let directory = match enter(parent, name) {
        Err(Errno::ENOENT) => return Ok(None),
        other => other.map_err(failed("open", path))?,
    };
    match sys::lock(directory.as_fd()) {
        Err(Errno::EWOULDBLOCK) => return Ok(None),
        other => other.map_err(failed("lock", path))?,
    }
    Ok(is_there(parent, name, directory.as_fd()).then_some(directory))
}

fn is_there(parent: BorrowedFd<'_>, name: &OsStr, directory: BorrowedFd<'_>) -> bool {
    let key = |stat: FileStat| (stat.st_dev, stat.st_ino);
    let there = fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW).map(key);
    there.is_ok() && there == fstat(directory).map(key)
}

/// Removes those of these users that nobody has locked.
fn sweep(parent: BorrowedFd<'_>, path: &Path, uids: [u32; 2]) {
    let left = names(parent, usize::MAX).unwrap_or_default();
    for name in left.iter().filter(|name| name.as_encoded_bytes().starts_with(PREFIX.as_bytes())) {
        let owned = fstatat(parent, &**name, AtFlags::AT_SYMLINK_NOFOLLOW);
        if !owned.is_ok_and(|found| uids.contains(&found.st_uid) && is_directory(&found)) {
            continue;
        }
        let removed = enter(parent, name).and_then(|directory| {
            sys::lock(directory.as_fd())?;
            remove(parent, name, directory.as_fd())
        });
        match removed {
            Ok(()) => log::info!("removed {:?}, which a dead process had left", path.join(name)),
            // Its maker lives, or another has removed it.
            Err(Errno::EWOULDBLOCK | Errno::ENOENT) => {}
            Err(errno) => log::warn!("{:?} is left: {errno}", path.join(name)),
        }
    }
}

fn is_directory(found: &FileStat) -> bool {
    found.st_mode & libc::S_IFMT == libc::S_IFDIR
}

fn remove(
    parent: BorrowedFd<'_>,
    name: &OsStr,
    directory: BorrowedFd<'_>,
) -> std::result::Result<(), Errno> {
    empty(directory)?;
    // Another thing at this place is not ours.
    match is_there(parent, name, directory) {
        true => unlinkat(parent, name, UnlinkatFlags::RemoveDir),
        false => Ok(()),
    }
}

/// Removes all that is in a directory. No path is followed, however deep it is: what is two levels
/// below is moved to the first before it is looked at.
fn empty(top: BorrowedFd<'_>) -> std::result::Result<(), Errno> {
    make_usable(top)?;
    let mut left = MOST;
    let mut count = || {
        left = left.checked_sub(1).ok_or(Errno::ENOTEMPTY)?;
        Ok::<_, Errno>(left)
    };
    loop {
        let names_of_top = names(top, BATCH)?;
        if names_of_top.is_empty() {
            return Ok(());
        }
        for name in names_of_top {
            count()?;
            if take_away(top, &name)? {
                continue;
            }
            let inner = enter(top, &name)?;
            for one in names(inner.as_fd(), BATCH)? {
                let number = count()?;
                if !take_away(inner.as_fd(), &one)? {
                    // The kernel asks who moves a directory whether he may write to it.
                    drop(enter(inner.as_fd(), &one)?);
                    lift(inner.as_fd(), &one, top, number)?;
                }
            }
        }
    }
}

/// Moves a directory up; if its new name is taken, it is tried again with the next batch.
fn lift(
    from: BorrowedFd<'_>,
    name: &OsStr,
    to: BorrowedFd<'_>,
    number: u32,
) -> std::result::Result<(), Errno> {
    match renameat(from, name, to, &*format!(".{number}")) {
        Err(Errno::EEXIST | Errno::ENOTEMPTY | Errno::ENOTDIR | Errno::ENOENT) => Ok(()),
        other => other,
    }
}

/// Removes a file, or a directory with nothing in it; `false` if there is something.
fn take_away(directory: BorrowedFd<'_>, name: &OsStr) -> std::result::Result<bool, Errno> {
    match unlinkat(directory, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => return Ok(true),
        Err(Errno::EISDIR) => {}
        Err(errno) => return Err(errno),
    }
    match unlinkat(directory, name, UnlinkatFlags::RemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(true),
        Err(Errno::ENOTEMPTY | Errno::EEXIST) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Opens a directory of whatever mode, and no link.
fn enter(directory: BorrowedFd<'_>, name: &OsStr) -> std::result::Result<OwnedFd, Errno> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let place = openat(directory, name, flags | OFlag::O_PATH | OFlag::O_NOFOLLOW, Mode::empty())?;
    make_usable(place.as_fd())?;
    openat(&place, ".", flags | OFlag::O_RDONLY, Mode::empty())
}

fn make_usable(directory: BorrowedFd<'_>) -> std::result::Result<(), Errno> {
    std::fs::set_permissions(link(directory), Permissions::from_mode(0o700))
        .map_err(|error| errno_of(&error))
}

/// So many of the names in a directory, at most.
fn names(directory: BorrowedFd<'_>, most: usize) -> std::result::Result<Vec<OsString>, Errno> {
    let entries = std::fs::read_dir(link(directory)).map_err(|error| errno_of(&error))?;
    let name = |entry: std::io::Result<std::fs::DirEntry>| Ok(entry?.file_name());
    let names: std::io::Result<Vec<_>> = entries.take(most).map(name).collect();
    names.map_err(|error| errno_of(&error))
}

fn link(directory: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", directory.as_raw_fd())
}
