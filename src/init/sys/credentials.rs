//! What a process may do: ids, groups, capabilities, keyring, filters, rulesets.

use super::{Fd, Outcome, ask, code, poll};
use crate::abi::*;
use crate::raw::nr;
use crate::wire::{Call, Fault};

plain! {
    landlock_restrict(ruleset: i32, flags: u32) = LANDLOCK_RESTRICT_SELF, Restrict;
    setresgid(real: u32, effective: u32, saved: u32) = SETRESGID, Gid;
    setresuid(real: u32, effective: u32, saved: u32) = SETRESUID, Uid;
}

/// setgroups(2) to none.
pub(crate) fn drop_groups() -> Outcome {
    with_pointers!(Call::Groups, SETGROUPS, 0, core::ptr::null::<u32>()).map(drop)
}

/// capget(2) of the caller: the permitted set.
pub(crate) fn permitted() -> Outcome<u64> {
    let header = [0x2008_0522u32, 0];
    let mut data = [0u32; 6];
    with_pointers!(Call::Capabilities, CAPGET, header.as_ptr(), data.as_mut_ptr())?;
    Ok(u64::from(data[1]) | u64::from(data[4]) << 32)
}

/// capset(2) on the caller.
pub(crate) fn capset(effective: u64, permitted: u64, inheritable: u64) -> Outcome {
    let header = [0x2008_0522u32, 0];
    let low = |set: u64| set as u32;
    let high = |set: u64| (set >> 32) as u32;
    let data = [
        low(effective),
        low(permitted),
        low(inheritable),
        high(effective),
        high(permitted),
        high(inheritable),
    ];
    with_pointers!(Call::Capabilities, CAPSET, header.as_ptr(), data.as_ptr()).map(drop)
}

/// keyctl(2): `KEYCTL_JOIN_SESSION_KEYRING` with an anonymous keyring. Those of sandboxes that have ended
/// count until the kernel has collected them, some milliseconds later: it is waited for, a fifth of a second at most.
pub(crate) fn new_session_keyring() -> Outcome {
    let mut patience = 20;
    loop {
        match with_pointers!(Call::Keyring, KEYCTL, 1, core::ptr::null::<u8>()) {
            Err(Fault { errno, .. }) if errno.0 == EDQUOT && patience > 0 => {
                patience -= 1;
                poll(&mut [], 10_000_000);
            }
            other => return other.map(drop),
        }
    }
}

/// Installs a system call filter on the calling thread; `filter` is a `sock_filter` array. With
/// `SECCOMP_FILTER_FLAG_NEW_LISTENER` in `flags`, gives what it asks with.
pub(crate) fn install_filter(filter: &[u8], flags: usize) -> Outcome<u32> {
    #[repr(C)]
    struct Program {
        length: u16,
        filter: *const u8,
    }
    let program = Program { length: (filter.len() / 8) as u16, filter: filter.as_ptr() };
    with_pointers!(Call::Filter, SECCOMP, SECCOMP_SET_MODE_FILTER, flags, &raw const program)
}

/// A Landlock ruleset; `handled` is a `struct landlock_ruleset_attr`.
pub(crate) fn landlock_ruleset(handled: &[u8]) -> Outcome<Fd> {
    let (from, size) = (handled.as_ptr(), handled.len());
    with_pointers!(Call::Ruleset, LANDLOCK_CREATE_RULESET, from, size, 0).map(|fd| Fd(fd as i32))
}

/// Allows `access` beneath `fd`.
pub(crate) fn landlock_beneath(ruleset: i32, fd: i32, access: u64) -> Outcome {
    #[repr(C, packed)]
    struct Beneath(u64, i32);
    let rule = Beneath(access, fd);
    with_pointers!(Call::Rule, LANDLOCK_ADD_RULE, ruleset, 1, &raw const rule, 0).map(drop)
}

/// A rule: in 8 bytes its kind, and the kernel's struct of that.
pub(crate) fn landlock_rule(ruleset: i32, rule: &[u8; 24]) -> Outcome {
    let (kind, attributes) = (rule[0], rule[8..].as_ptr());
    with_pointers!(Call::Rule, LANDLOCK_ADD_RULE, ruleset, kind, attributes, 0).map(drop)
}
