//! Sitting at a terminal: typing, and waiting for what is shown.
#![allow(dead_code, reason = "each test binary uses some")]

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::life::SAFETY;

/// The side of a terminal that a user has.
pub(crate) struct User<T> {
    pub(crate) terminal: T,
    shown: Vec<u8>,
    /// How much of it was waited for already.
    read: usize,
}

impl<T: Read + Write + AsFd> User<T> {
    pub(crate) fn at(terminal: T) -> Self {
        User { terminal, shown: Vec::new(), read: 0 }
    }

    pub(crate) fn types(&mut self, keys: &str) {
        self.terminal.write_all(keys.as_bytes()).unwrap();
    }

    /// Everything that was shown so far.
    pub(crate) fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown).into_owned()
    }

    /// Waits until this is shown, after what was waited for before.
    pub(crate) fn sees(&mut self, text: &str) {
        let until = Instant::now() + SAFETY;
        loop {
            let rest = &self.shown[self.read..];
            let place = rest.windows(text.len()).position(|part| part == text.as_bytes());
            if let Some(place) = place {
                self.read += place + text.len();
                return;
            }
            let left = until.saturating_duration_since(Instant::now());
            let mut set = [PollFd::new(self.terminal.as_fd(), PollFlags::POLLIN)];
            let ready = poll(&mut set, PollTimeout::try_from(left).unwrap()).unwrap();
            assert!(ready > 0, "{text:?} does not come: {:?}", self.shown());
            assert!(self.takes(), "{text:?} did not come: {:?}", self.shown());
        }
    }

    /// Everything until nobody is at the other side any more.
    pub(crate) fn sees_the_end(&mut self) -> String {
        while self.takes() {}
        self.shown()
    }

    /// What is there already, or comes within a moment.
    pub(crate) fn sees_more(&mut self) {
        let mut set = [PollFd::new(self.terminal.as_fd(), PollFlags::POLLIN)];
        if poll(&mut set, PollTimeout::from(10u8)).unwrap() > 0 {
            self.takes();
        }
    }

    fn takes(&mut self) -> bool {
        let mut buffer = [0; 4096];
        match self.terminal.read(&mut buffer) {
            Ok(0) => false,
            Ok(length) => {
                self.shown.extend(&buffer[..length]);
                true
            }
            // The end of a terminal, where nobody has put that into better words.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => false,
            Err(error) if error.kind() == ErrorKind::Interrupted => true,
            Err(error) => panic!("{error}"),
        }
    }
}
