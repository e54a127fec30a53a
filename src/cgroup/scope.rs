//! A scope unit of systemd's, below which the groups of a process's sandboxes are made;
//! [systemd.scope(5)](https://man7.org/linux/man-pages/man5/systemd.scope.5.html),
//! [org.freedesktop.systemd1(5)](https://man7.org/linux/man-pages/man5/org.freedesktop.systemd1.5.html).
//!
//! The process that it is started with, and lives as long as, is the warden: the embedder is not
//! moved, and what ends last is what removes the groups.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use zvariant::{OwnedObjectPath, OwnedValue, Value};

use super::hierarchy::{Hierarchies, Hierarchy};
use super::{CgroupParent, Controller};
use crate::dbus::{BUS, Bus, Fault, Peer};
use crate::error::{Error, Failed, Result, Stage, quoted};
use crate::hint::Hint;
use crate::{executable, sys};

/// How long the manager has for one request, as sd-bus gives it.
const PATIENCE: Duration = Duration::from_secs(25);
/// How long it has to let what is in a scope end, before it kills that.
const STOP: Duration = Duration::from_secs(5);
/// The group of the warden: v2 passes no controllers on below a group with processes.
const LEAF: &str = "warden";

const MANAGER: Peer = Peer {
    name: "org.freedesktop.systemd1",
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
};

/// A scope that was started, and where it is in each hierarchy in which the manager made a group.
#[derive(Debug)]
pub(crate) struct Scope {
    unit: String,
    /// Mount points, and the paths of the scope's group below them.
    groups: Vec<(PathBuf, PathBuf)>,
    /// The manager does one thing at a time: who waits here does not wait for an answer yet. And
    /// when it did not answer at all.
    asking: Mutex<Option<(Instant, Box<Failed>)>>,
}

impl Scope {
    /// Starts one with this process in it.
    pub(crate) fn start(process: u32) -> Result<Self> {
        let (unit, description) = (unit(), description());
        let asking = Instant::now();
        let mut manager = Manager::connect()?;
        manager.start(&unit, &description, process)?;
        let groups = groups_of(&unit, process)?;
        let scope = Scope { unit, groups, asking: Mutex::new(None) };
        for (point, path) in &scope.groups {
            make_room(&point.join(path), process)?;
        }
        log::debug!("cgroup: {} started in {:?}", scope.unit, asking.elapsed());
        Ok(scope)
    }

    /// The scope's group in one hierarchy.
    pub(crate) fn parent_in(
        &self,
        hierarchy: &Hierarchy,
        controllers: &[Controller],
    ) -> Result<CgroupParent> {
        let found = self.groups.iter().find(|(point, _)| *point == hierarchy.point);
        if let Some((_, path)) = found {
            return Ok(CgroupParent::Path(Path::new("/").join(path)));
        }
        let controller = controllers.first().copied().unwrap_or(Controller::Memory);
        let (version, feature) = (hierarchy.version, controller.feature());
        let name = controller.name(version);
        let reason = format!(
            "systemd has made no group for {} in the hierarchy with {name:?}, cgroup {version}: of v1 it \
             delegates nothing to users; run as root, boot with systemd.unified_cgroup_hierarchy=1, \
             or use CgroupParent::Path with a group that was delegated by hand",
            self.unit
        );
        Err(Error::Unsupported { feature, reason })
    }

    /// Has the manager put a process into a group below the scope, from where the caller may not
    /// take it.
    pub(crate) fn attach(&self, group: &str, process: u32) -> Result<()> {
        let since = Instant::now();
        let mut silent = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, failure)) = silent.as_ref().filter(|(at, _)| *at > since) {
            return Err(Error::Failed(failure.clone()));
        }
        let attached = Manager::connect().and_then(|mut manager| {
            let arguments = (self.unit.as_str(), format!("/{group}"), vec![process]);
            let attached = manager.bus.call(MANAGER, "AttachProcessesToUnit", &arguments);
            let object = || format!("to put a process into {:?}", format!("{}/{group}", self.unit));
            attached.map(drop).map_err(|fault| manager.failed(&object(), fault))
        });
        if let Err(Error::Failed(failure)) = &attached {
            if failure.errno == Errno::ETIMEDOUT {
                *silent = Some((Instant::now(), failure.clone()));
            }
        }
        attached
    }
}

/// Whether a manager answers who asks for a scope; nothing is started.
pub(crate) fn probe() -> Result<()> {
    let mut manager = Manager::connect()?;
    let properties = Peer { interface: "org.freedesktop.DBus.Properties", ..MANAGER };
    let asked = manager.bus.call(properties, "Get", &(MANAGER.interface, "Version"));
    let version = asked.and_then(|answer| answer.body::<OwnedValue>());
    let version = version.map_err(|fault| manager.failed("for its version", fault))?;
    log::debug!("cgroup: systemd {version:?} answers");
    Ok(())
}

/// Whose it is, and no other's; not as the groups of sandboxes are called, which are collected.
fn unit() -> String {
    let plain = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '_' };
    let name: String = program().chars().take(64).map(plain).collect();
    format!("app-stockade-{name}-{}_{:x}.scope", std::process::id(), sys::random())
}

fn description() -> String {
    format!("Sandboxes of {} ({})", program(), std::process::id())
}

fn program() -> String {
    let path = std::env::current_exe().unwrap_or_default();
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

/// Where the process is in a group of that unit, by the kernel's word.
fn groups_of(unit: &str, process: u32) -> Result<Vec<(PathBuf, PathBuf)>> {
    let failed = |errno| {
        let object = format!("\"/proc/{process}/cgroup\"");
        Error::new(Stage::Cgroup, "find the scope in", object, errno)
    };
    let read = |path: &str| fs::read(path).map_err(|error| failed(executable::errno_of(&error)));
    let mounts = read("/proc/self/mountinfo")?;
    let found = Hierarchies::of_texts(&mounts, &read(&format!("/proc/{process}/cgroup"))?)
        .all
        .into_iter()
        .filter_map(|one| below_point(unit, &one).map(|path| (one.point, path)))
        .collect::<Vec<_>>();
    // The job was done, so it should be there.
    if found.is_empty() { Err(failed(Errno::ENOENT)) } else { Ok(found) }
}

fn below_point(unit: &str, hierarchy: &Hierarchy) -> Option<PathBuf> {
    let own = hierarchy.own.as_deref()?;
    let group = own.ancestors().find(|group| group.ends_with(unit))?;
    group.strip_prefix(&hierarchy.point).ok().map(Path::to_owned)
}

/// Moves the process out of the way, into a group below.
fn make_room(scope: &Path, process: u32) -> Result<()> {
    let leaf = scope.join(LEAF);
    if !scope.join("cgroup.subtree_control").exists() {
        // v1 has groups below those with processes.
        return Ok(());
    }
    let failed = |operation, path: &Path, error: std::io::Error| {
        Error::new(Stage::Cgroup, operation, quoted(path), executable::errno_of(&error)).explained()
    };
    fs::create_dir(&leaf).map_err(|error| failed("make control group", &leaf, error))?;
    let procs = leaf.join("cgroup.procs");
    fs::OpenOptions::new()
        .write(true)
        .open(&procs)
        .and_then(|mut file| std::io::Write::write_all(&mut file, process.to_string().as_bytes()))
        .map_err(|error| failed("write", &procs, error))
}

/// A connection to the manager.
#[derive(Debug)]
struct Manager {
    bus: Bus,
    address: String,
}

impl Manager {
    /// The system's for root, and the user's own for others.
    fn connect() -> Result<Self> {
        let deadline = Instant::now() + PATIENCE;
        let mut first = None;
        for address in addresses() {
            match Bus::connect(&address, deadline).and_then(|bus| Self::greet(bus, &address)) {
                Ok(manager) => return Ok(manager),
                Err(fault) => first = first.or(Some(failed("for a scope", &address, fault))),
            }
        }
        let nowhere = || failed("for a scope", "", Errno::ENOENT.into());
        Err(first.unwrap_or_else(nowhere))
    }

    fn greet(mut bus: Bus, address: &str) -> Result<Self, Fault> {
        if !bus.call(BUS, "NameHasOwner", &MANAGER.name)?.body::<bool>()? {
            return Err(Errno::ENOENT.into());
        }
        // Otherwise somebody else's process would be moved.
        if !bus.has_same_pids()? {
            return Err(Errno::EXDEV.into());
        }
        Ok(Manager { bus, address: address.to_owned() })
    }

    fn start(&mut self, unit: &str, description: &str, process: u32) -> Result<()> {
        let object = format!("for {unit:?}");
        self.start_transient(unit, description, process)
            .and_then(|job| self.await_job(&job))
            .map_err(|fault| self.failed(&object, fault))
    }

    fn start_transient(
        &mut self,
        unit: &str,
        description: &str,
        process: u32,
    ) -> Result<OwnedObjectPath, Fault> {
        let rule = format!(
            "type='signal',sender='{}',path='{}',interface='{}',member='JobRemoved'",
            MANAGER.name, MANAGER.path, MANAGER.interface
        );
        self.bus.call(BUS, "AddMatch", &rule)?;
        self.bus.call(MANAGER, "Subscribe", &())?;
        let stop = u64::try_from(STOP.as_micros()).unwrap_or(u64::MAX);
        let properties: Vec<(&str, Value<'_>)> = vec![
            ("Description", Value::from(description)),
            ("PIDs", Value::from(vec![process])),
            ("Delegate", Value::from(true)),
            // A failed one does not stay until somebody resets it.
            ("CollectMode", Value::from("inactive-or-failed")),
            ("TimeoutStopUSec", Value::from(stop)),
        ];
        let auxiliary: Vec<(&str, Vec<(&str, Value<'_>)>)> = Vec::new();
        let arguments = (unit, "fail", properties, auxiliary);
        self.bus.call(MANAGER, "StartTransientUnit", &arguments)?.body()
    }

    /// Waits until the manager has done, or given up, a job.
    fn await_job(&mut self, job: &OwnedObjectPath) -> Result<(), Fault> {
        loop {
            let signal = self.bus.signal()?;
            if signal.member != "JobRemoved" {
                continue;
            }
            let (_, removed, _, result): (u32, OwnedObjectPath, String, String) = signal.body()?;
            if removed == *job {
                let text = format!("the job ended as {result:?}");
                let errno = if result == "timeout" { Errno::ETIMEDOUT } else { Errno::ECANCELED };
                return if result == "done" { Ok(()) } else { Err(Fault { errno, text }) };
            }
        }
    }

    fn failed(&self, request: &str, fault: Fault) -> Error {
        failed(request, &self.address, fault)
    }
}

fn failed(request: &str, address: &str, Fault { errno, text }: Fault) -> Error {
    let mut object = format!("{request} at {address:?}");
    if !text.is_empty() {
        object = format!("{object} ({text})");
    }
    Error::new(Stage::Cgroup, "ask systemd", object, errno).with_hint(hint(errno))
}

/// Where the manager may be reached, the likeliest first.
fn addresses() -> Vec<String> {
    let user = nix::unistd::geteuid();
    // Not by a setuid program: its environment is somebody else's.
    let own = user == nix::unistd::getuid() && nix::unistd::getegid() == nix::unistd::getgid();
    let variable = |name| std::env::var(name).ok().filter(|text| own && !text.is_empty());
    if user.is_root() {
        let system = variable("DBUS_SYSTEM_BUS_ADDRESS");
        return vec![system.unwrap_or("unix:path=/run/dbus/system_bus_socket".to_owned())];
    }
    let session = variable("DBUS_SESSION_BUS_ADDRESS");
    let runtime = variable("XDG_RUNTIME_DIR").map(|path| format!("unix:path={path}/bus"));
    let usual = format!("unix:path=/run/user/{user}/bus");
    let mut all: Vec<_> = session.into_iter().chain(runtime).chain([usual]).collect();
    all.dedup();
    all
}

/// What to do about it.
fn hint(errno: Errno) -> Option<Hint> {
    let booted = super::delegation::is_booted();
    let user = nix::unistd::geteuid();
    match errno {
        Errno::EXDEV => Some(Hint::SystemdElsewhere),
        Errno::EACCES | Errno::EPERM => Some(Hint::SystemdDenies),
        Errno::ETIMEDOUT => Some(Hint::SystemdSilent),
        Errno::ENOENT | Errno::ECONNREFUSED if !booted => Some(Hint::NoSystemd),
        Errno::ENOENT | Errno::ECONNREFUSED if user.is_root() => {
            Some(Hint::Run("systemctl start dbus.socket, of the package dbus".to_owned()))
        }
        Errno::ENOENT | Errno::ECONNREFUSED => Some(Hint::Run(format!(
            "loginctl enable-linger {user}, as root, which starts the user's manager; its bus is that of \
             the package dbus-user-session"
        ))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::sync::Mutex;

    use super::{Scope, below_point, unit};
    use crate::cgroup::hierarchy::Hierarchy;
    use crate::cgroup::{CgroupParent, CgroupVersion, Controller};

    fn hierarchy(version: CgroupVersion, point: &str, own: &str) -> Hierarchy {
        let own = Some(PathBuf::from(own));
        Hierarchy { version, point: point.into(), own, read_only: false, controllers: Vec::new() }
    }

    #[test]
    fn a_units_name_says_whose_it_is_and_is_one_for_systemd() {
        let (name, other) = (unit(), unit());
        assert_ne!(name, other);
        assert!(name.starts_with("app-stockade-stockade_"), "{name}");
        assert!(name.contains(&format!("-{}_", std::process::id())), "{name}");
        let fits = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
        assert!(name.len() < 256 && name.chars().all(fits), "{name}");
    }

    #[test]
    fn the_scope_is_found_below_each_mount_point() {
        let at = |own: &str| below_point("a.scope", &hierarchy(CgroupVersion::V2, "/cg", own));
        assert_eq!(at("/cg/system.slice/a.scope"), Some("system.slice/a.scope".into()));
        assert_eq!(at("/cg/system.slice/a.scope/warden"), Some("system.slice/a.scope".into()));
        assert_eq!(at("/cg/user.slice/xa.scope"), None);
        assert_eq!(at("/cg"), None);
    }

    #[test]
    fn what_is_not_delegated_is_an_error() {
        let groups = vec![("/cg/unified".into(), "user.slice/a.scope".into())];
        let (unit, asking) = ("a.scope".to_owned(), Mutex::new(None));
        let scope = Scope { unit, groups, asking };
        let unified = hierarchy(CgroupVersion::V2, "/cg/unified", "/cg/unified/x");
        let parent = scope.parent_in(&unified, &[Controller::Hugetlb]).unwrap();
        assert_eq!(parent, CgroupParent::Path(Path::new("/user.slice/a.scope").into()));
        let memory = hierarchy(CgroupVersion::V1, "/cg/memory", "/cg/memory/x");
        let error = scope.parent_in(&memory, &[Controller::Memory]).unwrap_err().to_string();
        assert!(
            error.starts_with("this system lacks limits of memory: systemd has made"),
            "{error}"
        );
        assert!(error.contains("run as root"), "{error}");
    }
}
