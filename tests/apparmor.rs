//! Labels of AppArmor's: one that the program is given, and those that keep the caller from making
//! namespaces, as on Ubuntu. The profiles are in apparmor/profiles; `.ci/vm` loads them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test process fails by panicking"
)]
#![allow(unsafe_code, reason = "shared helpers restrict their own process")]

mod common;
#[path = "common/inside.rs"]
mod inside;

use common::Needs;
use inside::{role, sh, shell};
use stockade::{
    Capability, Error, Feature, Hint, Namespaces, Proc, Sandbox, Seccomp, Stage, Support,
};

tests! {
    Needs::NoLabels => [without_a_module, without_a_module_all_else_is_as_it_was];
    Needs::Nothing => [contradictions];
    Needs::AppArmorProfiles => [
        the_program_has_it, every_kind_of_sandbox, sessions_and_pools, unknown, what_confines_the_caller_is_told,
        no_user_namespaces, no_capabilities_in_them, a_confined_caller_gives_less,
    ];
}

const LABEL: &str = "stockade-test-label";
const LABELLED: &str = "stockade-test-label (enforce)";

/// Without namespaces, and with what that is bound to lack.
fn weak() -> Sandbox {
    let lost = [
        Feature::UserNamespace,
        Feature::MountNamespace,
        Feature::PidNamespace,
        Feature::AtomicEnd,
        Feature::NetworkNamespace,
        Feature::IpcNamespace,
        Feature::UtsNamespace,
        Feature::CgroupNamespace,
        Feature::TimeNamespace,
        Feature::IdMappedMounts,
    ];
    lost.into_iter().fold(Sandbox::new(), Sandbox::best_effort)
}

fn refused(sandbox: &Sandbox) -> Error {
    sandbox.command("true").spawn().unwrap_err()
}

fn without_a_module() {
    let sandbox = Sandbox::new().exec_label(LABEL);
    for error in [refused(&sandbox), sandbox.check().unwrap_err(), sandbox.plan().unwrap_err()] {
        let failed = error.failed().unwrap();
        assert_eq!((failed.stage, failed.operation), (Stage::Prepare, "read"), "{error}");
        assert_eq!(failed.object, r#""/proc/thread-self/attr/current""#);
        assert_eq!(failed.raw_os_error(), libc::EINVAL, "{error}");
        assert_eq!(failed.hint, Some(Hint::NoExecLabels));
    }
    let sandbox = sandbox.best_effort(Feature::ExecLabel);
    assert_eq!(sh(&sandbox, "echo works"), "works\n");
    assert!(sandbox.command("true").spawn().unwrap().missing().contains(&Feature::ExecLabel));
    assert!(sandbox.plan().unwrap().to_string().contains("do without a label"));
    assert!(refused(&sandbox.require(Feature::ExecLabel)).failed().is_some());
}

fn without_a_module_all_else_is_as_it_was() {
    let plan = Sandbox::new().plan().unwrap().to_string();
    assert!(!plan.contains("label"), "{plan}");
}

fn contradictions() {
    for label in ["", "a\0b", "a\nb", &"x".repeat(5000)] {
        let error = Sandbox::new().exec_label(label).plan().unwrap_err();
        assert!(matches!(&error, Error::Invalid(problems) if problems.len() == 1), "{error}");
    }
}

fn the_program_has_it() {
    let script = "cat /proc/self/attr/current; cat /etc/passwd >/dev/null && echo read; \
                  cat /etc/group >/dev/null && echo read; true";
    // By default it has the caller's.
    assert_eq!(sh(&Sandbox::new(), script), "unconfined\nread\nread\n");
    let sandbox = Sandbox::new().exec_label(LABEL);
    assert_eq!(sh(&sandbox, script), format!("{LABELLED}\nread\n"));
    // What comes of it, too; and it cannot be left.
    let leave = "echo exec unconfined >/proc/self/attr/exec; sh -c 'cat /proc/self/attr/current'";
    assert!(!sh(&sandbox, leave).contains("unconfined"));
    let plan = sandbox.plan().unwrap().to_string();
    let line = format!("write attr/apparmor/exec exec {LABEL}: ");
    assert!(plan.contains(&line) && !plan.contains("keep the label"), "{plan}");
}

fn every_kind_of_sandbox() {
    let all = [
        Sandbox::new().init(false),
        Sandbox::new().capabilities([Capability::SYS_ADMIN]),
        Sandbox::new().capabilities([Capability::SYS_ADMIN]).init(false),
        Sandbox::new().hide_host_paths(true),
        Sandbox::new().allow_new_privileges(),
        Sandbox::new().proc(Proc::Full).seccomp(Seccomp::none()),
        Sandbox::new().seccomp(Seccomp::deny_list(["write"])),
        Sandbox::new().learn(),
        Sandbox::new()
            .namespaces(Namespaces::all() - Namespaces::PID)
            .without_atomic_end()
            .best_effort(Feature::IdMappedMounts),
        weak().without_namespaces(),
    ];
    for sandbox in all {
        assert_eq!(label_of_program(&sandbox.exec_label(LABEL)), LABELLED);
    }
}

/// What is executed long after the sandbox was made.
fn sessions_and_pools() {
    let prepared = Sandbox::new().exec_label(LABEL).prepare().unwrap();
    let (session, pool) = (prepared.session().unwrap(), prepared.pool(2).unwrap());
    for _ in 0..3 {
        assert_eq!(label_of(session.command("sleep").arg("1000").spawn().unwrap()), LABELLED);
        assert_eq!(label_of(pool.command("sleep").arg("1000").spawn().unwrap()), LABELLED);
        assert_eq!(label_of(prepared.command("sleep").arg("1000").spawn().unwrap()), LABELLED);
    }
}

fn label_of_program(sandbox: &Sandbox) -> String {
    label_of(sandbox.command("sleep").arg("1000").spawn().unwrap())
}

fn label_of(mut child: stockade::Child) -> String {
    let pid = child.program_id().unwrap();
    let current = std::fs::read_to_string(format!("/proc/{pid}/attr/current")).unwrap();
    child.kill().unwrap();
    current.trim_end().to_owned()
}

fn unknown() {
    for sandbox in [Sandbox::new(), Sandbox::new().init(false), weak().without_namespaces()] {
        let sandbox = sandbox.exec_label("stockade-test-nowhere").best_effort(Feature::ExecLabel);
        for error in [refused(&sandbox), sandbox.check().unwrap_err()] {
            let failed = error.failed().unwrap();
            assert_eq!((failed.stage, failed.operation), (Stage::Setup, "write"), "{error}");
            assert_eq!(failed.object, "attr/apparmor/exec exec stockade-test-nowhere");
            assert_eq!(failed.raw_os_error(), libc::ENOENT, "{error}");
            assert_eq!(failed.hint, Some(Hint::UnknownLabel));
        }
    }
}

/// Runs the test's other side with this profile on the caller.
fn confined_by(profile: &str, test: &str) {
    let binary = std::env::current_exe().unwrap();
    let script = format!("echo 'exec {profile}' >/proc/self/attr/apparmor/exec; exec \"$0\"");
    let mut command = std::process::Command::new("sh");
    command.args(["-c", &script]).arg(binary).env("STOCKADE_TEST_CHILD", test);
    let output = command.env("STOCKADE_TEST_ROLE", profile).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{profile}: {text}");
}

fn what_confines_the_caller_is_told() {
    let Some(profile) = role() else {
        let plan = Sandbox::new().plan().unwrap().to_string();
        assert!(plan.contains("keep the label AppArmor \"unconfined\": the caller's"), "{plan}");
        assert_eq!(Sandbox::new().prepare().unwrap().plan().to_string(), plan);
        assert_eq!(Sandbox::new().command("true").plan().unwrap().to_string(), plan);
        return confined_by("stockade-test-no-userns", "what_confines_the_caller_is_told");
    };
    let plan = weak().without_namespaces().plan().unwrap().to_string();
    assert!(plan.contains(&format!("keep the label AppArmor \"{profile} (enforce)\"")), "{plan}");
}

fn no_user_namespaces() {
    restricted("stockade-test-no-userns", "no_user_namespaces");
}

fn no_capabilities_in_them() {
    restricted("stockade-test-no-capabilities", "no_capabilities_in_them");
}

/// The default fails with the remedy, and the tier without namespaces is one.
fn restricted(profile: &str, test: &str) {
    if role().is_none() {
        return confined_by(profile, test);
    }
    let error = refused(&Sandbox::new());
    assert!([Some(libc::EPERM), Some(libc::EACCES)].contains(&error.raw_os_error()), "{error}");
    let confined = format!("{profile} (enforce)");
    assert_eq!(error.hint(), Some(&Hint::AppArmorProfile(confined.clone())), "{error}");
    for part in ["without_namespaces()", "userns", profile, "apparmor_restrict"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    let support = Support::probe();
    assert!(!support.is_sufficient(), "{support}");
    let user = support.get("user namespace without privilege").unwrap();
    assert!(!user.available && user.remedy.as_ref().unwrap().contains(profile), "{support}");
    let tier = weak().without_namespaces();
    let chosen = weak().strongest_available().unwrap();
    assert_eq!(chosen.plan().unwrap().namespaces(), Namespaces::empty());
    for sandbox in [tier, chosen] {
        assert_eq!(sh(&sandbox, "echo works | sort"), "works\n");
        assert!(!shell(&sandbox, "cat /etc/passwd").outcome.is_success());
        assert_eq!(label_of_program(&sandbox), confined);
    }
}

fn a_confined_caller_gives_less() {
    let Some(profile) = role() else {
        return confined_by("stockade-test-no-userns", "a_confined_caller_gives_less");
    };
    let tier = weak().without_namespaces();
    // Another one could allow more, and no_new_privs forbids that.
    let error = refused(&tier.clone().exec_label(LABEL));
    assert_eq!((error.stage(), error.raw_os_error()), (Some(Stage::Start), Some(libc::EPERM)));
    assert_eq!(error.hint(), Some(&Hint::LabelledExec), "{error}");
    let current = label_of_program(&tier.exec_label(format!("{profile}//&{LABEL}")));
    assert!(current.contains(LABEL) && current.contains(&profile), "{current}");
}
