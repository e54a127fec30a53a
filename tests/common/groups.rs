//! Control groups of a test's own, delegated to a user, in every hierarchy that is mounted.
#![allow(dead_code, reason = "each test binary uses some")]

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use stockade::{CgroupParent, Child};

use crate::common::{is_v1, mounted};

/// A group with the same path in each hierarchy; removed at the end, when nothing may be in it.
#[derive(Debug)]
pub(crate) struct Delegated {
    name: String,
    groups: Vec<(PathBuf, bool)>,
}

impl Delegated {
    /// Made by root, for this user.
    pub(crate) fn to(user: u32) -> Self {
        let name = format!("test-of-stockade-{}", std::process::id());
        let groups: Vec<_> =
            mounted().into_iter().map(|(point, v2)| (point.join(&name), v2)).collect();
        for (group, v2) in &groups {
            if *v2 {
                pass_on(group.parent().unwrap());
            }
            fs::create_dir(group).unwrap();
            if *v2 {
                pass_on(group);
                // The caller has to be inside of what it makes groups in.
                fs::create_dir(group.join("caller")).unwrap();
            }
            for file in ["cpuset.cpus", "cpuset.mems"] {
                if let (Ok(above), false) = (fs::read(group.parent().unwrap().join(file)), v2) {
                    fs::write(group.join(file), above).unwrap();
                }
            }
            chown(group, Some(user), Some(user)).unwrap();
            for file in ["cgroup.procs", "tasks", "cgroup.subtree_control", "cgroup.threads"] {
                let file = group.join(file);
                if file.exists() {
                    chown(file, Some(user), Some(user)).unwrap();
                }
            }
        }
        Delegated { name, groups }
    }

    pub(crate) fn parent(&self) -> CgroupParent {
        CgroupParent::Path(Path::new("/").join(&self.name))
    }

    /// Its group in the hierarchy of v2.
    pub(crate) fn v2(&self) -> &Path {
        &self.groups.iter().find(|(_, v2)| *v2).unwrap().0
    }

    /// Its group in the hierarchy of a controller, as v1 calls it.
    pub(crate) fn of(&self, controller: &str) -> &Path {
        let point = point_of(controller);
        &self.groups.iter().find(|(group, _)| group.parent() == Some(&point)).unwrap().0
    }

    /// What is in it in all hierarchies.
    pub(crate) fn content(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for (group, _) in &self.groups {
            for entry in fs::read_dir(group).unwrap().flatten() {
                let path = entry.path();
                if path.is_dir() && !path.ends_with("caller") {
                    found.push(path);
                }
            }
        }
        found
    }

    /// Waits until nothing is in it.
    pub(crate) fn await_empty(&self, what: &str) {
        for _ in 0..3000 {
            if self.content().is_empty() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let procs = |group: PathBuf| (fs::read_to_string(group.join("cgroup.procs")), group);
        panic!("{what}: {:?}", self.content().into_iter().map(procs).collect::<Vec<_>>());
    }

    /// Runs a role of a test as that user, inside of it.
    pub(crate) fn run(&self, command: Command, user: u32) -> Output {
        let (mut child, _directory) = self.start(command, user);
        drop(child.stdin.take());
        child.wait_with_output().unwrap()
    }

    /// Starts it, with pipes, and with the directory that its program is copied to.
    pub(crate) fn start(
        &self,
        command: Command,
        user: u32,
    ) -> (std::process::Child, tempfile::TempDir) {
        let binary = tempfile::Builder::new().tempdir_in("/tmp").unwrap();
        let copy = binary.path().join("test");
        fs::copy(command.get_program(), &copy).unwrap();
        fs::set_permissions(binary.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let mut waiting = Command::new("sh");
        let as_user = "read go; exec setpriv --reuid=$0 --regid=$0 --clear-groups \"$@\"";
        waiting.args(["-c", as_user, &user.to_string()]).arg(&copy).args(command.get_args());
        waiting.current_dir("/");
        for (key, value) in command.get_envs() {
            if let Some(value) = value {
                waiting.env(key, value);
            }
        }
        waiting.env("DELEGATED", &self.name).env("TMPDIR", "/tmp");
        waiting.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = waiting.spawn().unwrap();
        for (group, v2) in &self.groups {
            let procs = group.join(if *v2 { "caller/cgroup.procs" } else { "cgroup.procs" });
            fs::write(procs, child.id().to_string()).unwrap();
        }
        writeln!(child.stdin.as_mut().unwrap()).unwrap();
        (child, binary)
    }
}

/// Runs a test of this binary once more, as such a user inside of such groups.
pub(crate) fn delegated(test: &str) {
    let parent = Delegated::to(65534);
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env("STOCKADE_TEST_CHILD", test).env("STOCKADE_TEST_WAY", "");
    let output = parent.run(command, 65534);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    // Its warden may still be there.
    parent.await_empty("left by the user");
}

/// In a process that [`Delegated::run`] has started.
pub(crate) fn delegated_to_me() -> CgroupParent {
    CgroupParent::Path(Path::new("/").join(std::env::var("DELEGATED").unwrap()))
}

impl Drop for Delegated {
    fn drop(&mut self) {
        for (group, _) in &self.groups {
            assert!(group.metadata().is_ok_and(|found| found.is_dir() && found.ino() != 0));
            let _not_there_on_v1 = fs::remove_dir(group.join("caller"));
            for _ in 0..3000 {
                if fs::remove_dir(group).is_ok() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

/// Passes on all controllers that the group has.
fn pass_on(group: &Path) {
    let all = fs::read_to_string(group.join("cgroup.controllers")).unwrap();
    for name in all.split_whitespace() {
        let _as_far_as_it_goes =
            fs::write(group.join("cgroup.subtree_control"), format!("+{name}"));
    }
}

/// A file of a sandbox's group, as the host sees it.
pub(crate) fn group_file(child: &Child, controller: &str, file: &str) -> String {
    let file = group_path(child, controller).join(file);
    fs::read_to_string(file).unwrap().trim().to_owned()
}

pub(crate) fn group_path(child: &Child, controller: &str) -> PathBuf {
    group_of(child.id(), controller)
}

/// The group that a process is in.
pub(crate) fn group_of(pid: u32, controller: &str) -> PathBuf {
    let own = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let v1 = is_v1(controller) == Some(true);
    let path = own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, names, path) = (parts.next()?, parts.next()?, parts.next()?);
        let ours =
            if v1 { names.split(',').any(|one| one == controller) } else { names.is_empty() };
        ours.then(|| path.trim_start_matches('/').to_owned())
    });
    point_of(controller).join(path.unwrap())
}

/// Where the hierarchy with a controller is mounted.
fn point_of(controller: &str) -> PathBuf {
    let v1 = is_v1(controller) == Some(true);
    let point = mounted().into_iter().find_map(|(point, v2)| {
        let named = point.file_name()?.to_str()?.split(',').any(|one| one == controller);
        (if v1 { named } else { v2 }).then_some(point)
    });
    point.unwrap()
}

/// Where the memory of the first is slow to come free, the kernel takes another process as well: then
/// once more, some times.
pub(crate) fn one_victim(run: impl Fn() -> stockade::Output) -> stockade::Output {
    let several = |output: &stockade::Output| {
        output.usage.as_ref().unwrap().stats.memory.oom_kills.is_some_and(|kills| kills > 1)
    };
    let mut output = run();
    for _ in 0..4 {
        if several(&output) {
            output = run();
        }
    }
    output
}

/// The pid of this process's warden, which is nobody's child: it holds a pidfd of this process.
pub(crate) fn warden() -> u32 {
    let own = format!("Pid:\t{}", std::process::id());
    let holds = |pid: &u32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let Ok(all) = fs::read_dir(format!("/proc/{pid}/fdinfo")) else { return false };
        let mut texts = all.flatten().filter_map(|entry| fs::read_to_string(entry.path()).ok());
        name.trim() == "stockade-warden" && texts.any(|text| text.lines().any(|line| line == own))
    };
    let all = fs::read_dir("/proc").unwrap().flatten();
    let mut pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.find(holds).unwrap_or(0)
}
