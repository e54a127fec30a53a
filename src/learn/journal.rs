//! The threads that are asked by a filter, and answer as it would have.
//!
//! What comes from inside can be made to hang: memory on a page that somebody serves, a path on a file
//! system that somebody serves. So the thread that looks is watched by another, which answers in its place
//! after a second, and starts a new one. They end with the sandbox.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::book::Book;
use super::calls::{self, Call};
#[cfg(feature = "footprint")]
use super::files::{Files, Later};
#[cfg(feature = "footprint")]
use super::footprint::{Footprint, Gap};
use super::judge::{Judge, Verdict};
use super::look::Outside;
use super::record::Ledger;
use super::{Denials, memory, note, readlog};
use crate::error::{Error, Result, Stage};
use crate::executable::errno_of;
#[cfg(feature = "footprint")]
use crate::namespace::Namespaces;
use crate::sandbox::Sandbox;
use crate::seccomp::Assembled;
use crate::sys::{self, Asked};

/// How long a look may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often it is asked whether one takes longer, in milliseconds.
const PAUSE: u16 = 250;
/// How many threads may hang before calls are only answered.
const MOST_HANGING: usize = 8;
/// How long the last words are waited for.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How long records of the audit log are waited for at the end, in all, and without any in milliseconds.
const LAST_RECORDS: Duration = Duration::from_secs(1);
const QUIET: u16 = 100;
const STACK: usize = 256 * 1024;
/// How often what fails is tried again, as the kernel may be short of memory; and how long after.
const TRIES: u32 = 100;
const BETWEEN: Duration = Duration::from_millis(10);

/// A journal that is being written.
#[derive(Debug)]
pub(crate) struct Journal {
    shared: Arc<Shared>,
    /// Closing it ends the threads.
    wake: Option<UnixStream>,
    /// The threads are this process's, and not a forked copy's.
    owner: u32,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) sandbox: Sandbox,
    pub(super) outside: Outside,
    pub(super) book: Mutex<Book>,
    filter: Arc<Assembled>,
    inside: (u32, u32),
    #[cfg(feature = "footprint")]
    files: Option<Files>,
    listener: OwnedFd,
    pidfd: Arc<OwnedFd>,
    stop: UnixStream,
    /// Who has it receives the next question.
    turn: Mutex<()>,
    /// What Landlock refuses comes here, where it can be read.
    log: Option<OwnedFd>,
    /// The program's process has got to its exec; what it did before was the sandbox's own doing.
    begun: AtomicBool,
    /// Its number, from then on.
    program: AtomicI32,
    crew: Arc<Crew>,
}

/// The threads of a journal, for who waits until they have nothing of it any more.
#[derive(Debug, Default)]
struct Crew {
    threads: Mutex<Threads>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct Threads {
    running: usize,
    hanging: usize,
    /// What each looks at, and since when.
    busy: Vec<Option<(u64, Instant)>>,
}

/// A lock that stays usable if a thread that had it panicked.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Journal {
    pub(crate) fn start(
        sandbox: Sandbox,
        filter: Arc<Assembled>,
        inside: (u32, u32),
        is_logged: bool,
        listener: OwnedFd,
        pidfd: Arc<OwnedFd>,
    ) -> Result<Self> {
        let failed = |operation| move |errno| Error::new(Stage::Start, operation, "", errno);
        let (wake, stop) =
            UnixStream::pair().map_err(|error| failed("socketpair")(errno_of(&error)))?;
        sys::take_turns(listener.as_fd());
        // It decides nothing: who may not read it does without.
        let reads_log = is_logged && sandbox.policy().learn;
        let log = reads_log.then(|| readlog::join().ok()).flatten();
        let shared = Arc::new(Shared {
            outside: Outside::new().map_err(failed("open the host's root"))?,
            book: Mutex::default(),
            #[cfg(feature = "footprint")]
            files: {
                let policy = sandbox.policy();
                policy.declared.as_ref().map(|declared| Files::new(policy, declared))
            },
            sandbox,
            filter,
            inside,
            listener,
            pidfd,
            stop,
            turn: Mutex::new(()),
            log,
            begun: AtomicBool::new(false),
            program: AtomicI32::new(0),
            crew: Arc::default(),
        });
        let owner = std::process::id();
        let journal = Journal { shared, wake: Some(wake), owner };
        for _ in 0..journal.shared.workers() {
            Shared::spawn(&journal.shared, Shared::work).map_err(failed("start a thread"))?;
        }
        if journal.shared.log.is_some() {
            Shared::spawn(&journal.shared, Shared::hear).map_err(failed("start a thread"))?;
        }
        Shared::spawn(&journal.shared, Shared::watch).map_err(failed("start a thread"))?;
        Ok(journal)
    }

    /// What is noted by now; with `all`, once the sandbox has ended, what there is.
    pub(crate) fn denials(&self, all: bool) -> Denials {
        if all {
            self.wait();
        }
        locked(&self.shared.book).denials().with_settings(self.shared.sandbox.policy())
    }

    /// What is read and written by now, or with `all`, once the sandbox has ended, in all.
    #[cfg(feature = "footprint")]
    pub(crate) fn footprint(&self, all: bool, gaps: Vec<Gap>) -> Option<Footprint> {
        if all {
            self.wait();
        }
        let unread = locked(&self.shared.book).unread;
        let unread = (unread > 0).then_some(Gap::Unread(unread));
        let policy = self.shared.sandbox.policy();
        let own = policy.new_namespaces().contains(Namespaces::NET);
        let network = (!own).then_some(Gap::Network);
        let io_uring = u32::try_from(libc::SYS_io_uring_setup).unwrap_or(0);
        let io_uring =
            self.shared.filter.answer(io_uring, [0; 6]).is_none().then_some(Gap::IoUring);
        let more = [unread, network, io_uring].into_iter().flatten().chain(gaps);
        Some(self.shared.files.as_ref()?.footprint(more))
    }

    /// Waits for the threads, which end with the sandbox.
    fn wait(&self) {
        if self.owner != std::process::id() {
            return;
        }
        let until = Instant::now() + LAST_WORDS;
        let crew = &self.shared.crew;
        let mut threads = locked(&crew.threads);
        while threads.running > threads.hanging {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let waited = crew.ended.wait_timeout(threads, left);
            threads = waited.map_or_else(|poisoned| poisoned.into_inner().0, |waited| waited.0);
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        drop(self.wake.take());
        self.wait();
    }
}

impl Shared {
    fn spawn(
        this: &Arc<Self>,
        work: impl FnOnce(&Arc<Self>, usize) + Send + 'static,
    ) -> std::result::Result<(), Errno> {
        let (shared, crew) = (Arc::clone(this), Arc::clone(&this.crew));
        let number = {
            let mut threads = locked(&crew.threads);
            threads.running += 1;
            threads.busy.push(None);
            threads.busy.len() - 1
        };
        let body = move || {
            work(&shared, number);
            drop(shared);
            locked(&crew.threads).running -= 1;
            crew.ended.notify_all();
        };
        let builder = std::thread::Builder::new().name("stockade-learn".into()).stack_size(STACK);
        // No handler of the caller's is to run in it.
        let spawned = sys::with_signals_blocked(|| builder.spawn(body))?;
        spawned.map(drop).map_err(|error| {
            locked(&this.crew.threads).running -= 1;
            errno_of(&error)
        })
    }

    /// Receives, looks, answers and notes, until the sandbox has ended or the watch has answered in its place.
    fn work(this: &Arc<Self>, number: usize) {
        while let Some(asked) = this.next() {
            if !this.handle(&asked, number) {
                return;
            }
        }
    }

    /// Only answers.
    fn answer_only(this: &Arc<Self>, _: usize) {
        while let Some(asked) = this.next() {
            locked(&this.book).unread += 1;
            this.answer(&asked, this.filter.answer(asked.number, asked.args));
        }
    }

    /// The next question; none at the end.
    fn next(&self) -> Option<Asked> {
        let _turn = locked(&self.turn);
        let mut failures = 0;
        loop {
            match self.receive() {
                Ok(received) => return received,
                // Who asked was killed.
                Err(Errno::ENOENT | Errno::EINTR) => {}
                Err(errno) if failures == TRIES => {
                    self.fail("receive", errno);
                    return None;
                }
                Err(_) => {
                    failures += 1;
                    std::thread::sleep(BETWEEN);
                }
            }
        }
    }

    fn receive(&self) -> std::result::Result<Option<Asked>, Errno> {
        let fds = [self.listener.as_fd(), self.stop.as_fd(), self.pidfd.as_fd()];
        let mut set = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        poll(&mut set, PollTimeout::NONE)?;
        let ended = set[1..].iter().any(|one| one.any().unwrap_or(true));
        // Or nobody is left who could ask.
        if ended || !set[0].revents().is_some_and(|seen| seen.contains(PollFlags::POLLIN)) {
            return Ok(None);
        }
        sys::asked(self.listener.as_fd()).map(Some)
    }

    fn answer(&self, asked: &Asked, errno: Option<i32>) {
        let mut failures = 0;
        loop {
            match sys::answer(self.listener.as_fd(), asked.id, errno) {
                // Who asked may have been killed, or the watch has answered.
                Ok(()) | Err(Errno::ENOENT | Errno::EINPROGRESS) => return,
                Err(errno) if failures == TRIES => return self.fail("answer", errno),
                Err(_) => {
                    failures += 1;
                    std::thread::sleep(BETWEEN);
                }
            }
        }
    }

    /// Who is not answered waits for ever: the sandbox ends.
    fn fail(&self, what: &str, errno: Errno) {
        let killed = sys::signal(self.pidfd.as_fd(), libc::SIGKILL);
        log::error!("learn: the listener cannot {what}: {errno}; killed: {killed:?}");
    }

    /// `false` if somebody else has taken this thread's place.
    fn handle(&self, asked: &Asked, number: usize) -> bool {
        if !self.has_begun(asked) {
            self.answer(asked, None);
            return true;
        }
        if let Some(errno) = self.filter.answer(asked.number, asked.args) {
            let name = memory::name(asked.pid);
            self.answer(asked, Some(errno));
            if self.sandbox.policy().learn {
                note::call(self, asked, Errno::from_raw(errno), name);
            }
            return true;
        }
        let Some(call) = calls::watched(asked.number) else {
            self.answer(asked, None);
            return true;
        };
        self.busy(number, Some((asked.id, Instant::now())));
        #[cfg(feature = "footprint")]
        let mut later = Vec::new();
        #[cfg(feature = "footprint")]
        let mut verdicts = self.judge(asked, call, &mut later);
        #[cfg(not(feature = "footprint"))]
        let mut verdicts = self.judge(asked, call);
        if !self.sandbox.policy().learn {
            verdicts.clear();
        }
        let name = if verdicts.is_empty() { None } else { Some(memory::name(asked.pid)) };
        // Else what was read is of a process that has its number now.
        let valid = sys::still_asks(self.listener.as_fd(), asked.id);
        self.answer(asked, None);
        #[cfg(feature = "footprint")]
        if let Some(files) = &self.files {
            files.finish(later);
        }
        if valid {
            // The host is looked at when the call goes on: how long that takes must tell nothing.
            for verdict in verdicts {
                note::verdict(self, call.name, verdict, name.as_deref().unwrap_or_default());
            }
        }
        self.busy(number, None)
    }

    fn has_begun(&self, asked: &Asked) -> bool {
        let executes = [libc::SYS_execve, libc::SYS_execveat].contains(&i64::from(asked.number));
        if executes && !self.begun.swap(true, Ordering::Relaxed) {
            self.program.store(asked.pid, Ordering::Relaxed);
        }
        self.begun.load(Ordering::Relaxed)
    }

    /// Notes what Landlock says that it refused.
    fn hear(this: &Arc<Self>, _: usize) {
        let Some(log) = &this.log else { return };
        let (mut ledger, mut buffer) = (Ledger::default(), Box::new([0; readlog::LONGEST]));
        let mut take = |ledger: &mut Ledger| match readlog::receive(log, &mut buffer) {
            Ok(message) => this.note_record(ledger, message.unwrap_or_default()),
            // More than there was room for.
            Err(Errno::ENOBUFS) => locked(&this.book).unread += 1,
            Err(_) => {}
        };
        let has_more = |others: &[BorrowedFd<'_>], timeout| {
            let fds = [&[log.as_fd(), this.stop.as_fd()], others].concat();
            let mut set: Vec<_> =
                fds.into_iter().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
            match poll(&mut set, timeout) {
                Err(errno) => errno == Errno::EINTR,
                Ok(0) => false,
                Ok(_) => set[1..].iter().all(|one| !one.any().unwrap_or(true)),
            }
        };
        while has_more(&[this.pidfd.as_fd()], PollTimeout::NONE) {
            take(&mut ledger);
        }
        // The kernel gives them out in a thread of its own.
        let until = Instant::now() + LAST_RECORDS;
        while !ledger.is_complete && Instant::now() < until && has_more(&[], QUIET.into()) {
            take(&mut ledger);
        }
    }

    fn note_record(&self, ledger: &mut Ledger, message: &[u8]) {
        let program = self.program.load(Ordering::Relaxed);
        for refusal in ledger.take(message, program) {
            match refusal {
                Some(refusal) => note::refusal(self, refusal),
                None => locked(&self.book).unread += 1,
            }
        }
    }

    /// How many look at a time: what is read takes longer to note.
    fn workers(&self) -> usize {
        if self.reads_files() { 2 } else { 1 }
    }

    fn reads_files(&self) -> bool {
        #[cfg(feature = "footprint")]
        return self.files.is_some();
        #[cfg(not(feature = "footprint"))]
        return false;
    }

    fn judge(
        &self,
        asked: &Asked,
        call: &Call,
        #[cfg(feature = "footprint")] later: &mut Vec<Later>,
    ) -> Vec<Verdict> {
        let policy = self.sandbox.policy();
        let one = !policy.user.has_many();
        let (uid, gid) = (one.then_some(self.inside.0), one.then_some(self.inside.1));
        let judge = Judge {
            asked,
            policy,
            uid,
            gid,
            #[cfg(feature = "footprint")]
            files: self.files.as_ref(),
            #[cfg(feature = "footprint")]
            later: std::cell::RefCell::default(),
        };
        let verdicts = judge.judge(call).unwrap_or_else(|errno| {
            // A bad address is the program's own error, and it is told so.
            if errno != Errno::EFAULT {
                locked(&self.book).unread += 1;
            }
            Vec::new()
        });
        #[cfg(feature = "footprint")]
        later.extend(judge.later.into_inner());
        verdicts
    }

    /// Notes what a thread looks at; `false` if it was given up.
    fn busy(&self, number: usize, what: Option<(u64, Instant)>) -> bool {
        let mut threads = locked(&self.crew.threads);
        let Some(slot) = threads.busy.get_mut(number) else { return false };
        let given_up = what.is_none() && slot.is_none();
        *slot = what;
        if given_up {
            threads.hanging -= 1;
        }
        !given_up
    }

    /// Looks after the threads that look.
    fn watch(this: &Arc<Self>, _: usize) {
        loop {
            let fds = [this.stop.as_fd(), this.pidfd.as_fd()];
            let mut set = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
            match poll(&mut set, PollTimeout::from(PAUSE)) {
                Ok(0) | Err(Errno::EINTR) => {}
                _ => return,
            }
            for id in this.give_up() {
                locked(&this.book).unread += 1;
                let late = Asked { id, pid: 0, number: 0, args: [0; 6] };
                this.answer(&late, None);
                let few = locked(&this.crew.threads).hanging < MOST_HANGING;
                let next = if few { Self::work } else { Self::answer_only };
                if let Err(errno) = Self::spawn(this, next) {
                    log::error!("learn: no other thread: {errno}");
                    Self::answer_only(this, 0);
                    return;
                }
            }
        }
    }

    /// The questions over which somebody sits too long.
    fn give_up(&self) -> Vec<u64> {
        let patience = if self.reads_files() { PATIENCE * 10 } else { PATIENCE };
        let mut threads = locked(&self.crew.threads);
        let mut late = Vec::new();
        for slot in &mut threads.busy {
            if let Some((id, _)) = slot.take_if(|(_, since)| since.elapsed() > patience) {
                late.push(id);
            }
        }
        threads.hanging += late.len();
        late
    }
}
