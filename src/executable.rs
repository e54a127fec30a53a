//! The freestanding programs: embedded, each put into a sealed file in memory once a process.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::error::{Error, Result, Stage, quoted};
use crate::hint;

/// A program that build.rs made.
#[derive(Debug)]
pub(crate) struct Embedded {
    name: &'static str,
    bytes: &'static [u8],
    /// What its file is called beside the one that `init_file` names.
    suffix: &'static str,
    in_memory: AtomicPtr<Kept>,
}

macro_rules! embedded {
    ($name:literal, $suffix:literal) => {
        Embedded {
            name: $name,
            bytes: include_bytes!(concat!(env!("OUT_DIR"), "/", $name)),
            suffix: $suffix,
            in_memory: AtomicPtr::new(std::ptr::null_mut()),
        }
    };
}

/// PID 1 of a sandbox.
pub(crate) static INIT: Embedded = embedded!("stockade-init", "");
/// PID 1 of a sandbox in which programs are started later.
pub(crate) static SESSION: Embedded = embedded!("stockade-session", ".session");
/// The one process outside of all sandboxes.
pub(crate) static WARDEN: Embedded = embedded!("stockade-warden", ".warden");

/// What runs inside for an audit.
pub(crate) static PROBE: Embedded = embedded!("stockade-probe", ".probe");

/// `MFD_EXEC`, which says that executing is meant (Linux 6.3).
const MFD_EXEC: u32 = 0x10;

/// The identity of an open file, by which an embedder that closes descriptors that are not its own
/// is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    pub(crate) fn of(fd: BorrowedFd<'_>) -> Option<Self> {
        let stat = nix::sys::stat::fstat(fd).ok()?;
        Some(Identity { device: stat.st_dev, inode: stat.st_ino })
    }
}

/// A descriptor that lives as long as the process, with what it should be.
#[derive(Debug)]
pub(crate) struct Kept {
    number: RawFd,
    identity: Identity,
}

impl Kept {
    pub(crate) fn new(fd: OwnedFd) -> Option<Self> {
        let identity = Identity::of(fd.as_fd())?;
        Some(Kept { number: fd.into_raw_fd(), identity })
    }

    /// Gives it up, if the number still stands for the same file.
    pub(crate) fn close(&self) {
        if self.duplicate().is_some() {
            let _gone = nix::unistd::close(self.number);
        }
    }

    /// A duplicate, if the number still stands for the same file.
    pub(crate) fn duplicate(&self) -> Option<OwnedFd> {
        let fd = crate::sys::duplicate(self.number).ok()?;
        (Identity::of(fd.as_fd()) == Some(self.identity)).then_some(fd)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        // Only what is still its own; then there is nothing to say about a failed close.
        let _closed = self.duplicate().map(|_own| nix::unistd::close(self.number));
    }
}

impl Embedded {
    /// The program itself.
    pub(crate) fn bytes(&self) -> &'static [u8] {
        self.bytes
    }

    /// Ready to be executed; `file` is where it may be put if memory may not be executed.
    pub(crate) fn open(&'static self, file: Option<&Path>) -> Result<OwnedFd> {
        let before = crate::kept::get(&self.in_memory);
        if let Some(fd) = before.and_then(Kept::duplicate) {
            return Ok(fd);
        }
        match (self.make_in_memory(), file) {
            (Ok(fd), _) => {
                let copy = fd.as_fd().try_clone_to_owned().ok();
                if let Some(copy) = copy.and_then(Kept::new) {
                    // Who was slower than another thread closes its own.
                    let _slower = crate::kept::replace(&self.in_memory, before, copy);
                }
                Ok(fd)
            }
            (Err(_), Some(path)) => self.in_file(path),
            (Err(errno), None) => {
                let error = Error::new(Stage::Launch, "memfd_create", self.name, errno);
                Err(error.with_hint(hint::for_memfd(errno)))
            }
        }
    }

    fn make_in_memory(&self) -> Result<OwnedFd, Errno> {
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let executable = flags | MFdFlags::from_bits_retain(MFD_EXEC);
        let fd = match memfd_create(self.name, executable) {
            // Before Linux 6.3 every such file can be executed.
            Err(Errno::EINVAL) => memfd_create(self.name, flags)?,
            other => other?,
        };
        let mut file = File::from(fd);
        crate::sys::write_all(&mut file, self.bytes).map_err(|error| errno_of(&error))?;
        let seals = SealFlag::F_SEAL_SEAL
            | SealFlag::F_SEAL_SHRINK
            | SealFlag::F_SEAL_GROW
            | SealFlag::F_SEAL_WRITE;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
        Ok(file.into())
    }

    /// A file at the caller's place: made if it is missing, and used only if it holds the program.
    pub(crate) fn in_file(&self, init_file: &Path) -> Result<OwnedFd> {
        let mut path = init_file.as_os_str().to_owned();
        path.push(self.suffix);
        let path = Path::new(&path);
        let failed = |error: std::io::Error| {
            Error::new(Stage::Launch, "init file", quoted(path), errno_of(&error))
        };
        // Not even for the look at it a FIFO is to be waited for.
        let mut reading = OpenOptions::new();
        reading.read(true).custom_flags(libc::O_NONBLOCK);
        let opened = match reading.open(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                self.make_file(path).and_then(|()| reading.open(path))
            }
            other => other,
        };
        let mut file = opened.map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let caller = nix::unistd::geteuid().as_raw();
        let mine = metadata.uid() == caller || metadata.uid() == 0;
        let safe = mine && metadata.permissions().mode() & 0o022 == 0;
        let mut content = Vec::new();
        if safe && metadata.is_file() {
            let limit = u64::try_from(self.bytes.len()).unwrap_or(0) + 1;
            Read::by_ref(&mut file).take(limit).read_to_end(&mut content).map_err(failed)?;
        }
        if content != self.bytes {
            return Err(Error::new(Stage::Launch, "verify init file", quoted(path), Errno::EPERM));
        }
        Ok(file.into())
    }

    /// Makes the file under another name first: whoever finds it finds all of it, and none is left
    /// half written. If somebody else was faster, theirs stays.
    fn make_file(&self, path: &Path) -> std::io::Result<()> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{}.{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
        let name = Path::new(&name);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o555).open(name)?;
        let written = crate::sys::write_all(&mut file, self.bytes);
        // A file that is open for writing cannot be executed: it gets its name afterwards.
        drop(file);
        let made = written.and_then(|()| match std::fs::hard_link(name, path) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        });
        std::fs::remove_file(name)?;
        made
    }
}

pub(crate) fn errno_of(error: &std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_programs_are_small() {
        for (most, program) in [(32, &INIT), (32, &WARDEN), (32, &PROBE), (42, &SESSION)] {
            let Embedded { name, bytes, .. } = program;
            let fits = !bytes.is_empty() && bytes.len() < most * 1024;
            assert!(fits, "{name}: {} bytes", bytes.len());
        }
    }

    #[test]
    fn the_program_in_memory_cannot_be_changed() {
        let fd = INIT.open(None).unwrap();
        let again = nix::unistd::write(&fd, b"x");
        assert_eq!(again, Err(Errno::EPERM));
    }

    #[test]
    fn a_kept_descriptor_that_was_replaced_is_noticed() {
        let null = File::open("/dev/null").unwrap();
        let kept = Kept::new(null.into()).unwrap();
        assert!(kept.duplicate().is_some());
        let zero = File::open("/dev/zero").unwrap();
        crate::sys::replace(zero.as_fd(), kept.number).unwrap();
        assert!(kept.duplicate().is_none());
    }
}
