//! What one tenant takes of what the kernel counts, and what is left for the others.
#![allow(
    clippy::exit,
    clippy::incompatible_msrv,
    reason = "a test process, built by a current toolchain"
)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails so")]
#![allow(unsafe_code, reason = "limits of the test's own")]

mod common;
#[path = "common/inside.rs"]
mod inside;
#[path = "common/life.rs"]
mod life;
#[path = "common/taking.rs"]
mod taking;

use std::io::{BufRead, BufReader};

use common::Needs;
use inside::{is_root, role};
use stockade::{Child, Command, Hint, Outcome, Resource, Sandbox, Stdio};

tests! {
    Needs::Nothing => [each_has_its_own, commands_of_a_session_share, what_all_of_a_user_share, a_tenant_and_its_caller];
    Needs::Root => [own_ids_share_nothing];
}

const WAYS: [&str; 3] = ["alone", "prepared", "pool"];

/// Has a program take all of a kind, and keep it.
fn taking(command: Command, test: &str, kind: &str) -> (Child, usize) {
    let command = command.env("STOCKADE_TEST_CHILD", test).env("STOCKADE_TEST_ROLE", kind);
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    (child, line.trim().parse().unwrap_or_else(|_| panic!("{kind}: {line:?}")))
}

/// The program's side.
fn take(kind: &str) {
    let taken = taking::take_all(kind);
    println!("{taken}");
    // Until the other has its own.
    std::io::stdin().read_line(&mut String::new()).unwrap();
    taking::give_back(kind, taken);
}

/// How much each of two gets, while the other has what it has.
fn each_gets(sandbox: &Sandbox, way: &str, test: &str, kind: &str) -> [usize; 2] {
    let prepared = sandbox.prepare().unwrap();
    let pool = prepared.pool(if way == "pool" { 2 } else { 0 }).unwrap();
    let command = || match way {
        "alone" => sandbox.command("/probe"),
        "prepared" => prepared.command("/probe"),
        _ => pool.command("/probe"),
    };
    [(); 2].map(|()| taking(command(), test, kind)).map(|(mut child, taken)| {
        child.wait().unwrap();
        taken
    })
}

/// For a root caller with ids that nobody else uses, as some things are counted for them.
fn sandbox() -> Sandbox {
    let sandbox = Sandbox::new().bind_ro(std::env::current_exe().unwrap(), "/probe");
    let id = 1_900_000_000 + std::process::id();
    if is_root() { sandbox.host_ids(id, id) } else { sandbox }
}

/// So little for each that all fit into what the caller may have.
fn limited() -> Sandbox {
    sandbox()
        .rlimit(Resource::PendingSignals, 200)
        .rlimit(Resource::MessageQueue, 100_000)
        .rlimit(Resource::Processes, 50)
        .rlimit(Resource::LockedMemory, 1 << 20)
}

/// What there is at the least under those limits.
const KINDS: [(&str, usize); 4] =
    [("signals", 190), ("queues", 4), ("processes", 40), ("memory", 16)];

fn each_has_its_own() {
    let test = "each_has_its_own";
    if let Some(kind) = role() {
        return take(&kind);
    }
    assert!(limited().prepare().unwrap().has_template());
    for (kind, least) in KINDS {
        for way in WAYS {
            let [one, other] = each_gets(&limited(), way, test, kind);
            assert!(one >= least && one == other, "{kind}, {way}: {one} and {other}");
        }
    }
}

/// They have one user namespace, one id and one set of limits.
fn commands_of_a_session_share() {
    let test = "commands_of_a_session_share";
    if let Some(kind) = role() {
        return take(&kind);
    }
    // Another supervisor may be waiting.
    let close = |one: usize, other: usize| one.abs_diff(other) <= 4;
    for (kind, least) in KINDS {
        let prepared = limited().prepare().unwrap();
        let (session, another) = (prepared.session().unwrap(), prepared.session().unwrap());
        let (mut one, first) = taking(session.command("/probe"), test, kind);
        let (_other, second) = taking(session.command("/probe"), test, kind);
        assert!(first >= least && close(second, 0), "{kind}: {first} and {second}");
        // That is another sandbox.
        let (mut apart, of_another) = taking(another.command("/probe"), test, kind);
        assert!(close(of_another, first), "{kind}: {first} and {of_another}");
        apart.wait().unwrap();
        // What ends with a command is the next one's.
        one.wait().unwrap();
        let (mut next, after) = taking(session.command("/probe"), test, kind);
        // Segments do not.
        let expected = if kind == "memory" { 0 } else { first };
        assert!(close(after, expected), "{kind}: {first} and {after}");
        next.wait().unwrap();
    }
}

/// What docs/threat-model.md says of all sandboxes of one id and of one caller.
fn what_all_of_a_user_share() {
    let test = "what_all_of_a_user_share";
    if let Some(kind) = role() {
        return take(&kind);
    }
    limit_queues();
    for (kind, least) in [("queues", 10), ("pipes", 1), ("in flight", 10)] {
        for way in WAYS {
            let [one, other] = each_gets(&few_files(sandbox()), way, test, kind);
            assert!(one >= least && other <= 1, "{kind}, {way}: {one} and {other}");
        }
    }
}

/// Of them so many are on their way at the most.
fn few_files(sandbox: Sandbox) -> Sandbox {
    sandbox.rlimit(Resource::OpenFiles, 1024)
}

fn limit_queues() {
    let limit = libc::rlimit { rlim_cur: 300_000, rlim_max: 300_000 };
    // SAFETY: a limit of this process, which runs one test only.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_MSGQUEUE, &raw const limit) }, 0);
}

/// As docs/threat-model.md says how to close that.
fn own_ids_share_nothing() {
    let test = "own_ids_share_nothing";
    if let Some(kind) = role() {
        return take(&kind);
    }
    limit_queues();
    for (kind, least) in [("queues", 10), ("pipes", 1), ("in flight", 10), ("inotify", 32)] {
        for way in WAYS {
            let sandbox = Sandbox::new().bind_ro(std::env::current_exe().unwrap(), "/probe");
            let sandbox = few_files(sandbox);
            let [one, other] = each_gets(&sandbox.own_host_id(), way, test, kind);
            assert!(one >= least && one == other, "{kind}, {way}: {one} and {other}");
        }
    }
}

/// Descriptors that are on their way count for an unprivileged caller as well, who starts nothing meanwhile; not for one
/// with a higher limit than its tenants have.
fn a_tenant_and_its_caller() {
    let test = "a_tenant_and_its_caller";
    if let Some(kind) = role() {
        return take(&kind);
    }
    let limit = libc::rlimit { rlim_cur: 1024, rlim_max: 2048 };
    // SAFETY: as above.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
    life::adopt_orphans();
    let prepared = sandbox().prepare().unwrap();
    let (session, pool) = (prepared.session().unwrap(), prepared.pool(1).unwrap());
    let start = || {
        [
            sandbox().command("true"),
            prepared.command("true"),
            session.command("true"),
            pool.command("true"),
        ]
        .map(|command| command.stdin(Stdio::piped()).status().map(|status| status.outcome))
    };
    let wardens = || life::children().into_iter().filter(|(_, name)| name == "stockade-warden");
    let before: Vec<_> = wardens().collect();
    let (child, taken) = taking(sandbox().command("/probe"), test, "in flight");
    assert!(taken > 10, "{taken}");
    for started in start() {
        if is_root() {
            assert_eq!(started.unwrap(), Outcome::Exited(0));
            continue;
        }
        let error = started.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ETOOMANYREFS), "{error}");
        assert_eq!(error.hint(), Some(&Hint::OpenFiles), "{error}");
    }
    // Another one could not be told of what runs.
    assert!(wardens().eq(before));
    drop(child);
    let few = sandbox().rlimit(Resource::OpenFiles, 512);
    let (_child, taken) = taking(few.command("/probe"), test, "in flight");
    assert!((5..8).contains(&taken), "{taken}");
    for started in start() {
        assert_eq!(started.unwrap(), Outcome::Exited(0));
    }
}
