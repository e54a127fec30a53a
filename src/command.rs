//! A program to be started, in `std::process::Command`'s vocabulary.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fchmod};

use crate::capability::Capability;
use crate::cgroup::group::Groups;
use crate::changes::Source;
use crate::child::{Attached, Child, reap_the_detached};
use crate::error::{Error, Feature, Result, Stage, quoted};
use crate::given::Given;
use crate::hint::{self, Hint};
use crate::lower::{self, Lowered};
use crate::namespace::{Namespaces, user};
use crate::outcome::{Output, Status};
use crate::output::Remains;
use crate::plan::Plan;
use crate::policy::{Policy, check_text};
use crate::pty::Size;
use crate::rlimit::{Max, Resource};
use crate::rootfs::{self, Held, Overlay, Trees};
use crate::sandbox::Sandbox;
use crate::seccomp::Listener;
use crate::secret::Secret;
use crate::spawn::{Kept, Refused, Start, make, make_groups};
use crate::sys;
use crate::wire::{self, Call, Program, Put, Report};

/// PATH inside, unless the command sets another.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How much of each output stream is kept, unless asked for otherwise.
const KEEP: usize = 64 << 20;
/// The kernel's own limit of one argument (`MAX_ARG_STRLEN`).
const LONGEST_ARGUMENT: usize = 128 * 1024;

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
}

/// Where a standard stream comes from or goes to
/// ([stdin(3)](https://man7.org/linux/man-pages/man3/stdin.3.html)).
///
/// # Examples
///
/// ```
/// use stockade::{Sandbox, Stdio};
/// let log = std::fs::File::create("/dev/null").unwrap();
/// let status = Sandbox::new().command("true").stdout(log).stderr(Stdio::null()).status()?;
/// assert!(status.outcome.is_success());
/// # Ok::<(), stockade::Error>(())
/// ```
#[derive(Debug)]
pub struct Stdio(Kind);

#[derive(Debug)]
enum Kind {
    Null,
    Inherit,
    Piped,
    Fd(OwnedFd),
}

impl Stdio {
    /// /dev/null ([null(4)](https://man7.org/linux/man-pages/man4/null.4.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Sandbox, Stdio};
    /// let status = Sandbox::new().command("cat").stdin(Stdio::null()).status()?;
    /// assert!(status.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    #[must_use]
    pub fn null() -> Self {
        Stdio(Kind::Null)
    }

    /// The caller's own stream: a widening. A terminal takes input that the program pushes back
    /// into it (`TIOCSTI` of [ioctl_tty(2)](https://man7.org/linux/man-pages/man2/ioctl_tty.2.html);
    /// from Linux 6.2 on only if `dev.tty.legacy_tiocsti` is 1), and through /proc/self/fd a file
    /// can be opened again with all rights that the program's id has on it.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Sandbox, Stdio};
    /// let status = Sandbox::new().command("echo").stdout(Stdio::inherit()).status()?;
    /// assert!(status.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    #[must_use]
    pub fn inherit() -> Self {
        Stdio(Kind::Inherit)
    }

    /// A pipe whose other end is in the [`Child`]
    /// ([pipe(7)](https://man7.org/linux/man-pages/man7/pipe.7.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::Read;
    /// use stockade::{Sandbox, Stdio};
    /// let mut child = Sandbox::new().command("echo").arg("hello").stdout(Stdio::piped()).spawn()?;
    /// let mut text = String::new();
    /// child.stdout.take().ok_or("piped")?.read_to_string(&mut text)?;
    /// assert_eq!(text, "hello\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn piped() -> Self {
        Stdio(Kind::Piped)
    }
}

impl From<OwnedFd> for Stdio {
    fn from(fd: OwnedFd) -> Self {
        Stdio(Kind::Fd(fd))
    }
}

impl From<File> for Stdio {
    fn from(file: File) -> Self {
        OwnedFd::from(file).into()
    }
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
        }
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
    /// the standard stream; the others have to be below the soft limit of [`Resource::OpenFiles`].
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
        self.start(false)
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
        for stream in self.streams[1..].iter_mut().filter(|_| self.pty.is_none()) {
            stream.get_or_insert_with(Stdio::piped);
        }
        self.spawn()?.wait_with_output()
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
        self.start(true).map(drop)
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
        Ok(lower::lower(&self.sandbox, &self.search())?.plan)
    }

    fn start(self, check_only: bool) -> Result<Child> {
        self.make(check_only).map_err(Error::explained)
    }

    fn make(mut self, check_only: bool) -> Result<Child> {
        let began = Instant::now();
        self.validate()?;
        reap_the_detached();
        let sandbox = self.sandbox.clone();
        let policy = sandbox.policy();
        let mut lowered = lower::lower(&sandbox, &self.search())?;
        log::debug!(
            "prepare: lowered to {} operations in {:?}",
            lowered.plan.len(),
            began.elapsed()
        );
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
            lowered.choose(*id);
        }
        let own_id = own_id.as_ref().map(|(namespace, _)| namespace.as_fd());
        let held = rootfs::prepare(policy.tree.overlays().map(|(_, overlay)| overlay))?;
        let trees = Trees::make(&lowered, own_id, init_file, best_effort)?;
        log::debug!(
            "prepare: streams and {} trees in {:?}",
            lowered.trees.len(),
            copying.elapsed()
        );
        let mut pairs = Vec::new();
        for (target, theirs) in (0..).zip(&streams.theirs) {
            pairs.push((theirs.as_fd(), target));
        }
        pairs.extend(self.descriptors.iter().map(|(number, fd)| (fd.as_fd(), *number)));
        // Declared before what is in them, and so removed after it.
        let mut groups = make_groups(policy)?;
        let cpu_usage =
            groups.as_ref().map_or(Ok(None), |groups| groups.cpu_usage(&policy.limits))?;
        let program = self.lower(policy, &lowered.plan, &pairs, cpu_usage.as_ref(), check_only)?;
        let start = Start {
            groups: groups.as_ref(),
            cpu_usage: cpu_usage.as_ref(),
            policy,
            lowered: &lowered,
            trees: &trees.fds,
            own_id,
            program,
            descriptors: pairs.iter().map(|(source, _)| source.as_raw_fd()).collect(),
            supervised: policy.init && !check_only,
            terminal: self.pty,
            check_only,
        };
        let mut made = make(&start).map_err(|refused| match refused {
            Refused::Error(error) => error.with_hint(out_of_memory(groups.as_ref())),
            Refused::Start(report, interpreter) => self
                .not_started(&lowered.plan, &report, interpreter)
                .with_hint(out_of_memory(groups.as_ref())),
        })?;
        if let Some(groups) = &mut groups {
            groups.close_entrances();
        }
        log::debug!("spawned as {} in {:?} in all", made.pid, began.elapsed());
        let others = &mut made.kept.others;
        let asks = others.iter().position(|(index, _)| *index == wire::report::LISTENER);
        let listener = asks.map(|at| others.remove(at).1);
        let remains = self.remains(&lowered, std::mem::take(&mut made.kept), held, check_only);
        let mut missing = lowered.missing.clone();
        missing.extend(trees.unmapped.then_some(Feature::IdMappedMounts));
        let [stdin, stdout, stderr] = streams.ours;
        let attached = Attached {
            stdin: stdin.map(Into::into),
            stdout: stdout.map(Into::into),
            stderr: stderr.map(Into::into),
            missing,
            supervised: policy.init,
            own_pids: policy.has_own_pids(),
            limit: policy.wall.map(|wall| wall.saturating_add(policy.grace)),
            keep_bytes: self.keep,
            memory_mounts: lowered.plan.memory_mounts(),
            groups,
            sandbox: self.sandbox.clone(),
            remains,
            listener,
        };
        Ok(Child::new(made, attached))
    }

    /// What stays of the tree: what the operations that keep something have sent, in their order.
    fn remains(
        &self,
        lowered: &Lowered,
        kept: Kept,
        mut held: Vec<Held>,
        check_only: bool,
    ) -> Remains {
        let tree = &self.sandbox.policy().tree;
        let (mut namespace, mut uppers) = (None, Vec::new());
        for (index, fd) in kept.others {
            match lowered.plan.kept(index) {
                Some(b"") => namespace = Some(fd),
                Some(_) => uppers.push(Arc::new(fd)),
                None => {}
            }
        }
        for upper in &mut held {
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
        Remains { root: kept.root, namespace, mounts, uid, overlays, held }
    }

    fn validate(&self) -> Result<()> {
        let mut problems = match self.sandbox.policy().validate() {
            Err(Error::Invalid(problems)) => problems,
            other => {
                other?;
                Vec::new()
            }
        };
        if self.program.is_empty() {
            problems.push("the program has no name".to_owned());
        }
        check_text("the program's name", &self.program, &mut problems);
        for arg in self.args.iter().chain(&self.arg0) {
            check_text("the argument", arg, &mut problems);
            if arg.len() >= LONGEST_ARGUMENT {
                problems.push(format!(
                    "an argument of {} bytes is longer than the kernel's limit of {}",
                    arg.len(),
                    LONGEST_ARGUMENT - 1
                ));
            }
        }
        for (key, value) in &self.env {
            check_text("the environment variable", key, &mut problems);
            // Values can be secrets, so they are not shown.
            if value.as_encoded_bytes().contains(&0) {
                problems.push(format!("the value of {key:?} contains a NUL byte"));
            }
            if key.is_empty() || key.as_encoded_bytes().contains(&b'=') {
                problems.push(format!("{key:?} is no name for an environment variable"));
            }
        }
        if let Some(directory) = &self.directory {
            check_text("the working directory", &directory.clone().into(), &mut problems);
        }
        self.descriptor_problems(&mut problems);
        self.terminal_problems(&mut problems);
        if problems.is_empty() { Ok(()) } else { Err(Error::Invalid(problems)) }
    }

    fn descriptor_problems(&self, problems: &mut Vec<String>) {
        let limit = self.sandbox.policy().rlimits.limit(Resource::OpenFiles).soft;
        for &number in self.descriptors.keys() {
            let above = match (u64::try_from(number), limit) {
                (Err(_), _) => true,
                (Ok(number), Max::At(limit)) => number >= limit,
                (Ok(_), Max::Unlimited) => false,
            };
            if above {
                problems.push(format!("descriptor {number} is not below the limit of open files"));
            }
        }
        if self.descriptors.len() + 3 > wire::DESCRIPTORS_MAX {
            problems
                .push(format!("more than {} descriptors are passed", wire::DESCRIPTORS_MAX - 3));
        }
    }

    fn terminal_problems(&self, problems: &mut Vec<String>) {
        if self.pty.is_none() {
            return;
        }
        for (stream, name) in self.streams.iter().zip(["stdin", "stdout", "stderr"]) {
            if stream.is_some() {
                problems.push(format!("pty(..) is all standard streams, and {name}(..) is given"));
            }
        }
        if self.terminal {
            problems.push("pty(..) is the controlling terminal, and another is asked for".into());
        }
        if !self.sandbox.policy().new_namespaces().contains(Namespaces::MOUNT) {
            problems.push("pty(..) needs a mount namespace of the sandbox's own".into());
        }
    }

    fn open_streams(&mut self) -> Result<Streams> {
        let mut streams = Streams { theirs: Vec::new(), ours: [None, None, None] };
        let failed = |number: usize, errno| {
            let names = ["standard input", "standard output", "standard error"];
            let name = names.get(number).copied().unwrap_or_default();
            Error::new(Stage::Prepare, "open", name, errno)
        };
        // First what is inherited: one that is closed is no more once something else is opened.
        for (number, stream) in self.streams.iter_mut().enumerate() {
            if matches!(stream, Some(Stdio(Kind::Inherit))) {
                let copy = inherited(number).map_err(|errno| failed(number, errno))?;
                *stream = Some(Stdio(Kind::Fd(copy)));
            }
        }
        let mut null = None;
        for (number, stream) in self.streams.iter_mut().enumerate() {
            let kind = stream.take().map_or(Kind::Null, |stdio| stdio.0);
            if let (Kind::Null, Some(null)) = (&kind, &null) {
                streams.theirs.push(Rc::clone(null));
                continue;
            }
            let empty = matches!(kind, Kind::Null);
            let (theirs, ours) =
                open_stream(number, kind).map_err(|errno| failed(number, errno))?;
            let theirs = Rc::new(theirs);
            if empty {
                null = Some(Rc::clone(&theirs));
            }
            streams.theirs.push(theirs);
            if let Some(place) = streams.ours.get_mut(number) {
                *place = ours;
            }
        }
        Ok(streams)
    }

    /// The PATH inside.
    fn search(&self) -> OsString {
        self.env.get(OsStr::new("PATH")).map_or_else(OsString::new, |path| path.0.clone())
    }

    /// The paths that are tried: one, or the name in each directory of the sandbox's PATH.
    fn candidates(&self) -> Vec<Vec<u8>> {
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

    /// The encoded program part of the plan.
    fn lower(
        &self,
        policy: &Policy,
        plan: &Plan,
        pairs: &[(BorrowedFd<'_>, RawFd)],
        cpu_usage: Option<&OwnedFd>,
        check_only: bool,
    ) -> Result<Vec<u8>> {
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
        let filters = policy.filter(given.iter().any(Given::writes_to_host));
        let filters = filters.map_err(Error::Invalid)?;
        // Without init nobody could tell that they are in place, nor that they are not.
        let tried = !check_only || filters.allow_report;
        let filter =
            |at: usize| filters.programs.0.get(at).filter(|_| tried).cloned().unwrap_or_default();
        let program = Program {
            first,
            operations,
            flags: self.flags(policy, plan, check_only)
                | if filters.allow_setup { 0 } else { wire::FILTERS_LAST }
                | match filters.listener.filter(|_| policy.init && !check_only) {
                    None => 0,
                    Some(Listener::Init) => wire::LISTENS,
                    Some(Listener::Caller) => wire::LISTENS | wire::CALLER_LISTENS,
                },
            umask: self.umask,
            nice: policy.nice,
            securebits: securebits(),
            bounding: sets.bounding().bits(),
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
        let mut out = Vec::new();
        program.put(&mut out);
        Ok(out)
    }

    /// Where the program starts: HOME, if there is one and nothing else was asked for.
    fn directory_inside(&self, policy: &Policy) -> PathBuf {
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

    /// Puts init's report about the start into words.
    fn not_started(&self, plan: &Plan, report: &Report, interpreter: Option<OsString>) -> Error {
        let [_, call, errno, detail, ..] = report.numbers;
        let call = Call::from_number(call).unwrap_or(Call::Exec);
        let errno = Errno::from_raw(i32::try_from(errno).unwrap_or(libc::EPROTO));
        let detail = usize::try_from(detail).unwrap_or(usize::MAX);
        let object = match call {
            Call::Exec => self.name_of_candidate(detail, errno),
            Call::Interpreter => {
                let name = self.name_of_candidate(detail, Errno::EACCES);
                // A program of another word size, say, does not tell here.
                match &interpreter {
                    None => format!("of {name}"),
                    Some(interpreter) => format!("{} of {name}", quoted(interpreter)),
                }
            }
            Call::Chdir => quoted(self.directory_inside(self.sandbox.policy())),
            Call::Rlimit => Resource::ALL.get(detail).map_or_else(String::new, ToString::to_string),
            Call::Descriptor => detail.to_string(),
            Call::Rule => plan.ruleset.object(detail),
            // All else is open by then.
            Call::Open => quoted("/dev/pts/ptmx"),
            Call::Start => {
                let how = match (errno, detail) {
                    (Errno::ETIME, _) => "its time was up before its exec".to_owned(),
                    (_, 0) => "it was killed before its exec".to_owned(),
                    (_, signal) => format!("it was killed by signal {signal} before its exec"),
                };
                format!("{} ({how})", quoted(&self.program))
            }
            Call::Bounding | Call::Ambient => u8::try_from(detail)
                .ok()
                .and_then(Capability::new)
                .map_or_else(String::new, |capability| capability.to_string()),
            // All at once: which of them the caller does not have is not told.
            Call::Capabilities => self.sandbox.policy().capabilities.bounding().to_string(),
            Call::Nice => self.sandbox.policy().nice.to_string(),
            _ => String::new(),
        };
        let hint = match (call, errno) {
            (Call::Exec, Errno::ENOENT) => self.only_outside(&self.program),
            (Call::Interpreter, _) => self.only_outside(&interpreter.unwrap_or_default()),
            _ => hint::for_operation(call.name(), &object, errno),
        };
        Error::new(Stage::Start, call.name(), object, errno).with_hint(hint)
    }

    fn name_of_candidate(&self, index: usize, errno: Errno) -> String {
        let candidates = self.candidates();
        match candidates.get(index).filter(|_| errno != Errno::ENOENT) {
            Some(path) => quoted(OsString::from_vec(path.clone())),
            None => quoted(&self.program),
        }
    }

    /// A program that the host has and the sandbox has not.
    fn only_outside(&self, name: &OsStr) -> Option<Hint> {
        let inside = self.search();
        let outside = std::env::var_os("PATH").unwrap_or_default();
        let names: Vec<PathBuf> = if name.as_bytes().contains(&b'/') {
            vec![name.into()]
        } else {
            let all = std::env::split_paths(&inside).chain(std::env::split_paths(&outside));
            all.map(|directory| directory.join(name)).collect()
        };
        let found = names.into_iter().find(|path| path.is_absolute() && is_program(path))?;
        let in_path = std::env::split_paths(&inside).any(|part| found.parent() == Some(&*part));
        let by_path = name.as_bytes().contains(&b'/');
        Some(if by_path || in_path { Hint::OnlyOutside(found) } else { Hint::OutsideOfPath(found) })
    }
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

/// Whether a set-up ended because of the sandbox's own limit of memory.
fn out_of_memory(groups: Option<&Groups>) -> Option<Hint> {
    let kills = groups.and_then(|groups| groups.stats().memory.oom_kills);
    (kills.unwrap_or(0) > 0).then_some(Hint::MemoryLimit)
}

/// `NOROOT`, `NO_SETUID_FIXUP` and `NO_CAP_AMBIENT_RAISE`, and all four of them locked.
fn securebits() -> u32 {
    const NOROOT: u32 = 1;
    const NO_SETUID_FIXUP: u32 = 1 << 2;
    const NO_CAP_AMBIENT_RAISE: u32 = 1 << 6;
    const LOCKS: u32 = 1 << 1 | 1 << 3 | 1 << 5 | 1 << 7;
    NOROOT | NO_SETUID_FIXUP | NO_CAP_AMBIENT_RAISE | LOCKS
}

/// Both ends of the standard streams.
#[derive(Debug)]
struct Streams {
    /// One /dev/null serves all that are empty.
    theirs: Vec<Rc<OwnedFd>>,
    ours: [Option<OwnedFd>; 3],
}

/// A copy of one of the caller's own streams.
fn inherited(number: usize) -> Result<OwnedFd, Errno> {
    sys::duplicate(RawFd::try_from(number).map_err(|_| Errno::EBADF)?)
}

fn open_stream(number: usize, kind: Kind) -> Result<(OwnedFd, Option<OwnedFd>), Errno> {
    match kind {
        Kind::Fd(fd) => Ok((fd, None)),
        Kind::Inherit => inherited(number).map(|fd| (fd, None)),
        Kind::Null => {
            let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC;
            let null = nix::fcntl::open("/dev/null", flags, Mode::empty())?;
            Ok((null, None))
        }
        Kind::Piped => {
            let (reading, writing) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
            // A program with an id of its own opens it by name too: /dev/stdout. Nobody else can.
            fchmod(&writing, Mode::from_bits_truncate(0o666))?;
            Ok(if number == 0 { (reading, Some(writing)) } else { (writing, Some(reading)) })
        }
    }
}
