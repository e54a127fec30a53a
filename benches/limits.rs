//! What limits by control groups cost a spawn: memory, CPU time and processes against none, with few
//! and with many other groups in each of their hierarchies; beside the hand-written floor of the bench
//! of spawns, and beside what systemd and OCI runtimes need for a program with the same limits.
//!
//! And how close each limit comes to its figure: what was reached of it, as a ratio.
//!
//! The contenders take turns. `--quick` measures less. It needs root, or a delegated group whose path
//! from the top is the last argument.
#![allow(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a bench may end so")]
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "kernel words")]

#[path = "spawn/etc.rs"]
mod etc;
#[allow(dead_code, reason = "the bare clone is the other bench's")]
#[path = "spawn/floor.rs"]
mod floor;
#[allow(dead_code, unused_imports, reason = "the floor needs the clone and the bare call")]
#[path = "../src/raw.rs"]
mod raw;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use floor::Floor;
use stockade::{
    Bind, CgroupParent, Controller, Cpu, Cpuset, Io, IoLimit, Limits, Memory, Pids, Sandbox,
    Support,
};

/// How many other groups there are in a hierarchy.
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
    let limited = Sandbox::new().limits(limits).cgroup_parent(parent.clone());
    if let Err(error) = limited.check() {
        return println!("not measured: {error}");
    }
    if !Path::new(PROGRAM).exists() {
        return println!("not measured: {PROGRAM} is not there");
    }
    let rounds = if full { 300 } else { 50 };
    closeness(&limited);
    compare(&limited, rounds);
    let head = ["groups", "", "floor", "without", "with", "more", "/floor", "/without"];
    row(&head.map(str::to_owned));
    let places = places(&parent);
    for count in if full { &OTHERS[..] } else { &OTHERS[..2] } {
        let others = Others::make(&places, *count);
        beside(*count, &limited, rounds);
        drop(others);
    }
}

/// What limits add, with so many groups of others.
fn beside(others: usize, limited: &Sandbox, rounds: usize) {
    let floor = Floor::new(Path::new(PROGRAM), &["true"], &[], None);
    let plain = Sandbox::new();
    let contenders: [&dyn Fn(); 3] = [&|| floor.run(), &|| spawn(&plain), &|| spawn(limited)];
    let times = times(rounds, &contenders);
    let show = |what: &str, of: fn(&Times) -> Duration| {
        let [floor, without, with] = [0, 1, 2].map(|one: usize| of(&times[one]));
        let more = with.saturating_sub(without);
        let share = |base: Duration| format!("{:.3}", more.as_secs_f64() / base.as_secs_f64());
        let shares = [share(floor), share(without)];
        let figures = [floor, without, with, more].map(micros).into_iter().chain(shares);
        let cells = [others.to_string(), what.to_owned()].into_iter().chain(figures);
        row(&cells.collect::<Vec<_>>());
    };
    show("median", Times::median);
    show("least", Times::least);
    show("processor", Times::processor);
}

fn row(cells: &[String]) {
    let padded = cells.iter().map(|cell| format!(" {cell:>10}"));
    println!("{}", padded.collect::<String>());
}

fn micros(time: Duration) -> String {
    format!("{} µs", time.as_micros())
}

/// What each round of a contender took, in order.
#[derive(Default)]
struct Times {
    wall: Vec<Duration>,
    /// Of this process and all that it has waited for: the same on a busy machine, but for caches.
    processor: Vec<Duration>,
}

impl Times {
    fn median(&self) -> Duration {
        self.wall[self.wall.len() / 2]
    }

    fn least(&self) -> Duration {
        self.wall[0]
    }

    fn processor(&self) -> Duration {
        self.processor[self.processor.len() / 2]
    }
}

/// The contenders take turns; the first turns fill caches.
fn times(rounds: usize, contenders: &[&dyn Fn()]) -> Vec<Times> {
    let mut all: Vec<Times> = contenders.iter().map(|_| Times::default()).collect();
    for round in 0..rounds + 5 {
        for (contender, times) in contenders.iter().zip(&mut all) {
            let (began, before) = (Instant::now(), processor_time());
            contender();
            let (wall, after) = (began.elapsed(), processor_time());
            if round >= 5 {
                times.wall.push(wall);
                times.processor.push(after - before);
            }
        }
    }
    for Times { wall, processor } in &mut all {
        wall.sort_unstable();
        processor.sort_unstable();
    }
    all
}

fn processor_time() -> Duration {
    let of = |whose| {
        // SAFETY: numbers, of which all bits may be zero.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: there is room for what is written.
        assert_eq!(unsafe { libc::getrusage(whose, &raw mut usage) }, 0);
        let time = |time: libc::timeval| {
            Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64)
        };
        time(usage.ru_utime) + time(usage.ru_stime)
    };
    of(libc::RUSAGE_SELF) + of(libc::RUSAGE_CHILDREN)
}

/// From the call to the end, with everything removed.
fn spawn(sandbox: &Sandbox) {
    let status = sandbox.command(PROGRAM).arg("true").status().expect("a sandbox");
    assert!(status.outcome.is_success(), "{status:?}");
}

/// What is reached of each figure: 1 is all of it and no more. What goes on besides on the host makes
/// it less.
fn closeness(limited: &Sandbox) {
    let parent = limited.clone();
    let with = |limits: Limits| parent.clone().limits(limits);
    println!("{:>32} {:>12} {:>12} {:>8}", "limit", "figure", "reached", "ratio");
    let row = |what: &str, figure: f64, reached: Option<f64>| match reached {
        Some(reached) => {
            println!("{what:>32} {figure:>12.3} {reached:>12.3} {:>8.3}", reached / figure);
        }
        None => println!("{what:>32} {figure:>12.3} {:>12}", "not measured"),
    };
    row("CPUs, by a quota", 0.25, quota(&with, 0.25));
    row("CPU time, s", 0.5, cpu_time(&with, Duration::from_millis(500)));
    row("CPU time of weights 100 to 400", 4.0, weights(&with));
    row("memory when it kills, MiB", 64.0, memory(&with, 64 << 20));
    row("processes", 20.0, processes(&with, 20));
    row("reads of a disk, MiB/s", 4.0, reads(&with, 4 << 20));
}

/// Two loops, which would take two CPUs.
const LOOPS: &str = "(while :; do :; done) & while :; do :; done";

fn usage_of(sandbox: &Sandbox, script: &str) -> Option<stockade::Usage> {
    sandbox.command("sh").args(["-c", script]).output().ok()?.usage
}

fn quota(with: &dyn Fn(Limits) -> Sandbox, cpus: f64) -> Option<f64> {
    let limits = Limits::new().cpu(Cpu::new().limit(cpus)).cpu_time(Duration::from_millis(1000));
    let usage = usage_of(&with(limits), LOOPS)?;
    Some(usage.stats.cpu.usage?.as_secs_f64() / usage.wall.as_secs_f64())
}

fn cpu_time(with: &dyn Fn(Limits) -> Sandbox, limit: Duration) -> Option<f64> {
    let usage = usage_of(&with(Limits::new().cpu_time(limit)), LOOPS)?;
    Some(usage.stats.cpu.usage?.as_secs_f64())
}

fn weights(with: &dyn Fn(Limits) -> Sandbox) -> Option<f64> {
    let spin = |weight| {
        let limits = Limits::new().cpu(Cpu::new().weight(weight));
        let limits = limits.cpu_time(Duration::from_secs(60));
        let sandbox = with(limits.cpuset(Cpuset::new().cpus("0")));
        sandbox.command("sh").args(["-c", "while :; do :; done"]).spawn().ok()
    };
    let mut both = [spin(100)?, spin(400)?];
    std::thread::sleep(Duration::from_millis(200));
    let mut used = || {
        let [light, heavy] = &mut both;
        let of = |child: &mut stockade::Child| child.stats().ok()?.cpu.usage;
        Some([of(light)?, of(heavy)?])
    };
    let before = used()?;
    std::thread::sleep(Duration::from_secs(2));
    let after = used()?;
    let [light, heavy] = [0, 1].map(|one: usize| (after[one] - before[one]).as_secs_f64());
    Some(heavy / light)
}

#[allow(clippy::cast_precision_loss, reason = "for people")]
fn memory(with: &dyn Fn(Limits) -> Sandbox, limit: u64) -> Option<f64> {
    let usage = usage_of(&with(Limits::new().memory(Memory::new().max(limit))), "tail /dev/zero")?;
    Some(usage.stats.memory.peak? as f64 / f64::from(1 << 20))
}

#[allow(clippy::cast_precision_loss, reason = "for people")]
fn processes(with: &dyn Fn(Limits) -> Sandbox, limit: u64) -> Option<f64> {
    let bomb = "i=0; while [ $i -lt 40 ]; do (sleep 1000 &) || exit; i=$((i+1)); done 2>/dev/null";
    let usage = usage_of(&with(Limits::new().pids(Pids::new().max(limit))), bomb)?;
    Some(usage.stats.pids.peak? as f64)
}

/// Of a loop device, which only root makes.
#[allow(clippy::cast_precision_loss, reason = "for people")]
fn reads(with: &dyn Fn(Limits) -> Sandbox, limit: u64) -> Option<f64> {
    let file = tempfile::NamedTempFile::new().ok()?;
    file.as_file().set_len(16 << 20).ok()?;
    let made = Command::new("losetup").args(["-f", "--show"]).arg(file.path()).output().ok()?;
    let device = String::from_utf8(made.stdout).ok().filter(|_| made.status.success())?;
    let device = Path::new(device.trim());
    let io = Io::new().max(device, IoLimit::new().read_bytes(limit));
    let bind = Bind::read_only(device, "/device").with_devices();
    let sandbox = with(Limits::new().io(io)).bind(bind).as_host_root();
    let usage = usage_of(&sandbox, "dd if=/device of=/dev/null bs=64k iflag=direct 2>/dev/null");
    Command::new("losetup").arg("-d").arg(device).status().ok()?;
    let usage = usage?;
    let bytes = usage.stats.io_total()?.read_bytes as f64;
    Some(bytes / f64::from(1 << 20) / usage.wall.as_secs_f64())
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
    for (name, times) in names.iter().zip(times(rounds / 10, &contenders)) {
        println!("{name:>36}: {}, at least {}", micros(times.median()), micros(times.least()));
    }
}

/// A container with the same program and limits, in namespaces of its own.
fn bundle() -> tempfile::TempDir {
    let bundle = tempfile::tempdir().expect("a temporary directory");
    let root = bundle.path().join("rootfs");
    for directory in ["proc", "dev"] {
        std::fs::create_dir_all(root.join(directory)).expect("a directory");
    }
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

/// Below which groups the limits' are made, in all hierarchies that have one of them.
fn places(parent: &CgroupParent) -> BTreeSet<PathBuf> {
    let limited = [Controller::Memory, Controller::Cpu, Controller::Pids];
    let of_limits = |one: &stockade::ControllerSupport| limited.contains(&one.controller);
    let place = |one: stockade::ControllerSupport| match parent {
        CgroupParent::Path(path) => Some(one.mount?.join(path.strip_prefix("/").unwrap_or(path))),
        _ => one.place,
    };
    Support::controllers().into_iter().filter(of_limits).filter_map(place).collect()
}

/// Groups of somebody else's, beside those that are measured. Who removes them does so as well if this
/// process is killed.
struct Others(std::process::Child);

/// Waits for the end of its input.
const REMOVE: &str = r#"cat; exec find "$@" -maxdepth 1 -type d -name "$0*" -exec rmdir {} +"#;

impl Others {
    fn make(places: &BTreeSet<PathBuf>, count: usize) -> Self {
        let name = format!("bench-of-stockade-{}-", std::process::id());
        // Of a session of its own: what ends this process from a terminal does not end it.
        let mut remover = Command::new("setsid");
        remover.args(["sh", "-c", REMOVE, &name]).args(places).stdin(Stdio::piped());
        let others = Others(remover.spawn().expect("a shell"));
        for place in places {
            for number in 0..count {
                let path = place.join(format!("{name}{number}"));
                std::fs::create_dir(&path).expect("a group can be made");
            }
        }
        others
    }
}

impl Drop for Others {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let status = self.0.wait().expect("a child");
        assert!(status.success(), "empty groups can be removed: {status}");
    }
}
