//! Capabilities: none by default, kept by name, and never gained by exec.
#![allow(
    clippy::exit,
    clippy::incompatible_msrv,
    reason = "a test process, built by a current toolchain"
)]
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

use common::Needs;
use inside::{field_of, sh, status_field, succeed};
use stockade::{Capabilities, Capability, Sandbox};

tests! {
    Needs::Nothing => [
        none_by_default, kept_over_exec, known_numbers_only, port_80, no_new_privileges,
        new_privileges_by_name, none_for_root_inside,
    ];
}

const SETS: [&str; 5] = ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"];

/// The five sets of a running program, as the host sees them and as it does itself.
fn sets(sandbox: &Sandbox) -> [u64; 5] {
    let child = sandbox.command("sleep").arg("1000").spawn().unwrap();
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
