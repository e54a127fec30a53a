//! The notes of what was read and written, while it happens.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Read as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use nix::errno::Errno;
use nix::sys::stat::{FileStat, SFlag, fstat};
use sha2::{Digest, Sha256};

use super::footprint::{Declared, Footprint, Gap, Read, ReadKind};
use super::journal::locked;
use super::look::{self, Seen, Sight};
use crate::output::{is_no_data, link, open_regular};
use crate::policy::Policy;
use crate::program::interpreter_of;
use crate::rootfs::Entry;

/// How many different things are noted.
const MOST: usize = 1 << 16;
/// The most names of a directory that go into the digest.
const NAMES: usize = 1 << 16;
/// The largest file that does.
const LARGEST: u64 = 256 << 20;
/// How many interpreters of interpreters are looked for, as the kernel does.
const INTERPRETERS: usize = 5;

type Hash = [u8; 32];

/// What says that a file is the same and unchanged.
type Identity = (u64, u64, i64, i64, i64, i64, i64);

#[derive(Debug)]
pub(super) struct Files {
    declared: Declared,
    /// Where nothing is that was there before, and what is put below.
    scratch: Vec<(PathBuf, bool)>,
    notes: Mutex<Notes>,
    known: Mutex<HashMap<Identity, Hash>>,
}

#[derive(Debug, Default)]
struct Notes {
    reads: BTreeMap<Read, Hash>,
    writes: BTreeSet<PathBuf>,
    /// Those of them that have nothing of before in them.
    own: BTreeSet<PathBuf>,
    /// The names by which a file was asked for, where links are on the way.
    names: BTreeMap<PathBuf, PathBuf>,
    gaps: BTreeSet<Gap>,
    dropped: u64,
}

/// A content that can still be read when the call has gone on, as nobody inside can change it.
#[derive(Debug)]
pub(super) struct Later {
    read: Read,
    fd: OwnedFd,
}

impl Files {
    pub(super) fn new(policy: &Policy, declared: &Declared) -> Self {
        let mut scratch: Vec<_> =
            ["/tmp", "/dev/shm", policy.tree.home()].map(|path| (PathBuf::from(path), true)).into();
        scratch.extend(policy.tree.entries.iter().filter_map(|entry| match entry {
            Entry::Tmpfs(tmpfs) => Some((tmpfs.path().to_owned(), true)),
            Entry::Bind(bind) => Some((bind.target().to_owned(), false)),
            Entry::Overlay(path, _) | Entry::Program { path } => Some((path.clone(), false)),
            Entry::Data(data) => Some((data.path().to_owned(), false)),
            Entry::Mqueue { .. } | Entry::Sysfs => None,
        }));
        let (notes, known) = (Mutex::default(), Mutex::default());
        Files { declared: declared.clone(), scratch, notes, known }
    }

    /// Whether what is there is neither input nor output.
    fn is_scratch(&self, path: &Path) -> bool {
        let nearest = self.scratch.iter().filter(|(place, _)| path.starts_with(place));
        let nearest = nearest.max_by_key(|(place, _)| place.components().count());
        nearest.is_some_and(|(_, scratch)| *scratch) && !self.declared.covers(path)
    }

    /// Notes that an open file is written, or what is known of it changed. Devices and the like keep nothing.
    pub(super) fn wrote_to(&self, seen: &Seen, named: PathBuf, own: bool) {
        if matches!(seen.kind(), SFlag::S_IFREG | SFlag::S_IFDIR) {
            self.wrote(seen.path().unwrap_or(named), own);
        }
    }

    /// With `own`, what is there from now on is the program's own work.
    pub(super) fn wrote(&self, path: PathBuf, own: bool) {
        let mut notes = locked(&self.notes);
        if notes.writes.len() < MOST {
            if own {
                notes.own.insert(path.clone());
            }
            notes.writes.insert(path);
        } else {
            notes.dropped += 1;
        }
    }

    pub(super) fn absent(&self, path: PathBuf) {
        self.note(Read { path, kind: ReadKind::Absent }, [0; 32]);
    }

    /// Whether it is an input that is not noted yet.
    fn is_new(&self, read: &Read) -> bool {
        let notes = locked(&self.notes);
        !(notes.reads.contains_key(read)
            || read.path.ancestors().any(|path| notes.own.contains(path))
            || self.is_scratch(&read.path))
    }

    fn note(&self, read: Read, hash: Hash) {
        if !self.is_new(&read) {
            return;
        }
        let mut notes = locked(&self.notes);
        if notes.reads.len() < MOST {
            notes.reads.insert(read, hash);
        } else {
            notes.dropped += 1;
        }
    }

    /// Notes what is read of a file that is there, by the name `named`.
    pub(super) fn read(&self, named: &Path, seen: &Seen, kind: ReadKind) -> Option<Later> {
        let path = seen.path().unwrap_or_else(|| named.to_owned());
        if path != named && !look::is_of_a_process(&path) {
            locked(&self.notes).names.entry(named.to_owned()).or_insert_with(|| path.clone());
        }
        let kind = match (kind, seen.kind()) {
            (ReadKind::Content, SFlag::S_IFDIR) => ReadKind::Names,
            (ReadKind::Content, SFlag::S_IFREG) if is_no_data(seen.fd.as_fd()) == Ok(false) => kind,
            // A device, a pipe, or the kernel's words: that it is there is all that is stable.
            (ReadKind::Content, _) => ReadKind::Metadata,
            (ReadKind::Link, SFlag::S_IFLNK) => kind,
            (ReadKind::Link, _) => ReadKind::Metadata,
            _ => kind,
        };
        let read = Read { path, kind };
        if !self.is_new(&read) {
            return None;
        }
        let hash = match kind {
            ReadKind::Content if seen.is_read_only() => {
                let fd = seen.fd.try_clone().ok()?;
                return Some(Later { read, fd });
            }
            ReadKind::Content => self.content(&read.path, seen.fd.as_fd()),
            ReadKind::Names => self.names(&read.path, seen.fd.as_fd()),
            ReadKind::Link => {
                let target = nix::fcntl::readlinkat(&seen.fd, "").unwrap_or_default();
                Sha256::digest(target.as_bytes()).into()
            }
            ReadKind::Metadata | ReadKind::Absent => metadata(&seen.stat),
        };
        self.note(read, hash);
        None
    }

    /// What the kernel itself opens to execute a file.
    pub(super) fn interpreters(&self, root: BorrowedFd<'_>, program: &Seen) -> Vec<Later> {
        let mut later = Vec::new();
        let open = |seen: &Seen| open_regular(seen.fd.as_fd()).ok();
        let mut next = open(program).and_then(interpreter_of);
        for _ in 0..INTERPRETERS {
            let Some(path) = next.map(PathBuf::from) else { break };
            match look::look(root, &path, true) {
                Sight::Present(seen) => {
                    later.extend(self.read(&look::clean(&path), &seen, ReadKind::Content));
                    next = open(&seen).and_then(interpreter_of);
                }
                Sight::Absent => {
                    self.absent(look::lacking(root, &path));
                    break;
                }
                Sight::Hidden(_) => break,
            }
        }
        later
    }

    pub(super) fn finish(&self, later: Vec<Later>) {
        for Later { read, fd } in later {
            let hash = self.content(&read.path, fd.as_fd());
            self.note(read, hash);
        }
    }

    fn content(&self, path: &Path, fd: BorrowedFd<'_>) -> Hash {
        self.hash_of(fd).unwrap_or_else(|_| self.not_digested(path))
    }

    fn not_digested(&self, path: &Path) -> Hash {
        locked(&self.notes).gaps.insert(Gap::NotDigested(path.to_owned()));
        [0; 32]
    }

    fn hash_of(&self, fd: BorrowedFd<'_>) -> std::io::Result<Hash> {
        let stat = fstat(fd)?;
        if let Some(hash) = locked(&self.known).get(&identity(&stat)) {
            return Ok(*hash);
        }
        if u64::try_from(stat.st_size).unwrap_or(0) > LARGEST {
            return Err(Errno::EFBIG.into());
        }
        let mut file = open_regular(fd)?.take(LARGEST);
        let (mut hasher, mut chunk) = (Sha256::new(), vec![0; 1 << 16]);
        loop {
            match file.read(&mut chunk)? {
                0 => break,
                got => hasher.update(chunk.get(..got).unwrap_or_default()),
            }
        }
        if identity(&fstat(fd)?) != identity(&stat) {
            return Err(Errno::EAGAIN.into());
        }
        let hash = hasher.finalize().into();
        locked(&self.known).insert(identity(&stat), hash);
        Ok(hash)
    }

    /// The names in a directory, but those that the program made.
    fn names(&self, path: &Path, fd: BorrowedFd<'_>) -> Hash {
        let Ok(entries) = std::fs::read_dir(link(fd)) else { return self.not_digested(path) };
        let names: BTreeSet<_> =
            entries.take(NAMES + 1).flatten().map(|entry| entry.file_name()).collect();
        if names.len() > NAMES {
            return self.not_digested(path);
        }
        let mut hasher = Sha256::new();
        let notes = locked(&self.notes);
        for name in names.iter().filter(|name| !notes.own.contains(&path.join(name))) {
            part(&mut hasher, name.as_bytes());
        }
        hasher.finalize().into()
    }

    /// All of it, against what was declared.
    pub(super) fn footprint(&self, more: impl IntoIterator<Item = Gap>) -> Footprint {
        let notes = locked(&self.notes);
        let mut hasher = Sha256::new();
        let mut reads = Vec::new();
        for (read, hash) in &notes.reads {
            part(&mut hasher, &[read.kind as u8]);
            part(&mut hasher, read.path.as_os_str().as_bytes());
            part(&mut hasher, hash);
            reads.push(read.clone());
        }
        for (name, path) in notes.names.iter().filter(|(name, _)| !self.is_scratch(name)) {
            part(&mut hasher, name.as_os_str().as_bytes());
            part(&mut hasher, path.as_os_str().as_bytes());
        }
        let undeclared = |read: &&Read| {
            let leads = read.kind == ReadKind::Metadata && self.declared.leads_to(&read.path);
            !self.declared.covers(&read.path) && !leads
        };
        let undeclared_reads = reads.iter().filter(undeclared).cloned().collect();
        let is_read = |input: &&PathBuf| {
            let below = |path: &Path| path.starts_with(input);
            !(reads.iter().any(|read| below(&read.path))
                || notes.names.keys().any(|name| below(name)))
        };
        let writes: Vec<_> =
            notes.writes.iter().filter(|path| !self.is_scratch(path)).cloned().collect();
        let declared =
            |path: &&PathBuf| !self.declared.outputs.iter().any(|output| path.starts_with(output));
        let dropped = (notes.dropped > 0).then_some(Gap::Dropped(notes.dropped));
        let gaps: BTreeSet<_> = notes.gaps.iter().cloned().chain(dropped).chain(more).collect();
        Footprint {
            unread_inputs: self.declared.inputs.iter().filter(is_read).cloned().collect(),
            undeclared_writes: writes.iter().filter(declared).cloned().collect(),
            undeclared_reads,
            reads,
            writes,
            digest: hasher.finalize().into(),
            gaps: gaps.into_iter().collect(),
        }
    }
}

/// With its length, so that two parts are never taken for two others.
fn part(hasher: &mut Sha256, bytes: &[u8]) {
    hasher.update((bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

fn identity(stat: &FileStat) -> Identity {
    let FileStat {
        st_dev, st_ino, st_size, st_mtime, st_mtime_nsec, st_ctime, st_ctime_nsec, ..
    } = *stat;
    (st_dev, st_ino, st_size, st_mtime, st_mtime_nsec, st_ctime, st_ctime_nsec)
}

/// Kind and permissions, and the size of a file.
fn metadata(stat: &FileStat) -> Hash {
    let regular = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG;
    let size = if regular { stat.st_size } else { 0 };
    let mut hasher = Sha256::new();
    hasher.update(stat.st_mode.to_le_bytes());
    hasher.update(size.to_le_bytes());
    hasher.finalize().into()
}
