//! Which hierarchies there are, where they are mounted, and where in them the caller is; by
//! controller, from /proc/self/mountinfo and /proc/self/cgroup.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use super::{CgroupVersion, Controller};

/// A line of /proc/self/mountinfo that is a mount of control groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CgroupMount {
    pub(crate) version: CgroupVersion,
    /// The group that is mounted, as seen from the root of the caller's cgroup namespace.
    pub(crate) root: PathBuf,
    pub(crate) point: PathBuf,
    pub(crate) read_only: bool,
    /// What the super block shows: controllers and `name=` on v1, flags such as `nsdelegate` on v2.
    pub(crate) options: Vec<String>,
}

/// A line of /proc/self/cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Membership {
    /// 0 is v2.
    pub(crate) hierarchy: u32,
    /// On v1 the controllers of the hierarchy, or its `name=`; nothing on v2.
    pub(crate) controllers: Vec<String>,
    /// The caller's group, as seen from the root of its cgroup namespace.
    pub(crate) path: PathBuf,
}

/// The mounts of control groups in a text such as /proc/self/mountinfo, in its order; lines that
/// are something else are left out.
pub(crate) fn parse_mountinfo(text: &[u8]) -> Vec<CgroupMount> {
    text.split(|&byte| byte == b'\n').filter_map(parse_mount).collect()
}

fn parse_mount(line: &[u8]) -> Option<CgroupMount> {
    let words: Vec<_> = line.split(|&byte| byte == b' ').collect();
    // Optional fields end with a single hyphen.
    let end = words.iter().skip(6).position(|word| *word == b"-")? + 6;
    let [root, point, own_options] = words.get(3..6)? else { return None };
    let [kind, _, options] = words.get(end + 1..end + 4)? else { return None };
    let version = match *kind {
        b"cgroup" => CgroupVersion::V1,
        b"cgroup2" => CgroupVersion::V2,
        _ => return None,
    };
    let list = |words: &[u8]| -> Vec<String> {
        let words = words.split(|&byte| byte == b',');
        words.map(|word| String::from_utf8_lossy(&unescape(word)).into_owned()).collect()
    };
    let (own_options, options) = (list(own_options), list(options));
    let read_only = own_options.iter().chain(&options).any(|option| option == "ro");
    let path = |word: &[u8]| PathBuf::from(OsString::from_vec(unescape(word)));
    Some(CgroupMount { version, root: path(root), point: path(point), read_only, options })
}

/// Undoes the kernel's octal escapes of white space and backslashes.
pub(crate) fn unescape(word: &[u8]) -> Vec<u8> {
    let (mut plain, mut rest) = (Vec::with_capacity(word.len()), word);
    while let Some((&byte, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| byte == b'\\').and_then(|digits| {
            let text = std::str::from_utf8(digits).ok()?;
            let digits = text.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
            if digits { u8::from_str_radix(text, 8).ok() } else { None }
        });
        plain.push(octal.unwrap_or(byte));
        rest = if octal.is_some() { &after[3..] } else { after };
    }
    plain
}

/// The lines of a text such as /proc/self/cgroup; what is no such line is left out.
pub(crate) fn parse_memberships(text: &[u8]) -> Vec<Membership> {
    text.split(|&byte| byte == b'\n').filter_map(parse_membership).collect()
}

fn parse_membership(line: &[u8]) -> Option<Membership> {
    let mut parts = line.splitn(3, |&byte| byte == b':');
    let (number, names, path) = (parts.next()?, parts.next()?, parts.next()?);
    let hierarchy = std::str::from_utf8(number).ok()?.parse().ok()?;
    let names = String::from_utf8_lossy(names);
    let names = names.split(',').filter(|name| !name.is_empty());
    // A group that was removed meanwhile is marked.
    let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
    let path = PathBuf::from(OsString::from_vec(path.to_vec()));
    path.is_absolute().then(|| Membership {
        hierarchy,
        controllers: names.map(ToOwned::to_owned).collect(),
        path,
    })
}

/// A controller's line of /proc/cgroups.
#[derive(Debug, Clone, Copy)]
struct Line {
    /// Whether some hierarchy of v1 has it, be it mounted here or not.
    is_on_v1: bool,
    /// Whether the kernel has it switched on.
    is_enabled: bool,
}

fn line_of(cgroups: &str, controller: &str) -> Option<Line> {
    cgroups.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let ours = words.next() == Some(controller);
        let [number, _, enabled] = [words.next(), words.next(), words.next()];
        ours.then(|| Line { is_on_v1: number != Some("0"), is_enabled: enabled == Some("1") })
    })
}

/// A hierarchy that the caller sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    pub(crate) version: CgroupVersion,
    pub(crate) point: PathBuf,
    /// The caller's group below that, or `None` where it is outside of what is mounted.
    pub(crate) own: Option<PathBuf>,
    pub(crate) read_only: bool,
    /// v1's controllers, or v2's that are available at `point`.
    pub(crate) controllers: Vec<String>,
}

impl Hierarchy {
    /// Whether v1's hierarchy has this one, or v2's passes it down to `point`.
    pub(crate) fn has(&self, controller: Controller) -> bool {
        let name = controller.name(self.version);
        self.controllers.iter().any(|one| one == name)
    }
}

/// Why a controller cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unavailable {
    /// The kernel was built without it, or is too old.
    NotInKernel,
    /// Switched off at boot.
    Disabled,
    /// No hierarchy that is mounted has it, and v1's with it could be mounted.
    NotMounted,
    /// No hierarchy at all is mounted, and v2 has it.
    NothingMounted,
    /// v2 has it, and what is mounted of that is not given it by the groups above.
    NotPassedOn,
    ReadOnly,
    /// What is mounted does not contain the caller's group.
    Elsewhere,
}

/// All that the caller sees.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Hierarchies {
    pub(crate) all: Vec<Hierarchy>,
    /// /proc/cgroups
    cgroups: String,
}

impl Hierarchies {
    /// What the texts of /proc/self/mountinfo and /proc/self/cgroup say; the rest is looked up.
    pub(crate) fn of_texts(mountinfo: &[u8], memberships: &[u8]) -> Self {
        let mounts = parse_mountinfo(mountinfo);
        let memberships = parse_memberships(memberships);
        let cgroups = std::fs::read_to_string("/proc/cgroups").unwrap_or_default();
        let available = |point: &Path| {
            std::fs::read_to_string(point.join("cgroup.controllers")).unwrap_or_default()
        };
        Self::assemble(mounts, &memberships, cgroups, available)
    }

    /// `available` answers for v2 what is in `cgroup.controllers` of a mount point.
    pub(crate) fn assemble(
        mounts: Vec<CgroupMount>,
        memberships: &[Membership],
        cgroups: String,
        available: impl Fn(&Path) -> String,
    ) -> Self {
        let mut all: Vec<Hierarchy> = Vec::new();
        for mount in mounts {
            let controllers: Vec<String> = match mount.version {
                CgroupVersion::V1 => mount.options,
                CgroupVersion::V2 => {
                    available(&mount.point).split_whitespace().map(ToOwned::to_owned).collect()
                }
            };
            let own = memberships.iter().find(|one| match mount.version {
                CgroupVersion::V1 => {
                    !one.controllers.is_empty()
                        && one.controllers.iter().all(|name| controllers.contains(name))
                }
                CgroupVersion::V2 => one.hierarchy == 0,
            });
            let own = own.and_then(|one| below(&mount.root, &one.path));
            let own = own.map(|inner| match inner.as_os_str().is_empty() {
                true => mount.point.clone(),
                false => mount.point.join(inner),
            });
            let found = Hierarchy {
                version: mount.version,
                point: mount.point,
                own,
                read_only: mount.read_only,
                controllers,
            };
            // What is mounted later at the same place covers what was there.
            all.retain(|other| other.point != found.point);
            all.push(found);
        }
        // The same hierarchy may be mounted several times: first what can be used. What v1 has a
        // controller for, v2 may do by other means.
        all.sort_by_key(|one| (one.own.is_none(), one.read_only, one.version));
        Hierarchies { all, cgroups }
    }

    /// The one that has this controller, if the caller can use it.
    pub(crate) fn of(&self, controller: Controller) -> Result<&Hierarchy, Unavailable> {
        match self.with(controller) {
            Some(one) if one.read_only => Err(Unavailable::ReadOnly),
            Some(one) if one.own.is_none() => Err(Unavailable::Elsewhere),
            Some(one) => Ok(one),
            None => Err(self.why_none(controller)),
        }
    }

    /// The one that has this controller, first one that the caller can use.
    pub(crate) fn with(&self, controller: Controller) -> Option<&Hierarchy> {
        let every_v2 = controller.is_in_every_v2_group() || controller.is_bpf_on_v2();
        let has =
            |one: &&Hierarchy| one.has(controller) || one.version == CgroupVersion::V2 && every_v2;
        let usable = |one: &&Hierarchy| !one.read_only && one.own.is_some();
        let found = || self.all.iter().filter(has);
        found().find(usable).or(found().next())
    }

    /// The unified one, if the caller can use it.
    pub(crate) fn v2(&self) -> Option<&Hierarchy> {
        let usable = |one: &&Hierarchy| !one.read_only && one.own.is_some();
        self.all.iter().filter(usable).find(|one| one.version == CgroupVersion::V2)
    }

    fn why_none(&self, controller: Controller) -> Unavailable {
        let line = line_of(&self.cgroups, controller.name(CgroupVersion::V1));
        let v2 = self.all.iter().any(|one| one.version == CgroupVersion::V2);
        match line {
            Some(Line { is_enabled: false, .. }) => Unavailable::Disabled,
            Some(Line { is_on_v1: true, .. }) => Unavailable::NotMounted,
            Some(_) if v2 => Unavailable::NotPassedOn,
            // Newer kernels list v1's only.
            _ if self.all.is_empty() => Unavailable::NothingMounted,
            Some(_) => Unavailable::NotMounted,
            None if is_unlisted(controller) && self.is_part_of_v2() => Unavailable::NotPassedOn,
            None => Unavailable::NotInKernel,
        }
    }

    /// Whether the groups above what is mounted of v2 are somebody else's: only the root of all lacks a
    /// type.
    fn is_part_of_v2(&self) -> bool {
        let mut all = self.all.iter().filter(|one| one.version == CgroupVersion::V2);
        all.any(|one| one.point.join("cgroup.type").exists())
    }
}

/// Whether /proc/cgroups may lack what v2 has, as kernels can be built without v1's part of it.
fn is_unlisted(controller: Controller) -> bool {
    matches!(controller, Controller::Memory | Controller::Cpuset)
}

/// `path` as seen from `root`; `None` if it is not below it. Paths that lead out of the namespace
/// begin with `/..`.
fn below(root: &Path, path: &Path) -> Option<PathBuf> {
    let inner = path.strip_prefix(root).ok()?;
    let plain = |part| matches!(part, Component::Normal(_));
    inner.components().all(plain).then(|| inner.to_owned())
}

/// Whether a path names a group without leading out of where it starts.
pub(crate) fn is_plain(path: &Path) -> bool {
    let fits = |part| matches!(part, Component::Normal(_) | Component::RootDir);
    !path.as_os_str().is_empty()
        && path.components().all(fits)
        && !path.as_os_str().as_bytes().contains(&0)
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::{Hierarchies, Unavailable, parse_memberships, parse_mountinfo, unescape};
    use crate::cgroup::CgroupVersion::{V1, V2};
    use crate::cgroup::Controller;

    fn host(mountinfo: &str, memberships: &str, cgroups: &str, v2: &str) -> Hierarchies {
        Hierarchies::assemble(
            parse_mountinfo(mountinfo.as_bytes()),
            &parse_memberships(memberships.as_bytes()),
            cgroups.to_owned(),
            |_| v2.to_owned(),
        )
    }

    fn place(host: &Hierarchies, controller: Controller) -> Result<PathBuf, Unavailable> {
        Ok(host.of(controller)?.own.clone().unwrap())
    }

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 master:2 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory ro,relatime - cgroup cgroup rw,memory
36 31 0:33 / /sys/fs/cgroup/with\\040space rw - cgroup cgroup rw,pids
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate
";
    const MEMBER: &str = "\
9:name=systemd:/user.slice
8:pids:/a:b
4:memory:/
2:cpu,cpuacct:/one/two
0::/user.slice/x.scope
";

    #[test]
    fn controllers_are_found_one_by_one() {
        let cgroups = "#subsys_name\thierarchy\tnum\tenabled\ncpuset\t0\t1\t0\nnet_cls\t0\t1\t1\n";
        let host = host(HYBRID, MEMBER, cgroups, "hugetlb misc\n");
        let at = |controller| place(&host, controller);
        assert_eq!(at(Controller::Cpu), Ok("/sys/fs/cgroup/cpu,cpuacct/one/two".into()));
        assert_eq!(at(Controller::Cpuacct), at(Controller::Cpu), "co-mounted");
        assert_eq!(at(Controller::Pids), Ok("/sys/fs/cgroup/with space/a:b".into()));
        assert_eq!(at(Controller::Memory), Err(Unavailable::ReadOnly));
        assert_eq!(at(Controller::Cpuset), Err(Unavailable::Disabled));
        assert_eq!(at(Controller::Io), Err(Unavailable::NotInKernel));
        let unified = PathBuf::from("/sys/fs/cgroup/unified/user.slice/x.scope");
        assert_eq!(at(Controller::Hugetlb), Ok(unified.clone()));
        assert_eq!(at(Controller::Freezer), Ok(unified.clone()), "each v2 group can");
        assert_eq!(at(Controller::NetCls), Ok(unified), "by BPF");
        assert_eq!(host.of(Controller::Hugetlb).unwrap().version, V2);
        assert_eq!(host.of(Controller::Pids).unwrap().version, V1);
    }

    #[test]
    fn nothing_is_mounted() {
        let cgroups = "memory\t0\t1\t1\n";
        let bare = host("", MEMBER, cgroups, "");
        assert_eq!(place(&bare, Controller::Memory), Err(Unavailable::NothingMounted));
        assert_eq!(place(&bare, Controller::Io), Err(Unavailable::NothingMounted));
        let elsewhere = host("", MEMBER, "memory\t4\t1\t1\n", "");
        assert_eq!(place(&elsewhere, Controller::Memory), Err(Unavailable::NotMounted));
    }

    #[test]
    fn what_is_not_passed_on_is_not_missing_in_the_kernel() {
        let mounts = "1 2 0:3 / /sys/fs/cgroup rw - cgroup2 cgroup rw\n";
        let inner = host(mounts, "0::/\n", "memory\t0\t1\t1\npids\t0\t1\t1\n", "pids");
        assert_eq!(place(&inner, Controller::Memory), Err(Unavailable::NotPassedOn));
        assert_eq!(place(&inner, Controller::Pids), Ok("/sys/fs/cgroup".into()));
        // Newer kernels list v1's only, and what is mounted is not all.
        let point = tempfile::tempdir().unwrap();
        let mounts = mounts.replace("/sys/fs/cgroup", point.path().to_str().unwrap());
        let unlisted = || host(&mounts, "0::/\n", "pids\t0\t1\t1\n", "pids");
        assert_eq!(place(&unlisted(), Controller::Memory), Err(Unavailable::NotInKernel));
        std::fs::write(point.path().join("cgroup.type"), "domain\n").unwrap();
        assert_eq!(place(&unlisted(), Controller::Memory), Err(Unavailable::NotPassedOn));
        assert_eq!(place(&unlisted(), Controller::Misc), Err(Unavailable::NotInKernel));
    }

    #[test]
    fn a_container_sees_its_own_part() {
        // Without a cgroup namespace: the container's group is mounted, as the host names it.
        let mounts = "1 2 0:3 /docker/abc /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n";
        let inner = host(mounts, "3:pids:/docker/abc/inner\n", "", "");
        assert_eq!(place(&inner, Controller::Pids), Ok("/sys/fs/cgroup/pids/inner".into()));
        let outer = host(mounts, "3:pids:/docker/abcd\n", "", "");
        assert_eq!(place(&outer, Controller::Pids), Err(Unavailable::Elsewhere));
        // With one: both begin at its root.
        let mounts = "1 2 0:3 / /sys/fs/cgroup rw - cgroup2 cgroup rw\n";
        let inner = host(mounts, "0::/\n", "", "memory pids");
        assert_eq!(place(&inner, Controller::Pids), Ok("/sys/fs/cgroup".into()));
        // The caller was moved out of the namespace's root.
        let outer = host(mounts, "0::/../other\n", "", "memory pids");
        assert_eq!(place(&outer, Controller::Pids), Err(Unavailable::Elsewhere));
        // A mount from before the namespace shows where that begins.
        let mounts = "1 2 0:3 /../.. /sys/fs/cgroup rw - cgroup2 cgroup rw\n";
        let inner = host(mounts, "0::/\n", "", "memory");
        assert_eq!(place(&inner, Controller::Memory), Err(Unavailable::Elsewhere));
    }

    #[test]
    fn what_is_mounted_twice_is_taken_where_it_can_be_written() {
        let mounts = "\
1 2 0:3 / /a ro - cgroup2 none rw
1 2 0:3 /other /b rw - cgroup2 none rw
1 2 0:3 / /c rw - cgroup2 none rw
";
        let host = host(mounts, "0::/own\n", "", "memory");
        assert_eq!(place(&host, Controller::Memory), Ok(Path::new("/c/own").into()));
    }

    #[test]
    fn escapes_are_undone() {
        assert_eq!(unescape(br"a\040b\134c\"), b"a b\\c\\");
        assert_eq!(unescape(br"\09\400\12"), br"\09\400\12");
    }

    #[test]
    fn nonsense_is_left_out() {
        for text in ["", "\n\n", "1 2 3", "1 2 0:3 / /a rw cgroup cgroup rw", "- - - - - - - -"] {
            assert_eq!(parse_mountinfo(text.as_bytes()), [], "{text:?}");
        }
        for text in ["", ":", "x:y:/z", "1:memory", "1:memory:relative"] {
            assert_eq!(parse_memberships(text.as_bytes()), [], "{text:?}");
        }
    }
}
