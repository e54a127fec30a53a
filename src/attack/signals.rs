//! Signals to processes outside, all of one that is ignored by whoever does not wait for it; and all
//! there are to init.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use crate::facts::Facts;
use crate::kernel::{call, call_for_fd};
use crate::numbers as nr;
use crate::sentinel::SIGNAL;
use crate::verdict::Verdict::{self, Held, NotApplicable};
use crate::verdict::worked;

/// What the kernel says does not tell who got it.
fn seen_outside<T>(what: &str, result: io::Result<T>) -> Verdict {
    match result {
        Ok(_) => Held("sent; who got it is seen outside".to_owned()),
        Err(error) => Held(format!("{what}: {error}")),
    }
}

fn negative(pid: usize) -> usize {
    (pid as isize).wrapping_neg() as usize
}

pub(crate) fn kill(facts: &Facts) -> Verdict {
    worked("kill", call(nr::KILL, [facts.number("sentinel"), SIGNAL]))
}

pub(crate) fn kill_everybody(_: &Facts) -> Verdict {
    seen_outside("kill", call(nr::KILL, [negative(1), SIGNAL]))
}

pub(crate) fn kill_group(facts: &Facts) -> Verdict {
    worked("kill", call(nr::KILL, [negative(facts.number("sentinel")), SIGNAL]))
}

pub(crate) fn tgkill(facts: &Facts) -> Verdict {
    let pid = facts.number("sentinel");
    worked("tgkill", call(nr::TGKILL, [pid, pid, SIGNAL]))
}

pub(crate) fn sigqueue(facts: &Facts) -> Verdict {
    // siginfo_t with the code SI_QUEUE.
    let mut information = [0i32; 32];
    information[..3].copy_from_slice(&[SIGNAL as i32, 0, -1]);
    let args = [facts.number("sentinel"), SIGNAL, information.as_ptr() as usize];
    worked("rt_sigqueueinfo", call(nr::RT_SIGQUEUEINFO, args))
}

pub(crate) fn pidfd_signal(facts: &Facts) -> Verdict {
    let process = call_for_fd(nr::PIDFD_OPEN, [facts.number("sentinel"), 0]);
    let sent = process.and_then(|process| {
        call(nr::PIDFD_SEND_SIGNAL, [process.as_raw_fd() as usize, SIGNAL, 0, 0])
    });
    worked("pidfd_send_signal", sent)
}

/// The signal that says that something can be read is sent by the kernel.
pub(crate) fn sigio(facts: &Facts) -> Verdict {
    const F_SETFL: usize = 4;
    const F_SETOWN: usize = 8;
    const F_SETSIG: usize = 10;
    const O_ASYNC: usize = 0o20000;
    let sent = UnixStream::pair().and_then(|(reading, writing)| {
        let fd = reading.as_raw_fd() as usize;
        call(nr::FCNTL, [fd, F_SETOWN, facts.number("sentinel")])?;
        call(nr::FCNTL, [fd, F_SETSIG, SIGNAL])?;
        call(nr::FCNTL, [fd, F_SETFL, O_ASYNC])?;
        io::Write::write(&mut &writing, b"!")
    });
    seen_outside("F_SETOWN", sent)
}

/// If init dies of it, the end of the sandbox says so.
pub(crate) fn shoot_init(facts: &Facts) -> Verdict {
    if !facts.has("init") {
        return NotApplicable("the sandbox has no init".to_owned());
    }
    // Where there are others the parent is the program's own supervisor.
    let parent = std::os::unix::process::parent_id() as usize;
    let init = if facts.has("others") { 1 } else { parent };
    let mut sent = 0;
    for signal in 1..=64 {
        sent += usize::from(call(nr::KILL, [init, signal]).is_ok());
    }
    // A signal that works does so at once, and this process ends with its init.
    std::thread::sleep(std::time::Duration::from_millis(50));
    Held(format!("{sent} signals were taken, and none did anything"))
}
