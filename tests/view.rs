//! What is hidden of the host on request: where mounts come from, and what machine it is.
#![allow(
    clippy::exit,
    clippy::incompatible_msrv,
    clippy::cast_possible_truncation,
    reason = "a test process, built by a current toolchain"
)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails so")]
#![allow(unsafe_code, reason = "listmount(2)")]

mod common;
#[path = "common/inside.rs"]
mod inside;

use std::fs;
use std::path::Path;
use std::time::Duration;

use common::Needs;
use common::ways::Ways;
use inside::{refused, sh, shell};
use stockade::{
    Capability, Leak, Namespaces, Overlay, Proc, Rootfs, Sandbox, Seccomp, Severity, TimeOffsets,
    View,
};

tests_in_all_ways! {
    Needs::Nothing => [no_call_does, nobody_gets_out_of_it, machine_is_the_sandboxs_own];
    Needs::Nothing => alone [
        clocks_fit, what_stays_the_hosts, every_root, no_list_of_mounts_tells_where_they_come_from,
        all_else_is_as_before, outputs_are_found, without_init, what_contradicts_it, audited,
        many_at_once, machine_by_default, machine_in_every_tree, machine_contradictions,
        machine_audited,
    ];
    Needs::Installed(&["df", "mountpoint", "find"]) => alone [what_needs_a_list_of_mounts];
    Needs::Installed(&["nproc", "free", "uptime", "ps"]) => alone [programs_see_the_machine];
    Needs::Installed(&["node"]) => alone [node_sees_the_machine];
    Needs::Program("python3") => alone [real_programs];
    Needs::Groups => alone [machine_by_limits];
}

const LISTS: [&str; 3] = ["mountinfo", "mounts", "mountstats"];

/// A directory with a name that must not show, and a file in it.
fn planted() -> tempfile::TempDir {
    let directory = inside::open_directory();
    fs::create_dir(directory.path().join("secret-source")).unwrap();
    fs::write(directory.path().join("secret-source/file"), "shown\n").unwrap();
    directory
}

fn bound(directory: &tempfile::TempDir) -> Sandbox {
    Sandbox::new().bind_ro(directory.path().join("secret-source"), "/data")
}

fn no_list_of_mounts_tells_where_they_come_from() {
    let directory = planted();
    for proc in [Proc::Processes, Proc::Compat, Proc::Full] {
        let open = bound(&directory).proc(proc);
        for list in LISTS {
            let command = format!("cat /proc/self/{list}");
            let shown = sh(&open, &command);
            assert!(shown.contains("/data"), "{shown}");
            assert_eq!(list == "mountinfo", shown.contains("secret-source"), "{shown}");
            let hidden = open.clone().hide_host_paths(true);
            assert_eq!(sh(&hidden, &command), "");
            // Nor of another process, or init where it can be seen.
            let command = format!("sleep 60 & cat /proc/$!/{list}; kill $!");
            assert_eq!(sh(&hidden, &command), "");
            let tracing = hidden.capabilities([Capability::SYS_PTRACE]);
            assert_eq!(sh(&tracing, &format!("test ! -e /proc/1 || cat /proc/1/{list}")), "");
        }
    }
}

/// listmount(2) and statmount(2), which the default profile has not.
fn no_call_does() {
    if inside::role().is_some() {
        // struct mnt_id_req: its size, the root of the namespace, the last one.
        let request: [u64; 3] = [24, u64::MAX, 0];
        let mut found = [0u64; 64];
        // SAFETY: both addresses are those of arrays of the lengths that the call is told.
        let count = unsafe { libc::syscall(458, request.as_ptr(), found.as_mut_ptr(), 64, 0) };
        println!("{count}");
        return;
    }
    let ask = |sandbox: &Sandbox| -> i64 {
        let command = inside::myself(sandbox, "no_call_does", "ask");
        inside::succeed(command).trim().parse().unwrap()
    };
    let open = Sandbox::new().seccomp(Seccomp::none());
    // -1: this kernel has no such call.
    let count = ask(&open);
    assert!(count == -1 || count > 5, "{count}");
    assert!(ask(&open.hide_host_paths(true)) < 1);
}

fn all_else_is_as_before() {
    let directory = planted();
    let own = inside::open_directory();
    let writable = own.path().join("writable");
    fs::create_dir(&writable).unwrap();
    let open = bound(&directory).bind_rw(&writable, "/out").tmpfs("/scratch").mqueue();
    let hidden = open.clone().hide_host_paths(true);
    let script = "cat /data/file; pwd; ls -d / /* /dev/*; readlink /proc/self/exe /proc/self/root \
        /proc/self/cwd; touch /tmp/a /scratch/b /dev/shm/c && echo written; \
        ! touch /data/x /x /usr/x 2>/dev/null && echo refused; cd /scratch/..; pwd; \
        df /scratch 2>/dev/null | wc -l; stat -c %a /tmp; head -c 0 /dev/null /dev/zero";
    assert_eq!(sh(&open, script), sh(&hidden, script));
    sh(&hidden, "echo out > /out/file");
    assert_eq!(fs::read_to_string(writable.join("file")).unwrap(), "out\n");
    // A terminal of its own.
    let script = "tty; exec 3<>/dev/ptmx && echo open";
    let mut child = hidden.way_to("sh").args(["-c", script]).pty(24, 80).spawn().unwrap();
    let mut text = String::new();
    let mut pty = child.take_pty().unwrap();
    // EIO at the end.
    let _end = std::io::Read::read_to_string(&mut pty, &mut text);
    assert_eq!(text.split_whitespace().collect::<Vec<_>>(), ["/dev/pts/0", "open"]);
    assert!(child.wait().unwrap().outcome.is_success());
}

fn outputs_are_found() {
    let hidden = Sandbox::new().hide_host_paths(true).tmpfs("/scratch");
    let script = "echo one > /tmp/one; echo two > /scratch/two; sleep 60";
    let child = hidden.way_to("sh").args(["-c", script]).spawn().unwrap();
    for (path, text) in [("/tmp/one", "one\n"), ("/scratch/two", "two\n")] {
        let mut found = String::new();
        while found.is_empty() {
            let Ok(mut file) = child.open_output(path) else { continue };
            std::io::Read::read_to_string(&mut file, &mut found).unwrap();
        }
        assert_eq!(found, text);
    }
    let kept = hidden.keep_mounts().way_to("sh").args(["-c", "echo two > /scratch/two"]);
    let mut child = kept.spawn().unwrap();
    child.wait().unwrap();
    let mut found = String::new();
    std::io::Read::read_to_string(&mut child.open_output("/scratch/two").unwrap(), &mut found)
        .unwrap();
    assert_eq!(found, "two\n");
}

fn every_root() {
    let image = inside::open_directory();
    for name in ["usr", "proc", "dev", "tmp"] {
        fs::create_dir(image.path().join(name)).unwrap();
    }
    for name in ["bin", "lib", "lib64"] {
        std::os::unix::fs::symlink(format!("usr/{name}"), image.path().join(name)).unwrap();
    }
    let layer = inside::open_directory();
    for sandbox in [
        Sandbox::new().rootfs(Rootfs::directory(image.path())).bind_same("/usr"),
        Sandbox::new().rootfs(Rootfs::empty()).program("/bin/sh").program("/bin/cat"),
        Sandbox::new().overlay("/over", Overlay::new([layer.path()])),
    ] {
        let hidden = sandbox.hide_host_paths(true);
        let output = shell(&hidden, "cat /proc/self/mountinfo; echo end");
        match output.stdout.is_empty() {
            false => assert_eq!(output.stdout, b"end\n"),
            true => panic!("{}", String::from_utf8_lossy(&output.stderr)),
        }
    }
}

/// Then nobody holds the copy but the program's own root.
fn without_init() {
    let directory = planted();
    let hidden = bound(&directory).init(false).hide_host_paths(true);
    let script = "cat /proc/self/mountinfo /data/file; echo $$; ls /dev/pts /proc/1/fd";
    assert_eq!(sh(&hidden, script), "shown\n1\n/dev/pts:\nptmx\n\n/proc/1/fd:\n0\n1\n2\n");
}

/// With the capability for it a program leaves a root in its own tree, not this one.
fn nobody_gets_out_of_it() {
    let hidden = Sandbox::new().hide_host_paths(true);
    // The kernel gives no user namespace to who has a root of that kind, whatever filter there is.
    let output = shell(&hidden.clone().seccomp(Seccomp::none()), "unshare --user true; echo $?");
    assert_eq!(output.stdout, b"1\n");
    let able = hidden.capabilities([Capability::SYS_CHROOT]).uid(0).gid(0);
    let script = "import os
os.mkdir('/tmp/d'); there = os.open('/', os.O_RDONLY)
os.chroot('/tmp/d'); os.fchdir(there)
for _ in range(50): os.chdir('..')
os.chroot('.'); print(sorted(os.listdir('/')), open('/proc/self/mountinfo').read())";
    let names = "import os; print(sorted(os.listdir('/')), '')";
    if Path::new("/usr/bin/python3").exists() {
        let python =
            |script: &str| inside::succeed(able.way_to("/usr/bin/python3").args(["-c", script]));
        assert_eq!(python(script), python(names));
    }
}

fn what_contradicts_it() {
    let hidden = Sandbox::new().hide_host_paths(true);
    let told = |sandbox: Sandbox| refused(&sandbox).to_string();
    assert!(told(hidden.clone().allow_nesting()).contains("hide_host_paths"));
    let able = hidden.clone().capabilities([Capability::SYS_ADMIN]);
    assert!(told(able).contains("hide_host_paths"));
    let joined = hidden.clone().join(Namespaces::MOUNT, Path::new("/proc/self/ns/mnt").to_owned());
    assert!(told(joined).contains("mount namespace is joined"));
    let shared = Sandbox::new().namespaces(Namespaces::all() - Namespaces::MOUNT);
    let shares =
        |sandbox: &Sandbox| !sandbox.plan().unwrap().namespaces().contains(Namespaces::MOUNT);
    assert!(shares(&shared) && !shares(&shared.clone().hide_host_paths(true)));
    assert!(shares(&shared.hide_host_paths(false)));
    let error = hidden.clone().without_namespaces().plan().unwrap_err().to_string();
    assert!(error.contains("hide_host_paths(true) needs a mount namespace"), "{error}");
    // Switched off again it is none of these.
    assert!(hidden.hide_host_paths(false).allow_nesting().check().is_ok());
    assert!(
        Sandbox::new().hide_host_paths(true).plan().unwrap().to_string().contains("hide where")
    );
}

fn audited() {
    let directory = planted();
    let paths = |sandbox: &Sandbox| {
        let audit = sandbox.audit_view().unwrap();
        assert_eq!(audit.incomplete, None);
        audit.above(Severity::Low).filter(|finding| finding.leak == Leak::Path).count()
    };
    assert_ne!(paths(&bound(&directory)), 0);
    assert_eq!(paths(&bound(&directory).hide_host_paths(true)), 0);
}

fn many_at_once() {
    let directory = planted();
    let hidden = bound(&directory).hide_host_paths(true);
    std::thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                assert_eq!(sh(&hidden, "cat /proc/self/mountinfo /data/file"), "shown\n");
            });
        }
    });
}

/// What reads lists of mounts does without.
fn real_programs() {
    let hidden = Sandbox::new().hide_host_paths(true);
    let script = "import os, multiprocessing, tempfile, shutil
with tempfile.TemporaryDirectory() as d:
    shutil.copy('/etc/passwd', d)
    print(len(os.listdir(d)), shutil.disk_usage('/tmp').total > 0)
with multiprocessing.Pool(2) as pool: print(pool.map(abs, [-1, -2]))";
    let output = hidden.way_to("python3").args(["-c", script]).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "1 True\n[1, 2]\n", "{errors}");
}

/// What cannot do without: why nothing is hidden by default.
fn what_needs_a_list_of_mounts() {
    let open = Sandbox::new();
    let hidden = open.clone().hide_host_paths(true);
    for command in ["df", "mountpoint -q /tmp", "find /tmp -maxdepth 0 -fstype tmpfs"] {
        assert!(shell(&open, command).outcome.is_success(), "{command}");
        assert!(!shell(&hidden, command).outcome.is_success(), "{command}");
    }
}

// ---- the machine -----------------------------------------------------------------------------------

const DAY: u64 = 86400;
const BOOT_ID: &str = "01234567-89ab-4def-8123-456789abcdef";

/// No host of these tests is like it.
fn machine() -> View {
    let uptime = Duration::from_secs(3000 * DAY);
    View::new().cpus(7).memory(3 << 30).uptime(uptime).boot_id(BOOT_ID)
}

/// What reads the same inside as a number.
fn number(sandbox: &Sandbox, script: &str) -> u64 {
    sh(sandbox, script).trim().parse().unwrap()
}

fn machine_is_the_sandboxs_own() {
    let sandbox = Sandbox::new().view(machine());
    let host = |path: &str| fs::read_to_string(path).unwrap_or_default();
    for (script, expected) in [
        ("grep -c '^processor' /proc/cpuinfo", "7"),
        ("grep -c '^cpu[0-9]' /proc/stat", "7"),
        ("grep MemTotal /proc/meminfo", "MemTotal:        3145728 kB"),
        ("grep MemAvailable /proc/meminfo", "MemAvailable:    3145728 kB"),
        ("cat /proc/uptime", "259200000.00 0.00"),
        ("cat /proc/loadavg", "0.00 0.00 0.00 1/1 1"),
        ("cat /proc/sys/kernel/random/boot_id", BOOT_ID),
    ] {
        assert_eq!(sh(&sandbox, script).trim(), expected);
        // Without it, where there is such a file at all, it is another.
        let output = shell(&Sandbox::new().proc(Proc::Full), script);
        assert_ne!(String::from_utf8_lossy(&output.stdout).trim(), expected);
    }
    // The names are the kernel's, and so is what tells of the processor's kind.
    let names = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split(':').next().unwrap().trim().to_owned()).collect()
    };
    assert_eq!(names(&sh(&sandbox, "cat /proc/meminfo")), names(&host("/proc/meminfo")));
    for key in ["model name", "flags"] {
        let of = |text: &str| text.lines().find(|line| line.starts_with(key)).map(str::to_owned);
        let (shown, host) = (of(&sh(&sandbox, "cat /proc/cpuinfo")), of(&host("/proc/cpuinfo")));
        let words = |line: Option<String>| {
            line.map(|line| {
                line.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ")
            })
        };
        let plain = |line: Option<String>| words(line).map(|line| line.replace(" :", ":"));
        assert_eq!(plain(shown), plain(host));
    }
    // None of it is the program's to change.
    let script = "for f in cpuinfo meminfo stat uptime loadavg sys/kernel/random/boot_id; do \
        echo x > /proc/$f; chmod 777 /proc/$f; rm -f /proc/$f; done 2>/dev/null; cat /proc/uptime";
    assert_eq!(sh(&sandbox, script), "259200000.00 0.00\n");
    assert!(sandbox.plan().unwrap().to_string().contains("view(..) implies Proc::Compat"));
}

/// Without a word it is what the sandbox may use: here the host's.
fn machine_by_default() {
    let sandbox = Sandbox::new().view(View::new());
    let total = "grep -o 'MemTotal: *[0-9]*' /proc/meminfo | tr -dc 0-9";
    assert_eq!(number(&sandbox, total), number(&Sandbox::new().proc(Proc::Compat), total));
    assert_eq!(
        number(&sandbox, "grep -c ^processor /proc/cpuinfo"),
        number(&Sandbox::new(), "nproc")
    );
    assert_eq!(sh(&sandbox, "cat /proc/uptime"), "0.00 0.00\n");
    let boot_id = sh(&sandbox, "cat /proc/sys/kernel/random/boot_id");
    assert_ne!(boot_id, fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap());
    // The same in each, so that no result depends on it.
    assert_eq!(boot_id, sh(&sandbox, "cat /proc/sys/kernel/random/boot_id"));
}

fn clocks_fit() {
    // In jiffies of which there are a hundred in a second.
    let started = "sed 's/.*) //' /proc/self/stat | cut -d ' ' -f 20";
    let sandbox = Sandbox::new().view(machine());
    let (first, day) = (3000 * DAY, DAY * 100);
    let found = number(&sandbox, started);
    assert!((first * 100..first * 100 + day).contains(&found), "{found}");
    let boot = number(&sandbox, "grep btime /proc/stat | cut -d ' ' -f 2");
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs();
    assert!(boot.abs_diff(now - first) < DAY, "{boot}");
    // Also where the caller has clocks of its own, and where the program is PID 1.
    assert!(number(&sandbox.clone().init(false), started) >= first * 100);
    let young = Sandbox::new().view(View::new());
    assert!(number(&young, started) < day);
}

/// What the documentation says that is not changed.
fn what_stays_the_hosts() {
    let sandbox = Sandbox::new().view(machine());
    for script in ["nproc", "uname -rv", "grep Cpus_allowed_list /proc/self/status"] {
        assert_eq!(sh(&sandbox, script), sh(&Sandbox::new(), script));
    }
    let audit = sandbox.audit_view().unwrap();
    let memory = audit.findings.iter().find(|finding| finding.leak == Leak::Memory).unwrap();
    assert_eq!(memory.places, ["sysinfo(2)"], "{audit}");
}

fn machine_audited() {
    let sandbox = Sandbox::new().view(machine()).hide_host_paths(true);
    let audit = sandbox.audit_view().unwrap();
    assert_eq!(audit.incomplete, None);
    assert_eq!(audit.above(Severity::Low).count(), 0, "{audit}");
    let shows = |leak| audit.findings.iter().filter(move |finding| finding.leak == leak);
    assert_eq!(shows(Leak::BootTime).count(), 0, "{audit}");
    let places = |leak| shows(leak).flat_map(|finding| finding.places.clone()).collect::<Vec<_>>();
    assert!(!places(Leak::Processors).contains(&"/proc/stat".to_owned()), "{audit}");
    assert_eq!(places(Leak::Load), ["sysinfo(2)"], "{audit}");
}

fn machine_in_every_tree() {
    let layer = inside::open_directory();
    fs::write(layer.path().join("file"), "layered\n").unwrap();
    let with = |sandbox: Sandbox| sandbox.view(machine());
    let overlaid = with(Sandbox::new().overlay("/over", Overlay::new([layer.path()])));
    assert_eq!(sh(&overlaid, "cat /over/file /proc/loadavg"), "layered\n0.00 0.00 0.00 1/1 1\n");
    let hidden = with(Sandbox::new().hide_host_paths(true));
    assert_eq!(sh(&hidden, "cat /proc/self/mountinfo /proc/uptime"), "259200000.00 0.00\n");
    let empty = Sandbox::new().rootfs(Rootfs::empty()).program("/bin/sh").program("/bin/cat");
    assert_eq!(sh(&with(empty), "cat /proc/uptime"), "259200000.00 0.00\n");
    let many = Sandbox::new().view(View::new().cpus(8192));
    assert_eq!(number(&many, "grep -c ^processor /proc/cpuinfo"), 8192);
}

fn machine_contradictions() {
    let told = |sandbox: Sandbox| refused(&sandbox).to_string();
    let new = || Sandbox::new().view(machine());
    assert!(told(new().proc(Proc::Full)).contains("implies Proc::Compat"));
    assert!(told(new().proc(Proc::None)).contains("implies Proc::Compat"));
    let later = TimeOffsets { monotonic: 1, boottime: 1 };
    assert!(told(new().time_offsets(later)).contains("time_offsets"));
    for view in [
        View::new().cpus(0),
        View::new().cpus(8193),
        View::new().memory(1023),
        View::new().uptime(Duration::MAX),
        View::new().boot_id("x"),
        View::new().boot_id("01234567-89ab-4def-8123-456789abcdeg"),
    ] {
        assert!(
            matches!(
                Sandbox::new().view(view.clone()).plan(),
                Err(stockade::Error::Invalid(problems)) if problems.len() == 1
            ),
            "{view:?}"
        );
    }
    let error = new().without_namespaces().plan().unwrap_err().to_string();
    assert!(error.contains("view(..) needs a mount namespace"), "{error}");
}

fn machine_by_limits() {
    let sandbox = Sandbox::new().memory_limit(300 << 20).cpu_limit(0.5).view(View::new());
    assert_eq!(number(&sandbox, "grep -c ^processor /proc/cpuinfo"), 1);
    assert_eq!(number(&sandbox, "free -k | awk '/Mem/ { print $2 }'"), 300 << 10);
    // What is said counts more.
    let said = sandbox.view(View::new().cpus(5));
    assert_eq!(number(&said, "grep -c '^cpu[0-9]' /proc/stat"), 5);
}

fn programs_see_the_machine() {
    let sandbox = Sandbox::new().view(machine());
    assert_eq!(number(&sandbox, "free -m | awk '/Mem/ { print $2 }'"), 3072);
    assert_eq!(number(&sandbox, "free -m | awk '/Mem/ { print $4 }'"), 3072);
    assert!(sh(&sandbox, "uptime").contains("up 3000 days"));
    let list = sh(
        &sandbox,
        "sleep 60 & until grep -q sleep /proc/$!/comm; do :; done; ps -e -o pid=,comm=,start=; kill $!",
    );
    assert!(list.contains("sleep") && list.contains("ps"), "{list}");
    // Which processors it may run on is not the view's: this is the host's.
    assert_eq!(sh(&sandbox, "nproc"), sh(&Sandbox::new(), "nproc"));
    // libc asks /proc where it has no /sys.
    assert_eq!(number(&sandbox, "getconf _NPROCESSORS_CONF"), 7);
}

fn node_sees_the_machine() {
    let sandbox = Sandbox::new().view(machine());
    let script = "const os = require('os');
        console.log(os.cpus().length, os.totalmem(), os.loadavg().join(' '), Math.floor(os.uptime() / 86400))";
    let output = sandbox.way_to("node").args(["-e", script]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    // The load is asked of the kernel.
    let words: Vec<_> = text.split_whitespace().collect();
    assert_eq!((words[0], words[1], words[5]), ("7", "3221225472", "3000"), "{text}");
}
