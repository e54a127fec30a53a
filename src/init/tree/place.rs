//! Where in a tree something is attached or made.

use super::Tree;
use crate::abi::*;
use crate::sys::{self, Fd, Outcome, fault};
use crate::wire::{Call, Fault, Text, WATCHED_MAX};

/// How many file systems of its own a sandbox can have in which mount points are made.
pub(super) const OWN_MAX: usize = WATCHED_MAX;
/// `PATH_MAX`, the kernel's own limit.
pub(super) const PATH_MAX: usize = 4096;
/// `NAME_MAX`, likewise.
const NAME_MAX: usize = 255;

/// The kind of mount point that something is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File,
}

/// A mount point.
#[derive(Debug)]
pub(super) enum Place<'a> {
    /// Just made, by this name in this directory: so it is no link, and lies above nothing.
    Made(i32, Text<'a>),
    /// There already.
    Found(Fd),
}

/// The directory in which something was made last: the next is often made there too.
#[derive(Debug)]
pub(super) struct Above<'a> {
    path: &'a [u8],
    directory: Fd,
}

impl<'a> Tree<'a> {
    /// The place at `path`; a missing one is created where the file system is the sandbox's own.
    pub(super) fn target(&mut self, path: Text<'a>, kind: Kind) -> Outcome<Place<'a>> {
        let (parent, name) = match self.known_parent(path)? {
            Some(known) => known,
            None => match sys::open_inside(self.root.0, path, O_PATH) {
                Err(Fault { errno, .. }) if errno.0 == ENOENT => {
                    self.found_parent(path, Call::MountPoint)?
                }
                other => return self.found(other),
            },
        };
        let made = match kind {
            Kind::Directory => sys::mkdir(parent, name, 0o755),
            Kind::File => sys::make_file(parent, name, 0o644),
        };
        match made {
            Ok(()) => Ok(Place::Made(parent, name)),
            Err(Fault { errno, .. }) if errno.0 == EEXIST => {
                self.found(sys::open_inside(self.root.0, path, O_PATH))
            }
            Err(other) => Err(other),
        }
    }

    /// What is attached to a place that was there may lie above the remembered directory.
    fn found(&mut self, place: Outcome<Fd>) -> Outcome<Place<'a>> {
        self.above = None;
        place.map(Place::Found)
    }

    /// The directory of `path`, created if need be, and the last component.
    pub(super) fn in_parent(&mut self, path: Text<'a>, call: Call) -> Outcome<(i32, Text<'a>)> {
        match self.known_parent(path)? {
            Some(known) => Ok(known),
            None => self.found_parent(path, call),
        }
    }

    /// The same, if it is remembered or nothing of it is there yet: then no link and no mount can
    /// be in the way, and it need not be looked for.
    fn known_parent(&mut self, path: Text<'a>) -> Outcome<Option<(i32, Text<'a>)>> {
        let Some(above) = parent_of(path) else {
            return fault(Call::MountPoint, EINVAL);
        };
        if above.len() >= PATH_MAX {
            return fault(Call::MountPoint, ENAMETOOLONG);
        }
        let name = path.tail(above.len() + 1);
        if above.is_empty() && self.own_root {
            return Ok(Some((self.root.0, name)));
        }
        if let Some(known) = self.above.as_ref().filter(|known| known.path == above) {
            return Ok(Some((known.directory.0, name)));
        }
        let Some(directory) = self.make_parent(above)? else { return Ok(None) };
        Ok(Some((self.remember_above(above, directory), name)))
    }

    /// The same, looked for; in what is not the sandbox's own, `call` fails.
    fn found_parent(&mut self, path: Text<'a>, call: Call) -> Outcome<(i32, Text<'a>)> {
        let Some(above) = parent_of(path) else {
            return fault(Call::MountPoint, EINVAL);
        };
        let directory = match above {
            [] => sys::open_inside(self.root.0, Text::new(b"/\0"), O_PATH)?,
            _ => self.parent(above, call)?,
        };
        self.assert_own(directory.0, call)?;
        Ok((self.remember_above(above, directory), path.tail(above.len() + 1)))
    }

    fn remember_above(&mut self, path: &'a [u8], directory: Fd) -> i32 {
        let number = directory.0;
        self.above = Some(Above { path, directory });
        number
    }

    /// Makes the directory at `path` below the nearest one that is known, if nothing of it is there.
    fn make_parent(&self, path: &[u8]) -> Outcome<Option<Fd>> {
        let (at, known) = match &self.above {
            Some(above) if is_below(path, above.path) => (above.directory.0, above.path.len()),
            _ if self.own_root => (self.root.0, 0),
            _ => return Ok(None),
        };
        make_below(at, path.get(known + 1..).unwrap_or(&[]))
    }

    /// The directory at `path`; what is missing of it is created below the deepest part that is
    /// there.
    fn parent(&mut self, path: &[u8], call: Call) -> Outcome<Fd> {
        let mut buffer = [0; PATH_MAX];
        let Some(text) = buffer.get_mut(..path.len() + 1) else {
            return fault(Call::MountPoint, ENAMETOOLONG);
        };
        text[..path.len()].copy_from_slice(path);
        let mut end = path.len();
        let directory = loop {
            let above = if end == 0 { Text::new(b"/\0") } else { Text::new(&text[..=end]) };
            match sys::open_inside(self.root.0, above, O_PATH) {
                Err(Fault { errno, .. }) if errno.0 == ENOENT && end != 0 => {}
                other => break other?,
            }
            end = text[..end].iter().rposition(|&byte| byte == b'/').unwrap_or(0);
            text[end] = 0;
        };
        if end == path.len() {
            return Ok(directory);
        }
        self.assert_own(directory.0, call)?;
        match make_below(directory.0, path.get(end + 1..).unwrap_or(&[]))? {
            Some(made) => Ok(made),
            None => fault(Call::Mkdir, EEXIST),
        }
    }

    pub(super) fn assert_own(&self, fd: i32, call: Call) -> Outcome {
        let device = sys::stat(fd)?.device;
        let own = self.own.get(..self.own_count).unwrap_or(&[]);
        if own.contains(&device) { Ok(()) } else { fault(call, EROFS) }
    }

    pub(super) fn remember_own(&mut self, fd: i32, writable: bool) -> Outcome {
        if let Some(watched) = self.watched.as_mut().filter(|_| writable) {
            watched.add(fd)?;
        }
        let device = sys::stat(fd)?.device;
        let Some(slot) = self.own.get_mut(self.own_count) else {
            return fault(Call::Mount, E2BIG);
        };
        *slot = device;
        self.own_count += 1;
        Ok(())
    }
}

/// All of a path up to its last slash.
fn parent_of(path: Text<'_>) -> Option<&[u8]> {
    let bytes = path.bytes();
    bytes.iter().rposition(|&byte| byte == b'/').and_then(|slash| bytes.get(..slash))
}

/// Makes directories below each other; `None` if the first is there already.
fn make_below(mut at: i32, path: &[u8]) -> Outcome<Option<Fd>> {
    let mut made = None;
    for part in path.split(|&byte| byte == b'/') {
        let mut name = [0; NAME_MAX + 1];
        let Some(text) = name.get_mut(..part.len()).filter(|text| text.len() <= NAME_MAX) else {
            return fault(Call::MountPoint, ENAMETOOLONG);
        };
        text.copy_from_slice(part);
        match sys::mkdir(at, Text::new(&name), 0o755) {
            Err(Fault { errno, .. }) if errno.0 == EEXIST => return Ok(None),
            other => other?,
        }
        let directory = sys::open(at, Text::new(&name), O_PATH, 0)?;
        at = directory.0;
        made = Some(directory);
    }
    Ok(made)
}

/// Whether `path` lies below the directory `above`.
fn is_below(path: &[u8], above: &[u8]) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.starts_with(b"/"))
}
