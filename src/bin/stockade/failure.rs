//! Why there is no outcome, and the exit code for every end.

use std::fmt;

use stockade::{Error, Outcome, Stage};

/// Nothing was run: set-up failed, or wrong usage.
pub(crate) const SET_UP: u8 = 125;
/// The time limit was reached.
pub(crate) const TIMED_OUT: u8 = 124;
/// The program was found and cannot be executed.
const NOT_EXECUTABLE: u8 = 126;
/// The program, or the interpreter that it names, was not found.
const NOT_FOUND: u8 = 127;
/// Added to the number of the signal that ended the program.
const SIGNALED: i32 = 128;

/// What went wrong.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The sandbox or its program could not be started.
    Sandbox(Error),
    /// The command line makes no sense.
    Usage(String),
    /// clap's word about the command line; `--help` and `--version` come this way too.
    Clap(clap::Error),
    /// A step of this program's own.
    Io(&'static str, std::io::Error),
    /// The program ran, and its end was none of its own.
    Outcome(Outcome),
    /// A second signal came while the sandbox was being made.
    Interrupted(i32),
}

impl Failure {
    /// One line on standard error; help and version as they are.
    pub(crate) fn print(&self) {
        match self {
            Failure::Clap(error) if !is_about_usage(error) => {
                // Nobody is left to be told if this fails.
                let _ = error.print();
            }
            other => eprintln!("stockade: {other}"),
        }
    }

    pub(crate) fn code(&self) -> u8 {
        match self {
            Failure::Sandbox(error) => code_of_error(error),
            Failure::Clap(error) if error.exit_code() == 0 => 0,
            Failure::Interrupted(signal) => of_signal(*signal),
            Failure::Outcome(Outcome::InitKilled { .. } | Outcome::OutOfMemory { .. }) => {
                of_signal(libc::SIGKILL)
            }
            Failure::Outcome(Outcome::CpuTime) => TIMED_OUT,
            Failure::Outcome(Outcome::SeccompDenied { .. }) => of_signal(libc::SIGSYS),
            _ => SET_UP,
        }
    }
}

fn is_about_usage(error: &clap::Error) -> bool {
    use clap::error::ErrorKind::{
        DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion,
    };
    let shown = [DisplayHelp, DisplayHelpOnMissingArgumentOrSubcommand, DisplayVersion];
    !shown.contains(&error.kind())
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Sandbox(error) => error.fmt(f),
            Failure::Usage(text) => write!(f, "{text}; hint: see --help"),
            Failure::Clap(error) => f.write_str(&one_line(error)),
            Failure::Io(operation, error) => write!(f, "{operation}: {error}"),
            Failure::Outcome(outcome) => write!(f, "the sandbox ended early: {outcome}"),
            Failure::Interrupted(signal) => write!(f, "signal {signal} ended the set-up"),
        }
    }
}

/// clap's paragraphs: the first is the error, and a tip may follow.
fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let paragraphs = text.split("\n\n").map(|lines| {
        let words: Vec<_> = lines.split_whitespace().collect();
        words.join(" ")
    });
    let (mut line, mut hint) = (String::new(), "see --help".to_owned());
    for paragraph in paragraphs {
        if let Some(message) = paragraph.strip_prefix("error: ") {
            line.push_str(message);
        } else if let Some(tip) = paragraph.strip_prefix("tip: ") {
            tip.clone_into(&mut hint);
        }
    }
    format!("{line}; hint: {hint}")
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Sandbox(error)
    }
}

impl From<clap::Error> for Failure {
    fn from(error: clap::Error) -> Self {
        Failure::Clap(error)
    }
}

fn code_of_error(error: &Error) -> u8 {
    let Some(failed) = error.failed().filter(|failed| failed.stage == Stage::Start) else {
        return SET_UP;
    };
    match failed.operation {
        "exec" | "find interpreter" if error.raw_os_error() == Some(libc::ENOENT) => NOT_FOUND,
        "exec" | "find interpreter" => NOT_EXECUTABLE,
        // Its time was up before its exec.
        "start" if error.raw_os_error() == Some(libc::ETIME) => TIMED_OUT,
        _ => SET_UP,
    }
}

/// The exit code that tells of the program's end; `None` where it was not the program's own.
pub(crate) fn code_of_outcome(outcome: Outcome) -> Option<u8> {
    match outcome {
        Outcome::Exited(code) => u8::try_from(code).ok(),
        Outcome::Signaled { signal, .. } => Some(of_signal(signal)),
        Outcome::TimedOut => Some(TIMED_OUT),
        Outcome::Killed => Some(of_signal(libc::SIGKILL)),
        _ => None,
    }
}

fn of_signal(signal: i32) -> u8 {
    u8::try_from(SIGNALED + signal).unwrap_or(u8::MAX)
}
