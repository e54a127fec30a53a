//! The ways to start a program, for the same tests of each.
#![allow(dead_code, reason = "each test binary uses some")]

use std::ffi::OsStr;
use std::sync::atomic::Ordering;

use stockade::{Command, Error, Hint, Prepared, Sandbox, Stdio};

use crate::common::{AS_SAID, OTHERWISE, WAY};

/// Whether it is a session's.
pub(crate) fn is_session() -> bool {
    std::env::var(WAY).as_deref() == Ok("session")
}

/// Whether others run beside it in its sandbox.
pub(crate) fn has_company() -> bool {
    std::env::var(WAY).is_ok_and(|way| way == "session" || way == "enter")
}

/// Starts programs in the way that this process is to test.
pub(crate) trait Ways {
    /// As [`Sandbox::command`].
    fn way_to(&self, name: impl AsRef<OsStr>) -> Command;
}

impl Ways for Sandbox {
    fn way_to(&self, name: impl AsRef<OsStr>) -> Command {
        let way = std::env::var(WAY).unwrap_or_default();
        match way.as_str() {
            "" => return self.command(name),
            "enter" => return entering(self, name.as_ref()),
            _ => {}
        }
        // A contradiction is for the command to tell; and what cannot wait is made for its program.
        let again = way == "recycled";
        let sandbox = if again { self.clone().recycle_network(true) } else { self.clone() };
        let Ok(prepared) = sandbox.prepare() else { return self.command(name) };
        // They live as long as the test.
        match way.as_str() {
            "session" => match prepared.session() {
                Ok(session) => as_said(Box::leak(Box::new(session)).command(name)),
                Err(error) => otherwise(self, &prepared, &error).command(name),
            },
            "pool" => match prepared.pool(1) {
                Ok(pool) => as_said(Box::leak(Box::new(pool)).command(name)),
                Err(error) => otherwise(self, &prepared, &error).command(name),
            },
            _ if again && !is_second_tenant(&prepared) => {
                OTHERWISE.store(true, Ordering::Relaxed);
                prepared.command(name)
            }
            _ if prepared.has_template() => as_said(prepared.command(name)),
            _ => {
                OTHERWISE.store(true, Ordering::Relaxed);
                prepared.command(name)
            }
        }
    }
}

/// Runs a program in a network that the next one has after it, if there is any. It is held by this process until then.
fn is_second_tenant(prepared: &Prepared) -> bool {
    let held = || {
        let descriptors = std::fs::read_dir("/proc/self/fd").unwrap();
        let links = descriptors.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
        links.filter(|link| link.to_string_lossy().starts_with("net:[")).count()
    };
    let before = held();
    let _no_such_program = prepared.command("true").status();
    held() > before
}

fn as_said(command: Command) -> Command {
    AS_SAID.store(true, Ordering::Relaxed);
    command
}

/// What a test starts its program in whose sandbox cannot wait for it, or is not made at all.
fn otherwise<'a>(sandbox: &'a Sandbox, prepared: &Prepared, error: &Error) -> &'a Sandbox {
    // Who waits needs a higher limit of open files, which is told too.
    if matches!(error, Error::Invalid(_)) || error.hint() == Some(&Hint::OpenFiles) {
        OTHERWISE.store(true, Ordering::Relaxed);
    } else {
        let other = prepared.command("true").spawn();
        assert!(other.is_err(), "in this way only: {error}");
    }
    sandbox
}

/// In a sandbox in which another program rests; where none can, or nobody enters, for this one.
fn entering(sandbox: &Sandbox, name: &OsStr) -> Command {
    let resting = sandbox.command("sleep").arg("1000").stdin(Stdio::null());
    let resting = resting.stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(resting) = resting.spawn() else { return sandbox.command(name) };
    match Box::leak(Box::new(resting)).command(name) {
        Ok(command) => command,
        Err(Error::Invalid(_)) => sandbox.command(name),
        Err(error) => panic!("{error}"),
    }
}
