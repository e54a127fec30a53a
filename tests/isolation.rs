//! Nothing of the host's or the embedder's is found inside, by a program that looks everywhere.
#![allow(unsafe_code, reason = "system calls that a hostile program would make")]
#![allow(
    clippy::exit,
    clippy::incompatible_msrv,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test process, built by a current toolchain, fails by panicking"
)]

mod common;
#[path = "common/inside.rs"]
mod inside;

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use common::Needs;
use common::ways::Ways;
use inside::{myself, myself_outside, role, sh, sh_fails, shell, succeed};
use stockade::{Landlock, Namespaces, Network, Outcome, Proc, Sandbox};

tests_in_all_ways! {
    Needs::Nothing => [
        no_secret_gets_in, init_cannot_be_looked_into, nothing_of_the_host_is_there,
        only_processes_in_proc, full_proc_is_masked, no_nested_user_namespace,
        nested_user_namespace_by_name, clone3_does_not_exist, foreign_calls_are_refused,
        no_terminal_to_type_into, session_keyring_is_new, abstract_sockets_stay_outside,
        system_v_ipc_stays_outside, the_embedder_stays_dumpable, names_of_the_host_are_not_seen,
        loopback_is_up, nobody_else_is_reached, mount_propagation_is_cut,
    ];
}

/// The secret is assembled at run time, so that neither binary holds it.
fn secret() -> Vec<u8> {
    (0..4).flat_map(|number| format!("s3cret-{}-", number * 7919).into_bytes()).collect()
}

/// Everything that a process can read: its own memory and that of all others, every file it finds.
fn look_everywhere(needle: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let directory = process.path();
        if is_out_of_interest(&directory) {
            continue;
        }
        for file in ["environ", "cmdline", "status", "maps", "mountinfo", "cgroup", "stat"] {
            if holds(&directory.join(file), needle) {
                found.push(format!("{}/{file}", directory.display()));
            }
        }
        if is_self(&directory) {
            // Its own memory has the needle: it is looking for it.
            continue;
        }
        if memory_holds(&directory, needle) {
            found.push(format!("{}/mem", directory.display()));
        }
        for link in fs::read_dir(directory.join("fd")).into_iter().flatten().flatten() {
            if holds(&link.path(), needle) {
                found.push(link.path().display().to_string());
            }
        }
    }
    for number in 0..1024 {
        if holds(&PathBuf::from(format!("/proc/self/fd/{number}")), needle) {
            found.push(format!("descriptor {number}"));
        }
    }
    let inside = ["/tmp", "/home", "/root", "/etc", "/var", "/run", "/dev/shm", "/srv", "/mnt"];
    // Outside there is much, of which one directory is worth the time.
    let outside = std::env::var_os("ONLY").map(|_| std::env::temp_dir());
    for directory in outside.as_deref().map_or(inside.map(Path::new).to_vec(), |one| vec![one]) {
        walk(directory, needle, 5, &mut found);
    }
    found
}

/// Outside there are many processes, of which one is worth the time.
fn is_out_of_interest(directory: &Path) -> bool {
    let only = std::env::var_os("ONLY").filter(|_| !is_self(directory));
    only.is_some_and(|only| directory.file_name() != Some(&only))
}

fn is_self(directory: &Path) -> bool {
    directory.file_name().is_some_and(|name| {
        name == "self" || name == "thread-self" || name == std::process::id().to_string().as_str()
    })
}

fn walk(directory: &Path, needle: &[u8], depth: u32, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && depth > 0 => walk(&path, needle, depth - 1, found),
            Ok(kind) if kind.is_file() && holds(&path, needle) => {
                found.push(path.display().to_string());
            }
            _ => {}
        }
    }
}

/// Whether a regular or kernel file contains the needle in its first megabyte.
fn holds(path: &Path, needle: &[u8]) -> bool {
    let regular = fs::metadata(path).is_ok_and(|data| data.is_file());
    let mut text = Vec::new();
    let read = regular
        .then(|| File::open(path).and_then(|file| file.take(1 << 20).read_to_end(&mut text)));
    matches!(read, Some(Ok(_))) && contains(&text, needle)
}

fn contains(text: &[u8], needle: &[u8]) -> bool {
    let (text, length) = (text.as_ptr().cast(), text.len());
    // SAFETY: both are slices with their lengths.
    !unsafe { libc::memmem(text, length, needle.as_ptr().cast(), needle.len()) }.is_null()
}

fn memory_holds(directory: &Path, needle: &[u8]) -> bool {
    use std::os::unix::fs::FileExt;
    let Ok(memory) = File::open(directory.join("mem")) else { return false };
    let maps = fs::read_to_string(directory.join("maps")).unwrap_or_default();
    maps.lines().any(|line| {
        let range = line.split(' ').next().unwrap_or_default();
        let ends = range.split_once('-').and_then(|(start, end)| {
            Some((u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?))
        });
        let Some((start, end)) = ends else { return false };
        let mut bytes = vec![0; (end - start).min(8 << 20) as usize];
        let length = memory.read_at(&mut bytes, start).unwrap_or(0);
        contains(&bytes[..length], needle)
    })
}

/// Run as a plain child, the reader finds the secret in many places; run inside, in none.
fn no_secret_gets_in() {
    if role().is_some() {
        let found = look_everywhere(&secret());
        print!("{}", found.join("\n"));
        std::process::exit(0);
    }
    let heap = secret();
    // SAFETY: no other thread of this process exists.
    unsafe { std::env::set_var("SECRET", std::ffi::OsStr::new("in the environment")) };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("secret");
    fs::write(&path, &heap).unwrap();
    let file = File::open(&path).unwrap();
    // Inheritable, and at a high number.
    // SAFETY: the number is free in this process.
    let high = unsafe { libc::dup2(file.as_raw_fd(), 777) };
    assert_eq!(high, 777);
    let text = String::from_utf8(heap.clone()).unwrap();
    let parent = std::process::id().to_string();
    let mut outside = myself_outside("no_secret_gets_in", "reader");
    let outside = outside.env("SECRET", &text).env("ONLY", parent).output();
    let outside = String::from_utf8(outside.unwrap().stdout).unwrap();
    for place in ["environ", "descriptor 777", "/mem", path.to_str().unwrap()] {
        assert!(outside.contains(place), "the reader does not find {place}: {outside}");
    }
    // SAFETY: as above.
    unsafe { std::env::set_var("SECRET", &text) };
    for sandbox in [Sandbox::new(), Sandbox::new().init(false), Sandbox::new().proc(Proc::Full)] {
        let inside = succeed(myself(&sandbox, "no_secret_gets_in", "reader"));
        assert_eq!(inside, "");
    }
    assert!(contains(&heap, b"s3cret-"), "the heap still has it");
}

fn init_cannot_be_looked_into() {
    let sandbox = Sandbox::new();
    for file in ["mem", "maps", "environ", "auxv", "exe", "fd/0", "root/etc", "cwd/etc"] {
        let script = format!("cat /proc/1/{file} || ls /proc/1/{file}");
        let output = shell(&sandbox, &script);
        assert_ne!(output.outcome, Outcome::Exited(0), "/proc/1/{file}");
        // The same works on a process of one's own.
    }
    sh(&sandbox, "cat /proc/self/maps /proc/self/environ >/dev/null; ls /proc/self/root/etc");
}

fn nothing_of_the_host_is_there() {
    let sandbox = Sandbox::new();
    for path in
        ["/root", "/var", "/run", "/sys", "/boot", "/opt", "/etc/shadow", "/etc/resolv.conf"]
    {
        let test = format!("test -e {path}");
        assert_ne!(shell(&sandbox, &test).outcome, Outcome::Exited(0), "{path}");
    }
    assert_eq!(sh(&sandbox, "ls -A /home /home/user /tmp /dev/shm").matches('\n').count(), 8);
    assert!(Path::new("/etc/passwd").exists());
}

fn only_processes_in_proc() {
    let names = sh(&Sandbox::new(), "ls /proc");
    for name in names.split_whitespace() {
        let number = name.parse::<u32>().is_ok();
        assert!(number || name == "self" || name == "thread-self", "{name}");
    }
    assert!(Path::new("/proc/meminfo").exists());
}

fn full_proc_is_masked() {
    let full = Sandbox::new().proc(Proc::Full);
    assert!(sh(&full, "cat /proc/meminfo").contains("MemTotal"));
    // What Docker hides, and asound; what the host does not have need not be hidden.
    for name in [
        "acpi",
        "asound",
        "kcore",
        "keys",
        "latency_stats",
        "timer_list",
        "timer_stats",
        "sched_debug",
        "scsi",
        "interrupts",
        "kmsg",
        "kallsyms",
        "modules",
        "slabinfo",
    ] {
        let path = format!("/proc/{name}");
        if !Path::new(&path).exists() {
            continue;
        }
        let script = format!("if test -d {path}; then ls -A {path}; else cat {path}; fi");
        assert_eq!(sh(&full, &script), "", "{path}");
    }
    for name in ["sys/kernel/hostname", "sysrq-trigger", "irq/default_smp_affinity"] {
        let output = shell(&full, &format!("echo x > /proc/{name}"));
        let written = output.outcome == Outcome::Exited(0);
        // /dev/null takes anything and does nothing.
        let null = sh(&full, &format!("test -c /proc/{name} && echo null || true"));
        assert!(!written || null == "null\n", "/proc/{name}");
    }
    sh_fails(&full, "echo x > /proc/sys/kernel/domainname", "Read-only");
}

fn no_nested_user_namespace() {
    let sandbox = Sandbox::new();
    sh_fails(&sandbox, "unshare -U true", "unshare failed");
    // Only the filter and the count forbid it: the next test has it by name.
}

fn nested_user_namespace_by_name() {
    let sandbox = Sandbox::new().allow_nesting();
    assert_eq!(sh(&sandbox, "unshare -Ur id -u"), "0\n");
}

/// One raw call; `Ok` or the error number.
fn raw(number: libc::c_long, args: [usize; 5]) -> Result<i64, i32> {
    // SAFETY: the callers pass numbers, or addresses of live values.
    let result = unsafe { libc::syscall(number, args[0], args[1], args[2], args[3], args[4]) };
    if result < 0 {
        Err(std::io::Error::last_os_error().raw_os_error().unwrap())
    } else {
        Ok(result)
    }
}

fn clone3_does_not_exist() {
    if role().is_some() {
        let nothing = [0u64; 11];
        let clone3 = raw(libc::SYS_clone3, [nothing.as_ptr() as usize, 0, 0, 0, 0]);
        // Too small a size is EINVAL to a kernel that has the call.
        println!("{clone3:?} {:?}", raw(libc::SYS_setns, [0, 0, 0, 0, 0]));
        std::process::exit(0);
    }
    let name = "clone3_does_not_exist";
    let outside = myself_outside(name, "caller").output().unwrap();
    assert!(String::from_utf8_lossy(&outside.stdout).starts_with("Err(22)"));
    let inside = succeed(myself(&Sandbox::new(), name, "caller"));
    assert_eq!(inside, format!("Err({}) Err({})\n", libc::ENOSYS, libc::EPERM));
}

fn foreign_calls_are_refused() {
    if role().is_some() {
        // getpid as an x32 program would call it.
        println!("{:?}", raw(libc::SYS_getpid | 0x4000_0000, [0; 5]));
        std::process::exit(0);
    }
    for sandbox in [Sandbox::new(), Sandbox::new().allow_nesting()] {
        let inside = succeed(myself(&sandbox, "foreign_calls_are_refused", "caller"));
        assert_eq!(inside, format!("Err({})\n", libc::ENOSYS));
    }
}

fn no_terminal_to_type_into() {
    let sandbox = Sandbox::new();
    let output = shell(&sandbox, "exec 3<>/dev/tty");
    assert_ne!(output.outcome, Outcome::Exited(0));
    assert_eq!(sh(&sandbox, "cut -d' ' -f7 /proc/self/stat"), "0\n");
}

fn session_keyring_is_new() {
    if let Some(role) = role() {
        // KEYCTL_GET_KEYRING_ID of KEY_SPEC_SESSION_KEYRING, then a search in it.
        let id = raw(libc::SYS_keyctl, [0, -3isize as usize, 0, 0, 0]);
        let (kind, name) = (c"user".as_ptr() as usize, c"stockade-test".as_ptr() as usize);
        if role == "outside" {
            let data = c"x".as_ptr() as usize;
            raw(libc::SYS_add_key, [kind, name, data, 1, -3isize as usize]).unwrap();
        }
        let found = raw(libc::SYS_keyctl, [10, -3isize as usize, kind, name, 0]);
        println!("{} {}", id.unwrap(), found.is_ok());
        if role == "outside" {
            // The profile would refuse even to ask.
            let sandbox = Sandbox::new().seccomp(stockade::Seccomp::none());
            print!("{}", succeed(myself(&sandbox, "session_keyring_is_new", "inside")));
        }
        std::process::exit(0);
    }
    // A keyring of the test's own, so that nobody else's is touched.
    raw(libc::SYS_keyctl, [1, 0, 0, 0, 0]).unwrap();
    let output = myself_outside("session_keyring_is_new", "outside").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<_> = text.lines().map(|line| line.split_once(' ').unwrap()).collect();
    assert_eq!((lines[0].1, lines[1].1), ("true", "false"), "{text}");
    assert_ne!(lines[0].0, lines[1].0);
}

fn abstract_sockets_stay_outside() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixStream};
    let name = |pid: &str| format!("stockade-test-{pid}");
    if role().is_some() {
        let target = std::env::var("TARGET").unwrap();
        let address = SocketAddr::from_abstract_name(name(&target)).unwrap();
        println!("{}", UnixStream::connect_addr(&address).is_ok());
        std::process::exit(0);
    }
    let pid = std::process::id().to_string();
    let address = SocketAddr::from_abstract_name(name(&pid)).unwrap();
    let _listener = UnixListener::bind_addr(&address).unwrap();
    let run = |sandbox: &Sandbox| {
        let test = "abstract_sockets_stay_outside";
        succeed(myself(sandbox, test, "caller").env("TARGET", &pid))
    };
    assert_eq!(run(&Sandbox::new()), "false\n");
    let shared = Sandbox::new().network(Network::Host).landlock(Landlock::none());
    assert_eq!(run(&shared), "true\n", "by name it is reached");
}

fn system_v_ipc_stays_outside() {
    // SAFETY: shmget takes numbers; the segment is removed below.
    let id = unsafe { libc::shmget(libc::IPC_PRIVATE, 4096, 0o600) };
    assert!(id >= 0);
    // With a pid namespace of its own ipcs needs the full /proc.
    let list = |sandbox: Sandbox| sh(&sandbox.proc(Proc::Full), "cat /proc/sysvipc/shm");
    let new = list(Sandbox::new());
    let shared = list(Sandbox::new().namespaces(Namespaces::all() - Namespaces::IPC));
    // SAFETY: removing takes no address.
    assert_eq!(unsafe { libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) }, 0);
    assert_eq!(new.lines().count(), 1, "{new}");
    assert!(shared.lines().count() > 1, "{shared}");
}

fn the_embedder_stays_dumpable() {
    // SAFETY: PR_GET_DUMPABLE takes no address.
    let dumpable = || unsafe { libc::prctl(libc::PR_GET_DUMPABLE) };
    assert_eq!(dumpable(), 1);
    for sandbox in [
        Sandbox::new(),
        Sandbox::new().init(false),
        Sandbox::new().bind_ro("/usr/share", "/srv"),
        Sandbox::new().uid(0).gid(0),
    ] {
        sandbox.way_to("true").status().unwrap();
        assert_eq!(dumpable(), 1);
    }
    assert!(fs::read_dir("/proc/self/fd").is_ok());
}

/// Names that no other file of the system holds, assembled at run time as the secret is.
struct Names {
    host: String,
    user: String,
    home: String,
    temp: String,
}

impl Names {
    fn new() -> Self {
        let name = |kind| format!("{kind}-{}", 7919 * 104_729);
        Names { host: name("h0st"), user: name("us3r"), home: name("h0me"), temp: name("t3mp") }
    }

    fn all(&self) -> [&str; 4] {
        [&self.host, &self.user, &self.home, &self.temp]
    }

    /// Gives this process a host, a user, a home and a temporary directory of these names.
    fn take(&self, directory: &Path) {
        let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
        let user = if uid.is_root() { 0 } else { libc::CLONE_NEWUSER };
        let flags = libc::CLONE_NEWNS | libc::CLONE_NEWUTS | user;
        raw(libc::SYS_unshare, [flags as usize, 0, 0, 0, 0]).unwrap();
        if user != 0 {
            fs::write("/proc/self/setgroups", "deny").unwrap();
            fs::write("/proc/self/uid_map", format!("{uid} {uid} 1")).unwrap();
            fs::write("/proc/self/gid_map", format!("{gid} {gid} 1")).unwrap();
        }
        let host = self.host.as_str();
        raw(libc::SYS_sethostname, [host.as_ptr() as usize, host.len(), 0, 0, 0]).unwrap();
        let (home, temp) = (directory.join(&self.home), directory.join(&self.temp));
        let passwd = directory.join("passwd");
        let line = format!("{}:x:{uid}:{gid}::{}:/bin/sh\n", self.user, home.display());
        fs::write(&passwd, line).unwrap();
        bind_over(&passwd, c"/etc/passwd");
        for (name, path) in [("HOME", &home), ("TMPDIR", &temp)] {
            fs::create_dir(path).unwrap();
            // SAFETY: no other thread of this process exists.
            unsafe { std::env::set_var(name, path) };
        }
        for name in ["USER", "LOGNAME"] {
            // SAFETY: as above.
            unsafe { std::env::set_var(name, &self.user) };
        }
        std::env::set_current_dir(home).unwrap();
    }
}

/// Mounts a file over another one, where nobody else sees it.
fn bind_over(file: &Path, target: &std::ffi::CStr) {
    let file = std::ffi::CString::new(file.to_str().unwrap()).unwrap();
    let (none, flags) = (c"none".as_ptr() as usize, (libc::MS_REC | libc::MS_PRIVATE) as usize);
    raw(libc::SYS_mount, [none, c"/".as_ptr() as usize, none, flags, 0]).unwrap();
    let (from, to) = (file.as_ptr() as usize, target.as_ptr() as usize);
    raw(libc::SYS_mount, [from, to, none, libc::MS_BIND as usize, 0]).unwrap();
}

/// Where names are: what files hold, where links lead, what directories and processes are called.
fn look_for_names(places: &[&str]) -> Vec<String> {
    let (names, mut found) = (Names::new(), Vec::new());
    for needle in names.all() {
        for place in places {
            look_below(Path::new(place), needle.as_bytes(), 5, &mut found);
        }
        let mut texts: Vec<_> = std::env::vars_os().map(|(_, value)| value).collect();
        texts.extend(std::env::vars_os().map(|(key, _)| key));
        texts.extend(std::env::args_os());
        texts.extend(std::env::current_dir().map(Into::into));
        texts.extend(texts_of_the_kernel());
        let of_process =
            texts.iter().filter(|text| contains(text.as_encoded_bytes(), needle.as_bytes()));
        found.extend(of_process.map(|text| format!("{needle} in {text:?}")));
    }
    found.sort();
    found.dedup();
    found
}

/// The texts that uname(2) and the auxiliary vector have.
fn texts_of_the_kernel() -> Vec<std::ffi::OsString> {
    use std::os::unix::ffi::OsStringExt;
    // SAFETY: all-zero is a valid utsname.
    let mut name: libc::utsname = unsafe { std::mem::zeroed() };
    // SAFETY: it is valid for writing.
    assert_eq!(unsafe { libc::uname(&raw mut name) }, 0);
    let mut texts: Vec<_> = [name.nodename, name.domainname, name.version]
        .map(|text| text.map(|byte| byte.cast_unsigned()).to_vec())
        .into();
    for kind in [libc::AT_EXECFN, libc::AT_PLATFORM, libc::AT_BASE_PLATFORM] {
        // SAFETY: takes a number; what these kinds have are addresses of texts, or 0.
        let text = unsafe { libc::getauxval(kind) } as *const libc::c_char;
        if !text.is_null() {
            // SAFETY: the kernel wrote a text that ends in NUL, and it stays.
            texts.push(unsafe { std::ffi::CStr::from_ptr(text) }.to_bytes().to_vec());
        }
    }
    texts.into_iter().map(std::ffi::OsString::from_vec).collect()
}

fn look_below(directory: &Path, needle: &[u8], depth: u32, found: &mut Vec<String>) {
    // Other memory than texts, or files without an end.
    const SKIPPED: [&str; 5] = ["mem", "pagemap", "clear_refs", "kmsg", "kcore"];
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let Ok(kind) = entry.file_type() else { continue };
        let link = fs::read_link(&path).unwrap_or_default();
        let told = contains(name.as_encoded_bytes(), needle)
            || contains(link.as_os_str().as_encoded_bytes(), needle)
            || kind.is_file()
                && !SKIPPED.iter().any(|skipped| name == *skipped)
                && holds(&path, needle);
        if told {
            found.push(path.display().to_string());
        }
        if kind.is_dir() && depth > 0 {
            look_below(&path, needle, depth - 1, found);
        }
    }
}

/// A program in a file of the sandbox's own: a bind of the test's binary would show its path.
fn without_a_bind(sandbox: &Sandbox, test: &str) -> stockade::Command {
    let binary = fs::read(std::env::current_exe().unwrap()).unwrap();
    let sandbox = sandbox.clone().tmp_size(1 << 28);
    let sandbox = sandbox.file_with_mode("/srv/program", binary, 0o755);
    sandbox
        .way_to("/srv/program")
        .env("STOCKADE_TEST_CHILD", test)
        .env("STOCKADE_TEST_ROLE", "inside")
}

/// Read as a plain child reads, the names are in many places; inside, in none.
fn names_of_the_host_are_not_seen() {
    let test = "names_of_the_host_are_not_seen";
    if let Some(role) = role() {
        let places: &[&str] = match role.as_str() {
            "inside" => {
                &["/proc", "/etc", "/home", "/root", "/var", "/run", "/dev", "/tmp", "/srv"]
            }
            _ => &["/proc/self", "/proc/sys/kernel", "/etc"],
        };
        print!("{}", look_for_names(places).join("\n"));
        std::process::exit(0);
    }
    let (names, directory) = (Names::new(), tempfile::tempdir().unwrap());
    names.take(directory.path());
    let outside = myself_outside(test, "outside").arg(directory.path().join(&names.temp)).output();
    let outside = String::from_utf8(outside.unwrap().stdout).unwrap();
    let (proc, name) = ("/proc/self", &names.host);
    for place in [
        "/etc/passwd",
        "/proc/sys/kernel/hostname",
        &format!("{proc}/environ"),
        &format!("{proc}/cmdline"),
        &format!("{proc}/cwd"),
        &format!("{name} in "),
    ] {
        let seen = outside.lines().any(|line| line.starts_with(place));
        assert!(seen, "the reader does not find {place}: {outside}");
    }
    let procs = [Proc::Processes, Proc::Compat, Proc::Full].map(|proc| Sandbox::new().proc(proc));
    for sandbox in procs.into_iter().chain([Sandbox::new().sysfs()]) {
        for init in [true, false] {
            let inside = succeed(without_a_bind(&sandbox.clone().init(init), test));
            assert_eq!(inside, "", "init {init}: {sandbox:?}");
        }
    }
    // The same reader finds what is given to it.
    let given = without_a_bind(&Sandbox::new(), test).env("GIVEN", &names.user);
    assert!(succeed(given).contains("/environ"));
    let shared = Sandbox::new().namespaces(Namespaces::all() - Namespaces::UTS);
    assert!(succeed(without_a_bind(&shared, test)).contains(&format!("{name} in ")));
    assert_eq!(sh(&Sandbox::new(), "hostname"), "stockade\n");
}

fn loopback_is_up() {
    let addresses = |sandbox: Sandbox| {
        sh(&sandbox.proc(Proc::Full), "cat /proc/net/fib_trie /proc/net/if_inet6")
    };
    let up = addresses(Sandbox::new());
    assert!(up.contains("127.0.0.1") && up.contains("00000000000000000000000000000001"), "{up}");
    let down = addresses(Sandbox::new().network(Network::None));
    assert!(!down.contains("127.0.0.1"), "{down}");
}

fn nobody_else_is_reached() {
    let pids =
        sh(&Sandbox::new(), "kill -0 -1 && echo somebody || echo nobody; ls -d /proc/[0-9]*");
    assert!(common::ways::has_company() || pids.contains("nobody"), "{pids}");
    assert!(!pids.contains(&format!("/proc/{}\n", std::process::id())), "{pids}");
}

fn mount_propagation_is_cut() {
    let table = sh(&Sandbox::new().bind_ro("/usr/share", "/srv"), "cat /proc/self/mountinfo");
    for tag in ["shared:", "master:", "propagate_from:"] {
        assert!(!table.contains(tag), "{table}");
    }
}
