//! What comes out: files opened from outside, the changes of an upper, and their export, from
//! programs that mean no good.
#![allow(
    clippy::exit,
    clippy::incompatible_msrv,
    reason = "a test process, built by a current toolchain"
)]
#![allow(unsafe_code, reason = "extended attributes of the test's own")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

mod common;
#[path = "common/inside.rs"]
mod inside;

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use common::Needs;
use common::ways::Ways;
use inside::{is_root, open_directory};
use stockade::{
    ChangeKind, Child, FileKind, Hint, IdMap, Namespaces, Outcome, Overlay, Rootfs, Sandbox, Stage,
    Stdio,
};

tests_in_all_ways! {
    Needs::Nothing => by_its_handle [
        while_it_runs, after_the_end, every_default_place, no_regular_files, links_cannot_lead_out,
        links_to_the_programs_own, link_to_a_foreign_file, link_races, magic_links, files_of_proc,
        dot_dot_stays_inside, missing_output, output_that_grows, leased_file_does_not_block,
    ];
    Needs::Nothing => alone [
        no_tree_of_its_own, mounts_that_are_gone, without_init, handle_dropped_frees_all, export_strips_setuid,
    ];
    Needs::Nothing => only_waiting [
        mounts_that_are_kept, covered_files_do_not_show, nested_mounts_are_not_seen, program_with_capabilities,
        output_of_an_overlay_root,
        unchanged_is_not_listed, changes_while_it_runs, same_size_other_content,
        kept_and_thrown_away_are_the_same, hostile_names, deep_tree_is_an_error, sparse_files,
        no_such_overlay, added_links_and_pipes,
        export_is_all_or_nothing,
        export_follows_no_link, export_keeps_hard_links,
        export_of_a_read_only_directory, export_of_a_changed_upper, export_of_very_long_names,
    ];
    Needs::TmpfsAttributes => only_waiting [
        all_kinds_of_changes, attribute_changes, replaced_directory, changes_are_sorted_and_comparable,
        export_all, export_some, export_replaces_nothing, export_parent_missing, export_of_what_was_deleted,
    ];
    Needs::Root => only_waiting [devices_are_not_exported, owners_of_several_ids];
}

fn spawn(sandbox: &Sandbox, script: &str) -> Child {
    let command = sandbox.way_to("sh").args(["-ec", script]).stdout(Stdio::piped());
    command.spawn().unwrap()
}

fn run(sandbox: &Sandbox, script: &str) -> Child {
    let mut child =
        sandbox.way_to("sh").args(["-ec", script]).stderr(Stdio::inherit()).spawn().unwrap();
    assert_eq!(child.wait().unwrap().outcome, Outcome::Exited(0), "{script}");
    child
}

fn read(child: &Child, path: &str) -> String {
    std::io::read_to_string(child.open_output(path).unwrap()).unwrap()
}

/// The error number and the hint of an output that is not opened.
fn not_opened(child: &Child, path: &str) -> (i32, Option<Hint>) {
    let error = child.open_output(path).unwrap_err();
    assert_eq!(error.stage(), Some(Stage::Run));
    assert!(error.to_string().starts_with("open output "), "{error}");
    (error.raw_os_error().unwrap(), error.hint().cloned())
}

/// Waits for a line of the program's.
fn wait_for_line(child: &mut Child) {
    child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
}

// ---- outputs -----------------------------------------------------------------------------------

fn while_it_runs() {
    let mut child = spawn(&Sandbox::new(), "echo one >/tmp/out; echo; sleep 1000");
    wait_for_line(&mut child);
    assert_eq!(read(&child, "/tmp/out"), "one\n");
}

fn after_the_end() {
    let child = run(&Sandbox::new(), "echo one >/tmp/out");
    assert_eq!(read(&child, "/tmp/out"), "one\n");
    // Again, and relative to the root.
    assert_eq!(read(&child, "tmp/out"), "one\n");
}

fn every_default_place() {
    let script = "echo a >/tmp/a; mkdir d; echo b >d/b; echo c >/dev/shm/c";
    let child = run(&Sandbox::new(), script);
    for (path, text) in [("/tmp/a", "a\n"), ("/home/user/d/b", "b\n"), ("/dev/shm/c", "c\n")] {
        assert_eq!(read(&child, path), text);
    }
}

fn no_regular_files() {
    let script = "cd /tmp; mkfifo fifo; mkdir d; echo >>f";
    let mut child = spawn(&Sandbox::new(), &format!("{script}; echo; sleep 1000"));
    wait_for_line(&mut child);
    // An opening of the FIFO would wait for a writer.
    let hint = Some(Hint::NoRegularFile);
    assert_eq!(not_opened(&child, "/tmp/fifo"), (libc::EINVAL, hint.clone()));
    assert_eq!(not_opened(&child, "/tmp/d"), (libc::EISDIR, hint.clone()));
    assert_eq!(not_opened(&child, "/"), (libc::EISDIR, hint.clone()));
    for device in ["/dev/null", "/dev/zero", "/dev/tty", "/dev/ptmx"] {
        let found = not_opened(&child, device);
        assert!(
            found == (libc::EINVAL, hint.clone()) || found.0 == libc::EACCES,
            "{device} {found:?}"
        );
    }
}

fn links_cannot_lead_out() {
    let outside = open_directory();
    fs::write(outside.path().join("secret"), "secret").unwrap();
    let path = outside.path().join("secret");
    let path = path.to_str().unwrap();
    let up = "../".repeat(20);
    let script = format!(
        "cd /tmp; ln -s {path} absolute; ln -s {up}{path} relative; ln -s {} directory; ln -s / root",
        outside.path().display()
    );
    let child = run(&Sandbox::new(), &script);
    for name in ["absolute", "relative", "directory/secret"] {
        assert_eq!(not_opened(&child, &format!("/tmp/{name}")).0, libc::ENOENT, "{name}");
    }
    // It is the root inside.
    assert_eq!(not_opened(&child, &format!("/tmp/root{path}")).0, libc::ENOENT);
}

fn links_to_the_programs_own() {
    let script =
        "cd /tmp; echo x >lib.so.1; ln -s lib.so.1 lib.so; mkdir d; ln -s d e; echo y >d/f";
    let child = run(&Sandbox::new(), script);
    assert_eq!(read(&child, "/tmp/lib.so"), "x\n");
    assert_eq!(read(&child, "/tmp/e/f"), "y\n");
}

/// A root caller may read what the program may not.
fn link_to_a_foreign_file() {
    let directory = open_directory();
    let secret = directory.path().join("secret");
    fs::write(&secret, "secret").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    if is_root() {
        std::os::unix::fs::chown(&secret, Some(12345), Some(12345)).unwrap();
    }
    let sandbox = Sandbox::new().bind_ro(directory.path(), "/srv");
    let mut child =
        spawn(&sandbox, "ln -s /srv/secret /tmp/out; cat /srv/secret || :; echo; sleep 1000");
    wait_for_line(&mut child);
    if is_root() {
        assert_eq!(not_opened(&child, "/tmp/out").0, libc::EACCES);
    } else {
        // The program can read it itself.
        assert_eq!(read(&child, "/tmp/out"), "secret");
    }
    let mut child = spawn(&Sandbox::new(), "ln -s /usr/bin/env /tmp/out; echo; sleep 1000");
    wait_for_line(&mut child);
    assert_eq!(not_opened(&child, "/tmp/out"), (libc::EACCES, Some(Hint::LinkToForeign)));
}

fn link_races() {
    let script = "cd /tmp; echo good >good; ln -s /usr/bin/env away; mkfifo pipe; echo
        while :; do
            ln good n; mv n out; cp -P away n; mv n out; ln pipe n; mv n out
        done";
    let mut child = spawn(&Sandbox::new(), script);
    wait_for_line(&mut child);
    let (mut opened, mut refused) = (0, 0);
    // A machine may ask thousands of times before the program's first `mv`.
    while opened < 100 || refused < 100 || opened + refused < 3000 {
        match child.open_output("/tmp/out") {
            Ok(mut file) => {
                let mut text = String::new();
                file.read_to_string(&mut text).unwrap();
                // Of the link's target only if that were the program's own.
                assert_eq!(text, "good\n");
                opened += 1;
            }
            Err(_) => refused += 1,
        }
    }
}

fn magic_links() {
    let mut child = spawn(
        &Sandbox::new(),
        "cd /tmp; echo x >f; exec 5<f; ln -s /proc/self/fd/5 a; ln -s /proc/1/root/tmp/f b; \
         ln -s /proc/$$/fd/5 c; ln -s /proc/$$/cwd/f d; echo; sleep 1000",
    );
    wait_for_line(&mut child);
    for name in ["a", "b", "c", "d"] {
        let (errno, _) = not_opened(&child, &format!("/tmp/{name}"));
        assert!([libc::ELOOP, libc::ENOENT, libc::EACCES].contains(&errno), "{name}: {errno}");
    }
    let _found = not_opened(&child, "/proc/self/exe");
    let _found = not_opened(&child, "/proc/1/exe");
}

fn files_of_proc() {
    let sandbox = Sandbox::new().proc(stockade::Proc::Full);
    let mut child = spawn(&sandbox, "echo; sleep 1000");
    wait_for_line(&mut child);
    for path in ["/proc/version", "/proc/cpuinfo", "/proc/sys/kernel/ostype"] {
        assert_eq!(not_opened(&child, path), (libc::EINVAL, Some(Hint::NoRegularFile)), "{path}");
    }
}

fn dot_dot_stays_inside() {
    let child = run(&Sandbox::new(), "echo x >/tmp/out");
    assert_eq!(read(&child, "/tmp/../../../tmp/out"), "x\n");
    assert_eq!(not_opened(&child, "/../../proc/version").0, libc::ENOENT);
}

fn missing_output() {
    let child = run(&Sandbox::new(), "true");
    assert_eq!(not_opened(&child, "/tmp/none"), (libc::ENOENT, None));
    assert_eq!(not_opened(&child, "/tmp/nul\0byte").0, libc::EINVAL);
    assert_eq!(not_opened(&child, "").0, libc::ENOENT);
}

fn no_tree_of_its_own() {
    let child = Sandbox::new()
        .namespaces(Namespaces::all() - Namespaces::MOUNT)
        .command("true")
        .spawn()
        .unwrap();
    assert_eq!(not_opened(&child, "/tmp/x"), (libc::ENOTSUP, Some(Hint::NoOwnTree)));
}

fn mounts_that_are_gone() {
    let bound = open_directory();
    fs::write(bound.path().join("f"), "x").unwrap();
    let sandbox = Sandbox::new().tmpfs("/scratch").bind_ro(bound.path().join("f"), "/bound");
    let script = "echo x >/scratch/out; ln -s /scratch/out /tmp/link; ln -s /bound /tmp/bound";
    let mut child = spawn(&sandbox, &format!("{script}; echo; sleep 1000"));
    wait_for_line(&mut child);
    assert_eq!(read(&child, "/scratch/out"), "x\n");
    assert_eq!(read(&child, "/tmp/link"), "x\n");
    assert_eq!(not_opened(&child, "/scratch/none"), (libc::ENOENT, None));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(not_opened(&child, "/scratch/out"), (libc::ESTALE, Some(Hint::KeepMounts)));
    // Its mount point is an empty file, which is not what was there.
    assert_eq!(not_opened(&child, "/bound"), (libc::ESTALE, Some(Hint::KeepMounts)));
    assert_eq!(not_opened(&child, "/tmp/bound"), (libc::ESTALE, Some(Hint::KeepMounts)));
}

fn mounts_that_are_kept() {
    let base = open_directory();
    let sandbox =
        Sandbox::new().tmpfs("/scratch").overlay("/w", Overlay::new([base.path()])).keep_mounts();
    for sandbox in [sandbox.clone(), sandbox.init(false)] {
        let child = run(&sandbox, "echo x >/scratch/out; echo y >/w/out; echo z >/tmp/out");
        let texts = ["/scratch/out", "/w/out", "/tmp/out"].map(|path| read(&child, path));
        assert_eq!(texts, ["x\n", "y\n", "z\n"]);
    }
}

/// What an image has where something else was mounted is not the program's.
fn covered_files_do_not_show() {
    let image = open_directory();
    for name in ["proc", "dev", "tmp", "usr", "bin", "lib", "lib64", "sbin"] {
        fs::create_dir(image.path().join(name)).unwrap();
    }
    fs::write(image.path().join("tmp/out"), "covered").unwrap();
    fs::write(image.path().join("plain"), "plain").unwrap();
    let mut sandbox = Sandbox::new().rootfs(Rootfs::directory(image.path()));
    for path in ["/usr", "/bin", "/sbin", "/lib", "/lib64"] {
        if Path::new(path).exists() {
            sandbox = sandbox.bind_same(path);
        }
    }
    let child = run(&sandbox, "! test -e /tmp/out; echo x >/tmp/out");
    assert_eq!(not_opened(&child, "/tmp/out"), (libc::ESTALE, Some(Hint::KeepMounts)));
    assert_eq!(read(&child, "/plain"), "plain");
    let child = run(&sandbox.keep_mounts(), "echo x >/tmp/out");
    assert_eq!(read(&child, "/tmp/out"), "x\n");
}

fn nested_mounts_are_not_seen() {
    let script = "mkdir /tmp/d; echo outer >/tmp/d/out
        unshare --user --map-root-user --mount sh -c \
            'mount -t tmpfs none /tmp/d; echo inner >/tmp/d/out; echo; exec sleep 1000'";
    let mut child = spawn(&Sandbox::new().allow_nesting(), script);
    wait_for_line(&mut child);
    assert_eq!(read(&child, "/tmp/d/out"), "outer\n");
}

fn output_that_grows() {
    let mut child = spawn(&Sandbox::new(), ": >/tmp/out; echo; exec cat /dev/zero >/tmp/out");
    wait_for_line(&mut child);
    let file = child.open_output("/tmp/out").unwrap();
    let mut some = Vec::new();
    file.take(4096).read_to_end(&mut some).unwrap();
    assert!(some.iter().all(|&byte| byte == 0));
}

/// Inside: takes a lease on a file, and never gives it up.
fn leased_file_does_not_block() {
    if inside::role().is_some() {
        fs::write("/tmp/out", "x").unwrap();
        let file = fs::OpenOptions::new().write(true).open("/tmp/out").unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
        // SAFETY: numbers only; the signal of a broken lease is ignored.
        unsafe { libc::signal(libc::SIGIO, libc::SIG_IGN) };
        // SAFETY: numbers only.
        assert_eq!(unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_WRLCK) }, 0);
        println!();
        loop {
            std::thread::park();
        }
    }
    let command = inside::myself(&Sandbox::new(), "leased_file_does_not_block", "inside");
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    wait_for_line(&mut child);
    assert_eq!(not_opened(&child, "/tmp/out").0, libc::EAGAIN);
}

fn without_init() {
    let child = run(&Sandbox::new().init(false), "echo one >/tmp/out");
    assert_eq!(read(&child, "/tmp/out"), "one\n");
}

fn program_with_capabilities() {
    use stockade::{Capabilities, Capability};
    let kept = Capabilities::keep([Capability::SYS_ADMIN]);
    let sandbox = Sandbox::new().capabilities(kept);
    // What it mounts is in a namespace of its own.
    let script =
        "mkdir /tmp/d; echo outer >/tmp/d/out; mount -t tmpfs none /tmp/d; echo inner >/tmp/d/out";
    let child = run(&sandbox, script);
    assert_eq!(read(&child, "/tmp/d/out"), "outer\n");
}

fn output_of_an_overlay_root() {
    let base = open_directory();
    let mut sandbox = Sandbox::new().rootfs(Rootfs::layers([base.path()]));
    for path in ["/usr", "/bin", "/sbin", "/lib", "/lib64"] {
        if Path::new(path).exists() {
            sandbox = sandbox.bind_same(path);
        }
    }
    let child = run(&sandbox, "mkdir /out; echo x >/out/file; echo y >/tmp/file");
    assert_eq!(read(&child, "/out/file"), "x\n");
    assert_eq!(not_opened(&child, "/tmp/file").0, libc::ESTALE);
    assert!(fs::read_dir(base.path()).unwrap().next().is_none());
}

fn handle_dropped_frees_all() {
    let base = open_directory();
    let sandbox = Sandbox::new().overlay("/w", Overlay::new([base.path()])).keep_mounts();
    run(&sandbox, "true");
    let descriptors = || fs::read_dir("/proc/self/fd").unwrap().count();
    let before = descriptors();
    for _ in 0..5 {
        let child = run(&sandbox, "echo x >/w/out");
        let _changes = child.changes("/w").unwrap();
        assert!(descriptors() > before);
    }
    assert_eq!(descriptors(), before);
}

// ---- changes -----------------------------------------------------------------------------------

fn layers() -> tempfile::TempDir {
    let base = open_directory();
    let path = base.path();
    for directory in ["gone", "replaced", "into-file", "kept"] {
        fs::create_dir(path.join(directory)).unwrap();
        fs::write(path.join(directory).join("file"), "x").unwrap();
    }
    for file in ["content", "deleted", "mode", "same", "into-directory", "into-link"] {
        fs::write(path.join(file), "text").unwrap();
        fs::set_permissions(path.join(file), fs::Permissions::from_mode(0o644)).unwrap();
    }
    symlink("target", path.join("link")).unwrap();
    base
}

fn over(base: &tempfile::TempDir) -> Sandbox {
    Sandbox::new().overlay("/w", Overlay::new([base.path()]))
}

const ALL: &str = "cd /w; echo more >>content; rm deleted; chmod 600 mode; rm -r gone replaced into-file
    mkdir replaced; echo y >replaced/new; echo f >into-file; rm into-directory; mkdir into-directory
    rm into-link; ln -s x into-link; rm link; ln -s other link; mkdir new; echo n >new/n; echo k >kept/k";

const LISTED: &str = "\
modified \"content\"
deleted \"deleted\"
deleted \"gone\"
modified \"into-directory\"
modified \"into-file\"
modified \"into-link\"
added \"kept/k\"
modified \"link\"
changed \"mode\": mode 0644 -> 0600
added \"new\"
added \"new/n\"
replaced \"replaced\"
added \"replaced/new\"
";

fn all_kinds_of_changes() {
    let base = layers();
    let child = run(&over(&base), ALL);
    let changes = child.changes("/w").unwrap();
    assert_eq!(changes.to_string(), LISTED);
    let of = |path: &str| changes.iter().find(|change| change.path == Path::new(path)).unwrap();
    assert_eq!((&of("gone").kind, of("gone").file), (&ChangeKind::Deleted, FileKind::Directory));
    assert_eq!(of("replaced").kind, ChangeKind::Opaque);
    assert_eq!(of("into-link").file, FileKind::Symlink);
}

fn attribute_changes() {
    let base = layers();
    if inside::role().is_some() {
        for (file, name) in [("/w/content", c"user.new"), ("/w/kept", c"user.dir")] {
            let file = std::ffi::CString::new(file).unwrap();
            // SAFETY: texts that end in NUL, and one byte.
            let result =
                unsafe { libc::setxattr(file.as_ptr(), name.as_ptr(), c"v".as_ptr().cast(), 1, 0) };
            assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
        }
        return;
    }
    let mut child = inside::myself(&over(&base), "attribute_changes", "inside").spawn().unwrap();
    assert!(child.wait().unwrap().outcome.is_success());
    let text =
        "changed \"content\": attributes \"user.new\"\nchanged \"kept\": attributes \"user.dir\"\n";
    assert_eq!(child.changes("/w").unwrap().to_string(), text);
}

/// What is given away inside belongs to ids of the host's, whichever upper it is in; of an export the
/// caller is the owner.
fn owners_of_several_ids() {
    use stockade::Capability;
    let (base, kept) = (layers(), open_directory());
    let ids = IdMap::new().ids(0, 100_000, 2000);
    let sandbox = Sandbox::new().id_map(ids).uid(0).gid(0);
    let sandbox = sandbox.capabilities([Capability::CHOWN, Capability::FOWNER, Capability::FSETID]);
    let script = "cd /w; chown 5:7 content; chgrp 9 kept; chown 0:0 same; chown -h 5:5 link
        touch new; chown 5:7 new; chmod 2755 kept";
    let text = "changed \"content\": owner 0:0 -> 100005:100007\n\
        changed \"kept\": mode 0755 -> 2755\nchanged \"kept\": owner 0:0 -> 0:100009\n\
        changed \"link\": owner 0:0 -> 100005:100005\nadded \"new\"\n";
    for overlay in [Overlay::new([base.path()]), Overlay::new([base.path()]).upper(kept.path())] {
        let child = run(&sandbox.clone().overlay("/w", overlay), script);
        let changes = child.changes("/w").unwrap();
        assert_eq!(changes.to_string(), text);
        let owner = ChangeKind::Owner { before: (0, 0), after: (100_005, 100_007) };
        assert_eq!(changes[0].kind, owner);
        let exported = open_directory();
        let out = exported.path().join("out");
        changes.export(&out, |_| true).unwrap();
        for name in ["content", "kept", "link", "new"] {
            let found = out.join(name).symlink_metadata().unwrap();
            assert_eq!((found.uid(), found.gid()), (0, 0), "{name}");
        }
        assert_eq!(fs::read_to_string(out.join("content")).unwrap(), "text");
        assert_eq!(fs::metadata(out.join("kept")).unwrap().mode() & 0o7777, 0o755);
        assert!(!out.join("same").exists());
    }
}

fn replaced_directory() {
    let base = layers();
    let script = "cd /w; rm -r replaced; mkdir -m 700 replaced; cp content replaced/file";
    let changes = run(&over(&base), script).changes("/w").unwrap().to_string();
    let mode = fs::metadata(base.path().join("replaced")).unwrap().mode() & 0o7777;
    let text = format!(
        "replaced \"replaced\"\nchanged \"replaced\": mode {mode:04o} -> 0700\nadded \"replaced/file\"\n"
    );
    assert_eq!(changes, text);
}

fn unchanged_is_not_listed() {
    let base = layers();
    let script =
        "cd /w; : >>content; touch same; chmod 600 mode; chmod 644 mode; printf text >deleted
        touch kept/new; rm kept/new; mkdir x; rmdir x; ln same same2; rm same2";
    let changes = run(&over(&base), script).changes("/w").unwrap();
    assert!(changes.is_empty(), "{changes}");
}

fn changes_are_sorted_and_comparable() {
    let base = layers();
    let one = run(&over(&base), ALL).changes("/w").unwrap();
    let same = run(&over(&base), ALL).changes("/w").unwrap();
    let other = run(&over(&base), &format!("{ALL}; touch zz")).changes("/w").unwrap();
    assert!(one == same && one != other);
    assert!(one.windows(2).all(|pair| pair[0] < pair[1]));
    assert_eq!(one.len() + 1, other.len());
}

fn changes_while_it_runs() {
    let base = layers();
    let mut child =
        spawn(&over(&base), "cd /w; echo; while :; do mkdir -p a/b/c; touch a/b/f; rm -r a; done");
    wait_for_line(&mut child);
    for _ in 0..200 {
        for change in &child.changes("/w").unwrap() {
            assert!(change.path.starts_with("a"), "{change}");
        }
    }
}

fn same_size_other_content() {
    let base = layers();
    let time = fs::metadata(base.path().join("content")).unwrap().modified().unwrap();
    let script =
        "cd /w; touch -r content /tmp/time; printf TEXT >content; touch -r /tmp/time content";
    let child = run(&over(&base), script);
    // Not even the time tells.
    assert_eq!(child.changes("/w").unwrap().to_string(), "modified \"content\"\n");
    assert_eq!(fs::metadata(base.path().join("content")).unwrap().modified().unwrap(), time);
}

fn kept_and_thrown_away_are_the_same() {
    let (base, kept) = (layers(), open_directory());
    let overlay = Overlay::new([base.path()]).upper(kept.path());
    let child = run(&Sandbox::new().overlay("/w", overlay.clone()), ALL);
    let changes = child.changes("/w").unwrap();
    drop(child);
    assert_eq!(changes.to_string(), LISTED);
    assert_eq!(changes, overlay.changes().unwrap());
}

fn hostile_names() {
    let base = layers();
    let script = r#"cd /w; touch -- "$(printf 'a\nadded "b"')" "$(printf '\377')" '..x' '-r' 'q"'"#;
    let child = run(&over(&base), script);
    let changes = child.changes("/w").unwrap();
    assert_eq!(changes.len(), 5);
    // One line for each, whatever is in the names.
    assert_eq!(changes.to_string().lines().count(), 5, "{changes}");
}

fn deep_tree_is_an_error() {
    let base = layers();
    let script = "cd /w; n=$(head -c 200 /dev/zero | tr '\\0' d)
        for i in $(seq 30); do mkdir $n; cd -P ./$n || exit 1; done 2>/dev/null; :";
    let child = run(&over(&base), script);
    let error = child.changes("/w").unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENAMETOOLONG), "{error}");
}

fn sparse_files() {
    let base = layers();
    let child =
        run(&over(&base), "cd /w; truncate -s 1T huge; echo end >>huge; truncate -s 1T hole");
    let changes = child.changes("/w").unwrap();
    assert_eq!(changes.to_string(), "added \"hole\"\nadded \"huge\"\n");
    let directory = open_directory();
    let out = directory.path().join("out");
    changes.export(&out, |_| true).unwrap();
    let found = fs::metadata(out.join("huge")).unwrap();
    assert_eq!(found.len(), (1 << 40) + 4);
    assert!(found.blocks() < 1000, "{}", found.blocks());
    let mut file = fs::File::open(out.join("huge")).unwrap();
    std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(1 << 40)).unwrap();
    assert_eq!(std::io::read_to_string(file).unwrap(), "end\n");
    assert_eq!(fs::metadata(out.join("hole")).unwrap().len(), 1 << 40);
}

fn no_such_overlay() {
    let base = layers();
    let read_only = Overlay::new([base.path()]).read_only();
    let child = run(&over(&base).overlay("/r", read_only), "true");
    for path in ["/", "/w/", "/tmp", "/r"] {
        let found = child.changes(path);
        // A slash at the end is the same path.
        assert_eq!(found.is_ok(), path == "/w/", "{path}");
    }
    assert_eq!(
        Overlay::new([base.path()]).changes().unwrap_err().raw_os_error(),
        Some(libc::ENOENT)
    );
}

fn added_links_and_pipes() {
    let base = layers();
    let child = run(&over(&base), "cd /w; ln -s /etc/shadow l; mkfifo p; ln same hard");
    let kinds: Vec<_> = child.changes("/w").unwrap().iter().map(|change| change.file).collect();
    assert_eq!(kinds, [FileKind::Regular, FileKind::Symlink, FileKind::Fifo]);
}

// ---- export ------------------------------------------------------------------------------------

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn export_all() {
    let (base, directory) = (layers(), open_directory());
    let out = directory.path().join("out");
    let child = run(&over(&base), ALL);
    child.changes("/w").unwrap().export(&out, |_| true).unwrap();
    assert_eq!(
        names(&out),
        [
            "content",
            "into-directory",
            "into-file",
            "into-link",
            "kept",
            "link",
            "mode",
            "new",
            "replaced"
        ]
    );
    let text = |name: &str| fs::read_to_string(out.join(name)).unwrap();
    assert_eq!(
        (text("content"), text("new/n"), text("kept/k")),
        ("textmore\n".into(), "n\n".into(), "k\n".into())
    );
    assert_eq!(names(&out.join("kept")), ["k"]);
    assert_eq!(fs::read_link(out.join("link")).unwrap(), Path::new("other"));
    let mode = fs::metadata(out.join("mode")).unwrap();
    assert_eq!(mode.mode() & 0o7777, 0o600);
    assert_eq!(mode.uid(), nix::unistd::geteuid().as_raw());
    assert_eq!(names(directory.path()), ["out"]);
}

fn export_some() {
    let (base, directory) = (layers(), open_directory());
    let out = directory.path().join("out");
    let child = run(&over(&base), ALL);
    let added = |change: &stockade::Change| change.kind == ChangeKind::Added;
    child.changes("/w").unwrap().export(&out, added).unwrap();
    assert_eq!(names(&out), ["kept", "new", "replaced"]);
    assert_eq!(names(&out.join("replaced")), ["new"]);
    let none = directory.path().join("none");
    child.changes("/w").unwrap().export(&none, |_| false).unwrap();
    assert!(names(&none).is_empty());
}

fn export_is_all_or_nothing() {
    let (base, directory) = (layers(), open_directory());
    let child = run(&over(&base), "cd /w; echo a >a; mkfifo b; echo c >c; chmod 500 kept; touch d");
    let changes = child.changes("/w").unwrap();
    let error = changes.export(directory.path().join("out"), |_| true).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOTSUP));
    assert!(error.to_string().starts_with("export \"b\": "), "{error}");
    assert!(names(directory.path()).is_empty());
    let out = directory.path().join("out");
    changes.export(&out, |change| change.file != FileKind::Fifo).unwrap();
    assert_eq!(names(&out), ["a", "c", "d", "kept"]);
}

fn export_replaces_nothing() {
    let (base, directory) = (layers(), open_directory());
    let changes = run(&over(&base), ALL).changes("/w").unwrap();
    let out = directory.path().join("out");
    fs::create_dir(&out).unwrap();
    assert_eq!(changes.export(&out, |_| true).unwrap_err().raw_os_error(), Some(libc::EEXIST));
    symlink("/nowhere", directory.path().join("dangling")).unwrap();
    let error = changes.export(directory.path().join("dangling"), |_| true).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EEXIST));
    // It is made meanwhile.
    let late = directory.path().join("late");
    let error = changes
        .export(&late, |_| {
            fs::create_dir_all(&late).unwrap();
            true
        })
        .unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EEXIST), "{error}");
    assert_eq!(names(directory.path()), ["dangling", "late", "out"]);
    assert!(names(&late).is_empty());
}

fn export_follows_no_link() {
    let (base, directory) = (layers(), open_directory());
    let victim = open_directory();
    let path = victim.path().display();
    // While it runs: names that are links now and directories then.
    let script = format!(
        "cd /w; echo; while :; do
            mkdir d; echo x >d/f; rm -r d; ln -s {path} d; rm d; done"
    );
    let mut child = spawn(&over(&base), &script);
    wait_for_line(&mut child);
    for number in 0..300 {
        let out = directory.path().join(number.to_string());
        match child.changes("/w").unwrap().export(&out, |_| true) {
            Ok(()) => {}
            Err(error) => assert!(!out.exists(), "{error}"),
        }
    }
    assert!(names(victim.path()).is_empty());
    // Links that stay are made as they are.
    let child = run(&over(&base), &format!("cd /w; ln -s {path} l; ln -s ../../.. up"));
    let out = directory.path().join("links");
    child.changes("/w").unwrap().export(&out, |_| true).unwrap();
    assert_eq!(fs::read_link(out.join("l")).unwrap(), victim.path());
    assert!(names(victim.path()).is_empty());
}

fn export_strips_setuid() {
    let (base, directory) = (layers(), open_directory());
    let script = "cd /w; cp /bin/sh s; chmod 6755 s; mkdir -m 3777 d; chmod 4644 mode";
    let changes = run(&over(&base), script).changes("/w").unwrap();
    assert!(changes.to_string().contains("mode 0644 -> 4644"), "{changes}");
    let out = directory.path().join("out");
    changes.export(&out, |_| true).unwrap();
    let mode = |name: &str| fs::metadata(out.join(name)).unwrap().mode() & 0o7777;
    assert_eq!([mode("s"), mode("d"), mode("mode")], [0o755, 0o777, 0o644]);
}

fn export_keeps_hard_links() {
    let (base, directory) = (layers(), open_directory());
    let script = "cd /w; head -c 1M /dev/zero >big; for i in $(seq 100); do ln big l$i; done";
    let out = directory.path().join("out");
    run(&over(&base), script).changes("/w").unwrap().export(&out, |_| true).unwrap();
    let found = fs::metadata(out.join("l100")).unwrap();
    assert_eq!((found.nlink(), found.len()), (101, 1 << 20));
}

fn export_of_a_read_only_directory() {
    let (base, directory) = (layers(), open_directory());
    let script = "cd /w; mkdir -p a/b; echo x >a/b/c; chmod 400 a/b/c; chmod 555 a/b a";
    let out = directory.path().join("out");
    run(&over(&base), script).changes("/w").unwrap().export(&out, |_| true).unwrap();
    assert_eq!(fs::read_to_string(out.join("a/b/c")).unwrap(), "x\n");
    for (name, mode) in [("a", 0o555), ("a/b", 0o555), ("a/b/c", 0o400)] {
        assert_eq!(fs::metadata(out.join(name)).unwrap().mode() & 0o7777, mode);
        fs::set_permissions(out.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
}

fn export_of_a_changed_upper() {
    let (base, kept) = (layers(), open_directory());
    let directory = open_directory();
    let overlay = Overlay::new([base.path()]).upper(kept.path());
    run(&Sandbox::new().overlay("/w", overlay.clone()), "echo x >/w/n");
    let changes = overlay.changes().unwrap();
    fs::remove_file(kept.path().join("upper/n")).unwrap();
    let export = |name| changes.export(directory.path().join(name), |_| true);
    assert_eq!(export("gone").unwrap_err().raw_os_error(), Some(libc::ESTALE));
    symlink("/etc/passwd", kept.path().join("upper/n")).unwrap();
    assert_eq!(export("link").unwrap_err().raw_os_error(), Some(libc::ESTALE));
    assert!(names(directory.path()).is_empty());
}

fn export_parent_missing() {
    let (base, directory) = (layers(), open_directory());
    let changes = run(&over(&base), ALL).changes("/w").unwrap();
    let out = directory.path().join("no/such/parent");
    assert_eq!(changes.export(out, |_| true).unwrap_err().raw_os_error(), Some(libc::ENOENT));
}

fn export_of_what_was_deleted() {
    let (base, directory) = (layers(), open_directory());
    let changes = run(&over(&base), "rm -r /w/gone /w/same").changes("/w").unwrap();
    let out = directory.path().join("out");
    changes.export(&out, |change| change.kind == ChangeKind::Deleted).unwrap();
    assert!(names(&out).is_empty());
}

fn export_of_very_long_names() {
    let (base, directory) = (layers(), open_directory());
    let script = "cd /w; n=$(head -c 255 /dev/zero | tr '\\0' n); mkdir $n; echo x >$n/$n";
    let out = directory.path().join("out");
    run(&over(&base), script).changes("/w").unwrap().export(&out, |_| true).unwrap();
    let name = "n".repeat(255);
    assert_eq!(fs::read_to_string(out.join(&name).join(&name)).unwrap(), "x\n");
}

/// A device in a kept upper, put there by somebody else: the program cannot.
fn devices_are_not_exported() {
    let (base, kept, directory) = (layers(), open_directory(), open_directory());
    let overlay = Overlay::new([base.path()]).upper(kept.path());
    run(&Sandbox::new().overlay("/w", overlay.clone()), "! mknod /w/d c 1 3 2>/dev/null");
    let path = std::ffi::CString::new(kept.path().join("upper/d").to_str().unwrap()).unwrap();
    // SAFETY: a text that ends in NUL.
    let made = unsafe { libc::mknod(path.as_ptr(), libc::S_IFCHR | 0o666, libc::makedev(1, 3)) };
    assert_eq!(made, 0);
    let changes = overlay.changes().unwrap();
    assert_eq!(changes[0].file, FileKind::Device);
    let error = changes.export(directory.path().join("out"), |_| true).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOTSUP));
    assert!(names(directory.path()).is_empty());
}
