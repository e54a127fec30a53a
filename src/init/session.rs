//! PID 1 of a sandbox in which programs are started later: each by a supervisor of its own, which is a
//! copy of this process; or one only, which this process supervises itself.

use core::convert::Infallible;

use crate::abi::*;
use crate::plan::{self, Lines};
use crate::program::{self, Done, Failure, Process, Wanted};
use crate::raw::{Errno, exit};
use crate::supervise;
use crate::sys::{self, Fd, Outcome, Poll, fault};
use crate::wire::{BY_SIGNAL, Call, HANDED, ONCE, PAUSE, RESUME, Report, TREE, report};

/// Where programs come from, and who looks after them.
struct Session<'a> {
    lines: Lines,
    proc_fd: i32,
    done: &'a Done<'a>,
    /// Through this come the sockets of programs that are to be started.
    door: Fd,
    /// Where a supervisor says that it has one, and where init hears that.
    taken: (Fd, Fd),
    /// The supervisor that waits for the next program; 0 for none.
    spare: i32,
    /// Why the last one could not be made.
    refused: Errno,
}

/// Binds itself by what binds the program, and waits for programs. Returns only what has failed.
pub(crate) fn park(
    lines: Lines,
    proc_fd: i32,
    wanted: &'static Wanted<'static>,
    process: Option<Process>,
    done: &mut Done<'_>,
) -> Failure {
    match wait_for_programs(lines, proc_fd, wanted, process, done) {
        Ok(never) => match never {},
        Err(failure) => failure,
    }
}

fn wait_for_programs(
    lines: Lines,
    proc_fd: i32,
    wanted: &'static Wanted<'static>,
    process: Option<Process>,
    done: &mut Done<'_>,
) -> Result<Infallible, Failure> {
    done.rules = program::bind(lines, proc_fd, wanted, process)?;
    let lines = Lines { control: below(lines.control)?, embedder: below(lines.embedder)? };
    let proc_fd = below(proc_fd)?;
    if wanted.flags & ONCE != 0 {
        program::announce(lines, [1, done.skipped], &[done.root.0])?;
        return if lines.sleep() { start(lines, proc_fd, done) } else { exit(1) };
    }
    let (door, theirs) = sys::socketpair()?;
    let session = Session {
        lines,
        proc_fd,
        done,
        door,
        taken: sys::socketpair()?,
        spare: 0,
        refused: Errno(EAGAIN),
    };
    program::announce(lines, [1, done.skipped], &[done.root.0, theirs.0])?;
    drop(theirs);
    Ok(session.serve()?)
}

/// A descriptor that init has from the embedder, with the number that it had there, out of the way of
/// programs' descriptors.
pub(crate) fn below(fd: i32) -> Outcome<i32> {
    if fd < TREE {
        return Ok(fd);
    }
    let copy = sys::fcntl(fd, F_DUPFD_CLOEXEC, 3)?;
    sys::close(fd);
    Ok(copy as i32)
}

impl Session<'_> {
    /// Has always a supervisor ready, until the embedder lets go.
    fn serve(mut self) -> Outcome<Infallible> {
        let children = sys::child_signals()?;
        loop {
            if self.spare == 0 {
                self.make_spare();
            }
            // Where none could be made somebody has to say so.
            let door = if self.spare == 0 { self.door.0 } else { -1 };
            let (control, embedder) =
                (Poll::new(self.lines.control), Poll::new(self.lines.embedder));
            let taken = Poll::new(self.taken.0.0);
            let mut set = [Poll::new(children.0), control, embedder, taken, Poll::new(door)];
            sys::poll(&mut set, sys::FOREVER);
            if set[3].revents != 0 {
                let _word = sys::receive(self.taken.0.0, &mut [0], &mut [], MSG_DONTWAIT);
                self.spare = 0;
            }
            if set[0].revents != 0 {
                let mut information = [0; 128];
                // One is enough: all that have ended are looked for.
                let _drained = sys::read(children.0, &mut information);
                self.reap();
            }
            if set[1].revents != 0 || set[2].revents != 0 {
                self.listen();
            }
            if set[4].revents != 0 && self.spare == 0 {
                self.refuse();
            }
        }
    }

    fn reap(&mut self) {
        while let Ok(Some(ended)) = sys::wait(0, WNOHANG) {
            if ended.pid == self.spare {
                self.spare = 0;
            }
        }
        if sys::has_others_children() {
            // What a supervisor has left that was killed; what that leaves comes next.
            supervise::each_child(self.proc_fd, 0, |pid| {
                if sys::has_executed(pid) {
                    let _gone = sys::kill(pid as isize, SIGKILL);
                }
            });
        }
    }

    /// A word of the embedder's, or its end, with which all in this namespace ends.
    fn listen(&self) {
        let mut word = [0];
        match sys::receive(self.lines.control, &mut word, &mut [], MSG_DONTWAIT) {
            Ok((1, None)) if word[0] & BY_SIGNAL != 0 => {
                let signal = if word[0] & PAUSE != 0 { SIGSTOP } else { SIGCONT };
                let _none_there = sys::kill(-1, signal);
            }
            Ok((1, None)) if word[0] & (PAUSE | RESUME) != 0 => {}
            _ => exit(1),
        }
    }

    fn make_spare(&mut self) {
        let argument = (&raw const *self).cast_mut().cast();
        match sys::clone_supervisor(begin, argument) {
            Ok((pid, pidfd)) => {
                sys::close(pidfd);
                self.spare = pid;
            }
            Err(errno) => self.refused = errno,
        }
    }

    /// Tells that there can be no supervisor, if there still cannot.
    fn refuse(&self) {
        let Ok((_, Some(socket))) = sys::receive(self.door.0, &mut [0], &mut [], MSG_DONTWAIT)
        else {
            return;
        };
        let mut failed = Report::new(report::FAILED);
        let why = [report::LAUNCH, Call::Clone as u64, self.refused.0 as u64];
        failed.numbers[..3].copy_from_slice(&why);
        // Who does not listen has given up.
        let _told = sys::send(socket.0, sys::bytes_of(&failed), &[]);
    }

    /// The spare supervisor's life.
    fn supervise(&self) -> ! {
        // Else nobody would see that init has closed it.
        sys::close(self.lines.control);
        let waiting = Lines { control: self.door.0, ..self.lines };
        if !waiting.sleep() {
            exit(1);
        }
        let Ok((1, Some(socket))) = sys::receive(self.door.0, &mut [0], &mut [], 0) else {
            exit(1)
        };
        // If init does not hear it, it sees this process's end.
        let _heard = sys::send(self.taken.1.0, &[0], &[]);
        for fd in [self.door.0, self.taken.0.0, self.taken.1.0] {
            sys::close(fd);
        }
        let lines = Lines { control: socket.0, ..self.lines };
        // First of all: it is to be ended if the rest hangs.
        let told = sys::pidfd(sys::own_pid())
            .and_then(|own| sys::tell(socket.0, report::JOINED, [0, 0], &[own.0]));
        match told.map_err(Failure::from).and_then(|()| start(lines, self.proc_fd, self.done)) {
            Ok(never) => match never {},
            Err(failure) => failure.end(lines),
        }
    }
}

/// A copy's first and only function.
extern "C" fn begin(argument: *mut u8) -> ! {
    sys::argument(argument.cast_const().cast::<Session<'_>>()).supervise()
}

/// Starts the program that comes over the socket, and supervises it.
fn start(lines: Lines, proc_fd: i32, done: &Done<'_>) -> Result<Infallible, Failure> {
    let (_, _, wanted) = plan::receive(lines)?;
    take_descriptors(lines, wanted)?;
    program::start(lines, proc_fd, wanted, None, done)
}

/// All that comes after a program, some in each message: its descriptors, and trees for the plan.
pub(crate) fn take_descriptors(lines: Lines, wanted: &Wanted<'_>) -> Outcome {
    let end = HANDED + wanted.handed as i32;
    let mut number = HANDED;
    while number < end {
        if !lines.wait() {
            exit(1);
        }
        let (length, came, fds) = sys::receive_some(lines.control)?;
        if length == 0 {
            exit(1);
        }
        // The kernel drops what there is no room for.
        if came == 0 {
            return fault(Call::Receive, EMFILE);
        }
        for fd in fds.into_iter().take(came).map(Fd) {
            sys::dup3(fd.0, number, O_CLOEXEC)?;
            number += 1;
        }
    }
    Ok(())
}
