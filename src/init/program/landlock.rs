//! The second wall: what the mounts make read-only, and the outside's sockets and processes, are out
//! of reach by the program's own credentials too.

use super::{Failure, Wanted};
use crate::abi::*;
use crate::sys::{self, Fd, Outcome};
use crate::wire::{Fault, LANDLOCK_OF_FILES, QUEUES, Reader, Text};

/// A ruleset with the rules that need no file tree; none if nothing is asked for. Made before the
/// capabilities are given up: only who has them can make a mount.
pub(super) fn begin(wanted: &Wanted<'_>) -> Outcome<Fd> {
    if wanted.ruleset.bytes().iter().all(|&byte| byte == 0) {
        return Ok(Fd(-1));
    }
    let ruleset = sys::landlock_ruleset(wanted.ruleset.bytes())?;
    let mut rules = wanted.rules.bytes();
    while let Some((rule, rest)) = rules.split_first_chunk() {
        rules = rest;
        match sys::landlock_rule(ruleset.0, rule) {
            // In no tree, as what is in memory only: nothing is refused there.
            Err(Fault { errno, .. }) if errno.0 == EBADFD => {}
            other => other?,
        }
    }
    if wanted.flags & QUEUES != 0 {
        // The kernel opens a queue on a mount of its own, with the same root as this one.
        let context = sys::fsopen(Text::new(b"mqueue\0"))?;
        sys::fsconfig_create(context.0)?;
        let queues = Fd(sys::fsmount(context.0, 1, 0)? as i32);
        let access = Reader::new(wanted.ruleset.bytes()).next().unwrap_or(0);
        sys::landlock_beneath(ruleset.0, queues.0, access)?;
    }
    Ok(ruleset)
}

/// Adds the others, and binds this process, and all that come of it, to them: last before the exec,
/// when the tree is there.
pub(super) fn restrict(wanted: &Wanted<'_>, ruleset: &Fd) -> Result<(), Failure> {
    if ruleset.0 < 0 {
        return Ok(());
    }
    let mut places = Reader::new(wanted.places.bytes());
    // Those before have none.
    let mut at = 1;
    while let (Some(access), Some(path)) = (places.next(), places.next()) {
        match sys::open(AT_FDCWD, path, O_PATH, 0) {
            Ok(place) => beneath(ruleset.0, place.0, access),
            // The program does not find it either.
            Err(Fault { errno, .. }) if matches!(errno.0, ENOENT | ENOTDIR | EACCES) => Ok(()),
            Err(other) => Err(other),
        }
        .map_err(|fault| Failure::number(fault, at))?;
        at += 1;
    }
    sys::landlock_restrict(ruleset.0, wanted.ruleset_flags)?;
    Ok(())
}

/// Allows `access` beneath a directory, or what there is to do with a file.
fn beneath(ruleset: i32, fd: i32, access: u64) -> Outcome {
    match sys::landlock_beneath(ruleset, fd, access) {
        Err(Fault { errno, .. }) if errno.0 == EINVAL => {
            sys::landlock_beneath(ruleset, fd, access & LANDLOCK_OF_FILES)
        }
        other => other,
    }
}
