//! What there is to know about the host, and what of it is looked for as text.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use super::leak::Leak;
use crate::plan::Plan;
use crate::sys;

/// Shorter texts are in too much to mean anything.
const SHORTEST: usize = 6;
/// Arguments and variables have to be longer: many are words.
const LONG: usize = 8;

/// A text by which something of the host's is recognised.
#[derive(Debug, Clone)]
pub(crate) struct Fact {
    pub(crate) leak: Leak,
    /// What of it is told to who reads the report.
    pub(crate) shown: String,
    pub(crate) text: Vec<u8>,
}

/// What there is to know.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) texts: Vec<Fact>,
    pub(crate) host_name: Vec<u8>,
    pub(crate) users: BTreeSet<Vec<u8>>,
    pub(crate) file_systems: BTreeSet<u64>,
    pub(crate) memory: Option<u64>,
    /// Seconds of the time of day.
    pub(crate) boot_time: Option<u64>,
    pub(crate) processors: usize,
}

impl Facts {
    /// Looks at the host, from the caller's process; `given` are the variables of the program.
    pub(crate) fn of_host(plan: &Plan, given: &[(OsString, OsString)]) -> Self {
        let mut facts = Facts { processors: processors(), ..Facts::default() };
        facts.machine();
        facts.kernel();
        facts.people();
        facts.network();
        facts.file_systems();
        facts.caller(plan, given);
        facts.texts.retain(|fact| fact.text.len() >= SHORTEST);
        facts
    }

    fn add(&mut self, leak: Leak, text: impl Into<Vec<u8>>) {
        let text = text.into();
        let shown = String::from_utf8_lossy(&text).into_owned();
        self.texts.push(Fact { leak, shown, text });
    }

    fn machine(&mut self) {
        for path in ["/etc/machine-id", "/var/lib/dbus/machine-id"] {
            self.add(Leak::MachineId, read(path).trim());
        }
        self.add(Leak::BootId, read("/proc/sys/kernel/random/boot_id").trim());
        self.add(Leak::KernelCommandLine, read("/proc/cmdline").trim());
        for line in read("/proc/partitions").lines().skip(2) {
            self.add(Leak::Disks, line.trim());
        }
        let models = read("/proc/cpuinfo");
        for model in models.lines().filter_map(|line| line.strip_prefix("model name")).take(1) {
            self.add(Leak::Processor, model.trim_start_matches([' ', '\t', ':']).trim());
        }
        let memory = read("/proc/meminfo");
        let total = memory.lines().find_map(|line| line.strip_prefix("MemTotal:"));
        let total = total.and_then(|text| text.trim().strip_suffix(" kB"));
        self.memory = total.and_then(|text| text.parse().ok());
        self.add(Leak::Memory, total.unwrap_or_default());
        let stat = read("/proc/stat");
        let boot = stat.lines().find_map(|line| line.strip_prefix("btime "));
        self.boot_time = boot.and_then(|text| text.trim().parse().ok());
        self.add(Leak::BootTime, boot.unwrap_or_default().trim());
        for name in ["product_serial", "product_uuid", "board_serial", "chassis_serial"] {
            self.add(Leak::Hardware, read(&format!("/sys/class/dmi/id/{name}")).trim());
        }
    }

    fn kernel(&mut self) {
        let Ok(names) = nix::sys::utsname::uname() else { return };
        self.add(Leak::Kernel, names.release().as_bytes());
        self.add(Leak::Kernel, names.version().as_bytes());
        self.host_name = names.nodename().as_bytes().to_vec();
        for name in [names.nodename(), names.domainname()] {
            // What a kernel without a domain says.
            if name != "(none)" && name != "localhost" {
                self.add(Leak::HostName, name.as_bytes());
            }
        }
    }

    /// Users who are people, as far as that can be told, and who calls.
    fn people(&mut self) {
        let caller = nix::unistd::geteuid().as_raw();
        for line in read("/etc/passwd").lines() {
            let fields: Vec<_> = line.split(':').collect();
            let [name, _, uid, _, _, home, ..] = fields[..] else { continue };
            let Ok(uid) = uid.parse::<u32>() else { continue };
            if !((1000..65000).contains(&uid) || (uid == caller && uid != 0 && uid != 65534)) {
                continue;
            }
            self.users.insert(name.as_bytes().to_vec());
            self.add(Leak::User, name);
            if home.len() > "/home/".len() {
                self.add(Leak::User, home);
            }
        }
        for name in ["USER", "LOGNAME"] {
            let name = std::env::var_os(name).unwrap_or_default();
            if name != "root" && name != "nobody" {
                self.add(Leak::User, name.into_vec());
            }
        }
    }

    fn network(&mut self) {
        let trie = read("/proc/net/fib_trie");
        let lines: Vec<_> = trie.lines().map(str::trim).collect();
        let local = lines.windows(2).filter(|pair| pair[1] == "/32 host LOCAL");
        for address in local.filter_map(|pair| pair[0].strip_prefix("|-- ")) {
            if !address.starts_with("127.") {
                self.add(Leak::Address, address);
            }
        }
        for line in read("/proc/net/if_inet6").lines() {
            let address = line.split(' ').next().unwrap_or_default();
            // Loopback has the same everywhere.
            if address != "00000000000000000000000000000001" {
                self.add(Leak::Address, address);
            }
        }
        for entry in fs::read_dir("/sys/class/net").into_iter().flatten().flatten() {
            let address = fs::read_to_string(entry.path().join("address")).unwrap_or_default();
            if address.trim() != "00:00:00:00:00:00" {
                self.add(Leak::Address, address.trim());
            }
        }
        for line in read("/proc/net/unix").lines().skip(1) {
            let name = line.split_whitespace().nth(7).unwrap_or_default();
            self.add(Leak::Socket, name.trim_start_matches('@'));
        }
    }

    fn file_systems(&mut self) {
        for line in read("/proc/self/mountinfo").lines() {
            let Some(point) = line.split(' ').nth(4) else { continue };
            if let Some(number) = sys::file_system_number(Path::new(point)) {
                self.file_systems.insert(number);
            }
        }
        // Of what is in memory, or in the kernel alone.
        self.file_systems.remove(&0);
    }

    /// The process that asks, of which nothing is to be inside but what it gives.
    fn caller(&mut self, plan: &Plan, given: &[(OsString, OsString)]) {
        let described = plan.to_string();
        let is_given = |text: &[u8]| {
            given.iter().any(|(_, value)| contains(value.as_bytes(), text))
                || contains(described.as_bytes(), text)
        };
        for path in [std::env::current_dir(), std::env::current_exe()].into_iter().flatten() {
            self.path(Leak::Path, path.as_os_str(), given);
        }
        for name in ["HOME", "TMPDIR", "XDG_RUNTIME_DIR"] {
            self.path(Leak::Path, &std::env::var_os(name).unwrap_or_default(), given);
        }
        for source in plan.sources() {
            self.path(Leak::Path, OsStr::from_bytes(source), given);
        }
        for (name, value) in std::env::vars_os() {
            let value = value.into_vec();
            if value.len() >= LONG && !is_given(&value) && !is_usual(&value) {
                let shown = name.to_string_lossy().into_owned();
                self.texts.push(Fact { leak: Leak::Environment, shown, text: value });
            }
        }
        for argument in std::env::args_os().skip(1).map(OsString::into_vec) {
            if argument.len() >= LONG && !is_given(&argument) && !argument.starts_with(b"-") {
                self.add(Leak::CommandLine, argument);
            }
        }
        for entry in fs::read_dir("/proc/self/fd").into_iter().flatten().flatten() {
            let Ok(path) = fs::read_link(entry.path()) else { continue };
            if path.is_absolute()
                && !path.starts_with("/dev")
                && !path.starts_with("/proc")
                && !path.as_os_str().as_bytes().starts_with(b"/memfd:")
            {
                self.path(Leak::OpenFile, path.as_os_str(), given);
            }
        }
        for line in read("/proc/self/cgroup").lines() {
            self.add(Leak::Cgroup, line.splitn(3, ':').nth(2).unwrap_or_default());
        }
    }

    /// A path of the caller's; not where it is that of much else.
    fn path(&mut self, leak: Leak, path: &OsStr, given: &[(OsString, OsString)]) {
        let inside = given.iter().any(|(_, value)| value == path);
        if !inside
            && !is_usual(path.as_bytes())
            && !self.texts.iter().any(|fact| fact.text == path.as_bytes())
        {
            self.add(leak, path.as_bytes());
        }
    }
}

/// Of paths, those that every machine has.
fn is_usual(text: &[u8]) -> bool {
    const PLACES: [&str; 8] = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc", "/dev", "/proc"];
    let of_system = |part: &[u8]| {
        let path = Path::new(OsStr::from_bytes(part));
        path == Path::new("/root") || PLACES.iter().any(|place| path.starts_with(place))
    };
    text.split(|&byte| byte == b':').all(of_system)
}

fn processors() -> usize {
    let text = read("/proc/stat");
    let of_one = |line: &&str| line.strip_prefix("cpu").is_some_and(|rest| !rest.starts_with(' '));
    text.lines().filter(of_one).count()
}

/// What cannot be read is not known to who looks, either.
fn read(path: &str) -> String {
    fs::read(path)
        .map_or_else(|_| String::new(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    memchr::memmem::find(text, part).is_some()
}
