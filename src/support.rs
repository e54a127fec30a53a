//! What this host can give, found by doing it.

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socketpair};

use crate::abi::CLONE_PARENT;
use crate::cgroup::{ControllerSupport, probe};
use crate::command::Command;
use crate::control::{Received, receive_now};
use crate::error::{Error, Feature, Result, Stage};
use crate::landlock::{self, Landlock};
use crate::lsm::Label;
use crate::namespace::idmap::IdMap;
use crate::namespace::net::Network;
use crate::namespace::{Namespaces, user};
use crate::outcome::Outcome;
use crate::rootfs::{Bind, Overlay, Proc, Rootfs, View};
use crate::sandbox::Sandbox;
use crate::seccomp::{Action, Rule, Seccomp};
use crate::wire::{Call, JOIN, JOIN_MAX, Join, Put, report};
use crate::{executable, hint, sys};

/// What this host can give, each found by doing it in a child process that is thrown away.
///
/// # Examples
///
/// ```
/// use stockade::Support;
/// let support = Support::probe();
/// for ability in &support {
///     if !ability.available {
///         println!("{} is missing: {:?}", ability.name, ability.reason);
///     }
/// }
/// assert!(support.is_sufficient());
/// println!("{support}");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Support {
    release: String,
    abilities: Vec<Ability>,
}

/// One thing that a host can or cannot give.
///
/// # Examples
///
/// ```
/// use stockade::{Need, Support};
/// let support = Support::probe();
/// let user = support.get("user namespace").unwrap();
/// assert_eq!(user.need, Need::Default);
/// // What is there has neither reason nor remedy.
/// assert!(user.available == user.reason.is_none());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ability {
    /// What it is.
    pub name: &'static str,
    /// Who needs it.
    pub need: Need,
    /// Whether it worked.
    pub available: bool,
    /// Which one or how much of it, where there is more to say: a version, a limit of the caller's, a label.
    pub detail: Option<String>,
    /// What failed, and how; `None` if it is available.
    pub reason: Option<String>,
    /// What to do about it, where that is known.
    pub remedy: Option<String>,
}

/// Which sandboxes need an [`Ability`].
///
/// # Examples
///
/// ```
/// use stockade::{Need, Support};
/// let support = Support::probe();
/// let optional = support.iter().filter(|ability| ability.need == Need::OnRequest);
/// assert!(optional.count() > 0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Need {
    /// Those of [`Sandbox::new`], unless they name what they can do without.
    Default,
    /// Only those that ask for it.
    OnRequest,
    /// None: without it something is slower, or less is known.
    NiceToHave,
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Need::Default => "by default",
            Need::OnRequest => "on request",
            Need::NiceToHave => "nice to have",
        })
    }
}

impl Support {
    /// Tries everything: some three dozen small sandboxes, a few milliseconds each. What one of them
    /// could not be given says nothing about the next: each has only what it tries, and what that
    /// stands on.
    ///
    /// # Examples
    ///
    /// ```
    /// let support = stockade::Support::probe();
    /// println!("{support}");
    /// ```
    #[must_use]
    pub fn probe() -> Self {
        // Root needs no user namespace for the others; let it show what works without.
        let user = bare(Namespaces::USER).check().is_ok();
        let base = if user { Namespaces::USER } else { Namespaces::empty() };
        Support {
            release: release(),
            abilities: PROBES.iter().map(|probe| probe.ability(base)).collect(),
        }
    }

    /// The kernel's release, as `uname -r` prints it
    /// ([uname(2)](https://man7.org/linux/man-pages/man2/uname.2.html)). For people: a number says
    /// little about what a patched or restricted kernel can do.
    ///
    /// # Examples
    ///
    /// ```
    /// assert!(!stockade::Support::probe().release().is_empty());
    /// ```
    #[must_use]
    pub fn release(&self) -> &str {
        &self.release
    }

    /// What the caller can limit by control groups, controller by controller, if it names no group
    /// of its own. Nothing is made for it, or changed.
    ///
    /// # Examples
    ///
    /// ```
    /// for controller in stockade::Support::controllers() {
    ///     println!("{controller}");
    /// }
    /// ```
    #[must_use]
    pub fn controllers() -> Vec<ControllerSupport> {
        probe::controllers()
    }

    /// Whether [`Sandbox::new`] works as it is.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Sandbox, Support};
    /// assert_eq!(Support::probe().is_sufficient(), Sandbox::new().check().is_ok());
    /// ```
    #[must_use]
    pub fn is_sufficient(&self) -> bool {
        self.get(DEFAULT).is_some_and(|ability| ability.available)
    }

    /// The ability of this name, which is one of those that `stockade check` prints.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Support;
    /// let support = Support::probe();
    /// assert!(support.get("time namespace").is_some());
    /// assert!(support.get("magic").is_none());
    /// ```
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Ability> {
        self.iter().find(|ability| ability.name == name)
    }

    /// All abilities, the most general first.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Support;
    /// let support = Support::probe();
    /// assert!(support.iter().any(|ability| ability.available));
    /// ```
    pub fn iter(&self) -> std::slice::Iter<'_, Ability> {
        self.abilities.iter()
    }
}

impl<'a> IntoIterator for &'a Support {
    type Item = &'a Ability;
    type IntoIter = std::slice::Iter<'a, Ability>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl IntoIterator for Support {
    type Item = Ability;
    type IntoIter = std::vec::IntoIter<Ability>;

    fn into_iter(self) -> Self::IntoIter {
        self.abilities.into_iter()
    }
}

/// A table: availability, name, need and detail of each, and below what is missing why and what to do.
impl fmt::Display for Support {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Linux {}, uid {}", self.release, nix::unistd::geteuid())?;
        let width = self.iter().map(|ability| ability.name.len()).max().unwrap_or(0);
        for Ability { name, need, available, detail, reason, remedy } in self {
            let answer = if *available { "yes" } else { "no" };
            match detail {
                Some(detail) => writeln!(f, "{answer:<3}  {name:<width$}  {need:<12}  {detail}")?,
                None => writeln!(f, "{answer:<3}  {name:<width$}  {need}")?,
            }
            if let Some(reason) = reason {
                writeln!(f, "     why: {reason}")?;
            }
            if let Some(remedy) = remedy {
                writeln!(f, "     try: {remedy}")?;
            }
        }
        Ok(())
    }
}

/// How one ability is found out.
struct Probe {
    name: &'static str,
    need: Need,
    /// What helps where the failure itself suggests nothing; may be empty, or begin with the
    /// "Linux" that has it.
    remedy: &'static str,
    attempt: fn(Namespaces) -> Result<()>,
    detail: fn() -> Option<String>,
}

impl Probe {
    const fn new(
        name: &'static str,
        need: Need,
        remedy: &'static str,
        attempt: fn(Namespaces) -> Result<()>,
    ) -> Self {
        Probe { name, need, remedy, attempt, detail: || None }
    }

    /// With something to tell where it is available.
    const fn with(self, detail: fn() -> Option<String>) -> Self {
        Probe { detail, ..self }
    }

    /// A newer kernel is no remedy where the kernel only refuses.
    fn remedy(&self, error: &Error) -> Option<String> {
        let refused = [libc::EPERM, libc::EACCES, libc::EMFILE, libc::ENOMEM, libc::ENOSPC];
        let refused = error.raw_os_error().is_some_and(|errno| refused.contains(&errno));
        let useless = self.remedy.is_empty() || refused && self.remedy.starts_with("Linux");
        (!useless).then(|| self.remedy.to_owned())
    }

    fn ability(&self, base: Namespaces) -> Ability {
        let (reason, hint) = match (self.attempt)(base) {
            Ok(()) => (None, None),
            Err(error) => {
                let fallback = self.remedy(&error);
                let (reason, hint) = error.told();
                (Some(reason), hint.or(fallback))
            }
        };
        Ability {
            name: self.name,
            need: self.need,
            available: reason.is_none(),
            detail: if reason.is_none() { (self.detail)() } else { None },
            reason,
            remedy: hint,
        }
    }
}

const DEFAULT: &str = "default sandbox";

use Need::{Default as ByDefault, NiceToHave, OnRequest};

#[rustfmt::skip]
const PROBES: &[Probe] = &[
    Probe::new(DEFAULT, ByDefault, "see below for what is missing", |_| Sandbox::new().check()),
    Probe::new("init from memory", ByDefault, "", |_| memory()),
    Probe::new("user namespace", ByDefault, "", |_| bare(Namespaces::USER).check()),
    Probe::new("user namespace without privilege", OnRequest, "", unprivileged),
    Probe::new("mount namespace", ByDefault, "", |base| bare(base | Namespaces::MOUNT).check()),
    Probe::new("pid namespace", ByDefault, "", |base| bare(base | Namespaces::PID).check()),
    Probe::new("network namespace", ByDefault, "", |base| bare(base | Namespaces::NET).check()),
    Probe::new("ipc namespace", ByDefault, "", |base| bare(base | Namespaces::IPC).check()),
    Probe::new("uts namespace", ByDefault, "", |base| bare(base | Namespaces::UTS).check()),
    Probe::new("cgroup namespace", ByDefault, "", |base| bare(base | Namespaces::CGROUP).check()),
    Probe::new("time namespace", ByDefault, "", time),
    Probe::new("/proc with subset=pid", ByDefault, "", |base| proc(base, Proc::Processes)),
    Probe::new("/proc with a few files", OnRequest, "", |base| proc(base, Proc::Compat)),
    Probe::new("full /proc", OnRequest, "", |base| proc(base, Proc::Full)),
    Probe::new("machine of its own in /proc", OnRequest, "", machine),
    Probe::new("hidden host paths", OnRequest, "",
        |base| blank(base | Namespaces::MOUNT).hide_host_paths(true).check()),
    Probe::new("/sys", OnRequest, "",
        |base| bare(base | Namespaces::NET | Namespaces::MOUNT).sysfs().check()),
    Probe::new("POSIX message queues", OnRequest, "",
        |base| bare(base | Namespaces::IPC | Namespaces::MOUNT).mqueue().check()),
    Probe::new("overlays", OnRequest, "", |base| bare(base | Namespaces::MOUNT)
        .overlay("/overlay", Overlay::new(["/usr/bin"]).without_submounts()).check()),
    Probe::new("id-mapped mounts", OnRequest, "", mapped_mounts),
    Probe::new("id of the host's of its own", OnRequest, "", own_id),
    Probe::new("subordinate ids", OnRequest, "", |_| ids(IdMap::subordinate())),
    Probe::new("mount_setattr", NiceToHave, "Linux 5.12 has it", mount_setattr),
    Probe::new("loopback interface", ByDefault, "",
        |base| bare(base | Namespaces::NET).network(Network::Loopback).check()),
    Probe::new("system call filter", ByDefault, "", |base| blank(base).check()),
    Probe::new("filter with a listener", OnRequest, "", listener),
    Probe::new("Landlock, writing", NiceToHave, "Linux 5.19 has it", writing).with(landlock::told),
    Probe::new("Landlock, sockets and signals", NiceToHave, "Linux 6.12 has it",
        |base| bare(base).require(Feature::LandlockScopes).check()),
    Probe::new("Landlock, TCP ports", OnRequest, "Linux 6.7 has it", |base| bare(base)
        .landlock(Landlock::none().connect_tcp([443])).require(Feature::LandlockPorts).check()),
    Probe::new("Landlock, logging", OnRequest, "Linux 6.15 has it", |base| bare(base)
        .landlock(Landlock::default().log_denials(true)).require(Feature::LandlockLog).check()),
    Probe::new("exec label", OnRequest, "", |_| Label::chooses().map(drop)).with(label),
    Probe::new("sandbox without namespaces", OnRequest, "", |_| without_namespaces()),
    Probe::new("session keyring", ByDefault, "",
        |base| bare(base).require(Feature::SessionKeyring).check()),
    Probe::new("limit of nested user namespaces", NiceToHave,
        "make /proc/sys writable for the caller", nested_count),
    Probe::new("limits of inotify", NiceToHave, "make /proc/sys writable for the caller",
        |_| blank(Namespaces::USER).require(Feature::InotifyLimits).check()).with(inotify),
    Probe::new("dropping supplementary groups", NiceToHave, "",
        |base| bare(base).require(Feature::SupplementaryGroups).check()),
    Probe::new("raised oom_score_adj", OnRequest, "",
        |base| bare(base).require(Feature::OomScoreAdj).oom_score_adj(1000).check()),
    Probe::new("init as PID 1", ByDefault, "", |base| runs(base, true)),
    Probe::new("program as PID 1", OnRequest, "", |base| runs(base, false)),
    Probe::new("pidfd", ByDefault, "Linux 5.4 has all of it", |base| pidfd(base).map(drop)),
    #[cfg(feature = "systemd")]
    Probe::new("systemd scopes", OnRequest, "", |_| crate::cgroup::scope::probe()),
    Probe::new("PIDFD_INFO_EXIT", NiceToHave, "Linux 6.15 has it", |base| match pidfd(base)? {
        Some(_) => Ok(()),
        None => Err(failed("ask for an exit status", "through a pidfd", Errno::ENOTTY)),
    }),
];

/// The release that `uname -r` prints.
fn release() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease");
    text.map_or_else(|_| "of unknown release".to_owned(), |text| text.trim().to_owned())
}

fn failed(operation: &'static str, object: &str, errno: Errno) -> Error {
    Error::new(Stage::Run, operation, object, errno)
}

/// A sandbox of these new namespaces, in which every [`Feature`] may be missing.
fn blank(new: Namespaces) -> Sandbox {
    let sandbox = match new.contains(Namespaces::NET) {
        true => Sandbox::new().network(Network::None),
        false => Sandbox::new(),
    };
    let sandbox = sandbox
        .namespaces(new)
        .without_atomic_end()
        // Init's own filter would hide what is wrong with the namespace.
        .init(!new.contains(Namespaces::PID));
    let sandbox = Feature::ALL.into_iter().fold(sandbox, Sandbox::best_effort);
    if new.contains(Namespaces::MOUNT) {
        return sandbox.rootfs(Rootfs::empty()).proc(Proc::None);
    }
    sandbox
}

/// The same without a system call filter: nothing but the namespaces.
fn bare(new: Namespaces) -> Sandbox {
    blank(new).allow_nesting().seccomp(Seccomp::none())
}

/// Whatever comes after the launch, init was executed.
fn memory() -> Result<()> {
    match bare(Namespaces::empty()).check() {
        Err(error) if error.stage() == Some(Stage::Launch) => Err(error),
        _ => Ok(()),
    }
}

fn time(base: Namespaces) -> Result<()> {
    bare(base | Namespaces::TIME).require(Feature::TimeNamespace).check()
}

fn proc(base: Namespaces, proc: Proc) -> Result<()> {
    bare(base | Namespaces::PID | Namespaces::MOUNT).proc(proc).check()
}

fn nested_count(_: Namespaces) -> Result<()> {
    blank(Namespaces::USER).require(Feature::NestedUserNamespaceCount).check()
}

fn machine(base: Namespaces) -> Result<()> {
    let new = base | Namespaces::PID | Namespaces::MOUNT | Namespaces::TIME;
    bare(new).proc(Proc::Compat).view(View::new()).require(Feature::TimeNamespace).check()
}

fn own_id(_: Namespaces) -> Result<()> {
    bare(Namespaces::USER).own_host_id().uid(1).gid(1).check()
}

fn ids(map: IdMap) -> Result<()> {
    bare(Namespaces::USER).id_map(map).uid(0).gid(0).check()
}

/// By a program of whose calls one would be asked about.
fn listener(base: Namespaces) -> Result<()> {
    let asked = Seccomp::default().rule(Rule::new("reboot").then(Action::Notify));
    match inert(&blank(base).seccomp(asked))?.status()?.outcome {
        Outcome::Exited(2) => Ok(()),
        other => Err(failed("run a program", &format!("({other})"), Errno::EPROTO)),
    }
}

/// It would forbid what a program that may mount does.
fn writing(base: Namespaces) -> Result<()> {
    blank(base | Namespaces::MOUNT).require(Feature::Landlock).check()
}

fn label() -> Option<String> {
    Some(format!("the caller's: {}", Label::current().ok()?))
}

fn without_namespaces() -> Result<()> {
    // These hold in place of all others.
    let walls = [Feature::Landlock, Feature::LandlockScopes];
    let others = Feature::ALL.into_iter().filter(|feature| !walls.contains(feature));
    others.fold(Sandbox::new().without_namespaces(), Sandbox::best_effort).check()
}

fn inotify() -> Option<String> {
    let number = |name: &str| {
        let text = std::fs::read_to_string(format!("/proc/sys/fs/inotify/{name}")).ok()?;
        text.trim().parse::<u64>().ok()
    };
    let (instances, watches) = (number("max_user_instances")?, number("max_user_watches")?);
    Some(format!("the caller's: {instances} instances, {watches} watches"))
}

fn mapped_mounts(base: Namespaces) -> Result<()> {
    if !user::is_root() {
        return Err(Error::Unsupported {
            feature: Feature::IdMappedMounts,
            reason: "only root can make them, and only root's sandboxes need them".to_owned(),
        });
    }
    let root = Bind::read_only("/", "/mnt").without_submounts();
    bare(base | Namespaces::MOUNT).require(Feature::IdMappedMounts).bind(root).check()
}

/// `ENOSYS` before the arguments are looked at, which make no sense. A filter that kills for it
/// has killed init before, which calls it for every tree.
fn mount_setattr(base: Namespaces) -> Result<()> {
    bare(base | Namespaces::MOUNT).check()?;
    let null = std::fs::File::open("/dev/null")
        .map_err(|error| failed("open", "/dev/null", executable::errno_of(&error)))?;
    match sys::map_ids(null.as_fd(), null.as_fd(), false) {
        Err(Errno::ENOSYS) => Err(failed("mount_setattr", "", Errno::ENOSYS)),
        _ => Ok(()),
    }
}

/// The init program as a program: there is always this one. Without a mode it exits with code 2.
fn inert(sandbox: &Sandbox) -> Result<Command> {
    let init = executable::INIT.open(None)?;
    Ok(sandbox.command("/proc/self/fd/3").current_dir("/").fd(3, init))
}

fn runs(base: Namespaces, init: bool) -> Result<()> {
    let outcome = inert(&bare(base | Namespaces::PID).init(init))?.status()?.outcome;
    match outcome {
        Outcome::Exited(2) => Ok(()),
        other => Err(failed("run a program", &format!("({other})"), Errno::EPROTO)),
    }
}

/// Waits by descriptor; the exit status as told after somebody else has reaped the process.
fn pidfd(base: Namespaces) -> Result<Option<sys::Reaped>> {
    let child = inert(&bare(base | Namespaces::PID).init(false))?.spawn()?;
    if !sys::wait_readable(child.pidfd(), Some(Duration::from_secs(10))) {
        return Err(failed("poll", "a pidfd", Errno::ETIME));
    }
    match sys::reap(child.pidfd()) {
        // ECHILD: the embedder ignores SIGCHLD.
        Ok(_) | Err(Errno::ECHILD) => Ok(sys::ended_elsewhere(child.pidfd())),
        Err(errno) => Err(failed("waitid", "of a pidfd", errno)),
    }
}

/// What an unprivileged process can do here. If the caller is root, a program that is nobody's and
/// has no capability tries it: init, whose joining mode makes the namespaces that it is told.
fn unprivileged(_: Namespaces) -> Result<()> {
    // A restriction of the capabilities inside shows with the second namespace.
    let wanted = Namespaces::USER | Namespaces::UTS;
    if !user::is_root() {
        return bare(wanted).check();
    }
    let (ours, theirs) = control().map_err(|errno| failed("socketpair", "", errno))?;
    let embedder = sys::own_pidfd().map_err(|errno| failed("pidfd_open", "", errno))?;
    let command =
        inert(&bare(Namespaces::empty()))?.args(["j", "4", "5"]).fd(4, theirs).fd(5, embedder);
    let mut child = command.spawn()?;
    let flags = u64::from(wanted.bits()) | CLONE_PARENT as u64;
    let message = Join { namespaces: [(-1, 0); JOIN_MAX], flags, owner: u32::MAX };
    let mut bytes = Vec::with_capacity(JOIN);
    message.put(&mut bytes);
    send(ours.as_raw_fd(), &bytes, MsgFlags::MSG_NOSIGNAL)
        .map_err(|errno| failed("send", "namespaces to make", errno))?;
    sys::wait_readable(ours.as_fd(), Some(Duration::from_secs(10)));
    let answer = receive_now(ours.as_fd());
    // Without its socket what was made ends.
    drop(ours);
    child.wait()?;
    match answer {
        Some(Received::Report(answer, _)) if answer.kind == report::JOINED => Ok(()),
        Some(Received::Report(answer, _)) => {
            let [_, call, errno, ..] = answer.numbers;
            let call = Call::from_number(call).map_or("clone", Call::name);
            let errno = Errno::from_raw(i32::try_from(errno).unwrap_or(libc::EPROTO));
            Err(failed(call, &format!("({wanted})"), errno).with_hint(hint::for_clone(errno, true)))
        }
        _ => Err(failed("clone", &format!("({wanted})"), Errno::EPROTO)),
    }
}

fn control() -> Result<(OwnedFd, OwnedFd), Errno> {
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
}
