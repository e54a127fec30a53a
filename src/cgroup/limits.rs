//! All limits of a sandbox together.

use std::time::Duration;

use nix::errno::Errno;

use super::bpf::Program;
use super::raw::Raw;
use super::{
    CgroupVersion, Controller, Cpu, Cpuset, Devices, Hugetlb, Io, Memory, Misc, NetCls, NetPrio,
    PerfEvent, Pids, Rdma, Write, Writes,
};

/// All limits of a sandbox by control groups; without any of them no group is made
/// ([cgroups(7)](https://man7.org/linux/man-pages/man7/cgroups.7.html)).
///
/// # Examples
///
/// ```
/// use stockade::{Cpu, Limits, Memory, Pids, Sandbox};
/// let limits = Limits::new()
///     .memory(Memory::new().max(512 << 20))
///     .cpu(Cpu::new().limit(1.5))
///     .pids(Pids::new().max(64));
/// let sandbox = Sandbox::new().limits(limits);
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
#[must_use = "they limit nothing until they are given to a sandbox"]
pub struct Limits {
    pub(crate) memory: Option<Memory>,
    pub(crate) cpu: Option<Cpu>,
    pub(crate) cpuset: Option<Cpuset>,
    pub(crate) pids: Option<Pids>,
    pub(crate) io: Option<Io>,
    pub(crate) devices: Option<Devices>,
    pub(crate) net_cls: Option<NetCls>,
    pub(crate) net_prio: Option<NetPrio>,
    pub(crate) hugetlb: Option<Hugetlb>,
    pub(crate) rdma: Option<Rdma>,
    pub(crate) misc: Option<Misc>,
    pub(crate) perf_event: Option<PerfEvent>,
    pub(crate) cpu_time: Option<Duration>,
    pub(crate) raw: Vec<Raw>,
}

macro_rules! parts {
    ($($name:ident $type:ident $what:literal;)*) => {
        $(
            #[doc = concat!($what, "; see [`", stringify!($type), "`].")]
            ///
            /// # Examples
            ///
            /// ```
            #[doc = concat!("let set = stockade::Limits::", stringify!($name), ";")]
            /// ```
            pub fn $name(self, $name: $type) -> Self {
                Limits { $name: Some($name), ..self }
            }
        )*
    };
}

impl Limits {
    /// No limit.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(stockade::Limits::new(), stockade::Limits::default());
    /// ```
    pub fn new() -> Self {
        Limits::default()
    }

    parts! {
        memory Memory "Memory and swap";
        cpu Cpu "CPU time, by quota and weight";
        cpuset Cpuset "CPUs and memory nodes";
        pids Pids "Processes and threads";
        io Io "Block devices";
        devices Devices "Device files";
        net_cls NetCls "The class of packets";
        net_prio NetPrio "The priority of packets";
        hugetlb Hugetlb "Huge pages";
        rdma Rdma "RDMA devices";
        misc Misc "Scalar resources";
        perf_event PerfEvent "A group for performance events";
    }

    /// The most CPU time, user and system, that all of the sandbox together may use
    /// ([cpuacct.rst](https://docs.kernel.org/admin-guide/cgroup-v1/cpuacct.html),
    /// [cgroup-v2.rst](https://docs.kernel.org/admin-guide/cgroup-v2.html#cpu-interface-files)). It
    /// needs init, which looks as often as it could be reached, and ends everything then.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// let limits = stockade::Limits::new().cpu_time(Duration::from_secs(10));
    /// ```
    pub fn cpu_time(self, limit: Duration) -> Self {
        Limits { cpu_time: Some(limit), ..self }
    }

    /// Writes to a file of a controller's that no method here has a name for. Files of groups as such,
    /// as `cgroup.procs`, cannot be written to, nor those that the kernel may take without giving what
    /// they say, as `cpuset.cpus`, for which [`Cpuset`] is. A file that does not exist is an error,
    /// and so is no data.
    ///
    /// # Examples
    ///
    /// ```
    /// let limits = stockade::Limits::new().raw("memory.high", "64M");
    /// ```
    pub fn raw(mut self, file: impl Into<String>, data: impl Into<String>) -> Self {
        self.raw.push(Raw { file: file.into(), data: data.into() });
        self
    }

    /// Whether a group has to be made.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Limits::default()
    }

    pub(crate) fn problems(&self, problems: &mut Vec<String>) {
        macro_rules! each {
            ($($name:ident)*) => {
                $(if let Some(part) = &self.$name { part.problems(problems); })*
            };
        }
        each!(memory cpu cpuset pids io devices net_prio hugetlb rdma misc);
        self.raw.iter().for_each(|raw| raw.problems(problems));
        if self.cpu_time == Some(Duration::ZERO) {
            problems.push("a CPU time of 0 leaves no time to run".to_owned());
        }
    }

    /// The controllers that are needed.
    pub(crate) fn controllers(&self) -> Vec<Controller> {
        Controller::ALL.into_iter().filter(|controller| self.needs(*controller)).collect()
    }

    fn needs(&self, controller: Controller) -> bool {
        let typed = match controller {
            Controller::Cpu => self.cpu.is_some(),
            Controller::Cpuacct => self.cpu_time.is_some(),
            Controller::Cpuset => self.cpuset.is_some(),
            Controller::Memory => self.memory.is_some(),
            Controller::Io => self.io.is_some(),
            Controller::Devices => self.devices.is_some(),
            Controller::Freezer => false,
            Controller::NetCls => self.net_cls.is_some(),
            Controller::NetPrio => self.net_prio.is_some(),
            Controller::PerfEvent => self.perf_event.is_some(),
            Controller::Hugetlb => self.hugetlb.is_some(),
            Controller::Pids => self.pids.is_some(),
            Controller::Rdma => self.rdma.is_some(),
            Controller::Misc => self.misc.is_some(),
        };
        typed || self.raw.iter().any(|raw| raw.controller() == Some(controller))
    }

    /// What is written for one controller, in order; `besides` is how many processes of the
    /// sandbox's own do not count. Paths of devices must have been resolved.
    pub(crate) fn writes(
        &self,
        controller: Controller,
        version: CgroupVersion,
        besides: u64,
    ) -> Writes {
        macro_rules! of {
            ($part:ident) => {
                self.$part.as_ref().map_or(Ok(Vec::new()), |part| part.writes(version))
            };
        }
        let mut writes = match controller {
            Controller::Cpu => of!(cpu),
            Controller::Cpuset => of!(cpuset),
            Controller::Memory => of!(memory),
            Controller::Io => of!(io),
            Controller::Devices => of!(devices),
            Controller::NetCls => of!(net_cls),
            Controller::NetPrio => of!(net_prio),
            Controller::PerfEvent => of!(perf_event),
            Controller::Hugetlb => of!(hugetlb),
            Controller::Rdma => of!(rdma),
            Controller::Misc => of!(misc),
            Controller::Pids => {
                self.pids.as_ref().map_or(Ok(Vec::new()), |pids| pids.writes(version, besides))
            }
            Controller::Cpuacct | Controller::Freezer => Ok(Vec::new()),
        }?;
        let raw = self.raw.iter().filter(|raw| raw.controller() == Some(controller));
        writes.extend(raw.map(Raw::write));
        Ok(writes)
    }

    /// The same for people, one line for each write; `version` says what a controller has here.
    pub(crate) fn lines(
        &self,
        besides: u64,
        version: impl Fn(Controller) -> Option<CgroupVersion>,
    ) -> Vec<String> {
        let mut lines = Vec::new();
        for controller in self.controllers() {
            let found = version(controller);
            let shown = found.unwrap_or(CgroupVersion::V2);
            let by_program = controller.is_bpf_on_v2() && shown == CgroupVersion::V2;
            let name = controller.name(shown);
            let place = match found {
                Some(version) => format!("group of {name}, cgroup {version}"),
                None => format!("group of {name}, which cannot be used here"),
            };
            let verb = if by_program { "attach a program for" } else { "write" };
            // What a program does is what v1's files say.
            let written = if by_program { CgroupVersion::V1 } else { shown };
            let writes = self.writes(controller, written, besides);
            // More than v1 can do.
            let writes = writes.or_else(|lacking| match &self.devices {
                Some(devices) if by_program && controller == Controller::Devices => {
                    Ok(devices.lines())
                }
                _ => Err(lacking),
            });
            match writes {
                Err(lacking) => lines.push(format!("{place}: {lacking}")),
                Ok(writes) => {
                    let writes: Vec<_> = writes.into_iter().filter(|one| !one.default).collect();
                    lines.extend(writes.is_empty().then(|| format!("{place}: counted")));
                    lines.extend(writes.into_iter().map(
                        |Write { file, data, otherwise, .. }| {
                            let or = otherwise.map(|or| format!(" or {or}")).unwrap_or_default();
                            format!("{place}: {verb} {file}{or} {data:?}")
                        },
                    ));
                }
            }
        }
        lines
    }

    /// What is attached to a v2 group for one controller; an error is about a network interface.
    pub(crate) fn program(
        &self,
        controller: Controller,
    ) -> Result<Option<Program>, (String, Errno)> {
        Ok(match controller {
            Controller::Devices => self.devices.as_ref().map(Devices::program),
            Controller::NetCls => self.net_cls.map(NetCls::program),
            Controller::NetPrio => self.net_prio.as_ref().map(NetPrio::program).transpose()?,
            _ => None,
        })
    }
}

/// Names that are written into a line of several words.
pub(crate) fn check_names<'a>(
    what: &str,
    names: impl IntoIterator<Item = &'a String>,
    problems: &mut Vec<String>,
) {
    for name in names {
        if name.is_empty() || name.bytes().any(|byte| byte.is_ascii_whitespace() || byte == 0) {
            problems.push(format!("{name:?} is no name of a {what}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Limits;
    use crate::cgroup::CgroupVersion::{V1, V2};
    use crate::cgroup::{
        BlockDevice, Controller, Cpu, Cpuset, DeviceRule, Devices, Hugetlb, Io, IoLimit, Memory,
        Misc, NetCls, NetPrio, Partition, PerfEvent, Pids, Rdma,
    };
    use crate::rlimit::Max;

    /// All writes of both versions, one in a line, or what is not supported.
    fn shown(limits: &Limits) -> [String; 2] {
        [V1, V2].map(|version| {
            let mut lines = Vec::new();
            for controller in limits.controllers() {
                match limits.writes(controller, version, 1) {
                    Ok(writes) => lines.extend(writes.into_iter().map(|write| {
                        let or = write.otherwise.map(|or| format!("|{or}")).unwrap_or_default();
                        let mark = if write.dispensable { "?" } else { "" };
                        format!("{}{or}{mark}={}", write.file, write.data)
                    })),
                    Err(unsupported) => lines.push(unsupported.to_string()),
                }
            }
            lines.join("\n")
        })
    }

    fn check(limits: Limits, v1: &[&str], v2: &[&str]) {
        assert_eq!(shown(&limits), [v1.join("\n"), v2.join("\n")], "{limits:?}");
        let mut problems = Vec::new();
        limits.problems(&mut problems);
        assert_eq!(problems, [""; 0], "{limits:?}");
    }

    #[test]
    fn a_line_says_what_is_written_where() {
        let limits = Limits::new().memory(Memory::new().max(4096)).pids(Pids::new().max(3));
        let limits = limits.cpuset(Cpuset::new().cpus("0")).net_cls(NetCls::new(0, 9));
        let limits = limits.cpu(Cpu::new().limit(0.5)).perf_event(PerfEvent);
        let limits = limits.raw("memory.limit_in_bytes", "a\nb").io(Io::new().weight(7));
        let lines = limits.lines(1, |controller| match controller {
            Controller::Cpuset => None,
            Controller::Memory | Controller::Cpu => Some(V1),
            _ => Some(V2),
        });
        let wanted = [
            r#"group of cpu, cgroup v1: write cpu.cfs_quota_us "50000""#,
            r#"group of cpuset, which cannot be used here: write cpuset.cpus "0""#,
            r#"group of memory, cgroup v1: write memory.limit_in_bytes "4096""#,
            r#"group of memory, cgroup v1: write memory.memsw.limit_in_bytes "4096""#,
            r#"group of memory, cgroup v1: write memory.limit_in_bytes "a\nb""#,
            r#"group of io, cgroup v2: write io.bfq.weight "7""#,
            r#"group of io, cgroup v2: write io.weight or io.bfq.weight "7""#,
            r#"group of net_cls, cgroup v2: attach a program for net_cls.classid "9""#,
            "group of perf_event, cgroup v2: counted",
            r#"group of pids, cgroup v2: write pids.max "4""#,
        ];
        let mut lines: Vec<_> = lines.iter().map(String::as_str).collect();
        lines.sort_unstable();
        let mut wanted = wanted.to_vec();
        wanted.sort_unstable();
        assert_eq!(lines, wanted);
        let soft = Limits::new().memory(Memory::new().soft_limit(4096));
        let [line] = &soft.lines(1, |_| Some(V2))[..] else { panic!() };
        assert!(line.contains("the soft limit does not exist on cgroup v2"), "{line}");
    }

    #[test]
    fn memory() {
        let memory = |memory| Limits::new().memory(memory);
        check(
            memory(Memory::new().max(1 << 20)),
            &["memory.limit_in_bytes=1048576", "memory.memsw.limit_in_bytes=1048576"],
            &["memory.swap.max=0", "memory.max=1048576"],
        );
        check(
            memory(Memory::new().max(8192).swap(4096)),
            &["memory.limit_in_bytes=8192", "memory.memsw.limit_in_bytes=12288"],
            &["memory.swap.max=4096", "memory.max=8192"],
        );
        check(
            memory(Memory::new().max(8192).swap(Max::Unlimited)),
            &["memory.limit_in_bytes=8192", "memory.memsw.limit_in_bytes?=-1"],
            &["memory.swap.max=max", "memory.max=8192"],
        );
        check(
            memory(Memory::new().max(Max::Unlimited)),
            &["memory.limit_in_bytes=-1"],
            &["memory.max=max"],
        );
        check(
            memory(Memory::new().swap(4096)),
            &["a limit of swap alone does not exist on cgroup v1; limit memory as well"],
            &["memory.swap.max=4096"],
        );
        check(
            memory(Memory::new().soft_limit(4096).swappiness(10)),
            &["memory.soft_limit_in_bytes=4096", "memory.swappiness=10"],
            &["the soft limit does not exist on cgroup v2; use high or low"],
        );
        check(
            memory(Memory::new().min(1).low(2).high(4096).oom_group(true)),
            &["memory high does not exist on cgroup v1; use max or soft_limit"],
            &["memory.min=1", "memory.low=2", "memory.high=4096", "memory.oom.group=1"],
        );
        check(
            memory(Memory::new().oom_group(true)),
            &["the oom group does not exist on cgroup v1"],
            &["memory.oom.group=1"],
        );
    }

    #[test]
    fn only_a_limit_of_swap_is_none_without_swap() {
        let limits = Limits::new().memory(Memory::new().max(8192).swap(4096));
        let limits =
            limits.raw("memory.swap.max", "4096").raw("memory.memsw.limit_in_bytes", "9999");
        for version in [V1, V2] {
            let writes = limits.writes(Controller::Memory, version, 1).unwrap();
            let of_swap: Vec<_> = writes.iter().filter(|write| write.of_swap).collect();
            let [write] = of_swap[..] else { panic!("{writes:?}") };
            let wanted = match version {
                V1 => ("memory.memsw.limit_in_bytes", "12288"),
                V2 => ("memory.swap.max", "4096"),
            };
            assert_eq!((&*write.file, &*write.data), wanted);
        }
    }

    #[test]
    fn cpu() {
        let cpu = |cpu| Limits::new().cpu(cpu);
        check(
            cpu(Cpu::new().limit(1.5)),
            &["cpu.cfs_period_us=100000", "cpu.cfs_quota_us=150000"],
            &["cpu.max=150000 100000"],
        );
        check(
            cpu(Cpu::new().limit(0.001)),
            &["cpu.cfs_period_us=1000000", "cpu.cfs_quota_us=1000"],
            &["cpu.max=1000 1000000"],
        );
        let short = Cpu::new().limit(0.5).period(Duration::from_millis(10));
        check(
            cpu(short.burst(Duration::from_millis(2))),
            &["cpu.cfs_period_us=10000", "cpu.cfs_quota_us=5000", "cpu.cfs_burst_us=2000"],
            &["cpu.max=5000 10000", "cpu.max.burst=2000"],
        );
        check(
            cpu(Cpu::new().limit(f64::INFINITY)),
            &["cpu.cfs_period_us=100000", "cpu.cfs_quota_us=-1"],
            &["cpu.max=max 100000"],
        );
        for (weight, shares) in [(1, 10), (100, 1024), (50, 512), (10_000, 102_400)] {
            check(
                cpu(Cpu::new().weight(weight)),
                &[&format!("cpu.shares={shares}")],
                &[&format!("cpu.weight={weight}")],
            );
        }
        for (shares, weight) in [(2, 1), (1024, 100), (512, 50), (262_144, 10_000)] {
            check(
                cpu(Cpu::new().shares(shares)),
                &[&format!("cpu.shares={shares}")],
                &[&format!("cpu.weight={weight}")],
            );
        }
        check(cpu(Cpu::new().idle(true)), &["cpu.idle=1"], &["cpu.idle=1"]);
        check(
            cpu(Cpu::new().realtime(Duration::from_millis(1), Duration::from_secs(1))),
            &["cpu.rt_period_us=1000000", "cpu.rt_runtime_us=1000"],
            &["a limit of real-time processes does not exist on cgroup v2"],
        );
    }

    #[test]
    fn cpuset_and_pids() {
        check(
            Limits::new().cpuset(Cpuset::new().cpus("0-1,3").mems("0")),
            &["cpuset.cpus=0-1,3", "cpuset.mems=0"],
            &["cpuset.cpus=0-1,3", "cpuset.mems=0"],
        );
        check(
            Limits::new().cpuset(Cpuset::new().cpus("1").partition(Partition::Isolated)),
            &["a cpuset partition does not exist on cgroup v1"],
            &["cpuset.cpus=1", "cpuset.cpus.partition=isolated"],
        );
        // Init is one more.
        check(Limits::new().pids(Pids::new().max(64)), &["pids.max=65"], &["pids.max=65"]);
        let most = &["pids.max=4194304"];
        check(Limits::new().pids(Pids::new().max(4_194_303)), most, most);
        let none = Pids::new().max(Max::Unlimited);
        check(Limits::new().pids(none), &["pids.max=max"], &["pids.max=max"]);
    }

    #[test]
    fn io() {
        let all = IoLimit::new().read_bytes(1).write_bytes(2).read_operations(3);
        let all = all.write_operations(Max::Unlimited);
        check(
            Limits::new().io(Io::new().max(BlockDevice::Number(7, 1), all).weight(10)),
            &[
                "blkio.throttle.read_bps_device=7:1 1",
                "blkio.throttle.write_bps_device=7:1 2",
                "blkio.throttle.read_iops_device=7:1 3",
                "blkio.throttle.write_iops_device=7:1 0",
                "blkio.bfq.weight|blkio.weight=10",
            ],
            &[
                "io.max=7:1 rbps=1 wbps=2 riops=3 wiops=max",
                "io.bfq.weight?=10",
                "io.weight|io.bfq.weight=10",
            ],
        );
        check(Limits::new().io(Io::new().max("8:0", IoLimit::new())), &[], &[]);
        check(
            Limits::new().io(Io::new().device_weight("8:0", 20)),
            &["blkio.bfq.weight_device|blkio.weight_device=8:0 20"],
            &["io.weight|io.bfq.weight=8:0 20"],
        );
        check(
            Limits::new().io(Io::new().weight(2000)),
            &["an I/O weight above 1000 does not exist on cgroup v1"],
            &["io.bfq.weight?=1000", "io.weight|io.bfq.weight=2000"],
        );
        check(
            Limits::new().io(Io::new().latency("8:0", Duration::from_millis(20))),
            &["a target of I/O latency does not exist on cgroup v1"],
            &["io.latency=8:0 target=20000"],
        );
    }

    #[test]
    fn devices_and_network() {
        let rules = Devices::none().allow(DeviceRule::char(1, 3).access("rw"));
        check(
            Limits::new().devices(rules.allow(DeviceRule::block(8, None))),
            &["devices.deny=a", "devices.allow=c 1:3 rw", "devices.allow=b 8:* rwm"],
            &[],
        );
        assert_eq!(shown(&Limits::new().devices(Devices::standard()))[0].lines().count(), 12);
        let rules = Devices::none().allow(DeviceRule::char(1, 3)).allow(DeviceRule::char(5, None));
        check(
            Limits::new().devices(rules.clone().deny(DeviceRule::char(1, None).access("wm"))),
            &["devices.deny=a", "devices.allow=c 1:3 r", "devices.allow=c 5:* rwm"],
            &[],
        );
        let part = Limits::new().devices(rules.deny(DeviceRule::char(5, 1).access("w")));
        let lacking = "denying a part of what a wider rule of devices allows does not exist on cgroup v1; \
                       allow the devices one by one";
        check(part.clone(), &[lacking], &[]);
        let lines = part.lines(0, |_| Some(V2));
        assert!(lines[3].ends_with("attach a program for devices.deny \"c 5:1 w\""), "{lines:?}");
        check(Limits::new().net_cls(NetCls::new(0x10, 1)), &["net_cls.classid=1048577"], &[]);
        check(
            Limits::new().net_prio(NetPrio::new().priority("lo", 3)),
            &["net_prio.ifpriomap=lo 3"],
            &[],
        );
    }

    #[test]
    fn others() {
        let hugetlb = Hugetlb::new().max(2 << 20, 4 << 20).max(1 << 30, 0);
        check(
            Limits::new().hugetlb(hugetlb.max_reserved(64 << 10, Max::Unlimited)),
            &[
                "hugetlb.2MB.limit_in_bytes=4194304",
                "hugetlb.1GB.limit_in_bytes=0",
                "hugetlb.64KB.rsvd.limit_in_bytes=-1",
            ],
            &["hugetlb.2MB.max=4194304", "hugetlb.1GB.max=0", "hugetlb.64KB.rsvd.max=max"],
        );
        check(
            Limits::new().rdma(Rdma::new().max("mlx5_0", 2, Max::Unlimited)),
            &["rdma.max=mlx5_0 hca_handle=2 hca_object=max"],
            &["rdma.max=mlx5_0 hca_handle=2 hca_object=max"],
        );
        check(
            Limits::new().misc(Misc::new().max("sev", 3)),
            &["misc.max=sev 3"],
            &["misc.max=sev 3"],
        );
        check(Limits::new().perf_event(PerfEvent), &[], &[]);
        check(
            Limits::new().raw("memory.high", "64M").raw("cpu.idle", "1"),
            &["cpu.idle=1", "memory.high=64M"],
            &["cpu.idle=1", "memory.high=64M"],
        );
    }

    #[test]
    fn contradictions() {
        let count = |limits: Limits| {
            let mut problems = Vec::new();
            limits.problems(&mut problems);
            problems.len()
        };
        let cpu = |cpu| Limits::new().cpu(cpu);
        for bad in [
            Limits::new().memory(Memory::new().max(4095)),
            Limits::new().memory(Memory::new().max(4096).high(8192)),
            Limits::new().memory(Memory::new().swappiness(201)),
            Limits::new().pids(Pids::new().max(0)),
            Limits::new().pids(Pids::new().max(4_194_304)),
            cpu(Cpu::new().limit(0.0)),
            cpu(Cpu::new().limit(-1.0)),
            cpu(Cpu::new().limit(f64::NAN)),
            cpu(Cpu::new().limit(0.0001)),
            cpu(Cpu::new().limit(1e7)),
            cpu(Cpu::new().weight(0)),
            cpu(Cpu::new().weight(10_001)),
            cpu(Cpu::new().shares(1)),
            cpu(Cpu::new().idle(true).weight(1)),
            cpu(Cpu::new().limit(1.0).period(Duration::from_secs(2))),
            cpu(Cpu::new().limit(1.0).burst(Duration::from_secs(2))),
            cpu(Cpu::new().period(Duration::from_millis(2))),
            Limits::new().cpuset(Cpuset::new().cpus("")),
            Limits::new().cpuset(Cpuset::new().cpus("3-1")),
            Limits::new().cpuset(Cpuset::new().mems("x")),
            Limits::new().io(Io::new().weight(0)),
            Limits::new().io(Io::new().max("8:0", IoLimit::new().read_bytes(0))),
            Limits::new().devices(Devices::none().allow(DeviceRule::char(1, 3).access("x"))),
            Limits::new().devices(Devices::none().allow(DeviceRule::char(1, 3).access("rr"))),
            Limits::new().hugetlb(Hugetlb::new().max(3, 0)),
            Limits::new().misc(Misc::new().max("two words", 1)),
            Limits::new().rdma(Rdma::new().max("", 1, 1)),
            Limits::new().net_prio(NetPrio::new().priority("a\n", 1)),
            Limits::new().cpu_time(Duration::ZERO),
        ] {
            assert_eq!(count(bad.clone()), 1, "{bad:?}");
        }
        for file in [
            "",
            "memory",
            "/memory.max",
            "../memory.max",
            "memory/../x.max",
            "memory..max",
            "memory.max/",
            ".memory.max",
            "release_agent",
            "notify_on_release",
            "tasks",
            "cgroup.procs",
            "cgroup.subtree_control",
            "cgroup.kill",
            "freezer.state",
            "unknown.max",
            // Nothing is made inside of the group.
            "cgroup.max.depth",
            "memory.max\n",
            "memory.max\0",
        ] {
            assert_eq!(count(Limits::new().raw(file, "1")), 1, "{file:?}");
        }
        assert_eq!(count(Limits::new().raw("memory.max", "1\0")), 1);
        assert_eq!(count(Limits::new().raw("memory.max", "")), 1);
        for file in ["cpuset.cpus", "cpuset.mems", "cpuset.cpus.partition"] {
            assert_eq!(count(Limits::new().raw(file, "0")), 1, "{file:?}");
        }
    }
}
