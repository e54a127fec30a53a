//! Ending a sandbox by its handle, or leaving it to itself.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, TryLockError};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, send};

use super::{Child, DROP_WAIT};
use crate::control::{FOLLOW_WAIT, end_followed};
use crate::error::{Error, Result, Stage};
use crate::networks::Lent;
use crate::process::kill;
use crate::wire::DETACH;
use crate::{sys, warden};

impl Child {
    /// Sends a signal to the program alone
    /// ([pidfd_send_signal(2)](https://man7.org/linux/man-pages/man2/pidfd_send_signal.2.html), Linux 5.1).
    ///
    /// Numbers are 1 to 64; 0 sends nothing and asks whether the program still runs. Without init
    /// the program is PID 1 of its namespace, where a signal without a handler does nothing,
    /// SIGKILL and SIGSTOP excepted
    /// ([pid_namespaces(7)](https://man7.org/linux/man-pages/man7/pid_namespaces.7.html)).
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with `ESRCH` if the program has ended, `EINVAL` for a number that is no
    /// signal's.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Outcome, Sandbox};
    /// let mut child = Sandbox::new().command("sleep").arg("1000").spawn()?;
    /// child.signal(15)?;
    /// assert_eq!(child.wait()?.outcome, Outcome::Signaled { signal: 15, core_dumped: false });
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn signal(&self, signal: i32) -> Result<()> {
        let result = if self.status.is_some() {
            Err(Errno::ESRCH)
        } else {
            sys::signal(self.program_pidfd(), signal)
        };
        result.map_err(|errno| Error::new(Stage::Run, "send signal", signal.to_string(), errno))
    }

    /// Ends everything inside at once
    /// ([pid_namespaces(7)](https://man7.org/linux/man-pages/man7/pid_namespaces.7.html), "The
    /// namespace init process"). Nothing happens if it has ended already.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] if the kernel refuses the signal, which it does not for one's own sandbox.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Outcome, Sandbox};
    /// let mut child = Sandbox::new().command("sleep").arg("1000").spawn()?;
    /// child.kill()?;
    /// assert_eq!(child.wait()?.outcome, Outcome::Killed);
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn kill(&mut self) -> Result<()> {
        self.refuse_copies("kill")?;
        self.take_reports();
        if self.ended() || self.account.last_report.is_some() {
            return Ok(());
        }
        self.killed = true;
        self.end_followed();
        let killed = sys::signal(self.pidfd.as_fd(), libc::SIGKILL);
        self.let_die();
        match killed {
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(errno) => Err(Error::new(Stage::Run, "kill", "sandbox", errno)),
        }
    }

    /// Lets the sandbox go: it runs on without a handle, and outlives the caller. Its wall time and
    /// the end of everything with its program stay. The caller's process reaps it with its next
    /// spawn.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] if the warden or init cannot be told, or with `EBUSY` if the sandbox
    /// [learns](crate::Sandbox::learn), as nobody would answer for the journal after the caller's end; the
    /// sandbox is ended then.
    ///
    /// # Examples
    ///
    /// ```
    /// let child = stockade::Sandbox::new().command("true").spawn()?;
    /// child.detach()?;
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn detach(mut self) -> Result<()> {
        if self.status.is_some() {
            return Ok(());
        }
        self.refuse_copies("detach")?;
        self.resume()?;
        let failed = |errno| Error::new(Stage::Run, "detach", "sandbox", errno);
        if self.journal.is_some() {
            let object = "a sandbox that learns";
            return Err(Error::new(Stage::Run, "detach", object, Errno::EBUSY));
        }
        warden::detach(self.warden_id).map_err(failed)?;
        if let (true, Some(control)) = (self.supervised, &self.control) {
            let flags = MsgFlags::MSG_NOSIGNAL;
            let told = send(std::os::fd::AsRawFd::as_raw_fd(control), &[DETACH], flags);
            match told {
                Ok(_) | Err(Errno::EPIPE | Errno::ECONNRESET) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
        self.detached = true;
        self.pausable = None;
        if let Some(groups) = self.groups.take() {
            groups.leave();
        }
        Ok(())
    }

    /// Lets init end what does not end with it.
    pub(super) fn end_followed(&mut self) {
        let Some(control) = self.control.as_ref().filter(|_| !self.own_pids) else {
            return;
        };
        let told = end_followed(control.as_fd());
        self.let_die();
        if told {
            sys::wait_readable(self.pidfd.as_fd(), Some(FOLLOW_WAIT));
        }
    }
}

/// Sandboxes whose handle is gone before their end was seen, to be reaped with the next spawn.
static UNREAPED: Mutex<Vec<Arc<OwnedFd>>> = Mutex::new(Vec::new());

pub(crate) fn reap_later(pidfds: Vec<Arc<OwnedFd>>) {
    // In a forked copy of the embedder a lock may be held for ever by a thread that it does not have.
    for _ in 0..100 {
        match UNREAPED.try_lock() {
            Ok(mut unreaped) => return unreaped.extend(pidfds),
            Err(TryLockError::Poisoned(held)) => return held.into_inner().extend(pidfds),
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    log::warn!("{} processes are not reaped", pidfds.len());
}

/// Reaps what has ended since.
pub(crate) fn reap_the_detached() {
    // Nobody waits here: a lock that is taken is left to who has it.
    let Ok(mut unreaped) = UNREAPED.try_lock() else {
        return;
    };
    unreaped.retain(|pidfd| {
        let ended = sys::wait_readable(pidfd.as_fd(), Some(Duration::ZERO));
        if ended {
            if let Err(errno) = sys::reap(pidfd.as_fd()) {
                log::trace!("reaped elsewhere: {errno}");
            }
        }
        !ended
    });
}

impl Drop for Child {
    fn drop(&mut self) {
        let maker = self.maker.take();
        // In a forked copy of the embedder the sandbox is somebody else's.
        if self.owner != std::process::id() || self.status.is_some() {
            std::mem::forget(maker);
            return;
        }
        if !self.detached {
            self.end_followed();
            if !kill(self.pidfd.as_fd()) {
                // Without its socket it ends by itself.
                let told = self.control.as_ref().is_some_and(|it| end_followed(it.as_fd()));
                log::debug!("sandbox {} is told to end: {told}", self.pid);
            }
            self.let_die();
            if sys::wait_readable(self.pidfd.as_fd(), Some(DROP_WAIT)) && self.ended() {
                self.network.take().into_iter().for_each(Lent::give_back);
                return;
            }
            log::error!("sandbox {} does not end; it is reaped later", self.pid);
        }
        let left: Vec<_> = [Some(Arc::clone(&self.pidfd)), maker.map(|maker| maker.keep().1)]
            .into_iter()
            .flatten()
            .collect();
        // It goes on, and has its uppers.
        std::mem::forget(std::mem::take(&mut self.held));
        reap_later(left);
    }
}
