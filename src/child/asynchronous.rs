//! The handle for programs that run on tokio.
//!
//! What takes a moment of the kernel's, starting and taking apart, is done by tokio's threads for what blocks;
//! waiting is done by the runtime's own epoll, so that a running sandbox has no thread.

use std::future::poll_fn;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::runtime::Handle;

use super::Child;
use super::reader::Reader;
use super::wait::collected;
use crate::command::Command;
use crate::error::{Error, Result, Stage};
use crate::executable::errno_of;
use crate::outcome::{Output, Status};
use crate::process::{hold_closed_streams, kill};
use crate::sys;

/// How soon a handle is asked again that somebody else uses.
const SOON: Duration = Duration::from_millis(10);

/// A running sandbox, for a program that runs on [tokio](https://docs.rs/tokio); what
/// `tokio::process::Child` is for a process
/// ([pidfd_open(2)](https://man7.org/linux/man-pages/man2/pidfd_open.2.html), Linux 5.3).
///
/// Comes from [`Command::spawn_async`](crate::Command::spawn_async), in a runtime with I/O enabled; tokio panics where
/// it is not. Dropping it kills everything inside at once; a thread of tokio's for what blocks waits for the kernel, or, outside of
/// the runtime, the drop itself does. No thread waits while it runs. Needs the feature `tokio`.
///
/// # Examples
///
/// ```
/// use stockade::{Outcome, Sandbox};
/// # tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(async {
/// let mut child = Sandbox::new().command("true").spawn_async().await?;
/// assert_eq!(child.wait().await?.outcome, Outcome::Exited(0));
/// # Ok::<(), stockade::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct AsyncChild {
    /// The writing end of the program's standard input, if it is [piped](crate::Stdio::piped). Take it and
    /// drop it to give the program an end of file.
    pub stdin: Option<Sender>,
    /// The reading end of the program's standard output, if it is piped.
    pub stdout: Option<Receiver>,
    /// The reading end of the program's standard error, if it is piped.
    pub stderr: Option<Receiver>,
    pidfd: AsyncFd<Arc<OwnedFd>>,
    /// Where the end is said before it can be seen, as long as that may come.
    word: Option<AsyncFd<OwnedFd>>,
    /// Whether it is enough, and the process need not end.
    ends_by_word: bool,
    /// Who waits for the end, which an action may hear of instead.
    waiting: Waiting,
    has_terminal: bool,
    keep_bytes: usize,
    /// Wakes when the handle has to end what init did not.
    timer: Option<AsyncFd<Timer>>,
    child: Shared,
}

/// The handle itself, which a thread that blocks may have as well.
#[derive(Debug)]
struct Shared(Option<Arc<Mutex<Child>>>);

/// Who is to be woken when an action is over.
#[derive(Debug, Clone, Default)]
struct Waiting(Arc<Mutex<Option<Waker>>>);

/// Wakes it when the action is over, or has panicked.
struct Wakes(Waiting);

#[derive(Debug)]
struct Timer(TimerFd);

/// Tells the runtime's epoll of a descriptor that stays open as long as it is watched.
#[allow(
    deprecated,
    reason = "older versions of tokio have no other; what is passed owns its descriptor"
)]
fn watch<T: AsRawFd>(fd: T) -> std::io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(fd, Interest::READABLE)
}

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

fn failed(stage: Stage, operation: &'static str) -> impl Fn(std::io::Error) -> Error {
    move |error| Error::new(stage, operation, "with tokio", errno_of(&error))
}

/// Whether there is something to read.
fn poll_readable<T: AsFd + AsRawFd>(
    watched: &AsyncFd<T>,
    context: &mut Context<'_>,
) -> Poll<Result<()>> {
    while !sys::wait_readable(watched.get_ref().as_fd(), Some(Duration::ZERO)) {
        let guard = ready!(watched.poll_read_ready(context)).map_err(failed(Stage::Run, "wait"));
        // If it comes now, it is ready once more.
        guard?.clear_ready();
    }
    Poll::Ready(Ok(()))
}

/// Lets one of tokio's threads for that do what may block.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let gone = |operation, errno| Error::new(Stage::Run, operation, "the runtime of tokio", errno);
    let runtime = Handle::try_current().map_err(|_| gone("find", Errno::ENXIO))?;
    match runtime.spawn_blocking(work).await {
        Ok(done) => Ok(done),
        // The caller's own, or a bug.
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(gone("use", Errno::ECANCELED)),
    }
}

impl Command {
    /// As [`spawn`](Self::spawn), for a program that runs on tokio. It is done by a thread of tokio's for what blocks;
    /// given up before it is ready, it leaves nothing. Needs the feature `tokio`
    /// ([clone(2)](https://man7.org/linux/man-pages/man2/clone.2.html)).
    ///
    /// # Errors
    ///
    /// As [`spawn`](Self::spawn), and with `ENXIO` outside of a runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(async {
    /// let mut child = stockade::Sandbox::new().command("sleep").arg("1000").spawn_async().await?;
    /// assert_eq!(child.try_wait()?, None);
    /// # Ok::<(), stockade::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn spawn_async(self) -> Result<AsyncChild> {
        AsyncChild::new(blocking(move || self.spawn()).await??)
    }

    /// As [`status`](Self::status), for a program that runs on tokio. Given up before it is ready, it ends the
    /// sandbox. Needs the feature `tokio` ([waitid(2)](https://man7.org/linux/man-pages/man2/waitid.2.html)).
    ///
    /// # Errors
    ///
    /// As [`spawn_async`](Self::spawn_async).
    ///
    /// # Examples
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(async {
    /// let status = stockade::Sandbox::new().command("true").status_async().await?;
    /// assert!(status.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn status_async(self) -> Result<Status> {
        self.spawn_async().await?.wait().await
    }

    /// As [`output`](Self::output), for a program that runs on tokio. Given up before it is ready, it ends the
    /// sandbox. Needs the feature `tokio` ([pipe(7)](https://man7.org/linux/man-pages/man7/pipe.7.html)).
    ///
    /// # Errors
    ///
    /// As [`spawn_async`](Self::spawn_async).
    ///
    /// # Examples
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(async {
    /// let output = stockade::Sandbox::new().command("echo").arg("hello").output_async().await?;
    /// assert_eq!(output.stdout, b"hello\n");
    /// # Ok::<(), stockade::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn output_async(mut self) -> Result<Output> {
        self.collect_output();
        self.spawn_async().await?.wait_with_output().await
    }
}

impl AsyncChild {
    fn new(mut child: Child) -> Result<Self> {
        let _held = hold_closed_streams()?;
        let register = failed(Stage::Start, "register");
        let stdin = child.stdin.take().map(|pipe| Sender::from_owned_fd(pipe.into()));
        let stdout = child.stdout.take().map(|pipe| Receiver::from_owned_fd(pipe.into()));
        let stderr = child.stderr.take().map(|pipe| Receiver::from_owned_fd(pipe.into()));
        // Of a session the next command may have the same, and the runtime knows it by its number.
        let pidfd = match child.hosted {
            Some(_) => child.pidfd.try_clone().map(Arc::new),
            None => Ok(Arc::clone(&child.pidfd)),
        };
        let pidfd = pidfd.and_then(watch);
        let ends_by_word = child.ends_by_word();
        let word = child.control.as_ref().filter(|_| ends_by_word);
        let word = word.map(|word| word.try_clone().and_then(watch)).transpose();
        let timer = child.deadline.map(|_| Timer::new()).transpose()?;
        let timer = timer.map(watch);
        Ok(AsyncChild {
            stdin: stdin.transpose().map_err(&register)?,
            stdout: stdout.transpose().map_err(&register)?,
            stderr: stderr.transpose().map_err(&register)?,
            pidfd: pidfd.map_err(&register)?,
            word: word.map_err(&register)?,
            ends_by_word,
            waiting: Waiting::default(),
            has_terminal: child.terminal.is_some(),
            keep_bytes: child.keep_bytes,
            timer: timer.transpose().map_err(&register)?,
            child: Shared(Some(Arc::new(Mutex::new(child)))),
        })
    }

    /// Waits until everything inside has ended, and closes standard input first. Given up before it is ready,
    /// it can be called again ([waitid(2)](https://man7.org/linux/man-pages/man2/waitid.2.html)).
    ///
    /// # Errors
    ///
    /// As [`Child::wait`], and with `ENXIO` outside of a runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(async {
    /// let mut child = stockade::Sandbox::new().command("false").spawn_async().await?;
    /// assert_eq!(child.wait().await?.outcome.code(), Some(1));
    /// # Ok::<(), stockade::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn wait(&mut self) -> Result<Status> {
        drop(self.stdin.take());
        loop {
            poll_fn(|context| self.poll_end(context)).await?;
            if let Some(status) = self.look().await? {
                return Ok(status);
            }
        }
    }

    /// The status, if it has ended.
    async fn look(&mut self) -> Result<Option<Status>> {
        let look = |child: &mut Child| (child.try_wait(), child.control.is_some());
        let (status, hears) = self.with(look).await?;
        // At its end it would always be ready.
        self.word = self.word.take().filter(|_| hears);
        status
    }

    /// Like [`wait`](Self::wait), without waiting: `None` if it still runs, or while an [action](Self::with) has the handle
    /// ([waitid(2)](https://man7.org/linux/man-pages/man2/waitid.2.html)). Leaves standard input open.
    ///
    /// # Errors
    ///
    /// As [`Child::wait`].
    ///
    /// # Examples
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(async {
    /// let mut child = stockade::Sandbox::new().command("sleep").arg("1000").spawn_async().await?;
    /// assert_eq!(child.try_wait()?, None);
    /// # Ok::<(), stockade::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn try_wait(&mut self) -> Result<Option<Status>> {
        let status = self.child.try_lock().map_or(Ok(None), |mut child| child.try_wait());
        if matches!(status, Ok(Some(_))) {
            self.word = None;
        }
        status
    }

    /// Waits as [`wait`](Self::wait) does, and reads what comes through piped standard output and standard
    /// error, or the terminal, meanwhile, up to [`Command::keep_output`](crate::Command::keep_output) bytes of
    /// each ([pipe(7)](https://man7.org/linux/man-pages/man7/pipe.7.html)).
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    ///
    /// # Examples
    ///
    /// ```
    /// use stockade::{Sandbox, Stdio};
    /// # tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(async {
    /// let command = Sandbox::new().command("echo").arg("hello").stdout(Stdio::piped());
    /// assert_eq!(command.spawn_async().await?.wait_with_output().await?.stdout, b"hello\n");
    /// # Ok::<(), stockade::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn wait_with_output(mut self) -> Result<Output> {
        drop(self.stdin.take());
        // An action that was given up may wait for a program that waits for who reads.
        let terminal = match self.has_terminal {
            true => self.with(|child| child.terminal.take().map(OwnedFd::from)).await?,
            false => None,
        };
        let keep = self.keep_bytes;
        let read = failed(Stage::Run, "read");
        let own = |pipe: Option<Receiver>| pipe.map(Receiver::into_nonblocking_fd).transpose();
        let stdout = own(self.stdout.take()).map_err(&read)?;
        let stderr = own(self.stderr.take()).map_err(&read)?;
        let is_terminal = terminal.is_some();
        let mut streams = [
            Stream::new(Reader::new(terminal.or(stdout), is_terminal, keep)).map_err(&read)?,
            Stream::new(Reader::new(stderr, false, keep)).map_err(&read)?,
        ];
        let status = loop {
            poll_fn(|context| {
                streams.iter_mut().for_each(|stream| stream.poll(context));
                self.poll_end(context)
            })
            .await?;
            if let Some(status) = self.look().await? {
                break status;
            }
        };
        // What was written before the end is in the pipes; who else holds them is not waited for.
        let readers = streams.map(|mut stream| {
            stream.reader.read_available();
            stream.reader
        });
        Ok(collected(status, readers))
    }

    /// Kills everything inside, without waiting for the end; nothing if it has ended. A command of a session, a program that
    /// has entered a sandbox, and one without a pid namespace of its own are killed by a thread of tokio's for what blocks
    /// ([pidfd_send_signal(2)](https://man7.org/linux/man-pages/man2/pidfd_send_signal.2.html)).
    ///
    /// # Errors
    ///
    /// As [`Child::kill`].
    ///
    /// # Examples
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(async {
    /// let mut child = stockade::Sandbox::new().command("sleep").arg("1000").spawn_async().await?;
    /// child.start_kill()?;
    /// assert_eq!(child.wait().await?.outcome, stockade::Outcome::Killed);
    /// # Ok::<(), stockade::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn start_kill(&mut self) -> Result<()> {
        // Else init has to end what it follows, and may be stopped; or an action has the handle.
        if let Some(mut child) = self.child.try_lock().filter(|child| child.own_pids) {
            return child.kill();
        }
        match Handle::try_current() {
            Ok(runtime) => {
                let shared = Shared(self.child.0.clone());
                let wakes = Wakes(self.waiting.clone());
                drop(runtime.spawn_blocking(move || {
                    shared.kill();
                    drop(wakes);
                }));
                Ok(())
            }
            Err(_) => self.child.lock().map_or(Ok(()), |mut child| child.kill()),
        }
    }

    /// Kills everything inside, and waits for the end
    /// ([pidfd_send_signal(2)](https://man7.org/linux/man-pages/man2/pidfd_send_signal.2.html)).
    ///
    /// # Errors
    ///
    /// As [`start_kill`](Self::start_kill) and [`wait`](Self::wait).
    ///
    /// # Examples
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(async {
    /// let mut child = stockade::Sandbox::new().command("sleep").arg("1000").spawn_async().await?;
    /// child.kill().await?;
    /// # Ok::<(), stockade::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn kill(&mut self) -> Result<()> {
        self.with(Child::kill).await??;
        self.wait().await.map(drop)
    }

    /// Does with the handle what blocks or has no method here, in a thread of tokio's for that: pausing,
    /// signals, limits, files, what was refused. A panic of it goes on in the caller. Given up before it is ready,
    /// the action goes on to its end, and what else needs the handle waits for that
    /// ([pidfd_open(2)](https://man7.org/linux/man-pages/man2/pidfd_open.2.html)).
    ///
    /// # Errors
    ///
    /// [`Error::Failed`](crate::Error::Failed) with `ENXIO` outside of a runtime, and `ECANCELED` if that ends.
    ///
    /// # Examples
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(async {
    /// let mut child = stockade::Sandbox::new().command("sleep").arg("1000").spawn_async().await?;
    /// child.with(|child| child.signal(15)).await??;
    /// assert!(!child.wait().await?.outcome.is_success());
    /// # Ok::<(), stockade::Error>(())
    /// # })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn with<T: Send + 'static>(
        &mut self,
        action: impl FnOnce(&mut Child) -> T + Send + 'static,
    ) -> Result<T> {
        // Only while it is dropped there is none.
        let shared = Shared(self.child.0.clone());
        let wakes = Wakes(self.waiting.clone());
        let gone = || Error::new(Stage::Run, "use", "sandbox", Errno::ESRCH);
        blocking(move || {
            let _wakes = wakes;
            shared.lock().map(|mut child| action(&mut child)).ok_or_else(gone)
        })
        .await?
    }

    /// Whether the end can be seen, or a word of it heard; until then, the deadline is watched.
    fn poll_end(&self, context: &mut Context<'_>) -> Poll<Result<()>> {
        if let Poll::Ready(Err(error)) = self.poll_timer(context) {
            return Poll::Ready(Err(error));
        }
        match self.poll_word(context) {
            Poll::Pending => poll_readable(&self.pidfd, context),
            heard => heard,
        }
    }

    /// Whether the end has been said, to whomever.
    fn poll_word(&self, context: &mut Context<'_>) -> Poll<Result<()>> {
        if !self.ends_by_word {
            return Poll::Pending;
        }
        self.waiting.set(context.waker());
        loop {
            match self.child.try_lock() {
                Some(child) if child.status.is_some() => return Poll::Ready(Ok(())),
                // By now it may have to end itself.
                Some(child) if !child.ends_by_word() => return Poll::Pending,
                Some(child) if child.account.last_report.is_some() => return Poll::Ready(Ok(())),
                Some(_) => {}
                // An action that was given up may take in what would be heard here. This is woken when it is over.
                None => return Poll::Pending,
            }
            let Some(word) = &self.word else { return Poll::Pending };
            if sys::wait_readable(word.get_ref().as_fd(), Some(Duration::ZERO)) {
                return Poll::Ready(Ok(()));
            }
            let guard = ready!(word.poll_read_ready(context)).map_err(failed(Stage::Run, "wait"));
            // If it comes now, it is ready once more.
            guard?.clear_ready();
        }
    }

    /// Never ready; the task is woken when there is something to do.
    fn poll_timer(&self, context: &mut Context<'_>) -> Poll<Result<()>> {
        let Some(timer) = &self.timer else { return Poll::Pending };
        let failed = failed(Stage::Run, "set a timer");
        loop {
            let left = match self.child.try_lock() {
                Some(mut child) => child.enforce_deadline(None),
                None => Some(SOON),
            };
            timer.get_ref().set(left).map_err(|errno| failed(errno.into()))?;
            ready!(timer.poll_read_ready(context)).map_err(&failed)?.clear_ready();
        }
    }
}

impl Timer {
    fn new() -> Result<Self> {
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let timer = TimerFd::new(ClockId::CLOCK_MONOTONIC, flags);
        timer.map(Timer).map_err(|errno| Error::new(Stage::Start, "make", "a timer", errno))
    }

    fn set(&self, left: Option<Duration>) -> std::result::Result<(), Errno> {
        let Some(left) = left else { return self.0.unset() };
        // 0 would be never.
        let left = TimeSpec::from_duration(left.max(Duration::from_millis(1)));
        self.0.set(Expiration::OneShot(left), TimerSetTimeFlags::empty())
    }
}

/// What is collected, and when there is more of it.
#[derive(Debug)]
struct Stream {
    reader: Reader,
    ready: Option<AsyncFd<OwnedFd>>,
}

impl Stream {
    fn new(reader: Reader) -> std::io::Result<Self> {
        let copy = reader.fd().map(|fd| fd.try_clone_to_owned()).transpose()?;
        let ready = copy.map(watch).transpose()?;
        Ok(Stream { reader, ready })
    }

    /// Reads what is there; the task is woken when there is more.
    fn poll(&mut self, context: &mut Context<'_>) {
        while let (Some(ready), Some(_)) = (&self.ready, self.reader.fd()) {
            match ready.poll_read_ready(context) {
                Poll::Pending => return,
                Poll::Ready(Ok(mut guard)) => {
                    if self.reader.read_available() {
                        // The others have their turn first.
                        context.waker().wake_by_ref();
                        return;
                    }
                    guard.clear_ready();
                }
                Poll::Ready(Err(_)) => (self.ready, self.reader.truncated) = (None, true),
            }
        }
        // Nobody writes any more: who waits for the reader's end is not to wait for this.
        self.ready = None;
    }
}

impl Shared {
    fn lock(&self) -> Option<MutexGuard<'_, Child>> {
        Some(self.0.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn try_lock(&self) -> Option<MutexGuard<'_, Child>> {
        match self.0.as_ref()?.try_lock() {
            Ok(child) => Some(child),
            Err(TryLockError::Poisoned(held)) => Some(held.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn kill(&self) {
        if let Some(Err(error)) = self.lock().map(|mut child| child.kill()) {
            log::error!("a sandbox is not killed: {error}");
        }
    }
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, Option<Waker>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, waker: &Waker) {
        *self.lock() = Some(waker.clone());
    }
}

impl Drop for Wakes {
    fn drop(&mut self) {
        let waker = self.0.lock().take();
        waker.into_iter().for_each(Waker::wake);
    }
}

impl Drop for AsyncChild {
    fn drop(&mut self) {
        let Some(child) = self.child.0.take() else { return };
        if let Ok(child) = child.try_lock() {
            if child.status.is_some() || child.owner != std::process::id() {
                return;
            }
            // Without one init has to be asked first, which the handle does.
            if child.own_pids {
                kill(self.pidfd.get_ref().as_fd());
            }
        }
        // The kernel takes a moment, which is not the runtime's. Where that ends, the work is dropped, and waits.
        if let Ok(runtime) = Handle::try_current() {
            drop(runtime.spawn_blocking(move || drop(child)));
        }
    }
}
