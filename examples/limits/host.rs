//! What the host has that is limited, and what it sees of a sandbox.

use std::fs;
use std::io::{self, IoSliceMut};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::sockopt::SetBool;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt};

/// Whether there is anything to swap to.
pub(crate) fn has_swap() -> bool {
    fs::read_to_string("/proc/swaps").is_ok_and(|text| text.lines().count() > 1)
}

/// A CPU that this process may run on, and another; where there is no other, one that does not exist.
pub(crate) fn cpus() -> (u32, u32) {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let online = fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    let numbers = |list: &str| {
        list.trim().split([',', '-']).filter_map(|one| one.parse().ok()).collect::<Vec<u32>>()
    };
    let one = numbers(allowed.unwrap_or_default()).first().copied().unwrap_or(0);
    let last = numbers(&online).last().copied().filter(|last| *last != one);
    (one, last.unwrap_or(one + 1))
}

/// A file on a disk; with that of /tmp there might be none.
pub(crate) struct Disk(tempfile::NamedTempFile);

impl Disk {
    pub(crate) fn new() -> io::Result<Self> {
        let file = tempfile::NamedTempFile::new_in("/var/tmp")?;
        // What was never written is not read from the disk.
        fs::write(file.path(), vec![1; 2 << 20])?;
        file.as_file().sync_all()?;
        Ok(Disk(file))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

const HUGE_PAGES: &str = "/sys/kernel/mm/hugepages";

/// Those that the kernel knows, or the usual one where it knows none.
pub(crate) fn sizes_of_huge_pages() -> Vec<u64> {
    let entries = fs::read_dir(HUGE_PAGES).into_iter().flatten().flatten();
    let size = |name: &str| name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok();
    let sizes = entries.filter_map(|entry| size(entry.file_name().to_str()?));
    let mut sizes: Vec<u64> = sizes.map(|kib: u64| kib << 10).collect();
    sizes.sort_unstable();
    if sizes.is_empty() { vec![2 << 20] } else { sizes }
}

fn number_of_huge_pages(size: u64, file: &str) -> (PathBuf, u64) {
    let path = format!("{HUGE_PAGES}/hugepages-{}kB/{file}", size >> 10);
    let number = fs::read_to_string(&path).unwrap_or_default();
    (path.into(), number.trim().parse().unwrap_or(0))
}

pub(crate) fn free_huge_pages(size: u64) -> u64 {
    number_of_huge_pages(size, "free_hugepages").1
}

/// Two more huge pages in the host's pool, until it is dropped.
pub(crate) struct HugePages {
    file: PathBuf,
    before: u64,
}

impl HugePages {
    /// Only root can, and only small ones come by easily.
    pub(crate) fn reserve(size: u64) -> Option<Self> {
        let (file, before) = number_of_huge_pages(size, "nr_hugepages");
        let small = size <= 32 << 20;
        let made = small.then(|| fs::write(&file, (before + 2).to_string()))?;
        made.ok().map(|()| HugePages { file, before })
    }
}

impl Drop for HugePages {
    fn drop(&mut self) {
        if let Err(error) = fs::write(&self.file, self.before.to_string()) {
            eprintln!("limits: two huge pages stay: {:?}: {error}", self.file);
        }
    }
}

/// A number that libc does not have yet; the same on all architectures that init is built for.
const SO_RCVPRIORITY: i32 = 82;

/// Whether the priority of a packet comes with it (Linux 6.14).
#[derive(Clone)]
struct ReceivePriority;

nix::setsockopt_impl!(ReceivePriority, libc::SOL_SOCKET, SO_RCVPRIORITY, bool, SetBool);

/// Who is sent packets.
pub(crate) struct Receiver {
    socket: UdpSocket,
    sees: nix::Result<()>,
}

impl Receiver {
    pub(crate) fn new() -> io::Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        let sees = setsockopt(&socket, ReceivePriority, &true);
        Ok(Receiver { socket, sees })
    }

    pub(crate) fn port(&self) -> io::Result<u16> {
        Ok(self.socket.local_addr()?.port())
    }

    /// Of the two packets that came, for people.
    pub(crate) fn priorities(&self) -> String {
        if let Err(errno) = self.sees {
            return format!("not told to a receiver before Linux 6.14: {}", errno.desc());
        }
        match (self.priority(), self.priority()) {
            (Ok(first), Ok(second)) => format!("they came with {first} and {second}"),
            (Err(errno), _) | (_, Err(errno)) => format!("not received: {}", errno.desc()),
        }
    }

    /// 0 is not told.
    fn priority(&self) -> nix::Result<u32> {
        let (mut bytes, mut space) = ([0; 16], nix::cmsg_space!(u32));
        let mut into = [IoSliceMut::new(&mut bytes)];
        let socket = self.socket.as_raw_fd();
        let received = recvmsg::<()>(socket, &mut into, Some(&mut space), MsgFlags::empty())?;
        let number = received.cmsgs()?.find_map(|message| match message {
            ControlMessageOwned::Unknown(unknown) => unknown.data_bytes[..].try_into().ok(),
            _ => None,
        });
        Ok(number.map_or(0, u32::from_ne_bytes))
    }
}
