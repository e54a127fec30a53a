//! The second wall: what the mounts make read-only, and the outside's sockets and processes, are out
//! of reach by the program's own credentials too.

use super::descriptors::descriptors;
use super::{Failure, Wanted};
use crate::abi::*;
use crate::sys::{self, Outcome};
use crate::wire::{Fault, LANDLOCK_OF_FILES, LANDLOCK_READ, Reader};

/// Binds this process, and all that come of it, to the rules. Last before the exec: opening a place
/// needs the file tree, and a limit of open files is not in force yet.
pub(super) fn restrict(wanted: &Wanted<'_>) -> Result<(), Failure> {
    let handled = wanted.ruleset.bytes();
    if handled.iter().all(|&byte| byte == 0) {
        return Ok(());
    }
    let ruleset = sys::landlock_ruleset(handled)?;
    let files = Reader::new(handled).next().unwrap_or(u64::MAX);
    let mut places = Reader::new(wanted.places.bytes());
    let mut at = 0;
    while let (Some(access), Some(path)) = (places.next(), places.next()) {
        match sys::open(AT_FDCWD, path, O_PATH, 0) {
            Ok(place) => beneath(ruleset.0, place.0, access, access),
            // The program does not find it either.
            Err(Fault { errno, .. }) if matches!(errno.0, ENOENT | ENOTDIR | EACCES) => Ok(()),
            Err(other) => Err(other),
        }
        .map_err(|fault| Failure::number(fault, at))?;
        at += 1;
    }
    if files != 0 {
        for (_, fd) in descriptors(wanted) {
            given(ruleset.0, fd, files).map_err(|fault| Failure::number(fault, usize::MAX))?;
        }
    }
    let mut ports = Reader::new(wanted.ports.bytes());
    while let (Some(access), Some(port)) = (ports.next::<u64>(), ports.next::<u64>()) {
        sys::landlock_port(ruleset.0, [access, port])
            .map_err(|fault| Failure::number(fault, at))?;
        at += 1;
    }
    sys::landlock_restrict(ruleset.0, wanted.ruleset_flags)?;
    Ok(())
}

/// A descriptor that was given to the program is to be of use by its name in /proc/self/fd as well,
/// but a file that was opened for reading is not to be written.
fn given(ruleset: i32, fd: i32, files: u64) -> Outcome {
    let flags = sys::fcntl(fd, F_GETFL, 0)?;
    let may_write = flags & O_PATH == 0 && flags & (O_WRONLY | O_RDWR) != 0;
    beneath(ruleset, fd, files, if may_write { files } else { files & LANDLOCK_READ })
}

/// Allows `access` beneath a directory, or `to_file` to a file.
fn beneath(ruleset: i32, fd: i32, access: u64, to_file: u64) -> Outcome {
    let mut added = sys::landlock_beneath(ruleset, fd, access);
    if refused(&added) == EINVAL {
        // What there is to do in directories cannot be allowed for a file.
        let to_file = to_file & LANDLOCK_OF_FILES;
        added = if to_file == 0 { Ok(()) } else { sys::landlock_beneath(ruleset, fd, to_file) };
    }
    // Pipes, sockets and the like are in no tree: nothing is refused there.
    if refused(&added) == EBADFD { Ok(()) } else { added }
}

fn refused(result: &Outcome) -> i32 {
    result.as_ref().map_or_else(|fault| fault.errno.0, |()| 0)
}
