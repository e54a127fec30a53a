//! Sandboxes that are complete and wait for their program.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::child::Child;
use crate::command::{Command, New, Within};
use crate::error::{Error, Result};
use crate::prepared::Prepared;
use crate::spawn::{Count, start_later};

/// How long a pool waits before it tries again to make a sandbox after the system refused one.
const AGAIN: Duration = Duration::from_millis(100);

/// Sandboxes that are complete but for their program, each for one; made by
/// [`Prepared::pool`](crate::Prepared::pool)
/// ([pid_namespaces(7)](https://man7.org/linux/man-pages/man7/pid_namespaces.7.html)). Dropping it ends
/// those that wait; what was started goes on.
///
/// A thread makes new ones while others are used. One that has a program is as any other sandbox, and
/// no other program ever runs in it. They exist beforehand: the wall time does not run while they wait,
/// limits are set, and sources of binds are those of the moment when each was made. Init has installed the filter
/// before it knows what the program is given, so no file that has setuid bits can be made.
/// Each holds three descriptors of the caller's while it waits.
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
    /// How many programs found one that waited.
    pub hits: u64,
    /// How many had to have one made.
    pub misses: u64,
    /// How many sandboxes the pool's thread has made.
    pub refills: u64,
    /// How long that took, in all.
    pub refill_time: Duration,
    /// How often the system refused one.
    pub failures: u64,
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
    waiting: VecDeque<New>,
    size: usize,
    closed: bool,
    metrics: PoolMetrics,
}

impl Pool {
    pub(crate) fn new(prepared: Prepared, size: usize) -> Result<Self> {
        // The first one tells whether it can be done at all.
        let first = make(&prepared)?;
        let waiting = VecDeque::from([first]);
        let state = State { waiting, size, ..State::default() };
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
            let errno = crate::executable::errno_of(&error);
            Error::new(crate::error::Stage::Prepare, "start thread", "of the pool", errno)
        })?;
        Ok(Pool { inner, filler: Some(filler) })
    }

    /// A program to start in one of them, as [`Sandbox::command`](crate::Sandbox::command); if none waits, a
    /// sandbox is made for it ([execve(2)](https://man7.org/linux/man-pages/man2/execve.2.html)).
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
        PoolMetrics { waiting: state.waiting.len(), ..state.metrics }
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
        let kept = state.waiting.len().min(size);
        let ended = state.waiting.split_off(kept);
        drop(state);
        // It takes its time: nobody waits for the lock meanwhile.
        drop(ended);
        self.inner.work.notify_one();
    }

    /// Waits until as many sandboxes are ready as it is to have, for that long at the most; whether they
    /// are.
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
        while state.waiting.len() < state.size {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                return false;
            }
            let waited = self.inner.ready.wait_timeout(state, left.unwrap_or(Duration::MAX));
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
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
        drop(ended);
        if self.filler.take().is_some_and(|filler| filler.join().is_err()) {
            log::error!("the thread of a pool has panicked");
        }
    }
}

/// A sandbox that waits.
fn make(prepared: &Prepared) -> Result<New> {
    prepared.command("/").wait_for_programs(Count::One)
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, State> {
        // What it holds is whole after each of its changes.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread's work: sleeps while there is nothing to do.
    fn fill(&self) {
        let mut state = self.lock();
        while !state.closed {
            if state.waiting.len() >= state.size {
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            drop(state);
            let began = Instant::now();
            let made = make(&self.prepared);
            let took = began.elapsed();
            state = self.lock();
            match made {
                Ok(new) => {
                    state.metrics.refills += 1;
                    state.metrics.refill_time += took;
                    // One too many ends when the lock is free.
                    let fits = !state.closed && state.waiting.len() < state.size;
                    let too_many = if fits {
                        state.waiting.push_back(new);
                        None
                    } else {
                        Some(new)
                    };
                    self.ready.notify_all();
                    if too_many.is_some() {
                        drop(state);
                        drop(too_many);
                        state = self.lock();
                    }
                }
                Err(error) => {
                    log::warn!("a pool gets no sandbox: {error}");
                    state.metrics.failures += 1;
                    let waited = self.work.wait_timeout(state, AGAIN);
                    state = waited.unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }

    /// One that waits, and lives.
    fn take(&self) -> Option<New> {
        if self.owner != std::process::id() {
            return None;
        }
        let mut state = self.lock();
        let mut found = state.waiting.pop_front();
        while found.as_ref().is_some_and(|new| new.child.has_ended()) {
            found = state.waiting.pop_front();
        }
        match found {
            Some(_) => state.metrics.hits += 1,
            None => state.metrics.misses += 1,
        }
        drop(state);
        self.work.notify_one();
        found
    }

    /// Starts a program in one that waits, or in a new one.
    pub(crate) fn start(self: Arc<Self>, command: Command) -> Result<Child> {
        let New { mut child, lowered, cpu_usage, .. } = match self.take() {
            Some(new) => new,
            None => make(&self.prepared)?,
        };
        let (init, control) = child.hand_over()?;
        let warden_id = child.warden_id();
        let (made, attached) =
            command.start_later(&lowered, cpu_usage.as_ref(), Count::One, |start| {
                start_later(start, &init, control, warden_id)
            })?;
        child.take_on(made, attached);
        Ok(child)
    }
}
