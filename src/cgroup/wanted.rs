//! In which hierarchies and places there is what a sandbox's limits need, and why there is not.

use std::path::Path;
use std::sync::Arc;

use super::delegation::{self, Lacking};
use super::hierarchy::{Hierarchies, Hierarchy, Unavailable};
use super::place::{Below, Place};
use super::{CgroupParent, CgroupVersion, Controller, known};
use crate::error::{Error, Result};

/// Hierarchies, each with what is wanted of it.
pub(super) type Wanted<'a> = [(&'a Hierarchy, Vec<Controller>)];
/// Places, each with the controllers that it gives.
pub(super) type Places = Vec<(Arc<Place>, Vec<Controller>)>;

/// The places in all hierarchies, and the controllers that have none and may be missing.
pub(super) fn find_places(
    below: &Below,
    wanted: &Wanted<'_>,
    may_be_missing: impl Fn(Controller) -> bool,
) -> Result<(Places, Vec<Controller>)> {
    let (mut places, mut missing) = (Vec::new(), Vec::new());
    for (hierarchy, controllers) in wanted {
        let find = |controllers: &[Controller]| {
            let parent = below.in_hierarchy(hierarchy, controllers)?;
            known::place(&parent, hierarchy, controllers)
        };
        let found = find_for_most(find, &may_be_missing, controllers);
        let (found, lost) = found.map_err(|error| {
            delegation::complete(error, below, &required(wanted, &may_be_missing))
        })?;
        let mut given = controllers.clone();
        given.retain(|one| !lost.contains(one));
        places.extend(found.map(|place| (place, given)));
        missing.extend(lost);
    }
    Ok((places, missing))
}

/// The same without what may be missing.
pub(super) fn required<'a>(
    wanted: &Wanted<'a>,
    may_be_missing: impl Fn(Controller) -> bool,
) -> Vec<(&'a Hierarchy, Vec<Controller>)> {
    let required =
        |all: &[Controller]| all.iter().copied().filter(|one| !may_be_missing(*one)).collect();
    wanted.iter().map(|(hierarchy, all)| (*hierarchy, required(all))).collect()
}

/// The hierarchy to limit something in. Each group of v2 counts CPU time, too, and one that is delegated
/// to the caller does where v1's is not.
pub(super) fn delegated<'a>(
    hierarchies: &'a Hierarchies,
    parent: &CgroupParent,
    controller: Controller,
) -> Result<&'a Hierarchy, Unavailable> {
    let first = hierarchies.of(controller)?;
    if (first.version, controller) != (CgroupVersion::V1, Controller::Cpuacct) {
        return Ok(first);
    }
    let lacks = |one: &Hierarchy| Lacking::of(parent, one, &[controller]).is_some();
    let v2 = hierarchies.v2().filter(|v2| lacks(first) && !lacks(v2));
    Ok(v2.unwrap_or(first))
}

/// The place in one hierarchy, if need be without some controllers that may be missing, and those.
fn find_for_most(
    find: impl Fn(&[Controller]) -> Result<Arc<Place>>,
    may_be_missing: impl Fn(Controller) -> bool,
    controllers: &[Controller],
) -> Result<(Option<Arc<Place>>, Vec<Controller>)> {
    let error = match find(controllers) {
        Ok(place) => return Ok((Some(place), Vec::new())),
        Err(error) => error,
    };
    let is_lost = |one: &Controller| may_be_missing(*one) && find(&[*one]).is_err();
    let (lost, rest): (Vec<_>, Vec<_>) = controllers.iter().copied().partition(is_lost);
    match (lost.is_empty(), rest.is_empty()) {
        (true, _) => Err(error),
        (_, true) => Ok((None, lost)),
        _ => Ok((Some(find(&rest)?), lost)),
    }
}

pub(super) fn unavailable(
    hierarchies: &Hierarchies,
    controller: Controller,
    why: Unavailable,
) -> Error {
    let (reason, remedy) = why_unavailable(hierarchies, controller, why);
    let reason = format!("{reason}; {remedy}");
    Error::Unsupported { feature: controller.feature(), reason }
}

/// Why there are no limits of it, and what to do about that.
pub(super) fn why_unavailable(
    hierarchies: &Hierarchies,
    controller: Controller,
    why: Unavailable,
) -> (String, String) {
    let (v1, v2) = (controller.name(CgroupVersion::V1), controller.name(CgroupVersion::V2));
    let point = hierarchies.with(controller).map_or(Path::new("/sys/fs/cgroup"), |one| &one.point);
    let (reason, remedy) = match why {
        Unavailable::NotInKernel => (
            format!("the kernel has no controller {v1:?}"),
            "use one that was built with it".into(),
        ),
        Unavailable::Disabled => (
            format!("the controller {v1:?} is switched off"),
            format!("boot with cgroup_enable={v1}"),
        ),
        Unavailable::NotMounted => (
            format!("the controller {v1:?} is not mounted"),
            format!(
                "run as root: mountpoint -q /sys/fs/cgroup || mount -t tmpfs -o mode=755 none \
                 /sys/fs/cgroup; mkdir -p /sys/fs/cgroup/{v1} && mount -t cgroup -o {v1} none \
                 /sys/fs/cgroup/{v1}"
            ),
        ),
        Unavailable::NothingMounted => (
            "no hierarchy of control groups is mounted".to_owned(),
            "run as root: mount -t cgroup2 none /sys/fs/cgroup".to_owned(),
        ),
        Unavailable::NotPassedOn => (
            format!("the groups above what is mounted here do not pass on {v2}"),
            format!("write +{v2} to cgroup.subtree_control of each of them, as root of the host"),
        ),
        Unavailable::ReadOnly => (
            format!("the hierarchy with {v2:?} is mounted read-only, as in a container"),
            format!("as root: mount -o remount,rw {}", delegation::quoted(point)),
        ),
        Unavailable::Elsewhere => (
            format!(
                "the caller's group is outside of what is mounted of the hierarchy with {v2:?}"
            ),
            "mount it anew in this cgroup namespace".to_owned(),
        ),
    };
    (reason, remedy)
}
