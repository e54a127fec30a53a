//! Whether anything grows when very many programs are started.

use stockade::{Outcome, Sandbox};

use crate::table;

/// A share of the starts after which it is looked for the first time: all caches are filled then.
const FIRST: usize = 10;
const PROGRAM: &str = "/usr/bin/busybox";

/// What may be more in the end than after the first tenth: an allocator's pages are seldom full, and what the kernel
/// frees in the background is there for moments.
const RSS: f64 = 1024.0;
const OBJECTS: f64 = 200.0;

/// Starts so many programs, in turns of one's own sandbox, prepared, with a network that is used again, from a pool, in a
/// session, and in a sandbox that runs; prints what there was after the first tenth and in the end. Where the caller may make
/// control groups, they have them half of the times.
pub(crate) fn measure(count: usize) {
    let sandbox = Sandbox::new();
    let limited = sandbox.clone().memory_limit(1 << 30).pids_limit(64);
    let has_groups = limited.command(PROGRAM).arg("true").status().is_ok();
    let other = if has_groups { &limited } else { &sandbox };
    let ways = [&sandbox, other].map(|sandbox| {
        let prepared = sandbox.prepare().expect("a sandbox");
        let again = sandbox.clone().recycle_network(true).prepare().expect("a sandbox");
        let pool = prepared.pool(2).expect("a pool");
        let running =
            prepared.command(PROGRAM).args(["sleep", "1000000"]).spawn().expect("a sandbox");
        (sandbox, prepared, again, pool, running)
    });
    let session = other.prepare().and_then(|prepared| prepared.session()).expect("a session");
    let mut first = None;
    for number in 0..count {
        let (sandbox, prepared, again, pool, running) = &ways[number / 6 % 2];
        let command = match number % 6 {
            0 => sandbox.command(PROGRAM),
            1 => prepared.command(PROGRAM),
            2 => session.command(PROGRAM),
            3 => again.command(PROGRAM),
            4 => running.command(PROGRAM).expect("a sandbox that runs"),
            _ => pool.command(PROGRAM),
        };
        let outcome = command.arg("true").status().expect("a sandbox").outcome;
        assert_eq!(outcome, Outcome::Exited(0));
        if number + 1 == count.div_ceil(FIRST) {
            first = Some(look(has_groups));
        }
    }
    let (first, last) = (first.unwrap_or_default(), look(has_groups));
    let groups = if has_groups { "half of them with limits" } else { "without control groups" };
    println!("{count} programs, in turns of six ways, {groups}");
    let row = |((name, before), (_, after)): (&(String, f64), &(String, f64))| {
        let difference = format!("{:+.0}", after - before);
        vec![name.clone(), format!("{before:.0}"), format!("{after:.0}"), difference]
    };
    let rows: Vec<_> = first.iter().zip(&last).map(row).collect();
    table::print(&["", "after a tenth", "in the end", "more"], &rows);
    for ((name, before), (_, after)) in first.iter().zip(&last) {
        let goal = table::At::Most(allowed(name));
        table::goal(&format!("{name}, more"), goal, Some(after - before));
    }
}

fn allowed(name: &str) -> f64 {
    match name {
        "RSS, KiB" => RSS,
        "threads" | "descriptors" | "mounts" => 0.0,
        name if name.contains("slabs") => RSS * 16.0,
        _ => OBJECTS,
    }
}

/// Everything that could grow. What is the whole machine's says so.
fn look(has_groups: bool) -> Vec<(String, f64)> {
    // Namespaces are taken apart in the background.
    std::thread::sleep(std::time::Duration::from_secs(3));
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let status = read("/proc/self/status");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(f64::NAN)
    };
    let entries = |path: &str| std::fs::read_dir(path).map_or(f64::NAN, |list| list.count() as f64);
    let groups = read("/proc/cgroups");
    let groups = groups
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().nth(2)?.parse::<f64>().ok());
    let mut all = vec![
        ("RSS, KiB".to_owned(), field("VmRSS:")),
        ("threads".to_owned(), field("Threads:")),
        ("descriptors".to_owned(), entries("/proc/self/fd")),
        ("mounts".to_owned(), read("/proc/self/mountinfo").lines().count() as f64),
        ("processes, machine".to_owned(), entries("/proc")),
    ];
    all.extend(has_groups.then(|| ("control groups, machine".to_owned(), groups.sum())));
    all.extend(caches(&read("/proc/slabinfo")));
    all
}

/// Of slabinfo(5): objects in use, where a name says what a sandbox has; and KiB of all together.
fn caches(text: &str) -> Vec<(String, f64)> {
    const OF_SANDBOXES: [&str; 12] = [
        "task_struct",
        "signal_cache",
        "mm_struct",
        "cred",
        "pid",
        "pid_namespace",
        "net_namespace",
        "user_namespace",
        "nsproxy",
        "mnt_cache",
        "filp",
        "sock_inode_cache",
    ];
    let rows: Vec<_> = text.lines().skip(2).map(|line| line.split_whitespace().collect()).collect();
    let number = |row: &Vec<&str>, at: usize| row.get(at).and_then(|word| word.parse().ok());
    let named = |row: &&Vec<&str>| row.first().is_some_and(|name| OF_SANDBOXES.contains(name));
    let count = |row: &Vec<&str>| (format!("{}, machine", row[0]), number(row, 1).unwrap_or(0.0));
    let mut all: Vec<_> = rows.iter().filter(named).map(count).collect();
    let sizes = rows.iter().filter_map(|row| Some(number(row, 1)? * number(row, 3)?));
    all.push(("slabs in use, machine, KiB".to_owned(), sizes.sum::<f64>() / 1024.0));
    all
}
