//! What one command's sandbox has besides, where that is a copy of a template all the same.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use super::{Template, split, without_network};
use crate::cgroup::Limits;
use crate::landlock::Ruleset;
use crate::lower::{self, Lowered};
use crate::plan::{Plan, Step};
use crate::prepared::{Inner, open_files};
use crate::sandbox::Sandbox;
use crate::wire::{NUMBERS_OF_SESSION, Op, VACANT};

impl Template {
    /// What is done in a copy for a `sandbox` that is the prepared one with more limits, binds and tmpfs; nothing if
    /// it has to be made alone to be the same.
    pub(crate) fn with_added(&self, prepared: &Inner, sandbox: &Sandbox) -> Option<Lowered> {
        let (before, policy) = (prepared.sandbox.policy(), sandbox.policy());
        let base = self.limited(prepared, &policy.limits)?;
        let entries = policy.tree.entries.strip_prefix(&before.tree.entries[..])?;
        let (added, trees) = lower::lower_added(policy, base.ids, entries).ok()?;
        if !trees.is_empty() && open_files().ok()? < NUMBERS_OF_SESSION + trees.len() as u64 {
            return None;
        }
        let mut places = Places::of(&self.shared.steps, &base.plan.steps);
        if !added.iter().all(|step| places.take(&step.op)) {
            return None;
        }
        let alone = before_the_pivot(&prepared.lowered.plan.steps, &added)?;
        let (ruleset, _) = Ruleset::new(policy, alone.iter().map(|step| &step.op), None).ok()?;
        let plan = Plan {
            sandbox: sandbox.clone(),
            steps: before_the_pivot(&base.plan.steps, &added)?,
            of_init: base.plan.of_init + added.len(),
            ruleset,
            ..base.plan.clone()
        };
        Some(Lowered { plan, trees, ..(*base).clone() })
    }

    /// What is done in each copy with these limits: how large /tmp is, and who is killed first, depends on them.
    fn limited(&self, prepared: &Inner, limits: &Limits) -> Option<Arc<Lowered>> {
        if *limits == prepared.sandbox.policy().limits {
            return Some(self.lowered());
        }
        let sandbox = prepared.sandbox.clone().limits(limits.clone());
        let lowered = lower::lower(&sandbox, &prepared.search).ok()?;
        let (shared, each) = split(sandbox.policy(), &lowered)?;
        if !is_same_tree(&shared.plan.steps, &self.shared.steps) {
            return None;
        }
        match &self.networks {
            Some(_) => without_network(sandbox.policy(), &each).map(Arc::new),
            None => Some(Arc::new(each)),
        }
    }
}

/// How large a root is that nobody can write to makes no difference.
fn is_same_tree(one: &[Step], other: &[Step]) -> bool {
    let is_root = |step: &Step| matches!(step.op, Op::RootTmpfs { .. });
    let same = |(one, other): (&Step, &Step)| one == other || is_root(one) && is_root(other);
    one.len() == other.len() && one.iter().zip(other).all(same)
}

/// After all that the tree has.
fn before_the_pivot(steps: &[Step], added: &[Step]) -> Option<Vec<Step>> {
    let pivot = steps.iter().position(|step| matches!(step.op, Op::Pivot { .. }))?;
    let (before, after) = steps.split_at_checked(pivot)?;
    Some([before, added, after].concat())
}

/// Where something can be put into a copy, with the same outcome as in a tree that is made alone. There mount points
/// are made in the root; in a copy the root is read-only, and everyone's.
#[derive(Debug, Default)]
struct Places<'a> {
    /// The root is a directory of the host's, in which none are made in either.
    root_of_host: bool,
    /// What is on the root itself.
    made: Vec<&'a Path>,
    /// Where something is mounted, and whether that is the sandbox's own: else it may have links to the root.
    mounted: Vec<(&'a Path, bool)>,
    links: Vec<&'a Path>,
}

impl<'a> Places<'a> {
    fn of(shared: &'a [Step], each: &'a [Step]) -> Self {
        let mut places = Places::default();
        // Before that it is what holds the tree.
        let in_the_tree = shared.iter().map(|step| &step.op).skip_while(|op| **op != Op::Enter {});
        for op in in_the_tree {
            places.root_of_host |= matches!(op, Op::RootDirectory { .. });
            places.see(op);
        }
        each.iter().for_each(|step| places.see(&step.op));
        places
    }

    fn see(&mut self, op: &'a Op<Vec<u8>>) {
        match op {
            Op::Directory { path: at, mode } if mode & VACANT != 0 => {
                self.mounted.push((path(at), true));
            }
            Op::Directory { path: at, .. } | Op::File { path: at, .. } => self.made.push(path(at)),
            Op::Symlink { path: at, .. } => self.links.push(path(at)),
            Op::Mount { to, .. } => self.mounted.push((path(to), true)),
            // From the file system that is writable by default.
            Op::Bind { from, .. } if !from.starts_with(b"/") => {}
            Op::Bind { to: at, .. } | Op::Mask { path: at } => {
                self.mounted.push((path(at), false));
            }
            _ => {}
        }
    }

    /// Whether this can be done; then it is there for the next one.
    fn take(&mut self, op: &'a Op<Vec<u8>>) -> bool {
        let place = match op {
            // Without a tree the source has no name any more.
            Op::Bind { to, fd, .. } if *fd >= 0 => path(to),
            Op::Mount { to, .. } => path(to),
            _ => return false,
        };
        let can = self.root_of_host || self.can_have(place);
        self.see(op);
        can
    }

    fn can_have(&self, place: &Path) -> bool {
        // What is put into /etc takes the place of what would be made there.
        if place.starts_with("/etc") || self.links.iter().any(|link| place.starts_with(link)) {
            return false;
        }
        let above = self.mounted.iter().filter(|(at, _)| place.starts_with(at) && place != *at);
        match above.max_by_key(|(at, _)| at.components().count()) {
            Some((_, own)) => *own,
            None => {
                let mounted = self.mounted.iter().map(|(at, _)| at);
                self.made.iter().chain(mounted).any(|at| at.starts_with(place))
            }
        }
    }
}

fn path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}
