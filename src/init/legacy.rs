//! Mount attributes on kernels without mount_setattr(2), before Linux 5.12.
//!
//! A remount covers one mount only, so every mount of the finished tree is remounted with what it
//! has already (flags may be locked, and leaving one out is EPERM) plus what was asked for.

use crate::abi::*;
use crate::sys::{self, Outcome, fault};
use crate::text;
use crate::wire::{Call, Fault, Text};

/// Room for what is remembered, and for the kernel's mount table.
const ROOM: usize = 4 << 20;

/// What was attached where, in order, until it can be remounted.
#[derive(Debug)]
pub(crate) struct Legacy {
    /// Records of attributes (u32), length (u32) and place.
    records: &'static mut [u8],
    used: usize,
}

impl Legacy {
    pub(crate) fn new() -> Outcome<Self> {
        Ok(Legacy { records: sys::map(ROOM)?, used: 0 })
    }

    /// Notes that the mount at `place`, and what came along below it, wants these attributes.
    pub(crate) fn remember(&mut self, place: &[u8], attributes: u32) -> Outcome {
        let end = self.used + 8 + place.len();
        let Some(record) = self.records.get_mut(self.used..end) else {
            return fault(Call::Memory, ENOMEM);
        };
        record[..4].copy_from_slice(&attributes.to_ne_bytes());
        record[4..8].copy_from_slice(&(place.len() as u32).to_ne_bytes());
        record[8..].copy_from_slice(place);
        self.used = end;
        Ok(())
    }

    /// Remounts all mounts of the new root; `root` is for the root mount alone.
    pub(crate) fn apply(self, proc_fd: i32, root: u32) -> Outcome {
        let table = read_table(proc_fd)?;
        for line in table.split(|&byte| byte == b'\n') {
            let mut fields = line.split(|&byte| byte == b' ');
            let number = fields.next().and_then(text::number);
            let (Some(place), Some(options)) = (fields.nth(3), fields.next()) else {
                continue;
            };
            let mut path = [0; 4096];
            let place = unescape(place, &mut path);
            let mut wanted = self.wanted(place.bytes());
            if place.bytes() == b"/" {
                wanted |= root;
            }
            if wanted != 0 && is_reached(place, number)? {
                let flags = MS_REMOUNT | MS_BIND | flags_of(options) | wanted;
                sys::mount(Call::Remount, place, None, flags, None)?;
            }
        }
        sys::unmap(table);
        sys::unmap(self.records);
        Ok(())
    }

    /// The attributes of the longest remembered place at or above `path`, the latest of equals.
    fn wanted(&self, path: &[u8]) -> u32 {
        let (mut best, mut found) = (0, 0);
        let mut rest = self.records.get(..self.used).unwrap_or(&[]);
        while let Some((head, tail)) = rest.split_at_checked(8) {
            let number = |at: usize| {
                let bytes = [head[at], head[at + 1], head[at + 2], head[at + 3]];
                u32::from_ne_bytes(bytes)
            };
            let Some((place, tail)) = tail.split_at_checked(number(4) as usize) else {
                break;
            };
            if is_below(path, place) && place.len() >= best {
                (best, found) = (place.len(), number(0));
            }
            rest = tail;
        }
        found
    }
}

/// Whether a place leads to this mount: one that is covered is out of reach, for the remount as for
/// the program.
fn is_reached(place: Text<'_>, number: Option<i32>) -> Outcome<bool> {
    match sys::mount_number(place) {
        Ok(found) => Ok(number.is_some_and(|number| found == number as u64)),
        Err(Fault { errno, .. }) if errno.0 == ENOENT => Ok(false),
        Err(other) => Err(other),
    }
}

fn is_below(path: &[u8], place: &[u8]) -> bool {
    let below =
        path.strip_prefix(place).is_some_and(|rest| matches!(rest.first(), None | Some(b'/')));
    // A record of the root speaks for the submounts that came with it.
    below || place == b"/"
}

/// All of /proc/self/mountinfo.
fn read_table(proc_fd: i32) -> Outcome<&'static mut [u8]> {
    let file = sys::open(proc_fd, Text::new(b"self/mountinfo\0"), O_RDONLY, 0)?;
    let table = sys::map(ROOM)?;
    let mut length = 0;
    loop {
        let Some(room) = table.get_mut(length..).filter(|room| !room.is_empty()) else {
            return fault(Call::Memory, ENOMEM);
        };
        match sys::read(file.0, room)? {
            0 => return Ok(table),
            count => length += count,
        }
    }
}

/// The mount flags that a mountinfo option field stands for.
fn flags_of(options: &[u8]) -> u32 {
    let mut flags = 0;
    for option in options.split(|&byte| byte == b',') {
        flags |= match option {
            b"ro" => MS_RDONLY,
            b"nosuid" => MS_NOSUID,
            b"nodev" => MS_NODEV,
            b"noexec" => MS_NOEXEC,
            b"noatime" => MS_NOATIME,
            b"nodiratime" => MS_NODIRATIME,
            b"relatime" => MS_RELATIME,
            b"nosymfollow" => MS_NOSYMFOLLOW,
            _ => 0,
        };
    }
    // No word about atime means strictatime, and a remount would choose relatime by itself.
    if flags & (MS_NOATIME | MS_RELATIME) == 0 { flags | MS_STRICTATIME } else { flags }
}

/// A path of mountinfo, where some bytes are written as `\ooo`.
fn unescape<'a>(field: &[u8], path: &'a mut [u8; 4096]) -> Text<'a> {
    let (mut from, mut to) = (0, 0);
    while let (Some(&byte), true) = (field.get(from), to + 1 < path.len()) {
        let digits = field.get(from + 1..from + 4).filter(|_| byte == b'\\');
        path[to] = match digits {
            Some(digits) => digits
                .iter()
                .fold(0u8, |sum, digit| sum.wrapping_mul(8).wrapping_add(digit.wrapping_sub(b'0'))),
            None => byte,
        };
        from += if digits.is_some() { 4 } else { 1 };
        to += 1;
    }
    path[to] = 0;
    Text::new(&path[..=to])
}
