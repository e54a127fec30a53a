//! The file tree inside; [mount_namespaces(7)](https://man7.org/linux/man-pages/man7/mount_namespaces.7.html).

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;

use crate::abi::*;
use crate::error::{Error, Result, Stage, quoted};
use crate::executable;
use crate::lower::Lower;
use crate::namespace::ipc;
use crate::namespace::user::Ids;
use crate::rlimit::Max;
use crate::wire::{BIND_RECURSIVE, Op};

mod bind;
mod data;
mod dev;
mod etc;
mod machine;
mod overlay;
mod proc;
mod program;
mod tmpfs;
mod view;

pub use bind::Bind;
pub use data::{Content, Data};
pub use machine::View;
pub use overlay::Overlay;
pub use proc::Proc;
pub use tmpfs::Tmpfs;

pub(crate) use bind::{TreeSource, Trees};
pub(crate) use machine::Machine;
pub(crate) use overlay::{Held, prepare};

/// Bytes in all of /tmp, the home directory and /dev/shm, unless asked for otherwise.
const BUDGET: u64 = 256 << 20;
/// Files in all of them.
const INODES: u64 = 65536;
/// The home directory of the inside.
pub(crate) const HOME: &str = "/home/user";

/// The host's system directories besides /usr: links into it on a merged-usr host.
const SYSTEM: &[&str] = &["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];

/// What the sandbox's file tree begins with; [`host`](Self::host) by default. What is added on top
/// comes in the caller's order.
///
/// The tree is put together from detached mounts
/// ([open_tree(2)](https://man7.org/linux/man-pages/man2/open_tree.2.html), Linux 5.2) and becomes the
/// root by [pivot_root(2)](https://man7.org/linux/man-pages/man2/pivot_root.2.html).
///
/// # Examples
///
/// ```
/// use stockade::{Rootfs, Sandbox};
/// let sandbox = Sandbox::new().rootfs(Rootfs::host()).file("/motd", "welcome\n");
/// assert_eq!(sandbox.command("cat").arg("/motd").output()?.stdout, b"welcome\n");
/// # Ok::<(), stockade::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Rootfs {
    base: Base,
    /// What was asked for, if it was.
    generated_etc: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Base {
    Host,
    Empty,
    Directory { path: PathBuf, writable: bool },
    Layers(Overlay),
}

impl Rootfs {
    /// The host's /usr, /bin, /sbin and /lib*, read-only, the few files of its /etc that programs
    /// need, and [generated](Self::generated_etc) ones. No /home, /root, /var, /run or /sys. This is
    /// the default; docs/defaults.md lists all of it.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Rootfs, Sandbox};
    /// assert_eq!(Rootfs::host(), Rootfs::default());
    /// let script = "test -e /usr/bin && ! test -e /var && ! test -e /etc/shadow";
    /// assert!(Sandbox::new().command("sh").args(["-c", script]).status()?.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn host() -> Self {
        Rootfs { base: Base::Host, generated_etc: None }
    }

    /// No file of the host's: only /dev, /proc, /tmp, the home directory, and what is added.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Rootfs, Sandbox};
    /// let mut sandbox = Sandbox::new().rootfs(Rootfs::empty());
    /// for path in ["/usr", "/bin", "/lib", "/lib64"] {
    ///     if std::path::Path::new(path).exists() {
    ///         sandbox = sandbox.bind_same(path);
    ///     }
    /// }
    /// let script = "test ! -e /etc && test -w /tmp";
    /// assert!(sandbox.command("sh").args(["-c", script]).status()?.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn empty() -> Self {
        Rootfs { base: Base::Empty, generated_etc: None }
    }

    /// A directory of the host's, such as an unpacked image, read-only unless
    /// [`writable`](Self::writable). It must have the directories proc, dev and tmp: nothing is
    /// created in it. Its /etc is used as it is. HOME is /home/user if it has a directory home, else
    /// /tmp. A relative path starts from the caller's directory. docs/images.md says how to make one.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Rootfs, Sandbox};
    /// # let image = tempfile::tempdir()?;
    /// # for part in ["proc", "dev", "tmp", "usr", "bin", "lib", "lib64"] {
    /// #     std::fs::create_dir(image.path().join(part))?;
    /// # }
    /// # let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    /// # std::fs::set_permissions(image.path(), mode)?;
    /// let mut sandbox = Sandbox::new().rootfs(Rootfs::directory(image.path()));
    /// # for path in ["/usr", "/bin", "/lib", "/lib64"] {
    /// #     if std::path::Path::new(path).exists() {
    /// #         sandbox = sandbox.bind_same(path);
    /// #     }
    /// # }
    /// assert!(sandbox.command("true").status()?.outcome.is_success());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn directory(path: impl Into<PathBuf>) -> Self {
        let base = Base::Directory { path: path.into(), writable: false };
        Rootfs { base, generated_etc: None }
    }

    /// Directories of the host's laid over each other, each on top of the one before it: a base
    /// system, a tool chain, a project. What the program writes is thrown away with the handle; for
    /// other uppers see [`overlay`](Self::overlay).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Rootfs, Sandbox};
    /// # let (base, tools) = (tempfile::tempdir()?, tempfile::tempdir()?);
    /// # let mode = |bits| std::os::unix::fs::PermissionsExt::from_mode(bits);
    /// # for directory in [base.path(), tools.path()] {
    /// #     std::fs::set_permissions(directory, mode(0o755))?;
    /// # }
    /// std::fs::write(tools.path().join("tool"), "#!/bin/sh\necho works\n")?;
    /// # std::fs::set_permissions(tools.path().join("tool"), mode(0o755))?;
    /// let mut sandbox = Sandbox::new().rootfs(Rootfs::layers([base.path(), tools.path()]));
    /// # for path in ["/usr", "/bin", "/lib", "/lib64"] {
    /// #     if std::path::Path::new(path).exists() {
    /// #         sandbox = sandbox.bind_same(path);
    /// #     }
    /// # }
    /// assert_eq!(sandbox.command("/tool").output()?.stdout, b"works\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn layers(layers: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        Rootfs::overlay(Overlay::new(layers))
    }

    /// An [`Overlay`], with whatever upper (Linux 5.11, from a root caller 5.19). Only with a
    /// throw-away one the directories that something is to be mounted on (proc, dev, tmp, home) are
    /// made if no layer has them.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Overlay, Rootfs, Sandbox};
    /// let layers = Overlay::new(["/usr/bin"]).size(1 << 20);
    /// let sandbox = Sandbox::new().rootfs(Rootfs::overlay(layers));
    /// assert!(sandbox.plan()?.to_string().contains("mount overlay"));
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn overlay(overlay: Overlay) -> Self {
        Rootfs { base: Base::Layers(overlay), generated_etc: None }
    }

    /// Lets the program write to the directory; no effect on the other kinds, of which nothing of
    /// the host's is writable.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Rootfs, Sandbox};
    /// let sandbox = Sandbox::new().rootfs(Rootfs::directory(std::env::temp_dir()).writable());
    /// assert!(sandbox.plan()?.to_string().contains("root: directory"));
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn writable(mut self) -> Self {
        if let Base::Directory { writable, .. } = &mut self.base {
            *writable = true;
        }
        self
    }

    /// Whether /etc has passwd, group, hosts, host.conf, hostname, nsswitch.conf and machine-id of the
    /// sandbox's own, and with [`host`](Self::host) the time zone, too. Default: in
    /// [`host`](Self::host), and not in [`empty`](Self::empty). What the caller puts at one of these
    /// paths takes the place of the generated file. A [`directory`](Self::directory) keeps its own
    /// /etc: to ask for another one is a contradiction.
    ///
    /// The user is called user, root if its uid is 0, and nobody if that is 65534. The machine-id is
    /// the same in every sandbox ([machine-id(5)](https://man7.org/linux/man-pages/man5/machine-id.5.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Rootfs, Sandbox};
    /// let names = "whoami && getent hosts localhost";
    /// let whoami = |sandbox: Sandbox| sandbox.command("sh").args(["-c", names]).status();
    /// assert!(whoami(Sandbox::new())?.outcome.is_success());
    /// let without = Rootfs::host().generated_etc(false);
    /// assert!(!whoami(Sandbox::new().rootfs(without))?.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn generated_etc(mut self, wanted: bool) -> Self {
        self.generated_etc = Some(wanted);
        self
    }

    fn is_host(&self) -> bool {
        matches!(self.base, Base::Host)
    }

    /// The directory of the host's that paths inside start from, if there is one.
    pub(crate) fn directory_path(&self) -> Option<&Path> {
        match &self.base {
            Base::Directory { path, .. } => Some(path),
            Base::Host | Base::Empty | Base::Layers(_) => None,
        }
    }
}

impl Default for Rootfs {
    fn default() -> Self {
        Rootfs::host()
    }
}

/// Init remembers the file systems that are the sandbox's own, 256 of them.
const TMPFS_MAX: usize = 200;

/// For each of them it keeps two.
const OVERLAYS_MAX: usize = 16;

/// One thing that is added to the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    Bind(Bind),
    Program { path: PathBuf },
    Tmpfs(Tmpfs),
    Data(Data),
    Overlay(PathBuf, Overlay),
    Mqueue { path: PathBuf },
    Sysfs,
}

/// The whole tree: what it begins with, what is added, and the file systems of the kernel's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tree {
    pub(crate) base: Rootfs,
    pub(crate) entries: Vec<Entry>,
    pub(crate) proc: Proc,
    pub(crate) timezone: Option<String>,
    /// Bytes in all that is writable by default, if that was asked for.
    pub(crate) budget: Option<u64>,
    pub(crate) inodes: u64,
    /// The mounts stay as long as the handle.
    pub(crate) keep_mounts: bool,
    /// No list of mounts has any.
    pub(crate) hide_paths: bool,
    /// What /proc tells of the machine is the sandbox's own.
    pub(crate) view: Option<View>,
}

/// What the tree shows of the rest of the sandbox.
#[derive(Debug, Clone)]
pub(crate) struct Inside<'a> {
    pub(crate) ids: Ids,
    pub(crate) home: &'static str,
    /// The PATH of the command.
    pub(crate) search: &'a OsStr,
    /// `None` where it is not the sandbox's own.
    pub(crate) hostname: Option<&'a [u8]>,
    pub(crate) own_pids: bool,
    /// Bytes in all of /tmp, the home directory and /dev/shm.
    pub(crate) budget: u64,
    /// What /proc tells of, if that is not the host.
    pub(crate) machine: Option<Machine>,
}

impl Default for Tree {
    fn default() -> Self {
        Tree {
            base: Rootfs::host(),
            entries: Vec::new(),
            proc: Proc::default(),
            timezone: None,
            budget: None,
            inodes: INODES,
            keep_mounts: false,
            hide_paths: false,
            view: None,
        }
    }
}

impl Tree {
    /// What of the host's tree is a directory or a link, as the distribution has it.
    pub(crate) fn system_links(&self) -> &'static [&'static str] {
        if self.base.is_host() { SYSTEM } else { &[] }
    }

    pub(crate) fn has_sysfs(&self) -> bool {
        self.entries.contains(&Entry::Sysfs)
    }

    /// The caller changed something, so a mount namespace of its own is needed.
    pub(crate) fn is_default(&self) -> bool {
        *self == Tree::default()
    }

    /// How much of /proc there is: a view needs what it is about.
    pub(crate) fn proc(&self) -> Proc {
        match self.view {
            Some(_) if self.proc == Proc::Processes => Proc::Compat,
            _ => self.proc,
        }
    }

    pub(crate) fn problems(&self, problems: &mut Vec<String>) {
        if let Some(view) = &self.view {
            view.problems(problems);
            if self.proc() != Proc::Compat {
                problems.push(format!("view(..) implies Proc::Compat, and not {:?}", self.proc));
            }
        }
        if self.budget == Some(0) || self.inodes == 0 {
            problems.push("a tmpfs size or inode limit of 0 means \"unlimited\"".to_owned());
        }
        let tmpfs = self.entries.iter().filter(|entry| matches!(entry, Entry::Tmpfs(_))).count();
        if tmpfs > TMPFS_MAX {
            problems.push(format!("{tmpfs} tmpfs are more than {TMPFS_MAX}"));
        }
        let overlays = self.overlays().count();
        if overlays > OVERLAYS_MAX {
            problems.push(format!("{overlays} overlays are more than {OVERLAYS_MAX}"));
        }
        self.overlays().for_each(|(path, overlay)| overlay.problems(path, problems));
        self.etc_problems(problems);
        for entry in &self.entries {
            match entry {
                Entry::Bind(bind) => check_source(bind.source(), problems),
                Entry::Program { path } => check_source(path, problems),
                Entry::Tmpfs(tmpfs) => tmpfs.problems(problems),
                Entry::Data(data) => data.problems(problems),
                // Overlays have been looked at.
                Entry::Overlay(..) | Entry::Mqueue { .. } | Entry::Sysfs => {}
            }
            let Some(inside) = entry.place() else { continue };
            check_inside(inside, problems);
            if let Entry::Data(data) = entry {
                data.target().into_iter().for_each(|target| check_bytes(target, problems));
            }
        }
    }

    /// Bytes in all of /tmp, the home directory and /dev/shm: without a word of the caller's half of
    /// the memory, if that is limited, so that a full file system is told before memory is out.
    pub(crate) fn budget(&self, memory: Option<Max>) -> u64 {
        let half = match memory {
            Some(Max::At(bytes)) => (bytes / 2).max(1),
            Some(Max::Unlimited) | None => BUDGET,
        };
        self.budget.unwrap_or(half)
    }

    /// What is to belong to somebody by name, and to whom.
    pub(crate) fn owners(&self) -> impl Iterator<Item = (&Path, (u32, u32))> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Data(data) => data.owned_by().map(|owner| (data.path(), owner)),
            _ => None,
        })
    }

    /// HOME inside: a directory image that has no /home gets /tmp.
    pub(crate) fn home(&self) -> &'static str {
        match self.base.directory_path() {
            Some(path) if !path.join("home").is_dir() => return "/tmp",
            _ => {}
        }
        match &self.base.base {
            Base::Layers(overlay) if !overlay.is_thrown_away() && !overlay.has("home") => "/tmp",
            _ => HOME,
        }
    }

    /// Where something is mounted on the root that ends with the sandbox's mounts: not the parts of
    /// the root's own tmpfs, which are attached a second time.
    pub(crate) fn mounts(&self) -> Vec<PathBuf> {
        let own: &[&str] = match &self.base.base {
            Base::Host | Base::Empty => &[],
            Base::Directory { .. } | Base::Layers(_) => &["/tmp", "/home", "/dev"],
        };
        let added = self.entries.iter().filter_map(|entry| match entry {
            Entry::Bind(bind) => Some(bind.target()),
            Entry::Tmpfs(tmpfs) => Some(tmpfs.path()),
            Entry::Overlay(path, _) => Some(path),
            _ => None,
        });
        own.iter().map(Path::new).chain(added).map(Path::to_owned).collect()
    }

    /// All overlays and their places inside, the root's first.
    pub(crate) fn overlays(&self) -> impl Iterator<Item = (&Path, &Overlay)> + Clone {
        let root = match &self.base.base {
            Base::Layers(overlay) => Some((Path::new("/"), overlay)),
            Base::Host | Base::Empty | Base::Directory { .. } => None,
        };
        root.into_iter().chain(self.entries.iter().filter_map(|entry| match entry {
            Entry::Overlay(path, overlay) => Some((path.as_path(), overlay)),
            _ => None,
        }))
    }

    /// Whether what is written somewhere in it stays on the host.
    pub(crate) fn is_kept(&self) -> bool {
        matches!(self.base.base, Base::Directory { writable: true, .. })
            || self.overlays().any(|(_, overlay)| overlay.kept().is_some())
            || self
                .entries
                .iter()
                .any(|entry| matches!(entry, Entry::Bind(bind) if bind.is_writable()))
    }

    /// The place of the overlay that a mount is the upper of, or the root's.
    pub(crate) fn overlay_of(&self, at: &[u8], staged: bool) -> Option<PathBuf> {
        let mut overlays = self.overlays();
        if staged {
            let number = std::str::from_utf8(at.strip_prefix(b"/u")?).ok()?.parse().ok()?;
            return overlays.nth(number).map(|(path, _)| path.to_owned());
        }
        let (path, _) = overlays.next().filter(|_| at == overlay::ROOT)?;
        (path == Path::new("/")).then(|| path.to_owned())
    }

    /// All operations from the root to the pivot, in their order.
    pub(crate) fn lower(&self, plan: &mut Lower, inside: &Inside<'_>) -> Result<()> {
        plan.step(Op::Private {}, "no mount made here may reach the host, or back");
        let overlays = self.overlays().map(|(_, overlay)| overlay);
        let files = inside.machine.as_ref().map(Machine::files).transpose()?.unwrap_or_default();
        let mut options = overlay::lower_stage(overlays, &files, plan).into_iter();
        let attributes = match &self.base.base {
            Base::Host => self.lower_host(inside, plan)?,
            Base::Empty => self.lower_fresh(inside, plan),
            Base::Directory { path, writable } => {
                let fd = plan.tree(&absolute(path), true);
                self.lower_image(plan, inside, bytes(&absolute(path)), fd, *writable)
            }
            Base::Layers(overlay) => {
                let options = options.next().unwrap_or_default();
                overlay.lower(plan, Path::new(OsStr::from_bytes(overlay::ROOT)), &options);
                self.lower_image(
                    plan,
                    inside,
                    overlay::ROOT[1..].to_vec(),
                    -1,
                    !overlay.is_read_only(),
                )
            }
        };
        self.lower_generated_etc(inside, plan)?;
        self.proc().lower(plan, inside.own_pids, inside.machine.as_ref())?;
        for entry in &self.entries {
            match entry {
                Entry::Overlay(path, overlay) => {
                    overlay.lower(plan, path, &options.next().unwrap_or_default());
                }
                other => other.lower(plan, inside.search)?,
            }
        }
        if self.keep_mounts {
            plan.step(Op::Keep { path: Vec::new() }, "asked for");
        }
        plan.step(Op::Pivot { attributes }, "from here on nothing of the host's has a name");
        Ok(())
    }

    fn lower_fresh(&self, inside: &Inside<'_>, plan: &mut Lower) -> u32 {
        let (size, inodes) = (inside.budget, self.inodes);
        plan.step(Op::RootTmpfs { size, inodes }, "an empty tree of the sandbox's own");
        for (path, mode) in [("/tmp", 0o1777), (HOME, 0o755), ("/dev/shm", 0o1777)] {
            plan.directory(Path::new(path), mode);
        }
        for path in ["/tmp", HOME, "/dev/shm"] {
            let attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV;
            let op = Op::Again { path: path.into(), attributes };
            plan.step(op, "writable in a root that is not, from one budget");
        }
        dev::lower(plan);
        MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV
    }

    fn lower_host(&self, inside: &Inside<'_>, plan: &mut Lower) -> Result<u32> {
        let attributes = self.lower_fresh(inside, plan);
        self.lower_system(plan)?;
        Ok(attributes)
    }

    fn lower_system(&self, plan: &mut Lower) -> Result<()> {
        system_directory(plan, Path::new("/usr"))?;
        for path in SYSTEM.iter().map(Path::new) {
            match path.read_link() {
                Ok(target) => plan.symlink(path, &target),
                Err(_) => system_directory(plan, path)?,
            }
        }
        self.lower_shared_etc(plan)
    }

    fn lower_image(
        &self,
        plan: &mut Lower,
        inside: &Inside<'_>,
        from: Vec<u8>,
        fd: i32,
        writable: bool,
    ) -> u32 {
        let read_only = if writable { 0 } else { MOUNT_ATTR_RDONLY };
        let attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | read_only;
        let op = Op::RootDirectory { from, fd, attributes };
        plan.step(op, "the tree to begin with");
        let share = |mode, path: &str| Tmpfs::new(path).size(inside.budget).mode(mode);
        share(0o1777, "/tmp").inodes(self.inodes).lower(plan);
        if self.home() == HOME {
            share(0o755, "/home").inodes(self.inodes).lower(plan);
            plan.directory(Path::new(HOME), 0o755);
        }
        Tmpfs::new("/dev").size(65536).inodes(64).mode(0o755).lower(plan);
        plan.directory(Path::new("/dev/shm"), 0o1777);
        share(0o1777, "/dev/shm").inodes(self.inodes).lower(plan);
        dev::lower(plan);
        0
    }
}

/// A read-only view of a directory or file of the host's, if the host has it and shows it to the
/// caller.
fn system_directory(plan: &mut Lower, path: &Path) -> Result<()> {
    match path.try_exists().map_err(|error| executable::errno_of(&error)) {
        Ok(true) => {}
        Ok(false) | Err(Errno::ENOTDIR | Errno::EACCES) => return Ok(()),
        Err(errno) => return Err(Error::new(Stage::Prepare, "stat", quoted(path), errno)),
    }
    let op = Op::Bind {
        from: bytes(path),
        fd: -1,
        to: bytes(path),
        flags: BIND_RECURSIVE,
        attributes: MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV,
    };
    plan.step(op, "programs need it, and it tells nothing of the host's users");
    Ok(())
}

impl Entry {
    /// Where it is put; a sysfs is always at /sys, and a program has places of its own.
    fn place(&self) -> Option<&Path> {
        match self {
            Entry::Bind(bind) => Some(bind.target()),
            Entry::Tmpfs(tmpfs) => Some(tmpfs.path()),
            Entry::Data(data) => Some(data.path()),
            Entry::Overlay(path, _) => Some(path),
            Entry::Mqueue { path } => Some(path),
            Entry::Program { .. } | Entry::Sysfs => None,
        }
    }

    /// Whether what is in the tree at its place stays there.
    fn is_directory(&self) -> bool {
        matches!(self, Entry::Data(data) if data.is_directory())
    }

    pub(crate) fn lower(&self, plan: &mut Lower, search: &OsStr) -> Result<()> {
        match self {
            Entry::Bind(bind) => bind.lower(plan)?,
            Entry::Program { path } => program::lower(&absolute(path), search, plan)?,
            Entry::Tmpfs(tmpfs) => tmpfs.lower(plan),
            Entry::Data(data) => data.lower(plan)?,
            // With the options that come of the stage.
            Entry::Overlay(..) => {}
            Entry::Mqueue { path } => {
                ipc::lower_queues(path, plan);
            }
            Entry::Sysfs => {
                let flags = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;
                plan.mount("sysfs", Path::new("/sys"), flags, "");
                for path in ["/sys/firmware", "/sys/devices/virtual/powercap"] {
                    plan.mask(Path::new(path));
                }
                for path in thermal_counters() {
                    plan.mask(&path);
                }
            }
        }
        Ok(())
    }
}

/// Counters that tell of the load of each of the host's processors.
fn thermal_counters() -> Vec<PathBuf> {
    let processors = std::fs::read_dir("/sys/devices/system/cpu").into_iter().flatten().flatten();
    let counters = processors.map(|entry| entry.path().join("thermal_throttle"));
    counters.filter(|path| path.exists()).collect()
}

/// The path's bytes.
pub(crate) fn bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}

/// The path from the root on; sources may be relative to the caller's directory.
pub(crate) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn check_bytes(path: &Path, problems: &mut Vec<String>) {
    if path.as_os_str().is_empty() {
        problems.push("a path is empty".to_owned());
    } else if path.as_os_str().as_bytes().contains(&0) {
        problems.push(format!("the path {path:?} contains a NUL byte"));
    }
}

fn check_source(path: &Path, problems: &mut Vec<String>) {
    check_bytes(path, problems);
}

fn check_inside(path: &Path, problems: &mut Vec<String>) {
    check_bytes(path, problems);
    if !path.is_absolute() {
        problems.push(format!("the path {path:?} inside the sandbox is not absolute"));
    } else if path.components().any(|part| part == Component::ParentDir) {
        problems.push(format!("the path {path:?} inside the sandbox contains \"..\""));
    } else if path.parent().is_none() {
        problems.push("\"/\" itself is given by rootfs(..)".to_owned());
    }
}
