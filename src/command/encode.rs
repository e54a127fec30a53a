//! The program's part of what init is told.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
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

    /// The encoded program part of the plan, and the filter that is in it.
    pub(super) fn encode(
        &self,
        policy: &Policy,
        plan: &Plan,
        pairs: &[(BorrowedFd<'_>, RawFd)],
        cpu_usage: Option<&OwnedFd>,
        check_only: bool,
    ) -> Result<(Vec<u8>, Arc<Assembled>)> {
        let texts = |texts: &[&OsString]| -> Vec<Vec<u8>> {
            texts.iter().map(|text| text.as_bytes().to_vec()).collect()
        };
        let mut argv = texts(&[self.arg0.as_ref().unwrap_or(&self.program)]);
        argv.extend(self.args.iter().map(|arg| arg.as_bytes().to_vec()));
        let pair = |(key, value): (&OsString, &Secret<OsString>)| {
            [key.as_bytes(), b"=", value.as_bytes()].concat()
        };
        let mut descriptors = Vec::new();
        for (source, target) in pairs {
            descriptors.extend(source.as_raw_fd().to_ne_bytes());
            descriptors.extend(target.to_ne_bytes());
        }
        let sets = &policy.capabilities;
        let nanos = |time: std::time::Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let (first, operations) = plan.encode_own();
        let given = pairs.iter().map(|&(source, target)| Given::look(source, target));
        let given = given.collect::<Result<Vec<_>>>()?;
        let journaled = policy.is_journaled() && !check_only;
        let filters = policy.filter(given.iter().any(Given::writes_to_host), journaled);
        let filters = filters.map_err(Error::Invalid)?;
        // Without init nobody could tell that they are in place, nor that they are not.
        let tried = !check_only || filters.allow_report;
        let filter =
            |at: usize| filters.programs.0.get(at).filter(|_| tried).cloned().unwrap_or_default();
        let powerless = user::is_powerless(policy);
        let program = Program {
            first,
            operations,
            flags: self.flags(policy, plan, check_only)
                | if filters.allow_setup { 0 } else { wire::FILTERS_LAST }
                | match filters.listener.filter(|_| policy.init && !check_only) {
                    None => 0,
                    Some(Listener::Init) => wire::LISTENS,
                    Some(Listener::Caller) => wire::LISTENS | wire::CALLER_LISTENS,
                    Some(Listener::Journal) => {
                        wire::LISTENS
                            | wire::CALLER_LISTENS
                            | if sys::filters_wait_killable() { wire::KILLABLE } else { 0 }
                    }
                },
            umask: self.umask,
            nice: policy.nice,
            // What cannot be changed is not tried: it would be an error.
            securebits: if powerless { 0 } else { securebits() },
            bounding: if powerless { u64::MAX } else { sets.bounding().bits() },
            permitted: sets.permitted().bits(),
            effective: sets.effective().bits(),
            inheritable: sets.inheritable().bits(),
            ambient: sets.ambient().bits(),
            wall: policy.wall.map_or(0, nanos),
            grace: nanos(policy.grace),
            linger: nanos(policy.linger),
            cpu_time: policy.limits.cpu_time.filter(|_| cpu_usage.is_some()).map_or(0, nanos),
            cpus: cpu_usage.map_or(1, |_| sys::cpus()),
            cpu_fd: cpu_usage.map_or(-1, AsRawFd::as_raw_fd),
            directory: self.directory_inside(policy).into_os_string().into_vec(),
            rlimits: self.rlimits(policy)?,
            descriptors,
            filter: filter(0),
            second_filter: filter(1),
            ruleset: plan.ruleset.handled(),
            ruleset_flags: plan.ruleset.flags(),
            places: plan.ruleset.places(),
            rules: plan.ruleset.rules(&given),
            candidates: self.candidates(),
            argv,
            envp: self.env.iter().map(pair).collect::<Vec<Vec<u8>>>(),
        };
        let mut out = Vec::with_capacity(8 << 10);
        program.put(&mut out);
        Ok((out, filters))
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

    fn flags(&self, policy: &Policy, plan: &Plan, check_only: bool) -> u32 {
        let mut flags = 0;
        for (on, flag) in [
            (policy.init && !check_only, wire::SUPERVISED),
            (policy.new_privileges, wire::NEW_PRIVILEGES),
            (self.terminal, wire::CONTROLLING_TERMINAL),
            (self.pty.is_some(), wire::PTY),
            (check_only, wire::CHECK_ONLY),
            (policy.has_own_pids(), wire::OWN_PIDS),
            (plan.ruleset.queues, wire::QUEUES),
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

/// `NOROOT`, `NO_SETUID_FIXUP` and `NO_CAP_AMBIENT_RAISE`, and all four of them locked.
fn securebits() -> u32 {
    const NOROOT: u32 = 1;
    const NO_SETUID_FIXUP: u32 = 1 << 2;
    const NO_CAP_AMBIENT_RAISE: u32 = 1 << 6;
    const LOCKS: u32 = 1 << 1 | 1 << 3 | 1 << 5 | 1 << 7;
    NOROOT | NO_SETUID_FIXUP | NO_CAP_AMBIENT_RAISE | LOCKS
}
