//! What an upper directory changes of the layers below it, as a value.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{OFlag, ResolveFlag, open, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};

use crate::error::{Error, Result, Stage, quoted};
use crate::executable::errno_of;
use crate::namespace::user::Ids;
use crate::output::{is, link, look_up, open_regular};
use crate::rootfs::Overlay;
use crate::sys;

/// More entries than this are an error: a program decides how many there are.
const ENTRIES_MAX: usize = 1_000_000;

/// What a program has changed in an [`Overlay`](crate::Overlay), sorted by path.
///
/// Two are equal if they list the same. `Display` has one line for each change. Listed are contents,
/// modes, owners and extended attributes ([xattr(7)](https://man7.org/linux/man-pages/man7/xattr.7.html))
/// but not times; a file that was opened for writing and is the same is not listed. A deleted
/// directory is one entry, and so is a renamed one's old place; its new place is added with all that
/// is in it.
///
/// Limits: a million entries (`E2BIG`), paths of 4095 bytes (`ENAMETOOLONG`), and what the caller
/// may read: a directory that the program has locked against its own user is an error to an
/// unprivileged caller.
///
/// # Examples
///
/// ```
/// use stockade::{ChangeKind, Overlay, Sandbox};
/// let sandbox = Sandbox::new().overlay("/srv", Overlay::new(["/usr/bin"]));
/// let script = "cd /srv; rm env; mkdir new; echo x > new/file";
/// let mut child = sandbox.command("sh").args(["-c", script]).spawn()?;
/// child.wait()?;
/// let changes = child.changes("/srv")?;
/// assert_eq!(changes.to_string(), "deleted \"env\"\nadded \"new\"\nadded \"new/file\"\n");
/// assert_eq!(changes[0].kind, ChangeKind::Deleted);
/// # Ok::<(), stockade::Error>(())
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Changes {
    entries: Vec<Change>,
    pub(crate) upper: Arc<OwnedFd>,
}

/// One change of one file.
///
/// # Examples
///
/// ```
/// use stockade::{Overlay, Sandbox};
/// let sandbox = Sandbox::new().overlay("/srv", Overlay::new(["/usr/bin"]));
/// let mut child = sandbox.command("sh").args(["-c", "ln -s /etc /srv/link"]).spawn()?;
/// child.wait()?;
/// for change in child.changes("/srv")?.iter() {
///     assert_eq!(change.path, std::path::Path::new("link"));
///     assert_eq!(change.file, stockade::FileKind::Symlink);
/// }
/// # Ok::<(), stockade::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Change {
    /// Where it is, from the overlay's root on.
    pub path: PathBuf,
    /// What is different.
    pub kind: ChangeKind,
    /// What it is now; for what was deleted, what it was.
    pub file: FileKind,
}

/// What is different about a file.
///
/// # Examples
///
/// ```
/// use stockade::ChangeKind;
/// let mode = ChangeKind::Mode { before: 0o644, after: 0o755 };
/// assert_eq!(mode.to_string(), "mode 0644 -> 0755");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ChangeKind {
    /// No layer has it.
    Added,
    /// It has other content, another target, or is something of another kind.
    Modified,
    /// A layer has it and it is gone, with all that was in it.
    Deleted,
    /// A directory that was replaced by another: nothing of the layers' shows in it.
    Opaque,
    /// Its permissions, 0 to 0o7777.
    Mode {
        /// In the layers.
        before: u32,
        /// Now.
        after: u32,
    },
    /// Its uid and gid, as they are on the host's disk; in a throw-away upper the program's are shown
    /// as the caller's.
    Owner {
        /// In the layers.
        before: (u32, u32),
        /// Now.
        after: (u32, u32),
    },
    /// Its extended attributes: the names of those that are new, gone or different.
    Attributes(Vec<OsString>),
}

/// What a directory entry is; [inode(7)](https://man7.org/linux/man-pages/man7/inode.7.html).
///
/// # Examples
///
/// ```
/// use stockade::FileKind;
/// // What an export can contain.
/// let exported = |kind| matches!(kind, FileKind::Regular | FileKind::Directory | FileKind::Symlink);
/// assert!(!exported(FileKind::Fifo));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum FileKind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A device node.
    Device,
}

impl Changes {
    /// All of them.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Overlay, Sandbox};
    /// let sandbox = Sandbox::new().overlay("/srv", Overlay::new(["/usr/bin"]));
    /// let mut child = sandbox.command("true").spawn()?;
    /// child.wait()?;
    /// assert_eq!(child.changes("/srv")?.iter().count(), 0);
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn iter(&self) -> std::slice::Iter<'_, Change> {
        self.entries.iter()
    }
}

impl std::ops::Deref for Changes {
    type Target = [Change];

    fn deref(&self) -> &[Change] {
        &self.entries
    }
}

impl<'a> IntoIterator for &'a Changes {
    type Item = &'a Change;
    type IntoIter = std::slice::Iter<'a, Change>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl PartialEq for Changes {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

impl Eq for Changes {}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.iter().try_for_each(|change| writeln!(f, "{change}"))
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            ChangeKind::Added | ChangeKind::Modified | ChangeKind::Deleted | ChangeKind::Opaque => {
                write!(f, "{} {:?}", self.kind, self.path)
            }
            kind => write!(f, "changed {:?}: {kind}", self.path),
        }
    }
}

impl fmt::Display for ChangeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChangeKind::Added => f.write_str("added"),
            ChangeKind::Modified => f.write_str("modified"),
            ChangeKind::Deleted => f.write_str("deleted"),
            ChangeKind::Opaque => f.write_str("replaced"),
            ChangeKind::Mode { before, after } => write!(f, "mode {before:04o} -> {after:04o}"),
            ChangeKind::Owner { before: (uid, gid), after } => {
                write!(f, "owner {uid}:{gid} -> {}:{}", after.0, after.1)
            }
            ChangeKind::Attributes(names) => {
                f.write_str("attributes")?;
                names.iter().try_for_each(|name| write!(f, " {name:?}"))
            }
        }
    }
}

/// An overlay whose changes can be asked for.
#[derive(Debug)]
pub(crate) struct Source {
    /// Inside.
    pub(crate) path: PathBuf,
    /// The layers' paths outside, each on top of the one before it.
    pub(crate) layers: Vec<PathBuf>,
    pub(crate) upper: Arc<OwnedFd>,
    /// The upper is the sandbox's own: what is the program's in it would be the caller's outside.
    pub(crate) ids: Option<Ids>,
}

impl Source {
    /// With the sandbox's ids if the upper is in its own memory.
    pub(crate) fn new(
        path: &Path,
        overlay: &Overlay,
        upper: Arc<OwnedFd>,
        ids: Option<Ids>,
    ) -> Self {
        let layers = overlay.layers().iter().map(|layer| crate::rootfs::absolute(layer)).collect();
        Source { path: path.to_owned(), layers, upper, ids }
    }

    pub(crate) fn changes(&self) -> Result<Changes> {
        let layers = self.layers.iter().rev().map(|path| open_directory(path));
        let layers: Vec<_> = layers.collect::<Result<_>>()?;
        let mut walk =
            Walk { upper: self.upper.as_fd(), layers, ids: self.ids, entries: Vec::new(), seen: 0 };
        let mut pending = vec![(PathBuf::new(), (0..self.layers.len()).collect::<Vec<_>>())];
        while let Some((directory, layers)) = pending.pop() {
            walk.directory(&directory, &layers, &mut pending).map_err(|(path, errno)| {
                Error::new(Stage::Run, "compare with layers", quoted(path), errno)
            })?;
        }
        walk.entries.sort();
        Ok(Changes { entries: walk.entries, upper: Arc::clone(&self.upper) })
    }
}

pub(crate) fn open_directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    open(path, flags, Mode::empty())
        .map_err(|errno| Error::new(Stage::Run, "open layer", quoted(path), errno))
}

/// Something found below a directory, not opened.
struct Found {
    fd: OwnedFd,
    stat: FileStat,
}

impl Found {
    fn is_directory(&self) -> bool {
        is(&self.stat, SFlag::S_IFDIR)
    }

    /// A 0:0 character device stands for what is not there.
    fn is_whiteout(&self) -> bool {
        is(&self.stat, SFlag::S_IFCHR) && self.stat.st_rdev == 0
    }

    fn is_opaque(&self) -> Result<bool, Errno> {
        let value = sys::attribute(self.fd.as_fd(), OsStr::new("user.overlay.opaque"))?;
        Ok(value.is_some_and(|value| value == b"y"))
    }

    fn kind(&self) -> FileKind {
        file_kind(&self.stat)
    }
}

pub(crate) fn file_kind(stat: &FileStat) -> FileKind {
    [
        (SFlag::S_IFREG, FileKind::Regular),
        (SFlag::S_IFDIR, FileKind::Directory),
        (SFlag::S_IFLNK, FileKind::Symlink),
        (SFlag::S_IFIFO, FileKind::Fifo),
        (SFlag::S_IFSOCK, FileKind::Socket),
    ]
    .into_iter()
    .find_map(|(flag, kind)| is(stat, flag).then_some(kind))
    .unwrap_or(FileKind::Device)
}

/// What is at `path` in a directory of the program's: no link is followed and no mount entered.
/// `None` if there is nothing.
pub(crate) fn look_below(
    at: BorrowedFd<'_>,
    path: &Path,
) -> Result<Option<(OwnedFd, FileStat)>, Errno> {
    let resolve = ResolveFlag::RESOLVE_BENEATH
        | ResolveFlag::RESOLVE_NO_SYMLINKS
        | ResolveFlag::RESOLVE_NO_MAGICLINKS
        | ResolveFlag::RESOLVE_NO_XDEV;
    match look_up(at, path, OFlag::O_PATH | OFlag::O_NOFOLLOW, resolve) {
        Ok(fd) => fstat(&fd).map(|stat| Some((fd, stat))),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        Err(errno) => Err(errno),
    }
}

struct Walk<'a> {
    upper: BorrowedFd<'a>,
    /// The topmost first.
    layers: Vec<OwnedFd>,
    ids: Option<Ids>,
    entries: Vec<Change>,
    seen: usize,
}

type Failure = (PathBuf, Errno);

impl Walk<'_> {
    /// Compares all in a directory of the upper with the layers that show in it.
    fn directory(
        &mut self,
        directory: &Path,
        layers: &[usize],
        pending: &mut Vec<(PathBuf, Vec<usize>)>,
    ) -> Result<(), Failure> {
        let failed = |errno| (directory.to_owned(), errno);
        for name in names(self.upper, directory).map_err(failed)? {
            let path = directory.join(name);
            self.seen += 1;
            if self.seen > ENTRIES_MAX {
                return Err((path, Errno::E2BIG));
            }
            let failed = |errno| (path.clone(), errno);
            // What is gone again was deleted meanwhile.
            let Some((fd, stat)) = look_below(self.upper, &path).map_err(failed)? else { continue };
            let now = Found { fd, stat };
            let (before, below) = self.below(&path, layers).map_err(failed)?;
            let descends = self.compare(&path, &now, before.as_ref()).map_err(failed)?;
            if let Some(shows) = descends {
                pending.push((path, if shows { below } else { Vec::new() }));
            }
        }
        Ok(())
    }

    /// What the layers have at a path, and those that show in it if it is a directory.
    fn below(&self, path: &Path, layers: &[usize]) -> Result<(Option<Found>, Vec<usize>), Errno> {
        let (mut first, mut shown): (Option<Found>, _) = (None, Vec::new());
        for &number in layers {
            let Some(layer) = self.layers.get(number) else { continue };
            let Some((fd, stat)) = look_below(layer.as_fd(), path)? else { continue };
            let found = Found { fd, stat };
            if found.is_whiteout() || (first.is_some() && !found.is_directory()) {
                break;
            }
            let last = !found.is_directory() || found.is_opaque()?;
            if found.is_directory() {
                shown.push(number);
            }
            first.get_or_insert(found);
            if last {
                break;
            }
        }
        Ok((first, shown))
    }

    /// Notes what is different; for a directory, whether the layers show in it.
    fn compare(
        &mut self,
        path: &Path,
        now: &Found,
        before: Option<&Found>,
    ) -> Result<Option<bool>, Errno> {
        if now.is_whiteout() {
            if let Some(before) = before {
                self.note(path, ChangeKind::Deleted, before.kind());
            }
            return Ok(None);
        }
        let (kind, directory) = (now.kind(), now.is_directory());
        let Some(before) = before else {
            self.note(path, ChangeKind::Added, kind);
            return Ok(directory.then_some(false));
        };
        if before.kind() != kind {
            self.note(path, ChangeKind::Modified, kind);
            return Ok(directory.then_some(false));
        }
        let opaque = directory && now.is_opaque()?;
        if opaque {
            self.note(path, ChangeKind::Opaque, kind);
        } else if differs(now, before)? {
            self.note(path, ChangeKind::Modified, kind);
        }
        self.compare_status(path, now, before)?;
        Ok(directory.then_some(!opaque))
    }

    fn compare_status(&mut self, path: &Path, now: &Found, before: &Found) -> Result<(), Errno> {
        let mode = |found: &Found| found.stat.st_mode & 0o7777;
        let (kind, modes) = (now.kind(), (mode(before), mode(now)));
        if modes.0 != modes.1 {
            let (before, after) = modes;
            self.note(path, ChangeKind::Mode { before, after }, kind);
        }
        let owner = (before.stat.st_uid, before.stat.st_gid);
        let after = self.owner(now);
        if owner != after {
            self.note(path, ChangeKind::Owner { before: owner, after }, kind);
        }
        let names = changed_attributes(now.fd.as_fd(), before.fd.as_fd())?;
        if !names.is_empty() {
            self.note(path, ChangeKind::Attributes(names), kind);
        }
        Ok(())
    }

    fn owner(&self, found: &Found) -> (u32, u32) {
        let id = |seen, host, caller| if seen == host { caller } else { seen };
        let (uid, gid) = (found.stat.st_uid, found.stat.st_gid);
        self.ids.map_or((uid, gid), |Ids { host, caller, .. }| {
            (id(uid, host.0, caller.0), id(gid, host.1, caller.1))
        })
    }

    fn note(&mut self, path: &Path, kind: ChangeKind, file: FileKind) {
        self.entries.push(Change { path: path.to_owned(), kind, file });
    }
}

/// The names in a directory of the program's.
fn names(at: BorrowedFd<'_>, directory: &Path) -> Result<Vec<OsString>, Errno> {
    let fd = if directory.as_os_str().is_empty() {
        at.try_clone_to_owned().map_err(|error| errno_of(&error))?
    } else {
        match look_below(at, directory)? {
            Some((fd, stat)) if is(&stat, SFlag::S_IFDIR) => fd,
            // It was there a moment ago.
            _ => return Ok(Vec::new()),
        }
    };
    let listing = std::fs::read_dir(link(fd.as_fd())).map_err(|error| errno_of(&error))?;
    let mut names = Vec::new();
    for entry in listing {
        names.push(entry.map_err(|error| errno_of(&error))?.file_name());
        if names.len() > ENTRIES_MAX {
            return Err(Errno::E2BIG);
        }
    }
    Ok(names)
}

/// Whether two of the same kind have other content.
fn differs(now: &Found, before: &Found) -> Result<bool, Errno> {
    match now.kind() {
        FileKind::Regular if now.stat.st_size != before.stat.st_size => Ok(true),
        FileKind::Regular => {
            let (now, before) = (open_regular(now.fd.as_fd()), open_regular(before.fd.as_fd()));
            match (now, before) {
                (Ok(now), Ok(before)) => {
                    contents_differ(now, before).map_err(|error| errno_of(&error))
                }
                // The program has locked it: nobody writes a file to leave it as it was.
                (Err(Errno::EACCES | Errno::EAGAIN), Ok(_)) => Ok(true),
                (Err(errno), _) | (_, Err(errno)) => Err(errno),
            }
        }
        FileKind::Symlink => Ok(target(&now.fd)? != target(&before.fd)?),
        FileKind::Device => Ok(now.stat.st_rdev != before.stat.st_rdev),
        FileKind::Directory | FileKind::Fifo | FileKind::Socket => Ok(false),
    }
}

/// Reads no more of the first than the second has: it may grow.
fn contents_differ(mut now: File, mut before: File) -> std::io::Result<bool> {
    let (mut one, mut other) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        let length = before.read(&mut one)?;
        if length == 0 {
            return Ok(false);
        }
        match now.read_exact(&mut other[..length]) {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(true),
            other => other?,
        }
        if one[..length] != other[..length] {
            return Ok(true);
        }
    }
}

pub(crate) fn target(link: &OwnedFd) -> Result<OsString, Errno> {
    readlinkat(link, "")
}

/// The names of attributes that are different, the overlay's own left out.
fn changed_attributes(now: BorrowedFd<'_>, before: BorrowedFd<'_>) -> Result<Vec<OsString>, Errno> {
    let own = |name: &OsString| {
        let name = name.as_bytes();
        // A label is given by the file system that the copy is on.
        [&b"user.overlay."[..], b"trusted.overlay.", b"security.selinux"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
    };
    let mut names: BTreeSet<OsString> = sys::attributes(now)?.into_iter().collect();
    names.extend(sys::attributes(before)?);
    let mut changed = Vec::new();
    for name in names.into_iter().filter(|name| !own(name)) {
        if sys::attribute(now, &name)? != sys::attribute(before, &name)? {
            changed.push(name);
        }
    }
    Ok(changed)
}
