//! A program to be started, in `std::process::Command`'s vocabulary.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::audit::Audit;
use crate::cgroup::group::Groups;
use crate::changes::Source;
use crate::child::{Attached, Child, Entered, reap_the_detached};
use crate::error::{Error, Feature, Result};
use crate::hint::Hint;
use crate::lower::{self, Lowered};
use crate::namespace::user;
use crate::networks::Lent;
use crate::outcome::{Output, Status};
use crate::output::Remains;
use crate::plan::Plan;
use crate::pool;
use crate::prepared;
use crate::pty::Size;
use crate::rootfs::{self, Held, Overlay, Trees};
use crate::sandbox::Sandbox;
use crate::secret::Secret;
use crate::session;
use crate::spawn::{Count, Kept, Made, Refused, Role, Start, make, make_groups};
use crate::template::Template;
use crate::wire;

mod added;
mod checks;
mod encode;
mod refused;
mod stdio;

pub use stdio::Stdio;
pub(crate) use stdio::Streams;

/// PATH inside, unless the command sets another.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How much of each output stream is kept, unless asked for otherwise.
const KEEP: usize = 64 << 20;

/// A program, its arguments, environment and descriptors, and the sandbox it is to run in.
///
/// The environment has PATH, HOME and LANG=C.UTF-8 and nothing of the caller's. HOME is /home/user,
/// or /tmp in a [directory](crate::Rootfs::directory) root without a directory home; without a
/// mount namespace of the sandbox's own the variable is the same, but the directory need not exist
/// there. The working directory is HOME, and without a mount namespace of its own `/`. Descriptors
/// of the caller's get in by name only: standard input is empty, standard output and error are
/// dropped ([`output`](Self::output) pipes them), and [`fd`](Self::fd) passes others.
///
/// No text may contain a NUL byte, and an argument has at most 131071 bytes
/// ([execve(2)](https://man7.org/linux/man-pages/man2/execve.2.html)).
///
/// # Examples
///
/// ```
/// let output = stockade::Sandbox::new()
///     .command("sh")
///     .args(["-c", "echo $GREETING"])
///     .env("GREETING", "hello")
///     .output()?;
/// assert_eq!(output.stdout, b"hello\n");
/// # Ok::<(), stockade::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "a command does nothing until it is started"]
pub struct Command {
    sandbox: Sandbox,
    program: OsString,
    arg0: Option<OsString>,
    args: Vec<OsString>,
    env: BTreeMap<OsString, Secret<OsString>>,
    directory: Option<PathBuf>,
    streams: [Option<Stdio>; 3],
    descriptors: BTreeMap<RawFd, OwnedFd>,
    umask: u32,
    terminal: bool,
    pty: Option<Size>,
    keep: usize,
    /// Its own, in the place of the sandbox's.
    wall: Option<Duration>,
    within: Within,
}

/// A sandbox that was made for a command, and what it was made from.
#[derive(Debug)]
pub(crate) struct New {
    pub(crate) child: Child,
    pub(crate) lowered: Arc<Lowered>,
    /// What init reads the CPU time from.
    pub(crate) cpu_usage: Option<OwnedFd>,
    /// Where a session takes programs.
    pub(crate) door: Option<OwnedFd>,
}

/// Where a command is started.
#[derive(Debug, Clone)]
pub(crate) enum Within {
    /// In a sandbox of its own.
    Own,
    /// The same, and what does not depend on the command is made.
    Prepared(Arc<prepared::Inner>),
    Session(Arc<session::Inner>),
    Pool(Arc<pool::Inner>),
    /// In one that runs, which is entered.
    Child(Arc<Entered>),
}

impl Command {
    pub(crate) fn new(sandbox: Sandbox, program: &OsStr) -> Self {
        let home = sandbox.policy().tree.home();
        let env = [("PATH", PATH), ("HOME", home), ("LANG", "C.UTF-8")];
        Command {
            sandbox,
            program: program.to_owned(),
            arg0: None,
            args: Vec::new(),
            env: env.map(|(key, value)| (key.into(), Secret(value.into()))).into(),
            directory: None,
            streams: [None, None, None],
            descriptors: BTreeMap::new(),
            umask: 0o022,
            terminal: false,
            pty: None,
            keep: KEEP,
            wall: None,
            within: Within::Own,
        }
    }

    pub(crate) fn within(mut self, within: Within) -> Self {
        self.within = within;
        self
    }

    /// Adds an argument, of 131071 bytes at the most
    /// ([execve(2)](https://man7.org/linux/man-pages/man2/execve.2.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// let output = stockade::Sandbox::new().command("echo").arg("a b").arg("c").output()?;
    /// assert_eq!(output.stdout, b"a b c\n");
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments; see [`arg`](Self::arg).
    ///
    /// # Examples
    ///
    /// ```
    /// let output = stockade::Sandbox::new().command("echo").args(["a", "b"]).output()?;
    /// assert_eq!(output.stdout, b"a b\n");
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// The program's own name, `argv[0]`; default the name it is started by
    /// ([execve(2)](https://man7.org/linux/man-pages/man2/execve.2.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// let command = stockade::Sandbox::new().command("sh").arg0("dash").args(["-c", "echo $0"]);
    /// assert_eq!(command.output()?.stdout, b"dash\n");
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn arg0(mut self, name: impl AsRef<OsStr>) -> Self {
        self.arg0 = Some(name.as_ref().to_owned());
        self
    }

    /// Sets an environment variable; the last word counts
    /// ([environ(7)](https://man7.org/linux/man-pages/man7/environ.7.html)). A name may not be
    /// empty or contain `=`.
    ///
    /// # Examples
    ///
    /// ```
    /// let command = stockade::Sandbox::new().command("printenv").arg("LANG").env("LANG", "C");
    /// assert_eq!(command.output()?.stdout, b"C\n");
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.insert(key.as_ref().to_owned(), Secret(value.as_ref().to_owned()));
        self
    }

    /// Sets environment variables; see [`env`](Self::env).
    ///
    /// # Examples
    ///
    /// ```
    /// let command = stockade::Sandbox::new().command("sh").args(["-c", "echo $A $B"]);
    /// assert_eq!(command.envs([("A", "1"), ("B", "2")]).output()?.stdout, b"1 2\n");
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn envs(
        mut self,
        pairs: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>,
    ) -> Self {
        for (key, value) in pairs {
            self = self.env(key, value);
        }
        self
    }

    /// Removes an environment variable, a default one included
    /// ([environ(7)](https://man7.org/linux/man-pages/man7/environ.7.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// let command = stockade::Sandbox::new().command("printenv").arg("HOME").env_remove("HOME");
    /// assert_eq!(command.status()?.outcome.code(), Some(1));
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn env_remove(mut self, key: impl AsRef<OsStr>) -> Self {
        self.env.remove(key.as_ref());
        self
    }

    /// Removes all environment variables, the default ones included
    /// ([environ(7)](https://man7.org/linux/man-pages/man7/environ.7.html)). Without a PATH a
    /// program has to be named by its path.
    ///
    /// # Examples
    ///
    /// ```
    /// let command = stockade::Sandbox::new().command("/usr/bin/env").env_clear();
    /// assert_eq!(command.output()?.stdout, b"");
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn env_clear(mut self) -> Self {
        self.env.clear();
        self
    }

    /// The working directory inside; default HOME, or `/` without a mount namespace of the
    /// sandbox's own ([chdir(2)](https://man7.org/linux/man-pages/man2/chdir.2.html)). A relative
    /// one starts from the root inside.
    ///
    /// # Examples
    ///
    /// ```
    /// let output = stockade::Sandbox::new().command("pwd").current_dir("/usr").output()?;
    /// assert_eq!(output.stdout, b"/usr\n");
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn current_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.directory = Some(directory.into());
        self
    }

    fn stream(mut self, number: usize, stdio: Stdio) -> Self {
        if let Some(stream) = self.streams.get_mut(number) {
            *stream = Some(stdio);
        }
        self
    }

    /// Standard input; default [`Stdio::null`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::Write;
    /// use stockade::{Sandbox, Stdio};
    /// let command = Sandbox::new().command("cat").stdin(Stdio::piped()).stdout(Stdio::piped());
    /// let mut child = command.spawn()?;
    /// child.stdin.take().ok_or("piped")?.write_all(b"hello")?;
    /// assert_eq!(child.wait_with_output()?.stdout, b"hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stdin(self, stdin: impl Into<Stdio>) -> Self {
        self.stream(0, stdin.into())
    }

    /// Standard output; default [`Stdio::null`], and [`Stdio::piped`] for [`output`](Self::output).
    ///
    /// # Examples
    ///
    /// ```
    /// let mut log = tempfile::tempfile()?;
    /// stockade::Sandbox::new().command("echo").arg("hello").stdout(log.try_clone()?).status()?;
    /// # use std::io::Seek;
    /// # log.rewind()?;
    /// assert_eq!(std::io::read_to_string(log)?, "hello\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn stdout(self, stdout: impl Into<Stdio>) -> Self {
        self.stream(1, stdout.into())
    }

    /// Standard error; default [`Stdio::null`], and [`Stdio::piped`] for [`output`](Self::output).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Sandbox, Stdio};
    /// let output = Sandbox::new().command("ls").arg("/nowhere").stderr(Stdio::null()).output()?;
    /// assert_eq!(output.stderr, b"");
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn stderr(self, stderr: impl Into<Stdio>) -> Self {
        self.stream(2, stderr.into())
    }

    /// Passes a descriptor, which the program finds under this number: a widening by what it is
    /// ([dup(2)](https://man7.org/linux/man-pages/man2/dup.2.html)). A number of 0 to 2 replaces
    /// the standard stream; the others have to be below the soft limit of
    /// [`Resource::OpenFiles`](crate::Resource::OpenFiles).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::Write;
    /// let (reading, mut writing) = std::io::pipe()?;
    /// writing.write_all(b"hello")?;
    /// drop(writing);
    /// let command = stockade::Sandbox::new().command("sh").args(["-c", "cat <&7"]).fd(7, reading);
    /// assert_eq!(command.output()?.stdout, b"hello");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn fd(mut self, number: RawFd, fd: impl Into<OwnedFd>) -> Self {
        match usize::try_from(number) {
            Ok(stream @ 0..=2) => self.stream(stream, fd.into().into()),
            _ => {
                self.descriptors.insert(number, fd.into());
                self
            }
        }
    }

    /// The permission bits that new files do not get
    /// ([umask(2)](https://man7.org/linux/man-pages/man2/umask.2.html)); default 0022, whatever the
    /// caller's is. Bits above 0o777 are dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// let command = stockade::Sandbox::new().command("sh").args(["-c", "umask"]).umask(0o077);
    /// assert_eq!(command.output()?.stdout, b"0077\n");
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn umask(mut self, mask: u32) -> Self {
        self.umask = mask & 0o777;
        self
    }

    /// Makes standard input, which has to be a terminal of no other session, the controlling
    /// terminal (`TIOCSCTTY`, [ioctl_tty(2)](https://man7.org/linux/man-pages/man2/ioctl_tty.2.html)).
    /// Without this the program has none.
    ///
    /// # Examples
    ///
    /// ```
    /// // What is no terminal is refused.
    /// let command = stockade::Sandbox::new().command("true").controlling_terminal();
    /// let error = command.spawn().unwrap_err();
    /// assert_eq!(error.raw_os_error(), Some(25)); // ENOTTY
    /// ```
    pub fn controlling_terminal(mut self) -> Self {
        self.terminal = true;
        self
    }

    /// Gives the program a terminal of the sandbox's own, of so many rows and columns: it is standard
    /// input, output and error, and the controlling terminal, so that job control, Ctrl-C and the
    /// like work inside. Its name inside is /dev/pts/0, and no process outside has it as its own: what
    /// the program pushes into it (`TIOCSTI`) it gets itself. [`Child::pty`] is its other side
    /// ([pty(7)](https://man7.org/linux/man-pages/man7/pty.7.html), Linux 4.13).
    ///
    /// Sets TERM to "xterm" if it is not set. [`output`](Self::output) collects what is written to
    /// the terminal as standard output; nothing is typed then. Where nobody reads, a program waits
    /// once it has written some 10 KiB. 0 rows or columns stand for an unknown size.
    ///
    /// The standard streams cannot be given as well, and a mount namespace of the sandbox's own is
    /// needed.
    ///
    /// # Examples
    ///
    /// ```
    /// let script = "test -t 0 && stty size";
    /// let command = stockade::Sandbox::new().command("sh").args(["-c", script]).pty(24, 80);
    /// assert_eq!(command.output()?.stdout, b"24 80\r\n");
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn pty(mut self, rows: u16, columns: u16) -> Self {
        self.pty = Some(Size { rows, columns });
        self.env.entry("TERM".into()).or_insert(Secret("xterm".into()));
        self
    }

    /// How many bytes of each output stream [`output`](Self::output) and
    /// [`Child::wait_with_output`] keep; default 64 MiB
    /// ([pipe(7)](https://man7.org/linux/man-pages/man7/pipe.7.html)). More is read and dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// let command = stockade::Sandbox::new().command("echo").arg("hello").keep_output(4);
    /// let output = command.output()?;
    /// assert_eq!(output.stdout, b"hell");
    /// assert!(output.stdout_truncated);
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn keep_output(mut self, bytes: usize) -> Self {
        self.keep = bytes;
        self
    }

    /// How long this program may run, in the place of [`Sandbox::wall_time`], for longer too; default: as long as that
    /// says. Zero is an error. When it is up, the sandbox's [grace period](Sandbox::grace_period) holds, which needs a
    /// wall time of the sandbox's as well, and in a
    /// [`Session`](crate::Session) or a [`Child`]'s sandbox only this program ends, with what it has started
    /// ([clock_gettime(2)](https://man7.org/linux/man-pages/man2/clock_gettime.2.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use stockade::{Outcome, Sandbox};
    /// let prepared = Sandbox::new().wall_time(Duration::from_secs(600)).prepare()?;
    /// let command = prepared.command("sleep").arg("1000").wall_time(Duration::from_millis(20));
    /// assert_eq!(command.status()?.outcome, Outcome::TimedOut);
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn wall_time(mut self, limit: Duration) -> Self {
        self.wall = Some(limit);
        self
    }

    /// How long it may run.
    fn wall(&self) -> Option<Duration> {
        self.wall.or(self.sandbox.policy().wall)
    }

    /// Starts the program. `Ok` means that it was executed, inside a complete sandbox
    /// ([clone(2)](https://man7.org/linux/man-pages/man2/clone.2.html),
    /// [execve(2)](https://man7.org/linux/man-pages/man2/execve.2.html)).
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for contradictions, of the sandbox and of the command, all at once;
    /// [`Error::Unsupported`] for what this system cannot give; [`Error::Failed`] with the step
    /// that failed, after everything done so far was undone. A program that was killed before its exec
    /// is such a failure, of the operation "start": with `ETIME` if its
    /// [time](crate::Sandbox::wall_time) was up, else with `ESRCH`.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut child = stockade::Sandbox::new().command("sleep").arg("1000").spawn()?;
    /// assert_eq!(child.try_wait()?, None);
    /// // It ends with its handle.
    /// drop(child);
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn spawn(self) -> Result<Child> {
        self.start(Role::Program)
    }

    /// Starts the program and waits for its end.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn).
    ///
    /// # Examples
    ///
    /// ```
    /// let status = stockade::Sandbox::new().command("true").status()?;
    /// assert!(status.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn status(self) -> Result<Status> {
        self.spawn()?.wait()
    }

    /// Starts the program with piped output, and collects that until its end, up to
    /// [`keep_output`](Self::keep_output) bytes of each stream.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn).
    ///
    /// # Examples
    ///
    /// ```
    /// let output = stockade::Sandbox::new().command("echo").arg("hello").output()?;
    /// assert_eq!(output.stdout, b"hello\n");
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn output(mut self) -> Result<Output> {
        self.collect_output();
        self.spawn()?.wait_with_output()
    }

    /// Pipes what was not given.
    pub(crate) fn collect_output(&mut self) {
        for stream in self.streams[1..].iter_mut().filter(|_| self.pty.is_none()) {
            stream.get_or_insert_with(Stdio::piped);
        }
    }

    /// Does everything but the exec, in a sandbox that ends at once.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn), except for what the exec itself would say.
    ///
    /// # Examples
    ///
    /// ```
    /// let sandbox = stockade::Sandbox::new();
    /// sandbox.command("/no/such/program").check()?;
    /// // The directory is looked at.
    /// assert!(sandbox.command("true").current_dir("/nowhere").check().is_err());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn check(self) -> Result<()> {
        self.start(Role::Check).map(drop)
    }

    /// What would be done to make the sandbox, as a value; nothing is done.
    ///
    /// # Errors
    ///
    /// As [`Sandbox::plan`].
    ///
    /// # Examples
    ///
    /// ```
    /// let plan = stockade::Sandbox::new().command("true").plan()?;
    /// println!("{plan}");
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn plan(&self) -> Result<Plan> {
        self.validate()?;
        let sandbox = match self.wall {
            Some(limit) => self.sandbox.clone().wall_time(limit),
            None => self.sandbox.clone(),
        };
        Ok(lower::lower(&sandbox, &self.search())?.plan.labelled())
    }

    /// What a program that is started so can find out about the host, as
    /// [`Sandbox::audit_view`]: with this environment, these descriptors and this directory.
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Leak, Sandbox, Severity};
    /// let file = std::fs::File::open("/etc/passwd")?;
    /// let audit = Sandbox::new().command("true").fd(3, file).audit_view()?;
    /// assert!(audit.above(Severity::Low).any(|finding| finding.leak == Leak::Descriptor));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn audit_view(self) -> Result<Audit> {
        let sandbox = self.sandbox.clone();
        crate::audit::audit(&sandbox, self)
    }

    /// Another program in another sandbox of its own, with what this one is given.
    pub(crate) fn instead(mut self, sandbox: Sandbox, program: &Path) -> Self {
        self.sandbox = sandbox;
        self.within = Within::Own;
        self.program = program.as_os_str().to_owned();
        self.arg0 = None;
        self.args.clear();
        self
    }

    /// The program's environment.
    pub(crate) fn variables(&self) -> Vec<(OsString, OsString)> {
        self.env.iter().map(|(name, value)| (name.clone(), value.0.clone())).collect()
    }

    fn start(self, role: Role) -> Result<Child> {
        let started = match (&self.within, role) {
            // What contradicts itself uses up no sandbox.
            (Within::Session(session), Role::Program) => {
                let session = Arc::clone(session);
                self.validate_alone().and_then(|()| session.start(self))
            }
            (Within::Pool(pool), Role::Program) => {
                let pool = Arc::clone(pool);
                self.validate_alone().and_then(|()| pool.start(self))
            }
            (Within::Child(entered), Role::Program) => {
                let entered = Arc::clone(entered);
                self.validate_alone().and_then(|()| entered.start(self))
            }
            _ => self.lowered(role).and_then(|(lowered, template)| {
                self.make(role, lowered, template).map(|made| made.child)
            }),
        };
        started.map_err(Error::explained)
    }

    /// What is done, and what the sandbox is a copy of.
    fn lowered(&self, role: Role) -> Result<(Arc<Lowered>, Option<Arc<Template>>)> {
        let began = Instant::now();
        self.validate()?;
        let found = self.looked_through(role)?;
        let count = found.0.plan.len();
        log::debug!("prepare: lowered to {count} operations in {:?}", began.elapsed());
        Ok(found)
    }

    /// What was prepared, if that does not depend on another PATH, and what was added to it.
    fn looked_through(&self, role: Role) -> Result<(Arc<Lowered>, Option<Arc<Template>>)> {
        let search = self.search();
        if let Within::Prepared(prepared) = &self.within {
            prepared.sources.check()?;
            let same = prepared.search == search || !self.sandbox.policy().tree.has_programs();
            if let Some(found) = same.then(|| self.of_prepared(prepared, role)).flatten() {
                return Ok(found);
            }
        }
        Ok((lower::lower(&self.sandbox, &search).map(Arc::new)?, None))
    }

    /// Without the template it is the same sandbox, and takes longer to make: so where there is no program.
    fn of_prepared(
        &self,
        prepared: &prepared::Inner,
        role: Role,
    ) -> Option<(Arc<Lowered>, Option<Arc<Template>>)> {
        let template = prepared.template.as_ref().filter(|_| role != Role::Check);
        let template = template.filter(|template| template.lives());
        match (template, prepared.sandbox.is_same(&self.sandbox)) {
            (Some(template), true) => Some((template.lowered(), Some(Arc::clone(template)))),
            (Some(template), false) => {
                let lowered = template.with_added(prepared, &self.sandbox)?;
                Some((Arc::new(lowered), Some(Arc::clone(template))))
            }
            (None, true) => Some((Arc::clone(&prepared.lowered), None)),
            (None, false) => None,
        }
    }

    /// A sandbox that waits for programs.
    pub(crate) fn wait_for_programs(self, count: Count) -> Result<New> {
        let role = Role::Waiting(count);
        let (lowered, template) = self.lowered(role)?;
        self.make(role, lowered, template).map_err(Error::explained)
    }

    /// What sandboxes are copied from.
    pub(crate) fn make_template(self, lowered: Arc<Lowered>) -> Result<New> {
        self.make(Role::Template, lowered, None).map_err(Error::explained)
    }

    fn make(
        mut self,
        role: Role,
        mut lowered: Arc<Lowered>,
        template: Option<Arc<Template>>,
    ) -> Result<New> {
        let began = Instant::now();
        reap_the_detached();
        let sandbox = self.sandbox.clone();
        let policy = sandbox.policy();
        let copying = Instant::now();
        let best_effort = policy.is_best_effort(Feature::IdMappedMounts);
        let init_file = policy.init_file.as_deref();
        // Before anything else is opened, which may get the number of a closed stream.
        let streams = self.open_streams()?;
        let own_id = match lowered.ids.are_chosen_late() {
            true => Some(user::own_id(init_file)?),
            false => None,
        };
        if let Some((_, id)) = &own_id {
            Arc::make_mut(&mut lowered).choose(*id);
        }
        let own_id = own_id.as_ref().map(|(namespace, _)| namespace.as_fd());
        let mut held = rootfs::prepare(policy.tree.overlays().map(|(_, overlay)| overlay))?;
        let trees = Trees::make(&lowered, own_id, init_file, best_effort)?;
        log::debug!(
            "prepare: streams and {} trees in {:?}",
            lowered.trees.len(),
            copying.elapsed()
        );
        let pairs = self.pairs(&streams);
        // Declared before what is in them, and so removed after it.
        let mut groups = if role == Role::Template { None } else { make_groups(policy)? };
        let cpu_usage =
            groups.as_ref().map_or(Ok(None), |groups| groups.cpu_usage(&policy.limits))?;
        // One after the other.
        let handed =
            template.as_ref().map(|_| pairs.len() + cpu_usage.iter().len() + trees.fds.len());
        let cpu_fd = match (&cpu_usage, i32::try_from(pairs.len())) {
            (Some(_), Ok(count)) if handed.is_some() => Some(wire::HANDED + count),
            (file, _) => file.as_ref().map(AsRawFd::as_raw_fd),
        };
        let networks = template.as_ref().and_then(|template| template.networks.as_ref());
        let lent = networks.map(|(networks, _)| networks.lend()).transpose()?;
        let (program, filter) = self.encode(policy, &lowered.plan, &pairs, cpu_fd, role, handed)?;
        let start = Start {
            groups: groups.as_ref(),
            cpu_usage: cpu_usage.as_ref(),
            policy,
            lowered: &lowered,
            trees: &trees.fds,
            own_id,
            program,
            descriptors: pairs.iter().map(|(source, _)| source.as_raw_fd()).collect(),
            terminal: self.pty,
            journal: (policy.is_journaled() && role == Role::Program)
                .then(|| (sandbox.clone(), filter)),
            role,
            wall: self.wall(),
            entering: None,
            template: template.as_deref(),
            network: lent.as_ref().map(Lent::network),
        };
        let mut made = make(&start).map_err(|refused| {
            self.refused(&lowered.plan, refused).with_hint(out_of_memory(groups.as_ref()))
        })?;
        if let Some(groups) = &mut groups {
            groups.close_entrances();
        }
        log::debug!("spawned as {} in {:?} in all", made.pid, began.elapsed());
        let mut kept = std::mem::take(&mut made.kept);
        let listener = kept.take_listener();
        let remains = Arc::new(self.remains(&lowered, kept, &mut held, role == Role::Check));
        let mut missing = lowered.missing.clone();
        missing.extend(trees.unmapped.then_some(Feature::IdMappedMounts));
        for feature in template.as_ref().map_or(&[][..], |template| &template.missing) {
            if !missing.contains(feature) {
                missing.push(*feature);
            }
        }
        let attached = Attached {
            own_pids: policy.has_own_pids(),
            groups,
            remains,
            held,
            listener,
            missing,
            lowered: Some(Arc::clone(&lowered)),
            ..self.attached(streams, &lowered, role)
        };
        let door = made.door.take();
        let child = Child::new(made, attached).copied(template, lent);
        Ok(New { child, lowered, cpu_usage, door })
    }

    /// Starts it in a sandbox that is there: `start` is given all that is to be told.
    pub(crate) fn start_later(
        mut self,
        lowered: &Lowered,
        cpu_usage: Option<&OwnedFd>,
        role: Role,
        start: impl FnOnce(Start<'_>) -> Result<Made, Refused>,
    ) -> Result<(Made, Attached)> {
        let streams = self.open_streams()?;
        let made = self.start_with(&streams, lowered, cpu_usage, role, start)?;
        Ok(self.attach(streams, lowered, role, made))
    }

    /// The same, with its standard streams open.
    pub(crate) fn start_with(
        &self,
        streams: &Streams,
        lowered: &Lowered,
        cpu_usage: Option<&OwnedFd>,
        role: Role,
        start: impl FnOnce(Start<'_>) -> Result<Made, Refused>,
    ) -> Result<Made> {
        let policy = self.sandbox.policy();
        let pairs = self.pairs(streams);
        let mut descriptors: Vec<_> = pairs.iter().map(|(source, _)| source.as_raw_fd()).collect();
        // It comes after them.
        let cpu_fd =
            cpu_usage.and(i32::try_from(descriptors.len()).ok()).map(|at| wire::HANDED + at);
        descriptors.extend(cpu_usage.map(AsRawFd::as_raw_fd));
        let handed = matches!(role, Role::Later(_)).then_some(descriptors.len());
        let (program, _) = self.encode(policy, &lowered.plan, &pairs, cpu_fd, role, handed)?;
        let given = Start {
            groups: None,
            cpu_usage: None,
            policy,
            lowered,
            trees: &[],
            own_id: None,
            program,
            descriptors,
            terminal: self.pty,
            journal: None,
            role,
            wall: self.wall(),
            entering: None,
            template: None,
            network: None,
        };
        start(given).map_err(|refused| self.refused(&lowered.plan, refused))
    }

    /// With what the handle is made of that it is started for.
    pub(crate) fn attach(
        &self,
        streams: Streams,
        lowered: &Lowered,
        role: Role,
        mut made: Made,
    ) -> (Made, Attached) {
        let listener = std::mem::take(&mut made.kept).take_listener();
        let attached = self.attached(streams, lowered, role);
        (made, Attached { listener, ..attached })
    }

    /// The program's descriptors: the caller's, and their numbers inside.
    fn pairs<'a>(&'a self, streams: &'a Streams) -> Vec<(BorrowedFd<'a>, RawFd)> {
        let standard = (0..).zip(&streams.theirs).map(|(target, theirs)| (theirs.as_fd(), target));
        let others = self.descriptors.iter().map(|(number, fd)| (fd.as_fd(), *number));
        standard.chain(others).collect()
    }

    fn refused(&self, plan: &Plan, refused: Refused) -> Error {
        match refused {
            Refused::Error(error) => error,
            Refused::Start(report, interpreter) => self.not_started(plan, &report, interpreter),
        }
    }

    /// What a handle is made of, as far as the command tells.
    fn attached(&self, streams: Streams, lowered: &Lowered, role: Role) -> Attached {
        let policy = self.sandbox.policy();
        #[cfg(feature = "footprint")]
        let passed = streams.passed;
        let [stdin, stdout, stderr] = streams.ours;
        let wall = self.wall();
        let limit = wall.map(|wall| wall.saturating_add(policy.grace));
        Attached {
            stdin: stdin.map(Into::into),
            stdout: stdout.map(Into::into),
            stderr: stderr.map(Into::into),
            missing: Vec::new(),
            supervised: policy.init,
            own_pids: false,
            wall,
            limit: limit.filter(|_| !matches!(role, Role::Waiting(_) | Role::Template)),
            keep_bytes: self.keep,
            memory_mounts: lowered.plan.memory_mounts(),
            groups: None,
            sandbox: self.sandbox.clone(),
            remains: Arc::default(),
            held: Vec::new(),
            listener: None,
            lowered: None,
            #[cfg(feature = "footprint")]
            passed: passed || self.pty.is_some() || !self.descriptors.is_empty(),
        }
    }

    /// What stays of the tree: what the operations that keep something have sent, in their order.
    fn remains(
        &self,
        lowered: &Lowered,
        kept: Kept,
        held: &mut [Held],
        check_only: bool,
    ) -> Remains {
        let tree = &self.sandbox.policy().tree;
        let (mut namespace, mut writable, mut uppers) = (None, None, Vec::new());
        for (index, fd) in kept.others {
            match lowered.plan.kept(index) {
                Some(b"") => namespace = Some(fd),
                Some(b"/") => writable = Some(fd),
                Some(_) => uppers.push(Arc::new(fd)),
                None => {}
            }
        }
        for upper in &mut *held {
            upper.open_work();
            upper.used = !check_only;
        }
        let (mut own, mut held_uppers) = (uppers.into_iter(), held.iter().map(|held| &held.upper));
        let source = |(path, overlay): (&Path, &Overlay)| {
            let (upper, ids) = match overlay.kept() {
                Some(_) => (held_uppers.next().cloned(), None),
                None if overlay.is_thrown_away() => (own.next(), Some(lowered.ids)),
                None => (None, None),
            };
            upper.map(|upper| Source::new(path, overlay, upper, ids))
        };
        let overlays = tree.overlays().filter_map(source).collect();
        let (mounts, uid) = (tree.mounts(), lowered.ids.host.0);
        Remains { own: true, root: kept.root, writable, namespace, mounts, uid, overlays }
    }
}

/// Whether a set-up ended because of the sandbox's own limit of memory.
fn out_of_memory(groups: Option<&Groups>) -> Option<Hint> {
    let kills = groups.and_then(|groups| groups.stats().memory.oom_kills);
    (kills.unwrap_or(0) > 0).then_some(Hint::MemoryLimit)
}
