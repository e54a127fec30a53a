//! Memory of init's own. There is no allocator: it comes in whole pages, and what is small, in an init that waits for
//! programs or is copied, from a place of which no part is used twice, but for [`again`].

use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicUsize, Ordering};

use super::Outcome;
use crate::abi::*;
use crate::raw::{nr, syscall};
use crate::wire::{Call, Fault, Texts};

/// What is small need not be mapped: for that, and for the first touch of a page, the kernel takes some microseconds.
const PLACE: usize = 64 * 1024;

#[repr(align(16))]
struct Place(UnsafeCell<[u8; PLACE]>);

// SAFETY: `small` gives each byte of it to one caller only.
unsafe impl Sync for Place {}

static PLACE_FOR_SMALL: Place = Place(UnsafeCell::new([0; PLACE]));
/// How much of it is taken, or was asked for. The program's process, which may share this memory, takes some as well.
static TAKEN: AtomicUsize = AtomicUsize::new(0);
/// How often something did not fit there since [`again`] was called.
static MAPPED: AtomicUsize = AtomicUsize::new(0);

/// Zeroed memory; never freed unless by [`unmap`].
pub(crate) fn map(length: usize) -> Outcome<&'static mut [u8]> {
    small(length).map_or_else(|| map_as(MAP_PRIVATE, length), Ok)
}

fn small(length: usize) -> Option<&'static mut [u8]> {
    // Elsewhere the code for it costs a page, and saves no more.
    if !cfg!(session) {
        return None;
    }
    let more = length.checked_next_multiple_of(16).filter(|more| *more <= PLACE)?;
    let at = TAKEN.fetch_add(more, Ordering::Relaxed);
    if at > PLACE - more {
        return None;
    }
    let start = PLACE_FOR_SMALL.0.get().cast::<u8>().wrapping_add(at);
    // SAFETY: `at` and what follows is inside, zero, and nobody else's, as it was not taken since the beginning or since
    // `again` has made it free.
    Some(unsafe { core::slice::from_raw_parts_mut(start, length) })
}

#[inline(never)]
fn map_as(kind: usize, length: usize) -> Outcome<&'static mut [u8]> {
    if cfg!(session) {
        MAPPED.fetch_add(1, Ordering::Relaxed);
    }
    let args = [0, length, PROT_READ | PROT_WRITE, kind | MAP_ANONYMOUS, usize::MAX, 0];
    // SAFETY: new memory, where the kernel finds room for it, takes nothing from anybody.
    let address =
        unsafe { syscall(nr::MMAP, args) }.map_err(|errno| Fault { call: Call::Memory, errno })?;
    // SAFETY: the kernel just gave this range, zeroed and writable, to nobody else.
    Ok(unsafe { core::slice::from_raw_parts_mut(address as *mut u8, length) })
}

/// Does the same work until it is done, each time with all of the place that was free before the first.
#[cfg(session)]
pub(crate) fn again<A>(work: fn(&A) -> bool, argument: &A) {
    let before = TAKEN.load(Ordering::Relaxed).min(PLACE);
    MAPPED.store(0, Ordering::Relaxed);
    while work(argument) {
        let used = TAKEN.swap(before, Ordering::Relaxed).clamp(before, PLACE) - before;
        let start = PLACE_FOR_SMALL.0.get().cast::<u8>().wrapping_add(before);
        // SAFETY: it is inside, and nobody else's any more: a plain function has nothing to keep it in, as this caller's
        // argument is numbers and no static has such a reference; processes that shared it have ended.
        unsafe { core::slice::from_raw_parts_mut(start, used) }.fill(0);
    }
}

/// Whether all of it is free again after that work.
#[cfg(session)]
pub(crate) fn has_fitted() -> bool {
    MAPPED.load(Ordering::Relaxed) == 0
}

/// Puts a value into memory of its own, where it stays.
pub(crate) fn keep<T>(value: T) -> Outcome<&'static T> {
    Ok(keep_in(map(size_of::<T>())?, value))
}

/// The same; a clone shares the memory, even if it has a copy of all other.
pub(crate) fn share<T>(value: T) -> Outcome<&'static T> {
    Ok(keep_in(map_as(MAP_SHARED, size_of::<T>())?, value))
}

fn keep_in<T>(memory: &'static mut [u8], value: T) -> &'static T {
    const { assert!(align_of::<T>() <= 16) };
    let place = memory.as_mut_ptr().cast::<T>();
    // SAFETY: both callers give new memory, nobody else's, large enough, and aligned for any type up to 16.
    unsafe { place.write(value) };
    // SAFETY: it holds a value now, and is never unmapped.
    unsafe { &*place }
}

/// Gives memory of [`map`] back; what is small is emptied.
pub(crate) fn unmap(memory: &'static mut [u8]) {
    let place = PLACE_FOR_SMALL.0.get().cast::<u8>();
    if cfg!(session) && (place..place.wrapping_add(PLACE)).contains(&memory.as_mut_ptr()) {
        return memory.fill(0);
    }
    // SAFETY: the exclusive reference is the only one to this mapping, and ends here.
    let _freed =
        unsafe { syscall(nr::MUNMAP, [memory.as_mut_ptr() as usize, memory.len(), 0, 0, 0, 0]) };
}

/// Zeroed memory as a table of plain values.
pub(crate) fn table<T: Copy>(memory: &'static mut [u8]) -> &'static mut [T] {
    let count = memory.len() / size_of::<T>();
    // SAFETY: what `map` gives is aligned for any plain value; all callers' types are plain
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
