//! System calls as safe functions; with [`start`](crate::start) all of init that has unsafe code,
//! one file for each noun of the kernel's: most of it behind [`with_pointers!`].
//!
//! Every failure carries the call that failed, so that a report can name it. What is used in many
//! places is not inlined: init must stay small.
#![allow(unsafe_code)]

use core::mem::transmute;

use crate::raw::{Errno, nr, syscall};
use crate::wire::{Call, Fault};

/// The result of everything that can fail in init.
pub(crate) type Outcome<T = ()> = Result<T, Fault>;

/// A failure of init's own finding.
pub(crate) const fn fault<T>(call: Call, errno: i32) -> Outcome<T> {
    Err(Fault { call, errno: Errno(errno) })
}

/// A descriptor that is closed when it goes out of scope.
#[derive(Debug)]
pub(crate) struct Fd(pub(crate) i32);

#[cfg(session)]
impl Fd {
    /// The number of one that stays open.
    pub(crate) fn keep(self) -> i32 {
        core::mem::ManuallyDrop::new(self).0
    }
}

impl Drop for Fd {
    fn drop(&mut self) {
        if self.0 >= 0 {
            close(self.0);
        }
    }
}

/// Closes a descriptor. The kernel frees the number whatever it answers.
#[inline(never)]
pub(crate) fn close(fd: i32) {
    // SAFETY: close takes a number; init alone decides which numbers it still uses.
    let _freed = unsafe { syscall(nr::CLOSE, [fd as usize, 0, 0, 0, 0, 0]) };
}

/// Makes a system call whose answer is a number of 32 bits, with the arguments where the caller has
/// them already: with `code`, which is a [`Call`] above a number of the kernel's, they fit into
/// registers, and all wrappers are a few instructions.
///
/// # Safety
///
/// As for [`syscall`]; the upper half of `code` must be a `Call`.
#[inline(never)]
unsafe fn ask(a: usize, b: usize, c: usize, d: usize, e: usize, code: u32) -> Outcome<u32> {
    // SAFETY: the caller answers for the arguments.
    match unsafe { syscall((code & 0xffff) as usize, [a, b, c, d, e, 0]) } {
        Ok(answer) => Ok(answer as u32),
        // SAFETY: the caller answers for the code, and a `Call` is a number of 32 bits.
        Err(errno) => Err(Fault { call: unsafe { transmute::<u32, Call>(code >> 16) }, errno }),
    }
}

/// [`ask`] with three arguments: most calls have no more, and nothing to set for the others.
///
/// # Safety
///
/// As for [`ask`].
#[inline(never)]
unsafe fn ask3(a: usize, b: usize, c: usize, code: u32) -> Outcome<u32> {
    // SAFETY: the caller answers for all of them.
    unsafe { ask(a, b, c, 0, 0, code) }
}

/// [`ask`] with up to five arguments, the rest zero.
macro_rules! ask {
    ($code:expr;) => {
        ask!($code; 0)
    };
    ($code:expr; $a:expr) => {
        ask!($code; $a, 0)
    };
    ($code:expr; $a:expr, $b:expr) => {
        ask!($code; $a, $b, 0)
    };
    ($code:expr; $a:expr, $b:expr, $c:expr) => {
        crate::sys::ask3($a as usize, $b as usize, $c as usize, $code)
    };
    ($code:expr; $a:expr, $b:expr, $c:expr, $d:expr) => {
        ask!($code; $a, $b, $c, $d, 0)
    };
    ($code:expr; $a:expr, $b:expr, $c:expr, $d:expr, $e:expr) => {
        ask($a as usize, $b as usize, $c as usize, $d as usize, $e as usize, $code)
    };
}

/// What [`ask`] takes for a call and its number.
const fn code(call: Call, number: usize) -> u32 {
    (call as u32) << 16 | number as u32
}

macro_rules! plain {
    ($($(#[$doc:meta])* $name:ident($($arg:ident: $type:ty),*) = $number:ident, $call:ident;)*) => {$(
        $(#[$doc])*
        #[inline(never)]
        pub(crate) fn $name($($arg: $type),*) -> Outcome<u32> {
            // SAFETY: this call takes numbers only; none of them is an address.
            unsafe { ask!(code(Call::$call, nr::$number); $($arg),*) }
        }
    )*};
}

macro_rules! with_pointers {
    ($call:expr, $number:ident, $($arg:expr),*) => {{
        // SAFETY: each pointer comes from a reference or slice that lives across the call, with
        // the length that is passed along or a NUL at its end.
        unsafe { ask!(code($call, nr::$number); $($arg),*) }
    }};
}

/// A number of bytes.
fn length(answer: u32) -> usize {
    answer as usize
}

// After the macros, which they see.
mod clone;
#[cfg(init)]
mod credentials;
mod file;
#[cfg(probe)]
mod machine;
mod memory;
mod message;
#[cfg(init)]
mod mount;
#[cfg(init)]
mod namespace;
mod poll;
mod process;

pub(crate) use clone::*;
#[cfg(init)]
pub(crate) use credentials::*;
pub(crate) use file::*;
#[cfg(probe)]
pub(crate) use machine::*;
pub(crate) use memory::*;
pub(crate) use message::*;
#[cfg(init)]
pub(crate) use mount::*;
#[cfg(init)]
pub(crate) use namespace::*;
pub(crate) use poll::*;
pub(crate) use process::*;
