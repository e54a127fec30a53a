//! Living on when the sandbox has ended. Who does so holds the socket to the outside, and goes only when
//! its other end is closed.

use std::io;
use std::time::Duration;

use crate::facts::Facts;
use crate::kernel::{call, exit, fork};
use crate::numbers as nr;
use crate::verdict::Verdict::{self, Held};

/// Whether the other end is closed.
pub(crate) fn is_over(report: usize) -> bool {
    const POLLHUP: u64 = 0x10;
    let now = [0u64; 2];
    let mut set = [report as u64];
    let polled = call(nr::PPOLL, [set.as_mut_ptr() as usize, 1, now.as_ptr() as usize, 0, 0]);
    polled.is_err() || std::hint::black_box(set)[0] >> 48 & POLLHUP != 0
}

/// Lives as long as anybody outside looks, and half a minute at most.
pub(crate) fn linger(report: usize) -> ! {
    for _ in 0..3000 {
        if is_over(report) {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    exit(0)
}

/// Leaves a process of no relation to this one, which does that.
fn leave<T>(facts: &Facts, then: impl FnOnce(usize) -> T) -> Verdict {
    let report = facts.number("report");
    let left = fork().and_then(|child| match child {
        None => {
            let left = call(nr::SETSID, []).and_then(|_| fork());
            match left {
                Ok(None) => {
                    then(report);
                    linger(report)
                }
                Ok(Some(_)) => exit(0),
                Err(_) => exit(1),
            }
        }
        Some(child) => crate::kernel::wait(child),
    });
    match left {
        Ok(0) => Held("left a process; who lives on is seen outside".to_owned()),
        Ok(_) => Held("no second process could be left".to_owned()),
        Err(error) => Held(format!("fork: {error}")),
    }
}

pub(crate) fn daemon(facts: &Facts) -> Verdict {
    leave(facts, |_| ())
}

/// It is continued by another, which goes with it.
pub(crate) fn stopped(facts: &Facts) -> Verdict {
    const SIGSTOP: usize = 19;
    const SIGKILL: usize = 9;
    leave(facts, |report| {
        let Ok(Some(child)) = fork() else {
            loop {
                // To itself; when it goes on, it stops again.
                let _ = call(nr::KILL, [std::process::id() as usize, SIGSTOP]);
            }
        };
        while !is_over(report) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = call(nr::KILL, [child as usize, SIGKILL]);
    })
}

pub(crate) fn deaf(facts: &Facts) -> Verdict {
    leave(facts, |_| {
        let all = u64::MAX;
        // What cannot be blocked stays; that is what this is about.
        let _ = call(nr::RT_SIGPROCMASK, [0, (&raw const all) as usize, 0, 8]);
    })
}

/// Who waits for the child of a vfork takes no signal but one that kills.
pub(crate) fn vfork_sleeper(facts: &Facts) -> Verdict {
    const CLONE_VFORK: usize = 0x4000;
    const SIGCHLD: usize = 17;
    leave(facts, |report| {
        if let Ok(0) = call(nr::CLONE, [CLONE_VFORK | SIGCHLD]) {
            linger(report);
        }
    })
}

pub(crate) fn chain(facts: &Facts) -> Verdict {
    leave(facts, fork_chain)
}

/// Each process forks and ends, faster than anybody who kills by number.
fn fork_chain(report: usize) -> ! {
    for _ in 0..100_000 {
        match fork() {
            Ok(None) if is_over(report) => exit(0),
            Ok(None) => {}
            Ok(Some(_)) => exit(0),
            Err(_) => linger(report),
        }
    }
    exit(0)
}

/// A crowd that is of several sessions and groups.
pub(crate) fn crowd(facts: &Facts) -> Verdict {
    leave(facts, |report| {
        for _ in 0..100 {
            let made: io::Result<Option<i32>> = fork();
            if let Ok(None) = made {
                let _ = call(nr::SETSID, []);
                linger(report);
            }
        }
    })
}
