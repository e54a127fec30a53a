//! A template: a process in the user and the mount namespace that sandboxes are copied from. A copy of it,
//! in namespaces of its own, becomes the init of each; it is a child of the embedder like any other. One more
//! copy keeps the networks, if they are to be used again.

mod network;

use core::convert::Infallible;

use crate::abi::*;
use crate::plan::{self, Lines};
use crate::program::{self, Done, Failure};
use crate::raw::exit;
use crate::session::below;
use crate::sys::{self, Fd, Outcome, fault, write_all};
use crate::wire::{Call, ENTRANCES_SHIFT, Fault, IN_NETWORK, KEEPS_NETWORKS, Report, report};

/// What a copy needs.
struct Copy<'a> {
    lines: Lines,
    proc_fd: i32,
    /// How many files of control groups come to it.
    entrances: u8,
    /// The template's alone.
    others: [i32; 3],
    watched: &'a [i32],
}

/// Waits for sockets, each of which is a new sandbox's control socket. Returns only what has failed.
pub(crate) fn serve(lines: Lines, proc_fd: i32, done: &Done<'_>) -> Failure {
    match serve_all(lines, proc_fd, done) {
        Ok(never) => match never {},
        Err(failure) => failure,
    }
}

fn serve_all(lines: Lines, proc_fd: i32, done: &Done<'_>) -> Result<Infallible, Failure> {
    let _cosmetic = sys::set_name(b"stockade-tmpl\0\0\0");
    sys::prctl(Call::Dumpable, PR_SET_DUMPABLE, 0, 0)?;
    let lines = Lines { control: below(lines.control)?, embedder: below(lines.embedder)? };
    let proc_fd = below(proc_fd)?;
    let (door, theirs) = sys::socketpair()?;
    program::announce(lines, [1, done.skipped], &[done.root.0, theirs.0])?;
    drop(theirs);
    loop {
        // Nobody talks to it but through the door, which closes with the embedder's last one.
        if !(Lines { control: door.0, ..lines }).sleep() {
            exit(1);
        }
        let mut flags = [0; 8];
        let (8, Some(socket)) = sys::receive(door.0, &mut flags, &mut [], 0)? else { exit(1) };
        let flags = u64::from_ne_bytes(flags);
        let copy = Copy {
            lines: Lines { control: socket.0, ..lines },
            proc_fd,
            entrances: (flags >> ENTRANCES_SHIFT) as u8,
            others: [door.0, lines.control, done.root.0],
            watched: done.watched.fds(),
        };
        // Who does not listen has given up, and the copy hears that, too.
        let _told = match make(&copy, flags) {
            Ok(pidfd) => {
                let told = sys::tell(socket.0, report::JOINED, [0, 0], &[pidfd]);
                sys::close(pidfd);
                told
            }
            Err(refused) => tell_refusal(socket.0, refused),
        };
    }
}

/// Makes a copy, in new namespaces and in a network that comes over its socket.
fn make(copy: &Copy<'_>, flags: u64) -> Outcome<i32> {
    if flags & IN_NETWORK != 0 {
        // The template stays there, until the next copy.
        network::enter(copy.lines.control)?;
    }
    let entry = if flags & KEEPS_NETWORKS != 0 { keep_networks } else { begin };
    let new = (flags & ((1 << ENTRANCES_SHIFT) - 1)) as usize;
    let argument = (&raw const *copy).cast_mut().cast();
    let made = sys::clone_init(new | CLONE_PARENT | SIGCHLD, entry, argument);
    made.map(|(_, pidfd)| pidfd).map_err(|errno| Fault { call: Call::Clone, errno })
}

fn tell_refusal(socket: i32, Fault { call, errno }: Fault) -> Outcome {
    let mut failed = Report::new(report::FAILED);
    failed.numbers[..3].copy_from_slice(&[report::LAUNCH, call as u64, errno.0 as u64]);
    sys::send(socket, sys::bytes_of(&failed), &[])
}

/// A copy's first function; lets go of what is the template's.
fn copied<'a>(argument: *mut u8) -> &'a Copy<'a> {
    let copy: &Copy<'_> = sys::argument(argument.cast_const().cast());
    copy.others.iter().chain(copy.watched).for_each(|fd| sys::close(*fd));
    copy
}

/// Puts itself into control groups, first of all: what is done from here on is charged to them. The kernel need not stop
/// every other fork for that.
fn enter(copy: &Copy<'_>) {
    let mut entered = 0;
    while entered < copy.entrances {
        let taken = sys::receive_some(copy.lines.control);
        let result = taken.and_then(|(_, came, fds)| {
            let mut fds = fds.into_iter().take(came).map(Fd).peekable();
            // The kernel drops what there is no room for.
            fds.peek().map_or(fault(Call::Receive, EMFILE), |_| Ok(()))?;
            fds.try_for_each(|fd| write_all(fd.0, b"0").map(|()| entered += 1))
        });
        if let Err(fault) = result {
            copy.lines.fail(report::LAUNCH, fault, entered.into(), &[]);
        }
    }
}

/// An init's life.
extern "C" fn begin(argument: *mut u8) -> ! {
    let copy = copied(argument);
    enter(copy);
    // Its own files in /proc are to be its own.
    if let Err(fault) = sys::prctl(Call::Dumpable, PR_SET_DUMPABLE, 1, 0) {
        copy.lines.fail(report::LAUNCH, fault, 0, &[]);
    }
    plan::run(copy.lines, Some(copy.proc_fd))
}

/// The life of the one that keeps networks.
extern "C" fn keep_networks(argument: *mut u8) -> ! {
    let copy = copied(argument);
    network::keep(copy.lines, copy.proc_fd)
}
