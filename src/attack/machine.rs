//! What is the whole machine's. Arguments are wrong on purpose where a right one would do something.

use std::io;
use std::os::fd::AsRawFd;

use crate::facts::Facts;
use crate::kernel::{call, call_for_fd, in_fork, text};
use crate::numbers as nr;
use crate::verdict::Verdict::{self, Held, NotApplicable, Open};
use crate::verdict::{any, passed, worked};

const EBADF: i32 = 9;
const ENOENT: i32 = 2;
const EINVAL: i32 = 22;
const ENOEXEC: i32 = 8;
const EFAULT: i32 = 14;

const NOWHERE: &str = "/stockade-attack-nothing";

pub(crate) fn kexec(_: &Facts) -> Verdict {
    passed("kexec_load", call(nr::KEXEC_LOAD, [0, 0, 0, 0xff]), &[EINVAL])
}

pub(crate) fn init_module(_: &Facts) -> Verdict {
    let (image, none) = ([0u8; 64], text(""));
    let args = [image.as_ptr() as usize, image.len(), none.as_ptr() as usize];
    passed("init_module", call(nr::INIT_MODULE, args), &[ENOEXEC, EINVAL])
}

pub(crate) fn finit_module(_: &Facts) -> Verdict {
    let none = text("");
    let args = [usize::MAX, none.as_ptr() as usize, 0];
    passed("finit_module", call(nr::FINIT_MODULE, args), &[EBADF])
}

pub(crate) fn delete_module(_: &Facts) -> Verdict {
    const O_NONBLOCK: usize = 0o4000;
    let name = text("stockade_attack_nothing");
    let deleted = call(nr::DELETE_MODULE, [name.as_ptr() as usize, O_NONBLOCK]);
    passed("delete_module", deleted, &[ENOENT])
}

pub(crate) fn swapon(_: &Facts) -> Verdict {
    let path = text(NOWHERE);
    passed("swapon", call(nr::SWAPON, [path.as_ptr() as usize, 0]), &[ENOENT])
}

pub(crate) fn swapoff(_: &Facts) -> Verdict {
    let path = text(NOWHERE);
    passed("swapoff", call(nr::SWAPOFF, [path.as_ptr() as usize]), &[ENOENT])
}

pub(crate) fn acct(_: &Facts) -> Verdict {
    let path = text(NOWHERE);
    passed("acct", call(nr::ACCT, [path.as_ptr() as usize]), &[ENOENT])
}

pub(crate) fn vhangup(_: &Facts) -> Verdict {
    // In a session without a terminal there is nothing to hang up.
    let ended = in_fork(|| {
        let alone = call(nr::SETSID, []).and_then(|_| call(nr::VHANGUP, []));
        alone.map_or_else(|error| error.raw_os_error().unwrap_or(1) as u8, |_| 0)
    });
    match ended {
        Ok(Some(0)) => Open("vhangup".to_owned()),
        Ok(Some(errno)) => Held(format!("vhangup: {}", io::Error::from_raw_os_error(errno.into()))),
        Ok(None) => Held("vhangup: the process was killed".to_owned()),
        Err(error) => Held(format!("fork: {error}")),
    }
}

pub(crate) fn reboot(_: &Facts) -> Verdict {
    passed("reboot", call(nr::REBOOT, [0, 0, 0, 0]), &[EINVAL])
}

pub(crate) fn syslog(_: &Facts) -> Verdict {
    const READ_ALL: usize = 3;
    let mut bytes = [0u8; 256];
    worked("syslog", call(nr::SYSLOG, [READ_ALL, bytes.as_mut_ptr() as usize, bytes.len()]))
}

pub(crate) fn clock(_: &Facts) -> Verdict {
    const ADJ_MAXERROR: u64 = 4;
    // struct timex, of which the fourth word is `maxerror`.
    let mut time = [0u64; 26];
    if let Err(error) = call(nr::ADJTIMEX, [time.as_mut_ptr() as usize]) {
        return worked("adjtimex", Err::<(), _>(error));
    }
    time[0] = ADJ_MAXERROR;
    worked("adjtimex", call(nr::ADJTIMEX, [time.as_mut_ptr() as usize]))
}

pub(crate) fn sethostname(facts: &Facts) -> Verdict {
    // struct utsname: texts of 65 bytes, of which the second is the host's name.
    let mut names = [0u8; 6 * 65];
    if let Err(error) = call(nr::UNAME, [names.as_mut_ptr() as usize]) {
        return Held(format!("uname: {error}"));
    }
    let here = names[65..130].split(|&byte| byte == 0).next().unwrap_or_default();
    let args = [here.as_ptr() as usize, here.len()];
    match worked("sethostname", call(nr::SETHOSTNAME, args)) {
        Open(_) if here != facts.text("hostname").as_bytes() => {
            Held("only the sandbox's own name can be set".to_owned())
        }
        other => other,
    }
}

pub(crate) fn raw_io(_: &Facts) -> Verdict {
    if cfg!(not(target_arch = "x86_64")) {
        return NotApplicable("only x86-64 has it".to_owned());
    }
    any([("iopl", call(nr::IOPL, [3])), ("ioperm", call(nr::IOPERM, [0x80, 1, 1]))], "")
}

/// As the exploit that became known as shocker: the handle of a file system's root is easily guessed.
pub(crate) fn open_by_handle(facts: &Facts) -> Verdict {
    const AT_FDCWD: usize = -100isize as usize;
    const O_PATH: usize = 0o10000000;
    let shared = text(facts.text("writable"));
    let directory = call_for_fd(nr::OPENAT, [AT_FDCWD, shared.as_ptr() as usize, 0, 0]);
    let directory = match directory {
        Ok(directory) => directory,
        Err(error) => return NotApplicable(format!("nothing of the host's to begin at: {error}")),
    };
    // struct file_handle: its size, its kind, and up to 128 bytes.
    let mut handle = [0u32; 34];
    handle[0] = 128;
    let (mut mount, empty) = (0i32, text(""));
    let args = [
        directory.as_raw_fd() as usize,
        empty.as_ptr() as usize,
        handle.as_mut_ptr() as usize,
        (&raw mut mount) as usize,
        0x1000,
    ];
    if let Err(error) = call(nr::NAME_TO_HANDLE_AT, args) {
        handle[..4].copy_from_slice(&[8, 1, 2, 0]);
        if error.raw_os_error() == Some(95) {
            return NotApplicable(format!("the file system has no handles: {error}"));
        }
    }
    let args = [directory.as_raw_fd() as usize, handle.as_ptr() as usize, O_PATH];
    worked("open_by_handle_at", call(nr::OPEN_BY_HANDLE_AT, args))
}

pub(crate) fn chroot(_: &Facts) -> Verdict {
    let root = text("/");
    worked("chroot", call(nr::CHROOT, [root.as_ptr() as usize]))
}

pub(crate) fn pivot_root(_: &Facts) -> Verdict {
    let here = text(".");
    if std::env::set_current_dir("/").is_err() {
        return NotApplicable("no root directory".to_owned());
    }
    let args = [here.as_ptr() as usize, here.as_ptr() as usize];
    passed("pivot_root", call(nr::PIVOT_ROOT, args), &[EINVAL, 16, EFAULT])
}
