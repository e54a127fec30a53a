//! Why a sandbox was not made.

use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;

use super::Start;
use crate::cgroup::group::Groups;
use crate::control::{Lines, Received, next_report, receive_now};
use crate::error::{Error, Stage};
use crate::hint::{self, Hint};
use crate::plan::Plan;
use crate::process::{Launched, clone_refused};
use crate::program::interpreter_of;
use crate::wire::{Call, Report, report};

/// Why the program did not start, for the caller to put into words.
#[derive(Debug)]
pub(crate) enum Refused {
    Error(Error),
    /// Init's report about the start of the program.
    /// And the interpreter that was missing, if that is it.
    Start(Box<Report>, Option<OsString>),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Refused::Error(error)
    }
}

/// Why nobody listens: init has failed before.
pub(super) fn refused_before(start: &Start<'_>, lines: &Lines, error: Error) -> Refused {
    match receive_now(lines.ours.as_fd()) {
        Some(Received::Report(failure, fds)) => failed_report(start, &failure, fds),
        _ => Refused::Error(error),
    }
}

/// The program's process has ended before its exec. Its supervisor knows how.
pub(super) fn never_executed(start: &Start<'_>, lines: &Lines, launched: &Launched) -> Refused {
    if !start.is_supervised() {
        let object = "(it was killed before its exec)";
        return Error::new(Stage::Start, Call::Start.name(), object, Errno::ESRCH).into();
    }
    loop {
        match next_report(lines, launched, Stage::Start) {
            // That its time was up comes first.
            Ok((report, _)) if report.kind == report::KILLED => {}
            Ok((failure, fds)) => return failed_report(start, &failure, fds),
            Err(error) => return error.into(),
        }
    }
}

pub(super) fn failed_report(start: &Start<'_>, failure: &Report, fds: Vec<OwnedFd>) -> Refused {
    let [index, call, errno, detail, ..] = failure.numbers;
    let call = Call::from_number(call).map_or("set up", Call::name);
    let errno = Errno::from_raw(i32::try_from(errno).unwrap_or(libc::EPROTO));
    if failure.kind != report::FAILED {
        return Error::new(Stage::Setup, "understand init", "", Errno::EPROTO).into();
    }
    match index {
        report::START => {
            let file = fds.into_iter().next();
            Refused::Start(Box::new(*failure), file.and_then(|file| interpreter_of(file.into())))
        }
        report::LAUNCH if start.entering.is_some() => {
            let object = start.entering.map_or_else(String::new, |entering| {
                format!("of the sandbox of process {}", entering.pid)
            });
            let hint = match (call, errno) {
                ("setns", Errno::EINVAL) => Some(Hint::NeedsKernel("5.8")),
                _ => hint::for_operation(call, &object, errno),
            };
            Error::new(Stage::Join, call, object, errno).with_hint(hint).into()
        }
        report::LAUNCH if start.template.is_some() && call == Call::Write.name() => {
            not_entered(start, detail, errno).into()
        }
        report::LAUNCH if start.template.is_some() && call == Call::Clone.name() => {
            clone_refused(start.lowered.at_clone, errno).into()
        }
        report::LAUNCH => {
            let joined = usize::try_from(detail).ok().and_then(|at| start.policy.joined.get(at));
            let (stage, object) = match (start.template, joined) {
                (Some(_), _) => (Stage::Launch, "for a copy of the template".to_owned()),
                (None, Some((kind, _))) => (Stage::Join, kind.to_string()),
                (None, None) => (Stage::Join, String::new()),
            };
            let hint = hint::for_operation(call, &object, errno);
            Error::new(stage, call, object, errno).with_hint(hint).into()
        }
        _ => operation_failed(&start.lowered.plan, index, call, errno).into(),
    }
}

/// What a copy did not get into, by the number that it tells.
pub(super) fn not_entered(start: &Start<'_>, number: u64, errno: Errno) -> Error {
    let entrances = start.groups.map_or(Vec::new(), Groups::entrances);
    let group = usize::try_from(number).ok().and_then(|at| entrances.get(at));
    let tasks = |(_, path): &(_, PathBuf)| format!("\"0\" to {:?}", path.join("tasks"));
    let object = group.map_or_else(String::new, tasks);
    Error::new(Stage::Cgroup, Call::Write.name(), object, errno).explained()
}

pub(super) fn operation_failed(plan: &Plan, index: u64, call: &'static str, errno: Errno) -> Error {
    let object = plan.object(index);
    let hint = hint::for_operation(call, &object, errno);
    Error::new(Stage::Setup, call, object, errno).with_hint(hint)
}
