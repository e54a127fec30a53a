//! Which calls a journal is asked about, and where in their arguments they name files.

use std::sync::LazyLock;

use crate::seccomp::calls;

/// What a call does with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// As its flags say, which are this argument.
    Open(usize),
    /// As `struct open_how` says, to which this argument points.
    OpenHow(usize),
    /// Looks at it, or asks whether it is there.
    Look,
    /// Asks whether it may be used so; the mode is this argument.
    Access(usize),
    /// Where a link leads.
    ReadLink,
    Execute,
    Enter,
    /// Changes what the file system says of it.
    Change,
    /// Makes a new name.
    Create,
    Remove,
    /// Gives it another name besides.
    LinkFrom,
    /// Gives it another name.
    Move,
    /// Makes this the name of something else.
    Replace,
}

/// Where flags say that a link is not followed, or that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Links {
    Followed,
    NotFollowed,
    /// `AT_SYMLINK_NOFOLLOW` in this argument.
    NotWith(usize),
    /// `AT_SYMLINK_FOLLOW` in this argument.
    OnlyWith(usize),
}

/// A file that a call names: the arguments of its directory and of its path.
#[derive(Debug, Clone, Copy)]
pub(super) struct Named {
    pub(super) act: Act,
    pub(super) directory: Option<usize>,
    pub(super) path: usize,
    pub(super) links: Links,
}

/// What else is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Other {
    /// The argument of an address, and of its length.
    Address(usize, usize),
    /// The same, for a name of one's own.
    OwnAddress(usize, usize),
    /// The arguments of users.
    Users(&'static [usize]),
    /// Of groups.
    Groups(&'static [usize]),
    /// Of a file's new owner.
    Owner(usize, usize),
    SetGroups,
}

#[derive(Debug)]
pub(super) struct Call {
    pub(super) number: u32,
    pub(super) name: &'static str,
    pub(super) files: &'static [Named],
    pub(super) other: Option<Other>,
}

const fn at(act: Act, directory: usize, path: usize, links: Links) -> Named {
    Named { act, directory: Some(directory), path, links }
}

const fn plain(act: Act, path: usize, links: Links) -> Named {
    Named { act, directory: None, path, links }
}

use Act::{
    Access, Change, Create, Enter, Execute, LinkFrom, Look, Move, Open, OpenHow, ReadLink, Remove,
    Replace,
};
use Links::{Followed, NotFollowed, NotWith, OnlyWith};

type Row = (&'static str, &'static [Named], Option<Other>);

const ROWS: &[Row] = &[
    ("open", &[plain(Open(1), 0, Followed)], None),
    ("openat", &[at(Open(2), 0, 1, Followed)], None),
    ("openat2", &[at(OpenHow(2), 0, 1, Followed)], None),
    ("creat", &[plain(Open(6), 0, Followed)], None),
    ("stat", &[plain(Look, 0, Followed)], None),
    ("lstat", &[plain(Look, 0, NotFollowed)], None),
    ("newfstatat", &[at(Look, 0, 1, NotWith(3))], None),
    ("statx", &[at(Look, 0, 1, NotWith(2))], None),
    ("statfs", &[plain(Look, 0, Followed)], None),
    ("access", &[plain(Access(1), 0, Followed)], None),
    ("faccessat", &[at(Access(2), 0, 1, Followed)], None),
    ("faccessat2", &[at(Access(2), 0, 1, NotWith(3))], None),
    ("readlink", &[plain(ReadLink, 0, NotFollowed)], None),
    ("readlinkat", &[at(ReadLink, 0, 1, NotFollowed)], None),
    ("execve", &[plain(Execute, 0, Followed)], None),
    ("execveat", &[at(Execute, 0, 1, NotWith(4))], None),
    ("chdir", &[plain(Enter, 0, Followed)], None),
    ("getxattr", &[plain(Look, 0, Followed)], None),
    ("lgetxattr", &[plain(Look, 0, NotFollowed)], None),
    ("listxattr", &[plain(Look, 0, Followed)], None),
    ("llistxattr", &[plain(Look, 0, NotFollowed)], None),
    ("inotify_add_watch", &[plain(Look, 1, Followed)], None),
    ("mkdir", &[plain(Create, 0, NotFollowed)], None),
    ("mkdirat", &[at(Create, 0, 1, NotFollowed)], None),
    ("mknod", &[plain(Create, 0, NotFollowed)], None),
    ("mknodat", &[at(Create, 0, 1, NotFollowed)], None),
    ("symlink", &[plain(Create, 1, NotFollowed)], None),
    ("symlinkat", &[at(Create, 1, 2, NotFollowed)], None),
    ("link", &[plain(LinkFrom, 0, NotFollowed), plain(Create, 1, NotFollowed)], None),
    ("linkat", &[at(LinkFrom, 0, 1, OnlyWith(4)), at(Create, 2, 3, NotFollowed)], None),
    ("unlink", &[plain(Remove, 0, NotFollowed)], None),
    ("unlinkat", &[at(Remove, 0, 1, NotFollowed)], None),
    ("rmdir", &[plain(Remove, 0, NotFollowed)], None),
    ("rename", &[plain(Move, 0, NotFollowed), plain(Replace, 1, NotFollowed)], None),
    ("renameat", &[at(Move, 0, 1, NotFollowed), at(Replace, 2, 3, NotFollowed)], None),
    ("renameat2", &[at(Move, 0, 1, NotFollowed), at(Replace, 2, 3, NotFollowed)], None),
    ("truncate", &[plain(Change, 0, Followed)], None),
    ("chmod", &[plain(Change, 0, Followed)], None),
    ("fchmodat", &[at(Change, 0, 1, Followed)], None),
    ("fchmodat2", &[at(Change, 0, 1, NotWith(3))], None),
    ("utime", &[plain(Change, 0, Followed)], None),
    ("utimes", &[plain(Change, 0, Followed)], None),
    ("futimesat", &[at(Change, 0, 1, Followed)], None),
    ("utimensat", &[at(Change, 0, 1, NotWith(3))], None),
    ("setxattr", &[plain(Change, 0, Followed)], None),
    ("lsetxattr", &[plain(Change, 0, NotFollowed)], None),
    ("removexattr", &[plain(Change, 0, Followed)], None),
    ("lremovexattr", &[plain(Change, 0, NotFollowed)], None),
    ("chown", &[plain(Change, 0, Followed)], Some(Other::Owner(1, 2))),
    ("lchown", &[plain(Change, 0, NotFollowed)], Some(Other::Owner(1, 2))),
    ("fchownat", &[at(Change, 0, 1, NotWith(4))], Some(Other::Owner(2, 3))),
    ("fchown", &[], Some(Other::Owner(1, 2))),
    ("setuid", &[], Some(Other::Users(&[0]))),
    ("setreuid", &[], Some(Other::Users(&[0, 1]))),
    ("setresuid", &[], Some(Other::Users(&[0, 1, 2]))),
    ("setgid", &[], Some(Other::Groups(&[0]))),
    ("setregid", &[], Some(Other::Groups(&[0, 1]))),
    ("setresgid", &[], Some(Other::Groups(&[0, 1, 2]))),
    ("setgroups", &[], Some(Other::SetGroups)),
    ("connect", &[], Some(Other::Address(1, 2))),
    ("sendto", &[], Some(Other::Address(4, 5))),
    ("bind", &[], Some(Other::OwnAddress(1, 2))),
];

/// Those of them that this machine has.
static CALLS: LazyLock<Vec<Call>> = LazyLock::new(|| {
    let known = |&(name, files, other): &Row| {
        let number = calls::number(name).ok().flatten()?;
        Some(Call { number, name, files, other })
    };
    ROWS.iter().filter_map(known).collect()
});

/// What is known of a call that is watched.
pub(super) fn watched(number: u32) -> Option<&'static Call> {
    CALLS.iter().find(|call| call.number == number)
}

/// Any of them.
#[cfg(fuzzing)]
pub(super) fn any(which: usize) -> &'static Call {
    &CALLS[which % CALLS.len()]
}

/// The argument without which there is nothing to look at in a call.
pub(super) fn needed(number: u32) -> Option<u8> {
    match watched(number)?.other {
        Some(Other::Address(at, _)) => u8::try_from(at).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_one() {
        for (name, ..) in ROWS {
            assert!(calls::number(name).is_ok(), "{name}");
        }
        assert!(watched(u32::try_from(libc::SYS_openat).unwrap()).is_some());
    }
}
