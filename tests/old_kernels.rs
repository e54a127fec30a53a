//! Answers as older kernels do, down to Linux 5.10: what comes of it is the same sandbox by another
//! way, or an error that says what is needed.
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
    reason = "mounts of the test's own, and its way to fail"
)]

mod common;
#[path = "common/mounts.rs"]
mod mounts;
mod tracer;

use std::collections::{BTreeMap, HashSet};
use std::ffi::CString;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use common::{Needs, Test};
use libc::c_long;
use mounts::{mount, own_mounts, try_mount};
use stockade::{
    Bind, Capability, Feature, Hint, Hugetlb, Landlock, Limits, Namespaces, NetCls, Outcome, Proc,
    Resource, Rootfs, Sandbox, Stdio, Support, TimeOffsets, Tmpfs, View,
};
use tracer::{Call, Traced, Verdict, facts};

/// What this process, the traced embedder, is to do: a shape, then changes to it.
const SCENARIO: &str = "STOCKADE_OLD_KERNELS_SCENARIO";
/// The directory that it has for that.
const DIRECTORY: &str = "STOCKADE_OLD_KERNELS_DIRECTORY";
/// Where the host's file for the init program is, below that directory.
const INIT_FILE: &str = "init";

fn main() -> ExitCode {
    let mut arguments = std::env::args();
    if arguments.next().is_some_and(|name| name.ends_with(tracer::PROGRAM)) {
        facts::print(&arguments.collect::<Vec<_>>());
        more_facts();
        return ExitCode::SUCCESS;
    }
    match std::env::var(SCENARIO) {
        Ok(scenario) => embed(&scenario),
        Err(_) => return common::main(&tests()),
    }
    ExitCode::SUCCESS
}

macro_rules! named {
    ($needs:expr => $($name:ident),* $(,)?) => {
        [$(Test { name: stringify!($name), needs: $needs, run: $name }),*]
    };
}

fn tests() -> Vec<Test> {
    let mut tests = Vec::new();
    tests.extend(named![Needs::Nothing =>
        default_in_5_10, without_init_in_5_10, everything_in_5_10, directory_in_5_10,
        joining_in_5_10, admin_in_5_10, submounts_in_5_10, chroot_in_5_10, covered_in_5_10, twice_in_5_10, nosymfollow_in_5_10, full_proc_in_5_10, hidden_in_5_10, view_in_5_10, learn_in_5_10, without_namespaces_in_5_10, init_file_that_is_a_fifo, several_threads_make_one_file, init_file_that_is_still_written, program_without_init_in_its_time, later_mount_calls_are_missing,time_offsets_are_missing_and_best_effort, support_in_5_10,
        mount_setattr_is_missing, memfd_flag_is_unknown, shared_memory_in_a_new_time_namespace,
        exit_status_that_somebody_took,
        memory_cannot_be_made, memory_cannot_be_made_nor_a_file, memory_cannot_be_executed,
        memory_cannot_be_executed_nor_is_there_a_file,
        init_file_is_made, init_file_is_used_again, init_file_is_not_made_without_need,
        init_file_with_other_content, init_file_that_is_cut_off, init_file_that_others_can_write,
        init_file_that_is_a_directory, init_file_where_nothing_can_be_executed,
        close_range_is_missing, close_range_is_missing_inside, openat2_is_missing,
        mount_calls_are_missing, pidfd_open_is_missing,
        time_namespace_is_missing, time_namespace_is_missing_and_best_effort,
        cgroup_namespace_is_missing, namespaces_are_missing, subset_of_proc_is_missing,
        filter_is_missing, ambient_capabilities_are_missing, keyrings_are_missing,
        landlock_is_missing,
    ]);
    tests.extend(named![Needs::Landlock(2) => landlock_refuses]);
    tests.extend(named![Needs::RootAndV2("hugetlb") =>
        clone_into_a_group_is_missing, kill_of_a_group_is_missing,
    ]);
    tests.extend(named![Needs::Root =>
        unsearchable_in_5_10, memory_cannot_be_executed_with_mapped_owners, open_tree_is_missing_outside,
        owners_cannot_be_mapped, owners_cannot_be_mapped_here, owners_are_best_effort,
        init_file_of_somebody_else,
    ]);
    tests.extend(named![memfd_noexec() => memory_is_forbidden_by_the_setting]);
    tests
}

/// For what is tried with the setting itself.
fn memfd_noexec() -> Needs {
    match Path::new("/proc/sys/vm/memfd_noexec").exists() {
        true => Needs::Root,
        false => Needs::Program("the setting vm.memfd_noexec"),
    }
}

// ---- the embedder ------------------------------------------------------------------------------

/// Runs one sandbox between the marks, and says what came of it.
fn embed(scenario: &str) {
    let directory = PathBuf::from(std::env::var_os(DIRECTORY).unwrap());
    let mut words = scenario.split('+');
    let name = words.next().unwrap();
    let words: Vec<_> = words.collect();
    match name {
        "support" => return between_marks(|| print!("{}", Support::probe())),
        "reaped" => return between_marks(reaped_elsewhere),
        "threads" => return between_marks(|| several(&change(Sandbox::new(), &words, &directory))),
        "followed" => return between_marks(followed),
        _ => {}
    }
    let neighbour = (name == "joining").then(Neighbour::start);
    let target = format!("/{}", tracer::PROGRAM);
    let mut sandbox = shape(Sandbox::new(), name, &directory);
    if let Some(neighbour) = &neighbour {
        sandbox = neighbour.join(sandbox);
    }
    sandbox = change(sandbox, &words, &directory);
    // Nothing runs where that is not possible.
    if name != "tier" {
        sandbox = sandbox.bind_ro(std::env::current_exe().unwrap(), &target);
    }
    let command = sandbox.command(&target).args(facts::host());
    tracer::mark_begin();
    let spawned = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let result = spawned.and_then(|child| {
        let missing = child.missing().to_vec();
        Ok((missing, child.wait_with_output()?))
    });
    tracer::mark_end();
    match result {
        Ok((missing, output)) => {
            // Landlock's walls are as many as the kernel that this runs on has.
            let (walls, missing): (Vec<_>, Vec<_>) = missing.into_iter().partition(|feature| {
                matches!(feature, Feature::Landlock | Feature::LandlockScopes)
            });
            println!("result: {}\nmissing: {missing:?}", output.outcome);
            println!("missing walls: {walls:?}");
            if name == "groups" {
                let used = output.usage.and_then(|usage| usage.stats.cpu.usage);
                println!("in a group: {}", used.is_some_and(|used| !used.is_zero()));
            }
            print!("{}", String::from_utf8_lossy(&output.stdout));
        }
        Err(error) => println!("error: {error}"),
    }
}

fn between_marks(work: impl FnOnce()) {
    tracer::mark_begin();
    work();
    tracer::mark_end();
}

/// The same first spawn in several threads.
fn several(sandbox: &Sandbox) {
    std::thread::scope(|scope| {
        let spawns = [(); 8].map(|()| scope.spawn(|| sandbox.command("true").status()));
        for spawn in spawns {
            match spawn.join().unwrap() {
                Ok(status) => println!("result: {}", status.outcome),
                Err(error) => println!("error: {error}"),
            }
        }
    });
}

/// A program without init whose exit status nobody is told.
fn reaped_elsewhere() {
    // SAFETY: ignoring runs no handler.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
    let command = Sandbox::new().init(false).command("sh").args(["-c", "exit 3"]);
    println!("result: {}", command.status().unwrap().outcome);
}

/// A group of cgroup v2, on each host: its sockets have a mark there.
fn in_a_group(sandbox: Sandbox) -> Sandbox {
    let hugetlb = Hugetlb::new().max(2 << 20, 2 << 20);
    sandbox.limits(Limits::new().hugetlb(hugetlb).net_cls(NetCls::new(1, 1)))
}

/// What goes on without init, which only the group holds together.
fn followed() {
    let spaces = Namespaces::all() - Namespaces::PID;
    let sandbox = in_a_group(Sandbox::new()).namespaces(spaces).without_atomic_end();
    let command = sandbox.command("sh").args(["-c", "setsid sleep 1000 & echo; exec sleep 1000"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let told = child.stdout.take().unwrap().read(&mut [0]).unwrap();
    let own = fs::read_to_string(format!("/proc/{}/cgroup", child.id())).unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap();
    let group = v2().join(own);
    let procs = fs::read_to_string(group.join("cgroup.procs")).unwrap();
    // SAFETY: kill takes numbers.
    assert_eq!(unsafe { libc::kill(child.id().cast_signed(), libc::SIGKILL) }, 0);
    let outcome = child.wait().unwrap().outcome;
    println!("result: {told} {} {outcome}", procs.lines().count());
    println!("left: {}", group.exists());
}

/// Where cgroup v2 is mounted.
fn v2() -> PathBuf {
    common::mounted().into_iter().find_map(|(point, v2)| v2.then_some(point)).unwrap()
}

/// A sandbox; the binds of those that have some show trees with mounts of several kinds.
fn shape(sandbox: Sandbox, name: &str, directory: &Path) -> Sandbox {
    match name {
        "default" | "joining" => sandbox,
        "without_init" => sandbox.init(false),
        "everything" => everything(sandbox, &mounted_tree(directory)),
        "admin" => everything(sandbox, &mounted_tree(directory))
            .capabilities([Capability::SYS_ADMIN, Capability::DAC_OVERRIDE]),
        "submounts" => submounts(sandbox, &mounted_tree(directory)),
        "directory" => sandbox.rootfs(Rootfs::directory(image(directory))).bind_same("/usr"),
        "chroot" => {
            let image = image(directory);
            // What the sandbox's own /dev covers.
            mount("tmpfs", &image.join("dev"), "", 0);
            fs::create_dir(image.join("dev/lower")).unwrap();
            mount("tmpfs", &image.join("dev/lower"), "", 0);
            sandbox.rootfs(Rootfs::directory(image)).bind_same("/usr")
        }
        "covered" => {
            let tree = mounted_tree(directory);
            sandbox.bind_ro(&tree, "/data").tmpfs("/data").bind_ro(tree.join("plain"), "/data")
        }
        "twice" => {
            let tree = mounted_tree(directory);
            let (lower, upper) = (tree.join("strict"), tree.join("plain/deep"));
            sandbox.bind_rw(&upper, "/shared").bind_ro(lower, "/data").bind_ro(upper, "/data")
        }
        "nosymfollow" => {
            let tree = mounted_tree(directory);
            // MS_NOSYMFOLLOW, Linux 5.10.
            mount("tmpfs", &tree.join("empty"), "", 256);
            sandbox.bind_ro(tree.join("empty"), "/data")
        }
        "full_proc" => sandbox.proc(Proc::Full),
        "hidden" => submounts(sandbox, &mounted_tree(directory)).hide_host_paths(true),
        "view" => sandbox.view(View::new()),
        "learn" => sandbox.learn(),
        "tier" => {
            let lost = Feature::ALL.into_iter();
            lost.fold(sandbox.without_namespaces().bind_same("/usr"), Sandbox::best_effort)
        }
        "groups" => in_a_group(sandbox),
        "unsearchable" => {
            let tree = mounted_tree(directory);
            let hidden = tree.join("hidden");
            fs::create_dir_all(hidden.join("mount")).unwrap();
            mount("tmpfs", &hidden.join("mount"), "", 0);
            chown(&hidden, Some(12345), Some(12345)).unwrap();
            set_mode(&hidden, 0o700);
            sandbox.bind_ro(tree, "/data")
        }
        "writable" => {
            let data = directory.join("data");
            fs::create_dir(&data).unwrap();
            set_mode(&data, 0o777);
            sandbox.bind_rw(data, "/data")
        }
        "no_exec" => {
            own_mounts();
            mount("tmpfs", directory, "", libc::MS_NOEXEC);
            sandbox
        }
        other => panic!("no shape {other}"),
    }
}

fn everything(sandbox: Sandbox, tree: &Path) -> Sandbox {
    submounts(sandbox, tree)
        .mount_tmpfs(Tmpfs::new("/scratch").size(1 << 20).no_exec())
        .file("/etc/given", "text")
        .directory("/given", 0o700)
        .symlink("/given", "/link")
        .mqueue()
        .proc(Proc::Full)
        .sysfs()
        .hostname("inside")
        .time_offsets(TimeOffsets { monotonic: 100, boottime: 100 })
        .oom_score_adj(500)
        .nice(5)
        .rlimit(Resource::OpenFiles, 64)
        .capabilities([Capability::NET_BIND_SERVICE])
        .wall_time(std::time::Duration::from_secs(100))
}

fn submounts(sandbox: Sandbox, tree: &Path) -> Sandbox {
    sandbox
        .bind_ro(tree, "/data")
        .bind(Bind::read_write(tree, "/shared").no_exec())
        .bind(Bind::read_only(tree.join("empty"), "/alone").without_submounts())
        .bind(Bind::read_write(tree.join("plain"), "/data/empty").with_devices())
        .tmpfs("/data/over")
}

fn change(mut sandbox: Sandbox, words: &[&str], directory: &Path) -> Sandbox {
    for word in words {
        sandbox = match *word {
            "as_host_root" => sandbox.as_host_root(),
            "unmapped" => sandbox.best_effort(Feature::IdMappedMounts),
            "without_time" => sandbox.best_effort(Feature::TimeNamespace),
            "offsets" => sandbox.time_offsets(TimeOffsets { monotonic: 100, boottime: 0 }),
            "without_keys" => sandbox.best_effort(Feature::SessionKeyring),
            "without_groups" => sandbox.namespaces(Namespaces::all() - Namespaces::CGROUP),
            "ports" => sandbox.landlock(Landlock::default().connect_tcp([443])),
            "without_proc" => sandbox.proc(Proc::None),
            "init_file" => sandbox.init_file(directory.join(INIT_FILE)),
            "nowhere" => sandbox.init_file(directory.join("no/such/place")),
            other => panic!("no change {other}"),
        };
    }
    sandbox
}

/// Mounts of this process's own, and a tree with some: bare, with flags, in one another, under a
/// name that mountinfo escapes.
fn mounted_tree(directory: &Path) -> PathBuf {
    own_mounts();
    let tree = directory.join("tree");
    for name in ["", "plain", "strict", "empty", "over", "a b\t\\c"] {
        fs::create_dir(tree.join(name)).unwrap();
    }
    mount("tmpfs", &tree.join("plain"), "mode=777", libc::MS_NOSUID);
    fs::create_dir(tree.join("plain/deep")).unwrap();
    mount("tmpfs", &tree.join("plain/deep"), "mode=777", libc::MS_NOEXEC | libc::MS_NOATIME);
    mount("tmpfs", &tree.join("strict"), "mode=777", libc::MS_STRICTATIME | libc::MS_NODIRATIME);
    mount("tmpfs", &tree.join("a b\t\\c"), "mode=777", 0);
    set_mode(&tree, 0o777);
    tree
}

/// A directory to begin with, as an unpacked image, in which something is mounted.
fn image(directory: &Path) -> PathBuf {
    own_mounts();
    let image = directory.join("image");
    for name in ["", "proc", "dev", "tmp", "usr", "inner"] {
        fs::create_dir(image.join(name)).unwrap();
    }
    for name in ["bin", "lib", "lib64"] {
        symlink(format!("usr/{name}"), image.join(name)).unwrap();
    }
    fs::write(image.join(tracer::PROGRAM), "").unwrap();
    mount("tmpfs", &image.join("inner"), "mode=777", 0);
    image
}

/// A process in a network of its own, for others to join.
struct Neighbour(std::process::Child);

impl Neighbour {
    fn start() -> Self {
        use std::os::unix::process::CommandExt;
        let unshare = || {
            let user = if nix::unistd::geteuid().is_root() { 0 } else { libc::CLONE_NEWUSER };
            // SAFETY: unshare takes a number.
            match unsafe { libc::unshare(libc::CLONE_NEWNET | user) } {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        };
        let mut command = Command::new("sleep");
        // SAFETY: the closure makes one system call.
        let process = unsafe { command.arg("100").pre_exec(unshare) }.spawn().unwrap();
        let neighbour = Neighbour(process);
        if !nix::unistd::geteuid().is_root() {
            let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
            fs::write(neighbour.file("setgroups"), "deny").unwrap();
            fs::write(neighbour.file("uid_map"), format!("{uid} {uid} 1")).unwrap();
            fs::write(neighbour.file("gid_map"), format!("{gid} {gid} 1")).unwrap();
        }
        neighbour
    }

    fn file(&self, name: &str) -> PathBuf {
        format!("/proc/{}/{name}", self.0.id()).into()
    }

    fn join(&self, sandbox: Sandbox) -> Sandbox {
        let sandbox = sandbox.join(Namespaces::NET, self.file("ns/net"));
        match nix::unistd::geteuid() {
            uid if uid.is_root() => sandbox,
            uid => sandbox
                .join(Namespaces::USER, self.file("ns/user"))
                .uid(uid.as_raw())
                .gid(nix::unistd::getegid().as_raw()),
        }
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// What the program finds out about the mounts that it can reach, besides what the kernel lists.
fn more_facts() {
    println!("mark: {}", facts::mark());
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for line in table.lines() {
        let fields: Vec<_> = line.split(' ').collect();
        let place = unescaped(fields[4]);
        if mount_number(&place) != fields[0].parse().ok() {
            continue;
        }
        let made = place.join("made");
        let written = fs::write(&made, "x").map_err(|error| error.kind());
        fs::remove_file(made).ok();
        let lifted = try_mount("none", &place, "", libc::MS_REMOUNT | libc::MS_BIND) == 0;
        let options = fields[5];
        println!("reached {place:?} {options}: written {written:?}, flags lifted {lifted}");
    }
    // Where no mount is listed, too.
    for place in ["/", "/usr", "/data", "/data/empty", "/proc/sys", "/proc/meminfo"] {
        let made = Path::new(place).join("made");
        let written = fs::write(&made, "x").map_err(|error| error.kind());
        fs::remove_file(made).ok();
        println!("in {place}: written {written:?}");
    }
    // For the caller to look at.
    fs::write("/data/owned", "x").ok();
}

/// The mount that a path leads to; another one than at that place if it is covered.
fn mount_number(path: &Path) -> Option<u64> {
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    // SAFETY: all-zero is a valid statx.
    let mut found: libc::statx = unsafe { std::mem::zeroed() };
    let (at, flags) = (libc::AT_FDCWD, libc::AT_SYMLINK_NOFOLLOW);
    // SAFETY: the path ends in NUL and the result is writable.
    let result =
        unsafe { libc::statx(at, path.as_ptr(), flags, libc::STATX_MNT_ID, &raw mut found) };
    (result == 0).then_some(found.stx_mnt_id)
}

/// A path of mountinfo, where some bytes are written as `\ooo`.
fn unescaped(field: &str) -> PathBuf {
    let mut parts = field.split('\\');
    let mut path = parts.next().unwrap().to_owned();
    for part in parts {
        let (digits, rest) = part.split_at(3);
        path.push(char::from(u8::from_str_radix(digits, 8).unwrap()));
        path.push_str(rest);
    }
    path.into()
}

// ---- older kernels -----------------------------------------------------------------------------

/// What is refused, how often.
type Refused = BTreeMap<c_long, usize>;

/// Runs a scenario on a kernel that answers what `answer` says, or as this one does.
fn run(scenario: &str, answer: &mut dyn FnMut(&Call) -> Option<i32>) -> (Traced, Refused) {
    let directory = Directory::new();
    directory.run(scenario, answer)
}

/// The traced embedder's directory.
struct Directory(tempfile::TempDir);

impl Directory {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        set_mode(directory.path(), 0o755);
        Directory(directory)
    }

    fn init_file(&self) -> PathBuf {
        self.0.path().join(INIT_FILE)
    }

    fn owner_of_data(&self) -> u32 {
        self.0.path().join("data/owned").metadata().unwrap().uid()
    }

    fn run(
        &self,
        scenario: &str,
        answer: &mut dyn FnMut(&Call) -> Option<i32>,
    ) -> (Traced, Refused) {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.env_clear().env(SCENARIO, scenario).env("PATH", "/usr/bin:/bin");
        command.env(DIRECTORY, self.0.path());
        let mut refused = Refused::new();
        let traced = tracer::trace(&mut command, &mut |call| {
            answer(call).map_or(Verdict::Pass, |errno| {
                *refused.entry(call.number).or_default() += 1;
                Verdict::Fail(errno)
            })
        });
        assert!(traced.hung.is_empty(), "{scenario} hung: {:?}", traced.hung);
        assert!(
            traced.status.is_some_and(|status| status.success()) && traced.stderr.is_empty(),
            "{scenario}: {:?} {}{}",
            traced.status,
            traced.stdout,
            traced.stderr
        );
        (traced, refused)
    }
}

/// The only thing that this kernel lacks is one system call.
fn without(number: c_long) -> impl FnMut(&Call) -> Option<i32> {
    refusing(number, libc::ENOSYS)
}

fn refusing(number: c_long, errno: i32) -> impl FnMut(&Call) -> Option<i32> {
    move |call| (call.number == number).then_some(errno)
}

/// Everything that Linux 5.10 does not know. What it does otherwise, besides refusing, is not
/// here: it counts `RLIMIT_NPROC` by user, and an exec does not change the time namespace.
#[derive(Default)]
struct Linux510 {
    /// Who has a time namespace for its children that it is not in itself.
    in_other_time: HashSet<String>,
    /// Somebody executed a program that is not in the namespace that was made for it.
    stays_in_old_time: bool,
}

impl Linux510 {
    fn answer(&mut self, call: &Call) -> Option<i32> {
        const NEWTIME: u64 = 0x80;
        /// process_madvise(2), the last one that it has.
        const LAST: c_long = 440;
        let [first, second, third, _, fifth, _] = call.args;
        let unknown = |flags: u64, known: u64| (flags & !known != 0).then_some(libc::EINVAL);
        match call.number {
            number if number > LAST => Some(libc::ENOSYS),
            libc::SYS_memfd_create => unknown(second, 7),
            libc::SYS_close_range => unknown(third, 2),
            libc::SYS_pidfd_open => unknown(second, libc::O_NONBLOCK as u64),
            libc::SYS_move_mount => unknown(fifth, 0x77),
            libc::SYS_fsconfig => (second > 7).then_some(libc::EOPNOTSUPP),
            libc::SYS_seccomp => unknown(second, 0x1f),
            libc::SYS_prctl => (first > 58).then_some(libc::EINVAL),
            libc::SYS_fcntl => matches!(second, 1027 | 1028).then_some(libc::EINVAL),
            libc::SYS_ioctl => (second >> 8 & 0xff == 0xff).then_some(libc::ENOTTY),
            libc::SYS_unshare => {
                if first & NEWTIME != 0 {
                    self.in_other_time.insert(call.role.clone());
                }
                None
            }
            libc::SYS_setns => {
                if first_of_setns_is_time(call) {
                    self.in_other_time.remove(&call.role);
                }
                None
            }
            libc::SYS_execve => {
                self.stays_in_old_time |= self.in_other_time.contains(&call.role);
                None
            }
            libc::SYS_clone => self.shares_memory_across_times(call).then_some(libc::EINVAL),
            _ => None,
        }
    }

    /// Only since Linux 6.2 a process in another time namespace can share memory until its exec.
    fn shares_memory_across_times(&self, call: &Call) -> bool {
        call.args[0] & libc::CLONE_VM as u64 != 0 && self.in_other_time.contains(&call.role)
    }
}

fn first_of_setns_is_time(call: &Call) -> bool {
    call.args[1] == libc::CLONE_NEWTIME as u64
}

/// Which caller's sandboxes are looked at: root's, too, have to do without what needs a mapping.
fn callers() -> &'static [&'static str] {
    if nix::unistd::geteuid().is_root() { &["+as_host_root", "+unmapped"] } else { &[""] }
}

/// The sandbox on the other kernel is the one that it is on this one.
fn same(shape: &str, changes: &str, old: &mut dyn FnMut(&Call) -> Option<i32>) -> Refused {
    let mut all = Refused::new();
    for caller in callers() {
        let scenario = format!("{shape}{caller}{changes}");
        let (clean, _) = run(&scenario, &mut |_| None);
        expect_success(&clean);
        let (traced, refused) = run(&scenario, old);
        assert!(!refused.is_empty(), "{scenario}: nothing was refused");
        let difference = difference(shape, &clean.stdout, &traced.stdout);
        assert!(difference.is_empty(), "{scenario}:\n{}", difference.join("\n"));
        refused.into_iter().for_each(|(number, count)| *all.entry(number).or_default() += count);
    }
    all
}

fn expect_success(traced: &Traced) {
    assert!(traced.stdout.starts_with("result: exited with code 0\n"), "{}", traced.stdout);
}

/// Every line of one that the other has not; that owners are mapped, and that there is no Landlock,
/// has tests of its own.
fn difference(shape: &str, clean: &str, now: &str) -> Vec<String> {
    let mut counts = BTreeMap::new();
    let mut count = |text: &str, by: i32| {
        // A covered mount keeps the flags that it had: nobody gets there.
        let lines = text.lines().filter(|line| {
            let covered = ["chroot", "covered", "twice"].contains(&shape);
            // The clocks of a view begin with the spawn: the offset is another each second.
            let clocks = shape == "view" && line.starts_with("time: ");
            let mount = covered && line.starts_with("mount ");
            !(clocks || mount || line.starts_with("missing walls"))
        });
        for line in lines {
            let line = line.replace(",idmapped", "").replace("[IdMappedMounts]", "[]");
            *counts.entry(line).or_insert(0) += by;
        }
    };
    count(clean, -1);
    count(now, 1);
    counts.retain(|_, count| *count != 0);
    counts.into_iter().map(|(line, count)| format!("{count:+} {line}")).collect()
}

/// A refusal comes to an error with all of these in its text.
fn tells(scenario: &str, old: &mut dyn FnMut(&Call) -> Option<i32>, parts: &[&str]) {
    let (traced, refused) = run(scenario, old);
    assert!(!refused.is_empty(), "{scenario}: nothing was refused");
    expect_error(scenario, &traced, parts);
}

fn expect_error(scenario: &str, traced: &Traced, parts: &[&str]) {
    let line = traced.stdout.lines().next().unwrap_or("");
    let whole = line.starts_with("error: ") && parts.iter().all(|part| line.contains(part));
    assert!(whole, "{scenario}: no {parts:?} in {line}");
}

// ---- Linux 5.10 --------------------------------------------------------------------------------

fn in_5_10(shape: &str) {
    let mut old = Linux510::default();
    let refused = same(shape, "", &mut |call| old.answer(call));
    let is_refused = |number| assert!(refused.contains_key(&number), "{number}: {refused:?}");
    is_refused(libc::SYS_mount_setattr);
    is_refused(libc::SYS_memfd_create);
    if shape != "without_init" {
        is_refused(libc::SYS_clone);
    }
}

fn default_in_5_10() {
    in_5_10("default");
}

fn without_init_in_5_10() {
    in_5_10("without_init");
}

fn everything_in_5_10() {
    in_5_10("everything");
}

fn directory_in_5_10() {
    in_5_10("directory");
}

fn hidden_in_5_10() {
    in_5_10("hidden");
}

fn view_in_5_10() {
    in_5_10("view");
}

fn learn_in_5_10() {
    in_5_10("learn");
}

/// There is no Landlock, in whose place nothing else can be: whatever is said to be dispensable.
fn without_namespaces_in_5_10() {
    let mut old = Linux510::default();
    let parts = ["restricting writing by Landlock", "Linux 6.2", "there is 0"];
    tells("tier", &mut |call| old.answer(call), &parts);
}

fn joining_in_5_10() {
    in_5_10("joining");
}

fn admin_in_5_10() {
    in_5_10("admin");
}

fn submounts_in_5_10() {
    in_5_10("submounts");
}

fn chroot_in_5_10() {
    in_5_10("chroot");
}

/// A default sandbox can be made there, and what cannot be had comes with the kernel that has it.
fn support_in_5_10() {
    let mut old = Linux510::default();
    let (traced, _) = run("support", &mut |call| old.answer(call));
    let lines: Vec<_> = traced.stdout.lines().collect();
    let about = |name: &str| -> String {
        let at = lines.iter().position(|line| line.get(5..).is_some_and(|l| l.starts_with(name)));
        let at = at.unwrap_or_else(|| panic!("no {name} in {}", traced.stdout));
        let below = lines[at + 1..].iter().take_while(|line| line.starts_with("     "));
        below.fold(lines[at].to_owned(), |text, line| text + line)
    };
    for (name, needs) in [("mount_setattr", "Linux 5.12"), ("PIDFD_INFO_EXIT", "Linux 6.15")] {
        let text = about(name);
        assert!(text.starts_with("no ") && text.contains(needs), "{text}");
    }
    let mapped = about("id-mapped mounts");
    let why = if nix::unistd::geteuid().is_root() { "Linux 5.12" } else { "only root" };
    assert!(mapped.starts_with("no ") && mapped.contains(why), "{mapped}");
    for name in ["Landlock, writing", "Landlock, logging", "sandbox without namespaces"] {
        let text = about(name);
        assert!(text.starts_with("no ") && text.contains("Landlock"), "{text}");
    }
    let given =
        ["default sandbox", "time namespace", "filter with a listener", "limits of inotify"];
    for name in given.into_iter().chain(["init as PID 1", "pidfd"]) {
        assert!(about(name).starts_with("yes "), "{}", traced.stdout);
    }
}

// ---- one thing at a time -----------------------------------------------------------------------

fn mount_setattr_is_missing() {
    for shape in ["default", "everything", "admin", "submounts", "directory", "chroot"] {
        same(shape, "", &mut without(libc::SYS_mount_setattr));
    }
}

fn memfd_flag_is_unknown() {
    same("default", "", &mut |call| {
        (call.number == MEMFD && call.args[1] & 0x18 != 0).then_some(libc::EINVAL)
    });
}

fn shared_memory_in_a_new_time_namespace() {
    let mut old = Linux510::default();
    same("default", "", &mut |call| {
        let answer = old.answer(call);
        answer.filter(|_| call.number == libc::SYS_clone)
    });
}

fn exit_status_that_somebody_took() {
    let mut old = Linux510::default();
    let (traced, refused) = run("reaped", &mut |call| old.answer(call));
    assert!(refused.contains_key(&libc::SYS_ioctl), "{refused:?}");
    assert_eq!(traced.stdout, format!("result: {}\n", Outcome::Unknown));
    if Support::probe().get("PIDFD_INFO_EXIT").is_some_and(|ability| ability.available) {
        let (clean, _) = run("reaped", &mut |_| None);
        assert_eq!(clean.stdout, "result: exited with code 3\n");
    }
}

// ---- init where memory is not to be executed ---------------------------------------------------

const MEMFD: c_long = libc::SYS_memfd_create;

fn memory_cannot_be_made() {
    for errno in [libc::EACCES, libc::EPERM, libc::ENOSYS] {
        same("default", "+init_file", &mut refusing(MEMFD, errno));
    }
}

fn memory_cannot_be_made_nor_a_file() {
    let mut old = refusing(MEMFD, libc::EPERM);
    tells("default", &mut old, &["memfd_create", "operation not permitted"]);
    tells("default+nowhere", &mut old, &["init file", "no/such/place", "no such file"]);
}

/// Memory is there but may not be executed, as SELinux has it.
fn forbidding_memory() -> impl FnMut(&Call) -> Option<i32> {
    |call| {
        let memory = call.number == libc::SYS_execveat
            && executable(call).to_string_lossy().starts_with("/memfd:");
        memory.then_some(libc::EACCES)
    }
}

/// What a child of the embedder's executes by descriptor; it has the embedder's numbers.
fn executable(call: &Call) -> PathBuf {
    let children = fs::read_to_string("/proc/thread-self/children").unwrap();
    let embedder = children.split(' ').next().unwrap();
    fs::read_link(format!("/proc/{embedder}/fd/{}", call.args[0])).unwrap()
}

fn memory_cannot_be_executed() {
    // Without a bind whose owners are mapped.
    let caller = callers()[0];
    let scenario = format!("default{caller}+init_file");
    let (clean, _) = run(&scenario, &mut |_| None);
    let (traced, refused) = run(&scenario, &mut forbidding_memory());
    assert!(!refused.is_empty());
    assert_eq!(difference("default", &clean.stdout, &traced.stdout), Vec::<String>::new());
}

fn memory_cannot_be_executed_nor_is_there_a_file() {
    tells("default", &mut forbidding_memory(), &["exec stockade-init", "permission denied"]);
}

/// No emulation: the setting holds for a pid namespace, here one of the test's own.
fn memory_is_forbidden_by_the_setting() {
    // SAFETY: this process has one thread and no pointer is passed.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWPID | libc::CLONE_NEWNS) }, 0);
    // SAFETY: as above; the child goes on as the only process of the namespace.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let result = std::panic::catch_unwind(with_the_setting);
        std::process::exit(i32::from(result.is_err()));
    }
    let mut status = 0;
    // SAFETY: the status is valid for writing.
    let waited = unsafe { libc::waitpid(child, &raw mut status, 0) };
    assert_eq!((waited, status), (child, 0));
}

fn with_the_setting() {
    mount("none", Path::new("/"), "", libc::MS_REC | libc::MS_PRIVATE);
    mount("proc", Path::new("/proc"), "", 0);
    fs::write("/proc/sys/vm/memfd_noexec", "2").unwrap();
    let error = Sandbox::new().command("true").spawn().unwrap_err();
    assert_eq!(error.hint(), Some(&Hint::MemfdNoExec), "{error}");
    assert!(error.to_string().contains("init_file(..)"), "{error}");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join(INIT_FILE);
    let status = Sandbox::new().init_file(&file).command("true").status().unwrap();
    assert!(status.outcome.is_success() && file.exists(), "{status:?}");
}

// ---- the file for init -------------------------------------------------------------------------

fn without_memory(directory: &Directory) -> Traced {
    let (traced, refused) = directory.run("default+init_file", &mut refusing(MEMFD, libc::EACCES));
    assert!(!refused.is_empty());
    traced
}

/// A file as the library makes it.
fn with_init_file() -> Directory {
    let directory = Directory::new();
    expect_success(&without_memory(&directory));
    directory
}

fn refuses_init_file(directory: &Directory, parts: &[&str]) {
    expect_error("init_file", &without_memory(directory), parts);
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn replace(path: &Path, content: &[u8]) {
    fs::remove_file(path).unwrap();
    fs::write(path, content).unwrap();
    set_mode(path, 0o555);
}

fn init_file_is_made() {
    let directory = with_init_file();
    let made = directory.init_file().metadata().unwrap();
    assert_eq!((made.uid(), made.mode() & 0o222), (nix::unistd::geteuid().as_raw(), 0));
}

fn init_file_is_used_again() {
    let directory = with_init_file();
    let before = directory.init_file().metadata().unwrap();
    expect_success(&without_memory(&directory));
    let after = directory.init_file().metadata().unwrap();
    assert_eq!((before.ino(), before.mtime_nsec()), (after.ino(), after.mtime_nsec()));
}

fn init_file_is_not_made_without_need() {
    let directory = Directory::new();
    let (traced, _) = directory.run("default+init_file", &mut |_| None);
    expect_success(&traced);
    assert!(!directory.init_file().exists());
}

fn init_file_with_other_content() {
    let directory = with_init_file();
    let path = directory.init_file();
    let good = fs::read(&path).unwrap();
    let mut bad = good.clone();
    *bad.last_mut().unwrap() ^= 1;
    replace(&path, &bad);
    refuses_init_file(&directory, &["verify init file", path.to_str().unwrap(), "(os error 1)"]);
    // Whatever is there stays.
    assert_eq!(fs::read(&path).unwrap(), bad);
    replace(&path, &good);
    expect_success(&without_memory(&directory));
}

fn init_file_that_is_cut_off() {
    let directory = with_init_file();
    let path = directory.init_file();
    let content = fs::read(&path).unwrap();
    for length in [0, content.len() - 1] {
        replace(&path, &content[..length]);
        refuses_init_file(&directory, &["verify init file"]);
    }
    replace(&path, &[&content[..], b"\0"].concat());
    refuses_init_file(&directory, &["verify init file"]);
}

fn init_file_that_others_can_write() {
    let directory = with_init_file();
    for mode in [0o575, 0o557, 0o777] {
        set_mode(&directory.init_file(), mode);
        refuses_init_file(&directory, &["verify init file"]);
    }
    // Its owner could write to it anyway.
    set_mode(&directory.init_file(), 0o755);
    expect_success(&without_memory(&directory));
}

fn init_file_that_is_a_directory() {
    let directory = Directory::new();
    fs::create_dir(directory.init_file()).unwrap();
    refuses_init_file(&directory, &["init file", "(os error "]);
}

fn init_file_of_somebody_else() {
    let directory = with_init_file();
    chown(directory.init_file(), Some(12345), None).unwrap();
    refuses_init_file(&directory, &["verify init file"]);
}

fn init_file_where_nothing_can_be_executed() {
    let mut old = refusing(MEMFD, libc::EACCES);
    tells("no_exec+init_file", &mut old, &["exec stockade-init", "permission denied"]);
}

// ---- what every kernel that is supported has, and a filter or a build may lack -----------------

fn close_range_is_missing() {
    tells("default", &mut without(libc::SYS_close_range), &["close_range", "Linux 5.9"]);
}

/// A filter may not know clone3(2): the program is put into the group before it starts.
fn clone_into_a_group_is_missing() {
    for errno in [libc::ENOSYS, libc::EPERM] {
        let mut seen = false;
        let mut old = refusing(libc::SYS_clone3, errno);
        same("groups", "", &mut |call| {
            seen |= call.number == libc::SYS_clone3;
            old(call)
        });
        assert!(seen);
    }
    let (clean, _) = run("groups+as_host_root", &mut |_| None);
    for line in ["in a group: true", "mark: 65537"] {
        assert!(clean.stdout.lines().any(|one| one == line), "{line}: {}", clean.stdout);
    }
}

/// Linux 5.14: before, what is in a group is stopped, killed one by one, and let go.
fn kill_of_a_group_is_missing() {
    let expected = "result: 1 3 its init was killed by signal 9\nleft: false\n";
    let (clean, _) = run("followed", &mut |_| None);
    assert_eq!(clean.stdout, expected);
    let (traced, refused) = run("followed", &mut |call| {
        let opens = call.number == libc::SYS_openat && name_of(call) == "cgroup.kill";
        opens.then_some(libc::ENOENT)
    });
    assert_eq!(traced.stdout, expected);
    assert!(refused.contains_key(&libc::SYS_openat));
}

/// The path that a call opens.
fn name_of(call: &Call) -> String {
    let mut bytes = [0; 256];
    let memory = fs::File::open(format!("/proc/{}/mem", call.pid)).unwrap();
    let read = memory.read_at(&mut bytes, call.args[1]).unwrap_or(0);
    let name = bytes[..read].split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(name).into_owned()
}

/// Where the launch stage has it.
fn close_range_is_missing_inside() {
    let mut inside = |call: &Call| {
        let deep = call.role.matches('.').count() > 1;
        (call.number == libc::SYS_close_range && deep).then_some(libc::ENOSYS)
    };
    tells("default", &mut inside, &["close_range", "Linux 5.9"]);
}

fn openat2_is_missing() {
    tells("default", &mut without(libc::SYS_openat2), &["resolve target", "Linux 5.6"]);
}

fn mount_calls_are_missing() {
    for (number, name) in [
        (libc::SYS_fsopen, "fsopen"),
        (libc::SYS_open_tree, "open_tree"),
        (libc::SYS_move_mount, "move_mount"),
    ] {
        let scenario = format!("default{}", callers()[0]);
        tells(&scenario, &mut without(number), &[name, "Linux 5.2"]);
    }
}

fn pidfd_open_is_missing() {
    let mut old = without(libc::SYS_pidfd_open);
    tells("default", &mut old, &["pidfd_open", "function not implemented"]);
}

fn refusing_to_unshare(kind: i32) -> impl FnMut(&Call) -> Option<i32> {
    move |call| {
        let wanted = call.number == libc::SYS_unshare && call.args[0] & kind as u64 != 0;
        wanted.then_some(libc::EINVAL)
    }
}

fn time_namespace_is_missing() {
    for scenario in ["default", "default+offsets"] {
        let mut old = refusing_to_unshare(libc::CLONE_NEWTIME);
        tells(scenario, &mut old, &["unshare time", "Linux 5.6"]);
    }
}

fn time_namespace_is_missing_and_best_effort() {
    let (clean, _) = run("default+without_time", &mut |_| None);
    let (traced, refused) =
        run("default+without_time", &mut refusing_to_unshare(libc::CLONE_NEWTIME));
    assert_eq!(refused.len(), 1);
    expect_success(&traced);
    assert!(traced.stdout.contains("\nmissing: [TimeNamespace]\n"), "{}", traced.stdout);
    let mut other = difference("default", &clean.stdout, &traced.stdout);
    other.retain(|line| !line.contains(" namespace time") && !line.contains(" missing: "));
    assert_eq!(other, Vec::<String>::new());
}

fn cgroup_namespace_is_missing() {
    let mut old = refusing_to_unshare(libc::CLONE_NEWCGROUP);
    tells("default", &mut old, &["unshare cgroup", "invalid argument"]);
    let (traced, refused) = run("default+without_groups", &mut old);
    assert!(refused.is_empty());
    expect_success(&traced);
}

fn namespaces_are_missing() {
    for (flag, name) in [
        (libc::CLONE_NEWUSER, "user"),
        (libc::CLONE_NEWNS, "mount"),
        (libc::CLONE_NEWPID, "pid"),
        (libc::CLONE_NEWIPC, "ipc"),
        (libc::CLONE_NEWUTS, "uts"),
    ] {
        let mut old = |call: &Call| {
            let wanted = call.number == libc::SYS_clone && call.args[0] & flag as u64 != 0;
            wanted.then_some(libc::EINVAL)
        };
        tells("default", &mut old, &["clone (", name, "invalid argument"]);
    }
    let mut old = |call: &Call| {
        let flag = libc::CLONE_NEWNET as u64;
        (call.number == libc::SYS_unshare && call.args[0] == flag).then_some(libc::EINVAL)
    };
    tells("default", &mut old, &["unshare network", "invalid argument"]);
}

fn subset_of_proc_is_missing() {
    // Of the default sandbox's, the only mount with exactly nosuid, nodev and noexec.
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    let mut old = |call: &Call| {
        (call.number == libc::SYS_mount && call.args[3] == flags).then_some(libc::EINVAL)
    };
    tells("default", &mut old, &["mount proc", "subset=pid", "invalid argument"]);
    let (traced, refused) = run("default+without_proc", &mut old);
    assert!(refused.is_empty());
    expect_success(&traced);
}

/// Never a program without one.
fn filter_is_missing() {
    for errno in [libc::ENOSYS, libc::EINVAL] {
        let mut old = refusing(libc::SYS_seccomp, errno);
        tells("without_init", &mut old, &["install system call filter"]);
        // Several times: the program's process and init are at work at the same time.
        for _ in 0..10 {
            tells("default", &mut old, &["install system call filter"]);
        }
    }
}

fn ambient_capabilities_are_missing() {
    let mut old = |call: &Call| {
        let wanted = call.number == libc::SYS_prctl && call.args[0] == AMBIENT;
        wanted.then_some(libc::EINVAL)
    };
    tells("default", &mut old, &["ambient"]);
}

/// `PR_CAP_AMBIENT`
const AMBIENT: u64 = 47;

fn keyrings_are_missing() {
    tells("default", &mut without(libc::SYS_keyctl), &["session keyring"]);
    let (traced, _) = run("default+without_keys", &mut without(libc::SYS_keyctl));
    expect_success(&traced);
    assert!(traced.stdout.contains("\nmissing: [SessionKeyring]\n"), "{}", traced.stdout);
}

/// Whoever does not name ports does without, and is told.
fn landlock_is_missing() {
    for errno in [libc::ENOSYS, libc::EOPNOTSUPP] {
        let mut old = refusing(libc::SYS_landlock_create_ruleset, errno);
        let (traced, _) = run("default", &mut old);
        expect_success(&traced);
        let told = "\nmissing walls: [Landlock, LandlockScopes]\n";
        assert!(traced.stdout.contains(told), "{}", traced.stdout);
        tells("default+ports", &mut old, &["lacks restricting TCP ports", "lsm=landlock"]);
    }
}

/// What the kernel said that it has, it has to do.
fn landlock_refuses() {
    for (number, told) in [
        (libc::SYS_landlock_add_rule, "add Landlock rule"),
        (libc::SYS_landlock_restrict_self, "restrict itself by Landlock"),
    ] {
        tells("default", &mut refusing(number, libc::EINVAL), &[told]);
    }
}

// ---- a root caller -----------------------------------------------------------------------------

fn owners_cannot_be_mapped() {
    let mut old = without(libc::SYS_mount_setattr);
    tells("default", &mut old, &["lacks id-mapped mounts", "Linux 5.12", "IdMappedMounts"]);
}

/// By this file system.
fn owners_cannot_be_mapped_here() {
    let mut old = refusing(libc::SYS_mount_setattr, libc::EINVAL);
    tells("default", &mut old, &["map owners of", "best_effort(Feature::IdMappedMounts)"]);
}

fn owners_are_best_effort() {
    let directory = Directory::new();
    let (clean, _) = directory.run("writable+unmapped", &mut |_| None);
    expect_success(&clean);
    assert!(clean.stdout.contains("\nmissing: []\n"), "{}", clean.stdout);
    assert_eq!(directory.owner_of_data(), 0);
    for errno in [libc::ENOSYS, libc::EINVAL] {
        let directory = Directory::new();
        // In the embedder: inside, an unknown call would be the only reason for EINVAL.
        let mut outside = |call: &Call| {
            let mapping = call.number == libc::SYS_mount_setattr && call.role == "0";
            mapping.then_some(errno)
        };
        let (traced, _) = directory.run("writable+unmapped", &mut outside);
        expect_success(&traced);
        assert!(traced.stdout.contains("\nmissing: [IdMappedMounts]\n"), "{}", traced.stdout);
        assert_eq!(directory.owner_of_data(), 65534);
    }
}

fn covered_in_5_10() {
    in_5_10("covered");
}

fn twice_in_5_10() {
    in_5_10("twice");
}

fn nosymfollow_in_5_10() {
    in_5_10("nosymfollow");
}

fn full_proc_in_5_10() {
    in_5_10("full_proc");
}

fn unsearchable_in_5_10() {
    let mut old = Linux510::default();
    let scenario = "unsearchable+unmapped";
    tells(scenario, &mut |call| old.answer(call), &["remount", "permission denied", "Linux 5.12"]);
    expect_success(&run(scenario, &mut |_| None).0);
}

fn init_file_that_is_a_fifo() {
    let directory = Directory::new();
    nix::unistd::mkfifo(&directory.init_file(), nix::sys::stat::Mode::S_IRUSR).unwrap();
    refuses_init_file(&directory, &["verify init file"]);
}

fn several_threads_make_one_file() {
    for _ in 0..10 {
        let (traced, _) = run("threads+init_file", &mut refusing(MEMFD, libc::EACCES));
        assert_eq!(traced.stdout, "result: exited with code 0\n".repeat(8));
    }
}

/// Another process may have it open still, from before its exec.
fn init_file_that_is_still_written() {
    for (count, works) in [(3, true), (u32::MAX, false)] {
        let mut left = count;
        let mut busy = |call: &Call| match call.number {
            MEMFD => Some(libc::EACCES),
            libc::SYS_execveat if left > 0 && !executable(call).starts_with("/memfd:") => {
                left -= 1;
                Some(libc::ETXTBSY)
            }
            _ => None,
        };
        match works {
            true => expect_success(&run("default+init_file", &mut busy).0),
            false => tells("default+init_file", &mut busy, &["exec stockade-init", "busy"]),
        }
    }
}

fn memory_cannot_be_executed_with_mapped_owners() {
    same("default", "+init_file", &mut forbidding_memory());
    let (traced, _) = run("default+init_file", &mut forbidding_memory());
    expect_success(&traced);
    tells("default", &mut forbidding_memory(), &["exec stockade-init", "init_file(..)"]);
    tells("default", &mut refusing(MEMFD, libc::EPERM), &["memfd_create", "init_file(..)"]);
}

/// An exec does not change the time namespace before Linux 6.2.
fn program_without_init_in_its_time() {
    for caller in callers() {
        for (shape, changes) in
            [("without_init", ""), ("without_init", "+offsets"), ("default", "")]
        {
            let mut old = Linux510::default();
            let (traced, _) =
                run(&format!("{shape}{caller}{changes}"), &mut |call| old.answer(call));
            expect_success(&traced);
            assert!(!old.stays_in_old_time, "{shape}: {}", traced.stdout);
        }
    }
}

fn later_mount_calls_are_missing() {
    for (number, name) in [(libc::SYS_fsconfig, "fsconfig"), (libc::SYS_fsmount, "fsmount")] {
        tells("default", &mut without(number), &[name, "Linux 5.2"]);
    }
    tells("default", &mut without(libc::SYS_pidfd_open), &["pidfd_open", "Linux 5.4"]);
}

fn open_tree_is_missing_outside() {
    tells("default", &mut without(libc::SYS_open_tree), &["open_tree", "Linux 5.2"]);
}

fn time_offsets_are_missing_and_best_effort() {
    let (traced, _) =
        run("default+without_time+offsets", &mut refusing_to_unshare(libc::CLONE_NEWTIME));
    expect_success(&traced);
    assert!(traced.stdout.contains("\nmissing: [TimeNamespace]\n"), "{}", traced.stdout);
}
