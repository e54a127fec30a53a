//! Ids inside and outside; [user_namespaces(7)](https://man7.org/linux/man-pages/man7/user_namespaces.7.html).

use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::AtomicPtr;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::stat::Mode;
use nix::unistd::{getegid, geteuid};

use crate::abi::CLONE_NEWUSER;
use crate::capability::CapabilitySet;
use crate::error::{Error, Result, Stage};
use crate::executable::{self, Kept};
use crate::process::{Launch, launch, pid_in, with_fallback};
use crate::wire::mode;
use crate::{hint, kept};

/// The id that a root caller's program has inside, unless asked for otherwise.
const INSIDE: u32 = 1000;
/// The host's id that it stands for: nobody's.
const NOBODY: u32 = 65534;

/// Which ids the program has; see [`Sandbox::uid`](crate::Sandbox::uid).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct User {
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) host: Host,
}

/// Which of the host's ids stand behind the ids inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Host {
    /// The caller's own if it is not root, else nobody's.
    #[default]
    Auto,
    /// The caller's own, root included.
    Caller,
    /// These.
    Ids(u32, u32),
}

/// Ids with all defaults filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ids {
    pub(crate) inside: (u32, u32),
    pub(crate) host: (u32, u32),
    pub(crate) caller: (u32, u32),
}

impl Ids {
    /// Whether the host's ids are not the caller's, so that its files have to be shown mapped.
    pub(crate) fn are_foreign(self) -> bool {
        self.host != self.caller
    }

    /// Whether the caller must be privileged to make this map.
    fn need_privilege(self) -> bool {
        self.are_foreign()
    }
}

/// Whether the caller is uid 0 and has power over other ids. Uid 0 of a user namespace that has no
/// other (`unshare -r`) is an unprivileged user by another name.
pub(crate) fn is_root() -> bool {
    static HAS_NOBODY: OnceLock<bool> = OnceLock::new();
    let maps_nobody = |file| {
        let text = std::fs::read_to_string(file);
        // Without /proc nothing is known, and later errors tell.
        text.map_or(true, |text| text.lines().any(|line| covers(line, NOBODY)))
    };
    let both = || maps_nobody("/proc/self/uid_map") && maps_nobody("/proc/self/gid_map");
    geteuid().is_root() && *HAS_NOBODY.get_or_init(both)
}

/// Whether a line of an id map (first id inside, first outside, how many) has this id inside.
fn covers(line: &str, id: u32) -> bool {
    let mut numbers = line.split_whitespace().map(|word| word.parse::<u32>().unwrap_or(0));
    let (first, count) = (numbers.next().unwrap_or(0), numbers.nth(1).unwrap_or(0));
    id >= first && id - first < count
}

impl User {
    pub(crate) fn problems(self, problems: &mut Vec<String>) {
        let (host_uid, host_gid) = match self.host {
            Host::Ids(uid, gid) => (Some(uid), Some(gid)),
            Host::Auto | Host::Caller => (None, None),
        };
        for (what, id) in [
            ("uid", self.uid),
            ("gid", self.gid),
            ("the host's uid", host_uid),
            ("the host's gid", host_gid),
        ] {
            if id == Some(u32::MAX) {
                problems.push(format!("{what} {} means \"no id\" to the kernel", u32::MAX));
            }
        }
    }

    /// Fills in the defaults for the calling process.
    pub(crate) fn ids(self, own_namespace: bool) -> Ids {
        let caller = (geteuid().as_raw(), getegid().as_raw());
        let host = match self.host {
            Host::Ids(uid, gid) => (uid, gid),
            Host::Caller => caller,
            Host::Auto if is_root() => (NOBODY, NOBODY),
            Host::Auto => caller,
        };
        let inside = match self.host {
            // Without a namespace of its own there is no other name for an id than the host's.
            _ if !own_namespace => host,
            Host::Caller => host,
            Host::Auto | Host::Ids(..) if caller.0 == 0 => (INSIDE, INSIDE),
            Host::Auto | Host::Ids(..) => host,
        };
        let inside = (self.uid.unwrap_or(inside.0), self.gid.unwrap_or(inside.1));
        Ids { inside, host: if own_namespace { host } else { inside }, caller }
    }
}

/// Writes the maps of a process that is in its new user namespace; `process` is its directory
/// in /proc.
pub(crate) fn write_maps(process: BorrowedFd<'_>, ids: Ids) -> Result<()> {
    if !ids.need_privilege() && !is_root() {
        // Else the kernel does not let an unprivileged process write a group map.
        write(process, "setgroups", "deny")?;
    }
    write(process, "uid_map", &format!("{} {} 1\n", ids.inside.0, ids.host.0))?;
    write(process, "gid_map", &format!("{} {} 1\n", ids.inside.1, ids.host.1))
}

/// A user namespace that is used for nothing but to show the caller's files as the program's own:
/// the id on disk is the caller's, the id seen is the one that the program has on the host. Made
/// once a process for the first such pair, and for others each time.
pub(crate) fn mapping_namespace(ids: Ids, init_file: Option<&Path>) -> Result<OwnedFd> {
    static KEPT: AtomicPtr<(Ids, Kept)> = AtomicPtr::new(std::ptr::null_mut());
    let wanted = Ids { inside: ids.caller, ..ids };
    let before = kept::get(&KEPT).filter(|(ids, _)| *ids == wanted);
    if let Some(fd) = before.and_then(|(_, kept)| kept.duplicate()) {
        return Ok(fd);
    }
    let namespace = make_mapping(wanted, init_file)?;
    // The first pair's; what is kept is never given up, so more would add up.
    if kept::get(&KEPT).is_none_or(|(_, kept)| kept.duplicate().is_none()) {
        let copy = namespace.try_clone().ok().and_then(Kept::new);
        kept::set(&KEPT, copy.map(|copy| (wanted, copy)));
    }
    Ok(namespace)
}

fn make_mapping(ids: Ids, init_file: Option<&Path>) -> Result<OwnedFd> {
    let failed = |operation, errno| {
        Error::new(Stage::Prepare, operation, "of a namespace to map owners", errno)
    };
    let mut executable = executable::open(init_file)?;
    let (ours, theirs) =
        socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
            .map_err(|errno| failed("socketpair", errno))?;
    let embedder =
        crate::sys::own_pidfd().map_err(|errno| failed("pidfd_open", errno).explained())?;
    let numbers = [theirs.as_raw_fd(), embedder.as_raw_fd()];
    // An init that waits for a plan, and ends when none comes.
    let wanted = Launch {
        mode: mode::INIT,
        flags: CLONE_NEWUSER,
        numbers: &numbers,
        keep: &[],
        capabilities: CapabilitySet::empty(),
        into: None,
    };
    let waiting = with_fallback(&mut executable, init_file, |it| launch(it, wanted))?;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let not_there = |errno| failed("open /proc entry", errno);
    let proc = nix::fcntl::open("/proc", flags, Mode::empty()).map_err(not_there)?;
    let path = pid_in(proc.as_fd(), &waiting).ok_or_else(|| not_there(Errno::ESRCH))?.to_string();
    let process =
        nix::fcntl::openat(&proc, path.as_str(), flags, Mode::empty()).map_err(not_there)?;
    write_maps(process.as_fd(), ids)?;
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let namespace = nix::fcntl::openat(&process, "ns/user", flags, Mode::empty())
        .map_err(|errno| failed("open", errno));
    drop(ours);
    namespace
}

fn write(process: BorrowedFd<'_>, file: &str, text: &str) -> Result<()> {
    let failed = |errno| {
        Error::new(Stage::Identity, "write", format!("{file} {:?}", text.trim_end()), errno)
            .with_hint(hint::for_maps(errno))
    };
    let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    let fd = nix::fcntl::openat(process.as_fd(), file, flags, Mode::empty()).map_err(failed)?;
    let written = std::fs::File::from(fd).write(text.as_bytes());
    match written {
        Ok(length) if length == text.len() => Ok(()),
        Ok(_) => Err(failed(Errno::EIO)),
        Err(error) => Err(failed(Errno::from_raw(error.raw_os_error().unwrap_or(0)))),
    }
}

#[cfg(test)]
mod tests {
    use super::covers;

    #[test]
    fn map_lines() {
        assert!(covers("         0          0 4294967295", 65534));
        assert!(covers("0 100000 65536", 65535));
        assert!(!covers("0 100000 65536", 65536));
        assert!(!covers("0 1000 1", 65534));
        assert!(!covers("65535 0 10", 65534));
        assert!(!covers("", 0));
    }
}
