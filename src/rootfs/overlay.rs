//! Directories laid over each other; [overlayfs](https://docs.kernel.org/filesystems/overlayfs.html).

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::{absolute, bytes, machine};
use crate::abi::*;
use crate::changes::{Changes, Source, open_directory};
use crate::error::{Error, Result, Stage, quoted};
use crate::executable::errno_of;
use crate::hint::Hint;
use crate::lower::Lower;
use crate::output::link;
use crate::sys;
use crate::wire::{OWN, Op};

/// The kernel's own limit.
const LAYERS_MAX: usize = 500;
/// Bytes in a throw-away upper, unless asked for otherwise.
const SIZE: u64 = 64 << 20;
/// Files in it.
const INODES: u64 = 16384;

/// Directories of the host's laid over each other, and on top what the program writes;
/// [overlayfs](https://docs.kernel.org/filesystems/overlayfs.html).
///
/// The layers are only read, and any number of sandboxes can share them at once; nobody may change
/// them meanwhile. What the program writes goes to an upper directory: by default into memory, and
/// thrown away with the handle, else to a [kept](Self::upper) one.
///
/// What in the layers of a root caller belongs to others can be read as its mode lets others, but
/// neither changed nor removed (`EOVERFLOW`): its owner has no number inside.
///
/// It needs Linux 5.11, and from a root caller, whose files are shown as the program's own as with a
/// [`Bind`](crate::Bind), Linux 5.19 and layers on file systems that can map ids.
///
/// In a layer, 0:0 character devices are whiteouts, and directories with the attribute
/// `user.overlay.opaque` (which a kept upper has) hide those below; `trusted.overlay.*` attributes,
/// which other tools of root's write, mean nothing here. A layer may itself be on an overlay that is
/// on none, but not for a root caller, as an overlay cannot map ids. Something mounted in a layer
/// does not show in an overlay, so it is an error; see [`without_submounts`](Self::without_submounts).
///
/// # Examples
///
/// ```
/// use stockade::{Overlay, Sandbox};
/// # let mode = |path: &std::path::Path| std::fs::set_permissions(path,
/// #     std::os::unix::fs::PermissionsExt::from_mode(0o755));
/// let (base, patch) = (tempfile::tempdir()?, tempfile::tempdir()?);
/// # mode(base.path())?;
/// # mode(patch.path())?;
/// std::fs::write(base.path().join("name"), "base\n")?;
/// std::fs::write(patch.path().join("name"), "patch\n")?;
/// let sandbox = Sandbox::new().overlay("/srv", Overlay::new([base.path(), patch.path()]));
/// let script = "cat /srv/name; echo new > /srv/name";
/// let output = sandbox.command("sh").args(["-c", script]).output()?;
/// assert_eq!(output.stdout, b"patch\n");
/// // Nothing of it is in the layers.
/// assert_eq!(std::fs::read_to_string(patch.path().join("name"))?, "patch\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Overlay {
    layers: Vec<PathBuf>,
    upper: Upper,
    size: Option<u64>,
    inodes: Option<u64>,
    submounts: bool,
    no_exec: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Upper {
    ThrowAway,
    Kept(PathBuf),
    None,
}

impl Overlay {
    /// These directories, each on top of the one before it; 1 to 500.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Overlay, Sandbox};
    /// let sandbox = Sandbox::new().overlay("/tools", Overlay::new(["/usr/bin"]));
    /// assert!(sandbox.command("/tools/env").status()?.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn new(layers: impl IntoIterator<Item = impl Into<PathBuf>>) -> Self {
        Overlay {
            layers: layers.into_iter().map(Into::into).collect(),
            upper: Upper::ThrowAway,
            size: None,
            inodes: None,
            submounts: true,
            no_exec: false,
        }
    }

    /// Keeps what the program writes in the directory `upper` of this one, which has to exist; a
    /// widening, as the program decides how much that is. What is in it already shows on top of the
    /// layers, and it can be a layer of other sandboxes later. With a root caller all of it is the
    /// caller's outside.
    ///
    /// Beside it a directory `work`, which the kernel needs, is there as long as the sandbox, or
    /// after a SIGKILL of the caller until the next sandbox with this upper. One sandbox at a time
    /// can have it ([flock(2)](https://man7.org/linux/man-pages/man2/flock.2.html) on the directory).
    /// Its file system has to be able to carry an upper directory: not NFS, FAT or an overlay.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Overlay, Sandbox};
    /// let kept = tempfile::tempdir()?;
    /// # std::fs::set_permissions(kept.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    /// # // An overlay, as of a container, carries no upper directory.
    /// # if nix::sys::statfs::statfs(kept.path())?.filesystem_type().0 == 0x794c_7630 { return Ok(()); }
    /// let sandbox = Sandbox::new().overlay("/srv", Overlay::new(["/usr/bin"]).upper(kept.path()));
    /// sandbox.command("touch").arg("/srv/new").status()?;
    /// assert!(kept.path().join("upper/new").exists());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn upper(mut self, directory: impl Into<PathBuf>) -> Self {
        self.upper = Upper::Kept(directory.into());
        self
    }

    /// Nothing can be written ([mount(2)](https://man7.org/linux/man-pages/man2/mount.2.html),
    /// `MS_RDONLY`).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Overlay, Sandbox};
    /// let sandbox = Sandbox::new().overlay("/srv", Overlay::new(["/usr/bin"]).read_only());
    /// assert_eq!(sandbox.command("touch").arg("/srv/new").status()?.outcome.code(), Some(1));
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn read_only(mut self) -> Self {
        self.upper = Upper::None;
        self
    }

    /// The most bytes that a throw-away upper can have; rounded up to a page, not 0
    /// ([tmpfs(5)](https://man7.org/linux/man-pages/man5/tmpfs.5.html)). Default 64 MiB.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Overlay, Sandbox};
    /// let sandbox = Sandbox::new().overlay("/srv", Overlay::new(["/usr/bin"]).size(1 << 20));
    /// let script = "! head -c 2M /dev/zero > /srv/new";
    /// assert!(sandbox.command("sh").args(["-c", script]).status()?.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn size(mut self, bytes: u64) -> Self {
        self.size = Some(bytes);
        self
    }

    /// The most files and directories that a throw-away upper can have, a few of the kernel's own
    /// included; not 0 ([tmpfs(5)](https://man7.org/linux/man-pages/man5/tmpfs.5.html)). Default
    /// 16384.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Overlay, Sandbox};
    /// let sandbox = Sandbox::new().overlay("/srv", Overlay::new(["/usr/bin"]).inodes(8));
    /// let script = "cd /srv; ! touch 1 2 3 4 5 6 7 8";
    /// assert!(sandbox.command("sh").args(["-c", script]).status()?.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn inodes(mut self, count: u64) -> Self {
        self.inodes = Some(count);
        self
    }

    /// Leaves out what is mounted in the layers; without this it is an error if something is
    /// ([mount_namespaces(7)](https://man7.org/linux/man-pages/man7/mount_namespaces.7.html)). To
    /// an unprivileged caller the kernel refuses it with EINVAL: what that covers would show.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Overlay, Sandbox};
    /// let tools = Overlay::new(["/usr/bin"]).without_submounts();
    /// Sandbox::new().overlay("/tools", tools).check()?;
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn without_submounts(mut self) -> Self {
        self.submounts = false;
        self
    }

    /// Nothing in it can be executed (`MS_NOEXEC` of
    /// [mount(2)](https://man7.org/linux/man-pages/man2/mount.2.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Overlay, Sandbox};
    /// let sandbox = Sandbox::new().overlay("/tools", Overlay::new(["/usr/bin"]).no_exec());
    /// let error = sandbox.command("/tools/env").spawn().unwrap_err();
    /// assert_eq!(error.raw_os_error(), Some(13)); // EACCES
    /// ```
    pub fn no_exec(mut self) -> Self {
        self.no_exec = true;
        self
    }

    pub(crate) fn layers(&self) -> &[PathBuf] {
        &self.layers
    }

    /// Whether a layer or the kept upper has this directory.
    pub(crate) fn has(&self, name: &str) -> bool {
        let mut all = self.layers.iter().cloned().chain(self.kept());
        all.any(|directory| directory.join(name).is_dir())
    }

    /// The kept upper directory itself.
    pub(crate) fn kept(&self) -> Option<PathBuf> {
        match &self.upper {
            Upper::Kept(directory) => Some(directory.join(UPPER)),
            Upper::ThrowAway | Upper::None => None,
        }
    }

    /// What a kept upper changes, when no sandbox has it or while one has.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with `ENOENT` if no upper is kept, or if it was never used, and see
    /// [`Changes`] for its limits.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Overlay;
    /// let kept = tempfile::tempdir()?;
    /// std::fs::create_dir(kept.path().join("upper"))?;
    /// std::fs::write(kept.path().join("upper/new"), "")?;
    /// let overlay = Overlay::new(["/usr/bin"]).upper(kept.path());
    /// assert_eq!(overlay.changes()?.to_string(), "added \"new\"\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn changes(&self) -> Result<Changes> {
        let upper = self.kept().ok_or_else(|| {
            Error::new(Stage::Run, "find", "a kept upper of the overlay", Errno::ENOENT)
        })?;
        let upper = Arc::new(open_directory(&upper)?);
        Source::new(Path::new("/"), self, upper, None).changes()
    }

    pub(crate) fn is_thrown_away(&self) -> bool {
        self.upper == Upper::ThrowAway
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.upper == Upper::None
    }

    pub(crate) fn problems(&self, path: &Path, problems: &mut Vec<String>) {
        let count = self.layers.len();
        if count == 0 || count > LAYERS_MAX {
            problems.push(format!(
                "the overlay at {path:?} has {count} layers, which is not between 1 and {LAYERS_MAX}"
            ));
        }
        let kept = match &self.upper {
            Upper::Kept(directory) => Some(directory),
            Upper::ThrowAway | Upper::None => None,
        };
        self.layers.iter().chain(kept).for_each(|path| super::check_source(path, problems));
        let limits = [self.size, self.inodes];
        if limits.contains(&Some(0)) {
            problems.push(format!(
                "the overlay at {path:?}: a size or inode limit of 0 means \"unlimited\""
            ));
        }
        if !self.is_thrown_away() && limits != [None, None] {
            problems.push(format!(
                "the overlay at {path:?}: only a throw-away upper has a size and an inode limit"
            ));
        }
    }

    /// The mode of an upper directory: it is seen in place of that of the layers.
    fn mode(&self) -> u32 {
        let top = self.layers.last().and_then(|path| fs::metadata(path).ok());
        top.map_or(0o755, |found| found.permissions().mode() & 0o1777)
    }

    /// Attaches the layers and the upper in the stage; returns the mount's options.
    fn lower_layers(&self, plan: &mut Lower, number: usize, next: &mut usize) -> String {
        let mut lowers = Vec::new();
        for layer in &self.layers {
            let name = format!("l{next}");
            *next += 1;
            bind(plan, &absolute(layer), &name, MOUNT_ATTR_RDONLY);
            lowers.push(name);
        }
        // The kernel wants the topmost first.
        lowers.reverse();
        let upper = match &self.upper {
            Upper::None => {
                // It wants two at least, if there is no upper.
                plan.directory(Path::new(&format!("/e{number}")), 0o755);
                lowers.push(format!("e{number}"));
                String::new()
            }
            Upper::Kept(directory) => {
                let name = format!("u{number}");
                bind(plan, &absolute(directory), &name, 0);
                format!(",upperdir={name}/{UPPER},workdir={name}/{WORK}")
            }
            Upper::ThrowAway => {
                let name = format!("u{number}");
                let (size, inodes) = (self.size.unwrap_or(SIZE), self.inodes.unwrap_or(INODES));
                let options = format!("size={size},nr_inodes={inodes},mode=755");
                let at = PathBuf::from(format!("/{name}"));
                plan.mount("tmpfs", &at, MS_NOSUID | MS_NODEV, &options);
                plan.directory(&at.join(UPPER), self.mode());
                plan.directory(&at.join(WORK), 0o755);
                let op = Op::Keep { path: bytes(&at.join(UPPER)) };
                plan.step(op, "what is written can be asked for afterwards");
                format!(",upperdir={name}/{UPPER},workdir={name}/{WORK}")
            }
        };
        // In the namespace of a sandbox only the attributes that are called user.* can be written.
        format!("lowerdir={}{upper},userxattr", lowers.join(":"))
    }

    /// Mounts it.
    pub(crate) fn lower(&self, plan: &mut Lower, path: &Path, options: &str) {
        let mut flags = MS_NOSUID | MS_NODEV;
        if self.no_exec {
            flags |= MS_NOEXEC;
        }
        match self.upper {
            Upper::ThrowAway => flags |= OWN,
            Upper::None => flags |= MS_RDONLY,
            Upper::Kept(_) => {}
        }
        let op = Op::Mount {
            kind: b"overlay".to_vec(),
            to: bytes(path),
            flags,
            options: options.into(),
        };
        plan.step(op, "asked for");
    }
}

/// The names of what is in a kept upper's directory, and in a throw-away one's.
const UPPER: &str = "upper";
const WORK: &str = "work";

/// Where an overlay that becomes the root is mounted in the stage.
pub(crate) const ROOT: &[u8] = b"/overlay-root";

fn bind(plan: &mut Lower, from: &Path, name: &str, attributes: u32) {
    let fd = plan.tree(from, false);
    let to = format!("/{name}").into_bytes();
    let op = Op::Bind { from: bytes(from), fd, to, flags: 0, attributes };
    plan.step(op, "a part of an overlay");
}

/// Lays the layers of all overlays, and files of /proc, ready, in a file system that is let go with the host's root: their
/// options name them relative to that, so neither the host's paths nor what is special in them shows.
/// Returns the options of each overlay.
pub(crate) fn lower_stage<'a>(
    overlays: impl Iterator<Item = &'a Overlay> + Clone,
    files: &[(&'static str, Vec<u8>)],
    plan: &mut Lower,
) -> Vec<String> {
    if overlays.clone().next().is_none() && files.is_empty() {
        return Vec::new();
    }
    let count: usize = overlays.clone().map(|overlay| overlay.layers.len() + 2).sum();
    let inodes = u64::try_from(count + files.len()).unwrap_or(u64::MAX).saturating_add(16);
    // Whole pages.
    let bytes: usize = files.iter().map(|(_, data)| data.len() + 65536).sum();
    let size = u64::try_from(bytes).unwrap_or(u64::MAX).saturating_add(65536);
    let op = Op::RootTmpfs { size, inodes };
    plan.step(op, "a place to lay things ready, until the pivot");
    machine::lower_files(files, plan);
    let mut next = 0;
    let options = overlays
        .enumerate()
        .map(|(number, overlay)| overlay.lower_layers(plan, number, &mut next))
        .collect();
    plan.step(Op::Enter {}, "what is laid ready in it is named from there");
    options
}

/// A kept upper while a sandbox has it: locked, and with a work directory.
#[derive(Debug)]
pub(crate) struct Held {
    directory: OwnedFd,
    pub(crate) upper: Arc<OwnedFd>,
    owner: u32,
    /// The upper directory was made for this sandbox.
    made: bool,
    /// A sandbox has it; until then all can be undone.
    pub(crate) used: bool,
}

impl Held {
    fn take(overlay: &Overlay, directory: &Path) -> Result<Self> {
        let failed =
            |operation, errno| Error::new(Stage::Prepare, operation, quoted(directory), errno);
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd =
            open(directory, flags, Mode::empty()).map_err(|errno| failed("open upper", errno))?;
        sys::lock(fd.as_fd()).map_err(|errno| {
            let hint = (errno == Errno::EWOULDBLOCK).then_some(Hint::UpperInUse);
            failed("lock upper", errno).with_hint(hint)
        })?;
        let directory = fd;
        let failed = |errno| failed("create in upper", errno);
        let (made, upper) = child(&directory, UPPER, overlay.mode()).map_err(failed)?;
        let (owner, upper) = (std::process::id(), Arc::new(upper));
        // From here on what was made is undone.
        let held = Held { directory, upper, owner, made, used: false };
        child(&held.directory, WORK, 0o700).map_err(failed)?;
        Ok(held)
    }

    fn path(&self, name: &str) -> PathBuf {
        link(self.directory.as_fd()).join(name)
    }

    /// The kernel's own directory in the work directory has no permissions, so that whoever is not
    /// root could not remove it as any other.
    pub(crate) fn open_work(&self) {
        let path = self.path(WORK).join(WORK);
        if let Err(error) = fs::set_permissions(path, fs::Permissions::from_mode(0o700)) {
            log::debug!("the work directory of an overlay: {error}");
        }
    }
}

/// A directory in another, which is made if it is missing; whether it was.
fn child(directory: &OwnedFd, name: &str, mode: u32) -> Result<(bool, OwnedFd), Errno> {
    let made = match mkdirat(directory, name, Mode::S_IRWXU) {
        Ok(()) => true,
        Err(Errno::EEXIST) => false,
        Err(errno) => return Err(errno),
    };
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let fd = openat(directory, name, flags, Mode::empty())?;
    if made {
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(link(fd.as_fd()), mode).map_err(|error| errno_of(&error))?;
    }
    Ok((made, fd))
}

impl Drop for Held {
    fn drop(&mut self) {
        // In a forked copy of the embedder it is somebody else's.
        if self.owner != std::process::id() {
            return;
        }
        self.open_work();
        // Nobody can be told: what fails for a moment is tried once more.
        let remove = || fs::remove_dir_all(self.path(WORK));
        let removed = remove().or_else(|_| remove());
        let undone = if self.made && !self.used {
            unlinkat(&self.directory, UPPER, UnlinkatFlags::RemoveDir).map_err(Into::into)
        } else {
            Ok(())
        };
        // A copy of this process may have the descriptor, too.
        let unlocked = sys::unlock(self.directory.as_fd()).map_err(Into::into);
        for error in [removed, undone, unlocked].into_iter().filter_map(Result::err) {
            log::warn!("the directory of an overlay's upper is not as it was: {error}");
        }
    }
}

/// Checks all overlays, in the caller's own context, and takes what they keep.
pub(crate) fn prepare<'a>(overlays: impl Iterator<Item = &'a Overlay>) -> Result<Vec<Held>> {
    let (mut held, mut mounts) = (Vec::new(), None);
    for overlay in overlays {
        let mut places = Vec::new();
        for layer in &overlay.layers {
            places.push(place(layer, "open layer")?);
        }
        if let Upper::Kept(directory) = &overlay.upper {
            places.push(place(directory, "open upper")?);
        }
        check_overlap(&places)?;
        if overlay.submounts {
            let mounts = match &mut mounts {
                Some(mounts) => mounts,
                None => mounts.insert(mount_points()?),
            };
            check_submounts(&places, mounts)?;
        }
        if let Upper::Kept(directory) = &overlay.upper {
            held.push(Held::take(overlay, &absolute(directory))?);
        }
    }
    Ok(held)
}

/// Where a directory really is.
fn place(path: &Path, operation: &'static str) -> Result<PathBuf> {
    let failed = |errno| Error::new(Stage::Prepare, operation, quoted(path), errno);
    let place = fs::canonicalize(path).map_err(|error| failed(errno_of(&error)))?;
    let found = fs::metadata(&place).map_err(|error| failed(errno_of(&error)))?;
    if found.is_dir() { Ok(place) } else { Err(failed(Errno::ENOTDIR)) }
}

/// No directory may be another or lie in another: writing to one would change the other.
fn check_overlap(places: &[PathBuf]) -> Result<()> {
    let mut sorted: Vec<_> = places.iter().collect();
    sorted.sort();
    // What lies in a directory comes right after it, components being compared one by one.
    match sorted.windows(2).find(|pair| pair[1].starts_with(pair[0])) {
        Some(pair) => {
            let object = format!("{} and {}", quoted(pair[0]), quoted(pair[1]));
            Err(Error::new(Stage::Prepare, "lay over each other", object, Errno::ELOOP)
                .with_hint(Some(Hint::LayersOverlap)))
        }
        None => Ok(()),
    }
}

fn check_submounts(places: &[PathBuf], mounts: &[PathBuf]) -> Result<()> {
    for place in places {
        // Sorted: what is below a place comes right behind it.
        let behind = mounts.partition_point(|mount| mount <= place);
        if let Some(mount) = mounts.get(behind).filter(|mount| mount.starts_with(place)) {
            let object = format!("{} (mounted in {})", quoted(mount), quoted(place));
            return Err(Error::new(Stage::Prepare, "show", object, Errno::EINVAL)
                .with_hint(Some(Hint::LayerSubmounts)));
        }
    }
    Ok(())
}

/// All mount points of the caller's, sorted.
fn mount_points() -> Result<Vec<PathBuf>> {
    let table = fs::read("/proc/self/mountinfo").map_err(|error| {
        Error::new(Stage::Prepare, "read", "\"/proc/self/mountinfo\"", errno_of(&error))
    })?;
    let lines = table.split(|&byte| byte == b'\n');
    let fields = lines.filter_map(|line| line.split(|&byte| byte == b' ').nth(4));
    let mut points: Vec<_> = fields.map(unescape).collect();
    points.sort();
    Ok(points)
}

/// A path of mountinfo, where some bytes are written as `\ooo`.
fn unescape(field: &[u8]) -> PathBuf {
    let mut path = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let digits = if byte == b'\\' { tail.get(..3) } else { None };
        let value = digits
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        path.push(value.unwrap_or(byte));
        rest = if value.is_some() { tail.get(3..).unwrap_or(&[]) } else { tail };
    }
    std::ffi::OsString::from_vec(path).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_that_overlap() {
        let check = |paths: &[&str]| {
            check_overlap(&paths.iter().map(PathBuf::from).collect::<Vec<_>>()).is_ok()
        };
        assert!(check(&["/a", "/b", "/ab"]));
        assert!(check(&["/a/b", "/a-b", "/a/c"]));
        assert!(!check(&["/a", "/a"]));
        assert!(!check(&["/a/b/c", "/a-", "/a"]));
    }

    #[test]
    fn paths_of_mountinfo() {
        assert_eq!(unescape(br"/a\040b\134c"), Path::new(r"/a b\c"));
        assert_eq!(unescape(br"/a\zz"), Path::new(r"/a\zz"));
    }

    #[test]
    fn mounts_in_a_layer() {
        let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect::<Vec<_>>();
        let mounts = paths(&["/", "/a", "/a/b/c", "/d"]);
        let check = |place: &str| check_submounts(&paths(&[place]), &mounts).is_ok();
        assert!(check("/d") && check("/a/b/c") && check("/a/c") && check("/a/b/c/d"));
        assert!(!check("/a") && !check("/a/b") && !check("/"));
    }
}
