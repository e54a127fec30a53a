//! What a program has written, opened from outside without trusting it.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, OpenHow, ResolveFlag, fcntl, open, openat2};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use nix::sys::statfs::{FsType, fstatfs};

use crate::changes::{Changes, Source};
use crate::error::{Error, Result, Stage, quoted};
use crate::hint::Hint;
use crate::sys;

/// File systems whose files are the kernel's words and no data: proc, sysfs, cgroup, cgroup2,
/// mqueue, securityfs, debugfs, tracefs, bpf.
const NO_DATA: [i64; 9] = [
    0x9fa0,
    0x6265_6572,
    0x0027_e0eb,
    0x6367_7270,
    0x1980_0202,
    0x7363_6673,
    0x6462_6720,
    0x7472_6163,
    0xcafe_4a11,
];

/// How often a look-up is tried again that somebody's renaming disturbed.
const TRIES: u32 = 64;

/// What stays of a sandbox's tree as long as its handle lives.
#[derive(Debug, Default)]
pub(crate) struct Remains {
    /// No: of a program in a sandbox that is another handle's.
    pub(crate) own: bool,
    pub(crate) root: Option<OwnedFd>,
    /// Of a copy of a template: what holds the places that are writable by default, at their paths.
    pub(crate) writable: Option<OwnedFd>,
    /// Keeps the mounts on top of the root, if that was asked for.
    pub(crate) namespace: Option<OwnedFd>,
    /// Where something is mounted on the root that is not a part of it.
    pub(crate) mounts: Vec<PathBuf>,
    /// The host's uid of the program.
    pub(crate) uid: u32,
    pub(crate) overlays: Vec<Source>,
}

impl Remains {
    pub(crate) fn open(&self, path: &Path) -> Result<File> {
        let failed = |errno, hint| {
            Error::new(Stage::Run, "open output", quoted(path), errno).with_hint(hint)
        };
        let Some(root) = &self.root else {
            let hint = if self.own { Hint::NoOwnTree } else { Hint::AnothersTree };
            return Err(failed(Errno::ENOTSUP, Some(hint)));
        };
        let mut root = root.as_fd();
        let mut found = find(root, path);
        // When the sandbox has ended, they are not mounted on its root any more.
        if let (Err(Errno::ENOENT), Some(writable)) = (&found, &self.writable) {
            if let Ok(there) = find(writable.as_fd(), path) {
                (root, found) = (writable.as_fd(), Ok(there));
            }
        }
        let (found, linked) = found.map_err(|errno| {
            let gone = errno == Errno::ENOENT
                && [Some(root), self.writable.as_ref().map(AsFd::as_fd)]
                    .into_iter()
                    .flatten()
                    .any(|root| self.is_on_mount_that_is_gone(root, path));
            if gone { failed(Errno::ESTALE, Some(Hint::KeepMounts)) } else { failed(errno, None) }
        })?;
        let fd = found.as_fd();
        let stat = fstat(fd).map_err(|errno| failed(errno, None))?;
        if !is_regular(&stat) {
            let errno = if is(&stat, SFlag::S_IFDIR) { Errno::EISDIR } else { Errno::EINVAL };
            return Err(failed(errno, Some(Hint::NoRegularFile)));
        }
        if linked && stat.st_uid != self.uid {
            return Err(failed(Errno::EACCES, Some(Hint::LinkToForeign)));
        }
        if is_no_data(fd).map_err(|errno| failed(errno, None))? {
            return Err(failed(Errno::EINVAL, Some(Hint::NoRegularFile)));
        }
        self.check_covered(root, fd).map_err(|(errno, hint)| failed(errno, hint))?;
        open_regular(fd).map_err(|errno| failed(errno, None))
    }

    /// When the sandbox has ended, what was mounted on its root is gone, and what that covered shows.
    fn check_covered(
        &self,
        root: BorrowedFd<'_>,
        found: BorrowedFd<'_>,
    ) -> Result<(), (Errno, Option<Hint>)> {
        if self.namespace.is_some() {
            return Ok(());
        }
        let plain = |errno| (errno, None);
        if sys::mount_number(found).map_err(plain)? != sys::mount_number(root).map_err(plain)? {
            return Ok(());
        }
        let place = nix::fcntl::readlink(link(found).as_path()).map_err(plain)?;
        if self.mounts.iter().any(|mount| Path::new(&place).starts_with(mount)) {
            return Err((Errno::ESTALE, Some(Hint::KeepMounts)));
        }
        Ok(())
    }

    /// Whether the place on which something was mounted above `path` is a part of the root again.
    fn is_on_mount_that_is_gone(&self, root: BorrowedFd<'_>, path: &Path) -> bool {
        let path = Path::new("/").join(path);
        let mut above = self.mounts.iter().filter(|mount| path.starts_with(mount));
        let number = |fd: BorrowedFd<'_>| sys::mount_number(fd);
        self.namespace.is_none()
            && above.any(|mount| {
                find(root, mount).is_ok_and(|(place, _)| number(place.as_fd()) == number(root))
            })
    }

    /// What the program has changed in the overlay at `path`.
    pub(crate) fn changes(&self, path: &Path) -> Result<Changes> {
        match self.overlays.iter().find(|source| source.path == path) {
            Some(source) => source.changes(),
            None => {
                let (errno, hint) = match self.own {
                    true => (Errno::ENOENT, None),
                    false => (Errno::ENOTSUP, Some(Hint::AnothersTree)),
                };
                Err(Error::new(Stage::Run, "find overlay", quoted(path), errno).with_hint(hint))
            }
        }
    }
}

/// Opens `path` in `root` without opening the file; tells whether a link was followed.
fn find(root: BorrowedFd<'_>, path: &Path) -> Result<(OwnedFd, bool), Errno> {
    let inside = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    match look_up(root, path, OFlag::O_PATH, inside | ResolveFlag::RESOLVE_NO_SYMLINKS) {
        Ok(found) => Ok((found, false)),
        Err(Errno::ELOOP) => look_up(root, path, OFlag::O_PATH, inside).map(|found| (found, true)),
        Err(errno) => Err(errno),
    }
}

/// openat2(2), tried again where a rename elsewhere made the kernel unsure.
pub(crate) fn look_up(
    at: BorrowedFd<'_>,
    path: &Path,
    flags: OFlag,
    resolve: ResolveFlag,
) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(resolve);
    for _ in 0..TRIES {
        match openat2(at, path, how) {
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            other => return other,
        }
    }
    Err(Errno::EAGAIN)
}

/// Whether it is on a file system whose files are the kernel's words and no data.
pub(crate) fn is_no_data(fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    let kind = fstatfs(fd)?.filesystem_type();
    // The type's width differs between C libraries.
    Ok(NO_DATA.iter().any(|&magic| kind == FsType(magic as _)))
}

/// Opens for reading what a descriptor without rights is of, if that is a regular file: by the
/// descriptor, so that it cannot have become another meanwhile.
pub(crate) fn open_regular(found: BorrowedFd<'_>) -> Result<File, Errno> {
    if !is_regular(&fstat(found)?) {
        return Err(Errno::EINVAL);
    }
    // A lease that the program holds makes an opening wait.
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let file = open(link(found).as_path(), flags, Mode::empty())?;
    fcntl(&file, FcntlArg::F_SETFL(OFlag::empty()))?;
    Ok(file.into())
}

/// The path by which the kernel knows a descriptor of the caller's.
pub(crate) fn link(fd: BorrowedFd<'_>) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

pub(crate) fn is(stat: &FileStat, kind: SFlag) -> bool {
    stat.st_mode & SFlag::S_IFMT.bits() == kind.bits()
}

fn is_regular(stat: &FileStat) -> bool {
    is(stat, SFlag::S_IFREG)
}
