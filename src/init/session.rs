//! PID 1 of a sandbox in which programs are started later: each by a supervisor of its own, which is a
//! copy of this process; or one only, which this process supervises itself.

use core::convert::Infallible;

use crate::abi::*;
use crate::plan::{self, Lines};
use crate::program::{self, Done, Failure, Process, Wanted};
use crate::raw::exit;
use crate::supervise;
use crate::sys::{self, Outcome, Poll, fault};
use crate::wire::{BY_SIGNAL, COMMAND, Call, HANDED, ONCE, PAUSE, RESUME, Report, report};

/// What a supervisor has of the init that it is a copy of.
struct Copy<'a> {
    lines: Lines,
    /// Init's own socket.
    control: i32,
    proc_fd: i32,
    done: &'a Done<'a>,
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
    program::announce(lines, [1, done.skipped], &[done.root.0])?;
    if wanted.flags & ONCE == 0 {
        return Ok(serve(lines, proc_fd, done)?);
    }
    if lines.sleep() { start(lines, proc_fd, done) } else { exit(1) }
}

/// A descriptor that init has from the embedder, with the number that it had there, out of the way of
/// programs' descriptors.
fn below(fd: i32) -> Outcome<i32> {
    if fd < HANDED {
        return Ok(fd);
    }
    let copy = sys::fcntl(fd, F_DUPFD_CLOEXEC, 3)?;
    sys::close(fd);
    Ok(copy as i32)
}

/// Starts one supervisor after the other, until the embedder lets go.
fn serve(lines: Lines, proc_fd: i32, done: &Done<'_>) -> Outcome<Infallible> {
    let children = sys::child_signals()?;
    loop {
        let embedder = Poll::new(lines.embedder);
        let mut set = [Poll::new(children.0), Poll::new(lines.control), embedder];
        sys::poll(&mut set, sys::FOREVER);
        if set[0].revents != 0 {
            let mut information = [0; 128];
            // One is enough: all that have ended are looked for.
            let _drained = sys::read(children.0, &mut information);
            while let Ok(Some(_)) = sys::wait(0, WNOHANG) {}
            // What came to init is what a supervisor left that was killed; what that leaves comes next.
            supervise::each_child(proc_fd, 0, |pid| {
                if sys::has_executed(pid) {
                    let _gone = sys::kill(pid as isize, SIGKILL);
                }
            });
        }
        if set[1].revents == 0 && set[2].revents == 0 {
            continue;
        }
        let mut word = [0];
        match sys::receive(lines.control, &mut word, &mut [], MSG_DONTWAIT)? {
            (1, Some(socket)) if word[0] == COMMAND => {
                let control = socket.0;
                let of_command = Lines { control, ..lines };
                copy(&Copy { lines: of_command, control: lines.control, proc_fd, done });
            }
            (1, None) if word[0] & BY_SIGNAL != 0 => {
                let signal = if word[0] & PAUSE != 0 { SIGSTOP } else { SIGCONT };
                let _none_there = sys::kill(-1, signal);
            }
            (1, None) if word[0] & (PAUSE | RESUME) != 0 => {}
            // All that is left in this namespace ends with its PID 1.
            _ => exit(1),
        }
    }
}

/// Makes a supervisor.
fn copy(copy: &Copy<'_>) {
    match sys::clone_init(sys::BEFORE_EXEC, begin, (&raw const *copy).cast_mut().cast()) {
        Ok((_, pidfd)) => sys::close(pidfd),
        Err(errno) => {
            let mut failed = Report::new(report::FAILED);
            let call = Call::Clone as u64;
            failed.numbers[..3].copy_from_slice(&[report::LAUNCH, call, errno.0 as u64]);
            // Who does not listen has given up.
            let _told = sys::send(copy.lines.control, sys::bytes_of(&failed), &[]);
        }
    }
}

/// The copy's first and only function.
extern "C" fn begin(argument: *mut u8) -> ! {
    let Copy { lines, control, proc_fd, done } =
        sys::argument(argument.cast_const().cast::<Copy<'_>>());
    // Else it would not be seen that init has closed it.
    sys::close(*control);
    match start(*lines, *proc_fd, done) {
        Ok(never) => match never {},
        Err(failure) => failure.end(*lines),
    }
}

/// Starts the program that comes over the socket, and supervises it.
fn start(lines: Lines, proc_fd: i32, done: &Done<'_>) -> Result<Infallible, Failure> {
    let (_, _, wanted) = plan::receive(lines)?;
    for (number, _) in program::descriptors(wanted) {
        take(lines, number)?;
    }
    if wanted.cpu_fd >= 0 {
        take(lines, wanted.cpu_fd)?;
    }
    program::start(lines, proc_fd, wanted, None, done)
}

/// A descriptor of the program's, which gets this number.
fn take(lines: Lines, number: i32) -> Outcome {
    if !lines.wait() {
        exit(1);
    }
    match sys::receive(lines.control, &mut [0], &mut [], 0)? {
        (1, Some(fd)) => sys::dup3(fd.0, number, O_CLOEXEC).map(drop),
        (0, _) => exit(1),
        // The kernel drops what there is no room for.
        _ => fault(Call::Receive, EMFILE),
    }
}
