//! System calls; the only file of this program with unsafe code.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use crate::numbers as nr;
use crate::raw;

/// Makes a system call. Attempts pass numbers, and addresses of values that live across the call and
/// are as large as it says; what this program does to its own memory otherwise hurts nobody else.
pub(crate) fn call<const N: usize>(number: usize, args: [usize; N]) -> io::Result<usize> {
    let mut all = [0; 6];
    all[..N].copy_from_slice(&args);
    // SAFETY: as this function's callers promise; there is no other program in this process.
    let answer = unsafe { raw::syscall(number, all) };
    answer.map_err(|raw::Errno(errno)| io::Error::from_raw_os_error(errno))
}

/// The same with a descriptor as the answer.
pub(crate) fn call_for_fd<const N: usize>(number: usize, args: [usize; N]) -> io::Result<OwnedFd> {
    call(number, args).map(own)
}

/// Takes a descriptor that a call has returned, or that this program was started with.
pub(crate) fn own(number: usize) -> OwnedFd {
    // SAFETY: nothing else in this program closes the number.
    unsafe { OwnedFd::from_raw_fd(number as RawFd) }
}

/// Both ends of a pipe, the reading one first.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0i32; 2];
    call(nr::PIPE2, [ends.as_mut_ptr() as usize, 0])?;
    let [reading, writing] = std::hint::black_box(ends);
    Ok((own(reading as usize), own(writing as usize)))
}

/// A copy of this process, which has no other thread; `None` in the copy.
pub(crate) fn fork() -> io::Result<Option<i32>> {
    const SIGCHLD: usize = 17;
    let pid = call(nr::CLONE, [SIGCHLD])?;
    Ok(Some(pid as i32).filter(|&pid| pid != 0))
}

/// Ends this process at once.
pub(crate) fn exit(code: i32) -> ! {
    raw::exit(code)
}

/// Waits for a child; its status as the kernel has it.
pub(crate) fn wait(pid: i32) -> io::Result<i32> {
    let mut status = 0i32;
    const WALL: usize = 0x4000_0000;
    call(nr::WAIT4, [pid as usize, (&raw mut status) as usize, WALL])?;
    Ok(status)
}

/// What a function finds in a copy of this process; `None` if that was killed.
pub(crate) fn in_fork(inside: impl FnOnce() -> u8) -> io::Result<Option<u8>> {
    match fork()? {
        None => exit(i32::from(inside())),
        Some(pid) => {
            let status = wait(pid)?;
            Ok(u8::try_from(status >> 8).ok().filter(|_| status & 0x7f == 0))
        }
    }
}

/// Runs a copy of this program; its exit code, if it has one.
pub(crate) fn execute(path: &str) -> io::Result<Option<i32>> {
    let mut command = std::process::Command::new(path);
    command.arg("gained").arg(format!("euid={}", effective()?.0));
    command.arg(format!("effective={}", effective()?.1));
    Ok(command.status()?.code())
}

/// The effective uid and capabilities.
fn effective() -> io::Result<(u32, u64)> {
    let (mut real, mut effective, mut saved) = (0u32, 0u32, 0u32);
    let at = [(&raw mut real) as usize, (&raw mut effective) as usize, (&raw mut saved) as usize];
    call(nr::GETRESUID, at)?;
    Ok((effective, crate::privileges::capabilities()?[0]))
}

/// Whether this process has more than it was started by.
pub(crate) fn has_gained(facts: &crate::facts::Facts) -> bool {
    effective().is_ok_and(|(uid, capabilities)| {
        let before = facts.number("effective") as u64;
        uid as usize != facts.number("euid") || capabilities & !before != 0
    })
}

/// Gives a program CAP_CHOWN, as root may.
pub(crate) fn make_capable(path: &str) -> io::Result<usize> {
    const VERSION_2_EFFECTIVE: u32 = 0x0200_0001;
    const CHOWN: u32 = 1;
    let (path, name) = (text(path), text("security.capability"));
    let value = [VERSION_2_EFFECTIVE, CHOWN, 0, 0, 0];
    let at = value.as_ptr() as usize;
    let args = [path.as_ptr() as usize, name.as_ptr() as usize, at, size_of_val(&value), 0];
    call(nr::SETXATTR, args)
}

/// A text as the kernel takes it.
pub(crate) fn text(text: &str) -> CString {
    CString::new(text.replace('\0', "")).unwrap_or_default()
}

/// Makes a call by the 32-bit gate, with a number of that table.
#[cfg(target_arch = "x86_64")]
pub(crate) fn interrupt(number: u32) -> i32 {
    let answer: i32;
    // SAFETY: the gate takes the number in eax, answers there, and on a 64-bit kernel clobbers r8 to
    // r11; the calls that are made take no argument.
    unsafe {
        std::arch::asm!("int 0x80", inlateout("eax") number as i32 => answer,
            lateout("r8") _, lateout("r9") _, lateout("r10") _, lateout("r11") _);
    }
    answer
}

/// Asks for the time at the page that was for that before the vDSO, with all that its caller may lose.
#[cfg(target_arch = "x86_64")]
pub(crate) fn time_of_page() -> isize {
    const TIME: usize = 0xffff_ffff_ff60_0400;
    let answer: isize;
    // SAFETY: the kernel carries the call out as a function of the C ABI, and stores nothing where the
    // argument is 0; where the page is not there, the process ends.
    unsafe {
        std::arch::asm!("call {at}", at = in(reg) TIME, in("rdi") 0, lateout("rax") answer,
            clobber_abi("C"));
    }
    answer
}

/// Ends this process by a fault, of which the kernel tells its log.
pub(crate) fn fault() -> ! {
    const RLIMIT_CORE: usize = 4;
    let none = [0u64; 2];
    // Refused where it cannot be changed; there it has been set to nothing.
    let _ = call(nr::PRLIMIT64, [0, RLIMIT_CORE, none.as_ptr() as usize, 0]);
    // SAFETY: nothing is mapped there, in any program: the process ends.
    unsafe { std::ptr::without_provenance_mut::<u8>(8).write_volatile(0) };
    exit(1)
}

/// Adds a filter of this process's own, by which one system call is answered like that.
pub(crate) fn add_filter(number: usize, answer: u32) -> io::Result<usize> {
    const PR_SET_NO_NEW_PRIVS: usize = 38;
    const PR_SET_SECCOMP: usize = 22;
    const MODE_FILTER: usize = 2;
    const ALLOW: u32 = 0x7fff_0000;
    // struct sock_filter: code, how far to jump if so and if not, and a number.
    let step =
        |code: u64, otherwise: u64, number: u32| code | otherwise << 24 | u64::from(number) << 32;
    let (load, equal, answers) = (0x20, 0x15, 0x06);
    let program = [
        step(load, 0, 0),
        step(equal, 1, number as u32),
        step(answers, 0, answer),
        step(answers, 0, ALLOW),
    ];
    let description = [program.len(), program.as_ptr() as usize];
    call(nr::PRCTL, [PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0])?;
    call(nr::PRCTL, [PR_SET_SECCOMP, MODE_FILTER, description.as_ptr() as usize])
}

/// Sends a byte, and with it a copy of a descriptor.
pub(crate) fn send_descriptor(socket: i32, fd: i32) -> io::Result<()> {
    const MSG_NOSIGNAL: usize = 0x4000;
    let byte = *b"!";
    let vector = [byte.as_ptr() as usize, byte.len()];
    // struct cmsghdr: length, SOL_SOCKET and SCM_RIGHTS, and what follows.
    let control = [20u64, 1 | 1 << 32, fd as u32 as u64];
    let message = message(&vector, control.as_ptr() as usize, size_of_val(&control));
    call(nr::SENDMSG, [socket as usize, message.as_ptr() as usize, MSG_NOSIGNAL]).map(drop)
}

/// Receives a byte and a descriptor.
pub(crate) fn receive_descriptor(socket: i32) -> io::Result<OwnedFd> {
    let mut byte = [0u8];
    let vector = [byte.as_mut_ptr() as usize, byte.len()];
    let mut control = [0u64; 3];
    let message = message(&vector, control.as_mut_ptr() as usize, size_of_val(&control));
    call(nr::RECVMSG, [socket as usize, message.as_ptr() as usize, 0])?;
    if std::hint::black_box(control)[0] < 20 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(own(control[2] as u32 as usize))
}

/// `struct msghdr`.
fn message(vector: &[usize; 2], control: usize, length: usize) -> [usize; 7] {
    [0, 0, vector.as_ptr() as usize, 1, control, length, 0]
}

/// A segment of System V shared memory, attached.
#[derive(Debug)]
pub(crate) struct Shared {
    id: usize,
    at: *mut u8,
}

impl Shared {
    /// Makes one that everybody may read and write, and that goes with this process.
    pub(crate) fn new(size: usize) -> io::Result<Self> {
        const IPC_RMID: usize = 0;
        let id = call(nr::SHMGET, [0, size, 0o666])?;
        let shared = Self::attach(id);
        call(nr::SHMCTL, [id, IPC_RMID, 0])?;
        shared
    }

    /// Attaches one that is there.
    pub(crate) fn attach(id: usize) -> io::Result<Self> {
        let at = call(nr::SHMAT, [id, 0, 0])? as *mut u8;
        Ok(Shared { id, at })
    }

    pub(crate) fn id(&self) -> usize {
        self.id
    }

    /// Uses all of it.
    pub(crate) fn fill(&mut self, size: usize) {
        // SAFETY: the segment was made with this size, and is attached for the life of this process.
        unsafe { self.at.write_bytes(1, size) };
    }

    pub(crate) fn change(&mut self) {
        // SAFETY: as above; a segment has a page at least.
        unsafe { self.at.write_volatile(1) };
    }

    pub(crate) fn is_changed(&self) -> bool {
        // SAFETY: as above.
        unsafe { self.at.read_volatile() != 0 }
    }

    pub(crate) fn reset(&mut self) {
        // SAFETY: as above.
        unsafe { self.at.write_volatile(0) };
    }
}
