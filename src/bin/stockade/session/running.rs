//! A command of a session's while it runs: its streams, and what it is sent.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use stockade::{Child, Status};

use crate::failure::Failure;

/// How much may be in a pipe when everyone who wrote to it has ended.
const LEFT_IN_PIPE: usize = 1 << 20;

/// How it ended, and what it wrote.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) status: Status,
    pub(super) stdout: Kept,
    pub(super) stderr: Kept,
}

/// What is kept of an output stream.
#[derive(Debug)]
pub(super) struct Kept {
    pipe: Option<File>,
    limit: usize,
    pub(super) bytes: Vec<u8>,
    pub(super) truncated: bool,
}

/// What is still to be written to standard input.
#[derive(Debug)]
struct Input {
    pipe: Option<File>,
    bytes: Vec<u8>,
    written: usize,
}

/// Waits for its end; what comes through `orders` is done meanwhile.
pub(super) fn attend(
    mut child: Child,
    input: Vec<u8>,
    keep: usize,
    orders: &UnixStream,
) -> Result<Ended, Failure> {
    let mut input = Input::new(child.stdin.take().map(OwnedFd::from), input)?;
    let mut stdout = Kept::new(child.stdout.take().map(OwnedFd::from), keep)?;
    let mut stderr = Kept::new(child.stderr.take().map(OwnedFd::from), keep)?;
    let mut listens = true;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        let told = Some(orders.as_fd()).filter(|_| listens);
        wait(&[Some(child.pidfd()), told, stdout.fd(), stderr.fd()], input.fd())?;
        if listens && !follow(&child, orders) {
            listens = false;
            child.kill()?;
        }
        input.write();
        stdout.read();
        stderr.read();
    };
    stdout.finish();
    stderr.finish();
    Ok(Ended { status, stdout, stderr })
}

/// Sends the signals that have been asked for meanwhile; false if all of it is to end.
fn follow(child: &Child, mut orders: &UnixStream) -> bool {
    let mut signals = [0; 64];
    let count = match orders.read(&mut signals) {
        Ok(0) => return false,
        Ok(count) => count,
        Err(_) => 0,
    };
    for signal in signals.iter().take(count) {
        match child.signal((*signal).into()) {
            Ok(()) => log::debug!("passed signal {signal} on"),
            // It has just ended.
            Err(error) => log::debug!("{error}"),
        }
    }
    true
}

/// Waits until one of them can be read, or the last one be written.
fn wait(
    readable: &[Option<BorrowedFd<'_>>],
    writable: Option<BorrowedFd<'_>>,
) -> Result<(), Failure> {
    let readable = readable.iter().flatten().map(|fd| PollFd::new(*fd, PollFlags::POLLIN));
    let writable = writable.map(|fd| PollFd::new(fd, PollFlags::POLLOUT));
    let mut set: Vec<_> = readable.chain(writable).collect();
    match poll(&mut set, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(Failure::Io("poll", errno.into())),
    }
}

fn without_waiting(pipe: Option<OwnedFd>) -> Result<Option<File>, Failure> {
    if let Some(pipe) = &pipe {
        fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
            .map_err(|errno| Failure::Io("set O_NONBLOCK", errno.into()))?;
    }
    Ok(pipe.map(File::from))
}

impl Input {
    fn new(pipe: Option<OwnedFd>, bytes: Vec<u8>) -> Result<Self, Failure> {
        Ok(Input { pipe: without_waiting(pipe)?, bytes, written: 0 })
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Writes what there is room for, and closes it after the last byte.
    fn write(&mut self) {
        let Some(pipe) = &mut self.pipe else { return };
        match pipe.write(self.bytes.get(self.written..).unwrap_or(&[])) {
            Ok(count) => self.written += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(error) if error.kind() == ErrorKind::Interrupted => return,
            // Nobody reads it any more.
            Err(_) => self.written = self.bytes.len(),
        }
        if self.written >= self.bytes.len() {
            self.pipe = None;
        }
    }
}

impl Kept {
    fn new(pipe: Option<OwnedFd>, limit: usize) -> Result<Self, Failure> {
        let pipe = without_waiting(pipe)?;
        Ok(Kept { pipe, limit, bytes: Vec::new(), truncated: false })
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Reads what is there, once: a flood on one stream must not keep the rest from being looked at.
    fn read(&mut self) -> usize {
        let Some(pipe) = &mut self.pipe else { return 0 };
        let mut buffer = [0; 64 * 1024];
        match pipe.read(&mut buffer) {
            Ok(0) => self.pipe = None,
            Ok(count) => {
                let room = self.limit - self.bytes.len();
                self.bytes.extend(buffer.iter().take(count.min(room)));
                self.truncated |= count > room;
                return count;
            }
            Err(error)
                if [ErrorKind::WouldBlock, ErrorKind::Interrupted].contains(&error.kind()) => {}
            Err(_) => (self.pipe, self.truncated) = (None, true),
        }
        0
    }

    /// Reads what was written before the end. Another command of the session's may have been given
    /// the stream, and is not waited for.
    fn finish(&mut self) {
        let mut left = LEFT_IN_PIPE;
        while left > 0 {
            match self.read() {
                0 => break,
                count => left = left.saturating_sub(count),
            }
        }
        self.pipe = None;
    }
}
