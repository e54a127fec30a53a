//! A template: a process in the user and the mount namespace that sandboxes are copied from. A copy of it,
//! in namespaces of its own, becomes the init of each: a child of the embedder's like any other, or of the
//! template's where nobody waits for its end. The tree is in a mount namespace of its own, out of which each copy gets a
//! detached copy: else the kernel would copy it with the namespace as well, and that could be no root. One more
//! process keeps the networks, if they are to be used again.

mod network;

use core::convert::Infallible;

use crate::abi::*;
use crate::plan::{self, Lines};
use crate::program::{self, Done, Failure};
use crate::raw::exit;
use crate::session::below;
use crate::sys::{self, Fd, Outcome, Poll, fault, write_all};
use crate::wire::{
    Call, ENTRANCES_SHIFT, Fault, HELD, IN_NETWORK, KEEPS_NETWORKS, Report, TREE, Text, report,
};

/// What a copy needs.
struct Copy<'a> {
    lines: Lines,
    proc_fd: i32,
    /// How many files of control groups come to it.
    entrances: u8,
    /// The template's alone.
    others: [i32; 5],
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
    // Its own copies are not waited for.
    sys::default_signal(SIGCHLD, SA_NOCLDWAIT)?;
    let namespaces = leave_tree(proc_fd)?;
    try_deeper()?;
    let (door, theirs) = sys::socketpair()?;
    program::announce(lines, [1, done.skipped], &[done.root.0, theirs.0])?;
    drop(theirs);
    // Always made before it is asked for.
    let mut tree = take_tree(namespaces);
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
            others: [door.0, lines.control, done.root.0, namespaces[0], namespaces[1]],
            watched: done.watched.fds(),
        };
        // Who does not listen has given up, and the copy hears that, too.
        let made = tree.or_else(|_| take_tree(namespaces)).and_then(|()| make(&copy, flags));
        let _told = match made {
            Ok(pidfd) => {
                let joined = Report::new(report::JOINED);
                let told = sys::insist(socket.0, sys::bytes_of(&joined), &[pidfd]);
                // Who asked would wait for one that cannot be told of.
                let ended = if told { Ok(()) } else { sys::signal_pidfd(pidfd, SIGKILL) };
                sys::close(pidfd);
                ended
            }
            Err(refused) => tell_refusal(socket.0, refused),
        };
        tree = take_tree(namespaces);
    }
}

/// A copy's user namespace is one deeper, of which the kernel has 32: where there is none there is to be no template.
fn try_deeper() -> Outcome {
    let made = sys::clone_init(CLONE_NEWUSER | SIGCHLD, end, core::ptr::null_mut());
    let (_, pidfd) = made.map_err(|errno| Fault { call: Call::Clone, errno })?;
    sys::poll(&mut [Poll::new(pidfd)], sys::FOREVER);
    sys::close(pidfd);
    Ok(())
}

extern "C" fn end(_: *mut u8) -> ! {
    exit(0)
}

/// Leaves the mount namespace that has the tree for one without, which is what is copied. Both for [`take_tree`].
fn leave_tree(proc_fd: i32) -> Outcome<[i32; 2]> {
    let own = || sys::open(proc_fd, Text::new(b"self/ns/mnt\0"), O_RDONLY, 0).map(Fd::keep);
    let full = own()?;
    sys::unshare(CLONE_NEWNS)?;
    sys::detach(Text::new(HELD))?;
    Ok([full, own()?])
}

/// A copy of the tree, at its number.
fn take_tree([full, bare]: [i32; 2]) -> Outcome {
    sys::setns(full, CLONE_NEWNS)?;
    let tree = sys::open_tree(AT_FDCWD, Text::new(HELD), OPEN_TREE_CLONE | AT_RECURSIVE);
    // From there the tree would be copied twice.
    if sys::setns(bare, CLONE_NEWNS).is_err() {
        exit(1);
    }
    sys::dup3(tree?.0, TREE, O_CLOEXEC).map(drop)
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
    let made = sys::clone_init(new | SIGCHLD, entry, argument);
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
        let taken = sys::receive_some(copy.lines.control, &mut [0], &mut []);
        let result = taken.and_then(|message| {
            let mut fds = message.fds.into_iter().take(message.came).map(Fd).peekable();
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
    // Its children are waited for, and its own files in /proc are to be its own.
    let own = sys::default_signal(SIGCHLD, 0)
        .and_then(|()| sys::prctl(Call::Dumpable, PR_SET_DUMPABLE, 1, 0));
    if let Err(fault) = own {
        copy.lines.fail(report::LAUNCH, fault, 0, &[]);
    }
    plan::run(copy.lines, Some(copy.proc_fd))
}

/// The life of the one that keeps networks.
extern "C" fn keep_networks(argument: *mut u8) -> ! {
    let copy = copied(argument);
    sys::close(TREE);
    network::keep(copy.lines, copy.proc_fd)
}
