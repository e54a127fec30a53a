//! What `Support::probe` says is so: each entry against the thing itself, on this host as it is and
//! under restrictions such as containers, hardened systems and old kernels have.
#![allow(
    clippy::exit,
    clippy::incompatible_msrv,
    clippy::cast_possible_truncation,
    reason = "a test process, built by a current toolchain"
)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails so")]
#![allow(unsafe_code, reason = "restrictions that a test puts on its own process")]

mod common;
#[path = "common/inside.rs"]
mod inside;
#[path = "common/life.rs"]
mod life;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;

use common::Needs;
use inside::{is_root, open_directory};
use seccompiler::{BpfProgram, SeccompRule};
use seccompiler::{SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter};
use stockade::{
    Ability, Bind, Capability, Command, Feature, Hint, Namespaces, Need, Network, Outcome, Overlay,
    Proc, Sandbox, Seccomp, Stage, Support, View,
};

tests! {
    Needs::Nothing => [
        agrees, tells_of_itself, is_found_again, from_many_threads, leaves_nothing,
        with_child_signals_ignored, without_keyrings, without_time_namespaces,
        without_user_namespaces, without_mount_setattr, without_the_mount_calls,
        without_memory_to_execute, without_exit_information, without_filters,
        with_no_user_namespaces_left, with_no_network_namespaces_left, with_a_masked_proc,
        with_a_read_only_proc_sys, as_root_of_a_user_namespace,
    ];
    Needs::Root => [with_supplementary_groups];
    Needs::Unprivileged => [without_privilege];
}

// ---- the things themselves ---------------------------------------------------------------------

/// An entry's name, and whether it works.
type Thing = (&'static str, fn() -> bool);

/// Every entry's.
fn things() -> Vec<Thing> {
    vec![
        ("default sandbox", || works(Sandbox::new().command("true"))),
        ("init from memory", || {
            let made = shared(Namespaces::empty()).command("true").spawn();
            made.map_err(|error| error.stage()).err() != Some(Some(Stage::Launch))
        }),
        ("user namespace", || is_new(Namespaces::USER, "user")),
        ("user namespace without privilege", unprivileged),
        ("mount namespace", || is_new(base() | Namespaces::MOUNT, "mnt")),
        ("pid namespace", || is_new(base() | Namespaces::PID, "pid")),
        ("network namespace", || is_new(base() | Namespaces::NET, "net")),
        ("ipc namespace", || is_new(base() | Namespaces::IPC, "ipc")),
        ("uts namespace", || is_new(base() | Namespaces::UTS, "uts")),
        ("cgroup namespace", || is_new(base() | Namespaces::CGROUP, "cgroup")),
        ("time namespace", || is_new(base() | Namespaces::TIME, "time")),
        ("/proc with subset=pid", || {
            says(&own_proc(Proc::Processes), "grep -c subset=pid /proc/self/mountinfo", "1")
        }),
        ("/proc with a few files", || {
            says(&own_proc(Proc::Compat), "ls /proc/meminfo", "/proc/meminfo")
        }),
        ("machine of its own in /proc", || {
            let sandbox = shared(base() | Namespaces::MOUNT | Namespaces::PID | Namespaces::TIME);
            let sandbox = sandbox.require(Feature::TimeNamespace).proc(Proc::Compat);
            says(&sandbox.view(View::new().cpus(7)), "grep -c ^processor /proc/cpuinfo", "7")
        }),
        ("hidden host paths", || works(walled().hide_host_paths(true).command("true"))),
        ("full /proc", || says(&own_proc(Proc::Full), "ls -d /proc/meminfo", "/proc/meminfo")),
        ("/sys", || says(&tree(Namespaces::NET).sysfs(), "ls /sys/class/net", "lo")),
        ("POSIX message queues", || {
            says(&tree(Namespaces::IPC).mqueue(), "touch /dev/mqueue/q; ls /dev/mqueue", "q")
        }),
        ("overlays", || {
            let overlay = Overlay::new(["/usr/bin"]);
            let sandbox = tree(Namespaces::empty()).overlay("/overlay", overlay);
            says(&sandbox, "rm /overlay/env && ls /overlay/sh", "/overlay/sh")
        }),
        ("id-mapped mounts", maps_ids),
        ("id of the host's of its own", || {
            let sandbox = shared(Namespaces::USER).own_host_id().uid(7).gid(8);
            says(
                &sandbox,
                "read a b c </proc/self/uid_map; test $b -ge 2013265920 && echo own",
                "own",
            )
        }),
        ("subordinate ids", subordinate),
        ("mount_setattr", || {
            works(tree(Namespaces::empty()).command("true")) && kernel_has(libc::SYS_mount_setattr)
        }),
        ("loopback interface", || in_role(&shared(base() | Namespaces::NET), "loopback")),
        ("system call filter", || {
            let sandbox = Sandbox::new().network(Network::Host).namespaces(base());
            let sandbox = best_effort(sandbox).without_atomic_end();
            says(&sandbox, "grep Seccomp: /proc/self/status | tr -dc 0-9", "2")
        }),
        ("filter with a listener", || {
            let sandbox = Sandbox::new().network(Network::Host).namespaces(base());
            let sandbox = best_effort(sandbox).without_atomic_end().learn();
            says(&sandbox, "echo yes", "yes")
        }),
        ("Landlock, writing", || {
            let sandbox = walled().require(Feature::Landlock);
            common::landlock() >= 2 && works(sandbox.command("true"))
        }),
        ("Landlock, sockets and signals", || {
            let sandbox = shared(base()).require(Feature::LandlockScopes);
            let script = format!("kill -0 {} 2>/dev/null || echo refused", std::process::id());
            common::landlock() >= 6 && says(&sandbox, &script, "refused")
        }),
        ("Landlock, TCP ports", || {
            common::landlock() >= 4 && works(shared(base()).command("true"))
        }),
        ("Landlock, logging", || common::landlock() >= 7 && works(shared(base()).command("true"))),
        ("exec label", || fs::read("/proc/self/attr/current").is_ok()),
        ("sandbox without namespaces", || {
            let lost = Feature::ALL
                .into_iter()
                .filter(|feature| !matches!(feature, Feature::Landlock | Feature::LandlockScopes));
            let sandbox = lost.fold(Sandbox::new().without_namespaces(), Sandbox::best_effort);
            // Without another process: of a root caller the limit counts all of nobody's on the host.
            says(&sandbox, "echo /proc/*", "/proc/*")
        }),
        ("limits of inotify", || {
            let sandbox = best_effort(Sandbox::new().network(Network::Host));
            let sandbox = sandbox.namespaces(Namespaces::USER).without_atomic_end();
            let sandbox = sandbox.require(Feature::InotifyLimits);
            says(&sandbox, "cat /proc/sys/user/max_inotify_instances", "32")
        }),
        ("session keyring", || {
            let sandbox = shared(base()).require(Feature::SessionKeyring);
            in_role(&sandbox, &format!("keyring other than {}", keyring()))
        }),
        ("limit of nested user namespaces", nested_count),
        ("dropping supplementary groups", groups),
        ("raised oom_score_adj", || {
            let sandbox = shared(base()).require(Feature::OomScoreAdj).oom_score_adj(1000);
            says(&sandbox, "cat /proc/self/oom_score_adj", "1000")
        }),
        ("init as PID 1", || pid_inside(true) == Some(2)),
        ("program as PID 1", || pid_inside(false) == Some(1)),
        ("pidfd", || pid_inside(false).is_some() && kernel_has(libc::SYS_pidfd_open)),
        #[cfg(feature = "systemd")]
        ("systemd scopes", has_systemd),
        ("PIDFD_INFO_EXIT", exit_information),
    ]
}

/// Whether a bus of this user's has a manager on it, by another client of it.
#[cfg(feature = "systemd")]
fn has_systemd() -> bool {
    let manager = if is_root() { "--system" } else { "--user" };
    let ping = ["--no-pager", "show-environment", manager];
    let output = std::process::Command::new("systemctl").args(ping).output();
    output.is_ok_and(|output| output.status.success())
}

/// By another user of the same helpers.
fn subordinate() -> bool {
    let output =
        std::process::Command::new("unshare").args(["--user", "--map-auto", "true"]).output();
    output.is_ok_and(|output| output.status.success())
}

fn works(command: Command) -> bool {
    command.status().is_ok_and(|status| status.outcome.is_success())
}

/// Whether a script says this inside.
fn says(sandbox: &Sandbox, script: &str, text: &str) -> bool {
    let output = sandbox.command("/bin/sh").args(["-c", script]).output();
    output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).trim() == text)
}

fn best_effort(sandbox: Sandbox) -> Sandbox {
    Feature::ALL.into_iter().fold(sandbox, Sandbox::best_effort)
}

/// These new namespaces, and the rest of the caller's.
fn shared(new: Namespaces) -> Sandbox {
    let network = if new.contains(Namespaces::NET) { Network::Loopback } else { Network::Host };
    let sandbox = Sandbox::new().network(network).namespaces(new).without_atomic_end();
    let sandbox = best_effort(sandbox).allow_nesting().seccomp(Seccomp::none());
    sandbox.init(!new.contains(Namespaces::PID))
}

/// The user namespace that the others need of most callers.
fn base() -> Namespaces {
    let has = works(shared(Namespaces::USER).command("true"));
    if has { Namespaces::USER } else { Namespaces::empty() }
}

/// The same in which nothing can be mounted.
fn walled() -> Sandbox {
    let sandbox = Sandbox::new().network(Network::Host).proc(Proc::None).without_atomic_end();
    best_effort(sandbox.namespaces(base() | Namespaces::MOUNT))
}

/// A tree without /proc.
fn tree(more: Namespaces) -> Sandbox {
    shared(base() | Namespaces::MOUNT | more).proc(Proc::None)
}

fn own_proc(proc: Proc) -> Sandbox {
    shared(base() | Namespaces::MOUNT | Namespaces::PID).proc(proc)
}

/// Whether a program can be in another namespace than the caller.
fn is_new(new: Namespaces, link: &str) -> bool {
    let sandbox = if new.contains(Namespaces::MOUNT) { tree(new) } else { shared(new) };
    let sandbox = if new.contains(Namespaces::TIME) {
        sandbox.require(Feature::TimeNamespace)
    } else {
        sandbox
    };
    let Ok(child) = sandbox.command("sleep").arg("1000").spawn() else { return false };
    let theirs = fs::read_link(format!("/proc/{}/ns/{link}", child.program_id().unwrap()));
    // In a chroot or the like the links are still there.
    theirs.unwrap() != fs::read_link(format!("/proc/self/ns/{link}")).unwrap()
}

/// An unprivileged process makes a user namespace, and uses the capabilities that it has in it.
fn unprivileged() -> bool {
    let mut command = std::process::Command::new("true");
    if is_root() && !has_one_id() {
        command.uid(65534).gid(65534);
    }
    let unshare = || {
        // SAFETY: takes numbers, in a process of one thread.
        match unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWUTS) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: only a system call is made between fork and exec.
    unsafe { command.pre_exec(unshare) };
    command.status().is_ok_and(|status| status.success())
}

/// Whether a root caller's private file is the program's own.
fn maps_ids() -> bool {
    if !is_root() || has_one_id() {
        return false;
    }
    let directory = open_directory();
    let sandbox = shared(base() | Namespaces::MOUNT)
        .proc(Proc::None)
        .require(Feature::IdMappedMounts)
        .bind(Bind::read_only(directory.path(), "/mnt"));
    says(&sandbox, "test $(stat -c %u /mnt) = $(id -u) && echo own", "own")
}

/// Root of a user namespace may have no other id to become.
fn has_one_id() -> bool {
    let ids = fs::read_to_string("/proc/self/uid_map").unwrap();
    ids.split_whitespace().nth(2) == Some("1")
}

/// Whether a call that makes no sense gets as far as being looked at.
fn kernel_has(call: libc::c_long) -> bool {
    // SAFETY: the kernel refuses these numbers before it follows any pointer.
    let result = unsafe { libc::syscall(call, -1, 0, u32::MAX, 0, 0) };
    result == -1 && std::io::Error::last_os_error().raw_os_error() != Some(libc::ENOSYS)
}

/// The session keyring's serial number, or a negative one.
fn keyring() -> i64 {
    const GET_KEYRING_ID: i32 = 0;
    const SESSION: i32 = -3;
    // SAFETY: takes numbers.
    unsafe { libc::syscall(libc::SYS_keyctl, GET_KEYRING_ID, SESSION, 0) }
}

fn nested_count() -> bool {
    let sandbox = best_effort(Sandbox::new().network(Network::Host).namespaces(Namespaces::USER));
    let sandbox = sandbox.without_atomic_end().require(Feature::NestedUserNamespaceCount);
    says(&sandbox, "cat /proc/sys/user/max_user_namespaces", "0")
}

fn groups() -> bool {
    let sandbox = shared(base()).require(Feature::SupplementaryGroups);
    says(&sandbox, "test $(id -G) = $(id -g) && echo one", "one")
}

fn pid_inside(init: bool) -> Option<u32> {
    let sandbox = shared(base() | Namespaces::PID).init(init);
    let output = sandbox.command("/bin/sh").args(["-c", "echo $$"]).output().ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

/// Whether the exit code is known though nobody waited for the process.
fn exit_information() -> bool {
    let child = life::fork(|| {
        life::ignore(libc::SIGCHLD);
        let sandbox = shared(base() | Namespaces::PID).init(false);
        let status = sandbox.command("/bin/sh").args(["-c", "exit 7"]).status().unwrap();
        assert_eq!(status.outcome, Outcome::Exited(7));
    });
    let mut status = 0;
    // SAFETY: the status is valid for writing.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    status == 0
}

/// Whether this binary, as the program of a sandbox that has the host's tree, says yes.
fn in_role(sandbox: &Sandbox, role: &str) -> bool {
    let binary = std::env::current_exe().unwrap();
    let test = std::env::var("STOCKADE_TEST_CHILD").unwrap();
    let command = sandbox.command(binary).env("STOCKADE_TEST_CHILD", test);
    let output = command.env("STOCKADE_TEST_ROLE", role).output();
    output.is_ok_and(|output| output.stdout == b"yes")
}

/// Plays the role, if there is one.
fn played() -> bool {
    let Some(role) = inside::role() else { return false };
    let yes = match role.strip_prefix("keyring other than ") {
        Some(other) => keyring() > 0 && keyring().to_string() != other,
        None => TcpListener::bind(("127.0.0.1", 0))
            .and_then(|listener| TcpStream::connect(listener.local_addr()?))
            .is_ok(),
    };
    print!("{}", if yes { "yes" } else { "no" });
    true
}

/// Compares all of it with the probe; what is missing, by name.
fn compare() -> BTreeMap<&'static str, Ability> {
    let support = Support::probe();
    let things = things();
    let names: BTreeSet<_> = things.iter().map(|(name, _)| *name).collect();
    assert_eq!(support.iter().map(|ability| ability.name).collect::<BTreeSet<_>>(), names);
    for (name, works) in things {
        let told = support.get(name).unwrap();
        assert_eq!(told.available, works(), "{told:?}\n{support}");
    }
    assert_eq!(support.is_sufficient(), support.get("default sandbox").unwrap().available);
    is_shown(&support);
    let missing = support.into_iter().filter(|ability| !ability.available);
    missing.map(|ability| (ability.name, ability)).collect()
}

/// Every entry has its lines, and what is missing says why.
fn is_shown(support: &Support) {
    let text = support.to_string();
    let mut lines = text.lines();
    let uid = nix::unistd::geteuid();
    assert_eq!(lines.next().unwrap(), format!("Linux {}, uid {uid}", support.release()));
    for ability in support {
        let answer = if ability.available { "yes" } else { "no" };
        let words: Vec<_> = lines.next().unwrap().split("  ").map(str::trim).collect();
        let words: Vec<_> = words.into_iter().filter(|word| !word.is_empty()).collect();
        let need = ability.need.to_string();
        let expected = [answer, ability.name, &need].into_iter().chain(ability.detail.as_deref());
        assert_eq!(words, expected.collect::<Vec<_>>(), "{text}");
        assert!(ability.detail.is_none() || ability.available, "{ability:?}");
        assert_eq!(ability.reason.is_none(), ability.available, "{ability:?}");
        assert!(ability.remedy.is_none() || !ability.available, "{ability:?}");
        if let Some(reason) = &ability.reason {
            assert_eq!(lines.next().unwrap(), format!("     why: {reason}"), "{text}");
            assert!(!reason.is_empty() && !reason.contains("hint:"), "{reason}");
        }
        if let Some(remedy) = &ability.remedy {
            assert_eq!(lines.next().unwrap(), format!("     try: {remedy}"), "{text}");
            assert!(!remedy.is_empty(), "{text}");
        }
    }
    assert_eq!(lines.next(), None, "{text}");
}

/// What such a caller or host may always lack.
const OF_THE_HOST: [&str; 10] = [
    "id-mapped mounts",
    "id of the host's of its own",
    "subordinate ids",
    "PIDFD_INFO_EXIT",
    "systemd scopes",
    "exec label",
    "sandbox without namespaces",
    "Landlock, sockets and signals",
    "Landlock, TCP ports",
    "Landlock, logging",
];

/// Asserts what is missing, besides what always is to such a caller.
fn missing(names: &[&str]) -> BTreeMap<&'static str, Ability> {
    let found = compare();
    let expected: BTreeSet<&str> = names.iter().copied().collect();
    let depends = |name: &&str| OF_THE_HOST.contains(name) && !expected.contains(name);
    let here: BTreeSet<_> = found.keys().copied().filter(|name| !depends(name)).collect();
    assert_eq!(here, expected, "{found:#?}");
    found
}

/// Asserts why something is missing, and what is proposed.
fn because(ability: &Ability, reason: &str, remedy: Option<&str>) {
    assert!(ability.reason.as_ref().unwrap().contains(reason), "{ability:?}");
    assert_eq!(ability.remedy.as_deref(), remedy, "{ability:?}");
}

// ---- as it is ----------------------------------------------------------------------------------

fn agrees() {
    if played() {
        return;
    }
    compare();
}

fn tells_of_itself() {
    let support = Support::probe();
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert_eq!(support.release(), release.trim());
    assert!(support.get("teleportation").is_none());
    assert_eq!(support.iter().count(), things().len());
    assert_eq!((&support).into_iter().count(), support.iter().count());
    let names: Vec<_> = support.iter().map(|ability| ability.name).collect();
    let needs = |need| support.iter().filter(|ability| ability.need == need).count();
    assert!(needs(Need::Default) > needs(Need::NiceToHave) && needs(Need::OnRequest) > 0);
    assert_eq!(support.clone().into_iter().map(|ability| ability.name).collect::<Vec<_>>(), names);
    is_shown(&support);
}

fn is_found_again() {
    let first = Support::probe();
    for _ in 0..5 {
        assert_eq!(Support::probe(), first);
    }
}

fn from_many_threads() {
    let first = Support::probe();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(Support::probe)).collect();
        for thread in threads {
            assert_eq!(thread.join().unwrap(), first);
        }
    });
}

fn leaves_nothing() {
    life::adopt_orphans();
    let files = || fs::read_dir(std::env::temp_dir()).unwrap().count();
    let (mounts, host) = (life::mounts(), host_settings());
    assert_eq!(files(), 0);
    let wardens = || {
        let children = life::children();
        assert!(children.iter().all(|(_, name)| name == "stockade-warden"), "{children:?}");
        children.len()
    };
    let first = Support::probe();
    // The process's own warden, and what is kept for the next spawn.
    assert!(wardens() <= 1);
    let descriptors = life::descriptors();
    for _ in 0..3 {
        assert_eq!(Support::probe(), first);
        assert_eq!(life::descriptors(), descriptors);
        assert!(wardens() <= 1);
    }
    assert_eq!((life::mounts(), host_settings(), files()), (mounts, host, 0));
}

/// What a probe tries to set, on the host.
fn host_settings() -> Vec<String> {
    let files = [
        "/proc/sys/user/max_user_namespaces",
        "/proc/self/oom_score_adj",
        "/proc/sys/kernel/hostname",
        "/proc/self/uid_map",
        "/proc/self/status",
    ];
    let texts = files.map(|file| fs::read_to_string(file).unwrap());
    let fields = texts[4].lines().filter(|line| {
        ["Cap", "SigBlk", "SigIgn", "SigCgt", "Groups", "Uid", "NoNewPrivs", "Seccomp"]
            .iter()
            .any(|field| line.starts_with(field))
    });
    let mut seen: Vec<_> = fields.map(str::to_owned).collect();
    seen.extend_from_slice(&texts[..4]);
    seen.push(keyring().to_string());
    seen
}

fn with_child_signals_ignored() {
    if played() {
        return;
    }
    let usual = Support::probe();
    life::ignore(libc::SIGCHLD);
    let told = usual.get("PIDFD_INFO_EXIT").unwrap().available;
    for (before, now) in usual.iter().zip(&Support::probe()) {
        // Without that nobody can say how a program without init has ended.
        if told || now.name != "program as PID 1" {
            assert_eq!(now, before);
        }
    }
}

fn without_privilege() {
    let support = Support::probe();
    let mapped = support.get("id-mapped mounts").unwrap();
    because(mapped, "only root can make them", None);
}

// ---- under a filter ----------------------------------------------------------------------------

/// A call, and what its arguments must be for the filter to refuse it.
type Refused = (libc::c_long, Vec<SeccompCondition>);

fn call(number: libc::c_long) -> Refused {
    (number, Vec::new())
}

/// A call with any of these bits in an argument.
fn with_bits(number: libc::c_long, argument: u8, bits: i32, value: i32) -> Refused {
    let masked = SeccompCmpOp::MaskedEq(u64::from(bits.cast_unsigned()));
    let length = SeccompCmpArgLen::Dword;
    let value = u64::from(value.cast_unsigned());
    (number, vec![SeccompCondition::new(argument, length, masked, value).unwrap()])
}

/// From now on this process and all that it starts get an error for these calls.
fn refuse(calls: Vec<Refused>, errno: i32) {
    let rule = |conditions: Vec<_>| match conditions.len() {
        0 => Vec::new(),
        _ => vec![SeccompRule::new(conditions).unwrap()],
    };
    let rules = calls.into_iter().map(|(number, conditions)| (number, rule(conditions))).collect();
    let (allow, deny) = (SeccompAction::Allow, SeccompAction::Errno(errno.cast_unsigned()));
    let architecture = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, allow, deny, architecture).unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    // SAFETY: this option takes numbers.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    seccompiler::apply_filter(&program).unwrap();
}

const FILTERED: &str = "a system call filter of the caller's own may forbid it";
const FILTERED_NAMESPACES: &str = "a system call filter of the caller's own may forbid it, as a \
    container's does; without_namespaces() needs none";

fn without_keyrings() {
    if played() {
        return;
    }
    refuse(vec![call(libc::SYS_keyctl)], libc::EPERM);
    let found = missing(&["default sandbox", "session keyring"]);
    because(&found["session keyring"], "join new session keyring: operation", Some(FILTERED));
    because(&found["default sandbox"], "join new session keyring: operation", Some(FILTERED));
    // And the way out that the documentation names is one.
    assert!(works(Sandbox::new().best_effort(Feature::SessionKeyring).command("true")));
}

fn without_time_namespaces() {
    if played() {
        return;
    }
    let time = libc::CLONE_NEWTIME;
    refuse(vec![with_bits(libc::SYS_unshare, 0, time, time)], libc::EINVAL);
    let found = missing(&["default sandbox", "machine of its own in /proc", "time namespace"]);
    because(&found["time namespace"], "unshare time", Some("this needs Linux 5.6 or later"));
    assert!(works(Sandbox::new().best_effort(Feature::TimeNamespace).command("true")));
}

fn without_user_namespaces() {
    if played() {
        return;
    }
    let user = libc::CLONE_NEWUSER;
    let calls = [libc::SYS_clone, libc::SYS_unshare];
    refuse(calls.map(|number| with_bits(number, 0, user, user)).into(), libc::EPERM);
    let found = compare();
    for name in ["user namespace", "user namespace without privilege", "default sandbox"] {
        because(&found[name], "clone", Some(FILTERED_NAMESPACES));
    }
    // Root makes the others without.
    assert_eq!(found.contains_key("pid namespace"), !is_root());
    if !is_root() {
        let hint = Hint::NeedsUserNamespace.to_string();
        because(&found["pid namespace"], "clone", Some(&hint));
    }
}

fn without_mount_setattr() {
    if played() {
        return;
    }
    refuse(vec![call(libc::SYS_mount_setattr)], libc::ENOSYS);
    let names: &[_] =
        if is_root() { &["mount_setattr", "id-mapped mounts"] } else { &["mount_setattr"] };
    let found = missing(names);
    because(&found["mount_setattr"], "(os error 38)", Some("Linux 5.12 has it"));
}

fn without_the_mount_calls() {
    if played() {
        return;
    }
    refuse(vec![call(libc::SYS_fsopen), call(libc::SYS_move_mount)], libc::ENOSYS);
    let found = compare();
    for name in ["default sandbox", "mount namespace", "full /proc"] {
        because(&found[name], "function not implemented", Some("this needs Linux 5.2 or later"));
    }
    assert!(!found.contains_key("network namespace"), "{found:#?}");
}

/// Then there is no sandbox at all, unless the program is given a place.
fn without_memory_to_execute() {
    refuse(vec![call(libc::SYS_memfd_create)], libc::EACCES);
    let support = Support::probe();
    is_shown(&support);
    for ability in support.iter().filter(|ability| ability.need == Need::Default) {
        because(
            ability,
            "memfd_create stockade-init: permission denied",
            ability.remedy.as_deref(),
        );
    }
    assert!(!works(Sandbox::new().command("true")));
    let directory = open_directory();
    assert!(works(Sandbox::new().init_file(directory.path().join("init")).command("true")));
}

fn without_exit_information() {
    if played() {
        return;
    }
    // PIDFD_GET_INFO, whatever the size of its structure.
    let pidfd_get_info = with_bits(libc::SYS_ioctl, 1, 0xffff, 0xff0b);
    refuse(vec![pidfd_get_info], libc::ENOTTY);
    let found = missing(&["PIDFD_INFO_EXIT"]);
    because(&found["PIDFD_INFO_EXIT"], "exit status", Some("Linux 6.15 has it"));
}

fn without_filters() {
    if played() {
        return;
    }
    refuse(vec![call(libc::SYS_seccomp)], libc::ENOSYS);
    let found = compare();
    assert!(found.contains_key("system call filter") && found.contains_key("default sandbox"));
    for name in ["pid namespace", "user namespace"] {
        assert!(!found.contains_key(name), "{found:#?}");
    }
}

// ---- on another host ---------------------------------------------------------------------------

/// Moves this process into new namespaces; its id stays the same, in a user namespace too.
fn unshare(flags: libc::c_int) {
    let caller = [nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()];
    let outside = (is_root() && flags & libc::CLONE_NEWUSER != 0).then(Outside::start);
    // SAFETY: this process has one thread and no pointer is passed.
    assert_eq!(unsafe { libc::unshare(flags) }, 0, "{}", std::io::Error::last_os_error());
    if let Some(outside) = outside {
        outside.map_all();
    } else if flags & libc::CLONE_NEWUSER != 0 {
        map_one(caller, caller);
    }
    if flags & libc::CLONE_NEWNS != 0 {
        mount("none", Path::new("/"), libc::MS_REC | libc::MS_PRIVATE);
    }
}

/// A process that stays outside, as only from there all ids can be mapped.
struct Outside {
    pid: i32,
    tell: std::fs::File,
}

impl Outside {
    fn start() -> Self {
        let (reading, writing) = life::pipe();
        let mapped = std::process::id();
        let pid = life::fork(|| {
            life::await_byte(&reading, "the new namespace");
            for map in ["uid_map", "gid_map"] {
                fs::write(format!("/proc/{mapped}/{map}"), "0 0 4294967295").unwrap();
            }
        });
        Outside { pid, tell: writing.into() }
    }

    fn map_all(mut self) {
        self.tell.write_all(b"!").unwrap();
        life::join(self.pid);
    }
}

/// In a new user namespace: one id, of this caller's, under this name.
fn map_one(caller: [u32; 2], name: [u32; 2]) {
    fs::write("/proc/self/setgroups", "deny").unwrap();
    for (map, index) in [("uid_map", 0), ("gid_map", 1)] {
        let line = format!("{} {} 1", name[index], caller[index]);
        fs::write(format!("/proc/self/{map}"), line).unwrap();
    }
}

/// Mounts of this process's own; for who is not root in a user namespace of its own.
fn own_mounts() {
    unshare(libc::CLONE_NEWNS | if is_root() { 0 } else { libc::CLONE_NEWUSER });
}

fn mount(from: &str, at: &Path, flags: libc::c_ulong) {
    let from = CString::new(from).unwrap();
    let at = CString::new(at.as_os_str().as_bytes()).unwrap();
    let nothing = std::ptr::null();
    // SAFETY: both are NUL-terminated and live until the end of the call.
    let result = unsafe { libc::mount(from.as_ptr(), at.as_ptr(), nothing, flags, nothing.cast()) };
    assert_eq!(result, 0, "{at:?}: {}", std::io::Error::last_os_error());
}

fn with_no_user_namespaces_left() {
    if played() {
        return;
    }
    unshare(libc::CLONE_NEWUSER);
    fs::write("/proc/sys/user/max_user_namespaces", "0").unwrap();
    let support = Support::probe();
    is_shown(&support);
    let hint = Hint::MaxUserNamespaces.to_string();
    for name in ["user namespace", "default sandbox"] {
        because(support.get(name).unwrap(), "clone", Some(&hint));
    }
    let error = Sandbox::new().command("true").spawn().unwrap_err();
    assert_eq!(error.hint(), Some(&Hint::MaxUserNamespaces), "{error}");
}

fn with_no_network_namespaces_left() {
    if played() {
        return;
    }
    unshare(libc::CLONE_NEWUSER);
    fs::write("/proc/sys/user/max_net_namespaces", "0").unwrap();
    let support = Support::probe();
    is_shown(&support);
    let hint = Hint::MaxNamespacesOf(Namespaces::NET).to_string();
    for name in ["network namespace", "loopback interface", "/sys"] {
        because(support.get(name).unwrap(), "clone", Some(&hint));
    }
    because(support.get("default sandbox").unwrap(), "unshare network", Some(&hint));
    for name in ["uts namespace", "pid namespace"] {
        assert!(support.get(name).unwrap().available, "{support}");
    }
}

fn with_a_masked_proc() {
    if played() {
        return;
    }
    own_mounts();
    mount("/dev/null", Path::new("/proc/interrupts"), libc::MS_BIND);
    let found = compare();
    let hint = Hint::MaskedProc.to_string();
    because(&found["full /proc"], "mount proc ", Some(&hint));
    // What the kernel asks of the reduced one, it asks of the default sandbox.
    let reduced = found.contains_key("/proc with subset=pid");
    assert_eq!(found.contains_key("default sandbox"), reduced);
    assert!(works(Sandbox::new().proc(Proc::None).command("true")));
}

fn with_a_read_only_proc_sys() {
    if played() {
        return;
    }
    own_mounts();
    let sys = Path::new("/proc/sys");
    mount("/proc/sys", sys, libc::MS_BIND);
    mount("none", sys, libc::MS_BIND | libc::MS_REMOUNT | libc::MS_RDONLY);
    let found = compare();
    let count = &found["limit of nested user namespaces"];
    because(count, "read-only file system", Some("make /proc/sys writable for the caller"));
    // Required and impossible: an error, and the program has not run.
    let directory = open_directory();
    let sandbox = Sandbox::new().proc(Proc::None).bind_rw(directory.path(), "/data");
    for _ in 0..20 {
        let sandbox = sandbox.clone().require(Feature::NestedUserNamespaceCount);
        let error = sandbox.command("touch").arg("/data/ran").spawn().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EROFS), "{error}");
    }
    assert!(inside::is_absent(&directory.path().join("ran")));
    let sandbox = Sandbox::new().proc(Proc::None);
    for sandbox in [sandbox.clone(), sandbox.capabilities([Capability::SYS_ADMIN])] {
        let child = sandbox.command("true").spawn().unwrap();
        let mut missing = child.missing().to_vec();
        // Not where the program may mount, nor on older kernels.
        missing.retain(|one| !matches!(one, Feature::Landlock | Feature::LandlockScopes));
        assert_eq!(missing, [Feature::InotifyLimits, Feature::NestedUserNamespaceCount]);
    }
}

/// As in a container without subordinate ids: uid 0, and no privilege outside.
fn as_root_of_a_user_namespace() {
    if played() {
        return;
    }
    let caller = [nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()];
    // SAFETY: takes a number, in a process of one thread.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWUSER) }, 0);
    map_one(caller, [0, 0]);
    assert!(is_root());
    compare();
}

fn with_supplementary_groups() {
    if played() {
        return;
    }
    let groups = [65534, 4321];
    // SAFETY: the array is as long as is said.
    assert_eq!(unsafe { libc::setgroups(groups.len(), groups.as_ptr()) }, 0);
    let all = compare();
    assert!(!all.contains_key("dropping supplementary groups"), "{all:#?}");
    // SAFETY: takes a number.
    assert_eq!(unsafe { libc::setgid(65534) }, 0);
    // SAFETY: takes a number.
    assert_eq!(unsafe { libc::setuid(65534) }, 0);
    // A change of ids takes what /proc tells of the process from it, until its next exec.
    // SAFETY: this option takes numbers.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) }, 0);
    let found = compare();
    let dropped = &found["dropping supplementary groups"];
    because(dropped, "an unprivileged process must deny setgroups(2)", None);
    let child = Sandbox::new().command("true").spawn().unwrap();
    let mut missing = child.missing().to_vec();
    // On older kernels.
    missing.retain(|one| !matches!(one, Feature::Landlock | Feature::LandlockScopes));
    assert_eq!(missing, [Feature::SupplementaryGroups]);
}
