//! Making a sandbox: clone, maps, plan, and the undoing of all that if a step fails.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::abi::CLONE_PARENT;
use crate::cgroup::group::Groups;
use crate::cgroup::place::Place;
use crate::control::{FOLLOW_WAIT, Lines, end_followed, next_report, transmit, unheard};
use crate::error::{Result, Stage};
use crate::learn::Journal;
use crate::lower::Lowered;
use crate::namespace::Namespaces;
use crate::networks::Networks;
use crate::policy::Policy;
use crate::process::{Launched, Sockets};
use crate::pty::{Pty, Size};
use crate::sandbox::Sandbox;
use crate::seccomp::Assembled;
use crate::session::supervisors::Supervisor;
use crate::template::Template;
use crate::wire::{self, Report, report};
use crate::{sys, warden};

mod first;
mod handshake;
mod refused;

pub(crate) use first::pid_of;
use first::{First, ask_for_copy, copied, launched, map_ids, spare_init};
use handshake::{Ready, await_exec, await_ready, hand_over};
pub(crate) use refused::Refused;
use refused::refused_before;

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

    /// Whether it makes the sandbox in which it is.
    fn makes_sandbox(self) -> bool {
        !matches!(self, Role::Later(_) | Role::Entering)
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
    /// How long the program may run.
    pub(crate) wall: Option<Duration>,
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
            Made { kept, door: ready.door, ..Made::new(lines, launched, &ready.report) }
        }
        _ => run(start, lines, launched, warden_id, score)?,
    };
    made.maker = maker;
    made.warden_id = warden_id;
    Ok(made)
}

/// A copy of a template that keeps networks.
pub(crate) fn keep_networks(
    template: &Launched,
    door: &OwnedFd,
    loopback: bool,
) -> Result<Networks> {
    let (lines, theirs) = Lines::new()?;
    lines.proc()?;
    ask_for_copy(template, door.as_fd(), theirs, wire::KEEPS_NETWORKS | CLONE_PARENT as u64)?;
    let (answer, fds) = next_report(&lines, template, Stage::Launch)?;
    let pidfd = fds.into_iter().next().filter(|_| answer.kind == report::JOINED);
    let pidfd = Arc::new(pidfd.ok_or_else(|| unheard(Stage::Launch, Errno::EMFILE))?);
    let pid = pid_of(&lines, &pidfd).unwrap_or(0);
    let keeper = Launched { pid, pidfd, armed: true, born_inside: true, session: None };
    Ok(Networks::new(keeper, lines.ours, loopback))
}

/// Waits until the program runs of which init was told.
fn run(
    start: &Start<'_>,
    lines: Lines,
    launched: Launched,
    warden_id: u64,
    score: Option<OwnedFd>,
) -> Result<Made, Refused> {
    let policy = start.policy;
    let mut kept = Kept::default();
    let ready = await_ready(start, &lines, &launched, &mut kept);
    let Ready { report: ready, starting, program, .. } = ready.inspect_err(|_| {
        // Else nothing runs yet, and nothing will without init.
        if matches!(start.role, Role::Later(_)) {
            end_what_started(start, &lines, &launched);
        }
    })?;
    // From here on the program's process may wait for answers.
    let journal = start_journal(start, &launched, &mut kept)
        .inspect_err(|_| end_what_started(start, &lines, &launched))?;
    let executed = match &starting {
        None => Ok((None, None)),
        Some(starting) => await_exec(start, &lines, &launched, starting, program.as_ref()),
    };
    let started = Instant::now();
    let limited = executed.and_then(|executed| {
        if let Some(wall) = start.wall {
            limit_from_now(policy, warden_id, wall)?;
        }
        Ok(executed)
    });
    let (terminal, early) = limited.inspect_err(|_| end_what_started(start, &lines, &launched))?;
    drop(starting);
    if policy.init && matches!(start.role, Role::Program | Role::Later(Count::One)) {
        spare_init(start, &lines, &launched, score);
    }
    let made = Made::new(lines, launched, &ready);
    Ok(Made { program, kept, terminal, started, early, journal, warden_id, ..made })
}

/// What does not end with who has started it.
fn end_what_started(start: &Start<'_>, lines: &Lines, launched: &Launched) {
    if start.is_followed() && end_followed(lines.ours.as_fd()) {
        sys::wait_readable(launched.pidfd.as_fd(), Some(FOLLOW_WAIT));
    }
}

/// Starts a program in a sandbox that waits for it; `control` is init's socket. Unless it was `told` all, it has
/// started nothing.
pub(crate) fn start_later(
    start: &Start<'_>,
    init: &Launched,
    control: OwnedFd,
    warden_id: u64,
    told: &mut bool,
) -> Result<Made, Refused> {
    let lines = Lines::with(control);
    // Until it is told, it is nobody's whose end would have to be waited for.
    let mut launched = init.again(false);
    hand_over(start, &lines, &launched)?;
    (launched.armed, *told) = (true, true);
    run(start, lines, launched, warden_id, None)
}

/// Starts a program in a sandbox that waits for any number, by a supervisor that looks after no other.
pub(crate) fn start_inside(
    start: &Start<'_>,
    init: &Launched,
    supervisor: Supervisor,
) -> Result<Made, Refused> {
    let Supervisor { pid, pidfd, control, warden_id, .. } = supervisor;
    let session = init.session.clone();
    let launched = Launched { pid, pidfd, armed: true, born_inside: true, session };
    let lines = Lines::with(control);
    hand_over(start, &lines, &launched)
        .inspect_err(|_| end_what_started(start, &lines, &launched))?;
    run(start, lines, launched, warden_id, None)
}

/// Has the warden end it if it outlasts its time and what comes after that.
pub(crate) fn limit_from_now(policy: &Policy, id: u64, wall: Duration) -> Result<()> {
    let limit = wall.saturating_add(policy.grace).saturating_add(patience(policy));
    tell_limit(policy, id, sys::monotonic_after(limit))
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
