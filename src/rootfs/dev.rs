//! A minimal /dev.

use std::path::Path;

use super::bytes;
use crate::abi::*;
use crate::lower::Lower;
use crate::wire::Op;

/// The nodes that programs take for granted; none of them stands for hardware.
const NODES: &[&str] =
    &["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];

const LINKS: &[(&str, &str)] = &[
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
    ("/dev/ptmx", "pts/ptmx"),
];

pub(crate) fn lower(plan: &mut Lower) {
    for path in NODES.iter().map(Path::new) {
        let op = Op::Bind {
            from: bytes(path),
            fd: -1,
            to: bytes(path),
            flags: 0,
            attributes: MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC,
        };
        plan.step(op, "nodes cannot be made in a user namespace");
    }
    // Without a limit of its own it could take all that the host has for everybody but itself.
    let options = "newinstance,ptmxmode=0666,mode=0620,max=256";
    plan.mount("devpts", Path::new("/dev/pts"), MS_NOSUID | MS_NOEXEC, options);
    for (path, target) in LINKS {
        plan.symlink(Path::new(path), Path::new(target));
    }
}
