//! `--tty`: the caller's terminal in raw mode, and what goes back and forth between it and the
//! terminal inside.

use std::collections::VecDeque;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{getpgrp, read, tcgetpgrp, write};
use stockade::Pty;

use crate::descriptor;
use crate::failure::Failure;

/// How much waits for a side that does not take it, before the other is not read any more.
const WAITING: usize = 64 * 1024;
/// How many milliseconds until a terminal that nobody inside holds is looked at again: it can be opened anew.
const AGAIN: u8 = 100;

/// The caller's terminal. Its modes are what they were when this is dropped.
#[derive(Debug)]
pub(crate) struct Terminal {
    stdin: io::Stdin,
    stdout: io::Stdout,
    modes: Termios,
    is_raw: bool,
}

impl Terminal {
    /// Standard input, which has to be a terminal.
    pub(crate) fn of_caller() -> Result<Self, Failure> {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            let text = "'--tty' needs a terminal, and standard input is none";
            return Err(Failure::Usage(text.to_owned()));
        }
        let modes = tcgetattr(&stdin).map_err(|errno| Failure::Io("tcgetattr", errno.into()))?;
        Ok(Terminal { stdin, stdout: io::stdout(), modes, is_raw: false })
    }

    /// Rows and columns; 0 where the terminal does not know.
    pub(crate) fn size(&self) -> (u16, u16) {
        descriptor::window_size(self.stdin.as_fd()).unwrap_or_default()
    }

    /// From here on every key goes to the program inside.
    pub(crate) fn make_raw(&mut self) -> Result<(), Failure> {
        let mut raw = self.modes.clone();
        cfmakeraw(&mut raw);
        self.is_raw = true;
        tcsetattr(&self.stdin, SetArg::TCSANOW, &raw)
            .map_err(|errno| Failure::Io("tcsetattr", errno.into()))
    }

    /// As it was: at the end, and while this process is stopped.
    pub(crate) fn restore(&mut self) {
        // In the background the terminal and its modes are somebody else's.
        let in_foreground = tcgetpgrp(&self.stdin) == Ok(getpgrp());
        if !std::mem::take(&mut self.is_raw) || !in_foreground {
            return;
        }
        if let Err(errno) = tcsetattr(&self.stdin, SetArg::TCSADRAIN, &self.modes) {
            log::warn!("the terminal's modes are not restored: {errno}");
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        self.restore();
    }
}

/// Both terminals, and what is on its way between them.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) terminal: Terminal,
    inside: Pty,
    typed: VecDeque<u8>,
    shown: VecDeque<u8>,
    has_input: bool,
    is_held: bool,
}

impl Session {
    pub(crate) fn new(terminal: Terminal, inside: Pty) -> Result<Self, Failure> {
        fcntl(&inside, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
            .map_err(|errno| Failure::Io("fcntl", errno.into()))?;
        let (typed, shown) = (VecDeque::new(), VecDeque::new());
        let mut session =
            Session { terminal, inside, typed, shown, has_input: true, is_held: true };
        session.begin()?;
        Ok(session)
    }

    /// Raw mode and the right size: at the beginning, and after each stop.
    pub(crate) fn begin(&mut self) -> Result<(), Failure> {
        self.terminal.make_raw()?;
        self.resize()
    }

    pub(crate) fn resize(&self) -> Result<(), Failure> {
        let (rows, columns) = self.terminal.size();
        Ok(self.inside.resize(rows, columns)?)
    }

    /// Waits for one of `others` or for something to do between the terminals, and does that.
    pub(crate) fn pass(&mut self, others: &[BorrowedFd<'_>]) -> Result<(), Failure> {
        let (stdin, stdout) = (self.terminal.stdin.as_fd(), self.terminal.stdout.as_fd());
        let mut set: Vec<_> = others.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
        if self.has_input && self.typed.len() < WAITING {
            set.push(PollFd::new(stdin, PollFlags::POLLIN));
        }
        if !self.shown.is_empty() {
            set.push(PollFd::new(stdout, PollFlags::POLLOUT));
        }
        let mut events = PollFlags::empty();
        events.set(PollFlags::POLLIN, self.shown.len() < WAITING);
        events.set(PollFlags::POLLOUT, !self.typed.is_empty());
        if self.is_held && !events.is_empty() {
            set.push(PollFd::new(self.inside.as_fd(), events));
        }
        match poll(&mut set, if self.is_held { PollTimeout::NONE } else { AGAIN.into() }) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(Failure::Io("poll", errno.into())),
        }
        let is_ready = |fd: BorrowedFd<'_>| {
            let mut ready = set.iter().filter(|one| one.any().unwrap_or(false));
            ready.any(|one| one.as_fd().as_raw_fd() == fd.as_raw_fd())
        };
        let (has_typed, takes_more) = (is_ready(stdin), is_ready(stdout));
        drop(set);
        if has_typed {
            self.take_typed()?;
        }
        self.give_typed()?;
        self.take_shown()?;
        if takes_more { self.give_shown() } else { Ok(()) }
    }

    /// The rest of what the program wrote, once it has ended.
    pub(crate) fn finish(mut self) -> Result<(), Failure> {
        loop {
            self.take_shown()?;
            if self.shown.is_empty() {
                return Ok(());
            }
            while !self.shown.is_empty() {
                self.give_shown()?;
            }
        }
    }

    fn take_typed(&mut self) -> Result<(), Failure> {
        let mut buffer = [0; 4096];
        match read(&self.terminal.stdin, &mut buffer) {
            // The caller's terminal is gone: a SIGHUP tells of that as well.
            Ok(0) | Err(Errno::EIO) => self.has_input = false,
            Ok(length) => self.typed.extend(buffer.get(..length).unwrap_or(&[])),
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(errno) => return Err(Failure::Io("read standard input", errno.into())),
        }
        Ok(())
    }

    fn give_typed(&mut self) -> Result<(), Failure> {
        while !self.typed.is_empty() {
            match (&self.inside).write(self.typed.as_slices().0) {
                Ok(length) => drop(self.typed.drain(..length)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.raw_os_error() == Some(libc::EIO) => {
                    // Nobody is there to read it.
                    self.typed.clear();
                }
                Err(error) => return Err(Failure::Io("write to the terminal inside", error)),
            }
        }
        Ok(())
    }

    fn take_shown(&mut self) -> Result<(), Failure> {
        let mut buffer = [0; 4096];
        self.is_held = true;
        while self.shown.len() < WAITING {
            match (&self.inside).read(&mut buffer) {
                Ok(0) => {
                    self.is_held = false;
                    break;
                }
                Ok(length) => self.shown.extend(buffer.get(..length).unwrap_or(&[])),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(Failure::Io("read the terminal inside", error)),
            }
        }
        Ok(())
    }

    fn give_shown(&mut self) -> Result<(), Failure> {
        match write(&self.terminal.stdout, self.shown.as_slices().0) {
            Ok(length) => drop(self.shown.drain(..length)),
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(errno) => return Err(Failure::Io("write standard output", errno.into())),
        }
        Ok(())
    }
}
