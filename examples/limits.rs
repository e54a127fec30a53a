//! Runs hostile programs under each limit of control groups, and shows what came of it. What this
//! host cannot limit is a line that says why.
//!
//! As root, or with the path of a delegated group as the argument:
//! `cargo run --example limits [/delegated]`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example")]

#[path = "limits/host.rs"]
mod host;
#[path = "limits/inside.rs"]
mod inside;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use stockade::{
    Bind, CgroupParent, CgroupVersion, Child, Controller, Cpu, Cpuset, DeviceRule, Devices,
    Hugetlb, Io, IoLimit, Limits, Memory, NetCls, NetPrio, Network, Outcome, Pids, Sandbox, Status,
    Support, Usage,
};

use host::{Disk, HugePages, Receiver};

/// A limit, a program that will not keep it, and what is worth showing of its use and of what it
/// said.
struct Trial {
    limit: String,
    tried: String,
    sandbox: Sandbox,
    program: Vec<String>,
    used: fn(&Usage, &str) -> String,
}

/// Where the example itself is inside.
const MYSELF: &str = "/limits";

impl Trial {
    /// Of a shell's script.
    fn new(
        limit: &str,
        tried: &str,
        sandbox: Sandbox,
        script: &str,
        used: fn(&Usage, &str) -> String,
    ) -> Self {
        let program = ["sh", "-c", script].map(str::to_owned).to_vec();
        Trial { limit: limit.to_owned(), tried: tried.to_owned(), sandbox, program, used }
    }

    /// Of this program, in that role.
    fn myself(
        limit: &str,
        tried: &str,
        sandbox: Sandbox,
        role: &[&str],
        used: fn(&Usage, &str) -> String,
    ) -> Self {
        let itself = std::env::current_exe().unwrap_or_default();
        let sandbox = sandbox.bind_ro(itself, MYSELF);
        let program = [MYSELF, "--inside"].iter().chain(role).map(|arg| (*arg).to_owned());
        let program = program.collect();
        Trial { limit: limit.to_owned(), tried: tried.to_owned(), sandbox, program, used }
    }

    fn show(self) {
        let Trial { limit, tried, sandbox, program, used } = self;
        match sandbox.command(&program[0]).args(&program[1..]).output() {
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stdout);
                let used = output.usage.map_or("?".to_owned(), |usage| used(&usage, said.trim()));
                row([&limit, &tried, &told(output.outcome, &output.stderr), &used]);
            }
            Err(error) => not_run(&limit, &tried, &error),
        }
    }
}

fn row(cells: [&str; 4]) {
    println!("{:<28} {:<35} {:<44} {}", cells[0], cells[1], cells[2], cells[3]);
}

fn not_run(limit: &str, tried: &str, error: &dyn Error) {
    row([limit, tried, &format!("not run: {error}"), ""]);
}

/// The outcome, and why, in the last words of what the program said.
fn told(outcome: Outcome, said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    match said.trim().rsplit([':', '\n']).next() {
        Some(why) if matches!(outcome, Outcome::Exited(1..)) => {
            format!("{outcome}: {}", why.trim())
        }
        _ => outcome.to_string(),
    }
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let result = match args.first() {
        Some(first) if first == "--inside" => inside::run(&args[1..]),
        _ => table(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("limits: {error}");
            ExitCode::FAILURE
        }
    }
}

fn table(args: &[String]) -> Result<(), Box<dyn Error>> {
    let parent = args.first().map_or(CgroupParent::Auto, |path| CgroupParent::Path(path.into()));
    let sandbox = Sandbox::new().cgroup_parent(parent).wall_time(Duration::from_secs(60));
    row(["limit", "tried", "what happened", "used"]);
    memory(&sandbox);
    processes(&sandbox);
    cpu(&sandbox);
    cpuset(&sandbox);
    disk(&sandbox)?;
    devices(&sandbox);
    huge_pages(&sandbox);
    class(&sandbox);
    priority(&sandbox)?;
    pause(&sandbox)?;
    println!(
        "\nNot tried: RDMA devices and scalar resources, which few machines have, and performance \
         events, which are not limited.\n\nWhat this host can limit:"
    );
    Support::controllers().iter().for_each(|controller| println!("{controller}"));
    Ok(())
}

fn memory(sandbox: &Sandbox) {
    let used = |usage: &Usage, _: &str| {
        let memory = &usage.stats.memory;
        let peak = shown(memory.peak.map(|bytes| bytes >> 10));
        format!("peak {peak} KiB, {} killed", shown(memory.oom_kills))
    };
    let limited = |memory: &Memory| sandbox.clone().limits(Limits::new().memory(memory.clone()));
    let max = Memory::new().max(32 << 20);
    let (limit, read) = ("memory 32 MiB", "exec tail /dev/zero");
    Trial::new(limit, "read /dev/zero into memory", limited(&max), read, used).show();
    let fill = "exec head -c 100m /dev/zero > /tmp/file";
    Trial::new(limit, "fill /tmp, which is in memory", limited(&max), fill, used).show();
    let swap = max.swap(32 << 20);
    let limit = "memory and swap 32 MiB each";
    let without = if host::has_swap() { "" } else { " (the host has no swap)" };
    for mib in [48, 80] {
        let tried = format!("hold {mib} MiB{without}");
        let hold = format!("head -c {mib}m /dev/zero | exec tail -c {mib}m > /dev/null");
        Trial::new(limit, &tried, limited(&swap), &hold, used).show();
    }
}

fn processes(sandbox: &Sandbox) {
    let sandbox = sandbox.clone().limits(Limits::new().pids(Pids::new().max(20)));
    let bomb = "bomb() { bomb | bomb & }; bomb 2>/dev/null; sleep 0.3";
    let used = |usage: &Usage, _: &str| {
        let pids = &usage.stats.pids;
        format!("peak {}, {} refused", shown(pids.peak), shown(pids.limit_hits))
    };
    Trial::new("20 processes", "a fork bomb", sandbox, bomb, used).show();
}

/// Two loops that would take two CPUs, for so many seconds.
fn loops(seconds: f32) -> String {
    let one = format!("timeout {seconds} sh -c 'while :; do :; done'");
    format!("{one} & {one}; wait")
}

/// A time that is not reached: with it CPU time is counted.
const COUNTED: Duration = Duration::from_secs(60);

fn cpu(sandbox: &Sandbox) {
    let quota = Limits::new().cpu(Cpu::new().limit(0.25)).cpu_time(COUNTED);
    let used = |usage: &Usage, _: &str| {
        let periods = shown(usage.stats.cpu.throttled_periods);
        format!("{}, held back in {periods} periods", of_cpu(usage))
    };
    let limited = sandbox.clone().limits(quota);
    Trial::new("0.25 CPUs", "two busy loops for a second", limited, &loops(1.0), used).show();
    let limited = sandbox.clone().cpu_time(Duration::from_millis(300));
    let forever = "(while :; do :; done) & while :; do :; done";
    let used = |usage: &Usage, _: &str| of_cpu(usage);
    Trial::new("300 ms of CPU time", "two busy loops", limited, forever, used).show();
    let weight = |weight| Cpu::new().weight(weight);
    compete(sandbox, "CPU weights 100 and 400", [weight(100), weight(400)]);
    compete(sandbox, "idle, and CPU weight 100", [Cpu::new().idle(true), weight(100)]);
}

fn of_cpu(usage: &Usage) -> String {
    let cpu = usage.stats.cpu.usage.unwrap_or_default();
    format!("{:.2} s in {:.2} s", cpu.as_secs_f64(), usage.wall.as_secs_f64())
}

/// Two sandboxes that want all of one CPU.
fn compete(sandbox: &Sandbox, limit: &str, shares: [Cpu; 2]) {
    let tried = "a busy loop each, on one CPU";
    let [light, heavy] = match used_by_each(sandbox, shares) {
        Ok(used) => used.map(|time| time.as_secs_f64()),
        Err(error) => return not_run(limit, tried, &error),
    };
    let ratio = match heavy / light {
        ratio if ratio.is_finite() => format!("1 : {ratio:.1}"),
        _ => "0 : 1".to_owned(),
    };
    row([limit, tried, &ratio, &format!("{light:.3} s and {heavy:.3} s")]);
}

fn used_by_each(sandbox: &Sandbox, shares: [Cpu; 2]) -> stockade::Result<[Duration; 2]> {
    let cpu = host::cpus().0.to_string();
    let start = |share| {
        let sandbox = sandbox.clone().limits(Limits::new().cpu(share).cpu_time(COUNTED));
        let script = "while :; do :; done";
        sandbox.command("taskset").args(["-c", &cpu, "sh", "-c", script]).spawn()
    };
    let [first, second] = shares;
    let (mut first, mut second) = (start(first)?, start(second)?);
    let used = |child: &mut Child| child.stats().map(|stats| stats.cpu.usage.unwrap_or_default());
    // Until both have begun.
    sleep(Duration::from_millis(200));
    let before = [used(&mut first)?, used(&mut second)?];
    sleep(Duration::from_millis(800));
    Ok([used(&mut first)? - before[0], used(&mut second)? - before[1]])
}

fn cpuset(sandbox: &Sandbox) {
    let (cpu, other) = host::cpus();
    let sandbox = sandbox.clone().limits(Limits::new().cpuset(Cpuset::new().cpus(cpu.to_string())));
    let limit = format!("CPU {cpu} alone");
    let set = format!("exec taskset -c {other} true");
    let tried = "sched_setaffinity to another";
    Trial::new(&limit, tried, sandbox.clone(), &set, |_, _| String::new()).show();
    let (tried, used) =
        ("two busy loops for half a second", |usage: &Usage, _: &str| of_cpu(usage));
    Trial::new(&limit, tried, sandbox.cpu_time(COUNTED), &loops(0.5), used).show();
}

fn disk(sandbox: &Sandbox) -> Result<(), Box<dyn Error>> {
    let disk = Disk::new()?;
    let limited = |limit| {
        let sandbox = sandbox.clone().bind(Bind::read_write(disk.path(), "/file"));
        sandbox.limits(Limits::new().io(Io::new().max(disk.path(), limit)))
    };
    let read = "dd if=/file of=/dev/null iflag=direct bs=64k count=32 2>&1";
    let write = "dd if=/dev/zero of=/file oflag=direct conv=notrunc bs=64k count=32 2>&1";
    let bytes = |usage: &Usage, _: &str| {
        let io = usage.stats.io_total().unwrap_or_default();
        let kib = (io.read_bytes + io.write_bytes) >> 10;
        format!("{kib} KiB in {:.2} s", usage.wall.as_secs_f64())
    };
    let operations = |usage: &Usage, _: &str| {
        let io = usage.stats.io_total().unwrap_or_default();
        format!("{} in {:.2} s", io.reads, usage.wall.as_secs_f64())
    };
    let limit = limited(IoLimit::new().read_bytes(2 << 20));
    Trial::new("reads of 2 MiB/s of a disk", "read 2 MiB", limit, read, bytes).show();
    let limit = limited(IoLimit::new().read_operations(32));
    Trial::new("32 reads/s of a disk", "read 32 times", limit, read, operations).show();
    let limit = limited(IoLimit::new().write_bytes(2 << 20));
    Trial::new("writes of 2 MiB/s to a disk", "write 2 MiB", limit, write, bytes).show();
    Ok(())
}

fn devices(sandbox: &Sandbox) {
    let null = Devices::none().allow(DeviceRule::char(1, 3));
    let sandbox = sandbox.clone().limits(Limits::new().devices(null));
    let open = "head -c 1 /dev/zero";
    Trial::new("no device but null", "open /dev/zero", sandbox, open, |_, _| String::new()).show();
}

/// One page of each size.
fn huge_pages(sandbox: &Sandbox) {
    for size in host::sizes_of_huge_pages() {
        let _pages = HugePages::reserve(size);
        let limits = Limits::new().hugetlb(Hugetlb::new().max(size, size));
        let limit = format!("1 huge page of {} KiB", size >> 10);
        let role = ["huge", &size.to_string()];
        let used = match host::free_huge_pages(size) {
            0 => |_: &Usage, pages: &str| format!("{pages}; the host has none of this size free"),
            _ => |_: &Usage, pages: &str| pages.to_owned(),
        };
        Trial::myself(&limit, "take two", sandbox.clone().limits(limits), &role, used).show();
    }
}

/// On v2 each socket has the class as its mark; on v1 the group has it.
fn class(sandbox: &Sandbox) {
    let sandbox = sandbox.clone().limits(Limits::new().net_cls(NetCls::new(0x10, 1)));
    let limit = "class 10:1 on packets";
    let found = Support::controllers().into_iter().find(|one| one.controller == Controller::NetCls);
    match found.and_then(|found| Some((found.version?, found.mount?))) {
        Some((CgroupVersion::V1, point)) => match class_of_group(&sandbox, &point) {
            Ok(class) => row([limit, "-", "its group has it", &format!("{class:#x}")]),
            Err(error) => not_run(limit, "-", &*error),
        },
        _ => {
            let used = |_: &Usage, mark: &str| format!("its sockets' mark is {mark}");
            let tried = "take the mark off a socket";
            Trial::myself(limit, tried, sandbox, &["mark"], used).show();
        }
    }
}

fn class_of_group(sandbox: &Sandbox, point: &Path) -> Result<u32, Box<dyn Error>> {
    let child = sandbox.command("sleep").arg("60").spawn()?;
    let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", child.id()))?;
    let group = groups.lines().find_map(|line| line.split_once(":net_cls:/"));
    let (_, group) = group.ok_or("it has no group")?;
    Ok(std::fs::read_to_string(point.join(group).join("net_cls.classid"))?.trim().parse()?)
}

fn priority(sandbox: &Sandbox) -> Result<(), Box<dyn Error>> {
    let receiver = Receiver::new()?;
    let limits = Limits::new().net_prio(NetPrio::new().priority("lo", 3));
    let sandbox = sandbox.clone().network(Network::Host).limits(limits);
    let (limit, tried) = ("priority 3 on packets", "send one, and one with priority 6");
    let role = ["send", &receiver.port()?.to_string()];
    let trial = Trial::myself(limit, tried, sandbox, &role, |_, _| String::new());
    match trial.sandbox.command(MYSELF).args(&trial.program[1..]).output() {
        Ok(output) => {
            let told = told(output.outcome, &output.stderr);
            row([limit, tried, &told, &receiver.priorities()]);
        }
        Err(error) => not_run(limit, tried, &error),
    }
    Ok(())
}

fn shown(number: Option<u64>) -> String {
    number.map_or("?".to_owned(), |number| number.to_string())
}

/// A sandbox that is stopped in the middle of its work, and goes on.
fn pause(sandbox: &Sandbox) -> Result<(), Box<dyn Error>> {
    let sandbox = sandbox.clone().wall_time(Duration::from_secs(1));
    let mut child = sandbox.command("sleep").arg("0.2").spawn()?;
    child.pause()?;
    sleep(Duration::from_millis(1500));
    child.resume()?;
    let Status { outcome, usage, .. } = child.wait()?;
    let wall = usage.map(|usage| usage.wall).unwrap_or_default();
    println!("paused for 1.5 s with 1 s to run: {outcome} after {wall:.1?} of its own time");
    Ok(())
}
