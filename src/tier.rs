//! What a sandbox does without by name. One without namespaces: what it lacks, what comes in its place, and which files it shows;
//! [landlock(7)](https://man7.org/linux/man-pages/man7/landlock.7.html).
//!
//! The description is the same, and so is the way it is carried out. Of the tree there are only
//! places, each with what may be done beneath it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::abi::{MOUNT_ATTR_NOEXEC, MOUNT_ATTR_RDONLY};
use crate::error::{Error, Feature, Result, Stage, quoted};
use crate::executable;
use crate::lower::Lower;
use crate::namespace::Namespaces;
use crate::namespace::user::Ids;
use crate::policy::Policy;
use crate::seccomp::Shared;
use crate::wire::Op;

/// What may be done beneath a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rights {
    pub(crate) write: bool,
    pub(crate) execute: bool,
}

impl Rights {
    fn are_all_in(self, other: Self) -> bool {
        (!self.write || other.write) && (!self.execute || other.execute)
    }
}

/// What each kind of namespace would give.
const GIVEN: [(Namespaces, Feature); 8] = [
    (Namespaces::USER, Feature::UserNamespace),
    (Namespaces::MOUNT, Feature::MountNamespace),
    (Namespaces::PID, Feature::PidNamespace),
    (Namespaces::NET, Feature::NetworkNamespace),
    (Namespaces::IPC, Feature::IpcNamespace),
    (Namespaces::UTS, Feature::UtsNamespace),
    (Namespaces::CGROUP, Feature::CgroupNamespace),
    (Namespaces::TIME, Feature::TimeNamespace),
];

/// What contradicts itself in a sandbox without namespaces.
pub(crate) fn problems(policy: &Policy, problems: &mut Vec<String>) {
    if !policy.without_namespaces {
        return;
    }
    for (wrong, what) in [
        (!policy.joined.is_empty(), "join(..)"),
        (policy.nesting, "allow_nesting()"),
        // What Landlock refuses there, a look at the tree does not foretell.
        (policy.is_journaled(), "learn() or declare_inputs(..)"),
        (policy.user.is_own(), "own_host_id()"),
        (policy.user.is_map(), "id_map(..)"),
        (!policy.init, "init(false)"),
        (policy.new_privileges, "allow_new_privileges()"),
        (!policy.landlock.has_walls(), "Landlock::none()"),
    ] {
        if wrong {
            problems.push(format!("{what} and without_namespaces() exclude each other"));
        }
    }
    policy.tree.tier_problems(problems);
}

/// What was opened by name.
pub(crate) fn opened(policy: &Policy) -> impl Iterator<Item = Feature> {
    let nesting = policy.nesting.then_some(Feature::NestingForbidden);
    nesting.into_iter().chain(policy.debugging.then_some(Feature::DebuggingForbidden))
}

/// What is asked for and cannot be given; an error that names all of it, unless all is dispensable.
pub(crate) fn lost(policy: &Policy, ids: Ids) -> Result<Vec<Feature>> {
    if !policy.without_namespaces {
        return Ok(Vec::new());
    }
    let wanted = policy.wanted_namespaces();
    let mut lost: Vec<_> =
        GIVEN.into_iter().filter(|(kind, _)| wanted.contains(*kind)).map(|(_, one)| one).collect();
    if wanted.contains(Namespaces::PID) {
        lost.push(Feature::AtomicEnd);
    }
    if ids.are_foreign() && policy.tree.has_binds() {
        lost.push(Feature::IdMappedMounts);
    }
    let accepted = |feature: Feature| {
        policy.is_best_effort(feature) || feature == Feature::AtomicEnd && policy.without_atomic_end
    };
    let needed: Vec<_> = lost.iter().copied().filter(|&one| !accepted(one)).collect();
    if let Some(&feature) = needed.first() {
        let names: Vec<_> = needed.iter().map(|one| format!("Feature::{one:?}")).collect();
        let reason = format!(
            "there is none without namespaces; best_effort(..) of {} accepts that",
            names.join(", ")
        );
        return Err(Error::Unsupported { feature, reason });
    }
    if may_change_attributes(policy) {
        lost.push(Feature::FileAttributes);
    }
    Ok(lost)
}

fn may_change_attributes(policy: &Policy) -> bool {
    has_view(policy) && policy.is_best_effort(Feature::FileAttributes)
}

/// Whether places come in the place of a tree.
pub(crate) fn has_view(policy: &Policy) -> bool {
    policy.without_namespaces && policy.wanted_namespaces().contains(Namespaces::MOUNT)
}

/// Whether all of the network is refused.
pub(crate) fn refuses_network(policy: &Policy) -> bool {
    policy.without_namespaces && policy.wanted_namespaces().contains(Namespaces::NET)
}

/// What the filter has to refuse.
pub(crate) fn shared(policy: &Policy) -> Shared {
    let mut shared = Shared::empty();
    if !policy.without_namespaces {
        return shared;
    }
    let wanted = policy.wanted_namespaces();
    for (kind, what) in [
        (Namespaces::NET, Shared::NETWORKS),
        (Namespaces::MOUNT, Shared::NAMES),
        (Namespaces::IPC, Shared::IPC),
        (Namespaces::PID, Shared::PROCESSES),
        (Namespaces::USER, Shared::KEYS),
    ] {
        shared.set(what, wanted.contains(kind));
    }
    shared.set(Shared::ATTRIBUTES, has_view(policy) && !may_change_attributes(policy));
    shared
}

/// The places that the program may reach, as the tree has them at the same paths.
///
/// Rules add up: what a place allows, all that is beneath it allows as well. A description that asks
/// for less beneath another place is an error.
pub(crate) fn view(policy: &Policy, search: &OsStr) -> Result<BTreeMap<PathBuf, Rights>> {
    let mut plan = Lower::without_trees();
    policy.tree.lower_view(&mut plan, search)?;
    let mut places = BTreeMap::new();
    for op in plan.operations() {
        let Op::Bind { to, attributes, .. } = op else { continue };
        let place = Path::new(OsStr::from_bytes(to));
        let found = place.canonicalize().map_err(|error| {
            Error::new(Stage::Prepare, "resolve", quoted(place), executable::errno_of(&error))
        });
        let found = match found {
            // A device that this host has not.
            Err(_) if place.starts_with("/dev") && !policy.tree.names(place) => continue,
            other => other?,
        };
        let rights = Rights {
            write: attributes & MOUNT_ATTR_RDONLY == 0,
            execute: attributes & MOUNT_ATTR_NOEXEC == 0,
        };
        // As with mounts, the last word counts.
        places.insert(found, rights);
    }
    for (place, rights) in &places {
        let above = place.ancestors().skip(1).find_map(|path| Some((path, *places.get(path)?)));
        if let Some((path, _)) = above.filter(|(_, wider)| !wider.are_all_in(*rights)) {
            let reason = format!(
                "without it nothing beneath {} can be allowed less than that, and {} is to be",
                quoted(path),
                quoted(place)
            );
            return Err(Error::Unsupported { feature: Feature::MountNamespace, reason });
        }
    }
    Ok(places)
}
