//! The small system call filter of every sandbox; [seccomp(2)](https://man7.org/linux/man-pages/man2/seccomp.2.html).
//!
//! It closes what namespaces and capabilities leave open: a nested user namespace, in which a full
//! /proc could be mounted, and the limits and scheduling of init, which a program of the same uid
//! could lower.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Length, SeccompCmpOp as Compare,
    SeccompCondition as Condition, SeccompFilter, SeccompRule as Rule, TargetArch, sock_filter,
};

use crate::abi::{CLONE_NEWUSER, EPERM};
use crate::error::{Error, Result};

/// What the filter is to forbid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Filter {
    /// New user namespaces, and entering any namespace.
    pub(crate) nesting: bool,
    /// Limits and scheduling of PID 1.
    pub(crate) init: bool,
}

/// `PRIO_PGRP` and `IOPRIO_WHO_PGRP` are the number after the one for a process, the user's next.
const PRIO_PROCESS: u64 = 0;
const IOPRIO_PROCESS: u64 = 1;
/// `AUDIT_ARCH_…` of the machine that this is compiled for.
#[cfg(target_arch = "x86_64")]
const NATIVE: u32 = 0xC000_003E;
/// `AUDIT_ARCH_…` of the machine that this is compiled for.
#[cfg(target_arch = "aarch64")]
const NATIVE: u32 = 0xC000_00B7;
/// `AUDIT_ARCH_…` of the machine that this is compiled for.
#[cfg(target_arch = "riscv64")]
const NATIVE: u32 = 0xC000_00F3;
/// Set in the number of every x32 call.
const X32: u32 = 0x4000_0000;

impl Filter {
    /// The program as bytes, empty if nothing is forbidden; assembled once for each combination.
    pub(crate) fn bytes(self) -> Result<Vec<u8>> {
        static MADE: [OnceLock<Vec<u8>>; 4] = [const { OnceLock::new() }; 4];
        let slot = &MADE[usize::from(self.nesting) * 2 + usize::from(self.init)];
        if let Some(made) = slot.get() {
            return Ok(made.clone());
        }
        let made = if self.nesting || self.init { self.assemble()? } else { Vec::new() };
        Ok(slot.get_or_init(|| made).clone())
    }

    fn assemble(self) -> Result<Vec<u8>> {
        let failed = |error: seccompiler::BackendError| {
            Error::Invalid(vec![format!("the system call filter cannot be assembled: {error}")])
        };
        let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(failed)?;
        let (allow, deny) = (SeccompAction::Allow, SeccompAction::Errno(EPERM.unsigned_abs()));
        let rules = self.rules().map_err(failed)?;
        let calls: Vec<_> = rules.keys().filter_map(|&call| u32::try_from(call).ok()).collect();
        let filter = SeccompFilter::new(rules, allow, deny, arch).map_err(failed)?;
        let program = BpfProgram::try_from(filter).map_err(failed)?;
        let prefix = self.shortcut(&calls);
        Ok(prefix.into_iter().chain(program).flat_map(to_bytes).collect())
    }

    fn rules(self) -> Result<BTreeMap<i64, Vec<Rule>>, seccompiler::BackendError> {
        let mut rules = BTreeMap::new();
        let flag = |argument| {
            let mask = Compare::MaskedEq(CLONE_NEWUSER as u64);
            condition(argument, mask, CLONE_NEWUSER as u64)
        };
        let equals = |argument, value: u64| condition(argument, Compare::Eq, value);
        if self.nesting {
            rules.insert(libc::SYS_clone, vec![Rule::new(vec![flag(0)?])?]);
            rules.insert(libc::SYS_unshare, vec![Rule::new(vec![flag(0)?])?]);
            rules.insert(libc::SYS_setns, Vec::new());
        }
        if self.init {
            for call in [
                libc::SYS_prlimit64,
                libc::SYS_sched_setaffinity,
                libc::SYS_sched_setattr,
                libc::SYS_sched_setparam,
                libc::SYS_sched_setscheduler,
            ] {
                rules.insert(call, vec![Rule::new(vec![equals(0, 1)?])?]);
            }
            for (call, process) in
                [(libc::SYS_setpriority, PRIO_PROCESS), (libc::SYS_ioprio_set, IOPRIO_PROCESS)]
            {
                rules.insert(
                    call,
                    vec![
                        Rule::new(vec![equals(0, process)?, equals(1, 1)?])?,
                        Rule::new(vec![equals(0, process + 1)?, equals(1, 1)?])?,
                        // By user: init may be one of its processes.
                        Rule::new(vec![equals(0, process + 2)?])?,
                    ],
                );
            }
        }
        Ok(rules)
    }

    /// What comes before the library's filter, and decides most calls in a few steps. At every
    /// installation the kernel runs the filter once for each call that there is, so this is what
    /// the installation costs.
    ///
    /// `ENOSYS` for all x32 calls, which would bypass every rule by their number, and for clone3,
    /// whose flags a filter cannot see (libc then uses clone). That comes before the check of the
    /// architecture: for a foreign one it can only refuse more. A call without a rule is allowed;
    /// the others, and foreign architectures, are left to the library's filter.
    fn shortcut(self, calls: &[u32]) -> Vec<sock_filter> {
        const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
        const EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
        const AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
        const ANSWER: u16 = 0x06; // BPF_RET | BPF_K
        const NUMBER: u32 = 0; // offsetof(seccomp_data, nr)
        const ARCH: u32 = 4; // offsetof(seccomp_data, arch)
        let statement = |code, jt, jf, k| sock_filter { code, jt, jf, k };
        // A number that no call has stands for "none".
        let clone3 = u32::try_from(libc::SYS_clone3).unwrap_or(u32::MAX);
        let clone3 = if self.nesting { clone3 } else { u32::MAX };
        let refusal = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs();
        let (first, last) = (calls.first().copied(), calls.last().copied());
        // Behind the checks of single calls: the answer "allowed", then the library's filter.
        let rest = u8::try_from(calls.len()).unwrap_or(u8::MAX);
        let mut program = vec![
            statement(LOAD, 0, 0, NUMBER),
            statement(AT_LEAST, 1, 0, X32),
            statement(EQUAL, 0, 1, clone3),
            statement(ANSWER, 0, 0, refusal),
            statement(LOAD, 0, 0, ARCH),
            statement(EQUAL, 0, 4 + rest, NATIVE),
            statement(LOAD, 0, 0, NUMBER),
            statement(AT_LEAST, 0, 1 + rest, first.unwrap_or(u32::MAX)),
            statement(AT_LEAST, rest, 0, last.map_or(u32::MAX, |last| last + 1)),
        ];
        for (call, left) in calls.iter().zip((0..rest).rev()) {
            program.push(statement(EQUAL, left + 1, 0, *call));
        }
        program.push(statement(ANSWER, 0, 0, libc::SECCOMP_RET_ALLOW));
        program
    }
}

fn condition(
    argument: u8,
    compare: Compare,
    value: u64,
) -> Result<Condition, seccompiler::BackendError> {
    Condition::new(argument, Length::Dword, compare, value)
}

fn to_bytes(one: sock_filter) -> [u8; 8] {
    let (code, k) = (one.code.to_ne_bytes(), one.k.to_ne_bytes());
    [code[0], code[1], one.jt, one.jf, k[0], k[1], k[2], k[3]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_forbidden_is_no_filter() {
        assert!(Filter { nesting: false, init: false }.bytes().unwrap().is_empty());
    }

    #[test]
    fn every_combination_assembles() {
        for (nesting, init) in [(true, true), (true, false), (false, true)] {
            let bytes = Filter { nesting, init }.bytes().unwrap();
            assert!(bytes.len() > 8 * 8 && bytes.len() % 8 == 0);
        }
    }
}
