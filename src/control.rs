//! The library's end of the sockets to init.

use std::cell::OnceCell;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, Shutdown, SockFlag, SockType, send, shutdown,
    socketpair,
};
use nix::sys::stat::Mode;

use crate::error::{Error, Result, Stage};
use crate::hint::Hint;
use crate::process::Launched;
use crate::sys;
use crate::wire::{self, BY_SIGNAL, RESUME, Report};

/// The descriptors between the embedder and init.
#[derive(Debug)]
pub(crate) struct Lines {
    pub(crate) ours: OwnedFd,
    proc: OnceCell<OwnedFd>,
}

impl Lines {
    /// And the other end.
    pub(crate) fn new() -> Result<(Self, OwnedFd)> {
        let (ours, theirs) = pair()?;
        Ok((Lines::with(ours), theirs))
    }

    /// Of a socket that is there.
    pub(crate) fn with(ours: OwnedFd) -> Self {
        Lines { ours, proc: OnceCell::new() }
    }

    /// The caller's /proc.
    pub(crate) fn proc(&self) -> Result<&OwnedFd> {
        if let Some(proc) = self.proc.get() {
            return Ok(proc);
        }
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let failed = |errno| Error::new(Stage::Launch, "open", "\"/proc\"", errno).explained();
        let proc = open("/proc", flags, Mode::empty()).map_err(failed)?;
        Ok(self.proc.get_or_init(|| proc))
    }
}

/// Sockets that keep messages apart, connected to each other.
pub(crate) fn pair() -> Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
        .map_err(|errno| Error::new(Stage::Launch, "socketpair", "", errno))
}

pub(crate) fn transmit(
    lines: &Lines,
    bytes: &[u8],
    launched: &Launched,
    stage: Stage,
) -> Result<()> {
    transmit_slices(lines, &[IoSlice::new(bytes)], launched, stage)
}

/// The same, of several parts.
pub(crate) fn transmit_slices(
    lines: &Lines,
    slices: &[IoSlice<'_>],
    launched: &Launched,
    stage: Stage,
) -> Result<()> {
    send_with(lines.ours.as_fd(), slices, &[], launched, stage)
}

/// Sends one message, with descriptors; waits while the socket is full, as long as init lives, in a session half a minute.
pub(crate) fn send_with(
    control: BorrowedFd<'_>,
    slices: &[IoSlice<'_>],
    fds: &[RawFd],
    launched: &Launched,
    stage: Stage,
) -> Result<()> {
    use nix::poll::{PollFd, PollFlags, poll};
    let rights = [ControlMessage::ScmRights(fds)];
    let rights = if fds.is_empty() { &[][..] } else { &rights[..] };
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    let mut continued = 0;
    loop {
        let sent =
            nix::sys::socket::sendmsg::<()>(control.as_raw_fd(), slices, rights, flags, None);
        match sent {
            Ok(_) => return Ok(()),
            Err(Errno::EAGAIN) => {
                let mut set = [
                    PollFd::new(control, PollFlags::POLLOUT),
                    PollFd::new(launched.pidfd.as_fd(), PollFlags::POLLIN),
                ];
                let waited = poll(&mut set, patience(launched));
                if waited == Ok(0) && go_on(launched, &mut continued).is_err() {
                    return Err(Error::new(stage, "send plan", "to init", Errno::ETIMEDOUT));
                }
                let ended = set[1].revents().is_some_and(|seen| !seen.is_empty());
                if ended || waited.is_err_and(|errno| errno != Errno::EINTR) {
                    return Err(init_died(launched, stage));
                }
            }
            Err(Errno::EINTR) => {}
            Err(Errno::EPIPE | Errno::ECONNRESET) => return Err(init_died(launched, stage)),
            Err(errno) => {
                // Descriptors on their way, of all of the user's processes, count against this one's limit.
                let hint = (errno == Errno::ETOOMANYREFS).then_some(Hint::OpenFiles);
                return Err(Error::new(stage, "send plan", "to init", errno).with_hint(hint));
            }
        }
    }
}

pub(crate) fn init_died(launched: &Launched, stage: Stage) -> Error {
    let object = format!("(process {} ended unexpectedly)", launched.pid);
    Error::new(stage, "talk to init", object, Errno::ESRCH)
}

pub(crate) fn unheard(stage: Stage, errno: Errno) -> Error {
    Error::new(stage, "recvmsg", "from init", errno).explained()
}

pub(crate) fn next_report(
    lines: &Lines,
    launched: &Launched,
    stage: Stage,
) -> Result<(Report, Vec<OwnedFd>)> {
    match receive(lines.ours.as_fd(), launched) {
        Received::Report(report, fds) => Ok((*report, fds)),
        Received::Closed | Received::Reset | Received::Ended => Err(init_died(launched, stage)),
        Received::Failed(errno) => Err(unheard(stage, errno)),
    }
}

/// How long init has to end what it follows where the kernel does not do it by itself.
pub(crate) const FOLLOW_WAIT: Duration = Duration::from_secs(2);

/// Without a pid namespace of its own what descends from init does not end with it: init is told to
/// end it first. `false` if it cannot be told.
pub(crate) fn end_followed(control: BorrowedFd<'_>) -> bool {
    // Not only closed: a forked copy of the embedder may hold it.
    shutdown(control.as_raw_fd(), Shutdown::Both).is_ok()
}

/// What came over the control socket.
#[derive(Debug)]
pub(crate) enum Received {
    Report(Box<Report>, Vec<OwnedFd>),
    Closed,
    /// Closed, and the other side had not read everything.
    Reset,
    /// Init has ended.
    Ended,
    /// Nobody knows: not to be taken for an end.
    Failed(Errno),
}

/// How long a program of a session may take to start until it is looked whether another has stopped it, in
/// milliseconds, and how often.
const STOPPED_FOR: u16 = 1000;
const CONTINUED: u32 = 30;

/// How long nothing may happen until it is looked why.
fn patience(launched: &Launched) -> nix::poll::PollTimeout {
    use nix::poll::PollTimeout;
    launched.session.as_ref().map_or(PollTimeout::NONE, |_| PollTimeout::from(STOPPED_FOR))
}

/// Has all that is stopped in a session go on, so many times at the most.
fn go_on(launched: &Launched, continued: &mut u32) -> Result<(), Errno> {
    let Some(session) = &launched.session else { return Ok(()) };
    let word = [RESUME | BY_SIGNAL];
    // Who has ended is seen next.
    let control = session.control.as_raw_fd();
    let told = session.paused.unless(|| send(control, &word, MsgFlags::MSG_NOSIGNAL));
    *continued += u32::from(told.is_some());
    log::trace!("a program of a session does not start: continued, {told:?}");
    if *continued > CONTINUED { Err(Errno::ETIMEDOUT) } else { Ok(()) }
}

/// Waits for a report, the socket's end or the end of init.
pub(crate) fn receive(control: BorrowedFd<'_>, launched: &Launched) -> Received {
    use nix::poll::{PollFd, PollFlags, poll};
    let mut continued = 0;
    loop {
        if let Some(received) = receive_now(control) {
            return received;
        }
        let mut set = [
            PollFd::new(control, PollFlags::POLLIN),
            PollFd::new(launched.pidfd.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut set, patience(launched)) {
            Ok(0) => {
                if let Err(errno) = go_on(launched, &mut continued) {
                    return Received::Failed(errno);
                }
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Received::Failed(errno),
        }
        let ended = set[1].revents().is_some_and(|seen| !seen.is_empty());
        if ended {
            // Its last words are in the socket before its end is seen.
            return receive_now(control).unwrap_or(Received::Ended);
        }
    }
}

/// A report that is there already.
pub(crate) fn receive_now(control: BorrowedFd<'_>) -> Option<Received> {
    match receive_once(control) {
        // The kernel tells this before what it has kept of the other side's words.
        Some(Received::Reset) => match receive_once(control) {
            Some(Received::Closed) | None => Some(Received::Reset),
            other => other,
        },
        other => other,
    }
}

fn receive_once(control: BorrowedFd<'_>) -> Option<Received> {
    let mut bytes = [0; wire::REPORT + 1];
    let (length, fds) = match sys::receive_with_fds(control, &mut bytes) {
        Err(Errno::EAGAIN | Errno::EINTR) => return None,
        Err(Errno::ECONNRESET) => return Some(Received::Reset),
        Err(errno) => return Some(Received::Failed(errno)),
        Ok((0, _)) => return Some(Received::Closed),
        Ok(message) => message,
    };
    let report = bytes.get(..length).and_then(Report::from_bytes);
    let unreadable = Received::Failed(Errno::EPROTO);
    Some(report.map_or(unreadable, |report| Received::Report(Box::new(report), fds)))
}
