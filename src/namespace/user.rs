//! Ids inside and outside; [user_namespaces(7)](https://man7.org/linux/man-pages/man7/user_namespaces.7.html).

use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::AtomicPtr;

use caps::CapSet;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::stat::Mode;
use nix::unistd::{getegid, geteuid};

use super::idmap::{IdMap, Maps, Range, lines, shown};
use super::{Namespaces, idhelper};
use crate::abi::CLONE_NEWUSER;
use crate::capability::CapabilitySet;
use crate::error::{Error, Result, Stage};
use crate::executable::{self, Kept};
use crate::hint::Hint;
use crate::policy::Policy;
use crate::process::{Launch, launch, pid_in, with_fallback};
use crate::wire::mode;
use crate::{hint, kept};

/// The id that a root caller's program has inside, unless asked for otherwise.
const INSIDE: u32 = 1000;
/// The host's id that it stands for: nobody's.
const NOBODY: u32 = 65534;

/// Which ids the program has; see [`Sandbox::uid`](crate::Sandbox::uid).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct User {
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) host: Host,
}

/// Which of the host's ids stand behind the ids inside.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) enum Host {
    /// The caller's own if it is not root, else nobody's.
    #[default]
    Auto,
    /// The caller's own, root included.
    Caller,
    /// These.
    Ids(u32, u32),
    /// Those of a map.
    Map(IdMap),
    /// One that no other sandbox has at the same time.
    Own,
}

/// The first of the host's ids that sandboxes get for themselves, and how many there are: above what
/// directory services hand out, below what systemd uses, and no real user's.
const OWN_FIRST: u32 = 0x7800_0000;
const OWN_COUNT: u32 = 1 << 24;
/// The numbers of namespaces begin here (`PROC_DYNAMIC_FIRST`).
const NAMESPACES_FIRST: u64 = 0xf000_0000;
/// Stands for such an id in a plan.
const NOT_KNOWN_YET: u32 = u32::MAX;

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

    /// Whether the host's are known when the sandbox is made only.
    pub(crate) fn are_chosen_late(self) -> bool {
        self.host.0 == NOT_KNOWN_YET
    }
}

/// Whether the caller is uid 0 and has power over other ids. Uid 0 of a user namespace that has no
/// other (`unshare -r`), or of a container without the capabilities for it, is an unprivileged user by another
/// name.
pub(crate) fn is_root() -> bool {
    static HAS_NOBODY: OnceLock<bool> = OnceLock::new();
    let maps_nobody = |file| {
        let text = std::fs::read_to_string(file);
        // Without /proc nothing is known, and later errors tell.
        text.map_or(true, |text| text.lines().any(|line| covers(line, NOBODY)))
    };
    let both = || maps_nobody("/proc/self/uid_map") && maps_nobody("/proc/self/gid_map");
    let has = |one| caps::has_cap(None, CapSet::Effective, one).unwrap_or(true);
    geteuid().is_root()
        && has(caps::Capability::CAP_SETUID)
        && has(caps::Capability::CAP_SETGID)
        && *HAS_NOBODY.get_or_init(both)
}

/// Whether the caller can copy parts of its tree, to show them with other owners.
pub(crate) fn may_copy_trees() -> bool {
    caps::has_cap(None, CapSet::Effective, caps::Capability::CAP_SYS_ADMIN).unwrap_or(true)
}

/// Whether init has no privileges, not even over a namespace of the sandbox's own: then the bounding set and
/// the securebits stay as they are, and `no_new_privs` alone keeps them from giving anything.
pub(crate) fn is_powerless(policy: &Policy) -> bool {
    let user = policy.new_namespaces() | policy.joined_namespaces();
    let has = caps::has_cap(None, CapSet::Effective, caps::Capability::CAP_SETPCAP);
    !user.contains(Namespaces::USER) && !has.unwrap_or(true)
}

/// Whether a line of an id map (first id inside, first outside, how many) has this id inside.
fn covers(line: &str, id: u32) -> bool {
    let mut numbers = line.split_whitespace().map(|word| word.parse::<u32>().unwrap_or(0));
    let (first, count) = (numbers.next().unwrap_or(0), numbers.nth(1).unwrap_or(0));
    id >= first && id - first < count
}

impl User {
    pub(crate) fn problems(&self, problems: &mut Vec<String>) {
        let (host_uid, host_gid) = match self.host {
            Host::Ids(uid, gid) => (Some(uid), Some(gid)),
            _ => (None, None),
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
        if let Host::Map(map) = &self.host {
            map.problems(problems);
        }
        if let Some(maps) = self.given_maps() {
            let (uid, gid) = self.inside(&maps);
            let (host_uid, host_gid) = maps.host_of(uid, gid);
            for (what, id, host) in [("uid", uid, host_uid), ("gid", gid, host_gid)] {
                if host.is_none() {
                    problems.push(format!("the program's {what} {id} is not in the id map"));
                }
            }
        }
    }

    /// The maps that were given, as far as they need no look at the host.
    fn given_maps(&self) -> Option<Maps> {
        match &self.host {
            Host::Map(map) => map.given().cloned(),
            _ => None,
        }
    }

    /// Whether it is known that there will be more than one id inside.
    pub(crate) fn has_many(&self) -> bool {
        match &self.host {
            Host::Map(map) => map.given().is_none_or(Maps::are_many),
            _ => false,
        }
    }

    /// Whether an id will be there inside; `None` if that is not known yet.
    pub(crate) fn is_mapped(&self, uid: u32, gid: u32) -> Option<bool> {
        match &self.host {
            Host::Map(map) => {
                let (uid, gid) = map.given()?.host_of(uid, gid);
                Some(uid.is_some() && gid.is_some())
            }
            _ => {
                let inside = self.ids(true).ok()?.0.inside;
                Some(inside == (uid, gid))
            }
        }
    }

    pub(crate) fn is_map(&self) -> bool {
        matches!(self.host, Host::Map(_))
    }

    pub(crate) fn is_own(&self) -> bool {
        self.host == Host::Own
    }

    /// The program's ids, of those that there are.
    fn inside(&self, maps: &Maps) -> (u32, u32) {
        let caller = (geteuid().as_raw(), getegid().as_raw());
        let usual = if caller.0 == 0 {
            let (uid, gid) = maps.host_of(INSIDE, INSIDE);
            (uid.map(|_| INSIDE), gid.map(|_| INSIDE))
        } else {
            maps.inside_of(caller.0, caller.1)
        };
        let first = maps.first();
        let (uid, gid) = (usual.0.unwrap_or(first.0), usual.1.unwrap_or(first.1));
        (self.uid.unwrap_or(uid), self.gid.unwrap_or(gid))
    }

    /// Fills in the defaults for the calling process.
    pub(crate) fn ids(&self, own_namespace: bool) -> Result<(Ids, Maps)> {
        let caller = (geteuid().as_raw(), getegid().as_raw());
        if let (Host::Map(map), true) = (&self.host, own_namespace) {
            let maps = map.resolve()?;
            let inside = self.inside(&maps);
            let (Some(uid), Some(gid)) = maps.host_of(inside.0, inside.1) else {
                let problem =
                    format!("the program's ids {}:{} are not in the id map", inside.0, inside.1);
                return Err(Error::Invalid(vec![problem]));
            };
            return Ok((Ids { inside, host: (uid, gid), caller }, maps));
        }
        let host = match self.host {
            Host::Ids(uid, gid) => (uid, gid),
            Host::Own if !is_root() => {
                let error =
                    Error::new(Stage::Prepare, "give", "a host id of its own", Errno::EPERM);
                return Err(error.with_hint(Some(Hint::OnlyRootChoosesIds)));
            }
            Host::Own => (NOT_KNOWN_YET, NOT_KNOWN_YET),
            Host::Auto if is_root() => (NOBODY, NOBODY),
            Host::Caller | Host::Auto | Host::Map(_) => caller,
        };
        let inside = match self.host {
            // Without a namespace of its own there is no other name for an id than the host's.
            _ if !own_namespace => host,
            Host::Caller => host,
            _ if caller.0 == 0 => (INSIDE, INSIDE),
            _ => host,
        };
        let inside = (self.uid.unwrap_or(inside.0), self.gid.unwrap_or(inside.1));
        let host = if own_namespace { host } else { inside };
        Ok((Ids { inside, host, caller }, Maps::of(inside, host)))
    }
}

/// Whether the group map is written by a setuid program, and `setgroups` is not denied.
pub(crate) fn needs_helper_for_groups(ids: Ids, maps: &Maps) -> bool {
    !is_root() && needs_helper(&maps.gids, ids.caller.1)
}

/// An unprivileged process may map its own id, and no other.
fn needs_helper(ranges: &[Range], caller: u32) -> bool {
    !matches!(ranges, [Range { host, count: 1, .. }] if *host == caller)
}

/// Writes the maps of a process that is in its new user namespace; `process` is its directory
/// in /proc, and `pid` its number there.
pub(crate) fn write_maps(process: BorrowedFd<'_>, pid: u32, ids: Ids, maps: &Maps) -> Result<()> {
    let (uid, gid) = ids.caller;
    let ranges = maps.are_many();
    if is_root() || !ranges {
        // Else the kernel does not let an unprivileged process write a group map.
        if !is_root() && !needs_helper(&maps.gids, gid) {
            write(process, "setgroups", "deny")?;
        }
        write(process, "uid_map", &lines(&maps.uids))?;
        return write(process, "gid_map", &lines(&maps.gids));
    }
    if needs_helper(&maps.uids, uid) {
        idhelper::UIDS.write(process, pid, &maps.uids, uid)?;
    } else {
        write(process, "uid_map", &lines(&maps.uids))?;
    }
    if needs_helper(&maps.gids, gid) {
        return idhelper::GIDS.write(process, pid, &maps.gids, gid);
    }
    write(process, "setgroups", "deny")?;
    write(process, "gid_map", &lines(&maps.gids))
}

/// A user namespace that is used for nothing but to show the caller's files as the program's own:
/// the id on disk is the caller's, the id seen is the one that the program has on the host. Made
/// once a process for the first such pair, and for others each time.
pub(crate) fn mapping_namespace(
    ids: Ids,
    maps: &Maps,
    init_file: Option<&Path>,
) -> Result<OwnedFd> {
    static KEPT: AtomicPtr<(Maps, Kept)> = AtomicPtr::new(std::ptr::null_mut());
    let wanted = maps.for_binds(ids.caller, ids.host);
    let before = kept::get(&KEPT).filter(|(maps, _)| *maps == wanted);
    if let Some(fd) = before.and_then(|(_, kept)| kept.duplicate()) {
        return Ok(fd);
    }
    let (namespace, _) = make_namespace(init_file, |_| Ok((wanted.clone(), ())))?;
    // The first pair's; what is kept is never given up, so more would add up.
    let before = kept::get(&KEPT);
    if before.is_none_or(|(_, kept)| kept.duplicate().is_none()) {
        if let Some(copy) = namespace.try_clone().ok().and_then(Kept::new) {
            // Who was slower than another thread closes its own.
            let _slower = kept::replace(&KEPT, before, (wanted, copy));
        }
    }
    Ok(namespace)
}

/// An id of the host's that no other sandbox has: the number of a user namespace, which the kernel gives
/// to no second one while this one is there. The namespace shows the caller's files as that id's; as
/// long as somebody has the descriptor, nobody gets the id.
pub(crate) fn own_id(init_file: Option<&Path>) -> Result<(OwnedFd, u32)> {
    let caller = (geteuid().as_raw(), getegid().as_raw());
    make_namespace(init_file, |number| {
        let number = number.checked_sub(NAMESPACES_FIRST).and_then(|at| u32::try_from(at).ok());
        let id = number.filter(|&at| at < OWN_COUNT).map(|at| OWN_FIRST + at).ok_or_else(|| {
            Error::new(Stage::Prepare, "give", "a host id of its own", Errno::EUSERS)
        })?;
        Ok((Maps::of(caller, (id, id)), id))
    })
}

/// A user namespace in which nothing runs, with the maps that are found for its number.
fn make_namespace<T>(
    init_file: Option<&Path>,
    maps: impl Fn(u64) -> Result<(Maps, T)>,
) -> Result<(OwnedFd, T)> {
    let failed = |operation, errno| {
        Error::new(Stage::Prepare, operation, "of a namespace to map owners", errno)
    };
    let mut executable = executable::INIT.open(init_file)?;
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
        entrances: &[],
    };
    let waiting =
        with_fallback(&executable::INIT, &mut executable, init_file, |it| launch(it, wanted))?;
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let not_there = |errno| failed("open /proc entry", errno);
    let proc = nix::fcntl::open("/proc", flags, Mode::empty()).map_err(not_there)?;
    let pid = pid_in(proc.as_fd(), &waiting).ok_or_else(|| not_there(Errno::ESRCH))?;
    let path = pid.to_string();
    let process =
        nix::fcntl::openat(&proc, path.as_str(), flags, Mode::empty()).map_err(not_there)?;
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let namespace = nix::fcntl::openat(&process, "ns/user", flags, Mode::empty())
        .map_err(|errno| failed("open", errno))?;
    let number = nix::sys::stat::fstat(&namespace).map_err(|errno| failed("fstat", errno))?.st_ino;
    let (maps, found) = maps(number)?;
    for (file, ranges) in [("uid_map", &maps.uids), ("gid_map", &maps.gids)] {
        write(process.as_fd(), file, &lines(ranges))?;
    }
    drop(ours);
    Ok((namespace, found))
}

fn write(process: BorrowedFd<'_>, file: &str, text: &str) -> Result<()> {
    let failed = |errno| {
        Error::new(Stage::Identity, "write", format!("{file} {:?}", shown(text)), errno)
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
