//! Making a sandbox: clone, maps, plan, and the undoing of all that if a step fails.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, socketpair,
};
use nix::sys::stat::Mode;

use crate::abi::SIGKILL;
use crate::capability::{Capability, CapabilitySet};
use crate::error::{Error, Result, Stage, quoted};
use crate::lower::Lowered;
use crate::namespace::{Namespaces, Source, user};
use crate::plan::Plan;
use crate::policy::Policy;
use crate::wire::{self, CHUNK, Call, HEADER, Header, MAGIC, Put, Report, VERSION, mode, report};
use crate::{executable, hint, launch as stage, sys, warden};

/// How long past its deadline a sandbox has to end itself before the warden or the handle does it.
pub(crate) const SLACK: Duration = Duration::from_millis(250);

/// A process that was launched, killed and reaped again unless it is [kept](Self::keep).
#[derive(Debug)]
pub(crate) struct Launched {
    pub(crate) pid: u32,
    pub(crate) pidfd: Arc<OwnedFd>,
    armed: bool,
}

impl Launched {
    /// Waits for an end that comes by itself.
    pub(crate) fn finish(&mut self) {
        sys::wait_readable(self.pidfd.as_fd(), None);
        self.armed = false;
        // ECHILD: the embedder ignores SIGCHLD or reaped it itself.
        if let Err(errno) = sys::reap(self.pidfd.as_fd()) {
            log::trace!("reaped elsewhere: {errno}");
        }
    }

    fn keep(mut self) -> (u32, Arc<OwnedFd>) {
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

/// Kills a sandbox's first process, and so all of it; one that has ended stays so.
pub(crate) fn kill(pidfd: BorrowedFd<'_>) {
    match sys::signal(pidfd, SIGKILL.try_into().unwrap_or(libc::SIGKILL)) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(errno) => log::error!("a sandbox cannot be killed: {errno}"),
    }
}

/// What init does need to make a sandbox; root's other capabilities do not reach it.
const NEEDED: [Capability; 14] = [
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
}

/// Clones and executes the init program in one of its modes.
pub(crate) fn launch(executable: &OwnedFd, wanted: Launch<'_>) -> Result<Launched> {
    let Launch { mode, flags, numbers, keep, capabilities } = wanted;
    let capabilities = NEEDED.into_iter().collect::<CapabilitySet>().union(capabilities).bits();
    let executable = executable.as_raw_fd();
    let mut arguments = vec![b"stockade-init\0".to_vec(), vec![mode, 0]];
    arguments.extend(numbers.iter().map(|number| format!("{number}\0").into_bytes()));
    let mut argv: Vec<_> = arguments.iter().map(|text| text.as_ptr()).collect();
    argv.push(std::ptr::null());
    let mut keep: Vec<_> = keep.iter().chain(numbers).copied().chain([executable]).collect();
    keep.sort_unstable();
    keep.dedup();
    let (envp, fault) = ([std::ptr::null()], None);
    let mut stage =
        stage::Stage { keep: &keep, executable, argv: &argv, envp, capabilities, fault };
    let cloned = sys::with_signals_blocked(|| sys::clone_stage(flags, &mut stage));
    let with_user = flags & crate::abi::CLONE_NEWUSER != 0;
    let (pid, pidfd) = cloned.and_then(|inner| inner).map_err(|errno| {
        let names = Namespaces::from_bits_truncate(u32::try_from(flags).unwrap_or(0));
        let error = Error::new(Stage::Launch, "clone", format!("({names})"), errno);
        error.with_hint(hint::for_clone(errno, with_user))
    })?;
    let mut launched = Launched { pid, pidfd: Arc::new(pidfd), armed: true };
    match stage.fault {
        None => Ok(launched),
        Some(fault) => {
            launched.finish();
            let errno = Errno::from_raw(fault.errno.0);
            let hint = match fault.call {
                Call::Exec => hint::for_memfd(errno),
                call => hint::for_operation(call.name(), "", errno),
            };
            let error = Error::new(Stage::Launch, fault.call.name(), "stockade-init", errno);
            Err(error.with_hint(hint))
        }
    }
}

/// What [`make`] is given besides the sandbox.
#[derive(Debug)]
pub(crate) struct Start<'a> {
    pub(crate) policy: &'a Policy,
    pub(crate) lowered: &'a Lowered,
    /// The detached trees that the plan has numbers for.
    pub(crate) trees: &'a [OwnedFd],
    /// The encoded program.
    pub(crate) program: Vec<u8>,
    /// Descriptors that the program gets, as the program part numbers them.
    pub(crate) descriptors: Vec<RawFd>,
    pub(crate) supervised: bool,
    /// All but the exec.
    pub(crate) check_only: bool,
}

/// A sandbox whose program runs.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) pid: u32,
    pub(crate) pidfd: Arc<OwnedFd>,
    pub(crate) control: OwnedFd,
    pub(crate) program: Option<OwnedFd>,
    pub(crate) inner_pid: u32,
    pub(crate) skipped: u64,
    pub(crate) warden_id: u64,
    pub(crate) started: Instant,
}

/// Why the program did not start, for the caller to put into words.
#[derive(Debug)]
pub(crate) enum Refused {
    Error(Error),
    /// Init's report about the start of the program.
    Start(Box<Report>),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Refused::Error(error)
    }
}

/// Makes the sandbox and starts its program.
pub(crate) fn make(start: &Start<'_>) -> Result<Made, Refused> {
    let began = Instant::now();
    let policy = start.policy;
    let mut executable = executable::open(policy.init_file.as_deref())?;
    // Declared first, dropped last: without its socket init ends, even if it cannot be killed.
    let (mut launched, message);
    let (lines, theirs) = Lines::new()?;
    (launched, message) =
        match (launch_first(start, &executable, &lines, &theirs), &policy.init_file) {
            // Memory that may be made executable may still not be executed (SELinux).
            (Err(error), Some(file)) if is_forbidden_exec(&error) => {
                executable = executable::in_file(file)?;
                launch_first(start, &executable, &lines, &theirs)
            }
            (other, _) => other,
        }?;
    // Init has it now; an end of init's must be one here.
    drop(theirs);
    log::debug!("launch: init is {}, in {:?}", launched.pid, began.elapsed());
    let joining = Instant::now();
    if policy.joined.is_empty() {
        send_plan(&lines, start, &launched)?;
    }
    let deadline = policy.wall.map_or(0, |wall| {
        sys::monotonic_after(wall.saturating_add(policy.grace).saturating_add(SLACK))
    });
    let shared = !policy.has_own_pids();
    let mut warden_id = warden::watch(&executable, &launched.pidfd, deadline, shared)?;
    if !policy.joined.is_empty() {
        launched = join(start, &lines, launched, &message)?;
        send_plan(&lines, start, &launched)?;
        warden_id = warden::watch(&executable, &launched.pidfd, deadline, shared)?;
        log::debug!("join: {} in {:?}", policy.joined_namespaces(), joining.elapsed());
    }
    let mapping = Instant::now();
    map_ids(start, &lines, &launched)
        // The plan waits for this: from here on the warden knows of the sandbox.
        .and_then(|()| transmit(&lines, &[0], &launched, Stage::Setup))
        .map_err(|error| match receive_now(lines.ours.as_fd()) {
            // Init has failed before.
            Some(Received::Report(failure, _)) => failed_report(start, &failure),
            _ => Refused::Error(error),
        })?;
    log::debug!("identity: id maps in {:?}", mapping.elapsed());
    let (ready, program) = await_start(start, &lines, &launched)?;
    let (pid, pidfd) = launched.keep();
    Ok(Made {
        pid,
        pidfd,
        control: lines.ours,
        program,
        inner_pid: u32::try_from(ready.numbers[0]).unwrap_or(0),
        skipped: ready.numbers[1],
        warden_id,
        started: began,
    })
}

pub(crate) fn is_forbidden_exec(error: &Error) -> bool {
    error.failed().is_some_and(|failed| {
        failed.operation == Call::Exec.name() && failed.errno == Errno::EACCES
    })
}

/// The descriptors between the embedder and init.
#[derive(Debug)]
struct Lines {
    ours: OwnedFd,
    embedder: OwnedFd,
    proc: OwnedFd,
}

impl Lines {
    fn new() -> Result<(Self, OwnedFd)> {
        let failed = |operation, object: &'static str| {
            move |errno| Error::new(Stage::Launch, operation, object, errno)
        };
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
                .map_err(failed("socketpair", ""))?;
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let embedder = sys::own_pidfd()
            .map_err(failed("pidfd_open", "of the caller"))
            .map_err(Error::explained)?;
        let proc = open("/proc", flags, Mode::empty()).map_err(failed("open", "\"/proc\""))?;
        Ok((Lines { ours, embedder, proc }, theirs))
    }
}

/// Launches init, or who joins for it, and then returns what that is to be told.
fn launch_first(
    start: &Start<'_>,
    executable: &OwnedFd,
    lines: &Lines,
    theirs: &OwnedFd,
) -> Result<(Launched, Vec<u8>)> {
    let numbers = [theirs.as_raw_fd(), lines.embedder.as_raw_fd()];
    let mut keep = start.descriptors.clone();
    keep.push(lines.proc.as_raw_fd());
    keep.extend(start.trees.iter().map(AsRawFd::as_raw_fd));
    let new = start.policy.new_namespaces();
    let capabilities = start.policy.capabilities.bounding();
    if start.policy.joined.is_empty() {
        let flags = new.at_clone();
        let (mode, numbers, keep) = (mode::INIT, &numbers, &keep);
        let launch = launch(executable, Launch { mode, flags, numbers, keep, capabilities });
        return launch.map(|launched| (launched, Vec::new()));
    }
    let opened = open_joined(start.policy)?;
    keep.extend(opened.iter().map(|(fd, _)| fd.as_raw_fd()));
    let (mode, numbers, keep) = (mode::JOIN, &numbers, &keep);
    let launched = launch(executable, Launch { mode, flags: 0, numbers, keep, capabilities })?;
    let mut message = wire::Join { namespaces: [(-1, 0); wire::JOIN_MAX], flags: 0 };
    for (to, (fd, kind)) in message.namespaces.iter_mut().zip(&opened) {
        *to = (fd.as_raw_fd(), kind.bits());
    }
    message.flags = new.at_clone() as u64;
    let mut bytes = Vec::new();
    message.put(&mut bytes);
    Ok((launched, bytes))
}

/// Opens what is to be joined, in the caller's own context.
fn open_joined(policy: &Policy) -> Result<Vec<(OwnedFd, Namespaces)>> {
    let mut opened = Vec::new();
    for (kind, existing) in &policy.joined {
        let fd = match &existing.0 {
            Source::Path(path) => open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
                .map_err(|errno| Error::new(Stage::Join, "open", quoted(path), errno))?,
            Source::Fd(fd) => fd.try_clone().map_err(|error| {
                Error::new(Stage::Join, "dup", "", executable::errno_of(&error))
            })?,
        };
        opened.push((fd, *kind));
    }
    Ok(opened)
}

/// Waits until the joining process has made the sandbox's first one, and reaps it.
fn join(
    start: &Start<'_>,
    lines: &Lines,
    mut joiner: Launched,
    message: &[u8],
) -> Result<Launched, Refused> {
    transmit(lines, message, &joiner, Stage::Join)?;
    let answer = next_report(lines, &joiner, Stage::Join);
    joiner.finish();
    match answer {
        Ok((answer, mut fds)) if answer.kind == report::JOINED && !fds.is_empty() => {
            let pidfd = fds.swap_remove(0);
            let pid = pid_of(lines, &pidfd).unwrap_or(0);
            Ok(Launched { pid, pidfd: Arc::new(pidfd), armed: true })
        }
        other => {
            // The sandbox's first process may be there all the same, a child of the caller's.
            if let Some(Received::Report(_, fds)) = receive_now(lines.ours.as_fd()) {
                let made = |pidfd| Launched { pid: 0, pidfd: Arc::new(pidfd), armed: true };
                fds.into_iter().map(made).for_each(drop);
            }
            Err(other.map_or_else(Refused::Error, |(answer, _)| failed_report(start, &answer)))
        }
    }
}

/// The pid by which a /proc knows a process: the caller's may belong to another pid namespace than
/// the caller does.
pub(crate) fn pid_in(proc: BorrowedFd<'_>, launched: &Launched) -> Option<u32> {
    let own = nix::fcntl::readlinkat(proc, "self").ok()?;
    if own.to_str().and_then(|text| text.parse().ok()) == Some(std::process::id()) {
        return Some(launched.pid);
    }
    pid_of_pidfd(proc, launched.pidfd.as_fd())
}

/// The pid that a pidfd stands for, by that /proc.
pub(crate) fn pid_of_pidfd(proc: BorrowedFd<'_>, pidfd: BorrowedFd<'_>) -> Option<u32> {
    let path = format!("self/fdinfo/{}", pidfd.as_raw_fd());
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let file = nix::fcntl::openat(proc, path.as_str(), flags, Mode::empty()).ok()?;
    let text = std::io::read_to_string(std::fs::File::from(file)).ok()?;
    text.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok())
}

fn pid_of(lines: &Lines, pidfd: &OwnedFd) -> Option<u32> {
    pid_of_pidfd(lines.proc.as_fd(), pidfd.as_fd())
}

/// Writes the id maps. The directory is opened first and the process looked at again: a pid whose
/// process was reaped elsewhere may be somebody else's by now.
fn map_ids(start: &Start<'_>, lines: &Lines, launched: &Launched) -> Result<()> {
    if !start.policy.new_namespaces().contains(Namespaces::USER) {
        return Ok(());
    }
    let failed =
        |errno| Error::new(Stage::Identity, "open", format!("\"/proc/{}\"", launched.pid), errno);
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let pid = pid_in(lines.proc.as_fd(), launched).ok_or_else(|| failed(Errno::ESRCH))?;
    let path = pid.to_string();
    let process =
        nix::fcntl::openat(&lines.proc, path.as_str(), flags, Mode::empty()).map_err(failed)?;
    if sys::wait_readable(launched.pidfd.as_fd(), Some(Duration::ZERO)) {
        return Err(failed(Errno::ESRCH));
    }
    user::write_maps(process.as_fd(), start.lowered.ids)
}

fn send_plan(lines: &Lines, start: &Start<'_>, launched: &Launched) -> Result<()> {
    let setup = start.lowered.plan.encode(start.trees);
    let header = Header {
        magic: MAGIC,
        version: VERSION,
        setup: setup.len() as u64,
        program: start.program.len() as u64,
        proc_fd: lines.proc.as_raw_fd(),
    };
    let mut bytes = Vec::with_capacity(HEADER);
    header.put(&mut bytes);
    transmit(lines, &bytes, launched, Stage::Setup)?;
    let mut parts = [setup.as_slice(), start.program.as_slice()];
    while parts.iter().any(|part| !part.is_empty()) {
        let sent = {
            let first = parts[0].len().min(CHUNK);
            let second = parts[1].len().min(CHUNK - first);
            let slices = [IoSlice::new(&parts[0][..first]), IoSlice::new(&parts[1][..second])];
            transmit_slices(lines, &slices, launched, Stage::Setup)?;
            [first, second]
        };
        parts = [&parts[0][sent[0]..], &parts[1][sent[1]..]];
    }
    Ok(())
}

fn transmit(lines: &Lines, bytes: &[u8], launched: &Launched, stage: Stage) -> Result<()> {
    transmit_slices(lines, &[IoSlice::new(bytes)], launched, stage)
}

/// Sends one message; waits while the socket is full, as long as init lives.
fn transmit_slices(
    lines: &Lines,
    slices: &[IoSlice<'_>],
    launched: &Launched,
    stage: Stage,
) -> Result<()> {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    loop {
        let sent =
            nix::sys::socket::sendmsg::<()>(lines.ours.as_raw_fd(), slices, &[], flags, None);
        match sent {
            Ok(_) => return Ok(()),
            Err(Errno::EAGAIN) => {
                let mut set = [
                    PollFd::new(lines.ours.as_fd(), PollFlags::POLLOUT),
                    PollFd::new(launched.pidfd.as_fd(), PollFlags::POLLIN),
                ];
                let waited = poll(&mut set, PollTimeout::NONE);
                let ended = set[1].revents().is_some_and(|seen| !seen.is_empty());
                if ended || waited.is_err_and(|errno| errno != Errno::EINTR) {
                    return Err(init_died(launched, stage));
                }
            }
            Err(Errno::EINTR) => {}
            Err(Errno::EPIPE | Errno::ECONNRESET) => return Err(init_died(launched, stage)),
            Err(errno) => return Err(Error::new(stage, "send plan", "to init", errno)),
        }
    }
}

fn init_died(launched: &Launched, stage: Stage) -> Error {
    let object = format!("(process {} ended unexpectedly)", launched.pid);
    Error::new(stage, "talk to init", object, Errno::ESRCH)
}

/// Waits for init's word about the program.
fn await_start(
    start: &Start<'_>,
    lines: &Lines,
    launched: &Launched,
) -> Result<(Report, Option<OwnedFd>), Refused> {
    let waiting = Instant::now();
    let (answer, mut fds) = next_report(lines, launched, Stage::Setup)?;
    if answer.kind != report::READY {
        return Err(failed_report(start, &answer));
    }
    let program = if start.supervised { fds.pop() } else { None };
    // The kernel drops a descriptor that a caller at its limit has no room for.
    let (Some(starting), true) = (fds.pop(), program.is_some() == start.supervised) else {
        return Err(unheard(Stage::Start, Errno::EMFILE).into());
    };
    log::debug!("setup: waited {:?} for init", waiting.elapsed());
    let starting_at = Instant::now();
    // The kernel closes this socket's other end at a successful exec.
    let word = receive(starting.as_fd(), launched);
    log::debug!("start: waited {:?} for the exec", starting_at.elapsed());
    match word {
        Received::Report(report, _) if start.check_only && report.kind == report::READY => {
            Ok((answer, program))
        }
        Received::Closed | Received::Ended if !start.check_only => Ok((answer, program)),
        // What it was last told is unread, or it has not told what it should.
        Received::Closed | Received::Ended | Received::Reset => {
            let object = "(its process ended before that)";
            Err(Error::new(Stage::Start, "exec", object, Errno::ESRCH).into())
        }
        Received::Report(failure, _) => Err(failed_report(start, &failure)),
        Received::Failed(errno) => Err(unheard(Stage::Start, errno).into()),
    }
}

fn unheard(stage: Stage, errno: Errno) -> Error {
    Error::new(stage, "recvmsg", "from init", errno)
}

fn failed_report(start: &Start<'_>, failure: &Report) -> Refused {
    let [index, call, errno, detail, ..] = failure.numbers;
    let call = Call::from_number(call).map_or("set up", Call::name);
    let errno = Errno::from_raw(i32::try_from(errno).unwrap_or(libc::EPROTO));
    if failure.kind != report::FAILED {
        return Error::new(Stage::Setup, "understand init", "", Errno::EPROTO).into();
    }
    match index {
        report::START => Refused::Start(Box::new(*failure)),
        report::LAUNCH => {
            let joined = usize::try_from(detail).ok().and_then(|at| start.policy.joined.get(at));
            let object = joined.map_or_else(String::new, |(kind, _)| kind.to_string());
            let hint = hint::for_operation(call, &object, errno);
            Error::new(Stage::Join, call, object, errno).with_hint(hint).into()
        }
        _ => operation_failed(&start.lowered.plan, index, call, errno).into(),
    }
}

fn operation_failed(plan: &Plan, index: u64, call: &'static str, errno: Errno) -> Error {
    let object = plan.step(index).map_or_else(String::new, |step| step.op.object());
    let hint = hint::for_operation(call, &object, errno);
    Error::new(Stage::Setup, call, object, errno).with_hint(hint)
}

fn next_report(lines: &Lines, launched: &Launched, stage: Stage) -> Result<(Report, Vec<OwnedFd>)> {
    match receive(lines.ours.as_fd(), launched) {
        Received::Report(report, fds) => Ok((*report, fds)),
        Received::Closed | Received::Reset | Received::Ended => Err(init_died(launched, stage)),
        Received::Failed(errno) => Err(unheard(stage, errno)),
    }
}

/// What came over the control socket.
#[derive(Debug)]
pub(crate) enum Received {
    Report(Box<Report>, Vec<OwnedFd>),
    Closed,
    /// Closed, and the other side had not read everything.
    Reset,
    /// Init has ended.
    Ended,
    /// Nobody knows: not to be taken for an end.
    Failed(Errno),
}

/// Waits for a report, the socket's end or the end of init.
fn receive(control: BorrowedFd<'_>, launched: &Launched) -> Received {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    loop {
        if let Some(received) = receive_now(control) {
            return received;
        }
        let mut set = [
            PollFd::new(control, PollFlags::POLLIN),
            PollFd::new(launched.pidfd.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut set, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Received::Failed(errno),
        }
        let ended = set[1].revents().is_some_and(|seen| !seen.is_empty());
        if ended {
            // Its last words are in the socket before its end is seen.
            return receive_now(control).unwrap_or(Received::Ended);
        }
    }
}

/// A report that is there already.
pub(crate) fn receive_now(control: BorrowedFd<'_>) -> Option<Received> {
    match receive_once(control) {
        // The kernel tells this before what it has kept of the other side's words.
        Some(Received::Reset) => match receive_once(control) {
            Some(Received::Closed) | None => Some(Received::Reset),
            other => other,
        },
        other => other,
    }
}

fn receive_once(control: BorrowedFd<'_>) -> Option<Received> {
    let mut bytes = [0; wire::REPORT + 1];
    let mut space = nix::cmsg_space!([RawFd; 2]);
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let (length, fds) = {
        let mut slices = [IoSliceMut::new(&mut bytes)];
        let raw = control.as_raw_fd();
        match recvmsg::<()>(raw, &mut slices, Some(&mut space), flags) {
            Err(Errno::EAGAIN | Errno::EINTR) => return None,
            Err(Errno::ECONNRESET) => return Some(Received::Reset),
            Err(errno) => return Some(Received::Failed(errno)),
            Ok(message) => (message.bytes, message.cmsgs().map_or(Vec::new(), descriptors)),
        }
    };
    if length == 0 {
        return Some(Received::Closed);
    }
    let report = bytes.get(..length).and_then(Report::from_bytes);
    let unreadable = Received::Failed(Errno::EPROTO);
    Some(report.map_or(unreadable, |report| Received::Report(Box::new(report), fds)))
}

/// The descriptors that came with a message; each is closed with the vector.
fn descriptors(messages: nix::sys::socket::CmsgIterator<'_>) -> Vec<OwnedFd> {
    let mut fds = Vec::new();
    for message in messages {
        if let ControlMessageOwned::ScmRights(numbers) = message {
            fds.extend(numbers.into_iter().map(sys::received));
        }
    }
    fds
}
