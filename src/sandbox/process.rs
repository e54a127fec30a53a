//! What the program is as a process: privileges, system calls, limits of its own, time.

#[cfg(feature = "footprint")]
use std::path::PathBuf;
use std::time::Duration;

use super::Sandbox;
use crate::capability::Capabilities;
use crate::landlock::Landlock;
use crate::rlimit::{Limit, Resource, Rlimits};
use crate::seccomp::Seccomp;

impl Sandbox {
    /// The capabilities that are kept, over the sandbox's own namespaces; default none
    /// ([capabilities(7)](https://man7.org/linux/man-pages/man7/capabilities.7.html)).
    ///
    /// With CAP_SYS_ADMIN among them the program runs in one more user and mount namespace, so that
    /// it cannot undo the mounts it was given; all that are kept then hold over these two only.
    /// Without a user namespace they would be the host's: that needs
    /// [`allow_host_capabilities`](Self::allow_host_capabilities).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Capability, Sandbox};
    /// let sandbox = Sandbox::new().capabilities([Capability::CHOWN]);
    /// let output = sandbox.command("grep").args(["CapEff", "/proc/self/status"]).output()?;
    /// assert_eq!(output.stdout, b"CapEff:\t0000000000000001\n");
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn capabilities(self, capabilities: impl Into<Capabilities>) -> Self {
        let capabilities = capabilities.into();
        self.with(|policy| policy.capabilities = capabilities)
    }

    /// Accepts that what is kept without a user namespace of the sandbox's own is the host's: a
    /// widening to root's power, by which the program can also undo the mounts it was given
    /// ([capabilities(7)](https://man7.org/linux/man-pages/man7/capabilities.7.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Capability, Namespaces, Sandbox};
    /// let sandbox = Sandbox::new()
    ///     .namespaces(Namespaces::all() - Namespaces::USER)
    ///     .capabilities([Capability::KILL]);
    /// assert!(sandbox.plan().is_err());
    /// assert!(sandbox.allow_host_capabilities().plan().is_ok());
    /// ```
    pub fn allow_host_capabilities(self) -> Self {
        self.with(|policy| policy.host_capabilities = true)
    }

    /// Lets exec gain privileges: without this `no_new_privs` is set
    /// ([prctl(2)](https://man7.org/linux/man-pages/man2/prctl.2.html)). A widening.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let sandbox = Sandbox::new().allow_new_privileges();
    /// let output = sandbox.command("grep").args(["NoNewPrivs", "/proc/self/status"]).output()?;
    /// assert_eq!(output.stdout, b"NoNewPrivs:\t0\n");
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn allow_new_privileges(self) -> Self {
        self.with(|policy| policy.new_privileges = true)
    }

    /// The label that the program is executed with: a profile of AppArmor's, as `exec` of
    /// [apparmor(7)](https://manpages.debian.org/apparmor.7) takes it, or a context of SELinux's, whichever
    /// module is active; by default its policy decides, which mostly keeps the caller's
    /// ([proc_pid_attr(5)](https://man7.org/linux/man-pages/man5/proc_pid_attr.5.html)). A narrowing, on top of
    /// all else; init stays as the caller is labelled.
    ///
    /// Without such a module, and where it does not know the label or does not allow it, `spawn` fails with a
    /// hint; [`Feature::ExecLabel`](crate::Feature::ExecLabel) as best effort accepts the first. With
    /// `no_new_privs` AppArmor allows a caller that is confined itself only profiles that are a subset of its
    /// own, and SELinux asks for `nnp_transition`. A profile needs `flags=(attach_disconnected)` with
    /// [`hide_host_paths`](Self::hide_host_paths), where files are in no mount namespace.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Feature, Hint, Sandbox};
    /// let sandbox = Sandbox::new().exec_label("no-such-profile");
    /// let error = sandbox.command("true").spawn().unwrap_err();
    /// assert!(matches!(error.hint(), Some(Hint::NoExecLabels | Hint::UnknownLabel)), "{error}");
    /// ```
    pub fn exec_label(self, label: impl Into<String>) -> Self {
        let label = label.into();
        self.with(|policy| policy.exec_label = Some(label))
    }

    /// One resource limit; the others keep their defaults, see [`Rlimits`]
    /// ([getrlimit(2)](https://man7.org/linux/man-pages/man2/getrlimit.2.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Resource, Sandbox};
    /// let sandbox = Sandbox::new().rlimit(Resource::OpenFiles, 64);
    /// let output = sandbox.command("sh").args(["-c", "ulimit -n"]).output()?;
    /// assert_eq!(output.stdout, b"64\n");
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn rlimit(self, resource: Resource, limit: impl Into<Limit>) -> Self {
        let limit = limit.into();
        self.with(|policy| policy.rlimits = policy.rlimits.clone().set(resource, limit))
    }

    /// Notes what the program is refused, or does not find because it is not in the sandbox, each with the
    /// builder line that would allow it: [`Child::denials`](crate::Child::denials). Off by default.
    ///
    /// Nothing is allowed by it. The filter asks the caller's process about every call that is refused and
    /// every call that names a file; a thread of the caller's notes it, and answers as the filter would have. It
    /// foretells what the kernel will say a moment later, so a hostile program can mislead it: it is for
    /// programs that one gets to know. What Landlock refuses is read where the caller may read the kernel's audit
    /// log. docs/learn.md says what it sees, and what it costs.
    ///
    /// Needs init, Linux 5.5, and from 5.19 on no signal disturbs a call that waits
    /// ([seccomp_unotify(2)](https://man7.org/linux/man-pages/man2/seccomp_unotify.2.html)). A seccomp profile
    /// that kills or notifies is an error, since a program has one listener; inside, a filter with a listener
    /// gets `EBUSY`. A sandbox that learns cannot be [detached](crate::Child::detach).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let mut child = Sandbox::new().learn().command("true").spawn()?;
    /// child.wait()?;
    /// assert!(child.denials().is_empty(), "{}", child.denials());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn learn(self) -> Self {
        self.with(|policy| policy.learn = true)
    }

    /// Notes what is read and written, to compare it with these inputs: [`Child::footprint`](crate::Child::footprint)
    /// has what was read and not declared, what was declared and not read, what was written and not
    /// declared, and a digest of what was read. For tools that build. Nothing is refused by it. Off by default;
    /// needs the feature `footprint`.
    ///
    /// Paths are from the root inside; a directory stands for all below it. Reading is opening, stat, access,
    /// readlink, executing, the libraries that are mapped (they are opened), listing a directory, and looking
    /// for what is not there. How it is found out, and its limits, are those of [`learn`](Self::learn): docs/learn.md
    /// ([seccomp_unotify(2)](https://man7.org/linux/man-pages/man2/seccomp_unotify.2.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let sandbox = Sandbox::new().declare_inputs(["/usr", "/etc", "/nothing"]);
    /// let mut child = sandbox.command("true").spawn()?;
    /// child.wait()?;
    /// let footprint = child.footprint().ok_or("asked for")?;
    /// assert_eq!(footprint.unread_inputs.last(), Some(&"/nothing".into()));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "footprint")]
    pub fn declare_inputs(self, paths: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        self.with(|policy| {
            let declared = policy.declared.get_or_insert_default();
            declared.inputs.extend(paths.into_iter().map(Into::into));
        })
    }

    /// The same for what the program is to write, which it may read as well.
    ///
    /// Making, removing and renaming count, and changes of modes, owners and times
    /// ([seccomp_unotify(2)](https://man7.org/linux/man-pages/man2/seccomp_unotify.2.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let sandbox = Sandbox::new().tmpfs("/out").declare_outputs(["/out/one", "/out/two"]);
    /// let mut child = sandbox.command("touch").arg("/out/one").spawn()?;
    /// child.wait()?;
    /// let footprint = child.footprint().ok_or("asked for")?;
    /// assert_eq!(footprint.writes, ["/out/one"].map(std::path::PathBuf::from));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "footprint")]
    pub fn declare_outputs(self, paths: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        self.with(|policy| {
            let declared = policy.declared.get_or_insert_default();
            declared.outputs.extend(paths.into_iter().map(Into::into));
        })
    }

    /// Which system calls the program may make; the default is [`Seccomp::default`], Linux 3.5,
    /// [seccomp(2)](https://man7.org/linux/man-pages/man2/seccomp.2.html).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Sandbox, Seccomp};
    /// let sandbox = Sandbox::new().seccomp(Seccomp::strict());
    /// let output = sandbox.command("cat").arg("/etc/hostname").output()?;
    /// assert_eq!(output.stdout, b"stockade\n");
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn seccomp(self, seccomp: Seccomp) -> Self {
        self.with(|policy| policy.seccomp = seccomp)
    }

    /// What is refused whatever mounts and namespaces let through; the default is
    /// [`Landlock::default`], as far as the kernel has it (Linux 5.19,
    /// [landlock(7)](https://man7.org/linux/man-pages/man7/landlock.7.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Feature, Landlock, Sandbox};
    /// let sandbox = Sandbox::new()
    ///     .landlock(Landlock::default().connect_tcp([]))
    ///     .best_effort(Feature::LandlockPorts);
    /// assert!(sandbox.command("/bin/true").status()?.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn landlock(self, landlock: Landlock) -> Self {
        self.with(|policy| policy.landlock = landlock)
    }

    /// All resource limits; what was said before with [`rlimit`](Self::rlimit) is forgotten
    /// ([getrlimit(2)](https://man7.org/linux/man-pages/man2/getrlimit.2.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Resource, Rlimits, Sandbox};
    /// let limits = Rlimits::default().set(Resource::Processes, 64).set(Resource::Core, 0);
    /// assert!(Sandbox::new().rlimits(limits).command("true").status()?.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn rlimits(self, rlimits: Rlimits) -> Self {
        self.with(|policy| policy.rlimits = rlimits)
    }

    /// The nice value of the program, -20 to 19; default 0, to which nothing is changed. Below the
    /// caller's own only for those who may ([setpriority(2)](https://man7.org/linux/man-pages/man2/setpriority.2.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// assert_eq!(Sandbox::new().nice(19).command("nice").output()?.stdout, b"19\n");
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn nice(self, nice: i32) -> Self {
        self.with(|policy| policy.nice = nice)
    }

    /// How eagerly the kernel kills the sandbox when memory is short, -1000 to 1000; only raised,
    /// never below the caller's own. Default: as the caller, with a limit of memory 100 more, so that
    /// it is not init that is killed
    /// ([proc_pid_oom_score_adj(5)](https://man7.org/linux/man-pages/man5/proc_pid_oom_score_adj.5.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let sandbox = Sandbox::new().oom_score_adj(1000);
    /// let output = sandbox.command("cat").arg("/proc/self/oom_score_adj").output()?;
    /// assert_eq!(output.stdout, b"1000\n");
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn oom_score_adj(self, score: i32) -> Self {
        self.with(|policy| policy.oom_score_adj = Some(score))
    }

    /// How long the program may run, by the clock (`CLOCK_MONOTONIC`;
    /// [clock_gettime(2)](https://man7.org/linux/man-pages/man2/clock_gettime.2.html)); enforced
    /// even if nobody waits for it, and whatever the program does to init. Default: for ever. Zero
    /// is an error.
    ///
    /// It begins with the program's exec. That may take ten seconds, or as long as the wall time if
    /// this is longer; then [`spawn`](crate::Command::spawn) fails with `ETIME`.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use stockade::{Outcome, Sandbox};
    /// let sandbox = Sandbox::new().wall_time(Duration::from_millis(20));
    /// assert_eq!(sandbox.command("sleep").arg("1000").status()?.outcome, Outcome::TimedOut);
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn wall_time(self, limit: Duration) -> Self {
        self.with(|policy| policy.wall = Some(limit))
    }

    /// When the wall time is up, sends SIGTERM to everything inside and waits that long before
    /// SIGKILL ([signal(7)](https://man7.org/linux/man-pages/man7/signal.7.html)). Default, and at
    /// zero: no SIGTERM. Needs init and a [`wall_time`](Self::wall_time).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use stockade::{Outcome, Sandbox};
    /// let sandbox = Sandbox::new()
    ///     .wall_time(Duration::from_millis(20))
    ///     .grace_period(Duration::from_secs(10));
    /// // It does not need its grace.
    /// assert_eq!(sandbox.command("sleep").arg("1000").status()?.outcome, Outcome::TimedOut);
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn grace_period(self, grace: Duration) -> Self {
        self.with(|policy| policy.grace = grace)
    }

    /// How long what the program left may go on after its end before it is killed; default, and at
    /// zero, not at all ([wait(2)](https://man7.org/linux/man-pages/man2/wait.2.html)). The wall
    /// time ends it too. Needs init.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use stockade::Sandbox;
    /// let sandbox = Sandbox::new().linger(Duration::from_secs(10));
    /// let status = sandbox.command("sh").args(["-c", "sleep 0.01 & exit 3"]).status()?;
    /// assert_eq!((status.outcome.code(), status.left_count), (Some(3), 0));
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn linger(self, linger: Duration) -> Self {
        self.with(|policy| policy.linger = linger)
    }
}
