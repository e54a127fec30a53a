//! Who the program is: inside, on the host, and to the files that it is shown.
#![allow(
    clippy::exit,
    clippy::incompatible_msrv,
    reason = "a test process, built by a current toolchain"
)]
#![allow(unsafe_code, reason = "unshare(2)")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

mod common;
#[path = "common/inside.rs"]
mod inside;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;

use common::Needs;
use common::ways::Ways;
use inside::{is_root, open_directory, refused, sh, shell, status_field, succeed};
use stockade::{Bind, Child, Error, Feature, Hint, Namespaces, Outcome, Sandbox};

tests_in_all_ways! {
    Needs::Nothing => [
        ids_inside_and_outside, chosen_ids_inside, root_by_name_inside,
        written_files_are_the_callers, groups_inside, init_has_the_same_ids,
        no_other_id_can_be_taken, own_files_are_own_inside, root_of_nothing_but_itself,
    ];
    Needs::Unprivileged => [
        as_host_root_changes_nothing, setgroups_is_denied, without_groups_nothing_is_missing,
    ];
    Needs::Root => [
        never_the_hosts_root, the_hosts_root_by_name, chosen_host_ids, private_file_is_readable,
        private_file_of_another, private_parent, groups_are_dropped,
        host_ids_own_nothing_of_nobodys, ids_of_two_sandboxes_mix_not,
    ];
    Needs::RootAndProgram("setpriv") => [groups_that_stay_are_listed];
    Needs::Nothing => alone [no_id_is_invalid];
    Needs::Unprivileged => alone [foreign_host_ids_are_refused];
    Needs::Root => alone [
        without_a_user_namespace, chosen_id_without_a_user_namespace,
        many_pairs_of_ids_leave_nothing, unmappable_file_system,
        unmappable_file_system_by_best_effort,
    ];
    Needs::Program("git") => alone [git_log];
}

const NOBODY: u32 = 65534;

fn asleep(sandbox: &Sandbox) -> Child {
    sandbox.way_to("sleep").arg("1000").spawn().unwrap()
}

/// Real, effective, saved and file system id of the program, as the host sees them.
fn host_ids(child: &Child) -> [String; 2] {
    ["Uid", "Gid"].map(|field| status_field(child.program_id().unwrap(), field))
}

fn four_times(id: u32) -> String {
    [id; 4].map(|id| id.to_string()).join("\t")
}

fn ids_inside(sandbox: &Sandbox) -> String {
    sh(sandbox, "echo $(id -u) $(id -g)")
}

fn caller() -> (u32, u32) {
    (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw())
}

fn ids_inside_and_outside() {
    let (uid, gid) = caller();
    let host = if is_root() { (NOBODY, NOBODY) } else { (uid, gid) };
    let inside = if is_root() { (1000, 1000) } else { (uid, gid) };
    let child = asleep(&Sandbox::new());
    assert_eq!(host_ids(&child), [four_times(host.0), four_times(host.1)]);
    assert_eq!(ids_inside(&Sandbox::new()), format!("{} {}\n", inside.0, inside.1));
}

fn init_has_the_same_ids() {
    let child = asleep(&Sandbox::new());
    for field in ["Uid", "Gid", "Groups"] {
        let program = status_field(child.program_id().unwrap(), field);
        assert_eq!(status_field(child.id(), field), program, "{field}");
    }
}

fn chosen_ids_inside() {
    let sandbox = Sandbox::new().uid(7).gid(8);
    assert_eq!(ids_inside(&sandbox), "7 8\n");
    let child = asleep(&sandbox);
    assert_eq!(host_ids(&child), host_ids(&asleep(&Sandbox::new())));
}

fn root_by_name_inside() {
    let sandbox = Sandbox::new().uid(0).gid(0);
    assert_eq!(ids_inside(&sandbox), "0 0\n");
    let child = asleep(&sandbox);
    assert_eq!(host_ids(&child), host_ids(&asleep(&Sandbox::new())));
    assert_eq!(status_field(child.program_id().unwrap(), "CapEff"), "0000000000000000");
}

fn no_id_is_invalid() {
    match refused(&Sandbox::new().uid(u32::MAX).gid(u32::MAX)) {
        Error::Invalid(problems) => assert_eq!(problems.len(), 2),
        other => panic!("{other}"),
    }
}

fn written_files_are_the_callers() {
    let directory = open_directory();
    let sandbox = Sandbox::new().bind_rw(directory.path(), "/srv");
    let seen =
        sh(&sandbox, "mkdir /srv/d; touch /srv/f; ln -s x /srv/l; stat -c %u:%g /srv/f; id -u");
    let inside = if is_root() { 1000 } else { caller().0 };
    assert_eq!(seen.lines().last().unwrap(), inside.to_string());
    for name in ["d", "f", "l"] {
        let made = directory.path().join(name).symlink_metadata().unwrap();
        assert_eq!((made.uid(), made.gid()), caller(), "{name}");
    }
}

fn own_files_are_own_inside() {
    let directory = open_directory();
    fs::write(directory.path().join("f"), "").unwrap();
    let sandbox = Sandbox::new().bind_rw(directory.path(), "/srv");
    let seen = sh(&sandbox, "stat -c %u:%g /srv/f; echo $(id -u):$(id -g)");
    let lines: Vec<_> = seen.lines().collect();
    assert_eq!(lines[0], lines[1]);
    sh(&sandbox, "chmod 600 /srv/f");
    assert_eq!(directory.path().join("f").metadata().unwrap().mode() & 0o777, 0o600);
}

fn groups_inside() {
    let gid = if is_root() { 1000 } else { caller().1 };
    assert_eq!(sh(&Sandbox::new(), "id -G"), format!("{gid}\n"));
}

fn no_other_id_can_be_taken() {
    if inside::role().is_some() {
        for id in [0, 1, 1000, NOBODY] {
            let own = nix::unistd::getuid().as_raw() == id;
            assert_eq!(nix::unistd::setuid(id.into()).is_ok(), own, "uid {id}");
            let own = nix::unistd::getgid().as_raw() == id;
            assert_eq!(nix::unistd::setgid(id.into()).is_ok(), own, "gid {id}");
        }
        assert!(nix::unistd::setgroups(&[0.into()]).is_err());
        return;
    }
    succeed(inside::myself(&Sandbox::new(), "no_other_id_can_be_taken", "set"));
    let root = Sandbox::new().uid(0).gid(0);
    succeed(inside::myself(&root, "no_other_id_can_be_taken", "set"));
}

fn foreign_host_ids_are_refused() {
    let error = refused(&Sandbox::new().host_ids(0, 0));
    assert!(matches!(error, Error::Failed(_) | Error::Unsupported { .. }), "{error}");
    let (uid, gid) = caller();
    let child = asleep(&Sandbox::new().host_ids(uid, gid));
    assert_eq!(host_ids(&child)[0], four_times(uid));
}

fn as_host_root_changes_nothing() {
    let child = asleep(&Sandbox::new().as_host_root());
    assert_eq!(host_ids(&child), [four_times(caller().0), four_times(caller().1)]);
}

fn setgroups_is_denied() {
    assert_eq!(sh(&Sandbox::new(), "cat /proc/self/setgroups"), "deny\n");
}

fn without_groups_nothing_is_missing() {
    if nix::unistd::getgroups().unwrap().iter().all(|group| group.as_raw() == caller().1) {
        let child = asleep(&Sandbox::new().require(Feature::SupplementaryGroups));
        assert!(!child.missing().contains(&Feature::SupplementaryGroups));
    }
}

fn never_the_hosts_root() {
    for sandbox in [
        Sandbox::new(),
        Sandbox::new().uid(0),
        Sandbox::new().init(false),
        Sandbox::new().allow_nesting(),
        Sandbox::new().namespaces(Namespaces::USER | Namespaces::PID),
    ] {
        let child = asleep(&sandbox);
        assert_eq!(host_ids(&child), [four_times(NOBODY), four_times(NOBODY)], "{sandbox:?}");
    }
}

fn the_hosts_root_by_name() {
    let child = asleep(&Sandbox::new().as_host_root());
    assert_eq!(host_ids(&child), [four_times(0), four_times(0)]);
    assert_eq!(status_field(child.program_id().unwrap(), "CapEff"), "0000000000000000");
}

fn chosen_host_ids() {
    let sandbox = Sandbox::new().host_ids(1234, 1235);
    let child = asleep(&sandbox);
    assert_eq!(host_ids(&child), [four_times(1234), four_times(1235)]);
    assert_eq!(ids_inside(&sandbox), "1000 1000\n");
}

/// Whether the host lets nobody read a file.
fn nobody_reads(file: &Path) -> bool {
    let mut cat = std::process::Command::new("cat");
    cat.arg(file).uid(NOBODY).gid(NOBODY).output().unwrap().status.success()
}

fn private_file_is_readable() {
    let directory = open_directory();
    let file = directory.path().join("private");
    fs::write(&file, "private").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(!nobody_reads(&file));
    for sandbox in [
        Sandbox::new().bind_ro(&file, "/srv/private"),
        Sandbox::new().bind_ro(directory.path(), "/srv"),
        Sandbox::new().bind_rw(directory.path(), "/srv").host_ids(1234, 1234),
    ] {
        let seen = sh(&sandbox, "cat /srv/private; stat -c ' %u' /srv/private");
        assert_eq!(seen, "private 1000\n");
    }
}

fn private_file_of_another() {
    let directory = open_directory();
    for owner in [4321, NOBODY, 1000] {
        let file = directory.path().join(owner.to_string());
        fs::write(&file, "another's").unwrap();
        chown(&file, Some(owner), Some(owner)).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let sandbox = Sandbox::new().bind_rw(directory.path(), "/srv");
        let output = shell(&sandbox, &format!("cat /srv/{owner}"));
        assert_eq!(output.outcome, Outcome::Exited(1), "{owner}");
        assert_eq!(output.stdout, b"");
    }
}

fn private_parent() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o700)).unwrap();
    fs::write(&file, "below 0700").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(!nobody_reads(&file));
    assert_eq!(sh(&Sandbox::new().bind_ro(&file, "/srv/file"), "cat /srv/file"), "below 0700");
}

fn groups_are_dropped() {
    nix::unistd::setgroups(&[4.into(), 24.into(), 0.into()]).unwrap();
    let child = asleep(&Sandbox::new().require(Feature::SupplementaryGroups));
    assert_eq!(status_field(child.program_id().unwrap(), "Groups"), "");
    assert_eq!(status_field(child.id(), "Groups"), "");
    assert!(!child.missing().contains(&Feature::SupplementaryGroups));
    assert_eq!(sh(&Sandbox::new(), "id -G"), "1000\n");
}

fn without_a_user_namespace() {
    nix::unistd::setgroups(&[4.into()]).unwrap();
    let sandbox = Sandbox::new().namespaces(Namespaces::all() - Namespaces::USER);
    let child = asleep(&sandbox);
    let pid = child.program_id().unwrap();
    assert_eq!(host_ids(&child), [four_times(NOBODY), four_times(NOBODY)]);
    assert_eq!(status_field(pid, "Groups"), "");
    for field in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(status_field(pid, field), "0000000000000000", "{field}");
    }
    assert_eq!(ids_inside(&sandbox), "65534 65534\n");
}

fn chosen_id_without_a_user_namespace() {
    let directory = open_directory();
    let sandbox = Sandbox::new()
        .namespaces(Namespaces::all() - Namespaces::USER)
        .uid(1234)
        .gid(1235)
        .bind_rw(directory.path(), "/srv");
    let child = asleep(&sandbox);
    assert_eq!(host_ids(&child), [four_times(1234), four_times(1235)]);
    sh(&sandbox, "touch /srv/new");
    assert_eq!(directory.path().join("new").metadata().unwrap().uid(), 0);
}

/// Each pair of ids needs a namespace to map owners; none of them stays.
fn many_pairs_of_ids_leave_nothing() {
    let directory = open_directory();
    let run = |id: u32| {
        let sandbox = Sandbox::new().host_ids(id, id).bind_rw(directory.path(), "/data");
        assert_eq!(sh(&sandbox, "stat -c %u /data"), "1000\n");
    };
    (0..3).for_each(|id| run(20_000 + id));
    let open = || fs::read_dir("/proc/self/fd").unwrap().count();
    let before = open();
    (0..20).for_each(|id| run(30_000 + id));
    assert_eq!(open(), before);
}

fn host_ids_own_nothing_of_nobodys() {
    let directory = open_directory();
    chown(directory.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    // What is nobody's on disk is nobody's inside, too: not the program's.
    let sandbox = Sandbox::new().bind_rw(directory.path(), "/srv");
    assert_ne!(shell(&sandbox, "touch /srv/new").outcome, Outcome::Exited(0));
    // The kernel writes to nothing whose owner has no id inside, whatever its mode.
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
    assert_ne!(shell(&sandbox, "touch /srv/new").outcome, Outcome::Exited(0));
    chown(directory.path(), Some(0), Some(0)).unwrap();
    sh(&sandbox, "touch /srv/new");
}

/// procfs cannot map ids.
const UNMAPPABLE: &str = "/proc/version";

fn unmappable_file_system() {
    let sandbox = Sandbox::new().bind_ro(UNMAPPABLE, "/srv/version");
    let error = refused(&sandbox);
    assert_eq!(error.hint(), Some(&Hint::NoIdMapping), "{error}");
    assert!(error.to_string().contains(UNMAPPABLE), "{error}");
}

fn unmappable_file_system_by_best_effort() {
    let sandbox = Sandbox::new()
        .best_effort(Feature::IdMappedMounts)
        .bind(Bind::read_only(UNMAPPABLE, "/srv/version"));
    let child = asleep(&sandbox);
    assert_eq!(child.missing(), [Feature::IdMappedMounts]);
    assert!(sh(&sandbox, "cat /srv/version").contains("Linux"));
    // Those that can be mapped still are.
    let child = asleep(&Sandbox::new().best_effort(Feature::IdMappedMounts));
    assert_eq!(child.missing(), []);
}

fn ids_of_two_sandboxes_mix_not() {
    let directory = open_directory();
    let bound = |sandbox: Sandbox| sandbox.bind_rw(directory.path(), "/srv");
    let one = bound(Sandbox::new().host_ids(1111, 1111));
    let two = bound(Sandbox::new().host_ids(2222, 2222));
    for name in ["one", "two", "three", "four"] {
        let sandbox = if name.len() == 3 { &one } else { &two };
        sh(sandbox, &format!("touch /srv/{name}; test $(stat -c %u /srv/{name}) = 1000"));
        assert_eq!(directory.path().join(name).metadata().unwrap().uid(), 0, "{name}");
    }
}

fn groups_that_stay_are_listed() {
    const TEST: &str = "groups_that_stay_are_listed";
    if inside::role().is_some() {
        let child = asleep(&Sandbox::new());
        assert_eq!(child.missing(), [Feature::SupplementaryGroups]);
        let error = refused(&Sandbox::new().require(Feature::SupplementaryGroups));
        assert!(error.is_unsupported() && error.to_string().contains("groups"), "{error}");
        return;
    }
    let directory = open_directory();
    let binary = directory.path().join("test");
    fs::copy(std::env::current_exe().unwrap(), &binary).unwrap();
    let ids = ["--reuid=65534", "--regid=65534", "--groups=4,24"];
    let mut command = std::process::Command::new("setpriv");
    command.args(ids).arg(&binary).env("STOCKADE_TEST_CHILD", TEST).env("STOCKADE_TEST_ROLE", "g");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn git_log() {
    let directory = open_directory();
    let git = |args: &[&str]| {
        let mut git = std::process::Command::new("git");
        git.current_dir(directory.path()).args(["-c", "user.name=T", "-c", "user.email=t@t"]);
        let output = git.args(args).env("HOME", directory.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    git(&["init", "-q"]);
    git(&["commit", "-q", "--allow-empty", "-m", "a message"]);
    let sandbox = Sandbox::new().bind_ro(directory.path(), "/srv");
    assert!(sh(&sandbox, "cd /srv && git log").contains("a message"));
    let sandbox = Sandbox::new().bind_rw(directory.path(), "/srv");
    let commit =
        "cd /srv && git -c user.name=T -c user.email=t@t commit -q --allow-empty -m inside";
    sh(&sandbox, commit);
    git(&["log"]);
}

/// `unshare -r`: a caller that is uid 0, and has no other id to give.
fn root_of_nothing_but_itself() {
    let (uid, gid) = caller();
    // SAFETY: takes a number; this process has one thread.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_NEWUSER) }, 0);
    fs::write("/proc/self/setgroups", "deny").unwrap();
    fs::write("/proc/self/uid_map", format!("0 {uid} 1")).unwrap();
    fs::write("/proc/self/gid_map", format!("0 {gid} 1")).unwrap();
    assert_eq!(caller(), (0, 0));
    assert_eq!(ids_inside(&Sandbox::new()), "1000 1000\n");
    assert_eq!(ids_inside(&Sandbox::new().as_host_root()), "0 0\n");
    let directory = open_directory();
    let sandbox = Sandbox::new().bind_rw(directory.path(), "/data");
    sh(&sandbox, "echo mine > /data/file");
    assert_eq!(fs::metadata(directory.path().join("file")).unwrap().uid(), 0);
    let error = refused(&Sandbox::new().host_ids(NOBODY, NOBODY));
    assert_eq!(error.raw_os_error(), Some(libc::EPERM), "{error}");
}
