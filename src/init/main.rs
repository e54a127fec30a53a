//! The init program: PID 1 of a sandbox. With `--cfg session` as well, one that waits for programs; with
//! `--cfg warden`, the warden; with `--cfg probe`, the probe of an audit.
//!
//! Freestanding: no standard library, no allocator, no threads. It is started with three or four
//! arguments — a mode letter and numbers of descriptors — and gets everything else over its control
//! socket.
#![no_std]
#![no_main]
#![deny(unsafe_op_in_unsafe_fn, unsafe_code)]
#![allow(clippy::cast_possible_truncation, reason = "kernel words and their halves")]
#![allow(clippy::result_large_err, reason = "there is nowhere to box one")]
#![cfg_attr(
    not(init),
    allow(dead_code, unused_imports, reason = "the others make few of the system calls")
)]

#[path = "../abi.rs"]
mod abi;
#[cfg(probe)]
#[path = "../audit/format.rs"]
mod format;
#[cfg(init)]
mod join;
#[allow(dead_code, reason = "compiled here to prove that it needs no allocator and no lock")]
#[path = "../launch.rs"]
mod launch;
#[cfg(init)]
mod legacy;
#[cfg(init)]
mod plan;
#[cfg(probe)]
mod probe;
#[cfg(init)]
mod program;
#[allow(dead_code, reason = "some numbers are the warden's alone")]
#[path = "../raw.rs"]
mod raw;
#[cfg(session)]
mod session;
mod start;
#[cfg(init)]
mod supervise;
mod sys;
#[cfg(session)]
mod template;
mod text;
#[cfg(init)]
mod tree;
#[cfg(warden)]
mod warden;
#[allow(dead_code, reason = "the writing half is the library's")]
#[path = "../wire.rs"]
mod wire;

use raw::exit;
use wire::mode;

/// What the command line says: the mode and up to three descriptors.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arguments {
    mode: u8,
    descriptors: [i32; 3],
}

/// Where [`start`] hands over.
fn main(arguments: Arguments) -> ! {
    match arguments.mode {
        #[cfg(init)]
        mode::INIT => plan::run(plan::Lines::new(arguments.descriptors), None),
        #[cfg(init)]
        mode::JOIN => join::run(plan::Lines::new(arguments.descriptors)),
        #[cfg(warden)]
        mode::WARDEN => warden::run(arguments.descriptors),
        #[cfg(probe)]
        mode::PROBE => probe::run(arguments.descriptors[0]),
        _ => exit(2),
    }
}
