//! Why a program was not started, in words.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;

use super::Command;
use crate::capability::Capability;
use crate::error::{Error, Stage, quoted};
use crate::hint::{self, Hint};
use crate::plan::Plan;
use crate::rlimit::Resource;
use crate::spawn::Refused;
use crate::wire::{Call, Report};

impl Command {
    /// Puts it into words that it was not started.
    pub(super) fn refused(&self, plan: &Plan, refused: Refused) -> Error {
        match refused {
            Refused::Error(error) => error,
            Refused::Start(report, interpreter) => self.not_started(plan, &report, interpreter),
        }
    }

    /// Puts init's report about the start into words.
    fn not_started(&self, plan: &Plan, report: &Report, interpreter: Option<OsString>) -> Error {
        let [_, call, errno, detail, ..] = report.numbers;
        let call = Call::from_number(call).unwrap_or(Call::Exec);
        let errno = Errno::from_raw(i32::try_from(errno).unwrap_or(libc::EPROTO));
        let detail = usize::try_from(detail).unwrap_or(usize::MAX);
        let object = match call {
            Call::Exec => self.name_of_candidate(detail, errno),
            Call::Interpreter => {
                let name = self.name_of_candidate(detail, Errno::EACCES);
                // A program of another word size, say, does not tell here.
                match &interpreter {
                    None => format!("of {name}"),
                    Some(interpreter) => format!("{} of {name}", quoted(interpreter)),
                }
            }
            Call::Chdir => quoted(self.directory_inside(self.sandbox.policy())),
            Call::Rlimit => Resource::ALL.get(detail).map_or_else(String::new, ToString::to_string),
            Call::Descriptor => detail.to_string(),
            Call::Rule => plan.ruleset.object(detail),
            // All else is open by then.
            Call::Open => quoted("/dev/pts/ptmx"),
            Call::Start => {
                let how = match (errno, detail) {
                    (Errno::ETIME, _) => "its time was up before its exec".to_owned(),
                    (_, 0) => "it was killed before its exec".to_owned(),
                    (_, signal) => format!("it was killed by signal {signal} before its exec"),
                };
                format!("{} ({how})", quoted(&self.program))
            }
            Call::Bounding | Call::Ambient => u8::try_from(detail)
                .ok()
                .and_then(Capability::new)
                .map_or_else(String::new, |capability| capability.to_string()),
            // All at once: which of them the caller does not have is not told.
            Call::Capabilities => self.sandbox.policy().capabilities.bounding().to_string(),
            Call::Nice => self.sandbox.policy().nice.to_string(),
            _ => String::new(),
        };
        let hint = match (call, errno) {
            (Call::Exec, Errno::ENOENT) => self.only_outside(&self.program),
            (Call::Exec, Errno::EPERM | Errno::EACCES)
                if self.sandbox.policy().exec_label.is_some() =>
            {
                Some(Hint::LabelledExec)
            }
            (Call::Interpreter, _) => self.only_outside(&interpreter.unwrap_or_default()),
            _ => hint::for_operation(call.name(), &object, errno),
        };
        Error::new(Stage::Start, call.name(), object, errno).with_hint(hint)
    }

    fn name_of_candidate(&self, index: usize, errno: Errno) -> String {
        let candidates = self.candidates();
        // Before Linux 6.8 the arguments are counted before the file is looked for: it may be any of these.
        let is_found = !matches!(errno, Errno::ENOENT | Errno::E2BIG);
        match candidates.get(index).filter(|_| is_found) {
            Some(path) => quoted(OsString::from_vec(path.clone())),
            None => quoted(&self.program),
        }
    }

    /// A program that the host has and the sandbox has not.
    fn only_outside(&self, name: &OsStr) -> Option<Hint> {
        let inside = self.search();
        let outside = std::env::var_os("PATH").unwrap_or_default();
        let names: Vec<PathBuf> = if name.as_bytes().contains(&b'/') {
            vec![name.into()]
        } else {
            let all = std::env::split_paths(&inside).chain(std::env::split_paths(&outside));
            all.map(|directory| directory.join(name)).collect()
        };
        let found = names.into_iter().find(|path| path.is_absolute() && is_program(path))?;
        let in_path = std::env::split_paths(&inside).any(|part| found.parent() == Some(&*part));
        let by_path = name.as_bytes().contains(&b'/');
        Some(if by_path || in_path { Hint::OnlyOutside(found) } else { Hint::OutsideOfPath(found) })
    }
}

fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}
