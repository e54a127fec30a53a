//! A program to be started, in `std::process::Command`'s vocabulary.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::{OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::audit::Audit;
use crate::child::{Child, Entered};
use crate::error::Result;
use crate::lower;
use crate::outcome::{Output, Status};
use crate::plan::Plan;
use crate::pool;
use crate::prepared;
use crate::pty::Size;
use crate::sandbox::Sandbox;
use crate::secret::Secret;
use crate::session;
use crate::spawn::Role;

mod added;
mod checks;
mod encode;
mod handle;
mod refused;
mod start;
mod stdio;

pub(crate) use start::New;
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
    /// [`Error::Invalid`](crate::Error::Invalid) for contradictions, of the sandbox and of the command,
    /// all at once; [`Error::Unsupported`](crate::Error::Unsupported) for what this system cannot give;
    /// [`Error::Failed`](crate::Error::Failed) with the step that failed, after everything done so far
    /// was undone. A program that was killed before its exec is such a failure, of the operation
    /// "start": with `ETIME` if its [time](crate::Sandbox::wall_time) was up, else with `ESRCH`.
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
}
