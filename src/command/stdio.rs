//! Standard streams.

use std::fs::File;
use std::os::fd::{OwnedFd, RawFd};
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fchmod};

use super::Command;
use crate::error::{Error, Result, Stage};
use crate::process::hold_closed_streams;
use crate::sys;

/// Where a standard stream comes from or goes to
/// ([stdin(3)](https://man7.org/linux/man-pages/man3/stdin.3.html)).
///
/// # Examples
///
/// ```
/// use stockade::{Sandbox, Stdio};
/// let log = std::fs::File::create("/dev/null").unwrap();
/// let status = Sandbox::new().command("true").stdout(log).stderr(Stdio::null()).status()?;
/// assert!(status.outcome.is_success());
/// # Ok::<(), stockade::Error>(())
/// ```
#[derive(Debug)]
pub struct Stdio(Kind);

#[derive(Debug)]
enum Kind {
    Null,
    Inherit,
    Piped,
    Fd(OwnedFd),
}

impl Stdio {
    /// /dev/null ([null(4)](https://man7.org/linux/man-pages/man4/null.4.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Sandbox, Stdio};
    /// let status = Sandbox::new().command("cat").stdin(Stdio::null()).status()?;
    /// assert!(status.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    #[must_use]
    pub fn null() -> Self {
        Stdio(Kind::Null)
    }

    /// The caller's own stream: a widening. A terminal takes input that the program pushes back
    /// into it (`TIOCSTI` of [ioctl_tty(2)](https://man7.org/linux/man-pages/man2/ioctl_tty.2.html);
    /// from Linux 6.2 on only if `dev.tty.legacy_tiocsti` is 1), and through /proc/self/fd a file
    /// can be opened again with all rights that the program's id has on it.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Sandbox, Stdio};
    /// let status = Sandbox::new().command("echo").stdout(Stdio::inherit()).status()?;
    /// assert!(status.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    #[must_use]
    pub fn inherit() -> Self {
        Stdio(Kind::Inherit)
    }

    /// A pipe whose other end is in the [`Child`](crate::Child)
    /// ([pipe(7)](https://man7.org/linux/man-pages/man7/pipe.7.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::Read;
    /// use stockade::{Sandbox, Stdio};
    /// let mut child = Sandbox::new().command("echo").arg("hello").stdout(Stdio::piped()).spawn()?;
    /// let mut text = String::new();
    /// child.stdout.take().ok_or("piped")?.read_to_string(&mut text)?;
    /// assert_eq!(text, "hello\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn piped() -> Self {
        Stdio(Kind::Piped)
    }
}

impl From<OwnedFd> for Stdio {
    fn from(fd: OwnedFd) -> Self {
        Stdio(Kind::Fd(fd))
    }
}

impl From<File> for Stdio {
    fn from(file: File) -> Self {
        OwnedFd::from(file).into()
    }
}

/// Both ends of the standard streams.
#[derive(Debug)]
pub(crate) struct Streams {
    /// One /dev/null serves all that are empty.
    pub(super) theirs: Vec<Rc<OwnedFd>>,
    pub(super) ours: [Option<OwnedFd>; 3],
    /// The numbers of the caller's that are closed, until all is there.
    held: Vec<OwnedFd>,
    /// Standard input is of the caller's choice.
    #[cfg(feature = "footprint")]
    pub(super) passed: bool,
}

impl Command {
    pub(crate) fn open_streams(&mut self) -> Result<Streams> {
        let mut streams = Streams {
            theirs: Vec::new(),
            ours: [None, None, None],
            held: Vec::new(),
            #[cfg(feature = "footprint")]
            passed: self.streams[0].is_some(),
        };
        let failed = |number: usize, errno| {
            let names = ["standard input", "standard output", "standard error"];
            let name = names.get(number).copied().unwrap_or_default();
            Error::new(Stage::Prepare, "open", name, errno)
        };
        // First what is inherited: one that is closed is no more once something else is opened.
        for (number, stream) in self.streams.iter_mut().enumerate() {
            if matches!(stream, Some(Stdio(Kind::Inherit))) {
                let copy = inherited(number).map_err(|errno| failed(number, errno))?;
                *stream = Some(Stdio(Kind::Fd(copy)));
            }
        }
        streams.held = hold_closed_streams()?;
        let mut null = None;
        for (number, stream) in self.streams.iter_mut().enumerate() {
            let kind = stream.take().map_or(Kind::Null, |stdio| stdio.0);
            if let (Kind::Null, Some(null)) = (&kind, &null) {
                streams.theirs.push(Rc::clone(null));
                continue;
            }
            let empty = matches!(kind, Kind::Null);
            let (theirs, ours) =
                open_stream(number, kind).map_err(|errno| failed(number, errno))?;
            let theirs = Rc::new(theirs);
            if empty {
                null = Some(Rc::clone(&theirs));
            }
            streams.theirs.push(theirs);
            if let Some(place) = streams.ours.get_mut(number) {
                *place = ours;
            }
        }
        Ok(streams)
    }
}

/// A copy of one of the caller's own streams.
fn inherited(number: usize) -> Result<OwnedFd, Errno> {
    sys::duplicate(RawFd::try_from(number).map_err(|_| Errno::EBADF)?)
}

fn open_stream(number: usize, kind: Kind) -> Result<(OwnedFd, Option<OwnedFd>), Errno> {
    match kind {
        Kind::Fd(fd) => Ok((fd, None)),
        Kind::Inherit => inherited(number).map(|fd| (fd, None)),
        Kind::Null => {
            let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC;
            let null = nix::fcntl::open("/dev/null", flags, Mode::empty())?;
            Ok((null, None))
        }
        Kind::Piped => {
            let (reading, writing) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
            // A program with an id of its own opens it by name too: /dev/stdout. Nobody else can.
            fchmod(&writing, Mode::from_bits_truncate(0o666))?;
            Ok(if number == 0 { (reading, Some(writing)) } else { (writing, Some(reading)) })
        }
    }
}
