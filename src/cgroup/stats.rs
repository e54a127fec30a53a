//! What the processes of a group use and have used, and the parsers of the files that tell it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::group::{Group, Groups};
use super::{CgroupVersion, Controller};
use crate::rlimit::Max;

/// What a sandbox's control groups tell of it
/// ([cgroups(7)](https://man7.org/linux/man-pages/man7/cgroups.7.html)). What a host, or a sandbox
/// without a limit of that kind, cannot say is `None`; an empty value of a limit, such as
/// `Memory::new()`, limits nothing and has it counted.
///
/// Init is counted as well, except in the number of processes.
///
/// # Examples
///
/// ```
/// use stockade::{Sandbox, Stats};
/// // Without limits there are no groups.
/// let mut child = Sandbox::new().command("true").spawn()?;
/// assert_eq!(child.stats()?, Stats::default());
/// # Ok::<(), stockade::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// CPU time, of all processes that there ever were, waited for or not.
    pub cpu: CpuStats,
    /// Memory and swap.
    pub memory: MemoryStats,
    /// Processes and threads.
    pub pids: PidsStats,
    /// Block devices, by number; `None` without limits of them, and on v1 where nothing was counted: newer
    /// kernels count there only on devices that some group has a limit of, or that BFQ serves.
    pub io: Option<Vec<IoStats>>,
    /// How long processes waited for block devices, with limits of them
    /// ([PSI](https://docs.kernel.org/accounting/psi.html), Linux 4.20). v2 only.
    pub io_pressure: Option<Pressure>,
    /// How often the rules of [`Devices`](crate::Devices) refused something. v2 only.
    pub device_refusals: Option<u64>,
}

/// What [`Stats`] has of CPU time
/// ([cgroup-v2.rst](https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files)). `usage`,
/// `user` and `system` are known if [`cpu_time`](crate::Limits::cpu_time) is limited or `cpu` is an empty
/// value, `Cpu::new()`; on v2 with any limit; on v1 also if `cpuacct` shares its hierarchy with what is
/// limited, as it does with `cpu` on most hosts.
///
/// # Examples
///
/// ```
/// assert_eq!(stockade::CpuStats::default().usage, None);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct CpuStats {
    /// All of it.
    pub usage: Option<Duration>,
    /// In user mode.
    pub user: Option<Duration>,
    /// In the kernel.
    pub system: Option<Duration>,
    /// Periods in which the sandbox wanted to run, with a quota.
    pub periods: Option<u64>,
    /// Periods in which its quota was used up.
    pub throttled_periods: Option<u64>,
    /// How long its CPUs were held back, all added up.
    pub throttled: Option<Duration>,
    /// How long processes waited for a CPU
    /// ([PSI](https://docs.kernel.org/accounting/psi.html), Linux 4.20). v2 only.
    pub pressure: Option<Pressure>,
}

/// What [`Stats`] has of memory, in bytes
/// ([cgroup-v2.rst](https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files)).
///
/// # Examples
///
/// ```
/// assert_eq!(stockade::MemoryStats::default().peak, None);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct MemoryStats {
    /// In use now: at the end, what nobody has given back yet. Page cache is part of it, although
    /// the kernel drops that when memory is short.
    pub current: Option<u64>,
    /// The most that was in use at a time, page cache included (on v2 Linux 5.19).
    pub peak: Option<u64>,
    /// Of `current`: the processes' own.
    pub anonymous: Option<u64>,
    /// Of `current`: page cache, and files in tmpfs.
    pub file: Option<u64>,
    /// Of `file`: what is in tmpfs or shared, and is not dropped.
    pub shared: Option<u64>,
    /// Of `current`: the kernel's, on behalf of the sandbox (on v2 Linux 5.18).
    pub kernel: Option<u64>,
    /// In swap now.
    pub swap: Option<u64>,
    /// The limit as it was last.
    pub limit: Option<Max>,
    /// How often the limit was reached. Newer kernels do not count it on v1 where swap is limited, as it
    /// is by default, and it is `None` there if the limit was near.
    pub limit_hits: Option<u64>,
    /// How often `memory.high` was exceeded. v2 only.
    pub high_hits: Option<u64>,
    /// How many processes the kernel killed for want of memory (on v1 Linux 4.13).
    pub oom_kills: Option<u64>,
    /// How long processes waited for memory
    /// ([PSI](https://docs.kernel.org/accounting/psi.html), Linux 4.20). v2 only.
    pub pressure: Option<Pressure>,
}

/// What [`Stats`] has of processes and threads, init not counted
/// ([cgroup-v2.rst](https://docs.kernel.org/admin-guide/cgroup-v2.html#pid-interface-files)).
///
/// # Examples
///
/// ```
/// assert_eq!(stockade::PidsStats::default().limit_hits, None);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct PidsStats {
    /// How many there are.
    pub current: Option<u64>,
    /// The most that there were at a time (Linux 6.1).
    pub peak: Option<u64>,
    /// How often one more was refused (Linux 4.6).
    pub limit_hits: Option<u64>,
}

/// What [`Stats`] has of one block device
/// ([cgroup-v2.rst](https://docs.kernel.org/admin-guide/cgroup-v2.html#io-interface-files)).
///
/// # Examples
///
/// ```
/// assert_eq!(stockade::IoStats::default().read_bytes, 0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct IoStats {
    /// The device's major and minor number.
    pub device: (u32, u32),
    /// Bytes that were read.
    pub read_bytes: u64,
    /// Bytes that were written.
    pub write_bytes: u64,
    /// Reads.
    pub reads: u64,
    /// Writes.
    pub writes: u64,
}

/// How long processes waited for something: some of them, and all at once
/// ([PSI](https://docs.kernel.org/accounting/psi.html)).
///
/// # Examples
///
/// ```
/// assert_eq!(stockade::Pressure::default().some.as_nanos(), 0);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Pressure {
    /// At least one waited.
    pub some: Duration,
    /// All that could have run waited (for a CPU Linux 5.13).
    pub full: Option<Duration>,
}

/// What the kernel asks of a limit at a time at most: a huge page.
const LARGEST_CHARGE: u64 = 2 << 20;

impl Stats {
    /// What was done on all block devices together, as if they were one with the number 0:0.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(stockade::Stats::default().io_total(), None);
    /// ```
    #[must_use]
    pub fn io_total(&self) -> Option<IoStats> {
        let add = |sum: IoStats, one: &IoStats| IoStats {
            device: (0, 0),
            read_bytes: sum.read_bytes.saturating_add(one.read_bytes),
            write_bytes: sum.write_bytes.saturating_add(one.write_bytes),
            reads: sum.reads.saturating_add(one.reads),
            writes: sum.writes.saturating_add(one.writes),
        };
        self.io.as_ref().map(|devices| devices.iter().fold(IoStats::default(), add))
    }
}

impl Groups {
    /// The memory that is in use, if it is counted.
    pub(crate) fn memory(&self) -> Option<u64> {
        let group = self.of(Controller::Memory)?;
        match group.version() {
            CgroupVersion::V1 => number(group, "memory.usage_in_bytes"),
            CgroupVersion::V2 => number(group, "memory.current"),
        }
    }

    /// Reads all that the groups tell.
    pub(crate) fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        for group in &self.groups {
            match group.version() {
                CgroupVersion::V2 => cpu_v2(group, &mut stats.cpu),
                CgroupVersion::V1 if group.place.hierarchy.has(Controller::Cpuacct) => {
                    cpuacct(group, &mut stats.cpu);
                }
                CgroupVersion::V1 => {}
            }
            for controller in &group.controllers {
                match (controller, group.version()) {
                    (Controller::Cpu, CgroupVersion::V1) => throttled_v1(group, &mut stats.cpu),
                    (Controller::Memory, CgroupVersion::V1) => stats.memory = memory_v1(group),
                    (Controller::Memory, CgroupVersion::V2) => stats.memory = memory_v2(group),
                    (Controller::Pids, _) => stats.pids = pids(group, self.besides()),
                    (Controller::Io, CgroupVersion::V1) => stats.io = io_v1(group),
                    (Controller::Io, CgroupVersion::V2) => {
                        stats.io = group.read("io.stat").map(|text| parse_io_stat(&text));
                        stats.io_pressure = pressure(group, "io.pressure");
                    }
                    (Controller::Devices, _) => {
                        stats.device_refusals = group.refusals(Controller::Devices);
                    }
                    _ => {}
                }
            }
        }
        stats
    }
}

fn cpu_v2(group: &Group, cpu: &mut CpuStats) {
    let stat = keyed(group, "cpu.stat");
    let time = |key: &str| stat.get(key).copied().map(Duration::from_micros);
    cpu.usage = time("usage_usec");
    cpu.user = time("user_usec");
    cpu.system = time("system_usec");
    if group.has(Controller::Cpu) {
        cpu.periods = stat.get("nr_periods").copied();
        cpu.throttled_periods = stat.get("nr_throttled").copied();
        cpu.throttled = time("throttled_usec");
    }
    cpu.pressure = pressure(group, "cpu.pressure");
}

fn throttled_v1(group: &Group, cpu: &mut CpuStats) {
    let stat = keyed(group, "cpu.stat");
    cpu.periods = stat.get("nr_periods").copied();
    cpu.throttled_periods = stat.get("nr_throttled").copied();
    cpu.throttled = stat.get("throttled_time").copied().map(Duration::from_nanos);
}

fn cpuacct(group: &Group, cpu: &mut CpuStats) {
    let time = |file| number(group, file).map(Duration::from_nanos);
    cpu.usage = time("cpuacct.usage");
    cpu.user = time("cpuacct.usage_user");
    cpu.system = time("cpuacct.usage_sys");
}

fn memory_v1(group: &Group) -> MemoryStats {
    let stat = keyed(group, "memory.stat");
    let total = |key: &str| stat.get(key).copied();
    // Without a limit the kernel shows the largest number of whole pages.
    let limit = number(group, "memory.limit_in_bytes").map(|bytes| match bytes {
        0x7fff_ffff_ffff_0000.. => Max::Unlimited,
        bytes => Max::At(bytes),
    });
    MemoryStats {
        current: number(group, "memory.usage_in_bytes"),
        peak: number(group, "memory.max_usage_in_bytes"),
        anonymous: total("total_rss"),
        file: total("total_cache"),
        shared: total("total_shmem"),
        kernel: number(group, "memory.kmem.usage_in_bytes"),
        swap: total("total_swap"),
        limit,
        limit_hits: hits_v1(|file| number(group, file)),
        high_hits: None,
        oom_kills: keyed(group, "memory.oom_control").get("oom_kill").copied(),
        pressure: None,
    }
}

/// How often v1's limit was reached. Memory and swap together are tried first, which is the same where
/// there is no swap, and not counted by newer kernels: then there is a number only if it was far off.
fn hits_v1(number: impl Fn(&str) -> Option<u64>) -> Option<u64> {
    let counted = number("memory.failcnt")?;
    let Some(both) = number("memory.memsw.failcnt") else { return Some(counted) };
    let sum = counted.saturating_add(both);
    let limit = number("memory.memsw.limit_in_bytes")?;
    let peak = number("memory.memsw.max_usage_in_bytes")?;
    (sum > 0 || peak.saturating_add(LARGEST_CHARGE) <= limit).then_some(sum)
}

fn memory_v2(group: &Group) -> MemoryStats {
    let (stat, events) = (keyed(group, "memory.stat"), keyed(group, "memory.events"));
    let total = |key: &str| stat.get(key).copied();
    let event = |key: &str| events.get(key).copied();
    let limit = group.read("memory.max").and_then(|text| match text.trim() {
        "max" => Some(Max::Unlimited),
        number => number.parse().ok().map(Max::At),
    });
    MemoryStats {
        current: number(group, "memory.current"),
        peak: number(group, "memory.peak"),
        anonymous: total("anon"),
        file: total("file"),
        shared: total("shmem"),
        kernel: total("kernel"),
        swap: number(group, "memory.swap.current"),
        limit,
        limit_hits: event("max"),
        high_hits: event("high"),
        oom_kills: event("oom_kill"),
        pressure: pressure(group, "memory.pressure"),
    }
}

fn pids(group: &Group, besides: u64) -> PidsStats {
    let without_init = |file| number(group, file).map(|count| count.saturating_sub(besides));
    PidsStats {
        current: without_init("pids.current"),
        peak: without_init("pids.peak"),
        limit_hits: keyed(group, "pids.events").get("max").copied(),
    }
}

/// What limits count and what BFQ does, where one of them serves the disk: newer kernels count for a limit
/// only from the first one on, so that nothing counted is nothing known.
fn io_v1(group: &Group) -> Option<Vec<IoStats>> {
    let mut all: BTreeMap<_, IoStats> = BTreeMap::new();
    for kind in ["throttle", "bfq"] {
        let read = |what| group.read(&format!("blkio.{kind}.{what}")).unwrap_or_default();
        for one in parse_blkio(&read("io_service_bytes"), &read("io_serviced")) {
            // Both have seen the same, as far back as they look.
            let known = all.entry(one.device).or_insert(one);
            let bytes = |stats: &IoStats| stats.read_bytes.saturating_add(stats.write_bytes);
            if bytes(&one) > bytes(known) {
                *known = one;
            }
        }
    }
    (!all.is_empty()).then(|| all.into_values().collect())
}

fn number(group: &Group, file: &str) -> Option<u64> {
    group.read(file)?.trim().parse().ok()
}

fn keyed(group: &Group, file: &str) -> BTreeMap<String, u64> {
    parse_keyed(&group.read(file).unwrap_or_default())
}

fn pressure(group: &Group, file: &str) -> Option<Pressure> {
    parse_pressure(&group.read(file)?)
}

/// Lines of a word and a number, such as `memory.stat`; others are left out.
pub(crate) fn parse_keyed(text: &str) -> BTreeMap<String, u64> {
    let line = |line: &str| {
        let (key, number) = line.split_once(' ')?;
        Some((key.to_owned(), number.trim().parse().ok()?))
    };
    text.lines().filter_map(line).collect()
}

/// A file such as `cpu.pressure`.
pub(crate) fn parse_pressure(text: &str) -> Option<Pressure> {
    let total = |kind: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(kind)?.strip_prefix(' '))?;
        let total = line.split(' ').find_map(|word| word.strip_prefix("total="))?;
        total.trim().parse().ok().map(Duration::from_micros)
    };
    Some(Pressure { some: total("some")?, full: total("full") })
}

/// `major:minor`
fn parse_device(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// v2's `io.stat`; a device of which one of the numbers is missing is left out.
pub(crate) fn parse_io_stat(text: &str) -> Vec<IoStats> {
    let line = |line: &str| {
        // Some kernels end no line after a disk without numbers.
        let device = line.split_whitespace().take_while(|word| !word.contains('=')).last()?;
        let number = |key: &str| {
            let mut words = line.split_whitespace().filter_map(|word| word.split_once('='));
            words.find(|(name, _)| *name == key)?.1.parse().ok()
        };
        Some(IoStats {
            device: parse_device(device)?,
            read_bytes: number("rbytes")?,
            write_bytes: number("wbytes")?,
            reads: number("rios")?,
            writes: number("wios")?,
        })
    };
    text.lines().filter_map(line).collect()
}

/// v1's `blkio.throttle.io_service_bytes` and `blkio.throttle.io_serviced`; a device of which one of
/// the numbers is missing is left out.
pub(crate) fn parse_blkio(bytes: &str, operations: &str) -> Vec<IoStats> {
    let [bytes, operations] = [bytes, operations].map(|text| {
        let mut numbers: BTreeMap<((u32, u32), &str), u64> = BTreeMap::new();
        for line in text.lines() {
            let words: Vec<_> = line.split_whitespace().collect();
            let [device, kind, number] = words[..] else { continue };
            if let (Some(device), Ok(number)) = (parse_device(device), number.parse()) {
                numbers.insert((device, kind), number);
            }
        }
        numbers
    });
    let device = |&(device, kind): &((u32, u32), &str)| {
        let number = |of: &BTreeMap<_, _>, kind| of.get(&(device, kind)).copied();
        let read_bytes = number(&bytes, "Read").filter(|_| kind == "Read")?;
        Some(IoStats {
            device,
            read_bytes,
            write_bytes: number(&bytes, "Write")?,
            reads: number(&operations, "Read")?,
            writes: number(&operations, "Write")?,
        })
    };
    bytes.keys().filter_map(device).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{
        IoStats, Pressure, hits_v1, parse_blkio, parse_io_stat, parse_keyed, parse_pressure,
    };

    #[test]
    fn files_are_read() {
        let stat = parse_keyed("nr_periods 3\nnonsense\nthrottled_time 17\nneg -1\n");
        assert_eq!(
            stat.into_iter().collect::<Vec<_>>(),
            [("nr_periods".to_owned(), 3), ("throttled_time".to_owned(), 17)]
        );
        let text = "some avg10=0.00 avg60=0.00 avg300=0.00 total=1500\n\
                    full avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        let (some, full) = (Duration::from_micros(1500), Duration::from_micros(7));
        assert_eq!(parse_pressure(text), Some(Pressure { some, full: Some(full) }));
        assert_eq!(parse_pressure(""), None);
    }

    #[test]
    fn both_versions_tell_the_same_of_devices() {
        let wanted =
            IoStats { device: (7, 1), read_bytes: 4096, write_bytes: 8, reads: 2, writes: 1 };
        let v2 = "7:1 rbytes=4096 wbytes=8 rios=2 wios=1 dbytes=0 dios=0\n8:0 \n";
        assert_eq!(parse_io_stat(v2), [wanted]);
        // Linux 5.15 to 6.1
        let one_line = "253:0 253:16 7:1 rbytes=4096 wbytes=8 rios=2 wios=1 dbytes=0 dios=0\n";
        assert_eq!(parse_io_stat(one_line), [wanted]);
        let bytes = "7:1 Read 4096\n7:1 Write 8\n7:1 Sync 4104\n7:1 Total 4104\nTotal 4104\n";
        let operations = "7:1 Read 2\n7:1 Write 1\nTotal 3\n";
        assert_eq!(parse_blkio(bytes, operations), [wanted]);
    }

    #[test]
    fn hits_are_told_where_they_are_counted() {
        let hits = |failed: u64, of_both: Option<u64>, peak: u64| {
            hits_v1(|file| match file {
                "memory.failcnt" => Some(failed),
                "memory.memsw.failcnt" => of_both,
                "memory.memsw.limit_in_bytes" => Some(16 << 20),
                "memory.memsw.max_usage_in_bytes" => Some(peak),
                _ => None,
            })
        };
        let (near, far) = (15 << 20, 14 << 20);
        assert_eq!(hits(3, None, near), Some(3), "swap is not accounted for");
        assert_eq!(hits(0, None, near), Some(0));
        assert_eq!(hits(1, Some(2), near), Some(3));
        assert_eq!(hits(0, Some(0), far), Some(0));
        assert_eq!(hits(0, Some(0), near), None);
        assert_eq!(hits_v1(|_| None), None);
    }

    #[test]
    fn no_number_is_made_up() {
        for bad in ["", "-", "-1", "x", "99999999999999999999"] {
            let v2 = format!("7:1 rbytes=4096 wbytes={bad} rios=2 wios=1\n");
            assert_eq!(parse_io_stat(&v2), [], "{bad:?}");
            let bytes = format!("7:1 Read 4096\n7:1 Write {bad}\n");
            assert_eq!(parse_blkio(&bytes, "7:1 Read 2\n7:1 Write 1\n"), [], "{bad:?}");
            let full = format!("some avg10=0.00 total=5\nfull avg10=0.00 total={bad}\n");
            let some = Duration::from_micros(5);
            assert_eq!(parse_pressure(&full), Some(Pressure { some, full: None }), "{bad:?}");
        }
        assert_eq!(parse_blkio("7:1 Read 1\n7:1 Write 1\n", "7:1 Read 2\n"), []);
    }
}
