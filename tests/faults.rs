//! Makes each system call of the set-up fail, one at a time: what comes of it is a typed error or a
//! whole sandbox, never a weaker one, a hang, a panic or something left behind.
#![allow(
    clippy::exit,
    clippy::incompatible_msrv,
    clippy::cast_possible_truncation,
    reason = "a test process, built by a current toolchain"
)]
#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test's own forks and waits, and its way to fail"
)]

mod common;
#[path = "common/groups.rs"]
mod groups;
#[path = "common/mounts.rs"]
mod mounts;
mod tracer;

use std::any::Any;
use std::collections::{BTreeMap, HashSet};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::{Needs, Test, is_v1};
use groups::Delegated;
use mounts::{bind, mount, own_mounts};
use stockade::{
    Action, Bind, Capability, Child, Cpu, Cpuset, Data, Devices, Error, Feature, Hugetlb, IdMap,
    Limits, Memory, Namespaces, NetCls, Overlay, PerfEvent, Pids, Proc, Resource, Rootfs, Rule,
    Sandbox, Seccomp, Stdio, TimeOffsets, Tmpfs, View,
};
use tracer::{Call, Traced, Verdict, facts};

/// The file of the init program, where memory cannot be had.
const INIT_FILE: &str = "init";
/// Names the scenario that this process, the traced embedder, is to run.
const SCENARIO: &str = "STOCKADE_FAULTS_SCENARIO";

macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        &[$(Test {
            name: stringify!($name),
            needs: Needs::Nothing,
            run: || every_fault(stringify!($name)),
        }),*, Test {
            name: "a_slow_setup_costs_no_time",
            needs: Needs::Nothing,
            run: a_slow_setup_costs_no_time,
        }, Test {
            name: "a_killed_helper_is_an_error",
            needs: Needs::Nothing,
            run: a_killed_helper_is_an_error,
        }, Test {
            name: "a_program_killed_before_its_exec_is_an_error",
            needs: Needs::Nothing,
            run: a_program_killed_before_its_exec_is_an_error,
        }, Test {
            name: "a_hanging_call_does_not_outlive_the_embedder",
            needs: Needs::Nothing,
            run: a_hanging_call_does_not_outlive_the_embedder,
        }, Test {
            name: "a_hanging_exec_ends_with_the_time",
            needs: Needs::Nothing,
            run: a_hanging_exec_ends_with_the_time,
        }, Test {
            name: "a_listener_that_fails_ends_the_sandbox",
            needs: Needs::Nothing,
            run: a_listener_that_fails_ends_the_sandbox,
        }, Test {
            name: "groups",
            needs: Needs::Root,
            run: || every_fault("groups"),
        }, Test {
            name: "groups_copied",
            needs: Needs::Root,
            run: || every_fault("groups_copied"),
        }, Test {
            name: "groups_v2",
            needs: Needs::RootAndV2("hugetlb"),
            run: || every_fault("groups_v2"),
        }, Test {
            name: "groups_v2_old",
            needs: Needs::RootAndV2("hugetlb"),
            run: || every_fault("groups_v2_old"),
        }, Test {
            name: "groups_v2_copied",
            needs: Needs::RootAndV2("hugetlb"),
            run: || every_fault("groups_v2_copied"),
        }, Test {
            name: "subordinate",
            needs: Needs::RootAndProgram("newuidmap"),
            run: || every_fault("subordinate"),
        }]
    };
}

/// The wall time in the scenario `limited`.
const LIMIT: Duration = Duration::from_secs(3);

/// What is done to every sandbox.
const TESTS: &[Test] = scenarios![
    default,
    without_init,
    everything,
    joining,
    undoing,
    admin,
    directory,
    init_file,
    terminal,
    pty,
    shared_pids,
    new_privileges,
    old_kernel,
    compat,
    own_ids,
    layers,
    outputs,
    program,
    narrow_filter,
    hidden,
    view,
    learn,
    tier,
    copied,
    recycled,
    session,
    pooled,
    entered,
];

/// Of these more calls than the first of every kind are tried.
const THOROUGH: [&str; 15] = [
    "default",
    "without_init",
    "everything",
    "joining",
    "undoing",
    "groups",
    "groups_copied",
    "groups_v2",
    "groups_v2_copied",
    "program",
    "outputs",
    "learn",
    "copied",
    "session",
    "entered",
];

/// What the kernel of a scenario never does.
fn lacks(scenario: &str) -> Option<(i64, i32)> {
    match scenario {
        "init_file" => Some((libc::SYS_memfd_create, libc::EPERM)),
        "old_kernel" => Some((libc::SYS_mount_setattr, libc::ENOSYS)),
        "groups_v2_old" => Some((libc::SYS_clone3, libc::ENOSYS)),
        _ => None,
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args();
    if arguments.next().is_some_and(|name| name.ends_with(tracer::PROGRAM)) {
        facts::print(&arguments.collect::<Vec<_>>());
        println!("mark: {}", facts::mark());
        return ExitCode::SUCCESS;
    }
    match std::env::var(SCENARIO) {
        Ok(scenario) => embed(&scenario),
        Err(_) => return common::main(TESTS),
    }
    ExitCode::SUCCESS
}

// ---- the embedder ------------------------------------------------------------------------------

/// Runs one sandbox between the marks, and says what came of it.
fn embed(scenario: &str) {
    let neighbour = (scenario == "joining").then(Neighbour::start);
    if scenario == "subordinate" {
        become_nobody();
    }
    let program = std::env::current_exe().unwrap();
    let directory = PathBuf::from(std::env::var_os("STOCKADE_FAULTS_DIRECTORY").unwrap());
    let mut target = format!("/{}", tracer::PROGRAM);
    // The program asks for its keyring.
    let seccomp = Seccomp::default().rule(Rule::new("keyctl"));
    let mut sandbox = Sandbox::new();
    // Copies of root's have no keyring of their own, and no way to one.
    let copied = scenario.ends_with("copied") || scenario == "recycled";
    if !copied {
        sandbox = sandbox.seccomp(seccomp.clone());
    }
    sandbox = if scenario == "tier" {
        // Files have the names there that they have here.
        let link = directory.join(tracer::PROGRAM);
        std::os::unix::fs::symlink(&program, &link).unwrap();
        link.to_str().unwrap().clone_into(&mut target);
        sandbox.bind_same(&program)
    } else {
        sandbox.bind_ro(&program, &target)
    };
    if scenario.ends_with("narrow_filter") {
        // What init's own steps need: it comes last.
        sandbox = sandbox.seccomp(seccomp.rule(Rule::new("umask").then(Action::Errno(1))));
    }
    if let Some(neighbour) = &neighbour {
        sandbox = neighbour.join(sandbox);
    }
    sandbox = shape(sandbox, scenario, &directory);
    let delegated = scenario.starts_with("groups").then(|| Delegated::to(0));
    if let Some(delegated) = &delegated {
        sandbox = sandbox.limits(limits(scenario)).cgroup_parent(delegated.parent());
    }
    let wanted = if scenario == "undoing" { "/missing" } else { &target };
    let host = facts::host();
    let shaped = |command: stockade::Command| {
        let command = command.args(&host);
        match scenario {
            "pty" => command.pty(24, 80),
            _ => command.stdout(Stdio::piped()).stderr(Stdio::piped()),
        }
    };
    let mut command = shaped(sandbox.command(wanted));
    let terminal = (scenario == "terminal").then(terminal);
    let before = (mounts(), descriptors());
    if let Some((_, theirs)) = &terminal {
        let open = |path| std::fs::File::open(path).unwrap();
        command = command.stdin(theirs.try_clone().unwrap()).controlling_terminal();
        command = command.fd(9, open("/dev/zero")).fd(7, open("/dev/full"));
    }
    // Of some only a part is looked at.
    let (planning, outputs) = (scenario == "program", scenario == "outputs");
    if !outputs {
        tracer::mark_begin();
    }
    let mut planned = Ok(());
    if planning {
        planned = sandbox.plan().map(drop);
        tracer::mark_end();
    }
    // Where something is made before the command; it ends before what is left is looked at.
    let mut made = None;
    let spawned = planned.and_then(|()| match made_before(&sandbox, scenario, wanted)? {
        Some((what, command)) => {
            made = Some(what);
            shaped(command).spawn()
        }
        None => command.spawn(),
    });
    if outputs {
        tracer::mark_begin();
    }
    let result = spawned.and_then(|child| {
        let missing = child.missing().to_vec();
        if outputs {
            take_out(&child, &directory)?;
        }
        Ok((missing, child.wait_with_output()?))
    });
    if result.is_err() && ["copied", "recycled", "session", "pooled"].contains(&scenario) {
        // A copy of a template's that nobody could wait for sees that its socket is closed.
        std::thread::sleep(Duration::from_millis(200));
    }
    drop(made);
    tracer::mark_end();
    match result {
        Ok((_, output)) if output.stdout_truncated => println!("result: its output is cut off"),
        Ok((missing, output)) => {
            println!("result: {}", output.outcome);
            println!("missing: {missing:?}");
            if let (Some(_), Some(usage)) = (&delegated, &output.usage) {
                // What could not be read is not known.
                let used = |number: Option<u64>| number.is_none_or(|number| number > 0);
                let stats = &usage.stats;
                let time = stats.cpu.usage.map(|time| u64::from(!time.is_zero()));
                let numbers = [stats.memory.peak, stats.pids.peak, time];
                println!("in groups: {}", numbers.into_iter().all(used));
            }
            print!("{}", String::from_utf8_lossy(&output.stdout).replace("\r\n", "\n"));
        }
        Err(error) => println!("result: {}", told(&error)),
    }
    drop(neighbour);
    for group in delegated.iter().flat_map(Delegated::content) {
        println!("left: a group, {group:?}");
        std::fs::remove_dir(group).unwrap();
    }
    drop(delegated);
    left_behind(&before);
    match scenario {
        "init_file" => half_made_files(&directory),
        "layers" => work_directories(&directory),
        "outputs" => exports(&directory),
        _ => {}
    }
}

/// What a command needs that is not a sandbox's own, and it.
fn made_before(
    sandbox: &Sandbox,
    scenario: &str,
    wanted: &str,
) -> stockade::Result<Option<(Box<dyn Any>, stockade::Command)>> {
    Ok(match scenario {
        "copied" | "groups_copied" | "groups_v2_copied" => {
            let prepared = sandbox.prepare()?;
            println!("template: {}", prepared.has_template());
            let command = prepared.command(wanted);
            Some((Box::new(prepared), command))
        }
        "recycled" => {
            let prepared = sandbox.clone().recycle_network(true).prepare()?;
            println!("template: {}", prepared.has_template());
            // Whose network is used again.
            prepared.command("true").status()?;
            let command = prepared.command(wanted);
            Some((Box::new(prepared), command))
        }
        "session" | "limited_session" => {
            let session = sandbox.prepare()?.session()?;
            let command = session.command(wanted);
            Some((Box::new(session), command))
        }
        "pooled" | "limited_pooled" => {
            let pool = sandbox.prepare()?.pool(1)?;
            let command = pool.command(wanted);
            Some((Box::new(pool), command))
        }
        "entered" => {
            let resting = sandbox.command("sleep").arg("100").spawn()?;
            let command = resting.command(wanted)?;
            Some((Box::new(resting), command))
        }
        _ => None,
    })
}

/// What v1 may have on this host, or what v2 has on each: a program stands for the class.
fn limits(scenario: &str) -> Limits {
    let v1_devices = is_v1("devices") == Some(true);
    let limits = Limits::new();
    if scenario.starts_with("groups_v2") {
        let limits = limits
            .hugetlb(Hugetlb::new().max(2 << 20, 2 << 20))
            .net_cls(NetCls::new(1, 1))
            .perf_event(PerfEvent);
        // A program stands for that, too, unless v1 has it.
        return if v1_devices { limits } else { limits.devices(Devices::standard()) };
    }
    let limits = limits
        .memory(Memory::new().max(1 << 30))
        .pids(Pids::new().max(100))
        .cpuset(Cpuset::new().mems("0"))
        .cpu(Cpu::new().limit(1.0))
        .cpu_time(Duration::from_secs(1000));
    if v1_devices { limits.devices(Devices::standard()) } else { limits }
}

fn shape(sandbox: Sandbox, scenario: &str, directory: &Path) -> Sandbox {
    match scenario {
        "limited" | "limited_narrow_filter" | "limited_session" | "limited_pooled" => {
            sandbox.wall_time(LIMIT)
        }
        "without_init" => sandbox.init(false).wall_time(Duration::from_secs(100)),
        "everything" => everything(sandbox, directory),
        "admin" => sandbox.capabilities([Capability::SYS_ADMIN]),
        "directory" => {
            // What the image holds where the program is to be bound.
            let image = image(directory);
            sandbox.rootfs(Rootfs::directory(image)).bind_same("/usr")
        }
        "init_file" => sandbox.init_file(directory.join(INIT_FILE)),
        // Nothing else tells of the namespaces, as there is no other /proc.
        "shared_pids" => sandbox
            .namespaces(Namespaces::all() - Namespaces::PID)
            .without_atomic_end()
            .best_effort(Feature::IdMappedMounts)
            .bind_same("/proc"),
        "new_privileges" => sandbox.allow_new_privileges(),
        "hidden" => sandbox.hide_host_paths(true),
        "view" => sandbox.view(View::new()),
        "learn" => sandbox.learn(),
        "tier" => {
            let walls = [Feature::Landlock, Feature::LandlockScopes, Feature::FileAttributes];
            let lost = Feature::ALL.into_iter().filter(|feature| !walls.contains(feature));
            lost.fold(sandbox.without_namespaces(), Sandbox::best_effort)
        }
        "layers" | "outputs" => layers(sandbox, directory),
        "compat" => sandbox.proc(Proc::Compat).timezone("UTC"),
        "program" => sandbox.program("/usr/bin/env").program(std::env::current_exe().unwrap()),
        "subordinate" => sandbox.id_map(IdMap::new().ids(0, 300_000, 1000)).uid(7).gid(8),
        "own_ids" => own_ids(sandbox),
        "old_kernel" => everything(sandbox.bind_ro(image(directory), "/image"), directory)
            .best_effort(Feature::IdMappedMounts),
        _ => sandbox,
    }
}

/// An id of the host's of its own, or a map of one, and something that belongs to it by name.
fn own_ids(sandbox: Sandbox) -> Sandbox {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let sandbox = match uid.is_root() {
        true => sandbox.own_host_id().uid(7).gid(8),
        false => {
            let map = IdMap::new().uids(7, uid.as_raw(), 1).gids(8, gid.as_raw(), 1);
            sandbox.id_map(map)
        }
    };
    let file = tempfile::tempfile().unwrap();
    sandbox.data(Data::file("/etc/given", file).mode(0o600).owner(7, 8))
}

fn everything(sandbox: Sandbox, directory: &Path) -> Sandbox {
    sandbox
        .bind(Bind::read_write(directory, "/data").no_exec())
        .mount_tmpfs(Tmpfs::new("/scratch").size(1 << 20))
        .file("/etc/given", "text")
        .directory("/given", 0o700)
        .symlink("/given", "/link")
        .mqueue()
        .sysfs()
        .proc(Proc::Full)
        .hostname("inside")
        .time_offsets(TimeOffsets { monotonic: 100, boottime: 100 })
        .oom_score_adj(500)
        .nice(5)
        .rlimit(Resource::OpenFiles, 64)
        .capabilities([Capability::NET_BIND_SERVICE])
        .wall_time(Duration::from_secs(100))
}

/// Overlays with both kinds of uppers, all mounts kept.
fn layers(sandbox: Sandbox, directory: &Path) -> Sandbox {
    let names = ["base", "top", "kept"].map(|name| directory.join("layers").join(name));
    for name in &names {
        std::fs::create_dir_all(name).unwrap();
    }
    let [base, top, kept] = names;
    // What an earlier sandbox has left.
    for name in ["deep/file", "link"] {
        let path = kept.join("upper").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "given").unwrap();
    }
    let thrown_away = Overlay::new([&base, &top]);
    sandbox
        .overlay("/layers", thrown_away)
        .overlay("/kept", Overlay::new([base]).upper(kept))
        .keep_mounts()
}

/// Looks at all that a program can leave, while it may still run.
fn take_out(child: &Child, directory: &Path) -> Result<(), Error> {
    let given = child.open_output("/etc/hosts")?;
    let text = std::io::read_to_string(given);
    assert!(text.is_err() || text.is_ok_and(|text| text.contains("localhost")));
    assert!(child.changes("/layers")?.is_empty());
    let changes = child.changes("/kept")?;
    assert_eq!(changes.len(), 3, "{changes}");
    changes.export(directory.join("out"), |_| true)
}

/// All of an export, or nothing.
fn exports(directory: &Path) {
    let out = directory.join("out");
    if out.exists() {
        let read = |name| std::fs::read_to_string(out.join(name)).unwrap();
        assert_eq!(read("deep/file") + &read("link"), "givengiven");
    }
    let entries = std::fs::read_dir(directory).unwrap();
    for name in entries.map(|entry| entry.unwrap().file_name()) {
        if name != "out" && name != "layers" {
            println!("left: a part of an export, {name:?}");
        }
    }
}

/// A user to whom ranges of ids are given in files.
fn become_nobody() {
    own_mounts();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "nobody:300000:1000\n").unwrap();
    for place in ["/etc/subuid", "/etc/subgid"] {
        bind(file.path(), Path::new(place));
    }
    // The user could not remove it.
    drop(file);
    let (group, user) = (nix::unistd::Gid::from_raw(65534), nix::unistd::Uid::from_raw(65534));
    nix::unistd::setgroups(&[]).unwrap();
    nix::unistd::setresgid(group, group, group).unwrap();
    nix::unistd::setresuid(user, user, user).unwrap();
    // SAFETY: takes numbers.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) }, 0);
}

/// What a kept upper's directory has besides the upper.
fn work_directories(directory: &Path) {
    if directory.join("layers/kept/work").exists() {
        println!("left: a work directory");
    }
}

/// A directory to begin with, as an unpacked image, in which something is mounted.
fn image(directory: &Path) -> PathBuf {
    own_mounts();
    let image = directory.join("image");
    for name in ["", "proc", "dev", "tmp", "usr", "inner"] {
        std::fs::create_dir(image.join(name)).unwrap();
    }
    for name in ["bin", "lib", "lib64"] {
        std::os::unix::fs::symlink(format!("usr/{name}"), image.join(name)).unwrap();
    }
    std::fs::write(image.join(tracer::PROGRAM), "").unwrap();
    mount("tmpfs", &image.join("inner"), "", 0);
    std::fs::create_dir(image.join("inner/deep")).unwrap();
    mount("tmpfs", &image.join("inner/deep"), "", libc::MS_NOEXEC);
    image
}

/// Both ends of a new terminal.
fn terminal() -> (OwnedFd, OwnedFd) {
    use std::os::fd::FromRawFd;
    let (mut ours, mut theirs) = (-1, -1);
    let null = std::ptr::null_mut();
    // SAFETY: both numbers are valid for writing; the rest may be null.
    let result =
        unsafe { libc::openpty(&raw mut ours, &raw mut theirs, null, null.cast(), null.cast()) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: the kernel just made it, and nobody else owns it.
    let own = |number| unsafe { OwnedFd::from_raw_fd(number) };
    (own(ours), own(theirs))
}

/// The file of the init program is meant to stay; under another name, it is not.
fn half_made_files(directory: &Path) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let name = entry.unwrap().file_name();
        if name != INIT_FILE && name != format!("{INIT_FILE}.warden").as_str() {
            println!("left: a file, {name:?}");
        }
    }
}

fn told(error: &Error) -> String {
    let text = error.to_string();
    assert!(!text.contains('\n') && !text.is_empty(), "{text:?}");
    match error.failed() {
        Some(failed) => format!("error at {}: {text}", failed.stage),
        None => format!("error: {text}"),
    }
}

fn mounts() -> String {
    std::fs::read_to_string("/proc/self/mountinfo").unwrap()
}

/// What the open descriptors are; the one that lists them is closed again.
fn descriptors() -> Vec<String> {
    let list = std::fs::read_dir("/proc/self/fd").unwrap();
    let links = list.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    let mut links: Vec<_> = links.map(|link| link.display().to_string()).collect();
    // A socket's or directory's number differs from run to run.
    links.retain(|link| !link.contains("/fd"));
    links.sort();
    links
}

fn left_behind(before: &(String, Vec<String>)) {
    if mounts() != before.0 {
        println!("left: a mount");
    }
    let mut now = descriptors();
    for known in &before.1 {
        let at = now.iter().position(|link| link == known);
        now.remove(at.expect("what was open still is"));
    }
    // By this one it is known whether something was mounted.
    if let Some(at) = now.iter().position(|link| link.ends_with("/mountinfo")) {
        now.remove(at);
    }
    // What a process makes once and keeps: init, the mapping's namespace, the warden's two lines
    // and, after its warden died, those of the one before.
    let kept = |link: &String| {
        link.contains("memfd:stockade")
            || link.starts_with("user:")
            || link.contains("/test-of-stockade-")
    };
    now.retain(|link| !kept(link));
    let sockets = now.iter().filter(|link| link.starts_with("socket:")).count();
    if sockets > 4 || now.len() > sockets {
        println!("left: {now:?}");
    }
    let mut status = 0;
    // SAFETY: `status` is a writable int.
    let child = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::__WALL) };
    if child >= 0 {
        println!("left: a child, {child}");
    }
}

/// A process in namespaces of its own, for others to join.
struct Neighbour {
    process: std::process::Child,
}

impl Neighbour {
    fn start() -> Self {
        use std::os::unix::process::CommandExt;
        let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
        let unshare = move || {
            let user = if uid.is_root() { 0 } else { libc::CLONE_NEWUSER };
            // SAFETY: unshare takes a number.
            if unsafe { libc::unshare(libc::CLONE_NEWNET | user) } != 0 {
                return Err(std::io::Error::last_os_error());
            }
            if user != 0 {
                std::fs::write("/proc/self/setgroups", "deny")?;
                std::fs::write("/proc/self/uid_map", format!("{uid} {uid} 1"))?;
                std::fs::write("/proc/self/gid_map", format!("{gid} {gid} 1"))?;
            }
            Ok(())
        };
        let mut command = Command::new("sleep");
        // SAFETY: this process has one thread, so that allocating after the fork is harmless.
        let process = unsafe { command.arg("100").pre_exec(unshare) }.spawn().unwrap();
        Neighbour { process }
    }

    fn join(&self, sandbox: Sandbox) -> Sandbox {
        let open = |kind| -> OwnedFd {
            let path = format!("/proc/{}/ns/{kind}", self.process.id());
            std::fs::File::open(path).unwrap().into()
        };
        let sandbox = sandbox.join(Namespaces::NET, open("net"));
        match nix::unistd::geteuid() {
            uid if uid.is_root() => sandbox,
            uid => sandbox
                .join(Namespaces::USER, open("user"))
                .uid(uid.as_raw())
                .gid(nix::unistd::getegid().as_raw()),
        }
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

// ---- the faults --------------------------------------------------------------------------------

/// One call of one process: role, number, nth.
type Place = (String, i64, usize);

fn every_fault(scenario: &'static str) {
    let mut lacked = 0;
    let clean = run(scenario, &mut |call| {
        let verdict = usual(scenario, call);
        lacked += usize::from(verdict != Verdict::Pass);
        verdict
    });
    assert_eq!(lacked > 0, lacks(scenario).is_some(), "{lacked} calls were refused");
    let places = places(scenario, &clean.calls);
    assert_whole(scenario, &clean);
    let (next, problems) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let worker = || {
        while let Some(place) = places.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Some(problem) = one_fault(scenario, place, &clean) {
                problems.lock().unwrap().push(problem);
            }
        }
    };
    // Much of the time the kernel takes namespaces apart, and nobody computes.
    let threads = std::thread::available_parallelism().map_or(1, usize::from) * 4;
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(worker);
        }
    });
    let problems = problems.into_inner().unwrap();
    let count = places.len();
    assert!(count > 50, "only {count} faults were tried");
    assert!(problems.is_empty(), "{} of {count}:\n{}", problems.len(), problems.join("\n"));
}

/// The wall time is the program's: a set-up that takes longer ends nothing, its exec included.
fn a_slow_setup_costs_no_time() {
    for number in [libc::SYS_pivot_root, libc::SYS_execve] {
        let slow = run("limited", &mut |call| {
            if call.role != "0" && call.number == number {
                std::thread::sleep(LIMIT + Duration::from_secs(1));
            }
            Verdict::Pass
        });
        assert_whole("limited", &slow);
    }
}

/// Who makes the network and sets the names may be killed at any of its calls: without what it has
/// left undone nothing runs, and certainly not under the host's name.
fn a_killed_helper_is_an_error() {
    for scenario in ["default", "without_init"] {
        for number in [libc::SYS_unshare, libc::SYS_sethostname, libc::SYS_setdomainname] {
            let mut killed = false;
            let traced = run(scenario, &mut |call| {
                let helper = call.role.matches('.').count() == 2;
                if helper && call.number == number && !killed {
                    // SAFETY: a plain system call; a stopped process keeps its number.
                    killed = unsafe { libc::kill(call.pid, libc::SIGKILL) } == 0;
                }
                Verdict::Pass
            });
            assert!(killed, "{scenario}: nobody makes call {number}");
            assert!(traced.hung.is_empty(), "{scenario}, call {number}: {traced:#?}");
            let result = result_of(&traced);
            assert!(result.starts_with("result: error"), "{scenario}, call {number}: {traced:#?}");
        }
    }
}

/// Who asks would wait for ever: where nobody can be asked or answered any more, nothing runs on.
fn a_listener_that_fails_ends_the_sandbox() {
    // SECCOMP_IOCTL_NOTIF_RECV and _SEND.
    for request in [0xc050_2100, 0xc018_2101] {
        let mut times = 0;
        let traced = run("learn", &mut |call| {
            let fails = call.number == libc::SYS_ioctl && call.args[1] == request;
            times += u32::from(fails);
            if fails { Verdict::Fail(libc::EIO) } else { Verdict::Pass }
        });
        // It was tried again for a while.
        assert!(times > 50 && traced.hung.is_empty(), "{request:x}, {times} times: {traced:#?}");
        let result = result_of(&traced);
        assert!(result.starts_with("result: error at start: "), "{request:x}: {traced:#?}");
        assert!(!traced.stdout.contains("left:"), "{request:x}: {traced:#?}");
    }
}

/// A socket that closes at the exec closes at a kill as well, of whoever by then had everything but its
/// exec behind it. Which of the two it was, is told however far it has got.
fn a_program_killed_before_its_exec_is_an_error() {
    // At its exec, and with a terminal at the word before, from the library; and where the scenario has
    // none of that, before init lets it go.
    let exec = libc::SYS_execve;
    for (scenario, number, depth) in [
        ("default", exec, 2),
        ("default", libc::SYS_chdir, 2),
        ("default", libc::SYS_recvmsg, 2),
        ("without_init", exec, 1),
        ("terminal", exec, 2),
        ("pty", exec, 2),
        ("pty", libc::SYS_ioctl, 2),
        ("shared_pids", exec, 2),
        ("new_privileges", exec, 2),
        ("joining", exec, 3),
    ] {
        let (mut last, mut killed) = (None, false);
        let clean = run(scenario, &mut |call| {
            if call.role.matches('.').count() == depth && call.number == number {
                last = Some((call.role.clone(), call.nth));
            }
            Verdict::Pass
        });
        assert_whole(scenario, &clean);
        let (role, nth) = last.expect("a call of the program's process");
        let traced = run(scenario, &mut |call| {
            if call.role == role && call.number == number && call.nth == nth {
                // SAFETY: a plain system call; a stopped process keeps its number.
                killed = unsafe { libc::kill(call.pid, libc::SIGKILL) } == 0;
            }
            Verdict::Pass
        });
        assert!(killed && traced.hung.is_empty(), "{scenario}, call {number}: {traced:#?}");
        let result = result_of(&traced);
        let told =
            ["killed by signal 9 before its exec", "killed before its exec"].iter().any(|how| {
                result.starts_with("result: error at start: start ") && result.contains(how)
            });
        assert!(told, "{scenario}, call {number}: {traced:#?}");
        assert!(!traced.stdout.contains("left:"), "{scenario}, call {number}: {traced:#?}");
    }
}

/// Whoever init waits for may hang in the kernel. Init sees the end of the embedder all the same, with
/// nobody else left to see it.
fn a_hanging_call_does_not_outlive_the_embedder() {
    // How far above who hangs init is: over a session's command, there is its supervisor.
    for (scenario, number, above) in [
        ("default", libc::SYS_unshare, 1),
        ("default", libc::SYS_setsid, 1),
        ("default", libc::SYS_execve, 1),
        ("without_init", libc::SYS_unshare, 1),
        ("without_init", libc::SYS_sethostname, 1),
        ("pooled", libc::SYS_execve, 1),
        ("session", libc::SYS_execve, 2),
    ] {
        let (mut embedder, mut init) = (None, None);
        // SAFETY: a plain system call; who is traced and stopped keeps its number.
        let kill = |pid| assert_eq!(unsafe { libc::kill(pid, libc::SIGKILL) }, 0);
        let traced = run(scenario, &mut |call| {
            embedder = embedder.or((call.role == "0").then_some(call.pid));
            match &init {
                None if call.number == number && is_started(call) => {
                    init = call.role.rsplitn(above + 1, '.').last().map(str::to_owned);
                    kill(embedder.unwrap());
                    Verdict::Hang
                }
                // The warden wakes, and does not come to do anything.
                Some(init) if call.role != "0" && !call.role.starts_with(init.as_str()) => {
                    kill(call.pid);
                    Verdict::Fail(libc::EPERM)
                }
                _ => Verdict::Pass,
            }
        });
        let hangs = init.is_some();
        assert!(hangs && traced.hung.is_empty(), "{scenario}, call {number}: {traced:#?}");
        let signal = traced.status.and_then(|status| status.signal());
        assert_eq!(signal, Some(libc::SIGKILL), "{scenario}, call {number}: {traced:#?}");
    }
}

/// An exec has ten seconds, however short the wall time: no more, and nothing has run then.
fn a_hanging_exec_ends_with_the_time() {
    std::thread::scope(|scope| {
        for scenario in ["limited", "limited_narrow_filter", "limited_pooled", "limited_session"] {
            scope.spawn(move || hanging_exec(scenario));
        }
    });
}

/// Whether init, or a session's supervisor, has started who makes this call, wherever it is: in a
/// template's user namespace there is one process more above it. Nobody else calls execve(2).
fn is_started(call: &Call) -> bool {
    match call.number {
        libc::SYS_execve => call.role != "0",
        _ => call.role.matches('.').count() == 2,
    }
}

fn hanging_exec(scenario: &str) {
    let mut hangs = false;
    let traced = run(scenario, &mut |call| {
        let exec = call.number == libc::SYS_execve && is_started(call);
        hangs |= exec;
        if exec { Verdict::Hang } else { Verdict::Pass }
    });
    assert!(hangs && traced.hung.is_empty(), "{traced:#?}");
    let result = result_of(&traced);
    let expected = "(its time was up before its exec): timer expired (os error 62)";
    assert!(result.starts_with("result: error at start: start "), "{traced:#?}");
    assert!(result.ends_with(expected), "{traced:#?}");
    assert!(!traced.stdout.contains("left:"), "{traced:#?}");
}

/// What becomes of a call without a fault.
fn usual(scenario: &str, call: &Call) -> Verdict {
    let lacked = lacks(scenario).filter(|(number, _)| *number == call.number);
    lacked.map_or(Verdict::Pass, |(_, errno)| Verdict::Fail(errno))
}

/// The calls to try: of each process the first of every kind; in some scenarios the first three, and
/// beyond that every seventh.
fn places(scenario: &str, calls: &[Call]) -> Vec<Place> {
    let thorough = THOROUGH.contains(&scenario);
    let chosen = |nth| nth == 1 || thorough && (nth <= 3 || nth % 7 == 0);
    let begins = calls.iter().filter(|call| call.number == libc::SYS_rseq);
    let threads: HashSet<_> = begins.map(|call| &*call.role).collect();
    let wanted = |call: &&Call| {
        can_fail(call, &threads) && chosen(call.nth) && usual(scenario, call) == Verdict::Pass
    };
    let place = |call: &Call| (call.role.clone(), call.number, call.nth);
    calls.iter().filter(wanted).map(place).collect()
}

/// What the kernel lets fail. In the embedder, the allocator's and the threads' calls are Rust's,
/// which also panics if a directory cannot be closed.
fn can_fail(call: &Call, threads: &HashSet<&str>) -> bool {
    let never =
        [libc::SYS_exit, libc::SYS_exit_group, libc::SYS_rt_sigreturn, libc::SYS_clock_gettime];
    let of_the_runtime = [
        libc::SYS_mmap,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_mprotect,
        libc::SYS_madvise,
        libc::SYS_brk,
        libc::SYS_futex,
        libc::SYS_getrandom,
        libc::SYS_getpid,
        libc::SYS_gettid,
        libc::SYS_geteuid,
        libc::SYS_getegid,
        libc::SYS_sched_yield,
        libc::SYS_close,
    ];
    let runtime = call.role == "0" && of_the_runtime.contains(&call.number);
    // A thread's stack, signals and name are Rust's, too.
    let of_a_thread = [libc::SYS_rseq, libc::SYS_set_robust_list, libc::SYS_sigaltstack];
    let more = [of_the_runtime.as_slice(), &of_a_thread, &[libc::SYS_prctl]].concat();
    let runtime = runtime || threads.contains(&*call.role) && more.contains(&call.number);
    !runtime && !never.contains(&call.number)
}

fn result_of(traced: &Traced) -> &str {
    traced.stdout.lines().find(|line| line.starts_with("result: ")).unwrap_or("")
}

fn one_fault(scenario: &'static str, place: &Place, clean: &Traced) -> Option<String> {
    let (role, number, nth) = place;
    let errno =
        [libc::EPERM, libc::ENOMEM, libc::EIO][(nth + usize::try_from(*number).unwrap()) % 3];
    let mut hit = false;
    let traced = run(scenario, &mut |call| {
        if call.role != *role || call.number != *number || call.nth != *nth {
            return usual(scenario, call);
        }
        hit = true;
        // The kernel frees the number whatever close(2) answers.
        if call.number == libc::SYS_close {
            Verdict::FailAfterwards(errno)
        } else {
            Verdict::Fail(errno)
        }
    });
    let verdict = judge(scenario, &traced, clean, place);
    if std::env::var_os("STOCKADE_FAULTS_VERBOSE").is_some() {
        let result = result_of(&traced);
        println!("{scenario} {role} call {number} #{nth} error {errno} hit {hit}: {result}");
    }
    let problem = verdict.err()?;
    Some(format!("{scenario}: process {role}, call {number} #{nth}, error {errno}: {problem}"))
}

/// Whether a faulty run ended as one of the two that are right.
fn judge(scenario: &str, traced: &Traced, clean: &Traced, place: &Place) -> Result<(), String> {
    if !traced.hung.is_empty() {
        return Err(format!("hung: {:?}; {}", traced.hung, traced.stdout));
    }
    if !traced.status.is_some_and(|status| status.success()) {
        return Err(format!("{:?}: {}{}", traced.status, traced.stdout, traced.stderr));
    }
    let line = traced.stdout.lines().find(|line| line.starts_with("left:"));
    // A wait that fails leaves a zombie: nobody else may reap it. So does a joining process that
    // cannot say whom it made.
    // A pool has a thread.
    let threads = usize::from(scenario == "pooled");
    let unknown = match place.1 {
        libc::SYS_waitid | libc::SYS_wait4 | libc::SYS_ppoll => {
            place.0.matches('.').count() <= threads
        }
        libc::SYS_sendmsg => place.0 != "0",
        _ => false,
    };
    // What cannot be removed stays.
    let unremoved = place.1 == libc::SYS_unlink;
    let unremoved_group = place.1 == libc::SYS_unlinkat;
    let excused = |line: &&str| {
        unknown && (line.contains("a child") || line.starts_with("left: [\"anon_inode:[pidfd]\""))
            || unremoved && line.contains("a file")
            || unremoved_group && line.contains("a group")
    };
    if let Some(line) = line.filter(|line| !excused(line)) {
        return Err(line.to_owned());
    }
    // Besides the embedder, nobody but those of the clean run is there any more: the neighbour,
    // and the warden or the one that came after it.
    // Where there is no atomic end, what was to become the program may be about to end.
    let stays = |role: &str, name: &str| {
        name == "stockade-warden"
            // A thread, which has nothing open any more: that is looked at by itself.
            || name == "stockade-learn"
            || ["shared_pids", "tier"].contains(&scenario) && name == "stockade-init"
            || clean.alive.iter().any(|(other, _)| other == role)
    };
    let left: Vec<_> = traced.alive.iter().filter(|(role, name)| !stays(role, name)).collect();
    if !left.is_empty() {
        return Err(format!("left: {left:?}; {}", traced.stdout));
    }
    let result = result_of(traced);
    let told = ["error", "its ", "ended, status taken"]
        .iter()
        .any(|how| result.strip_prefix("result: ").is_some_and(|result| result.starts_with(how)));
    if told {
        return Ok(());
    }
    let difference = difference(scenario == "view", &clean.stdout, &traced.stdout);
    if difference.is_empty() { Ok(()) } else { Err(format!("{result}, but {difference:?}")) }
}

/// What is another sandbox's; a whole one has the clean one's facts, except that
/// * it may lack something that is best effort, and then says so,
/// * it may be made alone, where there is no template,
/// * a file of the host's that could not be looked at may be missing, or be bound, read-only, where
///   otherwise there is a link.
fn difference(clocks: bool, clean: &str, now: &str) -> Vec<String> {
    let mut counts = BTreeMap::new();
    clean.lines().for_each(|line| *counts.entry(line).or_insert(0) -= 1);
    now.lines().for_each(|line| *counts.entry(line).or_insert(0) += 1);
    let is_missing = |line: &str, what| line.starts_with("missing: ") && line.contains(what);
    let unscored = now.lines().any(|line| is_missing(line, "OomScoreAdj"));
    let harmless = |line: &str, count: i32| {
        let system = ["/bin", "/sbin", "/lib", "/etc"].iter().any(|path| {
            let mount = line.strip_prefix("mount ");
            mount.is_some_and(|mount| mount.starts_with(path))
        });
        let listed = line.starts_with("in /:");
        // The clocks of a view begin with the spawn: the offset is another each second.
        let clocks = clocks && line.starts_with("time: ");
        listed
            || clocks
            || line.starts_with("template: ")
            || line.starts_with("missing: ") && count < 0
            || is_missing(line, "Nested")
            || is_missing(line, "OomScoreAdj")
            || unscored && line.starts_with("oom: ")
            || line.starts_with("left:")
            || system && line.contains(" ro,nosuid,nodev")
    };
    let differing = counts.iter().filter(|(line, count)| **count != 0 && !harmless(line, **count));
    differing.map(|(line, count)| format!("{count:+} {line}")).collect()
}

/// The clean run is what the faulty ones are compared with, so it must be right itself.
fn assert_whole(scenario: &str, clean: &Traced) {
    let text = &clean.stdout;
    assert!(clean.hung.is_empty() && clean.stderr.is_empty(), "{clean:#?}");
    if scenario == "undoing" {
        assert!(text.starts_with("result: error at start: "), "{text}");
        return;
    }
    let has = |line: &str| assert!(text.lines().any(|one| one == line), "no {line:?} in\n{text}");
    has("result: exited with code 0");
    if scenario.ends_with("copied") || scenario == "recycled" {
        has("template: true");
    }
    if scenario == "tier" {
        return without_namespaces(text, &has);
    }
    for kind in ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"] {
        let shared = (kind, scenario) == ("pid", "shared_pids");
        has(&format!("namespace {kind}: {}", if shared { "the host's" } else { "own" }));
    }
    for line in [
        "keyring: own",
        "Seccomp:\t2",
        "session leader: true",
        "nested user namespace: refused",
        "in /root: [\"entity not found\"]",
        "writing in /: Some(ReadOnlyFilesystem)",
        "writing in /usr: Some(ReadOnlyFilesystem)",
        "writing in /tmp: None",
        "chroot: -1",
        "made writable: [false, false, false]",
    ] {
        has(line);
    }
    has_for(scenario, &has);
    assert!(!text.contains("left:"), "{text}");
}

/// There files can be found, and the rest is refused in place of namespaces.
fn without_namespaces(text: &str, has: &dyn Fn(&str)) {
    for line in [
        "session leader: true",
        "in /proc besides processes: [\"permission denied\"]",
        "memory of process 1: Some(PermissionDenied)",
        "nested user namespace: refused",
        "in /root: [\"permission denied\"]",
        "writing in /: Some(PermissionDenied)",
        "writing in /usr: Some(PermissionDenied)",
        "writing in /tmp: Some(PermissionDenied)",
        "loopback: Some(Uncategorized)",
        "root: false",
        "chroot: -1",
        "made writable: [false, false, false]",
    ] {
        has(line);
    }
    assert!(text.contains("bounding set: [1, 2, "), "{text}");
    assert!(!text.contains("left:"), "{text}");
}

/// What differs from scenario to scenario.
fn has_for(scenario: &str, has: &dyn Fn(&str)) {
    let capabilities: u64 = match scenario {
        "everything" | "old_kernel" => 1 << 10,
        "admin" => 1 << 21,
        _ => 0,
    };
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        has(&format!("{set}:\t{capabilities:016x}"));
    }
    has(&format!("NoNewPrivs:\t{}", i32::from(scenario != "new_privileges")));
    let marked = scenario.starts_with("groups_v2");
    has(&format!("mark: {}", if marked { 0x1_0001 } else { 0 }));
    match scenario {
        _ if scenario.starts_with("groups") => has("in groups: true"),
        "terminal" => {
            has("descriptors: [\"0\", \"1\", \"2\", \"3\", \"7\", \"9\"]");
            has("controlling terminal: true");
        }
        _ => {
            has("descriptors: [\"0\", \"1\", \"2\", \"3\"]");
            has(&format!("controlling terminal: {}", scenario == "pty"));
        }
    }
    match scenario {
        "without_init" => {}
        "shared_pids" => has("memory of process 1: Some(PermissionDenied)"),
        _ => has("memory of process 1: Some(NotFound)"),
    }
}

fn run(scenario: &str, decide: &mut dyn FnMut(&Call) -> Verdict) -> Traced {
    let directory = tempfile::tempdir().unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(directory.path(), open).unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env_clear().env(SCENARIO, scenario).env("PATH", "/usr/bin:/bin");
    command.env("STOCKADE_FAULTS_DIRECTORY", directory.path());
    tracer::trace(&mut command, decide)
}
