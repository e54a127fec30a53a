//! What is opened by name: what it lets a program do, and what it does not.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::exit,
    clippy::incompatible_msrv,
    reason = "a test process, built by a current toolchain, fails by panicking"
)]
#![allow(unsafe_code, reason = "system calls that only a debugger makes")]

mod common;
#[path = "common/inside.rs"]
mod inside;

use std::io::Error as IoError;
use std::process::exit;

use common::Needs;
use common::ways::Ways;
use inside::{is_root, myself, role, sh, shell, succeed};
use stockade::{Error, Feature, Namespaces, Proc, Sandbox, Seccomp};

tests_in_all_ways! {
    Needs::Nothing => [
        this_crate_inside, mounts_inside, told, required, tracing_inside, init_is_not_traced,
        addresses, the_strict_profile, keyrings, in_the_plan,
    ];
    Needs::Nothing => alone [nobody_outside_is_traced];
    Needs::Installed(&["bwrap"]) => [bubblewrap_inside];
}

fn this_crate_inside() {
    const TEST: &str = "this_crate_inside";
    if role().is_some() {
        // The whole of it, with all that it has by default.
        let script = "echo $$; ls /proc >/tmp/list; grep -c ^[0-9] /tmp/list";
        let output = Sandbox::new().way_to("sh").args(["-c", script]);
        let output = output.output().unwrap();
        print!("{}", String::from_utf8(output.stdout).unwrap());
        let child = Sandbox::new().way_to("sleep").arg("1000").spawn().unwrap();
        drop(child);
        exit(0);
    }
    let told = succeed(myself(&Sandbox::new().allow_nesting(), TEST, "inside"));
    // Itself and ls.
    assert_eq!(told, "2\n2\n");
    let output = myself(&Sandbox::new(), TEST, "inside").output().unwrap();
    assert!(!output.outcome.is_success(), "{output:?}");
}

fn mounts_inside() {
    let script =
        "unshare -Urm sh -c 'mount -t tmpfs none /tmp && mount --bind /usr /home && echo x'";
    assert!(!shell(&Sandbox::new(), script).outcome.is_success());
    assert_eq!(sh(&Sandbox::new().allow_nesting(), script), "x\n");
    // What is read-only stays so for who is root in it.
    let remount = "unshare -Urm mount -o remount,rw,bind /usr";
    assert!(!shell(&Sandbox::new().allow_nesting(), remount).outcome.is_success());
    let write = "unshare -Ur touch /usr/stockade-was-here";
    assert!(!shell(&Sandbox::new().allow_nesting(), write).outcome.is_success());
}

fn bubblewrap_inside() {
    let script = "bwrap --unshare-all --ro-bind / / --tmpfs /tmp echo inner";
    let sandbox = Sandbox::new().proc(Proc::Compat);
    assert!(!shell(&sandbox, script).outcome.is_success());
    assert_eq!(sh(&sandbox.allow_nesting(), script), "inner\n");
}

fn told() {
    let missing = |sandbox: Sandbox| sandbox.way_to("true").spawn().unwrap().missing().to_vec();
    let both = [Feature::NestingForbidden, Feature::DebuggingForbidden];
    assert!(!missing(Sandbox::new()).iter().any(|one| both.contains(one)));
    let nesting = missing(Sandbox::new().allow_nesting());
    assert!(nesting.contains(&both[0]) && !nesting.contains(&both[1]), "{nesting:?}");
    assert!(nesting.contains(&Feature::Landlock), "{nesting:?}");
    let debugging = missing(Sandbox::new().allow_debugging());
    assert!(debugging.contains(&both[1]) && !debugging.contains(&both[0]), "{debugging:?}");
}

fn required() {
    let sandbox = Sandbox::new().require(Feature::NestingForbidden);
    sandbox.require(Feature::DebuggingForbidden).check().unwrap();
    for (sandbox, needed) in [
        (Sandbox::new().allow_nesting(), Feature::NestingForbidden),
        (Sandbox::new().allow_debugging(), Feature::DebuggingForbidden),
    ] {
        let error = sandbox.require(needed).check().unwrap_err();
        assert!(
            matches!(error, Error::Unsupported { feature, .. } if feature == needed),
            "{error}"
        );
    }
}

fn in_the_plan() {
    let text = |sandbox: Sandbox| sandbox.plan().unwrap().to_string();
    assert!(
        text(Sandbox::new().allow_nesting()).contains("do without forbidding namespaces inside")
    );
    assert!(text(Sandbox::new().allow_debugging()).contains("do without forbidding to trace"));
    assert!(!text(Sandbox::new()).contains("do without forbidding"));
    assert_ne!(Sandbox::new().allow_debugging().plan().unwrap(), Sandbox::new().plan().unwrap());
}

/// The error number of an attempt to trace a process, and of one to read its memory.
fn trace(pid: i32) -> [i32; 2] {
    let number = |failed| if failed { IoError::last_os_error().raw_os_error().unwrap() } else { 0 };
    // SAFETY: takes numbers.
    let traced = number(unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, 0, 0) } < 0);
    let mut byte = 0u8;
    let local = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let remote = libc::iovec { iov_base: (&raw const byte).cast_mut().cast(), iov_len: 1 };
    // SAFETY: the addresses are those of a byte of this process.
    let read = unsafe { libc::process_vm_readv(pid, &raw const local, 1, &raw const remote, 1, 0) };
    [traced, number(read < 0)]
}

fn tracing_inside() {
    const TEST: &str = "tracing_inside";
    if role().is_some() {
        // SAFETY: takes nothing; the child only sleeps.
        let child = unsafe { libc::fork() };
        if child == 0 {
            loop {
                // SAFETY: takes nothing.
                unsafe { libc::pause() };
            }
        }
        print!("{:?}", trace(child));
        exit(0);
    }
    assert_eq!(succeed(myself(&Sandbox::new().allow_debugging(), TEST, "inside")), "[0, 0]");
    let no = libc::EPERM;
    let refused = succeed(myself(&Sandbox::new(), TEST, "inside"));
    assert_eq!(refused, format!("{:?}", [no, no]));
}

fn init_is_not_traced() {
    if role().is_some() {
        print!("{:?}", trace(1));
        exit(0);
    }
    for sandbox in [Sandbox::new(), Sandbox::new().uid(0).gid(0)] {
        let sandbox = sandbox.allow_debugging();
        let told = succeed(myself(&sandbox, "init_is_not_traced", "inside"));
        assert_eq!(told, format!("{:?}", [libc::EPERM; 2]));
    }
}

/// Even where it has a number inside, and is the same user's.
fn nobody_outside_is_traced() {
    if let Some(pid) = role() {
        print!("{:?}", trace(pid.parse().unwrap()));
        exit(0);
    }
    let mut victim = std::process::Command::new("sleep");
    if is_root() {
        std::os::unix::process::CommandExt::uid(&mut victim, 65534);
        std::os::unix::process::CommandExt::gid(&mut victim, 65534);
    }
    let mut victim = victim.arg("1000").spawn().unwrap();
    let sandbox = Sandbox::new().namespaces(Namespaces::all() - Namespaces::PID);
    let sandbox = sandbox.without_atomic_end().allow_debugging();
    let pid = victim.id().to_string();
    let told = succeed(myself(&sandbox, "nobody_outside_is_traced", &pid));
    assert_eq!(told, format!("{:?}", [libc::EPERM; 2]));
    victim.kill().unwrap();
    victim.wait().unwrap();
}

fn addresses() {
    let script = "for n in 1 2 3; do setarch -R grep stack /proc/self/maps; done | sort -u | wc -l";
    assert_eq!(sh(&Sandbox::new().allow_debugging(), script), "1\n");
    let refused = shell(&Sandbox::new(), "setarch -R true");
    assert!(!refused.outcome.is_success(), "{refused:?}");
}

fn the_strict_profile() {
    let strict = Sandbox::new().seccomp(Seccomp::strict());
    assert!(!shell(&strict, "setarch -R true").outcome.is_success());
    sh(&strict.allow_debugging(), "setarch -R true");
}

/// A new one, and no way to one that is there.
fn keyrings() {
    const TEST: &str = "keyrings";
    if role().is_some() {
        let answer =
            |result| if result < 0 { IoError::last_os_error().raw_os_error().unwrap() } else { 0 };
        // SAFETY: no address is given.
        let new = unsafe { libc::syscall(libc::SYS_keyctl, 1, 0) };
        let new = answer(new);
        // SAFETY: the name ends in NUL.
        let named = unsafe { libc::syscall(libc::SYS_keyctl, 1, c"stockade".as_ptr()) };
        let named = answer(named);
        // SAFETY: takes numbers.
        let users = unsafe { libc::syscall(libc::SYS_keyctl, 0, -4, 0) };
        print!("{:?}", [new, named, answer(users)]);
        exit(0);
    }
    let no = libc::EPERM;
    for (sandbox, first) in [(Sandbox::new().allow_nesting(), 0), (Sandbox::new(), no)] {
        assert_eq!(succeed(myself(&sandbox, TEST, "inside")), format!("{:?}", [first, no, no]));
    }
}
