//! The first process of a sandbox: launched, or copied from a template; who it is, and where.

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use caps::CapSet;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;

use super::handshake::{send_descriptors, send_plan, send_some};
use super::refused::{Refused, failed_report, refused_before};
use super::{Entering, Role, Start};
use crate::abi::CLONE_PARENT;
use crate::cgroup::Controller;
use crate::cgroup::group::Groups;
use crate::control::{
    FOLLOW_WAIT, Lines, Received, next_report, receive_now, send_with, transmit, unheard,
};
use crate::error::{Error, Result, Stage, quoted};
use crate::namespace::{Namespaces, Source, user};
use crate::policy::Policy;
use crate::process::{Launch, Launched, is_own, launch, pid_in, pid_of_pidfd, with_fallback};
use crate::template::Template;
use crate::wire::{Put, Report, mode, report};
use crate::{executable, sys, warden, wire};

/// A sandbox's first process, which has its plan.
pub(super) struct First {
    /// Who has made it, and reaps it.
    pub(super) maker: Option<Launched>,
    pub(super) launched: Launched,
    pub(super) lines: Lines,
    pub(super) warden_id: u64,
}

/// Launches init, or who makes it, and sends it the plan.
pub(super) fn launched(start: &Start<'_>) -> Result<First, Refused> {
    let began = Instant::now();
    let policy = start.policy;
    let init_file = policy.init_file.as_deref();
    let init = match start.role {
        Role::Waiting(_) | Role::Template => &executable::SESSION,
        _ => &executable::INIT,
    };
    let mut executable = init.open(init_file)?;
    let mut maker = None;
    // Declared first, dropped last: as in `make`.
    let (mut launched, message);
    let (lines, theirs) = Lines::new()?;
    let embedder = sys::own_pidfd().map_err(|errno| {
        Error::new(Stage::Launch, "pidfd_open", "of the caller", errno).explained()
    })?;
    (launched, message) = with_fallback(init, &mut executable, init_file, |executable| {
        launch_first(start, executable, &lines, [&theirs, &embedder])
    })?;
    // Init has it now; an end of init's must be one here.
    drop(theirs);
    log::debug!("launch: init is {}, in {:?}", launched.pid, began.elapsed());
    attach(start, &launched)?;
    let joining = Instant::now();
    let by_another = start.is_made_by_another();
    let trees: Vec<_> = start.trees.iter().map(AsRawFd::as_raw_fd).collect();
    let setup = start.lowered.plan.encode(&trees);
    if !by_another {
        send_plan(&lines, &setup, &start.program, &launched)?;
    }
    let shared = start.is_followed();
    let mut warden_id = warden::watch(init_file, &launched.pidfd, shared)?;
    if by_another {
        raise_score(start, &lines, &launched)?;
        transmit(&lines, &message, &launched, Stage::Join)?;
        let answer = next_report(&lines, &launched, Stage::Join);
        if start.entering.is_none() {
            launched.finish();
        }
        let made = joined(start, &lines, answer)?;
        maker = Some(std::mem::replace(&mut launched, made)).filter(|maker| maker.armed);
        send_plan(&lines, &setup, &start.program, &launched)?;
        warden_id = warden::watch(init_file, &launched.pidfd, shared)?;
        log::debug!("join: ({}) in {:?}", policy.joined_namespaces(), joining.elapsed());
    }
    Ok(First { maker, launched, lines, warden_id })
}

/// Has the template copied, and sends the copy the rest of the plan.
pub(super) fn copied(start: &Start<'_>, template: &Template) -> Result<First, Refused> {
    let began = Instant::now();
    let launched;
    let (lines, theirs) = Lines::new()?;
    // If it cannot be opened, that is told, and not what comes of it.
    lines.proc()?;
    let mut new = start.lowered.at_clone.flags() as u64;
    if start.groups.is_some() {
        // Else it is not waited for, and has to be reaped by another: the template.
        new |= CLONE_PARENT as u64;
    }
    if let Some(network) = start.network {
        new |= wire::IN_NETWORK;
        let (word, fds) = ([IoSlice::new(&[0])], [network.as_raw_fd()]);
        send_with(lines.ours.as_fd(), &word, &fds, &template.init, Stage::Launch)?;
    }
    let entrances = start.groups.map_or(Vec::new(), Groups::entrances);
    let files: Vec<_> = entrances.iter().map(|(file, _)| file.as_raw_fd()).collect();
    new |= (files.len() as u64) << wire::ENTRANCES_SHIFT;
    send_some(&lines, &files, &template.init, Stage::Launch)?;
    ask_for_copy(&template.init, template.door.as_fd(), theirs, new)?;
    let setup = start.lowered.plan.encode(&start.handed_trees());
    let tell = |init: &Launched| {
        send_plan(&lines, &setup, &start.program, init)?;
        send_descriptors(start, &lines, init)
    };
    // It finds its plan there, unless it has to be put into a group before.
    let attached = start.groups.and_then(Groups::v2).is_some();
    let told = if attached { Ok(()) } else { tell(&template.init) };
    // First, as it is to be reaped whatever else has failed; and why there is none is said there.
    launched = joined(start, &lines, next_report(&lines, &template.init, Stage::Launch))?;
    told.map_err(|error| refused_before(start, &lines, error))?;
    log::debug!("launch: the copy is {}, in {:?}", launched.pid, began.elapsed());
    if attached {
        attach(start, &launched)?;
        tell(&launched).map_err(|error| refused_before(start, &lines, error))?;
    }
    let warden_id = warden::watch(start.policy.init_file.as_deref(), &launched.pidfd, false)?;
    Ok(First { maker: None, launched, lines, warden_id })
}

/// Of a template; the copy's socket is the other end of `theirs`.
pub(super) fn ask_for_copy(
    template: &Launched,
    door: BorrowedFd<'_>,
    theirs: OwnedFd,
    flags: u64,
) -> Result<()> {
    let flags = flags.to_ne_bytes();
    let (word, fds) = ([IoSlice::new(&flags)], [theirs.as_raw_fd()]);
    send_with(door, &word, &fds, template, Stage::Launch)
}

/// Puts a process into its control groups before it gets its plan, and so before it does or is charged
/// for anything.
pub(super) fn attach(start: &Start<'_>, launched: &Launched) -> Result<()> {
    let Some(groups) = start.groups else { return Ok(()) };
    let attaching = Instant::now();
    if !launched.born_inside {
        groups.attach(launched.pid)?;
    }
    log::debug!("cgroup: attached in {:?}", attaching.elapsed());
    Ok(())
}

/// Launches init, or who makes it, and then returns what that is to be told.
pub(super) fn launch_first(
    start: &Start<'_>,
    executable: &OwnedFd,
    lines: &Lines,
    init: [&OwnedFd; 2],
) -> Result<(Launched, Vec<u8>)> {
    let into = start.groups.and_then(Groups::v2);
    let entrances = &start.groups.map_or(Vec::new(), Groups::entrances)[..];
    let numbers = init.map(AsRawFd::as_raw_fd);
    let mut keep = start.descriptors.clone();
    keep.push(lines.proc()?.as_raw_fd());
    keep.extend(start.cpu_usage.map(AsRawFd::as_raw_fd));
    keep.extend(start.own_id.map(|namespace| namespace.as_raw_fd()));
    keep.extend(start.trees.iter().map(AsRawFd::as_raw_fd));
    let new = start.lowered.at_clone;
    let capabilities = start.policy.capabilities.bounding();
    if !start.is_made_by_another() {
        let flags = new.flags();
        let (mode, numbers, keep) = (mode::INIT, &numbers, &keep);
        let wanted = Launch { mode, flags, numbers, keep, capabilities, into, entrances };
        return launch(executable, wanted).map(|launched| (launched, Vec::new()));
    }
    let opened = match start.entering {
        Some(entering) => open_entered(entering)?,
        None => open_joined(start.policy)?,
    };
    keep.extend(opened.iter().map(|(fd, _)| fd.as_raw_fd()));
    let (mode, flags, numbers, keep) = (mode::JOIN, 0, &numbers, &keep);
    let wanted = Launch { mode, flags, numbers, keep, capabilities, into, entrances };
    let launched = launch(executable, wanted)?;
    // What the kernel counts for who made a namespace is then counted for that id.
    let owner = start.own_id.map_or(u32::MAX, |_| start.lowered.ids.host.0);
    let parent = if start.entering.is_some() { 0 } else { CLONE_PARENT };
    let flags = (new.flags() | parent) as u64;
    let mut message = wire::Join { namespaces: [(-1, 0); wire::JOIN_MAX], flags, owner };
    for (to, (fd, kind)) in message.namespaces.iter_mut().zip(&opened) {
        *to = (fd.as_raw_fd(), kind.bits());
    }
    let mut bytes = Vec::new();
    message.put(&mut bytes);
    Ok((launched, bytes))
}

/// Short of memory the kernel is to kill the program, and not init in its place. Who has CAP_SYS_RESOURCE
/// says just that; others give init back the caller's score, above which the program's is. Should init be
/// chosen all the same, the outcome tells why.
pub(super) fn spare_init(
    start: &Start<'_>,
    lines: &Lines,
    launched: &Launched,
    score: Option<OwnedFd>,
) {
    // The program has executed: it no longer shares init's memory, and with it the score.
    let memory = start.groups.and_then(|groups| groups.of(Controller::Memory));
    let may = || caps::has_cap(None, CapSet::Effective, caps::Capability::CAP_SYS_RESOURCE);
    let written = if memory.is_some() && may().unwrap_or(false) {
        own_score(lines, launched).and_then(|file| nix::unistd::write(&file, b"-1000"))
    } else if let Some(own) = start.lowered.score {
        // Of one that has waited, only root can open it now.
        let file = match score {
            None if !user::is_root() => return,
            None => own_score(lines, launched),
            Some(file) => Ok(file),
        };
        file.and_then(|file| nix::unistd::write(&file, own.to_string().as_bytes()))
    } else {
        return;
    };
    log::trace!("init is spared: {written:?}");
}

/// A process's own, by the caller's /proc.
fn own_score(lines: &Lines, launched: &Launched) -> Result<OwnedFd, Errno> {
    let proc = lines.proc().map_err(|_| Errno::ENOENT)?;
    let pid = pid_in(proc.as_fd(), launched).ok_or(Errno::ESRCH)?;
    let file = open_score(proc, &format!("{pid}/"))?;
    // It may have ended, and its pid be somebody else's by now.
    match sys::wait_readable(launched.pidfd.as_fd(), Some(Duration::ZERO)) {
        true => Err(Errno::ESRCH),
        false => Ok(file),
    }
}

pub(super) fn open_score(directory: impl AsFd, process: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    let path = format!("{process}oom_score_adj");
    nix::fcntl::openat(directory, path.as_str(), flags, Mode::empty())
}

/// Opens what is to be joined, in the caller's own context.
pub(super) fn open_joined(policy: &Policy) -> Result<Vec<(OwnedFd, Namespaces)>> {
    let mut opened = Vec::new();
    for (kind, existing) in &policy.joined {
        let fd = match &existing.0 {
            Source::Path(path) => open(path, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
                .map_err(|errno| Error::new(Stage::Join, "open", quoted(path), errno))?,
            Source::Fd(fd) => duplicate(fd)?,
        };
        opened.push((fd, *kind));
    }
    Ok(opened)
}

/// The same of a sandbox that is entered: all at once, as some of them need the privilege that is lost with others.
pub(super) fn open_entered(entering: &Entering) -> Result<Vec<(OwnedFd, Namespaces)>> {
    let clocks = entering.clocks.as_ref().map(duplicate).transpose()?;
    let mut opened: Vec<_> = clocks.into_iter().map(|fd| (fd, Namespaces::TIME)).collect();
    opened.push((duplicate(&entering.pidfd)?, entering.namespaces));
    Ok(opened)
}

pub(super) fn duplicate(fd: &OwnedFd) -> Result<OwnedFd> {
    let copy = fd.try_clone();
    copy.map_err(|error| Error::new(Stage::Join, "dup", "", executable::errno_of(&error)))
}

/// Has a process that enters a sandbox killed as that one's program would be; it inherits that.
pub(super) fn raise_score(start: &Start<'_>, lines: &Lines, launched: &Launched) -> Result<()> {
    let Some(score) = start.entering.and_then(|entering| entering.score.as_ref()) else {
        return Ok(());
    };
    let file = own_score(lines, launched);
    let written = file.and_then(|file| nix::unistd::write(&file, score));
    let failed = |errno| Error::new(Stage::Join, "raise oom_score_adj", "", errno);
    written.map(drop).map_err(failed)
}

/// The process that was made by another, by that one's answer.
pub(super) fn joined(
    start: &Start<'_>,
    lines: &Lines,
    answer: Result<(Report, Vec<OwnedFd>)>,
) -> Result<Launched, Refused> {
    let made = |pid, pidfd| {
        let pidfd = Arc::new(pidfd);
        let session = start.entering.map(|entering| Arc::clone(&entering.sockets));
        let born_inside = start.template.is_none();
        Launched { pid, pidfd, armed: true, born_inside, session }
    };
    match answer {
        Ok((answer, mut fds)) if answer.kind == report::JOINED && !fds.is_empty() => {
            let pidfd = fds.swap_remove(0);
            let pid = pid_of(lines, &pidfd).unwrap_or(0);
            let made = made(pid, pidfd);
            // Those of v2 take 0 for who writes it.
            if start.groups.is_some_and(|groups| groups.v2().is_some())
                && !made.born_inside
                && (pid == 0 || !is_own(lines.proc()?.as_fd()))
            {
                let object = "the pid of a copy, in this process's /proc";
                return Err(Error::new(Stage::Cgroup, "read", object, Errno::ESRCH).into());
            }
            Ok(made)
        }
        other => {
            // It may be there all the same, and the caller's child: who has made it may say so later. The socket
            // closes when both have done with it.
            let failed = matches!(&other, Ok((answer, _)) if answer.kind == report::FAILED);
            let is_child = start.template.is_some() && start.groups.is_some();
            let patience = if failed || is_child { FOLLOW_WAIT } else { Duration::ZERO };
            while sys::wait_readable(lines.ours.as_fd(), Some(patience)) {
                match receive_now(lines.ours.as_fd()) {
                    Some(Received::Report(late, fds)) if late.kind == report::JOINED => {
                        fds.into_iter().map(|pidfd| made(0, pidfd)).for_each(drop);
                    }
                    Some(Received::Report(..)) => {}
                    _ => break,
                }
            }
            Err(match other {
                // The kernel drops a descriptor that a caller at its limit has no room for.
                Ok((answer, _)) if answer.kind == report::JOINED => {
                    unheard(Stage::Launch, Errno::EMFILE).into()
                }
                Ok((answer, fds)) => failed_report(start, &answer, fds),
                Err(error) => error.into(),
            })
        }
    }
}

pub(crate) fn pid_of(lines: &Lines, pidfd: &OwnedFd) -> Option<u32> {
    pid_of_pidfd(lines.proc().ok()?.as_fd(), pidfd.as_fd())
}

/// Writes the id maps, and opens init's `oom_score_adj` as long as that may be opened, if it is to be
/// written. The directory is opened first and the process looked at again: a pid whose process was
/// reaped elsewhere may be somebody else's by now.
pub(super) fn map_ids(
    start: &Start<'_>,
    lines: &Lines,
    launched: &Launched,
) -> Result<Option<OwnedFd>> {
    // A copy of a template does that itself: only there the ids are known.
    let made = start.entering.is_none() && start.template.is_none();
    let maps = made && start.policy.new_namespaces().contains(Namespaces::USER);
    if !maps && start.lowered.score.is_none() {
        return Ok(None);
    }
    let failed =
        |errno| Error::new(Stage::Identity, "open", format!("\"/proc/{}\"", launched.pid), errno);
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let pid = pid_in(lines.proc()?.as_fd(), launched).ok_or_else(|| failed(Errno::ESRCH))?;
    let path = pid.to_string();
    let process =
        nix::fcntl::openat(lines.proc()?, path.as_str(), flags, Mode::empty()).map_err(failed)?;
    if sys::wait_readable(launched.pidfd.as_fd(), Some(Duration::ZERO)) {
        return Err(failed(Errno::ESRCH));
    }
    // Not of an init that was undumpable before, as where it joins: it is small all the same.
    let score = start.lowered.score.and_then(|_| open_score(&process, "").ok());
    if maps {
        user::write_maps(process.as_fd(), pid, start.lowered.ids, &start.lowered.maps)?;
    }
    Ok(score)
}
