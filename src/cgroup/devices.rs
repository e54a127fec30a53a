//! Which device files may be used;
//! [devices.rst](https://docs.kernel.org/admin-guide/cgroup-v1/devices.html).

use std::fmt;

use super::bpf::Program;
use super::{CgroupVersion, Write, Writes};

/// Which devices a sandbox may open and make
/// ([devices.rst](https://docs.kernel.org/admin-guide/cgroup-v1/devices.html)). Everything is
/// denied first, then the rules are allowed in their order; they need root.
///
/// A sandbox's /dev has only a few harmless devices anyway: this is for what comes in by other
/// ways, such as a bind or a descriptor's /proc entry. What is open already stays open. What is asked
/// for at once has to be allowed by one rule; rules for the same numbers are one.
///
/// On v2 a BPF program does it, which needs CAP_BPF and CAP_NET_ADMIN (Linux 5.8; CAP_SYS_ADMIN
/// before), and counts what it refuses.
///
/// # Examples
///
/// ```
/// use stockade::{DeviceRule, Devices, Limits, Sandbox};
/// let devices = Devices::standard().allow(DeviceRule::char(10, 229)); // /dev/fuse
/// let sandbox = Sandbox::new().limits(Limits::new().devices(devices));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "it denies nothing until it is given to a sandbox"]
pub struct Devices {
    pub(crate) rules: Vec<DeviceRule>,
}

/// Devices that are allowed, and what may be done with them: read, write and `mknod` by default
/// ([devices.rst](https://docs.kernel.org/admin-guide/cgroup-v1/devices.html)). `Display` has the
/// kernel's form, such as `c 1:3 rwm`.
///
/// # Examples
///
/// ```
/// use stockade::DeviceRule;
/// assert_eq!(DeviceRule::char(1, 3).access("rw").to_string(), "c 1:3 rw");
/// assert_eq!(DeviceRule::block(8, None).to_string(), "b 8:* rwm");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[must_use = "it allows nothing until it is given to devices"]
pub struct DeviceRule {
    pub(crate) kind: DeviceKind,
    /// Any if `None`.
    pub(crate) major: Option<u32>,
    pub(crate) minor: Option<u32>,
    /// Of `r`, `w` and `m`.
    pub(crate) access: String,
}

/// The kind of a device file ([mknod(2)](https://man7.org/linux/man-pages/man2/mknod.2.html)).
///
/// # Examples
///
/// ```
/// assert_ne!(stockade::DeviceKind::Char, stockade::DeviceKind::Block);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeviceKind {
    /// A character device, such as a terminal.
    Char,
    /// A block device, such as a disk.
    Block,
}

impl DeviceRule {
    /// Character devices by number; `None` is any.
    ///
    /// # Examples
    ///
    /// ```
    /// let terminals = stockade::DeviceRule::char(136, None);
    /// ```
    pub fn char(major: impl Into<Option<u32>>, minor: impl Into<Option<u32>>) -> Self {
        DeviceRule::new(DeviceKind::Char, major.into(), minor.into())
    }

    /// Block devices by number; `None` is any.
    ///
    /// # Examples
    ///
    /// ```
    /// let disk = stockade::DeviceRule::block(8, 0);
    /// ```
    pub fn block(major: impl Into<Option<u32>>, minor: impl Into<Option<u32>>) -> Self {
        DeviceRule::new(DeviceKind::Block, major.into(), minor.into())
    }

    fn new(kind: DeviceKind, major: Option<u32>, minor: Option<u32>) -> Self {
        DeviceRule { kind, major, minor, access: "rwm".to_owned() }
    }

    /// What may be done: some of `r` (read), `w` (write) and `m` (`mknod`).
    ///
    /// # Examples
    ///
    /// ```
    /// let read_only = stockade::DeviceRule::block(8, 0).access("r");
    /// ```
    pub fn access(self, access: impl Into<String>) -> Self {
        DeviceRule { access: access.into(), ..self }
    }
}

impl fmt::Display for DeviceRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number =
            |number: Option<u32>| number.map_or("*".to_owned(), |number| number.to_string());
        let kind = if self.kind == DeviceKind::Char { 'c' } else { 'b' };
        write!(f, "{kind} {}:{} {}", number(self.major), number(self.minor), self.access)
    }
}

impl Devices {
    /// No device at all.
    ///
    /// # Examples
    ///
    /// ```
    /// let devices = stockade::Devices::none();
    /// ```
    pub fn none() -> Self {
        Devices { rules: Vec::new() }
    }

    /// What containers have by default: null, zero, full, random, urandom, tty, console, ptmx and
    /// pseudo terminals, and `mknod` of everything, which opens nothing
    /// ([OCI](https://github.com/opencontainers/runtime-spec/blob/main/config-linux.md#default-devices)).
    ///
    /// # Examples
    ///
    /// ```
    /// let devices = stockade::Devices::standard();
    /// ```
    pub fn standard() -> Self {
        let nodes = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)];
        let make = [DeviceRule::char(None, None), DeviceRule::block(None, None)];
        let mut rules: Vec<_> = make.into_iter().map(|rule| rule.access("m")).collect();
        rules.extend(nodes.map(|(major, minor)| DeviceRule::char(major, minor)));
        rules.push(DeviceRule::char(136, None));
        Devices { rules }
    }

    /// Allows some more.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{DeviceRule, Devices};
    /// let devices = Devices::standard().allow(DeviceRule::char(10, 200));
    /// ```
    #[doc(alias = "devices.allow")]
    pub fn allow(mut self, rule: DeviceRule) -> Self {
        self.rules.push(rule);
        self
    }

    pub(crate) fn problems(&self, problems: &mut Vec<String>) {
        for rule in &self.rules {
            let access = &rule.access;
            let known = access.bytes().all(|byte| b"rwm".contains(&byte));
            let once = (0..access.len()).all(|at| {
                let byte = access.as_bytes()[at];
                access.bytes().filter(|other| *other == byte).count() == 1
            });
            if access.is_empty() || !known || !once {
                problems
                    .push(format!("the access {access:?} to a device is not some of r, w and m"));
            }
        }
    }

    pub(crate) fn writes(&self, version: CgroupVersion) -> Writes {
        match version {
            CgroupVersion::V1 => {
                let deny = [Write::new("devices.deny", "a")];
                let allow = self.rules.iter().map(|rule| Write::new("devices.allow", rule));
                Ok(deny.into_iter().chain(allow).collect())
            }
            CgroupVersion::V2 => Ok(Vec::new()),
        }
    }

    /// What does it on v2.
    pub(crate) fn program(&self) -> Program {
        Program::devices(&self.rules)
    }
}
