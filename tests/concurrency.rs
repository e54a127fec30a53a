//! Many sandboxes at once, from many threads, and nothing left of them.
#![allow(
    clippy::exit,
    clippy::incompatible_msrv,
    clippy::cast_possible_truncation,
    reason = "a test process, built by a current toolchain"
)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails so")]

mod common;
#[path = "common/life.rs"]
mod life;

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::Needs;
use life::{await_released, is_held, my_role, pipe};
use stockade::{Data, Feature, IdMap, Outcome, Overlay, Sandbox, Stdio};

tests! {
    Needs::Nothing => [
        twenty_thousand_spawns,
        the_first_spawns_are_at_once,
        hundreds_live_at_once,
        kills_meet_ends,
        every_output_is_its_own,
        every_world_is_its_own,
    ];
    Needs::Landlock(6) => [without_namespaces];
    Needs::Groups => [groups_of_many_threads];
}

const THREADS: usize = 64;

/// What a process has that a spawn could leave behind.
#[derive(Debug, PartialEq, Eq)]
struct Possessions {
    descriptors: usize,
    mounts: String,
    children: Vec<(i32, String)>,
}

fn possessions() -> Possessions {
    Possessions {
        descriptors: life::descriptors(),
        mounts: life::mounts(),
        children: life::children(),
    }
}

/// Allocates and frees for half of the time until told to end, so that a spawn finds the allocator's locks taken.
fn churn(end: &AtomicBool) {
    let mut random = life::Random::new();
    let mut kept: Vec<Vec<u8>> = Vec::new();
    while !end.load(Ordering::Relaxed) {
        let began = Instant::now();
        for _ in 0..100 {
            let size = usize::try_from(random.below(60_000)).unwrap() + 1;
            kept.push(vec![1; size]);
            if kept.len() > 50 {
                kept.swap_remove(usize::try_from(random.below(50)).unwrap());
            }
        }
        std::thread::sleep(began.elapsed());
    }
}

/// Runs `work` in each of the threads while others allocate.
fn in_threads(work: impl Fn(usize) + Sync) {
    let (work, end) = (&work, &AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| churn(end));
        }
        let workers: Vec<_> = (0..THREADS).map(|index| scope.spawn(move || work(index))).collect();
        let results: Vec<_> = workers.into_iter().map(|worker| worker.join()).collect();
        end.store(true, Ordering::Relaxed);
        assert!(results.iter().all(Result::is_ok));
    });
}

/// They all look for the place of the groups at once, and it is kept once.
fn groups_of_many_threads() {
    let sandbox = Sandbox::new().pids_limit(50);
    let spawn = || {
        assert_eq!(sandbox.command("/bin/true").status().unwrap().outcome, Outcome::Exited(0));
    };
    spawn();
    let before = possessions();
    in_threads(|_| (0..8).for_each(|_| spawn()));
    // A group that the kernel was still busy with is removed with one of the next spawns.
    let until = std::time::Instant::now() + life::SAFETY;
    while possessions() != before && std::time::Instant::now() < until {
        std::thread::sleep(common::moment(50));
        spawn();
    }
    assert_eq!(possessions(), before);
}

fn twenty_thousand_spawns() {
    const EACH: usize = 313;
    const { assert!(THREADS * EACH >= 20_000) };
    // For another user less is different, so a fifth of it is enough.
    let each = if nix::unistd::geteuid().is_root() { EACH } else { EACH / 5 };
    assert_eq!(Sandbox::new().command("true").status().unwrap().outcome, Outcome::Exited(0));
    let before = possessions();
    assert_eq!(before.children, []);
    let sandboxes = [true, false].map(|init| Sandbox::new().init(init));
    in_threads(|index| {
        for count in 0..each {
            let sandbox = &sandboxes[(index + count) % 2];
            let status = sandbox.command("/bin/true").status().unwrap();
            assert_eq!((status.outcome, status.left_count), (Outcome::Exited(0), 0));
        }
    });
    assert_eq!(possessions(), before);
}

/// The first spawns of a process make what the later ones share.
fn the_first_spawns_are_at_once() {
    if my_role().is_none() {
        for _ in 0..20 {
            assert!(life::role("embedder").status().unwrap().success());
        }
        return;
    }
    life::adopt_orphans();
    let all = Barrier::new(THREADS);
    in_threads(|_| {
        all.wait();
        assert_eq!(Sandbox::new().command("true").status().unwrap().outcome, Outcome::Exited(0));
    });
    // Whoever was late has given up its own: one warden stays.
    while life::children().len() > 1 {
        life::reap_some();
    }
    let names: Vec<_> = life::children().into_iter().map(|(_, name)| name).collect();
    assert_eq!(names, ["stockade-warden"]);
}

fn hundreds_live_at_once() {
    const MANY: usize = 250;
    drop(Sandbox::new().command("true").status().unwrap());
    let before = possessions();
    let (reading, writing) = pipe();
    let mut children: Vec<_> = (0..MANY)
        .map(|index| {
            let end = writing.try_clone().unwrap();
            let sandbox = Sandbox::new().init(index % 2 == 0).wall_time(Duration::from_secs(600));
            sandbox.command("sleep").arg("1000").fd(5, end).spawn().unwrap()
        })
        .collect();
    drop(writing);
    assert!(children.iter_mut().all(|child| child.try_wait().unwrap().is_none()));
    assert!(is_held(&reading));
    drop(children);
    await_released(&reading, "one of many");
    drop(reading);
    assert_eq!(possessions(), before);
}

/// A kill that comes when the program ends by itself gives one of the two outcomes.
fn kills_meet_ends() {
    let (sandbox, seen) = (Sandbox::new(), [AtomicBool::new(false), AtomicBool::new(false)]);
    in_threads(|index| {
        let mut random = life::Random::new();
        for _ in 0..20 {
            let mut child = sandbox.clone().init(index % 2 == 0).command("true").spawn().unwrap();
            std::thread::sleep(Duration::from_micros(random.below(20_000)));
            child.kill().unwrap();
            let outcome = child.wait().unwrap().outcome;
            assert!([Outcome::Exited(0), Outcome::Killed].contains(&outcome), "{outcome:?}");
            seen[usize::from(outcome == Outcome::Killed)].store(true, Ordering::Relaxed);
        }
    });
    assert!(seen[0].load(Ordering::Relaxed), "no program was fast enough");
}

fn every_output_is_its_own() {
    let sandbox = Sandbox::new();
    in_threads(|index| {
        for count in 0..5 {
            let text = format!("{index} {count}\n").repeat(20_000);
            let mut child = sandbox
                .command("cat")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            let mut input = child.stdin.take().unwrap();
            let output = std::thread::scope(|scope| {
                let written = text.as_bytes();
                scope.spawn(move || std::io::Write::write_all(&mut input, written).unwrap());
                child.wait_with_output().unwrap()
            });
            assert_eq!(output.outcome, Outcome::Exited(0));
            assert!(output.stdout == text.as_bytes());
        }
    });
}

/// What a tree is made of, terminals, ids and what comes out, from one shared directory.
fn every_world_is_its_own() {
    let shared = std::env::temp_dir().join("base");
    std::fs::create_dir(&shared).unwrap();
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let pipe = |text: &str| {
        let (reading, mut writing) = std::io::pipe().unwrap();
        std::io::Write::write_all(&mut writing, text.as_bytes()).unwrap();
        std::os::fd::OwnedFd::from(reading)
    };
    let ids = |sandbox: Sandbox, index: u32| match uid.is_root() {
        true if index % 2 == 0 => sandbox.own_host_id().uid(7).gid(8),
        true => sandbox.id_map(IdMap::new().ids(0, 100_000 * (index + 1), 1000)).uid(7).gid(8),
        false => {
            let map = IdMap::new().uids(7, uid.as_raw(), 1).gids(8, gid.as_raw(), 1);
            sandbox.id_map(map)
        }
    };
    let before = possessions().mounts;
    in_threads(|index| {
        let number = u32::try_from(index).unwrap();
        let kept = tempfile::tempdir().unwrap();
        let sandbox = ids(Sandbox::new(), number)
            .timezone("UTC")
            .data(Data::directory("/srv").mode(0o2750))
            .data(
                Data::file("/srv/file", pipe(&format!("given to {index}\n")))
                    .owner(7, 8)
                    .max_size(100),
            )
            .program("/usr/bin/env")
            .overlay("/thrown", Overlay::new([&shared]).size(1 << 20))
            .overlay("/kept", Overlay::new([&shared]).upper(kept.path()));
        for count in 0..2 {
            let script = format!(
                "tty; stty size; stat -c %u:%g /srv/file; cat /srv/file; date +%Z
                echo {index} {count} | tee /tmp/out /kept/new >/thrown/new"
            );
            let rows = u16::try_from(index + 1).unwrap();
            let command = sandbox.command("sh").args(["-ec", &script]).pty(rows, 80);
            let mut child = command.spawn().unwrap();
            let seen = std::io::read_to_string(child.take_pty().unwrap()).unwrap();
            assert_eq!(child.wait().unwrap().outcome, Outcome::Exited(0), "{seen}");
            let shown = format!("/dev/pts/0\n{rows} 80\n7:8\ngiven to {index}\nUTC\n");
            assert_eq!(seen.replace('\r', ""), shown);
            let text = std::io::read_to_string(child.open_output("/tmp/out").unwrap()).unwrap();
            assert_eq!(text, format!("{index} {count}\n"));
            let listed = child.changes("/thrown").unwrap().to_string();
            assert_eq!(listed, "added \"new\"\n");
            let out = kept.path().join(format!("out{count}"));
            child.changes("/kept").unwrap().export(&out, |_| true).unwrap();
            assert_eq!(std::fs::read_to_string(out.join("new")).unwrap(), text);
        }
    });
    assert_eq!(possessions().mounts, before);
    assert!(std::fs::read_dir(&shared).unwrap().next().is_none());
}

/// No program reaches what is another's, and none of what they leave stays.
fn without_namespaces() {
    let walls = [Feature::Landlock, Feature::LandlockScopes, Feature::FileAttributes];
    let lost = Feature::ALL.into_iter().filter(|feature| !walls.contains(feature));
    let sandbox = lost.fold(Sandbox::new().without_namespaces(), Sandbox::best_effort);
    let all = tempfile::tempdir().unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(all.path(), open).unwrap();
    let places = [(); THREADS].map(|()| sandbox.private_tmp(all.path()).unwrap());
    let place = |index: usize| places[index].path();
    let mark = 5_000_000 + std::process::id();
    drop(sandbox.command("true").status().unwrap());
    let before = possessions();
    in_threads(|index| {
        let (own, other) = (place(index), place((index + 1) % THREADS));
        let sandbox = sandbox.clone().bind_rw(own, own);
        for count in 0..4 {
            let script = format!(
                "echo {index} >own && ! echo {index} >{other}/own; kill -9 -1
                 setsid sleep {mark} & cat own; sleep 0.1",
                other = other.display()
            );
            let sandbox = if count == 0 { sandbox.clone() } else { sandbox.clone().nice(count) };
            let command = sandbox.command("sh").args(["-c", &script]).current_dir(own);
            let output = command.output().unwrap();
            let outcome = output.outcome;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert_eq!((outcome, text), (Outcome::Exited(0), format!("{index}\n")), "{output:?}");
        }
    });
    for index in 0..THREADS {
        let text = std::fs::read_to_string(place(index).join("own")).unwrap();
        assert_eq!(text, format!("{index}\n"));
    }
    assert_eq!(possessions(), before);
    drop(places);
    assert!(std::fs::read_dir(all.path()).unwrap().next().is_none());
    // While others are made and removed, too.
    in_threads(|_| sandbox.private_tmp(all.path()).unwrap().close().unwrap());
    assert!(std::fs::read_dir(all.path()).unwrap().next().is_none());
    let left = std::fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
        let line = std::fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        line.split('\0').any(|word| word == mark.to_string())
    });
    assert_eq!(left.count(), 0);
}
