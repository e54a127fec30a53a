//! What a spawn costs, compared with a hand-written one of the same sandbox ("the floor"), with
//! `std::process::Command`, bubblewrap and hakoniwa.
//!
//! The contenders take turns, round by round, so that what else the machine does falls on all of
//! them. `--quick`, or STOCKADE_BENCH_ROUNDS=N, measures less; without `--bench`, which cargo gives,
//! it is quick. `--many N` does nothing but start N programs, and shows what has grown by that; `--threads WAY T N`
//! starts N by T threads, prepared or recycled (prepared, with a network that is used again), and says how many a second.
#![allow(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a bench may end so")]
#![allow(clippy::cast_possible_truncation, reason = "kernel words, and counts of rounds")]

#[path = "spawn/checks.rs"]
mod checks;
#[path = "spawn/contender.rs"]
mod contender;
#[path = "spawn/data.rs"]
mod data;
#[path = "spawn/etc.rs"]
mod etc;
#[path = "spawn/floor.rs"]
mod floor;
#[path = "spawn/many.rs"]
mod many;
#[path = "spawn/prepared.rs"]
mod prepared;
#[allow(dead_code, unused_imports, reason = "the floor needs the clone and the bare call")]
#[path = "../src/raw.rs"]
mod raw;
#[path = "spawn/resources.rs"]
mod resources;
#[path = "spawn/runtime.rs"]
mod runtime;
#[path = "spawn/table.rs"]
mod table;
#[path = "spawn/walls.rs"]
mod walls;
#[path = "spawn/worker.rs"]
mod worker;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use contender::{Contender, Contenders, Program};
use table::{At, Times, micros, percent, ratio};
use worker::{BINDS, Size, Task, Worker};

/// The host's system directories besides /usr, as in the default sandbox.
const SYSTEM: &[&str] = &["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"];
/// The parents' sizes, in GB.
const SIZES: [usize; 3] = [0, 1, 4];
/// Counted starts in each turn.
const TURN: usize = 3;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, size, scratch] = args.as_slice() {
        if mode == "--worker" {
            raise_descriptor_limit();
            worker::main(Size::from_text(size), Path::new(scratch));
            return;
        }
    }
    // Cargo gives its own as well.
    let own: Vec<_> = args.iter().filter(|arg| *arg != "--bench").collect();
    if let [mode, count, way] = own.as_slice() {
        if *mode == "--spawns" {
            return prepared::spawns(way, count.parse().expect("a number"));
        }
    }
    if let [mode, count] = own.as_slice() {
        if *mode == "--many" {
            return many::measure(count.parse().expect("a number"));
        }
    }
    if let [mode, way, threads, count] = own.as_slice() {
        if *mode == "--threads" {
            let [threads, count] = [threads, count].map(|text| text.parse().expect("a number"));
            return prepared_spawns(way, threads, count);
        }
    }
    let full = args.iter().any(|arg| arg == "--bench") && !args.iter().any(|arg| arg == "--quick");
    let asked = std::env::var("STOCKADE_BENCH_ROUNDS").ok().and_then(|text| text.parse().ok());
    let rounds: usize = asked.unwrap_or(if full { 100 } else { 10 }).max(1);
    raise_descriptor_limit();
    let scratch = scratch();
    let program = match Program::find(scratch.path()) {
        Ok(program) => program,
        Err(reason) => return println!("not measured: {reason}"),
    };
    let contenders = Contenders::new(&program, &[]);
    print_machine(&program);
    checks::floor_is_a_sandbox();
    let missing: Vec<_> = Contender::ALL
        .into_iter()
        .filter_map(|contender| Some((contender, contenders.missing(contender)?)))
        .collect();
    for (contender, reason) in &missing {
        println!("not measured: {}: {reason}", contender.name());
    }
    let takes_part = |one: &Contender| !missing.iter().any(|(contender, _)| contender == one);
    let present: Vec<_> = Contender::ALL.into_iter().filter(takes_part).collect();
    let mut workers = start_workers(scratch.path());
    parents(&mut workers, &present, rounds);
    let Some((_, worker)) = workers.first_mut() else { return };
    many_binds(worker, &present, rounds);
    threads(worker, &present, rounds);
    resources::idle();
    data::measure(scratch.path(), rounds);
    prepared::ways(&program, &contenders, rounds);
    walls::at_the_spawn(rounds);
    walls::programs(scratch.path(), rounds.div_ceil(3));
    // Their heaps are needed once more.
    workers.truncate(1);
    resources::large_embedder(&mut workers, scratch.path(), rounds);
    resources::parked(rounds);
    runtime::blocked(rounds);
}

/// Nothing but prepared spawns by several threads, for `contention.py` to look at.
fn prepared_spawns(way: &str, threads: usize, count: usize) {
    let again = match way {
        "prepared" => false,
        "recycled" => true,
        _ => panic!("{way} is no way to start a program"),
    };
    let sandbox = stockade::Sandbox::new().recycle_network(again);
    let prepared = sandbox.prepare().expect("a sandbox");
    let run = |count| {
        for _ in 0..count {
            let status = prepared.command("/bin/true").status().expect("a sandbox");
            assert!(status.outcome.is_success());
        }
    };
    run(1);
    let before = std::time::Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || run((count + thread) / threads));
        }
    });
    println!("{:.0} a second", count as f64 / before.elapsed().as_secs_f64());
}

/// A directory that others may read, with the files for the many binds.
fn scratch() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(directory.path(), open).expect("its owner may");
    std::fs::create_dir(directory.path().join("files")).expect("a directory");
    for (file, _) in worker::many_binds(directory.path()) {
        std::fs::write(file, "x").expect("a file");
    }
    directory
}

/// With a root caller each bind is a descriptor while it is on its way to init.
fn raise_descriptor_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the address is that of a struct rlimit.
    let got = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: as above.
    let set = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    assert!(got == 0 && set == 0, "a limit can be raised up to the hard one");
}

fn print_machine(program: &Program) {
    let kernel = nix::sys::utsname::uname().expect("uname");
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let uid = nix::unistd::geteuid();
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("Linux {}, {cpus} CPUs, uid {uid}", kernel.release().to_string_lossy());
    println!("load before: {}", load.split(' ').take(3).collect::<Vec<_>>().join(" "));
    println!("program: {} {}", program.path.display(), program.args.join(" "));
    println!(
        "floor: one clone into seven namespaces (time is the eighth), maps by the parent, the\n\
         default sandbox's mounts, ids, empty capability sets, no_new_privs, names, lo, exec; no\n\
         init, report, limits, filter, keyring or session. bubblewrap and hakoniwa: as near as\n\
         their options come; they have no time namespace and one tmpfs for each writable place.\n"
    );
}

fn start_workers(scratch: &Path) -> Vec<(usize, Worker)> {
    let mut workers = Vec::new();
    for gigabytes in SIZES {
        // As much again must stay for what else the machine does.
        if gigabytes > 0 && available_gigabytes() < 2 * gigabytes {
            println!("skipped: a parent of {gigabytes} GB; too little memory is available");
            continue;
        }
        let size = Size { gigabytes, ..Size::default() };
        workers.push((gigabytes, Worker::start(size, scratch)));
    }
    workers
}

pub(crate) fn available_gigabytes() -> usize {
    let table = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = table.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<usize>().ok());
    kilobytes.unwrap_or(0) >> 20
}

/// Section (a): the default sandbox, and how the parent's memory counts.
fn parents(workers: &mut [(usize, Worker)], present: &[Contender], rounds: usize) {
    let mut times = vec![vec![Times::default(); Contender::ALL.len()]; workers.len()];
    for round in 0..rounds {
        for (size, (gigabytes, worker)) in workers.iter_mut().enumerate() {
            for &contender in present {
                // It copies the page tables of its parent: seldom is enough.
                let slow = contender == Contender::Hakoniwa && *gigabytes > 0;
                if slow && round % 10 != 0 {
                    continue;
                }
                let count = if slow { 1 } else { TURN };
                let measured = worker.ask(Task::Starts, contender, count);
                times[size][contender as usize].add(measured);
            }
        }
    }
    let bare = &times[0][Contender::Bare as usize];
    let (median, least) = (bare.median(), bare.least());
    println!(
        "machine: two bare clone(VM|VFORK) + exec + wait take {} µs (least {})\n",
        micros(median.map(|time| 2.0 * time)),
        micros(least.map(|time| 2.0 * time))
    );
    print_parents(workers, &times, rounds);
}

fn print_parents(workers: &[(usize, Worker)], times: &[Vec<Times>], rounds: usize) {
    println!(
        "(a) default sandbox, {rounds} rounds of {TURN}: median µs; \"x\" = ratio to the floor"
    );
    let mut header = vec!["".to_owned()];
    for (gigabytes, _) in workers {
        header.extend([format!("{gigabytes} GB"), "x".to_owned()]);
    }
    header.extend(["least", "x", "quartiles", "most/0 GB"].map(str::to_owned));
    let floor = |size: usize| &times[size][Contender::Floor as usize];
    let mut rows = Vec::new();
    for contender in Contender::ALL {
        let own = |size: usize| &times[size][contender as usize];
        let mut row = vec![contender.name().to_owned()];
        for size in 0..workers.len() {
            let median = own(size).median();
            row.extend([micros(median), ratio(median, floor(size).median())]);
        }
        row.extend([micros(own(0).least()), ratio(own(0).least(), floor(0).least())]);
        row.push(percent(own(0).spread()));
        row.push(ratio(own(workers.len() - 1).median(), own(0).median()));
        rows.push(row);
    }
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    table::print(&header, &rows);
}

/// Section (b): many bind mounts.
fn many_binds(worker: &mut Worker, present: &[Contender], rounds: usize) {
    let outside = [Contender::Bare, Contender::Std];
    let inside = || present.iter().copied().filter(|contender| !outside.contains(contender));
    let mut times = vec![Times::default(); Contender::ALL.len()];
    for round in 0..rounds.div_ceil(5) {
        for contender in inside() {
            let slow = matches!(contender, Contender::Bubblewrap | Contender::Hakoniwa);
            if !slow || round % 10 == 0 {
                times[contender as usize].add(worker.ask(Task::ManyBinds, contender, 1));
            }
        }
    }
    println!("\n(b) {BINDS} bind mounts, {} rounds: µs", rounds.div_ceil(5));
    let floor = &times[Contender::Floor as usize];
    let row = |contender: Contender| {
        let own = &times[contender as usize];
        let (median, least) = (own.median(), own.least());
        let name = contender.name().to_owned();
        let medians = [micros(median), ratio(median, floor.median())];
        let leasts = [micros(least), ratio(least, floor.least()), percent(own.spread())];
        [name].into_iter().chain(medians).chain(leasts).collect()
    };
    let rows: Vec<_> = inside().map(row).collect();
    table::print(&["", "median", "x", "least", "x", "quartiles"], &rows);
    let prepared = times[Contender::Prepared as usize].median();
    table::goal(
        "prepared with the binds, x floor",
        At::Most(0.15),
        table::quotient(prepared, floor.median()),
    );
}

/// Section (c): several threads of one process at once.
fn threads(worker: &mut Worker, present: &[Contender], rounds: usize) {
    const FOUR: usize = 2;
    let counts = [1, 2, 4, 8];
    let all = [
        Contender::Floor,
        Contender::Stockade,
        Contender::WithoutInit,
        Contender::Prepared,
        Contender::Bubblewrap,
    ];
    let contenders: Vec<_> = all.into_iter().filter(|one| present.contains(one)).collect();
    let (rounds, starts) = (rounds.div_ceil(10), 160);
    let mut times = vec![vec![Times::default(); counts.len()]; contenders.len()];
    for _ in 0..rounds {
        for (column, &threads) in counts.iter().enumerate() {
            for (row, &contender) in contenders.iter().enumerate() {
                times[row][column].add(worker.ask(Task::Threads(threads), contender, starts));
            }
        }
    }
    println!("\n(c) spawns per second by number of threads, {rounds} rounds of {starts}");
    let per_second = |times: &Times| times.median().map(|micros| starts as f64 * 1e6 / micros);
    let row = |(contender, times): (&Contender, &Vec<Times>)| {
        let cells = times.iter().map(|times| micros(per_second(times)));
        std::iter::once(contender.name().to_owned()).chain(cells).collect()
    };
    let rows: Vec<_> = contenders.iter().zip(&times).map(row).collect();
    table::print(&["", "1", "2", "4", "8"], &rows);
    let of = |wanted: Contender| {
        let row = contenders.iter().position(|&one| one == wanted)?;
        per_second(&times[row][FOUR])
    };
    for (name, other, goal) in [
        ("prepared, 4 threads, x floor", Contender::Floor, At::Least(2.5)),
        ("prepared, 4 threads, x bubblewrap", Contender::Bubblewrap, At::Least(8.0)),
    ] {
        table::goal(name, goal, table::quotient(of(Contender::Prepared), of(other)));
    }
}
