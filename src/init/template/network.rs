//! Networks that are used again: made in the template's user namespace, over which no sandbox has power, and looked
//! at when a sandbox has ended, whether the next one could tell that there was one before.

use super::tell_refusal;
use crate::abi::*;
use crate::plan::Lines;
use crate::raw::exit;
use crate::sys::{self, Fd, Outcome, fault};
use crate::text::join;
use crate::wire::{Call, LOOK, LOOPBACK, Text, report};

/// What a program can leave in a network besides sockets, which are counted: counters, and what is kept for a while.
/// Not lists of sockets: the kernel looks for them among those of all networks, for milliseconds. What waits after a connection
/// has moved a counter.
const TRACES: [&[u8]; 8] =
    [b"dev", b"snmp", b"snmp6", b"netstat", b"sockstat6", b"igmp", b"igmp6", b"ip6_flowlabel"];
/// Of the rest of this file all networks together are counted.
const SOCKETS: (&[u8], &[u8]) = (b"sockstat", b"sockets: used 0\n");
/// More than all of them have, of a network that was not used.
const ROOM: usize = 48 << 10;

/// Enters the network that comes over a socket.
pub(super) fn enter(socket: i32) -> Outcome<Fd> {
    let (1, Some(network)) = sys::receive(socket, &mut [0], &mut [], 0)? else {
        return fault(Call::Receive, EMFILE);
    };
    sys::setns(network.0, CLONE_NEWNET)?;
    Ok(network)
}

/// Makes networks and looks at them, until the embedder lets go.
pub(super) fn keep(lines: Lines, proc_fd: i32) -> ! {
    let _cosmetic = sys::set_name(b"stockade-net\0\0\0\0");
    // How one is that was not used: all are alike, until the kernel learns another protocol.
    let mut fresh = None;
    loop {
        if !lines.sleep() {
            exit(1);
        }
        let mut word = [0];
        let Ok((1, Some(socket))) = sys::receive(lines.control, &mut word, &mut [], 0) else {
            exit(1)
        };
        // Who gets no answer throws it away, or has given up.
        let _told = match word[0] {
            LOOK => look(socket.0, proc_fd, fresh.as_deref())
                .and_then(|unused| sys::tell(socket.0, report::READY, [unused.into(), 0], &[])),
            up => match make(proc_fd, up == LOOPBACK, &mut fresh) {
                Ok(network) => sys::tell(socket.0, report::KEPT, [0, 0], &[network.0]),
                Err(refused) => tell_refusal(socket.0, refused),
            },
        };
    }
}

/// Leaves the one before for a new one.
fn make(proc_fd: i32, up: bool, fresh: &mut Option<&'static mut [u8]>) -> Outcome<Fd> {
    sys::unshare(CLONE_NEWNET)?;
    if up {
        sys::loopback_up()?;
    }
    if let Some(before) = core::mem::replace(fresh, traces(proc_fd)?) {
        sys::unmap(before);
    }
    sys::open(proc_fd, Text::new(b"thread-self/ns/net\0"), O_RDONLY, 0)
}

/// Whether the one that comes over a socket is as if it had not been used.
fn look(socket: i32, proc_fd: i32, fresh: Option<&[u8]>) -> Outcome<bool> {
    let _network = enter(socket)?;
    let Some(now) = traces(proc_fd)? else { return Ok(false) };
    let same = fresh.is_some_and(|fresh| fresh == now);
    sys::unmap(now);
    Ok(same)
}

/// What is to be seen in the network that this process is in; none if it is too much, or a socket is left.
fn traces(proc_fd: i32) -> Outcome<Option<&'static mut [u8]>> {
    let mut sockets = [0; 32];
    let length = read(proc_fd, SOCKETS.0, &mut sockets)?;
    if !sockets.get(..length).unwrap_or(&[]).starts_with(SOCKETS.1) {
        return Ok(None);
    }
    let text = sys::map(ROOM)?;
    let mut filled = 0;
    for name in TRACES {
        match read(proc_fd, name, text.get_mut(filled..).unwrap_or(&mut [])) {
            Ok(length) => filled += length,
            // Of a protocol that the kernel does not have.
            Err(fault) if fault.errno.0 == ENOENT => {}
            Err(fault) => return Err(fault),
        }
    }
    if filled < ROOM {
        return Ok(Some(text));
    }
    sys::unmap(text);
    Ok(None)
}

/// As much of a file as there is room for.
fn read(proc_fd: i32, name: &[u8], to: &mut [u8]) -> Outcome<usize> {
    let mut path = [0; 40];
    let path = join(&mut path, &[b"thread-self/net/", name, b"\0"]);
    let file = sys::open(proc_fd, Text::new(path), O_RDONLY, 0)?;
    let mut filled = 0;
    loop {
        match sys::read(file.0, to.get_mut(filled..).unwrap_or(&mut []))? {
            0 => return Ok(filled),
            length => filled += length,
        }
    }
}
