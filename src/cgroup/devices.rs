//! Which device files may be used;
//! [devices.rst](https://docs.kernel.org/admin-guide/cgroup-v1/devices.html).

use std::fmt;

use super::bpf::Program;
use super::{CgroupVersion, Unsupported, Write, Writes};

/// Which devices a sandbox may open and make
/// ([devices.rst](https://docs.kernel.org/admin-guide/cgroup-v1/devices.html)). Everything is
/// denied first, then the rules follow in their order, of which the later one counts; they need root. There may be 1,000 of them.
///
/// A sandbox's /dev has only a few harmless devices anyway: this is for what comes in by other
/// ways, such as a bind or a descriptor's /proc entry. What is open already stays open. What is asked
/// for at once has to be allowed by one rule; rules for the same numbers are one.
///
/// v1 cannot deny what is part of a wider rule, unless all devices are allowed before: that is
/// [`Error::Unsupported`](crate::Error) there.
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
    /// Whether each is allowed.
    rules: Vec<(bool, DeviceRule)>,
}

/// A rule in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ruling {
    pub(crate) allow: bool,
    pub(crate) kind: DeviceKind,
    pub(crate) major: Option<u32>,
    pub(crate) minor: Option<u32>,
    /// Of [`ACCESS`].
    pub(crate) access: u32,
}

/// The jumps of a program are 16 bits wide.
const MAX_RULES: usize = 1000;

/// `BPF_DEVCG_ACC_…`: which access a letter stands for.
pub(crate) const ACCESS: [(char, u32); 3] = [('r', 2), ('w', 4), ('m', 1)];

/// Some devices, and what may be done with them: read, write and `mknod` by default
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
#[must_use = "it is no rule until it is given to devices"]
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
        let devices = make.into_iter().map(|rule| rule.access("m"));
        let devices = devices.chain(nodes.map(|(major, minor)| DeviceRule::char(major, minor)));
        devices.fold(Devices::none(), Devices::allow).allow(DeviceRule::char(136, None))
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
        self.rules.push((true, rule));
        self
    }

    /// Denies some that are allowed so far.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{DeviceRule, Devices};
    /// let devices = Devices::standard().deny(DeviceRule::char(5, None)).deny(DeviceRule::char(136, None));
    /// ```
    #[doc(alias = "devices.deny")]
    pub fn deny(mut self, rule: DeviceRule) -> Self {
        self.rules.push((false, rule));
        self
    }

    pub(crate) fn problems(&self, problems: &mut Vec<String>) {
        if self.rules.len() > MAX_RULES {
            problems.push(format!("there are more than {MAX_RULES} rules of devices"));
        }
        for (_, DeviceRule { access, .. }) in &self.rules {
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
        if version == CgroupVersion::V2 {
            return Ok(Vec::new());
        }
        let rulings = self.rulings();
        match rulings.as_slice() {
            all if all.iter().all(|ruling| ruling.allow) => Ok(self.lines()),
            // All, and then not some.
            [first, second, denied @ ..]
                if first.is_any()
                    && second.is_any()
                    && first.kind != second.kind
                    && !denied.iter().any(|ruling| ruling.allow) =>
            {
                let denied = denied.iter().map(|ruling| Write::new("devices.deny", ruling));
                Ok([Write::new("devices.allow", "a")].into_iter().chain(denied).collect())
            }
            _ => Err(Unsupported {
                what: "denying a part of what a wider rule of devices allows",
                version,
                instead: "allow the devices one by one",
            }),
        }
    }

    /// What it comes to, in v1's files.
    pub(crate) fn lines(&self) -> Vec<Write> {
        let rulings = self.rulings();
        let rules = rulings.iter().map(|ruling| {
            Write::new(if ruling.allow { "devices.allow" } else { "devices.deny" }, ruling)
        });
        [Write::new("devices.deny", "a")].into_iter().chain(rules).collect()
    }

    /// The rules without what later ones undo: something denied is left only where a wider rule before
    /// it allows it. Those for the same devices are one.
    fn rulings(&self) -> Vec<Ruling> {
        let mut rulings: Vec<Ruling> = Vec::new();
        for (allow, rule) in &self.rules {
            let next = Ruling::new(*allow, rule);
            for before in &mut rulings {
                if before.allow != next.allow && next.covers(before) {
                    before.access &= !next.access;
                }
            }
            rulings.retain(|before| before.access != 0);
            if !next.allow {
                rulings.extend(rulings.iter().any(|before| before.meets(&next)).then_some(next));
                continue;
            }
            let undone = |before: &Ruling| !before.allow && before.overlaps(&next);
            let since = rulings.iter().rposition(undone).map_or(0, |at| at + 1);
            match rulings[since..].iter_mut().find(|before| before.is_about(&next)) {
                Some(same) => same.access |= next.access,
                None => rulings.push(next),
            }
        }
        rulings
    }

    /// What does it on v2.
    pub(crate) fn program(&self) -> Program {
        Program::devices(&self.rulings())
    }
}

impl Ruling {
    fn new(allow: bool, rule: &DeviceRule) -> Self {
        let letters = ACCESS.iter().filter(|(letter, _)| rule.access.contains(*letter));
        let access = letters.map(|(_, bit)| bit).sum();
        Ruling { allow, kind: rule.kind, major: rule.major, minor: rule.minor, access }
    }

    /// Whether it allows all devices of its kind, and all that can be done with them.
    fn is_any(&self) -> bool {
        self.allow && self.major.is_none() && self.minor.is_none() && self.access == 7
    }

    fn is_about(&self, other: &Ruling) -> bool {
        (self.kind, self.major, self.minor) == (other.kind, other.major, other.minor)
    }

    /// Whether it is about all devices that another is about.
    fn covers(&self, other: &Ruling) -> bool {
        let wide = |own: Option<u32>, other| own.is_none() || own == other;
        self.kind == other.kind && wide(self.major, other.major) && wide(self.minor, other.minor)
    }

    /// Whether there are devices that both are about.
    fn overlaps(&self, other: &Ruling) -> bool {
        let both =
            |one: Option<u32>, other: Option<u32>| one.is_none() || other.is_none() || one == other;
        self.kind == other.kind && both(self.major, other.major) && both(self.minor, other.minor)
    }

    /// Whether it allows something that another denies.
    fn meets(&self, denied: &Ruling) -> bool {
        self.allow && self.access & denied.access != 0 && self.overlaps(denied)
    }
}

impl fmt::Display for Ruling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters = ACCESS.iter().filter(|(_, bit)| self.access & bit != 0);
        let access = letters.map(|(letter, _)| letter).collect();
        DeviceRule { kind: self.kind, major: self.major, minor: self.minor, access }.fmt(f)
    }
}
