//! What /proc tells of the machine, as the sandbox's own; [proc(5)](https://man7.org/linux/man-pages/man5/proc.5.html).

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use nix::errno::Errno;
use nix::time::{ClockId, clock_gettime};

use super::bytes;
use crate::abi::*;
use crate::cgroup::{Cpu, Limits, cpuset};
use crate::error::{Error, Result, Stage};
use crate::lower::Lower;
use crate::namespace::time::TimeOffsets;
use crate::rlimit::Max;
use crate::sys;
use crate::wire::Op;

/// More processors no kernel has.
const CPUS_MAX: u32 = 8192;
/// Half of what the kernel lets a clock have.
const UPTIME_MAX: Duration = Duration::from_secs(70 * 365 * 86400);
/// The same in every sandbox, so that a result does not depend on it; no host has it.
const BOOT_ID: &str = "73746f63-6b61-4465-8000-00000000d15c";

/// The machine that a program sees in /proc: the number of processors, the memory, the time since it
/// was started and the id of its boot, for [`Sandbox::view`](crate::Sandbox::view)
/// ([proc(5)](https://man7.org/linux/man-pages/man5/proc.5.html)).
///
/// What is not said is what the sandbox's limits allow: as many processors as
/// [`cpu_limit`](crate::Sandbox::cpu_limit) makes up and [`cpus`](crate::Sandbox::cpus) lists, as much memory as
/// [`memory_limit`](crate::Sandbox::memory_limit), the host's where there is no limit; a start at the spawn; and a
/// boot id that is the same in every sandbox.
///
/// # Examples
///
/// ```
/// use stockade::{Sandbox, View};
/// let sandbox = Sandbox::new().view(View::new().cpus(3).memory(1 << 30));
/// let script = "grep -c ^processor /proc/cpuinfo; grep MemTotal /proc/meminfo";
/// let output = sandbox.command("sh").args(["-c", script]).output()?;
/// assert_eq!(output.stdout, b"3\nMemTotal:        1048576 kB\n");
/// # Ok::<(), stockade::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use]
pub struct View {
    cpus: Option<u32>,
    memory: Option<u64>,
    uptime: Duration,
    boot_id: Option<String>,
}

/// A view with everything decided.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    cpus: u32,
    /// Kilobytes.
    memory: u64,
    uptime: u64,
    boot_id: String,
}

impl View {
    /// All of it by the sandbox's limits.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Sandbox, View};
    /// let output = Sandbox::new().view(View::new()).command("uptime").arg("-p").output()?;
    /// assert!(output.stdout.starts_with(b"up"));
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn new() -> Self {
        View::default()
    }

    /// So many processors, 1 to 8192, in cpuinfo and stat. Which ones the program runs on is not
    /// changed: [`Sandbox::cpus`](crate::Sandbox::cpus) does that.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Sandbox, View};
    /// let sandbox = Sandbox::new().view(View::new().cpus(64));
    /// let output = sandbox.command("grep").args(["-c", "^cpu[0-9]", "/proc/stat"]).output()?;
    /// assert_eq!(output.stdout, b"64\n");
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn cpus(self, count: u32) -> Self {
        View { cpus: Some(count), ..self }
    }

    /// So many bytes of memory, at least a kilobyte, in meminfo, all of them free.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Sandbox, View};
    /// let sandbox = Sandbox::new().view(View::new().memory(512 << 20));
    /// let output = sandbox.command("free").arg("-m").output()?;
    /// assert!(String::from_utf8_lossy(&output.stdout).contains(" 512 "));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn memory(self, bytes: u64) -> Self {
        View { memory: Some(bytes), ..self }
    }

    /// How long the machine has been running at the spawn, in whole seconds, at most 70 years; default 0
    /// ([time_namespaces(7)](https://man7.org/linux/man-pages/man7/time_namespaces.7.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use stockade::{Sandbox, View};
    /// let sandbox = Sandbox::new().view(View::new().uptime(Duration::from_secs(86400)));
    /// let output = sandbox.command("cat").arg("/proc/uptime").output()?;
    /// assert_eq!(output.stdout, b"86400.00 0.00\n");
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn uptime(self, uptime: Duration) -> Self {
        View { uptime, ..self }
    }

    /// The id of the boot, 32 hexadecimal digits in groups of 8, 4, 4, 4 and 12
    /// ([random(4)](https://man7.org/linux/man-pages/man4/random.4.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Sandbox, View};
    /// let view = View::new().boot_id("01234567-89ab-4def-8123-456789abcdef");
    /// let command = Sandbox::new().view(view).command("cat");
    /// let output = command.arg("/proc/sys/kernel/random/boot_id").output()?;
    /// assert!(output.stdout.starts_with(b"01234567-89ab"));
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn boot_id(self, id: impl Into<String>) -> Self {
        View { boot_id: Some(id.into()), ..self }
    }

    pub(crate) fn problems(&self, problems: &mut Vec<String>) {
        if self.cpus.is_some_and(|count| !(1..=CPUS_MAX).contains(&count)) {
            problems.push(format!("a view of processors has 1 to {CPUS_MAX} of them"));
        }
        if self.memory.is_some_and(|bytes| bytes < 1024) {
            problems.push("a view of memory has at least a kilobyte".to_owned());
        }
        if self.uptime > UPTIME_MAX {
            problems.push("a view's uptime is at most 70 years".to_owned());
        }
        let fits = |id: &String| {
            let groups: Vec<_> = id.split('-').map(str::len).collect();
            let digits = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
            groups == [8, 4, 4, 4, 12] && id.bytes().all(digits)
        };
        if let Some(id) = self.boot_id.as_ref().filter(|&id| !fits(id)) {
            problems.push(format!("{id:?} is no boot id"));
        }
    }

    /// What clocks have to be set to, from the caller's own.
    pub(crate) fn offsets(&self) -> Result<TimeOffsets> {
        let own = fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default();
        let offset = |clock: ClockId, name: &str| {
            let now = clock_gettime(clock).map_err(|errno| {
                Error::new(Stage::Prepare, "clock_gettime", name.to_owned(), errno)
            })?;
            let line = own.lines().find_map(|line| line.strip_prefix(name));
            let shift = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
            let uptime = i64::try_from(self.uptime.as_secs()).unwrap_or(i64::MAX);
            // Offsets are those from the host's clocks, also where the caller has others.
            Ok::<i64, Error>(uptime - (now.tv_sec() - shift.unwrap_or(0)))
        };
        Ok(TimeOffsets {
            monotonic: offset(ClockId::CLOCK_MONOTONIC, "monotonic")?,
            boottime: offset(ClockId::CLOCK_BOOTTIME, "boottime")?,
        })
    }

    /// Decides what was not said.
    pub(crate) fn machine(&self, limits: &Limits) -> Machine {
        let listed = limits.cpuset.as_ref().and_then(|cpuset| cpuset.cpus.as_deref());
        let listed = listed.and_then(cpuset::count);
        let limit = limits.cpu.as_ref().and_then(Cpu::whole);
        let allowed = [Some(sys::cpus()), listed, limit].into_iter().flatten().min();
        let memory = match limits.memory.as_ref().and_then(|memory| memory.max) {
            Some(Max::At(bytes)) => Some(bytes / 1024),
            _ => None,
        };
        let host = || of_host("/proc/meminfo", "MemTotal:").and_then(|text| text.parse().ok());
        Machine {
            cpus: self.cpus.or(allowed).unwrap_or(1).max(1),
            memory: self.memory.map(|bytes| bytes / 1024).or(memory).or_else(host).unwrap_or(1),
            uptime: self.uptime.as_secs(),
            boot_id: self.boot_id.clone().unwrap_or_else(|| BOOT_ID.to_owned()),
        }
    }
}

/// The first word after a name.
fn of_host(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next().map(str::to_owned)
}

/// Files of /proc that have another content, by their names in it.
const FILES: [&str; 5] = ["cpuinfo", "loadavg", "meminfo", "stat", "uptime"];

impl Machine {
    /// What each has, from the host's as far as it tells nothing.
    pub(crate) fn files(&self) -> Result<Vec<(&'static str, Vec<u8>)>> {
        let host = |name| {
            fs::read_to_string(Path::new("/proc").join(name)).map_err(|error| {
                let errno = Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO));
                Error::new(Stage::Prepare, "read", format!("\"/proc/{name}\""), errno)
            })
        };
        let content = |name| {
            Ok::<String, Error>(match name {
                "cpuinfo" => self.cpuinfo(&host(name)?),
                "meminfo" => self.meminfo(&host(name)?),
                "stat" => self.stat(),
                "uptime" => format!("{}.00 0.00\n", self.uptime),
                _ => "0.00 0.00 0.00 1/1 1\n".to_owned(),
            })
        };
        FILES.into_iter().map(|name| Ok((name, content(name)?.into_bytes()))).collect()
    }

    /// The content of kernel/random/boot_id.
    pub(crate) fn boot_id(&self) -> Vec<u8> {
        format!("{}\n", self.boot_id).into_bytes()
    }

    /// Blocks like the host's, numbered anew, on one socket.
    fn cpuinfo(&self, host: &str) -> String {
        let is_processor = |block: &&str| block.starts_with("processor");
        let blocks: Vec<_> = host.split("\n\n").filter(is_processor).collect();
        let mut text = String::new();
        for (number, block) in (0..self.cpus).zip(blocks.iter().cycle()) {
            for line in block.lines() {
                let (name, value) = line.split_once(':').unwrap_or((line, ""));
                let value = match name.trim() {
                    "processor" | "core id" | "apicid" | "initial apicid" | "hart" => {
                        number.to_string()
                    }
                    "siblings" | "cpu cores" => self.cpus.to_string(),
                    "physical id" => "0".to_owned(),
                    _ => value.trim().to_owned(),
                };
                // Writing to a string does not fail.
                let _ = writeln!(text, "{name}: {value}");
            }
            text.push('\n');
        }
        text
    }

    /// The host's names: all of the memory is there, and nothing is used.
    fn meminfo(&self, host: &str) -> String {
        let mut text = String::new();
        for line in host.lines() {
            let Some((name, rest)) = line.split_once(':') else { continue };
            let unit = if rest.ends_with(" kB") { " kB" } else { "" };
            let same = || rest.split_whitespace().next().and_then(|word| word.parse().ok());
            let value = match name {
                "MemTotal" | "MemFree" | "MemAvailable" => self.memory,
                "CommitLimit" => self.memory / 2,
                // Of the kernel, and not of the machine.
                "VmallocTotal" | "Hugepagesize" => same().unwrap_or(0),
                _ => 0,
            };
            let _ = writeln!(text, "{:<15} {value:>8}{unit}", format!("{name}:"));
        }
        text
    }

    /// Processors that have done nothing since the start.
    fn stat(&self) -> String {
        let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |now| now.as_secs());
        let mut text = "cpu  0 0 0 0 0 0 0 0 0 0\n".to_owned();
        for number in 0..self.cpus {
            let _ = writeln!(text, "cpu{number} 0 0 0 0 0 0 0 0 0 0");
        }
        let started = now.saturating_sub(self.uptime);
        let _ = write!(
            text,
            "intr 0\nctxt 0\nbtime {started}\nprocesses 1\nprocs_running 1\nprocs_blocked 0\n\
             softirq 0 0 0 0 0 0 0 0 0 0 0\n"
        );
        text
    }
}

/// Where a file is in what is let go with the host's root.
fn staged(name: &str) -> String {
    format!("view-{name}")
}

/// Lays the files ready.
pub(super) fn lower_files(files: &[(&'static str, Vec<u8>)], plan: &mut Lower) {
    for (name, data) in files {
        let path = format!("/{}", staged(name)).into_bytes();
        let op = Op::File { path, mode: 0o444, data: data.clone() };
        plan.step(op, "the machine that is shown");
    }
}

/// Puts them over those of a whole procfs, in which no file can be made.
pub(super) fn lower_covers(plan: &mut Lower) {
    for name in FILES {
        let attributes =
            MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
        let (from, to) = (staged(name).into_bytes(), bytes(&Path::new("/proc").join(name)));
        let op = Op::Bind { from, fd: -1, to, flags: 0, attributes };
        plan.step(op, "the machine that is shown is the sandbox's own");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOWN: fn(u32) -> Machine =
        |cpus| Machine { cpus, memory: 2048, uptime: 7, boot_id: BOOT_ID.to_owned() };

    #[test]
    fn processors_are_numbered_anew() {
        let host = "processor\t: 0\nsiblings\t: 64\nflags\t\t: a b\n\nprocessor\t: 1\n\
                    siblings\t: 64\nflags\t\t: a b\n\nHardware : secret\n";
        let text = SHOWN(3).cpuinfo(host);
        assert_eq!(text.matches("processor\t: ").count(), 3);
        assert!(text.contains("processor\t: 2\nsiblings\t: 3\nflags\t\t: a b\n"), "{text}");
        assert!(!text.contains("64") && !text.contains("secret"), "{text}");
        assert_eq!(SHOWN(3).cpuinfo(""), "");
    }

    #[test]
    fn memory_has_the_kernels_names() {
        let host = "MemTotal:       24731708 kB\nMemFree: 1 kB\nSlab: 5 kB\nHugePages_Total:       3\n\
                    Hugepagesize:       2048 kB\nDirectMap1G: 9 kB\nnonsense\n";
        let text = SHOWN(1).meminfo(host);
        assert!(
            text.starts_with("MemTotal:           2048 kB\nMemFree:            2048 kB\n"),
            "{text}"
        );
        assert!(
            text.contains("HugePages_Total:        0\nHugepagesize:       2048 kB\n"),
            "{text}"
        );
    }
}
