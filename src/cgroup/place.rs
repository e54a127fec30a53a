//! Below which groups a sandbox's groups are made, and collecting what dead processes left there.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{FileStat, Mode, fstat, lstat};
use nix::unistd::{AccessFlags, UnlinkatFlags, access, unlinkat};

use super::hierarchy::Hierarchy;
#[cfg(feature = "systemd")]
use super::scope::Scope;
use super::{CgroupParent, CgroupVersion, Controller, delegation};
use crate::error::{Error, Result, Stage, quoted};
use crate::hint::Hint;
use crate::policy::Policy;
use crate::{kept, sys};

/// How the name of every group begins.
const BRAND: &str = "stockade-";

/// A group in which groups are made.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) path: PathBuf,
    pub(crate) dir: OwnedFd,
    pub(crate) hierarchy: Hierarchy,
    /// Device and inode, by which it is known again.
    identity: (u64, u64),
}

/// What names the groups of this process; a forked copy has another.
#[derive(Debug)]
struct Mark {
    pid: u32,
    token: u64,
    next: AtomicU64,
}

static MARK: AtomicPtr<Mark> = AtomicPtr::new(std::ptr::null_mut());

fn mark() -> &'static Mark {
    loop {
        let before = kept::get(&MARK);
        if let Some(mark) = before.filter(|mark| mark.pid == std::process::id()) {
            return mark;
        }
        let mark = Mark { pid: std::process::id(), token: sys::random(), next: AtomicU64::new(1) };
        // Whoever was faster, there is one now.
        let _lost = kept::replace(&MARK, before, mark);
    }
}

/// How the names of this process's groups begin; always of the same length.
pub(crate) fn prefix() -> String {
    format!("{BRAND}{:016x}-", mark().token)
}

/// A name for a sandbox's groups, in all hierarchies the same.
pub(crate) fn new_name() -> String {
    format!("{}{}", prefix(), mark().next.fetch_add(1, Ordering::Relaxed))
}

/// What is above a sandbox's groups, in all hierarchies.
#[derive(Debug, Clone)]
pub(crate) enum Below {
    Named(CgroupParent),
    /// systemd was asked for it.
    #[cfg(feature = "systemd")]
    Scope(Arc<Scope>),
}

impl Default for Below {
    fn default() -> Self {
        Below::Named(CgroupParent::Auto)
    }
}

impl Below {
    /// Unless systemd was asked for it.
    pub(crate) fn named(&self) -> Option<&CgroupParent> {
        match self {
            Below::Named(parent) => Some(parent),
            #[cfg(feature = "systemd")]
            Below::Scope(_) => None,
        }
    }

    pub(crate) fn of(policy: &Policy) -> Result<Self> {
        match &policy.cgroup_parent {
            #[cfg(feature = "systemd")]
            CgroupParent::SystemdScope => {
                crate::warden::scope(policy.init_file.as_deref()).map(Below::Scope)
            }
            named => Ok(Below::Named(named.clone())),
        }
    }

    /// What it is in one hierarchy.
    pub(crate) fn in_hierarchy(
        &self,
        _hierarchy: &Hierarchy,
        _controllers: &[Controller],
    ) -> Result<CgroupParent> {
        match self {
            Below::Named(parent) => Ok(parent.clone()),
            #[cfg(feature = "systemd")]
            Below::Scope(scope) => scope.parent_in(_hierarchy, _controllers),
        }
    }

    /// Puts a process into a group where the caller may not, if somebody else can.
    pub(crate) fn attach(&self, _group: &str, _pid: u32, refused: Error) -> Result<()> {
        match self {
            #[cfg(feature = "systemd")]
            Below::Scope(scope) if refused.raw_os_error() == Some(libc::EACCES) => {
                scope.attach(_group, _pid)
            }
            _ => Err(refused),
        }
    }
}

impl Place {
    /// Finds the place in one hierarchy, and on v2 has it pass the controllers on.
    pub(crate) fn find(
        parent: &CgroupParent,
        hierarchy: &Hierarchy,
        controllers: &[Controller],
    ) -> Result<Arc<Self>> {
        let path = Self::path(parent, hierarchy)?;
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let dir = open(&path, flags, Mode::empty()).map_err(|errno| {
            let hint = (errno == Errno::ENOENT).then(|| Hint::Run(format!("mkdir {path:?}")));
            Error::new(Stage::Cgroup, "open", quoted(&path), errno).with_hint(hint)
        })?;
        let found =
            fstat(&dir).map_err(|errno| Error::new(Stage::Cgroup, "stat", quoted(&path), errno))?;
        let identity = (found.st_dev, found.st_ino);
        let place = Place { path, dir, hierarchy: hierarchy.clone(), identity };
        place.pass_on(controllers)?;
        Ok(Arc::new(place))
    }

    /// Whether both are the same group, found twice.
    pub(crate) fn is(&self, other: &Place) -> bool {
        (self.identity, &self.path) == (other.identity, &other.path)
    }

    /// Whether it is still where it was, and what its descriptor stands for.
    pub(crate) fn is_there(&self) -> bool {
        let same = |found: Result<FileStat, Errno>| {
            found.is_ok_and(|found| (found.st_dev, found.st_ino) == self.identity)
        };
        same(fstat(&self.dir)) && same(lstat(&self.path))
    }

    /// On v2 has each group from the mount point down to this one pass controllers on.
    pub(crate) fn pass_on(&self, controllers: &[Controller]) -> Result<()> {
        match self.hierarchy.version {
            CgroupVersion::V1 => Ok(()),
            CgroupVersion::V2 => pass_on(&self.hierarchy.point, &self.path, controllers),
        }
    }

    /// Where it is, without looking whether it is there.
    pub(crate) fn path(parent: &CgroupParent, hierarchy: &Hierarchy) -> Result<PathBuf> {
        let Hierarchy { version, point, .. } = hierarchy;
        let own = hierarchy.own.as_deref().unwrap_or(point);
        let path = match parent {
            CgroupParent::Path(path) => {
                let start = if path.is_absolute() { point } else { own };
                Some(start.join(path.strip_prefix("/").unwrap_or(path)))
            }
            // A scope is a path by now, but where something is only to be paused.
            _ if *version == CgroupVersion::V1 => writable_from(own, point),
            _ => writable_from(above(own, point), point),
        };
        path.ok_or_else(|| {
            let object = format!("below {own:?}");
            Error::new(Stage::Cgroup, "make a control group", object, Errno::EACCES)
        })
    }

    /// Why a place on v2 would not pass a controller on, if it would not; changes nothing.
    pub(crate) fn lacks(
        place: &Path,
        hierarchy: &Hierarchy,
        controller: Controller,
    ) -> Option<Error> {
        if controller.is_in_every_v2_group() || controller.is_bpf_on_v2() {
            return None;
        }
        let name = controller.name(CgroupVersion::V2);
        let lists = |file| {
            let text = fs::read_to_string(place.join(file)).unwrap_or_default();
            text.split_whitespace().any(|one| one == name)
        };
        let has = lists("cgroup.subtree_control") || lists("cgroup.controllers");
        (!has).then(|| not_passed_on(&hierarchy.point, place, name, Errno::ENOENT))
    }

    /// Removes the groups that dead processes of the same user's have left. The kernel gives the
    /// lock of a group to nobody else as long as its owner lives.
    pub(crate) fn collect(&self) {
        let own = prefix();
        let user = nix::unistd::geteuid().as_raw();
        for name in groups_in(&self.path) {
            if !name.starts_with(BRAND) || name.starts_with(&own) {
                continue;
            }
            let path = self.path.join(&name);
            let is_ours = |path: &Path| {
                use std::os::unix::fs::MetadataExt;
                fs::symlink_metadata(path).is_ok_and(|found| found.uid() == user)
            };
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
            let opened = openat(&self.dir, name.as_str(), flags, Mode::empty());
            let Some(dir) = opened.ok().filter(|_| is_ours(&path)) else { continue };
            if sys::lock(dir.as_fd()).is_ok() {
                super::group::thaw(dir.as_fd());
                super::group::dissolve(dir.as_fd());
                let removed = remove_tree(self.dir.as_fd(), &name, &path, 0);
                log::debug!("cgroup: left by a dead process: {path:?}: {removed:?}");
            }
        }
    }
}

/// The nearest group from `start` up to `point` that the caller may make groups in.
fn writable_from(start: &Path, point: &Path) -> Option<PathBuf> {
    let inside = |path: &&Path| path.starts_with(point);
    start.ancestors().take_while(inside).find(|path| is_writable(path)).map(Path::to_owned)
}

/// Whether the caller may make groups in it, and move processes there.
pub(crate) fn is_writable(path: &Path) -> bool {
    access(path, AccessFlags::W_OK | AccessFlags::X_OK).is_ok()
        && access(&path.join("cgroup.procs"), AccessFlags::W_OK).is_ok()
}

/// Where v2's groups have room beside the caller's: only the root may have processes as well.
pub(crate) fn above<'a>(own: &'a Path, point: &'a Path) -> &'a Path {
    if own == point { point } else { own.parent().unwrap_or(point) }
}

/// Has each group from the mount point down to `place` pass the controllers on.
fn pass_on(point: &Path, place: &Path, controllers: &[Controller]) -> Result<()> {
    let names = controllers.iter().filter(|one| !one.is_in_every_v2_group() && !one.is_bpf_on_v2());
    let wanted: Vec<_> = names.map(|one| one.name(CgroupVersion::V2)).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let mut path = point.to_owned();
    let inner = place.strip_prefix(point).unwrap_or(Path::new(""));
    let mut steps = vec![path.clone()];
    for part in inner.components() {
        path.push(part);
        steps.push(path.clone());
    }
    for step in &steps {
        let file = step.join("cgroup.subtree_control");
        let passed = fs::read_to_string(&file).unwrap_or_default();
        let lacking =
            wanted.iter().filter(|name| !passed.split_whitespace().any(|one| one == **name));
        for name in lacking {
            let result = fs::OpenOptions::new().write(true).open(&file).and_then(|mut open| {
                std::io::Write::write_all(&mut open, format!("+{name}").as_bytes())
            });
            // Above, it may be passed on by other means than ours; below, it is there or not.
            if let (Err(error), true) = (&result, *step == *place) {
                return Err(not_passed_on(point, place, name, crate::executable::errno_of(error)));
            }
        }
    }
    Ok(())
}

fn not_passed_on(point: &Path, place: &Path, name: &str, errno: Errno) -> Error {
    let file = place.join("cgroup.subtree_control");
    let above = |group: &Path| {
        let steps = delegation::passing_on(point, group, &[name]);
        (!steps.is_empty()).then(|| Hint::RunAsRoot(steps.join(" && ")))
    };
    let hint = match errno {
        Errno::EBUSY => Some(Hint::InnerProcesses),
        // By default a user's manager is not given all.
        Errno::ENOENT if file.iter().any(is_users_manager) => Some(Hint::RunAsRoot(
            "mkdir -p /etc/systemd/system/user@.service.d && printf '[Service]\\nDelegate=yes\\n' \
             >/etc/systemd/system/user@.service.d/delegate.conf && systemctl daemon-reload"
                .to_owned(),
        )),
        // The groups above do not pass it on to this one.
        Errno::ENOENT => above(place),
        _ => above(&place.join("inner")),
    };
    let object = format!("\"+{name}\" to {file:?}");
    Error::new(Stage::Cgroup, "write", object, errno).with_hint(hint)
}

/// Whether a group's name is that of a user's systemd, as `user@1000.service`.
fn is_users_manager(name: &std::ffi::OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with("user@") && name.ends_with(".service"))
}

/// The groups directly below one.
pub(crate) fn groups_in(path: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    let is_dir = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    let name = |entry: fs::DirEntry| entry.file_name().into_string().ok();
    entries.flatten().filter(is_dir).filter_map(name).collect()
}

/// Removes a group, and first those that were made in it.
pub(crate) fn remove_tree(
    above: std::os::fd::BorrowedFd<'_>,
    name: &str,
    path: &Path,
    depth: u32,
) -> Result<(), Errno> {
    let remove = || match unlinkat(above, name, UnlinkatFlags::RemoveDir) {
        Err(Errno::ENOENT) => Ok(()),
        other => other,
    };
    match remove() {
        Err(Errno::EBUSY | Errno::ENOTEMPTY) if depth < 64 => {
            let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
            let dir = openat(above, name, flags, Mode::empty())?;
            let listed = PathBuf::from(format!("/proc/self/fd/{}", dir.as_raw_fd()));
            for inner in groups_in(&listed) {
                remove_tree(dir.as_fd(), &inner, &path.join(&inner), depth + 1)?;
            }
            remove()
        }
        other => other,
    }
}
