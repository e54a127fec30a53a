//! The program's part of what init is told.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::sync::Arc;

use super::Command;
use crate::error::{Error, Result, Stage};
use crate::given::Given;
use crate::namespace::{Namespaces, user};
use crate::plan::Plan;
use crate::policy::Policy;
use crate::rlimit::{Max, Resource};
use crate::seccomp::{Assembled, Listener};
use crate::secret::Secret;
use crate::spawn::{Count, Role};
use crate::sys;
use crate::wire::{self, Program, Put};

impl Command {
    /// The PATH inside.
    pub(super) fn search(&self) -> OsString {
        self.env.get(OsStr::new("PATH")).map_or_else(OsString::new, |path| path.0.clone())
    }

    /// The paths that are tried: one, or the name in each directory of the sandbox's PATH.
    pub(super) fn candidates(&self) -> Vec<Vec<u8>> {
        let name = self.program.as_bytes();
        if name.contains(&b'/') {
            return vec![name.to_vec()];
        }
        let path = self.env.get(OsStr::new("PATH")).map_or(&b""[..], |path| path.as_bytes());
        let directories = path.split(|&byte| byte == b':').filter(|part| !part.is_empty());
        // Without a PATH there are none: the name alone would be looked for in the directory that
        // the program starts in.
        directories.map(|part| [part, b"/", name].concat()).collect()
    }

    /// The encoded program part of the plan, and the filter that is in it. Where so many are `handed` over,
    /// descriptors have numbers of their own in init.
    pub(super) fn encode(
        &self,
        policy: &Policy,
        plan: &Plan,
        pairs: &[(BorrowedFd<'_>, RawFd)],
        cpu_fd: Option<RawFd>,
        role: Role,
        handed: Option<usize>,
    ) -> Result<(Vec<u8>, Arc<Assembled>)> {
        let sets = &policy.capabilities;
        let nanos = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let later = matches!(role, Role::Later(_));
        let (first, operations) = if later { (0, Vec::new()) } else { plan.encode_own() };
        let inherits_rules = role == Role::Later(Count::Any);
        // Where neither rules nor the filter depend on it, nobody looks.
        let given = given(if inherits_rules { &[] } else { pairs }, handed.is_some())?;
        let filters = filters(policy, role, &given)?;
        let installs = installs(role, &filters);
        let filter = |at: usize| {
            filters.programs.0.get(at).filter(|_| installs).cloned().unwrap_or_default()
        };
        let listener = filters.listener.filter(|_| installs && policy.init && role.has_program());
        let powerless = user::is_powerless(policy);
        let program = Program {
            first,
            operations,
            flags: self.flags(policy, plan, role)
                | if filters.allow_setup { 0 } else { wire::FILTERS_LAST }
                | listener.map_or(0, listening),
            umask: self.umask,
            nice: policy.nice,
            // What cannot be changed is not tried: it would be an error.
            securebits: if powerless { 0 } else { securebits() },
            bounding: if powerless { u64::MAX } else { sets.bounding().bits() },
            permitted: sets.permitted().bits(),
            effective: sets.effective().bits(),
            inheritable: sets.inheritable().bits(),
            ambient: sets.ambient().bits(),
            wall: self.wall().map_or(0, nanos),
            grace: nanos(policy.grace),
            linger: nanos(policy.linger),
            cpu_time: policy.limits.cpu_time.filter(|_| cpu_fd.is_some()).map_or(0, nanos),
            cpus: cpu_fd.map_or(1, |_| sys::cpus()),
            cpu_fd: cpu_fd.unwrap_or(-1),
            handed: handed.map_or(0, |count| u32::try_from(count).unwrap_or(u32::MAX)),
            directory: self.directory_inside(policy).into_os_string().into_vec(),
            rlimits: self.rlimits(policy)?,
            descriptors: numbers(pairs, handed.is_some()),
            filter: filter(0),
            second_filter: filter(1),
            ruleset: if inherits_rules { Vec::new() } else { plan.ruleset.handled() },
            ruleset_flags: plan.ruleset.flags(),
            places: if later { Vec::new() } else { plan.ruleset.places() },
            rules: if inherits_rules { Vec::new() } else { plan.ruleset.rules(&given) },
            candidates: self.candidates(),
            argv: self.argv(),
            envp: self.envp(),
        };
        let mut out = Vec::with_capacity(8 << 10);
        program.put(&mut out);
        Ok((out, filters))
    }

    fn argv(&self) -> Vec<Vec<u8>> {
        let first = self.arg0.as_ref().unwrap_or(&self.program);
        [first].into_iter().chain(&self.args).map(|text| text.as_bytes().to_vec()).collect()
    }

    fn envp(&self) -> Vec<Vec<u8>> {
        let pair = |(key, value): (&OsString, &Secret<OsString>)| {
            [key.as_bytes(), b"=", value.as_bytes()].concat()
        };
        self.env.iter().map(pair).collect()
    }

    /// Where the program starts: HOME, if there is one and nothing else was asked for.
    pub(super) fn directory_inside(&self, policy: &Policy) -> PathBuf {
        match &self.directory {
            Some(directory) => directory.clone(),
            None if policy.new_namespaces().contains(Namespaces::MOUNT) => {
                policy.tree.home().into()
            }
            None => PathBuf::from("/"),
        }
    }

    fn flags(&self, policy: &Policy, plan: &Plan, role: Role) -> u32 {
        let mut flags = 0;
        let (waits, later) = (matches!(role, Role::Waiting(_)), matches!(role, Role::Later(_)));
        let once = matches!(role, Role::Waiting(Count::One) | Role::Later(Count::One));
        for (on, flag) in [
            (policy.init && role.has_program(), wire::SUPERVISED),
            (role == Role::Template, wire::TEMPLATE),
            (waits || later, wire::PARKED),
            (once, wire::ONCE),
            (policy.new_privileges, wire::NEW_PRIVILEGES),
            (self.terminal, wire::CONTROLLING_TERMINAL),
            (self.pty.is_some(), wire::PTY),
            (role == Role::Check, wire::CHECK_ONLY),
            (policy.has_own_pids() && !role.is_in_anothers(), wire::OWN_PIDS),
            (plan.ruleset.queues && !later, wire::QUEUES),
        ] {
            flags |= if on { flag } else { 0 };
        }
        flags
    }

    fn rlimits(&self, policy: &Policy) -> Result<Vec<u8>> {
        let hard = sys::hard_limits()
            .map_err(|errno| Error::new(Stage::Prepare, "prlimit", "of the caller", errno))?;
        let limits = policy.rlimits.clamped_to(&hard.map(Max::from));
        let number = |max: Max| match max {
            Max::Unlimited => u64::MAX,
            Max::At(limit) => limit,
        };
        let mut bytes = Vec::with_capacity(256);
        for resource in Resource::ALL {
            let limit = limits.limit(resource);
            bytes.extend(number(limit.soft).to_ne_bytes());
            bytes.extend(number(limit.hard).to_ne_bytes());
        }
        Ok(bytes)
    }
}

/// The program's descriptors: each with the number that it has in init, and its own.
fn numbers(pairs: &[(BorrowedFd<'_>, RawFd)], handed: bool) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(pairs.len() * 8);
    for (number, (source, target)) in (wire::HANDED..).zip(pairs) {
        let source = if handed { number } else { source.as_raw_fd() };
        bytes.extend(source.to_ne_bytes());
        bytes.extend(target.to_ne_bytes());
    }
    bytes
}

/// What can be reached through them.
fn given(pairs: &[(BorrowedFd<'_>, RawFd)], handed: bool) -> Result<Vec<Given>> {
    let look = |(number, &(source, target))| {
        let given = Given::look(source, target)?;
        Ok(if handed { given.numbered(number) } else { given })
    };
    (wire::HANDED..).zip(pairs).map(look).collect()
}

fn filters(policy: &Policy, role: Role, given: &[Given]) -> Result<Arc<Assembled>> {
    let journaled = policy.is_journaled() && role == Role::Program;
    // What a program is given that comes later, is not known when the filter is made.
    let unknown = matches!(role, Role::Waiting(_) | Role::Later(_));
    let writes = unknown || given.iter().any(Given::writes_to_host);
    policy.filter(writes, journaled).map_err(Error::Invalid)
}

/// Whether the filters are installed for this program, and not by who started it.
fn installs(role: Role, filters: &Assembled) -> bool {
    match role {
        Role::Program | Role::Entering => true,
        // Without init nobody could tell that they are in place, nor that they are not.
        Role::Check => filters.allow_report,
        Role::Template => false,
        Role::Waiting(_) => filters.can_be_inherited,
        Role::Later(_) => !filters.can_be_inherited,
    }
}

/// The flags for who is asked by the filters.
fn listening(listener: Listener) -> u32 {
    match listener {
        Listener::Init => wire::LISTENS,
        Listener::Caller => wire::LISTENS | wire::CALLER_LISTENS,
        Listener::Journal => {
            let killable = if sys::filters_wait_killable() { wire::KILLABLE } else { 0 };
            wire::LISTENS | wire::CALLER_LISTENS | killable
        }
    }
}

/// `NOROOT`, `NO_SETUID_FIXUP` and `NO_CAP_AMBIENT_RAISE`, and all four of them locked.
fn securebits() -> u32 {
    const NOROOT: u32 = 1;
    const NO_SETUID_FIXUP: u32 = 1 << 2;
    const NO_CAP_AMBIENT_RAISE: u32 = 1 << 6;
    const LOCKS: u32 = 1 << 1 | 1 << 3 | 1 << 5 | 1 << 7;
    NOROOT | NO_SETUID_FIXUP | NO_CAP_AMBIENT_RAISE | LOCKS
}
