//! What one program needs of the host's tree, at its own paths.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::bytes;
use crate::abi::*;
use crate::error::Result;
use crate::lower::Lower;
use crate::program::{Piece, closure};
use crate::wire::{BIND_RECURSIVE, Op};

/// Shows what a program needs and is not there yet.
pub(super) fn lower(program: &Path, search: &OsStr, plan: &mut Lower) -> Result<()> {
    for (path, piece) in closure(program, search)? {
        if path.parent().is_none() || is_shown(plan, &path, &piece) {
            continue;
        }
        match piece {
            Piece::Link(target) => plan.symlink(&path, &target),
            Piece::Directory => plan.directory(&path, 0o755),
            Piece::File => {
                let op = Op::Bind {
                    from: bytes(&path),
                    fd: plan.tree(&path, true),
                    to: bytes(&path),
                    flags: BIND_RECURSIVE,
                    attributes: MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV,
                };
                plan.step(op, "a program that was asked for needs it");
            }
        }
    }
    Ok(())
}

/// Whether it is there already, and as on the host: what was put over it last says so.
fn is_shown(plan: &Lower, path: &Path, piece: &Piece) -> bool {
    let at = |place: &[u8]| Path::new(OsStr::from_bytes(place)).to_owned();
    let is_directory = *piece == Piece::Directory;
    for op in plan.operations().rev() {
        match op {
            Op::Bind { from, to, .. } if path.starts_with(at(to)) => return from == to,
            Op::Mount { to, .. } if path.starts_with(at(to)) => {
                return is_directory && at(to) == path;
            }
            Op::Symlink { path: link, target } if at(link) == path => {
                return *piece == Piece::Link(at(target));
            }
            Op::Directory { path: directory, .. } if at(directory) == path => return is_directory,
            _ => {}
        }
    }
    false
}
