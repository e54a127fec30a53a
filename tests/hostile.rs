//! Programs that attack their init, their time limit and the host's resources, from inside.
#![allow(
    clippy::exit,
    clippy::incompatible_msrv,
    clippy::cast_possible_truncation,
    reason = "a test process, built by a current toolchain"
)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails so")]
#![allow(unsafe_code)]

mod common;
#[path = "common/life.rs"]
mod life;

use std::io::{Read, Write};
use std::time::Duration;

use common::ways::Ways;
use common::{Needs, moment, rounds};
use life::{await_byte, await_released, inside, my_role};
use stockade::{Outcome, Proc, Resource, Sandbox, Seccomp, Stdio};

tests_in_all_ways! {
    Needs::Nothing => [
        init_cannot_be_attacked,
        init_cannot_be_attacked_at_its_start,
        init_is_not_confused_by_a_tracee,
        init_is_not_confused_by_signals,
        a_fork_bomb_ends,
        a_flood_of_output_ends,
        closes_everything,
        kills_everyone,
        ends_before_thousands,
        executes_with_huge_arguments,
        stops_its_own_group,
        inotify_is_left_to_the_caller,
    ];
}

/// What is tried on a process: the name, and whether the kernel let it happen.
type Attack = (&'static str, fn(i32) -> bool);

fn call(number: i64, args: [usize; 5]) -> bool {
    let [a, b, c, d, e] = args;
    // SAFETY: the attacks pass numbers, and addresses of live values that are large enough.
    unsafe { libc::syscall(number, a, b, c, d, e) >= 0 }
}

/// ptrace(2), undone if it worked.
fn trace(request: u32, pid: i32) -> bool {
    // SAFETY: neither request takes an address.
    let traced = unsafe { libc::ptrace(request, pid, 0, 0) } == 0;
    if traced {
        if request == libc::PTRACE_ATTACH {
            // SAFETY: no status is asked for.
            unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::__WALL) };
        } else {
            // SAFETY: as above.
            unsafe { libc::ptrace(libc::PTRACE_INTERRUPT, pid, 0, 0) };
            // SAFETY: as above.
            unsafe { libc::waitpid(pid, std::ptr::null_mut(), libc::__WALL) };
        }
        // SAFETY: as above.
        unsafe { libc::ptrace(libc::PTRACE_DETACH, pid, 0, 0) };
    }
    traced
}

fn limit(pid: i32, resource: u32, to: u64) -> bool {
    let pair = [to, to];
    call(libc::SYS_prlimit64, [pid as usize, resource as usize, pair.as_ptr() as usize, 0, 0])
}

fn write_to(pid: i32, file: &str, text: &str) -> bool {
    let file = std::fs::OpenOptions::new().write(true).open(format!("/proc/{pid}/{file}"));
    file.and_then(|mut file| file.write_all(text.as_bytes())).is_ok()
}

fn read_of(pid: i32, file: &str) -> bool {
    let file = std::fs::File::open(format!("/proc/{pid}/{file}"));
    file.and_then(|mut file| file.read(&mut [0])).is_ok()
}

fn schedule(pid: i32) -> bool {
    let batch = [0i32];
    let args = [pid as usize, libc::SCHED_BATCH as usize, batch.as_ptr() as usize, 0, 0];
    call(libc::SYS_sched_setscheduler, args)
}

fn schedule_by_attributes(pid: i32) -> bool {
    // struct sched_attr: size, policy SCHED_IDLE, flags, nice, and five more words.
    let idle = [48u32, libc::SCHED_IDLE as u32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    call(libc::SYS_sched_setattr, [pid as usize, idle.as_ptr() as usize, 0, 0, 0])
}

fn pin(pid: i32) -> bool {
    let mut mask = [0u64; 16];
    let size = size_of_val(&mask);
    if !call(libc::SYS_sched_getaffinity, [0, size, mask.as_mut_ptr() as usize, 0, 0]) {
        return false;
    }
    call(libc::SYS_sched_setaffinity, [pid as usize, size, mask.as_ptr() as usize, 0, 0])
}

fn read_memory(pid: i32) -> bool {
    // The copy of a forked process has this where the original has it.
    static SECRET: [u8; 16] = [7; 16];
    let mut bytes = [0u8; 16];
    let local = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: 16 };
    let remote = libc::iovec { iov_base: SECRET.as_ptr().cast_mut().cast(), iov_len: 16 };
    // SAFETY: both vectors describe 16 bytes; the local ones are writable.
    unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) == 16 }
}

fn steal_descriptor(pid: i32) -> bool {
    // SAFETY: these calls take numbers.
    let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    (0..32).any(|number| call(libc::SYS_pidfd_getfd, [pidfd as usize, number, 0, 0, 0]))
}

/// Everything that works on a process of the same user. A group's or a user's number stands for all
/// of its processes, init among them.
const ATTACKS: &[Attack] = &[
    ("ptrace attach", |pid| trace(libc::PTRACE_ATTACH, pid)),
    ("ptrace seize", |pid| trace(libc::PTRACE_SEIZE, pid)),
    ("limit of time", |pid| limit(pid, libc::RLIMIT_CPU, 1000)),
    ("limit of memory", |pid| limit(pid, libc::RLIMIT_AS, 1 << 30)),
    ("limit of files", |pid| limit(pid, libc::RLIMIT_NOFILE, 64)),
    ("affinity", pin),
    ("scheduler", schedule),
    ("scheduler attributes", schedule_by_attributes),
    ("priority", |pid| {
        call(libc::SYS_setpriority, [libc::PRIO_PROCESS as usize, pid as usize, 19, 0, 0])
    }),
    ("I/O priority", |pid| call(libc::SYS_ioprio_set, [1, pid as usize, 3 << 13, 0, 0])),
    ("memory by call", read_memory),
    ("a descriptor", steal_descriptor),
    ("memory by file", |pid| {
        std::fs::OpenOptions::new().write(true).open(format!("/proc/{pid}/mem")).is_ok()
    }),
    ("map", |pid| read_of(pid, "maps")),
    ("environment", |pid| std::fs::File::open(format!("/proc/{pid}/environ")).is_ok()),
    ("auxiliary vector", |pid| read_of(pid, "auxv")),
    ("descriptors", |pid| std::fs::read_dir(format!("/proc/{pid}/fd")).is_ok()),
    ("executable", |pid| std::fs::File::open(format!("/proc/{pid}/exe")).is_ok()),
    ("root", |pid| std::fs::read_dir(format!("/proc/{pid}/root")).is_ok()),
    ("working directory", |pid| std::fs::read_dir(format!("/proc/{pid}/cwd")).is_ok()),
    ("score", |pid| write_to(pid, "oom_score_adj", "1000")),
    ("dump filter", |pid| write_to(pid, "coredump_filter", "0")),
];

/// Attacks by group and user, which would hit the attacker too and so are not tried elsewhere.
fn attack_by_number() -> Vec<&'static str> {
    let mut worked = Vec::new();
    for (name, number, args) in [
        ("priority of group 1", libc::SYS_setpriority, [libc::PRIO_PGRP as usize, 1, 19, 0, 0]),
        ("priority of the user", libc::SYS_setpriority, [libc::PRIO_USER as usize, 0, 19, 0, 0]),
        ("I/O priority of group 1", libc::SYS_ioprio_set, [2, 1, 3 << 13, 0, 0]),
        ("I/O priority of the user", libc::SYS_ioprio_set, [3, 0, 3 << 13, 0, 0]),
    ] {
        if call(number, args) {
            worked.push(name);
        }
    }
    worked
}

fn attack(pid: i32) -> Vec<&'static str> {
    ATTACKS.iter().filter(|(_, attack)| attack(pid)).map(|(name, _)| *name).collect()
}

/// Signals that would stop or end another process; the kernel says yes and does nothing.
fn shoot_at_init() {
    for signal in 0..=64 {
        call(libc::SYS_kill, [1, signal, 0, 0, 0]);
        call(libc::SYS_tgkill, [1, 1, signal, 0, 0]);
    }
    let information = [libc::SIGCHLD, 0, libc::CLD_EXITED, 0, 2, 0, 0, 0];
    for signal in [libc::SIGCHLD, libc::SIGSTOP, libc::SIGKILL] {
        let args = [1, signal as usize, information.as_ptr() as usize, 0, 0];
        call(libc::SYS_rt_sigqueueinfo, args);
    }
}

/// What the host sees of init that an attack could change.
fn seen_of(pid: u32) -> Vec<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    // State, priority, nice, policy; sleeping or running is all the same.
    let state = if ["S", "R", "D"].contains(&fields[0]) { "lives" } else { fields[0] };
    let mut seen = [state, fields[15], fields[16], fields[38]].join(" ");
    seen += &std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let affinity = status.lines().filter(|line| {
        ["Name", "TracerPid", "Cpus_allowed"].iter().any(|key| line.starts_with(key))
    });
    std::iter::once(seen).chain(affinity.map(str::to_owned)).collect()
}

/// What the default profile refuses whoever is the victim.
const OF_THE_PROFILE: &str =
    "[\"ptrace attach\", \"ptrace seize\", \"memory by call\", \"a descriptor\"]";

fn init_cannot_be_attacked() {
    if my_role().is_some() {
        let mut proof = Vec::new();
        // On another process of its own user all of it works.
        for (name, attack) in ATTACKS {
            let victim = life::fork(|| std::thread::sleep(life::SAFETY));
            if !attack(victim) {
                proof.push(*name);
            }
            call(libc::SYS_kill, [victim as usize, libc::SIGKILL as usize, 0, 0, 0]);
            // SAFETY: no status is asked for.
            unsafe { libc::waitpid(victim, std::ptr::null_mut(), 0) };
        }
        shoot_at_init();
        let mut worked = attack(1);
        worked.extend(attack_by_number());
        println!("not on others: {proof:?}\non init: {worked:?}");
        let mut end = Vec::new();
        std::io::stdin().read_to_end(&mut end).unwrap();
        std::process::exit(17);
    }
    // With no profile the other walls hold it alone.
    for (proc, seccomp, refused) in [
        (Proc::Processes, Seccomp::none(), "[]"),
        (Proc::Full, Seccomp::none(), "[]"),
        (Proc::Full, Seccomp::default(), OF_THE_PROFILE),
    ] {
        let sandbox = Sandbox::new().proc(proc).seccomp(seccomp);
        let mut command = inside(sandbox, "attacker").stdin(Stdio::piped());
        command = command.stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let before = seen_of(child.id());
        let mut said = String::new();
        let mut stdout = child.stdout.take().unwrap();
        while said.matches('\n').count() < 2 {
            said.push(char::from(await_byte(&stdout, "the attacker")));
        }
        let expected = format!("not on others: {refused}\non init: []");
        assert_eq!(said.trim_end(), expected, "{proc:?}");
        // The line break is still to be read.
        assert_eq!(seen_of(child.id()), before);
        drop(child.stdin.take());
        stdout.read_to_string(&mut said).unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.outcome, Outcome::Exited(17));
    }
}

/// Attacks every process there is, over and over, until the time is up.
fn init_cannot_be_attacked_at_its_start() {
    if my_role().is_some() {
        for _ in 0..3 {
            life::fork_to_run(attack_forever);
        }
        attack_forever();
    }
    for round in 0..rounds(30) {
        let (reading, writing) = std::io::pipe().unwrap();
        let seccomp = if round % 3 == 0 { Seccomp::default() } else { Seccomp::none() };
        let proc = if round % 2 == 0 { Proc::Processes } else { Proc::Full };
        let sandbox = Sandbox::new().wall_time(moment(150)).seccomp(seccomp).proc(proc);
        let mut child = inside(sandbox, "attacker").fd(5, writing).spawn().unwrap();
        // Nobody waits: init or the warden must do it.
        await_released(&reading, "an attacker");
        assert_eq!(child.wait().unwrap().outcome, Outcome::TimedOut);
    }
}

/// Whatever is visible and not of the attackers' own session, and init where it is not.
fn attack_forever() {
    // SAFETY: a question about a number.
    let session = |pid| unsafe { libc::getsid(pid) };
    loop {
        attack(1);
        let names = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = names.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        for pid in pids.filter(|&pid| session(pid) != session(0)) {
            attack(pid);
        }
        shoot_at_init();
        attack_by_number();
    }
}

/// Init becomes the tracer of a child that asks for it, and is told of every stop.
fn init_is_not_confused_by_a_tracee() {
    if let Some(role) = my_role() {
        assert!(call(libc::SYS_ptrace, [libc::PTRACE_TRACEME as usize, 0, 0, 0, 0]));
        if role == "stops" {
            call(libc::SYS_kill, [std::process::id() as usize, libc::SIGUSR1 as usize, 0, 0, 0]);
        }
        std::process::exit(19);
    }
    let traceable = Sandbox::new().seccomp(Seccomp::none());
    let status = inside(traceable.clone(), "goes on").status().unwrap();
    assert_eq!(status.outcome, Outcome::Exited(19));
    // It stands still until its time is up, and has not ended before.
    let (reading, writing) = std::io::pipe().unwrap();
    let sandbox = traceable.wall_time(moment(300));
    let status = inside(sandbox, "stops").fd(5, writing).status().unwrap();
    assert_eq!(status.outcome, Outcome::TimedOut);
    await_released(&reading, "the tracee");
}

fn init_is_not_confused_by_signals() {
    if my_role().is_some() {
        for _ in 0..20 {
            shoot_at_init();
        }
        std::process::exit(23);
    }
    for init in [true, false] {
        if init {
            let status = inside(Sandbox::new(), "shoots").status().unwrap();
            assert_eq!(status.outcome, Outcome::Exited(23));
        }
    }
}

fn a_fork_bomb_ends() {
    const MARKER: &str = "a-fork-bomb-of-the-tests";
    if my_role().is_some() {
        let mut told = life::inherited(5);
        loop {
            // SAFETY: this process has one thread.
            if unsafe { libc::fork() } < 0 {
                let full = std::io::Error::last_os_error().raw_os_error() == Some(libc::EAGAIN);
                told.write_all(if full { b"!" } else { b"?" }).unwrap();
                // A thousand of them leave the test time to look at them.
                std::thread::sleep(Duration::from_secs(1));
            }
        }
    }
    let marker = format!("{MARKER}-{}", std::process::id());
    let (reading, writing) = std::io::pipe().unwrap();
    let sandbox = Sandbox::new().wall_time(moment(3000));
    let mut child = inside(sandbox, "bomb").arg(&marker).fd(5, writing).spawn().unwrap();
    // It has reached its limit, and the host has not.
    assert_eq!(await_byte(&reading, "the bomb"), b'!');
    let alive = life::anyone_with(&marker).len();
    // Looking may take longer than its time.
    let ended = child.try_wait().unwrap().is_some();
    assert!((alive > 10 || ended) && alive <= 1024, "{alive}");
    assert!(std::process::Command::new("true").status().unwrap().success());
    await_released(&reading, "a part of the bomb");
    let status = child.wait().unwrap();
    assert_eq!(status.outcome, Outcome::TimedOut);
    // Counting takes time, which init has some of.
    assert!(status.left_count > 10 || common::slowness() > 1);
    assert_eq!(life::anyone_with(&marker), [0; 0]);
}

fn a_flood_of_output_ends() {
    for init in [true, false] {
        let sandbox = Sandbox::new().init(init).wall_time(moment(300));
        let flood = sandbox.way_to("sh").args(["-c", "cat /dev/zero & exec cat /dev/zero >&2"]);
        let output = flood.keep_output(4096).output().unwrap();
        assert_eq!(output.outcome, Outcome::TimedOut);
        assert_eq!((output.stdout.len(), output.stderr.len()), (4096, 4096));
        assert!(output.stdout_truncated && output.stderr_truncated);
    }
}

fn closes_everything() {
    if let Some(role) = my_role() {
        life::close_from(0);
        if role == "stays" {
            std::thread::sleep(life::SAFETY);
        }
        // SAFETY: ends this process at once; no stream is left to flush.
        unsafe { libc::_exit(29) };
    }
    for init in [true, false] {
        let status = inside(Sandbox::new().init(init), "ends").output().unwrap();
        assert_eq!(status.outcome, Outcome::Exited(29));
        let sandbox = Sandbox::new().init(init).wall_time(moment(200));
        assert_eq!(inside(sandbox, "stays").output().unwrap().outcome, Outcome::TimedOut);
    }
}

fn kills_everyone() {
    if my_role().is_some() {
        let victim = life::fork(|| std::thread::sleep(life::SAFETY));
        for signal in [libc::SIGSTOP, libc::SIGKILL] {
            assert!(call(libc::SYS_kill, [usize::MAX, signal as usize, 0, 0, 0]));
        }
        life::join_killed(victim.cast_unsigned());
        std::process::exit(31);
    }
    for init in [true, false] {
        let status = inside(Sandbox::new().init(init), "killer").status().unwrap();
        assert_eq!(status.outcome, Outcome::Exited(31), "init {init}");
    }
}

fn ends_before_thousands() {
    const MANY: u64 = 2000;
    if my_role().is_some() {
        for _ in 0..MANY {
            life::fork_to_run(|| {
                life::ignore(libc::SIGTERM);
                std::thread::sleep(life::SAFETY);
            });
        }
        std::process::exit(37);
    }
    let (reading, writing) = std::io::pipe().unwrap();
    let sandbox = Sandbox::new().rlimit(Resource::Processes, MANY + 100);
    let status = inside(sandbox, "program").fd(5, writing).status().unwrap();
    assert_eq!((status.outcome, status.left_count), (Outcome::Exited(37), MANY));
    await_released(&reading, "one of thousands");
}

fn executes_with_huge_arguments() {
    let script = "big=$(head -c 120000 /dev/zero | tr '\\0' x); \
                  sh -c 'exit 41' \"$big\" \"$big\" \"$big\" \"$big\" || [ $? = 41 ] || exit 1; \
                  set -- \"$big\"; for i in 1 2 3 4 5 6 7 8; do set -- \"$@\" \"$@\"; done; \
                  sh -c 'exit 0' \"$@\" 2>/dev/null && exit 2; exit 43";
    let status = Sandbox::new().way_to("sh").args(["-c", script]).status().unwrap();
    assert_eq!(status.outcome, Outcome::Exited(43));
}

fn stops_its_own_group() {
    let script = "sleep 1000 & printf ! >&5; kill -STOP 0; kill -STOP -1; exit 3";
    for init in [true, false] {
        let (reading, writing) = std::io::pipe().unwrap();
        let sandbox = Sandbox::new().init(init).wall_time(moment(300));
        let command = sandbox.way_to("sh").args(["-c", script]).fd(5, writing);
        let mut child = command.spawn().unwrap();
        assert_eq!(await_byte(&reading, "the program"), b'!');
        await_released(&reading, "a stopped process");
        let outcome = child.wait().unwrap().outcome;
        // PID 1 cannot stop itself.
        let expected = if init { Outcome::TimedOut } else { Outcome::Exited(3) };
        assert_eq!(outcome, expected);
    }
}

/// Makes all that it can; returns how many.
fn as_many(most: usize, mut one: impl FnMut(usize) -> i32) -> usize {
    (0..most).take_while(|&number| one(number) >= 0).count()
}

/// What counts for who made the user namespace.
fn inotify_is_left_to_the_caller() {
    let instance = |_| {
        // SAFETY: it takes flags only.
        unsafe { libc::inotify_init1(libc::IN_CLOEXEC) }
    };
    if my_role().is_some() {
        std::fs::create_dir("/tmp/watched").unwrap();
        let first = instance(0);
        let watches = as_many(9000, |number| {
            let path = format!("/tmp/watched/{number}");
            std::fs::write(&path, "").unwrap();
            let path = std::ffi::CString::new(path).unwrap();
            // SAFETY: the text lives across the call.
            unsafe { libc::inotify_add_watch(first, path.as_ptr(), libc::IN_MODIFY) }
        });
        println!("{} {watches}", 1 + as_many(1000, instance));
        std::process::exit(0);
    }
    let output = inside(Sandbox::new(), "taker").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "32 8192\n");
    // Outside, where nothing is limited to so few, one can have more.
    assert_eq!(as_many(33, instance), 33);
}
