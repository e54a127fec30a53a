//! A process: its attributes, its exec, its signals, and its children.

use super::clone::BEFORE_EXEC;
use super::{Fd, Outcome, ask, code};
use crate::abi::*;
use crate::raw::{Errno, nr};
use crate::wire::{Call, Text};

plain! {
    setsid() = SETSID, Session;
    umask(mask: u32) = UMASK, Plan;
    setpriority(which: usize, who: usize, nice: i32) = SETPRIORITY, Nice;
    personality(domain: usize) = PERSONALITY, Personality;
    sched_getscheduler(pid: i32) = SCHED_GETSCHEDULER, Scheduler;
    sched_yield() = SCHED_YIELD, Signals;
    kill(pid: isize, signal: usize) = KILL, Signals;
    tgkill(pid: i32, thread: i32, signal: usize) = TGKILL, Signals;
}

/// prctl(2) with numeric arguments.
#[inline(never)]
pub(crate) fn prctl(call: Call, option: usize, arg2: usize, arg3: usize) -> Outcome {
    // SAFETY: only options whose arguments are numbers are passed.
    unsafe { ask!(code(call, nr::PRCTL); option, arg2, arg3) }.map(drop)
}

/// Sets the name that ps shows.
pub(crate) fn set_name(name: &'static [u8; 16]) -> Outcome {
    // SAFETY: `name` is 16 readable bytes, the size that the kernel reads.
    unsafe { ask!(code(Call::Start, nr::PRCTL); PR_SET_NAME, name.as_ptr(), 0) }.map(drop)
}

/// Makes descriptor 0 the controlling terminal.
pub(crate) fn take_terminal() -> Outcome {
    with_pointers!(Call::Terminal, IOCTL, 0, TIOCSCTTY, 0).map(drop)
}

/// A thread that a filter has stopped, and the call that it wanted to make.
pub(crate) fn denied(listener: i32) -> Outcome<(i32, u32)> {
    // struct seccomp_notif: its id, the thread, and struct seccomp_data.
    let mut asked = [0u64; 10];
    with_pointers!(Call::Filter, IOCTL, listener, SECCOMP_IOCTL_NOTIF_RECV, asked.as_mut_ptr())?;
    Ok((asked[1] as i32, asked[2] as u32))
}

/// prlimit64(2) on the caller; `pair` is a soft and a hard limit.
pub(crate) fn set_rlimit(resource: usize, pair: &[u8]) -> Outcome {
    with_pointers!(Call::Rlimit, PRLIMIT64, 0, resource, pair.as_ptr(), 0).map(drop)
}

/// Raises soft limits of the caller's to the hard ones: of what init writes, and of open files, which
/// also bounds how many descriptors all of a user's processes may have on their way through sockets.
pub(crate) fn raise_limits() -> Outcome {
    for resource in [RLIMIT_FSIZE, RLIMIT_NOFILE] {
        let mut pair = [0u64; 2];
        with_pointers!(Call::Rlimit, PRLIMIT64, 0, resource, 0, pair.as_mut_ptr())?;
        pair[0] = pair[1];
        with_pointers!(Call::Rlimit, PRLIMIT64, 0, resource, pair.as_ptr(), 0)?;
    }
    Ok(())
}

/// Leaves real-time scheduling, which a program inherits whatever its limits, and an execution domain
/// in which addresses are not random, say.
pub(crate) fn become_ordinary() -> Outcome {
    personality(0)?;
    // The policy is in the lower bits.
    if matches!(sched_getscheduler(0)? & 0xff, SCHED_FIFO | SCHED_RR) {
        // struct sched_param: the priority; SCHED_OTHER has none, and the number 0.
        let none = 0i32;
        with_pointers!(Call::Scheduler, SCHED_SETSCHEDULER, 0, 0, &raw const none)?;
    }
    Ok(())
}

/// Lets others run.
pub(crate) fn yield_now() {
    // sched_yield cannot fail on Linux.
    let _always = sched_yield();
}

/// execve(2); returns only if it failed.
pub(crate) fn exec(path: Text<'_>, argv: &[*const u8], envp: &[*const u8]) -> Errno {
    let result = with_pointers!(Call::Exec, EXECVE, path.as_ptr(), argv.as_ptr(), envp.as_ptr());
    result.map_or_else(|fault| fault.errno, |_| Errno(EIO))
}

/// Sets every signal's action to the default one, but of those that have no other.
pub(crate) fn default_signals() -> Outcome {
    let mut others = (1..=64).filter(|signal| !matches!(*signal, SIGKILL | SIGSTOP));
    others.try_for_each(|signal| default_signal(signal, 0))
}

/// The same of one signal, with these flags.
#[inline(never)]
pub(crate) fn default_signal(signal: usize, flags: usize) -> Outcome {
    // struct kernel_sigaction: SIG_DFL, and nothing masked.
    let action = [0, flags, 0, 0];
    with_pointers!(Call::Signals, RT_SIGACTION, signal, action.as_ptr(), 0, 8).map(drop)
}

/// Unblocks every signal.
pub(crate) fn unblock_signals() -> Outcome {
    let none = 0u64;
    with_pointers!(Call::Signals, RT_SIGPROCMASK, SIG_SETMASK, &raw const none, 0, 8).map(drop)
}

/// A descriptor that becomes readable when a child changes state.
pub(crate) fn child_signals() -> Outcome<Fd> {
    let mask = 1u64 << (SIGCHLD - 1) | 1 << (BEFORE_EXEC - 1);
    // SFD_CLOEXEC and SFD_NONBLOCK have the values of their O_ twins.
    let flags = O_CLOEXEC | 0o4000;
    with_pointers!(Call::Signals, SIGNALFD4, -1isize, &raw const mask, 8, flags)
        .map(|fd| Fd(fd as i32))
}

/// pidfd_open(2).
#[cfg(warden)]
pub(crate) fn pidfd(pid: u32) -> Outcome<Fd> {
    with_pointers!(Call::Signals, PIDFD_OPEN, pid, 0).map(|fd| Fd(fd as i32))
}

/// pidfd_send_signal(2).
pub(crate) fn signal_pidfd(pidfd: i32, signal: usize) -> Outcome {
    with_pointers!(Call::Signals, PIDFD_SEND_SIGNAL, pidfd, signal, 0, 0).map(drop)
}

/// A child that ended, as waitid(2) tells it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ended {
    pub(crate) pid: i32,
    pub(crate) code: i32,
    pub(crate) status: i32,
}

/// What a process and all that it has waited for used: `struct rusage`, two times and 14 words.
pub(crate) type Used = [u64; 18];

/// waitid(2) for one child or, with 0, any, with `WEXITED` and the given options.
#[inline(never)]
pub(crate) fn wait(pid: i32, options: usize) -> Outcome<Option<Ended>> {
    let mut info = [0i32; 32];
    let (kind, options) = (if pid == 0 { P_ALL } else { P_PID }, options | WEXITED | __WALL);
    with_pointers!(Call::Signals, WAITID, kind, pid, info.as_mut_ptr(), options, 0)?;
    // siginfo_t: signo, errno, code, padding, pid, uid, status.
    Ok((info[4] != 0).then_some(Ended { pid: info[4], code: info[2], status: info[6] }))
}

/// Reaps a child that has ended, and tells what it has used.
pub(crate) fn reap(pid: i32) -> Used {
    let (mut used, options) = ([0; 18], WEXITED | WNOHANG | __WALL);
    let _seen = with_pointers!(Call::Signals, WAITID, P_PID, pid, 0, options, used.as_mut_ptr());
    used
}

/// Takes the news that a child has stopped, not that of its end.
pub(crate) fn take_stop(pid: i32) {
    let options = WSTOPPED | WNOHANG | __WALL;
    let _none = with_pointers!(Call::Signals, WAITID, P_PID, pid, 0, options, 0);
}

/// Whether a child of [`clone_program`] has executed something, or is somebody else's that came to init: only
/// then does a wait without `__WALL` find it. Who cannot be found has not.
pub(crate) fn has_executed(pid: i32) -> bool {
    let options = WEXITED | WNOHANG | WNOWAIT;
    with_pointers!(Call::Signals, WAITID, P_PID, pid, 0, options, 0).is_ok()
}

/// Whether any child was made by somebody else: such a one a wait without `__WALL` finds.
#[cfg(session)]
pub(crate) fn has_others_children() -> bool {
    let options = WEXITED | WNOHANG | WNOWAIT;
    with_pointers!(Call::Signals, WAITID, P_ALL, 0, 0, options, 0).is_ok()
}
