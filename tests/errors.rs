//! Every kind of failure, made for real, and exactly how it is told.
#![allow(
    clippy::exit,
    clippy::incompatible_msrv,
    clippy::cast_possible_truncation,
    reason = "a test process, built by a current toolchain"
)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails so")]
#![allow(unsafe_code, reason = "mounts, namespaces and limits of the test's own")]

mod common;
#[path = "common/inside.rs"]
mod inside;
#[path = "common/mounts.rs"]
mod mounts;

use std::collections::BTreeSet;
use std::error::Error as _;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command as HostCommand, Stdio as HostStdio};
use std::time::Duration;

use common::{Needs, moment};
use inside::{is_root, open_directory, role};
use mounts::own_mounts;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use stockade::{
    Bind, Command, Error, Feature, Hint, Namespaces, Proc, Resource, Rootfs, Sandbox, Stage,
    TimeOffsets, WhenEmpty,
};

tests! {
    Needs::Nothing => [
        errors_are_errors, stages_have_names, hints_are_sentences, unknown_names,
        contradictions, contradictions_of_a_command, every_contradiction,
        missing_source, source_through_a_file, kinds_that_do_not_match, missing_mount_points,
        what_exists_already, existing_places_of_the_hosts, links_that_lead_nowhere, names_too_long, roots_that_are_none,
        missing_programs, programs_that_cannot_run, missing_interpreters, only_outside,
        missing_directory, hidden_home, too_many_arguments, limit_above_the_callers,
        limit_beyond_the_kernels, no_terminal, descriptor_above_the_callers_limit,
        joined_path_is_missing, joined_is_of_another_kind, joined_is_no_namespace,
        impossible_time, score_below_the_callers, signals_that_do_not_arrive,
        too_few_descriptors, more_binds_than_descriptors, user_namespaces_in_each_other, limit_of_file_sizes, no_user_namespaces_left, no_namespaces_left,
        a_network_refused_ahead,
        no_namespaces_left_later, no_networks_left_later, what_makes_no_namespaces, no_late_namespaces_left, too_few_to_wait, masked_proc, read_only_settings, apparmor, debians_switch,
        filtered_clone, filtered_keyring, no_keys_left, old_kernels, no_memory_to_execute,
        init_file_that_is_another, closed_input,
    ];
    Needs::Unprivileged => [
        nicer_than_allowed, foreign_ids, joined_is_not_permitted, only_root_does_without,
    ];
    Needs::FewMounts => [no_mounts_left];
    Needs::Root => [chrooted, unmappable, no_mapping_at_all, memory_switched_off];
    Needs::RootAndProgram("setpriv") => [groups_that_cannot_be_dropped];
}

/// What a failed step says of itself.
#[derive(Debug, PartialEq, Eq)]
struct Told<'a> {
    stage: Stage,
    operation: &'a str,
    object: &'a str,
    errno: i32,
    hint: Option<Hint>,
    text: &'a str,
}

fn assert_told(error: &Error, expected: &Told<'_>) {
    assert_readable(error);
    let failed = error.failed().unwrap_or_else(|| panic!("{error}"));
    let text = error.to_string();
    let told = Told {
        stage: failed.stage,
        operation: failed.operation,
        object: &failed.object,
        errno: failed.raw_os_error(),
        hint: failed.hint.clone(),
        text: &text,
    };
    assert_eq!(told, *expected);
    assert_eq!(error.stage(), Some(expected.stage));
    assert_eq!(error.raw_os_error(), Some(expected.errno));
    assert_eq!(error.hint(), expected.hint.as_ref());
    assert_eq!(failed.to_string(), text);
    assert!(!error.is_unsupported());
}

/// One line that begins with a small letter, names what it is about and has no full stop.
fn assert_readable(error: &Error) {
    let text = error.to_string();
    assert!(!text.is_empty() && !text.contains(['\n', '\0']), "{text:?}");
    assert!(text.starts_with(|letter: char| letter.is_lowercase()), "{text:?}");
    assert!(!text.ends_with(['.', ' ', ':']) && !text.contains("  "), "{text:?}");
}

fn refused(sandbox: &Sandbox) -> Error {
    sandbox.command("true").spawn().unwrap_err()
}

fn start_of(command: Command) -> Error {
    command.spawn().unwrap_err()
}

// ---- errors in general -------------------------------------------------------------------------

fn errors_are_errors() {
    fn is_one<T: std::error::Error + Send + Sync + Unpin + 'static>(_: &T) {}
    let failed = start_of(Sandbox::new().command("/no/such"));
    let invalid = start_of(Sandbox::new().command(""));
    for error in [&failed, &invalid] {
        is_one(error);
        assert!(error.source().is_none(), "all of it is in the text");
        assert!(!format!("{error:?}").is_empty());
    }
    is_one(failed.failed().unwrap());
    assert_eq!(failed.failed().unwrap().clone(), *failed.failed().unwrap());
    assert_eq!((invalid.stage(), invalid.raw_os_error(), invalid.hint()), (None, None, None));
    // As any program's own error, and as an io::Error.
    let boxed: Box<dyn std::error::Error + Send + Sync> = failed.into();
    assert!(boxed.downcast_ref::<Error>().is_some());
    let failed = std::io::Error::from(start_of(Sandbox::new().command("/no/such")));
    let text = r#"exec "/no/such": no such file or directory (os error 2)"#;
    assert_eq!((failed.kind(), &*failed.to_string()), (std::io::ErrorKind::NotFound, text));
    assert!(failed.get_ref().unwrap().downcast_ref::<Error>().is_some());
    let invalid = std::io::Error::from(invalid);
    assert_eq!(invalid.kind(), std::io::ErrorKind::InvalidInput);
    let feature = Feature::TimeNamespace;
    let lacking = Error::Unsupported { feature, reason: "its kernel is old".to_owned() };
    assert_eq!(lacking.to_string(), "this system lacks a time namespace: its kernel is old");
    assert!(lacking.is_unsupported() && lacking.failed().is_none());
    assert_eq!(std::io::Error::from(lacking).kind(), std::io::ErrorKind::Unsupported);
}

fn stages_have_names() {
    use Stage::{Cgroup, Identity, Join, Launch, Prepare, Run, Setup, Start};
    let names =
        [Prepare, Launch, Cgroup, Join, Identity, Setup, Start, Run].map(|one| one.to_string());
    assert_eq!(names, ["prepare", "launch", "cgroup", "join", "identity", "setup", "start", "run"]);
    let names = Feature::ALL.map(|feature| feature.to_string());
    let expected = [
        "dropping supplementary groups",
        "a limit of nested user namespaces",
        "limits of inotify",
        "a session keyring of its own",
        "a time namespace",
        "a raised oom_score_adj",
        "id-mapped mounts",
        "limits of CPU time",
        "a limit of all CPU time",
        "limits of CPUs and memory nodes",
        "limits of memory",
        "limits of block devices",
        "rules of devices",
        "a freezer",
        "a class of packets",
        "a priority of packets",
        "a group for performance events",
        "limits of huge pages",
        "a limit of processes",
        "limits of RDMA devices",
        "limits of scalar resources",
        "restricting writing by Landlock",
        "restricting sockets and signals by Landlock",
        "restricting TCP ports by Landlock",
        "choosing what Landlock logs",
        "a user namespace",
        "a mount namespace",
        "a pid namespace",
        "an atomic end",
        "a network namespace",
        "an ipc namespace",
        "a host name of its own",
        "a cgroup namespace",
        "keeping modes, owners, times and attributes of files",
        "forbidding namespaces inside",
        "forbidding to trace",
        "a label of a security module for the program",
    ];
    assert_eq!(names, expected);
}

fn hints_are_sentences() {
    let all = [
        Hint::AppArmorUserNamespaces,
        Hint::AppArmorProfile("docker-default (enforce)".to_owned()),
        Hint::NoExecLabels,
        Hint::UnknownLabel,
        Hint::LabelDenied,
        Hint::LabelledExec,
        Hint::UnprivilegedUserNamespacesOff,
        Hint::MaxUserNamespaces,
        Hint::MaxNamespaces,
        Hint::MaxNamespacesOf(Namespaces::UTS),
        Hint::MaxMounts,
        Hint::Chrooted,
        Hint::MaskedProc,
        Hint::RootWithoutCapabilities,
        Hint::MemfdNoExec,
        Hint::InitFile,
        Hint::Filtered,
        Hint::FilteredNamespaces,
        Hint::Listener,
        Hint::NeedsUserNamespace,
        Hint::NoIdMapping,
        Hint::OnlyOutside("/opt/tool".into()),
        Hint::OutsideOfPath("/opt/tool".into()),
        Hint::CreateMountPoint,
        Hint::InTheHosts,
        Hint::MaxKeys,
        Hint::JoinOwner,
        Hint::AboveHardLimit,
        Hint::OpenFiles,
        Hint::FileSize,
        Hint::InnerProcesses,
        Hint::MaxGroups,
        Hint::NoCommonGroup,
        Hint::MemoryLimit,
        Hint::Budget,
        Hint::Run("mkdir /sys/fs/cgroup/group".to_owned()),
        Hint::RunAsRoot("mkdir /sys/fs/cgroup/group".to_owned()),
        Hint::LayersOverlap,
        Hint::LayerSubmounts,
        Hint::UpperInUse,
        Hint::OverlayLayers,
        Hint::NoRegularFile,
        Hint::LinkToForeign,
        Hint::KeepMounts,
        Hint::NoOwnTree,
        Hint::AnothersTree,
        Hint::OnlyRootChoosesIds,
        Hint::NoSubordinateIds,
        Hint::RangeNotAllowed("/etc/subuid"),
        Hint::NoMapHelper("newuidmap"),
        Hint::MapHelperUnprivileged("newuidmap"),
        Hint::NeedsKernel("5.12"),
        Hint::NoSystemd,
        Hint::SystemdDenies,
        Hint::SystemdSilent,
        Hint::SystemdElsewhere,
    ];
    let texts: BTreeSet<String> = all.iter().map(Hint::to_string).collect();
    assert_eq!(texts.len(), all.len(), "no two say the same");
    for text in &texts {
        assert!(!text.contains('\n') && !text.ends_with('.') && !text.contains("  "), "{text:?}");
    }
}

fn unknown_names() {
    let error = "cap_nothing".parse::<stockade::Capability>().unwrap_err();
    assert_eq!(error.to_string(), "unknown capability: \"cap_nothing\"");
    let error = "files".parse::<Resource>().unwrap_err();
    assert_eq!(error.to_string(), "unknown resource: \"files\"");
    let error = "-1".parse::<stockade::Max>().unwrap_err();
    assert_eq!(error.to_string(), "unknown limit: \"-1\"");
    let error = "wide\n".parse::<Namespaces>().unwrap_err();
    assert_eq!(error.to_string(), "unknown namespace: \"wide\\n\"");
}

// ---- contradictions ----------------------------------------------------------------------------

fn contradictions() {
    let sandbox = Sandbox::new().hostname("").tmpfs("relative").nice(30).tmp_size(0);
    let error = refused(&sandbox);
    assert_readable(&error);
    let text = "invalid sandbox: the host name must have 1 to 64 bytes; \
        a tmpfs size or inode limit of 0 means \"unlimited\"; \
        the path \"relative\" inside the sandbox is not absolute; \
        the nice value 30 is not between -20 and 19";
    assert_eq!(error.to_string(), text);
    assert_eq!(sandbox.plan().unwrap_err().to_string(), text);
    assert_eq!(sandbox.check().unwrap_err().to_string(), text);
    let Error::Invalid(problems) = error else { panic!("{error:?}") };
    assert_eq!(problems.len(), 4);
}

fn contradictions_of_a_command() {
    let null = File::open("/dev/null").unwrap();
    let command = Sandbox::new().hostname("").command("").arg("\0").env("A=B", "").fd(2000, null);
    let error = start_of(command);
    assert_readable(&error);
    let text = "invalid sandbox: the host name must have 1 to 64 bytes; \
        the program has no name; \
        the argument \"\\0\" contains a NUL byte; \
        \"A=B\" is no name for an environment variable; \
        descriptor 2000 is not below the limit of open files";
    assert_eq!(error.to_string(), text);
}

/// Each alone, and how it is told.
fn every_contradiction() {
    let new = Sandbox::new;
    let without = |kind| new().namespaces(Namespaces::all() - kind);
    let own = |kind: &str| PathBuf::from(format!("/proc/self/ns/{kind}"));
    let seconds = std::time::Duration::from_secs;
    let cases: Vec<(Sandbox, &str)> = vec![
        (
            without(Namespaces::PID),
            "without a pid namespace of its own a sandbox has no atomic end; \
             without_atomic_end() accepts that",
        ),
        (
            without(Namespaces::PID).without_atomic_end().init(false),
            "without a pid namespace of its own a sandbox needs init",
        ),
        (without(Namespaces::NET).sysfs(), "sysfs() needs a network namespace of its own"),
        (without(Namespaces::IPC).mqueue(), "mqueue() needs an ipc namespace of its own"),
        (
            new().join(Namespaces::UTS, own("uts")).hostname("x"),
            "the uts namespace is joined, so its settings are not ours to change",
        ),
        (
            new().join(Namespaces::NET | Namespaces::IPC, own("net")),
            "join(..) takes one kind of namespace at a time",
        ),
        (
            new().join(Namespaces::USER, own("user")),
            "a joined user namespace has its own ids; say which with uid(..)",
        ),
        (new().uid(u32::MAX), "uid 4294967295 means \"no id\" to the kernel"),
        (new().domainname("a\0"), "the domain name contains a NUL byte"),
        (
            new().bind_ro("/tmp", "/a/../b"),
            "the path \"/a/../b\" inside the sandbox contains \"..\"",
        ),
        (new().bind_ro("", "/srv"), "a path is empty"),
        (new().bind_ro("/\0", "/srv"), "the path \"/\\0\" contains a NUL byte"),
        (new().tmpfs("/"), "\"/\" itself is given by rootfs(..)"),
        (
            new().mount_tmpfs(stockade::Tmpfs::new("/srv").size(0)),
            "the tmpfs at \"/srv\": a size or inode limit of 0 means \"unlimited\"",
        ),
        (
            new().rlimit(Resource::Cpu, (2, 1)),
            "RLIMIT_CPU: the soft limit 2 is above the hard limit 1",
        ),
        (new().oom_score_adj(1001), "oom_score_adj is not between -1000 and 1000"),
        (new().wall_time(seconds(0)), "a wall time of 0 leaves no time to run"),
        (new().grace_period(seconds(1)), "a grace period needs a wall time"),
        (new().init(false).linger(seconds(1)), "a grace period and lingering need init"),
    ];
    for (sandbox, problem) in cases {
        let error = refused(&sandbox);
        assert_readable(&error);
        assert_eq!(error.to_string(), format!("invalid sandbox: {problem}"));
    }
}

// ---- the file tree -----------------------------------------------------------------------------

/// The stage in which a bind's source is opened, and how the bind is named then: a root caller's
/// is copied before there is a sandbox.
fn of_a_bind(source: &str, target: &str) -> (Stage, String) {
    if is_root() {
        return (Stage::Prepare, format!("{source:?}"));
    }
    (Stage::Setup, format!("{source:?} on {target:?} (read-only)"))
}

fn missing_source() {
    let (stage, object) = of_a_bind("/no/such/source", "/srv");
    let error = refused(&Sandbox::new().bind_ro("/no/such/source", "/srv"));
    assert_at(stage, &error, ["open_tree", &object], libc::ENOENT, NO_SUCH);
}

fn source_through_a_file() {
    let (stage, object) = of_a_bind("/dev/null/below", "/srv");
    let error = refused(&Sandbox::new().bind_ro("/dev/null/below", "/srv"));
    let text = "not a directory (os error 20)";
    assert_at(stage, &error, ["open_tree", &object], libc::ENOTDIR, text);
}

/// A step whose text is made of its parts.
fn assert_at(stage: Stage, error: &Error, step: [&str; 2], errno: i32, rest: &str) {
    let [operation, object] = step;
    let space = if object.is_empty() { "" } else { " " };
    let text = format!("{operation}{space}{object}: {rest}");
    let hint = error.hint().cloned();
    assert_eq!(hint.is_some(), rest.contains("; hint: "), "{error}");
    assert_told(error, &Told { stage, operation, object, errno, hint, text: &text });
}

/// A failed operation of the set-up.
fn assert_setup(error: &Error, operation: &str, object: &str, errno: i32, rest: &str) {
    assert_at(Stage::Setup, error, [operation, object], errno, rest);
}

fn kinds_that_do_not_match() {
    let directory = open_directory();
    let path = directory.path().display();
    let not_a_directory = "not a directory (os error 20)";
    let error = refused(&Sandbox::new().bind_ro("/bin/sh", "/tmp"));
    let object = r#""/bin/sh" on "/tmp" (read-only)"#;
    assert_setup(&error, "move_mount", object, libc::ENOTDIR, not_a_directory);
    let sandbox = Sandbox::new().file("/srv/file", "");
    let error = refused(&sandbox.clone().bind_rw(directory.path(), "/srv/file"));
    let object = format!("\"{path}\" on \"/srv/file\" (writable)");
    assert_setup(&error, "move_mount", &object, libc::ENOTDIR, not_a_directory);
    let error = refused(&sandbox.clone().tmpfs("/srv/file"));
    let object = r#"tmpfs on "/srv/file" (size=67108864,nr_inodes=16384,mode=755)"#;
    assert_setup(&error, "mount", object, libc::ENOTDIR, not_a_directory);
    let error = refused(&sandbox.bind_ro(directory.path(), "/srv/file/below"));
    let object = format!("\"{path}\" on \"/srv/file/below\" (read-only)");
    assert_setup(&error, "resolve target", &object, libc::ENOTDIR, not_a_directory);
}

const CREATE: &str = "read-only file system (os error 30); hint: the place does not exist, and \
    nothing is created in what is the host's; create it";
const HOSTS: &str = "read-only file system (os error 30); hint: the place lies in what is the \
    host's, where nothing is created or changed; choose another, or bind a prepared one there";

fn missing_mount_points() {
    let host = open_directory();
    let sandbox = Sandbox::new().bind_rw(host.path(), "/srv");
    let error = refused(&sandbox.clone().bind_ro("/usr", "/srv/deep/none"));
    assert_eq!(error.hint(), Some(&Hint::CreateMountPoint));
    let object = r#""/usr" on "/srv/deep/none" (read-only)"#;
    assert_setup(&error, "create mount point", object, libc::EROFS, CREATE);
    let error = refused(&sandbox.clone().tmpfs("/srv/none"));
    let object = r#"tmpfs on "/srv/none" (size=67108864,nr_inodes=16384,mode=755)"#;
    assert_setup(&error, "create mount point", object, libc::EROFS, CREATE);
    let error = refused(&sandbox.clone().file("/srv/new", "data"));
    assert_setup(&error, "create file", r#""/srv/new" (4 bytes)"#, libc::EROFS, HOSTS);
    let error = refused(&sandbox.symlink("there", "/srv/new"));
    let object = r#""/srv/new" -> "there""#;
    assert_setup(&error, "create symlink", object, libc::EROFS, HOSTS);
    // What the hint says works.
    fs::create_dir_all(host.path().join("deep/none")).unwrap();
    let sandbox = Sandbox::new().bind_rw(host.path(), "/srv").bind_ro("/usr", "/srv/deep/none");
    works(&sandbox);
}

fn what_exists_already() {
    let sandbox = Sandbox::new().file("/srv/file", "one");
    let exists = "file exists (os error 17)";
    let error = refused(&sandbox.clone().file("/srv/file", "other"));
    assert_setup(&error, "create file", r#""/srv/file" (5 bytes)"#, libc::EEXIST, exists);
    let error = refused(&sandbox.clone().symlink("there", "/srv/file"));
    assert_setup(&error, "create symlink", r#""/srv/file" -> "there""#, libc::EEXIST, exists);
}

/// Nothing of the host's is changed, and nobody is told to create what is there.
fn existing_places_of_the_hosts() {
    let host = open_directory();
    fs::create_dir(host.path().join("old")).unwrap();
    fs::write(host.path().join("file"), "untouched").unwrap();
    let sandbox = Sandbox::new().bind_rw(host.path(), "/data");
    for sandbox in [
        sandbox.clone().directory("/data/old", 0o700),
        sandbox.clone().file("/data/file", "new"),
        sandbox.symlink("there", "/data/file"),
    ] {
        let error = refused(&sandbox);
        assert_readable(&error);
        assert_ne!(error.hint(), Some(&Hint::CreateMountPoint), "{error}");
    }
    assert_eq!(fs::metadata(host.path().join("old")).unwrap().permissions().mode() & 0o777, 0o755);
    assert_eq!(fs::read_to_string(host.path().join("file")).unwrap(), "untouched");
}

fn links_that_lead_nowhere() {
    let sandbox = Sandbox::new().symlink("loop", "/srv/loop").symlink("nowhere", "/srv/dangling");
    let too_many = "too many levels of symbolic links (os error 40)";
    let error = refused(&sandbox.clone().bind_ro("/usr", "/srv/loop"));
    let object = r#""/usr" on "/srv/loop" (read-only)"#;
    assert_setup(&error, "resolve target", object, libc::ELOOP, too_many);
    let error = refused(&sandbox.clone().bind_ro("/usr", "/srv/dangling"));
    let object = r#""/usr" on "/srv/dangling" (read-only)"#;
    assert_setup(
        &error,
        "resolve target",
        object,
        libc::ENOENT,
        "no such file or directory (os error 2)",
    );
    let directory = open_directory();
    let link = directory.path().join("link");
    symlink("link", &link).unwrap();
    let (stage, object) = of_a_bind(link.to_str().unwrap(), "/srv");
    let error = refused(&Sandbox::new().bind_ro(&link, "/srv"));
    assert_at(stage, &error, ["open_tree", &object], libc::ELOOP, too_many);
}

fn names_too_long() {
    let long = format!("/{}", "x".repeat(256));
    let error = refused(&Sandbox::new().directory(&long, 0o755));
    let object = format!("{long:?} (mode 0755)");
    let text = "file name too long (os error 36)";
    assert_setup(&error, "create directory", &object, libc::ENAMETOOLONG, text);
}

fn roots_that_are_none() {
    let missing = refused(&Sandbox::new().rootfs(Rootfs::directory("/no/such/root")));
    let stage = if is_root() { Stage::Prepare } else { Stage::Setup };
    assert_at(stage, &missing, ["open_tree", "\"/no/such/root\""], libc::ENOENT, NO_SUCH);
    let directory = open_directory();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let error = refused(&Sandbox::new().rootfs(Rootfs::directory(&file)));
    let object = format!("{file:?}");
    assert_setup(&error, "move_mount", &object, libc::ENOTDIR, "not a directory (os error 20)");
    fs::create_dir(directory.path().join("tmp")).unwrap();
    fs::create_dir(directory.path().join("dev")).unwrap();
    let error = refused(&Sandbox::new().rootfs(Rootfs::directory(directory.path())));
    let object = r#"proc on "/proc" (subset=pid,hidepid=invisible)"#;
    assert_setup(&error, "create mount point", object, libc::EROFS, CREATE);
}

// ---- the start of the program ------------------------------------------------------------------

fn assert_start(error: &Error, operation: &str, object: &str, errno: i32, rest: &str) {
    assert_at(Stage::Start, error, [operation, object], errno, rest);
}

const NO_SUCH: &str = "no such file or directory (os error 2)";

fn missing_programs() {
    for init in [true, false] {
        let sandbox = Sandbox::new().init(init);
        for name in ["no-such-program", "/no/such/program", "./program", "odd \"name\"\n"] {
            let error = start_of(sandbox.command(name));
            assert_start(&error, "exec", &format!("{name:?}"), libc::ENOENT, NO_SUCH);
        }
        let link = sandbox.symlink("nowhere", "/srv/link");
        let error = start_of(link.command("/srv/link"));
        assert_start(&error, "exec", "\"/srv/link\"", libc::ENOENT, NO_SUCH);
    }
}

fn programs_that_cannot_run() {
    let sandbox = Sandbox::new()
        .file("/srv/plain", "#!/bin/sh\n")
        .file_with_mode("/srv/text", "true\n", 0o755)
        .symlink("loop", "/srv/loop");
    let denied = "permission denied (os error 13)";
    for program in ["/srv/plain", "/usr"] {
        let error = start_of(sandbox.command(program));
        assert_start(&error, "exec", &format!("{program:?}"), libc::EACCES, denied);
    }
    // By name the path is told at which it was found.
    let error = start_of(sandbox.command("plain").env("PATH", "/usr/bin:/srv"));
    assert_start(&error, "exec", "\"/srv/plain\"", libc::EACCES, denied);
    let error = start_of(sandbox.command("/srv/text"));
    assert_start(&error, "exec", "\"/srv/text\"", libc::ENOEXEC, "exec format error (os error 8)");
    let error = start_of(sandbox.command("/srv/loop"));
    let text = "too many levels of symbolic links (os error 40)";
    assert_start(&error, "exec", "\"/srv/loop\"", libc::ELOOP, text);
    let directory = open_directory();
    fs::copy("/usr/bin/true", directory.path().join("true")).unwrap();
    let bind = Bind::read_only(directory.path(), "/data").no_exec();
    let error = start_of(Sandbox::new().bind(bind).command("/data/true"));
    assert_start(&error, "exec", "\"/data/true\"", libc::EACCES, denied);
}

fn missing_interpreters() {
    let sandbox = Sandbox::new()
        .file_with_mode("/srv/script", "#!/no/such/shell -x\n", 0o755)
        .file_with_mode("/srv/windows", "#!/bin/sh\r\n", 0o755);
    let error = start_of(sandbox.command("/srv/script"));
    let object = r#""/no/such/shell" of "/srv/script""#;
    assert_start(&error, "find interpreter", object, libc::ENOENT, NO_SUCH);
    let error = start_of(sandbox.command("/srv/windows"));
    let object = r#""/bin/sh\r" of "/srv/windows""#;
    assert_start(&error, "find interpreter", object, libc::ENOENT, NO_SUCH);
    // The host's own program in a tree without its loader.
    let sandbox = Sandbox::new().rootfs(Rootfs::empty()).bind_same("/usr/bin/true");
    let error = start_of(sandbox.command("/usr/bin/true"));
    let Some(Hint::OnlyOutside(loader)) = error.hint().cloned() else { panic!("{error}") };
    let object = format!("{loader:?} of \"/usr/bin/true\"");
    let rest = format!("{NO_SUCH}; hint: it exists on the host only; add bind_same({loader:?})");
    assert_start(&error, "find interpreter", &object, libc::ENOENT, &rest);
}

fn only_outside() {
    let directory = open_directory();
    let path = directory.path().join("tool");
    fs::write(&path, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    let rest = format!("{NO_SUCH}; hint: it exists on the host only; add bind_same({path:?})");
    let error = start_of(Sandbox::new().command(&path));
    assert_eq!(error.hint(), Some(&Hint::OnlyOutside(path.clone())));
    assert_start(&error, "exec", &format!("{path:?}"), libc::ENOENT, &rest);
    let error = start_of(Sandbox::new().command("tool").env("PATH", directory.path()));
    assert_start(&error, "exec", "\"tool\"", libc::ENOENT, &rest);
}

fn missing_directory() {
    let sandbox = Sandbox::new().file("/srv/file", "");
    for init in [true, false] {
        let command = || sandbox.clone().init(init).command("true");
        let error = start_of(command().current_dir("/no/such"));
        assert_start(&error, "change directory", "\"/no/such\"", libc::ENOENT, NO_SUCH);
        let error = start_of(command().current_dir("/srv/file"));
        let text = "not a directory (os error 20)";
        assert_start(&error, "change directory", "\"/srv/file\"", libc::ENOTDIR, text);
    }
}

/// The directory that the caller did not name is named too.
fn hidden_home() {
    let error = start_of(Sandbox::new().tmpfs("/home").command("true"));
    assert_start(&error, "change directory", "\"/home/user\"", libc::ENOENT, NO_SUCH);
}

fn too_many_arguments() {
    let command = Sandbox::new().command("true").args((0..30).map(|_| "x".repeat(100_000)));
    let text = "argument list too long (os error 7)";
    assert_start(&start_of(command), "exec", "\"true\"", libc::E2BIG, text);
}

/// Lowers a limit of this process, so that root cannot give more either: its sandboxes have no
/// power over the host's limits.
fn lower(resource: Resource, to: u64) {
    let limit = libc::rlimit { rlim_cur: to, rlim_max: to };
    // SAFETY: the limit is valid for reading.
    assert_eq!(unsafe { libc::setrlimit(resource.number(), &raw const limit) }, 0);
}

fn limit_above_the_callers() {
    lower(Resource::PendingSignals, 100);
    let above = Sandbox::new().rlimit(Resource::PendingSignals, 101u64);
    let text =
        "operation not permitted (os error 1); hint: it is above the caller's own hard limit";
    for init in [true, false] {
        let error = start_of(above.clone().init(init).command("true"));
        assert_eq!(error.hint(), Some(&Hint::AboveHardLimit));
        assert_start(&error, "set resource limit", "RLIMIT_SIGPENDING", libc::EPERM, text);
    }
    let equal = Sandbox::new().rlimit(Resource::PendingSignals, 100u64);
    works(&equal);
}

fn limit_beyond_the_kernels() {
    let sandbox = Sandbox::new().rlimit(Resource::OpenFiles, stockade::Max::Unlimited);
    let error = refused(&sandbox);
    let text =
        "operation not permitted (os error 1); hint: it is above the caller's own hard limit";
    assert_start(&error, "set resource limit", "RLIMIT_NOFILE", libc::EPERM, text);
}

fn nicer_than_allowed() {
    let error = refused(&Sandbox::new().nice(-1));
    assert_start(&error, "set nice value", "-1", libc::EACCES, "permission denied (os error 13)");
}

fn no_terminal() {
    let error = start_of(Sandbox::new().command("true").controlling_terminal());
    let text = "inappropriate ioctl for device (os error 25)";
    assert_start(&error, "set controlling terminal", "", libc::ENOTTY, text);
}

/// Nothing of the caller's can be passed under a number that the caller could not have itself.
fn descriptor_above_the_callers_limit() {
    lower(Resource::OpenFiles, 300);
    let null = || File::open("/dev/null").unwrap();
    let command = || Sandbox::new().command("true");
    assert!(command().fd(299, null()).status().unwrap().outcome.is_success());
    let error = start_of(command().fd(4, null()).fd(301, null()));
    let failed = error.failed().unwrap();
    assert_eq!((failed.operation, &*failed.object), ("duplicate descriptor", "301"), "{error}");
}

fn closed_input() {
    // SAFETY: nothing owns standard input, and nothing reads it.
    unsafe { libc::close(0) };
    let error = start_of(Sandbox::new().command("true").stdin(stockade::Stdio::inherit()));
    let text = "bad file descriptor (os error 9)";
    assert_at(Stage::Prepare, &error, ["open", "standard input"], libc::EBADF, text);
}

// ---- joining -----------------------------------------------------------------------------------

fn assert_join(error: &Error, operation: &str, object: &str, errno: i32, rest: &str) {
    assert_at(Stage::Join, error, [operation, object], errno, rest);
}

fn joined_path_is_missing() {
    let error = refused(&Sandbox::new().join(Namespaces::NET, "/run/netns/no-such"));
    assert_join(&error, "open", "\"/run/netns/no-such\"", libc::ENOENT, NO_SUCH);
}

fn joined_is_of_another_kind() {
    let error = refused(&Sandbox::new().join(Namespaces::NET, "/proc/self/ns/uts"));
    assert_join(&error, "setns", "network", libc::EINVAL, "invalid argument (os error 22)");
}

fn joined_is_no_namespace() {
    let error = refused(&Sandbox::new().join(Namespaces::IPC, "/dev/null"));
    assert_join(&error, "setns", "ipc", libc::EINVAL, "invalid argument (os error 22)");
}

fn joined_is_not_permitted() {
    let error = refused(&Sandbox::new().join(Namespaces::NET, "/proc/self/ns/net"));
    let text = "operation not permitted (os error 1); hint: the namespace belongs to another user \
        namespace; join that one as well";
    assert_eq!(error.hint(), Some(&Hint::JoinOwner));
    assert_join(&error, "setns", "network", libc::EPERM, text);
}

// ---- what the kernel does not give -------------------------------------------------------------

fn impossible_time() {
    let offsets = TimeOffsets { monotonic: -1_000_000_000, boottime: 0 };
    let error = refused(&Sandbox::new().time_offsets(offsets));
    let object = "timens_offsets monotonic -1000000000 0, boottime 0 0";
    let text = "numerical result out of range (os error 34)";
    assert_setup(&error, "write", object, libc::ERANGE, text);
}

fn score_below_the_callers() {
    let error = refused(&Sandbox::new().oom_score_adj(-900));
    let step = ["raise oom_score_adj", "to -900, below the caller's 0"];
    let text = "permission denied (os error 13)";
    assert_at(Stage::Prepare, &error, step, libc::EACCES, text);
    // The kernel would do it: this process had less before.
    fs::write("/proc/self/oom_score_adj", "500").unwrap();
    let error = refused(&Sandbox::new().oom_score_adj(10));
    let step = ["raise oom_score_adj", "to 10, below the caller's 500"];
    assert_at(Stage::Prepare, &error, step, libc::EACCES, text);
    works(&Sandbox::new().oom_score_adj(500));
    // Where that may be missing, it is.
    let sandbox = Sandbox::new().oom_score_adj(-900).best_effort(Feature::OomScoreAdj);
    let child = sandbox.command("sleep").arg("1000").spawn().unwrap();
    assert_eq!(missing_beside_scopes(&child), [Feature::OomScoreAdj]);
}

/// Without what a kernel before 6.12 lacks as well.
fn missing_beside_scopes(child: &stockade::Child) -> Vec<Feature> {
    let missing = child.missing().iter().copied();
    missing.filter(|feature| *feature != Feature::LandlockScopes).collect()
}

fn foreign_ids() {
    let error = refused(&Sandbox::new().host_ids(0, 0));
    let text = "operation not permitted (os error 1)";
    let step = ["write", "uid_map \"0 0 1\""];
    assert_at(Stage::Identity, &error, step, libc::EPERM, text);
}

fn only_root_does_without() {
    let sandbox = Sandbox::new().namespaces(Namespaces::all() - Namespaces::USER);
    let error = refused(&sandbox);
    let object = "(mount, uts, ipc, pid)";
    let text = "clone (mount, uts, ipc, pid): operation not permitted (os error 1); hint: \
        only root makes namespaces without a new user namespace; add Namespaces::USER";
    let hint = Some(Hint::NeedsUserNamespace);
    assert_launch(&error, "clone", object, libc::EPERM, hint, text);
}

fn assert_launch(
    error: &Error,
    operation: &str,
    object: &str,
    errno: i32,
    hint: Option<Hint>,
    text: &str,
) {
    let stage = Stage::Launch;
    assert_told(error, &Told { stage, operation, object, errno, hint, text });
}

const CLONED: &str = "(mount, uts, ipc, user, pid)";

fn signals_that_do_not_arrive() {
    let mut child = Sandbox::new().command("sleep").arg("1000").spawn().unwrap();
    let expected = Told {
        stage: Stage::Run,
        operation: "send signal",
        object: "1000",
        errno: libc::EINVAL,
        hint: None,
        text: "send signal 1000: invalid argument (os error 22)",
    };
    assert_told(&child.signal(1000).unwrap_err(), &expected);
    child.kill().unwrap();
    child.wait().unwrap();
    let expected = Told {
        object: "15",
        errno: libc::ESRCH,
        text: "send signal 15: no such process (os error 3)",
        ..expected
    };
    assert_told(&child.signal(libc::SIGTERM).unwrap_err(), &expected);
}

/// However few there are: it is said what there was no descriptor for.
fn too_few_descriptors() {
    let mut texts = BTreeSet::new();
    let open = fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    for limit in 3..open + 30 {
        limit_open_files(limit);
        let sandbox = Sandbox::new().bind_ro("/usr", "/srv");
        let result = sandbox.command("true").stdin(stockade::Stdio::piped()).spawn();
        limit_open_files(1000);
        let Err(error) = result else { continue };
        assert_readable(&error);
        assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{error}");
        texts.insert(error.to_string());
    }
    for text in &texts {
        let (_, ending) = text.split_once(": too many open files (os error 24)").unwrap();
        assert_eq!(ending, format!("; hint: {}", Hint::OpenFiles), "{texts:#?}");
    }
    let named = |text: &str| texts.iter().any(|one| one.starts_with(text));
    for text in ["clone (", "open standard "] {
        assert!(named(text), "{text}: {texts:#?}");
    }
}

/// The same of what waits for programs.
fn too_few_to_wait() {
    let prepared = Sandbox::new().prepare().unwrap();
    // What is kept for the life of this process is there afterwards.
    prepared.session().unwrap().end().unwrap();
    let open = fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    let mut refusals = [0, 0, 0];
    for limit in 3..open + 20 {
        for (way, refused) in refusals.iter_mut().enumerate() {
            limit_open_files(limit);
            let result = match way {
                0 => prepared.session().map(drop),
                1 => prepared.pool(1).map(drop),
                _ => Sandbox::new().prepare().map(drop),
            };
            limit_open_files(1000);
            let Err(error) = result else { continue };
            assert_readable(&error);
            // The latter where more of the user's are on their way than the limit is.
            let limited = [Some(libc::EMFILE), Some(libc::ETOOMANYREFS)];
            assert!(limited.contains(&error.raw_os_error()), "{error}");
            assert_eq!(error.hint(), Some(&Hint::OpenFiles), "{error}");
            *refused += 1;
        }
    }
    assert!(refusals[0] > 5 && refusals[1] > 5, "{refusals:?}");
    // Nothing of it is left.
    assert_eq!(fs::read_dir("/proc/self/fd").unwrap().count() as u64, open);
    let session = prepared.session().unwrap();
    assert!(session.command("true").status().unwrap().outcome.is_success());
}

/// Only a root caller's need one each.
fn more_binds_than_descriptors() {
    let binds = (0..200).map(|number| Bind::read_only("/usr", format!("/usr_{number}")));
    let sandbox = binds.fold(Sandbox::new(), Sandbox::bind);
    limit_open_files(150);
    let result = sandbox.command("true").status();
    limit_open_files(1000);
    if !nix::unistd::geteuid().is_root() {
        assert!(result.unwrap().outcome.is_success());
        return;
    }
    let error = result.unwrap_err();
    let expected = Told {
        stage: Stage::Prepare,
        operation: "open_tree",
        object: "\"/usr\"",
        errno: libc::EMFILE,
        hint: Some(Hint::OpenFiles),
        text: "open_tree \"/usr\": too many open files (os error 24); hint: the caller's limit of open \
               files (RLIMIT_NOFILE) is reached, or by what all of its user's processes have sent each \
               other and not received yet; raise it: while a sandbox is being made it has some twenty open, \
               and one for each bind of a root caller",
    };
    assert_told(&error, &expected);
    assert!(sandbox.command("true").status().unwrap().outcome.is_success());
}

fn limit_open_files(to: u64) {
    limit_to(libc::RLIMIT_NOFILE, |_| to);
}

/// Sets a soft limit, by the hard one.
fn limit_to(resource: libc::__rlimit_resource_t, to: impl Fn(u64) -> u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the limit is valid for writing.
    assert_eq!(unsafe { libc::getrlimit(resource, &raw mut limit) }, 0);
    limit.rlim_cur = to(limit.rlim_max);
    // SAFETY: the limit is valid for reading.
    assert_eq!(unsafe { libc::setrlimit(resource, &raw const limit) }, 0);
}

/// What is above it is refused, and the caller is not ended for it.
fn limit_of_file_sizes() {
    let sandbox = Sandbox::new().file("/data", vec![b'x'; 100_000]);
    let script = "ulimit -f; wc -c </data; head -c 100000 /dev/zero >/tmp/new; wc -c </tmp/new";
    let run = || sandbox.command("sh").args(["-c", script]).output();
    limit_to(libc::RLIMIT_FSIZE, |_| 1000);
    let error = run().unwrap_err();
    let text = "memfd_create stockade-init: file too large (os error 27); hint: the caller's limit of \
                file sizes (RLIMIT_FSIZE) has to be 40 KiB at least until its first sandbox is made; \
                raise it";
    assert_launch(&error, "memfd_create", "stockade-init", libc::EFBIG, Some(Hint::FileSize), text);
    limit_to(libc::RLIMIT_FSIZE, |hard| hard);
    let expected = run().unwrap().stdout;
    assert!(expected.ends_with(b"\n100000\n100000\n"), "{}", String::from_utf8_lossy(&expected));
    // It bounds neither init nor the program.
    limit_to(libc::RLIMIT_FSIZE, |_| 1000);
    let output = run().unwrap();
    limit_to(libc::RLIMIT_FSIZE, |hard| hard);
    assert_eq!(output.stdout, expected);
}

// ---- systems that are restricted ---------------------------------------------------------------

/// Moves this process into namespaces of its own.
fn unshare(flags: i32) {
    // SAFETY: this process has one thread and no pointer is passed.
    assert_eq!(unsafe { libc::unshare(flags) }, 0, "{}", std::io::Error::last_os_error());
}

/// Runs a part of a test in a user namespace with the ids that a sandbox needs.
fn in_user_namespace(test: &str, part: fn()) {
    if role().is_some() {
        unshare(libc::CLONE_NEWUSER);
        println!("made");
        std::io::stdin().read_to_string(&mut String::new()).unwrap();
        return part();
    }
    let mut command = inside::myself_outside(test, "child");
    command.stdin(HostStdio::piped()).stdout(HostStdio::piped()).stderr(HostStdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0; 5]).unwrap();
    map_ids(child.id());
    drop(child.stdin.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Shows the caller's ids, and if that is root also nobody's, as they are.
fn map_ids(pid: u32) {
    let write = |file: &str, text: &str| fs::write(format!("/proc/{pid}/{file}"), text).unwrap();
    if !is_root() {
        write("setgroups", "deny");
    }
    let map = |id: u32| {
        let nobody = if id == 0 { "65534 65534 1\n" } else { "" };
        format!("{id} {id} 1\n{nobody}")
    };
    write("uid_map", &map(nix::unistd::geteuid().as_raw()));
    write("gid_map", &map(nix::unistd::getegid().as_raw()));
}

fn set(setting: &str, number: u32) {
    fs::write(format!("/proc/sys/user/{setting}"), number.to_string()).unwrap();
}

fn works(sandbox: &Sandbox) {
    let outcome = sandbox.command("true").status().unwrap().outcome;
    assert!(outcome.is_success(), "{outcome}");
}

fn no_user_namespaces_left() {
    in_user_namespace("no_user_namespaces_left", || {
        works(&Sandbox::new());
        set("max_user_namespaces", 0);
        let text = format!(
            "clone {CLONED}: no space left on device (os error 28); hint: user.max_user_namespaces \
             is reached; raise it, or end other sandboxes, or use without_namespaces()"
        );
        let hint = Some(Hint::MaxUserNamespaces);
        let error = refused(&Sandbox::new());
        assert_launch(&error, "clone", CLONED, libc::ENOSPC, hint, &text);
    });
}

/// What is said where this limit is reached.
fn reached(limit: &str) -> String {
    format!(
        "no space left on device (os error 28); hint: user.{limit} is reached; raise it, or end other \
         sandboxes (the kernel takes ended ones apart in the background)"
    )
}

fn no_namespaces_left() {
    in_user_namespace("no_namespaces_left", || {
        // The clone makes them together.
        for (kind, limit) in [
            (Namespaces::UTS, "max_uts_namespaces"),
            (Namespaces::MOUNT, "max_mnt_namespaces"),
            (Namespaces::IPC, "max_ipc_namespaces"),
            (Namespaces::PID, "max_pid_namespaces"),
        ] {
            set(limit, 0);
            let text = format!("clone {CLONED}: {}", reached(limit));
            let hint = Some(Hint::MaxNamespacesOf(kind));
            for error in ways_refused(&Sandbox::new()) {
                assert_launch(&error, "clone", CLONED, libc::ENOSPC, hint.clone(), &text);
            }
            set(limit, 100);
        }
        let children = nix::sys::wait::waitpid(None, Some(nix::sys::wait::WaitPidFlag::WNOHANG));
        assert_eq!(children, Err(nix::errno::Errno::ECHILD));
        set("max_uts_namespaces", 0);
        // Without one of these it works.
        works(&Sandbox::new().namespaces(Namespaces::all() - Namespaces::UTS));
        // With others that are there, too.
        set("max_uts_namespaces", 1);
        let child = Sandbox::new().command("sleep").arg("1000").spawn().unwrap();
        let hint = Hint::MaxNamespacesOf(Namespaces::UTS);
        assert_eq!(refused(&Sandbox::new()).hint(), Some(&hint));
        drop(child);
        set("max_uts_namespaces", 100);
        works(&Sandbox::new());
    });
}

/// What was asked for ahead when there was no room is not the error of a spawn when there is.
fn a_network_refused_ahead() {
    in_user_namespace("a_network_refused_ahead", || {
        let prepared = Sandbox::new().recycle_network(true).prepare().unwrap();
        assert!(prepared.has_template());
        set("max_net_namespaces", 1);
        let first = prepared.command("sleep").arg("1000").spawn().unwrap();
        // The next one is refused meanwhile.
        std::thread::sleep(moment(500));
        set("max_net_namespaces", 100);
        let outcome = prepared.command("true").status().unwrap().outcome;
        assert!(outcome.is_success(), "{outcome}");
        drop(first);
    });
}

/// By a prepared one, by a session and by a pool.
fn ways_refused(sandbox: &Sandbox) -> [Error; 3] {
    let prepared = sandbox.prepare().unwrap();
    let started = prepared.command("true").spawn().map(drop);
    let all = [started, prepared.session().map(drop), prepared.pool(1).map(drop)];
    all.map(Result::unwrap_err)
}

const LIMITS: [(Namespaces, &str); 8] = [
    (Namespaces::USER, "max_user_namespaces"),
    (Namespaces::UTS, "max_uts_namespaces"),
    (Namespaces::MOUNT, "max_mnt_namespaces"),
    (Namespaces::IPC, "max_ipc_namespaces"),
    (Namespaces::PID, "max_pid_namespaces"),
    (Namespaces::CGROUP, "max_cgroup_namespaces"),
    (Namespaces::NET, "max_net_namespaces"),
    (Namespaces::TIME, "max_time_namespaces"),
];

/// What is said where a limit of namespaces has no room for one more.
fn assert_reached(error: &Error, kind: Namespaces, limit: &str) {
    let hint = match kind {
        Namespaces::USER => Hint::MaxUserNamespaces,
        kind => Hint::MaxNamespacesOf(kind),
    };
    assert_eq!((error.raw_os_error(), error.hint()), (Some(libc::ENOSPC), Some(&hint)), "{error}");
    assert!(error.to_string().contains(&format!("user.{limit} is reached")), "{error}");
}

/// Reached when the template is there already, it is told as well, and the template outlives it.
fn no_namespaces_left_later() {
    in_user_namespace("no_namespaces_left_later", || {
        let prepared = Sandbox::new().prepare().unwrap();
        for (kind, limit) in LIMITS {
            assert!(prepared.has_template());
            set(limit, 0);
            let started = prepared.command("true").spawn().map(drop);
            for refused in [started, prepared.session().map(drop), prepared.pool(1).map(drop)] {
                assert_reached(&refused.unwrap_err(), kind, limit);
            }
            assert!(prepared.has_template());
            set(limit, 100);
            assert!(prepared.command("true").status().unwrap().outcome.is_success());
        }
    });
}

/// Whoever asks for a network that is used again is told, too, when one more would have to be made.
fn no_networks_left_later() {
    in_user_namespace("no_networks_left_later", || {
        let prepared = Sandbox::new().recycle_network(true).prepare().unwrap();
        assert!(prepared.has_template());
        set("max_net_namespaces", 0);
        let start = || prepared.command("sleep").arg("1000").spawn();
        // Some may have been made before.
        let mut started = Vec::new();
        let error = loop {
            match start() {
                Ok(child) => started.push(child),
                Err(error) => break error,
            }
            assert!(started.len() < 8);
        };
        assert_reached(&error, Namespaces::NET, "max_net_namespaces");
        assert!(prepared.has_template());
        set("max_net_namespaces", 100);
        assert!(prepared.command("true").status().unwrap().outcome.is_success());
    });
}

/// A session's command, one of a sandbox that waits and one that enters a sandbox have those that are there. But the
/// last has for a moment a mount that is nowhere, which the kernel counts as a namespace.
fn what_makes_no_namespaces() {
    in_user_namespace("what_makes_no_namespaces", || {
        let prepared = Sandbox::new().prepare().unwrap();
        assert!(prepared.has_template());
        let (session, pool) = (prepared.session().unwrap(), prepared.pool(1).unwrap());
        assert!(pool.wait_until_filled(Duration::from_secs(60)));
        let resting = prepared.command("sleep").arg("1000").spawn().unwrap();
        LIMITS.iter().for_each(|(_, limit)| set(limit, 0));
        for command in [session.command("true"), pool.command("true")] {
            assert!(command.status().unwrap().outcome.is_success());
        }
        let error = resting.command("true").unwrap().spawn().unwrap_err();
        assert_reached(&error, Namespaces::MOUNT, "max_mnt_namespaces");
        set("max_mnt_namespaces", 100);
        assert!(resting.command("true").unwrap().status().unwrap().outcome.is_success());
        // A pool that is empty has to make some.
        for choice in [WhenEmpty::Make, WhenEmpty::Wait] {
            pool.when_empty(choice);
            let error = pool.command("true").spawn().unwrap_err();
            assert_reached(&error, Namespaces::USER, "max_user_namespaces");
        }
        assert!(prepared.has_template());
        LIMITS.iter().for_each(|(_, limit)| set(limit, 100));
        // Who waits may be told of a try that began before.
        pool.when_empty(WhenEmpty::Make);
        assert!(pool.command("true").status().unwrap().outcome.is_success());
    });
}

/// No mount more than the kernel allows in a namespace, most of which are a copy of the caller's.
fn no_mounts_left() {
    mounts::own_mounts();
    let sandbox = Sandbox::new().tmpfs("/mnt");
    let prepared = sandbox.prepare().unwrap();
    assert!(prepared.has_template());
    let (session, pool) = (prepared.session().unwrap(), prepared.pool(0).unwrap());
    let tree = open_directory();
    mounts::mount("tmpfs", tree.path(), "", 0);
    // Each doubles what is in a directory, as long as there is room for that.
    for number in 0..32 {
        let directory = tree.path().join(number.to_string());
        let inner = directory.join("x");
        fs::create_dir_all(&inner).unwrap();
        let bind = |at: &Path| mounts::try_bind_all(&directory, at);
        assert!(!(bind(&directory) && (0..32).all(|_| bind(&inner))));
    }
    for error in ways_refused(&Sandbox::new()) {
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "{error}");
        assert_eq!(error.hint(), Some(&Hint::MaxMounts), "{error}");
        assert!(error.to_string().contains("fs.mount-max is reached"), "{error}");
    }
    // A copy of what was there before has nothing of the caller's.
    for command in [prepared.command("true"), session.command("true"), pool.command("true")] {
        assert!(command.status().unwrap().outcome.is_success());
    }
    // But for what is added to it, which only root's can have.
    if is_root() {
        let adding = prepared.command("true").bind_ro(tree.path(), "/mnt/one");
        let error = adding.bind_ro(tree.path(), "/mnt/other").spawn().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOSPC), "{error}");
        assert_eq!(error.hint(), Some(&Hint::MaxMounts), "{error}");
        assert!(error.to_string().contains("\"/mnt/"), "{error}");
    }
    assert!(prepared.has_template());
    mounts::detach(tree.path());
    works(&Sandbox::new());
}

/// The kernel counts how deep they are, and says no more than that something is used up.
fn user_namespaces_in_each_other() {
    in_user_namespace("user_namespaces_in_each_other", || {
        let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
        let deeper = |_: &i32| {
            // SAFETY: this process has one thread and no pointer is passed.
            if unsafe { libc::unshare(libc::CLONE_NEWUSER) } != 0 {
                return false;
            }
            fs::write("/proc/self/setgroups", "deny").unwrap();
            fs::write("/proc/self/uid_map", format!("{uid} {uid} 1")).unwrap();
            fs::write("/proc/self/gid_map", format!("{gid} {gid} 1")).unwrap();
            // A template's copies are one deeper, and then there is none.
            if Sandbox::new().command("true").status().is_ok() {
                let prepared = Sandbox::new().prepare().unwrap();
                assert!(prepared.command("true").status().unwrap().outcome.is_success());
            }
            true
        };
        let levels = (0..40).take_while(deeper).count();
        assert!(levels < 40);
        let error = refused(&Sandbox::new());
        assert_eq!(
            (error.raw_os_error(), error.hint()),
            (Some(libc::ENOSPC), Some(&Hint::MaxNamespaces))
        );
        let named = "user.max_user_namespaces or another limit below /proc/sys/user is reached";
        assert!(error.to_string().contains(named), "{error}");
    });
}

/// Those that init or the process beside it makes, not the clone.
fn no_late_namespaces_left() {
    in_user_namespace("no_late_namespaces_left", || {
        let told = |sandbox: &Sandbox, object: &str, limit: &str| {
            let refused = [refused(sandbox)].into_iter().chain(ways_refused(sandbox));
            refused.for_each(|error| {
                assert_setup(&error, "unshare", object, libc::ENOSPC, &reached(limit));
            });
        };
        set("max_cgroup_namespaces", 0);
        told(&Sandbox::new(), "cgroup", "max_cgroup_namespaces");
        set("max_cgroup_namespaces", 10);
        set("max_net_namespaces", 0);
        told(&Sandbox::new(), "network", "max_net_namespaces");
        let own = refused(&Sandbox::new().init(false));
        let reached = reached("max_net_namespaces");
        assert_setup(&own, "unshare", "network", libc::ENOSPC, &reached);
        works(&Sandbox::new().network(stockade::Network::Host));
        set("max_net_namespaces", 10);
        set("max_time_namespaces", 0);
        told(&Sandbox::new(), "time", "max_time_namespaces");
        let sandbox = Sandbox::new().best_effort(Feature::TimeNamespace);
        let child = sandbox.command("sleep").arg("1000").spawn().unwrap();
        assert!(child.missing().contains(&Feature::TimeNamespace));
    });
}

/// A mount with these flags, or without any a new file system of the kind that `source` names.
fn mount(source: &str, at: &Path, flags: libc::c_ulong) {
    mounts::mount(source, at, "", flags);
}

fn masked_proc() {
    own_mounts();
    works(&Sandbox::new());
    mount("/dev/null", Path::new("/proc/version"), libc::MS_BIND);
    let text = "operation not permitted (os error 1); hint: parts of the caller's /proc are \
        covered, as in a container, and then the kernel mounts no new one; run the container with an \
        unmasked /proc (Docker: --security-opt systempaths=unconfined, Podman: --security-opt \
        unmask=ALL, Kubernetes: procMount: Unmasked), or use proc(Proc::None) or without_namespaces()";
    for (proc, options) in
        [(Proc::Processes, "subset=pid,hidepid=invisible"), (Proc::Full, "hidepid=invisible")]
    {
        let error = refused(&Sandbox::new().proc(proc));
        assert_eq!(error.hint(), Some(&Hint::MaskedProc), "{error}");
        let object = format!("proc on \"/proc\" ({options})");
        assert_setup(&error, "mount", &object, libc::EPERM, text);
    }
    let without = Sandbox::new().proc(Proc::None);
    works(&without);
}

fn read_only_settings() {
    own_mounts();
    mount("/proc/sys", Path::new("/proc/sys"), libc::MS_BIND);
    let remount = libc::MS_REMOUNT | libc::MS_BIND | libc::MS_RDONLY;
    mount("none", Path::new("/proc/sys"), remount | locked_flags("/proc/sys"));
    let sandbox = Sandbox::new().proc(Proc::None);
    let child = sandbox.command("true").spawn().unwrap();
    let expected = [Feature::InotifyLimits, Feature::NestedUserNamespaceCount];
    assert_eq!(missing_beside_scopes(&child), expected);
    let error = sandbox.clone().require(Feature::InotifyLimits).plan().unwrap_err();
    assert!(error.to_string().contains("/proc/sys is read-only"), "{error}");
    let error = refused(&sandbox.require(Feature::NestedUserNamespaceCount));
    let text = "read-only file system (os error 30)";
    // The file cannot be opened for writing.
    assert_setup(&error, "open", "user.max_user_namespaces 0", libc::EROFS, text);
}

/// The flags that a mount has and that a remount in a user namespace has to repeat.
fn locked_flags(at: &str) -> libc::c_ulong {
    let flags = nix::sys::statvfs::statvfs(at).unwrap().flags().bits();
    let known = libc::ST_NOSUID | libc::ST_NODEV | libc::ST_NOEXEC | libc::ST_RELATIME;
    let relatime = if flags & libc::ST_RELATIME != 0 { libc::MS_RELATIME } else { 0 };
    (flags & known & !libc::ST_RELATIME) | relatime
}

fn chrooted() {
    own_mounts();
    // Kept: whoever removed it here would follow the binds.
    let root = open_directory().keep();
    for name in ["proc", "dev"] {
        fs::create_dir(root.join(name)).unwrap();
        mount(&format!("/{name}"), &root.join(name), libc::MS_BIND | libc::MS_REC);
    }
    std::os::unix::fs::chroot(&root).unwrap();
    std::env::set_current_dir("/").unwrap();
    let text = format!(
        "clone {CLONED}: operation not permitted (os error 1); hint: the caller runs in a chroot, \
         where the kernel makes no user namespace; use pivot_root(2) instead of chroot(2)"
    );
    let error = refused(&Sandbox::new());
    assert_launch(&error, "clone", CLONED, libc::EPERM, Some(Hint::Chrooted), &text);
}

/// Has the kernel answer a system call with an error from now on, in this process and all that it
/// starts.
fn answer(calls: &[libc::c_long], errno: i32) {
    let rules = calls.iter().map(|&call| (call, Vec::new())).collect();
    let refuse = SeccompAction::Errno(errno.cast_unsigned());
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch).unwrap();
    seccompiler::apply_filter(&BpfProgram::try_from(filter).unwrap()).unwrap();
}

fn filtered_clone() {
    let sandbox = Sandbox::new();
    works(&sandbox);
    answer(&[libc::SYS_clone], libc::EPERM);
    let text = format!(
        "clone {CLONED}: operation not permitted (os error 1); hint: a system call filter of the \
         caller's own may forbid it, as a container's does; without_namespaces() needs none"
    );
    let error = refused(&sandbox);
    let hint = Some(Hint::FilteredNamespaces);
    assert_launch(&error, "clone", CLONED, libc::EPERM, hint, &text);
}

/// A file below /proc/sys/kernel with a number in it, as other kernels have it.
fn pretend(setting: &str, number: u32) {
    own_mounts();
    mount("tmpfs", Path::new("/proc/sys/kernel"), 0);
    fs::write(format!("/proc/sys/kernel/{setting}"), format!("{number}\n")).unwrap();
    answer(&[libc::SYS_clone], libc::EPERM);
}

fn apparmor() {
    pretend("apparmor_restrict_unprivileged_userns", 1);
    let text = format!(
        "clone {CLONED}: operation not permitted (os error 1); hint: AppArmor restricts \
         unprivileged user namespaces; give the program a profile with \"userns,\" or set \
         kernel.apparmor_restrict_unprivileged_userns to 0; or use without_namespaces()"
    );
    let error = refused(&Sandbox::new());
    let hint = Some(Hint::AppArmorUserNamespaces);
    assert_launch(&error, "clone", CLONED, libc::EPERM, hint, &text);
}

fn debians_switch() {
    pretend("unprivileged_userns_clone", 0);
    let text = format!(
        "clone {CLONED}: operation not permitted (os error 1); hint: set \
         kernel.unprivileged_userns_clone to 1, or run as root, or use without_namespaces()"
    );
    let error = refused(&Sandbox::new());
    let hint = Some(Hint::UnprivilegedUserNamespacesOff);
    assert_launch(&error, "clone", CLONED, libc::EPERM, hint, &text);
}

/// The keyring's operation has no object.
fn assert_keyring(errno: i32, hint: Hint, text: &str) {
    let expected = Told {
        stage: Stage::Setup,
        operation: "join new session keyring",
        object: "",
        errno,
        hint: Some(hint),
        text,
    };
    assert_told(&refused(&Sandbox::new()), &expected);
    let sandbox = Sandbox::new().best_effort(Feature::SessionKeyring);
    let child = sandbox.command("true").spawn().unwrap();
    assert!(child.missing().contains(&Feature::SessionKeyring));
}

fn filtered_keyring() {
    answer(&[libc::SYS_keyctl], libc::EPERM);
    let text = "join new session keyring: operation not permitted (os error 1); hint: a system \
        call filter of the caller's own may forbid it";
    assert_keyring(libc::EPERM, Hint::Filtered, text);
}

fn no_keys_left() {
    answer(&[libc::SYS_keyctl], libc::EDQUOT);
    let text = "join new session keyring: disk quota exceeded (os error 122); hint: kernel.keys.maxkeys \
        is reached for this user; raise it";
    assert_keyring(libc::EDQUOT, Hint::MaxKeys, text);
}

/// What kernels say that do not have a call yet.
fn old_kernels() {
    const TEST: &str = "old_kernels";
    let cases = [
        ("fsopen", libc::SYS_fsopen, Hint::NeedsKernel("5.2"), Stage::Setup),
        ("move_mount", libc::SYS_move_mount, Hint::NeedsKernel("5.2"), Stage::Setup),
        ("resolve target", libc::SYS_openat2, Hint::NeedsKernel("5.6"), Stage::Setup),
        ("close_range", libc::SYS_close_range, Hint::NeedsKernel("5.9"), Stage::Launch),
        ("open_tree", libc::SYS_open_tree, Hint::NeedsKernel("5.2"), Stage::Setup),
    ];
    if let Some(role) = role() {
        let (operation, call, hint, stage) =
            cases.into_iter().find(|(name, ..)| *name == role).unwrap();
        answer(&[call], libc::ENOSYS);
        let error = refused(&Sandbox::new());
        assert_readable(&error);
        let failed = error.failed().unwrap();
        assert_eq!((failed.operation, failed.stage), (operation, stage), "{error}");
        assert_eq!(failed.hint, Some(hint), "{error}");
        assert!(error.to_string().contains("(os error 38); hint: this needs Linux 5."), "{error}");
        return;
    }
    for (operation, ..) in cases {
        let output = inside::myself_outside(TEST, operation).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

// ---- init --------------------------------------------------------------------------------------

fn no_memory_to_execute() {
    answer(&[libc::SYS_memfd_create], libc::EPERM);
    let error = refused(&Sandbox::new());
    let text = "memfd_create stockade-init: operation not permitted (os error 1); hint: a filter, \
        a security module or the file system forbids executing it there; name another place with \
        init_file(..)";
    let hint = Some(Hint::InitFile);
    assert_launch(&error, "memfd_create", "stockade-init", libc::EPERM, hint, text);
    // A file will do.
    let directory = open_directory();
    let sandbox = Sandbox::new().init_file(directory.path().join("init"));
    works(&sandbox);
}

fn init_file_that_is_another() {
    answer(&[libc::SYS_memfd_create], libc::EPERM);
    let directory = open_directory();
    let file = directory.path().join("init");
    fs::write(&file, "another program").unwrap();
    let object = format!("{file:?}");
    let error = refused(&Sandbox::new().init_file(&file));
    let text = format!("verify init file {object}: operation not permitted (os error 1)");
    assert_launch(&error, "verify init file", &object, libc::EPERM, None, &text);
    let missing = directory.path().join("no/such/init");
    let object = format!("{missing:?}");
    let error = refused(&Sandbox::new().init_file(&missing));
    let text = format!("init file {object}: no such file or directory (os error 2)");
    assert_launch(&error, "init file", &object, libc::ENOENT, None, &text);
}

/// The setting is the pid namespace's, and this process's child is the first in a new one.
fn memory_switched_off() {
    const TEST: &str = "memory_switched_off";
    const SETTING: &str = "/proc/sys/vm/memfd_noexec";
    if role().is_some() {
        mount("proc", Path::new("/proc"), 0);
        fs::write(SETTING, "2").unwrap();
        let error = refused(&Sandbox::new());
        assert_eq!(error.hint(), Some(&Hint::MemfdNoExec), "{error}");
        let text = "memfd_create stockade-init: permission denied (os error 13); hint: \
            vm.memfd_noexec forbids executing from memory; name a place with init_file(..)";
        let hint = Some(Hint::MemfdNoExec);
        assert_launch(&error, "memfd_create", "stockade-init", libc::EACCES, hint, text);
        let directory = open_directory();
        let sandbox = Sandbox::new().init_file(directory.path().join("init"));
        works(&sandbox);
        return;
    }
    let before = fs::read_to_string(SETTING);
    own_mounts();
    unshare(libc::CLONE_NEWPID);
    let output = inside::myself_outside(TEST, "child").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(fs::read_to_string(SETTING).ok(), before.ok());
}

// ---- root's binds ------------------------------------------------------------------------------

fn unmappable() {
    let error = refused(&Sandbox::new().bind_ro("/proc/version", "/srv/version"));
    let expected = Told {
        stage: Stage::Prepare,
        operation: "map owners of",
        object: "\"/proc/version\"",
        errno: libc::EINVAL,
        hint: Some(Hint::NoIdMapping),
        text: "map owners of \"/proc/version\": invalid argument (os error 22); hint: this file \
            system cannot map ids; bind from another one, or use \
            best_effort(Feature::IdMappedMounts)",
    };
    assert_told(&error, &expected);
}

fn no_mapping_at_all() {
    answer(&[libc::SYS_mount_setattr], libc::ENOSYS);
    let sandbox = Sandbox::new().bind_ro("/usr", "/srv");
    let error = refused(&sandbox);
    assert_readable(&error);
    assert!(error.is_unsupported());
    let text = "this system lacks id-mapped mounts: mount_setattr(2) needs Linux 5.12; \
        best_effort(Feature::IdMappedMounts) binds without it";
    assert_eq!(error.to_string(), text);
    let sandbox = sandbox.best_effort(Feature::IdMappedMounts);
    let child = sandbox.command("true").spawn().unwrap();
    assert_eq!(child.missing(), [Feature::IdMappedMounts]);
}

fn groups_that_cannot_be_dropped() {
    const TEST: &str = "groups_that_cannot_be_dropped";
    if role().is_some() {
        let error = refused(&Sandbox::new().require(Feature::SupplementaryGroups));
        assert_readable(&error);
        assert!(error.is_unsupported() && error.stage().is_none());
        let text = "this system lacks dropping supplementary groups: an unprivileged process must \
            deny setgroups(2) before it can map its group; start the caller without supplementary \
            groups, or as root";
        assert_eq!(error.to_string(), text);
        return;
    }
    let directory = open_directory();
    let binary = directory.path().join("test");
    fs::copy(std::env::current_exe().unwrap(), &binary).unwrap();
    let run = |groups: &str| {
        let mut command = HostCommand::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", groups]).arg(&binary);
        let role = [("STOCKADE_TEST_CHILD", TEST), ("STOCKADE_TEST_ROLE", "child")];
        command.envs(role).output().unwrap()
    };
    let output = run("--groups=4,24");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // Without any there is nothing to refuse.
    let output = run("--clear-groups");
    assert!(String::from_utf8_lossy(&output.stderr).contains("unwrap_err"), "{output:?}");
}
