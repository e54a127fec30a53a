//! Runs hostile programs under each limit of control groups, and shows what came of it.
//!
//! As root, or with the path of a delegated group as the argument:
//! `cargo run --example limits [/delegated]`.
#![allow(clippy::print_stdout, reason = "an example")]

use std::error::Error;
use std::time::Duration;

use stockade::{
    CgroupParent, Cpu, DeviceRule, Devices, Limits, Memory, Outcome, Pids, Sandbox, Stats, Status,
    Support,
};

/// A limit, a program that will not keep it, and what of its use is worth showing.
struct Trial {
    limit: &'static str,
    tried: &'static str,
    limits: Limits,
    script: &'static str,
    used: fn(&Stats) -> String,
}

fn trials() -> Vec<Trial> {
    let memory = |bytes| Limits::new().memory(Memory::new().max(bytes));
    vec![
        Trial {
            limit: "memory 32 MiB",
            tried: "read /dev/zero into memory",
            limits: memory(32 << 20),
            script: "exec tail /dev/zero",
            used: |stats| of_memory(stats),
        },
        Trial {
            limit: "memory 32 MiB",
            tried: "fill /tmp, which is in memory",
            limits: memory(32 << 20),
            script: "exec head -c 100m /dev/zero > /tmp/file",
            used: |stats| of_memory(stats),
        },
        Trial {
            limit: "20 processes",
            tried: "a fork bomb",
            limits: Limits::new().pids(Pids::new().max(20)),
            script: "bomb() { bomb | bomb & }; bomb 2>/dev/null; sleep 0.3",
            used: |stats| {
                let pids = &stats.pids;
                format!("peak {}, {} refused", shown(pids.peak), shown(pids.limit_hits))
            },
        },
        Trial {
            limit: "0.25 CPUs",
            tried: "two busy loops for a second",
            limits: Limits::new().cpu(Cpu::new().limit(0.25)),
            script: "timeout 1 sh -c 'while :; do :; done' & timeout 1 sh -c 'while :; do :; done'; \
                     wait",
            used: |stats| {
                let periods = shown(stats.cpu.throttled_periods);
                format!("{:.0?}, held back in {periods} periods", time(stats.cpu.usage))
            },
        },
        Trial {
            limit: "300 ms of CPU time",
            tried: "two busy loops",
            limits: Limits::new().cpu_time(Duration::from_millis(300)),
            script: "(while :; do :; done) & while :; do :; done",
            used: |stats| format!("{:.0?}", time(stats.cpu.usage)),
        },
        Trial {
            limit: "no device but null",
            tried: "open /dev/zero",
            limits: Limits::new().devices(Devices::none().allow(DeviceRule::char(1, 3))),
            script: "head -c 1 /dev/zero",
            used: |_| "-".to_owned(),
        },
    ]
}

fn of_memory(stats: &Stats) -> String {
    let kib = stats.memory.peak.map(|bytes| bytes >> 10);
    format!("peak {} KiB, {} killed", shown(kib), shown(stats.memory.oom_kills))
}

fn shown(number: Option<u64>) -> String {
    number.map_or("?".to_owned(), |number| number.to_string())
}

fn time(time: Option<Duration>) -> Duration {
    time.unwrap_or_default()
}

fn main() -> Result<(), Box<dyn Error>> {
    let parent = std::env::args_os().nth(1);
    let parent = parent.map_or(CgroupParent::Auto, |path| CgroupParent::Path(path.into()));
    let row = |cells: [&str; 4]| {
        println!("{:<20} {:<30} {:<42} {}", cells[0], cells[1], cells[2], cells[3]);
    };
    row(["limit", "tried", "what happened", "used"]);
    for Trial { limit, tried, limits, script, used } in trials() {
        let sandbox = Sandbox::new()
            .limits(limits)
            .cgroup_parent(parent.clone())
            .wall_time(Duration::from_secs(20));
        match sandbox.command("sh").args(["-c", script]).output() {
            Ok(output) => {
                let stats = output.usage.map(|usage| usage.stats).unwrap_or_default();
                let status = told(output.outcome, &output.stderr);
                row([limit, tried, &status, &used(&stats)]);
            }
            Err(error) => row([limit, tried, &format!("not run: {error}"), "-"]),
        }
    }
    pause(&parent)?;
    println!("\nWhat this host can limit:");
    for controller in Support::controllers() {
        println!("{controller}");
    }
    Ok(())
}

/// The outcome, and the last of what the program said.
fn told(outcome: Outcome, said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    match said.lines().last() {
        Some(line) if matches!(outcome, Outcome::Exited(1..)) => {
            line.chars().take(42).collect::<String>()
        }
        _ => outcome.to_string(),
    }
}

/// A sandbox that is stopped in the middle of its work, and goes on.
fn pause(parent: &CgroupParent) -> Result<(), Box<dyn Error>> {
    let sandbox = Sandbox::new().cgroup_parent(parent.clone()).wall_time(Duration::from_secs(1));
    let mut child = sandbox.command("sleep").arg("0.2").spawn()?;
    child.pause()?;
    std::thread::sleep(Duration::from_millis(1500));
    child.resume()?;
    let Status { outcome, usage, .. } = child.wait()?;
    let wall = usage.map(|usage| usage.wall).unwrap_or_default();
    println!("paused for 1.5 s with 1 s to run: {outcome} after {wall:.1?} of its own time");
    Ok(())
}
