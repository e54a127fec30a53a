//! Namespaces, and what a new one is given: its names, and its loopback interface.

use super::{Fd, Outcome, code};
use crate::abi::*;
use crate::raw::nr;
use crate::wire::Call;

plain! {
    unshare(flags: usize) = UNSHARE, Unshare;
    setns(fd: i32, kind: usize) = SETNS, Setns;
    socket(domain: usize, kind: usize, protocol: usize) = SOCKET, Loopback;
}

/// sethostname(2).
pub(crate) fn sethostname(name: &[u8]) -> Outcome {
    with_pointers!(Call::Hostname, SETHOSTNAME, name.as_ptr(), name.len()).map(drop)
}

/// setdomainname(2).
pub(crate) fn setdomainname(name: &[u8]) -> Outcome {
    with_pointers!(Call::Domainname, SETDOMAINNAME, name.as_ptr(), name.len()).map(drop)
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
