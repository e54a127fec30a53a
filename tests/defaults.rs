//! The world that a program finds without asking for anything, and what docs/defaults.md says of it.
#![allow(
    clippy::exit,
    clippy::incompatible_msrv,
    clippy::cast_possible_truncation,
    reason = "a test process, built by a current toolchain"
)]
#![allow(unsafe_code, reason = "limits and mounts of the test's own")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails so")]

mod common;
#[path = "common/inside.rs"]
mod inside;
#[path = "common/mounts.rs"]
mod mounts;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use common::Needs;
use common::ways::Ways;
use inside::{open_directory, refused, role, sh, sh_fails, shell, succeed};
use mounts::{bind, own_mounts};
use stockade::{
    Capability, DiskFull, Error, Namespaces, Network, Outcome, Proc, Resource, Rlimits, Rootfs,
    Sandbox, Stage, Status, Tmpfs,
};

tests_in_all_ways! {
    Needs::Nothing => [
        user_has_a_name, shared_names_are_not_written_down, machine_id, utc_by_default,
        mounts_are_listed, generated_files_are_not_writable, places_to_write,
        links_into_etc_lead_somewhere, disk_full_by_default, disk_full_of_each, disk_full_of_inodes,
        disk_full_is_not_told, limits_do_not_depend_on_the_caller, the_table_is_true,
        compat_refuses_the_rest, compat_cannot_be_uncovered,
        the_callers_execution_domain_stays_outside,
    ];
    Needs::RealTime => [real_time_stays_outside];
    Needs::File("/etc/ssl/certs") => [a_certificate_of_the_hosts_own];
    Needs::Nothing => alone [
        host_names_resolve, compat_settings_are_copies, compat_is_the_hosts, a_time_zone,
        group_has_a_name, ids_of_others_have_names, odd_host_names_add_no_lines, unknown_time_zones,
        time_zones_that_contradict, entries_replace_generated_files, entries_that_cover_etc,
        generated_files_by_name, images_keep_their_etc, disk_full_is_told_at_any_end,
    ];
    Needs::Installed(&["free", "ps", "top", "uptime"]) => alone [compat_programs];
    Needs::Program("node") => alone [compat_node];
    Needs::Program("busybox") => alone [images_with_compat];
}

fn id() -> (u32, u32) {
    match inside::is_root() {
        true => (1000, 1000),
        false => (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()),
    }
}

fn name_of(uid: u32) -> &'static str {
    match uid {
        0 => "root",
        65534 => "nobody",
        _ => "user",
    }
}

// ---- generated files ---------------------------------------------------------------------------

fn user_has_a_name() {
    let own = name_of(id().0);
    assert_eq!(sh(&Sandbox::new(), "whoami; echo ~"), format!("{own}\n/home/user\n"));
    let entry = sh(&Sandbox::new(), "getent passwd $(id -u)");
    let (uid, gid) = id();
    assert_eq!(entry, format!("{own}:x:{uid}:{gid}:{own}:/home/user:/bin/sh\n"));
    for (uid, name) in [(0, "root"), (65534, "nobody"), (7, "user"), (u32::MAX - 1, "user")] {
        let seen =
            sh(&Sandbox::new().uid(uid), "whoami; getent passwd | cut -d: -f3 | sort | uniq -d");
        assert_eq!(seen, format!("{name}\n"), "{uid}");
    }
}

fn group_has_a_name() {
    for (gid, name) in [(0, "root"), (65534, "nogroup"), (7, "user")] {
        let seen =
            sh(&Sandbox::new().gid(gid), "id -gn; getent group | cut -d: -f3 | sort | uniq -d");
        assert_eq!(seen, format!("{name}\n"), "{gid}");
    }
}

fn ids_of_others_have_names() {
    let owner = sh(&Sandbox::new(), "stat -c %U:%G /usr");
    // The host's root is nobody inside, unless it is the caller.
    assert_eq!(owner, "nobody:nogroup\n");
}

fn host_names_resolve() {
    let sandbox = Sandbox::new().hostname("build.example.org");
    let seen = sh(&sandbox, "getent ahosts localhost | awk '{print $1}' | sort -u");
    assert_eq!(seen, "127.0.0.1\n::1\n");
    for name in ["build", "build.example.org", "$(uname -n)", "$(cat /etc/hostname)"] {
        let seen = sh(&sandbox, &format!("getent hosts {name} | awk '{{print $1}}'"));
        assert_eq!(seen, "127.0.1.1\n", "{name}");
    }
    // Without a network the question is answered too.
    let sandbox = Sandbox::new().network(Network::None);
    assert!(sh(&sandbox, "getent hosts localhost").contains("localhost"));
    // And not by the host's file.
    let outside = fs::read_to_string("/etc/hosts").unwrap_or_default();
    assert_ne!(sh(&sandbox, "cat /etc/hosts"), outside);
}

fn odd_host_names_add_no_lines() {
    for name in ["a\n10.0.0.1 localhost", "a b", "#", "é"] {
        let sandbox = Sandbox::new().hostname(name);
        assert_eq!(sh(&sandbox, "wc -l </etc/hosts; test ! -e /etc/hostname"), "2\n", "{name}");
    }
}

fn shared_names_are_not_written_down() {
    let sandbox = Sandbox::new().namespaces(Namespaces::all() - Namespaces::UTS);
    sh(&sandbox, "test ! -e /etc/hostname && test $(wc -l </etc/hosts) = 2");
}

fn machine_id() {
    let id = sh(&Sandbox::new(), "cat /etc/machine-id");
    let id = id.trim_end();
    assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    assert_ne!(Some(id), fs::read_to_string("/etc/machine-id").ok().as_deref().map(str::trim_end));
    assert_eq!(sh(&Sandbox::new().hostname("other"), "cat /etc/machine-id").trim_end(), id);
}

fn utc_by_default() {
    assert_eq!(
        sh(&Sandbox::new(), "date +%Z%z; readlink /etc/localtime"),
        "UTC+0000\n/usr/share/zoneinfo/UTC\n"
    );
}

fn a_time_zone() {
    if !Path::new("/usr/share/zoneinfo/Asia/Tokyo").exists() {
        // The same without the host's time zones: an error.
        let error = Sandbox::new().timezone("Asia/Tokyo").plan().unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT), "{error}");
        return;
    }
    let hour = "date -d @0 +%H%Z";
    let tokyo = Sandbox::new().timezone("Asia/Tokyo");
    assert_eq!(sh(&tokyo, hour), "09JST\n");
    assert_eq!(sh(&tokyo, "readlink /etc/localtime"), "/usr/share/zoneinfo/Asia/Tokyo\n");
    let variable = tokyo.way_to("sh").args(["-c", hour]).env("TZ", "UTC");
    assert_eq!(succeed(variable), "00UTC\n");
    // Where the tree has no zones, the file is given.
    let mut empty = Sandbox::new().rootfs(Rootfs::empty()).timezone("Asia/Tokyo");
    for path in ["/usr/bin", "/bin", "/lib", "/usr/lib", "/lib64", "/usr/lib64"] {
        if Path::new(path).exists() {
            empty = empty.bind_same(path);
        }
    }
    assert_eq!(sh(&empty, hour), "09JST\n");
    sh(&empty, "test ! -e /usr/share/zoneinfo");
}

fn unknown_time_zones() {
    for name in ["Mars/Olympus", "Europe", "zone.tab", "localtime"] {
        let error = Sandbox::new().timezone(name).way_to("true").spawn().unwrap_err();
        assert_eq!(error.stage(), Some(Stage::Prepare), "{error}");
        assert_eq!(error.raw_os_error(), Some(libc::ENOENT), "{error}");
        assert!(error.to_string().starts_with(&format!("find time zone {name:?}: ")), "{error}");
    }
}

fn time_zones_that_contradict() {
    for (sandbox, text) in [
        (Sandbox::new().timezone(""), "no name of a time zone"),
        (Sandbox::new().timezone("/etc/passwd"), "no name of a time zone"),
        (Sandbox::new().timezone("../../../etc/passwd"), "no name of a time zone"),
        (Sandbox::new().timezone("UTC").rootfs(Rootfs::directory("/")), "TZ"),
        (Sandbox::new().timezone("UTC").file("/etc/localtime", ""), "/etc/localtime"),
        (Sandbox::new().timezone("UTC").bind_same("/etc"), "/etc/localtime"),
    ] {
        let error = sandbox.plan().unwrap_err();
        assert!(matches!(&error, Error::Invalid(problems) if problems.len() == 1), "{error}");
        assert!(error.to_string().contains(text), "{error}");
    }
}

const GENERATED: [&str; 9] = [
    "passwd",
    "group",
    "hosts",
    "host.conf",
    "nsswitch.conf",
    "hostname",
    "machine-id",
    "localtime",
    "mtab",
];

/// Where Java looks for file systems.
fn mounts_are_listed() {
    assert_eq!(sh(&Sandbox::new(), "grep -c ' /tmp ' /etc/mtab"), "1\n");
    assert_eq!(
        sh(&Sandbox::new().proc(Proc::None), "ls -d /etc/mtab /etc/hosts || :"),
        "/etc/hosts\n"
    );
}

fn entries_replace_generated_files() {
    let directory = open_directory();
    let mine = directory.path().join("mine");
    fs::write(&mine, "mine").unwrap();
    for name in GENERATED {
        let path = format!("/etc/{name}");
        for sandbox in [
            Sandbox::new().file(&path, "mine"),
            Sandbox::new().bind_ro(&mine, &path),
            Sandbox::new().file("/srv/mine", "mine").symlink("/srv/mine", &path),
            Sandbox::new().tmpfs("/etc").file(&path, "mine"),
        ] {
            assert_eq!(sh(&sandbox, &format!("cat {path}")), "mine", "{path}");
        }
        sh(&Sandbox::new().directory(&path, 0o700), &format!("test -d {path}"));
    }
    for path in ["/etc/alternatives", "/etc/ssl/certs"] {
        let sandbox = Sandbox::new().file(path, "mine");
        assert_eq!(sh(&sandbox, &format!("cat {path}")), "mine", "{path}");
    }
    // Beside it, the others are there.
    assert_eq!(
        sh(&Sandbox::new().file("/etc/hosts", ""), "whoami"),
        format!("{}\n", name_of(id().0))
    );
}

fn entries_that_cover_etc() {
    let script = "ls -A /etc";
    assert_eq!(sh(&Sandbox::new().tmpfs("/etc"), script), "");
    assert_eq!(sh(&Sandbox::new().symlink("/tmp", "/etc"), "cd /etc && pwd -P"), "/tmp\n");
    let directory = open_directory();
    fs::write(directory.path().join("mine"), "").unwrap();
    assert_eq!(sh(&Sandbox::new().bind_ro(directory.path(), "/etc"), script), "mine\n");
    // A directory replaces nothing.
    assert!(sh(&Sandbox::new().directory("/etc", 0o755), script).contains("passwd"));
}

fn generated_files_by_name() {
    let without = Sandbox::new().rootfs(Rootfs::host().generated_etc(false));
    for name in GENERATED {
        sh(&Sandbox::new(), &format!("test -L /etc/{name} -o -e /etc/{name}"));
        sh(&without, &format!("test ! -L /etc/{name} -a ! -e /etc/{name}"));
    }
    let mut empty = Sandbox::new();
    for path in ["/usr", "/bin", "/lib", "/lib64"] {
        if Path::new(path).exists() {
            empty = empty.bind_same(path);
        }
    }
    sh(&empty.clone().rootfs(Rootfs::empty()), "test ! -e /etc");
    let with = empty.rootfs(Rootfs::empty().generated_etc(true));
    assert_eq!(sh(&with, "whoami; ls /etc | wc -l"), format!("{}\n8\n", name_of(id().0)));
}

fn images_keep_their_etc() {
    let rootfs = Rootfs::directory("/").generated_etc(true);
    let error = Sandbox::new().rootfs(rootfs).plan().unwrap_err();
    assert!(error.to_string().contains("keeps its own /etc"), "{error}");
    // The other half is in tests/rootfs.rs.
    let plan = Sandbox::new().rootfs(Rootfs::directory("/")).plan().unwrap().to_string();
    assert!(!plan.contains("/etc/"), "{plan}");
}

fn generated_files_are_not_writable() {
    for name in GENERATED {
        sh_fails(&Sandbox::new(), &format!("echo x >>/etc/{name}"), "cannot create");
        sh_fails(&Sandbox::new(), &format!("rm /etc/{name}"), "Read-only file system");
    }
}

fn places_to_write() {
    let (uid, gid) = id();
    let script = "pwd; stat -c '%n %a %u %g' /tmp \"$HOME\" /dev/shm";
    let shown = format!(
        "/home/user\n/tmp 1777 {uid} {gid}\n/home/user 755 {uid} {gid}\n/dev/shm 1777 {uid} {gid}\n"
    );
    assert_eq!(sh(&Sandbox::new(), script), shown);
    for place in ["/tmp", "/home/user", "/dev/shm"] {
        let script =
            format!("cp /bin/true {place}/program && {place}/program && rm {place}/program");
        sh(&Sandbox::new(), &script);
    }
}

// ---- of the host's /etc ------------------------------------------------------------------------

fn links_into_etc_lead_somewhere() {
    let mut found = 0;
    for directory in ["/usr/bin", "/usr/lib/ssl", "/usr/lib/jvm"] {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            let into_etc = fs::read_link(&path).is_ok_and(|target| target.starts_with("/etc"));
            let private = path.ends_with("private");
            if !into_etc || private || !path.exists() || found == 200 {
                continue;
            }
            found += 1;
            let script = format!("test -e {}", path.display());
            let there = shell(&Sandbox::new(), &script).outcome == Outcome::Exited(0);
            // Some lead on, to what is no part of the default.
            let end = path.canonicalize().unwrap();
            assert!(there || !end.starts_with("/usr"), "{path:?} leads to {end:?}");
            if found > 20 {
                break;
            }
        }
    }
    if Path::new("/etc/alternatives/awk").exists() {
        assert_eq!(sh(&Sandbox::new(), "awk 'BEGIN { print 6 * 7 }'"), "42\n");
    }
    sh(
        &Sandbox::new(),
        "test ! -e /etc/shadow && test ! -e /etc/resolv.conf && test ! -e /etc/ssl/private",
    );
}

fn a_certificate_of_the_hosts_own() {
    own_mounts();
    let directory = open_directory();
    for (name, text) in [("ca.pem", "an authority"), ("ssl-cert-snakeoil.pem", "the host's name")] {
        fs::write(directory.path().join(name), text).unwrap();
    }
    bind(directory.path(), Path::new("/etc/ssl/certs"));
    let script = "cat /etc/ssl/certs/*.pem";
    assert_eq!(sh(&Sandbox::new(), script), "an authority");
    let outside = fs::read_to_string("/etc/ssl/certs/ssl-cert-snakeoil.pem").unwrap();
    assert_eq!(outside, "the host's name");
}

// ---- full file systems -------------------------------------------------------------------------

fn status(sandbox: &Sandbox, script: &str) -> Status {
    sandbox.way_to("sh").args(["-c", script]).status().unwrap()
}

fn full(status: &Status) -> Vec<(&str, bool, bool)> {
    let parts = |full: &'_ DiskFull| (full.bytes, full.inodes);
    let full = status.disk_full.iter().map(|full| (full.mount.to_str().unwrap(), parts(full)));
    full.map(|(mount, (bytes, inodes))| (mount, bytes, inodes)).collect()
}

fn disk_full_by_default() {
    let sandbox = Sandbox::new().tmp_size(1 << 20);
    for place in ["/tmp", "/home/user", "/dev/shm"] {
        let status = status(&sandbox, &format!("cat /dev/zero >{place}/zeros"));
        assert_eq!(status.outcome, Outcome::Exited(1));
        assert_eq!(full(&status), [("/tmp", true, false)], "{place}");
    }
    let status = status(&sandbox, "head -c 500000 /dev/zero >/tmp/zeros");
    assert_eq!((status.outcome, full(&status).len()), (Outcome::Exited(0), 0));
}

fn disk_full_of_each() {
    let tmpfs = |path: &str| Tmpfs::new(path).size(1 << 16).inodes(8).mode(0o777);
    let sandbox = Sandbox::new()
        .mount_tmpfs(tmpfs("/one"))
        .proc(Proc::Full)
        .mount_tmpfs(tmpfs("/srv/two"))
        .mount_tmpfs(tmpfs("/tmp/three"));
    for (place, shown) in [("/one", "/one"), ("/srv/two", "/srv/two"), ("/tmp/three", "/tmp/three")]
    {
        let status = status(&sandbox, &format!("cat /dev/zero >{place}/zeros"));
        assert_eq!(full(&status), [(shown, true, false)]);
    }
    let both = "cat /dev/zero >/one/zeros; cat /dev/zero >/tmp/three/zeros; exit 5";
    let status = status(&sandbox, both);
    assert_eq!(status.outcome.code(), Some(5));
    assert_eq!(full(&status), [("/one", true, false), ("/tmp/three", true, false)]);
}

fn disk_full_of_inodes() {
    let sandbox = Sandbox::new().mount_tmpfs(Tmpfs::new("/one").inodes(8).mode(0o777));
    let ended = status(&sandbox, "touch /one/1 /one/2 /one/3 /one/4 /one/5 /one/6 /one/7 /one/8");
    assert_eq!((ended.outcome, full(&ended)), (Outcome::Exited(1), vec![("/one", false, true)]));
    let ended = status(&Sandbox::new().tmp_inodes(100), "cd /tmp && touch $(seq 100)");
    assert_eq!(full(&ended), [("/tmp", false, true)]);
}

fn disk_full_is_told_at_any_end() {
    let sandbox = Sandbox::new().tmp_size(1 << 20);
    let fill = "cat /dev/zero >/tmp/zeros";
    let ended = status(&sandbox, &format!("{fill}; kill -9 $$"));
    assert_eq!(ended.outcome, Outcome::Signaled { signal: 9, core_dumped: false });
    assert_eq!(full(&ended), [("/tmp", true, false)]);
    let limited = sandbox.clone().wall_time(common::moment(500));
    let ended = status(&limited, &format!("{fill}; sleep 100"));
    assert_eq!((ended.outcome, full(&ended)), (Outcome::TimedOut, vec![("/tmp", true, false)]));
    // What the program left has filled it.
    let linger = sandbox.clone().linger(Duration::from_secs(100));
    let ended = status(&linger, &format!("({fill}) 2>/dev/null & exit 0"));
    assert_eq!((ended.outcome, full(&ended)), (Outcome::Exited(0), vec![("/tmp", true, false)]));
    let output = sandbox.way_to("sh").args(["-c", fill]).output().unwrap();
    assert_eq!(output.disk_full[0].mount, Path::new("/tmp"));
    assert!(String::from_utf8(output.stderr).unwrap().contains("No space left"));
}

fn disk_full_is_not_told() {
    let sandbox = Sandbox::new().tmp_size(1 << 20);
    let emptied = status(&sandbox, "cat /dev/zero >/tmp/zeros; rm /tmp/zeros");
    assert_eq!(full(&emptied), []);
    // Without init nobody looks.
    let nobody = status(&sandbox.init(false), "cat /dev/zero >/tmp/zeros");
    assert_eq!((nobody.outcome, full(&nobody).len()), (Outcome::Exited(1), 0));
    // A file system of the host's is not the sandbox's.
    let sandbox = Sandbox::new().bind_same("/dev/full");
    assert_eq!(full(&status(&sandbox, "echo x >/dev/full")), []);
}

// ---- limits and the table ----------------------------------------------------------------------

fn the_callers_execution_domain_stays_outside() {
    const SCRIPT: &str = "cat /proc/self/personality";
    // SAFETY: the call takes a number.
    assert_ne!(unsafe { libc::personality(libc::ADDR_NO_RANDOMIZE as libc::c_ulong) }, -1);
    let outside = std::process::Command::new("sh").args(["-c", SCRIPT]).output().unwrap();
    assert_eq!(outside.stdout, b"00040000\n");
    for init in [true, false] {
        assert_eq!(sh(&Sandbox::new().init(init), SCRIPT), "00000000\n");
    }
}

fn real_time_stays_outside() {
    const TEST: &str = "real_time_stays_outside";
    // SAFETY: the call takes a number.
    let policy = || unsafe { libc::sched_getscheduler(0) };
    if role().is_some() {
        print!("{}", policy());
        return;
    }
    for of_the_caller in [libc::SCHED_FIFO, libc::SCHED_RR | libc::SCHED_RESET_ON_FORK] {
        let priority = libc::sched_param { sched_priority: 1 };
        // SAFETY: valid for reading.
        let set = unsafe { libc::sched_setscheduler(0, of_the_caller, &raw const priority) };
        assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
        assert_eq!(policy(), of_the_caller);
        for init in [true, false] {
            let inside = inside::myself(&Sandbox::new().init(init), TEST, "inside");
            assert_eq!(succeed(inside), libc::SCHED_OTHER.to_string());
        }
        // The caller's own stays what it is.
        assert_eq!(policy(), of_the_caller);
    }
}

fn limits_do_not_depend_on_the_caller() {
    const TEST: &str = "limits_do_not_depend_on_the_caller";
    let table = || {
        let text = sh(&Sandbox::new(), "cat /proc/self/limits");
        // The columns are of fixed width.
        let line = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        text.lines().map(line).collect::<Vec<_>>().join("\n")
    };
    match role().as_deref() {
        Some("low") => {
            // Soft limits only: the hard ones are what may be given.
            for resource in 0..16 {
                let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
                // SAFETY: valid for writing.
                assert_eq!(unsafe { libc::getrlimit(resource, &raw mut now) }, 0);
                now.rlim_cur = match resource {
                    libc::RLIMIT_AS | libc::RLIMIT_DATA => 1 << 33,
                    libc::RLIMIT_CPU | libc::RLIMIT_NOFILE => 200,
                    libc::RLIMIT_STACK => 4 << 20,
                    libc::RLIMIT_FSIZE => 1 << 30,
                    libc::RLIMIT_NPROC => 3000,
                    _ => 0,
                }
                .min(now.rlim_max);
                // SAFETY: valid for reading.
                assert_eq!(unsafe { libc::setrlimit(resource, &raw const now) }, 0);
            }
            print!("{}", table());
        }
        Some("lowest") => {
            let few = libc::rlimit { rlim_cur: 300, rlim_max: 300 };
            // SAFETY: valid for reading.
            assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const few) }, 0);
            print!("{}", table());
        }
        _ => {
            let ours = table();
            let run = |role| {
                let output = inside::myself_outside(TEST, role).output().unwrap();
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                String::from_utf8(output.stdout).unwrap()
            };
            assert_eq!(run("low"), ours);
            let lowest = run("lowest");
            assert!(lowest.contains("Max open files 300 300 files"), "{lowest}");
            let others = |text: &str| -> Vec<String> {
                text.lines()
                    .filter(|line| !line.contains("open files"))
                    .map(str::to_owned)
                    .collect()
            };
            assert_eq!(others(&lowest), others(&ours));
            // All sixteen have a value of their own, and none of them is the caller's by chance.
            for line in [
                "Max stack size 8388608 unlimited bytes",
                "Max core file size 0 0 bytes",
                "Max processes 1024 1024 processes",
            ] {
                let most = line.contains("processes");
                assert!(
                    ours.contains(line) || most && ours.contains("Max processes"),
                    "{line}: {ours}"
                );
            }
            assert_eq!(ours.lines().count(), 17);
        }
    }
}

fn the_table_is_true() {
    let text = include_str!("../docs/defaults.md");
    for (resource, limit) in Rlimits::default().iter() {
        let line = format!("| `{resource}` | {} | {} |", limit.soft, limit.hard);
        assert!(text.contains(&line), "{line}");
    }
    assert_eq!(Resource::ALL.len(), text.matches("| `RLIMIT_").count());
    let plan = Sandbox::new().plan().unwrap().to_string();
    let room = |line: &str| line.contains("268435456 bytes") && line.contains("65536 files");
    assert!(text.lines().any(room));
    assert!(plan.contains("root: tmpfs / (size 268435456, 65536 inodes)"), "{plan}");
    let environment = succeed(Sandbox::new().way_to("env"));
    for line in environment.lines() {
        let (key, value) = line.split_once('=').unwrap();
        assert!(text.contains(&format!("| `{key}` | `{value}`")), "{line}");
    }
    assert_eq!(environment.lines().count(), 3);
    assert!(text.contains(&format!("`{}`", sh(&Sandbox::new(), "cat /etc/machine-id").trim_end())));
    let compat = text.lines().find(|line| line.contains("`Proc::Compat` |")).unwrap();
    for name in sh(&Sandbox::new().proc(Proc::Compat), "cd /proc/sys && find . -type f").lines() {
        assert!(compat.contains(&format!("`{}`", &name[2..])), "{name}");
    }
    assert_eq!(sh(&Sandbox::new(), "umask; uname -n; pwd"), "0022\nstockade\n/home/user\n");
    // Whatever is in /etc has a row there, or a name with a version that begins as one.
    let mounted = sh(&Sandbox::new(), "cut -d ' ' -f 5 /proc/self/mountinfo | grep ^/etc/");
    let made = sh(&Sandbox::new(), "find /etc -xdev -type l -o -xdev -type f -size +0");
    let rows = || text.lines().filter(|line| line.starts_with("| `/etc/"));
    for path in mounted.lines().chain(made.lines()) {
        let named = |row: &str| {
            row.split('`').any(|name| match name.strip_suffix('*') {
                Some(beginning) => path.starts_with(beginning),
                None => name == path,
            })
        };
        assert!(rows().any(named) || path.ends_with("/ssl-cert-snakeoil.pem"), "{path}");
    }
}

// ---- a /proc for programs that ask -------------------------------------------------------------

fn compat() -> Sandbox {
    Sandbox::new().proc(Proc::Compat)
}

const SHOWN: [&str; 7] = ["cpuinfo", "filesystems", "loadavg", "meminfo", "stat", "sys", "uptime"];

fn compat_programs() {
    assert!(sh(&compat(), "free -b").contains("Mem:"));
    sh_fails(&Sandbox::new(), "free -b", "");
    let processes = sh(&compat(), "ps -e -o comm=");
    assert_eq!(processes, "sh\nps\n");
    assert!(sh(&compat(), "uptime").contains("load average"));
    assert!(sh(&compat(), "top -b -n 1").contains("Tasks:"));
    let outside = std::process::Command::new("nproc").arg("--all").output().unwrap();
    assert_eq!(sh(&compat(), "nproc --all").into_bytes(), outside.stdout);
    let processors =
        sh(&compat(), "grep -c ^processor /proc/cpuinfo; grep -c '^cpu[0-9]' /proc/stat");
    let number = String::from_utf8(outside.stdout).unwrap();
    assert_eq!(processors, format!("{number}{number}"));
    assert!(sh(&compat(), "cat /proc/mounts").contains(" /home/user "));
}

fn compat_node() {
    let script = "console.log(os.cpus().length, os.totalmem() > 0, os.uptime() > 0)";
    let count = |sandbox: &Sandbox| succeed(sandbox.way_to("node").args(["-e", script]));
    let outside = std::process::Command::new("node").args(["-e", script]).output().unwrap();
    assert_eq!(count(&compat()).into_bytes(), outside.stdout);
}

fn compat_refuses_the_rest() {
    if let Some("inside") = role().as_deref() {
        let mut seen = 0;
        for entry in fs::read_dir("/proc").unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            let path = entry.path();
            let process = name.parse::<u32>().is_ok();
            let link = path.symlink_metadata().unwrap().is_symlink();
            if process || link || SHOWN.contains(&&*name) {
                continue;
            }
            seen += 1;
            match fs::read_dir(&path) {
                Ok(mut entries) => assert!(entries.next().is_none(), "{name} is not empty"),
                Err(_) => {
                    let error = fs::File::open(&path).unwrap_err();
                    assert_eq!(error.raw_os_error(), Some(libc::EACCES), "{name}");
                    let error = fs::OpenOptions::new().write(true).open(&path).unwrap_err();
                    assert!(error.raw_os_error().is_some(), "{name}");
                }
            }
        }
        assert!(seen > 20, "{seen}");
        std::process::exit(0);
    }
    for sandbox in [compat(), compat().uid(0).gid(0), compat().init(false)] {
        succeed(inside::myself(&sandbox, "compat_refuses_the_rest", "inside"));
    }
    // The same can be read outside.
    fs::read_to_string("/proc/version").unwrap();
    assert!(fs::read_dir("/proc/fs").unwrap().next().is_some());
}

fn compat_cannot_be_uncovered() {
    let refused = "for at in /proc/version /proc/fs /proc/sys /proc/sys/kernel/random/uuid /proc; do
        umount $at && echo $at; umount -l $at && echo $at; mount -o remount,bind,dev,rw $at && echo $at
        done; mkdir -p /tmp/p; mount -t proc proc /tmp/p && echo another; cat /proc/version /proc/fs/*; true";
    let powerful = compat().capabilities([Capability::SYS_ADMIN]).uid(0).gid(0);
    assert_eq!(sh(&compat(), refused), "");
    assert_eq!(sh(&powerful, refused), "");
    // The same works for who has the mounts.
    assert_eq!(sh(&powerful, "mount -t tmpfs none /tmp && echo mounted"), "mounted\n");
    // In a nested user namespace the covers are locked as well, and no other procfs can be mounted.
    let nested = compat().allow_nesting();
    let script = format!("unshare --user --map-root-user --mount --pid --fork sh -c '{refused}'");
    assert_eq!(sh(&nested, &script), "");
    assert_eq!(sh(&nested, "unshare --user --map-root-user id -u"), "0\n");
}

fn compat_settings_are_copies() {
    let read = |name: &str| fs::read_to_string(format!("/proc/sys/{name}")).unwrap();
    for name in
        ["kernel/osrelease", "kernel/pid_max", "vm/overcommit_memory", "kernel/cap_last_cap"]
    {
        assert_eq!(sh(&compat(), &format!("cat /proc/sys/{name}")), read(name), "{name}");
        let write = format!("echo 1 >/proc/sys/{name} || rm -f /proc/sys/{name}");
        for sandbox in [compat(), compat().uid(0).gid(0)] {
            sh_fails(&sandbox, &write, "");
        }
    }
    let uuids = sh(&compat(), "cat /proc/sys/kernel/random/uuid /proc/sys/kernel/random/uuid");
    let (one, other) = uuids.trim_end().split_once('\n').unwrap();
    assert!(one != other && one.len() == 36, "{uuids}");
    sh_fails(&compat(), "cat /proc/sys/kernel/random/boot_id", "No such file");
    sh_fails(&compat(), "cat /proc/sys/kernel/hostname", "No such file");
    sh_fails(&compat(), "touch /proc/sys/new", "Read-only file system");
}

/// A caller whose own /proc has processes only does not know what a whole one has.
fn compat_is_the_hosts() {
    own_mounts();
    let plain = compat().plan().unwrap();
    assert!(plain.to_string().contains("/proc/version"));
    mounts::mount("tmpfs", Path::new("/proc"), "", 0);
    let error = compat().plan().unwrap_err();
    assert!(error.to_string().starts_with("find \"cpuinfo\" in \"/proc\": "), "{error}");
}

fn images_with_compat() {
    let image = open_directory();
    for name in ["bin", "proc", "dev", "tmp", "etc"] {
        fs::create_dir(image.path().join(name)).unwrap();
    }
    fs::copy("/usr/bin/busybox", image.path().join("bin/busybox")).unwrap();
    fs::write(image.path().join("etc/hosts"), "the image's").unwrap();
    fs::set_permissions(image.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let sandbox = compat().rootfs(Rootfs::directory(image.path()));
    let busybox = |args: &[&str]| sandbox.way_to("/bin/busybox").args(args).output().unwrap();
    assert_eq!(busybox(&["cat", "/etc/hosts"]).stdout, b"the image's");
    assert!(String::from_utf8(busybox(&["free"]).stdout).unwrap().contains("Mem:"));
    let refusal = busybox(&["cat", "/proc/version"]);
    assert_eq!((refusal.outcome, refusal.stdout.len()), (Outcome::Exited(1), 0));
    // Each of its writable places has a limit of its own.
    let small = sandbox.clone().tmp_size(1 << 20);
    let fill = ["dd", "if=/dev/zero", "of=/dev/shm/zeros"];
    let full = small.way_to("/bin/busybox").args(fill).status().unwrap().disk_full;
    assert_eq!(full.iter().map(|full| &*full.mount).collect::<Vec<_>>(), [Path::new("/dev/shm")]);
    let error = refused(&sandbox.timezone("UTC"));
    assert!(matches!(error, Error::Invalid(_)), "{error}");
}
