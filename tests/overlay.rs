//! Overlays: layers, uppers, what of them is refused, and what comes out.
#![allow(
    clippy::exit,
    clippy::incompatible_msrv,
    reason = "a test process, built by a current toolchain"
)]
#![allow(unsafe_code, reason = "mounts of the test's own")]
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
#[path = "common/life.rs"]
mod life;
#[path = "common/mounts.rs"]
mod mounts;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::Needs;
use common::ways::Ways;
use inside::{open_directory, refused, sh, sh_fails, shell};
use mounts::{mount, own_mounts};
use stockade::{Child, Error, Hint, Outcome, Overlay, Rootfs, Sandbox, Stage};

tests_in_all_ways! {
    Needs::Nothing => only_waiting [
        order_of_layers, throw_away_upper, size_limit, inode_limit, kept_upper_is_the_callers,
        kept_upper_as_a_layer, read_only, read_only_with_one_layer, two_hundred_layers, five_hundred_layers,
        odd_names, host_paths_do_not_show, layers_that_overlap, missing_layer, layer_is_a_file, missing_upper,
        relative_layers, overlay_over_a_bind, bind_in_an_overlay, mount_points_in_an_overlay, root_layers,
        root_layers_read_only, no_exec, submounts_are_refused, mode_of_the_root,
        setuid_and_devices_are_without_effect, overlay_as_a_layer, layers_bound_elsewhere, mounts_are_locked,
    ];
    // With an upper that the next one of a pool has as well.
    Needs::Nothing => alone [
        kept_upper, kept_upper_again, upper_in_a_forked_copy, upper_in_use, root_layers_kept, several_overlays,
        sixty_four_threads, sigkill_leaves_nothing_but_the_upper, detached_keeps_its_upper, upper_that_overlaps,
        upper_with_a_file_in_the_way, failed_spawn_leaves_no_work,
    ];
    Needs::Nothing => alone [invalid_overlays, check_leaves_nothing];
    Needs::TmpfsAttributes => only_waiting [whiteouts_and_opaque_directories, renamed_directory, xattrs_show];
    Needs::Root => only_waiting [files_of_others, without_a_user_namespace, as_the_hosts_root];
}

/// A directory with these files in it.
fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = open_directory();
    for (name, content) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    directory
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn over(path: &str, overlay: Overlay) -> Sandbox {
    Sandbox::new().overlay(path, overlay)
}

fn run(sandbox: &Sandbox, script: &str) -> Child {
    let mut child = sandbox.way_to("sh").args(["-ec", script]).spawn().unwrap();
    assert_eq!(child.wait().unwrap().outcome, Outcome::Exited(0), "{script}");
    child
}

fn order_of_layers() {
    let base = tree(&[("a", "1"), ("b", "1"), ("c", "1"), ("d/x", "1")]);
    let tools = tree(&[("b", "2"), ("c", "2"), ("d/y", "2")]);
    let project = tree(&[("c", "3"), ("d/z", "3")]);
    let sandbox = over("/w", Overlay::new([base.path(), tools.path(), project.path()]));
    assert_eq!(sh(&sandbox, "cd /w; cat a b c d/x d/y d/z; ls d"), "123123x\ny\nz\n");
}

fn throw_away_upper() {
    let base = tree(&[("a", "1"), ("d/x", "1")]);
    let sandbox = over("/w", Overlay::new([base.path()]));
    for _ in 0..2 {
        let script = "cd /w; printf 2 >>a; rm d/x; rmdir d; touch n; cat a";
        assert_eq!(sh(&sandbox, script), "12");
    }
    assert_eq!(names(base.path()), ["a", "d"]);
    assert_eq!(fs::read_to_string(base.path().join("a")).unwrap(), "1");
}

fn size_limit() {
    let base = tree(&[]);
    let sandbox = over("/w", Overlay::new([base.path()]).size(1 << 20));
    sh(&sandbox, "head -c 512K /dev/zero >/w/a");
    sh_fails(&sandbox, "head -c 2M /dev/zero >/w/a", "No space left");
    let status = sandbox.way_to("sh").args(["-c", "head -c 2M /dev/zero >/w/a"]).status().unwrap();
    let full: Vec<_> = status.disk_full.iter().map(|full| full.mount.as_path()).collect();
    assert_eq!(full, [Path::new("/w")]);
}

fn inode_limit() {
    let base = tree(&[]);
    let sandbox = over("/w", Overlay::new([base.path()]).inodes(20));
    sh(&sandbox, "cd /w; touch 1 2 3");
    sh_fails(&sandbox, "cd /w; for i in $(seq 20); do touch $i || exit; done", "No space left");
}

fn kept_upper() {
    let (base, kept) = (tree(&[("a", "1"), ("b", "1")]), open_directory());
    let sandbox = over("/w", Overlay::new([base.path()]).upper(kept.path()));
    sh(&sandbox, "cd /w; printf 2 >a; rm b; mkdir d; printf 3 >d/n; mkdir m; chmod 0 m");
    // Without a work directory, and without one that cannot be removed.
    assert_eq!(names(kept.path()), ["upper"]);
    let upper = kept.path().join("upper");
    assert_eq!(names(&upper), ["a", "b", "d", "m"]);
    assert_eq!(fs::read_to_string(upper.join("a")).unwrap(), "2");
    assert_eq!(fs::read_to_string(upper.join("d/n")).unwrap(), "3");
    assert!(fs::symlink_metadata(upper.join("b")).unwrap().file_type().is_char_device());
    assert_eq!(names(base.path()), ["a", "b"]);
    fs::set_permissions(upper.join("m"), fs::Permissions::from_mode(0o700)).unwrap();
}

fn kept_upper_again() {
    let (base, kept) = (tree(&[("a", "1"), ("b", "1")]), open_directory());
    let sandbox = over("/w", Overlay::new([base.path()]).upper(kept.path()));
    sh(&sandbox, "cd /w; printf 2 >a; rm b");
    assert_eq!(sh(&sandbox, "cd /w; cat a; ls; printf 3 >b"), "2a\n");
    assert_eq!(sh(&sandbox, "cd /w; cat a b"), "23");
}

fn kept_upper_is_the_callers() {
    let (base, kept) = (tree(&[("a", "1")]), open_directory());
    let sandbox = over("/w", Overlay::new([base.path()]).upper(kept.path()));
    let script = "cd /w; printf 2 >a; touch n; mkdir d; test -O n -a -O a -a -O d -a -O .";
    sh(&sandbox, script);
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    for name in ["a", "n", "d", ""] {
        let found = kept.path().join("upper").join(name).metadata().unwrap();
        assert_eq!((found.uid(), found.gid()), (uid, gid), "{name}");
    }
}

fn kept_upper_as_a_layer() {
    let (base, kept) = (tree(&[("a", "1"), ("b", "1"), ("d/x", "1")]), open_directory());
    let sandbox = over("/w", Overlay::new([base.path()]).upper(kept.path()));
    sh(&sandbox, "cd /w; rm b; rm -r d; mkdir d; touch d/y");
    let upper = kept.path().join("upper");
    let next = over("/w", Overlay::new([base.path(), upper.as_path()]));
    assert_eq!(sh(&next, "cd /w; echo * d/*"), "a d d/y\n");
}

fn read_only() {
    let (base, top) = (tree(&[("a", "1")]), tree(&[("b", "2")]));
    let sandbox = over("/w", Overlay::new([base.path(), top.path()]).read_only());
    assert_eq!(sh(&sandbox, "cat /w/a /w/b"), "12");
    for script in ["touch /w/n", "rm /w/a", "chmod 600 /w/b", "mkdir /w/d"] {
        sh_fails(&sandbox, script, "Read-only file system");
    }
}

fn read_only_with_one_layer() {
    let base = tree(&[("a", "1")]);
    let sandbox = over("/w", Overlay::new([base.path()]).read_only());
    assert_eq!(sh(&sandbox, "cat /w/a; ls /w"), "1a\n");
}

fn whiteouts_and_opaque_directories() {
    let base = tree(&[("d/x", "1"), ("e/x", "1"), ("f", "1")]);
    let sandbox = over("/w", Overlay::new([base.path()]));
    let script =
        "cd /w; rm f; mkdir f; rm -r d; mkdir d; touch d/y; rm -r e; echo e >e; ls d f; cat e";
    assert_eq!(sh(&sandbox, script), "d:\ny\n\nf:\ne\n");
}

/// With `userxattr` the kernel does not redirect; mv copies then.
fn renamed_directory() {
    let base = tree(&[("d/x", "1")]);
    let sandbox = over("/w", Overlay::new([base.path()]));
    assert_eq!(sh(&sandbox, "cd /w; mv d e; cat e/x; ls"), "1e\n");
}

fn many_layers(count: usize) -> (tempfile::TempDir, Vec<PathBuf>) {
    let all = open_directory();
    let layers: Vec<_> = (0..count).map(|number| all.path().join(format!("{number}"))).collect();
    for (number, layer) in layers.iter().enumerate() {
        fs::create_dir(layer).unwrap();
        fs::write(layer.join(format!("own{number}")), "").unwrap();
        fs::write(layer.join("last"), format!("{number}\n")).unwrap();
    }
    (all, layers)
}

fn two_hundred_layers() {
    let (_all, layers) = many_layers(200);
    let sandbox = over("/w", Overlay::new(layers));
    assert_eq!(sh(&sandbox, "cat /w/last; ls /w | wc -l"), "199\n201\n");
}

fn five_hundred_layers() {
    let (_all, layers) = many_layers(500);
    let sandbox = over("/w", Overlay::new(&layers));
    assert_eq!(sh(&sandbox, "cat /w/last; ls /w | wc -l"), "499\n501\n");
    let error = refused(&over("/w", Overlay::new(layers.iter().chain([&"/usr".into()]))));
    assert!(error.to_string().contains("501 layers"), "{error}");
}

fn odd_names() {
    let all = open_directory();
    let odd = ["a:b", "c,d", r"e\f", "g h", "i=j", "\"k\"", "l\nm", "lowerdir+=n"];
    let layers: Vec<_> = odd.iter().map(|name| all.path().join(name)).collect();
    for (number, layer) in layers.iter().enumerate() {
        fs::create_dir(layer).unwrap();
        fs::write(layer.join(number.to_string()), "").unwrap();
    }
    let kept = all.path().join("up:per,dir\\");
    fs::create_dir(&kept).unwrap();
    let sandbox = over("/w :,\\", Overlay::new(layers).upper(&kept));
    assert_eq!(sh(&sandbox, r"cd '/w :,\'; touch new; echo *"), "0 1 2 3 4 5 6 7 new\n");
    assert!(kept.join("upper/new").exists());
}

fn host_paths_do_not_show() {
    let (base, kept) = (tree(&[]), open_directory());
    let sandbox = over("/w", Overlay::new([base.path()]).upper(kept.path()))
        .overlay("/v", Overlay::new([base.path()]))
        .allow_nesting();
    let table = sh(&sandbox, "cat /proc/self/mountinfo");
    assert_eq!(table.matches(" - overlay overlay ").count(), 2, "{table}");
    // Neither is the host's root, nor anything of it that the default does not have.
    let mounts = |table: &str| table.lines().count();
    assert_eq!(mounts(&table), 2 + mounts(&sh(&Sandbox::new(), "cat /proc/self/mountinfo")));
    for path in [base.path(), kept.path()] {
        assert!(!table.contains(path.file_name().unwrap().to_str().unwrap()), "{table}");
    }
    // Neither the layers nor the place where they were attached is there.
    assert_eq!(table.lines().filter(|line| line.contains("/l0")).count(), 0, "{table}");
}

fn error_of(overlay: Overlay) -> (String, Option<Hint>) {
    let error = refused(&over("/w", overlay));
    assert_eq!(error.stage(), Some(Stage::Prepare), "{error}");
    (error.to_string(), error.hint().cloned())
}

fn layers_that_overlap() {
    let base = tree(&[("in/x", "1")]);
    let inner = base.path().join("in");
    let link = open_directory();
    symlink(&inner, link.path().join("link")).unwrap();
    for pair in [
        [base.path().to_owned(), inner.clone()],
        [inner.clone(), base.path().to_owned()],
        [inner.clone(), inner.clone()],
        [link.path().join("link"), base.path().to_owned()],
    ] {
        let (text, hint) = error_of(Overlay::new(&pair));
        assert_eq!(hint, Some(Hint::LayersOverlap), "{text}");
        assert!(text.contains(inner.to_str().unwrap()), "{text}");
    }
}

fn upper_that_overlaps() {
    let base = tree(&[("in/x", "1"), ("layer/y", "1")]);
    for (layer, upper) in [("", "in"), ("in", ""), ("in", "in")] {
        let (layer, upper) = (base.path().join(layer), base.path().join(upper));
        let (text, hint) = error_of(Overlay::new([layer]).upper(upper));
        assert_eq!(hint, Some(Hint::LayersOverlap), "{text}");
    }
    assert_eq!(names(base.path()), ["in", "layer"]);
    assert_eq!(names(&base.path().join("in")), ["x"]);
}

fn upper_in_use() {
    let (base, kept) = (tree(&[]), open_directory());
    let sandbox = over("/w", Overlay::new([base.path()]).upper(kept.path()));
    let mut first = sandbox.way_to("sleep").arg("1000").spawn().unwrap();
    assert_eq!(names(kept.path()), ["upper", "work"]);
    let (text, hint) = error_of(Overlay::new([base.path()]).upper(kept.path()));
    assert_eq!(hint, Some(Hint::UpperInUse), "{text}");
    first.kill().unwrap();
    first.wait().unwrap();
    // Until the handle is gone, which removes the work directory.
    drop(first);
    sh(&sandbox, "touch /w/n");
    assert_eq!(names(kept.path()), ["upper"]);
}

/// A copy of this process has the lock's descriptor, too: its drop leaves it alone, and it does not
/// keep the lock.
fn upper_in_a_forked_copy() {
    let (base, kept) = (tree(&[]), open_directory());
    let sandbox = over("/w", Overlay::new([base.path()]).upper(kept.path()));
    let first = sandbox.way_to("sleep").arg("1000").spawn().unwrap();
    // SAFETY: exactly one of the two is dropped in each process.
    let mut copied = Some(unsafe { std::ptr::read(&raw const first) });
    life::join(life::fork(|| drop(copied.take())));
    std::mem::forget(copied);
    assert_eq!(refused(&sandbox).hint(), Some(&Hint::UpperInUse));
    let (waits, ends) = std::io::pipe().unwrap();
    let number = std::os::fd::AsRawFd::as_raw_fd(&ends);
    let copy = life::fork(|| {
        // SAFETY: the copy's own number; the original keeps its end.
        unsafe { libc::close(number) };
        let _end = (&waits).read(&mut [0]);
    });
    drop(first);
    sh(&sandbox, "touch /w/n");
    assert_eq!(names(kept.path()), ["upper"]);
    drop(ends);
    life::join(copy);
}

fn missing_layer() {
    let (text, _) = error_of(Overlay::new(["/usr", "/no/such/layer"]));
    assert!(text.starts_with("open layer \"/no/such/layer\": no such file"), "{text}");
}

fn layer_is_a_file() {
    let base = tree(&[("a", "1")]);
    let (text, _) = error_of(Overlay::new([base.path().join("a")]));
    assert!(text.contains("not a directory"), "{text}");
}

fn missing_upper() {
    let base = tree(&[]);
    let (text, _) = error_of(Overlay::new([base.path()]).upper("/no/such/upper"));
    assert!(text.starts_with("open upper \"/no/such/upper\": no such file"), "{text}");
}

fn upper_with_a_file_in_the_way() {
    for name in ["upper", "work"] {
        let (base, kept) = (tree(&[]), tree(&[(name, "")]));
        let (text, _) = error_of(Overlay::new([base.path()]).upper(kept.path()));
        assert!(text.contains("not a directory"), "{text}");
        // A link is none, either.
        let (base, kept) = (tree(&[("in/x", "1")]), open_directory());
        symlink(base.path().join("in"), kept.path().join(name)).unwrap();
        let (text, _) = error_of(Overlay::new([base.path()]).upper(kept.path()));
        assert!(text.contains("create in upper"), "{text}");
        assert_eq!(names(&base.path().join("in")), ["x"]);
    }
}

fn invalid_overlays() {
    let none: [&str; 0] = [];
    let sandbox = over("relative", Overlay::new(none))
        .overlay("/a", Overlay::new(["/usr"]).size(0))
        .overlay("/b", Overlay::new(["/usr"]).read_only().size(1))
        .overlay("/c", Overlay::new([""]).inodes(0));
    let Error::Invalid(problems) = sandbox.plan().unwrap_err() else { panic!("all at once") };
    assert_eq!(problems.len(), 6, "{problems:?}");
    let many = (0..17).fold(Sandbox::new(), |sandbox, number| {
        sandbox.overlay(format!("/{number}"), Overlay::new(["/usr"]))
    });
    assert!(many.plan().unwrap_err().to_string().contains("17 overlays"));
}

fn failed_spawn_leaves_no_work() {
    let (base, kept) = (tree(&[]), open_directory());
    let sandbox = over("/w", Overlay::new([base.path()]).upper(kept.path()));
    sandbox.way_to("/no/such/program").spawn().unwrap_err();
    assert!(names(kept.path()).is_empty());
    sh(&sandbox, "touch /w/n");
    sandbox.way_to("/no/such/program").spawn().unwrap_err();
    assert_eq!(names(kept.path()), ["upper"]);
}

fn relative_layers() {
    let base = tree(&[("l/a", "1")]);
    fs::create_dir(base.path().join("k")).unwrap();
    std::env::set_current_dir(base.path()).unwrap();
    let sandbox = over("/w", Overlay::new(["l"]).upper("k"));
    assert_eq!(sh(&sandbox, "cat /w/a; touch /w/n"), "1");
    assert!(base.path().join("k/upper/n").exists());
}

fn several_overlays() {
    let (base, kept) = (tree(&[("a", "1")]), open_directory());
    let sandbox = over("/u", Overlay::new([base.path()]))
        .overlay("/v", Overlay::new([base.path()]).upper(kept.path()))
        .overlay("/w", Overlay::new([base.path()]));
    let child = run(&sandbox, "touch /u/1; touch /v/2; touch /w/3; rm /w/a");
    let text = |path| child.changes(path).unwrap().to_string();
    assert_eq!(text("/u"), "added \"1\"\n");
    assert_eq!(text("/v"), "added \"2\"\n");
    assert_eq!(text("/w"), "added \"3\"\ndeleted \"a\"\n");
}

fn overlay_over_a_bind() {
    let (bound, base) = (tree(&[("in/a", "1")]), tree(&[("b", "2")]));
    let sandbox =
        Sandbox::new().bind_ro(bound.path(), "/w").overlay("/w/in", Overlay::new([base.path()]));
    assert_eq!(sh(&sandbox, "ls /w/in"), "b\n");
    let sandbox =
        Sandbox::new().bind_ro(bound.path(), "/w").overlay("/w/out", Overlay::new([base.path()]));
    assert_eq!(refused(&sandbox).hint(), Some(&Hint::CreateMountPoint));
}

fn bind_in_an_overlay() {
    let (base, bound) = (tree(&[("in/a", "1")]), tree(&[("b", "2")]));
    let sandbox = over("/w", Overlay::new([base.path()])).bind_ro(bound.path(), "/w/in");
    assert_eq!(sh(&sandbox, "ls /w/in"), "b\n");
}

fn mount_points_in_an_overlay() {
    let (base, kept, bound) = (tree(&[]), open_directory(), tree(&[("b", "2")]));
    let sandbox = over("/w", Overlay::new([base.path()])).bind_ro(bound.path(), "/w/new/deep");
    assert_eq!(sh(&sandbox, "ls /w/new/deep"), "b\n");
    let keeping = Overlay::new([base.path()]).upper(kept.path());
    let sandbox = over("/w", keeping).bind_ro(bound.path(), "/w/new");
    assert_eq!(refused(&sandbox).hint(), Some(&Hint::CreateMountPoint));
    assert!(names(base.path()).is_empty() && names(kept.path()).is_empty());
}

/// The host's programs, at least.
fn with_programs(mut sandbox: Sandbox) -> Sandbox {
    for path in ["/usr", "/bin", "/sbin", "/lib", "/lib64"] {
        if Path::new(path).exists() {
            sandbox = sandbox.bind_same(path);
        }
    }
    sandbox
}

fn root_layers() {
    let (base, tools) =
        (tree(&[("etc/name", "base\n")]), tree(&[("opt/tool", "#!/bin/sh\necho t\n")]));
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(tools.path().join("opt/tool"), mode).unwrap();
    let sandbox = with_programs(Sandbox::new().rootfs(Rootfs::layers([base.path(), tools.path()])));
    let script = "cat /etc/name; /opt/tool; echo x >/etc/name; echo y >/tmp/y; pwd; ls /proc/self/fd >/dev/null";
    let child = run(&sandbox, script);
    let changes = child.changes("/").unwrap();
    assert!(changes.to_string().contains("modified \"etc/name\"\n"), "{changes}");
    assert!(!changes.iter().any(|change| change.path.starts_with("tmp/y")), "{changes}");
    assert_eq!(sh(&sandbox, "cat /etc/name; /opt/tool; pwd"), "base\nt\n/home/user\n");
    assert_eq!(names(base.path()), ["etc"]);
    let output = shell(&sandbox, "grep -c overlay /proc/self/mountinfo");
    assert_eq!(output.stdout, b"1\n");
}

const PLACES: [&str; 9] =
    ["proc/x", "dev/x", "tmp/x", "usr/x", "bin/x", "sbin/x", "lib/x", "lib64/x", "etc/x"];

fn root_layers_kept() {
    let (base, kept) = (tree(&PLACES.map(|name| (name, ""))), open_directory());
    let overlay = Overlay::new([base.path()]).upper(kept.path());
    let sandbox = with_programs(Sandbox::new().rootfs(Rootfs::overlay(overlay.clone())));
    assert_eq!(sh(&sandbox, "echo y >/etc/x; touch /n; pwd; echo z > /tmp/z"), "/tmp\n");
    let text = "added \"etc/x\"\n";
    assert_eq!(
        overlay.changes().unwrap().to_string(),
        text.replace("added", "modified") + "added \"n\"\n"
    );
    assert_eq!(names(kept.path()), ["upper"]);
    assert_eq!(names(&kept.path().join("upper")), ["etc", "n"]);
}

fn root_layers_read_only() {
    let base = tree(&PLACES.map(|name| (name, "")));
    let overlay = Overlay::new([base.path()]).read_only();
    let sandbox = with_programs(Sandbox::new().rootfs(Rootfs::overlay(overlay)));
    sh_fails(&sandbox, "touch /n", "Read-only file system");
    sh(&sandbox, "touch /tmp/n");
}

fn no_exec() {
    let base = tree(&[("tool", "#!/bin/sh\n")]);
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(base.path().join("tool"), mode).unwrap();
    sh(&over("/w", Overlay::new([base.path()])), "/w/tool");
    sh_fails(&over("/w", Overlay::new([base.path()]).no_exec()), "/w/tool", "ermission denied");
}

fn sixty_four_threads() {
    let (_all, layers) = many_layers(10);
    let layers = &layers;
    // While such a sandbox is made, a root caller has some thirty descriptors open for it.
    let limit = libc::rlimit { rlim_cur: 4096, rlim_max: 4096 };
    // SAFETY: a limit of this process, which runs this test only.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
    let before = fs::read_dir("/proc/self/fd").unwrap().count();
    std::thread::scope(|scope| {
        for number in 0..64 {
            scope.spawn(move || {
                let kept = open_directory();
                let sandbox = over("/v", Overlay::new(layers).upper(kept.path()))
                    .overlay("/w", Overlay::new(layers));
                let script =
                    format!("cat /w/last; echo by {number} >/w/last; echo by {number} >/v/last");
                let mut child = sandbox.way_to("sh").args(["-ec", &script]).spawn().unwrap();
                assert!(child.wait().unwrap().outcome.is_success());
                let text = fs::read_to_string(kept.path().join("upper/last")).unwrap();
                assert_eq!(text, format!("by {number}\n"));
                let changes = child.changes("/w").unwrap();
                assert_eq!(changes.to_string(), "modified \"last\"\n");
                drop((changes, child));
                assert_eq!(names(kept.path()), ["upper"]);
            });
        }
    });
    let left = fs::read_dir("/proc/self/fd").unwrap().count();
    // What is kept for the life of the process: the init program, the warden, a mapping.
    assert!(left <= before + 8, "{before} -> {left}");
    for (number, layer) in layers.iter().enumerate() {
        assert_eq!(fs::read_to_string(layer.join("last")).unwrap(), format!("{number}\n"));
    }
}

fn sigkill_leaves_nothing_but_the_upper() {
    if let Some(directory) = std::env::var_os("STOCKADE_OVERLAY_EMBEDDER") {
        let directory = PathBuf::from(directory);
        let overlay = Overlay::new([directory.join("base")]).upper(directory.join("kept"));
        let script = "touch /w/n; echo ready; sleep 1000";
        let sandbox = over("/w", overlay).overlay("/v", Overlay::new([directory.join("base")]));
        let mut child = sandbox
            .way_to("sh")
            .args(["-c", script])
            .stdout(stockade::Stdio::piped())
            .spawn()
            .unwrap();
        let mut word = [0; 6];
        child.stdout.take().unwrap().read_exact(&mut word).unwrap();
        println!("{}", child.id());
        std::io::stdout().flush().unwrap();
        child.wait().unwrap();
        panic!("not killed");
    }
    let directory = tree(&[("base/a", "1")]);
    fs::create_dir(directory.path().join("kept")).unwrap();
    let mut embedder = Command::new(std::env::current_exe().unwrap())
        .env("STOCKADE_TEST_CHILD", "sigkill_leaves_nothing_but_the_upper")
        .env("STOCKADE_OVERLAY_EMBEDDER", directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut output = std::io::BufReader::new(embedder.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut output, &mut line).unwrap();
    embedder.kill().unwrap();
    embedder.wait().unwrap();
    let process = PathBuf::from(format!("/proc/{}", line.trim()));
    while process.exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let kept = directory.path().join("kept");
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains("/kept"));
    // What is left is in the caller's own directory, can be removed, and is used again.
    assert_eq!(names(&kept), ["upper", "work"]);
    let overlay = Overlay::new([directory.path().join("base")]).upper(&kept);
    assert_eq!(overlay.changes().unwrap().to_string(), "added \"n\"\n");
    assert_eq!(sh(&over("/w", overlay), "ls /w"), "a\nn\n");
    assert_eq!(names(&kept), ["upper"]);
    directory.close().unwrap();
}

fn submounts_are_refused() {
    own_mounts();
    let base = tree(&[("sub/covered", "1"), ("a", "1")]);
    mount("tmpfs", &base.path().join("sub"), "mode=0777", 0);
    fs::write(base.path().join("sub/seen"), "").unwrap();
    let (text, hint) = error_of(Overlay::new([base.path()]));
    assert_eq!(hint, Some(Hint::LayerSubmounts), "{text}");
    assert!(text.contains(base.path().join("sub").to_str().unwrap()), "{text}");
    let without = over("/w", Overlay::new([base.path()]).without_submounts());
    if inside::is_root() {
        assert_eq!(sh(&without, "ls /w /w/sub"), "/w:\na\nsub\n\n/w/sub:\ncovered\n");
    } else {
        // They would show what is covered.
        assert_eq!(refused(&without).hint(), Some(&Hint::LayerSubmounts));
    }
    // The mount itself can be a layer. Before Linux 6.3 a tmpfs keeps its owners.
    let sandbox = over("/w", Overlay::new([base.path().join("sub")]));
    assert_eq!(sh(&sandbox.best_effort(stockade::Feature::IdMappedMounts), "ls /w"), "seen\n");
}

fn mode_of_the_root() {
    let (base, top) = (tree(&[]), tree(&[]));
    fs::set_permissions(top.path(), fs::Permissions::from_mode(0o1770)).unwrap();
    for kept in [None, Some(open_directory())] {
        let mut overlay = Overlay::new([base.path(), top.path()]);
        if let Some(kept) = &kept {
            overlay = overlay.upper(kept.path());
        }
        assert_eq!(sh(&over("/w", overlay), "stat -c %a /w"), "1770\n");
    }
}

fn setuid_and_devices_are_without_effect() {
    let base = tree(&[("a", "1")]);
    let child =
        run(&over("/w", Overlay::new([base.path()])), "grep ' /w ' /proc/self/mountinfo >/tmp/m");
    let table = std::io::read_to_string(child.open_output("/tmp/m").unwrap()).unwrap();
    assert!(table.contains("nosuid") && table.contains("nodev"), "{table}");
}

fn set_attribute(path: &Path, name: &str, value: &str) -> bool {
    let text = |text: &str| std::ffi::CString::new(text).unwrap();
    let (path, name) = (text(path.to_str().unwrap()), text(name));
    let (data, length) = (value.as_ptr().cast(), value.len());
    // SAFETY: texts that end in NUL, and a value with its length.
    unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), data, length, 0) == 0 }
}

fn xattrs_show() {
    let base = tree(&[("a", "1"), ("b", "1"), ("d/x", "1"), ("e/x", "1")]);
    assert!(set_attribute(&base.path().join("a"), "user.note", "one"), "the test needs xattrs");
    let top = tree(&[("d/y", "1"), ("e/y", "1")]);
    assert!(set_attribute(&top.path().join("d"), "user.overlay.opaque", "y"));
    let sandbox = over("/w", Overlay::new([base.path(), top.path()]));
    // An opaque directory of a layer's hides what is below it.
    assert_eq!(sh(&sandbox, "cd /w; echo d/* e/*"), "d/y e/x e/y\n");
    let copied = run(&sandbox, "cd /w; echo more >>a; chmod 640 b");
    let changes = copied.changes("/w").unwrap();
    let mode = fs::metadata(base.path().join("b")).unwrap().mode() & 0o7777;
    let text = format!("modified \"a\"\nchanged \"b\": mode {mode:04o} -> 0640\n");
    assert_eq!(changes.to_string(), text);
}

fn overlay_as_a_layer() {
    own_mounts();
    let (all, place) = (tree(&[("a/x", "1"), ("b/y", "1")]), open_directory());
    let path = |name: &str| all.path().join(name).to_str().unwrap().to_owned();
    let options = format!("lowerdir={}:{},userxattr", path("a"), path("b"));
    mount("overlay", place.path(), &options, 0);
    let sandbox = over("/w", Overlay::new([place.path()]));
    if inside::is_root() {
        // An overlay cannot map ids.
        assert_eq!(refused(&sandbox).hint(), Some(&Hint::NoIdMapping));
        let sandbox = sandbox.best_effort(stockade::Feature::IdMappedMounts);
        assert_eq!(sh(&sandbox, "cd /w; echo *"), "x y\n");
    } else {
        assert_eq!(sh(&sandbox, "cd /w; echo *; touch z"), "x y\n");
    }
    // One on top of that is one too many for the kernel.
    let second = open_directory();
    let other = all.path().join("b");
    let options = format!("lowerdir={}:{},userxattr", place.path().display(), other.display());
    mount("overlay", second.path(), &options, 0);
    let sandbox =
        over("/w", Overlay::new([second.path()])).best_effort(stockade::Feature::IdMappedMounts);
    assert_eq!(refused(&sandbox).hint(), Some(&Hint::OverlayLayers));
}

fn check_leaves_nothing() {
    let (base, kept) = (tree(&[]), open_directory());
    over("/w", Overlay::new([base.path()]).upper(kept.path())).check().unwrap();
    assert!(names(kept.path()).is_empty());
}

fn detached_keeps_its_upper() {
    let (base, kept) = (tree(&[]), open_directory());
    let sandbox = over("/w", Overlay::new([base.path()]).upper(kept.path()));
    let child = sandbox.way_to("sleep").arg("1000").spawn().unwrap();
    let pid = child.id();
    child.detach().unwrap();
    assert_eq!(refused(&sandbox).hint(), Some(&Hint::UpperInUse));
    // SAFETY: numbers only; the process is a child of this one, not yet reaped.
    assert_eq!(unsafe { libc::kill(pid as i32, libc::SIGKILL) }, 0);
    // Reaped with the next spawn.
    while fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z")) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

/// The same directory by another mount: only the kernel sees that.
fn layers_bound_elsewhere() {
    own_mounts();
    let (base, place) = (tree(&[("in/a", "1")]), open_directory());
    let bind = |from: &Path, to: &Path| {
        let text = |path: &Path| std::ffi::CString::new(path.to_str().unwrap()).unwrap();
        let (from, to, none) = (text(from), text(to), std::ptr::null());
        // SAFETY: texts that end in NUL; a bind takes no data.
        unsafe { libc::mount(from.as_ptr(), to.as_ptr(), none, libc::MS_BIND, none.cast()) }
    };
    assert_eq!(bind(base.path(), place.path()), 0);
    let sandbox = over("/w", Overlay::new([base.path().join("in"), place.path().to_owned()]));
    let error = refused(&sandbox);
    assert_eq!(error.hint(), Some(&Hint::LayersOverlap), "{error}");
    assert_eq!(error.raw_os_error(), Some(libc::ELOOP));
}

fn mounts_are_locked() {
    let base = tree(&[("a", "1")]);
    let sandbox = over("/w", Overlay::new([base.path()]).read_only())
        .capabilities([stockade::Capability::SYS_ADMIN]);
    for script in ["umount /w", "mount -o remount,rw /w", "mount -o remount,bind,rw /w"] {
        assert_ne!(shell(&sandbox, script).outcome, Outcome::Exited(0), "{script}");
    }
    assert_eq!(sh(&sandbox, "cat /w/a"), "1");
}

fn files_of_others() {
    let base = tree(&[("read", "1"), ("write", "1"), ("secret", "1"), ("gone", "1")]);
    for (name, mode) in [("read", 0o644), ("write", 0o666), ("secret", 0o600), ("gone", 0o600)] {
        let path = base.path().join(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        std::os::unix::fs::chown(&path, Some(33), Some(33)).unwrap();
    }
    let sandbox = over("/w", Overlay::new([base.path()]));
    sh_fails(&sandbox, "echo x >>/w/write", "ermission denied");
    sh_fails(&sandbox, "cat /w/secret", "ermission denied");
    sh_fails(&sandbox, "rm -f /w/gone", "Value too large");
    assert_eq!(sh(&sandbox, "cat /w/read"), "1");
}

fn without_a_user_namespace() {
    let (base, kept) = (tree(&[("a", "1")]), open_directory());
    let overlay = Overlay::new([base.path()]).upper(kept.path());
    let sandbox = over("/w", overlay.clone())
        .overlay("/v", Overlay::new([base.path()]))
        .namespaces(stockade::Namespaces::all() - stockade::Namespaces::USER);
    let child = run(&sandbox, "echo x >>/w/a; touch /w/n; echo x >>/v/a; test -O /w/n");
    assert_eq!(child.changes("/v").unwrap().to_string(), "modified \"a\"\n");
    assert_eq!(child.changes("/w").unwrap().to_string(), "modified \"a\"\nadded \"n\"\n");
    assert_eq!(kept.path().join("upper/n").metadata().unwrap().uid(), 0);
}

fn as_the_hosts_root() {
    let (base, kept) = (tree(&[("a", "1")]), open_directory());
    let overlay = Overlay::new([base.path()]).upper(kept.path());
    let sandbox = over("/w", overlay).overlay("/v", Overlay::new([base.path()])).as_host_root();
    let child = run(&sandbox, "echo x >>/w/a; touch /w/n; echo x >>/v/a");
    assert_eq!(child.changes("/v").unwrap().to_string(), "modified \"a\"\n");
    assert_eq!(child.changes("/w").unwrap().to_string(), "modified \"a\"\nadded \"n\"\n");
}
