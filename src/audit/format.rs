//! What the probe of an audit tells, and where it is: compiled into the library and into the probe.
//!
//! Records of a kind (one byte), a length (four bytes, in the machine's own order) and as many bytes. The
//! library treats them as hostile: everything inside can write to the descriptor that they come from.
#![allow(dead_code, reason = "each side uses some")]

/// The name of what the records after it are about: a path, or a system call.
pub(crate) const NAME: u8 = b'n';
/// Bytes of it, of which there can be more.
pub(crate) const DATA: u8 = b'd';
/// It is a device, with this number in eight bytes.
pub(crate) const DEVICE: u8 = b'v';
/// It is on another file system than what is above it: the kernel's `struct statfs`.
pub(crate) const FILE_SYSTEM: u8 = b's';
/// A descriptor that is open, in four bytes; its link are the data.
pub(crate) const DESCRIPTOR: u8 = b'f';
/// There is more than the probe may read.
pub(crate) const CUT: u8 = b'c';
/// The root directory cannot be listed.
pub(crate) const BLIND: u8 = b'b';
/// Nothing was left out at the end.
pub(crate) const END: u8 = b'e';

/// The largest record.
pub(crate) const RECORD_MAX: usize = 16 * 1024;
/// More of one file is not read.
pub(crate) const FILE_MAX: usize = 1 << 20;
/// More is not read in all.
pub(crate) const TOTAL_MAX: usize = 256 << 20;
/// More is not looked at.
pub(crate) const ENTRIES_MAX: usize = 500_000;
/// Directories below each other.
pub(crate) const DEPTH_MAX: usize = 64;

/// Where the probe is in a tree of the sandbox's own, which always has a /dev in memory.
pub(crate) const PLACE: &[u8] = b"/dev/stockade-audit";
/// Whose files are whatever packages brought: they are not read.
pub(crate) const PACKAGES: [&[u8]; 7] =
    [b"/usr", b"/bin", b"/sbin", b"/lib", b"/lib32", b"/lib64", b"/libx32"];

/// What system calls tell.
pub(crate) const UNAME: &[u8] = b"uname(2)";
pub(crate) const SYSINFO: &[u8] = b"sysinfo(2)";
/// `CLOCK_REALTIME`, then `CLOCK_BOOTTIME`.
pub(crate) const CLOCKS: &[u8] = b"clock_gettime(2)";
pub(crate) const AFFINITY: &[u8] = b"sched_getaffinity(2)";
pub(crate) const DIRECTORY: &[u8] = b"getcwd(2)";
/// The processor's own words, where it has an instruction that asks for them.
pub(crate) const CPUID: &[u8] = b"cpuid";
/// The numbers of the session's and the user's keyring; -1 for what is refused.
pub(crate) const KEYRINGS: &[u8] = b"keyctl(2)";
/// `struct ifreq` of each interface with an address.
pub(crate) const INTERFACES: &[u8] = b"ioctl(SIOCGIFCONF)";
