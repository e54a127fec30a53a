//! Every way in which a program can end, and that nothing of its sandbox is alive afterwards.
#![allow(
    clippy::exit,
    clippy::incompatible_msrv,
    clippy::cast_possible_truncation,
    reason = "a test process, built by a current toolchain"
)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails so")]

mod common;
#[path = "common/life.rs"]
mod life;

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use common::ways::Ways;
use common::{Needs, moment};
use life::{await_byte, await_released, inside, is_held, my_role, pipe};
use stockade::{Child, Namespaces, Outcome, Sandbox, Status, Stdio};

tests_in_all_ways! {
    Needs::Nothing => [
        every_exit_code,
        every_fatal_signal,
        abort_is_told,
        time_ends_it_for_a_caller_who_waits,
        time_ends_it_for_a_caller_who_never_waits,
        time_ends_it_without_init,
        time_ends_what_it_started_without_a_pid_namespace,
        time_ends_a_daemon_for_a_caller_who_waits,
        time_ends_a_daemon_for_a_caller_who_never_waits,
        time_ends_a_daemon_that_does_not_heed_the_grace,
        time_ends_a_daemon_that_lingers,
        time_ends_a_daemon_when_init_is_stopped,
        time_ends_the_daemon_of_a_detached_sandbox,
        kill_ends_a_daemon,
        time_ends_it_when_init_is_stopped,
        time_ends_it_when_init_is_stopped_and_nobody_waits,
        grace_lets_it_clean_up,
        grace_ends_for_who_ignores_it,
        time_is_not_up_for_who_was_faster,
        kill_is_told,
        kill_after_the_end_changes_nothing,
        a_signal_reaches_the_program,
        a_killed_init_is_told,
        drop_ends_a_daemon,
        drop_ends_stopped_processes,
        the_programs_end_ends_a_daemon,
        lingering_lets_them_finish,
        lingering_does_not_outlast_the_wall_time,
        what_was_left_is_listed,
        output_does_not_wait_for_who_holds_it,
        output_has_a_limit,
        ten_thousand_orphans,
        usage_is_of_the_whole_tree,
        wait_again_and_again,
        any_thread_can_wait,
        the_handle_can_be_polled,
        detached_ends_by_itself,
        a_failed_start_is_told,
    ];
    Needs::RootAndV1("freezer") => [who_ends_late_is_counted, who_does_not_end_is_not_counted];
}

fn sh(sandbox: &Sandbox, script: &str) -> stockade::Command {
    sandbox.way_to("sh").args(["-c", script])
}

fn both() -> [Sandbox; 2] {
    [true, false].map(|init| Sandbox::new().init(init))
}

fn signaled(signal: i32) -> Outcome {
    Outcome::Signaled { signal, core_dumped: false }
}

/// A program that says a byte and then does not end; the pipe is held as long as any of it lives.
fn spawn_telling(command: stockade::Command) -> (Child, std::io::PipeReader) {
    let (reading, writing) = std::io::pipe().unwrap();
    let child = command.fd(5, writing).spawn().unwrap();
    assert_eq!(await_byte(&reading, "the program"), b'!');
    assert!(is_held(&reading));
    (child, reading)
}

fn every_exit_code() {
    // What a way starts programs in is kept.
    life::limit_open_files_softly(4096);
    // Who reads it is the same in each way.
    let step = if common::is_own() { 1 } else { 15 };
    for sandbox in both() {
        for code in (0..=255).step_by(step) {
            let status = sh(&sandbox, &format!("exit {code}")).status().unwrap();
            assert_eq!(status.outcome, Outcome::Exited(code));
            assert_eq!(status.left_count, 0);
        }
    }
}

fn every_fatal_signal() {
    let harmless = [libc::SIGCHLD, libc::SIGCONT, libc::SIGURG, libc::SIGWINCH];
    let stops = [libc::SIGSTOP, libc::SIGTSTP, libc::SIGTTIN, libc::SIGTTOU];
    let mut count = 0;
    for signal in (1..32).chain(34..=64) {
        if harmless.contains(&signal) || stops.contains(&signal) {
            continue;
        }
        let status =
            sh(&Sandbox::new(), &format!("kill -{signal} $$; sleep 1000")).status().unwrap();
        assert_eq!(status.outcome, signaled(signal));
        count += 1;
    }
    assert!(count > 50);
    for signal in harmless {
        let status = sh(&Sandbox::new(), &format!("kill -{signal} $$; exit 3")).status().unwrap();
        assert_eq!(status.outcome, Outcome::Exited(3), "signal {signal}");
    }
}

fn abort_is_told() {
    if my_role().is_some() {
        std::process::abort();
    }
    let status = inside(Sandbox::new(), "abort").status().unwrap();
    assert_eq!(status.outcome, signaled(libc::SIGABRT));
}

fn short() -> Duration {
    moment(60)
}

/// Init does it, and not the handle, which would not reach the second.
fn time_ends_what_it_started_without_a_pid_namespace() {
    let shared = Namespaces::all() - Namespaces::PID;
    let sandbox = Sandbox::new().namespaces(shared).without_atomic_end().wall_time(short());
    let (mut child, reading) =
        spawn_telling(sh(&sandbox, "printf ! >&5; sh -c 'sleep 1000; :'; :"));
    assert_eq!(child.wait().unwrap().outcome, Outcome::TimedOut);
    await_released(&reading, "what it has started");
}

const ENDLESS: &str = "trap '' TERM HUP INT; printf ! >&5; while :; do sleep 1000; done";

fn time_ends_it_for_a_caller_who_waits() {
    for sandbox in both() {
        let (mut child, reading) = spawn_telling(sh(&sandbox.wall_time(short()), ENDLESS));
        assert_eq!(child.wait().unwrap().outcome, Outcome::TimedOut);
        await_released(&reading, "the program");
    }
    let endless = sh(&Sandbox::new().wall_time(short()), "while :; do echo text; done");
    let output = endless.output().unwrap();
    assert_eq!(output.outcome, Outcome::TimedOut);
    assert!(output.stdout.starts_with(b"text\n"));
}

fn time_ends_it_for_a_caller_who_never_waits() {
    let (mut child, reading) = spawn_telling(sh(&Sandbox::new().wall_time(short()), ENDLESS));
    await_released(&reading, "the program");
    assert_eq!(child.wait().unwrap().outcome, Outcome::TimedOut);
}

fn time_ends_it_without_init() {
    let sandbox = Sandbox::new().init(false).wall_time(short());
    let (mut child, reading) = spawn_telling(sh(&sandbox, ENDLESS));
    await_released(&reading, "the program");
    assert_eq!(child.wait().unwrap().outcome, Outcome::TimedOut);
}

/// From outside, as the same user: nothing inside could.
fn stop_init(child: &Child) {
    life::signal(child.id(), libc::SIGSTOP);
    let stat = format!("/proc/{}/stat", child.id());
    while !std::fs::read_to_string(&stat).unwrap().contains(") T ") {
        std::thread::yield_now();
    }
}

fn time_ends_it_when_init_is_stopped() {
    let sandbox = Sandbox::new().wall_time(moment(500));
    let (mut child, reading) = spawn_telling(sh(&sandbox, ENDLESS));
    stop_init(&child);
    assert_eq!(child.wait().unwrap().outcome, Outcome::TimedOut);
    await_released(&reading, "the program");
}

fn time_ends_it_when_init_is_stopped_and_nobody_waits() {
    let sandbox = Sandbox::new().wall_time(moment(500));
    let (mut child, reading) = spawn_telling(sh(&sandbox, ENDLESS));
    stop_init(&child);
    await_released(&reading, "the program");
    assert_eq!(child.wait().unwrap().outcome, Outcome::TimedOut);
}

fn grace_lets_it_clean_up() {
    let sandbox = Sandbox::new().wall_time(short()).grace_period(life::SAFETY);
    let script = "trap 'echo cleaned; exit 7' TERM; echo ready; while :; do sleep 0.01; done";
    let output = sh(&sandbox, script).output().unwrap();
    assert_eq!(output.outcome, Outcome::TimedOut);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "ready\ncleaned\n");
    // A stopped one is woken, or it would not see the signal.
    let script = "trap 'echo cleaned; exit 7' TERM; echo ready; kill -STOP $$; sleep 1000";
    let output = sh(&sandbox, script).output().unwrap();
    assert_eq!(output.outcome, Outcome::TimedOut);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "ready\ncleaned\n");
}

fn grace_ends_for_who_ignores_it() {
    let sandbox = Sandbox::new().wall_time(short()).grace_period(short());
    let script = "trap 'printf T >&5' TERM; printf ! >&5; while :; do sleep 0.01; done";
    let (mut child, reading) = spawn_telling(sh(&sandbox, script));
    assert_eq!(await_byte(&reading, "the handler of SIGTERM"), b'T');
    await_released(&reading, "the program");
    assert_eq!(child.wait().unwrap().outcome, Outcome::TimedOut);
}

fn time_is_not_up_for_who_was_faster() {
    for sandbox in both() {
        let status = sh(&sandbox.wall_time(life::SAFETY), "exit 5").status().unwrap();
        assert_eq!(status.outcome, Outcome::Exited(5));
    }
}

fn kill_is_told() {
    for sandbox in both() {
        let (mut child, reading) = spawn_telling(sh(&sandbox, ENDLESS));
        child.kill().unwrap();
        await_released(&reading, "the program");
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().outcome, Outcome::Killed);
    }
}

fn kill_after_the_end_changes_nothing() {
    for sandbox in both() {
        let (reading, writing) = pipe();
        let mut child = sh(&sandbox, "exit 9").fd(5, writing).spawn().unwrap();
        await_released(&reading, "the program");
        assert!(ended(&child));
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().outcome, Outcome::Exited(9));
    }
}

/// Waits until the handle's descriptor says that all has ended.
fn ended(child: &Child) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut set = [PollFd::new(child.as_fd(), PollFlags::POLLIN)];
    poll(&mut set, PollTimeout::try_from(life::SAFETY).unwrap()).unwrap() == 1
}

fn a_signal_reaches_the_program() {
    let script = "trap 'exit 21' USR1; printf ! >&5; while :; do sleep 0.01; done";
    for sandbox in both() {
        let (mut child, _reading) = spawn_telling(sh(&sandbox, script));
        child.signal(0).unwrap();
        assert_eq!(child.signal(1000).unwrap_err().raw_os_error(), Some(libc::EINVAL));
        child.signal(libc::SIGUSR1).unwrap();
        assert_eq!(child.wait().unwrap().outcome, Outcome::Exited(21));
        assert_eq!(child.signal(libc::SIGUSR1).unwrap_err().raw_os_error(), Some(libc::ESRCH));
    }
    let (mut child, _reading) = spawn_telling(sh(&Sandbox::new(), "printf ! >&5; sleep 1000"));
    child.signal(libc::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().outcome, signaled(libc::SIGTERM));
}

fn a_killed_init_is_told() {
    let (mut child, reading) = spawn_telling(sh(&Sandbox::new(), ENDLESS));
    life::signal(child.id(), libc::SIGKILL);
    await_released(&reading, "the program");
    let outcome = child.wait().unwrap().outcome;
    // What another process reaps, as a template its copies, Linux tells since 6.15.
    let own = common::is_own();
    let signal = if own || linux() >= (6, 15) { libc::SIGKILL } else { 0 };
    assert_eq!(outcome, Outcome::InitKilled { signal });
}

/// The kernel's version.
fn linux() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers =
        release.split(|c: char| !c.is_ascii_digit()).map(|text| text.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

/// Plays a daemon, or a program that lives beside one, if that is this process's role.
fn play() {
    match my_role().as_deref() {
        Some("daemon") => life::be_a_daemon(),
        Some(_) => life::live_beside_a_daemon(),
        None => {}
    }
}

/// A program, in the role of that name, whose daemon is there: descriptor 5 is the daemon's, too.
fn spawn_with_daemon(sandbox: Sandbox, role: &str) -> Option<(Child, std::io::PipeReader)> {
    let (reading, writing) = std::io::pipe().unwrap();
    let child = inside(sandbox, role).fd(5, writing).spawn().unwrap();
    assert_eq!(life::first_byte(&reading)?, b'!');
    Some((child, reading))
}

/// The same with a wall time in which the daemon comes to be, however slow this machine is.
fn spawn_with_daemon_in_time(sandbox: &Sandbox, role: &str) -> (Child, std::io::PipeReader) {
    let mut times = (0..8).map(|doubled| Duration::from_millis(250 << doubled));
    let spawned = times.find_map(|time| spawn_with_daemon(sandbox.clone().wall_time(time), role));
    spawned.expect("a daemon before its time is up")
}

fn time_ends_a_daemon_for_a_caller_who_waits() {
    play();
    for sandbox in both() {
        let (mut child, reading) = spawn_with_daemon_in_time(&sandbox, "program");
        assert_eq!(child.wait().unwrap().outcome, Outcome::TimedOut);
        await_released(&reading, "the daemon");
    }
}

fn time_ends_a_daemon_for_a_caller_who_never_waits() {
    play();
    for sandbox in both() {
        let (mut child, reading) = spawn_with_daemon_in_time(&sandbox, "program");
        await_released(&reading, "the daemon");
        assert_eq!(child.wait().unwrap().outcome, Outcome::TimedOut);
    }
}

fn time_ends_a_daemon_that_does_not_heed_the_grace() {
    play();
    let sandbox = Sandbox::new().grace_period(short());
    let (mut child, reading) = spawn_with_daemon_in_time(&sandbox, "program");
    await_released(&reading, "the daemon");
    assert_eq!(child.wait().unwrap().outcome, Outcome::TimedOut);
}

/// The program ends at once, and only its daemon is there until the time is up.
fn time_ends_a_daemon_that_lingers() {
    play();
    let sandbox = Sandbox::new().linger(life::SAFETY * 10);
    let (mut child, reading) = spawn_with_daemon_in_time(&sandbox, "daemon");
    await_released(&reading, "the daemon");
    let status = child.wait().unwrap();
    assert_eq!((status.outcome, status.left_count), (Outcome::Exited(0), 1));
}

fn time_ends_a_daemon_when_init_is_stopped() {
    play();
    for waits in [true, false] {
        let (mut child, reading) = spawn_with_daemon_in_time(&Sandbox::new(), "program");
        stop_init(&child);
        if waits {
            assert_eq!(child.wait().unwrap().outcome, Outcome::TimedOut);
        }
        await_released(&reading, "the daemon");
        assert_eq!(child.wait().unwrap().outcome, Outcome::TimedOut);
    }
}

fn time_ends_the_daemon_of_a_detached_sandbox() {
    play();
    for sandbox in both() {
        let (child, reading) = spawn_with_daemon_in_time(&sandbox, "program");
        child.detach().unwrap();
        await_released(&reading, "the daemon");
    }
}

fn kill_ends_a_daemon() {
    play();
    for sandbox in both() {
        let (mut child, reading) = spawn_with_daemon(sandbox, "program").unwrap();
        assert!(is_held(&reading));
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().outcome, Outcome::Killed);
        await_released(&reading, "the daemon");
    }
}

fn drop_ends_a_daemon() {
    play();
    for sandbox in both() {
        let (child, reading) = spawn_with_daemon(sandbox, "program").unwrap();
        assert!(is_held(&reading));
        drop(child);
        await_released(&reading, "the daemon");
    }
}

fn the_programs_end_ends_a_daemon() {
    play();
    for sandbox in [Sandbox::new(), Sandbox::new().wall_time(life::SAFETY)] {
        let (reading, writing) = std::io::pipe().unwrap();
        let status = inside(sandbox, "daemon").fd(5, writing).status().unwrap();
        assert_eq!(status.outcome, Outcome::Exited(0));
        await_released(&reading, "the daemon");
    }
    // Without init the program is PID 1: with its end the kernel ends the rest.
    let (reading, writing) = std::io::pipe().unwrap();
    inside(Sandbox::new().init(false), "daemon").fd(5, writing).status().unwrap();
    await_released(&reading, "the daemon");
}

fn drop_ends_stopped_processes() {
    for sandbox in both() {
        let script = "sleep 1000 & kill -STOP $!; printf ! >&5; kill -STOP $$; sleep 1000";
        let (child, reading) = spawn_telling(sh(&sandbox, script));
        drop(child);
        await_released(&reading, "a stopped process");
        let script = "sleep 1000 & kill -STOP $!; printf ! >&5; exit 4";
        let (mut child, reading) = spawn_telling_to_end(sh(&sandbox, script));
        assert_eq!(child.wait().unwrap().outcome, Outcome::Exited(4));
        await_released(&reading, "a stopped process");
    }
}

fn spawn_telling_to_end(command: stockade::Command) -> (Child, std::io::PipeReader) {
    let (reading, writing) = std::io::pipe().unwrap();
    let child = command.fd(5, writing).spawn().unwrap();
    assert_eq!(await_byte(&reading, "the program"), b'!');
    (child, reading)
}

fn lingering_lets_them_finish() {
    let late = moment(200).as_secs_f64();
    let script = &format!("(trap '' HUP; sleep {late}; echo late) & exit 6");
    let output = sh(&Sandbox::new().linger(life::SAFETY), script).output().unwrap();
    assert_eq!((output.outcome, output.left_count), (Outcome::Exited(6), 0));
    assert_eq!(output.stdout, b"late\n");
    let output = sh(&Sandbox::new(), script).output().unwrap();
    assert_eq!(output.outcome, Outcome::Exited(6));
    assert!(output.left_count >= 1);
    assert_eq!(output.stdout, b"");
}

fn lingering_does_not_outlast_the_wall_time() {
    let sandbox = Sandbox::new().linger(life::SAFETY * 10).wall_time(moment(1500));
    let (reading, writing) = pipe();
    let status = sh(&sandbox, "sleep 1000 & exit 6").fd(5, writing).status().unwrap();
    await_released(&reading, "what lingers");
    // The program itself was in time.
    assert_eq!((status.outcome, status.left_count), (Outcome::Exited(6), 1));
}

fn what_was_left_is_listed() {
    let script = "sleep 1000 & echo $!; sleep 1000 & echo $!; exit 0";
    let output = sh(&Sandbox::new(), script).output().unwrap();
    assert_eq!((output.outcome, output.left_count), (Outcome::Exited(0), 2));
    let said = String::from_utf8(output.stdout).unwrap();
    let mut said: Vec<u32> = said.lines().map(|line| line.parse().unwrap()).collect();
    let mut left: Vec<_> = output.left.iter().map(|left| left.pid).collect();
    said.sort_unstable();
    left.sort_unstable();
    assert_eq!(left, said);
    // Killed before its exec, one has the shell's name still.
    assert!(output.left.iter().all(|left| ["sleep", "sh", "dash"].contains(&&*left.name)));
    let many = "i=0; while [ $i -lt 50 ]; do sleep 1000 & i=$((i+1)); done";
    let status = sh(&Sandbox::new(), many).status().unwrap();
    assert_eq!((status.left_count, status.left.len()), (50, 32));
}

/// A process that SIGKILL does not end before it is thawed.
struct Frozen {
    group: std::path::PathBuf,
    pid: u32,
}

impl Frozen {
    fn new(pid: u32) -> Self {
        let mut points = common::mounted().into_iter().map(|(point, _)| point);
        let point = points.find(|point| point.ends_with("freezer")).unwrap();
        let group = point.join(format!("test-of-stockade-{}", std::process::id()));
        std::fs::create_dir(&group).unwrap();
        let frozen = Frozen { group, pid };
        frozen.set("cgroup.procs", &pid.to_string());
        frozen.set("freezer.state", "FROZEN");
        while std::fs::read(frozen.group.join("freezer.state")).unwrap() != b"FROZEN\n" {
            std::thread::sleep(moment(1));
        }
        frozen
    }

    fn set(&self, file: &str, to: &str) {
        std::fs::write(self.group.join(file), to).unwrap();
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.set("freezer.state", "THAWED");
        await_gone(self.pid);
        std::fs::remove_dir(&self.group).unwrap();
    }
}

/// Until it has been reaped.
fn await_gone(pid: u32) {
    while std::path::Path::new(&format!("/proc/{pid}")).exists() {
        std::thread::sleep(moment(1));
    }
}

/// A sandbox whose time will be up, and the two processes that it leaves.
fn two_that_stay() -> (Child, [u32; 2]) {
    let sandbox = Sandbox::new().wall_time(moment(2000));
    // A supervisor in a session's pid namespace cannot say that it has killed all at once.
    let script = "sleep 1000 & sleep 1000 & wait";
    let child = sandbox.command("sh").args(["-c", script]).spawn().unwrap();
    let program = child.program_id().unwrap();
    let children = format!("/proc/{program}/task/{program}/children");
    loop {
        let pids = std::fs::read_to_string(&children).unwrap();
        let pids: Vec<_> = pids.split_whitespace().map(|pid| pid.parse().unwrap()).collect();
        if let [first, second] = pids[..] {
            return (child, [first, second]);
        }
    }
}

/// On a busy machine it takes a while until all that init has killed have ended.
fn who_ends_late_is_counted() {
    let (mut child, [quick, slow]) = two_that_stay();
    let frozen = Frozen::new(slow);
    let thaw = std::thread::spawn(move || {
        await_gone(quick);
        // The handle, which would not have waited longer than 250 ms for an init that says nothing.
        std::thread::sleep(moment(700));
        drop(frozen);
    });
    let status = child.wait().unwrap();
    thaw.join().unwrap();
    assert_eq!((status.outcome, status.left_count), (Outcome::TimedOut, 2));
    assert_eq!(status.left.len(), 2);
    assert!(status.usage.unwrap().wall >= moment(2000));
}

/// But there is an end to it, at which at least the others are known.
fn who_does_not_end_is_not_counted() {
    let (mut child, [_, stuck]) = two_that_stay();
    let frozen = Frozen::new(stuck);
    let init = format!("/proc/{}/cmdline", child.id());
    let thaw = std::thread::spawn(move || {
        // What has been killed has no memory any more.
        while !std::fs::read(&init).unwrap().is_empty() {
            std::thread::sleep(moment(1));
        }
        drop(frozen);
    });
    let status = child.wait().unwrap();
    thaw.join().unwrap();
    assert_eq!((status.outcome, status.left_count), (Outcome::TimedOut, 1));
    assert_eq!(status.left.len(), 1);
}

fn output_does_not_wait_for_who_holds_it() {
    for sandbox in both() {
        let output = sh(&sandbox, "setsid sleep 1000 & echo text").output().unwrap();
        assert_eq!((output.outcome, output.stdout), (Outcome::Exited(0), b"text\n".to_vec()));
    }
}

fn output_has_a_limit() {
    let flood = "head -c 3000000 /dev/zero; head -c 10 /dev/zero >&2; exit 8";
    let output = sh(&Sandbox::new(), flood).keep_output(1000).output().unwrap();
    assert_eq!(output.outcome, Outcome::Exited(8));
    assert_eq!((output.stdout.len(), output.stdout_truncated), (1000, true));
    assert_eq!((output.stderr.len(), output.stderr_truncated), (10, false));
    let output = sh(&Sandbox::new(), flood).output().unwrap();
    assert_eq!((output.stdout.len(), output.stdout_truncated), (3_000_000, false));
    let mut child = sh(&Sandbox::new(), "cat; echo end >&2");
    child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"in").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((&*output.stdout, &*output.stderr), (&b"in"[..], &b"end\n"[..]));
}

/// Forks children that fork and end at once: every grandchild is an orphan.
fn ten_thousand_orphans() {
    const EACH: u32 = 200;
    if my_role().is_some() {
        for _ in 0..10_000 / EACH {
            life::join(life::fork(|| {
                for _ in 0..EACH {
                    life::fork(|| {});
                }
            }));
            await_few_processes();
        }
        std::process::exit(11);
    }
    let status = inside(Sandbox::new(), "program").status().unwrap();
    assert_eq!((status.outcome, status.left_count), (Outcome::Exited(11), 0));
}

/// Until init has reaped what there was. Init itself may be seen or not.
fn await_few_processes() {
    let me = std::process::id();
    let is_other = |name: &str| name.parse::<u32>().is_ok_and(|pid| pid != 1 && pid != me);
    loop {
        let mut entries = std::fs::read_dir("/proc").unwrap().flatten();
        if !entries.any(|entry| is_other(&entry.file_name().to_string_lossy())) {
            return;
        }
        std::thread::yield_now();
    }
}

fn usage_is_of_the_whole_tree() {
    if let Some(role) = my_role() {
        let burn = || {
            let mut memory = vec![0u8; 64 << 20];
            memory.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
            while life::cpu_time() < Duration::from_millis(200) {
                std::hint::black_box(&memory);
            }
        };
        return if role == "child" { life::join(life::fork(burn)) } else { burn() };
    }
    for (init, role) in [(true, "itself"), (true, "child"), (false, "itself"), (false, "child")] {
        let status = inside(Sandbox::new().init(init), role).status().unwrap();
        assert_eq!(status.outcome, Outcome::Exited(0));
        let usage = status.usage.unwrap();
        assert!(
            usage.user + usage.system >= Duration::from_millis(200),
            "{init} {role}: {usage:?}"
        );
        assert!(usage.peak_rss_of_largest >= 64 << 20, "{init} {role}: {usage:?}");
        assert!(usage.peak_rss_of_largest < 1 << 30, "{usage:?}");
        // One for each page; where they are huge, these are 2 MiB.
        assert!(usage.minor_faults >= 64 << 20 >> 21, "{usage:?}");
        assert!(usage.wall >= Duration::from_millis(100), "{usage:?}");
    }
    let idle = Sandbox::new().way_to("true").status().unwrap().usage.unwrap();
    assert!(idle.peak_rss_of_largest < 64 << 20, "{idle:?}");
}

fn wait_again_and_again() {
    for sandbox in both() {
        let mut child = sandbox.way_to("cat").stdin(Stdio::piped()).spawn().unwrap();
        assert_eq!(child.try_wait().unwrap(), None);
        assert_eq!(child.wait_timeout(Duration::from_millis(5)).unwrap(), None);
        // Neither has closed its input.
        child.stdin.as_mut().unwrap().write_all(b"x").unwrap();
        let first: Status = child.wait().unwrap();
        assert_eq!(first.outcome, Outcome::Exited(0));
        assert_eq!(child.wait().unwrap(), first);
        assert_eq!(child.try_wait().unwrap(), Some(first.clone()));
        assert_eq!(child.wait_timeout(Duration::ZERO).unwrap(), Some(first));
        child.kill().unwrap();
        assert!(child.program_id().is_none());
    }
}

fn any_thread_can_wait() {
    for sandbox in both() {
        let spawner = std::thread::spawn(move || spawn_telling(sh(&sandbox, ENDLESS)));
        let (mut child, reading) = spawner.join().unwrap();
        assert_eq!(child.wait_timeout(Duration::from_millis(20)).unwrap(), None);
        assert!(is_held(&reading));
        child.kill().unwrap();
        let status = std::thread::spawn(move || child.wait()).join().unwrap().unwrap();
        assert_eq!(status.outcome, Outcome::Killed);
        await_released(&reading, "the program");
    }
}

fn the_handle_can_be_polled() {
    for sandbox in both() {
        let mut command = sandbox.way_to("cat").stdin(Stdio::piped());
        command = command.stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        assert!(child.program_id().is_some() && child.inner_id() > 0);
        drop(child.stdin.take());
        assert!(ended(&child));
        let mut rest = Vec::new();
        child.stdout.take().unwrap().read_to_end(&mut rest).unwrap();
        assert_eq!(child.try_wait().unwrap().unwrap().outcome, Outcome::Exited(0));
    }
}

fn detached_ends_by_itself() {
    for sandbox in both() {
        let (reading, writing) = pipe();
        let (input, ours) = pipe();
        let child = sandbox.way_to("cat").stdin(input).fd(5, writing).spawn().unwrap();
        child.detach().unwrap();
        assert!(is_held(&reading));
        drop(ours);
        await_released(&reading, "the detached sandbox");
        // Its wall time stays.
        let (child, reading) = spawn_telling(sh(&sandbox.wall_time(short()), ENDLESS));
        child.detach().unwrap();
        await_released(&reading, "the detached sandbox past its time");
    }
}

fn a_failed_start_is_told() {
    for sandbox in both() {
        let (reading, writing) = pipe();
        let error = sandbox.way_to("true").current_dir("/nowhere").fd(5, writing).spawn();
        assert_eq!(error.unwrap_err().raw_os_error(), Some(libc::ENOENT));
        await_released(&reading, "the failed sandbox");
        let error = sandbox.way_to("/usr").spawn().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EACCES));
    }
}
