//! What limits by control groups cost a spawn: memory, CPU time and processes against none, with few
//! and with many other groups on the host; beside the hand-written floor of the bench of spawns, and
//! beside what systemd and OCI runtimes need for a program with the same limits.
//!
//! The contenders take turns. `--quick` measures less. It needs root, or a delegated group whose path
//! is the last argument.
#![allow(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a bench may end so")]
#![allow(clippy::cast_possible_truncation, reason = "kernel words")]

#[path = "spawn/etc.rs"]
mod etc;
#[allow(dead_code, reason = "the bare clone is the other bench's")]
#[path = "spawn/floor.rs"]
mod floor;
#[allow(dead_code, unused_imports, reason = "the floor needs the clone and the bare call")]
#[path = "../src/raw.rs"]
mod raw;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use floor::Floor;
use stockade::{CgroupParent, Controller, Cpu, Limits, Memory, Pids, Sandbox, Support};

/// How many other groups there are.
const OTHERS: [usize; 3] = [0, 1000, 10_000];
/// Linked statically, as Debian's busybox-static is.
const PROGRAM: &str = "/usr/bin/busybox";
/// What the floor is compared with has its mounts.
const SYSTEM: &[&str] = &["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];

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
    if !Path::new(PROGRAM).exists() {
        return println!("not measured: {PROGRAM} is not there");
    }
    let rounds = if full { 300 } else { 50 };
    compare(&limited, rounds);
    println!(
        "{:>12} {:>10} {:>10} {:>10} {:>10} {:>12} {:>14}",
        "other groups", "floor", "without", "with", "more", "more/floor", "more/without"
    );
    for count in if full { &OTHERS[..] } else { &OTHERS[..2] } {
        let _others = Others::make(*count);
        let floor = Floor::new(Path::new(PROGRAM), &["true"], &[], None);
        let plain = Sandbox::new();
        let contenders: [&dyn Fn(); 3] = [&|| floor.run(), &|| spawn(&plain), &|| spawn(&limited)];
        let [floor, without, with] = medians(rounds, &contenders)[..] else { return };
        let more = with.saturating_sub(without);
        let of = |base: Duration| more.as_secs_f64() / base.as_secs_f64();
        let (of_floor, of_without) = (of(floor), of(without));
        let [floor, without, with, more] = [floor, without, with, more].map(micros);
        println!(
            "{count:>12} {floor:>10} {without:>10} {with:>10} {more:>10} {of_floor:>12.3} \
             {of_without:>14.3}"
        );
    }
}

fn micros(time: Duration) -> String {
    format!("{} µs", time.as_micros())
}

/// The median of each, which take turns; the first turns fill caches.
fn medians(rounds: usize, contenders: &[&dyn Fn()]) -> Vec<Duration> {
    let mut times = vec![Vec::new(); contenders.len()];
    for round in 0..rounds + 5 {
        for (contender, times) in contenders.iter().zip(&mut times) {
            let began = Instant::now();
            contender();
            times.extend((round >= 5).then(|| began.elapsed()));
        }
    }
    let median = |mut times: Vec<Duration>| {
        times.sort_unstable();
        times[times.len() / 2]
    };
    times.into_iter().map(median).collect()
}

/// From the call to the end, with everything removed.
fn spawn(sandbox: &Sandbox) {
    let status = sandbox.command(PROGRAM).arg("true").status().expect("a sandbox");
    assert!(status.outcome.is_success(), "{status:?}");
}

/// A sandbox with limits, and what others start a program with the same ones by.
fn compare(limited: &Sandbox, rounds: usize) {
    let bundle = bundle();
    let mut others: Vec<(String, Box<dyn Fn() -> Command>)> = Vec::new();
    for runtime in ["crun", "runc"] {
        let path = bundle.path().to_owned();
        let command = move || {
            let mut command = Command::new(runtime);
            command.arg("--root").arg(path.join("state")).args(["run", "--bundle"]).arg(&path);
            command.arg(format!("bench-of-stockade-{}", std::process::id()));
            command
        };
        others.push((format!("{runtime} run"), Box::new(command)));
    }
    let manager = if nix::unistd::geteuid().is_root() { "--system" } else { "--user" };
    let scope = move || {
        let mut command = Command::new("systemd-run");
        command.args([manager, "--scope", "--quiet", "-p", "MemoryMax=1G", "-p", "CPUQuota=800%"]);
        command.args(["-p", "TasksMax=100", PROGRAM, "true"]);
        command
    };
    others.push(("systemd-run --scope, no sandbox".to_owned(), Box::new(scope)));
    #[cfg(feature = "systemd")]
    let scoped = limited.clone().cgroup_parent(CgroupParent::SystemdScope);
    let mut names = vec!["stockade, with limits".to_owned()];
    let sandboxed = || spawn(limited);
    let mut contenders: Vec<Box<dyn Fn()>> = vec![Box::new(sandboxed)];
    #[cfg(feature = "systemd")]
    match scoped.check() {
        Ok(()) => {
            names.push("stockade, below a scope of systemd's".to_owned());
            contenders.push(Box::new(|| spawn(&scoped)));
        }
        Err(error) => println!("not measured: a scope of systemd's: {error}"),
    }
    for (name, command) in others {
        match command().output() {
            Ok(output) if output.status.success() => {
                names.push(name);
                contenders.push(Box::new(move || {
                    assert!(command().output().expect("it was there").status.success());
                }));
            }
            Ok(output) => {
                let why = String::from_utf8_lossy(&output.stderr);
                println!("not measured: {name}: {}", why.trim());
            }
            Err(error) => println!("not measured: {name}: {error}"),
        }
    }
    let contenders: Vec<&dyn Fn()> = contenders.iter().map(|one| &**one).collect();
    for (name, time) in names.iter().zip(medians(rounds / 10, &contenders)) {
        println!("{name:>36}: {}", micros(time));
    }
}

/// A container with the same program and limits, in namespaces of its own.
fn bundle() -> tempfile::TempDir {
    let bundle = tempfile::tempdir().expect("a temporary directory");
    let root = bundle.path().join("rootfs");
    std::fs::create_dir_all(root.join("proc")).expect("a directory");
    std::fs::copy(PROGRAM, root.join("busybox")).expect("a copy");
    let kinds = ["pid", "mount", "ipc", "uts", "network"];
    let namespaces = kinds.map(|kind| serde_json::json!({ "type": kind }));
    let config = serde_json::json!({
        "ociVersion": "1.0.2",
        "root": { "path": "rootfs", "readonly": true },
        "process": {
            "args": ["/busybox", "true"], "cwd": "/", "env": [], "capabilities": {},
            "user": { "uid": 0, "gid": 0 }, "noNewPrivileges": true,
        },
        "mounts": [{ "destination": "/proc", "type": "proc", "source": "proc" }],
        "linux": {
            "cgroupsPath": "/bench-of-stockade", "namespaces": namespaces,
            "resources": {
                "memory": { "limit": 1 << 30 }, "pids": { "limit": 100 },
                "cpu": { "quota": 800_000, "period": 100_000 },
            },
        },
    });
    std::fs::write(bundle.path().join("config.json"), config.to_string()).expect("a file");
    bundle
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
