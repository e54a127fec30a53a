//! Block devices;
//! [blkio-controller.rst](https://docs.kernel.org/admin-guide/cgroup-v1/blkio-controller.html),
//! [cgroup-v2.rst](https://docs.kernel.org/admin-guide/cgroup-v2.html#io).

use std::fmt;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;

use super::{CgroupVersion, Unsupported, Write, Writes, micros, or_max};
use crate::rlimit::Max;

/// How much a sandbox may read from and write to block devices
/// ([blkio-controller.rst](https://docs.kernel.org/admin-guide/cgroup-v1/blkio-controller.html),
/// [cgroup-v2.rst](https://docs.kernel.org/admin-guide/cgroup-v2.html#io)).
///
/// On v1 only what a process reads and writes itself, or without page cache, is held back: what the
/// kernel writes back later is not the sandbox's. On v2 it is, if memory is limited as well.
///
/// # Examples
///
/// ```
/// use stockade::{BlockDevice, Io, IoLimit, Limits, Sandbox};
/// let limit = IoLimit::new().read_bytes(4 << 20);
/// let io = Io::new().max(BlockDevice::Number(8, 0), limit);
/// let sandbox = Sandbox::new().limits(Limits::new().io(io));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[must_use = "it limits nothing until it is given to a sandbox"]
pub struct Io {
    maxima: Vec<(BlockDevice, IoLimit)>,
    weight: Option<u64>,
    weights: Vec<(BlockDevice, u64)>,
    latencies: Vec<(BlockDevice, Duration)>,
}

/// A block device ([makedev(3)](https://man7.org/linux/man-pages/man3/makedev.3.html)).
///
/// # Examples
///
/// ```
/// use stockade::BlockDevice;
/// assert_eq!(BlockDevice::from("/dev/sda"), BlockDevice::Path("/dev/sda".into()));
/// assert_eq!(BlockDevice::from("8:0"), BlockDevice::Number(8, 0));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlockDevice {
    /// By its major and minor number.
    Number(u32, u32),
    /// The device file, or any other path, which stands for the disk that it is on.
    Path(PathBuf),
}

/// `major:minor`, or a path.
///
/// # Examples
///
/// ```
/// assert_eq!(stockade::BlockDevice::from("7:1"), stockade::BlockDevice::Number(7, 1));
/// ```
impl From<&str> for BlockDevice {
    fn from(text: &str) -> Self {
        let numbers = text.split_once(':').and_then(|(major, minor)| {
            Some(BlockDevice::Number(major.parse().ok()?, minor.parse().ok()?))
        });
        numbers.unwrap_or_else(|| BlockDevice::Path(text.into()))
    }
}

/// A path.
///
/// # Examples
///
/// ```
/// use std::path::PathBuf;
/// let device = stockade::BlockDevice::from(PathBuf::from("/dev/sda"));
/// ```
impl From<PathBuf> for BlockDevice {
    fn from(path: PathBuf) -> Self {
        BlockDevice::Path(path)
    }
}

/// A path.
///
/// # Examples
///
/// ```
/// use std::path::Path;
/// let device = stockade::BlockDevice::from(Path::new("/home"));
/// ```
impl From<&Path> for BlockDevice {
    fn from(path: &Path) -> Self {
        BlockDevice::Path(path.to_owned())
    }
}

impl fmt::Display for BlockDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BlockDevice::Number(major, minor) => write!(f, "{major}:{minor}"),
            BlockDevice::Path(path) => write!(f, "{path:?}"),
        }
    }
}

/// What is allowed in a second, each way
/// ([blkio-controller.rst](https://docs.kernel.org/admin-guide/cgroup-v1/blkio-controller.html),
/// [cgroup-v2.rst](https://docs.kernel.org/admin-guide/cgroup-v2.html#io-interface-files)).
///
/// # Examples
///
/// ```
/// let limit = stockade::IoLimit::new().read_bytes(4 << 20).write_operations(100);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[must_use = "it limits nothing until it is given for a device"]
pub struct IoLimit {
    read_bytes: Option<Max>,
    write_bytes: Option<Max>,
    read_operations: Option<Max>,
    write_operations: Option<Max>,
}

impl IoLimit {
    /// No limit.
    ///
    /// # Examples
    ///
    /// ```
    /// let limit = stockade::IoLimit::new();
    /// ```
    pub fn new() -> Self {
        IoLimit::default()
    }

    /// Bytes that may be read in a second.
    ///
    /// # Examples
    ///
    /// ```
    /// let limit = stockade::IoLimit::new().read_bytes(4 << 20);
    /// ```
    #[doc(alias = "rbps")]
    pub fn read_bytes(self, max: impl Into<Max>) -> Self {
        IoLimit { read_bytes: Some(max.into()), ..self }
    }

    /// Bytes that may be written in a second.
    ///
    /// # Examples
    ///
    /// ```
    /// let limit = stockade::IoLimit::new().write_bytes(4 << 20);
    /// ```
    #[doc(alias = "wbps")]
    pub fn write_bytes(self, max: impl Into<Max>) -> Self {
        IoLimit { write_bytes: Some(max.into()), ..self }
    }

    /// Reads in a second.
    ///
    /// # Examples
    ///
    /// ```
    /// let limit = stockade::IoLimit::new().read_operations(100);
    /// ```
    #[doc(alias = "riops")]
    pub fn read_operations(self, max: impl Into<Max>) -> Self {
        IoLimit { read_operations: Some(max.into()), ..self }
    }

    /// Writes in a second.
    ///
    /// # Examples
    ///
    /// ```
    /// let limit = stockade::IoLimit::new().write_operations(100);
    /// ```
    #[doc(alias = "wiops")]
    pub fn write_operations(self, max: impl Into<Max>) -> Self {
        IoLimit { write_operations: Some(max.into()), ..self }
    }

    /// With v1's file and v2's key.
    fn parts(self) -> [(&'static str, &'static str, Option<Max>); 4] {
        [
            ("blkio.throttle.read_bps_device", "rbps", self.read_bytes),
            ("blkio.throttle.write_bps_device", "wbps", self.write_bytes),
            ("blkio.throttle.read_iops_device", "riops", self.read_operations),
            ("blkio.throttle.write_iops_device", "wiops", self.write_operations),
        ]
    }
}

impl Io {
    /// No limit.
    ///
    /// # Examples
    ///
    /// ```
    /// let io = stockade::Io::new();
    /// ```
    pub fn new() -> Self {
        Io::default()
    }

    /// The most on one device. A later call for the same device replaces it.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Io, IoLimit};
    /// let io = Io::new().max("8:0", IoLimit::new().read_bytes(4 << 20));
    /// ```
    #[doc(alias = "io.max")]
    pub fn max(mut self, device: impl Into<BlockDevice>, limit: IoLimit) -> Self {
        let device = device.into();
        self.maxima.retain(|(other, _)| *other != device);
        self.maxima.push((device, limit));
        self
    }

    /// The share of what competitors want as well, on all devices with a scheduler that knows
    /// weights: 1 to 10,000, by default 100. On v1 at most 1,000; the scheduler BFQ takes more for as much
    /// as that.
    ///
    /// # Examples
    ///
    /// ```
    /// let io = stockade::Io::new().weight(50);
    /// ```
    #[doc(alias = "io.weight")]
    #[doc(alias = "blkio.bfq.weight")]
    pub fn weight(self, weight: u64) -> Self {
        Io { weight: Some(weight), ..self }
    }

    /// The share on one device.
    ///
    /// # Examples
    ///
    /// ```
    /// let io = stockade::Io::new().device_weight("8:0", 200);
    /// ```
    pub fn device_weight(mut self, device: impl Into<BlockDevice>, weight: u64) -> Self {
        let device = device.into();
        self.weights.retain(|(other, _)| *other != device);
        self.weights.push((device, weight));
        self
    }

    /// The latency that others are held back for, on one device. v2 only (Linux 4.19).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// let io = stockade::Io::new().latency("8:0", Duration::from_millis(20));
    /// ```
    #[doc(alias = "io.latency")]
    pub fn latency(mut self, device: impl Into<BlockDevice>, target: Duration) -> Self {
        let device = device.into();
        self.latencies.retain(|(other, _)| *other != device);
        self.latencies.push((device, target));
        self
    }

    pub(crate) fn problems(&self, problems: &mut Vec<String>) {
        let weights = self.weight.iter().chain(self.weights.iter().map(|(_, weight)| weight));
        if weights.into_iter().any(|weight| !(1..=10_000).contains(weight)) {
            problems.push("an I/O weight is not between 1 and 10000".to_owned());
        }
        for (device, limit) in &self.maxima {
            let none = limit.parts().iter().any(|(_, _, max)| *max == Some(Max::At(0)));
            if none {
                problems.push(format!("an I/O limit of 0 on {device} would let nothing through"));
            }
        }
    }

    /// The same with the numbers of the devices in place of their paths.
    pub(crate) fn resolve(&self) -> Result<Self, (PathBuf, Errno)> {
        let mut resolved = self.clone();
        let Io { maxima, weights, latencies, .. } = &mut resolved;
        let devices = maxima.iter_mut().map(|(device, _)| device);
        let devices = devices.chain(weights.iter_mut().map(|(device, _)| device));
        for device in devices.chain(latencies.iter_mut().map(|(device, _)| device)) {
            if let BlockDevice::Path(path) = device {
                let (major, minor) = disk_of(path).map_err(|errno| (path.clone(), errno))?;
                *device = BlockDevice::Number(major, minor);
            }
        }
        Ok(resolved)
    }

    /// Devices must be numbers.
    pub(crate) fn writes(&self, version: CgroupVersion) -> Writes {
        match version {
            CgroupVersion::V1 => self.v1(),
            CgroupVersion::V2 => Ok(self.v2()),
        }
    }

    fn v1(&self) -> Writes {
        let lacks = |what, instead| Err(Unsupported { what, version: CgroupVersion::V1, instead });
        let heavy = |weight: &u64| *weight > 1000;
        if !self.latencies.is_empty() {
            return lacks("a target of I/O latency", "");
        }
        if self.weight.iter().chain(self.weights.iter().map(|(_, weight)| weight)).any(heavy) {
            return lacks("an I/O weight above 1000", "");
        }
        let mut writes = Vec::new();
        for (device, limit) in &self.maxima {
            for (file, _, max) in limit.parts() {
                let number = max.map(|max| match max {
                    Max::At(number) => number,
                    Max::Unlimited => 0,
                });
                writes.extend(number.map(|number| Write::new(file, format!("{device} {number}"))));
            }
        }
        if let Some(weight) = self.weight {
            writes.push(Write::new("blkio.bfq.weight", weight).or("blkio.weight"));
        }
        for (device, weight) in &self.weights {
            let write = Write::new("blkio.bfq.weight_device", format!("{device} {weight}"));
            writes.push(write.or("blkio.weight_device"));
        }
        Ok(writes)
    }

    fn v2(&self) -> Vec<Write> {
        let mut writes = Vec::new();
        for (device, limit) in &self.maxima {
            let parts = limit.parts().into_iter();
            let parts = parts.filter_map(|(_, key, max)| Some(format!("{key}={}", or_max(max?))));
            let parts: Vec<_> = parts.collect();
            // The kernel takes no line without any.
            if !parts.is_empty() {
                writes.push(Write::new("io.max", format!("{device} {}", parts.join(" "))));
            }
        }
        if let Some(weight) = self.weight {
            // Each is looked at by another of those who may serve a disk.
            let bfq = Write::new("io.bfq.weight", weight.min(1000));
            writes.extend([
                bfq.dispensable(true),
                Write::new("io.weight", weight).or("io.bfq.weight"),
            ]);
        }
        for (device, weight) in &self.weights {
            let write = Write::new("io.weight", format!("{device} {weight}"));
            writes.push(write.or("io.bfq.weight"));
        }
        for (device, target) in &self.latencies {
            let target = micros(*target);
            writes.push(Write::new("io.latency", format!("{device} target={target}")));
        }
        writes
    }
}

/// The disk that a path stands for: a partition has no limits of its own.
fn disk_of(path: &Path) -> Result<(u32, u32), Errno> {
    let found = fs::metadata(path).map_err(|error| crate::executable::errno_of(&error))?;
    let is_device = found.file_type().is_block_device();
    let device = if is_device { found.rdev() } else { found.dev() };
    let number = |part: u64| u32::try_from(part).unwrap_or(0);
    let (major, minor) = (libc::major(device), libc::minor(device));
    let sys = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
    if major == 0 {
        // tmpfs, overlayfs, network file systems and others without a disk.
        return Err(Errno::ENOTBLK);
    }
    if sys.join("partition").exists() {
        let whole = fs::read_to_string(sys.join("../dev")).unwrap_or_default();
        if let BlockDevice::Number(major, minor) = BlockDevice::from(whole.trim()) {
            return Ok((major, minor));
        }
    }
    Ok((number(major.into()), number(minor.into())))
}
