//! What an audit of the view finds: nothing much by default, and each thing that is given away.
#![allow(
    clippy::exit,
    clippy::incompatible_msrv,
    clippy::cast_possible_truncation,
    reason = "a test process, built by a current toolchain"
)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails so")]

mod common;
#[path = "common/inside.rs"]
mod inside;
#[path = "common/mounts.rs"]
mod mounts;

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::Needs;
use stockade::{
    Action, Audit, Bind, Data, Feature, Finding, Leak, Namespaces, Network, Proc, Rootfs, Rule,
    Sandbox, Seccomp, Severity, TimeOffsets,
};

tests! {
    Needs::Nothing => [
        default_shows_the_kind_of_machine, nothing_is_left_behind, each_thing_is_found_and_closed,
        runs_in_every_root, what_is_given_to_the_command_shows, a_probe_that_is_ended_is_told,
        more_than_can_be_read_is_told, the_command_line_says_the_same,
    ];
    Needs::Landlock(6) => [without_namespaces];
    Needs::Root => [a_tree_that_is_shared];
}

fn audit(sandbox: &Sandbox) -> Audit {
    let audit = sandbox.audit_view().unwrap();
    assert_eq!(audit.incomplete, None, "{audit}");
    audit
}

/// What is above the kind of machine; names of the host's own layers are those of every default sandbox.
fn above(audit: &Audit) -> Vec<Leak> {
    let in_lists = |place: &String| place.ends_with("/mountinfo") || place.ends_with("/mounts");
    let of_layers = |finding: &&Finding| {
        inside::layers_show() && finding.leak == Leak::Path && finding.places.iter().all(in_lists)
    };
    let findings = audit.above(Severity::Low).filter(|finding| !of_layers(finding));
    let mut leaks: Vec<_> = findings.map(|finding| finding.leak).collect();
    leaks.sort_unstable();
    leaks.dedup();
    leaks
}

fn default_shows_the_kind_of_machine() {
    for sandbox in [Sandbox::new(), Sandbox::new().init(false), Sandbox::new().proc(Proc::Compat)] {
        let audit = audit(&sandbox);
        assert_eq!(above(&audit), [], "{audit}");
        // It has looked.
        assert!(audit.entries > 100 && audit.bytes > 10_000, "{audit}");
        for leak in [Leak::Kernel, Leak::Memory, Leak::BootTime, Leak::HostIds] {
            assert!(audit.findings.iter().any(|finding| finding.leak == leak), "{leak}: {audit}");
        }
    }
}

fn nothing_is_left_behind() {
    let open = || fs::read_dir("/proc/self/fd").unwrap().count();
    audit(&Sandbox::new());
    let before = open();
    // Many at once, too.
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| assert_eq!(above(&audit(&Sandbox::new())), []));
        }
    });
    assert_eq!(open(), before);
}

/// Each makes a hole, and what its finding says is what this does not do.
fn each_thing_is_found_and_closed() {
    let directory = inside::open_directory();
    let source = directory.path().join("somewhere-else");
    fs::create_dir(&source).unwrap();
    let new = Sandbox::new;
    let shared = |kind| new().namespaces(Namespaces::all() - kind);
    for (leak, sandbox, closed_by) in [
        (Leak::Network, new().network(Network::Host), ".network("),
        (Leak::Process, shared(Namespaces::PID).without_atomic_end(), "Namespaces::PID"),
        (Leak::Ipc, shared(Namespaces::IPC), "Namespaces::IPC"),
        (Leak::HostName, shared(Namespaces::UTS), ".hostname("),
        (Leak::Path, new().bind_ro(&source, "/data"), ".hide_host_paths(true)"),
        (Leak::BootId, new().proc(Proc::Full), ".proc(Proc::Processes)"),
        (Leak::Hardware, new().sysfs(), ".sysfs()"),
    ] {
        let audit = audit(&sandbox);
        let finding = audit.above(Severity::Low).find(|finding| finding.leak == leak);
        let finding = finding.unwrap_or_else(|| panic!("no {leak} in\n{audit}"));
        assert!(finding.closed_by.contains(closed_by), "{audit}");
    }
    // Every host has this one, and it stands for nothing.
    let device = Bind::read_only("/dev/zero", "/zeros").with_devices();
    assert_eq!(above(&audit(&new().bind(device))), []);
    // What is low can be closed, too.
    let later = TimeOffsets { monotonic: 86400, boottime: 86400 };
    let moved = audit(&new().time_offsets(later));
    assert!(moved.findings.iter().all(|finding| finding.leak != Leak::BootTime), "{moved}");
}

fn runs_in_every_root() {
    let directory = inside::open_directory();
    fs::create_dir_all(directory.path().join("dev")).unwrap();
    for name in ["proc", "tmp"] {
        fs::create_dir(directory.path().join(name)).unwrap();
    }
    for sandbox in [
        Sandbox::new().rootfs(Rootfs::empty()),
        Sandbox::new().rootfs(Rootfs::empty()).proc(Proc::None),
        Sandbox::new().rootfs(Rootfs::directory(directory.path())).proc(Proc::None),
        Sandbox::new().seccomp(Seccomp::strict()),
        Sandbox::new().seccomp(Seccomp::none()),
    ] {
        let audit = audit(&sandbox);
        assert_eq!(above(&audit), [], "{audit}");
    }
}

fn what_is_given_to_the_command_shows() {
    let file = File::open("/etc/passwd").unwrap();
    let audit = Sandbox::new().command("true").fd(9, file).audit_view().unwrap();
    let given = |finding: &&Finding| finding.leak == Leak::Descriptor;
    let finding = audit.above(Severity::Low).find(given).unwrap();
    assert_eq!((finding.leak, &*finding.shown), (Leak::Descriptor, "/etc/passwd"), "{audit}");
    assert_eq!(finding.places, ["descriptor 9"]);
    let file = File::open("/etc/passwd").unwrap();
    let audit = Sandbox::new().command("true").stdin(file).audit_view().unwrap();
    assert_eq!(above(&audit), [Leak::Path], "{audit}");
    // With a terminal of its own nothing shows.
    let audit = Sandbox::new().command("true").pty(24, 80).audit_view().unwrap();
    assert_eq!((above(&audit), audit.incomplete), (vec![], None));
}

fn a_probe_that_is_ended_is_told() {
    let killed = Sandbox::new()
        .seccomp(Seccomp::default().rule(Rule::new("sysinfo").then(Action::KillProcess)));
    let audit = killed.audit_view().unwrap();
    assert!(audit.incomplete.is_some(), "{audit}");
    let slow = Sandbox::new().sysfs().wall_time(Duration::from_millis(1));
    match slow.audit_view() {
        Ok(audit) => assert!(audit.incomplete.is_some(), "{audit}"),
        // Its time was up before it began.
        Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ETIME), "{error}"),
    }
}

/// Without namespaces: the root itself may not be listed.
fn without_namespaces() {
    let weak = Sandbox::new().without_namespaces().without_atomic_end();
    let weak = weak.best_effort(Feature::IdMappedMounts);
    let lost = [
        Feature::UserNamespace,
        Feature::MountNamespace,
        Feature::PidNamespace,
        Feature::NetworkNamespace,
        Feature::IpcNamespace,
        Feature::UtsNamespace,
        Feature::CgroupNamespace,
        Feature::TimeNamespace,
    ];
    let audit = lost.into_iter().fold(weak, Sandbox::best_effort).audit_view().unwrap();
    assert!(audit.incomplete.as_ref().is_some_and(|reason| reason.contains("listed")), "{audit}");
    let shared = [Leak::HostName, Leak::Ipc, Leak::Network, Leak::Process, Leak::Files];
    assert_eq!(above(&audit), shared, "{audit}");
}

fn more_than_can_be_read_is_told() {
    let deep = format!("/a{}", "/b".repeat(70));
    let audit = Sandbox::new().data(Data::directory(deep)).audit_view().unwrap();
    assert!(audit.incomplete.as_ref().is_some_and(|reason| reason.contains("64")), "{audit}");
}

/// Of the host's tree it would be all files: this one has a /proc alone. The probe is executed in memory.
fn a_tree_that_is_shared() {
    mounts::own_mounts();
    let root = Path::new("/mnt");
    mounts::mount("tmpfs", root, "", 0);
    fs::create_dir(root.join("proc")).unwrap();
    fs::create_dir(root.join("dev")).unwrap();
    File::create(root.join("dev/null")).unwrap();
    mounts::bind(Path::new("/proc"), &root.join("proc"));
    mounts::bind(Path::new("/dev/null"), &root.join("dev/null"));
    fs::write(root.join("planted"), fs::read("/proc/sys/kernel/random/boot_id").unwrap()).unwrap();
    std::os::unix::fs::chroot(root).unwrap();
    std::env::set_current_dir("/").unwrap();
    let kinds = Namespaces::all() - Namespaces::MOUNT - Namespaces::USER;
    let audit = audit(&Sandbox::new().namespaces(kinds));
    assert!(above(&audit).contains(&Leak::Files), "{audit}");
    let boot = audit.findings.iter().find(|finding| finding.leak == Leak::BootId).unwrap();
    assert!(boot.places.contains(&"/planted".to_owned()), "{audit}");
}

fn the_command_line_says_the_same() {
    let stockade = |options: &str| {
        let script = "exec \"$0\" audit --json 9 \"$@\" 9>&1 >/dev/null";
        let mut command = Command::new("sh");
        command.args(["-c", script, env!("CARGO_BIN_EXE_stockade")]);
        let output = command.args(options.split_whitespace()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        (output.status.code().unwrap(), json)
    };
    let (code, json) = stockade("--hide-host-paths");
    assert_eq!(code, 0, "{json}");
    assert_eq!(json["incomplete"], serde_json::Value::Null);
    let findings = json["findings"].as_array().unwrap();
    assert!(findings.iter().all(|finding| finding["severity"] == "low"), "{json}");
    let (code, json) = stockade("--proc full");
    assert_eq!(code, 1, "{json}");
    let of_boot = |finding: &&serde_json::Value| finding["leak"] == "boot id";
    let finding = json["findings"].as_array().unwrap().iter().find(of_boot).unwrap();
    assert_eq!(finding["places"][0], "/proc/sys/kernel/random/boot_id");
    assert_eq!(finding["closed_by"], ".proc(Proc::Processes)");
    let (code, json) = stockade("--hide-host-paths --view=cpus=3,memory=1g,uptime=1d");
    assert_eq!(code, 0, "{json}");
    let (code, _) = stockade("--view=cpus=3 --proc full");
    assert_eq!(code, 125);
    let (code, _) = stockade("--ro-bind /no/such/file /data");
    assert_eq!(code, 125);
}
