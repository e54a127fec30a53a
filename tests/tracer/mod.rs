//! Follows a process and everything that it starts, sees each system call between two marks, and
//! makes chosen ones fail.
//!
//! A tracer of its own instead of strace(1): strace counts the calls of each process for itself and
//! fails the nth of *all* processes, while here exactly one call of one process fails, and the
//! choice can look at the arguments.
#![allow(unsafe_code, dead_code, reason = "ptrace(2); each test binary uses some")]

pub(crate) mod facts;

use std::collections::HashMap;
use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use libc::{c_int, c_long, c_uint, pid_t};

/// How long a traced run may take; only a hang takes so long.
const PATIENCE: Duration = Duration::from_secs(20);
/// The program whose own calls are of no interest: what is looked at ends with its exec.
pub(crate) const PROGRAM: &str = "verify";

/// One system call, as it begins.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// Which process: "0" is the first, "0.2" its second child.
    pub(crate) role: String,
    /// Its number in the tracer's pid namespace.
    pub(crate) pid: pid_t,
    pub(crate) number: c_long,
    pub(crate) args: [u64; 6],
    /// Which of the process's calls of that number, from 1.
    pub(crate) nth: usize,
}

/// What happens to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass,
    /// It is not carried out, and answers this error.
    Fail(i32),
    /// It is carried out, and answers this error: close(2) does so.
    FailAfterwards(i32),
    /// It is not carried out, nor anything else of that process, as by a file system that hangs.
    Hang,
}

/// A finished run.
#[derive(Debug)]
pub(crate) struct Traced {
    pub(crate) calls: Vec<Call>,
    pub(crate) status: Option<ExitStatus>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// The processes alive at the second mark, by role, with their names.
    pub(crate) alive: Vec<(String, String)>,
    /// The processes alive when patience ended; empty in a run that did not hang.
    pub(crate) hung: Vec<(String, String)>,
}

/// Marks the beginning of what is looked at, in the traced process.
pub(crate) fn mark_begin() {
    raise(libc::SIGUSR1);
}

/// Marks its end.
pub(crate) fn mark_end() {
    raise(libc::SIGUSR2);
}

fn raise(signal: c_int) {
    // SAFETY: raise takes a number; the tracer swallows the signal.
    unsafe { libc::raise(signal) };
}

#[derive(Debug)]
struct Tracee {
    role: String,
    children: usize,
    counts: HashMap<c_long, usize>,
    /// The error that the current call is to answer.
    pending: Option<i32>,
    started: bool,
    done: bool,
    hangs: bool,
}

impl Tracee {
    fn new(role: String) -> Self {
        let (children, counts, pending) = (0, HashMap::new(), None);
        Tracee { role, children, counts, pending, started: false, done: false, hangs: false }
    }
}

type Names = Arc<Mutex<HashMap<pid_t, String>>>;

struct Tracer<'a> {
    decide: &'a mut dyn FnMut(&Call) -> Verdict,
    first: pid_t,
    tracees: HashMap<pid_t, Tracee>,
    /// Stopped before the parent's event told whose child it is.
    early: Vec<pid_t>,
    names: Names,
    active: bool,
    calls: Vec<Call>,
    alive: Vec<(String, String)>,
    status: Option<ExitStatus>,
}

/// Runs a command under the tracer; `decide` is asked for each call between the marks.
pub(crate) fn trace(command: &mut Command, decide: &mut dyn FnMut(&Call) -> Verdict) -> Traced {
    let traced = || {
        // SAFETY: PTRACE_TRACEME uses no other argument.
        match unsafe { libc::ptrace(libc::PTRACE_TRACEME, 0, 0usize, 0usize) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: the closure makes one system call.
    unsafe { command.pre_exec(traced) };
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    #[allow(clippy::zombie_processes, reason = "the tracer waits for every process")]
    let mut child = command.spawn().expect("the traced process starts");
    let first = pid_t::try_from(child.id()).expect("a pid");
    let names = Names::default();
    let mut tracer = Tracer {
        decide,
        first,
        tracees: HashMap::from([(first, Tracee::new("0".to_owned()))]),
        early: Vec::new(),
        names: Arc::clone(&names),
        active: false,
        calls: Vec::new(),
        alive: Vec::new(),
        status: None,
    };
    names.lock().unwrap().insert(first, "0".to_owned());
    let (done, watch) = mpsc::channel();
    let late = Arc::new(AtomicBool::new(false));
    let watchdog = {
        let late = Arc::clone(&late);
        std::thread::spawn(move || watchdog(&watch, &names, &late))
    };
    tracer.run();
    drop(done);
    let hung = watchdog.join().expect("the watchdog ends");
    let Tracer { calls, alive, status, .. } = tracer;
    let (mut stdout, mut stderr) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    Traced { calls, status, stdout, stderr, alive, hung }
}

/// Kills what is still there when patience ends, and tells what that was.
fn watchdog(watch: &mpsc::Receiver<()>, names: &Names, late: &AtomicBool) -> Vec<(String, String)> {
    if watch.recv_timeout(PATIENCE) != Err(mpsc::RecvTimeoutError::Timeout) {
        return Vec::new();
    }
    late.store(true, Ordering::Relaxed);
    let mut left = Vec::new();
    while watch.recv_timeout(Duration::from_millis(100)) == Err(mpsc::RecvTimeoutError::Timeout) {
        for (&pid, role) in names.lock().unwrap().iter() {
            let known = left.iter().any(|(other, _)| other == role);
            if !known {
                left.push((role.clone(), name_of(pid)));
            }
            // SAFETY: kill takes numbers; the tracee was not waited for, so the pid is its own.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
    }
    left
}

fn name_of(pid: pid_t) -> String {
    let text = |file| std::fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    text("comm").trim_end().to_owned()
}

/// One that has ended may be a tracee for a moment more.
fn is_alive(pid: pid_t) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

impl Tracer<'_> {
    fn run(&mut self) {
        loop {
            let mut status = 0;
            // Only this thread's children: tests trace in several threads at a time.
            let flags = libc::__WALL | 0x2000_0000;
            // SAFETY: `status` is a writable int.
            let pid = unsafe { libc::waitpid(-1, &raw mut status, flags) };
            if pid < 0 {
                match std::io::Error::last_os_error().raw_os_error() {
                    Some(libc::EINTR) => continue,
                    _ => return,
                }
            }
            if libc::WIFSTOPPED(status) {
                self.stopped(pid, status);
                continue;
            }
            self.tracees.remove(&pid);
            self.early.retain(|&other| other != pid);
            self.names.lock().unwrap().remove(&pid);
            if pid == self.first {
                self.status = Some(ExitStatus::from_raw(status));
            }
        }
    }

    fn stopped(&mut self, pid: pid_t, status: c_int) {
        if !self.tracees.contains_key(&pid) {
            self.early.push(pid);
            return;
        }
        let (signal, event) = (libc::WSTOPSIG(status), status >> 16);
        let mut deliver = 0;
        let started = self.tracees[&pid].started;
        match (signal, event) {
            _ if !started => self.start(pid),
            (_, libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK | libc::PTRACE_EVENT_CLONE) => {
                self.born(pid);
            }
            (_, libc::PTRACE_EVENT_EXEC) => {
                if name_of(pid) == PROGRAM {
                    self.tracee(pid).done = true;
                }
            }
            (signal, _) if signal == libc::SIGTRAP | 0x80 => self.call(pid),
            (libc::SIGUSR1, _) if pid == self.first => self.active = true,
            (libc::SIGUSR2, _) if pid == self.first => {
                self.active = false;
                let alive = self.tracees.iter().filter(|&(&pid, _)| is_alive(pid));
                let each = |(&pid, tracee): (&pid_t, &Tracee)| (tracee.role.clone(), name_of(pid));
                self.alive = alive.map(each).collect();
            }
            (libc::SIGTRAP, event) if event != 0 => {}
            (signal, _) => deliver = signal,
        }
        self.resume(pid, deliver);
    }

    fn tracee(&mut self, pid: pid_t) -> &mut Tracee {
        self.tracees.get_mut(&pid).expect("a known tracee")
    }

    fn start(&mut self, pid: pid_t) {
        let options = libc::PTRACE_O_TRACESYSGOOD
            | libc::PTRACE_O_TRACEFORK
            | libc::PTRACE_O_TRACEVFORK
            | libc::PTRACE_O_TRACECLONE
            | libc::PTRACE_O_TRACEEXEC
            | libc::PTRACE_O_EXITKILL;
        request(libc::PTRACE_SETOPTIONS, pid, 0, options as usize);
        self.tracee(pid).started = true;
    }

    fn born(&mut self, parent: pid_t) {
        let mut new: c_long = 0;
        request(libc::PTRACE_GETEVENTMSG, parent, 0, (&raw mut new) as usize);
        let new = pid_t::try_from(new).expect("a pid");
        let parent = self.tracee(parent);
        parent.children += 1;
        let role = format!("{}.{}", parent.role, parent.children);
        self.names.lock().unwrap().insert(new, role.clone());
        self.tracees.insert(new, Tracee::new(role));
        if self.early.contains(&new) {
            self.early.retain(|&other| other != new);
            self.start(new);
            self.resume(new, 0);
        }
    }

    fn resume(&mut self, pid: pid_t, signal: c_int) {
        if self.tracees[&pid].hangs {
            return;
        }
        let look = self.active && !self.tracees[&pid].done || self.tracees[&pid].pending.is_some();
        let how = if look { libc::PTRACE_SYSCALL } else { libc::PTRACE_CONT };
        request(how, pid, 0, signal as usize);
    }

    fn call(&mut self, pid: pid_t) {
        let mut info = [0u64; 11];
        let size = size_of_val(&info);
        request(libc::PTRACE_GET_SYSCALL_INFO, pid, size, info.as_mut_ptr() as usize);
        // struct ptrace_syscall_info: op (u8), arch (u32), two addresses; then nr and six arguments.
        match info[0] & 0xff {
            1 => self.enter(pid, &info[3..]),
            2 => {
                if let Some(errno) = self.tracee(pid).pending.take() {
                    registers::set_result(pid, -i64::from(errno));
                }
            }
            _ => {}
        }
    }

    fn enter(&mut self, pid: pid_t, info: &[u64]) {
        let (number, active) = (info[0] as c_long, self.active);
        let tracee = self.tracee(pid);
        let count = tracee.counts.entry(number).or_default();
        *count += 1;
        let call = Call {
            role: tracee.role.clone(),
            pid,
            number,
            args: std::array::from_fn(|index| info[index + 1]),
            nth: *count,
        };
        if !active || tracee.done {
            return;
        }
        match (self.decide)(&call) {
            Verdict::Pass => {}
            Verdict::Fail(errno) => {
                self.tracee(pid).pending = Some(errno);
                registers::skip_call(pid);
            }
            Verdict::Hang => self.tracee(pid).hangs = true,
            Verdict::FailAfterwards(errno) => self.tracee(pid).pending = Some(errno),
        }
        self.calls.push(call);
    }
}

/// A request to the kernel; a tracee that was killed meanwhile answers ESRCH, and is gone soon.
fn request(what: c_uint, pid: pid_t, address: usize, data: usize) {
    // SAFETY: every caller passes what the request asks for; buffers are live and large enough.
    unsafe { libc::ptrace(what, pid, address, data) };
}

/// The registers that hold a system call's number and result.
mod registers {
    use super::{pid_t, request};

    const NT_PRSTATUS: usize = 1;
    #[cfg(target_arch = "x86_64")]
    const RESULT: usize = 10;
    #[cfg(target_arch = "aarch64")]
    const RESULT: usize = 0;
    #[cfg(target_arch = "riscv64")]
    const RESULT: usize = 10;
    #[cfg(target_arch = "x86_64")]
    const NUMBER: usize = 15;
    #[cfg(target_arch = "riscv64")]
    const NUMBER: usize = 17;

    fn change(pid: pid_t, index: usize, value: i64) {
        let mut words = vec![0u64; 64];
        let mut vector = [words.as_mut_ptr() as usize, size_of_val(&words[..])];
        let address = vector.as_mut_ptr() as usize;
        request(libc::PTRACE_GETREGSET, pid, NT_PRSTATUS, address);
        words[index] = value as u64;
        request(libc::PTRACE_SETREGSET, pid, NT_PRSTATUS, address);
    }

    pub(super) fn set_result(pid: pid_t, value: i64) {
        change(pid, RESULT, value);
    }

    #[cfg(not(target_arch = "aarch64"))]
    pub(super) fn skip_call(pid: pid_t) {
        change(pid, NUMBER, -1);
    }

    #[cfg(target_arch = "aarch64")]
    pub(super) fn skip_call(pid: pid_t) {
        const NT_ARM_SYSTEM_CALL: usize = 0x404;
        let mut number = -1i32;
        let mut vector = [(&raw mut number) as usize, size_of_val(&number)];
        let address = vector.as_mut_ptr() as usize;
        request(libc::PTRACE_SETREGSET, pid, NT_ARM_SYSTEM_CALL, address);
    }
}
