//! Messages over sockets, and the descriptors that they carry.

use super::{Fd, Outcome, ask, code};
use crate::abi::*;
use crate::raw::nr;
use crate::wire::{Call, REPORT, REPORT_FDS, Report};

/// A pair of connected sockets that keep messages apart.
pub(crate) fn socketpair() -> Outcome<(Fd, Fd)> {
    let mut ends = [-1i32; 2];
    let kind = SOCK_SEQPACKET | SOCK_CLOEXEC;
    with_pointers!(Call::Socketpair, SOCKETPAIR, AF_UNIX, kind, 0, ends.as_mut_ptr())?;
    Ok((Fd(ends[0]), Fd(ends[1])))
}

/// struct msghdr with one or two buffers and room for some descriptors.
#[repr(C)]
struct Header {
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
    let message = Header {
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

/// The same, of what nobody else can tell: short of memory, it is tried again. `false` if it was not sent.
pub(crate) fn insist(socket: i32, bytes: &[u8], fds: &[i32]) -> bool {
    (0..4).any(|_| send(socket, bytes, fds).is_ok())
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
    let Message { length, came, fds } = receive_with(socket, first, second, flags, 1)?;
    // Lazily: an Fd that is made is closed.
    Ok((length, (came > 0).then(|| Fd(fds[0]))))
}

/// What came: how many bytes, and descriptors.
pub(crate) struct Message {
    pub(crate) length: usize,
    pub(crate) came: usize,
    pub(crate) fds: [i32; REPORT_FDS],
}

/// Receives a message, and as many descriptors as have come with it.
#[cfg(session)]
pub(crate) fn receive_some(socket: i32, first: &mut [u8], second: &mut [u8]) -> Outcome<Message> {
    receive_with(socket, first, second, 0, REPORT_FDS)
}

/// The same, with room for some descriptors.
fn receive_with(
    socket: i32,
    first: &mut [u8],
    second: &mut [u8],
    flags: usize,
    room: usize,
) -> Outcome<Message> {
    let mut control = Rights { level: 0, ..Rights::NONE };
    let vectors =
        [[first.as_mut_ptr() as usize, first.len()], [second.as_mut_ptr() as usize, second.len()]];
    let mut message = Header {
        name: 0,
        name_length: 0,
        _pad: 0,
        vectors: vectors.as_ptr(),
        vector_count: 2,
        control: &raw mut control,
        control_length: 16 + 4 * room,
        flags: 0,
    };
    let flags = flags | MSG_CMSG_CLOEXEC;
    let length = with_pointers!(Call::Read, RECVMSG, socket, &raw mut message, flags)?;
    // Untouched if none has come.
    let came = (control.length as usize).saturating_sub(16) / 4;
    Ok(Message { length: length as usize, came: came.min(room), fds: control.fds })
}

/// A report as it is sent.
pub(crate) fn bytes_of(report: &Report) -> &[u8; REPORT] {
    // SAFETY: a struct of this size and C's layout, of words and bytes: it has no padding.
    unsafe { &*(&raw const *report).cast() }
}
