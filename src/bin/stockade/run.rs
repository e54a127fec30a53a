//! Running the program, and passing on the signals that arrive meanwhile.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::thread;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, raise};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use stockade::{Child, Command, Feature, Status};

use crate::descriptor;
use crate::failure::Failure;
use crate::terminal::{Session, Terminal};

/// What a terminal or a service manager sends to end a program, and Ctrl-Z.
const TAKEN: [Signal; 5] =
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGTSTP];

/// What is about the caller's terminal, where the program has one of its own.
const OF_TERMINAL: [Signal; 2] = [Signal::SIGWINCH, Signal::SIGCONT];

/// Runs until the sandbox has ended; returns how, and what it lacked.
pub(crate) fn run(
    command: Command,
    terminal: Option<Terminal>,
    learn: bool,
) -> Result<(Status, Vec<Feature>), Failure> {
    descriptor::keep_children().map_err(|error| Failure::Io("signal", error))?;
    let signals = Signals::block(terminal.is_some())?;
    let (mut child, waiting) = spawn(command, &signals)?;
    match waiting {
        Some(libc::SIGTSTP) => stop(&mut child)?,
        Some(signal) => forward(&child, signal),
        None => {}
    }
    let mut session = match (terminal, child.take_pty()) {
        (Some(terminal), Some(inside)) => Some(Session::new(terminal, inside)?),
        _ => None,
    };
    loop {
        if let Some(status) = child.try_wait()? {
            session.map_or(Ok(()), Session::finish)?;
            if learn {
                print("the denials", &child.denials());
            }
            if let Some(footprint) = child.footprint() {
                print("the footprint", &footprint);
            }
            return Ok((status, child.missing().to_vec()));
        }
        let others = [child.pidfd(), signals.0.as_fd()];
        match &mut session {
            Some(session) => session.pass(&others)?,
            None => drop(wait(&others)?),
        }
        while let Some(signal) = signals.next()? {
            match (&mut session, signal) {
                (Some(session), libc::SIGWINCH) => session.resize()?,
                (Some(session), libc::SIGTSTP) => {
                    session.terminal.restore();
                    stop(&mut child)?;
                    session.begin()?;
                }
                (Some(session), libc::SIGCONT) => session.begin()?,
                (None, libc::SIGTSTP) => stop(&mut child)?,
                _ => forward(&child, signal),
            }
        }
    }
}

/// Standard error may be closed: the program has run all the same.
fn print(what: &str, text: &dyn std::fmt::Display) {
    let printed = write!(std::io::stderr(), "{text}");
    printed.unwrap_or_else(|error| log::warn!("{what}: {error}"));
}

/// Starts the program in a thread: making the sandbox may hang on a dead file system, and then
/// Ctrl-C must still do something. A first signal waits for the program, a second one does not.
fn spawn(command: Command, signals: &Signals) -> Result<(Child, Option<i32>), Failure> {
    let (finished, at_end) =
        UnixStream::pair().map_err(|error| Failure::Io("socketpair", error))?;
    let worker = thread::spawn(move || {
        let result = command.spawn();
        drop(at_end);
        result
    });
    let mut waiting = None;
    while !worker.is_finished() {
        if wait(&[finished.as_fd(), signals.0.as_fd()])? {
            break;
        }
        let to_end = |signal: &i32| TAKEN.iter().any(|one| *one as i32 == *signal);
        match (signals.next()?.filter(to_end), waiting) {
            (Some(second), Some(_)) => return Err(Failure::Interrupted(second)),
            (Some(first), None) => waiting = Some(first),
            (None, _) => {}
        }
    }
    let result = worker
        .join()
        .map_err(|_| Failure::Io("spawn", std::io::Error::other("the spawning thread panicked")))?;
    Ok((result?, waiting))
}

/// Waits until one of them is readable or closed; whether the first is.
fn wait(fds: &[BorrowedFd<'_>]) -> Result<bool, Failure> {
    let mut set: Vec<_> = fds.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
    match poll(&mut set, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(Failure::Io("poll", errno.into())),
    }
    Ok(set.first().and_then(PollFd::any).unwrap_or(false))
}

/// Stops with the sandbox, until somebody continues this process.
fn stop(child: &mut Child) -> Result<(), Failure> {
    if let Err(error) = child.pause() {
        // It has just ended, or nothing here can stop it: then this process does not, either.
        log::debug!("{error}");
        return Ok(());
    }
    raise(Signal::SIGSTOP).map_err(|errno| Failure::Io("stop", errno.into()))?;
    Ok(child.resume()?)
}

fn forward(child: &Child, signal: i32) {
    match child.signal(signal) {
        Ok(()) => log::debug!("passed signal {signal} on"),
        // It has just ended.
        Err(error) => log::debug!("{error}"),
    }
}

/// Signals as something to read, so that no handler runs in the middle of something else. The
/// program gets its own mask: the library resets it.
#[derive(Debug)]
struct Signals(SignalFd);

impl Signals {
    fn block(of_terminal: bool) -> Result<Self, Failure> {
        let failed = |operation| move |errno: Errno| Failure::Io(operation, errno.into());
        let more = OF_TERMINAL.into_iter().filter(|_| of_terminal);
        let set: SigSet = TAKEN.into_iter().chain(more).collect();
        set.thread_block().map_err(failed("block signals"))?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        SignalFd::with_flags(&set, flags).map(Signals).map_err(failed("signalfd"))
    }

    /// The next one that has arrived.
    fn next(&self) -> Result<Option<i32>, Failure> {
        let read =
            self.0.read_signal().map_err(|errno| Failure::Io("read signal", errno.into()))?;
        Ok(read.and_then(|information| i32::try_from(information.ssi_signo).ok()))
    }
}
