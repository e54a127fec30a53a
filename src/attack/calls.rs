//! What the kernel may not be asked for.

use std::io;
use std::os::fd::AsRawFd;

use crate::facts::Facts;
use crate::kernel::{call, in_fork, pipe, text};
use crate::numbers as nr;
use crate::verdict::Verdict::{self, Held, NotApplicable, Open};
use crate::verdict::{any, worked};

const CLONE_NEWTIME: usize = 0x80;
const CLONE_NEWNS: usize = 0x0002_0000;
const CLONE_NEWCGROUP: usize = 0x0200_0000;
const CLONE_NEWUTS: usize = 0x0400_0000;
const CLONE_NEWIPC: usize = 0x0800_0000;
const CLONE_NEWUSER: usize = 0x1000_0000;
const CLONE_NEWPID: usize = 0x2000_0000;
const CLONE_NEWNET: usize = 0x4000_0000;
const SIGCHLD: usize = 17;

// ---- namespaces --------------------------------------------------------------------------------

pub(crate) fn clone3(_: &Facts) -> Verdict {
    let mut args = [0u64; 11];
    args[0] = CLONE_NEWUSER as u64;
    args[4] = SIGCHLD as u64;
    let made = call(nr::CLONE3, [args.as_ptr() as usize, size_of_val(&args)]);
    if let Ok(0) = made {
        crate::kernel::exit(0);
    }
    worked("clone3(CLONE_NEWUSER)", made)
}

pub(crate) fn unshare_user(_: &Facts) -> Verdict {
    worked("unshare(CLONE_NEWUSER)", call(nr::UNSHARE, [CLONE_NEWUSER]))
}

pub(crate) fn clone_user(_: &Facts) -> Verdict {
    let made = call(nr::CLONE, [CLONE_NEWUSER | SIGCHLD]);
    if let Ok(0) = made {
        crate::kernel::exit(0);
    }
    worked("clone(CLONE_NEWUSER)", made)
}

pub(crate) fn unshare_other(_: &Facts) -> Verdict {
    let kinds = [
        ("mount", CLONE_NEWNS),
        ("pid", CLONE_NEWPID),
        ("network", CLONE_NEWNET),
        ("ipc", CLONE_NEWIPC),
        ("uts", CLONE_NEWUTS),
        ("cgroup", CLONE_NEWCGROUP),
        ("time", CLONE_NEWTIME),
    ];
    any(kinds.map(|(kind, flag)| (kind, call(nr::UNSHARE, [flag]))), "")
}

/// Becomes root in namespaces of its own.
fn nest() -> io::Result<()> {
    let (uid, gid) = ids();
    call(nr::UNSHARE, [CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID])?;
    // There may be no /proc; then what follows is done as nobody, with all capabilities.
    if std::fs::write("/proc/self/setgroups", "deny").is_ok() {
        std::fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
        std::fs::write("/proc/self/gid_map", format!("0 {gid} 1"))?;
    }
    Ok(())
}

fn ids() -> (u32, u32) {
    use std::os::unix::fs::MetadataExt;
    // What this process has just made is its own.
    let own = pipe().map(|(reading, _)| std::fs::File::from(reading));
    own.and_then(|pipe| pipe.metadata()).map_or((0, 0), |found| (found.uid(), found.gid()))
}

/// Mounts a new file system somewhere where only this process sees it.
fn mount(kind: &str) -> io::Result<usize> {
    let (kind, at) = (text(kind), text("/"));
    let (kind, at) = (kind.as_ptr() as usize, at.as_ptr() as usize);
    call(nr::MOUNT, [kind, at, kind, 0, 0])
}

pub(crate) fn nested_mount(_: &Facts) -> Verdict {
    worked("a mount in a nested user namespace", nest().and_then(|()| mount("tmpfs")))
}

pub(crate) fn nested_proc(_: &Facts) -> Verdict {
    if let Err(error) = nest() {
        return Held(format!("a nested user namespace: {error}"));
    }
    // The new process namespace has none but children.
    let worked = in_fork(|| u8::from(mount("proc").is_err()));
    match worked {
        Ok(Some(0)) => Open("a whole /proc in a nested user namespace".to_owned()),
        Ok(_) => Held("a nested namespace, but a whole /proc in it was refused".to_owned()),
        Err(error) => Held(format!("fork: {error}")),
    }
}

// ---- other ways to call ------------------------------------------------------------------------

pub(crate) fn x32(_: &Facts) -> Verdict {
    const X32: usize = 0x4000_0000;
    if cfg!(not(target_arch = "x86_64")) {
        return NotApplicable("only x86-64 has it".to_owned());
    }
    worked("getpid by x32", call(nr::GETPID | X32, []))
}

pub(crate) fn int80(_: &Facts) -> Verdict {
    #[cfg(not(target_arch = "x86_64"))]
    return NotApplicable("only x86-64 has it".to_owned());
    #[cfg(target_arch = "x86_64")]
    {
        const GETPID: u32 = 20;
        let ended = in_fork(|| match crate::kernel::interrupt(GETPID) {
            answer if answer > 0 => 0,
            answer => answer.unsigned_abs() as u8,
        });
        match ended {
            Ok(Some(0)) => Open("getpid by int 0x80".to_owned()),
            Ok(Some(errno)) => {
                let error = io::Error::from_raw_os_error(i32::from(errno));
                worked("getpid by int 0x80", Err::<(), _>(error))
            }
            // Without the gate in the kernel it is a fault.
            Ok(None) => Verdict::Absent("the process was killed for it".to_owned()),
            Err(error) => Held(format!("fork: {error}")),
        }
    }
}

/// The page is at the same address in every program, and what it does is a system call to a filter. Where the
/// sandbox's allows that, one of this program's own does not; without any, the page has to work.
#[cfg(target_arch = "x86_64")]
pub(crate) fn vsyscall(facts: &Facts) -> Verdict {
    const NO_FILTER: u8 = 2;
    const REFUSED: u32 = 0x0005_0001;
    let ended = in_fork(|| {
        let is_allowed = !facts.has("bare") && call(nr::TIME, [0]).is_ok();
        if is_allowed && crate::kernel::add_filter(nr::TIME, REFUSED).is_err() {
            return NO_FILTER;
        }
        u8::from(crate::kernel::time_of_page() < 0)
    });
    match ended {
        Ok(Some(0)) => Open("time by the page of vsyscalls".to_owned()),
        Ok(Some(NO_FILTER)) => NotApplicable("no filter could be added".to_owned()),
        Ok(Some(_)) => Held("the page refuses what the call refuses".to_owned()),
        Ok(None) => Verdict::Absent("the process was killed for it".to_owned()),
        Err(error) => Held(format!("fork: {error}")),
    }
}

#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn vsyscall(_: &Facts) -> Verdict {
    NotApplicable("only x86-64 has it".to_owned())
}

// ---- rarely used parts of the kernel -----------------------------------------------------------

pub(crate) fn userfaultfd(_: &Facts) -> Verdict {
    const UFFD_USER_MODE_ONLY: usize = 1;
    worked("userfaultfd", call(nr::USERFAULTFD, [UFFD_USER_MODE_ONLY]))
}

pub(crate) fn io_uring(_: &Facts) -> Verdict {
    let parameters = [0u32; 30];
    worked("io_uring_setup", call(nr::IO_URING_SETUP, [1, parameters.as_ptr() as usize]))
}

pub(crate) fn bpf_program(_: &Facts) -> Verdict {
    const BPF_PROG_LOAD: usize = 5;
    const SOCKET_FILTER: u64 = 1;
    // r0 = 0; exit
    let code = [0xb7u64, 0x95];
    let license = text("GPL");
    let mut attributes = [0u64; 18];
    attributes[0] = SOCKET_FILTER | 2 << 32;
    attributes[1] = code.as_ptr() as u64;
    attributes[2] = license.as_ptr() as u64;
    let args = [BPF_PROG_LOAD, attributes.as_ptr() as usize, size_of_val(&attributes)];
    worked("BPF_PROG_LOAD", call(nr::BPF, args))
}

pub(crate) fn bpf_map(_: &Facts) -> Verdict {
    const BPF_MAP_CREATE: usize = 0;
    const ARRAY: u32 = 2;
    let mut attributes = [0u32; 16];
    attributes[..4].copy_from_slice(&[ARRAY, 4, 8, 1]);
    let args = [BPF_MAP_CREATE, attributes.as_ptr() as usize, size_of_val(&attributes)];
    worked("BPF_MAP_CREATE", call(nr::BPF, args))
}

pub(crate) fn perf_event(_: &Facts) -> Verdict {
    const SOFTWARE: u32 = 1;
    let mut attributes = [0u32; 16];
    attributes[0] = SOFTWARE;
    attributes[1] = 64;
    let args = [attributes.as_ptr() as usize, 0, usize::MAX, usize::MAX, 0];
    worked("perf_event_open", call(nr::PERF_EVENT_OPEN, args))
}

pub(crate) fn vmsplice(_: &Facts) -> Verdict {
    let Ok((_reading, writing)) = pipe() else {
        return NotApplicable("no pipe".to_owned());
    };
    let bytes = [7u8; 16];
    let vector = [bytes.as_ptr() as usize, bytes.len()];
    let args = [writing.as_raw_fd() as usize, vector.as_ptr() as usize, 1, 0];
    worked("vmsplice", call(nr::VMSPLICE, args))
}

pub(crate) fn fanotify(_: &Facts) -> Verdict {
    const FAN_REPORT_FID: usize = 0x200;
    worked("fanotify_init", call(nr::FANOTIFY_INIT, [FAN_REPORT_FID, 0]))
}

pub(crate) fn modify_ldt(_: &Facts) -> Verdict {
    if cfg!(not(target_arch = "x86_64")) {
        return NotApplicable("only x86-64 has it".to_owned());
    }
    let mut table = [0u8; 16];
    worked("modify_ldt", call(nr::MODIFY_LDT, [0, table.as_mut_ptr() as usize, table.len()]))
}

pub(crate) fn mempolicy(_: &Facts) -> Verdict {
    worked("set_mempolicy", call(nr::SET_MEMPOLICY, [0, 0, 0]))
}

pub(crate) fn move_pages(_: &Facts) -> Verdict {
    worked("move_pages", call(nr::MOVE_PAGES, [0, 0, 0, 0, 0, 0]))
}

pub(crate) fn no_randomize(_: &Facts) -> Verdict {
    const ADDR_NO_RANDOMIZE: usize = 0x004_0000;
    worked("personality(ADDR_NO_RANDOMIZE)", call(nr::PERSONALITY, [ADDR_NO_RANDOMIZE]))
}
