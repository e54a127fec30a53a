//! A program with eight threads that make sandboxes until they are told to end.

use std::io::{Read, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use stockade::{
    Child, Command, Feature, Network, Outcome, Overlay, Prepared, Proc, Sandbox, Seccomp, Stdio,
    Tmpfs,
};

use crate::random::Random;
use crate::{Result, host};

const THREADS: usize = 8;
/// Longer than anything waits here: who is not ended stays.
const LONG: &str = "1000";

/// Works until the end of standard input.
pub(crate) fn run(seed: u64) -> Result<()> {
    let mut random = Random::new(Some(seed));
    warm_up()?;
    let before = possessions()?;
    let (end, failed) = (AtomicBool::new(false), Mutex::new(None));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            let mut random = Random::new(Some(random.below(u64::MAX)));
            let (end, failed) = (&end, &failed);
            scope.spawn(move || {
                while !end.load(Ordering::Relaxed) {
                    if let Err(error) = once(&mut random) {
                        *failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
                            Some(error);
                        // The others go on: what they leave is looked at all the same.
                        return;
                    }
                }
            });
        }
        let read = std::io::stdin().read(&mut [0]);
        end.store(true, Ordering::Relaxed);
        read
    })?;
    if let Some(error) = failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        return Err(error);
    }
    // A group that the kernel was still busy with is removed with one of the next spawns.
    let mut new = left(&before)?;
    for _ in 0..50 {
        if new.is_empty() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(100));
        warm_up()?;
        new = left(&before)?;
    }
    Err(format!("descriptors, mounts or children left: {new:?}").into())
}

/// What there is more of than before.
fn left(before: &[String]) -> Result<Vec<String>> {
    let mut new = possessions()?;
    for one in before {
        if let Some(at) = new.iter().position(|other| other == one) {
            new.swap_remove(at);
        }
    }
    Ok(new)
}

/// What the first ones make and keep is there from now on: the warden, both inits, places of groups, the
/// user namespace that maps owners in binds.
fn warm_up() -> Result<()> {
    let mut kinds = vec![Sandbox::new().bind_ro("/usr/share", "/data")];
    if nix::unistd::geteuid().is_root() {
        kinds.push(limited(Sandbox::new()));
        Sandbox::new().own_host_id().command("true").status()?;
    }
    for sandbox in kinds {
        for init in [true, false] {
            let outcome = sandbox.clone().init(init).command("true").status()?.outcome;
            if !outcome.is_success() {
                return Err(outcome.to_string().into());
            }
        }
        let mut paused = sandbox.command("sleep").arg(LONG).spawn()?;
        paused.pause()?;
        drop(paused);
        sandbox.prepare()?.session()?.end()?;
    }
    Ok(())
}

fn limited(sandbox: Sandbox) -> Sandbox {
    let sandbox = sandbox.memory_limit(64 << 20).pids_limit(50);
    let lacking = [Feature::MemoryLimits, Feature::PidsLimit];
    lacking.into_iter().fold(sandbox, Sandbox::best_effort)
}

/// Descriptors, mounts and children.
fn possessions() -> Result<Vec<String>> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    let mut all: Vec<_> = mounts.lines().map(str::to_owned).chain(host::children()).collect();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        // That of the reading itself is gone.
        let link = std::fs::read_link(entry?.path());
        all.extend(link.map(|link| link.display().to_string()));
    }
    all.sort();
    Ok(all)
}

/// A sandbox of random settings.
fn sandbox(random: &mut Random) -> Result<Sandbox> {
    let mut sandbox = Sandbox::new();
    match random.below(4) {
        0 => sandbox = sandbox.network(Network::None),
        1 => sandbox = sandbox.network(Network::Host),
        _ => {}
    }
    // Each at most once.
    let chosen: Vec<_> = (0..8).filter(|_| random.one_in(4)).collect();
    for setting in chosen {
        sandbox = match setting {
            0 => sandbox.hostname("soak"),
            1 => sandbox.bind_ro("/usr/share", "/data"),
            2 => sandbox.mount_tmpfs(Tmpfs::new("/scratch").size(1 << 20)),
            3 => sandbox.file("/given", vec![7; 100_000]),
            4 => sandbox.seccomp(Seccomp::strict()),
            5 => sandbox.proc(Proc::Compat),
            6 => sandbox.wall_time(Duration::from_millis(random.below(300) + 1)),
            _ => sandbox.overlay("/layers", Overlay::new(["/usr/share", "/usr/lib"])),
        };
    }
    let is_root = nix::unistd::geteuid().is_root();
    if is_root && random.one_in(4) {
        sandbox = limited(sandbox);
    }
    if is_root && random.one_in(8) {
        sandbox = sandbox.own_host_id();
    }
    Ok(sandbox.recycle_network(random.one_in(3)))
}

/// One sandbox, or one session or pool, from its making to its end.
fn once(random: &mut Random) -> Result<()> {
    let sandbox = sandbox(random)?;
    match random.below(6) {
        0 => {
            // An id of its own is held by init.
            let without = sandbox.clone().init(false);
            let sandbox =
                if without.plan().is_ok() && random.one_in(3) { without } else { sandbox };
            one(random, "own", sandbox.command("sh"))
        }
        1 => prepared(random, &sandbox.prepare()?),
        2 => session(random, &sandbox.prepare()?),
        3 => pool(random, &sandbox.prepare()?),
        4 => entered(random, sandbox),
        _ => {
            let sandbox = sandbox.keep_mounts();
            one(random, "own", sandbox.command("sh").stdout(Stdio::piped()))
        }
    }
}

/// Some of one template, with what a command adds.
fn prepared(random: &mut Random, prepared: &Prepared) -> Result<()> {
    let mut running = Vec::new();
    for _ in 0..=random.below(6) {
        let mut command = prepared.command("sh");
        if random.one_in(3) {
            command = command.tmpfs("/tmp/more").bind_ro("/usr/share", "/tmp/share");
        }
        if random.one_in(3) {
            running.extend(accepted(command.args(["-c", "sleep 1000"]).spawn())?);
        } else {
            one(random, "prepared", command)?;
        }
    }
    Ok(())
}

/// Other programs in the sandbox of one that rests.
fn entered(random: &mut Random, sandbox: Sandbox) -> Result<()> {
    // What is entered is not to end by itself.
    let sandbox = sandbox.wall_time(Duration::from_secs(3600));
    let (way, resting) = match random.one_in(2) {
        true => ("entered copy", sandbox.prepare()?.command("sleep")),
        false => ("entered", sandbox.command("sleep")),
    };
    let Some(mut resting) = accepted(resting.arg(LONG).spawn())? else { return Ok(()) };
    for _ in 0..random.below(4) {
        if random.one_in(8) {
            resting.pause()?;
            resting.resume()?;
        }
        let ran = resting.command("sh").map_err(Into::into);
        if let Err(error) = ran.and_then(|command| one(random, way, command)) {
            // One of them has killed all inside.
            if resting.wait_timeout(Duration::from_secs(5))?.is_none() {
                return Err(error);
            }
            return tell("entered itself", "killed from inside");
        }
    }
    drop(resting);
    tell("entered itself", "dropped")
}

fn session(random: &mut Random, prepared: &Prepared) -> Result<()> {
    let session = prepared.session()?;
    let mut running = Vec::new();
    for _ in 0..random.below(6) {
        if random.one_in(3) {
            let command = session.command("sleep").arg(LONG);
            running.extend(accepted(command.spawn())?);
        } else {
            one(random, "session", session.command("sh"))?;
        }
    }
    if random.one_in(3) {
        at_once(random, "session of threads", || session.command("sh"))?;
    }
    let how = match random.below(3) {
        0 => {
            session.end()?;
            "ended"
        }
        1 => {
            drop(session);
            "dropped"
        }
        _ => {
            let pid = i32::try_from(session.id())?;
            // It cannot have been reaped: the handle is here.
            kill(Pid::from_raw(pid), Signal::SIGKILL)?;
            drop(session);
            "init killed"
        }
    };
    for mut child in running {
        let outcome = child.wait()?.outcome;
        if outcome.is_success() {
            return Err(format!("a command of a session that was {how}: {outcome}").into());
        }
    }
    tell("session itself", how)
}

fn pool(random: &mut Random, prepared: &Prepared) -> Result<()> {
    let pool = prepared.pool(usize::try_from(random.below(3))?)?;
    for _ in 0..random.below(6) {
        one(random, "pooled", pool.command("sh"))?;
    }
    if random.one_in(3) {
        at_once(random, "pool of threads", || pool.command("sh"))?;
    }
    if random.one_in(3) {
        pool.resize(usize::try_from(random.below(3))?);
    }
    drop(pool);
    tell("pool itself", "dropped")
}

/// Several from threads that share one session or pool.
fn at_once(random: &mut Random, way: &str, command: impl Fn() -> Command + Sync) -> Result<()> {
    let seeds: Vec<_> = (0..3).map(|_| random.below(u64::MAX)).collect();
    std::thread::scope(|scope| {
        let some = |seed: u64| {
            let mut random = Random::new(Some(seed));
            for _ in 0..=random.below(3) {
                // Who kills all inside kills those of the others, too.
                let fate = random.below(FATES - 1);
                fated(&mut random, way, command(), fate).map_err(|error| error.to_string())?;
            }
            Ok::<(), String>(())
        };
        let threads: Vec<_> = seeds.iter().map(|seed| scope.spawn(move || some(*seed))).collect();
        for thread in threads {
            thread.join().map_err(|_| "a thread has panicked")??;
        }
        Ok(())
    })
}

/// Starts it with a random fate, and sees it to its end.
fn one(random: &mut Random, way: &str, command: Command) -> Result<()> {
    let fate = random.below(FATES);
    fated(random, way, command, fate)
}

/// The last of them is the end of others in the same sandbox.
const FATES: u64 = 8;

fn fated(random: &mut Random, way: &str, command: Command, fate: u64) -> Result<()> {
    let (how, script) = match fate {
        0 => ("succeeds", "exit 0"),
        1 => ("fails", "exit 7"),
        2 => ("leaves processes", "sleep 1000 & sleep 1000 & exit 0"),
        3 => ("killed", "sleep 1000"),
        4 => ("dropped", "sleep 1000 & sleep 1000"),
        5 => ("init killed", "setsid sleep 1000 & sleep 1000"),
        6 => ("signalled", "sleep 1000"),
        _ => ("kills all inside", "kill -9 -1; kill -9 $$; exit 1"),
    };
    let Some(mut child) = accepted(command.args(["-c", script]).spawn())? else {
        return tell(way, "ended before its exec");
    };
    if random.one_in(4) {
        std::thread::sleep(Duration::from_millis(random.below(20)));
    }
    match how {
        "dropped" => {
            drop(child);
            return tell(way, how);
        }
        "killed" => child.kill()?,
        "init killed" => kill_init(&child)?,
        "signalled" => drop(child.signal(libc::SIGTERM)),
        _ => {}
    }
    if matches!(how, "signalled") && child.wait_timeout(Duration::from_millis(200))?.is_none() {
        // Without init, the program is PID 1, and does nothing about it.
        child.kill()?;
    }
    let status = child.wait()?;
    let fits = match how {
        "succeeds" | "leaves processes" => status.outcome.is_success(),
        "fails" => status.outcome.code() == Some(7),
        _ => !status.outcome.is_success(),
    };
    let in_time = status.outcome == Outcome::TimedOut;
    if !fits && !in_time {
        return Err(format!("{way}, {how}: {}", status.outcome).into());
    }
    tell(way, how)
}

fn kill_init(child: &Child) -> Result<()> {
    match kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGKILL) {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// A start that fails because the sandbox has ended, or its time was up, is none of the library's errors.
fn accepted(started: stockade::Result<Child>) -> Result<Option<Child>> {
    match started {
        Ok(child) => Ok(Some(child)),
        Err(error) if [Some(libc::ESRCH), Some(libc::ETIME)].contains(&error.raw_os_error()) => {
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// One line to who counts.
fn tell(way: &str, how: &str) -> Result<()> {
    let line = format!("{way}: {how}\n");
    Ok(std::io::stdout().lock().write_all(line.as_bytes())?)
}
