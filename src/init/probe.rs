//! The probe of an audit: tells whatever a program can read where it is started.
//!
//! It judges nothing. What is of the host is found by the library, which does not give its secrets to a
//! program inside.

use crate::abi::*;
use crate::format::*;
use crate::raw::exit;
use crate::sys::{self, write_all};
use crate::text::own_descriptor;
use crate::wire::Text;

const S_IFLNK: u32 = 0o120_000;
const S_IFBLK: u32 = 0o060_000;
const O_DIRECTORY_AND_ALL: u32 = O_RDONLY | O_NONBLOCK;
/// The longest path that is looked at.
const PATH_MAX: usize = 4096;
/// Descriptors that are looked for.
const DESCRIPTORS: i32 = 4096;

/// Tells all to `report`, and ends.
pub(crate) fn run(report: i32) -> ! {
    let mut told =
        Told { report, buffer: [0; ROOM], used: 0, read: 0, entries: 0, cut: false, blind: false };
    calls(&mut told);
    descriptors(&mut told, report);
    let mut path = Path { bytes: [0; PATH_MAX], length: 1 };
    path.bytes[0] = b'/';
    entry(&mut told, &mut path, 0, 0);
    let end = match (told.blind, told.cut) {
        (true, _) => BLIND,
        (_, true) => CUT,
        _ => END,
    };
    told.record(end, &[]);
    told.flush();
    exit(0)
}

const ROOM: usize = RECORD_MAX + 16;

/// What goes out, and how much it was.
struct Told {
    report: i32,
    buffer: [u8; ROOM],
    used: usize,
    read: usize,
    entries: usize,
    cut: bool,
    blind: bool,
}

impl Told {
    #[inline(never)]
    fn record(&mut self, kind: u8, bytes: &[u8]) {
        if self.used + 5 + bytes.len() > ROOM {
            self.flush();
        }
        let length = (bytes.len() as u32).to_ne_bytes();
        for byte in [kind].iter().chain(&length).chain(bytes) {
            if let Some(to) = self.buffer.get_mut(self.used) {
                *to = *byte;
                self.used += 1;
            }
        }
    }

    fn about(&mut self, name: &[u8], bytes: &[u8]) {
        self.record(NAME, name);
        self.record(DATA, bytes);
    }

    fn flush(&mut self) {
        // Nobody listens any more.
        if write_all(self.report, self.buffer.get(..self.used).unwrap_or(&[])).is_err() {
            exit(3);
        }
        self.used = 0;
    }
}

/// An absolute path, with a NUL.
struct Path {
    bytes: [u8; PATH_MAX],
    length: usize,
}

impl Path {
    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or(&[])
    }

    fn text(&self) -> Text<'_> {
        Text::new(self.bytes.get(..=self.length).unwrap_or(b"\0"))
    }

    /// Adds a name; `false` if it does not fit.
    fn push(&mut self, name: &[u8]) -> bool {
        let mut at = self.length;
        if at > 1 {
            self.bytes[at] = b'/';
            at += 1;
        }
        let Some(room) = self.bytes.get_mut(at..=at + name.len()) else {
            self.bytes[self.length] = 0;
            return false;
        };
        for (to, byte) in room.iter_mut().zip(name.iter().chain(&[0])) {
            *to = *byte;
        }
        self.length = at + name.len();
        self.length < PATH_MAX - 2
    }

    fn cut(&mut self, length: usize) {
        self.length = length;
        if let Some(end) = self.bytes.get_mut(length) {
            *end = 0;
        }
    }
}

/// What system calls tell; what is refused tells nothing.
fn calls(told: &mut Told) {
    let mut bytes = [0; 390];
    if sys::uname(&mut bytes).is_ok() {
        told.about(UNAME, &bytes);
    }
    let mut bytes = [0; 112];
    if sys::sysinfo(&mut bytes).is_ok() {
        told.about(SYSINFO, &bytes);
    }
    let mut clocks = [[0; 16]; 2];
    if sys::clock(0, &mut clocks[0]).is_ok() && sys::clock(7, &mut clocks[1]).is_ok() {
        told.about(CLOCKS, clocks.as_flattened());
    }
    let mut bytes = [0; 1024];
    if let Ok(length) = sys::affinity(&mut bytes) {
        told.about(AFFINITY, bytes.get(..length).unwrap_or(&[]));
    }
    let mut bytes = [0; 48];
    let length = sys::processor(&mut bytes);
    told.about(CPUID, bytes.get(..length).unwrap_or(&[]));
    let mut bytes = [0; PATH_MAX];
    if let Ok(length) = sys::directory(&mut bytes) {
        told.about(DIRECTORY, bytes.get(..length).unwrap_or(&[]));
    }
    // KEY_SPEC_SESSION_KEYRING, KEY_SPEC_USER_KEYRING.
    let numbers = [-3, -4].map(|special| sys::keyring(special).unwrap_or(u32::MAX).to_ne_bytes());
    told.about(KEYRINGS, numbers.as_flattened());
    let mut bytes = [0; 40 * 64];
    if let Ok(length) = sys::interfaces(&mut bytes) {
        told.about(INTERFACES, bytes.get(..length).unwrap_or(&[]));
    }
}

/// What is open; where they lead to only /proc tells.
fn descriptors(told: &mut Told, report: i32) {
    let proc_fd = sys::look(Text::new(b"/proc\0"), O_PATH);
    for fd in (0..DESCRIPTORS).filter(|&fd| fd != report) {
        let own = proc_fd.as_ref().is_ok_and(|proc_fd| proc_fd.0 == fd);
        if own || sys::stat(fd).is_err() {
            continue;
        }
        told.record(NAME, b"descriptor");
        told.record(DESCRIPTOR, &fd.to_ne_bytes());
        let (mut name, mut link) = ([0; 40], [0; PATH_MAX]);
        let Ok(proc_fd) = &proc_fd else { continue };
        if let Ok(length) = sys::read_link(proc_fd.0, own_descriptor(fd, &mut name), &mut link) {
            told.record(DATA, link.get(..length).unwrap_or(&[]));
        }
    }
}

/// What is at a path, and below it. Recursive: the depth is bounded.
fn entry(told: &mut Told, path: &mut Path, device: u64, depth: usize) {
    if path.bytes() == PLACE {
        return;
    }
    told.entries += 1;
    if told.entries > ENTRIES_MAX || told.read > TOTAL_MAX {
        told.cut = true;
        return;
    }
    told.record(NAME, path.bytes());
    let Ok(found) = sys::look(path.text(), O_PATH) else { return };
    let Ok(stat) = sys::stat(found.0) else { return };
    if stat.device != device {
        let mut bytes = [0; 120];
        if sys::file_system(found.0, &mut bytes).is_ok() {
            told.record(FILE_SYSTEM, &bytes);
        }
    }
    match stat.mode & S_IFMT {
        S_IFREG => content(told, path),
        S_IFLNK => {
            let mut link = [0; PATH_MAX];
            if let Ok(length) = sys::read_link(AT_FDCWD, path.text(), &mut link) {
                told.record(DATA, link.get(..length).unwrap_or(&[]));
            }
        }
        S_IFCHR | S_IFBLK => told.record(DEVICE, &stat.rdev.to_ne_bytes()),
        S_IFDIR if PACKAGES.contains(&path.bytes()) => {}
        S_IFDIR if depth >= DEPTH_MAX => told.cut = true,
        S_IFDIR => {
            drop(found);
            below(told, path, stat.device, depth);
        }
        _ => {}
    }
}

/// What is in a directory.
fn below(told: &mut Told, path: &mut Path, device: u64, depth: usize) {
    let Ok(directory) = sys::look(path.text(), O_DIRECTORY_AND_ALL) else {
        // Of others it is a right that the program has not.
        told.blind |= depth == 0;
        return;
    };
    let mut entries = [0; 4096];
    while let Ok(length @ 1..) = sys::list(directory.0, &mut entries) {
        let mut rest = entries.get(..length).unwrap_or(&[]);
        // struct linux_dirent64: inode, offset, size of the entry (at 16), kind, name (at 19).
        while let Some(&[low, high]) = rest.get(16..18) {
            let size = usize::from(u16::from_ne_bytes([low, high]));
            let name = rest.get(19..size).unwrap_or(&[]);
            let name = name.split(|&byte| byte == 0).next().unwrap_or(&[]);
            if !matches!(name, b"" | b"." | b"..") && !is_doubled(path, name) {
                let before = path.length;
                if path.push(name) {
                    entry(told, path, device, depth + 1);
                } else {
                    told.cut = true;
                }
                path.cut(before);
            }
            rest = rest.get(size.max(1)..).unwrap_or(&[]);
        }
    }
}

/// Of a process: what its threads have as well, and numbers of its pages.
fn is_doubled(path: &Path, name: &[u8]) -> bool {
    let of_process = path
        .bytes()
        .strip_prefix(b"/proc/")
        .and_then(<[u8]>::first)
        .is_some_and(u8::is_ascii_digit);
    of_process && matches!(name, b"task" | b"pagemap")
}

/// What is in a file; a FIFO that came in its place is not waited for.
#[inline(never)]
fn content(told: &mut Told, path: &Path) {
    let Ok(file) = sys::look(path.text(), O_RDONLY | O_NONBLOCK | O_NOCTTY) else { return };
    let mut bytes = [0; RECORD_MAX];
    let mut read = 0;
    // Reading may end with an error in the middle.
    while let Ok(length @ 1..) = sys::read(file.0, &mut bytes) {
        told.record(DATA, bytes.get(..length).unwrap_or(&[]));
        read += length;
        if read >= FILE_MAX {
            break;
        }
    }
    told.read += read;
}
