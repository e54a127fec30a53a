//! What a program with CAP_SYS_ADMIN over its sandbox can do to the mounts that it was given.
#![allow(
    clippy::exit,
    clippy::incompatible_msrv,
    clippy::cast_possible_truncation,
    reason = "a test process, built by a current toolchain"
)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails so")]

mod common;

use common::Needs;
use common::ways::Ways;
use stockade::{Capability, Feature, Namespaces, Sandbox};

tests_in_all_ways! {
    Needs::Nothing => without_template [
        read_only_stays_read_only,
        a_mount_does_not_come_off,
        mounts_of_its_own_are_its_own,
    ];
    Needs::Nothing => [
        without_the_capability_nothing_is_mounted,
    ];
    // A root caller's own namespace has the host's nobody in it, which owns nothing.
    Needs::Unprivileged => alone [a_joined_user_namespace_is_locked_too];
    Needs::Root => alone [without_a_user_namespace_by_name_only];
}

/// Runs a script as the inside's uid 0, so that mount(8) leaves the decision to the kernel.
fn run(script: &str, capabilities: &[Capability]) -> (bool, String) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("kept"), "kept").unwrap();
    let output = Sandbox::new()
        .uid(0)
        .gid(0)
        .capabilities(capabilities.to_vec())
        .bind_ro(directory.path(), "/mnt/given")
        .way_to("sh")
        .args(["-c", script])
        .output()
        .unwrap();
    assert_eq!(std::fs::read(directory.path().join("kept")).unwrap(), b"kept");
    let text = [output.stdout.clone(), output.stderr.clone()].concat();
    (output.outcome.is_success(), String::from_utf8_lossy(&text).into_owned())
}

const ADMIN: &[Capability] = &[Capability::SYS_ADMIN, Capability::DAC_OVERRIDE];

fn read_only_stays_read_only() {
    for mount in ["/mnt/given", "/", "/usr"] {
        let (_, text) = run(&format!("mount -o remount,bind,rw {mount}; touch {mount}/x"), ADMIN);
        assert!(text.contains("Read-only file system"), "{mount}: {text}");
    }
}

fn a_mount_does_not_come_off() {
    let (_, text) = run("umount -l /mnt/given; cat /mnt/given/kept", ADMIN);
    assert!(text.contains("kept"), "{text}");
    let (gone, text) = run("umount -l /proc", ADMIN);
    assert!(!gone, "{text}");
}

/// Without a user namespace what is kept is the host's, which has to be asked for.
fn without_a_user_namespace_by_name_only() {
    let new = Namespaces::all() - Namespaces::USER;
    let sandbox = Sandbox::new().namespaces(new).as_host_root().capabilities(ADMIN.to_vec());
    let error = sandbox.way_to("true").spawn().unwrap_err();
    assert!(error.to_string().contains("allow_host_capabilities()"), "{error}");
    let sandbox = sandbox.allow_host_capabilities();
    let script = "mount -t tmpfs none /tmp && touch /tmp/x";
    let outcome = sandbox.way_to("sh").args(["-c", script]).status().unwrap().outcome;
    assert!(outcome.is_success());
}

/// The mounts are made in the joined namespace, over which the program has the capability.
fn a_joined_user_namespace_is_locked_too() {
    let directory = tempfile::tempdir().unwrap();
    let ids = [nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()];
    let other = Sandbox::new().allow_nesting().uid(ids[0]).gid(ids[1]);
    let other = other.command("sleep").arg("1000").spawn().unwrap();
    let path = format!("/proc/{}/ns/user", other.program_id().unwrap());
    let script = "mount -o remount,bind,rw /mnt/given; touch /mnt/given/x; umount /proc";
    let sandbox = Sandbox::new()
        .join(Namespaces::USER, path.as_str())
        .uid(ids[0])
        .gid(ids[1])
        .capabilities(ADMIN.to_vec())
        .bind_ro(directory.path(), "/mnt/given");
    let output = sandbox.way_to("sh").args(["-c", script]).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(errors.contains("Read-only file system"), "{errors}");
    assert!(!output.outcome.is_success(), "{errors}");
    assert!(!directory.path().join("x").exists());
    // The lock is a user namespace of its own, so nested ones are limited by count as well.
    let child = sandbox.way_to("true").spawn().unwrap();
    assert!(!child.missing().contains(&Feature::NestedUserNamespaceCount));
}

fn mounts_of_its_own_are_its_own() {
    let script = "mount -t tmpfs none /tmp && touch /tmp/x && umount /tmp && ! test -e /tmp/x";
    let (done, text) = run(script, ADMIN);
    assert!(done, "{text}");
}

fn without_the_capability_nothing_is_mounted() {
    let (done, _) = run("mount -t tmpfs none /tmp", &[Capability::DAC_OVERRIDE]);
    assert!(!done);
}
