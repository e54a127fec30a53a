//! Who looks after the commands of a session: processes of its init, each for one command at a time.

use std::io::IoSlice;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::lock;
use crate::control::{
    Lines, Received, end_followed, init_died, receive, receive_now, send_with, unheard,
};
use crate::error::{Error, Result, Stage};
use crate::policy::Policy;
use crate::process::{Launched, hold_closed_streams};
use crate::rlimit::{Max, Resource};
use crate::spawn::{limit_from_now, pid_of, tell_limit};
use crate::wire::{self, Call, SUPERVISOR, report};
use crate::{sys, warden};

/// How long an exec may take.
const EXEC: Duration = Duration::from_nanos(wire::EXEC);
/// How many wait for the next command, those that are made included; and how many where processes are limited, to less
/// than these.
const IDLE: usize = 4;
const IDLE_OF_FEW: usize = 1;
const FEW: u64 = 256;
/// How many wait besides for a handle to see the end of what they have looked after: who waits for none for a long time
/// has no more processes than that.
const HELD: usize = 16;

/// One that looks after nothing, or after the command whose handle has it.
#[derive(Debug)]
pub(crate) struct Supervisor {
    pub(crate) pid: u32,
    pub(crate) pidfd: Arc<OwnedFd>,
    pub(crate) control: OwnedFd,
    pub(crate) warden_id: u64,
    /// When the warden may end it, unless it is told otherwise before.
    pub(crate) limited: Option<Instant>,
}

impl Supervisor {
    fn lives(&self) -> bool {
        !sys::wait_readable(self.pidfd.as_fd(), Some(Duration::ZERO))
    }

    /// Tells the warden how long the next command may take, if it has a limit. `false` if the warden may not have heard that
    /// before the time of the last one was up.
    fn limit(&self, policy: &Policy, wall: Option<Duration>) -> Result<bool> {
        match (wall, self.limited) {
            // It has to be executed first, and the program may keep its supervisor from telling that it was.
            (Some(wall), _) => limit_from_now(policy, self.warden_id, wall.max(EXEC))?,
            (None, Some(_)) => tell_limit(policy, self.warden_id, 0)?,
            (None, None) => {}
        }
        Ok(self.limited.is_none_or(|limited| Instant::now() < limited))
    }

    /// Not only closed: a forked copy of the embedder may hold its socket.
    pub(super) fn end(self) {
        end_followed(self.control.as_fd());
    }
}

/// Whether its programs may not be many processes.
fn are_few(policy: &Policy) -> bool {
    let limit = policy.rlimits.limit(Resource::Processes).soft;
    policy.limits.pids.is_some() || matches!(limit, Max::At(most) if most < FEW)
}

/// Those of a session.
#[derive(Debug)]
pub(crate) struct Supervisors {
    door: OwnedFd,
    /// How many wait at the most: they count as processes of the programs, of which there may not be many.
    most: usize,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    idle: Vec<Supervisor>,
    /// How many init has been asked for that nobody waits for yet.
    ordered: u32,
    /// Somebody is asking for one.
    orders: bool,
}

impl Supervisors {
    /// One is there from the beginning.
    pub(super) fn new(door: OwnedFd, init: &Launched, policy: &Policy) -> Result<Self> {
        let _held = hold_closed_streams()?;
        let most = if are_few(policy) { IDLE_OF_FEW } else { IDLE };
        let supervisors = Supervisors { door, most, waiting: Mutex::default() };
        let first = supervisors.wait_for_one(false, init, policy)?;
        supervisors.give_back(first);
        Ok(supervisors)
    }

    /// One that looks after nothing, for a command with this wall time. If it was the last, the next one is made meanwhile.
    pub(super) fn take(
        &self,
        init: &Launched,
        policy: &Policy,
        wall: Option<Duration>,
    ) -> Result<Supervisor> {
        loop {
            let supervisor = self.take_any(init, policy)?;
            match supervisor.limit(policy, wall) {
                Ok(true) => return Ok(supervisor),
                Ok(false) => supervisor.end(),
                Err(error) => {
                    supervisor.end();
                    return Err(error);
                }
            }
        }
    }

    fn take_any(&self, init: &Launched, policy: &Policy) -> Result<Supervisor> {
        let (found, ordered, orders) = {
            let mut waiting = lock(&self.waiting);
            self.take_in(&mut waiting, policy);
            // Another program may have killed it.
            let found = std::iter::from_fn(|| waiting.idle.pop()).find(Supervisor::lives);
            let ordered = found.is_none() && waiting.ordered > 0;
            waiting.ordered -= u32::from(ordered);
            let none = waiting.idle.is_empty() && waiting.ordered == 0;
            let orders = none && !waiting.orders && self.most > IDLE_OF_FEW;
            waiting.orders |= orders;
            (found, ordered, orders)
        };
        let supervisor = found.map_or_else(|| self.wait_for_one(ordered, init, policy), Ok);
        if orders {
            let told = self.order(init);
            let mut waiting = lock(&self.waiting);
            waiting.orders = false;
            // Only what was asked for will come. Who needs one asks again.
            match told {
                Ok(()) => waiting.ordered += 1,
                Err(error) => log::debug!("no supervisor is made ahead: {error}"),
            }
        }
        supervisor
    }

    fn wait_for_one(&self, ordered: bool, init: &Launched, policy: &Policy) -> Result<Supervisor> {
        match ordered.then(|| self.hear(init, policy)) {
            Some(Ok(made)) if made.lives() => Ok(made),
            // That one was refused at a time when nobody needed it, or has been killed since.
            _ => {
                self.order(init)?;
                self.hear(init, policy)
            }
        }
    }

    /// Takes in what has been made by now: as long as a socket is on its way, the kernel looks for lost ones whenever
    /// another is closed.
    pub(super) fn collect(&self, policy: &Policy) {
        self.take_in(&mut lock(&self.waiting), policy);
    }

    fn take_in(&self, waiting: &mut Waiting, policy: &Policy) {
        if waiting.ordered == 0 {
            return;
        }
        let Ok(_held) = hold_closed_streams() else { return };
        while waiting.ordered > 0 {
            let Some(answer) = receive_now(self.door.as_fd()) else { return };
            waiting.ordered -= 1;
            match made(answer, policy) {
                Ok(supervisor) if waiting.idle.len() < self.most => waiting.idle.push(supervisor),
                Ok(supervisor) => supervisor.end(),
                Err(error) => log::debug!("a supervisor was not made: {error}"),
            }
        }
    }

    /// Takes one back that can look after another command.
    pub(super) fn give_back(&self, supervisor: Supervisor) {
        let mut waiting = lock(&self.waiting);
        let ordered = usize::try_from(waiting.ordered).unwrap_or(usize::MAX);
        if waiting.idle.len().saturating_add(ordered) < self.most {
            return waiting.idle.push(supervisor);
        }
        drop(waiting);
        supervisor.end();
    }

    /// How many may wait for a handle to see an end.
    pub(super) fn most_held(&self) -> usize {
        if self.most > IDLE_OF_FEW { HELD } else { IDLE_OF_FEW }
    }

    fn order(&self, init: &Launched) -> Result<()> {
        let word = [IoSlice::new(&[SUPERVISOR])];
        send_with(self.door.as_fd(), &word, &[], init, Stage::Launch)
    }

    /// The next one that init makes.
    fn hear(&self, init: &Launched, policy: &Policy) -> Result<Supervisor> {
        match receive(self.door.as_fd(), init) {
            Received::Closed | Received::Reset | Received::Ended => {
                Err(init_died(init, Stage::Launch))
            }
            Received::Failed(errno) => {
                // It is still to come.
                lock(&self.waiting).ordered += 1;
                Err(unheard(Stage::Launch, errno))
            }
            answer => made(answer, policy),
        }
    }
}

/// That which init tells of.
fn made(answer: Received, policy: &Policy) -> Result<Supervisor> {
    let (answer, fds) = match answer {
        Received::Report(answer, fds) => (answer, fds),
        Received::Failed(errno) => return Err(unheard(Stage::Launch, errno)),
        _ => return Err(unheard(Stage::Launch, Errno::EPIPE)),
    };
    if answer.kind != report::JOINED {
        let [_, call, errno, ..] = answer.numbers;
        let call = Call::from_number(call).map_or("clone", Call::name);
        let errno = Errno::from_raw(i32::try_from(errno).unwrap_or(libc::EPROTO));
        return Err(Error::new(Stage::Launch, call, "for a supervisor", errno).explained());
    }
    // The kernel drops a descriptor that a caller at its limit has no room for.
    let [pidfd, control]: [OwnedFd; 2] =
        fds.try_into().map_err(|_| unheard(Stage::Launch, Errno::EMFILE))?;
    let (lines, pidfd) = (Lines::with(control), Arc::new(pidfd));
    let watched = lines
        .proc()
        .and_then(|_| warden::watch(policy.init_file.as_deref(), &pidfd, true))
        .inspect_err(|_| {
            end_followed(lines.ours.as_fd());
        })?;
    let pid = pid_of(&lines, &pidfd).unwrap_or(0);
    Ok(Supervisor { pid, pidfd, control: lines.ours, warden_id: watched, limited: None })
}
