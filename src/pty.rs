//! The embedder's end of a terminal of the sandbox's own;
//! [pty(7)](https://man7.org/linux/man-pages/man7/pty.7.html).

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::stat::{SFlag, fstat, major, minor};
use nix::sys::termios::{InputFlags, SetArg, tcgetattr, tcsetattr};

use crate::error::{Error, Result, Stage};
use crate::sys;

/// How large a terminal is, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Size {
    pub(crate) rows: u16,
    pub(crate) columns: u16,
}

/// The master of a pseudo-terminal of which a sandbox's program has the other side: what is written
/// to it is typed, what is read from it was to be shown;
/// [pty(7)](https://man7.org/linux/man-pages/man7/pty.7.html).
///
/// Comes from [`Command::pty`](crate::Command::pty) by [`Child::pty`](crate::Child::pty). It reads
/// an end of file when nobody inside holds the terminal any more and all that was written before is
/// read. Dropping it hangs the terminal up: the program gets SIGHUP. What a program writes can move
/// the cursor, set titles and ask the terminal it is shown on for answers: a caller that passes it on
/// to a terminal gives it that much.
///
/// # Examples
///
/// ```
/// use std::io::{Read, Write};
/// let mut child = stockade::Sandbox::new().command("sh").pty(24, 80).spawn()?;
/// let mut terminal = child.take_pty().ok_or("asked for")?;
/// terminal.write_all(b"tty; exit\n")?;
/// let mut shown = String::new();
/// terminal.read_to_string(&mut shown)?;
/// assert!(shown.contains("/dev/pts/0"));
/// assert!(child.wait()?.outcome.is_success());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Pty(File);

impl Pty {
    /// Takes what came from inside: only the master of a terminal is one. Returns the program's side
    /// as well.
    pub(crate) fn accept(fds: Vec<OwnedFd>, size: Size) -> Result<(Self, OwnedFd)> {
        let failed = |operation| {
            move |errno| Error::new(Stage::Start, operation, "of the new terminal", errno)
        };
        // The kernel drops a descriptor that a caller at its limit has no room for.
        let master = fds.into_iter().next().ok_or(Errno::EMFILE).map_err(failed("recvmsg"))?;
        let found = fstat(&master).map_err(failed("fstat"))?;
        let is_device = SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT == SFlag::S_IFCHR;
        // /dev/ptmx, of whatever instance.
        if !is_device || (major(found.st_rdev), minor(found.st_rdev)) != (5, 2) {
            return Err(failed("verify")(Errno::EPROTO));
        }
        let terminal = Pty(master.into());
        terminal.resize(size.rows, size.columns)?;
        // LANG inside is one of UTF-8's: the kernel's line editing is to know of it as well.
        let mut modes = tcgetattr(&terminal).map_err(failed("tcgetattr"))?;
        modes.input_flags |= InputFlags::IUTF8;
        tcsetattr(&terminal, SetArg::TCSANOW, &modes).map_err(failed("tcsetattr"))?;
        let theirs = sys::terminal_peer(terminal.as_fd()).map_err(failed("open other side"))?;
        Ok((terminal, theirs))
    }

    /// Says how large the terminal is from now on, in characters; 0 for unknown. The program in the
    /// foreground gets SIGWINCH if that is a change (`TIOCSWINSZ`,
    /// [ioctl_tty(2)](https://man7.org/linux/man-pages/man2/ioctl_tty.2.html)).
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] if the kernel refuses it, which it does not for a terminal.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::{Read, Write};
    /// let mut child = stockade::Sandbox::new().command("sh").pty(24, 80).spawn()?;
    /// let mut terminal = child.take_pty().ok_or("asked for")?;
    /// terminal.resize(30, 100)?;
    /// terminal.write_all(b"stty size; exit\n")?;
    /// let mut shown = String::new();
    /// terminal.read_to_string(&mut shown)?;
    /// assert!(shown.contains("30 100"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        sys::set_window_size(self.as_fd(), rows, columns)
            .map_err(|errno| Error::new(Stage::Run, "resize", "the terminal", errno))
    }

    /// Another descriptor of the same master, as for a thread that reads while this one writes.
    ///
    /// # Errors
    ///
    /// The error of [fcntl(2)](https://man7.org/linux/man-pages/man2/fcntl.2.html).
    ///
    /// # Examples
    ///
    /// ```
    /// let child = stockade::Sandbox::new().command("true").pty(24, 80).spawn()?;
    /// let copy = child.pty().ok_or("asked for")?.try_clone()?;
    /// let shown = std::io::read_to_string(copy)?;
    /// assert_eq!(shown, "");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_clone(&self) -> io::Result<Self> {
        self.0.try_clone().map(Pty)
    }
}

impl AsFd for Pty {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<Pty> for OwnedFd {
    fn from(terminal: Pty) -> Self {
        terminal.0.into()
    }
}

impl Read for &Pty {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match (&self.0).read(buffer) {
            // The kernel's word for the end of a terminal.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => Ok(0),
            other => other,
        }
    }
}

impl Write for &Pty {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&self.0).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Pty {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }
}

impl Write for Pty {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
