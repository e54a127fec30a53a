//! Descriptors that the caller names by number, and what `nix` does not ask of one, or of a signal.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::failure::Failure;

/// A copy of a descriptor that this process was started with, closed at exec.
pub(crate) fn duplicate(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl takes numbers; one that is not open is EBADF.
    let copy = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just returned this number for a new descriptor, owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// The one that `--json` names: a wrong number must not cost a run.
pub(crate) fn of_json(number: RawFd) -> Result<OwnedFd, Failure> {
    duplicate(number)
        .map_err(|error| Failure::Usage(format!("descriptor {number} of '--json <FD>': {error}")))
}

/// Rows and columns of a terminal.
pub(crate) fn window_size(terminal: BorrowedFd<'_>) -> Option<(u16, u16)> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel writes one struct winsize, which lives across the call.
    let result = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (result == 0).then_some((size.ws_row, size.ws_col))
}

/// Has the kernel keep what became of children, where whoever started this process ignores their end:
/// before Linux 6.15 nobody is told otherwise.
pub(crate) fn keep_children() -> io::Result<()> {
    // SAFETY: the default runs no handler.
    let before = unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    if before == libc::SIG_ERR { Err(io::Error::last_os_error()) } else { Ok(()) }
}
