//! The sandbox's file tree: where things are attached, and how a path inside is found.
//!
//! Every path of the inside is resolved by the kernel with `RESOLVE_IN_ROOT` and everything is
//! attached to the descriptor that came of it, so a link planted in a writable tree leads nowhere
//! but into that tree.

mod place;

use crate::abi::*;
use crate::legacy::Legacy;
use crate::raw::Errno;
use crate::sys::{self, Fd, Outcome, fault, write_all};
use crate::text::{decimal, host_descriptor, join, own_descriptor};
use crate::wire::{
    BESIDE, BIND_RECURSIVE, Call, Fault, HELD, OF_TEMPLATE, OWN, TREE, Text, WATCHED_MAX,
};
use place::{Above, Kind, OWN_MAX, PATH_MAX, Place};

/// The writable file systems in memory, in the order of the plan.
#[derive(Debug)]
pub(crate) struct Watched {
    fds: [i32; WATCHED_MAX],
    count: usize,
}

impl Watched {
    pub(crate) const NONE: Self = Watched { fds: [0; WATCHED_MAX], count: 0 };

    fn add(&mut self, fd: i32) -> Outcome {
        let copy = sys::fcntl(fd, F_DUPFD_CLOEXEC, 3)? as i32;
        if let Some(slot) = self.fds.get_mut(self.count) {
            *slot = copy;
            self.count += 1;
        }
        Ok(())
    }

    /// A descriptor of each.
    pub(crate) fn fds(&self) -> &[i32] {
        self.fds.get(..self.count).unwrap_or(&[])
    }
}

/// The new root while it is being built.
#[derive(Debug)]
pub(crate) struct Tree<'a> {
    root: Fd,
    /// How many roots were put on the old one: before this one that of what overlays are made of.
    roots: u32,
    /// The root is a file system that this sandbox made, in which nothing covers it.
    own_root: bool,
    above: Option<Above<'a>>,
    /// Device numbers of the file systems that this sandbox made: only there are missing mount
    /// points created, so that nothing of the host's gets placeholders.
    own: [u64; OWN_MAX],
    own_count: usize,
    watched: Option<&'a mut Watched>,
    /// The host's /proc, for the fallback on kernels without mount_setattr.
    proc_fd: i32,
    legacy: Option<Legacy>,
}

impl<'a> Tree<'a> {
    /// Nothing yet; the first operation gives it a root.
    #[inline(never)]
    pub(crate) fn new(proc_fd: i32, watched: Option<&'a mut Watched>) -> Self {
        let (root, own_root) = (Fd(-1), false);
        let (above, own, own_count, legacy) = (None, [0; OWN_MAX], 0, None);
        Tree { root, roots: 0, own_root, above, own, own_count, watched, proc_fd, legacy }
    }

    /// Attaches a fresh tmpfs over the old root directory, or where it is let go with that.
    pub(crate) fn root_tmpfs(&mut self, size: u64, inodes: u64) -> Outcome {
        let (beside, inodes) = (inodes & BESIDE != 0, inodes & !BESIDE);
        let context = sys::fsopen(Text::new(b"tmpfs\0"))?;
        let mut digits = [0; 24];
        for (key, value) in [(&b"size\0"[..], size), (b"nr_inodes\0", inodes)] {
            sys::fsconfig_string(context.0, Text::new(key), decimal(value, &mut digits))?;
        }
        sys::fsconfig_string(context.0, Text::new(b"mode\0"), Text::new(b"0755\0"))?;
        sys::fsconfig_create(context.0)?;
        let root = Fd(sys::fsmount(context.0, 1, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV)? as i32);
        if beside {
            sys::move_mount(root.0, AT_FDCWD, Text::new(HELD))?;
        } else {
            self.put_on_root(&root)?;
        }
        (self.root, self.own_root, self.above) = (root, true, None);
        self.remember_own(self.root.0, true)
    }

    /// Attaches a directory of the host over the old root directory.
    pub(crate) fn root_directory(&mut self, from: Text<'_>, fd: i32, attributes: u32) -> Outcome {
        let root = match fd {
            OF_TEMPLATE => Fd(TREE),
            0.. => Fd(fd),
            _ => sys::open_tree(AT_FDCWD, from, OPEN_TREE_CLONE | AT_RECURSIVE)?,
        };
        if sys::stat(root.0)?.mode & S_IFMT != S_IFDIR {
            return fault(Call::MoveMount, ENOTDIR);
        }
        let late = self.attributes(root.0, attributes, true)?;
        self.put_on_root(&root)?;
        (self.root, self.own_root, self.above) = (root, false, None);
        self.remember(Text::new(b"/\0"), late.unwrap_or(0))
    }

    /// The finished tree's root, if one was made.
    pub(crate) fn into_root(self) -> Fd {
        self.root
    }

    fn put_on_root(&mut self, root: &Fd) -> Outcome {
        self.roots += 1;
        sys::move_mount_to_root(root.0)
    }

    /// Makes the root the current directory.
    pub(crate) fn enter(&self) -> Outcome {
        sys::fchdir(self.root.0).map(drop)
    }

    /// A descriptor of what is at `path`, or of the mount namespace.
    pub(crate) fn keep(&self, path: Text<'_>) -> Outcome<Fd> {
        if path.bytes().is_empty() {
            return sys::open(self.proc_fd, Text::new(b"self/ns/mnt\0"), O_RDONLY, 0);
        }
        sys::open_inside(self.root.0, path, O_PATH)
    }

    /// Makes a directory with exactly this mode.
    pub(crate) fn directory(&mut self, path: Text<'a>, mode: u32) -> Outcome {
        let (parent, name) = self.in_parent(path, Call::Mkdir)?;
        match sys::mkdir(parent, name, mode) {
            Err(Fault { errno, .. }) if errno.0 == EEXIST => {
                let directory = sys::open_inside(self.root.0, path, O_RDONLY)?;
                self.assert_own(directory.0, Call::Mkdir)?;
                sys::fchmod(directory.0, mode).map(drop)
            }
            other => other,
        }
    }

    /// Makes a file with this content.
    pub(crate) fn file(&mut self, path: Text<'a>, mode: u32, data: Text<'_>) -> Outcome {
        let (parent, name) = self.in_parent(path, Call::Create)?;
        let file = sys::open(parent, name, O_WRONLY | O_CREAT | O_EXCL, mode)
            .map_err(|Fault { errno, .. }| Fault { call: Call::Create, errno })?;
        write_all(file.0, data.bytes())
    }

    /// Makes a symbolic link.
    pub(crate) fn symlink(&mut self, path: Text<'a>, target: Text<'_>) -> Outcome {
        let (parent, name) = self.in_parent(path, Call::Symlink)?;
        sys::symlink(target, parent, name)
    }

    /// Changes the owner of what was just made.
    pub(crate) fn owner(&mut self, path: Text<'a>, uid: u32, gid: u32) -> Outcome {
        let (parent, name) = self.in_parent(path, Call::Owner)?;
        sys::chown(parent, name, uid, gid)
    }

    /// Attaches a part of the host's tree.
    pub(crate) fn bind(
        &mut self,
        from: Text<'_>,
        fd: i32,
        to: Text<'a>,
        flags: u32,
        attributes: u32,
    ) -> Outcome {
        let recursive = flags & BIND_RECURSIVE != 0;
        let source = if fd >= 0 {
            Fd(fd)
        } else {
            let deep = if recursive { AT_RECURSIVE } else { 0 };
            sys::open_tree(AT_FDCWD, from, OPEN_TREE_CLONE | deep)?
        };
        self.attach_at(source, to, attributes, recursive)
    }

    /// Attaches a part of the new root to itself, so that it can have attributes of its own.
    pub(crate) fn again(&mut self, path: Text<'a>, attributes: u32) -> Outcome {
        let place = sys::open_inside(self.root.0, path, O_PATH)?;
        let source = copy_of(&place)?;
        let late = self.attributes(source.0, attributes, false)?;
        self.above = None;
        self.attach(&source, Place::Found(place), late)
    }

    fn attach_at(&mut self, source: Fd, to: Text<'a>, wanted: u32, recursive: bool) -> Outcome {
        let kind = match sys::stat(source.0)?.mode & S_IFMT {
            S_IFDIR => Kind::Directory,
            _ => Kind::File,
        };
        let late = self.attributes(source.0, wanted, recursive)?;
        let target = self.target(to, kind)?;
        self.attach(&source, target, late)
    }

    fn attach(&mut self, source: &Fd, target: Place<'a>, late: Option<u32>) -> Outcome {
        match target {
            Place::Made(directory, name) => sys::move_mount(source.0, directory, name)?,
            Place::Found(place) => move_onto(source, &place)?,
        }
        if self.legacy.is_some() {
            // The tree's own descriptor now names the place where it was attached.
            return self.remember_place(source.0, late.unwrap_or(0));
        }
        Ok(())
    }

    /// Sets attributes on a detached tree; gives them back where that has to be done later.
    fn attributes(&mut self, tree: i32, wanted: u32, recursive: bool) -> Outcome<Option<u32>> {
        if wanted == 0 || self.legacy.is_some() {
            return Ok(Some(wanted));
        }
        match sys::mount_setattr(tree, wanted, recursive) {
            Ok(()) => Ok(None),
            Err(Fault { errno, .. }) if errno.0 == ENOSYS => {
                self.legacy = Some(Legacy::new()?);
                Ok(Some(wanted))
            }
            Err(other) => Err(other),
        }
    }

    fn remember(&mut self, place: Text<'_>, attributes: u32) -> Outcome {
        self.legacy.as_mut().map_or(Ok(()), |legacy| legacy.remember(place.bytes(), attributes))
    }

    fn remember_place(&mut self, mounted: i32, attributes: u32) -> Outcome {
        let mut link = [0; 40];
        let mut place = [0; PATH_MAX];
        let length = sys::read_link(self.proc_fd, own_descriptor(mounted, &mut link), &mut place)?;
        match &mut self.legacy {
            Some(legacy) => legacy.remember(&place[..length], attributes),
            None => Ok(()),
        }
    }

    /// Mounts a new file system.
    pub(crate) fn mount(
        &mut self,
        kind: Text<'_>,
        to: Text<'a>,
        flags: u32,
        options: Text<'_>,
    ) -> Outcome {
        let target = match self.target(to, Kind::Directory)? {
            Place::Made(directory, name) => sys::open(directory, name, O_PATH, 0)?,
            Place::Found(place) => place,
        };
        let mut link = [0; 40];
        let place = host_descriptor(target.0, &mut link);
        sys::mount(Call::Mount, place, Some(kind), flags & !OWN, Some(options))?;
        let own = flags & OWN != 0;
        if !own && self.legacy.is_none() {
            return Ok(());
        }
        let mounted = sys::open_inside(self.root.0, to, O_PATH)?;
        if own {
            self.remember_own(mounted.0, flags & MS_RDONLY == 0)?;
        }
        if self.legacy.is_some() { self.remember_place(mounted.0, 0) } else { Ok(()) }
    }

    /// Hides what is at `path`: a directory below an empty read-only one, a file below /dev/null.
    pub(crate) fn mask(&mut self, path: Text<'a>) -> Outcome {
        let target = match sys::open_inside(self.root.0, path, O_PATH) {
            // Nothing there: nothing to hide.
            Err(Fault { errno, .. }) if errno.0 == ENOENT => return Ok(()),
            other => other?,
        };
        if sys::stat(target.0)?.mode & S_IFMT == S_IFDIR {
            let flags = MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC;
            let options = Text::new(b"size=4k,nr_inodes=1,mode=0555\0");
            return self.mount(Text::new(b"tmpfs\0"), path, flags, options);
        }
        let null = sys::open_inside(self.root.0, Text::new(b"/dev/null\0"), O_PATH)?;
        let found = sys::stat(null.0)?;
        // Character device 1:3; anything else planted there would show through.
        if found.mode & S_IFMT != S_IFCHR || found.rdev != 0x103 {
            return fault(Call::NullDevice, EINVAL);
        }
        let source = copy_of(&null)?;
        move_onto(&source, &target)?;
        // On an old kernel the node that it was copied from has its attributes at the end only.
        self.remember(path, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC)
    }

    /// Enters the new root and lets the old one go.
    #[inline(never)]
    pub(crate) fn pivot(&mut self, attributes: u32) -> Outcome {
        if attributes != 0 && self.legacy.is_none() {
            match sys::mount_setattr(self.root.0, attributes, false) {
                Err(Fault { errno, .. }) if errno.0 == ENOSYS => self.legacy = Some(Legacy::new()?),
                other => other?,
            }
        }
        sys::fchdir(self.root.0)?;
        sys::pivot_here()?;
        // The topmost first; the last is the host's, with all that is left on it.
        for _ in 0..self.roots {
            sys::detach(Text::new(b".\0"))?;
        }
        sys::chdir(Text::new(b"/\0"))?;
        if let Some(legacy) = self.legacy.take() {
            legacy.apply(self.proc_fd, attributes)?;
        }
        Ok(())
    }

    /// Maps ids to themselves, in a user namespace that this process has just entered.
    pub(crate) fn same_ids(&self, uid: u32, gid: u32) -> Outcome {
        // Else init's own files in /proc are the host's root's. Nothing else runs here yet.
        sys::prctl(Call::Dumpable, PR_SET_DUMPABLE, 1, 0)?;
        self.write(Text::new(b"self/setgroups\0"), b"deny")?;
        for (file, id) in [(&b"self/uid_map\0"[..], uid), (b"self/gid_map\0", gid)] {
            let mut line = [0; 40];
            let mut digits = [0; 24];
            let digits = decimal(u64::from(id), &mut digits).bytes();
            let line = join(&mut line, &[digits, b" ", digits, b" 1\n"]);
            self.write(Text::new(file), line)?;
        }
        Ok(())
    }

    /// Looks that there is a directory with nothing in it, and makes it if there is nothing.
    #[cfg(session)]
    pub(crate) fn vacant(&mut self, path: Text<'a>) -> Outcome {
        // What it stands for was made before it is looked at.
        drop(self.target(path, place::Kind::Directory)?);
        self.above = None;
        let directory = sys::open_below(self.root.0, path, O_RDONLY)?;
        let mut entries = [0; 256];
        // Itself and the one above.
        match sys::list(directory.0, &mut entries)? {
            0..=48 => Ok(()),
            _ => fault(Call::MountPoint, ENOTEMPTY),
        }
    }

    /// Lets the host's root go, and holds the new one below the one before, which is the current directory.
    #[cfg(session)]
    pub(crate) fn hold(&mut self, attributes: u32) -> Outcome {
        if self.legacy.is_some() {
            return fault(Call::MountSetattr, ENOSYS);
        }
        sys::mount_setattr(self.root.0, attributes, false)?;
        sys::move_mount(self.root.0, AT_FDCWD, Text::new(HELD).tail(1))?;
        sys::pivot_here()?;
        sys::detach(Text::new(b".\0"))?;
        sys::chdir(Text::new(b"/\0"))
    }

    /// Enters the time namespace that its children would have.
    pub(crate) fn enter_time(&self) -> Outcome {
        let path = Text::new(b"self/ns/time_for_children\0");
        let namespace = sys::open(self.proc_fd, path, O_RDONLY, 0)?;
        sys::setns(namespace.0, CLONE_NEWTIME).map(drop)
    }

    /// Allows no user namespace below this one.
    pub(crate) fn forbid_nesting(&self) -> Outcome {
        forbid_nesting(self.proc_fd)
    }

    /// A quarter of what a kernel lets each user have: of the latter, of what it always let.
    pub(crate) fn limit_inotify(&self) -> Outcome {
        self.write(Text::new(b"sys/user/max_inotify_instances\0"), b"32")?;
        self.write(Text::new(b"sys/user/max_inotify_watches\0"), b"8192")
    }

    /// Writes to a file below the host's /proc.
    pub(crate) fn write(&self, path: Text<'_>, data: &[u8]) -> Outcome {
        write_below(self.proc_fd, path, data)
    }
}

/// Goes into a copy of the tree that is in no mount namespace. The kernel lists the mounts of the caller's
/// namespace that can be reached from the caller's root: of those there are none any more.
pub(crate) fn hide() -> Outcome {
    let copy = sys::open_tree(AT_FDCWD, Text::new(b"/\0"), OPEN_TREE_CLONE | AT_RECURSIVE)?;
    sys::fchdir(copy.0)?;
    sys::chroot_here()?;
    // Not closed: as long as it is open, the copy is as quick as another tree.
    core::mem::forget(copy);
    Ok(())
}

/// A detached copy of the mount that a descriptor leads to.
fn copy_of(place: &Fd) -> Outcome<Fd> {
    sys::open_tree(place.0, Text::new(b"\0"), OPEN_TREE_CLONE | AT_EMPTY_PATH)
}

/// Attaches a tree to a place that was there.
fn move_onto(source: &Fd, place: &Fd) -> Outcome {
    sys::move_mount_onto(source.0, place.0).or_else(|fault| {
        // The kernel's EINVAL for a directory on a file, or the reverse, says little.
        let is_directory = |fd: &Fd| Ok(sys::stat(fd.0)?.mode & S_IFMT == S_IFDIR);
        let mismatch = is_directory(source)? != is_directory(place)?;
        let errno = if mismatch { Errno(ENOTDIR) } else { fault.errno };
        Err(Fault { errno, ..fault })
    })
}

/// Allows no user namespace below the caller's own, through the host's /proc.
pub(crate) fn forbid_nesting(proc_fd: i32) -> Outcome {
    write_below(proc_fd, Text::new(b"sys/user/max_user_namespaces\0"), b"0")
}

fn write_below(directory: i32, path: Text<'_>, data: &[u8]) -> Outcome {
    let file = sys::open(directory, path, O_WRONLY, 0)?;
    write_all(file.0, data)
}
