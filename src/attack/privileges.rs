//! Privileges of this process's own.

use std::fs;
use std::io::{self, Write};

use crate::facts::Facts;
use crate::kernel::{call, text};
use crate::numbers as nr;
use crate::verdict::Verdict::{self, Held, Open};
use crate::verdict::worked;

/// Effective, permitted and inheritable, each as 64 bits.
pub(crate) fn capabilities() -> io::Result<[u64; 3]> {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0];
    let mut data = [0u32; 6];
    call(nr::CAPGET, [header.as_ptr() as usize, data.as_mut_ptr() as usize])?;
    let set = |index: usize| u64::from(data[index]) | u64::from(data[index + 3]) << 32;
    Ok([set(0), set(1), set(2)])
}

pub(crate) fn has_capabilities(_: &Facts) -> Verdict {
    const PR_CAPBSET_READ: usize = 23;
    const PR_CAP_AMBIENT: usize = 47;
    const IS_SET: usize = 1;
    let sets = match capabilities() {
        Ok(sets) => sets,
        Err(error) => return Held(format!("capget: {error}")),
    };
    let is_bounding = |number| call(nr::PRCTL, [PR_CAPBSET_READ, number]).is_ok_and(|set| set == 1);
    let is_ambient =
        |number| call(nr::PRCTL, [PR_CAP_AMBIENT, IS_SET, number, 0, 0]).is_ok_and(|set| set == 1);
    if sets != [0; 3] {
        return Open(format!("effective, permitted, inheritable: {sets:x?}"));
    }
    match (0..64).find(|&number| is_bounding(number) || is_ambient(number)) {
        Some(number) => Open(format!("capability {number} in the bounding or ambient set")),
        None => Held("no capability in any set".to_owned()),
    }
}

pub(crate) fn raise_capabilities(_: &Facts) -> Verdict {
    const VERSION_3: u32 = 0x2008_0522;
    const SYS_ADMIN: u32 = 1 << 21;
    let header = [VERSION_3, 0];
    let data = [SYS_ADMIN, SYS_ADMIN, 0, 0, 0, 0];
    worked("CAP_SYS_ADMIN", call(nr::CAPSET, [header.as_ptr() as usize, data.as_ptr() as usize]))
}

pub(crate) fn new_privileges(_: &Facts) -> Verdict {
    const PR_GET_NO_NEW_PRIVS: usize = 39;
    match call(nr::PRCTL, [PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0]) {
        Ok(0) => Open("an exec may gain privileges".to_owned()),
        Ok(_) => Held("no exec may gain privileges".to_owned()),
        Err(error) => Held(format!("prctl: {error}")),
    }
}

pub(crate) fn no_filter(_: &Facts) -> Verdict {
    const PR_GET_SECCOMP: usize = 21;
    match call(nr::PRCTL, [PR_GET_SECCOMP, 0, 0, 0, 0]) {
        Ok(0) => Open("no filter of system calls".to_owned()),
        Ok(_) => Held("there is a filter of system calls".to_owned()),
        Err(error) => Held(format!("prctl: {error}")),
    }
}

pub(crate) fn securebits(_: &Facts) -> Verdict {
    const PR_SET_SECUREBITS: usize = 28;
    worked("securebits", call(nr::PRCTL, [PR_SET_SECUREBITS, 0, 0, 0, 0]))
}

pub(crate) fn become_root(_: &Facts) -> Verdict {
    worked("uid 0", call(nr::SETRESUID, [0, 0, 0]))
}

pub(crate) fn set_groups(_: &Facts) -> Verdict {
    let groups = [0u32];
    worked("group 0", call(nr::SETGROUPS, [1, groups.as_ptr() as usize]))
}

const RLIMIT_CORE: usize = 4;
const RLIMIT_NOFILE: usize = 7;

pub(crate) fn limits_of(resource: usize) -> io::Result<[u64; 2]> {
    let mut limits = [0u64; 2];
    call(nr::PRLIMIT64, [0, resource, 0, limits.as_mut_ptr() as usize])?;
    Ok(limits)
}

pub(crate) fn limit(resource: usize, limits: [u64; 2]) -> io::Result<usize> {
    call(nr::PRLIMIT64, [0, resource, limits.as_ptr() as usize, 0])
}

pub(crate) fn core_dump(_: &Facts) -> Verdict {
    worked("a core dump", limit(RLIMIT_CORE, [1 << 20, 1 << 20]))
}

pub(crate) fn raise_limit(_: &Facts) -> Verdict {
    let raised = limits_of(RLIMIT_NOFILE).and_then(|[soft, hard]| {
        limit(RLIMIT_NOFILE, [soft, hard + 1])?;
        limit(RLIMIT_NOFILE, [soft, hard])
    });
    worked("a higher hard limit", raised)
}

pub(crate) fn raise_priority(_: &Facts) -> Verdict {
    worked("a lower nice value", call(nr::SETPRIORITY, [0, 0, -5isize as usize]))
}

pub(crate) fn real_time(_: &Facts) -> Verdict {
    const SCHED_FIFO: usize = 1;
    let parameters = [1i32];
    let set = call(nr::SCHED_SETSCHEDULER, [0, SCHED_FIFO, parameters.as_ptr() as usize]);
    worked("real-time scheduling", set)
}

pub(crate) fn io_real_time(_: &Facts) -> Verdict {
    const PROCESS: usize = 1;
    const REAL_TIME: usize = 1 << 13;
    worked("real-time I/O", call(nr::IOPRIO_SET, [PROCESS, 0, REAL_TIME]))
}

pub(crate) fn lower_oom_score(_: &Facts) -> Verdict {
    let path = "/proc/self/oom_score_adj";
    let lowered = fs::File::options().write(true).open(path);
    worked("oom_score_adj", lowered.and_then(|mut file| file.write_all(b"-1000")))
}

pub(crate) fn hostname_seen(facts: &Facts) -> Verdict {
    // struct utsname: texts of 65 bytes, of which the second is the host's name.
    let mut names = [0u8; 6 * 65];
    if let Err(error) = call(nr::UNAME, [names.as_mut_ptr() as usize]) {
        return Held(format!("uname: {error}"));
    }
    match text(facts.text("hostname")).as_bytes() {
        name if names[65..].starts_with(name) => Open("the host's name".to_owned()),
        _ => Held("another name than the host's".to_owned()),
    }
}
