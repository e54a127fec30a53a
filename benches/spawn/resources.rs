//! What sandboxes hold, and what an embedder that holds much costs.

use std::path::Path;
use std::time::Duration;

use stockade::{Prepared, Sandbox};

use crate::contender::Contender;
use crate::floor::{Floor, wait};
use crate::table::{self, At, Times, micros, percent, quotient, ratio};
use crate::worker::{Size, Task, Worker};

/// What a large embedder has.
const LARGE: Size = Size { gigabytes: 4, threads: 1000, descriptors: 10_000 };
/// How many sandboxes the kernel's memory is divided by.
const PARKED: usize = 100;

/// Section (d): what init of an idle sandbox holds.
pub(crate) fn idle() {
    println!("\n(d) memory of an idle sandbox");
    let command = Sandbox::new().command("/usr/bin/sleep").arg("60");
    let child = command.spawn().expect("sleep can be started");
    std::thread::sleep(Duration::from_millis(100));
    match memory(child.id()) {
        Err(error) => println!("init: needs root ({error}): it is not dumpable"),
        Ok(fields) => {
            let all: Vec<_> = fields.iter().map(|(name, kib)| format!("{name} {kib} kB")).collect();
            println!("init: {}", all.join(", "));
        }
    }
}

/// What a process has in memory, in KiB.
fn memory(pid: u32) -> std::io::Result<Vec<(String, f64)>> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    Ok(fields(&text, &["Rss", "Pss", "Private_Dirty", "Private_Clean"]))
}

/// Lines of "name: number kB".
fn fields(text: &str, wanted: &[&str]) -> Vec<(String, f64)> {
    let field = |line: &str| {
        let (name, rest) = line.split_once(':')?;
        let number = rest.split_whitespace().next()?.parse().ok()?;
        wanted.contains(&name).then(|| (name.to_owned(), number))
    };
    text.lines().filter_map(field).collect()
}

/// Section (j): prepared spawns of a large embedder against those of a small one.
pub(crate) fn large_embedder(workers: &mut [(usize, Worker)], scratch: &Path, rounds: usize) {
    let Size { gigabytes, threads, descriptors } = LARGE;
    println!(
        "\n(j) an embedder with {gigabytes} GB, {threads} threads and {descriptors} descriptors \
         against one with none, {rounds} rounds of 3: µs"
    );
    let Some((_, small)) = workers.first_mut() else { return };
    if crate::available_gigabytes() < 2 * gigabytes {
        return println!("skipped: too little memory is available");
    }
    let mut large = Worker::start(LARGE, scratch);
    let contenders = [Contender::Std, Contender::Floor, Contender::Stockade, Contender::Prepared];
    let mut times = vec![[Times::default(), Times::default()]; contenders.len()];
    for _ in 0..rounds {
        for (contender, [with, without]) in contenders.iter().zip(&mut times) {
            without.add(small.ask(Task::Starts, *contender, 3));
            with.add(large.ask(Task::Starts, *contender, 3));
        }
    }
    let row = |(contender, [with, without]): (&Contender, &[Times; 2])| {
        vec![
            contender.name().to_owned(),
            micros(without.median()),
            micros(with.median()),
            ratio(with.median(), without.median()),
            ratio(with.least(), without.least()),
            percent(with.spread()),
        ]
    };
    let rows: Vec<_> = contenders.iter().zip(&times).map(row).collect();
    table::print(&["", "none", "much", "x", "least", "quartiles"], &rows);
    let Some([with, without]) = times.last() else { return };
    let reached = quotient(with.median(), without.median());
    table::goal("prepared, much against none", At::Most(1.1), reached);
}

/// Section (k): a sandbox that waits for its program, against one process in the same namespaces.
pub(crate) fn parked(rounds: usize) {
    println!("\n(k) a sandbox that waits in a pool");
    let prepared = Sandbox::new().prepare().expect("a sandbox");
    let alone = resident(&prepared, 1);
    println!(
        "PSS of init, which shares its program with others that wait: alone {} KiB",
        micros(alone)
    );
    table::goal("PSS of each of 100 in KiB", At::Most(60.0), resident(&prepared, PARKED));
    let floor = Floor::new(Path::new("/usr/bin/sleep"), &["1000"], &[], None);
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..rounds.div_ceil(20) {
        bare.push(held_by(|| Left::all(&floor)));
        ours.push(held_by(|| {
            let pool = prepared.pool(PARKED).expect("a pool");
            assert!(pool.wait_until_filled(Duration::from_secs(60)), "a pool that fills");
            pool
        }));
    }
    let (ours, bare) = (middle(ours), middle(bare));
    println!(
        "memory of the kernel's for each of {PARKED}, by all of /proc/meminfo that is its own: \
         {} KiB, and one process of the floor {} KiB",
        micros(ours),
        micros(bare)
    );
    table::goal("kernel memory, x one process", At::Most(1.25), quotient(ours, bare));
}

/// The mean PSS of so many inits that wait, in KiB, if this user may see it.
fn resident(prepared: &Prepared, count: usize) -> Option<f64> {
    let before = children();
    let pool = prepared.pool(count).expect("a pool");
    assert!(pool.wait_until_filled(Duration::from_secs(60)), "a pool that fills");
    let new = children().into_iter().filter(|pid| !before.contains(pid));
    let pss = |pid| {
        let memory = memory(pid).ok()?;
        memory.into_iter().find_map(|(name, kib)| (name == "Pss").then_some(kib))
    };
    let all = new.map(pss).collect::<Option<Vec<f64>>>()?;
    (all.len() == count).then(|| all.iter().sum::<f64>() / count as f64)
}

/// Processes that this one has started, by any of its threads, and those that they have: a template's copies are its
/// own.
fn children() -> Vec<u32> {
    let mut all = started_by("self");
    let theirs: Vec<_> = all.iter().flat_map(|pid| started_by(&pid.to_string())).collect();
    all.extend(theirs);
    all
}

fn started_by(process: &str) -> Vec<u32> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let of_task = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("children"));
    let text: Vec<_> = tasks.filter_map(|task| of_task(task).ok()).collect();
    text.join(" ").split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// Processes in namespaces of their own that are killed with this.
struct Left(Vec<i32>);

impl Left {
    fn all(floor: &Floor) -> Self {
        Left((0..PARKED).map(|_| floor.leave()).collect())
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        for &pid in &self.0 {
            // SAFETY: none of them has been waited for, so that the pid is its own.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        for &pid in &self.0 {
            wait(pid);
        }
    }
}

/// How much more the kernel itself has in memory while something is there, for each of [`PARKED`], in KiB.
fn held_by<T>(make: impl FnOnce() -> T) -> f64 {
    settle();
    let before = of_kernel();
    let made = make();
    let after = of_kernel();
    drop(made);
    (after - before) / PARKED as f64
}

/// Namespaces are taken apart in the background.
fn settle() {
    std::thread::sleep(Duration::from_millis(1000));
}

/// What the kernel has for itself, in KiB: of the whole machine.
fn of_kernel() -> f64 {
    let text = std::fs::read_to_string("/proc/meminfo").expect("/proc");
    // Stacks of processes are of the last one.
    let own = ["Slab", "PageTables", "SecPageTables", "Percpu", "VmallocUsed"];
    fields(&text, &own).iter().map(|(_, kib)| kib).sum()
}

fn middle(mut all: Vec<f64>) -> Option<f64> {
    all.sort_unstable_by(f64::total_cmp);
    all.get(all.len() / 2).copied()
}
