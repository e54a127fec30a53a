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
    pub(crate) fn new() -> io::Result<Self> {
        const SIZE: usize = 4096;
        const IPC_RMID: usize = 0;
        let id = call(nr::SHMGET, [0, SIZE, 0o666])?;
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

    pub(crate) fn change(&mut self) {
        // SAFETY: the segment is attached for the life of this process and has 4096 bytes.
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
