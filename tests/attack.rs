//! `stockade attack`: what has to hold holds, what has to be open is open, and the command's own ends.
#![allow(
    clippy::exit,
    clippy::incompatible_msrv,
    reason = "a test process, built by a current toolchain"
)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails so")]

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, ExitCode, Output};

use libtest_mimic::{Arguments, Trial};
use serde_json::Value;

/// Where cargo built the program.
const STOCKADE: &str = env!("CARGO_BIN_EXE_stockade");

/// Runs the command with its results on descriptor 9 as a file, and nothing left behind.
fn attack(options: &str) -> (Output, Vec<Value>) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), Permissions::from_mode(0o1777)).unwrap();
    let file = directory.path().join("json");
    let script = "exec \"$0\" attack --json 9 \"$@\" 9>\"$JSON\"";
    let mut command = Command::new("sh");
    command.args(["-c", script, STOCKADE]).args(options.split_whitespace());
    let output = command.env("JSON", &file).env("TMPDIR", directory.path()).output().unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::remove_file(file).unwrap();
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
    (output, serde_json::from_str(&text).unwrap_or_default())
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

/// Names of those with that result.
fn with_result(rows: &[Value], result: &str) -> BTreeSet<String> {
    let chosen = rows.iter().filter(|row| row["result"] == result);
    chosen.map(|row| row["name"].as_str().unwrap().to_owned()).collect()
}

fn all_held(options: &str) {
    let (output, rows) = attack(options);
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(code(&output), 0, "{options}: {text}{}", String::from_utf8_lossy(&output.stderr));
    for result in ["open", "broken"] {
        assert!(with_result(&rows, result).is_empty(), "{text}");
    }
    assert!(with_result(&rows, "held").len() * 10 >= rows.len() * 8, "{text}");
    // The table says the same.
    for row in &rows {
        let (name, why) = (row["name"].as_str().unwrap(), row["why"].as_str().unwrap());
        assert!(text.lines().any(|line| line.contains(name) && line.ends_with(why)), "{row}");
    }
}

fn a_bad_one_is_open() {
    for way in ["spawn", "prepared", "session", "pool", "enter"] {
        let bad = "--seccomp none --allow-nesting --net host --share ipc";
        let (output, rows) = attack(&format!("--way {way} {bad}"));
        assert_eq!(code(&output), 1);
        let open = with_result(&rows, "open");
        let mut wrong = vec!["unshare-user", "nested-mount", "vmsplice", "tcp-of-host"];
        wrong.extend(["shared-memory", "tenant-objects", "tenant-traffic", "sibling-tcp"]);
        for name in wrong {
            assert!(open.contains(name), "{way}: {name}: {open:?}");
        }
        let held = with_result(&rows, "held");
        for name in ["swapon", "reboot", "open-by-handle", "kill", "inherited-any", "tenant-port"] {
            assert!(held.contains(name), "{way}: {name}: {held:?}");
        }
    }
}

/// What only a sandbox of several programs has is tried in one, and nothing is missing elsewhere.
fn each_way_has_its_attempts() {
    let neighbours: BTreeSet<_> = ["neighbour-files", "neighbour-memory"].map(str::to_owned).into();
    for (way, result) in [("spawn", "not applicable"), ("session", "held"), ("enter", "held")] {
        let (output, rows) = attack(&format!("--way {way} --only 193,194"));
        assert_eq!(
            (code(&output), with_result(&rows, result)),
            (0, neighbours.clone()),
            "{rows:?}"
        );
    }
    for way in ["session", "enter"] {
        let (output, _) = attack(&format!("--way {way} --no-init --only 1"));
        assert_eq!(code(&output), 125);
    }
}

/// Whoever is killed for it: the limit is that of all programs of a sandbox.
fn a_limit_of_memory_holds() {
    for way in ["spawn", "prepared", "session", "pool", "enter"] {
        let (output, rows) = attack(&format!("--way {way} --memory 64m --only 146,155,156,157"));
        assert_eq!((code(&output), with_result(&rows, "held").len()), (0, 4), "{rows:?}");
    }
}

/// What was asked for is open, and nothing else.
fn only_open(options: &str, expected: &[&str]) {
    let (output, rows) = attack(options);
    let expected = expected.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(with_result(&rows, "open"), expected, "{options}");
    assert!(with_result(&rows, "broken").is_empty(), "{options}");
    assert_eq!(code(&output), 1);
}

fn the_hosts_network_is_open() {
    let mut expected = vec![
        "interfaces",
        "sibling-tcp",
        "tcp-of-host",
        "tenant-traffic",
        "udp-of-host",
        "way-out",
    ];
    let started = stockade::Sandbox::new().command("true").spawn().unwrap();
    if started.missing().contains(&stockade::Feature::LandlockScopes) {
        // There nothing but the network keeps these apart.
        expected.extend(["abstract-socket", "sibling-abstract", "take-descriptor"]);
    }
    only_open("--net host", &expected);
}

fn the_hosts_root_is_open() {
    only_open("--host-root", &["become-root", "oom-score-of-others", "processes"]);
}

/// Of a sandbox without namespaces, what docs/attack.md says.
fn a_weak_one_holds_but_for_what_is_documented() {
    const ATTACK: &str = include_str!("../docs/attack.md");
    let section = ATTACK.split("## Without namespaces\n").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | `"));
    let user = if nix::unistd::geteuid().is_root() { "of a root caller" } else { "of others" };
    let here = rows.filter(|(_, rest)| rest.contains("| always |") || rest.contains(user));
    let names: Vec<_> = here.map(|(_, rest)| rest.split('`').next().unwrap()).collect();
    only_open("--tier no-namespaces --best-effort namespaces", &names);
}

fn a_filter_that_kills_holds() {
    let (output, rows) = attack("--only vmsplice --seccomp strict");
    assert_eq!((code(&output), rows[0]["result"].as_str()), (0, Some("held")));
    let directory = tempfile::tempdir().unwrap();
    let profile = directory.path().join("profile");
    let text = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls":
        [{"names": ["vmsplice"], "action": "SCMP_ACT_KILL_PROCESS"}]}"#;
    std::fs::write(&profile, text).unwrap();
    let (output, rows) = attack(&format!("--only vmsplice --seccomp {}", profile.display()));
    assert_eq!((code(&output), rows[0]["result"].as_str()), (0, Some("held")));
    let why = rows[0]["why"].as_str().unwrap();
    assert!(why.contains("seccomp profile"), "{why}");
}

/// With a tree that has nothing in it, and with the host's.
fn any_tree_will_do() {
    for options in ["--empty-root --proc none", "--share mount"] {
        let (output, rows) = attack(&format!("--only unshare-user,pivot-root {options}"));
        assert_eq!(code(&output), 0, "{options}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(with_result(&rows, "held").len(), 2, "{options}");
    }
}

/// Another program's sandbox: none at all, and one that this crate makes without being told of it.
fn under_another_program() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).unwrap();
    let script = |name: &str, text: String| {
        let path = directory.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        path.display().to_string()
    };
    let only = "environment,secret-by-path,daemon,stopped,no-filter,write-read-only,sibling-files";
    let names: BTreeSet<_> = only.split(',').map(str::to_owned).collect();
    let none = script("none", "exec \"$@\"".to_owned());
    let (output, rows) = attack(&format!("--under {none} --only {only}"));
    assert_eq!((code(&output), with_result(&rows, "open")), (1, names.clone()), "{rows:?}");

    let host = if nix::unistd::geteuid().is_root() { "--host-root" } else { "" };
    let run = format!(
        "exec {STOCKADE} run {host} --ro-bind $ATTACK_PROGRAM $ATTACK_PROGRAM \
        ${{ATTACK_READ_ONLY:+--ro-bind $ATTACK_READ_ONLY $ATTACK_READ_ONLY}} -- \"$@\""
    );
    let (output, rows) = attack(&format!("--under {} --only {only}", script("run", run)));
    assert_eq!((code(&output), with_result(&rows, "held")), (0, names), "{rows:?}");

    // Who does not start anything proves nothing, and who does not end is ended.
    let (output, rows) = attack(&format!("--under {} --only seen", script("not", String::new())));
    assert_eq!((code(&output), rows[0]["result"].as_str()), (125, Some("broken")));
    let asleep = script("asleep", "exec sleep 1000".to_owned());
    let (output, rows) = attack(&format!("--under {asleep} --only seen"));
    assert_eq!((code(&output), rows[0]["result"].as_str()), (125, Some("broken")));
    assert!(rows[0]["why"].as_str().unwrap().contains("killed from outside"), "{rows:?}");
}

fn usage() {
    for (options, expected) in [
        ("--only nothing", "--only"),
        ("--no-such-option", "--no-such-option"),
        ("--rootfs /nowhere", "/nowhere"),
        ("--json 77", "77"),
        ("--under /nowhere --only seen", "No such file"),
        ("--under /bin/true --net host", "--under"),
        ("--under /bin/true --controls", "--under"),
        ("--under /bin/true --memory 1g", "--under"),
        ("--under /bin/true --way pool", "--under"),
        ("--controls --way pool", "--way"),
    ] {
        let output =
            Command::new(STOCKADE).arg("attack").args(options.split(' ')).output().unwrap();
        let error = String::from_utf8(output.stderr.clone()).unwrap();
        assert_eq!(code(&output), 125, "{options}");
        assert!(error.contains(expected) && error.lines().count() == 1, "{error}");
        assert!(output.stdout.is_empty());
    }
}

/// The table of docs/attack.md is the program's.
fn document() {
    const ATTACK: &str = include_str!("../docs/attack.md");
    let output = Command::new(STOCKADE).args(["attack", "--list"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<_> = text.lines().collect();
    let rows = lines.chunks_exact(2).map(|pair| {
        let (number, rest) = pair[0].trim_start().split_once(' ').unwrap();
        let (name, rest) = rest.split_once(' ').unwrap();
        let (severity, tried) = rest.trim_start().split_once(' ').unwrap();
        let (_, control) = pair[1].split_once("control: ").unwrap();
        let mark = if control.starts_with("--") { "`" } else { "" };
        let tried = tried.trim_start();
        format!("| {number} | `{name}` | {severity} | {tried} | {mark}{control}{mark} |")
    });
    let (_, table) = ATTACK.split_once("## The attempts\n").unwrap();
    let known: Vec<_> = table.lines().filter(|line| line.starts_with("| ")).skip(1).collect();
    let rows: Vec<_> = rows.collect();
    for row in &rows {
        assert!(known.contains(&row.as_str()), "docs/attack.md has not {row}");
    }
    assert_eq!(known.len(), rows.len());
}

fn list() {
    let output = Command::new(STOCKADE).args(["attack", "--list"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(
        text.lines().filter(|line| line.contains("control: ")).count() * 2,
        text.lines().count()
    );
    let (_, rows) = attack("--only 1,x32");
    let names: Vec<_> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["clone3", "x32"]);
}

/// Each control is a test: open, or ignored with the reason why it cannot be made here.
fn controls() -> Vec<Trial> {
    let (output, rows) = attack("--controls");
    let (code, count) = (code(&output), rows.len());
    let results: Vec<_> = rows.iter().map(|row| row["result"].clone()).collect();
    let judged = Trial::test("controls_are_judged", move || {
        assert!(count >= 190, "{count}");
        assert_eq!(code, 0);
        // Of root's; others cannot have all of it.
        let made = results.iter().filter(|result| *result == "open").count();
        assert!(!nix::unistd::geteuid().is_root() || made >= 150, "{made} controls were made");
        Ok(())
    });
    let of_row = |row: &Value| {
        let name = format!("control_of_{}", row["name"].as_str().unwrap());
        let (result, why) = (row["result"].clone(), row["why"].as_str().unwrap().to_owned());
        let cannot = result == "not applicable";
        let kind = if cannot { why.clone() } else { String::new() };
        let open = move || {
            if result == "open" { Ok(()) } else { Err(format!("{result}: {why}").into()) }
        };
        Trial::test(name, open).with_kind(kind).with_ignored_flag(cannot)
    };
    [judged].into_iter().chain(rows.iter().map(of_row)).collect()
}

fn main() -> ExitCode {
    let test = |name: &str, run: fn()| {
        Trial::test(name, move || {
            run();
            Ok(())
        })
    };
    let is_root = nix::unistd::geteuid().is_root();
    let weak = ["run", "--tier", "no-namespaces", "--best-effort", "namespaces", "/bin/true"];
    let has_weak = Command::new(STOCKADE).args(weak).status().unwrap().success();
    let memory = ["run", "--memory", "64m", "/bin/true"];
    let has_memory = Command::new(STOCKADE).args(memory).status().unwrap().success();
    let mut trials = controls();
    trials.extend([
        test("the_default_holds", || all_held("")),
        test("a_prepared_one_holds", || all_held("--way prepared")),
        test("one_in_a_network_that_is_used_again_holds", || {
            all_held("--way prepared --recycle-network");
        }),
        test("a_session_holds", || all_held("--way session")),
        test("a_session_with_the_strict_profile_holds", || {
            all_held("--way session --seccomp strict --proc full");
        }),
        test("a_pooled_one_holds", || all_held("--way pool")),
        test("one_that_is_entered_holds", || all_held("--way enter")),
        test("an_entered_one_with_the_strict_profile_holds", || {
            all_held("--way enter --seccomp strict --proc full");
        }),
        test("each_way_has_its_attempts", each_way_has_its_attempts),
        test("the_strict_profile_holds", || all_held("--seccomp strict")),
        test("a_full_proc_holds", || all_held("--proc full")),
        test("hidden_host_paths_hold", || all_held("--hide-host-paths")),
        test("an_empty_root_holds", || all_held("--empty-root --proc none")),
        test("the_hosts_network_is_open", the_hosts_network_is_open),
        test("the_hosts_root_is_open", the_hosts_root_is_open)
            .with_ignored_flag(!is_root)
            .with_kind(if is_root { "" } else { "needs root" }),
        test("a_bad_one_is_open", a_bad_one_is_open),
        test(
            "a_weak_one_holds_but_for_what_is_documented",
            a_weak_one_holds_but_for_what_is_documented,
        )
        .with_ignored_flag(!has_weak)
        .with_kind(if has_weak { "" } else { "needs version 6 of Landlock" }),
        test("a_filter_that_kills_holds", a_filter_that_kills_holds),
        test("any_tree_will_do", any_tree_will_do),
        test("under_another_program", under_another_program),
        test("a_limit_of_memory_holds", a_limit_of_memory_holds)
            .with_ignored_flag(!has_memory)
            .with_kind(if has_memory { "" } else { "needs a control group that may be written" }),
        test("usage", usage),
        test("list", list),
        test("document", document),
    ]);
    let mut arguments = Arguments::from_args();
    // They wait for most of their time.
    if std::env::var_os("STOCKADE_TEST_SLOWNESS").is_none() {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        arguments.test_threads.get_or_insert(processors * 2);
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
