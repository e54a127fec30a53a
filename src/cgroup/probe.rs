//! What this host can limit, controller by controller.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::{fmt, fs};

use super::delegation::{self, Lacking};
use super::hierarchy::{Hierarchies, Hierarchy, Unavailable};
use super::place::Place;
use super::{CgroupParent, CgroupVersion, Controller, bpf, known, wanted};
use crate::error::Error;

/// Whether and where a caller can limit something; nothing is made or changed to find out
/// ([cgroups(7)](https://man7.org/linux/man-pages/man7/cgroups.7.html)).
///
/// # Examples
///
/// ```
/// use stockade::{Controller, Support};
/// for found in Support::controllers() {
///     if found.reason.is_none() {
///         println!("{} can be limited, below {:?}", found.controller, found.place);
///     }
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ControllerSupport {
    /// Which controller.
    pub controller: Controller,
    /// The version of the hierarchy that has it, if one has that is mounted.
    pub version: Option<CgroupVersion>,
    /// Where that is mounted.
    pub mount: Option<PathBuf>,
    /// The other controllers of that hierarchy, if it is one of v1: one group limits them all.
    pub together_with: Vec<Controller>,
    /// Whether the kernel has it switched on, be it mounted or not.
    pub in_kernel: bool,
    /// Below which group the caller's sandboxes would get theirs; `None` where no group was delegated to
    /// the caller.
    pub place: Option<PathBuf>,
    /// Why there are no limits of it; `None` if there are.
    pub reason: Option<String>,
    /// What to do about that, where it is known.
    pub remedy: Option<String>,
}

/// All controllers, for a caller that names no group of its own.
pub(crate) fn controllers() -> Vec<ControllerSupport> {
    let hierarchies = known::look();
    let look = |controller| match &hierarchies {
        Ok(hierarchies) => look(hierarchies, controller),
        Err(error) => {
            let (reason, remedy) = error.told();
            ControllerSupport { reason: Some(reason), remedy, ..nothing(controller) }
        }
    };
    Controller::ALL.into_iter().map(look).collect()
}

/// Nothing that is known, yet.
fn nothing(controller: Controller) -> ControllerSupport {
    ControllerSupport {
        controller,
        version: None,
        mount: None,
        together_with: Vec::new(),
        in_kernel: false,
        place: None,
        reason: None,
        remedy: None,
    }
}

fn look(hierarchies: &Hierarchies, controller: Controller) -> ControllerSupport {
    let mut found = nothing(controller);
    let usable = wanted::delegated(hierarchies, &CgroupParent::Auto, controller);
    if let Some(hierarchy) = usable.as_ref().ok().copied().or(hierarchies.with(controller)) {
        found.version = Some(hierarchy.version);
        found.mount = Some(hierarchy.point.clone());
        found.together_with = together(hierarchy, controller);
    }
    found.in_kernel = !matches!(usable, Err(Unavailable::NotInKernel | Unavailable::Disabled));
    let why_not = match usable {
        Err(why) => {
            let (reason, remedy) = wanted::why_unavailable(hierarchies, controller, why);
            Some((reason, Some(remedy)))
        }
        Ok(hierarchy) => match Place::path(&CgroupParent::Auto, hierarchy) {
            Ok(place) => {
                let why_not = why_not_below(&place, hierarchy, controller);
                found.place = Some(place);
                why_not
            }
            Err(error) => {
                let wanted = [controller];
                let lacking = Lacking::of(&CgroupParent::Auto, hierarchy, &wanted);
                let hint = delegation::hint(&CgroupParent::Auto, lacking.as_slice());
                Some((error.told().0, hint.map(|hint| hint.to_string())))
            }
        },
    };
    (found.reason, found.remedy) =
        why_not.map_or((None, None), |(reason, remedy)| (Some(reason), remedy));
    found
}

fn together(hierarchy: &Hierarchy, controller: Controller) -> Vec<Controller> {
    let others = Controller::ALL.into_iter().filter(|other| *other != controller);
    let v1 = hierarchy.version == CgroupVersion::V1;
    others.filter(|other| v1 && hierarchy.has(*other)).collect()
}

/// What a delegated group alone does not give.
fn why_not_below(
    place: &Path,
    hierarchy: &Hierarchy,
    controller: Controller,
) -> Option<(String, Option<String>)> {
    match hierarchy.version {
        CgroupVersion::V1 if controller == Controller::Devices && !is_privileged() => Some((
            "the kernel lets nobody without CAP_SYS_ADMIN in the initial user namespace say which \
             devices"
                .to_owned(),
            Some("run as root".to_owned()),
        )),
        CgroupVersion::V1 => None,
        CgroupVersion::V2 if controller.is_bpf_on_v2() => bpf::why_not(controller),
        CgroupVersion::V2 => Place::lacks(place, hierarchy, controller).as_ref().map(Error::told),
    }
}

fn is_privileged() -> bool {
    // PROC_USER_INIT_INO of the kernel's.
    const INITIAL: u64 = 0xefff_fffd;
    let initial = fs::metadata("/proc/self/ns/user").is_ok_and(|found| found.ino() == INITIAL);
    initial && crate::namespace::user::may_copy_trees()
}

impl fmt::Display for ControllerSupport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answer = if self.reason.is_none() { "yes" } else { "no" };
        let version = self.version.map_or("-".to_owned(), |version| version.to_string());
        let name = self.controller.name(self.version.unwrap_or(CgroupVersion::V2));
        write!(f, "{answer:<3}  {name:<10}  {version:<2}  ")?;
        match (&self.mount, self.in_kernel) {
            (Some(mount), _) => write!(f, "on {}", mount.display())?,
            (None, true) => write!(f, "not mounted")?,
            (None, false) => write!(f, "not in the kernel")?,
        }
        for (at, other) in self.together_with.iter().enumerate() {
            let before = if at == 0 { " with " } else { ", " };
            write!(f, "{before}{}", other.name(CgroupVersion::V1))?;
        }
        match (&self.place, &self.mount) {
            (Some(place), _) => write!(f, ", delegated below {}", place.display())?,
            (None, Some(_)) => write!(f, ", not delegated")?,
            (None, None) => {}
        }
        for (word, text) in [("why", &self.reason), ("try", &self.remedy)] {
            if let Some(text) = text {
                write!(f, "\n     {word}: {text}")?;
            }
        }
        Ok(())
    }
}
