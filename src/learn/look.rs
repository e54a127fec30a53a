//! What a path comes to, inside and outside. Nothing is opened but with `O_PATH`, and no link of the
//! kernel's is followed.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, ResolveFlag};
use nix::sys::stat::{FileStat, SFlag, fstat};
use nix::sys::statvfs::{FsFlags, fstatvfs};

use super::acl::Acl;
use super::memory::{self, Rights};
use crate::output::look_up;

const CAP_DAC_OVERRIDE: u64 = 1 << 1;
const CAP_DAC_READ_SEARCH: u64 = 1 << 2;

/// What is at a path.
#[derive(Debug)]
pub(super) enum Sight {
    Present(Seen),
    Absent,
    /// It cannot be said, or a directory on the way refuses.
    Hidden(Errno),
}

#[derive(Debug)]
pub(super) struct Seen {
    pub(super) fd: OwnedFd,
    pub(super) stat: FileStat,
}

impl Seen {
    pub(super) fn kind(&self) -> SFlag {
        SFlag::from_bits_truncate(self.stat.st_mode) & SFlag::S_IFMT
    }

    pub(super) fn is_directory(&self) -> bool {
        self.kind() == SFlag::S_IFDIR
    }

    fn flags(&self) -> FsFlags {
        fstatvfs(&self.fd).map_or(FsFlags::empty(), |found| found.flags())
    }

    /// Whether writing to it is refused by its mount: devices, sockets and pipes are written all the same.
    pub(super) fn is_read_only(&self) -> bool {
        let of_mount = matches!(self.kind(), SFlag::S_IFREG | SFlag::S_IFDIR);
        of_mount && self.flags().contains(FsFlags::ST_RDONLY)
    }

    pub(super) fn is_no_exec(&self) -> bool {
        self.flags().contains(FsFlags::ST_NOEXEC)
    }

    /// Whether the mode or the access control list allows this (4 to read, 2 to write, 1 to execute).
    pub(super) fn allows(&self, pid: i32, wanted: u32) -> bool {
        if wanted == 0 {
            return true;
        }
        let mode = self.stat.st_mode;
        let all = [mode >> 6, mode >> 3, mode].iter().all(|class| class & wanted == wanted);
        // A mask that leaves nothing is none to the kernel.
        let list = (mode & 0o070 != 0).then(|| Acl::of(self.fd.as_fd())).flatten();
        (all && list.is_none())
            || memory::rights(pid).is_none_or(|rights| self.allows_to(&rights, list, wanted))
    }

    fn allows_to(&self, rights: &Rights, list: Option<Acl>, wanted: u32) -> bool {
        let mode = self.stat.st_mode;
        let class = if rights.uid == self.stat.st_uid {
            mode >> 6
        } else if let Some(list) = list {
            list.allowed(rights, self.stat.st_gid, wanted)
        } else if rights.groups.contains(&self.stat.st_gid) {
            mode >> 3
        } else {
            mode
        };
        let has = |capability: u64| rights.effective & capability != 0;
        let reads = wanted & 2 == 0 && (wanted & 1 == 0 || self.is_directory());
        class & wanted == wanted
            || has(CAP_DAC_OVERRIDE)
                && (wanted & 1 == 0 || self.is_directory() || mode & 0o111 != 0)
            || has(CAP_DAC_READ_SEARCH) && reads
    }
}

impl Seen {
    /// Where it really is, from the root inside.
    pub(super) fn path(&self) -> Option<PathBuf> {
        use std::os::fd::AsRawFd;
        let link = format!("/proc/self/fd/{}", self.fd.as_raw_fd());
        let path = PathBuf::from(nix::fcntl::readlink(link.as_str()).ok()?);
        path.is_absolute().then_some(path)
    }
}

/// How many links on the way to what is missing are followed.
const LINKS: usize = 16;

/// What is missing, if a path leads to nothing: that of a link, and not where the link is.
pub(super) fn lacking(root: BorrowedFd<'_>, path: &Path) -> PathBuf {
    lacking_after(root, clean(path), LINKS)
}

fn lacking_after(root: BorrowedFd<'_>, path: PathBuf, left: usize) -> PathBuf {
    let (Some(parent), Some(name), Some(left)) =
        (path.parent(), path.file_name(), left.checked_sub(1))
    else {
        return path;
    };
    match (look(root, &path, false), look(root, parent, true)) {
        (Sight::Present(link), _) if link.kind() == SFlag::S_IFLNK => {
            let target = nix::fcntl::readlinkat(&link.fd, "").map(PathBuf::from);
            let Ok(target) = target else { return path };
            lacking_after(root, clean(&parent.join(target)), left)
        }
        (_, Sight::Present(parent)) => {
            parent.path().map_or_else(|| path.clone(), |parent| parent.join(name))
        }
        (_, Sight::Absent) => lacking_after(root, parent.to_owned(), left).join(name),
        _ => path,
    }
}

/// Looks from a root that nothing leads out of.
pub(super) fn look(root: BorrowedFd<'_>, path: &Path, follow: bool) -> Sight {
    let flags = OFlag::O_PATH | if follow { OFlag::empty() } else { OFlag::O_NOFOLLOW };
    let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let found = look_up(root, path, flags, resolve).and_then(|fd| {
        let stat = fstat(&fd)?;
        Ok(Seen { fd, stat })
    });
    match found {
        Ok(seen) => Sight::Present(seen),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Sight::Absent,
        Err(errno) => Sight::Hidden(errno),
    }
}

/// The root that a process has, or one's own.
pub(super) fn root(pid: Option<i32>) -> Result<OwnedFd, Errno> {
    let path = pid.map_or_else(|| "/".to_owned(), |pid| format!("/proc/{pid}/root"));
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    nix::fcntl::open(path.as_str(), flags, nix::sys::stat::Mode::empty())
}

/// An absolute path without `.` and `..`, as far as no link is on the way.
pub(super) fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => drop(clean.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

/// Whether it is about the process itself, or another inside: there a look from outside sees something else.
pub(super) fn is_of_a_process(path: &Path) -> bool {
    let text = path.as_os_str().as_encoded_bytes();
    let process = text.strip_prefix(b"/proc/").is_some_and(|rest| {
        rest.starts_with(b"self")
            || rest.starts_with(b"thread-self")
            || rest.first().is_some_and(u8::is_ascii_digit)
    });
    process || text.starts_with(b"/dev/fd") || text.starts_with(b"/dev/std")
}

/// The places where a look alone would mount something.
pub(super) fn automounts() -> Vec<PathBuf> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let automount = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let place = before.split(' ').nth(4)?;
        after.starts_with("autofs ").then(|| PathBuf::from(place.replace("\\040", " ")))
    };
    table.lines().filter_map(automount).collect()
}

/// The host as the caller sees it.
#[derive(Debug)]
pub(super) struct Outside {
    root: OwnedFd,
    automounts: Vec<PathBuf>,
}

impl Outside {
    pub(super) fn new() -> Result<Self, Errno> {
        Ok(Outside { root: root(None)?, automounts: automounts() })
    }

    /// The kind of what is at a path, if it is there.
    pub(super) fn kind(&self, path: &Path) -> Option<SFlag> {
        if self.automounts.iter().any(|place| path.starts_with(place)) {
            return None;
        }
        match look(self.root.as_fd(), path, true) {
            Sight::Present(seen) => Some(seen.kind()),
            Sight::Absent | Sight::Hidden(_) => None,
        }
    }
}
