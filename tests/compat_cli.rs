//! Other tools' options and what they are here: the tables of docs/compat.md, row by row.
#![allow(
    clippy::exit,
    clippy::incompatible_msrv,
    reason = "a test process, built by a current toolchain"
)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails so")]

mod common;
#[path = "common/inside.rs"]
mod inside;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use common::Needs;
use inside::{field_of, open_directory, program_of};
use nix::pty::openpty;
use nix::unistd::{Pid, getsid};
use stockade::Sandbox;

/// Where cargo built the program.
const STOCKADE: &str = env!("CARGO_BIN_EXE_stockade");

const COMPAT: &str = include_str!("../docs/compat.md");

tests! {
    Needs::Program(STOCKADE) => [
        flags_exist, methods_exist, every_equivalent_is_tested, bubblewrap, docker_run,
        help_and_version, joined_namespaces, json, session_and_end, image, nothing_is_left,
        new_privileges, labels, stop_timeout, input, terminal,
    ];
    Needs::Program("bwrap") => [every_flag_of_bubblewrap];
    Needs::RootAndController("memory") => [memory];
    Needs::RootAndController("cpu") => [cpu];
    Needs::RootAndController("cpuset") => [cpuset];
    Needs::RootAndController("pids") => [pids];
}

/// A row: the other tool's option, and ours.
type Row = (&'static str, &'static str, &'static str);

fn rows(heading: &str) -> Vec<Row> {
    let (_, section) = COMPAT.split_once(&format!("### {heading}\n")).unwrap();
    let table = section.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
    let row = |line: &'static str| {
        let cells: Vec<_> = line.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
        let [_, theirs, ours, library, _, _] = cells[..] else { panic!("{line}") };
        (theirs, ours, library)
    };
    table.take_while(|line| line.starts_with('|')).map(row).collect()
}

fn all_rows() -> Vec<Row> {
    [rows("bubblewrap"), rows("docker run")].concat()
}

/// The long options in a text.
fn flags(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-'));
    words.filter(|word| word.starts_with("--") && word.len() > 2).map(str::to_owned).collect()
}

fn written(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

// ---- the tables --------------------------------------------------------------------------------

fn flags_exist() {
    let help = written(&Command::new(STOCKADE).args(["run", "--help"]).output().unwrap());
    let known = flags(&help);
    for (theirs, ours, _) in all_rows() {
        assert!(["none", "default"].contains(&ours) || ours.starts_with("--"), "{theirs}: {ours}");
        for flag in flags(ours) {
            assert!(known.contains(&flag), "{theirs}: there is no {flag}");
        }
    }
}

fn methods_exist() {
    let sources = [
        (
            "sandbox.",
            concat!(
                include_str!("../src/sandbox.rs"),
                include_str!("../src/sandbox/identity.rs"),
                include_str!("../src/sandbox/limits.rs"),
                include_str!("../src/sandbox/process.rs"),
                include_str!("../src/sandbox/tier.rs"),
                include_str!("../src/sandbox/tree.rs"),
            ),
        ),
        ("command.", include_str!("../src/command.rs")),
    ];
    for (theirs, _, library) in all_rows() {
        for (builder, source) in sources {
            let Some(calls) = library.strip_prefix(builder) else { continue };
            let name = calls.split_once('(').unwrap().0;
            assert!(source.contains(&format!("pub fn {name}(")), "{theirs}: {library}");
        }
    }
}

fn every_flag_of_bubblewrap() {
    let help = written(&Command::new("bwrap").arg("--help").output().unwrap());
    let theirs = help.lines().filter_map(|line| line.strip_prefix("    --"));
    let theirs: BTreeSet<_> =
        theirs.map(|line| format!("--{}", line.split(' ').next().unwrap())).collect();
    assert!(theirs.len() > 40, "{theirs:?}");
    let known: BTreeSet<_> = rows("bubblewrap").iter().flat_map(|row| flags(row.0)).collect();
    let missing: Vec<_> = theirs.difference(&known).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// Rows whose test is a function of its own.
const OWN: [&str; 25] = [
    "--help",
    "--version",
    "--userns FD",
    "--pidns FD",
    "--json-status-fd FD",
    "--new-session",
    "--die-with-parent",
    "IMAGE",
    "--rm",
    "--read-only",
    "--security-opt no-new-privileges",
    "--security-opt apparmor=PROFILE",
    "--security-opt label=…",
    "-i",
    "-t",
    "--network container:NAME",
    "--memory SIZE",
    "--memory-swap SIZE",
    "--cpus N",
    "--cpu-shares N",
    "--cpuset-cpus LIST",
    "--cpuset-mems LIST",
    "--pids-limit N",
    "--stop-timeout SECONDS",
    "--entrypoint PROGRAM",
];

fn every_equivalent_is_tested() {
    for (heading, cases) in [("bubblewrap", BUBBLEWRAP), ("docker run", DOCKER)] {
        let rows = rows(heading);
        for &(theirs, ours, _) in &rows {
            let case = cases.iter().find(|case| case.theirs == theirs);
            assert_eq!(ours != "none", case.is_some() || OWN.contains(&theirs), "{theirs}");
            let Some(case) = case else { continue };
            assert!(flags(ours).is_subset(&flags(case.options)), "{theirs}: {}", case.options);
        }
        for case in cases {
            assert!(rows.iter().any(|row| row.0 == case.theirs), "{}", case.theirs);
        }
    }
    for own in OWN {
        assert!(all_rows().iter().any(|row| row.0 == own), "{own}");
    }
}

// ---- row by row --------------------------------------------------------------------------------

/// A script that writes `inside` with these options, and something else without them; where there are
/// none, outside.
struct Case {
    theirs: &'static str,
    options: &'static str,
    script: &'static str,
    inside: &'static str,
}

const fn case(
    theirs: &'static str,
    options: &'static str,
    script: &'static str,
    inside: &'static str,
) -> Case {
    Case { theirs, options, script, inside }
}

const NESTED: &str = "unshare -U true && echo made || echo refused";
const RO: &str = "cat /srv/file; touch /srv/new || echo refused";
const RW: &str = "cat /srv/file; touch /srv/new && ls /srv/new";
const DEVICE: &str = "head -c 3 /srv/zero | wc -c";
const MODE: &str = "stat -c %a /srv/a";
const SIZE: &str = "stat -f -c '%T %b %S' /srv/a | { read t b s; echo $t $((b * s)); }";
const BOUNDING: &str = "grep CapBnd /proc/self/status | cut -f2";

const BUBBLEWRAP: &[Case] = &[
    case("--unshare-all", "", "for k in $KINDS; do own $k; done | sort -u", "own\n"),
    case("--share-net", "--net host", "own net", "shared\n"),
    case("--unshare-user", "", "own user", "own\n"),
    case("--unshare-user-try", "", "own user", "own\n"),
    case("--unshare-ipc", "", "own ipc", "own\n"),
    case("--unshare-pid", "", "own pid", "own\n"),
    case("--unshare-net", "", "own net", "own\n"),
    case("--unshare-uts", "", "own uts", "own\n"),
    case("--unshare-cgroup", "", "own cgroup", "own\n"),
    case("--unshare-cgroup-try", "", "own cgroup", "own\n"),
    case("--disable-userns", "", NESTED, "refused\n"),
    case("--assert-userns-disabled", "", NESTED, "refused\n"),
    case("--uid UID", "--uid 71", "id -u", "71\n"),
    case("--gid GID", "--gid 72", "id -g", "72\n"),
    case("--hostname NAME", "--hostname other", "uname -n", "other\n"),
    case("--chdir DIR", "--chdir /tmp", "pwd", "/tmp\n"),
    case("--clearenv", "--clear-env --env PATH=/usr/bin:/bin", "echo ${LANG-unset}", "unset\n"),
    case("--setenv VAR VALUE", "--env VAR=VALUE", "echo $VAR", "VALUE\n"),
    case("--unsetenv VAR", "", "echo ${OUTSIDE-unset}", "unset\n"),
    case("--bind SRC DEST", "--bind DIR /srv", RW, "seen/srv/new\n"),
    case("--dev-bind SRC DEST", "--dev-bind /dev/zero /srv/zero", DEVICE, "3\n"),
    case("--ro-bind SRC DEST", "--ro-bind DIR /srv", RO, "seenrefused\n"),
    case(
        "--bind-fd FD DEST",
        "--bind /dev/fd/0 /srv/a",
        "cat /srv/a; echo , more >>/srv/a && cat /srv/a",
        "seenseen, more\n",
    ),
    case(
        "--ro-bind-fd FD DEST",
        "--ro-bind /dev/fd/0 /srv/a",
        "cat /srv/a; echo , more >>/srv/a || echo refused",
        "seenrefused\n",
    ),
    case(
        "--proc DEST",
        "",
        "echo /proc/[0-9]*; ls -d /proc/sys || echo no more",
        "/proc/2\nno more\n",
    ),
    case(
        "--dev DEST",
        "",
        "ls /dev | tr '\\n' ' '",
        "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero ",
    ),
    case(
        "--tmpfs DEST",
        "--tmpfs /srv/a",
        "stat -f -c %T /srv/a; echo x >/srv/a/x && cat /srv/a/x",
        "tmpfs\nx\n",
    ),
    case(
        "--mqueue DEST",
        "--mqueue",
        "stat -f -c %T /dev/mqueue; touch /dev/mqueue/q && echo made",
        "mqueue\nmade\n",
    ),
    case("--dir DEST", "--dir /srv/a", "ls /srv", "a\n"),
    case("--file FD DEST", "--file 0 /srv/a", "cat /srv/a", "seen"),
    case(
        "--bind-data FD DEST",
        "--file 0 /tmp/a",
        "echo , more >>/tmp/a; cat /tmp/a",
        "seen, more\n",
    ),
    case("--ro-bind-data FD DEST", "--file 0 /etc/a", "echo more >>/etc/a || cat /etc/a", "seen"),
    case("--symlink SRC DEST", "--symlink target /srv/a", "readlink /srv/a", "target\n"),
    case("--as-pid-1", "--no-init", "echo $$", "1\n"),
    case("--cap-add CAP", "--cap-add kill", BOUNDING, "0000000000000020\n"),
    case("--cap-drop CAP", "", BOUNDING, "0000000000000000\n"),
    case("--perms OCTAL", "--dir /srv/a --chmod 1750 /srv/a", MODE, "1750\n"),
    case("--size BYTES", "--tmpfs /srv/a:1048576", SIZE, "tmpfs 1048576\n"),
    case("--chmod OCTAL PATH", "--file 0 /srv/a --chmod 640 /srv/a", MODE, "640\n"),
];

const DOCKER: &[Case] = &[
    case("-e NAME=VALUE", "--env NAME=VALUE", "echo $NAME", "VALUE\n"),
    case("-v SRC:DST", "--bind DIR /srv", RW, "seen/srv/new\n"),
    case("-v SRC:DST:ro", "--ro-bind DIR /srv", RO, "seenrefused\n"),
    case("--mount type=bind,src=SRC,dst=DST", "--bind DIR /srv", RW, "seen/srv/new\n"),
    case("--mount type=bind,src=SRC,dst=DST,ro", "--ro-bind DIR /srv", RO, "seenrefused\n"),
    case("--mount type=tmpfs,dst=DST", "--tmpfs /srv/a", SIZE, "tmpfs 67108864\n"),
    case("--tmpfs DST:size=SIZE", "--tmpfs /srv/a:1m", SIZE, "tmpfs 1048576\n"),
    case(
        "--shm-size SIZE",
        "--tmp-size 2m",
        "stat -f -c '%b %S' /dev/shm | { read b s; echo $((b * s)); }",
        "2097152\n",
    ),
    case("-w DIR", "--chdir /usr", "pwd", "/usr\n"),
    case("-u UID:GID", "--uid 71 --gid 72", "id -u; id -g", "71\n72\n"),
    case("--hostname NAME", "--hostname other", "uname -n; cat /etc/hostname", "other\nother\n"),
    case(
        "--domainname NAME",
        "--domainname other --proc full",
        "cat /proc/sys/kernel/domainname",
        "other\n",
    ),
    case("--add-host NAME:IP", "--file 0 /etc/hosts", "cat /etc/hosts", "seen"),
    case("--network none", "", "own net", "own\n"),
    case("--network host", "--net host", "own net", "shared\n"),
    case("--dns ADDRESS", "--file 0 /etc/resolv.conf", "cat /etc/resolv.conf", "seen"),
    case("--pid host", "--share pid --without-atomic-end", "[ $$ -gt 3 ] && echo host", "host\n"),
    case("--ipc host", "--share ipc", "own ipc", "shared\n"),
    case("--uts host", "--share uts", "own uts", "shared\n"),
    case("--cgroupns host", "--share cgroup", "own cgroup", "shared\n"),
    case("--cap-add CAP", "--cap-add net_raw", BOUNDING, "0000000000002000\n"),
    case("--cap-drop ALL", "", BOUNDING, "0000000000000000\n"),
    case(
        "--security-opt seccomp=FILE",
        "--seccomp DIR/profile.json",
        "mkdir /tmp/a 2>&1 | grep -o 'Network is down'",
        "Network is down\n",
    ),
    case(
        "--security-opt seccomp=unconfined",
        "--seccomp none",
        "setarch -R echo allowed",
        "allowed\n",
    ),
    case("--device DEV", "--dev-bind /dev/zero /srv/zero", DEVICE, "3\n"),
    case("--ulimit NAME=N", "--rlimit nofile=77", "ulimit -n", "77\n"),
    case("--oom-score-adj N", "--oom-score-adj 500", "cat /proc/self/oom_score_adj", "500\n"),
    case("--init", "", "echo $$", "2\n"),
];

const KINDS: [&str; 8] = ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup", "time"];

/// Tells a script which namespaces are the host's.
fn prelude() -> String {
    let host = KINDS.map(|kind| {
        fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().to_str().unwrap().to_owned()
    });
    format!(
        "KINDS='{}'\nown() {{ case '{}' in *\"$(readlink /proc/self/ns/$1)\"*) echo shared;; *) echo own;; esac; }}\n",
        KINDS.join(" "),
        host.join(" "),
    )
}

/// `stockade run` with these options, for a script.
fn with(options: &str, script: &str) -> Command {
    let mut command = Command::new(STOCKADE);
    command.arg("run").args(options.split(' ').filter(|word| !word.is_empty()));
    command.args(["--", "sh", "-c", script]).stdin(Stdio::null());
    command
}

/// What a script wrote, which ended well.
fn sh(options: &str, script: &str) -> String {
    let output = with(options, script).output().unwrap();
    assert!(output.status.success(), "{options}: {output:?}");
    written(&output)
}

/// All but mkdir, which fails as nothing else would.
const PROFILE: &str = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
    {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 100}]}"#;

fn each(cases: &[Case]) {
    let prelude = prelude();
    let mut wrong = Vec::new();
    for case in cases {
        let directory = open_directory();
        let file = directory.path().join("file");
        fs::write(&file, "seen").unwrap();
        fs::write(directory.path().join("profile.json"), PROFILE).unwrap();
        let options = case.options.replace("DIR", directory.path().to_str().unwrap());
        let script = format!("{prelude}{}", case.script);
        let mut inside = with(&options, &script);
        let inside = inside.stdin(File::open(&file).unwrap()).env("OUTSIDE", "seen").output();
        let inside = inside.unwrap();
        if written(&inside) != case.inside {
            wrong.push(format!("{}: {inside:?}", case.theirs));
        }
        let mut without = with("", &script);
        if options.is_empty() {
            without = Command::new("sh");
            without.args(["-c", &script]).stdin(Stdio::null()).env("OUTSIDE", "seen");
        }
        let without = without.output().unwrap();
        if written(&without) == case.inside {
            wrong.push(format!("{}, without: {without:?}", case.theirs));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn bubblewrap() {
    each(BUBBLEWRAP);
}

fn docker_run() {
    each(DOCKER);
}

// ---- what needs more than a script -------------------------------------------------------------

fn help_and_version() {
    let said = |flag| written(&Command::new(STOCKADE).arg(flag).output().unwrap());
    assert!(said("--help").contains("Usage: stockade"));
    assert_eq!(said("--version"), format!("stockade {}\n", env!("CARGO_PKG_VERSION")));
}

fn joined_namespaces() {
    let child = Sandbox::new().command("sleep").arg("1000").spawn().unwrap();
    let path = |kind: &str| format!("/proc/{}/ns/{kind}", child.id());
    let ids = sh("", "echo --uid $(id -u) --gid $(id -g)");
    let user = format!("--join user={} {}", path("user"), ids.trim());
    let identity = |kind: &str| format!("{}\n", fs::read_link(path(kind)).unwrap().display());
    let seen = |more: &str, kind: &str| {
        sh(&format!("{user} {more}"), &format!("readlink /proc/self/ns/{kind}"))
    };
    assert_eq!(seen("", "user"), identity("user"));
    assert_eq!(seen(&format!("--join network={}", path("net")), "net"), identity("net"));
    assert_ne!(seen("", "net"), identity("net"));
    // No /proc shows where it is: the ids go on where the other's are.
    let pid = format!("{user} --join pid={} --without-atomic-end", path("pid"));
    let mut running = Running::of(&pid, "echo $$; read end");
    let status = fs::read_to_string(format!("/proc/{}/status", running.program())).unwrap();
    assert_eq!(field_of(&status, "NSpid").split('\t').next_back().unwrap(), running.said);
    let of_program = fs::read_link(format!("/proc/{}/ns/pid", running.program())).unwrap();
    assert_eq!(format!("{}\n", of_program.display()), identity("pid"));
    running.end();
}

/// A program that has said a line, and waits for one.
struct Running {
    process: Child,
    out: BufReader<std::process::ChildStdout>,
    said: String,
}

impl Running {
    fn of(options: &str, script: &str) -> Self {
        let mut command = with(options, script);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut out = BufReader::new(process.stdout.take().unwrap());
        let mut said = String::new();
        out.read_line(&mut said).unwrap();
        Running { process, out, said: said.trim().to_owned() }
    }

    fn program(&self) -> u32 {
        program_of(self.process.id())
    }

    fn end(&mut self) {
        drop(self.process.stdin.take());
        self.process.wait().unwrap();
    }
}

fn json() {
    let directory = open_directory();
    let file = directory.path().join("json");
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" run --json 3 -- sh -c 'exit 7' 3>\"$1\"", STOCKADE]);
    assert_eq!(command.arg(&file).status().unwrap().code(), Some(7));
    let told: serde_json::Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    assert_eq!(told["exit_code"], 7, "{told}");
}

fn session_and_end() {
    let mut running = Running::of("", "echo $$; exec sleep 1000");
    let session = |pid: u32| getsid(Some(Pid::from_raw(pid.cast_signed()))).unwrap();
    assert_eq!(session(running.process.id()), getsid(None).unwrap());
    assert_ne!(session(running.program()), getsid(None).unwrap());
    running.process.kill().unwrap();
    // The program held its end.
    assert_eq!(running.out.read_to_string(&mut String::new()).unwrap(), 0);
    running.process.wait().unwrap();
}

fn image() {
    let directory = open_directory();
    let mut options = format!("--rootfs {}", directory.path().display());
    for name in ["proc", "dev", "tmp", "etc"] {
        fs::create_dir(directory.path().join(name)).unwrap();
    }
    fs::write(directory.path().join("etc/release"), "image").unwrap();
    for name in ["usr", "bin", "lib", "lib64"] {
        let (host, place) = (PathBuf::from("/").join(name), directory.path().join(name));
        if let Ok(target) = fs::read_link(&host) {
            std::os::unix::fs::symlink(target, place).unwrap();
        } else if host.is_dir() {
            fs::create_dir(place).unwrap();
            options.push_str(&format!(" --ro-bind /{name} /{name}"));
        }
    }
    assert_eq!(sh(&options, "cat /etc/release; ls /etc"), "imagerelease\n");
}

fn nothing_is_left() {
    let script = "for d in / /usr /etc; do touch $d/compat-new || echo refused; done
        for d in /tmp ~ /dev/shm; do cat $d/compat-new; echo x >$d/compat-new && cat $d/compat-new; done";
    for _ in 0..2 {
        assert_eq!(sh("", script), "refused\nrefused\nrefused\nx\nx\nx\n");
    }
    for directory in ["/", "/usr", "/etc", "/tmp", "/dev/shm"] {
        assert!(!PathBuf::from(directory).join("compat-new").exists(), "{directory}");
    }
}

/// That one which is known is taken is in tests/apparmor.rs.
fn labels() {
    let with = |options: &[&str]| {
        Command::new(STOCKADE).arg("run").args(options).args(["--", "true"]).output().unwrap()
    };
    assert!(with(&[]).status.success());
    let output = with(&["--exec-label", "no-such-profile"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(125) && text.contains("label"), "{text}");
}

fn new_privileges() {
    let script = "grep NoNewPrivs /proc/self/status | cut -f2";
    assert_eq!(sh("", script), "1\n");
    // Where the caller is not bound by it already.
    let caller = fs::read_to_string("/proc/self/status").unwrap();
    let with = sh("--new-privileges", script);
    assert_eq!(with.trim(), field_of(&caller, "NoNewPrivs"));
}

fn stop_timeout() {
    let script = "trap 'echo asked; exit' TERM; while :; do sleep 0.01; done";
    let output = with("--timeout 2s --grace 60s", script).output().unwrap();
    assert_eq!((output.status.code(), written(&output).as_str()), (Some(124), "asked\n"));
}

fn input() {
    let mut command = Command::new(STOCKADE);
    command.args(["run", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut process = command.spawn().unwrap();
    process.stdin.take().unwrap().write_all(b"typed").unwrap();
    assert_eq!(written(&process.wait_with_output().unwrap()), "typed");
}

fn terminal() {
    let pair = openpty(None, None).unwrap();
    let theirs = || Stdio::from(pair.slave.try_clone().unwrap());
    let mut command = Command::new(STOCKADE);
    command.args(["run", "--tty", "--", "tty"]);
    command.stdin(theirs()).stdout(theirs()).stderr(theirs());
    assert!(command.status().unwrap().success());
    let mut shown = [0; 100];
    let length = File::from(pair.master).read(&mut shown).unwrap();
    assert_eq!(&shown[..length], b"/dev/pts/0\r\n");
    assert_eq!(with("", "tty").output().unwrap().status.code(), Some(1));
}

// ---- limits, as the groups have them -----------------------------------------------------------

/// What is in a file of the program's group.
fn in_group(running: &Running, controller: &str, file: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{}/cgroup", running.program())).unwrap();
    let v1 = common::is_v1(controller).unwrap();
    let own = text.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let found = match v1 {
            true => controllers.split(',').any(|one| one == controller),
            false => controllers.is_empty(),
        };
        found.then_some(path)
    });
    let of_controller = |point: &PathBuf| {
        point.file_name().unwrap().to_str().unwrap().split(',').any(|one| one == controller)
    };
    let (point, _) = common::mounted()
        .into_iter()
        .find(|(point, v2)| *v2 != v1 && (*v2 || of_controller(point)))
        .unwrap();
    let path = point.join(own.unwrap().trim_start_matches('/')).join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path:?}: {error}")).trim().to_owned()
}

/// Asserts that the group of a program with these options has these files: of v1, and of v2.
fn limited(controller: &str, options: &str, v1: &[(&str, &str)], v2: &[(&str, &str)]) {
    let mut running = Running::of(options, "echo ready; read end");
    let files = if common::is_v1(controller).unwrap() { v1 } else { v2 };
    for (file, content) in files {
        assert_eq!(in_group(&running, controller, file), *content, "{file}");
    }
    running.end();
}

fn memory() {
    let v1 = [("memory.limit_in_bytes", "67108864"), ("memory.memsw.limit_in_bytes", "100663296")];
    let v2 = [("memory.max", "67108864"), ("memory.swap.max", "33554432")];
    limited("memory", "--memory 64m --memory-swap 96m", &v1, &v2);
}

fn cpu() {
    let v1 = [("cpu.cfs_quota_us", "50000"), ("cpu.shares", "512")];
    limited("cpu", "--cpus 0.5 --cpu-shares 512", &v1, &[("cpu.max", "50000 100000")]);
}

fn cpuset() {
    let files = [("cpuset.cpus", "0"), ("cpuset.mems", "0")];
    limited("cpuset", "--cpuset-cpus 0 --cpuset-mems 0", &files, &files);
}

fn pids() {
    // The init program is one more.
    let file = [("pids.max", "21")];
    limited("pids", "--pids-limit 20", &file, &file);
}
