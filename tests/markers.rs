//! Nothing inside identifies the host: a program reads whatever it can read, and what it has read is
//! searched for what was planted outside and for what is the machine's own.
//!
//! What may be found is in a table of docs/threat-model.md, and that is found; everything else is not.
//! Left out is /usr, whose files are whatever packages brought.
#![allow(
    clippy::exit,
    clippy::incompatible_msrv,
    clippy::cast_possible_truncation,
    reason = "a test process, built by a current toolchain"
)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails so")]
#![allow(unsafe_code, reason = "unshare(2), keys, and what the kernel tells of the machine")]

mod common;
#[path = "common/inside.rs"]
mod inside;
#[path = "common/mounts.rs"]
mod mounts;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};

use common::Needs;
use common::ways::Ways;
use stockade::{Data, Leak, Namespaces, Network, Outcome, Proc, Sandbox, Severity};

tests_in_all_ways! {
    Needs::Nothing => [nothing_identifies_the_host];
}

/// Only inside, where it was given as data: the debugger's part of it names where it was built.
const PROBE: &str = "/probe";
const TEST: &str = "nothing_identifies_the_host";

fn nothing_identifies_the_host() {
    match inside::role().as_deref() {
        None => embedder(),
        Some("embedder") => search(),
        Some(_) => tell_all(),
    }
}

// ---- inside: everything that can be read ---------------------------------------------------------

/// More of a file is not read.
const FILE_MAX: u64 = 1 << 20;

fn tell(name: &str, text: &[u8]) {
    let mut out = std::io::stdout().lock();
    write!(out, "\n\u{1}{name}\n").unwrap();
    out.write_all(text).unwrap();
}

/// What is in the places that are named, and what system calls answer.
fn tell_all() {
    std::env::args().skip(1).for_each(|root| walk(Path::new(&root)));
    tell("argument vector", format!("{:?}", std::env::args_os().next()).as_bytes());
    tell("environment", format!("{:?}", std::env::vars_os().collect::<Vec<_>>()).as_bytes());
    tell("getcwd(2)", format!("{:?}", std::env::current_dir()).as_bytes());
    let names = nix::sys::utsname::uname().unwrap();
    let names =
        [names.nodename(), names.domainname(), names.release(), names.version(), names.sysname()];
    tell("uname(2)", format!("{names:?}").as_bytes());
    tell("sysinfo(2)", memory().to_string().as_bytes());
    tell("clock_gettime(2)", boot_time().to_string().as_bytes());
    tell("cpuid", processor().as_bytes());
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for point in mounts.lines().filter_map(|line| line.split(' ').nth(4)) {
        tell(&format!("statfs(2) of {point}"), file_system(Path::new(point)).as_bytes());
    }
}

fn walk(path: &Path) {
    const PACKAGES: [&str; 7] = ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];
    if path == Path::new(PROBE) || PACKAGES.iter().any(|packages| path == Path::new(packages)) {
        return;
    }
    let Ok(found) = path.symlink_metadata() else { return };
    let mut text = Vec::new();
    if found.is_symlink() {
        text = format!("{:?}", fs::read_link(path)).into_bytes();
    } else if found.is_file() {
        let file = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
        // Reading may end with an error in the middle.
        let _end = file.map(|file| file.take(FILE_MAX).read_to_end(&mut text));
    }
    tell(&path.to_string_lossy(), &text);
    if found.is_dir() {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries.for_each(|entry| walk(&entry.path()));
    }
}

/// All of the memory, in kilobytes.
fn memory() -> u64 {
    let mut info = MaybeUninit::<libc::sysinfo>::uninit();
    // SAFETY: the address is that of a struct sysinfo.
    assert_eq!(unsafe { libc::sysinfo(info.as_mut_ptr()) }, 0);
    // SAFETY: the kernel has filled it.
    let info = unsafe { info.assume_init() };
    info.totalram * u64::from(info.mem_unit) / 1024
}

/// When the machine was started, in seconds of the time of day.
fn boot_time() -> i64 {
    let now = |clock| {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the address is that of a struct timespec.
        assert_eq!(unsafe { libc::clock_gettime(clock, &raw mut time) }, 0);
        i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
    };
    let boot = now(libc::CLOCK_REALTIME) - now(libc::CLOCK_BOOTTIME);
    i64::try_from(boot / 1_000_000_000).unwrap()
}

#[cfg(target_arch = "x86_64")]
fn processor() -> String {
    let words = (0x8000_0002..=0x8000_0004).flat_map(|leaf| {
        #[allow(unused_unsafe, reason = "safe since Rust 1.94")]
        // SAFETY: every processor of this architecture has the instruction.
        let answer = unsafe { std::arch::x86_64::__cpuid(leaf) };
        [answer.eax, answer.ebx, answer.ecx, answer.edx]
    });
    let bytes: Vec<u8> = words.flat_map(u32::to_le_bytes).filter(|byte| *byte != 0).collect();
    String::from_utf8_lossy(&bytes).trim().to_owned()
}

#[cfg(not(target_arch = "x86_64"))]
fn processor() -> String {
    String::new()
}

/// The number that a file system has, on most made of its UUID.
fn file_system(path: &Path) -> String {
    let path = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    let mut found = MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: the path ends with a NUL, and the address is that of a struct statfs.
    let result = unsafe { libc::statfs(path.as_ptr(), found.as_mut_ptr()) };
    // SAFETY: all zeros are one, too.
    let found = unsafe { found.assume_init() };
    if result == 0 { format!("{:?}", found.f_fsid) } else { String::new() }
}

// ---- outside: what is planted, and what is the machine's ---------------------------------------

/// Something that tells which host this is.
#[derive(Debug)]
struct Marker {
    name: &'static str,
    /// Any of these.
    texts: Vec<String>,
}

fn marker(name: &'static str, text: impl Into<String>) -> Marker {
    Marker { name, texts: vec![text.into()] }
}

/// Starts the embedder, with a name, a home and habits of its own.
fn embedder() {
    let base = inside::open_directory();
    let name = |what: &str| format!("planted-{what}-{}", std::process::id());
    let place = |what: &str| {
        let path = base.path().join(name(what));
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    };
    let mut command = inside::myself_outside(TEST, "embedder");
    command.env("HOME", place("home")).env("TMPDIR", place("temporary"));
    command.env("USER", name("user")).env("LOGNAME", name("user"));
    command.env("SECRET", name("environment")).arg(name("argument"));
    command.current_dir(place("directory"));
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}

/// What is planted, the rest of which is made here, and held.
#[derive(Debug)]
struct Planted {
    markers: Vec<Marker>,
    /// Where most of it is.
    base: PathBuf,
    _kept: (UnixListener, UnixListener, File),
}

impl Planted {
    fn new() -> Self {
        let variable = |name| std::env::var(name).unwrap();
        let (home, temporary) = (variable("HOME"), variable("TMPDIR"));
        let base = Path::new(&home).parent().unwrap().to_owned();
        let argument = std::env::args().nth(1).unwrap();
        let directory = std::env::current_dir().unwrap();
        let name = |what: &str| argument.replace("argument", what);
        let last = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let mut markers = vec![
            marker("home directory", last(Path::new(&home))),
            marker("temporary directory", last(Path::new(&temporary))),
            marker("current directory", last(&directory)),
            marker("all of these", last(&base)),
            marker("environment", variable("SECRET")),
            marker("command line", argument.as_str()),
        ];
        let mut plant = |what: &'static str| {
            let name = name(what);
            markers.push(marker(what, name.as_str()));
            name
        };
        mounts::own_mounts();
        // SAFETY: a number only.
        assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWUTS) }, 0);
        let host = plant("host");
        // SAFETY: the bytes are valid for reading.
        assert_eq!(unsafe { libc::sethostname(host.as_ptr().cast(), host.len()) }, 0);
        let domain = plant("domain");
        // SAFETY: as above.
        assert_eq!(unsafe { libc::setdomainname(domain.as_ptr().cast(), domain.len()) }, 0);
        let user = plant("user");
        let id = "/etc/machine-id";
        let id = Path::new(id).is_file().then(|| (id, plant("machine-id")));
        // A user and a network of the host's, where it has such a file.
        let files = [
            ("/etc/hostname", host.clone()),
            ("/etc/hosts", format!("192.0.2.1 {host}")),
            ("/etc/passwd", format!("{user}:x:4242:4242::/home/{user}:/bin/sh")),
            ("/etc/resolv.conf", format!("search {domain}")),
        ];
        for (path, line) in files.into_iter().chain(id) {
            if Path::new(path).is_file() {
                let file = Path::new(&temporary).join(line.replace('/', "_"));
                fs::write(&file, format!("{line}\n")).unwrap();
                mounts::bind(&file, Path::new(path));
            }
        }
        let socket = UnixListener::bind(base.join(plant("socket"))).unwrap();
        let address = SocketAddr::from_abstract_name(plant("abstract")).unwrap();
        let abstracted = UnixListener::bind_addr(&address).unwrap();
        let path = base.join(plant("open"));
        let open = File::create(path).unwrap();
        let built = std::env::current_exe().unwrap();
        let texts = [env!("CARGO_MANIFEST_DIR"), built.to_str().unwrap()].map(str::to_owned);
        markers.push(Marker { name: "build path", texts: texts.into() });
        Planted { markers, base, _kept: (socket, abstracted, open) }
    }
}

/// What is the machine's own; what this one does not have is left out.
fn own() -> Vec<Marker> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.map(|line| line.trim_start_matches([':', ' ', '\t']).trim().to_owned())
    };
    let kernel = nix::sys::utsname::uname().unwrap();
    let kernel = [kernel.release(), kernel.version()].map(|text| text.to_str().unwrap().to_owned());
    let seconds = field(&read("/proc/stat"), "btime").unwrap().parse::<i64>().unwrap();
    let memory = field(&read("/proc/meminfo"), "MemTotal").unwrap();
    let mut markers = vec![
        Marker { name: "kernel", texts: kernel.into() },
        marker("memory", memory.trim_end_matches(" kB")),
        // The two clocks are not read at once.
        Marker {
            name: "boot time",
            texts: [-1, 0, 1].map(|more| (seconds + more).to_string()).into(),
        },
        marker("boot id", read("/proc/sys/kernel/random/boot_id").trim()),
        marker("machine id", read("/etc/machine-id").trim()),
        marker("processor", field(&read("/proc/cpuinfo"), "model name").unwrap_or_default()),
        marker("kernel command line", read("/proc/cmdline").trim()),
        marker("disks", read("/proc/partitions").lines().last().unwrap_or("").trim()),
        Marker { name: "addresses", texts: addresses(&read("/proc/net/fib_trie")) },
        marker("device of a file system", device_of_usr(&read("/proc/self/mountinfo"))),
        marker("number of a file system", file_system(Path::new("/usr"))),
    ];
    // Nothing at all, or too short to be told from other text.
    markers.iter_mut().for_each(|marker| marker.texts.retain(|text| text.len() > 5));
    markers.retain(|marker| !marker.texts.is_empty());
    markers
}

/// The machine's own in a network.
fn addresses(trie: &str) -> Vec<String> {
    let lines: Vec<_> = trie.lines().map(str::trim).collect();
    let local = lines.windows(2).filter(|pair| pair[1] == "/32 host LOCAL");
    let found = local.filter_map(|pair| pair[0].strip_prefix("|-- "));
    found.filter(|address| !address.starts_with("127.")).map(str::to_owned).collect()
}

fn device_of_usr(mounts: &str) -> String {
    let usr = fs::canonicalize("/usr").unwrap();
    let on = |line: &&str| usr.starts_with(line.split(' ').nth(4).unwrap());
    let deepest =
        mounts.lines().filter(on).max_by_key(|line| line.split(' ').nth(4).unwrap().len());
    let (_, rest) = deepest.unwrap().split_once(" - ").unwrap();
    rest.split(' ').nth(1).unwrap().to_owned()
}

// ---- the search --------------------------------------------------------------------------------

/// Where a marker is in what was told.
fn places<'a>(told: &'a str, marker: &'a Marker) -> impl Iterator<Item = &'a str> {
    let at = marker.texts.iter().flat_map(|text| told.match_indices(text.as_str()));
    at.map(|(at, _)| {
        // The name of a file is the first line after the mark, and may be the marker itself.
        let end = told[at..].find(['\n', '\0']).map_or(told.len(), |length| at + length);
        let part = told[..end].rsplit('\u{1}').next().unwrap();
        part.lines().next().unwrap_or("")
    })
}

fn is_found(told: &str, marker: &Marker) -> bool {
    places(told, marker).next().is_some()
}

/// What a table of the documentation says can be seen: by default, with a few names in /proc, and with
/// all.
fn table() -> Vec<(&'static str, [bool; 3])> {
    let text = include_str!("../docs/threat-model.md");
    let (_, table) = text.split_once("\n| of the host's | default |").unwrap();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let row = |row: &'static str| {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let seen = [2, 3, 4].map(|cell| match cells[cell] {
            "yes" => true,
            "no" => false,
            other => panic!("{other:?} in {row}"),
        });
        (cells[1], seen)
    };
    rows.map(row).collect()
}

fn run(sandbox: &Sandbox, program: &Path, roots: &[&str]) -> String {
    let mut command = sandbox.way_to(program).args(roots);
    for (key, value) in inside::myself_outside(TEST, "inside").get_envs() {
        command = command.env(key, value.unwrap());
    }
    if roots.len() > 1 {
        // What an open sandbox passes on.
        command = command.env("SECRET", std::env::var_os("SECRET").unwrap());
        command = command.current_dir(std::env::current_dir().unwrap());
    }
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(output.outcome, Outcome::Exited(0), "{}", text(&output.stderr));
    assert!(!output.stdout_truncated);
    text(&output.stdout)
}

fn search() {
    let own = own();
    let planted = Planted::new();
    // A file of the sandbox's own: a bind would show its source.
    let exe = std::env::current_exe().unwrap();
    let sandbox = Sandbox::new().data(Data::file(PROBE, fs::read(&exe).unwrap()).mode(0o755));
    let closed = [
        (0, sandbox.clone()),
        (0, sandbox.clone().init(false)),
        (1, sandbox.clone().proc(Proc::Compat)),
        (2, sandbox.clone().proc(Proc::Full)),
    ];
    let table = table();
    for (name, _) in &table {
        let known = ["boot id", "disks", "device of a file system", "processor"];
        let there = own.iter().any(|marker| marker.name == *name);
        assert!(there || known.contains(name), "{name:?} of the table is no marker");
    }
    let mut wrong = Vec::new();
    for (column, sandbox) in &closed {
        let told = run(sandbox, Path::new(PROBE), &["/"]);
        assert!(told.contains("\u{1}/etc/machine-id\n73746f636b616465"), "it reads nothing");
        for marker in own.iter().chain(&planted.markers) {
            let row = table.iter().find(|(name, _)| *name == marker.name);
            let expected = row.is_some_and(|(_, seen)| seen[*column]);
            if is_found(&told, marker) != expected {
                let places: Vec<_> = places(&told, marker).take(5).collect();
                wrong.push(format!("{column} {marker:?}: expected {expected}, in {places:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // An audit starts its own program. The name of a way would be something of the embedder's.
    if common::is_own() {
        audited(&planted, &own, &[0, 1, 2], &table);
    }
    found_where_they_are_shown(&planted, &own, &sandbox, &exe);
}

/// What the library's own audit calls a marker.
fn leak(marker: &Marker) -> Leak {
    match marker.name {
        "kernel" => Leak::Kernel,
        "processor" => Leak::Processor,
        "memory" => Leak::Memory,
        "boot time" => Leak::BootTime,
        "boot id" => Leak::BootId,
        "kernel command line" => Leak::KernelCommandLine,
        "disks" => Leak::Disks,
        "addresses" => Leak::Address,
        "device of a file system" => Leak::Device,
        "number of a file system" => Leak::FileSystem,
        "machine id" | "machine-id" => Leak::MachineId,
        "host" | "domain" => Leak::HostName,
        "user" => Leak::User,
        "environment" => Leak::Environment,
        "command line" => Leak::CommandLine,
        "socket" | "abstract" => Leak::Socket,
        "open" => Leak::OpenFile,
        "home directory"
        | "temporary directory"
        | "current directory"
        | "all of these"
        | "build path" => Leak::Path,
        other => panic!("{other} has no name in an audit"),
    }
}

/// The audit finds in a sandbox what the search has found there, and nothing that only the
/// embedder has; and each of these, as soon as it is in a file.
fn audited(planted: &Planted, own: &[Marker], columns: &[usize], table: &[(&str, [bool; 3])]) {
    for column in columns {
        let proc = [Proc::Processes, Proc::Compat, Proc::Full][*column];
        let audit = Sandbox::new().proc(proc).audit_view().unwrap();
        assert_eq!(audit.incomplete, None);
        for marker in own.iter().chain(&planted.markers) {
            let row = table.iter().find(|(name, _)| *name == marker.name);
            let expected = row.is_some_and(|(_, seen)| seen[*column]);
            if leak(marker) == Leak::Path && inside::layers_show() {
                continue;
            }
            let found = audit.findings.iter().any(|finding| finding.leak == leak(marker));
            assert_eq!(found, expected, "{proc:?}: {marker:?} in\n{audit}");
        }
        if proc != Proc::Full && !inside::layers_show() {
            assert_eq!(audit.above(Severity::Low).count(), 0, "{audit}");
        }
    }
    for marker in planted.markers.iter().filter(|marker| marker.name != "all of these") {
        // Whole names, as they would be in a file that tells of them.
        let text = match marker.name {
            "home directory" => std::env::var("HOME").unwrap(),
            "temporary directory" => std::env::var("TMPDIR").unwrap(),
            "current directory" => std::env::current_dir().unwrap().display().to_string(),
            "build path" => std::env::current_exe().unwrap().display().to_string(),
            "open" => planted.base.join(&marker.texts[0]).display().to_string(),
            "socket" => planted.base.join(&marker.texts[0]).display().to_string(),
            _ => marker.texts[0].clone(),
        };
        let file = Data::file("/leaks/here", format!("one={text}\n"));
        let audit = Sandbox::new().data(file).audit_view().unwrap();
        let of_it = |finding: &&stockade::Finding| finding.leak == leak(marker);
        let finding = audit.findings.iter().find(of_it);
        let finding = finding.unwrap_or_else(|| panic!("{marker:?} is not in\n{audit}"));
        assert_eq!(finding.places, ["/leaks/here"], "{audit}");
        assert!(finding.closed_by.contains("/leaks/here"), "{audit}");
        // A secret is not in the report.
        assert!(marker.name != "environment" || finding.shown == "SECRET", "{audit}");
    }
}

/// The same search finds what it looks for, as soon as it is shown.
fn found_where_they_are_shown(planted: &Planted, own: &[Marker], sandbox: &Sandbox, exe: &Path) {
    let of = |name: &str| planted.markers.iter().find(|marker| marker.name == name).unwrap();
    let bound = sandbox.clone().bind_ro(std::env::var_os("HOME").unwrap(), "/data");
    assert!(is_found(&run(&bound, Path::new(PROBE), &["/"]), of("home directory")));
    let process = format!("/proc/{}", std::process::id());
    let roots = ["cmdline", "net", "comm"].map(|name| format!("{process}/{name}"));
    let mut roots: Vec<&str> = roots.iter().map(String::as_str).collect();
    roots.extend([planted.base.to_str().unwrap(), "/etc/hostname", "/etc/hosts", "/etc/passwd"]);
    roots.extend(["/etc/resolv.conf", "/etc/machine-id", "/proc/partitions", "/proc/cmdline"]);
    roots.extend(["/proc/sys/kernel/random", "/proc/self/mountinfo"]);
    let open =
        Sandbox::new().namespaces(Namespaces::USER).without_atomic_end().network(Network::Host);
    let told = run(&open, exe, &roots);
    for marker in own.iter().chain(&planted.markers) {
        // Its file is covered by what was planted.
        let covered = marker.name == "machine id";
        assert!(covered || is_found(&told, marker), "{marker:?} is not found where it is shown");
    }
}
