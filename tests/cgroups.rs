//! Limits by control groups: that the kernel enforces them, what comes back, and that nothing is
//! left.
#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    clippy::incompatible_msrv,
    clippy::cast_possible_truncation,
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
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::ways::Ways;
use common::{HugePages, Needs, is_v1, moment, rounds, slowness};
use groups::{Delegated, delegated_to_me, group_file, group_path, one_victim, warden};
use inside::{is_root, myself, myself_outside, refused, role, sh, sh_fails, shell};
use mounts::{mount, own_mounts, private_hierarchies, unmount, unmount_all};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use stockade::{
    Bind, CgroupParent, Child, Cpu, CpuStats, DeviceRule, Devices, Error, Event, Feature, Hint,
    IoLimit, IoStats, Landlock, Limits, Memory, NetCls, NetPrio, Network, Outcome, PerfEvent, Pids,
    Sandbox, Seccomp, Stage, Stats, Stdio,
};

const MIB: u64 = 1 << 20;
const NOBODY: u32 = 65534;

tests_also_delegated! {
    Needs::Root => [
        nothing_is_left_by_a_killed_owner,
        nothing_is_left_by_a_killed_paused_owner,
        nothing_is_left_of_a_stopped_init,
        what_owner_and_warden_left_is_collected,
        a_living_owners_group_is_not_touched,
        many_spawns_leave_nothing,
        a_failed_spawn_leaves_nothing,
        a_detached_sandbox_keeps_its_group,
        everything_is_done_for_a_delegated_user,
        a_pause_leaves_no_name_for_a_delegated_user,
        what_the_error_says_delegates_a_group,
        what_the_error_says_delegates_a_named_group,
        a_group_that_somebody_else_removes,
        a_hierarchy_that_becomes_read_only,
        a_stranger_in_the_group_delays_its_removal,
        groups_in_the_group_go_with_it,
        groups_in_the_group_are_paused_with_it,
        groups_in_the_group_end_with_it,
        groups_in_the_group_of_a_killed_owner_go_with_it,
        a_cgroup_namespace_around_the_caller,
    ];
    Needs::RootAndV1("devices") => [denied_devices_cannot_be_opened];
    Needs::RootAndController("blkio") => [reads_and_writes_are_held_back_and_counted];
    Needs::RootAndBfq => [weights_order_two_readers];
    Needs::RootAndUnmounted(&["net_cls", "net_prio", "perf_event"]) => [
        classes_priorities_and_events_have_groups,
    ];
    Needs::RootAndHugePages => [huge_pages_stop_at_the_limit];
    Needs::RootAndV2("hugetlb") => [
        a_full_parent_is_told,
        controllers_that_vanish_are_passed_on_again,
        a_group_does_more_later,
        what_is_not_passed_on_is_told,
        cpu_time_is_counted_on_v2_where_v1_is_not_delegated,
    ];
    Needs::Groups => with_its_own_groups [
        an_allocator_is_killed_and_its_sibling_lives,
        a_killed_grandchild_is_told_beside_the_exit,
        files_given_as_data_are_charged,
        a_full_tmp_is_told_before_memory_is_out,
        the_program_is_killed_before_init,
        a_fork_bomb_stops_at_the_limit,
        one_process_is_room_for_the_program,
        a_quota_holds_back_two_busy_loops,
        weights_order_two_competitors,
        cpus_are_those_that_were_given,
        cpu_time_ends_the_whole_tree,
        cpu_time_changes_while_it_runs,
        raw_writes_are_done,
        limits_change_while_it_runs,
        what_limits_do_is_told_as_it_happens,
        the_group_is_neither_seen_nor_reached,
        a_paused_sandbox_does_nothing,
        stopped_sleeping_and_forking_children_are_paused,
        a_paused_sandbox_ends,
        a_pause_leaves_no_name_inside,
    ];
    Needs::Groups => [
        without_init_out_of_memory_is_told_too,
        what_init_followed_ends_with_the_groups,
        a_missing_parent_is_told_with_the_command,
        what_the_kernel_lacks_is_told_or_missing,
    ];
    Needs::Undelegated => [
        without_delegation_a_limit_is_an_error,
    ];
    Needs::Nothing => [
        no_limit_makes_no_group,
        contradictions_are_told_together,
    ];
}

fn stats(sandbox: &Sandbox, script: &str) -> (Outcome, Stats) {
    let output = shell(sandbox, script);
    (output.outcome, output.usage.unwrap().stats)
}

/// More memory than anybody here gives.
const ALLOCATE: &str = "tail /dev/zero";

fn an_allocator_is_killed_and_its_sibling_lives() {
    let sandbox = Sandbox::new().memory_limit(32 * MIB);
    let mut sibling = sandbox.way_to("cat").stdin(Stdio::piped()).spawn().unwrap();
    let output = sandbox.way_to("tail").arg("/dev/zero").output().unwrap();
    let Outcome::OutOfMemory { limit, peak } = output.outcome else { panic!("{output:?}") };
    assert_eq!(limit, Some(32 * MIB));
    if let Some(peak) = peak {
        assert!((16 * MIB..=32 * MIB).contains(&peak), "{peak}");
    }
    assert!(output.usage.unwrap().stats.memory.oom_kills.unwrap() > 0);
    assert_eq!(sibling.try_wait().unwrap(), None);
    assert_eq!(sibling.stats().unwrap().memory.oom_kills, Some(0));
    assert_eq!(sibling.wait().unwrap().outcome, Outcome::Exited(0));
}

fn a_killed_grandchild_is_told_beside_the_exit() {
    let sandbox = Sandbox::new().memory_limit(32 * MIB);
    let output = one_victim(|| shell(&sandbox, &format!("{ALLOCATE}; exit 3")));
    assert_eq!(output.outcome, Outcome::Exited(3));
    assert_eq!(output.usage.unwrap().stats.memory.oom_kills, Some(1));
    // A SIGKILL of its own is none of the kernel's.
    let (outcome, _) = stats(&sandbox, "kill -9 $$");
    assert_eq!(outcome, Outcome::Signaled { signal: 9, core_dumped: false });
}

fn without_init_out_of_memory_is_told_too() {
    let sandbox = Sandbox::new().memory_limit(32 * MIB).init(false);
    let output = sandbox.command("tail").arg("/dev/zero").output().unwrap();
    assert!(matches!(output.outcome, Outcome::OutOfMemory { .. }), "{output:?}");
}

fn files_given_as_data_are_charged() {
    let data = vec![1; 16 << 20];
    let sandbox = Sandbox::new().file("/tmp/data", data.clone());
    let (outcome, stats) = stats(&sandbox.clone().memory_limit(64 * MIB), "exit 0");
    assert_eq!(outcome, Outcome::Exited(0));
    assert!(stats.memory.peak.unwrap() >= 16 * MIB, "{stats:?}");
    let error = refused(&sandbox.tmp_size(64 * MIB).memory_limit(8 * MIB));
    assert_eq!(error.hint(), Some(&Hint::MemoryLimit), "{error}");
}

fn a_full_tmp_is_told_before_memory_is_out() {
    let sandbox = Sandbox::new().memory_limit(64 * MIB);
    let output = shell(&sandbox, "head -c 48M /dev/zero > /tmp/data || exit 7");
    assert_eq!(output.outcome, Outcome::Exited(7), "{output:?}");
    let [full] = &output.disk_full[..] else { panic!("{output:?}") };
    assert!(full.bytes, "{full:?}");
}

fn a_fork_bomb_stops_at_the_limit() {
    let bomb = "i=0; while [ $i -lt 40 ]; do (sleep 1000 &) || exit 9; i=$((i+1)); done";
    let sandbox = Sandbox::new().pids_limit(20);
    let (outcome, stats) = stats(&sandbox, bomb);
    assert_ne!(outcome, Outcome::Exited(0));
    assert!(stats.pids.limit_hits.unwrap() > 0, "{stats:?}");
    if let Some(peak) = stats.pids.peak {
        assert_eq!(peak, 20);
    }
    let (outcome, _) = self::stats(&Sandbox::new().pids_limit(200), bomb);
    assert_eq!(outcome, Outcome::Exited(0));
}

/// Whoever makes the sandbox: the kernel adds the score to what a process uses, and chooses the highest.
fn the_program_is_killed_before_init() {
    let score = |process: &str| -> i32 {
        let text = fs::read_to_string(format!("/proc/{process}/oom_score_adj")).unwrap();
        text.trim().parse().unwrap()
    };
    let both = |sandbox: &Sandbox| {
        let child = sandbox.way_to("sleep").arg("1000").spawn().unwrap();
        assert!(!child.missing().contains(&Feature::OomScoreAdj), "{:?}", child.missing());
        let program = child.program_id().unwrap();
        (score(&child.id().to_string()), score(&program.to_string()))
    };
    let own = score("self");
    let usual = (own + 100).min(1000);
    let resource = caps::Capability::CAP_SYS_RESOURCE;
    let init = match caps::has_cap(None, caps::CapSet::Effective, resource).unwrap() {
        true => -1000,
        false => own,
    };
    // Who is not root may be too late to give init its own back, where it has waited: it is small all the same.
    let late = !common::is_own() && !is_root();
    let check = |sandbox: &Sandbox, init, program| {
        let found = both(sandbox);
        let kept = late && found.0 == program;
        assert_eq!(found, (if kept { program } else { init }, program));
    };
    let limited = Sandbox::new().memory_limit(64 * MIB);
    check(&limited, init, usual);
    check(&limited.clone().oom_score_adj(own), init, own);
    check(&limited.clone().oom_score_adj(900), init, 900);
    let bare = Sandbox::new().namespaces(stockade::Namespaces::PID | stockade::Namespaces::USER);
    check(&bare.memory_limit(64 * MIB), init, usual);
    // Without a limit nothing is changed that was not asked for, and init has the caller's.
    check(&Sandbox::new(), own, own);
    check(&Sandbox::new().oom_score_adj(900), own, 900);
    // It cannot take init along by making itself small: what fills the memory is no process's.
    let script = "dd if=/dev/zero of=/tmp/full bs=65536 count=800 2>/dev/null; exec tail /dev/zero";
    let output = shell(&limited.tmp_size(64 * MIB), script);
    assert!(matches!(output.outcome, Outcome::OutOfMemory { .. }), "{:?}", output.outcome);
}

fn one_process_is_room_for_the_program() {
    for init in [true, false] {
        let sandbox = Sandbox::new().init(init).pids_limit(1);
        assert_eq!(sandbox.way_to("true").status().unwrap().outcome, Outcome::Exited(0));
        let (outcome, stats) = stats(&sandbox, "(true) && exit 7");
        assert_ne!(outcome, Outcome::Exited(7), "{stats:?}");
        assert!(stats.pids.limit_hits.unwrap() > 0);
    }
}

fn a_quota_holds_back_two_busy_loops() {
    // Both have to get as far as that; 5 ms in each 100 ms otherwise.
    let share = Duration::from_millis(5) * slowness().min(4);
    let quota = Cpu::new().limit(share.as_secs_f64() * 10.0);
    let limits = Limits::new().cpu(quota).cpu_time(moment(100));
    let command = Sandbox::new().limits(limits).way_to("sh");
    let script = "(while :; do :; done) & while :; do :; done";
    let mut child = command.args(["-c", script]).spawn().unwrap();
    // By the kernel's own count; what it counts too late it takes back later.
    let is_within = |cpu: &CpuStats| {
        let periods = cpu.periods.unwrap() as u32;
        periods > 10 && cpu.usage.unwrap() <= share * (periods + 2)
    };
    let mut was_within = false;
    while child.try_wait().unwrap().is_none() {
        was_within |= is_within(&child.stats().unwrap().cpu);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(child.wait().unwrap().outcome, Outcome::CpuTime);
    let cpu = child.stats().unwrap().cpu;
    assert!(was_within, "{cpu:?}");
    assert!(cpu.throttled_periods.unwrap() > 0 && cpu.throttled.unwrap() > Duration::ZERO);
}

fn weights_order_two_competitors() {
    let spin = |weight| {
        let cpu = Cpu::new().weight(weight);
        let limits = Limits::new().cpu(cpu).cpu_time(Duration::from_secs(60));
        let sandbox = Sandbox::new().limits(limits).cpus("0");
        sandbox.way_to("sh").args(["-c", "while :; do :; done"]).spawn().unwrap()
    };
    let (mut light, mut heavy) = (spin(100), spin(400));
    let usage = |child: &mut Child| child.stats().unwrap().cpu.usage.unwrap();
    let before = [usage(&mut light), usage(&mut heavy)];
    loop {
        let used = [usage(&mut light) - before[0], usage(&mut heavy) - before[1]];
        if used[0] + used[1] > Duration::from_secs(1) {
            assert!(used[1] > used[0] * 2, "{used:?}");
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn cpus_are_those_that_were_given() {
    let allowed = "grep Cpus_allowed_list /proc/self/status | cut -f2";
    let proc = Sandbox::new().proc(stockade::Proc::Full);
    let last = nix::unistd::sysconf(nix::unistd::SysconfVar::_NPROCESSORS_ONLN).unwrap().unwrap();
    let last = (last - 1).to_string();
    assert_eq!(sh(&proc.clone().cpus(&last), allowed).trim(), last);
    let error = refused(&Sandbox::new().cpus("60000"));
    assert_eq!(error.stage(), Some(Stage::Cgroup), "{error}");
}

fn cpu_time_ends_the_whole_tree() {
    // What is not waited for counts as well.
    let limit = moment(200);
    let sandbox = Sandbox::new().cpu_time(limit);
    let (outcome, stats) = stats(&sandbox, "trap '' CHLD; (while :; do :; done) & sleep 1000");
    assert_eq!(outcome, Outcome::CpuTime);
    assert!(stats.cpu.usage.unwrap() >= limit, "{stats:?}");
    let (outcome, _) = self::stats(&Sandbox::new().cpu_time(Duration::from_secs(100)), "exit 4");
    assert_eq!(outcome, Outcome::Exited(4));
}

fn cpu_time_changes_while_it_runs() {
    // More than it may use at first; to be seen only by who was told of it.
    let script = "read go; (while :; do :; done) & read end; exit 7";
    let start = |limit| {
        let command = Sandbox::new().cpu_time(limit).way_to("sh").args(["-c", script]);
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        (child, stdin)
    };
    let limit = moment(500);
    let (mut child, mut stdin) = start(limit);
    child.update(&Limits::new().cpu_time(limit * 1000)).unwrap();
    stdin.write_all(b"go\n").unwrap();
    while usage(&mut child) < limit * 2 {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(child.try_wait().unwrap(), None);
    stdin.write_all(b"end\n").unwrap();
    assert_eq!(child.wait().unwrap().outcome, Outcome::Exited(7));
    let (mut child, mut stdin) = start(limit * 1000);
    stdin.write_all(b"go\n").unwrap();
    child.update(&Limits::new().cpu_time(limit)).unwrap();
    assert_eq!(child.wait().unwrap().outcome, Outcome::CpuTime);
    // Where CPU time is counted, a limit may come later.
    let counting = Limits::new().cpu(Cpu::new()).pids(Pids::new());
    let mut child = Sandbox::new().limits(counting).way_to("sh");
    child = child.args(["-c", "while :; do :; done"]);
    let mut child = child.spawn().unwrap();
    child.update(&Limits::new().cpu_time(Duration::from_millis(100))).unwrap();
    assert_eq!(child.wait().unwrap().outcome, Outcome::CpuTime);
    let error = child.update(&Limits::new().cpu_time(Duration::ZERO)).unwrap_err();
    assert!(matches!(error, Error::Invalid(_)), "{error}");
}

/// Without a pid namespace of its own what init has started outlives an init that is killed; in its
/// groups it does not.
fn what_init_followed_ends_with_the_groups() {
    let spaces = stockade::Namespaces::all() - stockade::Namespaces::PID;
    let sandbox = Sandbox::new().namespaces(spaces).without_atomic_end();
    let script = "trap '' HUP INT TERM; (setsid sleep 1000 &); echo go; while :; do (:); done";
    // What is killed is replaced at once.
    let bomb = "trap '' HUP INT TERM; echo go; exec perl -e \
                'my $first = $$; while (1) { exit if fork && $$ != $first && rand() < 0.5 }'";
    for (paused, script) in [(false, script), (true, script), (false, bomb), (true, bomb)] {
        let command = sandbox.clone().pids_limit(50).command("sh").args(["-c", script]);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let program = child.program_id().unwrap();
        let procs = group_path(&child, "pids").join("cgroup.procs");
        while fs::read_to_string(&procs).unwrap().lines().count() < 3 {
            std::thread::sleep(Duration::from_millis(1));
        }
        if paused {
            child.pause().unwrap();
            child.resume().unwrap();
        }
        kill(child.id());
        child.wait().unwrap();
        assert!(!procs.exists(), "{procs:?}");
        let stat = fs::read_to_string(format!("/proc/{program}/stat")).unwrap_or_default();
        assert!(stat.is_empty() || stat.contains(") Z "), "{stat}");
    }
}

fn denied_devices_cannot_be_opened() {
    let read = "head -c 1 /dev/zero | wc -c; head -c 1 /dev/null | wc -c";
    let with = |devices| Sandbox::new().limits(Limits::new().devices(devices));
    assert_eq!(sh(&with(Devices::standard()), read), "1\n0\n");
    let null = || Devices::none().allow(DeviceRule::char(1, 3));
    let output = shell(&with(null()), read);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("/dev/zero' for reading: Operation not permitted"), "{errors}");
    assert!(!errors.contains("/dev/null"), "{errors}");
    // For reading only.
    let zero = |access| DeviceRule::char(1, 5).access(access);
    let output = shell(&with(null().allow(zero("r"))), "echo > /dev/zero");
    assert_ne!(output.outcome, Outcome::Exited(0));
    // The last rule counts, which v1 can do for the same devices and wider ones.
    let denied = with(null().allow(zero("rw")).deny(DeviceRule::char(1, None).access("w")));
    assert_eq!(sh(&denied, read), "1\n0\n");
    sh_fails(&denied, "echo > /dev/zero", "Operation not permitted");
    let all = Devices::none().allow(DeviceRule::char(None, None));
    let all = with(all.allow(DeviceRule::block(None, None)).deny(zero("w")));
    assert_eq!(sh(&all, "echo > /dev/full || head -c 1 /dev/zero | wc -c"), "1\n");
    sh_fails(&all, "echo > /dev/zero", "Operation not permitted");
    let part = Devices::none().allow(DeviceRule::char(1, None)).deny(zero("w"));
    let error = refused(&with(part));
    assert!(matches!(error, Error::Unsupported { feature: Feature::DeviceRules, .. }), "{error}");
    assert!(error.to_string().contains("denying a part"), "{error}");
}

/// A loop device that is taken away at the end.
struct Loop(PathBuf);

impl Loop {
    fn new(file: &Path, options: &[&str]) -> Option<Self> {
        let mut command = std::process::Command::new("losetup");
        let output = command.args(["-f", "--show"]).args(options).arg(file).output();
        let output = output.ok().filter(|output| output.status.success())?;
        Some(Loop(String::from_utf8(output.stdout).unwrap().trim().into()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _gone = std::process::Command::new("losetup").arg("-d").arg(&self.0).status();
    }
}

fn reads_and_writes_are_held_back_and_counted() {
    if role().is_some() {
        assert!(!is_root());
        return are_held_back(Path::new(&std::env::var("DEVICE").unwrap()));
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), vec![0u8; 4 << 20]).unwrap();
    let Some(device) = Loop::new(file.path(), &[]) else { panic!("no loop device") };
    let before = fs::metadata(&device.0).unwrap().permissions();
    fs::set_permissions(&device.0, fs::Permissions::from_mode(0o666)).unwrap();
    are_held_back(&device.0);
    let parent = Delegated::to(NOBODY);
    let mut command = myself_outside("reads_and_writes_are_held_back_and_counted", "user");
    command.env("DEVICE", &device.0);
    let output = parent.run(command, NOBODY);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    parent.await_empty("left by the user");
    fs::set_permissions(&device.0, before).unwrap();
}

/// Much less than what the disk of an emulated machine does.
const A_SECOND: u64 = MIB / 4;

/// Beside somebody who is not held back and does the same: how fast the disk is does not matter then.
fn are_held_back(device: &Path) {
    let held_back = |limit: IoLimit, dd: &str, bytes: fn(IoStats) -> u64| {
        let begin = |limit| {
            let bind = Bind::read_write(device, "/device").with_devices();
            let sandbox = Sandbox::new().bind(bind).io_limit(device, limit);
            let script = format!("while dd {dd} bs=64k count=16 2>/dev/null; do :; done");
            sandbox.command("sh").args(["-c", &script]).spawn().unwrap()
        };
        let done = |child: &mut Child| child.stats().unwrap().io_total().map_or(0, bytes);
        let (mut held, mut free) = (begin(limit), begin(IoLimit::new()));
        let run = |held: &mut Child, free: &mut Child| {
            assert_eq!([held, free].map(|one| one.try_wait().unwrap()), [None, None]);
            std::thread::sleep(Duration::from_millis(5));
        };
        let since = Instant::now();
        let [before_held, before_free] = loop {
            let both = [done(&mut held), done(&mut free)];
            if both.iter().all(|&bytes| bytes > 0) {
                break both;
            }
            run(&mut held, &mut free);
        };
        while done(&mut free) - before_free < 32 * MIB {
            run(&mut held, &mut free);
        }
        let bytes = done(&mut held) - before_held;
        // As much each second, however long it took; and less than the other, to whom all else is alike.
        let seconds = since.elapsed().as_secs();
        let allowed = MIB * 2 + A_SECOND * seconds * 5 / 4;
        assert!(bytes <= allowed, "{limit:?}: {bytes} of {allowed}");
        assert!(bytes < 16 * MIB, "{limit:?}: {bytes} in {seconds} s while the other had 32 MiB");
        held.stats().unwrap()
    };
    let limit = IoLimit::new();
    for limit in [limit.read_bytes(A_SECOND), limit.read_operations(4)] {
        let stats = held_back(limit, "if=/device of=/dev/null iflag=direct", |io| io.read_bytes);
        assert!(stats.io_total().unwrap().reads > 0, "{stats:?}");
    }
    for limit in [limit.write_bytes(A_SECOND), limit.write_operations(4)] {
        let dd = "if=/dev/zero of=/device oflag=direct conv=notrunc";
        let stats = held_back(limit, dd, |io| io.write_bytes);
        assert!(stats.io_total().unwrap().writes > 0, "{stats:?}");
        // Where the kernel tells it, somebody has waited for that.
        let waited = stats.io_pressure.is_none_or(|pressure| !pressure.some.is_zero());
        assert!(
            waited && (stats.io_pressure.is_some() || is_v1("blkio") == Some(true)),
            "{stats:?}"
        );
    }
}

const UNMOUNTED: [&str; 3] = ["net_cls", "net_prio", "perf_event"];

/// Only some schedulers of disks look at weights, and only where requests wait: of more readers than
/// one, for a disk and not for memory.
fn weights_order_two_readers() {
    let file = tempfile::NamedTempFile::new_in("/var/tmp").unwrap();
    fs::write(file.path(), vec![1u8; 64 << 20]).unwrap();
    file.as_file().sync_all().unwrap();
    let device = Loop::new(file.path(), &["--direct-io=on"]).expect("a loop device");
    let queue = Path::new("/sys/block").join(device.0.file_name().unwrap());
    fs::write(queue.join("queue/scheduler"), "bfq").unwrap();
    // Whoever has just begun to read goes first, whatever its weight.
    fs::write(queue.join("queue/iosched/low_latency"), "0").unwrap();
    let read = |weight| {
        let bind = Bind::read_only(&device.0, "/device").with_devices();
        let sandbox = Sandbox::new().bind(bind).as_host_root().io_weight(weight);
        let one = "while :; do dd if=/device of=/dev/null bs=4M iflag=direct 2>/dev/null; done";
        let script = format!("({one}) & ({one}) & ({one}) & {one}");
        sandbox.command("sh").args(["-c", &script]).spawn().unwrap()
    };
    let (mut light, mut heavy) = (read(100), read(1000));
    let bytes = |child: &mut Child| child.stats().unwrap().io_total().map_or(0, |io| io.read_bytes);
    while bytes(&mut light) == 0 || bytes(&mut heavy) == 0 {
        std::thread::sleep(Duration::from_millis(10));
    }
    let before = [bytes(&mut light), bytes(&mut heavy)];
    loop {
        let done = [bytes(&mut light) - before[0], bytes(&mut heavy) - before[1]];
        if done[0] + done[1] > 256 * MIB / u64::from(slowness().min(4)) {
            assert!(done[1] > done[0] * 3 / 2, "{done:?}");
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    drop((light, heavy));
}

const TOGETHER: &str = "net_cls,net_prio";

fn classes_priorities_and_events_have_groups() {
    let test = "classes_priorities_and_events_have_groups";
    let limits =
        Limits::new().net_cls(NetCls::new(0x10, 1)).net_prio(NetPrio::new().priority("lo", 5));
    let sandbox = Sandbox::new().network(Network::Host);
    if role().as_deref() == Some("together") {
        return one_group_for_both(&sandbox.limits(limits));
    }
    let limits = limits.perf_event(PerfEvent);
    let sandbox = sandbox.limits(limits.clone());
    if role().is_some() {
        assert!(!is_root());
        let CgroupParent::Path(parent) = delegated_to_me() else { unreachable!() };
        let directory = PathBuf::from(std::env::var("HIERARCHIES").unwrap());
        let sandbox = sandbox.cgroup_parent(CgroupParent::Path(parent.clone()));
        return have_groups(&sandbox, &directory, &parent);
    }
    let error = Sandbox::new().limits(limits).plan().unwrap_err();
    assert!(error.to_string().contains("needs network(Network::Host)"), "{error}");
    // In a process of its own: who has used a hierarchy keeps it.
    assert!(myself_outside(test, "together").status().unwrap().success());
    let directory = private_hierarchies(&UNMOUNTED);
    have_groups(&sandbox, directory.path(), Path::new("/"));
    let parent = Delegated::to(NOBODY);
    let mut command = myself_outside(test, "user");
    command.env("HIERARCHIES", directory.path());
    let output = parent.run(command, NOBODY);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(parent.content(), Vec::<PathBuf>::new());
    drop(parent);
    for name in fs::read_dir(directory.path()).unwrap().flatten() {
        assert_eq!(groups_in(&name.path()), Vec::<PathBuf>::new());
    }
    unmount_all(&directory);
}

/// Controllers that are mounted together have one group.
fn one_group_for_both(sandbox: &Sandbox) {
    let directory = private_hierarchies(&[TOGETHER]);
    let point = directory.path().join(TOGETHER);
    let child = sandbox.command("sleep").arg("1000").spawn().unwrap();
    let group = group_in(&child, &point, Path::new("/"));
    assert_eq!(groups_in(&point), std::slice::from_ref(&group));
    has_values(&group, TOGETHER);
    drop(child);
    assert_eq!(groups_in(&point), Vec::<PathBuf>::new());
    unmount_all(&directory);
}

fn groups_in(point: &Path) -> Vec<PathBuf> {
    let all = fs::read_dir(point).unwrap().map(|entry| entry.unwrap().path());
    all.filter(|path| path.is_dir()).collect()
}

/// The group of a sandbox in the hierarchy of v1 that is mounted at `point`, where it is below `parent`.
fn group_in(child: &Child, point: &Path, parent: &Path) -> PathBuf {
    let own = fs::read_to_string(format!("/proc/{}/cgroup", child.program_id().unwrap())).unwrap();
    let name = point.file_name().unwrap().to_str().unwrap();
    let line = own.lines().find_map(|line| line.split_once(&format!(":{name}:")));
    let (_, group) = line.unwrap_or_else(|| panic!("{name}: {own}"));
    assert_eq!(Path::new(group).parent(), Some(parent));
    let group = point.join(&group[1..]);
    assert!(group.file_name().unwrap().to_str().unwrap().starts_with("stockade-"));
    group
}

/// The class and the priorities, as far as the group has these controllers.
fn has_values(group: &Path, controllers: &str) {
    let read = |file| fs::read_to_string(group.join(file)).unwrap();
    if controllers.contains("net_cls") {
        assert_eq!(read("net_cls.classid").trim(), "1048577");
    }
    if controllers.contains("net_prio") {
        let map = read("net_prio.ifpriomap");
        assert!(map.lines().any(|line| line == "lo 5"), "{map}");
    }
}

/// Whether a sandbox's groups are below `parent` and say what they are to.
fn have_groups(sandbox: &Sandbox, hierarchies: &Path, parent: &Path) {
    let child = sandbox.command("sleep").arg("1000").spawn().unwrap();
    for name in UNMOUNTED {
        has_values(&group_in(&child, &hierarchies.join(name), parent), name);
    }
    drop(child);
}

fn raw_writes_are_done() {
    let file =
        if is_v1("memory") == Some(true) { "memory.soft_limit_in_bytes" } else { "memory.low" };
    let sandbox = Sandbox::new().memory_limit(64 * MIB).cgroup_raw(file, "1048576");
    let child = sandbox.way_to("sleep").arg("1000").spawn().unwrap();
    assert_eq!(group_file(&child, "memory", file), "1048576");
    let error = refused(&Sandbox::new().cgroup_raw("memory.no_such_file", "1"));
    assert!(matches!(error, Error::Unsupported { feature: Feature::MemoryLimits, .. }), "{error}");
    // Whether the host has swap or not, the other version's limit of it is no limit here.
    let other = match is_v1("memory") {
        Some(true) => "memory.swap.max",
        _ => "memory.memsw.limit_in_bytes",
    };
    let error = refused(&Sandbox::new().cgroup_raw(other, "12345"));
    assert!(!error.to_string().contains("swapaccount"), "{error}");
    assert!(matches!(error, Error::Unsupported { feature: Feature::MemoryLimits, .. }), "{error}");
    for (file, data) in [(file, ""), ("cpuset.cpus", "0"), ("cpuset.cpus.partition", "root")] {
        let error = refused(&Sandbox::new().cgroup_raw(file, data));
        assert!(matches!(error, Error::Invalid { .. }), "{file}: {error}");
    }
    let error = refused(&Sandbox::new().cgroup_raw(file, "nonsense"));
    assert_eq!(error.raw_os_error(), Some(libc::EINVAL), "{error}");
}

fn limits_change_while_it_runs() {
    // A limit of memory changes nothing of one of swap.
    let swapping = Sandbox::new().memory_limit(32 * MIB).swap_limit(32 * MIB);
    let mut child = swapping.way_to("sleep").arg("1000").spawn().unwrap();
    child.update(&Limits::new().memory(Memory::new().max(64 * MIB))).unwrap();
    let v1 = is_v1("memory") == Some(true);
    let (file, swap) =
        if v1 { ("memory.memsw.limit_in_bytes", 96 * MIB) } else { ("memory.swap.max", 32 * MIB) };
    assert_eq!(group_file(&child, "memory", file), swap.to_string());
    drop(child);
    let sandbox = Sandbox::new().memory_limit(32 * MIB).pids_limit(5);
    let mut child = sandbox.way_to("sleep").arg("1000").spawn().unwrap();
    for bytes in [64 * MIB, 16 * MIB, 128 * MIB] {
        child.update(&Limits::new().memory(Memory::new().max(bytes))).unwrap();
        assert_eq!(child.stats().unwrap().memory.limit, Some(stockade::Max::At(bytes)));
    }
    child.update(&Limits::new().pids(Pids::new().max(9))).unwrap();
    assert_eq!(group_file(&child, "pids", "pids.max"), "10");
    let io = child.update(&Limits::new().io(stockade::Io::new()));
    if [is_v1("pids"), is_v1("blkio")] == [Some(false); 2] {
        io.unwrap();
    } else {
        let error = io.unwrap_err();
        assert!(matches!(error, Error::Unsupported { feature: Feature::IoLimits, .. }), "{error}");
        assert!(error.to_string().contains("start it with an empty value"), "{error}");
    }
    let error = child.update(&Limits::new().pids(Pids::new().max(0))).unwrap_err();
    assert!(matches!(error, Error::Invalid(_)), "{error}");
    child.kill().unwrap();
    child.wait().unwrap();
    let error = child.update(&Limits::new().pids(Pids::new().max(9))).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ESRCH));
}

fn what_limits_do_is_told_as_it_happens() {
    let sandbox = Sandbox::new().memory_limit(32 * MIB).pids_limit(3);
    let script = "read go; for i in 1 2 3 4; do (:) & done 2>/dev/null; read go; exec sleep 1000";
    let start = || {
        let mut child = sandbox.way_to("sh").args(["-c", script]).stdin(Stdio::piped());
        child = child.stderr(Stdio::null());
        child.spawn().unwrap()
    };
    let mut child = start();
    let mut events = child.events().unwrap();
    assert_eq!(events.try_next().unwrap(), None);
    child.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
    assert_eq!(events.next().unwrap().unwrap(), Event::PidsMax);
    // Into an event loop: it is readable when something comes, here the end.
    child.kill().unwrap();
    let mut set = [PollFd::new(events.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut set, PollTimeout::NONE), Ok(1));
    assert_ne!(child.wait().unwrap().outcome, Outcome::Exited(0));
    assert!(events.all(|event| event.unwrap() == Event::PidsMax));
    let hog = "read go; tail /dev/zero; read go";
    let command = sandbox.way_to("sh").args(["-c", hog]).stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut events = child.events().unwrap();
    child.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
    assert!(events.any(|event| event.unwrap() == Event::OutOfMemory));
    // The group is there until the child is waited for.
    child.stdin.take();
    assert!(events.any(|event| event.unwrap() == Event::OomKill));
    child.wait().unwrap();
    a_kill_that_is_the_end(&Sandbox::new(), false);
}

/// Events of what ended the sandbox are there for who asks after that; and without a file that older kernels keep
/// from others than root.
fn a_kill_that_is_the_end(base: &Sandbox, as_on_an_older_kernel: bool) {
    let hog = "read go; exec tail /dev/zero";
    let command = base.clone().memory_limit(32 * MIB).command("sh").args(["-c", hog]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    if as_on_an_older_kernel && is_v1("memory") == Some(true) {
        let file = group_path(&child, "memory").join("memory.pressure_level");
        fs::set_permissions(file, fs::Permissions::from_mode(0o0)).unwrap();
    }
    let events = child.events().unwrap();
    child.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
    let mut set = [PollFd::new(child.pidfd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut set, PollTimeout::NONE), Ok(1));
    let events: Vec<_> = events.map(Result::unwrap).collect();
    for event in [Event::OutOfMemory, Event::OomKill] {
        assert!(events.contains(&event), "{events:?}");
    }
    assert!(matches!(child.wait().unwrap().outcome, Outcome::OutOfMemory { .. }));
}

fn the_group_is_neither_seen_nor_reached() {
    let sandbox = Sandbox::new().memory_limit(64 * MIB).pids_limit(9);
    let own = sh(&sandbox, "cat /proc/self/cgroup");
    for line in own.lines().filter(|line| line.contains("memory:") || line.contains("pids:")) {
        assert!(line.ends_with(":/"), "{line}");
    }
    assert!(!own.contains("stockade-"), "{own}");
    assert_eq!(sh(&sandbox, "grep cgroup /proc/self/mounts | wc -l"), "0\n");
    assert_eq!(sh(&sandbox, "ls /sys 2>/dev/null | wc -l"), "0\n");
    // Its cgroup namespace is not its own, whatever it may inside.
    let script = "mkdir /tmp/c; exec 2>/dev/null
        for kind in 'cgroup2' 'cgroup -o memory' 'cgroup -o pids'; do
            mount -t $kind none /tmp/c || continue
            echo mounted; ls /tmp/c; find /tmp/c -name 'stockade-*'
            for file in /tmp/c/*; do (echo 0 >$file) && echo wrote $file; done
            mkdir /tmp/c/x && echo made; umount /tmp/c
        done; :";
    let open = sandbox.clone().seccomp(Seccomp::none()).landlock(Landlock::none());
    let admin = open.clone().uid(0).capabilities([stockade::Capability::SYS_ADMIN]);
    assert_eq!(sh(&admin, script), "");
    // With one that is, it sees its own group as the root, and cannot write there: the group is root's. An
    // unprivileged caller's is the program's as well.
    let is_root = nix::unistd::geteuid().is_root();
    let script = if is_root { script.to_owned() } else { script.replace("echo 0", "false") };
    let nested = format!("exec unshare -Urm --cgroup sh -c \"{script}\"");
    let text = sh(&open.allow_nesting(), &nested.replace('$', "\\$"));
    assert!(text.contains("mounted"), "{text}");
    // Where only v1 limits it, it is in the caller's group of v2, and sees others' below that.
    let child = sandbox.way_to("sleep").arg("1000").spawn().unwrap();
    let name = group_path(&child, "pids").file_name().unwrap().to_str().unwrap().to_owned();
    let (own, _number) = name.rsplit_once('-').unwrap();
    for none in [own, "release_agent", "wrote", "made"] {
        assert!(!text.contains(none) || !is_root && none == "made", "{none}: {text}");
    }
}

fn a_missing_parent_is_told_with_the_command() {
    let parent = CgroupParent::Path("/no-such-group".into());
    let error = refused(&Sandbox::new().pids_limit(5).cgroup_parent(parent));
    assert_eq!((error.stage(), error.raw_os_error()), (Some(Stage::Cgroup), Some(libc::ENOENT)));
    let text = error.to_string();
    let command = if is_root() { "hint: run mkdir \"" } else { "hint: run as root: mkdir -p /" };
    assert!(text.contains(command) && text.contains("no-such-group"), "{text}");
}

fn what_the_kernel_lacks_is_told_or_missing() {
    let (memory, what) = match is_v1("memory") {
        Some(true) => (Memory::new().high(MIB), "memory high"),
        _ => (Memory::new().soft_limit(MIB), "the soft limit"),
    };
    let sandbox = Sandbox::new().limits(Limits::new().memory(memory));
    let error = refused(&sandbox);
    assert!(error.is_unsupported() && error.to_string().contains(what), "{error}");
    let child = sandbox.best_effort(Feature::MemoryLimits).command("true").spawn().unwrap();
    assert!(child.missing().contains(&Feature::MemoryLimits));
    let rdma = Sandbox::new().limits(Limits::new().rdma(stockade::Rdma::new().max("x", 1, 1)));
    if is_v1("rdma").is_none() {
        let error = refused(&rdma);
        assert!(
            matches!(error, Error::Unsupported { feature: Feature::RdmaLimits, .. }),
            "{error}"
        );
        assert!(error.to_string().contains("\"rdma\""), "{error}");
    }
}

fn counted(script: &str) -> (Sandbox, stockade::Command) {
    let limits = Limits::new().cpu(Cpu::new()).pids(Pids::new().max(100));
    let sandbox = Sandbox::new().limits(limits);
    let command = sandbox.command("sh").args(["-c", script]).stdout(Stdio::piped());
    (sandbox, command)
}

fn usage(child: &mut Child) -> Duration {
    child.stats().unwrap().cpu.usage.unwrap()
}

fn a_paused_sandbox_does_nothing() {
    for init in [true, false] {
        let (sandbox, _) = counted("");
        let sandbox = sandbox.init(init).wall_time(moment(400));
        let mut child = sandbox.way_to("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        child.pause().unwrap();
        child.pause().unwrap();
        assert!(child.is_paused());
        let before = usage(&mut child);
        std::thread::sleep(moment(400) + Duration::from_millis(500));
        // Init itself may have looked at its words.
        assert!(usage(&mut child) - before < moment(50));
        assert_eq!(child.try_wait().unwrap(), None, "the time stands still");
        child.resume().unwrap();
        assert_eq!(child.wait().unwrap().outcome, Outcome::TimedOut);
    }
}

fn stopped_sleeping_and_forking_children_are_paused() {
    let script = "sleep 1000 & (while :; do (:); done) & sh -c 'kill -STOP $$' & echo go; \
                  while :; do (:); done";
    let (_, command) = counted(script);
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    for _ in 0..20 {
        child.pause().unwrap();
        let before = usage(&mut child);
        std::thread::sleep(moment(20));
        assert!(usage(&mut child) - before < moment(10));
        child.resume().unwrap();
    }
}

fn a_paused_sandbox_ends() {
    for limited in [true, false] {
        for kill in [true, false] {
            let sandbox = if limited { counted("").0 } else { Sandbox::new() };
            let script = "sleep 1000 & while :; do (:); done";
            let mut child = sandbox.way_to("sh").args(["-c", script]).spawn().unwrap();
            child.pause().unwrap();
            if kill {
                child.kill().unwrap();
                assert_eq!(child.wait().unwrap().outcome, Outcome::Killed);
            }
        }
    }
}

fn a_pause_leaves_no_name_inside() {
    for init in [true, false] {
        for sandbox in [counted("").0, Sandbox::new()] {
            let paused = no_name_inside(&sandbox.init(init));
            assert!(paused.iter().all(|group| group.contains("/paused")), "{paused:?}");
        }
    }
}

/// Nor where the caller may not put it back: then it is never moved.
fn a_pause_leaves_no_name_for_a_delegated_user() {
    let v1 = is_v1("freezer") == Some(true);
    if role().is_some() {
        assert!(!is_root());
        // It is outside of what is delegated.
        std::io::stdin().read_line(&mut String::new()).unwrap();
        for sandbox in [counted("").0, Sandbox::new()] {
            let paused = no_name_inside(&sandbox.cgroup_parent(delegated_to_me()));
            assert!(!v1 || !paused.iter().any(|group| group.contains("/paused")), "{paused:?}");
        }
        return;
    }
    let parent = Delegated::to(NOBODY);
    let command = myself_outside("a_pause_leaves_no_name_for_a_delegated_user", "user");
    let (mut user, _directory) = parent.start(command, NOBODY);
    if v1 {
        let outside = parent.of("freezer").with_file_name("cgroup.procs");
        fs::write(outside, user.id().to_string()).unwrap();
    }
    writeln!(user.stdin.take().unwrap(), "go").unwrap();
    let output = user.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    parent.await_empty("left by the user");
}

/// The groups that a program is in while it is paused, as the host sees them.
fn no_name_inside(sandbox: &Sandbox) -> Vec<String> {
    let mut paused = Vec::new();
    // A process that was there before starts one that is new.
    let script = "exec 3<&0; (while read x <&3; do cat /proc/self/cgroup; echo; done) & wait";
    let command = sandbox.command("sh").args(["-c", script]);
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut asked = child.stdin.take().unwrap();
    let mut told = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut groups = || {
        writeln!(asked, "groups").unwrap();
        told.by_ref().take_while(|line| !line.is_empty()).collect::<Vec<_>>()
    };
    let before = groups();
    for _ in 0..3 {
        child.pause().unwrap();
        let program = child.program_id().unwrap();
        paused.push(fs::read_to_string(format!("/proc/{program}/cgroup")).unwrap());
        child.resume().unwrap();
        assert_eq!(groups(), before);
    }
    paused
}

/// Another process, which makes a sandbox below `parent`, tells of it and waits.
fn owner(test: &str, role: &str, parent: &Delegated) -> (std::process::Child, u32) {
    let CgroupParent::Path(path) = parent.parent() else { unreachable!() };
    let mut command = myself_outside(test, role);
    command.env("DELEGATED", path.file_name().unwrap());
    // What it leaves stopped would have all of this process's group hung up.
    command.process_group(0);
    let mut owner = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(owner.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let warden = line.trim().parse().unwrap_or_else(|_| panic!("{line:?}"));
    (owner, warden)
}

/// The other side of that.
fn own(paused: bool) -> ! {
    let limits = Limits::new().memory(Memory::new().max(64 * MIB)).pids(Pids::new().max(50));
    let sandbox = Sandbox::new().limits(limits).cgroup_parent(delegated_to_me());
    let script = "trap '' TERM; sleep 1000 & while :; do (:); done";
    let mut child = sandbox.command("sh").args(["-c", script]).spawn().unwrap();
    if paused {
        child.pause().unwrap();
    }
    println!("{}", warden());
    loop {
        std::thread::park();
    }
}

fn nothing_is_left_by_a_killed_owner() {
    if role().is_some() {
        own(false);
    }
    let parent = Delegated::to(0);
    for _ in 0..rounds(100) {
        let (mut owner, _) = owner("nothing_is_left_by_a_killed_owner", "owner", &parent);
        assert!(!parent.content().is_empty());
        owner.kill().unwrap();
        owner.wait().unwrap();
        parent.await_empty("left by a killed owner");
    }
}

/// Without a pid namespace, an init that cannot act is killed by the warden, and what it leaves is as
/// well.
fn nothing_is_left_of_a_stopped_init() {
    if role().is_some() {
        let spaces = stockade::Namespaces::all() - stockade::Namespaces::PID;
        let sandbox = Sandbox::new().namespaces(spaces).without_atomic_end().pids_limit(50);
        let sandbox = sandbox.cgroup_parent(delegated_to_me());
        let script = "trap '' TERM; sleep 1000 & while :; do (:); done";
        let child = sandbox.command("sh").args(["-c", script]).spawn().unwrap();
        // SAFETY: kill takes numbers.
        assert_eq!(unsafe { libc::kill(child.id().cast_signed(), libc::SIGSTOP) }, 0);
        println!("1");
        loop {
            std::thread::park();
        }
    }
    let parent = Delegated::to(0);
    let (mut owner, _) = owner("nothing_is_left_of_a_stopped_init", "owner", &parent);
    assert!(!parent.content().is_empty());
    owner.kill().unwrap();
    owner.wait().unwrap();
    parent.await_empty("left of a stopped init");
}

fn nothing_is_left_by_a_killed_paused_owner() {
    if role().is_some() {
        own(true);
    }
    let parent = Delegated::to(0);
    for _ in 0..5 {
        let (mut owner, _) = owner("nothing_is_left_by_a_killed_paused_owner", "owner", &parent);
        owner.kill().unwrap();
        owner.wait().unwrap();
        parent.await_empty("left by a killed owner");
    }
}

fn what_owner_and_warden_left_is_collected() {
    if role().is_some() {
        own(false);
    }
    let parent = Delegated::to(0);
    let (mut owner, warden) = owner("what_owner_and_warden_left_is_collected", "owner", &parent);
    assert_ne!(warden, 0);
    kill(warden);
    owner.kill().unwrap();
    owner.wait().unwrap();
    let left = parent.content();
    // The sandbox itself ends by its init; its groups stay, until somebody else comes.
    let sandbox = Sandbox::new().memory_limit(64 * MIB).pids_limit(50);
    let mut gone = false;
    for _ in 0..100 {
        // A process of its own, as each looks once.
        let CgroupParent::Path(path) = parent.parent() else { unreachable!() };
        let mut command = myself_outside("many_spawns_leave_nothing", "one");
        command.env("DELEGATED", path.file_name().unwrap());
        assert!(command.status().unwrap().success());
        gone = parent.content().is_empty();
        if gone {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(gone, "{left:?} -> {:?}", parent.content());
    drop(sandbox);
}

fn kill(pid: u32) {
    // SAFETY: kill takes numbers.
    unsafe { libc::kill(pid.cast_signed(), libc::SIGKILL) };
}

fn a_living_owners_group_is_not_touched() {
    if role().is_some() {
        own(false);
    }
    let parent = Delegated::to(0);
    let (mut owner, _) = owner("a_living_owners_group_is_not_touched", "owner", &parent);
    let before = parent.content();
    // Groups that look like one's own, but are another user's.
    let foreign: Vec<_> =
        before.iter().map(|group| group.with_file_name("stockade-0000000000000000-1")).collect();
    for group in &foreign {
        fs::create_dir(group).unwrap();
        std::os::unix::fs::chown(group, Some(NOBODY), None).unwrap();
    }
    let sandbox = Sandbox::new().memory_limit(64 * MIB).pids_limit(50);
    let sandbox = sandbox.cgroup_parent(parent.parent());
    assert_eq!(sandbox.command("true").status().unwrap().outcome, Outcome::Exited(0));
    for group in before.iter().chain(&foreign) {
        assert!(group.exists(), "{group:?}");
    }
    foreign.iter().for_each(|group| fs::remove_dir(group).unwrap());
    owner.kill().unwrap();
    owner.wait().unwrap();
    parent.await_empty("left by a killed owner");
}

fn many_spawns_leave_nothing() {
    let limits = Limits::new().memory(Memory::new().max(64 * MIB)).pids(Pids::new().max(50));
    let sandbox = Sandbox::new().limits(limits.cpu(Cpu::new().limit(1.0)));
    if role().is_some() {
        let sandbox = sandbox.cgroup_parent(delegated_to_me());
        assert_eq!(sandbox.command("true").status().unwrap().outcome, Outcome::Exited(0));
        return;
    }
    let parent = Delegated::to(0);
    let sandbox = sandbox.cgroup_parent(parent.parent());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..rounds(250) {
                    let status = sandbox.command("true").status().unwrap();
                    assert_eq!(status.outcome, Outcome::Exited(0));
                }
            });
        }
    });
    assert_eq!(parent.content(), Vec::<PathBuf>::new());
}

fn a_failed_spawn_leaves_nothing() {
    let parent = Delegated::to(0);
    let sandbox = Sandbox::new().memory_limit(64 * MIB).cgroup_parent(parent.parent());
    for failing in [
        sandbox.command("/no/such/program"),
        sandbox.clone().bind_ro("/no/such/file", "/x").command("true"),
        sandbox.clone().cgroup_raw("memory.no_such_file", "1").command("true"),
    ] {
        failing.spawn().unwrap_err();
        assert_eq!(parent.content(), Vec::<PathBuf>::new());
    }
    sandbox.check().unwrap();
    assert_eq!(parent.content(), Vec::<PathBuf>::new());
}

fn a_detached_sandbox_keeps_its_group() {
    let parent = Delegated::to(0);
    let sandbox = Sandbox::new().pids_limit(9).cgroup_parent(parent.parent());
    let mut child = sandbox.command("cat").stdin(Stdio::piped()).spawn().unwrap();
    let stdin = child.stdin.take();
    child.pause().unwrap();
    child.detach().unwrap();
    assert_eq!(sandbox.command("true").status().unwrap().outcome, Outcome::Exited(0));
    assert!(!parent.content().is_empty());
    drop(stdin);
    for _ in 0..500 {
        assert_eq!(sandbox.command("true").status().unwrap().outcome, Outcome::Exited(0));
        if parent.content().is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{:?}", parent.content());
}

fn everything_is_done_for_a_delegated_user() {
    if role().is_some() {
        return delegated_user();
    }
    let parent = Delegated::to(NOBODY);
    let command = myself_outside("everything_is_done_for_a_delegated_user", "user");
    let output = parent.run(command, NOBODY);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(parent.content(), Vec::<PathBuf>::new());
}

fn delegated_user() {
    assert!(!is_root());
    let base = Sandbox::new().cgroup_parent(delegated_to_me());
    let output = base.clone().memory_limit(32 * MIB).command("tail").arg("/dev/zero").output();
    let output = output.unwrap();
    assert!(matches!(output.outcome, Outcome::OutOfMemory { .. }), "{output:?}");
    let bomb = "for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done";
    let (outcome, pids) = stats(&base.clone().pids_limit(5), bomb);
    assert_ne!(outcome, Outcome::Exited(0));
    assert!(pids.pids.limit_hits.unwrap() > 0);
    // The exec has to come to its end, too.
    let quota = Cpu::new().limit(0.05 * f64::from(slowness().min(4)));
    let limits = Limits::new().cpu(quota).cpu_time(moment(60));
    let (outcome, cpu) =
        stats(&base.clone().limits(limits), "(while :; do :; done) & while :; do :; done");
    assert_eq!(outcome, Outcome::CpuTime);
    assert!(cpu.cpu.throttled_periods.unwrap() > 0);
    let allowed = "grep Cpus_allowed_list /proc/self/status | cut -f2";
    let full = base.clone().proc(stockade::Proc::Full);
    assert_eq!(sh(&full.cpus("0"), allowed), "0\n");
    let io = base.clone().io_limit("7:0", IoLimit::new().read_bytes(MIB));
    assert_eq!(io.command("true").status().unwrap().outcome, Outcome::Exited(0));
    let mut child = base
        .clone()
        .pids_limit(50)
        .command("sh")
        .args(["-c", "while :; do (:); done"])
        .spawn()
        .unwrap();
    child.pause().unwrap();
    child.update(&Limits::new().pids(Pids::new().max(60))).unwrap();
    child.resume().unwrap();
    child.pause().unwrap();
    drop(child);
    a_kill_that_is_the_end(&base, true);
    // The kernel lets only root say which devices.
    if is_v1("devices") == Some(true) {
        let devices = base.limits(Limits::new().devices(Devices::standard()));
        let error = refused(&devices);
        assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{error}");
    }
}

/// A user in groups of root's makes a sandbox, is refused, and is given what the error asks for.
fn delegated_as_told(test: &str, parent: &CgroupParent) {
    let limits = Limits::new()
        .memory(Memory::new().max(32 * MIB))
        .pids(Pids::new().max(5))
        .cpuset(stockade::Cpuset::new().cpus("0"))
        .cpu(Cpu::new().limit(2.0));
    let sandbox = Sandbox::new().limits(limits).cgroup_parent(parent.clone());
    if role().is_some() {
        let error = refused(&sandbox);
        let refusal = error.raw_os_error();
        assert!([libc::EACCES, libc::ENOENT].map(Some).contains(&refusal), "{error}");
        let Some(Hint::RunAsRoot(command)) = error.hint() else { panic!("{error}") };
        println!("{command}");
        // Root has run it.
        std::io::stdin().read_line(&mut String::new()).unwrap();
        let output = sandbox.command("tail").arg("/dev/zero").output().unwrap();
        assert!(matches!(output.outcome, Outcome::OutOfMemory { .. }), "{output:?}");
        let bomb = "for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done";
        let (_, stats) = stats(&sandbox, bomb);
        assert!(stats.pids.limit_hits.unwrap() > 0, "{stats:?}");
        return;
    }
    let groups = Delegated::to(0);
    let (mut user, _directory) = groups.start(myself_outside(test, "user"), NOBODY);
    let mut said = BufReader::new(user.stdout.take().unwrap());
    let mut command = String::new();
    said.read_line(&mut command).unwrap();
    let root = std::process::Command::new("sh").args(["-c", &command]).output().unwrap();
    writeln!(user.stdin.take().unwrap(), "go").unwrap();
    let output = user.wait_with_output().unwrap();
    // First, that a failure leaves nothing: the warden of the user's is the last to go.
    let remove = |group: &Path| {
        (0..3000).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            !group.exists() || fs::remove_dir(group).is_ok()
        })
    };
    let made = groups.content();
    let gone = made.iter().all(|group| remove(&group.join("caller")) && remove(group));
    let errors = String::from_utf8_lossy(&output.stderr);
    let ran = format!("{command}{}", String::from_utf8_lossy(&root.stderr));
    assert!(root.status.success() && root.stderr.is_empty(), "{ran}{errors}");
    assert!(output.status.success(), "{ran}{errors}");
    assert!(gone, "{made:?}");
}

fn what_the_error_says_delegates_a_group() {
    delegated_as_told("what_the_error_says_delegates_a_group", &CgroupParent::Auto);
}

fn what_the_error_says_delegates_a_named_group() {
    let groups = std::env::var("DELEGATED").unwrap_or_default();
    let parent = CgroupParent::Path(Path::new("/").join(groups).join("mine"));
    delegated_as_told("what_the_error_says_delegates_a_named_group", &parent);
}

fn a_group_that_somebody_else_removes() {
    let parent = Delegated::to(0);
    let sandbox = Sandbox::new().pids_limit(9).cgroup_parent(parent.parent());
    let mut child = sandbox.command("sleep").arg("1000").spawn().unwrap();
    let group = group_path(&child, "pids");
    let above = if is_v1("pids") == Some(true) {
        group.parent().unwrap().to_owned()
    } else {
        parent.v2().join("caller")
    };
    for pid in fs::read_to_string(group.join("cgroup.procs")).unwrap().lines() {
        fs::write(above.join("cgroup.procs"), pid).unwrap();
    }
    fs::remove_dir(&group).unwrap();
    let error = child.update(&Limits::new().pids(Pids::new().max(5))).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENODEV), "{error}");
    assert_eq!(child.stats().unwrap().pids, stockade::PidsStats::default());
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().outcome, Outcome::Killed);
    assert_eq!(parent.content(), Vec::<PathBuf>::new());
    assert_eq!(sandbox.command("true").status().unwrap().outcome, Outcome::Exited(0));
}

fn a_hierarchy_that_becomes_read_only() {
    let parent = Delegated::to(0);
    own_mounts();
    let sandbox = Sandbox::new().pids_limit(9).cgroup_parent(parent.parent());
    let mut child = sandbox.command("sleep").arg("1000").spawn().unwrap();
    let group = group_path(&child, "pids");
    let point = group.parent().unwrap().parent().unwrap();
    let bind = libc::MS_REMOUNT | libc::MS_BIND;
    mount("none", point, "", bind | libc::MS_RDONLY);
    let error = child.update(&Limits::new().pids(Pids::new().max(5))).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EROFS), "{error}");
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().outcome, Outcome::Killed);
    let error = refused(&sandbox);
    assert!(error.is_unsupported() && error.to_string().contains("read-only"), "{error}");
    assert!(error.to_string().ends_with(&format!("remount,rw {}", point.display())), "{error}");
    assert!(group.exists());
    mount("none", point, "", bind);
    assert_eq!(sandbox.command("true").status().unwrap().outcome, Outcome::Exited(0));
    assert_eq!(parent.content(), Vec::<PathBuf>::new());
}

fn a_stranger_in_the_group_delays_its_removal() {
    let parent = Delegated::to(0);
    let sandbox = Sandbox::new().pids_limit(9).cgroup_parent(parent.parent());
    let mut child = sandbox.command("cat").stdin(Stdio::piped()).spawn().unwrap();
    let mut stranger = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
    let group = group_path(&child, "pids");
    fs::write(group.join("cgroup.procs"), stranger.id().to_string()).unwrap();
    assert_eq!(child.wait().unwrap().outcome, Outcome::Exited(0));
    assert_eq!(stranger.try_wait().unwrap(), None);
    assert_eq!(parent.content(), [group]);
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    assert_eq!(sandbox.command("true").status().unwrap().outcome, Outcome::Exited(0));
    assert_eq!(parent.content(), Vec::<PathBuf>::new());
}

const INNER: [&str; 3] = ["one/deep/deeper", "one/other", "two"];

/// Puts groups into a sandbox's, as an administrator may, and one of its processes into one of them.
fn with_inner_groups(group: &Path, process: Option<u32>) {
    for inner in INNER {
        fs::create_dir_all(group.join(inner)).unwrap();
    }
    if let Some(process) = process {
        fs::write(group.join(INNER[0]).join("cgroup.procs"), process.to_string()).unwrap();
    }
}

fn groups_in_the_group_are_paused_with_it() {
    let parent = Delegated::to(0);
    let sandbox = Sandbox::new().pids_limit(9).cgroup_parent(parent.parent());
    let mut child = sandbox.command("sleep").arg("1000").spawn().unwrap();
    let program = child.program_id().unwrap();
    with_inner_groups(&group_path(&child, "pids"), Some(program));
    child.pause().unwrap();
    let groups = fs::read_to_string(format!("/proc/{program}/cgroup")).unwrap();
    assert!(groups.contains("/paused"), "{groups}");
    child.resume().unwrap();
    drop(child);
    assert_eq!(parent.content(), Vec::<PathBuf>::new());
}

/// Where neither a pid namespace nor, on v1, the kernel ends all at once.
fn groups_in_the_group_end_with_it() {
    let parent = Delegated::to(0);
    let spaces = stockade::Namespaces::all() - stockade::Namespaces::PID;
    let sandbox = Sandbox::new().namespaces(spaces).without_atomic_end().pids_limit(9);
    let sandbox = sandbox.cgroup_parent(parent.parent());
    let mut child = sandbox.command("sleep").arg("1000").spawn().unwrap();
    let program = child.program_id().unwrap();
    with_inner_groups(&group_path(&child, "pids"), Some(program));
    kill(child.id());
    child.wait().unwrap();
    // A group is empty a little earlier than the process says that it has ended.
    let runs = || {
        let stat = fs::read_to_string(format!("/proc/{program}/stat")).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    };
    while runs() {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(parent.content(), Vec::<PathBuf>::new());
}

fn groups_in_the_group_of_a_killed_owner_go_with_it() {
    if role().is_some() {
        own(false);
    }
    let parent = Delegated::to(0);
    let (mut owner, _) =
        owner("groups_in_the_group_of_a_killed_owner_go_with_it", "owner", &parent);
    let groups = parent.content();
    assert!(!groups.is_empty());
    groups.iter().for_each(|group| with_inner_groups(group, None));
    owner.kill().unwrap();
    owner.wait().unwrap();
    parent.await_empty("left by a killed owner");
}

fn groups_in_the_group_go_with_it() {
    let parent = Delegated::to(0);
    let sandbox = Sandbox::new().pids_limit(9).cgroup_parent(parent.parent());
    let mut child = sandbox.command("cat").stdin(Stdio::piped()).spawn().unwrap();
    let group = group_path(&child, "pids");
    with_inner_groups(&group, None);
    assert_eq!(child.wait().unwrap().outcome, Outcome::Exited(0));
    assert_eq!(parent.content(), Vec::<PathBuf>::new());
    // And so do those of an owner who is gone.
    let left = group.with_file_name("stockade-0000000000000000-1");
    fs::create_dir_all(left.join("one/deep")).unwrap();
    let mut command = myself_outside("many_spawns_leave_nothing", "one");
    let CgroupParent::Path(path) = parent.parent() else { unreachable!() };
    command.env("DELEGATED", path.file_name().unwrap());
    assert!(command.status().unwrap().success());
    assert_eq!(parent.content(), Vec::<PathBuf>::new());
}

/// What was mounted before the namespace was made shows more than that; what is mounted inside is its
/// own part.
fn a_cgroup_namespace_around_the_caller() {
    if role().is_some() {
        return inside_of_a_cgroup_namespace();
    }
    let parent = Delegated::to(0);
    // On v2 no group with processes has groups below it.
    let v1 = is_v1("pids") == Some(true);
    let of_pids = parent.of("pids");
    let own = if v1 { of_pids.to_owned() } else { of_pids.join("caller") };
    let mut command = myself_outside("a_cgroup_namespace_around_the_caller", "inside");
    let status = command.env("GROUP", own).env("POINT", of_pids.parent().unwrap()).status();
    assert!(status.unwrap().success());
    assert_eq!(parent.content(), Vec::<PathBuf>::new());
}

fn inside_of_a_cgroup_namespace() {
    let [own, point] = ["GROUP", "POINT"].map(|name| PathBuf::from(std::env::var(name).unwrap()));
    fs::write(own.join("cgroup.procs"), std::process::id().to_string()).unwrap();
    // SAFETY: this process has one thread and no pointer is passed.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWCGROUP) }, 0);
    own_mounts();
    let sandbox = Sandbox::new().pids_limit(5);
    let error = refused(&sandbox);
    assert!(error.to_string().contains("mount it anew in this cgroup namespace"), "{error}");
    let v1 = is_v1("pids") == Some(true);
    unmount(&point);
    let (kind, options) = if v1 { ("cgroup", "pids") } else { ("cgroup2", "") };
    mount(kind, &point, options, 0);
    if v1 {
        let bomb = "for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done";
        assert_ne!(shell(&sandbox, bomb).outcome, Outcome::Exited(0));
        assert_eq!(shell(&sandbox.pids_limit(50), bomb).outcome, Outcome::Exited(0));
    } else {
        // The caller's group is the root of what it sees, and has processes.
        let error = refused(&sandbox);
        assert_eq!(error.hint(), Some(&Hint::InnerProcesses), "{error}");
    }
}

/// As each user has a group of v2 and none of v1 where systemd runs both.
fn cpu_time_is_counted_on_v2_where_v1_is_not_delegated() {
    if role().is_some() {
        assert!(!is_root());
        let sandbox = Sandbox::new().cgroup_parent(delegated_to_me()).cpu_time(moment(60));
        let mut child = sandbox.command("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        assert_eq!(child.wait().unwrap().outcome, Outcome::CpuTime);
        assert!(child.stats().unwrap().cpu.usage.unwrap() >= moment(60));
        return;
    }
    let parent = Delegated::to(NOBODY);
    if is_v1("cpuacct") == Some(true) {
        for file in ["", "cgroup.procs", "tasks"] {
            let file = parent.of("cpuacct").join(file);
            std::os::unix::fs::chown(file, Some(0), Some(0)).unwrap();
        }
    }
    let command = myself_outside("cpu_time_is_counted_on_v2_where_v1_is_not_delegated", "user");
    let output = parent.run(command, NOBODY);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    parent.await_empty("left by the user");
}

/// As in a container whose group is not given what the host's has.
fn what_is_not_passed_on_is_told() {
    let limits = Limits::new().hugetlb(stockade::Hugetlb::new().max(2 << 20, 2 << 20));
    let sandbox = Sandbox::new().limits(limits);
    if role().is_some() {
        let [group, point] =
            ["GROUP", "POINT"].map(|name| PathBuf::from(std::env::var(name).unwrap()));
        fs::write(group.join("cgroup.procs"), std::process::id().to_string()).unwrap();
        // SAFETY: this process has one thread and no pointer is passed.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWCGROUP) }, 0);
        own_mounts();
        unmount(&point);
        mount("cgroup2", &point, "", 0);
        let error = refused(&sandbox);
        assert!(error.is_unsupported(), "{error}");
        let text = error.to_string();
        assert!(text.contains("do not pass on hugetlb") && !text.contains("mount -t"), "{text}");
        return;
    }
    let parent = Delegated::to(0);
    let group = parent.v2().join("outer/inner");
    fs::create_dir_all(&group).unwrap();
    let mut command = myself_outside("what_is_not_passed_on_is_told", "inside");
    command.env("GROUP", &group).env("POINT", parent.v2().parent().unwrap());
    let status = command.status().unwrap();
    fs::remove_dir(&group).unwrap();
    fs::remove_dir(group.parent().unwrap()).unwrap();
    assert!(status.success());
}

/// Needs a group of v2, where that has hugetlb.
fn in_v2(parent: &Delegated) -> Sandbox {
    let limits = Limits::new().hugetlb(stockade::Hugetlb::new().max(2 << 20, 2 << 20));
    Sandbox::new().limits(limits).cgroup_parent(parent.parent())
}

fn a_full_parent_is_told() {
    let parent = Delegated::to(0);
    let sandbox = in_v2(&parent);
    let most = parent.v2().join("cgroup.max.descendants");
    // There is one already.
    fs::write(&most, "1").unwrap();
    let error = refused(&sandbox);
    assert_eq!(error.raw_os_error(), Some(libc::EAGAIN), "{error}");
    assert_eq!(error.hint(), Some(&Hint::MaxGroups), "{error}");
    assert_eq!(parent.content(), Vec::<PathBuf>::new());
    fs::write(&most, "2").unwrap();
    let mut child = sandbox.command("cat").stdin(Stdio::piped()).spawn().unwrap();
    assert_eq!(refused(&sandbox).hint(), Some(&Hint::MaxGroups));
    // A pause needs one more.
    let error = child.pause();
    if is_v1("freezer").is_none() {
        assert_eq!(error.unwrap_err().hint(), Some(&Hint::MaxGroups));
    } else {
        error.unwrap();
        child.resume().unwrap();
    }
    assert_eq!(child.wait().unwrap().outcome, Outcome::Exited(0));
    assert_eq!(parent.content(), Vec::<PathBuf>::new());
}

fn controllers_that_vanish_are_passed_on_again() {
    let parent = Delegated::to(0);
    let sandbox = in_v2(&parent);
    let vanish = || fs::write(parent.v2().join("cgroup.subtree_control"), "-hugetlb").unwrap();
    let limit = |child: &Child| group_file(child, "hugetlb", "hugetlb.2MB.max");
    for _ in 0..3 {
        let mut child = sandbox.command("cat").stdin(Stdio::piped()).spawn().unwrap();
        assert_eq!(limit(&child), "2097152");
        vanish();
        assert!(!group_path(&child, "hugetlb").join("hugetlb.2MB.max").exists());
        child.stats().unwrap();
        child.update(&Limits::new().hugetlb(stockade::Hugetlb::new().max(2 << 20, 0))).unwrap();
        assert_eq!(limit(&child), "0");
        vanish();
        assert_eq!(child.wait().unwrap().outcome, Outcome::Exited(0));
        assert_eq!(parent.content(), Vec::<PathBuf>::new());
    }
}

fn a_group_does_more_later() {
    let parent = Delegated::to(0);
    let sandbox = Sandbox::new().limits(Limits::new().net_cls(NetCls::new(1, 1)));
    let sandbox = sandbox.cgroup_parent(parent.parent());
    let mut child = sandbox.command("cat").stdin(Stdio::piped()).spawn().unwrap();
    child.update(&Limits::new().hugetlb(stockade::Hugetlb::new().max(2 << 20, 0))).unwrap();
    assert_eq!(group_file(&child, "hugetlb", "hugetlb.2MB.max"), "0");
    // What is in use already would not be counted.
    let error = child.update(&Limits::new().memory(Memory::new().max(64 * MIB))).unwrap_err();
    assert!(matches!(error, Error::Unsupported { feature: Feature::MemoryLimits, .. }), "{error}");
    assert_eq!(child.wait().unwrap().outcome, Outcome::Exited(0));
}

fn huge_pages_stop_at_the_limit() {
    const TEST: &str = "huge_pages_stop_at_the_limit";
    match role().as_deref() {
        Some("touch") => return touch_huge_pages(),
        Some(_) => return huge_pages(TEST, &Sandbox::new().cgroup_parent(delegated_to_me())),
        None => {}
    }
    let pages = HugePages::reserve(2).unwrap();
    huge_pages(TEST, &Sandbox::new());
    let parent = Delegated::to(NOBODY);
    let output = parent.run(myself_outside(TEST, "user"), NOBODY);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(parent.content(), Vec::<PathBuf>::new());
    drop(pages);
}

fn huge_pages(test: &str, sandbox: &Sandbox) {
    let with = |hugetlb| {
        let sandbox = sandbox.clone().limits(Limits::new().hugetlb(hugetlb));
        let output = myself(&sandbox, test, "touch").output().unwrap();
        (output.outcome, String::from_utf8(output.stdout).unwrap())
    };
    let size = 2 * MIB;
    let hugetlb = stockade::Hugetlb::new;
    let all = with(hugetlb().max(size, 2 * size));
    assert_eq!(all, (Outcome::Exited(0), "mapped\ntouched\ntouched\n".to_owned()));
    let (outcome, text) = with(hugetlb().max(size, size));
    assert_eq!(text, "mapped\ntouched\n");
    assert_eq!(outcome, Outcome::Signaled { signal: libc::SIGBUS, core_dumped: false });
    let none = with(hugetlb().max_reserved(size, size));
    assert_eq!(none, (Outcome::Exited(0), "refused\n".to_owned()));
}

/// Two huge pages, one after the other.
fn touch_huge_pages() {
    const SIZE: usize = 2 << 20;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB;
    let (protection, none) = (libc::PROT_READ | libc::PROT_WRITE, std::ptr::null_mut());
    // SAFETY: new memory at a place of the kernel's choice.
    let memory = unsafe { libc::mmap(none, 2 * SIZE, protection, flags, -1, 0) };
    if memory == libc::MAP_FAILED {
        return println!("refused");
    }
    println!("mapped");
    for page in 0..2 {
        let byte = memory.cast::<u8>().wrapping_add(page * SIZE);
        // SAFETY: the mapping is that long.
        unsafe { byte.write_volatile(1) };
        println!("touched");
    }
}

fn without_delegation_a_limit_is_an_error() {
    let error = refused(&Sandbox::new().pids_limit(5));
    assert_eq!((error.stage(), error.raw_os_error()), (Some(Stage::Cgroup), Some(libc::EACCES)));
    // Below the user's manager, where systemd has the hierarchy for itself.
    let booted = is_v1("pids") == Some(false) && Path::new("/run/systemd/system").is_dir();
    let expected =
        if booted { "systemd-run --user --scope -p Delegate=yes -- /" } else { "mkdir -p /" };
    let hint = error.hint().unwrap().to_string();
    assert!(hint.starts_with("run ") && hint.contains(expected), "{error}");
    let sandbox = Sandbox::new().pids_limit(5).best_effort(Feature::PidsLimit);
    let child = sandbox.command("true").spawn().unwrap();
    assert!(child.missing().contains(&Feature::PidsLimit));
    // Without a freezer init stops everything by signals.
    let mut child =
        Sandbox::new().command("sh").args(["-c", "while :; do (:); done"]).spawn().unwrap();
    child.pause().unwrap();
    std::thread::sleep(Duration::from_millis(50));
    let state = || {
        let path = format!("/proc/{}/stat", child.program_id().unwrap());
        let mut text = String::new();
        fs::File::open(path).unwrap().read_to_string(&mut text).unwrap();
        text.rsplit_once(") ").unwrap().1.chars().next()
    };
    assert_eq!(state(), Some('T'));
    child.resume().unwrap();
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().outcome, Outcome::Killed);
}

fn no_limit_makes_no_group() {
    let mut child = Sandbox::new().command("sleep").arg("1000").spawn().unwrap();
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    assert_eq!(fs::read_to_string(format!("/proc/{}/cgroup", child.id())).unwrap(), own);
    assert_eq!(child.stats().unwrap(), Stats::default());
}

fn contradictions_are_told_together() {
    let sandbox = Sandbox::new()
        .memory_limit(1)
        .pids_limit(0)
        .cpu_limit(-1.0)
        .cpus("x")
        .init(false)
        .cpu_time(Duration::from_secs(1))
        .cgroup_raw("../escape", "1")
        .cgroup_parent(CgroupParent::Path("/a/../b".into()));
    let Error::Invalid(problems) = sandbox.plan().unwrap_err() else { panic!() };
    assert_eq!(problems.len(), 7, "{problems:?}");
}
