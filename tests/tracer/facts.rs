//! What a program finds out about the sandbox it is in, one fact a line, so that two sandboxes can
//! be compared.

use std::fmt::Write;
use std::fs;
use std::path::Path;

/// The kinds below /proc/PID/ns.
const KINDS: [&str; 10] = [
    "cgroup",
    "ipc",
    "mnt",
    "net",
    "pid",
    "pid_for_children",
    "time",
    "time_for_children",
    "user",
    "uts",
];
/// Lines of /proc/self/status that describe a protection.
const STATUS: [&str; 11] = [
    "Umask",
    "Uid",
    "Gid",
    "Groups",
    "CapInh",
    "CapPrm",
    "CapEff",
    "CapBnd",
    "CapAmb",
    "NoNewPrivs",
    "Seccomp",
];

/// What the program is told of the host: its namespaces, then its session keyring.
pub(crate) fn host() -> Vec<String> {
    let mut host: Vec<_> = KINDS.iter().map(|kind| namespace(kind)).collect();
    host.push(keyring().to_string());
    host
}

/// What a new socket's packets are marked with, by the class of the group, or why there is none.
pub(crate) fn mark() -> String {
    let socket = match std::net::UdpSocket::bind("0.0.0.0:0") {
        Ok(socket) => socket,
        Err(error) => return error.kind().to_string(),
    };
    let (mut mark, mut length) = (u32::MAX, 4);
    let (value, socket) = ((&raw mut mark).cast(), std::os::fd::AsRawFd::as_raw_fd(&socket));
    // SAFETY: there is room for the number.
    let result = unsafe {
        libc::getsockopt(socket, libc::SOL_SOCKET, libc::SO_MARK, value, &raw mut length)
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    mark.to_string()
}

fn namespace(kind: &str) -> String {
    let link = fs::read_link(format!("/proc/self/ns/{kind}"));
    link.map_or_else(|error| error.to_string(), |link| link.display().to_string())
}

fn keyring() -> i64 {
    // SAFETY: KEYCTL_GET_KEYRING_ID (0) of KEY_SPEC_SESSION_KEYRING (-3); numbers only.
    unsafe { libc::syscall(libc::SYS_keyctl, 0, -3, 0) }
}

/// Runs inside: prints all facts. `host` is what [`host`] said outside.
pub(crate) fn print(host: &[String]) {
    let mut text = String::new();
    processes(&mut text);
    identity(&mut text, host);
    files(&mut text);
    limits(&mut text);
    print!("{text}");
}

/// Notes a fact.
macro_rules! fact {
    ($text:expr, $($format:tt)*) => { writeln!($text, $($format)*).unwrap() };
}

fn processes(text: &mut String) {
    // SAFETY: getsid takes a number.
    let session = unsafe { libc::getsid(0) };
    fact!(text, "session leader: {}", u32::try_from(session) == Ok(std::process::id()));
    let mut others: Vec<_> = names("/proc").into_iter().collect();
    others.retain(|name| name.parse::<u32>().is_err());
    fact!(text, "in /proc besides processes: {others:?}");
    fact!(text, "memory of process 1: {:?}", kind_of(fs::File::open("/proc/1/mem").err()));
    // One is the directory that is read.
    let open: Vec<_> = names("/proc/self/fd").into_iter().collect();
    fact!(text, "descriptors: {open:?}");
    for number in open.iter().filter(|number| number.parse().is_ok_and(|number: i32| number > 4)) {
        let link = fs::read_link(format!("/proc/self/fd/{number}"));
        fact!(text, "descriptor {number}: {:?}", link.ok());
    }
    let terminal = fs::File::options().read(true).write(true).open("/dev/tty");
    fact!(text, "controlling terminal: {}", terminal.is_ok());
    let ignored = fs::read_to_string("/proc/self/status").unwrap_or_default();
    // Rust's runtime ignores SIGPIPE itself.
    for line in ignored.lines().filter(|line| line.starts_with("SigBlk")) {
        fact!(text, "{line}");
    }
}

fn identity(text: &mut String, host: &[String]) {
    let own = |same: bool| if same { "the host's" } else { "own" };
    for (kind, theirs) in KINDS.iter().zip(host) {
        fact!(text, "namespace {kind}: {}", own(namespace(kind) == *theirs));
    }
    fact!(text, "keyring: {}", own(host.get(KINDS.len()) == Some(&keyring().to_string())));
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    for name in STATUS {
        let line = status.lines().find(|line| line.split(':').next() == Some(name));
        fact!(text, "{}", line.unwrap_or(name));
    }
    // Where there is no /proc, too.
    let asked =
        [(libc::PR_GET_NO_NEW_PRIVS, 0), (libc::PR_GET_SECCOMP, 0), (libc::PR_CAPBSET_READ, 21)];
    // SAFETY: takes numbers.
    let bound = asked.map(|(what, number)| unsafe { libc::prctl(what, number, 0, 0, 0) });
    fact!(text, "no new privileges, filter, CAP_SYS_ADMIN in the bounding set: {bound:?}");
    // SAFETY: takes nothing.
    fact!(text, "root: {}", unsafe { libc::geteuid() } == 0);
    fact!(text, "host name: {}", host_name());
    // SAFETY: unshare takes a number; this process makes no use of a new user namespace.
    let nested = unsafe { libc::unshare(libc::CLONE_NEWUSER) };
    fact!(text, "nested user namespace: {}", if nested == 0 { "made" } else { "refused" });
    let mut environment: Vec<_> = std::env::vars().collect();
    environment.sort();
    fact!(text, "environment: {environment:?}");
    fact!(text, "time: {:?}", fs::read_to_string("/proc/self/timens_offsets").ok());
    fact!(text, "oom: {:?}", fs::read_to_string("/proc/self/oom_score_adj").ok());
    let local = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| std::net::TcpStream::connect(listener.local_addr()?));
    fact!(text, "loopback: {:?}", kind_of(local.err()));
}

fn host_name() -> String {
    let mut name = [0u8; 65];
    // SAFETY: the buffer has the length that is passed along.
    unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len()) };
    String::from_utf8_lossy(&name).trim_end_matches('\0').to_owned()
}

fn files(text: &mut String) {
    for path in ["/", "/root", "/work", "/dev", "/dev/shm", "/tmp", "/home", "/data"] {
        fact!(text, "in {path}: {:?}", names(path));
    }
    for place in ["/", "/usr", "/etc", "/dev", "/tmp", "/home/user", "/dev/shm", "/data"] {
        let made = fs::write(Path::new(place).join("made"), "x");
        fact!(text, "writing in {place}: {:?}", kind_of(made.err()));
        // A later program, or the caller's own directory, must not find it.
        fs::remove_file(Path::new(place).join("made")).ok();
    }
    fact!(text, "working directory: {:?}", std::env::current_dir().ok());
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for line in table.lines() {
        let mut fields = line.split(' ');
        let (place, options) = (fields.nth(4).unwrap_or(""), fields.next().unwrap_or(""));
        let kind = line.split(" - ").nth(1).and_then(|rest| rest.split(' ').next());
        fact!(text, "mount {place} {options} {}", kind.unwrap_or(""));
    }
}

fn limits(text: &mut String) {
    for resource in 0..16u32 {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: `limit` is writable, and the resource a number.
        unsafe { libc::getrlimit(resource as _, &raw mut limit) };
        fact!(text, "limit {resource}: {} {}", limit.rlim_cur, limit.rlim_max);
    }
    // SAFETY: getpriority takes numbers.
    fact!(text, "nice: {}", unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) });
    // SAFETY: the path ends in NUL.
    fact!(text, "chroot: {}", unsafe { libc::chroot(c"/".as_ptr()) });
    // Last, as it would change what is told above.
    fact!(text, "made writable: {:?}", [c"/", c"/usr", c"/proc"].map(make_writable));
}

/// Whether a mount's flags can be taken off, which needs CAP_SYS_ADMIN over who made it.
fn make_writable(place: &std::ffi::CStr) -> bool {
    let (none, flags) = (c"none".as_ptr(), libc::MS_REMOUNT | libc::MS_BIND);
    // SAFETY: all are NUL-terminated.
    unsafe { libc::mount(none, place.as_ptr(), none, flags, c"".as_ptr().cast()) == 0 }
}

fn kind_of(error: Option<std::io::Error>) -> Option<std::io::ErrorKind> {
    error.map(|error| error.kind())
}

fn names(path: &str) -> Vec<String> {
    let list = fs::read_dir(path).map(|entries| {
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    });
    let mut list: Vec<String> = list.unwrap_or_else(|error| vec![error.kind().to_string()]);
    list.sort();
    list
}
