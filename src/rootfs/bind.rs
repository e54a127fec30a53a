//! Parts of the host's tree; [mount(2)](https://man7.org/linux/man-pages/man2/mount.2.html), "bind mount".

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::{absolute, bytes};
use crate::abi::*;
use crate::error::{Error, Feature, Result, Stage, quoted};
use crate::executable;
use crate::hint::Hint;
use crate::lower::{Lower, Lowered};
use crate::namespace::user;
use crate::sys;
use crate::wire::{BIND_RECURSIVE, Op};

/// A file or directory of the host's that is visible inside;
/// [mount(2)](https://man7.org/linux/man-pages/man2/mount.2.html), "bind mount".
///
/// Read-only ones are so through everything mounted below them. Neither setuid programs nor device
/// nodes work through any. With a root caller, what the caller owns is the program's own inside,
/// and what the program writes is the caller's outside (`MOUNT_ATTR_IDMAP` of
/// [mount_setattr(2)](https://man7.org/linux/man-pages/man2/mount_setattr.2.html), Linux 5.12).
/// What cannot do that (files of /proc, directories of /dev) needs
/// [`best_effort(Feature::IdMappedMounts)`](crate::Sandbox::best_effort) then.
///
/// A source may be relative to the caller's directory, or name one of its descriptors (`/dev/fd/3`),
/// if that is open on a file or directory that has a name. A target has to be absolute and without
/// `..`; it is created where the tree is the sandbox's own, and elsewhere has to exist. A link
/// inside cannot redirect it ([openat2(2)](https://man7.org/linux/man-pages/man2/openat2.2.html),
/// Linux 5.6).
///
/// # Examples
///
/// ```
/// use stockade::{Bind, Sandbox};
/// let sandbox = Sandbox::new().bind(Bind::read_only("/usr/bin", "/srv/tools").no_exec());
/// assert!(sandbox.command("test").args(["-s", "/srv/tools/env"]).status()?.outcome.is_success());
/// # Ok::<(), stockade::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Bind {
    source: PathBuf,
    target: PathBuf,
    attributes: u32,
    recursive: bool,
}

impl Bind {
    /// `source` of the host's, visible at `target`, not writable.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Bind, Sandbox};
    /// let sandbox = Sandbox::new().bind(Bind::read_only("/usr", "/data"));
    /// assert_eq!(sandbox.command("touch").arg("/data/new").status()?.outcome.code(), Some(1));
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn read_only(source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        let mut bind = Bind::read_write(source, target);
        bind.attributes |= MOUNT_ATTR_RDONLY;
        bind
    }

    /// `source` of the host's, visible at `target`, writable as far as the host's permissions go: a
    /// widening.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Bind, Sandbox};
    /// let directory = tempfile::tempdir()?;
    /// let sandbox = Sandbox::new().bind(Bind::read_write(directory.path(), "/out"));
    /// assert!(sandbox.command("touch").arg("/out/new").status()?.outcome.is_success());
    /// assert!(directory.path().join("new").exists());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn read_write(source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        Bind {
            source: source.into(),
            target: target.into(),
            attributes: MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV,
            recursive: true,
        }
    }

    /// Nothing in it can be executed (`MS_NOEXEC`).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Bind, Sandbox};
    /// let sandbox = Sandbox::new().bind(Bind::read_only("/usr/bin", "/tools").no_exec());
    /// let error = sandbox.command("/tools/env").spawn().unwrap_err();
    /// assert_eq!(error.raw_os_error(), Some(13)); // EACCES
    /// ```
    pub fn no_exec(mut self) -> Self {
        self.attributes |= MOUNT_ATTR_NOEXEC;
        self
    }

    /// Device nodes in it work: a widening, for `/dev/kvm` and the like. Without it they do not
    /// (`MS_NODEV`).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Bind, Sandbox};
    /// let zeros = Bind::read_only("/dev/zero", "/zeros").with_devices();
    /// let sandbox = Sandbox::new().bind(zeros);
    /// let output = sandbox.command("head").args(["-c", "2", "/zeros"]).output()?;
    /// assert_eq!(output.stdout, b"\0\0");
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn with_devices(mut self) -> Self {
        self.attributes &= !MOUNT_ATTR_NODEV;
        self
    }

    /// Leaves out what is mounted below the source; without this it comes along (`MS_REC`). To an
    /// unprivileged caller the kernel refuses it with EINVAL if something is mounted there: what
    /// that covers would show.
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
    pub fn without_submounts(mut self) -> Self {
        self.recursive = false;
        self
    }

    pub(crate) fn source(&self) -> &Path {
        &self.source
    }

    pub(crate) fn is_recursive(&self) -> bool {
        self.recursive
    }

    pub(crate) fn is_writable(&self) -> bool {
        self.attributes & MOUNT_ATTR_RDONLY == 0
    }

    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    pub(crate) fn lower(&self, plan: &mut Lower) -> Result<()> {
        let mut source = absolute(&self.source);
        let tree = plan.tree(&source, self.recursive);
        if tree < 0 {
            source = of_this_process(source)?;
        }
        let op = Op::Bind {
            from: bytes(&source),
            fd: tree,
            to: bytes(&self.target),
            flags: if self.recursive { BIND_RECURSIVE } else { 0 },
            attributes: self.attributes,
        };
        plan.step(op, "asked for");
        Ok(())
    }
}

/// What init is to open by name: it is another process, with another /proc/self and other descriptors.
fn of_this_process(source: PathBuf) -> Result<PathBuf> {
    const OWN: [&str; 3] = ["/proc/self", "/proc/thread-self", "/dev/fd"];
    if !OWN.iter().any(|place| source.starts_with(place)) {
        return Ok(source);
    }
    source.canonicalize().map_err(|error| {
        Error::new(Stage::Prepare, "resolve", quoted(&source), executable::errno_of(&error))
    })
}

/// A part of the host's tree that the caller's own process has to copy: once init has its ids, it
/// can neither reach what only root may see nor map the owners.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TreeSource {
    pub(crate) path: PathBuf,
    pub(crate) recursive: bool,
}

/// Detached copies, with the caller's files shown as the program's own.
#[derive(Debug, Default)]
pub(crate) struct Trees {
    pub(crate) fds: Vec<OwnedFd>,
    /// The kernel cannot map the ids of one of them, and the caller said that this is no error.
    pub(crate) unmapped: bool,
}

impl Trees {
    /// Copies all that a plan needs; through `mapping`, if there is that already.
    pub(crate) fn make(
        lowered: &Lowered,
        mapping: Option<BorrowedFd<'_>>,
        init_file: Option<&Path>,
        best_effort: bool,
    ) -> Result<Self> {
        let (mut trees, sources) = (Trees::default(), &lowered.trees);
        if sources.is_empty() {
            return Ok(trees);
        }
        let made = match mapping {
            Some(_) => None,
            None => Some(user::mapping_namespace(lowered.ids, &lowered.maps, init_file)?),
        };
        let Some(mapping) = mapping.or(made.as_ref().map(AsFd::as_fd)) else {
            return Ok(trees);
        };
        for source in sources {
            let deep = if source.recursive { AT_RECURSIVE } else { 0 };
            let tree = sys::open_tree(&source.path, OPEN_TREE_CLONE | deep).map_err(|errno| {
                if errno == Errno::EPERM && !user::may_copy_trees() {
                    return not_copied();
                }
                Error::new(Stage::Prepare, "open_tree", quoted(&source.path), errno).explained()
            })?;
            if is_device(tree.as_fd()) {
                // Its file system cannot map ids, and its owner is the host's in any case.
                trees.fds.push(tree);
                continue;
            }
            match sys::map_ids(tree.as_fd(), mapping, source.recursive) {
                Err(Errno::ENOSYS | Errno::EINVAL) if best_effort => trees.unmapped = true,
                other => other.map_err(|errno| not_mapped(&source.path, errno))?,
            }
            trees.fds.push(tree);
        }
        Ok(trees)
    }
}

fn is_device(tree: BorrowedFd<'_>) -> bool {
    let kind = nix::sys::stat::fstat(tree).map_or(0, |found| found.st_mode & libc::S_IFMT);
    kind == libc::S_IFCHR || kind == libc::S_IFBLK
}

fn not_copied() -> Error {
    let reason =
        "only a caller with CAP_SYS_ADMIN, which root of a container has not, shows parts of the \
        host's tree with other owners; best_effort(Feature::IdMappedMounts) binds without"
            .to_owned();
    Error::Unsupported { feature: Feature::IdMappedMounts, reason }
}

fn not_mapped(path: &Path, errno: Errno) -> Error {
    if errno == Errno::ENOSYS {
        let reason = "mount_setattr(2) needs Linux 5.12; best_effort(Feature::IdMappedMounts) \
            binds without it"
            .to_owned();
        return Error::Unsupported { feature: Feature::IdMappedMounts, reason };
    }
    let hint = (errno == Errno::EINVAL).then_some(Hint::NoIdMapping);
    Error::new(Stage::Prepare, "map owners of", quoted(path), errno).with_hint(hint)
}
