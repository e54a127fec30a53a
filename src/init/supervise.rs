//! PID 1 while the program runs: one loop that reaps, keeps the time and reports the end.

use crate::abi::*;
use crate::plan::Lines;
use crate::program::{Running, Unsaid};
use crate::raw::exit;
use crate::sys::{self, Ended, Fd, Poll, Used};
use crate::text::{self, numbered};
use crate::tree::Watched;
use crate::wire::{
    BY_SIGNAL, CPU_TIME, Call, DETACH, EXEC, Fault, OWN_PIDS, PAUSE, REPORT, Report, Text, ended,
    report,
};

/// How many of the processes that the program left are named.
const NAMED: u64 = 32;

/// How many are reaped before it is looked again for what is to be killed, a power of two.
const BATCH: u64 = 64;

/// How long CPU time is not looked at, at the least.
const SHORTEST: u64 = 1_000_000;

/// How far the sandbox is on its way to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Running,
    /// The time is up and SIGTERM was sent.
    Grace,
    /// The program ended; what it left may go on until the deadline.
    Lingering,
    /// Everything was killed.
    Killed,
}

#[derive(Debug)]
struct Supervisor<'a> {
    lines: Lines,
    watched: &'a Watched,
    proc_fd: i32,
    running: Running,
    phase: Phase,
    /// [`sys::FOREVER`] for none.
    deadline: u64,
    detached: bool,
    /// No other program is to follow.
    #[cfg(session)]
    last: bool,
    /// Since when the time stands still; [`sys::FOREVER`] if it does not.
    paused: u64,
    ended: bool,
    /// What all that have ended used.
    used: Used,
    end: Report,
}

/// Runs until the sandbox is empty, or of a session's program, nothing of that is left.
pub(crate) fn run(lines: Lines, proc_fd: i32, running: Running, watched: &Watched) {
    let own_pids = running.flags & OWN_PIDS != 0;
    if own_pids && proc_fd >= 0 {
        sys::close(proc_fd);
    }
    let wall = if running.wall == 0 { sys::FOREVER } else { running.wall.max(EXEC) };
    let deadline = running.started.saturating_add(wall);
    let supervisor = Supervisor {
        lines,
        watched,
        proc_fd: if own_pids { -1 } else { proc_fd },
        running,
        phase: Phase::Running,
        deadline,
        detached: false,
        #[cfg(session)]
        last: false,
        paused: sys::FOREVER,
        ended: false,
        used: [0; 18],
        end: Report::new(report::ENDED),
    };
    supervisor.supervise()
}

impl Supervisor<'_> {
    fn supervise(mut self) {
        loop {
            let children = self.reap();
            if self.ended && !children {
                return self.finish();
            }
            if self.ended && matches!(self.phase, Phase::Running | Phase::Grace) {
                self.phase = Phase::Lingering;
                let linger = sys::now().saturating_add(self.running.linger);
                self.deadline = self.deadline.min(linger);
            }
            let mut left = sys::FOREVER;
            if self.paused == sys::FOREVER {
                if self.deadline != sys::FOREVER {
                    left = self.deadline.saturating_sub(sys::now());
                }
                if left == 0 {
                    self.time_is_up();
                    continue;
                }
                if self.running.cpu_time != 0 && self.phase != Phase::Killed {
                    let cpu_left = self.cpu_left();
                    if cpu_left == 0 {
                        self.end.numbers[ended::TIMED_OUT] = ended::BY_CPU_TIME;
                        self.end_all();
                        continue;
                    }
                    // All CPUs together could use it up by then.
                    let look = cpu_left / u64::from(self.running.cpus);
                    left = left.min(look.max(SHORTEST));
                }
            }
            self.sleep(left);
        }
    }

    /// Waits for a child, a word from the embedder, the exec or the deadline.
    #[inline(never)]
    fn sleep(&mut self, timeout: u64) {
        let embedder = if self.detached { -1 } else { self.lines.embedder };
        let mut set = [
            Poll::new(self.running.child_signals.0),
            Poll::new(self.lines.control),
            Poll::new(embedder),
            Poll::closing(self.running.exec.0),
            Poll::new(self.running.listener.0),
        ];
        sys::poll(&mut set, timeout);
        if set[3].revents != 0 {
            self.exec_is_over();
        }
        if set[4].revents & POLLIN != 0 {
            self.end_denied();
        } else if set[4].revents != 0 {
            // Nobody is left who could ask.
            self.running.listener = Fd(-1);
        }
        if set[0].revents != 0 {
            let mut information = [0; 128];
            // One is enough: the next look at the children finds all of them.
            let _drained = sys::read(self.running.child_signals.0, &mut information);
        }
        if set[1].revents != 0 || set[2].revents != 0 {
            // A word from an embedder that has died since counts.
            self.listen();
        }
    }

    /// The program has been executed, or its process has ended.
    fn exec_is_over(&mut self) {
        self.pass_on();
        self.running.exec = Fd(-1);
        // From here on the time is the program's, if it was not up before.
        if self.end.numbers[ended::TIMED_OUT] == 0 {
            self.running.started = sys::now();
        }
        let limit = self.running.started.saturating_add(self.running.wall);
        if !cfg!(session) || self.running.wall != 0 {
            self.deadline = match self.phase {
                Phase::Running => limit,
                Phase::Lingering => self.deadline.min(limit),
                Phase::Grace | Phase::Killed => self.deadline,
            };
        }
        // Else it has ended, which is seen next.
        if cfg!(session) && sys::has_executed(self.running.pid) {
            self.tell_of_exec();
        }
    }

    /// Why the program could not be executed, if its process says so and nobody else is told.
    fn pass_on(&self) {
        if !cfg!(session) || self.running.unsaid.is_none() {
            return;
        }
        let mut report = [0; REPORT];
        let mut hear = || sys::receive(self.running.exec.0, &mut report, &mut [], MSG_DONTWAIT);
        // If it has not read the word, the kernel tells that first.
        if let Ok((REPORT, file)) = hear().or_else(|_| hear()) {
            self.lines.end_with(&report, file.as_ref().map(|file| file.0).as_slice());
        }
    }

    fn tell_of_exec(&mut self) {
        let unsaid = self.running.unsaid.take().filter(|_| cfg!(session));
        let Some(Unsaid { pidfd, skipped }) = unsaid else { return };
        let numbers = [self.running.pid as u64, skipped];
        if let Err(fault) = sys::tell(self.lines.control, report::EXECUTED, numbers, &[pidfd.0]) {
            self.end_children();
            self.lines.fail(report::START, fault, 0, &[]);
        }
    }

    /// Ends a process whose filter asks about a call that it is to be killed for; it waits for the answer.
    fn end_denied(&mut self) {
        let Ok((pid, call)) = sys::denied(self.running.listener.0) else {
            // It was killed meanwhile.
            return;
        };
        // One of the program's own threads, or another process.
        if sys::tgkill(self.running.pid, pid, SIGKILL).is_ok() {
            self.end.numbers[ended::DENIED] = u64::from(call) + 1;
        } else {
            let _gone = sys::kill(pid as isize, SIGKILL);
        }
    }

    /// A word on the control socket: the embedder lets go, stops the time, limits it anew, or has
    /// closed it.
    fn listen(&mut self) {
        let (mut word, mut limit) = ([0; 8], [0; 8]);
        match sys::receive(self.lines.control, &mut word, &mut limit, MSG_DONTWAIT) {
            Ok((1, _)) if word[0] == DETACH => {
                self.detached = true;
                self.lines.control = -1;
            }
            #[cfg(session)]
            Ok((1, _)) if word[0] == crate::wire::LAST => self.last = true,
            Ok((1, _)) => self.pause_or_resume(word[0]),
            #[cfg(session)]
            Ok((16, None)) if word[0] == crate::wire::STOOD => {
                self.go_on_after(u64::from_ne_bytes(limit));
            }
            Ok((16, Some(fd))) if word[0] == CPU_TIME => {
                // Of an earlier limit; closing none does no harm.
                sys::close(self.running.cpu_fd);
                self.running.cpu_time = u64::from_ne_bytes(limit);
                let [.., a, b, c, d] = word;
                self.running.cpus = u32::from_ne_bytes([a, b, c, d]);
                self.running.cpu_fd = fd.0;
                core::mem::forget(fd);
            }
            _ => self.abandon(),
        }
    }

    fn pause_or_resume(&mut self, word: u8) {
        let (now, pauses) = (sys::now(), word & PAUSE != 0);
        if pauses {
            self.paused = now;
        } else {
            // Of one that is not paused it is 0.
            let stood = now.saturating_sub(self.paused);
            self.paused = sys::FOREVER;
            self.go_on_after(stood);
        }
        if word & BY_SIGNAL != 0 {
            self.signal_all(if pauses { SIGSTOP } else { SIGCONT });
        }
    }

    fn go_on_after(&mut self, stood: u64) {
        self.running.started += stood;
        self.deadline = self.deadline.saturating_add(stood);
    }

    /// The embedder is gone, and the sandbox with it.
    fn abandon(&mut self) -> ! {
        self.end_children();
        exit(1)
    }

    #[inline(always)]
    fn end_children(&self) {
        self.kill_all();
        while self.running.flags & OWN_PIDS == 0 && sys::wait(0, 0).is_ok() {
            self.kill_all();
        }
    }

    fn time_is_up(&mut self) {
        let timed_out = matches!(self.phase, Phase::Running | Phase::Grace);
        if timed_out {
            self.end.numbers[ended::TIMED_OUT] = ended::BY_TIME;
        }
        if self.phase == Phase::Running && self.running.grace != 0 {
            self.phase = Phase::Grace;
            self.deadline = sys::now().saturating_add(self.running.grace);
            self.signal_all(SIGTERM);
            // A stopped process does not see SIGTERM before it goes on.
            self.signal_all(SIGCONT);
            return;
        }
        self.end_all();
    }

    fn end_all(&mut self) {
        // Of what runs is told before what is killed.
        if cfg!(session) && sys::poll(&mut [Poll::closing(self.running.exec.0)], 0) != 0 {
            self.exec_is_over();
        }
        self.phase = Phase::Killed;
        self.deadline = sys::FOREVER;
        self.kill_all();
        if self.running.flags & OWN_PIDS != 0 {
            let _told = sys::tell(self.lines.control, report::KILLED, [0, 0], &[]);
        }
    }

    /// How much CPU time is left. Who cannot find out keeps no limit, and ends everything.
    fn cpu_left(&mut self) -> u64 {
        let mut text = [0; 32];
        if sys::read_start(self.running.cpu_fd, &mut text).is_err() {
            self.abandon();
        }
        let mut used = 0u64;
        for digit in text.map(|byte| byte.wrapping_sub(b'0')) {
            if digit < 10 {
                used = used.wrapping_mul(10).wrapping_add(u64::from(digit));
            } else if used != 0 {
                break;
            }
        }
        let unit = if text[0] == b'u' { 1000 } else { 1 };
        self.running.cpu_time.saturating_sub(used.wrapping_mul(unit))
    }

    fn kill_all(&self) {
        self.signal_all(SIGKILL);
    }

    /// Signals every process of the sandbox but init.
    fn signal_all(&self, signal: usize) {
        if self.running.flags & OWN_PIDS != 0 {
            // As PID 1 this reaches exactly the namespace, atomically; ESRCH when it is empty.
            let _empty = sys::kill(-1, signal);
            return;
        }
        // Without a pid namespace of its own: what descends from init, one generation a time. As
        // subreaper init inherits the next one, and its caller comes again until none is left.
        each_child(self.proc_fd, self.running.pid, |pid| {
            let _gone = sys::kill(pid as isize, signal);
        });
    }

    /// Reaps what has ended; `false` when init has no children any more.
    fn reap(&mut self) -> bool {
        loop {
            let child = match sys::wait(0, WNOHANG | WNOWAIT) {
                Ok(Some(child)) => child,
                Ok(None) => break,
                Err(Fault { errno, .. }) if errno.0 == ECHILD => return false,
                // Who cannot be asked about its children cannot be trusted with them.
                Err(_) => self.abandon(),
            };
            if child.code > CLD_DUMPED {
                // A child that made init its tracer stopped: the news is taken, and that is all.
                sys::take_stop(child.pid);
                continue;
            }
            if child.pid == self.running.pid {
                if !sys::has_executed(child.pid) {
                    self.never_ran(&child);
                }
                self.tell_of_exec();
            }
            if self.phase == Phase::Killed && child.pid != self.running.pid {
                self.report_left(child.pid);
            }
            // The child is there: it was just seen.
            self.count(&sys::reap(child.pid));
            if child.pid == self.running.pid {
                self.ended = true;
                self.end.numbers[ended::HOW] = child.code as u64;
                self.end.numbers[ended::STATUS] = child.status as u64;
                // It may have been thawed already, while the word of that is on its way.
                let until = sys::now().min(self.paused);
                self.end.numbers[ended::WALL] = until.saturating_sub(self.running.started);
            }
        }
        // Not after each: a look at thousands takes its time.
        self.kill_the_next();
        true
    }

    /// What those that were killed have left: it is init's child by then.
    #[inline(never)]
    fn kill_the_next(&self) {
        if self.phase == Phase::Killed && self.running.flags & OWN_PIDS == 0 {
            self.kill_all();
        }
    }

    /// The program's exec failed and its filter lets it not say so, or it was killed before: nothing
    /// has run. Said before it is reaped, so that who finds it gone knows.
    fn never_ran(&self, child: &Ended) -> ! {
        self.pass_on();
        let timed_out = self.end.numbers[ended::TIMED_OUT] != 0;
        let errno = if timed_out { ETIME } else { ESRCH };
        let killed = [Call::Start as u64, errno as u64, child.status as u64];
        self.lines.fail_with(report::START, self.running.told.get().unwrap_or(killed), &[])
    }

    /// Counts a process that had to be killed, and tells its name.
    #[inline(never)]
    fn report_left(&mut self, pid: i32) {
        let count = self.end.numbers[ended::LEFT] + 1;
        self.end.numbers[ended::LEFT] = count;
        // Nor only after the last, of which there may be none while what goes on leaves more.
        if count & (BATCH - 1) == 0 {
            self.kill_the_next();
        }
        // Should it not live to tell the whole number, it has told half of it at the least.
        if count > NAMED && !count.is_power_of_two() {
            return;
        }
        let mut left = Report::new(report::LEFT);
        left.numbers[..2].copy_from_slice(&[pid as u64, count]);
        let mut name = [0; 64];
        let length = command_name(pid, &mut name);
        // What is read, less the end of the line, is at most 63 bytes.
        left.set_text(&name[..length & 63]);
        self.tell(&left);
    }

    /// Adds what a child has used, with what that has waited for.
    fn count(&mut self, used: &Used) {
        let peak = self.used[4].max(used[4]);
        for (to, from) in self.used.iter_mut().zip(used) {
            *to += from;
        }
        self.used[4] = peak;
    }

    /// Says how it ended.
    fn finish(mut self) {
        let (used, numbers) = (&self.used, &mut self.end.numbers);
        let micros = |at: usize| used[at] * 1_000_000 + used[at + 1];
        // struct rusage: two times, then 14 words.
        numbers[ended::USER] = micros(0);
        numbers[ended::SYSTEM] = micros(2);
        numbers[ended::PEAK_RSS] = used[4];
        numbers[ended::MINOR_FAULTS] = used[8];
        numbers[ended::MAJOR_FAULTS] = used[9];
        numbers[ended::VOLUNTARY] = used[16];
        numbers[ended::INVOLUNTARY] = used[17];
        for (to, &fd) in self.end.text.iter_mut().zip(self.watched.fds()) {
            *to = sys::shortage(fd);
        }
        #[cfg(session)]
        {
            let goes_on = self.running.goes_on && !self.last && !self.detached && sys::has_fitted();
            self.end.numbers[ended::GOES_ON] = u64::from(goes_on);
            if goes_on && sys::send(self.lines.control, sys::bytes_of(&self.end), &[]).is_ok() {
                return;
            }
            self.end.numbers[ended::GOES_ON] = 0;
        }
        self.tell(&self.end);
        // Who hears it goes on first: to end takes the kernel some time.
        sys::yield_now();
        exit(0)
    }

    /// Sends a report; the library may be gone or, detached, not interested.
    fn tell(&self, report: &Report) {
        let _told = sys::send(self.lines.control, sys::bytes_of(report), &[]);
    }
}

/// Calls `act` with each child, as /proc lists them; with `known` where it does not.
pub(crate) fn each_child(proc_fd: i32, known: i32, act: impl Fn(i32)) {
    let mut list = [0; 4096];
    let path = Text::new(b"thread-self/children\0");
    let Ok(file) = sys::open(proc_fd, path, O_RDONLY, 0) else {
        act(known);
        return;
    };
    let length = sys::read(file.0, &mut list).unwrap_or(0);
    for number in list.get(..length).unwrap_or(&[]).split(|&byte| byte == b' ') {
        let number = text::number(number).and_then(|pid| own_number(proc_fd, pid));
        // Only a child of init's own is signalled, whatever the list says.
        if let Some(pid) = number.filter(|&pid| sys::wait(pid, WNOHANG | WNOWAIT).is_ok()) {
            act(pid);
        }
    }
}

/// The pid that a process has here; /proc shows the one of the namespace that it belongs to.
fn own_number(proc_fd: i32, pid: i32) -> Option<i32> {
    let (mut path, mut status) = ([0; 40], [0; 2048]);
    let path = numbered(b"", pid, b"/status", &mut path);
    let file = sys::open(proc_fd, path, O_RDONLY, 0).ok()?;
    let length = sys::read(file.0, &mut status).ok()?;
    let mut lines = status.get(..length)?.split(|&byte| byte == b'\n');
    let line = lines.find_map(|line| line.strip_prefix(b"NSpid:"))?;
    text::number(line.split(|&byte| byte == b'\t').next_back()?)
}

/// The name of a process, from the sandbox's /proc if it has one.
fn command_name(pid: i32, name: &mut [u8]) -> usize {
    let mut path = [0; 40];
    let path = numbered(b"/proc/", pid, b"/comm", &mut path);
    let file = sys::open(AT_FDCWD, path, O_RDONLY | O_NONBLOCK, 0);
    let read = |file: Fd| sys::read(file.0, name);
    file.and_then(read).unwrap_or(0).saturating_sub(1)
}
