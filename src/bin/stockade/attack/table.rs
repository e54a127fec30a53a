//! The attempts, as the program outside sees them.

use crate::failure::Failure;

/// How much is lost if it works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Severity {
    /// The host, or another of its processes.
    Critical,
    /// A large step towards it.
    High,
    /// A part of the kernel with a history, or something of the host's that is seen.
    Medium,
    /// A nuisance.
    Low,
}

impl Severity {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Severity::Critical => "critical",
            Severity::High => "high",
            Severity::Medium => "medium",
            Severity::Low => "low",
        }
    }
}

/// What an attempt is given besides the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plant {
    /// The sentinel's terminal as standard input, as a shell's where `stockade run` is typed.
    Terminal,
    /// A file that anybody may write to as standard input, opened for reading.
    Input,
    /// A directory of the host's, writable inside.
    Writable,
    /// One that is read-only inside, with programs and a device in it.
    ReadOnly,
    /// Another sandbox of the same configuration.
    Sibling,
    /// A sandbox afterwards, which makes a directory in the writable one, below "link".
    Follow,
    /// A program that was in another sandbox of the same configuration before, and has left something.
    Before,
    /// Programs that are started in the same sandbox meanwhile.
    Starts,
}

/// Where an attempt has to work.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Control {
    pub(crate) way: Way,
    /// Only root can make it, or has something to lose in it.
    pub(crate) root: bool,
}

/// How a control is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// A sandbox with these options.
    Options(&'static str),
    /// No sandbox.
    Bare,
    /// No sandbox, and the ids that a root caller's program has.
    Nobody,
    /// No sandbox but chroot(2).
    Chroot,
}

const fn with(options: &'static str) -> Control {
    Control { way: Way::Options(options), root: false }
}

const fn root_with(options: &'static str) -> Control {
    Control { way: Way::Options(options), root: true }
}

const fn bare() -> Control {
    Control { way: Way::Bare, root: false }
}

const fn bare_root() -> Control {
    Control { way: Way::Bare, root: true }
}

const fn nobody() -> Control {
    Control { way: Way::Nobody, root: true }
}

const fn chroot() -> Control {
    Control { way: Way::Chroot, root: true }
}

impl std::fmt::Display for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.way {
            Way::Options(options) => options,
            Way::Bare if self.root => "no sandbox, as root",
            Way::Bare => "no sandbox",
            Way::Nobody => "no sandbox, as nobody",
            Way::Chroot => "chroot only, as root",
        })
    }
}

/// One attempt.
#[derive(Debug)]
pub(crate) struct Attempt {
    /// Never used for another.
    pub(crate) number: u32,
    pub(crate) family: &'static str,
    /// As the function inside is called.
    pub(crate) function: &'static str,
    pub(crate) severity: Severity,
    pub(crate) plants: &'static [Plant],
    pub(crate) control: Control,
    pub(crate) tried: &'static str,
}

impl Attempt {
    /// As it is shown and asked for.
    pub(crate) fn name(&self) -> String {
        self.function.replace('_', "-")
    }

    pub(crate) fn needs(&self, plant: Plant) -> bool {
        self.plants.contains(&plant)
    }
}

macro_rules! rows {
    ($($family:ident { $($number:literal $function:ident $severity:ident [$($plant:ident)*]
        $control:expr, $tried:literal;)* })*) => {
        /// All of them.
        pub(crate) const ATTEMPTS: &[Attempt] = &[$($(Attempt {
            number: $number,
            family: stringify!($family),
            function: stringify!($function),
            severity: Severity::$severity,
            plants: &[$(Plant::$plant),*],
            control: $control,
            tried: $tried,
        }),*),*];
    };
}

#[macro_use]
#[path = "../../../attack/table.rs"]
mod shared;

attempts!(rows);

/// Those that are asked for, or all.
pub(crate) fn chosen(only: &[String]) -> Result<Vec<&'static Attempt>, Failure> {
    let named = |name: &String| {
        let number = name.parse().ok();
        let wanted = |one: &&Attempt| Some(one.number) == number || one.name() == *name;
        ATTEMPTS.iter().find(wanted).ok_or_else(|| {
            Failure::Usage(format!("invalid value {name:?} for '--only': there is no such attempt"))
        })
    };
    if only.is_empty() { Ok(ATTEMPTS.iter().collect()) } else { only.iter().map(named).collect() }
}

#[cfg(test)]
#[allow(dead_code, reason = "only the list is compared")]
#[path = "../../../attack/numbers.rs"]
mod numbers;

#[cfg(test)]
mod tests {
    use super::{ATTEMPTS, numbers};

    #[test]
    fn numbers_and_names_are_used_once() {
        let mut numbers: Vec<_> = ATTEMPTS.iter().map(|one| one.number).collect();
        let mut names: Vec<_> = ATTEMPTS.iter().map(|one| one.function).collect();
        numbers.sort_unstable();
        names.sort_unstable();
        numbers.dedup();
        names.dedup();
        assert_eq!((numbers.len(), names.len()), (ATTEMPTS.len(), ATTEMPTS.len()));
    }

    #[test]
    fn numbers_are_the_kernels() {
        for (name, number) in numbers::ALL.iter().filter(|(_, number)| *number != 9999) {
            let known: syscalls::Sysno = name.to_lowercase().parse().unwrap();
            assert_eq!(known.id() as usize, *number, "{name}");
        }
    }
}
