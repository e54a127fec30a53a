//! What this host can limit, controller by controller.

use std::fmt;
use std::path::PathBuf;

use super::hierarchy::Hierarchies;
use super::place::Place;
use super::{CgroupParent, CgroupVersion, Controller, group, known};

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
    /// The version of the hierarchy that has it, if one has.
    pub version: Option<CgroupVersion>,
    /// Where that is mounted.
    pub mount: Option<PathBuf>,
    /// Below which group the caller's sandboxes would get theirs.
    pub place: Option<PathBuf>,
    /// Why there are no limits of it, and what to do about that; `None` if there are.
    pub reason: Option<String>,
}

/// All controllers, for a caller that names no group of its own.
pub(crate) fn controllers() -> Vec<ControllerSupport> {
    let hierarchies = known::look();
    let look = |controller| match &hierarchies {
        Ok(hierarchies) => look(hierarchies, controller),
        Err(error) => ControllerSupport {
            controller,
            version: None,
            mount: None,
            place: None,
            reason: Some(error.to_string()),
        },
    };
    Controller::ALL.into_iter().map(look).collect()
}

fn look(hierarchies: &Hierarchies, controller: Controller) -> ControllerSupport {
    let mut found =
        ControllerSupport { controller, version: None, mount: None, place: None, reason: None };
    match hierarchies.of(controller) {
        Err(why) => found.reason = Some(group::unavailable(controller, why).to_string()),
        Ok(hierarchy) => {
            found.version = Some(hierarchy.version);
            found.mount = Some(hierarchy.point.clone());
            match Place::look(&CgroupParent::Auto, hierarchy, controller) {
                Ok(path) => found.place = Some(path),
                Err(error) => found.reason = Some(error.to_string()),
            }
        }
    }
    found
}

impl fmt::Display for ControllerSupport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let answer = if self.reason.is_none() { "yes" } else { "no" };
        let version = self.version.map_or("-".to_owned(), |version| version.to_string());
        let name = self.controller.name(self.version.unwrap_or(CgroupVersion::V2));
        write!(f, "{answer:<3}  {name:<10}  {version:<2}")?;
        match (&self.place, &self.mount, &self.reason) {
            (Some(place), _, _) => write!(f, "  below {}", place.display()),
            (None, mount, reason) => {
                if let Some(mount) = mount {
                    write!(f, "  on {}", mount.display())?;
                }
                write!(f, "\n     why: {}", reason.as_deref().unwrap_or_default())
            }
        }
    }
}
