//! The shortest paths through the library: a program runs, and its end is told.
#![allow(
    clippy::exit,
    clippy::incompatible_msrv,
    clippy::cast_possible_truncation,
    reason = "a test process, built by a current toolchain"
)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails so")]

mod common;

use common::Needs;
use stockade::{Outcome, Sandbox};

tests! {
    Needs::Nothing => [exit_code, output, no_descriptor_gets_in, signal_is_told];
}

fn exit_code() {
    let status = Sandbox::new().command("sh").args(["-c", "exit 7"]).status().unwrap();
    assert_eq!(status.outcome, Outcome::Exited(7));
}

fn output() {
    let output = Sandbox::new().command("echo").arg("hello").output().unwrap();
    assert_eq!(output.outcome, Outcome::Exited(0));
    assert_eq!(output.stdout, b"hello\n");
    assert!(output.usage.unwrap().wall.as_nanos() > 0);
}

fn no_descriptor_gets_in() {
    let output = Sandbox::new().command("ls").arg("/proc/self/fd").output().unwrap();
    // 3 is the directory that ls reads.
    assert_eq!(String::from_utf8_lossy(&output.stdout), "0\n1\n2\n3\n");
}

fn signal_is_told() {
    let status = Sandbox::new().command("sh").args(["-c", "kill -SEGV $$"]).status().unwrap();
    assert_eq!(status.outcome, Outcome::Signaled { signal: libc::SIGSEGV, core_dumped: false });
}
