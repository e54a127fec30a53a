//! Programs as they are installed, doing real work in the default sandbox with no more than the
//! options that docs/compat.md gives for them, and what they write compared with what they write
//! outside.
#![allow(
    clippy::exit,
    clippy::incompatible_msrv,
    reason = "a test process, built by a current toolchain"
)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails so")]

mod common;
#[path = "common/inside.rs"]
mod inside;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};

use common::{Needs, PATH, Test, toolchain};
use inside::open_directory;
use stockade::{Proc, Sandbox};

/// Where cargo built the program.
const STOCKADE: &str = env!("CARGO_BIN_EXE_stockade");
const COMPAT: &str = include_str!("../docs/compat.md");

/// A test for each, named as its row in docs/compat.md, and its script.
macro_rules! programs {
    ($($name:literal: $script:literal, $needs:expr, $compare:ident;)*) => {
        const NAMES: &[&str] = &[$($name),*];

        fn main() -> ExitCode {
            common::main(&[
                $(Test {
                    name: $name,
                    needs: $needs,
                    run: || $compare($name, include_str!(concat!("real_programs/", $script))),
                },)*
                Test { name: "documented", needs: Needs::Nothing, run: documented },
                Test { name: "library", needs: Needs::Nothing, run: library },
            ])
        }
    };
}

programs! {
    "gcc": "gcc.sh", Needs::Installed(&["gcc"]), as_outside;
    "g++": "gxx.sh", Needs::Installed(&["g++"]), as_outside;
    "clang": "clang.sh", Needs::Installed(&["clang", "clang++"]), as_outside;
    "make": "make.sh", Needs::Installed(&["make", "cc"]), as_outside;
    "cmake": "cmake.sh", Needs::Installed(&["cmake", "make", "c++"]), as_outside;
    "cargo": "cargo.sh", Needs::Toolchain, as_outside;
    "python3": "python3.sh", Needs::Installed(&["python3", "openssl"]), as_outside;
    "node": "node.sh", Needs::Installed(&["node", "npm"]), as_outside;
    "node, of the machine": "node_os.sh", Needs::Installed(&["node"]), as_outside;
    "git": "git.sh", Needs::Installed(&["git"]), as_outside;
    "bash": "bash.sh", Needs::Installed(&["bash"]), as_outside;
    "coreutils": "coreutils.sh", Needs::Installed(&["shuf"]), as_outside;
    "tar": "tar.sh", Needs::Installed(&["tar", "gzip"]), as_outside;
    "sort": "sort.sh", Needs::Installed(&["sort"]), as_outside;
    "java": "java.sh", Needs::Installed(&["java", "javac", "jar"]), as_outside;
    "sqlite3": "sqlite3.sh", Needs::Installed(&["sqlite3"]), as_outside;
    "perl": "perl.sh", Needs::Installed(&["perl"]), as_outside;
    "ruby": "ruby.sh", Needs::Installed(&["ruby"]), as_outside;
    "dropbear": "dropbear.sh", Needs::Installed(&["dropbear", "dbclient", "script"]), as_said;
    "sockets": "sockets.sh", Needs::Installed(&["python3"]), as_outside;
    "shared memory and queues": "ipc.sh", Needs::Installed(&["gcc"]), as_outside;
    "gdb": "gdb.sh", Needs::Installed(&["gdb", "gcc"]), as_outside;
    "strace": "strace.sh", Needs::Installed(&["strace"]), as_outside;
    "AddressSanitizer, LeakSanitizer, ThreadSanitizer": "sanitizers.sh", Needs::Installed(&["gcc"]), as_outside;
    "bubblewrap": "bubblewrap.sh", Needs::Installed(&["bwrap"]), as_outside;
    "ps, free, top, uptime": "procps.sh", Needs::Installed(&["ps", "free", "top", "uptime"]), as_outside;
}

/// The row of a program: its options on the command line, and what they are in the library.
fn row(name: &str) -> Option<(&'static str, &'static str)> {
    rows().find(|row| row.0 == name).map(|(_, options, settings)| (options, settings))
}

fn rows() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    let (_, section) = COMPAT.split_once("## Programs\n").unwrap();
    let table = section.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
    table.take_while(|line| line.starts_with('|')).map(|line| {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let [_, name, options, settings, _, _] = cells[..] else { panic!("{line}") };
        (name, options.trim_matches('`'), settings.trim_matches('`'))
    })
}

/// What the names in capital letters in docs/compat.md stand for in a test.
struct Host {
    toolchain: Option<PathBuf>,
    project: PathBuf,
}

impl Host {
    fn options(&self, options: &str) -> Vec<OsString> {
        let toolchain = self.toolchain.as_deref().unwrap_or(Path::new("/no/toolchain"));
        options
            .split_whitespace()
            .map(|word| {
                let word = word.replace("TOOLCHAIN", toolchain.to_str().unwrap());
                word.replace("PROJECT", self.project.to_str().unwrap()).into()
            })
            .collect()
    }

    /// The variables that these options set.
    fn variables(&self, options: &str) -> Vec<(String, String)> {
        let options = self.options(options);
        let pairs = options.windows(2).filter(|pair| pair[0] == "--env");
        let variables = pairs.map(|pair| pair[1].to_str().unwrap().split_once('=').unwrap());
        variables.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }
}

/// A repository to clone.
fn project(at: &Path) -> PathBuf {
    let project = at.join("project");
    let git = |words: &[&str]| {
        let mut command = Command::new("git");
        command.arg("-C").arg(&project).args(words).env("HOME", at);
        for name in ["GIT_AUTHOR_DATE", "GIT_COMMITTER_DATE"] {
            command.env(name, "2001-02-03T04:05:06Z");
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    fs::create_dir(&project).unwrap();
    if common::has("git") {
        git(&["init", "-q", "-b", "main"]);
        for text in ["one", "two"] {
            fs::write(project.join("file"), text).unwrap();
            git(&["add", "file"]);
            let user = ["-c", "user.name=first", "-c", "user.email=first@localhost"];
            git(&[&user[..], &["commit", "-q", "-m", text]].concat());
        }
    }
    project
}

fn run_inside(options: &str, host: &Host, script: &str) -> String {
    let mut command = Command::new(STOCKADE);
    command.arg("run").args(host.options(options)).args(["--", "sh", "-s"]).arg(&host.project);
    written(with_input(&mut command, script), "inside")
}

fn with_input(command: &mut Command, script: &str) -> Output {
    use std::io::Write;
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Read by the shell as it goes on: what runs in the script must not take it as its input.
    let script = format!("{{\n{script}\n}} </dev/null\n");
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn written(output: Output, where_: &str) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{where_}: {}\n{text}\n{errors}", output.status);
    assert!(!text.is_empty(), "{where_}: {errors}");
    text
}

fn with_host(test: impl FnOnce(&Host, &Path)) {
    let directory = open_directory();
    let host = Host { toolchain: toolchain(), project: project(directory.path()) };
    test(&host, directory.path());
}

fn as_outside(name: &str, script: &str) {
    let (options, _) = row(name).unwrap_or_else(|| panic!("{name} is not in docs/compat.md"));
    with_host(|host, directory| {
        let inside = run_inside(options, host, script);
        let home = directory.join("home");
        fs::create_dir(&home).unwrap();
        let mut outside = Command::new("sh");
        outside.arg("-s").arg(&host.project).current_dir(&home).env_clear();
        outside.envs([("PATH", PATH), ("LANG", "C.UTF-8")]).env("HOME", &home);
        // Inside, /tmp is thrown away: a JVM leaves a directory there, whatever TMPDIR is.
        outside.env("TMPDIR", directory).env("JAVA_TOOL_OPTIONS", "-XX:-UsePerfData");
        outside.envs(host.variables(options));
        assert_eq!(inside, written(with_input(&mut outside, script), "outside"));
    });
}

/// For what would need the user's own home directory outside.
fn as_said(name: &str, script: &str) {
    let (options, _) = row(name).unwrap_or_else(|| panic!("{name} is not in docs/compat.md"));
    let (_, said) = script.rsplit_once("# Writes:\n").unwrap();
    let said: String = said.lines().map(|line| format!("{}\n", &line[2..])).collect();
    with_host(|host, _| assert_eq!(run_inside(options, host, script), said));
}

/// Every row is tested.
fn documented() {
    let rows: Vec<_> = rows().map(|row| row.0).collect();
    assert_eq!(rows, NAMES);
}

/// What docs/compat.md says for the library is the same as what it says for the command line.
fn library() {
    with_host(|host, _| {
        let toolchain = host.toolchain.as_deref().unwrap_or(Path::new("/usr/share"));
        let host = Host { toolchain: Some(toolchain.to_owned()), project: host.project.clone() };
        for (name, options, settings) in rows() {
            let mut command = Sandbox::new().command("sh");
            if !settings.is_empty() {
                let path = format!("{}/bin:/usr/bin", toolchain.display());
                command = match settings {
                    "sandbox.allow_debugging()" => Sandbox::new().allow_debugging().command("sh"),
                    "sandbox.allow_nesting().proc(Proc::Compat)" => {
                        Sandbox::new().allow_nesting().proc(Proc::Compat).command("sh")
                    }
                    "sandbox.proc(Proc::Compat)" => Sandbox::new().proc(Proc::Compat).command("sh"),
                    "sandbox.bind_same(PROJECT)" => {
                        Sandbox::new().bind_same(&host.project).command("sh")
                    }
                    "sandbox.bind_same(TOOLCHAIN)`, `command.env(\"PATH\", …)" => {
                        Sandbox::new().bind_same(toolchain).command("sh").env("PATH", path)
                    }
                    other => panic!("{name}: {other}"),
                };
            }
            let mut explain = Command::new(STOCKADE);
            explain.args(["run", "--explain"]).args(host.options(options)).args(["--", "sh"]);
            let plan = written(explain.output().unwrap(), name);
            let streams = |plan: &str| -> Vec<String> {
                plan.lines().filter(|line| !line.contains("standard")).map(str::to_owned).collect()
            };
            assert_eq!(streams(&plan), streams(&command.plan().unwrap().to_string()), "{name}");
        }
    });
}
