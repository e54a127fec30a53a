//! `stockade bench`: that all is measured and told, never how long it took.
#![allow(
    clippy::exit,
    clippy::incompatible_msrv,
    clippy::cast_possible_truncation,
    reason = "a test process, built by a current toolchain"
)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails so")]

mod common;

use std::fs;
use std::process::{Command, Stdio};

use common::Needs;

/// Where cargo built the program.
const STOCKADE: &str = env!("CARGO_BIN_EXE_stockade");

tests! {
    Needs::Program(STOCKADE) => [
        all_ways_are_measured, the_program_is_run_in_all_ways, the_options_hold, what_cannot_be_measured,
        a_picture, errors,
    ];
}

const WAYS: [&str; 5] = ["plain", "cold", "prepared", "session", "pooled"];
const STAGES: [&str; 9] = [
    "look at the host, make the plan",
    "open streams, copy trees",
    "control groups",
    "clone, exec of init",
    "join namespaces",
    "id maps, plan to init",
    "wait for init's set-up",
    "wait for the exec",
    "all else",
];

/// The code, standard output and standard error.
fn bench(arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(STOCKADE);
    let output = command.arg("bench").args(arguments).stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn good(arguments: &[&str]) -> String {
    let (code, out, said) = bench(arguments);
    assert_eq!((code, said.as_str()), (Some(0), ""), "{out}");
    out
}

/// The columns of the row that begins so.
fn row<'a>(table: &'a str, name: &str) -> Vec<&'a str> {
    let row = table.lines().find_map(|line| line.strip_prefix(name));
    row.unwrap_or_else(|| panic!("no row {name}: {table}")).split_whitespace().collect()
}

fn number(text: &str) -> f64 {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is no number"))
}

fn all_ways_are_measured() {
    let table = good(&["--rounds", "3", "--", "/bin/true"]);
    let places = WAYS
        .map(|way| table.find(&format!("\n{way} ")).unwrap_or_else(|| panic!("{way}: {table}")));
    assert!(places.is_sorted(), "the baseline comes first: {table}");
    for way in WAYS {
        let columns = row(&table, way);
        let [first, median, third, ratio] = [0, 1, 2, 3].map(|at| number(columns[at]));
        assert!(0.0 < first && first <= median && median <= third && ratio > 0.0, "{table}");
        // What has ended has been started before.
        assert!(number(columns[5]) >= median, "{table}");
    }
    assert_eq!((row(&table, "plain")[3], row(&table, "plain")[7]), ("1.00", "1.00"), "{table}");
    for stage in STAGES {
        assert_eq!(row(&table, stage).len(), 4, "{stage}: {table}");
    }
    // What the library logs is understood: each way has the stages that it has.
    let of = |stage: &str| row(&table, stage).iter().map(|time| *time != "-").collect::<Vec<_>>();
    assert_eq!(of("look at the host, make the plan"), [true, true, false, false], "{table}");
    assert_eq!(of("clone, exec of init"), [true, true, false, false], "{table}");
    assert_eq!(of("id maps, plan to init"), [true, true, false, false], "{table}");
    assert_eq!(of("wait for init's set-up"), [true, true, false, false], "{table}");
    for stage in ["wait for the exec", "all else"] {
        assert_eq!(of(stage), [true; 4], "{stage}: {table}");
    }
}

fn the_program_is_run_in_all_ways() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let script = format!("echo $(uname -n) >>{path}/ran");
    let options = ["--rounds", "2", "--hostname", "inner", "--bind", path, path];
    good(&[&options[..], &["--", "sh", "-c", &script]].concat());
    let ran = fs::read_to_string(directory.path().join("ran")).unwrap();
    let inside = ran.lines().filter(|name| *name == "inner").count();
    // Once to try it, and in each round; in a sandbox once more for its stages.
    assert_eq!((inside, ran.lines().count() - inside), (4 * (1 + 2 + 2), 1 + 2), "{ran}");
}

fn the_options_hold() {
    // The program of the host's is not there.
    let (code, out, said) = bench(&["--rounds", "1", "--empty-root", "--", "/bin/true"]);
    assert_eq!((code, out.as_str()), (Some(127), ""), "{said}");
    good(&["--rounds", "1", "--empty-root", "--program", "/bin/true", "--", "/bin/true"]);
    let (code, _, said) = bench(&["--rounds", "1", "--", "false"]);
    assert_eq!(code, Some(0));
    assert_eq!(said.matches("the program exited with code 1").count(), 4, "{said}");
}

fn what_cannot_be_measured() {
    let table = good(&["--rounds", "1", "--no-init", "--", "/bin/true"]);
    for way in ["session", "pooled"] {
        assert_eq!(row(&table, way)[..2], ["not", "measured:"], "{table}");
    }
    for way in ["plain", "cold", "prepared"] {
        number(row(&table, way)[1]);
    }
    // A program that only the sandbox has is measured without a baseline.
    let (program, target) = ("/bin/true", "/only/here");
    let table = good(&["--rounds", "1", "--ro-bind", program, target, "--", target]);
    assert_eq!(row(&table, "plain")[..2], ["not", "measured:"], "{table}");
    assert_eq!(row(&table, "cold")[3], "-", "{table}");
}

/// Whether every tag is closed in its order, and there is nothing else that XML has no word for.
fn is_well_formed(text: &str) -> bool {
    let mut open = Vec::new();
    let mut rest = text;
    while let Some((before, tag)) = rest.split_once('<') {
        let Some((tag, after)) = tag.split_once('>') else { return false };
        let closed = match (tag.strip_prefix('/'), tag.ends_with('/')) {
            (Some(name), _) => open.pop() == Some(name),
            (None, true) => true,
            (None, false) => {
                open.push(tag.split(' ').next().unwrap());
                true
            }
        };
        let entities = before.split('&').skip(1).all(|entity| {
            ["amp;", "lt;", "gt;", "quot;"].iter().any(|known| entity.starts_with(known))
        });
        if !closed || !entities || before.contains('>') || tag.matches('"').count() % 2 != 0 {
            return false;
        }
        rest = after;
    }
    open.is_empty() && rest.trim().is_empty()
}

fn a_picture() {
    for wrong in ["<a>", "<a></b>", "</a>", "<a>&</a>", "<a x=\"></a>", "<a>></a>", "text"] {
        assert!(!is_well_formed(wrong), "{wrong}");
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bench.svg");
    let file = path.to_str().unwrap();
    let hostile = ["sh", "-c", "true", "<&>\"\u{1}\u{1b}[0m"];
    good(&[&["--rounds", "2", "--svg", file, "--"], &hostile[..]].concat());
    let picture = fs::read_to_string(&path).unwrap();
    assert!(picture.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\""), "{picture}");
    assert!(is_well_formed(&picture), "{picture}");
    assert!(picture.contains("&lt;&amp;&gt;&quot;"), "{picture}");
    for name in WAYS.iter().chain(&STAGES) {
        assert!(picture.contains(&format!(">{name}</text>")), "{name}: {picture}");
    }
    // A bar for each way, and one for each stage in the legend.
    assert!(picture.matches("<rect ").count() > WAYS.len() + STAGES.len(), "{picture}");
    assert!(!picture.chars().any(|letter| letter.is_control() && letter != '\n'), "{picture}");
}

fn errors() {
    for (arguments, code, reason) in [
        (&["--rounds", "0", "--", "true"][..], 125, "'0' for '--rounds <N>'"),
        (&["--rounds", "x", "--", "true"], 125, "'x' for '--rounds <N>'"),
        (&["--rounds", "1"], 125, "<PROGRAM>"),
        (&["--learn", "--", "true"], 125, "--learn"),
        (&["--tty", "--", "true"], 125, "'--tty' is not measured"),
        (&["--hostname", "", "--", "true"], 125, "host name"),
        (&["--svg", "/no/such/file", "--", "true"], 125, "write --svg"),
        (&["--", "/no/such/program"], 127, "exec \"/no/such/program\""),
        (&["--", "/etc/passwd"], 126, "exec \"/etc/passwd\""),
    ] {
        let (ended, out, said) = bench(arguments);
        assert_eq!((ended, out.as_str()), (Some(code), ""), "{arguments:?}: {said}");
        assert!(said.starts_with("stockade: ") && said.contains(reason), "{arguments:?}: {said}");
        assert_eq!(said.matches('\n').count(), 1, "{arguments:?}: {said}");
    }
}
