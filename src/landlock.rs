//! A second wall that stands on the program's own credentials;
//! [landlock(7)](https://man7.org/linux/man-pages/man7/landlock.7.html).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::OnceLock;

use nix::errno::Errno;

use crate::abi::{MOUNT_ATTR_NODEV, MOUNT_ATTR_RDONLY, MS_NODEV, MS_RDONLY};
use crate::capability::Capability;
use crate::error::{Error, Feature, Result, Stage, quoted};
use crate::given::Given;
use crate::learn;
use crate::namespace::Namespaces;
use crate::policy::Policy;
use crate::rootfs::bytes;
use crate::tier::Rights;
use crate::wire::{Op, Put};
use crate::{sys, tier};

/// `LANDLOCK_ACCESS_FS_…` and the first version of the interface that has them.
const OF_FILES: [(u32, u64); 4] = [(1, 0x1fff), (2, 0x2000), (3, 0x4000), (5, 0x8000)];
/// Of these, what changes nothing: executing, reading, and listing.
const READ: u64 = 0xd;
const EXECUTE: u64 = 1;
/// Before this one, a file that could be read could be truncated.
const TRUNCATION: u32 = 3;
/// Before this one, files could not be renamed into another directory at all.
const RENAMES: u32 = 2;
/// `LANDLOCK_ACCESS_NET_…`.
const BIND_TCP: u64 = 1;
const CONNECT_TCP: u64 = 2;
const PORTS: u32 = 4;
/// `LANDLOCK_SCOPE_…`.
const ABSTRACT_SOCKETS: u64 = 1;
const SIGNALS: u64 = 2;
const SCOPES: u32 = 6;
/// `LANDLOCK_RESTRICT_SELF_…`.
const LOG_NEW_EXEC_ON: u32 = 2;
const LOG_SUBDOMAINS_OFF: u32 = 4;
const LOGGING: u32 = 7;

/// What is refused to a program whatever its mounts and namespaces let through;
/// [landlock(7)](https://man7.org/linux/man-pages/man7/landlock.7.html).
///
/// By default, as far as the kernel has it:
///
/// * Nothing is written, made, removed or renamed but where a mount is writable (Linux 5.19): what is
///   read-only stays so even if a mount were wrong. Nothing can be mounted, either. A read-only place
///   below a writable one has its mount alone. Of the descriptors that a program is given, a file
///   that was opened for reading cannot be opened anew for writing by its name in /proc/self/fd.
///   POSIX message queues of an ipc namespace that is not the sandbox's own are not opened for
///   writing.
/// * Abstract Unix sockets and signals do not reach the outside (Linux 6.12), with a network or pid
///   namespace that is shared as well; not where it is joined, which is done to be reached.
///
/// The first is left away where a program may mount
/// ([`allow_nesting`](crate::Sandbox::allow_nesting), `CAP_SYS_ADMIN`), all of it where an exec may
/// gain privileges; [`Child::missing`](crate::Child::missing) tells.
///
/// # Examples
///
/// ```
/// use stockade::{Landlock, Network, Sandbox};
/// // The host's network, but no other server than one on port 443.
/// let sandbox =
///     Sandbox::new().network(Network::Host).landlock(Landlock::default().connect_tcp([443]));
/// # let sandbox = sandbox.best_effort(stockade::Feature::LandlockPorts);
/// assert!(sandbox.command("/bin/true").status()?.outcome.is_success());
/// # Ok::<(), stockade::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Landlock {
    walls: bool,
    bind: Option<BTreeSet<u16>>,
    connect: Option<BTreeSet<u16>>,
    log: bool,
    log_nested: bool,
}

impl Default for Landlock {
    fn default() -> Self {
        Landlock { walls: true, bind: None, connect: None, log: false, log_nested: true }
    }
}

impl Landlock {
    /// None of the default's walls; ports can still be named.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Landlock, Sandbox};
    /// let sandbox = Sandbox::new().landlock(Landlock::none());
    /// assert!(sandbox.command("/bin/true").status()?.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    #[must_use]
    pub fn none() -> Self {
        Landlock { walls: false, ..Landlock::default() }
    }

    /// The only TCP ports of its own that the program may bind, 0 standing for one that the kernel
    /// chooses; none at all for an empty list. Called again, adds to them. Linux 6.7; other kernels
    /// are an error unless [`Feature::LandlockPorts`] is best effort.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Feature, Landlock, Sandbox};
    /// let sandbox = Sandbox::new()
    ///     .landlock(Landlock::default().bind_tcp([8080]))
    ///     .best_effort(Feature::LandlockPorts);
    /// assert!(sandbox.command("/bin/true").status()?.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    #[must_use]
    pub fn bind_tcp(mut self, ports: impl IntoIterator<Item = u16>) -> Self {
        self.bind.get_or_insert_default().extend(ports);
        self
    }

    /// The only TCP ports that the program may connect to, of whatever address; see
    /// [`bind_tcp`](Self::bind_tcp).
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
    #[must_use]
    pub fn connect_tcp(mut self, ports: impl IntoIterator<Item = u16>) -> Self {
        self.connect.get_or_insert_default().extend(ports);
        self
    }

    /// Whether what is refused goes to the kernel's audit log; default false, as the program decides
    /// how much that is. Linux 6.15; other kernels are an error unless [`Feature::LandlockLog`] is
    /// best effort. [`Sandbox::learn`](crate::Sandbox::learn) has it done for a caller who may read it.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Feature, Landlock, Sandbox};
    /// let logged = Landlock::default().log_denials(true);
    /// let sandbox = Sandbox::new().landlock(logged).best_effort(Feature::LandlockLog);
    /// assert!(sandbox.command("/bin/true").status()?.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    #[must_use]
    pub fn log_denials(mut self, log: bool) -> Self {
        self.log = log;
        self
    }

    /// Whether rulesets that the program makes for itself may log as well; default true, Linux 6.15,
    /// likewise.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Feature, Landlock, Sandbox};
    /// let quiet = Landlock::default().log_nested(false);
    /// let sandbox = Sandbox::new().landlock(quiet).best_effort(Feature::LandlockLog);
    /// assert!(sandbox.command("/bin/true").status()?.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    #[must_use]
    pub fn log_nested(mut self, log: bool) -> Self {
        self.log_nested = log;
        self
    }

    pub(crate) fn has_walls(&self) -> bool {
        self.walls
    }

    /// The same ports alone.
    pub(crate) fn without_walls(self) -> Self {
        Landlock { walls: false, ..self }
    }

    /// As it is written in Rust.
    pub(crate) fn expression(&self) -> String {
        let mut text = format!("Landlock::{}()", if self.walls { "default" } else { "none" });
        for (name, ports) in [("bind_tcp", &self.bind), ("connect_tcp", &self.connect)] {
            if let Some(ports) = ports {
                let ports: Vec<_> = ports.iter().map(u16::to_string).collect();
                text += &format!(".{name}([{}])", ports.join(", "));
            }
        }
        for (name, value, usual) in
            [("log_denials", self.log, false), ("log_nested", self.log_nested, true)]
        {
            if value != usual {
                text += &format!(".{name}({value})");
            }
        }
        text
    }

    fn log_flags(&self) -> u32 {
        let new_exec = if self.log { LOG_NEW_EXEC_ON } else { 0 };
        new_exec | if self.log_nested { 0 } else { LOG_SUBDOMAINS_OFF }
    }

    fn ports(&self) -> BTreeMap<u16, u64> {
        let mut ports = BTreeMap::new();
        for (list, access) in [(&self.bind, BIND_TCP), (&self.connect, CONNECT_TCP)] {
            for &port in list.iter().flatten() {
                *ports.entry(port).or_default() |= access;
            }
        }
        ports
    }
}

/// What a program is bound to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ruleset {
    /// `struct landlock_ruleset_attr`: access to files and to ports, and scopes.
    handled: [u64; 3],
    flags: u32,
    /// Where access to files is allowed.
    places: Vec<(u64, Vec<u8>)>,
    /// They are all that there is to read and execute, and not only to write.
    is_view: bool,
    /// Likewise to message queues, which a mount of the kernel's own has.
    pub(crate) queues: bool,
    ports: BTreeMap<u16, u64>,
}

impl Ruleset {
    /// What `policy` asks for, where the tree is made by `operations`; and what cannot be given.
    pub(crate) fn new<'a>(
        policy: &Policy,
        operations: impl Iterator<Item = &'a Op<Vec<u8>>>,
        view: Option<BTreeMap<PathBuf, Rights>>,
    ) -> Result<(Self, Vec<Feature>)> {
        let (wanted, version) = (&policy.landlock, version()?);
        let mut made = Ruleset { flags: wanted.log_flags(), ..Ruleset::default() };
        let mut missing = Missing { policy, version, features: Vec::new() };
        if let Some(view) = view {
            missing.must(TRUNCATION)?;
            made.show(version, view);
        }
        if wanted.walls && policy.new_namespaces().contains(Namespaces::MOUNT) {
            let may_mount =
                policy.nesting || policy.capabilities.bounding().contains(Capability::SYS_ADMIN);
            let reason = may_mount.then_some("the program may mount, which it would forbid");
            if missing.can(Feature::Landlock, RENAMES, reason)? {
                made.handled[0] = of_files(version) & !READ;
                let access = made.handled[0];
                made.places = writable(operations).into_iter().map(|it| (access, it)).collect();
                made.queues = policy.new_namespaces().contains(Namespaces::IPC);
            }
        }
        if (wanted.bind.is_some() || wanted.connect.is_some())
            && missing.can(Feature::LandlockPorts, PORTS, None)?
        {
            for (list, access) in [(&wanted.bind, BIND_TCP), (&wanted.connect, CONNECT_TCP)] {
                made.handled[1] |= if list.is_some() { access } else { 0 };
            }
            made.ports = wanted.ports();
        }
        if tier::refuses_network(policy) && version >= PORTS {
            // The filter lets no socket be made; one that the program is given is bound by this.
            made.handled[1] = BIND_TCP | CONNECT_TCP;
        }
        if wanted.walls && missing.can(Feature::LandlockScopes, SCOPES, None)? {
            let joined = policy.joined_namespaces();
            for (kind, scope) in [(Namespaces::NET, ABSTRACT_SOCKETS), (Namespaces::PID, SIGNALS)] {
                made.handled[2] |= if joined.contains(kind) { 0 } else { scope };
            }
        }
        if made.flags != 0
            && (!missing.can(Feature::LandlockLog, LOGGING, None)? || made.handled == [0; 3])
        {
            made.flags = 0;
        }
        // The journal reads it, where there is somebody who may.
        let restricts = made.handled != [0; 3];
        if policy.learn && restricts && version >= LOGGING && learn::reads_audit_log() {
            made.flags |= LOG_NEW_EXEC_ON;
        }
        Ok((made, missing.features))
    }

    /// Nothing but these places.
    fn show(&mut self, version: u32, view: BTreeMap<PathBuf, Rights>) {
        let all = of_files(version);
        let access = |Rights { write, execute }| {
            let allowed = if write { all } else { READ };
            if execute { allowed } else { allowed & !EXECUTE }
        };
        self.handled[0] = all;
        self.is_view = true;
        let place = |(path, rights): (PathBuf, _)| (access(rights), bytes(&path));
        self.places = view.into_iter().map(place).collect();
    }

    pub(crate) fn handled(&self) -> Vec<u8> {
        self.handled.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    pub(crate) fn flags(&self) -> u32 {
        self.flags
    }

    /// Whether what is refused to the program goes to the audit log.
    pub(crate) fn is_logged(&self) -> bool {
        self.flags & LOG_NEW_EXEC_ON != 0
    }

    /// As init reads them.
    pub(crate) fn places(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (access, place) in &self.places {
            access.put(&mut out);
            place.put(&mut out);
        }
        out
    }

    /// The rules for ports and for the program's descriptors, as init reads them. A descriptor is to be of
    /// use by its name in /proc/self/fd as well, but a file that was opened for reading is not to be
    /// written.
    pub(crate) fn rules(&self, given: &[Given]) -> Vec<u8> {
        const PATH_BENEATH: u64 = 1;
        const NET_PORT: u64 = 2;
        let mut out = Vec::new();
        for (&port, &access) in &self.ports {
            [NET_PORT, access, u64::from(port)].iter().for_each(|word| word.put(&mut out));
        }
        for one in given {
            let access = self.handled[0] & one.access();
            if access != 0 {
                [PATH_BENEATH, access].iter().for_each(|word| word.put(&mut out));
                [one.source, 0].iter().for_each(|half| half.put(&mut out));
            }
        }
        out
    }

    /// What the rule with this number is about, as init counts them: first those that name no place.
    pub(crate) fn object(&self, index: usize) -> String {
        let place = index.checked_sub(1).and_then(|place| self.places.get(place));
        place.map_or_else(
            || "of ports, descriptors or message queues".to_owned(),
            |(_, place)| quoted(OsStr::from_bytes(place)),
        )
    }

    /// Where this is allowed.
    fn list(&self, wanted: u64) -> String {
        let fits = self.places.iter().filter(|(access, _)| access & wanted == wanted);
        let names: Vec<_> = fits.map(|(_, place)| String::from_utf8_lossy(place)).collect();
        names.join(", ")
    }

    /// A line for each thing that it refuses.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let [files, ports, scopes] = self.handled;
        if files != 0 && self.is_view {
            for (access, what) in
                [(READ & !EXECUTE, "reading"), (EXECUTE, "executing"), (files & !READ, "writing")]
            {
                let places = self.list(access);
                lines.push(format!("restrict {what} to {places} by Landlock: the only wall"));
            }
        } else if files != 0 {
            let places = self.list(files);
            lines.push(format!(
                "restrict writing to {places} by Landlock: a second wall behind the mounts"
            ));
        }
        for (access, what) in [(BIND_TCP, "binding"), (CONNECT_TCP, "connecting to")] {
            if ports & access != 0 {
                let own = self.ports.iter().filter(|(_, allowed)| *allowed & access != 0);
                let own: Vec<_> = own.map(|(port, _)| port.to_string()).collect();
                let own = if own.is_empty() { "none".to_owned() } else { own.join(", ") };
                lines.push(format!("restrict {what} TCP ports to {own} by Landlock: asked for"));
            }
        }
        for (scope, what) in [(ABSTRACT_SOCKETS, "abstract sockets"), (SIGNALS, "signals")] {
            if scopes & scope != 0 {
                let wall = if self.is_view { "the only wall" } else { "a second wall" };
                lines.push(format!("restrict {what} to the sandbox by Landlock: {wall}"));
            }
        }
        lines
    }
}

/// What is found to be missing.
struct Missing<'a> {
    policy: &'a Policy,
    version: u32,
    features: Vec<Feature>,
}

/// All access to files that this version knows.
fn of_files(version: u32) -> u64 {
    let known = OF_FILES.iter().filter(|(since, _)| *since <= version);
    known.fold(0, |all, (_, access)| all | access)
}

impl Missing<'_> {
    /// An error if what keeps the host's files, without namespaces, is not there, dispensable or not.
    fn must(&self, since: u32) -> Result<()> {
        if self.version >= since {
            return Ok(());
        }
        let reason = format!(
            "nothing else keeps the host's files without namespaces; version {since} of Landlock is needed \
             (Linux 6.2), and there is {}",
            self.version
        );
        Err(Error::Unsupported { feature: Feature::Landlock, reason })
    }

    /// Whether `feature` can be given by what came with version `since`, unless there is `another`
    /// reason against it.
    fn can(&mut self, feature: Feature, since: u32, another: Option<&str>) -> Result<bool> {
        let reason = if self.policy.new_privileges {
            "an exec may gain privileges, which it would forbid".to_owned()
        } else if let Some(reason) = another {
            reason.to_owned()
        } else if self.version == 0 {
            "the kernel has no Landlock, or it is not among the security modules that it was \
             started with (lsm=landlock,…), or a system call filter of the caller's hides it"
                .to_owned()
        } else if self.version < since {
            format!("version {} of Landlock has it not, {since} has", self.version)
        } else {
            return Ok(true);
        };
        if !self.policy.is_best_effort(feature) {
            return Err(Error::Unsupported { feature, reason });
        }
        self.features.push(feature);
        Ok(false)
    }
}

/// The version of the interface; 0 without one, or where a filter of the caller's hides it. It does not
/// change while the kernel runs.
fn version() -> Result<u32> {
    static VERSION: OnceLock<u32> = OnceLock::new();
    if let Some(version) = VERSION.get() {
        return Ok(*version);
    }
    let version = match sys::landlock_version() {
        Err(Errno::ENOSYS | Errno::EOPNOTSUPP | Errno::EPERM | Errno::EACCES) => 0,
        other => {
            other.map_err(|errno| Error::new(Stage::Prepare, "look for", "Landlock", errno))?
        }
    };
    Ok(*VERSION.get_or_init(|| version))
}

/// The version for people, if there is one.
pub(crate) fn told() -> Option<String> {
    version().ok().filter(|version| *version > 0).map(|version| format!("version {version}"))
}

/// Where something can be written in the tree that `operations` make: the last word about a place
/// counts, and what is below another writable place needs none of its own.
fn writable<'a>(operations: impl Iterator<Item = &'a Op<Vec<u8>>>) -> Vec<Vec<u8>> {
    let mut places: BTreeMap<&[u8], bool> = BTreeMap::new();
    let root = b"/".as_slice();
    let is_writable = |attributes: u32| attributes & MOUNT_ATTR_RDONLY == 0;
    // A node is written to on a read-only mount as well.
    let has_nodes = |attributes: u32| attributes & MOUNT_ATTR_NODEV == 0;
    for operation in operations {
        match operation {
            // What was before is where overlays are put together.
            Op::RootTmpfs { .. } => places = BTreeMap::from([(root, true)]),
            Op::RootDirectory { attributes, .. } => {
                places = BTreeMap::from([(root, is_writable(*attributes))]);
            }
            Op::Bind { to, attributes, .. } => {
                places.insert(to, is_writable(*attributes) || has_nodes(*attributes));
            }
            Op::Again { path, attributes } => {
                places.insert(path, is_writable(*attributes));
            }
            Op::Mount { to, flags, .. } => {
                places.insert(to, flags & MS_RDONLY == 0 || flags & MS_NODEV == 0);
            }
            Op::Pivot { attributes } if !is_writable(*attributes) => {
                places.insert(root, false);
            }
            _ => {}
        }
    }
    let mut kept: Vec<Vec<u8>> = Vec::new();
    // What is above comes first.
    for (path, _) in places.into_iter().filter(|(_, can)| *can) {
        let beneath = |above: &Vec<u8>| {
            path.strip_prefix(&**above).is_some_and(|rest| *above == root || rest.starts_with(b"/"))
        };
        if !kept.iter().any(beneath) {
            kept.push(path.to_vec());
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::Sandbox;

    fn places(sandbox: &Sandbox) -> Vec<String> {
        let plan = sandbox.plan().unwrap();
        let text = plan.to_string();
        let line = text.lines().find(|line| line.starts_with("restrict writing")).unwrap();
        let list = line.strip_prefix("restrict writing to ").unwrap();
        list.split(" by ").next().unwrap().split(", ").map(str::to_owned).collect()
    }

    fn bind(to: &str, attributes: u32) -> Op<Vec<u8>> {
        Op::Bind { from: b"/x".to_vec(), fd: -1, to: to.into(), flags: 0, attributes }
    }

    #[test]
    fn the_last_word_about_a_place_counts() {
        let root = Op::RootTmpfs { size: 1, inodes: 1 };
        let read_only = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV;
        let pivot = Op::Pivot { attributes: read_only };
        let found = |operations: &[Op<Vec<u8>>]| {
            let found = writable(operations.iter());
            found.into_iter().map(|place| String::from_utf8(place).unwrap()).collect::<Vec<_>>()
        };
        let write = MOUNT_ATTR_NODEV;
        let (a, again) =
            (bind("/a", write), Op::Again { path: "/a".into(), attributes: read_only });
        assert_eq!(found(&[root.clone(), a.clone(), pivot.clone()]), ["/a"]);
        assert_eq!(found(&[root.clone(), a.clone(), again, pivot.clone()]), [""; 0]);
        assert_eq!(found(&[root.clone(), a.clone(), bind("/a/b", write), pivot.clone()]), ["/a"]);
        // Not what only begins alike.
        assert_eq!(found(&[root.clone(), a, bind("/ab", write), pivot.clone()]), ["/a", "/ab"]);
        // A read-only node is written to all the same.
        assert_eq!(found(&[root.clone(), bind("/node", MOUNT_ATTR_RDONLY), pivot]), ["/node"]);
        assert_eq!(found(&[root, Op::Pivot { attributes: 0 }]), ["/"]);
    }

    #[test]
    fn the_default_writes_to_few_places() {
        if version().unwrap() < RENAMES {
            return;
        }
        let default = places(&Sandbox::new());
        assert!(default.contains(&"/tmp".to_owned()) && default.contains(&"/proc".to_owned()));
        for nowhere in ["/", "/usr", "/etc", "/dev"] {
            assert!(!default.contains(&nowhere.to_owned()), "{default:?}");
        }
    }
}
