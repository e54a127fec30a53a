//! A sandbox of which everything is made once that does not depend on the command.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;

use crate::command::{Command, PATH, Within};
use crate::error::{Error, Result, Stage};
use crate::hint::Hint;
use crate::lower::{self, Lowered};
use crate::plan::Plan;
use crate::policy::Policy;
use crate::pool::Pool;
use crate::rlimit::Resource;
use crate::sandbox::Sandbox;
use crate::session::Session;
use crate::sources::Sources;
use crate::spawn::Count;
use crate::template::Template;
use crate::{sys, wire};

/// A [sandbox](Sandbox) that was looked through once, for any number of programs, from any thread
/// ([namespaces(7)](https://man7.org/linux/man-pages/man7/namespaces.7.html)).
///
/// What the host has is looked at when it is prepared: a link that replaces `/lib64` later, say, is not
/// seen. Most have a [template](Self::has_template), which keeps the sources of binds as they were; others open
/// them with each spawn, and one that is gone is an error then; [`stale_sources`](Self::stale_sources) says what of
/// them is something else by now. With a template it is a process and four descriptors, and one of
/// each copy that was ending when another one did, or the last; with
/// [`recycle_network`](Sandbox::recycle_network) one process and two descriptors more, and one or two for each of up to 16
/// networks that are kept; without a template none of these. Copies of it are the same one, and the last ends it.
///
/// # Examples
///
/// ```
/// let prepared = stockade::Sandbox::new().prepare()?;
/// for _ in 0..3 {
///     assert!(prepared.command("true").status()?.outcome.is_success());
/// }
/// # Ok::<(), stockade::Error>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "a prepared sandbox does nothing until a command is started in it"]
pub struct Prepared(Arc<Inner>);

/// What all copies share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) sandbox: Sandbox,
    /// The PATH that scripts' interpreters were looked for in.
    pub(crate) search: OsString,
    pub(crate) lowered: Arc<Lowered>,
    pub(crate) sources: Sources,
    pub(crate) template: Option<Arc<Template>>,
}

impl Sandbox {
    /// Does once what does not depend on the command: finds contradictions, looks at the host, makes the
    /// plan and the filter. [Sessions](Prepared::session) and [pools](Prepared::pool) are made from that
    /// ([namespaces(7)](https://man7.org/linux/man-pages/man7/namespaces.7.html)).
    ///
    /// # Errors
    ///
    /// As [`plan`](Self::plan).
    ///
    /// # Examples
    ///
    /// ```
    /// let prepared = stockade::Sandbox::new().hostname("build").prepare()?;
    /// let output = prepared.command("uname").arg("-n").output()?;
    /// assert_eq!(output.stdout, b"build\n");
    /// // Contradictions are found here.
    /// assert!(stockade::Sandbox::new().hostname("").prepare().is_err());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn prepare(&self) -> Result<Prepared> {
        self.policy().validate()?;
        let mut lowered = lower::lower(self, OsStr::new(PATH))?;
        lowered.plan = lowered.plan.labelled();
        let lowered = Arc::new(lowered);
        let sources = Sources::of(&lowered.plan, &self.policy().tree);
        let template = Template::make(self, &lowered).map(Arc::new);
        let (sandbox, search) = (self.clone(), PATH.into());
        Ok(Prepared(Arc::new(Inner { sandbox, search, lowered, sources, template })))
    }
}

impl Prepared {
    /// A program to start in a sandbox of its own, as [`Sandbox::command`]; binds and limits can be
    /// [added](Command::bind_ro) for it alone ([execve(2)](https://man7.org/linux/man-pages/man2/execve.2.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// let prepared = stockade::Sandbox::new().prepare()?;
    /// assert_eq!(prepared.command("echo").arg("x").output()?.stdout, b"x\n");
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let within = Within::Prepared(Arc::clone(&self.0));
        Command::new(self.0.sandbox.clone(), program.as_ref()).within(within)
    }

    /// What is done for each sandbox, as [`Sandbox::plan`].
    ///
    /// # Examples
    ///
    /// ```
    /// let sandbox = stockade::Sandbox::new();
    /// assert_eq!(*sandbox.prepare()?.plan(), sandbox.plan()?);
    /// # Ok::<(), stockade::Error>(())
    /// ```
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.0.lowered.plan
    }

    /// Whether a template was made of it: a process that waits in a user and a mount namespace with all that no program can
    /// change, of which each sandbox is a copy, in namespaces of its own
    /// ([mount_namespaces(7)](https://man7.org/linux/man-pages/man7/mount_namespaces.7.html), Linux 5.12).
    ///
    /// Without one each sandbox is made from nothing, which is the same and takes longer: where the caller's or joined
    /// namespaces are used, [overlays](Sandbox::overlay), a writable root, [id maps](Sandbox::id_map) of more than
    /// one id, [host ids](Sandbox::own_host_id) of its own, [nesting](Sandbox::allow_nesting), CAP_SYS_ADMIN, no
    /// [init](Sandbox::init), [learning](Sandbox::learn) or declared inputs are asked for; where root allows calls about keyrings;
    /// where something of the host's is in the way of what each sandbox has of its own; and where the system
    /// refuses it, which is logged.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// assert!(Sandbox::new().prepare()?.has_template());
    /// assert!(!Sandbox::new().allow_nesting().prepare()?.has_template());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    #[must_use]
    pub fn has_template(&self) -> bool {
        self.0.template.as_ref().is_some_and(|template| template.lives())
    }

    /// The parts of the host's tree, asked for or of the system, that are something else at their paths than
    /// when it was prepared: replaced, renamed, deleted, made anew, mounted or unmounted; in order, and empty
    /// if all are the same ([statx(2)](https://man7.org/linux/man-pages/man2/statx.2.html)). Mounts are told from
    /// each other from Linux 5.8 on.
    ///
    /// | what has happened since | a copy of a [template](Self::has_template), a session, one of a pool that waits | one that is made alone |
    /// |---|---|---|
    /// | A file was written to, or something in a directory changed; not listed | shows it | shows it |
    /// | A file was replaced, as by an editor that renames a new one over it | keeps the old one | shows the new one |
    /// | It was renamed or deleted | keeps it | error, `ENOENT` |
    /// | It was deleted and made anew, or a link in its path leads elsewhere | keeps the old one | shows the new one |
    /// | Something was mounted on it | keeps what is covered | shows that |
    /// | It was unmounted | keeps it, but a new copy is an error, `ESTALE` | error, `ESTALE` |
    /// | A system directory such as /lib64 became a link, or the other way round | is as it was | is as it was prepared |
    ///
    /// What a command [adds](Command::bind_ro) is as it is then.
    ///
    /// What is not there any more does not make a session or a sandbox fail that exists. Preparing anew takes
    /// everything as it is then.
    ///
    /// # Examples
    ///
    /// ```
    /// let directory = tempfile::tempdir()?;
    /// let file = directory.path().join("settings");
    /// std::fs::write(&file, "old")?;
    /// let prepared = stockade::Sandbox::new().bind_ro(&file, "/settings").prepare()?;
    /// assert!(!prepared.is_stale());
    /// std::fs::write(directory.path().join("new"), "new")?;
    /// std::fs::rename(directory.path().join("new"), &file)?;
    /// assert_eq!(prepared.stale_sources(), [file]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn stale_sources(&self) -> Vec<PathBuf> {
        let mut changed: Vec<_> = self.0.sources.changed().map(Path::to_owned).collect();
        changed.dedup();
        changed
    }

    /// Whether there are any [stale sources](Self::stale_sources)
    /// ([statx(2)](https://man7.org/linux/man-pages/man2/statx.2.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// let directory = tempfile::tempdir()?;
    /// let prepared = stockade::Sandbox::new().bind_ro(directory.path(), "/data").prepare()?;
    /// assert!(!prepared.is_stale());
    /// directory.close()?;
    /// assert!(prepared.is_stale());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn is_stale(&self) -> bool {
        self.0.sources.changed().next().is_some()
    }

    /// Makes one sandbox in which many programs run, one after another or side by side; see [`Session`]
    /// ([pid_namespaces(7)](https://man7.org/linux/man-pages/man7/pid_namespaces.7.html)).
    ///
    /// # Errors
    ///
    /// As [`Command::spawn`]; `EMFILE` where the hard limit of open files is below 577; [`Error::Invalid`] for what a session cannot have: it needs init and a pid
    /// namespace of its own, and a limit of [CPU time](Sandbox::cpu_time), [learning](Sandbox::learn) and
    /// declared inputs are for a sandbox of one program.
    ///
    /// # Examples
    ///
    /// ```
    /// let session = stockade::Sandbox::new().prepare()?.session()?;
    /// session.command("sh").args(["-c", "echo kept >/tmp/file"]).status()?;
    /// assert_eq!(session.command("cat").arg("/tmp/file").output()?.stdout, b"kept\n");
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn session(&self) -> Result<Session> {
        let mut problems = waiting_problems(self.0.sandbox.policy());
        if self.0.sandbox.policy().limits.cpu_time.is_some() {
            problems.push("a session has no limit of CPU time, which ends a whole sandbox".into());
        }
        self.check(problems)?;
        Session::new(self.command("/").wait_for_programs(Count::Any)?, &self.0.sandbox)
    }

    /// Makes up to `size` sandboxes that are complete but for the program, and keeps as many ready; see
    /// [`Pool`] ([pid_namespaces(7)](https://man7.org/linux/man-pages/man7/pid_namespaces.7.html)).
    ///
    /// # Errors
    ///
    /// As [`Command::spawn`], of the first of them; `EMFILE` where the hard limit of open files is below 577; [`Error::Invalid`] for what cannot wait: it needs init
    /// and a pid namespace of its own, and [learning](Sandbox::learn) and declared inputs are for
    /// a sandbox that is made for its program.
    ///
    /// # Examples
    ///
    /// ```
    /// let pool = stockade::Sandbox::new().prepare()?.pool(2)?;
    /// assert_eq!(pool.command("echo").arg("x").output()?.stdout, b"x\n");
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn pool(&self, size: usize) -> Result<Pool> {
        self.check(waiting_problems(self.0.sandbox.policy()))?;
        Pool::new(self.clone(), size)
    }

    /// That nothing contradicts waiting, and that init has numbers for a program's descriptors.
    fn check(&self, problems: Vec<String>) -> Result<()> {
        if !problems.is_empty() {
            return Err(Error::Invalid(problems));
        }
        let most = open_files()
            .map_err(|errno| Error::new(Stage::Prepare, "prlimit", "of the caller", errno))?;
        if most < wire::NUMBERS_OF_SESSION {
            let least = wire::NUMBERS_OF_SESSION;
            let object = format!("(the hard limit of open files is {most}, and has to be {least})");
            return Err(Error::new(Stage::Prepare, "prlimit", object, Errno::EMFILE)
                .with_hint(Some(Hint::OpenFiles)));
        }
        Ok(())
    }

    pub(crate) fn sandbox(&self) -> &Sandbox {
        &self.0.sandbox
    }
}

/// The caller's hard limit of them.
pub(crate) fn open_files() -> std::result::Result<u64, Errno> {
    let limits = sys::hard_limits()?;
    let files = Resource::ALL.iter().zip(limits).find(|(one, _)| **one == Resource::OpenFiles);
    Ok(files.map_or(u64::MAX, |(_, hard)| hard))
}

/// What keeps a sandbox from waiting for its program.
fn waiting_problems(policy: &Policy) -> Vec<String> {
    let mut problems = Vec::new();
    if !policy.init || !policy.has_own_pids() {
        problems.push("only an init with a pid namespace of its own can wait for programs".into());
    }
    if policy.is_journaled() {
        problems.push(
            "learn() and declare_inputs(..) need a sandbox that is made for its program".into(),
        );
    }
    let late = policy.filter(true, false).is_ok_and(|filter| !filter.can_be_inherited);
    if policy.new_privileges && late {
        problems.push(
            "where exec may gain privileges, init has to install the seccomp profile, and this one would \
             keep it from its work"
                .into(),
        );
    }
    problems
}
