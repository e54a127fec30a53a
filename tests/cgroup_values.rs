//! What each further value of a controller does: the kernel's doing is looked at, not what was
//! written, and beside it a sandbox to which it was not given.
#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    clippy::exit,
    reason = "a test process, built by a current toolchain"
)]

mod common;
#[path = "common/groups.rs"]
mod groups;
#[path = "common/inside.rs"]
mod inside;
#[path = "common/mounts.rs"]
mod mounts;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{Needs, is_v1, memory_in_kib, moment};
use groups::{Delegated, group_file, group_path, one_victim, warden};
use inside::{myself, myself_outside, refused, role, shell, status_field};
use mounts::private_hierarchies;
use stockade::{
    Capability, CgroupParent, Child, Cpu, Cpuset, Error, Event, Feature, Io, Limits, Max, Memory,
    Misc, Namespaces, Outcome, Partition, PerfEvent, Rdma, Sandbox, Stdio,
};

const MIB: u64 = 1 << 20;

tests_also_delegated! {
    Needs::Groups => [
        page_cache_is_given_back_at_the_limit,
        an_idle_sandbox_gives_way,
        bursts_use_what_was_saved,
    ];
    Needs::RootAndController("cpuset") => [cpus_that_the_parent_lacks_are_an_error];
    Needs::GroupsAndSwap => [swap_is_what_is_allowed];
    Needs::RootAndV1Swap => [swappiness_of_v1_lets_it_swap_or_not];
    Needs::RootAndV1LittleMemory => [a_soft_limit_of_v1_is_whom_memory_is_taken_from];
    Needs::GroupsAndV2("memory") => [
        memory_high_holds_back_and_kills_nothing,
        an_oom_group_ends_as_one,
        an_oom_group_ends_a_session,
    ];
    Needs::RootAndV2("memory") => [what_is_protected_is_taken_last_or_never];
    Needs::RootAndV2("cpuset") => [
        a_partition_has_its_cpus_alone,
        a_killed_owners_partition_is_given_back,
    ];
    Needs::RootAndV2("io") => [a_target_of_latency_is_the_kernels_or_an_error];
    Needs::RootAndV2("misc") => [scalar_resources_are_those_that_there_are];
    Needs::RootAndRdma => [rdma_devices_are_limited];
    Needs::RootAndRealTimeGroups => [
        real_time_stops_at_its_runtime,
        a_real_time_period_changes,
        a_real_time_caller_has_groups_as_others,
    ];
    Needs::RootAndUnmounted(&["perf_event"]) => [events_are_counted_by_group];
}

/// A directory on a disk, for page cache that can be given back; everybody may write there.
fn on_disk() -> tempfile::TempDir {
    let directory = tempfile::tempdir_in("/var/tmp").unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    directory
}

fn limited_memory(directory: &Path, memory: Memory) -> Sandbox {
    Sandbox::new().limits(Limits::new().memory(memory)).bind_rw(directory, "/data")
}

/// Writes three times as much to a disk as is the limit of the tests, when it is told to.
const FILL: &str = "read go; dd if=/dev/zero of=/data/file bs=64k count=768 2>/dev/null || exit 7";

/// The end of that, and all events of it.
fn filled(sandbox: &Sandbox) -> (Child, Vec<Event>) {
    let command = sandbox.command("sh").args(["-c", FILL]).stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let events = child.events().unwrap();
    child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let events = events.map(Result::unwrap).collect();
    assert_eq!(child.wait().unwrap().outcome, Outcome::Exited(0));
    (child, events)
}

fn page_cache_is_given_back_at_the_limit() {
    let directory = on_disk();
    let fill = |max| filled(&limited_memory(directory.path(), Memory::new().max(max)));
    let (mut child, events) = fill(16 * MIB);
    let memory = child.stats().unwrap().memory;
    assert!(memory.limit_hits.is_none_or(|hits| hits > 0), "{memory:?}");
    assert!(memory.limit_hits.is_some() || is_v1("memory") == Some(true), "{memory:?}");
    assert_eq!(memory.oom_kills, Some(0));
    if let Some(peak) = memory.peak {
        assert!((8 * MIB..=16 * MIB).contains(&peak), "{memory:?}");
    }
    // On v1 older kernels keep that word from all but root.
    let word = fs::metadata("/sys/fs/cgroup/memory/memory.pressure_level");
    let open = word.map_or(true, |file| file.permissions().mode() & 0o4 != 0);
    if open || nix::unistd::geteuid().is_root() {
        assert!(events.contains(&Event::MemoryMax), "{events:?}");
    }
    let (mut child, events) = fill(1024 * MIB);
    let memory = child.stats().unwrap().memory;
    assert_eq!((memory.limit_hits, events), (Some(0), Vec::new()));
    if let Some(peak) = memory.peak {
        assert!(peak > 32 * MIB, "{memory:?}");
    }
}

fn memory_high_holds_back_and_kills_nothing() {
    let directory = on_disk();
    let fill = |high| filled(&limited_memory(directory.path(), Memory::new().high(high)));
    let (mut child, events) = fill(16 * MIB);
    let memory = child.stats().unwrap().memory;
    assert!(memory.high_hits.unwrap() > 0, "{memory:?}");
    assert_eq!(memory.oom_kills, Some(0));
    assert!(events.contains(&Event::MemoryHigh), "{events:?}");
    assert!(memory.peak.is_none_or(|peak| peak < 32 * MIB), "{memory:?}");
    let (mut child, events) = fill(1024 * MIB);
    let memory = child.stats().unwrap().memory;
    assert_eq!((memory.high_hits, events), (Some(0), Vec::new()));
    assert!(memory.peak.is_none_or(|peak| peak > 32 * MIB), "{memory:?}");
}

fn an_oom_group_ends_as_one() {
    let with = |all| {
        let memory = Memory::new().max(32 * MIB).oom_group(all);
        let sandbox = Sandbox::new().limits(Limits::new().memory(memory));
        shell(&sandbox, "sleep 1000 & tail /dev/zero; kill -0 $! && exit 3")
    };
    let output = with(true);
    assert!(matches!(output.outcome, Outcome::OutOfMemory { .. }), "{output:?}");
    // The shell, what it waits for, and what it has left to itself.
    assert!(output.usage.unwrap().stats.memory.oom_kills.unwrap() >= 3);
    let output = one_victim(|| with(false));
    assert_eq!(output.outcome, Outcome::Exited(3));
    assert_eq!(output.usage.unwrap().stats.memory.oom_kills, Some(1));
}

/// The kernel takes the init of a session along.
fn an_oom_group_ends_a_session() {
    for all in [true, false] {
        let memory = Memory::new().max(32 * MIB).oom_group(all);
        let sandbox = Sandbox::new().limits(Limits::new().memory(memory));
        let session = sandbox.prepare().unwrap().session().unwrap();
        let mut beside = session.command("sleep").arg("1000").spawn().unwrap();
        let outcome = session.command("tail").arg("/dev/zero").status().unwrap().outcome;
        let next = session.command("true").status();
        if all {
            for outcome in [outcome, beside.wait().unwrap().outcome] {
                assert!(matches!(outcome, Outcome::InitKilled { .. }), "{outcome}");
            }
            assert_eq!(next.unwrap_err().raw_os_error(), Some(libc::ESRCH));
        } else {
            assert_eq!(outcome, Outcome::Signaled { signal: libc::SIGKILL, core_dumped: false });
            assert_eq!(next.unwrap().outcome, Outcome::Exited(0));
        }
        // What no program's own outcome says.
        assert!(session.stats().unwrap().memory.oom_kills.unwrap() > 0);
    }
}

/// What is to become of a sandbox's page cache when another one below the same limit needs the memory:
/// how much remains, how often the kernel took what is to be spared, and whether the other one had it.
fn under_pressure(parent: &Delegated, memory: Memory) -> (u64, u64, Outcome) {
    let directory = on_disk();
    let with = |memory, script| {
        let sandbox = limited_memory(directory.path(), memory).cgroup_parent(parent.parent());
        let command = sandbox.command("sh").args(["-c", script]).stdin(Stdio::piped());
        command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
    };
    let keep = "dd if=/dev/zero of=/data/kept bs=64k count=256 conv=fsync; echo; read end";
    let mut keeps = with(memory, keep);
    BufReader::new(keeps.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    // It holds that much at a time.
    let need = "head -c 20M /dev/zero | tail -c 20M >/dev/null || exit 7";
    let outcome = with(Memory::new(), need).wait().unwrap().outcome;
    let events = group_file(&keeps, "memory", "memory.events");
    let low = events.lines().find_map(|line| line.strip_prefix("low ")).unwrap();
    (keeps.stats().unwrap().memory.file.unwrap(), low.parse().unwrap(), outcome)
}

fn what_is_protected_is_taken_last_or_never() {
    let parent = Delegated::to(0);
    fs::write(parent.v2().join("memory.max"), (32 * MIB).to_string()).unwrap();
    fs::write(parent.v2().join("memory.swap.max"), "0").unwrap();
    let (kept, low, outcome) = under_pressure(&parent, Memory::new());
    assert!(kept < 14 * MIB && low == 0 && outcome == Outcome::Exited(0), "{kept} {low} {outcome}");
    let (kept, low, outcome) = under_pressure(&parent, Memory::new().low(24 * MIB));
    assert!(kept < 14 * MIB && low > 0 && outcome == Outcome::Exited(0), "{kept} {low} {outcome}");
    let (kept, _, outcome) = under_pressure(&parent, Memory::new().min(24 * MIB));
    // Where the kernel takes more than the one that needs it, its shell as well.
    let without = matches!(outcome, Outcome::Exited(7) | Outcome::OutOfMemory { .. });
    assert!(kept >= 15 * MIB && without, "{kept} {outcome}");
}

fn swap_is_what_is_allowed() {
    let with = |memory: Memory| {
        let sandbox = Sandbox::new().limits(Limits::new().memory(memory.max(32 * MIB)));
        let script = "head -c 48M /dev/zero | tail -c 48M >/dev/null || exit 7";
        let output = one_victim(|| shell(&sandbox, script));
        (output.outcome, output.usage.unwrap().stats.memory.oom_kills)
    };
    assert_eq!(with(Memory::new()), (Outcome::Exited(7), Some(1)), "none by default");
    assert_eq!(with(Memory::new().swap(4 * MIB)), (Outcome::Exited(7), Some(1)));
    assert_eq!(with(Memory::new().swap(64 * MIB)), (Outcome::Exited(0), Some(0)));
    assert_eq!(with(Memory::new().swap(Max::Unlimited)), (Outcome::Exited(0), Some(0)));
}

/// Nothing of a process is swapped out for its group's sake where that is 0, and there is no other way.
fn swappiness_of_v1_lets_it_swap_or_not() {
    let with = |readiness| {
        let memory = Memory::new().max(32 * MIB).swap(Max::Unlimited).swappiness(readiness);
        let sandbox = Sandbox::new().limits(Limits::new().memory(memory));
        let script = "head -c 48M /dev/zero | tail -c 48M >/dev/null || exit 7";
        let output = one_victim(|| shell(&sandbox, script));
        (output.outcome, output.usage.unwrap().stats.memory.oom_kills)
    };
    assert_eq!(with(0), (Outcome::Exited(7), Some(1)));
    assert_eq!(with(60), (Outcome::Exited(0), Some(0)));
}

/// When the machine has no more: first whatever is above such a limit.
fn a_soft_limit_of_v1_is_whom_memory_is_taken_from() {
    let keep = "dd if=/dev/zero of=/data/kept bs=64k count=1024 conv=fsync; echo; read end";
    let keeps = |memory| {
        let directory = on_disk();
        let sandbox = limited_memory(directory.path(), memory);
        let command = sandbox.command("sh").args(["-c", keep]).stdin(Stdio::piped());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
        (child, directory)
    };
    let mut all = [keeps(Memory::new().soft_limit(8 * MIB)), keeps(Memory::new())];
    let mut kept = || all.each_mut().map(|(child, _)| child.stats().unwrap().memory.file.unwrap());
    assert!(kept().iter().all(|&bytes| bytes >= 60 * MIB), "{:?}", kept());
    // All that is free, and half of what both keep.
    let need = i64::try_from(memory_in_kib("MemFree") << 10).unwrap() + (64 << 20);
    // SAFETY: a name that ends in NUL.
    let memory = unsafe { libc::memfd_create(c"need".as_ptr(), libc::MFD_CLOEXEC) };
    // SAFETY: takes numbers.
    assert_eq!(unsafe { libc::posix_fallocate(memory, 0, need) }, 0);
    let [limited, other] = kept();
    assert!(limited < 32 * MIB && limited * 2 < other, "{limited} {other}");
}

/// A busy loop on the first CPU.
fn spin(cpu: Cpu) -> Child {
    let limits = Limits::new().cpu(cpu).cpu_time(Duration::from_secs(60));
    let sandbox = Sandbox::new().limits(limits).cpus("0");
    sandbox.command("sh").args(["-c", "while :; do :; done"]).spawn().unwrap()
}

fn usage(child: &mut Child) -> Duration {
    child.stats().unwrap().cpu.usage.unwrap()
}

fn an_idle_sandbox_gives_way() {
    for (idle, at_least) in [(true, 8), (false, 0)] {
        let (mut first, mut second) = (spin(Cpu::new().idle(idle)), spin(Cpu::new().weight(100)));
        let before = [usage(&mut first), usage(&mut second)];
        loop {
            let used = [usage(&mut first) - before[0], usage(&mut second) - before[1]];
            if used[0] + used[1] > Duration::from_secs(1) {
                assert!(used[1] > used[0] * at_least, "{used:?}");
                // Both have the same without it, give or take what others do.
                assert!(idle || used[0] * 4 > used[1], "{used:?}");
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn bursts_use_what_was_saved() {
    let bursts = |burst| {
        let cpu = Cpu::new().limit(0.2).period(Duration::from_millis(50)).burst(burst);
        let limits = Limits::new().cpu(cpu).cpu_time(Duration::from_secs(60));
        let sandbox = Sandbox::new().limits(limits);
        // A little less than the quota allows in a long while, at once.
        let work = 20_000 / common::slowness();
        let script = format!(
            "i=0; while [ $i -lt 20 ]; do i=$((i + 1)); sleep 0.2; j=0; \
             while [ $j -lt {work} ]; do j=$((j + 1)); done; done; echo; read end"
        );
        let command = sandbox.command("sh").args(["-c", &script]).stdin(Stdio::piped());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
        let stat = group_file(&child, "cpu", "cpu.stat");
        let mut lines = stat.lines().filter_map(|line| line.split_once(' '));
        lines.find(|(key, _)| *key == "nr_bursts").unwrap().1.parse::<u64>().unwrap()
    };
    assert_eq!(bursts(Duration::ZERO), 0);
    assert!(bursts(Duration::from_millis(10)) > 0);
}

/// v1 refuses such a list; v2 takes it, and gives what the group above has.
fn cpus_that_the_parent_lacks_are_an_error() {
    let parent = Delegated::to(0);
    fs::write(parent.of("cpuset").join("cpuset.cpus"), "0").unwrap();
    let with = |cpus: &str| Sandbox::new().cpus(cpus).cgroup_parent(parent.parent());
    assert_eq!(with("0").command("true").status().unwrap().outcome, Outcome::Exited(0));
    let error = refused(&with("1"));
    if is_v1("cpuset") == Some(true) {
        assert_eq!(error.raw_os_error(), Some(libc::EACCES), "{error}");
    } else {
        is_denied(&error, "the group above has none of the CPUs 1, and the kernel gives 0");
    }
    assert!(parent.content().is_empty());
}

fn is_denied(error: &Error, text: &str) {
    let feature = Feature::CpusetLimits;
    let ours = matches!(error, Error::Unsupported { feature: found, .. } if *found == feature);
    assert!(ours && error.to_string().contains(text), "{error}");
}

fn partition(cpus: &str, kind: Partition, parent: CgroupParent) -> Sandbox {
    let cpuset = Cpuset::new().cpus(cpus).partition(kind);
    Sandbox::new().limits(Limits::new().cpuset(cpuset)).cgroup_parent(parent)
}

/// Only one test has CPUs for itself at a time.
fn alone() -> nix::fcntl::Flock<fs::File> {
    let myself = fs::File::open(std::env::current_exe().unwrap()).unwrap();
    nix::fcntl::Flock::lock(myself, nix::fcntl::FlockArg::LockExclusive).unwrap()
}

fn a_partition_has_its_cpus_alone() {
    let _alone = alone();
    a_partition_that_cannot_be_is_an_error();
    let root = || CgroupParent::Path("/".into());
    let allowed = || status_field(std::process::id(), "Cpus_allowed_list");
    let before = allowed();
    assert_eq!(before, "0-1");
    for (kind, name) in [(Partition::Root, "root"), (Partition::Isolated, "isolated")] {
        let sandbox = partition("1", kind, root());
        let child = sandbox.command("sleep").arg("1000").spawn().unwrap();
        assert_eq!(group_file(&child, "cpuset", "cpuset.cpus.partition"), name);
        assert_eq!(status_field(child.program_id().unwrap(), "Cpus_allowed_list"), "1");
        assert_eq!(allowed(), "0", "everybody else has the rest");
        // Some kernels refuse the CPUs, others the partition.
        let error = refused(&sandbox);
        let by_kernel = error.raw_os_error() == Some(libc::EINVAL);
        assert!(by_kernel || error.to_string().contains("invalid"), "{error}");
        drop(child);
        // The kernel takes a group apart later than it removes it.
        for _ in 0..1000 {
            if allowed() == before {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(allowed(), before);
    }
    let member = partition("1", Partition::Member, root()).command("sleep").arg("1000").spawn();
    assert_eq!((allowed(), member.is_ok()), (before, true));
}

/// Its warden gives the CPUs back; and who comes next, where that is gone as well.
fn a_killed_owners_partition_is_given_back() {
    const TEST: &str = "a_killed_owners_partition_is_given_back";
    let root = || CgroupParent::Path("/".into());
    match role().as_deref() {
        Some("owner") => {
            let sandbox = partition("1", Partition::Root, root());
            let _child = sandbox.command("sleep").arg("1000").spawn().unwrap();
            println!("{}", warden());
            loop {
                std::thread::park();
            }
        }
        Some(_) => {
            let sandbox = Sandbox::new().cpus("0").cgroup_parent(root());
            assert_eq!(sandbox.command("true").status().unwrap().outcome, Outcome::Exited(0));
            return;
        }
        None => {}
    }
    let _alone = alone();
    let allowed = || status_field(std::process::id(), "Cpus_allowed_list");
    let before = allowed();
    assert_eq!(before, "0-1");
    for by_warden in [true, false] {
        let mut owner =
            myself_outside(TEST, "owner").stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(owner.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let warden: i32 = line.trim().parse().unwrap();
        assert!(warden > 0);
        assert_eq!(allowed(), "0");
        if !by_warden {
            // SAFETY: kill takes numbers.
            assert_eq!(unsafe { libc::kill(warden, libc::SIGKILL) }, 0);
        }
        owner.kill().unwrap();
        owner.wait().unwrap();
        for _ in 0..1000 {
            if allowed() == before {
                break;
            }
            if !by_warden {
                assert!(myself_outside(TEST, "next").status().unwrap().success());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(allowed(), before, "by its warden: {by_warden}");
    }
}

/// Most distributions' kernels have none.
fn a_target_of_latency_is_the_kernels_or_an_error() {
    let parent = Delegated::to(0);
    let io = Io::new().latency(Path::new("/var/tmp"), Duration::from_millis(10));
    let sandbox = Sandbox::new().limits(Limits::new().io(io)).cgroup_parent(parent.parent());
    if parent.v2().join("io.latency").exists() {
        let child = sandbox.command("sleep").arg("1000").spawn().unwrap();
        let targets = group_file(&child, "blkio", "io.latency");
        assert!(targets.ends_with(" target=10000"), "{targets}");
        return;
    }
    let error = refused(&sandbox);
    assert!(matches!(error, Error::Unsupported { feature: Feature::IoLimits, .. }), "{error}");
    assert!(error.to_string().contains("io.latency"), "{error}");
    let sandbox = sandbox.best_effort(Feature::IoLimits);
    let child = sandbox.command("true").spawn().unwrap();
    assert!(child.missing().contains(&Feature::IoLimits));
}

/// Only the root of the hierarchy is the root of a partition by itself.
fn a_partition_that_cannot_be_is_an_error() {
    let parent = Delegated::to(0);
    let sandbox = partition("1", Partition::Root, parent.parent());
    is_denied(&refused(&sandbox), "has to be the root of a partition");
    assert!(parent.content().is_empty());
    let sandbox = sandbox.best_effort(Feature::CpusetLimits);
    let child = sandbox.command("true").spawn().unwrap();
    assert!(child.missing().contains(&Feature::CpusetLimits));
}

/// What the controllers of scalar resources and of RDMA have is the hardware's.
fn scalar_resources_are_those_that_there_are() {
    let with = |name: &str| Sandbox::new().limits(Limits::new().misc(Misc::new().max(name, 3)));
    let error = refused(&with("no_such_resource"));
    assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{error}");
    let parent = Delegated::to(0);
    let all = fs::read_to_string(parent.v2().parent().unwrap().join("misc.capacity")).unwrap();
    for name in all.lines().filter_map(|line| line.split(' ').next()) {
        let child = with(name).command("sleep").arg("1000").spawn().unwrap();
        let limits = group_file(&child, "misc", "misc.max");
        assert!(limits.lines().any(|line| line == format!("{name} 3")), "{limits}");
    }
}

fn rdma_devices_are_limited() {
    let with = |name: &str| {
        Sandbox::new().limits(Limits::new().rdma(Rdma::new().max(name, 3, Max::Unlimited)))
    };
    let error = refused(&with("no_such_device"));
    assert_eq!(error.raw_os_error(), Some(libc::ENODEV), "{error}");
    for device in fs::read_dir("/sys/class/infiniband").unwrap().flatten() {
        let name = device.file_name().into_string().unwrap();
        let child = with(&name).command("sleep").arg("1000").spawn().unwrap();
        let limits = group_file(&child, "rdma", "rdma.max");
        let wanted = format!("{name} hca_handle=3 hca_object=max");
        assert!(limits.lines().any(|line| line == wanted), "{limits}");
    }
}

/// A loop with a real-time priority, if that is granted, on the first CPU.
fn real_time_loop(cpu: Cpu) -> (Child, bool) {
    let limits = Limits::new().cpu(cpu).cpu_time(Duration::from_secs(60));
    let sandbox = Sandbox::new().limits(limits).cpus("0").as_host_root();
    let sandbox = sandbox.allow_host_capabilities().capabilities([Capability::SYS_NICE]);
    let sandbox = sandbox.namespaces(Namespaces::all() - Namespaces::USER);
    let command = myself(&sandbox, "real_time_stops_at_its_runtime", "loop");
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (child, line == "granted\n")
}

fn real_time_stops_at_its_runtime() {
    if role().is_some() {
        let priority = libc::sched_param { sched_priority: 1 };
        // SAFETY: valid for reading.
        let set = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const priority) };
        println!("{}", if set == 0 { "granted" } else { "refused" });
        loop {
            std::hint::spin_loop();
        }
    }
    // v1's groups have no time for it unless they are given some.
    assert!(!real_time_loop(Cpu::new()).1);
    let share = |milliseconds| {
        let runtime = Duration::from_millis(milliseconds);
        let cpu = Cpu::new().realtime(runtime, Duration::from_millis(100));
        let (mut child, granted) = real_time_loop(cpu);
        assert!(granted);
        let (before, began) = (usage(&mut child), Instant::now());
        std::thread::sleep(Duration::from_secs(2));
        (usage(&mut child) - before).as_secs_f64() / began.elapsed().as_secs_f64()
    };
    let (little, much) = (share(5), share(50));
    // Others may have been there as well: it is never more.
    assert!(little < 0.1 && little > 0.0, "{little}");
    assert!(much < 0.6 && much > little * 2.0, "{much} {little}");
}

fn a_real_time_period_changes() {
    let with = |runtime, period| {
        let [runtime, period] = [runtime, period].map(Duration::from_millis);
        Limits::new().cpu(Cpu::new().realtime(runtime, period))
    };
    let sandbox = Sandbox::new().limits(with(200, 1000));
    let mut child = sandbox.command("sleep").arg("1000").spawn().unwrap();
    for (runtime, period) in [(20, 100), (150, 1000), (10, 50)] {
        child.update(&with(runtime, period)).unwrap();
        for (file, value) in [("cpu.rt_runtime_us", runtime), ("cpu.rt_period_us", period)] {
            assert_eq!(group_file(&child, "cpu", file), (value * 1000).to_string());
        }
    }
}

fn a_real_time_caller_has_groups_as_others() {
    let priority = libc::sched_param { sched_priority: 1 };
    // SAFETY: valid for reading.
    let set = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const priority) };
    assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
    for init in [true, false] {
        let sandbox = Sandbox::new().cpu_limit(0.5).pids_limit(5).init(init);
        let child = sandbox.command("sleep").arg("1000").spawn().unwrap();
        let program = child.program_id().unwrap();
        let group = fs::read_to_string(format!("/proc/{program}/cgroup")).unwrap();
        assert!(group.lines().any(|line| line.contains("cpu:/stockade-")), "{group}");
    }
    // SAFETY: takes a number.
    assert_eq!(unsafe { libc::sched_getscheduler(0) }, libc::SCHED_FIFO);
}

/// How long a group was on the first CPU, by a counter of the kernel's.
fn count_cpu_clock(group: &Path) -> OwnedFd {
    // Type "software", the size of the attributes, and the CPU's clock.
    let mut attributes = [0u32; 16];
    attributes[..2].copy_from_slice(&[1, 64]);
    let group = fs::File::open(group).unwrap();
    let (flag, cpu, nobody) = (1 << 2, 0, -1);
    // SAFETY: the attributes are as long as they say.
    let counter = unsafe {
        let (attributes, group) = (attributes.as_ptr(), group.as_raw_fd());
        libc::syscall(libc::SYS_perf_event_open, attributes, group, cpu, nobody, flag)
    };
    assert!(counter >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: nobody else has it.
    unsafe { OwnedFd::from_raw_fd(i32::try_from(counter).unwrap()) }
}

fn events_are_counted_by_group() {
    let directory = private_hierarchies(&["perf_event"]);
    let start = |script: &str| {
        let sandbox = Sandbox::new().limits(Limits::new().perf_event(PerfEvent)).cpus("0");
        let child = sandbox.command("sh").args(["-c", script]).spawn().unwrap();
        let counter = count_cpu_clock(&group_path(&child, "perf_event"));
        (child, fs::File::from(counter))
    };
    let read = |counter: &mut fs::File| {
        let mut number = [0; 8];
        counter.read_exact(&mut number).unwrap();
        Duration::from_nanos(u64::from_ne_bytes(number))
    };
    let (_busy, mut busy) = start("while :; do :; done");
    let (_waits, mut waits) = start("exec sleep 1000");
    let before = read(&mut waits);
    while read(&mut busy) < moment(300) {
        std::thread::sleep(Duration::from_millis(10));
    }
    // It may still have been on its way to sleep.
    assert!(read(&mut waits) - before < moment(100));
    drop((_busy, _waits));
    mounts::unmount_all(&directory);
}
