//! The embedder's end of the warden: the one process that outlives it, to end its sandboxes.

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
#[cfg(feature = "systemd")]
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, recv, send, sendmsg, socketpair,
};

use crate::capability::CapabilitySet;
use crate::cgroup::place::{self, Place};
#[cfg(feature = "systemd")]
use crate::cgroup::scope::Scope;
#[cfg(feature = "systemd")]
use crate::error::Failed;
use crate::error::{Error, Result, Stage};
use crate::executable::{self, Kept};
use crate::hint::Hint;
use crate::process::{Launch, launch, with_fallback};
use crate::wire::{
    Entry, Put, WARDEN_ADD, WARDEN_ADD_SHARED, WARDEN_DETACH, WARDEN_LIMIT, WARDEN_PLACE, mode,
};
use crate::{kept, sys};

/// After how many quiet registrations the warden is woken to take them in. They wait in its socket
/// until then, which holds more, and are read first when the embedder dies.
const QUIET: u32 = 32;

/// How many wardens are started, each after the one before was found dead.
const ATTEMPTS: u32 = 3;

/// How many milliseconds a warden has to empty its full socket.
const PATIENCE: u32 = 2000;

/// A running warden, and what it has been told.
#[derive(Debug)]
struct Warden {
    /// The embedder: a forked copy of it needs a warden of its own.
    pid: u32,
    /// The warden's own.
    #[cfg(feature = "systemd")]
    process: u32,
    /// The scope that it is in; others wait while one thread asks for it.
    #[cfg(feature = "systemd")]
    scope: Mutex<Option<Asked>>,
    queue: Kept,
    bell: Kept,
    since_bell: AtomicU32,
    next_id: AtomicU64,
    watched: Mutex<Vec<Watched>>,
    /// Where this process makes control groups.
    places: Mutex<Vec<Arc<Place>>>,
}

/// A sandbox, for the case that the warden itself is killed and another one has to be told.
#[derive(Debug)]
struct Watched {
    what: u64,
    id: u64,
    deadline: u64,
    pidfd: Weak<OwnedFd>,
}

/// What came of asking for a scope. A failure is that of all who waited meanwhile.
#[cfg(feature = "systemd")]
#[derive(Debug)]
enum Asked {
    Started(Arc<Scope>),
    Failed(Box<Failed>, Instant),
}

static WARDEN: AtomicPtr<Warden> = AtomicPtr::new(std::ptr::null_mut());

/// Has the warden watch over a sandbox. One that is `shared` has no pid namespace of its own. Returns
/// the number under which the warden knows it.
pub(crate) fn watch(init_file: Option<&Path>, pidfd: &Arc<OwnedFd>, shared: bool) -> Result<u64> {
    let what = if shared { WARDEN_ADD_SHARED } else { WARDEN_ADD };
    told(init_file, |warden| warden.add(pidfd, what))
}

/// Has the warden end a sandbox at `deadline`, in `CLOCK_MONOTONIC` nanoseconds. Its program runs by
/// now: a set-up that takes long on a busy machine costs it none of its time.
pub(crate) fn limit(init_file: Option<&Path>, id: u64, deadline: u64) -> Result<()> {
    told(init_file, |warden| warden.limit(id, deadline))
}

/// Has the warden remove what this process will have made in these groups, when it is dead.
pub(crate) fn places(init_file: Option<&Path>, places: &[Arc<Place>]) -> Result<()> {
    places.iter().try_for_each(|place| told(init_file, |warden| warden.note(place)))
}

/// The scope of systemd's that the warden is in, which is started with the first call.
#[cfg(feature = "systemd")]
pub(crate) fn scope(init_file: Option<&Path>) -> Result<Arc<Scope>> {
    let asking = Instant::now();
    let warden = told(init_file, |warden| warden.lives().map(|()| warden))?;
    let mut asked = warden.scope.lock().unwrap_or_else(PoisonError::into_inner);
    match &*asked {
        Some(Asked::Started(scope)) => return Ok(Arc::clone(scope)),
        Some(Asked::Failed(failure, at)) if *at > asking => {
            return Err(Error::Failed(failure.clone()));
        }
        _ => {}
    }
    let started = Scope::start(warden.process).map(Arc::new);
    match &started {
        Ok(scope) => *asked = Some(Asked::Started(Arc::clone(scope))),
        Err(Error::Failed(failure)) => {
            *asked = Some(Asked::Failed(failure.clone(), Instant::now()));
        }
        Err(_) => {}
    }
    started
}

/// Tells the warden something, and another one if it is gone.
fn told<T>(
    init_file: Option<&Path>,
    tell: impl Fn(&'static Warden) -> Result<T, Errno>,
) -> Result<T> {
    let mut left = ATTEMPTS;
    loop {
        let before = kept::get(&WARDEN);
        if let Some(warden) = before.filter(|warden| warden.is_mine()) {
            match tell(warden) {
                Ok(told) => return Ok(told),
                // What all of the user's processes have on their way is too much for another one, too.
                Err(errno) if left == 0 || errno == Errno::ETOOMANYREFS => {
                    let operation = "register with the warden";
                    let hint = (errno == Errno::ETOOMANYREFS).then_some(Hint::OpenFiles);
                    return Err(Error::new(Stage::Launch, operation, "", errno).with_hint(hint));
                }
                Err(errno) => log::debug!("the warden is gone ({errno}); starting another"),
            }
        }
        left = left.saturating_sub(1);
        Warden::start(init_file)?.replace(before);
    }
}

/// Has the warden let a sandbox outlive the embedder.
pub(crate) fn detach(id: u64) -> Result<(), Errno> {
    match kept::get(&WARDEN).filter(|warden| warden.is_mine()) {
        Some(warden) => {
            warden.watched().retain(|one| one.id != id);
            warden.send(Entry { what: WARDEN_DETACH, id, deadline: 0 }, b"", None)?;
            warden.ring()
        }
        None => Ok(()),
    }
}

impl Warden {
    fn start(init_file: Option<&Path>) -> Result<Self> {
        let failed = |operation| {
            move |errno| Error::new(Stage::Launch, operation, "for the warden", errno).explained()
        };
        let kind = SockType::SeqPacket;
        let (ours, theirs) = socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC)
            .map_err(failed("socketpair"))?;
        let (ring, listen) = socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC)
            .map_err(failed("socketpair"))?;
        let embedder = sys::own_pidfd().map_err(failed("pidfd_open"))?;
        let numbers = [theirs.as_raw_fd(), listen.as_raw_fd(), embedder.as_raw_fd()];
        let (mode, capabilities) = (mode::WARDEN, CapabilitySet::empty());
        let (numbers, keep, entrances) = (&numbers, &[], &[]);
        let wanted = Launch { mode, flags: 0, numbers, keep, capabilities, into: None, entrances };
        let mut executable = executable::WARDEN.open(init_file)?;
        let mut started = with_fallback(&executable::WARDEN, &mut executable, init_file, |it| {
            launch(it, wanted)
        })?;
        // It forks once, so that the embedder never has it among its children.
        started.finish();
        drop((theirs, listen));
        let mut process = [0; 4];
        match recv(ring.as_raw_fd(), &mut process, MsgFlags::MSG_DONTWAIT) {
            Ok(4) => {}
            // It ended at once: there was no process to be had for it.
            _ => return Err(failed("clone")(Errno::EAGAIN)),
        }
        let lost = || failed("fstat")(Errno::EBADF);
        Ok(Warden {
            pid: std::process::id(),
            #[cfg(feature = "systemd")]
            process: u32::from_ne_bytes(process),
            #[cfg(feature = "systemd")]
            scope: Mutex::new(None),
            queue: Kept::new(ours).ok_or_else(lost)?,
            bell: Kept::new(ring).ok_or_else(lost)?,
            since_bell: AtomicU32::new(0),
            next_id: AtomicU64::new(1),
            watched: Mutex::new(Vec::new()),
            places: Mutex::new(Vec::new()),
        })
    }

    fn is_mine(&self) -> bool {
        self.pid == std::process::id()
    }

    /// Its end of the bell is closed when it is dead.
    #[cfg(feature = "systemd")]
    fn lives(&self) -> Result<(), Errno> {
        let bell = self.bell.duplicate().ok_or(Errno::EBADF)?;
        let dead = sys::wait_readable(bell.as_fd(), Some(Duration::ZERO));
        if dead { Err(Errno::EPIPE) } else { Ok(()) }
    }

    /// Makes this the process's warden. If another thread has started one meanwhile, this one ends
    /// as its lines close: an id means a sandbox to one warden only.
    fn replace(self, before: Option<&'static Warden>) {
        let mine = before.filter(|before| before.is_mine());
        if let Some(before) = mine {
            self.next_id.store(before.next_id.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        if let (Ok(warden), Some(before)) = (kept::replace(&WARDEN, before, self), mine) {
            warden.take_over(before);
        }
    }

    /// What the one before was told, as far as it still lives.
    fn take_over(&self, before: &Warden) {
        for place in before.places.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            if let Err(errno) = self.note(&place) {
                log::warn!("control groups are no longer watched over: {errno}");
            }
        }
        for one in before.watched().drain(..) {
            if let Some(pidfd) = one.pidfd.upgrade() {
                let entry = Entry { what: one.what, id: one.id, deadline: one.deadline };
                if let Err(errno) = self.send(entry, b"", Some(pidfd.as_fd())) {
                    log::warn!("a sandbox is no longer watched over: {errno}");
                }
                self.watched().push(one);
            }
        }
        if let Err(errno) = self.ring() {
            log::warn!("time limits are no longer watched over: {errno}");
        }
    }

    fn add(&self, pidfd: &Arc<OwnedFd>, what: u64) -> Result<u64, Errno> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let deadline = 0;
        self.send(Entry { what, id, deadline }, b"", Some(pidfd.as_fd()))?;
        if self.since_bell.fetch_add(1, Ordering::Relaxed) >= QUIET {
            self.ring()?;
        }
        let mut watched = self.watched();
        if watched.len() >= watched.capacity() {
            watched.retain(|one| one.pidfd.strong_count() > 0);
        }
        watched.push(Watched { what, id, deadline, pidfd: Arc::downgrade(pidfd) });
        Ok(id)
    }

    fn limit(&self, id: u64, deadline: u64) -> Result<(), Errno> {
        let mut before = 0;
        // First here: another warden is told what this list says.
        for one in self.watched().iter_mut().filter(|one| one.id == id) {
            before = std::mem::replace(&mut one.deadline, deadline);
        }
        self.send(Entry { what: WARDEN_LIMIT, id, deadline }, b"", None)?;
        // It reads what there is before it ends anything: what comes later need not wake it.
        let later = deadline == 0 || before != 0 && before <= deadline;
        if later && self.since_bell.fetch_add(1, Ordering::Relaxed) < QUIET {
            return Ok(());
        }
        self.ring()
    }

    fn watched(&self) -> std::sync::MutexGuard<'_, Vec<Watched>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells it of a place, once.
    fn note(&self, place: &Arc<Place>) -> Result<(), Errno> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if !places.iter().any(|one| one.is(place)) {
            let entry = Entry { what: WARDEN_PLACE, id: 0, deadline: 0 };
            self.send(entry, place::prefix().as_bytes(), Some(place.dir.as_fd()))?;
            places.push(Arc::clone(place));
        }
        Ok(())
    }

    fn send(&self, entry: Entry, text: &[u8], fd: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
        let mut bytes = Vec::new();
        entry.put(&mut bytes);
        bytes.extend_from_slice(text);
        let numbers: Vec<_> = fd.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&numbers)];
        let rights = if numbers.is_empty() { &[][..] } else { &rights[..] };
        let queue = self.queue.duplicate().ok_or(Errno::EBADF)?;
        let (data, quiet) =
            ([IoSlice::new(&bytes)], MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT);
        let mut refused = Errno::EAGAIN;
        for _ in 0..PATIENCE {
            match sendmsg::<()>(queue.as_raw_fd(), &data, rights, quiet, None) {
                // Full: the warden empties it once it is woken.
                Err(errno @ (Errno::EAGAIN | Errno::ETOOMANYREFS)) => {
                    refused = errno;
                    self.ring()?;
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(Errno::EINTR) => {}
                other => return other.map(drop),
            }
        }
        // It does not listen, if it is full: stopped, or starved. Another one takes its place.
        Err(refused)
    }

    fn ring(&self) -> Result<(), Errno> {
        self.since_bell.store(0, Ordering::Relaxed);
        let bell = self.bell.duplicate().ok_or(Errno::EBADF)?;
        let quiet = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        match send(bell.as_raw_fd(), b"!", quiet) {
            // A bell that cannot take more has been rung and not been heard yet.
            Ok(_) | Err(Errno::EAGAIN) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}
