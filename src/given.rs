//! What is behind a descriptor that a program is given.

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::{SFlag, fstat};
use nix::sys::statfs::{FsType, fstatfs};

use crate::error::{Error, Result, Stage};
use crate::wire::LANDLOCK_OF_FILES;

/// `LANDLOCK_ACCESS_FS_…`.
const EXECUTE: u64 = 1;
const READ_FILE: u64 = 4;

/// One of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Given {
    /// Its number here, and in init.
    pub(crate) source: RawFd,
    kind: SFlag,
    may_read: bool,
    may_write: bool,
    has_name: bool,
}

impl Given {
    pub(crate) fn look(fd: BorrowedFd<'_>, target: RawFd) -> Result<Self> {
        Self::find(fd).map_err(|errno| {
            Error::new(Stage::Prepare, "look at descriptor", target.to_string(), errno)
        })
    }

    /// The same with another number in init.
    pub(crate) fn numbered(self, source: RawFd) -> Self {
        Given { source, ..self }
    }

    fn find(fd: BorrowedFd<'_>) -> std::result::Result<Self, Errno> {
        // A pidfd and the like are regular files, too, by what newer kernels say.
        const ANONYMOUS: [FsType; 2] = [FsType(0x5049_4446), FsType(0x0904_1934)];
        let file = fstat(fd)?;
        let mut kind = SFlag::from_bits_truncate(file.st_mode) & SFlag::S_IFMT;
        if kind == SFlag::S_IFREG && ANONYMOUS.contains(&fstatfs(fd)?.filesystem_type()) {
            kind = SFlag::empty();
        }
        let flags = OFlag::from_bits_truncate(fcntl(fd, FcntlArg::F_GETFL)?);
        let (mode, opened) = (flags & OFlag::O_ACCMODE, !flags.contains(OFlag::O_PATH));
        let may_read = mode != OFlag::O_WRONLY && opened;
        let may_write = mode != OFlag::O_RDONLY && opened;
        Ok(Given {
            source: fd.as_raw_fd(),
            kind,
            may_read,
            may_write,
            has_name: file.st_nlink != 0,
        })
    }

    /// What there is to do by its name in /proc/self/fd, as Landlock calls it. Pipes, sockets and the like
    /// are in no tree: nothing is refused there.
    pub(crate) fn access(&self) -> u64 {
        match self.kind {
            SFlag::S_IFDIR => u64::MAX,
            SFlag::S_IFREG | SFlag::S_IFCHR | SFlag::S_IFBLK => {
                let read = if self.may_read { READ_FILE } else { 0 };
                let write =
                    if self.may_write { LANDLOCK_OF_FILES & !(READ_FILE | EXECUTE) } else { 0 };
                read | write
            }
            _ => 0,
        }
    }

    /// Whether what is written there stays on the host: a directory, or a file that has a name.
    pub(crate) fn writes_to_host(&self) -> bool {
        self.kind == SFlag::S_IFDIR
            || self.kind == SFlag::S_IFREG && self.may_write && self.has_name
    }
}
