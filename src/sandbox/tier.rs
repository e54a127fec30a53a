//! How strong the sandbox is: what it does without, by name.

use super::Sandbox;
use std::path::Path;

use crate::error::{Error, Result};
use crate::private::PrivateTmp;

impl Sandbox {
    /// Makes no namespace at all, for hosts that forbid user namespaces: the program is held by Landlock,
    /// the system call filter, resource limits, control groups and `no_new_privs` (Linux 6.2 for the
    /// files, 6.12 for signals, which otherwise is an error unless
    /// [`Feature::LandlockScopes`](crate::Feature::LandlockScopes) is best effort;
    /// [landlock(7)](https://man7.org/linux/man-pages/man7/landlock.7.html)). A widening.
    ///
    /// What namespaces give is an error as long as it is asked for and not
    /// [`best_effort`](Self::best_effort); one error lists all of it, and
    /// [`Child::missing`](crate::Child::missing) and the [`plan`](Self::plan) what the sandbox does
    /// without. In place of it:
    ///
    /// * Files: of the host's tree, at the same paths, the system's directories can be read and executed,
    ///   what is bound there and back at its own path as the bind says, and nothing else; nothing is
    ///   writable but such binds, no /tmp, HOME or /proc is there;
    ///   [`private_tmp`](Self::private_tmp) makes a directory to bind. That a file exists, and its attributes
    ///   other than extended ones, can be found out. What is beneath a bind is allowed as well: less
    ///   than that is an error. All that needs a mount contradicts it.
    /// * Modes, owners, times and extended attributes do not change at all; see
    ///   [`Feature::FileAttributes`](crate::Feature::FileAttributes), which compilers and `cp -p` need.
    /// * Network: no sockets. With [`Network::Host`](crate::Network::Host) those of IPv4 and IPv6. Of Unix
    ///   sockets there are connected pairs only.
    /// * Processes: those of the host can be counted. None outside can be signalled, traced, limited or
    ///   scheduled. The end is that of [`without_atomic_end`](Self::without_atomic_end).
    /// * No System V objects, message queues and keys.
    ///
    /// Ids are the host's: the caller's own, or of a root caller nobody's. A root caller's files are not
    /// shown as the program's own, and a limit of processes counts all of that user's on the host.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Feature, Sandbox};
    /// let sandbox = Sandbox::new().without_namespaces();
    /// let error = sandbox.plan().unwrap_err();
    /// assert!(error.to_string().contains("Feature::PidNamespace"), "{error}");
    ///
    /// let lost = [
    ///     Feature::UserNamespace, Feature::MountNamespace, Feature::PidNamespace, Feature::AtomicEnd,
    ///     Feature::NetworkNamespace, Feature::IpcNamespace, Feature::UtsNamespace,
    ///     Feature::CgroupNamespace, Feature::TimeNamespace,
    /// ];
    /// let sandbox = lost.into_iter().fold(sandbox, Sandbox::best_effort);
    /// # let sandbox = sandbox.best_effort(Feature::LandlockScopes);
    /// # if matches!(sandbox.plan(), Err(stockade::Error::Unsupported { .. })) { return Ok(()); }
    /// let script = "test -r /usr/bin/env && ! cat /etc/passwd && ! ls /proc";
    /// assert!(sandbox.command("sh").args(["-c", script]).status()?.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn without_namespaces(self) -> Self {
        self.with(|policy| policy.without_namespaces = true)
    }

    /// Makes a directory below `parent` for one program to write to, with mode 0700, of the program's id; where
    /// there is no /tmp of the sandbox's own, as [`without_namespaces`](Self::without_namespaces). It has to
    /// be bound, and named to the program by TMPDIR, and HOME if it wants one; it is no widening by itself. What
    /// is written counts nowhere but on that file system, so choose one with a limit, such as a tmpfs of the
    /// host's ([tmpfs(5)](https://man7.org/linux/man-pages/man5/tmpfs.5.html)).
    ///
    /// # Errors
    ///
    /// The call that `parent` does not allow.
    ///
    /// # Examples
    ///
    /// ```
    /// let sandbox = stockade::Sandbox::new();
    /// let tmp = sandbox.private_tmp("/tmp")?;
    /// let sandbox = sandbox.bind_rw(tmp.path(), tmp.path());
    /// let sort = sandbox.command("sort").arg("/etc/passwd");
    /// let sort = sort.env("TMPDIR", tmp.path()).env("HOME", tmp.path());
    /// assert!(sort.status()?.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn private_tmp(&self, parent: impl AsRef<Path>) -> Result<PrivateTmp> {
        PrivateTmp::new(self.policy(), parent.as_ref())
    }

    /// Lets the program make namespaces and mounts of its own, in a user namespace: sandboxes in the sandbox, as
    /// browsers, bubblewrap and this crate make them
    /// ([user_namespaces(7)](https://man7.org/linux/man-pages/man7/user_namespaces.7.html)). A
    /// widening: in one it can mount a full /proc over the reduced one, and reach kernel code that
    /// otherwise only root does; and Landlock's wall around files, which would forbid mounting, is left
    /// out. An unprivileged caller's program can mount control groups, too, and lift its own limits, which are files of the
    /// same user's, unless cgroup v2 is mounted with `nsdelegate`, as systemd does. [`Child::missing`](crate::Child::missing) has
    /// [`Feature::NestingForbidden`](crate::Feature::NestingForbidden) and
    /// [`Feature::Landlock`](crate::Feature::Landlock) then.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let nest = |sandbox: Sandbox| sandbox.command("unshare").args(["--user", "true"]).status();
    /// assert!(!nest(Sandbox::new())?.outcome.is_success());
    /// assert!(nest(Sandbox::new().allow_nesting())?.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn allow_nesting(self) -> Self {
        self.with(|policy| policy.nesting = true)
    }

    /// Lets processes of the sandbox trace each other, read each other's memory and descriptors, and do without
    /// random addresses, for debuggers, strace and the sanitizers of compilers
    /// ([ptrace(2)](https://man7.org/linux/man-pages/man2/ptrace.2.html),
    /// [personality(2)](https://man7.org/linux/man-pages/man2/personality.2.html)). A widening: it
    /// is a part of the kernel with a history, and what one process keeps from another is kept no more.
    /// Init and what is outside cannot be traced. [`Child::missing`](crate::Child::missing) has
    /// [`Feature::DebuggingForbidden`](crate::Feature::DebuggingForbidden) then.
    ///
    /// It widens the default profile and the strict one; those of other tools decide for themselves.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let fixed = |sandbox: Sandbox| sandbox.command("setarch").args(["-R", "true"]).status();
    /// assert!(!fixed(Sandbox::new())?.outcome.is_success());
    /// assert!(fixed(Sandbox::new().allow_debugging())?.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn allow_debugging(self) -> Self {
        self.with(|policy| policy.debugging = true)
    }

    /// This sandbox if the host can make it, else the same
    /// [`without_namespaces`](Self::without_namespaces); found out by making it
    /// ([user_namespaces(7)](https://man7.org/linux/man-pages/man7/user_namespaces.7.html)). A widening:
    /// which one it is [`Plan::namespaces`](crate::Plan::namespaces) and
    /// [`Child::missing`](crate::Child::missing) tell. What the weaker one lacks has to be
    /// [`best_effort`](Self::best_effort) all the same.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if the description contradicts itself; where neither can be made, what the
    /// stronger one fails by.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let sandbox = Sandbox::new().strongest_available()?;
    /// assert!(!sandbox.plan()?.namespaces().is_empty());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn strongest_available(self) -> Result<Self> {
        let error = match self.check() {
            Ok(()) => return Ok(self),
            Err(error @ Error::Invalid(_)) => return Err(error),
            Err(error) => error,
        };
        let weaker = self.without_namespaces();
        match weaker.check() {
            Ok(()) => {
                log::info!("without namespaces, as they cannot be made: {error}");
                Ok(weaker)
            }
            Err(other) => {
                log::debug!("without namespaces, either: {other}");
                Err(error)
            }
        }
    }
}
