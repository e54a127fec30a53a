//! The builder: what a sandbox is to be like.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::capability::Capabilities;
use crate::cgroup::{BlockDevice, CgroupParent, DeviceRule, Devices, IoLimit, Limits};
use crate::command::{Command, PATH};
use crate::error::{Feature, Result};
use crate::landlock::Landlock;
use crate::lower;
use crate::namespace::idmap::IdMap;
use crate::namespace::net::Network;
use crate::namespace::time::TimeOffsets;
use crate::namespace::user::Host;
use crate::namespace::{Existing, Namespaces};
use crate::plan::Plan;
use crate::policy::Policy;
use crate::rlimit::{Limit, Max, Resource, Rlimits};
use crate::rootfs::{Bind, Data, Entry, Overlay, Proc, Rootfs, Tmpfs, Tree};
use crate::seccomp::Seccomp;

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

    /// Lets the program make user namespaces of its own
    /// ([user_namespaces(7)](https://man7.org/linux/man-pages/man7/user_namespaces.7.html)). A
    /// widening: in one it can mount a full /proc over the reduced one, and reach kernel code that
    /// otherwise only root does.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let nest = |sandbox: Sandbox| sandbox.command("unshare").args(["--user", "true"]).status();
    /// assert!(!nest(Sandbox::new())?.outcome.is_success());
    /// assert!(nest(Sandbox::new().allow_nested_user_namespaces())?.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn allow_nested_user_namespaces(self) -> Self {
        self.with(|policy| policy.nested_user_namespaces = true)
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

    /// The program's uid inside, 0 to 4294967294
    /// ([user_namespaces(7)](https://man7.org/linux/man-pages/man7/user_namespaces.7.html)).
    /// Default: the caller's own, or 1000 if the caller is root. 0 is not the host's 0: which id
    /// stands behind it is [`host_ids`](Self::host_ids)' matter. Without a user namespace of the
    /// sandbox's own it is an id of the host's, which only root may choose.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let output = Sandbox::new().uid(1234).command("id").arg("-u").output()?;
    /// assert_eq!(output.stdout, b"1234\n");
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn uid(self, uid: u32) -> Self {
        self.with(|policy| policy.user.uid = Some(uid))
    }

    /// The program's gid inside, 0 to 4294967294
    /// ([user_namespaces(7)](https://man7.org/linux/man-pages/man7/user_namespaces.7.html)).
    /// Default: the caller's own, or 1000 if the caller is root. 0 is not the host's 0: which id
    /// stands behind it is [`host_ids`](Self::host_ids)' matter. Without a user namespace of the
    /// sandbox's own it is an id of the host's, which only root may choose.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let output = Sandbox::new().gid(1234).command("id").arg("-g").output()?;
    /// assert_eq!(output.stdout, b"1234\n");
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn gid(self, gid: u32) -> Self {
        self.with(|policy| policy.user.gid = Some(gid))
    }

    /// The host's ids that stand behind the ids inside, which only root may choose. Default: the
    /// caller's own, or 65534 (nobody) if the caller is root. 0 to 4294967294; implies
    /// [`Namespaces::USER`]
    /// ([user_namespaces(7)](https://man7.org/linux/man-pages/man7/user_namespaces.7.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Sandbox, Stage};
    /// match Sandbox::new().host_ids(65534, 65534).command("true").status() {
    ///     Ok(status) => assert!(status.outcome.is_success()),
    ///     // The caller is neither root nor nobody.
    ///     Err(error) => assert_eq!(error.stage(), Some(Stage::Identity)),
    /// }
    /// ```
    pub fn host_ids(self, uid: u32, gid: u32) -> Self {
        self.implying(Namespaces::USER, |policy| policy.user.host = Host::Ids(uid, gid))
    }

    /// All ids that there are inside, and the host's that stand for them; see [`IdMap`]. Implies
    /// [`Namespaces::USER`]; the last word of this, [`host_ids`](Self::host_ids),
    /// [`own_host_id`](Self::own_host_id) and [`as_host_root`](Self::as_host_root) counts.
    ///
    /// The program is [`uid`](Self::uid) and [`gid`](Self::gid), by default the id that stands for
    /// the caller's own, or 1000 if the caller is root; if that is not in the map, its first id. To become another of them it needs
    /// CAP_SETUID and CAP_SETGID ([`capabilities`](Self::capabilities)), and to give files away CAP_CHOWN; uid 0 alone gives no power, and a change of uid takes none away, as the securebits
    /// are locked. CAP_SYS_ADMIN and several ids contradict each other.
    ///
    /// Root maps any of its ids. Others map what /etc/subuid and /etc/subgid give them, through
    /// newuidmap and newgidmap, which are run as short-lived children of the caller
    /// ([newuidmap(1)](https://man7.org/linux/man-pages/man1/newuidmap.1.html)).
    ///
    /// In binds of a root caller, its own files are the program's; those of the map's other ids on the
    /// host belong to them inside, and what these write is theirs outside. In binds of another
    /// caller every file belongs to whom its owner is inside.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Capability, IdMap, Sandbox, Stage};
    /// let sandbox = Sandbox::new()
    ///     .id_map(IdMap::new().ids(0, 100_000, 1000))
    ///     .uid(0)
    ///     .gid(0)
    ///     .capabilities([Capability::CHOWN]);
    /// let script = "touch /tmp/file && chown 5:7 /tmp/file && stat -c %u:%g /tmp/file";
    /// match sandbox.command("sh").args(["-c", script]).output() {
    ///     Ok(output) => assert_eq!(output.stdout, b"5:7\n"),
    ///     // Somebody who may not.
    ///     Err(error) => assert_eq!(error.stage(), Some(Stage::Identity)),
    /// }
    /// ```
    pub fn id_map(self, map: IdMap) -> Self {
        self.implying(Namespaces::USER, |policy| policy.user.host = Host::Map(map))
    }

    /// Gives each sandbox an id of the host's that no other one has at the same time, whichever
    /// process started it: one of 16777216 from 2013265920 on, which needs no configuration
    /// ([credentials(7)](https://man7.org/linux/man-pages/man7/credentials.7.html)). So sandboxes
    /// of a root caller share no count of processes, no key and no signal. What belongs to the user
    /// who made a namespace stays root's: the number of namespaces, inotify, and (Linux 5.14) the sum
    /// of what all sandboxes have in POSIX queues, pending signals and locked shared memory, up to
    /// the limits of the calling process.
    ///
    /// For root only. Implies [`Namespaces::USER`]; needs [`init`](Self::init), which holds the id. A
    /// spawn takes as long as two clones more.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Hint, Sandbox};
    /// let sandbox = Sandbox::new().own_host_id();
    /// match (sandbox.command("sleep").arg("9").spawn(), sandbox.command("sleep").arg("9").spawn()) {
    ///     (Ok(one), Ok(other)) => {
    ///         use std::os::unix::fs::MetadataExt;
    ///         let uid = |id| std::fs::metadata(format!("/proc/{id}")).map(|entry| entry.uid());
    ///         let id = |child: stockade::Child| child.program_id().map(uid);
    ///         assert_ne!(id(one).transpose()?, id(other).transpose()?);
    ///     }
    ///     (Err(error), _) | (_, Err(error)) => {
    ///         assert_eq!(error.hint(), Some(&Hint::OnlyRootChoosesIds));
    ///     }
    /// }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn own_host_id(self) -> Self {
        self.implying(Namespaces::USER, |policy| policy.user.host = Host::Own)
    }

    /// Runs the program with the caller's own ids even if the caller is root: a widening, by which
    /// the program passes every check of the host that asks for uid 0 and no capability. For other
    /// callers nothing changes.
    ///
    /// `RLIMIT_NPROC` does not bind the host's uid 0
    /// ([getrlimit(2)](https://man7.org/linux/man-pages/man2/getrlimit.2.html)): the default limit
    /// of 1024 processes is without effect then.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// # let caller = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self")?);
    /// let output = Sandbox::new().as_host_root().command("id").arg("-u").output()?;
    /// assert_eq!(output.stdout, format!("{caller}\n").into_bytes());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn as_host_root(self) -> Self {
        self.with(|policy| policy.user.host = Host::Caller)
    }

    /// What the file tree begins with; default [`Rootfs::host`]
    /// ([pivot_root(2)](https://man7.org/linux/man-pages/man2/pivot_root.2.html)). Implies
    /// [`Namespaces::MOUNT`].
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Rootfs, Sandbox};
    /// Sandbox::new().rootfs(Rootfs::empty()).check()?;
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn rootfs(self, rootfs: Rootfs) -> Self {
        self.entry(|tree| tree.base = rootfs)
    }

    fn entry(self, change: impl FnOnce(&mut Tree)) -> Self {
        self.implying(Namespaces::MOUNT, |policy| change(&mut policy.tree))
    }

    fn push(self, entry: Entry) -> Self {
        self.entry(|tree| tree.entries.push(entry))
    }

    /// Makes a file or directory of the host's visible, read-only; see [`Bind`]
    /// ([mount(2)](https://man7.org/linux/man-pages/man2/mount.2.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let sandbox = Sandbox::new().bind_ro("/usr/bin", "/tools");
    /// assert!(sandbox.command("/tools/env").status()?.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn bind_ro(self, source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        self.bind(Bind::read_only(source, target))
    }

    /// Makes a file or directory of the host's visible and writable: a widening; see [`Bind`]
    /// ([mount(2)](https://man7.org/linux/man-pages/man2/mount.2.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let directory = tempfile::tempdir()?;
    /// let sandbox = Sandbox::new().bind_rw(directory.path(), "/out");
    /// sandbox.command("touch").arg("/out/new").status()?;
    /// assert!(directory.path().join("new").exists());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn bind_rw(self, source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        self.bind(Bind::read_write(source, target))
    }

    /// Makes a file or directory of the host's visible at its own path, which has to be absolute,
    /// read-only; see [`Bind`] ([mount(2)](https://man7.org/linux/man-pages/man2/mount.2.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let directory = tempfile::tempdir()?;
    /// std::fs::write(directory.path().join("words"), "pear\n")?;
    /// let sandbox = Sandbox::new().bind_same(directory.path());
    /// let output = sandbox.command("cat").arg(directory.path().join("words")).output()?;
    /// assert_eq!(output.stdout, b"pear\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn bind_same(self, path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        self.bind(Bind::read_only(path.clone(), path))
    }

    /// Shows what one program of the host's needs to be started, read-only and at its own paths:
    /// the file itself, the links on the way to it, the interpreter of a script and what that needs,
    /// the dynamic loader and all libraries that it would load. Nothing else of their directories is
    /// there. For hosts with an empty /usr (Nix, Guix), for tool chains in a home directory, and for
    /// sandboxes that begin with [`Rootfs::empty`].
    ///
    /// The libraries are found as the loader finds them (`DT_RUNPATH` and `DT_RPATH` with `$ORIGIN`,
    /// `$LIB` and `$PLATFORM`, its cache, its own directories;
    /// [ld.so(8)](https://man7.org/linux/man-pages/man8/ld.so.8.html)), glibc's or musl's, but
    /// without LD_LIBRARY_PATH. Neither the program nor its loader is run. For `#!/usr/bin/env x`,
    /// `x` is looked for in the [PATH of the command](crate::Command::env). What a program loads by
    /// name while it runs, and the programs and data that it uses, are not known here: they take a
    /// `program(..)` or a [`bind_same`](Self::bind_same) of their own.
    ///
    /// What is there already, because it was bound before or [`Rootfs::host`] has it, is not bound
    /// again. The program's file decides what is shown (programs, scripts and libraries): it should
    /// not be somebody's who must not see those. A relative path starts from the caller's directory.
    ///
    /// A file that is missing is an error when the sandbox is made, or its
    /// [`plan`](Self::plan): [`Error::Failed`](crate::Error::Failed) at
    /// [`Stage::Prepare`](crate::Stage::Prepare) with the library's name and who needs it.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Rootfs, Sandbox};
    /// let sandbox = Sandbox::new().rootfs(Rootfs::empty()).program("/bin/sh");
    /// let output = sandbox.command("/bin/sh").args(["-c", "echo alone"]).output()?;
    /// assert_eq!(output.stdout, b"alone\n");
    /// // Nothing else is there.
    /// assert!(sandbox.command("/bin/ls").spawn().is_err());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn program(self, path: impl Into<PathBuf>) -> Self {
        self.push(Entry::Program { path: path.into() })
    }

    /// Makes a part of the host's tree visible
    /// ([mount(2)](https://man7.org/linux/man-pages/man2/mount.2.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Bind, Sandbox};
    /// let tools = Bind::read_only("/usr/bin", "/tools").without_submounts();
    /// let sandbox = Sandbox::new().bind(tools);
    /// assert!(sandbox.command("/tools/env").status()?.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn bind(self, bind: Bind) -> Self {
        self.push(Entry::Bind(bind))
    }

    /// An empty, writable file system in memory at `path`, of 64 MiB and 16384 files at the most
    /// ([tmpfs(5)](https://man7.org/linux/man-pages/man5/tmpfs.5.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let sandbox = Sandbox::new().tmpfs("/scratch");
    /// assert!(sandbox.command("touch").arg("/scratch/new").status()?.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn tmpfs(self, path: impl Into<PathBuf>) -> Self {
        self.mount_tmpfs(Tmpfs::new(path))
    }

    /// An empty file system in memory, with limits of its own
    /// ([tmpfs(5)](https://man7.org/linux/man-pages/man5/tmpfs.5.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Sandbox, Tmpfs};
    /// let sandbox = Sandbox::new().mount_tmpfs(Tmpfs::new("/scratch").size(1 << 20));
    /// assert!(sandbox.command("touch").arg("/scratch/new").status()?.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn mount_tmpfs(self, tmpfs: Tmpfs) -> Self {
        self.push(Entry::Tmpfs(tmpfs))
    }

    /// Directories of the host's laid over each other, and on top of them what the program writes;
    /// see [`Overlay`] (Linux 5.11, from a root caller 5.19;
    /// [overlayfs](https://docs.kernel.org/filesystems/overlayfs.html)). Up to 16.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Overlay, Sandbox};
    /// let sandbox = Sandbox::new().overlay("/srv", Overlay::new(["/usr/bin"]));
    /// let script = "rm /srv/env && test ! -e /srv/env && test -e /usr/bin/env";
    /// assert!(sandbox.command("sh").args(["-c", script]).status()?.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn overlay(self, path: impl Into<PathBuf>, overlay: Overlay) -> Self {
        self.push(Entry::Overlay(path.into(), overlay))
    }

    /// Keeps all mounts of the sandbox as long as its handle, so that
    /// [`Child::open_output`](crate::Child::open_output) finds what is on them after the end too
    /// ([mount_namespaces(7)](https://man7.org/linux/man-pages/man7/mount_namespaces.7.html)).
    /// Without this, what is on the root itself, /tmp, HOME and /dev/shm is found.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let sandbox = Sandbox::new().tmpfs("/scratch").keep_mounts();
    /// let mut child = sandbox.command("sh").args(["-c", "echo x > /scratch/out"]).spawn()?;
    /// child.wait()?;
    /// assert_eq!(std::io::read_to_string(child.open_output("/scratch/out")?)?, "x\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn keep_mounts(self) -> Self {
        self.entry(|tree| tree.keep_mounts = true)
    }

    /// A regular file with this content and mode 0644, where the tree is the sandbox's own; of less
    /// than 4 GiB ([inode(7)](https://man7.org/linux/man-pages/man7/inode.7.html)). Elsewhere the
    /// spawn fails: nothing of the host's is changed.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let sandbox = Sandbox::new().file("/etc/hosts", "127.0.0.1 localhost\n");
    /// let output = sandbox.command("cat").arg("/etc/hosts").output()?;
    /// assert_eq!(output.stdout, b"127.0.0.1 localhost\n");
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn file(self, path: impl Into<PathBuf>, data: impl Into<Vec<u8>>) -> Self {
        self.file_with_mode(path, data, 0o644)
    }

    /// A regular file with this content and mode, where the tree is the sandbox's own
    /// ([inode(7)](https://man7.org/linux/man-pages/man7/inode.7.html)). Bits of the mode above
    /// 0o1777 are dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let sandbox = Sandbox::new().file_with_mode("/run", "#!/bin/sh\necho hello\n", 0o755);
    /// assert_eq!(sandbox.command("/run").output()?.stdout, b"hello\n");
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn file_with_mode(
        self,
        path: impl Into<PathBuf>,
        data: impl Into<Vec<u8>>,
        mode: u32,
    ) -> Self {
        self.data(Data::file(path, data.into()).mode(mode))
    }

    /// A directory with this mode, where the tree is the sandbox's own
    /// ([mkdir(2)](https://man7.org/linux/man-pages/man2/mkdir.2.html)). Bits above 0o7777 are
    /// dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let sandbox = Sandbox::new().directory("/empty", 0o700);
    /// let output = sandbox.command("stat").args(["-c", "%a", "/empty"]).output()?;
    /// assert_eq!(output.stdout, b"700\n");
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn directory(self, path: impl Into<PathBuf>, mode: u32) -> Self {
        self.data(Data::directory(path).mode(mode))
    }

    /// A symbolic link at `path` to `target`, which is not looked at and not empty
    /// ([symlink(2)](https://man7.org/linux/man-pages/man2/symlink.2.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let sandbox = Sandbox::new().symlink("/usr/bin", "/tools");
    /// let output = sandbox.command("readlink").arg("/tools").output()?;
    /// assert_eq!(output.stdout, b"/usr/bin\n");
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn symlink(self, target: impl Into<PathBuf>, path: impl Into<PathBuf>) -> Self {
        self.data(Data::symlink(target, path))
    }

    /// A file, directory or symbolic link, with an owner, a limit of its size, or what a descriptor
    /// gives; see [`Data`].
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Data, Sandbox};
    /// let (reading, mut writing) = std::io::pipe()?;
    /// std::io::Write::write_all(&mut writing, b"through a pipe\n")?;
    /// drop(writing);
    /// let data = Data::file("/words", std::os::fd::OwnedFd::from(reading));
    /// let sandbox = Sandbox::new().data(data.mode(0o600).max_size(100));
    /// assert_eq!(sandbox.command("cat").arg("/words").output()?.stdout, b"through a pipe\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn data(self, data: Data) -> Self {
        self.push(Entry::Data(data))
    }

    /// How much of /proc is visible; default [`Proc::Processes`] (Linux 5.8;
    /// [proc(5)](https://man7.org/linux/man-pages/man5/proc.5.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Proc, Sandbox};
    /// let sandbox = Sandbox::new().proc(Proc::None);
    /// assert!(!sandbox.command("ls").arg("/proc/self").status()?.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn proc(self, proc: Proc) -> Self {
        self.entry(|tree| tree.proc = proc)
    }

    /// The time zone inside, such as `Europe/Berlin`, from the host's zoneinfo; default UTC, and never
    /// the host's. It is what /etc/localtime stands for
    /// ([localtime(5)](https://man7.org/linux/man-pages/man5/localtime.5.html)); the variable TZ goes
    /// before it.
    ///
    /// One that the host does not have is an error of the spawn. A
    /// [directory](Rootfs::directory) root keeps its own /etc: that, and an entry at /etc/localtime,
    /// contradict it.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let date = |sandbox: Sandbox| sandbox.command("date").args(["-d", "@0", "+%H"]).output();
    /// assert_eq!(date(Sandbox::new())?.stdout, b"00\n");
    /// if std::path::Path::new("/usr/share/zoneinfo/Asia/Tokyo").exists() {
    ///     assert_eq!(date(Sandbox::new().timezone("Asia/Tokyo"))?.stdout, b"09\n");
    /// }
    /// assert!(Sandbox::new().timezone("Mars/Olympus").plan().is_err());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn timezone(self, name: impl Into<String>) -> Self {
        self.entry(|tree| tree.timezone = Some(name.into()))
    }

    /// A read-only /sys ([sysfs(5)](https://man7.org/linux/man-pages/man5/sysfs.5.html)): a
    /// widening, which tells much of the host's hardware. Needs a network namespace of its own. The
    /// kernel refuses it where the caller's own /sys is masked, as in a container.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// assert!(Sandbox::new().sysfs().plan()?.to_string().contains(r#"sysfs on "/sys""#));
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn sysfs(self) -> Self {
        self.push(Entry::Sysfs)
    }

    /// POSIX message queues at /dev/mqueue, those of the sandbox's own ipc namespace, which it
    /// needs ([mq_overview(7)](https://man7.org/linux/man-pages/man7/mq_overview.7.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// assert!(Sandbox::new().mqueue().plan()?.to_string().contains(r#"mqueue on "/dev/mqueue""#));
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn mqueue(self) -> Self {
        self.push(Entry::Mqueue { path: "/dev/mqueue".into() })
    }

    /// How many bytes /tmp, the home directory and /dev/shm can have in all; default 256 MiB, or half
    /// of [`memory_limit`](Self::memory_limit) if there is one; rounded up to a page, not 0. In a
    /// [directory](Rootfs::directory) root each of them
    /// ([tmpfs(5)](https://man7.org/linux/man-pages/man5/tmpfs.5.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let sandbox = Sandbox::new().tmp_size(1 << 20);
    /// let script = "! head -c 2000000 /dev/zero > /tmp/large";
    /// assert!(sandbox.command("sh").args(["-c", script]).status()?.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn tmp_size(self, bytes: u64) -> Self {
        self.entry(|tree| tree.budget = Some(bytes))
    }

    /// How many files /tmp, the home directory and /dev/shm can have in all; default 65536, not 0
    /// ([tmpfs(5)](https://man7.org/linux/man-pages/man5/tmpfs.5.html)). What the sandbox itself
    /// puts into its root counts, some dozens. In a [directory](Rootfs::directory) root each of
    /// them.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let command = Sandbox::new().tmp_inodes(200).command("sh").current_dir("/tmp");
    /// let status = command.args(["-c", "touch $(seq 100) && ! touch $(seq 101 200)"]).status()?;
    /// assert!(status.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn tmp_inodes(self, count: u64) -> Self {
        self.entry(|tree| tree.inodes = count)
    }

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
    /// never below the caller's own. Default: as the caller
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
            policy.best_effort.insert(feature);
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
            policy.best_effort.remove(&feature);
        })
    }

    /// A file for the init program, used only where programs in memory may not be executed
    /// (`vm.memfd_noexec`, Linux 6.3,
    /// [memfd_create(2)](https://man7.org/linux/man-pages/man2/memfd_create.2.html); SELinux). Made
    /// if it is missing; if it is there it must hold exactly the program, belong to the caller or
    /// root, and be writable by nobody else. The warden's program is put beside it, with `.warden`
    /// added to the name. Choose a directory that the sandbox cannot see, on a file system without
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

    /// The most memory in bytes, with no swap on top unless [`swap_limit`](Self::swap_limit) gives
    /// some; see [`Memory::max`](crate::Memory::max). Half of it is the default of
    /// [`tmp_size`](Self::tmp_size): what is written there is memory.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let sandbox = Sandbox::new().memory_limit(512 << 20);
    /// ```
    pub fn memory_limit(self, bytes: u64) -> Self {
        self.with(|policy| change(&mut policy.limits.memory, |memory| memory.max(bytes)))
    }

    /// The most swap in bytes, on top of memory; see [`Memory::swap`](crate::Memory::swap).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let sandbox = Sandbox::new().memory_limit(512 << 20).swap_limit(64 << 20);
    /// ```
    pub fn swap_limit(self, bytes: impl Into<Max>) -> Self {
        let bytes = bytes.into();
        self.with(|policy| change(&mut policy.limits.memory, |memory| memory.swap(bytes)))
    }

    /// How many CPUs' time may be used, such as 1.5; see [`Cpu::limit`](crate::Cpu::limit).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let sandbox = Sandbox::new().cpu_limit(1.5);
    /// ```
    pub fn cpu_limit(self, cpus: f64) -> Self {
        self.with(|policy| change(&mut policy.limits.cpu, |cpu| cpu.limit(cpus)))
    }

    /// The share of CPU time among competitors, 1 to 10,000, where 100 is usual; see
    /// [`Cpu::weight`](crate::Cpu::weight).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let sandbox = Sandbox::new().cpu_weight(50);
    /// ```
    pub fn cpu_weight(self, weight: u64) -> Self {
        self.with(|policy| change(&mut policy.limits.cpu, |cpu| cpu.weight(weight)))
    }

    /// The CPUs that may be used, such as `0-3,8`; see [`Cpuset::cpus`](crate::Cpuset::cpus).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let sandbox = Sandbox::new().cpus("0");
    /// ```
    pub fn cpus(self, list: impl Into<String>) -> Self {
        self.with(|policy| change(&mut policy.limits.cpuset, |cpuset| cpuset.cpus(list)))
    }

    /// The most processes and threads at a time; see [`Pids::max`](crate::Pids::max).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let sandbox = Sandbox::new().pids_limit(64);
    /// ```
    pub fn pids_limit(self, count: u64) -> Self {
        self.with(|policy| change(&mut policy.limits.pids, |pids| pids.max(count)))
    }

    /// What may be read and written in a second on a block device; see [`Io::max`](crate::Io::max).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{IoLimit, Sandbox};
    /// let sandbox = Sandbox::new().io_limit("8:0", IoLimit::new().read_bytes(4 << 20));
    /// ```
    pub fn io_limit(self, device: impl Into<BlockDevice>, limit: IoLimit) -> Self {
        self.with(|policy| change(&mut policy.limits.io, |io| io.max(device, limit)))
    }

    /// The share of block devices among competitors, 1 to 10,000, where 100 is usual; see
    /// [`Io::weight`](crate::Io::weight).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let sandbox = Sandbox::new().io_weight(50);
    /// ```
    pub fn io_weight(self, weight: u64) -> Self {
        self.with(|policy| change(&mut policy.limits.io, |io| io.weight(weight)))
    }

    /// Allows a device besides the [standard](Devices::standard) ones, and no other; see
    /// [`Devices`].
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{DeviceRule, Sandbox};
    /// let sandbox = Sandbox::new().device(DeviceRule::char(10, 229)); // /dev/fuse
    /// ```
    pub fn device(self, rule: DeviceRule) -> Self {
        self.with(|policy| {
            let devices = policy.limits.devices.take().unwrap_or_else(Devices::standard);
            policy.limits.devices = Some(devices.allow(rule));
        })
    }

    /// The most CPU time of all of the sandbox together; see [`Limits::cpu_time`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use stockade::Sandbox;
    /// let sandbox = Sandbox::new().cpu_time(Duration::from_secs(10));
    /// ```
    pub fn cpu_time(self, limit: Duration) -> Self {
        self.with(|policy| policy.limits.cpu_time = Some(limit))
    }

    /// Writes to a file of the sandbox's control group; see [`Limits::raw`].
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let sandbox = Sandbox::new().cgroup_raw("memory.high", "64M");
    /// ```
    pub fn cgroup_raw(self, file: impl Into<String>, data: impl Into<String>) -> Self {
        self.with(|policy| policy.limits = std::mem::take(&mut policy.limits).raw(file, data))
    }

    /// All limits by control groups, in place of those that were given before
    /// ([cgroups(7)](https://man7.org/linux/man-pages/man7/cgroups.7.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Limits, Memory, Sandbox};
    /// let sandbox = Sandbox::new().limits(Limits::new().memory(Memory::new().max(64 << 20)));
    /// ```
    pub fn limits(self, limits: Limits) -> Self {
        self.with(|policy| policy.limits = limits)
    }

    /// Below which control group the sandbox's own are made; by default [`CgroupParent::Auto`]
    /// ([cgroups(7)](https://man7.org/linux/man-pages/man7/cgroups.7.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{CgroupParent, Sandbox};
    /// let sandbox = Sandbox::new().cgroup_parent(CgroupParent::Path("/delegated".into()));
    /// ```
    pub fn cgroup_parent(self, parent: CgroupParent) -> Self {
        self.with(|policy| policy.cgroup_parent = parent)
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
        Ok(lower::lower(self, OsStr::new(PATH))?.plan)
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

    pub(crate) fn policy(&self) -> &Policy {
        &self.policy
    }
}

/// Changes a part of the limits, which may not be there yet.
fn change<T: Default>(part: &mut Option<T>, change: impl FnOnce(T) -> T) {
    *part = Some(change(part.take().unwrap_or_default()));
}
