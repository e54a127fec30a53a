//! What programs in a sandbox may ask of the kernel, by default and strictly.
//!
//! Calls that no list names are refused with `EPERM`; of `ABSENT`, and of calls newer than the
//! table, programs are told that they do not exist, so that they fall back to older ones.

use super::{Action, Condition, Kept, Rule, shared};

/// Calls without which hardly any program runs, and which give no power over anybody else.
const COMMON: &str = "
    access alarm arch_prctl arm_fadvise64_64 arm_sync_file_range breakpoint brk cacheflush
    cachestat capget capset chdir chmod chown chown32 clock_getres clock_getres_time64
    clock_gettime clock_gettime64 clock_nanosleep clock_nanosleep_time64 close close_range
    copy_file_range creat dup dup2 dup3 epoll_create epoll_create1 epoll_ctl epoll_ctl_old
    epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd eventfd2 execve execveat exit
    exit_group faccessat faccessat2 fadvise64 fadvise64_64 fallocate fchdir fchmod fchmodat
    fchmodat2 fchown fchown32 fchownat fcntl fcntl64 fdatasync fgetxattr file_getattr file_setattr
    flistxattr flock fork fremovexattr fsetxattr fstat fstat64 fstatat64 fstatfs fstatfs64 fsync
    ftruncate ftruncate64 futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake
    futimesat get_robust_list get_thread_area get_tls getcpu getcwd getdents getdents64 getegid
    getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getitimer getpgid getpgrp
    getpid getppid getpriority getrandom getresgid getresgid32 getresuid getresuid32 getrlimit
    getrusage getsid gettid gettimeofday getuid getuid32 getxattr getxattrat ioprio_get kill
    landlock_add_rule landlock_create_ruleset landlock_restrict_self lchown lchown32 lgetxattr link linkat listxattr listxattrat llistxattr lremovexattr lseek
    lsetxattr lstat lstat64 madvise map_shadow_stack membarrier memfd_create mincore mkdir mkdirat
    mknod mknodat mlock mlock2 mlockall mmap mmap2 mprotect mremap mseal msync munlock munlockall
    munmap nanosleep newfstatat open openat openat2 pause pidfd_open pidfd_send_signal pipe pipe2
    pkey_alloc pkey_free pkey_mprotect poll ppoll ppoll_time64 prctl pread64 preadv preadv2
    prlimit64 process_mrelease pselect6 pselect6_time64 pwrite64 pwritev pwritev2 read readahead
    readlink readlinkat readv recv recvfrom recvmmsg recvmmsg_time64 recvmsg remap_file_pages
    removexattr removexattrat rename renameat renameat2 restart_syscall riscv_flush_icache
    riscv_hwprobe rmdir rseq rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo
    rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 rt_tgsigqueueinfo
    sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam
    sched_getscheduler sched_rr_get_interval sched_rr_get_interval_time64 sched_yield select send
    sendfile sendfile64 sendmmsg sendmsg sendto set_robust_list set_thread_area set_tid_address
    set_tls setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups setgroups32
    setitimer setpgid setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid
    setreuid32 setrlimit setsid setuid setuid32 setxattr setxattrat sigaltstack signalfd signalfd4
    sigprocmask sigreturn splice stat stat64 statfs statfs64 statx symlink symlinkat sync
    sync_file_range sync_file_range2 syncfs sysinfo tee tgkill time timer_create timer_delete
    timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create
    timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64 times tkill truncate
    truncate64 ugetrlimit umask uname unlink unlinkat uprobe uretprobe utime utimensat
    utimensat_time64 utimes vfork wait4 waitid waitpid write writev _llseek _newselect
";

/// What programs use to talk to each other and to be woken, and to change what is their own.
const FULL: &str = "
    accept accept4 adjtimex bind clock_adjtime clock_adjtime64 connect getpeername getsockname
    getsockopt inotify_add_watch inotify_init inotify_init1 inotify_rm_watch io_cancel io_destroy
    io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit ioprio_set ipc
    listen memfd_secret mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend
    mq_timedsend_time64 mq_unlink msgctl msgget msgrcv msgsnd name_to_handle_at sched_setaffinity
    sched_setattr sched_setparam sched_setscheduler seccomp semctl semget semop semtimedop
    semtimedop_time64 setpriority setsockopt shmat shmctl shmdt shmget shutdown
";

/// Answered as if the kernel had them not: there is an older call for the same, or none is needed.
const ABSENT: &str = "
    clone3 io_uring_enter io_uring_register io_uring_setup listmount statmount
";

/// Mounting; where namespaces may be nested, this is what is done in them.
const MOUNTING: &str = "
    fsconfig fsmount fsopen fspick mount mount_setattr move_mount open_tree open_tree_attr
    pivot_root umount umount2
";
const NESTING: &str = "
    chroot clone clone3 setdomainname sethostname setns unshare
";

const TRACING: &str = "
    kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace
";

/// By number of a capability: what is allowed if it is kept.
const BY_CAPABILITY: &[(u8, &str)] = &[
    (2, "open_by_handle_at"),
    (16, "create_module delete_module finit_module init_module"),
    (17, "ioperm iopl"),
    (18, "chroot"),
    (19, TRACING),
    (20, "acct"),
    (
        21,
        "bpf fanotify_init fanotify_mark fsconfig fsmount fsopen fspick listmount \
         lookup_dcookie lsm_get_self_attr lsm_list_modules lsm_set_self_attr mount \
         mount_setattr move_mount open_tree open_tree_attr perf_event_open pivot_root quotactl \
         quotactl_fd setdomainname sethostname setns statmount swapoff swapon syslog umount \
         umount2 unshare clone",
    ),
    (22, "kexec_file_load kexec_load reboot"),
    (23, "get_mempolicy mbind migrate_pages move_pages set_mempolicy set_mempolicy_home_node"),
    (25, "clock_settime clock_settime64 settimeofday stime"),
    (26, "vhangup"),
    (34, "syslog"),
    (38, "bpf perf_event_open"),
    (39, "bpf"),
];
const FSETID: u8 = 4;
const NET_ADMIN: u8 = 12;
const NET_RAW: u8 = 13;
const AUDIT: [u8; 3] = [29, 30, 37];
const SYS_ADMIN: u8 = 21;
const SYS_TTY_CONFIG: u8 = 26;

pub(super) const NO_FAMILY: Action = Action::Errno(libc::EAFNOSUPPORT.unsigned_abs());
const PERMITTED: Action = Action::Allow;
pub(super) const REFUSED: Action = Action::Errno(libc::EPERM.unsigned_abs());
pub(super) const MISSING: Action = Action::Errno(libc::ENOSYS.unsigned_abs());
/// All `CLONE_NEW…` that clone(2) has.
const NEW_NAMESPACES: u64 = 0x7e02_0000;
/// `CLONE_NEWTIME` besides, which unshare(2) has.
const NEW_TIME: u64 = 0x80;
const NEW_USER: u64 = 0x1000_0000;

/// The number of the first capability that allows a call by default.
pub(super) fn capability_for(call: &str) -> Option<u8> {
    let allows = |(_, calls): &&(u8, &str)| calls.split_whitespace().any(|one| one == call);
    BY_CAPABILITY.iter().find(allows).map(|(capability, _)| *capability)
}

/// The default profile, widened by what is kept.
pub(super) fn default(kept: &Kept) -> Vec<Rule> {
    let mut list = Vec::new();
    if !kept.nesting_forbidden {
        allow(&mut list, MOUNTING);
        allow(&mut list, NESTING);
        new_keyring(&mut list);
    }
    debugging(kept, &mut list);
    for (capability, calls) in BY_CAPABILITY {
        if kept.has(*capability) {
            allow(&mut list, calls);
        }
    }
    ioctls(kept, &mut list);
    sockets(kept, &mut list);
    personalities(kept, &mut list);
    namespaces(&mut list);
    refuse(&mut list, ABSENT, MISSING);
    allow(&mut list, COMMON);
    allow(&mut list, FULL);
    list
}

/// For a program that computes on its files and streams: no sockets but pairs, no System V and POSIX
/// message queues, no watching of files, no asynchronous I/O, no changes of scheduling, no filters of its own.
pub(super) fn strict(kept: &Kept) -> Vec<Rule> {
    let mut list = Vec::new();
    debugging(kept, &mut list);
    // What terminals, pipes and files are asked by libc.
    for request in [
        0x5401u64,
        0x5402,
        0x5403,
        0x5404,
        0x540f,
        0x5410,
        0x5413,
        0x541b,
        0x5421,
        0x5450,
        0x5451,
        0x802c_542a,
    ] {
        list.push(Rule::with("ioctl", vec![Condition::equal(1, request).low()], PERMITTED));
    }
    pairs(&mut list);
    personalities(kept, &mut list);
    namespaces(&mut list);
    refuse(&mut list, ABSENT, MISSING);
    allow(&mut list, COMMON);
    list
}

/// What comes before any profile: no namespace may be nested or entered, and init is left alone. A
/// nested user namespace would be one in which a full /proc can be mounted.
pub(super) fn guards(kept: &Kept) -> Vec<Rule> {
    let mut list = Vec::new();
    if kept.nesting_forbidden {
        let user = || vec![Condition::masked(0, NEW_USER, NEW_USER).low()];
        list.push(Rule::with("clone", user(), REFUSED));
        list.push(Rule::with("unshare", user(), REFUSED));
        list.push(Rule::new("setns").then(REFUSED));
        // Its flags are in memory, which a filter cannot see; libc then uses clone.
        list.push(Rule::new("clone3").then(MISSING));
    }
    if kept.init_guarded {
        let one = |argument| Condition::equal(argument, 1).low();
        for call in [
            "prlimit64",
            "sched_setaffinity",
            "sched_setattr",
            "sched_setparam",
            "sched_setscheduler",
        ] {
            list.push(Rule::with(call, vec![one(0)], REFUSED));
        }
        // By process, by group, and by user, of whom init may be a process; ioprio counts from 1.
        for (call, process) in [("setpriority", 0u64), ("ioprio_set", 1)] {
            let kind = |kind| Condition::equal(0, process + kind).low();
            list.push(Rule::with(call, vec![kind(0), one(1)], REFUSED));
            list.push(Rule::with(call, vec![kind(1), one(1)], REFUSED));
            list.push(Rule::with(call, vec![kind(2)], REFUSED));
        }
    }
    shared::guards(kept.shared, &mut list);
    if kept.writes_to_host && !kept.has(FSETID) {
        setuid_bits(&mut list);
    }
    list
}

/// No file is made setuid: in a writable bind it would stay, as one of the caller's, and run with the
/// caller's rights. With a mode at its creation it is empty, and loses the bit as soon as it is not.
fn setuid_bits(list: &mut Vec<Rule>) {
    const S_ISUID: u64 = 0o4000;
    for (call, argument) in [("chmod", 1), ("fchmod", 1), ("fchmodat", 2), ("fchmodat2", 2)] {
        let setuid = Condition::masked(argument, S_ISUID, S_ISUID).low();
        list.push(Rule::with(call, vec![setuid], REFUSED));
    }
}

fn allow(list: &mut Vec<Rule>, calls: &str) {
    refuse(list, calls, PERMITTED);
}

pub(super) fn refuse(list: &mut Vec<Rule>, calls: &str, action: Action) {
    list.extend(calls.split_whitespace().map(|call| Rule::new(call).then(action)));
}

/// No typing into a terminal, and no line discipline, which loads old drivers. The kernel looks at
/// the low half of the request only.
fn ioctls(kept: &Kept, list: &mut Vec<Rule>) {
    const TIOCSTI: u64 = 0x5412;
    const TIOCLINUX: u64 = 0x541c;
    const TIOCSETD: u64 = 0x5423;
    if !kept.has(SYS_ADMIN) && !kept.has(SYS_TTY_CONFIG) {
        for request in [TIOCSTI, TIOCLINUX, TIOCSETD] {
            list.push(Rule::with("ioctl", vec![Condition::equal(1, request).low()], REFUSED));
        }
    }
    list.push(Rule::new("ioctl").then(PERMITTED));
}

/// Unix, IPv4 and IPv6; of netlink what tells a program its addresses. Others are old, or lead
/// out of the sandbox (vsock), and all of them load modules.
fn sockets(kept: &Kept, list: &mut Vec<Rule>) {
    const NETLINK: u64 = 16;
    const PACKET: u64 = 17;
    let family = |family| Condition::equal(0, family).low();
    for number in [1, 2, 10] {
        list.push(Rule::with("socket", vec![family(number)], PERMITTED));
    }
    let routes = Condition::equal(2, 0).low();
    list.push(Rule::with("socket", vec![family(NETLINK), routes], PERMITTED));
    if kept.has(NET_ADMIN) || AUDIT.iter().any(|&one| kept.has(one)) {
        list.push(Rule::with("socket", vec![family(NETLINK)], PERMITTED));
    }
    if kept.has(NET_RAW) {
        list.push(Rule::with("socket", vec![family(PACKET)], PERMITTED));
    }
    list.push(Rule::new("socket").then(NO_FAMILY));
    pairs(list);
}

fn pairs(list: &mut Vec<Rule>) {
    let unix = Condition::equal(0, 1).low();
    list.push(Rule::with("socketpair", vec![unix], PERMITTED));
}

/// `PER_LINUX` and `PER_LINUX32`, with or without `UNAME26`, and the question which it is: no
/// switching off of address space randomization but for debuggers.
fn personalities(kept: &Kept, list: &mut Vec<Rule>) {
    const ADDR_NO_RANDOMIZE: u64 = 0x4_0000;
    let plain = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];
    let fixed = plain.iter().take(4).map(|which| which | ADDR_NO_RANDOMIZE);
    for which in plain.into_iter().chain(fixed.filter(|_| kept.debugging)) {
        let exactly = Condition::equal(0, which).low();
        list.push(Rule::with("personality", vec![exactly], PERMITTED));
    }
}

/// Of other processes only what the kernel lets it: its own user's, in its own namespaces, not init.
fn debugging(kept: &Kept, list: &mut Vec<Rule>) {
    if kept.debugging {
        allow(list, TRACING);
    }
}

/// A new one without a name: what a sandbox in the sandbox begins with.
fn new_keyring(list: &mut Vec<Rule>) {
    const JOIN_SESSION_KEYRING: u64 = 1;
    let new = vec![Condition::equal(0, JOIN_SESSION_KEYRING).low(), Condition::equal(1, 0)];
    list.push(Rule::with("keyctl", new, PERMITTED));
}

/// Threads and processes, and a working directory or descriptors of a thread's own.
fn namespaces(list: &mut Vec<Rule>) {
    let none = |mask| vec![Condition::masked(0, mask, 0).low()];
    list.push(Rule::with("clone", none(NEW_NAMESPACES), PERMITTED));
    list.push(Rule::with("unshare", none(NEW_NAMESPACES | NEW_TIME), PERMITTED));
}
