//! Compiles untrusted C in a sandbox, runs the result in another, then does the same with four
//! hostile programs and prints what each of them got.
//!
//! `cargo run --example compile`
//!
//! The C source is that of Lua, some 28,000 lines, which the crate `lua-src` carries; cargo is asked
//! where. Without cargo, name a directory with Lua 5.4's source files as the argument.

#[path = "shared/lua.rs"]
mod lua;

use std::error::Error;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use stockade::{Outcome, Resource, Sandbox, Stage, Status, Stdio, Usage};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compile: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let lua = Source::find()?;
    println!("compiling {} lines of {:?}", lua.lines, lua.directory);
    // The programs are put here, through a bind: the one place of the host's that cc can write to.
    let build = tempfile::tempdir()?;
    let mut table = Table::new();
    table.add("cc", "compile Lua", compile_lua(&lua, build.path())?);
    table.add("lua", "count primes", count_primes(build.path())?);
    table.add("bomb", "fork for ever", fork_bomb(build.path())?);
    table.add("spy", "read what is not its own", spy(build.path())?);
    table.add("daemon", "outlive the sandbox", outlive(build.path())?);
    table.add("spin", "run for ever", spin(build.path())?);
    print!("\n{}", table.text);
    Ok(())
}

/// A sandbox with a C compiler in it: cc comes with /usr, which is there by default. There is no
/// network but loopback, and of the host's directories only `build` can be written to.
fn compiler(build: &Path) -> Sandbox {
    Sandbox::new().bind_rw(build, "/build").wall_time(Duration::from_secs(50))
}

fn compile_lua(lua: &Source, build: &Path) -> Result<Seen> {
    let output = compiler(build)
        .bind_ro(&lua.directory, "/lua")
        .file("/src/lua.c", include_str!("compile/lua.c"))
        .command("cc")
        .args(["-O1", "-DLUA_USE_POSIX", "-I/lua", "-o", "/build/lua", "/src/lua.c"])
        .args(lua.files.iter().map(|file| Path::new("/lua").join(file)))
        .arg("-lm")
        .output()
        .map_err(about_cc)?;
    if !output.outcome.is_success() {
        return Err(failed("cc", output.outcome, &output.stderr));
    }
    let size = build.join("lua").metadata()?.len();
    Ok(Seen::new(output.outcome, output.usage, output.left_count).got(format!("{size} bytes")))
}

/// Compiles one of the hostile programs, which is given to the sandbox as data.
fn compile(build: &Path, name: &str, source: &str) -> Result<()> {
    let output = compiler(build)
        .file("/src/main.c", source)
        .command("cc")
        .args(["-O1", "-o"])
        .arg(Path::new("/build").join(name))
        .arg("/src/main.c")
        .output()
        .map_err(about_cc)?;
    if !output.outcome.is_success() {
        return Err(failed(name, output.outcome, &output.stderr));
    }
    Ok(())
}

/// A sandbox for a program that was just compiled, and nothing else of the host's files but the
/// system's.
fn runner(build: &Path, name: &str) -> Sandbox {
    Sandbox::new().bind_ro(build.join(name), "/program")
}

fn count_primes(build: &Path) -> Result<Seen> {
    let output = runner(build, "lua")
        .file("/primes.lua", include_str!("compile/primes.lua"))
        .wall_time(Duration::from_secs(30))
        .command("/program")
        .arg("/primes.lua")
        .output()?;
    if output.stdout != b"78498\n" {
        return Err(failed("lua", output.outcome, &output.stderr));
    }
    let got = line(&output.stdout);
    Ok(Seen::new(output.outcome, output.usage, output.left_count).got(got))
}

/// It may have 32 processes. When its first one ends, the others are ended with it.
fn fork_bomb(build: &Path) -> Result<Seen> {
    compile(build, "bomb", include_str!("compile/bomb.c"))?;
    let output = runner(build, "bomb")
        .rlimit(Resource::Processes, 32)
        .wall_time(Duration::from_secs(10))
        .command("/program")
        .output()?;
    expect("bomb", output.outcome, Outcome::Exited(0))?;
    let got = line(&output.stdout);
    Ok(Seen::new(output.outcome, output.usage, output.left_count).got(got))
}

/// It is told where to look, and exits with 0 if it got nothing.
fn spy(build: &Path) -> Result<Seen> {
    compile(build, "spy", include_str!("compile/spy.c"))?;
    let secret = String::from("this is a secret");
    let output = runner(build, "spy")
        .command("/program")
        .arg(std::process::id().to_string())
        .arg((secret.as_ptr() as usize).to_string())
        .output()?;
    expect("spy", output.outcome, Outcome::Exited(0))?;
    let got = line(&output.stdout);
    Ok(Seen::new(output.outcome, output.usage, output.left_count).got(got))
}

/// The host sees the daemon while the sandbox lives, and must not see it afterwards.
fn outlive(build: &Path) -> Result<Seen> {
    compile(build, "daemon", include_str!("compile/daemon.c"))?;
    let name = format!("stay-{}", std::process::id());
    let mut child = runner(build, "daemon")
        .command("/program")
        .arg(&name)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let stdout = child.stdout.take().ok_or("standard output is piped")?;
    BufReader::new(stdout).read_line(&mut String::new())?;
    let before = is_running(&name)?;
    // Closes its input, so the program ends and leaves the daemon behind.
    let Status { outcome, usage, left_count, .. } = child.wait()?;
    let after = is_running(&name)?;
    if !before || after {
        return Err(format!("daemon: runs before the end: {before}, after: {after}").into());
    }
    Ok(Seen::new(outcome, usage, left_count).got("seen by the host, then gone"))
}

fn spin(build: &Path) -> Result<Seen> {
    compile(build, "spin", include_str!("compile/spin.c"))?;
    let status =
        runner(build, "spin").wall_time(Duration::from_secs(1)).command("/program").status()?;
    expect("spin", status.outcome, Outcome::TimedOut)?;
    Ok(Seen::new(status.outcome, status.usage, status.left_count).got("one second"))
}

/// Whether a process of the host, in whatever sandbox, has this name.
fn is_running(name: &str) -> Result<bool> {
    for process in std::fs::read_dir("/proc")? {
        // A process that has ended meanwhile has no name any more.
        let comm = std::fs::read_to_string(process?.path().join("comm")).unwrap_or_default();
        if comm.trim_end() == name {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What is compiled: the C files of a directory.
struct Source {
    directory: PathBuf,
    files: Vec<PathBuf>,
    lines: usize,
}

impl Source {
    fn find() -> Result<Self> {
        let directory = match std::env::args_os().nth(1) {
            Some(argument) => PathBuf::from(argument),
            None => lua::of_cargo()?,
        };
        let unreadable = |error| format!("cannot read Lua's source in {directory:?}: {error}");
        let (mut files, mut lines) = (Vec::new(), 0);
        for entry in std::fs::read_dir(&directory).map_err(unreadable)? {
            let path = entry?.path();
            let kind = path.extension().unwrap_or_default();
            if kind == "c" || kind == "h" {
                lines += std::fs::read(&path)?.split(|&byte| byte == b'\n').count() - 1;
            }
            if kind == "c" {
                files.extend(path.file_name().map(PathBuf::from));
            }
        }
        files.sort();
        Ok(Source { directory, files, lines })
    }
}

/// A missing compiler is an error of spawn's, as every program that cannot be executed.
fn about_cc(error: stockade::Error) -> Box<dyn Error> {
    match error.stage() {
        Some(Stage::Start) => format!("this example needs a C compiler named cc: {error}").into(),
        _ => error.into(),
    }
}

fn failed(name: &str, outcome: Outcome, stderr: &[u8]) -> Box<dyn Error> {
    format!("{name}: {outcome}\n{}", String::from_utf8_lossy(stderr)).into()
}

fn expect(name: &str, outcome: Outcome, expected: Outcome) -> Result<()> {
    if outcome == expected {
        return Ok(());
    }
    Err(format!("{name}: {outcome}, where it should be: {expected}").into())
}

fn line(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end().to_owned()
}

/// What was seen of a program.
struct Seen {
    outcome: Outcome,
    usage: Usage,
    left: u64,
    got: String,
}

impl Seen {
    fn new(outcome: Outcome, usage: Option<Usage>, left: u64) -> Self {
        let usage = usage.unwrap_or_default();
        Seen { outcome, usage, left, got: String::new() }
    }

    fn got(self, got: impl Into<String>) -> Self {
        Seen { got: got.into(), ..self }
    }
}

/// The table that is printed at the end.
struct Table {
    text: String,
}

impl Table {
    fn new() -> Self {
        let mut table = Table { text: String::new() };
        let heads = ["program", "tried to", "outcome", "CPU", "wall", "peak", "left", "got"];
        table.row(heads.map(String::from));
        table
    }

    fn add(&mut self, program: &str, tried: &str, seen: Seen) {
        let Usage { user, system, wall, peak_rss_of_largest, .. } = seen.usage;
        self.row([
            program.to_owned(),
            tried.to_owned(),
            seen.outcome.to_string(),
            format!("{:.3} s", (user + system).as_secs_f64()),
            format!("{:.3} s", wall.as_secs_f64()),
            format!("{} MiB", peak_rss_of_largest >> 20),
            seen.left.to_string(),
            seen.got,
        ]);
    }

    fn row(&mut self, [program, tried, outcome, cpu, wall, peak, left, got]: [String; 8]) {
        // Writing to a string does not fail.
        let _ = writeln!(
            self.text,
            "{program:7}  {tried:24}  {outcome:18}  {cpu:>7}  {wall:>7}  {peak:>6}  {left:>4}  {got}"
        );
    }
}
