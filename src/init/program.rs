//! The program's process as init sees it: its start, its help, and its exec.

mod child;
mod descriptors;
mod landlock;

use core::sync::atomic::{AtomicU32, Ordering};

use crate::abi::*;
use crate::plan::Lines;
use crate::raw::exit;
use crate::supervise;
use crate::sys::{self, Ended, Fd, Outcome, fault};
use crate::tree::{self, Watched};
#[cfg(not(session))]
use crate::wire::BEFORE_EXEC;
use crate::wire::{
    CALLER_LISTENS, CHECK_ONLY, Call, FILTERS_LAST, Fault, LISTENS, OWN_PIDS, PARKED, PTY, Program,
    REPORT, SUPERVISED, Text, Texts, report,
};
#[cfg(session)]
use child::bind_itself;
use child::{Tables, become_the_program, carry_out};
pub(crate) use descriptors::descriptors;

/// The library's description of the program, as init reads it.
pub(crate) type Wanted<'a> = Program<Text<'a>, Texts<'a>>;

/// Tells the program's process that everything is there.
const GO: &[u8] = b"g";

/// Why the program did not start: the operation or [`report::START`], the fault, which of several,
/// and the file of which something is missing.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) index: u64,
    pub(crate) fault: Fault,
    pub(crate) detail: u64,
    pub(crate) file: Option<Fd>,
}

impl Failure {
    pub(crate) const fn new(fault: Fault) -> Self {
        Failure { index: report::START, fault, detail: 0, file: None }
    }

    fn number(fault: Fault, detail: usize) -> Self {
        Failure { detail: detail as u64, ..Failure::new(fault) }
    }

    /// Tells it, and ends the process.
    pub(crate) fn end(&self, lines: Lines) -> ! {
        let file = self.file.as_ref().map(|file| file.0);
        lines.fail(self.index, self.fault, self.detail, file.as_slice())
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Failure::new(fault)
    }
}

/// A started program, and what its supervisor needs to know.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) pid: i32,
    pub(crate) child_signals: Fd,
    pub(crate) started: u64,
    /// Closes at the exec, with which the wall time begins; -1 if nothing is to be done then.
    pub(crate) exec: Fd,
    /// What the library is told then.
    pub(crate) unsaid: Option<Unsaid>,
    /// What its filter asks with, or -1.
    pub(crate) listener: Fd,
    pub(crate) told: &'static Told,
    pub(crate) flags: u32,
    /// Whether another program may come.
    #[cfg(session)]
    pub(crate) goes_on: bool,
    pub(crate) wall: u64,
    pub(crate) grace: u64,
    pub(crate) linger: u64,
    pub(crate) cpu_time: u64,
    pub(crate) cpus: u32,
    pub(crate) cpu_fd: i32,
}

/// What the library is told when the program has been executed.
#[derive(Debug)]
pub(crate) struct Unsaid {
    pub(crate) pidfd: Fd,
    pub(crate) skipped: u64,
}

/// What is done while the program is being started: an operation's index, and the mark of what may
/// fail.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Late {
    pub(crate) index: u64,
    pub(crate) optional: u32,
}

/// What came of the operations.
#[derive(Debug)]
pub(crate) struct Done<'a> {
    /// The marks of what failed and may.
    pub(crate) skipped: u64,
    pub(crate) late: Option<Late>,
    pub(crate) root: Fd,
    pub(crate) watched: &'a Watched,
    /// Landlock's, where they were made before there was a program.
    pub(crate) rules: Option<Fd>,
}

/// The program's process, while it sets itself up and then waits.
#[derive(Debug)]
pub(crate) struct Process {
    pid: i32,
    pidfd: Fd,
    /// Our end of the socket that closes at its exec.
    starting: Fd,
    told: &'static Told,
}

impl Process {
    /// Enters the network namespace that it has made by now, or soon.
    pub(crate) fn join_network(&self, lines: Lines) -> Outcome {
        match self.hear(lines)? {
            Some(namespace) => sys::setns(namespace.0, CLONE_NEWNET).map(drop),
            None => fault(Call::Helper, ESRCH),
        }
    }

    /// A descriptor that it hands over, or none at its end. If it failed, the sandbox has; and if the
    /// embedder is gone, it is over.
    fn hear(&self, lines: Lines) -> Outcome<Option<Fd>> {
        if !(Lines { control: self.starting.0, ..lines }).sleep() {
            exit(1);
        }
        let mut word = [0; REPORT];
        match sys::receive(self.starting.0, &mut word, &mut [], 0)? {
            (0, _) => Ok(None),
            (REPORT, _) => lines.end_with(&word, &[]),
            // The kernel drops what there is no room for.
            (_, None) => fault(Call::Receive, EMFILE),
            (_, handed) => Ok(handed),
        }
    }

    /// What its filter asks with, unless that goes to the library.
    #[inline(never)]
    fn listener(&self, lines: Lines, flags: u32) -> Outcome<Fd> {
        let Some(listener) = self.hear(lines)? else { return fault(Call::Start, ESRCH) };
        if flags & CALLER_LISTENS == 0 {
            return Ok(listener);
        }
        sys::tell(lines.control, report::KEPT, [report::LISTENER, 0], &[listener.0])?;
        Ok(Fd(-1))
    }

    /// Waits until it has helped.
    fn finish(self, lines: Lines) -> Outcome {
        while self.hear(lines)?.is_some() {}
        match sys::wait(self.let_go().0, 0)? {
            Some(Ended { code: CLD_EXITED, status: 0, .. }) => Ok(()),
            // It has not told why: it was killed, and part of its work may be missing.
            _ => fault(Call::Helper, ESRCH),
        }
    }

    /// It has ended. A report of its own tells why; without one it was killed.
    fn has_told(&self) -> Outcome {
        match sys::receive(self.starting.0, &mut [0], &mut [], MSG_PEEK | MSG_DONTWAIT) {
            Ok((1.., _)) => Ok(()),
            _ => fault(Call::Start, ESRCH),
        }
    }

    /// From here on it is the program.
    fn let_go(mut self) -> (i32, Fd, Fd) {
        let pid = core::mem::take(&mut self.pid);
        let [starting, pidfd] =
            [&mut self.starting, &mut self.pidfd].map(|fd| core::mem::replace(fd, Fd(-1)));
        (pid, starting, pidfd)
    }
}

impl Drop for Process {
    /// Where the start fails it must not go on; it need not end with init.
    fn drop(&mut self) {
        if self.pid != 0 {
            let _ended = sys::signal_pidfd(self.pidfd.0, SIGKILL);
        }
    }
}

/// What that process finds in the memory that it shares.
struct Child {
    wanted: &'static Wanted<'static>,
    tables: Tables,
    lines: Lines,
    proc_fd: i32,
    told: Told,
}

/// Why the exec failed, for init to read in the memory that both share.
#[derive(Debug)]
pub(crate) struct Told(AtomicU32, AtomicU32);

impl Told {
    fn set(&self, failure: &Failure) {
        self.1.store(failure.detail as u32, Ordering::Relaxed);
        let Fault { call, errno } = failure.fault;
        self.0.store((call as u32) << 16 | errno.0 as u32, Ordering::Release);
    }

    /// The call, its errno, and which of several.
    pub(crate) fn get(&self) -> Option<[u64; 3]> {
        let fault = u64::from(self.0.load(Ordering::Acquire));
        let detail = u64::from(self.1.load(Ordering::Relaxed));
        (fault != 0).then_some([fault >> 16, fault & 0xffff, detail])
    }
}

/// Starts the program's process, or without a supervisor one that only does the program's own
/// operations. It has what init has, and gives up what the program must not have.
pub(crate) fn launch(
    lines: Lines,
    proc_fd: i32,
    wanted: &'static Wanted<'static>,
) -> Outcome<Process> {
    let (starting, ours) = sys::socketpair()?;
    let tables = Tables::new(wanted)?;
    let lines = Lines { control: ours.0, ..lines };
    let told = Told(AtomicU32::new(0), AtomicU32::new(0));
    let child = Child { wanted, tables, lines, proc_fd, told };
    // Who cannot say why its exec has failed needs memory that is shared before Linux 6.2, too.
    let child = if wanted.flags & FILTERS_LAST == 0 { sys::keep } else { sys::share }(child)?;
    let (pid, pidfd) = sys::clone_program(child_entry, (&raw const *child).cast_mut().cast())
        .map_err(|errno| Fault { call: Call::Clone, errno })?;
    Ok(Process { pid, pidfd: Fd(pidfd), starting, told: &child.told })
}

/// Its first and only function, on a stack of its own in init's memory.
extern "C" fn child_entry(argument: *mut u8) -> ! {
    let Child { wanted, tables, lines, proc_fd, told } =
        sys::argument(argument.cast_const().cast());
    match carry_out(wanted, lines.control, *proc_fd) {
        Err(failure) => failure.end(*lines),
        Ok(()) if wanted.flags & SUPERVISED == 0 => exit(0),
        Ok(()) => become_the_program(*lines, wanted, tables, Some(told)),
    }
}

/// Lets the program go, and looks after it to its end; or becomes the program.
pub(crate) fn start(
    lines: Lines,
    proc_fd: i32,
    wanted: &'static Wanted<'static>,
    process: Option<Process>,
    done: &Done<'_>,
) -> Result<(), Failure> {
    sys::prctl(Call::Dumpable, PR_SET_DUMPABLE, 0, 0)?;
    if wanted.flags & OWN_PIDS == 0 {
        // Orphans come to init, although it is no PID 1.
        sys::prctl(Call::Subreaper, PR_SET_CHILD_SUBREAPER, 1, 0)?;
    }
    // Whoever waits for programs looks after them.
    #[cfg(not(session))]
    if wanted.flags & SUPERVISED == 0 {
        match process {
            Some(helper) => helper.finish(lines)?,
            None => carry_out(wanted, lines.control, proc_fd)?,
        }
        let tables = Tables::new(wanted)?;
        let (theirs, ours) = sys::socketpair()?;
        // As a supervisor would.
        let (rules, _mount) = landlock::ruleset(wanted)?;
        give_word(theirs.0, rules.as_ref())?;
        announce(lines, [1, done.skipped], &[theirs.0, done.root.0])?;
        drop(theirs);
        sys::set_name(BEFORE_EXEC)?;
        become_the_program(Lines { control: ours.0, ..lines }, wanted, &tables, None)
    }
    let process = match process {
        Some(process) => process,
        None => launch(lines, proc_fd, wanted)?,
    };
    supervised(lines, proc_fd, wanted, process, done)
}

/// Does what [`start`] does to a program, to an init that waits for programs: they have it from there. If there is to
/// be one only, Landlock's rules are for that.
#[cfg(session)]
pub(crate) fn bind(
    lines: Lines,
    proc_fd: i32,
    wanted: &'static Wanted<'static>,
    process: Option<Process>,
) -> Result<Option<Fd>, Failure> {
    sys::prctl(Call::Dumpable, PR_SET_DUMPABLE, 0, 0)?;
    match process {
        Some(helper) => helper.finish(lines)?,
        None => carry_out(wanted, lines.control, proc_fd)?,
    }
    let (rules, _mount) = landlock::ruleset(wanted)?;
    bind_itself(wanted)?;
    if wanted.flags & crate::wire::ONCE != 0 {
        return Ok(rules);
    }
    // All programs are to be bound by the same rules: those of one's own are a domain of one's own.
    landlock::restrict(wanted, rules)?;
    Ok(None)
}

/// Lets the program go, with the rules that bind it.
fn give_word(starting: i32, rules: Option<&Fd>) -> Outcome {
    let ruleset = rules.map(|ruleset| ruleset.0);
    sys::send(starting, GO, ruleset.as_slice())
}

/// Says that the sandbox is complete. With it goes a socket that closes at exec, which is how the
/// library knows of it: not the control socket, which a forked copy of the embedder may hold open.
/// Then comes the root, or -1, unless the sandbox has waited and told it.
pub(crate) fn announce(lines: Lines, numbers: [u64; 2], fds: &[i32]) -> Outcome {
    sys::tell(lines.control, report::READY, numbers, fds)
}

/// With init as PID 1, which does not wait for the exec.
fn supervised(
    lines: Lines,
    proc_fd: i32,
    wanted: &Wanted<'_>,
    process: Process,
    done: &Done<'_>,
) -> Result<(), Failure> {
    let (mut skipped, late) = (done.skipped, done.late);
    let child_signals = sys::child_signals()?;
    let started = sys::now();
    // What may not fail comes before the program runs.
    if let Some(Late { index, .. }) = late.filter(|late| late.optional == 0) {
        tree::forbid_nesting(proc_fd).map_err(|fault| Failure { index, ..Failure::new(fault) })?;
    }
    let listener =
        if wanted.flags & LISTENS == 0 { Fd(-1) } else { process.listener(lines, wanted.flags)? };
    let (made, _mount) = match done.rules {
        Some(_) => (None, None),
        None => landlock::ruleset(wanted)?,
    };
    let rules = done.rules.as_ref().or(made.as_ref());
    if let Some(made_before) = &done.rules {
        landlock::add(made_before, wanted)?;
    }
    match give_word(process.starting.0, rules) {
        Err(Fault { errno, .. }) if errno.0 == EPIPE => process.has_told()?,
        other => other?,
    }
    let optional = late.map_or(0, |late| late.optional);
    if optional != 0 && tree::forbid_nesting(proc_fd).is_err() {
        skipped |= 1 << (optional - 1);
    }
    // What is kept is the program's.
    sys::capset(0, 0, 0)?;
    // Of one that needs no answer before its exec, the exec is soon enough.
    let waits = !cfg!(session) || wanted.flags & (PARKED | PTY | LISTENS | CHECK_ONLY) != PARKED;
    if waits {
        let fds = [process.starting.0, process.pidfd.0, done.root.0];
        // Of a sandbox that has waited, the root is known.
        let fds = if cfg!(session) && wanted.flags & PARKED != 0 { &fds[..2] } else { &fds[..] };
        announce(lines, [process.pid as u64, skipped], fds)?;
    }
    let told = process.told;
    let (pid, mut exec, pidfd) = process.let_go();
    let unsaid = (!waits).then_some(Unsaid { pidfd, skipped });
    for (source, _) in descriptors(wanted) {
        sys::close(source);
    }
    let Program { flags, wall, grace, linger, cpu_time, cpus, cpu_fd, .. } = *wanted;
    if wall == 0 && unsaid.is_none() {
        exec = Fd(-1);
    }
    let running = Running {
        pid,
        child_signals,
        started,
        exec,
        unsaid,
        listener,
        told,
        flags,
        #[cfg(session)]
        goes_on: goes_on(wanted),
        wall,
        grace,
        linger,
        cpu_time,
        cpus,
        cpu_fd,
    };
    supervise::run(lines, proc_fd, running, done.watched);
    Ok(())
}

/// Whether who looks after this program of a session can start another: what is kept for a program is given up with
/// its start.
#[cfg(session)]
fn goes_on(wanted: &Wanted<'_>) -> bool {
    let Program { permitted, inheritable, ambient, .. } = *wanted;
    wanted.flags & (PARKED | crate::wire::ONCE) == PARKED && permitted | inheritable | ambient == 0
}
