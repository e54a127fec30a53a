//! Files, directories, and the numbers of descriptors.

use super::{Fd, Outcome, ask, code, fault, length};
use crate::abi::*;
use crate::raw::nr;
use crate::wire::{Call, Fault, NO_BYTES, NO_FILES, Text};

plain! {
    fchdir(fd: i32) = FCHDIR, Chdir;
    fchmod(fd: i32, mode: u32) = FCHMOD, Mkdir;
    fcntl(fd: i32, command: usize, argument: usize) = FCNTL, Descriptor;
    dup3(from: i32, to: i32, flags: u32) = DUP3, Descriptor;
    close_range(first: i32, last: i32) = CLOSE_RANGE, CloseRange;
}

/// openat(2).
#[inline(never)]
pub(crate) fn open(directory: i32, path: Text<'_>, flags: u32, mode: u32) -> Outcome<Fd> {
    with_pointers!(Call::Open, OPENAT, directory, path.as_ptr(), flags | O_CLOEXEC, mode)
        .map(|fd| Fd(fd as i32))
}

/// How often a path with `..` in it, or in a link, is looked up again because somebody on the machine
/// renamed or mounted something meanwhile, so that the kernel cannot vouch for it.
const RENAMES: u32 = 10_000;

/// openat2(2) with `RESOLVE_IN_ROOT`: no link leads out of `root`.
#[inline(never)]
pub(crate) fn open_inside(root: i32, path: Text<'_>, flags: u32) -> Outcome<Fd> {
    open_resolved(root, path, flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)
}

/// The same, but for what is mounted there.
#[cfg(session)]
pub(crate) fn open_below(root: i32, path: Text<'_>, flags: u32) -> Outcome<Fd> {
    open_resolved(root, path, flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV)
}

fn open_resolved(root: i32, path: Text<'_>, flags: u32, resolve: u64) -> Outcome<Fd> {
    let how = [u64::from(flags | O_CLOEXEC), 0, resolve];
    let mut patience = RENAMES;
    loop {
        let (path, size) = (path.as_ptr(), size_of_val(&how));
        match with_pointers!(Call::Resolve, OPENAT2, root, path, how.as_ptr(), size) {
            Err(Fault { errno, .. }) if errno.0 == EAGAIN && patience > 0 => patience -= 1,
            other => return other.map(|fd| Fd(fd as i32)),
        }
    }
}

/// read(2) into `buffer`.
#[inline(never)]
pub(crate) fn read(fd: i32, buffer: &mut [u8]) -> Outcome<usize> {
    with_pointers!(Call::Read, READ, fd, buffer.as_mut_ptr(), buffer.len()).map(length)
}

/// pread(2) of the beginning of a file.
pub(crate) fn read_start(fd: i32, buffer: &mut [u8]) -> Outcome<usize> {
    let (to, room) = (buffer.as_mut_ptr(), buffer.len());
    with_pointers!(Call::Read, PREAD64, fd, to, room, 0).map(length)
}

/// write(2).
#[inline(never)]
pub(crate) fn write(fd: i32, bytes: &[u8]) -> Outcome<usize> {
    with_pointers!(Call::Write, WRITE, fd, bytes.as_ptr(), bytes.len()).map(length)
}

/// Writes all of `bytes`.
pub(crate) fn write_all(fd: i32, mut bytes: &[u8]) -> Outcome {
    while !bytes.is_empty() {
        match write(fd, bytes)? {
            0 => return fault(Call::Write, EIO),
            written => bytes = bytes.get(written..).unwrap_or(&[]),
        }
    }
    Ok(())
}

/// fstatfs(2): of what a file system has no room left, as a report tells it.
pub(crate) fn shortage(fd: i32) -> u8 {
    // struct statfs begins: type, block size, blocks, free ones, those for users, files, free ones.
    let mut words = [u64::MAX; 16];
    // Where the kernel does not tell, it is not full.
    let _told = with_pointers!(Call::Stat, FSTATFS, fd, words.as_mut_ptr());
    (u8::from(words[3] == 0) * NO_BYTES) | (u8::from(words[6] == 0) * NO_FILES)
}

/// getdents64(2).
#[cfg(any(session, not(init)))]
pub(crate) fn list(directory: i32, entries: &mut [u8]) -> Outcome<usize> {
    let (to, room) = (entries.as_mut_ptr(), entries.len());
    with_pointers!(Call::Read, GETDENTS64, directory, to, room).map(length)
}

/// unlinkat(2) of a directory.
#[cfg(warden)]
pub(crate) fn remove_directory(directory: i32, path: Text<'_>) -> Outcome {
    with_pointers!(Call::Mkdir, UNLINKAT, directory, path.as_ptr(), AT_REMOVEDIR).map(drop)
}

/// What fstat(2) tells that init needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stat {
    pub(crate) device: u64,
    pub(crate) mode: u32,
    pub(crate) rdev: u64,
}

/// fstat(2).
#[inline(never)]
pub(crate) fn stat(fd: i32) -> Outcome<Stat> {
    let mut words = [0u64; 18];
    with_pointers!(Call::Stat, FSTAT, fd, words.as_mut_ptr())?;
    // struct stat begins: dev, ino, then nlink (u64), mode on x86-64; mode, nlink (u32) elsewhere.
    #[cfg(target_arch = "x86_64")]
    let (mode, rdev) = (words[3] as u32, words[5]);
    #[cfg(not(target_arch = "x86_64"))]
    let (mode, rdev) = (words[2] as u32, words[4]);
    Ok(Stat { device: words[0], mode, rdev })
}

/// readlinkat(2) of a descriptor's path, through the given /proc.
pub(crate) fn read_link(directory: i32, path: Text<'_>, buffer: &mut [u8]) -> Outcome<usize> {
    with_pointers!(
        Call::Resolve,
        READLINKAT,
        directory,
        path.as_ptr(),
        buffer.as_mut_ptr(),
        buffer.len()
    )
    .map(length)
}

/// mkdirat(2).
#[inline(never)]
pub(crate) fn mkdir(directory: i32, path: Text<'_>, mode: u32) -> Outcome {
    with_pointers!(Call::Mkdir, MKDIRAT, directory, path.as_ptr(), mode).map(drop)
}

/// mknodat(2) of an empty regular file.
pub(crate) fn make_file(directory: i32, path: Text<'_>, mode: u32) -> Outcome {
    with_pointers!(Call::Create, MKNODAT, directory, path.as_ptr(), S_IFREG | mode, 0).map(drop)
}

/// symlinkat(2).
pub(crate) fn symlink(target: Text<'_>, directory: i32, path: Text<'_>) -> Outcome {
    with_pointers!(Call::Symlink, SYMLINKAT, target.as_ptr(), directory, path.as_ptr()).map(drop)
}

/// fchownat(2); of a link itself.
pub(crate) fn chown(directory: i32, path: Text<'_>, uid: u32, gid: u32) -> Outcome {
    let flags = AT_SYMLINK_NOFOLLOW;
    with_pointers!(Call::Owner, FCHOWNAT, directory, path.as_ptr(), uid, gid, flags).map(drop)
}

/// access(2) for existence.
pub(crate) fn exists(path: Text<'_>) -> bool {
    with_pointers!(Call::Stat, FACCESSAT, AT_FDCWD, path.as_ptr(), 0).is_ok()
}

/// chdir(2).
pub(crate) fn chdir(path: Text<'_>) -> Outcome {
    with_pointers!(Call::Chdir, CHDIR, path.as_ptr()).map(drop)
}
