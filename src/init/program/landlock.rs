//! The second wall: what the mounts make read-only, and the outside's sockets and processes, are out
//! of reach by the program's own credentials too.

use super::{Failure, Wanted};
use crate::abi::*;
use crate::sys::{self, Fd, Outcome, fault};
use crate::wire::{Call, Fault, LANDLOCK_OF_FILES, QUEUES, Reader, Text};

/// The rules, and a mount that is still open: closing it waits for the other processors, and can wait
/// until the program goes.
pub(super) type Rules = (Option<Fd>, Option<Fd>);

/// A ruleset with all its rules; none if nothing is asked for. Made when the tree is there, before the
/// capabilities are given up: only who has them can make a mount.
pub(super) fn ruleset(wanted: &Wanted<'_>) -> Result<Rules, Failure> {
    if !is_asked_for(wanted) {
        return Ok((None, None));
    }
    let mut mount = None;
    let ruleset = sys::landlock_ruleset(wanted.ruleset.bytes())?;
    add(&ruleset, wanted)?;
    if wanted.flags & QUEUES != 0 {
        // The kernel opens a queue on a mount of its own, with the same root as this one.
        let context = sys::fsopen(Text::new(b"mqueue\0"))?;
        sys::fsconfig_create(context.0)?;
        let queues = Fd(sys::fsmount(context.0, 1, 0)? as i32);
        let access = Reader::new(wanted.ruleset.bytes()).next().unwrap_or(0);
        sys::landlock_beneath(ruleset.0, queues.0, access)?;
        mount = Some(queues);
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
    Ok((Some(ruleset), mount))
}

/// Adds the rules that name no place.
pub(super) fn add(ruleset: &Fd, wanted: &Wanted<'_>) -> Outcome {
    let mut rules = wanted.rules.bytes();
    while let Some((rule, rest)) = rules.split_first_chunk() {
        rules = rest;
        match sys::landlock_rule(ruleset.0, rule) {
            // In no tree, as what is in memory only: nothing is refused there.
            Err(Fault { errno, .. }) if errno.0 == EBADFD => {}
            other => other?,
        }
    }
    Ok(())
}

fn is_asked_for(wanted: &Wanted<'_>) -> bool {
    wanted.ruleset.bytes().iter().any(|&byte| byte != 0)
}

/// Binds this process, and all that come of it, to the rules: last before the exec.
pub(super) fn restrict(wanted: &Wanted<'_>, ruleset: Option<Fd>) -> Outcome {
    match ruleset {
        Some(ruleset) => sys::landlock_restrict(ruleset.0, wanted.ruleset_flags).map(drop),
        // The kernel drops what there is no room for.
        None if is_asked_for(wanted) => fault(Call::Receive, EMFILE),
        None => Ok(()),
    }
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
