//! The parts of a tree that can be had where they are, without mounts.

use std::ffi::OsStr;
use std::path::Path;

use super::{Base, Entry, INODES, Proc, Tree, absolute, dev};
use crate::error::Result;
use crate::lower::Lower;

impl Tree {
    /// What of it needs mounts.
    pub(crate) fn tier_problems(&self, problems: &mut Vec<String>) {
        let mut needs = |what: &str| {
            problems.push(format!("{what} needs a mount namespace: not without_namespaces()"));
        };
        match &self.base.base {
            Base::Host | Base::Empty => {}
            Base::Directory { path, .. } => needs(&format!("the root {path:?}")),
            Base::Layers(_) => needs("a root of layers"),
        }
        for (asked, what) in [
            (self.base.generated_etc == Some(true), "a generated /etc"),
            (self.timezone.is_some(), "timezone(..)"),
            (self.view.is_some(), "view(..)"),
            (matches!(self.proc, Proc::Compat | Proc::Full), "a /proc"),
            (self.budget.is_some() || self.inodes != INODES, "a size of /tmp"),
            (self.keep_mounts, "keep_mounts()"),
            (self.hide_paths, "hide_host_paths(true)"),
        ] {
            if asked {
                needs(what);
            }
        }
        for entry in &self.entries {
            match entry {
                Entry::Program { .. } => {}
                Entry::Bind(bind) if !bind.is_recursive() => {
                    needs(&format!("to leave out what is mounted below {:?}", bind.source()));
                }
                Entry::Bind(bind) if absolute(bind.source()) == bind.target() => {}
                Entry::Bind(bind) => {
                    let (source, target) = (bind.source(), bind.target());
                    needs(&format!("{source:?} at another path, {target:?},"));
                }
                other => needs(&other.place().map_or_else(
                    || "sysfs()".to_owned(),
                    |place| format!("what is to be at {place:?}"),
                )),
            }
        }
    }

    /// Whether it shows something of the host's that the caller named.
    pub(crate) fn has_binds(&self) -> bool {
        self.entries.iter().any(|entry| matches!(entry, Entry::Bind(_)))
    }

    /// The same, or as a program or the root.
    pub(crate) fn shows_the_hosts(&self) -> bool {
        matches!(self.base.base, Base::Directory { .. }) || self.has_binds() || self.has_programs()
    }

    /// Whether it shows what programs need, some of which is looked for in PATH.
    pub(crate) fn has_programs(&self) -> bool {
        self.entries.iter().any(|entry| matches!(entry, Entry::Program { .. }))
    }

    /// Whether the caller named this place.
    pub(crate) fn names(&self, path: &Path) -> bool {
        self.entries.iter().any(|entry| entry.place() == Some(path))
    }

    /// What is shown at its own path, as binds.
    pub(crate) fn lower_view(&self, plan: &mut Lower, search: &OsStr) -> Result<()> {
        if self.base.is_host() {
            self.lower_system(plan)?;
        }
        dev::lower(plan);
        self.entries.iter().try_for_each(|entry| entry.lower(plan, search))
    }
}
