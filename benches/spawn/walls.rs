//! What the walls cost: at the spawn, and programs with many system calls.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use stockade::{Landlock, Rootfs, Sandbox, Seccomp};

use crate::data;
use crate::table::{self, Times, micros, percent, ratio};

/// The spawn with the filter, Landlock's rules and the generated /etc, and without.
pub(crate) fn at_the_spawn(rounds: usize) {
    println!("\n(g) what the walls cost at a spawn, start to end, {rounds} rounds: µs");
    let none = Sandbox::new().seccomp(Seccomp::none()).landlock(Landlock::none());
    let sandboxes = [
        (
            "no profile, no Landlock, the host's /etc".to_owned(),
            none.clone().rootfs(Rootfs::host().generated_etc(false)),
        ),
        ("no profile, no Landlock".to_owned(), none),
        ("no Landlock".to_owned(), Sandbox::new().landlock(Landlock::none())),
        ("default".to_owned(), Sandbox::new()),
    ];
    data::compare(&sandboxes, rounds);
}

/// A program that asks much of the kernel, outside and inside.
struct Work {
    name: &'static str,
    args: Vec<String>,
    /// What it needs besides the default.
    sandbox: Sandbox,
}

/// Compilers and a search, in the default sandbox against none, in turns.
pub(crate) fn programs(scratch: &Path, rounds: usize) {
    println!("\n(h) programs with many system calls, {rounds} rounds: ms");
    let (c, rust) = (source(scratch, "work.c", &c_source()), source(scratch, "work.rs", RUST));
    let given = |path: &Path| Sandbox::new().bind_ro(path, path);
    let text = |path: &Path| path.display().to_string();
    // What only root may list is left out on both sides.
    let find = "find /usr/share -type d ! -readable -prune -o -newermt 2200-01-01 -print";
    let mut works = vec![Work {
        name: "find /usr/share",
        args: find.split(' ').map(str::to_owned).collect(),
        sandbox: Sandbox::new(),
    }];
    if Path::new("/usr/bin/cc").exists() {
        let args = ["/usr/bin/cc", "-O1", "-c", "-o", "/dev/null", &text(&c)];
        let args = args.map(str::to_owned).into();
        works.push(Work { name: "cc -c", args, sandbox: given(&c) });
    }
    if let Some(sysroot) = sysroot() {
        let rustc = text(&sysroot.join("bin/rustc"));
        let args = [&*rustc, "--edition", "2021", "--crate-type", "lib"];
        let out = ["--emit", "obj", "-o", "/dev/shm/stockade-bench.o", &text(&rust)];
        let args = args.into_iter().chain(out).map(str::to_owned).collect();
        let sandbox = given(&rust).bind_same(&sysroot);
        works.push(Work { name: "rustc", args, sandbox });
    }
    let rows: Vec<_> = works.iter().map(|work| measure(work, rounds)).collect();
    let _absent = std::fs::remove_file("/dev/shm/stockade-bench.o");
    table::print(&["", "outside", "inside", "x", "least", "x", "quartiles"], &rows);
}

fn measure(work: &Work, rounds: usize) -> Vec<String> {
    let (mut outside, mut inside) = (Times::default(), Times::default());
    for round in 0..=rounds {
        let (before, after) = (bare(work), sandboxed(work));
        // The first fills the caches.
        if round > 0 {
            outside.add(vec![before]);
            inside.add(vec![after]);
        }
    }
    let thousandth = |time: Option<f64>| micros(time.map(|time| time / 1e3));
    vec![
        work.name.to_owned(),
        thousandth(outside.median()),
        thousandth(inside.median()),
        ratio(inside.median(), outside.median()),
        thousandth(inside.least()),
        ratio(inside.least(), outside.least()),
        percent(inside.spread()),
    ]
}

fn bare(work: &Work) -> Duration {
    let before = Instant::now();
    let mut command = Command::new(&work.args[0]);
    command
        .args(&work.args[1..])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("TMPDIR", "/dev/shm");
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    let time = before.elapsed();
    assert!(status.expect("a program").success(), "{} outside", work.name);
    time
}

fn sandboxed(work: &Work) -> Duration {
    let before = Instant::now();
    let command = work.sandbox.command(&work.args[0]).args(&work.args[1..]);
    let status = command.env("TMPDIR", "/dev/shm").status().expect("a sandbox");
    let time = before.elapsed();
    assert!(status.outcome.is_success(), "{} inside: {}", work.name, status.outcome);
    time
}

fn source(scratch: &Path, name: &str, text: &str) -> PathBuf {
    let path = scratch.join(name);
    std::fs::write(&path, text).expect("a file");
    path
}

/// With the headers of the library, as a real one.
fn c_source() -> String {
    let headers =
        ["stdio", "stdlib", "string", "math", "time", "errno", "signal", "unistd", "fcntl"];
    let mut text: String =
        headers.iter().map(|header| format!("#include <{header}.h>\n")).collect();
    for number in 0..300 {
        text +=
            &format!("int f{number}(int n) {{ return n < 2 ? n : n * {number} + f0(n - 1); }}\n");
    }
    text.replacen("int f0(int n)", "int f0(int);\nint f0(int n)", 1)
}

const RUST: &str = "use std::collections::HashMap;
pub fn count(text: &str) -> HashMap<String, usize> {
    let mut words = HashMap::new();
    for word in text.split_whitespace() {
        *words.entry(word.to_lowercase()).or_insert(0) += 1;
    }
    words
}
";

fn sysroot() -> Option<PathBuf> {
    let output = Command::new("rustc").args(["--print", "sysroot"]).output().ok()?;
    let path = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| PathBuf::from(path.trim()))
}
