//! The supervisors of other programs in the same sandbox, of a session or an entered one, and what becomes their
//! programs, while they start. What is a program by then may be reached: a sandbox is of one user.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use crate::facts::Facts;
use crate::kernel::{call, call_for_fd};
use crate::numbers as nr;
use crate::verdict::Verdict::{self, Held, NotApplicable, Open};

/// How long it is looked for them, once there are some.
const TIME: Duration = Duration::from_millis(200);
/// How long the first may take.
const PATIENCE: Duration = Duration::from_secs(3);
/// How many processes may be started meanwhile.
const NUMBERS: usize = 1000;
const ESRCH: i32 = 3;

/// The name of a process that may be looked at.
fn comm(pid: usize) -> io::Result<String> {
    fs::read_to_string(format!("/proc/{pid}/comm"))
}

/// Attacks whoever is there and is not this program, before and after; where there is no session, the sentinel.
fn on_each(facts: &Facts, attack: impl Fn(usize) -> Option<&'static str>) -> Verdict {
    let sentinel = facts.number("sentinel");
    if facts.has("bare") {
        return attack(sentinel).map_or(Held("no way".to_owned()), |way| Open(way.to_owned()));
    }
    if !facts.has("others") {
        return NotApplicable(
            "only in a session or an entered sandbox are there others".to_owned(),
        );
    }
    let own = std::process::id() as usize;
    // Another tool's init and what is above are others' attempts. Ours, the own supervisor, and that of the next are
    // always there.
    let (spared, fewest) = match facts.text("others") {
        "entered" => ([1, std::os::unix::process::parent_id() as usize], 1),
        _ => ([own; 2], 3),
    };
    let of_program = comm(own).unwrap_or_default();
    // Signal 0 is none: the kernel says whether there is such a process.
    let is_there = |pid: &usize| {
        let answer = call(nr::KILL, [*pid, 0]);
        let is_other = *pid != own && !spared.contains(pid);
        is_other && answer.map_or_else(|error| error.raw_os_error() != Some(ESRCH), |_| true)
    };
    let (mut until, mut seen) = (Instant::now() + PATIENCE, BTreeSet::new());
    while Instant::now() < until {
        for pid in (1..own + NUMBERS).filter(is_there) {
            // A program that has started may be looked at by its user, and so is another matter.
            let is_program = || comm(pid).is_ok_and(|name| name == of_program);
            if is_program() {
                continue;
            }
            if let Some(way) = attack(pid).filter(|_| is_there(&pid) && !is_program()) {
                return Open(format!("{way} of {pid}"));
            }
            if seen.is_empty() {
                until = Instant::now() + TIME;
            }
            seen.insert(pid);
        }
    }
    match seen.len() {
        count if count < fewest => NotApplicable(format!("{count} others were seen")),
        count => Held(format!("{count} of them were there, and none let anybody in")),
    }
}

/// What of a process can be reached by /proc.
pub(crate) fn neighbour_files(facts: &Facts) -> Verdict {
    on_each(facts, |pid| {
        let path = |name: &str| format!("/proc/{pid}/{name}");
        let lists =
            |name| fs::read_dir(path(name)).is_ok_and(|mut list| list.any(|one| one.is_ok()));
        let opens = |name| File::open(path(name)).is_ok();
        let links = |name| fs::read_link(path(name)).is_ok();
        let writes = |name| File::options().write(true).open(path(name)).is_ok();
        match () {
            () if opens("mem") || writes("mem") => Some("the memory"),
            () if lists("root/") || links("root") => Some("the root directory"),
            () if lists("cwd/") || links("cwd") => Some("the working directory"),
            () if links("fd/0") || links("fd/3") || opens("fd/3") => Some("a descriptor"),
            () if opens("exe") || links("exe") => Some("the program"),
            () if lists("map_files") => Some("a mapped file"),
            () if opens("environ")
                && fs::read(path("environ")).is_ok_and(|all| !all.is_empty()) =>
            {
                Some("the environment")
            }
            () if writes("oom_score_adj") => Some("the score of out of memory"),
            () => None,
        }
    })
}

/// What can be asked of the kernel about one.
pub(crate) fn neighbour_memory(facts: &Facts) -> Verdict {
    const PTRACE_ATTACH: usize = 16;
    const PTRACE_DETACH: usize = 17;
    const PTRACE_SEIZE: usize = 0x4206;
    on_each(facts, |pid| {
        let mut bytes = [0u8; 16];
        let local = [bytes.as_mut_ptr() as usize, bytes.len()];
        let remote = [facts.number("memory"), bytes.len()];
        let vectors = [local.as_ptr() as usize, 1, remote.as_ptr() as usize, 1, 0];
        let [a, b, c, d, e] = vectors;
        let takes = || {
            let process = call_for_fd(nr::PIDFD_OPEN, [pid, 0])?;
            let take = |number| call(nr::PIDFD_GETFD, [process.as_raw_fd() as usize, number, 0]);
            (0..16).map(take).find(Result::is_ok).unwrap_or_else(|| take(0))
        };
        let traces = |request| {
            let traced = call(nr::PTRACE, [request, pid, 0, 0]).is_ok();
            // It goes on running, so this fails; it is let go when this process ends.
            let _ = call(nr::PTRACE, [PTRACE_DETACH, pid, 0, 0]);
            traced
        };
        match () {
            () if call(nr::PROCESS_VM_READV, [pid, a, b, c, d, e]).is_ok() => Some("the memory"),
            () if takes().is_ok() => Some("a descriptor"),
            () if call(nr::KCMP, [pid, pid, 1, 0, 0]).is_ok() => Some("what the kernel has"),
            () if traces(PTRACE_SEIZE) || (!facts.has("bare") && traces(PTRACE_ATTACH)) => {
                Some("every step")
            }
            () => None,
        }
    })
}
