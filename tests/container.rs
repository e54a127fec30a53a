//! In a container as runc, crun and Docker make it by default: what the kernel refuses there is told
//! with the setting of the container that changes it, and what can be had is had.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::exit,
    clippy::incompatible_msrv,
    reason = "a test process, built by a current toolchain, fails by panicking"
)]

mod common;
#[path = "common/inside.rs"]
mod inside;

use std::process::{Command, Output};

use common::Needs;
use inside::{is_root, open_directory, role, sh, shell};
use stockade::{Error, Feature, Hint, Namespaces, Proc, Sandbox};

const TOOLS: &[&str] = &["unshare", "mount", "setpriv"];

tests! {
    Needs::Installed(TOOLS) => [
        no_fresh_proc, without_proc, without_namespaces, the_weaker_one_by_name, unmasked,
    ];
    Needs::RootAndProgram("setpriv") => [roots_binds, root_without_capabilities];
}

/// What runc's default specification and Docker's cover, or make read-only, as far as it is there.
const MASKED: [&str; 9] = [
    "acpi",
    "asound",
    "kcore",
    "keys",
    "latency_stats",
    "sched_debug",
    "scsi",
    "timer_list",
    "timer_stats",
];
const READ_ONLY: [&str; 5] = ["bus", "fs", "irq", "sys", "sysrq-trigger"];
/// What root of a container has by Docker's defaults, and by runc's specification.
const DOCKERS: &str = "chown,dac_override,fsetid,fowner,mknod,net_raw,setgid,setuid,setfcap,setpcap,\
                       net_bind_service,sys_chroot,kill,audit_write";
const RUNCS: &str = "audit_write,kill,net_bind_service";

/// Runs this test in such a container, with its own processes, its own mounts and a /proc.
fn contained(test: &str, role: &str, masked: bool, capabilities: Option<&str>) -> Output {
    let mut script = "set -e; mount -t proc proc /proc\n".to_owned();
    if masked {
        script += &format!(
            "for name in {}; do
                 if [ -d /proc/$name ]; then mount -t tmpfs -o ro none /proc/$name
                 elif [ -e /proc/$name ]; then mount --bind /dev/null /proc/$name; fi
             done
             for name in {}; do
                 [ -e /proc/$name ] || continue
                 mount --bind /proc/$name /proc/$name
                 mount -o remount,bind,ro,nosuid,nodev,noexec /proc/$name
             done\n",
            MASKED.join(" "),
            READ_ONLY.join(" ")
        );
    }
    script += &match capabilities {
        Some(names) => format!(
            "exec setpriv --inh-caps=-all --bounding-set=-all,{} -- \"$0\"",
            names.split(',').map(|name| format!("+{name}")).collect::<Vec<_>>().join(",")
        ),
        None => "exec \"$0\"".to_owned(),
    };
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--propagation", "private"]);
    if !is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["sh", "-c", &script]).arg(std::env::current_exe().unwrap());
    command.env("STOCKADE_TEST_CHILD", test).env("STOCKADE_TEST_ROLE", role);
    command.output().unwrap()
}

/// The same, to a good end.
fn good(test: &str, masked: bool, capabilities: Option<&str>) {
    let output = contained(test, "inside", masked, capabilities);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
}

/// A sandbox without namespaces, whatever that lacks.
fn weak() -> Sandbox {
    Feature::ALL.into_iter().fold(Sandbox::new().without_namespaces(), Sandbox::best_effort)
}

fn no_fresh_proc() {
    if role().is_none() {
        return good("no_fresh_proc", true, None);
    }
    for proc in [Proc::Processes, Proc::Full] {
        let error = Sandbox::new().proc(proc).command("true").spawn().unwrap_err();
        assert_eq!(error.hint(), Some(&Hint::MaskedProc), "{error}");
        let text = error.to_string();
        for part in ["systempaths=unconfined", "unmask=ALL", "procMount: Unmasked", "Proc::None"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}

fn without_proc() {
    if role().is_none() {
        return good("without_proc", true, None);
    }
    let sandbox = Sandbox::new().proc(Proc::None);
    assert_eq!(sh(&sandbox, "echo works; test -e /proc/self || echo none"), "works\nnone\n");
    assert!(!shell(&sandbox, "unshare --user true").outcome.is_success());
}

fn without_namespaces() {
    if role().is_none() {
        return good("without_namespaces", true, None);
    }
    // What covers them is still there, and nothing of it is read.
    let script = "echo works; cat /proc/keys /etc/shadow || echo nothing";
    match weak().command("sh").args(["-c", script]).output() {
        Ok(output) => assert_eq!(output.stdout, b"works\nnothing\n", "{output:?}"),
        Err(Error::Unsupported { feature: Feature::Landlock, .. }) => {}
        Err(other) => panic!("{other}"),
    }
}

fn the_weaker_one_by_name() {
    if role().is_none() {
        return good("the_weaker_one_by_name", true, None);
    }
    let error = Sandbox::new().strongest_available().unwrap_err();
    assert_eq!(error.hint(), Some(&Hint::MaskedProc), "{error}");
    let asked = Feature::ALL.into_iter().fold(Sandbox::new(), Sandbox::best_effort);
    match asked.strongest_available() {
        Ok(weaker) => assert_eq!(weaker.plan().unwrap().namespaces(), Namespaces::empty()),
        // No Landlock, either.
        Err(other) => assert_eq!(other.hint(), Some(&Hint::MaskedProc), "{other}"),
    }
}

/// With the setting that the error names, all of it works.
fn unmasked() {
    if role().is_none() {
        return good("unmasked", false, None);
    }
    assert_eq!(sh(&Sandbox::new(), "ls -d /proc/self"), "/proc/self\n");
}

/// Docker's root cannot copy mounts.
fn roots_binds() {
    if role().is_none() {
        good("roots_binds", true, Some(DOCKERS));
        return good("roots_binds", false, Some(DOCKERS));
    }
    let directory = open_directory();
    std::fs::write(directory.path().join("file"), "shown\n").unwrap();
    let bound = Sandbox::new().proc(Proc::None).bind_ro(directory.path(), "/data");
    let error = bound.command("true").spawn().unwrap_err();
    let Error::Unsupported { feature: Feature::IdMappedMounts, reason } = &error else {
        panic!("{error}");
    };
    assert!(reason.contains("CAP_SYS_ADMIN"), "{reason}");
    let child = bound.best_effort(Feature::IdMappedMounts).command("cat").arg("/data/file");
    let child = child.stdout(stockade::Stdio::piped()).spawn().unwrap();
    assert!(child.missing().contains(&Feature::IdMappedMounts));
    assert_eq!(child.wait_with_output().unwrap().stdout, b"shown\n");
}

/// Root of runc's specification has no id that it can map.
fn root_without_capabilities() {
    if role().is_none() {
        return good("root_without_capabilities", false, Some(RUNCS));
    }
    let error = Sandbox::new().command("true").spawn().unwrap_err();
    assert_eq!(error.hint(), Some(&Hint::RootWithoutCapabilities), "{error}");
    assert!(error.to_string().contains("without_namespaces()"), "{error}");
    match weak().command("sh").args(["-c", "id -u; grep CapEff /proc/self/status"]).output() {
        // There it is root's number without root's power.
        Ok(output) => assert_eq!(output.stdout, b"0\n", "{output:?}"),
        Err(Error::Unsupported { feature: Feature::Landlock, .. }) => {}
        Err(other) => panic!("{other}"),
    }
}
