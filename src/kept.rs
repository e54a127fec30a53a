//! Values that a process makes once and keeps; without a lock, which a fork of a threaded embedder
//! could leave locked for ever in the copy.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicPtr, Ordering};

/// The kept value, if there is one.
pub(crate) fn get<T: Sync>(slot: &'static AtomicPtr<T>) -> Option<&'static T> {
    // SAFETY: the address is null or that of a box that `set` leaked, which nobody frees.
    unsafe { slot.load(Ordering::Acquire).as_ref() }
}

/// Keeps a value instead of the one seen before, unless somebody else was faster. The one before stays in
/// memory: others may still use it.
pub(crate) fn replace<T: Sync>(
    slot: &'static AtomicPtr<T>,
    before: Option<&'static T>,
    value: T,
) -> Result<&'static T, T> {
    let before =
        before.map_or(std::ptr::null_mut(), |before| std::ptr::from_ref(before).cast_mut());
    let new = Box::into_raw(Box::new(value));
    match slot.compare_exchange(before, new, Ordering::AcqRel, Ordering::Acquire) {
        // SAFETY: the box was leaked just now, and nobody frees it.
        Ok(_) => Ok(unsafe { &*new }),
        // SAFETY: the address was not published.
        Err(_) => Err(*unsafe { Box::from_raw(new) }),
    }
}
