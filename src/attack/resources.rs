//! More of something than a sandbox should get. Each stops as soon as it has got too much.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;

use crate::facts::Facts;
use crate::kernel::{Shared, call, call_for_fd, fork, in_fork, pipe, text};
use crate::numbers as nr;
use crate::privileges::{limit, limits_of};
use crate::verdict::Verdict::{self, Held, NotApplicable, Open};

const MIB: usize = 1 << 20;
const RLIMIT_NOFILE: usize = 7;

/// Takes until it has more than `most`, or is refused.
fn take<T>(what: &str, most: usize, mut one: impl FnMut() -> io::Result<T>) -> Verdict {
    let mut taken = Vec::new();
    while taken.len() <= most {
        match one() {
            Ok(another) => taken.push(another),
            Err(error) => return Held(format!("{} {what}, then {error}", taken.len())),
        }
    }
    Open(format!("more than {most} {what}"))
}

/// Records for the kernel's log: by its device, by crashes, and by a filter that logs. What has come of it is
/// seen outside, by whoever may read the log.
pub(crate) fn flood_log(facts: &Facts) -> Verdict {
    const RECORDS: usize = 60;
    const LOG: u32 = 0x7ffc_0000;
    if !facts.has("sees_log") {
        return NotApplicable("this user may not read the kernel's log to see it".to_owned());
    }
    let (mut written, mut crashed) = (0, 0);
    for _ in 0..RECORDS {
        // Opened anew each time: the kernel counts for each opening by itself.
        let device = File::options().write(true).open("/dev/kmsg");
        let told = device.and_then(|mut file| writeln!(file, "{}", facts.text("abstract")));
        written += usize::from(told.is_ok());
        crashed += usize::from(matches!(in_fork(|| crate::kernel::fault()), Ok(None)));
    }
    let filtered = in_fork(|| {
        if crate::kernel::add_filter(nr::GETPPID, LOG).is_err() {
            return 1;
        }
        u8::from((0..RECORDS).any(|_| call(nr::GETPPID, []).is_err()))
    });
    let logged = if matches!(filtered, Ok(Some(0))) { RECORDS } else { 0 };
    // Some records are written by a thread of the kernel's.
    std::thread::sleep(std::time::Duration::from_millis(100));
    Held(format!("{written} lines, {crashed} crashes, {logged} logged calls, and few records"))
}

pub(crate) fn processes(_: &Facts) -> Verdict {
    let mut children = Vec::new();
    let verdict = take("processes", 1100, || {
        let child = fork()?;
        if child.is_none() {
            loop {
                std::thread::sleep(std::time::Duration::from_secs(5));
            }
        }
        children.extend(child);
        Ok(())
    });
    for child in children {
        // It is this process's child until it is waited for.
        let _ = call(nr::KILL, [child as usize, 9]);
    }
    verdict
}

/// As many as the hard limit allows, and as the kernel has as its own default for all.
pub(crate) fn descriptors(_: &Facts) -> Verdict {
    const DEFAULT: u64 = 524_288;
    let hard = match limits_of(RLIMIT_NOFILE) {
        Ok([_, hard]) => hard,
        Err(error) => return Held(format!("getrlimit: {error}")),
    };
    let raised = limit(RLIMIT_NOFILE, [hard + 64, hard + 64]);
    if let Err(error) = raised.or_else(|_| limit(RLIMIT_NOFILE, [hard, hard])) {
        return Held(format!("setrlimit: {error}"));
    }
    take("descriptors", hard.min(DEFAULT) as usize, || call(nr::DUP, [0]))
}

pub(crate) fn terminals(_: &Facts) -> Verdict {
    let options = || File::options().read(true).write(true).open("/dev/ptmx");
    take("terminals", 300, options)
}

/// Where a program may write by default.
const ROOM: [&str; 3] = ["/tmp", "/dev/shm", "/home/user"];

pub(crate) fn room_in_memory(facts: &Facts) -> Verdict {
    let block = vec![0u8; MIB];
    let mut files = ROOM.iter().filter_map(|directory| {
        let path = format!("{directory}/stockade-attack-room");
        File::create(&path).ok().map(|file| (file, path))
    });
    let mut names = Vec::new();
    let mut file = None;
    let verdict = take("MiB in memory", 300, || {
        loop {
            if file.is_none() {
                let (next, name) = files.next().ok_or(io::ErrorKind::StorageFull)?;
                names.push(name);
                file = Some(next);
            }
            match file.as_mut().map(|file| file.write_all(&block)) {
                Some(Ok(())) => return Ok(()),
                _ => file = None,
            }
        }
    });
    // What is in the sandbox's own memory goes with it.
    for name in names.iter().filter(|_| facts.has("shared_tree")) {
        if let Err(error) = fs::remove_file(name) {
            return Held(format!("{name} stays: {error}"));
        }
    }
    verdict
}

pub(crate) fn files_in_memory(facts: &Facts) -> Verdict {
    const AT_FDCWD: usize = -100isize as usize;
    const REGULAR: usize = 0o100_600;
    let directory = "/tmp/stockade-attack-files";
    if let Err(error) = fs::create_dir(directory) {
        return Held(format!("{directory}: {error}"));
    }
    let mut number = 0;
    let verdict = take("files in memory", 66_000, || {
        number += 1;
        let path = text(&format!("{directory}/{number}"));
        call(nr::MKNODAT, [AT_FDCWD, path.as_ptr() as usize, REGULAR, 0])
    });
    if !facts.has("shared_tree") {
        return verdict;
    }
    match fs::remove_dir_all(directory) {
        Ok(()) => verdict,
        Err(error) => Held(format!("{directory} stays: {error}")),
    }
}

pub(crate) fn message_queues(_: &Facts) -> Verdict {
    const O_RDWR_CREAT: usize = 0o102;
    let mut number = 0;
    take("message queues", 20, || {
        number += 1;
        let name = text(&format!("stockade-attack-{}-{number}", std::process::id()));
        let at = name.as_ptr() as usize;
        let queue = call_for_fd(nr::MQ_OPEN, [at, O_RDWR_CREAT, 0o600, 0])?;
        // It lives on as long as it is open.
        call(nr::MQ_UNLINK, [at])?;
        Ok(queue)
    })
}

const SIGNAL: usize = 40;

pub(crate) fn queued_signals(_: &Facts) -> Verdict {
    let mask = 1u64 << (SIGNAL - 1);
    if let Err(error) = call(nr::RT_SIGPROCMASK, [0, (&raw const mask) as usize, 0, 8]) {
        return Held(format!("sigprocmask: {error}"));
    }
    // siginfo_t with the code SI_QUEUE.
    let mut information = [0i32; 32];
    information[..3].copy_from_slice(&[SIGNAL as i32, 0, -1]);
    let pid = std::process::id() as usize;
    take("queued signals", 5000, || {
        call(nr::RT_SIGQUEUEINFO, [pid, SIGNAL, information.as_ptr() as usize])
    })
}

pub(crate) fn timers(_: &Facts) -> Verdict {
    const CLOCK_MONOTONIC: usize = 1;
    // struct sigevent: value, signal, SIGEV_SIGNAL.
    let event = [0u64, SIGNAL as u64, 0, 0, 0, 0, 0, 0];
    take("timers", 5000, || {
        let mut timer = 0i32;
        let args = [CLOCK_MONOTONIC, event.as_ptr() as usize, (&raw mut timer) as usize];
        call(nr::TIMER_CREATE, args)
    })
}

pub(crate) fn inotify(_: &Facts) -> Verdict {
    take("instances of inotify", 35, || call_for_fd(nr::INOTIFY_INIT1, [0]))
}

fn map(length: usize) -> io::Result<usize> {
    const PRIVATE_ANONYMOUS: usize = 0x22;
    const READ_WRITE: usize = 3;
    call(nr::MMAP, [0, length, READ_WRITE, PRIVATE_ANONYMOUS, usize::MAX, 0])
}

pub(crate) fn locked_memory(_: &Facts) -> Verdict {
    take("MiB of memory locked", 16, || call(nr::MLOCK, [map(MIB)?, MIB]))
}

/// How much more than is allowed can be used; nothing is said where nothing was asked for.
fn beyond(facts: &Facts, what: &str, one: impl FnMut() -> io::Result<()>) -> Verdict {
    const MOST: usize = 512;
    match facts.number("memory_limit") / MIB {
        0 => NotApplicable("no limit of memory was asked for (--memory)".to_owned()),
        mib if mib > MOST => NotApplicable(format!("the limit is more than {MOST} MiB")),
        mib => take(what, mib + 16, one),
    }
}

pub(crate) fn memory(facts: &Facts) -> Verdict {
    let mut taken = Vec::new();
    beyond(facts, "MiB of memory", || {
        taken.push(vec![1u8; MIB]);
        Ok(())
    })
}

pub(crate) fn memory_by_key(facts: &Facts) -> Verdict {
    let mut taken = Vec::new();
    beyond(facts, "MiB of shared memory", || {
        let mut shared = Shared::new(MIB)?;
        shared.fill(MIB);
        taken.push(shared);
        Ok(())
    })
}

/// Of pipes, whose buffers count for nobody's memory but the sandbox's.
pub(crate) fn memory_in_pipes(facts: &Facts) -> Verdict {
    const F_SETPIPE_SZ: usize = 1031;
    const F_GETPIPE_SZ: usize = 1032;
    let block = vec![1u8; MIB];
    if let Err(error) =
        limits_of(RLIMIT_NOFILE).and_then(|[_, hard]| limit(RLIMIT_NOFILE, [hard, hard]))
    {
        return Held(format!("setrlimit: {error}"));
    }
    let mut taken = Vec::new();
    beyond(facts, "MiB in pipes", || {
        let mut part = 0;
        while part < MIB {
            let (reading, writing) = pipe()?;
            let fd = writing.as_raw_fd() as usize;
            // Who has much already gets small ones.
            let size = call(nr::FCNTL, [fd, F_SETPIPE_SZ, MIB])
                .or_else(|_| call(nr::FCNTL, [fd, F_GETPIPE_SZ, 0]))?;
            let mut writing = File::from(writing);
            writing.write_all(&block[..size.min(MIB)])?;
            taken.push((reading, writing));
            part += size;
        }
        Ok(())
    })
}
