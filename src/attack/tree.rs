//! The file tree: mounts, devices, files with privileges, links.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::Path;

use crate::facts::Facts;
use crate::kernel::{call, call_for_fd, execute, text};
use crate::numbers as nr;
use crate::verdict::Verdict::{self, Held, NotApplicable, Open};
use crate::verdict::{passed, worked};

const AT_FDCWD: usize = -100isize as usize;
const MS_REMOUNT_BIND: usize = 32 | 4096;
const MNT_DETACH: usize = 2;

/// Writes to the file that is shown read-only.
fn write_to(facts: &Facts) -> io::Result<()> {
    let path = format!("{}/file", facts.text("readonly"));
    File::options().write(true).open(path)?.write_all(b"as it is not")
}

pub(crate) fn write_read_only(facts: &Facts) -> Verdict {
    worked("a write", write_to(facts))
}

pub(crate) fn create_read_only(facts: &Facts) -> Verdict {
    let path = format!("{}/new", facts.text("readonly"));
    let made = File::create(&path).and_then(|_| fs::remove_file(&path));
    worked("a new file", made)
}

pub(crate) fn remount(facts: &Facts) -> Verdict {
    let at = text(facts.text("readonly"));
    let mounted = call(nr::MOUNT, [0, at.as_ptr() as usize, 0, MS_REMOUNT_BIND, 0]);
    worked("a remount and a write", mounted.and_then(|_| write_to(facts)))
}

pub(crate) fn mount_setattr(facts: &Facts) -> Verdict {
    const MOUNT_ATTR_RDONLY: u64 = 1;
    let at = text(facts.text("readonly"));
    // struct mount_attr: what to set, what to clear, propagation, a namespace.
    let attributes = [0u64, MOUNT_ATTR_RDONLY, 0, 0];
    let pointer = attributes.as_ptr() as usize;
    let args = [AT_FDCWD, at.as_ptr() as usize, 0, pointer, size_of_val(&attributes)];
    let changed = call(nr::MOUNT_SETATTR, args);
    worked("mount_setattr and a write", changed.and_then(|_| write_to(facts)))
}

/// A mount over the directory that this program is in, taken away at once.
fn mount_over(facts: &Facts, kind: &str) -> io::Result<usize> {
    let (kind, at) = (text(kind), text(facts.text("place")));
    let at = at.as_ptr() as usize;
    call(nr::MOUNT, [kind.as_ptr() as usize, at, kind.as_ptr() as usize, 0, 0])?;
    call(nr::UMOUNT2, [at, MNT_DETACH])
}

pub(crate) fn mount_tmpfs(facts: &Facts) -> Verdict {
    worked("a tmpfs", mount_over(facts, "tmpfs"))
}

pub(crate) fn mount_proc(facts: &Facts) -> Verdict {
    worked("a whole /proc", mount_over(facts, "proc"))
}

pub(crate) fn mount_cgroup(facts: &Facts) -> Verdict {
    worked("the control groups", mount_over(facts, "cgroup2"))
}

pub(crate) fn fsopen(_: &Facts) -> Verdict {
    let kind = text("tmpfs");
    worked("fsopen", call_for_fd(nr::FSOPEN, [kind.as_ptr() as usize, 0]))
}

pub(crate) fn open_tree(_: &Facts) -> Verdict {
    const CLONE_RECURSIVE: usize = 1 | 0x8000;
    let root = text("/");
    worked(
        "open_tree",
        call_for_fd(nr::OPEN_TREE, [AT_FDCWD, root.as_ptr() as usize, CLONE_RECURSIVE]),
    )
}

/// Mount points below a directory, from what the kernel tells.
fn mounted(below: &str) -> Vec<String> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let points = text.lines().filter_map(|line| line.split(' ').nth(4)).map(str::to_owned);
    points.filter(|point| point.starts_with(below)).collect()
}

/// Asks whether mounts may be taken away; nothing is, as the first such call only marks one.
fn expire(points: &[String]) -> Verdict {
    const MNT_EXPIRE: usize = 4;
    const EAGAIN: i32 = 11;
    const EBUSY: i32 = 16;
    let mut last = None;
    for point in points {
        let path = text(point);
        let asked = call(nr::UMOUNT2, [path.as_ptr() as usize, MNT_EXPIRE]);
        let verdict = passed(&format!("umount of {point}"), asked, &[EAGAIN, EBUSY]);
        if matches!(verdict, Open(_)) {
            return verdict;
        }
        last = Some(verdict);
    }
    last.unwrap_or(NotApplicable("there is no such mount, or none is told of".to_owned()))
}

pub(crate) fn umount_masks(_: &Facts) -> Verdict {
    expire(&mounted("/proc/"))
}

pub(crate) fn umount(_: &Facts) -> Verdict {
    expire(&mounted("/"))
}

pub(crate) fn make_device(facts: &Facts) -> Verdict {
    const S_IFCHR: usize = 0o020_000;
    const NULL: usize = 1 << 8 | 3;
    let path = format!("{}/device", facts.text("writable"));
    let name = text(&path);
    let made = call(nr::MKNODAT, [AT_FDCWD, name.as_ptr() as usize, S_IFCHR | 0o666, NULL]);
    worked("a device", made.and_then(|_| fs::remove_file(path)))
}

pub(crate) fn open_device(facts: &Facts) -> Verdict {
    let path = format!("{}/device", facts.text("readonly"));
    if !facts.has("device") {
        return NotApplicable("only root can plant a device".to_owned());
    }
    worked("a device in a bind", File::open(path))
}

/// Devices of the host besides what every program takes for granted.
pub(crate) fn devices(_: &Facts) -> Verdict {
    /// null, zero, full, random, urandom; tty, console, ptmx; and terminals, which are the sandbox's own.
    const USUAL: [u64; 8] = [0x103, 0x105, 0x107, 0x108, 0x109, 0x500, 0x501, 0x502];
    let is_terminal = |device: u64| (136..144).contains(&(device >> 8));
    let mut directories = vec!["/dev".to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let Ok(found) = entry.metadata() else { continue };
            let path = entry.path().to_string_lossy().into_owned();
            let is_device =
                found.file_type().is_char_device() || found.file_type().is_block_device();
            if found.is_dir() && path != "/dev/pts" {
                directories.push(path);
            } else if is_device && !USUAL.contains(&found.rdev()) && !is_terminal(found.rdev()) {
                return Open(path);
            }
        }
    }
    Held("no device but the usual ones".to_owned())
}

/// Asked of a copy of this program with privileges: has it got any?
fn privileged(facts: &Facts, name: &str) -> Verdict {
    if !facts.has(name) {
        return NotApplicable("only root can plant it".to_owned());
    }
    let path = format!("{}/{name}", facts.text("readonly"));
    match execute(&path) {
        Ok(Some(0)) => Open(format!("{name} has given privileges")),
        Ok(_) => Held(format!("{name} runs without privileges")),
        Err(error) => Held(format!("{name}: {error}")),
    }
}

pub(crate) fn setuid_program(facts: &Facts) -> Verdict {
    privileged(facts, "setuid")
}

pub(crate) fn capable_program(facts: &Facts) -> Verdict {
    privileged(facts, "capable")
}

/// A program with a bit that gives its owner's rights, which is the caller's outside.
pub(crate) fn leave_setuid(facts: &Facts) -> Verdict {
    let path = format!("{}/left", facts.text("writable"));
    let left = fs::write(&path, b"#!/bin/sh\n");
    let set = fs::set_permissions(&path, fs::Permissions::from_mode(0o4755));
    worked("a setuid program in a writable bind", left.and(set))
}

/// The same with the mode that a file is made with, and with content afterwards.
pub(crate) fn create_setuid(facts: &Facts) -> Verdict {
    let path = format!("{}/made", facts.text("writable"));
    let options =
        || File::options().create(true).truncate(true).write(true).mode(0o4755).open(&path);
    let has_bit = || fs::metadata(&path).is_ok_and(|found| found.mode() & 0o4000 != 0);
    let written = options().and_then(|mut file| file.write_all(b"#!/bin/sh\n"));
    match written {
        Ok(()) if has_bit() => Open("a setuid program with content".to_owned()),
        Ok(()) => Held("the bit is gone as soon as there is content".to_owned()),
        Err(error) => Held(format!("a new file: {error}")),
    }
}

/// What the next sandbox, or whoever else follows the link, makes of it is seen outside.
pub(crate) fn swap_target(facts: &Facts) -> Verdict {
    let link = Path::new(facts.text("writable")).join("link");
    let outside = Path::new(facts.text("secret")).with_file_name("readonly");
    match symlink(outside, link) {
        Ok(()) => Held("planted; whether it is followed is seen outside".to_owned()),
        Err(error) => Held(format!("symlink: {error}")),
    }
}

pub(crate) fn replace_program(facts: &Facts) -> Verdict {
    let path = format!("{}/program", facts.text("place"));
    let mode = fs::Permissions::from_mode(0o555);
    worked("the mode of a file of the tree", fs::set_permissions(path, mode))
}
