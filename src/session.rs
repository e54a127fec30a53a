//! A sandbox in which many programs run.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::socket::{MsgFlags, send};
use nix::sys::stat::Mode;

use crate::cgroup::{Events, Limits, Stats};
use crate::changes::Changes;
use crate::child::{Child, DROP_WAIT, Watched};
use crate::command::{Command, New, Within};
use crate::control::init_died;
use crate::error::{Error, Feature, Result, Stage, quoted};
use crate::lower::Lowered;
use crate::namespace::Namespaces;
use crate::output::Remains;
use crate::policy::Policy;
use crate::process::{Launched, Sockets};
use crate::sandbox::Sandbox;
use crate::spawn::{Count, Role, start_inside};
use crate::wire::STOOD;

pub(crate) mod supervisors;

use supervisors::{Supervisor, Supervisors};

/// One sandbox in which many programs run, one after another or side by side; made by
/// [`Prepared::session`](crate::Prepared::session)
/// ([pid_namespaces(7)](https://man7.org/linux/man-pages/man7/pid_namespaces.7.html)). Dropping it ends
/// everything inside, and waits for that, for ten seconds at the most.
///
/// Each [command](Self::command) has a [`Child`] of its own, with streams, outcome, usage and wall time, and
/// what it leaves ends with it. The rest they share: files that one has written the next one finds,
/// they see each other's processes and may signal them, and the limits hold for all together. So they
/// have to trust one another; the caller has to trust none of them. What they are bound by, init
/// binds itself by once: a file that a program is given as a descriptor cannot be opened anew for writing
/// by its name in /proc/self/fd, and files that have setuid bits cannot be made.
///
/// The tree is that of the moment when it was made: a source of a bind that is renamed, deleted or replaced on the
/// host afterwards stays what it was. It holds six descriptors of the caller's, four for each command that runs,
/// besides those of piped streams (a handle of a command keeps the session's files, and the mounts that
/// [`Sandbox::keep_mounts`](crate::Sandbox::keep_mounts) keeps), and two for each process that waits to look after one: at most four do.
///
/// # Examples
///
/// ```
/// use stockade::{Sandbox, Stdio};
/// let session = Sandbox::new().prepare()?.session()?;
/// let slow = session.command("sleep").arg("0.1").spawn()?;
/// let fast = session.command("echo").arg("side by side").stdout(Stdio::piped()).spawn()?;
/// assert_eq!(fast.wait_with_output()?.stdout, b"side by side\n");
/// # drop(slow);
/// session.end()?;
/// # Ok::<(), stockade::Error>(())
/// ```
#[derive(Debug)]
pub struct Session(Arc<Inner>);

/// What the commands of a session share.
#[derive(Debug)]
pub(crate) struct Inner {
    owner: u32,
    sandbox: Sandbox,
    lowered: Arc<Lowered>,
    missing: Vec<Feature>,
    init: Launched,
    supervisors: Supervisors,
    clock: Mutex<Clock>,
    /// Without a lock: who opens a file may wait for ever.
    remains: Arc<Remains>,
    /// The sandbox itself.
    child: Mutex<Child>,
}

/// How long everything has stood still, and whom that is to be told.
#[derive(Debug, Default)]
struct Clock {
    stood: Duration,
    since: Option<Instant>,
    last: u64,
    commands: BTreeMap<u64, Running>,
}

/// A command, and who looks after it.
#[derive(Debug)]
struct Running {
    control: OwnedFd,
    watched: Watched,
    stood_before: Duration,
}

impl Running {
    /// `all` is how long everything has stood still, before it began as well; `None` while it does.
    fn tell_warden(&self, all: Option<Duration>, policy: &Policy) -> Result<()> {
        self.watched.tell(all.map(|all| all.saturating_sub(self.stood_before)), policy)
    }
}

/// A command of a session, while it runs.
#[derive(Debug)]
pub(crate) struct Hosted {
    session: Arc<Inner>,
    number: u64,
}

impl Hosted {
    /// How long it has stood still; `None` while it does.
    pub(crate) fn stood(&self) -> Option<Duration> {
        let clock = lock(&self.session.clock);
        let running = clock.commands.get(&self.number).filter(|_| clock.since.is_none())?;
        Some(clock.stood.saturating_sub(running.stood_before))
    }
}

impl Hosted {
    /// It has ended, and who has looked after it may have the next one.
    pub(crate) fn give_back(self, supervisor: Supervisor) {
        let session = Arc::clone(&self.session);
        // No word of this one is to come any more.
        drop(self);
        session.supervisors.collect(session.sandbox.policy());
        session.supervisors.give_back(supervisor);
    }
}

impl Drop for Hosted {
    fn drop(&mut self) {
        lock(&self.session.clock).commands.remove(&self.number);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What it holds is whole after each of its changes.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Session {
    pub(crate) fn new(made: New, sandbox: &Sandbox) -> Result<Self> {
        let New { child, lowered, door, .. } = made;
        let (mut init, control) = child.init()?;
        let door = door.ok_or_else(|| init_died(&init, Stage::Launch))?;
        init.session = Some(Arc::new(Sockets { control, paused: child.stands() }));
        let supervisors = Supervisors::new(door, &init, sandbox.policy())?;
        let missing = child.missing().to_vec();
        let sandbox = sandbox.clone();
        let (clock, remains) = (Mutex::default(), child.remains());
        let (owner, child) = (std::process::id(), Mutex::new(child));
        let inner =
            Inner { owner, sandbox, lowered, missing, init, supervisors, clock, remains, child };
        Ok(Session(Arc::new(inner)))
    }

    /// A program to start in it, as [`Sandbox::command`]
    /// ([execve(2)](https://man7.org/linux/man-pages/man2/execve.2.html)). Its spawn fails with `ESRCH`
    /// once the session has ended, or if another program has killed who looks after this one; with `EBUSY` while the session is
    /// paused; with `EPERM` in a forked copy of the caller; and with `ETIMEDOUT` if programs of the session, or a file system that does not answer, keep a step of the start from its
    /// end for half a minute. The program may have run before such an error; it is ended then.
    ///
    /// # Examples
    ///
    /// ```
    /// let session = stockade::Sandbox::new().prepare()?.session()?;
    /// assert_eq!(session.command("echo").arg("x").output()?.stdout, b"x\n");
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let within = Within::Session(Arc::clone(&self.0));
        Command::new(self.0.sandbox.clone(), program.as_ref()).within(within)
    }

    /// The host's pid of init
    /// ([pid_namespaces(7)](https://man7.org/linux/man-pages/man7/pid_namespaces.7.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// let session = stockade::Sandbox::new().prepare()?.session()?;
    /// assert_ne!(session.id(), std::process::id());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    #[must_use]
    pub fn id(&self) -> u32 {
        self.0.init.pid
    }

    /// A descriptor that becomes readable when the session has ended
    /// ([pidfd_open(2)](https://man7.org/linux/man-pages/man2/pidfd_open.2.html), Linux 5.3).
    ///
    /// # Examples
    ///
    /// ```
    /// use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    /// let session = stockade::Sandbox::new().prepare()?.session()?;
    /// let mut set = [PollFd::new(session.pidfd(), PollFlags::POLLIN)];
    /// assert_eq!(poll(&mut set, PollTimeout::ZERO), Ok(0));
    /// # Ok::<(), stockade::Error>(())
    /// ```
    #[must_use]
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.0.init.pidfd.as_fd()
    }

    /// What the sandbox lacks because the system could not give it and it was
    /// [best effort](Sandbox::best_effort).
    ///
    /// # Examples
    ///
    /// ```
    /// let session = stockade::Sandbox::new().prepare()?.session()?;
    /// println!("missing: {:?}", session.missing());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    #[must_use]
    pub fn missing(&self) -> &[Feature] {
        &self.0.missing
    }

    /// The namespaces it is in, each with a descriptor, for
    /// [`Sandbox::join`] or [setns(2)](https://man7.org/linux/man-pages/man2/setns.2.html). Whoever enters the
    /// pid namespace by himself can be seen by what runs there.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] if it has ended, or if the caller has no /proc.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Namespaces, Sandbox};
    /// let session = Sandbox::new().prepare()?.session()?;
    /// let kinds: Namespaces = session.namespaces()?.iter().map(|(kind, _)| *kind).collect();
    /// assert_eq!(kinds, Namespaces::all());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn namespaces(&self) -> Result<Vec<(Namespaces, OwnedFd)>> {
        lock(&self.0.child).keep_network();
        let own = self.0.sandbox.policy().new_namespaces();
        let open = |kind: Namespaces| {
            // Init itself stays in the caller's, and what it starts is in this one.
            let late = if kind == Namespaces::TIME { "_for_children" } else { "" };
            let path = format!("/proc/{}/ns/{}{late}", self.id(), kind.file());
            let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
            let opened = open(path.as_str(), flags, Mode::empty());
            let fd =
                opened.map_err(|errno| Error::new(Stage::Run, "open", quoted(&path), errno))?;
            // The number is nobody else's as long as this has not ended.
            if self.0.has_ended() { Err(ended("open namespaces")) } else { Ok((kind, fd)) }
        };
        own.iter().map(open).collect()
    }

    /// Opens a file that a program has written, as [`Child::open_output`].
    ///
    /// # Errors
    ///
    /// As [`Child::open_output`].
    ///
    /// # Examples
    ///
    /// ```
    /// let session = stockade::Sandbox::new().prepare()?.session()?;
    /// session.command("sh").args(["-c", "echo x >out"]).status()?;
    /// assert_eq!(std::io::read_to_string(session.open_output("/home/user/out")?)?, "x\n");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn open_output(&self, path: impl AsRef<Path>) -> Result<File> {
        self.0.remains.open(path.as_ref())
    }

    /// What its programs have changed so far in the [`Overlay`](crate::Overlay) at `path`, as [`Child::changes`].
    ///
    /// # Errors
    ///
    /// As [`Child::changes`].
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Overlay, Sandbox};
    /// let session = Sandbox::new().overlay("/srv", Overlay::new(["/usr/bin"])).prepare()?.session()?;
    /// session.command("touch").arg("/srv/new").status()?;
    /// assert_eq!(session.changes("/srv")?.to_string(), "added \"new\"\n");
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn changes(&self, path: impl AsRef<Path>) -> Result<Changes> {
        self.0.remains.changes(path.as_ref())
    }

    /// Stops everything inside, as [`Child::pause`]; the wall time of each command stands still.
    ///
    /// # Errors
    ///
    /// As [`Child::pause`].
    ///
    /// # Examples
    ///
    /// ```
    /// let session = stockade::Sandbox::new().prepare()?.session()?;
    /// let mut child = session.command("sleep").arg("0.1").spawn()?;
    /// session.pause()?;
    /// session.resume()?;
    /// assert_eq!(child.wait()?.outcome.code(), Some(0));
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn pause(&self) -> Result<()> {
        let mut child = lock(&self.0.child);
        child.pause()?;
        let mut clock = lock(&self.0.clock);
        clock.since.get_or_insert_with(Instant::now);
        let policy = self.0.sandbox.policy();
        let told = clock.commands.values().try_for_each(|one| one.tell_warden(None, policy));
        drop((clock, child));
        if told.is_err() {
            self.resume()?;
        }
        told
    }

    /// Whether it is [paused](Self::pause).
    ///
    /// # Examples
    ///
    /// ```
    /// let session = stockade::Sandbox::new().prepare()?.session()?;
    /// assert!(!session.is_paused());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    #[must_use]
    pub fn is_paused(&self) -> bool {
        lock(&self.0.child).is_paused()
    }

    /// Lets a [paused](Self::pause) session go on, as [`Child::resume`].
    ///
    /// # Errors
    ///
    /// As [`Child::resume`].
    ///
    /// # Examples
    ///
    /// ```
    /// let session = stockade::Sandbox::new().prepare()?.session()?;
    /// session.resume()?;
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn resume(&self) -> Result<()> {
        let mut child = lock(&self.0.child);
        let mut clock = lock(&self.0.clock);
        if let Some(since) = clock.since {
            let stood = since.elapsed();
            let all = clock.stood.saturating_add(stood);
            let policy = self.0.sandbox.policy();
            // Told first: they find it before they look at the time.
            clock.commands.values().try_for_each(|one| {
                one.tell_warden(Some(all), policy)?;
                tell_stood(&one.control, stood)
            })?;
            child.resume()?;
            clock.since = None;
            clock.stood = all;
        }
        Ok(())
    }

    /// What the control groups tell of all commands together, as [`Child::stats`].
    ///
    /// # Errors
    ///
    /// As [`Child::stats`].
    ///
    /// # Examples
    ///
    /// ```
    /// let session = stockade::Sandbox::new().prepare()?.session()?;
    /// // Without limits nothing is counted.
    /// assert_eq!(session.stats()?.memory.current, None);
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn stats(&self) -> Result<Stats> {
        lock(&self.0.child).stats()
    }

    /// Changes limits, which hold for all commands together, as [`Child::update`].
    ///
    /// # Errors
    ///
    /// As [`Child::update`].
    ///
    /// # Examples
    ///
    /// ```no_run
    /// // Not run: it needs a control group that the caller may write to.
    /// use stockade::{Limits, Memory, Sandbox};
    /// let session = Sandbox::new().memory_limit(64 << 20).prepare()?.session()?;
    /// session.update(&Limits::new().memory(Memory::new().max(128 << 20)))?;
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn update(&self, limits: &Limits) -> Result<()> {
        if limits.cpu_time.is_some() {
            let problem = "a session has no limit of CPU time, which ends a whole sandbox";
            return Err(Error::Invalid(vec![problem.to_owned()]));
        }
        lock(&self.0.child).update(limits)
    }

    /// What the limits do from now on, as [`Child::events`].
    ///
    /// # Errors
    ///
    /// As [`Child::events`].
    ///
    /// # Examples
    ///
    /// ```
    /// let session = stockade::Sandbox::new().prepare()?.session()?;
    /// let events = session.events()?;
    /// session.end()?;
    /// assert_eq!(events.count(), 0);
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn events(&self) -> Result<Events> {
        lock(&self.0.child).events()
    }

    /// Ends everything inside, and waits for that. A command that runs ends as if it had been
    /// [killed](Child::kill).
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] with `ESRCH` if it had ended before: a program cannot end it, only somebody
    /// outside, or the kernel short of memory.
    ///
    /// # Examples
    ///
    /// ```
    /// let session = stockade::Sandbox::new().prepare()?.session()?;
    /// let mut child = session.command("sleep").arg("1000").spawn()?;
    /// session.end()?;
    /// assert!(!child.wait()?.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn end(self) -> Result<()> {
        if self.0.has_ended() {
            return Err(ended("end session"));
        }
        self.0.end_within(Duration::MAX).map(drop)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // In a forked copy of the caller it is somebody else's.
        if self.0.owner != std::process::id() {
            return;
        }
        if Arc::get_mut(&mut self.0).is_some() {
            // The handle ends it.
            return;
        }
        match self.0.end_within(DROP_WAIT) {
            Ok(true) => {}
            Ok(false) => log::error!("session {} does not end", self.id()),
            Err(error) => log::error!("session {} does not end: {error}", self.id()),
        }
    }
}

fn ended(operation: &'static str) -> Error {
    Error::new(Stage::Run, operation, "(the session has ended)", Errno::ESRCH)
}

impl Inner {
    pub(crate) fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    fn has_ended(&self) -> bool {
        crate::sys::wait_readable(self.init.pidfd.as_fd(), Some(Duration::ZERO))
    }

    /// Whether it has ended.
    fn end_within(&self, timeout: Duration) -> Result<bool> {
        let mut child = lock(&self.child);
        child.kill()?;
        child.wait_timeout(timeout).map(|status| status.is_some())
    }

    /// And whether there are more handles than supervisors that may wait for one to see the end.
    fn host(self: Arc<Self>, control: OwnedFd, watched: Watched) -> Result<(Hosted, bool)> {
        let mut clock = lock(&self.clock);
        clock.last += 1;
        let (number, stood_before) = (clock.last, clock.stood);
        let running = Running { control, watched, stood_before };
        // Paused while it was started.
        if clock.since.is_some() {
            running.tell_warden(None, self.sandbox.policy())?;
        }
        clock.commands.insert(number, running);
        let are_many = clock.commands.len() > self.supervisors.most_held();
        drop(clock);
        Ok((Hosted { session: self, number }, are_many))
    }

    /// Starts a program in it.
    pub(crate) fn start(self: Arc<Self>, command: Command) -> Result<Child> {
        if self.owner != std::process::id() {
            // Who looks after programs is that one's.
            let object = format!("(the session is process {}'s)", self.owner);
            return Err(Error::new(Stage::Start, "start program", object, Errno::EPERM));
        }
        if self.has_ended() {
            return Err(ended("start program"));
        }
        if lock(&self.clock).since.is_some() {
            let object = "(the session is paused)";
            return Err(Error::new(Stage::Start, "start program", object, Errno::EBUSY));
        }
        let (made, mut attached) =
            command.start_later(&self.lowered, None, Role::Later(Count::Any), |start| {
                let policy = self.sandbox.policy();
                let supervisor = self.supervisors.take(&self.init, policy, start.wall)?;
                start_inside(&start, &self.init, supervisor)
            })?;
        self.supervisors.collect(self.sandbox.policy());
        attached.missing.clone_from(&self.missing);
        attached.remains = Arc::clone(&self.remains);
        let child = Child::new(made, attached);
        let (_, control) = child.init()?;
        let (hosted, are_many) = self.host(control, child.watched())?;
        let child = child.hosted(hosted);
        if are_many {
            child.expose();
        }
        Ok(child)
    }
}

fn tell_stood(control: &OwnedFd, stood: Duration) -> Result<()> {
    let nanos = u64::try_from(stood.as_nanos()).unwrap_or(u64::MAX).to_ne_bytes();
    let word = [&[STOOD; 8][..], &nanos].concat();
    match send(control.as_raw_fd(), &word, MsgFlags::MSG_NOSIGNAL) {
        Ok(_) | Err(Errno::EPIPE | Errno::ECONNRESET) => Ok(()),
        Err(errno) => Err(Error::new(Stage::Run, "tell init", "", errno)),
    }
}
