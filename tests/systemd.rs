//! Groups below a scope unit of systemd's: where one runs, as in the virtual machine of .ci/vm-systemd,
//! that limits hold there and nothing is left; elsewhere, that it is an error with a remedy.
#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used,
    clippy::exit,
    reason = "a test process"
)]

mod common;
#[path = "common/inside.rs"]
mod inside;

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio as StdStdio};
use std::time::Duration;

use common::Needs;
use inside::{is_root, myself_outside, refused, role, shell};
use stockade::{CgroupParent, Child, Feature, Hint, Outcome, Sandbox, Stage, Stdio, Support};

const MIB: u64 = 1 << 20;

tests! {
    Needs::Systemd => [
        limits_hold_in_a_delegated_scope,
        the_unit_says_whose_it_is,
        sandboxes_are_paused_and_limits_changed,
        many_threads_share_a_scope,
        a_stopped_scope_ends_its_sandboxes_and_another_follows,
        another_warden_gets_another_scope,
        a_forked_copy_has_its_own,
        nothing_is_left_after_the_end,
        nothing_is_left_by_a_killed_owner,
        a_manager_is_found,
        what_the_error_says_delegates_a_group,
    ];
    Needs::UsersSystemd => [
        what_the_users_manager_is_not_given_is_told,
    ];
    Needs::NoSystemd => [
        without_systemd_a_scope_is_an_error,
        without_systemd_limits_may_be_missing,
        without_systemd_it_is_said_to_be_missing,
    ];
    Needs::Nothing => [
        who_hangs_up_is_told,
        no_limit_asks_nobody,
    ];
}

fn scoped() -> Sandbox {
    Sandbox::new().pids_limit(64).cgroup_parent(CgroupParent::SystemdScope)
}

/// Runs until it is killed.
fn sleeper(sandbox: &Sandbox) -> Child {
    sandbox.command("sleep").arg("1000").spawn().unwrap()
}

/// A process's group of cgroup v2.
fn group_of(process: impl std::fmt::Display) -> String {
    let text = fs::read_to_string(format!("/proc/{process}/cgroup")).unwrap();
    text.lines().find_map(|line| line.strip_prefix("0::")).unwrap().to_owned()
}

/// The unit that a sandbox is in.
fn unit_of(child: &Child) -> String {
    let group = group_of(child.id());
    let unit = group.split('/').find(|part| part.starts_with("app-stockade-"));
    unit.unwrap_or_else(|| panic!("{group}")).to_owned()
}

fn systemctl(arguments: &[&str]) -> String {
    let manager = if is_root() { "--system" } else { "--user" };
    let output = Command::new("systemctl").arg(manager).args(arguments).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

fn property(unit: &str, name: &str) -> String {
    systemctl(&["show", "--value", "--property", name, unit]).trim().to_owned()
}

/// The scopes of this crate's that the manager knows, in whatever state.
fn units() -> BTreeSet<String> {
    let list = systemctl(&["list-units", "--all", "--plain", "--no-legend", "app-stockade-*"]);
    list.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

/// All groups with the crate's name in theirs.
fn groups() -> BTreeSet<String> {
    let output = Command::new("find")
        .args(["/sys/fs/cgroup", "-type", "d", "-name", "*stockade-*"])
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn await_that(what: &str, is: impl Fn() -> bool) {
    for _ in 0..3000 {
        if is() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("{what}: units {:?}, groups {:?}", units(), groups());
}

fn limits_hold_in_a_delegated_scope() {
    let own = group_of("self");
    let sandbox = scoped().memory_limit(32 * MIB).cpu_limit(0.5);
    let mut child = sandbox.command("cat").stdin(Stdio::piped()).spawn().unwrap();
    let unit = unit_of(&child);
    let slice = if is_root() { "/system.slice/" } else { "/app.slice/" };
    let group = group_of(child.id());
    assert!(group.contains(slice), "{group}");
    // One of its own, below the scope.
    assert!(group.contains(&format!("/{unit}/stockade-")), "{group}");
    let read = |file: &str| fs::read_to_string(format!("/sys/fs/cgroup{group}/{file}")).unwrap();
    assert_eq!(read("memory.max").trim(), (32 * MIB).to_string());
    assert_eq!(read("cpu.max").trim(), "50000 100000");
    // Init is not counted.
    assert_eq!(read("pids.max").trim(), "65");
    assert_eq!(property(&unit, "Delegate"), "yes");
    // The kernel holds to it, and only there.
    let output = sandbox.command("tail").arg("/dev/zero").output().unwrap();
    assert!(matches!(output.outcome, Outcome::OutOfMemory { .. }), "{output:?}");
    assert!(output.usage.unwrap().stats.memory.peak.is_some_and(|peak| peak <= 32 * MIB));
    let bomb = "i=0; while [ $i -lt 100 ]; do (sleep 1000 &) || exit 9; i=$((i+1)); done";
    let output = shell(&sandbox, bomb);
    assert_ne!(output.outcome, Outcome::Exited(0));
    assert!(output.usage.unwrap().stats.pids.limit_hits.unwrap() > 0);
    assert_eq!(child.try_wait().unwrap(), None);
    // It cannot be seen from inside, and the caller was not moved.
    assert_eq!(inside::sh(&sandbox, "cat /proc/self/cgroup"), "0::/\n");
    assert_eq!(group_of("self"), own);
    assert_eq!(child.wait().unwrap().outcome, Outcome::Exited(0));
}

fn the_unit_says_whose_it_is() {
    let child = sleeper(&scoped());
    let unit = unit_of(&child);
    let id = std::process::id();
    assert!(unit.contains(&format!("-{id}_")), "{unit}");
    let description = property(&unit, "Description");
    let program = std::env::current_exe().unwrap();
    let program = program.file_name().unwrap().to_str().unwrap();
    assert_eq!(description, format!("Sandboxes of {program} ({id})"));
    assert_eq!(property(&unit, "CollectMode"), "inactive-or-failed");
    assert_eq!(property(&unit, "ActiveState"), "active");
}

fn sandboxes_are_paused_and_limits_changed() {
    let sandbox = scoped().memory_limit(64 * MIB);
    let mut child = sleeper(&sandbox);
    let group = format!("/sys/fs/cgroup{}", group_of(child.id()));
    child.pause().unwrap();
    let events = fs::read_to_string(format!("{group}/paused/cgroup.events")).unwrap();
    assert!(events.contains("frozen 1"), "{events}");
    child.resume().unwrap();
    let limits = stockade::Limits::new().memory(stockade::Memory::new().max(48 * MIB));
    child.update(&limits).unwrap();
    let max = fs::read_to_string(format!("{group}/memory.max")).unwrap();
    assert_eq!(max.trim(), (48 * MIB).to_string());
    child.pause().unwrap();
    drop(child);
    await_that("the group of a paused sandbox is removed", || !fs::exists(&group).unwrap());
}

fn many_threads_share_a_scope() {
    let sandbox = scoped();
    let spawn = || {
        let mut child = sandbox.command("cat").stdin(Stdio::piped()).spawn().unwrap();
        let unit = unit_of(&child);
        assert_eq!(child.wait().unwrap().outcome, Outcome::Exited(0));
        unit
    };
    let found: BTreeSet<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..64).map(|_| scope.spawn(spawn)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(BTreeSet::from_iter(found), ours());
}

/// The units of this process.
fn ours() -> BTreeSet<String> {
    let id = format!("-{}_", std::process::id());
    units().into_iter().filter(|unit| unit.contains(&id)).collect()
}

fn a_stopped_scope_ends_its_sandboxes_and_another_follows() {
    let sandbox = scoped();
    let mut child = sleeper(&sandbox);
    let unit = unit_of(&child);
    systemctl(&["stop", &unit]);
    let outcome = child.wait().unwrap().outcome;
    assert!(!outcome.is_success(), "{outcome:?}");
    drop(child);
    let child = sleeper(&sandbox);
    assert_ne!(unit_of(&child), unit);
    await_that("only the second is left", || ours() == BTreeSet::from([unit_of(&child)]));
}

/// The warden is the only process in the scope's leaf.
fn warden_of(child: &Child) -> u32 {
    let group = group_of(child.id());
    let scope = group.rsplit_once('/').unwrap().0;
    let procs = fs::read_to_string(format!("/sys/fs/cgroup{scope}/warden/cgroup.procs")).unwrap();
    procs.trim().parse().unwrap()
}

fn another_warden_gets_another_scope() {
    let sandbox = scoped();
    let mut first = sleeper(&sandbox);
    let warden = warden_of(&first);
    let kill = format!("kill -9 {warden}");
    let killed = Command::new("sh").args(["-c", &kill]).status().unwrap();
    assert!(killed.success());
    await_that("the warden is dead", || !fs::exists(format!("/proc/{warden}")).unwrap());
    let second = sleeper(&sandbox);
    assert_ne!(unit_of(&second), unit_of(&first));
    // What is in the first one lives on, and is ended as ever.
    assert_eq!(first.try_wait().unwrap(), None);
    drop(first);
    await_that("the first scope is gone", || ours() == BTreeSet::from([unit_of(&second)]));
}

fn a_forked_copy_has_its_own() {
    let sandbox = scoped();
    let child = sleeper(&sandbox);
    let unit = unit_of(&child);
    // SAFETY: this process has one thread, and the copy ends by _exit.
    match unsafe { nix::unistd::fork() }.unwrap() {
        nix::unistd::ForkResult::Child => {
            let other = std::panic::catch_unwind(|| unit_of(&sleeper(&sandbox)));
            let good = other.is_ok_and(|other| other != unit);
            // SAFETY: ends the process, whatever the parent had registered.
            unsafe { nix::libc::_exit(if good { 0 } else { 1 }) }
        }
        nix::unistd::ForkResult::Parent { child: copy } => {
            let status = nix::sys::wait::waitpid(copy, None).unwrap();
            assert_eq!(status, nix::sys::wait::WaitStatus::Exited(copy, 0));
            let its = |unit: &String| unit.contains(&format!("-{copy}_"));
            await_that("the copy's scope ends with it", || !units().iter().any(its));
        }
    }
    assert_eq!(unit_of(&child), unit);
}

/// Starts this test as an owner of sandboxes, and returns it with the unit it is told.
fn owner(test: &str) -> (std::process::Child, String) {
    let mut owner = myself_outside(test, "owner").stdout(StdStdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(owner.stdout.take().unwrap()).lines();
    let unit = lines.next().expect("the owner tells its unit").unwrap();
    assert!(units().contains(&unit), "{unit}");
    (owner, unit)
}

fn be_owner() -> Vec<Child> {
    let sandbox = scoped().memory_limit(64 * MIB);
    let children: Vec<_> = (0..3).map(|_| sleeper(&sandbox)).collect();
    println!("{}", unit_of(&children[0]));
    children
}

fn nothing_is_left_after_the_end() {
    if role().is_some() {
        return drop(be_owner());
    }
    let (mut owner, unit) = owner_that_waits("nothing_is_left_after_the_end");
    assert!(owner.wait().unwrap().success());
    await_that("nothing is left", || {
        !units().contains(&unit) && !groups().iter().any(|group| group.contains(&unit))
    });
}

/// One that ends by itself may have done so before its unit is looked for.
fn owner_that_waits(test: &str) -> (std::process::Child, String) {
    let mut owner = myself_outside(test, "owner").stdout(StdStdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(owner.stdout.take().unwrap()).lines();
    let unit = lines.next().expect("the owner tells its unit").unwrap();
    (owner, unit)
}

fn nothing_is_left_by_a_killed_owner() {
    if role().is_some() {
        let _children = be_owner();
        loop {
            std::thread::park();
        }
    }
    let (mut owner, unit) = owner("nothing_is_left_by_a_killed_owner");
    owner.kill().unwrap();
    owner.wait().unwrap();
    await_that("nothing is left", || {
        !units().contains(&unit) && !groups().iter().any(|group| group.contains(&unit))
    });
}

fn a_manager_is_found() {
    let support = Support::probe();
    let found = support.get("systemd scopes").unwrap();
    assert!(found.available, "{found:?}");
}

/// A user outside of what is delegated is refused, and started again by what the error says: with a
/// manager that runs by the user, without one by root.
fn what_the_error_says_delegates_a_group() {
    let sandbox = Sandbox::new().pids_limit(5);
    match role().as_deref() {
        Some("refused") => return println!("{}", refused(&sandbox).hint().unwrap()),
        Some(_) => {
            let output = shell(&sandbox, "for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done");
            assert!(output.usage.unwrap().stats.pids.limit_hits.unwrap() > 0);
            return println!("limited");
        }
        None => {}
    }
    let test = "what_the_error_says_delegates_a_group";
    let binary = std::env::current_exe().unwrap();
    let with = |program: &str, arguments: &[&str], role: &str| {
        let mut command = Command::new(program);
        for (key, value) in myself_outside(test, role).get_envs() {
            command.env(key, value.unwrap());
        }
        let output = command.args(arguments).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    };
    // Nobody has started a manager for this user, but for root's sake.
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups", binary.to_str().unwrap()];
    let hint = if is_root() {
        with("setpriv", &nobody, "refused")
    } else {
        refused(&sandbox).hint().unwrap().to_string()
    };
    let begin = match is_root() {
        true => "run as root: systemctl start user@65534.service && setpriv ",
        false => "run systemd-run --user --scope -p Delegate=yes -- ",
    };
    assert!(hint.starts_with(begin), "{hint}");
    let (_, command) = hint.split_at(hint.find("systemctl").or(hint.find("systemd-run")).unwrap());
    assert_eq!(with("sh", &["-c", command], "again"), "limited\n");
    if is_root() {
        systemctl(&["stop", "user@65534.service"]);
    }
}

fn what_the_users_manager_is_not_given_is_told() {
    // By default, user@.service is given cpu, memory and pids.
    let sandbox = scoped().cpus("0");
    let error = refused(&sandbox);
    assert_eq!(error.stage(), Some(Stage::Cgroup));
    let hint = error.hint().unwrap().to_string();
    assert!(hint.contains("/etc/systemd/system/user@.service.d"), "{error}");
    let mut child = sandbox.best_effort(Feature::CpusetLimits).command("true").spawn().unwrap();
    assert!(child.missing().contains(&Feature::CpusetLimits));
    child.wait().unwrap();
}

fn without_systemd_a_scope_is_an_error() {
    let error = refused(&scoped());
    assert_eq!(error.stage(), Some(Stage::Cgroup));
    assert_eq!(error.raw_os_error(), Some(nix::libc::ENOENT), "{error}");
    assert_eq!(error.hint(), Some(&Hint::NoSystemd), "{error}");
    assert!(error.to_string().starts_with("ask systemd for a scope at \"unix:path=/"), "{error}");
    let check = scoped().check().unwrap_err();
    assert_eq!(check.hint(), Some(&Hint::NoSystemd));
}

fn without_systemd_limits_may_be_missing() {
    let mut child = scoped().best_effort(Feature::PidsLimit).command("true").spawn().unwrap();
    assert!(child.missing().contains(&Feature::PidsLimit));
    assert_eq!(child.wait().unwrap().outcome, Outcome::Exited(0));
}

fn without_systemd_it_is_said_to_be_missing() {
    let support = Support::probe();
    let missing = support.get("systemd scopes").unwrap();
    assert!(!missing.available);
    assert_eq!(missing.remedy, Some(Hint::NoSystemd.to_string()));
}

fn who_hangs_up_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bus");
    let listener = UnixListener::bind(&path).unwrap();
    let hangs_up = move || {
        for stream in listener.incoming() {
            drop(stream.unwrap());
        }
    };
    std::thread::spawn(hangs_up);
    let variable = if is_root() { "DBUS_SYSTEM_BUS_ADDRESS" } else { "DBUS_SESSION_BUS_ADDRESS" };
    let address = format!("unix:path={}", path.display());
    // SAFETY: the other thread reads no variable.
    unsafe { std::env::set_var(variable, &address) };
    // SAFETY: the same.
    unsafe { std::env::remove_var("XDG_RUNTIME_DIR") };
    if !is_root() && fs::exists(format!("/run/user/{}/bus", nix::unistd::geteuid())).unwrap() {
        // The next one is asked then, and answers.
        return drop(sleeper(&scoped()));
    }
    let error = refused(&scoped());
    let errno = error.raw_os_error().unwrap();
    assert!([nix::libc::ECONNRESET, nix::libc::EPIPE].contains(&errno), "{error}");
    assert!(error.to_string().contains(&format!("at {address:?}")), "{error}");
}

fn no_limit_asks_nobody() {
    let sandbox = Sandbox::new().cgroup_parent(CgroupParent::SystemdScope);
    let status = sandbox.command("true").status().unwrap();
    assert_eq!(status.outcome, Outcome::Exited(0));
}
