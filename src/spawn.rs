//! Making a sandbox: clone, maps, plan, and the undoing of all that if a step fails.

use std::ffi::OsString;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use caps::CapSet;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::sys::stat::Mode;

use crate::abi::CLONE_PARENT;
use crate::cgroup::Controller;
use crate::cgroup::group::Groups;
use crate::cgroup::place::Place;
use crate::control::{
    FOLLOW_WAIT, Lines, Received, end_followed, init_died, next_report, receive, receive_now,
    send_with, transmit, transmit_slices, unheard,
};
use crate::error::{Error, Result, Stage, quoted};
use crate::hint::Hint;
use crate::learn::Journal;
use crate::lower::Lowered;
use crate::namespace::{Namespaces, Source, user};
use crate::networks::Networks;
use crate::plan::Plan;
use crate::policy::Policy;
use crate::process::{
    Account, Exec, Launch, Launched, Sockets, clone_refused, launch, pid_in, pid_of_pidfd,
    with_fallback,
};
use crate::program::interpreter_of;
use crate::pty::{Pty, Size};
use crate::sandbox::Sandbox;
use crate::seccomp::Assembled;
use crate::template::Template;
use crate::wire::{
    self, CHUNK, COMMAND, Call, HEADER, Header, MAGIC, Put, Report, VERSION, mode, report,
};
use crate::{executable, hint, sys, warden};

/// How long past its deadline a sandbox has to end itself before the warden or the handle does it.
pub(crate) const SLACK: Duration = Duration::from_millis(250);
/// How long init may then count what it has killed, on a busy machine, if it says that it has.
pub(crate) const COUNTING: Duration = Duration::from_secs(2);

/// How long past the deadline the warden waits, to whom init says nothing.
pub(crate) fn patience(policy: &Policy) -> Duration {
    if policy.init && policy.has_own_pids() { SLACK + COUNTING } else { SLACK }
}

/// What a process is told to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// A sandbox, and its program.
    Program,
    /// All but the exec.
    Check,
    /// What sandboxes are copied from.
    Template,
    /// A sandbox that waits for programs.
    Waiting(Count),
    /// A program in a sandbox that has waited for it.
    Later(Count),
    /// A program in a sandbox that runs another.
    Entering,
}

impl Role {
    /// Whether there is a program from the beginning.
    pub(crate) fn has_program(self) -> bool {
        matches!(self, Role::Program | Role::Later(_) | Role::Entering)
    }

    /// Whether its pid namespace has another PID 1, with which it ends.
    pub(crate) fn is_in_anothers(self) -> bool {
        matches!(self, Role::Later(Count::Any) | Role::Entering)
    }
}

/// The sandbox that a program enters.
#[derive(Debug)]
pub(crate) struct Entering {
    /// Its PID 1.
    pub(crate) pid: u32,
    pub(crate) pidfd: Arc<OwnedFd>,
    /// What it is in and the caller is not, but for the time namespace.
    pub(crate) namespaces: Namespaces,
    /// That of its programs, in which it is not itself.
    pub(crate) clocks: Option<OwnedFd>,
    /// The program's `oom_score_adj`, if it is another than the caller's.
    pub(crate) score: Option<Vec<u8>>,
    pub(crate) sockets: Arc<Sockets>,
}

/// How many programs a sandbox waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Count {
    /// Its end is that of the sandbox.
    One,
    /// Each has a supervisor of its own.
    Any,
}

/// What [`make`] is given besides the sandbox.
#[derive(Debug)]
pub(crate) struct Start<'a> {
    pub(crate) policy: &'a Policy,
    pub(crate) lowered: &'a Lowered,
    /// The detached trees that the plan has numbers for.
    pub(crate) trees: &'a [OwnedFd],
    /// Nobody else gets the sandbox's host id while init has this.
    pub(crate) own_id: Option<BorrowedFd<'a>>,
    /// The encoded program.
    pub(crate) program: Vec<u8>,
    /// Descriptors that the program gets, in the order of the program part.
    pub(crate) descriptors: Vec<RawFd>,
    /// What the sandbox is put into; outlives this, to be removed after everything in it.
    pub(crate) groups: Option<&'a Groups>,
    /// What init reads the CPU time from.
    pub(crate) cpu_usage: Option<&'a OwnedFd>,
    /// The size of the new terminal, if there is to be one.
    pub(crate) terminal: Option<Size>,
    /// What a journal of the program's calls needs, if one is wanted.
    pub(crate) journal: Option<(Sandbox, Arc<Assembled>)>,
    pub(crate) role: Role,
    /// What is entered, if that is its role.
    pub(crate) entering: Option<&'a Entering>,
    /// What the sandbox is a copy of, if it is.
    pub(crate) template: Option<&'a Template>,
    /// The network that a copy is put into.
    pub(crate) network: Option<BorrowedFd<'a>>,
}

impl Start<'_> {
    /// Whether init looks after the program.
    fn is_supervised(&self) -> bool {
        self.policy.init && self.role.has_program()
    }

    /// Whether it ends by what is killed one by one.
    fn is_followed(&self) -> bool {
        !self.policy.has_own_pids() || self.role.is_in_anothers()
    }

    /// The numbers that the trees get in a copy of a template: those after what the program is given.
    fn handed_trees(&self) -> Vec<RawFd> {
        let before = self.descriptors.len() + usize::from(self.cpu_usage.is_some());
        (wire::HANDED..).skip(before).take(self.trees.len()).collect()
    }

    fn checks_only(&self) -> bool {
        self.role == Role::Check
    }

    /// Whether init is cloned by a process that joins namespaces, or takes an id, before: what cannot be
    /// done in memory that is shared with the embedder.
    fn is_made_by_another(&self) -> bool {
        !self.policy.joined.is_empty() || self.own_id.is_some() || self.entering.is_some()
    }
}

/// A sandbox whose program runs.
#[derive(Debug)]
pub(crate) struct Made {
    pub(crate) pid: u32,
    pub(crate) pidfd: Arc<OwnedFd>,
    pub(crate) control: OwnedFd,
    pub(crate) program: Option<OwnedFd>,
    pub(crate) kept: Kept,
    pub(crate) terminal: Option<Pty>,
    pub(crate) inner_pid: u32,
    pub(crate) skipped: u64,
    pub(crate) warden_id: u64,
    pub(crate) started: Instant,
    /// What init has said of the program since.
    pub(crate) early: Option<Box<Report>>,
    pub(crate) journal: Option<Journal>,
    /// Where a session takes programs.
    pub(crate) door: Option<OwnedFd>,
    /// Who has made the first process, and waits for its end.
    pub(crate) maker: Option<Launched>,
}

impl Made {
    /// As far as init has told.
    fn new(lines: Lines, launched: Launched, ready: &Report) -> Self {
        let (pid, pidfd) = launched.keep();
        Made {
            pid,
            pidfd,
            control: lines.ours,
            program: None,
            kept: Kept::default(),
            terminal: None,
            inner_pid: u32::try_from(ready.numbers[0]).unwrap_or(0),
            skipped: ready.numbers[1],
            warden_id: 0,
            started: Instant::now(),
            early: None,
            journal: None,
            door: None,
            maker: None,
        }
    }
}

/// Descriptors of the inside, for what is asked for later.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) root: Option<OwnedFd>,
    /// What the plan keeps, by the number of the operation.
    pub(crate) others: Vec<(u64, OwnedFd)>,
}

impl Kept {
    /// What the program's filter asks with, if the caller is asked.
    pub(crate) fn take_listener(&mut self) -> Option<OwnedFd> {
        let at = self.others.iter().position(|(index, _)| *index == report::LISTENER)?;
        Some(self.others.remove(at).1)
    }
}

/// Why the program did not start, for the caller to put into words.
#[derive(Debug)]
pub(crate) enum Refused {
    Error(Error),
    /// Init's report about the start of the program.
    /// And the interpreter that was missing, if that is it.
    Start(Box<Report>, Option<OsString>),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Refused::Error(error)
    }
}

/// Makes the control groups that a sandbox needs; the warden is told where.
pub(crate) fn make_groups(policy: &Policy) -> Result<Option<Groups>> {
    let making = Instant::now();
    let groups = Groups::make(policy, |places| tell_places(policy, places))?;
    if let Some(groups) = &groups {
        log::debug!("cgroup: {} groups made in {:?}", groups.groups.len(), making.elapsed());
    }
    Ok(groups)
}

/// Tells the warden where control groups will be made.
pub(crate) fn tell_places(policy: &Policy, places: &[Arc<Place>]) -> Result<()> {
    warden::places(policy.init_file.as_deref(), places)
}

/// Gives a sandbox another deadline, 0 for none.
pub(crate) fn tell_limit(policy: &Policy, id: u64, deadline: u64) -> Result<()> {
    warden::limit(policy.init_file.as_deref(), id, deadline)
}

/// Makes the sandbox and starts its program.
pub(crate) fn make(start: &Start<'_>) -> Result<Made, Refused> {
    // Dropped in the reverse order: without its socket init ends, even if it cannot be killed.
    let First { maker, launched, lines, warden_id } = match start.template {
        Some(template) => copied(start, template)?,
        None => launched(start)?,
    };
    let mapping = Instant::now();
    let score = map_ids(start, &lines, &launched)
        // The plan waits for this: from here on the warden knows of the sandbox.
        .and_then(|score| transmit(&lines, &[0], &launched, Stage::Setup).map(|()| score))
        .map_err(|error| refused_before(start, &lines, error))?;
    log::debug!("identity: id maps in {:?}", mapping.elapsed());
    let mut made = match start.role {
        Role::Waiting(_) | Role::Template => {
            let mut kept = Kept::default();
            let ready = await_ready(start, &lines, &launched, &mut kept)?;
            Made { kept, door: ready.last, ..Made::new(lines, launched, &ready.report) }
        }
        _ => run(start, lines, launched, warden_id, score)?,
    };
    made.maker = maker;
    made.warden_id = warden_id;
    Ok(made)
}

/// A sandbox's first process, which has its plan.
struct First {
    /// Who has made it, and reaps it.
    maker: Option<Launched>,
    launched: Launched,
    lines: Lines,
    warden_id: u64,
}

/// Why nobody listens: init has failed before.
fn refused_before(start: &Start<'_>, lines: &Lines, error: Error) -> Refused {
    match receive_now(lines.ours.as_fd()) {
        Some(Received::Report(failure, fds)) => failed_report(start, &failure, fds),
        _ => Refused::Error(error),
    }
}

/// Launches init, or who makes it, and sends it the plan.
fn launched(start: &Start<'_>) -> Result<First, Refused> {
    let began = Instant::now();
    let policy = start.policy;
    let init_file = policy.init_file.as_deref();
    let init = match start.role {
        Role::Waiting(_) | Role::Template => &executable::SESSION,
        _ => &executable::INIT,
    };
    let mut executable = init.open(init_file)?;
    let mut maker = None;
    // Declared first, dropped last: as in `make`.
    let (mut launched, message);
    let (lines, theirs) = Lines::new()?;
    let embedder = sys::own_pidfd().map_err(|errno| {
        Error::new(Stage::Launch, "pidfd_open", "of the caller", errno).explained()
    })?;
    (launched, message) = with_fallback(init, &mut executable, init_file, |executable| {
        launch_first(start, executable, &lines, [&theirs, &embedder])
    })?;
    // Init has it now; an end of init's must be one here.
    drop(theirs);
    log::debug!("launch: init is {}, in {:?}", launched.pid, began.elapsed());
    attach(start, &launched)?;
    let joining = Instant::now();
    let by_another = start.is_made_by_another();
    let trees: Vec<_> = start.trees.iter().map(AsRawFd::as_raw_fd).collect();
    let setup = start.lowered.plan.encode(&trees);
    if !by_another {
        send_plan(&lines, &setup, &start.program, &launched)?;
    }
    let shared = start.is_followed();
    let mut warden_id = warden::watch(init_file, &launched.pidfd, shared)?;
    if by_another {
        raise_score(start, &lines, &launched)?;
        transmit(&lines, &message, &launched, Stage::Join)?;
        let answer = next_report(&lines, &launched, Stage::Join);
        if start.entering.is_none() {
            launched.finish();
        }
        let made = joined(start, &lines, answer)?;
        maker = Some(std::mem::replace(&mut launched, made)).filter(|maker| maker.armed);
        send_plan(&lines, &setup, &start.program, &launched)?;
        warden_id = warden::watch(init_file, &launched.pidfd, shared)?;
        log::debug!("join: ({}) in {:?}", policy.joined_namespaces(), joining.elapsed());
    }
    Ok(First { maker, launched, lines, warden_id })
}

/// Has the template copied, and sends the copy the rest of the plan.
fn copied(start: &Start<'_>, template: &Template) -> Result<First, Refused> {
    let began = Instant::now();
    let launched;
    let (lines, theirs) = Lines::new()?;
    let mut new = start.lowered.at_clone.flags() as u64;
    if start.groups.is_some() {
        // Else it is not waited for, and has to be reaped by another: the template.
        new |= CLONE_PARENT as u64;
    }
    if let Some(network) = start.network {
        new |= wire::IN_NETWORK;
        let (word, fds) = ([IoSlice::new(&[0])], [network.as_raw_fd()]);
        send_with(lines.ours.as_fd(), &word, &fds, &template.init, Stage::Launch)?;
    }
    let entrances = start.groups.map_or(Vec::new(), Groups::entrances);
    let files: Vec<_> = entrances.iter().map(|(file, _)| file.as_raw_fd()).collect();
    new |= (files.len() as u64) << wire::ENTRANCES_SHIFT;
    send_some(&lines, &files, &template.init, Stage::Launch)?;
    ask_for_copy(&template.init, template.door.as_fd(), theirs, new)?;
    let setup = start.lowered.plan.encode(&start.handed_trees());
    let tell = |init: &Launched| {
        send_plan(&lines, &setup, &start.program, init)?;
        send_descriptors(start, &lines, init)
    };
    // It finds its plan there, unless it has to be put into a group before.
    let attached = start.groups.and_then(Groups::v2).is_some();
    let told = if attached { Ok(()) } else { tell(&template.init) };
    // First, as it is to be reaped whatever else has failed; and why there is none is said there.
    launched = joined(start, &lines, next_report(&lines, &template.init, Stage::Launch))?;
    told.map_err(|error| refused_before(start, &lines, error))?;
    log::debug!("launch: the copy is {}, in {:?}", launched.pid, began.elapsed());
    if attached {
        attach(start, &launched)?;
        tell(&launched).map_err(|error| refused_before(start, &lines, error))?;
    }
    let warden_id = warden::watch(start.policy.init_file.as_deref(), &launched.pidfd, false)?;
    Ok(First { maker: None, launched, lines, warden_id })
}

/// Of a template; the copy's socket is the other end of `theirs`.
fn ask_for_copy(
    template: &Launched,
    door: BorrowedFd<'_>,
    theirs: OwnedFd,
    flags: u64,
) -> Result<()> {
    let flags = flags.to_ne_bytes();
    let (word, fds) = ([IoSlice::new(&flags)], [theirs.as_raw_fd()]);
    send_with(door, &word, &fds, template, Stage::Launch)
}

/// A copy of a template that keeps networks.
pub(crate) fn keep_networks(
    template: &Launched,
    door: &OwnedFd,
    loopback: bool,
) -> Result<Networks> {
    let (lines, theirs) = Lines::new()?;
    ask_for_copy(template, door.as_fd(), theirs, wire::KEEPS_NETWORKS | CLONE_PARENT as u64)?;
    let (answer, fds) = next_report(&lines, template, Stage::Launch)?;
    let pidfd = fds.into_iter().next().filter(|_| answer.kind == report::JOINED);
    let pidfd = Arc::new(pidfd.ok_or_else(|| unheard(Stage::Launch, Errno::EMFILE))?);
    let pid = pid_of(&lines, &pidfd).unwrap_or(0);
    let keeper = Launched { pid, pidfd, armed: true, born_inside: true, session: None };
    Ok(Networks::new(keeper, lines.ours, loopback))
}

/// Puts a process into its control groups before it gets its plan, and so before it does or is charged
/// for anything.
fn attach(start: &Start<'_>, launched: &Launched) -> Result<()> {
    let Some(groups) = start.groups else { return Ok(()) };
    let attaching = Instant::now();
    if !launched.born_inside {
        groups.attach(launched.pid)?;
    }
    log::debug!("cgroup: attached in {:?}", attaching.elapsed());
    Ok(())
}

/// Waits until the program runs of which init was told.
fn run(
    start: &Start<'_>,
    lines: Lines,
    mut launched: Launched,
    mut warden_id: u64,
    score: Option<OwnedFd>,
) -> Result<Made, Refused> {
    let policy = start.policy;
    let init_file = policy.init_file.as_deref();
    let mut kept = Kept::default();
    let Ready { report: ready, starting, program, last: supervisor } =
        await_ready(start, &lines, &launched, &mut kept)?;
    let starting = starting.ok_or_else(|| unheard(Stage::Start, Errno::EMFILE))?;
    if let Some(pidfd) = supervisor {
        let (pid, pidfd) = (pid_of(&lines, &pidfd).unwrap_or(0), Arc::new(pidfd));
        let session = launched.session.take();
        launched = Launched { pid, pidfd, armed: true, born_inside: true, session };
        warden_id = warden::watch(init_file, &launched.pidfd, true)?;
    }
    // From here on the program's process waits for answers.
    let journal = start_journal(start, &launched, &mut kept)?;
    let executed = await_exec(start, &lines, &launched, &starting, program.as_ref());
    let started = Instant::now();
    let limited = executed.and_then(|executed| {
        if let Some(wall) = policy.wall {
            let limit = wall.saturating_add(policy.grace).saturating_add(patience(policy));
            warden::limit(init_file, warden_id, sys::monotonic_after(limit))?;
        }
        Ok(executed)
    });
    let (terminal, early) = limited.inspect_err(|_| {
        if start.is_followed() && end_followed(lines.ours.as_fd()) {
            sys::wait_readable(launched.pidfd.as_fd(), Some(FOLLOW_WAIT));
        }
    })?;
    drop(starting);
    if policy.init && start.role == Role::Program {
        spare_init(start, &lines, &launched, score);
    }
    let made = Made::new(lines, launched, &ready);
    Ok(Made { program, kept, terminal, started, early, journal, warden_id, ..made })
}

/// Starts a program in a sandbox that waits for it; `control` is init's socket.
pub(crate) fn start_later(
    start: &Start<'_>,
    init: &Launched,
    control: OwnedFd,
    warden_id: u64,
) -> Result<Made, Refused> {
    let lines = Lines::with(control)?;
    let launched = init.again(true);
    hand_over(start, &lines, &launched)?;
    run(start, lines, launched, warden_id, None)
}

/// Starts a program in a sandbox that waits for any number, with a supervisor of its own.
pub(crate) fn start_inside(start: &Start<'_>, init: &Launched) -> Result<Made, Refused> {
    let (lines, theirs) = Lines::new()?;
    let word = [IoSlice::new(&[COMMAND])];
    let session = init.session.as_ref().ok_or_else(|| init_died(init, Stage::Launch))?;
    let door = session.door.as_ref().ok_or_else(|| init_died(init, Stage::Launch))?;
    send_with(door.as_fd(), &word, &[theirs.as_raw_fd()], init, Stage::Launch)?;
    drop(theirs);
    hand_over(start, &lines, init)?;
    run(start, lines, init.again(false), 0, None)
}

/// Sends the program part, and then its descriptors.
fn hand_over(start: &Start<'_>, lines: &Lines, init: &Launched) -> Result<()> {
    send_plan(lines, &[], &start.program, init)?;
    send_descriptors(start, lines, init)
}

/// To an init that was not cloned for the program.
fn send_descriptors(start: &Start<'_>, lines: &Lines, init: &Launched) -> Result<()> {
    let cpu_usage = start.cpu_usage.map(AsRawFd::as_raw_fd);
    let trees = start.trees.iter().map(AsRawFd::as_raw_fd);
    let all: Vec<_> = start.descriptors.iter().copied().chain(cpu_usage).chain(trees).collect();
    send_some(lines, &all, init, Stage::Start)
}

/// Descriptors, as many in a message as init takes.
fn send_some(lines: &Lines, all: &[RawFd], init: &Launched, stage: Stage) -> Result<()> {
    all.chunks(wire::REPORT_FDS).try_for_each(|some| {
        send_with(lines.ours.as_fd(), &[IoSlice::new(&[0])], some, init, stage)
    })
}

/// Who answers what the program's filter asks, if that is to be noted.
fn start_journal(
    start: &Start<'_>,
    launched: &Launched,
    kept: &mut Kept,
) -> Result<Option<Journal>> {
    let Some((sandbox, filter)) = &start.journal else { return Ok(None) };
    let listener = kept.take_listener();
    let listener = listener.ok_or_else(|| unheard(Stage::Setup, Errno::EPROTO))?;
    let (sandbox, filter) = (sandbox.clone(), Arc::clone(filter));
    let inside = start.lowered.ids.inside;
    let is_logged = start.lowered.plan.ruleset.is_logged();
    let pidfd = Arc::clone(&launched.pidfd);
    Journal::start(sandbox, filter, inside, is_logged, listener, pidfd).map(Some)
}

/// Launches init, or who makes it, and then returns what that is to be told.
fn launch_first(
    start: &Start<'_>,
    executable: &OwnedFd,
    lines: &Lines,
    init: [&OwnedFd; 2],
) -> Result<(Launched, Vec<u8>)> {
    let into = start.groups.and_then(Groups::v2);
    let entrances = &start.groups.map_or(Vec::new(), Groups::entrances)[..];
    let numbers = init.map(AsRawFd::as_raw_fd);
    let mut keep = start.descriptors.clone();
    keep.push(lines.proc.as_raw_fd());
    keep.extend(start.cpu_usage.map(AsRawFd::as_raw_fd));
    keep.extend(start.own_id.map(|namespace| namespace.as_raw_fd()));
    keep.extend(start.trees.iter().map(AsRawFd::as_raw_fd));
    let new = start.lowered.at_clone;
    let capabilities = start.policy.capabilities.bounding();
    if !start.is_made_by_another() {
        let flags = new.flags();
        let (mode, numbers, keep) = (mode::INIT, &numbers, &keep);
        let wanted = Launch { mode, flags, numbers, keep, capabilities, into, entrances };
        return launch(executable, wanted).map(|launched| (launched, Vec::new()));
    }
    let opened = match start.entering {
        Some(entering) => open_entered(entering)?,
        None => open_joined(start.policy)?,
    };
    keep.extend(opened.iter().map(|(fd, _)| fd.as_raw_fd()));
    let (mode, flags, numbers, keep) = (mode::JOIN, 0, &numbers, &keep);
    let wanted = Launch { mode, flags, numbers, keep, capabilities, into, entrances };
    let launched = launch(executable, wanted)?;
    // What the kernel counts for who made a namespace is then counted for that id.
    let owner = start.own_id.map_or(u32::MAX, |_| start.lowered.ids.host.0);
    let parent = if start.entering.is_some() { 0 } else { CLONE_PARENT };
    let flags = (new.flags() | parent) as u64;
    let mut message = wire::Join { namespaces: [(-1, 0); wire::JOIN_MAX], flags, owner };
    for (to, (fd, kind)) in message.namespaces.iter_mut().zip(&opened) {
        *to = (fd.as_raw_fd(), kind.bits());
    }
    let mut bytes = Vec::new();
    message.put(&mut bytes);
    Ok((launched, bytes))
}

/// Short of memory the kernel is to kill the program, and not init in its place. Who has CAP_SYS_RESOURCE
/// says just that; others give init back the caller's score, above which the program's is. Should init be
/// chosen all the same, the outcome tells why.
fn spare_init(start: &Start<'_>, lines: &Lines, launched: &Launched, score: Option<OwnedFd>) {
    // The program has executed: it no longer shares init's memory, and with it the score.
    let memory = start.groups.and_then(|groups| groups.of(Controller::Memory));
    let may = || caps::has_cap(None, CapSet::Effective, caps::Capability::CAP_SYS_RESOURCE);
    let written = if memory.is_some() && may().unwrap_or(false) {
        let open = |pid: u32| open_score(&lines.proc, &format!("{pid}/"));
        let file = pid_in(lines.proc.as_fd(), launched).ok_or(Errno::ESRCH).and_then(open);
        file.and_then(|file| nix::unistd::write(&file, b"-1000"))
    } else if let (Some(own), Some(file)) = (start.lowered.score, score) {
        nix::unistd::write(&file, own.to_string().as_bytes())
    } else {
        return;
    };
    log::trace!("init is spared: {written:?}");
}

fn open_score(directory: impl AsFd, process: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    let path = format!("{process}oom_score_adj");
    nix::fcntl::openat(directory, path.as_str(), flags, Mode::empty())
}

/// Opens what is to be joined, in the caller's own context.
fn open_joined(policy: &Policy) -> Result<Vec<(OwnedFd, Namespaces)>> {
    let mut opened = Vec::new();
    for (kind, existing) in &policy.joined {
        let fd = match &existing.0 {
            Source::Path(path) => open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
                .map_err(|errno| Error::new(Stage::Join, "open", quoted(path), errno))?,
            Source::Fd(fd) => duplicate(fd)?,
        };
        opened.push((fd, *kind));
    }
    Ok(opened)
}

/// The same of a sandbox that is entered: all at once, as some of them need the privilege that is lost with others.
fn open_entered(entering: &Entering) -> Result<Vec<(OwnedFd, Namespaces)>> {
    let clocks = entering.clocks.as_ref().map(duplicate).transpose()?;
    let mut opened: Vec<_> = clocks.into_iter().map(|fd| (fd, Namespaces::TIME)).collect();
    opened.push((duplicate(&entering.pidfd)?, entering.namespaces));
    Ok(opened)
}

fn duplicate(fd: &OwnedFd) -> Result<OwnedFd> {
    let copy = fd.try_clone();
    copy.map_err(|error| Error::new(Stage::Join, "dup", "", executable::errno_of(&error)))
}

/// Has a process that enters a sandbox killed as that one's program would be; it inherits that.
fn raise_score(start: &Start<'_>, lines: &Lines, launched: &Launched) -> Result<()> {
    let Some(score) = start.entering.and_then(|entering| entering.score.as_ref()) else {
        return Ok(());
    };
    let open = |pid: u32| open_score(&lines.proc, &format!("{pid}/"));
    let file = pid_in(lines.proc.as_fd(), launched).ok_or(Errno::ESRCH).and_then(open);
    let written = file.and_then(|file| nix::unistd::write(&file, score));
    let failed = |errno| Error::new(Stage::Join, "raise oom_score_adj", "", errno);
    written.map(drop).map_err(failed)
}

/// The process that was made by another, by that one's answer.
fn joined(
    start: &Start<'_>,
    lines: &Lines,
    answer: Result<(Report, Vec<OwnedFd>)>,
) -> Result<Launched, Refused> {
    let made = |pid, pidfd| {
        let pidfd = Arc::new(pidfd);
        let session = start.entering.map(|entering| Arc::clone(&entering.sockets));
        let born_inside = start.template.is_none();
        Launched { pid, pidfd, armed: true, born_inside, session }
    };
    match answer {
        Ok((answer, mut fds)) if answer.kind == report::JOINED && !fds.is_empty() => {
            let pidfd = fds.swap_remove(0);
            Ok(made(pid_of(lines, &pidfd).unwrap_or(0), pidfd))
        }
        other => {
            // It may be there all the same, and the caller's child: if it has failed by itself, who has made it may
            // say so later. The socket closes when both have done with it.
            let failed = matches!(&other, Ok((answer, _)) if answer.kind == report::FAILED);
            let patience = if failed { FOLLOW_WAIT } else { Duration::ZERO };
            while sys::wait_readable(lines.ours.as_fd(), Some(patience)) {
                match receive_now(lines.ours.as_fd()) {
                    Some(Received::Report(late, fds)) if late.kind == report::JOINED => {
                        fds.into_iter().map(|pidfd| made(0, pidfd)).for_each(drop);
                    }
                    Some(Received::Report(..)) => {}
                    _ => break,
                }
            }
            Err(other
                .map_or_else(Refused::Error, |(answer, fds)| failed_report(start, &answer, fds)))
        }
    }
}

fn pid_of(lines: &Lines, pidfd: &OwnedFd) -> Option<u32> {
    pid_of_pidfd(lines.proc.as_fd(), pidfd.as_fd())
}

/// Writes the id maps, and opens init's `oom_score_adj` as long as that may be opened, if it is to be
/// written. The directory is opened first and the process looked at again: a pid whose process was
/// reaped elsewhere may be somebody else's by now.
fn map_ids(start: &Start<'_>, lines: &Lines, launched: &Launched) -> Result<Option<OwnedFd>> {
    // A copy of a template does that itself: only there the ids are known.
    let made = start.entering.is_none() && start.template.is_none();
    let maps = made && start.policy.new_namespaces().contains(Namespaces::USER);
    if !maps && start.lowered.score.is_none() {
        return Ok(None);
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
    // Not of an init that was undumpable before, as where it joins: it is small all the same.
    let score = start.lowered.score.and_then(|_| open_score(&process, "").ok());
    if maps {
        user::write_maps(process.as_fd(), pid, start.lowered.ids, &start.lowered.maps)?;
    }
    Ok(score)
}

fn send_plan(lines: &Lines, setup: &[u8], program: &[u8], launched: &Launched) -> Result<()> {
    let header = Header {
        magic: MAGIC,
        version: VERSION,
        setup: setup.len() as u64,
        program: program.len() as u64,
        proc_fd: lines.proc.as_raw_fd(),
    };
    let mut bytes = Vec::with_capacity(HEADER);
    header.put(&mut bytes);
    transmit(lines, &bytes, launched, Stage::Setup)?;
    let mut parts = [setup, program];
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

/// Init's word that everything is there, and what came with it.
#[derive(Debug)]
struct Ready {
    report: Report,
    /// Closes at the exec.
    starting: Option<OwnedFd>,
    program: Option<OwnedFd>,
    /// Who looks after the program, if that is not init; or where a session takes programs.
    last: Option<OwnedFd>,
}

/// Waits for init's word that everything is there: with the socket that closes at the exec, if there is
/// to be one, and with a supervisor the program's pidfd.
fn await_ready(
    start: &Start<'_>,
    lines: &Lines,
    launched: &Launched,
    kept: &mut Kept,
) -> Result<Ready, Refused> {
    let waiting = Instant::now();
    let (answer, fds) = loop {
        let (answer, fds) = next_report(lines, launched, Stage::Setup)?;
        if answer.kind != report::KEPT {
            break (answer, fds);
        }
        // The kernel drops a descriptor that a caller at its limit has no room for.
        let Some(fd) = fds.into_iter().next() else {
            return Err(unheard(Stage::Setup, Errno::EMFILE).into());
        };
        kept.others.push((answer.numbers[0], fd));
    };
    if answer.kind != report::READY {
        return Err(failed_report(start, &answer, fds));
    }
    let mut fds = fds.into_iter();
    let starts = !matches!(start.role, Role::Waiting(_) | Role::Template);
    let starting = if starts { fds.next() } else { None };
    let program = if start.is_supervised() { fds.next() } else { None };
    // The kernel drops a descriptor that a caller at its limit has no room for.
    if starting.is_some() != starts || program.is_some() != start.is_supervised() {
        return Err(unheard(Stage::Start, Errno::EMFILE).into());
    }
    if start.entering.is_none() && start.policy.new_namespaces().contains(Namespaces::MOUNT) {
        let root = fds.next().ok_or_else(|| unheard(Stage::Start, Errno::EMFILE))?;
        kept.root = Some(root);
    }
    let session =
        matches!(start.role, Role::Later(Count::Any) | Role::Waiting(Count::Any) | Role::Template);
    let last = if session { fds.next() } else { None };
    if last.is_some() != session {
        return Err(unheard(Stage::Start, Errno::EMFILE).into());
    }
    log::debug!("setup: waited {:?} for init", waiting.elapsed());
    Ok(Ready { report: answer, starting, program, last })
}

/// Waits for the exec, the other end of `starting`. Gives back the program's terminal, and what init has
/// said of its end by now.
fn await_exec(
    start: &Start<'_>,
    lines: &Lines,
    launched: &Launched,
    starting: &OwnedFd,
    program: Option<&OwnedFd>,
) -> Result<(Option<Pty>, Option<Box<Report>>), Refused> {
    let starting_at = Instant::now();
    let process = program.map_or(launched.pidfd.as_fd(), AsFd::as_fd);
    // Looked for now, as the process has its exec still to do.
    let account = Account::open(lines.proc.as_fd(), process).map_err(unaccounted)?;
    // The kernel closes this socket's other end at a successful exec.
    let mut word = receive(starting.as_fd(), launched);
    let mut terminal = None;
    if let (Some(size), Received::Report(report, fds)) = (start.terminal, &mut word) {
        // With the master; the program's process goes on with its side.
        if report.kind == report::READY {
            let (ours, theirs) = Pty::accept(std::mem::take(fds), size)?;
            terminal = Some(ours);
            go_on(starting.as_fd(), theirs)?;
            word = receive(starting.as_fd(), launched);
        }
    }
    let complete = terminal.is_some() == start.terminal.is_some();
    log::debug!("start: waited {:?} for the exec", starting_at.elapsed());
    match word {
        Received::Report(report, _)
            if start.checks_only() && complete && report.kind == report::READY =>
        {
            Ok((terminal, None))
        }
        Received::Closed | Received::Ended if complete && !start.checks_only() => {
            let exec = account.exec(process).map_err(unaccounted)?;
            Ok((terminal, confirm_exec(start, lines, launched, exec)?))
        }
        // What it was last told is unread, or it has not told what it should.
        Received::Closed | Received::Ended | Received::Reset => {
            Err(never_executed(start, lines, launched))
        }
        Received::Report(failure, fds) => Err(failed_report(start, &failure, fds)),
        Received::Failed(errno) => Err(unheard(Stage::Start, errno).into()),
    }
}

fn unaccounted(errno: Errno) -> Error {
    Error::new(Stage::Start, "read", "\"/proc/PID/stat\" of the program", errno)
}

/// A socket that has closed is an exec's only if the program's process was not killed before.
fn confirm_exec(
    start: &Start<'_>,
    lines: &Lines,
    launched: &Launched,
    exec: Exec,
) -> Result<Option<Box<Report>>, Refused> {
    match exec {
        Exec::Done => Ok(None),
        Exec::Never => Err(never_executed(start, lines, launched)),
        // The embedder has it reaped elsewhere, and with it went what could tell.
        Exec::Gone if !start.is_supervised() => Ok(None),
        // Init reaps it, and has said before if it had not executed anything.
        Exec::Gone => match said_of_the_end(lines) {
            None => Ok(None),
            Some(Received::Report(report, fds)) if report.kind == report::FAILED => {
                Err(failed_report(start, &report, fds))
            }
            Some(Received::Report(report, _)) => Ok(Some(report)),
            Some(Received::Failed(errno)) => Err(unheard(Stage::Start, errno).into()),
            Some(Received::Closed | Received::Reset | Received::Ended) => {
                Err(init_died(launched, Stage::Start).into())
            }
        },
    }
}

/// What init has said by now of a program that it has reaped: not only that it killed it.
fn said_of_the_end(lines: &Lines) -> Option<Received> {
    let first = receive_now(lines.ours.as_fd());
    match &first {
        Some(Received::Report(report, _)) if report.kind == report::KILLED => {
            receive_now(lines.ours.as_fd()).or(first)
        }
        _ => first,
    }
}

/// The program's process has ended before its exec. Its supervisor knows how.
fn never_executed(start: &Start<'_>, lines: &Lines, launched: &Launched) -> Refused {
    if !start.is_supervised() {
        let object = "(it was killed before its exec)";
        return Error::new(Stage::Start, Call::Start.name(), object, Errno::ESRCH).into();
    }
    loop {
        match next_report(lines, launched, Stage::Start) {
            // That its time was up comes first.
            Ok((report, _)) if report.kind == report::KILLED => {}
            Ok((failure, fds)) => return failed_report(start, &failure, fds),
            Err(error) => return error.into(),
        }
    }
}

/// Gives the program's process its side of the terminal, which is ready.
fn go_on(starting: BorrowedFd<'_>, theirs: OwnedFd) -> Result<()> {
    let (words, fds) = ([IoSlice::new(&[0])], [theirs.as_raw_fd()]);
    let rights = [ControlMessage::ScmRights(&fds)];
    match sendmsg::<()>(starting.as_raw_fd(), &words, &rights, MsgFlags::MSG_NOSIGNAL, None) {
        // It has ended: what it was to say comes next.
        Ok(_) | Err(Errno::EPIPE | Errno::ECONNRESET) => Ok(()),
        Err(errno) => Err(Error::new(Stage::Start, "send", "to the program's process", errno)),
    }
}

fn failed_report(start: &Start<'_>, failure: &Report, fds: Vec<OwnedFd>) -> Refused {
    let [index, call, errno, detail, ..] = failure.numbers;
    let call = Call::from_number(call).map_or("set up", Call::name);
    let errno = Errno::from_raw(i32::try_from(errno).unwrap_or(libc::EPROTO));
    if failure.kind != report::FAILED {
        return Error::new(Stage::Setup, "understand init", "", Errno::EPROTO).into();
    }
    match index {
        report::START => {
            let file = fds.into_iter().next();
            Refused::Start(Box::new(*failure), file.and_then(|file| interpreter_of(file.into())))
        }
        report::LAUNCH if start.entering.is_some() => {
            let object = start.entering.map_or_else(String::new, |entering| {
                format!("of the sandbox of process {}", entering.pid)
            });
            let hint = match (call, errno) {
                ("setns", Errno::EINVAL) => Some(Hint::NeedsKernel("5.8")),
                _ => hint::for_operation(call, &object, errno),
            };
            Error::new(Stage::Join, call, object, errno).with_hint(hint).into()
        }
        report::LAUNCH if start.template.is_some() && call == Call::Write.name() => {
            not_entered(start, detail, errno).into()
        }
        report::LAUNCH if start.template.is_some() && call == Call::Clone.name() => {
            clone_refused(start.lowered.at_clone, errno).into()
        }
        report::LAUNCH => {
            let joined = usize::try_from(detail).ok().and_then(|at| start.policy.joined.get(at));
            let (stage, object) = match (start.template, joined) {
                (Some(_), _) => (Stage::Launch, "for a copy of the template".to_owned()),
                (None, Some((kind, _))) => (Stage::Join, kind.to_string()),
                (None, None) => (Stage::Join, String::new()),
            };
            let hint = hint::for_operation(call, &object, errno);
            Error::new(stage, call, object, errno).with_hint(hint).into()
        }
        _ => operation_failed(&start.lowered.plan, index, call, errno).into(),
    }
}

/// What a copy did not get into, by the number that it tells.
fn not_entered(start: &Start<'_>, number: u64, errno: Errno) -> Error {
    let entrances = start.groups.map_or(Vec::new(), Groups::entrances);
    let group = usize::try_from(number).ok().and_then(|at| entrances.get(at));
    let tasks = |(_, path): &(_, PathBuf)| format!("\"0\" to {:?}", path.join("tasks"));
    let object = group.map_or_else(String::new, tasks);
    Error::new(Stage::Cgroup, Call::Write.name(), object, errno).explained()
}

fn operation_failed(plan: &Plan, index: u64, call: &'static str, errno: Errno) -> Error {
    let object = plan.object(index);
    let hint = hint::for_operation(call, &object, errno);
    Error::new(Stage::Setup, call, object, errno).with_hint(hint)
}
