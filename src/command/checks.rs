//! Contradictions in a command.

use super::Command;
use crate::error::{Error, Result};
use crate::namespace::Namespaces;
use crate::policy::check_text;
use crate::rlimit::{Max, Resource};
use crate::wire;

/// The kernel's own limit of one argument (`MAX_ARG_STRLEN`).
const LONGEST_ARGUMENT: usize = 128 * 1024;

impl Command {
    pub(super) fn validate(&self) -> Result<()> {
        let mut problems = match self.sandbox.policy().validate() {
            Err(Error::Invalid(problems)) => problems,
            other => {
                other?;
                Vec::new()
            }
        };
        self.problems(&mut problems);
        if problems.is_empty() { Ok(()) } else { Err(Error::Invalid(problems)) }
    }

    /// The same without the sandbox, which has been looked at.
    pub(super) fn validate_alone(&self) -> Result<()> {
        let mut problems = Vec::new();
        self.problems(&mut problems);
        if problems.is_empty() { Ok(()) } else { Err(Error::Invalid(problems)) }
    }

    /// Those of the command alone.
    fn problems(&self, problems: &mut Vec<String>) {
        if self.program.is_empty() {
            problems.push("the program has no name".to_owned());
        }
        check_text("the program's name", &self.program, problems);
        for arg in self.args.iter().chain(&self.arg0) {
            check_text("the argument", arg, problems);
            if arg.len() >= LONGEST_ARGUMENT {
                problems.push(format!(
                    "an argument of {} bytes is longer than the kernel's limit of {}",
                    arg.len(),
                    LONGEST_ARGUMENT - 1
                ));
            }
        }
        for (key, value) in &self.env {
            check_text("the environment variable", key, problems);
            // Values can be secrets, so they are not shown.
            if value.as_encoded_bytes().contains(&0) {
                problems.push(format!("the value of {key:?} contains a NUL byte"));
            }
            if key.is_empty() || key.as_encoded_bytes().contains(&b'=') {
                problems.push(format!("{key:?} is no name for an environment variable"));
            }
        }
        if self.wall.is_some_and(|wall| wall.is_zero()) {
            problems.push("a wall time of 0 leaves no time to run".to_owned());
        }
        if let Some(directory) = &self.directory {
            check_text("the working directory", &directory.clone().into(), problems);
        }
        if self.is_other_than_made() {
            problems.push(
                "binds, tmpfs and limits of a command's own are for a sandbox that is made for it, as by \
                 Prepared::command(..); those of a session, pool or child exist already"
                    .to_owned(),
            );
        }
        self.descriptor_problems(problems);
        self.terminal_problems(problems);
    }

    fn descriptor_problems(&self, problems: &mut Vec<String>) {
        let limit = self.sandbox.policy().rlimits.limit(Resource::OpenFiles).soft;
        for &number in self.descriptors.keys() {
            let above = match (u64::try_from(number), limit) {
                (Err(_), _) => true,
                (Ok(number), Max::At(limit)) => number >= limit,
                (Ok(_), Max::Unlimited) => false,
            };
            if above {
                problems.push(format!("descriptor {number} is not below the limit of open files"));
            }
        }
        if self.descriptors.len() + 3 > wire::DESCRIPTORS_MAX {
            problems
                .push(format!("more than {} descriptors are passed", wire::DESCRIPTORS_MAX - 3));
        }
    }

    fn terminal_problems(&self, problems: &mut Vec<String>) {
        if self.pty.is_none() {
            return;
        }
        for (stream, name) in self.streams.iter().zip(["stdin", "stdout", "stderr"]) {
            if stream.is_some() {
                problems.push(format!("pty(..) is all standard streams, and {name}(..) is given"));
            }
        }
        if self.terminal {
            problems.push("pty(..) is the controlling terminal, and another is asked for".into());
        }
        if !self.sandbox.policy().new_namespaces().contains(Namespaces::MOUNT) {
            problems.push("pty(..) needs a mount namespace of the sandbox's own".into());
        }
    }
}
