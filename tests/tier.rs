//! A sandbox without namespaces: what it keeps a program from, where namespaces cannot be made.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::exit,
    clippy::incompatible_msrv,
    clippy::cast_possible_truncation,
    reason = "a test process, built by a current toolchain, fails by panicking"
)]
#![allow(unsafe_code, reason = "restrictions that a test puts on its own process")]

mod common;
#[path = "common/inside.rs"]
mod inside;
#[path = "common/life.rs"]
mod life;

use std::fs::{self, Permissions};
use std::io::Write;
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixDatagram, UnixListener, UnixStream};
use std::path::Path;
use std::process::exit;

use common::Needs;
use inside::{is_root, open_directory, role, sh, shell, succeed};
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::symlinkat;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use seccompiler::{SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};
use stockade::{
    Bind, Command, Error, Feature, Landlock, Namespaces, Network, Outcome, Proc, Sandbox, Seccomp,
    Stdio,
};

tests! {
    Needs::Landlock(6) => [
        where_no_namespace_can_be_made, files_outside, files_that_are_shown, attributes,
        attributes_by_name, sockets, hosts_network, abstract_sockets, processes_outside,
        what_is_missing_is_told, the_end, the_time, limits_of_others, queues_and_keys,
        strongest_available, whatever_the_profile, given_files, less_beneath_more,
        private_tmp, whatever_is_left_in_it, private_tmp_of_the_dead,
    ];
    Needs::Nothing => [unnamed_is_an_error, contradictions, told_in_the_plan];
    Needs::Root => [root_is_nobody];
    Needs::Installed(&["gcc"]) => [a_compiler];
    Needs::UnprivilegedAndLandlock(6) => [the_end_of_the_embedder];
}

const LOST: [Feature; 9] = [
    Feature::UserNamespace,
    Feature::MountNamespace,
    Feature::PidNamespace,
    Feature::AtomicEnd,
    Feature::NetworkNamespace,
    Feature::IpcNamespace,
    Feature::UtsNamespace,
    Feature::CgroupNamespace,
    Feature::TimeNamespace,
];

/// Without namespaces, and with what that is bound to lack.
fn weak() -> Sandbox {
    let sandbox = Sandbox::new().without_namespaces().best_effort(Feature::IdMappedMounts);
    LOST.into_iter().fold(sandbox, Sandbox::best_effort)
}

/// From here on this process can make no namespace, as in a hardened container.
fn forbid_namespaces() {
    const NEW: u64 = 0x7e02_0080;
    let any = (0..64).filter(|bit| NEW >> bit & 1 != 0).map(|bit| {
        let one = 1u64 << bit;
        let compare = SeccompCmpOp::MaskedEq(one);
        let length = SeccompCmpArgLen::Dword;
        SeccompRule::new(vec![SeccompCondition::new(0, length, compare, one).unwrap()]).unwrap()
    });
    // Of clone these bits are the signal.
    let any: Vec<_> = any.collect();
    let of_clone = any[1..].to_vec();
    let filter = |errno: i32, rules| {
        let (allow, deny) = (SeccompAction::Allow, SeccompAction::Errno(errno.cast_unsigned()));
        let architecture = std::env::consts::ARCH.try_into().unwrap();
        let filter = SeccompFilter::new(rules, allow, deny, architecture).unwrap();
        seccompiler::apply_filter(&BpfProgram::try_from(filter).unwrap()).unwrap();
    };
    // SAFETY: this option takes numbers.
    assert_eq!(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }, 0);
    filter(libc::ENOSYS, [(libc::SYS_clone3, vec![])].into());
    filter(
        libc::EPERM,
        [(libc::SYS_clone, of_clone), (libc::SYS_unshare, any), (libc::SYS_setns, vec![])].into(),
    );
}

/// A directory that everybody may write to, with a file that everybody may.
fn public() -> tempfile::TempDir {
    let directory = open_directory();
    let file = directory.path().join("file");
    fs::write(&file, "kept\n").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o666)).unwrap();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o777)).unwrap();
    directory
}

/// This binary at its own path, to run the same test in another role.
fn myself(sandbox: &Sandbox, test: &str, role: &str) -> Command {
    let binary = std::env::current_exe().unwrap();
    let command = sandbox.clone().bind_same(&binary).command(&binary);
    command.env("STOCKADE_TEST_CHILD", test).env("STOCKADE_TEST_ROLE", role)
}

fn errno(result: std::io::Result<impl Sized>) -> i32 {
    result.err().map_or(0, |error| error.raw_os_error().unwrap())
}

fn where_no_namespace_can_be_made() {
    forbid_namespaces();
    let error = Sandbox::new().command("true").spawn().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{error}");
    assert!(error.to_string().contains("without_namespaces()"), "{error}");
    assert_eq!(sh(&weak(), "echo works"), "works\n");
    let work = public();
    let sandbox = weak().bind_rw(work.path(), work.path());
    let script = format!("sort -r >{}/sorted", work.path().display());
    let mut child =
        sandbox.command("sh").args(["-c", &script]).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"a\nb\n").unwrap();
    assert!(child.wait().unwrap().outcome.is_success());
    assert_eq!(fs::read(work.path().join("sorted")).unwrap(), b"b\na\n");
}

fn files_outside() {
    let outside = public();
    let file = outside.path().join("file");
    let script = |file: &Path| {
        let (file, directory) = (file.display(), file.parent().unwrap().display());
        format!(
            "n=0; try() {{ (eval \"$1\") 2>/dev/null && n=$((n+1)); }}
             try 'cat {file}'; try 'ls {directory}'; try 'echo x >>{file}'; try 'touch {directory}/new'
             try 'mkdir {directory}/d'; try 'rm {file}'; try 'ln -s x {directory}/l'
             try 'mv {file} {directory}/g'; try 'truncate -s 0 {file}'; try 'cp /usr/bin/env {directory}'
             echo $n"
        )
    };
    assert_eq!(sh(&weak(), &script(&file)), "0\n");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
    assert_eq!(fs::read(&file).unwrap(), b"kept\n");
    // The same where it is shown: the script can succeed.
    let shown = weak().bind_rw(outside.path(), outside.path());
    assert_ne!(sh(&shown, &script(&file)), "0\n");
    assert_eq!(fs::read_dir(outside.path()).unwrap().filter(|_| true).count(), 5);
    for secret in
        ["/etc/shadow", "/etc/passwd", "/proc/self/environ", "/proc/1/status", "/sys", "/"]
    {
        let output = shell(&weak(), &format!("ls {secret}/ || cat {secret}"));
        assert!(!output.outcome.is_success(), "{secret}: {output:?}");
    }
    for place in ["/tmp", "/var/tmp", "/dev/shm", "/home"] {
        let output = shell(&weak(), &format!("echo x >{place}/stockade-was-here"));
        assert!(!output.outcome.is_success(), "{place}: {output:?}");
        assert!(!Path::new(place).join("stockade-was-here").exists());
    }
    let copy = outside.path().join("program");
    fs::copy("/bin/true", &copy).unwrap();
    let error = weak().command(&copy).spawn().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EACCES), "{error}");
}

fn files_that_are_shown() {
    let work = public();
    let path = work.path().display();
    let read_only = weak().bind_same(work.path());
    assert_eq!(sh(&read_only, &format!("cat {path}/file; ls {path}")), "kept\nfile\n");
    for script in ["echo x >>{}/file", "touch {}/new", "rm {}/file", ": >{}/file"] {
        let script = script.replace("{}", work.path().to_str().unwrap());
        assert!(!shell(&read_only, &script).outcome.is_success(), "{script}");
    }
    let copy = work.path().join("program");
    fs::copy("/bin/true", &copy).unwrap();
    assert!(read_only.command(&copy).status().unwrap().outcome.is_success());
    let data = weak().bind(Bind::read_only(work.path(), work.path()).no_exec());
    assert_eq!(data.command(&copy).spawn().unwrap_err().raw_os_error(), Some(libc::EACCES));
    let writable = weak().bind_rw(work.path(), work.path());
    sh(&writable, &format!("cd {path} && mkdir a && echo x >a/b && mv a/b c && ln c d && rm -r a"));
    assert_eq!(fs::read(work.path().join("d")).unwrap(), b"x\n");
    let gone = weak().bind_same(work.path().join("missing")).command("true").spawn().unwrap_err();
    assert_eq!(gone.raw_os_error(), Some(libc::ENOENT), "{gone}");
    let alone = Sandbox::new().rootfs(stockade::Rootfs::empty()).program("/bin/sh");
    let alone = LOST.into_iter().fold(alone.without_namespaces(), Sandbox::best_effort);
    assert_eq!(sh(&alone, "echo alone"), "alone\n");
    assert!(alone.command("/bin/ls").spawn().is_err());
}

/// Each changes something that the file has besides its content.
fn changes(file: &str) -> [String; 5] {
    [
        format!("chmod 600 {file}"),
        format!("touch -d @1000 {file}"),
        format!("chmod u+w . && chown $(id -u) {file}"),
        format!("python3 -c 'import os; os.setxattr(\"{file}\", \"user.x\", b\"y\")'"),
        format!("python3 -c 'import os; os.fchmod(os.open(\"{file}\", os.O_RDONLY), 0o600)'"),
    ]
}

/// A file that is the program's own on the host.
fn owned() -> (tempfile::TempDir, String) {
    let directory = public();
    let file = directory.path().join("file");
    if is_root() {
        std::os::unix::fs::chown(&file, Some(65534), Some(65534)).unwrap();
    }
    let name = file.to_str().unwrap().to_owned();
    (directory, name)
}

fn attributes() {
    let (directory, file) = owned();
    let before = fs::metadata(&file).unwrap();
    let sandboxes = [weak(), weak().bind_same(directory.path())];
    for sandbox in sandboxes {
        for change in changes(&file) {
            assert!(!shell(&sandbox, &change).outcome.is_success(), "{change}");
        }
    }
    let after = fs::metadata(&file).unwrap();
    assert_eq!(before.permissions(), after.permissions());
    assert_eq!(before.modified().unwrap(), after.modified().unwrap());
}

fn attributes_by_name() {
    let (directory, file) = owned();
    let sandbox = weak().bind_rw(directory.path(), directory.path());
    let sandbox = sandbox.best_effort(Feature::FileAttributes);
    for change in changes(&file).iter().take(2) {
        assert!(shell(&sandbox, change).outcome.is_success(), "{change}");
    }
    let after = fs::metadata(&file).unwrap();
    assert_eq!(after.permissions().mode() & 0o7777, 0o600);
    let child = sandbox.command("true").spawn().unwrap();
    assert!(child.missing().contains(&Feature::FileAttributes));
}

fn sockets() {
    if let Some(path) = role() {
        let path = Path::new(&path);
        let pair = |kind| {
            let mut fds = [0; 2];
            // SAFETY: there is room for two.
            let made = unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, fds.as_mut_ptr()) };
            made == 0
        };
        let results = [
            errno(UnixStream::connect(path)),
            errno(UnixDatagram::unbound()),
            errno(UdpSocket::bind("127.0.0.1:0")),
            errno(TcpListener::bind("127.0.0.1:0")),
        ];
        print!("{results:?} {} {}", pair(libc::SOCK_STREAM), pair(libc::SOCK_DGRAM));
        exit(0);
    }
    let directory = public();
    let path = directory.path().join("socket");
    let log = directory.path().join("log");
    let _listening = UnixListener::bind(&path).unwrap();
    let _receiving = UnixDatagram::bind(&log).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
    let none = libc::EAFNOSUPPORT;
    // Even where the socket's directory may be written.
    let sandbox = weak().bind_rw(directory.path(), directory.path());
    let role = path.to_str().unwrap();
    for sandbox in [weak(), sandbox] {
        let told = succeed(myself(&sandbox, "sockets", role));
        assert_eq!(told, format!("{:?} true false", [none; 4]));
    }
    // Outside of it all of them are there.
    let output = inside::myself_outside("sockets", role).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "[0, 0, 0, 0] true true");
}

fn hosts_network() {
    if let Some(port) = role() {
        let stream = std::net::TcpStream::connect(("127.0.0.1", port.parse().unwrap()));
        print!("{} {}", errno(stream), errno(UnixDatagram::unbound()));
        exit(0);
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let sandbox = weak().network(Network::Host);
    let told = succeed(myself(&sandbox, "hosts_network", &port));
    assert_eq!(told, format!("0 {}", libc::EAFNOSUPPORT));
    let told = succeed(myself(
        &sandbox.landlock(Landlock::default().connect_tcp([1])),
        "hosts_network",
        &port,
    ));
    assert_eq!(told, format!("{} {}", libc::EACCES, libc::EAFNOSUPPORT));
}

/// With a socket that it is given, as it can make none.
fn abstract_sockets() {
    let name = format!("stockade-tier-{}", std::process::id());
    let address = |name: &str| SocketAddr::from_abstract_name(name).unwrap();
    if let Some(name) = role() {
        // SAFETY: the descriptor was given to this process, and nobody else has it.
        let socket: UnixDatagram = unsafe { std::os::fd::FromRawFd::from_raw_fd(7) };
        print!("{}", errno(socket.connect_addr(&address(&name))));
        exit(0);
    }
    let _listening = UnixDatagram::bind_addr(&address(&name)).unwrap();
    for (wall, expected) in [(true, libc::EPERM), (false, 0)] {
        let socket = UnixDatagram::unbound().unwrap();
        let sandbox = if wall { weak() } else { Sandbox::new().network(Network::Host) };
        let sandbox = if wall { sandbox } else { sandbox.landlock(Landlock::none()) };
        let command = myself(&sandbox, "abstract_sockets", &name);
        assert_eq!(
            succeed(command.fd(7, std::os::fd::OwnedFd::from(socket))),
            expected.to_string()
        );
    }
}

fn processes_outside() {
    if let Some(pid) = role() {
        let pid: i32 = pid.parse().unwrap();
        let number = |result: i64| {
            if result < 0 { errno(Err::<(), _>(std::io::Error::last_os_error())) } else { 0 }
        };
        let mut byte = 0u8;
        let local = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
        let remote = libc::iovec { iov_base: (&raw const byte).cast_mut().cast(), iov_len: 1 };
        // SAFETY: the addresses are those of a byte of this process.
        let read =
            unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
        let read = number(read as i64);
        // SAFETY: takes numbers.
        let traced = number(unsafe { libc::ptrace(libc::PTRACE_ATTACH, pid, 0, 0) });
        // SAFETY: takes numbers.
        let killed = number(i64::from(unsafe { libc::kill(pid, libc::SIGKILL) }));
        let environment = errno(fs::read(format!("/proc/{pid}/environ")));
        let program = errno(fs::read_link(format!("/proc/{pid}/exe")));
        print!("{:?}", [read, traced, killed, environment, program]);
        exit(0);
    }
    // It is of the same user as the program.
    let mut victim = std::process::Command::new("sleep");
    if is_root() {
        std::os::unix::process::CommandExt::uid(&mut victim, 65534);
        std::os::unix::process::CommandExt::gid(&mut victim, 65534);
    }
    let mut victim = victim.arg("1000").spawn().unwrap();
    let sandbox = weak().seccomp(Seccomp::none());
    let told = succeed(myself(&sandbox, "processes_outside", &victim.id().to_string()));
    let (no, denied) = (libc::EPERM, libc::EACCES);
    assert_eq!(told, format!("{:?}", [no, no, no, denied, denied]));
    assert!(victim.try_wait().unwrap().is_none());
    let embedder = succeed(myself(&sandbox, "processes_outside", &std::process::id().to_string()));
    assert!(!embedder.contains(" 0") && !embedder.contains("[0"), "{embedder}");
    // All of them, as far as they are the same user's.
    shell(&weak(), "kill -9 -1");
    assert!(victim.try_wait().unwrap().is_none());
    victim.kill().unwrap();
    victim.wait().unwrap();
}

fn what_is_missing_is_told() {
    let sandbox = weak();
    let child = sandbox.command("true").spawn().unwrap();
    for feature in LOST {
        assert!(child.missing().contains(&feature), "{feature:?}");
    }
    for feature in [Feature::Landlock, Feature::LandlockScopes, Feature::FileAttributes] {
        assert!(!child.missing().contains(&feature), "{feature:?}");
    }
    // What is not asked for is not missing.
    let shared = weak().namespaces(Namespaces::all() - Namespaces::UTS).command("true").spawn();
    assert!(!shared.unwrap().missing().contains(&Feature::UtsNamespace));
    let outside = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(sh(&weak().hostname("other"), "uname -n"), outside);
}

/// Processes with this number in their arguments, by /proc.
fn alive(mark: u32) -> usize {
    let mark = mark.to_string();
    let all = fs::read_dir("/proc").unwrap().flatten();
    let lines = all.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| line.split(|&byte| byte == 0).any(|word| word == mark.as_bytes())).count()
}

fn mark() -> u32 {
    3_000_000 + std::process::id()
}

/// They have left their parents, their session and their signals.
fn leaving(mark: u32) -> String {
    format!(
        "setsid sleep {mark} & (trap '' TERM HUP INT; sleep {mark} & ) & \
         sh -c 'setsid sh -c \"sleep {mark} & sleep {mark}\" &' ; sleep 0.2"
    )
}

fn the_end() {
    let mark = mark();
    let script = leaving(mark);
    let status = weak().command("sh").args(["-c", &script]).status().unwrap();
    assert_eq!(status.outcome, Outcome::Exited(0));
    assert_eq!(alive(mark), 0);
    let script = format!("{script}; echo ready; sleep {mark}");
    let command = weak().command("sh").args(["-c", &script]).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut byte = [0];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut byte).unwrap();
    assert!(alive(mark) >= 4);
    drop(child);
    assert_eq!(alive(mark), 0);
}

fn the_time() {
    let mark = mark();
    let sandbox = weak().wall_time(std::time::Duration::from_millis(300));
    let script = format!("{}; sleep {mark}", leaving(mark));
    let status = sandbox.command("sh").args(["-c", &script]).status().unwrap();
    assert_eq!(status.outcome, Outcome::TimedOut);
    assert_eq!(alive(mark), 0);
}

fn the_end_of_the_embedder() {
    let mark = mark();
    let (reading, writing) = std::io::pipe().unwrap();
    let embedder = life::fork(|| {
        let script = format!("{}; echo ready; sleep {mark}", leaving(mark));
        let command = weak().command("sh").args(["-c", &script]);
        let _child =
            command.stdout(Stdio::from(std::os::fd::OwnedFd::from(writing))).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_secs(1000));
    });
    let mut byte = [0];
    std::io::Read::read_exact(&mut &reading, &mut byte).unwrap();
    assert!(alive(mark) >= 4);
    // SAFETY: takes numbers.
    assert_eq!(unsafe { libc::kill(embedder, libc::SIGKILL) }, 0);
    // SAFETY: no status is wanted.
    unsafe { libc::waitpid(embedder, std::ptr::null_mut(), 0) };
    while alive(mark) > 0 {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

fn limits_of_others() {
    let parent = std::process::id();
    for change in
        ["prlimit --nofile=100 --pid", "renice -n 19 -p", "ionice -c 3 -p", "taskset -p 1"]
    {
        let output = shell(&weak(), &format!("{change} {parent}"));
        assert!(!output.outcome.is_success(), "{change}: {output:?}");
    }
    // Its own are its own.
    assert_eq!(sh(&weak(), "ulimit -S -n 100; nice -n 5 sh -c 'ulimit -n; nice'"), "100\n5\n");
}

fn queues_and_keys() {
    if role().is_some() {
        let last = |result: i64| {
            if result < 0 { errno(Err::<(), _>(std::io::Error::last_os_error())) } else { 0 }
        };
        let name = c"/stockade-tier";
        // SAFETY: takes numbers.
        let shared = last(i64::from(unsafe { libc::shmget(libc::IPC_PRIVATE, 4096, 0o1600) }));
        // SAFETY: the name ends in NUL, and there are no attributes.
        let queue = unsafe { libc::mq_open(name.as_ptr(), libc::O_CREAT | libc::O_RDWR, 0o600, 0) };
        let queue = last(i64::from(queue));
        // SAFETY: takes numbers.
        let key = last(unsafe { libc::syscall(libc::SYS_keyctl, 0, -4, 0) });
        // SAFETY: takes no address that is looked at before the number.
        let ring = last(unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, 0) });
        print!("{:?}", [shared, queue, key, ring]);
        exit(0);
    }
    let sandbox = weak().seccomp(Seccomp::none());
    let told = succeed(myself(&sandbox, "queues_and_keys", "inside"));
    let no = libc::EPERM;
    assert_eq!(told, format!("{:?}", [no, no, no, libc::ENOSYS]));
}

fn strongest_available() {
    let asked = || LOST.into_iter().fold(Sandbox::new(), Sandbox::best_effort);
    let strong = asked().strongest_available().unwrap();
    assert_eq!(strong.plan().unwrap().namespaces(), Namespaces::all());
    assert!(
        strong.command("true").spawn().unwrap().missing().iter().all(|one| !LOST.contains(one))
    );
    forbid_namespaces();
    let weak = asked().strongest_available().unwrap();
    assert_eq!(weak.plan().unwrap().namespaces(), Namespaces::empty());
    let child = weak.command("true").spawn().unwrap();
    assert!(child.missing().contains(&Feature::PidNamespace));
    // Nobody said that it may be missing.
    let error = Sandbox::new().strongest_available().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{error}");
    assert!(matches!(Sandbox::new().nice(99).strongest_available(), Err(Error::Invalid(_))));
}

fn whatever_the_profile() {
    let (directory, file) = owned();
    for profile in [Seccomp::none(), Seccomp::deny_list(["reboot"]), Seccomp::strict()] {
        let sandbox = weak().seccomp(profile.clone()).bind_same(directory.path());
        for change in changes(&file).iter().take(2) {
            assert!(!shell(&sandbox, change).outcome.is_success(), "{profile:?}: {change}");
        }
        assert!(!shell(&sandbox, "unshare --user true").outcome.is_success());
    }
}

/// What is opened already is of use, by its name too.
fn given_files() {
    let directory = public();
    let file = fs::File::open(directory.path().join("file")).unwrap();
    let command = weak().command("sh").args(["-c", "cat; echo x >/proc/self/fd/0; echo $?"]);
    let output = command.stdin(Stdio::from(file)).output().unwrap();
    assert!(
        output.stdout.starts_with(b"kept\n") && !output.stdout.ends_with(b"\n0\n"),
        "{output:?}"
    );
    assert_eq!(fs::read(directory.path().join("file")).unwrap(), b"kept\n");
    let new = fs::File::create(directory.path().join("new")).unwrap();
    let status = weak().command("echo").arg("text").stdout(Stdio::from(new)).status().unwrap();
    assert!(status.outcome.is_success());
    assert_eq!(fs::read(directory.path().join("new")).unwrap(), b"text\n");
    let script = "ls /proc/self/fd/5/ && echo x >/proc/self/fd/5/by-name";
    let opened = fs::File::open(directory.path()).unwrap();
    let command = weak().command("sh").args(["-c", script]);
    let output = command.fd(5, std::os::fd::OwnedFd::from(opened)).output().unwrap();
    assert!(output.outcome.is_success(), "{output:?}");
}

/// Rules of Landlock's add up.
/// With the two lines that it needs: a place for what comes and goes, and modes.
fn a_compiler() {
    let work = public();
    let path = work.path().to_str().unwrap();
    fs::write(work.path().join("a.c"), "int main(void) { return 7; }").unwrap();
    let sandbox = weak().bind_rw(path, path).best_effort(Feature::FileAttributes);
    let sandbox = sandbox.best_effort(Feature::LandlockScopes);
    let gcc = sandbox.command("gcc").args(["a.c", "-o", "a"]).current_dir(path).env("TMPDIR", path);
    let output = match gcc.output() {
        Err(Error::Unsupported { feature: Feature::Landlock, .. }) => return,
        other => other.unwrap(),
    };
    assert!(output.outcome.is_success(), "{output:?}");
    let program = work.path().join("a");
    assert_eq!(sandbox.command(program).status().unwrap().outcome, Outcome::Exited(7));
}

fn less_beneath_more() {
    let directory = public();
    let below = directory.path().join("below");
    fs::create_dir(&below).unwrap();
    fs::set_permissions(&below, Permissions::from_mode(0o777)).unwrap();
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&below, &link).unwrap();
    for place in [&below, &link] {
        let sandbox = weak().bind_rw(directory.path(), directory.path()).bind_same(place);
        let error = sandbox.plan().unwrap_err();
        let Error::Unsupported { feature: Feature::MountNamespace, reason } = &error else {
            panic!("{error}");
        };
        assert!(reason.contains("below"), "{reason}");
    }
    let system = weak().bind(Bind::read_only("/usr/share", "/usr/share").no_exec());
    assert!(system.plan().is_err());
    let more = weak().bind_same(directory.path()).bind_rw(&below, &below);
    sh(&more, &format!("echo x >{}/new", below.display()));
    assert!(below.join("new").exists());
}

/// With a directory of its own to write to.
fn in_private(tmp: &stockade::PrivateTmp, script: &str) -> stockade::Output {
    let command = weak().bind_rw(tmp.path(), tmp.path()).command("sh").args(["-c", script]);
    command.env("TMPDIR", tmp.path()).env("HOME", tmp.path()).output().unwrap()
}

fn private_tmp() {
    let parent = open_directory();
    let both = [(); 2].map(|()| weak().private_tmp(parent.path()).unwrap());
    let other = both[1].path().display();
    let script = format!(
        "umask 0; f=$(mktemp) && echo kept >$f && cat $f && mkdir -p ~/a/b && cd ~/a && pwd
         for place in {} {other}; do touch $place/x || ls $place || echo refused; done",
        parent.path().display()
    );
    let output = in_private(&both[0], &script);
    let home = both[0].path().display().to_string();
    let expected = format!("kept\n{home}/a\nrefused\nrefused\n");
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{output:?}");
    assert_eq!(fs::read_dir(both[1].path()).unwrap().count(), 0);
    let found = fs::metadata(both[0].path()).unwrap();
    let id = if is_root() { 65534 } else { nix::unistd::geteuid().as_raw() };
    let owner = std::os::unix::fs::MetadataExt::uid(&found);
    assert_eq!((owner, found.permissions().mode() & 0o7777), (id, 0o700));
    let [first, second] = both;
    first.close().unwrap();
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
    drop(second);
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    // In a sandbox with namespaces, too.
    let sandbox = Sandbox::new();
    let tmp = sandbox.private_tmp(parent.path()).unwrap();
    sh(&sandbox.bind_rw(tmp.path(), tmp.path()), &format!("echo x >{}/x", tmp.path().display()));
    let nowhere = weak().private_tmp(parent.path().join("nowhere")).unwrap_err();
    assert_eq!(nowhere.raw_os_error(), Some(libc::ENOENT), "{nowhere}");
}

/// A program chooses what is to be removed: trees that no path is long enough for, what it has forbidden
/// itself, and links to what is not its own.
fn whatever_is_left_in_it() {
    let (parent, victim) = (open_directory(), public());
    let tmp = weak().private_tmp(parent.path()).unwrap();
    let script = format!(
        "cd ~; ln -s {victim} link; ln -s {victim}/file file; mkfifo fifo
         mkdir -m 0 shut; mkdir -p half/shut; touch half/shut/x; mkdir half/shut/y deep wide
         cd wide; for i in $(seq 1000); do : >n$i; done; echo made",
        victim = victim.path().display()
    );
    let output = in_private(&tmp, &script);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "made\n", "{output:?}");
    let (flags, mode) = (OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::from_bits_truncate(0o700));
    let mut at = open(&tmp.path().join("deep"), flags, mode).unwrap();
    for _ in 0..1500 {
        mkdirat(&at, "d", mode).unwrap();
        symlinkat(victim.path(), &at, "l").unwrap();
        at = openat(&at, "d", flags, mode).unwrap();
    }
    for name in ["half/shut", "half"] {
        fs::set_permissions(tmp.path().join(name), Permissions::from_mode(0o0)).unwrap();
    }
    tmp.close().unwrap();
    assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    assert_eq!(fs::read(victim.path().join("file")).unwrap(), b"kept\n");
}

fn private_tmp_of_the_dead() {
    let parent = open_directory();
    let named = || {
        let all = fs::read_dir(parent.path()).unwrap().flatten();
        all.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let (reading, writing) = std::io::pipe().unwrap();
    let embedder = life::fork(|| {
        let tmp = weak().private_tmp(parent.path()).unwrap();
        in_private(&tmp, "mkdir -p ~/a/b; touch ~/a/b/c");
        (&writing).write_all(b"!").unwrap();
        std::thread::sleep(std::time::Duration::from_secs(1000));
    });
    drop(writing);
    let mut byte = [0];
    std::io::Read::read_exact(&mut &reading, &mut byte).unwrap();
    let left = named();
    assert_eq!(left.len(), 1);
    // It is not touched as long as its maker lives.
    weak().private_tmp(parent.path()).unwrap().close().unwrap();
    assert!(left[0].join("a/b/c").exists());
    // SAFETY: takes numbers.
    assert_eq!(unsafe { libc::kill(embedder, libc::SIGKILL) }, 0);
    // SAFETY: no status is wanted.
    unsafe { libc::waitpid(embedder, std::ptr::null_mut(), 0) };
    assert_eq!(named(), left);
    let tmp = weak().private_tmp(parent.path()).unwrap();
    assert_eq!(named(), [tmp.path()]);
    // A forked copy of this process gives up nothing.
    let mut ours = Some(tmp);
    let copy = life::fork(|| drop(ours.take()));
    life::join(copy);
    assert!(ours.unwrap().path().exists());
}

fn unnamed_is_an_error() {
    let error = Sandbox::new().without_namespaces().command("true").spawn().unwrap_err();
    let Error::Unsupported { feature: Feature::UserNamespace, reason } = &error else {
        panic!("{error}");
    };
    for feature in LOST {
        assert!(reason.contains(&format!("Feature::{feature:?}")), "{reason}");
    }
    for needed in LOST {
        let others = LOST.into_iter().filter(|one| *one != needed);
        let sandbox = others.fold(Sandbox::new().without_namespaces(), Sandbox::best_effort);
        let error = sandbox.plan().unwrap_err();
        assert!(
            matches!(error, Error::Unsupported { feature, .. } if feature == needed),
            "{error}"
        );
    }
    // As without a pid namespace otherwise.
    let others = LOST.into_iter().filter(|one| *one != Feature::AtomicEnd);
    let sandbox = others.fold(Sandbox::new().without_namespaces(), Sandbox::best_effort);
    let named = sandbox.without_atomic_end().plan();
    assert!(!named.is_err_and(|error| error.to_string().contains("AtomicEnd")));
}

fn contradictions() {
    let directory = tempfile::tempdir().unwrap();
    for (sandbox, text) in [
        (weak().bind_ro("/usr", "/srv"), "\"/srv\""),
        (weak().tmpfs("/scratch"), "\"/scratch\""),
        (weak().file("/etc/hosts", ""), "\"/etc/hosts\""),
        (weak().rootfs(stockade::Rootfs::directory(directory.path())), "the root"),
        (weak().proc(Proc::Full), "/proc"),
        (weak().tmp_size(4096), "/tmp"),
        (weak().sysfs(), "sysfs()"),
        (weak().timezone("Etc/GMT"), "timezone"),
        (weak().view(stockade::View::new()), "view(..)"),
        (weak().hide_host_paths(true), "hide_host_paths"),
        (weak().init(false), "init(false)"),
        (weak().allow_new_privileges(), "allow_new_privileges()"),
        (weak().landlock(Landlock::none()), "Landlock::none()"),
        (weak().join(Namespaces::NET, "/proc/self/ns/net"), "join"),
        (weak().id_map(stockade::IdMap::subordinate()), "id_map"),
    ] {
        let error = sandbox.plan().unwrap_err();
        assert!(matches!(&error, Error::Invalid(_)) && error.to_string().contains(text), "{error}");
    }
}

fn told_in_the_plan() {
    let Ok(plan) = weak().plan() else { return };
    let text = plan.to_string();
    for part in [
        "clone: no new namespaces",
        "restrict reading to",
        "do without a pid namespace",
        "filter networks: no namespace",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("bind \"") && !text.contains("pivot_root"), "{text}");
    assert!(plan != Sandbox::new().plan().unwrap());
}

fn root_is_nobody() {
    assert_eq!(sh(&weak(), "id -u; id -g; id -G"), "65534\n65534\n65534\n");
    let directory = open_directory();
    let sandbox = Sandbox::new().without_namespaces().bind_same(directory.path());
    let sandbox = LOST.into_iter().fold(sandbox, Sandbox::best_effort);
    let error = sandbox.plan().unwrap_err();
    let about =
        |feature| matches!(&error, Error::Unsupported { feature: one, .. } if *one == feature);
    assert!(about(Feature::IdMappedMounts), "{error}");
}
