//! What a filter refuses where no namespace and no mount keeps a program apart from the host.

use super::profile::{MISSING, NO_FAMILY, REFUSED, refuse};
use super::{Action, Condition, Rule};

bitflags::bitflags! {
    /// What of the host's a program would reach without it.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(crate) struct Shared: u8 {
        /// Every network.
        const NETWORKS = 1;
        /// Names in the file tree: Landlock does not look at sockets, watches and extended attributes.
        const NAMES = 1 << 1;
        /// Modes, owners, times and attributes of files, of which Landlock has none.
        const ATTRIBUTES = 1 << 2;
        /// System V objects and message queues.
        const IPC = 1 << 3;
        /// Limits and scheduling of the same user's processes.
        const PROCESSES = 1 << 4;
        /// The same user's keys.
        const KEYS = 1 << 5;
    }
}

/// No file system has these, programs are told, and go on without.
const UNKNOWN: Action = Action::Errno(libc::EOPNOTSUPP.unsigned_abs());

const CHANGES: &str = "
    chmod chown chown32 fchmod fchmodat fchmodat2 fchown fchown32 fchownat file_setattr futimesat
    lchown lchown32 utime utimensat utimensat_time64 utimes
";
const XATTR_CHANGES: &str = "
    fremovexattr fsetxattr lremovexattr lsetxattr removexattr removexattrat setxattr setxattrat
";
const XATTR_NAMES: &str = "
    getxattr getxattrat lgetxattr listxattr listxattrat llistxattr
";
const QUEUES_AND_KEYED: &str = "
    ipc mq_open mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop semtimedop
    semtimedop_time64 shmat shmctl shmget
";

/// These come before any profile.
pub(super) fn guards(shared: Shared, list: &mut Vec<Rule>) {
    if shared.is_empty() {
        return;
    }
    // Its operations pass by a filter.
    refuse(list, "io_uring_enter io_uring_register io_uring_setup", MISSING);
    if shared.contains(Shared::NETWORKS) {
        list.push(Rule::new("socket").then(NO_FAMILY));
    }
    if shared.contains(Shared::NAMES) {
        names(list);
    }
    if shared.contains(Shared::ATTRIBUTES) {
        refuse(list, CHANGES, REFUSED);
        refuse(list, XATTR_CHANGES, UNKNOWN);
    }
    if shared.contains(Shared::IPC) {
        refuse(list, QUEUES_AND_KEYED, REFUSED);
    }
    if shared.contains(Shared::PROCESSES) {
        processes(list);
    }
    if shared.contains(Shared::KEYS) {
        refuse(list, "add_key keyctl request_key", REFUSED);
    }
}

/// Unix sockets reach a server by its path: there are pairs only, of kinds that cannot be connected to
/// anything else or send to an address.
fn names(list: &mut Vec<Rule>) {
    const UNIX: u64 = 1;
    const KINDS: u64 = 0xf;
    const DATAGRAM: u64 = 2;
    /// Unix sockets take this for the same.
    const RAW: u64 = 3;
    list.push(Rule::with("socket", vec![Condition::equal(0, UNIX).low()], NO_FAMILY));
    for kind in [DATAGRAM, RAW] {
        let kind = Condition::masked(1, KINDS, kind).low();
        list.push(Rule::with("socketpair", vec![kind], REFUSED));
    }
    refuse(list, "inotify_add_watch fanotify_mark", REFUSED);
    refuse(list, XATTR_NAMES, UNKNOWN);
}

/// Those of the calling thread only: a filter cannot tell whose another one is.
fn processes(list: &mut Vec<Rule>) {
    let another = |argument| vec![Condition::not_equal(argument, 0).low()];
    for call in
        ["prlimit64", "sched_setaffinity", "sched_setattr", "sched_setparam", "sched_setscheduler"]
    {
        list.push(Rule::with(call, another(0), REFUSED));
    }
    // By process, by group, and by user; ioprio counts from 1.
    for (call, user) in [("setpriority", 2u64), ("ioprio_set", 3)] {
        list.push(Rule::with(call, vec![Condition::equal(0, user).low()], REFUSED));
        list.push(Rule::with(call, another(1), REFUSED));
    }
    refuse(list, "process_mrelease", REFUSED);
}
