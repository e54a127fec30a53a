//! A command of a session, by its handle: who looks after it, whose that is, and when it is given back.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use nix::errno::Errno;

use super::Child;
use crate::control::end_followed;
use crate::error::{Error, Result, Stage};
use crate::session::supervisors::Supervisor;
use crate::wire::{LAST, ended};

impl Child {
    /// Whether this is a command of a session, and its handle that of a forked copy of the caller.
    pub(super) fn is_a_copys(&self) -> bool {
        self.hosted.is_some() && self.owner != std::process::id()
    }

    /// Who looks after a command of a session looks after the next one as soon as one handle has heard the end: not
    /// that of a forked copy of the caller.
    pub(super) fn refuse_copies(&self, operation: &'static str) -> Result<()> {
        if !self.is_a_copys() {
            return Ok(());
        }
        let object = format!("(the handle is process {}'s)", self.owner);
        Err(Error::new(Stage::Run, operation, object, Errno::EPERM))
    }

    /// Who looks after it is to end with it.
    pub(crate) fn expose(&self) {
        let nobodys = self.hosted.is_none() || self.is_a_copys();
        if nobodys || self.exposed.swap(true, Ordering::Relaxed) {
            return;
        }
        // Short of memory, it is tried again.
        if (0..4).any(|_| self.tell_init(&[LAST], &[]).is_ok()) {
            return;
        }
        // Else who waits for its end would do so for ever.
        let told = self.control.as_ref().is_some_and(|control| end_followed(control.as_fd()));
        log::error!(
            "sandbox {} is told to end, as its supervisor cannot be told: {told}",
            self.pid
        );
    }

    /// Whether who has looked after a command of a session can look after another, and nobody else is to end it.
    pub(super) fn goes_on(&self) -> bool {
        let end = self.account.last_report.as_ref();
        let is_ours = !self.killed && !self.exposed.load(Ordering::Relaxed);
        let was_paused = self.paused.is_some() || self.pausable.is_some();
        let has_both = self.control.is_some() && self.program.is_some();
        self.hosted.is_some()
            && (is_ours && !was_paused && has_both)
            && end.is_some_and(|end| end.numbers[ended::GOES_ON] != 0)
    }

    /// From here on its pidfd is that of the program, which has ended.
    pub(super) fn give_back(&mut self) {
        let (hosted, program) = (self.hosted.take(), self.program.take());
        let (Some(hosted), Some(control), Some(program)) = (hosted, self.control.take(), program)
        else {
            return;
        };
        let pidfd = std::mem::replace(&mut self.pidfd, Arc::new(program));
        let (warden_id, limited) = (std::mem::take(&mut self.warden_id), self.deadline);
        hosted.give_back(Supervisor { pid: self.pid, pidfd, control, warden_id, limited });
    }
}
