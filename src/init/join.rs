//! What has to be done before the sandbox's own namespaces are made: joining some that exist, and taking
//! the id that is to own the new user namespace.
//!
//! This process shares nothing with the embedder any more: whoever is in a namespace that is joined
//! finds only init's few pages. It ends as soon as it has made the sandbox's PID 1, which is a
//! child of the embedder like any other; or, where that is in somebody else's pid namespace, when it has reaped it.

use crate::abi::*;
use crate::plan::{self, Lines};
use crate::raw::exit;
use crate::sys::{self, Outcome, Poll};
use crate::wire::{Call, Fault, JOIN, JOIN_MAX, Join, Reader, report};

/// The mode: joins, clones, hands over.
pub(crate) fn run(lines: Lines) -> ! {
    plan::become_free(lines);
    match join(lines) {
        Ok(pidfd) => {
            let told = sys::tell(lines.control, report::JOINED, [0, 0], &[pidfd]);
            if told.is_err() {
                // Nobody else knows of it.
                let _dead = sys::signal_pidfd(pidfd, SIGKILL);
                sys::poll(&mut [Poll::new(pidfd)], sys::FOREVER);
            }
            #[cfg(not(session))]
            reap(lines);
            exit(0)
        }
        Err((index, fault)) => lines.fail(report::LAUNCH, fault, index as u64, &[]),
    }
}

/// Waits for the end of what it has made, unless that is the library's child: one that is not reaped blocks
/// the end of its namespace.
#[cfg(not(session))]
fn reap(lines: Lines) {
    sys::close(lines.control);
    let _reaped = sys::wait(0, 0);
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    Caller,
    User,
    Owner,
}

fn join(lines: Lines) -> Result<i32, (usize, Fault)> {
    let wanted = receive(lines).map_err(|fault| (JOIN_MAX, fault))?;
    // Undumpable: a process in the joined namespaces may have our uid.
    sys::prctl(Call::Dumpable, PR_SET_DUMPABLE, 0, 0).map_err(|fault| (JOIN_MAX, fault))?;
    // First what the caller's own privilege reaches: once in a user namespace it is lost. Then the
    // user namespace, then what was refused before: its owner may now.
    let mut refused = [false; JOIN_MAX];
    for pass in [Pass::Caller, Pass::User, Pass::Owner] {
        for (index, &(fd, kind)) in wanted.namespaces.iter().enumerate() {
            let due = match pass {
                Pass::Caller => kind as usize != CLONE_NEWUSER,
                Pass::User => kind as usize == CLONE_NEWUSER,
                Pass::Owner => refused[index],
            };
            if kind == 0 || !due {
                continue;
            }
            match sys::setns(fd, kind as usize) {
                Err(Fault { errno, .. }) if errno.0 == EPERM && pass == Pass::Caller => {
                    refused[index] = true;
                }
                other => drop(other.map_err(|fault| (index, fault))?),
            }
        }
    }
    for (fd, _) in wanted.namespaces.iter().filter(|(_, kind)| *kind != 0) {
        sys::close(*fd);
    }
    if wanted.owner != u32::MAX {
        let as_owner = plan::credentials(wanted.owner, wanted.owner)
            // Init's own /proc files are to be its own. Nobody else has this id.
            .and_then(|()| sys::prctl(Call::Dumpable, PR_SET_DUMPABLE, 1, 0));
        as_owner.map_err(|fault| (JOIN_MAX, fault))?;
    }
    let argument = (&raw const lines).cast_mut().cast();
    let flags = wanted.flags as usize | SIGCHLD;
    let child = sys::clone_init(flags, become_init, argument);
    let fault = |errno| (JOIN_MAX, Fault { call: Call::Clone, errno });
    child.map(|(_, pidfd)| pidfd).map_err(fault)
}

fn receive(lines: Lines) -> Outcome<Join> {
    let mut bytes = [0; JOIN];
    if !lines.wait() {
        exit(1);
    }
    match sys::receive(lines.control, &mut bytes, &mut [], 0)? {
        // The library has given up.
        (0, _) => exit(1),
        _ => Reader::new(&bytes).next().map_or_else(|| sys::fault(Call::Plan, EPROTO), Ok),
    }
}

extern "C" fn become_init(argument: *mut u8) -> ! {
    plan::run(*sys::argument(argument.cast_const().cast::<Lines>()), None)
}
