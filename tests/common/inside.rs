//! A test on both sides: a shell inside, or the test binary itself, bound into the sandbox and
//! called again.
#![allow(dead_code, reason = "each test binary uses some")]

use std::fs;
use std::path::Path;

use stockade::{Command, Error, Outcome, Output, Sandbox};

use crate::common::ways::Ways;

/// Tells a process that it runs a test's other side, and which.
const ROLE: &str = "STOCKADE_TEST_ROLE";
/// As in `common`.
const CHILD: &str = "STOCKADE_TEST_CHILD";

/// The role of this process, `None` in the test itself.
pub(crate) fn role() -> Option<String> {
    std::env::var(ROLE).ok()
}

/// This binary, to run the same test inside in another role.
pub(crate) fn myself(sandbox: &Sandbox, test: &str, role: &str) -> Command {
    let binary = std::env::current_exe().unwrap();
    let sandbox = sandbox.clone().bind_ro(binary, "/probe");
    sandbox.way_to("/probe").env(CHILD, test).env(ROLE, role)
}

/// The same outside, as a plain child.
pub(crate) fn myself_outside(test: &str, role: &str) -> std::process::Command {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.env(CHILD, test).env(ROLE, role);
    command
}

/// Runs to a good end; returns what was written.
pub(crate) fn succeed(command: Command) -> String {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.outcome, Outcome::Exited(0), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// A shell script inside, to whatever end.
pub(crate) fn shell(sandbox: &Sandbox, script: &str) -> Output {
    sandbox.way_to("sh").args(["-c", script]).output().unwrap()
}

/// A shell script inside, to a good end.
pub(crate) fn sh(sandbox: &Sandbox, script: &str) -> String {
    succeed(sandbox.way_to("sh").args(["-c", script]))
}

/// Asserts that a shell script fails inside with this text.
pub(crate) fn sh_fails(sandbox: &Sandbox, script: &str, text: &str) {
    let output = shell(sandbox, script);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_ne!(output.outcome, Outcome::Exited(0), "{script} worked");
    assert!(errors.contains(text), "{script}: {errors}");
}

/// Why a sandbox is not made.
pub(crate) fn refused(sandbox: &Sandbox) -> Error {
    sandbox.way_to("true").spawn().unwrap_err()
}

/// A field of /proc/PID/status.
pub(crate) fn status_field(pid: u32, field: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    field_of(&text, field)
}

/// A field of such a text.
pub(crate) fn field_of(text: &str, field: &str) -> String {
    let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.unwrap_or_else(|| panic!("no {field}")).trim().to_owned()
}

/// The only child of a process, of its first one for more than one generation.
pub(crate) fn child_of(pid: u32) -> u32 {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(other) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let Ok(text) = fs::read_to_string(entry.path().join("status")) else { continue };
        if field_of(&text, "PPid") == pid.to_string() && !text.contains("stockade-warden") {
            found.push(other);
        }
    }
    assert_eq!(found.len(), 1, "{found:?}");
    found[0]
}

/// The program of a `stockade` process: the child of its init.
pub(crate) fn program_of(stockade: u32) -> u32 {
    child_of(child_of(stockade))
}

/// A directory that every user may enter.
pub(crate) fn open_directory() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let mode = fs::Permissions::from_mode(0o755);
    fs::set_permissions(directory.path(), mode).unwrap();
    directory
}

/// Whether mounts of the host's system directories tell names of layers, as in a container.
pub(crate) fn layers_show() -> bool {
    let overlay = nix::sys::statfs::OVERLAYFS_SUPER_MAGIC;
    nix::sys::statfs::statfs("/usr").is_ok_and(|found| found.filesystem_type() == overlay)
}

/// Whether the test runs as root.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Whether there is nothing at this path, not even a dangling link.
pub(crate) fn is_absent(path: &Path) -> bool {
    path.symlink_metadata().is_err()
}
