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
use life::{await_released, pipe};
use stockade::{AsyncChild, Command, Namespaces, Outcome, Sandbox, Stdio};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, Runtime};

tests! {
    Needs::Nothing => [
        ends, output_of_both, output_is_limited, terminals, streams, waiting_blocks_nobody, no_thread_waits,
        given_up_and_again, dropped, dropped_without_a_pid_namespace, dropped_with_its_runtime, killed, deadlines,
        many_at_once, without_a_runtime, errors, other_methods,
    ];
}

/// One thread that must never block, and few for what does.
fn runtime() -> Runtime {
    Builder::new_current_thread().enable_io().max_blocking_threads(4).build().unwrap()
}

fn sh(script: &str) -> Command {
    Sandbox::new().command("sh").args(["-c", script])
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
        let command = Sandbox::new().command("cat").stdin(Stdio::piped()).stdout(Stdio::piped());
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
        let command = Sandbox::new().command("cat").stdin(Stdio::piped());
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
            .command("cat")
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
    runtime().block_on(async {
        let mut children = Vec::new();
        for _ in 0..CHILDREN {
            children.push(Sandbox::new().command("sleep").arg("1000").spawn_async().await.unwrap());
        }
        let runtime = tokio::runtime::Handle::current();
        let waiting: Vec<_> = children
            .into_iter()
            .map(|mut child| runtime.spawn(async move { child.wait().await }))
            .collect();
        tokio::task::yield_now().await;
        // This one and those of tokio's that block; and the harness's.
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
            once(Sandbox::new().command("sleep").arg("1000").fd(5, writing).spawn_async())
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
    let command = sandbox.command("sh").args(["-c", "sleep 1000 & sleep 1000"]).fd(5, writing);
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
        let mut child = Sandbox::new().command("sleep").arg("1000").spawn_async().await.unwrap();
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
            let command = limited(init).command("sleep").arg("1000");
            assert_eq!(command.status_async().await.unwrap().outcome, Outcome::TimedOut, "{init}");
            let command = limited(init).command("sleep").arg("1000");
            assert_eq!(command.output_async().await.unwrap().outcome, Outcome::TimedOut, "{init}");
        }
        let mut child = limited(true).command("sleep").arg("1000").spawn_async().await.unwrap();
        let init = child.with(|child| child.id()).await.unwrap();
        // SAFETY: this process is the parent of it and has not reaped it.
        assert_eq!(unsafe { libc::kill(init.try_into().unwrap(), libc::SIGSTOP) }, 0);
        assert_eq!(child.wait().await.unwrap().outcome, Outcome::TimedOut);
    });
}

fn many_at_once() {
    let runtime = Builder::new_multi_thread().worker_threads(4).enable_io().build().unwrap();
    let before = life::children().len();
    runtime.block_on(async {
        let tasks: Vec<_> = (0..64)
            .map(|number| runtime.spawn(sh(&format!("echo {number}")).output_async()))
            .collect();
        for (number, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.await.unwrap().unwrap().stdout, format!("{number}\n").into_bytes());
        }
    });
    assert!(life::children().len() <= before + 1, "{:?}", life::children());
}

fn without_a_runtime() {
    let Poll::Ready(Err(error)) = once(sh(":").spawn_async()) else { panic!("there is none") };
    assert_eq!(error.failed().map(stockade::Failed::raw_os_error), Some(libc::ENXIO), "{error}");
}

fn errors() {
    runtime().block_on(async {
        let error = Sandbox::new().command("/no/such").spawn_async().await.unwrap_err();
        assert_eq!(
            error.to_string(),
            Sandbox::new().command("/no/such").spawn().unwrap_err().to_string()
        );
        assert!(
            Sandbox::new().wall_time(Duration::ZERO).command("true").output_async().await.is_err()
        );
    });
}

fn other_methods() {
    runtime().block_on(async {
        let mut child = Sandbox::new().command("sleep").arg("1000").spawn_async().await.unwrap();
        assert!(child.with(|child| child.program_id()).await.unwrap().is_some());
        child.with(|child| child.pause().and_then(|()| child.resume())).await.unwrap().unwrap();
        child.with(|child| child.signal(15)).await.unwrap().unwrap();
        let signaled = Outcome::Signaled { signal: 15, core_dumped: false };
        assert_eq!(child.wait().await.unwrap().outcome, signaled);
    });
}
