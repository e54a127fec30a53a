//! The file tree: what of the host is visible inside, what is writable, and what links cannot do.
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
#[path = "common/mounts.rs"]
mod mounts;

use std::ffi::{CString, OsStr};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use common::Needs;
use common::ways::Ways;
use inside::{is_absent, open_directory, refused, sh, sh_fails, succeed};
use mounts::{mount, own_mounts};
use stockade::{Bind, Error, Hint, Outcome, Proc, Rootfs, Sandbox, Stage, Tmpfs};

tests_in_all_ways! {
    Needs::Nothing => [
        bind_ro_file, bind_ro_directory, bind_rw_file, bind_rw_directory, bind_same_path,
        read_only_reaches_submounts, writable_submounts, without_submounts,
        nosuid_and_nodev_are_set, no_exec_is_set, overlapping_binds, order_is_the_callers,
        the_last_bind_on_a_target_wins, tmpfs_size, tmpfs_inodes, tmpfs_mode, tmpfs_no_exec,
        file_as_data, file_modes, directory_as_data, symlink_as_data,
        planted_link_does_not_redirect_a_mount, planted_link_does_not_redirect_a_file,
        relative_planted_link_stays_inside, default_root_is_read_only,
        default_root_cannot_be_remounted, writable_places, one_budget, one_inode_budget, mqueue,
        no_mqueue_by_default, sysfs, no_proc, link_as_source_is_followed,
    ];
    Needs::Program("busybox") => [empty_root, directory_root, directory_root_writable];
    Needs::Root => [device_nodes, setuid_is_without_effect];
    Needs::Nothing => alone [
        relative_source, descriptors_as_sources, a_thousand_binds, invalid_paths_are_all_listed,
        limits_of_zero_are_invalid, missing_source, source_through_a_file, dangling_link_as_target,
        looping_link_as_target, an_exchanged_place_does_not_redirect_a_mount, file_over_directory,
        directory_over_file, missing_mount_point_in_a_bound_directory,
        missing_file_in_a_bound_directory, non_utf8_paths, existing_file_is_not_replaced, long_path,
        socket_and_fifo_as_source, too_many_tmpfs, debug_shows_no_contents,
    ];
    Needs::Program("busybox") => alone [directory_root_without_proc, directory_root_missing, directory_root_is_a_file];
}

fn cat(sandbox: &Sandbox, path: &str) -> String {
    succeed(sandbox.way_to("cat").arg(path))
}

fn with_file(content: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = open_directory();
    let file = directory.path().join("file");
    fs::write(&file, content).unwrap();
    (directory, file)
}

fn bind_ro_file() {
    let (_directory, file) = with_file("seen");
    let sandbox = Sandbox::new().bind_ro(&file, "/srv/deep/file");
    assert_eq!(cat(&sandbox, "/srv/deep/file"), "seen");
    sh_fails(&sandbox, "echo x >/srv/deep/file", "Read-only file system");
    fs::write(&file, "changed").unwrap();
    assert_eq!(cat(&sandbox, "/srv/deep/file"), "changed");
}

fn bind_ro_directory() {
    let (directory, file) = with_file("seen");
    let sandbox = Sandbox::new().bind_ro(directory.path(), "/srv");
    assert_eq!(cat(&sandbox, "/srv/file"), "seen");
    for script in ["touch /srv/new", "rm /srv/file", "chmod 600 /srv/file", "mkdir /srv/d"] {
        sh_fails(&sandbox, script, "Read-only file system");
    }
    assert_eq!(fs::read_to_string(file).unwrap(), "seen");
}

fn bind_rw_file() {
    let (_directory, file) = with_file("before");
    let sandbox = Sandbox::new().bind_rw(&file, "/srv/file");
    sh(&sandbox, "printf after >/srv/file");
    assert_eq!(fs::read_to_string(&file).unwrap(), "after");
}

fn bind_rw_directory() {
    let (directory, _file) = with_file("before");
    let sandbox = Sandbox::new().bind_rw(directory.path(), "/srv");
    sh(&sandbox, "printf made >/srv/new; mkdir /srv/d; rm /srv/file");
    let new = directory.path().join("new");
    assert_eq!(fs::read_to_string(&new).unwrap(), "made");
    assert_eq!(new.metadata().unwrap().uid(), nix::unistd::geteuid().as_raw());
    assert!(!directory.path().join("file").exists());
}

fn bind_same_path() {
    let (_directory, file) = with_file("same");
    let path = file.to_str().unwrap();
    let sandbox = Sandbox::new().bind_same(&file);
    assert_eq!(cat(&sandbox, path), "same");
    sh_fails(&Sandbox::new(), &format!("cat {path}"), "No such file");
}

fn relative_source() {
    let (directory, _file) = with_file("near");
    std::env::set_current_dir(directory.path()).unwrap();
    let sandbox = Sandbox::new().bind_ro("file", "/srv/file");
    assert_eq!(cat(&sandbox, "/srv/file"), "near");
}

/// A directory with a tmpfs in it, in which there is another.
fn with_submounts() -> tempfile::TempDir {
    own_mounts();
    let directory = open_directory();
    let mut place = directory.path().to_owned();
    for name in ["sub", "subsub"] {
        place.push(name);
        fs::create_dir(&place).unwrap();
        mount("tmpfs", &place, "mode=0777", 0);
        fs::write(place.join("file"), name).unwrap();
    }
    directory
}

/// Init, who may be the one to open it, has others.
fn descriptors_as_sources() {
    use std::os::fd::AsRawFd;
    let directory = open_directory();
    fs::write(directory.path().join("file"), "text").unwrap();
    let file = fs::File::open(directory.path().join("file")).unwrap();
    let open = fs::File::open(directory.path()).unwrap();
    for place in ["/dev/fd", "/proc/self/fd"] {
        let path = |fd: &fs::File| format!("{place}/{}", fd.as_raw_fd());
        let sandbox = Sandbox::new().bind_ro(path(&file), "/data").bind_ro(path(&open), "/srv");
        assert_eq!(sh(&sandbox, "cat /data /srv/file"), "texttext");
    }
    let (pipe, _end) = std::io::pipe().unwrap();
    for source in [format!("/dev/fd/{}", pipe.as_raw_fd()), "/dev/fd/4000".to_owned()] {
        let error = refused(&Sandbox::new().bind_ro(&source, "/data"));
        assert_eq!(error.stage(), Some(Stage::Prepare), "{error}");
        assert!(error.hint().is_none() && error.to_string().contains(&source), "{error}");
    }
}

fn read_only_reaches_submounts() {
    let directory = with_submounts();
    let sandbox = Sandbox::new().bind_ro(directory.path(), "/srv");
    assert_eq!(cat(&sandbox, "/srv/sub/file"), "sub");
    assert_eq!(cat(&sandbox, "/srv/sub/subsub/file"), "subsub");
    for place in ["/srv", "/srv/sub", "/srv/sub/subsub"] {
        sh_fails(&sandbox, &format!("touch {place}/new"), "Read-only file system");
    }
    fs::write(directory.path().join("sub/subsub/new"), "outside").unwrap();
}

fn writable_submounts() {
    let directory = with_submounts();
    let sandbox = Sandbox::new().bind_rw(directory.path(), "/srv");
    sh(&sandbox, "echo inside >/srv/sub/subsub/new");
    let new = directory.path().join("sub/subsub/new");
    assert_eq!(fs::read_to_string(&new).unwrap(), "inside\n");
    assert_eq!(new.metadata().unwrap().uid(), nix::unistd::geteuid().as_raw());
}

fn without_submounts() {
    let directory = with_submounts();
    let bind = Bind::read_only(directory.path(), "/srv").without_submounts();
    let sandbox = Sandbox::new().bind(bind);
    if inside::is_root() {
        assert_eq!(sh(&sandbox, "ls -A /srv/sub"), "");
    } else {
        // Mounts are locked in a user namespace that has not made them: none can be left out.
        let error = refused(&sandbox);
        assert!(error.to_string().contains(directory.path().to_str().unwrap()), "{error}");
    }
}

/// The options of a mount inside.
fn options(sandbox: &Sandbox, target: &str) -> Vec<String> {
    let table = cat(sandbox, "/proc/self/mountinfo");
    let line = table.lines().rfind(|line| line.split(' ').nth(4) == Some(target));
    let line = line.unwrap_or_else(|| panic!("{target} in {table}"));
    line.split(' ').nth(5).unwrap().split(',').map(str::to_owned).collect()
}

fn nosuid_and_nodev_are_set() {
    let (directory, file) = with_file("");
    let sandbox = Sandbox::new()
        .bind_ro(directory.path(), "/srv/ro")
        .bind_rw(directory.path(), "/srv/rw")
        .bind_ro(&file, "/srv/file")
        .tmpfs("/srv/tmpfs");
    for (target, access) in [
        ("/srv/ro", "ro"),
        ("/srv/rw", "rw"),
        ("/srv/file", "ro"),
        ("/srv/tmpfs", "rw"),
        ("/", "ro"),
        ("/usr", "ro"),
        ("/tmp", "rw"),
        ("/home/user", "rw"),
        ("/dev/shm", "rw"),
    ] {
        let options = options(&sandbox, target);
        for option in [access, "nosuid", "nodev"] {
            assert!(options.iter().any(|one| one == option), "{target}: {options:?}");
        }
    }
    let options = options(&sandbox, "/proc");
    assert!(options.iter().any(|one| one == "noexec"), "{options:?}");
}

/// A directory with a program in it.
fn with_program() -> tempfile::TempDir {
    let directory = open_directory();
    fs::copy("/bin/true", directory.path().join("program")).unwrap();
    directory
}

fn no_exec_is_set() {
    let directory = with_program();
    let bind = Bind::read_only(directory.path(), "/srv");
    let works = Sandbox::new().bind(bind.clone()).way_to("/srv/program").status().unwrap();
    assert_eq!(works.outcome, Outcome::Exited(0));
    let error = Sandbox::new().bind(bind.no_exec()).way_to("/srv/program").status().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EACCES), "{error}");
    assert!(error.to_string().contains("/srv/program"), "{error}");
}

fn overlapping_binds() {
    let (outer, _) = with_file("outer");
    let (inner, _) = with_file("inner");
    fs::create_dir(outer.path().join("sub")).unwrap();
    fs::write(outer.path().join("sub/mine"), "").unwrap();
    let sandbox = Sandbox::new().bind_ro(outer.path(), "/srv").bind_rw(inner.path(), "/srv/sub");
    assert_eq!(cat(&sandbox, "/srv/file"), "outer");
    assert_eq!(cat(&sandbox, "/srv/sub/file"), "inner");
    sh_fails(&sandbox, "touch /srv/x", "Read-only file system");
    sh(&sandbox, "test ! -e /srv/sub/mine && touch /srv/sub/x");
    assert!(inner.path().join("x").exists());
}

fn order_is_the_callers() {
    let (outer, _) = with_file("outer");
    let (inner, _) = with_file("inner");
    fs::create_dir(outer.path().join("sub")).unwrap();
    fs::write(outer.path().join("sub/file"), "outer's").unwrap();
    let sandbox = Sandbox::new().bind_rw(inner.path(), "/srv/sub").bind_ro(outer.path(), "/srv");
    assert_eq!(cat(&sandbox, "/srv/sub/file"), "outer's");
}

fn the_last_bind_on_a_target_wins() {
    let (one, _) = with_file("one");
    let (two, _) = with_file("two");
    let sandbox = Sandbox::new().bind_ro(one.path(), "/srv").bind_ro(two.path(), "/srv");
    assert_eq!(cat(&sandbox, "/srv/file"), "two");
}

fn a_thousand_binds() {
    let directory = open_directory();
    let mut sandbox = Sandbox::new();
    for number in 0..1000 {
        let file = directory.path().join(number.to_string());
        fs::write(&file, format!("content {number}")).unwrap();
        sandbox = sandbox.bind_ro(file, format!("/many/{number}"));
    }
    let script = "ls /many | wc -l; cat /many/0 /many/999; touch /many/7 2>&1 || echo refused";
    let seen = sh(&sandbox, script);
    assert!(seen.starts_with("1000\ncontent 0content 999"), "{seen}");
    assert!(seen.ends_with("refused\n"), "{seen}");
}

fn tmpfs_size() {
    let sandbox = Sandbox::new().mount_tmpfs(Tmpfs::new("/scratch").size(1 << 20).mode(0o777));
    sh(&sandbox, "head -c 900000 /dev/zero >/scratch/fits");
    sh_fails(&sandbox, "head -c 2000000 /dev/zero >/scratch/file", "No space left");
}

fn tmpfs_inodes() {
    let sandbox = Sandbox::new().mount_tmpfs(Tmpfs::new("/scratch").inodes(8).mode(0o777));
    sh(&sandbox, "cd /scratch && touch 1 2 3 4");
    sh_fails(&sandbox, "cd /scratch && touch 1 2 3 4 5 6 7 8 9", "No space left");
}

fn tmpfs_mode() {
    let sandbox = Sandbox::new()
        .mount_tmpfs(Tmpfs::new("/private").mode(0o700))
        .mount_tmpfs(Tmpfs::new("/public").mode(0o1777))
        .tmpfs("/default");
    let seen = sh(&sandbox, "stat -c %a /private /public /default; touch /private/x /default/x");
    assert_eq!(seen, "700\n1777\n755\n");
}

fn tmpfs_no_exec() {
    let with = |tmpfs: Tmpfs| Sandbox::new().mount_tmpfs(tmpfs);
    let script = "cp /bin/true /scratch/program && /scratch/program";
    sh(&with(Tmpfs::new("/scratch")), script);
    sh_fails(&with(Tmpfs::new("/scratch").no_exec()), script, "Permission denied");
}

fn file_as_data() {
    let data: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let sandbox = Sandbox::new().file("/srv/deep/data", data.clone()).file("/srv/empty", "");
    let output = sandbox.way_to("cat").args(["/srv/empty", "/srv/deep/data"]).output().unwrap();
    assert!(output.stdout == data);
    assert!(is_absent(Path::new("/srv/deep")));
    // The root that it is in is read-only.
    sh_fails(&sandbox, "echo x >/srv/empty", "Read-only file system");
}

fn file_modes() {
    let sandbox = Sandbox::new()
        .file("/srv/plain", "")
        .file_with_mode("/srv/private", "secret", 0o600)
        .file_with_mode("/srv/script", "#!/bin/sh\necho ran\n", 0o755);
    let seen = sh(&sandbox, "cd /srv; stat -c '%a' plain private script; cat private; ./script");
    assert_eq!(seen, "644\n600\n755\nsecretran\n");
}

fn directory_as_data() {
    let sandbox = Sandbox::new()
        .directory("/srv/one/private", 0o700)
        .directory("/srv/sticky", 0o1777)
        .directory("/tmp/more", 0o750);
    let script = "stat -c %a /srv/one /srv/one/private /srv/sticky /tmp/more; touch /tmp/more/x";
    assert_eq!(sh(&sandbox, script), "755\n700\n1777\n750\n");
}

fn symlink_as_data() {
    let sandbox = Sandbox::new()
        .file("/srv/file", "through")
        .symlink("../srv/file", "/opt/link")
        .symlink("/no/where", "/opt/dangling");
    let seen = sh(&sandbox, "cat /opt/link; echo; readlink /opt/dangling");
    assert_eq!(seen, "through\n/no/where\n");
}

fn problems(sandbox: &Sandbox) -> Vec<String> {
    match refused(sandbox) {
        Error::Invalid(problems) => problems,
        other => panic!("{other:?}"),
    }
}

fn invalid_paths_are_all_listed() {
    let sandbox = Sandbox::new()
        .bind_ro("/tmp", "/a/../b")
        .bind_ro("/tmp", "relative")
        .bind_rw("/tmp\0", "/nul-in-source")
        .tmpfs("/nul\0")
        .file("", "")
        .symlink("\0", "/link")
        .directory("/", 0o755);
    let problems = problems(&sandbox);
    for text in ["/a/../b", "\"relative\"", "/tmp\\0", "/nul\\0", "empty", "\"\\0\"", "rootfs"] {
        let found = problems.iter().any(|problem| problem.contains(text));
        assert!(found, "{text}: {problems:#?}");
    }
}

fn limits_of_zero_are_invalid() {
    let sandbox = Sandbox::new()
        .tmp_size(0)
        .mount_tmpfs(Tmpfs::new("/one").size(0))
        .mount_tmpfs(Tmpfs::new("/two").inodes(0));
    assert_eq!(problems(&sandbox).len(), 3);
}

fn missing_source() {
    for sandbox in [
        Sandbox::new().bind_ro("/no/such/source", "/srv"),
        Sandbox::new().bind_rw("/no/such/source", "/srv"),
    ] {
        let error = refused(&sandbox);
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT), "{error}");
        assert!(error.to_string().contains("/no/such/source"), "{error}");
    }
}

fn source_through_a_file() {
    let (_directory, file) = with_file("");
    let error = refused(&Sandbox::new().bind_ro(file.join("below"), "/srv"));
    assert_eq!(error.raw_os_error(), Some(libc::ENOTDIR), "{error}");
    assert!(error.to_string().contains("file/below"), "{error}");
}

/// A directory of the host's, writable inside, in which an earlier run planted a link.
fn planted(name: &str, target: impl AsRef<Path>) -> (tempfile::TempDir, Sandbox) {
    let directory = open_directory();
    symlink(target, directory.path().join(name)).unwrap();
    let sandbox = Sandbox::new().bind_rw(directory.path(), "/job");
    (directory, sandbox)
}

fn entries(directory: &Path) -> usize {
    fs::read_dir(directory).unwrap().count()
}

fn dangling_link_as_target() {
    let (_source, file) = with_file("content");
    let (directory, sandbox) = planted("link", "nowhere");
    let error = refused(&sandbox.bind_ro(file, "/job/link"));
    assert!(error.to_string().contains("/job/link"), "{error}");
    assert_eq!(entries(directory.path()), 1);
}

fn looping_link_as_target() {
    let (_source, file) = with_file("content");
    let (directory, sandbox) = planted("link", "link");
    for target in ["/job/link", "/job/link/below"] {
        let error = refused(&sandbox.clone().bind_ro(&file, target));
        assert_eq!(error.raw_os_error(), Some(libc::ELOOP), "{error}");
        assert!(error.to_string().contains(target), "{error}");
    }
    assert_eq!(entries(directory.path()), 1);
}

fn planted_link_does_not_redirect_a_mount() {
    let (_source, file) = with_file("content");
    let host = open_directory();
    for link in [host.path(), Path::new("/etc"), Path::new("/../../etc"), Path::new("/proc/1/root")]
    {
        let (_directory, sandbox) = planted("link", link);
        let sandbox = sandbox.bind_ro(&file, "/job/link/target");
        // Wherever it lands: nothing appears on the host, and what appears inside is the content.
        if let Ok(output) = sandbox.way_to("cat").arg("/job/link/target").output() {
            assert_eq!(output.stdout, b"content");
        }
        assert_eq!(entries(host.path()), 0);
        assert!(is_absent(Path::new("/etc/target")));
    }
}

fn planted_link_does_not_redirect_a_file() {
    let host = open_directory();
    let victim = host.path().join("victim");
    fs::write(&victim, "untouched").unwrap();
    let (directory, sandbox) = planted("link", host.path());
    symlink(&victim, directory.path().join("file")).unwrap();
    let before = entries(host.path());
    for path in ["/job/link/new", "/job/link/victim", "/job/file"] {
        let sandbox = sandbox.clone().file(path, "from the sandbox");
        drop(sandbox.way_to("true").status());
        assert_eq!(entries(host.path()), before, "{path}");
        assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched", "{path}");
    }
    drop(sandbox.clone().directory("/job/link/d", 0o777).way_to("true").status());
    drop(sandbox.symlink("x", "/job/link/l").way_to("true").status());
    assert_eq!(entries(host.path()), before);
}

fn relative_planted_link_stays_inside() {
    let (_source, file) = with_file("content");
    let up = "../".repeat(40) + "etc";
    let (_directory, sandbox) = planted("link", up);
    let sandbox = sandbox.bind_ro(&file, "/job/link/stockade-test");
    drop(sandbox.way_to("true").status());
    assert!(is_absent(Path::new("/etc/stockade-test")));
}

/// A program has one directory with the sandboxes that are being made, and exchanges what they mount on.
fn an_exchanged_place_does_not_redirect_a_mount() {
    let (_source, file) = with_file("content");
    let (host, shared) = (open_directory(), open_directory());
    fs::write(host.path().join("target"), "untouched").unwrap();
    fs::create_dir(shared.path().join("true")).unwrap();
    fs::write(shared.path().join("true/target"), "").unwrap();
    symlink(host.path(), shared.path().join("false")).unwrap();
    let sandbox = Sandbox::new().bind_rw(shared.path(), "/job");
    let exchange = "cd /job; while :; do mv -T true place && mv -T place true
        mv -T false place && mv -T place false; done";
    let hostile = sandbox.way_to("sh").args(["-c", exchange]).spawn().unwrap();
    let sandbox = sandbox.bind_ro(&file, "/job/place/target");
    let (mut mounted, mut refused) = (0, 0);
    // Both are seen sooner or later, however the processors are shared.
    while mounted == 0 || refused == 0 || mounted + refused < 200 {
        match sandbox.way_to("cat").arg("/job/place/target").output() {
            // By the time that it reads, the place may be another.
            Ok(output) => {
                assert!(["content", ""].contains(&&*String::from_utf8_lossy(&output.stdout)));
                mounted += 1;
            }
            Err(error) => {
                assert!(matches!(error, Error::Failed(_)), "{error}");
                refused += 1;
            }
        }
        assert_eq!(fs::read_to_string(host.path().join("target")).unwrap(), "untouched");
        assert_eq!(entries(host.path()), 1);
    }
    drop(hostile);
}

fn file_over_directory() {
    let (_source, file) = with_file("");
    let error = refused(&Sandbox::new().bind_ro(&file, "/tmp"));
    assert!(matches!(error, Error::Failed(_)), "{error}");
    assert!(error.to_string().contains("/tmp"), "{error}");
}

fn directory_over_file() {
    let directory = open_directory();
    let sandbox = Sandbox::new().file("/srv/file", "").bind_ro(directory.path(), "/srv/file");
    let error = refused(&sandbox);
    assert!(matches!(error, Error::Failed(_)), "{error}");
    assert!(error.to_string().contains("/srv/file"), "{error}");
}

fn missing_mount_point_in_a_bound_directory() {
    let (_source, file) = with_file("");
    let host = open_directory();
    for (target, sandbox) in [
        ("/srv/none", Sandbox::new().bind_ro(host.path(), "/srv")),
        ("/srv/none", Sandbox::new().bind_rw(host.path(), "/srv")),
        ("/srv/deep/none", Sandbox::new().bind_rw(host.path(), "/srv")),
    ] {
        for sandbox in [sandbox.clone().bind_ro(&file, target), sandbox.tmpfs(target)] {
            let error = refused(&sandbox);
            assert_eq!(error.hint(), Some(&Hint::CreateMountPoint), "{error}");
            assert!(error.to_string().contains(target), "{error}");
            assert_eq!(entries(host.path()), 0);
        }
    }
}

fn missing_file_in_a_bound_directory() {
    let host = open_directory();
    let with = |sandbox: Sandbox| sandbox.bind_rw(host.path(), "/srv");
    for sandbox in [
        with(Sandbox::new()).file("/srv/new", "data"),
        with(Sandbox::new()).directory("/srv/new", 0o755),
        with(Sandbox::new()).symlink("x", "/srv/new"),
    ] {
        let error = refused(&sandbox);
        assert!(error.to_string().contains("/srv/new"), "{error}");
        assert_eq!(error.hint(), Some(&Hint::InTheHosts), "{error}");
        assert_eq!(entries(host.path()), 0);
    }
}

fn non_utf8_paths() {
    let directory = open_directory();
    let name = OsStr::from_bytes(b"\xff\xfe name\n");
    let source = directory.path().join(name);
    fs::write(&source, "bytes").unwrap();
    let target = Path::new("/srv").join(name);
    let sandbox = Sandbox::new().bind_ro(&source, &target);
    assert_eq!(succeed(sandbox.way_to("cat").arg(&target)), "bytes");
    let error = refused(&Sandbox::new().bind_ro(source.join("no"), "/srv"));
    assert!(error.to_string().contains("\\xFF"), "{error}");
}

fn default_root_is_read_only() {
    let sandbox = Sandbox::new();
    for place in ["/x", "/usr/x", "/etc/x", "/bin/x", "/home/x"] {
        sh_fails(&sandbox, &format!("touch {place}"), "Read-only file system");
    }
    sh_fails(&sandbox, "mkdir /x", "Read-only file system");
}

fn default_root_cannot_be_remounted() {
    if inside::role().is_some() {
        for place in [c"/", c"/usr", c"/tmp"] {
            let flags = libc::MS_REMOUNT | libc::MS_BIND;
            let null = std::ptr::null();
            // SAFETY: the path is NUL-terminated; no other pointer is read.
            let result = unsafe { libc::mount(null, place.as_ptr(), null, flags, null.cast()) };
            assert_eq!(result, -1);
            let errno = std::io::Error::last_os_error().raw_os_error();
            assert_eq!(errno, Some(libc::EPERM), "{place:?}");
        }
        return;
    }
    let test = "default_root_cannot_be_remounted";
    succeed(inside::myself(&Sandbox::new(), test, "remount"));
}

fn writable_places() {
    let script = "for d in /tmp $HOME /dev/shm; do echo $d >$d/file && cat $d/file; done";
    assert_eq!(sh(&Sandbox::new(), script), "/tmp\n/home/user\n/dev/shm\n");
    // Each sandbox has its own.
    sh(&Sandbox::new(), "test ! -e /tmp/file && test ! -e /dev/shm/file");
}

fn one_budget() {
    let sandbox = Sandbox::new().tmp_size(1 << 20);
    let write = |place: &str| format!("head -c 600000 /dev/zero >{place}/file");
    for place in ["/tmp", "/home/user", "/dev/shm"] {
        sh(&sandbox, &write(place));
    }
    for (one, two) in [("/tmp", "/home/user"), ("/home/user", "/dev/shm"), ("/dev/shm", "/tmp")] {
        sh_fails(&sandbox, &format!("{} && {}", write(one), write(two)), "No space left");
    }
}

fn one_inode_budget() {
    let sandbox = Sandbox::new().tmp_inodes(200);
    let touch = |place: &str| format!("(cd {place} && touch $(seq 110))");
    sh(&sandbox, &touch("/tmp"));
    sh_fails(&sandbox, &format!("{}; {}", touch("/tmp"), touch("/dev/shm")), "No space left");
}

fn mqueue() {
    let sandbox = Sandbox::new().mqueue();
    let seen = sh(&sandbox, "touch /dev/mqueue/mine && ls /dev/mqueue");
    assert_eq!(seen, "mine\n");
    assert_eq!(sh(&sandbox, "ls /dev/mqueue"), "");
}

fn no_mqueue_by_default() {
    sh(&Sandbox::new(), "test ! -e /dev/mqueue");
}

fn sysfs() {
    let sandbox = Sandbox::new().sysfs();
    sh(&sandbox, "test -d /sys/kernel && test -z \"$(ls /sys/firmware 2>/dev/null)\"");
    let flags = options(&sandbox, "/sys");
    assert!(flags.iter().any(|one| one == "ro"), "{flags:?}");
    sh(&Sandbox::new(), "test ! -e /sys");
}

fn no_proc() {
    let sandbox = Sandbox::new().proc(Proc::None);
    sh(&sandbox, "test ! -e /proc/self && test ! -e /proc/1");
    sh(&Sandbox::new(), "test -e /proc/self && test -e /proc/$$");
}

fn existing_file_is_not_replaced() {
    let sandbox = Sandbox::new().file("/srv/file", "one").file("/srv/file", "two");
    let error = refused(&sandbox);
    assert_eq!(error.raw_os_error(), Some(libc::EEXIST), "{error}");
    assert!(error.to_string().contains("/srv/file"), "{error}");
}

fn link_as_source_is_followed() {
    let (directory, file) = with_file("behind the link");
    let link = directory.path().join("link");
    symlink(&file, &link).unwrap();
    let sandbox = Sandbox::new().bind_ro(&link, "/srv/file");
    assert_eq!(cat(&sandbox, "/srv/file"), "behind the link");
}

fn long_path() {
    let long = "/d".repeat(1900);
    assert_eq!(sh(&Sandbox::new().file(&long[..], "deep"), &format!("cat {long}")), "deep");
    let too_long = "/d".repeat(3000);
    let error = refused(&Sandbox::new().file(&too_long[..], "deep"));
    assert_eq!(error.raw_os_error(), Some(libc::ENAMETOOLONG), "{error}");
}

fn too_many_tmpfs() {
    let with = |count: usize| {
        let add = |sandbox: Sandbox, number| sandbox.tmpfs(format!("/srv/{number}"));
        (0..count).fold(Sandbox::new(), add)
    };
    sh(&with(200).proc(Proc::Full), "test -d /srv/199");
    let error = refused(&with(201));
    assert!(error.to_string().contains("201 tmpfs are more than 200"), "{error}");
}

/// What is given may be a secret, and values end in logs.
fn debug_shows_no_contents() {
    let sandbox = Sandbox::new().file("/srv/key", "hunter2");
    let command = sandbox.way_to("true").env("TOKEN", "hunter3");
    let text = format!("{sandbox:?} {command:?}");
    assert!(text.contains("/srv/key") && text.contains("TOKEN"), "{text}");
    let numbers = format!("{:?}", b"hunter2");
    assert!(!text.contains("hunter") && !text.contains(&numbers[1..numbers.len() - 1]), "{text}");
}

fn socket_and_fifo_as_source() {
    let directory = open_directory();
    let socket = directory.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let fifo = directory.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    let sandbox = Sandbox::new().bind_rw(&socket, "/srv/socket").bind_rw(&fifo, "/srv/fifo");
    sh(&sandbox, "test -S /srv/socket && test -p /srv/fifo");
}

fn busybox(name: &str, sandbox: &Sandbox, args: &[&str]) -> String {
    succeed(sandbox.way_to(name).args(args))
}

fn empty_root() {
    let sandbox =
        Sandbox::new().rootfs(Rootfs::empty()).bind_ro("/usr/bin/busybox", "/bin/busybox");
    let seen = busybox("busybox", &sandbox, &["ls", "-1", "/"]);
    assert_eq!(seen, "bin\ndev\nhome\nproc\ntmp\n");
    let error = Sandbox::new().rootfs(Rootfs::empty()).way_to("sh").spawn().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOENT), "{error}");
}

/// A directory to be a root, with busybox in it.
fn image() -> tempfile::TempDir {
    let image = open_directory();
    for name in ["bin", "proc", "dev", "tmp", "etc"] {
        fs::create_dir(image.path().join(name)).unwrap();
    }
    fs::copy("/usr/bin/busybox", image.path().join("bin/busybox")).unwrap();
    symlink("busybox", image.path().join("bin/sh")).unwrap();
    fs::write(image.path().join("etc/release"), "image").unwrap();
    image
}

fn directory_root() {
    let image = image();
    let sandbox = Sandbox::new().rootfs(Rootfs::directory(image.path()));
    let script = "busybox cat /etc/release; echo; pwd; busybox ls /; echo x >/tmp/x && \
        echo x >/dev/shm/x && echo x >/dev/null && busybox test -e /proc/self/exe; echo $HOME";
    assert_eq!(sh(&sandbox, script), "image\n/tmp\nbin\ndev\netc\nproc\ntmp\n/tmp\n");
    sh_fails(&sandbox, "echo x >/etc/new", "Read-only file system");
    assert!(is_absent(&image.path().join("tmp/x")));
    assert_eq!(entries(&image.path().join("dev")), 0);
}

fn directory_root_writable() {
    let image = image();
    let sandbox = Sandbox::new().rootfs(Rootfs::directory(image.path()).writable());
    sh(&sandbox, "echo new >/etc/new; echo x >/tmp/x");
    let new = image.path().join("etc/new");
    assert_eq!(fs::read_to_string(&new).unwrap(), "new\n");
    assert_eq!(new.metadata().unwrap().uid(), nix::unistd::geteuid().as_raw());
    assert!(is_absent(&image.path().join("tmp/x")));
}

fn directory_root_without_proc() {
    for missing in ["proc", "dev", "tmp"] {
        let image = image();
        fs::remove_dir(image.path().join(missing)).unwrap();
        for rootfs in [Rootfs::directory(image.path()), Rootfs::directory(image.path()).writable()]
        {
            let error = refused(&Sandbox::new().rootfs(rootfs));
            assert!(error.to_string().contains(&format!("/{missing}")), "{error}");
            assert_eq!(error.hint(), Some(&Hint::CreateMountPoint), "{error}");
            assert!(is_absent(&image.path().join(missing)));
        }
    }
}

fn directory_root_missing() {
    let error = refused(&Sandbox::new().rootfs(Rootfs::directory("/no/such/image")));
    assert_eq!(error.raw_os_error(), Some(libc::ENOENT), "{error}");
    assert!(error.to_string().contains("/no/such/image"), "{error}");
}

fn directory_root_is_a_file() {
    let (_directory, file) = with_file("");
    let error = refused(&Sandbox::new().rootfs(Rootfs::directory(&file)));
    assert!(matches!(error, Error::Failed(_)), "{error}");
    assert!(error.to_string().contains("/file"), "{error}");
}

fn device_nodes() {
    let directory = open_directory();
    let node = directory.path().join("null");
    let path = CString::new(node.as_os_str().as_bytes()).unwrap();
    let null = libc::makedev(1, 3);
    // SAFETY: the path is NUL-terminated.
    let made = unsafe { libc::mknod(path.as_ptr(), libc::S_IFCHR | 0o666, null) };
    assert_eq!(made, 0);
    fs::set_permissions(&node, fs::Permissions::from_mode(0o666)).unwrap();
    let bind = Bind::read_write(directory.path(), "/srv");
    sh_fails(&Sandbox::new().bind(bind.clone()), "echo >/srv/null", "Permission denied");
    sh(&Sandbox::new().bind(bind.with_devices()), "echo >/srv/null");
}

fn setuid_is_without_effect() {
    let directory = open_directory();
    let program = directory.path().join("id");
    fs::copy("/usr/bin/id", &program).unwrap();
    std::os::unix::fs::chown(&program, Some(1234), Some(1234)).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o6755)).unwrap();
    let sandbox = Sandbox::new().bind_ro(directory.path(), "/srv").allow_new_privileges();
    assert_eq!(succeed(sandbox.way_to("/srv/id").arg("-u")), "1000\n");
    let outside = std::process::Command::new(&program).arg("-u").output().unwrap();
    assert_eq!(outside.stdout, b"1234\n");
}
