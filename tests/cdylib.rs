//! The library in a dynamic library, loaded by an interpreter that knows nothing of it: built while
//! cargo is offline, in debug and in release, and used with /proc/self/exe being somebody else's.
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
#[path = "common/life.rs"]
mod life;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use common::Needs;

tests! {
    cargo_and_python() => [
        in_debug, in_release, both_in_one_process, in_threads_and_copies, killed_interpreter,
    ];
    root_and_python() => [used_by_nobody];
}

const NOBODY: u32 = 65534;

fn cargo_and_python() -> Needs {
    Needs::Program(if cargo::works() { "python3" } else { cargo::NEEDED })
}

fn root_and_python() -> Needs {
    let runs = || python("").uid(NOBODY).gid(NOBODY).current_dir("/").status();
    if !nix::unistd::geteuid().is_root() || runs().is_ok_and(|status| status.success()) {
        match cargo_and_python() {
            Needs::Program(name) => Needs::RootAndProgram(name),
            other => other,
        }
    } else {
        Needs::RootAndProgram("a python3 that every user can run")
    }
}

// ---- building ----------------------------------------------------------------------------------

const SOURCE: &str = r#"
use std::time::Duration;

use stockade::{Outcome, Sandbox, Stdio};

/// Runs echo in a sandbox; the exit code, or the error number below zero.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn echo(written: *mut u8, room: usize) -> i32 {
    let sandbox = Sandbox::new().wall_time(Duration::from_secs(60));
    let output = match sandbox.command("/bin/echo").arg("from inside").output() {
        Ok(output) => output,
        Err(error) => {
            eprintln!("{error}");
            return -error.raw_os_error().unwrap_or(i32::MAX);
        }
    };
    let length = output.stdout.len().min(room);
    // SAFETY: the caller has that much room.
    unsafe { std::ptr::copy_nonoverlapping(output.stdout.as_ptr(), written, length) };
    match output.outcome {
        Outcome::Exited(code) => code,
        _ => i32::MIN,
    }
}

/// Starts a program that does not end, and holds the caller's standard output; its pid.
#[unsafe(no_mangle)]
pub extern "C" fn start(init: bool) -> i32 {
    let command = Sandbox::new().init(init).command("sleep").arg("1000");
    let child = command.stdout(Stdio::inherit()).spawn().unwrap();
    let pid = child.id();
    std::mem::forget(child);
    pid as i32
}
"#;

/// Builds it; the library.
fn build(test: &str, options: &[&str]) -> PathBuf {
    let mut command = cargo::on(test, "cdylib", SOURCE, "build");
    command.args(options);
    let messages = cargo::messages(command).into_iter();
    let files =
        messages.flat_map(|message| message["filenames"].as_array().cloned().unwrap_or_default());
    let files: Vec<_> = files.filter_map(|file| file.as_str().map(PathBuf::from)).collect();
    let library = files.into_iter().find(|file| file.ends_with("libembedded.so")).unwrap();
    // Another test's build may replace it.
    let own = std::env::temp_dir().join(format!("{test}.so"));
    fs::copy(library, &own).unwrap();
    own
}

// ---- using -------------------------------------------------------------------------------------

/// Loads each library that is named, and knows how to call it.
const PRELUDE: &str = r#"
import ctypes, os, sys

def load(path):
    return ctypes.CDLL(path)

def echo(library):
    written = ctypes.create_string_buffer(100)
    code = library.echo(written, ctypes.c_size_t(len(written)))
    return "%d %s" % (code, written.value.decode().strip())

libraries = [load(path) for path in sys.argv[1:]]
"#;

fn python(script: &str) -> Command {
    let mut command = Command::new("python3");
    command.args(["-I", "-B", "-c", &format!("{PRELUDE}{script}")]).stdin(Stdio::null());
    command
}

const ECHO: &str = "0 from inside";

/// What the script says, which ends well and without a word on standard error.
fn said(mut command: Command) -> String {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{}: {errors}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

/// The interpreter is what /proc/self/exe shows, before and after.
fn used(library: &Path) -> Command {
    let script = "exe = os.readlink('/proc/self/exe')\n\
                  assert 'python' in exe, exe\n\
                  print(echo(libraries[0]))\n\
                  assert os.readlink('/proc/self/exe') == exe\n";
    let mut command = python(script);
    command.arg(library);
    command
}

fn in_debug() {
    let library = build("in_debug", &[]);
    assert_eq!(said(used(&library)), format!("{ECHO}\n"));
}

fn in_release() {
    let library = build("in_release", &["--release"]);
    assert_eq!(said(used(&library)), format!("{ECHO}\n"));
}

/// Each has a copy of the library of its own.
fn both_in_one_process() {
    let libraries = [build("first", &[]), build("second", &["--release"])];
    let mut command = python("print([echo(library) for library in libraries * 3])\n");
    command.args(libraries);
    assert_eq!(said(command), format!("{:?}\n", [ECHO; 6]).replace('"', "'"));
}

fn in_threads_and_copies() {
    let library = build("in_threads", &[]);
    let script = r#"
from threading import Thread
results = []
threads = [Thread(target=lambda: results.append(echo(libraries[0]))) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
sys.stdout.flush()
copy = os.fork()
if copy == 0:
    os._exit(0 if echo(libraries[0]) == results[0] else 1)
print(sorted(set(results)), len(results), os.waitpid(copy, 0)[1])
try:
    print(os.waitpid(-1, 0))
except ChildProcessError:
    print("no child")
"#;
    let mut command = python(script);
    command.arg(library);
    assert_eq!(said(command), format!("['{ECHO}'] 8 0\nno child\n"));
}

/// SIGKILL leaves neither a sandbox nor the warden.
fn killed_interpreter() {
    life::adopt_orphans();
    let library = build("killed", &[]);
    let script = "libraries[0].start.argtypes = [ctypes.c_bool]\n\
                  for init in (True, False): libraries[0].start(init)\n\
                  print('started', flush=True)\n\
                  sys.stdin.read()\n";
    let (reading, writing) = std::io::pipe().unwrap();
    let mut command = python(script);
    command.arg(library).stdin(Stdio::piped()).stdout(writing);
    let mut process = command.spawn().unwrap();
    drop(command);
    let mut line = String::new();
    BufReader::new(&reading).read_line(&mut line).unwrap();
    assert_eq!(line, "started\n");
    life::kill_and_reap(&mut process);
    life::await_released(&reading, "a sandbox of the interpreter's");
    life::await_no_child("sandboxes and warden");
}

/// Root has built it, and a user who could not have built it uses it.
fn used_by_nobody() {
    let library = build("used_by_nobody", &[]);
    fs::set_permissions(&library, fs::Permissions::from_mode(0o644)).unwrap();
    let mut command = used(&library);
    command.uid(NOBODY).gid(NOBODY).current_dir("/");
    assert_eq!(said(command), format!("{ECHO}\n"));
}
