//! Waiting for descriptors, and the clock.

use super::{ask, code};
use crate::abi::*;
use crate::raw::nr;
use crate::wire::Call;

/// One descriptor to wait for; ppoll(2)'s own layout.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Poll {
    pub(crate) fd: i32,
    events: i16,
    pub(crate) revents: i16,
}

impl Poll {
    pub(crate) const fn new(fd: i32) -> Self {
        Poll { fd, events: POLLIN, revents: 0 }
    }

    /// Only for the end of the other side, which is always told.
    pub(crate) const fn closing(fd: i32) -> Self {
        Poll { fd, events: 0, revents: 0 }
    }
}

/// As good as for ever: half a thousand years.
pub(crate) const FOREVER: u64 = u64::MAX;

/// ppoll(2); `timeout` in nanoseconds. A signal counts as nothing ready.
#[inline(never)]
pub(crate) fn poll(set: &mut [Poll], timeout: u64) -> u32 {
    let time = [timeout / 1_000_000_000, timeout % 1_000_000_000];
    let pointer = time.as_ptr();
    with_pointers!(Call::Read, PPOLL, set.as_mut_ptr(), set.len(), pointer, 0, 8).unwrap_or(0)
}

/// `CLOCK_MONOTONIC` in nanoseconds.
#[inline(never)]
pub(crate) fn now() -> u64 {
    let mut time = [0u64; 2];
    // The clock id is valid and so is the address: this cannot fail.
    let _always = with_pointers!(Call::Read, CLOCK_GETTIME, CLOCK_MONOTONIC, time.as_mut_ptr());
    time[0] * 1_000_000_000 + time[1]
}
