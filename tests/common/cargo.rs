//! Builds of crates that depend on this one, while cargo is offline.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const CARGO: &str = env!("CARGO");
const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// What is missing where [`works`] is not.
pub(crate) const NEEDED: &str = "a cargo that this user can run offline";

/// Cargo belongs to somebody, and other users may not reach it or what it has downloaded.
pub(crate) fn works() -> bool {
    let manifest = Path::new(ROOT).join("Cargo.toml");
    let mut command = Command::new(CARGO);
    command.args(["tree", "--offline", "--edges=normal,build", "--manifest-path"]).arg(manifest);
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success()) && fs::create_dir_all(place()).is_ok()
}

/// Below cargo's directory for tests, so that what does not change is built once.
pub(crate) fn place() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(env!("CARGO_CRATE_NAME"))
}

/// A subcommand of cargo's on a crate with this library, which can use `stockade`.
pub(crate) fn on(name: &str, kind: &str, source: &str, subcommand: &str) -> Command {
    let directory = place().join(name);
    fs::create_dir_all(&directory).unwrap();
    let manifest = format!(
        "[package]\nname = \"embedded\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n\
         [lib]\npath = \"lib.rs\"\ncrate-type = [\"{kind}\"]\n\n\
         [dependencies]\nstockade = {{ path = {ROOT:?}, default-features = false }}\n\n\
         [workspace]\n"
    );
    fs::write(directory.join("Cargo.toml"), manifest).unwrap();
    fs::write(directory.join("lib.rs"), source).unwrap();
    // The same versions as here: the others may not have been downloaded.
    fs::copy(Path::new(ROOT).join("Cargo.lock"), directory.join("Cargo.lock")).unwrap();
    let mut command = Command::new(CARGO);
    command.args([subcommand, "--offline", "--quiet"]);
    command.env("CARGO_TARGET_DIR", place().join("target")).current_dir(&directory);
    // What was meant for the build of the tests.
    command.env_remove("CARGO_BUILD_TARGET").env_remove("RUSTC_WORKSPACE_WRAPPER");
    command.env("CARGO_INCREMENTAL", "0");
    command
}

/// Runs it to a good end; what it says of each thing that it has made.
pub(crate) fn messages(mut command: Command) -> Vec<serde_json::Value> {
    let output = command.arg("--message-format=json").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}
