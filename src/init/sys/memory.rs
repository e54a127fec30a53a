//! Memory of init's own, in whole pages: there is no allocator.

use super::Outcome;
use crate::abi::*;
use crate::raw::{nr, syscall};
use crate::wire::{Call, Fault, Texts};

/// Anonymous memory; never freed unless by [`unmap`].
pub(crate) fn map(length: usize) -> Outcome<&'static mut [u8]> {
    map_as(MAP_PRIVATE, length)
}

#[inline(never)]
fn map_as(kind: usize, length: usize) -> Outcome<&'static mut [u8]> {
    let args = [0, length, PROT_READ | PROT_WRITE, kind | MAP_ANONYMOUS, usize::MAX, 0];
    // SAFETY: new memory, where the kernel finds room for it, takes nothing from anybody.
    let address =
        unsafe { syscall(nr::MMAP, args) }.map_err(|errno| Fault { call: Call::Memory, errno })?;
    // SAFETY: the kernel just gave this range, zeroed and writable, to nobody else.
    Ok(unsafe { core::slice::from_raw_parts_mut(address as *mut u8, length) })
}

/// Puts a value into memory of its own, where it stays.
pub(crate) fn keep<T>(value: T) -> Outcome<&'static T> {
    keep_as(MAP_PRIVATE, value)
}

/// The same; a clone shares the memory, even if it has a copy of all other.
pub(crate) fn share<T>(value: T) -> Outcome<&'static T> {
    keep_as(MAP_SHARED, value)
}

fn keep_as<T>(kind: usize, value: T) -> Outcome<&'static T> {
    let place = map_as(kind, size_of::<T>())?.as_mut_ptr().cast::<T>();
    // SAFETY: the mapping is new and nobody else's, large enough, and begins at a page.
    unsafe { place.write(value) };
    // SAFETY: it holds a value now, and is never unmapped.
    Ok(unsafe { &*place })
}

/// Gives memory of [`map`] back.
pub(crate) fn unmap(memory: &'static mut [u8]) {
    // SAFETY: the exclusive reference is the only one to this mapping, and ends here.
    let _freed =
        unsafe { syscall(nr::MUNMAP, [memory.as_mut_ptr() as usize, memory.len(), 0, 0, 0, 0]) };
}

/// Zeroed memory as a table of plain values.
pub(crate) fn table<T: Copy>(memory: &'static mut [u8]) -> &'static mut [T] {
    let count = memory.len() / size_of::<T>();
    // SAFETY: mappings begin at a page, which aligns any value; all callers' types are plain
    // numbers, booleans and addresses, for which zeros are a valid value.
    unsafe { core::slice::from_raw_parts_mut(memory.as_mut_ptr().cast(), count) }
}

/// The addresses of texts, with a null pointer at the end, in memory of their own.
pub(crate) fn pointers(texts: Texts<'_>) -> Outcome<&'static [*const u8]> {
    let length = (texts.count as usize + 1) * size_of::<usize>();
    let table = table::<*const u8>(map(length)?);
    for (to, text) in table.iter_mut().zip(texts.take(texts.count as usize)) {
        *to = text.as_ptr();
    }
    Ok(table)
}
