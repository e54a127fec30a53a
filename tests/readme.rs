//! The README's promises that are not Rust: its two commands, its links and its command lines. The
//! Rust in it runs as the crate's documentation tests.
#![allow(
    clippy::exit,
    clippy::incompatible_msrv,
    clippy::cast_possible_truncation,
    reason = "a test process, built by a current toolchain"
)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails so")]

mod common;

use common::Needs;

/// Where the program was built, or none: without the feature, or where others cannot read it.
const STOCKADE: &str = if cfg!(feature = "cli") {
    env!("CARGO_BIN_EXE_stockade")
} else {
    "stockade with --features cli"
};

tests! {
    Needs::Nothing => [commands, links];
    Needs::Program(STOCKADE) => [command_lines];
}

const README: &str = include_str!("../README.md");
/// What it links to; that these files exist is checked by including them, where they are ours to
/// read.
const DOCS: [(&str, &str); 10] = [
    ("docs/attack.md", include_str!("../docs/attack.md")),
    ("docs/peers.md", include_str!("../docs/peers.md")),
    ("docs/design.md", include_str!("../docs/design.md")),
    ("docs/threat-model.md", include_str!("../docs/threat-model.md")),
    ("docs/kernel-support.md", include_str!("../docs/kernel-support.md")),
    ("docs/learn.md", include_str!("../docs/learn.md")),
    ("docs/images.md", include_str!("../docs/images.md")),
    ("docs/compat.md", include_str!("../docs/compat.md")),
    ("docs/session.md", include_str!("../docs/session.md")),
    ("docs/performance.md", include_str!("../docs/performance.md")),
];

/// The lines of the fenced block after a marker.
fn block(marker: &str) -> Vec<&'static str> {
    let (_, after) = README.split_once(marker).expect("the marker is there");
    let mut lines = after.lines();
    assert_eq!(lines.next(), Some(""), "the marker has a line of its own");
    assert_eq!(lines.next(), Some("```sh"));
    lines.take_while(|line| *line != "```").collect()
}

fn commands() {
    assert_eq!(block("\n<!-- command: main -->"), ["cargo run --example compile"]);
    assert_eq!(block("\n<!-- command: test -->"), ["cargo test --all-features"]);
}

fn links() {
    for (path, text) in DOCS {
        assert!(README.contains(&format!("]({path})")), "the README links to {path}");
        assert!(text.starts_with("# "), "{path} has a title");
    }
    let linked = README.split("](docs/").skip(1).filter_map(|rest| rest.split(')').next());
    for name in linked {
        let known = DOCS.iter().any(|(path, _)| path.strip_prefix("docs/") == Some(name));
        assert!(known, "docs/{name} is one of the documents");
    }
}

/// Every `stockade run` line is one that the program understands.
fn command_lines() {
    let lines = README.lines().filter_map(|line| line.strip_prefix("stockade run "));
    let mut seen = 0;
    for line in lines {
        let arguments = line.split(' ');
        let output = std::process::Command::new(STOCKADE)
            .args(["run", "--explain"])
            .args(arguments)
            .output()
            .expect("the program can be started");
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        seen += 1;
    }
    assert!(seen > 0);
}
