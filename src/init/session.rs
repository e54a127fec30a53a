//! PID 1 of a sandbox in which programs are started later: by supervisors, which are copies of this process and look
//! after one at a time; or one only, which this process supervises itself.

use core::convert::Infallible;

use crate::abi::*;
use crate::plan::{self, Lines};
use crate::program::{self, Done, Failure, Process, Wanted};
use crate::raw::exit;
use crate::supervise;
use crate::sys::{self, Fd, Message, Outcome, Poll, fault};
use crate::wire::{
    BY_SIGNAL, Call, DETACH, Fault, HANDED, HEADER, LAST, ONCE, PAUSE, RESUME, Report, TOGETHER,
    TREE, report,
};

/// Who looks after programs.
struct Session<'a> {
    lines: Lines,
    proc_fd: i32,
    done: &'a Done<'a>,
    /// Through this it is asked for supervisors, and hands them over.
    door: Fd,
    /// The sockets of the supervisor that is made: its own end, and the library's.
    ends: [i32; 2],
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
        start(lines, proc_fd, done)?;
        exit(0)
    }
    let (door, theirs) = sys::socketpair()?;
    let session = Session { lines, proc_fd, done, door, ends: [-1; 2] };
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
    /// Makes supervisors until the embedder lets go.
    fn serve(mut self) -> Outcome<Infallible> {
        let children = sys::child_signals()?;
        loop {
            let (control, embedder) =
                (Poll::new(self.lines.control), Poll::new(self.lines.embedder));
            let mut set = [Poll::new(children.0), control, embedder, Poll::new(self.door.0)];
            sys::poll(&mut set, sys::FOREVER);
            if set[0].revents != 0 {
                let mut information = [0; 128];
                // One is enough: all that have ended are looked for.
                let _drained = sys::read(children.0, &mut information);
                self.reap();
            }
            if set[1].revents != 0 || set[2].revents != 0 {
                self.listen();
            }
            if set[3].revents != 0 {
                self.answer();
            }
        }
    }

    fn reap(&self) {
        while let Ok(Some(_)) = sys::wait(0, WNOHANG) {}
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

    /// Makes a supervisor, or tells why there is none.
    fn answer(&mut self) {
        match sys::receive(self.door.0, &mut [0], &mut [], MSG_DONTWAIT) {
            Ok((1.., _)) => {}
            Err(_) => return,
            Ok(_) => {
                // The library has let go of this one, and will of the other.
                self.door = Fd(-1);
                return;
            }
        }
        if let Err(Fault { call, errno }) = self.make_supervisor() {
            let mut failed = Report::new(report::FAILED);
            failed.numbers[..3].copy_from_slice(&[report::LAUNCH, call as u64, errno.0 as u64]);
            let _told = sys::insist(self.door.0, sys::bytes_of(&failed), &[]);
        }
    }

    fn make_supervisor(&mut self) -> Outcome {
        let (inner, outer) = sys::socketpair()?;
        self.ends = [inner.0, outer.0];
        let (_pid, pidfd) = sys::clone_supervisor(begin, (&raw const *self).cast_mut().cast())
            .map_err(|errno| Fault { call: Call::Clone, errno })?;
        let pidfd = Fd(pidfd);
        // If nobody has the socket, it ends.
        sys::tell(self.door.0, report::JOINED, [0, 0], &[pidfd.0, outer.0])
    }

    /// A supervisor's life: one program after the other.
    fn supervise(&self) -> ! {
        let [control, outer] = self.ends;
        // Else nobody would see that init has closed its own, or that the library has closed that.
        for fd in [self.lines.control, self.door.0, outer] {
            sys::close(fd);
        }
        let lines = Lines { control, ..self.lines };
        sys::again(Self::supervise_one, &(self, lines));
        exit(0)
    }

    /// Whether there may be a next one.
    fn supervise_one(&(session, lines): &(&Self, Lines)) -> bool {
        match start(lines, session.proc_fd, session.done) {
            Ok(()) => true,
            Err(failure) => failure.end(lines),
        }
    }
}

/// A copy's first and only function.
extern "C" fn begin(argument: *mut u8) -> ! {
    sys::argument(argument.cast_const().cast::<Session<'_>>()).supervise()
}

/// Starts the program that comes over the socket, and supervises it to its end.
fn start(lines: Lines, proc_fd: i32, done: &Done<'_>) -> Result<(), Failure> {
    let wanted = receive(lines)?;
    program::start(lines, proc_fd, wanted, None, done)
}

/// The next program, whose descriptors have their numbers then.
fn receive(lines: Lines) -> Outcome<&'static Wanted<'static>> {
    let (mut header, program) = ([0; HEADER], sys::map(TOGETHER)?);
    loop {
        if !lines.sleep() {
            exit(1);
        }
        let message = sys::receive_some(lines.control, &mut header, program)?;
        match message.length {
            // It is let go of.
            0 => exit(1),
            HEADER => {
                let (_, _, wanted) = plan::receive_rest(lines, plan::read_header(&header)?)?;
                take_descriptors(lines, wanted)?;
                return Ok(wanted);
            }
            longer if longer > HEADER => {
                let length = plan::read_header(&header)?.program as usize;
                let wanted = plan::read_program(program.get(..length).unwrap_or(&[]))?;
                return match number(message, HANDED)? - HANDED {
                    came if came == wanted.handed as i32 => Ok(wanted),
                    // The kernel drops what there is no room for.
                    _ => fault(Call::Receive, EMFILE),
                };
            }
            1 if matches!(header[0], LAST | DETACH) => exit(0),
            // A word that came too late for the program before.
            _ => message.fds.into_iter().take(message.came).map(Fd).for_each(drop),
        }
    }
}

/// All that comes after a program, some in each message: its descriptors, and trees for the plan.
pub(crate) fn take_descriptors(lines: Lines, wanted: &Wanted<'_>) -> Outcome {
    let end = HANDED + wanted.handed as i32;
    let mut next = HANDED;
    while next < end {
        if !lines.wait() {
            exit(1);
        }
        let message = sys::receive_some(lines.control, &mut [0], &mut [])?;
        if message.length == 0 {
            exit(1);
        }
        let after = number(message, next)?;
        // The kernel drops what there is no room for.
        if after == next {
            return fault(Call::Receive, EMFILE);
        }
        next = after;
    }
    Ok(())
}

/// Gives what came with a message its numbers, from this one on; which is the next one then.
fn number(message: Message, mut next: i32) -> Outcome<i32> {
    for fd in message.fds.into_iter().take(message.came).map(Fd) {
        sys::dup3(fd.0, next, O_CLOEXEC)?;
        next += 1;
    }
    Ok(next)
}
