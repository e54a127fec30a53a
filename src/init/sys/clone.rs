//! Clones of init, each on a stack of its own.

use crate::abi::*;
use crate::raw::{Errno, clone};

/// The signal of a program's process that ends before its exec; with the exec it becomes SIGCHLD.
pub(crate) const BEFORE_EXEC: usize = SIGUSR1;

/// How much stack the child of [`clone_program`] has.
const STACK: usize = 32 * 1024;

/// The stack itself; one program is started at a time.
struct Stack(core::cell::UnsafeCell<[u8; STACK]>);

// SAFETY: init has one thread, and only the clone of it runs on this memory.
unsafe impl Sync for Stack {}

/// For the program's process, until its exec.
static PROGRAM_STACK: Stack = Stack(core::cell::UnsafeCell::new([0; STACK]));
/// For a copy of init, which lives on it and starts a program itself.
static INIT_STACK: Stack = Stack(core::cell::UnsafeCell::new([0; STACK]));
/// For a supervisor: init may be a copy itself, and what a supervisor reads of it is on that stack.
#[cfg(session)]
static SUPERVISOR_STACK: Stack = Stack(core::cell::UnsafeCell::new([0; STACK]));

/// Clones init with shared memory; the child calls `entry(argument)`. Returns its pid and pidfd.
pub(crate) fn clone_program(
    entry: extern "C" fn(*mut u8) -> !,
    argument: *mut u8,
) -> Result<(i32, i32), Errno> {
    let top = PROGRAM_STACK.0.get().cast::<u8>().wrapping_add(STACK);
    let (mut pidfd, flags) = (-1, CLONE_PIDFD | BEFORE_EXEC);
    // SAFETY: the stack is used by this child alone, and `argument` stays valid until its exec or
    // end, for which the caller waits.
    let shared = unsafe { clone(CLONE_VM | flags, top, &raw mut pidfd, entry, argument) };
    let pid = match shared {
        // Before Linux 6.2 memory cannot be shared with a child in a new time namespace.
        Err(Errno(EINVAL)) => {
            // SAFETY: as above; without CLONE_VM the child has a copy of everything.
            unsafe { clone(flags, top, &raw mut pidfd, entry, argument) }
        }
        other => other,
    }?;
    Ok((pid as i32, pidfd))
}

/// Clones init without sharing; the child calls `entry(argument)`, and `flags` has the signal of its end.
/// Returns its pid and pidfd.
pub(crate) fn clone_init(
    flags: usize,
    entry: extern "C" fn(*mut u8) -> !,
    argument: *mut u8,
) -> Result<(i32, i32), Errno> {
    clone_on(&INIT_STACK, flags, entry, argument)
}

/// The same, of an init that may itself be such a child.
#[cfg(session)]
pub(crate) fn clone_supervisor(
    entry: extern "C" fn(*mut u8) -> !,
    argument: *mut u8,
) -> Result<(i32, i32), Errno> {
    clone_on(&SUPERVISOR_STACK, BEFORE_EXEC, entry, argument)
}

/// On a stack that this process is not on itself: the child writes to its copy of that.
fn clone_on(
    stack: &Stack,
    flags: usize,
    entry: extern "C" fn(*mut u8) -> !,
    argument: *mut u8,
) -> Result<(i32, i32), Errno> {
    let top = stack.0.get().cast::<u8>().wrapping_add(STACK);
    let (mut pidfd, flags) = (-1, flags | CLONE_PIDFD);
    // SAFETY: the child has a copy of this memory, its stack and its argument included.
    let pid = unsafe { clone(flags, top, &raw mut pidfd, entry, argument) }?;
    Ok((pid as i32, pidfd))
}

/// What the address given to a clone's entry points at.
pub(crate) fn argument<'a, T>(address: *const T) -> &'a T {
    // SAFETY: the two callers of `clone_…` pass the address of a value that outlives the clone's
    // use of it, and the entry asks for that value's own type.
    unsafe { &*address }
}
