//! What the kernel and the processor tell of the machine: for the probe alone.

use super::{Fd, Outcome, ask, code, length};
use crate::raw::nr;
use crate::wire::{Call, Text};

/// uname(2): six texts of 65 bytes.
pub(crate) fn uname(to: &mut [u8; 390]) -> Outcome {
    with_pointers!(Call::Stat, UNAME, to.as_mut_ptr()).map(drop)
}

/// sysinfo(2).
pub(crate) fn sysinfo(to: &mut [u8; 112]) -> Outcome {
    with_pointers!(Call::Stat, SYSINFO, to.as_mut_ptr()).map(drop)
}

/// clock_gettime(2): seconds and nanoseconds.
pub(crate) fn clock(clock: usize, to: &mut [u8; 16]) -> Outcome {
    with_pointers!(Call::Stat, CLOCK_GETTIME, clock, to.as_mut_ptr()).map(drop)
}

/// sched_getaffinity(2): one bit for each processor.
pub(crate) fn affinity(to: &mut [u8; 1024]) -> Outcome<usize> {
    with_pointers!(Call::Stat, SCHED_GETAFFINITY, 0, to.len(), to.as_mut_ptr()).map(length)
}

/// getcwd(2).
pub(crate) fn directory(to: &mut [u8]) -> Outcome<usize> {
    let room = to.len();
    with_pointers!(Call::Stat, GETCWD, to.as_mut_ptr(), room).map(length)
}

/// keyctl(2): the number of a special keyring, if there is one.
pub(crate) fn keyring(special: isize) -> Outcome<u32> {
    with_pointers!(Call::Keyring, KEYCTL, 0, special, 0)
}

/// fstatfs(2): the kernel's struct.
pub(crate) fn file_system(fd: i32, to: &mut [u8; 120]) -> Outcome {
    with_pointers!(Call::Stat, FSTATFS, fd, to.as_mut_ptr()).map(drop)
}

/// netdevice(7): the interfaces that have an address, 40 bytes each.
pub(crate) fn interfaces(to: &mut [u8]) -> Outcome<usize> {
    const AF_INET: u32 = 2;
    const SOCK_DGRAM: u32 = 2 | 0o200_0000;
    const SIOCGIFCONF: u32 = 0x8912;
    let socket = Fd(with_pointers!(Call::Stat, SOCKET, AF_INET, SOCK_DGRAM, 0)? as i32);
    // struct ifconf: the length, and where.
    let mut how = [to.len(), to.as_mut_ptr() as usize];
    with_pointers!(Call::Stat, IOCTL, socket.0, SIOCGIFCONF, how.as_mut_ptr())?;
    Ok(how[0] & 0xffff_ffff)
}

/// openat(2) from an absolute path; no link is followed.
pub(crate) fn look(path: Text<'_>, flags: u32) -> Outcome<Fd> {
    super::open(crate::abi::AT_FDCWD, path, flags | O_NOFOLLOW, 0)
}

#[cfg(target_arch = "x86_64")]
const O_NOFOLLOW: u32 = 0o400_000;
#[cfg(target_arch = "aarch64")]
const O_NOFOLLOW: u32 = 0o100_000;
#[cfg(target_arch = "riscv64")]
const O_NOFOLLOW: u32 = 0o400_000;

/// The processor's name, in its own words.
#[cfg(target_arch = "x86_64")]
pub(crate) fn processor(to: &mut [u8; 48]) -> usize {
    let words = (0x8000_0002..=0x8000_0004).flat_map(|leaf| {
        #[allow(unused_unsafe, reason = "safe since Rust 1.94")]
        // SAFETY: every processor of this architecture has the instruction.
        let answer = unsafe { core::arch::x86_64::__cpuid(leaf) };
        [answer.eax, answer.ebx, answer.ecx, answer.edx]
    });
    for (to, byte) in to.iter_mut().zip(words.flat_map(u32::to_le_bytes)) {
        *to = byte;
    }
    to.len()
}

/// There is no such instruction that a program may use.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn processor(_to: &mut [u8; 48]) -> usize {
    0
}
