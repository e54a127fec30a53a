//! The handle of a running sandbox.

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::process::{ChildStderr, ChildStdin, ChildStdout};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use crate::cgroup::freezer::Pausable;
use crate::cgroup::group::Groups;
use crate::error::{Error, Feature, Result, Stage};
use crate::learn::{Denials, Journal};
#[cfg(feature = "footprint")]
use crate::learn::{Footprint, Gap};
use crate::lower::Lowered;
use crate::networks::Lent;
use crate::outcome::Status;
use crate::output::Remains;
use crate::process::{Launched, Stands, pid_of_pidfd};
use crate::pty::Pty;
use crate::rootfs::Held;
use crate::sandbox::Sandbox;
use crate::session::Hosted;
use crate::spawn::Made;
use crate::sys;
use crate::template::Template;

mod account;
#[cfg(feature = "tokio")]
mod asynchronous;
mod end;
mod enter;
mod files;
mod hosted;
mod limits;
mod pause;
mod reader;
mod wait;

pub(crate) use account::Account;
#[cfg(feature = "tokio")]
pub use asynchronous::AsyncChild;
pub(crate) use end::{reap_later, reap_the_detached};
pub(crate) use enter::Entered;
use pause::Paused;
pub(crate) use pause::Watched;

/// How long dropping a handle waits for the kernel to end the sandbox. A process in the middle of
/// I/O that never comes (a dead NFS server) must not hang the caller for ever.
pub(crate) const DROP_WAIT: Duration = Duration::from_secs(10);

/// A running sandbox
/// ([pid_namespaces(7)](https://man7.org/linux/man-pages/man7/pid_namespaces.7.html)). Dropping it
/// ends everything inside, and waits for that.
///
/// All of it works from any thread, whether or not the thread that spawned it still exists.
///
/// # Examples
///
/// ```
/// use stockade::{Outcome, Sandbox};
/// let mut child = Sandbox::new().command("/bin/true").spawn()?;
/// assert_eq!(child.wait()?.outcome, Outcome::Exited(0));
/// # Ok::<(), stockade::Error>(())
/// ```
#[derive(Debug)]
pub struct Child {
    /// The writing end of the program's standard input, if it is
    /// [piped](crate::Stdio::piped). Take it and drop it to give the program an end of file.
    pub stdin: Option<ChildStdin>,
    /// The reading end of the program's standard output, if it is piped.
    pub stdout: Option<ChildStdout>,
    /// The reading end of the program's standard error, if it is piped.
    pub stderr: Option<ChildStderr>,
    terminal: Option<Pty>,
    owner: u32,
    pid: u32,
    inner_pid: u32,
    pidfd: Arc<OwnedFd>,
    program: Option<OwnedFd>,
    control: Option<OwnedFd>,
    warden_id: u64,
    missing: Vec<Feature>,
    started: Instant,
    /// How long the program may run.
    wall: Option<Duration>,
    deadline: Option<Instant>,
    supervised: bool,
    own_pids: bool,
    killed: bool,
    detached: bool,
    keep_bytes: usize,
    account: Account,
    memory_mounts: Vec<PathBuf>,
    status: Option<Status>,
    /// Removed with the handle, or as soon as the end is seen.
    groups: Option<Groups>,
    /// Made with the first pause.
    pausable: Option<Pausable>,
    paused: Option<Paused>,
    /// The same, for who starts a program in it.
    stands: Stands,
    /// Other programs may have been started in it, which are no descendants of its init.
    entered: AtomicBool,
    sandbox: Sandbox,
    remains: Arc<Remains>,
    /// Uppers that the caller keeps, and nobody else uses meanwhile.
    held: Vec<Held>,
    /// What the program's filter asks with, if the caller is asked.
    listener: Option<OwnedFd>,
    /// What notes what the program was refused.
    journal: Option<Journal>,
    /// It is one of a session's.
    hosted: Option<Hosted>,
    /// Its pidfd has been given to the caller, who waits for the end by it.
    exposed: AtomicBool,
    /// It is one that has entered a sandbox: who has made its init, and reaps that.
    maker: Option<Launched>,
    /// What it was made from, unless it is one of these.
    lowered: Option<Arc<Lowered>>,
    /// The network that another sandbox may have next.
    network: Option<Lent>,
    /// What it is a copy of, which reaps it unless there are groups.
    template: Option<Arc<Template>>,
    /// There is something of the caller's to read from.
    #[cfg(feature = "footprint")]
    passed: bool,
}

/// What a new handle is made of besides the sandbox itself.
#[derive(Debug)]
pub(crate) struct Attached {
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) stdout: Option<ChildStdout>,
    pub(crate) stderr: Option<ChildStderr>,
    pub(crate) missing: Vec<Feature>,
    pub(crate) supervised: bool,
    pub(crate) own_pids: bool,
    pub(crate) wall: Option<Duration>,
    /// The same with what comes after it.
    pub(crate) limit: Option<Duration>,
    pub(crate) keep_bytes: usize,
    /// The writable file systems in memory, in init's order.
    pub(crate) memory_mounts: Vec<PathBuf>,
    pub(crate) groups: Option<Groups>,
    pub(crate) sandbox: Sandbox,
    pub(crate) remains: Arc<Remains>,
    pub(crate) held: Vec<Held>,
    pub(crate) listener: Option<OwnedFd>,
    pub(crate) lowered: Option<Arc<Lowered>>,
    #[cfg(feature = "footprint")]
    pub(crate) passed: bool,
}

impl Child {
    pub(crate) fn new(made: Made, attached: Attached) -> Self {
        let Attached {
            stdin,
            stdout,
            stderr,
            mut missing,
            supervised,
            own_pids,
            wall,
            limit,
            keep_bytes,
            memory_mounts,
            groups,
            sandbox,
            remains,
            held,
            listener,
            lowered,
            #[cfg(feature = "footprint")]
            passed,
        } = attached;
        missing.extend(groups.iter().flat_map(|groups| groups.missing.iter().copied()));
        let skipped = |feature: &Feature| made.skipped >> (feature.bit() - 1) & 1 != 0;
        missing.extend(Feature::ALL.into_iter().filter(skipped));
        let mut child = Child {
            stdin,
            stdout,
            stderr,
            terminal: made.terminal,
            owner: std::process::id(),
            pid: made.pid,
            inner_pid: made.inner_pid,
            pidfd: made.pidfd,
            program: made.program,
            control: Some(made.control),
            warden_id: made.warden_id,
            missing,
            started: made.started,
            wall,
            deadline: limit.and_then(|limit| made.started.checked_add(limit)),
            supervised,
            own_pids,
            killed: false,
            detached: false,
            keep_bytes,
            account: Account::default(),
            memory_mounts,
            status: None,
            groups,
            pausable: None,
            paused: None,
            stands: Stands::default(),
            entered: AtomicBool::new(false),
            sandbox,
            remains,
            held,
            listener,
            journal: made.journal,
            hosted: None,
            exposed: AtomicBool::new(false),
            maker: made.maker,
            lowered,
            network: None,
            template: None,
            #[cfg(feature = "footprint")]
            passed,
        };
        made.early.into_iter().for_each(|report| child.account.note(report));
        child
    }

    pub(crate) fn groups(&self) -> Option<&Groups> {
        self.groups.as_ref()
    }

    pub(crate) fn remains(&self) -> Arc<Remains> {
        Arc::clone(&self.remains)
    }

    pub(crate) fn hosted(mut self, hosted: Hosted) -> Self {
        self.hosted = Some(hosted);
        self
    }

    /// Of a template, perhaps, and with a network.
    pub(crate) fn copied(mut self, of: Option<Arc<Template>>, network: Option<Lent>) -> Self {
        (self.template, self.network) = (of, network);
        self
    }

    /// The first process and its socket, for who starts programs in it.
    pub(crate) fn init(&self) -> Result<(Launched, OwnedFd)> {
        let control = self.control.as_ref().ok_or_else(|| self.gone())?;
        let control = sys::duplicate(control.as_raw_fd());
        let control =
            control.map_err(|errno| Error::new(Stage::Run, "dup", "of init's socket", errno))?;
        Ok((self.launched(), control))
    }

    /// For who starts programs in it: whether it is paused.
    pub(crate) fn stands(&self) -> Stands {
        self.stands.clone()
    }

    /// Somebody else may be in its network: no other sandbox gets that.
    pub(crate) fn keep_network(&mut self) {
        self.network = None;
    }

    /// The same, of a sandbox that is to have one program.
    pub(crate) fn hand_over(&mut self) -> Result<(Launched, OwnedFd)> {
        let control = self.control.take().ok_or_else(|| self.gone())?;
        Ok((self.launched(), control))
    }

    fn launched(&self) -> Launched {
        let pidfd = Arc::clone(&self.pidfd);
        Launched { pid: self.pid, pidfd, armed: false, born_inside: true, session: None }
    }

    fn gone(&self) -> Error {
        let object = format!("(process {} has ended)", self.pid);
        Error::new(Stage::Run, "talk to init", object, Errno::ESRCH)
    }

    pub(crate) fn warden_id(&self) -> u64 {
        self.warden_id
    }

    pub(crate) fn has_ended(&self) -> bool {
        sys::wait_readable(self.pidfd.as_fd(), Some(Duration::ZERO))
    }

    /// From now on it is the handle of this program, for which it has waited.
    pub(crate) fn take_on(&mut self, made: Made, attached: Attached) {
        let Attached { stdin, stdout, stderr, limit, wall, keep_bytes, listener, .. } = attached;
        self.wall = wall;
        (self.stdin, self.stdout, self.stderr) = (stdin, stdout, stderr);
        (self.keep_bytes, self.listener) = (keep_bytes, listener);
        self.deadline = limit.and_then(|limit| made.started.checked_add(limit));
        self.started = made.started;
        self.terminal = made.terminal;
        self.inner_pid = made.inner_pid;
        self.program = made.program;
        self.control = Some(made.control);
        made.early.into_iter().for_each(|report| self.account.note(report));
    }

    /// The host's pid of the sandbox's first process: init, or without it the program
    /// ([namespaces(7)](https://man7.org/linux/man-pages/man7/namespaces.7.html)). It names the
    /// namespaces too (`/proc/ID/ns`), as long as the sandbox runs. Of a command of a session it is that of who looks
    /// after it, which may have looked after others, and then looks after more.
    ///
    /// # Examples
    ///
    /// ```
    /// let child = stockade::Sandbox::new().command("sleep").arg("1000").spawn()?;
    /// assert_ne!(Some(child.id()), child.program_id());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    #[must_use]
    pub fn id(&self) -> u32 {
        self.pid
    }

    /// The host's pid of the program, while it runs; `None` too if the caller has no /proc
    /// ([pidfd_open(2)](https://man7.org/linux/man-pages/man2/pidfd_open.2.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// let mut child = stockade::Sandbox::new().command("sleep").arg("1000").spawn()?;
    /// assert!(child.program_id().is_some());
    /// child.kill()?;
    /// child.wait()?;
    /// assert_eq!(child.program_id(), None);
    /// # Ok::<(), stockade::Error>(())
    /// ```
    #[must_use]
    pub fn program_id(&self) -> Option<u32> {
        let proc = std::fs::File::open("/proc").ok()?;
        pid_of_pidfd(proc.as_fd(), self.program_pidfd())
    }

    /// The program's pid inside, which `getpid(2)` answers to it
    /// ([pid_namespaces(7)](https://man7.org/linux/man-pages/man7/pid_namespaces.7.html)); 1 with
    /// [`init(false)`](crate::Sandbox::init).
    ///
    /// # Examples
    ///
    /// ```
    /// let child = stockade::Sandbox::new().init(false).command("sleep").arg("1000").spawn()?;
    /// assert_eq!(child.inner_id(), 1);
    /// # Ok::<(), stockade::Error>(())
    /// ```
    #[must_use]
    pub fn inner_id(&self) -> u32 {
        self.inner_pid
    }

    /// A descriptor that becomes readable when all of the sandbox has ended, its init included, to be watched by an
    /// event loop ([pidfd_open(2)](https://man7.org/linux/man-pages/man2/pidfd_open.2.html), Linux 5.3). Of a command of a
    /// session it is that of who looks after it, and nobody else's from then on; in a forked copy of the caller it need not
    /// become readable.
    ///
    /// # Examples
    ///
    /// ```
    /// use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    /// let mut child = stockade::Sandbox::new().command("true").spawn()?;
    /// let mut set = [PollFd::new(child.pidfd(), PollFlags::POLLIN)];
    /// assert_eq!(poll(&mut set, PollTimeout::NONE), Ok(1));
    /// assert!(child.try_wait()?.is_some());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    #[must_use]
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.expose();
        self.pidfd.as_fd()
    }

    /// The master of the program's terminal, if it has [one of its own](crate::Command::pty) and
    /// that was not taken ([pty(7)](https://man7.org/linux/man-pages/man7/pty.7.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// let child = stockade::Sandbox::new().command("sleep").arg("1000").pty(24, 80).spawn()?;
    /// child.pty().ok_or("asked for")?.resize(50, 132)?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn pty(&self) -> Option<&Pty> {
        self.terminal.as_ref()
    }

    /// The same as [`pty`](Self::pty), as a value of its own, which outlives the handle.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut child = stockade::Sandbox::new().command("tty").pty(24, 80).spawn()?;
    /// let terminal = child.take_pty().ok_or("asked for")?;
    /// child.wait()?;
    /// // What it wrote before its end is still there, and then comes the end of file.
    /// assert_eq!(std::io::read_to_string(terminal)?, "/dev/pts/0\r\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn take_pty(&mut self) -> Option<Pty> {
        self.terminal.take()
    }

    /// What the sandbox lacks because the system could not give it and it was
    /// [best effort](crate::Sandbox::best_effort).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Feature, Sandbox};
    /// let sandbox = Sandbox::new().best_effort(Feature::SessionKeyring);
    /// let child = sandbox.command("true").spawn()?;
    /// // What was not named is never missing.
    /// assert!(!child.missing().contains(&Feature::TimeNamespace));
    /// # Ok::<(), stockade::Error>(())
    /// ```
    #[must_use]
    pub fn missing(&self) -> &[Feature] {
        &self.missing
    }

    /// What a profile with [`Action::Notify`](crate::Action::Notify) asks with, for the caller to answer
    /// ([seccomp_unotify(2)](https://man7.org/linux/man-pages/man2/seccomp_unotify.2.html)); the first
    /// time, then `None`. Whoever makes such a call waits for the answer as long as somebody has it open.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Action, Rule, Sandbox, Seccomp};
    /// let asking = Seccomp::default().rule(Rule::new("sethostname").then(Action::Notify));
    /// let mut child = Sandbox::new().seccomp(asking).command("true").spawn()?;
    /// assert!(child.seccomp_listener().is_some());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn seccomp_listener(&mut self) -> Option<OwnedFd> {
        self.listener.take()
    }

    /// What the program was refused, or did not find because it was not in the sandbox, in the order in
    /// which it came up first; nothing without [`Sandbox::learn`](crate::Sandbox::learn). While the program
    /// runs it is what is known so far; after [`wait`](Self::wait) it is all, with the limits that were reached
    /// ([seccomp_unotify(2)](https://man7.org/linux/man-pages/man2/seccomp_unotify.2.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Denied, Sandbox};
    /// let mut child = Sandbox::new().learn().command("cat").arg("/proc/meminfo").spawn()?;
    /// child.wait()?;
    /// let denials = child.denials();
    /// let wanted = |what: &Denied| matches!(what, Denied::Path { path, .. } if path.ends_with("meminfo"));
    /// let found = denials.iter().find(|denial| wanted(&denial.what)).ok_or("there is one")?;
    /// assert_eq!(found.line.as_deref(), Some(".proc(Proc::Compat)"));
    /// println!("{denials}");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn denials(&self) -> Denials {
        let learns = self.sandbox.policy().learn;
        let Some(journal) = self.journal.as_ref().filter(|_| learns) else {
            return Denials::default();
        };
        let mut denials = journal.denials(self.status.is_some());
        if let Some(status) = &self.status {
            denials.add_limits(status, self.sandbox.policy(), self.wall);
        }
        denials
    }

    /// What was read and written, and how that differs from what was
    /// [declared](crate::Sandbox::declare_inputs); `None` if nothing was. While the program runs it is
    /// what is known so far; after [`wait`](Self::wait) it is all. Needs the feature `footprint`
    /// ([seccomp_unotify(2)](https://man7.org/linux/man-pages/man2/seccomp_unotify.2.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::Sandbox;
    /// let run = || -> stockade::Result<_> {
    ///     let sandbox = Sandbox::new().file("/in", "text").declare_inputs(["/in", "/usr", "/etc"]);
    ///     let mut child = sandbox.command("wc").arg("/in").spawn()?;
    ///     child.wait()?;
    ///     Ok(child.footprint())
    /// };
    /// let footprint = run()?.ok_or("asked for")?;
    /// assert!(footprint.reads.iter().any(|read| read.path.ends_with("in")));
    /// assert_eq!(Some(footprint.digest), run()?.map(|again| again.digest));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "footprint")]
    #[must_use]
    pub fn footprint(&self) -> Option<Footprint> {
        let gaps = self.passed.then_some(Gap::Descriptors).into_iter().collect();
        self.journal.as_ref()?.footprint(self.status.is_some(), gaps)
    }

    fn program_pidfd(&self) -> BorrowedFd<'_> {
        self.program.as_ref().map_or(self.pidfd.as_fd(), AsFd::as_fd)
    }

    /// A word to init, if there is one; it may have ended.
    fn tell_init(&self, word: &[u8], fds: &[RawFd]) -> Result<()> {
        let mine = self.supervised && !self.is_a_copys();
        let Some(control) = self.control.as_ref().filter(|_| mine) else {
            return Ok(());
        };
        let (control, words) = (std::os::fd::AsRawFd::as_raw_fd(control), [IoSlice::new(word)]);
        let rights = [ControlMessage::ScmRights(fds)];
        let rights = if fds.is_empty() { &[][..] } else { &rights[..] };
        match sendmsg::<()>(control, &words, rights, MsgFlags::MSG_NOSIGNAL, None) {
            Ok(_) | Err(Errno::EPIPE | Errno::ECONNRESET) => Ok(()),
            Err(errno) => Err(Error::new(Stage::Run, "tell init", "", errno)),
        }
    }
}

impl AsFd for Child {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd()
    }
}
