//! Sandboxes that are complete and wait for their program.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use crate::child::Child;
use crate::command::{Command, New, Streams, Within};
use crate::error::{Error, Result, Stage};
use crate::executable::errno_of;
use crate::prepared::Prepared;
use crate::rlimit::Max;
use crate::sandbox::Sandbox;
use crate::spawn::{Count, Made, Role, Start, start_later};

/// How long a pool waits before it tries again to make a sandbox after the system refused one.
const AGAIN: Duration = Duration::from_millis(100);
/// For how long after one was taken the next is not begun, while others wait: what was started may want the processor, and
/// may have ended by then.
const MOMENT: Duration = Duration::from_millis(2);

/// Sandboxes that are complete but for their program, each for one; made by
/// [`Prepared::pool`](crate::Prepared::pool)
/// ([pid_namespaces(7)](https://man7.org/linux/man-pages/man7/pid_namespaces.7.html)). Dropping it ends
/// those that wait; what was started goes on.
///
/// A thread makes new ones while others are used. One that has a program is as any other sandbox, and
/// no other program ever runs in it. They exist beforehand: the wall time does not run while they wait,
/// limits are set, and sources of binds are those of the moment when each was made or, with a
/// [template](crate::Prepared::has_template), of when that was. Init has installed the filter
/// before it knows what the program is given, so no file that has setuid bits can be made.
/// Each holds four descriptors of the caller's while it waits, and those of its network and its control groups, if it has any.
///
/// # Examples
///
/// ```
/// let pool = stockade::Sandbox::new().prepare()?.pool(2)?;
/// for _ in 0..4 {
///     assert!(pool.command("true").status()?.outcome.is_success());
/// }
/// let metrics = pool.metrics();
/// assert_eq!(metrics.hits + metrics.misses, 4);
/// # Ok::<(), stockade::Error>(())
/// ```
#[derive(Debug)]
pub struct Pool {
    inner: Arc<Inner>,
    filler: Option<JoinHandle<()>>,
}

/// What a [`Pool`] has done so far
/// ([pid_namespaces(7)](https://man7.org/linux/man-pages/man7/pid_namespaces.7.html)).
///
/// # Examples
///
/// ```
/// let pool = stockade::Sandbox::new().prepare()?.pool(1)?;
/// let found = |metrics: stockade::PoolMetrics| metrics.hits + metrics.misses;
/// assert_eq!(found(pool.metrics()), 0);
/// # Ok::<(), stockade::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolMetrics {
    /// How many sandboxes wait.
    pub waiting: usize,
    /// The memory of those that wait, in bytes, each as it was when it began to: what its control group is
    /// charged with where memory is counted ([`Limits::memory`](crate::Limits::memory)), which includes the
    /// kernel's and files in tmpfs; else init's own, where it shares pages its share of them (`Pss` of
    /// [proc_pid_smaps(5)](https://man7.org/linux/man-pages/man5/proc_pid_smaps.5.html), Linux 4.14). `None`
    /// if the caller may not read that.
    pub memory: Option<u64>,
    /// How many programs found one that waited.
    pub hits: u64,
    /// How many had to have one made.
    pub misses: u64,
    /// How many had to [wait](WhenEmpty::Wait) for one.
    pub waits: u64,
    /// How many sandboxes the pool's thread has made.
    pub refills: u64,
    /// How long that took, in all.
    pub refill_time: Duration,
    /// How often the system refused one.
    pub failures: u64,
}

/// What a command does that finds no sandbox waiting in its [`Pool`]
/// ([pid_namespaces(7)](https://man7.org/linux/man-pages/man7/pid_namespaces.7.html)).
///
/// # Examples
///
/// ```
/// use stockade::{Sandbox, WhenEmpty};
/// let pool = Sandbox::new().prepare()?.pool(1)?;
/// pool.when_empty(WhenEmpty::Wait);
/// for _ in 0..4 {
///     assert!(pool.command("true").status()?.outcome.is_success());
/// }
/// assert_eq!(pool.metrics().misses, 0);
/// # Ok::<(), stockade::Error>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WhenEmpty {
    /// Makes one itself.
    #[default]
    Make,
    /// Sleeps until the pool's thread has made one, which it does for each that waits, one after the
    /// other, whatever the pool's size and limit of memory.
    Wait,
}

/// What commands and the thread share.
#[derive(Debug)]
pub(crate) struct Inner {
    prepared: Prepared,
    owner: u32,
    state: Mutex<State>,
    /// The thread has something to do.
    work: Condvar,
    /// A sandbox is ready, or one was refused.
    ready: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Parked>,
    size: usize,
    memory_limit: Option<u64>,
    /// What the last one took that was made, by which the next is judged.
    each: Option<u64>,
    when_empty: WhenEmpty,
    /// How many commands wait, and why some of them get none.
    waiters: usize,
    refused: Vec<Error>,
    /// Whether the last one was refused.
    failing: bool,
    /// Since it was filled the first was taken then.
    taken: Option<Instant>,
    closed: bool,
    metrics: PoolMetrics,
}

/// A sandbox that waits.
#[derive(Debug)]
struct Parked {
    new: New,
    memory: Option<u64>,
}

impl Parked {
    fn lives(&self) -> bool {
        !self.new.child.has_ended()
    }
}

impl State {
    fn memory(&self) -> Option<u64> {
        self.living().map(|parked| parked.memory).sum()
    }

    fn living(&self) -> impl Iterator<Item = &Parked> {
        self.waiting.iter().filter(|parked| parked.lives())
    }

    /// Whether one more stays below the limit of memory.
    fn fits(&self) -> bool {
        let Some(limit) = self.memory_limit else { return true };
        let then = self.memory().zip(self.each).map(|(all, one)| all.saturating_add(one));
        // What nobody can tell is not parked.
        then.is_some_and(|then| then <= limit)
    }

    /// Whether there are as many as there are to be.
    fn is_filled(&self) -> bool {
        self.waiting.len() >= self.size || !self.fits()
    }

    /// How long there is nothing to do yet.
    fn moment(&self) -> Option<Duration> {
        let since = self.taken.filter(|_| !self.waiting.is_empty())?.elapsed();
        MOMENT.checked_sub(since).filter(|left| !left.is_zero())
    }

    /// Whether a command waits that the thread has not served yet.
    fn is_awaited(&self) -> bool {
        self.waiting.len() + self.refused.len() < self.waiters
    }

    /// One that lives; those that do not are to be dropped when the lock is free.
    fn pop(&mut self, dead: &mut Vec<Parked>) -> Option<New> {
        loop {
            match self.waiting.pop_front()? {
                parked if parked.lives() => {
                    self.taken.get_or_insert_with(Instant::now);
                    return Some(parked.new);
                }
                parked => dead.push(parked),
            }
        }
    }

    /// Takes out those that do not live, to be dropped when the lock is free.
    fn bury(&mut self) -> VecDeque<Parked> {
        let (living, dead) = std::mem::take(&mut self.waiting).into_iter().partition(Parked::lives);
        self.waiting = living;
        dead
    }

    /// Those that are too many, to be ended when the lock is free.
    fn surplus(&mut self) -> VecDeque<Parked> {
        let mut kept = self.waiting.len().min(self.size);
        if let Some(limit) = self.memory_limit {
            let mut sum = Some(0_u64);
            let fits = |parked: &&Parked| {
                sum = sum.zip(parked.memory).map(|(sum, one)| sum.saturating_add(one));
                sum.is_some_and(|sum| sum <= limit)
            };
            kept = self.waiting.iter().take(kept).take_while(fits).count();
        }
        self.waiting.split_off(kept)
    }
}

impl Pool {
    pub(crate) fn new(prepared: Prepared, size: usize) -> Result<Self> {
        // The first one tells whether it can be done at all.
        let first = park(&prepared)?;
        let (each, waiting) = (first.memory, VecDeque::from([first]));
        let mut state = State { waiting, size, each, ..State::default() };
        drop(state.surplus());
        let inner = Arc::new(Inner {
            prepared,
            owner: std::process::id(),
            state: Mutex::new(state),
            work: Condvar::new(),
            ready: Condvar::new(),
        });
        let filled = Arc::clone(&inner);
        let filler = std::thread::Builder::new().name("stockade-pool".to_owned());
        let filler = filler.spawn(move || filled.fill()).map_err(|error| {
            Error::new(Stage::Prepare, "start thread", "of the pool", errno_of(&error))
        })?;
        Ok(Pool { inner, filler: Some(filler) })
    }

    /// A program to start in one of them, as [`Sandbox::command`](crate::Sandbox::command); if none waits, a
    /// sandbox is made for it, or it [waits](Self::when_empty) ([execve(2)](https://man7.org/linux/man-pages/man2/execve.2.html)).
    ///
    /// # Examples
    ///
    /// ```
    /// let pool = stockade::Sandbox::new().prepare()?.pool(1)?;
    /// assert_eq!(pool.command("echo").arg("x").output()?.stdout, b"x\n");
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let within = Within::Pool(Arc::clone(&self.inner));
        Command::new(self.inner.prepared.sandbox().clone(), program.as_ref()).within(within)
    }

    /// What it has done so far.
    ///
    /// # Examples
    ///
    /// ```
    /// let pool = stockade::Sandbox::new().prepare()?.pool(1)?;
    /// assert_eq!(pool.metrics().misses, 0);
    /// # Ok::<(), stockade::Error>(())
    /// ```
    #[must_use]
    pub fn metrics(&self) -> PoolMetrics {
        let state = self.inner.lock();
        let (waiting, memory) = (state.living().count(), state.memory());
        PoolMetrics { waiting, memory, ..state.metrics }
    }

    /// What a command does from now on that finds none waiting; default [`WhenEmpty::Make`].
    ///
    /// A command that waits fails, if the pool's thread cannot make one, with the error of that, and with
    /// `ESRCH` if the pool is dropped meanwhile. In a forked copy of the caller, which has no such thread,
    /// one is made in any case.
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Sandbox, WhenEmpty};
    /// let pool = Sandbox::new().prepare()?.pool(0)?;
    /// pool.when_empty(WhenEmpty::Wait);
    /// assert!(pool.command("true").status()?.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn when_empty(&self, choice: WhenEmpty) {
        self.inner.lock().when_empty = choice;
    }

    /// Keeps no more ready than stay below so many bytes of [memory](PoolMetrics::memory), by what the last
    /// one took; default [`Max::Unlimited`]. Those that are too many end at once. It limits none that has a program.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] if the caller may not read how much memory one takes, and then nothing is changed.
    ///
    /// # Examples
    ///
    /// ```
    /// let pool = stockade::Sandbox::new().prepare()?.pool(100)?;
    /// pool.limit_memory(1 << 20)?;
    /// assert!(pool.metrics().memory <= Some(1 << 20));
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn limit_memory(&self, bytes: impl Into<Max>) -> Result<()> {
        let limit = match bytes.into() {
            Max::At(bytes) => Some(bytes),
            Max::Unlimited => None,
        };
        let mut state = self.inner.lock();
        if limit.is_some() && state.each.is_none() {
            let object = "\"/proc/PID/smaps_rollup\" of init";
            return Err(Error::new(Stage::Prepare, "read", object, Errno::EACCES));
        }
        state.memory_limit = limit;
        self.inner.end_surplus(state);
        Ok(())
    }

    /// Keeps so many sandboxes ready from now on; those that are too many end at once. 0 drains it: each
    /// program has a sandbox made for it then.
    ///
    /// # Examples
    ///
    /// ```
    /// let pool = stockade::Sandbox::new().prepare()?.pool(2)?;
    /// pool.resize(0);
    /// assert_eq!(pool.metrics().waiting, 0);
    /// assert!(pool.command("true").status()?.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn resize(&self, size: usize) {
        let mut state = self.inner.lock();
        state.size = size;
        self.inner.end_surplus(state);
    }

    /// Waits until as many sandboxes are ready as it is to have, and has memory for, for that long at the
    /// most; whether they are.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// let pool = stockade::Sandbox::new().prepare()?.pool(2)?;
    /// assert!(pool.wait_until_filled(Duration::from_secs(60)));
    /// assert_eq!(pool.metrics().waiting, 2);
    /// # Ok::<(), stockade::Error>(())
    /// ```
    #[must_use]
    pub fn wait_until_filled(&self, timeout: Duration) -> bool {
        let until = Instant::now().checked_add(timeout);
        let mut state = self.inner.lock();
        loop {
            let dead = state.bury();
            if !dead.is_empty() {
                drop(state);
                drop(dead);
                self.inner.work.notify_one();
                state = self.inner.lock();
                continue;
            }
            if state.is_filled() {
                return true;
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return false;
            }
            // Whoever took one may still be starting its program.
            self.inner.work.notify_one();
            let waited = self.inner.ready.wait_timeout(state, left.unwrap_or(Duration::MAX));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // In a forked copy of the caller there is no such thread.
        if self.inner.owner != std::process::id() {
            return;
        }
        let ended = {
            let mut state = self.inner.lock();
            state.closed = true;
            std::mem::take(&mut state.waiting)
        };
        self.inner.work.notify_one();
        self.inner.ready.notify_all();
        drop(ended);
        if self.filler.take().is_some_and(|filler| filler.join().is_err()) {
            log::error!("the thread of a pool has panicked");
        }
    }
}

fn make(prepared: &Prepared) -> Result<New> {
    prepared.command("/").wait_for_programs(Count::One)
}

fn park(prepared: &Prepared) -> Result<Parked> {
    let new = make(prepared)?;
    let memory = new.child.memory().or_else(|| own_memory(&new.child));
    Ok(Parked { new, memory })
}

/// Init's own memory, and its share of what it shares.
fn own_memory(child: &Child) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", child.id())).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    // The number is nobody else's as long as this has not ended.
    (!child.has_ended()).then_some(kib << 10)
}

/// `told` whether it knows of the program, and may have started it.
fn start_in(new: &mut New, command: &Command, streams: &Streams, told: &mut bool) -> Result<Made> {
    let (init, control) = new.child.hand_over()?;
    let warden_id = new.child.warden_id();
    let (cpu_usage, role) = (new.cpu_usage.as_ref(), Role::Later(Count::One));
    let groups = new.child.groups();
    command.start_with(streams, &new.lowered, cpu_usage, role, |start| {
        start_later(&Start { groups, ..start }, &init, control, warden_id, told)
    })
}

impl Inner {
    pub(crate) fn sandbox(&self) -> &Sandbox {
        self.prepared.sandbox()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // What it holds is whole after each of its changes.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It takes its time: nobody waits for the lock meanwhile.
    fn end_surplus(&self, mut state: MutexGuard<'_, State>) {
        let ended = state.surplus();
        drop(state);
        drop(ended);
        self.work.notify_one();
        self.ready.notify_all();
    }

    /// The thread's work: sleeps while there is nothing to do.
    fn fill(&self) {
        let mut state = self.lock();
        while !state.closed {
            if state.is_filled() && !state.is_awaited() {
                state.taken = None;
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            if let Some(left) = state.moment() {
                let waited = self.work.wait_timeout(state, left);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
                continue;
            }
            drop(state);
            let began = Instant::now();
            let made = park(&self.prepared);
            let took = began.elapsed();
            state = self.lock();
            state = match made {
                Ok(parked) => {
                    state.failing = false;
                    state.metrics.refills += 1;
                    state.metrics.refill_time += took;
                    self.add(state, parked)
                }
                Err(error) => self.refuse(state, error),
            };
        }
    }

    /// Adds one, which ends when the lock is free if it is one too many.
    fn add<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        parked: Parked,
    ) -> MutexGuard<'a, State> {
        state.each = parked.memory;
        let wanted = !state.closed && (!state.is_filled() || state.is_awaited());
        if wanted {
            state.waiting.push_back(parked);
            self.ready.notify_all();
            return state;
        }
        self.ready.notify_all();
        drop(state);
        drop(parked);
        self.lock()
    }

    /// Tells one command that waits; the thread rests if none does.
    fn refuse<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        error: Error,
    ) -> MutexGuard<'a, State> {
        // The same is tried over and over.
        let level = if state.failing { log::Level::Trace } else { log::Level::Warn };
        log::log!(level, "a pool gets no sandbox: {error}");
        state.failing = true;
        state.metrics.failures += 1;
        if state.is_awaited() {
            state.refused.push(error);
            self.ready.notify_all();
            return state;
        }
        let waited = self.work.wait_timeout(state, AGAIN);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// One that waits, and lives; `None` if one is to be made.
    fn take(&self) -> Result<Option<New>> {
        if self.owner != std::process::id() {
            return Ok(None);
        }
        let mut dead = Vec::new();
        let mut state = self.lock();
        let found = state.pop(&mut dead);
        match (&found, state.when_empty) {
            (Some(_), _) => state.metrics.hits += 1,
            (None, WhenEmpty::Make) => state.metrics.misses += 1,
            (None, WhenEmpty::Wait) => return self.wait(state, &mut dead).map(Some),
        }
        Ok(found)
    }

    /// Waits for one that the thread makes.
    fn wait(&self, mut state: MutexGuard<'_, State>, dead: &mut Vec<Parked>) -> Result<New> {
        state.metrics.waits += 1;
        state.waiters += 1;
        let taken = loop {
            if let Some(new) = state.pop(dead) {
                break Ok(new);
            }
            if let Some(error) = state.refused.pop() {
                break Err(error);
            }
            if state.closed {
                let object = "(the pool has ended)";
                break Err(Error::new(Stage::Start, "start program", object, Errno::ESRCH));
            }
            // What was added for this one may have died meanwhile.
            self.work.notify_one();
            state = self.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        state.waiters -= 1;
        // Nobody who comes later is told what is over.
        let waiters = state.waiters;
        state.refused.truncate(waiters);
        drop(state);
        taken
    }

    /// Starts a program in one that waits, or in a new one.
    pub(crate) fn start(self: Arc<Self>, mut command: Command) -> Result<Child> {
        let role = Role::Later(Count::One);
        let streams = command.open_streams()?;
        let taken = self.take();
        // The program is on its way first: the next sandbox would take its processor.
        let _refill = Refill(&self);
        let mut new = match taken? {
            Some(new) => new,
            None => {
                self.work.notify_one();
                make(&self.prepared)?
            }
        };
        let mut told = false;
        let mut made = start_in(&mut new, &command, &streams, &mut told);
        let mut gone = None;
        if made.as_ref().is_err_and(|error| !told && error.raw_os_error() == Some(libc::ESRCH)) {
            // It has ended since it was found. Its end takes its time: it is dropped after this.
            gone = Some(std::mem::replace(&mut new, make(&self.prepared)?));
            made = start_in(&mut new, &command, &streams, &mut told);
        }
        let (made, attached) = command.attach(streams, &new.lowered, role, made?);
        new.child.take_on(made, attached);
        drop(gone);
        Ok(new.child)
    }
}

/// Has another one made in the end, whatever that is.
struct Refill<'a>(&'a Inner);

impl Drop for Refill<'_> {
    fn drop(&mut self) {
        self.0.work.notify_one();
    }
}
