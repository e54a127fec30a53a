//! A sandbox that stands still.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::Child;
use crate::cgroup::freezer::Pausable;
use crate::cgroup::group::Groups;
use crate::error::{Error, Feature, Result, Stage};
use crate::policy::Policy;
use crate::process::hold_closed_streams;
use crate::spawn::{patience, tell_limit, tell_places};
use crate::sys;
use crate::wire::{BY_SIGNAL, PAUSE, RESUME};

/// Since when the time stands still, and by what means.
#[derive(Debug, Clone, Copy)]
pub(super) struct Paused {
    pub(super) since: Instant,
    pub(super) by_signal: bool,
}

impl Child {
    /// Stops everything inside, whatever it does, until [`resume`](Self::resume)
    /// ([cgroups(7)](https://man7.org/linux/man-pages/man7/cgroups.7.html), freezer). The wall time
    /// stands still meanwhile; waiting for the end does not end.
    ///
    /// Where the caller may use a freezer of control groups, and put what was in it back into the group
    /// where it was, the program is not interrupted and sees no other group than before. Elsewhere,
    /// and where other programs were [started in it](Self::command) and it has no limits by control
    /// groups, init stops every process by SIGSTOP and continues it by SIGCONT, which also continues
    /// what was stopped before. Without an init that can, a freezer is used whether there is a way back
    /// or not: /proc/self/cgroup shows the name of its group then. A program that is about to start
    /// does so after the pause. Ending a paused sandbox is possible in every way.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with `ESRCH` if it has ended, `ETIMEDOUT` if a process is in a system call
    /// that cannot be interrupted: all of it runs on then. [`Error::Unsupported`] if there is
    /// neither a freezer nor an init, or no pid namespace of its own.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut child = stockade::Sandbox::new().command("sleep").arg("0.1").spawn()?;
    /// child.pause()?;
    /// assert!(child.is_paused());
    /// child.resume()?;
    /// assert_eq!(child.wait()?.outcome.code(), Some(0));
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn pause(&mut self) -> Result<()> {
        if self.paused.is_some() {
            return Ok(());
        }
        self.refuse_copies("pause")?;
        self.take_reports();
        if self.ended() || self.account.last_report.is_some() {
            return Err(Error::new(Stage::Run, "pause", "(it has ended)", Errno::ESRCH));
        }
        // Who has entered descends from a process outside, so that only groups have all.
        let signal_only = self.groups.is_none() && self.entered.load(Ordering::Relaxed);
        let can_signal = self.supervised && self.own_pids;
        if self.pausable.is_none() && !signal_only {
            let _held = hold_closed_streams()?;
            let policy = self.sandbox.policy();
            self.pausable = make_pausable(policy, self.groups.as_ref(), self.pid, can_signal)?;
        }
        let by_signal = signal_only || self.pausable.is_none();
        if by_signal && !can_signal {
            let reason = "the caller may make no control group that can be frozen, and only an \
                          init with a pid namespace of its own can stop everything by signals";
            let feature = Feature::Freezer;
            return Err(Error::Unsupported { feature, reason: reason.to_owned() });
        }
        let paused = Paused { since: Instant::now(), by_signal };
        self.stands.set(true);
        let told = self.tell_init(&[PAUSE | if by_signal { BY_SIGNAL } else { 0 }], &[]);
        told.inspect_err(|_| self.stands.set(false))?;
        self.paused = Some(paused);
        let stopped = self.tell_deadline(None).and_then(|()| match &self.pausable {
            Some(pausable) if !by_signal => {
                pausable.freeze(self.groups.as_ref(), self.pid, self.supervised)
            }
            _ => Ok(()),
        });
        if stopped.is_err() {
            self.resume()?;
        }
        stopped
    }

    /// Whether it is [paused](Self::pause).
    ///
    /// # Examples
    ///
    /// ```
    /// let child = stockade::Sandbox::new().command("true").spawn()?;
    /// assert!(!child.is_paused());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    /// Lets a [paused](Self::pause) sandbox go on; nothing happens to one that is not.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] if the kernel refuses it, or init cannot be told.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut child = stockade::Sandbox::new().command("true").spawn()?;
    /// child.resume()?;
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn resume(&mut self) -> Result<()> {
        let Some(Paused { since, by_signal }) = self.paused else { return Ok(()) };
        self.refuse_copies("resume")?;
        if let Some(pausable) = &self.pausable {
            pausable.thaw()?;
        }
        self.paused = None;
        self.stands.set(false);
        let stood = since.elapsed();
        self.started = self.started.checked_add(stood).unwrap_or(self.started);
        self.deadline = self.deadline.and_then(|at| at.checked_add(stood));
        self.tell_deadline(self.deadline)?;
        self.tell_init(&[RESUME | if by_signal { BY_SIGNAL } else { 0 }], &[])
    }

    /// Until when the warden waits.
    pub(super) fn tell_deadline(&self, deadline: Option<Instant>) -> Result<()> {
        if self.deadline.is_none() {
            return Ok(());
        }
        tell_deadline(self.sandbox.policy(), self.warden_id, deadline)
    }

    /// What the warden has of it.
    pub(crate) fn watched(&self) -> Watched {
        Watched { id: self.warden_id, deadline: self.deadline }
    }

    /// What was killed while it was paused has to run on to end.
    pub(super) fn let_die(&mut self) {
        if self.paused.take().is_some() {
            self.stands.set(false);
            if let Some(Err(error)) = self.pausable.as_ref().map(Pausable::thaw) {
                log::error!("a paused sandbox does not go on to its end: {error}");
            }
        }
    }
}

/// Whom the warden ends at some time.
#[derive(Debug)]
pub(crate) struct Watched {
    id: u64,
    deadline: Option<Instant>,
}

impl Watched {
    /// Has it wait so much longer; `None` while nothing is to be ended.
    pub(crate) fn tell(&self, stood: Option<Duration>, policy: &Policy) -> Result<()> {
        let Some(deadline) = self.deadline else { return Ok(()) };
        tell_deadline(policy, self.id, stood.and_then(|stood| deadline.checked_add(stood)))
    }
}

fn tell_deadline(policy: &Policy, id: u64, deadline: Option<Instant>) -> Result<()> {
    let left = |at: Instant| at.saturating_duration_since(Instant::now()) + patience(policy);
    tell_limit(policy, id, deadline.map_or(0, |at| sys::monotonic_after(left(at))))
}

/// Where the sandbox can be frozen, and if need be `go_back` from; the warden is told first.
pub(super) fn make_pausable(
    policy: &Policy,
    groups: Option<&Groups>,
    first: u32,
    go_back: bool,
) -> Result<Option<Pausable>> {
    let told = |place| tell_places(policy, &[place]);
    Pausable::make(&policy.cgroup_parent, groups, first, go_back, told)
}
