//! How a sandbox ended and what it used, as values.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::cgroup::Stats;
use crate::rlimit::Max;
use crate::seccomp::calls;
use crate::sys::Reaped;
use crate::wire::{NO_BYTES, NO_FILES, Report, ended};

/// How the program ended.
///
/// Which one it is comes from [wait(2)](https://man7.org/linux/man-pages/man2/wait.2.html), as the
/// sandbox's init or, without it, the handle has seen it.
///
/// # Examples
///
/// ```
/// use stockade::{Outcome, Sandbox};
/// let ends_with = |script| -> stockade::Result<Outcome> {
///     Ok(Sandbox::new().command("sh").args(["-c", script]).status()?.outcome)
/// };
/// assert_eq!(ends_with("exit 3")?, Outcome::Exited(3));
/// assert_eq!(ends_with("kill -9 $$")?, Outcome::Signaled { signal: 9, core_dumped: false });
/// # Ok::<(), stockade::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// It exited by itself with this code, 0 to 255.
    Exited(i32),
    /// A signal ended it that came neither from the handle nor from its time limit;
    /// [signal(7)](https://man7.org/linux/man-pages/man7/signal.7.html) has the numbers.
    Signaled {
        /// The signal's number, 1 to 64.
        signal: i32,
        /// Whether the kernel wrote a core dump
        /// ([core(5)](https://man7.org/linux/man-pages/man5/core.5.html)); by default
        /// [`Resource::Core`](crate::Resource::Core) is 0 and forbids files.
        core_dumped: bool,
    },
    /// Its [wall time](crate::Sandbox::wall_time) was up. The sandbox's own init judges that. If
    /// init did not live to say it, or with [`init(false)`](crate::Sandbox::init), a SIGKILL counts
    /// as the time limit's if the deadline had passed when the caller looked.
    TimedOut,
    /// The kernel killed the program for want of memory: of what its [limit](crate::Memory::max)
    /// leaves, or of the host's if the peak is far below that. Known with a limit of memory only. A SIGKILL
    /// of somebody else's is taken for the kernel's if that has killed another process of the sandbox before.
    OutOfMemory {
        /// The limit in bytes; `None` if there was none when it ended.
        limit: Option<u64>,
        /// The most bytes in use at a time; `None` where the kernel does not say.
        peak: Option<u64>,
    },
    /// Its [CPU time](crate::Sandbox::cpu_time) was up.
    CpuTime,
    /// Its [profile](crate::Seccomp) ends a process that makes this system call, with
    /// [`KillProcess`](crate::Action::KillProcess), and the program made it
    /// ([seccomp(2)](https://man7.org/linux/man-pages/man2/seccomp.2.html)).
    SeccompDenied {
        /// The call's number; [`syscall_name`](Self::syscall_name) has its name.
        syscall: u32,
    },
    /// [`Child::kill`](crate::Child::kill) or dropping the handle ended it.
    Killed,
    /// The sandbox's init ended before the program, by this signal or, if 0, by itself: killed from
    /// outside, or by the kernel for want of memory. All of the sandbox ended with it.
    InitKilled {
        /// The signal's number, 0 if init exited; and before Linux 6.15 (`PIDFD_INFO_EXIT`) if it is not the caller
        /// that reaps it: a copy of a [template](crate::Prepared::has_template), or a process of a session.
        signal: i32,
    },
    /// It ended, but somebody else in the caller's process took the status (a `waitpid(-1)` loop,
    /// SIGCHLD ignored) and the kernel is older than Linux 6.15 (`PIDFD_INFO_EXIT`). Only without
    /// init.
    Unknown,
}

impl Outcome {
    /// Whether the program exited with code 0.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Outcome;
    /// assert!(Outcome::Exited(0).is_success());
    /// assert!(!Outcome::TimedOut.is_success());
    /// ```
    #[must_use]
    pub fn is_success(self) -> bool {
        self == Outcome::Exited(0)
    }

    /// The name of the system call for which a filter ended the program.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Action, Rule, Sandbox, Seccomp};
    /// let profile = Seccomp::default().rule(Rule::new("uname").then(Action::KillProcess));
    /// let outcome = Sandbox::new().seccomp(profile).command("uname").status()?.outcome;
    /// assert_eq!(outcome.syscall_name(), Some("uname"));
    /// # Ok::<(), stockade::Error>(())
    /// ```
    #[must_use]
    pub fn syscall_name(self) -> Option<&'static str> {
        match self {
            Outcome::SeccompDenied { syscall } => calls::name(syscall),
            _ => None,
        }
    }

    /// The exit code, if it exited by itself.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Outcome;
    /// assert_eq!(Outcome::Exited(3).code(), Some(3));
    /// assert_eq!(Outcome::Killed.code(), None);
    /// ```
    #[must_use]
    pub fn code(self) -> Option<i32> {
        match self {
            Outcome::Exited(code) => Some(code),
            _ => None,
        }
    }

    fn of_code(code: i32, status: i32) -> Self {
        match code {
            libc::CLD_EXITED => Outcome::Exited(status),
            _ => Outcome::Signaled { signal: status, core_dumped: code == libc::CLD_DUMPED },
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Exited(code) => write!(f, "exited with code {code}"),
            Outcome::Signaled { signal, core_dumped: false } => {
                write!(f, "ended by signal {signal}")
            }
            Outcome::Signaled { signal, .. } => write!(f, "ended by signal {signal}, core dumped"),
            Outcome::TimedOut => f.write_str("time limit reached"),
            Outcome::OutOfMemory { limit: Some(limit), .. } => {
                write!(f, "out of memory (limit {limit} bytes)")
            }
            Outcome::OutOfMemory { limit: None, .. } => f.write_str("out of memory"),
            Outcome::CpuTime => f.write_str("CPU time limit reached"),
            Outcome::SeccompDenied { syscall } => match self.syscall_name() {
                Some(name) => write!(f, "killed by its seccomp profile for {name}"),
                None => write!(f, "killed by its seccomp profile for system call {syscall}"),
            },
            Outcome::Killed => f.write_str("killed through its handle"),
            Outcome::InitKilled { signal: 0 } => f.write_str("its init ended"),
            Outcome::InitKilled { signal } => write!(f, "its init was killed by signal {signal}"),
            Outcome::Unknown => f.write_str("ended, status taken by another waiter"),
        }
    }
}

/// What a sandbox used. The times and counts here are those of the program and of everything that
/// was waited for: a program that ignores SIGCHLD hides its children's share. `stats` has what the
/// control groups counted, from which nothing hides.
///
/// The numbers are those of [getrusage(2)](https://man7.org/linux/man-pages/man2/getrusage.2.html).
/// By default all are 0.
///
/// # Examples
///
/// ```
/// let status = stockade::Sandbox::new().command("true").status()?;
/// if let Some(usage) = status.usage {
///     println!("{:?} of CPU time in {:?}", usage.user + usage.system, usage.wall);
/// }
/// # Ok::<(), stockade::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Usage {
    /// CPU time in user mode, to the microsecond (`ru_utime`).
    pub user: Duration,
    /// CPU time in the kernel, to the microsecond (`ru_stime`).
    pub system: Duration,
    /// From the program's start to its end, by `CLOCK_MONOTONIC`, as init has seen it. Without
    /// init, or if that did not live to say it: until the caller looked.
    pub wall: Duration,
    /// Bytes of the largest single process, not of all together (`ru_maxrss`).
    pub peak_rss_of_largest: u64,
    /// Page faults without I/O (`ru_minflt`).
    pub minor_faults: u64,
    /// Page faults with I/O (`ru_majflt`).
    pub major_faults: u64,
    /// Context switches because a process waited (`ru_nvcsw`).
    pub voluntary_switches: u64,
    /// Context switches because a time slice was over (`ru_nivcsw`).
    pub involuntary_switches: u64,
    /// What its control groups counted, up to its end.
    pub stats: Stats,
}

/// A process that the program left running, and that was ended. Only init sees them.
///
/// # Examples
///
/// ```
/// use stockade::Sandbox;
/// let status = Sandbox::new().command("sh").args(["-c", "sleep 1000 & exit 0"]).status()?;
/// assert_eq!(status.left.len(), 1);
/// assert!(status.left[0].pid > 1);
/// # Ok::<(), stockade::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Left {
    /// Its pid inside.
    pub pid: u32,
    /// Its name as ps shows it, at most 15 bytes; empty where the sandbox has no /proc.
    pub name: String,
}

/// A file system in memory that was full when the program and what it left had ended.
///
/// Its init looks then ([statfs(2)](https://man7.org/linux/man-pages/man2/statfs.2.html)), so it does
/// not see what was full in between and was emptied again, or one large allocation that was refused
/// while there was room for a smaller one. One that is filled exactly counts as full, although nothing was
/// refused.
///
/// # Examples
///
/// ```
/// use stockade::Sandbox;
/// let sandbox = Sandbox::new().tmp_size(1 << 20);
/// let fill = |to| sandbox.command("cp").args(["/dev/zero", to]).status();
/// let status = fill("/tmp/zeros")?;
/// assert_eq!(status.outcome.code(), Some(1));
/// assert_eq!(status.disk_full[0].mount, std::path::Path::new("/tmp"));
/// assert!(status.disk_full[0].bytes && !status.disk_full[0].inodes);
/// // The home directory has the same budget.
/// assert_eq!(fill("/home/user/zeros")?.disk_full, status.disk_full);
/// # Ok::<(), stockade::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiskFull {
    /// Where it is: the place of a [`Tmpfs`](crate::Tmpfs), or /tmp, which stands for the home
    /// directory and /dev/shm as well where they share one budget.
    pub mount: PathBuf,
    /// There was no room left for bytes ([`tmp_size`](crate::Sandbox::tmp_size),
    /// [`Tmpfs::size`](crate::Tmpfs::size)).
    pub bytes: bool,
    /// There was no room left for files ([`tmp_inodes`](crate::Sandbox::tmp_inodes),
    /// [`Tmpfs::inodes`](crate::Tmpfs::inodes)).
    pub inodes: bool,
}

/// How a sandbox ended.
///
/// # Examples
///
/// ```
/// let status = stockade::Sandbox::new().command("false").status()?;
/// assert_eq!(status.outcome.code(), Some(1));
/// assert_eq!(status.left_count, 0);
/// # Ok::<(), stockade::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// How the program ended.
    pub outcome: Outcome,
    /// What the sandbox used; `None` if somebody else in the caller's process took it.
    pub usage: Option<Usage>,
    /// How many processes the program left that had to be ended; 0 without init, which counts them. At
    /// least so many, where init did not live to count all: in a sandbox that is killed through its
    /// handle, or that takes longer than two seconds to end when its time is up.
    pub left_count: u64,
    /// The first 32 of them.
    pub left: Vec<Left>,
    /// The file systems in memory that were full in the end; none where no init lived to look.
    pub disk_full: Vec<DiskFull>,
}

/// How a sandbox ended, and what it wrote.
///
/// # Examples
///
/// ```
/// use stockade::Sandbox;
/// let output = Sandbox::new().command("sh").args(["-c", "echo out; echo err >&2"]).output()?;
/// assert_eq!((&output.stdout[..], &output.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
/// assert!(!output.stdout_truncated);
/// # Ok::<(), stockade::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Output {
    /// How the program ended.
    pub outcome: Outcome,
    /// What the sandbox used; `None` if somebody else in the caller's process took it.
    pub usage: Option<Usage>,
    /// How many processes the program left that had to be ended; 0 without init, which counts them. At
    /// least so many, where init did not live to count all: in a sandbox that is killed through its
    /// handle, or that takes longer than two seconds to end when its time is up.
    pub left_count: u64,
    /// The first 32 of them.
    pub left: Vec<Left>,
    /// The file systems in memory that were full in the end; none where no init lived to look.
    pub disk_full: Vec<DiskFull>,
    /// What came through a piped standard output, up to
    /// [the limit](crate::Command::keep_output) (64 MiB by default).
    pub stdout: Vec<u8>,
    /// What came through a piped standard error, up to
    /// [the limit](crate::Command::keep_output) (64 MiB by default).
    pub stderr: Vec<u8>,
    /// Whether more came through standard output than the limit keeps, or
    /// it could not be read.
    pub stdout_truncated: bool,
    /// Whether more came through standard error than the limit keeps, or
    /// it could not be read.
    pub stderr_truncated: bool,
}

impl Usage {
    fn of_report(numbers: &[u64]) -> Self {
        let at = |index: usize| numbers.get(index).copied().unwrap_or(0);
        Usage {
            user: Duration::from_micros(at(ended::USER)),
            system: Duration::from_micros(at(ended::SYSTEM)),
            wall: Duration::from_nanos(at(ended::WALL)),
            peak_rss_of_largest: at(ended::PEAK_RSS).saturating_mul(1024),
            minor_faults: at(ended::MINOR_FAULTS),
            major_faults: at(ended::MAJOR_FAULTS),
            voluntary_switches: at(ended::VOLUNTARY),
            involuntary_switches: at(ended::INVOLUNTARY),
            stats: Stats::default(),
        }
    }

    fn of_rusage(usage: &libc::rusage, wall: Duration) -> Self {
        let time = |time: libc::timeval| {
            let micros = u64::try_from(time.tv_usec).unwrap_or(0);
            Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or(0))
                + Duration::from_micros(micros)
        };
        let count = |number: libc::c_long| u64::try_from(number).unwrap_or(0);
        Usage {
            user: time(usage.ru_utime),
            system: time(usage.ru_stime),
            wall,
            peak_rss_of_largest: count(usage.ru_maxrss).saturating_mul(1024),
            minor_faults: count(usage.ru_minflt),
            major_faults: count(usage.ru_majflt),
            voluntary_switches: count(usage.ru_nvcsw),
            involuntary_switches: count(usage.ru_nivcsw),
            stats: Stats::default(),
        }
    }
}

/// What the handle knows when the first process of a sandbox is gone.
#[derive(Debug)]
pub(crate) struct End<'a> {
    /// Init's last report.
    pub(crate) report: Option<&'a Report>,
    /// The kernel's word about the first process.
    pub(crate) reaped: Option<Reaped>,
    pub(crate) supervised: bool,
    pub(crate) killed: bool,
    pub(crate) past_deadline: bool,
    pub(crate) wall: Duration,
    pub(crate) left: Vec<Left>,
    /// How many init had counted when it was last heard of.
    pub(crate) left_count: u64,
    pub(crate) stats: Stats,
    /// The writable file systems in memory, in init's order.
    pub(crate) memory_mounts: &'a [PathBuf],
}

/// Which of these init found full.
fn full(report: &Report, mounts: &[PathBuf]) -> Vec<DiskFull> {
    let found = mounts.iter().zip(report.text).filter(|(_, lacks)| *lacks != 0);
    let mut full: Vec<DiskFull> = Vec::new();
    for (mount, lacks) in found {
        // An overlay and its upper are one.
        if full.iter().all(|one| one.mount != *mount) {
            let (bytes, inodes) = (lacks & NO_BYTES != 0, lacks & NO_FILES != 0);
            full.push(DiskFull { mount: mount.clone(), bytes, inodes });
        }
    }
    full
}

impl End<'_> {
    pub(crate) fn status(self) -> Status {
        Status {
            outcome: self.outcome(),
            usage: self.usage(),
            left_count: self.report.map_or(self.left_count, |report| report.numbers[ended::LEFT]),
            disk_full: self.report.map_or_else(Vec::new, |report| full(report, self.memory_mounts)),
            left: self.left,
        }
    }

    fn outcome(&self) -> Outcome {
        if let Some(report) = self.report {
            let number = |index: usize| i32::try_from(report.numbers[index]).unwrap_or(0);
            return match report.numbers[ended::TIMED_OUT] {
                0 if report.numbers[ended::DENIED] != 0 => {
                    let syscall =
                        u32::try_from(report.numbers[ended::DENIED] - 1).unwrap_or(u32::MAX);
                    Outcome::SeccompDenied { syscall }
                }
                0 => self
                    .or_out_of_memory(Outcome::of_code(number(ended::HOW), number(ended::STATUS))),
                ended::BY_CPU_TIME => Outcome::CpuTime,
                _ => Outcome::TimedOut,
            };
        }
        let killed_by =
            |reaped: Reaped| reaped.code != libc::CLD_EXITED && reaped.status == libc::SIGKILL;
        let exited = |reaped: Reaped| reaped.code == libc::CLD_EXITED && !self.supervised;
        match self.reaped {
            Some(reaped) if exited(reaped) => Outcome::Exited(reaped.status),
            _ if self.killed => Outcome::Killed,
            Some(reaped) if self.past_deadline && killed_by(reaped) => Outcome::TimedOut,
            None if self.past_deadline => Outcome::TimedOut,
            Some(reaped) if !self.supervised => {
                self.or_out_of_memory(Outcome::of_code(reaped.code, reaped.status))
            }
            Some(reaped) if reaped.code == libc::CLD_EXITED => Outcome::InitKilled { signal: 0 },
            Some(reaped) => self.or_out_of_memory(Outcome::InitKilled { signal: reaped.status }),
            None if self.supervised => Outcome::InitKilled { signal: 0 },
            None => Outcome::Unknown,
        }
    }

    /// A SIGKILL is the kernel's own, for want of memory, if the sandbox's group has counted one.
    fn or_out_of_memory(&self, outcome: Outcome) -> Outcome {
        let memory = &self.stats.memory;
        let killed = matches!(
            outcome,
            Outcome::Signaled { signal: libc::SIGKILL, .. }
                | Outcome::InitKilled { signal: libc::SIGKILL }
        );
        if !killed || memory.oom_kills.unwrap_or(0) == 0 {
            return outcome;
        }
        let limit = match memory.limit {
            Some(Max::At(bytes)) => Some(bytes),
            _ => None,
        };
        Outcome::OutOfMemory { limit, peak: memory.peak }
    }

    fn usage(&self) -> Option<Usage> {
        let usage = match self.report {
            Some(report) => Usage::of_report(&report.numbers),
            None => Usage::of_rusage(&self.reaped.and_then(|reaped| reaped.usage)?, self.wall),
        };
        Some(Usage { stats: self.stats.clone(), ..usage })
    }
}
