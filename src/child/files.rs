//! What a child's program has written and changed.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use super::{Child, DROP_WAIT};
use crate::changes::Changes;
use crate::error::Result;
use crate::sys;

impl Child {
    /// Opens a file that the program has written, for reading, while it runs or after its end as long
    /// as the handle lives; a throw-away tree lives as long.
    ///
    /// The path is resolved in the sandbox's tree
    /// ([openat2(2)](https://man7.org/linux/man-pages/man2/openat2.2.html), `RESOLVE_IN_ROOT`), so no
    /// link leads out of it. A link is followed only to a file that belongs to the program: it cannot
    /// make the caller read for it what it may not read itself. Only regular files are opened, and
    /// nothing else is so much as touched. The program may still write to it: read no more than what
    /// you have room for. On a file system that a daemon of its own serves (FUSE, NFS), which only
    /// the caller can have put there, it waits for that daemon.
    ///
    /// What was mounted in the tree apart from /tmp, HOME and /dev/shm of the default tree is gone
    /// with the sandbox's end, unless [`Sandbox::keep_mounts`](crate::Sandbox::keep_mounts) keeps it.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`](crate::Error::Failed) with `ENOENT` if it is not there, `EISDIR` or `EINVAL`
    /// if it is no regular file, `EACCES` for a link to what is not the program's or what the caller may not read,
    /// `EAGAIN` while the program holds a lease on it, `ESTALE` if its mount is gone, `ENOTSUP` if the
    /// sandbox has no mount namespace of its own, or the program has [entered](Self::command) that of another handle.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut child = stockade::Sandbox::new().command("sh").args(["-c", "echo x >out"]).spawn()?;
    /// child.wait()?;
    /// let file = child.open_output("/home/user/out")?;
    /// assert_eq!(std::io::read_to_string(file)?, "x\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open_output(&self, path: impl AsRef<Path>) -> Result<File> {
        self.await_last_end();
        self.remains.open(path.as_ref())
    }

    /// What the program has changed so far in the [`Overlay`](crate::Overlay) at `path`, "/" for
    /// that of [`Rootfs::layers`](crate::Rootfs::layers)
    /// ([overlayfs](https://docs.kernel.org/filesystems/overlayfs.html)).
    ///
    /// # Errors
    ///
    /// [`Error::Failed`](crate::Error::Failed) with `ENOENT` if there is no overlay that can be written
    /// there, `ENOTSUP` if the program has
    /// [entered](Self::command) the sandbox of another handle, and see [`Changes`] for its limits.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Overlay, Sandbox};
    /// let sandbox = Sandbox::new().overlay("/srv", Overlay::new(["/usr/bin"]));
    /// let mut child = sandbox.command("touch").arg("/srv/new").spawn()?;
    /// child.wait()?;
    /// assert_eq!(child.changes("/srv")?.to_string(), "added \"new\"\n");
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn changes(&self, path: impl AsRef<Path>) -> Result<Changes> {
        self.await_last_end();
        self.remains.changes(path.as_ref())
    }

    /// What is mounted inside is there until init has ended, too: not once and then another time.
    fn await_last_end(&self) {
        if self.status.is_some() {
            sys::wait_readable(self.pidfd.as_fd(), Some(DROP_WAIT));
        }
    }
}
