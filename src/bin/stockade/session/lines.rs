//! Standard input, line by line.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};

use memchr::memchr;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::failure::Failure;

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Text(Vec<u8>),
    /// It was longer than the limit, and is dropped.
    TooLong,
    /// Nothing comes any more, or nobody is there to do it.
    End,
    /// Nobody is there to be answered.
    Deaf,
}

/// A descriptor that is read a line at a time, each of limited length.
#[derive(Debug)]
pub(super) struct Lines {
    input: File,
    limit: usize,
    read: Vec<u8>,
    /// The line that is read is too long.
    skips: bool,
    ended: bool,
}

impl Lines {
    pub(super) fn new(input: File, limit: usize) -> Self {
        Lines { input, limit, read: Vec::new(), skips: false, ended: false }
    }

    /// The next one. Ends also if `ended` becomes readable, or nobody reads `output` any more.
    pub(super) fn next(
        &mut self,
        ended: BorrowedFd<'_>,
        output: BorrowedFd<'_>,
    ) -> Result<Line, Failure> {
        loop {
            if let Some(line) = self.take() {
                return Ok(line);
            }
            if self.ended {
                return Ok(Line::End);
            }
            if let Some(end) = wait(self.input.as_fd(), ended, output)? {
                return Ok(end);
            }
            let mut buffer = [0; 64 * 1024];
            match self.input.read(&mut buffer) {
                Ok(0) => self.ended = true,
                Ok(count) => self.read.extend(buffer.iter().take(count)),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(Failure::Io("read standard input", error)),
            }
        }
    }

    /// A line that is complete; the last one need not end.
    fn take(&mut self) -> Option<Line> {
        let found = memchr(b'\n', &self.read);
        let length = found.unwrap_or(self.read.len());
        if found.is_none() && !(self.ended && (length > 0 || self.skips)) {
            if length > self.limit {
                self.skips = true;
            }
            if self.skips {
                self.read.clear();
            }
            return None;
        }
        let rest = self.read.split_off(found.map_or(length, |end| end + 1));
        let mut line = std::mem::replace(&mut self.read, rest);
        line.truncate(length);
        let too_long = std::mem::take(&mut self.skips) || line.len() > self.limit;
        Some(if too_long { Line::TooLong } else { Line::Text(line) })
    }
}

/// Waits until there is something to read, or a reason not to.
fn wait(
    input: BorrowedFd<'_>,
    ended: BorrowedFd<'_>,
    output: BorrowedFd<'_>,
) -> Result<Option<Line>, Failure> {
    let mut set = [
        PollFd::new(ended, PollFlags::POLLIN),
        // Only that the other end is gone.
        PollFd::new(output, PollFlags::empty()),
        PollFd::new(input, PollFlags::POLLIN),
    ];
    match poll(&mut set, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(errno) => return Err(Failure::Io("poll", errno.into())),
    }
    let [ended, output, _] = set.map(|fd| fd.any().unwrap_or(true));
    Ok(if output { Some(Line::Deaf) } else { ended.then_some(Line::End) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes of bytes that are read piece by piece.
    fn lines(limit: usize, pieces: &[&[u8]]) -> Vec<Line> {
        let mut lines = Lines::new(File::open("/dev/null").unwrap(), limit);
        let mut found = Vec::new();
        for piece in pieces {
            lines.read.extend(*piece);
            found.extend(std::iter::from_fn(|| lines.take()));
        }
        lines.ended = true;
        found.extend(std::iter::from_fn(|| lines.take()));
        found
    }

    fn text(line: &str) -> Line {
        Line::Text(line.into())
    }

    #[test]
    fn lines_are_cut_at_their_ends() {
        assert_eq!(lines(9, &[b"a\nb\n\nc"]), [text("a"), text("b"), text(""), text("c")]);
        assert_eq!(lines(9, &[b"a", b"b", b"\n"]), [text("ab")]);
        assert_eq!(lines(9, &[]), []);
    }

    #[test]
    fn a_line_that_is_too_long_is_dropped_to_its_end() {
        assert_eq!(lines(3, &[b"abc\nabcd\nabc\n"]), [text("abc"), Line::TooLong, text("abc")]);
        assert_eq!(lines(3, &[b"abcd", b"efgh", b"i\nj\n"]), [Line::TooLong, text("j")]);
        assert_eq!(lines(3, &[b"abcd", b"efgh"]), [Line::TooLong]);
    }
}
