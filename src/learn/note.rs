//! From what was foretold to what is noted.

use std::ffi::{OsStr, OsString};

use nix::errno::Errno;
use nix::sys::stat::SFlag;

use super::journal::{Shared, locked};
use super::judge::Verdict;
use super::look::Outside;
use super::record::Refusal;
use super::remedy::{self, Remedy};
use super::{Change, Denial, Denied, Wall};
use crate::namespace::Namespaces;
use crate::policy::Policy;
use crate::seccomp::calls;
use crate::sys::Asked;

impl Denial {
    fn new(what: Denied, errno: Errno, call: &str, program: &OsStr, remedy: Remedy) -> Self {
        let Remedy { line, note } = remedy;
        let (call, program) = (call.to_owned(), program.to_string_lossy().into_owned());
        let errno = errno as i32;
        Denial { what, errno, call, program, count: 1, line, note, change: Change::Line }
    }
}

/// A call that the filter refused.
pub(super) fn call(shared: &Shared, asked: &Asked, errno: Errno, program: OsString) {
    let (key, denial) = refused_call(shared.sandbox.policy(), asked, errno, &program);
    locked(&shared.book).note(key, denial);
}

/// The same, and what makes it the same as another.
pub(super) fn refused_call(
    policy: &Policy,
    asked: &Asked,
    errno: Errno,
    program: &OsStr,
) -> (Denied, Denial) {
    let name = calls::name(asked.number);
    let (number, args) = (asked.number, asked.args);
    let name = name.map_or_else(|| format!("number {number}"), str::to_owned);
    // The others are addresses, and differ each time.
    let mut deciding = [0; 6];
    if let Some((at, value)) = remedy::decisive(&name).and_then(|at| Some((at, args.get(at)?))) {
        deciding[at] = *value;
    }
    let key = Denied::SystemCall { name: name.clone(), number, args: deciding };
    let what = Denied::SystemCall { name: name.clone(), number, args };
    let (remedy, change) = match remedy::call(policy, &name, args, errno) {
        remedy::Call::Rule(rule) => {
            let line = Some(remedy::profile(policy, &rule));
            (Remedy { line, note: None }, Change::Rule(rule))
        }
        remedy::Call::Capability(one) => (remedy::capability(policy, one), Change::Capability(one)),
        remedy::Call::Other(remedy) => (remedy, Change::Line),
    };
    let denial = Denial::new(what, errno, &name, program, remedy);
    (key, Denial { change, ..denial })
}

/// A call that the kernel will refuse, or answer as it would not outside.
pub(super) fn verdict(shared: &Shared, call: &str, verdict: Verdict, program: &OsStr) {
    if let Some(denial) = denial(shared.sandbox.policy(), &shared.outside, call, verdict, program) {
        locked(&shared.book).note(denial.what.clone(), denial);
    }
}

/// The same; none of what the host does not have either.
pub(super) fn denial(
    policy: &Policy,
    outside: &Outside,
    call: &str,
    verdict: Verdict,
    program: &OsStr,
) -> Option<Denial> {
    let kind = |path: &std::path::Path| outside.kind(path);
    let (what, errno, remedy, change) = match verdict {
        Verdict::Absent { path, access } => {
            let kind = kind(&path)?;
            let remedy = remedy::absent(policy, &path, access, kind);
            let what = match kind {
                SFlag::S_IFCHR | SFlag::S_IFBLK => Denied::Device { path, access },
                _ => Denied::Path { path, access },
            };
            (what, Errno::ENOENT, remedy, Change::Line)
        }
        Verdict::Refused { path, access, errno } => {
            let remedy = match errno {
                Errno::EROFS => remedy::read_only(policy, &path, kind),
                _ => remedy::refused(&path, access, kind(&path)),
            };
            (Denied::Path { path, access }, errno, remedy, Change::Line)
        }
        Verdict::Needs(capability) => {
            let remedy = remedy::capability(policy, capability);
            let change = Change::Capability(capability);
            let errno = if call == "bind" { Errno::EACCES } else { Errno::EPERM };
            (Denied::Capability(capability), errno, remedy, change)
        }
        Verdict::Unreachable(address) => {
            let what = Denied::Address(address.to_string());
            (what, Errno::ENETUNREACH, network(), Change::Line)
        }
        Verdict::Abstract(name) => {
            let name = format!("@{}", String::from_utf8_lossy(&name));
            let own = policy.new_namespaces().contains(Namespaces::NET);
            if !own || !listens(&name) {
                return None;
            }
            (Denied::Address(name), Errno::ECONNREFUSED, network(), Change::Line)
        }
        Verdict::TooManyFiles => {
            (Denied::Limit("open files"), Errno::EMFILE, super::open_files(policy), Change::Line)
        }
    };
    let denial = Denial::new(what, errno, call, program, remedy);
    Some(Denial { change, ..denial })
}

/// What Landlock says that it refused.
pub(super) fn refusal(shared: &Shared, refusal: Refusal) {
    let denial = refused_by_landlock(shared.sandbox.policy(), refusal);
    locked(&shared.book).note(denial.what.clone(), denial);
}

/// The same. It is asked last, so that nothing else was in the way.
pub(super) fn refused_by_landlock(policy: &Policy, refusal: Refusal) -> Denial {
    let (what, errno, wall) = match refusal {
        Refusal::File { path, access, errno } => (Denied::Path { path, access }, errno, Wall::All),
        Refusal::Bind(address) => {
            let wall = Wall::Bind(address.port());
            (Denied::Address(address.to_string()), Errno::EACCES, wall)
        }
        Refusal::Connect(address) => {
            let wall = Wall::Connect(address.port());
            (Denied::Address(address.to_string()), Errno::EACCES, wall)
        }
        Refusal::Abstract(name) => {
            let name = format!("@{}", String::from_utf8_lossy(&name).escape_debug());
            (Denied::Address(name), Errno::EPERM, Wall::All)
        }
        Refusal::Signal { pid, name } => (Denied::Signal { pid, name }, Errno::EPERM, Wall::All),
    };
    let note = match (&what, wall) {
        (Denied::Path { .. }, _) => {
            "by Landlock alone, where no mount refuses; a file that was opened for reading is not opened anew for writing"
        }
        (_, Wall::All) => "by Landlock alone, all of whose walls would be gone",
        (_, Wall::Bind(_)) => "to be bound to; by Landlock, for the port",
        (_, Wall::Connect(_)) => "by Landlock, for the port",
    };
    let line = Some(remedy::landlock(&policy.landlock, [wall]));
    let remedy = Remedy { line, note: Some(note.to_owned()) };
    let denial = Denial::new(what, errno, "", OsStr::new(""), remedy);
    Denial { change: Change::Wall(wall), ..denial }
}

fn network() -> Remedy {
    let note = Some("all of the caller's network".to_owned());
    Remedy { line: Some(".network(Network::Host)".to_owned()), note }
}

/// Whether the host has an abstract socket of this name.
fn listens(name: &str) -> bool {
    let table = std::fs::read("/proc/self/net/unix").unwrap_or_default();
    let table = String::from_utf8_lossy(&table);
    table.lines().any(|line| line.ends_with(name) && line.contains(&format!(" {name}")))
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;
    use std::path::PathBuf;

    use super::*;
    use crate::landlock::Landlock;
    use crate::learn::Access;
    use crate::learn::book::Book;
    use crate::sandbox::Sandbox;

    #[test]
    fn refusals_of_landlock_come_together_in_one_line() {
        let given = Landlock::default().connect_tcp([443]).log_denials(true);
        let sandbox = Sandbox::new().landlock(given);
        let hostile = PathBuf::from(OsString::from_vec(b"/x\n    .evil()\xff".to_vec()));
        let (access, errno) = (Access::Write, Errno::EACCES);
        let mut book = Book::default();
        for refusal in [
            Refusal::Connect(([192, 0, 2, 1], 80).into()),
            Refusal::Bind(([0; 4], 0).into()),
            Refusal::File { path: hostile, access, errno },
            Refusal::Abstract(b"a\nb".to_vec()),
            Refusal::Signal { pid: 1, name: "in\nit".into() },
            Refusal::Signal { pid: 1, name: "in\nit".into() },
        ] {
            let denial = refused_by_landlock(sandbox.policy(), refusal);
            book.note(denial.what.clone(), denial);
        }
        let denials = book.denials().with_settings(sandbox.policy());
        let first = denials.iter().next().unwrap().line.as_deref();
        let expected = ".landlock(Landlock::default().connect_tcp([80, 443]).log_denials(true))";
        assert_eq!(first, Some(expected));
        let printed = denials.to_string();
        let (comments, code): (Vec<_>, Vec<_>) =
            printed.lines().partition(|line| line.starts_with("    // "));
        let ports = ".bind_tcp([0]).connect_tcp([80, 443]).log_denials(true)";
        let expected = ["sandbox".to_owned(), format!("    .landlock(Landlock::none(){ports})")];
        assert_eq!(code, expected, "{printed}");
        assert_eq!(comments.len(), 5, "{printed}");
        assert!(comments[4].contains("2 times"), "{printed}");
    }
}
