//! Seeing that something lives or has ended, without looking at a clock: pipes, locks, children.
#![allow(dead_code, reason = "each test binary uses some")]
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use stockade::Sandbox;

use crate::common::ways::Ways;

/// How long a test waits for what should come, before it fails instead of hanging.
pub(crate) const SAFETY: Duration = Duration::from_secs(60);

/// Names the role that a copy of the test binary plays.
const ROLE: &str = "STOCKADE_TEST_ROLE";

/// A pipe; both ends close on exec.
pub(crate) fn pipe() -> (OwnedFd, OwnedFd) {
    nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap()
}

fn events(fd: &impl AsFd, timeout: Duration) -> PollFlags {
    let mut set = [PollFd::new(fd.as_fd(), PollFlags::POLLIN)];
    poll(&mut set, PollTimeout::try_from(timeout).unwrap()).unwrap();
    set[0].revents().unwrap()
}

/// Whether anybody still holds the other end of a pipe to which nothing is written.
pub(crate) fn is_held(reading: &impl AsFd) -> bool {
    !events(reading, Duration::ZERO).contains(PollFlags::POLLHUP)
}

/// Waits until nobody holds the other end any more.
pub(crate) fn await_released(reading: &impl AsFd, what: &str) {
    let mut bytes = [0; 4096];
    let until = Instant::now() + SAFETY;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "{what} still holds the pipe");
        let seen = events(reading, left);
        if seen.contains(PollFlags::POLLIN) {
            nix::unistd::read(reading, &mut bytes).unwrap();
        } else if seen.contains(PollFlags::POLLHUP) {
            return;
        }
    }
}

/// Reads a byte that says how far something is; fails if the other end is closed instead.
pub(crate) fn await_byte(reading: &impl AsFd, what: &str) -> u8 {
    first_byte(reading).unwrap_or_else(|| panic!("no word of {what}"))
}

/// The same, or nothing if the other end is closed instead.
pub(crate) fn first_byte(reading: &impl AsFd) -> Option<u8> {
    let seen = events(reading, SAFETY);
    assert!(!seen.is_empty(), "neither a word nor the end");
    let mut byte = [0];
    (nix::unistd::read(reading, &mut byte) == Ok(1)).then_some(byte[0])
}

/// The role this process was started in by [`role`], if it is such a copy.
pub(crate) fn my_role() -> Option<String> {
    std::env::var(ROLE).ok()
}

/// A copy of the test binary that runs the same test in another role.
pub(crate) fn role(name: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(ROLE, name);
    command
}

/// Starts a copy with a piped standard input and output.
pub(crate) fn start(name: &str) -> Child {
    role(name).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap()
}

/// This test binary as a program of a sandbox, at this path inside.
pub(crate) const SELF: &str = "/tmp/self";

/// A command that runs this test in another role inside of the sandbox.
pub(crate) fn inside(sandbox: Sandbox, role: &str) -> stockade::Command {
    let binary = std::env::current_exe().unwrap();
    let test = std::env::var("STOCKADE_TEST_CHILD").unwrap();
    let command = sandbox.bind_ro(binary, SELF).way_to(SELF);
    command.env("STOCKADE_TEST_CHILD", test).env(ROLE, role)
}

/// Has every orphan of this process's descendants become its own child.
pub(crate) fn adopt_orphans() {
    // SAFETY: this option takes numbers.
    let result = unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    assert_eq!(result, 0);
}

/// Waits until this process has no child left. After [`adopt_orphans`] that is a proof: whatever a
/// dead embedder left, its warden included, would be one.
pub(crate) fn await_no_child(what: &str) {
    let until = Instant::now() + SAFETY;
    loop {
        match reap_any() {
            None => return,
            Some(0) => std::thread::sleep(Duration::from_micros(200)),
            Some(_) => {}
        }
        assert!(Instant::now() < until, "{what}: still there: {:?}", children());
    }
}

/// Reaps a child: its pid, 0 if none has ended, nothing if there is none.
fn reap_any() -> Option<i32> {
    let mut status = 0;
    // SAFETY: the status is valid for writing.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::__WALL) };
    (pid >= 0).then_some(pid)
}

/// Pid and name of each child of this process.
pub(crate) fn children() -> Vec<(i32, String)> {
    children_of(std::process::id().cast_signed())
}

/// Pid and name of each child of a process.
pub(crate) fn children_of(parent: i32) -> Vec<(i32, String)> {
    let me = parent.to_string();
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let Ok(text) = std::fs::read_to_string(entry.path().join("stat")) else { continue };
        let Some((before, after)) = text.rsplit_once(')') else { continue };
        if after.split_whitespace().nth(1) == Some(me.as_str()) {
            let name = before.split_once('(').map_or("", |(_, name)| name);
            found.push((pid, name.to_owned()));
        }
    }
    found
}

/// What a process does, as proc_pid_stat(5) says it: `T` is stopped.
pub(crate) fn state(pid: u32) -> char {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    text.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).unwrap_or('-')
}

/// Whether any process of the machine has this text in its command line.
pub(crate) fn anyone_with(marker: &str) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let Ok(mut line) = File::open(entry.path().join("cmdline")) else { continue };
        let mut text = Vec::new();
        let _gone = line.read_to_end(&mut text);
        if text.windows(marker.len()).any(|part| part == marker.as_bytes()) {
            found.push(pid);
        }
    }
    found
}

/// What is mounted where this process looks.
pub(crate) fn mounts() -> String {
    std::fs::read_to_string("/proc/self/mountinfo").unwrap()
}

/// How many descriptors this process has.
pub(crate) fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Kills a process that this one started, and reaps it.
pub(crate) fn kill_and_reap(child: &mut Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Numbers that look random.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new() -> Self {
        let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        Random(time.subsec_nanos().into())
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % limit
    }
}

/// Passes that long without giving up the processor, as a sleep would be too coarse.
pub(crate) fn spin(time: Duration) {
    let until = Instant::now() + time;
    while Instant::now() < until {
        std::hint::spin_loop();
    }
}

/// fork(2); `copy` runs in the copy, which then ends.
pub(crate) fn fork(copy: impl FnOnce()) -> i32 {
    // SAFETY: the tests that fork have no lock held by another thread of theirs.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(copy));
        // SAFETY: ends the copy at once; nothing of the original's is flushed twice.
        unsafe { libc::_exit(i32::from(result.is_err())) };
    }
    pid
}

/// Does nothing until it is killed.
pub(crate) fn rest() {
    loop {
        nix::unistd::pause();
    }
}

/// Moves this process, or its later children, into a namespace.
pub(crate) fn enter(namespace: &impl AsFd, kind: stockade::Namespaces) {
    let fd = namespace.as_fd().as_raw_fd();
    // SAFETY: the call takes numbers.
    let result = unsafe { libc::setns(fd, kind.bits().cast_signed()) };
    assert_eq!(result, 0, "{kind}: {}", std::io::Error::last_os_error());
}

/// Waits for a forked copy and checks that nothing in it failed.
pub(crate) fn join(pid: i32) {
    let mut status = 0;
    // SAFETY: the status is valid for writing.
    let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert_eq!((waited, status), (pid, 0), "the forked copy failed");
}

/// Waits for a child that was killed.
pub(crate) fn join_killed(pid: u32) {
    let mut status = 0;
    // SAFETY: the status is valid for writing.
    let waited = unsafe { libc::waitpid(pid.cast_signed(), &raw mut status, 0) };
    assert_eq!((waited, status), (pid.cast_signed(), libc::SIGKILL));
}

/// A duplicate of a standard stream as a file.
pub(crate) fn stream(number: i32) -> File {
    // SAFETY: the number is only duplicated.
    let number = unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) };
    assert!(number >= 0);
    // SAFETY: the kernel just made this descriptor.
    unsafe { File::from_raw_fd(number) }
}

/// Says over standard output how far this copy is.
pub(crate) fn tell(byte: u8) {
    stream(1).write_all(&[byte]).unwrap();
}

/// A signal to a process by number.
pub(crate) fn signal(pid: u32, signal: i32) {
    // SAFETY: kill takes numbers.
    let result = unsafe { libc::kill(pid.cast_signed(), signal) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

/// Closes every descriptor from `first` on.
pub(crate) fn close_from(first: u32) {
    // SAFETY: the callers hold no owned descriptor of these numbers any more.
    let result = unsafe { libc::close_range(first, u32::MAX, 0) };
    assert_eq!(result, 0);
}

/// The number of an open descriptor, for messages.
pub(crate) fn number(fd: &impl AsRawFd) -> i32 {
    fd.as_raw_fd()
}

/// Ignores a signal; those that cannot be ignored stay as they are.
pub(crate) fn ignore(signal: i32) {
    // SAFETY: ignoring runs no handler.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}

/// Ignores every signal and blocks them all, also those that the C library keeps for itself;
/// SIGKILL and SIGSTOP stay as they are.
pub(crate) fn be_deaf() {
    const WORD: usize = size_of::<u64>();
    // The kernel's sigaction: the handler, then flags, a restorer and a mask, all 0.
    let action = [libc::SIG_IGN, 0, 0, 0];
    for signal in 1..=64 {
        let (action, old) = (action.as_ptr(), std::ptr::null_mut::<usize>());
        // SAFETY: the action is complete, and ignoring runs no handler.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, action, old, WORD) };
    }
    let (all, old) = (u64::MAX, std::ptr::null_mut::<u64>());
    let how = libc::SIG_SETMASK;
    // SAFETY: the set is valid for reading.
    let result = unsafe { libc::syscall(libc::SYS_rt_sigprocmask, how, &raw const all, old, WORD) };
    assert_eq!(result, 0);
}

/// Leaves its session twice over, hears no signal, and says so over descriptor 5.
pub(crate) fn be_a_daemon() -> ! {
    be_deaf();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    for set in ["SigBlk", "SigIgn"] {
        assert!(status.contains(&format!("{set}:\tfffffffffffbfeff\n")), "{status}");
    }
    fork_and_leave();
    session();
    fork_and_leave();
    // Held until its end, which is how that is seen.
    let mut holds = inherited(5);
    holds.write_all(b"!").unwrap();
    loop {
        std::thread::sleep(SAFETY);
    }
}

/// A program that starts a [daemon](be_a_daemon) by the role of that name and lives beside it.
pub(crate) fn live_beside_a_daemon() -> ! {
    let mut daemon = role("daemon").spawn().unwrap();
    daemon.wait().unwrap();
    loop {
        std::thread::sleep(SAFETY);
    }
}

/// fork(2); the original ends well.
pub(crate) fn fork_and_leave() {
    // SAFETY: the processes that do this have one thread.
    match unsafe { libc::fork() } {
        0 => {}
        // SAFETY: ends this process at once.
        pid => unsafe { libc::_exit(i32::from(pid < 0)) },
    }
}

/// Sets both limits of open files of this process.
pub(crate) fn limit_open_files(count: u64) {
    let limit = libc::rlimit { rlim_cur: count, rlim_max: count };
    // SAFETY: valid for reading.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
}

/// Sets the soft one only.
pub(crate) fn limit_open_files_softly(count: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: valid for writing.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) }, 0);
    limit.rlim_cur = count;
    // SAFETY: valid for reading.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
}

/// setsid(2)
pub(crate) fn session() {
    // SAFETY: takes nothing.
    assert!(unsafe { libc::setsid() } > 0);
}

/// A descriptor that this process was given by number.
pub(crate) fn inherited(number: i32) -> File {
    // SAFETY: whoever started this process passed it, and nothing else here owns the number.
    unsafe { File::from_raw_fd(number) }
}

/// How much processor time this process has used.
pub(crate) fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the time is valid for writing.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).unwrap())
}

/// fork(2); the copy runs this and never comes back.
pub(crate) fn fork_to_run(work: fn()) {
    // SAFETY: the processes that do this have one thread.
    match unsafe { libc::fork() } {
        0 => {
            work();
            // SAFETY: ends the copy at once.
            unsafe { libc::_exit(0) }
        }
        pid => assert!(pid > 0, "{}", std::io::Error::last_os_error()),
    }
}

/// Reaps one child that has ended, if there is one.
pub(crate) fn reap_some() {
    if reap_any() == Some(0) {
        std::thread::yield_now();
    }
}

/// Sets how many processes of its user's somebody may make, or as many as the hard limit has.
pub(crate) fn limit_processes(of: u32, to: Option<u64>) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    let (pid, kind) = (of.cast_signed(), libc::RLIMIT_NPROC);
    // SAFETY: the limit is valid for writing.
    assert_eq!(unsafe { libc::prlimit(pid, kind, std::ptr::null(), &raw mut limit) }, 0);
    limit.rlim_cur = to.unwrap_or(limit.rlim_max);
    // SAFETY: the limit is valid for reading.
    assert_eq!(unsafe { libc::prlimit(pid, kind, &raw const limit, std::ptr::null_mut()) }, 0);
}

/// Waits until this is so: nothing but a hang takes that long.
pub(crate) fn await_that(is_so: impl Fn() -> bool) {
    let until = std::time::Instant::now() + SAFETY;
    while !is_so() {
        assert!(std::time::Instant::now() < until, "it does not come");
        std::thread::yield_now();
    }
}
