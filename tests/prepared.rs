//! What one command of a prepared sandbox has besides, and what becomes of what it was prepared from.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails so")]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
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
        a_file_that_changes,
        a_directory_that_changes,
        a_link_that_changes,
        several_that_change,
    ];
    // A tmpfs takes a mapping of ids from then on.
    Needs::RootAndLinux(6, 3) => [what_is_mounted, what_is_unmounted];
    Needs::RootAndLinux(5, 8) => [a_root_that_is_unmounted];
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

/// What becomes of a source, and what is to be seen of it then.
struct Change {
    change: fn(&Path),
    is_stale: bool,
    /// By the next command, or the error that it ends in.
    next: Result<&'static str, i32>,
    /// In sandboxes that are there.
    kept: &'static str,
}

fn show(command: Command) -> Result<String, i32> {
    let shown = command.args(["-c", "cat /in/file"]).output().map(text);
    shown.map_err(|error| error.raw_os_error().unwrap())
}

/// Shows `source` as a directory with a file, or as that file.
fn check(source: &Path, is_file: bool, change: &Change) {
    let target = if is_file { "/in/file" } else { "/in" };
    let prepared = Sandbox::new().bind_ro(source, target).prepare().unwrap();
    assert_eq!(prepared.stale_sources(), [""; 0].map(Path::new));
    let (session, pool) = (prepared.session().unwrap(), prepared.pool(1).unwrap());
    assert_eq!(show(prepared.command("sh")), Ok("old\n".to_owned()));
    (change.change)(source);
    let stale: Vec<_> = change.is_stale.then_some(source).into_iter().collect();
    assert_eq!(prepared.stale_sources(), stale);
    assert_eq!(prepared.is_stale(), change.is_stale);
    let next = change.next.map(str::to_owned);
    // A copy of a template has what that has.
    assert!(prepared.has_template());
    let copy = match next {
        Err(libc::ESTALE) => next.clone(),
        _ => Ok(change.kept.to_owned()),
    };
    assert_eq!(show(prepared.command("sh")), copy);
    // One that is prepared with is one that is made with what was added, too.
    assert_eq!(show(prepared.command("sh").tmpfs("/more")), next);
    for _ in 0..2 {
        assert_eq!(show(session.command("sh")), Ok(change.kept.to_owned()));
    }
    assert_eq!(show(pool.command("sh")), Ok(change.kept.to_owned()));
    pool.resize(0);
    assert_eq!(show(pool.command("sh")), copy);
    assert_eq!((pool.metrics().hits, pool.metrics().misses), (1, 1));
    // Anew, it is what is there now.
    if next.is_ok() {
        let anew = Sandbox::new().bind_ro(source, target).prepare().unwrap();
        assert!(!anew.is_stale());
        assert_eq!(show(anew.command("sh")), next);
    }
}

fn a_file_that_changes() {
    let changes = [
        Change {
            change: |file| fs::write(file, "new\n").unwrap(),
            is_stale: false,
            next: Ok("new\n"),
            kept: "new\n",
        },
        Change {
            change: |file| {
                let new = file.with_file_name("new");
                fs::write(&new, "new\n").unwrap();
                fs::rename(new, file).unwrap();
            },
            is_stale: true,
            next: Ok("new\n"),
            kept: "old\n",
        },
        Change {
            change: |file| fs::rename(file, file.with_file_name("moved")).unwrap(),
            is_stale: true,
            next: Err(libc::ENOENT),
            kept: "old\n",
        },
        Change {
            change: |file| fs::remove_file(file).unwrap(),
            is_stale: true,
            next: Err(libc::ENOENT),
            kept: "old\n",
        },
        Change {
            change: |file| {
                fs::remove_file(file).unwrap();
                fs::write(file, "new\n").unwrap();
            },
            is_stale: true,
            next: Ok("new\n"),
            kept: "old\n",
        },
    ];
    for change in changes {
        check(&with_file("old\n").path().join("file"), true, &change);
    }
}

fn a_directory_that_changes() {
    let changes = [
        Change {
            change: |directory| {
                fs::remove_file(directory.join("file")).unwrap();
                fs::write(directory.join("file"), "new\n").unwrap();
            },
            is_stale: false,
            next: Ok("new\n"),
            kept: "new\n",
        },
        Change {
            change: |directory| fs::rename(directory, directory.with_file_name("moved")).unwrap(),
            is_stale: true,
            next: Err(libc::ENOENT),
            kept: "old\n",
        },
        Change {
            change: |directory| {
                fs::rename(directory, directory.with_file_name("moved")).unwrap();
                fs::create_dir(directory).unwrap();
                fs::write(directory.join("file"), "new\n").unwrap();
            },
            is_stale: true,
            next: Ok("new\n"),
            kept: "old\n",
        },
    ];
    for change in changes {
        let above = with_file("");
        let source = above.path().join("source");
        fs::create_dir(&source).unwrap();
        fs::write(source.join("file"), "old\n").unwrap();
        check(&source, false, &change);
    }
}

fn a_link_that_changes() {
    let above = with_file("new\n");
    let old = above.path().join("old");
    fs::create_dir(&old).unwrap();
    fs::write(old.join("file"), "old\n").unwrap();
    let link = above.path().join("current");
    std::os::unix::fs::symlink("old", &link).unwrap();
    let change = Change {
        change: |link| {
            fs::remove_file(link).unwrap();
            std::os::unix::fs::symlink(".", link).unwrap();
        },
        is_stale: true,
        next: Ok("new\n"),
        kept: "old\n",
    };
    check(&link, false, &change);
}

fn several_that_change() {
    let directories: Vec<_> = (0..3).map(|_| with_file("x")).collect();
    let mut sandbox = Sandbox::new();
    for (number, directory) in directories.iter().enumerate() {
        sandbox = sandbox.bind_ro(directory.path(), format!("/in/{number}"));
        // Twice is once.
        sandbox = sandbox.bind_ro(directory.path(), format!("/again/{number}"));
    }
    let prepared = sandbox.prepare().unwrap();
    let mut paths = Vec::new();
    let mut directories = directories.into_iter();
    let _first = directories.next();
    for directory in directories {
        paths.push(directory.path().to_owned());
        directory.close().unwrap();
    }
    paths.sort();
    assert_eq!(prepared.stale_sources(), paths);
    assert_eq!(prepared.clone().stale_sources(), paths);
    // What a program that was asked for needs is looked at as well.
    let copy = with_file("");
    let program = copy.path().join("true");
    fs::copy("/bin/true", &program).unwrap();
    let prepared = Sandbox::new().program(&program).prepare().unwrap();
    assert!(prepared.command(&program).status().unwrap().outcome.is_success());
    fs::remove_file(&program).unwrap();
    assert_eq!(prepared.stale_sources(), [program]);
}

/// A file system of a test's own, unmounted with this.
struct Mounted(std::path::PathBuf);

impl Mounted {
    fn on(path: &Path, content: &str) -> Self {
        let arguments = ["-t", "tmpfs", "-o", "mode=755", "tmpfs"];
        let mut mount = std::process::Command::new("mount");
        assert!(mount.args(arguments).arg(path).status().unwrap().success());
        let mounted = Mounted(path.to_owned());
        fs::create_dir(path.join("sub")).unwrap();
        for directory in [path, &path.join("sub")] {
            fs::write(directory.join("file"), content).unwrap();
        }
        mounted
    }
}

fn unmount(path: &Path) {
    assert!(std::process::Command::new("umount").arg(path).status().unwrap().success());
}

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(std::process::Command::new("umount").args(["-l", "-q"]).arg(&self.0).status());
    }
}

fn what_is_mounted() {
    let source = with_file("old\n");
    let _mounted = Mounted(source.path().to_owned());
    let change = Change {
        change: |path| std::mem::forget(Mounted::on(path, "new\n")),
        is_stale: true,
        next: Ok("new\n"),
        kept: "old\n",
    };
    check(source.path(), false, &change);
}

fn what_is_unmounted() {
    let changes = [
        Change { change: unmount, is_stale: true, next: Err(libc::ESTALE), kept: "old\n" },
        // By now something else is there.
        Change {
            change: |path| {
                unmount(path);
                std::mem::forget(Mounted::on(path, "new\n"));
            },
            is_stale: true,
            next: Ok("new\n"),
            kept: "old\n",
        },
    ];
    for change in changes {
        let directory = with_file("below");
        let _mounted = Mounted::on(directory.path(), "old\n");
        check(directory.path(), false, &change);
    }
    // The path is there without it as well.
    let directory = with_file("below");
    fs::create_dir(directory.path().join("sub")).unwrap();
    fs::write(directory.path().join("sub/file"), "below\n").unwrap();
    let _mounted = Mounted::on(directory.path(), "old\n");
    let unmounted = Change {
        change: |path| unmount(path.parent().unwrap()),
        is_stale: true,
        next: Err(libc::ESTALE),
        kept: "old\n",
    };
    check(&directory.path().join("sub"), false, &unmounted);
}

fn a_root_that_is_unmounted() {
    let directory = with_file("below");
    let _mounted = Mounted::on(directory.path(), "old\n");
    let rootfs = stockade::Rootfs::directory(directory.path());
    let prepared = Sandbox::new().rootfs(rootfs).bind_ro("/usr", "/usr").prepare().unwrap();
    unmount(directory.path());
    let error = prepared.command("true").spawn().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ESTALE), "{error}");
    assert!(error.to_string().contains("it was unmounted since it was prepared"), "{error}");
    assert_eq!(prepared.stale_sources(), [directory.path()]);
}
