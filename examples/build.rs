//! A small build tool: compiles a library of C in parallel, each file in a sandbox that shows what
//! was declared for it and nothing else of the source, and finds a header that nobody has declared.
//!
//! `cargo run --features footprint --example build -- [DIRECTORY] [SETS]`
//!
//! The source is that of Lua 5.4, of the crate `lua-src` or in the directory that is named; it is compiled with
//! several sets of options (8, or as many as are named), as a build for several configurations does. Where other
//! programs keep the machine busy, the sandboxes may come out faster: each is a session of its own, and has
//! a share of the CPU of its own with that (sched(7), autogroup).

#[path = "shared/lua.rs"]
mod lua;

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use stockade::{Prepared, ReadKind, Sandbox};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Where the source is inside, and where objects go.
const SOURCE: &str = "/lua";
const OBJECTS: &str = "/objects";
/// What a compiler reads besides: itself, its libraries, the headers of the C library.
const SYSTEM: [&str; 8] = ["/usr", "/bin", "/lib", "/lib64", "/etc", "/proc", "/dev", "/tmp"];
/// Each is one configuration.
const SETS: [&[&str]; 8] = [
    &["-O0"],
    &["-O0", "-DLUA_USE_POSIX"],
    &["-O0", "-DLUA_COMPAT_5_3"],
    &["-O0", "-fPIC"],
    &["-O0", "-DLUAI_ASSERT"],
    &["-O0", "-DLUA_32BITS"],
    &["-O0", "-DLUA_USE_POSIX", "-fPIC"],
    &["-O1"],
];
/// The rule in which a header is forgotten, and which one.
const FORGOTTEN: (&str, &str) = ("lgc.c", "ltm.h");

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("build: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let directory = match std::env::args_os().nth(1) {
        Some(argument) => PathBuf::from(argument),
        None => lua::of_cargo().map_err(|error| error.to_string())?,
    };
    let sets = std::env::args().nth(2).map_or(Ok(SETS.len()), |text| text.parse())?;
    let rules = rules(&directory)?;
    let sets = SETS.get(..sets).ok_or("there are 8 sets of options")?;
    let pairs = (0..sets.len()).flat_map(|set| rules.iter().map(move |rule| (rule, set)));
    let jobs: Vec<_> = pairs.enumerate().collect();
    let threads = std::thread::available_parallelism()?.get();
    println!("{} objects of {directory:?}, {threads} at a time", jobs.len());

    let (bare, boxed) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let times = [AtomicU64::new(0), AtomicU64::new(0)];
    // Each rule has one sandbox, of which each object's is a copy.
    let prepare = |rule: &Rule| declared(rule, &directory).bind_rw(boxed.path(), OBJECTS).prepare();
    let began = Instant::now();
    let sandboxes = rules.iter().map(prepare).collect::<stockade::Result<Vec<_>>>()?;
    times[1].store(u64::try_from(began.elapsed().as_micros())?, Ordering::Relaxed);
    let failed = in_parallel(threads, &jobs, |(at, (rule, set))| {
        let (options, object) = (sets[*set], rule.object(*set));
        let without = || {
            let object = bare.path().join(&object);
            timed(&times[0], || plain(rule, options, &directory, &object))
        };
        let within = || {
            let sandbox = &sandboxes[at % rules.len()];
            timed(&times[1], || in_sandbox(sandbox, rule, options, &object))
        };
        // By turns, so that what else the machine does falls on both.
        let (without, within) = match at % 2 {
            0 => (without()?, within()?),
            _ => {
                let within = within()?;
                (without()?, within)
            }
        };
        if !without {
            return Err(format!("{} cannot be compiled", rule.source).into());
        }
        Ok(within)
    })?;
    // In each set, the compiler did not find what was forgotten.
    if failed.len() != sets.len() {
        return Err(format!("{} failed, where {} should", failed.len(), sets.len()).into());
    }
    for at in failed.iter().take(1) {
        find_undeclared(jobs[*at].1.0, &directory)?;
    }
    for (_, (rule, set)) in jobs.iter().filter(|(_, (rule, _))| rule.source != FORGOTTEN.0) {
        let object = rule.object(*set);
        if fs::read(bare.path().join(&object))? != fs::read(boxed.path().join(&object))? {
            return Err(format!("{object} is another one in a sandbox").into());
        }
    }
    report(times.map(AtomicU64::into_inner), jobs.len());
    Ok(())
}

fn timed(sum: &AtomicU64, work: impl FnOnce() -> Result<bool>) -> Result<bool> {
    let began = Instant::now();
    let done = work();
    sum.fetch_add(u64::try_from(began.elapsed().as_micros())?, Ordering::Relaxed);
    done
}

fn report([without, within]: [u64; 2], objects: usize) {
    let millis = |micros: u64| micros as f64 / 1e3 / objects.max(1) as f64;
    println!(
        "{:.2} ms for each object without sandbox, {:.2} ms in one that shows what is declared: {:+.1} %",
        millis(without),
        millis(within),
        (millis(within) / millis(without) - 1.0) * 100.0
    );
}

/// How an object is made.
#[derive(Debug)]
struct Rule {
    source: String,
    /// Source and headers.
    inputs: BTreeSet<String>,
}

impl Rule {
    fn object(&self, set: usize) -> String {
        format!("{}-{set}.o", self.source.trim_end_matches(".c"))
    }
}

/// The rules, as somebody has written them who has forgotten one header.
fn rules(directory: &Path) -> Result<Vec<Rule>> {
    let mut includes = BTreeMap::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.ends_with(".c") || name.ends_with(".h") {
            let text = String::from_utf8_lossy(&fs::read(&path)?).into_owned();
            includes.insert(name, included(&text));
        }
    }
    let rule = |source: &String| {
        let mut inputs = BTreeSet::new();
        let mut open = vec![source.clone()];
        while let Some(name) = open.pop() {
            // What is not there is chosen by options that nobody gives.
            let Some(more) = includes.get(&name) else { continue };
            if inputs.insert(name) {
                open.extend(more.iter().cloned());
            }
        }
        if source == FORGOTTEN.0 {
            inputs.remove(FORGOTTEN.1);
        }
        Rule { source: source.clone(), inputs }
    };
    Ok(includes.keys().filter(|name| name.ends_with(".c")).map(rule).collect())
}

/// What a text includes by `#include "…"`.
fn included(text: &str) -> Vec<String> {
    let name = |line: &str| {
        let rest = line.trim_start().strip_prefix('#')?.trim_start().strip_prefix("include")?;
        Some(rest.trim_start().strip_prefix('"')?.split_once('"')?.0.to_owned())
    };
    text.lines().filter_map(name).collect()
}

/// Does all jobs; which of them failed.
fn in_parallel<T: Sync>(
    threads: usize,
    jobs: &[T],
    work: impl Fn(&T) -> Result<bool> + Sync,
) -> Result<Vec<usize>> {
    let next = AtomicUsize::new(0);
    let worker = || -> Result<Vec<usize>> {
        let mut failed = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(job) = jobs.get(at) else { return Ok(failed) };
            if !work(job)? {
                failed.push(at);
            }
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        let mut all = Vec::new();
        for worker in workers {
            all.extend(worker.join().map_err(|_| "a thread panicked")??);
        }
        Ok(all)
    })
}

/// The same paths inside and outside, so that the objects are the same.
fn arguments(options: &[&str], source: &Path, object: &Path) -> Vec<PathBuf> {
    let prefix =
        format!("-ffile-prefix-map={}={SOURCE}", source.parent().unwrap_or(source).display());
    let words = options.iter().copied().chain(["-pipe", "-c", &prefix]).map(PathBuf::from);
    words.chain([source.into(), "-o".into(), object.into()]).collect()
}

fn plain(rule: &Rule, options: &[&str], directory: &Path, object: &Path) -> Result<bool> {
    let arguments = arguments(options, &directory.join(&rule.source), object);
    let mut command = std::process::Command::new("cc");
    let status = command.args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).status()?;
    Ok(status.success())
}

/// A sandbox that has of the source what was declared, and no more.
fn declared(rule: &Rule, directory: &Path) -> Sandbox {
    rule.inputs.iter().fold(Sandbox::new(), |sandbox, name| {
        sandbox.bind_ro(directory.join(name), Path::new(SOURCE).join(name))
    })
}

fn in_sandbox(sandbox: &Prepared, rule: &Rule, options: &[&str], object: &str) -> Result<bool> {
    let (source, object) = (Path::new(SOURCE).join(&rule.source), Path::new(OBJECTS).join(object));
    let status = sandbox.command("cc").args(arguments(options, &source, &object)).status()?;
    Ok(status.outcome.is_success())
}

/// What a rule should have declared: it is compiled again, with all of the source, and watched.
fn find_undeclared(rule: &Rule, directory: &Path) -> Result<()> {
    let inputs = rule.inputs.iter().map(|name| Path::new(SOURCE).join(name));
    let sandbox = Sandbox::new()
        .bind_ro(directory, SOURCE)
        .tmpfs(OBJECTS)
        .declare_inputs(SYSTEM)
        .declare_inputs(inputs)
        .declare_outputs([OBJECTS]);
    let (source, object) =
        (Path::new(SOURCE).join(&rule.source), Path::new(OBJECTS).join("object.o"));
    let mut child = sandbox.command("cc").args(arguments(&["-O0"], &source, &object)).spawn()?;
    child.wait()?;
    let footprint = child.footprint().ok_or("there is one, as inputs are declared")?;
    let found = footprint.undeclared_reads.iter().filter(|read| read.kind == ReadKind::Content);
    let found: Vec<_> = found.map(|read| read.path.clone()).collect();
    println!("{}: not declared: {found:?}", rule.source);
    if found == [Path::new(SOURCE).join(FORGOTTEN.1)] {
        return Ok(());
    }
    Err(format!("what was forgotten is {}\n{footprint}", FORGOTTEN.1).into())
}
