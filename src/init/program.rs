//! The program's process, from its start to its exec.

use core::convert::Infallible;
use core::sync::atomic::{AtomicU32, Ordering};

use crate::abi::*;
use crate::plan::{self, Lines};
use crate::raw::{Errno, exit};
use crate::supervise;
use crate::sys::{self, Ended, Fd, Outcome, fault};
use crate::tree::{self, Tree, Watched};
use crate::wire::{
    BEFORE_EXEC, CHECK_ONLY, CONTROLLING_TERMINAL, Call, DESCRIPTORS_MAX, FILTERS_LAST, Fault,
    NEW_PRIVILEGES, OWN_PIDS, Op, PTY, Program, REPORT, Reader, SUPERVISED, Text, Texts, report,
};

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
    /// Closes at the exec, with which the wall time begins; -1 without one.
    pub(crate) exec: Fd,
    pub(crate) told: &'static Told,
    pub(crate) flags: u32,
    pub(crate) wall: u64,
    pub(crate) grace: u64,
    pub(crate) linger: u64,
    pub(crate) cpu_time: u64,
    pub(crate) cpus: u32,
    pub(crate) cpu_fd: i32,
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
    fn let_go(mut self) -> (i32, Fd) {
        (core::mem::take(&mut self.pid), core::mem::replace(&mut self.starting, Fd(-1)))
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
    let child = sys::keep(Child { wanted, tables, lines, proc_fd, told })?;
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

/// Lets the program go, and looks after it; or becomes the program.
pub(crate) fn start(
    lines: Lines,
    proc_fd: i32,
    wanted: &'static Wanted<'static>,
    process: Option<Process>,
    done: &Done<'_>,
) -> Result<Infallible, Failure> {
    sys::prctl(Call::Dumpable, PR_SET_DUMPABLE, 0, 0)?;
    if wanted.flags & OWN_PIDS == 0 {
        // Orphans come to init, although it is no PID 1.
        sys::prctl(Call::Subreaper, PR_SET_CHILD_SUBREAPER, 1, 0)?;
    }
    if wanted.flags & SUPERVISED == 0 {
        match process {
            Some(helper) => helper.finish(lines)?,
            None => carry_out(wanted, lines.control, proc_fd)?,
        }
        let tables = Tables::new(wanted)?;
        let (theirs, ours) = sys::socketpair()?;
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

/// The five capability sets, the securebits and `no_new_privs`; the order is S2.4's.
fn privileges(wanted: &Wanted<'_>) -> Result<(), Failure> {
    for capability in 0..64usize {
        let keep = wanted.bounding >> capability & 1 != 0;
        let known = keep
            || drop_bounding(capability).map_err(|fault| Failure::number(fault, capability))?;
        if !known {
            break;
        }
    }
    let all = sys::permitted()?;
    sys::capset(all, all, wanted.inheritable)?;
    sys::prctl(Call::Ambient, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0)?;
    for capability in (0..64usize).filter(|bit| wanted.ambient >> bit & 1 != 0) {
        sys::prctl(Call::Ambient, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability)
            .map_err(|fault| Failure::number(fault, capability))?;
    }
    sys::prctl(Call::Securebits, PR_SET_SECUREBITS, wanted.securebits as usize, 0)?;
    sys::capset(wanted.effective, wanted.permitted, wanted.inheritable)?;
    if wanted.flags & NEW_PRIVILEGES == 0 {
        sys::prctl(Call::NoNewPrivileges, PR_SET_NO_NEW_PRIVS, 1, 0)?;
    }
    Ok(())
}

/// Drops one capability from the bounding set; `false` when the kernel knows no such number.
fn drop_bounding(capability: usize) -> Outcome<bool> {
    match sys::prctl(Call::Bounding, PR_CAPBSET_DROP, capability, 0) {
        Ok(()) => Ok(true),
        Err(Fault { errno, .. }) if errno.0 == EINVAL => Ok(false),
        Err(other) => Err(other),
    }
}

/// Pairs of a descriptor of init's and its number in the program.
fn descriptors<'a>(wanted: &Wanted<'a>) -> impl Iterator<Item = (i32, i32)> + use<'a> {
    let mut pairs = Reader::new(wanted.descriptors.bytes());
    core::iter::from_fn(move || Some((pairs.next()?, pairs.next()?)))
}

/// Says that the sandbox is complete. With it goes a socket that closes at exec, which is how the
/// library knows of it: not the control socket, which a forked copy of the embedder may hold open.
/// The last descriptor is that of the root, or -1.
fn announce(lines: Lines, numbers: [u64; 2], fds: &[i32]) -> Outcome {
    sys::tell(lines.control, report::READY, numbers, fds)
}

/// The argument and environment vectors.
struct Tables {
    argv: &'static [*const u8],
    envp: &'static [*const u8],
}

impl Tables {
    fn new(wanted: &Wanted<'_>) -> Outcome<Self> {
        Ok(Tables { argv: sys::pointers(wanted.argv)?, envp: sys::pointers(wanted.envp)? })
    }
}

/// With init as PID 1, which does not wait for the exec.
fn supervised(
    lines: Lines,
    proc_fd: i32,
    wanted: &Wanted<'_>,
    process: Process,
    done: &Done<'_>,
) -> Result<Infallible, Failure> {
    let (mut skipped, late) = (done.skipped, done.late);
    let child_signals = sys::child_signals()?;
    let started = sys::now();
    // What may not fail comes before the program runs.
    if let Some(Late { index, .. }) = late.filter(|late| late.optional == 0) {
        tree::forbid_nesting(proc_fd).map_err(|fault| Failure { index, ..Failure::new(fault) })?;
    }
    match sys::send(process.starting.0, GO, &[]) {
        Err(Fault { errno, .. }) if errno.0 == EPIPE => process.has_told()?,
        other => other?,
    }
    let optional = late.map_or(0, |late| late.optional);
    if optional != 0 && tree::forbid_nesting(proc_fd).is_err() {
        skipped |= 1 << (optional - 1);
    }
    // What is kept is the program's.
    sys::capset(0, 0, 0)?;
    let fds = [process.starting.0, process.pidfd.0, done.root.0];
    announce(lines, [process.pid as u64, skipped], &fds)?;
    let told = process.told;
    let (pid, mut exec) = process.let_go();
    for (source, _) in descriptors(wanted) {
        sys::close(source);
    }
    let Program { flags, wall, grace, linger, cpu_time, cpus, cpu_fd, .. } = *wanted;
    if wall == 0 {
        exec = Fd(-1);
    }
    let running = Running {
        pid,
        child_signals,
        started,
        exec,
        told,
        flags,
        wall,
        grace,
        linger,
        cpu_time,
        cpus,
        cpu_fd,
    };
    supervise::run(lines, proc_fd, running, done.watched)
}

/// The rest of the life of the process that becomes the program; `lines` has the socket for its
/// failure.
fn become_the_program(
    mut lines: Lines,
    wanted: &Wanted<'_>,
    tables: &Tables,
    told: Option<&Told>,
) -> ! {
    let ready = stage(wanted, &mut lines.control).and_then(|()| {
        if told.is_some() {
            wait_for_word(lines.control)?;
        }
        enter(wanted, lines.control)?;
        if wanted.flags & FILTERS_LAST != 0 {
            install_filters(wanted)?;
        }
        Ok(())
    });
    match ready {
        Ok(()) if wanted.flags & CHECK_ONLY != 0 => {
            let _told = sys::tell(lines.control, report::READY, [0, 0], &[]);
            exit(0)
        }
        Ok(()) => {
            let failure = execute(wanted, tables);
            if let (Some(told), true) = (told, wanted.flags & FILTERS_LAST != 0) {
                // A filter may keep it from saying so.
                told.set(&failure);
                exit(1)
            }
            failure.end(lines)
        }
        Err(failure) => failure.end(lines),
    }
}

/// Init's, when the file tree is complete, or the library's, with a descriptor. If who has it to say
/// has ended, so does this process.
#[inline(never)]
fn wait_for_word(socket: i32) -> Outcome<Option<Fd>> {
    let mut word = [0];
    match sys::receive(socket, &mut word, &mut [], 0)? {
        (0, _) => exit(1),
        (_, fd) => Ok(fd),
    }
}

/// All that belongs to the program's process alone and needs no file tree. `errors` is moved out of
/// the way of the program's descriptors.
fn stage(wanted: &Wanted<'_>, errors: &mut i32) -> Result<(), Failure> {
    sys::setsid()?;
    place_descriptors(wanted, errors)?;
    // Without no_new_privs only a holder of CAP_SYS_ADMIN may install a filter.
    if wanted.flags & (NEW_PRIVILEGES | FILTERS_LAST) == NEW_PRIVILEGES {
        install_filters(wanted)?;
    }
    privileges(wanted)?;
    if wanted.flags & CONTROLLING_TERMINAL != 0 {
        sys::take_terminal()?;
    }
    sys::umask(wanted.umask)?;
    if wanted.nice != 0 {
        sys::setpriority(PRIO_PROCESS, 0, wanted.nice)?;
    }
    if wanted.flags & PTY == 0 {
        limits(wanted)?;
    }
    if wanted.flags & (NEW_PRIVILEGES | FILTERS_LAST) == 0 {
        install_filters(wanted)?;
    }
    Ok(())
}

fn install_filters(wanted: &Wanted<'_>) -> Outcome {
    for filter in [wanted.filter, wanted.second_filter] {
        if !filter.bytes().is_empty() {
            sys::install_filter(filter.bytes())?;
        }
    }
    Ok(())
}

fn limits(wanted: &Wanted<'_>) -> Result<(), Failure> {
    for (resource, pair) in wanted.rlimits.bytes().chunks_exact(16).enumerate() {
        sys::set_rlimit(resource, pair).map_err(|fault| Failure::number(fault, resource))?;
    }
    Ok(())
}

/// The operations of its own. A network namespace goes to init through `init`.
fn carry_out(wanted: &Wanted<'_>, init: i32, proc_fd: i32) -> Result<(), Failure> {
    let (mut index, mut operations) = (wanted.first, Reader::new(wanted.operations.bytes()));
    let mut no_tree = Tree::new(-1, None);
    while !operations.is_empty() {
        let done = match operations.next() {
            Some(Op::NewNetwork {}) => new_network(init, proc_fd),
            Some(operation) => plan::execute(&mut no_tree, &operation, &mut 0),
            None => fault(Call::Plan, EPROTO),
        };
        done.map_err(|fault| Failure { index, ..Failure::new(fault) })?;
        index += 1;
    }
    Ok(())
}

/// Making it takes as long as making the tree: so it is made beside that.
fn new_network(init: i32, proc_fd: i32) -> Outcome {
    sys::unshare(CLONE_NEWNET)?;
    let namespace = sys::open(proc_fd, Text::new(b"thread-self/ns/net\0"), O_RDONLY, 0)?;
    sys::send(init, b"n", &[namespace.0])
}

/// What needs the finished file tree.
fn enter(wanted: &Wanted<'_>, starting: i32) -> Result<(), Failure> {
    // This process is still in the caller's directory, from which a relative path would start.
    sys::chdir(Text::new(b"/\0"))?;
    sys::chdir(wanted.directory)?;
    if wanted.flags & PTY != 0 {
        // Opened here, its name is the one inside and its owner the program's id.
        let multiplexer = Text::new(b"/dev/pts/ptmx\0");
        let master = sys::open(AT_FDCWD, multiplexer, O_RDWR | O_NOCTTY, 0)?;
        sys::tell(starting, report::READY, [0, 0], &[master.0])?;
        let Some(theirs) = wait_for_word(starting)? else {
            // The kernel drops what there is no room for.
            return Err(Fault { call: Call::Receive, errno: Errno(EMFILE) }.into());
        };
        for number in 0..3 {
            sys::dup3(theirs.0, number, 0)?;
        }
        sys::take_terminal()?;
        // Only now: that of open files counts what is on its way through sockets as well.
        limits(wanted)?;
    }
    sys::unblock_signals()?;
    Ok(())
}

/// Gives each descriptor its number. First all get numbers that nobody wants, so that none is
/// overwritten before it was placed.
fn place_descriptors(wanted: &Wanted<'_>, errors: &mut i32) -> Result<(), Failure> {
    let lift = |fd: i32| -> Outcome<i32> {
        let mut copy = sys::fcntl(fd, F_DUPFD_CLOEXEC, 3)? as i32;
        while descriptors(wanted).any(|(_, target)| target == copy) {
            let next = sys::fcntl(fd, F_DUPFD_CLOEXEC, copy as usize + 1)? as i32;
            sys::close(copy);
            copy = next;
        }
        Ok(copy)
    };
    *errors = lift(*errors)?;
    let mut lifted = [0; DESCRIPTORS_MAX];
    if descriptors(wanted).count() > lifted.len() {
        return Err(Fault { call: Call::Descriptor, errno: Errno(E2BIG) }.into());
    }
    for (to, (source, target)) in lifted.iter_mut().zip(descriptors(wanted)) {
        *to = lift(source).map_err(|fault| Failure::number(fault, target as usize))?;
    }
    for (from, (_, target)) in lifted.iter().zip(descriptors(wanted)) {
        sys::dup3(*from, target, 0).map_err(|fault| Failure::number(fault, target as usize))?;
    }
    close_all_but(descriptors(wanted).map(|(_, target)| target), *errors)?;
    Ok(())
}

/// Closes everything but the program's own descriptors, which come sorted, and `errors`.
fn close_all_but(targets: impl Iterator<Item = i32>, errors: i32) -> Outcome {
    let (mut next, mut pending) = (0, Some(errors));
    let mut close_up_to = |keep: i32| {
        if keep > next {
            sys::close_range(next, keep - 1)?;
        }
        next = keep + 1;
        Ok(())
    };
    for target in targets {
        if let Some(errors) = pending.take_if(|errors| *errors < target) {
            close_up_to(errors)?;
        }
        close_up_to(target)?;
    }
    pending.map_or(Ok(()), close_up_to)?;
    sys::close_range(next, i32::MAX).map(drop)
}

/// Tries the candidates in order; returns why the last one could not be executed.
fn execute(wanted: &Wanted<'_>, tables: &Tables) -> Failure {
    let mut failure = Failure::new(Fault { call: Call::Exec, errno: Errno(ENOENT) });
    for (index, path) in wanted.candidates.take(wanted.candidates.count as usize).enumerate() {
        let errno = sys::exec(path, tables.argv, tables.envp);
        let fault = Fault { call: Call::Exec, errno };
        match errno.0 {
            ENOENT | ENOTDIR if !sys::exists(path) => {}
            // The file is there: what is missing is what the kernel needs to run it.
            ENOENT | ENOTDIR => return missing_interpreter(path, index),
            EACCES => failure = Failure::number(fault, index),
            _ => return Failure::number(fault, index),
        }
    }
    failure
}

/// Something of it is missing: what, the library finds in the file.
fn missing_interpreter(path: Text<'_>, index: usize) -> Failure {
    let fault = Fault { call: Call::Interpreter, errno: Errno(ENOENT) };
    let file = sys::open(AT_FDCWD, path, O_RDONLY | O_NONBLOCK, 0).ok();
    Failure { file, ..Failure::number(fault, index) }
}
