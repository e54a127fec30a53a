//! File systems in memory; [tmpfs(5)](https://man7.org/linux/man-pages/man5/tmpfs.5.html).

use std::path::{Path, PathBuf};

use crate::abi::*;
use crate::lower::Lower;

/// An empty file system in memory, with finite limits.
///
/// # Examples
///
/// ```
/// use stockade::{Sandbox, Tmpfs};
/// let sandbox = Sandbox::new().mount_tmpfs(Tmpfs::new("/scratch").size(1 << 20).no_exec());
/// # let _ = sandbox;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Tmpfs {
    path: PathBuf,
    size: u64,
    inodes: u64,
    mode: u32,
    no_exec: bool,
}

impl Tmpfs {
    /// At `path`: 64 MiB and 16384 files at the most, mode 0755.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Tmpfs { path: path.into(), size: 64 << 20, inodes: 16384, mode: 0o755, no_exec: false }
    }

    /// The most bytes that files in it can have; rounded up to a page, not 0.
    pub fn size(mut self, bytes: u64) -> Self {
        self.size = bytes;
        self
    }

    /// The most files and directories that it can have, not 0.
    pub fn inodes(mut self, count: u64) -> Self {
        self.inodes = count;
        self
    }

    /// The permissions of its root directory.
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode & 0o7777;
        self
    }

    /// Nothing in it can be executed.
    pub fn no_exec(mut self) -> Self {
        self.no_exec = true;
        self
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn problems(&self, problems: &mut Vec<String>) {
        if self.size == 0 || self.inodes == 0 {
            problems.push(format!(
                "the tmpfs at {:?}: a size or inode limit of 0 means \"unlimited\"",
                self.path
            ));
        }
    }

    pub(crate) fn lower(&self, plan: &mut Lower) {
        let Tmpfs { size, inodes, mode, .. } = self;
        let flags = MS_NOSUID | MS_NODEV | if self.no_exec { MS_NOEXEC } else { 0 };
        let options = format!("size={size},nr_inodes={inodes},mode={mode:o}");
        plan.mount("tmpfs", &self.path, flags, &options);
    }
}
