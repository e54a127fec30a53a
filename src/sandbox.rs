//! The builder: what a sandbox is to be like.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;

use crate::audit::Audit;
use crate::command::{Command, PATH};
use crate::error::{Feature, Result};
use crate::lower;
use crate::namespace::net::Network;
use crate::namespace::time::TimeOffsets;
use crate::namespace::{Existing, Namespaces};
use crate::plan::Plan;
use crate::policy::Policy;

mod identity;
mod limits;
mod process;
mod tier;
mod tree;

/// A description of a sandbox, from which any number of programs can be started.
///
/// [`Sandbox::new`] denies by default; every method that widens it says so. No setter fails: what
/// contradicts itself is reported, all together, by [`plan`](Self::plan) and
/// [`Command::spawn`](crate::Command::spawn).
///
/// Paths inside have to be absolute and without `..`, and `/` itself is given by
/// [`rootfs`](Self::rootfs). Sources on the host may be relative to the caller's directory. All of
/// it works from Linux 5.10 on, unless a setting says which version it needs.
///
/// # Examples
///
/// ```
/// use stockade::{Capabilities, Namespaces, Outcome, Sandbox};
/// let output = Sandbox::new()
///     .namespaces(Namespaces::all())
///     .capabilities(Capabilities::none())
///     .hostname("build")
///     .command("uname")
///     .arg("-n")
///     .output()?;
/// assert_eq!(output.outcome, Outcome::Exited(0));
/// assert_eq!(output.stdout, b"build\n");
/// # Ok::<(), stockade::Error>(())
/// ```
#[derive(Debug, Clone, Default)]
#[must_use = "a sandbox does nothing until a command is started in it"]
pub struct Sandbox {
    policy: Arc<Policy>,
}

impl Sandbox {
    /// Deny by default: all eight namespaces new, no capability, no network but loopback, the
    /// host's system directories read-only and nothing else of it, processes that end with the
    /// handle ([namespaces(7)](https://man7.org/linux/man-pages/man7/namespaces.7.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Namespaces, Sandbox};
    /// assert_eq!(Sandbox::new().plan()?.namespaces(), Namespaces::all());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn new() -> Self {
        Sandbox::default()
    }

    fn with(mut self, change: impl FnOnce(&mut Policy)) -> Self {
        change(Arc::make_mut(&mut self.policy));
        self
    }

    fn implying(self, kind: Namespaces, change: impl FnOnce(&mut Policy)) -> Self {
        self.with(|policy| {
            policy.implied |= kind;
            change(policy);
        })
    }

    /// The namespaces that are new
    /// ([namespaces(7)](https://man7.org/linux/man-pages/man7/namespaces.7.html)); the others are
    /// shared with the caller, which is a widening. Default: all. A setting that needs a namespace
    /// makes it new.
    ///
    /// Without [`Namespaces::USER`] only root can make the others. Without [`Namespaces::PID`] the
    /// end is not atomic: that needs [`without_atomic_end`](Self::without_atomic_end).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Namespaces, Sandbox};
    /// let sandbox = Sandbox::new().namespaces(Namespaces::all() - Namespaces::CGROUP);
    /// assert!(sandbox.command("true").status()?.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn namespaces(self, new: Namespaces) -> Self {
        self.with(|policy| policy.new = Some(new))
    }

    /// Joins an existing namespace, by path or descriptor, instead of making or sharing one;
    /// [setns(2)](https://man7.org/linux/man-pages/man2/setns.2.html). A widening: who else is in it sees the sandbox.
    ///
    /// One kind at a time; for each the last word counts. The kernel lets root join any, and others
    /// the namespaces of a user namespace that they own and join as well. A joined user namespace
    /// has its own ids, which [`uid`](Self::uid) and [`gid`](Self::gid) name. Joining a pid
    /// namespace also needs [`without_atomic_end`](Self::without_atomic_end).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::path::PathBuf;
    /// use stockade::{Namespaces, Sandbox};
    /// let first = Sandbox::new().uid(1000).gid(1000).command("sleep").arg("1000").spawn()?;
    /// let program = first.program_id().ok_or("it runs")?;
    /// let file = |kind| PathBuf::from(format!("/proc/{program}/ns/{kind}"));
    /// let sandbox = Sandbox::new()
    ///     .join(Namespaces::USER, file("user"))
    ///     .join(Namespaces::NET, file("net"))
    ///     .uid(1000)
    ///     .gid(1000);
    /// assert!(sandbox.command("true").status()?.outcome.is_success());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn join(self, kind: Namespaces, existing: impl Into<Existing>) -> Self {
        let existing = existing.into();
        self.with(|policy| {
            policy.joined.retain(|(other, _)| *other != kind);
            policy.joined.push((kind, existing));
        })
    }

    /// Allows a shared or joined pid namespace, and gives up that the end of the sandbox ends all
    /// of its processes at once: init follows and kills what it can see, and with limits the
    /// sandbox's control groups end what it has missed
    /// ([pid_namespaces(7)](https://man7.org/linux/man-pages/man7/pid_namespaces.7.html)). A
    /// widening. Needs init.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Namespaces, Sandbox};
    /// let sandbox = Sandbox::new().namespaces(Namespaces::all() - Namespaces::PID);
    /// assert!(sandbox.plan().is_err());
    /// assert!(sandbox.without_atomic_end().command("true").status()?.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn without_atomic_end(self) -> Self {
        self.with(|policy| policy.without_atomic_end = true)
    }

    /// Whether a small init is PID 1 and the program its child (default), or the program is PID 1
    /// itself: then signals without a handler do nothing to it, nobody reaps orphans but it, and
    /// what is left at its end is not told
    /// ([pid_namespaces(7)](https://man7.org/linux/man-pages/man7/pid_namespaces.7.html)).
    /// End and time limit hold all the same.
    ///
    /// Without init there is no [`grace_period`](Self::grace_period) and no
    /// [`linger`](Self::linger).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let output = Sandbox::new().init(false).command("sh").args(["-c", "echo $$"]).output()?;
    /// assert_eq!(output.stdout, b"1\n");
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn init(self, init: bool) -> Self {
        self.with(|policy| policy.init = init)
    }

    /// The host name inside, 1 to 64 bytes; default "stockade". Implies [`Namespaces::UTS`]
    /// ([uts_namespaces(7)](https://man7.org/linux/man-pages/man7/uts_namespaces.7.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let output = Sandbox::new().hostname("build").command("uname").arg("-n").output()?;
    /// assert_eq!(output.stdout, b"build\n");
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn hostname(self, name: impl AsRef<OsStr>) -> Self {
        let name = name.as_ref().to_owned().into_vec();
        self.implying(Namespaces::UTS, |policy| policy.uts.hostname = name)
    }

    /// The NIS domain name inside, 1 to 64 bytes; default "(none)". Implies [`Namespaces::UTS`]
    /// ([setdomainname(2)](https://man7.org/linux/man-pages/man2/setdomainname.2.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let plan = Sandbox::new().domainname("example").plan()?;
    /// assert!(plan.to_string().contains(r#"setdomainname "example""#));
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn domainname(self, name: impl AsRef<OsStr>) -> Self {
        let name = name.as_ref().to_owned().into_vec();
        self.implying(Namespaces::UTS, |policy| policy.uts.domainname = name)
    }

    /// Offsets of the clocks inside, in seconds; default 0. Implies [`Namespaces::TIME`] (Linux
    /// 5.6; [time_namespaces(7)](https://man7.org/linux/man-pages/man7/time_namespaces.7.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Sandbox, TimeOffsets};
    /// let day = TimeOffsets { monotonic: 86400, boottime: 86400 };
    /// assert!(Sandbox::new().time_offsets(day).command("true").status()?.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn time_offsets(self, offsets: TimeOffsets) -> Self {
        self.implying(Namespaces::TIME, |policy| policy.time = offsets)
    }

    /// Which network the sandbox has; default [`Network::Loopback`]
    /// ([network_namespaces(7)](https://man7.org/linux/man-pages/man7/network_namespaces.7.html)).
    /// All but [`Network::Host`] imply [`Namespaces::NET`].
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Namespaces, Network, Sandbox};
    /// let plan = Sandbox::new().network(Network::Host).plan()?;
    /// assert!(!plan.namespaces().contains(Namespaces::NET));
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn network(self, network: Network) -> Self {
        self.with(|policy| policy.network = Some(network))
    }

    /// Whether copies of a [template](crate::Prepared::has_template) may have one after the other the same network
    /// namespace, which is what takes longest to make; default `false`
    /// ([network_namespaces(7)](https://man7.org/linux/man-pages/man7/network_namespaces.7.html)).
    ///
    /// It belongs to a user namespace in which no program has any power, and is used again only if it is as
    /// it was made when the sandbox has ended: no socket is left, and no counter has moved. A program that has sent anything, over
    /// loopback even, leaves it to be thrown away. What the next one can tell is the number of the namespace
    /// (`readlink /proc/self/ns/net`, `SO_NETNS_COOKIE`). Who enters it by himself, through /proc/PID/ns/net, must not stay;
    /// without privileges nobody can, nor have another sandbox join it.
    ///
    /// Sandboxes that are no copies, that have a sysfs, or whose program has uid 0, to which a network's sysctls belong, get
    /// a new one in any case.
    ///
    /// # Examples
    ///
    /// ```
    /// let prepared = stockade::Sandbox::new().recycle_network(true).prepare()?;
    /// for _ in 0..3 {
    ///     assert!(prepared.command("true").status()?.outcome.is_success());
    /// }
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn recycle_network(self, recycle: bool) -> Self {
        self.with(|policy| policy.recycle_network = recycle)
    }

    /// Runs without a protection if the system cannot give it:
    /// [`Child::missing`](crate::Child::missing) tells. A widening.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Feature, Sandbox};
    /// let sandbox = Sandbox::new().best_effort(Feature::SessionKeyring);
    /// let child = sandbox.command("true").spawn()?;
    /// println!("missing: {:?}", child.missing());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn best_effort(self, feature: Feature) -> Self {
        self.with(|policy| {
            policy.dispensable.insert(feature, true);
        })
    }

    /// Fails if the system cannot give a protection, also one that is best effort by default.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Feature, Sandbox};
    /// let sandbox = Sandbox::new().require(Feature::NestedUserNamespaceCount);
    /// if let Err(error) = sandbox.check() {
    ///     println!("this system cannot: {error}");
    /// }
    /// ```
    pub fn require(self, feature: Feature) -> Self {
        self.with(|policy| {
            policy.dispensable.insert(feature, false);
        })
    }

    /// A file for the init program, used only where programs in memory may not be executed
    /// (`vm.memfd_noexec`, Linux 6.3,
    /// [memfd_create(2)](https://man7.org/linux/man-pages/man2/memfd_create.2.html); SELinux). Made
    /// if it is missing; if it is there it must hold exactly the program, belong to the caller or
    /// root, and be writable by nobody else. The programs of the warden, of an audit's
    /// probe and of sessions and pools are put beside it, with `.warden`, `.probe` and `.session` added to the name. Choose a directory that the sandbox cannot see, on a file system without
    /// noexec.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let directory = tempfile::tempdir()?;
    /// let sandbox = Sandbox::new().init_file(directory.path().join("init"));
    /// assert!(sandbox.command("true").status()?.outcome.is_success());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn init_file(self, path: impl Into<PathBuf>) -> Self {
        self.with(|policy| policy.init_file = Some(path.into()))
    }

    /// A program to start in such a sandbox: a path, or a name to be looked up in the sandbox's
    /// PATH, inside ([execve(2)](https://man7.org/linux/man-pages/man2/execve.2.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let sandbox = Sandbox::new();
    /// assert!(sandbox.command("true").status()?.outcome.is_success());
    /// assert!(sandbox.command("/usr/bin/env").status()?.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        Command::new(self.clone(), program.as_ref())
    }

    /// What would be done to make the sandbox, as a value; nothing is done.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`](crate::Error::Invalid) if the description contradicts itself, [`Error::Unsupported`](crate::Error::Unsupported) if it is
    /// known that this system cannot do it, [`Error::Failed`](crate::Error::Failed) if a root caller's bind cannot be
    /// prepared.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let plan = Sandbox::new().hostname("build").plan()?;
    /// assert_ne!(plan, Sandbox::new().plan()?);
    /// // All that contradicts itself is told at once.
    /// let error = Sandbox::new().hostname("").nice(20).plan().unwrap_err();
    /// assert!(matches!(error, stockade::Error::Invalid(problems) if problems.len() == 2));
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn plan(&self) -> Result<Plan> {
        self.policy.validate()?;
        Ok(lower::lower(self, OsStr::new(PATH))?.plan.labelled())
    }

    /// Does all of it but the exec, in a sandbox that ends at once.
    ///
    /// # Errors
    ///
    /// As [`Command::spawn`](crate::Command::spawn): the step that this system refuses, with a
    /// hint.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// Sandbox::new().check()?;
    /// assert!(Sandbox::new().bind_same("/no/such/file").check().is_err());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn check(&self) -> Result<()> {
        self.command("/").check()
    }

    /// What a program in it can find out about the host: a probe reads whatever it can read inside, all
    /// files but those of packages (/usr, /bin, /lib and the like), asks the kernel, and the caller's process
    /// searches that for what it knows of the host, and for what is hardware, a device, a descriptor, a
    /// mount or an address. Each finding says [how much it tells](crate::Severity), where it is and how
    /// to close it. The default shows nothing above [`Severity::Low`](crate::Severity::Low), unless the host's
    /// /usr lies on an overlay, as in a container, whose layers have names: then with
    /// [`hide_host_paths`](Self::hide_host_paths).
    ///
    /// Files are read up to 1 MiB, and 256 MiB in all; FIFOs and devices are not opened. Without
    /// [`wall_time`](Self::wall_time) it ends after two minutes. What only root knows of the host, other
    /// callers cannot recognise ([proc(5)](https://man7.org/linux/man-pages/man5/proc.5.html)).
    ///
    /// # Errors
    ///
    /// As [`Command::spawn`](crate::Command::spawn).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Proc, Sandbox, Severity};
    /// let audit = Sandbox::new().hide_host_paths(true).audit_view()?;
    /// assert_eq!(audit.above(Severity::Low).count(), 0, "{audit}");
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn audit_view(&self) -> Result<Audit> {
        self.command("true").audit_view()
    }

    pub(crate) fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Whether nothing was said of one of them since it was a copy of the other.
    pub(crate) fn is_same(&self, other: &Sandbox) -> bool {
        Arc::ptr_eq(&self.policy, &other.policy)
    }
}
