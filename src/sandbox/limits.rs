//! What the program may use: limits of control groups.

use std::time::Duration;

use super::Sandbox;
use crate::cgroup::{BlockDevice, CgroupParent, DeviceRule, Devices, IoLimit, Limits};
use crate::rlimit::Max;

impl Sandbox {
    /// The most memory in bytes, with no swap on top unless [`swap_limit`](Self::swap_limit) gives
    /// some; see [`Memory::max`](crate::Memory::max). Half of it is the default of
    /// [`tmp_size`](Self::tmp_size): what is written there is memory.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let sandbox = Sandbox::new().memory_limit(512 << 20);
    /// ```
    pub fn memory_limit(self, bytes: u64) -> Self {
        self.with(|policy| change(&mut policy.limits.memory, |memory| memory.max(bytes)))
    }

    /// The most swap in bytes, on top of memory; see [`Memory::swap`](crate::Memory::swap).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let sandbox = Sandbox::new().memory_limit(512 << 20).swap_limit(64 << 20);
    /// ```
    pub fn swap_limit(self, bytes: impl Into<Max>) -> Self {
        let bytes = bytes.into();
        self.with(|policy| change(&mut policy.limits.memory, |memory| memory.swap(bytes)))
    }

    /// How many CPUs' time may be used, such as 1.5; see [`Cpu::limit`](crate::Cpu::limit).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let sandbox = Sandbox::new().cpu_limit(1.5);
    /// ```
    pub fn cpu_limit(self, cpus: f64) -> Self {
        self.with(|policy| change(&mut policy.limits.cpu, |cpu| cpu.limit(cpus)))
    }

    /// The share of CPU time among competitors, 1 to 10,000, where 100 is usual; see
    /// [`Cpu::weight`](crate::Cpu::weight).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let sandbox = Sandbox::new().cpu_weight(50);
    /// ```
    pub fn cpu_weight(self, weight: u64) -> Self {
        self.with(|policy| change(&mut policy.limits.cpu, |cpu| cpu.weight(weight)))
    }

    /// The CPUs that may be used, such as `0-3,8`; see [`Cpuset::cpus`](crate::Cpuset::cpus).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let sandbox = Sandbox::new().cpus("0");
    /// ```
    pub fn cpus(self, list: impl Into<String>) -> Self {
        self.with(|policy| change(&mut policy.limits.cpuset, |cpuset| cpuset.cpus(list)))
    }

    /// The most processes and threads at a time; see [`Pids::max`](crate::Pids::max).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let sandbox = Sandbox::new().pids_limit(64);
    /// ```
    pub fn pids_limit(self, count: u64) -> Self {
        self.with(|policy| change(&mut policy.limits.pids, |pids| pids.max(count)))
    }

    /// What may be read and written in a second on a block device; see [`Io::max`](crate::Io::max).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{IoLimit, Sandbox};
    /// let sandbox = Sandbox::new().io_limit("8:0", IoLimit::new().read_bytes(4 << 20));
    /// ```
    pub fn io_limit(self, device: impl Into<BlockDevice>, limit: IoLimit) -> Self {
        self.with(|policy| change(&mut policy.limits.io, |io| io.max(device, limit)))
    }

    /// The share of block devices among competitors, 1 to 10,000, where 100 is usual; see
    /// [`Io::weight`](crate::Io::weight).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let sandbox = Sandbox::new().io_weight(50);
    /// ```
    pub fn io_weight(self, weight: u64) -> Self {
        self.with(|policy| change(&mut policy.limits.io, |io| io.weight(weight)))
    }

    /// Allows a device besides the [standard](Devices::standard) ones, and no other; see
    /// [`Devices`].
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{DeviceRule, Sandbox};
    /// let sandbox = Sandbox::new().device(DeviceRule::char(10, 229)); // /dev/fuse
    /// ```
    pub fn device(self, rule: DeviceRule) -> Self {
        self.with(|policy| {
            let devices = policy.limits.devices.take().unwrap_or_else(Devices::standard);
            policy.limits.devices = Some(devices.allow(rule));
        })
    }

    /// The most CPU time of all of the sandbox together; see [`Limits::cpu_time`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use stockade::Sandbox;
    /// let sandbox = Sandbox::new().cpu_time(Duration::from_secs(10));
    /// ```
    pub fn cpu_time(self, limit: Duration) -> Self {
        self.with(|policy| policy.limits.cpu_time = Some(limit))
    }

    /// Writes to a file of the sandbox's control group; see [`Limits::raw`].
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let sandbox = Sandbox::new().cgroup_raw("memory.high", "64M");
    /// ```
    pub fn cgroup_raw(self, file: impl Into<String>, data: impl Into<String>) -> Self {
        self.with(|policy| policy.limits = std::mem::take(&mut policy.limits).raw(file, data))
    }

    /// All limits by control groups, in place of those that were given before
    /// ([cgroups(7)](https://man7.org/linux/man-pages/man7/cgroups.7.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Limits, Memory, Sandbox};
    /// let sandbox = Sandbox::new().limits(Limits::new().memory(Memory::new().max(64 << 20)));
    /// ```
    pub fn limits(self, limits: Limits) -> Self {
        self.with(|policy| policy.limits = limits)
    }

    /// Below which control group the sandbox's own are made; by default [`CgroupParent::Auto`]
    /// ([cgroups(7)](https://man7.org/linux/man-pages/man7/cgroups.7.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{CgroupParent, Sandbox};
    /// let sandbox = Sandbox::new().cgroup_parent(CgroupParent::Path("/delegated".into()));
    /// ```
    pub fn cgroup_parent(self, parent: CgroupParent) -> Self {
        self.with(|policy| policy.cgroup_parent = parent)
    }
}

/// Changes a part of the limits, which may not be there yet.
fn change<T: Default>(part: &mut Option<T>, change: impl FnOnce(T) -> T) {
    *part = Some(change(part.take().unwrap_or_default()));
}
