//! The groups of one sandbox: made, filled, changed, emptied and removed.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{FileStat, Mode, fstatat, mkdirat};

use super::bpf::Attached;
use super::hierarchy::{Hierarchies, Hierarchy};
use super::place::{self, Below, Place};
use super::wanted::{delegated, find_places, required, unavailable};
use super::{CgroupParent, CgroupVersion, Controller, Cpu, Limits, Write, delegation, known};
use crate::error::{Error, Feature, Result, Stage, quoted};
use crate::hint::Hint;
use crate::policy::Policy;
use crate::rlimit::Max;
use crate::sys;

/// How long the kernel has to let the last process of a group go, and others to let a new group go that
/// they took for a dead process's.
const REMOVAL: [u64; 16] = [
    0, 50, 100, 200, 500, 1000, 2000, 4000, 8000, 16_000, 32_000, 64_000, 100_000, 200_000,
    300_000, 500_000,
];

/// A group in one hierarchy.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) place: Arc<Place>,
    /// Locked as long as its owner lives.
    pub(crate) dir: OwnedFd,
    pub(crate) controllers: Vec<Controller>,
    name: String,
    /// On v1 and as long as nothing is in it: what a process writes to, to put itself into it. The
    /// kernel need not stop every other fork for a single thread that moves itself.
    entrance: Option<OwnedFd>,
    /// What stands in for controllers that v2 does not have.
    programs: BTreeMap<Controller, Option<Attached>>,
}

/// All of a sandbox's groups. Dropping them removes them.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    pub(crate) groups: Vec<Group>,
    /// How many processes of the sandbox's own do not count.
    besides: u64,
    /// What swap was limited to last, if that was asked for.
    swap: Option<Max>,
    /// What cannot be limited, and may be missing.
    pub(crate) missing: Vec<Feature>,
    /// A forked copy of it removes nothing.
    owner: u32,
    below: Below,
}

/// Groups that could not be removed, for the next time.
static UNREMOVED: Mutex<Vec<(Arc<Place>, String)>> = Mutex::new(Vec::new());

impl Group {
    pub(crate) fn path(&self) -> PathBuf {
        self.place.path.join(&self.name)
    }

    pub(crate) fn version(&self) -> CgroupVersion {
        self.place.hierarchy.version
    }

    pub(crate) fn has(&self, controller: Controller) -> bool {
        self.controllers.contains(&controller)
    }

    /// Makes one, and takes its lock.
    pub(crate) fn make(
        place: &Arc<Place>,
        name: &str,
        controllers: Vec<Controller>,
    ) -> Result<Self> {
        let (name, path) = (name.to_owned(), place.path.join(name));
        let failed = |operation| {
            let object = quoted(&path);
            move |errno| Error::new(Stage::Cgroup, operation, object, errno).explained()
        };
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut pauses = REMOVAL.iter();
        loop {
            match mkdirat(&place.dir, name.as_str(), Mode::from_bits_truncate(0o755)) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => return Err(failed("make control group")(errno)),
            }
            let opened = openat(&place.dir, name.as_str(), flags, Mode::empty());
            // Before it is locked, another process may take it for a dead one's and remove it: then
            // it has no files any more.
            let kept = opened.and_then(|dir| {
                sys::lock(dir.as_fd())?;
                let (place, name) = (Arc::clone(place), name.clone());
                let (controllers, programs) = (controllers.clone(), BTreeMap::new());
                let mut group = Group { place, dir, controllers, name, entrance: None, programs };
                if group.version() == CgroupVersion::V1 {
                    group.entrance = Some(group.open("tasks", OFlag::O_WRONLY)?);
                    return Ok(group);
                }
                if group.is_there() { Ok(group) } else { Err(Errno::ENOENT) }
            });
            match kept {
                Ok(group) => return Ok(group),
                // Whoever removes it lets it go in a moment.
                Err(Errno::ENOENT | Errno::ENODEV | Errno::EWOULDBLOCK) if pauses.len() > 0 => {
                    let pause = pauses.next().copied().unwrap_or_default();
                    std::thread::sleep(Duration::from_micros(pause));
                }
                Err(errno) => {
                    let _as_it_was = place::remove_tree(place.dir.as_fd(), &name, &path, 0);
                    return Err(failed("lock control group")(errno));
                }
            }
        }
    }

    /// The same, for a process that is to be put into it.
    fn again(&self) -> Result<Self, Errno> {
        let entrance = match self.version() {
            CgroupVersion::V1 => Some(self.open("tasks", OFlag::O_WRONLY)?),
            CgroupVersion::V2 => None,
        };
        let (place, name) = (Arc::clone(&self.place), self.name.clone());
        let dir = sys::duplicate(self.dir.as_raw_fd())?;
        let (controllers, programs) = (self.controllers.clone(), BTreeMap::new());
        Ok(Group { place, dir, controllers, name, entrance, programs })
    }

    /// Writes to one of its files.
    pub(crate) fn write(&self, write: &Write) -> Result<(), Failure> {
        let mut result = self.write_to(&write.file, &write.data);
        // Nobody of whom the first file is serves that disk, say.
        if let (Err(first @ (Errno::ENOENT | Errno::EOPNOTSUPP)), Some(other)) =
            (result, write.otherwise)
        {
            result = match self.write_to(other, &write.data) {
                Err(Errno::ENOENT) => Err(first),
                other => other,
            };
        }
        if result == Err(Errno::ENOENT) && !self.is_there() {
            result = Err(Errno::ENODEV);
        }
        match result {
            Err(Errno::ENOENT) if write.dispensable || write.of_swap && !has_swap() => Ok(()),
            other => other.map_err(|errno| Failure {
                object: format!("{:?} to {:?}", write.data, self.path().join(&write.file)),
                of_swap: write.of_swap,
                errno,
            }),
        }
    }

    /// Whether nobody has removed it, or another one with its name is there.
    fn is_there(&self) -> bool {
        let same = |found: FileStat| {
            stat(self.dir.as_fd(), ".").is_ok_and(|own| own.st_ino == found.st_ino)
        };
        stat(self.place.dir.as_fd(), &self.name).is_ok_and(same)
    }

    fn open(&self, file: &str, flags: OFlag) -> Result<OwnedFd, Errno> {
        openat(&self.dir, file, flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW, Mode::empty())
    }

    fn write_to(&self, file: &str, data: &str) -> Result<(), Errno> {
        let open = self.open(file, OFlag::O_WRONLY)?;
        loop {
            match nix::unistd::write(&open, data.as_bytes()) {
                Err(Errno::EINTR) => {}
                Ok(written) if written < data.len() => return Err(Errno::EIO),
                other => return other.map(drop),
            }
        }
    }

    /// Whether the kernel gives what it has taken without a word.
    fn confirm(&self, limits: &Limits, controller: Controller) -> Result<()> {
        let cpuset = limits.cpuset.as_ref().filter(|_| controller == Controller::Cpuset);
        let cpuset = cpuset.filter(|_| self.version() == CgroupVersion::V2);
        match cpuset.and_then(|cpuset| cpuset.denied(|file| self.read(file))) {
            Some(reason) => Err(Error::Unsupported { feature: controller.feature(), reason }),
            None => Ok(()),
        }
    }

    /// Attaches the program that does on v2 what the files of a controller do on v1.
    fn attach_program(&mut self, limits: &Limits, controller: Controller) -> Result<()> {
        if self.version() == CgroupVersion::V1 {
            return Ok(());
        }
        let program = limits.program(controller).map_err(|(interface, errno)| {
            Error::new(Stage::Cgroup, "find network interface", format!("{interface:?}"), errno)
        })?;
        let attached = self.programs.entry(controller).or_default();
        program.map_or(Ok(()), |program| program.attach(self.dir.as_fd(), attached))
    }

    /// How often the program in place of a controller has refused something.
    pub(crate) fn refusals(&self, controller: Controller) -> Option<u64> {
        self.programs.get(&controller)?.as_ref()?.refusals()
    }

    /// The content of one of its files.
    pub(crate) fn read(&self, file: &str) -> Option<String> {
        read_at(self.dir.as_fd(), file)
    }

    /// On v1 a cpuset is empty until something is written to it, and takes no process before.
    fn copy_cpuset(&self) -> Result<(), Failure> {
        let Hierarchy { version, .. } = self.place.hierarchy;
        if version == CgroupVersion::V2 || !self.place.hierarchy.has(Controller::Cpuset) {
            return Ok(());
        }
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let above = read_at(self.place.dir.as_fd(), file).unwrap_or_default();
            self.write(&Write::new(file, above.trim()))?;
        }
        Ok(())
    }

    fn remove(&self) {
        let path = self.path();
        if self.has(Controller::Cpuset) && self.version() == CgroupVersion::V2 {
            dissolve(self.dir.as_fd());
        }
        for pause in REMOVAL {
            std::thread::sleep(Duration::from_micros(pause));
            match place::remove_tree(self.place.dir.as_fd(), &self.name, &path, 0) {
                Ok(()) => return,
                Err(Errno::EBUSY | Errno::ENOTEMPTY | Errno::EAGAIN) => {}
                Err(errno) => {
                    log::error!("control group {path:?} cannot be removed: {errno}");
                    break;
                }
            }
        }
        log::error!("control group {path:?} is removed later");
        let mut unremoved = UNREMOVED.lock().unwrap_or_else(PoisonError::into_inner);
        unremoved.push((Arc::clone(&self.place), self.name.clone()));
    }
}

/// A write that failed.
#[derive(Debug)]
pub(crate) struct Failure {
    object: String,
    of_swap: bool,
    errno: Errno,
}

impl Failure {
    pub(crate) fn parts(self) -> (String, Errno) {
        (self.object, self.errno)
    }
}

impl Groups {
    /// The groups that a sandbox needs, without any process yet; `None` if it needs none.
    pub(crate) fn make(
        policy: &Policy,
        made: impl FnOnce(&[Arc<Place>]) -> Result<()>,
    ) -> Result<Option<Self>> {
        remove_the_unremoved();
        if policy.limits.is_empty() {
            return Ok(None);
        }
        let limits = resolved(&policy.limits)?;
        let besides = u64::from(policy.init);
        let mut missing = Vec::new();
        let mut wanted = BTreeMap::new();
        let hierarchies = hierarchies_with(&limits.controllers())?;
        // What is only counted limits nothing.
        let counts_cpu = limits.cpu == Some(Cpu::new()) && limits.cpu_time.is_none();
        let counted = |one| counts_cpu && one == Controller::Cpuacct;
        let counting = [Controller::Cpuacct].into_iter().filter(|_| counts_cpu);
        for controller in limits.controllers().into_iter().chain(counting) {
            match delegated(&hierarchies, &policy.cgroup_parent, controller) {
                Ok(one) => {
                    let (_, controllers) =
                        wanted.entry(one.point.clone()).or_insert((one, Vec::new()));
                    controllers.push(controller);
                }
                Err(_) if counted(controller) => {}
                Err(_) if policy.is_best_effort(controller.feature()) => {
                    missing.push(controller.feature());
                }
                Err(why) => return Err(unavailable(&hierarchies, controller, why)),
            }
        }
        let owner = std::process::id();
        let below = match Below::of(policy) {
            Ok(below) => below,
            Err(error) => {
                let all = wanted.into_values().flat_map(|(_, all)| all);
                let lost: Vec<_> =
                    all.filter(|one| !counted(*one)).map(Controller::feature).collect();
                if !lost.iter().all(|feature| policy.is_best_effort(*feature)) {
                    return Err(error);
                }
                missing.extend(lost);
                let (groups, below) = (Vec::new(), Below::default());
                return Ok(Some(Groups { groups, besides, swap: None, missing, owner, below }));
            }
        };
        let may_be_missing = |one: Controller| counted(one) || policy.is_best_effort(one.feature());
        let wanted: Vec<_> = wanted.into_values().collect();
        let (places, lost) = find_places(&below, &wanted, may_be_missing)?;
        missing.extend(lost.into_iter().filter(|one| !counted(*one)).map(Controller::feature));
        let all: Vec<_> = places.iter().map(|(place, _)| Arc::clone(place)).collect();
        made(&all)?;
        let mut groups = Groups { groups: Vec::new(), besides, swap: None, missing, owner, below };
        let name = place::new_name();
        for (place, controllers) in places {
            let group = Group::make(&place, &name, controllers);
            let group = group.map_err(|error| {
                delegation::complete(error, &groups.below, &required(&wanted, may_be_missing))
            })?;
            groups.groups.push(group);
        }
        groups.limit(&limits, true, |feature| policy.is_best_effort(feature))?;
        Ok(Some(groups))
    }

    /// Writes the limits, in order; `fresh` groups get what they need before.
    fn limit(
        &mut self,
        limits: &Limits,
        fresh: bool,
        may_be_missing: impl Fn(Feature) -> bool,
    ) -> Result<()> {
        self.swap = limits.memory.as_ref().and_then(|memory| memory.swap).or(self.swap);
        for group in &mut self.groups {
            if fresh {
                let feature = Controller::Cpuset.feature();
                group.copy_cpuset().map_err(|failure| refused(feature, failure))?;
            }
            for controller in group.controllers.clone() {
                let (feature, version) = (controller.feature(), group.version());
                let mut writes = match limits.writes(controller, version, self.besides) {
                    Ok(writes) => writes,
                    Err(_) if may_be_missing(feature) => {
                        self.missing.push(feature);
                        continue;
                    }
                    Err(lacking) => {
                        return Err(Error::Unsupported { feature, reason: lacking.to_string() });
                    }
                };
                writes.retain(|write| !(fresh && write.default));
                let mut written = write_all(group, &writes);
                if let (Err(Failure { errno: Errno::ENOENT, .. }), CgroupVersion::V2) =
                    (&written, version)
                {
                    // Somebody no longer has it passed on.
                    group.place.pass_on(&group.controllers)?;
                    written = write_all(group, &writes);
                }
                let written = written
                    .map_err(|failure| refused(feature, failure))
                    .and_then(|()| group.confirm(limits, controller));
                match written.and_then(|()| group.attach_program(limits, controller)) {
                    Ok(()) => {}
                    Err(_) if may_be_missing(feature) => self.missing.push(feature),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }

    /// Changes limits of a sandbox that runs.
    pub(crate) fn update(&mut self, limits: &Limits) -> Result<()> {
        let mut limits = resolved(limits)?;
        if let Some(memory) = limits.memory.as_mut() {
            // Another limit of memory is none of swap.
            memory.swap = memory.swap.or(self.swap);
        }
        for controller in limits.controllers() {
            if self.of(controller).is_none() {
                self.add(controller)?;
            }
        }
        self.limit(&limits, false, |_| false)
    }

    /// Has a group that is there do one more thing. Another group cannot be made later: nothing
    /// that is in use already would be counted there, and its name would be seen inside.
    fn add(&mut self, controller: Controller) -> Result<()> {
        let feature = controller.feature();
        let hierarchies = hierarchies_with(&[controller])?;
        let wanted = hierarchies.of(controller);
        let wanted = wanted.map_err(|why| unavailable(&hierarchies, controller, why))?;
        let same = |group: &&mut Group| {
            let Hierarchy { version, point, .. } = &group.place.hierarchy;
            (*version, point) == (wanted.version, &wanted.point)
        };
        let counted = (wanted.version, controller) != (CgroupVersion::V2, Controller::Memory);
        match self.groups.iter_mut().find(same).filter(|_| counted) {
            Some(group) => {
                group.place.pass_on(&[controller])?;
                group.controllers.push(controller);
                Ok(())
            }
            None => {
                let value = match controller {
                    Controller::Cpuacct => "Cpu::new()",
                    _ => "an empty value",
                };
                let reason = format!(
                    "what the sandbox uses already of {controller} would not be counted; start it \
                     with {value}, which limits nothing yet"
                );
                Err(Error::Unsupported { feature, reason })
            }
        }
    }

    /// The v2 group, for `CLONE_INTO_CGROUP`.
    pub(crate) fn v2(&self) -> Option<BorrowedFd<'_>> {
        self.v2_group().map(|group| group.dir.as_fd())
    }

    pub(crate) fn v2_group(&self) -> Option<&Group> {
        self.groups.iter().find(|group| group.version() == CgroupVersion::V2)
    }

    /// A single group, to be removed as those of a sandbox are.
    pub(crate) fn of_one(group: Group) -> Self {
        let (groups, owner) = (vec![Group { entrance: None, ..group }], std::process::id());
        let (below, missing) = (Below::default(), Vec::new());
        Groups { groups, besides: 0, swap: None, missing, owner, below }
    }

    /// The same, for a process that is to be put into them; nothing is removed with it.
    pub(crate) fn again(&self) -> Result<Self> {
        let again = |group: &Group| {
            let object = || quoted(group.path());
            group.again().map_err(|errno| Error::new(Stage::Cgroup, "open", object(), errno))
        };
        let groups = self.groups.iter().map(again).collect::<Result<_>>()?;
        let below = self.below.clone();
        let (besides, swap) = (self.besides, self.swap);
        Ok(Groups { groups, besides, swap, missing: Vec::new(), owner: 0, below })
    }

    /// Lets them go with what is in them; each is removed when it is empty.
    pub(crate) fn leave(mut self) {
        let mut unremoved = UNREMOVED.lock().unwrap_or_else(PoisonError::into_inner);
        for group in self.groups.drain(..) {
            unremoved.push((Arc::clone(&group.place), group.name.clone()));
        }
    }

    /// What a process writes to, to put itself into those of v1, each with its path.
    pub(crate) fn entrances(&self) -> Vec<(BorrowedFd<'_>, PathBuf)> {
        let entrances = self
            .groups
            .iter()
            .filter_map(|group| Some((group.entrance.as_ref()?.as_fd(), group.path())));
        entrances.collect()
    }

    /// Nothing more is put into them that way.
    pub(crate) fn close_entrances(&mut self) {
        self.groups.iter_mut().for_each(|group| group.entrance = None);
    }

    /// Puts a process into the v2 group, where it could not be born in it.
    pub(crate) fn attach(&self, pid: u32) -> Result<()> {
        let Some(group) = self.v2_group() else { return Ok(()) };
        let written = group.write(&Write::new("cgroup.procs", pid));
        written.or_else(|Failure { object, errno, .. }| {
            let mut refused = Error::new(Stage::Cgroup, "write", object, errno).explained();
            if errno == Errno::EOPNOTSUPP {
                refused = refused.with_hint(Some(Hint::InnerProcesses));
            }
            self.below.attach(&group.name, pid, refused)
        })
    }

    /// What init reads the CPU time from, if that is limited.
    pub(crate) fn cpu_usage(&self, limits: &Limits) -> Result<Option<OwnedFd>> {
        let accounting = self.of(Controller::Cpuacct).filter(|_| limits.cpu_time.is_some());
        let Some(group) = accounting else { return Ok(None) };
        let file = match group.version() {
            CgroupVersion::V1 => "cpuacct.usage",
            CgroupVersion::V2 => "cpu.stat",
        };
        group.open(file, OFlag::O_RDONLY).map(Some).map_err(|errno| {
            Error::new(Stage::Cgroup, "open", quoted(group.path().join(file)), errno)
        })
    }

    /// How many processes of the sandbox's own do not count.
    pub(crate) fn besides(&self) -> u64 {
        self.besides
    }

    /// The one with a controller.
    pub(crate) fn of(&self, controller: Controller) -> Option<&Group> {
        self.groups.iter().find(|group| group.has(controller))
    }
}

impl Drop for Groups {
    fn drop(&mut self) {
        if self.owner == std::process::id() {
            self.groups.iter().for_each(Group::remove);
        }
    }
}

/// What is written to the groups of a sandbox, as far as can be said before; for people.
pub(crate) fn lines(policy: &Policy) -> Vec<String> {
    if policy.limits.is_empty() {
        return Vec::new();
    }
    let limits = resolved(&policy.limits).unwrap_or_else(|_| policy.limits.clone());
    let hierarchies = hierarchies_with(&limits.controllers()).unwrap_or_default();
    let mut lines = vec![match &policy.cgroup_parent {
        CgroupParent::Auto => "make control groups near the caller's: for limits".to_owned(),
        CgroupParent::Path(path) => format!("make control groups below {path:?}: asked for"),
        #[cfg(feature = "systemd")]
        CgroupParent::SystemdScope => {
            "make control groups below a scope of systemd's: asked for".to_owned()
        }
    }];
    lines.extend(limits.lines(u64::from(policy.init), |controller| {
        let found = delegated(&hierarchies, &policy.cgroup_parent, controller);
        found.ok().map(|found| found.version)
    }));
    lines
}

/// v1's limit of memory must not be above that of memory and swap, nor the other way round, and a
/// real-time runtime not above its period: which one is written first depends on what was there.
fn write_all(group: &Group, writes: &[Write]) -> Result<(), Failure> {
    let mut late = None;
    for write in writes {
        let written = group.write(write);
        match written {
            Err(Failure { errno: Errno::EINVAL, .. })
                if is_bounded_by_the_next(&write.file) && late.is_none() =>
            {
                late = Some(write);
            }
            other => other?,
        }
    }
    late.map_or(Ok(()), |write| group.write(write))
}

fn is_bounded_by_the_next(file: &str) -> bool {
    ["memory.limit_in_bytes", "cpu.rt_period_us"].contains(&file)
}

/// What is mounted; looked at anew if one of these is not in what was seen before.
fn hierarchies_with(controllers: &[Controller]) -> Result<Arc<Hierarchies>> {
    let seen = known::hierarchies()?;
    let all = controllers.iter().all(|controller| seen.of(*controller).is_ok());
    if all { Ok(seen) } else { known::look().map(Arc::new) }
}

fn resolved(limits: &Limits) -> Result<Limits> {
    let mut limits = limits.clone();
    if let Some(io) = &limits.io {
        limits.io = Some(io.resolve().map_err(|(path, errno)| {
            Error::new(Stage::Cgroup, "find the disk of", quoted(path), errno)
        })?);
    }
    Ok(limits)
}

/// A file that the kernel does not have is a limit that it cannot give; other refusals are its own.
fn refused(feature: Feature, failure: Failure) -> Error {
    let Failure { object, of_swap, errno } = failure;
    if errno == Errno::ENOENT {
        let hint = if of_swap {
            "; boot with swapaccount=1, or allow swap by swap_limit(Max::Unlimited)"
        } else {
            ""
        };
        let reason = format!("the kernel has no file for it, to write {object}{hint}");
        return Error::Unsupported { feature, reason };
    }
    Error::new(Stage::Cgroup, "write", object, errno).explained()
}

/// Whether the host has any; unknown is as if it had.
fn has_swap() -> bool {
    !std::fs::read_to_string("/proc/swaps").is_ok_and(|text| text.lines().count() < 2)
}

fn stat(dir: BorrowedFd<'_>, name: &str) -> Result<FileStat, Errno> {
    fstatat(dir, name, nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW)
}

pub(crate) fn read_at(dir: BorrowedFd<'_>, file: impl AsRef<Path>) -> Option<String> {
    try_read_at(dir, file.as_ref()).ok()
}

fn try_read_at(dir: BorrowedFd<'_>, file: &Path) -> Result<String, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let text = known::read(openat(dir, file, flags, Mode::empty())?)?;
    String::from_utf8(text).map_err(|_| Errno::EILSEQ)
}

/// The processes that are in a group, and in those that were made in it.
pub(crate) fn all_members(dir: BorrowedFd<'_>) -> Result<Vec<u32>, Errno> {
    let mut all = members(dir)?;
    let errno_of = |error| crate::executable::errno_of(&error);
    let listed = std::fs::read_dir(format!("/proc/self/fd/{}", dir.as_raw_fd()));
    for entry in listed.map_err(errno_of)? {
        let entry = entry.map_err(errno_of)?;
        if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        match openat(dir, entry.file_name().as_os_str(), flags, Mode::empty()) {
            Ok(inner) => all.extend(all_members(inner.as_fd())?),
            // It was removed meanwhile.
            Err(Errno::ENOENT | Errno::ENODEV) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(all)
}

/// The processes that are in a group itself; none if that is not there.
pub(crate) fn members(dir: BorrowedFd<'_>) -> Result<Vec<u32>, Errno> {
    match try_read_at(dir, Path::new("cgroup.procs")) {
        Ok(text) => Ok(text.lines().filter_map(|line| line.parse().ok()).collect()),
        Err(Errno::ENOENT | Errno::ENODEV) => Ok(Vec::new()),
        Err(errno) => Err(errno),
    }
}

/// Lets everything in a group run on, so that what was killed ends; on v2 it ends anyway.
pub(crate) fn thaw(dir: BorrowedFd<'_>) {
    let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    if let Ok(open) = openat(dir, "paused/freezer.state", flags, Mode::empty()) {
        let _runs_on = nix::unistd::write(&open, b"THAWED");
    }
}

/// Gives the CPUs of a partition back, which Linux 6.1 does not do when its group is removed.
pub(crate) fn dissolve(dir: BorrowedFd<'_>) {
    let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    if let Ok(open) = openat(dir, "cpuset.cpus.partition", flags, Mode::empty()) {
        let _was_none = nix::unistd::write(&open, b"member");
    }
}

/// Tries again what could not be removed before.
fn remove_the_unremoved() {
    if let Ok(mut unremoved) = UNREMOVED.try_lock() {
        unremoved.retain(|(place, name)| {
            place::remove_tree(place.dir.as_fd(), name, &place.path.join(name), 0).is_err()
        });
    }
}
