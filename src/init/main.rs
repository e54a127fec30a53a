//! The init program: PID 1 of a sandbox, and in another mode the warden.
//!
//! Freestanding: no standard library, no allocator, no threads. It is started with three or four
//! arguments — a mode letter and numbers of descriptors — and gets everything else over its control
//! socket.
#![no_std]
#![no_main]
#![deny(unsafe_op_in_unsafe_fn, unsafe_code)]
#![allow(clippy::cast_possible_truncation, reason = "kernel words and their halves")]
#![allow(clippy::result_large_err, reason = "there is nowhere to box one")]

#[path = "../abi.rs"]
mod abi;
mod join;
#[allow(dead_code, reason = "compiled here to prove that it needs no allocator and no lock")]
#[path = "../launch.rs"]
mod launch;
mod legacy;
mod plan;
mod program;
#[path = "../raw.rs"]
mod raw;
mod start;
mod supervise;
mod sys;
mod tree;
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
    let [first, second, third] = arguments.descriptors;
    match arguments.mode {
        mode::INIT => plan::run(plan::Lines { control: first, embedder: second }),
        mode::JOIN => join::run(plan::Lines { control: first, embedder: second }),
        mode::WARDEN => warden::run(first, second, third),
        _ => exit(2),
    }
}
