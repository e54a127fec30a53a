//! What limits by control groups cost a spawn: memory, CPU time and processes against none, with few
//! and with many other groups on the host.
//!
//! The contenders take turns. `--quick` measures less. It needs root, or a delegated group whose path
//! is the last argument.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench may end so")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use stockade::{CgroupParent, Controller, Cpu, Limits, Memory, Pids, Sandbox, Support};

/// How many other groups there are.
const OTHERS: [usize; 3] = [0, 1000, 10_000];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let full = args.iter().any(|arg| arg == "--bench") && !args.iter().any(|arg| arg == "--quick");
    let parent = args.iter().rfind(|arg| !arg.starts_with('-'));
    let parent = parent.map_or(CgroupParent::Auto, |path| CgroupParent::Path(path.into()));
    let limits = Limits::new()
        .memory(Memory::new().max(1 << 30))
        .cpu(Cpu::new().limit(8.0))
        .pids(Pids::new().max(100));
    let limited = Sandbox::new().limits(limits).cgroup_parent(parent);
    if let Err(error) = limited.check() {
        return println!("not measured: {error}");
    }
    let rounds = if full { 300 } else { 50 };
    #[cfg(feature = "systemd")]
    compare_scopes(&limited, rounds);
    println!(
        "{:>12} {:>12} {:>12} {:>12} {:>7}",
        "other groups", "without", "with", "more", "ratio"
    );
    for count in if full { &OTHERS[..] } else { &OTHERS[..2] } {
        let _others = Others::make(*count);
        let mut times = [Vec::new(), Vec::new()];
        for round in 0..rounds + 5 {
            for (sandbox, times) in [&Sandbox::new(), &limited].into_iter().zip(&mut times) {
                let time = spawn(sandbox);
                // The first ones fill caches.
                times.extend((round >= 5).then_some(time));
            }
        }
        let [without, with] = times.map(median);
        let more = with.saturating_sub(without);
        let ratio = more.as_secs_f64() / without.as_secs_f64();
        println!("{count:>12} {without:>12.1?} {with:>12.1?} {more:>12.1?} {ratio:>7.3}");
    }
}

/// A sandbox below the process's scope, and a program in a scope of its own, which is no sandbox.
#[cfg(feature = "systemd")]
fn compare_scopes(limited: &Sandbox, rounds: usize) {
    let scoped = limited.clone().cgroup_parent(CgroupParent::SystemdScope);
    if let Err(error) = scoped.check() {
        return println!("not measured: {error}");
    }
    let manager = if nix::unistd::geteuid().is_root() { "--system" } else { "--user" };
    let run = || {
        let began = Instant::now();
        let mut command = std::process::Command::new("systemd-run");
        command.args([manager, "--scope", "--quiet", "-p", "MemoryMax=1G", "-p", "CPUQuota=800%"]);
        let status = command.args(["-p", "TasksMax=100", "/bin/true"]).status();
        assert!(status.expect("systemd-run is there").success());
        began.elapsed()
    };
    let mut times = [Vec::new(), Vec::new()];
    for round in 0..rounds + 5 {
        let taken = [spawn(&scoped), run()];
        if round >= 5 {
            taken.into_iter().zip(&mut times).for_each(|(time, times)| times.push(time));
        }
    }
    let [ours, theirs] = times.map(median);
    println!("below a scope of systemd's: {ours:.0?}; systemd-run --scope: {theirs:.0?}");
}

/// From the call to the end, with everything removed.
fn spawn(sandbox: &Sandbox) -> Duration {
    let began = Instant::now();
    let status = sandbox.command("/bin/true").status().expect("a sandbox");
    assert!(status.outcome.is_success(), "{status:?}");
    began.elapsed()
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Groups of somebody else's, beside those that are measured.
struct Others(Vec<PathBuf>);

impl Others {
    fn make(count: usize) -> Self {
        let of_pids = |one: &stockade::ControllerSupport| one.controller == Controller::Pids;
        let place = Support::controllers().into_iter().find(of_pids).and_then(|one| one.place);
        let Some(place) = place.filter(|_| count > 0) else { return Others(Vec::new()) };
        let make = |number| {
            let path = place.join(format!("bench-of-stockade-{number}"));
            std::fs::create_dir(&path).expect("a group can be made");
            path
        };
        Others((0..count).map(make).collect())
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        let remove = |path: &Path| std::fs::remove_dir(path);
        self.0.iter().for_each(|path| remove(path).expect("an empty group can be removed"));
    }
}
