//! The warden: outside of every sandbox, it ends them all when the embedder is dead.
//!
//! It sleeps until the embedder dies, a deadline passes or the bell rings; registrations wait in
//! the socket meanwhile, so that an ordinary spawn does not wake it.

use crate::abi::*;
use crate::raw::exit;
use crate::sys::{self, Fd, Outcome, Poll};
use crate::wire::{
    Call, ENTRY, Entry, PREFIX, Reader, Text, WARDEN_ADD, WARDEN_ADD_SHARED, WARDEN_DETACH,
    WARDEN_LIMIT, WARDEN_PLACE,
};

/// How many sandboxes one embedder can have at a time.
const ROOM: usize = 1 << 16;

/// In how many groups one embedder can make its own; more are left to the next process.
const PLACES: usize = 256;

/// How deep groups that others have made in those are removed with them, as the stack is small.
const DEPTH_MAX: u32 = 16;

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

/// How long the kernel has to end what was killed; after it, groups are left to the next process.
const PATIENCE: u64 = 60_000_000_000;

/// Its descriptors: one brings registrations, the bell says that one is urgent, and the embedder's pidfd.
pub(crate) fn run(descriptors: [i32; 3]) -> ! {
    let _cosmetic = sys::set_name(b"stockade-warden\0");
    if let Err(_fault) = leave_the_embedder() {
        exit(1);
    }
    // The process that the embedder started ends here, and with it what the embedder has to reap.
    match sys::clone_init(0, watch_entry, (&raw const descriptors).cast_mut().cast()) {
        Ok((pid, _)) => {
            // Without it the embedder takes the warden for dead, and starts another.
            let _told = sys::write(descriptors[1], &pid.to_ne_bytes());
            exit(0)
        }
        Err(_errno) => exit(1),
    }
}

/// Keeps nothing of the embedder's: its directory, its session, its limit of open files.
fn leave_the_embedder() -> Outcome {
    sys::prctl(Call::Dumpable, PR_SET_DUMPABLE, 0, 0)?;
    sys::chdir(Text::new(b"/\0"))?;
    // The embedder may raise its own limit later, and then make more sandboxes.
    sys::raise_limits()?;
    sys::setsid().map(drop)
}

extern "C" fn watch_entry(argument: *mut u8) -> ! {
    let [queue, mut bell, embedder] = *sys::argument(argument.cast_const().cast::<[i32; 3]>());
    let Ok(memory) = sys::map(ROOM * size_of::<Watched>()) else { exit(1) };
    let watched = sys::table(memory);
    let mut warden =
        Warden { queue, watched, count: 0, places: [-1; PLACES], placed: 0, prefix: [0; PREFIX] };
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
        // Before it reads: who is told in time that there is no limit any more, may be another one's by then.
        let now = sys::now();
        warden.take_messages();
        // Where there may be groups, the embedder's end is waited for: its lines close a bit earlier.
        if bell < 0 && warden.count == 0 && warden.placed == 0 {
            exit(0);
        }
        warden.enforce(now);
        if set[0].revents != 0 {
            warden.embedder_died();
        }
    }
}

struct Warden {
    queue: i32,
    watched: &'static mut [Watched],
    count: usize,
    /// Control groups in which the embedder makes its own, whose names begin with `prefix`.
    places: [i32; PLACES],
    placed: usize,
    prefix: [u8; PREFIX],
}

impl Warden {
    fn living(&mut self) -> &mut [Watched] {
        self.watched.get_mut(..self.count).unwrap_or(&mut [])
    }

    /// [`sys::FOREVER`] if there is none.
    fn next_deadline(&mut self) -> u64 {
        let deadlines = self.living().iter().map(|one| one.deadline).filter(|&at| at != 0);
        deadlines.min().unwrap_or(sys::FOREVER)
    }

    /// How long to sleep. Without a bell nothing tells when the last sandbox is gone.
    fn next_look(&mut self, bell: i32) -> u64 {
        let longest = if bell < 0 { 1_000_000_000 } else { sys::FOREVER };
        self.next_deadline().saturating_sub(sys::now()).min(longest)
    }

    fn take_messages(&mut self) {
        let (mut bytes, mut prefix) = ([0; ENTRY], [0; PREFIX]);
        let (queue, flags) = (self.queue, MSG_DONTWAIT);
        while let Ok((ENTRY.., fd)) = sys::receive(queue, &mut bytes, &mut prefix, flags) {
            if let Some(entry) = Reader::new(&bytes).next::<Entry>() {
                self.note(entry, fd, &prefix);
            }
        }
        self.forget_the_dead();
    }

    fn note(&mut self, entry: Entry, fd: Option<Fd>, prefix: &[u8; PREFIX]) {
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
            (WARDEN_PLACE, Some(fd)) => {
                if let Some(place) = self.places.get_mut(self.placed) {
                    *place = fd.0;
                    core::mem::forget(fd);
                    self.placed += 1;
                    self.prefix = *prefix;
                }
            }
            (what @ (WARDEN_DETACH | WARDEN_LIMIT), _) => {
                for one in self.living().iter_mut().filter(|one| one.id == entry.id) {
                    if what == WARDEN_DETACH {
                        one.detached = true;
                    } else {
                        one.deadline = entry.deadline;
                    }
                }
            }
            _ => {}
        }
    }

    fn forget_the_dead(&mut self) {
        let mut index = 0;
        while let Some(one) = self.living().get(index).copied() {
            if sys::poll(&mut [Poll::new(one.pidfd)], 0) == 0 {
                index += 1;
                continue;
            }
            sys::close(one.pidfd);
            if let [place, .., last] = self.living().get_mut(index..).unwrap_or(&mut []) {
                *place = *last;
            }
            self.count -= 1;
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
            sys::poll(&mut [], 10_000_000);
            self.forget_the_dead();
        }
        self.kill_all(true);
        let begun = sys::now();
        while self.remove_groups() {
            let waited = sys::now().saturating_sub(begun);
            if waited > PATIENCE {
                break;
            }
            sys::poll(&mut [], (waited / 8).clamp(1_000_000, 250_000_000));
        }
        while self.next_deadline() != sys::FOREVER {
            let wait = self.next_look(-1);
            sys::poll(&mut [], wait);
            self.enforce(sys::now());
            self.forget_the_dead();
        }
        exit(0)
    }

    /// Removes the embedder's control groups; whether some could not be, as something still ends in
    /// them.
    fn remove_groups(&mut self) -> bool {
        let mut left = false;
        // Then whatever is in them is to end, and without a pid namespace may not have yet.
        let ends = self.living().iter().all(|one| !one.detached);
        for &place in self.places.iter().take(self.placed) {
            // Not the embedder's own opening, which may have been read before.
            let Ok(list) = sys::open(place, Text::new(b".\0"), O_RDONLY, 0) else { continue };
            let mut entries = [0; 4096];
            while let Ok(length @ 1..) = sys::list(list.0, &mut entries) {
                // The names are where the prefix is, of which nothing else can be the beginning.
                for at in 0..length {
                    let name = entries.get(at..).unwrap_or(&[]);
                    if name.starts_with(&self.prefix) {
                        left |= remove_group(place, Text::new(name), ends, 0).is_err();
                    }
                }
            }
        }
        left
    }
}

/// Removes a group, and before it those in it, down to some depth. If what is in them `ends`, the kernel
/// is told to end it, or else each process is; on v1 it has to run on for that.
fn remove_group(place: i32, name: Text<'_>, ends: bool, depth: u32) -> Outcome {
    if let Ok(group) = sys::open(place, name, O_RDONLY, 0) {
        if ends {
            let kill = Text::new(b"cgroup.kill\0");
            match sys::open(group.0, kill, O_WRONLY, 0) {
                Ok(kill) => drop(sys::write(kill.0, b"1")),
                Err(_before_5_14) => kill_members(group.0),
            }
        }
        if let Ok(state) = sys::open(group.0, Text::new(b"freezer.state\0"), O_WRONLY, 0) {
            let _goes_on = sys::write(state.0, b"THAWED");
        }
        let partition = Text::new(b"cpuset.cpus.partition\0");
        if let Ok(partition) = sys::open(group.0, partition, O_WRONLY, 0) {
            // Linux 6.1 does not give its CPUs back with the group.
            let _was_none = sys::write(partition.0, b"member");
        }
        if depth < DEPTH_MAX {
            remove_inner(group.0, ends, depth);
        }
    }
    sys::remove_directory(place, name)
}

/// Those directly in a group; what of them stays makes that one stay.
fn remove_inner(group: i32, ends: bool, depth: u32) {
    let mut entries = [0; 512];
    while let Ok(length @ 1..) = sys::list(group, &mut entries) {
        let mut rest = entries.get(..length).unwrap_or(&[]);
        // struct linux_dirent64: inode, offset, size of the entry (at 16), kind, name (at 19).
        while let Some(&[low, high, kind]) = rest.get(16..19) {
            let size = usize::from(u16::from_ne_bytes([low, high]));
            let name = rest.get(19..size).unwrap_or(&[]);
            let itself_or_above = matches!(name, [b'.', 0, ..] | [b'.', b'.', 0, ..]);
            if kind == DT_DIR && !itself_or_above {
                let _looked_at_again = remove_group(group, Text::new(name), ends, depth + 1);
            }
            rest = rest.get(size.max(1)..).unwrap_or(&[]);
        }
    }
}

/// Kills those that a list of processes begins with; the rest comes with the next look.
#[inline(never)]
fn kill_members(group: i32) {
    let list = Text::new(b"cgroup.procs\0");
    let (mut found, mut still) = ([0; 1024], [0; 1024]);
    for_each(group, list, &mut found, |pid| {
        let Ok(pidfd) = sys::pidfd(pid) else { return };
        // Still in the list, it is that process and not another one with its number.
        for_each(group, list, &mut still, |other| {
            if other == pid {
                kill(pidfd.0);
            }
        });
    });
}

/// The numbers of a file that has one in each line, as far as there is room for them.
fn for_each(directory: i32, file: Text<'_>, room: &mut [u8; 1024], mut each: impl FnMut(u32)) {
    let file = sys::open(directory, file, O_RDONLY, 0);
    let length = file.and_then(|file| sys::read(file.0, room)).unwrap_or(0);
    let mut number = 0u32;
    for &byte in room.get(..length).unwrap_or(&[]) {
        if byte == b'\n' {
            each(number);
            number = 0;
        } else {
            number = number.wrapping_mul(10).wrapping_add(u32::from(byte.wrapping_sub(b'0')));
        }
    }
}

/// Kills a sandbox's PID 1, and so all of it; one that is dead already stays so.
fn kill(pidfd: i32) {
    let _dead = sys::signal_pidfd(pidfd, SIGKILL);
}
