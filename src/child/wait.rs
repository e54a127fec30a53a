//! Waiting for the end of a sandbox, by its handle.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::Child;
use super::pause::make_pausable;
use super::reader::Reader;
use crate::cgroup::group::Groups;
use crate::control::{Received, receive_now};
use crate::error::{Error, Result, Stage};
use crate::networks::Lent;
use crate::outcome::{End, Output, Status};
use crate::process::kill;
use crate::session::Hosted;
use crate::spawn::{COUNTING, SLACK};
use crate::sys::{self, Reaped};

impl Child {
    /// Waits until the program has ended and everything that it left is gone
    /// ([wait(2)](https://man7.org/linux/man-pages/man2/wait.2.html)). Closes a piped standard
    /// input first, as a program that reads it to its end would wait too.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] if the kernel cannot be asked; not for anything that the program does.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut child = stockade::Sandbox::new().command("false").spawn()?;
    /// assert_eq!(child.wait()?.outcome.code(), Some(1));
    /// // It can be asked again.
    /// assert_eq!(child.wait()?.outcome.code(), Some(1));
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn wait(&mut self) -> Result<Status> {
        drop(self.stdin.take());
        loop {
            if let Some(status) = self.wait_timeout(Duration::MAX)? {
                return Ok(status);
            }
        }
    }

    /// Like [`wait`](Self::wait), without waiting: `None` if it still runs. Leaves standard input
    /// open.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    ///
    /// # Examples
    ///
    /// ```
    /// let mut child = stockade::Sandbox::new().command("sleep").arg("1000").spawn()?;
    /// assert_eq!(child.try_wait()?, None);
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn try_wait(&mut self) -> Result<Option<Status>> {
        self.wait_timeout(Duration::ZERO)
    }

    /// Like [`wait`](Self::wait), for that long at the most: `None` if it still runs. Leaves
    /// standard input open. Any duration is allowed: zero is [`try_wait`](Self::try_wait), and
    /// `Duration::MAX` waits for ever.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// let mut child = stockade::Sandbox::new().command("sleep").arg("1000").spawn()?;
    /// assert_eq!(child.wait_timeout(Duration::from_millis(1))?, None);
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<Option<Status>> {
        let until = Instant::now().checked_add(timeout);
        self.refuse_copies("wait")?;
        loop {
            self.take_reports();
            if self.ended() {
                return Ok(self.status.clone());
            }
            let mut left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return Ok(None);
            }
            left = self.enforce_deadline(left);
            self.sleep(&[], left)?;
        }
    }

    /// Waits as [`wait`](Self::wait) does, and reads what comes through piped standard output and
    /// standard error meanwhile, up to [`Command::keep_output`](crate::Command::keep_output) bytes
    /// of each; the rest is read and dropped, so that the program never blocks on it.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Sandbox, Stdio};
    /// let child = Sandbox::new().command("echo").arg("hello").stdout(Stdio::piped()).spawn()?;
    /// assert_eq!(child.wait_with_output()?.stdout, b"hello\n");
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn wait_with_output(mut self) -> Result<Output> {
        self.refuse_copies("wait")?;
        drop(self.stdin.take());
        let terminal = self.terminal.take().map(OwnedFd::from);
        let is_terminal = terminal.is_some();
        let stdout = terminal.or(self.stdout.take().map(OwnedFd::from));
        let stderr = self.stderr.take().map(OwnedFd::from);
        let keep = self.keep_bytes;
        let mut readers =
            [Reader::new(stdout, is_terminal, keep), Reader::new(stderr, false, keep)];
        let status = loop {
            self.take_reports();
            if self.ended() {
                if let Some(status) = self.status.clone() {
                    break status;
                }
            }
            let left = self.enforce_deadline(None);
            self.sleep(&[readers[0].fd(), readers[1].fd()], left)?;
            for reader in &mut readers {
                reader.read_available();
            }
        };
        // What was written before the end is in the pipes; who else holds them is not waited for.
        for reader in &mut readers {
            reader.read_available();
        }
        Ok(collected(status, readers))
    }

    /// Whether what init says last is the end, and another process reaps it. Groups are free only when all has
    /// ended, and who has entered is nobody that init waits for.
    pub(super) fn ends_by_word(&self) -> bool {
        let entered = self.entered.load(Ordering::Relaxed);
        self.hosted.is_some() || self.template.is_some() && self.groups.is_none() && !entered
    }

    /// Ends the sandbox if it is past its deadline and has not ended itself; returns how long to
    /// sleep.
    pub(super) fn enforce_deadline(&mut self, left: Option<Duration>) -> Option<Duration> {
        let stood = self.hosted.as_ref().map_or(Some(Duration::ZERO), Hosted::stood);
        let deadline = self.deadline.filter(|_| self.paused.is_none());
        let (Some(deadline), Some(stood)) = (deadline, stood) else {
            return left;
        };
        if self.is_a_copys() {
            return left;
        }
        let deadline = deadline + stood;
        let past = |slack| (deadline + slack).saturating_duration_since(Instant::now());
        let mut until = past(SLACK);
        if until.is_zero() {
            self.take_reports();
            if self.account.counts {
                until = past(SLACK + COUNTING);
            }
        }
        if until.is_zero() {
            kill(self.pidfd.as_fd());
            return left;
        }
        Some(left.map_or(until, |left| left.min(until)))
    }

    /// Waits for the end or one of the given descriptors.
    pub(super) fn sleep(
        &self,
        others: &[Option<BorrowedFd<'_>>],
        timeout: Option<Duration>,
    ) -> Result<()> {
        // Else reports wait in the socket until the end is seen: they are not worth a wake-up.
        let word = self.control.as_ref().filter(|_| self.ends_by_word());
        let own = [Some(self.pidfd.as_fd()), word.map(AsFd::as_fd)];
        let fds = own.iter().chain(others).flatten();
        let mut set: Vec<_> = fds.map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
        let timeout = timeout.map_or(PollTimeout::NONE, |left| {
            // Rounded up: a poll that returns too early would spin.
            let millis = left.as_millis().saturating_add(1).min(i32::MAX as u128);
            PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
        });
        match poll(&mut set, timeout) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(Error::new(Stage::Run, "poll", "sandbox", errno)),
        }
    }

    /// Takes in what init has sent.
    pub(super) fn take_reports(&mut self) {
        while let Some(control) = self.control.as_ref().filter(|_| !self.is_a_copys()) {
            match receive_now(control.as_fd()) {
                None => return,
                Some(Received::Report(report, _)) => self.account.note(report),
                Some(_) => {
                    // If words cannot be heard, the end has to be seen.
                    self.expose();
                    self.control = None;
                }
            }
        }
    }

    /// Whether the end has come; fills in the status then.
    pub(super) fn ended(&mut self) -> bool {
        if self.status.is_some() {
            return true;
        }
        if self.is_a_copys() {
            return false;
        }
        let by_word = self.ends_by_word() && self.account.last_report.is_some();
        let goes_on = by_word && self.goes_on();
        if goes_on {
            // Who looks after it is there for the next one.
        } else if by_word {
            // Nothing else runs, and it ends by itself: that it does is not left to it.
            kill(self.pidfd.as_fd());
        } else if !sys::wait_readable(self.pidfd.as_fd(), Some(Duration::ZERO)) {
            return false;
        }
        let reaped = if goes_on {
            None
        } else {
            // Its last words came before its end.
            self.take_reports();
            self.reap(by_word)
        };
        self.end_what_is_followed();
        self.status = Some(self.status_at_the_end(reaped));
        self.network.take().into_iter().for_each(Lent::give_back);
        if let (Some(template), true) = (self.template.take(), by_word) {
            template.outlive(&self.pidfd);
        }
        if goes_on {
            self.give_back();
        }
        self.let_go();
        true
    }

    /// Init may have been killed before it had ended what it follows.
    fn end_what_is_followed(&mut self) {
        if let Some(groups) = self.groups.as_ref().filter(|_| !self.own_pids) {
            let (policy, made) = (self.sandbox.policy(), self.pausable.take());
            let make = || {
                made.map_or_else(
                    || make_pausable(policy, Some(groups), self.pid, false),
                    |it| Ok(Some(it)),
                )
            };
            groups.kill(self.pid, make);
        }
    }

    /// How it ended; the groups are there still.
    fn status_at_the_end(&mut self, reaped: Option<Reaped>) -> Status {
        let stats = self.groups.as_ref().map(Groups::stats).unwrap_or_default();
        let end = End {
            stats,
            report: self.account.last_report.as_deref(),
            reaped,
            supervised: self.supervised,
            killed: self.killed,
            past_deadline: self.deadline.is_some_and(|deadline| Instant::now() >= deadline),
            wall: self.started.elapsed(),
            left: std::mem::take(&mut self.account.left),
            left_count: self.account.left_count,
            memory_mounts: &self.memory_mounts,
        };
        let status = end.status();
        log::debug!("run: {} {} in {:?}", self.pid, status.outcome, self.started.elapsed());
        status
    }

    /// Closes what only a program that runs needs.
    fn let_go(&mut self) {
        self.control = None;
        self.pausable = None;
        self.groups = None;
        self.hosted = None;
        self.maker = None;
        self.lowered = None;
    }
}

impl Child {
    fn reap(&self, by_word: bool) -> Option<Reaped> {
        match sys::reap(self.pidfd.as_fd()) {
            // By its word it is the caller's child only if its template was killed.
            Ok(reaped) => Some(reaped),
            Err(_) if by_word => None,
            // The embedder ignores SIGCHLD or has reaped it itself.
            Err(_) => sys::ended_elsewhere(self.pidfd.as_fd()),
        }
    }
}

/// An end, with what was read until then.
pub(super) fn collected(status: Status, [out, err]: [Reader; 2]) -> Output {
    Output {
        outcome: status.outcome,
        usage: status.usage,
        left_count: status.left_count,
        left: status.left,
        disk_full: status.disk_full,
        stdout: out.kept,
        stderr: err.kept,
        stdout_truncated: out.truncated,
        stderr_truncated: err.truncated,
    }
}
