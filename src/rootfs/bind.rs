//! Parts of the host's tree; [mount(2)](https://man7.org/linux/man-pages/man2/mount.2.html), "bind mount".

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::{absolute, bytes};
use crate::abi::*;
use crate::error::{Error, Feature, Result, Stage, quoted};
use crate::hint::Hint;
use crate::lower::Lower;
use crate::namespace::user::{self, Ids};
use crate::sys;
use crate::wire::{BIND_RECURSIVE, Op};

/// A file or directory of the host's that is visible inside.
///
/// Read-only ones are so through everything mounted below them. Neither setuid programs nor device
/// nodes work through any. With a root caller, what the caller owns is the program's own inside, and
/// what the program writes is the caller's outside (`MOUNT_ATTR_IDMAP`, Linux 5.12).
///
/// # Examples
///
/// ```
/// use stockade::{Bind, Sandbox};
/// let sandbox = Sandbox::new().bind(Bind::read_only("/etc/hostname", "/srv/name").no_exec());
/// # let _ = sandbox;
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
    pub fn read_only(source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        let mut bind = Bind::read_write(source, target);
        bind.attributes |= MOUNT_ATTR_RDONLY;
        bind
    }

    /// `source` of the host's, visible at `target`, writable as far as the host's permissions go.
    pub fn read_write(source: impl Into<PathBuf>, target: impl Into<PathBuf>) -> Self {
        Bind {
            source: source.into(),
            target: target.into(),
            attributes: MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV,
            recursive: true,
        }
    }

    /// Nothing in it can be executed.
    pub fn no_exec(mut self) -> Self {
        self.attributes |= MOUNT_ATTR_NOEXEC;
        self
    }

    /// Device nodes in it work: a widening, for `/dev/kvm` and the like.
    pub fn with_devices(mut self) -> Self {
        self.attributes &= !MOUNT_ATTR_NODEV;
        self
    }

    /// Leaves out what is mounted below the source; without this it comes along.
    pub fn without_submounts(mut self) -> Self {
        self.recursive = false;
        self
    }

    pub(crate) fn source(&self) -> &Path {
        &self.source
    }

    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    pub(crate) fn lower(&self, plan: &mut Lower) {
        let source = absolute(&self.source);
        let tree = plan.tree(&source, self.recursive);
        let kind = if self.attributes & MOUNT_ATTR_RDONLY != 0 { "read-only" } else { "writable" };
        let object = format!("{} on {} ({kind})", quoted(&source), quoted(&self.target));
        let op = Op::Bind {
            from: bytes(&source),
            fd: tree,
            to: bytes(&self.target),
            flags: if self.recursive { BIND_RECURSIVE } else { 0 },
            attributes: self.attributes,
        };
        plan.step(op, object, "asked for");
    }
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
    /// Copies all of `sources`.
    pub(crate) fn make(
        sources: &[TreeSource],
        ids: Ids,
        init_file: Option<&Path>,
        best_effort: bool,
    ) -> Result<Self> {
        let mut trees = Trees::default();
        if sources.is_empty() {
            return Ok(trees);
        }
        let mapping = user::mapping_namespace(ids, init_file)?;
        for source in sources {
            let deep = if source.recursive { AT_RECURSIVE } else { 0 };
            let tree = sys::open_tree(&source.path, OPEN_TREE_CLONE | deep).map_err(|errno| {
                Error::new(Stage::Prepare, "open_tree", quoted(&source.path), errno).explained()
            })?;
            match sys::map_ids(tree.as_fd(), mapping.as_fd(), source.recursive) {
                Err(Errno::ENOSYS | Errno::EINVAL) if best_effort => trees.unmapped = true,
                other => other.map_err(|errno| not_mapped(&source.path, errno))?,
            }
            trees.fds.push(tree);
        }
        Ok(trees)
    }
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
