//! The plan: the operations that make a sandbox, as a value.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::abi::{MOUNT_ATTR_RDONLY, MS_RDONLY};
use crate::cgroup;
use crate::error::{Feature, Result, quoted};
use crate::landlock::Ruleset;
use crate::lsm::Label;
use crate::namespace::Namespaces;
use crate::namespace::idmap::{Maps, Range};
use crate::namespace::user::{self, Ids};
use crate::sandbox::Sandbox;
use crate::wire::{OWN, Op, Put, Sink};

/// What is done to make a sandbox, in the order in which it is done.
///
/// Two plans are equal if they do the same. `Display` has one line for each operation, with its
/// object and its reason, in the order of execution: first what init does, then what the process does that it
/// starts and that works beside it. Host paths are in it, and what is written to control groups, as this host
/// has them; contents of files given as data are not.
///
/// # Examples
///
/// ```
/// let plan = stockade::Sandbox::new().hostname("build").plan()?;
/// assert!(plan.to_string().contains("sethostname \"build\""));
/// # Ok::<(), stockade::Error>(())
/// ```
#[derive(Clone)]
pub struct Plan {
    pub(crate) sandbox: Sandbox,
    /// The PATH that it was made with.
    pub(crate) search: OsString,
    pub(crate) at_clone: Namespaces,
    pub(crate) joined: Vec<(Namespaces, String)>,
    pub(crate) ids: Ids,
    pub(crate) maps: Maps,
    pub(crate) steps: Vec<Step>,
    /// How many of them are init's; the others are those of the program's process.
    pub(crate) of_init: usize,
    /// What the program is bound to by Landlock.
    pub(crate) ruleset: Ruleset,
    /// What is known to be missing.
    pub(crate) missing: Vec<Feature>,
    /// The caller's label, as far as it was looked for.
    pub(crate) label: Option<Label>,
}

/// One operation, and why it is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) op: Op<Vec<u8>>,
    pub(crate) reason: &'static str,
    /// What it does in another way, and what a failure of it is one of.
    pub(crate) stands_for: Option<Op<Vec<u8>>>,
}

impl Step {
    pub(crate) fn new(op: Op<Vec<u8>>, reason: &'static str) -> Self {
        Step { op, reason, stands_for: None }
    }

    /// What it is done to, for people.
    fn object(&self) -> String {
        self.stands_for.as_ref().unwrap_or(&self.op).object()
    }
}

impl Plan {
    /// The namespaces that are made; those that are shared or joined are not among them.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Namespaces, Network, Sandbox};
    /// let plan = Sandbox::new().network(Network::Host).plan()?;
    /// assert_eq!(plan.namespaces(), Namespaces::all() - Namespaces::NET);
    /// # Ok::<(), stockade::Error>(())
    /// ```
    #[must_use]
    pub fn namespaces(&self) -> Namespaces {
        self.sandbox.policy().new_namespaces()
    }

    /// How many operations are carried out inside.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let one_more = Sandbox::new().tmpfs("/scratch").plan()?.len();
    /// assert_eq!(one_more, Sandbox::new().plan()?.len() + 1);
    /// # Ok::<(), stockade::Error>(())
    /// ```
    #[must_use]
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether there is nothing to do.
    ///
    /// # Examples
    ///
    /// ```
    /// assert!(!stockade::Sandbox::new().plan()?.is_empty());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Carries it out up to the exec, in a sandbox that ends at once.
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
    /// Sandbox::new().plan()?.check()?;
    /// assert!(Sandbox::new().bind_same("/no/such/file").plan()?.check().is_err());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn check(&self) -> Result<()> {
        self.sandbox.command("/").env("PATH", &self.search).check()
    }

    /// With the caller's label, which nobody looks for to make a sandbox.
    pub(crate) fn labelled(self) -> Self {
        Plan { label: Label::current().ok(), ..self }
    }

    /// Where on the host its binds come from.
    pub(crate) fn sources(&self) -> impl Iterator<Item = &[u8]> {
        self.steps
            .iter()
            .filter_map(|step| match &step.op {
                Op::Bind { from, to, .. } if from != to => Some(&from[..]),
                Op::RootDirectory { from, .. } => Some(&from[..]),
                _ => None,
            })
            // Others are of what is let go with the host's root.
            .filter(|from| from.starts_with(b"/"))
    }

    fn map_line(&self, f: &mut fmt::Formatter<'_>, what: &str, range: Range) -> fmt::Result {
        let Range { inside, host, count } = range;
        if self.ids.are_chosen_late() {
            return writeln!(
                f,
                "map {what} {inside} to one of the host's that no other sandbox has: asked for"
            );
        }
        if count != 1 {
            let last = |first: u32| u64::from(first) + u64::from(count) - 1;
            let (inside_last, host_last) = (last(inside), last(host));
            return writeln!(
                f,
                "map {what} {inside} to {inside_last} to the host's {host} to {host_last}: asked for"
            );
        }
        let (uid, gid) = self.ids.inside;
        let reason = match what {
            "uid" if inside == uid => "the program's id",
            "gid" if inside == gid => "the program's group",
            _ => "asked for",
        };
        writeln!(f, "map {what} {inside} to the host's {host}: {reason}")
    }

    /// What follows in the process of whatever program is started, and what watches over it.
    fn of_the_program(&self) -> Vec<String> {
        let policy = self.sandbox.policy();
        let mut lines = vec!["new session: no controlling terminal unless asked for".to_owned()];
        let sets = &policy.capabilities;
        let powerless = user::is_powerless(policy);
        let bounding = (!powerless).then_some(("bounding", sets.bounding()));
        for (name, set) in bounding.into_iter().chain([
            ("inheritable", sets.inheritable()),
            ("ambient", sets.ambient()),
            ("permitted", sets.permitted()),
            ("effective", sets.effective()),
        ]) {
            let kept = if set.is_empty() { "none".to_owned() } else { set.to_string() };
            lines.push(format!("keep {name} capabilities {kept}: the others are given up"));
        }
        lines.push(match powerless {
            true => "leave the bounding set: only root narrows it, and no exec may gain".to_owned(),
            false => "lock securebits: no uid brings capabilities back".to_owned(),
        });
        if !policy.new_privileges {
            lines.push("set no_new_privs: no exec may gain".to_owned());
        }
        if policy.nice != 0 {
            lines.push(format!("set nice value {}: asked for", policy.nice));
        }
        lines.extend(policy.shared_lines());
        if !policy.nesting {
            lines
                .push("filter clone, unshare, setns: no namespace may be nested or entered".into());
        }
        if policy.init && policy.has_own_pids() {
            lines.push(
                "filter prlimit, sched_*, setpriority, ioprio_set: init's are not its".into(),
            );
        }
        lines.push(format!("filter system calls: {}", policy.seccomp));
        if policy.learn {
            lines.push("filter calls that may fail: the caller's process notes them".to_owned());
        }
        lines.extend(self.ruleset.lines());
        for (resource, limit) in policy.rlimits.iter() {
            let reason = policy.rlimits.reason(resource);
            lines.push(format!("limit {resource} {}:{}: {reason}", limit.soft, limit.hard));
        }
        if let (Some(label), None) = (&self.label, &policy.exec_label) {
            lines.push(format!("keep the label {label}: the caller's, unless policy has another"));
        }
        lines.push("execute the program: in its directory, with its descriptors only".to_owned());
        if let Some(time) = policy.limits.cpu_time {
            lines.push(format!("end it after {time:?} of CPU time: asked for"));
        }
        for (what, time) in [
            ("end it after", policy.wall),
            ("then wait", Some(policy.grace)),
            ("linger", Some(policy.linger)),
        ] {
            if let Some(time) = time.filter(|time| !time.is_zero()) {
                lines.push(format!("{what} {time:?}: asked for"));
            }
        }
        lines
    }

    /// The step that a report of init's is about.
    fn step(&self, index: u64) -> Option<&Step> {
        self.steps.get(usize::try_from(index).ok()?)
    }

    /// What that step is done to.
    pub(crate) fn object(&self, index: u64) -> String {
        self.step(index).map_or_else(String::new, Step::object)
    }

    /// Where the writable file systems in memory are, in the order in which init makes them; /tmp
    /// stands for all that is writable by default.
    pub(crate) fn memory_mounts(&self) -> Vec<PathBuf> {
        let tree = &self.sandbox.policy().tree;
        let staged = self.steps.iter().position(|step| step.op == Op::Enter {});
        let place = |(index, step): (usize, &Step)| match &step.op {
            Op::RootTmpfs { .. } => Some("/tmp".into()),
            Op::Mount { to, flags, .. } if flags & OWN != 0 && flags & MS_RDONLY == 0 => {
                let staged = staged.is_some_and(|staged| index < staged);
                tree.overlay_of(to, staged).or_else(|| Some(OsStr::from_bytes(to).into()))
            }
            _ => None,
        };
        self.steps.iter().take(self.of_init).enumerate().filter_map(place).collect()
    }

    /// What is done, in order.
    pub(crate) fn operations(&self) -> impl Iterator<Item = &Op<Vec<u8>>> {
        self.steps.iter().map(|step| &step.op)
    }

    /// What an operation keeps a descriptor of.
    pub(crate) fn kept(&self, index: u64) -> Option<&[u8]> {
        match &self.step(index)?.op {
            Op::Keep { path } => Some(path),
            _ => None,
        }
    }

    /// The operations of the program's process, and the number of the first.
    pub(crate) fn encode_own(&self) -> (u64, Vec<u8>) {
        let mut out = Vec::with_capacity(8 << 10);
        self.steps.iter().skip(self.of_init).for_each(|step| step.op.put(&mut out));
        (self.of_init as u64, out)
    }

    /// The operations as init reads them, with the descriptors that `trees` have in it in place of
    /// their numbers.
    pub(crate) fn encode(&self, trees: &[RawFd]) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.of_init * 64);
        for step in self.steps.iter().take(self.of_init) {
            match step.op.tree().and_then(|number| trees.get(number)) {
                Some(tree) => step.op.clone().with_tree(*tree).put(&mut out),
                None => step.op.put(&mut out),
            }
        }
        out
    }
}

/// Whether both do the same to whatever program comes after it.
impl PartialEq for Plan {
    fn eq(&self, other: &Self) -> bool {
        let parts = |plan: &Self| (plan.at_clone, plan.ids);
        parts(self) == parts(other)
            && self.joined == other.joined
            && self.maps == other.maps
            && self.steps == other.steps
            && self.ruleset == other.ruleset
            && self.missing == other.missing
            && self.label == other.label
            && self.of_the_program() == other.of_the_program()
            && self.sandbox.policy().seccomp == other.sandbox.policy().seccomp
            && self.sandbox.policy().limits == other.sandbox.policy().limits
            && self.sandbox.policy().cgroup_parent == other.sandbox.policy().cgroup_parent
    }
}

impl Eq for Plan {}

impl Sink for Vec<u8> {
    fn put(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }
}

impl Put for Vec<u8> {
    fn put(&self, out: &mut impl Sink) {
        length(self.len() + 1).put(out);
        out.put(self);
        out.put(&[0]);
    }
}

impl Put for Vec<Vec<u8>> {
    fn put(&self, out: &mut impl Sink) {
        length(self.len()).put(out);
        length(self.iter().map(|text| text.len() + 1).sum()).put(out);
        for text in self {
            out.put(text);
            out.put(&[0]);
        }
    }
}

/// Lengths are checked before (`validate`): a plan has less than 4 GiB.
fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

impl<S> Op<S> {
    /// The number of the tree that it attaches, if the caller's process has to copy it.
    fn tree(&self) -> Option<usize> {
        match self {
            Op::Bind { fd, .. } | Op::RootDirectory { fd, .. } => usize::try_from(*fd).ok(),
            _ => None,
        }
    }

    fn with_tree(mut self, number: RawFd) -> Self {
        if let Op::Bind { fd, .. } | Op::RootDirectory { fd, .. } = &mut self {
            *fd = number;
        }
        self
    }

    /// The verb that a plan shows for it.
    pub(crate) fn verb(&self) -> &'static str {
        match self {
            Op::WriteFile { .. } => "write",
            Op::Keyring { .. } => "new session keyring",
            Op::Await {} => "wait for the id maps",
            Op::Groups { .. } => "drop supplementary groups",
            Op::Credentials { .. } => "become",
            Op::EnterTime { .. } => "enter",
            Op::Start {} => "start the program's",
            Op::NewNetwork {} => "unshare",
            Op::JoinNetwork {} => "join",
            Op::NoNesting { .. } | Op::InotifyLimits {} => "write",
            Op::Unshare { .. } => "unshare",
            Op::Private {} => "make private",
            Op::Hide {} => "hide",
            Op::RootTmpfs { .. } => "root: tmpfs",
            Op::RootDirectory { .. } => "root: directory",
            Op::Directory { .. } => "directory",
            Op::File { .. } => "file",
            Op::Symlink { .. } => "symlink",
            Op::Owner { .. } => "change owner",
            Op::Bind { .. } => "bind",
            Op::Again { .. } => "attach again",
            Op::Enter {} => "enter",
            Op::Keep { .. } => "keep",
            Op::Mount { .. } => "mount",
            Op::Mask { .. } => "mask",
            Op::Loopback {} => "bring up",
            Op::Hostname { .. } => "sethostname",
            Op::Domainname { .. } => "setdomainname",
            Op::Pivot { .. } => "pivot_root",
            Op::SameIds { .. } => "map to itself",
        }
    }
}

impl Op<Vec<u8>> {
    /// What it is done to, for people.
    pub(crate) fn object(&self) -> String {
        let path = |bytes: &Vec<u8>| quoted(OsStr::from_bytes(bytes));
        let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).trim_end().replace('\n', ", ");
        match self {
            Op::Keyring { .. } | Op::Await {} | Op::Groups { .. } => String::new(),
            Op::Start {} => "process".to_owned(),
            Op::NewNetwork {} | Op::JoinNetwork {} => Namespaces::NET.to_string(),
            Op::EnterTime { .. } => Namespaces::TIME.to_string(),
            Op::Unshare { flags, .. } => Namespaces::from_bits_truncate(*flags).to_string(),
            Op::Credentials { uid, gid } | Op::SameIds { uid, gid } => {
                format!("uid {uid}, gid {gid}")
            }
            Op::NoNesting { .. } => "user.max_user_namespaces 0".to_owned(),
            Op::InotifyLimits {} => {
                "user.max_inotify_instances 32, user.max_inotify_watches 8192".to_owned()
            }
            Op::WriteFile { path, data, .. } => {
                let name = String::from_utf8_lossy(path);
                // Whoever writes writes of itself.
                let name = name.split_once("self/").map_or(&*name, |(_, name)| name);
                format!("{name} {}", text(data))
            }
            Op::Private {} | Op::Pivot { .. } | Op::Enter {} => "/".to_owned(),
            Op::Keep { path: at } if at.is_empty() => Namespaces::MOUNT.to_string(),
            Op::RootTmpfs { size, inodes } => format!("/ (size {size}, {inodes} inodes)"),
            Op::RootDirectory { from, .. } => path(from),
            Op::Directory { path: at, mode } => format!("{} (mode {mode:04o})", path(at)),
            Op::File { path: at, data, .. } => format!("{} ({} bytes)", path(at), data.len()),
            Op::Symlink { path: at, target } => format!("{} -> {}", path(at), path(target)),
            Op::Owner { path: at, uid, gid } => format!("{} (to {uid}:{gid})", path(at)),
            Op::Bind { from, to, attributes, .. } => {
                let read_only = attributes & MOUNT_ATTR_RDONLY != 0;
                let kind = if read_only { "read-only" } else { "writable" };
                format!("{} on {} ({kind})", path(from), path(to))
            }
            Op::Again { path: at, .. } | Op::Mask { path: at } | Op::Keep { path: at } => path(at),
            Op::Mount { kind, to, options, .. } => {
                format!("{} on {} ({})", text(kind), path(to), text(options))
            }
            Op::Loopback {} => "lo".to_owned(),
            Op::Hostname { name } | Op::Domainname { name } => path(name),
            Op::Hide {} => "where mounts come from".to_owned(),
        }
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (kind, place) in &self.joined {
            writeln!(f, "join {kind} {place}: asked for")?;
        }
        let groups = cgroup::group::lines(self.sandbox.policy());
        groups.iter().try_for_each(|line| writeln!(f, "{line}"))?;
        match self.at_clone.is_empty() {
            true => writeln!(f, "clone: no new namespaces")?,
            false => writeln!(f, "clone {}: new namespaces", self.at_clone)?,
        }
        if self.at_clone.contains(Namespaces::USER) {
            for (what, ranges) in [("uid", &self.maps.uids), ("gid", &self.maps.gids)] {
                ranges.iter().try_for_each(|range| self.map_line(f, what, *range))?;
            }
        }
        for step in &self.steps {
            match step.op.object().as_str() {
                "" => writeln!(f, "{}: {}", step.op.verb(), step.reason)?,
                object => writeln!(f, "{} {object}: {}", step.op.verb(), step.reason)?,
            }
        }
        self.of_the_program().iter().try_for_each(|line| writeln!(f, "{line}"))?;
        let missing = |feature| writeln!(f, "do without {feature}: asked for, or not to be had");
        self.missing.iter().try_for_each(missing)
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
