//! Resource limits of the program: the sixteen limits that `setrlimit(2)` knows, as plain values;
//! see [getrlimit(2)].
//!
//! [getrlimit(2)]: https://man7.org/linux/man-pages/man2/getrlimit.2.html

use std::fmt;
use std::str::FromStr;

use crate::error::UnknownName;

/// What a limit is about: one of the sixteen `RLIMIT_` resources of
/// [getrlimit(2)](https://man7.org/linux/man-pages/man2/getrlimit.2.html).
///
/// # Examples
///
/// ```
/// use stockade::Resource;
///
/// let resource: Resource = "nofile".parse()?;
/// assert_eq!(resource, Resource::OpenFiles);
/// assert_eq!(resource.to_string(), "RLIMIT_NOFILE");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Resource {
    /// CPU time of each process, in seconds; `SIGXCPU` at the soft limit, `SIGKILL` at the hard.
    #[doc(alias = "RLIMIT_CPU")]
    Cpu,
    /// Size of a file that the process writes, in bytes; `SIGXFSZ` beyond it.
    #[doc(alias = "RLIMIT_FSIZE")]
    FileSize,
    /// Data segment, heap and (since Linux 4.7) private writable mappings, in bytes.
    #[doc(alias = "RLIMIT_DATA")]
    Data,
    /// Stack of the first thread with its arguments and environment, in bytes; glibc also takes it
    /// as the stack size of new threads.
    #[doc(alias = "RLIMIT_STACK")]
    Stack,
    /// Size of a core file, in bytes; 0 means that none is written.
    ///
    /// The kernel does not apply it where the host pipes core dumps to a program ([core(5)]).
    ///
    /// [core(5)]: https://man7.org/linux/man-pages/man5/core.5.html
    #[doc(alias = "RLIMIT_CORE")]
    Core,
    /// Resident memory, in bytes; Linux has ignored it since 2.4.30.
    #[doc(alias = "RLIMIT_RSS")]
    Rss,
    /// Number of processes and threads of the real user ID.
    ///
    /// Since Linux 5.14 those within the user namespace count, before that those on the whole host.
    /// Not applied to the host's root, nor to holders of `CAP_SYS_ADMIN` or `CAP_SYS_RESOURCE` on
    /// the host.
    #[doc(alias = "RLIMIT_NPROC")]
    Processes,
    /// One more than the greatest file descriptor that the process may open.
    #[doc(alias = "RLIMIT_NOFILE")]
    OpenFiles,
    /// Memory locked into RAM, in bytes.
    #[doc(alias = "RLIMIT_MEMLOCK")]
    LockedMemory,
    /// Virtual memory of the process, in bytes.
    #[doc(alias = "RLIMIT_AS")]
    AddressSpace,
    /// Number of `flock(2)` locks and leases; Linux has ignored it since 2.4.25.
    #[doc(alias = "RLIMIT_LOCKS")]
    Locks,
    /// Number of queued signals of the real user ID (since Linux 5.14 in its user namespace).
    #[doc(alias = "RLIMIT_SIGPENDING")]
    PendingSignals,
    /// Size of the POSIX message queues of the real user ID, in bytes (since Linux 5.14 in its user
    /// namespace).
    #[doc(alias = "RLIMIT_MSGQUEUE")]
    MessageQueue,
    /// How far the nice value may be lowered: to 20 minus the limit, which is from 0 to 40.
    #[doc(alias = "RLIMIT_NICE")]
    Nice,
    /// Highest real-time priority that may be set, from 0 (none) to 99.
    #[doc(alias = "RLIMIT_RTPRIO")]
    RealtimePriority,
    /// CPU time that a real-time thread may use without a blocking system call, in microseconds.
    #[doc(alias = "RLIMIT_RTTIME")]
    RealtimeTime,
}

/// The kernel's names; the index is the kernel's number.
#[rustfmt::skip]
const NAMES: [&str; 16] = [
    "RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_DATA", "RLIMIT_STACK",
    "RLIMIT_CORE", "RLIMIT_RSS", "RLIMIT_NPROC", "RLIMIT_NOFILE",
    "RLIMIT_MEMLOCK", "RLIMIT_AS", "RLIMIT_LOCKS", "RLIMIT_SIGPENDING",
    "RLIMIT_MSGQUEUE", "RLIMIT_NICE", "RLIMIT_RTPRIO", "RLIMIT_RTTIME",
];

impl Resource {
    /// All sixteen, in the order of their numbers.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Resource;
    /// assert_eq!(Resource::ALL.len(), 16);
    /// assert_eq!(Resource::ALL[7], Resource::OpenFiles);
    /// ```
    #[rustfmt::skip]
    pub const ALL: [Self; 16] = [
        Self::Cpu, Self::FileSize, Self::Data, Self::Stack,
        Self::Core, Self::Rss, Self::Processes, Self::OpenFiles,
        Self::LockedMemory, Self::AddressSpace, Self::Locks, Self::PendingSignals,
        Self::MessageQueue, Self::Nice, Self::RealtimePriority, Self::RealtimeTime,
    ];

    /// The kernel's number, from 0 to 15, as on x86, Arm and RISC-V (MIPS, SPARC and Alpha differ).
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(stockade::Resource::OpenFiles.number(), 7);
    /// ```
    #[must_use]
    pub const fn number(self) -> u32 {
        self as u32
    }

    /// The kernel's name, such as `RLIMIT_NOFILE`.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(stockade::Resource::OpenFiles.name(), "RLIMIT_NOFILE");
    /// ```
    #[must_use]
    pub const fn name(self) -> &'static str {
        NAMES[self.index()]
    }

    const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Resource {
    type Err = UnknownName;

    /// Reads `RLIMIT_NOFILE` or `nofile`, in any case.
    ///
    /// # Errors
    ///
    /// [`UnknownName`] for everything else.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Resource;
    /// assert_eq!("rlimit_as".parse(), Ok(Resource::AddressSpace));
    /// assert!("files".parse::<Resource>().is_err());
    /// ```
    fn from_str(text: &str) -> Result<Self, UnknownName> {
        let upper = text.to_ascii_uppercase();
        let short = upper.strip_prefix("RLIMIT_").unwrap_or(&upper);
        Self::ALL
            .into_iter()
            .find(|each| each.name().strip_prefix("RLIMIT_") == Some(short))
            .ok_or_else(|| UnknownName { what: "resource", name: text.to_owned() })
    }
}

/// The most that is allowed: a number, or everything; unlimited is greater than any number
/// ([getrlimit(2)](https://man7.org/linux/man-pages/man2/getrlimit.2.html),
/// [cgroups(7)](https://man7.org/linux/man-pages/man7/cgroups.7.html)).
///
/// # Examples
///
/// ```
/// use stockade::Max;
///
/// assert!(Max::Unlimited > Max::At(1 << 40));
/// assert_eq!("4096".parse(), Ok(Max::At(4096)));
/// assert_eq!(Max::Unlimited.to_string(), "unlimited");
/// ```
// The order of the variants gives the order of the values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Max {
    /// Up to this number, in the unit of the resource.
    At(u64),
    /// No limit.
    #[doc(alias = "RLIM_INFINITY")]
    Unlimited,
}

/// `u64::MAX` is `Unlimited`, because the kernel uses that number for `RLIM_INFINITY`.
///
/// # Examples
///
/// ```
/// use stockade::Max;
/// assert_eq!(Max::from(10), Max::At(10));
/// assert_eq!(Max::from(u64::MAX), Max::Unlimited);
/// ```
impl From<u64> for Max {
    fn from(number: u64) -> Self {
        match number {
            u64::MAX => Self::Unlimited,
            _ => Self::At(number),
        }
    }
}

impl fmt::Display for Max {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(number) => number.fmt(f),
            Self::Unlimited => f.pad("unlimited"),
        }
    }
}

impl FromStr for Max {
    type Err = UnknownName;

    /// Reads a decimal number or `unlimited`, in any case.
    ///
    /// # Errors
    ///
    /// [`UnknownName`] for everything else, numbers above `u64::MAX` included.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Max;
    /// assert_eq!("Unlimited".parse(), Ok(Max::Unlimited));
    /// assert!("-1".parse::<Max>().is_err());
    /// ```
    fn from_str(text: &str) -> Result<Self, UnknownName> {
        if text.eq_ignore_ascii_case("unlimited") {
            return Ok(Self::Unlimited);
        }
        text.parse::<u64>()
            .map(Self::from)
            .map_err(|_| UnknownName { what: "limit", name: text.to_owned() })
    }
}

/// The two values of a resource limit; made from one number, or from a pair (soft, hard)
/// ([getrlimit(2)](https://man7.org/linux/man-pages/man2/getrlimit.2.html)). A soft limit above the
/// hard one is reported as [`Error::Invalid`](crate::Error::Invalid) at the spawn.
///
/// # Examples
///
/// ```
/// use stockade::{Limit, Max};
///
/// assert_eq!(Limit::from(10), Limit { soft: Max::At(10), hard: Max::At(10) });
/// assert_eq!(Limit::from((10, Max::Unlimited)).hard, Max::Unlimited);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limit {
    /// What the kernel applies; the program may change it up to the hard limit.
    pub soft: Max,
    /// How far the program may raise the soft limit; it may lower this one, but not raise it.
    pub hard: Max,
}

impl Limit {
    const UNLIMITED: Self = Self { soft: Max::Unlimited, hard: Max::Unlimited };

    const fn both(number: u64) -> Self {
        Self { soft: Max::At(number), hard: Max::At(number) }
    }
}

/// Sets both values.
///
/// # Examples
///
/// ```
/// use stockade::{Limit, Max};
/// assert_eq!(Limit::from(10).soft, Max::At(10));
/// ```
impl From<u64> for Limit {
    fn from(number: u64) -> Self {
        Max::from(number).into()
    }
}

/// Sets both values.
///
/// # Examples
///
/// ```
/// use stockade::{Limit, Max};
/// assert_eq!(Limit::from(Max::Unlimited).hard, Max::Unlimited);
/// ```
impl From<Max> for Limit {
    fn from(max: Max) -> Self {
        Self { soft: max, hard: max }
    }
}

/// The pair is (soft, hard); each may be a number or a [`Max`].
///
/// # Examples
///
/// ```
/// use stockade::{Limit, Max};
/// assert_eq!(Limit::from((64, 128)).hard, Max::At(128));
/// ```
impl<S: Into<Max>, H: Into<Max>> From<(S, H)> for Limit {
    fn from((soft, hard): (S, H)) -> Self {
        Self { soft: soft.into(), hard: hard.into() }
    }
}

const MIB: u64 = 1 << 20;

/// A limit for each of the sixteen resources, by default from a table that is the same for every
/// caller ([getrlimit(2)](https://man7.org/linux/man-pages/man2/getrlimit.2.html)).
///
/// | resource | soft | hard | reason |
/// |---|---|---|---|
/// | [`Cpu`](Resource::Cpu) | unlimited | unlimited | bounds each process alone, so it cannot bound the sandbox |
/// | [`FileSize`](Resource::FileSize) | unlimited | unlimited | bounds each file alone, so it cannot bound the disk space |
/// | [`Data`](Resource::Data) | unlimited | unlimited | bounds each process alone; the memory of a control group bounds all |
/// | [`Stack`](Resource::Stack) | 8 MiB | unlimited | the kernel's own default |
/// | [`Core`](Resource::Core) | 0 | 0 | a core file holds the memory of the program, and fills disks |
/// | [`Rss`](Resource::Rss) | unlimited | unlimited | without effect |
/// | [`Processes`](Resource::Processes) | 1024 | 1024 | stops a fork bomb where there is no control group; see below |
/// | [`OpenFiles`](Resource::OpenFiles) | 1024 | 524288 | as systemd: `select(2)` ends at 1024, programs that do not use it may raise theirs |
/// | [`LockedMemory`](Resource::LockedMemory) | 8 MiB | 8 MiB | the kernel's own default since Linux 5.16 |
/// | [`AddressSpace`](Resource::AddressSpace) | unlimited | unlimited | runtimes reserve far more than they use |
/// | [`Locks`](Resource::Locks) | unlimited | unlimited | without effect |
/// | [`PendingSignals`](Resource::PendingSignals) | 4096 | 4096 | each queued signal takes memory of the kernel |
/// | [`MessageQueue`](Resource::MessageQueue) | 819200 bytes | 819200 bytes | the kernel's own default |
/// | [`Nice`](Resource::Nice) | 0 | 0 | no higher priority than given |
/// | [`RealtimePriority`](Resource::RealtimePriority) | 0 | 0 | no real-time scheduling |
/// | [`RealtimeTime`](Resource::RealtimeTime) | unlimited | unlimited | without real-time scheduling, nothing to bound |
///
/// `RLIMIT_NPROC` counts the processes and threads of the user ID within the user namespace since
/// Linux 5.14. On older kernels it counts all of that user ID on the host: if it already runs 1024
/// elsewhere, the program cannot start any.
///
/// Where the caller's own hard limit is lower than the table, the default is lowered to it. A limit
/// that was asked for with [`set`](Self::set) is never lowered: if the caller may not give it, the
/// spawn fails.
///
/// # Examples
///
/// ```
/// use stockade::{Limit, Max, Resource, Rlimits};
///
/// let limits = Rlimits::default()
///     .set(Resource::Cpu, 10)
///     .set(Resource::OpenFiles, (64, 128))
///     .set(Resource::Stack, Max::Unlimited);
/// assert_eq!(limits.limit(Resource::Cpu), Limit::from(10));
/// assert!(limits.is_default(Resource::Core));
/// assert!(!limits.is_default(Resource::Cpu));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub struct Rlimits {
    /// The index is the number of the resource, here and below.
    limits: [Limit; 16],
    asked: [bool; 16],
}

impl Default for Rlimits {
    fn default() -> Self {
        Self { limits: Resource::ALL.map(default_limit), asked: [false; 16] }
    }
}

const fn default_limit(resource: Resource) -> Limit {
    use Resource as R;
    match resource {
        R::Stack => Limit { soft: Max::At(8 * MIB), hard: Max::Unlimited },
        R::Core | R::Nice | R::RealtimePriority => Limit::both(0),
        R::Processes => Limit::both(1024),
        R::OpenFiles => Limit { soft: Max::At(1024), hard: Max::At(524_288) },
        R::LockedMemory => Limit::both(8 * MIB),
        R::PendingSignals => Limit::both(4096),
        R::MessageQueue => Limit::both(819_200),
        R::Cpu | R::FileSize | R::Data | R::Rss | R::AddressSpace | R::Locks | R::RealtimeTime => {
            Limit::UNLIMITED
        }
    }
}

/// Why it is so, as the table at [`Rlimits`] has it.
const fn reason(resource: Resource) -> &'static str {
    use Resource as R;
    match resource {
        R::Cpu => "bounds each process alone, so it cannot bound the sandbox",
        R::FileSize => "bounds each file alone, so it cannot bound the disk space",
        R::Data => "bounds each process alone; the memory of a control group bounds all",
        R::Stack | R::MessageQueue => "the kernel's own default",
        R::Core => "a core file holds the memory of the program, and fills disks",
        R::Rss | R::Locks => "without effect",
        R::Processes => "stops a fork bomb where there is no control group",
        R::OpenFiles => {
            "as systemd: select(2) ends at 1024, programs that do not use it may raise theirs"
        }
        R::LockedMemory => "the kernel's own default since Linux 5.16",
        R::AddressSpace => "runtimes reserve far more than they use",
        R::PendingSignals => "each queued signal takes memory of the kernel",
        R::Nice => "no higher priority than given",
        R::RealtimePriority => "no real-time scheduling",
        R::RealtimeTime => "without real-time scheduling, nothing to bound",
    }
}

impl Rlimits {
    /// Why the limit of `resource` is what it is.
    pub(crate) const fn reason(&self, resource: Resource) -> &'static str {
        if self.is_default(resource) { reason(resource) } else { "asked for" }
    }

    /// Asks for this limit instead of the default; the last word counts. A hard limit above the
    /// caller's own needs `CAP_SYS_RESOURCE` on the host
    /// ([getrlimit(2)](https://man7.org/linux/man-pages/man2/getrlimit.2.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Resource, Rlimits, Sandbox};
    /// let limits = Rlimits::default().set(Resource::OpenFiles, (16, 32));
    /// let command = Sandbox::new().rlimits(limits).command("sh").args(["-c", "ulimit -n"]);
    /// assert_eq!(command.output()?.stdout, b"16\n");
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn set(mut self, resource: Resource, limit: impl Into<Limit>) -> Self {
        self.limits[resource.index()] = limit.into();
        self.asked[resource.index()] = true;
        self
    }

    /// The limit of `resource`, asked for or default.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Limit, Resource, Rlimits};
    /// assert_eq!(Rlimits::default().limit(Resource::Processes), Limit::from(1024));
    /// ```
    #[must_use]
    pub const fn limit(&self, resource: Resource) -> Limit {
        self.limits[resource.index()]
    }

    /// Whether the limit of `resource` is the default, that is, was not [`set`](Self::set).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Resource, Rlimits};
    /// // Even if it is the same number.
    /// assert!(!Rlimits::default().set(Resource::Core, 0).is_default(Resource::Core));
    /// ```
    #[must_use]
    pub const fn is_default(&self, resource: Resource) -> bool {
        !self.asked[resource.index()]
    }

    /// Every resource with its limit, in the order of their numbers.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Max, Rlimits};
    /// let limits = Rlimits::default();
    /// let unlimited = limits.iter().filter(|(_, limit)| limit.hard == Max::Unlimited);
    /// assert_eq!(unlimited.count(), 8);
    /// ```
    pub fn iter(&self) -> impl Iterator<Item = (Resource, Limit)> {
        Resource::ALL.into_iter().zip(self.limits)
    }

    /// These limits, but no default above `hard`, the caller's hard limits by resource number.
    ///
    /// What was asked for stays: the user shall learn that it cannot be given.
    pub(crate) fn clamped_to(&self, hard: &[Max; 16]) -> Self {
        let mut clamped = self.clone();
        for resource in Resource::ALL.into_iter().filter(|&each| self.is_default(each)) {
            let limit = &mut clamped.limits[resource.index()];
            let most = hard[resource.index()];
            limit.soft = limit.soft.min(most);
            limit.hard = limit.hard.min(most);
        }
        clamped
    }

    /// One sentence for each limit that contradicts itself.
    pub(crate) fn problems(&self) -> Vec<String> {
        self.iter()
            .filter(|(_, limit)| limit.soft > limit.hard)
            .map(|(resource, Limit { soft, hard })| {
                format!("{resource}: the soft limit {soft} is above the hard limit {hard}")
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_names_are_the_kernels() {
        for (index, resource) in (0..).zip(Resource::ALL) {
            assert_eq!(resource.number(), index);
        }
        // From asm-generic/resource.h.
        assert_eq!((Resource::Core.number(), Resource::Core.name()), (4, "RLIMIT_CORE"));
        assert_eq!((Resource::Processes.number(), Resource::Processes.name()), (6, "RLIMIT_NPROC"));
        assert_eq!(
            (Resource::OpenFiles.number(), Resource::OpenFiles.name()),
            (7, "RLIMIT_NOFILE")
        );
        assert_eq!(
            (Resource::AddressSpace.number(), Resource::AddressSpace.name()),
            (9, "RLIMIT_AS")
        );
        assert_eq!(
            (Resource::RealtimeTime.number(), Resource::RealtimeTime.name()),
            (15, "RLIMIT_RTTIME")
        );
    }

    #[test]
    fn every_resource_round_trips() {
        for resource in Resource::ALL {
            let name = resource.to_string();
            assert_eq!(name.parse(), Ok(resource));
            assert_eq!(name.to_lowercase().parse(), Ok(resource));
            assert_eq!(name["RLIMIT_".len()..].to_lowercase().parse(), Ok(resource));
        }
    }

    #[test]
    fn unknown_resources_are_refused() {
        for text in ["", "RLIMIT_", "files", "RLIMIT_RLIMIT_AS", " as", "rlimit_é"] {
            let error = text.parse::<Resource>().unwrap_err();
            assert_eq!((error.what, error.name.as_str()), ("resource", text));
        }
    }

    #[test]
    fn max_orders_and_parses() {
        assert!(Max::Unlimited > Max::At(u64::MAX));
        assert!(Max::At(2) > Max::At(1));
        assert_eq!(Max::from(u64::MAX), Max::Unlimited);
        assert_eq!("Unlimited".parse(), Ok(Max::Unlimited));
        for text in ["0", "5", "unlimited"] {
            assert_eq!(text.parse::<Max>().unwrap().to_string(), text);
        }
        for text in ["", "-1", "1k", "18446744073709551616"] {
            let error = text.parse::<Max>().unwrap_err();
            assert_eq!((error.what, error.name.as_str()), ("limit", text));
        }
    }

    #[test]
    fn default_is_the_documented_table() {
        let unlimited = Limit::from(Max::Unlimited);
        let expected = [
            unlimited,
            unlimited,
            unlimited,
            (8 << 20, Max::Unlimited).into(),
            0.into(),
            unlimited,
            1024.into(),
            (1024, 524_288).into(),
            (8 << 20).into(),
            unlimited,
            unlimited,
            4096.into(),
            819_200.into(),
            0.into(),
            0.into(),
            unlimited,
        ];
        assert_eq!(Rlimits::default().limits, expected);
        assert!(Resource::ALL.into_iter().all(|each| Rlimits::default().is_default(each)));
    }

    #[test]
    fn reasons_are_those_of_the_documented_table() {
        let rows = include_str!("rlimit.rs").lines().filter(|line| line.starts_with("/// | [`"));
        let mut documented = rows.map(|row| row.rsplit(" | ").next().unwrap().replace('`', ""));
        for resource in Resource::ALL {
            let row = documented.next().unwrap();
            let documented = row.trim_end_matches(" |").trim_end_matches("; see below");
            assert_eq!(Rlimits::default().reason(resource), documented);
        }
        let limits = Rlimits::default().set(Resource::Core, 0);
        assert_eq!(limits.reason(Resource::Core), "asked for");
    }

    #[test]
    fn the_default_value_may_be_asked_for() {
        let limits = Rlimits::default().set(Resource::Core, 0);
        assert_eq!(limits.limit(Resource::Core), Limit::from(0));
        assert!(!limits.is_default(Resource::Core));
    }

    #[test]
    fn unlimited_hosts_clamp_nothing() {
        let limits = Rlimits::default().set(Resource::Cpu, (1, 2));
        assert_eq!(limits.clamped_to(&[Max::Unlimited; 16]), limits);
    }

    #[test]
    fn only_defaults_are_clamped() {
        let limits = Rlimits::default().set(Resource::Cpu, 100);
        let clamped = limits.clamped_to(&[Max::At(10); 16]);
        assert_eq!(clamped.limit(Resource::Cpu), Limit::from(100));
        assert_eq!(clamped.limit(Resource::OpenFiles), Limit::from(10));
        assert_eq!(clamped.limit(Resource::AddressSpace), Limit::from(10));
        assert_eq!(clamped.limit(Resource::Core), Limit::from(0));
        assert!(clamped.is_default(Resource::OpenFiles));
    }

    #[test]
    fn clamping_between_soft_and_hard_keeps_the_soft_limit() {
        let clamped = Rlimits::default().clamped_to(&[Max::At(4096); 16]);
        assert_eq!(clamped.limit(Resource::OpenFiles), Limit::from((1024, 4096)));
    }

    #[test]
    fn clamping_goes_by_resource_number() {
        let hard = Resource::ALL.map(|each| match each {
            Resource::Processes => Max::At(5),
            _ => Max::Unlimited,
        });
        let expected = Rlimits::default().set(Resource::Processes, 5).limits;
        assert_eq!(Rlimits::default().clamped_to(&hard).limits, expected);
    }

    #[test]
    fn soft_above_hard_is_a_problem() {
        let limits = Rlimits::default()
            .set(Resource::OpenFiles, (10, 5))
            .set(Resource::Cpu, (Max::Unlimited, 1))
            .set(Resource::Core, (5, 5));
        assert_eq!(
            limits.problems(),
            [
                "RLIMIT_CPU: the soft limit unlimited is above the hard limit 1",
                "RLIMIT_NOFILE: the soft limit 10 is above the hard limit 5",
            ]
        );
        assert!(Rlimits::default().problems().is_empty());
    }
}
