//! The kernel's audit log, as far as one may listen to it;
//! [netlink(7)](https://man7.org/linux/man-pages/man7/netlink.7.html), `NETLINK_AUDIT`.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvfrom, sendto,
    socket,
};

/// `AUDIT_NLGRP_READLOG`, as a set.
const READ_LOG: u32 = 1;
/// `AUDIT_GET`, to which `struct audit_status` is the answer.
const GET: u16 = 1000;
const NLM_F_REQUEST: u16 = 1;
/// How long the answer is waited for, in milliseconds; it comes at once.
const ANSWER: u16 = 1000;
/// `PROC_PID_INIT_INO`: the pid namespace whose numbers are in the log.
const FIRST_PIDS: u64 = 0xEFFF_FFFC;
/// More than the longest record.
pub(super) const LONGEST: usize = 16 * 1024;

/// Whether what Landlock refuses can be read, as far as that can be known before it is.
pub(crate) fn is_readable() -> bool {
    let readable = is_off().is_ok_and(|off| off != Some(true)) && join().is_ok();
    log::debug!("learn: the audit log can be read: {readable}");
    readable
}

fn open() -> Result<OwnedFd, Errno> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let protocol = SockProtocol::NetlinkAudit;
    socket(AddressFamily::Netlink, SockType::Raw, flags, protocol)
}

/// Where the log comes from now on. It needs `CAP_AUDIT_READ` in the first user namespace, and that numbers of
/// processes are those in the log.
pub(super) fn join() -> Result<OwnedFd, Errno> {
    let pids = std::fs::metadata("/proc/self/ns/pid");
    if !pids.is_ok_and(|pids| pids.ino() == FIRST_PIDS) {
        return Err(Errno::EPERM);
    }
    let log = open()?;
    bind(log.as_raw_fd(), &NetlinkAddr::new(0, READ_LOG))?;
    Ok(log)
}

/// The next message, if it is the kernel's.
pub(super) fn receive<'a>(
    log: &OwnedFd,
    bytes: &'a mut [u8; LONGEST],
) -> Result<Option<&'a [u8]>, Errno> {
    let (length, from) = recvfrom::<NetlinkAddr>(log.as_raw_fd(), bytes)?;
    let is_kernel = from.is_some_and(|from| from.pid() == 0);
    Ok(is_kernel.then(|| bytes.get(..length)).flatten())
}

/// Whether nothing is logged at all; `None` for who may not know, which takes `CAP_AUDIT_CONTROL`.
fn is_off() -> Result<Option<bool>, Errno> {
    let kernel = open()?;
    // struct nlmsghdr: length, type and flags, sequence number, port.
    let [kind, flags] = [GET, NLM_F_REQUEST].map(u16::to_ne_bytes);
    let question = [&16u32.to_ne_bytes()[..], &kind, &flags, &1u32.to_ne_bytes(), &[0; 4]].concat();
    sendto(kernel.as_raw_fd(), &question, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut set = [PollFd::new(std::os::fd::AsFd::as_fd(&kernel), PollFlags::POLLIN)];
    poll(&mut set, PollTimeout::from(ANSWER))?;
    let mut bytes = [0; LONGEST];
    let answer = receive(&kernel, &mut bytes)?.unwrap_or_default();
    if answer.get(4..6) != Some(&kind) {
        return Ok(None);
    }
    // struct audit_status: what is set, and whether it is on.
    Ok(answer.get(20..24).map(|enabled| enabled == [0; 4]))
}
