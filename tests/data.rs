//! Files, directories and links given as data: what they hold, whom they belong to, what is told of them.
#![allow(
    clippy::exit,
    clippy::incompatible_msrv,
    clippy::cast_possible_truncation,
    reason = "a test process, built by a current toolchain"
)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails so")]

mod common;
#[path = "common/inside.rs"]
mod inside;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use common::Needs;
use common::ways::Ways;
use inside::{refused, sh, sh_fails};
use stockade::{Content, Data, Error, Hint, IdMap, Rootfs, Sandbox, Stage, Tmpfs};

tests_in_all_ways! {
    Needs::Nothing => [
        modes_and_kinds, set_id_bits, in_every_tree_of_its_own, nothing_in_the_hosts,
        a_file_in_memory, own_owner,
    ];
    Needs::Root => [owners, owners_of_a_private_tree];
    Needs::Nothing => alone [
        a_file_is_read_anew, a_pipe_is_read_once, position_stays, from_many_threads, sizes, endless,
        owners_that_are_not_there, contradictions, secrets_are_not_told,
        a_descriptor_of_a_directory, large_content,
    ];
}

fn modes_and_kinds() {
    let sandbox = Sandbox::new()
        .data(Data::directory("/srv/private").mode(0o710))
        .data(Data::file("/srv/private/file", "text").mode(0o640))
        .data(Data::file("/srv/run", "#!/bin/sh\necho ran\n").mode(0o755))
        .data(Data::file("/srv/plain", &b"\0\xff"[..]))
        .data(Data::symlink("private/file", "/srv/link"))
        .data(Data::symlink("/nowhere", "/srv/dangling"));
    let script = "cd /srv; stat -c '%n %a %F' private private/file run plain link; cat link; ./run; \
        od -An -tx1 plain; readlink dangling";
    let shown = "private 710 directory\nprivate/file 640 regular file\nrun 755 regular file\n\
        plain 644 regular file\nlink 777 symbolic link\ntextran\n 00 ff\n/nowhere\n";
    assert_eq!(sh(&sandbox, script), shown);
    sh_fails(&sandbox, "echo x >>/srv/plain", "Read-only file system");
    // In a writable place it is the program's to change.
    let sandbox = Sandbox::new().data(Data::file("/home/user/file", "before"));
    assert_eq!(sh(&sandbox, "echo after >file; cat file; rm file"), "after\n");
}

/// Directories have those that pass on their group; files have none.
fn set_id_bits() {
    let (uid, gid) = caller();
    let file = |path, mode| Data::file(path, "x").mode(mode);
    let sandbox = Sandbox::new()
        .data(Data::directory("/srv/shared").mode(0o2750))
        .data(Data::directory("/srv/own").mode(0o7711).owner(uid, gid))
        .data(Data::directory("/tmp").mode(0o3777))
        .data(file("/srv/shared/file", 0o6755))
        .data(file("/srv/file", 0o4700).owner(uid, gid))
        .file_with_mode("/srv/sticky", "", 0o7777);
    let script = "cd /srv; stat -c '%n %a' shared own /tmp shared/file file sticky
        mkdir /tmp/below; stat -c %A /tmp/below";
    let shown =
        "shared 2750\nown 7711\n/tmp 3777\nshared/file 755\nfile 700\nsticky 1777\ndrwxr-sr-x\n";
    assert_eq!(sh(&sandbox, script), shown);
}

fn in_every_tree_of_its_own() {
    let sandbox = Sandbox::new()
        .mount_tmpfs(Tmpfs::new("/scratch").mode(0o700))
        .data(Data::directory("/scratch/deep/down").mode(0o700))
        .data(Data::file("/scratch/deep/down/file", "found").mode(0o400));
    assert_eq!(sh(&sandbox, "cat /scratch/deep/down/file"), "found");
    // A directory that is there gets the mode.
    let sandbox = Sandbox::new().data(Data::directory("/tmp").mode(0o700));
    assert_eq!(sh(&sandbox, "stat -c %a /tmp"), "700\n");
}

fn nothing_in_the_hosts() {
    for data in [
        Data::file("/usr/new", ""),
        Data::directory("/usr/new"),
        Data::symlink("x", "/usr/new"),
        Data::directory("/usr").mode(0o700),
    ] {
        let error = refused(&Sandbox::new().data(data));
        assert_eq!(error.stage(), Some(Stage::Setup), "{error}");
        assert!(error.to_string().contains("/usr"), "{error}");
    }
    assert!(!Path::new("/usr/new").exists());
}

fn file_with(text: &str) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn a_file_is_read_anew() {
    let file = file_with("first");
    let mut other = file.try_clone().unwrap();
    let sandbox = Sandbox::new().data(Data::file("/srv/file", file));
    for _ in 0..2 {
        assert_eq!(sh(&sandbox, "cat /srv/file"), "first");
    }
    other.write_all(b" and second").unwrap();
    assert_eq!(sh(&sandbox, "cat /srv/file"), "first and second");
    other.set_len(0).unwrap();
    assert_eq!(sh(&sandbox, "cat /srv/file"), "");
}

fn pipe_with(text: &str) -> OwnedFd {
    let (reading, mut writing) = std::io::pipe().unwrap();
    writing.write_all(text.as_bytes()).unwrap();
    reading.into()
}

fn a_pipe_is_read_once() {
    let sandbox = Sandbox::new().data(Data::file("/srv/file", pipe_with("from a pipe")));
    let copy = sandbox.clone().hostname("other");
    assert_eq!(sh(&sandbox, "cat /srv/file"), "from a pipe");
    for sandbox in [&sandbox, &copy] {
        assert_eq!(sh(sandbox, "cat /srv/file"), "from a pipe");
    }
    assert_eq!(sandbox.plan().unwrap(), sandbox.plan().unwrap());
}

fn a_file_in_memory() {
    use nix::sys::memfd::{MFdFlags, memfd_create};
    let memory = memfd_create(c"content", MFdFlags::MFD_CLOEXEC).unwrap();
    File::from(memory.try_clone().unwrap()).write_all(b"in memory").unwrap();
    let sandbox = Sandbox::new().data(Data::file("/srv/file", memory));
    assert_eq!(sh(&sandbox, "cat /srv/file"), "in memory");
}

fn position_stays() {
    let file = file_with("0123456789");
    let mut other = file.try_clone().unwrap();
    other.seek(SeekFrom::Start(4)).unwrap();
    let sandbox = Sandbox::new().data(Data::file("/srv/file", file));
    assert_eq!(sh(&sandbox, "cat /srv/file"), "0123456789");
    let mut rest = String::new();
    other.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "456789");
}

fn from_many_threads() {
    let sandbox = Sandbox::new()
        .data(Data::file("/srv/file", file_with("a file")))
        .data(Data::file("/srv/pipe", pipe_with("a pipe")));
    std::thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| assert_eq!(sh(&sandbox, "cat /srv/*"), "a filea pipe"));
        }
    });
}

fn sizes() {
    let file = |content: Content| Sandbox::new().data(Data::file("/srv/file", content).max_size(5));
    let pipe = || Content::from(pipe_with("12345"));
    for content in [Content::from("12345"), file_with("12345").into(), pipe()] {
        assert_eq!(sh(&file(content), "cat /srv/file"), "12345");
    }
    let error = refused(&file("123456".into()));
    assert!(matches!(&error, Error::Invalid(problems) if problems.len() == 1), "{error}");
    for content in [Content::from(file_with("123456")), pipe_with("123456").into()] {
        let error = refused(&file(content));
        assert_eq!(error.raw_os_error(), Some(libc::EFBIG), "{error}");
        assert!(error.to_string().contains("\"/srv/file\""), "{error}");
    }
}

fn endless() {
    let error =
        refused(&Sandbox::new().data(Data::file("/srv/file", File::open("/dev/zero").unwrap())));
    assert_eq!((error.raw_os_error(), error.stage()), (Some(libc::EFBIG), Some(Stage::Prepare)));
}

fn caller() -> (u32, u32) {
    match inside::is_root() {
        true => (1000, 1000),
        false => (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()),
    }
}

fn owners_that_are_not_there() {
    let (uid, gid) = caller();
    for owner in [(uid + 1, gid), (uid, gid + 1), (0, 0)] {
        let data = Data::file("/srv/file", "").owner(owner.0, owner.1);
        let error = refused(&Sandbox::new().data(data));
        assert!(matches!(error, Error::Invalid(_)), "{error}");
        let text = format!("the owner {}:{} of \"/srv/file\" is no id inside", owner.0, owner.1);
        assert!(error.to_string().contains(&text), "{error}");
    }
}

fn own_owner() {
    let (uid, gid) = caller();
    let sandbox = Sandbox::new()
        .data(Data::file("/srv/file", "").owner(uid, gid))
        .data(Data::symlink("file", "/srv/link").owner(uid, gid));
    assert_eq!(
        sh(&sandbox, "stat -c %u:%g /srv/file /srv/link"),
        format!("{uid}:{gid}\n").repeat(2)
    );
}

/// Several ids inside.
fn many() -> Sandbox {
    Sandbox::new().id_map(IdMap::new().ids(0, 100_000, 2000)).uid(1000).gid(1000)
}

fn owners() {
    let sandbox = many()
        .data(Data::directory("/srv/d").mode(0o750).owner(5, 1000))
        .data(Data::file("/srv/d/mine", "mine").mode(0o600).owner(1000, 7))
        .data(Data::file("/srv/d/theirs", "theirs").mode(0o600).owner(5, 7))
        .data(Data::symlink("theirs", "/srv/d/link").owner(0, 0))
        .data(Data::directory("/tmp").mode(0o755).owner(0, 0));
    let script = "stat -c '%n %u:%g %a' /srv/d /srv/d/* /tmp; cat /srv/d/mine";
    let shown = "/srv/d 5:1000 750\n/srv/d/link 0:0 777\n/srv/d/mine 1000:7 600\n\
        /srv/d/theirs 5:7 600\n/tmp 0:0 755\nmine";
    assert_eq!(sh(&sandbox, script), shown);
    sh_fails(&sandbox, "cat /srv/d/theirs", "Permission denied");
    sh_fails(&sandbox, "touch /tmp/x", "Permission denied");
}

/// What comes later finds its way through what belongs to others.
fn owners_of_a_private_tree() {
    let sandbox = many()
        .data(Data::directory("/srv/closed").mode(0o700).owner(5, 5))
        .data(Data::file("/srv/closed/deep/file", "x").owner(6, 6))
        .tmpfs("/srv/closed/tmp");
    sh_fails(&sandbox, "ls /srv/closed", "Permission denied");
    assert_eq!(
        sh(&sandbox.uid(5).gid(5), "ls /srv/closed; stat -c %u /srv/closed/deep/file"),
        "deep\ntmp\n6\n"
    );
}

fn contradictions() {
    let sandbox = Sandbox::new()
        .data(Data::symlink("x", "/srv/link").mode(0o700))
        .data(Data::directory("/srv/d").max_size(5))
        .data(Data::file("relative", ""))
        .data(Data::symlink("", "/srv/empty"));
    let error = sandbox.plan().unwrap_err();
    assert!(matches!(&error, Error::Invalid(problems) if problems.len() == 4), "{error}");
}

/// All that the library logs.
#[derive(Debug)]
struct Log(Mutex<String>);

static LOG: Log = Log(Mutex::new(String::new()));

impl log::Log for Log {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        *self.0.lock().unwrap() += &format!("{record:?} {}\n", record.args());
    }

    fn flush(&self) {}
}

fn secrets_are_not_told() {
    log::set_logger(&LOG).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    const SECRET: &str = "correct horse battery staple";
    let sandbox = Sandbox::new()
        .data(Data::file("/srv/one", SECRET))
        .data(Data::file("/srv/two", pipe_with(SECRET)))
        .data(Data::file("/srv/three", file_with(SECRET)))
        .file("/srv/four", SECRET)
        .wall_time(Duration::from_secs(100));
    let child = sandbox.way_to("sleep").arg("1000").spawn().unwrap();
    let mut told = format!("{sandbox:?} {} {child:?}", sandbox.plan().unwrap());
    told += &format!("{:?}", sandbox.plan().unwrap());
    told += &refused(&sandbox.clone().data(Data::file("/usr/x", SECRET))).to_string();
    for process in [child.id(), child.program_id().unwrap(), std::process::id()] {
        for file in ["cmdline", "environ", "mountinfo", "comm"] {
            let text = std::fs::read(format!("/proc/{process}/{file}")).unwrap_or_default();
            told += &String::from_utf8_lossy(&text);
        }
    }
    let logged = LOG.0.lock().unwrap().clone();
    assert!(logged.lines().count() > 3, "{logged}");
    told += &logged;
    assert!(!told.contains("horse"), "{told}");
    assert!(told.contains("/srv/two"), "{told}");
    drop(child);
    assert_eq!(sh(&sandbox, "cat /srv/*"), SECRET.repeat(4));
    // Nothing of it is left for the program: init has let go of it.
    sh(&sandbox, "! grep -q horse /proc/self/environ");
}

fn a_descriptor_of_a_directory() {
    let error = refused(&Sandbox::new().data(Data::file("/srv/file", File::open("/").unwrap())));
    assert_eq!(error.raw_os_error(), Some(libc::EISDIR), "{error}");
}

fn large_content() {
    let text = "x".repeat(20 << 20);
    let sandbox = Sandbox::new().data(Data::file("/srv/file", text.clone()));
    assert_eq!(sh(&sandbox, "wc -c </srv/file"), format!("{}\n", text.len()));
    let full = refused(&sandbox.tmp_size(1 << 20));
    assert_eq!(full.raw_os_error(), Some(libc::ENOSPC), "{full}");
    assert_eq!(full.hint(), Some(&Hint::Budget), "{full}");
    assert!(full.to_string().contains("tmp_size(..)"), "{full}");
    let many = (0..20).fold(Sandbox::new().tmp_inodes(40), |sandbox, number| {
        sandbox.file(format!("/srv/{number}"), "")
    });
    let full = refused(&many);
    assert_eq!(
        (full.raw_os_error(), full.hint()),
        (Some(libc::ENOSPC), Some(&Hint::Budget)),
        "{full}"
    );
    let empty = Sandbox::new().rootfs(Rootfs::empty()).data(Data::file("/srv/file", text));
    empty.check().unwrap();
}
