//! What one command's sandbox has besides.

use std::path::PathBuf;
use std::time::Duration;

use super::{Command, Within};
use crate::cgroup::Limits;
use crate::rootfs::{Bind, Tmpfs};
use crate::sandbox::Sandbox;

/// What this command's sandbox has besides what the [`Sandbox`] or [`Prepared`](crate::Prepared) says, from
/// which others are made as before. In a
/// [`Session`](crate::Session) or [`Pool`](crate::Pool), or a [`Child`](crate::Child)'s sandbox, which exist beforehand, it is
/// [`Error::Invalid`](crate::Error::Invalid).
///
/// Where it can, it is added to a copy of the [template](crate::Prepared::has_template): limits, and what is put where each
/// sandbox has a file system of its own (/tmp, HOME, a tmpfs), where the prepared one has a file or directory or
/// mounts something, or anywhere in the [directory](crate::Rootfs::directory) that is its root. Otherwise the sandbox is looked
/// through anew and made alone, which is the same and takes longer: where a place would have to be made in a root that all
/// copies have, in /etc, below a bind, or where a link leads; and for every bind of an unprivileged caller, as in a copy the
/// host has no names, and only root opens what can be handed in. A place is there if it was prepared, as by
/// `.data(Data::directory("/input"))`.
impl Command {
    fn adding(mut self, add: impl FnOnce(Sandbox) -> Sandbox) -> Self {
        self.sandbox = add(self.sandbox);
        self
    }

    /// Whether it is to have another sandbox than the one that it would wait for.
    pub(super) fn is_other_than_made(&self) -> bool {
        match &self.within {
            Within::Own | Within::Prepared(_) => false,
            Within::Session(session) => !self.sandbox.is_same(session.sandbox()),
            Within::Pool(pool) => !self.sandbox.is_same(pool.sandbox()),
            Within::Child(entered) => !self.sandbox.is_same(entered.sandbox()),
        }
    }

    /// Shows a file or directory of the host's in this command's sandbox, as [`Sandbox::bind_ro`]; not in a
    /// [`Session`](crate::Session) or [`Pool`](crate::Pool)
    /// ([mount(2)](https://man7.org/linux/man-pages/man2/mount.2.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// let prepared = stockade::Sandbox::new().prepare()?;
    /// let input = tempfile::NamedTempFile::new()?;
    /// std::fs::write(&input, "hello")?;
    /// let command = prepared.command("cat").arg("/input").bind_ro(input.path(), "/input");
    /// assert_eq!(command.output()?.stdout, b"hello");
    /// // The next one has it not.
    /// assert!(!prepared.command("cat").arg("/input").status()?.outcome.is_success());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn bind_ro(self, source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        self.adding(|sandbox| sandbox.bind_ro(source, target))
    }

    /// The same, writable, as [`Sandbox::bind_rw`]: what the program writes there is the host's
    /// ([mount(2)](https://man7.org/linux/man-pages/man2/mount.2.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// let prepared = stockade::Sandbox::new().prepare()?;
    /// let out = tempfile::tempdir()?;
    /// prepared.command("touch").arg("/out/made").bind_rw(out.path(), "/out").status()?;
    /// assert!(out.path().join("made").exists());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn bind_rw(self, source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        self.adding(|sandbox| sandbox.bind_rw(source, target))
    }

    /// The same in all variants, as [`Sandbox::bind`]
    /// ([mount(2)](https://man7.org/linux/man-pages/man2/mount.2.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Bind, Sandbox};
    /// let prepared = Sandbox::new().prepare()?;
    /// let bind = Bind::read_only("/usr/bin", "/tools").no_exec();
    /// assert!(prepared.command("/tools/true").bind(bind).spawn().is_err());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn bind(self, bind: Bind) -> Self {
        self.adding(|sandbox| sandbox.bind(bind))
    }

    /// An empty, writable directory in memory, as [`Sandbox::tmpfs`]
    /// ([tmpfs(5)](https://man7.org/linux/man-pages/man5/tmpfs.5.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// let prepared = stockade::Sandbox::new().prepare()?;
    /// assert!(prepared.command("touch").arg("/new/x").tmpfs("/new").status()?.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn tmpfs(self, path: impl Into<PathBuf>) -> Self {
        self.mount_tmpfs(Tmpfs::new(path))
    }

    /// The same in all variants, as [`Sandbox::mount_tmpfs`]
    /// ([tmpfs(5)](https://man7.org/linux/man-pages/man5/tmpfs.5.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Sandbox, Tmpfs};
    /// let prepared = Sandbox::new().prepare()?;
    /// let command = prepared.command("sh").args(["-c", "head -c 100000 /dev/zero >/small/x"]);
    /// let status = command.mount_tmpfs(Tmpfs::new("/small").size(4096)).status()?;
    /// assert!(!status.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn mount_tmpfs(self, tmpfs: Tmpfs) -> Self {
        self.adding(|sandbox| sandbox.mount_tmpfs(tmpfs))
    }

    /// The most memory, in bytes, as [`Sandbox::memory_limit`]
    /// ([cgroups(7)](https://man7.org/linux/man-pages/man7/cgroups.7.html)).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// // Not run: it needs a control group that the caller may write to.
    /// let prepared = stockade::Sandbox::new().prepare()?;
    /// prepared.command("cc").memory_limit(256 << 20).status()?;
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn memory_limit(self, bytes: u64) -> Self {
        self.adding(|sandbox| sandbox.memory_limit(bytes))
    }

    /// How many CPUs' worth of time at the most, as [`Sandbox::cpu_limit`]
    /// ([cgroups(7)](https://man7.org/linux/man-pages/man7/cgroups.7.html)).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// // Not run: it needs a control group that the caller may write to.
    /// let prepared = stockade::Sandbox::new().prepare()?;
    /// prepared.command("cc").cpu_limit(0.5).status()?;
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn cpu_limit(self, cpus: f64) -> Self {
        self.adding(|sandbox| sandbox.cpu_limit(cpus))
    }

    /// How many processes and threads at the most, as [`Sandbox::pids_limit`]
    /// ([cgroups(7)](https://man7.org/linux/man-pages/man7/cgroups.7.html)).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// // Not run: it needs a control group that the caller may write to.
    /// let prepared = stockade::Sandbox::new().prepare()?;
    /// prepared.command("cc").pids_limit(16).status()?;
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn pids_limit(self, count: u64) -> Self {
        self.adding(|sandbox| sandbox.pids_limit(count))
    }

    /// How much CPU time all of it may use, as [`Sandbox::cpu_time`]
    /// ([cgroups(7)](https://man7.org/linux/man-pages/man7/cgroups.7.html)).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// // Not run: it needs a control group that the caller may write to.
    /// let prepared = stockade::Sandbox::new().prepare()?;
    /// prepared.command("cc").cpu_time(std::time::Duration::from_secs(9)).status()?;
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn cpu_time(self, limit: Duration) -> Self {
        self.adding(|sandbox| sandbox.cpu_time(limit))
    }

    /// All limits by control groups, in the place of the sandbox's, as [`Sandbox::limits`]
    /// ([cgroups(7)](https://man7.org/linux/man-pages/man7/cgroups.7.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// // None at all, so that no group is made.
    /// let prepared = stockade::Sandbox::new().pids_limit(16).prepare()?;
    /// let command = prepared.command("true").limits(stockade::Limits::new());
    /// assert!(command.status()?.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn limits(self, limits: Limits) -> Self {
        self.adding(|sandbox| sandbox.limits(limits))
    }
}
