//! What is said to the processes of a sandbox until its program runs, and what they answer.

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

use super::refused::{Refused, failed_report, never_executed};
use super::{Count, Kept, Role, Start};
use crate::control::{
    Lines, Received, init_died, next_report, receive, receive_now, send_with, transmit,
    transmit_slices, unheard,
};
use crate::error::{Error, Result, Stage};
use crate::namespace::Namespaces;
use crate::process::{Account, Exec, Launched};
use crate::pty::Pty;
use crate::wire::{self, CHUNK, HEADER, Header, MAGIC, Put, Report, TOGETHER, VERSION, report};

/// Sends the program part and its descriptors to who waits for it: in one message, if there is room.
pub(super) fn hand_over(start: &Start<'_>, lines: &Lines, init: &Launched) -> Result<()> {
    let (program, fds) = (&start.program, all_descriptors(start));
    let header = header(&[], program, -1);
    if program.len() <= TOGETHER && fds.len() <= wire::REPORT_FDS {
        let slices = [IoSlice::new(&header), IoSlice::new(program)];
        return send_with(lines.ours.as_fd(), &slices, &fds, init, Stage::Start);
    }
    send_parts(lines, &header, [&[], program], init)?;
    send_some(lines, &fds, init, Stage::Start)
}

/// To an init that was not cloned for the program.
pub(super) fn send_descriptors(start: &Start<'_>, lines: &Lines, init: &Launched) -> Result<()> {
    send_some(lines, &all_descriptors(start), init, Stage::Start)
}

fn all_descriptors(start: &Start<'_>) -> Vec<RawFd> {
    let cpu_usage = start.cpu_usage.map(AsRawFd::as_raw_fd);
    let trees = start.trees.iter().map(AsRawFd::as_raw_fd);
    start.descriptors.iter().copied().chain(cpu_usage).chain(trees).collect()
}

/// Descriptors, as many in a message as init takes.
pub(super) fn send_some(lines: &Lines, all: &[RawFd], init: &Launched, stage: Stage) -> Result<()> {
    all.chunks(wire::REPORT_FDS).try_for_each(|some| {
        send_with(lines.ours.as_fd(), &[IoSlice::new(&[0])], some, init, stage)
    })
}

pub(super) fn send_plan(
    lines: &Lines,
    setup: &[u8],
    program: &[u8],
    launched: &Launched,
) -> Result<()> {
    let header = header(setup, program, lines.proc()?.as_raw_fd());
    send_parts(lines, &header, [setup, program], launched)
}

fn header(setup: &[u8], program: &[u8], proc_fd: RawFd) -> Vec<u8> {
    let (magic, version) = (MAGIC, VERSION);
    let (setup, program) = (setup.len() as u64, program.len() as u64);
    let mut bytes = Vec::with_capacity(HEADER);
    Header { magic, version, setup, program, proc_fd }.put(&mut bytes);
    bytes
}

fn send_parts(
    lines: &Lines,
    header: &[u8],
    mut parts: [&[u8]; 2],
    launched: &Launched,
) -> Result<()> {
    transmit(lines, header, launched, Stage::Setup)?;
    while parts.iter().any(|part| !part.is_empty()) {
        let sent = {
            let first = parts[0].len().min(CHUNK);
            let second = parts[1].len().min(CHUNK - first);
            let slices = [IoSlice::new(&parts[0][..first]), IoSlice::new(&parts[1][..second])];
            transmit_slices(lines, &slices, launched, Stage::Setup)?;
            [first, second]
        };
        parts = [&parts[0][sent[0]..], &parts[1][sent[1]..]];
    }
    Ok(())
}

/// Init's word that everything is there, and what came with it.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) report: Report,
    /// Closes at the exec, which is still to come.
    pub(super) starting: Option<OwnedFd>,
    pub(super) program: Option<OwnedFd>,
    /// Where a session takes programs.
    pub(super) door: Option<OwnedFd>,
}

/// Waits for init's word that everything is there: with the socket that closes at the exec, if there is
/// to be one still to come, and with a supervisor the program's pidfd.
pub(super) fn await_ready(
    start: &Start<'_>,
    lines: &Lines,
    launched: &Launched,
    kept: &mut Kept,
) -> Result<Ready, Refused> {
    let waiting = Instant::now();
    let stage = if matches!(start.role, Role::Later(_)) { Stage::Start } else { Stage::Setup };
    let (answer, fds) = loop {
        let (answer, fds) = next_report(lines, launched, stage)?;
        match answer.kind {
            report::KEPT => {
                // The kernel drops a descriptor that a caller at its limit has no room for.
                let Some(fd) = fds.into_iter().next() else {
                    return Err(unheard(stage, Errno::EMFILE).into());
                };
                kept.others.push((answer.numbers[0], fd));
            }
            // The time was up before the exec, as is told next.
            report::KILLED => {}
            _ => break (answer, fds),
        }
    };
    let has_executed = answer.kind == report::EXECUTED;
    if !has_executed && answer.kind != report::READY {
        return Err(failed_report(start, &answer, fds));
    }
    let mut fds = fds.into_iter();
    let starts = !has_executed && !matches!(start.role, Role::Waiting(_) | Role::Template);
    let starting = if starts { fds.next() } else { None };
    let program = if start.is_supervised() { fds.next() } else { None };
    // The kernel drops a descriptor that a caller at its limit has no room for.
    if starting.is_some() != starts || program.is_some() != start.is_supervised() {
        return Err(unheard(Stage::Start, Errno::EMFILE).into());
    }
    if start.role.makes_sandbox() && start.policy.new_namespaces().contains(Namespaces::MOUNT) {
        let root = fds.next().ok_or_else(|| unheard(Stage::Start, Errno::EMFILE))?;
        kept.root = Some(root);
    }
    let takes = matches!(start.role, Role::Waiting(Count::Any) | Role::Template);
    let door = if takes { fds.next() } else { None };
    if door.is_some() != takes {
        return Err(unheard(Stage::Start, Errno::EMFILE).into());
    }
    // `stockade bench` reads both.
    match has_executed {
        true => log::debug!("start: waited {:?} for the exec", waiting.elapsed()),
        false => log::debug!("setup: waited {:?} for init", waiting.elapsed()),
    }
    Ok(Ready { report: answer, starting, program, door })
}

/// Waits for the exec, the other end of `starting`. Gives back the program's terminal, and what init has
/// said of its end by now.
pub(super) fn await_exec(
    start: &Start<'_>,
    lines: &Lines,
    launched: &Launched,
    starting: &OwnedFd,
    program: Option<&OwnedFd>,
) -> Result<(Option<Pty>, Option<Box<Report>>), Refused> {
    let starting_at = Instant::now();
    let process = program.map_or(launched.pidfd.as_fd(), AsFd::as_fd);
    // Looked for now, as the process has its exec still to do.
    let account = Account::open(lines.proc()?.as_fd(), process).map_err(unaccounted)?;
    // The kernel closes this socket's other end at a successful exec.
    let mut word = receive(starting.as_fd(), launched);
    let mut terminal = None;
    if let (Some(size), Received::Report(report, fds)) = (start.terminal, &mut word) {
        // With the master; the program's process goes on with its side.
        if report.kind == report::READY {
            let (ours, theirs) = Pty::accept(std::mem::take(fds), size)?;
            terminal = Some(ours);
            go_on(starting.as_fd(), theirs)?;
            word = receive(starting.as_fd(), launched);
        }
    }
    let complete = terminal.is_some() == start.terminal.is_some();
    log::debug!("start: waited {:?} for the exec", starting_at.elapsed());
    match word {
        Received::Report(report, _)
            if start.checks_only() && complete && report.kind == report::READY =>
        {
            Ok((terminal, None))
        }
        Received::Closed | Received::Ended if complete && !start.checks_only() => {
            let exec = account.exec(process).map_err(unaccounted)?;
            Ok((terminal, confirm_exec(start, lines, launched, exec)?))
        }
        // What it was last told is unread, or it has not told what it should.
        Received::Closed | Received::Ended | Received::Reset => {
            Err(never_executed(start, lines, launched))
        }
        Received::Report(failure, fds) => Err(failed_report(start, &failure, fds)),
        Received::Failed(errno) => Err(unheard(Stage::Start, errno).into()),
    }
}

pub(super) fn unaccounted(errno: Errno) -> Error {
    Error::new(Stage::Start, "read", "\"/proc/PID/stat\" of the program", errno)
}

/// A socket that has closed is an exec's only if the program's process was not killed before.
pub(super) fn confirm_exec(
    start: &Start<'_>,
    lines: &Lines,
    launched: &Launched,
    exec: Exec,
) -> Result<Option<Box<Report>>, Refused> {
    match exec {
        Exec::Done => Ok(None),
        Exec::Never => Err(never_executed(start, lines, launched)),
        // The embedder has it reaped elsewhere, and with it went what could tell.
        Exec::Gone if !start.is_supervised() => Ok(None),
        // Init reaps it, and has said before if it had not executed anything.
        Exec::Gone => match said_of_the_end(lines) {
            None => Ok(None),
            Some(Received::Report(report, fds)) if report.kind == report::FAILED => {
                Err(failed_report(start, &report, fds))
            }
            Some(Received::Report(report, _)) => Ok(Some(report)),
            Some(Received::Failed(errno)) => Err(unheard(Stage::Start, errno).into()),
            Some(Received::Closed | Received::Reset | Received::Ended) => {
                Err(init_died(launched, Stage::Start).into())
            }
        },
    }
}

/// What init has said by now of a program that it has reaped: not only that it killed it.
pub(super) fn said_of_the_end(lines: &Lines) -> Option<Received> {
    let first = receive_now(lines.ours.as_fd());
    match &first {
        Some(Received::Report(report, _)) if report.kind == report::KILLED => {
            receive_now(lines.ours.as_fd()).or(first)
        }
        _ => first,
    }
}

/// Gives the program's process its side of the terminal, which is ready.
pub(super) fn go_on(starting: BorrowedFd<'_>, theirs: OwnedFd) -> Result<()> {
    let (words, fds) = ([IoSlice::new(&[0])], [theirs.as_raw_fd()]);
    let rights = [ControlMessage::ScmRights(&fds)];
    match sendmsg::<()>(starting.as_raw_fd(), &words, &rights, MsgFlags::MSG_NOSIGNAL, None) {
        // It has ended: what it was to say comes next.
        Ok(_) | Err(Errno::EPIPE | Errno::ECONNRESET) => Ok(()),
        Err(errno) => Err(Error::new(Stage::Start, "send", "to the program's process", errno)),
    }
}
