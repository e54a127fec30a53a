//! What all sandboxes of a prepared one have in common, made once: the user namespace and the tree, as far as no
//! program can change it. Each sandbox gets a copy, in a user namespace of its own.

mod added;

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::abi::MOUNT_ATTR_RDONLY;
use crate::child::{Child, DROP_WAIT};
use crate::command::{Command, New};
use crate::control::init_died;
use crate::error::{Feature, Stage};
use crate::lower::Lowered;
use crate::namespace::idmap::Range;
use crate::namespace::{Namespaces, mount, user};
use crate::networks::Networks;
use crate::plan::{Plan, Step};
use crate::policy::Policy;
use crate::prepared::open_files;
use crate::process::{Launched, hold_closed_streams};
use crate::sandbox::Sandbox;
use crate::wire::{self, BIND_RECURSIVE, HELD, HOLD, Op, VACANT};
use crate::{spawn, sys};

/// Where the sources of what is bound into something fresh are held.
const SOURCES: &str = "/sources";
/// Directories and empty files only.
const HOLDER_SIZE: u64 = 1 << 20;

/// A process in those namespaces, of which inits are copied.
#[derive(Debug)]
pub(crate) struct Template {
    owner: u32,
    pub(crate) init: Launched,
    /// Where it takes control sockets.
    pub(crate) door: OwnedFd,
    /// What was done in it.
    shared: Plan,
    /// What is done in each copy that makes its network itself.
    lowered: Arc<Lowered>,
    /// Where they have their networks from, and what is done in one that has such a network.
    pub(crate) networks: Option<(Arc<Networks>, Arc<Lowered>)>,
    /// What it lacks, and so they.
    pub(crate) missing: Vec<Feature>,
    /// Copies that are about to end, which it reaps.
    ending: Mutex<Vec<Arc<OwnedFd>>>,
    /// It ends with this.
    _process: Mutex<Child>,
}

impl Template {
    /// Makes it, where sandboxes can have something in common and the system lets it be made. Without it
    /// they are made one by one, and tell what fails.
    pub(crate) fn make(sandbox: &Sandbox, lowered: &Lowered) -> Option<Self> {
        let (shared, lowered) = split(sandbox.policy(), lowered)?;
        // In a copy a program's descriptors have numbers as in a session.
        if open_files().is_ok_and(|most| most < wire::NUMBERS_OF_SESSION) {
            return None;
        }
        let plan = shared.plan.clone();
        let made = Command::new(sandbox.clone(), OsStr::new("/")).make_template(Arc::new(shared));
        let of = |New { child, door, .. }| {
            let (init, _) = child.init()?;
            let door = door.ok_or_else(|| init_died(&init, Stage::Launch))?;
            let missing = child.missing().to_vec();
            let (lowered, child) = (Arc::new(lowered), Mutex::new(child));
            let networks = match without_network(sandbox.policy(), &lowered) {
                None => None,
                Some(rest) => {
                    let loopback = lowered.plan.operations().any(|op| *op == Op::Loopback {});
                    let _held = hold_closed_streams()?;
                    let networks = spawn::keep_networks(&init, &door, loopback)?;
                    Some((Arc::new(networks), Arc::new(rest)))
                }
            };
            let owner = std::process::id();
            let (shared, ending, _process) = (plan, Mutex::default(), child);
            Ok(Template { owner, init, door, shared, lowered, networks, missing, ending, _process })
        };
        made.and_then(of).inspect_err(|error| log::info!("no template: {error}")).ok()
    }

    /// What is done in each copy.
    pub(crate) fn lowered(&self) -> Arc<Lowered> {
        Arc::clone(self.networks.as_ref().map_or(&self.lowered, |(_, lowered)| lowered))
    }

    /// Whether there can be copies: in a forked copy of the caller they would be the other's children.
    pub(crate) fn lives(&self) -> bool {
        self.owner == std::process::id()
            && !sys::wait_readable(self.init.pidfd.as_fd(), Some(Duration::ZERO))
            && self.networks.as_ref().is_none_or(|(networks, _)| networks.lives())
    }

    /// Ends after a copy that has said that it ends: who reaps orphans on a host may do it late.
    pub(crate) fn outlive(&self, copy: &Arc<OwnedFd>) {
        let mut ending = self.ending.lock().unwrap_or_else(PoisonError::into_inner);
        ending.retain(|copy| !sys::wait_readable(copy.as_fd(), Some(Duration::ZERO)));
        ending.push(Arc::clone(copy));
    }
}

impl Drop for Template {
    fn drop(&mut self) {
        // In a forked copy of the caller they are somebody else's.
        if self.owner != std::process::id() {
            return;
        }
        let ending = self.ending.get_mut().unwrap_or_else(PoisonError::into_inner);
        let until = Instant::now() + DROP_WAIT;
        for copy in ending.drain(..) {
            let left = until.saturating_duration_since(Instant::now());
            sys::wait_readable(copy.as_fd(), Some(left));
        }
    }
}

/// What is left to do in a sandbox that gets a network, if its network can be one that is used again.
fn without_network(policy: &Policy, lowered: &Lowered) -> Option<Lowered> {
    let of_networks =
        |step: &&Step| matches!(step.op, Op::NewNetwork {} | Op::JoinNetwork {} | Op::Loopback {});
    let plan = &lowered.plan;
    let makes = plan.steps.iter().any(|step| step.op == Op::NewNetwork {});
    // Its sysctls belong to uid 0, which needs no capability for them.
    if !policy.recycle_network || !makes || lowered.ids.inside.0 == 0 {
        return None;
    }
    let before = plan.steps.iter().take(plan.of_init).filter(of_networks).count();
    let steps = plan.steps.iter().filter(|step| !of_networks(step)).cloned().collect();
    let plan = Plan { steps, of_init: plan.of_init - before, ..plan.clone() };
    Some(Lowered { plan, ..lowered.clone() })
}

/// What is done once, and what is done for each sandbox.
pub(crate) fn split(policy: &Policy, lowered: &Lowered) -> Option<(Lowered, Lowered)> {
    if !is_possible(policy, lowered) {
        return None;
    }
    let plan = &lowered.plan;
    let (of_init, beside) = plan.steps.split_at_checked(plan.of_init)?;
    let tree = of_init.iter().position(|step| step.op == Op::Private {})?;
    let (before, tree) = of_init.split_at_checked(tree)?;
    let mut split = Split::default();
    let (uid, gid) = lowered.ids.inside;
    split.each(Op::SameIds { uid, gid }, "each has a user namespace of its own");
    before.iter().for_each(|step| split.before_the_tree(step));
    split.tree(tree)?;
    let (shared, mut each) = (split.shared, split.each);
    let of_init = each.len();
    each.extend_from_slice(beside);
    let with = |steps: Vec<Step>, of_init| Plan { steps, of_init, ..plan.clone() };
    let user_and_mount = Namespaces::USER | Namespaces::MOUNT;
    let count = shared.len();
    let shared = Plan { at_clone: user_and_mount, ..with(shared, count) };
    let shared = Lowered { plan: shared, at_clone: user_and_mount, score: None, ..lowered.clone() };
    let each = Lowered { plan: with(each, of_init), trees: Vec::new(), ..lowered.clone() };
    Some((shared, each))
}

/// Whether nothing in the way that a sandbox is made keeps it from being a copy.
fn is_possible(policy: &Policy, lowered: &Lowered) -> bool {
    let needed = Namespaces::USER | Namespaces::MOUNT | Namespaces::PID;
    let (uid, gid) = lowered.ids.inside;
    policy.init
        && policy.new_namespaces().contains(needed)
        && policy.joined.is_empty()
        && !policy.nesting
        && !mount::must_be_locked(policy)
        && !lowered.ids.are_chosen_late()
        && is_one(&lowered.maps.uids, uid)
        && is_one(&lowered.maps.gids, gid)
        && !policy.is_journaled()
        // A copy's keyring would be charged to the program's id, which all sandboxes of root's have: they have the
        // template's, and no call that leads to it.
        && (!user::is_root() || policy.seccomp.denies_keyrings())
}

/// Whether a map has that id only.
fn is_one(ranges: &[Range], id: u32) -> bool {
    matches!(ranges, [range] if range.count == 1 && range.inside == id)
}

/// Both plans while they are made.
#[derive(Debug, Default)]
struct Split {
    shared: Vec<Step>,
    each: Vec<Step>,
    /// What is held beside the tree, to be bound into what each sandbox has of its own.
    sources: Vec<Step>,
    /// Where that is.
    fresh: Vec<Vec<u8>>,
    /// Directories that are writable in a root that is not.
    writable: Vec<Vec<u8>>,
}

impl Split {
    fn shared(&mut self, op: Op<Vec<u8>>, reason: &'static str) {
        self.shared.push(Step::new(op, reason));
    }

    fn each(&mut self, op: Op<Vec<u8>>, reason: &'static str) {
        self.each.push(Step::new(op, reason));
    }

    fn before_the_tree(&mut self, step: &Step) {
        let (shared, each) = match step.op {
            // Root's copies have the template's; others one each, of the few that a user may have.
            Op::Keyring { .. } => (user::is_root(), !user::is_root()),
            Op::Await {} => (true, true),
            Op::Groups { .. } | Op::Credentials { .. } => (true, false),
            _ => (false, true),
        };
        self.shared.extend(shared.then(|| step.clone()));
        self.each.extend(each.then(|| step.clone()));
    }

    /// From the private propagation on.
    fn tree(&mut self, steps: &[Step]) -> Option<()> {
        let (private, steps) = steps.split_first()?;
        let (root, steps) = steps.split_first()?;
        let pivot = steps.iter().position(|step| matches!(step.op, Op::Pivot { .. }))?;
        let (inside, after) = steps.split_at_checked(pivot)?;
        let (pivot, after) = after.split_first()?;
        let Op::Pivot { attributes } = pivot.op else { return None };
        self.shared.push(private.clone());
        self.holder(inside);
        let held = self.shared.len();
        self.shared(Op::Enter {}, "the tree is held in it");
        self.root(root, inside)?;
        inside.iter().try_for_each(|step| self.inside(step))?;
        for path in std::mem::take(&mut self.fresh) {
            // Nothing that was to be seen there may have been put below it.
            self.shared(Op::Directory { path, mode: VACANT }, VACANT_REASON);
        }
        let hold = Op::Pivot { attributes: attributes | HOLD };
        self.shared(hold, "from here on nothing else of the host's has a name");
        self.shared.splice(held..held, std::mem::take(&mut self.sources));
        self.each(Op::Pivot { attributes: 0 }, pivot.reason);
        self.each.extend_from_slice(after);
        Some(())
    }

    /// What holds the tree, and what the kernel wants to see before it gives a fresh one.
    fn holder(&mut self, inside: &[Step]) {
        let binds = inside.iter().filter(|step| matches!(step.op, Op::Bind { .. })).count();
        let inodes = u64::try_from(binds).unwrap_or(u64::MAX).saturating_add(64);
        self.shared(Op::RootTmpfs { size: HOLDER_SIZE, inodes }, "it holds what is copied");
        for path in [held(), SOURCES.into()] {
            self.shared(Op::Directory { path, mode: 0o700 }, "a place to mount on");
        }
        // By that of processes descriptors have names as well.
        for (kind, path) in [("proc", "/proc"), ("sysfs", "/sys")] {
            if kind == "proc" || mounts(inside, kind) {
                let (from, to) = (path.into(), path.into());
                let op = Op::Bind { from, fd: -1, to, flags: BIND_RECURSIVE, attributes: 0 };
                self.shared(op, "who sees one may mount another");
            }
        }
    }

    fn root(&mut self, root: &Step, inside: &[Step]) -> Option<()> {
        match root.op {
            Op::RootTmpfs { size, inodes } => self.writable(size, inodes, inside),
            Op::RootDirectory { attributes, .. } if attributes & MOUNT_ATTR_RDONLY != 0 => {}
            _ => return None,
        }
        self.shared.push(root.clone());
        let fd = wire::OF_TEMPLATE;
        let op = Op::RootDirectory { from: held(), fd, attributes: 0 };
        self.each(op, "a copy of what all have");
        Some(())
    }

    /// A file system in memory for what is writable in a root that is not.
    fn writable(&mut self, size: u64, inodes: u64, inside: &[Step]) {
        let inodes = inodes | wire::BESIDE;
        self.each(Op::RootTmpfs { size, inodes }, "what is writable by default, from one budget");
        for step in inside {
            if let Op::Directory { path, .. } | Op::Owner { path, .. } = &step.op {
                if again(inside, path) {
                    self.writable.push(path.clone());
                    self.each.push(step.clone());
                }
            }
        }
        self.each(Op::Enter {}, "it is bound from");
        self.each(Op::Keep { path: b"/".to_vec() }, "what is written there can be opened later");
    }

    fn inside(&mut self, step: &Step) -> Option<()> {
        match &step.op {
            Op::Mount { to, .. } => {
                if !self.is_fresh(to) {
                    self.shared(Op::Directory { path: to.clone(), mode: VACANT }, VACANT_REASON);
                    self.fresh.push(to.clone());
                }
                self.each.push(step.clone());
            }
            Op::Again { path, attributes } if self.writable.contains(path) => {
                let (from, to) = (path.get(1..)?.to_vec(), path.clone());
                let op = Op::Bind { from, fd: -1, to, flags: 0, attributes: *attributes };
                self.each(op, step.reason);
                self.fresh.push(path.clone());
            }
            Op::Again { path, .. } if !self.is_fresh(path) => return None,
            Op::Bind { from, fd, to, flags, attributes } if self.is_fresh(to) => {
                let source = format!("{SOURCES}/{}", self.sources.len()).into_bytes();
                let (from, fd, flags, attributes) = (from.clone(), *fd, *flags, *attributes);
                let op = Op::Bind { from, fd, to: source.clone(), flags, attributes };
                self.sources.push(Step::new(op, step.reason));
                let (to, attributes) = (to.clone(), 0);
                let bind = Op::Bind { from: source, fd: -1, to, flags, attributes };
                let stands_for = Some(step.op.clone());
                self.each.push(Step { stands_for, ..Step::new(bind, step.reason) });
            }
            // Done before it is attached again.
            Op::Directory { path, .. } | Op::Owner { path, .. }
                if self.writable.contains(path) && self.is_fresh(path) => {}
            // What is made in a directory that all have is not one's own.
            Op::Directory { path, .. } | Op::Owner { path, .. } if self.fresh.contains(path) => {
                return None;
            }
            Op::Directory { path, .. }
            | Op::File { path, .. }
            | Op::Symlink { path, .. }
            | Op::Owner { path, .. }
            | Op::Mask { path }
            | Op::Again { path, .. }
            | Op::Bind { to: path, .. } => match self.is_fresh(path) {
                true => self.each.push(step.clone()),
                false => self.shared.push(step.clone()),
            },
            Op::Keep { .. } => self.each.push(step.clone()),
            // Overlays, which are made of what one sandbox has.
            _ => return None,
        }
        Some(())
    }

    /// Whether a path leads to what each sandbox has of its own.
    fn is_fresh(&self, path: &[u8]) -> bool {
        self.fresh.iter().any(|fresh| {
            path.strip_prefix(&fresh[..]).is_some_and(|rest| matches!(rest, [] | [b'/', ..]))
        })
    }
}

const VACANT_REASON: &str = "each sandbox has its own there";

/// Where the tree is held.
fn held() -> Vec<u8> {
    HELD.strip_suffix(b"\0").unwrap_or(HELD).to_vec()
}

/// Whether a directory is attached a second time.
fn again(steps: &[Step], directory: &[u8]) -> bool {
    steps.iter().any(|step| matches!(&step.op, Op::Again { path, .. } if path == directory))
}

/// Whether a file system of that kind is mounted.
fn mounts(steps: &[Step], wanted: &str) -> bool {
    steps.iter().any(|step| matches!(&step.op, Op::Mount { kind, .. } if kind == wanted.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lower::lower;
    use crate::{Data, Overlay, Proc};

    fn cut(sandbox: &Sandbox) -> Option<(Vec<String>, Vec<String>)> {
        let lowered = lower(sandbox, OsStr::new("/usr/bin")).unwrap();
        let lines = |lowered: Lowered| {
            let line = |op: &Op<Vec<u8>>| format!("{} {}", op.verb(), op.object());
            lowered.plan.operations().map(line).collect::<Vec<_>>()
        };
        split(sandbox.policy(), &lowered).map(|(shared, each)| (lines(shared), lines(each)))
    }

    fn has(lines: &[String], text: &str) -> bool {
        lines.iter().any(|line| line.contains(text))
    }

    #[test]
    fn what_a_program_can_change_is_not_shared() {
        let sandbox = Sandbox::new()
            .tmpfs("/scratch")
            .data(Data::file("/tmp/data", ""))
            .data(Data::file("/file", ""));
        let (shared, each) = cut(&sandbox).unwrap();
        for fresh in
            ["mount proc", "mount devpts", "mount tmpfs on", "file \"/tmp/data\"", "sethostname"]
        {
            assert!(has(&each, fresh) && !has(&shared, fresh), "{fresh}");
        }
        for common in [
            "bind \"/usr\"",
            "symlink \"/dev/fd\"",
            "file \"/file\"",
            "\"/etc/passwd\"",
            "become uid",
        ] {
            assert!(has(&shared, common) && !has(&each, common), "{common}");
        }
        // One after the other: a root for what is writable, the copy, what is bound from the former.
        let of_root: Vec<_> = each.iter().filter(|line| line.starts_with("root: ")).collect();
        assert!(
            of_root[0].starts_with("root: tmpfs") && of_root[1].contains("/root"),
            "{of_root:?}"
        );
        assert!(has(&each, "bind \"tmp\" on \"/tmp\" (writable)"), "{each:?}");
    }

    #[test]
    fn a_source_below_something_fresh_is_held_beside_the_tree() {
        let sandbox =
            Sandbox::new().bind_ro("/usr/lib", "/home/user/lib").bind_ro("/usr/bin", "/in");
        let (shared, each) = cut(&sandbox).unwrap();
        assert!(has(&shared, "bind \"/usr/lib\" on \"/sources/0\" (read-only)"), "{shared:?}");
        assert!(has(&each, "bind \"/sources/0\" on \"/home/user/lib\""), "{each:?}");
        assert!(has(&shared, "bind \"/usr/bin\" on \"/in\"") && !has(&each, "/in"), "{each:?}");
        // Before the tree is entered, whose paths are the inside's.
        let at = |text: &str| shared.iter().position(|line| line.contains(text)).unwrap();
        assert!(at("/sources/0") < at("enter"));
    }

    #[test]
    fn what_cannot_be_cut_is_not() {
        let new = Sandbox::new;
        for sandbox in [
            new().overlay("/data", Overlay::new(["/usr"])),
            new().allow_nesting(),
            new().init(false),
            new().capabilities([crate::Capability::SYS_ADMIN]),
            new().namespaces(Namespaces::all() - Namespaces::PID),
            new().learn(),
        ] {
            assert_eq!(cut(&sandbox), None);
        }
        assert!(cut(&new().proc(Proc::Full)).is_some());
    }
}
