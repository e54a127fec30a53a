//! The freestanding programs are linked by what cargo was given for the target, however it was given.
//!
//! With `--target` cargo tells the flags of the target from those of the machine that builds, as in a
//! cross build; the target is this machine, so that what comes of it can be run.
#![allow(
    clippy::exit,
    clippy::incompatible_msrv,
    clippy::cast_possible_truncation,
    reason = "a test process, built by a current toolchain"
)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails so")]

#[path = "common/cargo.rs"]
mod cargo;
mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::Needs;

tests! {
    cargo_and("cc") => [by_setting, by_flags];
    cargo_and("ld") => [by_no_driver];
}

fn cargo_and(program: &'static str) -> Needs {
    Needs::Program(if cargo::works() { program } else { cargo::NEEDED })
}

const PROGRAMS: [&str; 2] = ["stockade-init", "stockade-warden"];

/// A linker that writes down how it was called; at the same place each time, so that what does not
/// change is built once.
struct Linker(PathBuf);

impl Linker {
    fn new(test: &str) -> Self {
        let directory = cargo::place().join(test);
        fs::create_dir_all(&directory).unwrap();
        let linker = Linker(directory);
        let log = linker.log();
        fs::write(&log, "").unwrap();
        let script = format!("#!/bin/sh\necho \"$*\" >> '{}'\nexec cc \"$@\"\n", log.display());
        fs::write(linker.path(), script).unwrap();
        fs::set_permissions(linker.path(), fs::Permissions::from_mode(0o755)).unwrap();
        linker
    }

    fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    fn path(&self) -> PathBuf {
        self.0.join("linker")
    }

    /// The calls that made each of the two programs.
    fn calls(&self) -> [Vec<String>; 2] {
        let log = fs::read_to_string(self.log()).unwrap();
        PROGRAMS.map(|program| {
            let made = format!("/out/{program} ");
            log.lines().filter(|call| call.contains(&made)).map(str::to_owned).collect()
        })
    }
}

/// The machine that cargo itself is for.
fn host() -> String {
    let output = Command::new(env!("CARGO")).arg("-vV").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().find_map(|line| line.strip_prefix("host: ")).unwrap().to_owned()
}

/// The variable that sets something of the target's.
fn variable(what: &str) -> String {
    let host = host().to_uppercase().replace(['-', '.'], "_");
    format!("CARGO_TARGET_{host}_{what}")
}

/// Builds, with this setting of the target's, and runs what came of it: without arguments both
/// programs end at once.
fn build_and_run(test: &str, setting: &str, value: &Path) {
    let on = |subcommand| {
        let mut command = cargo::on(test, "lib", "pub use stockade::Sandbox;\n", subcommand);
        command.args(["--target", &host()]).env(variable(setting), value);
        command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
        command
    };
    // One after the other: what another linker has made would do as well.
    let lock = fs::File::create(cargo::place().join("lock")).unwrap();
    lock.lock().unwrap();
    assert!(on("clean").args(["--package", "stockade"]).status().unwrap().success());
    let messages = cargo::messages(on("check"));
    let mut directories = messages.iter().filter_map(|message| message["out_dir"].as_str());
    let of = |directory: &&str| directory.contains("/build/stockade-");
    let directory = Path::new(directories.find(of).unwrap());
    for program in PROGRAMS {
        let status = Command::new(directory.join(program)).status().unwrap();
        assert_eq!(status.code(), Some(2), "{program}: {status}");
    }
}

fn by_setting() {
    let linker = Linker::new("by_setting");
    build_and_run("by_setting", "LINKER", &linker.path());
    assert!(linker.calls().iter().all(|calls| calls.len() == 1), "{:?}", linker.calls());
}

/// Of the flags those that choose a linker and its target are taken, and not what the program of the
/// caller's is linked with.
fn by_flags() {
    let linker = Linker::new("by_flags");
    let flags = format!(
        "-C linker={} -Clink-args=--sysroot=/ -Clink-arg=-lnot-for-init",
        linker.path().display()
    );
    build_and_run("by_flags", "RUSTFLAGS", Path::new(&flags));
    for calls in linker.calls() {
        let [call] = &calls[..] else { panic!("{calls:?}") };
        assert!(call.contains("--sysroot=/") && !call.contains("not-for-init"), "{call}");
    }
}

/// A linker by itself does not understand what is for a compiler's driver.
fn by_no_driver() {
    build_and_run("by_no_driver", "RUSTFLAGS", Path::new("-C linker=ld"));
}
