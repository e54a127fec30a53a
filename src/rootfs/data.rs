//! Files, directories and symbolic links that come as values instead of from the host's tree.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;

use super::bytes;
use crate::error::{Error, Result, Stage, quoted};
use crate::executable;
use crate::lower::Lower;
use crate::secret::Secret;
use crate::wire::Op;

/// How much is read of a descriptor, unless asked for otherwise.
const MAX_SIZE: u64 = 64 << 20;
/// The bits of a mode that are called setuid and setgid.
const SET_IDS: u32 = 0o6000;

/// A file, directory or symbolic link given as data, for [`Sandbox::data`](crate::Sandbox::data)
/// ([inode(7)](https://man7.org/linux/man-pages/man7/inode.7.html)).
///
/// It is made where the tree is the sandbox's own; elsewhere the spawn fails, as nothing of the host's
/// is changed. In the root itself it counts against
/// [`tmp_size`](crate::Sandbox::tmp_size) and [`tmp_inodes`](crate::Sandbox::tmp_inodes), and is read-only.
/// Its content goes to the sandbox through a socket, and is in no command line, log, `Debug` output
/// or [`Plan`](crate::Plan)'s text.
///
/// # Examples
///
/// ```
/// use stockade::{Data, Sandbox};
/// let sandbox = Sandbox::new()
///     .data(Data::directory("/home/user/.config").mode(0o700))
///     .data(Data::file("/home/user/.config/token", "secret\n").mode(0o600));
/// let output = sandbox.command("sh").args(["-c", "stat -c %a .config/token"]).output()?;
/// assert_eq!(output.stdout, b"600\n");
/// assert!(!sandbox.plan()?.to_string().contains("secret"));
/// # Ok::<(), stockade::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Data {
    path: PathBuf,
    kind: Kind,
    mode: Option<u32>,
    owner: Option<(u32, u32)>,
    max_size: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    File(Content),
    Directory,
    Symlink(PathBuf),
}

/// What is in a file: bytes, or what a descriptor gives.
///
/// A regular file, or one in memory, is read from its beginning at every spawn, and its position stays
/// as it is. Of a pipe or socket everything up to the end of file is read at the first plan or
/// spawn, and kept for the others.
///
/// # Examples
///
/// ```
/// use stockade::{Content, Data, Sandbox};
/// let file = std::fs::File::open("/proc/self/comm")?;
/// let sandbox = Sandbox::new().data(Data::file("/name", Content::from(file)));
/// for _ in 0..2 {
///     assert!(!sandbox.command("cat").arg("/name").output()?.stdout.is_empty());
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Content(Source);

#[derive(Debug, Clone)]
enum Source {
    Bytes(Secret<Vec<u8>>),
    Descriptor(Arc<Descriptor>),
}

#[derive(Debug)]
struct Descriptor {
    file: File,
    /// What was in a pipe.
    read: Mutex<Option<Secret<Vec<u8>>>>,
}

impl PartialEq for Content {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Source::Bytes(one), Source::Bytes(two)) => one == two,
            (Source::Descriptor(one), Source::Descriptor(two)) => Arc::ptr_eq(one, two),
            _ => false,
        }
    }
}

impl Eq for Content {}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Content(Source::Bytes(Secret(bytes)))
    }
}

impl From<&[u8]> for Content {
    fn from(bytes: &[u8]) -> Self {
        bytes.to_vec().into()
    }
}

impl From<String> for Content {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

impl From<&str> for Content {
    fn from(text: &str) -> Self {
        text.as_bytes().into()
    }
}

impl From<File> for Content {
    fn from(file: File) -> Self {
        Content(Source::Descriptor(Arc::new(Descriptor { file, read: Mutex::new(None) })))
    }
}

impl From<OwnedFd> for Content {
    fn from(fd: OwnedFd) -> Self {
        File::from(fd).into()
    }
}

impl Data {
    fn new(path: PathBuf, kind: Kind) -> Self {
        Data { path, kind, mode: None, owner: None, max_size: None }
    }

    /// A regular file with this content and mode 0644, of less than 4 GiB.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Data, Sandbox};
    /// let sandbox = Sandbox::new().data(Data::file("/run", "#!/bin/sh\necho hello\n").mode(0o755));
    /// assert_eq!(sandbox.command("/run").output()?.stdout, b"hello\n");
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn file(path: impl Into<PathBuf>, content: impl Into<Content>) -> Self {
        Data::new(path.into(), Kind::File(content.into()))
    }

    /// A directory with mode 0755; one that is there gets this mode and owner.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Data, Sandbox};
    /// let sandbox = Sandbox::new().data(Data::directory("/empty"));
    /// assert_eq!(sandbox.command("ls").arg("/empty").output()?.stdout, b"");
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn directory(path: impl Into<PathBuf>) -> Self {
        Data::new(path.into(), Kind::Directory)
    }

    /// A symbolic link at `path` to `target`, which is not looked at and not empty
    /// ([symlink(2)](https://man7.org/linux/man-pages/man2/symlink.2.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Data, Sandbox};
    /// let sandbox = Sandbox::new().data(Data::symlink("/usr/bin", "/tools"));
    /// assert!(sandbox.command("/tools/env").status()?.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn symlink(target: impl Into<PathBuf>, path: impl Into<PathBuf>) -> Self {
        Data::new(path.into(), Kind::Symlink(target.into()))
    }

    /// Its permissions; bits above 0o7777 are dropped, and of a file the setuid and setgid bits, which
    /// would be without effect ([inode(7)](https://man7.org/linux/man-pages/man7/inode.7.html)). Links
    /// have none.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Data, Sandbox};
    /// let sandbox = Sandbox::new().data(Data::directory("/empty").mode(0o700));
    /// let output = sandbox.command("stat").args(["-c", "%a", "/empty"]).output()?;
    /// assert_eq!(output.stdout, b"700\n");
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = Some(mode & 0o7777);
        self
    }

    /// Whom it belongs to inside; by default the program
    /// ([chown(2)](https://man7.org/linux/man-pages/man2/chown.2.html)). Both ids have to be among
    /// those that there are ([`id_map`](crate::Sandbox::id_map)), which without a map are the
    /// program's own.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Data, Sandbox};
    /// let file = Data::file("/file", "").owner(7, 8);
    /// // There is no such id in it.
    /// assert!(Sandbox::new().uid(1).gid(1).data(file.clone()).plan().is_err());
    /// assert!(Sandbox::new().uid(7).gid(8).data(file).command("true").status().is_ok());
    /// ```
    pub fn owner(mut self, uid: u32, gid: u32) -> Self {
        self.owner = Some((uid, gid));
        self
    }

    /// The most bytes that a file may have: more is an error. Default: for a descriptor 64 MiB, for
    /// bytes 4 GiB, which is the most there can be.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Data, Sandbox};
    /// let endless = std::fs::File::open("/dev/zero")?;
    /// let sandbox = Sandbox::new().data(Data::file("/zeros", endless).max_size(1 << 20));
    /// let error = sandbox.plan().unwrap_err();
    /// assert_eq!(error.raw_os_error(), Some(27)); // EFBIG
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn max_size(mut self, bytes: u64) -> Self {
        self.max_size = Some(bytes);
        self
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn target(&self) -> Option<&Path> {
        match &self.kind {
            Kind::Symlink(target) => Some(target),
            _ => None,
        }
    }

    pub(crate) fn is_directory(&self) -> bool {
        self.kind == Kind::Directory
    }

    pub(crate) fn owned_by(&self) -> Option<(u32, u32)> {
        self.owner
    }

    pub(crate) fn problems(&self, problems: &mut Vec<String>) {
        let path = &self.path;
        if let Kind::File(Content(Source::Bytes(data))) = &self.kind {
            let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
            if u32::try_from(data.len() + 1).is_err() {
                problems.push(format!("the content of {path:?} is larger than 4 GiB"));
            } else if self.max_size.is_some_and(|max| length > max) {
                problems.push(format!("the content of {path:?} is larger than its max_size"));
            }
        }
        if !matches!(self.kind, Kind::File(_)) && self.max_size.is_some() {
            problems.push(format!("{path:?} is no file, so it has no max_size"));
        }
        if self.target().is_some() && self.mode.is_some() {
            problems.push(format!("{path:?} is a link, which has no permissions"));
        }
    }

    pub(crate) fn lower(&self, plan: &mut Lower) -> Result<()> {
        match &self.kind {
            Kind::File(content) => {
                let max = self.max_size.unwrap_or(MAX_SIZE).min(u64::from(u32::MAX) - 1);
                let data = content.read(max).map_err(|errno| {
                    Error::new(Stage::Prepare, "read the content of", quoted(&self.path), errno)
                })?;
                // Writing to it and giving it away drop them in most cases: so in all.
                let mode = self.mode.unwrap_or(0o644) & !SET_IDS;
                plan.step(Op::File { path: bytes(&self.path), mode, data }, "given as data");
            }
            Kind::Directory => plan.directory(&self.path, self.mode.unwrap_or(0o755)),
            Kind::Symlink(target) => plan.symlink(&self.path, target),
        }
        if let Some((uid, gid)) = self.owner {
            plan.step(Op::Owner { path: bytes(&self.path), uid, gid }, "asked for");
        }
        if let (Kind::Directory, Some(mode)) =
            (&self.kind, self.mode.filter(|mode| mode & SET_IDS != 0))
        {
            // mkdir(2) makes none with these bits; one that is there gets them.
            plan.directory(&self.path, mode);
        }
        Ok(())
    }
}

impl Content {
    /// All of it, `max` bytes of a descriptor at the most.
    fn read(&self, max: u64) -> Result<Vec<u8>, Errno> {
        let descriptor = match &self.0 {
            Source::Bytes(data) => return Ok(data.0.clone()),
            Source::Descriptor(descriptor) => descriptor,
        };
        let errno = |error: std::io::Error| executable::errno_of(&error);
        let kind = descriptor.file.metadata().map_err(errno)?.file_type();
        let data = if kind.is_file() {
            let mut at = 0;
            read_up_to(max, |buffer| {
                let length = descriptor.file.read_at(buffer, at)?;
                at += u64::try_from(length).unwrap_or(0);
                Ok(length)
            })
        } else {
            let mut kept = descriptor.read.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(data) = &*kept {
                return if fits(data, max) { Ok(data.0.clone()) } else { Err(Errno::EFBIG) };
            }
            let read = read_up_to(max, |buffer| std::io::Read::read(&mut &descriptor.file, buffer));
            if let Ok(data) = &read {
                *kept = Some(Secret(data.clone()));
            }
            read
        };
        data.map_err(errno)
    }
}

fn fits(data: &[u8], max: u64) -> bool {
    u64::try_from(data.len()).is_ok_and(|length| length <= max)
}

fn read_up_to(
    max: u64,
    mut read: impl FnMut(&mut [u8]) -> std::io::Result<usize>,
) -> std::io::Result<Vec<u8>> {
    let (mut data, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
    loop {
        match read(&mut buffer) {
            Ok(0) => return Ok(data),
            Ok(length) => data.extend_from_slice(buffer.get(..length).unwrap_or(&[])),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if !fits(&data, max) {
            return Err(Errno::EFBIG.into());
        }
    }
}
