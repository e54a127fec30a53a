//! What one command of a prepared sandbox has besides.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails so")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use common::Needs;
use stockade::{
    Audit, Bind, Command, Error, Limits, Outcome, Output, Pids, Prepared, Sandbox, Session, Tmpfs,
};

tests! {
    Needs::Nothing => [
        what_is_added_is_one_commands,
        it_is_added_to_what_was_prepared,
        a_bind_is_as_the_sandboxs,
        contradictions_are_the_sandboxs,
        what_exists_takes_none,
        a_prepared_one_is_audited,
    ];
    Needs::Groups => [limits_are_one_commands];
}

fn prepared() -> Prepared {
    Sandbox::new().prepare().unwrap()
}

fn sh(prepared: &Prepared, script: &str) -> Command {
    prepared.command("sh").args(["-c", script])
}

fn text(output: Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.outcome, Outcome::Exited(0), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// A directory that anybody may read, with a file in it.
fn with_file(content: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(directory.path().join("file"), content).unwrap();
    directory
}

fn what_is_added_is_one_commands() {
    let prepared = prepared();
    let (read, written) = (with_file("read\n"), tempfile::tempdir().unwrap());
    let script = "cat /in/file; cp /in/file /out; echo x >/scratch/x; cat /scratch/x
        ! touch /in/new 2>/dev/null";
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let command = sh(&prepared, script).bind_ro(read.path(), "/in");
                let command = command.bind_rw(written.path(), "/out").tmpfs("/scratch");
                assert_eq!(text(command.output().unwrap()), "read\nx\n");
                // Nothing of it is there without.
                assert_eq!(text(sh(&prepared, "ls -d /in /out /scratch; :").output().unwrap()), "");
            });
        }
    });
    assert_eq!(fs::read_to_string(written.path().join("file")).unwrap(), "read\n");
    assert!(!read.path().join("new").exists());
    // The same of a sandbox that was not prepared, which stays what it is.
    let sandbox = Sandbox::new();
    let command = sandbox.command("cat").arg("/in/file").bind_ro(read.path(), "/in");
    assert_eq!(text(command.output().unwrap()), "read\n");
    assert!(!sandbox.command("cat").arg("/in/file").status().unwrap().outcome.is_success());
}

/// After the sandbox's own, as if it had been the last word of the builder.
fn it_is_added_to_what_was_prepared() {
    let (first, second) = (with_file("first\n"), with_file("second\n"));
    let sandbox = Sandbox::new().bind_ro(first.path(), "/a").tmpfs("/b").hostname("prepared");
    let prepared = sandbox.prepare().unwrap();
    let script = "cat /a/file /b/file; hostname";
    let command = sh(&prepared, script).bind_ro(second.path(), "/b");
    assert_eq!(text(command.output().unwrap()), "first\nsecond\nprepared\n");
    let covering = sh(&prepared, "cat /a/file").bind_ro(second.path(), "/a");
    assert_eq!(text(covering.output().unwrap()), "second\n");
    let plan = sh(&prepared, script).bind_ro(second.path(), "/b").plan().unwrap();
    assert_eq!(plan, sandbox.bind_ro(second.path(), "/b").plan().unwrap());
    assert_eq!(sh(&prepared, script).plan().unwrap(), *prepared.plan());
}

fn a_bind_is_as_the_sandboxs() {
    let prepared = prepared();
    // Its owner is the program's, whoever calls.
    let owner = tempfile::tempdir().unwrap();
    let script = "stat -c %u /out; id -u; touch /out/made";
    let found = text(sh(&prepared, script).bind_rw(owner.path(), "/out").output().unwrap());
    let ids: Vec<_> = found.lines().collect();
    assert_eq!(ids[0], ids[1]);
    let made =
        std::os::unix::fs::MetadataExt::uid(&fs::metadata(owner.path().join("made")).unwrap());
    assert_eq!(made, nix::unistd::geteuid().as_raw());
    // Landlock's rules and the filter know of it: setuid bits cannot be made where it can be written.
    let chmod = "cp /bin/true /out/x && ! chmod 4755 /out/x 2>/dev/null";
    assert_eq!(text(sh(&prepared, chmod).bind_rw(owner.path(), "/out").output().unwrap()), "");
    let bind = Bind::read_only("/usr/bin", "/tools").no_exec();
    let refused = prepared.command("/tools/true").bind(bind).spawn().unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EACCES));
    let small = sh(&prepared, "head -c 100000 /dev/zero >/small/x");
    let full = small.mount_tmpfs(Tmpfs::new("/small").size(4096)).status().unwrap();
    assert!(!full.outcome.is_success());
    // One that is not there is an error of the spawn.
    let missing = prepared.command("true").bind_ro("/no/such/source", "/in").spawn().unwrap_err();
    let sandboxs = Sandbox::new().bind_ro("/no/such/source", "/in").command("true").spawn();
    assert_eq!(missing.to_string(), sandboxs.unwrap_err().to_string());
}

fn contradictions_are_the_sandboxs() {
    let (prepared, sandbox) = (prepared(), Sandbox::new());
    let added: [(Command, Sandbox); 4] = [
        (prepared.command("true").bind_ro("", "/x"), sandbox.clone().bind_ro("", "/x")),
        (
            prepared.command("true").bind_rw("/usr", "x/../y"),
            sandbox.clone().bind_rw("/usr", "x/../y"),
        ),
        (prepared.command("true").tmpfs("/a\0b"), sandbox.clone().tmpfs("/a\0b")),
        (prepared.command("true").cpu_limit(-1.0), sandbox.clone().cpu_limit(-1.0)),
    ];
    for (command, sandbox) in added {
        let [own, sandboxs] =
            [command.spawn(), sandbox.command("true").spawn()].map(|spawned| spawned.unwrap_err());
        assert!(matches!(&own, Error::Invalid(_)), "{own}");
        assert_eq!(own.to_string(), sandboxs.to_string());
    }
}

fn what_exists_takes_none() {
    type Add = fn(Command) -> Command;
    let adds: [Add; 10] = [
        |command| command.bind_ro("/usr", "/in"),
        |command| command.bind_rw("/usr", "/in"),
        |command| command.bind(Bind::read_only("/usr", "/in")),
        |command| command.tmpfs("/in"),
        |command| command.mount_tmpfs(Tmpfs::new("/in")),
        |command| command.memory_limit(1 << 30),
        |command| command.cpu_limit(1.0),
        |command| command.pids_limit(100),
        |command| command.cpu_time(Duration::from_secs(100)),
        |command| command.limits(Limits::new()),
    ];
    let prepared = prepared();
    let (session, pool) = (prepared.session().unwrap(), prepared.pool(1).unwrap());
    for add in adds {
        for command in [session.command("true"), pool.command("true")] {
            let error = add(command).spawn().unwrap_err();
            assert!(matches!(&error, Error::Invalid(_)), "{error}");
            assert!(error.to_string().contains("exist already"), "{error}");
        }
    }
    assert_eq!((pool.metrics().hits, pool.metrics().misses), (0, 0));
    let check = |session: &Session| session.command("true").tmpfs("/in").check();
    assert!(matches!(check(&session), Err(Error::Invalid(_))));
    assert!(session.command("true").status().unwrap().outcome.is_success());
    assert!(pool.command("true").status().unwrap().outcome.is_success());
}

fn a_prepared_one_is_audited() {
    let prepared = prepared();
    let directory = with_file("x");
    let audit = prepared.command("true").bind_ro(directory.path(), "/in").audit_view().unwrap();
    assert!(audit.to_string().contains("/in"), "{audit}");
    // Those of a session and pool are looked at in a sandbox of the same kind.
    let leaks = |audit: Audit| {
        assert_eq!(audit.incomplete, None);
        audit.findings.into_iter().map(|finding| finding.leak).collect::<Vec<_>>()
    };
    let own = leaks(Sandbox::new().audit_view().unwrap());
    let (session, pool) = (prepared.session().unwrap(), prepared.pool(1).unwrap());
    for command in [session.command("true"), pool.command("true")] {
        assert_eq!(leaks(command.audit_view().unwrap()), own);
    }
}

fn limits_are_one_commands() {
    let prepared = prepared();
    let forks = "i=0; while [ $i -lt 20 ]; do sleep 1000 & i=$((i + 1)); done; echo $i";
    let limited = sh(&prepared, forks).pids_limit(8).output().unwrap();
    assert_eq!(limited.stdout, b"", "{limited:?}");
    assert_eq!(text(sh(&prepared, forks).output().unwrap()), "20\n");
    // In the place of the sandbox's own.
    let narrow = Sandbox::new().pids_limit(8).prepare().unwrap();
    assert_eq!(sh(&narrow, forks).output().unwrap().stdout, b"");
    assert_eq!(text(sh(&narrow, forks).pids_limit(64).output().unwrap()), "20\n");
    let wide = Limits::new().pids(Pids::new().max(64));
    assert_eq!(text(sh(&narrow, forks).limits(wide).output().unwrap()), "20\n");
    assert_eq!(text(sh(&narrow, forks).limits(Limits::new()).output().unwrap()), "20\n");
    let own_group = |command: Command| {
        let mut child = command.spawn().unwrap();
        let counted = child.stats().unwrap().pids.current.is_some();
        child.kill().unwrap();
        counted
    };
    let endless = || prepared.command("sleep").arg("1000");
    assert!(own_group(endless().pids_limit(8)));
    assert!(!own_group(endless()));
}
