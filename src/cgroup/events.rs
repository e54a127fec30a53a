//! What happens to a sandbox's groups while it runs, without polling:
//! [inotify(7)](https://man7.org/linux/man-pages/man7/inotify.7.html) on files of events,
//! [eventfd(2)](https://man7.org/linux/man-pages/man2/eventfd.2.html) for v1's memory.

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::sys::stat::Mode;

use super::group::{Group, Groups, read_at};
use super::stats::parse_keyed;
use super::{CgroupVersion, Controller, Write};
use crate::error::{Error, Result, Stage};
use crate::sys;

/// Something that a limit did
/// ([cgroup-v2.rst](https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files)).
///
/// # Examples
///
/// ```
/// assert_ne!(stockade::Event::PidsMax, stockade::Event::OutOfMemory);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Event {
    /// `memory.high` was exceeded, and the sandbox slowed down. v2 only.
    MemoryHigh,
    /// The limit of memory was reached; something could still be given back. On v1 it is told once
    /// the kernel has looked for that through some 2 MiB, and not before Linux 4.13, to others than root not
    /// before 6.5.
    MemoryMax,
    /// The limit of memory was reached, and nothing could be given back.
    OutOfMemory,
    /// The kernel killed a process for want of memory. On v1, where this by itself wakes nobody, it is
    /// told with the next event or at the end (Linux 4.13).
    OomKill,
    /// One process more than the limit was refused.
    PidsMax,
}

/// The [events](Event) of a running sandbox, as they come
/// ([inotify(7)](https://man7.org/linux/man-pages/man7/inotify.7.html)). Each stands for one or
/// more of its kind that came together; how many there were in all is in [`Stats`](crate::Stats).
/// It ends with the sandbox; what was not asked for before the end was waited for is gone with the groups.
///
/// As an iterator it waits; its descriptor ([`AsFd`]) is readable when there may be something, so
/// that it can be part of an event loop, with [`try_next`](Self::try_next).
///
/// # Examples
///
/// ```no_run
/// // Not run: it needs a control group that the caller may write to.
/// use stockade::{Event, Sandbox};
/// let child = Sandbox::new().pids_limit(1).command("sh").args(["-c", "(true)"]).spawn()?;
/// for event in child.events()? {
///     assert_eq!(event?, Event::PidsMax);
/// }
/// # Ok::<(), stockade::Error>(())
/// ```
#[derive(Debug)]
pub struct Events {
    any: Epoll,
    inotify: Inotify,
    /// v1's words about memory, each counted by the kernel.
    words: Vec<(EventFd, Event)>,
    pidfd: Arc<OwnedFd>,
    files: Vec<Counts>,
    pending: VecDeque<Event>,
    ended: bool,
}

/// A file of counts, and what they were when it was looked at last.
#[derive(Debug)]
struct Counts {
    group: OwnedFd,
    file: &'static str,
    kinds: &'static [(&'static str, Event)],
    seen: Vec<u64>,
}

const OF_MEMORY: &[(&str, Event)] = &[
    ("high", Event::MemoryHigh),
    ("max", Event::MemoryMax),
    ("oom", Event::OutOfMemory),
    ("oom_kill", Event::OomKill),
];
const OF_OOM_CONTROL: &[(&str, Event)] = &[("oom_kill", Event::OomKill)];
const OF_PIDS: &[(&str, Event)] = &[("max", Event::PidsMax)];

fn failed(operation: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| Error::new(Stage::Run, operation, "for events of control groups", errno)
}

impl Events {
    /// Begins to watch; what was before is not told.
    pub(crate) fn new(groups: Option<&Groups>, pidfd: &Arc<OwnedFd>) -> Result<Self> {
        let any = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(failed("epoll_create"))?;
        let flags = InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK;
        let inotify = Inotify::init(flags).map_err(failed("inotify_init"))?;
        let mut events = Events {
            any,
            inotify,
            words: Vec::new(),
            pidfd: Arc::clone(pidfd),
            files: Vec::new(),
            pending: VecDeque::new(),
            ended: false,
        };
        events.add(events.inotify.as_fd())?;
        events.add(events.pidfd.as_fd())?;
        for group in groups.iter().flat_map(|groups| &groups.groups) {
            if group.has(Controller::Pids) {
                events.watch(group, "pids.events", OF_PIDS)?;
            }
            match (group.has(Controller::Memory), group.version()) {
                (true, CgroupVersion::V1) => {
                    events.listen(group, "memory.oom_control", "", Event::OutOfMemory)?;
                    // Of this group alone, whose limit makes the kernel look for memory in it. Older kernels
                    // have no such word, and a file that only root may open.
                    let level = " low,local";
                    let told =
                        events.listen(group, "memory.pressure_level", level, Event::MemoryMax);
                    if let Err(error) = told {
                        if ![Some(libc::EACCES), Some(libc::EINVAL)].contains(&error.raw_os_error())
                        {
                            return Err(error);
                        }
                        log::debug!("no event of a limit that is reached: {error}");
                    }
                    events.look_at(group, "memory.oom_control", OF_OOM_CONTROL)?;
                }
                (true, CgroupVersion::V2) => events.watch(group, "memory.events", OF_MEMORY)?,
                (false, _) => {}
            }
        }
        Ok(events)
    }

    fn add(&self, fd: BorrowedFd<'_>) -> Result<()> {
        self.any.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, 0)).map_err(failed("epoll_ctl"))
    }

    fn watch(
        &mut self,
        group: &Group,
        file: &'static str,
        kinds: &'static [(&'static str, Event)],
    ) -> Result<()> {
        let path = group.path().join(file);
        let watched = self.inotify.add_watch(&path, AddWatchFlags::IN_MODIFY);
        watched.map_err(|errno| {
            Error::new(Stage::Run, "inotify_add_watch", format!("{path:?}"), errno)
        })?;
        self.look_at(group, file, kinds)
    }

    fn look_at(
        &mut self,
        group: &Group,
        file: &'static str,
        kinds: &'static [(&'static str, Event)],
    ) -> Result<()> {
        let group = group
            .dir
            .try_clone()
            .map_err(|error| failed("dup")(crate::executable::errno_of(&error)))?;
        let mut counts = Counts { group, file, kinds, seen: vec![0; kinds.len()] };
        counts.look(&mut VecDeque::new());
        self.files.push(counts);
        Ok(())
    }

    /// Has the kernel count each time that something happens to v1's group.
    fn listen(
        &mut self,
        group: &Group,
        file: &'static str,
        arguments: &str,
        event: Event,
    ) -> Result<()> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let counter = EventFd::from_value_and_flags(0, flags).map_err(failed("eventfd"))?;
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let told = openat(&group.dir, file, flags, Mode::empty())
            .map_err(|errno| Error::new(Stage::Run, "open", file, errno))?;
        let line = format!("{} {}{arguments}", counter.as_raw_fd(), told.as_raw_fd());
        group.write(&Write::new("cgroup.event_control", line)).map_err(|failure| {
            let (object, errno) = failure.parts();
            Error::new(Stage::Run, "write", object, errno)
        })?;
        self.add(counter.as_fd())?;
        self.words.push((counter, event));
        Ok(())
    }

    /// The next event, if there is one already.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] if the kernel cannot be asked.
    ///
    /// # Examples
    ///
    /// ```
    /// let child = stockade::Sandbox::new().command("sleep").arg("1000").spawn()?;
    /// // Without limits there is nothing to tell.
    /// assert_eq!(child.events()?.try_next()?, None);
    /// # Ok::<(), stockade::Error>(())
    /// ```
    pub fn try_next(&mut self) -> Result<Option<Event>> {
        if self.pending.is_empty() && !self.ended {
            self.look()?;
        }
        Ok(self.pending.pop_front())
    }

    /// Takes in what there is.
    fn look(&mut self) -> Result<()> {
        // Asked first: what comes before the end is looked at after it was seen.
        let ended = sys::wait_readable(self.pidfd.as_fd(), Some(std::time::Duration::ZERO));
        loop {
            // Which file it was does not matter: all are looked at.
            match self.inotify.read_events() {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => break,
                Err(errno) => return Err(failed("read inotify")(errno)),
            }
        }
        // Before the words are heard, which come first: a kill after that is told the next time.
        let mut counted = VecDeque::new();
        self.files.iter_mut().for_each(|counts| counts.look(&mut counted));
        let is_there = |counts: &Counts| read_at(counts.group.as_fd(), counts.file).is_some();
        for (counter, event) in &self.words {
            match counter.read() {
                // The kernel also counts when the group is removed.
                Ok(_) if self.files.iter().all(is_there) => self.pending.push_back(*event),
                Ok(_) | Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(errno) => return Err(failed("read eventfd")(errno)),
            }
        }
        self.pending.append(&mut counted);
        self.ended = ended;
        Ok(())
    }
}

impl Counts {
    /// Tells of what was counted since the last look. A group that is gone counts no more.
    fn look(&mut self, pending: &mut VecDeque<Event>) {
        let Some(text) = read_at(self.group.as_fd(), self.file) else { return };
        let counts = parse_keyed(&text);
        for ((key, event), seen) in self.kinds.iter().zip(&mut self.seen) {
            let count = counts.get(*key).copied().unwrap_or(*seen);
            if count > *seen {
                pending.push_back(*event);
            }
            *seen = count;
        }
    }
}

impl Iterator for Events {
    type Item = Result<Event>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.try_next() {
                Ok(Some(event)) => return Some(Ok(event)),
                Err(error) => return Some(Err(error)),
                Ok(None) if self.ended => return None,
                Ok(None) => {}
            }
            match self.any.wait(&mut [EpollEvent::empty()], EpollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Some(Err(failed("epoll_wait")(errno))),
            }
        }
    }
}

impl AsFd for Events {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.any.0.as_fd()
    }
}
