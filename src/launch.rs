//! What runs between clone and exec, in memory shared with the embedder.
//!
//! Compiled into the freestanding init program too, where neither an allocator nor a lock exists:
//! code that would need one does not build.
#![allow(unsafe_code)]

use crate::abi::*;
use crate::raw::{Errno, exit, nr, syscall};
use crate::wire::{Call, Fault};

/// How often, a millisecond apart, the exec is tried while the file is open for writing: whatever the
/// embedder clones while another of its threads makes the init file has that descriptor up to its own
/// exec.
const BUSY_TRIES: u32 = 1000;

/// All that the stage needs, made ready before the clone.
#[derive(Debug)]
pub(crate) struct Stage<'a> {
    /// Descriptors that stay open, the executable among them, sorted and each only once.
    pub(crate) keep: &'a [i32],
    /// The init program.
    pub(crate) executable: i32,
    /// Files of control groups that this process puts itself into.
    pub(crate) entrances: &'a [i32],
    /// Into how many of them it has.
    pub(crate) entered: usize,
    /// NUL-terminated arguments, then a null pointer.
    pub(crate) argv: &'a [*const u8],
    /// An empty environment: one null pointer.
    pub(crate) envp: [*const u8; 1],
    /// The capabilities that init needs, as far as the caller has them.
    pub(crate) capabilities: u64,
    /// What failed; nothing if the exec succeeded.
    pub(crate) fault: Option<Fault>,
}

/// The clone's entry; `argument` is the address of a [`Stage`].
pub(crate) extern "C" fn entry(argument: *mut u8) -> ! {
    // SAFETY: the launching function passes the address of its own Stage, and is suspended
    // (CLONE_VFORK) until this process has executed init or ended.
    let stage = unsafe { &mut *argument.cast::<Stage<'_>>() };
    stage.fault = Some(enter(stage).map_or_else(|fault| fault, |()| run(stage)));
    exit(1)
}

/// First of all: what is done from here on is charged to the groups.
fn enter(stage: &mut Stage<'_>) -> Result<(), Fault> {
    for &fd in stage.entrances {
        let mut put = put_itself(fd);
        if put == Err(Errno(EINVAL)) {
            // A group of v1's may have no time for real-time processes.
            leave_real_time()?;
            put = put_itself(fd);
        }
        put.map_err(|errno| Fault { call: Call::Write, errno })?;
        stage.entered += 1;
    }
    Ok(())
}

fn put_itself(fd: i32) -> Result<(), Errno> {
    let args = [fd as usize, c"0".as_ptr() as usize, 1, 0, 0, 0];
    // SAFETY: there is one byte to be written.
    unsafe { syscall(nr::WRITE, args) }.map(drop)
}

/// What the caller has of it, the program is not to have anyway.
fn leave_real_time() -> Result<(), Fault> {
    // struct sched_param: the priority; SCHED_OTHER has none, and the number 0.
    let none = 0i32;
    let args = [0, 0, &raw const none as usize, 0, 0, 0];
    // SAFETY: the struct is read during the call.
    let set = unsafe { syscall(nr::SCHED_SETSCHEDULER, args) };
    set.map(drop).map_err(|errno| Fault { call: Call::Scheduler, errno })
}

/// Returns only if something failed.
fn run(stage: &Stage<'_>) -> Fault {
    match prepare(stage) {
        Err(fault) => fault,
        Ok(()) => {
            let fault = |errno| Fault { call: Call::Exec, errno };
            let (argv, envp) = (stage.argv.as_ptr() as usize, stage.envp.as_ptr() as usize);
            let path = c"".as_ptr() as usize;
            let flags = AT_EMPTY_PATH as usize;
            let args = [stage.executable as usize, path, argv, envp, flags, 0];
            for _ in 0..BUSY_TRIES {
                // SAFETY: the vectors end in null pointers and their strings in NUL.
                match unsafe { syscall(nr::EXECVEAT, args) } {
                    Err(Errno(ETXTBSY)) => pause(),
                    other => return fault(other.err().unwrap_or(Errno(EIO))),
                }
            }
            fault(Errno(ETXTBSY))
        }
    }
}

fn pause() {
    let millisecond = [0usize, 1_000_000];
    let args = [0, 0, millisecond.as_ptr() as usize, 0, 0, 0];
    // SAFETY: no descriptors, and a timespec. Woken early, the exec is only tried earlier.
    let _woken = unsafe { syscall(nr::PPOLL, args) };
}

fn prepare(stage: &Stage<'_>) -> Result<(), Fault> {
    keep_capabilities(stage.capabilities)?;
    let mut next = 0;
    for &fd in stage.keep {
        if fd != stage.executable {
            numeric(Call::Descriptor, nr::FCNTL, [fd as usize, F_SETFD, 0])?;
        }
        close_range(next, fd - 1)?;
        next = fd + 1;
    }
    close_range(next, i32::MAX)
}

/// Makes what is permitted inheritable, and what is wanted of it ambient: an id that is not mapped yet would lose all of
/// it at exec. Changes the calling task's credentials only, and no id, so that the embedder's
/// memory stays dumpable.
fn keep_capabilities(wanted: u64) -> Result<(), Fault> {
    let header = [0x2008_0522u32, 0];
    let mut data = [0u32; 6];
    let mut args = [header.as_ptr() as usize, data.as_mut_ptr() as usize, 0, 0, 0, 0];
    // SAFETY: version 3 of the header goes with two triples of sets.
    let got = unsafe { syscall(nr::CAPGET, args) };
    got.map_err(|errno| Fault { call: Call::Capabilities, errno })?;
    let permitted = u64::from(data[1]) | u64::from(data[4]) << 32;
    (data[2], data[5]) = (data[1], data[4]);
    args[1] = data.as_ptr() as usize;
    // SAFETY: as above.
    let set = unsafe { syscall(nr::CAPSET, args) };
    set.map_err(|errno| Fault { call: Call::Capabilities, errno })?;
    for capability in (0..64usize).filter(|bit| (permitted & wanted) >> bit & 1 != 0) {
        numeric(Call::Ambient, nr::PRCTL, [PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability])?;
    }
    Ok(())
}

fn close_range(first: i32, last: i32) -> Result<(), Fault> {
    if first > last {
        return Ok(());
    }
    numeric(Call::CloseRange, nr::CLOSE_RANGE, [first as usize, last as usize, 0])
}

/// A system call whose arguments are numbers.
fn numeric(call: Call, number: usize, [a, b, c]: [usize; 3]) -> Result<(), Fault> {
    // SAFETY: no argument of the calls made here is an address.
    unsafe { syscall(number, [a, b, c, 0, 0, 0]) }.map(drop).map_err(|errno| Fault { call, errno })
}
