//! The `stockade` program: what each option does, seen from inside and outside, how it ends, what it
//! says, and what is left of it.
#![allow(
    clippy::exit,
    clippy::incompatible_msrv,
    clippy::cast_possible_truncation,
    reason = "a test process, built by a current toolchain"
)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails so")]
#![allow(unsafe_code, reason = "what a shell does before it starts a program, done here")]

mod common;
#[path = "common/groups.rs"]
mod groups;
#[path = "common/inside.rs"]
mod inside;
#[path = "common/life.rs"]
mod life;

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::Needs;
use inside::{child_of, field_of, is_absent, is_root, open_directory, program_of, status_field};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use serde_json::{Value, json};
use stockade::{Sandbox, Support};

/// Where cargo built the program.
const STOCKADE: &str = env!("CARGO_BIN_EXE_stockade");

tests! {
    Needs::Program(STOCKADE) => [
        ro_bind, bind, program, tmpfs, dir_and_symlink, file, rootfs, writable_rootfs, layers, empty_root,
        proc,
        sysfs, mqueue, tmp_size_and_inodes, order_of_mounts, net, share, share_pid, join,
        nested_user_namespaces, debugging, names, clocks, ids_inside, ids_that_contradict, permissions_and_owners,
        generated_etc, timezone, tier, capabilities, low_port, new_privileges,
        best_effort, timeout, grace, linger, rlimits, nice_and_oom_score, environment, chdir,
        argv0_and_umask, no_init, init_file, program_and_arguments,
        exit_codes, exit_codes_of_signals, exit_codes_of_programs_that_do_not_start,
        exit_codes_of_set_up, wrong_usage, contradictions_are_told_together,
        json_of_each_end, json_of_what_was_left, json_of_usage, json_of_failures,
        json_of_a_killed_init, json_goes_nowhere_else, json_to_no_descriptor_costs_no_run,
        standard_streams, standard_input_is_passed_through, closed_standard_streams,
        no_other_descriptor, nothing_else_of_the_caller,
        explain, learn, declared, check, check_where_something_is_missing, help_and_version, verbose,
        signals_end_it, signals_are_the_programs_to_handle, signals_to_an_init_less_program,
        a_signal_that_came_early, signals_during_a_set_up_that_hangs, ctrl_c_on_a_terminal,
        killed, killed_at_any_moment, ended_with_a_detached_daemon, child_signals_ignored,
    ];
    Needs::Groups => [json_of_limits_by_groups, values_in_groups];
    Needs::RootAndProgram(STOCKADE) => [
        host_ids, own_host_id, id_maps, owners_of_a_map, subids, host_root, owned_by_root, groups_that_cannot_be_dropped,
        devices_besides_the_standard_ones,
    ];
}

// ---- running it --------------------------------------------------------------------------------

/// How a run of the program ended.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Ran {
    fn of(mut command: Command) -> Self {
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Ran { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// What a run that ended well wrote; it said nothing else.
    fn good(self) -> String {
        assert_eq!((self.code, self.err.as_str()), (Some(0), ""), "{}", self.out);
        self.out
    }

    /// Asserts that this program, not the one inside, said one line with these parts, and its code.
    fn refused(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.out, "", "{self:?}");
        assert!(self.err.starts_with("stockade: "), "{self:?}");
        assert_eq!(self.err.matches('\n').count(), 1, "{self:?}");
        for part in parts {
            assert!(self.err.contains(part), "{part}: {self:?}");
        }
    }
}

/// `stockade` with these arguments, without input.
fn stockade(arguments: &[&str]) -> Command {
    let mut command = Command::new(STOCKADE);
    command.args(arguments).stdin(Stdio::null());
    command
}

/// `stockade run` with these options, for a shell script.
fn with(options: &[&str], script: &str) -> Command {
    let mut command = stockade(&["run"]);
    command.args(options).args(["--", "sh", "-c", script]);
    command
}

fn run(options: &[&str], script: &str) -> Ran {
    Ran::of(with(options, script))
}

/// What the script wrote, which ended well.
fn sh(options: &[&str], script: &str) -> String {
    run(options, script).good()
}

/// Asserts that the script, and not the sandbox, failed with this text.
fn sh_fails(options: &[&str], script: &str, text: &str) {
    let ran = run(options, script);
    assert_ne!(ran.code, Some(0), "{script}: {ran:?}");
    assert!(!ran.err.contains("stockade: "), "{ran:?}");
    assert!(ran.err.contains(text), "{script}: {ran:?}");
}

/// Asserts that the sandbox is not made: one line with these parts.
fn fails(options: &[&str], parts: &[&str]) {
    run(options, "true").refused(125, parts);
}

/// This test binary inside, running the test in another role.
fn role_inside(options: &[&str], role: &str) -> Ran {
    let binary = std::env::current_exe().unwrap();
    let test = std::env::var("STOCKADE_TEST_CHILD").unwrap();
    let mut command = stockade(&["run", "--ro-bind"]);
    command.arg(binary).arg("/probe").args(options);
    command.args(["--env", &format!("STOCKADE_TEST_CHILD={test}")]);
    command.args(["--env", &format!("STOCKADE_TEST_ROLE={role}"), "--", "/probe"]);
    Ran::of(command)
}

/// A directory of the test's own, and its path as an argument.
fn directory() -> (tempfile::TempDir, String) {
    let directory = open_directory();
    let path = directory.path().to_str().unwrap().to_owned();
    (directory, path)
}

/// Gives a child a descriptor under this number.
fn pass(command: &mut Command, number: i32, fd: impl Into<OwnedFd>) {
    let fd = fd.into();
    let duplicate = move || {
        // SAFETY: dup2 takes numbers, and the child has nothing of its own under this one.
        match unsafe { libc::dup2(fd.as_raw_fd(), number) } {
            -1 => Err(std::io::Error::last_os_error()),
            // One that stays the same keeps its flag.
            // SAFETY: fcntl takes numbers.
            same => match unsafe { libc::fcntl(same, libc::F_SETFD, 0) } {
                -1 => Err(std::io::Error::last_os_error()),
                _ => Ok(()),
            },
        }
    };
    // SAFETY: only system calls, which may be made between fork and exec.
    unsafe { command.pre_exec(duplicate) };
}

/// Runs before the program is executed.
fn before(
    command: &mut Command,
    work: impl FnMut() -> std::io::Result<()> + Send + Sync + 'static,
) {
    // SAFETY: the tests have one thread, so nothing is locked in the copy.
    unsafe { command.pre_exec(work) };
}

/// Starts with a system call filter that answers these calls with an error number.
fn without_calls(command: &mut Command, calls: &[libc::c_long], errno: i32) {
    filter(command, calls.iter().map(|call| (*call, Vec::new())).collect(), errno);
}

fn filter(
    command: &mut Command,
    rules: std::collections::BTreeMap<libc::c_long, Vec<seccompiler::SeccompRule>>,
    errno: i32,
) {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
    let (allow, deny) = (SeccompAction::Allow, SeccompAction::Errno(errno.cast_unsigned()));
    let architecture = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, allow, deny, architecture).unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    before(command, move || {
        // SAFETY: this option takes numbers.
        if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
            return Err(std::io::Error::last_os_error());
        }
        seccompiler::apply_filter(&program).map_err(std::io::Error::other)
    });
}

// ---- the file tree -----------------------------------------------------------------------------

fn ro_bind() {
    let (directory, source) = directory();
    fs::write(directory.path().join("file"), "seen").unwrap();
    let options = ["--ro-bind", &source, "/srv/deep"];
    assert_eq!(sh(&options, "cat /srv/deep/file"), "seen");
    sh_fails(&options, "echo x >/srv/deep/file", "Read-only file system");
    sh_fails(&options, "touch /srv/deep/new", "Read-only file system");
    sh_fails(&[], &format!("cat {source}/file"), "No such file");
    let file = format!("{source}/file");
    let options = ["--ro-bind", &file, "/one", "--ro-bind", &file, "/two"];
    assert_eq!(sh(&options, "cat /one /two"), "seenseen");
    assert_eq!(fs::read(file).unwrap(), b"seen");
    fails(&["--ro-bind", "/no/such/source", "/x"], &["\"/no/such/source\"", "no such file"]);
    fails(&["--ro-bind", &source, "relative"], &["\"relative\"", "not absolute"]);
}

fn bind() {
    let (directory, source) = directory();
    sh(&["--bind", &source, "/srv"], "printf made >/srv/new");
    let new = directory.path().join("new");
    assert_eq!(fs::read(&new).unwrap(), b"made");
    assert_eq!(new.metadata().unwrap().uid(), nix::unistd::geteuid().as_raw());
    assert_eq!(sh(&["--ro-bind", &source, "/srv"], "cat /srv/new"), "made");
}

fn program() {
    let ran = |options: &[&str], script: &str| {
        let mut command = stockade(&["run", "--empty-root"]);
        command.args(options).args(["--", "/bin/sh", "-c", script]);
        Ran::of(command)
    };
    assert_eq!(ran(&["--program", "/bin/sh"], "echo alone").good(), "alone\n");
    let both = ["--program", "/bin/sh", "--program", "/bin/ls"];
    assert_eq!(ran(&both, "/bin/ls -d /bin").good(), "/bin\n");
    assert_eq!(ran(&[], "true").code, Some(127));
    fails(&["--program", "/no/such/program"], &["read program \"/no/such/program\"", "no such"]);
}

/// Bytes and files that a file system can have.
fn room_at(options: &[&str], path: &str) -> (u64, u64) {
    let text = sh(options, &format!("stat -f -c '%b %S %c' {path}"));
    let numbers: Vec<u64> = text.split_whitespace().map(|number| number.parse().unwrap()).collect();
    (numbers[0] * numbers[1], numbers[2])
}

fn tmpfs() {
    assert_eq!(room_at(&["--tmpfs", "/scratch"], "/scratch").0, 64 << 20);
    let options = ["--tmpfs", "/scratch:1m", "--tmpfs", "/other:2097152"];
    assert_eq!(room_at(&options, "/scratch").0, 1 << 20);
    assert_eq!(room_at(&options, "/other").0, 2 << 20);
    sh(&options, "head -c 1000000 /dev/zero >/scratch/zero; echo x >/other/x");
    sh_fails(&options, "head -c 1100000 /dev/zero >/scratch/zero", "No space left");
    sh_fails(&[], "echo x >/scratch", "Read-only file system");
    assert!(is_absent(Path::new("/scratch")));
    // What is before the last colon is the path.
    assert_eq!(room_at(&["--tmpfs", "/a:b:1m"], "/a:b").0, 1 << 20);
    fails(&["--tmpfs", "/scratch:0"], &["'/scratch:0' for '--tmpfs <DST[:SIZE]>'", "no limit"]);
    fails(&["--tmpfs", "/scratch:huge"], &["not a size such as 4096, 512k, 64m or 1.5g"]);
}

fn dir_and_symlink() {
    let options = ["--dir", "/made/deep", "--symlink", "/made/deep", "/link"];
    assert_eq!(
        sh(&options, "stat -c '%F %a' /made/deep; readlink /link"),
        "directory 755\n/made/deep\n"
    );
    sh_fails(&[], "stat /made", "No such file");
    sh_fails(&options, "touch /made/deep/new", "Read-only file system");
}

fn file() {
    let mut command =
        with(&["--file", "7", "/etc/given", "--file", "8", "/x/y"], "cat /etc/given /x/y");
    let (reading, mut writing) = std::io::pipe().unwrap();
    writing.write_all(b"from a pipe\0\xff").unwrap();
    drop(writing);
    pass(&mut command, 7, reading);
    let (second, source) = directory();
    fs::write(second.path().join("f"), "from a file").unwrap();
    pass(&mut command, 8, fs::File::open(format!("{source}/f")).unwrap());
    let output = command.output().unwrap();
    assert_eq!(output.stdout, b"from a pipe\0\xfffrom a file");
    sh_fails(&[], "cat /etc/given", "No such file");
    fails(&["--file", "77", "/x"], &["invalid value \"77\" for '--file", "Bad file descriptor"]);
    fails(&["--file", "seven", "/x"], &["not a descriptor's number"]);
}

/// A directory to be a root, in which the host's programs can be put.
fn image() -> (tempfile::TempDir, Vec<String>) {
    let (image, path) = directory();
    let mut options = vec!["--rootfs".to_owned(), path];
    for name in ["proc", "dev", "tmp", "etc", "usr"] {
        fs::create_dir(image.path().join(name)).unwrap();
    }
    fs::write(image.path().join("etc/release"), "image").unwrap();
    for name in ["usr", "bin", "lib", "lib64"] {
        let (host, place) = (Path::new("/").join(name), image.path().join(name));
        match fs::read_link(&host) {
            Ok(target) => symlink(target, place).unwrap(),
            Err(_) if host.is_dir() => {
                fs::create_dir_all(place).unwrap();
                let host = host.to_str().unwrap();
                options.extend(["--ro-bind", host, host].map(str::to_owned));
            }
            Err(_) => {}
        }
    }
    (image, options)
}

fn borrowed(options: &[String]) -> Vec<&str> {
    options.iter().map(String::as_str).collect()
}

fn rootfs() {
    let (image, options) = image();
    let options = borrowed(&options);
    assert_eq!(sh(&options, "cat /etc/release; ls /etc"), "imagerelease\n");
    sh_fails(&options, "echo x >/etc/new", "Read-only file system");
    sh(&options, "echo x >/tmp/x");
    assert!(is_absent(&image.path().join("tmp/x")));
    fails(&["--rootfs", "/no/such/image"], &["\"/no/such/image\"", "no such file"]);
}

fn writable_rootfs() {
    let (image, options) = image();
    let options = [&["--writable-rootfs"], &*borrowed(&options)].concat();
    sh(&options, "echo new >/etc/new");
    assert_eq!(fs::read(image.path().join("etc/new")).unwrap(), b"new\n");
    fails(&["--writable-rootfs"], &["--rootfs <DIR>"]);
}

fn layers() {
    let (image, options) = image();
    let ((top, top_path), (kept, kept_path)) = (directory(), directory());
    fs::create_dir(top.path().join("etc")).unwrap();
    fs::write(top.path().join("etc/release"), "top").unwrap();
    // Instead of --rootfs.
    let binds = borrowed(&options[2..]);
    let layers = ["--layer", options[1].as_str(), "--layer", top_path.as_str()];
    let thrown_away = [layers.as_slice(), &binds].concat();
    assert_eq!(sh(&thrown_away, "cat /etc/release; echo x >/etc/release"), "top");
    assert_eq!(sh(&thrown_away, "cat /etc/release"), "top");
    let keeping = [layers.as_slice(), &["--upper", &kept_path], &binds].concat();
    sh(&keeping, "echo new >/etc/release");
    assert_eq!(sh(&keeping, "cat /etc/release"), "new\n");
    assert_eq!(fs::read(kept.path().join("upper/etc/release")).unwrap(), b"new\n");
    // Nothing but the upper is left, however it ends.
    let work = kept.path().join("work");
    assert!(!work.exists());
    sh_fails(&keeping, "cat /no/such/file", "No such file");
    assert!(!work.exists());
    assert_eq!(fs::read(image.path().join("etc/release")).unwrap(), b"image");
    fails(&["--upper", &kept_path], &["--layer <DIR>"]);
    fails(&["--layer", "/no/such/layer"], &["open layer \"/no/such/layer\"", "no such file"]);
    fails(&["--layer", "/usr", "--rootfs", "/"], &["cannot be used with"]);
    fails(&["--layer", "/usr", "--empty-root"], &["cannot be used with"]);
}

fn empty_root() {
    run(&["--empty-root"], "true").refused(127, &["exec \"sh\"", "no such file"]);
    let (_image, options) = image();
    // The same binds, on nothing.
    let mut options: Vec<_> = options[2..].iter().map(String::as_str).collect();
    options.insert(0, "--empty-root");
    for name in ["bin", "lib", "lib64"] {
        let link = Path::new("/").join(name);
        if link.is_symlink() {
            let path: &str =
                ["/bin", "/lib", "/lib64"].iter().find(|path| path.ends_with(name)).unwrap();
            let target = ["usr/bin", "usr/lib", "usr/lib64"];
            let target: &str = target.iter().find(|target| target.ends_with(name)).unwrap();
            options.extend(["--symlink", target, path]);
        }
    }
    sh_fails(&options, "ls /etc", "No such file");
    assert!(sh(&[], "ls /etc").contains("ld.so"));
    fails(&["--empty-root", "--rootfs", "/"], &["cannot be used with"]);
}

fn proc() {
    let list = "ls -d /proc/self /proc/meminfo /proc/sys 2>/dev/null; true";
    assert_eq!(sh(&[], list), "/proc/self\n");
    assert_eq!(sh(&["--proc", "processes"], list), "/proc/self\n");
    assert_eq!(sh(&["--proc", "none"], list), "");
    assert_eq!(sh(&["--proc", "full"], list), "/proc/meminfo\n/proc/self\n/proc/sys\n");
    // Its own pids in each, and masks.
    assert_eq!(sh(&["--proc", "full"], "wc -c </proc/interrupts; echo $$"), "0\n2\n");
    assert!(!fs::read("/proc/interrupts").unwrap().is_empty());
    fails(&["--proc", "half"], &["'half' for '--proc <PROC>'", "processes, compat, full, none"]);
}

fn sysfs() {
    assert_eq!(sh(&["--sysfs"], "ls /sys/class/net"), "lo\n");
    sh_fails(&["--sysfs"], "mkdir /sys/x", "Read-only file system");
    sh_fails(&[], "ls /sys", "No such file");
    fails(&["--sysfs", "--net", "host"], &["sysfs() needs a network namespace of its own"]);
}

fn mqueue() {
    let script = "grep -o ' /dev/mqueue .* - mqueue' /proc/self/mountinfo; touch /dev/mqueue/q";
    assert!(sh(&["--mqueue"], script).contains("mqueue"));
    sh_fails(&[], script, "cannot touch");
}

fn tmp_size_and_inodes() {
    assert_eq!(room_at(&[], "/tmp"), (256 << 20, 65536));
    let options = ["--tmp-size", "2m", "--tmp-inodes", "100"];
    assert_eq!(room_at(&options, "/tmp"), (2 << 20, 100));
    sh_fails(&options, "head -c 3000000 /dev/zero >/tmp/zero", "No space left");
    sh_fails(&options, "i=0; while touch /tmp/$i; do i=$((i+1)); done; exit 1", "No space left");
    // Only planned, as not everybody may make control groups.
    let planned = |options: &[&str]| {
        let mut command = stockade(&["run", "--explain"]);
        command.args(options).args(["--", "true"]);
        Ran::of(command).good()
    };
    let memory = ["--memory", "3g"];
    assert!(planned(&memory).contains("root: tmpfs / (size 1610612736, 65536 inodes)"));
    let both = [&memory[..], &options[..]].concat();
    assert!(planned(&both).contains("root: tmpfs / (size 2097152, 100 inodes)"));
    fails(&["--tmp-size", "0"], &["no limit"]);
    fails(&["--tmp-inodes", "0"], &["0 is not in 1.."]);
}

/// What is named later lies on top, whatever the options are called.
fn order_of_mounts() {
    let (first, one) = directory();
    let (second, two) = directory();
    fs::write(first.path().join("name"), "one").unwrap();
    fs::write(second.path().join("name"), "two").unwrap();
    let seen = |options: &[&str]| sh(options, "cat /m/name 2>/dev/null || echo nothing");
    assert_eq!(seen(&["--ro-bind", &one, "/m", "--bind", &two, "/m"]), "two");
    assert_eq!(seen(&["--bind", &two, "/m", "--ro-bind", &one, "/m"]), "one");
    assert_eq!(seen(&["--ro-bind", &one, "/m", "--tmpfs", "/m"]), "nothing\n");
    assert_eq!(seen(&["--tmpfs", "/m", "--ro-bind", &one, "/m"]), "one");
    let inner =
        ["--tmpfs", "/m", "--ro-bind", &one, "/m/1", "--dir", "/m/2", "--bind", &two, "/m/3"];
    assert_eq!(sh(&inner, "ls /m; cat /m/1/name /m/3/name"), "1\n2\n3\nonetwo");
    let hidden = ["--ro-bind", &one, "/m/1", "--symlink", "1/name", "/m/name", "--tmpfs", "/m"];
    assert_eq!(sh(&hidden, "ls /m"), "");
    let through = ["--ro-bind", &one, "/m/1", "--symlink", "1/name", "/m/name"];
    assert_eq!(seen(&through), "one");
    // Other options in between change nothing.
    let mixed = ["--tmpfs", "/m", "--hostname", "x", "--ro-bind", &one, "/m/1", "--env", "A=B"];
    let mixed = [&mixed[..], &["--ro-bind", &two, "/m/1", "--uid", "7", "--sysfs"]].concat();
    assert_eq!(sh(&mixed, "cat /m/1/name"), "two");
}

// ---- namespaces --------------------------------------------------------------------------------

/// What becomes of a connection to the caller's loopback interface.
fn net() {
    if let Some(port) = inside::role() {
        let error = TcpStream::connect(("127.0.0.1", port.parse().unwrap())).err();
        println!("{:?}", error.map(|error| error.raw_os_error().unwrap()));
        return;
    }
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let seen = |options: &[&str]| role_inside(options, &port).good();
    let refused = format!("Some({})\n", libc::ECONNREFUSED);
    assert_eq!(seen(&["--net", "host"]), "None\n");
    assert_eq!(seen(&["--net", "loopback"]), refused);
    assert_eq!(seen(&[]), refused);
    assert_eq!(seen(&["--net", "none"]), format!("Some({})\n", libc::ENETUNREACH));
    fails(&["--net", "bridge"], &["'bridge' for '--net <NET>'", "none, loopback, host"]);
}

const KINDS: [(&str, &str); 8] = [
    ("user", "user"),
    ("mount", "mnt"),
    ("pid", "pid"),
    ("network", "net"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("cgroup", "cgroup"),
    ("time", "time"),
];

fn own(link: &str) -> String {
    fs::read_link(format!("/proc/self/ns/{link}")).unwrap().display().to_string()
}

/// Which namespaces the program has in common with the caller.
fn shared(options: &[&str]) -> Vec<&'static str> {
    let script =
        "for n in user mnt pid net ipc uts cgroup time; do readlink /proc/self/ns/$n; done";
    let text = sh(options, script);
    let pairs = KINDS.into_iter().zip(text.lines());
    assert_eq!(text.lines().count(), 8, "{text}");
    pairs.filter(|((_, link), seen)| own(link) == *seen).map(|((name, _), _)| name).collect()
}

fn share() {
    assert!(shared(&[]).is_empty());
    for (name, _) in KINDS {
        match name {
            // The first needs privilege, the other has a test of its own.
            "user" if !is_root() => fails(&["--share", "user"], &["only root makes namespaces"]),
            "pid" => {}
            name => assert_eq!(shared(&["--share", name]), [name]),
        }
    }
    assert_eq!(shared(&["--share", "net", "--share", "ipc"]), ["network", "ipc"]);
    assert_eq!(shared(&["--net", "host"]), ["network"]);
    fails(&["--share", "disk"], &["unknown namespace: \"disk\"", "user, mount, pid, network"]);
}

fn share_pid() {
    fails(&["--share", "pid"], &["no atomic end"]);
    fails(&["--share", "pid", "--without-atomic-end", "--no-init"], &["needs init"]);
    let options = ["--share", "pid", "--without-atomic-end"];
    // No new /proc shows the caller's processes; a pid is told by the shell.
    let mut command = with(&options, "echo $$; read end");
    let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = String::new();
    let mut out = process.stdout.take().unwrap();
    while !said.ends_with('\n') {
        let mut byte = [0];
        out.read_exact(&mut byte).unwrap();
        said.push(char::from(byte[0]));
    }
    assert_eq!(program_of(process.id()).to_string(), said.trim());
    drop(process.stdin.take());
    assert_eq!(process.wait().unwrap().code(), Some(1));
}

fn join() {
    let host = Sandbox::new().hostname("joined").command("sleep").arg("1000").spawn().unwrap();
    let path = |link: &str| format!("/proc/{}/ns/{link}", host.id());
    let identity = |link: &str| fs::read_link(path(link)).unwrap().display().to_string();
    let (user, uts) = (format!("user={}", path("user")), format!("uts={}", path("uts")));
    let ids = sh(&[], "id -u; id -g");
    let ids: Vec<&str> = ids.lines().collect();
    let options = ["--join", &user, "--join", &uts, "--uid", ids[0], "--gid", ids[1]];
    let seen = sh(&options, "uname -n; readlink /proc/self/ns/user /proc/self/ns/uts");
    assert_eq!(seen, format!("joined\n{}\n{}\n", identity("user"), identity("uts")));
    fails(&["--join", "uts"], &["not of the form KIND=PATH"]);
    fails(&["--join", "uts=/no/such"], &["/no/such", "no such file"]);
    fails(&["--join", "disk=/x"], &["unknown namespace"]);
    fails(&["--join", &uts, "--hostname", "x"], &["the uts namespace is joined"]);
}

fn nested_user_namespaces() {
    sh(&["--allow-nesting"], "unshare -U true");
    sh_fails(&[], "unshare -U true", "unshare");
}

fn debugging() {
    sh(&["--allow-debugging"], "setarch -R true");
    sh_fails(&[], "setarch -R true", "personality");
}

fn names() {
    let host = || fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let (before, names) = (host(), "cat /proc/sys/kernel/hostname /proc/sys/kernel/domainname");
    let seen = sh(&["--proc", "full", "--hostname", "build", "--domainname", "site"], names);
    assert_eq!(seen, "build\nsite\n");
    assert_eq!(sh(&["--proc", "full"], names), "stockade\n(none)\n");
    assert_eq!(host(), before);
    fails(&["--hostname", &"x".repeat(65)], &["1 to 64 bytes"]);
}

fn clock(number: libc::clockid_t) -> i64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the time is valid for writing.
    assert_eq!(unsafe { libc::clock_gettime(number, &raw mut time) }, 0);
    time.tv_sec
}

fn clocks() {
    let clocks = || [libc::CLOCK_MONOTONIC, libc::CLOCK_BOOTTIME].map(clock);
    if inside::role().is_some() {
        return println!("{} {}", clocks()[0], clocks()[1]);
    }
    let seen = |options: &[&str]| -> Vec<i64> {
        let text = role_inside(options, "clocks").good();
        text.split_whitespace().map(|number| number.parse().unwrap()).collect()
    };
    for (options, offsets) in [
        (&["--monotonic", "1000000", "--boottime", "2000000"][..], [1_000_000, 2_000_000]),
        (&["--boottime", "3000000"], [0, 3_000_000]),
        (&[], [0, 0]),
    ] {
        let (before, inside, after) = (clocks(), seen(options), clocks());
        for index in 0..2 {
            let range = before[index] + offsets[index]..=after[index] + offsets[index];
            assert!(range.contains(&inside[index]), "{options:?}: {inside:?} is not in {range:?}");
        }
    }
    // Below zero, which no clock goes.
    fails(&["--monotonic", "-99999999999"], &["-99999999999"]);
}

// ---- identity and privilege --------------------------------------------------------------------

fn ids_inside() {
    let ids = "echo $(id -u) $(id -g)";
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let by_default = if is_root() { "1000 1000\n".to_owned() } else { format!("{uid} {gid}\n") };
    assert_eq!(sh(&[], ids), by_default);
    assert_eq!(sh(&["--uid", "7", "--gid", "8"], ids), "7 8\n");
    assert_eq!(sh(&["--uid", "0", "--gid", "0"], ids), "0 0\n");
    fails(&["--uid", "root"], &["'root' for '--uid <UID>'"]);
    fails(&["--gid", "-1"], &["'-1'"]);
    if !is_root() {
        fails(&["--host-ids", "7:8"], &["7"]);
    }
}

fn ids_that_contradict() {
    let (uids, gids) = (["--uid-map", "0:100000:10"], ["--gid-map", "0:100000:10"]);
    let both = [uids, gids].concat();
    fails(&uids, &["--gid-map"]);
    fails(&gids, &["--uid-map"]);
    for other in [&["--host-ids", "7:8"][..], &["--host-root"], &["--own-host-id"], &["--subids"]] {
        fails(&[&both, other].concat(), &["cannot be used with"]);
    }
    fails(&["--own-host-id", "--host-root"], &["cannot be used with"]);
    fails(&["--uid-map", "0:1", "--gid-map", "0:1:1"], &["INSIDE:HOST:COUNT", "'0:1'"]);
    fails(&["--uid-map", "0:1:0", "--gid-map", "0:1:1"], &["the uid range from 0 on is empty"]);
    fails(&[&both[..], &["--uid", "10"]].concat(), &["the program's uid 10 is not in the id map"]);
    if !is_root() {
        fails(&["--own-host-id"], &["hint: "]);
    }
}

/// What --chmod and --chown do to what is given as data.
fn permissions_and_owners() {
    let of = |path: &str| format!("stat -c '%a %u:%g' {path}");
    let ids = sh(&[], "echo $(id -u):$(id -g)");
    let dir = ["--dir", "/d"];
    assert_eq!(sh(&dir, &of("/d")), format!("755 {ids}"));
    let closed = [&dir[..], &["--chmod", "1750", "/d"]].concat();
    assert_eq!(sh(&closed, &of("/d")), format!("1750 {ids}"));
    let mut command = with(&["--file", "7", "/f", "--chmod", "400", "/f"], &of("/f"));
    pass(&mut command, 7, fs::File::open("/dev/null").unwrap());
    assert_eq!(Ran::of(command).good(), format!("400 {ids}"));
    let own = ids.trim_end();
    assert_eq!(sh(&["--dir", "/d", "--chown", own, "/d"], &of("/d")), format!("755 {ids}"));
    fails(&["--dir", "/d", "--chown", "4321:4321", "/d"], &["4321:4321", "no id inside"]);
    fails(&["--dir", "/d", "--chmod", "9", "/d"], &["\"9\" for '--chmod"]);
    fails(&["--dir", "/d", "--chmod", "700", "/e"], &["no --file, --dir or --symlink gives"]);
}

fn generated_etc() {
    let script = "test -e /etc/passwd && echo generated; test -e /usr/bin/env && echo host";
    assert_eq!(sh(&[], script), "generated\nhost\n");
    assert_eq!(sh(&["--generated-etc", "true"], script), "generated\nhost\n");
    assert_eq!(sh(&["--generated-etc", "false"], script), "host\n");
    let empty = ["--empty-root", "--program", "/bin/sh"];
    let script = "test -e /etc/passwd && echo generated; test -e /usr/bin/env && echo host; true";
    let with_empty = |options: &[&str]| {
        let mut command = stockade(&["run"]);
        command.args(empty).args(options).args(["--", "/bin/sh", "-c", script]);
        Ran::of(command).good()
    };
    assert_eq!(with_empty(&[]), "");
    assert_eq!(with_empty(&["--generated-etc", "true"]), "generated\n");
    fails(&["--generated-etc", "maybe"], &["'maybe'"]);
    fails(&["--generated-etc", "true", "--rootfs", "/"], &["cannot be used with"]);
}

fn timezone() {
    let zone = "date -d @0 +%H:%M%z; readlink /etc/localtime || echo none";
    assert!(sh(&[], zone).starts_with("00:00+0000\n"));
    if Path::new("/usr/share/zoneinfo/Asia/Tokyo").exists() {
        let seen = sh(&["--timezone", "Asia/Tokyo"], zone);
        assert_eq!(seen, "09:00+0900\n/usr/share/zoneinfo/Asia/Tokyo\n");
    }
    fails(&["--timezone", "No/Where"], &["No/Where"]);
    fails(&["--timezone", "../../etc/passwd"], &["../../etc/passwd"]);
}

/// A running sandbox of this program's, whose shell has said that it runs.
fn running(options: &[&str], script: &str) -> Running {
    let (reading, writing) = std::io::pipe().unwrap();
    let mut command = with(options, &format!("printf !; {script}"));
    let process = command.stdout(writing).process_group(0).spawn().unwrap();
    // Only the processes that were started hold the pipe from here on.
    drop(command);
    assert_eq!(life::await_byte(&reading, "the program"), b'!');
    Running { process, reading }
}

struct Running {
    process: std::process::Child,
    /// Held open by everything inside.
    reading: std::io::PipeReader,
}

impl Running {
    fn signal(&self, signal: i32) {
        life::signal(self.process.id(), signal);
    }

    /// Waits for its end, after which nobody holds the pipe; what was written, the code and the
    /// signal.
    fn end(mut self) -> (String, Option<i32>, Option<i32>) {
        let status = self.process.wait().unwrap();
        (drain(&self.reading), status.code(), status.signal())
    }
}

/// Reads until nobody holds the other end any more.
fn drain(reading: &impl AsFd) -> String {
    let mut text = Vec::new();
    loop {
        let mut set = [PollFd::new(reading.as_fd(), PollFlags::POLLIN)];
        let ready = poll(&mut set, PollTimeout::try_from(life::SAFETY).unwrap()).unwrap();
        assert_eq!(ready, 1, "somebody still holds the pipe");
        let mut bytes = [0; 4096];
        match nix::unistd::read(reading, &mut bytes).unwrap() {
            0 => return String::from_utf8(text).unwrap(),
            count => text.extend(&bytes[..count]),
        }
    }
}

const ENDLESS: &str = "while :; do sleep 0.01; done";

fn host_ids() {
    for (options, expected) in
        [(&[][..], "65534"), (&["--host-ids", "1234:5678"], "1234"), (&["--host-root"], "0")]
    {
        let running = running(options, ENDLESS);
        let ids = status_field(program_of(running.process.id()), "Uid");
        assert_eq!(ids, [expected; 4].join("\t"), "{options:?}");
        running.signal(libc::SIGTERM);
        assert_eq!(running.end().1, Some(128 + libc::SIGTERM));
    }
    let running = running(&["--host-ids", "1234:5678"], ENDLESS);
    let ids = status_field(program_of(running.process.id()), "Gid");
    assert_eq!(ids, ["5678"; 4].join("\t"));
    running.signal(libc::SIGTERM);
    running.end();
    fails(&["--host-ids", "1234"], &["not of the form UID:GID"]);
}

fn own_host_id() {
    let two = [(), ()].map(|()| running(&["--own-host-id"], ENDLESS));
    let ids = two.each_ref().map(|running| {
        let ids = status_field(program_of(running.process.id()), "Uid");
        ids.split('\t').next().unwrap().parse::<u32>().unwrap()
    });
    assert!(ids.iter().all(|&id| id >= 2_013_265_920) && ids[0] != ids[1], "{ids:?}");
    for running in two {
        running.signal(libc::SIGTERM);
        running.end();
    }
    assert_eq!(sh(&["--own-host-id"], "echo $(id -u) $(id -g)"), "1000 1000\n");
}

fn id_maps() {
    let map = ["--uid-map", "0:100000:100", "--uid-map", "100:7:1", "--gid-map", "0:200000:50"];
    let shown = "awk '{print $1, $2, $3}' /proc/self/uid_map /proc/self/gid_map; id -u; id -g";
    assert_eq!(sh(&map, shown), "0 100000 100\n100 7 1\n0 200000 50\n0\n0\n");
    let running = running(&[&map[..], &["--uid", "100", "--gid", "9"]].concat(), ENDLESS);
    let program = program_of(running.process.id());
    assert_eq!(status_field(program, "Uid"), ["7"; 4].join("\t"));
    assert_eq!(status_field(program, "Gid"), ["200009"; 4].join("\t"));
    running.signal(libc::SIGTERM);
    running.end();
}

fn owners_of_a_map() {
    let map = ["--uid-map", "0:100000:100", "--gid-map", "0:100000:100"];
    let given =
        ["--dir", "/d", "--chown", "33:44", "/d", "--symlink", "d", "/l", "--chown", "5:6", "/l"];
    let owners = sh(&[map.as_slice(), &given].concat(), "stat -c %u:%g /d /l");
    assert_eq!(owners, "33:44\n5:6\n");
    let script = "touch /tmp/f && chown 99:98 /tmp/f && stat -c %u:%g /tmp/f";
    assert_eq!(sh(&[map.as_slice(), &["--cap-add", "chown"]].concat(), script), "99:98\n");
    sh_fails(&map, script, "not permitted");
}

/// Ids from /etc/subuid are what the caller has there; without any, that is the error.
fn subids() {
    let entries = fs::read_to_string("/etc/subuid").unwrap_or_default();
    if entries.lines().any(|line| line.starts_with("root:") || line.starts_with("0:")) {
        let map = sh(&["--subids"], "wc -l </proc/self/uid_map; id -u");
        assert!(map.ends_with("\n0\n"), "{map}");
    } else {
        fails(&["--subids"], &["/etc/subuid"]);
    }
}

fn host_root() {
    let (directory, source) = directory();
    fs::write(directory.path().join("private"), "secret").unwrap();
    let mode = fs::Permissions::from_mode(0o600);
    fs::set_permissions(directory.path().join("private"), mode).unwrap();
    std::os::unix::fs::chown(directory.path().join("private"), Some(4321), None).unwrap();
    // Without capabilities host root is nobody special to another's file.
    for options in [&["--host-root"][..], &[]] {
        let options = [options, &["--ro-bind", &source, "/srv"]].concat();
        sh_fails(&options, "cat /srv/private", "Permission denied");
    }
    fails(&["--host-root", "--host-ids", "1:1"], &["cannot be used with"]);
}

/// A root caller's own files are the program's own.
fn owned_by_root() {
    let (directory, source) = directory();
    fs::write(directory.path().join("private"), "mine").unwrap();
    let mode = fs::Permissions::from_mode(0o600);
    fs::set_permissions(directory.path().join("private"), mode).unwrap();
    assert_eq!(sh(&["--ro-bind", &source, "/srv"], "cat /srv/private"), "mine");
    // The same file by no way but the bind.
    let mut plain = Command::new("cat");
    plain.arg(directory.path().join("private")).uid(65534).gid(65534);
    assert!(!plain.output().unwrap().status.success());
}

fn sets(options: &[&str]) -> [u64; 5] {
    let text = sh(options, "cat /proc/self/status");
    let bits = |field| u64::from_str_radix(&field_of(&text, field), 16).unwrap();
    ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"].map(bits)
}

fn capabilities() {
    let (kill, bind, raw) = (1 << 5, 1 << 10, 1 << 13);
    assert_eq!(sets(&[]), [0; 5]);
    assert_eq!(sets(&["--uid", "0"]), [0; 5]);
    assert_eq!(sets(&["--cap-add", "net_bind_service"]), [bind; 5]);
    assert_eq!(sets(&["--cap-add", "kill,CAP_NET_RAW"]), [kill | raw; 5]);
    assert_eq!(sets(&["--cap-add", "KILL", "--cap-add", "net_raw"]), [kill | raw; 5]);
    let last: u32 =
        fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap().trim().parse().unwrap();
    let all = (1_u64 << (last + 1).min(41)) - 1;
    assert_eq!(sets(&["--cap-add", "all"]), [all; 5]);
    fails(&["--cap-add", "fly"], &["'fly' for '--cap-add <CAP>'", "unknown capability"]);
}

fn low_port() {
    if inside::role().is_some() {
        let error = TcpListener::bind(("127.0.0.1", 80)).err();
        return println!("{:?}", error.map(|error| error.raw_os_error().unwrap()));
    }
    assert_eq!(role_inside(&["--cap-add", "net_bind_service"], "bind").good(), "None\n");
    assert_eq!(role_inside(&[], "bind").good(), format!("Some({})\n", libc::EACCES));
}

fn tier() {
    let reads = |options: &[&str]| with(options, "ls /usr >/dev/null && ! ls /proc && echo weaker");
    let weak = ["--tier", "no-namespaces", "--best-effort", "namespaces,landlock-scopes"];
    let ran = Ran::of(reads(&weak));
    if ran.err.contains("Linux 6.2") {
        return;
    }
    assert!(ran.out.ends_with("weaker\n"), "{}{}", ran.out, ran.err);
    fails(&["--tier", "no-namespaces"], &["a user namespace", "Feature::AtomicEnd"]);
    let parent = inside::open_directory();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(parent.path(), open).unwrap();
    let private = format!("--private-tmp={}", parent.path().display());
    let options = [&weak[..3], &["namespaces,landlock-scopes,id-mapped-mounts", &private]].concat();
    let script = "f=$(mktemp) && echo private >$f && cat ~/$(basename $f); ! ls /tmp 2>&1";
    let ran = Ran::of(with(&options, script));
    assert!(ran.out.starts_with("private\n"), "{}{}", ran.out, ran.err);
    assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0);
    // It is asked for, and not taken because the other is not there.
    let none = |options: &[&str]| {
        let mut command = reads(options);
        without_calls(&mut command, &[libc::SYS_clone3, libc::SYS_unshare], libc::ENOSYS);
        command
    };
    let auto = ["--tier", "auto", "--best-effort", "namespaces,landlock-scopes"];
    Ran::of(none(&["--best-effort", "namespaces"])).refused(125, &["unshare"]);
    assert!(Ran::of(none(&auto)).out.ends_with("weaker\n"));
    assert_eq!(sh(&auto, "ls -d /proc/self"), "/proc/self\n");
}

fn new_privileges() {
    let field = "grep NoNewPrivs /proc/self/status";
    assert_eq!(sh(&[], field), "NoNewPrivs:\t1\n");
    assert_eq!(sh(&["--new-privileges"], field), "NoNewPrivs:\t0\n");
}

/// What a report lists as missing, besides what the kernel's Landlock has not.
fn missing(report: &Value) -> Vec<&str> {
    let names = report["missing"].as_array().unwrap().iter().map(|name| name.as_str().unwrap());
    names.filter(|name| !name.starts_with("landlock")).collect()
}

fn best_effort() {
    let keyless = |options: &[&str]| {
        let mut command = with(options, "echo ran");
        without_calls(&mut command, &[libc::SYS_keyctl], libc::EPERM);
        command
    };
    Ran::of(keyless(&[])).refused(125, &["join new session keyring", "system call filter"]);
    let by_name = ["--best-effort", "session-keyring"];
    assert_eq!(Ran::of(keyless(&by_name)).good(), "ran\n");
    let (ran, report) = reported(keyless(&["--json", "9", "--best-effort", "session-keyring"]));
    assert_eq!((ran.code, missing(&report)), (Some(0), vec!["session-keyring"]));
    // The last word counts.
    let both = ["--best-effort", "session-keyring", "--require", "session-keyring"];
    Ran::of(keyless(&both)).refused(125, &["join new session keyring"]);
    let (_, report) = reported(with(&["--json", "9"], "true"));
    assert_eq!(missing(&report), Vec::<&str>::new());
    fails(&["--best-effort", "everything"], &["session-keyring, time-namespace"]);
    fails(&["--require", "nothing"], &["there are supplementary-groups"]);
}

fn groups_that_cannot_be_dropped() {
    let grouped = |options: &[&str]| {
        let mut command = with(options, "true");
        before(&mut command, || {
            let groups = [65534, 4321];
            // SAFETY: the array is as long as is said.
            let set = unsafe { libc::setgroups(groups.len(), groups.as_ptr()) };
            // SAFETY: takes numbers.
            let gid = unsafe { libc::setgid(65534) };
            // SAFETY: takes numbers.
            let uid = unsafe { libc::setuid(65534) };
            if (set, gid, uid) == (0, 0, 0) { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        });
        command
    };
    let (ran, report) = reported(grouped(&["--json", "9"]));
    assert_eq!((ran.code, missing(&report)), (Some(0), vec!["supplementary-groups"]));
    let required = Ran::of(grouped(&["--require", "supplementary-groups"]));
    required.refused(125, &["this system lacks dropping supplementary groups"]);
}

// ---- limits ------------------------------------------------------------------------------------

fn timeout() {
    assert_eq!(run(&["--timeout", "100ms"], ENDLESS).code, Some(124));
    assert_eq!(run(&["--timeout", "100ms", "--no-init"], ENDLESS).code, Some(124));
    // Nothing inside can keep it.
    let stubborn = format!("trap '' TERM INT HUP; (trap '' TERM; {ENDLESS}) & {ENDLESS}");
    assert_eq!(run(&["--timeout", "100ms"], &stubborn).code, Some(124));
    for long in ["10s", "2m", "1h30m", "100000d", "600"] {
        assert_eq!(run(&["--timeout", long], "exit 3").code, Some(3), "{long}");
    }
    fails(&["--timeout", "0"], &["leaves no time to run"]);
    fails(&["--timeout", "soon"], &["'soon' for '--timeout <TIME>'", "500ms, 10s, 2m or 1h"]);
}

fn grace() {
    let script = "trap 'echo cleaned; exit 7' TERM; while :; do sleep 0.01; done";
    // By then it is asked for.
    let time = &format!("{}ms", common::moment(200).as_millis());
    let ran = run(&["--timeout", time, "--grace", "60s"], script);
    assert_eq!((ran.code, ran.out.as_str()), (Some(124), "cleaned\n"));
    let ran = run(&["--timeout", time], script);
    assert_eq!((ran.code, ran.out.as_str()), (Some(124), ""));
    let ran = run(&["--timeout", "50ms", "--grace", "50ms"], &format!("trap '' TERM; {ENDLESS}"));
    assert_eq!(ran.code, Some(124));
    fails(&["--grace", "1s"], &["--timeout <TIME>"]);
    fails(&["--grace", "1s", "--timeout", "1s", "--no-init"], &["need init"]);
}

fn linger() {
    let late = common::moment(200).as_secs_f64();
    let script = &format!("(trap '' HUP; sleep {late}; echo late) & exit 6");
    let ran = run(&["--linger", "60s"], script);
    assert_eq!((ran.code, ran.out.as_str()), (Some(6), "late\n"));
    let ran = run(&[], script);
    assert_eq!((ran.code, ran.out.as_str()), (Some(6), ""));
}

/// Both values of a limit, as /proc shows them.
fn limit(table: &str, name: &str) -> [String; 2] {
    let line = table.lines().find_map(|line| line.strip_prefix(name));
    let mut values = line.unwrap_or_else(|| panic!("no {name}")).split_whitespace();
    [(); 2].map(|()| values.next().unwrap().to_owned())
}

fn rlimits() {
    if inside::role().is_some() {
        let mut files: Vec<_> = (0..100).map(|_| fs::File::open("/dev/null")).collect();
        files.retain(Result::is_ok);
        let error = fs::File::open("/dev/null").unwrap_err().raw_os_error().unwrap();
        return println!("{} and {error}", files.len());
    }
    let options = ["--rlimit", "nofile=10:20", "--rlimit", "fsize=4k", "--rlimit", "RLIMIT_CPU=7"];
    let table = sh(&options, "cat /proc/self/limits");
    assert_eq!(limit(&table, "Max open files"), ["10", "20"]);
    assert_eq!(limit(&table, "Max file size"), ["4096", "4096"]);
    assert_eq!(limit(&table, "Max cpu time"), ["7", "7"]);
    let usual = sh(&[], "cat /proc/self/limits");
    assert_ne!(limit(&usual, "Max open files"), ["10", "20"]);
    assert_eq!(limit(&usual, "Max cpu time")[0], "unlimited");
    // And it holds.
    let few = role_inside(&["--rlimit", "nofile=20"], "open").good();
    assert_eq!(few, format!("17 and {}\n", libc::EMFILE));
    let ran = run(&["--rlimit", "fsize=1k"], "exec head -c 5000 /dev/zero >/tmp/zero");
    assert_eq!(ran.code, Some(128 + libc::SIGXFSZ));
    assert_eq!(run(&["--rlimit", "cpu=1"], "while :; do :; done").code, Some(128 + libc::SIGKILL));
    // The last one of a name counts.
    let table = sh(&["--rlimit", "nofile=30", "--rlimit", "nofile=31"], "cat /proc/self/limits");
    assert_eq!(limit(&table, "Max open files"), ["31", "31"]);
    fails(&["--rlimit", "nofile"], &["not of the form NAME=N or NAME=SOFT:HARD"]);
    fails(&["--rlimit", "nofile=5:4"], &["the soft limit is above the hard one"]);
    fails(&["--rlimit", "patience=1"], &["unknown resource: \"patience\""]);
    fails(&["--rlimit", "nofile=many"], &["not a size"]);
}

fn nice_and_oom_score() {
    let both = "nice; cat /proc/self/oom_score_adj";
    let seen = sh(&["--nice", "5", "--oom-score-adj", "900"], both);
    assert_eq!(seen, "5\n900\n");
    let usual = fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    let caller = String::from_utf8(Command::new("nice").output().unwrap().stdout).unwrap();
    assert_eq!(sh(&[], both), format!("{caller}{usual}"));
    fails(&["--nice", "20"], &["20 is not in -20..=19"]);
    fails(&["--oom-score-adj", "-1001"], &["-1001 is not in -1000..=1000"]);
}

// ---- the program -------------------------------------------------------------------------------

fn environment() {
    let environment = |options: &[&str]| {
        let mut command = stockade(&["run"]);
        command.env("SECRET", "of the caller").args(options).args(["--", "/usr/bin/env"]);
        let text = Ran::of(command).good();
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let usual = environment(&[]);
    let names: Vec<_> = usual.iter().map(|line| line.split('=').next().unwrap()).collect();
    assert_eq!(names, ["HOME", "LANG", "PATH"]);
    let more = environment(&["--env", "A=1", "--env", "B=x=y", "--env", "LANG=C", "--env", "E="]);
    assert!(["A=1", "B=x=y", "E=", "LANG=C"].iter().all(|pair| more.contains(&(*pair).to_owned())));
    assert_eq!(more.len(), 6, "{more:?}");
    assert_eq!(environment(&["--clear-env", "--env", "A=1"]), ["A=1"]);
    assert!(environment(&["--clear-env"]).is_empty());
    // The last one of a name counts.
    assert_eq!(environment(&["--clear-env", "--env", "A=1", "--env", "A=2"]), ["A=2"]);
    fails(&["--env", "A"], &["'A' for '--env <NAME=VALUE>'", "not of the form"]);
    fails(&["--env", "=1"], &["not of the form NAME=VALUE"]);
}

fn chdir() {
    assert_eq!(sh(&["--chdir", "/usr"], "pwd"), "/usr\n");
    assert_eq!(sh(&[], "test $PWD = $HOME && echo home"), "home\n");
    assert_eq!(sh(&["--tmpfs", "/x/y", "--chdir", "/x/y"], "pwd"), "/x/y\n");
    fails(&["--chdir", "/no/such"], &["change directory \"/no/such\"", "no such file"]);
}

fn argv0_and_umask() {
    let mut command = stockade(&["run", "--argv0", "another"]);
    command.args(["--", "sh", "-c", "cat /proc/$$/cmdline | tr '\\0' ' '"]);
    assert!(Ran::of(command).good().starts_with("another -c "));
    let made = "touch /tmp/f; stat -c %a /tmp/f";
    assert_eq!(sh(&[], made), "644\n");
    assert_eq!(sh(&["--umask", "077"], made), "600\n");
    // The caller's own does not matter.
    let mut command = with(&[], made);
    before(&mut command, || {
        // SAFETY: takes a number.
        unsafe { libc::umask(0o077) };
        Ok(())
    });
    assert_eq!(Ran::of(command).good(), "644\n");
    fails(&["--umask", "9"], &["not an octal number"]);
}

fn no_init() {
    assert_eq!(sh(&["--no-init"], "echo $$"), "1\n");
    assert_eq!(sh(&[], "echo $$; readlink /proc/1/exe || true").lines().next(), Some("2"));
    assert_eq!(run(&["--no-init"], "exit 9").code, Some(9));
    let ran = run(&["--no-init"], "sleep 1000 & exit 9");
    assert_eq!(ran.code, Some(9));
}

fn init_file() {
    let no_memory = |options: &[&str]| {
        let mut command = with(options, "echo ran");
        without_calls(&mut command, &[libc::SYS_memfd_create], libc::EACCES);
        Ran::of(command)
    };
    no_memory(&[]).refused(125, &["memfd_create stockade-init", "permission denied"]);
    let (directory, path) = directory();
    let file = format!("{path}/init");
    assert_eq!(no_memory(&["--init-file", &file]).good(), "ran\n");
    assert_eq!(no_memory(&["--init-file", &file]).good(), "ran\n");
    // Not used, and not made, where memory can be executed.
    fs::remove_file(&file).unwrap();
    sh(&["--init-file", &file], "true");
    assert!(is_absent(Path::new(&file)));
    fs::write(directory.path().join("init"), "something else").unwrap();
    no_memory(&["--init-file", &file]).refused(125, &["verify init file"]);
}

/// What comes after the program is the program's, and need not be text.
fn program_and_arguments() {
    let echo = |arguments: &[&[u8]]| {
        let mut command = stockade(&["run"]);
        command.args(arguments.iter().map(|argument| OsStr::from_bytes(argument)));
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    assert_eq!(echo(&[b"--", b"echo", b"--tmpfs", b"/x"]), b"--tmpfs /x\n");
    assert_eq!(echo(&[b"echo", b"--tmpfs", b"-v", b"--help"]), b"--tmpfs -v --help\n");
    assert_eq!(echo(&[b"--", b"echo", b"a", b"--", b"b"]), b"a -- b\n");
    assert_eq!(echo(&[b"--", b"printf", b"<%s>", b"", b"\xff \n"]), b"<><\xff \n>");
    assert_eq!(echo(&[b"--env", b"X=\xfe", b"sh", b"-c", b"printf %s \"$X\""]), b"\xfe");
    let script = "printf '%s ' \"$0\" \"$@\"";
    assert_eq!(echo(&[b"sh", b"-c", script.as_bytes(), b"zero", b"one"]), b"zero one ");
    let (_directory, path) = directory();
    let odd = PathBuf::from(OsStr::from_bytes(&[path.as_bytes(), b"/\xfd"].concat()));
    fs::write(&odd, "odd").unwrap();
    let odd = odd.as_os_str().as_bytes();
    assert_eq!(echo(&[b"--ro-bind", odd, b"/\xfd", b"cat", b"/\xfd"]), b"odd");
}

// ---- exit codes and messages -------------------------------------------------------------------

fn exit_codes() {
    for options in [&[][..], &["--no-init"]] {
        for code in 0..=255 {
            assert_eq!(run(options, &format!("exit {code}")).code, Some(code), "{options:?}");
        }
    }
}

fn exit_codes_of_signals() {
    let signals = [
        libc::SIGHUP,
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGABRT,
        libc::SIGKILL,
        libc::SIGSEGV,
        libc::SIGTERM,
        libc::SIGSYS,
        64,
    ];
    for signal in signals {
        let ran = run(&[], &format!("kill -{signal} $$; sleep 1000"));
        assert_eq!((ran.code, ran.err.as_str()), (Some(128 + signal), ""));
    }
}

fn exit_codes_of_programs_that_do_not_start() {
    let (directory, source) = directory();
    let made = |name: &str, content: &[u8], mode| {
        let path = directory.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    };
    made("plain", b"#!/bin/sh\n", 0o644);
    made("garbage", b"\x00\x01\x02", 0o755);
    made("orphan", b"#!/no/such/interpreter\n", 0o755);
    made("strange", b"#!/usr\n", 0o755);
    made("good", b"#!/bin/sh\nexit 42\n", 0o755);
    for (program, code, parts) in [
        ("/srv/plain", 126, ["exec \"/srv/plain\"", "permission denied"]),
        ("/srv/garbage", 126, ["exec \"/srv/garbage\"", "exec format error"]),
        ("/usr", 126, ["exec \"/usr\"", "permission denied"]),
        ("/srv/strange", 126, ["/srv/strange", "permission denied"]),
        ("/srv/orphan", 127, ["\"/no/such/interpreter\" of \"/srv/orphan\"", "no such file"]),
        ("/no/such/program", 127, ["exec \"/no/such/program\"", "no such file"]),
        ("no-such-program", 127, ["exec \"no-such-program\"", "no such file"]),
    ] {
        for more in [&[][..], &["--no-init"]] {
            let arguments = [&["run", "--ro-bind", &source, "/srv"], more, &["--", program]];
            Ran::of(stockade(&arguments.concat())).refused(code, &parts);
        }
    }
    let good = ["run", "--ro-bind", &source, "/srv", "--", "/srv/good"];
    assert_eq!(Ran::of(stockade(&good)).code, Some(42));
    // The name is looked up inside, and a program that is outside only is told.
    let outside = format!("{source}/good");
    let hint = format!("it exists on the host only; add bind_same({outside:?})");
    Ran::of(stockade(&["run", "--", &outside])).refused(127, &["exec ", "hint: ", &hint]);
    let path = ["run", "--ro-bind", &source, "/srv", "--env", "PATH=/srv:/usr/bin", "--", "good"];
    assert_eq!(Ran::of(stockade(&path)).code, Some(42));
}

fn exit_codes_of_set_up() {
    fails(&["--ro-bind", "/no/such", "/x"], &["open_tree", "\"/no/such\""]);
    fails(&["--dir", "/usr/share/new-directory"], &["create directory", "hint: "]);
    fails(&["--chdir", "/no/such"], &["change directory"]);
    fails(&["--hostname", ""], &["invalid sandbox: "]);
    // A missing directory is not a missing program, though the error number is the same.
    let (ran, report) = reported(with(&["--json", "9", "--chdir", "/no/such"], "true"));
    assert_eq!((ran.code, &report["errno"]), (Some(125), &json!(libc::ENOENT)));
}

fn wrong_usage() {
    for (arguments, parts) in [
        (&["run"][..], ["required arguments", "PROGRAM", "hint: see --help"]),
        (&["run", "--"], ["required arguments", "PROGRAM", "hint: see --help"]),
        (&["run", "--", ""], ["the program has no name", "", ""]),
        (&["run", "--privileged", "true"], ["'--privileged'", "unexpected", "hint: "]),
        (&["run", "--ro-bind", "/usr"], ["2 values required", "--ro-bind <SRC> <DST>", "1"]),
        (&["run", "--hostnam", "x", "true"], ["'--hostnam'", "'--hostname'", "hint: "]),
        (&["run", "--uid", "1", "--uid", "2", "true"], ["--uid <UID>", "multiple times", "hint: "]),
        (&["run", "--json", "1", "true"], ["'1' for '--json <FD>'", "3..", "hint: "]),
        (&["run", "--json", "x", "true"], ["'x' for '--json <FD>'", "invalid", "hint: "]),
        (&["run", "--env"], ["--env <NAME=VALUE>", "value is required", "hint: "]),
        (&["start", "true"], ["unrecognized subcommand 'start'", "", "hint: "]),
        (&["chek"], ["unrecognized subcommand", "'check'", "hint: "]),
        (&["check", "true"], ["unexpected argument 'true'", "", "hint: "]),
        (&["--verbose=3", "check"], ["--verbose", "unexpected value", "hint: "]),
    ] {
        Ran::of(stockade(arguments)).refused(125, &parts);
    }
    // Without anything: the help, and not a success.
    let ran = Ran::of(stockade(&[]));
    assert_eq!((ran.code, ran.out.as_str()), (Some(125), ""));
    assert!(ran.err.contains("Usage: stockade"), "{ran:?}");
}

fn contradictions_are_told_together() {
    let options = ["--hostname", "", "--tmpfs", "relative", "--env", "A=1", "--linger", "1s"];
    let options = [&options[..], &["--no-init"]].concat();
    fails(&options, &["host name", "\"relative\"", "lingering need init"]);
}

// ---- --json ------------------------------------------------------------------------------------

/// Runs with descriptor 9 as a pipe, from which one line of JSON has to come.
fn reported(mut command: Command) -> (Ran, Value) {
    let (reading, writing) = std::io::pipe().unwrap();
    pass(&mut command, 9, writing);
    let ran = Ran::of(command);
    let text = drain(&reading);
    assert!(text.ends_with('\n') && text.matches('\n').count() == 1, "{text:?} {ran:?}");
    let report: Value = serde_json::from_str(&text).unwrap();
    assert!(report.is_object(), "{text}");
    assert_eq!(report["exit_code"], json!(ran.code.unwrap()), "{text}");
    (ran, report)
}

const JSON: [&str; 2] = ["--json", "9"];

fn json_of_each_end() {
    let kill = format!("kill -{} $$", libc::SIGUSR1);
    for more in [&[][..], &["--no-init"]] {
        let with = |options: &[&str], script| with(&[&JSON, more, options].concat(), script);
        for (command, outcome, code, signal) in [
            (with(&[], "echo out; exit 0"), "exited", json!(0), json!(null)),
            (with(&[], "exit 200"), "exited", json!(200), json!(null)),
            (with(&["--timeout", "100ms"], ENDLESS), "timed_out", json!(null), json!(null)),
        ] {
            let (_, report) = reported(command);
            assert_eq!(report["outcome"], outcome);
            assert_eq!((&report["code"], &report["signal"]), (&code, &signal));
            assert_eq!(report["core_dumped"], json!(false));
        }
    }
    let (_, report) = reported(with(&JSON, &kill));
    let told = (&report["outcome"], &report["code"], &report["signal"]);
    assert_eq!(told, (&json!("signaled"), &json!(null), &json!(libc::SIGUSR1)));
}

fn json_of_what_was_left() {
    let (_, report) = reported(with(&JSON, "sleep 1000 & exit 3"));
    assert_eq!((&report["code"], &report["left_count"]), (&json!(3), &json!(1)));
    let name = report["left"][0]["name"].as_str().unwrap();
    // Killed before its exec, it has the shell's name still.
    assert!(["sleep", "sh", "dash"].contains(&name), "{name}");
    assert!(report["left"][0]["pid"].as_u64().unwrap() > 1);
    let (_, report) = reported(with(&JSON, "exit 3"));
    assert_eq!((&report["left_count"], &report["left"]), (&json!(0), &json!([])));
}

fn json_of_usage() {
    let burn = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; head -c 1000000 /dev/zero | cat >/dev/null";
    for more in [&[][..], &["--no-init"]] {
        let (_, report) = reported(with(&[&JSON, more].concat(), burn));
        let number =
            |name: &str| report["usage"][name].as_u64().unwrap_or_else(|| panic!("{name}"));
        assert!(number("user_us") + number("system_us") > 10_000, "{report}");
        assert!(number("wall_us") > 10_000 && number("minor_faults") > 10, "{report}");
        assert!((1 << 20..1 << 30).contains(&number("peak_rss_of_largest")), "{report}");
        number("major_faults");
        assert!(number("voluntary_switches") + number("involuntary_switches") > 0, "{report}");
    }
}

fn json_of_limits_by_groups() {
    let with = |options: &[&str], script| reported(with(&[&JSON, options].concat(), script));
    // More than its start takes.
    let limit = format!("{}ms", 100 * common::slowness());
    let (ran, report) = with(&["--cpu-time", &limit], ENDLESS);
    assert_eq!((ran.code, &report["outcome"]), (Some(124), &json!("cpu_time")));
    let used = report["usage"]["cpu"]["usage_us"].as_u64().unwrap();
    assert!(used >= 100_000, "{report}");
    let (ran, report) = with(&["--memory", "32m"], "exec tail /dev/zero");
    assert_eq!((ran.code, &report["outcome"]), (Some(137), &json!("out_of_memory")));
    assert_eq!(report["usage"]["memory"]["limit"], json!(32 << 20));
    let bomb = "for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done";
    let (_, report) = with(&["--pids-limit", "5"], bomb);
    assert!(report["usage"]["pids"]["limit_hits"].as_u64().unwrap() > 0, "{report}");
    let (ran, report) = with(&["--io-max", "7:0:rbps=4m"], "exit 4");
    assert_eq!((ran.code, report["usage"]["io"].is_array()), (Some(4), true), "{report}");
    let missing = ["--pids-limit", "5", "--cgroup-parent", "/no/such/group"];
    let (ran, report) = with(&missing, "true");
    ran.refused(125, &["/no/such/group", "mkdir"]);
    assert_eq!(report["stage"], json!("cgroup"));
}

/// What a sandbox with these options has in one of these files of its group; nothing if it is not made.
fn in_the_group(options: &[&str], controller: &str, files: &[&str]) -> Result<String, Ran> {
    let mut command = with(options, "echo; read end");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().unwrap();
    if process.stdout.as_mut().unwrap().read(&mut [0]).unwrap() == 0 {
        drop(process);
        return Err(run(options, "true"));
    }
    let group = groups::group_of(child_of(process.id()), controller);
    let found = files.iter().find_map(|file| fs::read_to_string(group.join(file)).ok());
    process.stdin.take().unwrap().write_all(b"\n").unwrap();
    assert!(process.wait().unwrap().success());
    Ok(found
        .unwrap_or_else(|| panic!("{group:?}"))
        .trim_start_matches("default ")
        .trim()
        .to_owned())
}

fn values_in_groups() {
    let v1 = |controller| common::is_v1(controller) == Some(true);
    let weight = if v1("cpu") { ["512", "1024"] } else { ["50", "100"] };
    let cpu = ["cpu.shares", "cpu.weight"];
    for option in [["--cpu-weight", "50"], ["--cpu-shares", "512"]] {
        assert_eq!(in_the_group(&option, "cpu", &cpu).unwrap(), weight[0]);
    }
    assert_eq!(in_the_group(&["--cpus", "8"], "cpu", &cpu).unwrap(), weight[1]);
    run(&["--cpu-weight", "0"], "true").refused(125, &["CPU weight"]);
    let io = ["blkio.bfq.weight", "blkio.weight", "io.weight", "io.bfq.weight"];
    match in_the_group(&["--io-weight", "50"], "blkio", &io) {
        Ok(weight) => {
            assert_eq!(weight, "50");
            let limit = ["--io-max", "7:0:rbps=4m"];
            assert_eq!(in_the_group(&limit, "blkio", &io).unwrap(), "100");
        }
        // Not every kernel has something that serves disks by weights.
        Err(refused) => refused.refused(125, &["the kernel has no file for it", "weight"]),
    }
    run(&["--io-weight", "0"], "true").refused(125, &["I/O weight"]);
    let raw = ["--cgroup-raw", "pids.max=77"];
    assert_eq!(in_the_group(&raw, "pids", &["pids.max"]).unwrap(), "77");
    let usual = in_the_group(&["--pids-limit", "5"], "pids", &["pids.max"]).unwrap();
    assert_eq!(usual, "6", "init is one");
    for file in ["../pids.max=77", "cgroup.procs=1", "cgroup.max.depth=1"] {
        run(&["--cgroup-raw", file], "true").refused(125, &["no file of a controller's"]);
    }
    run(&["--cgroup-raw", "pids.no_such=1"], "true").refused(125, &["no file for it"]);
    run(&["--cgroup-raw", "pids.max"], "true").refused(125, &["FILE=DATA"]);
}

/// This node has no driver, which is found out after the rules were asked.
fn devices_besides_the_standard_ones() {
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};
    let directory = open_directory();
    let node = directory.path().join("node");
    let mode = Mode::from_bits_truncate(0o666);
    mknod(&node, SFlag::S_IFCHR, mode, makedev(240, 77)).unwrap();
    let bind = ["--dev-bind", node.to_str().unwrap(), "/node", "--host-root"];
    let options = |rule| [&bind[..], &["--device", rule]].concat();
    let open = ": </dev/null </dev/zero; : </node";
    sh_fails(&bind, open, "No such device");
    sh_fails(&options("c 240:77 r"), open, "No such device");
    sh_fails(&options("c 240:78 r"), open, "Operation not permitted");
    sh_fails(&options("c 240:77 w"), open, "Operation not permitted");
    run(&options("nonsense"), open).refused(125, &["--device"]);
}

fn json_of_failures() {
    let missing = ["--", "/no/such/program"];
    let mut command = stockade(&["run"]);
    command.args(JSON).args(missing);
    let (ran, report) = reported(command);
    ran.refused(127, &["/no/such/program"]);
    assert_eq!(report["outcome"], "failed");
    assert_eq!((&report["stage"], &report["operation"]), (&json!("start"), &json!("exec")));
    assert_eq!(report["object"], json!("\"/no/such/program\""));
    assert_eq!(report["errno"], json!(libc::ENOENT));
    let (ran, report) = reported(with(&[&JSON[..], &["--dir", "/usr/new"]].concat(), "true"));
    assert_eq!((ran.code, &report["stage"]), (Some(125), &json!("setup")));
    assert_eq!(report["operation"], "create directory");
    assert!(report["hint"].as_str().unwrap().contains("choose another"), "{report}");
    let told = ran.err.strip_prefix("stockade: ").unwrap().trim_end();
    assert_eq!(report["error"], told);
    // Nothing was tried: no step.
    let (ran, report) = reported(with(&[&JSON[..], &["--hostname", ""]].concat(), "true"));
    assert_eq!((ran.code, &report["stage"]), (Some(125), &json!(null)));
    assert!(report["error"].as_str().unwrap().starts_with("invalid sandbox: "), "{report}");
}

fn json_of_a_killed_init() {
    let (reading, writing) = std::io::pipe().unwrap();
    let (inside, held) = std::io::pipe().unwrap();
    let mut command = with(&JSON, &format!("printf !; {ENDLESS}"));
    pass(&mut command, 9, writing);
    let process = command.stdout(held).stderr(Stdio::piped()).spawn().unwrap();
    drop(command);
    assert_eq!(life::await_byte(&inside, "the program"), b'!');
    life::signal(child_of(process.id()), libc::SIGKILL);
    let output = process.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(128 + libc::SIGKILL));
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(told, "stockade: the sandbox ended early: its init was killed by signal 9\n");
    let report: Value = serde_json::from_str(&drain(&reading)).unwrap();
    assert_eq!((&report["outcome"], &report["signal"]), (&json!("init_killed"), &json!(9)));
    assert_eq!(report["exit_code"], json!(137));
    drain(&inside);
}

/// Neither the program nor the standard streams get it.
fn json_goes_nowhere_else() {
    let (ran, _) = reported(with(&JSON, "ls /proc/self/fd; test ! -e /proc/self/fd/9; echo $?"));
    assert_eq!((ran.out.as_str(), ran.err.as_str()), ("0\n1\n2\n3\n0\n", ""));
    // A file keeps what was written before.
    let (directory, path) = directory();
    let file = directory.path().join("log");
    fs::write(&file, "before\n").unwrap();
    let mut command = with(&JSON, "exit 1");
    pass(&mut command, 9, fs::OpenOptions::new().append(true).open(&file).unwrap());
    assert_eq!(Ran::of(command).code, Some(1), "{path}");
    let text = fs::read_to_string(&file).unwrap();
    let report: Value = serde_json::from_str(text.strip_prefix("before\n").unwrap()).unwrap();
    assert_eq!(report["code"], json!(1));
}

fn json_to_no_descriptor_costs_no_run() {
    let (directory, source) = directory();
    let options = ["--json", "77", "--bind", &source, "/srv"];
    run(&options, "touch /srv/ran").refused(125, &["descriptor 77", "'--json <FD>'", "Bad file"]);
    assert!(is_absent(&directory.path().join("ran")));
    sh(&options[2..], "touch /srv/ran");
    assert!(!is_absent(&directory.path().join("ran")));
}

// ---- what gets in ------------------------------------------------------------------------------

fn standard_streams() {
    let (directory, _) = directory();
    let file = |name: &str| directory.path().join(name);
    fs::write(file("in"), "input").unwrap();
    let mut command = with(&[], "cat; echo error >&2; stat -Lc %i /proc/self/fd/[012]");
    command.stdin(fs::File::open(file("in")).unwrap());
    command.stdout(fs::File::create(file("out")).unwrap());
    command.stderr(fs::File::create(file("err")).unwrap());
    assert!(command.status().unwrap().success());
    let inode = |name: &str| file(name).metadata().unwrap().ino();
    let expected = format!("input{}\n{}\n{}\n", inode("in"), inode("out"), inode("err"));
    assert_eq!(fs::read_to_string(file("out")).unwrap(), expected);
    assert_eq!(fs::read_to_string(file("err")).unwrap(), "error\n");
}

fn standard_input_is_passed_through() {
    let sent: Vec<u8> = (0..3_000_000_u32).map(|number| number as u8).collect();
    let mut command = stockade(&["run", "--", "cat"]);
    let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = process.stdin.take().unwrap();
    let copy = sent.clone();
    let writer = std::thread::spawn(move || input.write_all(&copy).unwrap());
    let output = process.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success() && output.stdout == sent);
    // What the program does not read is there for who comes next.
    let mut script = Command::new("sh");
    script.args(["-c", "\"$0\" run -- sh -c 'read line; echo got $line'; cat", STOCKADE]);
    let mut process = script.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    process.stdin.take().unwrap().write_all(b"first\nsecond\n").unwrap();
    assert_eq!(process.wait_with_output().unwrap().stdout, b"got first\nsecond\n");
}

fn closed_standard_streams() {
    let (directory, source) = directory();
    let mut command = with(&["--bind", &source, "/srv"], "ls -l /proc/self/fd >/srv/list; cat");
    before(&mut command, || {
        for number in 0..3 {
            // SAFETY: the child has no owner of these numbers before its exec.
            unsafe { libc::close(number) };
        }
        Ok(())
    });
    assert!(command.status().unwrap().success());
    let list = fs::read_to_string(directory.path().join("list")).unwrap();
    assert_eq!(list.matches("-> /dev/null").count(), 2, "{list}");
}

fn no_other_descriptor() {
    let (directory, _) = directory();
    let list = "for f in /proc/self/fd/*; do test -e $f && echo ${f##*/}; done; true";
    let given = |mut command: Command| {
        for number in [3, 5, 42, 500] {
            pass(&mut command, number, fs::File::open(directory.path()).unwrap());
        }
        Ran::of(command).good()
    };
    let mut plain = Command::new("sh");
    plain.args(["-c", list]).stdin(Stdio::null());
    let outside = given(plain);
    for number in [3, 5, 42, 500] {
        assert!(outside.lines().any(|line| line == number.to_string()), "{outside}");
    }
    for options in [&[][..], &["--no-init"], &["--share", "pid", "--without-atomic-end"]] {
        let listed = given(with(options, &list.replace("/proc/self/fd/*", "/dev/fd/*")));
        let numbers: Vec<_> = listed.lines().collect();
        if options.len() < 3 {
            assert_eq!(numbers, ["0", "1", "2"], "{options:?}");
        }
        let mut tried = String::new();
        for number in [3, 5, 42, 500] {
            tried.push_str(&format!("(: <&{number}) 2>/dev/null && echo {number};"));
        }
        assert_eq!(given(with(options, &format!("{tried} true"))), "", "{options:?}");
    }
}

/// Its signal settings, its directory, its session.
fn nothing_else_of_the_caller() {
    let status = "cat /proc/self/status; ulimit -c; pwd";
    let mut command = with(&[], status);
    command.current_dir("/usr");
    before(&mut command, || {
        SigSet::all().thread_block()?;
        [libc::SIGPIPE, libc::SIGUSR1, libc::SIGINT].into_iter().for_each(life::ignore);
        Ok(())
    });
    let text = Ran::of(command).good();
    for field in ["SigBlk", "SigIgn", "SigPnd", "ShdPnd"] {
        assert_eq!(field_of(&text, field), "0000000000000000", "{field}");
    }
    assert!(!text.ends_with("\n/usr\n"), "{text}");
    let running = running(&[], ENDLESS);
    let session = |pid: u32| {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        text.rsplit_once(')').unwrap().1.split_whitespace().nth(3).unwrap().to_owned()
    };
    assert_ne!(session(program_of(running.process.id())), session(running.process.id()));
    running.signal(libc::SIGTERM);
    running.end();
}

// ---- explain, check, help, verbose -------------------------------------------------------------

fn explain() {
    let (directory, source) = directory();
    let options = ["--bind", &source, "/srv", "--hostname", "build", "--explain"];
    let plan = sh(&options, "touch /srv/ran");
    assert!(is_absent(&directory.path().join("ran")));
    let sandbox = Sandbox::new().bind_rw(directory.path(), "/srv").hostname("build");
    assert_eq!(plan, sandbox.plan().unwrap().to_string());
    for line in
        ["sethostname \"build\": ", &format!("bind \"{source}\" on \"/srv\""), "pivot_root "]
    {
        assert_eq!(
            plan.lines().filter(|other| other.starts_with(line)).count(),
            1,
            "{line}: {plan}"
        );
    }
    assert_eq!(
        Ran::of(stockade(&["run", "--explain"])).good(),
        Sandbox::new().plan().unwrap().to_string()
    );
    Ran::of(stockade(&["run", "--explain", "--hostname", ""])).refused(125, &["host name"]);
    let ran = Ran::of(stockade(&["run", "--explain", "--env", "A=1", "--", ""]));
    ran.refused(125, &["the program has no name"]);
}

fn check() {
    let table = Ran::of(stockade(&["check"])).good();
    let support = Support::probe();
    let (abilities, limits) = table.split_once("\nLimits by control groups:\n").unwrap();
    assert_eq!(abilities, support.to_string());
    for controller in Support::controllers() {
        // What to do is about the process that asks.
        let row = controller.to_string();
        assert!(limits.contains(row.lines().next().unwrap()), "{row}: {limits}");
    }
    for ability in &support {
        let answer = if ability.available { "yes" } else { "no " };
        let begin = format!("{answer}  {}  ", ability.name);
        let begin = begin.trim_end();
        assert!(table.lines().any(|line| line.starts_with(begin)), "{begin}: {table}");
    }
}

fn check_where_something_is_missing() {
    let mut command = stockade(&["check"]);
    without_calls(&mut command, &[libc::SYS_keyctl], libc::EPERM);
    let ran = Ran::of(command);
    assert_eq!((ran.code, ran.err.as_str()), (Some(125), ""), "{}", ran.out);
    let mut lines = ran.out.lines().skip_while(|line| !line[5..].starts_with("session keyring"));
    assert!(lines.next().unwrap().starts_with("no   session keyring"), "{}", ran.out);
    assert!(lines.next().unwrap().starts_with("     why: join new session keyring: "));
    assert_eq!(
        lines.next().unwrap(),
        "     try: a system call filter of the caller's own may forbid it"
    );
    let line = |name: &str| ran.out.lines().find(|line| line[5..].starts_with(name)).unwrap();
    assert!(line("default sandbox").starts_with("no "), "{}", ran.out);
    assert!(line("pid namespace").starts_with("yes "), "{}", ran.out);
}

fn help_and_version() {
    let version = format!("stockade {}\n", env!("CARGO_PKG_VERSION"));
    for arguments in [["--version"].as_slice(), &["-V"]] {
        assert_eq!(Ran::of(stockade(arguments)).good(), version);
    }
    let help = Ran::of(stockade(&["--help"])).good();
    assert!(["Usage: stockade", "run ", "check "].iter().all(|part| help.contains(part)), "{help}");
    let help = Ran::of(stockade(&["run", "--help"])).good();
    for option in [
        "--ro-bind <SRC> <DST>",
        "--bind <SRC> <DST>",
        "--tmpfs <DST[:SIZE]>",
        "--rootfs <DIR>",
        "--layer <DIR>",
        "--upper <DIR>",
        "--proc <PROC>",
        "--net <NET>",
        "--tier <TIER>",
        "--cap-add <CAP>",
        "--uid <UID>",
        "--gid <GID>",
        "--hostname <NAME>",
        "--env <NAME=VALUE>",
        "--chdir <DIR>",
        "--timeout <TIME>",
        "--rlimit <NAME=N[:N]>",
        "--no-init",
        "--json <FD>",
        "--explain",
    ] {
        assert!(help.contains(option), "{option}: {help}");
    }
    for code in ["124 ", "125 ", "126 ", "127 ", "128+N "] {
        assert!(help.lines().any(|line| line.trim_start().starts_with(code)), "{code}: {help}");
    }
    for arguments in [&["check", "--help"][..], &["help", "run"], &["run", "-h"], &["check", "-V"]]
    {
        assert_ne!(Ran::of(stockade(arguments)).good(), "");
    }
}

fn learn() {
    let ran = run(&["--learn"], "cat /proc/meminfo; exit 3");
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(ran.err.contains("\nsandbox\n"), "{ran:?}");
    assert!(ran.err.contains("\n    .proc(Proc::Compat)\n"), "{ran:?}");
    let quiet =
        run(&["--learn", "--env", "LC_ALL=C", "--proc", "compat"], "cat /proc/meminfo >/dev/null");
    assert_eq!((quiet.code, &*quiet.err), (Some(0), "// nothing was refused\n"), "{quiet:?}");
    assert!(!run(&[], "cat /proc/meminfo").err.contains("sandbox"));
}

fn declared() {
    let system = ["/usr", "/lib", "/lib64", "/bin", "/etc", "/proc", "/dev"];
    let mut options: Vec<_> = system.iter().flat_map(|path| ["--declare-input", path]).collect();
    options.extend(["--declare-output", "/tmp/out", "--declare-input", "/home/user/unread"]);
    options.extend(["--tmpfs", "/scratch", "--env", "LC_ALL=C"]);
    let script = "cat /proc/meminfo /no/such 2>/dev/null; echo >/tmp/out; mkdir /scratch/d; exit 3";
    let ran = run(&options, script);
    assert_eq!((ran.code, &*ran.out), (Some(3), ""), "{ran:?}");
    let (differences, digest) = ran.err.rsplit_once("digest of what was read: ").unwrap();
    assert_eq!(digest.trim_end().len(), 64, "{ran:?}");
    for line in [
        "looked for and not found, and not declared: \"/no/such\"\n",
        "declared, and not read: \"/home/user/unread\"\n",
    ] {
        assert!(differences.contains(line), "{line}: {ran:?}");
    }
    assert!(!differences.contains("/tmp/out"), "{ran:?}");
    assert!(run(&["--declare-output", "out"], ":").err.contains("\"out\" is not absolute"));
    assert_eq!(run(&[], ":").err, "");
}

fn verbose() {
    let said = |options: &[&str]| {
        let mut command = stockade(options);
        command.args(["--", "echo", "out"]);
        let ran = Ran::of(command);
        assert_eq!((ran.code, ran.out.as_str()), (Some(0), "out\n"), "{ran:?}");
        ran.err
    };
    assert_eq!(said(&["run"]), "");
    for options in [&["-v", "run"][..], &["run", "-v"], &["run", "--verbose"], &["-v", "run", "-v"]]
    {
        let text = said(options);
        for stage in ["prepare", "launch", "identity", "setup", "start", "run"] {
            let told = text.lines().any(|line| line.contains(&format!(": {stage}: ")));
            assert!(told, "{stage}: {text}");
        }
        assert!(text.lines().all(|line| line.starts_with("stockade: ")), "{text}");
    }
    // What the caller gives in secret is not told.
    let text = said(&["-vv", "run", "--env", "TOKEN=swordfish"]);
    assert!(!text.contains("swordfish"), "{text}");
}

// ---- signals and the end -----------------------------------------------------------------------

const FORWARDED: [i32; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];

fn signals_end_it() {
    life::adopt_orphans();
    for signal in FORWARDED {
        let running = running(&[], &format!("(trap '' HUP INT TERM; {ENDLESS}) & {ENDLESS}"));
        assert!(life::is_held(&running.reading));
        running.signal(signal);
        assert_eq!(running.end(), (String::new(), Some(128 + signal), None));
        life::await_no_child("the sandbox and its warden");
    }
}

fn signals_are_the_programs_to_handle() {
    for signal in FORWARDED {
        let script = format!("trap 'echo handled; exit 21' {signal}; printf !; {ENDLESS}");
        let running = running(&[], &script);
        assert_eq!(life::await_byte(&running.reading, "the handler"), b'!');
        running.signal(signal);
        assert_eq!(running.end(), ("handled\n".to_owned(), Some(21), None));
    }
    // One that ignores it runs on.
    let script = "trap '' INT; trap 'printf U' USR1; trap 'exit 5' TERM; printf !; ";
    let running = running(&[], &format!("{script}{ENDLESS}"));
    assert_eq!(life::await_byte(&running.reading, "the handler"), b'!');
    running.signal(libc::SIGINT);
    await_no_pending(running.process.id());
    life::signal(program_of(running.process.id()), libc::SIGUSR1);
    assert_eq!(life::await_byte(&running.reading, "the program"), b'U');
    running.signal(libc::SIGTERM);
    assert_eq!(running.end().1, Some(5));
}

fn signals_to_an_init_less_program() {
    let running_pid_1 = |script: &str| {
        let running = running(&["--no-init"], &format!("{script}; printf !; {ENDLESS}"));
        assert_eq!(life::await_byte(&running.reading, "the handler"), b'!');
        running
    };
    let handled = running_pid_1("trap 'exit 22' INT");
    handled.signal(libc::SIGINT);
    assert_eq!(handled.end().1, Some(22));
    // PID 1 is only reached by what it handles, as the help says.
    let unhandled = running_pid_1("trap 'printf U' USR1; trap 'exit 23' TERM");
    unhandled.signal(libc::SIGHUP);
    await_no_pending(unhandled.process.id());
    life::signal(child_of(unhandled.process.id()), libc::SIGUSR1);
    assert_eq!(life::await_byte(&unhandled.reading, "the program"), b'U');
    unhandled.signal(libc::SIGTERM);
    assert_eq!(unhandled.end().1, Some(23));
}

/// Waits for a state of a process that /proc tells of.
fn await_status(pid: u32, field: &str, wanted: impl Fn(u64) -> bool) {
    let until = std::time::Instant::now() + life::SAFETY;
    while !wanted(u64::from_str_radix(&status_field(pid, field), 16).unwrap()) {
        assert!(std::time::Instant::now() < until, "{field} of {pid}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until it has read the signals that were sent to it.
fn await_no_pending(pid: u32) {
    await_status(pid, "ShdPnd", |set| set == 0);
}

/// Sent before the program even started; it reaches the program.
fn a_signal_that_came_early() {
    let mut command = with(&JSON, "sleep 1000");
    before(&mut command, || {
        SigSet::from(Signal::SIGTERM).thread_block()?;
        nix::sys::signal::raise(Signal::SIGTERM)?;
        Ok(())
    });
    let (ran, report) = reported(command);
    assert_eq!((ran.code, &report["signal"]), (Some(128 + libc::SIGTERM), &json!(libc::SIGTERM)));
}

/// A file that is opened for as long as nobody writes to it stands for a dead file system.
fn signals_during_a_set_up_that_hangs() {
    let (directory, _) = directory();
    let hanging = directory.path().join("fifo");
    nix::unistd::mkfifo(&hanging, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let network = format!("network={}", hanging.display());
    let mut command = with(&["--json", "9", "--join", &network], "true");
    let (reading, writing) = std::io::pipe().unwrap();
    pass(&mut command, 9, writing);
    let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
    drop(command);
    await_status(process.id(), "SigBlk", |set| set & 1 << (libc::SIGINT - 1) != 0);
    // The first waits for the program, the second does not.
    life::signal(process.id(), libc::SIGINT);
    await_no_pending(process.id());
    assert!(life::is_held(&reading) && process.try_wait().unwrap().is_none());
    life::signal(process.id(), libc::SIGTERM);
    let report: Value = serde_json::from_str(&drain(&reading)).unwrap();
    let output = process.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(128 + libc::SIGTERM));
    assert_eq!(output.stderr, b"stockade: signal 15 ended the set-up\n");
    assert_eq!((&report["outcome"], &report["exit_code"]), (&json!("failed"), &json!(143)));
}

/// A terminal, and this program as what runs in its foreground.
fn ctrl_c_on_a_terminal() {
    let (keyboard, terminal) = terminal();
    let (reading, writing) = std::io::pipe().unwrap();
    let script = "trap 'echo interrupted' INT; read line; echo got $line";
    let mut command = with(&[], &format!("{script}; {ENDLESS}"));
    let stream = || Stdio::from(terminal.try_clone().unwrap());
    command.stdin(stream()).stdout(writing).stderr(stream());
    before(&mut command, || {
        life::session();
        // SAFETY: this request takes a number; standard input is the terminal by now.
        match unsafe { libc::ioctl(0, libc::TIOCSCTTY, 0) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    });
    let mut process = command.spawn().unwrap();
    drop((command, terminal));
    let mut keyboard = fs::File::from(keyboard);
    keyboard.write_all(b"typed\n").unwrap();
    assert_eq!(read_line(&reading), "got typed\n");
    keyboard.write_all(b"\x03").unwrap();
    assert_eq!(read_line(&reading), "interrupted\n");
    keyboard.write_all(b"\x1c").unwrap();
    assert_eq!(process.wait().unwrap().code(), Some(128 + libc::SIGQUIT));
    drain(&reading);
}

fn read_line(reading: &impl AsFd) -> String {
    let mut line = String::new();
    while !line.ends_with('\n') {
        line.push(char::from(life::await_byte(reading, "the program")));
    }
    line
}

/// Both ends of a new terminal.
fn terminal() -> (OwnedFd, OwnedFd) {
    use std::os::fd::FromRawFd;
    let (mut ours, mut theirs) = (-1, -1);
    let (name, settings) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: both numbers are valid for writing, and nothing else is asked for.
    let made = unsafe {
        libc::openpty(&raw mut ours, &raw mut theirs, name, settings, std::ptr::null_mut())
    };
    assert_eq!(made, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: the kernel just made it.
    let ours = unsafe { OwnedFd::from_raw_fd(ours) };
    // SAFETY: the kernel just made it.
    let theirs = unsafe { OwnedFd::from_raw_fd(theirs) };
    // Neither leaks into what is started.
    for fd in [&ours, &theirs] {
        let flags = nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::FD_CLOEXEC);
        nix::fcntl::fcntl(fd, flags).unwrap();
    }
    (ours, theirs)
}

fn killed() {
    life::adopt_orphans();
    let mounts = life::mounts();
    for options in [&[][..], &["--no-init"], &["--timeout", "1h"]] {
        let script = format!("(trap '' HUP; {ENDLESS}) & setsid sleep 1000 & {ENDLESS}");
        let running = running(options, &script);
        assert!(life::is_held(&running.reading));
        running.signal(libc::SIGKILL);
        assert_eq!(running.end(), (String::new(), None, Some(libc::SIGKILL)));
        life::await_no_child("the sandbox and its warden");
    }
    assert_eq!(life::mounts(), mounts);
}

fn killed_at_any_moment() {
    life::adopt_orphans();
    let mut random = life::Random::new();
    for round in 0..60 {
        let (reading, writing) = std::io::pipe().unwrap();
        let options = if round % 2 == 0 { &[][..] } else { &["--no-init"] };
        let mut command = with(options, ENDLESS);
        let mut process = command.stdout(writing).spawn().unwrap();
        drop(command);
        let micros = random.below(20_000);
        life::spin(Duration::from_micros(micros));
        life::kill_and_reap(&mut process);
        life::await_released(&reading, &format!("what was killed after {micros} µs"));
        life::await_no_child(&format!("killed after {micros} µs"));
    }
}

/// The end of the program is the end of what it left, before this program ends.
fn ended_with_a_detached_daemon() {
    life::adopt_orphans();
    let (reading, writing) = std::io::pipe().unwrap();
    let mut command = with(&[], "setsid sh -c \"trap '' HUP TERM; sleep 1000\" & exit 4");
    let mut process = command.stdout(writing).spawn().unwrap();
    drop(command);
    assert_eq!(process.wait().unwrap().code(), Some(4));
    assert!(!life::is_held(&reading));
    life::await_no_child("the warden");
}

/// Before Linux 6.15 only a parent that does not ignore them is told how its children ended.
fn child_signals_ignored() {
    for (options, old) in
        [(&[][..], false), (&[], true), (&["--no-init"], false), (&["--no-init"], true)]
    {
        for code in [0, 9] {
            let mut command = with(options, &format!("exit {code}"));
            before(&mut command, || {
                life::ignore(libc::SIGCHLD);
                Ok(())
            });
            if old {
                without_questions_to_pidfds(&mut command);
            }
            assert_eq!(Ran::of(command).code, Some(code), "{options:?} {old}");
        }
    }
}

/// As on a kernel that knows no ioctl of a pidfd's; their numbers are of the type 0xff.
fn without_questions_to_pidfds(command: &mut Command) {
    use seccompiler::{SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};
    let kind = SeccompCmpOp::MaskedEq(0xff00);
    let kind = SeccompCondition::new(1, SeccompCmpArgLen::Dword, kind, 0xff00).unwrap();
    let rule = SeccompRule::new(vec![kind]).unwrap();
    filter(command, [(libc::SYS_ioctl, vec![rule])].into(), libc::ENOTTY);
}
