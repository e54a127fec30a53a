//! What the program's process does itself, up to its exec.

use super::descriptors::place_descriptors;
use super::{Failure, Told, Wanted, landlock};
use crate::abi::*;
use crate::plan::{self, Lines};
use crate::raw::{Errno, exit};
use crate::sys::{self, Fd, Outcome, fault};
use crate::tree::Tree;
use crate::wire::{
    CHECK_ONLY, CONTROLLING_TERMINAL, Call, FILTERS_LAST, Fault, KILLABLE, KILLABLE_SHIFT, LISTENS,
    NEW_PRIVILEGES, Op, PARKED, PTY, Reader, Text, report,
};

/// The rest of the life of the process that becomes the program; `lines` has the socket for its
/// failure.
pub(super) fn become_the_program(
    mut lines: Lines,
    wanted: &Wanted<'_>,
    tables: &Tables,
    told: Option<&Told>,
) -> ! {
    let ready = stage(wanted, &mut lines.control).and_then(|()| {
        let ruleset = wait_for_word(lines.control)?;
        enter(wanted, lines.control, ruleset)?;
        if wanted.flags & FILTERS_LAST != 0 {
            install_filters(wanted, lines.control)?;
        }
        Ok(())
    });
    match ready {
        Ok(()) if wanted.flags & CHECK_ONLY != 0 => {
            let _told = sys::tell(lines.control, report::READY, [0, 0], &[]);
            exit(0)
        }
        Ok(()) => {
            let failure = execute(wanted, tables);
            if let (Some(told), true) = (told, wanted.flags & FILTERS_LAST != 0) {
                // A filter may keep it from saying so.
                told.set(&failure);
                exit(1)
            }
            failure.end(lines)
        }
        Err(failure) => failure.end(lines),
    }
}

/// The argument and environment vectors.
pub(super) struct Tables {
    argv: &'static [*const u8],
    envp: &'static [*const u8],
}

impl Tables {
    pub(super) fn new(wanted: &Wanted<'_>) -> Outcome<Self> {
        Ok(Tables { argv: sys::pointers(wanted.argv)?, envp: sys::pointers(wanted.envp)? })
    }
}

/// Init's, when the file tree is complete, with Landlock's rules; or the library's, with a terminal. If
/// who has it to say has ended, so does this process.
#[inline(never)]
fn wait_for_word(socket: i32) -> Outcome<Option<Fd>> {
    let mut word = [0];
    match sys::receive(socket, &mut word, &mut [], 0)? {
        (0, _) => exit(1),
        (_, fd) => Ok(fd),
    }
}

/// The operations of its own. A network namespace goes to init through `init`.
pub(super) fn carry_out(wanted: &Wanted<'_>, init: i32, proc_fd: i32) -> Result<(), Failure> {
    let (mut index, mut operations) = (wanted.first, Reader::new(wanted.operations.bytes()));
    let mut no_tree = Tree::new(proc_fd, None);
    while !operations.is_empty() {
        let done = match operations.next() {
            Some(Op::NewNetwork {}) => new_network(init, proc_fd),
            Some(operation) => plan::execute(&mut no_tree, &operation, &mut 0),
            None => fault(Call::Plan, EPROTO),
        };
        done.map_err(|fault| Failure { index, ..Failure::new(fault) })?;
        index += 1;
    }
    Ok(())
}

/// Making it takes as long as making the tree: so it is made beside that.
fn new_network(init: i32, proc_fd: i32) -> Outcome {
    sys::unshare(CLONE_NEWNET)?;
    let namespace = sys::open(proc_fd, Text::new(b"thread-self/ns/net\0"), O_RDONLY, 0)?;
    sys::send(init, b"n", &[namespace.0])
}

/// All that belongs to the program's process alone and needs no file tree. `errors` is moved out of
/// the way of the program's descriptors.
fn stage(wanted: &Wanted<'_>, errors: &mut i32) -> Result<(), Failure> {
    sys::setsid()?;
    place_descriptors(wanted, errors)?;
    // Without no_new_privs only a holder of CAP_SYS_ADMIN may install a filter.
    if wanted.flags & (NEW_PRIVILEGES | FILTERS_LAST) == NEW_PRIVILEGES {
        install_filters(wanted, *errors)?;
    }
    // An init that waits for programs has given them up itself.
    if wanted.flags & PARKED == 0 {
        privileges(wanted)?;
    }
    if wanted.flags & CONTROLLING_TERMINAL != 0 {
        sys::take_terminal()?;
    }
    sys::umask(wanted.umask)?;
    if wanted.nice != 0 {
        sys::setpriority(PRIO_PROCESS, 0, wanted.nice)?;
    }
    if wanted.flags & (NEW_PRIVILEGES | FILTERS_LAST) == 0 {
        install_filters(wanted, *errors)?;
    }
    Ok(())
}

/// What [`stage`] does for a program, of an init that waits for programs, which have it from there.
#[cfg(session)]
pub(crate) fn bind_itself(wanted: &Wanted<'_>) -> Result<(), Failure> {
    if wanted.flags & NEW_PRIVILEGES != 0 {
        install_filters(wanted, -1)?;
    }
    privileges(wanted)?;
    if wanted.flags & NEW_PRIVILEGES == 0 {
        install_filters(wanted, -1)?;
    }
    Ok(())
}

/// The five capability sets, the securebits and `no_new_privs`; the order is S2.4's.
fn privileges(wanted: &Wanted<'_>) -> Result<(), Failure> {
    for capability in 0..64usize {
        let keep = wanted.bounding >> capability & 1 != 0;
        let known = keep
            || drop_bounding(capability).map_err(|fault| Failure::number(fault, capability))?;
        if !known {
            break;
        }
    }
    let all = sys::permitted()?;
    sys::capset(all, all, wanted.inheritable)?;
    sys::prctl(Call::Ambient, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0)?;
    for capability in (0..64usize).filter(|bit| wanted.ambient >> bit & 1 != 0) {
        sys::prctl(Call::Ambient, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability)
            .map_err(|fault| Failure::number(fault, capability))?;
    }
    if wanted.securebits != 0 {
        sys::prctl(Call::Securebits, PR_SET_SECUREBITS, wanted.securebits as usize, 0)?;
    }
    sys::capset(wanted.effective, wanted.permitted, wanted.inheritable)?;
    if wanted.flags & NEW_PRIVILEGES == 0 {
        sys::prctl(Call::NoNewPrivileges, PR_SET_NO_NEW_PRIVS, 1, 0)?;
    }
    Ok(())
}

/// Drops one capability from the bounding set; `false` when the kernel knows no such number.
fn drop_bounding(capability: usize) -> Outcome<bool> {
    match sys::prctl(Call::Bounding, PR_CAPBSET_DROP, capability, 0) {
        Ok(()) => Ok(true),
        Err(Fault { errno, .. }) if errno.0 == EINVAL => Ok(false),
        Err(other) => Err(other),
    }
}

/// What the first of them asks with goes to init through `init`.
fn install_filters(wanted: &Wanted<'_>, init: i32) -> Outcome {
    if wanted.flags & LISTENS != 0 {
        let killable = (wanted.flags & KILLABLE) >> KILLABLE_SHIFT;
        let new = SECCOMP_FILTER_FLAG_NEW_LISTENER | killable as usize;
        let listener = Fd(sys::install_filter(wanted.filter.bytes(), new)? as i32);
        sys::send(init, b"l", &[listener.0])?;
    } else if !wanted.filter.bytes().is_empty() {
        sys::install_filter(wanted.filter.bytes(), 0)?;
    }
    if !wanted.second_filter.bytes().is_empty() {
        sys::install_filter(wanted.second_filter.bytes(), 0)?;
    }
    Ok(())
}

fn limits(wanted: &Wanted<'_>) -> Result<(), Failure> {
    for (resource, pair) in wanted.rlimits.bytes().chunks_exact(16).enumerate() {
        sys::set_rlimit(resource, pair).map_err(|fault| Failure::number(fault, resource))?;
    }
    Ok(())
}

/// What needs the finished file tree.
fn enter(wanted: &Wanted<'_>, starting: i32, ruleset: Option<Fd>) -> Result<(), Failure> {
    // This process is still in the caller's directory, from which a relative path would start.
    sys::chdir(Text::new(b"/\0"))?;
    sys::chdir(wanted.directory)?;
    if wanted.flags & PTY != 0 {
        // Opened here, its name is the one inside and its owner the program's id.
        let multiplexer = Text::new(b"/dev/pts/ptmx\0");
        let master = sys::open(AT_FDCWD, multiplexer, O_RDWR | O_NOCTTY, 0)?;
        sys::tell(starting, report::READY, [0, 0], &[master.0])?;
        let Some(theirs) = wait_for_word(starting)? else {
            // The kernel drops what there is no room for.
            return Err(Fault { call: Call::Receive, errno: Errno(EMFILE) }.into());
        };
        for number in 0..3 {
            sys::dup3(theirs.0, number, 0)?;
        }
        sys::take_terminal()?;
    }
    landlock::restrict(wanted, ruleset)?;
    // Only now: that of open files counts what is on its way through sockets as well.
    limits(wanted)?;
    sys::unblock_signals()?;
    Ok(())
}

/// Tries the candidates in order; returns why the last one could not be executed.
fn execute(wanted: &Wanted<'_>, tables: &Tables) -> Failure {
    let mut failure = Failure::new(Fault { call: Call::Exec, errno: Errno(ENOENT) });
    for (index, path) in wanted.candidates.take(wanted.candidates.count as usize).enumerate() {
        let errno = sys::exec(path, tables.argv, tables.envp);
        let fault = Fault { call: Call::Exec, errno };
        match errno.0 {
            ENOENT | ENOTDIR if !sys::exists(path) => {}
            // The file is there: what is missing is what the kernel needs to run it.
            ENOENT | ENOTDIR => return missing_interpreter(path, index),
            EACCES => failure = Failure::number(fault, index),
            _ => return Failure::number(fault, index),
        }
    }
    failure
}

/// Something of it is missing: what, the library finds in the file.
fn missing_interpreter(path: Text<'_>, index: usize) -> Failure {
    let fault = Fault { call: Call::Interpreter, errno: Errno(ENOENT) };
    let file = sys::open(AT_FDCWD, path, O_RDONLY | O_NONBLOCK, 0).ok();
    Failure { file, ..Failure::number(fault, index) }
}
