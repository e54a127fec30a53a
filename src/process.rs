//! The processes that are launched for a sandbox: started, known by a descriptor, ended.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use crate::abi::SIGKILL;
use crate::capability::{Capability, CapabilitySet};
use crate::child::{DROP_WAIT, reap_later};
use crate::error::{Error, Result, Stage};
use crate::executable::{Embedded, errno_of};
use crate::namespace::Namespaces;
use crate::wire::{BEFORE_EXEC, Call};
use crate::{hint, launch as stage, sys};

/// A process that was launched, killed and reaped again unless it is [kept](Self::keep).
#[derive(Debug)]
pub(crate) struct Launched {
    pub(crate) pid: u32,
    pub(crate) pidfd: Arc<OwnedFd>,
    pub(crate) armed: bool,
    /// Whether it is in the control group that it was launched into.
    pub(crate) born_inside: bool,
    /// What it is started in beside others, which can stop it.
    pub(crate) session: Option<Arc<Sockets>>,
}

/// Takes the numbers of standard streams that are closed: whatever else got them, a later program would inherit. By
/// what needs no file.
pub(crate) fn hold_closed_streams() -> Result<Vec<OwnedFd>> {
    let failed = |errno| Error::new(Stage::Prepare, "hold", "a closed standard stream", errno);
    sys::closed_streams().map(|_| sys::own_pidfd().map_err(failed)).collect()
}

/// Whether a sandbox is paused.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stands(Arc<(AtomicBool, Mutex<()>)>);

impl Stands {
    pub(crate) fn set(&self, stands: bool) {
        let (is, turn) = &*self.0;
        let _alone = turn.lock().unwrap_or_else(PoisonError::into_inner);
        is.store(stands, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> bool {
        self.0.0.load(Ordering::Relaxed)
    }

    /// Does something that nobody may do in a pause, which begins after it; `None` in a pause.
    pub(crate) fn unless<T>(&self, work: impl FnOnce() -> T) -> Option<T> {
        // In a forked copy of the embedder a lock may be held for ever by a thread that it does not have.
        let _alone = self.0.1.try_lock().ok()?;
        (!self.get()).then(work)
    }
}

/// Those of a sandbox with several programs.
#[derive(Debug)]
pub(crate) struct Sockets {
    /// Init's.
    pub(crate) control: OwnedFd,
    /// Whether it is [paused](crate::Child::pause): programs do not start then, and nobody is to continue it.
    pub(crate) paused: Stands,
}

impl Launched {
    /// Waits for an end that comes by itself, but not for ever.
    pub(crate) fn finish(&mut self) {
        self.armed = false;
        if !sys::wait_readable(self.pidfd.as_fd(), Some(DROP_WAIT)) {
            log::error!("process {} does not end; it is killed, and reaped later", self.pid);
            kill(self.pidfd.as_fd());
            return reap_later(vec![Arc::clone(&self.pidfd)]);
        }
        // ECHILD: the embedder ignores SIGCHLD or reaped it itself.
        if let Err(errno) = sys::reap(self.pidfd.as_fd()) {
            log::trace!("reaped elsewhere: {errno}");
        }
    }

    /// The same process; somebody else answers for it unless this is `armed`.
    pub(crate) fn again(&self, armed: bool) -> Self {
        let (pidfd, session) = (Arc::clone(&self.pidfd), self.session.clone());
        Launched { pidfd, session, armed, ..*self }
    }

    pub(crate) fn keep(mut self) -> (u32, Arc<OwnedFd>) {
        self.armed = false;
        (self.pid, Arc::clone(&self.pidfd))
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        if self.armed {
            kill(self.pidfd.as_fd());
            self.finish();
        }
    }
}

/// Kills a sandbox's first process, and so all of it; one that has ended stays so. `false` if it cannot be killed.
pub(crate) fn kill(pidfd: BorrowedFd<'_>) -> bool {
    match sys::signal(pidfd, SIGKILL.try_into().unwrap_or(libc::SIGKILL)) {
        Ok(()) | Err(Errno::ESRCH) => true,
        Err(errno) => {
            log::error!("a sandbox cannot be killed: {errno}");
            false
        }
    }
}

/// What init does need to make a sandbox; root's other capabilities do not reach it.
const NEEDED: [Capability; 15] = [
    Capability::CHOWN,
    Capability::DAC_OVERRIDE,
    Capability::DAC_READ_SEARCH,
    Capability::FOWNER,
    Capability::KILL,
    Capability::SETGID,
    Capability::SETUID,
    Capability::SETPCAP,
    Capability::NET_ADMIN,
    Capability::SYS_CHROOT,
    Capability::SYS_ADMIN,
    Capability::SYS_NICE,
    Capability::SYS_RESOURCE,
    Capability::SYS_TIME,
    Capability::SETFCAP,
];

/// How the init program is started.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Launch<'a> {
    /// One of [`wire::mode`].
    pub(crate) mode: u8,
    /// `CLONE_NEW…` flags.
    pub(crate) flags: usize,
    /// Descriptors that it is told.
    pub(crate) numbers: &'a [RawFd],
    /// Others that stay open in it.
    pub(crate) keep: &'a [RawFd],
    /// What it is to leave to the program.
    pub(crate) capabilities: CapabilitySet,
    /// The control group that it is to be born in, where the kernel can do that.
    pub(crate) into: Option<BorrowedFd<'a>>,
    /// What it puts itself into the others by, and their paths.
    pub(crate) entrances: &'a [(BorrowedFd<'a>, PathBuf)],
}

/// Clones and executes the init program in one of its modes.
pub(crate) fn launch(executable: &OwnedFd, wanted: Launch<'_>) -> Result<Launched> {
    let Launch { mode, flags, numbers, keep, capabilities, into, entrances } = wanted;
    let capabilities = NEEDED.into_iter().collect::<CapabilitySet>().union(capabilities).bits();
    let executable = executable.as_raw_fd();
    let mut arguments = vec![b"stockade-init\0".to_vec(), vec![mode, 0]];
    arguments.extend(numbers.iter().map(|number| format!("{number}\0").into_bytes()));
    let mut argv: Vec<_> = arguments.iter().map(|text| text.as_ptr()).collect();
    argv.push(std::ptr::null());
    let mut keep: Vec<_> = keep.iter().chain(numbers).copied().chain([executable]).collect();
    keep.sort_unstable();
    keep.dedup();
    let tasks: Vec<_> = entrances.iter().map(|(file, _)| file.as_raw_fd()).collect();
    let mut stage = stage::Stage {
        keep: &keep,
        executable,
        entrances: &tasks,
        entered: 0,
        argv: &argv,
        envp: [std::ptr::null()],
        capabilities,
        fault: None,
    };
    let cloned = sys::with_signals_blocked(|| sys::clone_stage(flags, into, &mut stage));
    let sys::Cloned { pid, pidfd, born_inside } =
        cloned.and_then(|inner| inner).map_err(|errno| {
            let new = Namespaces::from_bits_truncate(u32::try_from(flags).unwrap_or(0));
            clone_refused(new, errno)
        })?;
    let mut launched =
        Launched { pid, pidfd: Arc::new(pidfd), armed: true, born_inside, session: None };
    match stage.fault {
        None => Ok(launched),
        Some(fault) => {
            launched.finish();
            let errno = Errno::from_raw(fault.errno.0);
            if let Some((_, group)) = entrances.get(stage.entered) {
                let object = format!("\"0\" to {:?}", group.join("tasks"));
                return Err(Error::new(Stage::Cgroup, "write", object, errno).explained());
            }
            let hint = match fault.call {
                Call::Exec => hint::for_memfd(errno),
                call => hint::for_operation(call.name(), "", errno),
            };
            let error = Error::new(Stage::Launch, fault.call.name(), "stockade-init", errno);
            Err(error.with_hint(hint))
        }
    }
}

/// Whether there can be no more of these namespaces together: tried with a process that ends at once, as
/// it has nothing to execute.
fn is_exhausted(kinds: Namespaces) -> bool {
    let nothing = [std::ptr::null()];
    let mut stage = stage::Stage {
        keep: &[],
        executable: -1,
        entrances: &[],
        entered: 0,
        argv: &nothing,
        envp: nothing,
        capabilities: 0,
        fault: None,
    };
    let flags = kinds.flags();
    let cloned = sys::with_signals_blocked(|| sys::clone_stage(flags, None, &mut stage));
    match cloned.and_then(|inner| inner) {
        Ok(sys::Cloned { pid, pidfd, born_inside }) => {
            let pidfd = Arc::new(pidfd);
            Launched { pid, pidfd, armed: true, born_inside, session: None }.finish();
            false
        }
        Err(errno) => errno == Errno::ENOSPC,
    }
}

/// That the kernel makes no process in such namespaces.
pub(crate) fn clone_refused(new: Namespaces, errno: Errno) -> Error {
    let exhausted = || hint::for_exhausted(new, is_exhausted);
    let limit = (errno == Errno::ENOSPC).then(exhausted).flatten();
    let with_user = new.contains(Namespaces::USER);
    let error = Error::new(Stage::Launch, "clone", format!("({new})"), errno);
    error.with_hint(limit.or_else(|| hint::for_clone(errno, with_user)))
}

/// Launches by `launch`; where memory that may be made executable may still not be executed
/// (SELinux), once more with the file of the caller's choice.
pub(crate) fn with_fallback<T>(
    program: &'static Embedded,
    executable: &mut OwnedFd,
    init_file: Option<&Path>,
    launch: impl Fn(&OwnedFd) -> Result<T>,
) -> Result<T> {
    match (launch(executable), init_file) {
        (Err(error), Some(file)) if is_forbidden_exec(&error) => {
            *executable = program.in_file(file)?;
            launch(executable)
        }
        (other, _) => other,
    }
}

fn is_forbidden_exec(error: &Error) -> bool {
    error.failed().is_some_and(|failed| {
        failed.operation == Call::Exec.name() && failed.errno == Errno::EACCES
    })
}

/// The pid by which a /proc knows a process: the caller's may belong to another pid namespace than
/// the caller does.
pub(crate) fn pid_in(proc: BorrowedFd<'_>, launched: &Launched) -> Option<u32> {
    if is_own(proc) {
        return Some(launched.pid);
    }
    pid_of_pidfd(proc, launched.pidfd.as_fd())
}

/// Whether a /proc is that of the caller's pid namespace.
pub(crate) fn is_own(proc: BorrowedFd<'_>) -> bool {
    let own = nix::fcntl::readlinkat(proc, "self").ok();
    own.and_then(|text| text.to_str()?.parse().ok()) == Some(std::process::id())
}

/// The pid that a pidfd stands for, by that /proc.
pub(crate) fn pid_of_pidfd(proc: BorrowedFd<'_>, pidfd: BorrowedFd<'_>) -> Option<u32> {
    look_up(proc, pidfd).ok()?
}

/// The same; `None` if the process is gone.
fn look_up(proc: BorrowedFd<'_>, pidfd: BorrowedFd<'_>) -> Result<Option<u32>, Errno> {
    let file = open_in(proc, &format!("self/fdinfo/{}", pidfd.as_raw_fd()))?;
    let mut text = [0; 512];
    let length = file.read_at(&mut text, 0).map_err(|error| errno_of(&error))?;
    let text = String::from_utf8_lossy(text.get(..length).unwrap_or(&[]));
    Ok(text.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok()))
}

fn open_in(proc: BorrowedFd<'_>, path: &str) -> Result<File, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    nix::fcntl::openat(proc, path, flags, Mode::empty()).map(File::from)
}

/// What came of a process that was to execute something, once the socket has closed that an exec closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exec {
    Done,
    Never,
    /// It has ended and was reaped.
    Gone,
}

/// A process's `/proc/PID/stat`, opened while it lives. A socket that is closed at an exec is closed by
/// the end of a process too: which of them it was only the kernel's account of it tells.
#[derive(Debug)]
pub(crate) struct Account(Option<File>);

impl Account {
    /// Empty for a process that is gone, or that this /proc does not show.
    pub(crate) fn open(proc: BorrowedFd<'_>, pidfd: BorrowedFd<'_>) -> Result<Self, Errno> {
        let Some(pid) = look_up(proc, pidfd)? else { return Ok(Account(None)) };
        let file = match open_in(proc, &format!("{pid}/stat")) {
            Err(Errno::ENOENT | Errno::ESRCH) => return Ok(Account(None)),
            other => other?,
        };
        // A number is nobody else's as long as its process was not reaped.
        let same = !has_ended(pidfd) || look_up(proc, pidfd)? == Some(pid);
        Ok(Account(same.then_some(file)))
    }

    pub(crate) fn exec(&self, pidfd: BorrowedFd<'_>) -> Result<Exec, Errno> {
        let mut text = [0; 512];
        let length = match self.0.as_ref().map(|file| file.read_at(&mut text, 0)) {
            Some(Ok(length)) => length,
            Some(Err(error)) if errno_of(&error) != Errno::ESRCH => return Err(errno_of(&error)),
            // One that lives and that nobody shows was not killed.
            None if !has_ended(pidfd) => return Ok(Exec::Done),
            _ => return Ok(Exec::Gone),
        };
        let text = text.get(..length).unwrap_or(&[]);
        exec_of(&String::from_utf8_lossy(text)).ok_or(Errno::EPROTO)
    }
}

fn has_ended(pidfd: BorrowedFd<'_>) -> bool {
    sys::wait_readable(pidfd, Some(Duration::ZERO))
}

/// The end or the exec of a process whose socket is closed, by its proc_pid_stat(5).
fn exec_of(stat: &str) -> Option<Exec> {
    // The kernel's own flags of a process: it is ending; it has executed nothing since it was cloned.
    const PF_EXITING: u64 = 0x4;
    const PF_FORKNOEXEC: u64 = 0x40;
    let (head, tail) = stat.rsplit_once(") ")?;
    let (_, name) = head.split_once('(')?;
    let flags: u64 = tail.split(' ').nth(6)?.parse().ok()?;
    // Without a supervisor it has executed init before. The name is looked at last: it changes only
    // after the socket has closed, and a program can give itself any.
    let is_init =
        flags & PF_EXITING != 0 && BEFORE_EXEC.strip_suffix(b"\0\0\0") == Some(name.as_bytes());
    Some(if flags & PF_FORKNOEXEC != 0 || is_init { Exec::Never } else { Exec::Done })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exec_is_told_from_an_end() {
        let stat = |name, flags| exec_of(&format!("7 ({name}) Z 1 7 7 0 -1 {flags} 0 0"));
        for (name, flags, exec) in [
            ("sleep", 0x40_0100, Exec::Done),
            ("sleep", 0x40_0104, Exec::Done),
            ("stockade-init", 0x40_0140, Exec::Never),
            ("stockade-init", 0x40_0144, Exec::Never),
            ("stockade/exec", 0x40_0104, Exec::Never),
            // Alive, although the socket is closed: it gets its new name next.
            ("stockade/exec", 0x40_0100, Exec::Done),
            (") Z 1 7 7 0 -1 64 (", 0x40_0100, Exec::Done),
        ] {
            assert_eq!(stat(name, flags), Some(exec), "{name} {flags:x}");
        }
        assert_eq!(exec_of("7 (sleep"), None);
    }

    #[test]
    fn a_process_that_was_reaped_is_gone() {
        let proc = File::open("/proc").unwrap();
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let pidfd = sys::pidfd(child.id()).unwrap();
        let account = Account::open(proc.as_fd(), pidfd.as_fd()).unwrap();
        // The standard library goes on when the memory is another, a moment before.
        while account.exec(pidfd.as_fd()) == Ok(Exec::Never) {
            std::thread::yield_now();
        }
        assert_eq!(account.exec(pidfd.as_fd()), Ok(Exec::Done));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(account.exec(pidfd.as_fd()), Ok(Exec::Gone));
        let account = Account::open(proc.as_fd(), pidfd.as_fd()).unwrap();
        assert_eq!(account.exec(pidfd.as_fd()), Ok(Exec::Gone));
    }
}
