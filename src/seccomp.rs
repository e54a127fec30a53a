//! What a program may ask of the kernel; [seccomp(2)](https://man7.org/linux/man-pages/man2/seccomp.2.html).
//!
//! Some rules precede every profile: they close what namespaces and capabilities leave open. A nested user namespace
//! would be one in which a full /proc can be mounted, and a program of the same uid could lower the
//! limits and the scheduling of init.

mod bpf;
pub(crate) mod calls;
#[cfg(feature = "serde")]
mod oci;
mod profile;
mod rule;
mod shared;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
#[cfg(feature = "serde")]
use std::path::Path;
use std::sync::{Arc, RwLock};

pub use rule::{Action, Condition, Rule};
pub(crate) use shared::Shared;

use crate::capability::Capability;
#[cfg(feature = "serde")]
use crate::error::{Error, Result, Stage, quoted};
#[cfg(feature = "serde")]
use crate::executable::errno_of;

/// How many assembled filters are remembered.
const REMEMBERED: usize = 16;

/// Which system calls a program may make, and what it gets for the others; Linux 3.5,
/// [seccomp(2)](https://man7.org/linux/man-pages/man2/seccomp.2.html).
///
/// The default is a profile of this crate's own: what compilers, interpreters, test binaries and
/// plugins use, at least as strict as Docker's for a program without capabilities, and widened
/// by the capabilities that are kept. Refused calls answer `EPERM`; calls that are newer than the
/// crate's table, and `clone3` and `io_uring_setup`, answer `ENOSYS`, so that programs fall back. x32 and i386
/// calls do not exist.
///
/// Whatever the profile, new user namespaces, entering other namespaces, and changes to the limits
/// and scheduling of init stay forbidden, unless
/// [`allow_nesting`](crate::Sandbox::allow_nesting) and
/// [`init`](crate::Sandbox::init) say otherwise. A filter is installed just before the program
/// starts and does not bind what the sandbox itself does; only `execve`, with which it starts, has
/// to be allowed.
///
/// # Examples
///
/// ```
/// use stockade::{Sandbox, Seccomp};
///
/// let quiet = Sandbox::new().seccomp(Seccomp::strict());
/// assert!(quiet.command("/bin/true").status()?.outcome.is_success());
/// # Ok::<(), stockade::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seccomp {
    base: Base,
    /// They come before those of the base.
    rules: Vec<Rule>,
    otherwise: Option<Action>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Base {
    Default,
    Strict,
    Allow(Vec<String>),
    Deny(Vec<String>),
    None,
    Raw(Arc<[u8]>),
    #[cfg(feature = "serde")]
    Oci(Arc<oci::Profile>),
}

impl Default for Seccomp {
    fn default() -> Self {
        Seccomp::new(Base::Default)
    }
}

impl Seccomp {
    fn new(base: Base) -> Self {
        Seccomp { base, rules: Vec::new(), otherwise: None }
    }

    /// For a program that computes on its files and streams: of the default's calls no sockets but
    /// pairs, no message queues and System V memory, no watching of files, no asynchronous I/O, no changes
    /// of scheduling, and few ioctls. Capabilities do not widen it.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Sandbox, Seccomp};
    /// let sandbox = Sandbox::new().seccomp(Seccomp::strict());
    /// assert!(sandbox.command("ls").status()?.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    #[must_use]
    pub fn strict() -> Self {
        Seccomp::new(Base::Strict)
    }

    /// No profile: every call that namespaces and capabilities leave.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Sandbox, Seccomp};
    /// let sandbox = Sandbox::new().seccomp(Seccomp::none());
    /// assert!(sandbox.command("/bin/true").status()?.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    #[must_use]
    pub fn none() -> Self {
        Seccomp::new(Base::None)
    }

    /// These calls and no others. `execve` has to be among them, and what the program's loader and libc need.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Sandbox, Seccomp};
    /// let forgotten = Seccomp::allow_list(["read", "write", "exit_group"]);
    /// let error = Sandbox::new().seccomp(forgotten).command("/bin/true").spawn().unwrap_err();
    /// assert!(error.to_string().contains("execve"), "{error}");
    /// ```
    #[must_use]
    pub fn allow_list<I: IntoIterator<Item = S>, S: Into<String>>(calls: I) -> Self {
        Seccomp::new(Base::Allow(calls.into_iter().map(Into::into).collect()))
    }

    /// All calls but these, those that are newer than the table included.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Sandbox, Seccomp};
    /// let sandbox = Sandbox::new().seccomp(Seccomp::deny_list(["symlink", "symlinkat"]));
    /// let status = sandbox.command("ln").args(["-s", "x", "/tmp/link"]).status()?;
    /// assert!(!status.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    #[must_use]
    pub fn deny_list<I: IntoIterator<Item = S>, S: Into<String>>(calls: I) -> Self {
        Seccomp::new(Base::Deny(calls.into_iter().map(Into::into).collect()))
    }

    /// A ready program: an array of `struct sock_filter` (8 bytes each, at most 4096) in native byte order, as
    /// bubblewrap's `--seccomp` takes it. Rules and `otherwise` are a filter of their own beside it: of
    /// both the stricter answer holds.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Sandbox, Seccomp};
    /// // BPF_RET | BPF_K, SECCOMP_RET_ALLOW
    /// let everything = [0x06, 0, 0, 0, 0, 0, 0xff, 0x7f];
    /// let sandbox = Sandbox::new().seccomp(Seccomp::bpf(everything));
    /// assert!(sandbox.command("/bin/true").status()?.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    #[must_use]
    pub fn bpf(program: impl AsRef<[u8]>) -> Self {
        Seccomp::new(Base::Raw(program.as_ref().into()))
    }

    /// A profile as Docker, Podman and the OCI runtimes have it, Docker's `default.json` for example.
    ///
    /// `includes` and `excludes` by capability, architecture and kernel are decided by what the
    /// sandbox keeps and where it runs. Needs the feature `serde`.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if it is no such profile, or asks for what cannot be done: a listener, an
    /// action or an operator that does not exist. Unknown names of calls are told by `spawn`.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Sandbox, Seccomp};
    /// let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
    ///     {"names": ["symlinkat", "symlink"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]}"#;
    /// let sandbox = Sandbox::new().seccomp(Seccomp::from_json(profile)?);
    /// let status = sandbox.command("ln").args(["-s", "x", "/tmp/link"]).status()?;
    /// assert!(!status.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    #[cfg(feature = "serde")]
    pub fn from_json(text: impl AsRef<[u8]>) -> Result<Self> {
        let profile =
            oci::Profile::parse(text.as_ref()).map_err(|one| Error::Invalid(vec![one]))?;
        Ok(Seccomp::new(Base::Oci(Arc::new(profile))))
    }

    /// As [`from_json`](Self::from_json), from a file.
    ///
    /// # Errors
    ///
    /// As there, or with stage `Prepare` if the file cannot be read.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Seccomp;
    /// let error = Seccomp::from_json_file("/no/such/profile.json").unwrap_err();
    /// assert!(error.to_string().contains("/no/such/profile.json"));
    /// ```
    #[cfg(feature = "serde")]
    pub fn from_json_file(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let failed = |error: std::io::Error| {
            let object = quoted(path);
            Error::new(Stage::Prepare, "read seccomp profile", object, errno_of(&error))
        };
        Self::from_json(std::fs::read(path).map_err(failed)?)
    }

    /// Adds a rule before those of the profile, and after earlier ones: the first that fits decides.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Action, Rule, Sandbox, Seccomp};
    /// let profile = Seccomp::default().rule(Rule::new("mkdirat").then(Action::Errno(28)));
    /// # drop(profile);
    /// ```
    #[must_use]
    pub fn rule(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    /// What is done with the calls of the table that nothing allows or refuses, in place of `EPERM`,
    /// or of allowing them where a list refuses.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Action, Seccomp};
    /// let profile = Seccomp::strict().otherwise(Action::KillProcess);
    /// # drop(profile);
    /// ```
    #[must_use]
    pub fn otherwise(mut self, action: Action) -> Self {
        self.otherwise = Some(action);
        self
    }

    /// Whether no call leads to a keyring.
    pub(crate) fn denies_keyrings(&self) -> bool {
        let of_keyrings = |rule: &Rule| ["add_key", "keyctl", "request_key"].contains(&&*rule.call);
        matches!(self.base, Base::Default | Base::Strict) && !self.rules.iter().any(of_keyrings)
    }

    /// How it is written in a builder, if it has a name.
    pub(crate) fn expression(&self) -> &'static str {
        match (&self.base, self.rules.is_empty() && self.otherwise.is_none()) {
            (Base::Default, true) => "Seccomp::default()",
            (Base::Strict, true) => "Seccomp::strict()",
            (Base::None, true) => "Seccomp::none()",
            _ => "profile",
        }
    }

    /// The capability that widens it by this call.
    pub(crate) fn capability_for(&self, call: &str) -> Option<Capability> {
        let default = matches!(self.base, Base::Default);
        profile::capability_for(call).filter(|_| default).and_then(Capability::new)
    }

    /// What this comes to in a sandbox that keeps `kept`; remembered, as most sandboxes of a
    /// process have one of a few.
    pub(crate) fn assembled(&self, kept: Kept) -> std::result::Result<Arc<Assembled>, Vec<String>> {
        static MADE: RwLock<VecDeque<(Seccomp, Kept, Arc<Assembled>)>> =
            RwLock::new(VecDeque::new());
        // Nobody waits here: in a forked copy of the embedder the lock may be held for ever.
        if let Ok(made) = MADE.try_read() {
            let mut made = made.iter();
            if let Some((.., found)) = made.find(|one| one.0 == *self && one.1 == kept) {
                return Ok(Arc::clone(found));
            }
        }
        let assembled = Arc::new(self.assemble(&kept)?);
        if let Ok(mut made) = MADE.try_write() {
            made.truncate(REMEMBERED - 1);
            made.push_front((self.clone(), kept, Arc::clone(&assembled)));
        }
        Ok(assembled)
    }

    fn assemble(&self, kept: &Kept) -> std::result::Result<Assembled, Vec<String>> {
        let mut problems = Vec::new();
        let mut programs = Programs(Vec::new());
        let table = self.table(kept, &mut problems);
        programs.0.extend(table.as_ref().map(bpf::Table::assemble));
        if let Base::Raw(program) = &self.base {
            programs.0.push(program.to_vec());
        }
        for program in &programs.0 {
            let (count, rest) = (program.len() / 8, program.len() % 8);
            if rest != 0 || count == 0 || count > bpf::LONGEST {
                problems.push(format!(
                    "a filter program has 1 to {} instructions of 8 bytes, and not {count} and {rest} bytes",
                    bpf::LONGEST
                ));
            }
        }
        for (call, why) in [
            (libc::SYS_execve, "execve, with which the program itself is started"),
            (libc::SYS_exit_group, "exit_group, with which programs end"),
        ] {
            if problems.is_empty() && !programs.allow(call, [0; 6]) {
                problems.push(format!("the seccomp profile refuses {why}"));
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let (mut allow_setup, allow_report) = (programs.allow_setup(), programs.allow_report());
        let has = |action| table.as_ref().is_some_and(|table| table.has(action));
        if kept.journaled && (has(Action::Notify) || has(Action::KillProcess)) {
            return Err(vec![
                "learn() or declare_inputs(..) and a seccomp profile with Action::Notify or Action::KillProcess are two listeners, \
                 and the kernel has one for a program"
                    .to_owned(),
            ]);
        }
        let listener = match (has(Action::Notify), has(Action::KillProcess)) {
            _ if kept.journaled => Some(Listener::Journal),
            (true, _) => Some(Listener::Caller),
            (false, true) if kept.supervised && allow_setup => Some(Listener::Init),
            _ => None,
        };
        let mut decides = None;
        match (listener, table) {
            (Some(Listener::Init), Some(table)) => {
                programs.0[0] = table.replace(Action::KillProcess, Action::Notify).assemble();
            }
            (Some(Listener::Journal), Some(table)) => {
                let asking = table.asking(crate::learn::is_watched, crate::learn::needed_argument);
                // Up to the exec the journal lets everything go on.
                let before = asking.clone().replace(Action::Notify, Action::Allow).assemble();
                decides = Some(std::mem::replace(&mut programs.0[0], before));
                allow_setup = allow_report && programs.allow_setup();
                programs.0[0] = asking.assemble();
            }
            _ => {}
        }
        let can_be_inherited = listener.is_none() && allow_setup && programs.allow_supervision();
        Ok(Assembled { programs, allow_setup, allow_report, can_be_inherited, listener, decides })
    }

    /// All rules together; none if there is nothing to refuse.
    fn table(&self, kept: &Kept, problems: &mut Vec<String>) -> Option<bpf::Table> {
        let refused = Action::Errno(libc::EPERM.unsigned_abs());
        let missing = Action::Errno(libc::ENOSYS.unsigned_abs());
        let (profile, otherwise, unknown) = match &self.base {
            Base::Default => (profile::default(kept), refused, missing),
            Base::Strict => (profile::strict(kept), refused, missing),
            Base::Allow(names) => (named(names, Action::Allow), refused, missing),
            Base::Deny(names) => (named(names, refused), Action::Allow, Action::Allow),
            Base::None | Base::Raw(_) => (Vec::new(), Action::Allow, Action::Allow),
            #[cfg(feature = "serde")]
            Base::Oci(profile) => profile.lower(kept, problems),
        };
        let own = self.rules.iter().cloned();
        let all: Vec<_> = profile::guards(kept).into_iter().chain(own).chain(profile).collect();
        let otherwise = self.otherwise.unwrap_or(otherwise);
        let allowed = all.is_empty() && otherwise == Action::Allow && unknown == Action::Allow;
        if allowed && !kept.journaled {
            return None;
        }
        let mut calls: BTreeMap<_, _> =
            calls::all().map(|(number, _)| (number, Undecided::default())).collect();
        for rule in all {
            rule.problems(problems);
            match calls::number(&rule.call) {
                Ok(Some(number)) => calls.entry(number).or_default().add(rule),
                Ok(None) => {}
                Err(unknown) => problems.push(unknown_name(&unknown)),
            }
        }
        let calls =
            calls.into_iter().map(|(number, call)| (number, call.decide(otherwise))).collect();
        Some(bpf::Table { calls, unknown })
    }
}

impl fmt::Display for Seccomp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.base {
            Base::Default => f.write_str("the default profile")?,
            Base::Strict => f.write_str("the strict profile")?,
            Base::Allow(names) => write!(f, "only {}", names.join(", "))?,
            Base::Deny(names) => write!(f, "all but {}", names.join(", "))?,
            Base::None => f.write_str("no profile")?,
            Base::Raw(program) => write!(f, "a program of {} instructions", program.len() / 8)?,
            #[cfg(feature = "serde")]
            Base::Oci(_) => f.write_str("a profile in JSON")?,
        }
        match self.rules.len() {
            0 => Ok(()),
            count => write!(f, " with {count} rules before it"),
        }
    }
}

fn named(names: &[String], action: Action) -> Vec<Rule> {
    names.iter().map(|name| Rule::new(name).then(action)).collect()
}

fn unknown_name(calls::Unknown { name, near }: &calls::Unknown<'_>) -> String {
    let near = match near.as_slice() {
        [] => String::new(),
        near => format!("; is it {}?", near.join(" or ")),
    };
    format!("{name:?} is no system call{near}")
}

/// What the rest of the sandbox leaves to the filter, and takes from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kept {
    /// The bounding set.
    pub(crate) capabilities: u64,
    /// New user namespaces, and entering any namespace.
    pub(crate) nesting_forbidden: bool,
    /// Processes may trace each other.
    pub(crate) debugging: bool,
    /// Limits and scheduling of PID 1.
    pub(crate) init_guarded: bool,
    /// What is written stays on the host, or may: nothing is to be made setuid there.
    pub(crate) writes_to_host: bool,
    /// Somebody is there to kill who may not make a call, and to tell of it.
    pub(crate) supervised: bool,
    /// What no namespace and no mount keeps apart.
    pub(crate) shared: Shared,
    /// The caller's journal is asked about what is refused, and about files.
    pub(crate) journaled: bool,
}

impl Kept {
    /// Of a sandbox in which all is forbidden that can be.
    #[cfg(test)]
    const PLAIN: Kept = Kept {
        capabilities: 0,
        nesting_forbidden: true,
        debugging: false,
        init_guarded: true,
        supervised: true,
        journaled: false,
        writes_to_host: true,
        shared: Shared::empty(),
    };

    fn has(&self, capability: u8) -> bool {
        self.capabilities >> capability & 1 != 0
    }
}

/// A call's rules while they are collected.
#[derive(Debug, Default)]
struct Undecided {
    alternatives: Vec<(Vec<Condition>, Action)>,
    otherwise: Option<Action>,
}

impl Undecided {
    fn add(&mut self, Rule { conditions, action, .. }: Rule) {
        match (self.otherwise, conditions.is_empty()) {
            (Some(_), _) => {}
            (None, true) => self.otherwise = Some(action),
            (None, false) => self.alternatives.push((conditions, action)),
        }
    }

    fn decide(self, otherwise: Action) -> bpf::Decision {
        let otherwise = self.otherwise.unwrap_or(otherwise);
        bpf::Decision { alternatives: self.alternatives, otherwise }
    }
}

/// A filter, and what it lets the sandbox itself do.
#[derive(Debug)]
pub(crate) struct Assembled {
    pub(crate) programs: Programs,
    /// See [`Programs::allow_setup`].
    pub(crate) allow_setup: bool,
    /// See [`Programs::allow_report`].
    pub(crate) allow_report: bool,
    /// Whether an init that waits for programs can install it, for them to have it from there.
    pub(crate) can_be_inherited: bool,
    pub(crate) listener: Option<Listener>,
    /// What the first program was before a journal was asked instead of its answers.
    pub(crate) decides: Option<Vec<u8>>,
}

impl Assembled {
    /// What is answered to a call that a journal is asked about: `None` to let it go on, or an error number.
    pub(crate) fn answer(&self, number: u32, args: [u64; 6]) -> Option<i32> {
        let (code, _) = bpf::answer(self.decides.as_ref()?, number, args)?;
        let refused = code & libc::SECCOMP_RET_ACTION_FULL == libc::SECCOMP_RET_ERRNO;
        refused.then(|| i32::try_from(code & libc::SECCOMP_RET_DATA).unwrap_or(libc::EPERM))
    }
}

/// Who is asked about a call: there can be one only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listener {
    /// It kills whoever made it.
    Init,
    Caller,
    /// The caller's journal, which answers as the filter would have.
    Journal,
}

/// What init installs, in this order: arrays of `sock_filter`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Programs(pub(crate) Vec<Vec<u8>>);

impl Programs {
    fn allow(&self, number: i64, args: [u64; 6]) -> bool {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        self.0.iter().all(|program| {
            let answer = bpf::answer(program, number, args);
            answer.is_some_and(|(code, _)| Action::is_allowed(code))
        })
    }

    /// Whether an init that has bound itself can still start programs and look after them: all that it does,
    /// by arguments that a profile may look at.
    fn allow_supervision(&self) -> bool {
        let with = |first| [first, 0, 0, 0, 0, 0];
        let copies = [libc::CLONE_VM, 0].map(|shared| shared | libc::CLONE_PIDFD | libc::SIGUSR1);
        let calls = [
            libc::SYS_clock_gettime,
            libc::SYS_execve,
            libc::SYS_exit,
            libc::SYS_fstatfs,
            libc::SYS_kill,
            libc::SYS_mmap,
            libc::SYS_munmap,
            libc::SYS_pidfd_send_signal,
            libc::SYS_ppoll,
            libc::SYS_read,
            libc::SYS_sched_yield,
            libc::SYS_setsid,
            libc::SYS_signalfd4,
            libc::SYS_socketpair,
            libc::SYS_tgkill,
            libc::SYS_waitid,
        ];
        let unix = with(libc::AF_UNIX.unsigned_abs().into());
        calls.into_iter().all(|call| self.allow(call, [0; 6]) || self.allow(call, unix))
            && copies
                .iter()
                .all(|flags| self.allow(libc::SYS_clone, with(flags.unsigned_abs().into())))
    }

    /// Whether a process can say that its exec failed.
    fn allow_report(&self) -> bool {
        let calls = [libc::SYS_faccessat, libc::SYS_openat, libc::SYS_sendmsg];
        calls.into_iter().all(|call| self.allow(call, [0; 6]))
    }

    /// Whether everything may still be done that the program's process does from its first steps
    /// to the exec, or to the report of its failure.
    fn allow_setup(&self) -> bool {
        const TIOCSCTTY: u64 = 0x540e;
        let with = |argument: usize, value: u64| {
            let mut args = [0; 6];
            args[argument] = value;
            args
        };
        let calls = [
            libc::SYS_capget,
            libc::SYS_capset,
            libc::SYS_chdir,
            libc::SYS_close,
            libc::SYS_close_range,
            libc::SYS_dup3,
            libc::SYS_fcntl,
            libc::SYS_landlock_add_rule,
            libc::SYS_landlock_create_ruleset,
            libc::SYS_landlock_restrict_self,
            libc::SYS_prctl,
            libc::SYS_prlimit64,
            libc::SYS_recvmsg,
            libc::SYS_rt_sigprocmask,
            libc::SYS_setpriority,
            libc::SYS_umask,
        ];
        self.allow_report()
            && calls.into_iter().all(|call| self.allow(call, [0; 6]))
            && self.allow(libc::SYS_ioctl, with(1, TIOCSCTTY))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assembled(seccomp: &Seccomp, kept: Kept) -> Programs {
        seccomp.assemble(&kept).unwrap().programs
    }

    #[test]
    fn nothing_forbidden_is_no_filter() {
        const FSETID: u64 = 1 << 4;
        let kept = |nesting_forbidden, init_guarded, capabilities| Kept {
            capabilities,
            nesting_forbidden,
            debugging: false,
            init_guarded,
            supervised: true,
            journaled: false,
            writes_to_host: true,
            shared: Shared::empty(),
        };
        assert!(assembled(&Seccomp::none(), kept(false, false, FSETID)).0.is_empty());
        for forbidden in [
            kept(true, false, FSETID),
            kept(false, true, FSETID),
            kept(true, true, FSETID),
            kept(false, false, 0),
        ] {
            assert_eq!(assembled(&Seccomp::none(), forbidden).0.len(), 1);
        }
    }

    #[test]
    fn the_default_fits_a_page_and_decides_in_few_steps() {
        let programs = assembled(&Seccomp::default(), Kept::PLAIN);
        assert!(programs.0[0].len() <= 4096, "{} bytes", programs.0[0].len());
        let steps = |(number, _)| bpf::answer(&programs.0[0], number, [0; 6]).unwrap().1;
        let most = calls::all().map(steps).max().unwrap();
        assert!(most <= 30, "{most}");
        assert!(programs.allow_setup());
    }

    #[test]
    fn every_name_of_the_profiles_is_known() {
        let none = Kept {
            capabilities: u64::MAX,
            nesting_forbidden: false,
            debugging: true,
            init_guarded: false,
            supervised: true,
            journaled: false,
            writes_to_host: true,
            shared: Shared::empty(),
        };
        for kept in [Kept::PLAIN, none] {
            assembled(&Seccomp::default(), kept);
            assembled(&Seccomp::strict(), kept);
        }
    }

    #[test]
    fn capabilities_widen_the_default() {
        let all = Kept { capabilities: u64::MAX, ..Kept::PLAIN };
        for call in [libc::SYS_mount, libc::SYS_ptrace, libc::SYS_bpf, libc::SYS_reboot] {
            assert!(!assembled(&Seccomp::default(), Kept::PLAIN).allow(call, [0; 6]), "{call}");
            assert!(assembled(&Seccomp::default(), all).allow(call, [0; 6]), "{call}");
        }
        assert!(!assembled(&Seccomp::default(), all).allow(libc::SYS_setns, [0; 6]));
    }

    #[test]
    fn the_first_rule_decides_and_guards_come_before() {
        let profile = Seccomp::default()
            .rule(Rule::new("setns"))
            .rule(Rule::new("mkdirat").when(Condition::equal(2, 0)).then(Action::Log))
            .rule(Rule::new("mkdirat").then(Action::Errno(28)));
        let programs = assembled(&profile, Kept::PLAIN);
        assert!(!programs.allow(libc::SYS_setns, [0; 6]));
        assert!(programs.allow(libc::SYS_mkdirat, [0; 6]));
        assert!(!programs.allow(libc::SYS_mkdirat, [0, 0, 1, 0, 0, 0]));
    }

    #[test]
    fn all_problems_are_told() {
        let profile = Seccomp::allow_list(["reed"])
            .rule(Rule::new("write").when(Condition::equal(6, 0)))
            .rule(Rule::new("read").then(Action::Errno(5000)))
            .rule(Rule::with("open", vec![Condition::equal(0, 1); 33], Action::Allow));
        let problems = profile.assemble(&Kept::PLAIN).unwrap_err();
        for part in ["\"reed\"", "argument 6", "4095", "33 conditions"] {
            assert!(problems.iter().any(|one| one.contains(part)), "{part}: {problems:?}");
        }
        let refused = Seccomp::deny_list(["execve"]).assemble(&Kept::PLAIN).unwrap_err();
        assert!(refused[0].contains("execve"), "{refused:?}");
    }
}
