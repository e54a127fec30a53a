//! Mounts: the old call where a file system has options as text, the new ones for all else.

use super::{Fd, Outcome, ask, code};
use crate::abi::*;
use crate::raw::nr;
use crate::wire::{Call, Text};

plain! {
    fsmount(context: i32, flags: u32, attributes: u32) = FSMOUNT, Fsmount;
}

/// mount(2); a `None` is a null pointer.
#[inline(never)]
pub(crate) fn mount(
    call: Call,
    target: Text<'_>,
    kind: Option<Text<'_>>,
    flags: u32,
    options: Option<Text<'_>>,
) -> Outcome {
    let pointer = |text: Option<Text<'_>>| text.map_or(core::ptr::null(), Text::as_ptr);
    let source = pointer(kind);
    with_pointers!(call, MOUNT, source, target.as_ptr(), pointer(kind), flags, pointer(options))
        .map(drop)
}

/// statx(2): the number of the mount that a path leads to (Linux 5.8).
pub(crate) fn mount_number(path: Text<'_>) -> Outcome<u64> {
    let mut found = [0u64; 32];
    let flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT;
    let result = found.as_mut_ptr();
    with_pointers!(Call::Remount, STATX, AT_FDCWD, path.as_ptr(), flags, STATX_MNT_ID, result)?;
    // struct statx: stx_mnt_id is at byte 144.
    Ok(found[18])
}

/// open_tree(2).
#[inline(never)]
pub(crate) fn open_tree(directory: i32, path: Text<'_>, flags: u32) -> Outcome<Fd> {
    with_pointers!(Call::OpenTree, OPEN_TREE, directory, path.as_ptr(), flags | O_CLOEXEC)
        .map(|fd| Fd(fd as i32))
}

/// move_mount(2): attaches a detached tree at a name in a directory; the name may be no link.
pub(crate) fn move_mount(from: i32, directory: i32, name: Text<'_>) -> Outcome {
    let (empty, flags) = (c"".as_ptr(), MOVE_MOUNT_F_EMPTY_PATH);
    with_pointers!(Call::MoveMount, MOVE_MOUNT, from, empty, directory, name.as_ptr(), flags)
        .map(drop)
}

/// move_mount(2) onto what a descriptor stands for.
pub(crate) fn move_mount_onto(from: i32, to: i32) -> Outcome {
    let (empty, flags) = (c"".as_ptr(), MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH);
    with_pointers!(Call::MoveMount, MOVE_MOUNT, from, empty, to, empty, flags).map(drop)
}

/// move_mount(2) onto the root directory.
pub(crate) fn move_mount_to_root(from: i32) -> Outcome {
    let (empty, root) = (c"".as_ptr(), c"/".as_ptr());
    with_pointers!(
        Call::MoveMount,
        MOVE_MOUNT,
        from,
        empty,
        AT_FDCWD,
        root,
        MOVE_MOUNT_F_EMPTY_PATH
    )
    .map(drop)
}

/// mount_setattr(2): sets attributes on a tree, or on one mount.
pub(crate) fn mount_setattr(fd: i32, attributes: u32, recursive: bool) -> Outcome {
    let how = [u64::from(attributes), 0, 0, 0];
    let flags = AT_EMPTY_PATH | if recursive { AT_RECURSIVE } else { 0 };
    with_pointers!(
        Call::MountSetattr,
        MOUNT_SETATTR,
        fd,
        c"".as_ptr(),
        flags,
        how.as_ptr(),
        size_of_val(&how)
    )
    .map(drop)
}

/// fsopen(2).
pub(crate) fn fsopen(kind: Text<'_>) -> Outcome<Fd> {
    with_pointers!(Call::Fsopen, FSOPEN, kind.as_ptr(), 1).map(|fd| Fd(fd as i32))
}

/// fsconfig(2): `FSCONFIG_SET_STRING`.
pub(crate) fn fsconfig_string(context: i32, key: Text<'_>, value: Text<'_>) -> Outcome {
    with_pointers!(Call::Fsconfig, FSCONFIG, context, 1, key.as_ptr(), value.as_ptr(), 0).map(drop)
}

/// fsconfig(2): `FSCONFIG_CMD_CREATE`.
pub(crate) fn fsconfig_create(context: i32) -> Outcome {
    with_pointers!(Call::Fsconfig, FSCONFIG, context, 6, 0, 0, 0).map(drop)
}

/// umount2(2) of the topmost mount there.
pub(crate) fn detach(place: Text<'_>) -> Outcome {
    with_pointers!(Call::Umount, UMOUNT2, place.as_ptr(), MNT_DETACH).map(drop)
}

/// chroot(2) to the current directory.
pub(crate) fn chroot_here() -> Outcome {
    with_pointers!(Call::Pivot, CHROOT, c".".as_ptr()).map(drop)
}

/// pivot_root(".", "."): the old root ends up on top of the new one.
pub(crate) fn pivot_here() -> Outcome {
    with_pointers!(Call::Pivot, PIVOT_ROOT, c".".as_ptr(), c".".as_ptr()).map(drop)
}
