//! System calls as safe functions; the only file of init, besides the start, with unsafe code.
//!
//! Every failure carries the call that failed, so that a report can name it. What is used in many
//! places is not inlined: init must stay small.
#![allow(unsafe_code)]

use core::mem::transmute;

use crate::abi::*;
use crate::raw::{Errno, clone, nr, syscall};
use crate::wire::{Call, Fault, NO_BYTES, NO_FILES, REPORT, REPORT_FDS, Report, Text};

/// The result of everything that can fail in init.
pub(crate) type Outcome<T = ()> = Result<T, Fault>;

/// A failure of init's own finding.
pub(crate) const fn fault<T>(call: Call, errno: i32) -> Outcome<T> {
    Err(Fault { call, errno: Errno(errno) })
}

/// A descriptor that is closed when it goes out of scope.
#[derive(Debug)]
pub(crate) struct Fd(pub(crate) i32);

impl Drop for Fd {
    fn drop(&mut self) {
        if self.0 >= 0 {
            close(self.0);
        }
    }
}

/// Closes a descriptor. The kernel frees the number whatever it answers.
#[inline(never)]
pub(crate) fn close(fd: i32) {
    // SAFETY: close takes a number; init alone decides which numbers it still uses.
    let _freed = unsafe { syscall(nr::CLOSE, [fd as usize, 0, 0, 0, 0, 0]) };
}

/// Makes a system call whose answer is a number of 32 bits, with the arguments where the caller has
/// them already: with `code`, which is a [`Call`] above a number of the kernel's, they fit into
/// registers, and all wrappers are a few instructions.
///
/// # Safety
///
/// As for [`syscall`]; the upper half of `code` must be a `Call`.
#[inline(never)]
unsafe fn ask(a: usize, b: usize, c: usize, d: usize, e: usize, code: u32) -> Outcome<u32> {
    // SAFETY: the caller answers for the arguments.
    match unsafe { syscall((code & 0xffff) as usize, [a, b, c, d, e, 0]) } {
        Ok(answer) => Ok(answer as u32),
        // SAFETY: the caller answers for the code, and a `Call` is a number of 32 bits.
        Err(errno) => Err(Fault { call: unsafe { transmute::<u32, Call>(code >> 16) }, errno }),
    }
}

/// [`ask`] with up to five arguments, the rest zero.
macro_rules! ask {
    ($code:expr;) => {
        ask!($code; 0)
    };
    ($code:expr; $a:expr) => {
        ask!($code; $a, 0)
    };
    ($code:expr; $a:expr, $b:expr) => {
        ask!($code; $a, $b, 0)
    };
    ($code:expr; $a:expr, $b:expr, $c:expr) => {
        ask!($code; $a, $b, $c, 0)
    };
    ($code:expr; $a:expr, $b:expr, $c:expr, $d:expr) => {
        ask!($code; $a, $b, $c, $d, 0)
    };
    ($code:expr; $a:expr, $b:expr, $c:expr, $d:expr, $e:expr) => {
        ask($a as usize, $b as usize, $c as usize, $d as usize, $e as usize, $code)
    };
}

/// What [`ask`] takes for a call and its number.
const fn code(call: Call, number: usize) -> u32 {
    (call as u32) << 16 | number as u32
}

macro_rules! plain {
    ($($(#[$doc:meta])* $name:ident($($arg:ident: $type:ty),*) = $number:ident, $call:ident;)*) => {$(
        $(#[$doc])*
        #[inline(never)]
        pub(crate) fn $name($($arg: $type),*) -> Outcome<u32> {
            // SAFETY: this call takes numbers only; none of them is an address.
            unsafe { ask!(code(Call::$call, nr::$number); $($arg),*) }
        }
    )*};
}

plain! {
    unshare(flags: usize) = UNSHARE, Unshare;
    setns(fd: i32, kind: usize) = SETNS, Setns;
    setresgid(real: u32, effective: u32, saved: u32) = SETRESGID, Gid;
    setresuid(real: u32, effective: u32, saved: u32) = SETRESUID, Uid;
    setsid() = SETSID, Session;
    sched_yield() = SCHED_YIELD, Signals;
    personality(domain: usize) = PERSONALITY, Personality;
    sched_getscheduler(pid: i32) = SCHED_GETSCHEDULER, Scheduler;
    fchdir(fd: i32) = FCHDIR, Chdir;
    umask(mask: u32) = UMASK, Plan;
    setpriority(which: usize, who: usize, nice: i32) = SETPRIORITY, Nice;
    dup3(from: i32, to: i32, flags: u32) = DUP3, Descriptor;
    fcntl(fd: i32, command: usize, argument: usize) = FCNTL, Descriptor;
    close_range(first: i32, last: i32) = CLOSE_RANGE, CloseRange;
    fsmount(context: i32, flags: u32, attributes: u32) = FSMOUNT, Fsmount;
    socket(domain: usize, kind: usize, protocol: usize) = SOCKET, Loopback;
    fchmod(fd: i32, mode: u32) = FCHMOD, Mkdir;
    kill(pid: isize, signal: usize) = KILL, Signals;
}

/// prctl(2) with numeric arguments.
#[inline(never)]
pub(crate) fn prctl(call: Call, option: usize, arg2: usize, arg3: usize) -> Outcome {
    // SAFETY: only options whose arguments are numbers are passed.
    unsafe { ask!(code(call, nr::PRCTL); option, arg2, arg3) }.map(drop)
}

/// Sets the name that ps shows.
pub(crate) fn set_name(name: &'static [u8; 16]) -> Outcome {
    // SAFETY: `name` is 16 readable bytes, the size that the kernel reads.
    unsafe { ask!(code(Call::Start, nr::PRCTL); PR_SET_NAME, name.as_ptr(), 0) }.map(drop)
}

macro_rules! with_pointers {
    ($call:expr, $number:ident, $($arg:expr),*) => {{
        // SAFETY: each pointer comes from a reference or slice that lives across the call, with
        // the length that is passed along or a NUL at its end.
        unsafe { ask!(code($call, nr::$number); $($arg),*) }
    }};
}

/// A number of bytes.
fn length(answer: u32) -> usize {
    answer as usize
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
    let how = [u64::from(flags | O_CLOEXEC), 0, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS];
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

/// fstatfs(2): of what a file system has no room left, as a report tells it.
pub(crate) fn shortage(fd: i32) -> u8 {
    // struct statfs begins: type, block size, blocks, free ones, those for users, files, free ones.
    let mut words = [u64::MAX; 16];
    // Where the kernel does not tell, it is not full.
    let _told = with_pointers!(Call::Stat, FSTATFS, fd, words.as_mut_ptr());
    (u8::from(words[3] == 0) * NO_BYTES) | (u8::from(words[6] == 0) * NO_FILES)
}

/// getdents64(2).
#[cfg(warden)]
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

/// statx(2): the number of the mount that a path leads to (Linux 5.8).
pub(crate) fn mount_number(path: Text<'_>) -> Outcome<u64> {
    let mut found = [0u64; 32];
    let flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT;
    let result = found.as_mut_ptr();
    with_pointers!(Call::Remount, STATX, AT_FDCWD, path.as_ptr(), flags, STATX_MNT_ID, result)?;
    // struct statx: stx_mnt_id is at byte 144.
    Ok(found[18])
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

/// chdir(2).
pub(crate) fn chdir(path: Text<'_>) -> Outcome {
    with_pointers!(Call::Chdir, CHDIR, path.as_ptr()).map(drop)
}

/// access(2) for existence.
pub(crate) fn exists(path: Text<'_>) -> bool {
    with_pointers!(Call::Stat, FACCESSAT, AT_FDCWD, path.as_ptr(), 0).is_ok()
}

/// mount(2); a `None` is a null pointer.
#[inline(never)]
pub(crate) fn mount(
    call: Call,
    target: Text<'_>,
    kind: Option<Text<'_>>,
    flags: u32,
    options: Option<Text<'_>>,
) -> Outcome {
    let pointer = |text: Option<Text<'_>>| text.map_or(core::ptr::null(), Text::as_ptr);
    let source = pointer(kind);
    with_pointers!(call, MOUNT, source, target.as_ptr(), pointer(kind), flags, pointer(options))
        .map(drop)
}

/// umount2(2) of the current directory's mount.
pub(crate) fn detach_here() -> Outcome {
    with_pointers!(Call::Umount, UMOUNT2, c".".as_ptr(), MNT_DETACH).map(drop)
}

/// pivot_root(".", "."): the old root ends up on top of the new one.
pub(crate) fn pivot_here() -> Outcome {
    with_pointers!(Call::Pivot, PIVOT_ROOT, c".".as_ptr(), c".".as_ptr()).map(drop)
}

/// fsopen(2).
pub(crate) fn fsopen(kind: Text<'_>) -> Outcome<Fd> {
    with_pointers!(Call::Fsopen, FSOPEN, kind.as_ptr(), 1).map(|fd| Fd(fd as i32))
}

/// fsconfig(2): `FSCONFIG_SET_STRING`.
pub(crate) fn fsconfig_string(context: i32, key: Text<'_>, value: Text<'_>) -> Outcome {
    with_pointers!(Call::Fsconfig, FSCONFIG, context, 1, key.as_ptr(), value.as_ptr(), 0).map(drop)
}

/// fsconfig(2): `FSCONFIG_CMD_CREATE`.
pub(crate) fn fsconfig_create(context: i32) -> Outcome {
    with_pointers!(Call::Fsconfig, FSCONFIG, context, 6, 0, 0, 0).map(drop)
}

/// open_tree(2).
#[inline(never)]
pub(crate) fn open_tree(directory: i32, path: Text<'_>, flags: u32) -> Outcome<Fd> {
    with_pointers!(Call::OpenTree, OPEN_TREE, directory, path.as_ptr(), flags | O_CLOEXEC)
        .map(|fd| Fd(fd as i32))
}

/// move_mount(2): attaches a detached tree at a name in a directory; the name may be no link.
pub(crate) fn move_mount(from: i32, directory: i32, name: Text<'_>) -> Outcome {
    let (empty, flags) = (c"".as_ptr(), MOVE_MOUNT_F_EMPTY_PATH);
    with_pointers!(Call::MoveMount, MOVE_MOUNT, from, empty, directory, name.as_ptr(), flags)
        .map(drop)
}

/// move_mount(2) onto what a descriptor stands for.
pub(crate) fn move_mount_onto(from: i32, to: i32) -> Outcome {
    let (empty, flags) = (c"".as_ptr(), MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
    with_pointers!(Call::MoveMount, MOVE_MOUNT, from, empty, to, empty, flags).map(drop)
}

/// move_mount(2) onto the root directory.
pub(crate) fn move_mount_to_root(from: i32) -> Outcome {
    let (empty, root) = (c"".as_ptr(), c"/".as_ptr());
    with_pointers!(
        Call::MoveMount,
        MOVE_MOUNT,
        from,
        empty,
        AT_FDCWD,
        root,
        MOVE_MOUNT_F_EMPTY_PATH
    )
    .map(drop)
}

/// mount_setattr(2): sets attributes on a tree, or on one mount.
pub(crate) fn mount_setattr(fd: i32, attributes: u32, recursive: bool) -> Outcome {
    let how = [u64::from(attributes), 0, 0, 0];
    let flags = AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    with_pointers!(
        Call::MountSetattr,
        MOUNT_SETATTR,
        fd,
        c"".as_ptr(),
        flags,
        how.as_ptr(),
        size_of_val(&how)
    )
    .map(drop)
}

/// sethostname(2).
pub(crate) fn sethostname(name: &[u8]) -> Outcome {
    with_pointers!(Call::Hostname, SETHOSTNAME, name.as_ptr(), name.len()).map(drop)
}

/// setdomainname(2).
pub(crate) fn setdomainname(name: &[u8]) -> Outcome {
    with_pointers!(Call::Domainname, SETDOMAINNAME, name.as_ptr(), name.len()).map(drop)
}

/// setgroups(2) to none.
pub(crate) fn drop_groups() -> Outcome {
    with_pointers!(Call::Groups, SETGROUPS, 0, core::ptr::null::<u32>()).map(drop)
}

/// keyctl(2): `KEYCTL_JOIN_SESSION_KEYRING` with an anonymous keyring.
pub(crate) fn new_session_keyring() -> Outcome {
    with_pointers!(Call::Keyring, KEYCTL, 1, core::ptr::null::<u8>()).map(drop)
}

/// Brings the interface `lo` up; the kernel gives it its addresses.
pub(crate) fn loopback_up() -> Outcome {
    let socket = Fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)? as i32);
    // struct ifreq: the name, then the flags IFF_UP | IFF_RUNNING.
    let mut request = [0u8; 40];
    request[..2].copy_from_slice(b"lo");
    request[16..18].copy_from_slice(&0x41u16.to_ne_bytes());
    with_pointers!(Call::Loopback, IOCTL, socket.0, SIOCSIFFLAGS, request.as_ptr()).map(drop)
}

/// Makes descriptor 0 the controlling terminal.
pub(crate) fn take_terminal() -> Outcome {
    with_pointers!(Call::Terminal, IOCTL, 0, TIOCSCTTY, 0).map(drop)
}

/// prlimit64(2) on the caller; `pair` is a soft and a hard limit.
pub(crate) fn set_rlimit(resource: usize, pair: &[u8]) -> Outcome {
    with_pointers!(Call::Rlimit, PRLIMIT64, 0, resource, pair.as_ptr(), 0).map(drop)
}

/// Raises soft limits of the caller's to the hard ones: of what init writes, and of open files, which
/// also bounds how many descriptors all of a user's processes may have on their way through sockets.
pub(crate) fn raise_limits() -> Outcome {
    for resource in [RLIMIT_FSIZE, RLIMIT_NOFILE] {
        let mut pair = [0u64; 2];
        with_pointers!(Call::Rlimit, PRLIMIT64, 0, resource, 0, pair.as_mut_ptr())?;
        pair[0] = pair[1];
        with_pointers!(Call::Rlimit, PRLIMIT64, 0, resource, pair.as_ptr(), 0)?;
    }
    Ok(())
}

/// Leaves real-time scheduling, which a program inherits whatever its limits, and an execution domain
/// in which addresses are not random, say.
pub(crate) fn become_ordinary() -> Outcome {
    personality(0)?;
    // The policy is in the lower bits.
    if matches!(sched_getscheduler(0)? & 0xff, SCHED_FIFO | SCHED_RR) {
        // struct sched_param: the priority; SCHED_OTHER has none, and the number 0.
        let none = 0i32;
        with_pointers!(Call::Scheduler, SCHED_SETSCHEDULER, 0, 0, &raw const none)?;
    }
    Ok(())
}

/// capset(2) on the caller.
pub(crate) fn capset(effective: u64, permitted: u64, inheritable: u64) -> Outcome {
    let header = [0x2008_0522u32, 0];
    let low = |set: u64| set as u32;
    let high = |set: u64| (set >> 32) as u32;
    let data = [
        low(effective),
        low(permitted),
        low(inheritable),
        high(effective),
        high(permitted),
        high(inheritable),
    ];
    with_pointers!(Call::Capabilities, CAPSET, header.as_ptr(), data.as_ptr()).map(drop)
}

/// capget(2) of the caller: the permitted set.
pub(crate) fn permitted() -> Outcome<u64> {
    let header = [0x2008_0522u32, 0];
    let mut data = [0u32; 6];
    with_pointers!(Call::Capabilities, CAPGET, header.as_ptr(), data.as_mut_ptr())?;
    Ok(u64::from(data[1]) | u64::from(data[4]) << 32)
}

/// Installs a system call filter on the calling thread; `filter` is a `sock_filter` array.
pub(crate) fn install_filter(filter: &[u8]) -> Outcome {
    #[repr(C)]
    struct Program {
        length: u16,
        filter: *const u8,
    }
    let program = Program { length: (filter.len() / 8) as u16, filter: filter.as_ptr() };
    with_pointers!(Call::Filter, SECCOMP, SECCOMP_SET_MODE_FILTER, 0, &raw const program).map(drop)
}

/// execve(2); returns only if it failed.
pub(crate) fn exec(path: Text<'_>, argv: &[*const u8], envp: &[*const u8]) -> Errno {
    let result = with_pointers!(Call::Exec, EXECVE, path.as_ptr(), argv.as_ptr(), envp.as_ptr());
    result.map_or_else(|fault| fault.errno, |_| Errno(EIO))
}

/// A pair of connected sockets that keep messages apart.
pub(crate) fn socketpair() -> Outcome<(Fd, Fd)> {
    let mut ends = [-1i32; 2];
    let kind = SOCK_SEQPACKET | SOCK_CLOEXEC;
    with_pointers!(Call::Socketpair, SOCKETPAIR, AF_UNIX, kind, 0, ends.as_mut_ptr())?;
    Ok((Fd(ends[0]), Fd(ends[1])))
}

/// Sets every signal's action to the default one.
pub(crate) fn default_signals() {
    // struct kernel_sigaction, all zero: SIG_DFL, no flags, nothing masked.
    let action = [0usize; 4];
    for signal in 1..=64usize {
        // SIGKILL and SIGSTOP refuse; their action is the default anyway.
        let _refused = with_pointers!(Call::Signals, RT_SIGACTION, signal, action.as_ptr(), 0, 8);
    }
}

/// Unblocks every signal.
pub(crate) fn unblock_signals() -> Outcome {
    let none = 0u64;
    with_pointers!(Call::Signals, RT_SIGPROCMASK, SIG_SETMASK, &raw const none, 0, 8).map(drop)
}

/// A descriptor that becomes readable when a child changes state.
pub(crate) fn child_signals() -> Outcome<Fd> {
    let mask = 1u64 << (SIGCHLD - 1) | 1 << (BEFORE_EXEC - 1);
    // SFD_CLOEXEC and SFD_NONBLOCK have the values of their O_ twins.
    let flags = O_CLOEXEC | 0o4000;
    with_pointers!(Call::Signals, SIGNALFD4, -1isize, &raw const mask, 8, flags)
        .map(|fd| Fd(fd as i32))
}

/// Lets others run.
pub(crate) fn yield_now() {
    // sched_yield cannot fail on Linux.
    let _always = sched_yield();
}

/// Goes on on another processor than so far, so that a process just started need not wait for this
/// one's. With two, the embedder has had the other and is about to sleep; with more, the kernel itself
/// finds an idle one. Nothing depends on it.
pub(crate) fn step_aside() {
    // Room for 64 processors: on a larger machine the call fails.
    let (mut allowed, mut current) = (0u64, 0u32);
    let all = with_pointers!(Call::Clone, SCHED_GETAFFINITY, 0, 8, &raw mut allowed);
    let own = with_pointers!(Call::Clone, GETCPU, &raw mut current, 0, 0);
    let other = allowed & !(1 << (current % 64));
    if all.is_err() || own.is_err() || other == allowed || !other.is_power_of_two() {
        return;
    }
    for set in [other, allowed] {
        let _moved = with_pointers!(Call::Clone, SCHED_SETAFFINITY, 0, 8, &raw const set);
    }
}

/// One descriptor to wait for; ppoll(2)'s own layout.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Poll {
    pub(crate) fd: i32,
    events: i16,
    pub(crate) revents: i16,
}

impl Poll {
    pub(crate) const fn new(fd: i32) -> Self {
        Poll { fd, events: POLLIN, revents: 0 }
    }

    /// Only for the end of the other side, which is always told.
    pub(crate) const fn closing(fd: i32) -> Self {
        Poll { fd, events: 0, revents: 0 }
    }
}

/// As good as for ever: half a thousand years.
pub(crate) const FOREVER: u64 = u64::MAX;

/// ppoll(2); `timeout` in nanoseconds. A signal counts as nothing ready.
#[inline(never)]
pub(crate) fn poll(set: &mut [Poll], timeout: u64) -> u32 {
    let time = [timeout / 1_000_000_000, timeout % 1_000_000_000];
    let pointer = time.as_ptr();
    with_pointers!(Call::Read, PPOLL, set.as_mut_ptr(), set.len(), pointer, 0, 8).unwrap_or(0)
}

/// `CLOCK_MONOTONIC` in nanoseconds.
#[inline(never)]
pub(crate) fn now() -> u64 {
    let mut time = [0u64; 2];
    // The clock id is valid and so is the address: this cannot fail.
    let _always = with_pointers!(Call::Read, CLOCK_GETTIME, CLOCK_MONOTONIC, time.as_mut_ptr());
    time[0] * 1_000_000_000 + time[1]
}

/// A child that ended, as waitid(2) tells it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) pid: i32,
    pub(crate) code: i32,
    pub(crate) status: i32,
}

/// waitid(2) for one child or, with 0, any, with `WEXITED` and the given options.
#[inline(never)]
pub(crate) fn wait(pid: i32, options: usize) -> Outcome<Option<Ended>> {
    let mut info = [0i32; 32];
    let (kind, options) = (if pid == 0 { P_ALL } else { P_PID }, options | WEXITED | __WALL);
    with_pointers!(Call::Signals, WAITID, kind, pid, info.as_mut_ptr(), options, 0)?;
    // siginfo_t: signo, errno, code, padding, pid, uid, status.
    Ok((info[4] != 0).then_some(Ended { pid: info[4], code: info[2], status: info[6] }))
}

/// The signal of a program's process that ends before its exec; with the exec it becomes SIGCHLD.
const BEFORE_EXEC: usize = SIGUSR1;

/// Whether a child of [`clone_program`] has executed something: only then does a wait without `__WALL`
/// find it. Who cannot be found has not.
pub(crate) fn has_executed(pid: i32) -> bool {
    let options = WEXITED | WNOHANG | WNOWAIT;
    with_pointers!(Call::Signals, WAITID, P_PID, pid, 0, options, 0).is_ok()
}

/// getrusage(2) of all children that were waited for: the kernel's 18 words.
pub(crate) fn usage_of_children() -> [u64; 18] {
    let mut usage = [0u64; 18];
    // Who and the address are valid: this cannot fail.
    let _always = with_pointers!(Call::Read, GETRUSAGE, RUSAGE_CHILDREN, usage.as_mut_ptr());
    usage
}

/// pidfd_send_signal(2).
pub(crate) fn signal_pidfd(pidfd: i32, signal: usize) -> Outcome {
    with_pointers!(Call::Signals, PIDFD_SEND_SIGNAL, pidfd, signal, 0, 0).map(drop)
}

/// Anonymous memory; never freed unless by [`unmap`].
#[inline(never)]
pub(crate) fn map(length: usize) -> Outcome<&'static mut [u8]> {
    let flags = MAP_PRIVATE | MAP_ANONYMOUS;
    let args = [0, length, PROT_READ | PROT_WRITE, flags, usize::MAX, 0];
    // SAFETY: new memory, where the kernel finds room for it, takes nothing from anybody.
    let address =
        unsafe { syscall(nr::MMAP, args) }.map_err(|errno| Fault { call: Call::Memory, errno })?;
    // SAFETY: the kernel just gave this range, zeroed and writable, to nobody else.
    Ok(unsafe { core::slice::from_raw_parts_mut(address as *mut u8, length) })
}

/// Puts a value into memory of its own, where it stays.
pub(crate) fn keep<T>(value: T) -> Outcome<&'static T> {
    let place = map(size_of::<T>())?.as_mut_ptr().cast::<T>();
    // SAFETY: the mapping is new and nobody else's, large enough, and begins at a page.
    unsafe { place.write(value) };
    // SAFETY: it holds a value now, and is never unmapped.
    Ok(unsafe { &*place })
}

/// Gives memory of [`map`] back.
pub(crate) fn unmap(memory: &'static mut [u8]) {
    // SAFETY: the exclusive reference is the only one to this mapping, and ends here.
    let _freed =
        unsafe { syscall(nr::MUNMAP, [memory.as_mut_ptr() as usize, memory.len(), 0, 0, 0, 0]) };
}

/// struct msghdr with one or two buffers and room for one descriptor.
#[repr(C)]
struct Message {
    name: usize,
    name_length: u32,
    _pad: u32,
    vectors: *const [usize; 2],
    vector_count: usize,
    control: *mut Rights,
    control_length: usize,
    flags: u32,
}

/// struct cmsghdr and the descriptors that it carries.
#[repr(C)]
struct Rights {
    length: u64,
    level: i32,
    kind: i32,
    fds: [i32; REPORT_FDS],
}

impl Rights {
    const NONE: Rights =
        Rights { length: 16, level: SOL_SOCKET, kind: SCM_RIGHTS, fds: [-1; REPORT_FDS] };
}

/// Sends one message, with some descriptors: not more than a report has room for.
#[inline(never)]
pub(crate) fn send(socket: i32, bytes: &[u8], fds: &[i32]) -> Outcome {
    let mut control = Rights::NONE;
    // A root that was not made is none.
    for (to, from) in control.fds.iter_mut().zip(fds.iter().filter(|fd| **fd >= 0)) {
        (*to, control.length) = (*from, control.length + 4);
    }
    let vector = [bytes.as_ptr() as usize, bytes.len()];
    let message = Message {
        name: 0,
        name_length: 0,
        _pad: 0,
        vectors: &raw const vector,
        vector_count: 1,
        control: &raw mut control,
        control_length: if fds.is_empty() { 0 } else { control.length as usize },
        flags: 0,
    };
    with_pointers!(Call::Write, SENDMSG, socket, &raw const message, MSG_NOSIGNAL).map(drop)
}

/// Sends a report of these numbers, with descriptors.
#[inline(never)]
pub(crate) fn tell(socket: i32, kind: u64, numbers: [u64; 2], fds: &[i32]) -> Outcome {
    let mut report = Report::new(kind);
    report.numbers[..2].copy_from_slice(&numbers);
    send(socket, bytes_of(&report), fds)
}

/// Receives one message into two buffers, and a descriptor if one came with it.
#[inline(never)]
pub(crate) fn receive(
    socket: i32,
    first: &mut [u8],
    second: &mut [u8],
    flags: usize,
) -> Outcome<(usize, Option<Fd>)> {
    let mut control = Rights { level: 0, ..Rights::NONE };
    let vectors =
        [[first.as_mut_ptr() as usize, first.len()], [second.as_mut_ptr() as usize, second.len()]];
    let mut message = Message {
        name: 0,
        name_length: 0,
        _pad: 0,
        vectors: vectors.as_ptr(),
        vector_count: 2,
        control: &raw mut control,
        // Room for one.
        control_length: 20,
        flags: 0,
    };
    let flags = flags | MSG_CMSG_CLOEXEC;
    let length = with_pointers!(Call::Read, RECVMSG, socket, &raw mut message, flags)?;
    let came = message.control_length >= 20 && control.level == SOL_SOCKET;
    // Lazily: an Fd that is made is closed.
    Ok((length as usize, came.then(|| Fd(control.fds[0]))))
}

/// A report as it is sent.
pub(crate) fn bytes_of(report: &Report) -> &[u8; REPORT] {
    // SAFETY: a struct of this size and C's layout, of words and bytes: it has no padding.
    unsafe { &*(&raw const *report).cast() }
}

/// The addresses of texts, with a null pointer at the end, in memory of their own.
pub(crate) fn pointers(texts: crate::wire::Texts<'_>) -> Outcome<&'static [*const u8]> {
    let length = (texts.count as usize + 1) * size_of::<usize>();
    let table = table::<*const u8>(map(length)?);
    for (to, text) in table.iter_mut().zip(texts.take(texts.count as usize)) {
        *to = text.as_ptr();
    }
    Ok(table)
}

/// How much stack the child of [`clone_program`] has.
const STACK: usize = 32 * 1024;

/// The stack itself; one program is started at a time.
struct Stack(core::cell::UnsafeCell<[u8; STACK]>);

// SAFETY: init has one thread, and only the clone of it runs on this memory.
unsafe impl Sync for Stack {}

/// For the program's process, until its exec.
static PROGRAM_STACK: Stack = Stack(core::cell::UnsafeCell::new([0; STACK]));
/// For a copy of init, which lives on it and starts a program itself.
static INIT_STACK: Stack = Stack(core::cell::UnsafeCell::new([0; STACK]));

/// Clones init with shared memory; the child calls `entry(argument)`. Returns its pid and pidfd.
pub(crate) fn clone_program(
    entry: extern "C" fn(*mut u8) -> !,
    argument: *mut u8,
) -> Result<(i32, i32), Errno> {
    let top = PROGRAM_STACK.0.get().cast::<u8>().wrapping_add(STACK);
    let (mut pidfd, flags) = (-1, CLONE_PIDFD | BEFORE_EXEC);
    // SAFETY: the stack is used by this child alone, and `argument` stays valid until its exec or
    // end, for which the caller waits.
    let shared = unsafe { clone(CLONE_VM | flags, top, &raw mut pidfd, entry, argument) };
    let pid = match shared {
        // Before Linux 6.2 memory cannot be shared with a child in a new time namespace.
        Err(Errno(EINVAL)) => {
            // SAFETY: as above; without CLONE_VM the child has a copy of everything.
            unsafe { clone(flags, top, &raw mut pidfd, entry, argument) }
        }
        other => other,
    }?;
    Ok((pid as i32, pidfd))
}

/// Clones init without sharing; the child calls `entry(argument)`. Returns its pid and pidfd.
pub(crate) fn clone_init(
    flags: usize,
    entry: extern "C" fn(*mut u8) -> !,
    argument: *mut u8,
) -> Result<(i32, i32), Errno> {
    let top = INIT_STACK.0.get().cast::<u8>().wrapping_add(STACK);
    let (mut pidfd, flags) = (-1, flags | CLONE_PIDFD | SIGCHLD);
    // SAFETY: the child has a copy of this memory, its stack and its argument included.
    let pid = unsafe { clone(flags, top, &raw mut pidfd, entry, argument) }?;
    Ok((pid as i32, pidfd))
}

/// What the address given to a clone's entry points at.
pub(crate) fn argument<'a, T>(address: *const T) -> &'a T {
    // SAFETY: the two callers of `clone_…` pass the address of a value that outlives the clone's
    // use of it, and the entry asks for that value's own type.
    unsafe { &*address }
}

/// Zeroed memory as a table of plain values.
pub(crate) fn table<T: Copy>(memory: &'static mut [u8]) -> &'static mut [T] {
    let count = memory.len() / size_of::<T>();
    // SAFETY: mappings begin at a page, which aligns any value; all callers' types are plain
    // numbers, booleans and addresses, for which zeros are a valid value.
    unsafe { core::slice::from_raw_parts_mut(memory.as_mut_ptr().cast(), count) }
}

/// A decimal number, if the text is one.
pub(crate) fn number(digits: &[u8]) -> Option<i32> {
    let add = |sum: i32, digit: &u8| match digit {
        b'0'..=b'9' => sum.checked_mul(10)?.checked_add(i32::from(digit - b'0')),
        _ => None,
    };
    digits.iter().try_fold(0, add).filter(|_| !digits.is_empty())
}
