//! The program's output, collected.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A pipe or terminal that is read without blocking, into a buffer of limited size.
#[derive(Debug)]
pub(super) struct Reader {
    pipe: Option<std::fs::File>,
    terminal: bool,
    pub(super) kept: Vec<u8>,
    limit: usize,
    pub(super) truncated: bool,
}

impl Reader {
    pub(super) fn new(pipe: Option<OwnedFd>, terminal: bool, limit: usize) -> Self {
        let piped = pipe.is_some();
        let pipe = pipe.filter(|pipe| {
            use nix::fcntl::{FcntlArg, OFlag, fcntl};
            fcntl(pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).is_ok()
        });
        let truncated = piped && pipe.is_none();
        Reader { pipe: pipe.map(Into::into), terminal, kept: Vec::new(), limit, truncated }
    }

    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.pipe.as_ref().map(AsFd::as_fd)
    }

    /// Reads what is there; a bounded number of times, so that a flood on one pipe does not keep
    /// the other, or the time, from being looked at. Whether there may be more.
    pub(super) fn read_available(&mut self) -> bool {
        let mut buffer = [0; 64 * 1024];
        for _ in 0..32 {
            let Some(pipe) = &mut self.pipe else { return false };
            match pipe.read(&mut buffer) {
                Ok(0) => self.pipe = None,
                // The end of a terminal.
                Err(error) if self.terminal && error.raw_os_error() == Some(libc::EIO) => {
                    self.pipe = None;
                }
                Ok(length) => self.keep(buffer.get(..length).unwrap_or(&[])),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return false,
                Err(_) => (self.pipe, self.truncated) = (None, true),
            }
        }
        true
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = self.limit - self.kept.len();
        self.kept.extend(bytes.iter().take(room));
        self.truncated |= bytes.len() > room;
    }
}
