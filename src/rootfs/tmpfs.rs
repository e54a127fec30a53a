//! File systems in memory; [tmpfs(5)](https://man7.org/linux/man-pages/man5/tmpfs.5.html).

use std::path::{Path, PathBuf};

use crate::abi::*;
use crate::lower::Lower;

/// An empty file system in memory, with finite limits;
/// [tmpfs(5)](https://man7.org/linux/man-pages/man5/tmpfs.5.html).
///
/// A sandbox can have up to 200 of them.
///
/// # Examples
///
/// ```
/// use stockade::{Sandbox, Tmpfs};
/// let sandbox = Sandbox::new().mount_tmpfs(Tmpfs::new("/scratch").size(1 << 20).no_exec());
/// assert!(sandbox.command("touch").arg("/scratch/new").status()?.outcome.is_success());
/// # Ok::<(), stockade::Error>(())
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
    /// At `path`, which has to be absolute: 64 MiB and 16384 files at the most, mode 0755.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Sandbox, Tmpfs};
    /// let sandbox = Sandbox::new().mount_tmpfs(Tmpfs::new("/scratch"));
    /// assert_eq!(sandbox.command("ls").arg("/scratch").output()?.stdout, b"");
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Tmpfs { path: path.into(), size: 64 << 20, inodes: 16384, mode: 0o755, no_exec: false }
    }

    /// The most bytes that files in it can have; rounded up to a page, not 0, which would mean
    /// "unlimited". Default 64 MiB.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Sandbox, Tmpfs};
    /// let sandbox = Sandbox::new().mount_tmpfs(Tmpfs::new("/scratch").size(4096));
    /// let script = "head -c 4096 /dev/zero > /scratch/a && ! head -c 1 /dev/zero > /scratch/b";
    /// assert!(sandbox.command("sh").args(["-c", script]).status()?.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn size(mut self, bytes: u64) -> Self {
        self.size = bytes;
        self
    }

    /// The most files and directories that it can have, its root included; not 0, which would mean
    /// "unlimited". Default 16384.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Sandbox, Tmpfs};
    /// let sandbox = Sandbox::new().mount_tmpfs(Tmpfs::new("/scratch").inodes(2));
    /// let script = "touch /scratch/a && ! touch /scratch/b";
    /// assert!(sandbox.command("sh").args(["-c", script]).status()?.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn inodes(mut self, count: u64) -> Self {
        self.inodes = count;
        self
    }

    /// The permissions of its root directory; bits above 0o7777 are dropped. Default 0755.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Sandbox, Tmpfs};
    /// let sandbox = Sandbox::new().mount_tmpfs(Tmpfs::new("/scratch").mode(0o700));
    /// let output = sandbox.command("stat").args(["-c", "%a", "/scratch"]).output()?;
    /// assert_eq!(output.stdout, b"700\n");
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode & 0o7777;
        self
    }

    /// Nothing in it can be executed (`MS_NOEXEC`).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Sandbox, Tmpfs};
    /// let sandbox = Sandbox::new().mount_tmpfs(Tmpfs::new("/scratch").no_exec());
    /// let script = "cp /usr/bin/env /scratch && ! /scratch/env";
    /// assert!(sandbox.command("sh").args(["-c", script]).status()?.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
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
