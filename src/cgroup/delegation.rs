//! The one command that gives the caller a group of its own, where nobody has delegated one to it.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{getegid, geteuid, getppid};

use super::hierarchy::Hierarchy;
use super::place::{self, Below, Place};
use super::{CgroupParent, CgroupVersion, Controller};
use crate::error::Error;
use crate::hint::Hint;

/// What is longer is not repeated in a message.
const COMMAND_MAX: usize = 400;

/// A hierarchy in which the caller has no group.
#[derive(Debug, Clone)]
pub(crate) struct Lacking<'a> {
    hierarchy: &'a Hierarchy,
    controllers: &'a [Controller],
    /// The group that it is to have.
    group: PathBuf,
}

impl<'a> Lacking<'a> {
    /// `None` where it has one.
    pub(crate) fn of(
        parent: &CgroupParent,
        hierarchy: &'a Hierarchy,
        controllers: &'a [Controller],
    ) -> Option<Self> {
        let group = match Place::path(parent, hierarchy) {
            Ok(path) if place::is_writable(&path) => return None,
            Ok(path) => path,
            Err(_) => {
                let own = hierarchy.own.as_deref().unwrap_or(&hierarchy.point);
                let above = match hierarchy.version {
                    CgroupVersion::V1 => own,
                    CgroupVersion::V2 => place::above(own, &hierarchy.point),
                };
                above.join(format!("delegated-{}", geteuid()))
            }
        };
        Some(Lacking { hierarchy, controllers, group })
    }

    /// Where a process of the caller's is to be: no group of v2 has processes and groups below it that
    /// anything is limited in.
    fn inside(&self) -> PathBuf {
        match self.hierarchy.version {
            CgroupVersion::V1 => self.group.clone(),
            CgroupVersion::V2 => self.group.join("caller"),
        }
    }

    /// What makes the group fit for use.
    fn preparing(&self) -> Vec<String> {
        if self.hierarchy.version == CgroupVersion::V2 {
            let needed = self.controllers.iter();
            let needed = needed.filter(|one| !one.is_in_every_v2_group() && !one.is_bpf_on_v2());
            let needed: Vec<_> = needed.map(|one| one.name(CgroupVersion::V2)).collect();
            return passing_on(&self.hierarchy.point, &self.group, &needed);
        }
        // A cpuset of v1 takes no process before it has some.
        if !self.hierarchy.has(Controller::Cpuset) {
            return Vec::new();
        }
        let file = |group: &Path, file| quoted(&group.join(file));
        let copy = |group: &Path, name| {
            let above = group.parent().unwrap_or(&self.hierarchy.point);
            format!("cat {} >{}", file(above, name), file(group, name))
        };
        let top = &self.hierarchy.point;
        let made = |group: &&Path| *group == self.group || *group != top && !group.exists();
        let made: Vec<_> = self.group.ancestors().take_while(made).collect();
        let groups = made.into_iter().rev();
        groups
            .flat_map(|group| ["cpuset.cpus", "cpuset.mems"].map(|name| copy(group, name)))
            .collect()
    }

    /// What is to be the caller's.
    fn files(&self) -> Vec<PathBuf> {
        let files: &[_] = match self.hierarchy.version {
            CgroupVersion::V1 => &["cgroup.procs"],
            CgroupVersion::V2 => &["cgroup.procs", "cgroup.subtree_control", "cgroup.threads"],
        };
        let files = files.iter().map(|file| self.group.join(file));
        std::iter::once(self.group.clone()).chain(files).collect()
    }
}

/// What root runs. It ends with the caller, and whoever has started it, in these groups: there they are
/// found without being named, and v2 has processes moved only within what is delegated.
fn command(lacking: &[Lacking<'_>], user: u32, pids: &[u32]) -> String {
    let all =
        |paths: &[PathBuf]| paths.iter().map(|path| quoted(path)).collect::<Vec<_>>().join(" ");
    let inside: Vec<_> = lacking.iter().map(Lacking::inside).collect();
    let inside = all(&inside);
    let files: Vec<_> = lacking.iter().flat_map(Lacking::files).collect();
    let pids: Vec<_> = pids.iter().map(u32::to_string).collect();
    let mut steps = vec![format!("mkdir -p {inside}")];
    steps.extend(lacking.iter().flat_map(Lacking::preparing));
    steps.push(format!("chown {user} {}", all(&files)));
    steps.push(format!(
        "for pid in {}; do [ \"$(stat -c %u /proc/$pid 2>/dev/null)\" != {user} ] || \
         for group in {inside}; do echo $pid >\"$group/cgroup.procs\"; done; done",
        pids.join(" ")
    ));
    steps.join(" && ")
}

/// What has each group of v2 above this one pass these controllers on.
pub(crate) fn passing_on(point: &Path, group: &Path, needed: &[&str]) -> Vec<String> {
    let mut steps = Vec::new();
    let mut above: Vec<_> = group.ancestors().skip(1).collect();
    above.retain(|group| group.starts_with(point));
    for group in above.into_iter().rev() {
        let read = |file| fs::read_to_string(group.join(file)).unwrap_or_default();
        let passed = read("cgroup.subtree_control");
        let is_lacking = |name: &&&str| !passed.split_whitespace().any(|one| one == **name);
        let lacking: Vec<_> =
            needed.iter().filter(is_lacking).map(|name| format!("+{name}")).collect();
        if lacking.is_empty() {
            continue;
        }
        let path = quoted(group);
        // Only the root of all passes something on and has processes.
        if group.join("cgroup.type").exists() && !read("cgroup.procs").is_empty() {
            steps.push(format!("mkdir -p {path}/others"));
            steps.push(format!(
                "{{ for pid in $(cat {path}/cgroup.procs); do echo $pid \
                 >{path}/others/cgroup.procs; done 2>/dev/null; true; }}"
            ));
        }
        steps.push(format!("echo {} >{path}/cgroup.subtree_control", lacking.join(" ")));
    }
    steps
}

/// An error of making groups says what is to be done for all hierarchies, if that is it.
pub(crate) fn complete(
    error: Error,
    below: &Below,
    wanted: &[(&Hierarchy, Vec<Controller>)],
) -> Error {
    let refused = [libc::EACCES, libc::EPERM, libc::ENOENT];
    let Some(parent) = below.named() else { return error };
    if !error.raw_os_error().is_some_and(|errno| refused.contains(&errno)) {
        return error;
    }
    let required = wanted.iter().filter(|(_, all)| !all.is_empty());
    let lacking = required.filter_map(|(one, all)| Lacking::of(parent, one, all));
    let lacking: Vec<_> = lacking.collect();
    // What somebody else has made stays that one's.
    let named = matches!(parent, CgroupParent::Path(_));
    if named && lacking.iter().any(|one| one.group.exists()) {
        return error;
    }
    match hint(parent, &lacking) {
        Some(hint) => error.with_other_hint(hint),
        None => error,
    }
}

/// What to run where the caller lacks something.
pub(crate) fn hint(parent: &CgroupParent, lacking: &[Lacking<'_>]) -> Option<Hint> {
    let v2 = lacking.iter().all(|one| one.hierarchy.version == CgroupVersion::V2);
    let named = matches!(parent, CgroupParent::Path(_));
    let user = geteuid().as_raw();
    match lacking {
        [] => None,
        // Of a user namespace, and the host's root knows it by another id.
        _ if user == 0 => None,
        // It manages that hierarchy alone.
        _ if v2 && !named && is_booted() => {
            let private = format!("/run/user/{user}/systemd/private");
            let managed = Path::new(&private).exists();
            Some(by_systemd(user, getegid().as_raw(), managed, &own_command()))
        }
        _ => Some(Hint::RunAsRoot(command(lacking, user, &callers()))),
    }
}

/// As sd_booted(3) finds it out.
pub(crate) fn is_booted() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// The same program again, below the user's manager, which delegates to it.
fn by_systemd(user: u32, group: u32, managed: bool, command: &str) -> Hint {
    let run = format!("systemd-run --user --scope -p Delegate=yes -- {command}");
    if managed {
        return Hint::Run(run);
    }
    Hint::RunAsRoot(format!(
        "systemctl start user@{user}.service && setpriv --reuid={user} --regid={group} --init-groups \
         env XDG_RUNTIME_DIR=/run/user/{user} {run}"
    ))
}

/// How the caller was started.
fn own_command() -> String {
    let words: Vec<_> = std::env::args_os().map(|word| quoted(Path::new(&word))).collect();
    let command = words.join(" ");
    if command.is_empty() || command.len() > COMMAND_MAX { "PROGRAM".to_owned() } else { command }
}

/// The caller, and who has started it if that is the same user: a shell, from which it is started
/// again.
fn callers() -> Vec<u32> {
    let parent = u32::try_from(getppid().as_raw()).ok().filter(|parent| {
        let found = fs::metadata(format!("/proc/{parent}"));
        found.is_ok_and(|found| found.uid() == geteuid().as_raw())
    });
    [Some(std::process::id()), parent].into_iter().flatten().collect()
}

/// For a shell.
pub(crate) fn quoted(path: &Path) -> String {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/_.,:=@%+-".contains(byte);
    let text = path.to_string_lossy();
    if !text.is_empty() && path.as_os_str().as_bytes().iter().all(plain) {
        return text.into_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Lacking, by_systemd, command, quoted};
    use crate::cgroup::hierarchy::Hierarchy;
    use crate::cgroup::{CgroupVersion, Controller};
    use crate::hint::Hint;

    fn hierarchy(version: CgroupVersion, point: &str, controllers: &[&str]) -> Hierarchy {
        let controllers = controllers.iter().map(ToString::to_string).collect();
        let own = Some(point.into());
        Hierarchy { version, point: point.into(), own, read_only: false, controllers }
    }

    #[test]
    fn a_cpuset_of_v1_is_filled_before_anybody_is_in_it() {
        let cpuset = hierarchy(CgroupVersion::V1, "/no such/cpuset", &["rw", "cpuset"]);
        let pids = hierarchy(CgroupVersion::V1, "/cg/pids", &["rw", "pids"]);
        let of = |hierarchy, group: &str| {
            let group = group.into();
            Lacking { hierarchy, controllers: &[], group }
        };
        let lacking = [of(&cpuset, "/no such/cpuset/own"), of(&pids, "/cg/pids/own")];
        assert_eq!(
            command(&lacking, 7, &[12, 34]),
            "mkdir -p '/no such/cpuset/own' /cg/pids/own && \
             cat '/no such/cpuset/cpuset.cpus' >'/no such/cpuset/own/cpuset.cpus' && \
             cat '/no such/cpuset/cpuset.mems' >'/no such/cpuset/own/cpuset.mems' && \
             chown 7 '/no such/cpuset/own' '/no such/cpuset/own/cgroup.procs' /cg/pids/own \
             /cg/pids/own/cgroup.procs && \
             for pid in 12 34; do [ \"$(stat -c %u /proc/$pid 2>/dev/null)\" != 7 ] || \
             for group in '/no such/cpuset/own' /cg/pids/own; do \
             echo $pid >\"$group/cgroup.procs\"; done; done"
        );
    }

    #[test]
    fn each_group_of_v2_above_passes_on_what_is_wanted() {
        let directory = tempfile::tempdir().unwrap();
        let point = directory.path();
        std::fs::create_dir(point.join("inner")).unwrap();
        std::fs::write(point.join("cgroup.subtree_control"), "memory\n").unwrap();
        let files = ["cgroup.type", "cgroup.procs", "cgroup.subtree_control"];
        for (file, text) in files.into_iter().zip(["domain\n", "5\n", ""]) {
            std::fs::write(point.join("inner").join(file), text).unwrap();
        }
        let text = point.to_str().unwrap();
        let hierarchy = hierarchy(CgroupVersion::V2, text, &[]);
        let controllers = [Controller::Memory, Controller::Pids, Controller::Devices];
        let group = point.join("inner/own");
        let one = Lacking { hierarchy: &hierarchy, controllers: &controllers, group };
        assert_eq!(
            command(&[one], 7, &[12]).replace(text, ""),
            "mkdir -p /inner/own/caller && \
             echo +pids >/cgroup.subtree_control && \
             mkdir -p /inner/others && \
             { for pid in $(cat /inner/cgroup.procs); do echo $pid \
             >/inner/others/cgroup.procs; done 2>/dev/null; true; } && \
             echo +memory +pids >/inner/cgroup.subtree_control && \
             chown 7 /inner/own /inner/own/cgroup.procs /inner/own/cgroup.subtree_control \
             /inner/own/cgroup.threads && \
             for pid in 12; do [ \"$(stat -c %u /proc/$pid 2>/dev/null)\" != 7 ] || \
             for group in /inner/own/caller; do echo $pid >\"$group/cgroup.procs\"; done; done"
        );
    }

    #[test]
    fn systemd_starts_it_below_the_users_manager() {
        let run = "systemd-run --user --scope -p Delegate=yes -- ./x 'a b'";
        assert_eq!(by_systemd(7, 8, true, "./x 'a b'"), Hint::Run(run.to_owned()));
        let Hint::RunAsRoot(text) = by_systemd(7, 8, false, "./x 'a b'") else { panic!() };
        assert!(text.starts_with("systemctl start user@7.service && setpriv --reuid=7 --regid=8 "));
        assert!(text.ends_with(&format!(" env XDG_RUNTIME_DIR=/run/user/7 {run}")), "{text}");
    }

    #[test]
    fn words_for_a_shell() {
        let quoted = |text: &str| quoted(Path::new(text));
        assert_eq!(quoted("/sys/fs/cgroup/cpu,cpuacct"), "/sys/fs/cgroup/cpu,cpuacct");
        assert_eq!(quoted("it's $HOME"), r"'it'\''s $HOME'");
        assert_eq!(quoted(""), "''");
    }
}
