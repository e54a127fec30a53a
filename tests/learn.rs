//! The journal of a sandbox that learns: what it notes, that its lines allow it, and that it changes nothing else.
#![allow(
    clippy::exit,
    clippy::incompatible_msrv,
    reason = "a test process, built by a current toolchain"
)]
#![allow(unsafe_code, reason = "system calls that the program makes")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::undocumented_unsafe_blocks,
    clippy::multiple_unsafe_ops_per_block,
    reason = "a test fails by panicking, and hands the kernel its own buffers"
)]

mod common;
#[path = "common/inside.rs"]
mod inside;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Stdio as Outside;
use std::time::Duration;

use common::Needs;
use inside::{myself, myself_outside, open_directory, role};
use stockade::{
    Access, Action, Bind, Capabilities, Capability, Command, Denials, Denied, Landlock, Namespaces,
    Network, Outcome, Overlay, Proc, Resource, Rule, Sandbox, Seccomp, Stdio,
};

tests! {
    Needs::Nothing => [
        what_is_missing, what_is_there_or_nowhere, read_only_places, modes, processes_of_proc, refused_calls,
        the_printed_builder, capabilities, addresses, devices, open_files, threads, children_by_vfork,
        a_signal_between, killed_in_the_middle, the_embedder_is_killed, not_detached, one_listener, hostile_arguments,
        no_more_than_so_many, nothing_without_being_asked, limits_at_the_end, calls_before_the_exec,
    ];
    Needs::Program("busybox") => [a_static_program];
    Needs::Root => [a_look_that_hangs, access_control_lists];
    Needs::RootAndAudit => [what_landlock_refuses];
}

/// Runs to its end; what it wrote, and what it was refused.
fn learn(command: Command) -> (Outcome, String, Denials) {
    // Without it, messages of errors are looked for in files that are not inside.
    let command = command.env("LC_ALL", "C");
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let out = std::io::read_to_string(child.stdout.take().unwrap()).unwrap();
    let outcome = child.wait().unwrap().outcome;
    (outcome, out, child.denials())
}

fn script(sandbox: &Sandbox, script: &str) -> Denials {
    learn(sandbox.command("sh").args(["-c", script])).2
}

fn lines(denials: &Denials) -> Vec<&str> {
    denials.iter().filter_map(|denial| denial.line.as_deref()).collect()
}

fn learning() -> Sandbox {
    Sandbox::new().learn()
}

fn what_is_missing() {
    let directory = open_directory();
    let file = directory.path().join("data");
    fs::write(&file, "text").unwrap();
    let path = file.to_str().unwrap();
    let read = format!("cat {path}; cat {path}");
    let denials = script(&learning(), &read);
    assert_eq!(denials.iter().count(), 1, "{denials}");
    let denial = denials.iter().next().unwrap();
    assert_eq!(denial.what, Denied::Path { path: file.clone(), access: Access::Read });
    assert_eq!((denial.errno, denial.count, &*denial.program), (libc::ENOENT, 2, "cat"));
    assert_eq!(denial.line, Some(format!(".bind_ro({path:?}, {path:?})")));
    let given = learning().bind_ro(path, path);
    let (outcome, out, denials) = learn(given.command("cat").arg(path));
    assert_eq!((outcome, &*out), (Outcome::Exited(0), "text"));
    assert!(denials.is_empty(), "{denials}");
    // What a link leads to is named, and not the link.
    let gettext = learning().symlink(&file, "/home/user/alias");
    let denials = script(&gettext, "cat alias");
    assert_eq!(lines(&denials), [format!(".bind_ro({path:?}, {path:?})")]);
    // By a directory that is open, by a relative path and through a link.
    let linked = directory.path().join("link");
    std::os::unix::fs::symlink(&file, &linked).unwrap();
    let given = learning().bind_ro(&linked, "/home/user/link").symlink(&file, "/home/user/other");
    let below = path.trim_start_matches('/');
    for read in [format!("cd /; cat {below}"), format!("cat ../../{below}")] {
        let denials = script(&given, &read);
        assert!(
            denials
                .iter()
                .any(|one| one.what == Denied::Path { path: file.clone(), access: Access::Read }),
            "{read}: {denials}"
        );
    }
}

fn what_is_there_or_nowhere() {
    let asked =
        "cat /usr/bin/env >/dev/null; cat /no/such/file; test -e /no/such/other; touch x; rm x";
    let denials = script(&learning(), asked);
    assert!(denials.is_empty(), "{denials}");
}

fn read_only_places() {
    let denials = script(&learning(), "touch /usr/lib/stockade-test");
    assert_eq!(lines(&denials), [r#".overlay("/usr/lib", Overlay::new(["/usr/lib"]))"#]);
    assert_eq!(denials.iter().next().unwrap().errno, libc::EROFS);
    let given = learning().overlay("/usr/lib", Overlay::new(["/usr/lib"]));
    let (outcome, _, denials) = learn(given.command("touch").arg("/usr/lib/stockade-test"));
    assert_eq!(outcome, Outcome::Exited(0));
    assert!(denials.is_empty(), "{denials}");

    let directory = open_directory();
    fs::write(directory.path().join("old"), "").unwrap();
    let from = directory.path().to_str().unwrap();
    let bound = learning().bind_ro(from, "/data");
    let denials =
        script(&bound, "touch /data/new; echo >/data/old; rm /data/old; touch /data/more");
    let expected = format!(".bind_rw({from:?}, \"/data\")");
    let of_file = format!(".bind_rw(\"{from}/old\", \"/data/old\")");
    assert_eq!(lines(&denials), [&expected, &of_file, &expected], "{denials}");
    fs::set_permissions(from, fs::Permissions::from_mode(0o777)).unwrap();
    let (outcome, ..) = learn(learning().bind_rw(from, "/data").command("touch").arg("/data/new"));
    assert_eq!(outcome, Outcome::Exited(0));

    let denials = script(&learning(), "mkdir /data");
    assert!(lines(&denials).contains(&r#".tmpfs("/data")"#), "{denials}");
}

fn modes() {
    let directory = open_directory();
    let file = directory.path().join("secret");
    fs::write(&file, "x").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o0)).unwrap();
    let denials = script(&learning().bind_ro(&file, &file), &format!("cat {}", file.display()));
    let denial = denials.iter().next().unwrap();
    assert_eq!(denial.errno, libc::EACCES, "{denials}");
    let line = denial.line.as_deref().unwrap();
    assert_eq!(line, format!(".file({file:?}, std::fs::read({file:?})?)"));
    let given = learning().file(&file, "x");
    assert_eq!(learn(given.command("cat").arg(&file)).1, "x");
}

/// Of somebody else's files, as the kernel asks them: the mode alone says the opposite.
fn access_control_lists() {
    let directory = open_directory();
    // system.posix_acl_access: version 2; the owner, user 0, the file's group, the mask, all others.
    let list = |user: u8, mask: u8, others: u8| {
        let entries =
            [(1u8, 6, 0xff), (2, user, 0), (4, 0, 0xff), (16, mask, 0xff), (32, others, 0xff)];
        let entries = entries.iter().map(|&(kind, bits, id)| [kind, 0, bits, 0, id, id, id, id]);
        [vec![2, 0, 0, 0], entries.flatten().collect()].concat()
    };
    for (name, list) in [("granted", list(4, 4, 0)), ("refused", list(0, 4, 4))] {
        let path = directory.path().join(name);
        fs::write(&path, "x").unwrap();
        std::os::unix::fs::chown(&path, Some(1234), Some(1234)).unwrap();
        let path = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
        let attribute = c"system.posix_acl_access".as_ptr();
        // SAFETY: both texts end in NUL, and the value is as long as is said.
        let set = unsafe {
            libc::setxattr(path.as_ptr(), attribute, list.as_ptr().cast(), list.len(), 0)
        };
        assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
    }
    // The caller's own id on disk is the program's, which is not nobody's, as the owner's is inside.
    let sandbox = learning().host_ids(4321, 4321).bind_ro(directory.path(), "/lists");
    let (_, text, denials) =
        learn(sandbox.command("cat").args(["/lists/granted", "/lists/refused"]));
    let found: Vec<_> = denials.iter().map(|denial| (denial.what.clone(), denial.errno)).collect();
    let what = Denied::Path { path: "/lists/refused".into(), access: Access::Read };
    assert_eq!((&*text, found), ("x", vec![(what, libc::EACCES)]), "{denials}");
}

fn processes_of_proc() {
    let denials = script(&learning(), "cat /proc/self/status /proc/meminfo >/dev/null");
    assert_eq!(lines(&denials), [".proc(Proc::Compat)"], "{denials}");
    let given = learning().proc(Proc::Compat);
    let denials = script(&given, "cat /proc/self/status /proc/meminfo >/dev/null");
    assert!(denials.is_empty(), "{denials}");
}

/// What is tried inside; each answers an error number or 0.
fn calls() -> Vec<(&'static str, i64, [i64; 3])> {
    vec![
        ("mount", libc::SYS_mount, [0; 3]),
        ("setns", libc::SYS_setns, [0; 3]),
        ("socket", libc::SYS_socket, [40, 1, 0]),
        ("personality", libc::SYS_personality, [0x004_0000, 0, 0]),
        ("keyctl", libc::SYS_keyctl, [0; 3]),
        ("io_uring_setup", libc::SYS_io_uring_setup, [0; 3]),
        ("unshare", libc::SYS_unshare, [0x1000_0000, 0, 0]),
        ("unshare", libc::SYS_unshare, [0x0400, 0, 0]),
        ("uname", libc::SYS_uname, [0; 3]),
    ]
}

fn refused_calls() {
    if role().is_some() {
        for (_, number, [a, b, c]) in calls() {
            let result = unsafe { libc::syscall(number, a, b, c) };
            let errno = std::io::Error::last_os_error().raw_os_error().unwrap();
            println!("{}", if result < 0 { errno } else { 0 });
        }
        return;
    }
    // Asked or not, the answers are the same.
    let run = |sandbox: Sandbox| learn(myself(&sandbox, "refused_calls", "inside"));
    let (_, expected, none) = run(Sandbox::new());
    assert!(none.is_empty());
    let (outcome, answers, denials) = run(learning());
    assert_eq!((outcome, &answers), (Outcome::Exited(0), &expected));
    let find = |wanted: &str| {
        let of = |what: &Denied| matches!(what, Denied::SystemCall { name, .. } if name == wanted);
        denials
            .iter()
            .find(|denial| of(&denial.what))
            .unwrap_or_else(|| panic!("{wanted}: {denials}"))
    };
    let line = |wanted| find(wanted).line.as_deref().unwrap().to_owned();
    assert_eq!(line("mount"), ".capabilities(Capabilities::keep([Capability::SYS_ADMIN]))");
    assert_eq!(line("setns"), ".allow_nesting()");
    assert_eq!(line("keyctl"), ".seccomp(Seccomp::default().rule(Rule::new(\"keyctl\")))");
    let socket = ".rule(Rule::new(\"socket\").when(Condition::equal(0, 40).low()))";
    assert_eq!(line("socket"), format!(".seccomp(Seccomp::default(){socket})"));
    assert_eq!(find("socket").errno, libc::EAFNOSUPPORT);
    assert_eq!(find("io_uring_setup").errno, libc::ENOSYS);
    assert!(find("io_uring_setup").line.is_none());
    assert!(!denials.iter().any(|denial| denial.call == "uname"));
    let allowed = learning().seccomp(Seccomp::default().rule(Rule::new("keyctl")));
    let (_, _, denials) = run(allowed);
    assert!(!denials.iter().any(|denial| denial.call == "keyctl"), "{denials}");
}

fn the_printed_builder() {
    if role().is_some() {
        unsafe { libc::syscall(libc::SYS_keyctl, 0, 0, 0) };
        unsafe { libc::syscall(libc::SYS_mount, 0, 0, 0, 0, 0) };
        unsafe { libc::syscall(libc::SYS_add_key, 0, 0, 0, 0, 0) };
        unsafe { libc::syscall(libc::SYS_chroot, c"/".as_ptr()) };
        let _missing = fs::read("/proc/meminfo");
        let _missing = fs::read("/proc/loadavg");
        return;
    }
    let (_, _, denials) = learn(myself(&learning(), "the_printed_builder", "inside"));
    let printed = denials.to_string();
    let code: Vec<_> = printed.lines().filter(|line| !line.trim().starts_with("//")).collect();
    let expected = [
        "sandbox",
        "    .proc(Proc::Compat)",
        "    .seccomp(Seccomp::default().rule(Rule::new(\"keyctl\")).rule(Rule::new(\"add_key\")))",
        "    .capabilities(Capabilities::keep([Capability::SYS_CHROOT, Capability::SYS_ADMIN]))",
    ];
    assert_eq!(code, expected, "{printed}");
}

fn capabilities() {
    if role().is_some() {
        let groups = [0 as libc::gid_t];
        assert_ne!(unsafe { libc::syscall(libc::SYS_setgroups, 1, groups.as_ptr()) }, 0);
        assert_ne!(unsafe { libc::syscall(libc::SYS_setuid, 77) }, 0);
        let _refused = std::net::TcpListener::bind("127.0.0.1:80").unwrap_err();
        return;
    }
    let (outcome, _, denials) = learn(myself(&learning(), "capabilities", "inside"));
    assert_eq!(outcome, Outcome::Exited(0));
    let found: Vec<_> = denials
        .iter()
        .filter_map(|denial| match denial.what {
            Denied::Capability(capability) => Some(capability),
            _ => None,
        })
        .collect();
    let expected = [Capability::SETGID, Capability::SETUID, Capability::NET_BIND_SERVICE];
    assert_eq!(found, expected, "{denials}");
    let kept = learning().capabilities(Capabilities::keep([Capability::NET_BIND_SERVICE]));
    let (_, _, denials) = learn(myself(&kept, "capabilities", "inside"));
    assert!(!denials.iter().any(|denial| denial.call == "bind"), "{denials}");
}

fn addresses() {
    let name = "stockade-test-learn";
    if let Some(path) = role() {
        let _unreachable = std::net::UdpSocket::bind("0.0.0.0:0")
            .and_then(|socket| socket.connect("192.0.2.1:7"))
            .unwrap_err();
        let datagrams = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        datagrams.send_to(b"x", "192.0.2.1:9").unwrap_err();
        datagrams.send_to(b"x", datagrams.local_addr().unwrap()).unwrap();
        // Without an address there is nothing to look at.
        datagrams.send(b"x").unwrap_err();
        UnixStream::connect(path).unwrap_err();
        let address = SocketAddr::from_abstract_name(name).unwrap();
        UnixStream::connect_addr(&address).unwrap_err();
        let _nobody = std::net::TcpStream::connect("127.0.0.1:9").unwrap_err();
        return;
    }
    let directory = open_directory();
    let path = directory.path().join("socket");
    let _by_path = UnixListener::bind(&path).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    let _by_name = UnixListener::bind_addr(&SocketAddr::from_abstract_name(name).unwrap()).unwrap();
    let (outcome, _, denials) = learn(myself(&learning(), "addresses", path.to_str().unwrap()));
    assert_eq!(outcome, Outcome::Exited(0));
    let found: Vec<_> = denials.iter().map(|denial| denial.what.clone()).collect();
    let expected = [
        Denied::Address("192.0.2.1:7".into()),
        Denied::Address("192.0.2.1:9".into()),
        Denied::Path { path: path.clone(), access: Access::Write },
        Denied::Address(format!("@{name}")),
    ];
    assert_eq!(found, expected, "{denials}");
    let bound = format!(".bind_ro({path:?}, {path:?})");
    let network = ".network(Network::Host)";
    assert_eq!(lines(&denials), [network, network, &bound, network]);
    let shared = learning().network(Network::Host);
    let (_, _, denials) = learn(myself(&shared, "addresses", path.to_str().unwrap()));
    assert!(!denials.iter().any(|denial| matches!(denial.what, Denied::Address(_))), "{denials}");
}

fn devices() {
    const INSIDE: [&str; 8] =
        ["null", "zero", "full", "random", "urandom", "tty", "ptmx", "console"];
    let device = fs::read_dir("/dev").unwrap().flatten().find(|entry| {
        let name = entry.file_name();
        let known = INSIDE.iter().any(|known| name == *known);
        !known && entry.file_type().is_ok_and(|kind| kind.is_char_device())
    });
    let path = device.expect("the host has a device").path();
    let denials = script(&learning(), &format!("test -e {}", path.display()));
    let denial = denials.iter().next().expect("it is not inside");
    assert_eq!(denial.what, Denied::Device { path: path.clone(), access: Access::Look });
    let line = format!(".bind(Bind::read_write({path:?}, {path:?}).with_devices())");
    assert_eq!(denial.line.as_deref(), Some(&*line));
    let given = learning().bind(Bind::read_write(&path, &path).with_devices());
    assert!(script(&given, &format!("test -e {}", path.display())).is_empty());
}

fn open_files() {
    if role().is_some() {
        let mut open = Vec::new();
        while let Ok(file) = fs::File::open("/dev/null") {
            open.push(file);
        }
        return;
    }
    let few = learning().rlimit(Resource::OpenFiles, 20);
    let (_, _, denials) = learn(myself(&few, "open_files", "inside"));
    // Before Linux 6.2 the kernel does not count them.
    if let Some(denial) = denials.iter().next() {
        assert_eq!((&denial.what, denial.errno), (&Denied::Limit("open files"), libc::EMFILE));
        assert_eq!(denial.line.as_deref(), Some(".rlimit(Resource::OpenFiles, 40)"));
    } else {
        let release = nix::sys::utsname::uname().unwrap().release().to_owned();
        assert!(release.to_str().unwrap() < "6.2", "{denials}");
    }
}

fn threads() {
    const EACH: u64 = 20;
    if let Some(path) = role() {
        let work = |_| {
            let path = path.clone();
            std::thread::spawn(move || {
                for _ in 0..EACH {
                    fs::read(&path).unwrap_err();
                    assert!(fs::read("/usr/bin/env").is_ok());
                }
            })
        };
        let threads: Vec<_> = (0..64).map(work).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        return;
    }
    let directory = open_directory();
    let (outcome, _, denials) =
        learn(myself(&learning(), "threads", directory.path().to_str().unwrap()));
    assert_eq!(outcome, Outcome::Exited(0));
    let path = directory.path().to_owned();
    let denial = denials
        .iter()
        .find(|one| one.what == Denied::Path { path: path.clone(), access: Access::Read });
    assert_eq!(denial.map(|one| one.count), Some(64 * EACH), "{denials}");
}

fn children_by_vfork() {
    if let Some(path) = role() {
        for _ in 0..10 {
            // std uses posix_spawn, whose child shares the parent's memory and stops it.
            let status = std::process::Command::new("cat").arg(&path).status().unwrap();
            assert!(!status.success());
        }
        return;
    }
    let directory = open_directory();
    let file = directory.path().join("data");
    fs::write(&file, "").unwrap();
    let (outcome, _, denials) =
        learn(myself(&learning(), "children_by_vfork", file.to_str().unwrap()));
    assert_eq!(outcome, Outcome::Exited(0));
    let denial = denials.iter().find(|one| one.call != "clone3").unwrap();
    assert_eq!((&*denial.program, denial.count), ("cat", 10), "{denials}");
}

fn a_static_program() {
    let busybox = std::env::split_paths(&std::env::var_os("PATH").unwrap())
        .map(|directory| directory.join("busybox"))
        .find(|path| path.is_file())
        .unwrap();
    let sandbox = learning().bind_ro(busybox, "/busybox");
    let (_, _, denials) = learn(sandbox.command("/busybox").args(["cat", "/proc/meminfo"]));
    assert_eq!(lines(&denials), [".proc(Proc::Compat)"], "{denials}");
}

/// A call that waits for the journal is not made to fail by a signal whose handler restarts calls.
fn a_signal_between() {
    extern "C" fn nothing(_: i32) {}
    if role().is_some() {
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = nothing as extern "C" fn(i32) as usize;
            action.sa_flags = libc::SA_RESTART;
            libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut());
            let every = libc::timeval { tv_sec: 0, tv_usec: 150 };
            let timer = libc::itimerval { it_interval: every, it_value: every };
            libc::syscall(libc::SYS_setitimer, 0, &raw const timer, 0);
        }
        for _ in 0..3000 {
            fs::File::open("/usr/bin/env").unwrap();
        }
        return;
    }
    let (outcome, _, denials) = learn(myself(&learning(), "a_signal_between", "inside"));
    assert_eq!(outcome, Outcome::Exited(0), "{denials}");
}

/// The threads of this process that a journal has.
fn journals() -> usize {
    let names = fs::read_dir("/proc/self/task").unwrap().flatten();
    let name =
        |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).unwrap_or_default();
    names.map(name).filter(|name| name == "stockade-learn\n").count()
}

/// Asserts that they end; their last steps come after their last word.
fn no_journals() {
    for _ in 0..3000 {
        if journals() == 0 {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{} threads live", journals());
}

const ENDLESS: &str = "while :; do test -e /proc/meminfo; done";

fn killed_in_the_middle() {
    for end in 0..3 {
        let mut child = learning().command("sh").args(["-c", ENDLESS]).spawn().unwrap();
        while child.denials().is_empty() {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(journals() >= 2);
        match end {
            0 => {
                child.kill().unwrap();
                assert_eq!(child.wait().unwrap().outcome, Outcome::Killed);
                assert!(!child.denials().is_empty());
            }
            1 => child.signal(9).unwrap(),
            _ => {}
        }
        drop(child);
        no_journals();
    }
    let error = learning().command("/no/such/program").spawn().unwrap_err();
    assert!(error.to_string().contains("/no/such/program"), "{error}");
    no_journals();
}

fn the_embedder_is_killed() {
    if role().is_some() {
        let child = learning().command("sh").args(["-c", ENDLESS]).spawn().unwrap();
        println!("{}", child.id());
        loop {
            std::thread::sleep(Duration::from_secs(1));
        }
    }
    let mut embedder = myself_outside("the_embedder_is_killed", "embedder")
        .stdout(Outside::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(embedder.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let init = PathBuf::from(format!("/proc/{}", line.trim()));
    assert!(init.exists());
    embedder.kill().unwrap();
    embedder.wait().unwrap();
    for _ in 0..1000 {
        if !init.exists()
            || fs::read_to_string(init.join("stat")).is_ok_and(|it| it.contains(") Z"))
        {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{} lives", init.display());
}

fn not_detached() {
    let child = learning().command("sleep").arg("1000").spawn().unwrap();
    let error = child.detach().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EBUSY), "{error}");
}

fn one_listener() {
    let with = |action| Seccomp::default().rule(Rule::new("uname").then(action));
    for action in [Action::Notify, Action::KillProcess] {
        let error = learning().seccomp(with(action)).command("true").spawn().unwrap_err();
        assert!(error.to_string().contains("two listeners"), "{error}");
    }
    let error = learning().init(false).command("true").spawn().unwrap_err();
    assert!(error.to_string().contains("need init"), "{error}");
    // Other profiles, and none.
    for seccomp in [Seccomp::none(), Seccomp::strict(), Seccomp::deny_list(["keyctl"])] {
        let denials = script(&learning().seccomp(seccomp.clone()), "cat /proc/meminfo");
        assert_eq!(lines(&denials)[0], ".proc(Proc::Compat)", "{seccomp}: {denials}");
    }
    // There is no journal's listener for the caller to take.
    let mut child = learning().command("true").spawn().unwrap();
    assert!(child.seccomp_listener().is_none());
    child.wait().unwrap();
}

fn hostile_arguments() {
    if role().is_some() {
        let open = |address: usize| unsafe {
            libc::syscall(libc::SYS_openat, libc::AT_FDCWD, address, 0, 0)
        };
        let long = vec![b'a'; 1 << 20];
        for address in [0, 1, usize::MAX, 1 << 60, long.as_ptr() as usize] {
            assert!(open(address) < 0);
        }
        // At the end of what is mapped, without a NUL.
        let page = unsafe {
            let page = libc::mmap(std::ptr::null_mut(), 8192, 3, 0x22, -1, 0);
            libc::munmap(page.byte_add(4096), 4096);
            std::ptr::write_bytes(page.cast::<u8>(), b'x', 4096);
            page as usize
        };
        assert!(open(page + 4090) < 0);
        for path in [
            c"/proc/meminfo\n\x1b[2J",
            c"//../..//proc/./meminfo",
            c"/dev/stdin/x",
            c"/proc/1/root/x",
        ] {
            open(path.as_ptr() as usize);
        }
        for fd in [-1i64, 0, 12345, i64::MAX] {
            unsafe { libc::syscall(libc::SYS_openat, fd, c"x".as_ptr(), 0, 0) };
            unsafe { libc::syscall(libc::SYS_connect, fd, c"x".as_ptr(), usize::MAX) };
        }
        // Nobody writes to it, and nobody else reads it.
        assert_eq!(unsafe { libc::mkfifo(c"/tmp/fifo".as_ptr(), 0o777) }, 0);
        let fifo = fs::OpenOptions::new().read(true).write(true).open("/tmp/fifo").unwrap();
        assert!(fifo.as_raw_fd() > 0);
        // Links that lead round, and out.
        std::os::unix::fs::symlink("/tmp/round", "/tmp/round").unwrap();
        std::os::unix::fs::symlink("../../../../../etc/shadow", "/tmp/out").unwrap();
        assert!(fs::read("/tmp/round").is_err() && fs::read("/tmp/out").is_err());
        return;
    }
    let (outcome, _, denials) = learn(myself(&learning(), "hostile_arguments", "inside"));
    assert_eq!(outcome, Outcome::Exited(0), "{denials}");
    assert!(!denials.to_string().contains('\x1b'), "{denials}");
    assert!(lines(&denials).contains(&".proc(Proc::Compat)"), "{denials}");
}

fn no_more_than_so_many() {
    if role().is_some() {
        for which in 0..5000u64 {
            unsafe { libc::syscall(libc::SYS_personality, 0x100_0000 + which) };
        }
        return;
    }
    let (_, _, denials) = learn(myself(&learning(), "no_more_than_so_many", "inside"));
    assert_eq!(denials.iter().count(), 4096);
    assert!(denials.dropped() >= 5000 - 4096, "{}", denials.dropped());
}

fn nothing_without_being_asked() {
    let mut child = Sandbox::new().command("cat").arg("/proc/meminfo").spawn().unwrap();
    child.wait().unwrap();
    assert!(child.denials().is_empty());
    no_journals();
}

fn limits_at_the_end() {
    let tight = learning().wall_time(common::moment(300));
    let (outcome, _, denials) = learn(tight.command("sleep").arg("1000"));
    assert_eq!(outcome, Outcome::TimedOut);
    let last = denials.iter().last().unwrap();
    assert_eq!(last.what, Denied::Limit("wall time"));
    let own = learning().command("sleep").arg("1000").wall_time(common::moment(300));
    let (_, _, denials) = learn(own);
    assert!(lines(&denials).iter().any(|line| line.starts_with(".wall_time(")), "{denials}");
    let small = learning().tmp_size(1 << 20);
    let script = "head -c 2000000 /dev/zero >/tmp/x";
    let (_, _, denials) = learn(small.command("sh").args(["-c", script]));
    assert_eq!(lines(&denials), [".tmp_size(2097152)"], "{denials}");
}

/// What init's side does before the exec is not the program's.
fn calls_before_the_exec() {
    let mut child = learning().command("true").spawn().unwrap();
    child.wait().unwrap();
    assert!(child.denials().is_empty(), "{}", child.denials());
    learning().check().unwrap();
    let tree = learning().namespaces(Namespaces::all()).command("true").pty(24, 80);
    let mut child = tree.spawn().unwrap();
    child.wait().unwrap();
    assert!(child.denials().is_empty(), "{}", child.denials());
}

/// A path on a page that nobody serves hangs who reads it: the others go on.
fn a_look_that_hangs() {
    if role().is_some() {
        unsafe {
            let uffd = libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC) as i32;
            assert!(uffd >= 0, "{}", std::io::Error::last_os_error());
            let mut api = [0xAAu64, 0, 0];
            assert_eq!(libc::ioctl(uffd, 0xc018_aa3f, api.as_mut_ptr()), 0);
            let page = libc::mmap(std::ptr::null_mut(), 4096, 3, 0x22, -1, 0) as usize;
            let mut range = [page as u64, 4096, 1, 0];
            assert_eq!(libc::ioctl(uffd, 0xc020_aa00, range.as_mut_ptr()), 0);
            std::thread::spawn(move || libc::syscall(libc::SYS_openat, -100, page, 0, 0));
            // Somebody wants the page, who is not given it.
            assert_eq!(libc::read(uffd, [0u64; 4].as_mut_ptr().cast(), 32), 32);
        }
        for _ in 0..3 {
            assert!(fs::read("/proc/meminfo").is_err());
        }
        std::process::exit(0);
    }
    // Without a user namespace its processes are counted with all others of that user.
    let may = learning()
        .namespaces(Namespaces::all() - Namespaces::USER)
        .uid(64_000)
        .gid(64_000)
        .allow_host_capabilities()
        .capabilities(Capabilities::keep([Capability::SYS_PTRACE]))
        .seccomp(Seccomp::none());
    let (outcome, _, denials) = learn(myself(&may, "a_look_that_hangs", "inside"));
    assert_eq!(outcome, Outcome::Exited(0));
    assert_eq!(denials.unread(), 1, "{denials}");
    let meminfo = Denied::Path { path: Path::new("/proc/meminfo").into(), access: Access::Read };
    let noted = denials.iter().find(|denial| denial.what == meminfo);
    assert_eq!(noted.map(|denial| denial.count), Some(3), "{denials}");
    no_journals();
}

/// Ports, an abstract name and a descriptor, which nothing but Landlock refuses, out of the audit log.
fn what_landlock_refuses() {
    let name = role().unwrap_or_else(|| format!("stockade-test-{}", std::process::id()));
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    if role().is_some() {
        let refused = |error: std::io::Error| error.raw_os_error().unwrap();
        for _ in 0..2 {
            let error = std::net::TcpStream::connect("127.0.0.1:9").unwrap_err();
            assert_eq!(refused(error), libc::EACCES);
        }
        let error = std::net::TcpListener::bind("127.0.0.1:8081").unwrap_err();
        assert_eq!(refused(error), libc::EACCES);
        assert_eq!(refused(UnixStream::connect_addr(&address).unwrap_err()), libc::EPERM);
        let error = fs::OpenOptions::new().write(true).open("/proc/self/fd/5").unwrap_err();
        assert_eq!(refused(error), libc::EACCES);
        // What it refuses itself is not the sandbox's doing.
        assert!(std::net::TcpStream::connect("127.0.0.1:443").is_err());
        return;
    }
    let _by_name = UnixListener::bind_addr(&address).unwrap();
    let directory = open_directory();
    let file = directory.path().join("a file");
    fs::write(&file, "").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    let landlock = Landlock::default().connect_tcp([443]).bind_tcp([8080]);
    let sandbox = learning().network(Network::Host).landlock(landlock);
    let command = myself(&sandbox, "what_landlock_refuses", &name);
    let (outcome, _, denials) = learn(command.fd(5, fs::File::open(&file).unwrap()));
    assert_eq!(outcome, Outcome::Exited(0));
    let found: Vec<_> =
        denials.iter().map(|one| (one.what.clone(), one.errno, one.count)).collect();
    let expected = [
        (Denied::Address("127.0.0.1:9".into()), libc::EACCES, 2),
        (Denied::Address("127.0.0.1:8081".into()), libc::EACCES, 1),
        (Denied::Address(format!("@{name}")), libc::EPERM, 1),
        (Denied::Path { path: file, access: Access::Write }, libc::EACCES, 1),
    ];
    assert_eq!(found, expected, "{denials}");
    assert_eq!(
        lines(&denials)[..2],
        [
            ".landlock(Landlock::default().bind_tcp([8080]).connect_tcp([9, 443]))",
            ".landlock(Landlock::default().bind_tcp([8080, 8081]).connect_tcp([443]))",
        ]
    );
    let all = "    .landlock(Landlock::none().bind_tcp([8080, 8081]).connect_tcp([9, 443]))\n";
    assert!(denials.to_string().ends_with(all), "{denials}");
}
