//! The handle for programs that run on tokio.
#![allow(
    clippy::exit,
    clippy::incompatible_msrv,
    reason = "a test process, built by a current toolchain"
)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails so")]
#![allow(unsafe_code, reason = "common asks what this process may do")]

mod common;
#[path = "common/life.rs"]
mod life;

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use common::Needs;
use common::ways::Ways;
use life::{SAFETY, await_released, is_held, pipe};
use stockade::{
    AsyncChild, Child, Command, Error, Feature, Namespaces, Outcome, Prepared, Sandbox, Session,
    Stdio, WhenEmpty,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};

tests_in_all_ways! {
    Needs::Nothing => [
        ends, output_of_both, output_is_limited, terminals, streams, waiting_blocks_nobody, given_up_and_again,
        dropped, dropped_with_its_runtime, killed, deadlines, errors, other_methods,
    ];
    Needs::Nothing => alone [
        no_thread_waits, dropped_without_a_pid_namespace, without_a_runtime, many_at_once, many_that_are_dropped,
        a_word_is_enough, the_end_is_seen_whoever_heard_it, killing_blocks_nobody, the_session_ends_meanwhile, the_session_stands_still_meanwhile,
        the_template_is_killed_meanwhile, the_pool_ends_meanwhile, a_panic_of_an_action,
    ];
}

/// One thread that must never block, and few for what does.
fn runtime() -> Runtime {
    fail_instead_of_hanging();
    Builder::new_current_thread().enable_io().max_blocking_threads(4).build().unwrap()
}

fn fail_instead_of_hanging() {
    // SAFETY: takes a number. Nobody handles the signal, which ends this process.
    unsafe { libc::alarm(u32::try_from(SAFETY.as_secs()).unwrap() * common::slowness()) };
}

fn sh(script: &str) -> Command {
    Sandbox::new().way_to("sh").args(["-c", script])
}

/// Looks once, and gives up.
fn once<T>(future: impl Future<Output = T>) -> Poll<T> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

fn ends() {
    runtime().block_on(async {
        for (script, expected) in [
            ("exit 3", Outcome::Exited(3)),
            ("kill -9 $$", Outcome::Signaled { signal: 9, core_dumped: false }),
        ] {
            let mut child = sh(script).spawn_async().await.unwrap();
            assert_eq!(child.wait().await.unwrap().outcome, expected);
            // And once more.
            assert_eq!(child.wait().await.unwrap().outcome, expected);
            assert_eq!(child.try_wait().unwrap().unwrap().outcome, expected);
        }
        assert_eq!(sh("exit 4").status_async().await.unwrap().outcome, Outcome::Exited(4));
    });
}

fn output_of_both() {
    const MANY: usize = 3_000_000;
    let script = format!("head -c {MANY} /dev/zero & head -c {MANY} /dev/zero >&2; wait; echo end");
    let output = runtime().block_on(sh(&script).output_async()).unwrap();
    assert_eq!((output.stdout.len(), output.stderr.len()), (MANY + 4, MANY));
    assert!(output.stdout.ends_with(b"end\n") && output.outcome.is_success());
}

fn output_is_limited() {
    let flood = sh("head -c 1000000 /dev/zero; echo end >&2").keep_output(1000);
    let output = runtime().block_on(flood.output_async()).unwrap();
    assert_eq!((output.stdout.len(), output.stdout_truncated), (1000, true));
    assert_eq!((&*output.stderr, output.stderr_truncated), (&b"end\n"[..], false));
}

fn terminals() {
    let output = runtime().block_on(sh("tty; echo error >&2").pty(24, 80).output_async()).unwrap();
    assert_eq!(output.stdout, b"/dev/pts/0\r\nerror\r\n");
}

fn streams() {
    runtime().block_on(async {
        let command = Sandbox::new().way_to("cat").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn_async().await.unwrap();
        let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut answer = [0; 5];
        for _ in 0..3 {
            stdin.write_all(b"again").await.unwrap();
            stdout.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"again");
        }
        drop(stdin);
        assert_eq!(stdout.read(&mut answer).await.unwrap(), 0);
        assert!(child.wait().await.unwrap().outcome.is_success());
        // Waiting closes it, too.
        let command = Sandbox::new().way_to("cat").stdin(Stdio::piped());
        let mut child = command.spawn_async().await.unwrap();
        assert!(child.wait().await.unwrap().outcome.is_success());
    });
}

/// In a runtime of one thread, what ends the program is another task.
fn waiting_blocks_nobody() {
    let (reading, mut writing) = std::io::pipe().unwrap();
    let runtime = runtime();
    let outcome = runtime.block_on(async {
        let mut child = Sandbox::new()
            .way_to("cat")
            .stdin(std::os::fd::OwnedFd::from(reading))
            .spawn_async()
            .await
            .unwrap();
        let waiting = runtime.spawn(async move { child.wait().await.unwrap().outcome });
        let ending = runtime.spawn(async move {
            std::io::Write::write_all(&mut writing, b"x").unwrap();
        });
        ending.await.unwrap();
        waiting.await.unwrap()
    });
    assert!(outcome.is_success());
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

fn no_thread_waits() {
    const CHILDREN: usize = 24;
    let prepared = Sandbox::new().prepare().unwrap();
    let (session, pool) = (prepared.session().unwrap(), prepared.pool(1).unwrap());
    runtime().block_on(async {
        let mut children = Vec::new();
        for _ in 0..CHILDREN / 4 {
            for command in [
                Sandbox::new().command("sleep"),
                prepared.command("sleep"),
                session.command("sleep"),
                pool.command("sleep"),
            ] {
                children.push(command.arg("1000").spawn_async().await.unwrap());
            }
        }
        let runtime = tokio::runtime::Handle::current();
        let waiting: Vec<_> = children
            .into_iter()
            .map(|mut child| runtime.spawn(async move { child.wait().await }))
            .collect();
        tokio::task::yield_now().await;
        // This one and those of tokio's that block; the pool's and the harness's.
        assert!(threads() < 10, "{}", threads());
        for task in waiting {
            assert!(!task.is_finished());
            task.abort();
            assert!(task.await.unwrap_err().is_cancelled());
        }
    });
}

fn given_up_and_again() {
    runtime().block_on(async {
        // Before it has started.
        let (reading, writing) = pipe();
        assert!(
            once(Sandbox::new().way_to("sleep").arg("1000").fd(5, writing).spawn_async())
                .is_pending()
        );
        tokio::task::spawn_blocking(move || await_released(&reading, "a sandbox nobody wants"))
            .await
            .unwrap();
        // While it runs.
        let mut child = sh("read line; exit 5").stdin(Stdio::piped()).spawn_async().await.unwrap();
        let mut stdin = child.stdin.take().unwrap();
        for _ in 0..3 {
            assert!(once(child.wait()).is_pending());
        }
        stdin.write_all(b"go\n").await.unwrap();
        assert_eq!(child.wait().await.unwrap().outcome, Outcome::Exited(5));
    });
}

async fn holding(sandbox: Sandbox) -> (AsyncChild, std::io::PipeReader) {
    let (reading, writing) = std::io::pipe().unwrap();
    let command = sandbox.way_to("sh").args(["-c", "sleep 1000 & sleep 1000"]).fd(5, writing);
    (command.spawn_async().await.unwrap(), reading)
}

fn dropped() {
    runtime().block_on(async {
        for _ in 0..10 {
            let (child, reading) = holding(Sandbox::new()).await;
            drop(child);
            tokio::task::spawn_blocking(move || await_released(&reading, "a dropped sandbox"))
                .await
                .unwrap();
        }
    });
    // Somewhere else.
    let runtime = runtime();
    let (child, reading) = runtime.block_on(holding(Sandbox::new()));
    drop(child);
    await_released(&reading, "a sandbox dropped outside");
}

fn dropped_without_a_pid_namespace() {
    let shared = || {
        let namespaces = Namespaces::all() - Namespaces::PID - Namespaces::TIME;
        Sandbox::new().namespaces(namespaces).without_atomic_end()
    };
    runtime().block_on(async {
        let (child, reading) = holding(shared()).await;
        drop(child);
        tokio::task::spawn_blocking(move || await_released(&reading, "what init follows"))
            .await
            .unwrap();
    });
}

fn dropped_with_its_runtime() {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_io().build().unwrap();
    let (child, reading) = runtime.block_on(holding(Sandbox::new()));
    runtime.spawn(async move {
        let mut child = child;
        child.wait().await
    });
    drop(runtime);
    await_released(&reading, "a sandbox of a runtime that has ended");
}

fn killed() {
    runtime().block_on(async {
        let mut child = Sandbox::new().way_to("sleep").arg("1000").spawn_async().await.unwrap();
        child.kill().await.unwrap();
        assert_eq!(child.wait().await.unwrap().outcome, Outcome::Killed);
        child.kill().await.unwrap();
    });
}

/// Init ends it, or, where there is none or it cannot, the handle does.
fn deadlines() {
    let limited = |init| Sandbox::new().init(init).wall_time(Duration::from_millis(100));
    runtime().block_on(async {
        for init in [true, false] {
            let command = limited(init).way_to("sleep").arg("1000");
            assert_eq!(command.status_async().await.unwrap().outcome, Outcome::TimedOut, "{init}");
            let command = limited(init).way_to("sleep").arg("1000");
            assert_eq!(command.output_async().await.unwrap().outcome, Outcome::TimedOut, "{init}");
        }
        let mut child = limited(true).way_to("sleep").arg("1000").spawn_async().await.unwrap();
        let init = child.with(|child| child.id()).await.unwrap();
        // SAFETY: this process is the parent of it and has not reaped it.
        assert_eq!(unsafe { libc::kill(init.try_into().unwrap(), libc::SIGSTOP) }, 0);
        assert_eq!(child.wait().await.unwrap().outcome, Outcome::TimedOut);
    });
}

/// More than threads that may block, from whatever they come.
fn many_at_once() {
    fail_instead_of_hanging();
    let runtime = Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(3)
        .enable_io()
        .build()
        .unwrap();
    let (alone, prepared) = (Sandbox::new(), Sandbox::new().prepare().unwrap());
    let (session, pool) = (prepared.session().unwrap(), prepared.pool(2).unwrap());
    let waiting = prepared.pool(1).unwrap();
    waiting.when_empty(WhenEmpty::Wait);
    let make = |kind, number: usize| {
        let command = match kind {
            0 => alone.command("sh"),
            1 => prepared.command("sh"),
            2 => session.command("sh"),
            3 => pool.command("sh"),
            _ => waiting.command("sh"),
        };
        command.args(["-c", &format!("echo {number}; exit {}", number % 8)])
    };
    let before = life::children().len();
    runtime.block_on(async {
        let tasks: Vec<_> =
            (0..80).map(|number| runtime.spawn(make(number % 5, number).output_async())).collect();
        for (number, task) in tasks.into_iter().enumerate() {
            let output = task.await.unwrap().unwrap();
            assert_eq!(output.stdout, format!("{number}\n").into_bytes());
            assert_eq!(output.outcome.code(), Some(i32::try_from(number % 8).unwrap()));
        }
    });
    drop((session, pool, waiting, prepared));
    assert!(life::children().len() <= before + 1, "{:?}", life::children());
}

fn without_a_runtime() {
    let Poll::Ready(Err(error)) = once(sh(":").spawn_async()) else { panic!("there is none") };
    assert_eq!(error.failed().map(stockade::Failed::raw_os_error), Some(libc::ENXIO), "{error}");
}

fn errors() {
    runtime().block_on(async {
        let error = Sandbox::new().way_to("/no/such").spawn_async().await.unwrap_err();
        assert_eq!(
            error.to_string(),
            Sandbox::new().way_to("/no/such").spawn().unwrap_err().to_string()
        );
        assert!(
            Sandbox::new().wall_time(Duration::ZERO).way_to("true").output_async().await.is_err()
        );
    });
}

fn other_methods() {
    runtime().block_on(async {
        let mut child = Sandbox::new().way_to("sleep").arg("1000").spawn_async().await.unwrap();
        assert!(child.with(|child| child.program_id()).await.unwrap().is_some());
        match child.with(|child| child.pause().and_then(|()| child.resume())).await.unwrap() {
            // One of several in a sandbox takes a group for that.
            Ok(()) | Err(Error::Unsupported { feature: Feature::Freezer, .. }) => {}
            Err(error) => panic!("{error}"),
        }
        child.with(|child| child.signal(15)).await.unwrap().unwrap();
        let signaled = Outcome::Signaled { signal: 15, core_dumped: false };
        assert_eq!(child.wait().await.unwrap().outcome, signaled);
    });
}

/// A program that does not end; the pipe is held as long as any of it lives.
async fn endless(command: Command) -> (AsyncChild, std::io::PipeReader) {
    let (reading, writing) = std::io::pipe().unwrap();
    let command = command.args(["-c", "sleep 1000 & sleep 1000"]).fd(5, writing);
    (command.spawn_async().await.unwrap(), reading)
}

fn session() -> Session {
    Sandbox::new().prepare().unwrap().session().unwrap()
}

fn template() -> Prepared {
    let prepared = Sandbox::new().prepare().unwrap();
    assert!(prepared.has_template());
    prepared
}

async fn released(reading: std::io::PipeReader) {
    let wait = move || await_released(&reading, "what was dropped");
    tokio::task::spawn_blocking(wait).await.unwrap();
}

/// The others go on.
fn many_that_are_dropped() {
    let prepared = template();
    let (session, pool) = (prepared.session().unwrap(), prepared.pool(2).unwrap());
    runtime().block_on(async {
        let mut dropped = Vec::new();
        let (mut kept, held) = endless(session.command("sh")).await;
        for _ in 0..4 {
            for command in [session.command("sh"), prepared.command("sh"), pool.command("sh")] {
                dropped.push(endless(command).await);
            }
        }
        for (child, reading) in dropped {
            drop(child);
            released(reading).await;
        }
        assert!(is_held(&held));
        kept.kill().await.unwrap();
        assert_eq!(kept.wait().await.unwrap().outcome, Outcome::Killed);
        released(held).await;
        for command in [session.command("true"), prepared.command("true"), pool.command("true")] {
            assert!(command.status_async().await.unwrap().outcome.is_success());
        }
    });
}

/// Whom this thread traces stops at its exit, having said all.
fn stop_at_exit(pid: u32) {
    let (none, options) = (std::ptr::null_mut::<u8>(), libc::PTRACE_O_TRACEEXIT);
    // SAFETY: takes numbers.
    let seized =
        unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid.cast_signed(), none, options as usize) };
    assert_eq!(seized, 0, "{}", std::io::Error::last_os_error());
}

/// Lets it go on, to its end.
fn trace_to_the_end(pid: u32) {
    let mut status = 0;
    loop {
        let none = std::ptr::null_mut::<u8>();
        // SAFETY: takes numbers. Where it has not stopped yet, nothing is done.
        unsafe { libc::ptrace(libc::PTRACE_CONT, pid.cast_signed(), none, none) };
        // SAFETY: the status is valid for writing.
        if unsafe { libc::waitpid(pid.cast_signed(), &raw mut status, libc::__WALL) } < 0 {
            return;
        }
    }
}

/// Where another process reaps init, what it says last is the end: it need not have ended.
fn a_word_is_enough() {
    let prepared = template();
    runtime().block_on(async {
        let command = prepared.command("cat").stdin(Stdio::piped());
        let mut child = command.spawn_async().await.unwrap();
        let init = child.with(|child| child.id()).await.unwrap();
        stop_at_exit(init);
        assert_eq!(child.wait().await.unwrap().outcome, Outcome::Exited(0));
        trace_to_the_end(init);
    });
}

/// Who looks after a session's command does not end with it; somebody else may have heard the word.
fn the_end_is_seen_whoever_heard_it() {
    let session = session();
    runtime().block_on(async {
        let mut child =
            session.command("sh").args(["-c", "sleep 0.2"]).spawn_async().await.unwrap();
        // It goes on, and hears the word.
        assert!(once(child.with(Child::wait)).is_pending());
        assert_eq!(child.wait().await.unwrap().outcome, Outcome::Exited(0));
        // Which waits for the program, and that for who reads.
        let many = session.command("head").args(["-c", "1000000", "/dev/zero"]);
        let mut child = many.stdout(Stdio::piped()).spawn_async().await.unwrap();
        assert!(once(child.with(Child::wait)).is_pending());
        assert_eq!(child.wait_with_output().await.unwrap().stdout.len(), 1_000_000);
        let mut child = session.command("true").spawn_async().await.unwrap();
        let status = child.with(Child::wait).await.unwrap().unwrap();
        assert_eq!(child.wait().await.unwrap(), status);
        let mut child = session.command("true").spawn_async().await.unwrap();
        while child.try_wait().unwrap().is_none() {
            tokio::task::yield_now().await;
        }
        assert!(child.wait().await.unwrap().outcome.is_success());
    });
}

fn state_of(pid: u32) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix("State:\t")).unwrap_or_default().to_owned()
}

/// The supervisor of a session's command, which has to end that, is stopped: only this is waited for.
fn killing_blocks_nobody() {
    let session = session();
    runtime().block_on(async {
        for starts in [true, false] {
            let (mut child, held) = endless(session.command("sh")).await;
            let supervisor = child.with(|child| child.id()).await.unwrap();
            life::signal(supervisor, libc::SIGSTOP);
            while state_of(supervisor) != "T (stopped)" {
                tokio::task::yield_now().await;
            }
            if starts {
                child.start_kill().unwrap();
                assert_eq!(child.try_wait().unwrap(), None);
            } else {
                assert!(once(child.kill()).is_pending());
            }
            assert_eq!(state_of(supervisor), "T (stopped)");
            assert!(is_held(&held));
            life::signal(supervisor, libc::SIGCONT);
            assert_eq!(child.wait().await.unwrap().outcome, Outcome::Killed);
            released(held).await;
        }
    });
}

fn the_session_ends_meanwhile() {
    for by_itself in [true, false] {
        let session = session();
        runtime().block_on(async {
            let runtime = tokio::runtime::Handle::current();
            let (mut held, mut tasks) = (Vec::new(), Vec::new());
            for _ in 0..8 {
                let (mut child, reading) = endless(session.command("sh")).await;
                held.push(reading);
                tasks.push(runtime.spawn(async move { child.wait().await.unwrap().outcome }));
                let (child, reading) = endless(session.command("sh").stdout(Stdio::piped())).await;
                held.push(reading);
                let output = async { child.wait_with_output().await.unwrap().outcome };
                tasks.push(runtime.spawn(output));
            }
            tokio::task::yield_now().await;
            let late = session.command("true");
            if by_itself {
                tokio::task::spawn_blocking(move || session.end()).await.unwrap().unwrap();
            } else {
                life::signal(session.id(), libc::SIGKILL);
            }
            for task in tasks {
                let outcome = task.await.unwrap();
                assert!(!outcome.is_success(), "{outcome}");
            }
            for reading in held {
                released(reading).await;
            }
            let error = late.spawn_async().await.unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ESRCH), "{error}");
        });
    }
}

fn the_session_stands_still_meanwhile() {
    let session = session();
    runtime().block_on(async {
        let runtime = tokio::runtime::Handle::current();
        let command = session.command("sh").args(["-c", "read line; exit 3"]);
        let mut child = command.stdin(Stdio::piped()).spawn_async().await.unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let waiting = runtime.spawn(async move { child.wait().await.unwrap().outcome });
        session.pause().unwrap();
        stdin.write_all(b"go on\n").await.unwrap();
        let error = session.command("true").spawn_async().await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBUSY), "{error}");
        assert!(!waiting.is_finished());
        session.resume().unwrap();
        assert_eq!(waiting.await.unwrap(), Outcome::Exited(3));
    });
}

/// What is there goes on, and what comes is made without it.
fn the_template_is_killed_meanwhile() {
    let prepared = template();
    let pool = prepared.pool(1).unwrap();
    runtime().block_on(async {
        let runtime = tokio::runtime::Handle::current();
        let mut running = Vec::new();
        for command in [prepared.command("cat"), prepared.command("cat"), pool.command("cat")] {
            let mut child = command.stdin(Stdio::piped()).spawn_async().await.unwrap();
            let stdin = child.stdin.take().unwrap();
            let waiting = runtime.spawn(async move { child.wait().await.unwrap().outcome });
            running.push((stdin, waiting));
        }
        let (dropped, reading) = endless(prepared.command("sh")).await;
        let (mut killed, _held) = endless(prepared.command("sh")).await;
        let name = |(pid, name): (i32, String)| (name == "stockade-tmpl").then_some(pid);
        let template = life::children().into_iter().find_map(name).unwrap();
        life::signal(template.cast_unsigned(), libc::SIGKILL);
        while prepared.has_template() {
            tokio::task::yield_now().await;
        }
        drop(dropped);
        released(reading).await;
        killed.kill().await.unwrap();
        assert_eq!(killed.wait().await.unwrap().outcome, Outcome::Killed);
        for (stdin, waiting) in running {
            drop(stdin);
            assert_eq!(waiting.await.unwrap(), Outcome::Exited(0));
        }
        for command in [prepared.command("true"), pool.command("true")] {
            assert!(command.status_async().await.unwrap().outcome.is_success());
        }
    });
}

fn the_pool_ends_meanwhile() {
    let pool = template().pool(1).unwrap();
    pool.when_empty(WhenEmpty::Wait);
    runtime().block_on(async {
        let (mut child, held) = endless(pool.command("sh")).await;
        let late = pool.command("true");
        drop(pool);
        let error = late.spawn_async().await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ESRCH), "{error}");
        // What was taken from it is the caller's.
        assert_eq!(child.try_wait().unwrap(), None);
        assert!(is_held(&held));
        child.start_kill().unwrap();
        assert_eq!(child.wait().await.unwrap().outcome, Outcome::Killed);
    });
}

/// It is the caller's; the handle has its deadline all the same, which nobody else has here.
fn a_panic_of_an_action() {
    life::adopt_orphans();
    let sandbox = Sandbox::new().init(false).wall_time(common::moment(1000));
    let runtime = runtime();
    let command = sandbox.command("sleep").arg("1000");
    let mut child = runtime.block_on(command.spawn_async()).unwrap();
    let panics = || {
        let done: Result<(), Error> = runtime.block_on(child.with(|_| panic!("of the action")));
        done
    };
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics));
    assert!(caught.is_err());
    let warden = life::children().into_iter().find(|(_, name)| name == "stockade-warden");
    life::signal(warden.unwrap().0.cast_unsigned(), libc::SIGKILL);
    assert_eq!(runtime.block_on(child.wait()).unwrap().outcome, Outcome::TimedOut);
}
