//! From a description to operations: what is done, and the order in which it is done.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::statvfs::{FsFlags, statvfs};

use crate::error::{Error, Feature, Result, Stage, quoted};
use crate::landlock::Ruleset;
use crate::namespace::idmap::Maps;
use crate::namespace::user::{self, Ids};
use crate::namespace::{Namespaces, Source, cgroup, mount, net, time};
use crate::plan::{Plan, Step};
use crate::policy::Policy;
use crate::rootfs::{Entry, Inside, TreeSource, bytes};
use crate::sandbox::Sandbox;
use crate::wire::{OWN, Op};
use crate::{executable, lsm, sys, tier};

/// How much higher the `oom_score_adj` of a program with a limit of memory is, if nothing else was asked
/// for: as if it used a tenth of the limit more, which is more than init is large.
const BEFORE_INIT: i32 = 100;
const OOM_SCORE_ADJ_MAX: i32 = 1000;

/// A plan while it is being made.
#[derive(Debug)]
pub(crate) struct Lower {
    steps: Vec<Step>,
    /// How many of them are init's; what follows the program's process does itself.
    of_init: Option<usize>,
    /// What the caller's process has to copy, if it has to.
    trees: Option<Vec<TreeSource>>,
}

/// A plan, and what it needs to be carried out.
#[derive(Debug, Clone)]
pub(crate) struct Lowered {
    pub(crate) plan: Plan,
    /// What its numbers of trees stand for.
    pub(crate) trees: Vec<TreeSource>,
    pub(crate) ids: Ids,
    pub(crate) maps: Maps,
    /// The namespaces that the clone itself makes; the others come once it is in place.
    pub(crate) at_clone: Namespaces,
    /// What is known to be missing before anything runs.
    pub(crate) missing: Vec<Feature>,
    /// The caller's `oom_score_adj`, which init gets back, if the program's is another.
    pub(crate) score: Option<i32>,
}

impl Lowered {
    /// Gives the program the host's id `id`, which no other sandbox has.
    pub(crate) fn choose(&mut self, id: u32) {
        self.ids.host = (id, id);
        self.maps = Maps::of(self.ids.inside, self.ids.host);
    }
}

impl Lowered {
    /// What a process is to do that enters a sandbox which was made so: what is its own, and nothing of the
    /// tree or of namespaces.
    pub(crate) fn of_who_enters(&self) -> Self {
        let mut own = self.clone();
        own.plan.steps.retain(|step| match &step.op {
            // The score is written from outside: init's own file is another's as long as it is undumpable.
            Op::WriteFile { path, .. } => path.windows(5).any(|part| part == b"attr/"),
            Op::Keyring { .. } | Op::Await {} | Op::Groups { .. } | Op::Credentials { .. } => true,
            _ => false,
        });
        own.plan.of_init = own.plan.steps.len();
        own.trees.clear();
        own.at_clone = Namespaces::empty();
        own.score = None;
        own
    }

    /// The `oom_score_adj` that the program has, if it is another than the caller's.
    pub(crate) fn score_of_program(&self) -> Option<&[u8]> {
        self.plan.operations().find_map(|op| match op {
            Op::WriteFile { path, data, .. } if path == b"self/oom_score_adj" => Some(&data[..]),
            _ => None,
        })
    }
}

impl Lower {
    /// In which the host's tree is named by its paths.
    pub(crate) fn without_trees() -> Self {
        // Some more than a default sandbox has.
        Lower { steps: Vec::with_capacity(128), of_init: None, trees: None }
    }

    /// Adds an operation, and why it is done.
    pub(crate) fn step(&mut self, op: Op<Vec<u8>>, reason: &'static str) {
        self.steps.push(Step::new(op, reason));
    }

    /// What there is to do so far.
    pub(crate) fn operations(&self) -> impl DoubleEndedIterator<Item = &Op<Vec<u8>>> {
        self.steps.iter().map(|step| &step.op)
    }

    pub(crate) fn directory(&mut self, path: &Path, mode: u32) {
        self.step(Op::Directory { path: bytes(path), mode }, "a place to write, or to mount on");
    }

    pub(crate) fn symlink(&mut self, path: &Path, target: &Path) {
        let op = Op::Symlink { path: bytes(path), target: bytes(target) };
        self.step(op, "programs look there");
    }

    pub(crate) fn mount(&mut self, kind: &'static str, path: &Path, flags: u32, options: &str) {
        let flags = flags | if kind == "tmpfs" { OWN } else { 0 };
        let op = Op::Mount { kind: kind.into(), to: bytes(path), flags, options: options.into() };
        self.step(op, "an instance of the sandbox's own");
    }

    pub(crate) fn mask(&mut self, path: &Path) {
        self.step(Op::Mask { path: bytes(path) }, "it tells of the host, or changes it");
    }

    /// The number of a part of the host's tree that the caller's process has to copy, else -1.
    pub(crate) fn tree(&mut self, path: &Path, recursive: bool) -> i32 {
        let Some(trees) = &mut self.trees else { return -1 };
        trees.push(TreeSource { path: path.to_owned(), recursive });
        i32::try_from(trees.len() - 1).unwrap_or(i32::MAX)
    }
}

/// Lowers everything that does not depend on the command, but for its PATH, in which the programs
/// are looked for that scripts ask for. **The order of the operations:**
///
/// 1. what is written to init's own /proc files, as long as init is dumpable: what it starts has it, too,
/// 2. namespaces that are entered late (cgroup, time), then the clocks,
/// 3. the keyring, charged to the caller, then the ids, without which nothing can be created,
/// 4. the program's process, which from here on works beside init: see 8,
/// 5. the tree, from private propagation to the pivot, with the caller's entries in their order,
/// 6. the network namespace that the other process has made meanwhile, and its loopback,
/// 7. the limit of nested user namespaces, through a descriptor of the host's /proc, while the
///    program is let go,
/// 8. in that other process: the network namespace and names, which need no tree,
///
/// or, if CAP_SYS_ADMIN is kept, names and loopback by init, then the lock on all mounts, after which
/// nobody inside has power over the other namespaces, and then the program's process.
///
/// Without a supervisor the other process does only 8, and loopback, and init becomes the program.
///
/// Landlock's rules are init's, which has the tree; capabilities, limits, the filter and the exec follow, in
/// the order of that process.
pub(crate) fn lower(sandbox: &Sandbox, search: &OsStr) -> Result<Lowered> {
    let policy = sandbox.policy();
    let new = policy.new_namespaces();
    let (ids, maps) = policy.user.ids(new.contains(Namespaces::USER))?;
    let (copied, unmapped) = copies_trees(policy, ids);
    let trees = copied.then(Vec::new);
    let mut plan = Lower { trees, ..Lower::without_trees() };
    let (score, lowered_score) = own_files(policy, &mut plan)?;
    let unlabelled = lsm::lower(policy, &mut plan)?;
    time::lower(policy, &mut plan)?;
    let optional = policy.optional(Feature::SessionKeyring);
    plan.step(Op::Keyring { optional }, "session keyrings have no namespace");
    plan.step(Op::Await {}, "the caller's process writes them meanwhile");
    cgroup::lower(policy, &mut plan);
    let missing_groups = identity(policy, ids, &maps, &mut plan);
    let locks = mount::must_be_locked(policy);
    // What the program's process is to have as its root, it has from init.
    let beside = policy.has_own_pids() && !locks && !policy.tree.hide_paths;
    let network_beside = beside && net::is_made_beside(policy);
    if network_beside || (beside && policy.init) {
        plan.step(Op::Start {}, "it sets itself up while the tree is made");
    }
    if new.contains(Namespaces::MOUNT) {
        let own_names = new.contains(Namespaces::UTS);
        let inside = Inside {
            ids,
            search,
            home: policy.tree.home(),
            hostname: own_names.then_some(&*policy.uts.hostname),
            own_pids: new.contains(Namespaces::PID),
            budget: policy.tree.budget(policy.limits.memory.as_ref().and_then(|memory| memory.max)),
            machine: policy.tree.view.as_ref().map(|view| view.machine(&policy.limits)),
        };
        policy.tree.lower(&mut plan, &inside)?;
        if policy.tree.hide_paths {
            plan.step(Op::Hide {}, "lists of mounts tell where on the host they come from");
        }
    }
    // The lock is a user namespace as well.
    let own_user = new.contains(Namespaces::USER) || locks;
    let limits_inotify = new.contains(Namespaces::USER) && may_limit_inotify()?;
    if locks {
        inotify(limits_inotify, &mut plan);
        names(policy, new, &mut plan);
        net::lower(policy, &mut plan);
        mount::lower_lock(ids, &mut plan);
    }
    // Init has to wait for the network anyway, and the program does not have to wait for this.
    let loopback_by_init = network_beside && policy.init;
    if network_beside {
        plan.step(Op::JoinNetwork {}, "the started process has made it");
        if loopback_by_init {
            net::lower(policy, &mut plan);
        }
    }
    if own_user && !policy.nesting {
        let optional = policy.optional(Feature::NestedUserNamespaceCount);
        let op = Op::NoNesting { optional };
        plan.step(op, "in a nested one a full /proc can be mounted");
    }
    if !locks {
        plan.of_init = Some(plan.steps.len());
        if network_beside {
            plan.step(Op::NewNetwork {}, "it takes as long as the tree");
        }
        inotify(limits_inotify, &mut plan);
        names(policy, new, &mut plan);
        if !loopback_by_init {
            net::lower(policy, &mut plan);
        }
    }
    let counted = own_user || policy.nesting;
    let uncounted = (!counted).then_some(Feature::NestedUserNamespaceCount);
    let unlimited = (!limits_inotify).then_some(Feature::InotifyLimits);
    let missing = missing_groups.into_iter().chain(uncounted).chain(unlimited);
    let mut missing: Vec<_> = missing.chain(lowered_score).collect();
    missing.extend(unlabelled);
    missing.extend(tier::opened(policy));
    missing.extend(unmapped.then_some(Feature::IdMappedMounts));
    check_required(policy, &missing)?;
    missing.extend(tier::lost(policy, ids)?);
    let view = match tier::has_view(policy) {
        true => Some(tier::view(policy, search)?),
        false => None,
    };
    let (ruleset, not_restricted) = Ruleset::new(policy, plan.operations(), view)?;
    missing.extend(not_restricted);
    let trees = plan.trees.unwrap_or_default();
    let of_init = plan.of_init.unwrap_or(plan.steps.len());
    let later = if network_beside { Namespaces::NET } else { Namespaces::empty() };
    let at_clone = new - Namespaces::CGROUP - Namespaces::TIME - later;
    let plan = Plan {
        sandbox: sandbox.clone(),
        search: search.to_owned(),
        at_clone,
        joined: joined_names(policy),
        ids,
        maps: maps.clone(),
        steps: plan.steps,
        of_init,
        ruleset,
        missing: missing.clone(),
        label: None,
    };
    Ok(Lowered { plan, trees, ids, maps, at_clone, missing, score })
}

/// Whether the caller's process copies what is shown of the host's tree; and whether it would, but may not.
fn copies_trees(policy: &Policy, ids: Ids) -> (bool, bool) {
    // In a joined user namespace the host's ids are not known, and init reaches what it may.
    let own_ids = !policy.joined_namespaces().contains(Namespaces::USER);
    let copied = own_ids && ids.are_foreign() && user::is_root();
    let unmapped = copied
        && !user::may_copy_trees()
        && policy.is_best_effort(Feature::IdMappedMounts)
        && policy.tree.shows_the_hosts();
    (copied && !unmapped, unmapped)
}

/// What is done for these binds and tmpfs in a tree that is there, and what the caller's process copies for it.
pub(crate) fn lower_added(
    policy: &Policy,
    ids: Ids,
    entries: &[Entry],
) -> Result<(Vec<Step>, Vec<TreeSource>)> {
    let (copied, _) = copies_trees(policy, ids);
    let mut plan = Lower { trees: copied.then(Vec::new), ..Lower::without_trees() };
    entries.iter().try_for_each(|entry| entry.lower(&mut plan, OsStr::new("")))?;
    Ok((plan.steps, plan.trees.unwrap_or_default()))
}

/// Whether what inotify may have can be limited in a user namespace: not in a container, most often.
fn may_limit_inotify() -> Result<bool> {
    const PATH: &str = "/proc/sys/user/max_inotify_instances";
    match statvfs(PATH) {
        Ok(found) => Ok(!found.flags().contains(FsFlags::ST_RDONLY)),
        Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES) => Ok(false),
        Err(errno) => Err(Error::new(Stage::Prepare, "statfs", quoted(PATH), errno)),
    }
}

fn inotify(limits: bool, plan: &mut Lower) {
    if limits {
        plan.step(Op::InotifyLimits {}, "it counts for who made the user namespace");
    }
}

fn names(policy: &Policy, new: Namespaces, plan: &mut Lower) {
    if new.contains(Namespaces::UTS) {
        policy.uts.lower(plan);
    }
}

/// The score, which is only raised; the kernel lets it be lowered to what root once gave. Returns the
/// caller's, if the program's is another, and what is missing.
fn own_files(policy: &Policy, plan: &mut Lower) -> Result<(Option<i32>, Option<Feature>)> {
    let limited = policy.limits.memory.is_some() && policy.init;
    if policy.oom_score_adj.is_none() && !limited {
        return Ok((None, None));
    }
    let own = std::fs::read_to_string("/proc/self/oom_score_adj").map_err(|error| {
        let errno = executable::errno_of(&error);
        Error::new(Stage::Prepare, "read", "oom_score_adj of the caller", errno)
    })?;
    let own: i32 = own.trim().parse().map_err(|_| {
        Error::new(Stage::Prepare, "read", "oom_score_adj of the caller", Errno::EINVAL)
    })?;
    let score = policy.oom_score_adj.unwrap_or((own + BEFORE_INIT).min(OOM_SCORE_ADJ_MAX));
    if own > score {
        if policy.is_best_effort(Feature::OomScoreAdj) {
            return Ok((None, Some(Feature::OomScoreAdj)));
        }
        let object = format!("to {score}, below the caller's {own}");
        return Err(Error::new(Stage::Prepare, "raise oom_score_adj", object, Errno::EACCES));
    }
    let (optional, reason) = match policy.oom_score_adj {
        Some(_) => (policy.optional(Feature::OomScoreAdj), "asked for"),
        None => (Feature::OomScoreAdj.bit(), "the program is to be killed, and not init"),
    };
    let op = Op::WriteFile {
        path: b"self/oom_score_adj".to_vec(),
        data: score.to_string().into_bytes(),
        optional,
    };
    plan.step(op, reason);
    Ok(((own != score).then_some(own), None))
}

/// The ids; returns what cannot be dropped.
fn identity(policy: &Policy, ids: Ids, maps: &Maps, plan: &mut Lower) -> Option<Feature> {
    let own = policy.new_namespaces().contains(Namespaces::USER);
    let privileged = user::is_root() || own && user::needs_helper_for_groups(ids, maps);
    let others = sys::groups().iter().any(|&group| group != ids.caller.1);
    let (uid, gid) = ids.inside;
    if privileged {
        // In a joined user namespace setgroups may be denied already.
        let joined = policy.joined_namespaces().contains(Namespaces::USER);
        let optional = if joined { policy.optional(Feature::SupplementaryGroups) } else { 0 };
        plan.step(Op::Groups { optional }, "they survive a change of uid");
    }
    if !user::is_powerless(policy) || ids.inside != ids.caller {
        let op = Op::Credentials { uid, gid };
        plan.step(op, "what init creates from here on is the program's");
    }
    (!privileged && others).then_some(Feature::SupplementaryGroups)
}

fn check_required(policy: &Policy, missing: &[Feature]) -> Result<()> {
    match missing.iter().find(|&&feature| !policy.is_best_effort(feature)) {
        Some(&feature) => {
            let reason = match feature {
                Feature::SupplementaryGroups => {
                    "an unprivileged process must deny setgroups(2) before it can map its group; \
                     start the caller without supplementary groups, or as root"
                }
                Feature::NestedUserNamespaceCount => {
                    "without a user namespace of its own it would be the caller's that is limited"
                }
                Feature::NestingForbidden => "allow_nesting() leaves it out",
                Feature::DebuggingForbidden => "allow_debugging() leaves it out",
                Feature::InotifyLimits => {
                    "/proc/sys is read-only, or there is no user namespace of its own, and the \
                     limits would be the caller's"
                }
                _ => "the kernel refuses",
            };
            Err(Error::Unsupported { feature, reason: reason.to_owned() })
        }
        None => Ok(()),
    }
}

fn joined_names(policy: &Policy) -> Vec<(Namespaces, String)> {
    let name = |source: &Source| match source {
        Source::Path(path) => quoted(path),
        Source::Fd(fd) => {
            let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(fd));
            quoted(std::fs::read_link(&link).unwrap_or_else(|_| PathBuf::from(link)))
        }
    };
    policy.joined.iter().map(|(kind, existing)| (*kind, name(&existing.0))).collect()
}
