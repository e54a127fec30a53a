//! Kinds of what tells something about the host, and how much that is.

use std::fmt;

/// How much something tells about the host.
///
/// # Examples
///
/// ```
/// use stockade::{Leak, Severity};
/// assert_eq!(Leak::Kernel.severity(), Severity::Low);
/// assert!(Leak::User.severity() > Leak::BootId.severity());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Severity {
    /// The kind of machine: kernel version, CPU model, memory size, and numbers and times by which
    /// somebody who has seen this machine before may know it again.
    Low,
    /// Which machine it is, or where on it something lies.
    Medium,
    /// Its users, its secrets, or a way to what runs on it.
    High,
}

impl Severity {
    /// Its name in a table, in lower case.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(stockade::Severity::Medium.name(), "medium");
    /// ```
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Severity::Low => "low",
            Severity::Medium => "medium",
            Severity::High => "high",
        }
    }
}

/// What tells something about the host.
///
/// # Examples
///
/// ```
/// use stockade::{Leak, Severity};
/// assert_eq!(Leak::HostName.to_string(), "host name");
/// assert_eq!(Leak::HostName.severity(), Severity::Medium);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Leak {
    /// Release, version and build of the kernel.
    Kernel,
    /// The model of the processor.
    Processor,
    /// How many processors there are.
    Processors,
    /// How much memory there is.
    Memory,
    /// How busy the machine is.
    Load,
    /// When it was started.
    BootTime,
    /// The number of a file system of the host's, on most made of its UUID.
    FileSystem,
    /// What a file system of the host's lies on.
    Device,
    /// Ids of the host's behind those of the sandbox.
    HostIds,
    /// The host's name, or its domain.
    HostName,
    /// Its machine-id.
    MachineId,
    /// The id of its boot.
    BootId,
    /// The command line of its kernel.
    KernelCommandLine,
    /// Its disks and partitions.
    Disks,
    /// Sound cards and monitors, and whether they are used.
    Monitor,
    /// Other hardware.
    Hardware,
    /// Where on the host something lies.
    Path,
    /// The caller's control group.
    Cgroup,
    /// A device that can be opened.
    DeviceNode,
    /// A descriptor besides the standard ones.
    Descriptor,
    /// Shared memory, semaphores and message queues of the host's.
    Ipc,
    /// Addresses in networks.
    Address,
    /// Names of users, or their homes.
    User,
    /// A variable of the caller's environment.
    Environment,
    /// The caller's own command line.
    CommandLine,
    /// A file that the caller has open.
    OpenFile,
    /// A socket of the host's.
    Socket,
    /// A keyring of the host's.
    Key,
    /// The host's network, with the ports that are open in it.
    Network,
    /// Processes of the host's.
    Process,
    /// The host's files.
    Files,
}

impl Leak {
    /// All of them.
    ///
    /// # Examples
    ///
    /// ```
    /// assert!(stockade::Leak::ALL.contains(&stockade::Leak::Key));
    /// ```
    pub const ALL: &'static [Leak] = &[
        Leak::Kernel,
        Leak::Processor,
        Leak::Processors,
        Leak::Memory,
        Leak::Load,
        Leak::BootTime,
        Leak::FileSystem,
        Leak::Device,
        Leak::HostIds,
        Leak::HostName,
        Leak::MachineId,
        Leak::BootId,
        Leak::KernelCommandLine,
        Leak::Disks,
        Leak::Monitor,
        Leak::Hardware,
        Leak::Path,
        Leak::Cgroup,
        Leak::DeviceNode,
        Leak::Descriptor,
        Leak::Ipc,
        Leak::Address,
        Leak::User,
        Leak::Environment,
        Leak::CommandLine,
        Leak::OpenFile,
        Leak::Socket,
        Leak::Key,
        Leak::Network,
        Leak::Process,
        Leak::Files,
    ];

    /// How much it tells.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Leak, Severity};
    /// assert_eq!(Leak::Environment.severity(), Severity::High);
    /// ```
    #[must_use]
    pub fn severity(self) -> Severity {
        self.row().0
    }

    /// Its name in a table.
    ///
    /// # Examples
    ///
    /// ```
    /// assert_eq!(stockade::Leak::BootId.name(), "boot id");
    /// ```
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().1
    }

    fn row(self) -> (Severity, &'static str) {
        use Severity::{High, Low, Medium};
        match self {
            Leak::Kernel => (Low, "kernel"),
            Leak::Processor => (Low, "processor"),
            Leak::Processors => (Low, "number of processors"),
            Leak::Memory => (Low, "memory"),
            Leak::Load => (Low, "load"),
            Leak::BootTime => (Low, "boot time"),
            Leak::FileSystem => (Low, "number of a file system"),
            Leak::Device => (Low, "device of a file system"),
            Leak::HostIds => (Low, "host ids"),
            Leak::HostName => (Medium, "host name"),
            Leak::MachineId => (Medium, "machine id"),
            Leak::BootId => (Medium, "boot id"),
            Leak::KernelCommandLine => (Medium, "kernel command line"),
            Leak::Disks => (Medium, "disks"),
            Leak::Monitor => (Medium, "sound and monitors"),
            Leak::Hardware => (Medium, "hardware"),
            Leak::Path => (Medium, "host path"),
            Leak::Cgroup => (Medium, "control group"),
            Leak::DeviceNode => (Medium, "device"),
            Leak::Descriptor => (Medium, "descriptor"),
            Leak::Ipc => (Medium, "ipc namespace"),
            Leak::Address => (Medium, "address"),
            Leak::User => (High, "user"),
            Leak::Environment => (High, "environment"),
            Leak::CommandLine => (High, "command line"),
            Leak::OpenFile => (High, "open file"),
            Leak::Socket => (High, "socket"),
            Leak::Key => (High, "keyring"),
            Leak::Network => (High, "network"),
            Leak::Process => (High, "processes"),
            Leak::Files => (High, "file tree"),
        }
    }
}

impl fmt::Display for Leak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::Leak;

    #[test]
    fn all_are_there_once() {
        assert!(Leak::ALL.iter().enumerate().all(|(at, &leak)| leak as usize == at));
        assert_eq!(Leak::ALL.last(), Some(&Leak::Files));
    }
}
