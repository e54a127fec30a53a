//! What a start costs where the sandbox is there before.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use stockade::{Child, Pool, Sandbox, Session};

use crate::contender::{Contender, Contenders, Program};
use crate::table::{self, At, Times, micros, percent, quotient, ratio};

/// How long a pool is given to fill, and the machine to take apart what has ended.
const PAUSE: Duration = Duration::from_millis(3);

/// How many more rounds these have than others: of few, the slowest hundredth would be the slowest.
const MORE: usize = 15;

/// One way, with the times to the exec and to the end.
struct Row {
    name: &'static str,
    started: Times,
    ended: Times,
}

/// Section (i): no sandbox, one of its own, one that is prepared, with a new network and with one that is used again,
/// a session's command, and one from a pool.
pub(crate) fn ways(program: &Program, contenders: &Contenders, rounds: usize) {
    let rounds = rounds * MORE;
    println!("\n(i) prepared, session and pool, {rounds} rounds: µs to the exec and to the end");
    let sandbox = sandbox(program);
    let prepared = sandbox.prepare().expect("a sandbox");
    let recycled = sandbox.clone().recycle_network(true).prepare().expect("a sandbox");
    let session = prepared.session().expect("a session");
    let pool = prepared.pool(2).expect("a pool");
    let mut rows: Vec<_> =
        ["posix_spawn", "session", "pool", "prepared", "recycled", "own", "floor"]
            .map(|name| Row { name, started: Times::default(), ended: Times::default() })
            .into();
    for _ in 0..rounds {
        for row in &mut rows {
            let times = match row.name {
                "posix_spawn" => bare(program),
                "session" => in_session(&session, program),
                "pool" => from_pool(&pool, program),
                "prepared" => child(|| command(prepared.command(&program.path), program)),
                "recycled" => child(|| command(recycled.command(&program.path), program)),
                "own" => child(|| command(sandbox.command(&program.path), program)),
                _ => {
                    let time = contenders.run(Contender::Floor);
                    (time, time)
                }
            };
            row.started.add(vec![times.0]);
            row.ended.add(vec![times.1]);
            std::thread::sleep(PAUSE);
        }
    }
    print(&rows);
    goals(&rows);
    println!("pool: {:?}", pool.metrics());
}

fn print(rows: &[Row]) {
    let [bare, .., floor] = rows else { return };
    let line = |row: &Row| {
        let (started, ended) = (row.started.median(), row.ended.median());
        vec![
            row.name.to_owned(),
            micros(started),
            ratio(started, bare.started.median()),
            micros(ended),
            ratio(ended, bare.ended.median()),
            ratio(ended, floor.ended.median()),
            ratio(row.started.at(0.99), started),
            ratio(row.ended.at(0.99), ended),
            percent(row.ended.spread()),
        ]
    };
    let rows: Vec<_> = rows.iter().map(line).collect();
    let header = [
        "",
        "exec",
        "x posix",
        "end",
        "x posix",
        "x floor",
        "exec p99/median",
        "end p99/median",
        "quartiles",
    ];
    table::print(&header, &rows);
}

/// As they are set for a start to its end.
fn goals(rows: &[Row]) {
    let [bare, session, pool, prepared, recycled, _, floor] = rows else { return };
    let of = |row: &Row, other: &Row| quotient(row.ended.median(), other.ended.median());
    let tail = |row: &Row| quotient(row.ended.at(0.99), row.ended.median());
    table::goal("a command of a session, x posix_spawn", At::Most(1.0), of(session, bare));
    table::goal("a command from a pool, x posix_spawn", At::Most(1.1), of(pool, bare));
    let tails = quotient(tail(pool), tail(bare));
    table::goal("its p99 to median, x that of posix_spawn", At::Most(1.5), tails);
    table::goal("prepared, a new network namespace, x floor", At::Most(1.0), of(prepared, floor));
    table::goal("prepared, one that is used again, x floor", At::Most(0.5), of(recycled, floor));
}

fn sandbox(program: &Program) -> Sandbox {
    let own = program.directory.iter();
    own.fold(Sandbox::new(), |sandbox, directory| sandbox.bind_ro(directory, directory))
}

fn command(command: stockade::Command, program: &Program) -> Child {
    command.args(&program.args).spawn().expect("a sandbox")
}

fn child(start: impl FnOnce() -> Child) -> (Duration, Duration) {
    let before = Instant::now();
    let mut child = start();
    let started = before.elapsed();
    let status = child.wait().expect("an end");
    assert!(status.outcome.is_success(), "{}", status.outcome);
    (started, before.elapsed())
}

fn in_session(session: &Session, program: &Program) -> (Duration, Duration) {
    child(|| command(session.command(&program.path), program))
}

fn from_pool(pool: &Pool, program: &Program) -> (Duration, Duration) {
    assert!(pool.wait_until_filled(Duration::from_secs(60)), "a pool that fills");
    std::thread::sleep(PAUSE);
    child(|| command(pool.command(&program.path), program))
}

/// Nothing but starts in one way, for `stages.py` to look at.
pub(crate) fn spawns(way: &str, count: usize) {
    let sandbox = Sandbox::new().recycle_network(way == "recycled");
    let prepared = sandbox.prepare().expect("a sandbox");
    let session = prepared.session().expect("a session");
    let pool = prepared.pool(usize::from(way == "pool")).expect("a pool");
    for _ in 0..count {
        assert!(pool.wait_until_filled(Duration::from_secs(60)), "a pool that fills");
        // What has ended is taken apart beside what is looked at otherwise.
        std::thread::sleep(PAUSE);
        let command = match way {
            "own" => sandbox.command("/bin/true"),
            "prepared" | "recycled" => prepared.command("/bin/true"),
            "session" => session.command("/bin/true"),
            "pool" => pool.command("/bin/true"),
            _ => panic!("{way} is no way to start a program"),
        };
        let status = command.status().expect("a sandbox");
        assert!(status.outcome.is_success());
    }
}

/// Without closures between fork and exec the standard library calls posix_spawn(3).
fn bare(program: &Program) -> (Duration, Duration) {
    let mut command = Command::new(&program.path);
    command.args(&program.args).env_clear().env("PATH", "/usr/bin:/bin");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let before = Instant::now();
    let mut child = command.spawn().expect("a program");
    let started = before.elapsed();
    let status = child.wait().expect("an end");
    let ended = before.elapsed();
    assert!(status.success(), "{status}");
    (started, ended)
}
