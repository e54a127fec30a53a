//! Capabilities: none by default, kept by name, and never gained by exec.
#![allow(
    clippy::exit,
    clippy::incompatible_msrv,
    reason = "a test process, built by a current toolchain"
)]
#![allow(unsafe_code, reason = "system calls that the program makes")]
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

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

use common::Needs;
use common::ways::Ways;
use inside::{field_of, myself, role, sh, status_field, succeed};
use stockade::{Capabilities, Capability, CapabilitySet, Outcome, Sandbox};

tests_in_all_ways! {
    Needs::Nothing => [
        none_by_default, kept_over_exec, known_numbers_only, port_80, no_new_privileges,
        new_privileges_by_name, none_for_root_inside, sets_that_differ,
        effective_and_permitted_count_until_the_exec, securebits_are_locked,
    ];
    Needs::Root => [file_capabilities_do_nothing];
}

const SETS: [&str; 5] = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];

/// The five sets of a running program, as the host sees them and as it does itself.
fn sets(sandbox: &Sandbox) -> [u64; 5] {
    let child = sandbox.way_to("sleep").arg("1000").spawn().unwrap();
    let outside = SETS.map(|set| status_field(child.program_id().unwrap(), set));
    let text = sh(sandbox, "exec cat /proc/self/status");
    assert_eq!(SETS.map(|set| field_of(&text, set)), outside);
    outside.map(|hex| u64::from_str_radix(&hex, 16).unwrap())
}

fn none_by_default() {
    for init in [true, false] {
        assert_eq!(sets(&Sandbox::new().init(init)), [0; 5]);
    }
}

fn none_for_root_inside() {
    assert_eq!(sets(&Sandbox::new().uid(0).gid(0)), [0; 5]);
}

fn kept_over_exec() {
    let kept = Capabilities::keep([Capability::NET_BIND_SERVICE]);
    assert_eq!(sets(&Sandbox::new().capabilities(kept)), [1 << 10; 5]);
}

fn known_numbers_only() {
    // The kernel may know more than the crate: none of those is left either.
    let last = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").unwrap();
    assert!(last.trim().parse::<u32>().unwrap() < 64);
    assert_eq!(sets(&Sandbox::new())[3], 0);
}

fn port_80() {
    const TEST: &str = "port_80";
    if let Some(role) = inside::role() {
        let bound = std::net::TcpListener::bind("127.0.0.1:80");
        assert_eq!(bound.is_ok(), role == "may", "{bound:?}");
        return;
    }
    succeed(inside::myself(&Sandbox::new(), TEST, "may not"));
    let kept = Capabilities::keep([Capability::NET_BIND_SERVICE]);
    succeed(inside::myself(&Sandbox::new().capabilities(kept), TEST, "may"));
}

fn flag(sandbox: &Sandbox) -> String {
    field_of(&sh(sandbox, "cat /proc/self/status"), "NoNewPrivs")
}

fn no_new_privileges() {
    assert_eq!(flag(&Sandbox::new()), "1");
    assert_eq!(flag(&Sandbox::new().init(false)), "1");
}

fn new_privileges_by_name() {
    let sandbox = Sandbox::new().allow_new_privileges();
    assert_eq!(flag(&sandbox), "0");
    assert_eq!(sets(&sandbox), [0; 5]);
}

// ---- sets that differ --------------------------------------------------------------------------

const ALL: [Capability; 5] = [
    Capability::KILL,
    Capability::CHOWN,
    Capability::NET_RAW,
    Capability::SYS_CHROOT,
    Capability::NET_BIND_SERVICE,
];

/// What a program has after its exec, by execve(2)'s formula for a file without capabilities.
fn after_exec(sets: &Capabilities) -> [u64; 5] {
    let ambient = sets.ambient();
    [sets.inheritable(), ambient, ambient, sets.bounding(), ambient].map(CapabilitySet::bits)
}

fn sets_that_differ() {
    let kept = Capabilities::keep(ALL);
    let [kill, chown, raw, chroot, _] = ALL;
    let all_different = kept
        .narrow_permitted([kill, chown, raw, chroot])
        .narrow_effective([kill])
        .narrow_inheritable([kill, chown, raw])
        .narrow_ambient([kill, chown]);
    let distinct = [
        all_different.bounding(),
        all_different.permitted(),
        all_different.effective(),
        all_different.inheritable(),
        all_different.ambient(),
    ];
    assert_eq!(distinct.map(|set| set.iter().count()), [5, 4, 1, 3, 2]);
    for wanted in [
        all_different,
        kept.narrow_bounding([kill, chown]),
        kept.narrow_permitted([raw]),
        kept.narrow_permitted([]),
        kept.narrow_effective([]),
        kept.narrow_inheritable([chroot]),
        kept.narrow_inheritable([]),
        kept.without_ambient(),
        kept.without_ambient().narrow_permitted([]).narrow_inheritable([]),
    ] {
        for init in [true, false] {
            let sandbox = Sandbox::new().init(init);
            assert_eq!(sets(&sandbox.capabilities(wanted)), after_exec(&wanted), "{wanted:?}");
            // Without no_new_privs, and as root inside, no set is another one.
            let sandbox = Sandbox::new().init(init).allow_new_privileges().uid(0).gid(0);
            assert_eq!(sets(&sandbox.capabilities(wanted)), after_exec(&wanted), "{wanted:?}");
        }
    }
}

/// The kernel asks the effective set whether a file that its owner may not execute is executed.
fn effective_and_permitted_count_until_the_exec() {
    let program = std::fs::read("/bin/true").unwrap();
    let run = |capabilities: Capabilities| {
        let sandbox = Sandbox::new().file_with_mode("/srv/true", program.clone(), 0o010);
        let status = sandbox.capabilities(capabilities).way_to("/srv/true").status();
        status.map(|status| status.outcome).map_err(|error| error.raw_os_error())
    };
    let kept = Capabilities::keep([Capability::DAC_OVERRIDE]);
    let refused = Err(Some(libc::EACCES));
    assert_eq!(run(kept), Ok(Outcome::Exited(0)));
    assert_eq!(run(kept.without_ambient().narrow_inheritable([])), Ok(Outcome::Exited(0)));
    assert_eq!(run(kept.narrow_effective([])), refused);
    assert_eq!(run(kept.narrow_permitted([])), refused);
    assert_eq!(run(Capabilities::none()), refused);
}

// ---- securebits --------------------------------------------------------------------------------

/// prctl(2) with numbers: its result, or the error number.
fn prctl(option: i32, second: u64, third: u64) -> Result<i32, i32> {
    // SAFETY: the options that are used here take numbers.
    match unsafe { libc::prctl(option, second, third, 0u64, 0u64) } {
        -1 => Err(std::io::Error::last_os_error().raw_os_error().unwrap()),
        result => Ok(result),
    }
}

/// `NOROOT`, `NO_SETUID_FIXUP` and `NO_CAP_AMBIENT_RAISE`, and the locks of these and `KEEP_CAPS`.
const LOCKED: i32 = 0b1110_1111;

/// CAP_SETPCAP is kept, so that it is the locks alone that refuse.
fn securebits_are_locked() {
    if role().is_some() {
        assert_eq!(prctl(libc::PR_GET_SECUREBITS, 0, 0), Ok(LOCKED));
        assert_eq!(prctl(libc::PR_SET_SECUREBITS, LOCKED as u64, 0), Ok(0), "what is, may be set");
        for bit in 0..8 {
            let changed = (LOCKED ^ 1 << bit) as u64;
            assert_eq!(prctl(libc::PR_SET_SECUREBITS, changed, 0), Err(libc::EPERM), "bit {bit}");
        }
        assert_eq!(prctl(libc::PR_SET_SECUREBITS, 0, 0), Err(libc::EPERM));
        assert_eq!(prctl(libc::PR_SET_KEEPCAPS, 1, 0), Err(libc::EPERM));
        let (raise, lower) = (libc::PR_CAP_AMBIENT_RAISE, libc::PR_CAP_AMBIENT_LOWER);
        let setpcap = u64::from(Capability::SETPCAP.number());
        let ambient = |what: i32| prctl(libc::PR_CAP_AMBIENT, what as u64, setpcap);
        assert_eq!(ambient(libc::PR_CAP_AMBIENT_IS_SET), Ok(1));
        assert_eq!(ambient(lower), Ok(0));
        assert_eq!(ambient(raise), Err(libc::EPERM), "it is permitted and inheritable");
        assert_eq!(prctl(libc::PR_GET_SECUREBITS, 0, 0), Ok(LOCKED));
        return;
    }
    assert_eq!(prctl(libc::PR_GET_SECUREBITS, 0, 0), Ok(0), "outside there are none");
    let kept = Sandbox::new().capabilities([Capability::SETPCAP]);
    for sandbox in [kept.clone(), kept.clone().init(false), kept.clone().uid(0).gid(0)] {
        succeed(myself(&sandbox, "securebits_are_locked", "program"));
        succeed(myself(&sandbox.allow_new_privileges(), "securebits_are_locked", "program"));
    }
}

// ---- file capabilities -------------------------------------------------------------------------

/// Gives a file a permitted and effective capability, as setcap(8) does.
fn set_file_capability(path: &Path, capability: Capability) {
    // vfs_cap_data, version 2, effective; then permitted and inheritable, twice.
    let words = [0x0200_0001u32, 1 << capability.number(), 0, 0, 0];
    let data: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let path = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
    let (name, value) = (c"security.capability".as_ptr(), data.as_ptr().cast());
    // SAFETY: path and name end in NUL, and the value has the length that is passed along.
    let result = unsafe { libc::setxattr(path.as_ptr(), name, value, data.len(), 0) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}

/// A copy of a program that shows its own sets, with a capability.
fn capable_program(directory: &Path) -> PathBuf {
    let program = directory.join("show");
    std::fs::copy("/bin/cat", &program).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    set_file_capability(&program, Capability::NET_RAW);
    program
}

fn gained(status: &str) -> [u64; 2] {
    ["CapPrm", "CapEff"].map(|set| u64::from_str_radix(&field_of(status, set), 16).unwrap())
}

fn file_capabilities_do_nothing() {
    let directory = inside::open_directory();
    let program = capable_program(directory.path());
    let mut outside = std::process::Command::new(&program);
    let outside = outside.arg("/proc/self/status").uid(65534).gid(65534).output().unwrap();
    let raw = 1 << Capability::NET_RAW.number();
    assert_eq!(gained(&String::from_utf8_lossy(&outside.stdout)), [raw; 2], "outside it works");
    // In the bounding set, so that only what is about files refuses it. For root inside, what the
    // caller's file has would be the sandbox's: the bind shows it as owned by that root.
    let may = Capabilities::keep([Capability::NET_RAW]).narrow_permitted([]).narrow_inheritable([]);
    let show = |sandbox: Sandbox| {
        let sandbox = sandbox.capabilities(may).bind_ro(directory.path(), "/srv");
        let status = succeed(sandbox.way_to("/srv/show").arg("/proc/self/status"));
        assert_eq!(field_of(&status, "CapBnd"), format!("{raw:016x}"));
        gained(&status)
    };
    for init in [true, false] {
        let as_root = Sandbox::new().init(init).uid(0).gid(0);
        for sandbox in [Sandbox::new().init(init), as_root.clone(), as_root.as_host_root()] {
            assert_eq!(show(sandbox.clone()), [0; 2]);
            assert_eq!(show(sandbox.allow_new_privileges()), [0; 2]);
        }
    }
}
