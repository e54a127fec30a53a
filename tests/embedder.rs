//! What becomes of sandboxes when the embedder dies, and of the library when the embedder has habits
//! of its own.
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
#[path = "common/mounts.rs"]
mod mounts;

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::process::Child as Process;
use std::time::Duration;

use common::ways::Ways;
use common::{Needs, moment, rounds};
use life::{await_byte, await_no_child, await_released, is_held, my_role, pipe, tell};
use stockade::{Child, Data, Error, IdMap, Outcome, Overlay, Sandbox};

tests_in_all_ways! {
    Needs::Nothing => [
        killed_at_any_moment,
        killed_at_any_moment_with_a_daemon,
        killed_at_any_moment_with_many_threads,
        killed_while_a_forked_copy_lives,
        killed_during_a_slow_set_up,
        killed_after_the_spawning_thread_ended,
        killed_while_its_sandbox_is_paused,
    ];
    // Of overlays there is no template.
    Needs::Nothing => without_template [killed_at_any_moment_with_a_world_of_its_own];
    Needs::Nothing => alone [
        killed_at_any_moment_without_init,
        killed_at_any_moment_with_a_daemon_without_init,
        killed_while_a_forked_copy_lives_without_init,
        drops_a_paused_sandbox,
        the_warden_is_killed_too,
        the_warden_leaves_when_a_detached_sandbox_ended,
        detached_outlives_the_embedder,
        detached_in_the_right_warden,
        execs_another_program,
        child_signals_ignored,
        children_not_kept,
        waits_for_every_child,
        is_interrupted_all_the_time,
        forks_without_exec,
        closes_all_descriptors,
        forks_while_a_program_without_init_starts,
        is_a_subreaper,
        has_ten_thousand_descriptors,
        has_few_descriptors,
        ignores_the_descriptor_limit_afterwards,
    ];
    Needs::Root => alone [changes_its_root];
    Needs::RootAndProgram("newuidmap") => alone [killed_at_any_moment_with_subordinate_ids];
    Needs::Unprivileged => alone [has_no_process_left];
}

/// A program that does not end by itself and holds the embedder's standard error, a pipe.
fn endless(sandbox: Sandbox) -> stockade::Command {
    sandbox.way_to("sleep").arg("600").fd(5, life::stream(2))
}

fn with_init(init: bool) -> Sandbox {
    Sandbox::new().init(init)
}

/// An embedder that says '1' right before it spawns and '2' when it has, and then sleeps.
fn embed(spawn: impl FnOnce() -> Vec<Child>) {
    tell(b'1');
    let Ok(children) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(spawn)) else {
        return tell(b'!');
    };
    tell(if common::is_otherwise() { b'!' } else { b'2' });
    let mut end = Vec::new();
    life::stream(0).read_to_end(&mut end).unwrap();
    drop(children);
}

/// A started embedder, and the pipe that it and its sandboxes hold.
fn start_holding(role: &str) -> (Process, File) {
    let (reading, writing) = pipe();
    let process = life::role(role)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(writing)
        .spawn()
        .unwrap();
    (process, reading.into())
}

/// Kills embedders at random moments, and looks at what is left: nothing. What is made before the program takes its time.
fn kill_at_random(times: u32, range: Duration, role: &str) {
    match common::is_own() {
        true => kill_in(times, range, role),
        false => kill_within_a_run(times, role),
    }
}

fn kill_in(times: u32, range: Duration, role: &str) {
    life::adopt_orphans();
    let before = life::mounts();
    let (mut random, mut complete) = (life::Random::new(), 0);
    // In each way a part of it.
    let times = rounds(if common::is_own() { times } else { times / 4 });
    for _ in 0..times {
        let (mut process, holds) = start_holding(role);
        let mut said = process.stdout.take().unwrap();
        assert_eq!(await_byte(&said, "the embedder"), b'1');
        let micros = random.below(u64::try_from(range.as_micros()).unwrap());
        life::spin(Duration::from_micros(micros));
        assert!(is_held(&holds));
        life::kill_and_reap(&mut process);
        let mut rest = Vec::new();
        said.read_to_end(&mut rest).unwrap();
        assert!(!rest.contains(&b'!'), "it was not killed, but panicked");
        complete += u32::from(!rest.is_empty());
        await_released(&holds, &format!("a sandbox of an embedder killed after {micros} µs"));
        await_no_child(&format!("killed after {micros} µs"));
    }
    assert_eq!(life::mounts(), before);
    println!("{complete} of {times} spawns were complete");
}

/// The same, in as long a time as one takes that is not killed: its last steps come late on a busy
/// machine.
fn kill_within_a_run(times: u32, role: &str) {
    life::adopt_orphans();
    let (mut process, holds) = start_holding(role);
    let said = process.stdout.take().unwrap();
    assert_eq!(await_byte(&said, "the embedder"), b'1');
    let begin = std::time::Instant::now();
    assert_eq!(await_byte(&said, "the spawn"), b'2');
    let range = begin.elapsed();
    life::kill_and_reap(&mut process);
    await_released(&holds, "the first sandbox");
    await_no_child("the first one");
    kill_in(times, range + range / 4, role);
}

fn killed_at_any_moment() {
    if my_role().is_some() {
        return embed(|| vec![endless(with_init(true)).spawn().unwrap()]);
    }
    kill_at_random(300, moment(6), "embedder");
}

fn killed_at_any_moment_without_init() {
    if my_role().is_some() {
        return embed(|| vec![endless(with_init(false)).spawn().unwrap()]);
    }
    kill_at_random(300, moment(6), "embedder");
}

/// What a tree can be made of, with a terminal; all that is kept is the same each time.
fn world() -> Sandbox {
    let place = |name: &str| std::env::temp_dir().join(name);
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let map = match uid.is_root() {
        true => IdMap::new().ids(0, 100_000, 1000),
        false => IdMap::new().uids(7, uid.as_raw(), 1).gids(8, gid.as_raw(), 1),
    };
    let content = File::open(place("content")).unwrap();
    let file = Data::file("/srv/file", content).max_size(1 << 20).owner(7, 8);
    Sandbox::new()
        .id_map(map)
        .uid(7)
        .gid(8)
        .timezone("UTC")
        .data(Data::directory("/srv").mode(0o2750).owner(7, 8))
        .data(file)
        .program("/usr/bin/env")
        .overlay("/thrown", Overlay::new([place("base")]).size(1 << 20))
        .overlay("/kept", Overlay::new([place("base")]).upper(place("kept")))
}

/// Spawns, and takes out what there is until it is killed.
fn look_at_the_world() {
    embed(|| {
        let child = endless(world()).pty(24, 80).spawn().unwrap();
        for number in 0..3 {
            let mut text = String::new();
            child.open_output("/etc/hosts").unwrap().read_to_string(&mut text).unwrap();
            assert!(text.contains("localhost"));
            let out = std::env::temp_dir().join(format!("out-{}-{number}", std::process::id()));
            let changes = child.changes("/kept").unwrap();
            changes.export(out, |_| true).unwrap();
            child.pty().unwrap().resize(25, 81).unwrap();
        }
        vec![child]
    });
}

fn killed_at_any_moment_with_a_world_of_its_own() {
    if my_role().is_some() {
        return look_at_the_world();
    }
    let kept = std::env::temp_dir().join("kept");
    for directory in ["base/below", "kept/upper/before"] {
        std::fs::create_dir_all(std::env::temp_dir().join(directory)).unwrap();
    }
    std::fs::write(std::env::temp_dir().join("content"), "x".repeat(1 << 20)).unwrap();
    // The work directory of one that was killed is the next one's.
    kill_within_a_run(80, "embedder");
    let names = || {
        let entries = std::fs::read_dir(&kept).unwrap();
        entries.map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>()
    };
    assert_eq!(world().command("true").status().unwrap().outcome, Outcome::Exited(0));
    assert_eq!(names(), ["upper"]);
}

/// A user to whom /etc/subuid gives ranges: newuidmap and newgidmap are processes of the embedder's.
fn killed_at_any_moment_with_subordinate_ids() {
    if my_role().is_some() {
        let (group, user) = (nix::unistd::Gid::from_raw(65534), nix::unistd::Uid::from_raw(65534));
        nix::unistd::setgroups(&[]).unwrap();
        nix::unistd::setresgid(group, group, group).unwrap();
        nix::unistd::setresuid(user, user, user).unwrap();
        // SAFETY: takes numbers.
        assert_eq!(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) }, 0);
        let sandbox = Sandbox::new().id_map(IdMap::new().ids(0, 300_000, 1000));
        return embed(|| vec![endless(sandbox).spawn().unwrap()]);
    }
    mounts::own_mounts();
    let file = std::env::temp_dir().join("subids");
    std::fs::write(&file, "nobody:300000:1000\n").unwrap();
    for place in ["/etc/subuid", "/etc/subgid"] {
        mounts::bind(&file, Path::new(place));
    }
    kill_within_a_run(80, "embedder");
}

/// The program starts one that leaves its session twice over and hears no signal.
fn kill_with_a_daemon(init: bool) {
    match my_role().as_deref() {
        Some("daemon") => life::be_a_daemon(),
        Some("program") => life::live_beside_a_daemon(),
        Some(_) => {
            return embed(|| {
                let program = life::inside(with_init(init), "program").fd(5, life::stream(2));
                vec![program.spawn().unwrap()]
            });
        }
        None => {}
    }
    // Also while the daemon comes to be.
    kill_at_random(200, moment(30), "embedder");
    // And when it is known to be there, alone with its program.
    for _ in 0..rounds(30) {
        let (mut process, holds) = start_holding("embedder");
        assert_eq!(await_byte(&holds, "the daemon"), b'!');
        let said = process.stdout.take().unwrap();
        assert_eq!([await_byte(&said, "start"), await_byte(&said, "spawn")], *b"12");
        life::kill_and_reap(&mut process);
        await_released(&holds, "the daemon");
        await_no_child("the daemon and all");
    }
}

fn killed_at_any_moment_with_a_daemon() {
    kill_with_a_daemon(true);
}

fn killed_at_any_moment_with_a_daemon_without_init() {
    kill_with_a_daemon(false);
}

fn killed_at_any_moment_with_many_threads() {
    if my_role().is_some() {
        return embed(|| {
            let spawn = |init| endless(with_init(init)).spawn().unwrap();
            std::thread::scope(|scope| {
                let threads: Vec<_> =
                    (0..8).map(|index| scope.spawn(move || spawn(index % 2 == 0))).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            })
        });
    }
    kill_at_random(100, moment(30), "embedder");
}

/// The copy holds every descriptor of the embedder's, and outlives it.
fn kill_with_a_copy(init: bool) {
    if my_role().is_some() {
        let child = endless(with_init(init)).spawn().unwrap();
        let copy = life::fork(|| {
            let mut end = Vec::new();
            life::stream(0).read_to_end(&mut end).unwrap();
        });
        assert!(copy > 0);
        tell(b'2');
        std::thread::sleep(life::SAFETY);
        drop(child);
        return;
    }
    life::adopt_orphans();
    for _ in 0..20 {
        let (reading, writing) = pipe();
        let mut process = start_with_marker("embedder", writing);
        let said = process.stdout.take().unwrap();
        let keeps_the_copy = process.stdin.take().unwrap();
        assert_eq!(await_byte(&said, "the embedder"), b'2');
        life::kill_and_reap(&mut process);
        // The copy lives: it holds the embedder's standard output.
        await_children(1);
        assert!(is_held(&said));
        drop(keeps_the_copy);
        await_released(&reading, "a sandbox");
        await_no_child("the copy and all");
    }
}

fn start_with_marker(role: &str, stderr: OwnedFd) -> Process {
    life::role(role)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(stderr)
        .spawn()
        .unwrap()
}

/// Waits until only so many children are left.
fn await_children(count: usize) {
    let until = std::time::Instant::now() + life::SAFETY;
    loop {
        let living: Vec<_> = life::children();
        let ended = living.iter().filter(|(pid, _)| {
            let mut status = 0;
            // SAFETY: the status is valid for writing.
            unsafe { libc::waitpid(*pid, &raw mut status, libc::WNOHANG) == *pid }
        });
        if living.len() - ended.count() <= count {
            return;
        }
        assert!(std::time::Instant::now() < until, "still there: {living:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn killed_while_a_forked_copy_lives() {
    kill_with_a_copy(true);
}

fn killed_while_a_forked_copy_lives_without_init() {
    kill_with_a_copy(false);
}

fn killed_during_a_slow_set_up() {
    if my_role().is_some() {
        let sandbox = |init| {
            (0..300).fold(with_init(init), |sandbox, index| {
                sandbox.bind_ro("/usr/bin", format!("/tmp/bind/{index}"))
            })
        };
        return embed(|| [true, false].map(|init| endless(sandbox(init)).spawn().unwrap()).into());
    }
    kill_at_random(100, moment(100), "embedder");
}

fn killed_after_the_spawning_thread_ended() {
    if my_role().is_some() {
        return embed(|| {
            let spawn = |init| endless(with_init(init)).spawn().unwrap();
            [true, false].map(|init| std::thread::spawn(move || spawn(init)).join().unwrap()).into()
        });
    }
    life::adopt_orphans();
    for _ in 0..10 {
        let (mut process, holds) = start_holding("embedder");
        let said = process.stdout.take().unwrap();
        assert_eq!([await_byte(&said, "start"), await_byte(&said, "spawn")], *b"12");
        // That a thread ended does not end what it spawned.
        std::thread::sleep(Duration::from_millis(20));
        assert!(is_held(&holds));
        life::kill_and_reap(&mut process);
        await_released(&holds, "a sandbox");
        await_no_child("the sandboxes and the warden");
    }
}

/// By a freezer, or by signals where the caller has none.
fn killed_while_its_sandbox_is_paused() {
    let paused = || {
        let mut child = endless(Sandbox::new()).spawn().unwrap();
        child.pause().unwrap();
        child
    };
    if my_role().is_some() {
        return embed(|| vec![paused()]);
    }
    life::adopt_orphans();
    let (mut process, holds) = start_holding("embedder");
    let said = process.stdout.take().unwrap();
    assert_eq!([await_byte(&said, "start"), await_byte(&said, "spawn")], *b"12");
    assert!(is_held(&holds));
    life::kill_and_reap(&mut process);
    await_released(&holds, "a paused sandbox");
    await_no_child("the sandbox and the warden");
}

fn drops_a_paused_sandbox() {
    let (reading, writing) = pipe();
    let mut child = Sandbox::new().command("sleep").arg("1000").fd(5, writing).spawn().unwrap();
    child.pause().unwrap();
    assert!(is_held(&reading));
    drop(child);
    await_released(&reading, "a dropped sandbox");
}

/// The pid of the warden of this process, which adopts orphans.
fn warden() -> u32 {
    let found: Vec<_> =
        life::children().into_iter().filter(|(_, name)| name == "stockade-warden").collect();
    assert_eq!(found.len(), 1, "{found:?}");
    u32::try_from(found[0].0).unwrap()
}

fn the_warden_is_killed_too() {
    if my_role().is_some() {
        life::adopt_orphans();
        return embed(|| {
            let spawn = |init| endless(with_init(init)).spawn().unwrap();
            let mut children = vec![spawn(false), spawn(true)];
            let first = warden();
            life::signal(first, libc::SIGKILL);
            life::join_killed(first);
            assert!(children.iter_mut().all(|child| child.try_wait().unwrap().is_none()));
            children.push(spawn(false));
            assert_ne!(warden(), first);
            children
        });
    }
    life::adopt_orphans();
    for _ in 0..10 {
        let (mut process, holds) = start_holding("embedder");
        let said = process.stdout.take().unwrap();
        assert_eq!([await_byte(&said, "start"), await_byte(&said, "spawn")], *b"12");
        assert!(is_held(&holds));
        life::kill_and_reap(&mut process);
        await_released(&holds, "a sandbox");
        await_no_child("the sandboxes and the second warden");
    }
}

/// An embedder that lets a sandbox go and ends at once; the sandbox ends when its input does.
fn let_go(init: bool) {
    let child = with_init(init)
        .wall_time(Duration::from_secs(1000))
        .command("cat")
        .stdin(life::stream(0))
        .fd(5, life::stream(2))
        .spawn()
        .unwrap();
    child.detach().unwrap();
}

fn detached_outlives_the_embedder() {
    if let Some(role) = my_role() {
        return let_go(role == "true");
    }
    life::adopt_orphans();
    for init in [true, false] {
        for _ in 0..50 {
            let (mut process, holds) = start_holding(&init.to_string());
            let keeps_it = process.stdin.take().unwrap();
            assert!(process.wait().unwrap().success());
            // Time for what must not happen.
            std::thread::sleep(Duration::from_millis(3));
            assert!(is_held(&holds), "init {init}: it was ended with the embedder");
            drop(keeps_it);
            await_released(&holds, "the detached sandbox");
        }
    }
    await_no_child("wardens");
}

fn the_warden_leaves_when_a_detached_sandbox_ended() {
    if my_role().is_some() {
        return let_go(true);
    }
    life::adopt_orphans();
    let (mut process, holds) = start_holding("embedder");
    drop(process.stdin.take());
    assert!(process.wait().unwrap().success());
    await_released(&holds, "the detached sandbox");
    await_no_child("its warden, long before the deadline");
}

/// Many threads make the process's first spawns; the sandboxes must not be mistaken for each other.
fn detached_in_the_right_warden() {
    if my_role().is_some() {
        let all = std::sync::Barrier::new(8);
        let children: Vec<_> = std::thread::scope(|scope| {
            let spawn = || {
                all.wait();
                with_init(false)
                    .command("cat")
                    .stdin(life::stream(0))
                    .fd(5, life::stream(2))
                    .spawn()
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(spawn)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap().unwrap()).collect()
        });
        let mut ids = Vec::new();
        for (index, child) in children.into_iter().enumerate() {
            ids.push(child.id().to_string());
            if index == 3 {
                child.detach().unwrap();
            } else {
                std::mem::forget(child);
            }
        }
        println!("{}", ids.join(" "));
        return;
    }
    life::adopt_orphans();
    for _ in 0..10 {
        let (mut process, holds) = start_holding("embedder");
        let keeps_it = process.stdin.take().unwrap();
        let mut said = String::new();
        process.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(process.wait().unwrap().success());
        let ids: Vec<i32> = said.split_whitespace().map(|id| id.parse().unwrap()).collect();
        await_children(1);
        assert!(is_held(&holds), "the detached one was ended");
        let left: Vec<_> = life::children().into_iter().map(|(pid, _)| pid).collect();
        assert_eq!(left, [ids[3]], "of {ids:?}");
        drop(keeps_it);
        await_released(&holds, "the detached sandbox");
        await_no_child("sandboxes and wardens");
    }
}

/// exec(2) keeps the process: what it had started ends with it at the latest.
fn execs_another_program() {
    if my_role().is_some() {
        let children = [true, false].map(|init| endless(with_init(init)).spawn().unwrap());
        tell(b'2');
        std::mem::forget(children);
        use std::os::unix::process::CommandExt;
        panic!("{}", std::process::Command::new("cat").stdout(std::process::Stdio::null()).exec());
    }
    life::adopt_orphans();
    let (mut process, holds) = start_holding("embedder");
    assert_eq!(await_byte(process.stdout.as_ref().unwrap(), "spawn"), b'2');
    drop(process.stdin.take());
    assert!(process.wait().unwrap().success());
    await_released(&holds, "a sandbox");
    await_no_child("after an exec");
}

/// Everything that a handle can tell, where the kernel tells the parent nothing.
fn check_all_outcomes() {
    let exit = |init, code: i32| {
        let sandbox = with_init(init);
        sandbox.command("sh").args(["-c", &format!("exit {code}")]).status().unwrap().outcome
    };
    for code in [0, 1, 77, 255] {
        assert_eq!(exit(true, code), Outcome::Exited(code));
        let without = exit(false, code);
        assert!([Outcome::Exited(code), Outcome::Unknown].contains(&without), "{without:?}");
    }
    let output = Sandbox::new().command("echo").arg("text").output().unwrap();
    assert_eq!((output.outcome, output.stdout), (Outcome::Exited(0), b"text\n".to_vec()));
    assert!(output.usage.is_some());
    let limited = Sandbox::new().wall_time(moment(50));
    let limited = limited.command("sleep").arg("1000").status().unwrap();
    assert_eq!(limited.outcome, Outcome::TimedOut);
    let (reading, writing) = pipe();
    let mut child = Sandbox::new().command("sleep").arg("1000").fd(5, writing).spawn().unwrap();
    assert!(child.try_wait().unwrap().is_none());
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().outcome, Outcome::Killed);
    await_released(&reading, "a killed sandbox");
    let (reading, writing) = pipe();
    let child = Sandbox::new().command("sleep").arg("1000").fd(5, writing).spawn().unwrap();
    assert!(is_held(&reading));
    drop(child);
    await_released(&reading, "a dropped sandbox");
    let missing = Sandbox::new().command("/no/such/program").spawn().unwrap_err();
    assert_eq!(missing.raw_os_error(), Some(libc::ENOENT));
}

fn on_child_signal(handler: usize, flags: i32) {
    // SAFETY: all-zero is a valid sigaction.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = handler;
    action.sa_flags = flags;
    // SAFETY: the action is complete, and its handler one of the kernel's own.
    let result = unsafe { libc::sigaction(libc::SIGCHLD, &raw const action, std::ptr::null_mut()) };
    assert_eq!(result, 0);
}

fn child_signals_ignored() {
    on_child_signal(libc::SIG_IGN, 0);
    for _ in 0..10 {
        check_all_outcomes();
    }
}

fn children_not_kept() {
    on_child_signal(libc::SIG_DFL, libc::SA_NOCLDWAIT);
    for _ in 0..10 {
        check_all_outcomes();
    }
}

fn waits_for_every_child() {
    std::thread::spawn(|| {
        loop {
            // SAFETY: no status is asked for.
            if unsafe { libc::waitpid(-1, std::ptr::null_mut(), 0) } < 0 {
                std::thread::yield_now();
            }
        }
    });
    for _ in 0..10 {
        check_all_outcomes();
    }
}

extern "C" fn nothing(_: libc::c_int) {}

/// A dropped sandbox is gone, and not only told to end, whatever signals the caller handles meanwhile.
fn is_interrupted_all_the_time() {
    // SAFETY: all-zero is a valid sigaction.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as usize;
    let often = libc::timeval { tv_sec: 0, tv_usec: 200 };
    let timer = libc::itimerval { it_interval: often, it_value: often };
    // SAFETY: the action is complete, and its handler does nothing.
    let handled =
        unsafe { libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut()) };
    // SAFETY: valid for reading.
    let set = unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut()) };
    assert_eq!((handled, set), (0, 0));
    for _ in 0..rounds(50) {
        let child = Sandbox::new().command("sleep").arg("1000").spawn().unwrap();
        let process = format!("/proc/{}", child.id());
        assert!(Path::new(&process).exists());
        drop(child);
        assert!(!Path::new(&process).exists());
    }
    check_all_outcomes();
}

fn forks_without_exec() {
    for init in [true, false] {
        let (reading, writing) = pipe();
        let sandbox = with_init(init);
        let mut command = sandbox.command("cat").stdin(stockade::Stdio::piped());
        command = command.stdout(stockade::Stdio::piped()).fd(5, writing);
        let mut child = command.spawn().unwrap();
        // A copy of the handle is dropped in the copy, and the copy makes sandboxes of its own.
        // SAFETY: exactly one of the two is dropped in each process.
        let mut copied = Some(unsafe { std::ptr::read(&raw const child) });
        let copy = life::fork(|| {
            drop(copied.take());
            check_all_outcomes();
        });
        std::mem::forget(copied);
        life::join(copy);
        assert!(is_held(&reading), "the copy's drop ended it");
        assert!(child.try_wait().unwrap().is_none());
        use std::io::Write;
        child.stdin.as_mut().unwrap().write_all(b"more").unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.outcome, output.stdout), (Outcome::Exited(0), b"more".to_vec()));
        await_released(&reading, "the sandbox");
        check_all_outcomes();
    }
}

/// Another thread's copies hold whatever descriptor was open when they were made.
fn forks_while_a_program_without_init_starts() {
    let (mut waits, ends) = std::io::pipe().unwrap();
    let mut copies = Vec::new();
    std::thread::scope(|scope| {
        let spawner = scope.spawn(|| {
            for _ in 0..100 {
                let cat = with_init(false).command("cat").stdin(stockade::Stdio::piped());
                assert_eq!(cat.spawn().unwrap().try_wait().unwrap(), None);
            }
        });
        while !spawner.is_finished() && copies.len() < 400 {
            let end = ends.as_raw_fd();
            copies.push(life::fork(|| {
                // SAFETY: the copy's own number; the original keeps its end.
                unsafe { libc::close(end) };
                let _end = waits.read(&mut [0]);
            }));
        }
        let until = std::time::Instant::now() + moment(20_000);
        while !spawner.is_finished() && std::time::Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
        let hangs = !spawner.is_finished();
        drop(ends);
        assert!(!hangs, "a spawn waits for the end of a copy of the embedder");
    });
    copies.into_iter().for_each(life::join);
}

fn closes_all_descriptors() {
    check_all_outcomes();
    life::close_from(3);
    check_all_outcomes();
    // Its numbers are somebody else's files now.
    life::close_from(3);
    let files: Vec<_> = (0..20).map(|_| File::open("/dev/null").unwrap()).collect();
    check_all_outcomes();
    for file in files {
        let target = std::fs::read_link(format!("/proc/self/fd/{}", life::number(&file))).unwrap();
        assert_eq!(target.to_str(), Some("/dev/null"));
    }
}

fn is_a_subreaper() {
    life::adopt_orphans();
    for _ in 0..5 {
        check_all_outcomes();
    }
    // The warden is the only one that came to it.
    let names: Vec<_> = life::children().into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["stockade-warden"]);
}

fn raise_descriptor_limit(limit: u64) {
    use nix::libc::RLIMIT_NOFILE;
    let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the limit is valid for writing.
    assert_eq!(unsafe { libc::getrlimit(RLIMIT_NOFILE, &raw mut now) }, 0);
    now.rlim_cur = limit;
    // SAFETY: the limit is valid for reading.
    let set = unsafe { libc::setrlimit(RLIMIT_NOFILE, &raw const now) };
    assert_eq!(set, 0, "at most {} of {limit}", now.rlim_max);
}

fn has_ten_thousand_descriptors() {
    raise_descriptor_limit(10_100);
    let files: Vec<_> = (0..10_000).map(|_| File::open("/dev/null").unwrap()).collect();
    check_all_outcomes();
    let seen = Sandbox::new().command("ls").arg("/proc/self/fd").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&seen.stdout), "0\n1\n2\n3\n");
    drop(files);
}

fn has_few_descriptors() {
    life::adopt_orphans();
    let spawn = |init| with_init(init).command("cat").stdin(stockade::Stdio::piped()).spawn();
    drop(spawn(true).unwrap());
    let (open, mut refused, mut made) = (life::descriptors() as u64, 0, 0);
    for limit in 3..open + 24 {
        for init in [true, false] {
            raise_descriptor_limit(limit);
            let result = spawn(init);
            raise_descriptor_limit(1000);
            match result {
                Err(error) => {
                    assert!(matches!(error, Error::Failed(_)), "{limit}: {error:?}");
                    assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{limit}: {error}");
                    refused += 1;
                }
                Ok(mut child) => {
                    child.signal(libc::SIGKILL).unwrap();
                    let expected = Outcome::Signaled { signal: 9, core_dumped: false };
                    assert_eq!(child.wait().unwrap().outcome, expected, "{limit}");
                    made += 1;
                }
            }
            await_children(1);
        }
    }
    assert!(refused > 0 && made > 0, "{refused} {made}");
    assert_eq!(life::descriptors() as u64, open);
}

/// The limit may be raised after the first spawn: the warden still takes in what comes later.
fn ignores_the_descriptor_limit_afterwards() {
    const MANY: usize = 40;
    if my_role().is_some() {
        raise_descriptor_limit(24);
        let spawn = || endless(with_init(false)).spawn().unwrap();
        return embed(|| {
            let first = spawn();
            raise_descriptor_limit(400);
            std::iter::once(first).chain((1..MANY).map(|_| spawn())).collect()
        });
    }
    life::adopt_orphans();
    let (mut process, holds) = start_holding("embedder");
    let said = process.stdout.take().unwrap();
    assert_eq!([await_byte(&said, "start"), await_byte(&said, "spawn")], *b"12");
    life::kill_and_reap(&mut process);
    await_released(&holds, "a sandbox");
    await_no_child("the sandboxes");
}

fn changes_its_root() {
    let mut child = Sandbox::new().command("cat").stdin(stockade::Stdio::piped()).spawn().unwrap();
    let limited = Sandbox::new().wall_time(moment(100));
    let mut limited = limited.command("sleep").arg("1000").spawn().unwrap();
    // Kept: dropped in the new root, its path would be another one.
    let empty = tempfile::tempdir().unwrap().keep();
    std::os::unix::fs::chroot(empty).unwrap();
    std::env::set_current_dir("/").unwrap();
    assert!(child.try_wait().unwrap().is_none());
    assert_eq!(limited.wait().unwrap().outcome, Outcome::TimedOut);
    let error = Sandbox::new().command("/bin/true").spawn().unwrap_err();
    assert!(matches!(error, Error::Failed(_) | Error::Unsupported { .. }), "{error:?}");
    assert_eq!(child.wait().unwrap().outcome, Outcome::Exited(0));
    let mut status = 0;
    // SAFETY: the status is valid for writing.
    assert_eq!(unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) }, -1);
}

fn has_no_process_left() {
    life::adopt_orphans();
    drop(Sandbox::new().command("true").spawn().unwrap());
    let limit = libc::rlimit { rlim_cur: 0, rlim_max: libc::RLIM_INFINITY };
    let mut now = limit;
    // SAFETY: the limit is valid for writing.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NPROC, &raw mut now) }, 0);
    let before = now;
    now.rlim_cur = 0;
    // SAFETY: the limit is valid for reading.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NPROC, &raw const now) }, 0);
    for init in [true, false] {
        let error = with_init(init).command("true").spawn().unwrap_err();
        assert!(matches!(error, Error::Failed(_)), "{error:?}");
        assert_eq!(error.raw_os_error(), Some(libc::EAGAIN), "{error}");
        await_children(1);
    }
    // SAFETY: as above.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NPROC, &raw const before) }, 0);
    assert_eq!(Sandbox::new().command("true").status().unwrap().outcome, Outcome::Exited(0));
}
