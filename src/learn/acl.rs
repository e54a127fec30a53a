//! Access control lists of files; [acl(5)](https://man7.org/linux/man-pages/man5/acl.5.html).

use std::ffi::OsStr;
use std::os::fd::BorrowedFd;

use super::memory::Rights;
use crate::sys;

/// The only version of the attribute.
const VERSION: u32 = 2;
// What an entry is about: a user, the file's group, a group, what all of these get at most, all others.
const USER: u16 = 0x02;
const GROUP_OF_FILE: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHERS: u16 = 0x20;

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    kind: u16,
    permissions: u32,
    id: u32,
}

/// The list of a file that has one besides its mode.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Acl(Vec<Entry>);

impl Acl {
    pub(super) fn of(fd: BorrowedFd<'_>) -> Option<Self> {
        let name = OsStr::new("system.posix_acl_access");
        // Where it cannot be read, the mode is all that is known.
        Self::parse(&sys::attribute(fd, name).ok()??)
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (version, mut rest) = bytes.split_first_chunk::<4>()?;
        if u32::from_le_bytes(*version) != VERSION {
            return None;
        }
        let mut entries = Vec::new();
        while let Some(([k0, k1, p0, p1, i0, i1, i2, i3], after)) = rest.split_first_chunk::<8>() {
            entries.push(Entry {
                kind: u16::from_le_bytes([*k0, *k1]),
                permissions: u16::from_le_bytes([*p0, *p1]).into(),
                id: u32::from_le_bytes([*i0, *i1, *i2, *i3]),
            });
            rest = after;
        }
        Some(Acl(entries))
    }

    /// What somebody gets who is not the owner: of several groups that of one that is enough.
    pub(super) fn allowed(&self, rights: &Rights, group: u32, wanted: u32) -> u32 {
        let of = |kind| self.0.iter().filter(move |entry| entry.kind == kind);
        let mask = of(MASK).next().map_or(7, |entry| entry.permissions);
        if let Some(user) = of(USER).find(|entry| entry.id == rights.uid) {
            return user.permissions & mask;
        }
        let file = of(GROUP_OF_FILE).filter(|_| rights.groups.contains(&group));
        let named = of(GROUP).filter(|entry| rights.groups.contains(&entry.id));
        let groups: Vec<_> = file.chain(named).map(|entry| entry.permissions & mask).collect();
        let enough = groups.iter().find(|&&allowed| allowed & wanted == wanted);
        match enough.or(groups.first()) {
            Some(&allowed) => allowed,
            None => of(OTHERS).next().map_or(0, |entry| entry.permissions),
        }
    }
}

/// Any bytes as a list.
#[cfg(fuzzing)]
pub(super) fn fuzz(bytes: &[u8]) {
    let rights = Rights { uid: 1, groups: vec![1, 2], effective: 0 };
    if let Some(list) = Acl::parse(bytes) {
        assert!(list.allowed(&rights, 2, 7) <= u32::from(u16::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: u16, permissions: u32, id: u32) -> Entry {
        Entry { kind, permissions, id }
    }

    #[test]
    fn who_gets_what() {
        let list = Acl(vec![
            entry(0x01, 7, u32::MAX),
            entry(USER, 6, 1),
            entry(USER, 0, 2),
            entry(GROUP_OF_FILE, 1, u32::MAX),
            entry(GROUP, 4, 20),
            entry(MASK, 5, u32::MAX),
            entry(OTHERS, 2, u32::MAX),
        ]);
        let allowed = |uid, groups: &[u32], wanted| {
            let rights = Rights { uid, groups: groups.to_vec(), effective: 0 };
            list.allowed(&rights, 10, wanted)
        };
        assert_eq!(allowed(1, &[], 4), 4);
        assert_eq!(allowed(2, &[10, 20], 4), 0);
        assert_eq!(allowed(3, &[10], 4), 1);
        assert_eq!(allowed(3, &[10, 20], 4), 4);
        assert_eq!(allowed(3, &[30], 2), 2);
    }

    #[test]
    fn attributes_are_read() {
        let bytes = [2, 0, 0, 0, 2, 0, 6, 0, 1, 0, 0, 0, 9];
        assert_eq!(Acl::parse(&bytes), Some(Acl(vec![entry(USER, 6, 1)])));
        assert_eq!(Acl::parse(&[3, 0, 0, 0]), None);
        assert_eq!(Acl::parse(&[]), None);
    }
}
