//! Other programs in a running sandbox.
#![allow(
    clippy::exit,
    clippy::incompatible_msrv,
    clippy::cast_possible_truncation,
    reason = "a test process, built by a current toolchain"
)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails so")]

mod common;
#[path = "common/groups.rs"]
mod groups;
#[path = "common/life.rs"]
mod life;

use std::fs::File;
use std::io::{PipeReader, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use common::{Needs, moment, rounds};
use life::{await_byte, await_released, is_held, my_role, start};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::wait::{WaitPidFlag, waitpid};
use stockade::{
    Capabilities, Capability, Child, Command, Error, Feature, Hint, Landlock, Limits, Namespaces,
    Network, Outcome, Output, Proc, Sandbox, Stdio, TimeOffsets,
};

tests! {
    Needs::Linux(5, 8) => [
        it_is_bound_as_the_program_is,
        each_has_its_own_end,
        what_it_leaves_ends_with_it,
        the_sandboxs_end_is_its_end,
        an_end_that_nobody_waits_for,
        it_has_its_own_time,
        a_sandbox_that_has_ended,
        a_failed_start_is_told,
        descriptors_and_streams,
        a_terminal,
        nothing_of_the_caller_is_seen,
        it_is_attacked_while_it_starts,
        a_program_that_kills_everything,
        a_program_that_stops_everything,
        what_cannot_be_entered,
        what_is_there_is_not_changed,
        in_a_pause,
        pooled_and_prepared_ones,
        many_threads_at_once,
        nothing_is_left,
        too_few_descriptors,
        it_ends_with_the_embedder,
        a_forked_copy_ends_nothing,
        one_that_is_let_go,
    ];
    Needs::RootAndController("memory") => [limits_hold_for_all_together];
}

const ENDLESS: &str = "printf ! >&5; while :; do sleep 1000; done";

fn sh(child: &Child, script: &str) -> Command {
    child.command("sh").unwrap().args(["-c", script])
}

fn text(output: Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.outcome, Outcome::Exited(0), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// A program that says a byte and then does not end; the pipe is held as long as any of it lives.
fn endless(command: Command) -> (Child, PipeReader) {
    let (reading, writing) = std::io::pipe().unwrap();
    let child = command.fd(5, writing).spawn().unwrap();
    assert_eq!(await_byte(&reading, "the program"), b'!');
    assert!(is_held(&reading));
    (child, reading)
}

fn running(sandbox: &Sandbox) -> (Child, PipeReader) {
    endless(sandbox.command("sh").args(["-c", ENDLESS]))
}

fn no_child_is_left() {
    assert_eq!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Err(nix::errno::Errno::ECHILD));
}

/// What a program can tell of its bounds and of where it is.
const BOUNDS: &str = "grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp)' /proc/self/status
    cat /proc/self/limits /proc/self/mountinfo; ls -l /proc/self/fd | wc -l; pwd; umask; env | sort
    hostname; id; cat /proc/self/setgroups; touch /usr/x /etc/x /x; unshare -U true; ulimit -a
    cat /proc/1/environ /proc/1/maps; cat /proc/self/timens_offsets; readlink /proc/self/ns/*
    cat /proc/self/cgroup /proc/self/oom_score_adj /proc/keys; ls -l /proc/1/fd /proc/1/exe; nice
    cat /proc/self/attr/current; chmod 4755 /tmp/own";

fn it_is_bound_as_the_program_is() {
    let offsets = TimeOffsets { monotonic: 100, boottime: 1000 };
    for sandbox in [
        Sandbox::new(),
        Sandbox::new().time_offsets(offsets).nice(5).oom_score_adj(900).hostname("inside"),
        Sandbox::new().uid(5).gid(6).tmpfs("/a").bind_rw("/usr/share/doc", "/b"),
        Sandbox::new().network(Network::Host).proc(Proc::Full),
        Sandbox::new().allow_new_privileges(),
        Sandbox::new().landlock(Landlock::none()),
        Sandbox::new()
            .best_effort(Feature::TimeNamespace)
            .namespaces(Namespaces::USER | Namespaces::PID | Namespaces::MOUNT),
    ] {
        let script = "sh -c \"$BOUNDS\" >/tmp/own 2>&1; echo >/tmp/done; sleep 1000";
        let child = sandbox.command("sh").args(["-c", script]).env("BOUNDS", BOUNDS);
        let child = child.spawn().unwrap();
        let wait = "while ! test -e /tmp/done; do sleep 0.01; done; cat /tmp/own";
        let own = text(sh(&child, wait).output().unwrap());
        let entered = sh(&child, "sh -c \"$BOUNDS\" 2>&1; :").env("BOUNDS", BOUNDS);
        let entered = text(entered.output().unwrap());
        assert!(own.contains("NoNewPrivs:"), "{own}");
        let differs: Vec<_> = own.lines().zip(entered.lines()).filter(|(a, b)| a != b).collect();
        assert_eq!((own.lines().count(), differs), (entered.lines().count(), Vec::new()));
    }
}

fn each_has_its_own_end() {
    let (mut child, held) = running(&Sandbox::new());
    for code in [0, 1, 7, 255] {
        let status = sh(&child, &format!("exit {code}")).status().unwrap();
        assert_eq!(status.outcome, Outcome::Exited(code));
    }
    let signal = sh(&child, "kill -9 $$; sleep 1000").status().unwrap();
    assert_eq!(signal.outcome, Outcome::Signaled { signal: 9, core_dumped: false });
    let (mut first, first_held) = endless(sh(&child, ENDLESS));
    let (second, second_held) = endless(sh(&child, ENDLESS));
    first.signal(15).unwrap();
    let status = first.wait().unwrap();
    assert_eq!(status.outcome, Outcome::Signaled { signal: 15, core_dumped: false });
    assert!(status.usage.unwrap().wall > Duration::ZERO);
    await_released(&first_held, "the first");
    assert!(is_held(&second_held));
    drop(second);
    await_released(&second_held, "the second");
    let (mut third, third_held) = endless(sh(&child, ENDLESS));
    third.kill().unwrap();
    assert_eq!(third.wait().unwrap().outcome, Outcome::Killed);
    await_released(&third_held, "the third");
    assert!(is_held(&held));
    assert_eq!(child.try_wait().unwrap(), None);
    // By the handle of a program that has entered there are none.
    let mut other = sh(&child, "exit").spawn().unwrap();
    other.wait().unwrap();
    for error in [other.open_output("/tmp/file").unwrap_err(), other.changes("/srv").unwrap_err()] {
        let told = (error.raw_os_error(), error.hint());
        assert_eq!(told, (Some(libc::ENOTSUP), Some(&Hint::AnothersTree)));
    }
    // Files are the same for both.
    sh(&child, "echo kept >/tmp/file").status().unwrap();
    assert_eq!(text(sh(&child, "cat /tmp/file").output().unwrap()), "kept\n");
    assert_eq!(std::io::read_to_string(child.open_output("/tmp/file").unwrap()).unwrap(), "kept\n");
    child.kill().unwrap();
    child.wait().unwrap();
    no_child_is_left();
}

fn what_it_leaves_ends_with_it() {
    let (child, _held) = running(&Sandbox::new());
    let daemon = "(setsid sh -c 'trap \"\" TERM HUP; printf ! >&5; sleep 1000' &) ; read line <&6";
    let (go, going) = std::io::pipe().unwrap();
    let (mut entered, held) = endless(sh(&child, daemon).fd(6, go));
    (&going).write_all(b"\n").unwrap();
    let status = entered.wait().unwrap();
    assert_eq!(status.outcome, Outcome::Exited(0));
    assert!(status.left_count >= 1, "{status:?}");
    await_released(&held, "the daemon");
}

fn the_sandboxs_end_is_its_end() {
    let sandbox = Sandbox::new();
    let prepared = sandbox.prepare().unwrap();
    // By a kill, by the handle's end, and by that of its program.
    for (way, copied) in [(0, false), (1, false), (2, false), (0, true), (1, true), (2, true)] {
        let (go, going) = std::io::pipe().unwrap();
        let command = if copied { prepared.command("sh") } else { sandbox.command("sh") };
        let command = command.args(["-c", "printf ! >&5; read line <&6; exit 3"]);
        let (mut child, _held) = endless(command.fd(6, go));
        let (mut entered, held) = endless(sh(&child, ENDLESS));
        match way {
            0 => child.kill().unwrap(),
            1 => drop(child),
            _ => {
                (&going).write_all(b"\n").unwrap();
                assert_eq!(child.wait().unwrap().outcome, Outcome::Exited(3));
                // It does nothing any more when the end is told.
                assert_eq!(life::state(entered.program_id().unwrap_or(0)), '-');
            }
        }
        await_released(&held, "the other program");
        let outcome = entered.wait().unwrap().outcome;
        assert!(!outcome.is_success(), "{outcome:?}");
    }
    drop(prepared);
    no_child_is_left();
}

/// Nobody asks for the other programs, whose ends the kernel waits for.
fn an_end_that_nobody_waits_for() {
    let (mut child, _held) = running(&Sandbox::new());
    let entered: Vec<_> = (0..3).map(|_| endless(sh(&child, ENDLESS))).collect();
    let _ended = sh(&child, "true").spawn().unwrap();
    child.kill().unwrap();
    assert!(child.wait_timeout(life::SAFETY).unwrap().is_some());
    drop(entered);
}

fn it_has_its_own_time() {
    let sandbox = Sandbox::new().wall_time(moment(60_000));
    let (child, _held) = running(&sandbox);
    drop(child);
    let (go, _going) = std::io::pipe().unwrap();
    let sandbox = Sandbox::new().wall_time(moment(400));
    let command = sandbox.command("sh").args(["-c", "printf ! >&5; read line <&6"]);
    let (mut child, _held) = endless(command.fd(6, go));
    std::thread::sleep(moment(200));
    let (mut entered, held) = endless(sh(&child, ENDLESS));
    assert_eq!(child.wait().unwrap().outcome, Outcome::TimedOut);
    await_released(&held, "the other program");
    assert!(!entered.wait().unwrap().outcome.is_success());
}

fn a_sandbox_that_has_ended() {
    let (mut child, _held) = running(&Sandbox::new());
    let late = sh(&child, "true");
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(late.spawn().unwrap_err().raw_os_error(), Some(libc::ESRCH));
    assert_eq!(child.command("true").unwrap_err().raw_os_error(), Some(libc::ESRCH));
    // While it ends.
    for _ in 0..rounds(100) {
        let child = Sandbox::new().command("true").spawn().unwrap();
        let refused = loop {
            if let Err(error) = child.command("true") {
                break error;
            }
        };
        assert_eq!(refused.raw_os_error(), Some(libc::ESRCH), "{refused}");
    }
    // Its program is gone, and what it has left is not yet.
    let sandbox = Sandbox::new().linger(moment(100_000));
    let script = "sleep 1000 & printf ! >&5; exit 0";
    let (child, held) = endless(sandbox.command("sh").args(["-c", script]));
    let mut set = [PollFd::new(child.pidfd(), PollFlags::POLLIN)];
    while child.program_id().is_some() {
        std::thread::yield_now();
    }
    assert_eq!(poll(&mut set, PollTimeout::ZERO), Ok(0));
    assert!(is_held(&held));
    let refused = child.command("true").and_then(Command::spawn).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::ESRCH), "{refused}");
    assert!(refused.to_string().contains("has ended"), "{refused}");
    // Nobody is told but who asks.
    drop(child);
    no_child_is_left();
}

fn a_failed_start_is_told() {
    let (child, _held) = running(&Sandbox::new());
    let sandbox = Sandbox::new();
    for name in ["/no/such/program", "/etc/passwd", "no-such-program"] {
        let [inside, own] = [child.command(name).unwrap(), sandbox.command(name)]
            .map(|command| command.spawn().unwrap_err().to_string());
        assert_eq!(inside, own);
    }
    let [inside, own] = [child.command("true").unwrap(), sandbox.command("true")]
        .map(|command| command.current_dir("/nowhere").spawn().unwrap_err().to_string());
    assert_eq!(inside, own);
    assert!(matches!(child.command("").unwrap().spawn(), Err(Error::Invalid(_))));
    assert!(child.command("true").unwrap().status().unwrap().outcome.is_success());
}

fn descriptors_and_streams() {
    let (child, _held) = running(&Sandbox::new());
    let mut cat = child.command("cat").unwrap().stdin(Stdio::piped()).stdout(Stdio::piped());
    cat = cat.current_dir("/tmp").umask(0o077);
    let mut entered = cat.spawn().unwrap();
    write!(entered.stdin.take().unwrap(), "words").unwrap();
    assert_eq!(entered.wait_with_output().unwrap().stdout, b"words");
    let mut command = sh(&child, "cat <&3; for fd in /proc/self/fd/*; do echo ${fd##*/}; done");
    for number in 3..200 {
        let (reading, mut writing) = std::io::pipe().unwrap();
        writing.write_all(b"word\n").unwrap();
        command = command.fd(number, reading);
    }
    let out = text(command.output().unwrap());
    assert!(out.starts_with("word\n0\n") && out.contains("\n199\n"), "{out}");
    let own = sh(&child, "echo $A $LANG; pwd; umask").env("A", "1").env_remove("LANG");
    let out = text(own.current_dir("/tmp").umask(0o077).output().unwrap());
    assert_eq!(out, "1\n/tmp\n0077\n");
}

fn a_terminal() {
    let (child, _held) = running(&Sandbox::new());
    for number in 0..2 {
        let command = sh(&child, "test -t 0 && stty size && tty").pty(24, 80);
        let out = String::from_utf8(command.output().unwrap().stdout).unwrap();
        assert_eq!(out, format!("24 80\r\n/dev/pts/0\r\n"), "{number}");
    }
}

/// Of the processes that start a program nothing can be read, nor of the program.
const LOOK: &str = "for pid in /proc/[0-9]*; do pid=${pid##*/}; [ $pid = $$ ] || {
    head -c 1 /proc/$pid/mem; cat /proc/$pid/environ /proc/$pid/maps; ls /proc/$pid/fd /proc/$pid/cwd/
    ls -l /proc/$pid/exe /proc/$pid/root; readlink /proc/$pid/ns/*; } 2>/dev/null; done";

fn nothing_of_the_caller_is_seen() {
    for landlock in [Landlock::default(), Landlock::none()] {
        nothing_is_seen_in(&Sandbox::new().landlock(landlock));
    }
}

fn nothing_is_seen_in(sandbox: &Sandbox) {
    let script = format!("printf ! >&5; while :; do {LOOK}; done");
    let command = sandbox.command("sh").args(["-c", &script]).stdout(Stdio::piped());
    let (mut child, _held) = endless(command);
    for _ in 0..rounds(20) {
        let list = "for fd in /proc/$$/fd/*; do echo ${fd##*/}; done; env; cat /proc/1/environ";
        let out = child.command("sh").unwrap().args(["-c", list]).output().unwrap();
        let own = sandbox.command("sh").args(["-c", list]).output().unwrap();
        assert_eq!(out.stdout, own.stdout);
    }
    let stdout = child.stdout.take().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    let seen = std::io::read_to_string(stdout).unwrap();
    // Those that it has started itself are seen, as they are in the same domain.
    let own = |line: &&str| !line.is_empty();
    let strange: Vec<_> =
        seen.split(['\n', '\0']).filter(own).filter(|line| is_strange(line)).collect();
    assert_eq!(strange, [""; 0]);
}

fn is_strange(line: &str) -> bool {
    line.contains("stockade")
        || line.contains("memfd")
        || line.contains("CARGO")
        || line.contains("/tmp/")
}

/// What is started is attacked with all that one user may do to another process of his.
fn it_is_attacked_while_it_starts() {
    let attack = "printf ! >&5; while :; do for pid in /proc/[0-9]*; do pid=${pid##*/}
        [ $pid = $$ ] || { kill -SEGV $pid; kill -USR1 $pid; prlimit --pid $pid --nofile=0 --cpu=0
        head -c 1 /proc/$pid/mem; ls /proc/$pid/cwd/; chrt -b -p 0 $pid; taskset -p 1 $pid; }
        done; done >/dev/null 2>&1";
    let sandbox = Sandbox::new().landlock(Landlock::none());
    let (mut hostile, _held) = endless(sandbox.command("sh").args(["-c", attack]));
    let mut started = 0;
    for round in 0..rounds(40) {
        match sh(&hostile, "echo here").stdout(Stdio::piped()).spawn() {
            Ok(entered) => {
                started += 1;
                let output = entered.wait_with_output().unwrap();
                assert!(output.stdout.is_empty() || output.stdout == b"here\n", "{output:?}");
            }
            Err(error) => assert!(error.raw_os_error().is_some(), "{round}: {error}"),
        }
    }
    // It has other things to do, too.
    assert!(started > 0);
    hostile.kill().unwrap();
    hostile.wait().unwrap();
    no_child_is_left();
}

fn a_program_that_kills_everything() {
    for landlock in [Landlock::default(), Landlock::none()] {
        let sandbox = Sandbox::new().landlock(landlock);
        let script = "printf ! >&5; while :; do kill -9 -1; done";
        let (mut hostile, held) = endless(sandbox.command("sh").args(["-c", script]));
        for _ in 0..rounds(20) {
            match sh(&hostile, "sleep 1000").spawn() {
                Ok(mut entered) => {
                    entered.kill().unwrap();
                    assert!(!entered.wait().unwrap().outcome.is_success());
                }
                Err(error) => assert!(error.raw_os_error().is_some(), "{error}"),
            }
        }
        assert_eq!(hostile.try_wait().unwrap(), None);
        hostile.kill().unwrap();
        hostile.wait().unwrap();
        await_released(&held, "the program");
    }
    no_child_is_left();
}

fn a_program_that_stops_everything() {
    let stopper = "printf ! >&5; while :; do for pid in /proc/[0-9]*; do pid=${pid##*/}
        [ $pid = $$ ] || kill -STOP $pid; done; done 2>/dev/null";
    let sandbox = Sandbox::new().landlock(Landlock::none());
    let (mut hostile, _held) = endless(sandbox.command("sh").args(["-c", stopper]));
    for _ in 0..2 {
        // It may take its time, and it may fail; it does not hang.
        match sh(&hostile, "true").spawn() {
            Ok(mut entered) => drop(entered.kill()),
            Err(error) => assert!(error.raw_os_error().is_some(), "{error}"),
        }
    }
    hostile.kill().unwrap();
    hostile.wait().unwrap();
    no_child_is_left();
}

fn what_cannot_be_entered() {
    let shared =
        Sandbox::new().namespaces(Namespaces::all() - Namespaces::PID).without_atomic_end();
    let keeps = Capabilities::keep([Capability::SYS_ADMIN]);
    for sandbox in [
        Sandbox::new().init(false),
        Sandbox::new().learn(),
        Sandbox::new().hide_host_paths(true),
        Sandbox::new().capabilities(keeps),
        shared,
    ] {
        let child = sandbox.command("sleep").arg("1000").spawn().unwrap();
        let error = child.command("true").unwrap_err();
        assert!(matches!(&error, Error::Invalid(_)), "{error}");
    }
    let session = Sandbox::new().prepare().unwrap().session().unwrap();
    let hosted = session.command("sleep").arg("1000").spawn().unwrap();
    assert!(matches!(hosted.command("true"), Err(Error::Invalid(_))));
    let (child, _held) = running(&Sandbox::new());
    let (entered, _also_held) = endless(sh(&child, ENDLESS));
    assert!(matches!(entered.command("true"), Err(Error::Invalid(_))));
    // Init was executed in the caller's namespace, so that it takes power there to look at it.
    let host = Sandbox::new().uid(1000).gid(1000).command("sleep").arg("1000").spawn().unwrap();
    let user = File::open(format!("/proc/{}/ns/user", host.id())).unwrap();
    let joining = Sandbox::new().uid(1000).gid(1000).join(Namespaces::USER, user);
    let joined = joining.command("sleep").arg("1000").spawn().unwrap();
    match joined.command("true") {
        Ok(command) => assert!(command.status().unwrap().outcome.is_success()),
        Err(error) => {
            assert!(!nix::unistd::geteuid().is_root(), "{error}");
            assert!(matches!(&error, Error::Invalid(problems) if problems.len() == 1), "{error}");
        }
    }
}

fn what_is_there_is_not_changed() {
    let (child, _held) = running(&Sandbox::new());
    for add in [
        (|command| command.bind_ro("/usr", "/in")) as fn(Command) -> Command,
        |command| command.tmpfs("/in"),
        |command| command.memory_limit(1 << 30),
        |command| command.limits(Limits::new()),
    ] {
        let error = add(sh(&child, "true")).spawn().unwrap_err();
        assert!(matches!(&error, Error::Invalid(_)), "{error}");
    }
}

fn in_a_pause() {
    // Nothing that waits for a child of its own, and so for its stop.
    let busy = "printf ! >&5; while :; do :; done";
    let (mut child, held) = endless(Sandbox::new().command("sh").args(["-c", busy]));
    let (mut entered, also_held) = endless(sh(&child, busy));
    let before = child.command("true").unwrap();
    child.pause().unwrap();
    for program in [&child, &entered].map(|one| one.program_id().unwrap()) {
        while life::state(program) != 'T' {
            std::thread::sleep(moment(1));
        }
    }
    assert_eq!(child.command("true").unwrap_err().raw_os_error(), Some(libc::EBUSY));
    assert_eq!(before.spawn().unwrap_err().raw_os_error(), Some(libc::EBUSY));
    child.resume().unwrap();
    for program in [&child, &entered].map(|one| one.program_id().unwrap()) {
        while life::state(program) == 'T' {
            std::thread::sleep(moment(1));
        }
    }
    assert!(child.command("true").unwrap().status().unwrap().outcome.is_success());
    assert!(is_held(&held) && is_held(&also_held));
    // What stands still ends as well.
    child.pause().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    await_released(&also_held, "the other program");
    assert!(!entered.wait().unwrap().outcome.is_success());
}

fn pooled_and_prepared_ones() {
    let prepared = Sandbox::new().hostname("pooled").prepare().unwrap();
    let pool = prepared.pool(1).unwrap();
    for command in [prepared.command("sh"), pool.command("sh")] {
        let (mut child, _held) = endless(command.args(["-c", ENDLESS]));
        assert_eq!(text(sh(&child, "hostname").output().unwrap()), "pooled\n");
        let (mut entered, held) = endless(sh(&child, ENDLESS));
        child.kill().unwrap();
        child.wait().unwrap();
        await_released(&held, "the other program");
        assert!(!entered.wait().unwrap().outcome.is_success());
    }
}

fn many_threads_at_once() {
    let (child, held) = running(&Sandbox::new());
    assert!(child.command("true").unwrap().status().unwrap().outcome.is_success());
    let before = life::descriptors();
    std::thread::scope(|scope| {
        for thread in 0..16 {
            let child = &child;
            scope.spawn(move || {
                for round in 0..4 {
                    let code = thread * 4 + round;
                    let status = sh(child, &format!("exit {code}")).status().unwrap();
                    assert_eq!(status.outcome, Outcome::Exited(code));
                }
            });
        }
    });
    assert_eq!(life::descriptors(), before);
    assert!(is_held(&held));
    assert_eq!(life::children().len(), 1);
}

fn nothing_is_left() {
    let (child, _held) = running(&Sandbox::new());
    drop(sh(&child, "true").spawn().unwrap());
    let before = life::descriptors();
    for _ in 0..rounds(20) {
        let _failed = child.command("/nowhere").unwrap().spawn().unwrap_err();
        let _unused = child.command("true").unwrap();
        drop(sh(&child, "sleep 1000").spawn().unwrap());
        assert_eq!(sh(&child, "exit 0").status().unwrap().outcome, Outcome::Exited(0));
    }
    assert_eq!(life::descriptors(), before);
    assert_eq!(life::children().len(), 1);
}

fn too_few_descriptors() {
    let (child, _held) = running(&Sandbox::new());
    assert!(child.command("true").unwrap().status().unwrap().outcome.is_success());
    let open = life::descriptors() as u64;
    let mut refused = 0;
    for limit in 3..open + 20 {
        life::limit_open_files_softly(limit);
        let result = child.command("true").and_then(Command::spawn);
        life::limit_open_files_softly(1000);
        if let Err(error) = result {
            assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{error}");
            refused += 1;
        }
    }
    assert!(refused > 5);
    assert_eq!(life::descriptors() as u64, open);
}

fn it_ends_with_the_embedder() {
    if my_role().is_some() {
        let (child, held) = running(&Sandbox::new());
        let stdin = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
        let entered = sh(&child, "sleep 1000; sleep 1000").stdin(File::from(stdin)).spawn();
        std::mem::forget((entered.unwrap(), child, held));
        println!("!");
        loop {
            std::thread::park();
        }
    }
    let mut embedder = start("embedder");
    let (held, holds) = (embedder.stdout.take().unwrap(), embedder.stdin.take().unwrap());
    assert_eq!(await_byte(&held, "the embedder"), b'!');
    embedder.kill().unwrap();
    embedder.wait().unwrap();
    // Its standard input, a pipe, has no reader any more.
    let mut set = [PollFd::new(holds.as_fd(), PollFlags::empty())];
    assert_eq!(poll(&mut set, PollTimeout::try_from(life::SAFETY).unwrap()), Ok(1));
}

fn a_forked_copy_ends_nothing() {
    let (child, _held) = running(&Sandbox::new());
    let (entered, held) = endless(sh(&child, ENDLESS));
    let mut owned = Some((child, entered));
    let copy = life::fork(|| drop(owned.take()));
    life::join(copy);
    assert!(is_held(&held));
    let (child, mut entered) = owned.take().unwrap();
    assert_eq!(entered.try_wait().unwrap(), None);
    assert!(child.command("true").unwrap().status().unwrap().outcome.is_success());
}

fn one_that_is_let_go() {
    let (mut child, _held) = running(&Sandbox::new());
    let (entered, held) = endless(sh(&child, ENDLESS));
    entered.detach().unwrap();
    assert!(is_held(&held));
    child.kill().unwrap();
    assert!(child.wait_timeout(life::SAFETY).unwrap().is_some());
    await_released(&held, "the other program");
    // It is reaped with the next one.
    while !life::children().is_empty() {
        assert!(Sandbox::new().command("true").status().unwrap().outcome.is_success());
    }
}

fn limits_hold_for_all_together() {
    let parent = groups::Delegated::to(0);
    let sandbox = Sandbox::new().pids_limit(16).memory_limit(64 << 20);
    let sandbox = sandbox.cgroup_parent(parent.parent());
    let (mut child, _held) = running(&sandbox);
    let before = child.stats().unwrap().pids.current.unwrap();
    let (entered, _also_held) = endless(sh(&child, ENDLESS));
    assert!(child.stats().unwrap().pids.current.unwrap() >= before + 2);
    let forks = "i=0; while [ $i -lt 20 ]; do sleep 1000 & i=$((i + 1)); done; echo $i";
    assert_eq!(sh(&child, forks).output().unwrap().stdout, b"");
    let eater = "x=$(head -c 200000000 /dev/zero | tr '\\0' x); echo ${#x}";
    assert_eq!(sh(&child, eater).output().unwrap().stdout, b"");
    assert!(child.stats().unwrap().memory.oom_kills.unwrap() > 0);
    assert!(!parent.content().is_empty());
    drop(entered);
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(parent.content().is_empty());
}
