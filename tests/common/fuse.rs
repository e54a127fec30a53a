//! A file system whose server does not answer.
#![allow(dead_code, reason = "each test binary uses some")]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::{life, mounts};

/// Numbers of requests.
const LOOKUP: u32 = 1;
const GETATTR: u32 = 3;
const INIT: u32 = 26;

/// An empty directory of it, in which every name is waited for until this is dropped.
pub(crate) struct Hanging {
    /// A byte comes over it for each name that somebody looks for.
    pub(crate) asked: OwnedFd,
    _until: OwnedFd,
}

impl Hanging {
    /// Needs root, and mounts of the test's own.
    pub(crate) fn mount(at: &Path) -> Self {
        let device = File::options().read(true).write(true).open("/dev/fuse").unwrap();
        let number = device.as_raw_fd();
        let options = format!("fd={number},rootmode=40000,user_id=0,group_id=0,allow_other");
        mounts::mount("fuse", at, &options, 0);
        let ((asked, asks), (ends, until)) = (life::pipe(), life::pipe());
        let mut own = Some(until);
        // Not a thread: a process does not end before its threads have their answers.
        life::fork(|| {
            drop(own.take());
            serve(device, &asks, &ends);
        });
        Hanging { asked, _until: own.unwrap() }
    }
}

fn serve(mut device: File, asks: &OwnedFd, ends: &OwnedFd) {
    let mut request = vec![0; 1 << 17];
    let mut unanswered = Vec::new();
    loop {
        let mut set = [device.as_fd(), ends.as_fd()].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        poll(&mut set, PollTimeout::NONE).unwrap();
        if !set[1].revents().unwrap().is_empty() {
            return;
        }
        let Ok(length) = device.read(&mut request) else { return };
        let (kind, unique) = (number(&request[4..8]), request[8..16].to_vec());
        assert!(length >= 40);
        let answer = match kind {
            INIT => started(),
            GETATTR => directory(),
            LOOKUP => {
                unanswered.push(unique);
                nix::unistd::write(asks, b"?").unwrap();
                continue;
            }
            _ => Err(libc::ENOSYS),
        };
        let (error, body) = answer.map_or_else(|error| (-error, Vec::new()), |body| (0, body));
        let length = u32::try_from(16 + body.len()).unwrap().to_ne_bytes();
        device.write_all(&[&length, &error.to_ne_bytes(), &unique[..], &body].concat()).unwrap();
    }
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_ne_bytes(bytes.try_into().unwrap())
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// struct fuse_init_out: version 7.31, no flags, 4096 bytes a write.
fn started() -> Result<Vec<u8>, i32> {
    let mut answer = [0; 16];
    (answer[0], answer[1], answer[5], answer[6]) = (7, 31, 4096, 1);
    Ok(words(&answer))
}

/// struct fuse_attr_out of the root, valid for ever.
fn directory() -> Result<Vec<u8>, i32> {
    let mut answer = [0; 26];
    // The seconds' lower half, the inode's, the mode and the number of links.
    let (seconds, inode) = if cfg!(target_endian = "little") { (0, 4) } else { (1, 5) };
    (answer[seconds], answer[inode], answer[19], answer[20]) = (1 << 30, 1, 0o40755, 2);
    Ok(words(&answer))
}
