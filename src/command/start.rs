//! From a command to what runs: a sandbox is made for it, or it is started in one that is there.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Instant;

use super::{Command, Streams, Within};
use crate::cgroup::group::Groups;
use crate::child::{Attached, Child, reap_the_detached};
use crate::error::{Error, Feature, Result};
use crate::hint::Hint;
use crate::lower::{self, Lowered};
use crate::namespace::user;
use crate::networks::Lent;
use crate::policy::Policy;
use crate::prepared;
use crate::rootfs::{self, Trees};
use crate::spawn::{Count, Made, Refused, Role, Start, make, make_groups};
use crate::template::Template;
use crate::wire;

/// The program's descriptors: the caller's, and their numbers inside.
type Pairs<'a> = [(BorrowedFd<'a>, RawFd)];

/// A sandbox that was made for a command, and what it was made from.
#[derive(Debug)]
pub(crate) struct New {
    pub(crate) child: Child,
    pub(crate) lowered: Arc<Lowered>,
    /// What init reads the CPU time from.
    pub(crate) cpu_usage: Option<OwnedFd>,
    /// Where a session takes programs.
    pub(crate) door: Option<OwnedFd>,
}

impl Command {
    pub(super) fn start(self, role: Role) -> Result<Child> {
        let started = match (&self.within, role) {
            // What contradicts itself uses up no sandbox.
            (Within::Session(session), Role::Program) => {
                let session = Arc::clone(session);
                self.validate_alone().and_then(|()| session.start(self))
            }
            (Within::Pool(pool), Role::Program) => {
                let pool = Arc::clone(pool);
                self.validate_alone().and_then(|()| pool.start(self))
            }
            (Within::Child(entered), Role::Program) => {
                let entered = Arc::clone(entered);
                self.validate_alone().and_then(|()| entered.start(self))
            }
            _ => self.lowered(role).and_then(|(lowered, template)| {
                self.make(role, lowered, template).map(|made| made.child)
            }),
        };
        started.map_err(Error::explained)
    }

    /// What is done, and what the sandbox is a copy of.
    fn lowered(&self, role: Role) -> Result<(Arc<Lowered>, Option<Arc<Template>>)> {
        let began = Instant::now();
        self.validate()?;
        let found = self.looked_through(role)?;
        let count = found.0.plan.len();
        log::debug!("prepare: lowered to {count} operations in {:?}", began.elapsed());
        Ok(found)
    }

    /// What was prepared, if that does not depend on another PATH, and what was added to it.
    fn looked_through(&self, role: Role) -> Result<(Arc<Lowered>, Option<Arc<Template>>)> {
        let search = self.search();
        if let Within::Prepared(prepared) = &self.within {
            prepared.sources.check()?;
            let same = prepared.search == search || !self.sandbox.policy().tree.has_programs();
            if let Some(found) = same.then(|| self.of_prepared(prepared, role)).flatten() {
                return Ok(found);
            }
        }
        Ok((lower::lower(&self.sandbox, &search).map(Arc::new)?, None))
    }

    /// Without the template it is the same sandbox, and takes longer to make: so where there is no program.
    fn of_prepared(
        &self,
        prepared: &prepared::Inner,
        role: Role,
    ) -> Option<(Arc<Lowered>, Option<Arc<Template>>)> {
        let template = prepared.template.as_ref().filter(|_| role != Role::Check);
        let template = template.filter(|template| template.lives());
        match (template, prepared.sandbox.is_same(&self.sandbox)) {
            (Some(template), true) => Some((template.lowered(), Some(Arc::clone(template)))),
            (Some(template), false) => {
                let lowered = template.with_added(prepared, &self.sandbox)?;
                Some((Arc::new(lowered), Some(Arc::clone(template))))
            }
            (None, true) => Some((Arc::clone(&prepared.lowered), None)),
            (None, false) => None,
        }
    }

    /// A sandbox that waits for programs.
    pub(crate) fn wait_for_programs(self, count: Count) -> Result<New> {
        let role = Role::Waiting(count);
        let (lowered, template) = self.lowered(role)?;
        self.make(role, lowered, template).map_err(Error::explained)
    }

    /// What sandboxes are copied from.
    pub(crate) fn make_template(self, lowered: Arc<Lowered>) -> Result<New> {
        self.make(Role::Template, lowered, None).map_err(Error::explained)
    }

    fn make(
        mut self,
        role: Role,
        mut lowered: Arc<Lowered>,
        template: Option<Arc<Template>>,
    ) -> Result<New> {
        let began = Instant::now();
        reap_the_detached();
        let sandbox = self.sandbox.clone();
        let policy = sandbox.policy();
        // Before anything else is opened, which may get the number of a closed stream.
        let streams = self.open_streams()?;
        let own_id = own_id(policy, &mut lowered)?;
        let own_id = own_id.as_ref().map(AsFd::as_fd);
        let mut held = rootfs::prepare(policy.tree.overlays().map(|(_, overlay)| overlay))?;
        let best_effort = policy.is_best_effort(Feature::IdMappedMounts);
        let trees = Trees::make(&lowered, own_id, policy.init_file.as_deref(), best_effort)?;
        let count = lowered.trees.len();
        log::debug!("prepare: streams and {count} trees in {:?}", began.elapsed());
        let pairs = self.pairs(&streams);
        // Declared before what is in them, and so removed after it.
        let mut groups = if role == Role::Template { None } else { make_groups(policy)? };
        let cpu_usage =
            groups.as_ref().map_or(Ok(None), |groups| groups.cpu_usage(&policy.limits))?;
        let (handed, cpu_fd) =
            numbers(template.is_some(), pairs.len(), cpu_usage.as_ref(), trees.fds.len());
        let networks = template.as_ref().and_then(|template| template.networks.as_ref());
        let lent = networks.map(|(networks, _)| networks.lend()).transpose()?;
        let (program, filter) = self.encode(policy, &lowered.plan, &pairs, cpu_fd, role, handed)?;
        let journaled = policy.is_journaled() && role == Role::Program;
        let start = Start {
            groups: groups.as_ref(),
            cpu_usage: cpu_usage.as_ref(),
            trees: &trees.fds,
            own_id,
            journal: journaled.then(|| (sandbox.clone(), filter)),
            template: template.as_deref(),
            network: lent.as_ref().map(Lent::network),
            ..self.what_to_start(policy, &lowered, role, (program, &pairs))
        };
        let mut made = make(&start).map_err(|refused| {
            self.refused(&lowered.plan, refused).with_hint(out_of_memory(groups.as_ref()))
        })?;
        if let Some(groups) = &mut groups {
            groups.close_entrances();
        }
        log::debug!("spawned as {} in {:?} in all", made.pid, began.elapsed());
        let mut kept = std::mem::take(&mut made.kept);
        let listener = kept.take_listener();
        let remains = Arc::new(self.remains(&lowered, kept, &mut held, role == Role::Check));
        let attached = Attached {
            own_pids: policy.has_own_pids(),
            groups,
            remains,
            held,
            listener,
            missing: missing(&lowered, &trees, template.as_deref()),
            lowered: Some(Arc::clone(&lowered)),
            ..self.attached(streams, &lowered, role)
        };
        let door = made.door.take();
        let child = Child::new(made, attached).copied(template, lent);
        Ok(New { child, lowered, cpu_usage, door })
    }

    /// Starts it in a sandbox that is there: `start` is given all that is to be told.
    pub(crate) fn start_later(
        mut self,
        lowered: &Lowered,
        cpu_usage: Option<&OwnedFd>,
        role: Role,
        start: impl FnOnce(Start<'_>) -> Result<Made, Refused>,
    ) -> Result<(Made, Attached)> {
        let streams = self.open_streams()?;
        let made = self.start_with(&streams, lowered, cpu_usage, role, start)?;
        Ok(self.attach(streams, lowered, role, made))
    }

    /// The same, with its standard streams open.
    pub(crate) fn start_with(
        &self,
        streams: &Streams,
        lowered: &Lowered,
        cpu_usage: Option<&OwnedFd>,
        role: Role,
        start: impl FnOnce(Start<'_>) -> Result<Made, Refused>,
    ) -> Result<Made> {
        let policy = self.sandbox.policy();
        let pairs = self.pairs(streams);
        let mut descriptors: Vec<_> = pairs.iter().map(|(source, _)| source.as_raw_fd()).collect();
        // It comes after them.
        let cpu_fd =
            cpu_usage.and(i32::try_from(descriptors.len()).ok()).map(|at| wire::HANDED + at);
        descriptors.extend(cpu_usage.map(AsRawFd::as_raw_fd));
        let handed = matches!(role, Role::Later(_)).then_some(descriptors.len());
        let (program, _) = self.encode(policy, &lowered.plan, &pairs, cpu_fd, role, handed)?;
        let given =
            Start { descriptors, ..self.what_to_start(policy, lowered, role, (program, &pairs)) };
        start(given).map_err(|refused| self.refused(&lowered.plan, refused))
    }

    /// With what the handle is made of that it is started for.
    pub(crate) fn attach(
        &self,
        streams: Streams,
        lowered: &Lowered,
        role: Role,
        mut made: Made,
    ) -> (Made, Attached) {
        let listener = std::mem::take(&mut made.kept).take_listener();
        let attached = self.attached(streams, lowered, role);
        (made, Attached { listener, ..attached })
    }

    /// What is told of the program and of the sandbox alone.
    fn what_to_start<'a>(
        &self,
        policy: &'a Policy,
        lowered: &'a Lowered,
        role: Role,
        (program, pairs): (Vec<u8>, &Pairs<'_>),
    ) -> Start<'a> {
        Start {
            policy,
            lowered,
            trees: &[],
            own_id: None,
            program,
            descriptors: pairs.iter().map(|(source, _)| source.as_raw_fd()).collect(),
            groups: None,
            cpu_usage: None,
            terminal: self.pty,
            journal: None,
            role,
            wall: self.wall(),
            entering: None,
            template: None,
            network: None,
        }
    }

    /// The program's descriptors: the caller's, and their numbers inside.
    fn pairs<'a>(&'a self, streams: &'a Streams) -> Vec<(BorrowedFd<'a>, RawFd)> {
        let standard = (0..).zip(&streams.theirs).map(|(target, theirs)| (theirs.as_fd(), target));
        let others = self.descriptors.iter().map(|(number, fd)| (fd.as_fd(), *number));
        standard.chain(others).collect()
    }
}

/// An id of the host's of the sandbox's own, by which its map of ids is complete, with what keeps others from it.
fn own_id(policy: &Policy, lowered: &mut Arc<Lowered>) -> Result<Option<OwnedFd>> {
    if !lowered.ids.are_chosen_late() {
        return Ok(None);
    }
    let (namespace, id) = user::own_id(policy.init_file.as_deref())?;
    Arc::make_mut(lowered).choose(id);
    Ok(Some(namespace))
}

/// How many descriptors a copy is handed, one after the other, and the number in init of that of the CPU time,
/// which comes after the program's. Without a template init has the caller's.
fn numbers(
    copied: bool,
    programs: usize,
    cpu_usage: Option<&OwnedFd>,
    trees: usize,
) -> (Option<usize>, Option<RawFd>) {
    if !copied {
        return (None, cpu_usage.map(AsRawFd::as_raw_fd));
    }
    let after = i32::try_from(programs).ok().map(|count| wire::HANDED + count);
    let handed = programs + cpu_usage.iter().len() + trees;
    (Some(handed), cpu_usage.and(after))
}

/// What the sandbox lacks of what was asked for as far as it can be had.
fn missing(lowered: &Lowered, trees: &Trees, template: Option<&Template>) -> Vec<Feature> {
    let mut missing = lowered.missing.clone();
    missing.extend(trees.unmapped.then_some(Feature::IdMappedMounts));
    for feature in template.map_or(&[][..], |template| &template.missing) {
        if !missing.contains(feature) {
            missing.push(*feature);
        }
    }
    missing
}

/// Whether a set-up ended because of the sandbox's own limit of memory.
fn out_of_memory(groups: Option<&Groups>) -> Option<Hint> {
    let kills = groups.and_then(|groups| groups.stats().memory.oom_kills);
    (kills.unwrap_or(0) > 0).then_some(Hint::MemoryLimit)
}
