//! System calls of the library's side that `nix` does not wrap.
#![allow(unsafe_code)]

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;

use crate::abi::*;
use crate::raw::{self, nr, syscall};
use crate::wire::REPORT_FDS;

fn call(number: usize, args: [usize; 6]) -> Result<usize, Errno> {
    // SAFETY: every caller in this file passes addresses of live values with their lengths.
    unsafe { syscall(number, args) }.map_err(|raw::Errno(errno)| Errno::from_raw(errno))
}

fn descriptor(number: usize) -> Result<OwnedFd, Errno> {
    let number = RawFd::try_from(number).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel just returned this number for a new descriptor, owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// A descriptor that came with a message.
pub(crate) fn received(number: RawFd) -> OwnedFd {
    // SAFETY: the kernel just made it for the received message; nobody else knows its number.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// recvmsg(2) of a message that is there, with its descriptors: those too that came where the caller's
/// limit kept others out, which `nix` would drop without closing them.
pub(crate) fn receive_with_fds(
    socket: BorrowedFd<'_>,
    bytes: &mut [u8],
) -> Result<(usize, Vec<OwnedFd>), Errno> {
    #[repr(C)]
    struct Rights {
        head: libc::cmsghdr,
        fds: [RawFd; REPORT_FDS],
    }
    // SAFETY: numbers only, for which zeros are a value.
    let mut control: Rights = unsafe { std::mem::zeroed() };
    // SAFETY: numbers and addresses only, for which zeros are a value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    let mut vector = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    (message.msg_iov, message.msg_iovlen) = (&raw mut vector, 1);
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = size_of::<Rights>();
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: both buffers live across the call, with their lengths.
    let got = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags) };
    let length = usize::try_from(Errno::result(got)?).unwrap_or(0);
    let head = &control.head;
    let carries = (head.cmsg_level, head.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS);
    let size = if carries { head.cmsg_len } else { 0 };
    let count = size.saturating_sub(size_of::<libc::cmsghdr>()) / size_of::<RawFd>();
    Ok((length, control.fds.into_iter().take(count).map(received).collect()))
}

/// open_tree(2) of a path.
pub(crate) fn open_tree(path: &Path, flags: u32) -> Result<OwnedFd, Errno> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
    let flags = flags as usize | libc::O_CLOEXEC as usize;
    let args = [AT_FDCWD as usize, path.as_ptr() as usize, flags, 0, 0, 0];
    descriptor(call(nr::OPEN_TREE, args)?)
}

/// mount_setattr(2) with `MOUNT_ATTR_IDMAP` on a detached tree.
pub(crate) fn map_ids(
    tree: BorrowedFd<'_>,
    namespace: BorrowedFd<'_>,
    recursive: bool,
) -> Result<(), Errno> {
    let namespace = u64::try_from(namespace.as_raw_fd()).map_err(|_| Errno::EBADF)?;
    let attributes = [libc::MOUNT_ATTR_IDMAP, 0, 0, namespace];
    let flags = AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    let args = [
        tree.as_raw_fd() as usize,
        c"".as_ptr() as usize,
        flags as usize,
        attributes.as_ptr() as usize,
        size_of_val(&attributes),
        0,
    ];
    call(nr::MOUNT_SETATTR, args).map(drop)
}

/// The number of the mount that a descriptor is on, of `STATX_MNT_ID`; from Linux 6.8 on no other mount ever
/// has the same.
pub(crate) fn mount_number(fd: BorrowedFd<'_>) -> Result<u64, Errno> {
    let mut found = [0u64; 32];
    let (path, result) = (c"".as_ptr() as usize, found.as_mut_ptr() as usize);
    let flags = AT_EMPTY_PATH as usize;
    let wanted = (STATX_MNT_ID | STATX_MNT_ID_UNIQUE) as usize;
    call(nr::STATX, [fd.as_raw_fd() as usize, path, flags, wanted, result, 0])?;
    // struct statx: stx_mnt_id is at byte 144.
    Ok(found[18])
}

/// rename(2) that replaces nothing, where the file system can do that.
pub(crate) fn rename_new(from: &Path, to: &Path) -> Result<(), Errno> {
    let text = |path: &Path| CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL);
    let (old, new) = (text(from)?, text(to)?);
    let at = libc::AT_FDCWD;
    // SAFETY: both are texts that end in NUL, and the rest are numbers.
    let result = unsafe {
        libc::syscall(
            libc::SYS_renameat2,
            at,
            old.as_ptr(),
            at,
            new.as_ptr(),
            libc::RENAME_NOREPLACE,
        )
    };
    match Errno::result(result) {
        // A file system that cannot; the kernel lets a directory replace an empty one only.
        Err(Errno::EINVAL | Errno::ENOSYS) if to.symlink_metadata().is_err() => {
            std::fs::rename(from, to)
                .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
        }
        other => other.map(drop),
    }
}

/// The path by which the kernel knows a descriptor, as extended attributes are asked for by it.
fn link(fd: BorrowedFd<'_>) -> Result<CString, Errno> {
    CString::new(format!("/proc/self/fd/{}", fd.as_raw_fd())).map_err(|_| Errno::EINVAL)
}

/// The kernel's own limit of an attribute, and of the list of names.
const ATTRIBUTE_MAX: usize = 64 * 1024;

/// The names of a file's extended attributes; none where the file system has none.
pub(crate) fn attributes(fd: BorrowedFd<'_>) -> Result<Vec<OsString>, Errno> {
    let (path, mut names) = (link(fd)?, vec![0u8; ATTRIBUTE_MAX]);
    // SAFETY: the text ends in NUL, and the kernel writes no more than there is room for.
    let length = unsafe { libc::listxattr(path.as_ptr(), names.as_mut_ptr().cast(), names.len()) };
    match Errno::result(length) {
        Ok(length) => names.truncate(usize::try_from(length).unwrap_or(0)),
        Err(Errno::EOPNOTSUPP) => return Ok(Vec::new()),
        Err(errno) => return Err(errno),
    }
    let names = names.split(|&byte| byte == 0).filter(|name| !name.is_empty());
    Ok(names.map(|name| OsStr::from_bytes(name).to_owned()).collect())
}

/// An extended attribute; `None` if it is not there.
pub(crate) fn attribute(fd: BorrowedFd<'_>, name: &OsStr) -> Result<Option<Vec<u8>>, Errno> {
    let name = CString::new(name.as_bytes()).map_err(|_| Errno::EINVAL)?;
    let (path, mut value) = (link(fd)?, vec![0u8; ATTRIBUTE_MAX]);
    // SAFETY: both texts end in NUL, and the kernel writes no more than there is room for.
    let length = unsafe {
        libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len())
    };
    match Errno::result(length) {
        Ok(length) => {
            value.truncate(usize::try_from(length).unwrap_or(0));
            Ok(Some(value))
        }
        Err(Errno::ENODATA | Errno::EOPNOTSUPP) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// pidfd_send_signal(2).
pub(crate) fn signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    let signal = usize::try_from(signal).map_err(|_| Errno::EINVAL)?;
    call(nr::PIDFD_SEND_SIGNAL, [pidfd.as_raw_fd() as usize, signal, 0, 0, 0, 0]).map(drop)
}

/// A pidfd of the calling process.
pub(crate) fn own_pidfd() -> Result<OwnedFd, Errno> {
    pidfd(std::process::id())
}

/// pidfd_open(2).
pub(crate) fn pidfd(pid: u32) -> Result<OwnedFd, Errno> {
    // SAFETY: pidfd_open takes numbers.
    let number = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    descriptor(usize::try_from(number).map_err(|_| Errno::last())?)
}

/// How a process ended, and what it and its children used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reaped {
    /// `CLD_EXITED`, `CLD_KILLED` or `CLD_DUMPED`.
    pub(crate) code: i32,
    pub(crate) status: i32,
    pub(crate) usage: Option<libc::rusage>,
}

/// waitid(2) of a process that has ended; `ECHILD` if somebody else has reaped it.
pub(crate) fn reap(pidfd: BorrowedFd<'_>) -> Result<Reaped, Errno> {
    let mut info = [0i32; 32];
    // SAFETY: all-zero is a valid rusage.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let args = [
        libc::P_PIDFD as usize,
        pidfd.as_raw_fd() as usize,
        info.as_mut_ptr() as usize,
        WEXITED | __WALL,
        (&raw mut usage) as usize,
        0,
    ];
    loop {
        match call(nr::WAITID, args) {
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
            // siginfo_t: signo, errno, code, padding, pid, uid, status.
            Ok(_) => {
                return Ok(Reaped { code: info[2], status: info[6], usage: Some(usage) });
            }
        }
    }
}

/// How a process ended that somebody else has reaped (`PIDFD_INFO_EXIT`, Linux 6.15).
pub(crate) fn ended_elsewhere(pidfd: BorrowedFd<'_>) -> Option<Reaped> {
    // Where the kernel reaps it itself, its end can be seen a moment before it is stored.
    for _ in 0..20 {
        if let Some(reaped) = stored_end(pidfd).ok()? {
            return Some(reaped);
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    None
}

/// What is stored of a process's end; `None` if that is nothing yet.
fn stored_end(pidfd: BorrowedFd<'_>) -> Result<Option<Reaped>, Errno> {
    const PIDFD_INFO_EXIT: u32 = 1 << 3;
    // struct pidfd_info: mask, cgroupid, then u32s: pid, tgid, ppid, 8 ids, exit_code.
    let mut info = [0u32; 16];
    info[0] = PIDFD_INFO_EXIT;
    // _IOWR(0xFF, 11, 64 bytes)
    let request = 0xC000_0000usize | size_of_val(&info) << 16 | 0xFF << 8 | 11;
    let args = [pidfd.as_raw_fd() as usize, request, info.as_mut_ptr() as usize, 0, 0, 0];
    match call(nr::IOCTL, args) {
        Err(Errno::ESRCH) => return Ok(None),
        other => other?,
    };
    if info[0] & PIDFD_INFO_EXIT == 0 {
        return Ok(None);
    }
    let status = i32::try_from(info[15]).map_err(|_| Errno::EPROTO)?;
    let (code, status) = match status & 0x7f {
        0 => (libc::CLD_EXITED, status >> 8 & 0xff),
        signal if status & 0x80 != 0 => (libc::CLD_DUMPED, signal),
        signal => (libc::CLD_KILLED, signal),
    };
    Ok(Some(Reaped { code, status, usage: None }))
}

/// What a filter's listener is asked: `struct seccomp_notif`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) id: u64,
    /// Of the thread that waits, in the caller's pid namespace.
    pub(crate) pid: i32,
    pub(crate) number: u32,
    pub(crate) args: [u64; 6],
}

/// `SECCOMP_IOCTL_NOTIF_RECV`: the next call that waits for an answer.
pub(crate) fn asked(listener: BorrowedFd<'_>) -> Result<Asked, Errno> {
    // Longer than the kernel's struct, which may grow, and empty, as the kernel wants it.
    let mut got = [0u64; 32];
    // _IOWR('!', 0, 80 bytes)
    let args = [listener.as_raw_fd() as usize, 0xC050_2100, got.as_mut_ptr() as usize, 0, 0, 0];
    call(nr::IOCTL, args)?;
    let low = |number: u64| u32::try_from(number & u64::from(u32::MAX)).unwrap_or(0);
    Ok(Asked {
        id: got[0],
        pid: i32::try_from(low(got[1])).unwrap_or(0),
        number: low(got[2]),
        args: [got[4], got[5], got[6], got[7], got[8], got[9]],
    })
}

/// `SECCOMP_IOCTL_NOTIF_SEND`: lets a call go on, or answers it with an error number; 0 pretends success.
pub(crate) fn answer(listener: BorrowedFd<'_>, id: u64, errno: Option<i32>) -> Result<(), Errno> {
    const GO_ON: u64 = 1;
    // struct seccomp_notif_resp: the id, the value, and the error beside the flags.
    let last = match errno {
        None => GO_ON << 32,
        Some(errno) => u64::from(errno.wrapping_neg() as u32),
    };
    let mut reply = [id, 0, last];
    // _IOWR('!', 1, 24 bytes)
    let args = [listener.as_raw_fd() as usize, 0xC018_2101, reply.as_mut_ptr() as usize, 0, 0, 0];
    call(nr::IOCTL, args).map(drop)
}

/// `SECCOMP_IOCTL_NOTIF_ID_VALID`: whether who asked still waits, and so is who the pid says.
pub(crate) fn still_asks(listener: BorrowedFd<'_>, id: u64) -> bool {
    // _IOW('!', 2, 8 bytes)
    let args = [listener.as_raw_fd() as usize, 0x4008_2102, &raw const id as usize, 0, 0, 0];
    call(nr::IOCTL, args).is_ok()
}

/// Lets who asks and who answers take turns on one processor, where the kernel can do that (Linux 6.6).
pub(crate) fn take_turns(listener: BorrowedFd<'_>) {
    // _IOW('!', 4, 8 bytes), and SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP.
    let told = call(nr::IOCTL, [listener.as_raw_fd() as usize, 0x4008_2104, 1, 0, 0, 0]);
    log::trace!("learn: wake-ups on one processor: {told:?}");
}

/// Whether a filter can keep other signals than deadly ones from who waits for an answer
/// (`SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`, Linux 5.19): only then the kernel looks for the program.
pub(crate) fn filters_wait_killable() -> bool {
    const SET_MODE_FILTER: usize = 1;
    let flags = SECCOMP_FILTER_FLAG_NEW_LISTENER | 1 << 5;
    call(nr::SECCOMP, [SET_MODE_FILTER, flags, 0, 0, 0, 0]) == Err(Errno::EFAULT)
}

/// Runs `work` with every signal blocked, those that libc keeps to itself included.
pub(crate) fn with_signals_blocked<T>(work: impl FnOnce() -> T) -> Result<T, Errno> {
    let (all, mut before) = (u64::MAX, 0u64);
    let mask = |new: *const u64, old: *mut u64| {
        call(nr::RT_SIGPROCMASK, [SIG_SETMASK, new as usize, old as usize, 8, 0, 0])
    };
    mask(&raw const all, &raw mut before)?;
    let result = work();
    // What was just read is valid: this cannot fail.
    let _always = mask(&raw const before, std::ptr::null_mut());
    Ok(result)
}

/// Writes all of `bytes`. Above the caller's limit of file sizes, the kernel answers `EFBIG` and sends
/// SIGXFSZ as well, which would end the caller.
pub(crate) fn write_all(file: &mut std::fs::File, bytes: &[u8]) -> std::io::Result<()> {
    let written = with_signals_blocked(|| {
        let written = std::io::Write::write_all(file, bytes);
        if written.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::EFBIG)) {
            let (mask, now) = (1u64 << (libc::SIGXFSZ - 1), [0u64; 2]);
            let args = [&raw const mask as usize, 0, now.as_ptr() as usize, 8, 0, 0];
            // Nothing is to be done with it, or without it if somebody else has ignored it.
            let _taken = call(nr::RT_SIGTIMEDWAIT, args);
        }
        written
    });
    written?
}

/// How much stack the stage between clone and exec has; it lies on the calling thread's own stack,
/// which the kernel keeps still meanwhile (`CLONE_VFORK`).
const STACK: usize = 16 * 1024;

/// A stack, as the machine wants it aligned.
#[repr(align(16))]
struct Stack(#[allow(dead_code, reason = "only its place matters")] [u8; STACK]);

/// A process that [`clone_stage`] has made.
#[derive(Debug)]
pub(crate) struct Cloned {
    pub(crate) pid: u32,
    pub(crate) pidfd: OwnedFd,
    /// Whether it has been in the control group from its first moment on.
    pub(crate) born_inside: bool,
}

/// Clones the calling process with shared memory and waits for the exec. Where the kernel or a
/// filter has no clone3(2), the child is not in `into` yet.
pub(crate) fn clone_stage(
    flags: usize,
    into: Option<BorrowedFd<'_>>,
    stage: &mut crate::launch::Stage<'_>,
) -> Result<Cloned, Errno> {
    let mut stack = std::mem::MaybeUninit::<Stack>::uninit();
    let bottom = stack.as_mut_ptr().cast::<u8>();
    let flags = flags | CLONE_VM | libc::CLONE_VFORK as usize | CLONE_PIDFD;
    let (mut pidfd, entry) = (-1, crate::launch::entry);
    let argument = (&raw mut *stage).cast();
    let mut pid = Err(raw::Errno(libc::ENOSYS));
    if let Some(group) = into {
        let args = raw::CloneArgs {
            flags: flags as u64 | CLONE_INTO_CGROUP,
            pidfd: (&raw mut pidfd) as u64,
            exit_signal: SIGCHLD as u64,
            stack: bottom as u64,
            stack_size: STACK as u64,
            cgroup: u64::try_from(group.as_raw_fd()).map_err(|_| Errno::EBADF)?,
            ..Default::default()
        };
        // SAFETY: as below.
        pid = unsafe { raw::clone3(&args, entry, argument) };
    }
    let born_inside = pid.is_ok();
    if !born_inside {
        let top = bottom.wrapping_add(STACK);
        // SAFETY: CLONE_VFORK suspends this thread until the child has executed init or ended, so
        // the stack and the stage outlive the child's use of them.
        pid = unsafe { raw::clone(flags | SIGCHLD, top, &raw mut pidfd, entry, argument) };
    }
    let pid = pid.map_err(|raw::Errno(errno)| Errno::from_raw(errno))?;
    let pidfd = descriptor(usize::try_from(pidfd).unwrap_or(0))?;
    Ok(Cloned { pid: u32::try_from(pid).unwrap_or(0), pidfd, born_inside })
}

/// `CLONE_INTO_CGROUP` of clone3(2), Linux 5.7.
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// How many CPUs a program can run on at once, at the most.
pub(crate) fn cpus() -> u32 {
    let online = nix::unistd::sysconf(nix::unistd::SysconfVar::_NPROCESSORS_ONLN);
    online.ok().flatten().and_then(|count| u32::try_from(count).ok()).unwrap_or(1).max(1)
}

/// The caller's supplementary groups.
pub(crate) fn groups() -> Vec<u32> {
    // SAFETY: with a size of 0 nothing is written.
    let count = unsafe { libc::getgroups(0, std::ptr::null_mut()) };
    let mut groups = vec![0; usize::try_from(count).unwrap_or(0)];
    if groups.is_empty() {
        return groups;
    }
    // SAFETY: there is room for as many as are asked for.
    let count = unsafe { libc::getgroups(count, groups.as_mut_ptr()) };
    groups.truncate(usize::try_from(count).unwrap_or(0));
    groups
}

/// The number of the file system at a path, if it tells one
/// ([statfs(2)](https://man7.org/linux/man-pages/man2/statfs.2.html)).
pub(crate) fn file_system_number(path: &Path) -> Option<u64> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    // struct statfs: 120 bytes, of which the eighth word is the number.
    let mut words = [0u64; 16];
    // SAFETY: the path ends with a NUL, and the array is larger than the struct.
    let result = unsafe { libc::syscall(libc::SYS_statfs, path.as_ptr(), words.as_mut_ptr()) };
    (result == 0).then_some(words[7])
}

/// The number of one of the caller's keyrings, if there is one
/// ([keyctl(2)](https://man7.org/linux/man-pages/man2/keyctl.2.html)).
pub(crate) fn keyring(special: i32) -> Option<u32> {
    // SAFETY: numbers only: KEYCTL_GET_KEYRING_ID, which makes none.
    let number = unsafe { libc::syscall(libc::SYS_keyctl, 0, special, 0) };
    u32::try_from(number).ok()
}

/// The version of Landlock's interface.
pub(crate) fn landlock_version() -> Result<u32, Errno> {
    const VERSION: usize = 1;
    let version = call(nr::LANDLOCK_CREATE_RULESET, [0, 0, VERSION, 0, 0, 0])?;
    Ok(u32::try_from(version).unwrap_or(u32::MAX))
}

/// The caller's hard limits, in the kernel's order.
pub(crate) fn hard_limits() -> Result<[u64; 16], Errno> {
    let mut limits = [0; 16];
    for (resource, limit) in limits.iter_mut().enumerate() {
        let mut pair = [0u64; 2];
        call(nr::PRLIMIT64, [0, resource, 0, pair.as_mut_ptr() as usize, 0, 0])?;
        *limit = pair[1];
    }
    Ok(limits)
}

/// The other side of a terminal, by its master alone (`TIOCGPTPEER`).
pub(crate) fn terminal_peer(master: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let (master, unlocked) = (master.as_raw_fd() as usize, 0i32);
    call(nr::IOCTL, [master, TIOCSPTLCK, &raw const unlocked as usize, 0, 0, 0])?;
    let flags = (O_RDWR | O_NOCTTY | O_CLOEXEC) as usize;
    descriptor(call(nr::IOCTL, [master, TIOCGPTPEER, flags, 0, 0, 0])?)
}

/// `TIOCSWINSZ` on a terminal.
pub(crate) fn set_window_size(
    terminal: BorrowedFd<'_>,
    rows: u16,
    columns: u16,
) -> Result<(), Errno> {
    // struct winsize: rows, columns, and two sizes in pixels that nobody uses.
    let size = [rows, columns, 0, 0];
    let args = [terminal.as_raw_fd() as usize, TIOCSWINSZ, size.as_ptr() as usize, 0, 0, 0];
    call(nr::IOCTL, args).map(drop)
}

/// `CLOCK_MONOTONIC` that far from now, in nanoseconds, as the warden counts.
pub(crate) fn monotonic_after(delay: Duration) -> u64 {
    let mut now = [0u64; 2];
    // The clock and the address are valid: this cannot fail.
    let _always = call(nr::CLOCK_GETTIME, [CLOCK_MONOTONIC, now.as_mut_ptr() as usize, 0, 0, 0, 0]);
    let nanos = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX);
    (now[0] * 1_000_000_000 + now[1]).saturating_add(nanos)
}

/// Whether the kernel considers the descriptor readable, or ended for a pidfd; waits that long, whatever signals come:
/// the embedder may well handle that of a child's end.
pub(crate) fn wait_readable(fd: BorrowedFd<'_>, timeout: Option<Duration>) -> bool {
    let waits = timeout.filter(|timeout| !timeout.is_zero());
    let deadline = waits.map(monotonic_after);
    loop {
        let left =
            deadline.map(|deadline| deadline.saturating_sub(monotonic_after(Duration::ZERO)));
        match readable_within(fd, left.map(Duration::from_nanos).or(timeout)) {
            Ok(readable) => return readable,
            Err(Errno::EINTR) => {}
            // Short of memory, it is tried again.
            Err(_) if left.is_some_and(|left| left > 0) => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(_) => return false,
        }
    }
}

fn readable_within(fd: BorrowedFd<'_>, timeout: Option<Duration>) -> Result<bool, Errno> {
    let time = timeout.map(|left| [left.as_secs(), u64::from(left.subsec_nanos())]);
    let pointer = time.as_ref().map_or(0, |time| time.as_ptr() as usize);
    let mut set = [libc::pollfd { fd: fd.as_raw_fd(), events: POLLIN, revents: 0 }];
    let count = call(nr::PPOLL, [set.as_mut_ptr() as usize, 1, pointer, 0, 8, 0])?;
    Ok(count > 0)
}

/// Takes the exclusive lock of a file, which the kernel releases when all descriptors of this opening
/// are closed; `EWOULDBLOCK` if somebody else has it.
pub(crate) fn lock(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: flock takes numbers.
    let result = unsafe { libc::flock(fd.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB) };
    Errno::result(result).map(drop)
}

/// Gives it back, whoever else has a descriptor of this opening.
pub(crate) fn unlock(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: flock takes numbers.
    Errno::result(unsafe { libc::flock(fd.as_raw_fd(), libc::LOCK_UN) }).map(drop)
}

/// A number that nobody else has.
pub(crate) fn random() -> u64 {
    let mut number = 0u64;
    // SAFETY: the kernel writes eight bytes to `number`, which has as many.
    let got =
        unsafe { libc::syscall(libc::SYS_getrandom, &raw mut number, 8, libc::GRND_NONBLOCK) };
    if got == 8 {
        number
    } else {
        monotonic_after(Duration::ZERO) ^ u64::from(std::process::id()) << 40
    }
}

/// A descriptor of the calling process by number, duplicated so that it stays what it is.
pub(crate) fn duplicate(number: RawFd) -> Result<OwnedFd, Errno> {
    let copy = call(nr::FCNTL, [number as usize, F_DUPFD_CLOEXEC, 3, 0, 0, 0]);
    // What it says where the limit is no higher than that.
    let copy = copy.map_err(|errno| if errno == Errno::EINVAL { Errno::EMFILE } else { errno });
    descriptor(copy?)
}

/// The standard streams that are closed.
pub(crate) fn closed_streams() -> impl Iterator<Item = usize> {
    let is_closed = |number: &usize| {
        call(nr::FCNTL, [*number, libc::F_GETFD as usize, 0, 0, 0, 0])
            .is_err_and(|errno| errno == Errno::EBADF)
    };
    (0..3).filter(is_closed)
}

/// dup3(2) over an open number.
#[cfg(test)]
pub(crate) fn replace(fd: BorrowedFd<'_>, number: RawFd) -> Result<(), Errno> {
    call(nr::DUP3, [fd.as_raw_fd() as usize, number as usize, libc::O_CLOEXEC as usize, 0, 0, 0])
        .map(drop)
}

/// bpf(2); the attributes are a structure that begins as the kernel's does.
fn bpf<T>(command: usize, attributes: &T) -> Result<usize, Errno> {
    let number = usize::try_from(libc::SYS_bpf).map_err(|_| Errno::ENOSYS)?;
    call(number, [command, (&raw const *attributes) as usize, size_of::<T>(), 0, 0, 0])
}

/// A map that holds one number, which begins at 0.
pub(crate) fn bpf_counter() -> Result<OwnedFd, Errno> {
    const BPF_MAP_CREATE: usize = 0;
    const BPF_MAP_TYPE_ARRAY: u32 = 2;
    // Type, sizes of key and value, entries.
    descriptor(bpf(BPF_MAP_CREATE, &[BPF_MAP_TYPE_ARRAY, 4, 8, 1])?)
}

/// The number in such a map.
pub(crate) fn bpf_count(map: BorrowedFd<'_>) -> Result<u64, Errno> {
    const BPF_MAP_LOOKUP_ELEM: usize = 1;
    let (key, mut value) = (0u32, 0u64);
    let map = u64::try_from(map.as_raw_fd()).map_err(|_| Errno::EBADF)?;
    let attributes = [map, (&raw const key) as u64, (&raw mut value) as u64];
    bpf(BPF_MAP_LOOKUP_ELEM, &attributes)?;
    Ok(value)
}

/// Loads a program of this type, to be attached to a place of that number.
pub(crate) fn bpf_load(
    kind: u32,
    place: u32,
    code: &[crate::cgroup::bpf::Instruction],
) -> Result<OwnedFd, Errno> {
    const BPF_PROG_LOAD: usize = 5;
    #[repr(C)]
    struct Attributes {
        kind: u32,
        length: u32,
        code: u64,
        license: u64,
        log: [u64; 2],
        version_and_flags: [u32; 2],
        name: [u8; 16],
        interface: u32,
        place: u32,
    }
    let attributes = Attributes {
        kind,
        length: u32::try_from(code.len()).map_err(|_| Errno::E2BIG)?,
        code: code.as_ptr() as u64,
        license: c"MIT OR Apache-2.0".as_ptr() as u64,
        log: [0; 2],
        version_and_flags: [0; 2],
        name: *b"stockade\0\0\0\0\0\0\0\0",
        interface: 0,
        place,
    };
    loop {
        // The verifier gives up when a signal comes.
        match bpf(BPF_PROG_LOAD, &attributes) {
            Err(Errno::EAGAIN) => {}
            result => return descriptor(result?),
        }
    }
}

/// Attaches a program to a group, beside others, or in place of one (Linux 5.6).
pub(crate) fn bpf_attach(
    program: BorrowedFd<'_>,
    place: u32,
    group: BorrowedFd<'_>,
    instead_of: Option<BorrowedFd<'_>>,
) -> Result<(), Errno> {
    const BPF_PROG_ATTACH: usize = 8;
    const BPF_F_ALLOW_MULTI: u32 = 2;
    const BPF_F_REPLACE: u32 = 4;
    let number = |fd: BorrowedFd<'_>| u32::try_from(fd.as_raw_fd()).map_err(|_| Errno::EBADF);
    let flags = BPF_F_ALLOW_MULTI | instead_of.map_or(0, |_| BPF_F_REPLACE);
    let replaced = instead_of.map_or(Ok(0), number)?;
    bpf(BPF_PROG_ATTACH, &[number(group)?, number(program)?, place, flags, replaced]).map(drop)
}
