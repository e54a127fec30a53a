//! What a program's memory and its /proc say of it, all of which it may change at any time.

use std::ffi::OsString;
use std::io::IoSliceMut;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;

/// `PATH_MAX`, with the NUL.
const LONGEST: usize = 4096;
/// No read goes over the end of one of the smallest pages: the next need not be there.
const PAGE: usize = 4096;
/// Most paths are shorter, and less is copied.
const FIRST: usize = 256;

/// As many bytes as are there, up to the end of a page.
fn read(pid: i32, address: usize, into: &mut [u8]) -> Result<usize, Errno> {
    let length = into.len().min(PAGE - address % PAGE);
    let mut local = [IoSliceMut::new(into.get_mut(..length).ok_or(Errno::EFAULT)?)];
    let remote = [RemoteIoVec { base: address, len: length }];
    process_vm_readv(Pid::from_raw(pid), &mut local, &remote)
}

/// A text that ends in NUL, without that.
pub(super) fn text(pid: i32, address: u64) -> Result<Vec<u8>, Errno> {
    let mut at = usize::try_from(address).map_err(|_| Errno::EFAULT)?;
    let (mut text, mut chunk) = (Vec::new(), [0; PAGE]);
    while text.len() < LONGEST {
        let wanted = if text.is_empty() { FIRST } else { PAGE };
        let got = read(pid, at, &mut chunk[..wanted])?;
        let got = chunk.get(..got).filter(|got| !got.is_empty()).ok_or(Errno::EFAULT)?;
        if let Some(end) = got.iter().position(|&byte| byte == 0) {
            text.extend(&got[..end]);
            return Ok(text);
        }
        text.extend(got);
        at = at.checked_add(got.len()).ok_or(Errno::EFAULT)?;
    }
    Err(Errno::ENAMETOOLONG)
}

/// `N` bytes, or fewer where there are no more; the rest are 0.
pub(super) fn bytes<const N: usize>(pid: i32, address: u64) -> Result<[u8; N], Errno> {
    let address = usize::try_from(address).map_err(|_| Errno::EFAULT)?;
    let mut found = [0; N];
    let got = read(pid, address, &mut found)?;
    if let Some(rest) = found.get_mut(got..).filter(|rest| !rest.is_empty()) {
        // On the next page, if there is one.
        let next = address.checked_add(got).ok_or(Errno::EFAULT)?;
        read(pid, next, rest).unwrap_or(0);
    }
    Ok(found)
}

/// A link of the process's directory in /proc.
pub(super) fn link(pid: i32, name: &str) -> Result<PathBuf, Errno> {
    let path = format!("/proc/{pid}/{name}");
    nix::fcntl::readlink(path.as_str()).map(PathBuf::from)
}

/// What `ps` would call it.
pub(super) fn name(pid: i32) -> OsString {
    let name = std::fs::read(format!("/proc/{pid}/comm")).unwrap_or_default();
    OsString::from_vec(name.strip_suffix(b"\n").unwrap_or(&name).to_vec())
}

/// The rights of a process over files, as the caller's user namespace numbers them.
#[derive(Debug, Default)]
pub(super) struct Rights {
    pub(super) uid: u32,
    pub(super) groups: Vec<u32>,
    pub(super) effective: u64,
}

pub(super) fn rights(pid: i32) -> Option<Rights> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| {
        status.lines().find_map(|line| line.strip_prefix(name)).map(str::split_whitespace)
    };
    // Of real, effective, saved and file system's, the last.
    let id = |name| field(name)?.nth(3)?.parse::<u32>().ok();
    let mut groups: Vec<u32> = field("Groups:")?.filter_map(|one| one.parse().ok()).collect();
    groups.push(id("Gid:")?);
    let effective = u64::from_str_radix(field("CapEff:")?.next()?, 16).ok()?;
    Some(Rights { uid: id("Uid:")?, groups, effective })
}

/// How many files it has open (Linux 6.2; 0 before).
pub(super) fn open_files(pid: i32) -> u64 {
    std::fs::metadata(format!("/proc/{pid}/fd")).map_or(0, |found| found.len())
}
