//! The entry point, and what the compiler expects of a C library.
#![allow(unsafe_code)]

use core::arch::global_asm;
use core::ffi::CStr;

use crate::raw::exit;
use crate::text::number;
use crate::{Arguments, main};

#[cfg(target_arch = "x86_64")]
global_asm!(".globl _start", "_start:", "xor ebp, ebp", "mov rdi, rsp", "and rsp, -16", "call {}",
    "ud2", sym begin);
#[cfg(target_arch = "aarch64")]
global_asm!(".globl _start", "_start:", "mov x29, xzr", "mov x0, sp", "bl {}", "brk #1", sym begin);
#[cfg(target_arch = "riscv64")]
global_asm!(".globl _start", "_start:", "mv a0, sp", "call {}", "ebreak", sym begin);

/// Reads the kernel's argument block at the top of the fresh stack.
extern "C" fn begin(stack: *const usize) -> ! {
    // SAFETY: the kernel put the number of arguments at the stack's top.
    let count = unsafe { stack.read() };
    let mut arguments = Arguments { mode: 0, descriptors: [-1; 3] };
    for index in 1..count.min(5) {
        // SAFETY: `count` pointers follow the count.
        let argument = unsafe { stack.wrapping_add(1 + index).read() } as *const core::ffi::c_char;
        // SAFETY: each points at a NUL-terminated string that stays for the life of the process.
        let text = unsafe { CStr::from_ptr(argument) }.to_bytes();
        match index {
            1 => arguments.mode = text.first().copied().unwrap_or(0),
            _ => arguments.descriptors[index - 2] = number(text).unwrap_or(-1),
        }
    }
    main(arguments)
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    exit(70)
}

/// Named by the precompiled `core`, and never called: nothing unwinds here.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// The compiler calls this by name.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn strlen(text: *const u8) -> usize {
    let mut length = 0;
    // SAFETY: the caller promises a NUL, and nothing beyond it is read.
    while unsafe { text.wrapping_add(length).read_volatile() } != 0 {
        length += 1;
    }
    length
}

macro_rules! memory_functions {
    ($(fn $name:ident($to:ident, $($arg:ident: $type:ty),*) $body:block)*) => {$(
        /// The compiler calls this by name.
        ///
        /// # Safety
        ///
        /// As in C.
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($to: *mut u8, $($arg: $type),*) -> *mut u8 $body
    )*};
}

// Volatile accesses keep the compiler from turning these loops into calls of themselves.
memory_functions! {
    fn memcpy(to, from: *const u8, count: usize) {
        copy_up(to, from, count)
    }
    fn memmove(to, from: *const u8, count: usize) {
        if (to as usize) <= from as usize {
            return copy_up(to, from, count);
        }
        for index in (0..count).rev() {
            // SAFETY: the caller answers for `count` bytes at both addresses.
            let byte = unsafe { from.wrapping_add(index).read_volatile() };
            // SAFETY: as above.
            unsafe { to.wrapping_add(index).write_volatile(byte) };
        }
        to
    }
    fn memset(to, byte: i32, count: usize) {
        fill(to, byte as u8, count)
    }
}

/// Fills `count` bytes.
#[cfg(target_arch = "x86_64")]
fn fill(to: *mut u8, byte: u8, count: usize) -> *mut u8 {
    // SAFETY: memset's caller answers for `count` bytes at `to`.
    unsafe {
        core::arch::asm!("rep stosb", inout("rcx") count => _, inout("rdi") to => _, in("al") byte,
            options(nostack, preserves_flags));
    }
    to
}

/// Fills `count` bytes.
#[cfg(not(target_arch = "x86_64"))]
fn fill(to: *mut u8, byte: u8, count: usize) -> *mut u8 {
    for index in 0..count {
        // SAFETY: memset's caller answers for `count` bytes at `to`.
        unsafe { to.wrapping_add(index).write_volatile(byte) };
    }
    to
}

/// Copies upwards.
#[cfg(target_arch = "x86_64")]
fn copy_up(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    // SAFETY: the callers answer for `count` bytes at both addresses.
    unsafe {
        core::arch::asm!("rep movsb", inout("rcx") count => _, inout("rdi") to => _,
            inout("rsi") from => _, options(nostack, preserves_flags));
    }
    to
}

/// Copies upwards.
#[cfg(not(target_arch = "x86_64"))]
fn copy_up(to: *mut u8, from: *const u8, count: usize) -> *mut u8 {
    for index in 0..count {
        // SAFETY: the callers answer for `count` bytes at both addresses.
        let byte = unsafe { from.wrapping_add(index).read_volatile() };
        // SAFETY: as above.
        unsafe { to.wrapping_add(index).write_volatile(byte) };
    }
    to
}

/// The compiler calls this by name to compare slices.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, count: usize) -> i32 {
    for index in 0..count {
        // SAFETY: the caller answers for `count` bytes at both addresses.
        let a = unsafe { left.wrapping_add(index).read_volatile() };
        // SAFETY: as above.
        let b = unsafe { right.wrapping_add(index).read_volatile() };
        if a != b {
            return i32::from(a) - i32::from(b);
        }
    }
    0
}

/// The compiler calls this by name to compare slices for equality.
///
/// # Safety
///
/// As in C.
#[unsafe(no_mangle)]
unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, count: usize) -> i32 {
    // SAFETY: the caller's promise is passed on.
    unsafe { memcmp(left, right, count) }
}
