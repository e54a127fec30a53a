//! What the control groups tell of a running sandbox, and changes of its limits.

use nix::errno::Errno;

use super::Child;
use crate::cgroup::group::Groups;
use crate::cgroup::{Events, Limits, Stats};
use crate::error::{Error, Result, Stage};
use crate::sys;
use crate::wire::CPU_TIME;

impl Child {
    /// What the sandbox's control groups tell now; after its end, what they told last
    /// ([cgroups(7)](https://man7.org/linux/man-pages/man7/cgroups.7.html)). `None` in it is what
    /// no limit of the sandbox has counted, or the kernel does not say.
    ///
    /// # Errors
    ///
    /// None so far: what cannot be read is `None`.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// // Not run: it needs a control group that the caller may write to.
    /// use stockade::Sandbox;
    /// let mut child = Sandbox::new().memory_limit(64 << 20).command("sleep").arg("9").spawn()?;
    /// println!("{:?} bytes", child.stats()?.memory.current);
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn stats(&mut self) -> Result<Stats> {
        if self.ended() {
            let usage = self.status.as_ref().and_then(|status| status.usage.as_ref());
            return Ok(usage.map(|usage| usage.stats.clone()).unwrap_or_default());
        }
        Ok(self.groups.as_ref().map(Groups::stats).unwrap_or_default())
    }

    /// The memory that its group is charged with now, if that is counted.
    pub(crate) fn memory(&self) -> Option<u64> {
        self.groups.as_ref().and_then(Groups::memory)
    }

    /// What the limits of memory and of processes do from now on, as it happens
    /// ([inotify(7)](https://man7.org/linux/man-pages/man7/inotify.7.html)).
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] if there is no descriptor to be had, or the groups are gone.
    ///
    /// # Examples
    ///
    /// ```
    /// let child = stockade::Sandbox::new().command("true").spawn()?;
    /// // Without limits there is nothing to tell, until the end.
    /// assert_eq!(child.events()?.count(), 0);
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn events(&self) -> Result<Events> {
        self.expose();
        Events::new(self.groups.as_ref(), &self.pidfd)
    }

    /// Changes limits while the sandbox runs: those that are given, the others stay
    /// ([cgroups(7)](https://man7.org/linux/man-pages/man7/cgroups.7.html)). A group is not made
    /// later: an empty value at the start, which limits nothing, makes room for one.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for contradictions; [`Error::Unsupported`] for a kind of limit whose
    /// controller is not where the sandbox has a group already, and for memory on v2 if that was not
    /// counted from the start; [`Error::Failed`] if the kernel refuses one: those before it
    /// are in force then.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// // Not run: it needs a control group that the caller may write to.
    /// use stockade::{Limits, Memory, Sandbox};
    /// let mut child = Sandbox::new().memory_limit(64 << 20).command("sleep").arg("9").spawn()?;
    /// child.update(&Limits::new().memory(Memory::new().max(128 << 20)))?;
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn update(&mut self, limits: &Limits) -> Result<()> {
        let mut problems = Vec::new();
        self.sandbox.policy().limit_problems(limits, &mut problems);
        if !problems.is_empty() {
            return Err(Error::Invalid(problems));
        }
        if self.ended() {
            return Err(Error::new(Stage::Run, "update limits", "(it has ended)", Errno::ESRCH));
        }
        let mut none = Groups::default();
        let groups = self.groups.as_mut().unwrap_or(&mut none);
        groups.update(limits)?;
        match (limits.cpu_time, groups.cpu_usage(limits)?) {
            (Some(time), Some(used)) => {
                let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
                let cpus = sys::cpus().to_ne_bytes();
                let word = [&[CPU_TIME, 0, 0, 0], &cpus[..], &nanos.to_ne_bytes()].concat();
                self.tell_init(&word, &[std::os::fd::AsRawFd::as_raw_fd(&used)])
            }
            _ => Ok(()),
        }
    }
}
