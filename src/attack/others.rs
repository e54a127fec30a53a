//! Other processes: init, which is process 1 or this one's parent, and the sentinel outside.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};

use crate::facts::Facts;
use crate::kernel::{call, call_for_fd};
use crate::numbers as nr;
use crate::verdict::Verdict::{self, Held, NotApplicable};
use crate::verdict::{any, passed, worked};

/// Whom to attack. What is done to them changes nothing, whoever they are.
fn targets(facts: &Facts) -> Vec<usize> {
    let (own, parent) = (std::process::id(), std::os::unix::process::parent_id());
    let mut all = vec![facts.number("sentinel"), 1, parent as usize];
    all.dedup();
    // Process 0 is this one too, and this one is 1 where there is no init.
    all.retain(|&pid| pid != 0 && pid != own as usize);
    all
}

/// Open if it works on one of them.
fn on_each<T>(facts: &Facts, what: &str, attack: impl Fn(usize) -> io::Result<T>) -> Verdict {
    on_those(targets(facts), what, attack)
}

/// The same of what the kernel allows among processes of one user. A sandbox of several programs is of one
/// user, their supervisors included; its init is not.
fn on_each_user<T>(facts: &Facts, what: &str, attack: impl Fn(usize) -> io::Result<T>) -> Verdict {
    let mut all = targets(facts);
    let parent = std::os::unix::process::parent_id() as usize;
    all.retain(|&pid| pid == 1 || pid != parent || !facts.has("others"));
    on_those(all, what, attack)
}

fn on_those<T>(all: Vec<usize>, what: &str, attack: impl Fn(usize) -> io::Result<T>) -> Verdict {
    // One after the other, until it works.
    let ways = all.into_iter().map(|pid| (format!("{what} of {pid}"), attack(pid)));
    any(ways, "there is no process but this one")
}

fn file(pid: usize, name: &str) -> io::Result<File> {
    File::open(format!("/proc/{pid}/{name}"))
}

fn content(pid: usize, name: &str) -> io::Result<()> {
    let mut bytes = [0; 16];
    match file(pid, name)?.read(&mut bytes)? {
        // The kernel shows nothing of a process that may not be looked at.
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

fn list(pid: usize, name: &str) -> io::Result<()> {
    match fs::read_dir(format!("/proc/{pid}/{name}"))?.next() {
        Some(entry) => entry.map(drop),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

pub(crate) fn proc_mem(facts: &Facts) -> Verdict {
    on_each(facts, "memory", |pid| {
        File::options().read(true).write(true).open(format!("/proc/{pid}/mem"))
    })
}

pub(crate) fn proc_environ(facts: &Facts) -> Verdict {
    on_each(facts, "environment", |pid| content(pid, "environ"))
}

pub(crate) fn proc_cwd(facts: &Facts) -> Verdict {
    on_each(facts, "working directory", |pid| list(pid, "cwd/"))
}

pub(crate) fn proc_root(facts: &Facts) -> Verdict {
    on_each(facts, "root directory", |pid| list(pid, "root/"))
}

pub(crate) fn proc_fd(facts: &Facts) -> Verdict {
    // Their numbers alone are listed for the owner, whoever that is.
    on_each(facts, "descriptors", |pid| {
        let entry = fs::read_dir(format!("/proc/{pid}/fd"))?.next().transpose()?;
        fs::metadata(entry.ok_or(io::ErrorKind::UnexpectedEof)?.path())
    })
}

pub(crate) fn proc_map_files(facts: &Facts) -> Verdict {
    on_each(facts, "mapped files", |pid| list(pid, "map_files"))
}

pub(crate) fn proc_maps(facts: &Facts) -> Verdict {
    on_each(facts, "map of memory", |pid| content(pid, "maps"))
}

pub(crate) fn proc_auxv(facts: &Facts) -> Verdict {
    on_each(facts, "auxiliary vector", |pid| content(pid, "auxv"))
}

pub(crate) fn proc_syscall(facts: &Facts) -> Verdict {
    on_each(facts, "current system call", |pid| content(pid, "syscall"))
}

pub(crate) fn proc_exe(facts: &Facts) -> Verdict {
    on_each(facts, "program", |pid| file(pid, "exe"))
}

/// As when the program of runc was overwritten. What runs cannot be written to, but who gets as far as that
/// waits for its end.
pub(crate) fn proc_exe_write(facts: &Facts) -> Verdict {
    const ETXTBSY: i32 = 26;
    for pid in targets(facts) {
        let opened = File::options().write(true).open(format!("/proc/{pid}/exe"));
        let verdict = passed(&format!("program of {pid}, for writing"), opened, &[ETXTBSY]);
        if matches!(verdict, Verdict::Open(_)) {
            return verdict;
        }
    }
    Held("no program of another process can be opened for writing".to_owned())
}

pub(crate) fn oom_score_of_others(facts: &Facts) -> Verdict {
    on_each(facts, "oom_score_adj, for writing,", |pid| {
        File::options().write(true).open(format!("/proc/{pid}/oom_score_adj"))
    })
}

pub(crate) fn ptrace_others(facts: &Facts) -> Verdict {
    const PTRACE_SEIZE: usize = 0x4206;
    const PTRACE_DETACH: usize = 17;
    on_each(facts, "tracing", |pid| {
        let seized = call(nr::PTRACE, [PTRACE_SEIZE, pid, 0, 0]);
        // It goes on running, so this fails; it is let go when this process ends.
        let _ = call(nr::PTRACE, [PTRACE_DETACH, pid, 0, 0]);
        seized
    })
}

/// Reads where the sentinel has its secret; another process has nothing there, which is told later
/// than whether one may look.
pub(crate) fn read_memory(facts: &Facts) -> Verdict {
    vm(facts, nr::PROCESS_VM_READV, facts.number("memory"))
}

/// Writes to where nobody has anything.
pub(crate) fn write_memory(facts: &Facts) -> Verdict {
    vm(facts, nr::PROCESS_VM_WRITEV, 0)
}

fn vm(facts: &Facts, number: usize, address: usize) -> Verdict {
    const EFAULT: i32 = 14;
    let mut last = None;
    for pid in targets(facts) {
        let mut bytes = [0u8; 16];
        let local = [bytes.as_mut_ptr() as usize, bytes.len()];
        let remote = [address, bytes.len()];
        let args = [pid, local.as_ptr() as usize, 1, remote.as_ptr() as usize, 1, 0];
        let verdict = passed(&format!("memory of {pid}"), call(number, args), &[EFAULT]);
        if matches!(verdict, Verdict::Open(_)) {
            return verdict;
        }
        last = Some(verdict);
    }
    last.unwrap_or(NotApplicable("nobody to attack".to_owned()))
}

fn pidfd(pid: usize) -> io::Result<OwnedFd> {
    call_for_fd(nr::PIDFD_OPEN, [pid, 0])
}

pub(crate) fn steal_descriptor(facts: &Facts) -> Verdict {
    on_each(facts, "a descriptor", |pid| {
        let process = pidfd(pid)?;
        let take = |number| call(nr::PIDFD_GETFD, [process.as_raw_fd() as usize, number, 0]);
        (0..16).map(take).find(Result::is_ok).unwrap_or_else(|| take(0))
    })
}

pub(crate) fn compare_others(facts: &Facts) -> Verdict {
    on_each(facts, "kcmp", |pid| call(nr::KCMP, [pid, pid, 1, 0, 0]))
}

pub(crate) fn advise_others(facts: &Facts) -> Verdict {
    const MADV_COLD: usize = 20;
    on_each(facts, "process_madvise", |pid| {
        let process = pidfd(pid)?;
        let page = [facts.number("memory") & !4095, 4096];
        let args = [process.as_raw_fd() as usize, page.as_ptr() as usize, 1, MADV_COLD, 0];
        call(nr::PROCESS_MADVISE, args)
    })
}

pub(crate) fn enter_others(facts: &Facts) -> Verdict {
    const CLONE_NEWUTS: usize = 0x0400_0000;
    on_each(facts, "a namespace", |pid| {
        call(nr::SETNS, [pidfd(pid)?.as_raw_fd() as usize, CLONE_NEWUTS])
    })
}

pub(crate) fn limit_others(facts: &Facts) -> Verdict {
    const RLIMIT_NOFILE: usize = 7;
    on_each_user(facts, "a limit", |pid| {
        let mut limits = [0u64; 2];
        let at = limits.as_mut_ptr() as usize;
        call(nr::PRLIMIT64, [pid, RLIMIT_NOFILE, 0, at])?;
        call(nr::PRLIMIT64, [pid, RLIMIT_NOFILE, at, 0])
    })
}

pub(crate) fn priority_of_others(facts: &Facts) -> Verdict {
    on_each_user(facts, "nice value", |pid| {
        // The system call answers 20 less the value.
        let nice = 20 - call(nr::GETPRIORITY, [0, pid])? as isize;
        call(nr::SETPRIORITY, [0, pid, nice as usize])
    })
}

pub(crate) fn schedule_others(facts: &Facts) -> Verdict {
    on_each_user(facts, "scheduling policy", |pid| {
        let parameters = [0i32];
        call(nr::SCHED_GETPARAM, [pid, parameters.as_ptr() as usize])?;
        let policy = call(nr::SCHED_GETSCHEDULER, [pid])?;
        call(nr::SCHED_SETSCHEDULER, [pid, policy, parameters.as_ptr() as usize])
    })
}

pub(crate) fn pin_others(facts: &Facts) -> Verdict {
    on_each_user(facts, "affinity", |pid| {
        let mut mask = [0u64; 16];
        let at = mask.as_mut_ptr() as usize;
        let size = call(nr::SCHED_GETAFFINITY, [pid, size_of_val(&mask), at])?;
        call(nr::SCHED_SETAFFINITY, [pid, size, at])
    })
}

pub(crate) fn io_priority_of_others(facts: &Facts) -> Verdict {
    const PROCESS: usize = 1;
    on_each_user(facts, "I/O priority", |pid| {
        let now = call(nr::IOPRIO_GET, [PROCESS, pid])?;
        call(nr::IOPRIO_SET, [PROCESS, pid, now])
    })
}

pub(crate) fn mrelease(facts: &Facts) -> Verdict {
    // Of a process that lives it says so, once one may.
    const EINVAL: i32 = 22;
    let pid = facts.number("sentinel");
    let released = pidfd(pid)
        .and_then(|process| call(nr::PROCESS_MRELEASE, [process.as_raw_fd() as usize, 0]));
    passed("process_mrelease", released, &[EINVAL])
}

pub(crate) fn seen(facts: &Facts) -> Verdict {
    worked("the sentinel in /proc", fs::metadata(format!("/proc/{}", facts.number("sentinel"))))
}
