//! Namespaces: each new, shared and joined, names and clocks, and what contradicts itself.
#![allow(
    clippy::exit,
    clippy::incompatible_msrv,
    reason = "a test process, built by a current toolchain"
)]
#![allow(unsafe_code, reason = "clocks are read by system calls")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

mod common;
#[path = "common/inside.rs"]
mod inside;

use std::fs::{self, File};
use std::path::PathBuf;

use common::Needs;
use common::ways::Ways;
use inside::{is_root, refused, sh, shell, succeed};
use stockade::{
    Capabilities, Child, Error, Existing, Hint, Namespaces, Network, Outcome, Proc, Rlimits,
    Sandbox, Stage, TimeOffsets,
};

tests_in_all_ways! {
    Needs::Nothing => [
        all_are_new, new_inside_too, each_can_be_shared, two_sandboxes_share_nothing, hostname,
        hostname_is_not_the_hosts, domainname, clocks_forward, clocks_backward, clocks_by_default,
        program_with_init, abort_is_told, join_by_path, join_by_descriptor, join_user_and_network,
        host_network_is_the_hosts, no_network, loopback, cgroup_root_is_hidden,
        joined_network_alone,
    ];
    Needs::Nothing => alone [
        names_are_checked, clocks_below_zero, shared_pids_are_invalid, joined_pids_are_invalid,
        shared_pids_by_name, end_with_shared_pids, kill_with_shared_pids, program_as_pid_1,
        abort_without_init, exit_code_without_init, contradictions_come_together,
        sandbox_is_send_and_sync, the_chain_reads_as_in_the_docs, joined_settings_are_invalid,
        join_of_no_namespace, join_of_the_wrong_kind, join_of_a_missing_path, join_of_two_kinds,
        settings_imply_their_namespace, networks_that_contradict_a_namespace, joined_pids,
        joined_and_gone, joined_user_needs_ids, join_leaves_nothing_behind,
    ];
    Needs::Unprivileged => alone [without_user_namespace, join_without_its_owner];
    Needs::Root => alone [join_each_as_root, one_namespace_alone];
}

const KINDS: [(&str, Namespaces); 8] = [
    ("user", Namespaces::USER),
    ("mnt", Namespaces::MOUNT),
    ("pid", Namespaces::PID),
    ("net", Namespaces::NET),
    ("ipc", Namespaces::IPC),
    ("uts", Namespaces::UTS),
    ("cgroup", Namespaces::CGROUP),
    ("time", Namespaces::TIME),
];

fn asleep(sandbox: &Sandbox) -> Child {
    sandbox.way_to("sleep").arg("1000").spawn().unwrap()
}

fn path(child: &Child, name: &str) -> PathBuf {
    format!("/proc/{}/ns/{name}", child.program_id().unwrap()).into()
}

/// A namespace's identity, such as `net:[4026531840]`.
fn identity(child: &Child, name: &str) -> PathBuf {
    fs::read_link(path(child, name)).unwrap()
}

fn own(name: &str) -> PathBuf {
    fs::read_link(format!("/proc/self/ns/{name}")).unwrap()
}

fn all_are_new() {
    for init in [true, false] {
        let child = asleep(&Sandbox::new().init(init));
        for (name, _) in KINDS {
            assert_ne!(identity(&child, name), own(name), "{name}");
        }
    }
}

fn new_inside_too() {
    for (name, _) in KINDS {
        let inside = sh(&Sandbox::new(), &format!("readlink /proc/self/ns/{name}"));
        assert!(inside.starts_with(name), "{inside}");
        assert_ne!(inside.trim_end(), own(name).to_str().unwrap());
    }
}

fn two_sandboxes_share_nothing() {
    let (one, two) = (asleep(&Sandbox::new()), asleep(&Sandbox::new()));
    for (name, _) in KINDS {
        assert_ne!(identity(&one, name), identity(&two, name), "{name}");
    }
}

fn each_can_be_shared() {
    for (name, kind) in KINDS {
        if kind == Namespaces::USER && !is_root() {
            continue;
        }
        let mut sandbox = Sandbox::new().namespaces(Namespaces::all() - kind);
        if kind == Namespaces::PID {
            sandbox = sandbox.without_atomic_end();
        }
        let child = asleep(&sandbox);
        for (other, _) in KINDS {
            let same = identity(&child, other) == own(other);
            assert_eq!(same, other == name, "{other} with a shared {name}");
        }
        let status = sandbox.way_to("true").status().unwrap();
        assert_eq!(status.outcome, Outcome::Exited(0), "{name}");
    }
}

fn one_namespace_alone() {
    for (name, kind) in KINDS {
        let sandbox = Sandbox::new().namespaces(kind).without_atomic_end();
        let child = asleep(&sandbox);
        for (other, _) in KINDS {
            let same = identity(&child, other) == own(other);
            assert_eq!(same, other != name, "{other} with {name} alone");
        }
    }
}

fn without_user_namespace() {
    let error = refused(&Sandbox::new().namespaces(Namespaces::all() - Namespaces::USER));
    assert_eq!(error.hint(), Some(&Hint::NeedsUserNamespace), "{error}");
    assert_eq!(error.stage(), Some(Stage::Launch));
}

fn hostname() {
    let host = || fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let before = host();
    let sandbox = Sandbox::new().hostname("build");
    assert_eq!(sh(&sandbox, "uname -n; hostname"), "build\nbuild\n");
    let longest = "n".repeat(64);
    let sandbox = Sandbox::new().hostname(&longest);
    assert_eq!(sh(&sandbox, "uname -n").trim_end(), longest);
    assert_eq!(host(), before);
}

fn hostname_is_not_the_hosts() {
    assert_eq!(sh(&Sandbox::new(), "uname -n"), "stockade\n");
    let status = shell(&Sandbox::new(), "hostname changed");
    assert_ne!(status.outcome, Outcome::Exited(0));
}

fn domainname() {
    let inside =
        |sandbox: Sandbox| sh(&sandbox.proc(Proc::Full), "cat /proc/sys/kernel/domainname");
    assert_eq!(inside(Sandbox::new()), "(none)\n");
    assert_eq!(inside(Sandbox::new().domainname("field")), "field\n");
}

fn problems(sandbox: &Sandbox) -> Vec<String> {
    match refused(sandbox) {
        Error::Invalid(problems) => problems,
        other => panic!("{other:?}"),
    }
}

fn names_are_checked() {
    assert_eq!(problems(&Sandbox::new().hostname("").domainname("n".repeat(65))).len(), 2);
    assert_eq!(problems(&Sandbox::new().hostname("a\0b")).len(), 1);
}

/// A clock, in nanoseconds.
fn clock(id: libc::clockid_t) -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the kernel writes into `time` alone.
    assert_eq!(unsafe { libc::clock_gettime(id, &raw mut time) }, 0);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// How far the clocks inside are ahead of those outside: at least, and at most.
fn ahead(sandbox: &Sandbox, test: &str) -> [(i64, i64); 2] {
    let ids = [libc::CLOCK_MONOTONIC, libc::CLOCK_BOOTTIME];
    let before = ids.map(clock);
    let text = succeed(inside::myself(sandbox, test, "clocks"));
    let after = ids.map(clock);
    let inside: Vec<i64> = text.split_whitespace().map(|one| one.parse().unwrap()).collect();
    [0, 1].map(|clock| (inside[clock] - after[clock], inside[clock] - before[clock]))
}

fn assert_offsets(test: &str, offsets: TimeOffsets) {
    if inside::role().is_some() {
        println!("{} {}", clock(libc::CLOCK_MONOTONIC), clock(libc::CLOCK_BOOTTIME));
        return;
    }
    let measured = ahead(&Sandbox::new().time_offsets(offsets), test);
    for ((least, most), wanted) in measured.into_iter().zip([offsets.monotonic, offsets.boottime]) {
        let wanted = wanted * 1_000_000_000;
        assert!(least <= wanted && wanted <= most, "{least} <= {wanted} <= {most}");
    }
}

fn clocks_forward() {
    assert_offsets("clocks_forward", TimeOffsets { monotonic: 1_000_000, boottime: 2_000_000 });
}

fn clocks_backward() {
    let half = clock(libc::CLOCK_MONOTONIC) / 2_000_000_000;
    assert_offsets("clocks_backward", TimeOffsets { monotonic: -half, boottime: -half });
}

fn clocks_by_default() {
    assert_offsets("clocks_by_default", TimeOffsets::default());
}

fn clocks_below_zero() {
    let offsets = TimeOffsets { monotonic: -1_000_000_000, boottime: 0 };
    let error = refused(&Sandbox::new().time_offsets(offsets));
    assert_eq!(error.raw_os_error(), Some(libc::ERANGE), "{error}");
    assert!(error.to_string().contains("monotonic"), "{error}");
}

fn shared_pids() -> Sandbox {
    Sandbox::new().namespaces(Namespaces::all() - Namespaces::PID)
}

fn shared_pids_are_invalid() {
    let problems = problems(&shared_pids());
    assert!(problems[0].contains("without_atomic_end"), "{problems:?}");
}

fn joined_pids_are_invalid() {
    let sandbox = Sandbox::new().join(Namespaces::PID, "/proc/self/ns/pid");
    assert!(problems(&sandbox)[0].contains("without_atomic_end"));
}

fn shared_pids_by_name() {
    let sandbox = shared_pids().without_atomic_end();
    let mut child = sandbox.way_to("sh").args(["-c", "exec sleep 1000"]).spawn().unwrap();
    assert_eq!(child.inner_id(), child.program_id().unwrap());
    child.kill().unwrap();
    child.wait().unwrap();
    // Others' processes are not shown: there is no /proc.
    sh(&sandbox, "test ! -e /proc/1");
}

/// The processes whose command line contains this text.
fn running(marker: &str) -> usize {
    let pids = fs::read_dir("/proc").unwrap().flatten();
    let lines = pids.filter_map(|pid| fs::read(pid.path().join("cmdline")).ok());
    lines.filter(|line| String::from_utf8_lossy(line).contains(marker)).count()
}

/// A program with a child, a daemon and one that ignores signals.
fn family(sandbox: &Sandbox, marker: &str) -> Child {
    use std::io::{BufRead, BufReader};
    let script = format!(
        "sleep {marker} & (setsid sleep {marker} &) ; (trap '' TERM HUP INT; sleep {marker}) & \
         echo ready; exec sleep {marker}"
    );
    let command = sandbox.way_to("sh").args(["-c", &script]);
    let mut child = command.stdout(stockade::Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    child
}

/// Until all have executed what they are: at that moment a process has no command line.
fn await_family(marker: &str) {
    for _ in 0..1000 {
        if running(marker) >= 4 {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("{} of the family", running(marker));
}

fn end_with_shared_pids() {
    let marker = format!("98765.{}", std::process::id());
    let mut child = family(&shared_pids().without_atomic_end(), &marker);
    await_family(&marker);
    child.signal(libc::SIGKILL).unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.outcome, Outcome::Signaled { signal: libc::SIGKILL, core_dumped: false });
    assert!(status.left_count >= 3, "{status:?}");
    assert_eq!(running(&marker), 0);
}

fn kill_with_shared_pids() {
    let marker = format!("87654.{}", std::process::id());
    let child = family(&shared_pids().without_atomic_end(), &marker);
    await_family(&marker);
    drop(child);
    // Without a pid namespace the end is not atomic, but it comes.
    for _ in 0..1000 {
        if running(&marker) == 0 {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!("{} left", running(&marker));
}

fn program_as_pid_1() {
    let sandbox = Sandbox::new().init(false);
    assert_eq!(sh(&sandbox, "echo $$"), "1\n");
    let child = asleep(&sandbox);
    assert_eq!((child.inner_id(), child.program_id()), (1, Some(child.id())));
}

fn program_with_init() {
    // Init itself is not shown.
    sh(&Sandbox::new(), "test $$ != 1 && test ! -e /proc/1");
    let child = asleep(&Sandbox::new());
    assert_ne!(child.inner_id(), 1);
    assert_ne!(child.program_id(), Some(child.id()));
}

fn abort_is_told() {
    if inside::role().is_some() {
        std::process::abort();
    }
    let command = inside::myself(&Sandbox::new(), "abort_is_told", "abort");
    let outcome = command.status().unwrap().outcome;
    assert_eq!(outcome, Outcome::Signaled { signal: libc::SIGABRT, core_dumped: false });
}

fn abort_without_init() {
    if inside::role().is_some() {
        std::process::abort();
    }
    let sandbox = Sandbox::new().init(false);
    let outcome = inside::myself(&sandbox, "abort_without_init", "abort").status().unwrap().outcome;
    // SIGABRT does nothing to a PID 1; libc then ends it in another way.
    let signaled = matches!(outcome, Outcome::Signaled { signal, .. } if signal != libc::SIGABRT);
    assert!(signaled || outcome == Outcome::Exited(127), "{outcome:?}");
}

fn exit_code_without_init() {
    let output = shell(&Sandbox::new().init(false), "exit 42");
    assert_eq!(output.outcome, Outcome::Exited(42));
}

fn contradictions_come_together() {
    let sandbox = Sandbox::new()
        .namespaces(Namespaces::USER)
        .bind_ro("relative", "also/relative")
        .hostname("")
        .nice(40)
        .oom_score_adj(5000)
        .uid(u32::MAX)
        .init(false)
        .rlimits(Rlimits::default().set(stockade::Resource::Cpu, (2, 1)))
        .join(Namespaces::NET, "/proc/self/ns/net")
        .sysfs()
        .mqueue();
    let problems = problems(&sandbox);
    for text in [
        "atomic end",
        "needs init",
        "also/relative",
        "host name",
        "nice",
        "oom_score_adj",
        "uid",
        "RLIMIT_CPU",
        "sysfs",
        "mqueue",
    ] {
        let found = problems.iter().any(|problem| problem.contains(text));
        assert!(found, "{text}: {problems:#?}");
    }
}

fn sandbox_is_send_and_sync() {
    fn both<T: Clone + Send + Sync + std::fmt::Debug>(_: &T) {}
    fn send<T: Send + Sync + std::fmt::Debug>(_: &T) {}
    let sandbox = Sandbox::new();
    both(&sandbox);
    let copy = sandbox.clone().hostname("copy");
    assert_eq!(sh(&sandbox, "uname -n"), "stockade\n");
    assert_eq!(sh(&copy, "uname -n"), "copy\n");
    send(&sandbox.way_to("true"));
    send(&sandbox.way_to("true").spawn().unwrap());
}

fn the_chain_reads_as_in_the_docs() {
    let mut child = Sandbox::new()
        .namespaces(Namespaces::all())
        .capabilities(Capabilities::none())
        .rlimits(Rlimits::default())
        .way_to("true")
        .spawn()
        .unwrap();
    assert_eq!(child.wait().unwrap().outcome, Outcome::Exited(0));
}

/// What joins a namespace of `host` as its owner may: with its user namespace.
fn joining(host: &Child, kind: Namespaces, existing: impl Into<Existing>) -> Sandbox {
    let sandbox = Sandbox::new().join(kind, existing);
    if is_root() {
        return sandbox;
    }
    let uid = nix::unistd::geteuid().as_raw();
    let gid = nix::unistd::getegid().as_raw();
    sandbox.join(Namespaces::USER, path(host, "user")).uid(uid).gid(gid)
}

fn assert_joined(host: &Child, sandbox: &Sandbox, joined: &[&str]) {
    let child = asleep(sandbox);
    for (name, _) in KINDS {
        let same = identity(&child, name) == identity(host, name);
        assert_eq!(same, joined.contains(&name), "{name}");
        assert_ne!(identity(&child, name), own(name), "{name}");
    }
    assert_eq!(shell(sandbox, "exit 3").outcome, Outcome::Exited(3));
}

fn join_by_path() {
    let host = asleep(&Sandbox::new());
    let sandbox = joining(&host, Namespaces::NET, path(&host, "net"));
    let joined: &[&str] = if is_root() { &["net"] } else { &["net", "user"] };
    assert_joined(&host, &sandbox, joined);
}

fn join_by_descriptor() {
    let host = asleep(&Sandbox::new());
    let sandbox = joining(&host, Namespaces::IPC, File::open(path(&host, "ipc")).unwrap());
    let joined: &[&str] = if is_root() { &["ipc"] } else { &["ipc", "user"] };
    assert_joined(&host, &sandbox, joined);
    // The descriptor is used as often as the sandbox is.
    assert_joined(&host, &sandbox, joined);
}

fn join_user_and_network() {
    let host = asleep(&Sandbox::new());
    let ids = sh(&Sandbox::new(), "echo $(id -u) $(id -g)");
    let ids: Vec<u32> = ids.split_whitespace().map(|id| id.parse().unwrap()).collect();
    let sandbox = Sandbox::new()
        .join(Namespaces::USER, path(&host, "user"))
        .join(Namespaces::NET, path(&host, "net"))
        .uid(ids[0])
        .gid(ids[1]);
    assert_joined(&host, &sandbox, &["net", "user"]);
}

fn join_each_as_root() {
    let host = asleep(&Sandbox::new());
    for (name, kind) in KINDS {
        if matches!(kind, Namespaces::USER | Namespaces::PID | Namespaces::MOUNT) {
            continue;
        }
        assert_joined(&host, &Sandbox::new().join(kind, path(&host, name)), &[name]);
    }
}

fn join_without_its_owner() {
    let host = asleep(&Sandbox::new());
    let error = refused(&Sandbox::new().join(Namespaces::NET, path(&host, "net")));
    assert_eq!(error.hint(), Some(&Hint::JoinOwner), "{error}");
    assert_eq!(error.stage(), Some(Stage::Join), "{error}");
    assert!(error.to_string().contains("network"), "{error}");
}

fn joined_user_needs_ids() {
    let host = asleep(&Sandbox::new());
    let problems = problems(&Sandbox::new().join(Namespaces::USER, path(&host, "user")));
    assert!(problems[0].contains("uid("), "{problems:?}");
}

fn joined_settings_are_invalid() {
    let sandbox = Sandbox::new().join(Namespaces::UTS, "/proc/self/ns/uts").hostname("x");
    assert!(problems(&sandbox)[0].contains("uts"));
}

fn join_of_no_namespace() {
    let error = refused(&Sandbox::new().join(Namespaces::NET, "/dev/null"));
    assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{error}");
    assert_eq!(error.stage(), Some(Stage::Join), "{error}");
}

fn join_of_the_wrong_kind() {
    let host = asleep(&Sandbox::new());
    let error = refused(&Sandbox::new().join(Namespaces::NET, path(&host, "uts")));
    assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{error}");
}

fn join_of_a_missing_path() {
    let error = refused(&Sandbox::new().join(Namespaces::NET, "/no/such/namespace"));
    assert_eq!(error.raw_os_error(), Some(libc::ENOENT), "{error}");
    assert!(error.to_string().contains("/no/such/namespace"), "{error}");
}

fn join_of_two_kinds() {
    let kinds = Namespaces::NET | Namespaces::UTS;
    assert_eq!(problems(&Sandbox::new().join(kinds, "/proc/self/ns/net")).len(), 1);
}

fn joined_network_alone() {
    // The caller's own is joined by anybody who may share it.
    if is_root() {
        let child = asleep(&Sandbox::new().join(Namespaces::NET, "/proc/self/ns/net"));
        assert_eq!(identity(&child, "net"), own("net"));
    }
}

fn joined_pids() {
    let host = asleep(&Sandbox::new());
    let sandbox = joining(&host, Namespaces::PID, path(&host, "pid")).without_atomic_end();
    let mut child = asleep(&sandbox);
    assert_eq!(identity(&child, "pid"), identity(&host, "pid"));
    assert!(child.inner_id() < 100, "{}", child.inner_id());
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().outcome, Outcome::Killed);
    assert_eq!(shell(&sandbox, "exit 4").outcome, Outcome::Exited(4));
}

fn joined_and_gone() {
    let mut host = asleep(&Sandbox::new());
    let net = File::open(path(&host, "net")).unwrap();
    let user = File::open(path(&host, "user")).unwrap();
    let ids = if is_root() { 1000 } else { nix::unistd::geteuid().as_raw() };
    host.kill().unwrap();
    host.wait().unwrap();
    let sandbox =
        Sandbox::new().join(Namespaces::NET, net).join(Namespaces::USER, user).uid(ids).gid(ids);
    assert_eq!(shell(&sandbox, "exit 5").outcome, Outcome::Exited(5));
}

fn join_leaves_nothing_behind() {
    let host = asleep(&Sandbox::new());
    let sandbox = joining(&host, Namespaces::NET, path(&host, "net"));
    // What is made once a process.
    let bound = sandbox.clone().bind_ro("/usr", "/srv");
    bound.way_to("true").status().unwrap();
    let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
    let children = || fs::read_to_string("/proc/thread-self/children").unwrap();
    let before = (descriptors(), children());
    for _ in 0..5 {
        sandbox.way_to("true").status().unwrap();
        drop(asleep(&sandbox));
        refused(&sandbox.clone().bind_ro("/no/such", "/srv"));
    }
    assert_eq!((descriptors(), children()), before);
}

fn settings_imply_their_namespace() {
    let sandbox = Sandbox::new()
        .namespaces(Namespaces::USER | Namespaces::PID)
        .hostname("implied")
        .time_offsets(TimeOffsets { monotonic: 5, boottime: 5 })
        .file("/srv/file", "");
    let child = asleep(&sandbox);
    for name in ["uts", "time", "mnt"] {
        assert_ne!(identity(&child, name), own(name), "{name}");
    }
    assert_eq!(identity(&child, "net"), own("net"));
    assert_eq!(sh(&sandbox, "uname -n"), "implied\n");
}

/// What is asked for by name is never silently something else.
fn networks_that_contradict_a_namespace() {
    let shared = Namespaces::all() - Namespaces::NET;
    for network in [Network::None, Network::Loopback] {
        for sandbox in [
            Sandbox::new().network(network).namespaces(shared),
            Sandbox::new().namespaces(shared).network(network),
        ] {
            assert_ne!(identity(&asleep(&sandbox), "net"), own("net"), "{network:?}");
        }
    }
    for sandbox in [
        Sandbox::new().network(Network::Host).namespaces(Namespaces::all()),
        Sandbox::new().join(Namespaces::NET, "/proc/self/ns/net").network(Network::Loopback),
    ] {
        let Error::Invalid(problems) = refused(&sandbox) else { panic!("no contradiction") };
        assert!(problems.iter().any(|problem| problem.contains("network")), "{problems:?}");
    }
    let child = asleep(&Sandbox::new().network(Network::Host).namespaces(shared));
    assert_eq!(identity(&child, "net"), own("net"));
}

fn host_network_is_the_hosts() {
    let child = asleep(&Sandbox::new().network(Network::Host));
    assert_eq!(identity(&child, "net"), own("net"));
}

/// The interfaces inside and whether they are up.
fn interfaces(network: Network) -> String {
    sh(&Sandbox::new().network(network).sysfs(), "cd /sys/class/net; ls; cat lo/flags")
}

fn no_network() {
    // IFF_LOOPBACK
    assert_eq!(interfaces(Network::None), "lo\n0x8\n");
}

fn loopback() {
    // IFF_UP and IFF_LOOPBACK
    assert_eq!(interfaces(Network::Loopback), "lo\n0x9\n");
    let addresses = sh(&Sandbox::new(), "cat /proc/self/net/if_inet6 /proc/self/net/fib_trie");
    assert!(addresses.contains("00000000000000000000000000000001"), "{addresses}");
    assert!(addresses.contains("127.0.0.1"), "{addresses}");
}

fn cgroup_root_is_hidden() {
    for line in sh(&Sandbox::new(), "cat /proc/self/cgroup").lines() {
        assert!(line.ends_with(":/"), "{line}");
    }
}
