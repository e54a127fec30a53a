//! Changes brought out of an upper directory: all or nothing, and nothing that is more than data.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, ResolveFlag, open, openat};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, fchmodat, mkdirat};
use nix::unistd::{Whence, linkat, lseek, symlinkat};

use crate::changes::{Change, ChangeKind, Changes, FileKind, file_kind, look_below, target};
use crate::error::{Error, Result, Stage, quoted};
use crate::executable::errno_of;
use crate::hint::Hint;
use crate::output::{look_up, open_regular};
use crate::sys;

impl Changes {
    /// Makes the new directory `directory` with those changed files that `filter` accepts, all or
    /// nothing: they are put together beside it and then renamed. A file is exported if one of its
    /// changes is accepted; what was deleted is listed by the value and is in no export.
    ///
    /// Files, directories and symbolic links are exported, owned by the caller, files with their
    /// times and holes, and hard links as such. A link is made as it is and never followed: whoever
    /// reads the export follows it. Of a mode the lowest nine bits are kept, so nothing is
    /// setuid; extended attributes are not. How large it all is the program decides, within the
    /// limits of the upper.
    ///
    /// After a SIGKILL of the caller in the middle of it a hidden directory with the name's beginning
    /// `.export-` is left beside `directory`.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with `EEXIST` if `directory` exists, `ENOTSUP` for a FIFO, a socket or a
    /// device that is accepted, `ESTALE` for what is no longer what it was when the changes were
    /// asked for, and whatever reading and writing say. Nothing of the export is left then.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Overlay, Sandbox};
    /// let sandbox = Sandbox::new().overlay("/srv", Overlay::new(["/usr/bin"]));
    /// let script = "cd /srv; echo x > a.txt; echo y > b.log";
    /// let mut child = sandbox.command("sh").args(["-c", script]).spawn()?;
    /// child.wait()?;
    /// let directory = tempfile::tempdir()?;
    /// let out = directory.path().join("out");
    /// let is_text = |path: &std::path::Path| path.extension().is_some_and(|kind| kind == "txt");
    /// child.changes("/srv")?.export(&out, |change| is_text(&change.path))?;
    /// assert_eq!(std::fs::read_to_string(out.join("a.txt"))?, "x\n");
    /// assert!(!out.join("b.log").exists());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn export(
        &self,
        directory: impl AsRef<Path>,
        mut filter: impl FnMut(&Change) -> bool,
    ) -> Result<()> {
        let directory = directory.as_ref();
        let mut export = Export::begin(self, directory)?;
        let mut last = None;
        for change in self {
            let wanted = change.kind != ChangeKind::Deleted && last != Some(&change.path);
            if wanted && filter(change) {
                last = Some(&change.path);
                export.add(change).map_err(|errno| {
                    let hint = (errno == Errno::ENOTSUP).then_some(Hint::NoRegularFile);
                    Error::new(Stage::Run, "export", quoted(&change.path), errno).with_hint(hint)
                })?;
            }
        }
        export.finish(directory).map_err(|errno| failed(directory, errno))
    }
}

fn failed(directory: &Path, errno: Errno) -> Error {
    Error::new(Stage::Run, "export to", quoted(directory), errno)
}

struct Export<'a> {
    changes: &'a Changes,
    /// Removed if it is still there in the end.
    stage: PathBuf,
    root: OwnedFd,
    /// Directories get their modes in the end: they may be read-only.
    modes: Vec<(PathBuf, u32)>,
    /// Where a file with more than one name was exported first.
    linked: HashMap<(u64, u64), PathBuf>,
}

impl<'a> Export<'a> {
    fn begin(changes: &'a Changes, directory: &Path) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let failed = |errno| failed(directory, errno);
        let target = crate::rootfs::absolute(directory);
        if target.symlink_metadata().is_ok() {
            return Err(failed(Errno::EEXIST));
        }
        let parent = target.parent().ok_or_else(|| failed(Errno::EEXIST))?;
        let stage = loop {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let stage = parent.join(format!(".export-{}-{number}", std::process::id()));
            match std::fs::DirBuilder::new().mode(0o700).create(&stage) {
                Ok(()) => break stage,
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(failed(errno_of(&error))),
            }
        };
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match open(&stage, flags, Mode::empty()) {
            Ok(root) => {
                let (modes, linked) = (Vec::new(), HashMap::new());
                Ok(Export { changes, stage, root, modes, linked })
            }
            Err(errno) => {
                remove(&stage);
                Err(failed(errno))
            }
        }
    }

    fn add(&mut self, change: &Change) -> Result<(), Errno> {
        let found = look_below(self.changes.upper.as_fd(), &change.path)?;
        let (fd, stat) = found.ok_or(Errno::ESTALE)?;
        if file_kind(&stat) != change.file {
            return Err(Errno::ESTALE);
        }
        let name = Path::new(change.path.file_name().ok_or(Errno::EINVAL)?);
        let directory = self.parent(change.path.parent().unwrap_or(Path::new("")))?;
        match change.file {
            FileKind::Directory => self.directory(&directory, name, &change.path, &stat),
            FileKind::Symlink => symlinkat(target(&fd)?.as_os_str(), &directory, name),
            FileKind::Regular => self.file(&fd, &stat, &directory, name, &change.path),
            FileKind::Fifo | FileKind::Socket | FileKind::Device => Err(Errno::ENOTSUP),
        }
    }

    fn directory(
        &mut self,
        parent: &OwnedFd,
        name: &Path,
        path: &Path,
        stat: &FileStat,
    ) -> Result<(), Errno> {
        mkdirat(parent, name, Mode::S_IRWXU)?;
        self.modes.push((path.to_owned(), stat.st_mode & 0o777));
        Ok(())
    }

    /// A directory of the export; what is missing of it is made.
    fn parent(&mut self, path: &Path) -> Result<OwnedFd, Errno> {
        if path.as_os_str().is_empty() {
            return self.root.try_clone().map_err(|error| errno_of(&error));
        }
        match look_below(self.root.as_fd(), path)? {
            Some((fd, _)) => Ok(fd),
            None => {
                // As deep as a path of the upper can be.
                let missing: Vec<_> =
                    path.ancestors().take_while(|path| !path.as_os_str().is_empty()).collect();
                for path in missing.into_iter().rev() {
                    self.make_parent(path)?;
                }
                look_below(self.root.as_fd(), path)?.map(|(fd, _)| fd).ok_or(Errno::ESTALE)
            }
        }
    }

    fn make_parent(&mut self, path: &Path) -> Result<(), Errno> {
        if look_below(self.root.as_fd(), path)?.is_some() {
            return Ok(());
        }
        let found = look_below(self.changes.upper.as_fd(), path)?;
        let (_, stat) = found.ok_or(Errno::ESTALE)?;
        let name = Path::new(path.file_name().ok_or(Errno::EINVAL)?);
        let above = match path.parent().filter(|above| !above.as_os_str().is_empty()) {
            Some(above) => look_below(self.root.as_fd(), above)?.ok_or(Errno::ESTALE)?.0,
            None => self.root.try_clone().map_err(|error| errno_of(&error))?,
        };
        self.directory(&above, name, path, &stat)
    }

    fn file(
        &mut self,
        fd: &OwnedFd,
        stat: &FileStat,
        directory: &OwnedFd,
        name: &Path,
        path: &Path,
    ) -> Result<(), Errno> {
        let identity = (stat.st_dev, stat.st_ino);
        if stat.st_nlink > 1 {
            if let Some(first) = self.linked.get(&identity) {
                return linkat(&self.root, first, directory, name, AtFlags::empty());
            }
            self.linked.insert(identity, path.to_owned());
        }
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let from = open_regular(fd.as_fd())?;
        let to = openat(directory, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?;
        copy(from, to.into(), stat.st_mode & 0o777).map_err(|error| errno_of(&error))
    }

    fn finish(self, directory: &Path) -> Result<(), Errno> {
        let resolve = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
        // What is in a directory before the directory itself.
        for (path, mode) in self.modes.iter().rev() {
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
            let fd = look_up(self.root.as_fd(), path, flags, resolve)?;
            let file = File::from(fd);
            let mode = std::fs::Permissions::from_mode(*mode);
            file.set_permissions(mode).map_err(|error| errno_of(&error))?;
        }
        let mode = Mode::from_bits_truncate(0o755);
        fchmodat(&self.root, ".", mode, FchmodatFlags::FollowSymlink)?;
        sys::rename_new(&self.stage, &crate::rootfs::absolute(directory))
    }
}

impl Drop for Export<'_> {
    fn drop(&mut self) {
        remove(&self.stage);
    }
}

/// After a rename there is nothing any more.
fn remove(stage: &Path) {
    match std::fs::remove_dir_all(stage) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            log::warn!("the unfinished export {stage:?} is left: {error}");
        }
        _ => {}
    }
}

/// Copies what a file has now, holes as holes.
fn copy(mut from: File, mut to: File, mode: u32) -> std::io::Result<()> {
    let found = from.metadata()?;
    let size = found.len();
    let offset = |position: u64| i64::try_from(position).map_err(std::io::Error::other);
    let mut position = 0;
    while position < size {
        let data = match lseek(&from, offset(position)?, Whence::SeekData) {
            Ok(data) => data,
            // A hole up to the end.
            Err(Errno::ENXIO) => break,
            Err(errno) => return Err(errno.into()),
        };
        let hole = lseek(&from, data, Whence::SeekHole)?;
        let start = u64::try_from(data).map_err(std::io::Error::other)?;
        let end = u64::try_from(hole).map_err(std::io::Error::other)?.min(size);
        from.seek(SeekFrom::Start(start))?;
        to.seek(SeekFrom::Start(start))?;
        std::io::copy(&mut (&from).take(end.saturating_sub(start)), &mut to)?;
        position = end.max(start + 1);
    }
    to.set_len(size)?;
    to.set_permissions(std::fs::Permissions::from_mode(mode))?;
    to.set_times(std::fs::FileTimes::new().set_modified(found.modified()?))
}
