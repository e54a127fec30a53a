//! One sandbox in which many programs run, and sandboxes that wait for their program.
#![allow(
    clippy::exit,
    clippy::incompatible_msrv,
    clippy::cast_possible_truncation,
    reason = "a test process, built by a current toolchain"
)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails so")]

mod common;
#[path = "common/fuse.rs"]
mod fuse;
#[path = "common/groups.rs"]
mod groups;
#[path = "common/life.rs"]
mod life;
#[path = "common/mounts.rs"]
mod mounts;

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use common::{Needs, moment, rounds};
use life::{await_byte, await_released, is_held, my_role, start};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use stockade::{
    Action, Capability, CgroupParent, Child, Command, Error, Feature, Limits, Max, Memory,
    Namespaces, Outcome, Output, Overlay, Pool, Resource, Rule, Sandbox, Seccomp, Session, Stdio,
    WhenEmpty,
};

tests! {
    Needs::Nothing => [
        files_stay_between_commands, changes_of_all_commands,
        each_command_has_its_own_end,
        what_a_command_leaves_ends_with_it,
        each_command_has_its_own_time,
        a_command_has_another_time,
        a_failed_start_is_told,
        it_is_bound_as_a_sandbox_of_its_own_is,
        descriptors_and_streams,
        a_terminal,
        large_arguments,
        a_profile_that_kills,
        a_profile_that_init_could_not_live_with,
        a_program_that_kills_everything,
        a_program_that_stops_everything,
        a_program_that_stops_its_supervisor,
        a_killed_supervisor,
        init_cannot_be_reached,
        init_is_attacked_while_programs_start,
        descriptors_are_counted,
        nothing_is_left_of_a_session,
        the_end_of_the_session_ends_its_commands,
        a_dropped_session_has_ended,
        a_session_that_cannot_end_is_left,
        a_session_with_a_command_that_cannot_end_is_left,
        a_forked_copy_ends_nothing,
        one_looks_after_many,
        nothing_of_one_is_the_next_ones,
        an_old_handle_does_nothing_to_the_next,
        a_pidfd_is_readable_at_the_end,
        the_time_of_one_is_not_the_next_ones,
        what_cannot_look_after_another,
        nobody_waits_for_one_that_was_refused,
        an_old_handle_is_let_go,
        who_is_not_waited_for_is_no_process,
        many_threads_at_once,
        time_stands_still_in_a_pause,
        a_start_does_not_end_a_pause,
        its_namespaces_can_be_joined,
        what_cannot_wait,
        too_low_a_limit_of_open_files,
        it_ends_with_the_embedder,
        a_pool_gives_each_its_own,
        a_pool_is_refilled,
        who_waits_is_never_woken,
        a_pool_that_is_empty_makes_one,
        who_waits_is_given_one,
        who_waits_is_told_that_there_is_none,
        who_waits_for_a_pool_that_is_gone,
        a_failing_pool_warns_once,
        the_memory_of_those_that_wait,
        a_killed_one_is_not_given,
        those_that_were_killed_do_not_wait,
        one_that_dies_before_its_program,
        the_time_begins_with_the_program,
        many_threads_and_one_pool,
        a_pool_ends_with_the_embedder,
        prepared_is_as_the_sandbox,
    ];
    Needs::Installed(&["python3"]) => [
        a_program_that_takes_every_process,
        a_tenant_leaves_nothing_for_the_next,
    ];
    Needs::Root => [
        nothing_stays_open,
        nobody_waits_for_who_opens_a_file,
        an_exec_that_hangs_keeps_no_other_from_starting,
    ];
    Needs::RootAndController("memory") => [
        limits_hold_for_all_together,
        a_pooled_one_has_its_limits,
        the_memory_of_their_groups,
    ];
}

fn session() -> Session {
    Sandbox::new().prepare().unwrap().session().unwrap()
}

fn pool(size: usize) -> Pool {
    let pool = Sandbox::new().prepare().unwrap().pool(size).unwrap();
    assert!(pool.wait_until_filled(life::SAFETY));
    pool
}

fn sh(session: &Session, script: &str) -> Command {
    session.command("sh").args(["-c", script])
}

fn text(output: Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.outcome, Outcome::Exited(0), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// A program that says a byte and then does not end; the pipe is held as long as any of it lives.
fn endless(command: Command) -> (Child, std::io::PipeReader) {
    let (reading, writing) = std::io::pipe().unwrap();
    let child = command.fd(5, writing).spawn().unwrap();
    assert_eq!(await_byte(&reading, "the program"), b'!');
    assert!(is_held(&reading));
    (child, reading)
}

const ENDLESS: &str = "printf ! >&5; while :; do sleep 1000; done";

fn await_end(pidfd: BorrowedFd<'_>) {
    let mut set = [PollFd::new(pidfd, PollFlags::POLLIN)];
    assert_eq!(poll(&mut set, PollTimeout::try_from(life::SAFETY).unwrap()), Ok(1));
}

/// Waits until nobody has the reading end of a pipe any more.
fn await_no_reader(writing: &impl AsFd) {
    let mut set = [PollFd::new(writing.as_fd(), PollFlags::empty())];
    assert_eq!(poll(&mut set, PollTimeout::try_from(life::SAFETY).unwrap()), Ok(1));
    assert!(set[0].revents().unwrap().contains(PollFlags::POLLERR));
}

fn files_stay_between_commands() {
    let session = session();
    sh(&session, "echo kept >/tmp/file; echo at home >file").status().unwrap();
    assert_eq!(text(sh(&session, "cat /tmp/file file").output().unwrap()), "kept\nat home\n");
    let file = session.open_output("/home/user/file").unwrap();
    assert_eq!(std::io::read_to_string(file).unwrap(), "at home\n");
    // Another session has its own.
    let other = self::session();
    assert_ne!(sh(&other, "cat /tmp/file").status().unwrap().outcome, Outcome::Exited(0));
}

fn changes_of_all_commands() {
    let base = tempfile::tempdir().unwrap();
    let overlay = Overlay::new([base.path()]);
    let session = Sandbox::new().overlay("/srv", overlay).prepare().unwrap().session().unwrap();
    for (name, told) in [("a", "added \"a\"\n"), ("b", "added \"a\"\nadded \"b\"\n")] {
        let mut child = sh(&session, &format!("touch /srv/{name}")).spawn().unwrap();
        child.wait().unwrap();
        assert_eq!(child.changes("/srv").unwrap().to_string(), told);
        assert_eq!(session.changes("/srv").unwrap().to_string(), told);
    }
    assert_eq!(session.changes("/tmp").unwrap_err().raw_os_error(), Some(libc::ENOENT));
}

fn each_command_has_its_own_end() {
    let session = session();
    let (mut first, held) = endless(sh(&session, ENDLESS));
    for code in [0, 1, 7, 255] {
        assert_eq!(
            sh(&session, &format!("exit {code}")).status().unwrap().outcome,
            Outcome::Exited(code)
        );
    }
    let signal = sh(&session, "kill -9 $$; sleep 1000").status().unwrap();
    assert_eq!(signal.outcome, Outcome::Signaled { signal: 9, core_dumped: false });
    let (mut second, also_held) = endless(sh(&session, ENDLESS));
    second.kill().unwrap();
    assert_eq!(second.wait().unwrap().outcome, Outcome::Killed);
    await_released(&also_held, "the second");
    assert!(is_held(&held));
    assert_eq!(first.try_wait().unwrap(), None);
    first.signal(15).unwrap();
    let status = first.wait().unwrap();
    assert_eq!(status.outcome, Outcome::Signaled { signal: 15, core_dumped: false });
    assert!(status.usage.unwrap().wall > Duration::ZERO);
    // Dropped, one ends as well.
    let (third, held) = endless(sh(&session, ENDLESS));
    drop(third);
    await_released(&held, "the third");
}

fn what_a_command_leaves_ends_with_it() {
    let session = session();
    let daemon = "(setsid sh -c 'trap \"\" TERM HUP; printf ! >&5; sleep 1000' &) ; read line <&6";
    let (go, going) = std::io::pipe().unwrap();
    let (mut child, held) = endless(sh(&session, daemon).fd(6, go));
    (&going).write_all(b"\n").unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.outcome, Outcome::Exited(0));
    assert!(status.left_count >= 1, "{status:?}");
    await_released(&held, "the daemon");
    assert!(sh(&session, "true").status().unwrap().outcome.is_success());
}

fn each_command_has_its_own_time() {
    let sandbox = Sandbox::new().wall_time(moment(100));
    let session = sandbox.prepare().unwrap().session().unwrap();
    // The session itself has none.
    std::thread::sleep(moment(150));
    let (mut child, held) = endless(sh(&session, ENDLESS));
    assert_eq!(child.wait().unwrap().outcome, Outcome::TimedOut);
    await_released(&held, "the program");
    assert!(sh(&session, "true").status().unwrap().outcome.is_success());
}

/// Than its sandbox has, in whatever way it is started.
fn a_command_has_another_time() {
    let hour = Duration::from_secs(3600);
    for (of_sandbox, own, outcome) in [
        (None, moment(100), Outcome::TimedOut),
        (Some(hour), moment(100), Outcome::TimedOut),
        (Some(moment(100)), hour, Outcome::Exited(0)),
    ] {
        let sandbox = of_sandbox.map_or_else(Sandbox::new, |time| Sandbox::new().wall_time(time));
        let prepared = sandbox.prepare().unwrap();
        let (session, pool) = (prepared.session().unwrap(), prepared.pool(1).unwrap());
        let script = if own == hour { "sleep $1" } else { "while :; do sleep 1000; done" };
        let past = (moment(100).as_secs_f64() * 2.0).to_string();
        let script = |command: Command| command.args(["-c", script, "sh", &past]).wall_time(own);
        for command in [
            sandbox.command("sh"),
            prepared.command("sh"),
            session.command("sh"),
            pool.command("sh"),
        ] {
            assert_eq!(script(command).status().unwrap().outcome, outcome);
        }
        assert!(session.command("true").status().unwrap().outcome.is_success());
        if own != hour {
            let (resting, _held) = endless(sandbox.command("sh").args(["-c", ENDLESS]));
            let entering = script(resting.command("sh").unwrap());
            assert_eq!(entering.status().unwrap().outcome, outcome);
        }
        let plan = sandbox.command("true").wall_time(own).plan().unwrap().to_string();
        assert!(plan.contains(&format!("end it after {own:?}")), "{plan}");
        for command in [prepared.command("true"), session.command("true"), pool.command("true")] {
            let error = command.wall_time(Duration::ZERO).spawn().unwrap_err();
            assert!(matches!(error, Error::Invalid(_)), "{error}");
        }
    }
}

fn a_failed_start_is_told() {
    let (session, sandbox) = (session(), Sandbox::new());
    for name in ["/no/such/program", "/etc/passwd", "no-such-program"] {
        let [inside, own] = [session.command(name), sandbox.command(name)]
            .map(|command| command.spawn().unwrap_err().to_string());
        assert_eq!(inside, own);
    }
    let [inside, own] = [session.command("true"), sandbox.command("true")]
        .map(|command| command.current_dir("/nowhere").spawn().unwrap_err().to_string());
    assert_eq!(inside, own);
    // Before it has read that it may go.
    for sandbox in [Sandbox::new().nice(-1), Sandbox::new()] {
        let prepared = sandbox.prepare().unwrap();
        let (session, pool) = (prepared.session().unwrap(), prepared.pool(1).unwrap());
        let commands = [sandbox.command("true"), session.command("true"), pool.command("true")];
        let errors = commands.map(|command| command.controlling_terminal().spawn().unwrap_err());
        assert!(errors[0].failed().unwrap().operation.starts_with("set "), "{}", errors[0]);
        let [own, others @ ..] = errors.map(|error| error.to_string());
        assert_eq!(others, [own.clone(), own]);
    }
    assert!(matches!(session.command("").spawn(), Err(Error::Invalid(_))));
    assert!(session.command("true").status().unwrap().outcome.is_success());
}

/// What a program can tell of its bounds.
const BOUNDS: &str = "grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp:)' /proc/self/status
    cat /proc/self/limits /proc/self/mountinfo; ls -l /proc/self/fd | wc -l; pwd; umask; env | sort
    hostname; id; cat /proc/self/setgroups; touch /usr/x /etc/x /x; unshare -U true; ulimit -a
    for pid in /proc/[0-9]*; do echo ${pid##*/} | grep -x 1; done; cat /proc/1/environ /proc/1/maps
    ls -l /proc/1/fd /proc/1/exe";

fn it_is_bound_as_a_sandbox_of_its_own_is() {
    let pool = pool(1);
    let session = session();
    let sandbox = Sandbox::new();
    let all = [sandbox.command("sh"), session.command("sh"), pool.command("sh")];
    let bounds = all.map(|command| {
        let output = command.args(["-c", &format!("({BOUNDS}) 2>&1")]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        // The numbers of mounts and of devices differ, and nothing else.
        let line = |line: &str| match line.contains(" - ") {
            true => line.split(' ').skip(3).collect::<Vec<_>>().join(" "),
            // In a copy of a template nobody may call setgroups.
            false if line == "deny" => "allow".to_owned(),
            false => line.to_owned(),
        };
        // Nor does the order say anything: what a template has comes first.
        let mut lines = text.lines().map(line).collect::<Vec<_>>();
        lines.sort();
        lines
    });
    assert!(bounds[0].iter().any(|line| line == "NoNewPrivs:\t1"), "{:?}", bounds[0]);
    let capabilities = "CapBnd:\t0000000000000000";
    assert!(bounds[0].iter().any(|line| line == capabilities), "{:?}", bounds[0]);
    for other in &bounds[1..] {
        let differs: Vec<_> = bounds[0].iter().zip(other).filter(|(a, b)| a != b).collect();
        assert_eq!((bounds[0].len(), differs), (other.len(), Vec::new()));
    }
}

fn descriptors_and_streams() {
    let session = session();
    for round in 0..3 {
        let command = session.command("cat").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        write!(child.stdin.take().unwrap(), "round {round}").unwrap();
        assert_eq!(child.wait_with_output().unwrap().stdout, format!("round {round}").as_bytes());
    }
    // As many as there can be: some come in each message.
    let mut command = sh(&session, "cat <&3; for fd in /proc/self/fd/*; do echo ${fd##*/}; done");
    for number in 3..250 {
        let (reading, mut writing) = std::io::pipe().unwrap();
        writing.write_all(b"word\n").unwrap();
        command = command.fd(number, reading);
    }
    let out = text(command.output().unwrap());
    assert!(out.starts_with("word\n0\n"), "{out}");
    assert!(out.contains("\n249\n"), "{out}");
    // And nothing of them is in the next one.
    let list = "for fd in /proc/$$/fd/*; do echo ${fd##*/}; done";
    let next = text(sh(&session, list).output().unwrap());
    assert_eq!(next, text(Sandbox::new().command("sh").args(["-c", list]).output().unwrap()));
}

fn a_terminal() {
    let session = session();
    for _ in 0..2 {
        let output = sh(&session, "test -t 0 && stty size").pty(24, 80).output().unwrap();
        assert_eq!(output.stdout, b"24 80\r\n");
    }
}

fn large_arguments() {
    let session = session();
    let argument = "x".repeat(100_000);
    let command = session.command("sh").args(["-c", "echo ${#1} ${#2} ${#BIG}", "sh"]);
    let command = command.arg(&argument).arg(&argument).env("BIG", &argument);
    assert_eq!(text(command.output().unwrap()), "100000 100000 100000\n");
}

fn a_profile_that_kills() {
    let rule = Rule::new("sethostname").then(Action::KillProcess);
    let sandbox = Sandbox::new().seccomp(Seccomp::default().rule(rule));
    let prepared = sandbox.prepare().unwrap();
    let (session, pool) = (prepared.session().unwrap(), prepared.pool(1).unwrap());
    let number = u32::try_from(libc::SYS_sethostname).unwrap();
    for _ in 0..2 {
        for command in [session.command("hostname"), pool.command("hostname")] {
            let outcome = command.arg("other").status().unwrap().outcome;
            let denied =
                matches!(&outcome, Outcome::SeccompDenied { syscall } if *syscall == number);
            assert!(denied, "{outcome:?}");
        }
    }
    assert!(session.command("true").status().unwrap().outcome.is_success());
}

fn a_profile_that_init_could_not_live_with() {
    for call in ["waitid", "clone", "ppoll", "sendmsg", "getpid"] {
        let sandbox = Sandbox::new().seccomp(Seccomp::default().rule(Rule::new(call)));
        let session = sandbox.prepare().unwrap().session().unwrap();
        for _ in 0..2 {
            let status = session.command("/usr/bin/true").status().unwrap();
            assert_eq!(status.outcome, Outcome::Exited(0), "{call}");
            let filtered =
                session.command("grep").args(["-q", "^Seccomp:.2$", "/proc/self/status"]);
            assert!(filtered.status().unwrap().outcome.is_success(), "{call}");
        }
    }
}

fn a_program_that_kills_everything() {
    let session = session();
    let (mut other, held) = endless(sh(&session, ENDLESS));
    // In its order it may kill itself first, or its supervisor, which then may not have told of the start yet.
    match sh(&session, "kill -9 -1; exit 3").spawn() {
        Ok(mut killer) => assert!(!killer.wait().unwrap().outcome.is_success()),
        Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ESRCH), "{error}"),
    }
    await_released(&held, "the other");
    assert!(!other.wait().unwrap().outcome.is_success());
    // Init is out of reach.
    assert!(sh(&session, "true").status().unwrap().outcome.is_success());
}

/// Whoever waits for a process to be had gets it or an error, and does not wait for ever.
fn a_program_that_takes_every_process() {
    const TAKE: &str = "import os, signal
told = False
while True:
    try:
        if os.fork() == 0: signal.pause()
    except OSError:
        if not told: os.write(5, b'!')
        told = True
";
    let sandbox = Sandbox::new().rlimit(Resource::Processes, 64);
    let session = sandbox.prepare().unwrap().session().unwrap();
    let (mut hostile, _held) = endless(session.command("python3").args(["-c", TAKE]));
    for _ in 0..rounds(20) {
        // It is started, but cannot start anything itself.
        match sh(&session, "sleep 0 & wait $!; exit 3").status() {
            Ok(status) => assert_eq!(status.outcome, Outcome::Exited(2)),
            Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EAGAIN), "{error}"),
        }
    }
    assert_eq!(hostile.try_wait().unwrap(), None);
    hostile.kill().unwrap();
    hostile.wait().unwrap();
    assert!(session.command("/usr/bin/true").status().unwrap().outcome.is_success());
}

/// What a supervisor that was killed leaves, init ends.
fn a_killed_supervisor() {
    let session = session();
    for _ in 0..rounds(10) {
        let script = "setsid sh -c 'sleep 1000; :' & printf ! >&5; sleep 1000; :";
        let (mut child, held) = endless(sh(&session, script));
        let (mut other, other_held) = endless(sh(&session, ENDLESS));
        life::signal(child.id(), libc::SIGKILL);
        await_released(&held, "what was supervised");
        assert!(!child.wait().unwrap().outcome.is_success());
        assert!(is_held(&other_held));
        other.kill().unwrap();
        other.wait().unwrap();
    }
}

fn a_program_that_stops_everything() {
    let session = session();
    let stopper = "printf ! >&5; while :; do for pid in /proc/[0-9]*; do pid=${pid##*/}
        [ $pid = $$ ] || kill -STOP $pid; done; done 2>/dev/null";
    let (mut hostile, _held) = endless(sh(&session, stopper));
    for _ in 0..3 {
        // It may take its time, and it may fail; it does not hang, and then nothing runs.
        let (reading, writing) = std::io::pipe().unwrap();
        match sh(&session, "sleep 1000").fd(5, writing).spawn() {
            Ok(mut child) => drop(child.kill()),
            Err(error) => {
                assert!(error.raw_os_error().is_some(), "{error}");
                await_released(&reading, "what was to be started");
            }
        }
    }
    hostile.kill().unwrap();
    hostile.wait().unwrap();
    assert!(sh(&session, "true").status().unwrap().outcome.is_success());
}

/// Before it has told anybody of the program.
fn a_program_that_stops_its_supervisor() {
    let session = session();
    for _ in 0..2 {
        let (reading, writing) = std::io::pipe().unwrap();
        let stopper = "while :; do kill -STOP $PPID; done";
        match sh(&session, stopper).fd(5, writing).spawn() {
            Ok(mut child) => {
                child.kill().unwrap();
                child.wait().unwrap();
            }
            Err(error) => assert!(error.raw_os_error().is_some(), "{error}"),
        }
        await_released(&reading, "what has stopped who looks after it");
    }
    assert!(sh(&session, "true").status().unwrap().outcome.is_success());
}

fn init_cannot_be_reached() {
    let session = session();
    let tries = "kill -STOP 1; kill -KILL 1; kill -SEGV 1; prlimit --pid 1 --cpu=1; renice 19 1
        cat /proc/1/maps /proc/1/environ; ls /proc/1/fd /proc/1/cwd/ /proc/1/root/; gdb -p 1 -batch
        echo x >/proc/1/mem; echo 1000 >/proc/1/oom_score_adj; chrt -b -p 0 1; true";
    for _ in 0..3 {
        let output = sh(&session, tries).output().unwrap();
        assert_eq!(output.outcome, Outcome::Exited(0));
        assert_eq!(output.stdout, b"");
    }
    assert!(sh(&session, "true").status().unwrap().outcome.is_success());
}

/// Everything that is there is attacked all the time, the supervisors and processes included that are
/// about to start a program.
fn init_is_attacked_while_programs_start() {
    let session = session();
    let attack = "printf ! >&5; while :; do for pid in /proc/[0-9]*; do pid=${pid##*/}
        [ $pid = $$ ] || { kill -SEGV $pid; kill -USR1 $pid; prlimit --pid $pid --nofile=0 --cpu=0
        head -c 1 /proc/$pid/mem; cat /proc/$pid/environ; ls /proc/$pid/fd /proc/$pid/cwd
        echo 1000 >/proc/$pid/oom_score_adj; renice 19 $pid; }; done; done >/dev/null 2>&1";
    let (mut attacker, _held) = endless(sh(&session, attack));
    let mut started = 0;
    for _ in 0..rounds(40) {
        match session.command("/usr/bin/true").spawn() {
            // It may be killed by them as well, and then that is told.
            Ok(mut child) => {
                child.wait().unwrap();
                started += 1;
            }
            Err(error) => assert!(error.raw_os_error().is_some(), "{error}"),
        }
    }
    println!("{started} started");
    assert_eq!(attacker.try_wait().unwrap(), None);
    drop(attacker);
    assert!(session.command("/usr/bin/true").status().unwrap().outcome.is_success());
}

/// As their documentation says.
fn descriptors_are_counted() {
    let sandbox = Sandbox::new();
    sandbox.command("true").status().unwrap();
    drop(session());
    let none = life::descriptors();
    let prepared = sandbox.prepare().unwrap();
    // Of the template, if there is one.
    let before = life::descriptors();
    assert!(prepared.has_template());
    assert_eq!(before, none + 4);
    let session = prepared.session().unwrap();
    // And of who waits to look after a command.
    assert_eq!(life::descriptors(), before + 6 + 2);
    let child = session.command("sleep").arg("1000").spawn().unwrap();
    let more = life::descriptors() - before - 6 - 4;
    // The next one may be there by now.
    assert!([0, 2].contains(&more), "{more}");
    drop((child, session));
    assert_eq!(life::descriptors(), before);
    let pool = prepared.pool(3).unwrap();
    assert!(pool.wait_until_filled(life::SAFETY));
    assert_eq!(life::descriptors(), before + 3 * 4);
    drop(pool);
    assert_eq!(life::descriptors(), before);
    drop(prepared);
    assert_eq!(life::descriptors(), none);
    // With networks that are used again, who keeps them, and those that are free.
    let prepared = sandbox.recycle_network(true).prepare().unwrap();
    assert_eq!(life::descriptors(), none + 4 + 2);
    let sleep = || prepared.command("sleep").arg("1000").spawn().unwrap();
    drop([sleep(), sleep(), sleep()]);
    prepared.command("true").status().unwrap();
    let kept = life::descriptors() - none - 4 - 2;
    assert!((1..=2 * 4 + 1).contains(&kept), "{kept}");
    // As many as are kept at the most, and each of these asks for one more.
    let (all, every) = (std::sync::Barrier::new(64), &sleep);
    let sleeping: Vec<_> = std::thread::scope(|scope| {
        let start = || {
            all.wait();
            every()
        };
        let threads: Vec<_> = (0..64).map(|_| scope.spawn(start)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    drop(sleeping);
    let kept = life::descriptors() - none - 4 - 2;
    assert!((1..=2 * 16).contains(&kept), "{kept}");
    drop(prepared);
    assert_eq!(life::descriptors(), none);
}

/// What one program leaves, the next one does not find; outside of a pool, in one sandbox, it does.
fn a_tenant_leaves_nothing_for_the_next() {
    const LEAVE: &str = "import os, socket, ctypes, resource, signal
libc = ctypes.CDLL(None, use_errno=True)
for name in ['/tmp/left', '/dev/shm/left', '/home/user/left']: open(name, 'w').write('left')
assert libc.shmget(4711, 4096, 0o1666) >= 0 and libc.semget(4711, 1, 0o1666) >= 0 and libc.msgget(4711, 0o1666) >= 0
assert libc.mq_open(b'/left', os.O_CREAT | os.O_RDWR, 0o666, None) >= 0
kept = [socket.socket(socket.AF_INET), socket.socket(socket.AF_UNIX), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)]
kept[0].bind(('127.0.0.1', 4711)); kept[0].listen(); kept[1].bind('\\0left'); kept[1].listen(); kept[2].bind(('127.0.0.1', 4711))
os.write(5, b'!')
signal.pause()
";
    const FIND: &str = "import os, socket, ctypes
libc = ctypes.CDLL(None, use_errno=True)
found = [name for name in ['/tmp/left', '/dev/shm/left', '/home/user/left'] if os.path.exists(name)]
found += ['shm'] * (libc.shmget(4711, 0, 0) >= 0) + ['sem'] * (libc.semget(4711, 0, 0) >= 0) + ['msg'] * (libc.msgget(4711, 0) >= 0)
found += ['mq'] * (libc.mq_open(b'/left', os.O_RDWR) >= 0)
for kind, name, address in [(socket.AF_INET, 'port', ('127.0.0.1', 4711)), (socket.AF_UNIX, 'abstract', '\\0left')]:
    try: socket.socket(kind).connect(address); found.append(name)
    except OSError: pass
try: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).bind(('127.0.0.1', 4711))
except OSError: found.append('udp')
print(' '.join(found))
";
    let pool = pool(2);
    let python = |command: Command, script: &str| command.args(["-c", script]);
    for ends_first in [false, true] {
        let (child, _held) = endless(python(pool.command("python3"), LEAVE));
        let kept = (!ends_first).then_some(child);
        assert_eq!(text(python(pool.command("python3"), FIND).output().unwrap()), "\n");
        drop(kept);
    }
    let session = session();
    let (_child, _held) = endless(python(session.command("python3"), LEAVE));
    let found = text(python(session.command("python3"), FIND).output().unwrap());
    let all = "/tmp/left /dev/shm/left /home/user/left shm sem msg mq port abstract udp\n";
    assert_eq!(found, all);
}

fn nothing_is_left_of_a_session() {
    drop(session());
    let before = life::descriptors();
    for _ in 0..rounds(20) {
        let session = session();
        let _one = sh(&session, "exit 0").status().unwrap();
        let _failed = session.command("/nowhere").spawn().unwrap_err();
        let child = sh(&session, "sleep 1000").spawn().unwrap();
        drop(child);
        session.end().unwrap();
    }
    assert_eq!(life::descriptors(), before);
    let children = nix::sys::wait::waitpid(None, Some(nix::sys::wait::WaitPidFlag::WNOHANG));
    assert_eq!(children, Err(nix::errno::Errno::ECHILD));
}

fn the_end_of_the_session_ends_its_commands() {
    let session = session();
    let (mut child, held) = endless(sh(&session, ENDLESS));
    let late = sh(&session, "true");
    session.end().unwrap();
    await_released(&held, "the program");
    assert!(!child.wait().unwrap().outcome.is_success());
    assert_eq!(late.spawn().unwrap_err().raw_os_error(), Some(libc::ESRCH));
}

fn a_dropped_session_has_ended() {
    let session = session();
    let (mut child, held) = endless(sh(&session, ENDLESS));
    drop(session);
    await_released(&held, "the program");
    assert!(!child.wait().unwrap().outcome.is_success());
    // Killed by somebody else, it says so.
    let session = self::session();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(session.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    await_end(session.pidfd());
    assert_eq!(sh(&session, "true").spawn().unwrap_err().raw_os_error(), Some(libc::ESRCH));
    assert_eq!(session.end().unwrap_err().raw_os_error(), Some(libc::ESRCH));
}

fn kill(pid: i32) {
    let pid = nix::unistd::Pid::from_raw(pid);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
}

/// Has put a process into a sandbox and does not reap it: the kernel lets init end after that only.
struct Intruder(i32);

impl Intruder {
    fn enter(init: u32) -> Self {
        let kinds = [(Namespaces::USER, "user"), (Namespaces::PID, "pid")];
        let open = |(kind, name)| (kind, File::open(format!("/proc/{init}/ns/{name}")).unwrap());
        let namespaces = kinds.map(open);
        let (told, tells) = life::pipe();
        let intruder = Intruder(life::fork(|| {
            namespaces.iter().for_each(|(kind, namespace)| life::enter(namespace, *kind));
            let _child = life::fork(life::rest);
            nix::unistd::write(&tells, b"!").unwrap();
            life::rest();
        }));
        assert_eq!(await_byte(&told, "the intruder"), b'!');
        intruder
    }
}

impl Drop for Intruder {
    fn drop(&mut self) {
        kill(self.0);
        life::join_killed(self.0.cast_unsigned());
    }
}

fn a_session_that_cannot_end_is_left() {
    leaves_a_session(false);
}

fn a_session_with_a_command_that_cannot_end_is_left() {
    leaves_a_session(true);
}

fn leaves_a_session(with_command: bool) {
    let session = session();
    let command = with_command.then(|| sh(&session, "true"));
    let intruder = Intruder::enter(session.id());
    let pidfd = session.pidfd().try_clone_to_owned().unwrap();
    drop(session);
    let mut set = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut set, PollTimeout::ZERO), Ok(0), "it has ended");
    drop(intruder);
    await_end(pidfd.as_fd());
    drop(command);
}

/// With something at /data that does not answer.
fn session_with_hanging_data() -> (fuse::Hanging, Arc<Session>, tempfile::TempDir) {
    mounts::own_mounts();
    let directory = tempfile::tempdir().unwrap();
    let hanging = fuse::Hanging::mount(directory.path());
    let unmapped = Feature::IdMappedMounts;
    let sandbox = Sandbox::new().bind_ro(directory.path(), "/data").best_effort(unmapped);
    let session = Arc::new(sandbox.prepare().unwrap().session().unwrap());
    (hanging, session, directory)
}

/// Whose file system may never answer.
fn nobody_waits_for_who_opens_a_file() {
    let (hanging, session, _directory) = session_with_hanging_data();
    let opener = Arc::clone(&session);
    let opener = std::thread::spawn(move || opener.open_output("/data/file").unwrap_err());
    assert_eq!(await_byte(&hanging.asked, "who opens"), b'?');
    let (tells, told) = std::sync::mpsc::channel();
    let other = std::thread::spawn(move || {
        session.stats().unwrap();
        session.pause().unwrap();
        session.resume().unwrap();
        tells.send(session.is_paused()).unwrap();
    });
    assert_eq!(told.recv_timeout(life::SAFETY), Ok(false));
    drop(hanging);
    other.join().unwrap();
    let errno = opener.join().unwrap().raw_os_error();
    assert!([libc::ECONNABORTED, libc::ENOTCONN].map(Some).contains(&errno), "{errno:?}");
}

/// Init's process for it stands still meanwhile.
fn an_exec_that_hangs_keeps_no_other_from_starting() {
    let (hanging, session, _directory) = session_with_hanging_data();
    let starter = Arc::clone(&session);
    let starter = std::thread::spawn(move || starter.command("/data/file").spawn().unwrap_err());
    assert_eq!(await_byte(&hanging.asked, "who executes"), b'?');
    for _ in 0..3 {
        assert!(sh(&session, "true").status().unwrap().outcome.is_success());
    }
    drop(hanging);
    let error = starter.join().unwrap();
    let failed = error.failed().unwrap();
    assert_eq!(failed.operation, "exec", "{error}");
    let errno = error.raw_os_error();
    assert!([libc::ECONNABORTED, libc::ENOTCONN].map(Some).contains(&errno), "{error}");
    assert!(sh(&session, "true").status().unwrap().outcome.is_success());
}

fn a_forked_copy_ends_nothing() {
    let (session, pool) = (session(), pool(1));
    let (mut child, held) = endless(sh(&session, ENDLESS));
    let mut owned = Some((session, pool));
    let copy = life::fork(|| drop(owned.take()));
    life::join(copy);
    assert!(is_held(&held));
    assert_eq!(child.try_wait().unwrap(), None);
    let (session, pool) = owned.take().unwrap();
    assert!(sh(&session, "true").status().unwrap().outcome.is_success());
    assert!(pool.command("true").status().unwrap().outcome.is_success());
    assert_eq!(pool.metrics().hits, 1);
    // Nor does it do anything else: who looks after programs is the other one's.
    let copy = life::fork(|| {
        let spawned = sh(&session, "true").spawn().map(drop);
        let error = [spawned, child.kill(), child.try_wait().map(drop), child.wait().map(drop)];
        for error in error.map(Result::unwrap_err) {
            assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{error}");
        }
        let _silent = child.pidfd();
    });
    life::join(copy);
    assert!(is_held(&held));
    let ids = [0; 3].map(|_| looked_after(session.command("true").spawn().unwrap()).0);
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().outcome, Outcome::Killed);
    assert!(!ids.contains(&child.id()));
}

/// Of a command that has ended well: who has looked after it, and its end.
fn looked_after(mut child: Child) -> (u32, stockade::Status) {
    let status = child.wait().unwrap();
    assert_eq!(status.outcome, Outcome::Exited(0));
    (child.id(), status)
}

fn one_looks_after_many() {
    let session = session();
    let ids: Vec<_> =
        (0..40).map(|_| looked_after(session.command("true").spawn().unwrap()).0).collect();
    // One more was made beside the first.
    let different: std::collections::BTreeSet<_> = ids.iter().collect();
    assert!(different.len() <= 2, "{ids:?}");
}

fn nothing_of_one_is_the_next_ones() {
    let session = session();
    let (_, grown) = looked_after(
        sh(&session, "x=$(head -c 30000000 /dev/zero | tr '\\0' x); i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done")
            .spawn()
            .unwrap(),
    );
    let grown = grown.usage.unwrap();
    assert!(grown.peak_rss_of_largest > 20 << 20, "{grown:?}");
    // It is left a process, and its time is up.
    let left = sh(&session, "sleep 1000 & sleep 1000").wall_time(moment(100));
    let mut left = left.spawn().unwrap();
    let status = left.wait().unwrap();
    assert_eq!((status.outcome, status.left_count), (Outcome::TimedOut, 2));
    for _ in 0..3 {
        let (_, status) = looked_after(session.command("true").spawn().unwrap());
        assert_eq!((status.left_count, status.left.len()), (0, 0));
        let usage = status.usage.unwrap();
        assert!(usage.peak_rss_of_largest < 10 << 20, "{usage:?}");
        assert!(usage.user < grown.user, "{usage:?}");
        assert!(usage.wall < grown.wall, "{usage:?}");
        assert!(usage.minor_faults < grown.minor_faults, "{usage:?}");
    }
}

/// A handle whose end was seen, and one whose end was not.
fn an_old_handle_does_nothing_to_the_next() {
    let session = session();
    let mut old = session.command("true").spawn().unwrap();
    old.wait().unwrap();
    let (mut next, held) = endless(sh(&session, ENDLESS));
    let (mut other, others) = endless(sh(&session, ENDLESS));
    assert!([next.id(), other.id()].contains(&old.id()));
    old.kill().unwrap();
    assert_eq!(old.signal(9).unwrap_err().raw_os_error(), Some(libc::ESRCH));
    await_end(old.pidfd());
    assert_eq!(old.program_id(), None);
    drop(old);
    let mut unseen = sh(&session, "printf ! >&5");
    let (reading, writing) = std::io::pipe().unwrap();
    unseen = unseen.fd(5, writing);
    let mut unseen = unseen.spawn().unwrap();
    assert_eq!(await_byte(&reading, "the program"), b'!');
    await_released(&reading, "the program");
    let (third, thirds) = endless(sh(&session, ENDLESS));
    assert_ne!(third.id(), unseen.id());
    unseen.kill().unwrap();
    drop(unseen);
    for (child, held) in [(&mut next, &held), (&mut other, &others)] {
        assert!(is_held(held));
        assert_eq!(child.try_wait().unwrap(), None);
    }
    assert!(is_held(&thirds));
    next.kill().unwrap();
    assert_eq!(next.wait().unwrap().outcome, Outcome::Killed);
    await_released(&held, "the program");
    assert!(is_held(&others) && is_held(&thirds));
}

/// Whenever it was asked for: before the program's end, after it, and after that was seen.
fn a_pidfd_is_readable_at_the_end() {
    let session = session();
    let child = sh(&session, "sleep 0.2").spawn().unwrap();
    await_end(child.pidfd());
    drop(child);
    let (reading, writing) = std::io::pipe().unwrap();
    let mut child = session.command("true").fd(5, writing).spawn().unwrap();
    await_released(&reading, "the program");
    await_end(child.pidfd());
    assert_eq!(child.wait().unwrap().outcome, Outcome::Exited(0));
    let mut child = session.command("true").spawn().unwrap();
    child.wait().unwrap();
    await_end(child.pidfd());
    // Who reads events waits for the end as well.
    let child = sh(&session, "sleep 0.2").spawn().unwrap();
    assert_eq!(child.events().unwrap().count(), 0);
}

/// The warden is told that there is no time to keep any more, if there is another command.
fn the_time_of_one_is_not_the_next_ones() {
    let session = session();
    let timed = |script: &str, time| sh(&session, script).wall_time(time).spawn().unwrap();
    looked_after(timed("true", moment(100)));
    // Who has looked after it may be ended after that, and whatever it is overdrawn by.
    std::thread::sleep(moment(100) + Duration::from_millis(2600));
    looked_after(timed("true", Duration::from_secs(100)));
    let (first, _) = looked_after(timed("true", moment(600)));
    let child = sh(&session, "sleep 4").spawn().unwrap();
    let id = child.id();
    let other = timed("sleep 4", Duration::from_secs(100));
    assert!([id, other.id()].contains(&first));
    looked_after(child);
    looked_after(other);
}

/// What is kept for a program is given up with its start; and what does not fit is not kept twice.
fn what_cannot_look_after_another() {
    let capable = Sandbox::new().capabilities([Capability::KILL]).prepare().unwrap();
    let capable = capable.session().unwrap();
    for _ in 0..4 {
        let script = "grep -c 'CapPrm:.*20$' /proc/self/status";
        let output = sh(&capable, script).stdout(Stdio::piped()).output().unwrap();
        assert_eq!(text(output), "1\n");
    }
    let session = session();
    let large = "x".repeat(100_000);
    let mut ids = Vec::new();
    for _ in 0..4 {
        let script = "[ ${#LARGE} = 100000 ]";
        ids.push(looked_after(sh(&session, script).env("LARGE", &large).spawn().unwrap()).0);
        looked_after(sh(&session, "[ -z \"$LARGE\" ]").spawn().unwrap());
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 4);
}

/// Whom init cannot make is not waited for, neither then nor later.
fn nobody_waits_for_one_that_was_refused() {
    let session = session();
    looked_after(session.command("true").spawn().unwrap());
    life::limit_processes(session.id(), Some(1));
    let (mut running, mut refused) = (Vec::new(), 0);
    for _ in 0..12 {
        match sh(&session, ENDLESS).fd(5, File::create("/dev/null").unwrap()).spawn() {
            Ok(child) => running.push(child),
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::EAGAIN), "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 8 && !running.is_empty(), "{refused}");
    life::limit_processes(session.id(), None);
    looked_after(session.command("true").spawn().unwrap());
    running.iter_mut().for_each(|child| child.kill().unwrap());
    looked_after(session.command("true").spawn().unwrap());
}

/// Whose end was seen: who has looked after it is another one's.
fn an_old_handle_is_let_go() {
    let session = session();
    let mut old = session.command("true").spawn().unwrap();
    old.wait().unwrap();
    old.detach().unwrap();
    let mut paused = session.command("true").wall_time(Duration::from_secs(100)).spawn().unwrap();
    if paused.pause().is_ok() {
        paused.resume().unwrap();
    }
    assert_eq!(paused.wait().unwrap().outcome, Outcome::Exited(0));
    paused.resume().unwrap();
    looked_after(session.command("true").spawn().unwrap());
}

/// But for some, which wait for the handle that sees the end.
fn who_is_not_waited_for_is_no_process() {
    let session = session();
    let mut ended = Vec::new();
    for _ in 0..40 {
        let (reading, writing) = std::io::pipe().unwrap();
        ended.push(session.command("true").fd(5, writing).spawn().unwrap());
        await_released(&reading, "the program");
    }
    let there = |child: &&Child| Path::new(&format!("/proc/{}", child.id())).exists();
    life::await_that(|| ended.iter().filter(there).count() <= 16);
    for child in &mut ended {
        assert_eq!(child.wait().unwrap().outcome, Outcome::Exited(0));
    }
    looked_after(session.command("true").spawn().unwrap());
}

fn nothing_stays_open() {
    let session = session();
    let ids: Vec<_> =
        (0..6).map(|_| looked_after(session.command("true").spawn().unwrap()).0).collect();
    // It closes some when it has told the end.
    let state = format!("/proc/{}/stat", ids[5]);
    let sleeps = || std::fs::read_to_string(&state).unwrap().contains(") S ");
    let open = || {
        life::await_that(sleeps);
        std::fs::read_dir(format!("/proc/{}/fd", ids[5])).unwrap().count()
    };
    let before = open();
    for round in 0..60 {
        let (reading, writing) = std::io::pipe().unwrap();
        let command = session.command("true").stdout(Stdio::piped());
        assert_eq!(looked_after(command.fd(5 + round, writing).spawn().unwrap()).0, ids[5]);
        await_released(&reading, "the program");
    }
    assert_eq!(open(), before);
}

fn many_threads_at_once() {
    let session = session();
    sh(&session, "true").status().unwrap();
    let before = life::descriptors();
    std::thread::scope(|scope| {
        for thread in 0..64 {
            let session = &session;
            scope.spawn(move || {
                for round in 0..4 {
                    let code = (thread * 4 + round) % 256;
                    let status = sh(session, &format!("exit {code}")).status().unwrap();
                    assert_eq!(status.outcome, Outcome::Exited(code));
                }
            });
        }
    });
    // Up to four wait for the next command, with two each.
    let after = life::descriptors();
    assert!((before..=before + 6).contains(&after), "{before} and {after}");
}

fn time_stands_still_in_a_pause() {
    let sandbox = Sandbox::new().wall_time(moment(400));
    let session = sandbox.prepare().unwrap().session().unwrap();
    let (mut child, held) = endless(sh(&session, ENDLESS));
    session.pause().unwrap();
    assert!(session.is_paused());
    assert_eq!(sh(&session, "true").spawn().unwrap_err().raw_os_error(), Some(libc::EBUSY));
    // Longer than the time, and all that it may be overdrawn by.
    std::thread::sleep(moment(900) + Duration::from_millis(2500));
    assert_eq!(child.try_wait().unwrap(), None);
    session.resume().unwrap();
    assert!(is_held(&held));
    assert_eq!(child.try_wait().unwrap(), None);
    assert_eq!(child.wait().unwrap().outcome, Outcome::TimedOut);
    await_released(&held, "the program");
    // Paused or not, it ends.
    session.pause().unwrap();
    session.end().unwrap();
}

/// A program that another one stops on its way is continued, but not in a pause that began meanwhile.
fn a_start_does_not_end_a_pause() {
    // Where nothing can be frozen, a pause is by signals.
    let nowhere = CgroupParent::Path("/no-such-group".into());
    let session = Sandbox::new().cgroup_parent(nowhere).prepare().unwrap().session().unwrap();
    let (witness, _held) = endless(sh(&session, "printf ! >&5; while :; do :; done"));
    let is_stopped = || life::state(witness.program_id().unwrap()) == 'T';
    let mut all = vec![session.id()];
    let mut at = 0;
    while let Some(pid) = all.get(at) {
        let children = life::children_of(pid.cast_signed()).into_iter();
        all.extend(children.map(|(child, _)| child.cast_unsigned()));
        at += 1;
    }
    // Who would start it among them.
    all[1..].iter().for_each(|pid| life::signal(*pid, libc::SIGSTOP));
    std::thread::scope(|scope| {
        // It may come too late on a busy machine, when it is refused.
        let started = || loop {
            match sh(&session, "exit 3").status() {
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => std::thread::yield_now(),
                other => return other.unwrap().outcome,
            }
        };
        let starter = scope.spawn(started);
        // Less than it takes until who does not start is continued, however slow the machine is.
        std::thread::sleep(Duration::from_millis(200));
        session.pause().unwrap();
        // Twice as long as it takes until who does not start is continued.
        std::thread::sleep(Duration::from_secs(2));
        assert!(!starter.is_finished() && is_stopped());
        session.resume().unwrap();
        assert_eq!(starter.join().unwrap(), Outcome::Exited(3));
        assert!(!is_stopped());
    });
}

fn its_namespaces_can_be_joined() {
    let session = Sandbox::new().uid(1000).gid(1000).prepare().unwrap().session().unwrap();
    let all = session.namespaces().unwrap();
    // That of the programs, which init itself is not in.
    let clocks = all.iter().find(|(kind, _)| *kind == Namespaces::TIME).unwrap().1.as_raw_fd();
    let clocks = std::fs::read_link(format!("/proc/self/fd/{clocks}")).unwrap();
    let inside = text(sh(&session, "readlink /proc/self/ns/time").output().unwrap());
    assert_eq!(Path::new(inside.trim()), clocks);
    let mut joining = Sandbox::new().uid(1000).gid(1000);
    for (kind, fd) in all {
        if [Namespaces::USER, Namespaces::NET, Namespaces::UTS, Namespaces::IPC].contains(&kind) {
            joining = joining.join(kind, fd);
        }
    }
    let script = "readlink /proc/self/ns/net /proc/self/ns/uts /proc/self/ns/ipc";
    let inside = text(sh(&session, script).output().unwrap());
    let joined = text(joining.command("sh").args(["-c", script]).output().unwrap());
    assert_eq!(inside, joined);
    assert_ne!(inside, text(Sandbox::new().command("sh").args(["-c", script]).output().unwrap()));
}

fn what_cannot_wait() {
    let shared =
        Sandbox::new().namespaces(Namespaces::all() - Namespaces::PID).without_atomic_end();
    for sandbox in [Sandbox::new().init(false), Sandbox::new().learn(), shared] {
        let prepared = sandbox.prepare().unwrap();
        assert!(matches!(prepared.session(), Err(Error::Invalid(_))));
        assert!(matches!(prepared.pool(1), Err(Error::Invalid(_))));
        // But what it is prepared for it does.
        assert!(prepared.command("true").status().unwrap().outcome.is_success());
    }
}

fn too_low_a_limit_of_open_files() {
    life::limit_open_files(256);
    let prepared = Sandbox::new().prepare().unwrap();
    let errors = [prepared.session().map(drop), prepared.pool(1).map(drop)].map(Result::unwrap_err);
    for error in errors {
        assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
        assert!(error.to_string().contains("the hard limit of open files is 256"), "{error}");
    }
    assert!(prepared.command("true").status().unwrap().outcome.is_success());
}

/// Starts a copy of this test that makes something which holds its standard input, kills it and waits.
fn ends_with_its_embedder(make: impl FnOnce()) {
    if my_role().is_some() {
        make();
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
    await_no_reader(&holds);
}

fn it_ends_with_the_embedder() {
    ends_with_its_embedder(|| {
        let session = session();
        for _ in 0..3 {
            let stdin = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
            let child =
                sh(&session, "sleep 1000; sleep 1000").stdin(File::from(stdin)).spawn().unwrap();
            std::mem::forget(child);
        }
        std::mem::forget(session);
    });
}

fn a_pool_gives_each_its_own() {
    let pool = pool(2);
    for round in 0..4 {
        let script = "cat /tmp/* 2>/dev/null; echo $1 >/tmp/$1; ls /tmp; echo $$; hostname";
        let command = pool.command("sh").args(["-c", script, "sh", &round.to_string()]);
        // Always the same pid, as it is the first program there.
        let out = text(command.output().unwrap());
        let lines: Vec<_> = out.lines().collect();
        assert_eq!((lines.len(), lines[0]), (3, round.to_string().as_str()), "{out}");
    }
    let metrics = pool.metrics();
    assert_eq!(metrics.hits + metrics.misses, 4);
}

fn a_pool_is_refilled() {
    let pool = pool(3);
    assert_eq!(pool.metrics().waiting, 3);
    let (child, held) = endless(pool.command("sh").args(["-c", ENDLESS]));
    assert!(pool.wait_until_filled(life::SAFETY));
    // What contradicts itself takes none.
    assert!(matches!(pool.command("").spawn(), Err(Error::Invalid(_))));
    let metrics = pool.metrics();
    assert_eq!((metrics.waiting, metrics.hits, metrics.misses, metrics.failures), (3, 1, 0, 0));
    // What cannot be started takes one all the same.
    assert!(pool.command("/nonexistent").spawn().is_err());
    assert!(pool.wait_until_filled(life::SAFETY));
    assert_eq!((pool.metrics().waiting, pool.metrics().hits), (3, 2));
    pool.resize(1);
    assert_eq!(pool.metrics().waiting, 1);
    pool.resize(2);
    assert!(pool.wait_until_filled(life::SAFETY));
    // What was started goes on without it.
    drop(pool);
    assert!(is_held(&held));
    drop(child);
    await_released(&held, "the program");
}

fn who_waits_is_never_woken() {
    let pool = pool(2);
    let session = session();
    assert!(session.command("true").status().unwrap().outcome.is_success());
    // What was begun before is done at some time; who asks again and again is never done.
    let mut before = wake_ups(std::process::id(), true);
    for _ in 0..50 {
        std::thread::sleep(moment(300));
        let now = wake_ups(std::process::id(), true);
        if now == before {
            assert!(now.len() >= 4, "{now:?}");
            assert_eq!(pool.metrics().waiting, 2);
            return;
        }
        before = now;
    }
    panic!("{before:?}");
}

/// How often each thread of a process and of those that it has made has gone to sleep; of the process itself only
/// those that are not the first.
fn wake_ups(pid: u32, is_own: bool) -> Vec<(u32, u64)> {
    let mut found = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let task = task.unwrap().path();
        let text = std::fs::read_to_string(task.join("status")).unwrap_or_default();
        let count = text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        let id = task.file_name().unwrap().to_str().unwrap().parse().unwrap();
        let count = count.map(|text| text.trim().parse().unwrap());
        found.extend(count.filter(|_| !is_own || id != pid).map(|count| (id, count)));
    }
    for (child, _) in life::children_of(pid.cast_signed()) {
        found.extend(wake_ups(child.cast_unsigned(), false));
    }
    found
}

fn a_pool_that_is_empty_makes_one() {
    let pool = pool(1);
    pool.resize(0);
    assert!(pool.command("true").status().unwrap().outcome.is_success());
    let metrics = pool.metrics();
    assert_eq!((metrics.hits, metrics.misses, metrics.waiting), (0, 1, 0));
}

fn who_waits_is_given_one() {
    let pool = pool(1);
    pool.when_empty(WhenEmpty::Wait);
    for size in [1, 0] {
        pool.resize(size);
        std::thread::scope(|scope| {
            for code in 0..16 {
                let pool = &pool;
                scope.spawn(move || {
                    let status = pool.command("sh").args(["-c", &format!("exit {code}")]).status();
                    assert_eq!(status.unwrap().outcome, Outcome::Exited(code));
                });
            }
        });
    }
    let metrics = pool.metrics();
    assert_eq!((metrics.hits + metrics.waits, metrics.misses, metrics.failures), (32, 0, 0));
    assert!(metrics.waits >= 16, "{metrics:?}");
    assert!(metrics.refills >= metrics.waits, "{metrics:?}");
    // What its size forbids it has made for who waited, and for nobody else.
    assert_eq!(metrics.waiting, 0);
}

fn who_waits_is_told_that_there_is_none() {
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("source");
    std::fs::create_dir(&source).unwrap();
    // A template would keep it.
    let sandbox = Sandbox::new().bind_ro(&source, "/data").capabilities([Capability::SYS_ADMIN]);
    let pool = sandbox.prepare().unwrap().pool(0).unwrap();
    assert_eq!(pool.metrics().waiting, 0);
    pool.when_empty(WhenEmpty::Wait);
    assert!(pool.command("true").status().unwrap().outcome.is_success());
    std::fs::remove_dir(&source).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let error = pool.command("true").spawn().unwrap_err();
                assert_eq!(error.raw_os_error(), Some(libc::ENOENT), "{error}");
            });
        }
    });
    let metrics = pool.metrics();
    assert_eq!((metrics.waits, metrics.misses), (9, 0));
    assert!(metrics.failures >= 8, "{metrics:?}");
    // And nobody is told later.
    std::fs::create_dir(&source).unwrap();
    assert!(pool.command("true").status().unwrap().outcome.is_success());
}

/// How often it was warned.
struct Warnings(AtomicUsize);

static WARNINGS: Warnings = Warnings(AtomicUsize::new(0));

impl log::Log for Warnings {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let text = record.args().to_string();
        if record.level() == log::Level::Warn && text.starts_with("a pool gets no sandbox") {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn flush(&self) {}
}

fn a_failing_pool_warns_once() {
    log::set_logger(&WARNINGS).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    let directory = tempfile::tempdir().unwrap();
    let source = directory.path().join("source");
    let sandbox = Sandbox::new().bind_ro(&source, "/data").capabilities([Capability::SYS_ADMIN]);
    std::fs::create_dir(&source).unwrap();
    let pool = sandbox.prepare().unwrap().pool(0).unwrap();
    let until = Instant::now() + life::SAFETY;
    for warnings in 1..=2 {
        std::fs::remove_dir(&source).unwrap();
        let before = pool.metrics().failures;
        pool.resize(1);
        while pool.metrics().failures < before + 3 {
            assert!(Instant::now() < until, "{:?}", pool.metrics());
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(WARNINGS.0.load(Ordering::SeqCst), warnings);
        // When it goes on and fails again, that is news.
        std::fs::create_dir(&source).unwrap();
        assert!(pool.wait_until_filled(life::SAFETY));
        pool.resize(0);
    }
}

fn who_waits_for_a_pool_that_is_gone() {
    let pool = pool(1);
    pool.when_empty(WhenEmpty::Wait);
    let late = pool.command("true");
    drop(pool);
    assert_eq!(late.spawn().unwrap_err().raw_os_error(), Some(libc::ESRCH));
}

fn the_memory_of_those_that_wait() {
    let pool = pool(4);
    let all = pool.metrics().memory.unwrap();
    // More than a page, and nothing of this process.
    assert!((4 * 4096..4 * (256 << 10)).contains(&all), "{all}");
    // Room for two of them.
    pool.limit_memory(all / 2).unwrap();
    let few = pool.metrics();
    assert!((1..4).contains(&few.waiting), "{few:?}");
    assert!(few.memory.unwrap() <= all / 2, "{few:?}");
    // One that is taken is replaced, and no more than that.
    pool.resize(100);
    assert!(pool.command("true").status().unwrap().outcome.is_success());
    assert!(pool.wait_until_filled(life::SAFETY));
    let few = pool.metrics();
    assert!((1..100).contains(&few.waiting), "{few:?}");
    assert!(few.memory.unwrap() <= all / 2, "{few:?}");
    // With room for none, each has one made, or waits for one.
    pool.limit_memory(0).unwrap();
    for choice in [WhenEmpty::Make, WhenEmpty::Wait] {
        pool.when_empty(choice);
        assert!(pool.command("true").status().unwrap().outcome.is_success());
    }
    let none = pool.metrics();
    assert_eq!((none.waiting, none.memory, none.misses, none.waits), (0, Some(0), 1, 1));
    pool.limit_memory(Max::Unlimited).unwrap();
    pool.resize(4);
    assert!(pool.wait_until_filled(life::SAFETY));
    assert_eq!(pool.metrics().waiting, 4);
}

fn a_killed_one_is_not_given() {
    let pool = pool(2);
    // The children of the template, which is this process's, are those that wait.
    let templates = life::children();
    assert_eq!(templates.len(), 1, "{templates:?}");
    let children = life::children_of(templates[0].0);
    assert_eq!(children.len(), 2, "{children:?}");
    kill_children_of(templates[0].0);
    assert!(pool.command("true").status().unwrap().outcome.is_success());
    assert_eq!(pool.metrics().hits, 0);
}

/// And waits until they are gone.
fn kill_children_of(template: i32) {
    life::children_of(template).iter().for_each(|(pid, _)| kill(*pid));
    let until = Instant::now() + life::SAFETY;
    while !life::children_of(template).is_empty() {
        assert!(Instant::now() < until, "still there");
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn those_that_were_killed_do_not_wait() {
    let pool = pool(2);
    let template = life::children()[0].0;
    kill_children_of(template);
    let metrics = pool.metrics();
    assert_eq!((metrics.waiting, metrics.memory), (0, Some(0)));
    assert!(pool.wait_until_filled(life::SAFETY));
    assert_eq!(pool.metrics().waiting, 2);
    assert!(pool.command("true").status().unwrap().outcome.is_success());
    assert_eq!(pool.metrics().hits, 1);
}

/// It is found while it is about to end, which here takes as long as an intruder likes.
fn one_that_dies_before_its_program() {
    let pool = pool(1);
    let template = life::children()[0].0;
    let init = life::children_of(template)[0].0;
    let _intruder = Intruder::enter(init.cast_unsigned());
    kill(init);
    let until = Instant::now() + life::SAFETY;
    let status = || std::fs::read_to_string(format!("/proc/{init}/status")).unwrap();
    // It has let go of all, and sleeps until the intruder's process is gone.
    // Linux 6.1 calls that idle.
    let sleeps = |text: &str| ["State:\tS", "State:\tI"].iter().any(|line| text.contains(line));
    let has_let_go = |text: &str| text.contains("FDSize:\t0\n") && sleeps(text);
    while !has_let_go(&status()) {
        assert!(Instant::now() < until, "{}", status());
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(pool.command("true").status().unwrap().outcome.is_success());
    // It was there still when it was found.
    assert_eq!(pool.metrics().hits, 1);
}

fn the_time_begins_with_the_program() {
    let sandbox = Sandbox::new().wall_time(moment(200));
    let pool = sandbox.prepare().unwrap().pool(1).unwrap();
    std::thread::sleep(moment(400));
    assert!(pool.command("true").status().unwrap().outcome.is_success());
    let (mut child, held) = endless(pool.command("sh").args(["-c", ENDLESS]));
    assert_eq!(child.wait().unwrap().outcome, Outcome::TimedOut);
    await_released(&held, "the program");
}

fn many_threads_and_one_pool() {
    let pool = pool(4);
    std::thread::scope(|scope| {
        for thread in 0..16 {
            let pool = &pool;
            scope.spawn(move || {
                let status = pool.command("sh").args(["-c", &format!("exit {thread}")]).status();
                assert_eq!(status.unwrap().outcome, Outcome::Exited(thread));
            });
        }
    });
    let metrics = pool.metrics();
    assert_eq!(metrics.hits + metrics.misses, 16);
}

fn a_pool_ends_with_the_embedder() {
    ends_with_its_embedder(|| {
        let pool = pool(3);
        let stdin = std::io::stdin().as_fd().try_clone_to_owned().unwrap();
        let command = pool.command("sh").args(["-c", "sleep 1000; sleep 1000"]);
        std::mem::forget(command.stdin(File::from(stdin)).spawn().unwrap());
        std::mem::forget(pool);
    });
}

fn prepared_is_as_the_sandbox() {
    let sandbox = Sandbox::new().hostname("prepared").wall_time(moment(60_000));
    let prepared = sandbox.prepare().unwrap();
    assert_eq!(*prepared.plan(), sandbox.plan().unwrap());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            let prepared = prepared.clone();
            scope.spawn(move || {
                let out = text(prepared.command("hostname").output().unwrap());
                assert_eq!(out, "prepared\n");
                // Another PATH than the one that it was prepared with.
                let command = prepared.command("true").env("PATH", "/usr/bin");
                assert!(command.status().unwrap().outcome.is_success());
            });
        }
    });
}

fn limits_hold_for_all_together() {
    let parent = groups::Delegated::to(0);
    let sandbox = Sandbox::new().pids_limit(16).memory_limit(64 << 20);
    let sandbox = sandbox.cgroup_parent(parent.parent());
    let session = sandbox.prepare().unwrap().session().unwrap();
    let (_child, _held) =
        endless(sh(&session, "sleep 1000 & sleep 1000 & sleep 1000 & printf ! >&5; wait"));
    let script = "i=0; while [ $i -lt 20 ]; do sleep 1000 & i=$((i + 1)); done; wait";
    let output = sh(&session, script).output().unwrap();
    assert!(!output.outcome.is_success(), "{output:?}");
    assert!(session.stats().unwrap().memory.current.unwrap() > 0);
    // With no process left to be had, that is told.
    let mut running = Vec::new();
    let refused = (0..100).find_map(|_| match session.command("sleep").arg("1000").spawn() {
        Ok(child) => {
            running.push(child);
            None
        }
        Err(error) => Some(error),
    });
    assert_eq!(refused.unwrap().raw_os_error(), Some(libc::EAGAIN));
    drop(running);
    let eater = "x=$(head -c 200000000 /dev/zero | tr '\\0' x); echo ${#x}";
    let eaten = sh(&session, eater).output().unwrap();
    assert_eq!(eaten.stdout, b"", "{eaten:?}");
    assert!(session.stats().unwrap().memory.oom_kills.unwrap() > 0);
    assert!(!parent.content().is_empty());
    session.end().unwrap();
    assert!(parent.content().is_empty());
}

fn the_memory_of_their_groups() {
    // Counted, without a limit.
    let limits = Limits::new().memory(Memory::new());
    let sandbox = Sandbox::new().limits(limits).file("/tmp/data", vec![b'x'; 4 << 20]);
    let pool = sandbox.prepare().unwrap().pool(2).unwrap();
    assert!(pool.wait_until_filled(life::SAFETY));
    let both = pool.metrics().memory.unwrap();
    assert!((8 << 20..16 << 20).contains(&both), "{both}");
    pool.limit_memory(both - 1).unwrap();
    pool.resize(10);
    assert!(pool.wait_until_filled(life::SAFETY));
    assert_eq!(pool.metrics().waiting, 1);
}

fn a_pooled_one_has_its_limits() {
    let sandbox = Sandbox::new().memory_limit(64 << 20).cpu_time(Duration::from_millis(300));
    let pool = sandbox.prepare().unwrap().pool(1).unwrap();
    let eater = "x=$(head -c 200000000 /dev/zero | tr '\\0' x); echo ${#x}";
    let eaten = pool.command("sh").args(["-c", eater]).output().unwrap();
    assert!(matches!(eaten.outcome, Outcome::OutOfMemory { .. } | Outcome::CpuTime), "{eaten:?}");
    let busy = pool.command("sh").args(["-c", "while :; do :; done"]).status().unwrap();
    assert_eq!(busy.outcome, Outcome::CpuTime);
}
