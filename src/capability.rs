//! Capabilities: the pieces of root's power, each of which a thread may hold alone, and the five
//! sets in which a thread holds them. These are plain values; see [capabilities(7)].
//!
//! [capabilities(7)]: https://man7.org/linux/man-pages/man7/capabilities.7.html

use std::fmt;
use std::io;
use std::str::FromStr;

use crate::error::UnknownName;

/// One capability, such as [`NET_BIND_SERVICE`](Self::NET_BIND_SERVICE): a number from 0 to 63.
///
/// Numbers newer than this crate are accepted and shown as `CAP_41`; see
/// [capabilities(7)](https://man7.org/linux/man-pages/man7/capabilities.7.html).
///
/// # Examples
///
/// ```
/// use stockade::Capability;
///
/// let port: Capability = "net_bind_service".parse()?;
/// assert_eq!(port, Capability::NET_BIND_SERVICE);
/// assert_eq!(port.number(), 10);
/// assert_eq!(port.to_string(), "CAP_NET_BIND_SERVICE");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capability(u8);

/// One row makes the constant, its search alias and its entry in `NAMES`.
macro_rules! capabilities {
    ($($constant:ident = $number:literal, $kernel:literal, $doc:literal;)*) => {
        impl Capability {
            $(
                #[doc = $doc]
                #[doc = ""]
                #[doc = "See [capabilities(7)](https://man7.org/linux/man-pages/man7/capabilities.7.html)."]
                #[doc(alias = $kernel)]
                pub const $constant: Self = Self($number);
            )*
        }

        /// The kernel's name of each known capability; the index is its number.
        const NAMES: &[&str] = &[$($kernel),*];
    };
}

capabilities! {
    CHOWN = 0, "CAP_CHOWN", "Change the owner and the group of any file.";
    DAC_OVERRIDE = 1, "CAP_DAC_OVERRIDE", "Bypass the permission checks for reading, writing and executing files.";
    DAC_READ_SEARCH = 2, "CAP_DAC_READ_SEARCH", "Bypass the permission checks for reading files and searching directories; `open_by_handle_at(2)`.";
    FOWNER = 3, "CAP_FOWNER", "Bypass the checks that the caller owns the file (`chmod`, `utime`, ACLs, sticky bit).";
    FSETID = 4, "CAP_FSETID", "Keep the set-user-ID and set-group-ID bits when a file is changed.";
    KILL = 5, "CAP_KILL", "Send signals to any process.";
    SETGID = 6, "CAP_SETGID", "Change the group IDs and the supplementary groups; write group ID maps.";
    SETUID = 7, "CAP_SETUID", "Change the user IDs; write user ID maps.";
    SETPCAP = 8, "CAP_SETPCAP", "Drop from the bounding set, extend the inheritable set, change the securebits.";
    LINUX_IMMUTABLE = 9, "CAP_LINUX_IMMUTABLE", "Change the append-only and immutable flags of files.";
    NET_BIND_SERVICE = 10, "CAP_NET_BIND_SERVICE", "Bind a socket to a port below 1024.";
    NET_BROADCAST = 11, "CAP_NET_BROADCAST", "Broadcast and listen to multicast (unused by the kernel).";
    NET_ADMIN = 12, "CAP_NET_ADMIN", "Configure interfaces, routes, firewalls and other network settings.";
    NET_RAW = 13, "CAP_NET_RAW", "Use raw and packet sockets; bind to any address for transparent proxying.";
    IPC_LOCK = 14, "CAP_IPC_LOCK", "Lock memory and use huge pages.";
    IPC_OWNER = 15, "CAP_IPC_OWNER", "Bypass the permission checks on System V IPC objects.";
    SYS_MODULE = 16, "CAP_SYS_MODULE", "Load and unload kernel modules: full control of the host.";
    SYS_RAWIO = 17, "CAP_SYS_RAWIO", "Use I/O ports, `/dev/mem`, `/proc/kcore` and raw device commands.";
    SYS_CHROOT = 18, "CAP_SYS_CHROOT", "Use `chroot(2)`; change mount namespaces with `setns(2)`.";
    SYS_PTRACE = 19, "CAP_SYS_PTRACE", "Trace any process; read and write its memory.";
    SYS_PACCT = 20, "CAP_SYS_PACCT", "Use `acct(2)`, process accounting.";
    SYS_ADMIN = 21, "CAP_SYS_ADMIN", "Mount, make namespaces and do much else: close to being root.";
    SYS_BOOT = 22, "CAP_SYS_BOOT", "Use `reboot(2)` and `kexec_load(2)`.";
    SYS_NICE = 23, "CAP_SYS_NICE", "Raise priorities; set scheduling policy, affinity and I/O class of any process.";
    SYS_RESOURCE = 24, "CAP_SYS_RESOURCE", "Raise hard resource limits; go beyond quotas and several other limits.";
    SYS_TIME = 25, "CAP_SYS_TIME", "Set the system clock and the hardware clock.";
    SYS_TTY_CONFIG = 26, "CAP_SYS_TTY_CONFIG", "Use `vhangup(2)`; configure virtual terminals.";
    MKNOD = 27, "CAP_MKNOD", "Make device files with `mknod(2)`.";
    LEASE = 28, "CAP_LEASE", "Take leases on any file.";
    AUDIT_WRITE = 29, "CAP_AUDIT_WRITE", "Write records to the kernel's audit log.";
    AUDIT_CONTROL = 30, "CAP_AUDIT_CONTROL", "Turn kernel auditing on and off; change its rules.";
    SETFCAP = 31, "CAP_SETFCAP", "Give capabilities to files; map user ID 0 into a new user namespace (Linux 5.12).";
    MAC_OVERRIDE = 32, "CAP_MAC_OVERRIDE", "Override mandatory access control (Smack).";
    MAC_ADMIN = 33, "CAP_MAC_ADMIN", "Change the configuration of mandatory access control (Smack).";
    SYSLOG = 34, "CAP_SYSLOG", "Use the privileged operations of `syslog(2)`; see kernel addresses in `/proc`.";
    WAKE_ALARM = 35, "CAP_WAKE_ALARM", "Set timers that wake up the system.";
    BLOCK_SUSPEND = 36, "CAP_BLOCK_SUSPEND", "Keep the system from suspending.";
    AUDIT_READ = 37, "CAP_AUDIT_READ", "Read the audit log through a multicast netlink socket (Linux 3.16).";
    PERFMON = 38, "CAP_PERFMON", "Use `perf_event_open(2)` and other performance monitoring (Linux 5.8).";
    BPF = 39, "CAP_BPF", "Use the privileged operations of `bpf(2)` (Linux 5.8).";
    CHECKPOINT_RESTORE = 40, "CAP_CHECKPOINT_RESTORE", "Checkpoint and restore processes; choose the PID of a new one (Linux 5.9).";
}

impl Capability {
    /// The capability of this number, or `None` above 63, the greatest that the sets can hold.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Capability;
    /// assert_eq!(Capability::new(5), Some(Capability::KILL));
    /// assert_eq!(Capability::new(64), None);
    /// ```
    #[must_use]
    pub const fn new(number: u8) -> Option<Self> {
        if number < 64 { Some(Self(number)) } else { None }
    }

    /// The kernel's number of this capability, from 0 to 63.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(stockade::Capability::SYS_ADMIN.number(), 21);
    /// ```
    #[must_use]
    pub const fn number(self) -> u8 {
        self.0
    }

    const fn bit(self) -> u64 {
        1 << self.0
    }
}

impl FromStr for Capability {
    type Err = UnknownName;

    /// Reads `CAP_NET_RAW`, `net_raw` or `CAP_41`, in any case.
    ///
    /// # Errors
    ///
    /// [`UnknownName`] for everything else: nothing is trimmed, and numbers end at 63.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Capability;
    /// assert_eq!("cap_kill".parse(), Ok(Capability::KILL));
    /// assert!("CAP_64".parse::<Capability>().is_err());
    /// ```
    fn from_str(text: &str) -> Result<Self, UnknownName> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        // `parse` alone would accept a plus sign.
        let number = if name.bytes().all(|byte| byte.is_ascii_digit()) {
            name.parse().ok()
        } else {
            (0..).zip(NAMES).find(|(_, known)| known[4..] == *name).map(|(number, _)| number)
        };
        number
            .and_then(Self::new)
            .ok_or_else(|| UnknownName { what: "capability", name: text.to_owned() })
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.get(usize::from(self.0)) {
            Some(name) => f.pad(name),
            None => f.pad(&format!("CAP_{}", self.0)),
        }
    }
}

impl fmt::Debug for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<caps::Capability> for Capability {
    fn from(capability: caps::Capability) -> Self {
        Self(capability.index())
    }
}

/// A set of capabilities, one bit for each; empty by default
/// ([capabilities(7)](https://man7.org/linux/man-pages/man7/capabilities.7.html)).
///
/// # Examples
///
/// ```
/// use stockade::{Capability, CapabilitySet};
///
/// let set = CapabilitySet::from([Capability::KILL, Capability::CHOWN]);
/// assert!(set.contains(Capability::CHOWN));
/// assert_eq!(set.to_string(), "CAP_CHOWN,CAP_KILL");
/// assert_eq!(set.bits(), 0b10_0001);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
#[must_use]
pub struct CapabilitySet(u64);

impl CapabilitySet {
    /// The set without any capability.
    ///
    /// # Examples
    ///
    /// ```
    /// assert!(stockade::CapabilitySet::empty().is_empty());
    /// ```
    pub const fn empty() -> Self {
        Self(0)
    }

    /// The 41 capabilities that this crate has names for; the kernel may know fewer or more.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Capability, CapabilitySet};
    /// assert_eq!(CapabilitySet::all_known().iter().count(), 41);
    /// assert!(CapabilitySet::all_known().contains(Capability::CHECKPOINT_RESTORE));
    /// ```
    pub const fn all_known() -> Self {
        Self((1 << NAMES.len()) - 1)
    }

    /// The set of these bits; bit *n* is the capability of number *n*.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Capability, CapabilitySet};
    /// assert_eq!(CapabilitySet::from_bits(1 << 5), CapabilitySet::from([Capability::KILL]));
    /// ```
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The bits of this set; bit *n* is the capability of number *n*.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Capability, CapabilitySet};
    /// assert_eq!(CapabilitySet::from([Capability::KILL]).bits(), 1 << 5);
    /// ```
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether the set has no capability.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Capability, CapabilitySet};
    /// assert!(!CapabilitySet::from([Capability::KILL]).is_empty());
    /// ```
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `capability` is in the set.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Capability, CapabilitySet};
    /// let set = CapabilitySet::from([Capability::KILL]);
    /// assert!(set.contains(Capability::KILL) && !set.contains(Capability::CHOWN));
    /// ```
    #[must_use]
    pub const fn contains(self, capability: Capability) -> bool {
        self.0 & capability.bit() != 0
    }

    /// Whether each capability of this set is also in `other`.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Capability, CapabilitySet};
    /// let kill = CapabilitySet::from([Capability::KILL]);
    /// assert!(kill.is_subset(CapabilitySet::all_known()));
    /// assert!(!kill.is_subset(CapabilitySet::empty()));
    /// ```
    #[must_use]
    pub const fn is_subset(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    /// Adds `capability`; returns whether it was new.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Capability, CapabilitySet};
    /// let mut set = CapabilitySet::empty();
    /// assert!(set.insert(Capability::KILL));
    /// assert!(!set.insert(Capability::KILL));
    /// ```
    pub fn insert(&mut self, capability: Capability) -> bool {
        let new = !self.contains(capability);
        self.0 |= capability.bit();
        new
    }

    /// Takes `capability` out; returns whether it was there.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Capability, CapabilitySet};
    /// let mut set = CapabilitySet::all_known();
    /// assert!(set.remove(Capability::SYS_ADMIN));
    /// assert!(!set.contains(Capability::SYS_ADMIN));
    /// ```
    pub fn remove(&mut self, capability: Capability) -> bool {
        let present = self.contains(capability);
        self.0 &= !capability.bit();
        present
    }

    /// The capabilities that are in at least one of the two sets.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Capability, CapabilitySet};
    /// let (kill, chown) = (Capability::KILL, Capability::CHOWN);
    /// let both = CapabilitySet::from([kill]).union([chown].into());
    /// assert_eq!(both, CapabilitySet::from([kill, chown]));
    /// ```
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The capabilities that are in both sets.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Capability, CapabilitySet};
    /// let kill = CapabilitySet::from([Capability::KILL]);
    /// assert_eq!(kill.intersection(CapabilitySet::all_known()), kill);
    /// ```
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The capabilities of the set, lowest number first.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Capability, CapabilitySet};
    /// let set = CapabilitySet::from([Capability::KILL, Capability::CHOWN]);
    /// assert_eq!(set.iter().next(), Some(Capability::CHOWN));
    /// ```
    #[must_use]
    pub const fn iter(self) -> CapabilitySetIter {
        CapabilitySetIter(self)
    }
}

/// The iterator over a [`CapabilitySet`], lowest number first
/// ([capabilities(7)](https://man7.org/linux/man-pages/man7/capabilities.7.html)).
///
/// # Examples
///
/// ```
/// use stockade::{Capability, CapabilitySet};
/// let mut each = CapabilitySet::from([Capability::KILL]).into_iter();
/// assert_eq!(each.next(), Some(Capability::KILL));
/// assert_eq!(each.next(), None);
/// ```
#[derive(Clone, Debug)]
pub struct CapabilitySetIter(CapabilitySet);

impl Iterator for CapabilitySetIter {
    type Item = Capability;

    fn next(&mut self) -> Option<Capability> {
        let lowest = (0..64).map(Capability).find(|&each| self.0.contains(each))?;
        self.0.remove(lowest);
        Some(lowest)
    }
}

impl IntoIterator for CapabilitySet {
    type Item = Capability;
    type IntoIter = CapabilitySetIter;

    fn into_iter(self) -> CapabilitySetIter {
        self.iter()
    }
}

impl Extend<Capability> for CapabilitySet {
    fn extend<I: IntoIterator<Item = Capability>>(&mut self, capabilities: I) {
        for capability in capabilities {
            self.insert(capability);
        }
    }
}

impl FromIterator<Capability> for CapabilitySet {
    fn from_iter<I: IntoIterator<Item = Capability>>(capabilities: I) -> Self {
        let mut set = Self::empty();
        set.extend(capabilities);
        set
    }
}

impl<const N: usize> From<[Capability; N]> for CapabilitySet {
    fn from(capabilities: [Capability; N]) -> Self {
        capabilities.into_iter().collect()
    }
}

/// Shows the names with commas between them, and nothing for the empty set.
impl fmt::Display for CapabilitySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.iter().map(|each| each.to_string()).collect();
        f.pad(&names.join(","))
    }
}

impl fmt::Debug for CapabilitySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// The five capability sets of a thread; all empty by default.
///
/// [`keep`](Self::keep) is the way in, and the `narrow_` methods shape the single sets. Each of
/// them takes away only, and takes away too what the kernel would not allow without it, so a value
/// built here always has *effective* ⊆ *permitted* ⊆ *bounding*, *inheritable* ⊆ *bounding* and
/// *ambient* ⊆ *permitted* ∩ *inheritable*. Every combination that keeps these rules can be built.
/// The sets are those of
/// [capabilities(7)](https://man7.org/linux/man-pages/man7/capabilities.7.html).
///
/// # Examples
///
/// ```
/// use stockade::{Capabilities, Capability};
///
/// // Port 80, for the program and all that it runs.
/// let server = Capabilities::keep([Capability::NET_BIND_SERVICE]);
/// assert!(server.ambient().contains(Capability::NET_BIND_SERVICE));
///
/// // Two that may be had, but only one of them is kept over `execve`.
/// let sets = Capabilities::keep([Capability::NET_RAW, Capability::KILL])
///     .narrow_ambient([Capability::NET_RAW]);
/// assert!(sets.bounding().contains(Capability::KILL));
/// assert!(!sets.ambient().contains(Capability::KILL));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[must_use]
pub struct Capabilities {
    bounding: CapabilitySet,
    permitted: CapabilitySet,
    effective: CapabilitySet,
    inheritable: CapabilitySet,
    ambient: CapabilitySet,
}

impl Capabilities {
    /// No capability in any set, which is the default.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Capabilities;
    /// assert_eq!(Capabilities::none(), Capabilities::default());
    /// ```
    pub const fn none() -> Self {
        Self::same(CapabilitySet::empty())
    }

    /// These capabilities in all five sets, so that the program still has them after `execve(2)`.
    ///
    /// `execve(2)` computes *ambient' = ambient*, *permitted' = (inheritable ∩ file inheritable) ∪
    /// (file permitted ∩ bounding) ∪ ambient'* and, for a file without capabilities, *effective' =
    /// ambient'*. With such a file and a user other than root, the ambient set alone survives, and
    /// the kernel allows in it only what is both permitted and inheritable. For root (without the
    /// securebit `NOROOT`) *permitted' = effective' = inheritable ∪ bounding*.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Capabilities, Capability, Sandbox};
    /// let port = Capabilities::keep([Capability::NET_BIND_SERVICE]);
    /// let command = Sandbox::new().capabilities(port).command("grep");
    /// let output = command.args(["CapEff", "/proc/self/status"]).output()?;
    /// assert_eq!(output.stdout, b"CapEff:\t0000000000000400\n");
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn keep(capabilities: impl IntoIterator<Item = Capability>) -> Self {
        Self::same(capabilities.into_iter().collect())
    }

    const fn same(set: CapabilitySet) -> Self {
        Self { bounding: set, permitted: set, effective: set, inheritable: set, ambient: set }
    }

    /// The most that any program may gain by `execve(2)`.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Capabilities, Capability};
    /// let sets = Capabilities::keep([Capability::KILL]);
    /// assert!(sets.bounding().contains(Capability::KILL));
    /// ```
    pub const fn bounding(&self) -> CapabilitySet {
        self.bounding
    }

    /// What the thread may make effective.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Capabilities, Capability};
    /// let sets = Capabilities::keep([Capability::KILL]);
    /// assert!(sets.permitted().contains(Capability::KILL));
    /// ```
    pub const fn permitted(&self) -> CapabilitySet {
        self.permitted
    }

    /// What the kernel checks now.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Capabilities, Capability};
    /// let sets = Capabilities::keep([Capability::KILL]);
    /// assert!(sets.effective().contains(Capability::KILL));
    /// ```
    pub const fn effective(&self) -> CapabilitySet {
        self.effective
    }

    /// What a program gains by `execve(2)` if its file has it as inheritable, too.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Capabilities, Capability};
    /// let sets = Capabilities::keep([Capability::KILL]);
    /// assert!(sets.inheritable().contains(Capability::KILL));
    /// ```
    pub const fn inheritable(&self) -> CapabilitySet {
        self.inheritable
    }

    /// What a program without file capabilities keeps over `execve(2)`.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Capabilities, Capability};
    /// let sets = Capabilities::keep([Capability::KILL]);
    /// assert!(sets.ambient().contains(Capability::KILL));
    /// ```
    pub const fn ambient(&self) -> CapabilitySet {
        self.ambient
    }

    /// Leaves only these in the bounding set, and so in each of the other four.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Capabilities, Capability};
    /// let sets = Capabilities::keep([Capability::KILL, Capability::CHOWN])
    ///     .narrow_bounding([Capability::KILL]);
    /// assert_eq!(sets, Capabilities::keep([Capability::KILL]));
    /// ```
    pub fn narrow_bounding(mut self, only: impl IntoIterator<Item = Capability>) -> Self {
        self.bounding = self.bounding.intersection(only.into_iter().collect());
        self.settled()
    }

    /// Leaves only these in the permitted set, and so in the effective and ambient sets.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Capabilities, Capability};
    /// let sets = Capabilities::keep([Capability::KILL, Capability::CHOWN])
    ///     .narrow_permitted([Capability::KILL]);
    /// assert!(!sets.effective().contains(Capability::CHOWN));
    /// assert!(sets.bounding().contains(Capability::CHOWN));
    /// ```
    pub fn narrow_permitted(mut self, only: impl IntoIterator<Item = Capability>) -> Self {
        self.permitted = self.permitted.intersection(only.into_iter().collect());
        self.settled()
    }

    /// Leaves only these in the effective set; the thread may raise the other permitted ones.
    ///
    /// `execve(2)` computes this set anew, so it matters only until then.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Capabilities, Capability};
    /// let sets = Capabilities::keep([Capability::KILL, Capability::CHOWN])
    ///     .narrow_effective([Capability::KILL]);
    /// assert!(!sets.effective().contains(Capability::CHOWN));
    /// assert!(sets.permitted().contains(Capability::CHOWN));
    /// ```
    pub fn narrow_effective(mut self, only: impl IntoIterator<Item = Capability>) -> Self {
        self.effective = self.effective.intersection(only.into_iter().collect());
        self.settled()
    }

    /// Leaves only these in the inheritable set, and so in the ambient set.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Capabilities, Capability};
    /// let sets = Capabilities::keep([Capability::KILL, Capability::CHOWN])
    ///     .narrow_inheritable([Capability::KILL]);
    /// assert!(!sets.ambient().contains(Capability::CHOWN));
    /// assert!(sets.permitted().contains(Capability::CHOWN));
    /// ```
    pub fn narrow_inheritable(mut self, only: impl IntoIterator<Item = Capability>) -> Self {
        self.inheritable = self.inheritable.intersection(only.into_iter().collect());
        self.settled()
    }

    /// Leaves only these in the ambient set.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Capabilities, Capability};
    /// let sets = Capabilities::keep([Capability::KILL, Capability::CHOWN])
    ///     .narrow_ambient([Capability::KILL]);
    /// assert!(!sets.ambient().contains(Capability::CHOWN));
    /// assert!(sets.inheritable().contains(Capability::CHOWN));
    /// ```
    pub fn narrow_ambient(mut self, only: impl IntoIterator<Item = Capability>) -> Self {
        self.ambient = self.ambient.intersection(only.into_iter().collect());
        self.settled()
    }

    /// Empties the ambient set: a program without file capabilities, not run by root, has none.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Capabilities, Capability};
    /// let sets = Capabilities::keep([Capability::KILL]).without_ambient();
    /// assert!(sets.ambient().is_empty() && !sets.permitted().is_empty());
    /// ```
    pub fn without_ambient(self) -> Self {
        self.narrow_ambient([])
    }

    /// Takes away what the rules of the type do not allow.
    fn settled(mut self) -> Self {
        self.permitted = self.permitted.intersection(self.bounding);
        self.inheritable = self.inheritable.intersection(self.bounding);
        self.effective = self.effective.intersection(self.permitted);
        self.ambient = self.ambient.intersection(self.permitted).intersection(self.inheritable);
        self
    }

    /// Reads the sets of the first thread of process `pid` from `/proc/PID/status`
    /// ([proc_pid_status(5)](https://man7.org/linux/man-pages/man5/proc_pid_status.5.html)).
    ///
    /// The sets are as the kernel reports them, even where they break the rules of this type: a
    /// thread may hold as permitted what has left its bounding set.
    ///
    /// # Errors
    ///
    /// `NotFound` if there is no such process in `/proc`, `InvalidData` if the file does not have
    /// all five sets, else what the kernel says.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Capabilities, Sandbox};
    /// let child = Sandbox::new().command("sleep").arg("1000").spawn()?;
    /// let program = child.program_id().ok_or("it runs")?;
    /// assert_eq!(Capabilities::of_process(program)?, Capabilities::none());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn of_process(pid: u32) -> io::Result<Self> {
        read_status(&format!("/proc/{pid}/status"))
    }

    /// Reads the sets of the calling thread from `/proc/thread-self/status`.
    ///
    /// # Errors
    ///
    /// As [`of_process`](Self::of_process); `NotFound` then means that `/proc` is not mounted.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Capabilities;
    /// let sets = Capabilities::of_current()?;
    /// assert!(sets.effective().is_subset(sets.permitted()));
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn of_current() -> io::Result<Self> {
        read_status("/proc/thread-self/status")
    }
}

fn read_status(path: &str) -> io::Result<Capabilities> {
    // The process chooses its own name in the first line, which need not be UTF-8.
    let status = std::fs::read(path)?;
    parse_status(&String::from_utf8_lossy(&status))
}

fn parse_status(status: &str) -> io::Result<Capabilities> {
    let set = |field: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        value
            .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
            .map(CapabilitySet::from_bits)
            .ok_or_else(|| {
                let message = format!("no {field} set in the status of the process");
                io::Error::new(io::ErrorKind::InvalidData, message)
            })
    };
    Ok(Capabilities {
        bounding: set("CapBnd")?,
        permitted: set("CapPrm")?,
        effective: set("CapEff")?,
        inheritable: set("CapInh")?,
        ambient: set("CapAmb")?,
    })
}

/// As [`Capabilities::keep`].
impl<const N: usize> From<[Capability; N]> for Capabilities {
    fn from(capabilities: [Capability; N]) -> Self {
        Self::keep(capabilities)
    }
}

/// As [`Capabilities::keep`].
impl From<Vec<Capability>> for Capabilities {
    fn from(capabilities: Vec<Capability>) -> Self {
        Self::keep(capabilities)
    }
}

/// As [`Capabilities::keep`].
impl From<CapabilitySet> for Capabilities {
    fn from(capabilities: CapabilitySet) -> Self {
        Self::keep(capabilities)
    }
}

/// As [`Capabilities::keep`].
impl FromIterator<Capability> for Capabilities {
    fn from_iter<I: IntoIterator<Item = Capability>>(capabilities: I) -> Self {
        Self::keep(capabilities)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tCapBnd: 7\nPid:\t1\nCapInh:\t0000000000000001\n\
        CapPrm:\t0000000000000002\nCapEff:\t0000000000000004\nCapBnd:\t000001ffffffffff\n\
        CapAmb:\t0000020000000000\nNoNewPrivs:\t0\n";

    fn keeps_the_rules(sets: &Capabilities) -> bool {
        sets.effective.is_subset(sets.permitted)
            && sets.permitted.is_subset(sets.bounding)
            && sets.inheritable.is_subset(sets.bounding)
            && sets.ambient.is_subset(sets.permitted)
            && sets.ambient.is_subset(sets.inheritable)
    }

    #[test]
    fn constants_agree_with_names() {
        assert_eq!(NAMES.len(), 41);
        assert_eq!(Capability::CHOWN.to_string(), "CAP_CHOWN");
        assert_eq!(Capability::SYS_ADMIN.to_string(), "CAP_SYS_ADMIN");
        assert_eq!(Capability::CHECKPOINT_RESTORE.to_string(), "CAP_CHECKPOINT_RESTORE");
        assert_eq!(Capability::CHECKPOINT_RESTORE.number(), 40);
    }

    #[test]
    fn numbers_and_names_agree_with_the_caps_crate() {
        let theirs = caps::all();
        assert_eq!(theirs.len(), NAMES.len());
        for each in theirs {
            let ours = Capability::from(each);
            assert_eq!(ours.number(), each.index());
            assert_eq!(ours.to_string(), each.to_string());
        }
    }

    #[test]
    fn new_ends_at_63() {
        assert_eq!(Capability::new(63).map(Capability::number), Some(63));
        assert_eq!(Capability::new(64), None);
    }

    #[test]
    fn every_number_round_trips() {
        for each in CapabilitySet::from_bits(u64::MAX) {
            assert_eq!(each.to_string().parse(), Ok(each));
            assert_eq!(each.to_string().to_lowercase().parse(), Ok(each));
        }
    }

    #[test]
    fn parses_any_spelling() {
        let expected = Ok(Capability::NET_BIND_SERVICE);
        for text in ["CAP_NET_BIND_SERVICE", "net_bind_service", "Cap_Net_Bind_Service", "cap_10"] {
            assert_eq!(text.parse(), expected, "{text}");
        }
    }

    #[test]
    fn refuses_unknown_names() {
        for text in ["", "CAP_", "NET", "CAP_64", "CAP_256", "CAP_+1", "CAP_-1", " KILL", "cap_é"]
        {
            let error = text.parse::<Capability>().unwrap_err();
            assert_eq!((error.what, error.name.as_str()), ("capability", text));
        }
    }

    #[test]
    fn set_operations() {
        let mut set = CapabilitySet::from([Capability::KILL]);
        assert!(set.insert(Capability::CHOWN));
        assert!(!set.insert(Capability::CHOWN));
        assert!(set.remove(Capability::KILL));
        assert!(!set.remove(Capability::KILL));
        assert_eq!(set, CapabilitySet::from([Capability::CHOWN]));
        let other = CapabilitySet::from([Capability::BPF]);
        assert!(set.intersection(other).is_empty());
        assert!(set.is_subset(set.union(other)));
        assert!(!set.union(other).is_subset(set));
    }

    #[test]
    fn set_iterates_over_the_whole_range() {
        let all = CapabilitySet::from_bits(u64::MAX);
        assert_eq!(all.iter().count(), 64);
        assert_eq!(all.iter().collect::<CapabilitySet>(), all);
        assert_eq!(CapabilitySet::all_known().bits(), 0x1ff_ffff_ffff);
    }

    #[test]
    fn set_shows_names() {
        let set = CapabilitySet::from_bits(1 << 41 | 1);
        assert_eq!(set.to_string(), "CAP_CHOWN,CAP_41");
        assert_eq!(format!("{set:?}"), "{CAP_CHOWN, CAP_41}");
        assert_eq!(CapabilitySet::empty().to_string(), "");
    }

    #[test]
    fn default_is_none() {
        assert_eq!(Capabilities::default(), Capabilities::none());
        assert_eq!(Capabilities::from([]), Capabilities::none());
        assert_eq!(Capabilities::from(Vec::new()), Capabilities::none());
    }

    #[test]
    fn narrowing_takes_the_dependent_sets_along() {
        let (kill, raw) = (Capability::KILL, Capability::NET_RAW);
        let both = Capabilities::keep([kill, raw]);
        let kill_set = CapabilitySet::from([kill]);

        assert_eq!(both.narrow_bounding([kill]), Capabilities::keep([kill]));
        let permitted = both.narrow_permitted([kill]);
        assert_eq!((permitted.effective(), permitted.ambient()), (kill_set, kill_set));
        assert_eq!(permitted.inheritable(), both.inheritable());
        let inheritable = both.narrow_inheritable([kill]);
        assert_eq!(inheritable.ambient(), kill_set);
        assert_eq!(inheritable.permitted(), both.permitted());
        let effective = both.narrow_effective([]);
        assert_eq!(effective.ambient(), both.ambient());
        assert!(both.without_ambient().ambient().is_empty());
    }

    #[test]
    fn narrowing_never_adds() {
        let none = Capabilities::none();
        assert_eq!(none.narrow_bounding(CapabilitySet::all_known()), none);
        assert_eq!(none.narrow_ambient(CapabilitySet::all_known()), none);
    }

    /// For one capability the five sets are five bits: all 32 combinations.
    #[test]
    fn exactly_the_allowed_combinations_can_be_built() {
        let kill = Capability::KILL;
        for bits in 0..32_u8 {
            let set =
                |bit: u8| CapabilitySet::from_bits(u64::from(bits >> bit & 1) << kill.number());
            let wanted = Capabilities {
                bounding: set(0),
                permitted: set(1),
                effective: set(2),
                inheritable: set(3),
                ambient: set(4),
            };
            let built = Capabilities::keep([kill])
                .narrow_bounding(wanted.bounding)
                .narrow_permitted(wanted.permitted)
                .narrow_effective(wanted.effective)
                .narrow_inheritable(wanted.inheritable)
                .narrow_ambient(wanted.ambient);
            assert!(keeps_the_rules(&built));
            assert_eq!(built == wanted, keeps_the_rules(&wanted), "{wanted:?}");
        }
    }

    #[test]
    fn status_is_kept_as_it_is() {
        let sets = parse_status(STATUS).unwrap();
        assert_eq!(sets.inheritable().bits(), 1);
        assert_eq!(sets.permitted().bits(), 2);
        assert_eq!(sets.effective().bits(), 4);
        assert_eq!(sets.bounding(), CapabilitySet::all_known());
        assert_eq!(sets.ambient().to_string(), "CAP_41");
        assert!(!keeps_the_rules(&sets));
    }

    #[test]
    fn status_without_a_set_is_an_error() {
        for (field, broken) in [
            ("CapAmb", STATUS.replace("CapAmb", "CapXyz")),
            ("CapPrm", STATUS.replace("2\nCapEff", "x\nCapEff")),
        ] {
            let error = parse_status(&broken).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert!(error.to_string().contains(field), "{error}");
        }
    }

    #[test]
    fn reads_real_processes() {
        let current = Capabilities::of_current().unwrap();
        assert_eq!(Capabilities::of_process(std::process::id()).unwrap(), current);
        assert!(current.effective().is_subset(current.permitted()));
        let error = Capabilities::of_process(u32::MAX).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
