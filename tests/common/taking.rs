//! A hostile program that takes all there is of something.
#![allow(dead_code, reason = "each test binary uses some")]
#![allow(unsafe_code)]

fn queue(index: usize) -> std::ffi::CString {
    std::ffi::CString::new(format!("/{}-{index}", std::process::id())).unwrap()
}

/// What the kernel would give back only a moment after the end.
pub(crate) fn give_back(kind: &str, taken: usize) {
    for index in (0..taken).filter(|_| kind == "queues") {
        // SAFETY: a name that ends in NUL.
        unsafe { libc::mq_unlink(queue(index).as_ptr()) };
    }
}

/// Takes of one kind of thing as much as there is.
pub(crate) fn take_all(kind: &str) -> usize {
    let mut taken = 0;
    let mut all = |take: &dyn Fn(usize) -> bool| {
        while taken < 4096 && take(taken) {
            taken += 1;
        }
        taken
    };
    match kind {
        "queues" => all(&|index| {
            let name = queue(index);
            // SAFETY: all-zero is a value of this plain structure.
            let mut size: libc::mq_attr = unsafe { std::mem::zeroed() };
            (size.mq_maxmsg, size.mq_msgsize) = (10, 2048);
            let flags = libc::O_CREAT | libc::O_RDWR;
            // SAFETY: a name that ends in NUL, and what is to be of that queue.
            unsafe {
                libc::mq_open(name.as_ptr(), flags, 0o600 as libc::mode_t, &raw const size) >= 0
            }
        }),
        "signals" => {
            let signal = libc::SIGRTMIN();
            // SAFETY: all-zero is an empty set.
            let mut set: libc::sigset_t = unsafe { std::mem::zeroed() };
            // SAFETY: a set of the caller's own.
            unsafe { libc::sigaddset(&raw mut set, signal) };
            // SAFETY: as above.
            unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) };
            let value = libc::sigval { sival_ptr: std::ptr::null_mut() };
            let myself = nix::unistd::getpid().as_raw();
            // SAFETY: takes numbers.
            all(&|_| unsafe { libc::sigqueue(myself, signal, value) == 0 })
        }
        "memory" => all(&|_| {
            // SAFETY: takes numbers.
            let segment = unsafe { libc::shmget(libc::IPC_PRIVATE, 1 << 16, 0o600) };
            // SAFETY: locks what was just made, and takes no structure.
            segment >= 0
                && unsafe { libc::shmctl(segment, libc::SHM_LOCK, std::ptr::null_mut()) == 0 }
        }),
        // SAFETY: takes a number.
        "inotify" => all(&|_| unsafe { libc::inotify_init1(0) >= 0 }),
        // SAFETY: the copy waits for its end.
        "processes" => all(&|_| match unsafe { libc::fork() } {
            0 => loop {
                std::thread::sleep(std::time::Duration::from_secs(1000));
            },
            pid => pid > 0,
        }),
        "pipes" => all(&|_| is_large_pipe()),
        "in flight" => {
            raise_open_files();
            // More than whom it is to be too much for may have.
            (0..13).take_while(|_| send_itself()).count()
        }
        other => panic!("{other}"),
    }
}

/// Makes a pipe with as much room as one can have.
fn is_large_pipe() -> bool {
    let mut pipe = [0; 2];
    // SAFETY: valid for writing.
    assert_eq!(unsafe { libc::pipe(pipe.as_mut_ptr()) }, 0);
    // SAFETY: takes numbers.
    unsafe { libc::fcntl(pipe[0], libc::F_SETPIPE_SZ, 1 << 20) >= 0 }
}

/// Sends a descriptor, a hundred times, to who does not take it.
fn send_itself() -> bool {
    use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
    use std::os::fd::{AsRawFd, IntoRawFd};
    let (one, other) = std::os::unix::net::UnixDatagram::pair().unwrap();
    let rights = [one.as_raw_fd(); 100];
    let (data, rights) = ([std::io::IoSlice::new(b"x")], [ControlMessage::ScmRights(&rights)]);
    let sent = sendmsg::<()>(one.as_raw_fd(), &data, &rights, MsgFlags::empty(), None);
    let _kept = other.into_raw_fd();
    sent.is_ok()
}

/// As far as it may.
fn raise_open_files() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: valid for writing.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) }, 0);
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: valid for reading.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
}
