//! The harness of the sandbox tests: every test runs in a process of its own, and one that cannot
//! run here is reported as ignored, with its reason.
#![allow(dead_code, reason = "each test binary uses some")]
#![allow(unsafe_code, reason = "what this process may do is found by doing it")]

pub(crate) mod ways;

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};

/// What a test needs of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Nothing but the right to make a sandbox.
    Nothing,
    /// uid 0.
    Root,
    /// Any other uid.
    Unprivileged,
    /// A program on the host's PATH.
    Program(&'static str),
    /// The same, and a kernel that tells of TCP sockets by netlink.
    SocketDiagAndProgram(&'static str),
    /// A file or directory that some package has.
    File(&'static str),
    /// Programs in the directories of the sandbox's PATH.
    Installed(&'static [&'static str]),
    /// uid 0 and a program on the host's PATH.
    RootAndProgram(&'static str),
    /// uid 0 and a hierarchy of cgroup v2.
    RootAndCgroup2,
    /// uid 0 and a hierarchy with this controller, as v1 calls it.
    RootAndController(&'static str),
    /// The same of cgroup v1.
    RootAndV1(&'static str),
    /// The same of cgroup v2.
    RootAndV2(&'static str),
    /// uid 0 and controllers of cgroup v1 that the kernel has and nobody has mounted.
    RootAndUnmounted(&'static [&'static str]),
    /// uid 0, a hierarchy with hugetlb, and memory in such pages.
    RootAndHugePages,
    /// Any other uid, to which a group of cgroup v2 is delegated.
    DelegatedCgroup2,
    /// Any other uid, to which none is.
    Undelegated,
    /// Any uid that may make control groups.
    Groups,
    /// The same, and a hierarchy of cgroup v2 with this controller.
    GroupsAndV2(&'static str),
    /// The same, a controller of memory, and room to swap to.
    GroupsAndSwap,
    /// uid 0, the controller of memory of cgroup v1, and room to swap to.
    RootAndV1Swap,
    /// uid 0, the same controller, and so little memory that a test may fill it.
    RootAndV1LittleMemory,
    /// uid 0, and a group of cgroup v1 that real-time processes are given time of.
    RootAndRealTimeGroups,
    /// uid 0, a hierarchy with blkio, and the scheduler of disks that looks at weights.
    RootAndBfq,
    /// uid 0, the controller of RDMA, and a device for it.
    RootAndRdma,
    /// uid 0, controllers of cgroup v1 that nobody has mounted, and a program on the host's PATH.
    RootUnmountedAndProgram(&'static [&'static str], &'static str),
    /// A rustup tool chain that this user can read.
    Toolchain,
    /// A manager of the caller's, root or not, on its bus.
    Systemd,
    /// The same for any other uid than 0.
    UsersSystemd,
    /// No systemd on the host.
    NoSystemd,
    /// A Debian root, as `STOCKADE_TEST_IMAGE` names one.
    Image,
    /// uid 0 and the same.
    RootAndImage,
    /// This version of Linux, or a later one.
    Linux(u32, u32),
    /// uid 0 and the same.
    RootAndLinux(u32, u32),
    /// No more mounts than a test can make.
    FewMounts,
    /// The right to real-time scheduling.
    RealTime,
    /// This version of Landlock's interface.
    Landlock(u32),
    /// `user.*` attributes on tmpfs, without which an overlay whose upper is one cannot hide what is in a
    /// layer's directory (Linux 6.6).
    TmpfsAttributes,
    /// The profiles of tests/apparmor, loaded, as `STOCKADE_TEST_APPARMOR` says.
    AppArmorProfiles,
    /// No security module with labels.
    NoLabels,
    /// uid 0, and auditing that is on, with what Landlock writes to its log.
    RootAndAudit,
    /// Any other uid than 0 and this version of Landlock's interface.
    UnprivilegedAndLandlock(u32),
}

impl Needs {
    /// Why the test cannot run here.
    fn missing(self) -> Option<String> {
        let root = nix::unistd::geteuid().is_root();
        match self {
            Needs::Nothing => None,
            Needs::Root => (!root).then(|| "needs root".to_owned()),
            Needs::Landlock(version) => {
                (landlock() < version).then(|| format!("needs version {version} of Landlock"))
            }
            Needs::RootAndAudit if !root => Some("needs root".to_owned()),
            Needs::RootAndAudit => Needs::Landlock(7).missing().or_else(|| {
                (!audits()).then(|| "needs auditing that is on (auditctl -e 1)".to_owned())
            }),
            Needs::UnprivilegedAndLandlock(_) if root => Needs::Unprivileged.missing(),
            Needs::UnprivilegedAndLandlock(version) => Needs::Landlock(version).missing(),
            Needs::AppArmorProfiles => std::env::var_os("STOCKADE_TEST_APPARMOR")
                .is_none()
                .then(|| "needs AppArmor with the profiles of tests/apparmor".to_owned()),
            Needs::NoLabels => std::fs::read("/proc/self/attr/current")
                .is_ok()
                .then(|| "needs a host without labels of a security module".to_owned()),
            Needs::Unprivileged => root.then(|| "needs an unprivileged user".to_owned()),
            Needs::TmpfsAttributes => (!has_tmpfs_attributes())
                .then(|| "needs user attributes on tmpfs (Linux 6.6)".to_owned()),
            Needs::RootAndLinux(..) if !root => Some("needs root".to_owned()),
            Needs::Linux(major, minor) | Needs::RootAndLinux(major, minor) => {
                let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
                let mut numbers = release.split(['.', '-']).map(str::parse::<u32>);
                let found = (numbers.next().unwrap().unwrap(), numbers.next().unwrap().unwrap());
                (found < (major, minor)).then(|| format!("needs Linux {major}.{minor}"))
            }
            Needs::FewMounts => {
                let max = std::fs::read_to_string("/proc/sys/fs/mount-max").unwrap_or_default();
                let few = max.trim().parse().is_ok_and(|max: u64| max <= 200_000);
                (!few).then(|| "needs fs.mount-max of 200000 at the most".to_owned())
            }
            Needs::Program(name) => (!has(name)).then(|| format!("needs {name}")),
            Needs::SocketDiagAndProgram(name) => Needs::Program(name)
                .missing()
                .or_else(|| (!tells_of_sockets()).then(|| "needs tcp_diag".to_owned())),
            Needs::File(path) => {
                (!std::path::Path::new(path).exists()).then(|| format!("needs {path}"))
            }
            Needs::Installed(names) => {
                let missing: Vec<_> = names.iter().filter(|name| !is_installed(name)).collect();
                (!missing.is_empty()).then(|| format!("needs {missing:?}"))
            }
            Needs::RootAndProgram(_) if !root => Some("needs root".to_owned()),
            Needs::RootAndProgram(name) => Needs::Program(name).missing(),
            Needs::RootAndCgroup2 if !root => Some("needs root".to_owned()),
            Needs::RootAndCgroup2 => {
                cgroup2().is_none().then(|| "needs a mount of cgroup v2".to_owned())
            }
            Needs::RootAndController(_)
            | Needs::RootAndV1(_)
            | Needs::RootAndV2(_)
            | Needs::RootAndUnmounted(_)
            | Needs::RootAndHugePages
            | Needs::RootAndV1Swap
            | Needs::RootAndV1LittleMemory
            | Needs::RootAndRealTimeGroups
            | Needs::RootAndBfq
            | Needs::RootAndRdma
            | Needs::RootUnmountedAndProgram(..)
                if !root =>
            {
                Some("needs root".to_owned())
            }
            Needs::RootAndController(name) => lacks(name, None),
            Needs::RootAndV1(name) => lacks(name, Some(true)),
            Needs::RootAndV2(name) => lacks(name, Some(false)),
            Needs::RootAndUnmounted(names) => cannot_be_mounted(names),
            Needs::RootUnmountedAndProgram(names, program) => {
                cannot_be_mounted(names).or_else(|| Needs::Program(program).missing())
            }
            Needs::RootAndRealTimeGroups => lacks("cpu", Some(true)).or_else(|| {
                (!has_real_time_groups())
                    .then(|| "needs a kernel with CONFIG_RT_GROUP_SCHED".to_owned())
            }),
            Needs::RootAndBfq => lacks("blkio", None)
                .or_else(|| (!has_bfq()).then(|| "needs the I/O scheduler BFQ".to_owned())),
            Needs::RootAndRdma => {
                lacks("rdma", None).or_else(|| Needs::File("/sys/class/infiniband").missing())
            }
            Needs::RootAndHugePages => lacks("hugetlb", None)
                .or_else(|| HugePages::reserve(2).is_none().then(|| "needs huge pages".to_owned())),
            Needs::DelegatedCgroup2 if root => Needs::Unprivileged.missing(),
            Needs::DelegatedCgroup2 => {
                (!is_delegated()).then(|| "needs a delegated group of cgroup v2".to_owned())
            }
            Needs::Undelegated if root => Needs::Unprivileged.missing(),
            Needs::Undelegated => {
                is_delegated().then(|| "needs a user without a delegated group".to_owned())
            }
            Needs::Groups if root => None,
            Needs::Groups => Needs::DelegatedCgroup2.missing(),
            Needs::GroupsAndSwap => {
                Needs::Groups.missing().or_else(|| lacks("memory", None)).or_else(no_swap)
            }
            Needs::RootAndV1Swap => lacks("memory", Some(true)).or_else(no_swap),
            Needs::RootAndV1LittleMemory => lacks("memory", Some(true)).or_else(|| {
                (memory_in_kib("MemTotal") > 4 << 20)
                    .then(|| "needs a machine with no more than 4 GiB of memory".to_owned())
            }),
            Needs::GroupsAndV2(name) => {
                Needs::Groups.missing().or_else(|| lacks(name, Some(false)))
            }
            Needs::RealTime => {
                (!may_be_real_time()).then(|| "needs the right to real-time scheduling".to_owned())
            }
            Needs::Systemd => (!std::path::Path::new(&bus()).exists())
                .then(|| "needs a systemd to ask".to_owned()),
            Needs::UsersSystemd if root => Needs::Unprivileged.missing(),
            Needs::UsersSystemd => Needs::Systemd.missing(),
            Needs::NoSystemd => std::path::Path::new("/run/systemd/system")
                .exists()
                .then(|| "needs a host without systemd".to_owned()),
            Needs::Image => image()
                .is_none()
                .then(|| "needs STOCKADE_TEST_IMAGE, a Debian root made by mmdebstrap".to_owned()),
            Needs::RootAndImage if !root => Some("needs root".to_owned()),
            Needs::RootAndImage => Needs::Image.missing(),
            Needs::Toolchain => {
                let missing = toolchain().is_none();
                missing.then(|| "needs a rustup tool chain that this user can read".to_owned())
            }
        }
    }
}

/// Why nothing can be swapped out.
fn no_swap() -> Option<String> {
    let swaps = std::fs::read_to_string("/proc/swaps").unwrap_or_default();
    (swaps.lines().count() < 2).then(|| "needs swap".to_owned())
}

/// A number of /proc/meminfo.
pub(crate) fn memory_in_kib(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap();
    let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    found.unwrap().trim().trim_end_matches(" kB").parse().unwrap()
}

/// The version of Landlock's interface; 0 without one.
pub(crate) fn landlock() -> u32 {
    // SAFETY: with this flag the call takes no address.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0usize, 0usize, 1u32) };
    u32::try_from(version).unwrap_or(0)
}

/// Memory files are on a tmpfs of the kernel's own.
fn has_tmpfs_attributes() -> bool {
    // SAFETY: a name that ends in NUL.
    let file = unsafe { libc::memfd_create(c"attributes".as_ptr(), libc::MFD_CLOEXEC) };
    let (name, value) = (c"user.test".as_ptr(), c"v".as_ptr().cast());
    // SAFETY: texts that end in NUL, and one byte; whatever the descriptor is.
    let set = unsafe { libc::fsetxattr(file, name, value, 1, 0) };
    // SAFETY: nobody else has it.
    unsafe { libc::close(file) };
    set == 0
}

/// Whether a thread of this process may have that.
fn may_be_real_time() -> bool {
    let thread = std::thread::spawn(|| {
        let priority = libc::sched_param { sched_priority: 1 };
        // SAFETY: valid for reading.
        unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const priority) == 0 }
    });
    thread.join().unwrap()
}

/// Whether some disk could be served by BFQ.
fn has_bfq() -> bool {
    let disks = std::fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let mut schedulers =
        disks.filter_map(|disk| std::fs::read_to_string(disk.path().join("queue/scheduler")).ok());
    schedulers.any(|names| names.contains("bfq"))
}

/// Whether v1's groups have a share of the time of real-time processes.
fn has_real_time_groups() -> bool {
    let runtime = |(point, _): &(PathBuf, bool)| point.join("cpu.rt_runtime_us").exists();
    mounted().iter().any(runtime)
}

/// Whether this process may make groups beside its own on cgroup v2.
fn is_delegated() -> bool {
    let above = cgroup2().and_then(|own| Some(own.parent()?.join("cgroup.procs")));
    above.is_some_and(|procs| nix::unistd::access(&procs, nix::unistd::AccessFlags::W_OK).is_ok())
}

/// Where v1 and v2 are mounted here.
pub(crate) fn mounted() -> Vec<(PathBuf, bool)> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = |line: &str| {
        let (before, after) = line.split_once(" - ")?;
        let v2 = after.starts_with("cgroup2 ");
        let here = v2 || after.starts_with("cgroup ");
        let named = after.contains("name=");
        here.then(|| (PathBuf::from(before.split(' ').nth(4).unwrap()), v2)).filter(|_| !named)
    };
    text.lines().filter_map(line).collect()
}

/// Whether a controller is in a v1 hierarchy here; `None` if it is nowhere.
pub(crate) fn is_v1(name: &str) -> Option<bool> {
    let v2_name = if name == "blkio" { "io" } else { name };
    mounted().into_iter().find_map(|(point, v2)| match v2 {
        true => {
            let all = std::fs::read_to_string(point.join("cgroup.controllers")).unwrap();
            all.split_whitespace().any(|one| one == v2_name).then_some(false)
        }
        false => point
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .split(',')
            .any(|one| one == name)
            .then_some(true),
    })
}

/// Why there is no such controller in a hierarchy of this version, or of any.
fn lacks(name: &str, v1: Option<bool>) -> Option<String> {
    let found = is_v1(name);
    let fits = found.is_some() && (v1.is_none() || v1 == found);
    let version = v1.map_or("", |v1| if v1 { " v1" } else { " v2" });
    (!fits).then(|| format!("needs the controller {name} of cgroup{version}"))
}

/// Why these controllers of v1 cannot be mounted by a test.
fn cannot_be_mounted(names: &[&str]) -> Option<String> {
    let enabled = std::fs::read_to_string("/proc/cgroups").unwrap_or_default();
    let is_free = |name: &&str| {
        let mut lines = enabled.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        lines.any(|words| words[0] == *name && words[3] == "1") && is_v1(name) != Some(true)
    };
    let all = names.iter().all(is_free);
    (!all).then(|| format!("needs {} of cgroup v1, not mounted", names.join(", ")))
}

/// Pages of 2 MiB that the kernel was made to set aside, until this is dropped.
#[derive(Debug)]
pub(crate) struct HugePages(u64);

const HUGE_PAGES: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";

impl HugePages {
    pub(crate) fn reserve(count: u64) -> Option<Self> {
        let number = || std::fs::read_to_string(HUGE_PAGES).ok()?.trim().parse::<u64>().ok();
        let before = number()?;
        std::fs::write(HUGE_PAGES, (before + count).to_string()).ok()?;
        let pages = HugePages(before);
        (number()? >= before + count).then_some(pages)
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        std::fs::write(HUGE_PAGES, self.0.to_string()).unwrap();
    }
}

/// This process's group of cgroup v2, where that is mounted.
pub(crate) fn cgroup2() -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
    let point = mount.split(' ').nth(4)?;
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(PathBuf::from(point).join(own))
}

/// Where the bus of this user's systemd is.
fn bus() -> String {
    match nix::unistd::geteuid() {
        root if root.is_root() => "/run/dbus/system_bus_socket".to_owned(),
        user => format!("/run/user/{user}/bus"),
    }
}

/// How many times slower than common this machine is, as whoever emulates one says.
pub(crate) fn slowness() -> u32 {
    std::env::var("STOCKADE_TEST_SLOWNESS").map_or(1, |text| text.parse().unwrap())
}

/// A short time: a sandbox is made within it.
pub(crate) fn moment(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds) * slowness()
}

/// How often something is tried that may fail at some moments only.
pub(crate) fn rounds(number: u32) -> u32 {
    (number / slowness()).max(5)
}

/// Whether the host has a program.
pub(crate) fn has(name: &str) -> bool {
    is_in(&std::env::var_os("PATH").unwrap_or_default(), name)
}

/// The PATH of the inside.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Whether a sandbox finds a program without being told where it is.
pub(crate) fn is_installed(name: &str) -> bool {
    is_in(PATH.as_ref(), name)
}

fn is_in(path: &std::ffi::OsStr, name: &str) -> bool {
    std::env::split_paths(path).any(|directory| directory.join(name).is_file())
}

/// A directory made by `mmdebstrap --variant=minbase` or by debootstrap, which takes too long to be
/// made by a test.
pub(crate) fn image() -> Option<PathBuf> {
    std::env::var_os("STOCKADE_TEST_IMAGE").map(PathBuf::from)
}

/// Whether the kernel audits, and this process is where the numbers in its log are right.
fn audits() -> bool {
    use nix::sys::socket::{self, AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockType};
    use std::os::fd::AsRawFd;
    let protocol = socket::SockProtocol::NetlinkAudit;
    let Ok(kernel) =
        socket::socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)
    else {
        return false;
    };
    // AUDIT_GET, as a request.
    let question = [16u32.to_ne_bytes(), (1 << 16 | 1000u32).to_le_bytes(), [1, 0, 0, 0], [0; 4]];
    let (fd, to) = (kernel.as_raw_fd(), NetlinkAddr::new(0, 0));
    let mut answer = [0; 256];
    let asked = socket::sendto(fd, &question.concat(), &to, MsgFlags::empty())
        .and_then(|_| socket::recv(fd, &mut answer, MsgFlags::empty()));
    let first = std::fs::read_link("/proc/self/ns/pid");
    let enabled = answer[4..6] == 1000u16.to_ne_bytes() && answer[20..24] != [0; 4];
    asked.is_ok() && enabled && first.is_ok_and(|pids| pids == Path::new("pid:[4026531836]"))
}

/// Whether the kernel answers who asks for all TCP sockets (inet_diag).
fn tells_of_sockets() -> bool {
    use nix::sys::socket::{self, AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockType};
    use std::os::fd::AsRawFd;
    let protocol = socket::SockProtocol::NetlinkSockDiag;
    let Ok(kernel) =
        socket::socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)
    else {
        return false;
    };
    // SOCK_DIAG_BY_FAMILY, as a dump; then the family, the protocol and all states.
    let mut question =
        [72u32, 0x301 << 16 | 20, 1, 0, 6 << 8 | 2, u32::MAX].map(u32::to_le_bytes).concat();
    question.resize(72, 0);
    let (fd, to) = (kernel.as_raw_fd(), NetlinkAddr::new(0, 0));
    let mut answer = [0; 8192];
    let asked = socket::sendto(fd, &question, &to, MsgFlags::empty())
        .and_then(|_| socket::recv(fd, &mut answer, MsgFlags::empty()));
    // NLMSG_ERROR
    asked.is_ok() && answer[4..6] != 2u16.to_ne_bytes()
}

/// A Rust tool chain that lies in somebody's home directory, or the one that
/// `STOCKADE_TEST_TOOLCHAIN` names.
pub(crate) fn toolchain() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("STOCKADE_TEST_TOOLCHAIN") {
        return Some(named.into());
    }
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let rustup = std::env::var_os("RUSTUP_HOME").map(PathBuf::from);
    let all = rustup.or(home.map(|home| home.join(".rustup")))?.join("toolchains");
    let toolchains = std::fs::read_dir(all).ok()?.flatten().map(|entry| entry.path());
    let mut toolchains: Vec<_> =
        toolchains.filter(|path| std::fs::File::open(path.join("bin/rustc")).is_ok()).collect();
    toolchains.sort();
    toolchains.into_iter().next()
}

/// One test.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Test {
    pub(crate) name: &'static str,
    pub(crate) needs: Needs,
    pub(crate) run: fn(),
}

/// `tests![needs: name, name; needs: name]`
#[macro_export]
macro_rules! tests {
    ($($needs:expr => [$($name:ident),* $(,)?];)*) => {
        fn main() -> std::process::ExitCode {
            $crate::common::main(&[$($($crate::common::Test {
                name: stringify!($name),
                needs: $needs,
                run: $name,
            }),*),*])
        }
    };
}

/// The same, and each once more for every way to start a program: what they start by
/// `way_to` is started in that way. Those of `needs => alone [name, name]` are not, and
/// [`ways_of`] has other words for those that some ways are not for.
#[macro_export]
macro_rules! tests_in_all_ways {
    ($($needs:expr => $($kind:ident)? [$($name:ident),* $(,)?];)*) => {
        fn main() -> std::process::ExitCode {
            $crate::common::main_in_all_ways(&[$((&[$($crate::common::Test {
                name: stringify!($name),
                needs: $needs,
                run: $name,
            }),*], stringify!($($kind)?))),*])
        }
    };
}

/// The same, and each that needs control groups once more as a user to whom root delegates some: by the
/// `delegated` of common/groups.rs; those of `needs => with_its_own_groups [name, name]` in ways as well.
#[macro_export]
macro_rules! tests_also_delegated {
    ($($needs:expr => $($kind:ident)? [$($name:ident),* $(,)?];)*) => {
        fn main() -> std::process::ExitCode {
            $crate::common::main_also_delegated(&[$((&[$($crate::common::Test {
                name: stringify!($name),
                needs: $needs,
                run: $name,
            }),*], stringify!($($kind)?))),*], $crate::groups::delegated)
        }
    };
}

/// Names the test that this process is to run.
const CHILD: &str = "STOCKADE_TEST_CHILD";
/// Names the way in which it starts programs.
pub(crate) const WAY: &str = "STOCKADE_TEST_WAY";
/// Whether each has a sandbox of its own, as if nothing had been said.
pub(crate) fn is_own() -> bool {
    std::env::var(WAY).is_ok_and(|way| way.is_empty())
}

/// Those besides a sandbox of its own for each.
const WAYS: [&str; 5] = ["prepared", "recycled", "session", "pool", "enter"];
type WayNames = &'static [&'static str];

/// The ways of a group of tests.
fn ways_of(kind: &str) -> WayNames {
    match kind {
        "" => &WAYS,
        "alone" => &[],
        "delegated" => &[DELEGATED],
        // A session's are for all its programs, and who enters a sandbox has that one's.
        "with_its_own_groups" => &["prepared", "pool", DELEGATED],
        // Nothing such is made before: what is prepared is made alone.
        "without_template" => &["session", "pool", "enter"],
        // A program that has entered a sandbox has no files by its own handle.
        "by_its_handle" => &["prepared", "recycled", "session", "pool"],
        // Both.
        "only_waiting" => &["session", "pool"],
        _ => panic!("no such kind: {kind}"),
    }
}

/// Whether a program was started in the way that the test is to have, and whether one was started otherwise.
pub(crate) static AS_SAID: AtomicBool = AtomicBool::new(false);
pub(crate) static OTHERWISE: AtomicBool = AtomicBool::new(false);
/// Whether this process has started programs, but none in the way that it was to.
pub(crate) fn is_otherwise() -> bool {
    OTHERWISE.load(Ordering::Relaxed) && !AS_SAID.load(Ordering::Relaxed)
}

/// Tests only of sandboxes that cannot wait for a program, or have no template.
const ONLY_OTHERWISE: [&str; 20] = [
    "nested_user_namespace_by_name",
    "signals_to_the_host",
    "without_submounts",
    "time_ends_it_without_init",
    "time_ends_what_it_started_without_a_pid_namespace",
    "without_init_it_must_be_told",
    "a_program_that_is_missing_is_told",
    "a_static_program_with_few_calls",
    "directory_root_writable",
    "inherited_streams",
    "init_is_not_confused_by_a_tracee",
    "joined_network_alone",
    "limits_do_not_depend_on_the_caller",
    "no_call_does",
    "nothing_in_the_hosts",
    "owners",
    "owners_of_a_private_tree",
    "planted_link_does_not_redirect_a_file",
    "profiles_in_json",
    "raw_programs",
];
/// Why these tests are not in a way.
const NOT_IN: [(&str, &str, &[&str]); 12] = [
    (
        "recycled",
        "its network is none that is used again",
        &[
            "abstract_sockets_of_the_host",
            "host_network_is_the_hosts",
            "no_network",
            "nobody_gets_out_of_it",
            "none_for_root_inside",
            "the_hosts_root_by_name",
            "without_the_capability_nothing_is_mounted",
        ],
    ),
    (
        "recycled",
        "no other program could be in its network before",
        &["directory_root", "empty_root", "in_a_directory", "in_an_empty_root"],
    ),
    (
        "recycled",
        "its network is not the sandbox's own, which an unprivileged caller might join",
        &["join_by_path", "join_user_and_network"],
    ),
    (
        "session",
        "its session is paused, by another handle",
        &["killed_while_its_sandbox_is_paused"],
    ),
    ("enter", "its sandbox is paused, by another handle", &["killed_while_its_sandbox_is_paused"]),
    (
        "session",
        "the session's mounts are there after the end of its program",
        &["covered_files_do_not_show", "output_of_an_overlay_root"],
    ),
    ("session", "who looks after it is killed as well, as is documented", &["kills_everyone"]),
    (
        "enter",
        "the time of the sandbox that is entered is up before",
        &[
            "time_ends_it_for_a_caller_who_waits",
            "time_ends_it_for_a_caller_who_never_waits",
            "time_ends_it_when_init_is_stopped",
            "time_ends_it_when_init_is_stopped_and_nobody_waits",
            "grace_lets_it_clean_up",
            "grace_ends_for_who_ignores_it",
            "lingering_does_not_outlast_the_wall_time",
            "two_that_stay",
            "detached_ends_by_itself",
            "init_cannot_be_attacked_at_its_start",
            "init_is_not_confused_by_a_tracee",
            "a_fork_bomb_ends",
            "a_flood_of_output_ends",
            "closes_everything",
            "time_ends_a_daemon_that_does_not_heed_the_grace",
            "time_ends_a_daemon_that_lingers",
            "time_ends_a_daemon_for_a_caller_who_waits",
            "time_ends_a_daemon_for_a_caller_who_never_waits",
            "time_ends_the_daemon_of_a_detached_sandbox",
            "time_ends_a_daemon_when_init_is_stopped",
            "stops_its_own_group",
            "deadlines",
        ],
    ),
    (
        "enter",
        "what is full is told of the sandbox's own program",
        &["disk_full_by_default", "disk_full_of_each", "disk_full_of_inodes"],
    ),
    (
        "enter",
        "files and changes are those of the sandbox's own handle",
        &["killed_at_any_moment_with_a_world_of_its_own"],
    ),
    (
        "enter",
        "what it has started lives on until the end of the sandbox",
        &["a_killed_init_is_told"],
    ),
    (
        "enter",
        "no program that is there can go on under such a filter",
        &[
            "a_program_that_is_missing_is_told",
            "everything_but_the_least_refused",
            "a_static_program_with_few_calls",
            "profiles_in_json",
        ],
    ),
];

/// The way of a test that a delegated user runs.
const DELEGATED: &str = "delegated";

pub(crate) fn main(tests: &[Test]) -> ExitCode {
    run(tests.iter().map(|&test| (test, &[][..])).collect())
}

pub(crate) fn main_also_delegated(groups: &[(&[Test], &str)], delegate: fn(&str)) -> ExitCode {
    if let Ok(name) = std::env::var(CHILD) {
        if std::env::var(WAY).is_ok_and(|way| way == DELEGATED) {
            delegate(&name);
            return ExitCode::SUCCESS;
        }
    }
    let ways = |kind: &str, test: &Test| match kind {
        "" if by_groups(test.needs) => ways_of("delegated"),
        "" => ways_of("alone"),
        kind => ways_of(kind),
    };
    run(in_ways(groups, ways))
}

/// All tests of the groups, with the ways that their kind has.
fn in_ways(groups: &[(&[Test], &str)], ways: fn(&str, &Test) -> WayNames) -> Vec<(Test, WayNames)> {
    let all = groups.iter().flat_map(|(tests, kind)| tests.iter().map(move |test| (test, kind)));
    all.map(|(test, kind)| (*test, ways(kind, test))).collect()
}

/// Whether a test needs nothing of root's but control groups.
fn by_groups(needs: Needs) -> bool {
    matches!(
        needs,
        Needs::Groups
            | Needs::GroupsAndSwap
            | Needs::GroupsAndV2(_)
            | Needs::RootAndV1Swap
            | Needs::RootAndV1LittleMemory
    )
}

/// Why such a test does not run as a user to whom groups are delegated by this one.
fn not_delegated() -> Option<String> {
    let v1 = || mounted().iter().any(|(_, v2)| !v2);
    match nix::unistd::geteuid().is_root() {
        false => Some("needs root".to_owned()),
        true if !v1() => Some("needs cgroup v1; on v2 such a user runs all tests".to_owned()),
        true => None,
    }
}

pub(crate) fn main_in_all_ways(groups: &[(&[Test], &str)]) -> ExitCode {
    run(in_ways(groups, |kind, _| ways_of(kind)))
}

/// Why a test is not in that way here.
fn not_in(way: &str, test: &Test) -> Option<String> {
    let not = |(of, _, names): &&(&str, &str, &[&str])| *of == way && names.contains(&test.name);
    match way {
        DELEGATED => not_delegated(),
        _ => NOT_IN.iter().find(not).map(|(_, why, _)| (*why).to_owned()),
    }
}

/// Runs each, and once more in each of its ways.
fn run(tests: Vec<(Test, WayNames)>) -> ExitCode {
    if let Ok(name) = std::env::var(CHILD) {
        let (test, _) =
            tests.iter().find(|(test, _)| test.name == name).expect("a test of this binary");
        (test.run)();
        let listed = ONLY_OTHERWISE.contains(&test.name);
        assert!(listed || !is_otherwise(), "nothing was started in the way that the name says");
        return ExitCode::SUCCESS;
    }
    let ways = [&[""], &WAYS[..], &[DELEGATED]].concat();
    let trials = ways.into_iter().flat_map(|way| {
        let fits = move |(_, ways): &&(Test, &[&str])| way.is_empty() || ways.contains(&way);
        tests.iter().filter(fits).map(move |&(test, _)| {
            let missing = test.needs.missing().or_else(|| not_in(way, &test));
            let kind = missing.clone().unwrap_or_default();
            let name =
                if way.is_empty() { test.name.to_owned() } else { format!("{way}::{}", test.name) };
            let trial = Trial::test(name, move || in_process(test.name, way));
            trial.with_kind(kind).with_ignored_flag(missing.is_some())
        })
    });
    let mut arguments = Arguments::from_args();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    match env!("CARGO_CRATE_NAME") {
        // Their tests wait for most of their time.
        "ends" | "session" if slowness() == 1 => {
            arguments.test_threads.get_or_insert(processors * 2);
        }
        // They take what the others would miss.
        "tenants" => arguments.test_threads = Some(1),
        _ => {}
    }
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn in_process(name: &str, way: &str) -> Result<(), Failed> {
    let myself = std::env::current_exe()?;
    // Removed here, as a test that fails or ends by exit drops nothing.
    let directory = tempfile::tempdir()?;
    std::fs::set_permissions(directory.path(), Permissions::from_mode(0o1777))?;
    let mut command = Command::new(myself);
    command.env(CHILD, name).env(WAY, way).env("TMPDIR", directory.path());
    let output = command.output()?;
    directory.close()?;
    if output.status.success() {
        return Ok(());
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Err(format!("{}\n{}{}", output.status, text(&output.stdout), text(&output.stderr)).into())
}
