//! What an attempt finds.

use std::io;

/// What an attempt finds.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// It was refused.
    Held(String),
    /// It worked.
    Open(String),
    /// There was nothing to attack.
    NotApplicable(String),
    /// It was answered as by a kernel that does not have it, which a filter can do as well.
    Absent(String),
}

use Verdict::{Absent, Held, NotApplicable, Open};

impl Verdict {
    /// As the program outside reads it: a word and a text.
    pub(crate) fn parts(&self) -> (&'static str, &str) {
        match self {
            Held(why) => ("held", why),
            Open(what) => ("open", what),
            NotApplicable(why) => ("not_applicable", why),
            Absent(why) => ("absent", why),
        }
    }
}

const ENODEV: i32 = 19;
const ENOSYS: i32 = 38;
const ENOPROTOOPT: i32 = 92;
const EPROTONOSUPPORT: i32 = 93;
const ESOCKTNOSUPPORT: i32 = 94;
const EOPNOTSUPP: i32 = 95;
const EAFNOSUPPORT: i32 = 97;

const ABSENT: [i32; 7] =
    [ENODEV, ENOSYS, ENOPROTOOPT, EPROTONOSUPPORT, ESOCKTNOSUPPORT, EOPNOTSUPP, EAFNOSUPPORT];

/// Open if it worked.
pub(crate) fn worked<T>(what: &str, result: io::Result<T>) -> Verdict {
    passed(what, result, &[])
}

/// Open if it worked, or failed with an error that comes after the check of permissions.
pub(crate) fn passed<T>(what: &str, result: io::Result<T>, after: &[i32]) -> Verdict {
    let error = match result {
        Ok(_) => return Open(what.to_owned()),
        Err(error) => error,
    };
    match error.raw_os_error() {
        Some(errno) if after.contains(&errno) => Open(format!("{what}: got as far as {error}")),
        Some(errno) if ABSENT.contains(&errno) => Absent(format!("{what}: {error}")),
        _ => Held(format!("{what}: {error}")),
    }
}

/// Open if one of several ways worked; else what the last one was refused with.
pub(crate) fn any<T, N: AsRef<str>>(
    ways: impl IntoIterator<Item = (N, io::Result<T>)>,
    nothing: &str,
) -> Verdict {
    let mut last = None;
    for (what, result) in ways {
        match worked(what.as_ref(), result) {
            open @ Open(_) => return open,
            // Refused says more than absent.
            Absent(_) if matches!(last, Some(Held(_))) => {}
            other => last = Some(other),
        }
    }
    last.unwrap_or_else(|| NotApplicable(nothing.to_owned()))
}
