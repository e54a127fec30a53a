//! The warden: outside of every sandbox, it ends them all when the embedder is dead.
//!
//! It sleeps until the embedder dies, a deadline passes or the bell rings; registrations wait in
//! the socket meanwhile, so that an ordinary spawn does not wake it.

use crate::abi::*;
use crate::raw::exit;
use crate::sys::{self, Fd, Outcome, Poll};
use crate::wire::{
    Call, ENTRY, Entry, Reader, Text, WARDEN_ADD, WARDEN_ADD_SHARED, WARDEN_DETACH, WARDEN_LIMIT,
};

/// How many sandboxes one embedder can have at a time.
const ROOM: usize = 1 << 16;

/// A sandbox that is watched over. All zero is a free place.
#[derive(Clone, Copy, Debug)]
struct Watched {
    id: u64,
    deadline: u64,
    pidfd: i32,
    detached: bool,
    /// Init has to end what is in it, one process after the other.
    shared: bool,
}

/// How long it has for that.
const MOMENT: u64 = 2_000_000_000;

/// The mode: `queue` brings registrations, `bell` says that one is urgent.
pub(crate) fn run(queue: i32, bell: i32, embedder: i32) -> ! {
    sys::set_name(b"stockade-warden\0");
    if let Err(_fault) = leave_the_embedder() {
        exit(1);
    }
    // The process that the embedder started ends here, and with it what the embedder has to reap.
    let descriptors = [queue, bell, embedder];
    match sys::clone_init(0, watch_entry, (&raw const descriptors).cast_mut().cast()) {
        Ok(_) => exit(0),
        Err(_errno) => exit(1),
    }
}

/// Keeps nothing of the embedder's: its directory, its session, its limit of open files.
fn leave_the_embedder() -> Outcome {
    sys::prctl(Call::Dumpable, PR_SET_DUMPABLE, 0, 0)?;
    sys::chdir(Text::new(b"/\0"))?;
    // The embedder may raise its own limit later, and then make more sandboxes.
    sys::raise_open_files()?;
    sys::setsid().map(drop)
}

extern "C" fn watch_entry(argument: *mut u8) -> ! {
    let [queue, mut bell, embedder] = *sys::argument(argument.cast_const().cast::<[i32; 3]>());
    let Ok(memory) = sys::map(ROOM * size_of::<Watched>()) else { exit(1) };
    let mut warden = Warden { queue, watched: sys::table(memory), count: 0 };
    loop {
        let timeout = warden.next_look(bell);
        let mut set = [Poll::new(embedder), Poll::new(bell)];
        sys::poll(&mut set, timeout);
        if set[1].revents != 0 {
            let mut strokes = [0; 8];
            // Only the wake-up matters, not how often it was rung.
            if sys::read(bell, &mut strokes).unwrap_or(0) == 0 {
                // The embedder closed its end, or replaced this warden: nothing new will come.
                sys::close(bell);
                bell = -1;
            }
        }
        warden.take_messages();
        if bell < 0 && warden.count == 0 {
            exit(0);
        }
        warden.enforce(sys::now());
        if set[0].revents != 0 {
            warden.embedder_died();
        }
    }
}

struct Warden {
    queue: i32,
    watched: &'static mut [Watched],
    count: usize,
}

impl Warden {
    fn living(&mut self) -> &mut [Watched] {
        self.watched.get_mut(..self.count).unwrap_or(&mut [])
    }

    fn next_deadline(&mut self) -> Option<u64> {
        self.living().iter().map(|one| one.deadline).filter(|&at| at != 0).min()
    }

    /// How long to sleep. Without a bell nothing tells when the last sandbox is gone.
    fn next_look(&mut self, bell: i32) -> Option<u64> {
        let deadline = self.next_deadline().map(|at| at.saturating_sub(sys::now()));
        if bell < 0 { Some(deadline.unwrap_or(u64::MAX).min(1_000_000_000)) } else { deadline }
    }

    fn take_messages(&mut self) {
        let mut bytes = [0; ENTRY];
        while let Ok((ENTRY, fd)) = sys::receive(self.queue, &mut bytes, &mut [], MSG_DONTWAIT) {
            if let Some(entry) = Reader::new(&bytes).next::<Entry>() {
                self.note(entry, fd);
            }
        }
        self.forget_the_dead();
    }

    fn note(&mut self, entry: Entry, fd: Option<Fd>) {
        match (entry.what, fd) {
            (WARDEN_ADD | WARDEN_ADD_SHARED, Some(fd)) => {
                let Some(place) = self.watched.get_mut(self.count) else {
                    // No room to watch over it: it must not live unwatched.
                    kill(fd.0);
                    return;
                };
                let Entry { id, deadline, .. } = entry;
                let shared = entry.what == WARDEN_ADD_SHARED;
                *place = Watched { id, deadline, pidfd: fd.0, detached: false, shared };
                core::mem::forget(fd);
                self.count += 1;
            }
            (WARDEN_DETACH, _) => {
                for one in self.living().iter_mut().filter(|one| one.id == entry.id) {
                    one.detached = true;
                }
            }
            (WARDEN_LIMIT, _) => {
                for one in self.living().iter_mut().filter(|one| one.id == entry.id) {
                    one.deadline = entry.deadline;
                }
            }
            _ => {}
        }
    }

    fn forget_the_dead(&mut self) {
        let mut index = 0;
        while let Some(one) = self.living().get(index).copied() {
            if sys::poll(&mut [Poll::new(one.pidfd)], Some(0)) == 0 {
                index += 1;
                continue;
            }
            sys::close(one.pidfd);
            self.count -= 1;
            let last = self.watched.get(self.count).copied();
            if let (Some(last), Some(place)) = (last, self.watched.get_mut(index)) {
                *place = last;
            }
        }
    }

    fn enforce(&mut self, now: u64) {
        for one in self.living() {
            if one.deadline != 0 && one.deadline <= now {
                kill(one.pidfd);
                one.deadline = 0;
            }
        }
    }

    fn kill_all(&mut self, shared: bool) {
        for one in self.living().iter().filter(|one| !one.detached && one.shared == shared) {
            kill(one.pidfd);
        }
    }

    /// Ends what was not let go; stays only for the deadlines of what was.
    fn embedder_died(&mut self) {
        self.kill_all(false);
        let until = sys::now().saturating_add(MOMENT);
        while self.living().iter().any(|one| one.shared && !one.detached) && sys::now() < until {
            sys::poll(&mut [], Some(10_000_000));
            self.forget_the_dead();
        }
        self.kill_all(true);
        while self.next_deadline().is_some() {
            let wait = self.next_look(-1);
            sys::poll(&mut [], wait);
            self.enforce(sys::now());
            self.forget_the_dead();
        }
        exit(0)
    }
}

/// Kills a sandbox's PID 1, and so all of it; one that is dead already stays so.
fn kill(pidfd: i32) {
    let _dead = sys::signal_pidfd(pidfd, SIGKILL);
}
